"""Operations become states of the network: by hand on a small town, then on real networks."""

from __future__ import annotations

import time as clock
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_town import EAST, LAT, LON, STEP, make_time, make_town, place

from stgraph import registry
from stgraph.errors import ConfigError
from stgraph.graph import STGraph
from stgraph.scenario.editing import edit
from stgraph.scenario.script import Scenario
from stgraph.scenario.states import Edited, RoadState

TIME = make_time()


def rows(edited: Edited, *ids: int) -> list[int]:
    assert edited.roads.edges is not None
    return list(pd.Index(edited.roads.edges["segment_id"]).get_indexer(pd.Index(ids)))


def town(name: str = "test") -> Scenario:
    return Scenario(name, timezone="UTC")


def at(edited: Edited, hour: int) -> RoadState:
    return edited.state(hour)


# ---------------------------------------------------------------- by hand


def test_no_operation_changes_nothing() -> None:
    """Protects the promise that no edit is no difference, exactly."""
    roads = make_town()
    edited = edit(town(), roads, TIME)
    assert len(edited.periods) == 1
    assert edited.periods[0].equals(edited.baseline)
    assert edited.roads.equals(roads)
    assert edited.parent.tolist() == list(range(13))
    assert edited.changes.empty
    assert edited.edits.empty


def test_close_holds_for_its_window_and_both_ways() -> None:
    """Protects half-open windows, the other direction, and what is around it."""
    edited = edit(town().close(edges=[10], daily="07:00-09:00"), make_town(), TIME)
    open_at = {hour: at(edited, hour).is_open[rows(edited, 10, 11, 12)] for hour in (6, 7, 8, 9)}
    assert open_at[6].tolist() == open_at[9].tolist() == [True, True, True]
    assert open_at[7].tolist() == open_at[8].tolist() == [False, False, True]
    assert len(edited.periods) == 2
    assert at(edited, 9).equals(edited.baseline)
    changes = edited.changes
    assert changes["segment_id"].tolist() == [10, 11]
    assert changes[["attribute", "before", "after", "n_steps"]].iloc[0].tolist() == [
        "is_open", 1.0, 0.0, 2,
    ]  # fmt: skip
    assert changes["from"].iloc[0] == pd.Timestamp("2026-11-23 07:00", tz="UTC")
    assert changes["to"].iloc[0] == pd.Timestamp("2026-11-23 09:00", tz="UTC")
    assert edited.edits["status"].tolist() == ["closed", "closed"]
    assert edited.edits.crs == 4326


def test_close_of_one_direction() -> None:
    edited = edit(town().close(edges=[10], direction="forward"), make_town(), TIME)
    assert edited.periods[0].is_open[rows(edited, 10, 11)].tolist() == [False, True]
    edited = edit(town().close(edges=[10], direction="back"), make_town(), TIME)
    assert edited.periods[0].is_open[rows(edited, 10, 11)].tolist() == [True, False]


def test_attributes_get_their_values() -> None:
    """Protects units: lanes carry the capacity with them, factors multiply."""
    scenario = (
        town()
        .set_speed(edges=[10], kmh=30)
        .set_speed(edges=[12], factor=0.5)
        .set_lanes(edges=[10], lanes=1)
        .set_capacity(edges=[14], vph=200)
        .set_capacity(edges=[16], factor=0.5)
        .roadworks(edges=[13], lanes_lost=1, kmh=30)
        .roadworks(edges=[20], factor=0.25)
    )
    edited = edit(scenario, make_town(), TIME)
    state = edited.periods[0]
    assert state.speed_kmh[rows(edited, 10, 11, 12, 13)].tolist() == [30, 50, 25, 30]
    assert state.lanes[rows(edited, 10, 11, 13)].tolist() == [1, 2, 1]
    wanted = [1000, 2000, 1000, 200, 200, 200]
    assert state.capacity_vph[rows(edited, 10, 11, 13, 14, 16, 20)].tolist() == wanted
    assert edited.baseline.capacity_vph[rows(edited, 10)].tolist() == [2000]


def test_override_lets_the_later_one_win() -> None:
    scenario = town().set_speed(edges=[10], kmh=40).set_speed(
        edges=[10], kmh=20, daily="07:00-09:00", override=True
    )  # fmt: skip
    edited = edit(scenario, make_town(), TIME)
    speeds = [float(at(edited, hour).speed_kmh[rows(edited, 10)][0]) for hour in (6, 7, 9)]
    assert speeds == [40, 20, 40]


