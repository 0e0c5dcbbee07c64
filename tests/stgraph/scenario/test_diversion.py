"""Traffic of closed streets, sent round without knowing any trips."""

from __future__ import annotations

import dataclasses

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from scenario_towns import NO_TURNS, diamond, grid, make_edited, make_roads
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from stgraph.errors import InputError
from stgraph.graph import STGraph
from stgraph.scenario.diversion import bpr, divert
from stgraph.scenario.editing import edit
from stgraph.scenario.script import Scenario

FLOW = np.array([300.0, 200, 300, 100, 100, 300])


def signal(edited, values):
    return np.broadcast_to(
        np.asarray(values, dtype=np.float64), (len(edited.time), edited.roads.n_edges)
    )


def traffic(roads, *, seed=0, n_trips=60, vph=20.0):
    """Return flows of trips between random junctions on their shortest ways, (E,)."""
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0.9, 1.1, roads.n_edges)
    source, target = roads.edge_index
    matrix = csr_array((cost, (source, target)), shape=(roads.n_nodes, roads.n_nodes))
    _, before = dijkstra(matrix, return_predecessors=True)
    link = {(int(a), int(b)): i for i, (a, b) in enumerate(zip(source, target, strict=True))}
    flow = np.zeros(roads.n_edges)
    for _ in range(n_trips):
        start, at = rng.choice(roads.n_nodes, 2, replace=False)
        while at != start:
            flow[link[int(before[start, at]), int(at)]] += vph
            at = before[start, at]
    return flow


def leftover(roads, change):
    """Return what every junction lets out more than in, (n_nodes,)."""
    out = np.bincount(roads.edge_index[0], change, roads.n_nodes)
    return out - np.bincount(roads.edge_index[1], change, roads.n_nodes)


def test_traffic_goes_round_a_closed_street() -> None:
    """All 200 cars of 1-2 go by 3; the streets before and behind keep theirs."""
    edited = make_edited(diamond(), closed=(1,), hours=2, window=(1, 2))
    found = divert(edited, signal(edited, 60.0), signal(edited, FLOW))
    np.testing.assert_array_equal(found.flow_vph[0], FLOW)
    np.testing.assert_allclose(found.flow_vph[1], [300, np.nan, 300, 300, 300, 300])
    np.testing.assert_array_equal(found.speed_kmh[0], 60.0)
    expected = 60 * (1 + 0.15 * 0.1**4) / (1 + 0.15 * 0.3**4)
    np.testing.assert_allclose(found.speed_kmh[1, 3:5], expected)
    np.testing.assert_array_equal(found.speed_kmh[1, [0, 2, 5]], 60.0)
    assert np.isnan(found.speed_kmh[1, 1])
    assert not found.unserved_vph.any()
    assert "as how much" in str(found.report)


def test_no_edit_is_no_difference_exactly() -> None:
    """What was given comes back to the last bit, gaps included."""
    rng = np.random.default_rng(0)
    edited = make_edited(grid())
    shape = (24, edited.roads.n_edges)
    speed = rng.uniform(10, 60, shape).astype(np.float32)
    flow = rng.uniform(0, 2000, shape).astype(np.float32)
    flow[rng.random(shape) < 0.1] = np.nan
    found = divert(edited, speed, flow)
    np.testing.assert_array_equal(found.speed_kmh, speed)
    np.testing.assert_array_equal(found.flow_vph, flow)
    assert found.flow_vph.dtype == np.float32


def test_a_reopened_street_is_the_baseline() -> None:
    """Outside of the window nothing differs."""
    edited = make_edited(grid(), closed=(4, 5), window=(7, 9))
    speed, flow = signal(edited, 50.0), signal(edited, traffic(edited.roads))
    found = divert(edited, speed, flow)
    outside = np.delete(np.arange(24), [7, 8])
    np.testing.assert_array_equal(found.speed_kmh[outside], speed[outside])
    np.testing.assert_array_equal(found.flow_vph[outside], flow[outside])
    assert not np.array_equal(found.flow_vph[7], flow[7])


