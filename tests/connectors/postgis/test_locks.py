"""Readers never wait for publishers, publishers never for readers; nobody sees a mix."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pandas as pd
import psycopg
import pytest
from postgis_cases import (
    FIRST,
    STEP,
    held_back,
    make_forecast,
    open_reader,
    pause_at,
    query,
    wait_until,
)
from psycopg.conninfo import make_conninfo
from stgraph_connectors.postgis.connect import Patience
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.observations import publish_observations
from stgraph_connectors.postgis.schema import init_schema

from stgraph.errors import OutputError

pytestmark = pytest.mark.postgis
IMPATIENT = Patience(lock_timeout_s=0.05, attempts=1)
STUBBORN = Patience(lock_timeout_s=60, attempts=1)  # its locks are looked at while it is paused
READ = (  # what QGIS and people read
    "SELECT count(*), min(issued_at), max(issued_at) FROM stgraph.forecast_latest",
    "SELECT count(*), min(issued_at), max(issued_at) FROM stgraph.forecast_latest_h1",
    "SELECT count(*), min(issued_at), max(issued_at) FROM stgraph.forecast_value",
    "SELECT count(*), min(issued_at), max(issued_at) "
    "FROM stgraph.node_series('n1', '2024-01-01', '2025-01-01')",
)
NEXT_DAY = FIRST + pd.Timedelta(days=1)


@pytest.fixture
def dataset(database: str) -> str:
    """A dataset that shows issue 0 and some readings."""
    init_schema(database)
    publish_forecast(make_forecast(), database)
    publish_observations(readings(), database)
    return database


def readings(n_steps: int = 3) -> Any:
    """Return readings of the same nodes up to the first issue."""
    graph = make_forecast(-n_steps, horizon=n_steps, names=("speed",))
    return type(graph)(**{**graph.__dict__, "provenance": {}})


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def impatient(dsn: str) -> str:
    """Return a DSN of a reader that fails where it would have to wait."""
    return make_conninfo(dsn, options="-c lock_timeout=100ms")


# ------------------------------------------------------------------------- publishing does not wait

PUBLISHING: dict[str, Callable[[str], object]] = {
    "next issue": lambda dsn: publish_forecast(make_forecast(1), dsn, patience=IMPATIENT),
    "new day": lambda dsn: publish_forecast(
        make_forecast(1, issued_at=NEXT_DAY), dsn, patience=IMPATIENT
    ),
    "new nodes": lambda dsn: publish_forecast(make_forecast(1, n_nodes=8), dsn, patience=IMPATIENT),
    "same issue": lambda dsn: publish_forecast(make_forecast(), dsn, patience=IMPATIENT),
    "other values": lambda dsn: publish_forecast(
        make_forecast(1, issued_at=FIRST), dsn, patience=IMPATIENT
    ),
    "readings": lambda dsn: publish_observations(readings(4), dsn, patience=IMPATIENT),
}


@pytest.mark.parametrize("what", list(PUBLISHING))
def test_publishing_does_not_wait_for_readers(dataset: str, what: str) -> None:
    """With cursors open on all that is read, each routine publication goes through at once."""
    tables = ["forecast_latest", "forecast_latest_h1", "forecast_value", "observation_latest",
              "node_series('n1', '2024-01-01', '2025-01-01')", "run", "observation"]  # fmt: skip
    with psycopg.connect(dataset, application_name="QGIS") as qgis:
        for i, table in enumerate(tables):
            columns = "*" if i else "fid, issued_at"
            qgis.execute(f"DECLARE c{i} CURSOR FOR SELECT {columns} FROM stgraph.{table}")  # type: ignore[call-overload]
            qgis.execute(f"FETCH 1 FROM c{i}")  # type: ignore[call-overload]
        PUBLISHING[what](dataset)
        rest = qgis.execute("FETCH ALL FROM c0").fetchall()
        assert len(rest) == 18 - 1
        assert {row[1] for row in rest} == {FIRST}  # the reader goes on with its own


def test_an_open_cursor_keeps_its_issue(dataset: str) -> None:
    """What was fetched before and after two publications is one issue, complete."""
    with open_reader(
        dataset, "stgraph.forecast_latest", columns="fid, issued_at", fetch=5
    ) as cursor:
        rows = cursor.fetchall()
        for issue in (1, 2):
            publish_forecast(make_forecast(issue), dataset, patience=IMPATIENT)
        rows += cursor.connection.execute("FETCH ALL FROM qgis", binary=True).fetchall()
    assert len(rows) == 18
    assert {row[1] for row in rows} == {FIRST}
    assert len({row[0] for row in rows}) == 18


# ---------------------------------------------------------------------------- readers do not wait


def strong_locks(dsn: str, pid: int) -> list[tuple[str, str]]:
    """Return the relations a process holds that nobody may read meanwhile."""
    return query(
        dsn,
        "SELECT l.mode, l.relation::regclass::text FROM pg_locks l "
        "JOIN pg_class c ON c.oid = l.relation WHERE l.pid = %s AND l.granted "
        "AND l.mode IN ('AccessExclusiveLock', 'ExclusiveLock') "
        "AND c.relpersistence <> 't' AND c.relnamespace <> 'pg_toast'::regnamespace",
        pid,
    )


@pytest.mark.parametrize("what", ["next issue", "new day", "new nodes"])
def test_readers_do_not_wait_for_an_issue(
    dataset: str, pool: ThreadPoolExecutor, what: str
) -> None:
    """At the last statement before the commit no lock of the publisher keeps a reader out."""
    graph = {
        "next issue": make_forecast(1),
        "new day": make_forecast(1, issued_at=NEXT_DAY),
        "new nodes": make_forecast(1, n_nodes=8),
    }[what]
    before = [query(dataset, text) for text in READ]
    pause_at(dataset, "stgraph.current_issue")
    with held_back(dataset) as wait:
        done = pool.submit(publish_forecast, graph, dataset, patience=STUBBORN)
        pid = wait()
        assert strong_locks(dataset, pid) == []
        assert [query(impatient(dataset), text) for text in READ] == before
    assert done.result(30).is_current
    rows = query(dataset, READ[0])
    assert rows[0][1:] == 2 * (pd.Timestamp(graph.provenance["issued_at"]),)


def test_readers_do_not_wait_for_a_new_day(dataset: str, pool: ThreadPoolExecutor) -> None:
    """While the partition is made, nothing is locked that anybody else can see."""
    before = [query(dataset, text) for text in READ]
    pause_at(dataset, "stgraph.run")  # the partition is made before the run is announced
    graph = make_forecast(1, issued_at=NEXT_DAY)
    with held_back(dataset) as wait:
        done = pool.submit(publish_forecast, graph, dataset, patience=STUBBORN)
        pid = wait()
        known = {name for (name,) in query(dataset, "SELECT oid::regclass::text FROM pg_class")}
        assert [lock for lock in strong_locks(dataset, pid) if lock[1] in known] == []
        assert [query(impatient(dataset), text) for text in READ] == before
    assert done.result(30).is_current


def test_readers_do_not_wait_for_readings(dataset: str, pool: ThreadPoolExecutor) -> None:
    """The same for observations."""
    reads = ("SELECT count(*) FROM stgraph.observation_latest", READ[3])
    before = [query(dataset, text) for text in reads]
    pause_at(dataset, "stgraph.observation_latest")
    with held_back(dataset) as wait:
        done = pool.submit(publish_observations, readings(4), dataset, patience=STUBBORN)
        pid = wait()
        assert strong_locks(dataset, pid) == []
        assert [query(impatient(dataset), text) for text in reads] == before
    assert done.result(30).n_added == 6


def test_publishers_take_turns(dataset: str, pool: ThreadPoolExecutor) -> None:
    """A second publisher waits its turn, and gives up with a reason if that takes too long."""
    pause_at(dataset, "stgraph.current_issue")
    with held_back(dataset) as wait:
        first = pool.submit(publish_forecast, make_forecast(1), dataset, patience=STUBBORN)
        wait()
        with pytest.raises(OutputError, match="lock timeout; another program holds a lock"):
            publish_forecast(make_forecast(2), dataset, patience=IMPATIENT)
        second = pool.submit(publish_forecast, make_forecast(3), dataset, patience=STUBBORN)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: query(dataset, waiting) == [(2,)], what="the second publisher waits")
    assert first.result(30).is_current
    assert second.result(30).is_current
    states = query(dataset, "SELECT issued_at, status FROM stgraph.run ORDER BY 1")
    at = [FIRST + i * STEP for i in range(4)]
    expected = ["published", "published", "failed", "published"]
    assert states == list(zip(at, expected, strict=True))


# ------------------------------------------------------------------------------ no mix, no waiting


class Poller:
    """A reader that asks again and again, and notes what it saw and how long it took."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.seen: list[tuple[Any, ...]] = []
        self.longest_s = 0.0
        self.stopped = threading.Event()

    def has_seen(self, issued_at: pd.Timestamp) -> bool:
        return bool(self.seen) and self.seen[-1][0] == issued_at

    def run(self) -> None:
        text = (
            "SELECT (SELECT issued_at FROM stgraph.current_issue), count(*), "
            "count(DISTINCT issued_at), min(issued_at), min(target_time - horizon * %s::interval), "
            "max(target_time - horizon * %s::interval), min(speed)::integer / 1000, "
            "max(speed)::integer / 1000 FROM stgraph.forecast_latest"
        )
        step = STEP.to_pytimedelta()
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while not self.stopped.is_set():
                began = time.perf_counter()
                row = connection.execute(text, (step, step)).fetchone()
                self.longest_s = max(self.longest_s, time.perf_counter() - began)
                assert row is not None
                self.seen.append(row)


