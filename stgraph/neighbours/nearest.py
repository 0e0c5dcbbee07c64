"""Connect places that are near each other: the k nearest, or all within a radius."""

from __future__ import annotations

import numpy as np

from stgraph.errors import GraphError
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._edges import (
    TIE_M,
    Pairs,
    Weight,
    check_edge_count,
    check_weight,
    finish_graph,
    no_pairs,
    weigh,
)
from stgraph.neighbours._places import (
    Places,
    Positions,
    check_count,
    check_length,
    locate,
    start_graph,
)
from stgraph.report import Report

_ROWS_AT_ONCE = 2_048  # tied places resolved at a time, so that lists of candidates stay small


def build_knn(
    places: Places,
    *,
    k: int = 8,
    max_length_m: float | None = None,
    weight: Weight = "length",
) -> STGraph:
    """Connect every place to its k nearest neighbours.

    Parameters
    ----------
    places
        One row per node, indexed by unique node id, in any CRS; lines and polygons count with
        their centroid. A graph keeps its nodes and signal and gets new edges.
    k
        Neighbours per node, at least 1; with fewer candidates a node gets fewer edges. Of
        neighbours equally far away, those that come first in `places` are taken.
    max_length_m
        Drop edges longer than this, in metres. None keeps all.
    weight
        ``"length"``: metres; ``"gaussian"``: exp(-(length/sigma)^2) with sigma the mean length
        of the edges; ``"binary"``: 1.

    Returns
    -------
    STGraph
        N nodes, at most N*k directed edges (neighbour -> node) sorted by (target, source), their
        lengths in ``edges["length_m"]``. Nodes without geometry stay without edges.

    Raises
    ------
    GraphError
        Options, geometry or CRS cannot be used; every problem is listed.

    Notes
    -----
    Lengths are projected metres, or great-circle metres where the CRS is geographic or Mercator.
    """
    report = Report()
    check_count(report, "k", k)
    check_length(report, "max_length_m", max_length_m)
    check_weight(report, weight)
    graph = start_graph(places, report)
    positions = locate(graph, report)
    report.raise_errors(GraphError, title="cannot connect nearest neighbours")

    pairs = nearest_pairs(positions, k).no_longer_than(max_length_m).of_nodes(positions)
    weights, notes = weigh(pairs.length_m, weight)
    how = {"method": "knn", "k": k, "max_length_m": max_length_m, "metric": positions.metric}
    return finish_graph(graph, pairs, weights, how=how | notes, report=report)


def build_radius(
    places: Places,
    *,
    radius_m: float,
    max_neighbours: int | None = None,
    weight: Weight = "length",
) -> STGraph:
    """Connect every place to all others within a radius.

    Parameters
    ----------
    places
        As for `build_knn`.
    radius_m
        Longest edge in metres, itself included.
    max_neighbours
        Keep only the nearest so many per node. None keeps all, and the graph is symmetric.
    weight
        As for `build_knn`.

    Returns
    -------
    STGraph
        N nodes, directed edges (neighbour -> node) sorted by (target, source), their lengths in
        ``edges["length_m"]``.

    Raises
    ------
    GraphError
        Options, geometry or CRS cannot be used, or the radius gives more than 50 million edges.
    """
    report = Report()
    check_length(report, "radius_m", radius_m, optional=False)
    check_count(report, "max_neighbours", max_neighbours, optional=True)
    check_weight(report, weight)
    graph = start_graph(places, report)
    positions = locate(graph, report)
    report.raise_errors(GraphError, title="cannot connect places within a radius")

    if max_neighbours is None:
        pairs = pairs_within(positions, radius_m)
    else:
        pairs = nearest_pairs(positions, max_neighbours).no_longer_than(radius_m)
    pairs = pairs.of_nodes(positions)
    weights, notes = weigh(pairs.length_m, weight)
    how = {
        "method": "radius",
        "radius_m": float(radius_m),
        "max_neighbours": max_neighbours,
        "metric": positions.metric,
    }
    return finish_graph(graph, pairs, weights, how=how | notes, report=report)


def nearest_pairs(positions: Positions, k: int) -> Pairs:
    """Return for every point the pairs with its k nearest others, deterministic under ties."""
    n = len(positions)
    check_edge_count(n * min(k, n - 1), todo="use a smaller `k`")
    if n < 2:
        return no_pairs()
    tree = positions.tree()
    # the point itself, its k nearest, and one more to see whether the k-th place is contested
    n_found = min(k + 2, n)
    straight, found = (np.asarray(part) for part in tree.query(positions.xyz, k=n_found))
    contested = np.zeros(n, dtype=bool)
    if n_found == k + 2:
        contested = straight[:, k + 1] - straight[:, k] <= 2 * TIE_M
    clear = np.flatnonzero(~contested)
    parts = [_best(positions, found[clear].ravel(), np.repeat(clear, n_found), k)]
    if contested.any():
        crowded = np.flatnonzero(contested & (straight[:, -2] == 0))
        on_spot = _first_on_spot(positions, crowded, k + 1)
        parts.append(_best(positions, on_spot.ravel(), np.repeat(crowded, k + 1), k))
        contested[crowded] = False
    rows = np.flatnonzero(contested)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        reach = straight[some, k] + 2 * TIE_M
        around: list[list[int]] = list(tree.query_ball_point(positions.xyz[some], reach))
        target = np.repeat(some, [len(candidates) for candidates in around])
        parts.append(_best(positions, np.concatenate(around), target, k))
    return Pairs(
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.length_m for part in parts]),
    )


def pairs_within(positions: Positions, radius_m: float) -> Pairs:
    """Return all pairs of different points up to a length, in both directions."""
    tree = positions.tree()
    reach = positions.to_straight(radius_m) + TIE_M  # the exact length decides below
    count = int(tree.count_neighbors(tree, reach)) - len(positions)
    check_edge_count(count, todo="use a smaller radius, or limit the neighbours per node")
    first, second = tree.query_pairs(reach, output_type="ndarray").astype(np.int64).T
    pairs = Pairs(first, second, positions.lengths(first, second))
    return pairs.no_longer_than(radius_m).both_ways()


def _first_on_spot(positions: Positions, rows: IntArray, count: int) -> IntArray:
    """Return the first points that share the spot of each, of which there are enough."""
    spot_of = np.unique(positions.xyz, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(spot_of, kind="stable")
    start = np.searchsorted(spot_of[order], spot_of[rows])
    chosen: IntArray = order[start[:, None] + np.arange(count)]
    return chosen


def _best(positions: Positions, source: IntArray, target: IntArray, k: int) -> Pairs:
    """Return the k shortest of some candidate pairs per target, without the point itself."""
    others = source != target
    source, target = source[others].astype(np.int64), target[others]
    return Pairs(source, target, positions.lengths(source, target)).nearest_per_target(k)
