"""The throw-away PostgreSQL server does what the database tests rely on."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path

import postgres_programs
import psycopg
import pytest
import throwaway_postgres
from postgres_programs import PostgresMissingError, Programs
from psycopg.conninfo import conninfo_to_dict
from throwaway_postgres import Server, open_server, start_server

pytestmark = [pytest.mark.postgis, pytest.mark.usefixtures("postgres_programs")]
HERE = Path(__file__).parent


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]
        return None if row is None else row[0]


def test_postgis_answers(database: str) -> None:
    assert ask(database, "SELECT ST_AsText(ST_MakePoint(1, 2)::geometry(Point))") == "POINT(1 2)"
    assert ask(database, "SHOW server_encoding") == "UTF8"


def test_every_database_is_fresh_and_dropped_while_in_use(postgres_server: Server) -> None:
    first = postgres_server.create_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE t (i int)")
        connection.commit()
        second = postgres_server.create_database()
        assert ask(second, "SELECT to_regclass('t')") is None
        postgres_server.drop_database(first)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    postgres_server.drop_database(second)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(first)


def test_hostile_database_names(postgres_server: Server) -> None:
    dsn = postgres_server.create_database("""o'dd "na%me\\ =""", postgis=False)
    assert ask(dsn, "SELECT current_database()") == """o'dd "na%me\\ ="""
    postgres_server.drop_database(dsn)


@pytest.fixture(scope="module")
def roles_before(postgres_server: Server) -> int:
    return int(str(ask(postgres_server.admin, "SELECT count(*) FROM pg_roles")))


@pytest.mark.parametrize("turn", [1, 2])
def test_roles_of_a_test_are_gone_afterwards(
    roles_before: int, postgres_server: Server, database: str, turn: int
) -> None:
    if not postgres_server.is_ours:
        return
    assert ask(database, "SELECT count(*) FROM pg_roles") == roles_before
    with psycopg.connect(database) as connection:
        connection.execute("CREATE ROLE stgraph_test_role")
        connection.execute("CREATE TABLE t (); GRANT SELECT ON t TO stgraph_test_role")


def test_committed_rows_survive_a_crash(durable_server: Server) -> None:
    dsn = durable_server.create_database()
    cluster = durable_server.cluster
    assert [ask(dsn, f"SHOW {name}") for name in throwaway_postgres.FAST] == ["on"] * 3
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS i")
        connection.commit()
        connection.execute("UPDATE t SET i = 8")
        cluster.restart("immediate")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert ask(dsn, "SELECT i FROM t") == 7
    assert "automatic recovery in progress" in cluster.log
    cluster.kill()
    cluster.start()
    assert ask(dsn, "SELECT i FROM t") == 7


def test_settings_tcp_and_stop() -> None:
    settings = {"timezone": "Pacific/Auckland", "application_name": "o'n"}
    with start_server(settings=settings) as it:
        folder, pid = it.cluster.folder, it.cluster.pid
        assert ask(it.cluster.dsn(tcp=True), "SHOW timezone") == "Pacific/Auckland"
        assert ask(it.cluster.dsn(), "SHOW application_name") == "o'n"
        assert pid is not None
        it.cluster.stop()
        it.cluster.stop()
        assert it.cluster.pid is None
        it.cluster.start()
    assert not folder.exists()
    assert it.cluster.pid is None
    it.cluster.remove()
    it.close()


def test_a_server_that_cannot_start_says_why_and_leaves_nothing() -> None:
    before = set(Path("/tmp").glob(f"{throwaway_postgres.PREFIX}*"))
    with pytest.raises(RuntimeError, match='unrecognized configuration parameter "nonsense"'):
        start_server(settings={"nonsense": "1"})
    assert set(Path("/tmp").glob(f"{throwaway_postgres.PREFIX}*")) <= before