def test_readers_never_see_a_mix(dataset: str, pool: ThreadPoolExecutor) -> None:
    """Two readers poll while 20 issues are published: each answer is one whole issue."""
    pollers = [Poller(dataset), Poller(dataset)]
    futures: list[Future[None]] = [pool.submit(poller.run) for poller in pollers]
    for issue in range(1, 21):
        publish_forecast(make_forecast(issue, n_nodes=6), dataset, patience=IMPATIENT)
    for poller in pollers:
        wait_until(partial(poller.has_seen, FIRST + 20 * STEP), what="the last issue is seen")
        poller.stopped.set()
    for future, poller in zip(futures, pollers, strict=True):
        future.result(10)
        for pointer, count, kinds, issued, low, high, first, last_value in poller.seen:
            assert (count, kinds) == (18, 1)
            assert pointer == issued == low == high
            assert first == last_value == (pointer - FIRST) // STEP
        in_order = [row[0] for row in poller.seen]
        assert in_order == sorted(in_order)
        assert len(set(in_order)) > 1
        assert poller.longest_s < 1


# -------------------------------------------------------------------------- changes of structure


@pytest.mark.parametrize("change", [{"horizon": 4}, {"names": ("flow", "flow_q90")}])
def test_structure_waits_for_readers_and_gives_up(
    dataset: str, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    """Whoever reads a layer that must be rebuilt is named; the old one stays until then."""
    patience = Patience(lock_timeout_s=0.05, attempts=3, pause_s=0.01)
    graph = make_forecast(1, **change)
    layers = (
        "SELECT relname, oid FROM pg_class WHERE relnamespace = 'stgraph'::regnamespace "
        "AND relkind IN ('r', 'p') ORDER BY 1"
    )
    tables, before = query(dataset, layers), [query(dataset, text) for text in READ]
    with open_reader(dataset, "stgraph.forecast_latest_h1") as cursor:
        pid = cursor.connection.info.backend_pid
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(OutputError, match=rf"must be rebuilt.*QGIS \(process {pid}\) reads it"),
        ):
            publish_forecast(graph, dataset, patience=patience)
        named = [r for r in caplog.records if f"is read by QGIS (process {pid})" in r.getMessage()]
        assert len(named) == 2
        assert query(dataset, layers) == tables
        assert [query(impatient(dataset), text) for text in READ] == before
        rest = cursor.connection.execute("FETCH ALL FROM qgis").fetchall()
        assert len(rest) == 6 - 2
    states = query(
        dataset, "SELECT status, message ~ 'must be rebuilt' FROM stgraph.run ORDER BY 1"
    )
    assert states == [("failed", True), ("published", None)]
    done = publish_forecast(graph, dataset, patience=patience)
    assert done.layers_built == ("forecast_latest",)
    assert not [name for name, _ in query(dataset, layers) if "_next" in name]


