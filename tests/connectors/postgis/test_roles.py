"""Owner, writer and reader as real logins: each may do what it must, and nothing else."""

from __future__ import annotations

import pandas as pd
import psycopg
import pytest
from postgis_cases import FIRST, make_forecast, query
from psycopg import errors as pg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from stgraph_connectors.postgis.connect import Patience
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.schema import init_schema, upgrade_schema
from throwaway_postgres import Server

from stgraph.errors import OutputError

pytestmark = pytest.mark.postgis
SCHEMA = "traffic"
LAYERS = ("forecast_latest", "forecast_latest_h1", "forecast_latest_h3", "forecast_value")
TABLES = ("node", "edge", "feature", "run", "current_issue", "forecast", "forecast_20240501",
          "observation", "observation_time", "evaluation", "dataset", "schema_version")  # fmt: skip


def as_user(dsn: str, user: str, **parts: str) -> str:
    return make_conninfo(dsn, user=user, **parts)


def login(dsn: str, name: str, *groups: str, options: str = "") -> str:
    """Create a login that is a member of some groups, and return its DSN."""
    names = [sql.Identifier(group) for group in groups]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN {}").format(sql.Identifier(name), sql.SQL(options))
        )
        for group in names:
            connection.execute(sql.SQL("GRANT {} TO {}").format(group, sql.Identifier(name)))
    return as_user(dsn, name)


@pytest.fixture
def dataset(database: str) -> str:
    """A dataset with roles and one issue, made by a superuser."""
    init_schema(database, schema=SCHEMA, roles=True)
    publish_forecast(make_forecast(), database, schema=SCHEMA)
    return database


@pytest.fixture(scope="module")
def viewed(module_database: str) -> str:
    """The same for tests that change nothing, with a login `viewer` that is a reader."""
    init_schema(module_database, schema="roads", roles=True)
    publish_forecast(make_forecast(), module_database, schema="roads")
    login(module_database, "viewer", "roads_reader")
    return module_database


@pytest.fixture
def viewer(viewed: str) -> str:
    """DSN of the login that may only read."""
    return as_user(viewed, "viewer")


# ---------------------------------------------------------------------------------------- reader


def test_reader_reads_the_layers(viewer: str) -> None:
    """Layers, their parts, the view and the series of a node."""
    for name, count in zip(LAYERS, (18, 6, 6, 18), strict=True):
        assert query(viewer, f"SELECT count(*) FROM roads.{name}") == [(count,)]
    series = "SELECT count(*) FROM roads.node_series('n1', '2024-01-01', '2025-01-01')"
    assert query(viewer, series) == [(3,)]
    shape = "SELECT count(*) FROM roads.forecast_latest WHERE public.ST_X(geom) > 174.0035"
    assert query(viewer, shape) == [(6,)]


def test_reader_reads_styles_only(viewed: str, viewer: str) -> None:
    """QGIS finds the styles, and cannot change them."""
    if query(viewed, "SELECT to_regclass('public.layer_styles')") == [(None,)]:
        pytest.fail("publishing wrote no styles")
    assert query(viewer, "SELECT count(*) > 0 FROM layer_styles") == [(True,)]
    for change in ("DELETE FROM layer_styles", "UPDATE layer_styles SET styleqml = NULL"):
        with pytest.raises(pg.InsufficientPrivilege):
            query(viewer, change)


def test_reader_reads_nothing_else(viewer: str) -> None:
    """Not the tables behind the layers: runs hold configs."""
    for table in TABLES:
        with pytest.raises(pg.InsufficientPrivilege):
            query(viewer, f"SELECT * FROM roads.{table}")


