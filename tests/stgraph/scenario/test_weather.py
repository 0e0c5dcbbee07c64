"""Other weather: a model that has learned what rain does forecasts the town in the rain."""

from __future__ import annotations

import datetime as dt
import gc
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from learned_models import SMALL
from scenario_town import make_demand, make_forecast, make_town
from stgraph_connectors.sinks.graph_file import write_graph

from stgraph.cli import main
from stgraph.cli_scenario import _JobForecasts
from stgraph.config import TrainConfig
from stgraph.errors import ConfigError, InputError
from stgraph.forecasting import Forecaster
from stgraph.graph import Feature, STGraph
from stgraph.report import Report
from stgraph.scenario._street_totals import link_totals
from stgraph.scenario.checking import check
from stgraph.scenario.compare import compare
from stgraph.scenario.fitting import City, fit_city
from stgraph.scenario.report_page import write_report
from stgraph.scenario.result import SOURCES, STATUS, ScenarioResult
from stgraph.scenario.running import run
from stgraph.scenario.script import Scenario
from stgraph.scenario.tables import tables
from stgraph.scenario.weather import (
    check_features,
    forecast_with_weather,
    in_words,
    weather_of,
    weather_states,
)
from stgraph.training import fit

NOW = dt.datetime(2026, 11, 23, 5, tzinfo=dt.UTC)
H = 6
RAIN = Scenario("rain", timezone="UTC").set_weather(feature="rain", value=6, daily="02:00-04:00")
WET = np.array([False, False, True, True, False, False])
WORKS = Scenario("works", timezone="UTC").close(name="Mid Road", daily="03:00-05:00")


