"""Reading back: what was published is what comes out, of one moment, or a clear error."""

from __future__ import annotations

import threading
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.places import sync_edges, sync_features, sync_nodes
from stgraph_connectors.postgis.reading import read_forecast, read_observations
from stgraph_connectors.postgis.schema import init_schema

from stgraph import registry
from stgraph.config import reveal
from stgraph.configfile import read_config
from stgraph.errors import DataError, InputError, OutputError
from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis

X, Y = 1_750_000.0, 5_900_000.0
FEATURES = (
    Feature("speed_q90", "km/h"),  # in an order of the user's own
    Feature("speed", "km/h"),
    Feature("speed_q10", "km/h"),
    Feature("flow", "veh/h"),
)


def make_forecast(
    nodes: gpd.GeoDataFrame,
    *,
    issued_at: str = "2024-03-01T06:55:00+00:00",
    edges: pd.DataFrame | None = None,
    add: float = 0.0,
) -> STGraph:
    """A forecast of 3 steps of 5 minutes for nodes in a row; one value is missing."""
    n_nodes, n_features = len(nodes), len(FEATURES)
    values = np.arange(3 * n_nodes * n_features, dtype=np.float32).reshape(3, n_nodes, n_features)
    values = values + np.float32(0.1 + add)
    values[1, 0, 1] = np.nan
    first = pd.Timestamp(issued_at) + pd.Timedelta("5min")
    return STGraph(
        nodes=nodes,
        edge_index=np.array([np.arange(n_nodes - 1), np.arange(1, n_nodes)]),
        edge_weight=np.arange(1, n_nodes, dtype=np.float32) / 3,
        weight_unit="m",
        edges=edges,
        time=pd.date_range(first, periods=3, freq="5min"),
        values=values,
        features=FEATURES,
        zone="Pacific/Auckland",
        provenance={
            "kind": "forecast",
            "issued_at": issued_at,
            "model": "gcn_lstm",
            "step_minutes": 5.0,
            "horizon": 3,
        },
    )


def make_nodes(ids: list[object], shapes: list[shapely.Geometry | None] | None = None, **columns):
    """Nodes in New Zealand, as points unless said otherwise."""
    shapes = shapes or [shapely.Point(X + 100.1 * i, Y + 1 / 3) for i in range(len(ids))]
    columns.setdefault("kind", "station")
    return gpd.GeoDataFrame(columns, index=pd.Index(ids), geometry=shapes, crs="EPSG:2193")


@pytest.fixture
def dsn(database: str) -> str:
    """A database with our schema."""
    init_schema(database)
    return database


def publish_and_read(graph: STGraph, dsn: str) -> STGraph:
    """Return what comes back of a forecast."""
    publish_forecast(graph, dsn)
    return read_forecast(dsn)


