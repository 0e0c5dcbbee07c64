"""What all publishers share: taking turns, column names, rows on their way into a layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString

from psycopg import sql

from stgraph_connectors.postgis.connect import Connection, execute, qualified
from stgraph_connectors.postgis.copying import copy_records
from stgraph_connectors.sinks._tables import safe_names

LOCK = 0x5467  # class of our advisory locks; the second number is the schema


def take_turn(connection: Connection, schema: str) -> None:
    """Wait until no other publisher is at work in a schema, until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (LOCK, schema))


def short_names(names: Iterable[str], reserved: Iterable[str] = ()) -> tuple[str, ...]:
    """Return column names of at most 60 bytes, still told apart."""
    cut = [name.encode()[:56].decode(errors="ignore").strip() or "column" for name in names]
    return tuple(safe_names(cut, reserved=reserved))


def stage_rows(
    connection: Connection,
    name: LiteralString,
    columns: Mapping[str, LiteralString],
    rows: Iterable[Sequence[Any]],
) -> sql.Identifier:
    """Load rows into a temporary table that lives as long as the transaction, and return its name.

    Parameters
    ----------
    connection
        Inside a transaction.
    name
        Name of the table; an older one is replaced.
    columns
        Name to Postgres type.
    rows
        Tuples in the order of the columns; None is NULL.
    """
    table = sql.Identifier("pg_temp", name)
    listed = [sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(t)) for c, t in columns.items()]
    execute(connection, "DROP TABLE IF EXISTS {}", table)
    # ON COMMIT DROP: a pooled session keeps nothing of it
    create = "CREATE TEMP TABLE {} ({}) ON COMMIT DROP"
    execute(connection, create, sql.Identifier(name), sql.SQL(", ").join(listed))
    copy_records(connection, table, columns, rows)
    execute(connection, "ANALYZE {}", table)
    # layers are built in the owner's name
    execute(connection, "GRANT SELECT ON {} TO PUBLIC", table)
    return table


def dataset_geometry(connection: Connection, schema: str) -> tuple[int, LiteralString]:
    """Return the SRID and the type of geometry of all nodes of a schema."""
    query = "SELECT srid, geometry_type FROM {}"
    row = execute(connection, query, qualified(schema, "dataset")).fetchone()
    return int(row[0]), row[1]  # type: ignore[index]  # nodes were written before