def test_new_road_joins_junctions() -> None:
    """Protects ends, both directions, values, and that it is closed in the baseline."""
    line = f"LINESTRING ({LON} {LAT + 0.00001}, {LON + STEP} {LAT + STEP})"
    scenario = town().add_road(
        id="Diagonal", geometry=line, kmh=50, lanes=2, road_class="secondary"
    )
    edited = edit(scenario, make_town(), TIME)
    edges = edited.roads.edges
    assert isinstance(edges, gpd.GeoDataFrame)
    assert edited.roads.edge_index[:, 13:].tolist() == [[0, 4], [4, 0]]
    assert edited.parent[13:].tolist() == [-1, -1]
    assert (edges["segment_id"][13:] < 0).all()
    assert edges["name"].tolist()[13:] == ["Diagonal", "Diagonal"]
    assert edges.geometry.iloc[13].coords[0] == place(1)
    assert edges["length_m"].iloc[13] == pytest.approx(397, abs=2)
    state = edited.periods[0]
    assert state.capacity_vph[13:].tolist() == [1600, 1600]  # 800 a lane, as of its class here
    assert state.is_open.all()
    assert not edited.baseline.is_open[13:].any()
    assert edited.edits["status"].tolist() == ["new", "new"]


def test_new_road_splits_a_street_both_ways() -> None:
    """Protects the parts: lengths, forecast, turns, and the whole in the baseline."""
    roads = make_town()
    # not from South Street (10) into Mid Road (20), nor from Mid Road back (21) into 11
    roads = roads.replace(provenance={"restrictions": [[10, 20], [21, 11]]})
    line = f"LINESTRING ({LON + STEP / 4} {LAT}, {LON + STEP / 4} {LAT - 0.001}, {LON} {LAT})"
    scenario = town().add_road(id="Loop", geometry=line, kmh=30, oneway=True).close(name="loop")
    edited = edit(scenario, roads, TIME)
    edges = edited.roads.edges
    assert edges is not None
    assert edited.roads.n_nodes == 7
    assert edited.roads.nodes["kind"].tolist() == ["junction"] * 7
    assert edited.parent[13:].tolist() == [0, 0, 1, 1, -1]
    parts = edges["length_m"].tolist()[13:17]
    assert parts == pytest.approx([215 / 4, 215 * 3 / 4, 215 * 3 / 4, 215 / 4], abs=0.5)
    assert edited.roads.edge_index[:, 13:17].tolist() == [[0, 6, 1, 6], [6, 1, 6, 0]]
    assert edited.baseline.is_open.tolist() == [True] * 13 + [False] * 5
    state = edited.periods[0]
    assert state.is_open[[0, 1, 13, 14, 15, 16, 17]].tolist() == [False] * 2 + [True] * 4 + [False]
    assert edges["name"].tolist()[13:17] == ["South Street"] * 4
    turns = set(map(tuple, state.banned_turns.T.tolist()))
    mid, mid_back = rows(edited, 20, 21)
    assert {(0, mid), (mid_back, 1), (14, mid), (mid_back, 15)} == turns


def test_targets_find_the_parts_of_a_street() -> None:
    """Protects later and earlier operations on a street that a new road splits."""
    line = f"LINESTRING ({LON + STEP / 2} {LAT}, {LON + STEP / 2} {LAT + STEP})"
    scenario = (
        town()
        .set_speed(edges=[10], kmh=20)
        .add_road(id="Lane", geometry=line, kmh=30)
        .close(name="north street", daily="01:00-02:00")
    )
    edited = edit(scenario, make_town(), TIME)
    slow = np.flatnonzero(edited.periods[0].speed_kmh == 20)
    assert edited.parent[slow].tolist() == [0, 0]
    assert (slow >= 13).all()
    closed = np.flatnonzero(~at(edited, 1).is_open & at(edited, 0).is_open)
    assert sorted(edited.parent[closed].tolist()) == [4, 4, 5, 5, 6, 7]


