"""Connect places by the Delaunay triangulation, on a plane or on the sphere."""

from __future__ import annotations

import numpy as np
from scipy.spatial import Delaunay, QhullError

from stgraph.errors import GraphError
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._edges import (
    Pairs,
    Weight,
    check_edge_count,
    check_weight,
    finish_graph,
    weigh,
)
from stgraph.neighbours._places import (
    EARTH_RADIUS_M,
    Float64Array,
    Places,
    check_length,
    locate,
    start_graph,
)
from stgraph.report import Report

_FLAT = 1e-9  # points whose extent across is this share of that along lie on one line


def build_delaunay(
    places: Places, *, max_length_m: float | None = None, weight: Weight = "length"
) -> STGraph:
    """Connect places that share a side of the Delaunay triangulation.

    Parameters
    ----------
    places
        As for `build_knn`.
    max_length_m
        Drop edges longer than this, in metres; along the border of a layer a triangulation has
        long ones. None keeps all.
    weight
        As for `build_knn`.

    Returns
    -------
    STGraph
        N nodes, edges in both directions sorted by (target, source), about six per node, their
        lengths in ``edges["length_m"]``. Places on one point are connected to each other and to
        the same neighbours; places on one line are connected along it.

    Raises
    ------
    GraphError
        Options, geometry or CRS cannot be used; every problem is listed.

    Notes
    -----
    In a geographic CRS the points are triangulated in a stereographic view of the sphere, which
    keeps circles circles: the triangles are those of the sphere, across the antimeridian too.
    """
    report = Report()
    check_length(report, "max_length_m", max_length_m)
    check_weight(report, weight)
    graph = start_graph(places, report)
    positions = locate(graph, report)
    report.raise_errors(GraphError, title="cannot triangulate places")

    spots, spot_of = np.unique(positions.xyz, axis=0, return_inverse=True)
    sides = _sides(_flatten(spots, positions.metric == "great-circle"))
    first, second = _expand(sides, spot_of.reshape(-1))
    pairs = Pairs(first, second, positions.lengths(first, second))
    pairs = pairs.both_ways().no_longer_than(max_length_m).of_nodes(positions)
    weights, notes = weigh(pairs.length_m, weight)
    how = {"method": "delaunay", "max_length_m": max_length_m, "metric": positions.metric}
    return finish_graph(graph, pairs, weights, how=how | notes, report=report)


def _flatten(xyz: Float64Array, on_sphere: bool) -> Float64Array:
    """Return points on a plane around their middle; from the sphere by stereographic view."""
    if not on_sphere or len(xyz) == 0:
        return xyz - xyz.mean(axis=0, keepdims=True) if len(xyz) else xyz
    unit = xyz / EARTH_RADIUS_M
    middle = unit.mean(axis=0)
    if np.linalg.norm(middle) < 1e-3 or (unit @ middle / np.linalg.norm(middle)).min() < -0.999:
        # places all around the world: look from a spot that is far from every place
        spots = np.random.default_rng(0).normal(size=(64, 3))
        spots /= np.linalg.norm(spots, axis=1, keepdims=True)
        middle = -spots[np.argmin((unit @ spots.T).max(axis=0))]
    middle = middle / np.linalg.norm(middle)
    # two directions at right angles to the line of sight
    east = np.cross(middle, np.eye(3)[np.argmin(np.abs(middle))])
    east /= np.linalg.norm(east)
    north = np.cross(middle, east)
    depth = 1 + unit @ middle
    return np.column_stack([unit @ east / depth, unit @ north / depth])


def _sides(xy: Float64Array) -> IntArray:
    """Return the sides of the triangles, (S, 2); points on one line are chained."""
    if len(xy) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    xy = xy - xy.mean(axis=0)
    _, extents, directions = np.linalg.svd(xy, full_matrices=False)
    if len(xy) > 2 and extents[1] > _FLAT * extents[0]:
        try:
            triangles = Delaunay(xy / np.abs(xy).max()).simplices
        except QhullError:  # too flat after all
            pass
        else:
            sides = np.concatenate(
                [triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]]
            )
            return np.unique(np.sort(sides, axis=1), axis=0).astype(np.int64)
    along = np.argsort(xy @ directions[0], kind="stable")
    return np.column_stack([along[:-1], along[1:]]).astype(np.int64)


def _expand(sides: IntArray, spot_of: IntArray) -> tuple[IntArray, IntArray]:
    """Return pairs of points, each once, for sides between spots and points on one spot."""
    n_at = np.bincount(spot_of)
    check_edge_count(
        2 * int((n_at[sides[:, 0]] * n_at[sides[:, 1]]).sum() + (n_at * (n_at - 1) // 2).sum()),
        todo="merge places that lie on one point",
    )
    if (n_at == 1).all():
        order = np.argsort(spot_of)
        return order[sides[:, 0]], order[sides[:, 1]]
    members = np.split(np.argsort(spot_of, kind="stable"), np.cumsum(n_at)[:-1])
    pairs = [np.stack(np.meshgrid(members[a], members[b])).reshape(2, -1) for a, b in sides]
    pairs += [
        np.stack([same[i] for i in np.triu_indices(len(same), 1)])
        for same in members
        if len(same) > 1
    ]
    first, second = np.concatenate(pairs, axis=1)
    return first, second
