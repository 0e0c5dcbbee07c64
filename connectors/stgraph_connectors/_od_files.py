"""Origin-destination matrices of many kinds of files, as trips between positions of ids."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from stgraph.report import Report
from stgraph_connectors._arrays import Arrays, pick, read_npz
from stgraph_connectors._cells import to_numbers
from stgraph_connectors._clock import NO_TIME, read_times
from stgraph_connectors._ids import clean_ids, code_ids, guess_column, require_column, shorten
from stgraph_connectors._od_planning import read_omx, read_tntp_trips
from stgraph_connectors._signal import TIME_NAMES
from stgraph_connectors._tables import SUFFIXES, Table, check_path, plain_suffix, read_table
from stgraph_connectors._trips import (
    Floats,
    TripOptions,
    Trips,
    check_matrix,
    from_dense,
    given_ids,
    is_too_large,
)

ORIGINS = (
    "origin", "o", "from", "orig", "origin_id", "from_id", "from_zone", "o_zone", "o_zone_id",
    "origin_zone", "source", "i",
)  # fmt: skip
DESTINATIONS = (
    "destination", "d", "to", "dest", "destination_id", "to_id", "to_zone", "d_zone", "d_zone_id",
    "destination_zone", "target", "j",
)  # fmt: skip
VALUES = ("trips", "value", "demand", "flow", "volume", "count", "ton", "od", "weight")
_MATRICES = ("matrix", "od", "values", "trips", "demand", "arr_0")
_ID_ARRAYS = ("ids", "zone_ids", "zones", "node_ids", "sensor_ids")


def read_trips(source: Any, options: TripOptions, report: Report) -> Trips | None:
    """Return the flows of a file or frame; None when it cannot be used, as `report` says."""
    if isinstance(source, pd.DataFrame):
        return _from_table(source, options, report)
    known = (*SUFFIXES, ".npz", ".omx", ".tntp")
    path = check_path(source, report, role="matrix", suffixes=known)
    if path is None:
        return None
    suffix = plain_suffix(path)
    if suffix == ".tntp":
        return read_tntp_trips(path, report)
    if suffix == ".omx":
        return read_omx(path, options, report)
    if suffix == ".npz":
        return _from_npz(path, options, report)
    return _from_table(path, options, report)


# ---------------------------------------------------------------- tables


def _from_table(
    source: str | Path | pd.DataFrame, options: TripOptions, report: Report
) -> Trips | None:
    """Read a long table, or a square one whose first column and header are ids."""
    if isinstance(source, Path) and _too_wide(source, options, report):
        return None
    table = read_table(source, report, role="matrix", text=None)
    if table is None:
        return None
    lower = {str(name).strip().lower() for name in table.frame.columns}
    is_long = options.origin_column is not None or bool(lower & set(ORIGINS))
    return _from_long(table, options, report) if is_long else _from_square(table, options, report)


def _too_wide(path: Path, options: TripOptions, report: Report) -> bool:
    """Refuse a square text file with more columns than a dense matrix may have."""
    if plain_suffix(path) not in (".csv", ".txt", ".tsv") or path.name.endswith(".gz"):
        return False
    with path.open("rb") as file:
        head = file.readline()
    return is_too_large(max(map(head.count, (b",", b";", b"\t"))), path.name, options, report)


def _from_long(table: Table, options: TripOptions, report: Report) -> Trips | None:
    """Read a row per pair, and instant where there is a time."""
    names = list(table.frame.columns)
    ends = [
        _column(given, known, names, option, table, report)
        for given, known, option in (
            (options.origin_column, ORIGINS, "origin_column"),
            (options.destination_column, DESTINATIONS, "destination_column"),
        )
    ]
    time = options.time_column
    if time is not None:
        time = require_column(time, names, table=table, option="time_column", report=report)
    else:
        time = guess_column(
            names, TIME_NAMES, table=table, option="time_column", report=report, required=False
        )
    value = _value_column(table, [*ends, time], options.value_column, report)
    if None in ends or value is None or report.errors:
        return None
    coded = [code_ids(table.frame[name]) for name in ends]
    names_of = np.concatenate([ids for _, ids in coded])
    names_of[names_of == ""] = None  # missing
    labels, joined = pd.factorize(names_of)
    split = len(coded[0][1])
    places = [np.append(labels[:split], -1), np.append(labels[split:], -1)]
    origin, destination = (place[codes] for place, (codes, _) in zip(places, coded, strict=True))
    trips = to_numbers(table.frame[value], table, report, name=value)
    kept = (origin >= 0) & (destination >= 0)
    if not kept.all():
        count, first = int((~kept).sum()), int(np.argmin(kept))
        what = f"{count} rows have no origin or no destination"
        report.warning(table.at(first), what, "they were dropped", count=count)
    us = None
    if time is not None:
        us = read_times(
            table.frame[time], groups=None, table=table, name=time, zone=options.zone,
            time_format=None, report=report,
        )  # fmt: skip
        kept &= us != NO_TIME
    _check_trips(trips, kept, table, value, report)
    kept &= np.isfinite(trips)
    return Trips(
        np.asarray(joined, dtype=object), origin[kept].astype(np.int64),
        destination[kept].astype(np.int64), trips[kept], len(joined), table.name,
        None if us is None else us[kept],
    )  # fmt: skip


def _column(
    given: str | None,
    known: Sequence[str],
    names: list[Any],
    option: str,
    table: Table,
    report: Report,
) -> Any | None:
    """Return the column that an option names, or the one with a known name."""
    if given is not None:
        return require_column(given, names, table=table, option=option, report=report)
    return guess_column(names, known, table=table, option=option, report=report)


def _value_column(table: Table, taken: list[Any], given: str | None, report: Report) -> Any | None:
    """Return the column of the trips: named, known by name, or the only one left."""
    names = list(table.frame.columns)
    if given is not None:
        return require_column(given, names, table=table, option="value_column", report=report)
    rest = [name for name in names if name not in taken]
    known = [name for name in rest if str(name).strip().lower() in VALUES]
    found = known if len(known) == 1 else rest
    if len(found) == 1:
        return found[0]
    what = f"several columns could be the trips: {shorten(found)}" if found else "no column is left"
    report.error(table.name, what, "say which with value_column=")
    return None


def _check_trips(trips: Floats, kept: Any, table: Table, value: Any, report: Report) -> None:
    """Note negative trips (error) and missing ones."""
    negative = kept & (trips < 0)
    if negative.any():
        first, count = int(np.argmax(negative)), int(negative.sum())
        what = f"{trips[first]:g} trips are below 0 ({count} such cell(s))"
        report.error(table.at(first, value), what, "correct them", count=count)
    missing = kept & np.isnan(trips)
    if missing.any():
        first, count = int(np.argmax(missing)), int(missing.sum())
        what = f"{count} cells are empty"
        report.warning(table.at(first, value), what, "taken as no trips", count=count)


def _from_square(table: Table, options: TripOptions, report: Report) -> Trips | None:
    """Read a row per origin and a column per destination."""
    frame = table.frame
    if table.headless:
        what = "has numbers where column names are expected"
        todo = "write ids in the first line and column, or columns origin, destination, trips"
        report.error(f"{table.name}, line 1", what, todo)
        return None
    if isinstance(frame.index, pd.RangeIndex):
        frame = frame.set_index(frame.columns[0])
    rows, columns = clean_ids(frame.index), clean_ids(np.asarray(frame.columns, dtype=object))
    n_rows, n_columns = frame.shape
    if n_rows != n_columns or set(rows) != set(columns):
        odd = sorted(set(rows) ^ set(columns))
        what = f"is {n_rows} x {n_columns}, ids in rows or columns only: {shorten(odd, 5)}"
        todo = "a matrix has the same ids in both; else name origin_column= and destination_column="
        report.error(table.name, what, todo)
        return None
    if len(set(rows)) < n_rows or is_too_large(n_rows, table.name, options, report):
        if len(set(rows)) < n_rows:
            report.error(table.name, "has ids that appear twice", "make ids unique")
        return None
    numbers = [to_numbers(frame.iloc[:, i], table, report, name=columns[i])
               for i in range(n_columns)]  # fmt: skip
    order = pd.Index(columns).get_indexer(pd.Index(rows))
    return from_dense(np.stack(numbers, axis=1)[:, order], rows, table.name, report)


# ---------------------------------------------------------------- arrays


def _from_npz(path: Path, options: TripOptions, report: Report) -> Trips | None:
    """Read a dense (N, N) or (T, N, N) array with ids, or what scipy.sparse.save_npz wrote."""
    for shape in _shapes(path).values():
        square = len(shape) in (2, 3) and shape[-1] == shape[-2]
        if square and is_too_large(shape[-1], path.name, options, report):
            return None
    arrays = read_npz(path, report)
    if arrays is None:
        return None
    if {"format", "data", "shape"} <= set(arrays):
        return _from_sparse(path, options, report)
    matrix = _pick_matrix(arrays, path.name, options, report)
    if matrix is None:
        return None
    found = pick(arrays, _ID_ARRAYS, name=path.name, report=report, required=False)
    ids = given_ids(found, matrix.shape[-1], options, path.name, report)
    if ids is None:
        return None
    if matrix.ndim == 2:
        return from_dense(matrix, ids, path.name, report)
    stamps = pick(arrays, ("timestamps", "time"), name=path.name, report=report)
    return None if stamps is None else _from_cube(matrix, stamps, ids, path, options, report)


def _pick_matrix(
    arrays: Arrays, name: str, options: TripOptions, report: Report
) -> npt.NDArray[Any] | None:
    """Return the array that an option names, one with a known name, or the only square one."""
    wanted = (options.matrix_name,) if options.matrix_name else _MATRICES
    square = [n for n, a in arrays.items() if a.ndim in (2, 3) and a.shape[-1] == a.shape[-2]]
    if not set(wanted) & set(arrays) and len(square) == 1 and options.matrix_name is None:
        wanted = (square[0],)
    matrix = pick(arrays, wanted, name=name, report=report)
    if matrix is None:
        return None
    where = f"{name}, `{next(n for n in wanted if n in arrays)}`"
    if matrix.dtype.kind not in "fiu":
        report.error(where, f"has dtype {matrix.dtype}", "it must hold numbers")
        return None
    if matrix.ndim not in (2, 3) or matrix.shape[-1] != matrix.shape[-2]:
        report.error(where, f"has shape {matrix.shape}", "it must be (N, N) or (time, N, N)")
        return None
    return matrix


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays in an npz file without reading these; {} if it is damaged."""
    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    version = np.lib.format.read_magic(file)
                    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                        version, np.lib.format.read_array_header_2_0
                    )
                    shapes[name] = read(file)[0]
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}
    return shapes


