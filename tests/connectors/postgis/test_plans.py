"""Every question that QGIS and people ask is answered by its index, and publishing bloats nothing.

The data are small, but enough for the planner to choose as it does with 50,000 segments. Where
production has autovacuum, which counts rows a minute after they came, the tests count themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from postgis_cases import query, wait_until
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.schema import init_schema

from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis

SIDE = 70  # segments per row and per column
HORIZON = 12
STEP = pd.Timedelta("5min")
# the day ends between the second and the third
ISSUES = [pd.Timestamp("2026-11-20T23:50Z") + k * STEP for k in range(3)]
LAST = ISSUES[-1]
BOX = (8.010, 47.010, 8.0195, 47.0195)  # 10 x 10 segments or so
ON_SCREEN = f"geom && ST_MakeEnvelope({BOX[0]}, {BOX[1]}, {BOX[2]}, {BOX[3]}, 4326)"
NODE = "way/1234"


def make_forecast(issued_at: pd.Timestamp, *, side: int = SIDE, horizon: int = HORIZON) -> STGraph:
    """A city of `side` x `side` segments of 100 m; the mean is the number of the segment + h."""
    row, column = np.divmod(np.arange(side * side), side)
    ends = [(8 + 0.001 * column, 47 + 0.001 * row), (8.0009 + 0.001 * column, 47 + 0.001 * row)]
    lines = shapely.linestrings(np.stack([np.stack(end, axis=-1) for end in ends], axis=1))
    steps = np.arange(1, horizon + 1, dtype=np.float32)
    mean = np.arange(side * side, dtype=np.float32)[None, :] + steps[:, None]
    return STGraph(
        nodes=gpd.GeoDataFrame(
            {"kind": "segment"},
            index=[f"way/{i}" for i in range(side * side)],
            geometry=lines,
            crs="EPSG:4326",
        ),
        time=pd.date_range(issued_at + STEP, periods=horizon, freq=STEP),
        values=np.stack([mean, mean - 8, mean + 8], axis=-1),
        features=tuple(Feature(name, "km/h") for name in ("speed", "speed_q10", "speed_q90")),
        provenance={"kind": "forecast", "issued_at": issued_at.isoformat()},
    )


@pytest.fixture(scope="module")
def city(module_database: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the database of a city with 3 issues."""
    init_schema(module_database, schema="traffic")
    for issued_at in ISSUES:
        publish_forecast(make_forecast(issued_at), module_database, schema="traffic")
    with psycopg.connect(module_database, autocommit=True) as connection:
        # not `forecast`, but its partitions: that is what autovacuum does
        connection.execute(
            "ANALYZE traffic.node, traffic.run, traffic.feature, "
            "traffic.forecast_20261120, traffic.forecast_20261121"
        )
        connection.execute("SET search_path = traffic, public")
        connection.execute("SET max_parallel_workers_per_gather = 0")
        yield connection


def explain(connection: psycopg.Connection[Any], text: str) -> list[dict[str, Any]]:
    """Run a query and return the steps of its plan that were taken, outermost first."""
    row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}".encode()).fetchone()
    assert row is not None
    (plan,) = row[0]
    assert "JIT" not in plan, "compiling takes longer than such a query"
    return list(_steps(plan["Plan"]))


