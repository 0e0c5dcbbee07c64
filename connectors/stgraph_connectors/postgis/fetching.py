"""Numbers out of the database: binary COPY into arrays, without a Python step per value."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from stgraph_connectors.postgis.connect import Connection

_HEADER = 19  # bytes before the first row: signature, flags, extension
_END = b"\xff\xff"
_PAIRS = np.dtype([("number", ">i4"), ("value", ">f4")])


def fetch_arrays(
    connection: Connection,
    query: sql.Composable,
    shapes: Sequence[tuple[int, ...]],
    *,
    chunk_rows: int,
) -> Iterator[tuple[npt.NDArray[np.int64], list[npt.NDArray[np.float32]]]]:
    """Yield numbers (R,) and arrays (R, ...) of a query, at most `chunk_rows` rows at a time.

    Parameters
    ----------
    connection
        Inside a transaction.
    query
        Gives an ``integer`` and as many ``real[]`` as there are shapes, none of them NULL.
    shapes
        Shape that every array of a column has.
    chunk_rows
        At least 1.
    """
    dtype = _row_type(shapes)
    rows: list[bytes] = []
    for message in _messages(connection, query):
        rows.append(message)
        if len(rows) == chunk_rows:
            yield _parse(rows, dtype, shapes)
            rows = []
    if rows:
        yield _parse(rows, dtype, shapes)


def fetch_groups(
    connection: Connection, query: sql.Composable
) -> Iterator[tuple[int, int, npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Yield instant, second number, and per row of the group its number and value.

    Parameters
    ----------
    connection
        Inside a transaction.
    query
        Gives a ``timestamptz``, a ``smallint``, and a ``bytea`` in which each value stands as
        ``int4send(number) || float4send(value)``.

    Yields
    ------
    tuple
        Microseconds since 2000-01-01 UTC, the smallint, (R,) numbers, (R,) values.
    """
    head = struct.Struct(">hiqihi")  # number of fields; length and value of two; length
    for message in _messages(connection, query):
        _, _, instant, _, group, _ = head.unpack_from(message)
        pairs = np.frombuffer(message, dtype=_PAIRS, offset=head.size)
        yield (
            instant,
            group,
            pairs["number"].astype(np.int64),
            pairs["value"].astype(np.float32),
        )


def fetch_packed(
    connection: Connection, query: sql.Composed, dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Return the array that a query packs into one ``bytea``, empty where that is NULL."""
    row = connection.execute(query, binary=True).fetchone()
    packed = b"" if row is None or row[0] is None else bytes(row[0])
    return np.frombuffer(packed, dtype=dtype)


def _messages(connection: Connection, query: sql.Composable) -> Iterator[bytes]:
    """Yield the rows of a query as the server sends them, one each."""
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(query)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        first = True
        for block in copy:
            message = bytes(block)
            if first:  # the header comes with the first row, or alone
                message, first = message[_HEADER:], False
            if message and message != _END:
                yield message


def _row_type(shapes: Sequence[tuple[int, ...]]) -> np.dtype[np.void]:
    """Return the layout of a row: a length before every value, big-endian throughout."""
    fields: list[Any] = [("n", ">i2"), ("l", ">i4"), ("number", ">i4")]
    element = np.dtype([("size", ">i4"), ("value", ">f4")])
    for i, shape in enumerate(shapes):
        n_dimensions = len(shape) if np.prod(shape) else 0  # an empty array has none
        fields.append((f"h{i}", ">i4", (4 + 2 * n_dimensions,)))
        fields.append((f"v{i}", element, shape))
    return np.dtype(fields)


def _parse(
    rows: Sequence[bytes], dtype: np.dtype[np.void], shapes: Sequence[tuple[int, ...]]
) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.float32]]]:
    """Return some rows as arrays."""
    table = np.frombuffer(b"".join(rows), dtype=dtype)
    arrays = [table[f"v{i}"]["value"].astype(np.float32) for i in range(len(shapes))]
    return table["number"].astype(np.int64), arrays
