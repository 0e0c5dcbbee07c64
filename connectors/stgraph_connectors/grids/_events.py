"""Events with a place and a time: points, or the two ends of trips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.report import Report
from stgraph_connectors._cells import to_numbers
from stgraph_connectors._clock import Int64Array, read_times
from stgraph_connectors._coordinates import LATITUDE_NAMES, LONGITUDE_NAMES, X_NAMES, Y_NAMES
from stgraph_connectors._ids import guess_column, require_column, shorten
from stgraph_connectors._signal import TIME_NAMES
from stgraph_connectors._tables import Table, read_table

Floats = npt.NDArray[np.float64]
End = Literal["origin", "destination"]
_PREFIXES = {
    "origin": ("origin", "start", "started", "from", "pickup", "orig", "o"),
    "destination": ("destination", "end", "ended", "to", "dropoff", "dest", "d"),
}
_TIMES = ("time", "datetime", "date_time", "timestamp", "at", "date")


@dataclass(frozen=True)
class EventOptions:
    """How tables of points or trips are to be understood; None is found out."""

    key: str | None = None
    lat_column: str | None = None
    lon_column: str | None = None
    x_column: str | None = None
    y_column: str | None = None
    crs: pyproj.CRS | None = None  # of x and y, or of a layer that names none
    time_column: str | None = None
    time_format: str | None = None
    value_columns: Sequence[str] = ()
    origin_columns: Sequence[str] | None = None
    destination_columns: Sequence[str] | None = None
    decimal: str = "."
    zone: str = "UTC"


@dataclass(frozen=True)
class Events:
    """R events; an unknown coordinate is NaN, an unknown time `NO_TIME`."""

    x: Floats
    y: Floats
    crs: pyproj.CRS
    time: Int64Array  # microseconds since 1970 UTC
    values: Floats  # (R, V)
    name: str  # of the tables, for messages


def read_points(sources: Sequence[object], options: EventOptions, report: Report) -> Events | None:
    """Return the events of all tables as one; None when one cannot be read."""
    parts = [_read_points(source, options, report) for source in sources]
    return _join(parts, report)


def read_trips(
    sources: Sequence[object], options: EventOptions, report: Report
) -> tuple[Events, Events] | None:
    """Return where and when trips begin, and where and when they end."""
    pairs = [_read_trips(source, options, report) for source in sources]
    begins = _join([pair[0] for pair in pairs], report)
    ends = _join([pair[1] for pair in pairs], report)
    return None if begins is None or ends is None else (begins, ends)


def _join(parts: Sequence[Events | None], report: Report) -> Events | None:
    """Return the parts of a table one after the other."""
    good = [part for part in parts if part is not None]
    if len(good) < len(parts) or not good:
        return None
    if any(not part.crs.equals(good[0].crs) for part in good):
        names = sorted({part.crs.name for part in good})
        report.error(good[0].name, f"parts are in different CRS: {names}", "give all in one")
        return None
    return Events(
        np.concatenate([part.x for part in good]),
        np.concatenate([part.y for part in good]),
        good[0].crs,
        np.concatenate([part.time for part in good]),
        np.concatenate([part.values for part in good]),
        ", ".join(dict.fromkeys(part.name for part in good)),
    )


def _open(source: object, role: str, options: EventOptions, report: Report) -> Table | None:
    """Read one table, columns of times as text."""
    named = [
        options.time_column,
        *(options.origin_columns or ()),
        *(options.destination_columns or ()),
    ]
    times = {f"{p}_{t}" for prefixes in _PREFIXES.values() for p in prefixes for t in _TIMES}
    text = {*TIME_NAMES, *times, *(str(name).lower() for name in named if name is not None)}
    if not isinstance(source, str | Path | pd.DataFrame):
        what = f"is a {type(source).__name__}"
        report.error(f"`{role}`", what, "pass a path or a table, or a list of them")
        return None
    table = read_table(
        source, report, role=role, text=text, layer=options.key, decimal=options.decimal
    )
    if table is not None and table.headless:
        what = "holds data where column names are expected"
        report.error(f"{table.name}, line 1", what, "write a line of column names")
        return None
    return table


def _read_points(source: object, options: EventOptions, report: Report) -> Events | None:
    """Read one table of points."""
    table = _open(source, "points", options, report)
    if table is None:
        return None
    place = _point_coordinates(table, options, report)
    columns = list(table.frame.columns)
    if options.time_column is not None:
        name = require_column(
            options.time_column, columns, table=table, option="time_column", report=report
        )
    elif isinstance(table.frame.index, pd.DatetimeIndex):
        name = "index"
        table = replace(table, frame=table.frame.assign(index=table.frame.index))
    else:
        name = guess_column(columns, TIME_NAMES, table=table, option="time_column", report=report)
    values = _values(table, options, report)
    if place is None or name is None or values is None:
        return None
    time = _times(table, name, options, report)
    return Events(*place, time, values, table.name)


def _times(table: Table, name: Any, options: EventOptions, report: Report) -> Int64Array:
    """Return the times of events; an hour that autumn repeats is the earlier one for each."""
    return read_times(
        table.frame[name], groups=np.arange(len(table.frame)), table=table, name=name,
        zone=options.zone, time_format=options.time_format, report=report,
    )  # fmt: skip


def _values(table: Table, options: EventOptions, report: Report) -> Floats | None:
    """Return the columns of quantities, (R, 0) where none is asked for."""
    columns = list(table.frame.columns)
    found = [
        require_column(name, columns, table=table, option="value_columns", report=report)
        for name in options.value_columns
    ]
    if None in found:
        return None
    parts = [to_numbers(table.frame[name], table, report, name=name) for name in found]
    return np.stack(parts, axis=1) if parts else np.zeros((len(table.frame), 0))


# ---------------------------------------------------------------- places of points


def _point_coordinates(
    table: Table, options: EventOptions, report: Report
) -> tuple[Floats, Floats, pyproj.CRS] | None:
    """Return x, y and CRS of the points of a table."""
    columns = list(table.frame.columns)
    named = (options.lat_column, options.lon_column, options.x_column, options.y_column)
    is_layer = "geometry" in columns and isinstance(
        table.frame["geometry"].dtype, gpd.array.GeometryDtype
    )
    if is_layer and not any(named):
        return _layer_coordinates(table, options, report)
    in_degrees = options.x_column is None and options.y_column is None
    x_known, y_known = (LONGITUDE_NAMES, LATITUDE_NAMES) if in_degrees else (X_NAMES, Y_NAMES)
    if not any(named) and not {str(name).strip().lower() for name in columns} & {*LATITUDE_NAMES}:
        in_degrees, x_known, y_known = False, X_NAMES, Y_NAMES
    options_of = ("lon_column", "lat_column") if in_degrees else ("x_column", "y_column")
    pair = []
    for option, known in zip(options_of, (x_known, y_known), strict=True):
        given = getattr(options, option)
        pair.append(
            guess_column(columns, known, table=table, option=option, report=report)
            if given is None
            else require_column(given, columns, table=table, option=option, report=report)
        )
    if None in pair:
        return None
    return _numbers(table, pair[0], pair[1], options.crs, in_degrees=in_degrees, report=report)


def _numbers(
    table: Table,
    x_name: Any,
    y_name: Any,
    crs: pyproj.CRS | None,
    *,
    in_degrees: bool,
    report: Report,
) -> tuple[Floats, Floats, pyproj.CRS] | None:
    """Return two columns as coordinates; (0, 0) is what sources write for want of a place."""
    if not in_degrees and crs is None:
        what = f"columns `{x_name}` and `{y_name}` have no CRS"
        report.error(table.name, what, "say which with points_crs=, such as points_crs=25832")
        return None
    x, y = (to_numbers(table.frame[name], table, report, name=name) for name in (x_name, y_name))
    zero = (x == 0) & (y == 0)
    if zero.any():
        what = f"{int(zero.sum())} rows are at (0, 0)"
        where = table.at(int(np.argmax(zero)))
        report.warning(where, what, "taken as no coordinates", count=int(zero.sum()))
        x, y = np.where(zero, np.nan, x), np.where(zero, np.nan, y)
    return x, y, crs or pyproj.CRS(4326)


def _layer_coordinates(
    table: Table, options: EventOptions, report: Report
) -> tuple[Floats, Floats, pyproj.CRS] | None:
    """Return the coordinates of a layer of points."""
    shapes = gpd.GeoSeries(table.frame["geometry"])
    crs = shapes.crs or options.crs
    if crs is None:
        todo = "say which with points_crs=, such as points_crs=4326"
        report.error(table.name, "the layer names no CRS", todo)
        return None
    geometry = np.asarray(shapes, dtype=object)
    others = ~(shapely.is_missing(geometry) | (shapely.get_type_id(geometry) == 0))
    if others.any():
        first = int(np.argmax(others))
        what = f"{int(others.sum())} geometries are no points but {geometry[first].geom_type}"
        report.error(table.at(first), what, "pass points")
        return None
    return shapely.get_x(geometry), shapely.get_y(geometry), pyproj.CRS(crs)


# ---------------------------------------------------------------- ends of trips


def _read_trips(
    source: object, options: EventOptions, report: Report
) -> tuple[Events | None, Events | None]:
    """Read one table of trips."""
    table = _open(source, "trips", options, report)
    if table is None:
        return None, None
    values = _values(table, options, report)
    begin = _find_end(table, "origin", options.origin_columns, options, report)
    end = _find_end(table, "destination", options.destination_columns, options, report)
    if begin is None or end is None or values is None:
        return None, None
    if end.time is None:
        what = f"no column says when trips end; columns are {shorten(table.frame.columns)}"
        todo = "they end in the step in which they begin; name it third in destination_columns="
        report.warning(table.name, what, todo)
    if begin.time is None:
        what = f"no column says when trips begin; columns are {shorten(table.frame.columns)}"
        report.error(table.name, what, "name it third in origin_columns=[lon, lat, time]")
        return None, None
    events: list[Events] = []
    for columns in (begin, end):
        place = _numbers(
            table, columns.x, columns.y, options.crs, in_degrees=columns.in_degrees, report=report
        )
        if place is None:
            return None, None
        when = begin.time if columns.time is None else columns.time
        time = events[0].time if columns.time is None else _times(table, when, options, report)
        events.append(Events(*place, time, values, table.name))
    return events[0], events[1]


@dataclass(frozen=True)
class _Columns:
    """Names of the columns of one end of a trip."""

    x: Any
    y: Any
    time: Any | None
    in_degrees: bool


def _find_end(
    table: Table, end: End, given: Sequence[str] | None, options: EventOptions, report: Report
) -> _Columns | None:
    """Return the columns of one end: those named, or those with a known name."""
    columns, option = list(table.frame.columns), f"{end}_columns"
    if given is not None:
        if len(given) not in (2, 3) or isinstance(given, str):
            todo = "give two or three names: [lon, lat] or [lon, lat, time]"
            report.error(f"`{option}`", f"is {given!r}", todo)
            return None
        names = [
            require_column(name, columns, table=table, option=option, report=report)
            for name in given
        ]
        if None in names:
            return None
        return _Columns(
            names[0], names[1], names[2] if len(names) == 3 else None, options.crs is None
        )
    plain = {
        str(name).strip().lower().replace(" ", "_").replace("-", "_"): name for name in columns
    }
    time = _match(plain, end, _TIMES)
    for in_degrees, x_names, y_names in (
        (True, LONGITUDE_NAMES, LATITUDE_NAMES),
        (False, X_NAMES, Y_NAMES),
    ):
        x, y = _match(plain, end, x_names), _match(plain, end, y_names)
        if x is not None and y is not None:
            return _Columns(x, y, time, in_degrees)
    what = f"no columns of the {end} of trips; columns are {shorten(columns)}"
    report.error(table.name, what, f"name them with {option}=[lon, lat, time]")
    return None


def _match(plain: dict[str, Any], end: End, names: Sequence[str]) -> Any | None:
    """Return the first column that is called like one end and one of some names."""
    for prefix in _PREFIXES[end]:
        for name in names:
            for text in (
                f"{prefix}_{name}",
                f"{name}_{prefix}",
                f"tpep_{prefix}_{name}",
                f"lpep_{prefix}_{name}",
            ):
                if text in plain:
                    return plain[text]
    return None
