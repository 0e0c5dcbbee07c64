"""Killed in the middle, for real: the last good issue stays, and the next publication works."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgis_cases import (
    FIRST,
    STEP,
    held_back,
    make_forecast,
    pause_at,
    query,
    wait_until,
)
from psycopg.conninfo import make_conninfo
from stgraph_connectors.postgis.connect import Patience
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.schema import init_schema
from throwaway_postgres import Server

from stgraph.errors import OutputError

pytestmark = pytest.mark.postgis
TESTS = str(Path(__file__).parents[2])
ONCE = Patience(lock_timeout_s=60, attempts=1)
AGAIN = Patience(lock_timeout_s=60, attempts=9, pause_s=0.05)


@pytest.fixture
def dataset(durable_server: Server) -> Iterator[str]:
    """A dataset that shows issue 0, on a server that waits for its disk."""
    dsn = durable_server.create_database()
    init_schema(dsn)
    publish_forecast(make_forecast(), dsn)
    yield dsn
    durable_server.drop_database(dsn)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def check(dsn: str, issue: int, *, rows: int = 18) -> None:
    """Check that everything that people see is one whole issue, and that this is the one."""
    at = FIRST + issue * STEP
    seen = query(
        dsn,
        "SELECT count(*), count(DISTINCT issued_at), min(issued_at), min(speed)::integer / 1000, "
        "max(speed)::integer / 1000 FROM stgraph.forecast_latest",
    )
    assert seen == [(rows, 1, at, issue, issue)]
    assert query(dsn, "SELECT issued_at FROM stgraph.current_issue") == [(at,)]
    stored = query(
        dsn,
        "SELECT count(*) FROM stgraph.forecast f WHERE NOT EXISTS (SELECT FROM stgraph.run r "
        "WHERE r.issued_at = f.issued_at AND r.status = 'published')",
    )
    assert stored == [(0,)]  # no rows of an issue that was not published


def states(dsn: str) -> list[str]:
    """Return the states of all runs, in the order of their announcement."""
    return [s for (s,) in query(dsn, "SELECT status FROM stgraph.run ORDER BY run_id")]


def check_next(dsn: str, issue: int = 2) -> None:
    """Check that the next publication works and leaves nothing unfinished behind."""
    done = publish_forecast(make_forecast(issue), dsn, patience=AGAIN)
    assert done.is_current
    check(dsn, issue)
    assert "loading" not in states(dsn)


# ------------------------------------------------------------ the publisher is killed

PUBLISH = """
import sys, time
sys.path.insert(0, {tests!r})
import psycopg
from postgis_cases import make_forecast
from stgraph_connectors.postgis.forecasts import publish_forecast
write, parts = psycopg.Copy.write, []
def stop_in_the_middle(copy, data):
    write(copy, data)
    parts.append(data)
    if len(parts) == {after}:
        print("in the middle", flush=True)
        time.sleep(600)
psycopg.Copy.write = stop_in_the_middle
publish_forecast(make_forecast(1, n_nodes={n_nodes}), sys.argv[1])
"""


@contextmanager
def publisher(dsn: str, *, after: int = -1, n_nodes: int = 6) -> Iterator[subprocess.Popen[str]]:
    """Start a process that publishes issue 1, and stops after some parts of its COPY."""
    code = PUBLISH.format(tests=TESTS, after=after, n_nodes=n_nodes)
    process = subprocess.Popen([sys.executable, "-c", code, dsn], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def nobody_works(dsn: str) -> bool:
    """Tell whether the server has noticed that the publisher is gone."""
    text = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stgraph'"
    return query(dsn, text) == [(0,)]


@pytest.mark.parametrize(("after", "n_nodes"), [(1, 6), (2, 20_000), (3, 20_000)])
def test_killed_in_its_copy(dataset: str, after: int, n_nodes: int) -> None:
    """kill -9 after the header, after one block, after two: nothing of the issue is there."""
    with publisher(dataset, after=after, n_nodes=n_nodes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in the middle\n"
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: nobody_works(dataset), what="the server noticed")
    check(dataset, 0)
    assert states(dataset) == ["published", "loading"]
    check_next(dataset)
    assert states(dataset) == ["published", "failed", "published"]
    message = query(dataset, "SELECT message FROM stgraph.run WHERE status = 'failed'")
    assert message == [("the publisher ended before it was done",)]


@pytest.mark.parametrize("table", ["stgraph.current_issue", "stgraph.forecast_latest_h2"])
def test_killed_before_its_commit(dataset: str, table: str) -> None:
    """kill -9 when all is loaded, in the update of the layers or of the pointer."""
    pause_at(dataset, table)
    with held_back(dataset) as wait, publisher(dataset) as process:
        wait()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        check(dataset, 0)
    wait_until(lambda: nobody_works(dataset), what="the server noticed")
    check(dataset, 0)
    check_next(dataset)
    assert states(dataset) == ["published", "failed", "published"]


def test_killed_while_its_server_still_works(dataset: str, pool: ThreadPoolExecutor) -> None:
    """The server's process outlives the killed one; the next publisher waits for it, and cleans."""
    pause_at(dataset, "stgraph.current_issue")
    with held_back(dataset) as wait, publisher(dataset) as process:
        wait()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done = pool.submit(publish_forecast, make_forecast(2), dataset, patience=AGAIN)
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: query(dataset, waits) == [(2,)], what="the next one waits its turn")
    assert done.result(30).is_current
    check(dataset, 2)
    check_next(dataset, 3)
    assert states(dataset) == ["published", "failed", "published", "published"]


