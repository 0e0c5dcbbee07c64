"""Graph files: what is written comes back, and what was edited in between is taken and told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from road_graphs import make_roads
from stgraph_connectors.graph_file import read_graph
from stgraph_connectors.sinks.geopackage import write_geopackage
from stgraph_connectors.sinks.graph_file import write_graph

from stgraph import registry
from stgraph.errors import DataError
from stgraph.graph import STGraph


@pytest.fixture
def roads() -> STGraph:
    return make_roads()


@pytest.fixture
def path(roads: STGraph, tmp_path: Path) -> Path:
    return write_graph(roads, tmp_path / "city.gpkg")


def edit(path: Path, *statements: str) -> None:
    """Change a file as GIS programs do, by SQL; triggers of the spatial index need functions."""
    with closing(sqlite3.connect(path)) as db, db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in names:
            db.execute(f'DROP TRIGGER "{name}"')
        for statement in statements:
            db.execute(statement)


def told(graph: STGraph) -> str:
    return str(graph.report)


def test_roads_come_back_equal(roads: STGraph, path: Path) -> None:
    """Ids, dtypes, lines, missing values and forbidden turns survive; nothing is found."""
    back = read_graph(path)
    assert back.equals(roads)
    assert back.edges is not None
    assert roads.edges is not None
    assert back.edges.dtypes.equals(roads.edges.dtypes)
    assert back.node_ids.dtype == np.int64
    assert back.provenance == roads.provenance
    assert registry.load("connectors", "graph")(path=path).equals(roads)


def test_other_graphs_come_back_equal(graph: STGraph, tmp_path: Path) -> None:
    """Stations with text ids, links without a table, areas, no CRS, no edges, labelled edges."""
    bare = graph.replace(time=None, values=None, mask=None, features=())
    labels = pd.MultiIndex.from_arrays([range(8), [0] * 8], names=["u", "key"])
    table = pd.DataFrame({"tags": [[1, 2]] * 8, "n": np.arange(8, dtype=np.int32)}, index=labels)
    areas = gpd.GeoDataFrame(
        {"kind": "cell"}, index=pd.Index(["5", "x"], name="zone"), crs=2193,
        geometry=[shapely.box(0, 0, 1, 1), shapely.MultiPolygon([shapely.box(2, 0, 3, 1)])],
    )  # fmt: skip
    nowhere = gpd.GeoDataFrame({"kind": "station"}, index=["a"], geometry=[None])
    flat = make_roads(crs="EPSG:32632")
    for one in (
        bare, bare.replace(edges=table), bare.replace(edge_index=None, edge_weight=None),
        STGraph(nodes=areas, edge_index=np.array([[0], [1]])), STGraph(nodes=nowhere), flat,
    ):  # fmt: skip
        back = read_graph(write_graph(one, tmp_path / "g.gpkg"))
        assert back.equals(one), one
    back = read_graph(write_graph(bare.replace(edges=table), tmp_path / "g.gpkg"))
    assert back.edges is not None
    assert back.edges.index.equals(labels)


def test_the_line_graph_comes_back(roads: STGraph, tmp_path: Path) -> None:
    """Segments as nodes, turns as edges."""
    from stgraph.neighbours.line_graph import build_line_graph

    assert roads.edges is not None
    dual = build_line_graph(roads.replace(
        edge_index=roads.edge_index[:, :5], edge_weight=roads.edge_weight[:5],
        edges=roads.edges.iloc[:5],
    ))  # fmt: skip
    back = read_graph(write_graph(dual, tmp_path / "dual.gpkg"))
    assert back.equals(dual)
    assert back.node_ids.name == dual.node_ids.name


def test_a_signal_is_left_out_and_said(graph: STGraph, tmp_path: Path, caplog) -> None:
    """Structure only; a file of the other sink is read whole."""
    path = write_graph(graph, tmp_path / "g.gpkg")
    assert "10 steps of speed: not in the graph file" in caplog.text
    back = read_graph(path)
    assert (back.n_steps, back.n_features, back.n_edges) == (0, 0, 8)
    assert "was written from a graph with 10 steps of speed" in told(back)
    assert read_graph(write_geopackage(graph, tmp_path / "s.gpkg")).equals(graph)


def test_layers_are_plain_for_other_programs(path: Path) -> None:
    """Two layers with all attributes; no helper tables in the list."""
    assert [name for name, _ in pyogrio.list_layers(path)] == ["nodes", "edges", "layer_styles"]
    edges = pyogrio.read_dataframe(path, layer="edges")
    assert edges["source"].tolist() == [12, 11, 11, 13, 14, 14]
    assert edges["highway"].tolist()[4] == "tertiary_link"
    assert edges.geometry.isna().tolist() == [False] * 5 + [True]
    styles = pyogrio.read_dataframe(path, layer="layer_styles", read_geometry=False)
    shown = styles[styles["useAsDefault"]].set_index("f_table_name")["styleName"].to_dict()
    assert shown == {"nodes": "plain", "edges": "Speed limit (km/h)"}


# ------------------------------------------------------------------------------------- edited


def test_edits_are_read_and_told(path: Path) -> None:
    """Another attribute, a deleted edge (its forbidden turn goes), a moved line."""
    edit(
        path,
        "UPDATE edges SET speed_kmh = 20 WHERE segment_id = 104",
        "DELETE FROM edges WHERE segment_id = 102",
        "UPDATE edges SET geom = (SELECT geom FROM edges WHERE segment_id = 101) "
        "WHERE segment_id = 103",
    )
    back = read_graph(path)
    assert back.edges is not None
    assert back.edges["segment_id"].tolist() == [100, 101, 103, 104, 105]
    assert back.edges["speed_kmh"].tolist() == [50, 50, 30, 20, 10]
    assert back.edge_index.tolist() == [[1, 0, 2, 3, 3], [0, 1, 3, 0, 3]]
    assert back.provenance["restrictions"] == []
    for words in (
        "1 rows have other attributes",
        "1 rows have another geometry since the file was written; read as it is; `weight` and",
        "1 rows were deleted",
        "1 forbidden turns name a deleted segment; left out",
    ):
        assert words in told(back)
    assert read_graph(write_graph(back, path)).equals(back)


def test_edges_of_a_deleted_node_go(path: Path) -> None:
    edit(path, "DELETE FROM nodes WHERE node_id = 14")
    back = read_graph(path)
    assert list(back.node_ids) == [11, 12, 13]
    assert back.edge_index.tolist() == [[1, 0, 0], [0, 1, 2]]
    assert "3 edges run to a deleted node; left out" in told(back)


def test_a_drawn_edge_is_measured_and_numbered(path: Path) -> None:
    """What QGIS saves of a new line with `source` and `target` filled in."""
    new = gpd.GeoDataFrame(
        {"source": [13], "target": [12], "extra": ["x"]},
        geometry=[shapely.LineString([(7.422, 43.731), (7.418, 43.730)])], crs=4326,
    )  # fmt: skip
    edit(path, "ALTER TABLE edges ADD COLUMN extra TEXT")
    pyogrio.write_dataframe(new, path, layer="edges", driver="GPKG", append=True)
    back = read_graph(path)
    assert back.edges is not None
    last = back.edges.iloc[-1]
    assert back.edge_index[:, -1].tolist() == [2, 1]
    assert last["segment_id"] == 106
    assert back.edges["segment_id"].dtype == np.int64
    # 0.004 degrees of longitude at 43.73 north are 321.4 m, 0.001 of latitude 111.2 m
    assert last["length_m"] == pytest.approx(340.1, abs=0.3)
    assert back.edge_weight[-1] == pytest.approx(340.1, abs=0.3)
    assert not last["speed_imputed"]
    assert last["extra"] == "x"
    for words in ("1 edges had no `weight`; measured", "numbered from 106 on"):
        assert words in told(back)


def test_an_emptied_weight_is_measured(path: Path) -> None:
    edit(path, "UPDATE edges SET weight = NULL, length_m = NULL WHERE segment_id = 100")
    back = read_graph(path)
    assert back.edges is not None
    assert back.edge_weight[0] == pytest.approx(160.7, abs=0.2)
    assert back.edges["length_m"].iloc[0] == pytest.approx(160.7, abs=0.2)


def test_a_dropped_column_is_told(path: Path) -> None:
    edit(path, "ALTER TABLE edges DROP COLUMN lanes")
    back = read_graph(path)
    assert "has no column `lanes` any more" in told(back)
    assert "other attributes" not in told(back)
    assert back.n_edges == 6


BAD = {
    "an unknown end": (
        ["UPDATE edges SET target = 99 WHERE fid = 2"],
        "fid 2 runs from 11 to 99, which are not both a `node_id`; fill in",
    ),
    "an empty end": (["UPDATE edges SET source = NULL WHERE fid = 1"], "fid 1 runs from None to"),
    "a node twice": (["UPDATE nodes SET node_id = 11 WHERE fid = 2"], "`node_id` 11 is there twi"),
    "a node without id": (["UPDATE nodes SET node_id = NULL WHERE fid = 3"], "fid 3 has no `node"),
    "text for a number": (
        ["UPDATE nodes SET node_id = 'a' WHERE fid = 2"],
        "found 'a'; correct it",
    ),
    "a word for a weight": (["UPDATE edges SET weight = 'far' WHERE fid = 2"], "`weight` 'far'"),
    "an endless weight": (["UPDATE edges SET weight = 1e999 WHERE fid = 2"], "`weight` inf; give"),
    "a segment twice": (
        ["UPDATE edges SET segment_id = 100 WHERE fid = 4"],
        "fid 4 has the `segment_id` 100 of another edge; empty it",
    ),
    "no ends": (["ALTER TABLE edges DROP COLUMN source"], "no column `source` any more"),
    "no nodes": (["DELETE FROM nodes"], "has no node left"),
    "no layer": (["DROP TABLE edges"], "no such table: edges"),
    "nothing to measure": (["UPDATE edges SET weight = NULL WHERE fid = 6"], "fid 6 has no line"),
    "another CRS": (
        ["UPDATE gpkg_geometry_columns SET srs_id = 0 WHERE table_name = 'nodes'"],
        "written in EPSG:4326; save it in the CRS",
    ),
    "no notes": (["DELETE FROM gpkg_metadata"], "was not written by stgraph"),
    "broken notes": (
        ["UPDATE gpkg_metadata SET metadata = replace(metadata, 'geometry_at', 'x')"],
        "was changed since it was written",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_graph_any_more_is_refused(path: Path, name: str) -> None:
    """Each with the place and what to do."""
    statements, message = BAD[name]
    edit(path, *statements)
    with pytest.raises(DataError, match=message):
        read_graph(path)


def test_all_problems_come_in_one_error(path: Path) -> None:
    edit(path, "UPDATE nodes SET node_id = 11 WHERE fid = 2", "ALTER TABLE edges DROP COLUMN name",
         "UPDATE edges SET target = 99 WHERE fid = 2")  # fmt: skip
    with pytest.raises(DataError, match=r"(?s)2 problem\(s\).*there twice.*not both a"):
        read_graph(path)


def test_files_of_others_are_refused(tmp_path: Path, roads: STGraph) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_graph(tmp_path / "no.gpkg")
    (tmp_path / "text.gpkg").write_text("hello")
    with pytest.raises(DataError, match=r"text\.gpkg' is no readable graph file"):
        read_graph(tmp_path / "text.gpkg")
    roads.nodes.to_file(tmp_path / "plain.gpkg", layer="nodes")
    with pytest.raises(DataError, match="was not written by stgraph"):
        read_graph(tmp_path / "plain.gpkg")


def test_a_weight_without_metres_must_be_given(graph: STGraph, tmp_path: Path) -> None:
    path = write_graph(graph.replace(weight_unit="1"), tmp_path / "g.gpkg")
    edit(path, "UPDATE edges SET weight = NULL WHERE fid = 3")
    with pytest.raises(DataError, match="fid 3 has no `weight`; give a number; the unit is '1'"):
        read_graph(path)
