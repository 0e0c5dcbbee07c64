"""Events to values of cells and steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj

from stgraph.report import Report
from stgraph_connectors._clock import NO_TIME, Int64Array, instant_us
from stgraph_connectors.grids._cells import Cells, find_inside
from stgraph_connectors.grids._events import Events

Aggregate = Literal["count", "sum", "mean"]
_MINUTE = 60_000_000  # microseconds
_FEW = 0.01  # share of points in cells below which coordinates may be swapped


@dataclass(frozen=True)
class CountOptions:
    """Steps, and what becomes of the events in them."""

    step_minutes: float
    zone: str = "UTC"
    start: str | pd.Timestamp | None = None
    stop: str | pd.Timestamp | None = None
    aggregate: Aggregate = "count"
    max_values: int = 500_000_000


@dataclass(frozen=True)
class Counts:
    """Values of all cells on a regular time axis."""

    time: pd.DatetimeIndex  # (T,)
    values: npt.NDArray[np.float32]  # (T, N, F)
    step_minutes: float


@dataclass(frozen=True)
class Placed:
    """The events of one flow that lie in a cell."""

    cell: Int64Array
    time: Int64Array
    values: npt.NDArray[np.float64]


def place_events(events: Events, cells: Cells, what: str, report: Report) -> Placed:
    """Return the events that lie in a cell; those outside or without a place are told."""
    n_all = len(events.x)
    known = np.isfinite(events.x) & np.isfinite(events.y)
    if not known.all():
        count = int((~known).sum())
        report.warning(
            events.name, f"{count} of {n_all} {what} have no coordinates", "dropped", count=count
        )
    found = _find(events.x, events.y, events.crs, cells)
    if known.any() and events.crs.is_geographic and (found[known] >= 0).mean() < _FEW:
        swapped = _find(events.y, events.x, events.crs, cells)
        if (swapped[known] >= 0).mean() >= 0.5:
            n_in, n_known = int((swapped >= 0).sum()), int(known.sum())
            text = f"{n_in} of {n_known} {what} lie in cells only with lat and lon swapped"
            report.warning(
                events.name, text, "they were swapped; name lat_column= and lon_column=", count=n_in
            )
            found = swapped
    outside = known & (found < 0)
    if outside.any():
        count, first = int(outside.sum()), int(np.argmax(outside))
        place = f"({events.x[first]:g}, {events.y[first]:g})"
        text = f"{count} of {n_all} {what} lie in no cell, first {place} in row {first + 1}"
        report.warning(events.name, text, "they were not counted", count=count)
    kept = (found >= 0) & (events.time != NO_TIME)
    if not kept.any():
        text = f"none of {n_all} {what} has a time and lies in a cell"
        report.error(events.name, text, "check coordinates, their CRS and the boundary")
    return Placed(found[kept], events.time[kept], events.values[kept])


def _find(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], crs: pyproj.CRS, cells: Cells
) -> Int64Array:
    """Return the cell of every point, -1 where there is none."""
    own = cells.nodes.crs
    if own is not None and not crs.equals(own):
        transformer = pyproj.Transformer.from_crs(crs, own, always_xy=True)
        x, y = transformer.transform(x, y)
    return find_inside(cells, np.asarray(x), np.asarray(y))


def count_events(
    flows: Sequence[Placed], n_cells: int, options: CountOptions, name: str, report: Report
) -> Counts | None:
    """Return one value per step, cell and flow (and column), or None when that cannot be.

    Parameters
    ----------
    flows
        Points, or the two ends of trips; each gives its own features.
    n_cells
        N.
    options
        Steps and rule.
    name
        Of the source, for messages.
    report
        Takes the findings.
    """
    size = round(options.step_minutes * _MINUTE)
    start, stop = (
        None if limit is None else instant_us(limit, options.zone)
        for limit in (options.start, options.stop)
    )
    flows = [_cut(flow, start, stop) for flow in flows]
    times = np.concatenate([flow.time for flow in flows])
    if len(times) == 0:
        report.error(name, "nothing was counted between start and stop", "check start= and stop=")
        return None
    phase = _phase(int(times.min()) if start is None else start, options.zone) % size
    first = ((int(times.min()) if start is None else start) - phase) // size
    last = ((int(times.max()) if stop is None else stop - 1) - phase) // size
    n_steps, per_flow = last - first + 1, max(1, flows[0].values.shape[1])
    n_values = n_steps * n_cells * len(flows) * per_flow
    if n_values > options.max_values:
        report.error(
            "`max_values`",
            f"{n_steps:,} steps of {n_cells:,} cells are {n_values:,} values "
            f"({n_values * 4 / 1e9:,.1f} GB), {options.max_values:,} are allowed",
            "use longer steps, larger cells, start= and stop=, or check the times",
        )
        return None
    parts = [
        _aggregate(flow, (flow.time - phase) // size - first, (n_steps, n_cells), options.aggregate)
        for flow in flows
    ]
    begin = pd.Timestamp(first * size + phase, unit="us", tz="UTC").as_unit("us")
    time = pd.date_range(begin, periods=n_steps, freq=pd.Timedelta(size, unit="us"), unit="us")
    values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
    return Counts(time, values, size / _MINUTE)


def _cut(flow: Placed, start: int | None, stop: int | None) -> Placed:
    """Return the events from start on and before stop."""
    inside = np.ones(len(flow.time), dtype=bool)
    if start is not None:
        inside &= flow.time >= start
    if stop is not None:
        inside &= flow.time < stop
    return (
        flow if inside.all() else Placed(flow.cell[inside], flow.time[inside], flow.values[inside])
    )


def _phase(us: int, zone: str) -> int:
    """Return how long after midnight UTC the first local day begins, in microseconds."""
    first = pd.Timestamp(us, unit="us", tz="UTC").tz_convert(zone)
    offset = first.utcoffset()
    return 0 if offset is None else -round(offset.total_seconds() * 1e6)


def _aggregate(
    flow: Placed, step: Int64Array, shape: tuple[int, int], how: Aggregate
) -> npt.NDArray[np.float32]:
    """Return (T, N, V) values: 0 where nothing was counted, missing where there is no mean."""
    n_steps, n_cells = shape
    keys, inverse = np.unique(step * n_cells + flow.cell, return_inverse=True)
    if how == "count":
        grid = np.zeros(n_steps * n_cells, dtype=np.float32)
        grid[keys] = np.bincount(inverse, minlength=len(keys))
        return grid.reshape(n_steps, n_cells, 1)
    n_columns = flow.values.shape[1]
    fill = 0.0 if how == "sum" else np.nan
    values = np.full((n_steps * n_cells, n_columns), fill, dtype=np.float32)
    for column in range(n_columns):
        known = np.isfinite(flow.values[:, column])
        total = np.bincount(inverse[known], flow.values[known, column], minlength=len(keys))
        number = np.bincount(inverse[known], minlength=len(keys))
        if how == "sum":
            # events were there, but none of them has a value
            values[keys, column] = np.where(number > 0, total, np.nan)
        else:
            values[keys, column] = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return values.reshape(n_steps, n_cells, n_columns)
