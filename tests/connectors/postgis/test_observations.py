"""Readings in the database: exactly what was observed, whatever the order of publishing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql
from stgraph_connectors.postgis import observations
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.observations import publish_observations
from stgraph_connectors.postgis.schema import init_schema
from stgraph_connectors.styles import Style

from stgraph.errors import DataError, OutputError
from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis

NAN = float("nan")
ROWS = (
    "SELECT to_char(o.time, 'DD HH24:MI'), n.id, f.name, o.value FROM {schema}.observation o "
    "JOIN {schema}.node n USING (node_id) JOIN {schema}.feature f USING (feature_id) "
    "ORDER BY o.time, f.feature_id, n.node_id"
)
ISSUED = {"kind": "forecast", "issued_at": "2024-03-01T00:00Z", "step_minutes": 5}
LATEST = (
    "SELECT node_id, to_char(time, 'DD HH24:MI'), speed, trend FROM {schema}.observation_latest "
    "ORDER BY fid"
)
SUPPORT = (
    "SELECT node_id, kind, support, observed_share, to_char(last_observed, 'DD HH24:MI') "
    "FROM {schema}.support ORDER BY fid"
)


def make_readings(
    table: list[list[Any]],
    *,
    start: str = "2024-03-01T00:00Z",
    freq: str = "5min",
    ids: list[Any] | None = None,
    features: tuple[Feature, ...] = (Feature("speed", "km/h"),),
    shapes: list[shapely.Geometry] | None = None,
) -> STGraph:
    """Readings, a row per step, a column per node; NaN or None is a gap."""
    values = np.array(table, dtype=np.float32)
    values = values[:, :, None] if values.ndim == 2 else values
    n = values.shape[1]
    return STGraph(
        nodes=gpd.GeoDataFrame(
            {"kind": "station"},
            index=pd.Index(ids or list("abcdefgh")[:n]),
            geometry=shapes or [shapely.Point(174.7 + i / 100, -36.8) for i in range(n)],
            crs=4326,
        ),
        edge_index=np.array([np.arange(n - 1), np.arange(1, n)]),
        time=pd.date_range(start, periods=len(values), freq=freq),
        values=values,
        features=features,
    )


def query(dsn: str, text: str, schema: str = "stgraph") -> list[tuple[Any, ...]]:
    """Return the rows of a query on a schema; times are those of UTC."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        statement = sql.SQL(text).format(schema=sql.Identifier(schema))  # type: ignore[arg-type]
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def counts(done: observations.ObservationPublication) -> tuple[int, int, int]:
    return done.n_added, done.n_changed, done.n_removed


@pytest.fixture
def dsn(database: str) -> str:
    """A fresh database with an empty schema."""
    init_schema(database)
    return database


# --------------------------------------------------------------------------------------- rows


def test_rows_are_what_was_observed(dsn: str) -> None:
    """A gap has no row, neither has a number that the mask does not call observed."""
    graph = make_readings([[10, 20], [NAN, 21], [NAN, NAN]])
    mask = graph.mask.copy()
    mask[0, 1] = False
    done = publish_observations(graph.replace(mask=mask), dsn)
    assert query(dsn, ROWS) == [("01 00:00", "a", "speed", 10), ("01 00:05", "b", "speed", 21)]
    assert counts(done) == (2, 0, 0)
    assert (done.n_values, done.layers_built) == (2, ("observation_latest", "support"))
    assert (done.start, done.end) == (graph.time[0], graph.time[-1])
    times = query(dsn, "SELECT to_char(time, 'DD HH24:MI') FROM {schema}.observation_time")
    assert times == [("01 00:00",), ("01 00:05",)]


def test_midnight_is_in_two_partitions(dsn: str) -> None:
    """Each UTC day has its partition, made when the first reading of the day arrives."""
    publish_observations(make_readings([[1], [NAN], [3]], start="2024-02-29T23:55Z"), dsn)
    publish_observations(make_readings([[4]], start="2024-03-01T00:10Z"), dsn)
    found = query(
        dsn, "SELECT tableoid::regclass::text, value FROM {schema}.observation ORDER BY 2"
    )
    assert found == [
        ("stgraph.observation_20240229", 1),
        ("stgraph.observation_20240301", 3),
        ("stgraph.observation_20240301", 4),
    ]


