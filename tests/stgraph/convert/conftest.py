"""Graphs with something of everything, for the round trips."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from stgraph.graph import Feature, STGraph


@pytest.fixture
def full() -> STGraph:
    """Four nodes (one without geometry), odd columns, two features, a filled value, edge table."""
    nodes = gpd.GeoDataFrame(
        {
            "kind": ["station", "station", "cell", "cell"],
            "name": ["Queen St", None, "K Rd", ""],
            "lanes": [1, 2, 3, 4],
            "height": [0.1, np.nan, 2.5, 1e-9],
            "open": [True, False, True, True],
        },
        index=[401, 7, 33, 2],
        geometry=[
            shapely.Point(1 / 3, 2 / 3),
            None,
            shapely.box(10, 10, 20, 20),
            shapely.Point(1_757_123.456_789, 5_920_000.1),
        ],
        crs="EPSG:2193",
    )
    values = np.arange(48, dtype=np.float32).reshape(6, 4, 2) / 7
    values[1, 2, 0] = np.nan
    mask = np.isfinite(values)
    mask[4, 0, 0] = False  # filled: a value that nobody observed
    return STGraph(
        nodes=nodes,
        edge_index=np.array([[3, 0, 1, 3], [0, 1, 0, 2]]),  # not sorted
        edge_weight=np.array([0.1, 0.2, 0.3, 0.4]),
        edges=pd.DataFrame({"road": ["A1", "A2", None, "A4"], "length_m": [1.5, 2.5, 3.5, 4.5]}),
        time=pd.date_range("2024-03-30 22:00", periods=6, freq="30min", tz="UTC"),
        values=values,
        mask=mask,
        features=(Feature("speed", "km/h"), Feature("flow", "veh/h")),
        zone="Europe/Berlin",
        provenance={"source": "by hand", "graph": {"method": "none"}},
    )


@pytest.fixture
def bare() -> STGraph:
    """Two nodes and nothing else."""
    index = pd.Index(["a", "b"])
    return STGraph(
        nodes=gpd.GeoDataFrame(geometry=gpd.points_from_xy([0, 1], [0, 1]), crs=4326).set_index(
            index
        )
    )
