"""Trips that have given sums: of rows and columns (Furness, or IPF), or of flows on links."""

from __future__ import annotations

import itertools

import numpy as np

from stgraph.scenario.week import Floats

_RIDGE = 1e-6  # of the mean square, so that patterns that look alike share


def furness(
    seed: Floats,
    rows: Floats,
    columns: Floats,
    *,
    tolerance: float = 1e-9,
    max_rounds: int = 500,
) -> Floats:
    """Scale rows and columns of a matrix until their sums are as wanted.

    Parameters
    ----------
    seed
        (Z, Z), at least 0; what is 0 stays 0.
    rows, columns
        (Z,) sums wanted, at least 0. Columns are scaled to the total of the rows first. Rows and
        columns of which the seed is 0 cannot get trips: theirs go to the others in proportion.
    tolerance
        Largest error of a row's sum, as a share of the total.
    max_rounds
        Stop then, whatever the error.

    Returns
    -------
    Floats
        (Z, Z) with exactly the total of `rows` (0 if the seed is 0), and column sums as wanted.
    """
    total = float(rows.sum())
    rows = np.where(seed.sum(axis=1) > 0, rows, 0.0)
    columns = np.where(seed.sum(axis=0) > 0, columns, 0.0)
    if not (total > 0 and rows.sum() > 0 and columns.sum() > 0):
        return np.zeros_like(seed, dtype=np.float64)
    rows, columns = rows * (total / rows.sum()), columns * (total / columns.sum())
    # only the factors of rows and columns change: a product with a vector is all a round takes
    by_row, by_column = np.ones(len(rows)), np.ones(len(columns))
    for _ in range(max_rounds):
        sums = seed @ by_column
        by_row = np.divide(rows, sums, out=np.zeros_like(sums), where=sums > 0)
        sums = by_row @ seed
        by_column = np.divide(columns, sums, out=np.zeros_like(sums), where=sums > 0)
        wrong = np.abs(by_row * (seed @ by_column) - rows).max()
        if wrong <= tolerance * total:
            break
    trips: Floats = by_row[:, None] * seed * by_column
    return trips * (total / trips.sum()) if trips.sum() > 0 else trips


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