def test_reader_changes_nothing(viewed: str, viewer: str) -> None:
    """Rights decide, not a setting that a client may switch off."""
    free = as_user(viewer, "viewer", options="-c default_transaction_read_only=off")
    statements = [
        "CREATE TABLE roads.mine (a integer)",
        "CREATE VIEW roads.mine AS SELECT 1",
        "CREATE FUNCTION roads.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "SELECT roads.ensure_partition('forecast', '2030-01-01')",
        "SET ROLE roads_writer",
        "SET ROLE roads_owner",
        "ALTER TABLE roads.forecast_latest RENAME TO mine",
        "COMMENT ON TABLE roads.forecast_latest IS 'mine'",
        "LOCK TABLE roads.forecast_latest IN ACCESS EXCLUSIVE MODE",
        "LOCK TABLE roads.forecast_latest IN ROW EXCLUSIVE MODE",
        "DROP SCHEMA roads CASCADE",
    ]
    for name in LAYERS:
        statements += [f"{change} roads.{name}" for change in ("DELETE FROM", "TRUNCATE")]
        statements += [f"INSERT INTO roads.{name} DEFAULT VALUES"]
        statements += [f"UPDATE roads.{name} SET issued_at = now()"]
    for statement in statements:
        with pytest.raises((pg.InsufficientPrivilege, pg.WrongObjectType, pg.ObjectNotInPrerequisiteState)):  # fmt: skip  # noqa: E501
            query(free, statement)
    query(free, "GRANT SELECT ON roads.forecast_latest TO PUBLIC")  # no error, but no effect
    everybody = "SELECT count(*) FROM information_schema.role_table_grants WHERE grantee = 'PUBLIC'"
    assert query(viewed, everybody + " AND table_schema = 'roads'") == [(0,)]
    assert query(viewed, "SELECT count(*) FROM roads.forecast_latest") == [(18,)]


def test_everybody_else_sees_nothing(viewed: str) -> None:
    """A login without any of the roles cannot even use the schema."""
    stranger = login(viewed, "passer")
    for name in (*LAYERS, *TABLES):
        with pytest.raises(pg.InsufficientPrivilege, match="schema roads"):
            query(stranger, f"SELECT * FROM roads.{name}")
    with pytest.raises(pg.InsufficientPrivilege):
        query(stranger, "SELECT roads.node_series('n1', now(), now())")
    with pytest.raises(OutputError, match="permission denied for schema roads; let this role be"):
        publish_forecast(make_forecast(1), stranger, schema="roads")


def test_reader_of_a_rebuilt_layer(dataset: str) -> None:
    """A layer that was made anew can be read as the one before."""
    reader = login(dataset, "qgis", "traffic_reader")
    publish_forecast(make_forecast(1, horizon=4), dataset, schema=SCHEMA)
    assert query(reader, "SELECT count(*) FROM traffic.forecast_latest") == [(24,)]
    assert query(reader, "SELECT count(*) FROM traffic.forecast_latest_h4") == [(6,)]


def test_reader_only_executes_what_is_pinned(viewed: str, viewer: str) -> None:
    """The function that runs as the owner finds none of the caller's tables or operators."""
    with psycopg.connect(viewer) as connection:
        connection.execute("CREATE TEMP TABLE node (node_id integer, id text)")
        connection.execute("CREATE TEMP TABLE run (issued_at timestamptz)")
        connection.execute("SET search_path = pg_temp, public")
        rows = connection.execute(
            "SELECT count(*) FROM roads.node_series('n1', '2024-01-01', '2025-01-01')"
        ).fetchone()
    assert rows == (3,)
    settings = query(
        viewed,
        "SELECT proname, prosecdef, proconfig[1] FROM pg_proc "
        "WHERE pronamespace = 'roads'::regnamespace ORDER BY 1",
    )
    assert {name for name, definer, path in settings if definer} >= {"ensure_partition"}
    for name, definer, path in settings:
        assert not definer or path == "search_path=pg_catalog, pg_temp", name


# ---------------------------------------------------------------------------------------- writer


def test_writer_publishes(dataset: str) -> None:
    """The next issue, the first of a new day with its partition, and the same one again."""
    writer = login(dataset, "robot", "traffic_writer")
    assert publish_forecast(make_forecast(1), writer, schema=SCHEMA).is_current
    tomorrow = make_forecast(2, issued_at=FIRST + pd.Timedelta(days=1))
    assert publish_forecast(tomorrow, writer, schema=SCHEMA).is_current
    assert not publish_forecast(tomorrow, writer, schema=SCHEMA).is_new
    owners = query(
        dataset,
        "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'traffic'",
    )
    assert owners == [("traffic_owner",)]
    issues = query(dataset, "SELECT DISTINCT issued_at FROM traffic.forecast_latest")
    assert issues == [(tomorrow.provenance["issued_at"] and (FIRST + pd.Timedelta(days=1)),)]


def test_writer_may_add_nodes(dataset: str) -> None:
    """More nodes are rows, not structure."""
    writer = login(dataset, "robot", "traffic_writer")
    publish_forecast(make_forecast(1, n_nodes=8), writer, schema=SCHEMA)
    assert query(dataset, "SELECT count(*) FROM traffic.forecast_latest") == [(24,)]


