"""GeoPackage tables that GDAL does not write: attribute tables, spatial views, styles, notes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import shapely

from stgraph_connectors.sinks._document import STANDARD_URI

QGIS_URI = "http://mrcc.com/qgis.dtd"  # what QGIS looks for among the metadata
NODES, EDGES = "nodes", "edges"

_ENVELOPE_BYTES = (0, 32, 48, 48, 64, 0, 0, 0)  # by the envelope code in the header's flags
_FIRST_MULTI = 4  # shapely type ids from here on have several parts
_NOW = "DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))"
_TABLES = f"""
CREATE TABLE gpkg_metadata (
  id INTEGER PRIMARY KEY NOT NULL, md_scope TEXT NOT NULL DEFAULT 'dataset',
  md_standard_uri TEXT NOT NULL, mime_type TEXT NOT NULL DEFAULT 'text/xml',
  metadata TEXT NOT NULL DEFAULT '');
CREATE TABLE gpkg_metadata_reference (
  reference_scope TEXT NOT NULL, table_name TEXT, column_name TEXT, row_id_value INTEGER,
  timestamp DATETIME NOT NULL {_NOW}, md_file_id INTEGER NOT NULL, md_parent_id INTEGER,
  CONSTRAINT crmr_mfi_fk FOREIGN KEY (md_file_id) REFERENCES gpkg_metadata(id),
  CONSTRAINT crmr_mpi_fk FOREIGN KEY (md_parent_id) REFERENCES gpkg_metadata(id));
CREATE TABLE gpkg_data_columns (
  table_name TEXT NOT NULL, column_name TEXT NOT NULL, name TEXT, title TEXT, description TEXT,
  mime_type TEXT, constraint_name TEXT,
  CONSTRAINT pk_gdc PRIMARY KEY (table_name, column_name),
  CONSTRAINT gdc_tn UNIQUE (table_name, name));
CREATE TABLE gpkg_data_column_constraints (
  constraint_name TEXT NOT NULL, constraint_type TEXT NOT NULL, value TEXT, min NUMERIC,
  min_is_inclusive BOOLEAN, max NUMERIC, max_is_inclusive BOOLEAN, description TEXT,
  CONSTRAINT gdcc_ntv UNIQUE (constraint_name, constraint_type, value));
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),
  f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
  styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
  owner TEXT(30), ui TEXT(30), update_time DATETIME {_NOW});