def test_twice_is_once(dsn: str) -> None:
    """The same readings again write nothing: the rows are the very same versions."""
    graph = make_readings([[10, 20], [NAN, 21]])
    publish_observations(graph, dsn)
    versions = query(dsn, "SELECT xmin::text, ctid::text, time FROM {schema}.observation")
    done = publish_observations(graph, dsn)
    assert counts(done) == (0, 0, 0)
    assert done.layers_built == ()
    assert query(dsn, "SELECT xmin::text, ctid::text, time FROM {schema}.observation") == versions


def test_other_values_are_changed_and_lost_ones_removed(dsn: str) -> None:
    """A corrected file replaces the first one; rows that were right stay as they are."""
    publish_observations(make_readings([[10, 20], [11, 21], [12, 22]]), dsn)
    kept = query(dsn, "SELECT xmin::text, value FROM {schema}.observation WHERE value = 10")
    done = publish_observations(make_readings([[10, NAN], [NAN, NAN], [13, 22]]), dsn)
    assert counts(done) == (0, 1, 3)
    assert query(dsn, ROWS) == [
        ("01 00:00", "a", "speed", 10),
        ("01 00:10", "a", "speed", 13),
        ("01 00:10", "b", "speed", 22),
    ]
    assert query(dsn, "SELECT xmin::text, value FROM {schema}.observation WHERE value = 10") == kept
    times = query(dsn, "SELECT to_char(time, 'HH24:MI') FROM {schema}.observation_time ORDER BY 1")
    assert times == [("00:00",), ("00:10",)]


def test_overlapping_spans(dsn: str) -> None:
    """The last hours every few minutes: only what is new is added, older rows stay."""
    publish_observations(make_readings([[1], [2], [3]]), dsn)
    done = publish_observations(make_readings([[2], [3], [4]], start="2024-03-01T00:05Z"), dsn)
    assert counts(done) == (1, 0, 0)
    assert [row[3] for row in query(dsn, ROWS)] == [1, 2, 3, 4]


def test_another_step_replaces_the_span(dsn: str) -> None:
    """Instants that the new readings do not have are gone between their first and last."""
    publish_observations(make_readings([[1], [2], [3], [4]]), dsn)
    done = publish_observations(make_readings([[1], [3]], freq="10min"), dsn)
    assert counts(done) == (0, 0, 1)
    assert [row[::3] for row in query(dsn, ROWS)] == [
        ("01 00:00", 1),
        ("01 00:10", 3),
        ("01 00:15", 4),
    ]
    assert len(query(dsn, "SELECT time FROM {schema}.observation_time")) == 3


def test_other_nodes_and_features_are_left_alone(dsn: str) -> None:
    """Two feeds share the instants; one without a reading takes nothing from the other."""
    flow = (Feature("flow", "veh/h"),)
    publish_observations(make_readings([[1, 2], [3, 4]]), dsn)
    publish_observations(make_readings([[700, 800]], features=flow), dsn)
    done = publish_observations(make_readings([[NAN], [5]], ids=["a"]), dsn)
    assert counts(done) == (0, 1, 1)
    assert query(dsn, ROWS) == [
        ("01 00:00", "b", "speed", 2),
        ("01 00:00", "a", "flow", 700),
        ("01 00:00", "b", "flow", 800),
        ("01 00:05", "a", "speed", 5),
        ("01 00:05", "b", "speed", 4),
    ]


