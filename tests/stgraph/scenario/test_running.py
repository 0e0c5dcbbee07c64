"""Scenarios from script to result, on a town of thirteen segments."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scenario_town import EAST, make_demand, make_forecast, make_time, make_town

from stgraph.errors import ConfigError, DataError
from stgraph.graph import STGraph
from stgraph.scenario._report_tables import _hourly
from stgraph.scenario._street_totals import link_totals
from stgraph.scenario.fitting import City, fit_city
from stgraph.scenario.report_page import render_report
from stgraph.scenario.result import SOURCES, STATUS, ScenarioResult
from stgraph.scenario.running import run
from stgraph.scenario.script import Scenario
from stgraph.scenario.tables import tables

NOW = dt.datetime(2026, 11, 23, 5, tzinfo=dt.UTC)
TIME = make_time(24, minutes=10)
WORKS = Scenario("works", timezone="UTC").close(name="Mid Road", daily="07:20-08:10")
TODAY = {"from": "2026-11-23T00:00:00", "to": "2026-11-24T00:00:00"}


@pytest.fixture(scope="module")
def city() -> City:
    return fit_city(make_town(), demand=make_demand(100.0))


def make_history(*, flow: bool = True) -> STGraph:
    """Return two weeks by the hour: 200 cars by day, 40 km/h; every day a little different."""
    time = pd.date_range("2026-11-09", periods=24 * 14, freq="h", tz="UTC")
    found = make_forecast(time=time)
    rng = np.random.default_rng(0)
    by_day = 200.0 * ((time.hour >= 6) & (time.hour < 20)) + 50.0
    values = found.values.copy()
    values[..., 0] += rng.normal(0, 0.5, values.shape[:2])
    values[..., 1] = by_day[:, None] * rng.uniform(0.95, 1.05, values.shape[:2])
    features = found.features
    if not flow:
        values, features = values[..., [0]], features[:1]
    mask = np.isfinite(values)
    return found.replace(values=values.astype(np.float32), features=features, mask=mask)


def go(scenario: Scenario, city: City | None = None, **options: Any) -> ScenarioResult:
    given = {"forecast": make_forecast(time=TIME), "demand": make_demand(100.0), "now": NOW}
    forecast = {**given, **options}.pop("forecast")
    rest = {key: value for key, value in {**given, **options}.items() if key != "forecast"}
    return run(scenario, make_town(), forecast, city=city, **rest)


def number(result: ScenarioResult, metric: str, column: str = "change") -> float:
    return float(result.summary.set_index("metric").loc[metric, column])


def column_of(result: ScenarioResult, segment: int) -> int:
    assert result.roads.edges is not None
    return result.roads.edges["segment_id"].tolist().index(segment)


# ---------------------------------------------------------------- nothing, and only what is asked


@pytest.mark.parametrize("method", ["auto", "assignment", "diversion"])
def test_no_edit_is_no_difference_exactly(method: Any, city: City) -> None:
    """Speeds, flows, ranges, times between zones and all totals, to the last digit."""
    found = go(Scenario("none", method=method), city)
    links = found.links
    np.testing.assert_array_equal(links.speed_base, links.speed_scn)
    np.testing.assert_array_equal(links.flow_base, links.flow_scn)
    for part in ("d_speed_low", "d_speed_high", "d_flow_low", "d_flow_high"):
        assert not getattr(links, part).any()
    assert not links.significant.any()
    assert not links.status.any()
    assert (found.summary["change"] == 0).all()
    assert (found.summary[["low", "high"]].fillna(0) == 0).all(axis=None)
    assert (found.od["tt_base_min"] == found.od["tt_scn_min"]).all()
    assert not found.od["is_unreachable"].any()
    assert len(tables(found)["scenario_link"]) == 144 * 13


def test_odd_units_and_gaps_change_nothing_either() -> None:
    """A forecast in mph and cars per quarter of an hour, with gaps."""
    plain = make_forecast(time=TIME)
    features = tuple(
        dataclasses.replace(one, unit=unit)
        for one, unit in zip(plain.features, ("mph", "veh/15min", "mm/h"), strict=True)
    )
    mask = np.ones(plain.values.shape, dtype=bool)
    mask[10:20, 3] = False
    mask[:, 5] = False
    odd = plain.replace(values=plain.values * np.float32(0.73), features=features, mask=mask)
    found = go(Scenario("none"), forecast=odd)
    np.testing.assert_array_equal(found.links.speed_base, found.links.speed_scn)
    np.testing.assert_array_equal(found.links.flow_base, found.links.flow_scn)
    np.testing.assert_allclose(np.nanmax(found.links.speed_base), 40 * 0.73 * 1.609344)
    assert np.isnan(found.links.speed_base[:, 5]).all()
    assert (found.summary["change"] == 0).all()


def test_reopened_is_the_baseline(city: City) -> None:
    """Out of 07:20-08:10 nothing differs; within, the street is closed and others carry more."""
    found = go(WORKS, city)
    held = (TIME >= "2026-11-23 07:20") & (TIME < "2026-11-23 08:10")
    links, mid = found.links, column_of(found, 20)
    np.testing.assert_array_equal(links.speed_base[~held], links.speed_scn[~held])
    np.testing.assert_array_equal(links.flow_base[~held], links.flow_scn[~held])
    assert not links.significant[~held].any()
    assert np.isnan(links.speed_scn[held][:, mid]).all()
    assert np.isnan(links.flow_scn[held][:, mid]).all()
    assert (links.status[held][:, mid] == STATUS.index("closed")).all()
    assert links.significant[held][:, mid].all()
    assert (links.source[~held] == SOURCES.index("forecast")).all()
    assert (links.source[held] == SOURCES.index("assignment")).all()
    assert np.nanmax(links.flow_scn[held] - links.flow_base[held]) == pytest.approx(200, rel=0.01)


def test_flow_is_conserved_where_streets_close(city: City) -> None:
    """What is modelled to drive in and out of junctions balances: change of flow, summed up."""
    found = go(WORKS, city)
    step = 46
    change = np.nan_to_num(found.links.flow_scn[step]) - found.links.flow_base[step]
    change[found.links.status[step] == STATUS.index("closed")] = 0.0
    source, target = found.roads.edge_index
    out = np.bincount(source, change, found.roads.n_nodes)
    into = np.bincount(target, change, found.roads.n_nodes)
    ends = [1, 4]  # junctions 2 and 5, of the closed street
    others = np.delete(np.arange(found.roads.n_nodes), ends)
    np.testing.assert_allclose((out - into)[others], 0, atol=0.5)


def test_the_range_holds_the_effect(city: City) -> None:
    """Low <= effect <= high everywhere, and in the totals; closed streets count in none."""
    found = go(WORKS, city)
    links = found.links
    for name in ("speed", "flow"):
        effect = getattr(links, f"{name}_scn") - getattr(links, f"{name}_base")
        known = np.isfinite(effect)
        assert (getattr(links, f"d_{name}_low")[known] <= effect[known]).all()
        assert (getattr(links, f"d_{name}_high")[known] >= effect[known]).all()
    rows = found.summary.dropna()
    assert (rows["low"] <= rows["change"]).all()
    assert (rows["change"] <= rows["high"]).all()
    width = number(found, "VKT", "high") - number(found, "VKT", "low")
    assert width < 2 * abs(number(found, "VKT"))


def test_small_effects_are_not_significant(city: City) -> None:
    """A street of which 1 % of the capacity is lost, on which hardly anybody drives."""
    found = go(Scenario("little").set_capacity(edges=[14], direction="forward", factor=0.99), city)
    assert not found.links.significant.any()
    assert (found.links.status[:, column_of(found, 14)] == STATUS.index("changed")).all()


def test_a_lower_limit_slows_there_and_moves_some(city: City) -> None:
    """South Street at 25 of 50 km/h: its free-flow time doubles; others lose no speed limit."""
    found = go(Scenario("slow").set_speed(name="South Street", direction="both", kmh=25), city)
    links = found.links
    slowed = [column_of(found, number) for number in (10, 11, 12, 13)]
    np.testing.assert_allclose(links.speed_scn[:, slowed], 20, rtol=0.02)
    others = np.delete(np.arange(13), slowed)
    np.testing.assert_allclose(links.speed_scn[:, others], 40, rtol=0.02)
    assert (links.flow_scn[:, slowed] <= links.flow_base[:, slowed] + 0.5).all()


def test_an_event_raises_the_flow_around(city: City) -> None:
    """600 cars to junction 5 between 17 and 18 h, back from 21 to 22 h: on Mid Road or North."""
    match = Scenario("match", timezone="UTC").add_demand(
        at={"node": 5}, trips=600, arrive={"daily": "17:00-18:00"}, leave={"daily": "21:00-22:00"}
    )
    found = go(match, city)
    source, target = found.roads.edge_index
    change = np.nan_to_num(found.links.flow_scn - found.links.flow_base)
    into = change[:, target == 4].sum(axis=1) - change[:, source == 4].sum(axis=1)
    hour = np.asarray(TIME.hour)
    assert into[hour == 17].mean() > 300
    assert into[hour == 21].mean() < -300
    np.testing.assert_allclose(into[(hour < 15) | (hour == 19)], 0, atol=1)
    assert found.od["o"].str.contains("node 5").any()
    assert found.method == "assignment"


# ---------------------------------------------------------------- splits and new roads


def test_a_new_road_gets_traffic_and_split_streets_inherit(city: City) -> None:
    line = "LINESTRING (10.0015 50.0, 10.0015 50.003)"
    found = go(Scenario("new").add_road(id="N", geometry=line, kmh=50, lanes=2), city)
    links, ids = found.links, found.roads.edges["segment_id"].to_numpy()
    new = links.status[0] == STATUS.index("new")
    assert new.sum() == 2
    assert np.isnan(links.speed_base[:, new]).all()
    assert np.isfinite(links.speed_scn[:, new]).all()
    np.testing.assert_allclose(links.speed_scn[:, new], 50, rtol=0.05)
    assert np.isfinite(links.flow_scn[:, new]).all()
    assert links.significant[:, new].all()
    parts = (ids < 0) & ~new
    assert parts.sum() == 8
    np.testing.assert_allclose(links.speed_scn[:, parts], 40, rtol=0.02)
    assert np.isfinite(links.flow_scn[:, parts]).all()
    # a part is not new: what it does is told from the whole street
    changed = np.abs(links.flow_scn[:, parts] - 100) > 30
    assert not links.significant[:, parts][~changed].any()
    tables(found)


def test_parts_stand_for_their_street(city: City) -> None:
    """On maps and in sums: the street is left out, its parts have its forecast, sums stay."""
    line = "LINESTRING (10.0015 50.0, 10.0015 50.003)"
    found = go(Scenario("new").add_road(id="N", geometry=line, kmh=50, lanes=2), city)
    plain = go(Scenario("none"), city)
    assert found.roads.edges is not None
    ids = found.roads.edges["segment_id"].to_numpy()
    split = set(ids[found.is_replaced].tolist())
    assert split == {10, 11, 14, 15}
    shown = tables(found)
    for name in ("scenario_segment", "scenario_link", "scenario_link_peak"):
        assert not split & set(shown[name]["segment_id"])
        assert len(shown[name]) == 19 * shown[name].groupby("segment_id").size().iloc[0]
    assert shown["scenario"]["n_segments"].iloc[0] == len(shown["scenario_segment"]) == 19
    parts = shown["scenario_link_peak"].query("segment_id < 0 and status != 'new'")
    assert (parts["speed_base"] == 40).all()
    np.testing.assert_allclose(parts["d_flow"], parts["flow_scn"] - 100, atol=1e-3)
    for metric in ("VKT", "VHT", "delay", "covered network"):
        assert number(found, metric, "base") == pytest.approx(number(plain, metric, "base"))
    for one, other in zip(_hourly(found), _hourly(plain), strict=True):
        assert one.iloc[0] == pytest.approx(other.iloc[0], rel=0.05)
    assert _hourly(found)[0].sum() == pytest.approx(_hourly(plain)[0].sum())
    whole = link_totals(found)
    assert whole.loc[found.is_replaced].isna().all(axis=None)
    streets = found.roads.edges["name"].to_numpy() == "South Street"
    assert np.nanmax(whole.loc[streets, "vehicles_base"]) == pytest.approx(2400)
    render_report([found, plain])  # on one network, as the parts are no other


def test_a_detour_that_nobody_takes_changes_no_totals(city: City) -> None:
    """A road at 5 km/h between the middles of two streets: they are split, and that is all."""
    line = "LINESTRING (10.0015 50.0, 10.0015 50.003)"
    found = go(Scenario("new").add_road(id="N", geometry=line, kmh=5), city)
    assert number(found, "VKT") == pytest.approx(0, abs=1e-3 * number(found, "VKT", "base"))
    ids = found.roads.edges["segment_id"].to_numpy()
    old = ids >= 0
    there = np.isfinite(found.links.speed_scn)
    np.testing.assert_allclose(
        found.links.speed_scn[there & old], found.links.speed_base[there & old], rtol=1e-4
    )
    new = found.links.status == STATUS.index("new")
    assert not found.links.significant[there & ~new].any()


# ---------------------------------------------------------------- horizons


@pytest.mark.parametrize(
    ("start", "hours", "minutes"),
    [("2026-11-22 22:00", 5, 10), ("2026-10-24 20:00", 30, 30), ("2026-03-28 20:00", 30, 60),
     ("2026-11-23 07:40", 1, 5), ("2026-11-21", 72, 60)],
)  # fmt: skip
def test_horizons_of_all_kinds(start: str, hours: int, minutes: int, city: City) -> None:
    """Over midnight, changes of clocks, days; parts of an hour: closed as the local clock says."""
    time = pd.date_range(start, periods=hours * 60 // minutes, freq=f"{minutes}min", tz="UTC")
    scenario = Scenario("night", timezone="Europe/Berlin").close(
        edges=[14], direction="forward", daily="23:00-10:00"
    )
    found = go(scenario, city, forecast=make_forecast(time=time.as_unit("us")))
    local = found.time.tz_convert("Europe/Berlin")
    held = (local.hour >= 23) | (local.hour < 10)
    gone = np.isnan(found.links.speed_scn[:, column_of(found, 14)])
    np.testing.assert_array_equal(gone, held)
    assert found.zone == "Europe/Berlin"
    vehicles = 100.0 * hours * make_town().edges["length_m"].sum() / 1000
    assert number(found, "VKT", "base") == pytest.approx(vehicles)
    tables(found)


def test_a_horizon_of_one_step(city: City) -> None:
    horizon = {"from": "2026-11-23T07:20:00", "to": "2026-11-23T07:30:00"}
    one = Scenario("one", timezone="UTC", horizon=horizon).close(name="Mid Road")
    found = go(one, city)
    assert len(found.time) == 1
    whole = 100.0 / 6 * make_town().edges["length_m"].sum() / 1000
    assert number(found, "VKT", "base") == pytest.approx(whole)


def test_trips_of_parts_of_an_hour_are_parts(city: City) -> None:
    """40 minutes of six pairs with 100 trips an hour: 400 trips."""
    horizon = {"from": "2026-11-23T07:20:00", "to": "2026-11-23T08:00:00"}
    found = go(Scenario("part", timezone="UTC", horizon=horizon), city)
    day = found.od[found.od["period"] == "day"]
    assert day["trips"].sum() == pytest.approx(400)


# ---------------------------------------------------------------- what is not known


def test_a_forecast_without_flows_has_those_of_the_past() -> None:
    """250 by day; VKT rests on them, and the report says so."""
    only = make_forecast(time=TIME)
    only = only.replace(
        values=only.values[..., :1], features=only.features[:1], mask=only.mask[..., :1]
    )
    found = go(WORKS, forecast=only, history=make_history())
    np.testing.assert_allclose(found.links.flow_base[8 * 6], 250, rtol=0.06)
    assert number(found, "VKT") != 0
    assert "has no flows of 13 segments; those that are usual" in str(found.report)


def test_a_forecast_without_flows_has_modelled_ones(city: City) -> None:
    """Without a past as well: all trips are on the streets, baseline and scenario."""
    only = make_forecast(time=TIME)
    only = only.replace(
        values=only.values[..., :1], features=only.features[:1], mask=only.mask[..., :1]
    )
    found = go(WORKS, city, forecast=only)
    assert np.isfinite(found.links.flow_base).all()
    assert found.links.flow_base[0].sum() > 600
    assert number(found, "VKT", "base") > 0
    assert "nothing is known of the flows of 13 segments" in str(found.report)
    outside = np.r_[0:44, 49:144]
    np.testing.assert_array_equal(found.links.flow_base[outside], found.links.flow_scn[outside])


def test_a_history_without_flows_tells_what_is_usual(city: City) -> None:
    found = go(WORKS, history=make_history(flow=False))
    assert found.method == "assignment"
    assert "no usual flows to fit them to" in str(found.report)
    assert found.card["drivers"] == "equilibrium"
    assert "AequilibraE" in found.card["engine"]


def test_without_a_forecast_the_usual_is_the_baseline() -> None:
    scenario = Scenario("works", timezone="UTC", horizon=TODAY).close(
        name="Mid Road", daily="07:00-09:00"
    )
    found = go(scenario, forecast=None, history=make_history())
    assert len(found.time) == 288
    np.testing.assert_allclose(found.links.speed_base, 40, atol=1)
    assert found.baseline == "what is usual at these hours"
    assert found.card["history"].startswith("336 hours from 2026-11-09")
    assert found.method == "assignment"


def test_without_demand_there_is_a_pattern(city: City) -> None:
    """Method diversion, with warnings, tables, and no times between zones."""
    found = go(WORKS, demand=None)
    assert found.method == "diversion"
    assert "is a pattern, not an amount" in str(found.report)
    assert "sent round by the flows alone" in str(found.report)
    assert found.card["warnings"]
    held = slice(44, 49)
    assert np.isnan(found.links.speed_scn[held, column_of(found, 20)]).all()
    assert (found.links.source == SOURCES.index("diversion")).all()
    shown = tables(found)
    assert not len(shown["scenario_od"])
    assert not len(shown["scenario_access"])
    assert "unserved trips" in set(found.summary["metric"])


def test_trips_that_are_cut_off_are_told(city: City) -> None:
    """Junction 6 closed off: an error with the trips, or left out if that is wanted."""
    cut = Scenario("cut").close(edges=[16, 17]).close(edges=[EAST], direction="forward")
    with pytest.raises(ConfigError, match=r"zone|trips"):
        go(cut, city)
    found = go(cut, city, allow_disconnect=True)
    lost = 4 * 100.0 * 24
    assert number(found, "unserved trips") == pytest.approx(lost)
    assert found.od["is_unreachable"].sum() == 4 * found.od["period"].nunique()


# ---------------------------------------------------------------- methods and errors


def test_the_same_seed_gives_the_same_numbers(city: City) -> None:
    first, second = (go(WORKS, city) for _ in range(2))
    assert first.run_id == second.run_id == f"20261123T050000Z-{first.run_id[-8:]}"
    for name in ("speed_scn", "flow_scn", "d_speed_low", "d_flow_high"):
        np.testing.assert_array_equal(getattr(first.links, name), getattr(second.links, name))
    pd.testing.assert_frame_equal(first.summary, second.summary)
    other = go(WORKS.extend("other"), city)
    assert other.run_id != first.run_id


def test_times_of_runs_are_utc(city: City) -> None:
    here = NOW.astimezone(dt.timezone(dt.timedelta(hours=9)))
    found = go(Scenario("none"), city, now=here)
    assert found.card["created"] == "2026-11-23T05:00:00Z"
    assert found.run_id.startswith("20261123T050000Z")


def test_a_given_city_is_a_fitted_one(city: City) -> None:
    """Fitting once for many is the same as fitting for each."""
    alone, given = go(WORKS), go(WORKS, city)
    np.testing.assert_array_equal(alone.links.speed_scn, given.links.speed_scn)
    np.testing.assert_array_equal(alone.links.flow_scn, given.links.flow_scn)


@pytest.mark.parametrize(
    ("scenario", "options", "match"),
    [
        (WORKS.extend("a", method="learned"), {}, "nothing was learned"),
        (WORKS.extend("a", method="assignment"), {"demand": None}, "needs to know who drives"),
        (WORKS.extend("a", method="simulate"), {"demand": None}, "needs `demand`"),
        (Scenario("a").set_weather(feature="rain", value=5), {}, "needs the trained model"),
        (Scenario("a").close(name="Mid Raod"), {}, "Mid Road"),
        (Scenario("a"), {"forecast": None}, "nothing to compare with"),
        (Scenario("a"), {"forecast": None, "history": make_history()}, "there is no forecast"),
        (Scenario("a", timezone="UTC",
                  horizon={"from": "2027-01-01T00:00:00", "to": "2027-01-02T00:00:00"}),
         {}, "not all in the forecast"),
        (Scenario("a").scale_demand(factor=2, from_zone="X"), {}, "no zone 'X'"),
    ],
)  # fmt: skip
def test_what_cannot_be_run(scenario: Scenario, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        go(scenario, **options)


def test_a_city_of_other_roads_is_refused(city: City) -> None:
    other = make_town(segment_id=np.arange(100, 113))
    with pytest.raises(ConfigError, match="`city` was fitted to other roads"):
        run(Scenario("none"), other, make_forecast(time=TIME), city=city)


def test_all_errors_are_told_at_once(city: City) -> None:
    bad = Scenario("bad").close(name="Mid Raod").set_speed(edges=[99], kmh=30)
    with pytest.raises(ConfigError, match=r"(?s)Mid Road.*99"):
        go(bad.set_weather(feature="rain", value=1), city)


@pytest.mark.parametrize("kind", ["forecast", "history"])
def test_graphs_that_cannot_be_used(kind: str) -> None:
    odd = make_forecast(time=TIME)
    odd = odd.replace(features=tuple(dataclasses.replace(f, unit="K") for f in odd.features))
    with pytest.raises(DataError, match=f"the {kind} cannot be used"):
        go(Scenario("none"), **{kind: odd})


def test_what_it_rests_on_is_told() -> None:
    found = go(WORKS, history=make_history())
    card = found.card
    assert card["method"] == "assignment"
    assert card["created"] == "2026-11-23T05:00:00Z"
    assert card["segments"] == 13
    assert {row["road_class"] for row in card["curves"]} == {"primary", "secondary", "residential"}
    assert "correlation" in card["fit of usual flows"]
    assert "warnings" not in card
    forecast = make_forecast(time=TIME)
    issued = {"issued_at": "2026-11-23T05:00:00Z", "model": "gru"}
    found = go(Scenario("none"), forecast=forecast.replace(provenance=issued))
    assert found.baseline == "gru, issued 2026-11-23T05:00:00Z"


LINE = "LINESTRING (10.0015 50.0, 10.0015 50.003)"
EVERY = {
    "close": Scenario("a").close(name="Mid Road"),
    "set_speed": Scenario("a").set_speed(name="Mid Road", direction="both", factor=0.5),
    "set_lanes": Scenario("a").set_lanes(edges=[10], direction="forward", lanes=1),
    "set_capacity": Scenario("a").set_capacity(edges=[20], direction="forward", factor=2.0),
    "roadworks": Scenario("a").roadworks(edges=[20], direction="forward", factor=0.5, kmh=20),
    "add_road": Scenario("a").add_road(id="N", geometry=LINE, kmh=50, oneway=True),
    "remove_road": Scenario("a").remove_road(name="Mid Road"),
    "reverse": Scenario("a").reverse(edges=[EAST]),
    "ban_turn": Scenario("a").ban_turn(from_={"edges": [10]}, to={"edges": [20]}),
    "add_demand": Scenario("a", timezone="UTC").add_demand(
        at={"zone": "A"}, trips=100, arrive={"daily": "07:00-08:00"}
    ),
    "scale_demand": Scenario("a").scale_demand(factor=1.5, to_zone="A"),
}


@pytest.mark.parametrize(
    ("op", "method"),
    [(op, "assignment") for op in EVERY]
    + [(op, "diversion") for op in EVERY if not op.endswith("demand")],
)
def test_every_operation_runs_by_every_method(op: str, method: Any, city: City) -> None:
    """What is open has a speed, what is not has none; tables and ranges hold."""
    time = make_time(24)[6:9]
    found = go(EVERY[op].extend("b", method=method), city, forecast=make_forecast(time=time))
    links = found.links
    gone = np.isin(links.status, [STATUS.index("closed"), STATUS.index("removed")])
    assert np.isnan(links.speed_scn[gone]).all()
    assert np.isnan(links.flow_scn[gone]).all()
    assert np.isfinite(links.speed_scn[~gone]).all()
    assert (links.speed_scn[~gone] > 0).all()
    assert (links.flow_scn[~gone] >= 0).all()
    known = np.isfinite(links.speed_scn - links.speed_base)
    assert (links.d_speed_low <= links.d_speed_high)[known].all()
    assert number(found, "covered network", "base") == pytest.approx(100)
    assert found.summary.set_index("metric")["change"].notna().all()
    left = (~found.is_replaced).sum()
    assert found.is_replaced.sum() == (4 if op == "add_road" else 0)
    assert len(tables(found)["scenario_link"]) == len(time) * left
