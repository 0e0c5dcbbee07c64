"""GraphML: files of OSMnx and of others become the same roads; what is damaged says how."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import osmnx
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from stgraph_connectors.roads import _graphml_document
from stgraph_connectors.roads._graphml_columns import join_list
from stgraph_connectors.roads.graphml import read_graphml

from stgraph.errors import DataError
from stgraph.graph import STGraph

SMALL = ["helsinki", "krems", "monaco"]
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
XY = (
    '<key id="x" for="node" attr.name="x" attr.type="double"/>'
    '<key id="y" for="node" attr.name="y" attr.type="double"/>'
)


def document(body: str, *, keys: str = XY, default: str = "directed", crs: str = "") -> str:
    """Return a GraphML document."""
    note = f'<data key="crs">{crs}</data>' if crs else ""
    keys += '<key id="crs" for="graph" attr.name="crs" attr.type="string"/>'
    return f'{HEAD}{keys}<graph edgedefault="{default}">{note}{body}</graph></graphml>'


def node(name: str, x: object, y: object) -> str:
    return f'<node id="{name}"><data key="x">{x}</data><data key="y">{y}</data></node>'


def edge(source: str, target: str, data: str = "", **more: str) -> str:
    extra = "".join(f' {name}="{value}"' for name, value in more.items())
    return f'<edge source="{source}" target="{target}"{extra}>{data}</edge>'


TRIANGLE = node("1", 8.60, 49.40) + node("2", 8.61, 49.40) + node("3", 8.61, 49.41)
RING = edge("1", "2") + edge("2", "3") + edge("3", "1")


def write(folder: Path, text: str | bytes, name: str = "city.graphml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, text: str | bytes, **options: Any) -> STGraph:
    return read_graphml(write(folder, text), nodes="junctions", **options)


def findings(graph: STGraph) -> str:
    return str(graph.report)


# ---------------------------------------------------------------- against OSMnx and networkx


@pytest.mark.data
@pytest.mark.parametrize("name", SMALL)
def test_it_reads_what_osmnx_reads(data_dir: Path, name: str) -> None:
    """Counts, ids, lengths, lines and attributes are those of osmnx.load_graphml."""
    path = data_dir / f"osm-small/{name}_drive.graphml"
    graph = read_graphml(path, nodes="junctions")
    loaded = osmnx.load_graphml(path)
    assert (graph.n_nodes, graph.n_edges) == (len(loaded), loaded.number_of_edges())
    assert sorted(graph.node_ids) == sorted(loaded)
    edges = graph.edges
    assert edges is not None
    ends = graph.node_ids.to_numpy()[graph.edge_index]
    theirs = osmnx.graph_to_gdfs(loaded, nodes=False).reset_index()
    assert list(ends[0]) == list(theirs["u"])
    assert list(ends[1]) == list(theirs["v"])
    np.testing.assert_allclose(edges["length_m"], theirs["length"])
    assert (edges["geometry"].geom_equals_exact(theirs["geometry"], 0)).all()
    assert list(edges["oneway"]) == list(theirs["oneway"])
    joined = theirs["osmid"].map(
        lambda ids: ";".join(dict.fromkeys(map(str, ids))) if isinstance(ids, list) else str(ids)
    )
    assert list(edges["osmid"]) == list(joined)


@pytest.mark.data
@pytest.mark.parametrize("name", SMALL)
def test_speeds_times_and_bearings_are_those_of_osmnx(data_dir: Path, name: str) -> None:
    """Where a speed is given, speed and travel time agree with OSMnx; bearings everywhere."""
    path = data_dir / f"osm-small/{name}_drive.graphml"
    edges = read_graphml(path, nodes="junctions").edges
    assert edges is not None
    loaded = osmnx.add_edge_travel_times(osmnx.add_edge_speeds(osmnx.load_graphml(path)))
    loaded = osmnx.add_edge_bearings(loaded)
    theirs = osmnx.graph_to_gdfs(loaded, nodes=False).reset_index()
    single = ~edges["speed_imputed"] & ~edges["maxspeed"].astype(str).str.contains(";|none|walk")
    assert single.sum() > 20
    np.testing.assert_allclose(edges["speed_kmh"][single], theirs["speed_kph"][single])
    np.testing.assert_allclose(edges["travel_time_s"][single], theirs["travel_time"][single])
    apart = (edges["bearing_deg"] - theirs["bearing"] + 180) % 360 - 180
    no_loop = theirs["u"] != theirs["v"]
    assert np.abs(apart[no_loop]).max() < 1e-6


@pytest.mark.data
@pytest.mark.parametrize("name", SMALL)
def test_turns_are_those_of_the_line_graph(data_dir: Path, name: str) -> None:
    """With U-turns, segments and turns are nodes and edges of networkx.line_graph."""
    path = data_dir / f"osm-small/{name}_drive.graphml"
    graph = read_graphml(path, u_turns=True)
    dual = nx.line_graph(osmnx.load_graphml(path))
    assert (graph.n_nodes, graph.n_edges) == (dual.number_of_nodes(), dual.number_of_edges())
    ends = graph.nodes[["from_junction", "to_junction"]].to_numpy()
    ours = np.hstack([ends[graph.edge_index[0]], ends[graph.edge_index[1]]])
    theirs = np.array([[*a[:2], *b[:2]] for a, b, _ in dual.edges])
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))


@pytest.mark.data
def test_heidelberg_is_complete(data_dir: Path) -> None:
    """12,384 edges and 1,776 km, but for 23 that OSM has twice; ids survive reloading."""
    path = data_dir / "osm-heidelberg/drive.graphml.gz"
    graph = read_graphml(path, nodes="junctions")
    assert (graph.n_nodes, graph.n_edges) == (5236, 12384 - 23)
    assert "23 segments are there twice" in findings(graph)
    assert graph.edges is not None
    assert graph.edges["length_m"].sum() / 1000 == pytest.approx(1776, abs=2)
    again = read_graphml(path)
    assert list(again.node_ids) == list(graph.edges["segment_id"])
    assert again.provenance["connector"] == "graphml"
    assert "OpenStreetMap" in again.provenance["attribution"]


@pytest.mark.data
@pytest.mark.parametrize("name", SMALL)
def test_both_ways_of_parsing_agree(
    data_dir: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick scan of flat files and expat find the same."""
    path = data_dir / f"osm-small/{name}_drive.graphml"
    quick = read_graphml(path, nodes="junctions")
    monkeypatch.setattr(_graphml_document, "scan_flat", lambda body: None)
    assert read_graphml(path, nodes="junctions").equals(quick)


TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(TEXT, min_size=3, max_size=3),
    bare=st.booleans(),
    closed=st.booleans(),
)
def test_quick_scan_and_expat_agree_on_any_text(names: list[str], bare: bool, closed: bool) -> None:
    """Whatever a name holds (quotes, umlauts, references, brackets) comes out the same."""
    graph = nx.MultiDiGraph(crs="epsg:4326")
    for i, name in enumerate(names):
        graph.add_node(i, x=8.0 + i, y=49.0, **({} if bare else {"name": name}))
        graph.add_edge(i, (i + 1) % 3, **({} if closed else {"name": name}))
    data = "\n".join(nx.generate_graphml(graph)).encode()
    quick = _graphml_document.parse_document(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_graphml_document, "scan_flat", lambda body: None)
        slow = _graphml_document.parse_document(data)
    for ours, theirs in ((quick.nodes, slow.nodes), (quick.edges, slow.edges)):
        assert ours.count == theirs.count == 3
        assert ours.attributes == theirs.attributes
        assert {k: [t.to_pylist() for _, t in v] for k, v in ours.texts.items()} == {
            k: [t.to_pylist() for _, t in v] for k, v in theirs.texts.items()
        }


# ---------------------------------------------------------------- files of others


def test_a_little_ring(tmp_path: Path) -> None:
    """Three nodes, three edges: lengths in metres, bearings, ids; no CRS is told."""
    graph = read(tmp_path, document(TRIANGLE + RING))
    assert list(graph.node_ids) == [1, 2, 3]
    assert graph.edge_index.tolist() == [[0, 1, 2], [1, 2, 0]]
    edges = graph.edges
    assert edges is not None
    np.testing.assert_allclose(edges["length_m"], [723.6, 1111.9, 1326.7], atol=0.5)
    np.testing.assert_allclose(edges["bearing_deg"], [90, 0, 213], atol=0.3)
    assert graph.nodes.crs == "EPSG:4326"
    assert "names no CRS" in findings(graph)


