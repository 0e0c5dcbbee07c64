"""The database schema of a dataset: made, upgraded and checked, one Postgres schema each."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import LiteralString

from psycopg import errors as pg
from psycopg import sql

from stgraph.errors import OutputError
from stgraph_connectors.postgis._scenario_layers import SCENARIO_TABLES, is_seen
from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    check_schema_name,
    describe_dsn,
    execute,
    qualified,
    run_transaction,
    spatial,
)
from stgraph_connectors.postgis.layer_styles import prepare_styles
from stgraph_connectors.postgis.roles import (
    acting_as_owner,
    ask_for,
    create_roles,
    grant_reading,
    grant_tables,
    hand_over,
    has_roles,
    layer_tables,
    owner_of,
    role_names,
    role_of,
)

logger = logging.getLogger(__name__)

_LOCK = 0x5466  # class of our advisory lock


@dataclass(frozen=True)
class SchemaState:
    """What `init_schema` and `upgrade_schema` found and did."""

    schema: str
    before: int  # version found; 0 if there was none
    after: int  # version now
    roles: tuple[str, ...] = ()  # group roles that exist for it


def init_schema(
    dsn: str,
    *,
    schema: str = "stgraph",
    roles: bool = False,
    patience: Patience | None = None,
) -> SchemaState:
    """Create the tables of a dataset, or bring existing ones up to date; safe to repeat.

    Parameters
    ----------
    dsn
        libpq connection string of a role that may create schemas.
    schema
        Name of the Postgres schema, one per dataset.
    roles
        Also create the group roles ``<schema>_owner``, ``<schema>_writer``, ``<schema>_reader``
        without login; grant them to your login roles. The reader sees the layers and nothing else.
    patience
        Timeouts and number of attempts. None means the defaults.

    Returns
    -------
    SchemaState
        Versions before and after, and the roles.

    Raises
    ------
    InputError
        The DSN or the schema's name cannot be used.
    OutputError
        The server cannot be reached, lacks PostGIS, or refuses; nothing was changed.
    """
    check_schema_name(schema)

    def work(connection: Connection) -> SchemaState:
        _lock(connection)
        before = schema_version(connection, schema)
        if roles:
            create_roles(connection, schema)
        if before == 0:
            _require_postgis(connection, dsn)
            _create_schema(connection, schema, with_roles=roles)
        if roles:
            hand_over(connection, schema)
        return _bring_up_to_date(connection, schema, before)

    return run_transaction(dsn, work, patience=patience)


def upgrade_schema(
    dsn: str, *, schema: str = "stgraph", patience: Patience | None = None
) -> SchemaState:
    """Bring the tables of a dataset up to this version of stgraph; safe to repeat.

    Raises
    ------
    OutputError
        There is no such schema, or it was made by a newer stgraph; nothing was changed.
    """
    check_schema_name(schema)

    def work(connection: Connection) -> SchemaState:
        _lock(connection)
        before = schema_version(connection, schema)
        if before == 0:
            raise OutputError(_missing(dsn, schema))
        return _bring_up_to_date(connection, schema, before)

    return run_transaction(dsn, work, patience=patience)


def check_schema(connection: Connection, schema: str, *, dsn: str) -> None:
    """Refuse to work with a schema that is missing, too old or too new.

    Raises
    ------
    OutputError
        Says which command to run.
    """
    check_schema_name(schema)
    found, known = schema_version(connection, schema), latest_version()
    where = f"{describe_dsn(dsn)}: schema {schema!r}"
    if found == 0:
        raise OutputError(_missing(dsn, schema))
    if found < known:
        raise OutputError(
            f"{where} has version {found} and this stgraph needs {known}; run: "
            f"stgraph db upgrade --schema {schema}"
        )
    if found > known:
        raise OutputError(
            f"{where} has version {found} and this stgraph knows {known}; upgrade stgraph-gis"
        )


def schema_version(connection: Connection, schema: str) -> int:
    """Return the version of a schema's tables, 0 where there are none of ours."""
    name = qualified(schema, "schema_version")
    row = connection.execute("SELECT to_regclass(%s)", (name.as_string(connection),)).fetchone()
    if row is None or row[0] is None:
        return 0
    query = sql.SQL("SELECT coalesce(max(version), 0) FROM {}").format(name)
    return int(connection.execute(query).fetchone()[0])  # type: ignore[index]


def latest_version() -> int:
    """Return the version that this stgraph works with."""
    return max(_migrations())