def test_structure_goes_through_when_the_reader_goes(
    dataset: str, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader that ends between two attempts is enough."""
    patience = Patience(lock_timeout_s=0.05, attempts=200, pause_s=0.01)
    with caplog.at_level(logging.WARNING):
        with open_reader(dataset, "stgraph.forecast_latest"):
            done = pool.submit(publish_forecast, make_forecast(1, horizon=2), dataset,
                               patience=patience)  # fmt: skip
            wait_until(lambda: "is read by QGIS" in caplog.text, what="the first attempt")
        assert done.result(30).layers_built == ("forecast_latest",)
    assert query(dataset, READ[0])[0][0] == 12


def test_readers_wait_shortly_for_a_structure(dataset: str, pool: ThreadPoolExecutor) -> None:
    """Who comes while a blocked rebuild waits for its lock is served after less than a second."""
    patience = Patience(lock_timeout_s=30, attempts=2, pause_s=0.01)
    wants = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    with open_reader(dataset, "stgraph.forecast_latest"):
        done = pool.submit(
            publish_forecast, make_forecast(1, horizon=2), dataset, patience=patience
        )
        wait_until(lambda: query(dataset, wants) == [(1,)], what="the rebuild waits")
        began = time.perf_counter()
        assert query(dataset, READ[0])[0][0] == 18
        assert time.perf_counter() - began < 1
        with pytest.raises(OutputError, match="must be rebuilt"):
            done.result(30)