def test_networkx_with_lon_and_lat(tmp_path: Path) -> None:
    """networkx writes typed keys; `lon` and `lat` are found, and an undirected graph doubles."""
    graph = nx.Graph()
    graph.add_node("north", lat=49.41, lon=8.61)
    graph.add_node("south", lat=49.40, lon=8.61)
    graph.add_edge("north", "south", lanes=2, highway="primary", bridge=True)
    nx.write_graphml(graph, tmp_path / "nx.graphml")
    roads = read_graphml(tmp_path / "nx.graphml", nodes="junctions")
    assert list(roads.nodes["source_id"]) == ["north", "south"]
    assert roads.node_ids.dtype == np.int64
    assert roads.edges is not None
    np.testing.assert_allclose(roads.edges["bearing_deg"], [180, 0], atol=1e-9)
    assert list(roads.edges["lanes"]) == [2, 2]
    assert list(roads.edges["bridge"]) == [True, True]
    assert "each became two segments" in findings(roads)


IGRAPH = """<key id="v_lon" for="node" attr.name="lon" attr.type="double"/>
<key id="v_lat" for="node" attr.name="lat" attr.type="double"/>
<key id="e_length" for="edge" attr.name="length" attr.type="double"/>"""


def test_igraph(tmp_path: Path) -> None:
    """igraph names nodes n0, n1 and its keys v_..., e_...; km in `length` are told."""
    body = "".join(
        f'<node id="n{i}"><data key="v_lon">8.6{i}</data><data key="v_lat">49.4</data></node>'
        for i in range(3)
    )
    body += edge("n0", "n1", '<data key="e_length">0.7236</data>')
    body += edge("n1", "n2", '<data key="e_length">0.7236</data>')
    graph = read(tmp_path, document(body, keys=IGRAPH, crs="EPSG:4326"))
    assert graph.edges is not None
    np.testing.assert_allclose(graph.edges["length_m"], 723.6, atol=0.5)
    assert "is 0.001 times the length of the lines" in findings(graph)


def test_gephi_prefers_degrees_to_its_drawing(tmp_path: Path) -> None:
    """Gephi writes the layout as x and y; Longitude and Latitude are the place."""
    keys = XY + "".join(
        f'<key attr.name="{name}" attr.type="double" for="node" id="{name.lower()}"/>'
        for name in ("Latitude", "Longitude")
    )
    body = "".join(
        f'<node id="{i}.0"><data key="x">{i * 400}</data><data key="y">-77</data>'
        f'<data key="longitude">8.6{i}</data><data key="latitude">49.4</data></node>'
        for i in range(2)
    )
    body += '<edge id="0" source="0.0" target="1.0"><data key="weight">1.0</data></edge>'
    graph = read(tmp_path, document(body, keys=keys))
    assert graph.nodes.geometry.x.tolist() == [8.60, 8.61]
    assert "keys that the file does not declare: ['weight']" in findings(graph)


