"""Weights of zones, found by counted flows."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array

from stgraph.graph import STGraph
from stgraph.scenario.counts import Counts
from stgraph.scenario.mixing import fit_mix
from stgraph.scenario.week import Floats

_PENALTY = 0.03  # of the squared logarithms by which weights are changed, per zone
_ROUNDS = 5  # amounts and weights in turns
_STEPS = 15  # of the optimiser in a round
_MOST_LINKS = 3000  # more hardly change the weights


def guess_weights(roads: STGraph, counts: Counts) -> tuple[Floats, Floats]:
    """Guess how many trips begin and end at junctions, by the flows there.

    Links that are not counted have the mean flow of their class. A junction that more vehicles
    enter than leave in the morning has more work than homes.

    Parameters
    ----------
    roads
        Junctions as nodes, segments as edges.
    counts
        Vehicles per hour.

    Returns
    -------
    homes, jobs
        (N,) and (N,), each with the sum 1.
    """
    source, target = roads.edge_index
    n = roads.n_nodes
    mean = _mean(counts.flow)
    flow = np.full(roads.n_edges, float(mean.mean()))
    classes = _classes(roads)
    counted = np.zeros(roads.n_edges, dtype=bool)
    counted[counts.segments] = True
    for one in np.unique(classes):
        alike = classes == one
        members = alike[counts.segments]
        if members.any():
            flow[alike] = mean[members].mean()
    flow[counts.segments] = mean
    through = np.bincount(source, flow, n) + np.bincount(target, flow, n)
    morning = np.unique(counts.period_of_hour[:5, 6:10])
    change = _mean(counts.flow[morning])
    at = np.zeros(roads.n_edges)
    at[counts.segments] = change
    # only where all streets of a junction are counted is the balance known
    missing = np.bincount(source, ~counted, n) + np.bincount(target, ~counted, n)
    gain = np.where(missing == 0, np.bincount(target, at, n) - np.bincount(source, at, n), 0.0)
    tilt = gain / max(float(np.abs(gain).max()), 1e-300)
    through = np.maximum(through, 1e-6 * through.max())
    homes, jobs = through * np.exp(-tilt), through * np.exp(tilt)
    return homes / homes.sum(), jobs / jobs.sum()


def _mean(flow: Floats) -> Floats:
    """Return the (C,) means over periods of what is known, 0 where nothing is."""
    known = np.isfinite(flow)
    mean: Floats = np.where(known, flow, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return mean


def _classes(roads: STGraph) -> Any:
    """Return the (E,) road classes, all alike where there are none."""
    table = roads.edges
    column = next((c for c in ("highway", "road_class") if table is not None and c in table), None)
    if table is None or column is None:
        return np.zeros(roads.n_edges, dtype=np.int64).astype(str)
    return table[column].astype(str).to_numpy(dtype=str)


def fit_weights(
    resistance: Floats, share: csr_array, counts: Counts, start: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Find weights of zones whose gravity trips have the flows that were counted.

    Trips from i to j are h_i j_j f_ij, j_i h_j f_ij and m_i m_j f_ij with m the mean of h and j,
    in amounts by period. Logarithms of weights that move away from the start are penalised.

    Parameters
    ----------
    resistance
        (Z, Z) f, 0 on the diagonal.
    share
        (Z * Z, C) part of a pair's trips that uses a counted link.
    counts
        Vehicles per hour on these links.
    start
        (Z,) and (Z,) first guess, such as of `guess_weights`.

    Returns
    -------
    productions, attractions
        (Z,) and (Z,): shares of the first pattern's trips that begin and end in a zone.
    """
    if counts.n_links > _MOST_LINKS:
        some = np.random.default_rng(0).permutation(counts.n_links)[:_MOST_LINKS]
        share, counts = share[:, np.sort(some)], counts.take(np.sort(some))
    n = len(resistance)
    share, back = csr_array(share.T), csr_array(share)  # (C, Z * Z) and its transpose
    weight, known = counts.weights(), np.isfinite(counts.flow)
    value = np.nan_to_num(counts.flow)
    scale = max(float((value**2 * weight).sum()), 1e-300)
    origin = np.log(np.concatenate([np.maximum(one, 1e-9) for one in start]))
    amounts = np.zeros((len(value), 3))

    def flows(logs: Floats) -> Floats:
        trips = _patterns(np.exp(logs[:n]), np.exp(logs[n:]), resistance)
        return np.asarray((share @ trips.reshape(3, -1).T).T)

    def error(logs: Floats) -> tuple[float, Floats]:
        first, last = np.exp(logs[:n]), np.exp(logs[n:])
        wrong = (amounts @ flows(logs) - value) * known * weight
        # of the squared errors by the trips of each pattern, then by the weights
        slope = (back @ (2 * amounts.T @ wrong).T).T.reshape(3, n, n) * resistance / scale
        mean = (first + last) / 2
        both = (slope[2] @ mean + slope[2].T @ mean) / 2
        by_first = slope[0] @ last + slope[1].T @ last + both
        by_last = slope[0].T @ first + slope[1] @ first + both
        away = logs - origin
        total = float((wrong**2 / weight).sum() / scale + _PENALTY * (away @ away) / n)
        gradient = np.concatenate([by_first * first, by_last * last])
        return total, gradient + 2 * _PENALTY * away / n

    logs = origin
    for _ in range(_ROUNDS):
        amounts = fit_mix(flows(logs), counts.flow, weight)
        logs = minimize(error, logs, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    trips = _patterns(np.exp(logs[:n]), np.exp(logs[n:]), resistance)[0]
    rows, columns = trips.sum(axis=1), trips.sum(axis=0)
    return rows / rows.sum(), columns / columns.sum()


def _patterns(first: Floats, last: Floats, resistance: Floats) -> Floats:
    """Return the (3, Z, Z) trips there, back and among."""
    mean = (first + last) / 2
    return np.stack([
        first[:, None] * last * resistance,
        last[:, None] * first * resistance,
        mean[:, None] * mean * resistance,
    ])  # fmt: skip
