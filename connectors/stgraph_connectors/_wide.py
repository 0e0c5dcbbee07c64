"""Read wide tables and arrays: one row per instant, one column per station."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.report import Report
from stgraph_connectors._arrays import ARRAY_IDS, pick, read_npz
from stgraph_connectors._cells import to_numbers
from stgraph_connectors._clock import NO_TIME, Int64Array, read_times
from stgraph_connectors._ids import clean_ids, match_ids, require_column, shorten
from stgraph_connectors._signal import Floats, ReadingOptions, Readings, time_column
from stgraph_connectors._tables import Table


def read_wide(
    table: Table, ids: pd.Index[Any], options: ReadingOptions, report: Report
) -> Readings | None:
    """Read one row per instant and one column per station."""
    times, time_name = time_column(table, options, report)
    if times is None:
        return None
    columns: list[Any] = [name for name in table.frame.columns if name != time_name]
    if options.value_columns is not None:
        found = [
            require_column(name, columns, table=table, option="value_columns", report=report)
            for name in options.value_columns
        ]
        if None in found:
            return None
        columns = found
    matched = _match_columns(np.asarray(columns, dtype=object), ids, table.name, report)
    if matched is None:
        return None
    kept, stations = matched
    values = _wide_numbers(table, [columns[i] for i in kept], report)
    time = read_times(
        times, groups=None, table=table, name=time_name, zone=options.zone,
        time_format=options.time_format, report=report,
    )  # fmt: skip
    return _wide(time, stations, values[:, :, None], (options.feature,), table)


def _wide_numbers(table: Table, columns: list[Any], report: Report) -> Floats:
    """Return the columns as numbers (T, S); cell by cell only where something is odd."""
    frame = table.frame[columns]
    if all(dtype.kind in "fiu" for dtype in frame.dtypes):
        with np.errstate(over="ignore"):
            values = frame.to_numpy(dtype=np.float32, na_value=np.nan)
        if not np.isinf(values).any():
            return values
    numbers = [to_numbers(frame[name], table, report, name=name) for name in columns]
    with np.errstate(over="ignore"):
        return np.stack(numbers, axis=1).astype(np.float32)


def _wide(
    time: Int64Array, stations: Int64Array, values: Floats, features: tuple[str, ...], table: Table
) -> Readings:
    """Return wide readings, rows without time left out."""
    rows = np.arange(len(time))
    lengths = (len(time),)
    readings = Readings(time, stations, values, features, rows, (table,), lengths)
    return readings if (time != NO_TIME).all() else readings.take(np.flatnonzero(time != NO_TIME))


def _match_columns(
    labels: npt.NDArray[Any], ids: pd.Index[Any], name: str, report: Report
) -> tuple[Int64Array, Int64Array] | None:
    """Return the columns that belong to stations, and the positions of those stations."""
    names = clean_ids(labels)
    positions = match_ids(names, ids, name=name, report=report, thing="column names")
    kept = np.flatnonzero(positions >= 0)
    if kept.size == 0:
        report.error(
            name,
            f"no column is named like a station: columns are {shorten(names, 3)}, stations "
            f"{shorten(ids, 3)}",
            "name the columns with id_column=, or with reading_id_column= if the table is long",
        )
        return None
    strangers = names[positions < 0]
    if strangers.size:
        what = f"{strangers.size} columns belong to no station: {shorten(strangers, 5)}"
        report.warning(name, what, "they were dropped", count=int(strangers.size))
    twice = pd.Index(positions[kept]).duplicated()
    if twice.any():
        what = f"several columns belong to one station: {shorten(names[kept][twice], 5)}"
        report.error(name, what, "rename or drop them")
        return None
    return kept, positions[kept]


def read_arrays(
    path: Path, ids: pd.Index[Any], options: ReadingOptions, report: Report
) -> Readings | None:
    """Read `values` (T, S) or (T, S, F), `timestamps` and `sensor_ids` from an npz file."""
    arrays = read_npz(path, report)
    if arrays is None:
        return None
    name, table = path.name, Table(pd.DataFrame(), path.name)
    values = pick(arrays, ("values",), name=name, report=report)
    stamps = pick(arrays, ("timestamps", "time"), name=name, report=report)
    labels = pick(arrays, ARRAY_IDS, name=name, report=report)
    if values is None or stamps is None or labels is None:
        return None
    if values.dtype.kind not in "fiu":
        report.error(f"{name}, `values`", f"has dtype {values.dtype}", "it must hold numbers")
        return None
    values = values[:, :, None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[:2] != (len(stamps), len(labels)) or stamps.ndim != 1:
        what = f"has shape {values.shape} for {len(stamps)} timestamps and {len(labels)} ids"
        report.error(f"{name}, `values`", what, "it must be (time, stations[, features])")
        return None
    features = _array_features(values.shape[2], options, name, report)
    matched = _match_columns(labels, ids, name, report)
    if features is None or matched is None:
        return None
    infinite = np.isinf(values)
    if infinite.any():
        t, n, _ = (int(i) for i in np.argwhere(infinite)[0])
        what = f"is infinite for {str(labels[n])!r} ({int(infinite.sum())} such cell(s))"
        report.error(table.at(t, "values"), what, "write NaN where nothing was measured")
    if stamps.dtype.kind in "iu":  # seconds of the wall clock
        stamps = stamps.astype(np.int64).astype("datetime64[s]")
    time = read_times(
        stamps, groups=None, table=table, name="timestamps", zone=options.zone,
        time_format=options.time_format, report=report,
    )  # fmt: skip
    return _wide(time, matched[1], values[:, matched[0]], features, table)


def _array_features(
    n_features: int, options: ReadingOptions, name: str, report: Report
) -> tuple[str, ...] | None:
    """Return names for the last axis of an array."""
    if options.value_columns is not None:
        if len(options.value_columns) != n_features:
            what = f"holds {n_features} features, value_columns= names {len(options.value_columns)}"
            report.error(f"{name}, `values`", what, "name all of them")
            return None
        return tuple(options.value_columns)
    if n_features == 1:
        return (options.feature,)
    return tuple(f"{options.feature}_{i}" for i in range(n_features))
