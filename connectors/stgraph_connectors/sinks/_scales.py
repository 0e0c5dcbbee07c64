"""Map scales from which on a layer is drawn."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import shapely

from stgraph.graph import STGraph
from stgraph_connectors.qgis import GeometryKind

_SAMPLE = 20_000  # edges looked at
_METRES_PER_DEGREE = 111_320.0
# how long a typical edge must be on the map: where they are shorter, they hide their nodes
_LEAST_MM: dict[GeometryKind, float] = {"polygon": 4.0, "line": 12.0}


def edge_scale(graph: STGraph, nodes: GeometryKind) -> int | None:
    """Return up to which scale, 1 to ..., edges can be told apart; None means at all scales.

    Edges between points are drawn at every scale.
    """
    if nodes not in _LEAST_MM or not graph.n_edges:
        return None
    length_m = _typical_length_m(graph)
    if not np.isfinite(length_m) or length_m <= 0:
        return None
    return int(float(f"{length_m * 1000 / _LEAST_MM[nodes]:.1g}")) or None


def limit_scale(qml: str, scale: int | None) -> str:
    """Return a style whose layer is drawn only at scales larger than 1 to `scale`."""
    if scale is None:
        return qml
    root = ET.fromstring(qml)  # noqa: S314  # our own text
    root.set("hasScaleBasedVisibilityFlag", "1")
    root.set("minScale", str(scale))
    root.set("maxScale", "0")
    root.set("styleCategories", f"{root.get('styleCategories')}|Rendering")
    return ET.tostring(root, encoding="unicode")


def _typical_length_m(graph: STGraph) -> float:
    """Return the median distance of the ends of an edge, in metres; NaN without positions."""
    ends = graph.edge_index[:, :: max(1, graph.n_edges // _SAMPLE)]
    places = graph.nodes.geometry.to_numpy()[ends]  # (2, E)
    x, y = (get(shapely.centroid(places)) for get in (shapely.get_x, shapely.get_y))
    crs = graph.nodes.crs
    if crs is None or crs.is_geographic:
        east = np.diff(x, axis=0) * np.cos(np.radians(y.mean(axis=0)))
        lengths = np.hypot(east, np.diff(y, axis=0)) * _METRES_PER_DEGREE
    else:
        unit_m = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
        lengths = np.hypot(np.diff(x, axis=0), np.diff(y, axis=0)) * unit_m
    known = lengths[np.isfinite(lengths)]
    return float(np.median(known)) if known.size else float("nan")