def _from_sparse(path: Path, options: TripOptions, report: Report) -> Trips | None:
    """Read what scipy.sparse.save_npz wrote."""
    matrix = sp.coo_array(sp.load_npz(path))
    matrix.sum_duplicates()
    if matrix.shape[0] != matrix.shape[1]:
        report.error(path.name, f"has shape {matrix.shape}", "it must be (N, N)")
        return None
    ids = given_ids(None, matrix.shape[0], options, path.name, report)
    if ids is None or not check_matrix(matrix.data[None, :], path.name, report):
        return None
    trips = np.nan_to_num(matrix.data.astype(np.float64))
    origin, destination = (part.astype(np.int64) for part in matrix.coords)
    return Trips(ids, origin, destination, trips, matrix.shape[0], path.name)


def _from_cube(
    cube: npt.NDArray[Any],
    stamps: npt.NDArray[Any],
    ids: npt.NDArray[np.object_],
    path: Path,
    options: TripOptions,
    report: Report,
) -> Trips | None:
    """Return what is not 0 of a matrix per instant."""
    if stamps.shape != cube.shape[:1]:
        what = f"has {len(cube)} matrices for {stamps.size} timestamps"
        report.error(path.name, what, "one timestamp a matrix")
        return None
    if not check_matrix(cube.reshape(len(cube), -1), path.name, report):
        return None
    if stamps.dtype.kind in "iu":  # seconds of the wall clock
        stamps = stamps.astype(np.int64).astype("datetime64[s]")
    us = read_times(
        stamps, groups=None, table=Table(pd.DataFrame(), path.name), name="timestamps",
        zone=options.zone, time_format=None, report=report,
    )  # fmt: skip
    cube = np.nan_to_num(cube)
    step, origin, destination = np.nonzero(cube)
    trips = cube[step, origin, destination].astype(np.float64)
    return Trips(ids, origin, destination, trips, cube.shape[1], path.name, us[step], us)