@pytest.mark.parametrize("seed", range(6))
def test_flow_is_conserved_at_every_junction(seed: int) -> None:
    """Property: whatever is closed or narrowed, what goes in comes out, and none is negative."""
    rng = np.random.default_rng(seed)
    roads = grid(6, 5)
    touched = rng.choice(roads.n_edges, 5, replace=False).tolist()
    edited = make_edited(roads, closed=(*touched[:3],), capacity=dict.fromkeys(touched[3:], 10.0))
    edited = dataclasses.replace(edited, time=edited.time[:2], period_of=edited.period_of[:2])
    flow = traffic(roads, seed=seed)
    found = divert(edited, signal(edited, 40.0), signal(edited, flow))
    change = np.nan_to_num(found.flow_vph) - flow
    assert np.abs(change).sum() > 1
    assert not found.unserved_vph.any()
    np.testing.assert_allclose(leftover(roads, change[0]), 0, atol=1e-6)
    assert (np.nan_to_num(found.flow_vph) >= -1e-9).all()
    too_much = [position for position in touched[3:] if flow[position] > 10]
    assert (found.flow_vph[0, too_much] <= 10 + 1e-6).all()


def test_narrowing_sends_the_surplus_only() -> None:
    """Room for 150 of 200 cars: 50 go round; room for 250: nobody does."""
    edited = make_edited(diamond(), capacity={1: 150.0}, hours=1)
    found = divert(edited, signal(edited, 60.0), signal(edited, FLOW))
    np.testing.assert_allclose(found.flow_vph[0], [300, 150, 300, 150, 150, 300])
    assert found.speed_kmh[0, 1] < 60
    enough = make_edited(diamond(), capacity={1: 250.0}, hours=1)
    found = divert(enough, signal(enough, 60.0), signal(enough, FLOW))
    np.testing.assert_array_equal(found.flow_vph[0], FLOW)
    assert found.speed_kmh[0, 1] < 60  # fuller than before, though


def test_a_lower_limit_slows_only_those_who_are_faster() -> None:
    """30 km/h where one drives 50 and where one crawls at 20; 90 km/h speeds up in proportion."""
    edited = make_edited(diamond(), speed_kmh={0: 30.0, 1: 30.0, 2: 90.0}, hours=1)
    speed = signal(edited, [50.0, 20, 40, 50, 50, 50])
    found = divert(edited, speed, signal(edited, FLOW))
    np.testing.assert_allclose(found.speed_kmh[0], [30, 20, 60, 50, 50, 50])
    np.testing.assert_array_equal(found.flow_vph[0], FLOW)


def test_streets_in_a_row_and_both_directions_count_once() -> None:
    """A street of three pieces, closed both ways: 90 cars go round, not 3 x 2 x 90."""
    row = [(0, 1), (1, 2), (2, 3), (1, 0), (2, 1), (3, 2)]
    round_it = [(0, 4), (4, 3), (4, 0), (3, 4)]
    roads = make_roads(row + round_it, [(0, 0), (1, 0), (2, 0), (3, 0), (1.5, 2)])
    edited = make_edited(roads, closed=tuple(range(6)), hours=1)
    flow = np.array([90.0] * 3 + [60.0] * 3 + [5, 5, 5, 5])
    found = divert(edited, signal(edited, 50.0), signal(edited, flow))
    # who begins or ends in the middle of the row is not known; those from end to end go round
    assert (found.flow_vph[0, 6:] <= [95 + 1e-6, 95 + 1e-6, 65 + 1e-6, 65 + 1e-6]).all()
    total = found.flow_vph[0, 6] - 5 + found.unserved_vph[0]
    assert total > 60


def test_who_finds_no_way_is_taken_out_and_counted() -> None:
    """Without 2-4 nobody gets to 4."""
    edited = make_edited(diamond(), closed=(2,), hours=1)
    found = divert(edited, signal(edited, 60.0), signal(edited, FLOW))
    assert found.unserved_vph[0] == pytest.approx(300)
    assert (found.flow_vph[0, [0, 1, 3, 4, 5]] <= FLOW[[0, 1, 3, 4, 5]] + 1e-9).all()
    assert "find no way" in str(found.report)


def test_networks_may_have_ends() -> None:
    """One-way streets out of town, from where no way leads back."""
    pairs = [(0, 1), (1, 2), (2, 4), (1, 3), (3, 2)]
    roads = make_roads(pairs, [(0, 0), (1, 0), (2, 0), (1.5, 1), (3, 0)])
    edited = make_edited(roads, closed=(1,), hours=1)
    found = divert(edited, signal(edited, 60.0), signal(edited, FLOW[:5]))
    np.testing.assert_allclose(found.flow_vph[0], [300, np.nan, 300, 300, 300])
    assert not found.unserved_vph.any()


def test_trips_leave_the_streets_that_lead_there() -> None:
    """Who has to cross a river elsewhere does not drive up to the closed bridge first."""
    roads = grid(7, 5)
    flow = traffic(roads, n_trips=300)
    source, target = roads.edge_index
    bridge = int(np.flatnonzero((source == 16) & (target == 17))[0])
    before = int(np.flatnonzero((source == 15) & (target == 16))[0])
    edited = make_edited(roads, closed=(bridge,), hours=1)
    found = divert(edited, signal(edited, 50.0), signal(edited, flow))
    assert found.flow_vph[0, before] < flow[before]


