"""`roads` picks the reader by what the source is, and says when an option is not for it."""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import networkx as nx
import osmnx
import pytest
import shapely
from stgraph_connectors.roads.any import read_roads
from stgraph_connectors.roads.graphml import read_graphml
from stgraph_connectors.roads.osmnx import read_osmnx_graph

from stgraph import registry
from stgraph.binding import Origin, bind_options
from stgraph.errors import DataError
from stgraph.report import Report

GRAPHML = "osm-small/monaco_drive.graphml"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "connector"),
    [
        (GRAPHML, "graphml"),
        ("osm-heidelberg/drive.graphml.gz", "graphml"),
        ("osm-small/monaco.osm.gz", "osm"),
        ("osm-small/helsinki.osm.pbf", "osm"),
        ("siouxfalls-geo/network.gpkg", "road_lines"),
        ("transport-networks/SiouxFalls", "tntp"),
        ("transport-networks/SiouxFalls/SiouxFalls_net.tntp", "tntp"),
    ],
)
def test_every_kind_of_file_finds_its_reader(data_dir: Path, name: str, connector: str) -> None:
    """The ending decides; the provenance says who has read it."""
    if name.endswith(".gpkg"):  # two layers: which one is an option of that connector
        with pytest.raises(DataError, match="layer"):
            read_roads(data_dir / name)
        return
    graph = read_roads(str(data_dir / name), crs=4326 if connector == "tntp" else None)
    assert graph.provenance["connector"] == connector
    assert graph.n_nodes > 50
    assert (graph.nodes["kind"] == "segment").all()


@pytest.mark.data
def test_the_result_is_that_of_the_reader(data_dir: Path) -> None:
    """All options go through."""
    options: dict[str, Any] = {"nodes": "junctions", "speeds_kmh": {"residential": 7}}
    path = data_dir / GRAPHML
    assert read_roads(path, **options).equals(read_graphml(path, **options))
    graph = osmnx.load_graphml(path)
    assert read_roads(graph, u_turns=True).equals(read_osmnx_graph(graph, u_turns=True))


@pytest.mark.data
def test_xml_is_known_by_its_first_tag(data_dir: Path, tmp_path: Path) -> None:
    """A GraphML or OSM file that is called .xml is read all the same, packed too."""
    shutil.copy(data_dir / GRAPHML, tmp_path / "a.xml")
    with gzip.open(tmp_path / "b.xml.gz", "wb") as file:
        file.write((data_dir / GRAPHML).read_bytes())
    for name in ("a.xml", "b.xml.gz"):
        assert read_roads(tmp_path / name).provenance["connector"] == "graphml"


def test_layers_and_graphs_in_memory() -> None:
    """A GeoDataFrame of lines and a networkx graph are sources too; `crs` reaches the reader."""
    lines = [shapely.LineString([(0, 0), (300, 400)]), shapely.LineString([(300, 400), (300, 0)])]
    layer = gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=lines, crs="EPSG:25832")
    assert read_roads(layer, nodes="junctions").n_nodes == 3
    graph = nx.DiGraph()
    graph.add_node(0, x=476000, y=5474000)
    graph.add_node(1, x=476300, y=5474400)
    graph.add_edge(0, 1)
    assert read_roads(graph, crs=25832, nodes="junctions").edge_weight.tolist() == [500]


def test_gmns_folder(tmp_path: Path) -> None:
    """A folder with link.csv and node.csv is GMNS."""
    pytest.importorskip("stgraph_connectors.roads.gmns")
    (tmp_path / "node.csv").write_text(
        "node_id,x_coord,y_coord\n1,8.60,49.40\n2,8.61,49.40\n3,8.61,49.41\n"
    )
    (tmp_path / "link.csv").write_text(
        "link_id,from_node_id,to_node_id,directed,length,free_speed,lanes\n"
        "1,1,2,1,723.6,50,1\n2,2,3,1,1111.9,50,1\n"
    )
    graph = read_roads(tmp_path, crs=4326)
    assert graph.provenance["connector"] == "gmns"
    assert graph.n_nodes == 2


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("roads", {"source": "city.osm.pbf", "network": "walk", "speeds_kmh": {"track": 5}}),
        ("osmnx", {"bbox": [8.6, 49.3, 8.7, 49.5], "network": "all_public"}),
        ("osmnx", {"point": [49.4, 8.6], "dist_m": 500}),
        ("graphml", {"path": "city.graphml", "crs": "EPSG:25832", "nodes": "junctions"}),
    ],
)
def test_options_come_from_a_config(name: str, table: dict[str, Any], tmp_path: Path) -> None:
    """What TOML gives fits the signatures; paths are those beside the config."""
    report = Report()
    read = registry.load("connectors", name)
    bound = bind_options(read, table, where="[data]", origin=Origin(report, tmp_path))
    assert not report.errors
    for option in {"source", "path"} & set(table):
        assert bound[option] == str(tmp_path / table[option])


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_sources_that_are_none(tmp_path: Path) -> None:
    """Each says what it is and what would do."""
    cases: list[tuple[Any, str]] = [
        (tmp_path / "city.graphml", "city.graphml: no such file"),
        ("Heidelberg, Germany", "say place='Heidelberg, Germany' if it is one"),
        (5, "`source`: is a int; give a path"),
        (tmp_path, "holds no network that is known; name a file"),
        (write(tmp_path / "a.xml", "<?xml version='1.0'?><!-- <osm> --><gpx/>"), "XML of <gpx>"),
        (write(tmp_path / "a.zip", "PK"), "unknown kind '.zip'; known: .osm"),
        (write(tmp_path / "link.csv", "link_id\n1\n"), "give the folder with link.csv"),
        (write(tmp_path / "empty.osm", ""), "empty.osm: the file is empty"),
    ]
    for source, message in cases:
        if source == tmp_path:
            (tmp_path / "new").mkdir()
            source = tmp_path / "new"
        with pytest.raises(DataError, match=f"(?s)cannot read roads.*{message}"):
            read_roads(source)
    two = tmp_path / "new"
    for name in ("A_net.tntp", "B_net.tntp"):
        (two / name).write_text("x")
    with pytest.raises(DataError, match="holds 2 networks"):
        read_roads(two)


def test_options_that_are_not_for_the_source(tmp_path: Path) -> None:
    """`network` for a layer, `crs` for OpenStreetMap, none or both of the sources."""
    layer = gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1, 1)])], crs=25832)
    with pytest.raises(
        DataError, match=r"`network`: is 'drive', but .* `road_lines`; leave it out"
    ):
        read_roads(layer, network="drive")
    with pytest.raises(DataError, match=r"`crs`: is 4326, but .* the connector `osm`"):
        read_roads(write(tmp_path / "a.osm", "<osm/>"), crs=4326)
    with pytest.raises(DataError, match=r"`network`: is 'walk', but .* `graphml`"):
        read_roads(write(tmp_path / "a.graphml", "<graphml/>"), network="walk")
    with pytest.raises(DataError, match="`source` and `place`: are both missing"):
        read_roads()
    with pytest.raises(DataError, match="`source` and `place`: are both given"):
        read_roads(layer, place="Heidelberg")


def test_looking_at_it_loads_no_other_reader() -> None:
    """Readers are loaded when one is needed."""
    import subprocess

    code = (
        "import sys, stgraph_connectors.roads.any\n"
        "loaded = [m for m in sys.modules if m in ('osmnx', 'osmium', 'torch')]\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
