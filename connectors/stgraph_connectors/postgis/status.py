"""How a dataset is doing: its current issue, how much there is of what, what failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import pandas as pd

from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    describe_dsn,
    execute,
    qualified,
)
from stgraph_connectors.postgis.layers import layer_parts
from stgraph_connectors.postgis.roles import role_names
from stgraph_connectors.postgis.schema import schema_version
from stgraph_connectors.postgis.stored import open_reading


@dataclass(frozen=True)
class DatabaseStatus:
    """What there is in a schema; every field is ready for JSON, times are ISO 8601 in UTC."""

    schema: str
    database: str  # where it is, without secrets
    version: int  # of the tables
    current_issue: str | None
    age_minutes: float | None  # of the current issue
    n_nodes: int
    n_issues: int  # published forecasts
    first_issue: str | None
    last_issue: str | None
    n_instants: int  # with readings
    first_reading: str | None
    last_reading: str | None
    n_failed: int  # forecasts that did not come through
    last_failure: str | None  # when, and why
    layers: dict[str, int]  # estimated rows
    bytes: dict[str, int]  # on disk, with indexes
    removing: list[str]  # tables that pruning has yet to drop
    roles: dict[str, list[str]]  # group role to its members


def database_status(
    dsn: str,
    *,
    schema: str = "stgraph",
    now: pd.Timestamp | None = None,
    patience: Patience | None = None,
) -> DatabaseStatus:
    """Look at a dataset without changing anything.

    Parameters
    ----------
    dsn
        libpq connection string of a member of the schema's writer or owner role.
    schema
        The Postgres schema.
    now
        The instant to count the age from. None: the server's clock.
    patience
        Timeouts. None means the defaults.

    Returns
    -------
    DatabaseStatus
        All of one moment; counts of rows in layers are the server's estimates.

    Raises
    ------
    OutputError
        The server cannot be reached, the schema is missing, or we may not read it.
    """
    with open_reading(dsn, schema, "run", patience) as connection:
        n_issues, first, last, n_failed = _one(connection, _RUNS, schema, "run")
        n_instants, first_reading, last_reading = _one(
            connection, _READINGS, schema, "observation_time"
        )
        current = _one(connection, "SELECT max(issued_at), now() FROM {}", schema, "current_issue")
        failure = _one(connection, _FAILURE, schema, "run")
        layers = layer_parts(connection, schema)
        return DatabaseStatus(
            schema=schema,
            database=describe_dsn(dsn),
            version=schema_version(connection, schema),
            current_issue=_iso(current[0]),
            age_minutes=_age_minutes(current[0], now or current[1]),
            n_nodes=_one(connection, "SELECT count(*) FROM {}", schema, "node")[0],
            n_issues=n_issues,
            first_issue=_iso(first),
            last_issue=_iso(last),
            n_instants=n_instants,
            first_reading=_iso(first_reading),
            last_reading=_iso(last_reading),
            n_failed=n_failed,
            last_failure=None if failure[0] is None else f"{_iso(failure[0])}: {failure[1]}",
            layers=_rows(connection, schema, layers),
            bytes=_bytes(connection, schema, layers),
            removing=_removing(connection, schema),
            roles=_members(connection, schema),
        )


_RUNS: LiteralString = (
    "SELECT count(*) FILTER (WHERE status = 'published'), "
    "min(issued_at) FILTER (WHERE status = 'published'), "
    "max(issued_at) FILTER (WHERE status = 'published'), "
    "count(*) FILTER (WHERE status = 'failed') FROM {}"
)
_READINGS: LiteralString = "SELECT count(*), min(time), max(time) FROM {}"
_FAILURE: LiteralString = (
    "SELECT f.issued_at, f.message FROM (SELECT) AS one LEFT JOIN LATERAL (SELECT issued_at, "
    "message FROM {} WHERE status = 'failed' ORDER BY run_id DESC LIMIT 1) AS f ON true"
)


def _one(connection: Connection, query: LiteralString, schema: str, name: str) -> tuple[Any, ...]:
    """Return the one row of a query about a table."""
    row = execute(connection, query, qualified(schema, name)).fetchone()
    return row if row is not None else ()


def _iso(time: datetime | None) -> str | None:
    """Return an instant as text."""
    return None if time is None else time.isoformat()


def _age_minutes(issued_at: datetime | None, now: datetime) -> float | None:
    """Return how long ago a forecast was made."""
    if issued_at is None:
        return None
    return round((pd.Timestamp(now) - pd.Timestamp(issued_at)).total_seconds() / 60, 1)


def _rows(connection: Connection, schema: str, layers: dict[str, list[str]]) -> dict[str, int]:
    """Return about how many rows each layer has."""
    known: dict[str, float] = dict(
        connection.execute(
            "SELECT relname, greatest(reltuples, 0) FROM pg_class "
            "WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)",
            (schema,),
        ).fetchall()
    )
    return {
        name: round(sum(known.get(part, 0) for part in parts))
        for name, parts in sorted(layers.items())
    }


def _bytes(connection: Connection, schema: str, layers: dict[str, list[str]]) -> dict[str, int]:
    """Return how much disk the forecasts, the readings, the layers and all the rest take."""
    drawn = [part for parts in layers.values() for part in parts]
    rows = connection.execute(
        "SELECT CASE WHEN relname = ANY(%s) THEN 'layers' "
        "WHEN relname ~ '^forecast_[0-9]{8}$' THEN 'forecasts' "
        "WHEN relname ~ '^observation_[0-9]{8}$' THEN 'readings' ELSE 'other' END, "
        "sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s) GROUP BY 1",
        (drawn, schema),
    ).fetchall()
    sizes = dict.fromkeys(("forecasts", "readings", "layers", "other"), 0) | dict(rows)
    return {**sizes, "all": sum(sizes.values())}


def _removing(connection: Connection, schema: str) -> list[str]:
    """Return the tables of days that are on their way out."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid "
        "WHERE c.relkind = 'r' AND c.relname ~ '^(forecast|observation)_[0-9]{8}$' "
        "AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s) "
        "AND (i.inhrelid IS NULL OR i.inhdetachpending) ORDER BY 1",
        (schema,),
    ).fetchall()
    return [name for (name,) in rows]


def _members(connection: Connection, schema: str) -> dict[str, list[str]]:
    """Return the group roles that there are, each with its members."""
    rows = connection.execute(
        "SELECT r.rolname, array_remove(array_agg(m.rolname::text ORDER BY m.rolname), NULL) "
        "FROM pg_roles r LEFT JOIN pg_auth_members a ON a.roleid = r.oid "
        "LEFT JOIN pg_roles m ON m.oid = a.member WHERE r.rolname = ANY(%s) GROUP BY 1",
        (list(role_names(schema).values()),),
    ).fetchall()
    known: dict[str, list[str]] = dict(rows)
    return {name: known[name] for name in role_names(schema).values() if name in known}
