"""How many trips of which pattern there are in each period, by counted flows."""

from __future__ import annotations

import itertools

import numpy as np

from stgraph.scenario.week import Floats

_RIDGE = 1e-6  # of the mean square, so that patterns that look alike share


def fit_mix(flows: Floats, counted: Floats, weights: Floats) -> Floats:
    """Find the amounts of patterns that fit counted flows best, none of them negative.

    Parameters
    ----------
    flows
        (K, C) flow on every link of one trip of a pattern; K is small.
    counted
        (P, C) vehicles per hour, NaN where unknown.
    weights
        (C,) of the squared errors.

    Returns
    -------
    numpy.ndarray
        (P, K) trips per hour; 0 in periods without any count.
    """
    known = np.isfinite(counted)
    value = np.where(known, counted, 0.0)
    k = len(flows)
    products = (flows[:, None] * flows[None] * weights).reshape(k * k, -1)
    square = (known @ products.T).reshape(-1, k, k)
    side = (value * weights) @ flows.T
    mean = np.trace(square, axis1=1, axis2=2)[:, None, None] / k
    square = square + (_RIDGE * mean + 1e-300) * np.eye(k)
    best, found = np.zeros(len(counted)), np.zeros((len(counted), k))
    # with 3 patterns there are 7 sets of those above 0: try them all
    for size in range(1, k + 1):
        for subset in itertools.combinations(range(k), size):
            rows = np.asarray(subset)
            part = square[:, rows[:, None], rows]
            amount = np.linalg.solve(part, side[:, rows, None])[:, :, 0]
            gain = (amount * side[:, rows]).sum(axis=1)
            better = (amount >= 0).all(axis=1) & (gain > best)
            best = np.where(better, gain, best)
            found[better] = 0.0
            found[np.ix_(better, rows)] = amount[better]
    return found
