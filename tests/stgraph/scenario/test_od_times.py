"""Times from zone to zone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scenario_towns import NO_TURNS, diamond, grid, make_demand, make_edited, make_effects

from stgraph.errors import InputError
from stgraph.scenario.od_times import full_hours, hourly_speeds, measure_od, od_table, od_times

OPEN = np.ones(6, dtype=bool)
ALL = np.arange(5)


def test_times_are_those_of_the_fastest_way() -> None:
    """A kilometre at 60 km/h takes a minute; the straight way beats the one round."""
    found = od_times(diamond(), np.full(6, 60.0), OPEN, ALL, NO_TURNS)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0], [0, 1, 2, 2, 3])
    np.testing.assert_allclose(found[2], [2, 3, 0, 4, 1])


def test_closed_segments_are_out_and_what_they_cut_off_is_inf() -> None:
    """Trips go round a closed segment; behind the only one there is no way."""
    speed = np.full(6, 60.0)
    speed[1] = np.nan  # of a closed segment nothing is known
    round_it = od_times(diamond(), speed, np.arange(6) != 1, ALL, NO_TURNS)
    np.testing.assert_allclose(round_it[0], [0, 1, 3, 2, 4])
    cut = od_times(diamond(), np.full(6, 60.0), np.arange(6) != 2, ALL, NO_TURNS)
    assert np.isinf(cut[:4, 4]).all()
    assert cut[4, 4] == 0


def test_forbidden_turns_are_not_made() -> None:
    """From 0-1 nobody may go straight on; trips that begin at 1 may."""
    found = od_times(diamond(), np.full(6, 60.0), OPEN, ALL, np.array([[0], [1]]))
    np.testing.assert_allclose(found[0], [0, 1, 3, 2, 4])
    assert found[1, 2] == pytest.approx(1)


def test_zones_may_share_a_junction() -> None:
    """Two zones at one place have the same times, and none between them."""
    found = od_times(diamond(), np.full(6, 60.0), OPEN, np.array([0, 4, 0]), NO_TURNS)
    np.testing.assert_allclose(found, [[0, 3, 0], [1, 0, 1], [0, 3, 0]])


def test_relabelling_junctions_and_segments_changes_nothing() -> None:
    """Property: the order in which a network is given does not matter."""
    rng = np.random.default_rng(3)
    roads, speed = grid(), None
    speed = rng.uniform(20, 60, roads.n_edges)
    expected = od_times(roads, speed, np.ones(roads.n_edges, bool), np.arange(20), NO_TURNS)
    nodes, links = rng.permutation(20), rng.permutation(roads.n_edges)
    where = np.argsort(nodes)
    mixed = roads.replace(
        nodes=roads.nodes.iloc[nodes],
        edge_index=where[roads.edge_index][:, links],
        edges=roads.edges.iloc[links].reset_index(drop=True),
        edge_weight=None,
    )
    is_open = np.ones(roads.n_edges, bool)
    found = od_times(mixed, speed[links], is_open, where, NO_TURNS)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"speed_kmh": np.full(5, 60.0)}, r"`speed_kmh` has the shape \(5,\)"),
        ({"is_open": OPEN[:4]}, r"`is_open` has the shape \(4,\)"),
        ({"speed_kmh": np.array([60, 60, 0, 60, np.nan, 60.0])}, "2 open segments have no speed"),
        ({"junctions": np.array([0, 5])}, "position 5; there are 0..4"),
        ({"banned": np.array([[0], [9]])}, "position 9"),
    ],
)
def test_bad_input_is_refused(change, match) -> None:
    given = {"speed_kmh": np.full(6, 60.0), "is_open": OPEN, "junctions": ALL, "banned": NO_TURNS}
    with pytest.raises(InputError, match=match):
        od_times(diamond(), **{**given, **change})


def test_lengths_that_are_missing_are_named() -> None:
    roads = diamond()
    bare = roads.replace(edges=roads.edges.drop(columns="length_m"))
    with pytest.raises(InputError, match="`length_m`"):
        od_times(bare, np.full(6, 60.0), OPEN, ALL, NO_TURNS)
    odd = roads.edges.assign(length_m=[1, 2, np.nan, 3, 4, 5])
    with pytest.raises(InputError, match="nan at segment 2"):
        od_times(roads.replace(edges=odd), np.full(6, 60.0), OPEN, ALL, NO_TURNS)


# ---------------------------------------------------------------- hours and tables


def test_hours_are_those_of_the_zone() -> None:
    """Where clocks differ by half hours from UTC, full hours do, too; DST loses no hour."""
    time = pd.date_range("2026-11-23", periods=8, freq="15min", tz="UTC").as_unit("us")
    hours, hour_of = full_hours(time, "Asia/Kolkata")
    assert list(hours.tz_convert("Asia/Kolkata").minute) == [0, 0, 0]
    np.testing.assert_array_equal(hour_of, [0, 0, 1, 1, 1, 1, 2, 2])
    back = pd.date_range("2026-10-24 22:00", periods=8, freq="30min", tz="UTC").as_unit("us")
    assert len(full_hours(back, "Europe/Berlin")[0]) == 4  # 2 o'clock is there twice


def test_no_edit_is_no_difference_exactly() -> None:
    """A scenario that changes nothing has the times of the baseline, to the last bit."""
    edited = make_edited(grid())
    rng = np.random.default_rng(0)
    effects = make_effects(edited, rng.uniform(20, 60, (24, edited.roads.n_edges)), 100.0)
    od = measure_od(edited, hourly_speeds(edited, effects), make_demand(edited.roads, [0, 7, 19]))
    np.testing.assert_array_equal(od.base_min, od.scn_min)


def test_a_closure_counts_in_its_hours_only() -> None:
    """Closed from 7 to 9, the way from 0 to 2 takes a minute more then."""
    edited = make_edited(diamond(), closed=(1,), window=(7, 9))
    effects = make_effects(edited, 60.0, 100.0)
    speeds = hourly_speeds(edited, effects)
    od = measure_od(edited, speeds, make_demand(edited.roads, [0, 2]))
    np.testing.assert_allclose(od.base_min[:, 0, 1], 2)
    np.testing.assert_allclose(od.scn_min[7:9, 0, 1], 3)
    np.testing.assert_allclose(np.delete(od.scn_min[:, 0, 1], [7, 8]), 2)
    table = od_table(od).set_index(["o", "d", "period"])
    row = table.loc[("Z0", "Z1", "am")]
    assert row["tt_scn_min"] == pytest.approx(2.5)  # two of four hours
    assert row["tt_base_min"] == pytest.approx(2)
    assert table.loc[("Z0", "Z1", "mid"), "tt_scn_min"] == pytest.approx(2)


def test_hours_count_by_their_trips() -> None:
    """If everybody travels at 7, the mean of the morning is the one of 7."""
    edited = make_edited(diamond(), closed=(1,), window=(7, 9))
    effects = make_effects(edited, 60.0, 100.0)
    od = measure_od(edited, hourly_speeds(edited, effects), make_demand(edited.roads, [0, 2]))
    trips = np.zeros((24, 2, 2))
    trips[7, 0, 1] = 50
    table = od_table(od, trips=trips)
    assert list(table["period"]) == ["am", "day"]  # the pairs and parts without trips are left out
    assert table["tt_scn_min"].to_numpy() == pytest.approx([3, 3])
    assert table["trips"].to_numpy() == pytest.approx([50, 50])


def test_unreachable_pairs_are_flagged_without_a_time() -> None:
    """No mean of the other hours hides that nobody gets there at 7."""
    edited = make_edited(diamond(), closed=(2,), window=(7, 8))
    effects = make_effects(edited, 60.0, 100.0)
    od = measure_od(edited, hourly_speeds(edited, effects), make_demand(edited.roads, [0, 4]))
    assert np.isinf(od.scn_min[7, 0, 1])
    table = od_table(od).set_index(["o", "period"])
    assert table.loc[("Z0", "am"), "is_unreachable"]
    assert np.isnan(table.loc[("Z0", "am"), "tt_scn_min"])
    assert not table.loc[("Z0", "mid"), "is_unreachable"]
    assert not table.loc[("Z1", "am"), "is_unreachable"]


def test_pairs_without_a_way_before_are_not_cut_off() -> None:
    """The scenario is not to blame for what never was: no times, and no mark."""
    edited = make_edited(diamond(), closed=(2,), window=(7, 8))
    effects = make_effects(edited, 60.0, 100.0)
    od = measure_od(edited, hourly_speeds(edited, effects), make_demand(edited.roads, [0, 4]))
    never = dataclasses.replace(od, base_min=np.full_like(od.base_min, np.inf))
    table = od_table(never)
    assert table["tt_base_min"].isna().all()
    assert not table["is_unreachable"].any()
    # cut off in the hour in which there was a way, whatever held in others
    base = od.base_min.copy()
    base[8] = np.inf
    table = od_table(dataclasses.replace(od, base_min=base)).set_index(["o", "period"])
    assert table.loc[("Z0", "am"), "is_unreachable"]
    assert not table.loc[("Z0", "pm"), "is_unreachable"]


def test_hours_that_are_closed_in_part() -> None:
    """A segment closed for more than half of the hour counts as closed, else as open."""
    edited = make_edited(diamond(), closed=(1,), hours=2, minutes=10, window=(0, 1))
    half = np.array([1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0])
    object.__setattr__(edited, "period_of", half)
    effects = make_effects(edited, 60.0, 100.0)
    speeds = hourly_speeds(edited, effects)
    np.testing.assert_array_equal(speeds.scn_open[:, 1], [True, False])


def test_gaps_of_speed_are_filled_from_what_is_known() -> None:
    """Unknown speeds: of the other network, else free flow; means are of travel times."""
    edited = make_edited(diamond(), speed_kmh={3: 30.0}, hours=1, minutes=30)
    base = np.tile([60.0, 20.0, 50.0, np.nan, 40.0, np.nan], (2, 1))
    base[1, 1] = 60.0
    scn = base.copy()
    scn[:, 4] = np.nan
    speeds = hourly_speeds(edited, make_effects(edited, base, 10.0, scn, 10.0))
    np.testing.assert_allclose(speeds.base_kmh[0], [60, 30, 50, 60, 40, 60])
    np.testing.assert_allclose(speeds.scn_kmh[0], [60, 30, 50, 30, 40, 60])
    np.testing.assert_array_equal(speeds.known, [True, True, True, False, True, False])


def test_parts_of_a_split_street_have_its_speed() -> None:
    edited = make_edited(diamond(), closed=(1,), new=(3, 4), hours=1)
    edited = dataclasses.replace(edited, parent=np.array([0, 1, 2, 1, -1, 5]))
    speed = np.array([60.0, 25, 60, np.nan, np.nan, 60])
    speeds = hourly_speeds(edited, make_effects(edited, speed, 10.0))
    np.testing.assert_allclose(speeds.scn_kmh[0, 3:5], [25, 60])


def test_trips_of_another_size_are_refused() -> None:
    edited = make_edited(diamond(), hours=2)
    effects = make_effects(edited, 60.0, 100.0)
    od = measure_od(edited, hourly_speeds(edited, effects), make_demand(edited.roads, [0, 4]))
    with pytest.raises(InputError, match=r"\(3, 2, 2\), the times have \(2, 2, 2\)"):
        od_table(od, trips=np.ones((3, 2, 2)))
