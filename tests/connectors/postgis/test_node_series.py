"""`node_series` and `forecast_value`: what people ask of a node, against answers by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from psycopg import sql
from psycopg.conninfo import make_conninfo
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.places import sync_features, sync_nodes
from stgraph_connectors.postgis.schema import init_schema

from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis

Connection = psycopg.Connection[tuple[Any, ...]]

SPEED = (Feature("speed", "km/h"), Feature("speed_q10", "km/h"), Feature("speed_q90", "km/h"))
FLOW = Feature("flow", "veh/h")
NAN = float("nan")


def make_forecast(
    issued_at: str, values: list[list[float]], *, step: str = "5min", ids: tuple[str, ...] = ("a",)
) -> STGraph:
    """A forecast; `values` has the mean of speed, its two quantiles and flow, for each step."""
    nodes = gpd.GeoDataFrame(
        {"kind": "station"},
        index=list(ids),
        geometry=[shapely.Point(i, 0) for i in range(len(ids))],
        crs="EPSG:4326",
    )
    table = np.array(values, dtype=np.float32)[:, None, :] + 100.0 * np.arange(len(ids))[:, None]
    first = pd.Timestamp(issued_at) + pd.Timedelta(step)
    return STGraph(
        nodes=nodes,
        time=pd.date_range(first, periods=len(values), freq=step),
        values=table.astype(np.float32),
        features=(*SPEED, FLOW),
        provenance={
            "kind": "forecast",
            "issued_at": issued_at,
            "step_minutes": pd.Timedelta(step) / pd.Timedelta("1min"),
        },
    )


def observe(dsn: str, node: str, feature: str, readings: dict[str, float]) -> None:
    """Insert readings of a node by SQL."""
    with psycopg.connect(dsn) as connection:
        for instant, value in readings.items():
            connection.execute(
                "SELECT stgraph.ensure_partition('observation', "
                "(%s::timestamptz AT TIME ZONE 'UTC')::date)",
                (instant,),
            )
            connection.execute(
                "INSERT INTO stgraph.observation (time, node_id, feature_id, value) "
                "SELECT %s, n.node_id, f.feature_id, %s FROM stgraph.node n, stgraph.feature f "
                "WHERE n.id = %s AND f.name = %s",
                (instant, value, node, feature),
            )
            connection.execute(
                "INSERT INTO stgraph.observation_time VALUES (%s) ON CONFLICT DO NOTHING",
                (instant,),
            )


def series(dsn: str, node: str, start: str, stop: str) -> list[tuple[Any, ...]]:
    """Return what the function says, the time as hour and minute UTC."""
    with psycopg.connect(dsn, options="-c timezone=UTC") as connection:
        rows = connection.execute(
            "SELECT to_char(time, 'HH24:MI'), feature, unit, observed, forecast, low, high, "
            "to_char(issued_at, 'HH24:MI'), horizon FROM stgraph.node_series(%s, %s, %s)",
            (node, start, stop),
        )
        return rows.fetchall()


@pytest.fixture
def dsn(database: str) -> str:
    """Two issues, five minutes apart, of two nodes, and readings that end in between."""
    init_schema(database)
    first = [[11, 10, 12, 110], [12, 11, 13, 120], [13, 12, 14, 130]]
    second = [[21, 20, 22, 210], [22, 21, 23, 220], [23, 22, 24, 230]]
    for minute, values in ((0, first), (5, second)):
        issued_at = f"2024-03-01T00:{minute:02d}:00+00:00"
        publish_forecast(make_forecast(issued_at, values, ids=("a", "b")), database)
    with psycopg.connect(database) as connection:
        sync_features(connection, "stgraph", [Feature("rain", "mm", "observed")], {})
    observe(database, "a", "speed", {"2024-03-01T00:00Z": 50.5, "2024-03-01T00:05Z": 51.5})
    observe(database, "b", "speed", {"2024-03-01T00:05Z": 99, "2024-03-01T00:10Z": 99})
    observe(database, "a", "rain", {"2024-03-01T00:05Z": 0.25})
    return database


def test_observed_and_forecast_together(dsn: str) -> None:
    """A row per quantity and instant; of each instant the forecast that was made last."""
    assert series(dsn, "a", "2024-03-01T00:00Z", "2024-03-01T00:20Z") == [
        ("00:00", "speed", "km/h", 50.5, None, None, None, None, None),
        ("00:05", "speed", "km/h", 51.5, 11, 10, 12, "00:00", 1),
        ("00:10", "speed", "km/h", None, 21, 20, 22, "00:05", 1),
        ("00:15", "speed", "km/h", None, 22, 21, 23, "00:05", 2),
        ("00:20", "speed", "km/h", None, 23, 22, 24, "00:05", 3),
        ("00:05", "flow", "veh/h", None, 110, None, None, "00:00", 1),
        ("00:10", "flow", "veh/h", None, 210, None, None, "00:05", 1),
        ("00:15", "flow", "veh/h", None, 220, None, None, "00:05", 2),
        ("00:20", "flow", "veh/h", None, 230, None, None, "00:05", 3),
        ("00:05", "rain", "mm", 0.25, None, None, None, None, None),
    ]


def test_span_includes_both_ends(dsn: str) -> None:
    """From and to are part of the span, and nothing beyond."""
    rows = series(dsn, "b", "2024-03-01T00:10Z", "2024-03-01T00:15Z")
    assert [(row[0], row[1], row[3], row[4]) for row in rows] == [
        ("00:10", "speed", 99, 121),
        ("00:15", "speed", None, 122),
        ("00:10", "flow", None, 310),
        ("00:15", "flow", None, 320),
    ]
    assert series(dsn, "a", "2024-03-01T00:21Z", "2024-03-02T00:00Z") == []
    assert series(dsn, "a", "2024-03-01T00:20Z", "2024-03-01T00:00Z") == []
    assert len(series(dsn, "a", "-infinity", "infinity")) == 10


def test_order_of_publishing_does_not_matter(dsn: str) -> None:
    """An issue published late is still the older one; published again, it is there once."""
    late = make_forecast("2024-02-29T23:55:00+00:00", [[1, 0, 2, 5]] * 4, ids=("a", "b"))
    publish_forecast(late, dsn)
    again = make_forecast("2024-03-01T00:05:00+00:00", [[31, 30, 32, 310]], ids=("a", "b"))
    publish_forecast(again, dsn)
    rows = series(dsn, "a", "2024-03-01T00:00Z", "2024-03-01T00:20Z")
    assert [row[:1] + row[4:] for row in rows if row[1] == "speed"] == [
        ("00:00", 1, 0, 2, "23:55", 1),
        ("00:05", 11, 10, 12, "00:00", 1),
        ("00:10", 31, 30, 32, "00:05", 1),
        ("00:15", 13, 12, 14, "00:00", 3),  # the issue of 00:05 has one step now
    ]


def test_issue_that_did_not_come_through_says_nothing(dsn: str) -> None:
    """Runs that failed or were replaced do not show, whatever rows they left."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "UPDATE stgraph.run SET status = 'failed' WHERE issued_at = '2024-03-01T00:05Z'"
        )
    rows = series(dsn, "a", "2024-03-01T00:00Z", "2024-03-01T00:20Z")
    assert [(row[0], row[4]) for row in rows if row[1] == "speed"] == [
        ("00:00", None), ("00:05", 11), ("00:10", 12), ("00:15", 13),
    ]  # fmt: skip