def test_another_server_is_used_and_left_running(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STGRAPH_TEST_DSN", postgres_server.dsn("postgres"))
    with open_server() as other:
        assert not other.is_ours
        with pytest.raises(RuntimeError, match="not ours to stop"):
            _ = other.cluster
        dsn = other.create_database()
        assert ask(dsn, "SELECT postgis_lib_version()")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(dsn)
    assert ask(postgres_server.admin, "SELECT 1") == 1
    # a URL works as well as words
    monkeypatch.setenv("STGRAPH_TEST_DSN", "postgresql://somebody@example.test:1234/first?x=1")
    assert conninfo_to_dict(Server("postgresql://me@h:1/a").dsn("b", user="you")) == {
        "user": "you", "host": "h", "port": "1", "dbname": "b",
    }  # fmt: skip


RUN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from throwaway_postgres import start_server
import psycopg
server = start_server()
with psycopg.connect(server.create_database()) as connection:
    print(connection.execute("SELECT postgis_lib_version()").fetchone()[0])
print(server.cluster.folder, server.cluster.pid, flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    path = tmp_path / "run.py"
    path.write_text(RUN)
    return path


def start_run(path: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(path), str(HERE), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def read_run(run: subprocess.Popen[str]) -> tuple[Path, int]:
    assert run.stdout is not None
    assert run.stdout.readline().startswith("3.")
    folder, pid = run.stdout.readline().split()
    return Path(folder), int(pid)


@pytest.mark.parametrize("interrupt", [False, True])
def test_nothing_stays_when_a_run_ends_or_is_interrupted(runner: Path, interrupt: bool) -> None:
    """No `with`, no fixture: the end of Python, also by Ctrl-C, removes server and files."""
    with start_run(runner, 60 if interrupt else 0) as run:
        folder, pid = read_run(run)
        if interrupt:
            assert folder.exists()
            run.send_signal(signal.SIGINT)
    assert not folder.exists()
    assert is_gone(pid)


def test_the_next_run_removes_what_a_killed_one_left(runner: Path) -> None:
    with start_run(runner, 60) as run:
        folder, pid = read_run(run)
        throwaway_postgres.remove_leftovers(folder.parent)
        assert folder.exists()  # in use
        run.kill()
    assert folder.exists()
    throwaway_postgres.remove_leftovers(folder.parent)
    assert not folder.exists()
    assert is_gone(pid)


def is_gone(pid: int) -> bool:
    path = Path(f"/proc/{pid}/cmdline")
    for _ in range(100):
        if not path.exists() or not path.read_bytes():
            return True
        time.sleep(0.05)
    return False


def test_a_stale_pid_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n/somewhere\n")
    assert throwaway_postgres._server_of(tmp_path) is None


def test_runs_without_being_root(runner: Path) -> None:
    """What developers have: an ordinary user, no rights beyond its own."""
    if os.geteuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    for name in ("nobody", "postgres"):
        entry = pwd.getpwnam(name)
        with start_server(account=name) as server:
            assert server.cluster.data.stat().st_uid == entry.pw_uid
            assert ask(server.create_database(), "SELECT postgis_lib_version()")


def test_what_is_missing_comes_with_the_two_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(postgres_programs, "find_programs", list)
    with pytest.raises(PostgresMissingError, match=r"install -y postgresql\n.*-postgis-3"):
        postgres_programs.need_programs()
    bare = Programs(Path("/usr/lib/postgresql/15/bin"), 15, has_postgis=False)
    monkeypatch.setattr(postgres_programs, "find_programs", lambda: [bare])
    with pytest.raises(PostgresMissingError, match="apt-get install -y postgresql-15-postgis-3"):
        postgres_programs.need_programs()


def test_root_installs_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First the server, then the PostGIS of its version, and no cluster of the distribution's."""
    said: list[str] = []
    no_cluster = tmp_path / "createcluster.d" / "stgraph-tests.conf"

    def find() -> list[Programs]:
        have = " ".join(said)
        ready = Programs(Path("/bin"), 17, has_postgis="postgresql-17-postgis-3" in have)
        return [ready] if "postgresql" in have else []

    def apt_get(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert no_cluster.read_text() == "create_main_cluster = false\n"
        said.append(" ".join(command[4:]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres_programs, "NO_CLUSTER", no_cluster)
    monkeypatch.setattr(postgres_programs, "find_programs", find)
    monkeypatch.setattr(postgres_programs.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(postgres_programs.subprocess, "run", apt_get)
    assert postgres_programs.need_programs().major == 17
    assert said == [
        "update",
        "install -y --no-install-recommends postgresql",
        "install -y --no-install-recommends postgresql-17-postgis-3",
    ]
    assert not no_cluster.exists()


MARKED = """
import pytest

@pytest.mark.postgis
def test_skipped():
    pytest.skip("no server")

@pytest.mark.postgis
@pytest.mark.xfail(reason="known")
def test_expected_to_fail():
    assert False

def test_may_be_skipped():
    pytest.skip("why not")
"""


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 failed, 1 skipped"), ("", "2 skipped")])
def test_a_skip_is_a_failure_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    assert f"{outcome}, 1 xfailed" in run_pytest(tmp_path, MARKED, ci)


def test_a_database_test_must_carry_the_marker(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, "def test_it(database): pass")
    assert "mark with @pytest.mark.postgis: test_inner.py::test_it" in said


def run_pytest(folder: Path, text: str, ci: str = "") -> str:
    (folder / "test_inner.py").write_text(text)
    paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider",
         "-c", str(HERE.parent / "pyproject.toml"), "--rootdir", str(folder), str(folder)],
        env=os.environ | {"PYTHONPATH": paths, "CI": ci},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr
