"""Making and upgrading the tables of a dataset: repeated, at once, from older versions."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest
from postgis_cases import make_forecast, query
from psycopg import sql
from stgraph_connectors.postgis import schema as schema_module
from stgraph_connectors.postgis.connect import connect
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.roles import acting_as_owner
from stgraph_connectors.postgis.schema import (
    SchemaState,
    check_schema,
    init_schema,
    latest_version,
    upgrade_schema,
)
from throwaway_postgres import Server

from stgraph.errors import InputError, OutputError

pytestmark = pytest.mark.postgis
NOW = latest_version()


def objects(dsn: str, schema: str = "stgraph") -> list[tuple[str, str]]:
    """Return the tables, views, indexes and functions of a schema."""
    return query(
        dsn,
        "SELECT relkind::text, relname FROM pg_class WHERE relnamespace = %s::regnamespace "
        "UNION ALL SELECT 'F', proname FROM pg_proc WHERE pronamespace = %s::regnamespace "
        "ORDER BY 1, 2",
        *2 * [f'"{schema}"'],
    )


def test_init_twice_changes_nothing(database: str) -> None:
    """The second call finds everything there, and keeps the rows."""
    assert init_schema(database) == SchemaState("stgraph", 0, NOW)
    publish_forecast(make_forecast(), database)
    before = objects(database)
    assert init_schema(database) == SchemaState("stgraph", NOW, NOW)
    assert objects(database) == before
    assert query(database, "SELECT count(*) FROM stgraph.forecast_latest") == [(18,)]


def test_init_by_processes_at_once(database: str) -> None:
    """Four processes, two schemas: one makes each, the other finds it; nobody fails."""
    code = (
        "import sys; from stgraph_connectors.postgis.schema import init_schema\n"
        "sys.stdin.readline()\n"
        "print(init_schema(sys.argv[1], schema=sys.argv[2], roles=True).before)"
    )
    with_pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    names = ["one", "one", "two", "two"]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, database, name], **with_pipes)  # type: ignore[call-overload]
        for name in names
    ]
    for process in processes:  # all are up when the first gets its line
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert sorted(outputs[:2]) == sorted(outputs[2:]) == ["0", str(NOW)]
    for name in ("one", "two"):
        publish_forecast(make_forecast(), database, schema=name)


def test_init_makes_the_extension(postgres_server: Server) -> None:
    """A superuser needs nothing but an empty database."""
    database = postgres_server.create_database(postgis=False)
    init_schema(database)
    assert query(database, "SELECT 1 FROM pg_extension WHERE extname = 'postgis'") == [(1,)]
    postgres_server.drop_database(database)


def test_upgrade_from_an_older_version(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later stgraph brings older tables up to date, keeps rows and rights, and says so before."""
    old = schema_module._migrations()
    init_schema(database, roles=True)
    publish_forecast(make_forecast(), database)
    step = (
        "CREATE TABLE {schema}.anomaly (node_id integer REFERENCES {schema}.node, geom {geometry});"
        "COMMENT ON TABLE {schema}.anomaly IS {schema_text};"
    )
    monkeypatch.setattr(schema_module, "_migrations", lambda: {**old, NOW + 1: step})
    with pytest.raises(OutputError, match=rf"has version {NOW} .* needs {NOW + 1}; run: stgraph db upgrade"):  # fmt: skip  # noqa: E501
        publish_forecast(make_forecast(1), database)
    state = upgrade_schema(database)
    assert (state.before, state.after, len(state.roles)) == (NOW, NOW + 1, 3)
    assert upgrade_schema(database).before == NOW + 1
    rights = (
        "SELECT has_table_privilege('stgraph_writer', 'stgraph.anomaly', 'INSERT'), "
        "has_table_privilege('stgraph_reader', 'stgraph.anomaly', 'SELECT'), "
        "pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'stgraph.anomaly'::regclass"
    )
    assert query(database, rights) == [(True, False, "stgraph_owner")]
    assert publish_forecast(make_forecast(1), database).is_new
    versions = query(database, "SELECT version FROM stgraph.schema_version ORDER BY 1")
    assert versions == [(number,) for number in range(1, NOW + 2)]


def test_a_failing_upgrade_changes_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All migrations are one transaction: either the newest version or the one before."""
    old = schema_module._migrations()
    init_schema(database)
    before = objects(database)
    steps = {NOW + 1: "CREATE TABLE {schema}.half ()", NOW + 2: "SELECT 1 / 0"}
    monkeypatch.setattr(schema_module, "_migrations", lambda: {**old, **steps})
    with pytest.raises(OutputError, match="nothing was written: division by zero"):
        upgrade_schema(database)
    assert objects(database) == before
    monkeypatch.undo()
    assert publish_forecast(make_forecast(), database).is_new


def test_a_newer_version_is_left_alone(database: str) -> None:
    """An older stgraph neither writes nor changes what a newer one made."""
    init_schema(database)
    query(database, "INSERT INTO stgraph.schema_version VALUES (99, now(), 'stgraph-gis 9')")
    for call in (init_schema, upgrade_schema, lambda dsn: publish_forecast(make_forecast(), dsn)):
        with pytest.raises(OutputError, match=r"version 99 .*knows.*upgrade stgraph-gis"):
            call(database)


def test_what_is_missing_is_said(database: str) -> None:
    """No schema: the command that makes it."""
    for call in (upgrade_schema, lambda dsn: publish_forecast(make_forecast(), dsn)):
        with pytest.raises(OutputError, match="no schema 'stgraph' of ours; run: stgraph db init"):
            call(database)
    with pytest.raises(InputError, match="`schema` is 'public'"):
        init_schema(database, schema="public")


def test_a_schema_that_was_there(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Tables of others stay, and who will own ours is said; a table in the way is an error."""
    query(database, "CREATE SCHEMA stgraph; CREATE TABLE stgraph.mine (a integer)")
    init_schema(database)
    assert "'stgraph' was there before; its owner 'postgres' will own the tables" in caplog.text
    assert ("r", "mine") in objects(database)
    query(database, "CREATE SCHEMA other; CREATE TABLE other.node (a integer)")
    with pytest.raises(OutputError, match='nothing was written: relation "node" already exists'):
        init_schema(database, schema="other")
    assert objects(database, "other") == [("r", "node")]


