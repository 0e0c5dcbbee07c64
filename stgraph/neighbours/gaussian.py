"""Connect places by similarity: the thresholded Gaussian kernel of their distances."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from stgraph.errors import GraphError
from stgraph.graph import STGraph
from stgraph.neighbours._edges import Pairs, finish_graph, gaussian_kernel, mean_length
from stgraph.neighbours._places import (
    DENSE_LIMIT,
    Places,
    Positions,
    check_count,
    check_length,
    locate,
    start_graph,
)
from stgraph.neighbours.nearest import nearest_pairs, pairs_within
from stgraph.report import Report

_PAIRS_AT_ONCE = 4_000_000  # distances held while sigma is measured


def build_gaussian(
    places: Places,
    *,
    k: int | None = None,
    radius_m: float | None = None,
    sigma_m: float | None = None,
    threshold: float = 0.1,
    include_self: bool = False,
) -> STGraph:
    """Connect similar places: weight exp(-(distance/sigma)^2), small weights dropped.

    Parameters
    ----------
    places
        As for `build_knn`.
    k
        Look at the k nearest of each node only. None looks at all.
    radius_m
        Look at pairs up to so many metres only. None looks at all; beyond 5,000 nodes one of
        `k`, `radius_m` and `sigma_m` is needed.
    sigma_m
        Width of the kernel in metres. None takes the standard deviation of all distances, or
        with `k` or `radius_m` the mean of the distances looked at: their deviation says how
        uneven the layout is, not how wide, and is near 0 on a grid.
    threshold
        Smallest weight kept, from 0 up to but not including 1.
    include_self
        Whether every located node gets an edge to itself, of weight 1.

    Returns
    -------
    STGraph
        N nodes, directed edges (neighbour -> node) with weights in (0, 1], sorted by
        (target, source), their lengths in ``edges["length_m"]``; sigma is noted in
        ``provenance["graph"]``.

    Raises
    ------
    GraphError
        Options, geometry or CRS cannot be used; every problem is listed.

    Notes
    -----
    The kernel of Li et al., "Diffusion convolutional recurrent neural network", ICLR 2018, there
    on road distances: `build_from_distances` does that from a table.
    """
    report = Report()
    check_count(report, "k", k, optional=True)
    check_length(report, "radius_m", radius_m)
    check_length(report, "sigma_m", sigma_m)
    check_threshold(report, threshold)
    if k is not None and radius_m is not None:
        report.error("`k` and `radius_m`", "are both given", "choose one")
    graph = start_graph(places, report)
    positions = locate(graph, report)
    all_pairs = k is None and radius_m is None and (sigma_m is None or threshold == 0)
    if all_pairs and len(positions) > DENSE_LIMIT:
        report.error(
            "`places`",
            f"{len(positions)} nodes are too many to look at all pairs (limit {DENSE_LIMIT})",
            "give `k`, `radius_m`, or `sigma_m` with a threshold above 0",
        )
    report.raise_errors(GraphError, title="cannot connect similar places")

    pairs, sigma_m = _candidates(positions, k, radius_m, sigma_m, threshold)
    pairs = pairs.take(gaussian_kernel(pairs.length_m, sigma_m) >= threshold)
    if include_self:
        pairs = _with_self(pairs, len(positions))
    pairs = pairs.of_nodes(positions)
    how: dict[str, Any] = {
        "method": "gaussian",
        "k": k,
        "radius_m": radius_m,
        "sigma_m": sigma_m,
        "threshold": threshold,
        "include_self": include_self,
        "metric": positions.metric,
        "weight_unit": "1",
    }
    weights = gaussian_kernel(pairs.length_m, sigma_m)
    return finish_graph(graph, pairs, weights, how=how, report=report)


def check_threshold(report: Report, threshold: Any) -> None:
    """Note a threshold that is no number from 0 up to but not including 1."""
    if not isinstance(threshold, int | float | np.number) or not 0 <= threshold < 1:
        report.error("`threshold`", f"is {threshold!r}", "use a number from 0 to below 1")


def _candidates(
    positions: Positions,
    k: int | None,
    radius_m: float | None,
    sigma_m: float | None,
    threshold: float,
) -> tuple[Pairs, float]:
    """Return the pairs to look at and the width of the kernel."""
    if k is None and radius_m is None:
        sigma_m = sigma_m or _sigma_of_all(positions)
        # no pair beyond this length can reach the threshold
        reach = np.inf if threshold == 0 else sigma_m * np.sqrt(-np.log(threshold)) * (1 + 1e-9)
        return pairs_within(positions, float(reach)), sigma_m
    pairs = nearest_pairs(positions, k) if k is not None else pairs_within(positions, radius_m)  # type: ignore[arg-type]
    return pairs, sigma_m or mean_length(pairs.length_m)


def _sigma_of_all(positions: Positions) -> float:
    """Return the standard deviation of all distances, without holding all of them."""
    n = len(positions)
    count, total, squares = n * (n - 1), 0.0, 0.0
    if count == 0:
        return 1.0
    rows = max(1, _PAIRS_AT_ONCE // n)
    blocks = [positions.xyz[start : start + rows] for start in range(0, n, rows)]
    total = sum(positions.to_length(cdist(block, positions.xyz)).sum() for block in blocks)
    mean = total / count
    for block in blocks:
        squares += np.square(positions.to_length(cdist(block, positions.xyz)) - mean).sum()
    variance = (squares - n * mean**2) / count  # without the N zeros of each point with itself
    sigma = float(np.sqrt(max(variance, 0.0)))
    # two places, or places that are all equally far apart, have no spread
    return sigma if sigma > mean * 1e-6 else float(mean) or 1.0


def _with_self(pairs: Pairs, n: int) -> Pairs:
    """Return the pairs and every point with itself."""
    itself = np.arange(n, dtype=np.int64)
    return Pairs(
        np.concatenate([pairs.source, itself]),
        np.concatenate([pairs.target, itself]),
        np.concatenate([pairs.length_m, np.zeros(n)]),
    )