def test_forbidden_turns_are_respected() -> None:
    """If 0-1 must not go into 1-3, a closed 1-2 cuts it off."""
    edited = make_edited(diamond(), closed=(1,), hours=1, banned=np.array([[0], [3]]))
    flow = np.array([200.0, 200, 200, 0, 0, 200])
    found = divert(edited, signal(edited, 60.0), signal(edited, flow))
    free = make_edited(diamond(), closed=(1,), hours=1, banned=NO_TURNS)
    assert not divert(free, signal(free, 60.0), signal(free, flow)).unserved_vph.any()
    assert found.unserved_vph[0] > 0


def test_a_split_street_is_not_a_closed_one() -> None:
    """Its parts carry its flow; a new road from the split takes who is sent round."""
    pairs = [(0, 1), (0, 2), (2, 1), (1, 0), (0, 3), (3, 1)]
    roads = make_roads(pairs, [(0, 0), (2, 0), (1, 0), (1, 1)])
    edited = make_edited(roads, closed=(0,), new=(1, 2), hours=1)
    edited = dataclasses.replace(edited, parent=np.array([0, 0, 0, 3, 4, 5]))
    flow, speed = signal(edited, [80.0, np.nan, np.nan, 20, 0, 0]), signal(edited, 50.0)
    found = divert(edited, speed, flow)
    np.testing.assert_allclose(found.flow_vph[0], [np.nan, 80, 80, 20, 0, 0])
    np.testing.assert_allclose(found.speed_kmh[0, 1:], 50)


def test_new_roads_carry_those_who_are_sent_round() -> None:
    edited = make_edited(diamond(), closed=(1,), new=(3, 4), hours=1)
    found = divert(edited, signal(edited, 60.0), signal(edited, FLOW))
    np.testing.assert_allclose(found.flow_vph[0], [300, np.nan, 300, 200, 200, 300])
    np.testing.assert_allclose(found.speed_kmh[0, 3:5], 60)
    assert "2 new segments" in str(found.report)


def test_a_scenario_as_it_is_edited_conserves_flow() -> None:
    """Closed, narrowed and split by a new road: no junction loses or makes cars."""
    roads = grid(6, 5)
    time = pd.date_range("2026-11-23", periods=3, freq="h", tz="UTC")
    middle = [shapely.get_coordinates(line).mean(axis=0) for line in roads.edges.geometry]
    scenario = (
        Scenario("bridge works", timezone="UTC")
        .close(edges=[110], window={"from": "2026-11-23 01:00", "to": "2026-11-23 02:00"})
        .set_capacity(edges=[120], factor=0.01)
        .add_road(id="new", geometry=[tuple(middle[20]), tuple(middle[30])], kmh=50)
    )
    edited = edit(scenario, roads, time)
    n_new = edited.roads.n_edges - roads.n_edges
    assert n_new > 2
    flow = traffic(roads)
    padded = signal(edited, np.append(flow, np.full(n_new, np.nan)))
    found = divert(edited, signal(edited, 40.0), padded)
    for step in range(3):
        # in the baseline, streets that are split are those of before
        after = leftover(edited.roads, np.nan_to_num(found.flow_vph[step]))
        before = leftover(edited.roads, np.nan_to_num(padded[step]))
        np.testing.assert_allclose(after, before, atol=1e-6)
    assert not np.array_equal(found.flow_vph[0], found.flow_vph[1], equal_nan=True)


def test_closed_streets_without_flow_are_named() -> None:
    edited = make_edited(diamond(), closed=(1,), hours=1)
    flow = signal(edited, np.where(np.arange(6) == 1, np.nan, FLOW))
    found = divert(edited, signal(edited, 60.0), flow)
    assert "1 closed segments have no flow in the baseline (101" in str(found.report)
    np.testing.assert_array_equal(found.flow_vph[0, [0, 2, 3, 4, 5]], FLOW[[0, 2, 3, 4, 5]])


def test_steps_of_an_hour_share_its_change() -> None:
    """Half-hour steps: each gets what the hour's mean changes by; speeds by the same factor."""
    edited = make_edited(diamond(), closed=(1,), hours=1, minutes=30)
    flow = np.stack([FLOW * 0.8, FLOW * 1.2])
    speed = np.stack([np.full(6, 50.0), np.full(6, 40.0)])
    found = divert(edited, speed, flow)
    np.testing.assert_allclose(found.flow_vph[:, 3] - flow[:, 3], 200)
    ratio = found.speed_kmh / speed
    np.testing.assert_allclose(ratio[0, [0, 3]], ratio[1, [0, 3]])


