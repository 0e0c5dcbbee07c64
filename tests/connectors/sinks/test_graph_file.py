"""The graph sink: what its file looks like in QGIS, and what a failure leaves behind."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pytest
import shapely
from real_qgis import need_qgis_python, run_script
from road_graphs import make_roads
from stgraph_connectors.graph_file import read_graph
from stgraph_connectors.sinks.graph_file import write_graph

from stgraph.errors import InputError, OutputError
from stgraph.graph import STGraph

SCRIPT = Path(__file__).parents[1] / "qgis_script.py"


def styles(path: Path) -> dict[tuple[str, str], tuple[bool, ET.Element]]:
    """Return layer and name of every style, whether it is the default, and the document."""
    query = "SELECT f_table_name, styleName, useAsDefault, styleQML FROM layer_styles"
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute(query).fetchall()
    return {(layer, name): (bool(first), ET.fromstring(qml)) for layer, name, first, qml in rows}


def test_roads_are_coloured_by_speed_or_class(tmp_path: Path) -> None:
    """Speeds are the default; the classes that are there have a category, links with their road."""
    found = styles(write_graph(make_roads(), tmp_path / "g.gpkg"))
    names = {name: first for (layer, name), (first, _) in found.items() if layer == "edges"}
    assert names == {"Speed limit (km/h)": True, "Road class": False, "plain": False}
    _, document = found["edges", "Road class"]
    title, *values = [part.get("value") for part in document.iter("category")]
    assert title == "(Road class)"
    assert values == ["primary", "tertiary", "residential", "service", ""]


def test_stations_and_links_are_quiet(graph: STGraph, tmp_path: Path) -> None:
    """A graph without roads has no road styles, and is drawn at every scale."""
    found = styles(write_graph(graph, tmp_path / "g.gpkg"))
    assert set(found) == {("nodes", "plain"), ("edges", "plain")}
    for _, document in found.values():
        assert document.get("hasScaleBasedVisibilityFlag") is None


def test_one_class_of_roads_and_one_speed_make_no_colours(tmp_path: Path) -> None:
    """A legend with the single entry "other" says nothing."""
    roads = make_roads()
    assert roads.edges is not None
    same = roads.edges.assign(highway="1", speed_kmh=40.0)
    found = styles(write_graph(roads.replace(edges=same), tmp_path / "g.gpkg"))
    names = {name: first for (layer, name), (first, _) in found.items() if layer == "edges"}
    assert names == {"plain": True}


@pytest.mark.parametrize(
    ("speeds", "labels"),
    [
        ([7, 15, 20, 30, 50, 120], ["≤ 10", "10 – 20", "20 – 30", "30 – 50", "> 50"]),
        ([30, 40, 50, 30, 50, 50], ["≤ 30", "30 – 50"]),
        ([20, 70, 100, 20, 90, 100], ["≤ 20", "20 – 70", "70 – 100"]),
    ],
)  # fmt: skip
def test_speed_limits_have_their_usual_classes(
    tmp_path: Path, speeds: list[float], labels: list[str]
) -> None:
    """As far as they occur, each in a colour of its own."""
    roads = make_roads()
    assert roads.edges is not None
    edges = roads.edges.assign(speed_kmh=np.resize(speeds, len(roads.edges)).astype(float))
    found = styles(write_graph(roads.replace(edges=edges), tmp_path / "g.gpkg"))
    _, document = found["edges", "Speed limit (km/h)"]
    ranges = document.findall("renderer-v2/ranges/range")
    assert [r.get("label") for r in ranges] == ["Speed limit (km/h)", *labels]
    colours = [
        symbol.findall("layer/prop[@k='line_color']")[-1].get("v")
        for symbol in document.findall("renderer-v2/symbols/symbol")[: len(labels)]
    ]
    assert len(set(colours)) == len(labels)


@pytest.mark.parametrize(("crs", "unit"), [(32632, 1.0), (4326, 1 / 111_320)])
def test_edges_of_cells_are_drawn_only_when_they_can_be_told_apart(
    graph: STGraph, tmp_path: Path, crs: int, unit: float
) -> None:
    """Cells of 400 m have edges of 4 mm at 1:100,000; further out the edges would hide them."""
    cells = [
        shapely.box(*(unit * x for x in (400 * i, 0, 400 * i + 400, 400)))
        for i in range(graph.n_nodes)
    ]
    nodes = gpd.GeoDataFrame(index=graph.nodes.index, geometry=cells, crs=crs)
    index = np.array([range(graph.n_nodes - 1), range(1, graph.n_nodes)])
    weight = np.ones(index.shape[1], dtype=np.float32)
    cells_graph = graph.replace(nodes=nodes, edge_index=index, edge_weight=weight, edges=None)
    found = styles(write_graph(cells_graph, tmp_path / "g.gpkg"))
    _, document = found["edges", "plain"]
    assert document.get("hasScaleBasedVisibilityFlag") == "1"
    assert document.get("minScale") == "100000"
    _, document = found["nodes", "plain"]
    assert document.get("hasScaleBasedVisibilityFlag") is None


@pytest.mark.qgis
@pytest.mark.parametrize("dual", [False, True])
def test_qgis_opens_both_layers_coloured(tmp_path: Path, dual: bool) -> None:
    """No message, no road without a symbol, in the reading of junctions and in that of segments."""
    from stgraph.neighbours.line_graph import build_line_graph

    need_qgis_python()
    roads = make_roads()
    assert roads.edges is not None
    roads = roads.replace(  # without the loop that has no line
        edge_index=roads.edge_index[:, :5], edge_weight=roads.edge_weight[:5],
        edges=roads.edges.iloc[:5],
    )  # fmt: skip
    path = write_graph(build_line_graph(roads) if dual else roads, tmp_path / "g.gpkg")
    before = path.read_bytes()
    renderers = {}
    for layer in ("nodes", "edges"):
        run_script(SCRIPT, str(path), layer, str(tmp_path), folder=tmp_path)
        answer = json.loads((tmp_path / "answer.json").read_text())
        assert (answer["valid"], answer["uncoloured"], answer["messages"]) == (True, 0, [])
        renderers[layer] = answer["renderer"]
        if layer == ("nodes" if dual else "edges"):
            assert "Length (m): <b>161</b><br>Speed (km/h): <b>50</b>" in str(answer["tip"])
    coloured = {"nodes": "graduatedSymbol", "edges": "singleSymbol"}
    swapped = {"nodes": "singleSymbol", "edges": "graduatedSymbol"}
    assert renderers == (coloured if dual else swapped)
    assert path.read_bytes() == before


def test_writing_twice_is_writing_once(tmp_path: Path) -> None:
    path = tmp_path / "g.gpkg"
    roads = make_roads()
    write_graph(roads, path)
    assert read_graph(write_graph(roads, path)).equals(roads)
    with pytest.raises(OutputError, match="already there"):
        write_graph(roads, path, overwrite=False)
    assert [file.name for file in tmp_path.iterdir()] == ["g.gpkg"]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("g.shp", InputError, "does not end in .gpkg"),
        ("", InputError, "is a folder"),
        ("no/g.gpkg", OutputError, "does not exist; create it first"),
    ],
)
def test_targets_that_cannot_be_written(
    tmp_path: Path, name: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        write_graph(make_roads(), tmp_path / name)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a file nor a temporary one; what was there stays."""
    path = write_graph(make_roads(), tmp_path / "g.gpkg")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr("stgraph_connectors.sinks.graph_file.add_graph_styles", fail)
    with pytest.raises(OutputError, match="disk full"):
        write_graph(make_roads(), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["g.gpkg"]


def test_hostile_names_come_back(tmp_path: Path) -> None:
    """Columns called like ours, or with quotes, do not meet."""
    roads = make_roads()
    assert roads.edges is not None
    edges = roads.edges.assign(**{"source": 1, 'a"b': "x", "Weight": 2.5, "fid": np.arange(6)})
    odd = roads.replace(edges=edges, nodes=roads.nodes.assign(node_id="n", geom="g"))
    assert read_graph(write_graph(odd, tmp_path / "g.gpkg")).equals(odd)
