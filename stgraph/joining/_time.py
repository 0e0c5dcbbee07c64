"""Values of other instants on the steps of a graph, by stated rules."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import BoolArray, FloatArray, IntArray

TimeRule = Literal["as-of", "mean", "sum", "min", "max"]

_ONE = pd.Timedelta(1, "us")


def values_as_of(
    values: FloatArray,
    known: BoolArray,
    given: pd.DatetimeIndex,
    wanted: pd.DatetimeIndex,
    *,
    max_age: pd.Timedelta,
) -> FloatArray:
    """Return the last known value at or before each step, NaN where it is older than `max_age`.

    Parameters
    ----------
    values, known
        (S, P) values and whether they are known.
    given
        (S,) instants of the values, ascending.
    wanted
        (T,) instants of the result.
    max_age
        Oldest value that still counts.

    Returns
    -------
    FloatArray
        (T, P).
    """
    rows = np.arange(len(given), dtype=np.int32)[:, None]
    last = np.maximum.accumulate(np.where(known, rows, np.int32(-1)), axis=0)  # (S, P)
    before = given.searchsorted(wanted, side="right") - 1
    found = np.where(before[:, None] >= 0, last[np.maximum(before, 0)], -1)  # (T, P)
    instants = given.as_unit("us").asi8
    age = wanted.as_unit("us").asi8[:, None] - instants[np.maximum(found, 0)]
    counts = (found >= 0) & (age <= max_age // _ONE)
    taken = np.take_along_axis(values, np.maximum(found, 0), axis=0)
    return np.where(counts, taken, np.float32(np.nan)).astype(np.float32)


def values_per_step(
    values: FloatArray,
    known: BoolArray,
    given: pd.DatetimeIndex,
    wanted: pd.DatetimeIndex,
    *,
    step: pd.Timedelta,
    rule: TimeRule,
    ahead: bool,
    min_known: float,
) -> FloatArray:
    """Return values of several instants as one per step.

    Parameters
    ----------
    values, known, given, wanted
        As for `values_as_of`; `wanted` has a fixed step.
    step
        The step of `wanted`.
    rule
        ``mean``, ``sum``, ``min`` or ``max`` of what is known.
    ahead
        Whether a step covers the instants from itself on, ``[t, t + step)``, which only what is
        known beforehand may do; else those up to itself, ``(t - step, t]``.
    min_known
        Smallest number of known instants in a step; with fewer there is no value.

    Returns
    -------
    FloatArray
        (T, P), NaN where too little is known.
    """
    start, length = wanted.as_unit("us").asi8[0], step // _ONE
    since = given.as_unit("us").asi8 - start
    row = since // length if ahead else -((-since) // length)  # floor, or ceiling
    inside = (row >= 0) & (row < len(wanted))
    result = np.full((len(wanted), values.shape[1]), np.nan, dtype=np.float32)
    if not inside.any():
        return result
    row, values, known = row[inside], values[inside], known[inside]
    rows, firsts = np.unique(row, return_index=True)  # instants ascend, so do rows
    one, count = reduce_runs(values, known, firsts, rule, axis=0)
    result[rows] = np.where(count >= max(min_known, 1), one, np.nan)
    return result


def reduce_runs(
    values: FloatArray, known: BoolArray, firsts: IntArray, rule: str, *, axis: int
) -> tuple[npt.NDArray[np.float64], IntArray]:
    """Return one value of each run of values and how many of them are known.

    Parameters
    ----------
    values, known
        Of one shape.
    firsts
        Where runs begin along `axis`.
    rule
        ``mean``, ``sum``, ``min`` or ``max`` of what is known; of nothing, something finite or not.
    axis
        Along which values become one.
    """
    count = np.add.reduceat(known, firsts, axis=axis, dtype=np.int64)
    if rule in ("min", "max"):
        neutral = np.inf if rule == "min" else -np.inf
        function = np.minimum if rule == "min" else np.maximum
        return function.reduceat(np.where(known, values, neutral), firsts, axis=axis), count
    total = np.add.reduceat(np.where(known, values, 0.0).astype(np.float64), firsts, axis=axis)
    return total / np.maximum(count, 1) if rule == "mean" else total, count