def test_relabelling_changes_nothing() -> None:
    """Property: the order of junctions and segments does not matter."""
    rng = np.random.default_rng(2)
    roads = grid(6, 4)
    flow, speed = traffic(roads), rng.uniform(30, 60, roads.n_edges)
    nodes, links = rng.permutation(roads.n_nodes), rng.permutation(roads.n_edges)
    mixed = roads.replace(
        nodes=roads.nodes.iloc[nodes],
        edge_index=np.argsort(nodes)[roads.edge_index][:, links],
        edges=roads.edges.iloc[links].reset_index(drop=True),
        edge_weight=None,
    )
    a = make_edited(roads, closed=(10, 11), hours=1)
    where = np.argsort(links)[[10, 11]].tolist()
    b = make_edited(mixed, closed=tuple(where), hours=1)
    first = divert(a, signal(a, speed), signal(a, flow))
    second = divert(b, signal(b, speed[links]), signal(b, flow[links]))
    np.testing.assert_allclose(second.flow_vph[0], first.flow_vph[0][links], atol=1e-6)
    np.testing.assert_allclose(second.speed_kmh[0], first.speed_kmh[0][links], atol=1e-6)


def test_any_curve_can_be_given_and_none_makes_a_street_endlessly_slow() -> None:
    """A curve that explodes ends at a tenth of the speed."""
    edited = make_edited(diamond(), closed=(1,), hours=1)

    def steep(flow, capacity, free):
        return free * (1 + 1e6 * (flow / capacity) ** 8)

    found = divert(edited, signal(edited, 60.0), signal(edited, FLOW), vdf=steep)
    np.testing.assert_allclose(found.speed_kmh[0, 3], 6.0)
    np.testing.assert_allclose(bpr(np.array([1.0]), np.array([1.0]), np.array([2.0])), 2.3)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"speed_kmh": np.ones((2, 6))}, r"`speed_kmh` has the shape \(2, 6\), not \(1, 6\)"),
        ({"flow_vph": np.full((1, 6), -1.0)}, "`flow_vph` is below 0 at 6 places"),
        ({"n_iterations": 0}, "`n_iterations` is 0, not above 0"),
        ({"reach_min": -1.0, "n_places": 0}, "`reach_min` is -1.0, not above 0; `n_places`"),
    ],
)
def test_bad_input_is_refused(change, match) -> None:
    edited = make_edited(diamond(), closed=(1,), hours=1)
    given = {"speed_kmh": signal(edited, 60.0), "flow_vph": signal(edited, FLOW), **change}
    with pytest.raises(InputError, match=match):
        divert(edited, given.pop("speed_kmh"), given.pop("flow_vph"), **given)


@pytest.mark.data
def test_the_pattern_of_a_closed_bridge_is_found(data_dir) -> None:
    """Flows of the simulated city: better than the local detours of the reference (r .59)."""
    links = gpd.read_file(data_dir / "simcity" / "city.gpkg", layer="links")
    nodes = gpd.read_file(data_dir / "simcity" / "city.gpkg", layer="nodes").set_index("node_id")
    truth = np.load(data_dir / "simcity" / "scenarios_hourly.npz")
    hours = np.array([8, 12, 17])

    def mean(name):
        return np.nanmean(truth[name][:, hours].astype(np.float64), axis=0)

    edges = links.rename(columns={"link_id": "segment_id", "speed_limit_kmh": "speed_kmh"})
    roads = STGraph(nodes=nodes, edge_index=links[["u", "v"]].to_numpy().T, edges=edges)
    edited = make_edited(roads, closed=(377, 380), hours=3)
    room = links["capacity_vph"].to_numpy(dtype=np.float64)
    edited = dataclasses.replace(
        edited,
        baseline=dataclasses.replace(edited.baseline, capacity_vph=room),
        periods=tuple(dataclasses.replace(p, capacity_vph=room) for p in edited.periods),
    )
    before = mean("base_flow_vph")
    found = divert(edited, mean("base_speed_kmh"), before)
    keep = ~np.isin(np.arange(len(links)), [377, 380])
    change = (found.flow_vph - before).mean(axis=0)[keep]
    true = (mean("close0_flow_vph") - before).mean(axis=0)[keep]
    assert np.corrcoef(change, true)[0, 1] > 0.8
    assert np.abs(change - true).mean() < 0.85 * np.abs(true).mean()