def _lock(connection: Connection) -> None:
    """Let one program at a time change schemas: grants on the same database do not go together."""
    connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_LOCK,))


def _bring_up_to_date(connection: Connection, schema: str, before: int) -> SchemaState:
    """Run what is missing of a schema that is there, and give everybody their rights again."""
    with acting_as_owner(connection, schema, "a new version of the tables"):
        after = _migrate(connection, schema, before)
    if not has_roles(connection, schema):
        return SchemaState(schema, before, after)
    with acting_as_owner(connection, schema):
        grant_tables(connection, schema)
    prepare_styles(connection, schema)
    layers = [name for name in layer_tables(connection, schema) if name not in SCENARIO_TABLES]
    runs = SCENARIO_TABLES if is_seen(connection, schema) else ()  # empty layers are nobody's
    grant_reading(connection, schema, ("forecast_value", *layers, *runs))
    return SchemaState(schema, before, after, tuple(role_names(schema).values()))


def _create_schema(connection: Connection, schema: str, *, with_roles: bool) -> None:
    """Create the schema and the table of its versions, owned by a group role where asked."""
    name = sql.Identifier(schema)
    there = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
    if there.fetchone() is not None:
        logger.warning(
            "schema %r was there before; its owner %r will own the tables",
            schema,
            role_names(schema)["owner"] if with_roles else owner_of(connection, schema)[0],
        )
    else:
        authorized = sql.SQL(" AUTHORIZATION {}").format(role_of(schema, "owner"))
        statement = sql.SQL("CREATE SCHEMA {}").format(name)
        statement += authorized if with_roles else sql.SQL("")
        user, database = connection.info.user, connection.info.dbname
        remedy = sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
            sql.Identifier(database), sql.Identifier(user)
        )
        ask_for(connection, statement, f"{user!r} may not create schemas in it", remedy)
    with acting_as_owner(connection, schema, "making the tables"):
        execute(
            connection,
            "CREATE TABLE {} (version integer PRIMARY KEY, applied_at timestamptz NOT NULL "
            "DEFAULT now(), library text NOT NULL)",
            qualified(schema, "schema_version"),
        )


def _migrate(connection: Connection, schema: str, before: int) -> int:
    """Run the migrations that are missing and return the version reached."""
    known = _migrations()
    if before > max(known):
        raise OutputError(
            f"schema {schema!r} has version {before} and this stgraph knows {max(known)}; "
            "upgrade stgraph-gis"
        )
    missing = sorted(number for number in known if number > before)
    names = {
        "schema": sql.Identifier(schema),
        "schema_text": sql.Literal(schema),
        "geometry": spatial(connection, "geometry"),
        "body": _quotation_mark(schema),
    }
    for number in missing:
        connection.execute(sql.SQL(known[number]).format(**names))  # our own files
        connection.execute(
            sql.SQL("INSERT INTO {} (version, library) VALUES (%s, %s)").format(
                qualified(schema, "schema_version")
            ),
            (number, version("stgraph-gis")),
        )
        logger.info("schema %s is now at version %d", schema, number)
    return max(known)


def _quotation_mark(schema: str) -> sql.SQL:
    """Return a $mark$ around the text of a function that the schema's name cannot end."""
    mark: LiteralString = "$body"
    while mark in schema:
        mark += "_"
    return sql.SQL(mark + "$")


@cache  # every publish asks for the newest number
def _migrations() -> dict[int, str]:
    """Return the SQL of every migration by its number."""
    folder = files("stgraph_connectors.postgis") / "migrations"
    return {
        int(match[1]): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})\.sql", entry.name))
    }


def _require_postgis(connection: Connection, dsn: str) -> None:
    """Create the PostGIS extension if we may, and say what to do if we may not."""
    row = connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'postgis'").fetchone()
    if row is not None:
        return
    offered = connection.execute(
        "SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'"
    ).fetchone()
    todo = "install it on the server (Debian: postgresql-<version>-postgis-3)"
    if offered is not None:
        try:
            with connection.transaction():
                connection.execute("CREATE EXTENSION postgis SCHEMA public")
        except pg.InsufficientPrivilege:
            todo = "as a superuser, run in this database: CREATE EXTENSION postgis"
        else:
            return
    raise OutputError(f"{describe_dsn(dsn)} has no PostGIS; {todo}")


def _missing(dsn: str, schema: str) -> str:
    """Return what to do when there is no schema."""
    return (
        f"{describe_dsn(dsn)} has no schema {schema!r} of ours; run: "
        f"stgraph db init --schema {schema}"
    )
