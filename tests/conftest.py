"""Shared fixtures: tiny hand-made graphs and the folder of real data."""

from __future__ import annotations

import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from stgraph.graph import Feature, STGraph

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data sets; missing in CI is a failure, elsewhere a skip."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("STGRAPH_DATA", default))
    if not folder.is_dir():
        message = f"no data sets at {folder}; set STGRAPH_DATA"
        pytest.fail(message) if IN_CI else pytest.skip(message)
    return folder


def make_points(n_nodes: int = 5, *, crs: str = "EPSG:2193") -> gpd.GeoDataFrame:
    """Return nodes ``a, b, c, ...`` on a line, 100 m apart."""
    ids = [chr(ord("a") + i) for i in range(n_nodes)]
    xy = 1_750_000.0 + 100.0 * np.arange(n_nodes)
    points = gpd.points_from_xy(xy, np.full(n_nodes, 5_900_000.0))
    return gpd.GeoDataFrame({"kind": "station"}, index=ids, geometry=points, crs=crs)


@pytest.fixture
def points() -> gpd.GeoDataFrame:
    """Five stations on a line, 100 m apart."""
    return make_points()


@pytest.fixture
def graph(points: gpd.GeoDataFrame) -> STGraph:
    """Five stations, ten steps of 5 minutes, edges both ways along the line, one value missing."""
    source = [0, 1, 2, 3, 1, 2, 3, 4]
    target = [1, 2, 3, 4, 0, 1, 2, 3]
    values = np.arange(50, dtype=np.float32).reshape(10, 5, 1)
    values[4, 2, 0] = np.nan
    return STGraph(
        nodes=points,
        edge_index=np.array([source, target]),
        edge_weight=np.full(8, 100.0, dtype=np.float32),
        weight_unit="m",
        time=pd.date_range("2024-01-01", periods=10, freq="5min", tz="UTC"),
        values=values,
        features=(Feature("speed", "km/h"),),
        zone="Pacific/Auckland",
    )
