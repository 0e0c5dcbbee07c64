"""Hand-made forecasts for the tests of PostGIS, and looks into a database that need no sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg

from stgraph.graph import Feature, STGraph

FIRST = pd.Timestamp("2024-05-01T10:00:00Z")
STEP = pd.Timedelta(minutes=5)
TARGETS = ("speed", "speed_q10", "speed_q50", "speed_q90")


def make_forecast(
    issue: int = 0,
    *,
    issued_at: pd.Timestamp | None = None,
    n_nodes: int = 6,
    horizon: int = 3,
    names: tuple[str, ...] = TARGETS,
    ids: list[str] | None = None,
    kind: str = "station",
    model: str = "hand-made",
    extra: dict[str, Any] | None = None,
) -> STGraph:
    """Return the forecast number `issue` of a line of stations, made `issue` steps after FIRST.

    Horizon h (from 1), node i and feature f have 1000 * issue + 100 * h + i % 90 + f / 8.
    """
    issued_at = FIRST + issue * STEP if issued_at is None else issued_at
    xy = 174.0 + 0.001 * np.arange(n_nodes)
    nodes = gpd.GeoDataFrame(
        {"kind": kind, **(extra or {})},
        index=pd.Index(ids or [f"n{i}" for i in range(n_nodes)], dtype=object),
        geometry=gpd.points_from_xy(xy, np.full(n_nodes, -36.8)),
        crs="EPSG:4326",
    )
    h, i, f = np.meshgrid(
        np.arange(1, horizon + 1), np.arange(n_nodes), np.arange(len(names)), indexing="ij"
    )
    return STGraph(
        nodes=nodes,
        edge_index=np.array([np.arange(n_nodes - 1), np.arange(1, n_nodes)]),
        edge_weight=np.full(n_nodes - 1, 100.0, dtype=np.float32),
        weight_unit="m",
        time=pd.date_range(issued_at + STEP, periods=horizon, freq=STEP),
        values=(1000.0 * issue + 100.0 * h + i % 90 + f / 8).astype(np.float32),
        features=tuple(Feature(name, "km/h") for name in names),
        zone="Pacific/Auckland",
        provenance={
            "kind": "forecast",
            "issued_at": issued_at.isoformat(),
            "model": model,
            "step_minutes": 5.0,
            "horizon": horizon,
        },
    )


def query(dsn: str, text: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Return the rows of a query, in a connection of its own."""
    with psycopg.connect(dsn) as connection:
        cursor = connection.execute(text, parameters or None)  # type: ignore[call-overload]
        return list(cursor.fetchall()) if cursor.description else []


def wait_until(happened: Callable[[], object], *, what: str, timeout_s: float = 20.0) -> Any:
    """Ask again and again until the answer is true, and return it; fail after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (answer := happened()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for: {what}"
        time.sleep(0.005)
    return answer


@contextmanager
def open_reader(
    dsn: str, table: str, *, columns: str = "*", fetch: int = 2
) -> Iterator[psycopg.Cursor[Any]]:
    """Read a table as QGIS does: a cursor in a transaction, fetched in part, left open."""
    with psycopg.connect(dsn, application_name="QGIS", autocommit=True) as connection:
        connection.execute("BEGIN READ ONLY")
        connection.execute(f"DECLARE qgis BINARY CURSOR FOR SELECT {columns} FROM {table}")
        cursor = connection.execute(f"FETCH FORWARD {fetch} FROM qgis")
        yield cursor
        connection.execute("ROLLBACK")


PAUSE = 4711  # the advisory lock that a paused publisher waits for


def pause_at(dsn: str, table: str) -> None:
    """Let every change of a table wait until nobody holds the advisory lock PAUSE."""
    query(
        dsn,
        "CREATE FUNCTION public.pause() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_advisory_xact_lock_shared({PAUSE}); RETURN NEW; END $$",
    )
    query(
        dsn,
        f"CREATE TRIGGER pause BEFORE INSERT OR UPDATE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION public.pause()",
    )


@contextmanager
def held_back(dsn: str) -> Iterator[Callable[[], int]]:
    """Hold the lock PAUSE; the function waits for who is paused and returns the process."""
    waiting = (
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %s "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    def wait() -> int:
        rows = wait_until(lambda: query(dsn, waiting, PAUSE), what="a publisher that is paused")
        return int(rows[0][0])

    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (PAUSE,))
        yield wait
