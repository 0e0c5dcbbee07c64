"""A layer of lines from a table in PostGIS."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from psycopg import sql

from stgraph.errors import DataError, nearest_name, shown
from stgraph_connectors.postgis.connect import (
    Connection,
    connect,
    describe_dsn,
    execute,
    explained,
    qualified,
    spatial,
)

_COLUMNS = """
    SELECT a.attname, t.typname FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
"""


def fetch_lines(dsn: str, schema: str, table: str) -> gpd.GeoDataFrame:
    """Return a table or view of PostGIS with its first geometry column.

    Raises
    ------
    DataError
        There is no such table, it has no geometry, or one in several CRS.
    OutputError
        The server cannot be reached, or we may not read the table.
    """
    where = f"{describe_dsn(dsn)}, table {schema}.{table}"
    doing = f"cannot read table {schema}.{table}"
    with connect(dsn, read_only=True) as connection, explained(dsn, doing):
        types = execute(connection, _COLUMNS, parameters=(schema, table)).fetchall()
        if not types:
            raise DataError(f"{where}: {_no_table(connection, schema, table)}")
        shapes = [name for name, kind in types if kind in ("geometry", "geography")]
        if not shapes:
            names = [name for name, _ in types]
            raise DataError(f"{where}: no column is a geometry; there are {names}")
        others = [name for name, kind in types if kind not in ("geometry", "geography")]
        query = sql.SQL("SELECT {}, {}({}::{}) FROM {}").format(
            sql.SQL(", ").join(map(sql.Identifier, others)) if others else sql.SQL("1"),
            spatial(connection, "st_asewkb"),
            sql.Identifier(shapes[0]),
            spatial(connection, "geometry"),
            qualified(schema, table),
        )
        with connection.cursor() as cursor:
            rows = cursor.execute(query).fetchall()
        lines = np.array([_shape(row[-1]) for row in rows], dtype=object)
        srids = sorted({int(n) for n in shapely.get_srid(lines[~shapely.is_missing(lines)])})
        if len(srids) > 1:
            raise DataError(f"{where}: mixes the SRIDs {srids}; make a view with ST_Transform")
        reference = _reference(connection, srids[0] if srids else 0)
    frame = pd.DataFrame([row[:-1] for row in rows], columns=others or ["row"])
    return gpd.GeoDataFrame(frame, geometry=lines, crs=reference)


def _shape(raw: bytes | None) -> shapely.Geometry | None:
    """Return a geometry from what the database sends."""
    return None if raw is None else shapely.from_wkb(bytes(raw))


def _reference(connection: Connection, srid: int) -> str | None:
    """Return the CRS of a number of PostGIS, or None if it names none."""
    if srid <= 0:
        return None
    row = execute(
        connection,
        "SELECT auth_name, auth_srid, srtext FROM {} WHERE srid = %s",
        spatial(connection, "spatial_ref_sys"),
        parameters=(srid,),
    ).fetchone()
    if row is None:
        return None
    return f"{row[0]}:{row[1]}" if row[0] in ("EPSG", "ESRI") else str(row[2])


def _no_table(connection: Connection, schema: str, table: str) -> str:
    """Return that there is no such table, and which there are."""
    rows = execute(
        connection,
        "SELECT n.nspname || '.' || c.relname FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') "
        "AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
    ).fetchall()
    known = [str(row[0]) for row in rows]
    return f"no such table{nearest_name(f'{schema}.{table}', known)}; `table` is {shown(table)}"