@pytest.mark.parametrize("node", ["c", "", "a' OR true --", 'a"', "A", "%"])
def test_unknown_node_has_no_rows(dsn: str, node: str) -> None:
    """An id nobody has, and one that would be SQL, give nothing."""
    assert series(dsn, node, "-infinity", "infinity") == []


def test_ids_that_need_quoting(database: str) -> None:
    """The id is a value and never SQL, the schema's name is quoted."""
    schema = "o'\"{};--"
    init_schema(database, schema=schema)
    node = 'a\' OR "true" -- %s {} \\ ü'
    graph = make_forecast("2024-03-01T00:00:00+00:00", [[1, 0, 2, 5]], ids=(node, "b"))
    publish_forecast(graph, database, schema=schema)
    query = sql.SQL("SELECT feature, forecast FROM {}({}, '-infinity', 'infinity')").format(
        sql.Identifier(schema, "node_series"), sql.Literal(node)
    )
    with psycopg.connect(database) as connection:
        assert connection.execute(query).fetchall() == [("speed", 1), ("flow", 5)]


def test_no_forecast_is_null(database: str) -> None:
    """NaN in an array is NULL for people: charts leave a gap, averages leave it out."""
    init_schema(database)
    graph = make_forecast("2024-03-01T00:00:00+00:00", [[NAN, NAN, 12, NAN], [12, 11, 13, 120]])
    publish_forecast(graph, database)
    rows = series(database, "a", "2024-03-01T00:05Z", "2024-03-01T00:10Z")
    assert [row[4:7] for row in rows] == [
        (None, None, 12),
        (12, 11, 13),
        (None, None, None),
        (120, None, None),
    ]
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT feature, horizon, mean, quantiles FROM stgraph.forecast_value "
            "ORDER BY feature DESC, horizon"
        ).fetchall()
    assert rows == [
        ("speed", 1, None, [None, 12]),
        ("speed", 2, 12, [11, 13]),
        ("flow", 1, None, []),
        ("flow", 2, 120, []),
    ]


