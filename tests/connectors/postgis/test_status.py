"""The status of a dataset: right numbers, ready for JSON, nothing secret, nothing changed."""

from __future__ import annotations

import json
from dataclasses import asdict

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from psycopg.conninfo import make_conninfo
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.schema import init_schema
from stgraph_connectors.postgis.status import database_status

from stgraph import registry
from stgraph.errors import OutputError
from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis


def publish(dsn: str, issued_at: str) -> None:
    """Publish a forecast of three nodes and two steps."""
    nodes = gpd.GeoDataFrame(
        {"kind": "station"},
        index=["a", "b", "c"],
        geometry=[shapely.Point(i, 0) for i in range(3)],
        crs="EPSG:4326",
    )
    graph = STGraph(
        nodes=nodes,
        time=pd.date_range(pd.Timestamp(issued_at) + pd.Timedelta("1h"), periods=2, freq="1h"),
        values=np.ones((2, 3, 1), dtype=np.float32),
        features=(Feature("speed", "km/h"),),
        provenance={"kind": "forecast", "issued_at": issued_at},
    )
    publish_forecast(graph, dsn)


def test_empty_schema(database: str) -> None:
    """Nothing is there, and nothing is a number or None."""
    init_schema(database)
    status = database_status(database)
    assert (status.n_issues, status.n_instants, status.n_failed, status.n_nodes) == (0, 0, 0, 0)
    assert status.current_issue is status.age_minutes is status.last_failure is None
    assert (status.layers, status.roles, status.removing) == ({}, {}, [])
    assert status.bytes["forecasts"] == status.bytes["layers"] == 0
    json.dumps(asdict(status))


def test_numbers(database: str) -> None:
    """Two issues, one failure, one reading, as they were put there."""
    init_schema(database, roles=True)
    publish(database, "2024-03-01T00:00:00+00:00")
    publish(database, "2024-03-01T01:00:00+00:00")
    with psycopg.connect(database) as connection:
        connection.execute("CREATE ROLE ana LOGIN IN ROLE stgraph_reader")
        connection.execute("CREATE ROLE ben LOGIN IN ROLE stgraph_reader, stgraph_writer")
        connection.execute(
            "INSERT INTO stgraph.run (issued_at, first_target, step, horizon, status, digest, "
            "message, library, document) VALUES ('2024-03-01T02:00Z', '2024-03-01T03:00Z', '1h', "
            "1, 'failed', '', 'the disk was full', '', '{}')"
        )
        connection.execute("SELECT stgraph.ensure_partition('observation', '2024-02-29')")
        connection.execute("INSERT INTO stgraph.observation VALUES ('2024-02-29T23:00Z', 1, 1, 5)")
        connection.execute("INSERT INTO stgraph.observation_time VALUES ('2024-02-29T23:00Z')")
        connection.execute("SELECT stgraph.ensure_partition('forecast', '2024-01-01')")
        connection.execute(
            "ALTER TABLE stgraph.forecast DETACH PARTITION stgraph.forecast_20240101"
        )
    writer = make_conninfo(database, user="ben")
    status = database_status(writer, now=pd.Timestamp("2024-03-01T02:30Z"))
    assert status.current_issue == status.last_issue == "2024-03-01T01:00:00+00:00"
    assert status.age_minutes == 90
    assert (status.n_nodes, status.n_issues, status.first_issue) == (
        3, 2, "2024-03-01T00:00:00+00:00",
    )  # fmt: skip
    assert (status.n_instants, status.first_reading) == (1, "2024-02-29T23:00:00+00:00")
    assert status.n_failed == 1
    assert status.last_failure == "2024-03-01T02:00:00+00:00: the disk was full"
    assert status.layers["forecast_latest"] == 6
    assert all(status.bytes[name] > 0 for name in ("forecasts", "readings", "layers", "other"))
    assert status.bytes["all"] == sum(status.bytes.values()) / 2
    assert status.removing == ["forecast_20240101"]
    assert status.roles["stgraph_reader"] == ["ana", "ben"]
    assert list(status.roles) == ["stgraph_owner", "stgraph_writer", "stgraph_reader"]
    assert json.loads(json.dumps(asdict(status)))["version"] == 3


def test_is_what_the_command_line_calls() -> None:
    """The registry knows it."""
    assert registry.load("database", "status") is database_status


def test_no_secret(database: str) -> None:
    """The password of the connection string is not in the status."""
    init_schema(database)
    status = database_status(make_conninfo(database, password="hunter2"))  # made up
    assert "hunter2" not in json.dumps(asdict(status))


def test_no_schema(database: str) -> None:
    """The command to run is named."""
    with pytest.raises(OutputError, match="stgraph db init"):
        database_status(database)
