"""STGraph <-> torch-geometric `Data`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from stgraph.convert._parts import plain_nodes, quiet_import
from stgraph.errors import GraphError
from stgraph.graph import Feature, STGraph

if TYPE_CHECKING:
    from torch_geometric.data import Data


def to_pyg(graph: STGraph) -> Data:
    """Return the graph as a torch-geometric `Data`.

    Parameters
    ----------
    graph
        Any graph; its signal is copied into tensors, so it must fit into memory.

    Returns
    -------
    Data
        `x` (N, T, F) float32 with nodes first as everywhere in torch-geometric, `mask` (N, T, F)
        bool, `edge_index` (2, E), `edge_weight` (E,), `edge_attr` (E, 1) the same once more,
        `pos` (N, 2) float64 centroids in the CRS (NaN without geometry), `time` (T,) int64
        microseconds since 1970 UTC, `node_id` a list; what no tensor can hold is in the dict
        `stgraph`. `x` and `mask` are left out without signal.

    Notes
    -----
    Nothing is lost. Operations that drop nodes or steps drop them from the tensors only: give
    `from_pyg` such data with its own `nodes`.
    """
    import torch

    with quiet_import():
        from torch_geometric.data import Data

    centroid = shapely.centroid(np.asarray(graph.nodes.geometry, dtype=object))
    result = Data(
        edge_index=torch.from_numpy(graph.edge_index.copy()),
        edge_weight=torch.from_numpy(graph.edge_weight.copy()),
        edge_attr=torch.from_numpy(graph.edge_weight[:, None].copy()),
        pos=torch.from_numpy(np.column_stack([shapely.get_x(centroid), shapely.get_y(centroid)])),
        num_nodes=graph.n_nodes,
        node_id=graph.node_ids.tolist(),
        time=torch.from_numpy(graph.time.asi8.copy()),
        stgraph={
            "nodes": graph.nodes,
            "edges": graph.edges,
            "time": graph.time,
            "features": graph.features,
            "weight_unit": graph.weight_unit,
            "zone": graph.zone,
            "provenance": dict(graph.provenance),
        },
    )
    if graph.n_steps or graph.n_features:
        result.x = torch.from_numpy(np.ascontiguousarray(graph.values.transpose(1, 0, 2)))
        result.mask = torch.from_numpy(np.ascontiguousarray(graph.mask.transpose(1, 0, 2)))
    return result


def from_pyg(
    data: Data,
    *,
    nodes: gpd.GeoDataFrame | None = None,
    time: pd.DatetimeIndex | None = None,
    features: Sequence[Feature] | None = None,
    crs: Any = None,
    zone: str | None = None,
) -> STGraph:
    """Return a torch-geometric `Data` as an STGraph.

    Parameters
    ----------
    data
        One of `to_pyg`, or any other with `edge_index`; weights are `edge_weight`, or `edge_attr`
        of one column; `x` is (N, T, F), or (N, F) for one instant; `mask` is optional.
    nodes
        Places, one row per node. None takes those that `to_pyg` noted, else ids are `node_id` or
        0..N-1 and places are `pos`.
    time
        Instants of the T steps. None takes those that `to_pyg` noted.
    features
        One per column of `x`. None takes those that `to_pyg` noted, else ``x0, x1, ...``.
    crs
        CRS of `pos` where `nodes` are neither given nor noted.
    zone
        IANA time zone. None takes what `to_pyg` noted, else UTC.

    Returns
    -------
    STGraph
        The graph; an edge table is kept only if the number of edges is unchanged.

    Raises
    ------
    GraphError
        Parts are missing or do not fit each other.
    """
    if getattr(data, "edge_index", None) is None:
        raise GraphError("the Data has no `edge_index`; a graph without edges has one of (2, 0)")
    notes: dict[str, Any] = data.stgraph if "stgraph" in data else {}
    edge_index = _numpy(data.edge_index)
    edges = notes.get("edges")
    values, mask = _signal(data)
    parts: dict[str, Any] = {}
    if values is not None:
        time = notes.get("time") if time is None else time
        if time is None:
            raise GraphError(
                "the Data has `x` but no time axis; pass `time` with one instant a step"
            )
        if features is None:
            features = notes.get("features") or [Feature(f"x{i}") for i in range(values.shape[2])]
        parts = {"values": values, "mask": mask, "time": time, "features": tuple(features)}
    return STGraph(
        nodes=_nodes(data, notes, crs) if nodes is None else nodes,
        edge_index=edge_index,
        edge_weight=_weight(data),
        weight_unit=notes.get("weight_unit", "1"),
        edges=edges if edges is not None and len(edges) == edge_index.shape[1] else None,
        zone=zone or notes.get("zone", "UTC"),
        provenance=notes.get("provenance", {}),
        **parts,
    )


def _numpy(tensor: Any) -> Any:
    """Return a tensor on any device as an array."""
    return tensor.detach().cpu().numpy()


def _signal(data: Data) -> tuple[Any, Any]:
    """Return values and mask as (T, N, F), or nothing."""
    if getattr(data, "x", None) is None:
        return None, None
    x = _numpy(data.x)
    if x.ndim not in (2, 3):
        raise GraphError(f"`x` has shape {x.shape}; (N, F) or (N, T, F) expected")
    values = np.ascontiguousarray((x[:, None] if x.ndim == 2 else x).transpose(1, 0, 2))
    if "mask" not in data:
        return values, None
    mask = _numpy(data.mask)
    if mask.shape != x.shape:
        raise GraphError(f"`mask` has shape {mask.shape} but `x` has {x.shape}; make them alike")
    mask = (mask[:, None] if mask.ndim == 2 else mask).transpose(1, 0, 2)
    return values, np.ascontiguousarray(mask.astype(bool))


def _weight(data: Data) -> Any:
    """Return the weights of the edges, or None."""
    weight = getattr(data, "edge_weight", None)
    if weight is None:
        weight = getattr(data, "edge_attr", None)
        if weight is not None and weight.ndim == 2 and weight.shape[1] != 1:
            raise GraphError(
                f"`edge_attr` has {weight.shape[1]} columns; put the weight into `edge_weight`"
            )
    return None if weight is None else _numpy(weight).reshape(-1)


def _nodes(data: Data, notes: dict[str, Any], crs: Any) -> gpd.GeoDataFrame:
    """Return the places that were noted, or places from `node_id` and `pos`."""
    if "nodes" in notes:
        noted: gpd.GeoDataFrame = notes["nodes"]
        return noted
    ids = data.node_id if "node_id" in data else range(data.num_nodes or 0)
    ids = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    if getattr(data, "pos", None) is None:
        return plain_nodes(ids)
    pos = _numpy(data.pos)
    points = gpd.points_from_xy(pos[:, 0], pos[:, 1])
    return gpd.GeoDataFrame(index=pd.Index(ids), geometry=points, crs=crs)
