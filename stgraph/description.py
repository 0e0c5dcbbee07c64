"""What a graph is like, in numbers and words: sizes, extent, components, degrees, signal."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from stgraph.graph import IntArray, STGraph

_SHOWN = 5  # of the largest components


def describe_graph(graph: STGraph) -> dict[str, Any]:
    """Return facts about a graph, ready for JSON.

    Parameters
    ----------
    graph
        Any graph, with or without edges and signal.

    Returns
    -------
    dict
        Names with units and values; a fact that a graph does not have is left out. Components are
        those of undirected connection, isolated nodes those of one node; degrees count directed
        edges.
    """
    return {
        "nodes": graph.n_nodes,
        "node kinds": _counts(graph.nodes["kind"]),
        "geometry": _counts(graph.nodes.geometry.geom_type),
        "edges": graph.n_edges,
        **_place(graph),
        **_connection(graph),
        **_roads(graph),
        **_signal(graph),
        **_notes(graph),
    }


def component_sizes(graph: STGraph) -> IntArray:
    """Return the number of nodes of every connected part, the largest first."""
    shape = (graph.n_nodes, graph.n_nodes)
    ones = np.ones(graph.n_edges, dtype=np.int8)
    matrix = csr_array((ones, (graph.edge_index[0], graph.edge_index[1])), shape=shape)
    labels = connected_components(matrix, directed=False)[1]
    return np.sort(np.bincount(labels))[::-1].astype(np.int64)


def _counts(values: pd.Series) -> dict[str, int]:
    """Return how often each value is there, the commonest first."""
    return {str(name): int(n) for name, n in values.fillna("none").value_counts().items()}


def _place(graph: STGraph) -> dict[str, Any]:
    """Return CRS and extent."""
    crs = graph.nodes.crs
    facts: dict[str, Any] = {"CRS": "none" if crs is None else _crs_name(crs)}
    shapes = [graph.nodes.geometry.to_numpy()]
    if isinstance(graph.edges, gpd.GeoDataFrame) and graph.edges.active_geometry_name is not None:
        shapes.append(graph.edges.geometry.to_numpy())
    bounds = shapely.total_bounds(np.concatenate(shapes))
    if not np.isfinite(bounds).all():
        return facts
    digits = 5 if crs is not None and crs.is_geographic else 1
    facts["extent (west, south, east, north)"] = [round(float(x), digits) for x in bounds]
    return facts


def _crs_name(crs: Any) -> str:
    """Return the code of a CRS with its name."""
    code = crs.to_authority()
    return f"{':'.join(code)} {crs.name}" if code else str(crs.name)


def _connection(graph: STGraph) -> dict[str, Any]:
    """Return how nodes are connected: components, degrees, loops, weights."""
    if graph.n_edges == 0:
        return {"components": graph.n_nodes, "isolated nodes": graph.n_nodes}
    sizes = component_sizes(graph)
    source, target = graph.edge_index
    out, into = (np.bincount(ends, minlength=graph.n_nodes) for ends in graph.edge_index)
    apart = graph.edge_index[:, source != target]  # a loop connects nothing
    key = source * graph.n_nodes + target
    return {
        "components": len(sizes),
        "largest components (nodes)": sizes[:_SHOWN].tolist(),
        "isolated nodes": graph.n_nodes - len(np.unique(apart)),
        "edges out of a node": _range(out),
        "edges into a node": _range(into),
        "loops": int((source == target).sum()),
        "parallel edges": graph.n_edges - len(np.unique(key)),
        f"weight ({graph.weight_unit})": _range(graph.edge_weight),
    }


def _range(values: Any) -> str:
    """Return smallest, mean and largest of some numbers."""
    low, mean, high = (float(f(values)) for f in (np.min, np.mean, np.max))
    return f"{low:,.4g} to {high:,.6g}, mean {mean:,.4g}"


def _roads(graph: STGraph) -> dict[str, Any]:
    """Return lengths, speeds and forbidden turns, from whichever table is that of the roads."""
    facts: dict[str, Any] = {}
    tables = [graph.nodes, pd.DataFrame() if graph.edges is None else graph.edges]
    table = next((t for t in tables if "length_m" in t and "speed_kmh" in t), tables[1])
    if "length_m" in table:
        total = float(pd.to_numeric(table["length_m"], errors="coerce").sum())
        facts["total length (km)"] = round(total / 1000, 3)
    if "speed_kmh" in table and len(table):
        facts["speed (km/h)"] = _range(table["speed_kmh"].dropna())
    if "speed_imputed" in table and len(table):
        facts["imputed speeds (%)"] = round(100 * float(table["speed_imputed"].mean()), 1)
    if graph.provenance.get("restrictions"):
        facts["forbidden turns"] = len(graph.provenance["restrictions"])
    return facts


def _signal(graph: STGraph) -> dict[str, Any]:
    """Return time span and features."""
    if not graph.n_steps or not graph.n_features:
        return {"signal": "none"}
    local = graph.time.tz_convert(graph.zone)
    return {
        "steps": graph.n_steps,
        "step": "one instant" if graph.step is None else str(graph.step),
        "time": f"{local[0].isoformat()} to {local[-1].isoformat()} ({graph.zone})",
        "features": [f"{f.name} ({f.unit or '1'}, {f.role})" for f in graph.features],
        "missing (%)": {
            feature.name: round(100 * (1 - float(graph.mask[..., i].mean())), 2)
            for i, feature in enumerate(graph.features)
        },
    }


def _notes(graph: STGraph) -> dict[str, Any]:
    """Return whom to name, and how many findings there are."""
    facts: dict[str, Any] = {}
    if graph.provenance.get("attribution"):
        facts["attribution"] = str(graph.provenance["attribution"])
    if graph.provenance.get("graph"):
        facts["edges made by"] = str(dict(graph.provenance["graph"]).get("method", ""))
    report = graph.report
    found = f"{len(report)} ({len(report.warnings)} warnings)"
    facts["findings"] = found if len(report) else "none"
    return facts
