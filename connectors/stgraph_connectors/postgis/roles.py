"""Who may do what in a schema: group roles without login, and acting in the owner's name.

The owner may change the structure, the writer publishes, the reader sees the layers and nothing
else. The groups are known by their names, ``<schema>_owner`` and so on: what they may do is never
read from a table that somebody may write to.
"""

from __future__ import annotations

import logging
from typing import LiteralString

from psycopg import errors as pg
from psycopg import sql

from stgraph.errors import OutputError
from stgraph_connectors.postgis.connect import Connection, execute, qualified

logger = logging.getLogger(__name__)


def role_names(schema: str) -> dict[str, str]:
    """Return the names of the group roles by kind: owner, writer, reader."""
    return {kind: f"{schema}_{kind}" for kind in ("owner", "writer", "reader")}


def has_roles(connection: Connection, schema: str) -> bool:
    """Tell whether the schema belongs to its group role, and the other two are there."""
    names = list(role_names(schema).values())
    row = connection.execute(
        "SELECT count(*) FROM pg_roles WHERE rolname = ANY(%s)", (names,)
    ).fetchone()
    there = row is not None and row[0] == len(names)
    return there and owner_of(connection, schema)[0] == role_names(schema)["owner"]


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
        owner, is_us, is_member = owner_of(self._connection, self._schema)
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


def grant_reading(connection: Connection, schema: str, names: tuple[str, ...]) -> None:
    """Let the reader role read some tables or views of the schema, where there is such a role."""
    if not has_roles(connection, schema):
        return
    reader, writer = role_of(schema, "reader"), role_of(schema, "writer")
    with acting_as_owner(connection, schema):
        for name in names:
            relation = qualified(schema, name)
            execute(connection, "GRANT SELECT ON {} TO {}, {}", relation, reader, writer)


def grant_writing(connection: Connection, schema: str, names: tuple[str, ...]) -> None:
    """Let the writer role change the rows of some tables, where there is such a role."""
    if not has_roles(connection, schema):
        return
    rights: LiteralString = "GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}"
    with acting_as_owner(connection, schema):
        for name in names:
            execute(connection, rights, qualified(schema, name), role_of(schema, "writer"))


def create_roles(connection: Connection, schema: str) -> None:
    """Create the group roles that are missing, and let them into the database."""
    for name in role_names(schema).values():
        _ensure_role(connection, name)
    owner = role_names(schema)["owner"]
    # who hands something over must be able to act in the receiver's name; a superuser is
    if not _may_act_as(connection, owner):
        user = connection.info.user
        ask_for(
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


def hand_over(connection: Connection, schema: str) -> None:
    """Give a schema that was made without roles, and all of ours in it, to its group role."""
    before, owner = owner_of(connection, schema)[0], role_names(schema)["owner"]
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


def grant_tables(connection: Connection, schema: str) -> None:
    """Give the writer the rows of all tables and both the use of the schema."""
    space, writer = sql.Identifier(schema), role_of(schema, "writer")
    both = sql.SQL("{}, {}").format(writer, role_of(schema, "reader"))
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


def ask_for(
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


def layer_tables(connection: Connection, schema: str) -> list[str]:
    """Return the tables that are layers for people: only those have a `fid` and a `geom`."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid WHERE n.nspname = %s AND c.relkind IN ('r', 'p')"
        " AND c.relowner = n.nspowner AND NOT a.attisdropped GROUP BY c.oid, c.relname "
        "HAVING array_agg(a.attname) @> ARRAY['fid', 'geom']::name[]",
        (schema,),
    ).fetchall()
    return [name for (name,) in rows]


def _tables(connection: Connection, schema: str) -> list[str]:
    """Return the tables of a schema that belong to its owner; others have put theirs there."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND c.relowner = n.nspowner",
        (schema,),
    ).fetchall()
    return [name for (name,) in rows]


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
        ask_for(
            connection, statement, f"role {name!r} is missing, and {user!r} may not create roles"
        )
    except (pg.DuplicateObject, pg.UniqueViolation):
        logger.debug("role %r was made by another program just now", name)


def role_of(schema: str, kind: str) -> sql.Identifier:
    """Return the quoted name of a group role."""
    return sql.Identifier(role_names(schema)[kind])


def owner_of(connection: Connection, schema: str) -> tuple[str, bool, bool]:
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