def test_forecast_value_has_a_row_per_value(dsn: str) -> None:
    """2 issues x 2 nodes x 2 quantities x 3 horizons, each with its instant and unit."""
    with psycopg.connect(dsn, options="-c timezone=UTC") as connection:
        count = connection.execute("SELECT count(*) FROM stgraph.forecast_value").fetchone()
        rows = connection.execute(
            "SELECT node_id, unit, target_time, mean, levels, quantiles FROM stgraph.forecast_value"
            " WHERE issued_at = '2024-03-01T00:05Z' AND feature = 'speed' AND horizon = 2 "
            "ORDER BY node_id"
        ).fetchall()
    assert count == (24,)
    instant = datetime(2024, 3, 1, 0, 15, tzinfo=UTC)
    levels = pytest.approx([0.1, 0.9])
    assert rows == [
        ("a", "km/h", instant, 22, levels, [21, 23]),
        ("b", "km/h", instant, 122, levels, [121, 123]),
    ]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize(("step", "hours"), [("1h", 1), ("1D", 24), ("36h", 36)])
def test_steps_are_of_one_length_in_every_zone(
    database: str, zone: str, step: str, hours: int
) -> None:
    """Across the change of clocks a day is 24 hours, whatever zone the reader's program is in."""
    init_schema(database)
    values = [[float(k), 0, 0, 0] for k in range(4)]
    # the clocks of Berlin change at 01:00 UTC of the 31st, those of New York on the 10th
    days = ("2024-03-30", "2024-03-28", "2024-03-09", "2024-03-07")
    for issued_at in (f"{day}T23:00:00+00:00" for day in days):
        publish_forecast(make_forecast(issued_at, values, step=step), database)
    with psycopg.connect(database, options=f"-c timezone={zone}") as connection:
        for source in (
            "stgraph.forecast_value",
            "(SELECT *, time AS target_time FROM "
            "stgraph.node_series('a', '-infinity', 'infinity')) s",
        ):
            rows = connection.execute(
                "SELECT horizon, extract(epoch FROM target_time) - extract(epoch FROM issued_at) "
                f"FROM {source} WHERE feature = 'speed'"
            ).fetchall()
            assert len(rows) >= 12
            assert all(seconds == 3600 * hours * horizon for horizon, seconds in rows)


