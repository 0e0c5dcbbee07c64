"""What a schema stores about a dataset: its nodes and edges as they were when published."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from psycopg import ServerCursor, sql
from psycopg import errors as pg

from stgraph.errors import OutputError
from stgraph.graph import STGraph
from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    check_schema_name,
    connect,
    execute,
    explained,
    qualified,
    spatial,
)
from stgraph_connectors.postgis.fetching import fetch_packed
from stgraph_connectors.postgis.places import told_by_kind
from stgraph_connectors.postgis.schema import check_schema
from stgraph_connectors.sinks._document import decode_nodes, restore_graph
from stgraph_connectors.sinks._edges import decode_edges

Edges = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], pd.DataFrame | None]

_FIRST_MULTI = 4  # type number of MultiPoint, the first with parts


@dataclass(frozen=True)
class Dataset:
    """What a schema says about all its tables."""

    schema: str
    zone: str
    weight_unit: str
    nodes: Mapping[str, Any]
    listed: npt.NDArray[np.int64]  # numbers of the nodes of the last graph, in its order
    edges: Mapping[str, Any] | None
    chunk_rows: int  # how many rows are fetched at once


@contextmanager
def open_reading(
    dsn: str, schema: str, table: str, patience: Patience | None
) -> Iterator[Connection]:
    """Open a transaction that sees one moment of a schema."""
    check_schema_name(schema)
    try:
        with (
            explained(dsn, f"read the schema {schema!r}"),
            connect(dsn, patience=patience, read_only=True) as connection,
        ):
            check_schema(connection, schema, dsn=dsn)
            # pruning waits for us
            lock = "LOCK TABLE ONLY {} IN ACCESS SHARE MODE"
            execute(connection, lock, qualified(schema, table))
            connection.execute("SET LOCAL jit = off")
            yield connection
    except OutputError as error:
        if isinstance(error.__cause__, pg.InsufficientPrivilege):
            raise OutputError(
                f"{error}; connect as a member of the schema's writer or owner role (the reader "
                "role has the layers, `forecast_value` and `node_series`)"
            ) from error.__cause__
        raise


def read_dataset(connection: Connection, schema: str, chunk_rows: int) -> Dataset:
    """Return what all tables of a schema share."""
    row = execute(
        connection,
        "SELECT zone, weight_unit, nodes, node_numbers, edges FROM {}",
        qualified(schema, "dataset"),
    ).fetchone()
    zone, weight_unit, nodes, listed, edges = row  # type: ignore[misc]  # the row is always there
    listed = np.array(listed or [], dtype=np.int64)
    return Dataset(schema, zone, weight_unit, nodes or {}, listed, edges, chunk_rows)


def restore(
    connection: Connection,
    dataset: Dataset,
    document: Mapping[str, Any],
    numbers: npt.NDArray[np.int64],
    values: npt.NDArray[np.float32],
) -> STGraph:
    """Return a graph of some nodes and the edges between them."""
    schema, chunk_rows = dataset.schema, dataset.chunk_rows
    nodes = read_nodes(
        connection, schema, numbers, dataset.nodes, listed=dataset.listed, chunk_rows=chunk_rows
    )
    edges = read_edges(connection, schema, numbers, dataset.edges, chunk_rows=chunk_rows)
    edge_index, edge_weight, table = edges if edges is not None else (None, None, None)
    return restore_graph(
        document,
        nodes=nodes,
        values=values,
        mask=np.isfinite(values),
        edge_index=edge_index,
        edge_weight=edge_weight,
        edges=table,
    )


def read_nodes(
    connection: Connection,
    schema: str,
    numbers: npt.NDArray[np.int64],
    notes: Mapping[str, Any],
    *,
    listed: npt.NDArray[np.int64],
    chunk_rows: int,
) -> gpd.GeoDataFrame:
    """Return the nodes with some numbers, in that order, with the columns that they came with.

    Parameters
    ----------
    connection, schema
        Where to read, inside a transaction.
    numbers
        (N,) numbers of the nodes.
    notes
        ``dataset.nodes``: how columns and ids were kept.
    listed
        ``dataset.node_numbers``: the nodes that the positions in `notes` are about.
    chunk_rows
        Rows fetched at once.
    """
    query = sql.SQL(
        "SELECT node_id, id, kind, {}(geom), heights, attributes::text FROM {} "
        "WHERE node_id = ANY({})"
    ).format(
        spatial(connection, "st_asbinary"),
        qualified(schema, "node"),
        sql.Literal(numbers.tolist()),
    )
    rows = _fetch(connection, query, chunk_rows)
    by_number = {row[0]: row for row in rows}
    rows = [by_number[number] for number in numbers.tolist()]
    _, ids, kinds, shapes, heights, attributes = _columns(rows, 6)
    several = listed[notes["multi"]]
    geometry = _shapes(shapes, heights, single=~np.isin(numbers, several))
    arrays = _attributes(attributes, notes["columns"])
    arrays["node_id"] = _as_kept(ids, notes["id"])
    for name in told_by_kind(notes):
        arrays[name] = _objects([kind or None for kind in kinds])
    return decode_nodes(arrays, geometry, {"nodes": notes, "crs": notes["crs"]})


def read_edges(
    connection: Connection,
    schema: str,
    numbers: npt.NDArray[np.int64],
    notes: Mapping[str, Any] | None,
    *,
    chunk_rows: int,
) -> Edges | None:
    """Return edge index, weights and table of the edges between some nodes; None without any."""
    if notes is None:
        return None
    edge, positions = qualified(schema, "edge"), positions_of(numbers)
    packed = fetch_packed(
        connection,
        sql.SQL(
            "SELECT string_agg(int4send(source) || int4send(target) || float4send(weight), '' "
            "ORDER BY edge_id) FROM {}"
        ).format(edge),
        _EDGE,
    )
    ends = [
        positions[np.where(packed[end] < len(positions), packed[end], 0)]
        for end in ("source", "target")
    ]
    kept = (ends[0] >= 0) & (ends[1] >= 0)
    columns: dict[str, Any] = {
        "source_fid": ends[0][kept] + 1,
        "target_fid": ends[1][kept] + 1,
        "weight": packed["weight"][kept],
    }
    if notes["table"] is None:
        return decode_edges(columns, None, notes)
    query = sql.SQL("SELECT {}(geom), heights, attributes::text FROM {} ORDER BY edge_id").format(
        spatial(connection, "st_asbinary"), edge
    )
    rows = _fetch(connection, query, chunk_rows)
    shapes, heights, attributes = _columns([rows[i] for i in np.flatnonzero(kept)], 3)
    columns |= _attributes(attributes, [*notes["table"], *notes["index"]])
    return decode_edges(columns, _shapes(shapes, heights, single=None), notes)


_EDGE = np.dtype([("source", ">i4"), ("target", ">i4"), ("weight", ">f4")])


def positions_of(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a table from the number of a node, from 0 on, to its position, -1 for others."""
    positions = np.full(int(numbers.max(initial=0)) + 1, -1, dtype=np.int64)
    positions[numbers] = np.arange(len(numbers))
    return positions


