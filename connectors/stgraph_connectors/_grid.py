"""Bring readings onto a regular UTC grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.report import Report
from stgraph_connectors._clock import Int64Array
from stgraph_connectors._signal import Floats, Readings

Aggregate = Literal["mean", "sum", "first", "last", "max", "min"]
Duplicates = Literal["mean", "first", "last", "error"]

_MINUTE = 60_000_000  # microseconds
_LONG_AXIS = 50_000  # steps above which an almost empty time axis is refused
_EMPTY_FACTOR = 100  # steps per instant that has readings
_REGULAR = 0.6  # share of the usual difference from which on readings come on schedule, gaps apart
_FEW = 0.01  # share of instants that may be typed wrong


@dataclass(frozen=True)
class GridOptions:
    """How readings are brought onto the grid."""

    step_minutes: float | None = None  # None: the most frequent difference
    aggregate: Aggregate = "mean"  # how finer readings become one step
    duplicates: Duplicates = "mean"  # how readings of one station and instant become one
    max_cells: int = 500_000_000  # largest grid, T * N * F
    zone: str = "UTC"  # steps start at whole multiples from local midnight


@dataclass(frozen=True)
class Grid:
    """A regular time axis and the values on it."""

    time: pd.DatetimeIndex  # (T,) UTC, with freq
    values: npt.NDArray[np.float32]  # (T, N, F)
    step_minutes: float


@dataclass(frozen=True)
class _Step:
    """The step of the grid, and that of the readings, in microseconds."""

    size: int
    phase: int  # steps start this long after a multiple of the size since 1970
    raw: int | None  # most frequent difference of the readings
    share: float  # its share of all differences

    @property
    def is_coarser(self) -> bool:
        """Tell whether several readings fall into a step."""
        return self.raw is not None and self.size >= 1.5 * self.raw

    @property
    def n_expected(self) -> int:
        """Readings in a complete step; 0 where that cannot be known."""
        if self.raw is None or self.share < _REGULAR or self.size % self.raw:
            return 0
        return self.size // self.raw


def to_grid(readings: Readings, n_nodes: int, options: GridOptions, report: Report) -> Grid | None:
    """Return the readings on a regular grid, or None when that cannot be, as `report` says.

    Parameters
    ----------
    readings
        At least one row.
    n_nodes
        N, the nodes of the graph.
    options
        Step and rules.
    report
        Takes the findings.
    """
    readings, instants = _merge_duplicates(readings, options.duplicates, report)
    step = _choose_step(readings, instants, options, report)
    if step is None:
        return None
    bins = _bins(readings, step, report)
    first = int(bins.min())
    shape = (int(bins.max()) - first + 1, n_nodes, len(readings.features))
    if _is_too_sparse(readings, instants, shape, options.max_cells, step, report):
        return None
    row_bins, stations, values = _aggregate(
        readings, bins - first, shape[0], options.aggregate, step, report
    )
    start = pd.Timestamp(first * step.size + step.phase, unit="us", tz="UTC").as_unit("us")
    length = pd.Timedelta(step.size, unit="us")
    time = pd.date_range(start, periods=shape[0], freq=length, unit="us")
    return Grid(time, _scatter(row_bins, stations, values, shape), step.size / _MINUTE)


def _merge_duplicates(
    readings: Readings, how: Duplicates, report: Report
) -> tuple[Readings, Int64Array]:
    """Return readings sorted by station and time, one each, and their distinct instants."""
    codes, distinct = pd.factorize(readings.time)
    order = np.argsort(distinct, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    instants = np.asarray(distinct, dtype=np.int64)[order]
    keys = rank[codes]
    if not readings.is_wide:
        keys = readings.stations * len(instants) + keys
    if (np.diff(keys) < 0).any():
        order = np.argsort(keys, kind="stable")  # stable: the order of the file decides the rest
        readings, keys = readings.take(order), keys[order]
        _note_unsorted(readings, report)
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    if len(starts) == len(keys):
        return readings, instants
    _note_duplicates(readings, keys, starts, how, report)
    values = _reduce(readings.values, starts, "first" if how == "error" else how)
    return replace(readings.take(starts), values=values), instants


def _note_unsorted(readings: Readings, report: Report) -> None:
    """Say how many rows stand below a later one of their station; all are sorted by now."""
    places = readings.rows
    if not readings.is_wide:
        places = places + readings.stations * sum(readings.lengths)  # apart by station
    highest = np.minimum.accumulate(places[::-1])[::-1]  # of the rows that are not earlier
    late = np.flatnonzero(places[:-1] > highest[1:])
    if late.size:
        first = int(late[np.argmin(readings.rows[late])])
        what = f"{late.size} rows stand below a later one"
        report.info(readings.at(first), what, "they were sorted by time", count=late.size)


def _note_duplicates(
    readings: Readings, keys: Int64Array, starts: Int64Array, how: Duplicates, report: Report
) -> None:
    """Say how many readings came twice and how many of them differ."""
    extra = np.setdiff1d(np.arange(len(keys)), starts)
    high = _reduce(readings.values, starts, "max")
    low = _reduce(readings.values, starts, "min")
    differ = int((high > low).any(axis=tuple(range(1, high.ndim))).sum())
    thing = "instants" if readings.is_wide else "pairs of station and instant"
    what = f"{len(extra)} rows repeat earlier {thing}, {differ} of these with other values"
    where = readings.at(int(extra[np.argmin(readings.rows[extra])]))
    if how == "error":
        report.error(where, what, "remove them, or pass duplicates='mean', 'first' or 'last'")
    else:
        level = report.warning if differ else report.info
        level(where, what, f"they were merged by {how!r}", count=len(extra))


# ---------------------------------------------------------------- the step and its place


def _raw_step(readings: Readings) -> tuple[int | None, float]:
    """Return the most frequent difference in microseconds and its share of all differences."""
    steps = np.diff(readings.time)
    if not readings.is_wide:
        steps = steps[np.diff(readings.stations) == 0]
    if steps.size == 0:
        return None, 0.0
    distinct, counts = np.unique(steps, return_counts=True)
    most = int(np.argmax(counts))
    return int(distinct[most]), float(counts[most] / steps.size)


def _choose_step(
    readings: Readings, instants: Int64Array, options: GridOptions, report: Report
) -> _Step | None:
    """Return the step of the grid and where it starts."""
    raw, share = _raw_step(readings)
    given = options.step_minutes
    if given is not None:
        size = round(given * _MINUTE)
        if raw is not None and size < raw:
            what = f"readings are {raw / _MINUTE:g} minutes apart, finer steps are empty"
            report.warning(readings.name, what, f"step_minutes={given:g} was kept")
    elif raw is not None:
        size = raw
        what = f"step of {size / _MINUTE:g} minutes, {share:.1%} of the differences"
        if share < 0.5:
            todo = "readings are irregular; say the step with step_minutes="
            report.warning(readings.name, what, todo)
        else:
            report.info(readings.name, what, "inferred; say another with step_minutes=")
    else:
        what = "no station has two instants, so the step is not known"
        report.error(readings.name, what, "say it with step_minutes=")
        return None
    step = _Step(size, 0, raw, share)
    return replace(step, phase=_phase(instants, step, options.zone))


def _phase(instants: Int64Array, step: _Step, zone: str) -> int:
    """Return where steps start, in microseconds after a multiple of the step since 1970.

    Where most readings share one place in the step, as in 10:02, 10:07, the grid keeps it.
    """
    if not step.is_coarser:
        places, counts = np.unique(instants % step.size, return_counts=True)
        if counts.max() >= 0.5 * len(instants):
            return int(places[np.argmax(counts)])
    first = pd.Timestamp(int(instants[0]), unit="us", tz="UTC").tz_convert(zone)
    offset = (first.tz_localize(None) - first.tz_convert("UTC").tz_localize(None)).total_seconds()
    return -round(offset * 1e6) % step.size


def _bins(readings: Readings, step: _Step, report: Report) -> Int64Array:
    """Return the step of every reading: the one it lies in, or the nearest if not coarser."""
    since = readings.time - step.phase
    if step.is_coarser:
        return np.asarray(since // step.size, dtype=np.int64)
    bins = (since + step.size // 2) // step.size
    shift = np.abs(since - bins * step.size)
    if shift.any():
        count, most = int((shift > 0).sum()), int(shift.max())
        level = report.warning if most > step.size / 10 else report.info
        level(
            readings.at(int(np.argmax(shift))),
            f"{count} readings are off the grid by up to {most / _MINUTE:.3g} minutes",
            "they were moved to the nearest step",
            count=count,
        )
    return np.asarray(bins, dtype=np.int64)


# ---------------------------------------------------------------- refusing absurd grids


@dataclass(frozen=True)
class _Split:
    """The widest gap between instants, and the smaller side of it."""

    odd: int  # the instant of the smaller side next to the gap
    gap: int  # microseconds
    share: float  # of all instants, on the smaller side
    rest: int  # span of the larger side in microseconds
    option: str  # what leaves the smaller side out


def _split(instants: Int64Array) -> _Split:
    """Return the widest gap; at least two instants."""
    position = int(np.argmax(np.diff(instants)))
    before, after = instants[: position + 1], instants[position + 1 :]
    gap = int(after[0] - before[-1])
    if len(before) <= len(after):
        share, option = len(before) / len(instants), f"start='{_show(after[0])}'"
        return _Split(int(before[-1]), gap, share, int(after[-1] - after[0]), option)
    share, option = len(after) / len(instants), f"stop='{_show(after[0])}'"
    return _Split(int(after[0]), gap, share, int(before[-1] - before[0]), option)


def _is_too_sparse(
    readings: Readings,
    instants: Int64Array,
    shape: tuple[int, int, int],
    max_cells: int,
    step: _Step,
    report: Report,
) -> bool:
    """Refuse a grid that is too large or almost empty, naming the instant that stands apart."""
    if len(instants) < 2:
        return False
    n_steps, n_cells = shape[0], math.prod(shape)
    split = _split(instants)
    where = readings.at(int(np.argmax(readings.time == split.odd)))
    stands = f"{_show(split.odd)} stands apart by {_days(split.gap)}"
    size = f"the grid would have {n_cells:,} cells"
    todo = f"correct the time, pass {split.option}, or a longer step_minutes="
    if n_cells > max_cells:
        todo += f", or max_cells={n_cells}"
        report.error(where, f"{size}, {n_steps:,} steps; {stands}", todo)
        return True
    if n_steps > _LONG_AXIS and n_steps > _EMPTY_FACTOR * len(instants):
        minutes = step.size / _MINUTE
        what = f"readings in {len(instants):,} of {n_steps:,} steps of {minutes:g} minutes"
        report.error(where, f"{size}, with {what}; {stands}", todo)
        return True
    if split.share <= _FEW and split.gap > split.rest > 0:
        what = f"{stands} from all others"
        report.warning(where, what, f"if the time is wrong, correct it or pass {split.option}")
    return False


def _show(us: Any) -> str:
    """Return an instant for a message."""
    return f"{np.datetime64(int(us), 'us').astype('datetime64[s]')}Z"


def _days(us: Any) -> str:
    """Return a duration for a message."""
    days = int(us) / 86_400_000_000
    return f"{days / 365.25:,.1f} years" if days > 730 else f"{days:,.1f} days"


# ---------------------------------------------------------------- many readings to one


def _aggregate(
    readings: Readings,
    bins: Int64Array,
    n_steps: int,
    how: Aggregate,
    step: _Step,
    report: Report,
) -> tuple[Int64Array, Int64Array, Floats]:
    """Return one reading a step (and station); sums that miss a reading become missing."""
    keys = bins if readings.is_wide else readings.stations * n_steps + bins
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    values = readings.values
    if len(starts) == len(keys):
        return bins, readings.stations, values
    report.info(
        readings.name,
        f"{len(keys)} rows fall into {len(starts)} steps",
        f"aggregated by {how!r}",
        count=len(keys),
    )
    merged = _reduce(values, starts, how)
    expected = step.n_expected
    if how == "sum" and expected:
        counts = np.add.reduceat(~np.isnan(values), starts, axis=0, dtype=np.int64)
        partial = (counts > 0) & (counts < expected)
        merged[partial] = np.nan
        if partial.any():
            what = f"{int(partial.sum())} sums have less than {expected} readings"
            report.warning(readings.name, what, "they count as missing", count=int(partial.sum()))
    stations = readings.stations if readings.is_wide else readings.stations[starts]
    return bins[starts], stations, merged


def _reduce(values: Floats, starts: Int64Array, how: str) -> Floats:
    """Reduce the runs of rows that begin at `starts`, missing values left out."""
    if how == "max":
        return np.asarray(np.fmax.reduceat(values, starts, axis=0))
    if how == "min":
        return np.asarray(np.fmin.reduceat(values, starts, axis=0))
    known = ~np.isnan(values)
    if how in ("first", "last"):
        rows = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
        if how == "first":
            chosen = np.minimum.reduceat(np.where(known, rows, len(values) - 1), starts, axis=0)
        else:
            chosen = np.maximum.reduceat(np.where(known, rows, 0), starts, axis=0)
        # a run without any value points outside of itself
        has_any = np.logical_or.reduceat(known, starts, axis=0)
        return np.where(has_any, np.take_along_axis(values, chosen, axis=0), np.nan)
    total = np.add.reduceat(np.where(known, values, 0), starts, axis=0, dtype=np.float64)
    counts = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        result = total / counts if how == "mean" else np.where(counts > 0, total, np.nan)
    return np.asarray(result, dtype=values.dtype)


def _scatter(
    bins: Int64Array, stations: Int64Array, values: Floats, shape: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    """Return the (T, N, F) array; what nobody read is NaN."""
    n_steps, n_nodes, _ = shape
    with np.errstate(over="ignore"):  # what is too large is an error already
        values = values.astype(np.float32, copy=False)
    if values.ndim == 3 and len(bins) == n_steps and np.array_equal(stations, np.arange(n_nodes)):
        return values
    grid = np.full(shape, np.nan, dtype=np.float32)
    if values.ndim == 3:
        grid[bins[:, None], stations[None, :]] = values
    else:
        grid[bins, stations] = values
    return grid
