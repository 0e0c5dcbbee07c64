"""Round trips to xarray, and datasets of others."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

from stgraph.convert import from_xarray, to_xarray
from stgraph.errors import GraphError
from stgraph.graph import Feature, STGraph

HOURS = pd.date_range("2024-01-01", periods=2, freq="h")


def test_round_trip(full: STGraph, bare: STGraph) -> None:
    for graph in (full, bare, full.select_steps(2, 3), full.select_features(["flow"])):
        back = from_xarray(to_xarray(graph))
        assert back.equals(graph)
        assert back.step == graph.step
        assert back.provenance == graph.provenance


def test_edge_geometry(bare: STGraph) -> None:
    roads = gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1 / 3, 1)])], crs=4326)
    graph = bare.replace(edge_index=np.array([[0], [1]]), edge_weight=None, edges=roads)
    assert from_xarray(to_xarray(graph)).equals(graph)


def test_what_is_inside(full: STGraph) -> None:
    """Units, roles and places where people who know CF look for them."""
    dataset = to_xarray(full)
    assert dict(dataset.sizes) == {"time": 6, "node": 4, "edge": 4}
    assert dataset["speed"].dims == ("time", "node")
    assert dataset["speed"].attrs["units"] == "km/h"
    assert dataset["speed"].attrs["grid_mapping"] == "crs"
    assert "NZGD2000" in dataset["crs"].attrs["crs_wkt"]
    assert dataset["speed"].sel(node=33).to_numpy()[0] == full.values[0, 2, 0]
    assert not dataset["speed_observed"].sel(node=401).to_numpy()[4]
    assert dataset["lon"].to_numpy()[3] == pytest.approx(174.76, abs=0.01)
    assert dataset["lat"].to_numpy()[3] == pytest.approx(-36.85, abs=0.01)
    assert np.isnan(dataset["lon"].to_numpy()[1])
    assert np.shares_memory(dataset["flow"].to_numpy(), full.values)


def test_dataset_of_others() -> None:
    """Any variable over time and node is a feature; lon and lat are places."""
    dataset = xr.Dataset(
        {
            "level": (("station", "time"), [[1.0, np.nan], [3.0, 4.0]], {"units": "m"}),
            "area": ("station", [5.0, 6.0]),
        },
        coords={
            "time": HOURS,
            "station": ["p", "q"],
            "lon": ("station", [7.0, 8.0]),
            "lat": ("station", [50.0, 51.0]),
        },
    )
    graph = from_xarray(dataset, node="station")
    assert graph.features == (Feature("level", "m"),)
    assert graph.values[0, :, 0].tolist() == [1, 3]
    assert not graph.mask[1, 0, 0]
    assert graph.nodes.crs == "EPSG:4326"
    assert graph.nodes.geometry.y.tolist() == [50, 51]
    assert graph.n_edges == 0


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (xr.Dataset({"t": (("time", "y", "x"), np.zeros((2, 1, 1)))}), "no dimension 'node'"),
        (xr.Dataset({"t": (("node",), [1.0])}), "no dimension 'time'; there are"),
        (
            xr.Dataset({"t": (("time", "node"), np.zeros((2, 1)))}, coords={"node": ["a"]}),
            "'time' holds no instants; decode it",
        ),
        (
            xr.Dataset(
                {"t": (("time", "node"), np.zeros((2, 2)))},
                coords={"time": HOURS, "node": ["a", "a"]},
            ),
            "ids appear twice",
        ),
    ],
    ids=["grid", "static", "no instants", "ids"],
)
def test_bad_datasets(dataset: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        from_xarray(dataset)


@pytest.mark.parametrize("name", ["time", "lon", "weight", "node_kind", "edge_x", "flow_observed"])
def test_names_in_the_way(full: STGraph, name: str) -> None:
    with pytest.raises(GraphError, match=f"names of other variables: .*'{name}'"):
        to_xarray(full.replace(features=(Feature(name), Feature("flow"))))