def _fetch(connection: Connection, query: sql.Composed, chunk_rows: int) -> list[tuple[Any, ...]]:
    """Return all rows, which the server sends in chunks."""
    rows: list[tuple[Any, ...]] = []
    with ServerCursor(connection, "stgraph_places") as cursor:
        cursor.itersize = chunk_rows
        cursor.execute(query, binary=True)
        rows.extend(cursor)
    return rows


def _columns(rows: Sequence[tuple[Any, ...]], n_columns: int) -> list[Sequence[Any]]:
    """Return rows as columns."""
    return list(zip(*rows, strict=True)) if rows else [()] * n_columns


def _shapes(
    texts: Sequence[bytes | None],
    heights: Sequence[list[float] | None],
    *,
    single: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.object_]:
    """Return geometries with the heights and the number of parts that they came with."""
    shapes = np.asarray(shapely.from_wkb(_objects(texts)), dtype=object).reshape(len(texts))
    if single is not None:
        several = shapely.get_type_id(shapes) >= _FIRST_MULTI
        changed = single & several & (shapely.get_num_geometries(shapes) == 1)
        shapes[changed] = shapely.get_geometry(shapes[changed], 0)
    for i, column in enumerate(heights):
        if column is not None:
            xyz = np.column_stack([shapely.get_coordinates(shapes[i]), column])
            shapes[i] = shapely.set_coordinates(shapely.force_3d(shapes[i]), xyz)
    return shapes


def _attributes(texts: Sequence[str], columns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return texts of JSON objects as the columns that the notes tell of."""
    rows = json.loads(f"[{','.join(texts)}]") if columns else []  # at once, ten times as quick
    return {c["name"]: _as_kept([row.get(c["name"]) for row in rows], c) for c in columns}


def _as_kept(values: Sequence[Any], column: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Return values of JSON in the form that `decode_table` takes for a column."""
    if column["codec"] != "plain":
        return _objects(values)
    if column["dtype"] == "bool" and None not in values:
        return np.array(values, dtype=bool)
    if "int" in column["dtype"].lower() and None not in values:
        return np.array(values, dtype=np.int64)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _objects(values: Sequence[Any]) -> npt.NDArray[np.object_]:
    """Return values as an array of objects, whatever they are."""
    array: npt.NDArray[np.object_] = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array
