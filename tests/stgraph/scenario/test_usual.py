"""What is usual in the hours of a horizon, as a forecast."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scenario_town import make_town

from stgraph.errors import ConfigError
from stgraph.report import Report
from stgraph.scenario.history import History, build_history
from stgraph.scenario.script import Scenario
from stgraph.scenario.streets import Streets, read_streets
from stgraph.scenario.traffic import SegmentTraffic, read_traffic
from stgraph.scenario.usual import fill_flows, usual_forecast

SPAN = {"from": "2026-11-27T22:00:00", "to": "2026-11-28T02:00:00"}


def make_past() -> tuple[History, Streets]:
    """Return two weeks: 40 km/h on working days, 60 on weekends; one car more than the hour."""
    time = pd.date_range("2026-11-09", periods=14 * 24, freq="h", tz="Europe/Berlin")
    weekend = time.day_of_week >= 5
    ones = np.ones((1, 13))
    speed = np.where(weekend, 60.0, 40.0)[:, None] * ones
    flow = (1.0 + np.asarray(time.hour))[:, None] * ones
    speed[:, 4] = np.nan
    traffic = SegmentTraffic(time.tz_convert("UTC"), "Europe/Berlin", speed, flow)
    streets = read_streets(make_town(), Report())
    assert streets is not None
    return build_history(traffic), streets


def test_hours_of_both_kinds_of_days_in_local_time() -> None:
    """Friday 22 h to Saturday 2 h in Berlin, in steps of five minutes."""
    history, streets = make_past()
    scenario = Scenario("a", timezone="Europe/Berlin", horizon=SPAN)
    found = usual_forecast(scenario, history, streets, make_town())
    assert found.n_steps == 48
    assert found.step == pd.Timedelta(minutes=5)
    assert found.time[0] == pd.Timestamp("2026-11-27 21:00", tz="UTC")
    assert found.zone == "Europe/Berlin"
    np.testing.assert_array_equal(found.values[:, 1, 0], [40] * 24 + [60] * 24)
    np.testing.assert_array_equal(found.values[::12, 1, 1], [23, 24, 1, 2])
    assert not found.mask[:, 4, 0].any()
    again = read_traffic(found, streets.segment_id, Report(), where="it")
    assert again is not None
    np.testing.assert_array_equal(again.flow_vph[:, 4], found.values[:, 1, 1])
    assert np.isnan(again.speed_kmh[:, 4]).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "is missing, and there is no forecast"),
        ({"horizon": {"from": "2026-11-27T22:00:00", "to": "2026-11-28T02:00:00"}}, "time zone"),
    ],
)
def test_without_a_horizon_there_is_none(options: dict[str, object], match: str) -> None:
    history, streets = make_past()
    with pytest.raises(ConfigError, match=match):
        usual_forecast(Scenario("a", **options), history, streets, make_town())  # type: ignore[arg-type]


def test_flows_that_are_not_forecast_are_usual_ones() -> None:
    """Only of segments without any flow; a gap within a forecast stays one."""
    history, _ = make_past()
    time = pd.date_range("2026-11-30 07:00", periods=2, freq="h", tz="UTC")
    flow, report = np.full((2, 13), 500.0), Report()
    flow[:, 2] = flow[0, 3] = np.nan
    found = fill_flows(flow, time, history, report)
    np.testing.assert_array_equal(found[:, 2], [9, 10])
    assert np.isnan(found[0, 3])
    assert (np.delete(found, [2, 3], axis=1) == 500).all()
    assert [(one.level, one.count) for one in report.findings] == [("info", 1)]
    found = fill_flows(flow, time, None, report := Report())
    np.testing.assert_array_equal(found, flow)
    assert [(one.level, one.count) for one in report.findings] == [("warning", 1)]
    assert np.isnan(flow[:, 2]).all()
