"""Read events (from, to, where) as a graph of their places, to be joined to other graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import geopandas as gpd
import numpy as np
import pandas as pd
from pyogrio.errors import DataSourceError

from stgraph.errors import DataError, nearest_name, shown
from stgraph.graph import Feature, STGraph
from stgraph.report import Report

_MAX_CELLS = 500_000_000
_DAY = pd.Timedelta(days=1)


def read_events(
    events: str | Path,
    *,
    from_column: str = "from",
    to_column: str = "to",
    value_column: str | None = None,
    name: str = "event",
    zone: str = "UTC",
    step_minutes: float = 60.0,
) -> STGraph:
    """Read a table of events as a signal that is known beforehand: 1 while an event lasts, else 0.

    Parameters
    ----------
    events
        CSV (with columns `lat` and `lon`, or without places), GeoJSON, GeoPackage or any layer of
        points, lines or areas; a row per event.
    from_column, to_column
        When an event begins and ends. Days without a time count whole, the last one too. An event
        without an end lasts its day, or a step.
    value_column
        Number that an event has while it lasts, such as expected visitors. None: 1.
    name
        Name of the feature.
    zone
        Time zone of instants that name none.
    step_minutes
        Step of the signal. A step counts as part of an event that it touches.

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
    table = _read(path)
    for column in (from_column, *([value_column] if value_column is not None else [])):
        if column not in table.columns:
            hint = nearest_name(column, map(str, table.columns))
            todo = f"it has {list(map(str, table.columns))}"
            report.error(path.name, f"has no column `{column}`{hint}", todo)
    if zone not in available_timezones():
        hint = nearest_name(zone, available_timezones())
        report.error("`zone`", f"is {zone!r}{hint}", "use an IANA name such as 'Europe/Berlin'")
    if not step_minutes > 0:
        report.error("`step_minutes`", f"is {step_minutes!r}", "give minutes above 0")
    report.raise_errors(DataError, title=f"{path.name} cannot be read as events")
    step = pd.Timedelta(minutes=step_minutes)
    start, end = _spans(table, from_column, to_column, zone, step, path.name, report)
    values = _values(table, value_column, path.name, report)
    report.raise_errors(DataError, title=f"{path.name} cannot be read as events")
    time, signal = _signal(start, end, values, step, path.name)
    nodes = _nodes(table, path.name, report)
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


def _read(path: Path) -> pd.DataFrame:
    """Return the rows of a file."""
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}; check the path")
    try:
        if path.suffix.lower() in (".csv", ".txt"):
            table = pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True)
        else:
            table = gpd.read_file(path)
    except (ValueError, DataSourceError) as error:  # those of pandas are value errors
        raise DataError(f"{str(path)!r} is no table of events ({error})") from error
    if table.empty:
        raise DataError(f"{str(path)!r} has no row; give an event per row")
    return table


