"""The database schema of a dataset: made, upgraded and checked, one Postgres schema each."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files

from psycopg import sql

from stgraph.errors import OutputError
from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    check_schema_name,
    describe_dsn,
    execute,
    qualified,
    run_transaction,
)

logger = logging.getLogger(__name__)

_LAYERS_FOR_READERS = ("forecast_value",)


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
        _lock(connection, schema)
        before = schema_version(connection, schema)
        if before == 0:
            _require_postgis(connection, dsn)
            owner = f"{schema}_owner" if roles else None
            _create_schema(connection, schema, owner)
        with acting_as_owner(connection, schema):
            after = _migrate(connection, schema, before)
        if roles:
            _create_roles(connection, schema)
        grant_reading(connection, schema)
        return SchemaState(schema, before, after, tuple(_roles(connection, schema).values()))

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
        _lock(connection, schema)
        before = schema_version(connection, schema)
        if before == 0:
            raise OutputError(_missing(dsn, schema))
        with acting_as_owner(connection, schema):
            after = _migrate(connection, schema, before)
        grant_reading(connection, schema)
        return SchemaState(schema, before, after, tuple(_roles(connection, schema).values()))

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


class acting_as_owner:  # noqa: N801  # used like a function
    """Make what is created belong to the schema's owner, if we are a member of it.

    Without that membership nothing changes: the server then refuses what only owners may do.
    """

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._changed = False

    def __enter__(self) -> None:
        row = self._connection.execute(
            "SELECT o.rolname, o.rolname <> current_user AND pg_has_role(o.oid, 'MEMBER') "
            "FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner WHERE n.nspname = %s",
            (self._schema,),
        ).fetchone()
        if row is not None and row[1]:
            role = sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(row[0]))
            self._connection.execute(role)
            self._changed = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # after an error the transaction is over, and the role with it
        if self._changed and kind is None:
            self._connection.execute("RESET ROLE")


def grant_reading(
    connection: Connection, schema: str, names: tuple[str, ...] = _LAYERS_FOR_READERS
) -> None:
    """Let the reader role read some tables or views of the schema, where there is such a role."""
    roles = _roles(connection, schema)
    if not roles:
        return
    with acting_as_owner(connection, schema):
        for name in names:
            relation = qualified(schema, name)
            reader, writer = sql.Identifier(roles["reader"]), sql.Identifier(roles["writer"])
            execute(connection, "GRANT SELECT ON {} TO {}, {}", relation, reader, writer)


def grant_writing(connection: Connection, schema: str, names: tuple[str, ...]) -> None:
    """Let the writer role change the rows of some tables, where there is such a role."""
    roles = _roles(connection, schema)
    with acting_as_owner(connection, schema):
        for name in names if roles else ():
            relation, writer = qualified(schema, name), sql.Identifier(roles["writer"])
            execute(
                connection, "GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}", relation, writer
            )


def _lock(connection: Connection, schema: str) -> None:
    """Let one program at a time change the schema's tables."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"stgraph schema {schema}",))


def _create_schema(connection: Connection, schema: str, owner: str | None) -> None:
    """Create the schema and the table of its versions, owned by a group role where asked."""
    name = sql.Identifier(schema)
    if owner is not None:
        _ensure_role(connection, owner)
        # who makes the schema must be able to hand it over and to go on working in it
        execute(connection, "GRANT {} TO CURRENT_USER", sql.Identifier(owner))
        execute(
            connection,
            "CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}",
            name,
            sql.Identifier(owner),
        )
    else:
        execute(connection, "CREATE SCHEMA IF NOT EXISTS {}", name)
    with acting_as_owner(connection, schema):
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
    for number in sorted(number for number in known if number > before):
        text = sql.SQL(known[number])  # our own file
        connection.execute(
            text.format(schema=sql.Identifier(schema), schema_text=sql.Literal(schema))
        )
        connection.execute(
            sql.SQL("INSERT INTO {} (version, library) VALUES (%s, %s)").format(
                qualified(schema, "schema_version")
            ),
            (number, version("stgraph-gis")),
        )
        logger.info("schema %s is now at version %d", schema, number)
    return max(known)


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
    may = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    if offered is None or not may.fetchone()[0]:  # type: ignore[index]  # we are a role
        todo = (
            "install it on the server (Debian: postgresql-<version>-postgis-3)"
            if offered is None
            else "as a superuser, run in this database: CREATE EXTENSION postgis"
        )
        raise OutputError(f"{describe_dsn(dsn)} has no PostGIS; {todo}")
    connection.execute("CREATE EXTENSION postgis SCHEMA public")
    connection.execute("SELECT set_config('search_path', 'pg_catalog, public, pg_temp', false)")


