"""Shared fixtures: hand-made graphs, the folder of real data, databases; and what CI refuses."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
from postgres_programs import PostgresMissingError, Programs, need_programs
from psycopg import sql
from throwaway_postgres import Server, open_server, start_server

from stgraph.graph import Feature, STGraph

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
NEVER_SKIPPED = ("data", "postgis", "qgis")  # in CI
DATABASE_FIXTURES = {
    "postgres_programs",
    "postgres_server",
    "durable_server",
    "database",
    "module_database",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that uses a database and does not say so."""
    unmarked = [
        item.nodeid
        for item in items
        if DATABASE_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        and item.get_closest_marker("postgis") is None
    ]
    if unmarked:
        raise pytest.UsageError(f"mark with @pytest.mark.postgis: {', '.join(unmarked)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn the skip of a test that needs data, PostGIS or QGIS into a failure."""
    report = yield
    markers = [name for name in NEVER_SKIPPED if item.get_closest_marker(name)]
    if IN_CI and report.skipped and markers and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, which {markers} must not be: {report.longreprtext}"
    return report


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data sets; missing in CI is a failure, elsewhere a skip."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("STGRAPH_DATA", default))
    if not folder.is_dir():
        message = f"no data sets at {folder}; set STGRAPH_DATA"
        pytest.fail(message) if IN_CI else pytest.skip(message)
    return folder


def make_points(n_nodes: int = 5, *, crs: str = "EPSG:2193") -> gpd.GeoDataFrame:
    """Return nodes ``a, b, c, ...`` on a line, 100 m apart."""
    ids = [chr(ord("a") + i) for i in range(n_nodes)]
    xy = 1_750_000.0 + 100.0 * np.arange(n_nodes)
    points = gpd.points_from_xy(xy, np.full(n_nodes, 5_900_000.0))
    return gpd.GeoDataFrame({"kind": "station"}, index=ids, geometry=points, crs=crs)


@pytest.fixture
def points() -> gpd.GeoDataFrame:
    """Five stations on a line, 100 m apart."""
    return make_points()


@pytest.fixture
def graph(points: gpd.GeoDataFrame) -> STGraph:
    """Five stations, ten steps of 5 minutes, edges both ways along the line, one value missing."""
    source = [0, 1, 2, 3, 1, 2, 3, 4]
    target = [1, 2, 3, 4, 0, 1, 2, 3]
    values = np.arange(50, dtype=np.float32).reshape(10, 5, 1)
    values[4, 2, 0] = np.nan
    return STGraph(
        nodes=points,
        edge_index=np.array([source, target]),
        edge_weight=np.full(8, 100.0, dtype=np.float32),
        weight_unit="m",
        time=pd.date_range("2024-01-01", periods=10, freq="5min", tz="UTC"),
        values=values,
        features=(Feature("speed", "km/h"),),
        zone="Pacific/Auckland",
    )


@pytest.fixture(scope="session")
def postgres_programs() -> Programs:
    """An installed PostgreSQL with PostGIS, for tests that call `start_server` themselves."""
    try:
        return need_programs()
    except PostgresMissingError as error:
        pytest.fail(str(error)) if IN_CI else pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A server with PostGIS: that of STGRAPH_TEST_DSN, or a throw-away one (without fsync)."""
    try:
        server = open_server()
    except PostgresMissingError as error:
        pytest.fail(str(error)) if IN_CI else pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(scope="module")
def durable_server(postgres_programs: Programs) -> Iterator[Server]:
    """A throw-away server for this module alone, to be stopped, killed and restarted."""
    with start_server(durable=True) as server:
        yield server


@pytest.fixture
def database(postgres_server: Server) -> Iterator[str]:
    """DSN of a fresh database with PostGIS, dropped after the test with the roles it made."""
    yield from _lend_database(postgres_server)


@pytest.fixture(scope="module")
def module_database(postgres_server: Server) -> Iterator[str]:
    """DSN of a fresh database with PostGIS that the tests of a module share."""
    yield from _lend_database(postgres_server)


def _lend_database(server: Server) -> Iterator[str]:
    before = _roles(server)
    dsn = server.create_database()
    yield dsn
    server.drop_database(dsn)
    if server.is_ours:
        with psycopg.connect(server.admin, autocommit=True) as connection:
            for role in _roles(server) - before:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def _roles(server: Server) -> set[str]:
    with psycopg.connect(server.admin) as connection:
        return {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
