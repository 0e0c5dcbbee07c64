"""Speeds and flows of segments, whatever graph they come in."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from stgraph.graph import Feature, STGraph
from stgraph.report import Report
from stgraph.scenario.traffic import SegmentTraffic, read_traffic

SPEED, FLOW = Feature("speed", "km/h"), Feature("flow", "veh/h")


def make_graph(features: tuple[Feature, ...], *columns: float, ids: tuple = (7, 8)) -> STGraph:
    """Return two steps of two segments, each feature with one number everywhere."""
    values = np.broadcast_to(np.asarray(columns, dtype=np.float32), (2, len(ids), len(columns)))
    nodes = gpd.GeoDataFrame(
        {"kind": "segment"}, index=pd.Index(ids), geometry=[None] * len(ids), crs=4326
    )
    time = pd.date_range("2026-11-23", periods=2, freq="15min", tz="UTC")
    return STGraph(
        nodes=nodes, time=time, values=values.copy(), features=features, zone="Europe/Berlin"
    )


def read(graph: STGraph, ids: tuple[int, ...] = (7, 8)) -> SegmentTraffic:
    found = read_traffic(graph, np.array(ids), Report(), where="the forecast")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("unit", "kmh"), [("km/h", 30), ("mph", 48.28032), ("MPH", 48.28032), ("m/s", 108), ("kph", 30)]
)
def test_units_of_speed(unit: str, kmh: float) -> None:
    found = read(make_graph((Feature("speed", unit),), 30))
    np.testing.assert_allclose(found.speed_kmh, kmh)
    assert not np.isfinite(found.flow_vph).any()
    assert found.zone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("unit", "vph"),
    [("veh/h", 60), ("veh/15min", 240), ("vehicles / 5 min", 720), ("veh/min", 3600),
     ("Cars/hour", 60), ("veh/0.25h", 240)],
)  # fmt: skip
def test_units_of_flow(unit: str, vph: float) -> None:
    found = read(make_graph((SPEED, Feature("flow", unit)), 30, 60))
    np.testing.assert_allclose(found.flow_vph, vph)
    assert np.isfinite(found.flow_vph).any()


def test_the_mean_of_a_forecast_counts() -> None:
    bands = tuple(Feature(f"speed_q{q}", "km/h") for q in (10, 90))
    np.testing.assert_array_equal(read(make_graph((*bands, SPEED), 1, 2, 3)).speed_kmh, 3)


def test_wind_is_no_traffic() -> None:
    """A wind in m/s before the speed of the cars is not taken for it."""
    wind = Feature("wind", "m/s", "known_future")
    np.testing.assert_array_equal(read(make_graph((wind, SPEED), 5, 40)).speed_kmh, 40)
    other = Feature("v", "km/h")  # a target by another name
    np.testing.assert_array_equal(read(make_graph((wind, other), 5, 40)).speed_kmh, 40)


def test_ids_are_compared_as_text_and_in_any_order() -> None:
    """Segments that the graph does not know are NaN, and counted."""
    graph = make_graph((SPEED,), 40, ids=("9", "8", "7"))
    graph.values[:, 0] = 10
    report = Report()
    found = read_traffic(graph, np.array([7, 5, 9]), report, where="the forecast")
    assert found is not None
    np.testing.assert_array_equal(found.speed_kmh, [[40, np.nan, 10]] * 2)
    (finding,) = report.findings
    assert (finding.level, finding.count) == ("warning", 1)
    assert "nothing is known of 1 of 3 segments" in finding.what


def test_what_was_not_observed_is_nan() -> None:
    graph = make_graph((SPEED, FLOW), 40, 100)
    mask = np.ones((2, 2, 2), dtype=bool)
    mask[0, 1, 0] = mask[1, 0, 1] = False
    found = read(graph.replace(mask=mask))
    np.testing.assert_array_equal(found.speed_kmh, [[40, np.nan], [40, 40]])
    np.testing.assert_array_equal(found.flow_vph, [[100, 100], [np.nan, 100]])


@pytest.mark.parametrize(("unit", "value"), [("%", 50), ("%", 0.5), ("1", 0.5), ("", 50)])
def test_open_capacity(unit: str, value: float) -> None:
    """In per cent, or as a share; nobody has 50 times the capacity."""
    graph = make_graph((SPEED, Feature("capacity_factor", unit, "observed")), 40, value)
    share = read(graph).capacity_share
    wanted = value / 100 if unit == "%" or value > 1.5 else value
    assert share is not None
    np.testing.assert_allclose(share, wanted)
    assert read(make_graph((SPEED,), 40)).capacity_share is None
    nothing = graph.replace(mask=np.zeros((2, 2, 2), dtype=bool))
    assert np.isnan(read(nothing).capacity_share).all()


@pytest.mark.parametrize(
    ("graph", "match"),
    [
        (make_graph((FLOW,), 10), "has no speeds; its features are {'flow': 'veh/h'}"),
        (make_graph((SPEED,), 40, ids=("a", "b")), "knows none of the segments; .* like 'a', 'b'"),
        (make_graph((SPEED,), 40).replace(
            time=pd.DatetimeIndex([], tz="UTC"), values=np.zeros((0, 2, 1), np.float32),
            mask=np.zeros((0, 2, 1), bool),
         ), "has no steps"),
    ],
)  # fmt: skip
def test_what_cannot_be_used(graph: STGraph, match: str) -> None:
    report = Report()
    assert read_traffic(graph, np.array([7, 8]), report, where="the history") is None
    (error,) = report.errors
    assert error.where == "the history"
    import re

    assert re.search(
        match.replace("like 'a', 'b'", r"like \['a', 'b'\]"), str(error).replace("\n", "")
    )
