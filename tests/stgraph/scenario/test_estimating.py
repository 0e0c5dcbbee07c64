"""From modelled changes to speeds and flows of steps, their range, and what is noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scenario_town import make_demand, make_forecast, make_time, make_town

from stgraph.report import Report
from stgraph.scenario.demand_changes import apply_demand
from stgraph.scenario.editing import edit
from stgraph.scenario.estimating import Base, Estimate, assemble, estimate, estimate_diversion
from stgraph.scenario.fitting import City, fit_city
from stgraph.scenario.result import SOURCES, STATUS
from stgraph.scenario.script import Scenario
from stgraph.scenario.simulating import estimate_simulation
from stgraph.scenario.states import Edited
from stgraph.scenario.streets import read_streets

WORKS = Scenario("works", timezone="UTC").close(name="Mid Road", daily="07:00-10:00")
NEW = Scenario("new").add_road(id="N", geometry="LINESTRING (10.0015 50.0, 10.0015 50.003)", kmh=50)


@pytest.fixture(scope="module")
def city() -> City:
    return fit_city(make_town(), demand=make_demand(100.0))


def prepare(
    scenario: Scenario,
    *,
    speed: float = 40.0,
    flow: float = 100.0,
    time: pd.DatetimeIndex | None = None,
) -> tuple[Edited, Base]:
    edited = edit(scenario, make_town(), make_time() if time is None else time)
    known = np.where(edited.parent >= 0, 1.0, np.nan) * np.ones((len(edited.time), 1))
    return edited, Base(speed * known, flow * known)


def go(
    scenario: Scenario, city: City, *, time: pd.DatetimeIndex | None = None, **options: Any
) -> tuple[Edited, Estimate]:
    edited, base = prepare(scenario, time=time)
    hourly = apply_demand(
        make_demand(100.0), edited.demand, edited.time, "UTC", Report(), roads=edited.roads
    )
    streets = read_streets(edited.roads, Report())
    assert streets is not None
    return edited, estimate(
        city, edited, streets, base, hourly, **{"method": "assignment", **options}
    )


def test_members_are_what_fits_as_well(city: City) -> None:
    """Other demands and curves; nobody drives on closed streets in any of them."""
    told: list[tuple[int, int]] = []
    edited, found = go(WORKS, city, on_done=lambda *given: told.append(given))
    assert len(found.members) == 4  # a tenth fewer and more trips, steeper and flatter curves
    closed = ~np.stack([state.is_open for state in edited.periods])[edited.period_of]
    for speed, flow in found.members:
        assert np.isnan(speed[closed]).all()
        assert np.isnan(flow[closed]).all()
        assert np.isfinite(flow[~closed]).all()
    fewer, more = (member[1] - found.effects.flow_base for member in found.members[:2])
    central = found.effects.flow_scn - found.effects.flow_base
    gains = np.nan_to_num(central) > 50
    assert (fewer < central)[gains].all()
    assert (more > central)[gains].all()
    assert told[-1] == (72, 72)
    assert [one[0] for one in told] == list(range(1, 73))
    assert found.unserved == (0.0, 0.0)


def test_large_networks_have_one_demand_and_other_reactions(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stgraph.scenario.estimating._QUICK_LABELS", 1)
    _, found = go(WORKS, city)
    assert len(found.members) == 3
    links, less = found.effects, found.members[2][1]
    known = np.isfinite(links.flow_scn)
    change = (links.flow_scn - links.flow_base)[known]
    np.testing.assert_allclose((less - links.flow_base)[known], 0.65 * change, atol=1e-3)


def test_only_what_does_not_differ_is_the_forecast(city: City) -> None:
    """More trips from 3 to 4 h: their change is interpolated into the half hours beside them."""
    more = Scenario("more", timezone="UTC").scale_demand(
        from_zone="any", to_zone="any", factor=2.0, daily="03:00-04:00"
    )
    _, found = go(more, city, time=make_time(minutes=15))
    links = found.effects
    differs = (links.flow_scn != links.flow_base).any(axis=1)
    assert differs[10:18].all()
    assert not differs[:10].any()
    assert not differs[18:].any()
    is_forecast = (links.source == SOURCES.index("forecast")).all(axis=1)
    np.testing.assert_array_equal(is_forecast, ~differs)


def test_parts_inherit_and_are_not_new(city: City) -> None:
    edited, found = go(NEW, city)
    links, own = found.effects, np.arange(len(edited.parent))
    parts = (edited.parent >= 0) & (edited.parent != own)
    np.testing.assert_array_equal(links.speed_base[:, parts], 40)
    np.testing.assert_array_equal(links.flow_base[:, parts], 100)
    np.testing.assert_allclose(links.speed_scn[:, parts], 40, rtol=0.02)
    assert np.isfinite(links.d_speed_low[:, parts]).all()
    assert not links.significant[:, edited.is_replaced].any()
    split = np.unique(edited.parent[parts])
    assert (links.status[:, split] == STATUS.index("removed")).all()
    new = edited.parent < 0
    assert links.significant[:, new].all()


def test_noise_decides_what_is_significant(city: City) -> None:
    """Without a past 1 km/h of an hour, by the root of the hours that a state lasts."""
    edited, base = prepare(Scenario("a").set_capacity(edges=[10], direction="forward", factor=0.5))
    speed = base.speed.astype(np.float32)
    source = np.zeros(speed.shape, dtype=np.int8)
    limit = 2 * 1.0 / np.sqrt(24)
    for change, wanted in ((1.01 * limit, True), (0.99 * limit, False)):
        after = speed.copy()
        after[:, 0] -= np.float32(change)
        members = [(after, base.flow.astype(np.float32))]
        found = assemble(city, edited, base, after, members[0][1], source, members)
        assert found.significant[:, 0].all() == wanted
        assert not found.significant[:, 1:].any()
    # a range on both sides of 0 is none, however large the effect
    after[:, 0] = speed[:, 0] - 10
    other = speed.copy()
    other[:, 0] += 1
    flow = base.flow.astype(np.float32)
    found = assemble(city, edited, base, after, flow, source, [(after, flow), (other, flow)])
    assert not found.significant.any()
    np.testing.assert_allclose(found.d_speed_low[:, 0], -10)
    np.testing.assert_allclose(found.d_speed_high[:, 0], 1)


def test_noise_is_that_of_the_past() -> None:
    """Days that differ by 5 km/h hide an effect of 4, and not one of 20."""
    time = pd.date_range("2026-10-05", periods=24 * 42, freq="h", tz="UTC")
    past = make_forecast(time=time)
    rng = np.random.default_rng(0)
    values = past.values[..., :2].copy()
    values[..., 0] += 5 * rng.standard_normal(values.shape[:2])
    past = past.replace(values=values, features=past.features[:2], mask=np.isfinite(values))
    city = fit_city(make_town(), history=past)
    edited, base = prepare(WORKS)
    flow = base.flow.astype(np.float32)
    source = np.zeros(flow.shape, dtype=np.int8)
    for change, wanted in ((2.0, False), (20.0, True)):
        after = (base.speed - change).astype(np.float32)
        found = assemble(city, edited, base, after, flow, source, [(after, flow)])
        held = slice(7, 10)
        streets = np.delete(np.arange(13), [10, 11])  # Mid Road is closed
        assert found.significant[held][:, streets].mean() == pytest.approx(float(wanted), abs=0.1)


def test_gaps_of_the_forecast_take_modelled_flows(city: City) -> None:
    """A segment without any flow has the modelled one, before and after; others stay."""
    edited, base = prepare(WORKS)
    base.flow[:, 3] = np.nan
    base.flow[5, 4] = np.nan
    hourly = apply_demand(make_demand(100.0), (), edited.time, "UTC", Report(), roads=edited.roads)
    streets = read_streets(edited.roads, Report())
    assert streets is not None
    links = estimate(city, edited, streets, base, hourly, method="assignment").effects
    assert np.isfinite(links.flow_base[:, 3]).all()
    assert np.isnan(links.flow_base[5, 4])
    outside = np.r_[0:7, 10:24]
    np.testing.assert_array_equal(links.flow_base[outside], links.flow_scn[outside])
    assert np.isfinite(links.speed_scn[8, 4])


def test_a_pattern_has_a_range_of_half_and_whole(city: City) -> None:
    """What diversion says is told with its doubts, and hours are those of the zone."""
    edited, base = prepare(WORKS)
    streets = read_streets(edited.roads, Report())
    assert streets is not None
    report = Report()
    found = estimate_diversion(city, edited, streets, base, zone="Asia/Kolkata", report=report)
    assert "without knowing any trips" in str(report)
    links = found.effects
    change = links.flow_scn - links.flow_base
    some = np.nan_to_num(change) > 1
    assert some.any()
    np.testing.assert_allclose(links.d_flow_low[some], change[some] / 2, rtol=1e-4)
    np.testing.assert_allclose(links.d_flow_high[some], change[some], rtol=1e-4)
    outside = np.r_[0:7, 10:24]
    np.testing.assert_array_equal(links.speed_base[outside], links.speed_scn[outside])


def test_simulated_changes_on_the_forecast(city: City) -> None:
    """Closed streets have nothing, others the forecast by what the runs change."""
    pytest.importorskip("uxsim")
    edited = edit(WORKS, make_town(), make_time()[7:9])
    known = np.ones((2, 13))
    base, told = Base(40 * known, 100 * known), list[str]()
    hourly = apply_demand(make_demand(30.0), (), edited.time, "UTC", Report(), roads=edited.roads)
    found = estimate_simulation(
        city, edited, base, hourly, zone="UTC", seed=0, report=Report(), say=told.append
    )
    links = found.effects
    closed = links.status == STATUS.index("closed")
    assert np.isnan(links.speed_scn[closed]).all()
    assert np.isfinite(links.speed_scn[~closed]).all()
    assert (links.flow_scn[~closed] >= 0).all()
    assert told[-1].startswith("simulated ")
    assert len(found.members) == 2
