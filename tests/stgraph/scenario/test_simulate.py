"""Simulated scenarios on networks whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_towns import diamond, grid, make_edited, make_roads

from stgraph.errors import InputError
from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph.scenario import _microworld as microworld
from stgraph.scenario import simulate as module
from stgraph.scenario._departures import draw
from stgraph.scenario.editing import edit
from stgraph.scenario.script import Scenario
from stgraph.scenario.simulate import Simulated, simulate
from stgraph.scenario.states import Edited

pytest.importorskip("uxsim")

TWO = np.array([0, 4])  # the first and the last junction of the diamond


def hours_of(edited: Edited, n_hours: int = 3) -> pd.DatetimeIndex:
    return pd.date_range(edited.time[0], periods=n_hours, freq="h")


def one_way(trips: float, n_hours: int = 3) -> np.ndarray:
    """Return trips from the first zone to the second one."""
    return np.tile(np.array([[0.0, trips], [0.0, 0.0]]), (n_hours, 1, 1))


def run(edited: Edited, trips: float = 300.0, n_hours: int = 3, **options: object) -> Simulated:
    wanted = one_way(trips, n_hours)
    return simulate(edited, TWO, wanted, wanted, hours=hours_of(edited, n_hours), **options)


def shut(roads: STGraph, **options: object) -> Edited:
    return make_edited(roads, hours=3, **options)


# ---------------------------------------------------------------- known answers


def test_a_closure_sends_all_cars_round() -> None:
    result = run(shut(diamond(), closed=(1,)))
    flow = result.change("flow", hours=np.ones(3, bool))
    np.testing.assert_allclose(flow.base[:3], 300, rtol=0.1)
    np.testing.assert_allclose(flow.base[3:], 0, atol=5)  # a car that queues alone seems a jam
    assert np.isnan(flow.scn[1])
    np.testing.assert_allclose(flow.scn[[0, 2, 3, 4]], 300, rtol=0.1)
    assert flow.significant.tolist() == [False, False, False, True, True, False]
    speed = result.change("speed")
    assert np.isnan(speed.scn[:, 1]).all()
    np.testing.assert_allclose(speed.base, 60, rtol=0.05)  # a free road, as fast as allowed


def test_a_slower_street_has_the_new_speed() -> None:
    edited = shut(make_roads([(0, 1), (1, 2)], [(0, 0), (1, 0), (2, 0)]), speed_kmh={1: 30.0})
    wanted = one_way(300)
    result = simulate(edited, np.array([0, 2]), wanted, wanted, hours=hours_of(edited))
    speed = result.change("speed", hours=np.ones(3, bool))
    np.testing.assert_allclose(speed.scn, [60, 30], rtol=0.05)
    assert speed.significant.tolist() == [False, True]


def test_a_bottleneck_lets_its_capacity_through() -> None:
    places = [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)]
    edited = shut(make_roads([(0, 1), (1, 2), (2, 3)], places), capacity={1: 400.0})
    wanted = one_way(800)
    result = simulate(edited, np.array([0, 3]), wanted, wanted, hours=hours_of(edited))
    last = result.change("flow").scn[-1]
    np.testing.assert_allclose(last[2], 400, rtol=0.05)
    assert result.change("speed").scn[-1, 1] < 20  # it queues
    assert any("jams" in finding.what for finding in result.report.warnings)


def test_a_new_road_is_taken_in_the_scenario_only() -> None:
    flow = run(shut(diamond(), new=(1,))).change("flow", hours=np.ones(3, bool))
    assert np.isnan(flow.base[1])
    np.testing.assert_allclose(flow.scn[1], 300, rtol=0.1)
    np.testing.assert_allclose(flow.base[3], 300, rtol=0.1)
    np.testing.assert_allclose(flow.scn[3], 0, atol=5)


def test_a_closure_of_an_hour_ends() -> None:
    edited = shut(diamond(), closed=(1,), window=(1, 2), minutes=15)
    flow = run(edited).change("flow").scn
    np.testing.assert_allclose(flow[0, [1, 3]], [300, 0], rtol=0.1, atol=10)
    assert flow[1, 3] > 240
    assert flow[2, 1] > 240
    assert flow[2, 3] < 45


def test_a_forbidden_turn_is_not_made() -> None:
    result = run(shut(diamond(), banned=np.array([[0], [1]])))
    flow = result.change("flow", hours=np.ones(3, bool)).scn
    np.testing.assert_allclose(flow[1], 0)
    np.testing.assert_allclose(flow[3], 300, rtol=0.1)


def test_a_turn_forbidden_for_an_hour_is_made_again() -> None:
    edited = shut(diamond(), banned=np.array([[0], [1]]), window=(1, 2))
    flow = run(edited).change("flow").scn
    np.testing.assert_allclose(flow[0, 3], 0, atol=10)
    assert flow[1, 3] > 240
    assert flow[2, 1] > 240


def test_one_of_two_parallel_streets_can_close() -> None:
    pairs = [(0, 1), (1, 2), (1, 2)]
    edited = shut(make_roads(pairs, [(0, 0), (1, 0), (2, 0)]), closed=(1,))
    wanted = one_way(300)
    result = simulate(edited, np.array([0, 2]), wanted, wanted, hours=hours_of(edited))
    flow = result.change("flow", hours=np.ones(3, bool))
    np.testing.assert_allclose(flow.base[1] + flow.base[2], 300, rtol=0.1)
    np.testing.assert_allclose(flow.scn[2], 300, rtol=0.1)


def test_parts_of_a_split_segment_have_its_baseline() -> None:
    roads = diamond()
    line = "LINESTRING (10.02092 50, 10.02092 50.008993)"  # the middle of segment 1 to junction 3
    scenario = Scenario("spur").add_road(id="spur", geometry=line, kmh=50)
    time = pd.date_range("2026-11-23", periods=3, freq="h", tz="UTC")
    edited = edit(scenario, roads, time)
    flow = run(edited).change("flow", hours=np.ones(3, bool))
    parts = np.flatnonzero(edited.parent == 1)[1:]
    assert len(parts) == 2
    np.testing.assert_allclose(flow.base[parts], flow.base[1])
    np.testing.assert_allclose(flow.scn[parts], 300, rtol=0.1)
    assert np.isnan(flow.scn[1])


def test_trips_without_a_way_are_counted_and_left_out() -> None:
    result = run(shut(diamond(), closed=(0,)))
    assert result.unserved_scn.sum() == 900
    assert result.unserved_base.sum() == 0
    assert result.n_trips[1] == 0
    assert [finding.what for finding in result.report.warnings] == ["900 trips have no way"]


# ---------------------------------------------------------------- what always holds


def town() -> tuple[Edited, np.ndarray, np.ndarray]:
    """Return a town with a closed street, its zones and trips."""
    zones = np.array([0, 4, 15, 19, 7])
    trips = np.tile(80.0 * (1 - np.eye(5)), (3, 1, 1))
    return make_edited(grid(), closed=(4, 5), hours=3), zones, trips


def test_no_edit_is_no_difference() -> None:
    edited, zones, trips = town()
    edited = dataclasses.replace(edited, periods=(edited.baseline,))
    result = simulate(edited, zones, trips, trips, hours=hours_of(edited))
    for quantity in ("speed", "flow"):
        change = result.change(quantity)
        assert not change.difference.any()
        assert not change.significant.any()
        assert change.error.any()  # the noise is known all the same


def test_the_same_seed_gives_the_same_in_processes() -> None:
    edited, zones, trips = town()
    results = [
        simulate(edited, zones, trips, trips, hours=hours_of(edited), seed=seed, n_processes=n)
        for seed, n in ((3, 1), (3, 2), (4, 1))
    ]
    np.testing.assert_array_equal(results[0].speed_scn_runs, results[1].speed_scn_runs)
    assert (results[0].speed_scn_runs != results[2].speed_scn_runs).any()
    # no run is like another one
    assert len(np.unique(results[0].flow_base_runs.sum(axis=(1, 2)))) == 8


def test_what_goes_into_a_junction_comes_out() -> None:
    side, zones = prepared(80.0), town()[1]
    sides = [side, side]
    job = next(module._jobs(sides, zones, module._Size(3, 300.0), 1, 0))
    passage, links = module._run(job), side.network.links
    n = links.n_nodes
    came = np.bincount(links.target, passage.n_left, minlength=n)
    went = np.bincount(links.source, passage.n_entered, minlength=n)
    passed = np.setdiff1d(np.arange(n), side.network.node_of[zones])
    np.testing.assert_array_equal(came[passed], went[passed])
    assert went[passed].sum() > 0
    # and over all: who has not arrived is on a road or waits to depart
    on_the_road = (passage.n_entered - passage.n_left).sum()
    assert 0 <= passage.n_under_way - on_the_road <= 0.01 * passage.n_trips


def test_progress_is_told_after_every_run() -> None:
    told: list[tuple[int, int]] = []
    run(shut(diamond()), n_hours=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 16) for i in range(1, 17)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 20)), max_size=20),
    st.lists(st.floats(1, 40), min_size=1, max_size=5),
)
def test_intervals_share_all_there_is(
    passages: list[tuple[float, float]], widths: list[float]
) -> None:
    come = np.sort([first for first, _ in passages])
    gone = np.maximum.accumulate(come + [there for _, there in passages]) if passages else come
    edges = np.concatenate([[0.0], np.cumsum(widths), [1000.0]])
    shares, times = microworld.edie(come, gone, edges)
    np.testing.assert_allclose(shares.sum(), len(passages), atol=1e-6)
    np.testing.assert_allclose(times.sum(), (gone - come).sum(), atol=1e-6)
    assert (shares >= -1e-9).all()
    assert (times >= -1e-9).all()


def test_a_passage_over_a_border_is_shared_by_time() -> None:
    shares, times = microworld.edie(np.array([50.0]), np.array([90.0]), np.array([0, 60.0, 120]))
    np.testing.assert_allclose(shares, [0.25, 0.75])
    np.testing.assert_allclose(times, [10, 30])


def test_draws_have_the_mean_of_the_demand_and_share_what_they_can() -> None:
    before = np.full((2, 3, 3), 3000.0)
    after = before * np.array([1.0, 0.5])[:, None, None]
    after[0, 0, 1] = 6000.0
    now, then = draw(before, after, platoon=3, seed=(0, 0))
    assert len(now.time_s) == pytest.approx(before.sum() / 3, rel=0.02)
    assert len(then.time_s) == pytest.approx(after.sum() / 3, rel=0.02)
    first = [set(p.time_s[p.time_s < 3600]) for p in (now, then)]
    assert first[0] < first[1]  # all of them, and more
    second = [set(p.time_s[p.time_s >= 3600]) for p in (now, then)]
    assert second[1] < second[0]
    same = draw(before, before, platoon=3, seed=(0, 0))
    np.testing.assert_array_equal(same[0].time_s, same[1].time_s)
    assert (np.diff(then.time_s) >= 0).all()


# ---------------------------------------------------------------- bad input


def test_too_few_replicates_are_refused() -> None:
    with pytest.raises(InputError, match="noise is not known with fewer than 8"):
        run(shut(diamond()), n_replicates=3)


def test_all_that_does_not_fit_is_told_at_once() -> None:
    edited = shut(diamond())
    bad = one_way(-1.0)
    with pytest.raises(InputError, match="2 problem") as caught:
        simulate(edited, TWO, bad, one_way(1.0, 2), hours=hours_of(edited))
    assert "negative" in str(caught.value)
    assert "give (H, Z, Z) = (3, 2, 2)" in str(caught.value)


def test_a_junction_that_is_not_there_is_refused() -> None:
    edited = shut(diamond())
    with pytest.raises(InputError, match="position 9 of 5 junctions"):
        simulate(edited, np.array([0, 9]), one_way(1), one_way(1), hours=hours_of(edited))


def test_what_would_take_too_much_memory_is_refused_before() -> None:
    edited, zones, trips = town()
    with pytest.raises(InputError, match=r"GB a run, more than 0\.0; simulate fewer"):
        simulate(edited, zones, trips, trips, hours=hours_of(edited), max_memory_gb=0.001)


def prepared(trips: float) -> module._Side:
    """Return the town with as many trips between all zones."""
    edited, zones, _ = town()
    timetable = module.Timetable(np.zeros(1), np.zeros(1, np.int64), np.arange(4) * 3600.0)
    wanted = np.tile(trips * (1 - np.eye(5)), (3, 1, 1))
    return module._prepare(edited, edited.periods, timetable, zones, wanted)


def test_runs_become_coarser_before_they_are_refused() -> None:
    report = Report()
    side = prepared(4000.0)
    assert module._fit([side], None, 4.0, report) == module._Size(3, 300.0)
    assert len(report) == 0
    assert module._fit([side], None, 0.1, report) == module._Size(8, 300.0)
    assert [finding.what for finding in report] == ["made coarser to stay below 0.1 GB"]


def test_only_speed_and_flow_change() -> None:
    with pytest.raises(InputError, match="may be 'speed' or 'flow'"):
        run(shut(diamond()), n_hours=1).change("delay")
