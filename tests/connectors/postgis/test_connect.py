"""Connections: pinned settings, bounded retries, and no secret in anything that is shown."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import shapely
from postgis_cases import make_forecast, query, wait_until
from psycopg import sql
from psycopg.conninfo import make_conninfo
from stgraph_connectors.postgis import connect as connect_module
from stgraph_connectors.postgis.connect import (
    Patience,
    check_schema_name,
    connect,
    describe_dsn,
    execute,
    explained,
    run_transaction,
    spatial,
)
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.schema import init_schema
from throwaway_postgres import Server, start_server

from stgraph.errors import InputError, OutputError

pytestmark = pytest.mark.postgis
SECRET = "s3cr3t-Pa55"
QUICK = Patience(attempts=3, pause_s=0.001)


@pytest.fixture(scope="module")
def own_server(postgres_programs: Any) -> Iterator[Server]:
    """A server that may be stopped, whose role `keeper` must give a password by TCP."""
    with start_server() as server:
        rules = server.cluster.data / "pg_hba.conf"
        rules.write_text("host all keeper 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        with psycopg.connect(server.admin, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE keeper LOGIN PASSWORD '{SECRET}'")
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are not made."""
    made: list[float] = []
    monkeypatch.setattr(connect_module, "time", SimpleNamespace(sleep=made.append))
    return made


# ------------------------------------------------------------------------------------- settings


def settings_of(dsn: str, *names: str, **options: Any) -> tuple[Any, ...]:
    with connect(dsn, **options) as connection:
        return tuple(connection.execute(f"SHOW {name}").fetchone()[0] for name in names)  # type: ignore[index]


@pytest.mark.parametrize("autocommit", [False, True])
def test_timeouts_arrive(module_database: str, autocommit: bool) -> None:
    """Patience becomes the server's settings, however short: 0 would mean for ever."""
    patience = Patience(lock_timeout_s=0.0001, statement_timeout_s=61.5)
    names = ("lock_timeout", "statement_timeout", "tcp_keepalives_idle")
    got = settings_of(module_database, *names[:2], patience=patience, autocommit=autocommit)
    assert got == ("1ms", "61500ms")
    unlimited = Patience(statement_timeout_s=0)
    assert settings_of(module_database, "statement_timeout", patience=unlimited) == ("0",)


@pytest.mark.parametrize("autocommit", [False, True])
def test_settings_do_not_depend_on_the_role_or_the_dsn(
    module_database: str, autocommit: bool
) -> None:
    """Zone, formats, encoding, isolation and search path are ours whatever others prefer."""
    odd = {
        "TimeZone": "Pacific/Auckland",
        "DateStyle": "SQL, DMY",
        "IntervalStyle": "iso_8601",
        "extra_float_digits": "-10",
        "search_path": "public",
        "default_transaction_isolation": "serializable",
        "client_encoding": "LATIN1",
        "statement_timeout": "1h",
    }
    options = " ".join(
        f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in odd.items()
    )
    dsn = make_conninfo(module_database, options=options, client_encoding="LATIN1")
    assert query(dsn, "SHOW TimeZone") == [("Pacific/Auckland",)]  # they would be taken
    names = ("TimeZone", "DateStyle", "IntervalStyle", "extra_float_digits", "search_path",
             "client_encoding", "statement_timeout")  # fmt: skip
    got = settings_of(dsn, *names, autocommit=autocommit)
    expected = ("UTC", "ISO, DMY", "postgres", "1", "pg_catalog, pg_temp", "UTF8", "900s")
    assert [v.replace("15min", "900s") for v in got] == list(expected)
    if not autocommit:
        assert settings_of(dsn, "transaction_isolation") == ("read committed",)