class TestForecast:
    def test_reads_back_equal(self, dsn: str) -> None:
        """Values, NaN, several targets, edges and notes are what was published."""
        graph = make_forecast(make_nodes(["b", "a", "c"]))
        found = publish_and_read(graph, dsn)
        assert found.equals(graph)
        assert found.provenance == graph.provenance
        assert found.step == graph.step
        assert not found.mask[1, 0, 1]

    @pytest.mark.parametrize(
        "ids",
        [[30, 10, 20], ["03", "3", 'o\'ne "x" ü'], [2**63 + 5, 1, 2], [-5, 0, 7]],
        ids=["integers", "texts", "large", "negative"],
    )
    def test_ids_keep_their_type(self, dsn: str, ids: list[object]) -> None:
        """Integer ids come back as integers, in their own order."""
        graph = make_forecast(make_nodes(ids))
        found = publish_and_read(graph, dsn)
        assert found.equals(graph)
        assert found.node_ids.dtype == graph.node_ids.dtype

    def test_attributes_of_every_type_come_back(self, dsn: str) -> None:
        """Numbers exact and infinite, missing values, instants with and without zone, lists."""
        stamps = pd.to_datetime(
            ["2024-01-01 00:00:00.123456", None, "2030-01-01"], format="ISO8601"
        )
        nodes = make_nodes(
            ["a", "b", "c"],
            lanes=[1, 2**62, -3],
            small=np.array([1, 2, 3], dtype=np.int8),
            width=[0.1, np.nan, np.inf],
            ratio=np.array([1 / 3, -np.inf, 1e-30], dtype=np.float32),
            open=[True, False, True],
            maybe=pd.array([True, None, False], dtype="boolean"),
            count=pd.array([1, None, 3], dtype="Int64"),
            name=["x", None, 'ö\x00"'],
            text=pd.array(["x", None, "z"], dtype="string"),
            naive=stamps,
            aware=stamps.tz_localize("Europe/Berlin"),
            whole=pd.to_datetime(["2024-01-01", None, "2030-01-01"]).tz_localize("UTC"),
            tags=[["a", "b"], [], None],
            mixed=[1, "one", None],
            id=["own", "id", "column"],
            geom=[1.5, 2.5, 3.5],
            other=[shapely.Point(1, 2), None, shapely.Point(3, 4)],
        )
        nodes["grade"] = pd.Categorical(["low", "high", "low"], categories=["high", "low"])
        nodes[7] = [7, 8, 9]
        nodes = nodes.assign(other=gpd.GeoSeries(nodes["other"].tolist(), index=nodes.index))
        graph = make_forecast(nodes)
        found = publish_and_read(graph, dsn)
        assert list(found.nodes.columns) == list(graph.nodes.columns)
        pd.testing.assert_frame_equal(
            pd.DataFrame(found.nodes.drop(columns=["geometry", "other"])),
            pd.DataFrame(graph.nodes.drop(columns=["geometry", "other"])),
        )
        assert list(found.nodes["other"]) == list(graph.nodes["other"])

    @pytest.mark.parametrize("kinds", [["segment", None, "cell"], [1, 2, 3]])
    def test_kinds_come_back(self, dsn: str, kinds: list[object]) -> None:
        """The column `kind` is kept once, and what is no text comes back too."""
        graph = make_forecast(make_nodes(["a", "b", "c"], kind=kinds))
        assert publish_and_read(graph, dsn).equals(graph)
        with psycopg.connect(dsn) as connection:
            row = connection.execute("SELECT attributes FROM stgraph.node LIMIT 1").fetchone()
        assert row is not None
        assert row[0] == ({} if kinds[0] == "segment" else {"kind": 1})

    @pytest.mark.parametrize("what", ["lines", "areas", "heights", "missing", "nothing"])
    def test_geometries_come_back(self, dsn: str, what: str) -> None:
        """Single parts among multi-part areas stay single, heights stay, and so does nothing."""
        boxes = [shapely.box(X + 10 * i, Y, X + 10 * i + 9, Y + 9) for i in range(4)]
        shapes = {
            "lines": [shapely.LineString([(X + i, Y), (X + i / 3, Y + 50)]) for i in range(3)],
            "areas": [
                boxes[0],
                shapely.MultiPolygon([boxes[1], boxes[2]]),
                shapely.MultiPolygon([boxes[3]]),
            ],
            "heights": [shapely.Point(X, Y, 12.5), shapely.Point(X, Y), shapely.Point(X, Y, -1)],
            "missing": [shapely.Point(X, Y), None, shapely.Point(X, Y)],
            "nothing": [None, None, None],
        }[what]
        graph = make_forecast(make_nodes(["a", "b", "c"], shapes))
        found = publish_and_read(graph, dsn)
        assert found.equals(graph)
        assert [s and s.wkt for s in found.nodes.geometry] == [
            s and s.wkt for s in graph.nodes.geometry
        ]

    def test_nodes_without_crs_come_back(self, dsn: str) -> None:
        """Nodes that are nowhere have no CRS, before and after."""
        nodes = make_nodes(["a", "b"], [None, None])
        graph = make_forecast(gpd.GeoDataFrame(nodes.drop(columns="geometry"), geometry=[None] * 2))
        found = publish_and_read(graph, dsn)
        assert found.nodes.crs is None
        assert found.equals(graph)

    @pytest.mark.parametrize("geometry", [True, False])
    def test_edge_table_comes_back(self, dsn: str, geometry: bool) -> None:
        """Attributes of edges, their index and their own lines, with heights, are kept."""
        table = pd.DataFrame(
            {"lanes": [2, 1], "name": ["High St", None], "length": [1 / 3, np.inf]},
            index=pd.MultiIndex.from_tuples([(1, 2), (2, 3)], names=["u", "v"]),
        )
        if geometry:
            lines = [
                shapely.LineString([(X, Y, 1), (X + 1, Y, 2)]),
                shapely.MultiLineString([[(X, Y), (X + 1, Y)], [(X + 2, Y), (X + 3, Y)]]),
            ]
            table = gpd.GeoDataFrame(table, geometry=lines, crs="EPSG:2193")
        graph = make_forecast(make_nodes(["a", "b", "c"]), edges=table)
        found = publish_and_read(graph, dsn)
        assert found.equals(graph)
        assert found.edges is not None
        assert found.edges.index.equals(table.index)

    def test_graph_without_edges(self, dsn: str) -> None:
        """No edges are no edges."""
        graph = make_forecast(make_nodes(["a", "b"]))
        graph = graph.replace(edge_index=None, edge_weight=None)
        assert publish_and_read(graph, dsn).equals(graph)

    def test_one_step_keeps_its_length(self, dsn: str) -> None:
        """A forecast of one step has no difference of times to tell its step by."""
        graph = make_forecast(make_nodes(["a", "b"]))
        found = publish_and_read(graph.select_steps(0, 1), dsn)
        assert found.equals(graph.select_steps(0, 1))

    def test_chunks_do_not_show(self, dsn: str) -> None:
        """Reading row by row gives the same."""
        graph = make_forecast(make_nodes([f"n{i}" for i in range(7)]))
        publish_forecast(graph, dsn)
        assert read_forecast(dsn, chunk_rows=1).equals(graph)
        assert read_forecast(dsn, chunk_rows=3).equals(graph)

    def test_older_issue_of_other_nodes(self, dsn: str) -> None:
        """An older issue has its own nodes and values; the order is that of the last graph."""
        old = make_forecast(make_nodes(["a", "b", "x"]), issued_at="2024-03-01T06:00:00+00:00")
        new = make_forecast(make_nodes(["b", "c", "a"]), add=100)
        publish_forecast(old, dsn)
        publish_forecast(new, dsn)
        assert read_forecast(dsn).equals(new)
        found = read_forecast(dsn, issued_at="2024-03-01T06:00Z")
        assert list(found.node_ids) == ["b", "a", "x"]
        expected = old.select_nodes(["b", "a", "x"])
        assert np.array_equal(found.values, expected.values, equal_nan=True)
        assert found.time.equals(old.time)

    def test_issue_time_without_zone_is_wall_clock(self, dsn: str) -> None:
        """19:55 in Auckland is 06:55 UTC."""
        graph = make_forecast(make_nodes(["a", "b"]))
        publish_forecast(graph, dsn)
        assert read_forecast(dsn, issued_at="2024-03-01 19:55").equals(graph)

    def test_hostile_names(self, database: str) -> None:
        """Schema, ids, columns and units with quotes and braces are only names."""
        schema = "o'\"{}; --"
        init_schema(database, schema=schema)
        nodes = make_nodes(["%s", "{}", "';--"], **{'we"ird {}%s': [1, 2, 3], "": [1, 2, 3]})
        graph = make_forecast(nodes)
        features = tuple(Feature(f"{f.name}", 'k"m%s{}') for f in FEATURES)
        graph = graph.replace(features=features)
        publish_forecast(graph, database, schema=schema)
        assert read_forecast(database, schema=schema).equals(graph)


class TestForecastErrors:
    def test_no_schema(self, database: str) -> None:
        """The command to run is named."""
        with pytest.raises(OutputError, match="stgraph db init --schema other"):
            read_forecast(database, schema="other")

    def test_no_issue_at_all(self, dsn: str) -> None:
        """An empty schema is no crash."""
        with pytest.raises(DataError, match="no forecast was published yet"):
            read_forecast(dsn)

    def test_names_the_nearest_issue(self, dsn: str) -> None:
        """A wrong time leads to the right one."""
        for hour in ("04", "06"):
            graph = make_forecast(make_nodes(["a", "b"]), issued_at=f"2024-03-01T{hour}:00+00:00")
            publish_forecast(graph, dsn)
        with pytest.raises(DataError, match=r"no issue of 2024-03-01T05:50.*2024-03-01T06:00:00"):
            read_forecast(dsn, issued_at="2024-03-01T05:50Z")

    @pytest.mark.parametrize("time", ["never", "", float("nan"), "2024-13-01"])
    def test_bad_time(self, dsn: str, time: str) -> None:
        """What is no time is named."""
        publish_forecast(make_forecast(make_nodes(["a", "b"])), dsn)
        with pytest.raises(InputError, match="`issued_at` is"):
            read_forecast(dsn, issued_at=time)

    def test_bad_schema(self) -> None:
        """A name that belongs to the server is refused before it is asked."""
        with pytest.raises(InputError, match="belongs to others"):
            read_forecast("dbname=none", schema="pg_catalog")

    def test_bad_chunk(self, dsn: str) -> None:
        """Chunks of nothing would never end."""
        with pytest.raises(InputError, match="chunk_rows"):
            read_forecast(dsn, chunk_rows=0)

    def test_reader_role_is_told_what_to_do(self, database: str) -> None:
        """Layers are for readers, tables are not."""
        init_schema(database, roles=True)
        publish_forecast(make_forecast(make_nodes(["a", "b"])), database)
        with psycopg.connect(database) as connection:
            connection.execute("CREATE ROLE reads_only LOGIN IN ROLE stgraph_reader")
        reader = psycopg.conninfo.make_conninfo(database, user="reads_only")
        with pytest.raises(OutputError, match="writer or owner role"):
            read_forecast(reader)

    def test_writer_may_read(self, database: str) -> None:
        """The role that publishes reads back."""
        init_schema(database, roles=True)
        graph = make_forecast(make_nodes(["a", "b"]))
        publish_forecast(graph, database)
        with psycopg.connect(database) as connection:
            connection.execute("CREATE ROLE writes LOGIN IN ROLE stgraph_writer")
        assert read_forecast(psycopg.conninfo.make_conninfo(database, user="writes")).equals(graph)


def test_never_a_mix_of_two_issues(dsn: str) -> None:
    """Readers poll while issues are published: all values of a graph are of its issue."""
    nodes = make_nodes([f"n{i}" for i in range(50)])
    start = pd.Timestamp("2024-03-01T00:00Z")
    issues = {
        at.isoformat(): make_forecast(nodes, issued_at=at.isoformat(), add=1000.0 * i)
        for i, at in enumerate(pd.date_range(start, periods=8, freq="5min"))
    }
    publish_forecast(issues[start.isoformat()], dsn)
    seen: list[bool] = []
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            found = read_forecast(dsn)
            seen.append(found.equals(issues[found.provenance["issued_at"]]))

    reader = threading.Thread(target=poll)
    reader.start()
    for graph in issues.values():
        publish_forecast(graph, dsn)
    done.set()
    reader.join()
    assert seen
    assert all(seen)


# ------------------------------------------------------------------------------- observations


def make_readings(n_steps: int = 6) -> STGraph:
    """Readings of two quantities by three stations, every 5 minutes over midnight UTC."""
    values = np.arange(n_steps * 6, dtype=np.float32).reshape(n_steps, 3, 2)
    values[2:3, 1, 0] = np.nan
    return STGraph(
        nodes=make_nodes(["b", "a", "c"]),
        edge_index=np.array([[0, 1], [1, 2]]),
        weight_unit="m",
        time=pd.date_range("2024-02-29T23:50Z", periods=n_steps, freq="5min"),
        values=values,
        features=(Feature("speed", "km/h"), Feature("rain", "mm", "known_future")),
        zone="Pacific/Auckland",
    )


def insert_readings(dsn: str, graph: STGraph, schema: str = "stgraph") -> None:
    """Write readings by plain SQL."""
    with psycopg.connect(dsn) as connection:
        numbers = sync_nodes(connection, schema, graph)
        sync_edges(connection, schema, graph, numbers)
        ids = sync_features(connection, schema, graph.features, {})
        for t, time in enumerate(graph.time):
            connection.execute("SELECT stgraph.ensure_partition('observation', %s)", (time.date(),))
            for f, feature in enumerate(graph.features):
                rows = [
                    (time, int(numbers[n]), ids[feature.name], float(graph.values[t, n, f]))
                    for n in np.flatnonzero(graph.mask[t, :, f])
                ]
                with connection.cursor() as cursor:
                    cursor.executemany(
                        "INSERT INTO stgraph.observation (time, node_id, feature_id, value) "
                        "VALUES (%s, %s, %s, %s)",
                        rows,
                    )
            if graph.mask[t].any():
                connection.execute("INSERT INTO stgraph.observation_time VALUES (%s)", (time,))


class TestObservations:
    @pytest.mark.parametrize("chunk_rows", [1, 7, 1_000_000])
    def test_reads_back_equal(self, dsn: str, chunk_rows: int) -> None:
        """Values, mask, features in their order, edges and zone, over two days."""
        graph = make_readings()
        insert_readings(dsn, graph)
        found = read_observations(dsn, chunk_rows=chunk_rows)
        assert found.equals(graph)
        assert found.step == pd.Timedelta("5min")
        assert found.provenance["connector"] == "postgis"
        assert len(found.report) == 0

    def test_cut_in_time(self, dsn: str) -> None:
        """From `start` on, before `stop`; wall clock without a zone (UTC+13)."""
        graph = make_readings()
        insert_readings(dsn, graph)
        found = read_observations(dsn, start="2024-02-29T23:55Z", stop="2024-03-01 13:10")
        assert found.equals(graph.select_steps(1, 4))

    def test_some_features_in_the_order_asked_for(self, dsn: str) -> None:
        """Also one alone."""
        graph = make_readings()
        insert_readings(dsn, graph)
        assert read_observations(dsn, features=["rain"]).equals(graph.select_features(["rain"]))
        both = ["rain", "speed"]
        assert read_observations(dsn, features=both).equals(graph.select_features(both))

    def test_instants_without_any_reading(self, dsn: str) -> None:
        """They are steps like others, all missing, and the report says so."""
        graph = make_readings()
        mask = graph.mask.copy()
        mask[3:5] = False
        values = np.where(mask, graph.values, np.float32("nan"))
        graph = graph.replace(values=values, mask=mask)
        insert_readings(dsn, graph)
        found = read_observations(dsn)
        assert found.equals(graph)
        assert "2 of 6 steps" in str(found.report)

    def test_step_is_the_one_that_fits(self, dsn: str) -> None:
        """Instants 10 and 15 minutes apart lie on a grid of 5 minutes."""
        graph = make_readings(6)
        mask = graph.mask.copy()
        mask[[1, 3, 4]] = False  # left: 0, 10 and 25 minutes
        insert_readings(dsn, graph.replace(mask=mask))
        assert read_observations(dsn).step == pd.Timedelta("5min")
        assert read_observations(dsn, step_minutes=2.5).n_steps == 11
        with pytest.raises(DataError, match="`step_minutes` = 10"):
            read_observations(dsn, step_minutes=10)

    def test_one_instant(self, dsn: str) -> None:
        """One instant has no step."""
        graph = make_readings(1)
        insert_readings(dsn, graph)
        found = read_observations(dsn)
        assert found.n_steps == 1
        assert np.array_equal(found.values, graph.values)

    def test_nodes_of_before(self, dsn: str) -> None:
        """Stations that are gone from the last graph come last, if they have readings."""
        graph = make_readings()
        insert_readings(dsn, graph)
        with psycopg.connect(dsn) as connection:
            sync_nodes(connection, "stgraph", graph.select_nodes(["c", "a"]))
        found = read_observations(dsn)
        assert list(found.node_ids) == ["c", "a", "b"]
        expected = graph.select_nodes(["c", "a", "b"])
        assert np.array_equal(found.values, expected.values, equal_nan=True)

    def test_forecast_quantities_are_left_out(self, dsn: str) -> None:
        """Features that only forecasts have are no readings."""
        graph = make_readings()
        insert_readings(dsn, graph)
        publish_forecast(make_forecast(graph.nodes), dsn, edges=False)
        assert read_observations(dsn).feature_names == ("speed", "rain")

    def test_from_a_job_file(self, dsn: str, tmp_path: Path) -> None:
        """The connector takes its options as TOML gives them."""
        graph = make_readings()
        insert_readings(dsn, graph)
        job = tmp_path / "job.toml"
        job.write_text(
            f'[data]\nconnector = "postgis"\ndsn = "{dsn}"\nfeatures = ["speed"]\n'
            'start = "2024-02-29T23:55Z"\nstop = 2024-03-01T00:10:00Z\n'
        )
        config = read_config(job)
        assert registry.load("connectors", "postgis") is read_observations
        found = read_observations(**reveal(config.data.options))
        assert found.equals(graph.select_features(["speed"]).select_steps(1, 4))


