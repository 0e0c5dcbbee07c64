"""Stations in a table or query of a database, with PostGIS geometry, WKB or WKT."""

from __future__ import annotations

import re
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from sqlalchemy.engine import Connection

from stgraph.report import Report
from stgraph_connectors._ids import require_column
from stgraph_connectors._sql import find_source, stream_rows
from stgraph_connectors._tables import Table

_GEOMETRY_NAMES = ("geometry", "geom", "the_geom", "wkb_geometry", "shape", "location")
_WKT = re.compile(r"\s*(?:SRID|POINT|LINESTRING|POLYGON|MULTI|GEOMETRYCOLLECTION)", re.IGNORECASE)
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){5,}")


def read_sql_places(
    connection: Connection,
    text: str,
    geometry_column: str | None,
    crs: str | int | None,
    report: Report,
) -> pd.DataFrame | None:
    """Return the stations as a frame, with geometry where there is some."""
    source = find_source(connection, text, role="stations", report=report)
    if source is None:
        return None
    rows = [row for part in stream_rows(connection, source, source.columns, chunk_rows=50_000)
            for row in part]  # fmt: skip
    if not rows:
        report.error(source.name, "has no rows", "stations need one row each")
        return None
    frame = pd.DataFrame(rows, columns=list(source.columns), dtype=object)
    names = list(frame.columns)
    table = Table(frame, source.name)
    if geometry_column is not None:
        found = require_column(
            geometry_column, names, table=table, option="geometry_column", report=report
        )
    else:
        known = (name for name in names if name.lower() in _GEOMETRY_NAMES)
        found = next((name for name in known if not _is_prose(frame[name])), None)
    shapes = None if found is None else _shapes(frame[found], table, report)
    plain = pd.DataFrame({name: _plain(frame[name]) for name in names if name != found})
    if found is None or shapes is None:
        return plain
    return _with_geometry(plain, shapes, crs, table.column(found), report)


def _is_prose(column: pd.Series) -> bool:
    """Tell whether no cell begins like a geometry; `location` may well be an address."""
    known = column.dropna()
    is_text = bool(len(known)) and all(isinstance(cell, str) for cell in known)
    return is_text and not any(_WKT.match(cell) or _HEX.fullmatch(cell) for cell in known)


def _shapes(column: pd.Series, table: Table, report: Report) -> Any:
    """Return shapes of WKB as bytes or hexadecimal text, or of WKT; None where it is neither."""
    cells: list[Any] = [bytes(c) if isinstance(c, memoryview | bytearray) else c for c in column]
    known = [cell for cell in cells if cell is not None]
    is_text = all(isinstance(cell, str) for cell in known)
    is_wkb = all(isinstance(cell, bytes) for cell in known) or (
        is_text and all(_HEX.fullmatch(cell) for cell in known)
    )
    read = shapely.from_wkb if is_wkb else shapely.from_wkt
    shapes = read(np.array(cells, dtype=object), on_invalid="ignore") if is_wkb or is_text else None
    missing = np.array([cell is None for cell in cells])
    bad = ~missing if shapes is None else np.asarray(shapely.is_missing(shapes)) & ~missing
    if bad.any():
        first = int(np.argmax(bad))
        what = f"{str(cells[first])[:40]!r} is no geometry ({int(bad.sum())} such cell(s))"
        todo = "select WKB or WKT, as ST_AsBinary gives it, or name another geometry_column="
        report.error(table.at(first, column.name), what, todo)
        return None
    return shapes


def _with_geometry(
    plain: pd.DataFrame, shapes: Any, crs: str | int | None, where: str, report: Report
) -> pd.DataFrame | None:
    """Return a layer in the CRS that the shapes name, or the one of the option."""
    numbers = sorted({int(n) for n in shapely.get_srid(shapes[~shapely.is_missing(shapes)])} - {0})
    if len(numbers) > 1:
        report.error(where, f"mixes the SRIDs {numbers}", "select one, as with ST_Transform")
        return None
    if not numbers and crs is None:
        report.error(where, "names no CRS", "say which with crs=, such as crs=4326")
        return None
    try:
        return gpd.GeoDataFrame(plain, geometry=shapes, crs=numbers[0] if numbers else crs)
    except (ValueError, RuntimeError) as error:  # pyproj says that it is no CRS
        what = f"{numbers[0] if numbers else crs!r} is no CRS"
        report.error(where, f"{what} ({str(error)[:80]})", "use an EPSG code such as 4326")
        return None


def _plain(column: pd.Series) -> pd.Series:
    """Return a column with the type that its cells have, text for what no file could keep."""
    cells = column.infer_objects()
    if cells.dtype != object:
        return cells
    kind = pd.api.types.infer_dtype(cells, skipna=True)
    if kind == "decimal":
        return cells.astype(float)
    known = ("string", "integer", "floating", "boolean", "mixed-integer-float", "empty")
    if kind in known:
        return cells.convert_dtypes(convert_string=False) if kind != "string" else cells
    return cells.map(lambda cell: None if cell is None else str(cell))
