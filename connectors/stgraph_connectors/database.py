"""Station readings from a database, in chunks, to a graph."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from stgraph.errors import DataError
from stgraph.graph import Feature, Role, STGraph
from stgraph.report import Report
from stgraph_connectors._clock import NO_TIME, check_zone, instant_us, read_times, step_start
from stgraph_connectors._columns import Column, Labels, Numbers, column_of_times
from stgraph_connectors._grid import Aggregate, Duplicates
from stgraph_connectors._ids import ID_NAMES, guess_column, require_column, shorten
from stgraph_connectors._long import is_place_name, is_quantity
from stgraph_connectors._places import MissingCoordinates
from stgraph_connectors._signal import TIME_NAMES
from stgraph_connectors._sql import Source, describe_url, find_source, open_database, stream_rows
from stgraph_connectors._sql_places import read_sql_places
from stgraph_connectors._tables import Table
from stgraph_connectors.stations import Missing, read_stations

__all__ = ["describe_url", "read_database"]

_TITLE = "cannot read the database"
_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ].*)?")
_EPOCHS = {9: 1_000_000, 10: 1_000_000, 13: 1_000, 16: 1}  # digits -> microseconds of one unit
_DAY = dt.timedelta(days=1)
_CLOCK_CHANGE = dt.timedelta(hours=3)  # no clock changes by more


def read_database(
    database_url: str,
    *,
    readings: str,
    stations: str | None = None,
    stations_file: str | Path | None = None,
    layer: str | None = None,
    id_column: str | None = None,
    lat_column: str | None = None,
    lon_column: str | None = None,
    x_column: str | None = None,
    y_column: str | None = None,
    geometry_column: str | None = None,
    crs: str | int | None = None,
    missing_coordinates: MissingCoordinates = "drop",
    reading_id_column: str | None = None,
    time_column: str | None = None,
    value_columns: Sequence[str] | None = None,
    unit: str = "",
    units: Mapping[str, str] | None = None,
    roles: Mapping[str, Role] | None = None,
    zone: str = "UTC",
    start: str | pd.Timestamp | None = None,
    stop: str | pd.Timestamp | None = None,
    since: str | pd.Timestamp | None = None,
    step_minutes: float | None = None,
    aggregate: Aggregate = "mean",
    missing: Missing = "nan",
    duplicates: Duplicates = "mean",
    max_cells: int = 500_000_000,
    chunk_rows: int = 50_000,
) -> STGraph:
    """Read stations and their readings from any database that SQLAlchemy knows.

    Rows come in chunks through a cursor of the server and become arrays of some bytes a cell, so
    that a table may be far larger than its rows would be in Python. Nothing is written.

    Parameters
    ----------
    database_url
        SQLAlchemy URL such as ``postgresql://user:${PASSWORD}@host/database`` or
        ``sqlite:///file.db``. No message, log or file shows its user and secrets.
    readings
        Table, view (``schema.table``) or SELECT query with a row per station and instant.
    stations
        Table, view or query with a row a station.
    stations_file
        File of the stations in place of `stations`, as `read_stations` takes it.
    layer
        Layer of a GeoPackage of stations. None takes the only one.
    id_column
        Column of the station ids. None guesses it by name (``id``, ``sensor_id`` ...).
    lat_column, lon_column
        Columns of the coordinates in degrees. None guesses them by name.
    x_column, y_column
        Columns of the coordinates in `crs`, in place of degrees.
    geometry_column
        Column of PostGIS geometry, WKB or WKT. None takes one called ``geom``, ``geometry`` ...
    crs
        CRS of x and y, or of geometry that does not name one.
    missing_coordinates
        Stations without a place: ``"drop"`` with a warning, ``"keep"``, or ``"error"``.
    reading_id_column, time_column
        Columns of the readings. None guesses them by name.
    value_columns
        Columns of quantities. None takes all that hold numbers.
    unit, units, roles
        Unit of a single quantity; unit and role by name of column, ``"target"`` by default.
    zone
        IANA zone of times that name none, and of the calendar.
    start, stop
        Leave out readings before `start` and from `stop` on; without a zone they are wall clock.
    since
        Read only what is newer: from the start of the step that holds this instant (such as the
        last instant of an older graph) on. Needs `step_minutes`. No newer readings make a graph
        without steps. `append_readings` joins the result to the older graph.
    step_minutes
        Length of a step. None takes the most frequent difference and says so.
    aggregate
        How readings finer than the step become one.
    missing
        ``"zero"`` takes an exact 0 as missing.
    duplicates
        What to make of several readings of one station at one instant. A table has no order, so
        ``"first"`` and ``"last"`` depend on the database.
    max_cells
        Largest grid (steps x stations x features) that is made.
    chunk_rows
        Rows in memory at once, at least 1.

    Returns
    -------
    STGraph
        As of `read_stations`: N stations, T steps in UTC, F features, no edges.

    Raises
    ------
    DataError
        Driver, server, table, columns or rows cannot be used; lists everything found.
    InputError
        `database_url` is no URL; the message does not repeat it.
    """
    report = Report()
    _check_options(zone, chunk_rows, stations, stations_file, since, step_minutes, report)
    bounds = _Bounds(
        _first(_us(start, zone, "start", report), _since(since, step_minutes, zone, report)),
        _us(stop, zone, "stop", report),
        zone,
    )
    report.raise_errors(DataError, title=_TITLE)
    where = describe_url(database_url)
    with open_database(database_url) as connection:
        source = find_source(connection, readings, role="readings", report=report)
        places: pd.DataFrame | str | Path | None = stations_file
        if stations is not None:
            places = read_sql_places(connection, stations, geometry_column, crs, report)
        columns = None
        if source is not None:
            columns = _choose(source, reading_id_column, time_column, value_columns, report)
        report.raise_errors(DataError, title=f"{_TITLE}, {where}")
        assert source is not None  # noqa: S101 - else there was an error
        assert columns is not None  # noqa: S101
        assert places is not None  # noqa: S101
        table = _read_rows(connection, source, columns, bounds, chunk_rows, report)
        if table is not None and since is not None and not _has_any(table, columns, bounds):
            table = None
        if table is None and since is None:
            _note_nothing(connection, source, columns, report)
    report.raise_errors(DataError, title=f"{_TITLE}, {where}")
    reading_options: dict[str, Any] = {}
    if table is not None:
        reading_options = {
            "reading_id_column": columns.id, "time_column": columns.time, "layout": "long",
            "value_columns": list(columns.values), "unit": unit, "units": units, "roles": roles,
            "start": _stamp(bounds.start), "stop": _stamp(bounds.stop),
            "step_minutes": step_minutes, "aggregate": aggregate, "missing": missing,
            "duplicates": duplicates, "max_cells": max_cells,
        }  # fmt: skip
    graph = read_stations(
        places, table, layer=layer, id_column=id_column, lat_column=lat_column,
        lon_column=lon_column, x_column=x_column, y_column=y_column,
        crs=None if isinstance(places, gpd.GeoDataFrame) else crs,
        missing_coordinates=missing_coordinates, zone=zone, **reading_options,
    )  # fmt: skip
    report.extend(graph.report)
    provenance = {
        **graph.provenance,
        "connector": "database",
        "source": {"database": where, "readings": source.name},
        "findings": report.to_json(),
    }
    graph = graph.replace(provenance=provenance)
    if table is not None:
        return graph
    return _without_steps(graph, columns.values, unit, units, roles, step_minutes)


@dataclass(frozen=True)
class _Columns:
    """Columns of the readings that are read."""

    id: str
    time: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class _Bounds:
    """Microseconds since 1970 UTC that readings must lie between; None is no limit."""

    start: int | None
    stop: int | None
    zone: str


# ---------------------------------------------------------------- options


def _check_options(
    zone: str,
    chunk_rows: int,
    stations: object,
    stations_file: object,
    since: object,
    step_minutes: float | None,
    report: Report,
) -> None:
    """Note options that cannot be, or not together."""
    check_zone(zone, report)
    if not isinstance(chunk_rows, int) or chunk_rows < 1:
        report.error("`chunk_rows`", f"is {chunk_rows!r}", "give a whole number of at least 1")
    if (stations is None) == (stations_file is None):
        both = "both are given" if stations is not None else "none is given"
        report.error("`stations`, `stations_file`", both, "give one of them")
    if since is not None and step_minutes is None:
        todo = "give that of the older graph, so that the steps are the same"
        report.error("`since`", "needs `step_minutes`", todo)


def _us(time: Any, zone: str, name: str, report: Report) -> int | None:
    """Return microseconds since 1970 UTC of an instant or wall clock, None for none."""
    try:
        return None if time is None else instant_us(time, zone)
    except (ValueError, TypeError):
        report.error(f"`{name}`", f"{time!r} cannot be read as a time", "write 2024-01-31 16:45")
        return None


def _since(since: Any, step_minutes: float | None, zone: str, report: Report) -> int | None:
    """Return where the step begins that holds an instant; steps count from local midnight."""
    us = _us(since, zone, "since", report)
    if us is None or not step_minutes or step_minutes <= 0 or report.errors:
        return us
    return step_start(us, step_minutes, zone)


def _first(*limits: int | None) -> int | None:
    """Return the later of some beginnings."""
    return max((limit for limit in limits if limit is not None), default=None)


def _stamp(us: int | None) -> pd.Timestamp | None:
    """Return an instant in UTC."""
    return None if us is None else pd.Timestamp(us, unit="us", tz="UTC")


# ---------------------------------------------------------------- readings


def _choose(
    source: Source,
    id_column: str | None,
    time_column: str | None,
    value_columns: Sequence[str] | None,
    report: Report,
) -> _Columns | None:
    """Return the columns to read, or note that they cannot be known."""
    names, table = list(source.columns), Table(source.sample, source.name)
    if source.sample.empty:
        report.error(source.name, "has no rows", "readings need a row per station and instant")
        return None
    found: list[Any] = []
    for given, option, known in (
        (id_column, "reading_id_column", ID_NAMES),
        (time_column, "time_column", TIME_NAMES),
    ):
        find = guess_column if given is None else require_column
        first = names if given is None else given
        second = known if given is None else names
        found.append(find(first, second, table=table, option=option, report=report))
    values: list[Any]
    if value_columns is not None:
        wanted = [value_columns] if isinstance(value_columns, str) else list(value_columns)
        values = [
            require_column(name, names, table=table, option="value_columns", report=report)
            for name in wanted
        ]
    else:
        rest = [n for n in names if n not in found and not is_place_name(n)]
        values = [n for n in rest if is_quantity(source.sample[n].infer_objects())]
        left = [name for name in rest if name not in values]
        if left:
            report.info(
                source.name, f"columns left out: {shorten(left)}", "name them in value_columns="
            )
        if not values and None not in found:
            what = f"no column holds numbers; columns are {shorten(names)}"
            report.error(source.name, what, "name them in value_columns=")
    if None in found or None in values or not values:
        return None
    return _Columns(found[0], found[1], tuple(values))


def _read_rows(
    connection: Connection,
    source: Source,
    columns: _Columns,
    bounds: _Bounds,
    chunk_rows: int,
    report: Report,
) -> pd.DataFrame | None:
    """Return the readings between the bounds as a compact frame; None where there is none."""
    names = [columns.id, columns.time, *columns.values]
    times = column_of_times(list(source.sample[columns.time]))
    grown: list[Column] = [Labels(), times, *(Numbers() for _ in columns.values)]
    where = _conditions(source, columns.time, bounds, report)
    n_rows = 0
    try:
        for rows in stream_rows(connection, source, names, where=where, chunk_rows=chunk_rows):
            n_rows += len(rows)
            for column, cells in zip(grown, zip(*rows, strict=True), strict=True):
                column.add(cells)
    except (ValueError, TypeError) as error:  # of instants only: numbers and labels take all
        what = f"holds instants of several kinds ({str(error)[:100]})"
        report.error(f"{source.name}, column `{columns.time}`", what, "cast it to timestamptz")
        return None
    if n_rows == 0:
        return None
    report.info(source.name, f"{n_rows:,} rows were read", f"{chunk_rows:,} at a time")
    return pd.DataFrame({name: c.finish() for name, c in zip(names, grown, strict=True)})


def _has_any(table: pd.DataFrame, columns: _Columns, bounds: _Bounds) -> bool:
    """Tell whether a reading lies between the bounds, as the database may give some more."""
    us = read_times(
        table[columns.time], groups=None, table=Table(table, "`readings`"), name=columns.time,
        zone=bounds.zone, time_format=None, report=Report(),
    )  # fmt: skip
    inside = us != NO_TIME
    if bounds.start is not None:
        inside &= us >= bounds.start
    if bounds.stop is not None:
        inside &= us < bounds.stop
    return bool(inside.any())


def _conditions(source: Source, name: str, bounds: _Bounds, report: Report) -> list[Any]:
    """Return conditions that every row between the bounds fulfils; the grid cuts exactly."""
    if bounds.start is None and bounds.stop is None:
        return []
    known = [value for value in source.sample[name] if value is not None]
    column: Any = sa.column(name)
    made = []
    for us, is_start in ((bounds.start, True), (bounds.stop, False)):
        if us is None:
            continue
        limit = _limit(known, us, bounds.zone, is_start=is_start)
        if limit is None:
            todo = "all rows are read and cut afterwards; a column of timestamps is quicker"
            first = f"such as {str(known[0])!r}" if known else "that are missing in the first rows"
            what = f"times {first} cannot be compared in the database"
            report.info(f"{source.name}, column `{name}`", what, todo)
            return []
        made.append(column >= limit if is_start else column <= limit)
    return made


def _limit(known: Sequence[Any], us: int, zone: str, *, is_start: bool) -> Any:
    """Return a bound in the form of the times in the database; None if they have none.

    Where a wall clock or a text leaves room, the bound leaves more.
    """
    sign = -1 if is_start else 1
    utc = pd.Timestamp(us, unit="us", tz="UTC")
    if known and all(isinstance(value, dt.datetime) for value in known):
        if known[0].tzinfo is not None:
            return utc.to_pydatetime()
        wall = utc.tz_convert(zone).tz_localize(None).to_pydatetime()
        return wall if zone == "UTC" else wall + sign * _CLOCK_CHANGE
    if known and all(isinstance(value, dt.date) for value in known):
        return (utc.to_pydatetime() + sign * 2 * _DAY).date()
    if known and all(isinstance(value, int | float) for value in known):
        digits = {len(str(int(value))) for value in known}
        unit = _EPOCHS.get(digits.pop()) if len(digits) == 1 else None
        compact = str(int(known[0])).startswith(("19", "20")) and len(str(int(known[0]))) == 10
        return None if unit is None or compact else us // unit + (1 if sign > 0 else 0)
    if known and all(isinstance(value, str) and _ISO_DAY.fullmatch(value) for value in known):
        # ISO times in order are texts in order, whatever stands after the day
        day = utc.to_pydatetime() + sign * 2 * _DAY
        return day.strftime("%Y-%m-%d")
    return None


def _note_nothing(
    connection: Connection, source: Source, columns: _Columns, report: Report
) -> None:
    """Note that no row lies between the bounds, and where the rows lie."""
    if report.errors:
        return
    time: Any = sa.column(columns.time)
    span = sa.select(sa.func.min(time), sa.func.max(time)).select_from(source.clause)
    first, last = connection.execute(span).one()
    what = f"no reading lies between start and stop; there are some from {first} to {last}"
    report.error(source.name, what, "correct start= and stop=")


def _without_steps(
    graph: STGraph,
    names: Sequence[str],
    unit: str,
    units: Mapping[str, str] | None,
    roles: Mapping[str, Role] | None,
    step_minutes: float | None,
) -> STGraph:
    """Return the stations with the features that newer readings would have."""
    default = unit if len(names) == 1 else ""
    features = tuple(
        Feature(name, (units or {}).get(name, default), (roles or {}).get(name, "target"))
        for name in names
    )
    step = pd.Timedelta(minutes=step_minutes or 1)
    return graph.replace(
        time=pd.date_range("1970-01-01", periods=0, freq=step, tz="UTC"),
        values=np.zeros((0, graph.n_nodes, len(features)), dtype=np.float32),
        mask=None,
        features=features,
        provenance={**graph.provenance, "step_minutes": step_minutes},
    )