@pytest.mark.parametrize("change", [{"horizon": 4}, {"names": ("flow",)}])
def test_writer_may_not_change_the_structure(dataset: str, change: dict[str, object]) -> None:
    """Another layer needs the owner; the message says who that is, and the old issue stays."""
    writer = login(dataset, "robot", "traffic_writer")
    with pytest.raises(OutputError, match=r"layer 'forecast_latest'.* needs the rights of 'traffic_owner'.* 'robot' is no member"):  # fmt: skip  # noqa: E501
        publish_forecast(make_forecast(1, **change), writer, schema=SCHEMA)  # type: ignore[arg-type]
    assert query(dataset, "SELECT DISTINCT issued_at FROM traffic.forecast_latest") == [(FIRST,)]
    states = query(dataset, "SELECT status FROM traffic.run ORDER BY run_id")
    assert states == [("published",), ("failed",)]
    assert publish_forecast(make_forecast(1), writer, schema=SCHEMA).is_current


def test_writer_owns_nothing(dataset: str) -> None:
    """No DDL, no rights to give away, no versions to pretend."""
    writer = login(dataset, "robot", "traffic_writer")
    for statement in (
        "CREATE TABLE traffic.mine (a integer)",
        "DROP TABLE traffic.forecast_20240501",
        "TRUNCATE traffic.forecast",
        "ALTER TABLE traffic.run ADD COLUMN mine text",
        "CREATE TRIGGER mine BEFORE INSERT ON traffic.run EXECUTE FUNCTION suppress_redundant_updates_trigger()",  # noqa: E501
        "UPDATE traffic.schema_version SET version = 99",
        "INSERT INTO traffic.schema_version VALUES (99, now(), '')",
        "SET ROLE traffic_owner",
    ):
        with pytest.raises(pg.InsufficientPrivilege):
            query(writer, statement)
    with pytest.raises(OutputError, match="needs the rights of 'traffic_owner'"):
        init_schema(writer, schema=SCHEMA)
    with pytest.raises(OutputError, match="needs the rights of 'traffic_owner'"):
        upgrade_schema(writer, schema=SCHEMA)


def test_writer_cannot_point_rights_at_others(dataset: str) -> None:
    """Whom the owner gives rights to is not read from a table that the writer may change."""
    writer = login(dataset, "robot", "traffic_writer")
    login(dataset, "stranger")
    columns = query(
        dataset,
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = 'traffic' AND table_name = 'dataset'",
    )
    assert "roles" not in {name for (name,) in columns}
    query(writer, "UPDATE traffic.dataset SET layers = '{}', styles = '{}'")
    publish_forecast(make_forecast(1, horizon=2), dataset, schema=SCHEMA)
    granted = query(
        dataset,
        "SELECT DISTINCT grantee FROM information_schema.role_table_grants "
        "WHERE table_schema = 'traffic' ORDER BY 1",
    )
    assert granted == [("traffic_owner",), ("traffic_reader",), ("traffic_writer",)]


# ----------------------------------------------------------------------------------------- owner


@pytest.mark.parametrize("options", ["INHERIT", "NOINHERIT"])
def test_owner_login_changes_the_structure(dataset: str, options: str) -> None:
    """A login that is a member of the owner rebuilds layers; what it makes is the group's.

    Without INHERIT PostgreSQL wants the role to be named, which the DSN can do.
    """
    owner = login(dataset, "boss", "traffic_owner", options=options)
    if options == "NOINHERIT":
        with pytest.raises(OutputError, match=r"NOINHERIT also needs options='-c role=\.\.\.'"):
            publish_forecast(make_forecast(1), owner, schema=SCHEMA)
        owner = as_user(owner, "boss", options="-c role=traffic_owner")
    publish_forecast(make_forecast(1, horizon=5), owner, schema=SCHEMA)
    init_schema(owner, schema=SCHEMA)
    upgrade_schema(owner, schema=SCHEMA)
    owners = query(
        dataset,
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class "
        "WHERE relnamespace = 'traffic'::regnamespace",
    )
    assert owners == [("traffic_owner",)]
    reader = login(dataset, "qgis", "traffic_reader")
    assert query(reader, "SELECT count(*) FROM traffic.forecast_latest") == [(30,)]


