"""Find out before hours of training whether a database would take a forecast."""

from __future__ import annotations

from psycopg import sql

from stgraph.errors import OutputError
from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    check_schema_name,
    connect,
    describe_dsn,
    execute,
    explained,
    qualified,
)
from stgraph_connectors.postgis.layers import FORECAST, layer_parts
from stgraph_connectors.postgis.roles import owner_of
from stgraph_connectors.postgis.schema import check_schema


def check_database(dsn: str, *, schema: str = "stgraph", patience: Patience | None = None) -> None:
    """Check that a forecast could be published; nothing is written.

    Parameters
    ----------
    dsn
        libpq connection string of who will publish.
    schema
        Name of the Postgres schema.
    patience
        Timeouts. None means the defaults.

    Raises
    ------
    InputError
        The DSN or the schema's name cannot be used.
    OutputError
        The server cannot be reached, the schema is missing or of another version, or the role may
        not write to it; says what to do.
    """
    check_schema_name(schema)
    with connect(dsn, patience=patience) as connection, explained(dsn, "look at the schema"):
        check_schema(connection, schema, dsn=dsn)
        where = f"{describe_dsn(dsn)}: schema {schema!r}: {connection.info.user!r}"
        if not _may_write(connection, schema):
            raise OutputError(f"{where} may not write to it; {_grant(schema, 'writer')}")
        # the layers are built by the first issue, in the owner's name
        _, is_us, is_member = owner_of(connection, schema)
        if FORECAST not in layer_parts(connection, schema) and not (is_us or is_member):
            raise OutputError(
                f"{where} may not create the layers, which are not there yet; for the first issue, "
                f"{_grant(schema, 'owner')}"
            )


def _grant(schema: str, kind: str) -> str:
    """Return what to do to get a role of a schema."""
    return f"run as an administrator: GRANT {_quoted(f'{schema}_{kind}')} TO <that login>"


def _quoted(name: str) -> str:
    """Return a quoted name."""
    return '"' + name.replace('"', '""') + '"'


def _may_write(connection: Connection, schema: str) -> bool:
    """Tell whether we may add forecasts."""
    table = sql.Literal(qualified(schema, "forecast").as_string(connection))
    row = execute(connection, "SELECT has_table_privilege({}, 'INSERT')", table).fetchone()
    return row is not None and bool(row[0])
