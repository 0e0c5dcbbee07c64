"""A tiny forecast to write."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from stgraph.graph import Feature, STGraph

FEATURES = tuple(Feature(n, "km/h") for n in ("speed", "speed_q10", "speed_q50", "speed_q90"))


def make_forecast(shapes: list[shapely.Geometry | None], ids: list[object]) -> STGraph:
    """A forecast of 3 steps; speeds rise by 1 km/h from node to node and 10 from step to step."""
    n_nodes = len(shapes)
    mean = 20 + 10 * np.arange(3)[:, None] + np.arange(n_nodes)[None, :]
    values = np.stack([mean, mean - 5, mean, mean + 5], axis=-1).astype(np.float32)
    return STGraph(
        nodes=gpd.GeoDataFrame(
            {"kind": "segment"}, index=pd.Index(ids), geometry=shapes, crs="EPSG:2193"
        ),
        edge_index=np.array([np.arange(n_nodes - 1), np.arange(1, n_nodes)]),
        weight_unit="m",
        time=pd.date_range("2024-03-01T07:00Z", periods=3, freq="5min"),
        values=values,
        features=FEATURES,
        zone="Pacific/Auckland",
        provenance={
            "kind": "forecast",
            "issued_at": "2024-03-01T06:55:00+00:00",
            "model": "gcn_lstm",
            "step_minutes": 5.0,
            "horizon": 3,
            "attribution": "Data: somebody, CC BY 4.0",
        },
    )


@pytest.fixture
def forecast() -> STGraph:
    """Four stations on a line, 100 m apart."""
    shapes = [shapely.Point(1_750_000 + 100 * i, 5_900_000) for i in range(4)]
    return make_forecast(shapes, ["a", "b", "c", "d"])


@pytest.fixture(params=["lines", "polygons", "mixed", "missing"])
def shaped(request: pytest.FixtureRequest) -> STGraph:
    """The same forecast on other geometries."""
    x, y = 1_750_000.0, 5_900_000.0
    lines = [shapely.LineString([(x + i, y), (x + i, y + 50)]) for i in range(3)]
    areas = [shapely.box(x + 10 * i, y, x + 10 * i + 9, y + 9) for i in range(3)]
    points = [shapely.Point(x + i, y) for i in range(3)]
    shapes: dict[str, list[shapely.Geometry | None]] = {
        "lines": lines,
        "polygons": [areas[0], shapely.MultiPolygon([areas[1], areas[2]]), areas[2]],
        "mixed": [points[0], lines[1], areas[2]],
        "missing": [points[0], None, points[2]],
    }
    return make_forecast(shapes[request.param], [7, 8, 9])
