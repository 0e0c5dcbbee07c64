"""COPY in binary: whole arrays become one buffer, without a Python step per row.

https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from psycopg import sql

from stgraph.errors import InputError
from stgraph_connectors.postgis.connect import Connection

Kind = Literal["smallint", "integer", "bigint", "real", "timestamptz", "text", "real[]"]

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
_FIXED = {"smallint": ">i2", "integer": ">i4", "bigint": ">i8", "timestamptz": ">i8", "real": ">f4"}
_EPOCH_US = 946_684_800_000_000  # 2000-01-01, where Postgres begins to count
_REAL_OID = 700
_BLOCK_BYTES = 1_000_000  # of rows at once: what the processor's cache holds is fastest


def copy_arrays(
    connection: Connection,
    table: sql.Composable,
    columns: Mapping[str, tuple[Kind, npt.ArrayLike]],
) -> int:
    """Load columns of numbers into a table and return the number of rows.

    Parameters
    ----------
    connection
        Inside a transaction.
    table
        Quoted name.
    columns
        Name to kind and values: R numbers, or for ``real[]`` an (R, ...) array of one or more
        dimensions. Nothing may be missing but NaN. ``timestamptz`` takes microseconds since 2000
        as `instants` gives them, ``text`` UTF-8 bytes that are all of one length. A single value
        stands for R times the same.

    Returns
    -------
    int
        R.

    Raises
    ------
    InputError
        Columns of different lengths, or numbers that the kind cannot hold.
    """
    parts = {name: (kind, np.asarray(values)) for name, (kind, values) in columns.items()}
    n_rows = _check(parts)
    dtype = _row_type(parts)
    n_block = min(n_rows, max(1, _BLOCK_BYTES // dtype.itemsize))
    rows = np.zeros(n_block, dtype=dtype)
    _fill_constants(rows, parts)
    with connection.cursor() as cursor, cursor.copy(_copy_in(table, parts)) as copy:
        copy.write(_HEADER)
        for start in range(0, n_rows, max(1, n_block)):
            block = rows[: min(n_block, n_rows - start)]
            for i, (kind, values) in enumerate(parts.values()):
                part = values[start : start + len(block)] if values.ndim else values
                target = block[f"v{i}"]
                (target["value"] if kind == "real[]" else target)[...] = part
            copy.write(block.tobytes())
        copy.write(_END)
    return n_rows


def copy_records(
    connection: Connection,
    table: sql.Composable,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Load rows of text, JSON or other values of any length into a table.

    Parameters
    ----------
    connection
        Inside a transaction.
    table
        Quoted name.
    columns
        Name to Postgres type.
    rows
        Tuples in the order of the columns; None is NULL.
    """
    with connection.cursor() as cursor, cursor.copy(_copy_in(table, columns)) as copy:
        copy.set_types(list(columns.values()))
        for row in rows:
            copy.write_row(row)


def instants(time: pd.DatetimeIndex | pd.Timestamp) -> npt.NDArray[np.int64]:
    """Return microseconds since 2000-01-01 UTC, as Postgres counts them."""
    index = pd.DatetimeIndex([time]) if isinstance(time, pd.Timestamp) else time
    counted: npt.NDArray[np.int64] = index.as_unit("us").asi8 - _EPOCH_US
    return counted[0] if isinstance(time, pd.Timestamp) else counted


def _copy_in(table: sql.Composable, names: Iterable[str]) -> sql.Composed:
    """Return the COPY statement."""
    listed = sql.SQL(", ").join(sql.Identifier(name) for name in names)
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, listed)


def _check(parts: Mapping[str, tuple[Kind, npt.NDArray[Any]]]) -> int:
    """Return the number of rows; what would be cut or wrapped around without a word is refused."""
    lengths = {name: len(values) for name, (_, values) in parts.items() if values.ndim}
    if len(set(lengths.values())) > 1:
        raise InputError(f"columns of different lengths: {lengths}")
    for name, (kind, values) in parts.items():
        if kind == "real[]" and values.ndim < 2:
            raise InputError(f"column {name!r} holds arrays: give it (R, ...) values")
        if kind in ("real", "real[]", "text"):
            continue
        bounds = np.iinfo(_FIXED[kind])
        whole = np.issubdtype(values.dtype, np.integer) or not values.size
        if not whole or (
            values.size and not bounds.min <= values.min() <= values.max() <= bounds.max
        ):
            raise InputError(f"column {name!r} has values that are no {kind}")
    return next(iter(lengths.values()), 1)


def _row_type(parts: Mapping[str, tuple[Kind, npt.NDArray[Any]]]) -> np.dtype[np.void]:
    """Return the layout of one row: a length before every value, big-endian throughout."""
    fields: list[Any] = [("n", ">i2")]
    for i, (kind, values) in enumerate(parts.values()):
        if kind == "real[]":
            shape = values.shape[1:]
            element = np.dtype([("size", ">i4"), ("value", ">f4")])
            fields += [(f"l{i}", ">i4"), (f"h{i}", ">i4", (3 + 2 * len(shape),))]
            fields.append((f"v{i}", element, shape))
        else:
            value = values.dtype if kind == "text" else _FIXED[kind]
            fields += [(f"l{i}", ">i4"), (f"v{i}", value)]
    return np.dtype(fields)


def _fill_constants(
    rows: npt.NDArray[np.void], parts: Mapping[str, tuple[Kind, npt.NDArray[Any]]]
) -> None:
    """Write what every row has alike: number of fields, lengths, array headers."""
    rows["n"] = len(parts)
    layout = rows.dtype
    for i, (kind, values) in enumerate(parts.values()):
        size = layout[f"v{i}"].itemsize
        if kind == "real[]":
            shape = values.shape[1:]
            bounds = [number for extent in shape for number in (extent, 1)]
            rows[f"h{i}"] = [len(shape), 0, _REAL_OID, *bounds]  # 0: no NULLs inside
            rows[f"v{i}"]["size"] = 4
            size += layout[f"h{i}"].itemsize
        rows[f"l{i}"] = size