# ------------------------------------------------------------ the server crashes


def test_server_restarts_in_the_middle(
    durable_server: Server, dataset: str, pool: ThreadPoolExecutor
) -> None:
    """As after a loss of power: the publisher comes back and does it again."""
    pause_at(dataset, "stgraph.current_issue")
    with suppress(psycopg.OperationalError), held_back(dataset) as wait:
        done = pool.submit(publish_forecast, make_forecast(1), dataset, patience=AGAIN)
        wait()
        durable_server.cluster.restart("immediate")
    assert done.result(60).is_current
    check(dataset, 1)
    check_next(dataset)
    assert states(dataset) == ["published", "published", "published"]


def test_server_restarts_and_we_try_once(
    durable_server: Server, dataset: str, pool: ThreadPoolExecutor
) -> None:
    """Without further attempts it is an error, and the issue before stays."""
    pause_at(dataset, "stgraph.current_issue")
    with suppress(psycopg.OperationalError), held_back(dataset) as wait:
        done = pool.submit(publish_forecast, make_forecast(1), dataset, patience=ONCE)
        wait()
        durable_server.cluster.restart("immediate")
    with pytest.raises(OutputError, match="nothing was written"):
        done.result(60)
    check(dataset, 0)
    check_next(dataset)
    assert states(dataset) == ["published", "failed", "published"]


def test_what_was_published_survives(durable_server: Server, dataset: str) -> None:
    """A crash right after the call returned loses nothing."""
    publish_forecast(make_forecast(1), dataset)
    durable_server.cluster.restart("immediate")
    check(dataset, 1)
    check_next(dataset)


# ------------------------------------------------------------ the connection breaks


@pytest.mark.parametrize("attempts", [1, 9])
def test_backend_is_terminated(dataset: str, pool: ThreadPoolExecutor, attempts: int) -> None:
    """An administrator ends our connection: once more, or an error if that was the last."""
    pause_at(dataset, "stgraph.current_issue")
    patience = Patience(lock_timeout_s=60, attempts=attempts, pause_s=0.01)
    with held_back(dataset) as wait:
        done = pool.submit(publish_forecast, make_forecast(1), dataset, patience=patience)
        query(dataset, "SELECT pg_terminate_backend(%s)", wait())
        if attempts > 1:
            wait()  # it is back
    if attempts == 1:
        with pytest.raises(OutputError, match="nothing was written: terminating connection"):
            done.result(30)
        check(dataset, 0)
        assert states(dataset) == ["published", "failed"]
    else:
        assert done.result(30).is_new
        check(dataset, 1)
    check_next(dataset)


class Proxy:
    """Passes TCP on to a server, and cuts the line once, when the client sends a certain text."""

    def __init__(self, port: int, *, text: bytes, once: bytes, deliver: bool) -> None:
        self.port, self.text, self.once, self.deliver = port, text, once, deliver
        self.n_cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self.port)) as server,
        ):
            self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        ready, sent = selectors.DefaultSelector(), b""
        for end in (client, server):
            ready.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                if not data:
                    return
                if key.fileobj is server:
                    client.sendall(data)
                    continue
                sent += data
                if not self.n_cuts and self.once in sent and self.text in sent:
                    self.n_cuts += 1
                    if self.deliver:
                        server.sendall(data)
                        server.recv(1 << 16)  # it was done, but nobody hears of it
                    return
                server.sendall(data)


