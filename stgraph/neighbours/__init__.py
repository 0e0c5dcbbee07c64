"""Edges between places: nearest, within reach, similar, triangulated, touching, given, by road.

Every builder takes the places (a GeoDataFrame, or an STGraph whose edges are to be replaced) and
returns an STGraph. Edges run neighbour -> node and are sorted by (target, source), so that the
incoming edges of a node lie side by side. ``provenance["graph"]`` tells how they were built.
"""

from __future__ import annotations

from stgraph.neighbours.contiguity import build_contiguity
from stgraph.neighbours.delaunay import build_delaunay
from stgraph.neighbours.dynamic import (
    build_dynamic,
    collapse_edges,
    edges_at,
    is_dynamic,
    iterate_edge_sets,
)
from stgraph.neighbours.gaussian import build_gaussian
from stgraph.neighbours.line_graph import build_line_graph
from stgraph.neighbours.nearest import build_knn, build_radius
from stgraph.neighbours.network import build_network
from stgraph.neighbours.rings import build_k_ring
from stgraph.neighbours.snapping import Snapping, snap_stations
from stgraph.neighbours.tables import build_from_adjacency, build_from_distances

__all__ = [
    "Snapping",
    "build_contiguity",
    "build_delaunay",
    "build_dynamic",
    "build_from_adjacency",
    "build_from_distances",
    "build_gaussian",
    "build_k_ring",
    "build_knn",
    "build_line_graph",
    "build_network",
    "build_radius",
    "collapse_edges",
    "edges_at",
    "is_dynamic",
    "iterate_edge_sets",
    "snap_stations",
]
