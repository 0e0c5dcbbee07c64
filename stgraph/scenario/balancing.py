"""Matrices of trips with given sums of rows and columns (Furness, or IPF)."""

from __future__ import annotations

import numpy as np

from stgraph.scenario.week import Floats


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
