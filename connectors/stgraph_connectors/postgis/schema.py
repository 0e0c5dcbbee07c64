"""The database schema of a dataset: made, upgraded and checked, one Postgres schema each."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import LiteralString

from psycopg import errors as pg
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
    spatial,
)

logger = logging.getLogger(__name__)

_LAYERS_FOR_READERS = ("forecast_value",)
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
            _create_roles(connection, schema)
        if before == 0:
            _require_postgis(connection, dsn)
            _create_schema(connection, schema, with_roles=roles)
        if roles:
            _hand_over(connection, schema)
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


class acting_as_owner:  # noqa: N801  # used like a function
    """Make what is created belong to the schema's owner, of whom we must be a member.

    Raises
    ------
    OutputError
        We are no member; says what needs the owner and whom to connect as.
    """

    def __init__(self, connection: Connection, schema: str, doing: str = "this change") -> None:
        self._connection = connection
        self._schema = schema
        self._doing = doing
        self._changed = False

    def __enter__(self) -> None:
        owner, is_us, is_member = _owner(self._connection, self._schema)
        if not (is_us or is_member):
            raise OutputError(
                f"{self._doing} needs the rights of {owner!r}, who owns the schema "
                f"{self._schema!r}, and {self._connection.info.user!r} is no member of it; connect "
                "as a member, once"
            )
        if not is_us:
            execute(self._connection, "SET LOCAL ROLE {}", sql.Identifier(owner))
            self._changed = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # after an error the transaction is over, and the role with it
        if self._changed and kind is None:
            self._connection.execute("RESET ROLE")


def grant_reading(
    connection: Connection, schema: str, names: tuple[str, ...] = _LAYERS_FOR_READERS
) -> None:
    """Let the reader role read some tables or views of the schema, where there is such a role."""
    if not _has_roles(connection, schema):
        return
    reader, writer = _role(schema, "reader"), _role(schema, "writer")
    with acting_as_owner(connection, schema):
        for name in names:
            relation = qualified(schema, name)
            execute(connection, "GRANT SELECT ON {} TO {}, {}", relation, reader, writer)


def grant_writing(connection: Connection, schema: str, names: tuple[str, ...]) -> None:
    """Let the writer role change the rows of some tables, where there is such a role."""
    if not _has_roles(connection, schema):
        return
    rights: LiteralString = "GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}"
    with acting_as_owner(connection, schema):
        for name in names:
            execute(connection, rights, qualified(schema, name), _role(schema, "writer"))


def _lock(connection: Connection) -> None:
    """Let one program at a time change schemas: grants on the same database do not go together."""
    connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_LOCK,))


def _bring_up_to_date(connection: Connection, schema: str, before: int) -> SchemaState:
    """Run what is missing of a schema that is there, and give everybody their rights again."""
    from stgraph_connectors.postgis.layer_styles import prepare_styles  # which needs this module

    with acting_as_owner(connection, schema, "a new version of the tables"):
        after = _migrate(connection, schema, before)
    if not _has_roles(connection, schema):
        return SchemaState(schema, before, after)
    with acting_as_owner(connection, schema):
        _grant_tables(connection, schema)
    prepare_styles(connection, schema)
    grant_reading(connection, schema, (*_LAYERS_FOR_READERS, *_layers(connection, schema)))
    return SchemaState(schema, before, after, tuple(role_names(schema).values()))


def _create_schema(connection: Connection, schema: str, *, with_roles: bool) -> None:
    """Create the schema and the table of its versions, owned by a group role where asked."""
    name = sql.Identifier(schema)
    there = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
    if there.fetchone() is not None:
        logger.warning(
            "schema %r was there before; its owner %r will own the tables",
            schema,
            role_names(schema)["owner"] if with_roles else _owner(connection, schema)[0],
        )
    else:
        authorized = sql.SQL(" AUTHORIZATION {}").format(_role(schema, "owner"))
        statement = sql.SQL("CREATE SCHEMA {}").format(name)
        statement += authorized if with_roles else sql.SQL("")
        user, database = connection.info.user, connection.info.dbname
        remedy = sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
            sql.Identifier(database), sql.Identifier(user)
        )
        _ask_for(connection, statement, f"{user!r} may not create schemas in it", remedy)
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


def _create_roles(connection: Connection, schema: str) -> None:
    """Create the group roles that are missing, and let them into the database."""
    for name in role_names(schema).values():
        _ensure_role(connection, name)
    owner = role_names(schema)["owner"]
    # who hands something over must be able to act in the receiver's name; a superuser is
    if not _may_act_as(connection, owner):
        user = connection.info.user
        _ask_for(
            connection,
            sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner), sql.Identifier(user)),
            f"{user!r} is no member of the role {owner!r} and may not make itself one",
        )
    for right in ("CONNECT", "TEMPORARY"):
        missing = connection.execute(
            "SELECT current_database(), array_agg(r.rolname) FROM pg_roles r "
            "WHERE r.rolname = ANY(%s) "
            "AND NOT has_database_privilege(r.oid, current_database(), %s)",
            (list(role_names(schema).values()), right),
        ).fetchone()
        if missing is None or not missing[1]:  # everybody may, unless the administrator forbade it
            continue
        execute(
            connection,
            "GRANT {} ON DATABASE {} TO {}",
            sql.SQL(right),
            sql.Identifier(missing[0]),
            sql.SQL(", ").join(map(sql.Identifier, missing[1])),
        )


def _grant_tables(connection: Connection, schema: str) -> None:
    """Give the writer the rows of all tables and both the use of the schema."""
    space, writer = sql.Identifier(schema), _role(schema, "writer")
    both = sql.SQL("{}, {}").format(writer, _role(schema, "reader"))
    rows = "GRANT SELECT, INSERT, UPDATE, DELETE ON"
    execute(connection, "REVOKE ALL ON SCHEMA {} FROM PUBLIC", space)
    execute(connection, "GRANT USAGE ON SCHEMA {} TO {}", space, both)
    ours = sql.SQL(", ").join(qualified(schema, name) for name in _tables(connection, schema))
    execute(connection, f"{rows} {{}} TO {{}}", ours, writer)
    versions = qualified(schema, "schema_version")
    execute(connection, "REVOKE INSERT, UPDATE, DELETE ON {} FROM {}", versions, writer)
    series = "GRANT EXECUTE ON FUNCTION {}(text, timestamptz, timestamptz) TO {}"
    execute(connection, series, qualified(schema, "node_series"), both)
    partition = "GRANT EXECUTE ON FUNCTION {}(text, date) TO {}"
    execute(connection, partition, qualified(schema, "ensure_partition"), writer)
    # partitions of later days and layers built later
    later = f"ALTER DEFAULT PRIVILEGES IN SCHEMA {{}} {rows} TABLES TO {{}}"
    execute(connection, later, space, writer)


def _tables(connection: Connection, schema: str) -> list[str]:
    """Return the tables of a schema that belong to its owner; others have put theirs there."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND c.relowner = n.nspowner",
        (schema,),
    ).fetchall()
    return [name for (name,) in rows]