def test_no_postgis_on_the_server(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not make the extension is told what a superuser must run."""
    database = postgres_server.create_database(postgis=False)
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE ROLE landlord LOGIN")
        connection.execute(
            sql.SQL("ALTER DATABASE {} OWNER TO landlord").format(sql.Identifier(str(name)))
        )
    landlord = psycopg.conninfo.make_conninfo(database, user="landlord")
    with pytest.raises(
        OutputError, match=r"has no PostGIS; as a superuser, run .*CREATE EXTENSION"
    ):
        init_schema(landlord)
    postgres_server.drop_database(database)
    query(postgres_server.admin, "DROP ROLE landlord")


def test_two_datasets_do_not_see_each_other(database: str) -> None:
    """Two schemas of one database: own nodes, issues, layers, locks."""
    for name, issue, ids in (("north", 1, list("abcdef")), ("south", 2, list("cdefgh"))):
        init_schema(database, schema=name)
        publish_forecast(make_forecast(issue, ids=ids), database, schema=name)
    for name, ids in (("north", "abcdef"), ("south", "cdefgh")):
        rows = query(
            database, f"SELECT string_agg(DISTINCT node_id, '') FROM {name}.forecast_latest"
        )
        assert rows == [(ids,)]
        assert query(database, f"SELECT count(*) FROM {name}.run") == [(1,)]
    with psycopg.connect(database) as other:  # a publisher of the one at work
        other.execute(
            "SELECT pg_advisory_xact_lock(%s, hashtext('north'))",
            (0x5467,),
        )
        assert publish_forecast(
            make_forecast(3, ids=list("cdefgh")), database, schema="south"
        ).is_new


def test_acting_as_owner_comes_back(database: str) -> None:
    """After the block we are who we were."""
    init_schema(database, roles=True)
    with connect(database) as connection:
        check_schema(connection, "stgraph", dsn=database)
        with acting_as_owner(connection, "stgraph"):
            assert connection.execute("SELECT current_user").fetchone() == ("stgraph_owner",)
            with acting_as_owner(connection, "stgraph"):
                pass
            assert connection.execute("SELECT current_user").fetchone() == ("stgraph_owner",)
        assert connection.execute("SELECT current_user").fetchone() == ("postgres",)


DAYS = [
    ("forecast", "infinity", "no partition for the day infinity"),
    ("forecast", "-infinity", "no partition for the day -infinity"),
    ("forecast", None, "no partition for the day NULL"),
    ("forecast", "0044-03-15 BC", "no partition for the day"),
    ("forecast", "10000-01-01", "no partition for the day"),
    ("node", "2024-01-01", "'node' has no partitions"),
    (None, "2024-01-01", "NULL has no partitions"),
    ('forecast"; DROP SCHEMA stgraph; --', "2024-01-01", "has no partitions"),
    ("FORECAST", "2024-01-01", "'FORECAST' has no partitions"),
]


@pytest.mark.parametrize(("parent", "day", "message"), DAYS)
def test_no_odd_partitions(database: str, parent: str, day: str, message: str) -> None:
    """The function that makes partitions in the owner's name makes nothing else."""
    init_schema(database)
    with pytest.raises(psycopg.errors.RaiseException, match=message):
        query(database, "SELECT stgraph.ensure_partition(%s, %s::date)", parent, day)


def test_partitions_are_days_in_utc(database: str) -> None:
    """Whatever the zone and the date style of who calls, and in a schema with an odd name."""
    name = "we\"ird'; %s {} schéma"
    init_schema(database, schema=name)
    make = sql.SQL("SELECT {}('forecast', '2024-04-07')").format(
        sql.Identifier(name, "ensure_partition")
    )
    with psycopg.connect(database) as connection:
        connection.execute("SET TimeZone = 'Pacific/Auckland'")
        connection.execute("SET DateStyle = 'SQL, DMY'")
        assert connection.execute(make).fetchone() == (True,)
        assert connection.execute(make).fetchone() == (False,)
        connection.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'")
        bounds = connection.execute(
            "SELECT pg_get_expr(relpartbound, oid) FROM pg_class "
            "WHERE relname = 'forecast_20240407'"
        ).fetchone()
        checks = connection.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'bounds'")
        assert checks.fetchone() == (0,)
    assert bounds == ("FOR VALUES FROM ('2024-04-07 00:00:00+00') TO ('2024-04-08 00:00:00+00')",)


def test_a_partition_on_its_way_out_takes_no_rows(database: str) -> None:
    """A detached partition that still has its name is an error that is tried again."""
    init_schema(database)
    query(database, "SELECT stgraph.ensure_partition('forecast', '2024-05-01')")
    query(database, "ALTER TABLE stgraph.forecast DETACH PARTITION stgraph.forecast_20240501")
    with pytest.raises(psycopg.errors.LockNotAvailable, match="is being removed"):
        query(database, "SELECT stgraph.ensure_partition('forecast', '2024-05-01')")
