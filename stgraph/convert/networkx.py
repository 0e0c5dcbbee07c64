"""STGraph <-> networkx."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import networkx as nx
import numpy as np
import pandas as pd

from stgraph.convert._parts import no_geometry, restore_dtypes
from stgraph.errors import GraphError
from stgraph.graph import STGraph

_SIGNAL = ("values", "mask")  # node attributes that hold the signal
_ORDER = "order"  # edge attribute that holds the position in `edge_index`


def to_networkx(graph: STGraph, *, signal: bool = False) -> nx.DiGraph[Any]:
    """Return the graph as a networkx graph with the same node ids.

    Parameters
    ----------
    graph
        Any graph.
    signal
        Whether each node carries its series as the attributes `values` (T, F) and `mask` (T, F).

    Returns
    -------
    nx.DiGraph
        Node attributes are the columns of `nodes`, `geometry` among them; edge attributes are
        `weight`, `order` (position in `edge_index`) and the columns of `edges`; graph attributes
        are `crs`, `weight_unit`, `zone`, `provenance` and what else `from_networkx` needs. A
        MultiDiGraph where two nodes share several edges in one direction.

    Raises
    ------
    GraphError
        A column has the name of an attribute that is used here.

    Notes
    -----
    Without `signal` the time axis and the signal are lost; everything else comes back.
    """
    edges = pd.DataFrame() if graph.edges is None else graph.edges
    _check_names("nodes", graph.nodes, _SIGNAL if signal else ())
    _check_names("edges", edges, ("weight", _ORDER))
    pairs = list(zip(*graph.node_ids.to_numpy()[graph.edge_index].tolist(), strict=True))
    result: nx.DiGraph[Any] = nx.DiGraph() if len(set(pairs)) == len(pairs) else nx.MultiDiGraph()
    result.graph.update(
        crs=graph.nodes.crs,
        weight_unit=graph.weight_unit,
        zone=graph.zone,
        provenance=dict(graph.provenance),
        dtypes=dict(graph.nodes.dtypes),
        index_dtype=graph.node_ids.dtype,
        edge_dtypes=None if graph.edges is None else dict(edges.dtypes),
        edge_geometry=getattr(edges, "active_geometry_name", None),
        edge_crs=getattr(edges, "crs", None),
    )
    for node, row in zip(graph.node_ids.tolist(), _records(graph.nodes), strict=True):
        result.add_node(node, **row)
    rows = _records(edges) if len(edges.columns) else [{} for _ in pairs]
    weights = graph.edge_weight.tolist()
    for order, ((source, target), row) in enumerate(zip(pairs, rows, strict=True)):
        result.add_edge(source, target, weight=weights[order], **{_ORDER: order}, **row)
    if signal:
        result.graph.update(time=graph.time, features=graph.features)
        for position, node in enumerate(graph.node_ids.tolist()):
            result.nodes[node]["values"] = graph.values[:, position]
            result.nodes[node]["mask"] = graph.mask[:, position]
    return result


def from_networkx(
    graph: nx.Graph[Any], *, weight: str = "weight", weight_unit: str | None = None, crs: Any = None
) -> STGraph:
    """Return a networkx graph as an STGraph.

    Parameters
    ----------
    graph
        One of `to_networkx`, or any other: an undirected edge becomes two directed ones, and
        places come from the node attribute `geometry`, or `x` and `y` as in OSMnx.
    weight
        Edge attribute with the weight, such as ``"length"``. Where no edge has it, weights are 1.
    weight_unit
        Unit of the weights. None takes the graph attribute of that name, else ``"1"``.
    crs
        CRS of the places. None takes the graph attribute of that name.

    Returns
    -------
    STGraph
        One node per node in the order of the graph, other edge attributes in `edges`. Edges keep
        the order that `to_networkx` noted, otherwise they are sorted by (target, source).

    Raises
    ------
    GraphError
        Ids, places or weights cannot be used.
    """
    notes = graph.graph
    if graph.number_of_nodes() == 0:
        raise GraphError("the networkx graph has no nodes; a graph needs at least one")
    ids = pd.Index(list(graph.nodes), tupleize_cols=False)
    if "index_dtype" in notes:
        ids = ids.astype(notes["index_dtype"])
    attributes = pd.DataFrame([dict(data) for _, data in graph.nodes(data=True)], index=ids)
    nodes = _places(
        attributes.drop(columns=[n for n in _SIGNAL if n in attributes]), crs or notes.get("crs")
    )
    edge_index, weights, edges = _edges(graph, weight)
    if edges is not None and notes.get("edge_geometry") in edges:
        edges = gpd.GeoDataFrame(edges, geometry=notes["edge_geometry"], crs=notes["edge_crs"])
    parts: dict[str, Any] = {}
    if "time" in notes and "values" in attributes:
        parts = {
            "time": notes["time"],
            "features": notes["features"],
            "values": np.stack(list(attributes["values"]), axis=1),
            "mask": np.stack(list(attributes["mask"]), axis=1),
        }
    return STGraph(
        nodes=restore_dtypes(nodes, notes.get("dtypes", {})),
        edge_index=edge_index,
        edge_weight=weights,
        weight_unit=weight_unit or notes.get("weight_unit", "1"),
        edges=None if edges is None else restore_dtypes(edges, notes.get("edge_dtypes") or {}),
        zone=notes.get("zone", "UTC"),
        provenance=notes.get("provenance", {}),
        **parts,
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dicts of plain objects."""
    columns = {str(name): list(table[name]) for name in table.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _check_names(part: str, table: pd.DataFrame, taken: tuple[str, ...]) -> None:
    """Refuse columns whose name is needed for something else."""
    clash = [name for name in taken if name in table.columns]
    if clash:
        raise GraphError(f"`{part}` has columns {clash}, names used by networkx; rename them")


def _places(attributes: pd.DataFrame, crs: Any) -> gpd.GeoDataFrame:
    """Return node attributes as places, from `geometry` or from `x` and `y`."""
    if "geometry" in attributes:
        return gpd.GeoDataFrame(attributes, geometry="geometry", crs=crs)
    if {"x", "y"} <= set(attributes.columns):
        points = gpd.points_from_xy(attributes["x"], attributes["y"])
        return gpd.GeoDataFrame(attributes, geometry=points, crs=crs)
    return gpd.GeoDataFrame(attributes, geometry=no_geometry(attributes.index), crs=crs)


def _edges(graph: nx.Graph[Any], weight: str) -> tuple[Any, Any, pd.DataFrame | None]:
    """Return edge index, weights and the remaining attributes of the edges."""
    listed = list(graph.edges(data=True))
    if not graph.is_directed():
        listed += [(target, source, data) for source, target, data in listed if source != target]
    position = {node: i for i, node in enumerate(graph.nodes)}
    source = np.array([position[edge[0]] for edge in listed], dtype=np.int64)
    target = np.array([position[edge[1]] for edge in listed], dtype=np.int64)
    table = pd.DataFrame([dict(edge[2]) for edge in listed], index=range(len(listed)))
    noted = _ORDER in table and "edge_dtypes" in graph.graph
    order = np.argsort(table[_ORDER]) if noted else np.lexsort((source, target))
    weights = None
    if weight in table:
        weights = pd.to_numeric(table[weight], errors="coerce").to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(weights))
        if len(bad):
            edge = listed[bad[0]]
            raise GraphError(
                f"{len(bad)} of {len(listed)} edges have no usable {weight!r}, first "
                f"{edge[0]!r} -> {edge[1]!r}: {edge[2].get(weight)!r}; fill it or name another "
                "attribute as `weight`"
            )
        weights = weights[order]
    table = table.drop(columns=[name for name in (weight, _ORDER) if name in table])
    table = table.iloc[order].reset_index(drop=True)
    bare = len(table.columns) == 0 and not graph.graph.get("edge_dtypes")
    return np.stack([source, target])[:, order], weights, None if bare else table