def test_writer_without_inherit(dataset: str) -> None:
    """The role in the DSN is enough to publish."""
    writer = login(dataset, "robot", "traffic_writer", options="NOINHERIT")
    named = as_user(writer, "robot", options="-c role=traffic_writer")
    assert publish_forecast(make_forecast(1), named, schema=SCHEMA).is_current


def test_member_of_both_acts_as_named(dataset: str) -> None:
    """Who asks to be the writer is not the owner, though a member of it."""
    both = login(dataset, "both", "traffic_owner", "traffic_writer")
    named = as_user(both, "both", options="-c role=traffic_writer")
    with pytest.raises(OutputError, match="needs the rights of 'traffic_owner'"):
        publish_forecast(make_forecast(1, horizon=2), named, schema=SCHEMA)
    assert publish_forecast(make_forecast(1, horizon=2), both, schema=SCHEMA).layers_built


# ------------------------------------------------------------------------------------------ init


def owners_of(dsn: str) -> set[tuple[str]]:
    """Return who owns the schema, its relations, functions and types."""
    return set(
        query(
            dsn,
            "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'traffic' "
            "UNION SELECT pg_get_userbyid(relowner) FROM pg_class "
            "WHERE relnamespace = 'traffic'::regnamespace "
            "UNION SELECT pg_get_userbyid(proowner) FROM pg_proc "
            "WHERE pronamespace = 'traffic'::regnamespace "
            "UNION SELECT pg_get_userbyid(typowner) FROM pg_type "
            "WHERE typnamespace = 'traffic'::regnamespace",
        )
    )


def test_roles_later(database: str) -> None:
    """A dataset in use gets its roles: tables, partitions, layers, views, sequences, functions."""
    init_schema(database, schema=SCHEMA)
    publish_forecast(make_forecast(), database, schema=SCHEMA)
    assert owners_of(database) == {("postgres",)}
    state = init_schema(database, schema=SCHEMA, roles=True)
    assert state.roles == ("traffic_owner", "traffic_writer", "traffic_reader")
    assert owners_of(database) == {("traffic_owner",)}
    writer = login(database, "robot", "traffic_writer")
    reader = login(database, "qgis", "traffic_reader")
    assert publish_forecast(make_forecast(1), writer, schema=SCHEMA).is_current
    later = make_forecast(2, issued_at=FIRST + pd.Timedelta(days=1))
    assert publish_forecast(later, writer, schema=SCHEMA).is_current
    for name, count in zip(LAYERS, (18, 6, 6, 3 * 18), strict=True):
        assert query(reader, f"SELECT count(*) FROM traffic.{name}") == [(count,)]
    assert query(reader, "SELECT count(*) > 0 FROM layer_styles") == [(True,)]
    assert init_schema(database, schema=SCHEMA, roles=True) == init_schema(database, schema=SCHEMA)


def test_objects_of_others_stay_theirs(database: str) -> None:
    """A function that somebody else put there must not begin to run in the owner's name."""
    init_schema(database, schema=SCHEMA)
    guest = login(database, "guest")
    query(database, "GRANT USAGE, CREATE ON SCHEMA traffic TO guest")
    query(guest, "CREATE FUNCTION traffic.trap() RETURNS text LANGUAGE sql SECURITY DEFINER "
                 "AS 'SELECT current_user::text'")  # fmt: skip
    query(guest, "CREATE TABLE traffic.theirs (a integer)")
    init_schema(database, schema=SCHEMA, roles=True)
    assert owners_of(database) == {("traffic_owner",), ("guest",)}
    assert query(database, "SELECT traffic.trap()") == [("guest",)]


def test_a_superuser_joins_no_group(dataset: str) -> None:
    """Who may do everything needs no membership, and gets none."""
    rows = query(
        dataset,
        "SELECT count(*) FROM pg_auth_members WHERE roleid = 'traffic_owner'::regrole",
    )
    assert rows == [(0,)]


@pytest.fixture
def landlord(database: str) -> str:
    """DSN of a login that owns the database, and is neither superuser nor may create roles."""
    dsn = login(database, "landlord")
    name = sql.Identifier(str(conninfo_to_dict(database)["dbname"]))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO landlord").format(name))
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    return dsn


def test_init_by_the_owner_of_the_database(landlord: str) -> None:
    """Without roles nothing but the database is needed."""
    init_schema(landlord, schema=SCHEMA)
    assert publish_forecast(make_forecast(), landlord, schema=SCHEMA).is_current
    assert owners_of(landlord) == {("landlord",)}