CUTS: dict[str, dict[str, Any]] = {
    "in the COPY": {"text": b"PGCOPY", "once": b"forecast_2024", "deliver": False},
    "before the COMMIT": {"text": b"COMMIT\0", "once": b"PGCOPY", "deliver": False},
    "after the COMMIT": {"text": b"COMMIT\0", "once": b"PGCOPY", "deliver": True},
}


@pytest.mark.parametrize("where", list(CUTS))
@pytest.mark.parametrize("attempts", [1, 9])
def test_line_is_cut(durable_server: Server, dataset: str, where: str, attempts: int) -> None:
    """Also when nobody knows whether the commit was made: again does no harm."""
    proxy = Proxy(durable_server.cluster.port, **CUTS[where])
    through = make_conninfo(dataset, host="127.0.0.1", port=str(proxy.listener.getsockname()[1]))
    patience = Patience(lock_timeout_s=60, attempts=attempts, pause_s=0.01)
    made = where == "after the COMMIT"
    with closing(proxy):
        if attempts == 1:
            reason = (
                "nothing was written" if where == "in the COPY" else "is not known.*do it again"
            )
            with pytest.raises(OutputError, match=reason):
                publish_forecast(make_forecast(1), through, patience=patience)
        else:
            done = publish_forecast(make_forecast(1), through, patience=patience)
            assert done.is_current
        assert proxy.n_cuts == 1
    wait_until(lambda: nobody_works(dataset), what="the server noticed")
    check(dataset, 1 if made or attempts > 1 else 0)
    if attempts == 1:
        again = publish_forecast(make_forecast(1), dataset, patience=patience)
        assert (again.is_new, again.is_current) == (not made, True)
        check(dataset, 1)
    expected = query(dataset, "SELECT count(*) FROM stgraph.forecast")
    assert expected == [(2 * 6,)]
    check_next(dataset)
    assert states(dataset).count("published") == 3


# ------------------------------------------------------------ the disk is full


@pytest.fixture
def small_disk(durable_server: Server) -> Iterator[Path]:
    """A file system of 48 MB that the server can write to."""
    # shown as an expected failure, as no test command can give itself that right
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.xfail("only root can mount a small disk")
    folder = durable_server.cluster.folder / "small"
    folder.mkdir(exist_ok=True)
    options = f"size=48m,mode=0700,uid={durable_server.cluster.data.stat().st_uid}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.xfail(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, *, leave_bytes: int) -> Path:
    """Write a file that leaves so much on a disk, and return it."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - leave_bytes)))
    return ballast


@pytest.mark.parametrize("leave_bytes", [100_000, 1_000_000, 3_000_000])
def test_disk_is_full(durable_server: Server, small_disk: Path, leave_bytes: int) -> None:
    """No room for an issue: one try, an advice, and the issue before stays until there is room."""
    where, name = str(small_disk), "on_small_disk"
    with psycopg.connect(durable_server.admin, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{where}'")  # type: ignore[call-overload]
        connection.execute(f"CREATE DATABASE {name} TABLESPACE small")  # type: ignore[call-overload]
    dsn = durable_server.dsn(name)
    try:
        init_schema(dsn)
        publish_forecast(make_forecast(n_nodes=50), dsn)
        ballast = fill(small_disk, leave_bytes=leave_bytes)
        large = make_forecast(1, n_nodes=5000)
        with pytest.raises(
            OutputError, match=r"nothing was written: could not .*prune: stgraph db prune"
        ):
            publish_forecast(large, dsn)
        check(dsn, 0, rows=150)
        assert states(dsn) == ["published", "failed"]
        ballast.unlink()
        assert publish_forecast(large, dsn).is_current
        check(dsn, 1, rows=15_000)
        assert states(dsn) == ["published", "failed", "published"]
    finally:
        with psycopg.connect(durable_server.admin, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[call-overload]
            connection.execute("DROP TABLESPACE small")