def test_reader_role_may_ask(database: str) -> None:
    """The reader has the function and the view, not the tables behind them."""
    init_schema(database, roles=True)
    graph = make_forecast("2024-03-01T00:00:00+00:00", [[1, 0, 2, 5]])
    publish_forecast(graph, database)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE ROLE asks LOGIN IN ROLE stgraph_reader")
        connection.execute("CREATE ROLE stranger LOGIN")
    reader = make_conninfo(database, user="asks")
    assert len(series(reader, "a", "-infinity", "infinity")) == 2
    with psycopg.connect(reader, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM stgraph.forecast_value").fetchone() == (2,)
        for table in ("forecast", "observation", "run", "node", "feature", "dataset"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM stgraph.{table}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        series(make_conninfo(database, user="stranger"), "a", "-infinity", "infinity")


# -------------------------------------------------------------------------------------- speed


@pytest.fixture(scope="module")
def busy(module_database: str) -> str:
    """A day of issues every 5 minutes: 288 of 200 nodes, 12 horizons; two days of readings."""
    init_schema(module_database)
    nodes = gpd.GeoDataFrame(
        {"kind": "station"},
        index=[f"n{i}" for i in range(200)],
        geometry=gpd.points_from_xy(np.arange(200.0) / 10, np.zeros(200)),
        crs="EPSG:4326",
    )
    with psycopg.connect(module_database) as connection:
        sync_nodes(connection, "stgraph", STGraph(nodes=nodes))
        sync_features(connection, "stgraph", [SPEED[0]], {"speed": [0.1, 0.9]})
        for day in ("2024-02-29", "2024-03-01"):
            connection.execute("SELECT stgraph.ensure_partition('observation', %s)", (day,))
        connection.execute("SELECT stgraph.ensure_partition('forecast', '2024-03-01')")
        connection.execute(
            "INSERT INTO stgraph.run (issued_at, first_target, step, horizon, status, digest, "
            "library, document) SELECT t, t + interval '5 min', '5 min', 12, 'published', t::text, "
            "'', '{}' FROM generate_series('2024-03-01Z'::timestamptz, '2024-03-01T23:55Z', "
            "'5 min') t"
        )
        connection.execute(
            "INSERT INTO stgraph.forecast (issued_at, node_id, feature_id, mean, quantiles, trend) "
            "SELECT r.issued_at, n.node_id, 1, array_fill(1::real, ARRAY[12]), "
            "array_fill(2::real, ARRAY[2, 12]), '' FROM stgraph.run r, stgraph.node n"
        )
        connection.execute(
            "INSERT INTO stgraph.observation_time SELECT generate_series("
            "'2024-02-29Z'::timestamptz, '2024-03-01T23:55Z', '5 min')"
        )
        connection.execute(
            "INSERT INTO stgraph.observation (time, node_id, feature_id, value) "
            "SELECT t.time, n.node_id, 1, 3 FROM stgraph.observation_time t, stgraph.node n"
        )
    with psycopg.connect(module_database, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return module_database


def plan_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node of a plan."""
    yield plan
    for part in plan.get("Plans", []):
        yield from plan_nodes(part)


SPANS = {
    "last hour": ("2024-03-01T22:00Z", "2024-03-02T01:00Z"),
    "two days": ("2024-02-29T00:00Z", "2024-03-02T01:00Z"),
}


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_probes_the_keys(busy: str, span: tuple[str, str]) -> None:
    """No table of values is read from end to end: each probe is one of the primary key."""
    with psycopg.connect(busy) as connection:
        connection.execute("SET search_path = pg_catalog; SET jit = off")
        row = connection.execute("SELECT prosrc FROM pg_proc WHERE proname = 'node_series'")
        body = row.fetchone()[0]  # type: ignore[index]  # there is one
        connection.execute(f"PREPARE ask (text, timestamptz, timestamptz) AS {body}")
        connection.execute("SET plan_cache_mode = force_generic_plan")  # the harder case
        query = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE ask ('n77', {}, {})")
        found = connection.execute(query.format(*map(sql.Literal, span))).fetchone()
    assert found is not None
    scans = [n for n in plan_nodes(found[0][0]["Plan"]) if "Relation Name" in n]
    probed = [n for n in scans if n["Relation Name"].startswith(("forecast_", "observation_2"))]
    assert {n["Relation Name"][:-9] for n in probed} == {"forecast", "observation"}
    for node in probed:
        assert node["Node Type"] == "Index Scan"
        assert node["Index Name"] == f"{node['Relation Name']}_pkey"
        assert node["Actual Rows"] <= 1


def test_is_quick(busy: str) -> None:
    """Milliseconds for the last hours, with a day of issues behind them."""
    with psycopg.connect(busy, autocommit=True) as connection:
        for (start, stop), limit_s in zip(SPANS.values(), (0.02, 0.2), strict=True):
            took = []
            for i in range(7):
                began = time.perf_counter()
                rows = connection.execute(
                    "SELECT * FROM stgraph.node_series(%s, %s, %s)", (f"n{i}", start, stop)
                ).fetchall()
                took.append(time.perf_counter() - began)
            assert len(rows) > 30
            assert min(took) < limit_s