def test_init_with_roles_needs_createrole(landlord: str) -> None:
    """The message has the statement that somebody else can run; nothing is left behind."""
    with pytest.raises(OutputError, match=r'role \'traffic_owner\' is missing, and \'landlord\' may not create roles; as an admin.*: CREATE ROLE "traffic_owner" NOLOGIN'):  # fmt: skip  # noqa: E501
        init_schema(landlord, schema=SCHEMA, roles=True)
    assert query(landlord, "SELECT count(*) FROM pg_namespace WHERE nspname = 'traffic'") == [(0,)]


def test_init_with_roles_by_who_may_create_them(landlord: str, database: str) -> None:
    """It joins the owner's group, as it must act in its name; the roles get into the database."""
    query(database, "ALTER ROLE landlord CREATEROLE")
    init_schema(landlord, schema=SCHEMA, roles=True)
    assert publish_forecast(make_forecast(), landlord, schema=SCHEMA).layers_built
    assert owners_of(database) == {("traffic_owner",)}
    writer = login(database, "robot", "traffic_writer")
    reader = login(database, "qgis", "traffic_reader")
    assert publish_forecast(make_forecast(1), writer, schema=SCHEMA).is_current
    assert query(reader, "SELECT count(*) FROM traffic.forecast_latest") == [(18,)]
    owner = login(database, "boss", "traffic_owner")
    assert publish_forecast(make_forecast(2, horizon=2), owner, schema=SCHEMA).layers_built
    stranger = login(database, "stranger")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        query(stranger, "SELECT 1")


def test_init_with_roles_that_somebody_else_made(landlord: str, database: str) -> None:
    """An administrator made the groups; membership in the owner's is enough."""
    for kind in ("owner", "writer", "reader"):
        query(database, f"CREATE ROLE traffic_{kind} NOLOGIN")
    quick = Patience(attempts=1)
    with pytest.raises(
        OutputError, match=r"'landlord' is no member .*: GRANT \"traffic_owner\" TO \"landlord\""
    ):
        init_schema(landlord, schema=SCHEMA, roles=True, patience=quick)
    query(database, "GRANT traffic_owner TO landlord")
    init_schema(landlord, schema=SCHEMA, roles=True)
    assert owners_of(database) == {("traffic_owner",)}


def test_init_by_who_may_not_create_schemas(database: str) -> None:
    """The statement that an administrator must run."""
    stranger = login(database, "stranger")
    with pytest.raises(OutputError, match=r"'stranger' may not create schemas.*: GRANT CREATE ON"):
        init_schema(stranger, schema=SCHEMA)


def test_a_superuser_owns_no_dataset(database: str) -> None:
    """The functions that run as the owner must not run as one who may do everything."""
    query(database, "CREATE ROLE traffic_owner SUPERUSER")
    with pytest.raises(OutputError, match="'traffic_owner' is there and is a superuser"):
        init_schema(database, schema=SCHEMA, roles=True)


def test_hostile_schema_name_with_roles(database: str) -> None:
    """Groups are named after the schema, whatever it is called."""
    name = "tr\"a'ffic; %s {} \\ ü"
    init_schema(database, schema=name, roles=True)
    writer = login(database, 'ro"bot', f"{name}_writer")
    publish_forecast(make_forecast(), database, schema=name)
    tomorrow = make_forecast(1, issued_at=FIRST + pd.Timedelta(days=1))
    assert publish_forecast(tomorrow, writer, schema=name).is_current
    with pytest.raises(OutputError, match="needs the rights of"):
        publish_forecast(make_forecast(999, horizon=1), writer, schema=name)
    assert init_schema(database, schema=name, roles=True).roles[0] == f"{name}_owner"


def test_two_databases_share_the_groups(postgres_server: Server, database: str) -> None:
    """Roles belong to the server: the same schema name elsewhere means the same groups."""
    other = postgres_server.create_database()
    init_schema(database, schema=SCHEMA, roles=True)
    init_schema(other, schema=SCHEMA, roles=True)
    publish_forecast(make_forecast(), other, schema=SCHEMA)
    reader = login(database, "qgis", "traffic_reader")
    name = str(conninfo_to_dict(other)["dbname"])
    elsewhere = make_conninfo(reader, dbname=name)
    assert query(elsewhere, "SELECT count(*) FROM traffic.forecast_latest") == [(18,)]
    postgres_server.drop_database(other)
