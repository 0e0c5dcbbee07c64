"""Read long tables: one row per station and instant."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.report import Report
from stgraph_connectors._cells import to_numbers
from stgraph_connectors._clock import NO_TIME, Int64Array, read_times
from stgraph_connectors._coordinates import LATITUDE_NAMES, LONGITUDE_NAMES, X_NAMES, Y_NAMES
from stgraph_connectors._ids import (
    ID_NAMES,
    code_ids,
    guess_column,
    match_ids,
    require_column,
    shorten,
)
from stgraph_connectors._signal import ReadingOptions, Readings, time_column
from stgraph_connectors._tables import Table

_PLACE_NAMES = {*LATITUDE_NAMES, *LONGITUDE_NAMES, *X_NAMES, *Y_NAMES, "geometry"}


def read_long(
    table: Table, ids: pd.Index[Any], options: ReadingOptions, report: Report
) -> Readings | None:
    """Read one row per station and instant."""
    frame = table.frame
    columns = list(frame.columns)
    if options.id_column is not None:
        id_column = require_column(
            options.id_column, columns, table=table, option="reading_id_column", report=report
        )
    else:
        id_column = guess_column(
            columns, ID_NAMES, table=table, option="reading_id_column", report=report
        )
    times, time_name = time_column(table, options, report)
    if id_column is None or times is None:
        return None
    value_columns = _value_columns(table, {id_column, time_name}, options, report)
    if not value_columns:
        return None
    codes, names = code_ids(frame[id_column])
    positions = match_ids(names, ids, name=table.column(id_column), report=report, thing="ids")
    where = np.append(positions, -1)[codes]
    if not _note_strangers(table, id_column, names, positions, codes, ids, report):
        return None
    time = read_times(
        times, groups=where, table=table, name=time_name, zone=options.zone,
        time_format=options.time_format, report=report,
    )  # fmt: skip
    numbers = [to_numbers(frame[name], table, report, name=name) for name in value_columns]
    rows = np.flatnonzero((where >= 0) & (time != NO_TIME))
    return Readings(
        time=time[rows],
        stations=where[rows],
        values=np.stack([column[rows] for column in numbers], axis=1),
        features=tuple(str(name) for name in value_columns),
        rows=rows,
        tables=(table,),
        lengths=(len(frame),),
    )


def _value_columns(
    table: Table, taken: set[Any], options: ReadingOptions, report: Report
) -> list[Any] | None:
    """Return the columns that hold quantities."""
    frame = table.frame
    columns = [name for name in frame.columns if name not in taken]
    if options.value_columns is not None:
        found = [
            require_column(name, columns, table=table, option="value_columns", report=report)
            for name in options.value_columns
        ]
        return None if None in found or not found else found
    kept: list[Any] = []
    left: list[Any] = []
    for name in columns:
        is_place = str(name).strip().lower() in _PLACE_NAMES
        (left if is_place or not is_quantity(frame[name]) else kept).append(name)
    if left:
        report.info(table.name, f"columns left out: {shorten(left)}", "name them in value_columns=")
    if not kept:
        what = f"no column holds numbers; columns are {shorten(list(frame.columns))}"
        report.error(table.name, what, "name them in value_columns=")
    return kept


def is_place_name(name: object) -> bool:
    """Tell whether a column has a known name of coordinates."""
    return str(name).strip().lower() in _PLACE_NAMES


def is_quantity(column: pd.Series) -> bool:
    """Tell whether a column holds numbers, or text that is numbers for the greater part."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return bool(column.notna().any())
    if pd.api.types.is_datetime64_any_dtype(column):
        return False
    text = column.dropna().astype("string").iloc[:1000].str.replace(",", ".", n=1, regex=False)
    return bool(pd.to_numeric(text, errors="coerce").notna().mean() >= 0.5) if len(text) else False


def _note_strangers(
    table: Table,
    column: object,
    names: npt.NDArray[np.object_],
    positions: Int64Array,
    codes: Int64Array,
    ids: pd.Index[Any],
    report: Report,
) -> bool:
    """Note rows without id and rows of stations that the layer lacks; False if none is left."""
    if (positions < 0).all():
        report.error(
            table.column(column),
            f"no reading belongs to a station: ids are {shorten(names, 3)}, those of the "
            f"stations {shorten(ids, 3)}",
            "name the columns with id_column= and reading_id_column=",
        )
        return False
    if (codes < 0).any():
        first, count = int(np.argmax(codes < 0)), int((codes < 0).sum())
        what = f"{count} rows have no station id"
        report.warning(table.at(first, column), what, "they were dropped", count=count)
    strangers = np.append(positions < 0, False)[codes]
    if strangers.any():
        first, count = int(np.argmax(strangers)), int(strangers.sum())
        unknown = names[positions < 0]
        report.warning(
            table.at(first, column),
            f"{count} readings are of {len(unknown)} stations that the layer does not have: "
            f"{shorten(unknown, 5)}",
            "they were dropped",
            count=count,
        )
    return True
