"""Edges between places: nearest, within reach, similar, triangulated, touching, or given.

Every builder takes the places (a GeoDataFrame, or an STGraph whose edges are to be replaced) and
returns an STGraph. Edges run neighbour -> node and are sorted by (target, source), so that the
incoming edges of a node lie side by side. ``provenance["graph"]`` tells how they were built.
"""

from __future__ import annotations

from stgraph.neighbours.contiguity import build_contiguity
from stgraph.neighbours.delaunay import build_delaunay
from stgraph.neighbours.gaussian import build_gaussian
from stgraph.neighbours.line_graph import build_line_graph
from stgraph.neighbours.nearest import build_knn, build_radius
from stgraph.neighbours.rings import build_k_ring
from stgraph.neighbours.tables import build_from_adjacency, build_from_distances

__all__ = [
    "build_contiguity",
    "build_delaunay",
    "build_from_adjacency",
    "build_from_distances",
    "build_gaussian",
    "build_k_ring",
    "build_knn",
    "build_line_graph",
    "build_radius",
]