def test_settings_end_with_the_transaction(module_database: str) -> None:
    """Behind a pool the next transaction of somebody else on the connection has its own."""
    with connect(module_database) as connection:
        assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)
        connection.execute("SELECT 1 AS pinned")
        connection.commit()
        row = connection.execute("SHOW search_path").fetchone()
        assert row == ('"$user", public',)
        for _ in range(7):  # the driver would prepare it after five
            connection.execute("SELECT 2")
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_application_name(module_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The administrator sees who we are; the DSN and PGAPPNAME may say it better."""
    ask = ("application_name",)
    assert settings_of(module_database, *ask) == ("stgraph",)
    assert settings_of(module_database, *ask, application_name="stgraph serve") == (
        "stgraph serve",
    )
    named = make_conninfo(module_database, application_name="night job")
    assert settings_of(named, *ask) == ("night job",)
    monkeypatch.setenv("PGAPPNAME", "cron")
    assert settings_of(module_database, *ask) == ("cron",)


def test_dsn_of_every_form(
    module_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keywords, URL and service lead to the same database."""
    parts = psycopg.conninfo.conninfo_to_dict(module_database)
    host = str(parts["host"]).replace("/", "%2F")
    url = f"postgresql://{parts['user']}@{host}:{parts['port']}/{parts['dbname']}"
    lines = ["[traffic]", *(f"{name}={value}" for name, value in parts.items())]
    (tmp_path / "services").write_text("\n".join(lines))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    for dsn in (module_database, url, "service=traffic"):
        with connect(dsn) as connection:
            assert connection.info.dbname == parts["dbname"]
    assert describe_dsn("service=traffic") == "service 'traffic'"


def test_describe_dsn_says_where() -> None:
    """Database, host and port; nothing of who or how."""
    assert describe_dsn("host=db.example.org dbname=t user=u password=x") == (
        "database 't' on db.example.org"
    )
    assert describe_dsn("postgresql://u:x@h:5433/t") == "database 't' on h, port 5433"
    assert describe_dsn("user=u") == "database 'of the user' on the local server"


@pytest.mark.parametrize(
    "options",
    [{"lock_timeout_s": 0}, {"attempts": 0}, {"connect_timeout_s": 0}, {"pause_s": -1},
     {"statement_timeout_s": -1}, {"lock_timeout_s": 1e9}, {"statement_timeout_s": float("inf")},
     {"lock_timeout_s": float("nan")}],
)  # fmt: skip
def test_patience_has_bounds(options: dict[str, Any]) -> None:
    """Nothing waits for ever, nothing never tries."""
    with pytest.raises(InputError, match="give"):
        Patience(**options)


@pytest.mark.parametrize(
    "name", ["", "pg_x", "public", "information_schema", "a\nb", "x" * 41, "é" * 21, "\ud800"]
)
def test_schema_names_that_cannot_be(name: str) -> None:
    with pytest.raises(InputError, match="`schema` is"):
        check_schema_name(name)


# ------------------------------------------------------------------------- what may not be found


def test_hostile_public_objects_are_not_found(database: str) -> None:
    """Better matches than the system's own, in `public` and in the user's schema, stay unused.

    Wherever everybody may create in `public` (the default until PostgreSQL 14), whoever does
    could otherwise make the publisher run his code.
    """
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA postgres")
        for schema in ("public", "postgres"):
            connection.execute(
                f"CREATE FUNCTION {schema}.bad(integer, interval) RETURNS interval "
                "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hostile operator'; END $$"
            )
            connection.execute(
                f"CREATE OPERATOR {schema}.* (LEFTARG = integer, RIGHTARG = interval, "
                f"FUNCTION = {schema}.bad)"
            )
            for function in (
                "hashtext(varchar)",
                "set_config(varchar, text, boolean)",
                "to_regclass(varchar)",
                "array_length(real[], smallint)",
                "generate_series(integer, smallint)",
            ):
                connection.execute(
                    f"CREATE FUNCTION {schema}.{function} RETURNS integer "
                    "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hostile function'; END $$"
                )
            for table in ("run", "node", "dataset", "pg_namespace", "staged_node"):
                connection.execute(f"CREATE TABLE {schema}.{table} (nothing integer)")
        with pytest.raises(psycopg.errors.RaiseException, match="hostile"):
            connection.execute("SELECT 2 * interval '1 minute'")
    init_schema(database, schema="traffic")
    for issue in range(2):
        publish_forecast(make_forecast(issue), database, schema="traffic")
    query(database, "SET search_path = pg_catalog; SELECT * FROM traffic.forecast_value")
    with connect(database) as connection:
        rows = execute(connection, "SELECT 2 * interval '1 minute'").fetchone()
        assert str(rows[0]) == "0:02:00"  # type: ignore[index]
        values = connection.execute("SELECT count(*) FROM traffic.forecast_value").fetchone()
        series = "SELECT count(*) FROM traffic.node_series('n0', '2024-01-01', '2025-01-01')"
        assert values == (2 * 6 * 3,)
    # also when the caller's own path has the hostile ones
    assert query(database, series) == [(4,)]


def test_postgis_in_a_schema_of_its_own(postgres_server: Server) -> None:
    """PostGIS need not be in `public`, nor its schema have a simple name."""
    database = postgres_server.create_database(postgis=False)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "gis extensions"')
        connection.execute('CREATE EXTENSION postgis SCHEMA "gis extensions"')
    init_schema(database)
    first = make_forecast(0)
    publish_forecast(first, database)
    several = shapely.multipoints([[[174.0 + i / 100, -36.0]] for i in range(6)])
    publish_forecast(replace(first, nodes=first.nodes.set_geometry(several)), database)
    publish_forecast(replace(make_forecast(1), nodes=first.nodes.set_geometry(several)), database)
    kinds = query(
        database,
        'SELECT f_table_name, type, srid FROM "gis extensions".geometry_columns '
        "WHERE f_table_name IN ('node', 'forecast_latest') ORDER BY 1",
    )
    assert kinds == [("forecast_latest", "MULTIPOINT", 4326), ("node", "MULTIPOINT", 4326)]
    with connect(database) as connection:
        assert spatial(connection, "geometry").as_string() == '"gis extensions"."geometry"'
    postgres_server.drop_database(database)


def test_no_postgis_says_what_to_run(postgres_server: Server) -> None:
    """`spatial` names the database and the command."""
    database = postgres_server.create_database(postgis=False)
    with connect(database) as connection, pytest.raises(OutputError, match="CREATE EXTENSION"):
        spatial(connection, "geometry")
    postgres_server.drop_database(database)


# -------------------------------------------------------------------------------------- attempts


def fail(connection: Any, code: str) -> None:
    """Let the server raise an error with a code."""
    connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '{code}'; END $$")


@pytest.mark.parametrize(
    "code", ["40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300", "08006"]
)
def test_what_passes_is_tried_again(
    module_database: str, pauses: list[float], caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """Each attempt is a transaction and a connection of its own, with doubled pauses between."""
    seen: list[int] = []

    def work(connection: Any) -> str:
        seen.append(connection.info.backend_pid)
        connection.execute("CREATE TABLE public.left_behind (a integer)")
        if len(seen) < 3:
            fail(connection, code)
        connection.execute("DROP TABLE public.left_behind")
        return "done"

    patience = Patience(attempts=3, pause_s=0.25)
    with caplog.at_level(logging.WARNING):
        assert run_transaction(module_database, work, patience=patience) == "done"
    assert len(set(seen)) == 3
    assert pauses == [0.25, 0.5]
    name = psycopg.conninfo.conninfo_to_dict(module_database)["dbname"]
    assert f"database '{name}' on" in caplog.text
    assert "made up; trying again in 0.2 s (2 of 3)" in caplog.text


@pytest.mark.parametrize("code", ["57014", "42501", "53100", "23505", "22003", "25006", "XX000"])
def test_what_does_not_pass_is_tried_once(
    module_database: str, pauses: list[float], code: str
) -> None:
    """A statement timeout, missing rights, a full disk: the same again would end the same."""
    seen: list[int] = []

    def work(connection: Any) -> None:
        seen.append(1)
        fail(connection, code)

    with pytest.raises(OutputError, match="nothing was written: made up"):
        run_transaction(module_database, work)
    assert (len(seen), pauses) == (1, [])


def test_attempts_are_bounded(module_database: str, pauses: list[float]) -> None:
    """In the end the error says how often it was tried, where and why."""
    with pytest.raises(OutputError, match=r"^database '.*' on .*, port \d+: nothing was written after 4 attempts: made up; another program holds a lock"):  # fmt: skip  # noqa: E501
        run_transaction(module_database, lambda c: fail(c, "55P03"), patience=Patience(attempts=4))
    assert pauses == [0.5, 1.0, 2.0]


def test_statement_timeout_for_real(module_database: str, pauses: list[float]) -> None:
    """A statement that takes too long is stopped, once, and the message says what to change."""
    patience = Patience(statement_timeout_s=0.05)
    with pytest.raises(OutputError, match="statement timeout; give it more time"):
        run_transaction(
            module_database, lambda c: c.execute("SELECT pg_sleep(30)"), patience=patience
        )
    assert pauses == []


def test_lock_timeout_for_real(module_database: str, pauses: list[float]) -> None:
    """A lock that another holds is not waited for longer than said."""
    with psycopg.connect(module_database) as other:
        other.execute("SELECT pg_advisory_xact_lock(77)")
        patience = Patience(lock_timeout_s=0.01, attempts=2)
        with pytest.raises(OutputError, match="after 2 attempts: canceling statement due to lock"):
            run_transaction(
                module_database,
                lambda c: c.execute("SELECT pg_advisory_xact_lock(77)"),
                patience=patience,
            )
    assert len(pauses) == 1


def test_deadlock_for_real(module_database: str) -> None:
    """Of two that wait for each other the victim tries again and gets through."""
    with psycopg.connect(module_database, autocommit=True) as setup:
        setup.execute("CREATE TABLE public.pair (a integer PRIMARY KEY)")
        setup.execute("INSERT INTO public.pair VALUES (1), (2)")
    update = "UPDATE public.pair SET a = a WHERE a = %s"
    seen: list[int] = []

    def work(connection: Any) -> None:
        seen.append(connection.info.backend_pid)
        connection.execute("SET LOCAL deadlock_timeout = '10ms'")  # so that we are the victim
        connection.execute(update, (1,))
        if len(seen) == 1:
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
            thread.start()
            wait_until(lambda: query(module_database, waits) == [(1,)], what="the other waits")
        connection.execute(update, (2,))

    with psycopg.connect(module_database) as other:
        other.execute("SET deadlock_timeout = '1h'")
        other.execute(update, (2,))
        thread = threading.Thread(target=lambda: (other.execute(update, (1,)), other.commit()))
        run_transaction(module_database, work, patience=replace(QUICK, lock_timeout_s=10))
        thread.join()
    assert len(seen) == 2


def test_killed_backend_does_no_harm(module_database: str) -> None:
    """Between calls there is nothing to kill; in the middle of one it starts again."""
    pids: list[int] = []

    def work(connection: Any) -> int:
        pids.append(connection.info.backend_pid)
        if len(pids) == 1:
            query(module_database, "SELECT pg_terminate_backend(%s)", pids[0])
        return int(connection.execute("SELECT 1").fetchone()[0])

    assert run_transaction(module_database, work, patience=QUICK) == 1
    with suppress(psycopg.Error):
        query(
            module_database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()",
        )
    assert run_transaction(module_database, work, patience=QUICK) == 1
    assert len(set(pids)) == 3


def test_lost_at_commit_is_not_called_unwritten(module_database: str) -> None:
    """Whether a commit was made that nobody confirmed is not known, and the message says so."""
    with psycopg.connect(module_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.fragile (a integer)")
        connection.execute(
            "CREATE FUNCTION public.die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON public.fragile DEFERRABLE "
            "INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.die()"
        )

    def work(connection: Any) -> None:
        connection.execute("INSERT INTO public.fragile VALUES (1)")

    with pytest.raises(OutputError, match=r"not known.*do it again, twice does no harm"):
        run_transaction(module_database, work, patience=QUICK)


def test_refused_then_up_again(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is being restarted is waited for."""
    own_server.cluster.stop()
    pauses: list[float] = []

    def start_instead(seconds: float) -> None:
        pauses.append(seconds)
        own_server.cluster.start()

    monkeypatch.setattr(connect_module, "time", SimpleNamespace(sleep=start_instead))
    tcp = own_server.cluster.dsn(tcp=True)
    row = run_transaction(tcp, lambda c: c.execute("SELECT 5").fetchone(), patience=QUICK)
    assert (row, len(pauses)) == ((5,), 1)


def test_never_up_again(own_server: Server, pauses: list[float]) -> None:
    """All attempts are made, and the message names the address and what to check."""
    own_server.cluster.stop()
    try:
        with pytest.raises(OutputError, match=r"on 127.0.0.1, port \d+ cannot be reached: .*refused.*check the address.*given up after 3 attempts"):  # fmt: skip  # noqa: E501
            run_transaction(own_server.cluster.dsn(tcp=True), lambda c: None, patience=QUICK)
    finally:
        own_server.cluster.start()
    assert len(pauses) == 2


def test_no_place_left_is_waited_for(own_server: Server, pauses: list[float]) -> None:
    """Too many clients pass; a wrong password does not."""
    with psycopg.connect(own_server.admin, autocommit=True) as connection:
        connection.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
    dsn = own_server.cluster.dsn(user="crowded")
    with pytest.raises(OutputError, match=r"too many connections.*after 3 attempts"):
        run_transaction(dsn, lambda c: None, patience=QUICK)
    assert len(pauses) == 2


@pytest.mark.parametrize("part", [{"dbname": "nowhere"}, {"user": "nobody_at_all"}])
def test_a_refusal_is_not_repeated(
    own_server: Server, pauses: list[float], part: dict[str, str]
) -> None:
    """What a running server refuses is tried twice: it may just have come up in between."""
    dsn = make_conninfo(own_server.admin, **part)
    with pytest.raises(OutputError, match=r"does not exist.*after 2 attempts"):
        run_transaction(dsn, lambda c: None, patience=Patience(attempts=9))
    assert len(pauses) == 1


@pytest.mark.parametrize("dsn", ["service=not_in_any_file", "host=127.0.0.1 sslmode=none"])
def test_what_names_no_server_is_not_repeated(pauses: list[float], dsn: str) -> None:
    """A misspelt service does not appear by waiting for it."""
    with pytest.raises(OutputError, match=r"cannot be reached.*after 2 attempts"):
        run_transaction(dsn, lambda c: None, patience=Patience(attempts=9))
    assert len(pauses) == 1


def test_tls_is_passed_on(own_server: Server, pauses: list[float]) -> None:
    """A server without TLS is refused when TLS is asked for, and the message says that."""
    dsn = make_conninfo(own_server.cluster.dsn(tcp=True), sslmode="require")
    with (
        pytest.raises(OutputError, match=r"does not support SSL.*check `sslmode` and the cert"),
        connect(dsn),
    ):
        pass
    missing = make_conninfo(dsn, sslmode="verify-full", sslrootcert="/nowhere/root.crt")
    with (
        pytest.raises(OutputError, match=r"/nowhere/root\.crt|does not support SSL"),
        connect(missing),
    ):
        pass
    with pytest.raises(OutputError, match="invalid sslmode value"), connect("sslmode=none"):
        pass


def test_other_errors_go_through(module_database: str) -> None:
    """What `work` raises itself is not touched, and its transaction is undone."""

    def work(connection: Any) -> None:
        connection.execute("CREATE TABLE public.undone (a integer)")
        raise InputError("the data are wrong")

    with pytest.raises(InputError, match=r"^the data are wrong$"):
        run_transaction(module_database, work)
    assert query(module_database, "SELECT to_regclass('public.undone')") == [(None,)]


def test_explained_says_what_was_done(module_database: str) -> None:
    with (
        pytest.raises(OutputError, match=r"could not read the nodes: relation \"gone\" does not"),
        explained(module_database, "read the nodes"),
        connect(module_database) as connection,
    ):
        connection.execute("SELECT * FROM gone")


# --------------------------------------------------------------------------------------- secrets


def everything_shown(error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    """Return whatever a log, a terminal or a report of errors could show."""
    texts = [str(error), repr(error), caplog.text]
    texts += [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    texts += traceback.format_exception(error)
    chained: BaseException | None = error
    while chained is not None:  # hidden ones as well
        texts += [str(chained), repr(chained), repr(chained.args)]
        chained = chained.__cause__ or chained.__context__
    return "\n".join(texts)


BAD_DSNS = [
    "postgresql://u:{}/ss@h",
    "postgresql://u:{}@ss@h/db",
    "postgresql://u:12/{}@h",
    "postgresql://u:{}",
    "postgresql://u:{}@[h/db",
    "postgresql://u:pa%zz{}@h/db",
    "postgresql://u:pa {}@h/db",
    "postgresql://u:pa/x?{}=1@h",
    "postgresql://u@h:{}/db",
    "http://u:{}@h/db",
    "postgresql:/u:{}@h/db",
    "host=h password=my {}",
    "host=h password='{}",
    "dbname=postgresql://u:{}@h/db",
    "host=u:{}@h",
    "{}",
    "host=h pasword={}",
    "password={}\x00",
    "  ",
]


@pytest.mark.parametrize("dsn", BAD_DSNS)
@pytest.mark.parametrize("call", [describe_dsn, lambda dsn: run_transaction(dsn, print)])
def test_a_bad_dsn_is_not_repeated(
    caplog: pytest.LogCaptureFixture, dsn: str, call: Callable[[str], object]
) -> None:
    """What cannot be understood may be a password in a wrong place: it is not shown at all."""
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError, match="`dsn` ") as caught:
        call(dsn.format(SECRET))
    shown = everything_shown(caught.value, caplog)
    lines = [line for line in shown.splitlines() if "call(dsn" not in line]
    assert SECRET not in "\n".join(lines)


GOOD_FORMS = [
    "host={host} port={port} dbname=postgres user=keeper password='{secret}'",
    "postgresql://keeper:{quoted}@{host}:{port}/postgres",
    "postgresql://{host}:{port}/postgres?user=keeper&password={quoted}",
    "postgresql://keeper:{quoted}@{host}:{port}/nowhere",
    "host={host} port=1 dbname=postgres user=keeper password='{secret}'",
    "host={host} port={port} user=keeper password='{secret}' sslmode=require "
    "sslpassword='{secret}'",
    "host=nowhere.invalid port={port} user=keeper password='{secret}'",
    "host={host} port={port} user=keeper password='{secret}' sslmode=verify-full "
    "sslrootcert='/nowhere/{secret}'",
]


@pytest.mark.parametrize("form", GOOD_FORMS)
@pytest.mark.parametrize("secret", [SECRET + "wrong", "p@ss/w?rd#%20: wrong"])
def test_a_failed_connection_shows_no_password(
    own_server: Server, caplog: pytest.LogCaptureFixture, form: str, secret: str
) -> None:
    """Wrong password, wrong database, nobody there, no TLS: where, but never with what."""
    port = str(own_server.cluster.port)
    dsn = form.format(host="127.0.0.1", port=port, secret=secret, quoted=quote(secret, safe=""))
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(OutputError, match="cannot be") as caught,
    ):
        run_transaction(dsn, print, patience=QUICK)
    shown = everything_shown(caught.value, caplog)
    assert secret not in shown
    assert quote(secret, safe="") not in shown
    assert secret not in describe_dsn(dsn)


def test_the_right_password_works_and_is_not_shown(
    own_server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in errors after the connection was made, from the environment and in `repr`."""
    dsn = make_conninfo(own_server.cluster.dsn(tcp=True, user="keeper"), password=SECRET)
    with caplog.at_level(logging.DEBUG), connect(dsn) as connection:
        assert SECRET not in repr(connection)
    for given in (dsn, own_server.cluster.dsn(tcp=True, user="keeper")):
        monkeypatch.setenv("PGPASSWORD", SECRET)
        with caplog.at_level(logging.DEBUG), pytest.raises(OutputError) as caught:
            init_schema(given, schema="forbidden", patience=QUICK)
        assert SECRET not in everything_shown(caught.value, caplog)
        with caplog.at_level(logging.DEBUG), pytest.raises(OutputError) as caught:
            run_transaction(given, lambda c: fail(c, "40001"), patience=QUICK)
        assert SECRET not in everything_shown(caught.value, caplog)


def test_names_are_quoted_in_execute(module_database: str) -> None:
    """Names go into `{}`, values into `%s`, and neither into the other."""
    odd = 'we"ird; {} %s'
    with connect(module_database) as connection:
        execute(connection, "CREATE TEMP TABLE {} (v text)", sql.Identifier(odd))
        insert = "INSERT INTO {} VALUES (%s)"
        execute(connection, insert, sql.Identifier(odd), parameters=("{} %s",))
        rows = execute(connection, "SELECT v FROM {}", sql.Identifier("pg_temp", odd)).fetchall()
    assert rows == [("{} %s",)]
