"""What happens between zones, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scenario_town import make_demand, make_forecast, make_time, make_town

from stgraph.errors import ConfigError
from stgraph.scenario.fitting import City, fit_city
from stgraph.scenario.result import ScenarioResult
from stgraph.scenario.running import run
from stgraph.scenario.script import Scenario
from stgraph.scenario.summary import trip_numbers
from stgraph.scenario.tables import tables

WORKS = Scenario("works", timezone="UTC").close(edges=[10, 11], daily="07:00-10:00")
TRIPS = ["OD time, mean", "OD time, p90", "trips over 5 min longer"]


@pytest.fixture(scope="module")
def city() -> City:
    return fit_city(make_town(), demand=make_demand(150.0))


def go(scenario: Scenario, city: City) -> ScenarioResult:
    forecast = make_forecast(time=make_time())
    return run(scenario, make_town(), forecast, demand=make_demand(150.0), city=city)


def test_ranges_hold_what_is_shown(city: City) -> None:
    """Of every pair, of what can be reached, and of the summary; some are wider than nothing."""
    found = go(WORKS, city)
    change = found.od["tt_scn_min"] - found.od["tt_base_min"]
    assert (found.od["d_min_low"] <= change).all()
    assert (change <= found.od["d_min_high"]).all()
    slower = found.od[(found.od["period"] == "am") & (change > 0.1)]
    assert (slower["d_min_high"] - slower["d_min_low"] > 0.01).any()
    for name in ("zones_15", "zones_30"):
        change = found.access[f"{name}_scn"] - found.access[f"{name}_base"]
        assert (found.access[f"{name}_low"] <= change).all()
        assert (change <= found.access[f"{name}_high"]).all()
    rows = found.summary.set_index("metric").loc[TRIPS]
    assert (rows["low"] <= rows["change"]).all()
    assert (rows["change"] <= rows["high"]).all()
    mean = rows.loc["OD time, mean"]
    assert 0 < mean["low"] < mean["change"] < mean["high"]
    shown = tables(found)
    assert (shown["scenario_od"]["d_min_low"] <= shown["scenario_od"]["d_min"]).all()
    assert shown["scenario_access"][["low", "high"]].notna().all(axis=None)


def test_nothing_is_nothing_for_sure(city: City) -> None:
    found = go(Scenario("none"), city)
    assert not found.od[["d_min_low", "d_min_high"]].any(axis=None)
    assert not found.access[["zones_15_low", "zones_15_high"]].any(axis=None)
    assert not found.summary.set_index("metric").loc[TRIPS, ["low", "high"]].any(axis=None)


def test_who_is_cut_off_has_no_range(city: City) -> None:
    cut = Scenario("cut").close(edges=[16, 17]).close(edges=[22], direction="forward")
    found = run(
        cut, make_town(), make_forecast(time=make_time()[7:9]), demand=make_demand(150.0),
        city=city, allow_disconnect=True,
    )  # fmt: skip
    gone = found.od["is_unreachable"]
    assert gone.any()
    assert found.od.loc[gone, ["d_min_low", "d_min_high"]].isna().all(axis=None)
    assert found.od.loc[~gone, ["d_min_low", "d_min_high"]].notna().all(axis=None)


def test_trips_are_counted_as_told() -> None:
    """Two pairs: 10 trips of 4 minutes that take 10, and 30 of 2 minutes that stay so."""
    import pandas as pd

    from stgraph.scenario.od_times import ODTimes

    base = np.array([[[0.0, 4.0], [2.0, 0.0]]])
    scn = np.array([[[0.0, 10.0], [2.0, 0.0]]])
    hours = pd.DatetimeIndex(["2026-11-23T07:00Z"])
    od = ODTimes(pd.Index(["A", "B"]), hours, base, scn)
    trips = np.array([[[99.0, 10.0], [30.0, 99.0]]])
    found: Any = trip_numbers(od, trips)
    assert list(found) == TRIPS
    assert list(found.values()) == [pytest.approx(4.0), 10.0, 25.0]
    before: Any = trip_numbers(od, trips, network="base")
    assert list(before.values()) == [pytest.approx(2.5), 4.0, 0.0]
    none = ODTimes(od.zones, hours, base, np.full_like(scn, np.inf))
    assert all(np.isnan(value) for value in trip_numbers(none, trips).values())


def test_areas_within_reach_of_the_zones_that_were_asked_for(city: City) -> None:
    """Both networks, each limit, each part of the day; smaller where a street is closed."""
    zone = str(make_demand(150.0).zones.index[0])
    asked = {"isochrones": {"from": [zone], "minutes": [2, 1]}}
    found = go(Scenario(**{**dict(WORKS), "outputs": asked}), city)
    areas = found.isochrones
    assert areas is not None
    assert set(areas["zone"]) == {zone}
    assert areas["minutes"].tolist()[:2] == [2, 1]
    assert len(areas) == 2 * 2 * areas["period"].nunique()
    size = areas.pivot_table(index=["period", "minutes"], columns="network", values="area_km2")
    assert (size["scenario"] <= size["baseline"]).all()
    assert size.loc["am"]["scenario"].sum() < size.loc["am"]["baseline"].sum()
    rows = tables(found)["scenario_isochrone"]
    assert rows.is_valid.all()
    assert rows["run_id"].eq(found.run_id).all()
    assert go(WORKS, city).isochrones is None  # nobody asked


def promised(scenario: Scenario, **outputs: Any) -> Scenario:
    """Return a scenario whose script names its demand."""
    source = {"gravity": {"weights": ["home"]}}
    return Scenario(**{**dict(scenario), "demand": source, "outputs": outputs})


def test_zones_without_the_demand_that_a_script_names_are_missed() -> None:
    """Who runs it in Python without it is told what is not there."""
    forecast = make_forecast(time=make_time())
    asked = promised(WORKS, isochrones={"from": ["Z1"]}, od_pairs=[("Z1", "Z2")])
    found = run(asked, make_town(), forecast)
    assert found.isochrones is None
    missed = {one.where: one.what for one in found.report.warnings}
    assert {"`outputs.isochrones`", "`outputs.od_pairs`"} <= set(missed)
    plain = run(promised(WORKS), make_town(), forecast).report.warnings
    assert any("the script names a source of trips" in one.what for one in plain)
    assert not [one for one in plain if one.where.startswith("`outputs")]


def test_other_trips_are_not_left_out_without_a_word() -> None:
    """A script that names its demand, run without it: nothing would change."""
    forecast = make_forecast(time=make_time())
    with pytest.raises(ConfigError, match=r"operation 2 \(scale_demand\).*needs trips"):
        run(promised(WORKS.scale_demand(factor=2)), make_town(), forecast)


def test_pairs_without_any_demand_are_missed() -> None:
    found = run(
        Scenario(**{**dict(WORKS), "outputs": {"od_pairs": [("Z1", "Z2")]}}),
        make_town(),
        make_forecast(time=make_time()),
    )
    assert "`outputs.od_pairs`" in [one.where for one in found.report.warnings]


def test_no_change_is_no_change_of_areas(city: City) -> None:
    zone = str(make_demand(150.0).zones.index[0])
    found = go(Scenario("none", outputs={"isochrones": {"from": [zone], "minutes": [2]}}), city)
    assert found.isochrones is not None
    parts = [part for _, part in found.isochrones.groupby("network")]
    assert parts[0].geometry.tolist() == parts[1].geometry.tolist()
