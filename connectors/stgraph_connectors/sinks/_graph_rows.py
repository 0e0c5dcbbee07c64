"""What a graph file looked like when it was written, so that edits can be told when it is read."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stgraph_connectors.sinks import _gpkg

_TABLE = "graph_row"  # in no list of layers, so that GIS programs do not offer it
_SQL = f"CREATE TABLE {_TABLE} (layer TEXT, fid INTEGER, attributes INTEGER, geometry INTEGER)"


class Rows(NamedTuple):
    """The rows of a layer as they are in the file now."""

    fids: npt.NDArray[np.int64]
    columns: dict[str, list[Any]]  # without fid and geometry
    blobs: list[bytes | None]  # GeoPackage geometries


class Changes(NamedTuple):
    """What happened to the rows of a layer since it was written."""

    added: npt.NDArray[np.bool_]  # of the rows that are there
    edited: npt.NDArray[np.bool_]  # other attributes
    moved: npt.NDArray[np.bool_]  # another geometry
    n_deleted: int

    @property
    def some(self) -> bool:
        """Whether something is not as it was written."""
        return bool(self.n_deleted or (self.added | self.edited | self.moved).any())


def read_rows(db: sqlite3.Connection, layer: str) -> Rows:
    """Return all rows of a layer in the order of their fid."""
    cursor = db.execute(f"SELECT * FROM {_gpkg.quoted(layer)} ORDER BY fid")  # noqa: S608
    names = [column[0] for column in cursor.description]
    rows = cursor.fetchall()
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    fids = np.array(columns.pop("fid"), dtype=np.int64)
    return Rows(fids, columns, columns.pop("geom"))


def remember_rows(db: sqlite3.Connection, layers: Sequence[str]) -> None:
    """Store a checksum of every row of some layers."""
    db.execute(_SQL)
    for layer in layers:
        rows = read_rows(db, layer)
        sums = zip(rows.fids.tolist(), *_checksums(rows, list(rows.columns)), strict=True)
        db.executemany(
            f"INSERT INTO {_TABLE} VALUES (?, ?, ?, ?)",  # noqa: S608
            ((layer, *row) for row in sums),
        )


def find_changes(
    db: sqlite3.Connection, layer: str, rows: Rows, columns: Mapping[str, Any]
) -> Changes:
    """Compare the rows of a layer with those that were written; `columns` are the first ones."""
    query = f"SELECT fid, attributes, geometry FROM {_TABLE} WHERE layer = ?"  # noqa: S608
    before = {fid: (attributes, shape) for fid, attributes, shape in db.execute(query, (layer,))}
    kept = [name for name in columns if name in rows.columns]
    texts, shapes = _checksums(rows, kept)
    known = [before.get(fid) for fid in rows.fids.tolist()]
    pairs = list(zip(known, texts, shapes, strict=True))
    added = np.array([old is None for old in known], dtype=bool)
    whole = len(kept) == len(columns)  # without a column, no row is as it was
    edited = [old is not None and whole and old[0] != text for old, text, _ in pairs]
    moved = [old is not None and old[1] != shape for old, _, shape in pairs]
    n_deleted = len(before) - int((~added).sum())
    return Changes(added, np.array(edited, bool), np.array(moved, bool), n_deleted)


def _checksums(rows: Rows, names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return a checksum of the attributes and one of the geometry of every row."""
    cells = zip(*(rows.columns[name] for name in names), strict=True)
    texts = [zlib.crc32(repr(row).encode()) for row in cells] if names else [0] * len(rows.fids)
    shapes = [zlib.crc32(blob or b"") for blob in _gpkg.strip_headers(rows.blobs)]
    return texts, shapes
