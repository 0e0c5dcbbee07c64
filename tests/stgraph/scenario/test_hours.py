"""Hours and states of a horizon, and what lies between them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scenario_town import make_demand, make_time, make_town

from stgraph.report import Report
from stgraph.scenario.assignment import Assignment, Drivers
from stgraph.scenario.demand import Demand
from stgraph.scenario.demand_changes import HourlyDemand, apply_demand
from stgraph.scenario.editing import edit
from stgraph.scenario.hours import Cases, find_cases, load_hours, to_steps
from stgraph.scenario.script import Scenario
from stgraph.scenario.states import Edited
from stgraph.scenario.streets import read_streets
from stgraph.scenario.vdf import fit_vdf

WORKS = Scenario("works", timezone="UTC").close(name="Mid Road", daily="07:20-08:10")


def by_hour(first: Demand) -> Demand:
    """Return a demand that differs from hour to hour: as many trips as the hour, and 1."""
    trips = (1.0 + np.arange(24))[:, None, None] * (first.trips[0] > 0)
    return dataclasses.replace(first, trips=trips, period_of_hour=np.tile(np.arange(24), (7, 1)))


def prepare(
    scenario: Scenario = WORKS,
    *,
    time: pd.DatetimeIndex | None = None,
    demand: Demand | None = None,
    zone: str = "UTC",
) -> tuple[Edited, HourlyDemand, Cases]:
    time = make_time(24, minutes=10) if time is None else time
    town = make_town()
    edited = edit(scenario, town, time)
    trips = by_hour(make_demand()) if demand is None else demand
    hourly = apply_demand(trips, edited.demand, time, zone, Report(), roads=edited.roads)
    return edited, hourly, find_cases(edited, hourly)


def make_assignment(edited: Edited, hourly: HourlyDemand, **options: Any) -> Assignment:
    streets = read_streets(edited.roads, Report())
    assert streets is not None
    vdf = fit_vdf(streets, None, Report())
    return Assignment(edited.roads, vdf, hourly.junctions, Drivers(), **options)


def test_a_window_within_hours_makes_cases_of_parts() -> None:
    """24 hours, of which 7 and 8 have a part with the street and one without."""
    edited, hourly, cases = prepare()
    assert len(cases) == 26
    hours, states = cases.hour[cases.case_of], cases.state[cases.case_of]
    np.testing.assert_array_equal(hours, hourly.period_of_step)
    np.testing.assert_array_equal(states, edited.period_of)
    assert np.bincount(cases.case_of).min() == 1  # 08:00-08:10
    assert np.bincount(cases.case_of).sum() == 144


def test_the_hour_before_is_an_hour_before() -> None:
    _, _, cases = prepare()
    first = np.unique(cases.case_of, return_index=True)[1]
    for case in range(len(cases)):
        step = first[case] - 6
        assert cases.before[case] == (cases.case_of[step] if step >= 0 else case)


def test_hours_with_the_same_trips_are_cases_of_their_own() -> None:
    """A demand that never changes: flows of the forecast still differ from hour to hour."""
    _, _, cases = prepare(Scenario("none"), demand=make_demand())
    assert len(cases) == 24
    values = np.repeat(np.arange(24.0), 6)[:, None]
    np.testing.assert_array_equal(np.sort(cases.means(values)[:, 0]), np.arange(24))


def test_means_leave_out_gaps() -> None:
    _, _, cases = prepare()
    values = np.ones((144, 2))
    values[:, 1] = np.nan
    values[::2, 0] = np.nan
    means = cases.means(values)
    alone = np.bincount(cases.case_of) == 1
    assert (np.nan_to_num(means[~alone, 0], nan=1) == 1).all()
    assert np.isnan(means[:, 1]).all()


@pytest.mark.parametrize("start", ["2026-10-24 22:00", "2026-11-23 04:40"])
def test_clock_changes_midnights_and_parts_of_hours(start: str) -> None:
    """Over a day of 25 hours, from any minute: every step has the trips of its local hour."""
    time = pd.date_range(start, periods=6 * 40, freq="10min", tz="UTC").as_unit("us")
    _, hourly, cases = prepare(Scenario("none"), time=time, zone="Europe/Berlin")
    local = time.tz_convert("Europe/Berlin")
    total = hourly.baseline[cases.hour[cases.case_of]].sum(axis=(1, 2)) / 6
    np.testing.assert_allclose(total, 1 + local.hour)
    assert np.bincount(cases.case_of).max() == 6


def test_interpolation_is_between_the_middles_of_hours() -> None:
    """Values that are the hour: at 10:05 (the middle of a step) 9.58, at 10:55 10.42."""
    edited, _, cases = prepare(Scenario("none"))
    values = (cases.hour[:, None]).astype(float)
    steps = to_steps(values, cases, edited)[:, 0]
    middle = np.arange(144) / 6 + 1 / 12
    np.testing.assert_allclose(steps[3:-3], middle[3:-3] - 0.5)
    np.testing.assert_allclose(steps[:3], 0)
    np.testing.assert_allclose(steps[-3:], 23)


def test_a_partial_first_hour_is_no_whole_one() -> None:
    """A horizon from 07:40: 08:05 is early in its hour, not late."""
    time = pd.date_range("2026-11-23 07:40", periods=24, freq="10min", tz="UTC").as_unit("us")
    edited, hourly, cases = prepare(Scenario("none"), time=time)
    values = hourly.baseline[cases.hour].sum(axis=(1, 2))[:, None] / 6 - 1
    steps = to_steps(values, cases, edited)[:, 0]
    np.testing.assert_allclose(steps[6:-3], (7 + 40 / 60 + np.arange(24) / 6 + 1 / 12 - 0.5)[6:-3])


def test_long_periods_of_demand_change_at_their_end() -> None:
    """A demand of day and night: nothing moves more than half an hour from the change."""
    demand = make_demand()
    trips = np.concatenate([demand.trips, 3 * demand.trips])
    period = np.tile((np.arange(24) >= 12).astype(np.int64), (7, 1))
    demand = dataclasses.replace(demand, trips=trips, period_of_hour=period)
    edited, _, cases = prepare(Scenario("none"), demand=demand)
    steps = to_steps(cases.hour[:, None].astype(float), cases, edited)[:, 0]
    assert (steps[:69] == 0).all()
    assert (steps[75:] == 1).all()
    assert (np.diff(steps[68:76]) > 0).all()


def test_nothing_is_interpolated_over_the_edge_of_a_window() -> None:
    """Outside of 07:20-08:10 the values are those of the hours without works only."""
    edited, _, cases = prepare()
    values = (cases.state[:, None] == cases.state[cases.case_of[45]]).astype(float)
    steps = to_steps(values, cases, edited)[:, 0]
    held = np.zeros(144)
    held[44:49] = 1
    np.testing.assert_array_equal(steps, held)


def test_without_changes_both_sides_are_the_same_numbers() -> None:
    edited, hourly, cases = prepare(Scenario("none"))
    told: list[int] = []
    flows = load_hours(
        make_assignment(edited, hourly), edited, hourly, cases, on_done=lambda: told.append(1)
    )
    np.testing.assert_array_equal(flows.base, flows.scn)
    assert not flows.change.any()
    assert len(told) == len(cases)
    assert flows.base.sum(axis=1).argmax() == cases.hour.argmax()


def test_only_the_window_differs_and_trips_scale() -> None:
    edited, hourly, cases = prepare()
    work = make_assignment(edited, hourly)
    flows = load_hours(work, edited, hourly, cases)
    differs = flows.change.any(axis=1)
    closed = np.array([not edited.periods[state].is_open.all() for state in cases.state])
    np.testing.assert_array_equal(differs, closed)
    more = load_hours(work, edited, hourly, cases, factor=2.0)
    np.testing.assert_allclose(more.base.sum(), 2 * flows.base.sum(), rtol=1e-6)


def test_parts_have_the_flow_of_the_whole_street_before() -> None:
    line = "LINESTRING (10.0015 50.0, 10.0015 50.003)"
    edited, hourly, cases = prepare(Scenario("new").add_road(id="N", geometry=line, kmh=10))
    flows = load_hours(make_assignment(edited, hourly), edited, hourly, cases)
    parts = np.flatnonzero((edited.parent >= 0) & (np.arange(len(edited.parent)) >= 13))
    np.testing.assert_array_equal(flows.base[:, parts], flows.base[:, edited.parent[parts]])
    assert not flows.base[:, edited.parent < 0].any()
    assert not flows.scn[:, edited.parent[parts]].any()  # replaced
    # nobody takes a detour at 10 km/h: parts carry what the whole did
    np.testing.assert_allclose(flows.scn[:, parts], flows.base[:, parts], atol=1e-6)


def test_trips_without_a_way_are_counted() -> None:
    names = Scenario("cut").close(name="Mid Road").close(name="West Road")
    edited, hourly, cases = prepare(names.close(edges=[22], direction="forward"))
    flows = load_hours(make_assignment(edited, hourly), edited, hourly, cases)
    assert not flows.unserved_base.any()
    # zones at 1, 3 and 6: 6 cannot be left or reached
    np.testing.assert_allclose(flows.unserved_scn, 4 * (1.0 + cases.hour))


def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large networks are solved in several processes, with the same numbers."""
    edited, hourly, cases = prepare()
    work = make_assignment(edited, hourly)
    assert work.drivers.kind == "equilibrium"
    alone = load_hours(work, edited, hourly, cases)
    monkeypatch.setattr("stgraph.scenario.hours._LARGE", 1)
    together = load_hours(work, edited, hourly, cases, n_processes=2)
    for name in ("base", "scn", "unserved_base", "unserved_scn"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))