def test_ids_of_new_segments_depend_on_the_road_alone() -> None:
    """Protects comparisons: the same bridge has the same id in every scenario."""
    line = f"LINESTRING ({LON} {LAT}, {LON + STEP} {LAT + STEP})"
    other = f"LINESTRING ({LON + STEP} {LAT}, {LON} {LAT + STEP})"
    alone = edit(town().add_road(id="X", geometry=line, kmh=50), make_town(), TIME)
    second = town().add_road(id="Y", geometry=other, kmh=50).add_road(
        id="X", geometry=line, kmh=30
    )  # fmt: skip
    both = edit(second, make_town(), TIME)
    assert alone.roads.edges is not None
    assert both.roads.edges is not None
    assert set(alone.roads.edges["segment_id"]) < set(both.roads.edges["segment_id"])


def test_two_new_roads_may_split_the_same_street() -> None:
    lines = [
        f"LINESTRING ({LON + STEP * x} {LAT}, {LON + STEP * x} {LAT + STEP})" for x in (0.3, 0.6)
    ]
    scenario = town()
    for number, line in enumerate(lines):
        scenario = scenario.add_road(id=f"Lane {number}", geometry=line, kmh=30)
    edited = edit(scenario, make_town(), TIME)
    new = edited.periods[0].is_open.copy()
    new[:13] = False
    pieces = edited.roads.edge_weight[new & (edited.parent == 0)]
    assert pieces.tolist() == pytest.approx([215 * 0.3, 215 * 0.3, 215 * 0.4], abs=0.5)
    assert edited.roads.n_nodes == 10


def test_new_road_opens_in_its_window() -> None:
    line = f"LINESTRING ({LON} {LAT}, {LON + STEP} {LAT + STEP})"
    scenario = town().add_road(id="X", geometry=line, kmh=50, from_="2026-11-23 12:00")
    edited = edit(scenario, make_town(), TIME)
    assert [at(edited, hour).is_open[13] for hour in (11, 12, 23)] == [False, True, True]


def test_remove_reverse_and_ban() -> None:
    """Protects what replaces a street that is turned round, and turns in a window."""
    scenario = (
        town()
        .remove_road(name="West Road")
        .reverse(name="East Road")
        .ban_turn(from_={"edges": [10]}, to={"edges": [12]}, daily="07:00-09:00")
    )
    edited = edit(scenario, make_town(), TIME)
    state = at(edited, 0)
    assert not state.is_open[rows(edited, 18, 19, EAST)].any()
    assert edited.roads.edge_index[:, 13].tolist() == [5, 2]
    assert state.is_open[13]
    assert edited.parent[13] == -1
    assert at(edited, 6).banned_turns.shape == (2, 0)
    assert at(edited, 7).banned_turns.T.tolist() == [rows(edited, 10, 12)]
    statuses = edited.edits[["op", "status"]].drop_duplicates().to_numpy().tolist()
    assert statuses == [
        ["remove_road", "removed"], ["reverse", "closed"], ["reverse", "new"],
        ["ban_turn", "changed"],
    ]  # fmt: skip


def test_windows_make_as_few_states_as_there_are() -> None:
    """Protects the cost: distinct states, in the order of time."""
    scenario = town().close(edges=[10], daily="07:00-09:00").set_speed(
        edges=[14], kmh=20, daily="08:00-10:00"
    )  # fmt: skip
    edited = edit(scenario, make_town(), TIME)
    assert edited.period_of[6:11].tolist() == [0, 1, 2, 3, 0]
    assert len(edited.periods) == 4


def test_errors_are_raised_together() -> None:
    """Protects people with many mistakes: all of them at once."""
    scenario = town("wrong").close(edges=[99]).set_speed(name="South Stret", kmh=30)
    with pytest.raises(ConfigError, match=r"'wrong'.*2 problem(.|\n)*99(.|\n)*'South Street'"):
        edit(scenario, make_town(), TIME)


def test_straight_lines_where_edges_have_none() -> None:
    """Protects networks of tables, such as Braess's."""
    roads = make_town()
    plain = roads.replace(edges=pd.DataFrame({"lanes": np.ones(13)}))
    edited = edit(town().close(edges=[0]), plain, TIME)
    assert edited.periods[0].is_open.sum() == 11
    edited = edit(town().close(edges=[0]), roads.replace(edges=None), TIME)
    assert edited.roads.edges is not None
    assert edited.roads.edges["length_m"].iloc[:2].tolist() == [215, 215]


# ---------------------------------------------------------------- properties


