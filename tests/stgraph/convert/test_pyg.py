"""Round trips to torch-geometric `Data`, and data of others."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stgraph.convert import from_pyg, to_pyg
from stgraph.errors import GraphError
from stgraph.graph import Feature, STGraph

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch-geometric scripts classes while it is imported
    from torch_geometric.data import Data

HOURS = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")


def test_round_trip(full: STGraph, bare: STGraph) -> None:
    for graph in (full, bare):
        back = from_pyg(to_pyg(graph))
        assert back.equals(graph)
        assert back.provenance == graph.provenance


def test_what_is_inside(full: STGraph) -> None:
    data = to_pyg(full)
    data.validate()
    assert data.x.shape == data.mask.shape == (4, 6, 2)
    assert data.x.dtype == torch.float32
    assert data.x[3, 5, 1] == full.values[5, 3, 1]
    assert data.edge_index.tolist() == full.edge_index.tolist()
    assert data.edge_weight.tolist() == data.edge_attr[:, 0].tolist()
    assert data.node_id == [401, 7, 33, 2]
    assert data.pos[2].tolist() == [15, 15]
    assert data.pos[1].isnan().all()
    assert pd.Timestamp(int(data.time[0]), unit="us", tz="UTC") == full.time[0]


def test_tensors_are_copies(full: STGraph) -> None:
    """Protects the graph against training in place."""
    data = to_pyg(full)
    data.x.zero_()
    data.edge_weight.zero_()
    assert full.values[0, 1, 0] != 0
    assert full.edge_weight[0] != 0


def test_changed_values_come_back(full: STGraph) -> None:
    data = to_pyg(full)
    data.x = data.x * 2
    assert np.array_equal(from_pyg(data).values, full.values * 2, equal_nan=True)


def test_foreign_data() -> None:
    """Anybody's Data: ids 0..N-1, places from `pos`, weights from `edge_attr`."""
    data = Data(
        x=torch.arange(12.0).reshape(2, 3, 2),
        edge_index=torch.tensor([[0], [1]]),
        edge_attr=torch.tensor([[0.5]]),
        pos=torch.tensor([[174.0, -36.0], [175.0, -37.0]]),
    )
    graph = from_pyg(data, time=HOURS, crs=4326, zone="Pacific/Auckland")
    assert list(graph.node_ids) == [0, 1]
    assert graph.edge_weight.tolist() == [0.5]
    assert graph.feature_names == ("x0", "x1")
    assert graph.values[:, 1, 0].tolist() == [6, 8, 10]
    assert graph.nodes.geometry.x.tolist() == [174, 175]


def test_one_instant() -> None:
    data = Data(x=torch.ones(2, 1), edge_index=torch.zeros((2, 0), dtype=torch.long))
    graph = from_pyg(data, time=HOURS[:1], features=[Feature("level", "m")])
    assert graph.values.shape == (1, 2, 1)
    assert graph.features == (Feature("level", "m"),)


_EDGES = torch.tensor([[0], [1]])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"x": torch.ones(2, 1)}, "has no `edge_index`"),
        ({"x": torch.ones(2, 3, 1), "edge_index": _EDGES}, "no time axis; pass `time`"),
        ({"x": torch.ones(2), "edge_index": _EDGES}, r"`x` has shape \(2,\)"),
        (
            {"x": torch.ones(2, 1), "mask": torch.ones(2, 2), "edge_index": _EDGES},
            r"`mask` has shape \(2, 2\) but `x` has \(2, 1\)",
        ),
        (
            {"num_nodes": 2, "edge_index": _EDGES, "edge_attr": torch.ones(1, 3)},
            "`edge_attr` has 3 columns; put the weight into `edge_weight`",
        ),
        ({"num_nodes": 1, "edge_index": _EDGES}, "points at node 1 but the graph has 1 nodes"),
    ],
    ids=["edges", "time", "flat", "mask", "attributes", "past the end"],
)
def test_bad_data(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        from_pyg(Data(**parts))


def test_dropped_nodes_are_noticed(full: STGraph) -> None:
    """Tensors that lost a node no longer fit the places that were noted."""
    data = to_pyg(full)
    data.x, data.mask = data.x[:3], data.mask[:3]
    with pytest.raises(GraphError, match=r"\(6, 3, 2\); \(6, 4, 2\)"):
        from_pyg(data)