def _create_roles(connection: Connection, schema: str) -> None:
    """Create the writer and the reader and give them exactly what they need."""
    names = {kind: f"{schema}_{kind}" for kind in ("owner", "writer", "reader")}
    for name in names.values():
        _ensure_role(connection, name)
    owned = connection.execute(
        "SELECT r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner "
        "WHERE n.nspname = %s",
        (schema,),
    ).fetchone()
    if owned is not None and owned[0] != names["owner"]:  # made without roles, now with them
        _hand_over(connection, schema, names["owner"])
    database = connection.info.dbname
    with acting_as_owner(connection, schema):
        _grant_tables(connection, schema, names)
        connection.execute(
            sql.SQL("UPDATE {} SET roles = %s::jsonb").format(qualified(schema, "dataset")),
            (json.dumps(names),),
        )
    members = sql.SQL(", ").join(sql.Identifier(names[kind]) for kind in ("writer", "reader"))
    execute(connection, "GRANT CONNECT ON DATABASE {} TO {}", sql.Identifier(database), members)


def _grant_tables(connection: Connection, schema: str, names: dict[str, str]) -> None:
    """Give the writer the rows of all tables and both the use of the schema."""
    space = sql.Identifier(schema)
    writer, reader = sql.Identifier(names["writer"]), sql.Identifier(names["reader"])
    execute(connection, "REVOKE ALL ON SCHEMA {} FROM PUBLIC", space)
    execute(connection, "GRANT USAGE ON SCHEMA {} TO {}, {}", space, writer, reader)
    execute(
        connection,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {} TO {}",
        space,
        writer,
    )
    execute(
        connection,
        "REVOKE INSERT, UPDATE, DELETE ON {} FROM {}",
        qualified(schema, "schema_version"),
        writer,
    )
    execute(connection, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {} TO {}", space, writer)
    series = "GRANT EXECUTE ON FUNCTION {}(text, timestamptz, timestamptz) TO {}, {}"
    execute(connection, series, qualified(schema, "node_series"), writer, reader)
    partition = "GRANT EXECUTE ON FUNCTION {}(text, date) TO {}"
    execute(connection, partition, qualified(schema, "ensure_partition"), writer)
    # partitions of later days and layers built later
    execute(
        connection,
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES "
        "TO {}",
        space,
        writer,
    )


def _hand_over(connection: Connection, schema: str, owner: str) -> None:
    """Give a schema and all that is in it to its group role."""
    execute(connection, "GRANT {} TO CURRENT_USER", sql.Identifier(owner))
    execute(
        connection, "ALTER SCHEMA {} OWNER TO {}", sql.Identifier(schema), sql.Identifier(owner)
    )
    rows = connection.execute(
        "SELECT c.relname, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v')",
        (schema,),
    ).fetchall()
    for name, kind in rows:
        what = sql.SQL("VIEW" if kind == "v" else "TABLE")
        execute(
            connection,
            "ALTER {} {} OWNER TO {}",
            what,
            qualified(schema, name),
            sql.Identifier(owner),
        )
    rows = connection.execute(
        "SELECT p.proname, pg_get_function_identity_arguments(p.oid) FROM pg_proc p "
        "JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = %s",
        (schema,),
    ).fetchall()
    for name, arguments in rows:
        routine = sql.SQL("{}({})").format(
            qualified(schema, name),
            sql.SQL(arguments),  # from the catalogue
        )
        execute(connection, "ALTER FUNCTION {} OWNER TO {}", routine, sql.Identifier(owner))


def _ensure_role(connection: Connection, name: str) -> None:
    """Create a group role without login unless there is one."""
    row = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
    if row is None:
        execute(connection, "CREATE ROLE {} NOLOGIN", sql.Identifier(name))


def _roles(connection: Connection, schema: str) -> dict[str, str]:
    """Return the group roles of a schema by kind; none without `roles`."""
    query = sql.SQL("SELECT roles FROM {}").format(qualified(schema, "dataset"))
    row = connection.execute(query).fetchone()
    return dict(row[0]) if row is not None and row[0] else {}


def _missing(dsn: str, schema: str) -> str:
    """Return what to do when there is no schema."""
    return (
        f"{describe_dsn(dsn)} has no schema {schema!r} of ours; run: "
        f"stgraph db init --schema {schema}"
    )
