"""A day of issues every five minutes, published while three readers poll the layers.

    python tests/benchmarks/publish_day.py [--quick]

288 issues of 50,000 road segments and 12 horizons; a second stands for the minutes between them.
The readers fetch areas as QGIS does, and note how long they wait and which issues they see.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from multiprocessing.synchronize import Event, Semaphore

import psycopg
from _common import Row, at_most, main
from _segments import make_issues, make_segments, start_durable_server
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.schema import init_schema

_N_READERS = 3
_PAUSE_S = 0.2  # between two polls of a reader
_BETWEEN_S = 1.0  # two issues; longer than any query, so that no reader is still at the last one
_BOX = "ST_MakeEnvelope(8, 47, 8.0445, 47.0445, 4326)"
_LAYER = "stgraph.forecast_latest"


def measure(quick: bool) -> list[Row]:
    """Return all rows of the table."""
    n_segments, n_issues, settled = (1_000, 12, 4) if quick else (50_000, 288, 10)
    segments = make_segments(n_segments)
    context = multiprocessing.get_context("spawn")
    with start_durable_server() as server:
        dsn = server.create_database()
        init_schema(dsn)
        issues = make_issues(segments, n_issues)
        publish_forecast(next(issues), dsn)
        stop, ready = context.Event(), context.Semaphore(0)
        with context.Pool(_N_READERS, initializer=_remember, initargs=(stop, ready)) as pool:
            seen = pool.map_async(_poll, [dsn] * _N_READERS, chunksize=1)
            for _ in range(_N_READERS):
                ready.acquire()
            seconds: list[float] = []
            early: dict[str, float] = {}
            for number, issue in enumerate(issues, start=2):
                began = time.perf_counter()
                publish_forecast(issue, dsn)
                seconds.append(time.perf_counter() - began)
                time.sleep(_BETWEEN_S)
                if number == settled:
                    early = _state(dsn)
            late = _state(dsn)
            stop.set()
            readers = seen.get(timeout=60)
    return _rows(n_issues, seconds, early, late, readers)


def _rows(
    n_issues: int,
    seconds: list[float],
    early: dict[str, float],
    late: dict[str, float],
    readers: list[tuple[int, int, float, float]],
) -> list[Row]:
    """Return the rows of the table."""
    rows = [
        Row("issues published", n_issues, ""),
        Row("publish, median", statistics.median(seconds), "s"),
        Row("publish, longest", max(seconds), "s"),
        Row("polls of the readers", sum(polls for polls, *_ in readers), ""),
        at_most("polls that saw two issues", sum(mixed for _, mixed, *_ in readers), "", 0),
        Row("a reader's wait, median", statistics.median(r[2] for r in readers), "s"),
        at_most("a reader's wait, longest", max(r[3] for r in readers), "s", 1),
    ]
    for name, after in late.items():
        goal = 1.5 if "all issues" not in name else None  # that one returns 29 times the rows
        value = after / early[name]
        rows.append(Row(name, value, "x") if goal is None else at_most(name, value, "x", goal))
    return rows


def _state(dsn: str) -> dict[str, float]:
    """Return sizes and query times now."""
    queries = {
        "box": f"SELECT geom, speed FROM {_LAYER}_h6 WHERE geom && {_BOX}",
        "frame": f"SELECT geom, speed FROM {_LAYER} WHERE target_time = (SELECT min(target_time) "
        f"FROM {_LAYER}_h6)",
        "identify": f"SELECT * FROM {_LAYER} WHERE fid = 6000017",
        "series of the latest issue": f"SELECT * FROM {_LAYER} WHERE node_id = 'way/17'",
        "series of all issues": "SELECT * FROM stgraph.forecast_value WHERE node_id = 'way/17'",
    }
    result = {}
    with psycopg.connect(dsn, autocommit=True) as db:
        for name, query in queries.items():
            times = []
            for _ in range(11):
                began = time.perf_counter()
                db.execute(query, binary=True).fetchall()
                times.append(time.perf_counter() - began)
            result[f"{name}, end / begin"] = statistics.median(times)
        size = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(%s)"
        layer = db.execute(size, (_LAYER,)).fetchone()[0]
        forecast = db.execute(size, ("stgraph.forecast",)).fetchone()[0]
        n_issues = db.execute("SELECT count(*) FROM stgraph.run").fetchone()[0]
    result["size of the layer, end / begin"] = float(layer)
    result["size of an issue, end / begin"] = float(forecast) / n_issues
    return result


_stop: Event
_ready: Semaphore


def _remember(stop: Event, ready: Semaphore) -> None:
    """Give a reader's process what ends it, and what it tells its first poll to."""
    global _stop, _ready
    _stop, _ready = stop, ready


def _poll(dsn: str) -> tuple[int, int, float, float]:
    """Read an area again and again: polls, polls that saw two issues, median and longest wait."""
    waits, mixed = [], 0
    with psycopg.connect(dsn, autocommit=True) as db:
        while not _stop.is_set():
            began = time.perf_counter()
            rows = db.execute(
                f"SELECT fid, geom, speed, issued_at FROM {_LAYER} WHERE geom && {_BOX}",
                binary=True,
            ).fetchall()
            waits.append(time.perf_counter() - began)
            mixed += len({row[3] for row in rows}) > 1
            if len(waits) == 1:
                _ready.release()
            time.sleep(_PAUSE_S)
    return len(waits), mixed, statistics.median(waits), max(waits)


if __name__ == "__main__":
    main(__doc__ or "", measure)