def make_readings(days: int = 14) -> STGraph:
    """Return the town by the hour: 1.5 km/h and 3 % of the cars less for each mm of rain.

    It is dry in the six hours that are to be forecast; the air's pressure means nothing.
    """
    T = 24 * days + H
    time = pd.date_range(end="2026-11-23 05:00", periods=T, freq="h", tz="UTC").as_unit("us")
    found = make_forecast(time=time)
    rng = np.random.default_rng(0)
    spells = np.where(rng.random(T // 6 + 1) < 0.4, rng.integers(1, 9, T // 6 + 1), 0.0)
    rain = np.repeat(spells, 6)[:T]
    rain[-H:] = 0.0
    values = np.concatenate([found.values, found.values[..., :1]], axis=-1)
    shape = values.shape[:2]
    by_day = 200.0 * ((time.hour >= 6) & (time.hour < 20)) + 50.0
    values[..., 0] = 40 - 1.5 * rain[:, None] + rng.normal(0, 0.2, shape)
    values[..., 1] = (by_day * (1 - 0.03 * rain))[:, None] * rng.uniform(0.98, 1.02, shape)
    values[..., 2] = rain[:, None]
    values[..., 3] = rng.normal(1013, 5, shape)
    mask = np.ones(values.shape, dtype=bool)
    mask[-H:, :, [0, 1, 3]] = False
    features = (*found.features, Feature("pressure", "hPa", "observed"))
    return found.replace(values=values.astype(np.float32), mask=mask, features=features)


READINGS = make_readings()


def fitted(model: str = "identity_mlp") -> Forecaster:
    options = SMALL.get(model, {})
    train = TrainConfig(max_epochs=12, learning_rate=1e-2, device="cpu")
    return fit(READINGS, model=model, options=options, window=6, horizon=H, train=train)


@pytest.fixture(scope="module")
def model() -> Forecaster:
    """A small network that has seen two weeks with and without rain."""
    return fitted()


@pytest.fixture(scope="module")
def city() -> City:
    return fit_city(make_town(), demand=make_demand(30.0))


def go(
    scenario: Scenario, model: Forecaster, city: City | None = None, **options: Any
) -> ScenarioResult:
    """Run a scenario with what the model forecasts, dry and as the scenario says."""
    told = forecast_with_weather(model, READINGS, scenario) if weather_of(scenario) else None
    forecast = model.forecast(READINGS)
    given: dict[str, Any] = {"with_weather": told, "demand": make_demand(30.0), "now": NOW}
    return run(scenario, make_town(), forecast, city=city, **{**given, **options})


def change(result: ScenarioResult, name: str = "speed") -> Any:
    return getattr(result.links, f"{name}_scn") - getattr(result.links, f"{name}_base")


# ---------------------------------------------------------------- the forecast


def test_the_model_forecasts_other_weather(model: Forecaster) -> None:
    """Speeds fall while it rains, nothing moves before, and readings are as they were."""
    before = READINGS.values.copy()
    dry, wet = model.forecast(READINGS), forecast_with_weather(model, READINGS, RAIN)
    assert dry.time.equals(wet.time)
    fall = (wet.values - dry.values)[..., 0].mean(axis=1)
    np.testing.assert_array_equal(fall[:2], 0)
    assert (fall[WET] < -1).all()
    assert (fall[WET] < fall[4:].min()).all()
    np.testing.assert_array_equal(READINGS.values, before)
    assert dry.provenance["known_future"] == {"rain": "mm/h"}
    assert dry.provenance["past_only"] == ["pressure"]
    (told,) = wet.provenance["weather"]
    assert in_words([told]) == "rain 6 mm/h 02:00-04:00"
    assert json.loads(json.dumps(dict(wet.provenance))) == dict(wet.provenance)
    assert not len(wet.report.warnings)


def test_only_what_the_model_looks_at_is_copied(
    model: Forecaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of long readings the window and the weeks before it; the forecast is the same to the bit."""
    long = make_readings(days=70)
    season = model.inputs.season_steps
    assert season  # else there would be little to look back at
    at = long.time[-3 * H]
    always = Scenario("wet").set_weather(feature="rain", value=6)
    values = long.values.copy()
    values[-3 * H + 1 : -2 * H + 1, :, 2] = 6
    by_hand = model.forecast(long.replace(values=values), at=at)
    given: list[int] = []
    forecast = Forecaster.forecast
    monkeypatch.setattr(
        Forecaster,
        "forecast",
        lambda self, graph, at: given.append(graph.n_steps) or forecast(self, graph, at=at),  # type: ignore[func-returns-value]
    )
    found = forecast_with_weather(model, long, always, at=at)
    np.testing.assert_array_equal(found.values, by_hand.values)
    assert found.time.equals(by_hand.time)
    assert given == [6 + 4 * season + H]
    # what training has seen is looked for in all of the readings
    assert not found.report.warnings


def test_what_holds_already_changes_nothing(model: Forecaster) -> None:
    """Setting the rain to what is forecast gives the same forecast, to the last digit."""
    dry = Scenario("dry").set_weather(feature="rain", value=0)
    told, plain = forecast_with_weather(model, READINGS, dry), model.forecast(READINGS)
    np.testing.assert_array_equal(told.values, plain.values)


def test_the_past_stays_as_it_was(model: Forecaster) -> None:
    """Without a window it rains from now on, not in the hours that were measured."""
    always = Scenario("wet").set_weather(feature="rain", value=6)
    wet = forecast_with_weather(model, READINGS, always)
    values = READINGS.values.copy()
    values[-H:, :, 2] = 6
    by_hand = model.forecast(READINGS.replace(values=values))
    np.testing.assert_array_equal(wet.values, by_hand.values)


def test_the_last_one_that_overrides_holds(model: Forecaster) -> None:
    twice = RAIN.set_weather(feature="rain", value=2, daily="03:00-04:00", override=True)
    values = READINGS.values.copy()
    values[-4, :, 2], values[-3, :, 2] = 6, 2
    by_hand = model.forecast(READINGS.replace(values=values))
    found = forecast_with_weather(model, READINGS, twice)
    np.testing.assert_array_equal(found.values, by_hand.values)


def test_an_instant_of_the_past(model: Forecaster) -> None:
    """`at` as for a forecast: windows are those of the hours that follow."""
    at = READINGS.time[-30]
    wet = forecast_with_weather(
        model, READINGS, Scenario("wet").set_weather(feature="rain", value=8), at=at
    )
    assert wet.time[0] == READINGS.time[-29]
    noon = pd.Timestamp("2026-11-22 12:00", tz="UTC")
    with pytest.raises(ConfigError, match=r"operation 1 \(set_weather\).*covers no step"):
        forecast_with_weather(model, READINGS, RAIN, at=noon)


def test_weather_that_nobody_has_seen_is_warned_of(model: Forecaster) -> None:
    storm = Scenario("storm").set_weather(feature="rain", value=60)
    told = forecast_with_weather(model, READINGS, storm)
    assert "'rain' 60 mm/h was never seen in training; it was 0 to 8 mm/h" in str(told.report)
    found = go(storm, model)
    assert "'rain' 60 mm/h was never seen in training" in str(found.report)
    values = READINGS.values.copy()
    values[..., 2] = 3
    still = READINGS.replace(values=values)
    told = forecast_with_weather(model, still, storm)
    assert "'rain' was 3 mm/h in all of the training" in str(told.report)


@settings(max_examples=40, deadline=None)
@given(
    windows=st.lists(
        st.tuples(st.integers(0, 23), st.integers(1, 24)).filter(lambda w: w[0] < w[1]), max_size=4
    )
)
def test_states_are_those_of_the_windows(windows: list[tuple[int, int]]) -> None:
    """Two hours have the same number exactly if the same operations hold in both."""
    time = pd.date_range("2026-11-23", periods=24, freq="h", tz="UTC")
    scenario = Scenario("x", timezone="UTC")
    for a, b in windows:
        scenario = scenario.set_weather(feature="rain", value=1, daily=f"{a:02}:00-{b:02}:00")
    state = weather_states(scenario.operations, time, "UTC")
    held = [tuple(a <= hour < b for a, b in windows) for hour in range(24)]
    for i in range(24):
        for j in range(24):
            assert (state[i] == state[j]) == (held[i] == held[j])


# ---------------------------------------------------------------- what a scenario makes of it


@pytest.mark.parametrize("method", ["auto", "assignment", "learned", "diversion", "simulate"])
def test_nothing_but_weather(model: Forecaster, city: City, method: Any) -> None:
    """By every method the effect is that of the forecasts, compared with the ordinary one."""
    found = go(RAIN.extend("wet", method=method), model, city)
    links = found.links
    dry, wet = model.forecast(READINGS), forecast_with_weather(model, READINGS, RAIN)
    for position, name in ((0, "speed"), (4, "flow")):
        np.testing.assert_array_equal(getattr(links, f"{name}_base"), dry.values[..., position])
        np.testing.assert_array_equal(getattr(links, f"{name}_scn"), wet.values[..., position])
    assert found.method == "forecast"
    assert found.baseline.startswith("identity_mlp, issued 2026-11-22T23:00")
    assert (links.source == SOURCES.index("forecast")).all()
    assert (links.status == STATUS.index("normal")).all()
    assert not links.significant[:2].any()
    assert links.significant[WET].all()
    assert not change(found)[:2].any()
    assert found.card["weather set"] == "rain 6 mm/h 02:00-04:00"
    # nothing of curves and drivers, which had no say
    assert not {"curves", "drivers", "engine", "warnings"} & set(found.card)
    assert not found.report.warnings
    totals = found.summary.set_index("metric")
    assert totals.loc["mean speed", "change"] < 0
    assert totals.loc["OD time, mean", "change"] > 0
    assert totals.loc["unserved trips", "change"] == 0
    assert len(tables(found)["scenario_link"]) == links.speed_scn.size


def test_the_range_is_that_of_mean_and_quantiles(model: Forecaster, city: City) -> None:
    """By hand: the least and the most that mean, 10, 50 and 90 % move by."""
    found = go(RAIN, model, city)
    dry, wet = model.forecast(READINGS), forecast_with_weather(model, READINGS, RAIN)
    moves = (wet.values - dry.values)[..., :4]
    np.testing.assert_allclose(found.links.d_speed_low, moves.min(axis=-1), atol=1e-4)
    np.testing.assert_allclose(found.links.d_speed_high, moves.max(axis=-1), atol=1e-4)
    rows = found.summary.dropna()
    assert (rows["low"] <= rows["change"]).all()
    assert (rows["change"] <= rows["high"]).all()
    speed = found.summary.set_index("metric").loc["mean speed"]
    assert speed["low"] < speed["high"] < 0


@pytest.mark.parametrize("names", [["speed", "flow"], ["speed", "speed_q50", "flow", "flow_q50"]])
@pytest.mark.parametrize("method", ["auto", "assignment", "diversion"])
def test_without_quantiles_no_range_is_known(
    model: Forecaster, city: City, method: Any, names: list[str]
) -> None:
    """Nowhere: of segments, trips and totals; the noise says what is significant."""
    scenario = RAIN if method == "auto" else RAIN.close(name="Mid Road", daily="03:00-05:00")
    scenario = scenario.extend("bare", method=method)
    dry, wet = model.forecast(READINGS), forecast_with_weather(model, READINGS, scenario)
    bare = [one.select_features(names) for one in (dry, wet)]
    demand = make_demand(30.0)
    found = run(scenario, make_town(), bare[0], with_weather=bare[1], city=city, demand=demand)
    links = found.links
    for low, high in (
        (links.d_speed_low, links.d_speed_high),
        (links.d_flow_low, links.d_flow_high),
    ):
        np.testing.assert_array_equal(low[:2], 0)  # before the rain nothing is unsure
        np.testing.assert_array_equal(high[:2], 0)
        assert np.isnan(low[WET]).all()
        assert np.isnan(high[WET]).all()
    assert links.significant[WET].all()
    assert not links.significant[:2].any()
    assert found.summary[["low", "high"]].isna().all(axis=None)
    assert found.od[["d_min_low", "d_min_high"]].isna().all(axis=None)
    frames = tables(found)
    peak = frames["scenario_link_peak"]
    ends = ["d_speed_low", "d_speed_high", "d_flow_low", "d_flow_high"]
    assert peak[peak["d_speed"].notna() & (peak["d_speed"] != 0)][ends].isna().all(axis=None)
    totals = link_totals(found)[["vehicles_low", "delay_high"]]
    assert totals[~(links.status == STATUS.index("closed")).any(axis=0)].isna().all(axis=None)
    assert "how sure the effect of the weather is cannot be told" in str(found.report)


def test_weather_that_changes_nothing_takes_no_range(model: Forecaster, city: City) -> None:
    """Without quantiles as well: that of what else a scenario does is all there is."""
    dry = model.forecast(READINGS).select_features(["speed", "flow"])
    both = WORKS.set_weather(feature="rain", value=0)
    given: dict[str, Any] = {"city": city, "demand": make_demand(30.0)}
    found = run(both, make_town(), dry, with_weather=dry, **given)
    alone = run(WORKS, make_town(), dry, **given)
    np.testing.assert_array_equal(found.links.d_flow_high, alone.links.d_flow_high)
    np.testing.assert_array_equal(found.summary["low"], alone.summary["low"])
    assert found.summary["low"].notna().any()


def test_without_demand_weather_is_no_pattern(model: Forecaster) -> None:
    """Nobody has to be sent round, so that nothing is missing."""
    found = go(RAIN, model, demand=None)
    assert found.method == "forecast"
    assert "nothing is known of who drives where" not in str(found.report)
    assert "unserved trips" not in set(found.summary["metric"])
    assert found.links.significant[WET].all()


@pytest.mark.parametrize("method", ["assignment", "diversion"])
def test_closures_go_on_top_of_the_weather(model: Forecaster, city: City, method: Any) -> None:
    """Speeds by the ratio, flows by the difference; where neither holds, the last digit."""
    both = RAIN.close(name="Mid Road", daily="03:00-05:00").extend("both", method=method)
    found = go(both, model, city)
    wet, closed = go(RAIN, model, city), go(WORKS.extend("works", method=method), model, city)
    links = found.links
    np.testing.assert_array_equal(links.speed_base, closed.links.speed_base)
    # at 2 it rains only, at 4 and 5 it has rained; then the street is closed at 3 and 4
    np.testing.assert_array_equal(links.speed_scn[[0, 1]], links.speed_base[[0, 1]])
    np.testing.assert_array_equal(links.speed_scn[[2, 5]], wet.links.speed_scn[[2, 5]])
    np.testing.assert_array_equal(links.flow_scn[[2, 5]], wet.links.flow_scn[[2, 5]])
    assert (links.source[[0, 1, 2, 5]] == SOURCES.index("forecast")).all()
    shut = links.status[3] == STATUS.index("closed")
    assert shut.sum() == 2
    assert np.isnan(links.speed_scn[3:5][:, shut]).all()
    more = closed.links.flow_scn[3] - closed.links.flow_base[3]
    np.testing.assert_allclose(
        (links.flow_scn[3] - wet.links.flow_scn[3])[~shut], more[~shut], atol=6
    )
    slower = closed.links.speed_scn[3] / closed.links.speed_base[3]
    np.testing.assert_allclose(
        (links.speed_scn[3] / wet.links.speed_scn[3])[~shut], slower[~shut], rtol=0.02
    )
    known = np.isfinite(change(found))
    assert (links.d_speed_low <= change(found) + 1e-4)[known].all()
    assert (links.d_speed_high >= change(found) - 1e-4)[known].all()
    assert found.method == method
    assert links.significant[2].all()


def test_simulated_closures_go_on_top(model: Forecaster, city: City) -> None:
    pytest.importorskip("uxsim")
    both = RAIN.close(name="Mid Road", daily="03:00-05:00").extend("both", method="simulate")
    found, closed = go(both, model, city), go(WORKS.extend("w", method="simulate"), model, city)
    links, wet = found.links, forecast_with_weather(model, READINGS, RAIN)
    there = np.isfinite(links.speed_scn)
    ratio = closed.links.speed_scn / closed.links.speed_base
    expected = wet.values[..., 0] * ratio
    np.testing.assert_allclose(links.speed_scn[there], expected[there], rtol=1e-4)
    assert found.method == "simulate"


def test_more_trips_in_the_rain(model: Forecaster, city: City) -> None:
    """Twice the trips: what they add in the dry is added in the rain."""
    more = Scenario("more").scale_demand(factor=2)
    both = more.set_weather(feature="rain", value=6)
    dry, wet = go(more, model, city), go(both, model, city)
    rained = go(Scenario("wet").set_weather(feature="rain", value=6), model, city)
    np.testing.assert_allclose(
        change(wet, "flow"), change(dry, "flow") + change(rained, "flow"), atol=0.5
    )
    assert wet.method == "assignment"
    assert (wet.links.source == SOURCES.index("assignment")).any()


def test_a_part_of_the_forecast(model: Forecaster, city: City) -> None:
    """Of a shorter horizon, hours before it have their weather as well; times are local."""
    horizon = {"from": "2026-11-23 03:00", "to": "2026-11-23 06:00"}
    whole, part = (
        go(one.set_weather(feature="rain", value=6), model, city)
        for one in (
            Scenario("whole"),
            Scenario("part", timezone="Europe/Berlin", horizon=horizon),
        )
    )
    assert part.time.equals(whole.time[2:5])
    np.testing.assert_array_equal(part.links.speed_scn, whole.links.speed_scn[2:5])
    local = Scenario("x", timezone="Europe/Berlin").set_weather(
        feature="rain", value=6, daily="03:00-05:00"
    )
    np.testing.assert_array_equal(
        forecast_with_weather(model, READINGS, local).values,
        forecast_with_weather(model, READINGS, RAIN).values,
    )


def test_noise_is_that_of_the_hours_with_such_weather(model: Forecaster, city: City) -> None:
    """An effect of 1.2 km/h is none in one hour, and is one in the mean of six."""
    dry = make_forecast(time=model.forecast(READINGS).time).select_features(["speed", "flow"])
    for hours, wanted in ((1, False), (6, True)):
        wet = dry.values.copy()
        wet[:hours, :, 0] -= 1.2
        scenario = Scenario("x", timezone="UTC").set_weather(
            feature="rain", value=1, daily=f"00:00-{hours:02}:00"
        )
        found = run(
            scenario, make_town(), dry, with_weather=dry.replace(values=wet), city=city
        )  # fmt: skip
        assert (found.links.significant[0] == wanted).all()


def test_weather_is_compared_with_closures(model: Forecaster, city: City) -> None:
    """On one baseline, without a warning that the methods differ."""
    wet, closed = go(RAIN, model, city), go(WORKS, model, city)
    found = compare([wet, closed])
    assert not len(found.report.warnings)
    assert found.change.loc["mean speed", "rain"] < 0


def test_without_flows_there_are_modelled_ones(model: Forecaster, city: City) -> None:
    """They are the same in any weather; speeds are those of the forecasts."""
    names = [name for name in model.forecast(READINGS).feature_names if "speed" in name]
    dry = model.forecast(READINGS).select_features(names)
    wet = forecast_with_weather(model, READINGS, RAIN).select_features(names)
    demand = make_demand(30.0)
    found = run(RAIN, make_town(), dry, with_weather=wet, city=city, demand=demand)
    np.testing.assert_array_equal(found.links.flow_scn, found.links.flow_base)
    assert np.isfinite(found.links.flow_scn).all()
    np.testing.assert_array_equal(found.links.speed_scn, wet.values[..., 0])
    assert found.method == "assignment"


def test_a_split_street_has_its_weather(model: Forecaster, city: City) -> None:
    line = "LINESTRING (10.0015 50.0, 10.0015 50.003)"
    built = RAIN.add_road(id="N", geometry=line, kmh=5, lanes=1)
    found, wet = go(built, model, city), forecast_with_weather(model, READINGS, RAIN)
    edges = found.roads.edges
    assert edges is not None
    ids = edges["segment_id"].to_numpy()
    part = (ids < 0) & (found.links.status[2] != STATUS.index("new"))
    assert part.any()
    at_two = found.links.speed_scn[2][part]
    assert at_two.max() < wet.values[2, :, 0].max() + 1
    assert np.isfinite(found.links.speed_scn[:, found.links.status[0] == STATUS.index("new")]).all()


def test_a_model_that_does_not_look_is_told_of(city: City) -> None:
    found = go(RAIN, fitted("profile_decay"), city)
    assert "changes nothing: profile_decay forecasts the same" in str(found.report)
    assert not change(found).any()
    assert not found.links.significant.any()
    assert not found.summary["change"].any()


def test_it_is_on_the_page(model: Forecaster, city: City, tmp_path: Path) -> None:
    write_report([go(RAIN, model, city)], tmp_path / "rain.html")
    text = (tmp_path / "rain.html").read_text()
    for words in ("rain 6 mm/h 02:00-04:00", "set weather", "the forecast itself, made with other"):
        assert words in text


# ---------------------------------------------------------------- what is wrong


def test_all_features_that_cannot_be_set_are_named(model: Forecaster) -> None:
    wrong = (
        Scenario("w", timezone="UTC")
        .set_weather(feature="rian", value=1)
        .set_weather(feature="pressure", value=1000)
        .set_weather(feature="speed", value=30)
        .set_weather(feature="rain", value=1, daily="12:00-13:00")
    )
    with pytest.raises(ConfigError, match="4 problem") as caught:
        forecast_with_weather(model, READINGS, wrong)
    text = str(caught.value)
    assert "knows no future feature 'rian'; the nearest are 'rain'; use one of rain" in text
    assert "'pressure' is not known ahead: the model looks at its past only" in text
    assert "'speed' is not known ahead: it is what the model forecasts" in text
    assert "operation 4 (set_weather) `window`: 12:00-13:00 covers no step" in text
    _, report = check(
        wrong, make_town(), time=model.forecast(READINGS).time, forecast=model.forecast(READINGS)
    )
    assert {str(error) for error in report.errors} >= set(text.replace("- ", "").splitlines()[1:4])


def test_a_model_without_any_future(city: City) -> None:
    bare = READINGS.select_features(["speed", "flow"])
    model = fit(bare, model="profile_decay", window=6, horizon=H)
    with pytest.raises(ConfigError, match="'rain'; train one with such features"):
        forecast_with_weather(model, bare, RAIN)
    with pytest.raises(ConfigError, match=r"(?s)needs the trained model") as caught:
        run(RAIN.close(name="Mid Raod"), make_town(), model.forecast(bare), city=city)
    assert "train one with such features" in str(caught.value)
    assert "'Mid Road'" in str(caught.value)


@pytest.mark.parametrize(
    ("scenario", "other", "match"),
    [
        (WORKS, RAIN, "no operation sets weather; leave it out"),
        (RAIN, None, "operation 1 .set_weather.: needs the trained model that made the forecast"),
        (
            RAIN.set_weather(feature="rain", value=1, daily="04:00-05:00"),
            RAIN,
            "has rain 6 mm/h 02:00-04:00, the scenario rain 6 mm/h 02:00-04:00, rain 1 mm/h",
        ),
    ],
)
def test_a_forecast_that_does_not_fit(
    scenario: Scenario, other: Scenario | None, match: str, model: Forecaster, city: City
) -> None:
    told = None if other is None else forecast_with_weather(model, READINGS, other)
    with pytest.raises(ConfigError, match=match):
        go(scenario, model, city, with_weather=told)


def test_a_forecast_of_another_instant_or_model(model: Forecaster, city: City) -> None:
    at = READINGS.time[-H - 2]
    told = forecast_with_weather(
        model, READINGS, Scenario("wet").set_weather(feature="rain", value=6), at=at
    )
    odd = told.replace(provenance={**told.provenance, "model": "another"})
    always = Scenario("wet").set_weather(feature="rain", value=6)
    with pytest.raises(ConfigError, match="3 problem") as caught:
        go(always, model, city, with_weather=odd)
    for words in (
        "is for 6 steps from",
        "is of the model 'another'",
        "is issued at '2026-11-22T22",
    ):
        assert words in str(caught.value)


def test_a_forecast_of_other_nodes_or_features(model: Forecaster, city: City) -> None:
    """What only one of the two knows would have no change, or a range of other quantiles."""
    wet = forecast_with_weather(model, READINGS, RAIN)
    names = [name for name in wet.feature_names if name != "flow_q90"]
    part = wet.select_nodes(list(wet.node_ids[:7])).select_features(names)
    with pytest.raises(ConfigError, match="2 problem") as caught:
        go(RAIN, model, city, with_weather=part)
    assert "`with_weather`: lacks 6 of 13 nodes" in str(caught.value)
    assert "`with_weather`: lacks 1 of 8 features: flow_q90" in str(caught.value)
    short = model.forecast(READINGS).select_nodes(list(wet.node_ids[:12]))
    with pytest.raises(ConfigError, match="`with_weather`: alone has 1 of 13 nodes"):
        run(RAIN, make_town(), short, with_weather=wet, city=city)
    # the order is of no matter: ids are
    turned = wet.select_nodes(list(wet.node_ids[::-1]))
    found, same = go(RAIN, model, city, with_weather=turned), go(RAIN, model, city)
    np.testing.assert_array_equal(found.links.speed_scn, same.links.speed_scn)


def test_what_is_not_known_in_the_rain_only_is_said(model: Forecaster, city: City) -> None:
    wet = forecast_with_weather(model, READINGS, RAIN)
    mask = wet.mask.copy()
    mask[:, :2, wet.feature_names.index("flow")] = False
    found = go(RAIN, model, city, with_weather=wet.replace(mask=mask))
    assert "`with_weather`: nothing is known of the flows of 2 segments" in str(found.report)
    bare = model.forecast(READINGS).replace(mask=mask), wet.replace(mask=mask)
    both = run(RAIN, make_town(), bare[0], with_weather=bare[1], city=city)
    assert str(both.report).count("nothing is known of the flows of 2 segments") == 1


def test_forecasts_of_others_are_taken_as_they_are(model: Forecaster, city: City) -> None:
    """Two forecasts that nobody has noted anything of: their difference counts."""
    dry = make_forecast(time=model.forecast(READINGS).time).select_features(["speed", "flow"])
    wet = dry.replace(values=dry.values * np.float32(0.9))
    found = run(RAIN, make_town(), dry, with_weather=wet, city=city)
    np.testing.assert_allclose(found.links.speed_scn, 36, rtol=1e-6)
    assert found.card["weather set"] == "rain 6 02:00-04:00"
    assert "is not checked without knowing the features of the model" in str(found.report)


def test_features_are_checked_by_role() -> None:
    report = Report()
    check_features(
        [(3, weather_of(RAIN)[0][1])], (Feature("rain", "mm", "static"), Feature("x")), report
    )
    assert "operation 3 (set_weather), `feature`: 'rain' is not known ahead" in str(
        report.errors[0]
    )


# ---------------------------------------------------------------- files


JOB = """\
[data]
connector = "stations"
stations = "segments.csv"
readings = "readings.csv"
units = { speed = "km/h", flow = "veh/h", rain = "mm/h" }
roles = { rain = "known_future" }
zone = "UTC"
[graph]
method = "none"
[windows]
window = 6
horizon = 6
[model]
name = "identity_mlp"
hidden_size = 8
node_embedding_size = 4
n_layers = 1
[train]
max_epochs = 12
learning_rate = 0.01
device = "cpu"
[evaluate]
baselines = ["persistence"]
[forecast]
at = "2026-11-22T23:00Z"
[run]
folder = "runs"
"""
FILE = """\
timezone: UTC
baseline:
  roads: {connector: graph, path: town.gpkg}
  job: job.toml
demand: {od: {matrix: od.csv, zones: zones.csv}, per: hour}
outputs: {geopackage: rain.gpkg, report: rain.html}
scenario:
  - name: rain
    sweep: {mm: [3, 6]}
    operations:
      - set_weather: {feature: rain, value: "${mm}", daily: 02:00-04:00}
  - name: both
    extends: rain
    sweep: {mm: [4]}
    operations:
      - close: {name: Mid Road, daily: 03:00-05:00}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a town, a job that is trained, and scenarios in the rain."""
    folder = tmp_path_factory.mktemp("rain")
    write_graph(make_town(), folder / "town.gpkg")
    ids = [str(name) for name in READINGS.node_ids]
    places = [f"{name},50.{i:03},10.0" for i, name in enumerate(ids)]
    (folder / "segments.csv").write_text("\n".join(["id,lat,lon", *places]))
    T, N = READINGS.values.shape[:2]
    values = np.where(READINGS.mask, READINGS.values, np.nan)[..., :3].reshape(T * N, 3)
    table = pd.DataFrame(values, columns=["speed", "flow", "rain"])
    table.insert(0, "id", np.tile(ids, T))
    table.insert(0, "time", np.repeat(READINGS.time.strftime("%Y-%m-%dT%H:%M:%SZ"), N))
    table.to_csv(folder / "readings.csv", index=False)
    (folder / "od.csv").write_text("origin,destination,trips\n1,5,30\n5,1,30\n3,4,30\n")
    zones = ["1,50.0,10.0", "5,50.003,10.003", "3,50.0,10.006", "4,50.003,10.0"]
    (folder / "zones.csv").write_text("\n".join(["id,lat,lon", *zones]))
    (folder / "job.toml").write_text(JOB)
    (folder / "rain.yaml").write_text(FILE)
    assert main(["fit", str(folder / "job.toml"), "-q"]) == 0
    return folder


def test_a_file_in_the_rain(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a trained job to layers and page; the job is read once for the baseline and all rain."""
    monkeypatch.chdir(folder)
    capsys.readouterr()
    from stgraph import pipeline

    read: list[str] = []
    load = pipeline.load_graph
    monkeypatch.setattr(
        pipeline, "load_graph", lambda job: read.append("job") or load(job)  # type: ignore[func-returns-value]
    )  # fmt: skip
    assert main(["scenario", "run", "rain.yaml", "--json", "-q"]) == 0
    shown = json.loads(capsys.readouterr().out)["scenarios"]
    assert read == ["job"]
    assert [one["name"] for one in shown] == ["rain mm=3", "rain mm=6", "both mm=4"]
    assert [one["method"] for one in shown] == ["forecast", "forecast", "assignment"]
    speed = [
        next(row["change"] for row in one["summary"] if row["metric"] == "mean speed")
        for one in shown
    ]
    assert speed[1] < speed[0] < 0
    assert "rain 6 mm/h 02:00-04:00" in Path("rain.html").read_text()
    assert Path("rain.gpkg").is_file()
    assert main(["scenario", "check", "rain.yaml"]) == 0
    assert "rain 6" in capsys.readouterr().out


def test_readings_of_jobs_are_let_go_before_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which takes minutes and memory of its own; readings may be years long."""
    monkeypatch.chdir(folder)
    from stgraph import pipeline
    from stgraph.scenario import running_files

    read: list[weakref.ref[STGraph]] = []
    left: list[bool] = []
    load, fit_all = pipeline.load_graph, running_files._fit_all

    def noting(job: Any) -> STGraph:
        graph = load(job)
        read.append(weakref.ref(graph))
        return graph

    def looking(*given: Any) -> list[City]:
        gc.collect()
        left.extend(one() is not None for one in read)
        return fit_all(*given)

    monkeypatch.setattr(pipeline, "load_graph", noting)
    monkeypatch.setattr(running_files, "_fit_all", looking)
    words = ["rain.yaml", "--only", "rain mm=3", "--out", "let_go.gpkg", "-q"]
    assert main(["scenario", "run", *words]) == 0
    assert left == [False]
    capsys.readouterr()


def test_what_is_wrong_in_a_file_is_said_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of all scenarios at once, by check and by run; with a horizon of its own as well."""
    monkeypatch.chdir(folder)
    wrong = FILE.replace("feature: rain", "feature: snow").replace("name: Mid Road", "name: Mid")
    wrong += "horizon: {from: 2026-11-23 00:00, to: 2026-11-23 05:00}\n"
    Path("wrong.yaml").write_text(wrong)
    for command in ("check", "run"):
        assert main(["scenario", command, "wrong.yaml"]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert "'rain mm=3', operation 1 (set_weather), `feature`" in error
        assert "knows no future feature 'snow'" in error
        assert "'both mm=4', operation 2 (close)" in error


def test_a_file_of_a_forecast_is_not_enough(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    source = "forecast: {stations: segments.csv, readings: readings.csv, units: {speed: km/h}}"
    text = FILE.replace("job: job.toml", source).replace("name: Mid Road", "name: Mid")
    Path("alone.yaml").write_text(text)
    for command in ("check", "run"):
        assert main(["scenario", command, "alone.yaml"]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert "'rain mm=3', operation 1 (set_weather): needs the trained model" in error
        assert "name the job of the model as `baseline.job`" in error
        assert "'both mm=4', operation 2 (close)" in error


def test_a_known_future_that_ends_too_early(model: Forecaster) -> None:
    short = READINGS.select_steps(0, READINGS.n_steps - 2)
    with pytest.raises(InputError, match="'rain' has role known_future but no value"):
        forecast_with_weather(model, short, RAIN)


def test_stations_on_roads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rain falls on the stations of a job with roads, and their forecast goes to all segments."""
    monkeypatch.chdir(folder)
    edges = make_town().edges
    assert edges is not None
    # not at the middle, where those of opposite ways would be the same
    places = shapely.line_interpolate_point(edges.geometry.to_numpy(), 0.4, normalized=True)
    rows = [f"{i},{p.y},{p.x}" for i, p in zip(edges["segment_id"], places, strict=True)]
    Path("stations.csv").write_text("\n".join(["id,lat,lon", *rows]))
    roads = '[roads]\nconnector = "graph"\npath = "town.gpkg"\nlearn = false\ndraws = 0\n[run]'
    text = JOB.replace("segments.csv", "stations.csv").replace('"runs"', '"roads"')
    Path("roads.toml").write_text(text.replace("[run]", roads))
    assert main(["fit", "roads.toml", "-q"]) == 0
    forecasts = _JobForecasts()
    dry, wet = forecasts(Path("roads.toml")), forecasts(Path("roads.toml"), RAIN)
    assert dry.time.equals(wet.time)
    assert dry.n_nodes == 13
    assert (dry.nodes["kind"] == "segment").all()
    fall = (wet.values - dry.values)[..., dry.feature_names.index("speed")]
    assert not fall[:2].any()
    assert (fall[WET] < -1).all()
    assert in_words(wet.provenance["weather"]) == "rain 6 mm/h 02:00-04:00"
    found = run(RAIN, make_town(), dry, with_weather=wet, demand=make_demand(30.0))
    np.testing.assert_array_equal(found.links.speed_scn - found.links.speed_base, fall)