def _steps(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if step["Actual Loops"]:
        yield step
    for inner in step.get("Plans", []):
        yield from _steps(inner)


def scanned(steps: list[dict[str, Any]]) -> set[str]:
    """Return the tables that were read."""
    return {step["Relation Name"] for step in steps if "Relation Name" in step}


def read_rows(step: dict[str, Any]) -> float:
    """Return how many rows a step looked at, over all its loops."""
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows = step["Actual Rows"] + sum(step.get(name, 0) for name in removed)
    return float(rows * step["Actual Loops"])


def only_probes(steps: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    """Return the steps that read a table or its parts, all of which use an index."""
    found = [step for step in steps if step.get("Relation Name", "").startswith(table)]
    kinds = {step["Node Type"] for step in found}
    assert found
    assert kinds <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, kinds
    return found


def kind_of_index(connection: psycopg.Connection[Any], steps: list[dict[str, Any]]) -> set[str]:
    """Return `<method> (<columns>)` of every index that a plan uses."""
    names = list({step["Index Name"] for step in steps if "Index Name" in step})
    rows = connection.execute(
        "SELECT a.amname, pg_get_indexdef(c.oid, 1, true), i.indnatts, i.indisprimary "
        "FROM pg_class c JOIN pg_am a ON a.oid = c.relam JOIN pg_index i ON i.indexrelid = c.oid "
        "WHERE c.relnamespace = 'traffic'::regnamespace AND c.relname = ANY(%s)",
        (names,),
    ).fetchall()
    return {f"{'key' if key else method} ({column})" for method, column, _, key in rows}


# -------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("horizon", [1, HORIZON])
def test_a_box_of_one_horizon_reads_few_pages(city: psycopg.Connection[Any], horizon: int) -> None:
    """Panning in QGIS: the BRIN index knows where the rows of an area are."""
    steps = explain(city, f"SELECT fid, speed, geom FROM forecast_latest_h{horizon} "
                          f"WHERE {ON_SCREEN}")  # fmt: skip
    assert kind_of_index(city, steps) == {"brin (geom)"}
    (scan,) = only_probes(steps, "forecast_latest")
    assert 90 <= scan["Actual Rows"] <= 121
    # right after the layer was built, before any vacuum, and after updates
    assert read_rows(scan) < 0.4 * SIDE**2


def test_a_box_in_a_frame_of_time_reads_few_pages(city: psycopg.Connection[Any]) -> None:
    """The temporal controller asks for an interval without a zone, or no time at all."""
    city.execute("SET timezone = 'UTC'")
    begin = (LAST + 3 * STEP).strftime("%Y-%m-%dT%H:%M:%S")
    end = (LAST + 4 * STEP).strftime("%Y-%m-%dT%H:%M:%S")
    frame = f"((target_time >= '{begin}' AND target_time < '{end}') OR target_time IS NULL)"
    steps = explain(city, f"SELECT fid, speed, geom FROM forecast_latest "
                          f"WHERE ({ON_SCREEN}) AND ({frame})")  # fmt: skip
    assert kind_of_index(city, steps) == {"brin (geom)"}
    scans = only_probes(steps, "forecast_latest")
    assert len(scans) == HORIZON
    assert sum(map(read_rows, scans)) < 0.4 * HORIZON * SIDE**2
    assert [s["Relation Name"] for s in scans if s["Actual Rows"]] == ["forecast_latest_h3"]


def test_a_tile_reads_few_pages(city: psycopg.Connection[Any]) -> None:
    """A vector tile as tile servers ask for it."""
    tile = "ST_TileEnvelope(14, 8556, 5737)"
    steps = explain(
        city,
        "SELECT ST_AsMVT(t, 'forecast') FROM (SELECT fid, speed, "
        f"ST_AsMVTGeom(ST_Transform(geom, 3857), {tile}) AS geom FROM forecast_latest_h3 "
        f"WHERE ST_Intersects(geom, ST_Transform({tile}, 4326))) AS t",
    )
    assert kind_of_index(city, steps) == {"brin (geom)"}
    only_probes(steps, "forecast_latest")


@pytest.mark.parametrize("which", ["= 3000017", "IN (3000017, 3000018)"])
def test_a_click_is_one_probe_of_one_partition(city: psycopg.Connection[Any], which: str) -> None:
    """Identify and select in QGIS go by the key of the layer."""
    steps = explain(city, f"SELECT * FROM forecast_latest WHERE fid {which}")
    assert scanned(steps) == {"forecast_latest_h3"}
    assert kind_of_index(city, steps) == {"key (fid)"}
    assert sum(map(read_rows, only_probes(steps, "forecast_latest"))) <= 2


def test_the_course_of_a_node_is_a_probe_per_horizon(city: psycopg.Connection[Any]) -> None:
    """A chart of one segment: all horizons of the current issue."""
    text = f"SELECT target_time, speed FROM forecast_latest WHERE node_id = '{NODE}'"
    steps = explain(city, f"{text} ORDER BY target_time")
    assert kind_of_index(city, steps) == {"btree (node_id)"}
    assert sum(map(read_rows, only_probes(steps, "forecast_latest"))) == HORIZON
    values = [speed for _, speed in city.execute(f"{text} ORDER BY target_time".encode())]
    assert values == [1234 + h for h in range(1, HORIZON + 1)]


# ------------------------------------------------------------------------------------ all issues


@pytest.mark.parametrize("feature", ["", " AND feature = 'speed'"])
def test_a_node_over_all_issues_is_a_probe_per_issue(
    city: psycopg.Connection[Any], feature: str
) -> None:
    """The rows of all other nodes are never read."""
    text = (
        "SELECT issued_at, target_time, mean, quantiles FROM forecast_value "
        f"WHERE node_id = '{NODE}'{feature}"
    )
    steps = explain(city, text)
    # who expects thousands of rows compiles the query, for longer than it then runs
    assert steps[0]["Plan Rows"] < 10 * steps[0]["Actual Rows"]
    scans = only_probes(steps, "forecast_2026")
    assert scanned(scans) == {"forecast_20261120", "forecast_20261121"}
    assert {"key (issued_at)", "btree (id)"} <= kind_of_index(city, steps)
    assert rows_read(city, text) == len(ISSUES)
    rows = city.execute(f"{text} ORDER BY 1, 2".encode()).fetchall()
    assert [mean for *_, mean, _ in rows] == [1234 + h for h in range(1, HORIZON + 1)] * 3
    assert rows[0] == (ISSUES[0], ISSUES[0] + STEP, 1235, [1227, 1243])


@pytest.mark.parametrize(
    ("when", "day", "n_issues"),
    [
        ("= '2026-11-21T00:00Z'", "forecast_20261121", 1),
        (">= '2026-11-21T00:00Z'", "forecast_20261121", 1),
        ("BETWEEN '2026-11-20T23:00Z' AND '2026-11-20T23:59Z'", "forecast_20261120", 2),
    ],
)
def test_an_issue_time_leaves_the_other_days_alone(
    city: psycopg.Connection[Any], when: str, day: str, n_issues: int
) -> None:
    """Partitions are pruned: of a month of issues only the day in question is read."""
    text = f"SELECT * FROM forecast_value WHERE node_id = '{NODE}' AND issued_at {when}"
    steps = explain(city, text)
    assert steps[0]["Actual Rows"] == n_issues * HORIZON
    assert scanned(only_probes(steps, "forecast_2026")) == {day}
    assert rows_read(city, text) == n_issues


def test_a_series_for_a_chart_is_probes_too(city: psycopg.Connection[Any]) -> None:
    """`node_series` reads one row per issue, and takes of each instant the last forecast."""
    text = f"SELECT * FROM node_series('{NODE}', '2026-11-20', '2026-11-22')"
    rows = city.execute(text.encode()).fetchall()
    assert [row[0] for row in rows] == list(
        pd.date_range(ISSUES[0] + STEP, periods=HORIZON + 2, freq=STEP)
    )
    # time, feature, unit, observed, forecast, low, high, issued_at, horizon
    assert rows[0][1:] == ("speed", "km/h", None, 1235, 1227, 1243, ISSUES[0], 1)
    assert rows[-1][1:] == ("speed", "km/h", None, 1246, 1238, 1254, LAST, HORIZON)
    assert rows_read(city, text) == len(ISSUES)


def rows_read(connection: psycopg.Connection[Any], text: str) -> int:
    """Return how many rows of `forecast` a query reads; a plan tells only the mean per loop."""
    before = _rows_read(connection)
    connection.execute(text.encode()).fetchall()
    return _rows_read(connection) - before


def _rows_read(connection: psycopg.Connection[Any]) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_user_tables "
        "WHERE schemaname = 'traffic' AND relname LIKE 'forecast\\_2026%'"
    ).fetchone()
    return int(row[0])  # type: ignore[index]  # an aggregate has one row


# ------------------------------------------------------------------------------------ publishing


def _layer_state(dsn: str) -> tuple[int, int, int, int]:
    """Return rows updated, of these in place, bytes of the tables, bytes of their indexes."""
    (row,) = query(
        dsn,
        "SELECT sum(n_tup_upd)::bigint, sum(n_tup_hot_upd)::bigint, "
        "sum(pg_relation_size(relid))::bigint, sum(pg_indexes_size(relid))::bigint "
        "FROM pg_stat_user_tables "
        "WHERE schemaname = 'traffic' AND relname LIKE 'forecast\\_latest%'",
    )
    return row


def test_publishing_updates_in_place_and_never_grows(database: str) -> None:
    """No index changes, no page is added: the hundredth issue costs what the third did."""
    side, horizon = 30, 3
    init_schema(database, schema="traffic")
    states = []
    for k in range(8):
        issue = make_forecast(ISSUES[0] + k * STEP, side=side, horizon=horizon)
        publish_forecast(issue, database, schema="traffic")
        # the server counts a moment after the connection has ended
        states.append(
            wait_until(
                lambda n=k * side**2 * horizon: (
                    state if (state := _layer_state(database))[0] == n else None
                ),
                what=f"the updates of issue {k}",
            )
        )
    assert [updated - in_place for updated, in_place, _, _ in states] == [0] * 8
    assert {size for _, _, size, _ in states[2:]} == {states[2][2]}
    assert {size for _, _, _, size in states} == {states[0][3]}


def test_the_same_layer_serves_the_next_issue(database: str) -> None:
    """Open layers stay valid: an issue keeps all tables, indexes and keys as they are."""
    init_schema(database, schema="traffic")
    objects = (
        "SELECT c.relname, c.oid, c.relfilenode FROM pg_class c "
        "WHERE c.relnamespace = 'traffic'::regnamespace AND c.relname LIKE 'forecast\\_latest%' "
        "ORDER BY 1"
    )
    keys = "SELECT fid, node_id, horizon FROM traffic.forecast_latest ORDER BY fid"
    publish_forecast(make_forecast(ISSUES[0], side=4, horizon=2), database, schema="traffic")
    before = query(database, objects), query(database, keys)
    publish_forecast(make_forecast(ISSUES[1], side=4, horizon=2), database, schema="traffic")
    assert (query(database, objects), query(database, keys)) == before
    assert len(before[1]) == 32