def _spans(
    table: pd.DataFrame,
    from_column: str,
    to_column: str,
    zone: str,
    step: pd.Timedelta,
    where: str,
    report: Report,
) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Return begin and end of the events in UTC; the end is not part of an event."""
    start, whole = _instants(table[from_column], zone)
    given = table[to_column] if to_column in table else pd.Series(None, table.index, dtype=object)
    given = given.astype(object).where(given.notna() | ~whole, table[from_column])
    end, whole_end = _instants(given, zone)
    _note_times(table[from_column], start, f"{where}, column `{from_column}`", report, all_=True)
    _note_times(given, end, f"{where}, column `{to_column}`", report, all_=False)
    local = (end.tz_convert(zone).tz_localize(None) + _DAY).tz_localize(
        zone, ambiguous="NaT", nonexistent="NaT"
    )
    end = end.where(~whole_end, local.tz_convert("UTC"))
    end = end.where(given.notna().to_numpy(), start + step)
    backwards = np.asarray(end <= start)
    if backwards.any():
        row = int(np.argmax(backwards))
        what = f"row {row + 1} ends at {end[row]}, not after its begin at {start[row]}"
        report.error(f"{where}, column `{to_column}`", what, "correct it", count=backwards.sum())
    return start, end


def _instants(texts: pd.Series, zone: str) -> tuple[pd.DatetimeIndex, Any]:
    """Return instants in UTC, NaT for what is none, and which of them are days without a time."""
    words = texts.astype("string").str.strip()
    whole = words.str.fullmatch(r"\d{4}-\d\d-\d\d(?:[ T]00:00:00)?").fillna(value=False)
    result = []
    for word in words:
        instant = pd.to_datetime(word, errors="coerce") if isinstance(word, str) else pd.NaT
        if not pd.isna(instant) and instant.tz is None:
            instant = instant.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
        result.append(pd.NaT if pd.isna(instant) else instant.tz_convert("UTC"))
    return pd.DatetimeIndex(result, tz="UTC").as_unit("us"), whole.to_numpy(dtype=bool)


def _note_times(
    given: pd.Series, found: pd.DatetimeIndex, where: str, report: Report, *, all_: bool
) -> None:
    """Note cells that are no instants; empty ones only where all are needed."""
    bad = np.asarray(found.isna()) & (given.notna().to_numpy() | all_)
    if bad.any():
        row = int(np.argmax(bad))
        count = int(bad.sum())
        what = f"row {row + 1} holds {shown(given.iloc[row])}, one of {count} that are no times"
        report.error(where, what, "write 2024-05-01 or 2024-05-01T18:00", count=count)


def _values(table: pd.DataFrame, column: str | None, where: str, report: Report) -> Any:
    """Return the value that each event has."""
    if column is None:
        return np.ones(len(table), dtype=np.float32)
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float32)
    bad = ~np.isfinite(numbers)
    if bad.any():
        row = int(np.argmax(bad))
        what = f"row {row + 1} holds {shown(table[column].iloc[row])}, which is no number"
        report.error(f"{where}, column `{column}`", what, "correct it", count=int(bad.sum()))
    return numbers


def _signal(
    start: pd.DatetimeIndex, end: pd.DatetimeIndex, values: Any, step: pd.Timedelta, where: str
) -> tuple[pd.DatetimeIndex, Any]:
    """Return the time axis and the value of each event at each step, (T, P)."""
    first = start.min().floor(step) - step
    n_steps = int(-((first - end.max()) // step)) + 1
    if n_steps * len(values) > _MAX_CELLS:
        raise DataError(
            f"{where}: {len(values):,} events over {n_steps:,} steps are more than "
            f"{_MAX_CELLS:,} values; take a longer step, or fewer events"
        )
    begin = np.asarray((start - first) // step)
    stop = np.asarray(-((first - end) // step))
    signal = np.zeros((n_steps, len(values)), dtype=np.float32)
    for place, (one, two, value) in enumerate(zip(begin, stop, values, strict=True)):
        signal[int(one) : int(two), place] = value
    return pd.date_range(first, periods=n_steps, freq=step), signal


def _nodes(table: pd.DataFrame, where: str, report: Report) -> gpd.GeoDataFrame:
    """Return the events as nodes, with their places where they have some."""
    rows = table.reset_index(drop=True)
    if isinstance(rows, gpd.GeoDataFrame):
        crs, geometry = rows.crs or "EPSG:4326", rows.geometry.to_numpy()
        rows = pd.DataFrame(rows.drop(columns=rows.geometry.name))
    elif {"lat", "lon"} <= set(rows.columns):
        numbers = [pd.to_numeric(rows[name], errors="coerce") for name in ("lon", "lat")]
        crs, geometry = "EPSG:4326", np.array(gpd.points_from_xy(*numbers), dtype=object)
        geometry[(numbers[0].isna() | numbers[1].isna()).to_numpy()] = None
    else:
        report.info(where, "has no places", 'join it with space = "all nodes"')
        crs, geometry = None, np.full(len(rows), None, dtype=object)
    rows = rows.drop(columns="geometry", errors="ignore").assign(kind="event")
    return gpd.GeoDataFrame(rows, geometry=geometry, crs=crs)