@settings(max_examples=10, deadline=None)
@given(
    order=st.permutations(range(13)),
    closed=st.lists(st.sampled_from([10, 12, 14, 16, 18, 20, EAST]), max_size=3, unique=True),
    hours=st.tuples(st.integers(0, 22), st.integers(1, 24)).filter(lambda h: h[0] < h[1]),
)
def test_order_of_segments_does_not_matter(
    order: list[int], closed: list[int], hours: tuple[int, int]
) -> None:
    """Protects positions: a network with its segments in another order is edited alike."""
    roads = make_town()
    assert isinstance(roads.edges, gpd.GeoDataFrame)
    mixed = roads.replace(
        edges=roads.edges.iloc[order].reset_index(drop=True),
        edge_index=roads.edge_index[:, order],
        edge_weight=roads.edge_weight[order],
    )
    scenario = town()
    for number in closed:
        scenario = scenario.close(edges=[number], daily=f"{hours[0]:02}:00-{hours[1]:02}:00")
    line = f"LINESTRING ({LON + STEP / 2} {LAT}, {LON + STEP / 2} {LAT + STEP})"
    scenario = scenario.add_road(id="Lane", geometry=line, kmh=30)
    one, other = edit(scenario, roads, TIME), edit(scenario, mixed, TIME)
    assert one.period_of.tolist() == other.period_of.tolist()
    for state, twin in zip(one.periods, other.periods, strict=True):
        for name in ("is_open", "capacity_vph", "speed_kmh"):
            assert by_id(one, getattr(state, name)) == by_id(other, getattr(twin, name))


def by_id(edited: Edited, values: np.ndarray) -> dict[int, float]:
    assert edited.roads.edges is not None
    return dict(zip(edited.roads.edges["segment_id"], values.tolist(), strict=True))


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 22), length=st.integers(1, 23))
def test_reopened_is_baseline(start: int, length: int) -> None:
    """Protects the time after a closure, and its length."""
    stop = min(start + length, 24)
    scenario = town().close(edges=[10, 12], daily=f"{start:02}:00-{stop:02}:00")
    edited = edit(scenario, make_town(), TIME)
    same = [edited.state(step).equals(edited.baseline) for step in range(24)]
    assert same == [not start <= step < stop for step in range(24)]


# ---------------------------------------------------------------- real networks


@pytest.fixture(scope="module")
def city(data_dir: Path) -> STGraph:
    read = registry.load("connectors", "road_lines")
    return read(
        str(data_dir / "simcity" / "city.gpkg"), layer="links", id_column="link_id",
        nodes="junctions",
    )  # fmt: skip


@pytest.mark.data
def test_the_closures_of_simcity(city: STGraph) -> None:
    """Protects the link numbers that the truth is about."""
    scenario = Scenario("close0", timezone="UTC").close(edges=[377], daily="07:00-19:00")
    edited = edit(scenario, city, make_time(minutes=5))
    assert edited.changes["segment_id"].tolist() == [377, 380]
    assert np.bincount(edited.period_of).tolist() == [144, 144]
    assert edited.baseline.capacity_vph.sum() == city.edges["capacity_vph"].sum()  # type: ignore[index]


@pytest.mark.data
def test_heidelberg_is_edited_in_well_under_a_second(data_dir: Path) -> None:
    """Protects the wait: 13,000 segments, 288 steps, many operations."""
    read = registry.load("connectors", "osm")
    roads = read(str(data_dir / "osm-heidelberg" / "heidelberg.osm.pbf"), nodes="junctions")
    scenario = Scenario("Heidelberg", timezone="Europe/Berlin")
    scenario = scenario.close(name="theodor-heuss-brücke", daily="07:00-19:00")
    scenario = scenario.set_speed(near={"lon": 8.6905, "lat": 49.4105, "max_m": 100}, kmh=20)
    scenario = scenario.set_speed(where="highway == 'primary' and lanes >= 2", kmh=40)
    bridge = "LINESTRING (8.6738 49.4177, 8.6734 49.4136)"
    scenario = scenario.add_road(id="New Bridge", geometry=bridge, kmh=50, snap_m=100)
    began = clock.perf_counter()
    edited = edit(scenario, roads, make_time(minutes=5))
    assert clock.perf_counter() - began < 3.0  # half a second on a free core
    assert edited.roads.n_edges > roads.n_edges
    assert len(edited.periods) == 2