"""
_EXTENSIONS = [
    (table, "gpkg_metadata", "http://www.geopackage.org/spec130/#extension_metadata")
    for table in ("gpkg_metadata", "gpkg_metadata_reference")
] + [
    (table, "gpkg_schema", "http://www.geopackage.org/spec130/#extension_schema")
    for table in ("gpkg_data_columns", "gpkg_data_column_constraints")
]


def quoted(name: str) -> str:
    """Return a table or column name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def open_for_bulk(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that nobody else sees yet: no journal, no waiting for disk."""
    db = sqlite3.connect(path)
    db.executescript(
        "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;"
        "PRAGMA locking_mode=EXCLUSIVE;"
    )
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot change the file."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)


def create_extras(db: sqlite3.Connection) -> None:
    """Create the tables for metadata, column descriptions and styles, and register them."""
    db.executescript(_TABLES)
    db.execute(
        "CREATE TABLE IF NOT EXISTS gpkg_extensions (table_name TEXT, column_name TEXT, "
        "extension_name TEXT NOT NULL, definition TEXT NOT NULL, scope TEXT NOT NULL, "
        "CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name))"
    )
    db.executemany("INSERT INTO gpkg_extensions VALUES (?, NULL, ?, ?, 'read-write')", _EXTENSIONS)
    register_attributes(db, "layer_styles", description="Styles that QGIS finds by itself")


def create_table(
    db: sqlite3.Connection,
    name: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
    *,
    description: str,
) -> None:
    """Create an attribute table, fill it and register it.

    Parameters
    ----------
    db
        Connection of `open_for_bulk`.
    name
        Table name.
    columns
        Column name to SQL type; the first one is the integer primary key.
    rows
        One sequence per row, in the order of the columns.
    description
        What QGIS shows about the table.
    """
    key, *others = columns.items()
    parts = [f"{quoted(key[0])} INTEGER PRIMARY KEY NOT NULL"]
    parts += [f"{quoted(column)} {kind}" for column, kind in others]
    db.execute(f"CREATE TABLE {quoted(name)} ({', '.join(parts)})")
    marks = ", ".join("?" * len(columns))
    db.executemany(f"INSERT INTO {quoted(name)} VALUES ({marks})", rows)  # noqa: S608
    register_attributes(db, name, description=description)


def register_attributes(db: sqlite3.Connection, name: str, *, description: str) -> None:
    """Register a table without geometry."""
    db.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) "
        "VALUES (?, 'attributes', ?, ?, 0)",
        (name, name, description),
    )


def create_spatial_view(
    db: sqlite3.Connection,
    name: str,
    select: str,
    *,
    description: str,
    n_rows: int,
    like: str = NODES,
) -> None:
    """Create a view with the geometry of the layer `like` and register it as one of its own.

    The view must offer `OGC_FID` (unique, integer, stable) and `geom`. A column that is the
    layer's own `fid` lets GDAL use its spatial index for the view.
    """
    db.execute(f"CREATE VIEW {quoted(name)} AS {select}")
    db.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, min_x, min_y,"
        " max_x, max_y, srs_id) SELECT ?, 'features', ?, ?, min_x, min_y, max_x, max_y, srs_id "
        "FROM gpkg_contents WHERE table_name = ?",
        (name, name, description, like),
    )
    db.execute(
        "INSERT INTO gpkg_geometry_columns SELECT ?, 'geom', geometry_type_name, srs_id, z, m "
        "FROM gpkg_geometry_columns WHERE table_name = ?",
        (name, like),
    )
    # saves GDAL a count over the joined rows whenever the layer is opened
    db.execute("INSERT INTO gpkg_ogr_contents VALUES (?, ?)", (name, n_rows))


def add_style(
    db: sqlite3.Connection, layer: str, name: str, qml: str, *, default: bool, description: str = ""
) -> None:
    """Add a style that QGIS offers for a layer, or applies to it by itself."""
    db.execute(
        "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
        "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner) "
        "VALUES ('', '', ?, 'geom', ?, ?, '', ?, ?, '')",
        (layer, name, qml, int(default), description),
    )


def add_column_notes(db: sqlite3.Connection, table: str, titles: Mapping[str, str]) -> None:
    """Describe columns (name with unit); a title used twice in a table is left out."""
    unique = {title: column for column, title in reversed(list(titles.items()))}
    db.executemany(
        "INSERT INTO gpkg_data_columns (table_name, column_name, name, title) VALUES (?, ?, ?, ?)",
        [(table, column, title, title) for title, column in unique.items()],
    )


def add_document(db: sqlite3.Connection, document: Mapping[str, Any]) -> None:
    """Store our own document as metadata of the whole file."""
    _add_metadata(db, STANDARD_URI, "application/json", json.dumps(document), table=None)


def add_layer_metadata(db: sqlite3.Connection, table: str, xml: str) -> None:
    """Store QGIS metadata (title, abstract, attribution) of a layer."""
    _add_metadata(db, QGIS_URI, "text/xml", xml, table=table)


def read_document(db: sqlite3.Connection) -> str | None:
    """Return the text of our own document, None if the file has none."""
    try:
        row = db.execute(
            "SELECT metadata FROM gpkg_metadata WHERE md_standard_uri = ?", (STANDARD_URI,)
        ).fetchone()
    except sqlite3.OperationalError:  # no such table
        return None
    return None if row is None else str(row[0])


def strip_headers(blobs: Sequence[bytes | None]) -> list[bytes | None]:
    """Return plain WKB of GeoPackage geometries, None for missing ones."""
    return [
        None if blob is None else blob[8 + _ENVELOPE_BYTES[blob[3] >> 1 & 7] :] for blob in blobs
    ]


def multi_positions(shapes: npt.NDArray[np.object_]) -> list[int]:
    """Return which geometries are of several parts; GDAL makes all of a mixed column so."""
    return [int(i) for i in np.flatnonzero(shapely.get_type_id(shapes) >= _FIRST_MULTI)]


def read_shapes(blobs: Sequence[bytes | None], *, multi: Sequence[int]) -> npt.NDArray[np.object_]:
    """Return the geometries of GeoPackage blobs, of several parts only where they were."""
    shapes = np.asarray(shapely.from_wkb(strip_headers(blobs)), dtype=object)
    several = shapely.get_type_id(shapes) >= _FIRST_MULTI
    several[list(multi)] = False
    shapes[several] = shapely.get_geometry(shapes[several], 0)
    return shapes


def _add_metadata(
    db: sqlite3.Connection, uri: str, mime_type: str, text: str, *, table: str | None
) -> None:
    """Store a text and tie it to a table, or to the file."""
    cursor = db.execute(
        "INSERT INTO gpkg_metadata (md_standard_uri, mime_type, metadata) VALUES (?, ?, ?)",
        (uri, mime_type, text),
    )
    db.execute(
        "INSERT INTO gpkg_metadata_reference (reference_scope, table_name, md_file_id) "
        "VALUES (?, ?, ?)",
        ("geopackage" if table is None else "table", table, cursor.lastrowid),
    )