YED = """<key for="node" id="d6" yfiles.type="nodegraphics"/>"""
YED_NODE = """<node id="n{0}"><data key="d6"><y:ShapeNode><y:Geometry x="{0}" y="2"/>
<y:NodeLabel>A</y:NodeLabel></y:ShapeNode></data>{1}</node>"""


def yed(more: str = "") -> str:
    text = document("".join(YED_NODE.format(i, more.format(i)) for i in (0, 1)) + edge("n0", "n1"),
                    keys=YED + XY)  # fmt: skip
    return text.replace("<graphml ", '<graphml xmlns:y="http://www.yworks.com/xml/graphml" ')


def test_yed_is_a_drawing(tmp_path: Path) -> None:
    """The places of a drawing are no coordinates; with own ones, the drawing is skipped."""
    with pytest.raises(
        DataError, match=r"nodes have no coordinates.*a drawing of a graph is no map"
    ):
        read(tmp_path, yed())
    graph = read(tmp_path, yed('<data key="x">8.{0}</data><data key="y">49</data>'))
    assert graph.nodes.geometry.x.tolist() == [8.0, 8.1]
    assert graph.nodes.columns.tolist() == ["source_id", "geometry", "kind"]


def test_prefixes_comments_and_cdata(tmp_path: Path) -> None:
    """XML that is not flat is read by expat, with the same result."""
    plain = read(tmp_path, document(TRIANGLE + RING))
    odd = document("<!-- <node id='0'/> -->" + TRIANGLE + RING)
    odd = odd.replace(">8.6<", "><![CDATA[8.6]]><").replace(">49.41<", ">49.&#52;1<")
    odd = re.sub(r"<(/?)(\w+)(?=[ />])", r"<\1g:\2", odd).replace("xmlns=", "xmlns:g=")
    assert read(tmp_path, odd).equals(plain)


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "utf-8-sig"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    """The declared encoding holds."""
    keys = XY + '<key id="name" for="edge" attr.name="name" attr.type="string"/>'
    body = TRIANGLE + edge("1", "2", '<data key="name">Brücke</data>')
    declared = encoding.removesuffix("-sig")
    text = document(body, keys=keys).replace("UTF-8", declared)
    graph = read(tmp_path, text.encode(encoding))
    assert graph.edges is not None
    assert list(graph.edges["name"]) == ["Brücke"]


def test_mixed_directions_and_hyperedges(tmp_path: Path) -> None:
    """`directed` of one edge goes before the default; hyperedges and a second graph are told."""
    body = TRIANGLE + edge("1", "2") + edge("2", "3", directed="false") + "<hyperedge/>"
    text = document(body).replace("</graphml>", '<graph edgedefault="directed"/></graphml>')
    graph = read(tmp_path, text)
    assert graph.edge_index.tolist() == [[0, 1, 2], [1, 2, 1]]
    assert "1 hyperedges" in findings(graph)
    assert "holds 2 graphs" in findings(graph)


def test_defaults_of_keys_hold(tmp_path: Path) -> None:
    """An edge without data for a key has its default."""
    keys = XY + (
        '<key id="h" for="edge" attr.name="highway" attr.type="string">'
        "<default>primary</default></key>"
    )
    body = TRIANGLE + edge("1", "2") + edge("2", "3", '<data key="h">track</data>')
    graph = read(tmp_path, document(body, keys=keys))
    assert graph.edges is not None
    assert list(graph.edges["highway"]) == ["primary", "track"]


def test_lines_are_turned_round(tmp_path: Path) -> None:
    """A line from target to source is reversed; one that cannot be read becomes straight."""
    keys = XY + '<key id="g" for="edge" attr.name="geometry" attr.type="string"/>'
    body = TRIANGLE
    body += edge("1", "2", '<data key="g">LINESTRING (8.61 49.4, 8.605 49.5, 8.6 49.4)</data>')
    body += edge("2", "3", '<data key="g">LINESTRING (8.61</data>')
    body += edge("3", "1", '<data key="g">POINT (8.61 49.4)</data>')
    graph = read(tmp_path, document(body, keys=keys))
    assert graph.edges is not None
    first = graph.edges.geometry[0]
    assert list(first.coords) == [(8.6, 49.4), (8.605, 49.5), (8.61, 49.4)]
    assert shapely.get_num_coordinates(graph.edges.geometry).tolist() == [3, 2, 2]
    said = findings(graph)
    for text in ("1 lines run from target to source", "1 geometries cannot be read",
                 "1 are no line that can be used"):  # fmt: skip
        assert text in said


