"""The GeoPackage sink: what QGIS needs is in the file, and all of the graph comes back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stgraph_connectors.sinks.geopackage import read_geopackage, write_geopackage
from stgraph_connectors.styles import Style

from stgraph.errors import DataError, InputError, OutputError
from stgraph.graph import Feature, STGraph


def query(path: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql, values).fetchall()


def test_forecast_comes_back_equal(forecast: STGraph, tmp_path: Path) -> None:
    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    back = read_geopackage(path)
    assert back.equals(forecast)
    assert back.provenance == forecast.provenance
    assert back.time.freq == forecast.time.freq


def test_readings_with_gaps_filled_values_and_mask_come_back(
    graph: STGraph, tmp_path: Path
) -> None:
    filled = np.nan_to_num(graph.values, nan=7.0)
    twice = graph.replace(values=filled, mask=graph.mask)  # filled, but not observed
    for one in (graph, twice):
        back = read_geopackage(write_geopackage(one, tmp_path / "o.gpkg"))
        assert back.equals(one)
    layers = {name for name, _ in pyogrio.list_layers(tmp_path / "o.gpkg")}
    assert {"observation", "nodes", "edges"} <= layers
    assert "forecast" not in layers


def test_other_geometries_come_back(shaped: STGraph, tmp_path: Path) -> None:
    back = read_geopackage(write_geopackage(shaped, tmp_path / "f.gpkg"))
    assert back.equals(shaped)
    assert len(pyogrio.read_dataframe(tmp_path / "f.gpkg", layer="forecast")) == 9


def test_graph_without_signal_or_edges_comes_back(points: gpd.GeoDataFrame, tmp_path: Path) -> None:
    bare = STGraph(nodes=points)
    assert read_geopackage(write_geopackage(bare, tmp_path / "n.gpkg")).equals(bare)


def test_graph_without_any_geometry_comes_back(forecast: STGraph, tmp_path: Path) -> None:
    nodes = gpd.GeoDataFrame({"kind": "station"}, index=forecast.node_ids, geometry=[None] * 4)
    bare = forecast.replace(nodes=nodes)
    assert read_geopackage(write_geopackage(bare, tmp_path / "n.gpkg")).equals(bare)


def test_single_instant_comes_back(forecast: STGraph, tmp_path: Path) -> None:
    one = forecast.select_steps(0, 1)
    assert read_geopackage(write_geopackage(one, tmp_path / "n.gpkg")).equals(one)


def test_edge_table_with_own_lines_and_multiindex_comes_back(
    forecast: STGraph, tmp_path: Path
) -> None:
    lines = [shapely.LineString([(0, i), (5, 5), (9, i)]) for i in range(3)]
    index = pd.MultiIndex.from_tuples([(1, 2, 0), (2, 3, 0), (3, 4, 1)], names=["u", "v", "key"])
    table = gpd.GeoDataFrame(
        {"name": ["x", "y", None], "lanes": [[1, 2], [3], []], "weight": [1, 2, 3]},
        index=index,
        geometry=lines,
        crs=2193,
    )
    back = read_geopackage(write_geopackage(forecast.replace(edges=table), tmp_path / "e.gpkg"))
    assert back.edges is not None
    assert back.edges.index.equals(index)
    assert back.edges["lanes"].tolist() == [[1, 2], [3], []]
    assert back.edges["weight"].tolist() == [1, 2, 3]
    assert back.edges.geometry.tolist() == lines


def test_edges_can_be_left_out(forecast: STGraph, tmp_path: Path) -> None:
    path = write_geopackage(forecast, tmp_path / "f.gpkg", edges=False)
    assert read_geopackage(path).n_edges == 0
    assert "edges" not in {name for name, _ in pyogrio.list_layers(path)}


def test_file_is_a_geopackage_of_version_1_3(forecast: STGraph, tmp_path: Path) -> None:
    """QGIS 3.22 warns about 1.4."""
    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    assert query(path, "PRAGMA application_id") == [(0x47504B47,)]
    assert query(path, "PRAGMA user_version") == [(10300,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "PRAGMA foreign_key_check") == []
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


def test_every_table_is_registered_once(forecast: STGraph, tmp_path: Path) -> None:
    metrics = pd.DataFrame({"mae": [1.0, 2, 3, 4]}, index=forecast.node_ids)
    path = write_geopackage(forecast, tmp_path / "f.gpkg", node_metrics=metrics)
    rows = dict(query(path, "SELECT table_name, data_type FROM gpkg_contents"))  # type: ignore[arg-type]
    assert rows == {
        "nodes": "features",
        "edges": "features",
        "forecast": "features",
        "error_by_node": "features",
        "forecast_value": "attributes",
        "forecast_step": "attributes",
        "node_metric": "attributes",
        "layer_styles": "attributes",
    }
    geometry = query(
        path, "SELECT table_name, geometry_type_name, srs_id, z, m FROM gpkg_geometry_columns"
    )
    assert ("forecast", "POINT", 2193, 0, 0) in geometry


def test_instants_end_in_milliseconds_and_z(forecast: STGraph, tmp_path: Path) -> None:
    """Another spelling makes QGIS 3.22 warn about a non-conformant datetime."""
    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    rows = query(path, "SELECT DISTINCT target_time, local_time, issued_at FROM forecast")
    assert rows[0] == (
        "2024-03-01T07:00:00.000Z",
        "2024-03-01 20:00 NZDT",
        "2024-03-01T06:55:00.000Z",
    )


def test_default_style_row_fits_the_lookup_of_qgis(forecast: STGraph, tmp_path: Path) -> None:
    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    rows = query(
        path,
        "SELECT f_table_catalog, f_table_schema, f_geometry_column, styleName, styleQML "
        "FROM layer_styles WHERE f_table_name = 'forecast' AND useAsDefault = 1",
    )
    assert [row[:4] for row in rows] == [("", "", "geom", "Speed (km/h)")]
    renderer = ET.fromstring(str(rows[0][4])).find("renderer-v2")
    assert renderer is not None
    assert renderer.get("attr") == "speed"
    others = query(path, "SELECT count(*) FROM layer_styles WHERE f_table_name = 'forecast'")
    assert others == [(4,)]


def test_geometry_is_kept_once(forecast: STGraph, tmp_path: Path) -> None:
    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    assert query(path, "SELECT count(*) FROM nodes") == [(4,)]
    assert query(path, "SELECT count(*) FROM forecast_value") == [(12,)]
    assert query(path, "SELECT type FROM sqlite_master WHERE name = 'forecast'") == [("view",)]


def test_a_frame_and_a_node_are_found_by_index(forecast: STGraph, tmp_path: Path) -> None:
    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    for where in ("target_time > 'a' AND target_time < 'b'", "OGC_FID = 5", "node_fid = 2"):
        plan = query(
            path,
            f"EXPLAIN QUERY PLAN SELECT * FROM forecast_value v WHERE {where}".replace(
                "OGC_FID", "fid"
            ),
        )
        assert "USING" in str(plan[0][3]), where


def test_columns_carry_their_unit(forecast: STGraph, tmp_path: Path) -> None:
    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    rows = query(
        path, "SELECT column_name, name FROM gpkg_data_columns WHERE table_name = 'forecast'"
    )
    assert ("speed", "Speed (km/h)") in rows


def test_a_forecast_of_classes_speaks_in_words(forecast: STGraph, tmp_path: Path) -> None:
    """Styles, column notes and the map tip say which class, not its number."""
    given = forecast.replace(
        values=np.ones_like(forecast.values[..., :3]),
        mask=None,
        features=tuple(Feature(n, "1") for n in ("speed_class", "speed_p0", "speed_p1")),
        provenance={**forecast.provenance, "classes": ["below 20 mph", "20 mph or more"]},
    )
    path = write_geopackage(given, tmp_path / "f.gpkg")
    styles = dict(query(path, "SELECT styleName, styleQML FROM layer_styles"))  # type: ignore[arg-type]
    notes = {title for (title,) in query(path, "SELECT title FROM gpkg_data_columns")}
    titles = {"Speed class", "Speed below 20 mph, probability", "Speed 20 mph or more, probability"}
    assert titles <= set(styles)
    assert titles <= notes
    assert "array_get(array('below 20 mph', '20 mph or more')" in str(styles["Speed class"])


def test_numbers_print_short_and_are_the_same_float32(forecast: STGraph, tmp_path: Path) -> None:
    values = forecast.values.copy()
    values[0, :, 0] = [412.4, 1 / 3, -1e-38, 3.4e38]
    one = forecast.replace(values=values)
    path = write_geopackage(one, tmp_path / "f.gpkg")
    assert query(path, "SELECT speed FROM forecast_value WHERE fid = 1") == [(412.4,)]
    assert read_geopackage(path).equals(one)


def test_writing_twice_does_not_double_rows(forecast: STGraph, tmp_path: Path) -> None:
    for _ in range(2):
        path = write_geopackage(forecast, tmp_path / "f.gpkg")
    assert query(path, "SELECT count(*) FROM forecast") == [(12,)]
    assert [p.name for p in tmp_path.iterdir()] == ["f.gpkg"]


def test_metrics_become_a_layer_with_their_own_style(forecast: STGraph, tmp_path: Path) -> None:
    metrics = pd.DataFrame(
        {"mae": [1.0, 2.5, np.nan], "skill_percent": [10.0, -5, 0], "note": "x"},
        index=["d", "b", "a"],
    )
    path = write_geopackage(forecast, tmp_path / "f.gpkg", node_metrics=metrics)
    rows = query(path, "SELECT node_id, mae, skill_percent FROM error_by_node ORDER BY node_id")
    assert rows == [("a", None, 0.0), ("b", 2.5, -5.0), ("c", None, None), ("d", 1.0, 10.0)]
    styles = query(
        path,
        "SELECT styleName, useAsDefault FROM layer_styles WHERE f_table_name = 'error_by_node'",
    )
    assert styles == [("MAE (km/h)", 1), ("Skill (%)", 0)]


@pytest.mark.parametrize("index", [["a", "zz"], ["a", "a"]])
def test_metrics_of_unknown_or_repeated_nodes_are_refused(
    forecast: STGraph, tmp_path: Path, index: list[str]
) -> None:
    metrics = pd.DataFrame({"mae": [1.0, 2.0]}, index=index)
    with pytest.raises(InputError, match="one row per node id"):
        write_geopackage(forecast, tmp_path / "f.gpkg", node_metrics=metrics)
    assert list(tmp_path.iterdir()) == []


def test_nodes_without_geometry_are_said(
    forecast: STGraph, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shapes = [None, *forecast.nodes.geometry[1:]]
    one = forecast.replace(nodes=forecast.nodes.set_geometry(shapes, crs=2193))
    path = write_geopackage(one, tmp_path / "f.gpkg")
    assert "1 of 4 nodes have no geometry" in caplog.text
    assert query(path, "SELECT description FROM gpkg_contents WHERE table_name = 'nodes'") == [
        ("4 nodes, 1 of them without geometry",)
    ]


def test_a_reader_keeps_the_old_file_and_a_stale_log_is_not_replayed(
    forecast: STGraph, tmp_path: Path
) -> None:
    """QGIS opens in WAL mode: its log belongs to the old file, not to the new one."""
    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    reader = sqlite3.connect(path)
    reader.execute("PRAGMA journal_mode=WAL")
    reader.execute("UPDATE forecast_value SET speed = -1")
    reader.commit()
    write_geopackage(forecast, path)
    assert reader.execute("SELECT min(speed) FROM forecast").fetchall() == [(-1.0,)]
    assert read_geopackage(path).equals(forecast)
    reader.close()
    assert read_geopackage(path).equals(forecast)


ATTRIBUTES = {
    "fid": [1, 2, 3, 4],
    "geom": ["x", "", None, "ü"],
    "OGC_FID": [True, False, True, False],
    "target_time": pd.to_datetime(["2024-01-01", None, "2024-01-03", "2024-01-04"]),
    "seen": pd.to_datetime(["2024-01-01T00:00:00.123456"] * 4).tz_localize("Europe/Berlin"),
    "speed": [1.5, np.nan, 2.5, -0.0],
    "SPEED": pd.array([1, None, 3, 2**40], dtype="Int64"),
    'quo"te;--': [[1, 2], [], ["a"], [None]],
    "": [{"a": 1}, {"b": [1]}, {}, {"c": None}],
    "select": pd.Categorical(["x", "y", "x", None]),
    "big": np.array([2**64 - 1, 0, 1, 2], dtype=np.uint64),
    "mixed": [1, "one", 1.5, None],
    "flag": pd.array([True, None, False, True], dtype="boolean"),
    "small": np.array([1, 2, 3, 4], dtype=np.int8),
}


def test_any_attribute_column_survives(forecast: STGraph, tmp_path: Path) -> None:
    """Names that collide with ours or break SQL, and dtypes that GIS files do not know."""
    nodes = forecast.nodes.assign(**{name: ATTRIBUTES[name] for name in ATTRIBUTES if name})
    nodes[""] = ATTRIBUTES[""]
    one = forecast.replace(nodes=nodes)
    back = read_geopackage(write_geopackage(one, tmp_path / "f.gpkg"))
    pd.testing.assert_frame_equal(
        pd.DataFrame(back.nodes.drop(columns="geometry")),
        pd.DataFrame(one.nodes.drop(columns="geometry")),
        check_categorical=False,
    )
    assert back.equals(one.replace(nodes=back.nodes))


TEXT = st.text(st.characters(), max_size=12)  # with control characters and halves of pairs
LABEL = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)  # pandas takes no halves
IDS = st.one_of(
    st.lists(TEXT, min_size=2, max_size=4, unique=True),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=4, unique=True),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(ids=["\x00", "a\udcff"], column="\x00", feature="\x1f\ud800", unit="\x00")
@given(ids=IDS, column=LABEL, feature=TEXT, unit=TEXT)
def test_any_id_and_any_name_come_back(
    tmp_path: Path, ids: list[object], column: str, feature: str, unit: str
) -> None:
    """Whatever text a user has, the file opens and says the same."""
    n_nodes = len(ids)
    nodes = gpd.GeoDataFrame(
        {"kind": "station"},
        index=pd.Index(ids, dtype=None if isinstance(ids[0], int) else object),
        geometry=[shapely.Point(i, i) for i in range(n_nodes)],
        crs=2193,
    )
    if column not in ("kind", "geometry"):
        nodes[column] = 1
    one = STGraph(
        nodes=nodes,
        edge_index=np.array([[0], [1]]),
        time=pd.date_range("2024-01-01", periods=2, freq="h"),
        values=np.ones((2, n_nodes, 1), dtype=np.float32),
        features=(Feature(feature, unit),),
    )
    back = read_geopackage(write_geopackage(one, tmp_path / "p.gpkg"))
    assert list(back.node_ids) == list(one.node_ids)
    assert back.features == one.features
    assert list(back.nodes.columns) == list(one.nodes.columns)
    assert np.array_equal(back.values, one.values)
    for (qml,) in query(tmp_path / "p.gpkg", "SELECT styleQML FROM layer_styles"):
        ET.fromstring(str(qml))


def test_custom_reference_system_comes_back(forecast: STGraph, tmp_path: Path) -> None:
    local = (
        "+proj=tmerc +lat_0=-36.9 +lon_0=174.8 +k=1 +x_0=400000 +y_0=800000 +ellps=GRS80 +units=m"
    )
    one = forecast.replace(nodes=forecast.nodes.to_crs(local))
    assert read_geopackage(write_geopackage(one, tmp_path / "f.gpkg")).equals(one)


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("missing/f.gpkg", OutputError, "does not exist; create it first"),
        ("f.shp", InputError, r"does not end in \.gpkg"),
        ("f", InputError, r"does not end in \.gpkg"),
        ("folder.gpkg", InputError, "is a folder"),
        ("file.txt/f.gpkg", OutputError, "does not exist|Not a directory"),
        ("x" * 300 + ".gpkg", OutputError, "name too long"),
        ("nul\0.gpkg", InputError, "no file name"),
    ],
)
def test_bad_targets_leave_nothing(
    forecast: STGraph, tmp_path: Path, name: str, error: type[Exception], match: str
) -> None:
    (tmp_path / "folder.gpkg").mkdir()
    (tmp_path / "file.txt").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=match):
        write_geopackage(forecast, tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_existing_file_is_kept_without_overwrite(forecast: STGraph, tmp_path: Path) -> None:
    path = tmp_path / "f.gpkg"
    path.write_text("mine")
    with pytest.raises(OutputError, match="overwrite=True"):
        write_geopackage(forecast, path, overwrite=False)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("failing", ["create_extras", "add_document", "create_spatial_view"])
@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("database or disk is full"), OSError(28, "No space left")]
)
def test_disk_errors_leave_the_old_file_and_nothing_else(
    forecast: STGraph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    error: Exception,
) -> None:
    from stgraph_connectors.sinks import _gpkg

    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    before = path.read_bytes()

    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(_gpkg, failing, fail)
    with pytest.raises(OutputError, match="nothing was left behind"):
        write_geopackage(forecast, path)
    assert [p.name for p in tmp_path.iterdir()] == ["f.gpkg"]
    assert path.read_bytes() == before


def test_unknown_feature_in_the_style_is_named(forecast: STGraph, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'speed'"):
        write_geopackage(forecast, tmp_path / "f.gpkg", style=Style(feature="sped"))
    assert list(tmp_path.iterdir()) == []


def test_foreign_and_broken_files_are_refused(forecast: STGraph, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_geopackage(tmp_path / "none.gpkg")
    (tmp_path / "text.gpkg").write_text("no database at all, but long enough to look like one")
    with pytest.raises(DataError, match="no readable GeoPackage"):
        read_geopackage(tmp_path / "text.gpkg")
    forecast.nodes.to_file(tmp_path / "other.gpkg")
    with pytest.raises(DataError, match="was not written by stgraph"):
        read_geopackage(tmp_path / "other.gpkg")
    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    cut = tmp_path / "cut.gpkg"
    cut.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(DataError, match=r"cut\.gpkg"):
        read_geopackage(cut)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM forecast_value WHERE fid > 9")
    with pytest.raises(DataError, match="9 value rows for 3 steps of 4 nodes"):
        read_geopackage(path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE forecast_value SET speed = 'fast' WHERE fid = 1",
        "UPDATE forecast_value SET speed = x'00' WHERE fid = 1",
        "UPDATE gpkg_metadata SET metadata = '{\"format\": 1}' WHERE md_standard_uri LIKE 'urn:%'",
    ],
)
def test_changed_files_are_refused(forecast: STGraph, tmp_path: Path, change: str) -> None:
    """Cells that somebody edited into nonsense are an error of ours, not one of numpy's."""
    path = write_geopackage(forecast, tmp_path / "f.gpkg")
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(change).rowcount == 1
    with pytest.raises(DataError, match=r"f\.gpkg' was changed since it was written"):
        read_geopackage(path)
