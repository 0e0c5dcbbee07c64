"""What all publishers share: taking turns, column names, rows on their way into a layer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
from psycopg import sql
from psycopg.types.json import Jsonb

from stgraph_connectors.postgis.connect import Connection, execute, qualified
from stgraph_connectors.qgis import BLOCKS, draw_blocks
from stgraph_connectors.sinks._tables import safe_names

# the dot of other layers has fewer bytes than a block
_SYMBOLS = [symbol.encode() for symbol in (*BLOCKS, "⋅")]

LOCK = 0x5467  # class of our advisory locks; the second number is the schema


def take_turn(connection: Connection, schema: str) -> None:
    """Wait until no other publisher is at work in a schema, until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (LOCK, schema))


def short_names(names: Iterable[str], reserved: Iterable[str] = ()) -> tuple[str, ...]:
    """Return column names of at most 60 bytes, still told apart."""
    cut = [name.encode()[:56].decode(errors="ignore").strip() or "column" for name in names]
    return tuple(safe_names(cut, reserved=reserved))


def draw_course(values: npt.NDArray[np.float32]) -> npt.NDArray[np.bytes_]:
    """Return each row of (N, T) as at most 12 blocks, UTF-8 of one length for all; ⋅ is a gap."""
    lines = draw_blocks(values.T, _SYMBOLS, width=12)
    return lines if values.shape[1] else np.full(len(values), _SYMBOLS[-1])


def create_stage(
    connection: Connection, name: LiteralString, columns: Mapping[str, LiteralString]
) -> sql.Identifier:
    """Create a temporary table for the rest of the transaction and return its quoted name.

    Parameters
    ----------
    connection
        Inside a transaction.
    name
        Name of the table; an older one is replaced.
    columns
        Name to Postgres type.
    """
    table = sql.Identifier("pg_temp", name)
    listed = [sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(t)) for c, t in columns.items()]
    execute(connection, "DROP TABLE IF EXISTS {}", table)
    create = "CREATE TEMP TABLE {} ({}) ON COMMIT DROP"
    execute(connection, create, sql.Identifier(name), sql.SQL(", ").join(listed))
    # layers are built in the owner's name
    execute(connection, "GRANT SELECT ON {} TO PUBLIC", table)
    return table


def dataset_geometry(connection: Connection, schema: str) -> tuple[int, LiteralString]:
    """Return the SRID and the type of geometry of all nodes of a schema."""
    query = "SELECT srid, geometry_type FROM {}"
    row = execute(connection, query, qualified(schema, "dataset")).fetchone()
    return int(row[0]), row[1]  # type: ignore[index]  # nodes were written before


def as_jsonb(value: Any) -> Jsonb | None:
    """Return a value as JSON that the server takes: what is no finite number there is null."""
    if value is None:
        return None
    return Jsonb(_clean(json.loads(json.dumps(value, default=str))))


def clean_text(text: str) -> str:
    """Return text that the server takes: no zero character and no half ones."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _clean(value: Any) -> Any:
    """Return a JSON value without what a database does not know."""
    if isinstance(value, dict):
        return {clean_text(name): _clean(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_clean(part) for part in value]
    if isinstance(value, str):
        return clean_text(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
