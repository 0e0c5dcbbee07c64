"""A signal laid out by local day and time of day, and medians over the days."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from stgraph.errors import InputError
from stgraph.graph import BoolArray, FloatArray, IntArray
from stgraph.preprocessing.calendar import local_day, slots_per_day, time_of_day_slot

Statistic = Literal["median", "mean"]

_PIECE_VALUES = 2_000_000  # values laid out at once


@dataclass(frozen=True, eq=False)
class DayGrid:
    """Where on the time axis every time of day of every local day lies.

    A day on which clocks repeat an hour has a second row for the repeated part.
    """

    steps: IntArray  # (R, S) position on the time axis, T where the day has no such step
    days: IntArray  # (R,) local day of the row, as `local_day` counts
    n_steps: int  # T

    @property
    def repeated(self) -> BoolArray:
        """Rows whose day has more than one row, (R,)."""
        _, inverse, counts = np.unique(self.days, return_inverse=True, return_counts=True)
        return np.asarray(counts[inverse] > 1)

    def lay_out(self, values: FloatArray, mask: BoolArray) -> FloatArray:
        """Return (T, N, C) values as (N * C, S, R), NaN where not observed."""
        flat = np.full((self.n_steps + 1, values[0].size), np.nan, dtype=np.float32)
        seen = mask & np.isfinite(values)
        flat[:-1] = np.where(seen, values, np.nan).reshape(self.n_steps, -1)
        return np.ascontiguousarray(flat[self.steps].transpose(2, 1, 0))

    def lay_back(self, laid_out: FloatArray, out: FloatArray) -> None:
        """Write (N * C, S, R) values to their steps in `out` of shape (T, N, C)."""
        present = self.steps < self.n_steps
        rows = laid_out.transpose(2, 1, 0)[present]
        out[self.steps[present]] = rows.reshape(-1, *out.shape[1:])

    def node_blocks(self, values: FloatArray) -> Iterator[slice]:
        """Yield slices of nodes small enough to be laid out at once."""
        per_node = max(1, self.steps.size * values.shape[2])
        width = max(1, _PIECE_VALUES // per_node)
        for start in range(0, values.shape[1], width):
            yield slice(start, min(start + width, values.shape[1]))


def build_day_grid(time: pd.DatetimeIndex, zone: str, step: pd.Timedelta) -> DayGrid:
    """Return the grid of a time axis; `time` must rise."""
    day, slot = local_day(time, zone), time_of_day_slot(time, zone, step)
    n_slots = slots_per_day(step)
    # the k-th step in the same slot of the same day goes to the k-th row of the day
    key = day * n_slots + slot
    order = np.argsort(key, kind="stable")
    _, first, counts = np.unique(key[order], return_index=True, return_counts=True)
    occurrence = np.empty_like(key)
    occurrence[order] = np.arange(len(key)) - np.repeat(first, counts)
    n_rows_a_day = int(counts.max(initial=1))
    rows, row = np.unique(day * n_rows_a_day + occurrence, return_inverse=True)
    steps = np.full((len(rows), n_slots), len(time), dtype=np.int64)
    steps[row, slot] = np.arange(len(time))
    return DayGrid(steps=steps, days=rows // n_rows_a_day, n_steps=len(time))


def step_of(time: pd.DatetimeIndex) -> pd.Timedelta:
    """Return the smallest distance of a time axis that must rise."""
    if len(time) < 2:
        raise InputError("`time` has fewer than two instants, so it has no step")
    steps = np.diff(time.as_unit("us").asi8)
    if steps.min() <= 0:
        place = int(steps.argmin())
        raise InputError(f"`time` does not rise: {time[place]} is followed by {time[place + 1]}")
    return pd.Timedelta(int(steps.min()), unit="us")


def center(x: FloatArray, statistic: Statistic) -> tuple[FloatArray, IntArray]:
    """Return median or mean along the last axis without NaN, and how many values it had."""
    count = np.isfinite(x).sum(axis=-1)
    if statistic == "mean":
        total = np.where(np.isfinite(x), x, 0).sum(axis=-1, dtype=np.float64)
        return _or_nan(total / np.maximum(count, 1), count), count
    ordered = np.sort(x, axis=-1)  # NaN goes last
    low, high = _pick(ordered, (count - 1) // 2), _pick(ordered, count // 2)
    return _or_nan(_middle(low, high), count), count


def center_without(
    x: FloatArray, own: IntArray, repeated: BoolArray, statistic: Statistic
) -> tuple[FloatArray, IntArray]:
    """Return, for each place on the last axis, median or mean of all others, and their number.

    Parameters
    ----------
    x
        (M, S, R) values, NaN where there is none.
    own
        (R,) groups: places of the same group are left out together.
    repeated
        (R,) places whose group has other places too.
    statistic
        ``median`` or ``mean``.

    Returns
    -------
    FloatArray
        (M, S, R), NaN where nothing is left.
    IntArray
        (M, S, R), how many values were left.
    """
    here = np.isfinite(x)
    count = here.sum(axis=-1)[..., None]
    left = count - here
    if statistic == "mean":
        value = np.where(here, x, 0).astype(np.float64)
        rest = (value.sum(axis=-1)[..., None] - value) / np.maximum(left, 1)
    else:
        rest = _median_without_one(x, here, count[..., 0])
    rest = _or_nan(rest, left)
    for group in np.unique(own[repeated]):
        _leave_out_together(x, rest, left, np.flatnonzero(own == group), statistic)
    return rest, left


def _leave_out_together(
    x: FloatArray, rest: FloatArray, left: IntArray, places: IntArray, statistic: Statistic
) -> None:
    """Correct `rest` and `left` at places that are left out together."""
    here = np.isfinite(x[..., places])
    # a slot that one place fills at most: that place's numbers hold for all of them
    filled = here.argmax(axis=-1)[..., None]
    for numbers in (rest, left):
        numbers[..., places] = np.take_along_axis(numbers[..., places], filled, axis=-1)
    crowded = (here.sum(axis=-1) > 1).any(axis=0)
    others, n_others = center(np.delete(x[:, crowded], places, axis=-1), statistic)
    slots = np.ix_(np.arange(len(x)), np.flatnonzero(crowded), places)
    rest[slots], left[slots] = others[..., None], n_others[..., None]


def _median_without_one(x: FloatArray, here: BoolArray, count: IntArray) -> FloatArray:
    """Return for each value the median of the others; of all where there is no value.

    In a sorted row a, leaving out x turns the k-th value into a[k] if x > a[k], else a[k+1]: one
    sort serves all places.
    """
    ordered = np.sort(x, axis=-1)
    low, high = (_without_one(ordered, x, k) for k in ((count - 2) // 2, (count - 1) // 2))
    rest = _middle(low, high)
    if not here.all():
        low, high = _pick(ordered, (count - 1) // 2), _pick(ordered, count // 2)
        rest = np.where(here, rest, _middle(low, high)[..., None])
    return rest


def _without_one(ordered: FloatArray, x: FloatArray, k: IntArray) -> FloatArray:
    """Return the k-th of the sorted values that are left without x."""
    low, high = _pick(ordered, k)[..., None], _pick(ordered, k + 1)[..., None]
    return np.where(x > low, low, high)


def _pick(ordered: FloatArray, k: IntArray) -> FloatArray:
    """Return the k-th value of every row, any if there is no k-th."""
    if ordered.shape[-1] == 0:
        return np.full(k.shape, np.nan, dtype=np.float32)
    k = k.clip(0, ordered.shape[-1] - 1)
    return np.take_along_axis(ordered, k[..., None], axis=-1)[..., 0]


def _middle(low: FloatArray, high: FloatArray) -> FloatArray:
    """Return the middle of two numbers without overflow."""
    return np.asarray(low * np.float32(0.5) + high * np.float32(0.5), dtype=np.float32)


def _or_nan(
    values: np.ndarray[tuple[int, ...], np.dtype[np.floating]], count: IntArray
) -> FloatArray:
    """Return the values as float32, NaN where nothing was counted."""
    return np.where(count > 0, values, np.nan).astype(np.float32)