def test_a_memory_map_goes_in_block_by_block(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that end within a day, and a node that falls silent in the first of them."""
    table = np.arange(600, dtype=np.float32).reshape(300, 2, 1)
    table[5:, 0] = NAN
    np.save(tmp_path / "values.npy", table)
    graph = make_readings(table[:, :, 0].tolist())
    graph = graph.replace(values=np.load(tmp_path / "values.npy", mmap_mode="r"))
    monkeypatch.setattr(observations, "_VALUES_AT_ONCE", 64)  # 32 steps
    assert counts(publish_observations(graph, dsn)) == (305, 0, 0)
    assert counts(publish_observations(graph, dsn)) == (0, 0, 0)
    assert [row[3] for row in query(dsn, ROWS)] == table[np.isfinite(table)].tolist()
    assert [row[:3] for row in query(dsn, LATEST)] == [("a", "01 00:20", 8), ("b", "02 00:55", 599)]
    assert query(dsn, SUPPORT)[0][3] == pytest.approx(100 * 5 / 300)


def test_an_error_in_the_middle_leaves_everything_as_it_was(dsn: str) -> None:
    """Rows, instants and layers are one transaction: a full table stops all of them."""
    publish_observations(make_readings([[1, 2]]), dsn)
    before = [query(dsn, text) for text in (ROWS, LATEST, SUPPORT)]
    query(dsn, "ALTER TABLE {schema}.support ADD CHECK (observed_share > 60)")
    with pytest.raises(OutputError, match="nothing was written"):
        publish_observations(make_readings([[5, NAN], [6, NAN], [NAN, NAN]]), dsn)
    assert [query(dsn, text) for text in (ROWS, LATEST, SUPPORT)] == before
    assert len(query(dsn, "SELECT time FROM {schema}.observation_time")) == 1


def test_blocks_before_an_error_stay(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long history is whole per block; publishing again goes on, and the layers come last."""
    publish_observations(make_readings([[0]], start="2024-03-01T23:00Z"), dsn)
    query(dsn, "ALTER TABLE {schema}.observation ADD CHECK (value < 4)")
    monkeypatch.setattr(observations, "_VALUES_AT_ONCE", 2)
    graph = make_readings([[1], [2], [3], [4]])
    with pytest.raises(OutputError, match=r"readings before 2024-03-01 00:10.* are there"):
        publish_observations(graph, dsn)
    assert [row[3] for row in query(dsn, ROWS)] == [1, 2, 0]
    assert query(dsn, LATEST) == [("a", "01 23:00", 0, "▁")]
    query(dsn, "ALTER TABLE {schema}.observation DROP CONSTRAINT observation_value_check")
    assert counts(publish_observations(graph, dsn)) == (2, 0, 0)
    assert query(dsn, LATEST) == [("a", "01 23:00", 0, "▃▅▆█▁")]


@settings(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes with a database
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_the_last_word_counts(database: str, data: st.DataObject) -> None:
    """Whatever was published before, in the published span the readings are the graph's."""
    query(database, "DROP SCHEMA IF EXISTS {schema} CASCADE")
    init_schema(database)
    cell = st.sampled_from([NAN, 1.0, 2.0])
    truth: dict[tuple[str, str], float] = {}
    for _ in range(3):
        first = data.draw(st.integers(0, 4))
        step = data.draw(st.sampled_from([5, 10]))
        ids = data.draw(st.sampled_from([["a", "b"], ["b", "a"], ["c"]]))
        table = data.draw(
            st.lists(st.lists(cell, min_size=len(ids), max_size=len(ids)), min_size=1, max_size=4)
        )
        start = pd.Timestamp("2024-03-01T23:50Z") + first * pd.Timedelta("5min")
        graph = make_readings(table, start=str(start), freq=f"{step}min", ids=ids)
        publish_observations(graph, database)
        span = [f"{t:%d %H:%M}" for t in pd.date_range(graph.time[0], graph.time[-1], freq="5min")]
        truth = {
            key: value for key, value in truth.items() if not (key[0] in span and key[1] in ids)
        }
        for time, row in zip(graph.time, table, strict=True):
            truth |= {(f"{time:%d %H:%M}", i): v for i, v in zip(ids, row, strict=True) if v == v}
    assert {row[:2]: row[3] for row in query(database, ROWS)} == truth
    newest = {i: max(t for t, j in truth if i == j) for _, i in truth}
    rows = [row[:3] for row in query(database, LATEST) if row[1] is not None]
    assert {row[0]: row[1] for row in rows} == newest
    assert all(truth[time, node] == speed for node, time, speed in rows)
    times = query(database, "SELECT to_char(time, 'DD HH24:MI') FROM {schema}.observation_time")
    assert {time for (time,) in times} == {time for time, _ in truth}


# ------------------------------------------------------------------------------------- layers


def test_latest_has_a_row_per_node(dsn: str) -> None:
    """The newest reading of each node, however old; a node that was never observed is empty."""
    publish_observations(make_readings([[10, 1, NAN], [20, NAN, NAN], [30, NAN, NAN]]), dsn)
    assert query(dsn, LATEST) == [
        ("a", "01 00:10", 30, "▁▅█"),
        ("b", "01 00:00", 1, "▁⋅⋅"),
        ("c", None, None, "⋅⋅⋅"),
    ]


def test_older_readings_do_not_replace_newer_ones(dsn: str) -> None:
    """A backfill fills the line of blocks, and the nodes that the newer readings lack."""
    publish_observations(make_readings([[50, NAN, NAN]], start="2024-03-01T12:00Z"), dsn)
    publish_observations(make_readings([[40, 7, NAN]], start="2024-03-01T11:55Z"), dsn)
    assert query(dsn, LATEST) == [
        ("a", "01 12:00", 50, "▁█"),
        ("b", "01 11:55", 7, "▁⋅"),
        ("c", None, None, "⋅⋅"),
    ]
    assert query(dsn, SUPPORT)[1] == ("b", "station", "none", 0, "01 11:55")


def test_local_time_says_its_zone(dsn: str) -> None:
    """As in the layers of forecasts; in summer some zones have a longer name."""
    zone = "Europe/Berlin"
    graph = make_readings([[1, NAN], [NAN, 2]], start="2024-03-31T00:55Z").replace(zone=zone)
    publish_observations(graph, dsn)
    text = "SELECT local_time FROM {schema}.observation_latest ORDER BY fid"
    assert query(dsn, text) == [("2024-03-31 01:55 CET",), ("2024-03-31 03:00 CEST",)]


def test_a_silent_node_is_found_again(dsn: str) -> None:
    """What a node said before it fell silent, or before its last reading was taken back."""
    publish_observations(make_readings([[1, 5], [2, NAN], *[[3, NAN]] * 13]), dsn)
    assert query(dsn, LATEST)[1] == ("b", "01 00:00", 5, "⋅" * 12)
    early = make_readings([[1, 4], [2, NAN]], start="2024-02-29T20:00Z")
    publish_observations(early, dsn)
    publish_observations(make_readings([[1, NAN], [2, NAN]]), dsn)  # takes back the 5
    assert query(dsn, LATEST)[1][:3] == ("b", "29 20:00", 4)
    publish_observations(make_readings([[1, NAN]], start="2024-02-29T20:00Z"), dsn)
    assert query(dsn, LATEST)[1][:3] == ("b", None, None)


def test_everything_taken_back(dsn: str) -> None:
    """A span without any reading empties the layers and is no error."""
    publish_observations(make_readings([[1, 2], [3, 4]]), dsn)
    done = publish_observations(make_readings([[NAN, NAN], [NAN, NAN]]), dsn)
    assert counts(done) == (0, 0, 4)
    assert query(dsn, LATEST) == [("a", None, None, "⋅"), ("b", None, None, "⋅")]
    assert query(dsn, SUPPORT) == [(i, "station", "none", 0, None) for i in "ab"]


def test_several_features(dsn: str) -> None:
    """A column per feature with its unit; what was not read at the newest instant is empty."""
    features = (Feature("flow", "veh/h"), Feature("speed", "km/h", "observed"))
    graph = make_readings([[[600, 50], [700, 60]], [[NAN, 55], [800, NAN]]], features=features)
    publish_observations(graph, dsn)
    text = "SELECT node_id, flow, speed, trend FROM {schema}.observation_latest ORDER BY fid"
    assert query(dsn, text) == [("a", None, 55, "▁⋅"), ("b", 800, None, "▁█")]
    comments = query(
        dsn,
        "SELECT attname::text, col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = 'stgraph.observation_latest'::regclass AND attnum > 0 ORDER BY attnum",
    )
    assert [name for name, _ in comments] == [
        "fid",
        "node_id",
        "time",
        "local_time",
        "flow",
        "speed",
        "trend",
        "geom",
    ]
    assert dict(comments)["flow"] == "Flow (veh/h)"
    assert all(comment for _, comment in comments)
    # a feed of its own for speed does not take the flow out of the layer
    speed = make_readings([[70, NAN]], start="2024-03-01T00:05Z")
    assert publish_observations(speed, dsn).layers_built == ()
    assert query(dsn, text) == [("a", None, 70, "▁█"), ("b", 800, None, "▁⋅")]


def test_the_line_is_of_the_feature_that_the_style_names(dsn: str) -> None:
    """The map tip draws what the layer colours."""
    features = (Feature("flow", "veh/h"), Feature("speed", "km/h"))
    graph = make_readings([[[1, 2]], [[2, 1]]], features=features)
    publish_observations(graph, dsn, style=Style(feature="speed"))
    assert query(dsn, "SELECT trend FROM {schema}.observation_latest") == [("█▁",)]


def test_the_line_has_the_last_twelve_instants(dsn: str) -> None:
    """One reading at a time, as a feed delivers them, is drawn as well as all at once."""
    for i in range(14):
        start = pd.Timestamp("2024-03-01T00:00Z") + i * pd.Timedelta("5min")
        publish_observations(make_readings([[i]], start=str(start)), dsn)
    assert query(dsn, LATEST) == [("a", "01 01:05", 13, "▁▂▂▃▄▄▅▅▆▇▇█")]


def test_support(dsn: str) -> None:
    """Own sensors are those with readings in the span; the user's own words go first."""
    graph = make_readings([[1, NAN, NAN], [2, 3, NAN]])
    publish_observations(graph, dsn)
    assert query(dsn, SUPPORT) == [
        ("a", "station", "own sensor", 100, "01 00:05"),
        ("b", "station", "own sensor", 50, "01 00:05"),
        ("c", "station", "none", 0, None),
    ]
    said = graph.nodes.assign(support=["probe cars; 'old'", None, "neighbours"], kind="segment")
    publish_observations(graph.replace(nodes=said), dsn)
    assert [row[1:3] for row in query(dsn, SUPPORT)] == [
        ("segment", "probe cars; 'old'"),
        ("segment", "own sensor"),
        ("segment", "neighbours"),
    ]


def test_nodes_of_an_earlier_feed_stay_in_the_layers(dsn: str) -> None:
    """One district after the other fills the same layers."""
    publish_observations(make_readings([[1, 2]]), dsn)
    publish_observations(make_readings([[3], [4]], ids=["z"], start="2024-03-01T00:05Z"), dsn)
    assert [row[:3] for row in query(dsn, LATEST)] == [
        ("a", "01 00:00", 1),
        ("b", "01 00:00", 2),
        ("z", "01 00:10", 4),
    ]
    assert [row[3] for row in query(dsn, SUPPORT)] == [100, 100, 100]
    publish_observations(make_readings([[5, 6]], start="2024-03-01T00:15Z"), dsn)
    assert [row[2] for row in query(dsn, LATEST)] == [5, 6, 4]


SHAPES = {
    "POINT": [shapely.Point(i, 0) for i in range(2)],
    "LINESTRING": [shapely.LineString([(i, 0), (i, 1)]) for i in range(2)],
    "POLYGON": [shapely.box(i, 0, i + 1, 1) for i in range(2)],
    "MULTIPOLYGON": [shapely.box(0, 0, 1, 1), shapely.MultiPolygon([shapely.box(2, 0, 3, 1)])],
}


@pytest.mark.parametrize("kind", SHAPES)
def test_geometries_are_typed(dsn: str, kind: str) -> None:
    """QGIS sees one type of geometry and its CRS, and a key."""
    publish_observations(make_readings([[1, 2]], shapes=SHAPES[kind]), dsn)
    found = query(
        dsn,
        "SELECT f_table_name, type, srid FROM public.geometry_columns "
        "WHERE f_table_name IN ('observation_latest', 'support') ORDER BY 1",
    )
    assert found == [("observation_latest", kind, 4326), ("support", kind, 4326)]
    assert query(dsn, "SELECT count(geom) FROM {schema}.observation_latest") == [(2,)]


def test_single_parts_after_multiple_ones(dsn: str) -> None:
    """A graph of fewer nodes, none of them in parts, goes where some were; so does a forecast."""
    parts = SHAPES["MULTIPOLYGON"]
    publish_observations(make_readings([[1, 2]], shapes=parts), dsn)
    graph = make_readings([[3]], shapes=parts[:1])
    publish_observations(graph, dsn)
    publish_forecast(graph.replace(provenance=ISSUED), dsn)
    assert [row[2] for row in query(dsn, LATEST)] == [3, 2]
    assert query(dsn, "SELECT GeometryType(geom) FROM {schema}.forecast_latest") == [
        ("MULTIPOLYGON",)
    ]


# --------------------------------------------------------------------------------- odd surroundings

NASTY = ['a"; DROP SCHEMA stgraph CASCADE; --', "Ö'; {} %s %% \\", "日本" * 50, "x" * 100, ""]


def test_hostile_ids_and_names(dsn: str) -> None:
    """Quotes, braces, percent signs and long names are data like any other."""
    names = [*NASTY[:4], "x" * 99, "time", "TREND", "fid"]
    features = tuple(Feature(name, "km'/h\"%s{}") for name in names)
    table = [[[10 * i + j for j in range(len(names))] for i in range(len(NASTY))]]
    graph = make_readings(table, ids=NASTY, features=features)
    publish_observations(graph, dsn)
    assert counts(publish_observations(graph, dsn)) == (0, 0, 0)
    assert len(query(dsn, ROWS)) == len(NASTY) * len(names)
    rows = query(dsn, "SELECT * FROM {schema}.observation_latest ORDER BY fid")
    assert [row[1] for row in rows] == NASTY
    assert [row[4:-2] for row in rows] == [tuple(row) for row in table[0]]


def test_integer_ids(dsn: str) -> None:
    """Numbers are told apart as text."""
    publish_observations(make_readings([[1, 2]], ids=[401_302, -7]), dsn)
    assert [row[0] for row in query(dsn, LATEST)] == ["401302", "-7"]


def test_two_schemas_in_one_database(database: str) -> None:
    """Data sets do not know of each other, whatever they are called."""
    other = "Zürich; 'x' \"y\""
    init_schema(database)
    init_schema(database, schema=other)
    publish_observations(make_readings([[1, 2]]), database)
    publish_observations(make_readings([[3]], ids=["b"]), database, schema=other)
    assert [row[3] for row in query(database, ROWS)] == [1, 2]
    assert [row[3] for row in query(database, ROWS, other)] == [3]
    assert [row[0] for row in query(database, LATEST, other)] == ["b"]


def test_edges_are_kept_when_the_readings_have_none(dsn: str) -> None:
    """Raw readings, published beside a forecast on a network, do not take the network away."""
    graph = make_readings([[1, 2, 3]])
    publish_observations(graph, dsn)
    bare = graph.replace(edge_index=None, edge_weight=None)
    publish_observations(bare, dsn)
    assert query(dsn, "SELECT count(*) FROM {schema}.edge") == [(2,)]
    with_edges = make_readings([[1, 2, 3, 4]])
    publish_observations(with_edges, dsn, edges=False)
    assert query(dsn, "SELECT count(*) FROM {schema}.edge") == [(2,)]


def test_numbers_of_features_are_not_used_up(dsn: str) -> None:
    """A feature keeps its number, and publishing draws no further one: there are 32,767."""
    for value in range(4):
        publish_observations(make_readings([[value]]), dsn)
    publish_observations(make_readings([[1]], features=(Feature("flow", "veh/h"),)), dsn)
    found = query(dsn, "SELECT name, feature_id FROM {schema}.feature ORDER BY 2")
    assert found == [("speed", 1), ("flow", 2)]


def test_a_writer_publishes_once_the_layers_are_there(database: str) -> None:
    """The first time needs the owner, as it makes tables; the routine, with a new day, does not."""
    init_schema(database, roles=True)
    publish_observations(make_readings([[1, 2]]), database)
    as_writer = f"{database} options='-c role=stgraph_writer'"
    done = publish_observations(make_readings([[3, NAN]], start="2024-03-02T00:00Z"), as_writer)
    assert counts(done) == (1, 0, 0)
    as_reader = f"{database} options='-c role=stgraph_reader'"
    assert [row[2] for row in query(as_reader, LATEST)] == [3, 2]
    assert len(query(as_reader, SUPPORT)) == 2


def test_what_cannot_be_published(dsn: str) -> None:
    """Forecasts, empty graphs and names that no database keeps are refused before any writing."""
    graph = make_readings([[1, 2]])
    forecast = graph.replace(provenance=ISSUED)
    with pytest.raises(DataError, match="publish_forecast"):
        publish_observations(forecast, dsn)
    with pytest.raises(DataError, match="publish_observations"):
        publish_forecast(graph, dsn)
    with pytest.raises(DataError, match="no readings to publish"):
        publish_observations(graph.select_steps(0, 0), dsn)
    for name in ("a\x00b", "\ud800"):
        with pytest.raises(DataError, match="no database keeps"):
            publish_observations(graph.replace(features=(Feature(name),)), dsn)
    assert query(dsn, "SELECT count(*) FROM {schema}.node") == [(0,)]


def test_a_missing_schema_says_what_to_run(database: str) -> None:
    """Nothing is made behind the user's back."""
    with pytest.raises(OutputError, match="stgraph db init"):
        publish_observations(make_readings([[1]]), database)
