"""Read events (from, to, where) as a graph of their places, to be joined to other graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio

from stgraph.errors import DataError, nearest_name, shown
from stgraph.graph import Feature, STGraph
from stgraph.report import Report
from stgraph_connectors._cells import to_numbers
from stgraph_connectors._clock import NO_TIME, Int64Array, check_zone, read_times, step_start
from stgraph_connectors._coordinates import LATITUDE_NAMES, LONGITUDE_NAMES
from stgraph_connectors._tables import Table, read_table

_MAX_CELLS = 500_000_000
_MINUTE = 60_000_000  # microseconds
_DAY = r"\d{8}|\d{1,4}([-/.])\d{1,2}\1\d{1,4}"  # without a time
_TO = "to"


def read_events(
    events: str | Path,
    *,
    from_column: str = "from",
    to_column: str = _TO,
    time_format: str | None = None,
    value_column: str | None = None,
    name: str = "event",
    zone: str = "UTC",
    step_minutes: float = 60.0,
) -> STGraph:
    """Read a table of events as a signal that is known beforehand: 1 while an event lasts, else 0.

    Parameters
    ----------
    events
        CSV (with columns `lat` and `lon`, or without places), Parquet, GeoJSON, GeoPackage or any
        layer of points, lines or areas; a row per event.
    from_column, to_column
        When an event begins and ends. Days without a time count whole, the last one too. An event
        without an end lasts its day, or a step.
    time_format
        Format of both, as in ``%d/%m/%Y %H:%M``. None finds it out, and refuses what can be read
        in two ways.
    value_column
        Number that an event has while it lasts, such as expected visitors. None: 1.
    name
        Name of the feature.
    zone
        Time zone of instants that name none.
    step_minutes
        Step of the signal, counted from local midnight. A step counts as part of an event that it
        touches.

    Returns
    -------
    STGraph
        A node of kind ``event`` per row with all its columns; one feature of role known_future,
        from a step before the first event to a step after the last. Join it with ``fill = 0``.

    Raises
    ------
    DataError
        The file or its columns cannot be used: the message lists every problem.
    """
    path, report = Path(events), Report()
    title = f"{path.name} cannot be read as events"
    table = _read(path, {from_column.lower(), to_column.lower()}, report)
    report.raise_errors(DataError, title=title)
    assert table is not None  # noqa: S101 - else there was an error
    _check_columns(table, from_column, to_column, value_column, report)
    check_zone(zone, report)
    if not step_minutes > 0:
        report.error("`step_minutes`", f"is {step_minutes!r}", "give minutes above 0")
    report.raise_errors(DataError, title=title)
    step = round(step_minutes * _MINUTE)
    start, end = _spans(table, (from_column, to_column), zone, time_format, step, report)
    values = _values(table, value_column, report)
    report.raise_errors(DataError, title=title)
    first = step_start(int(start.min()), step_minutes, zone) - step
    time, signal = _signal(start, end, values, first, step, path.name)
    nodes = _nodes(table, report)
    report.raise_errors(DataError, title=title)
    return STGraph(
        nodes=nodes,
        time=time,
        values=signal[..., None],
        features=(Feature(name, "", "known_future"),),
        zone=zone,
        provenance={
            "connector": "events", "source": str(path), "findings": report.to_json()
        },
    )  # fmt: skip


def _read(path: Path, times: set[str], report: Report) -> Table | None:
    """Return the rows of a file, days of a layer as text without a time."""
    table = read_table(path, report, role="events", text=times)
    if table is None or "geometry" not in table.frame.columns or path.suffix == ".parquet":
        return table
    info = pyogrio.read_info(path)
    frame = table.frame.copy()
    for name, kind in zip(info["fields"], info["dtypes"], strict=True):
        if str(kind) == "datetime64[D]" and name in frame:
            frame[name] = pd.to_datetime(frame[name]).dt.strftime("%Y-%m-%d")
    return Table(frame, table.name)


def _check_columns(
    table: Table, from_column: str, to_column: str, value_column: str | None, report: Report
) -> None:
    """Note columns that are not there; an end may be missing where nobody named one."""
    names = list(map(str, table.frame.columns))
    for column in (from_column, to_column, value_column):
        if column is None or column in names:
            continue
        what = f"has no column `{column}`{nearest_name(column, names)}"
        if column == to_column == _TO:
            report.info(table.name, what, "every event lasts its day, or a step")
        else:
            report.error(table.name, what, f"it has {names}")


def _spans(
    table: Table,
    columns: tuple[str, str],
    zone: str,
    time_format: str | None,
    step: int,
    report: Report,
) -> tuple[Int64Array, Int64Array]:
    """Return begin and end of the events in microseconds; the end is not part of an event."""
    start, last_day = _instants(table, columns[0], zone, time_format, report)
    end = np.where(last_day != NO_TIME, last_day, start + step)
    missing = start == NO_TIME
    if missing.any() and not report.errors:
        row, count = int(np.argmax(missing)), int(missing.sum())
        what = f"{count} events have no begin"
        report.error(table.at(row, columns[0]), what, "write 2024-05-01T18:00", count=count)
    if columns[1] in table.frame:
        given, next_day = _instants(table, columns[1], zone, time_format, report)
        end = np.where(given == NO_TIME, end, np.where(next_day == NO_TIME, given, next_day))
    backwards = (end <= start) & ~missing
    if backwards.any():
        row = int(np.argmax(backwards))
        begin, stop = (pd.Timestamp(int(us[row]), unit="us", tz="UTC") for us in (start, end))
        what = f"an event ends at {stop}, not after its begin at {begin}"
        report.error(table.at(row, columns[1]), what, "correct it", count=int(backwards.sum()))
    return start, end


def _instants(
    table: Table, name: str, zone: str, time_format: str | None, report: Report
) -> tuple[Int64Array, Int64Array]:
    """Return microseconds since 1970 UTC; of days without a time also when the next one begins.

    `NO_TIME` stands for what is missing, or has a time.
    """
    column = table.frame[name].reset_index(drop=True)
    words = column.astype("string").str.strip().fillna("")
    filled = (words != "").to_numpy(dtype=bool)
    days = words.str.fullmatch(_DAY).to_numpy(dtype=bool)
    if pd.api.types.is_datetime64_any_dtype(column):
        days[:] = False  # instants, so that midnight is a time
    start, next_day = (np.full(len(words), NO_TIME, dtype=np.int64) for _ in range(2))
    for kind, in_zone in ((days, "UTC"), (filled & ~days, zone)):
        rows = np.flatnonzero(kind)
        if not len(rows):
            continue
        lines = rows + 1 if table.lines is None else table.lines[rows]
        part = Table(table.frame.iloc[rows], table.name, lines)
        start[rows] = read_times(
            column[rows], groups=np.arange(len(rows)), table=part, name=name, zone=in_zone,
            time_format=time_format, report=report,
        )  # fmt: skip
    skipped = filled & (start == NO_TIME)
    if skipped.any() and not report.errors:
        row, count = int(np.argmax(skipped)), int(skipped.sum())
        what = f"{shown(column[row])} never was, as {count} such cell(s): clocks skip that hour"
        report.error(table.at(row, name), what, "correct it", count=count)
    days &= start != NO_TIME
    midnight = pd.DatetimeIndex(start[days].view("datetime64[us]"))
    start[days], next_day[days] = (_begin(midnight + pd.Timedelta(days=n), zone) for n in (0, 1))
    return start, next_day


def _begin(days: pd.DatetimeIndex, zone: str) -> Int64Array:
    """Return when local days begin; clocks that change at midnight skip it, or have it twice."""
    first = np.ones(len(days), dtype=bool)
    local = days.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
    return np.asarray(local.tz_convert("UTC").as_unit("us").asi8)


def _values(table: Table, column: str | None, report: Report) -> Any:
    """Return the value that each event has."""
    if column is None:
        return np.ones(len(table.frame), dtype=np.float32)
    numbers = to_numbers(table.frame[column], table, report, name=column)
    bad = ~np.isfinite(numbers)
    if bad.any() and not report.errors:
        row, count = int(np.argmax(bad)), int(bad.sum())
        what = f"{count} events have no number"
        report.error(table.at(row, column), what, "fill it in", count=count)
    return numbers.astype(np.float32)


def _signal(
    start: Int64Array, end: Int64Array, values: Any, first: int, step: int, where: str
) -> tuple[pd.DatetimeIndex, Any]:
    """Return the time axis and the value of each event at each step, (T, P)."""
    begin, stop = (start - first) // step, -((first - end) // step)
    n_steps = int(stop.max()) + 1
    if n_steps * len(values) > _MAX_CELLS:
        raise DataError(
            f"{where}: {len(values):,} events over {n_steps:,} steps are more than "
            f"{_MAX_CELLS:,} values; take a longer step, or fewer events"
        )
    signal = np.zeros((n_steps, len(values)), dtype=np.float32)
    for place, (one, two, value) in enumerate(zip(begin, stop, values, strict=True)):
        signal[int(one) : int(two), place] = value
    time = pd.date_range(
        pd.Timestamp(first, unit="us", tz="UTC"), periods=n_steps, freq=pd.Timedelta(step, "us")
    )
    return time, signal


def _nodes(table: Table, report: Report) -> gpd.GeoDataFrame:
    """Return the events as nodes, with their places where they have some."""
    rows = table.frame.reset_index(drop=True)
    crs: Any = "EPSG:4326"
    known = [
        [name for name in rows.columns if str(name).strip().lower() in names]
        for names in (LONGITUDE_NAMES, LATITUDE_NAMES)
    ]
    if "geometry" in rows:
        shapes = gpd.GeoSeries(rows["geometry"])
        crs, geometry = shapes.crs or crs, shapes.to_numpy()
    elif all(len(names) == 1 for names in known):
        lon, lat = (to_numbers(rows[n[0]], table, report, name=n[0]) for n in known)
        geometry = np.array(gpd.points_from_xy(lon, lat), dtype=object)
        geometry[np.isnan(lon) | np.isnan(lat)] = None
    else:
        report.info(table.name, "has no places", 'join it with space = "all nodes"')
        crs, geometry = None, np.full(len(rows), None, dtype=object)
    rows = rows.drop(columns="geometry", errors="ignore").assign(kind="event")
    return gpd.GeoDataFrame(rows, geometry=geometry, crs=crs)