def test_projected_coordinates(tmp_path: Path) -> None:
    """The CRS of the file or of the caller holds, and lengths are on its plane."""
    body = node("1", 476000, 5474000) + node("2", 476300, 5474400) + edge("1", "2")
    graph = read(tmp_path, document(body, crs="EPSG:25832"))
    assert graph.nodes.crs == "EPSG:25832"
    assert graph.edge_weight.tolist() == [500.0]
    assert read(tmp_path, document(body), crs=25832).equals(graph)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("[1, 2, 1]", "1;2"),
        ("['a', 'b']", "a;b"),
        ("[\"O'Neill St\", 'b']", "O'Neill St;b"),
        ("[True, False]", "True;False"),
        ("[__import__('os').system('true')]", "[__import__('os').system('true')]"),
        ("[broken", "[broken"),
        ("[1, 2", "[1, 2"),
        ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
    ],
)
def test_lists_are_read_never_evaluated(text: str, plain: str) -> None:
    """Lists are joined, each value once; code stays text."""
    assert join_list(text) == plain


# ---------------------------------------------------------------- what cannot be read


ENTITIES = """<!DOCTYPE graphml [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>"""
BAD = {
    "empty": ("", "the file is empty"),
    "no xml": ("node,x,y\n1,2,3\n", "is damaged or cut off"),
    "cut off": (document(TRIANGLE + RING)[:-60], "is damaged or cut off"),
    "cut off in a tag": (document(TRIANGLE + RING)[:-40], "is damaged or cut off"),
    "another kind of xml": ("<osm><node id='1'/></osm>", "holds no <graph>"),
    "no nodes": (document(""), "has no nodes"),
    "no edges": (document(TRIANGLE), "has 3 nodes but no edges"),
    "unknown end": (document(TRIANGLE + edge("1", "9")), "a target that is no node.*'9'"),
    "no end": (document(TRIANGLE + '<edge source="1"/>'), "a target that is no node"),
    "no coordinate": (
        document(TRIANGLE + '<node id="4"/>' + edge("1", "4")),
        "1 nodes without coordinates end edges, such as .'4'.",
    ),
    "NaN": (document(TRIANGLE + node("4", "nan", 49.4) + edge("4", "1")), "without coordinates"),
    "infinite": (document(TRIANGLE + node("4", "inf", 49.4) + edge("4", "1")), "without coordin"),
    "text": (document(TRIANGLE + node("4", "east", 49.4) + edge("4", "1")), "without coordinates"),
    "node twice": (document(TRIANGLE + node("1", 8.6, 49.4) + RING), "'1' appears twice"),
    "metres without a CRS": (
        document(node("1", 476000, 5474000) + node("2", 476300, 5474400) + edge("1", "2")),
        "names no CRS, and its coordinates are no degrees; pass crs=",
    ),
    "metres as degrees": (
        document(node("1", 476000, 5474000) + edge("1", "1"), crs="EPSG:4326"),
        "are no degrees, as WGS 84 has them",
    ),
    "degrees as metres": (document(TRIANGLE + RING, crs="EPSG:25832"), "look like degrees"),
    "unknown CRS": (document(TRIANGLE + RING, crs="EPSG:999999"), "'EPSG:999999', which nobody"),
    "entities": (
        document(TRIANGLE + RING).replace("<graphml", ENTITIES + "<graphml", 1),
        "declares the entity 'a'",
    ),
    "undeclared entity": (document(TRIANGLE + RING).replace(">8.6<", ">&nbsp;<"), "undefined ent"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_what_is_wrong(tmp_path: Path, name: str) -> None:
    """Every kind of unusable file is one DataError that names it and says what to do."""
    text, message = BAD[name]
    with pytest.raises(DataError, match=f"(?s)cannot read GraphML.*city.graphml.*{message}"):
        read(tmp_path, text)


def test_bad_paths_and_options(tmp_path: Path) -> None:
    """A missing file, another ending, a broken gz and a misspelt option are told."""
    with pytest.raises(DataError, match="no such file"):
        read_graphml(tmp_path / "city.graphml")
    with pytest.raises(DataError, match=r"unknown kind of file .\.gexf."):
        read_graphml(write(tmp_path, "<gexf/>", "city.gexf"))
    packed = gzip.compress(document(TRIANGLE + RING).encode())
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_graphml(write(tmp_path, packed[:80], "city.graphml.gz"))
    good = write(tmp_path, packed, "city.graphml.gz")
    assert read_graphml(good).n_nodes == 3
    with pytest.raises(DataError, match=r"`nodes`: is 'segment' \(did you mean 'segments'\?\)"):
        read_graphml(good, nodes="segment")  # type: ignore[arg-type]


def test_doubtful_files_are_read_and_told(tmp_path: Path) -> None:
    """Swapped coordinates, negative lengths and lonely nodes without a place are warnings."""
    swapped = node("1", 49.4, 108.60) + node("2", 49.4, 108.61) + edge("1", "2")
    graph = read(tmp_path, document(swapped))
    assert graph.nodes.geometry.x.tolist() == [108.60, 108.61]
    assert "x and y look swapped; they were swapped back" in findings(graph)

    keys = XY + '<key id="l" for="edge" attr.name="length" attr.type="double"/>'
    body = TRIANGLE + node("4", "nan", "nan") + RING.replace("></edge>", "/>")
    body += edge("2", "1", '<data key="l">-5</data>') + edge("3", "2", '<data key="l">long</data>')
    graph = read(tmp_path, document(body, keys=keys))
    assert (graph.edge_weight > 700).all()
    assert graph.n_nodes == 3
    for text in ("1 lengths are negative, such as -5", "1 nodes without coordinates have no edges",
                 "1 values are no numbers, such as 'long'"):  # fmt: skip
        assert text in findings(graph)


def test_parallel_edges_with_one_id_are_kept(tmp_path: Path) -> None:
    """Ids of edges repeat in files of OSMnx; only equal lines are dropped, and told."""
    keys = XY + '<key id="g" for="edge" attr.name="geometry" attr.type="string"/>'
    way = '<data key="g">LINESTRING (8.6 49.4, 8.605 49.5, 8.61 49.4)</data>'
    body = TRIANGLE + edge("1", "2", id="0") + edge("1", "2", way, id="0") + edge("1", "2", id="0")
    graph = read(tmp_path, document(body, keys=keys))
    assert graph.n_edges == 2
    assert graph.edges is not None
    assert graph.edges["segment_id"].is_unique
    assert "1 segments are there twice" in findings(graph)


def test_options_reach_the_result(tmp_path: Path) -> None:
    """Speeds by type and U-turns are as asked for."""
    keys = XY + '<key id="h" for="edge" attr.name="highway" attr.type="string"/>'
    way = '<data key="h">track</data>'
    path = write(
        tmp_path, document(TRIANGLE + edge("1", "2", way) + edge("2", "1", way), keys=keys)
    )
    graph = read_graphml(path, speeds_kmh={"track": 7})
    assert graph.nodes["speed_kmh"].tolist() == [7, 7]
    assert graph.n_edges == 0
    assert read_graphml(path, u_turns=True).n_edges == 2
    assert isinstance(graph.nodes, pd.DataFrame)