class TestObservationErrors:
    def test_nothing_published(self, dsn: str) -> None:
        """An empty schema is no crash."""
        with pytest.raises(DataError, match="no readings were published yet"):
            read_observations(dsn)

    def test_empty_span(self, dsn: str) -> None:
        """The message says where there are readings."""
        insert_readings(dsn, make_readings())
        with pytest.raises(DataError, match=r"some from 2024-02-29T23:50.* to 2024-03-01T00:15"):
            read_observations(dsn, start="2025-01-01")

    def test_unknown_feature(self, dsn: str) -> None:
        """The nearest name is given."""
        insert_readings(dsn, make_readings())
        with pytest.raises(DataError, match="did you mean 'speed'"):
            read_observations(dsn, features=["sped"])
        with pytest.raises(InputError, match="list of names"):
            read_observations(dsn, features="speed")

    def test_too_many_cells(self, dsn: str) -> None:
        """Memory is asked for before it is taken."""
        insert_readings(dsn, make_readings())
        with pytest.raises(DataError, match="6 steps x 3 nodes x 2 features"):
            read_observations(dsn, max_cells=35)

    def test_no_grid(self, dsn: str) -> None:
        """Instants apart by a day and a microsecond make no grid."""
        insert_readings(dsn, make_readings())
        with psycopg.connect(dsn) as connection:
            connection.execute(
                "INSERT INTO stgraph.observation_time VALUES ('2024-03-01T00:00:00.000001Z')"
            )
        with pytest.raises(DataError, match="on no grid"):
            read_observations(dsn)


class TestPublishedAgain:
    """What an older graph left in the tables must not show in a newer one, or break it."""

    def test_single_parts_after_several(self, dsn: str) -> None:
        """Nodes of single parts fit in where there were some of several."""
        boxes = [shapely.box(X + 10 * i, Y, X + 10 * i + 9, Y + 9) for i in range(4)]
        several = shapely.MultiPolygon([boxes[1], boxes[2]])
        old = make_forecast(make_nodes(["a", "b"], [boxes[0], several]))
        new = make_forecast(
            make_nodes(["a", "b"], [boxes[0], boxes[3]]), issued_at="2024-03-01T07:00:00+00:00"
        )
        publish_forecast(old, dsn)
        assert publish_and_read(new, dsn).equals(new)

    def test_nodes_that_moved_and_changed(self, dsn: str) -> None:
        """Places that are given later, moved, or taken back, and other columns."""
        old = make_forecast(
            make_nodes(["a", "b", "c"], [None, shapely.Point(X, Y), None], x=[1] * 3)
        )
        for i, shapes in enumerate(
            (
                [shapely.Point(X, Y), shapely.Point(X + 1, Y), None],
                [shapely.Point(X, Y), None, shapely.Point(X, Y, 5)],
            )
        ):
            publish_forecast(old, dsn)
            new = make_forecast(
                make_nodes(["a", "b", "c"], shapes, y=["p", "q", "r"]),
                issued_at=f"2024-03-01T07:0{i}:00+00:00",
            )
            assert publish_and_read(new, dsn).equals(new)

    def test_edges_are_drawn_where_the_nodes_are(self, dsn: str) -> None:
        """The straight line of an edge follows its nodes."""
        publish_forecast(make_forecast(make_nodes(["a", "b"])), dsn)
        moved = make_nodes(["a", "b"], [shapely.Point(X, Y), shapely.Point(X, Y + 7)])
        publish_forecast(make_forecast(moved, issued_at="2024-03-01T07:00:00+00:00"), dsn)
        with psycopg.connect(dsn) as connection:
            row = connection.execute("SELECT ST_Length(geom) FROM stgraph.edge").fetchone()
        assert row == (7,)

    def test_notes_with_odd_values(self, dsn: str) -> None:
        """Numbers and texts that JSON in a database does not know break nothing."""
        graph = make_forecast(make_nodes(["a", "b"]))
        notes = {**graph.provenance, "score": float("nan"), "best": float("inf"), "text": "a\x00b"}
        graph = graph.replace(provenance=notes)
        publish_forecast(graph, dsn, metrics={"mape": float("nan")}, config={"x": "\x00"})
        assert read_forecast(dsn).equals(graph)
