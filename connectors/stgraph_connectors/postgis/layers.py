"""Layers for people: tables that QGIS opens as they are, updated in place by every issue.

QGIS takes a view only with a key hint, so the layers are tables. A published issue updates their
rows where they stand: the columns that change are in no index and half of every page is free, so
no index grows, nothing needs cleaning up, and readers neither wait nor see half of an update.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
from psycopg import errors as pg
from psycopg import sql

from stgraph.errors import OutputError
from stgraph_connectors.postgis.connect import Connection, Patience, execute, qualified, spatial
from stgraph_connectors.postgis.roles import acting_as_owner, grant_reading, grant_writing

logger = logging.getLogger(__name__)

FORECAST = "forecast_latest"
OBSERVATION = "observation_latest"
ERRORS = "error_by_node"
SUPPORT = "support"

_FILL = 45  # per cent of a page that a new table uses; an update needs room for a second version
_NEXT = "_next"  # suffix of tables that are being built
_SMALLEST_STRIDE = 1_000_000
_SWAP_S = 0.5  # longest wait for readers of a table that is replaced


@dataclass(frozen=True)
class Column:
    """A column of a layer: its type in SQL, and what a person should know about it."""

    name: str
    type: LiteralString  # real, integer, smallint, text, timestamptz
    comment: str
    fixed: bool = False  # the same in every issue


@dataclass(frozen=True)
class Layer:
    """A table with a geometry per row, and a partition per horizon where it has horizons.

    Its first columns are `fid` and `node_id`, its last is `geom`.
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    srid: int
    geometry_type: LiteralString  # one of six
    n_horizons: int = 0  # 0: one row per node
    stride: int = 0  # fid = horizon * stride + number of the node

    @property
    def parts(self) -> list[str]:
        """Names of the tables that hold the rows, by horizon."""
        if not self.n_horizons:
            return [self.name]
        return [f"{self.name}_h{k}" for k in range(1, self.n_horizons + 1)]

    @property
    def digest(self) -> str:
        """Fingerprint of everything that only a new table can change."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def layer_stride(largest_number: int) -> int:
    """Return the distance of the fids of two horizons, a power of ten that is easy to read."""
    stride = _SMALLEST_STRIDE
    while stride <= largest_number:
        stride *= 10
    return stride


def update_layer(
    connection: Connection,
    schema: str,
    layer: Layer,
    values: Mapping[str, sql.Composable],
    source: sql.Composable,
    numbers: npt.NDArray[np.int64],
    *,
    patience: Patience,
) -> bool:
    """Bring the rows of a layer up to date, and build the layer if it is missing or other.

    Parameters
    ----------
    connection
        Inside a transaction.
    schema
        Name of the Postgres schema.
    layer
        What the table must look like.
    values
        SQL expression per column; ``t.horizon`` in it is the horizon, from 1.
    source
        SQL of the FROM clause with one row per node; `s.node_id` is the number of the node.
    numbers
        (N,) numbers of the nodes that `source` has, in its order.
    patience
        How long to wait for readers when the table itself must change.

    Returns
    -------
    bool
        True if the layer was built anew.
    """
    state = _state(connection, schema).get(layer.name, {})
    nodes = hashlib.blake2b(np.sort(numbers).tobytes(), digest_size=16).hexdigest()
    built = state.get("digest") != layer.digest
    if built:
        doing = f"building the layer {layer.name!r}, which is missing or has other columns now,"
        with acting_as_owner(connection, schema, doing):
            _build(connection, schema, layer, values, source)
            _swap(connection, schema, layer, patience)
        grant_reading(connection, schema, (layer.name, *layer.parts))
        grant_writing(connection, schema, (layer.name, *layer.parts))
    elif state.get("nodes") != nodes:
        for horizon, part in enumerate(layer.parts, start=1):
            _delete(connection, schema, part)
            _insert(connection, schema, layer, part, horizon, values, source)
    else:
        _update(connection, schema, layer, values, source)
    if built or state.get("nodes") != nodes:
        _remember(connection, schema, layer, nodes)
    return built


def forget_places(connection: Connection, schema: str) -> None:
    """Let the next update of every layer write all of its rows anew, as nodes have moved."""
    execute(
        connection,
        "UPDATE {} SET layers = (SELECT coalesce(jsonb_object_agg(key, value - 'nodes'), '{{}}') "
        "FROM jsonb_each(layers))",
        _dataset(schema),
    )


def layer_parts(connection: Connection, schema: str) -> dict[str, list[str]]:
    """Return the layers that exist, each with the tables that hold its rows."""
    return {name: state["parts"] for name, state in _state(connection, schema).items()}


# ----------------------------------------------------------------------------------- building


def _build(
    connection: Connection,
    schema: str,
    layer: Layer,
    values: Mapping[str, sql.Composable],
    source: sql.Composable,
) -> None:
    """Create the layer under another name, filled; nobody waits for that."""
    name = layer.name + _NEXT
    execute(connection, "DROP TABLE IF EXISTS {}", qualified(schema, name))
    largest = (layer.n_horizons + 1) * layer.stride
    fid = sql.SQL("bigint" if largest > np.iinfo(np.int32).max else "integer")
    geometry = sql.SQL("{}({}, {})").format(
        spatial(connection, "geometry"),
        sql.SQL(layer.geometry_type),
        sql.Literal(layer.srid),
    )
    columns = [sql.SQL("fid {} PRIMARY KEY").format(fid), sql.SQL("node_id text NOT NULL")]
    columns += [
        sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.type)) for c in layer.columns
    ]
    columns.append(sql.SQL("geom {}").format(geometry))
    listed = sql.SQL(", ").join(columns)
    if layer.n_horizons:
        create = "CREATE TABLE {} ({}) PARTITION BY RANGE (fid)"
        execute(connection, create, qualified(schema, name), listed)
        for horizon, part in enumerate(layer.parts, start=1):
            execute(
                connection,
                "CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({}) "
                "WITH (fillfactor = {})",
                qualified(schema, part + _NEXT),
                qualified(schema, name),
                sql.Literal(horizon * layer.stride),
                sql.Literal((horizon + 1) * layer.stride),
                sql.Literal(_FILL),
            )
    else:
        create = "CREATE TABLE {} ({}) WITH (fillfactor = {})"
        execute(connection, create, qualified(schema, name), listed, sql.Literal(_FILL))
    for horizon, part in enumerate(layer.parts, start=1):
        _insert(connection, schema, layer, part + _NEXT, horizon, values, source)
    _index(connection, schema, name)
    for table in dict.fromkeys([name, *(part + _NEXT for part in layer.parts)]):
        _comment(connection, schema, layer, table)
    execute(connection, "ANALYZE {}", qualified(schema, name))


def _index(connection: Connection, schema: str, name: str) -> None:
    """Index the rows of a layer by what no issue changes, so that updates leave indexes alone."""
    table = qualified(schema, name)
    # rows stand in the order of a space-filling curve: a range of pages is a small area; of pages
    # that are filled later it knows nothing, and passes them all, until they are summarised
    execute(
        connection,
        "CREATE INDEX ON {} USING brin (geom) WITH (pages_per_range = 8, autosummarize = on)",
        table,
    )
    execute(connection, "CREATE INDEX ON {} (node_id)", table)


def _swap(connection: Connection, schema: str, layer: Layer, patience: Patience) -> None:
    """Put the new table in the place of the old one: the one moment when readers must let go."""
    pause = patience.pause_s
    for attempt in range(1, patience.attempts + 1):
        try:
            with connection.transaction():
                before = execute(connection, "SHOW lock_timeout").fetchone()
                # whoever comes meanwhile waits behind us
                wait = sql.Literal(f"{math.ceil(1000 * min(patience.lock_timeout_s, _SWAP_S))}ms")
                execute(connection, "SET LOCAL lock_timeout = {}", wait)
                execute(connection, "DROP TABLE IF EXISTS {}", qualified(schema, layer.name))
                for name in dict.fromkeys([layer.name, *layer.parts]):
                    execute(
                        connection,
                        "ALTER TABLE {} RENAME TO {}",
                        qualified(schema, name + _NEXT),
                        sql.Identifier(name),
                    )
                if before is not None:
                    execute(connection, "SET LOCAL lock_timeout = {}", sql.Literal(before[0]))
        except pg.LockNotAvailable as error:
            holders = _who_reads(connection, schema, layer.name)
            if attempt == patience.attempts:
                raise OutputError(
                    f"layer {schema}.{layer.name} must be rebuilt, as its columns changed, but "
                    f"{holders} reads it; close it there and publish again"
                ) from error
            logger.warning(
                "layer %s.%s must be rebuilt and is read by %s; trying again in %.1f s (%d of %d)",
                schema,
                layer.name,
                holders,
                pause,
                attempt + 1,
                patience.attempts,
            )
        else:
            return
        time.sleep(pause)
        pause *= 2


def _who_reads(connection: Connection, schema: str, name: str) -> str:
    """Return the programs that hold a lock on a table or a part of it."""
    rows = connection.execute(
        "SELECT DISTINCT coalesce(nullif(a.application_name, ''), 'a program'), a.pid "
        "FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND (c.relname = %s OR c.relname LIKE %s) "
        "AND l.granted AND a.pid <> pg_backend_pid()",
        (schema, name, f"{name}\\_h%"),
    ).fetchall()
    return ", ".join(f"{program} (process {pid})" for program, pid in rows) or "another program"


def _comment(connection: Connection, schema: str, layer: Layer, table: str) -> None:
    """Say what the table and each of its columns hold."""
    execute(
        connection,
        "COMMENT ON TABLE {} IS {}",
        qualified(schema, table),
        sql.Literal(layer.comment),
    )
    key = "Number of the row"
    if layer.n_horizons:
        key += f": horizon × {layer.stride} + number of the node"
    own = [
        Column("fid", "integer", key),
        Column("node_id", "text", "Id of the node, as the user gave it"),
        Column("geom", "text", f"{layer.geometry_type} in EPSG:{layer.srid}"),
    ]
    for column in (*own, *layer.columns):
        execute(
            connection,
            "COMMENT ON COLUMN {} IS {}",
            sql.Identifier(schema, table, column.name),
            sql.Literal(column.comment),
        )


# --------------------------------------------------------------------------------------- rows


def _insert(
    connection: Connection,
    schema: str,
    layer: Layer,
    part: str,
    horizon: int,
    values: Mapping[str, sql.Composable],
    source: sql.Composable,
) -> None:
    """Add the rows of one horizon, neighbours in space side by side."""
    names = [column.name for column in layer.columns]
    execute(
        connection,
        "INSERT INTO {} (fid, node_id, {}, geom) SELECT {} + s.node_id, n.id, {}, n.geom "
        "FROM {} CROSS JOIN (SELECT {}::smallint AS horizon) AS t "
        "JOIN {} n ON n.node_id = s.node_id "
        "ORDER BY n.geom",
        qualified(schema, part),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.Literal(horizon * layer.stride),
        sql.SQL(", ").join(values[name] for name in names),
        source,
        sql.Literal(horizon),
        qualified(schema, "node"),
    )


def _update(
    connection: Connection,
    schema: str,
    layer: Layer,
    values: Mapping[str, sql.Composable],
    source: sql.Composable,
) -> None:
    """Change all rows where they stand, in their physical order."""
    changes = [
        sql.SQL("{} = {}").format(sql.Identifier(column.name), values[column.name])
        for column in layer.columns
        if not column.fixed
    ]
    number: sql.Composable = sql.SQL("t.fid")
    if layer.n_horizons:
        number = sql.SQL("(t.fid % {})").format(sql.Literal(layer.stride))
    # the source fits in memory: the rows are passed once, and compiling would take longer
    connection.execute("SET LOCAL work_mem = '64MB'; SET LOCAL jit = off")
    execute(
        connection,
        "UPDATE {} AS t SET {} FROM {} WHERE s.node_id = {}",
        qualified(schema, layer.name),
        sql.SQL(", ").join(changes),
        source,
        number,
    )


def _delete(connection: Connection, schema: str, part: str) -> None:
    """Remove all rows of a part."""
    execute(connection, "DELETE FROM {}", qualified(schema, part))


# -------------------------------------------------------------------------------------- state


def _state(connection: Connection, schema: str) -> dict[str, dict[str, Any]]:
    """Return what the layers were built for."""
    row = connection.execute(sql.SQL("SELECT layers FROM {}").format(_dataset(schema))).fetchone()
    return dict(row[0]) if row is not None else {}


def _remember(connection: Connection, schema: str, layer: Layer, nodes: str) -> None:
    """Note what a layer was built for."""
    state = {
        layer.name: {
            "digest": layer.digest,
            "nodes": nodes,
            "parts": layer.parts,
            "stride": layer.stride,
            "columns": [asdict(column) for column in layer.columns],
        }
    }
    connection.execute(
        sql.SQL("UPDATE {} SET layers = layers || %s::jsonb").format(_dataset(schema)),
        (json.dumps(state),),
    )


def _dataset(schema: str) -> sql.Identifier:
    """Return the name of the table with one row about everything."""
    return qualified(schema, "dataset")