def _layers(connection: Connection, schema: str) -> list[str]:
    """Return the tables that are layers for people: only those have a `fid` and a `geom`."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid WHERE n.nspname = %s AND c.relkind IN ('r', 'p')"
        " AND c.relowner = n.nspowner AND NOT a.attisdropped GROUP BY c.oid, c.relname "
        "HAVING array_agg(a.attname) @> ARRAY['fid', 'geom']::name[]",
        (schema,),
    ).fetchall()
    return [name for (name,) in rows]


def _hand_over(connection: Connection, schema: str) -> None:
    """Give a schema that was made without roles, and all of ours in it, to its group role."""
    before, owner = _owner(connection, schema)[0], role_names(schema)["owner"]
    if before == owner:
        return
    # only what the schema's owner made: what others put there runs with their rights, not ours
    statements = connection.execute(
        "WITH old AS (SELECT oid, nspowner FROM pg_namespace WHERE nspname = %s) "
        "SELECT format('ALTER %%s %%I.%%I OWNER TO %%I', CASE c.relkind WHEN 'v' THEN 'VIEW' "
        "WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, "
        "%s::text, c.relname, %s::text) FROM pg_class c JOIN old ON old.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relowner = old.nspowner "
        "AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid "
        "AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))) "
        "UNION ALL SELECT format('ALTER ROUTINE %%s OWNER TO %%I', p.oid::regprocedure, %s::text) "
        "FROM pg_proc p JOIN old ON old.oid = p.pronamespace WHERE p.proowner = old.nspowner",
        (schema, schema, owner, owner),
    ).fetchall()
    new = sql.Identifier(owner)
    execute(connection, "ALTER SCHEMA {} OWNER TO {}", sql.Identifier(schema), new)
    for (statement,) in statements:
        connection.execute(statement)


def _ensure_role(connection: Connection, name: str) -> None:
    """Create a group role without login unless there is one."""
    query = "SELECT rolsuper FROM pg_roles WHERE rolname = %s"
    row = connection.execute(query, (name,)).fetchone()
    if row is not None and row[0]:
        raise OutputError(
            f"role {name!r} is there and is a superuser, who must own no dataset; rename that role "
            "or use another `schema`"
        )
    if row is not None:
        return
    statement = sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name))
    user = connection.info.user
    try:
        _ask_for(
            connection, statement, f"role {name!r} is missing, and {user!r} may not create roles"
        )
    except (pg.DuplicateObject, pg.UniqueViolation):
        logger.debug("role %r was made by another program just now", name)


def _ask_for(
    connection: Connection,
    statement: sql.Composed,
    problem: str,
    remedy: sql.Composed | None = None,
) -> None:
    """Run a statement that may need an administrator, and if it does, say what to run as one."""
    try:
        with connection.transaction():
            connection.execute(statement)
    except pg.InsufficientPrivilege as error:
        raise OutputError(
            f"database {connection.info.dbname!r}: {problem}; as an administrator, run: "
            f"{(remedy or statement).as_string(connection)}"
        ) from error


def role_names(schema: str) -> dict[str, str]:
    """Return the names of the group roles by kind: owner, writer, reader."""
    return {kind: f"{schema}_{kind}" for kind in ("owner", "writer", "reader")}


def _role(schema: str, kind: str) -> sql.Identifier:
    """Return the quoted name of a group role."""
    return sql.Identifier(role_names(schema)[kind])


def _has_roles(connection: Connection, schema: str) -> bool:
    """Tell whether the schema belongs to its group role, and the other two are there."""
    names = list(role_names(schema).values())
    row = connection.execute(
        "SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s)", (names,)
    ).fetchone()
    there = row is not None and row[0] == len(names)
    return there and _owner(connection, schema)[0] == role_names(schema)["owner"]


def _owner(connection: Connection, schema: str) -> tuple[str, bool, bool]:
    """Return who owns a schema, whether that is us, and whether we may act in the owner's name."""
    row = connection.execute(
        "SELECT pg_get_userbyid(nspowner), pg_get_userbyid(nspowner) = current_user "
        "FROM pg_namespace WHERE nspname = %s",
        (schema,),
    ).fetchone()
    if row is None:
        raise OutputError(f"there is no schema {schema!r}")
    return row[0], row[1], _may_act_as(connection, row[0])


def _may_act_as(connection: Connection, role: str) -> bool:
    """Tell whether SET ROLE works; from PostgreSQL 16 on a member may lack just that."""
    right = "SET" if connection.info.server_version >= 160_000 else "MEMBER"
    row = connection.execute("SELECT pg_has_role(%s::name, %s)", (role, right)).fetchone()
    return row is not None and bool(row[0])


def _missing(dsn: str, schema: str) -> str:
    """Return what to do when there is no schema."""
    return (
        f"{describe_dsn(dsn)} has no schema {schema!r} of ours; run: "
        f"stgraph db init --schema {schema}"
    )
