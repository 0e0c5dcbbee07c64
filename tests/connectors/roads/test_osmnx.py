"""OSMnx: its graphs in memory, and its download functions, run on its own cache."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import networkx as nx
import numpy as np
import osmnx
import pandas as pd
import pytest
import requests
import shapely
from osmnx import _http, _overpass, projection
from stgraph_connectors.roads.graphml import read_graphml
from stgraph_connectors.roads.osmnx import read_osmnx, read_osmnx_graph

from stgraph.convert import to_networkx
from stgraph.errors import DataError

SMALL = ["helsinki", "krems", "monaco"]
CENTRE = (49.405, 8.605)  # latitude, longitude
BOX = (8.595, 49.395, 8.615, 49.415)


def ring(kind: type[nx.Graph[Any]] = nx.MultiDiGraph, **notes: Any) -> nx.Graph[Any]:
    """Return three junctions and three streets."""
    graph = kind(**notes)
    for node, x, y in ((1, 8.60, 49.40), (2, 8.61, 49.40), (3, 8.61, 49.41)):
        graph.add_node(node, x=x, y=y)
    graph.add_edge(1, 2, highway="primary", maxspeed="50", lanes=["2", "3"], osmid=7)
    graph.add_edge(2, 3, highway=["primary", "track"], osmid=[8, 9])
    graph.add_edge(3, 1, highway="track", osmid=10)
    return graph


# ---------------------------------------------------------------- graphs in memory


@pytest.mark.data
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("nodes", ["junctions", "segments"])
def test_a_loaded_graph_is_as_the_file(data_dir: Path, name: str, nodes: Any) -> None:
    """osmnx.load_graphml and our own reader lead to the same graph."""
    path = data_dir / f"osm-small/{name}_drive.graphml"
    ours = read_graphml(path, nodes=nodes)
    theirs = read_osmnx_graph(osmnx.load_graphml(path), nodes=nodes)
    assert list(theirs.node_ids) == list(ours.node_ids)
    np.testing.assert_array_equal(theirs.edge_index, ours.edge_index)
    for table, other in ((ours.nodes, theirs.nodes), (ours.edges, theirs.edges)):
        assert table is not None
        assert other is not None
        assert set(table.columns) == set(other.columns)
        for column in set(table.columns) - {"geometry", "reversed"}:
            pd.testing.assert_series_equal(
                table[column], other[column], check_dtype=False, check_names=False
            )


@pytest.mark.data
def test_a_projected_graph_has_the_same_lengths(data_dir: Path) -> None:
    """A graph in UTM keeps its CRS, its lengths in metres and, nearly, its bearings."""
    graph = osmnx.load_graphml(data_dir / "osm-small/krems_drive.graphml")
    plain = read_osmnx_graph(graph).nodes.sort_values(["from_junction", "to_junction", "length_m"])
    there = read_osmnx_graph(osmnx.project_graph(graph)).nodes.sort_values(
        ["from_junction", "to_junction", "length_m"]
    )
    assert there.crs == "EPSG:32633"
    np.testing.assert_allclose(there["length_m"], plain["length_m"])
    apart = (there["bearing_deg"].to_numpy() - plain["bearing_deg"].to_numpy() + 180) % 360 - 180
    assert np.nanmax(np.abs(apart)) < 1  # grid north is not north


@pytest.mark.data
def test_undirected_and_back(data_dir: Path) -> None:
    """An undirected graph is read both ways; every street of the directed one is in it."""
    graph = osmnx.load_graphml(data_dir / "osm-small/krems_drive.graphml")
    directed = read_osmnx_graph(graph, nodes="junctions")
    both = read_osmnx_graph(osmnx.convert.to_undirected(graph), nodes="junctions")
    assert directed.edges is not None
    assert both.edges is not None
    assert set(directed.edges["segment_id"]) <= set(both.edges["segment_id"])
    assert "say that they are one-way; they are read both ways" in str(both.report)
    assert "lines run from target to source" not in str(directed.report)


@pytest.mark.data
def test_speeds_of_osmnx_are_taken(data_dir: Path) -> None:
    """After add_edge_speeds its speeds hold, and its travel times come out."""
    graph = osmnx.load_graphml(data_dir / "osm-small/monaco_drive.graphml")
    graph = osmnx.add_edge_travel_times(osmnx.add_edge_speeds(graph))
    edges = read_osmnx_graph(graph, nodes="junctions").edges
    assert edges is not None
    np.testing.assert_allclose(edges["speed_kmh"], edges["speed_kph"])
    np.testing.assert_allclose(edges["travel_time_s"], edges["travel_time"])


@pytest.mark.parametrize("kind", [nx.MultiDiGraph, nx.DiGraph, nx.Graph, nx.MultiGraph])
def test_every_kind_of_graph(kind: type[nx.Graph[Any]]) -> None:
    """Directed graphs have three segments, undirected ones six; none is changed by reading."""
    graph = ring(kind, crs="epsg:4326")
    before = copy.deepcopy(graph)
    roads = read_osmnx_graph(graph, nodes="junctions")
    assert roads.n_edges == (3 if graph.is_directed() else 6)
    assert nx.utils.graphs_equal(graph, before)
    assert roads.edges is not None
    first = roads.edges.iloc[0]
    assert first["lanes"] == 2
    assert (first["speed_kmh"], first["speed_imputed"]) == (50, False)
    edges = roads.edges.drop_duplicates("osmid").set_index("osmid").loc[["7", "8;9", "10"]]
    assert list(edges["highway"]) == ["primary", "primary;track", "track"]
    way_back = 0 if graph.is_directed() else 180  # of the edge that networkx has as 1, 3
    np.testing.assert_allclose(edges["bearing_deg"], [90, 0, 213 - way_back], atol=0.3)


def test_ids_of_any_type() -> None:
    """Texts, mixed types and tuples become stable numbers; the ids are kept beside them."""
    named = nx.relabel_nodes(ring(), {1: "north", 2: "south", 3: "7"})
    roads = read_osmnx_graph(named, nodes="junctions")
    assert list(roads.nodes["source_id"]) == ["north", "south", "7"]
    fewer = read_osmnx_graph(named.edge_subgraph([("north", "south", 0)]), nodes="junctions")
    assert list(fewer.node_ids) == list(roads.node_ids[:2])
    mixed = nx.relabel_nodes(ring(), {1: "1", 2: 1, 3: 2.5})
    roads = read_osmnx_graph(mixed, nodes="junctions")
    assert list(roads.nodes["source_id"]) == ["str 1", "int 1", "float 2.5"]
    assert roads.node_ids.is_unique
    digits = nx.relabel_nodes(ring(), {1: "10", 2: "20", 3: "30"})
    assert list(read_osmnx_graph(digits, nodes="junctions").node_ids) == [10, 20, 30]
    zeros = nx.relabel_nodes(ring(), {1: "1", 2: "01", 3: "001"})
    assert len(set(read_osmnx_graph(zeros, nodes="junctions").node_ids)) == 3


def test_other_ways_to_say_where_nodes_are() -> None:
    """`pos`, Points in `geometry`, and ids that are coordinates (momepy) are understood."""
    expected = read_osmnx_graph(ring(), nodes="junctions").nodes.geometry
    place = {1: (8.60, 49.40), 2: (8.61, 49.40), 3: (8.61, 49.41)}
    for name, make in (("pos", tuple), ("geometry", shapely.Point)):
        graph = ring()
        for node, data in graph.nodes(data=True):
            data.clear()
            data[name] = make(place[node])
        roads = read_osmnx_graph(graph, nodes="junctions", crs=4326)
        assert roads.nodes.geometry.geom_equals(expected).all()
        assert roads.nodes.columns.tolist() == ["geometry", "kind"]
    graph = nx.relabel_nodes(ring(crs="EPSG:4326"), place)
    for _, data in graph.nodes(data=True):
        data.clear()
    roads = read_osmnx_graph(graph, nodes="junctions")
    assert list(roads.nodes.geometry.x) == [8.60, 8.61, 8.61]


def test_our_own_graph_comes_back() -> None:
    """to_networkx of a road graph, read again, has the same segments and ids."""
    roads = read_osmnx_graph(ring(crs="epsg:4326"), nodes="junctions")
    again = read_osmnx_graph(to_networkx(roads), nodes="junctions")
    assert again.edges is not None
    assert roads.edges is not None
    pd.testing.assert_frame_equal(
        again.edges[roads.edges.columns].drop(columns=["geometry", "speed_imputed"]),
        roads.edges.drop(columns=["geometry", "speed_imputed"]),
        check_dtype=False,
    )


@pytest.mark.data
def test_reading_is_quick_enough(data_dir: Path) -> None:
    """No work per edge in pandas: the number of calls does not grow with the edges."""
    import cProfile
    import pstats

    graph = osmnx.load_graphml(data_dir / "osm-small/monaco_drive.graphml")
    profile = cProfile.Profile()
    profile.runcall(read_osmnx_graph, graph)
    calls = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    series = [
        n for (file, _, name), (n, *_) in calls.items() if "pandas" in file and "init" in name
    ]
    assert max(series) < graph.number_of_edges()


BAD_GRAPHS = {
    "no graph": ("a city", "`graph`: is a str; give a networkx graph"),
    "empty": (nx.MultiDiGraph(), "has no nodes"),
    "no edges": (nx.create_empty_copy(ring()), "has 3 nodes but no edges"),
    "no coordinates": (nx.path_graph(3), "nodes have no coordinates; their attributes are "),
    "a line graph": (nx.line_graph(ring()), "nodes have no coordinates"),
    "no CRS": (
        nx.relabel_nodes(nx.path_graph(2), {0: (476000.0, 5474000.0), 1: (476100.0, 5474000.0)}),
        "names no CRS, and its coordinates are no degrees",
    ),
    "bad CRS": (ring(crs="the moon"), "the CRS 'the moon', which nobody knows"),
}


@pytest.mark.parametrize("name", BAD_GRAPHS)
def test_bad_graphs_say_what_is_wrong(name: str) -> None:
    """Every unusable graph is one DataError that says what to do."""
    graph, message = BAD_GRAPHS[name]
    with pytest.raises(DataError, match=rf"(?s)cannot read the networkx graph.*{message}"):
        read_osmnx_graph(graph)  # type: ignore[arg-type]


def test_nodes_added_by_an_edge_have_no_place() -> None:
    """networkx adds unknown nodes in silence; here they are told."""
    graph = ring()
    graph.add_edge(3, 99)
    with pytest.raises(DataError, match=r"1 nodes without coordinates end edges, such as \['99'\]"):
        read_osmnx_graph(graph)
    graph.nodes[99].update(x=float("nan"), y=49.4)
    with pytest.raises(DataError, match="1 nodes without coordinates"):
        read_osmnx_graph(graph)


def test_doubtful_lines_are_told() -> None:
    """Lines that are far from their nodes, or none at all, are warnings."""
    graph = ring()
    graph.edges[1, 2, 0]["geometry"] = shapely.LineString([(8.60, 49.40), (8.61, 49.45)])
    graph.edges[2, 3, 0]["geometry"] = shapely.MultiLineString(
        [[(8.61, 49.40), (8.61, 49.405)], [(8.61, 49.405), (8.61, 49.41)]]
    )
    graph.edges[3, 1, 0]["geometry"] = shapely.LineString()
    roads = read_osmnx_graph(graph, nodes="junctions")
    assert "1 of 3 lines end more than 10 m from their nodes" in str(roads.report)
    assert "1 are no line that can be used; a straight line is taken" in str(roads.report)
    assert roads.edges is not None
    assert shapely.get_num_coordinates(roads.edges.geometry).tolist() == [2, 3, 2]


# ---------------------------------------------------------------- downloads, from the cache


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """OSMnx's own cache in an empty folder; servers that refuse at once."""
    before = {name: getattr(osmnx.settings, name) for name in dir(osmnx.settings)}
    osmnx.settings.use_cache = True
    osmnx.settings.cache_folder = tmp_path
    osmnx.settings.overpass_rate_limit = False
    osmnx.settings.nominatim_url = osmnx.settings.overpass_url = "http://127.0.0.1:9/"
    osmnx.settings.doh_url_template = None
    yield tmp_path
    for name, value in before.items():
        setattr(osmnx.settings, name, value)


ELEMENTS: list[dict[str, Any]] = [
    {"type": "node", "id": 1, "lat": 49.40, "lon": 8.60},
    {"type": "node", "id": 2, "lat": 49.40, "lon": 8.605},
    {"type": "node", "id": 3, "lat": 49.40, "lon": 8.61},
    {"type": "node", "id": 4, "lat": 49.41, "lon": 8.61, "tags": {"highway": "traffic_signals"}},
    {
        "type": "way", "id": 10, "nodes": [1, 2, 3, 4],
        "tags": {"highway": "primary", "maxspeed": "50", "oneway": "yes", "name": "Brückenstraße"},
    },
    {"type": "way", "id": 11, "nodes": [4, 1], "tags": {"highway": "residential"}},
]  # fmt: skip


def answer_roads(polygon: Any, elements: list[dict[str, Any]], network: str = "drive") -> None:
    """Put the answer of Overpass for an area into the cache, as OSMnx does."""
    metric, crs = projection.project_geometry(polygon)
    around, _ = projection.project_geometry(metric.buffer(500), crs=crs, to_latlong=True)
    (corners,) = _overpass._make_overpass_polygon_coord_strs(around)
    ways = _overpass._get_network_filter(network)
    query = f"{_overpass._make_overpass_settings()};(way{ways}(poly:{corners!r});>;);out;"
    url = osmnx.settings.overpass_url.rstrip("/") + "/interpreter"
    save(url, {"data": query}, {"elements": elements})


def answer_search(answer: list[dict[str, Any]], query: str, **more: Any) -> None:
    """Put the answer of Nominatim for a name into the cache."""
    options = {"format": "json", **more, "q": query}
    save(osmnx.settings.nominatim_url.rstrip("/") + "/search", options, answer)


def save(url: str, options: dict[str, Any], answer: Any) -> None:
    prepared = requests.Request("GET", url, params=options).prepare().url
    _http._save_to_cache(str(prepared), answer, ok=True)


def square() -> shapely.Polygon:
    return osmnx.utils_geo.bbox_to_poly(BOX)


@pytest.mark.usefixtures("cache")
def test_a_box_from_the_cache() -> None:
    """OSMnx's own functions run: simplified, directed, with speed, in the words of OSM."""
    answer_roads(square(), ELEMENTS)
    graph = read_osmnx(bbox=BOX, nodes="junctions")
    assert sorted(graph.node_ids) == [1, 4]
    edges = graph.edges
    assert edges is not None
    way = edges[edges["osmid"] == "10"].iloc[0]
    assert (way["speed_kmh"], way["speed_imputed"], way["oneway"]) == (50, False, True)
    assert len(way["geometry"].coords) == 4
    assert len(edges) == 3
    assert graph.provenance["source"] == {"bbox": BOX}
    assert "OpenStreetMap" in graph.provenance["attribution"]
    full = read_osmnx(bbox=BOX, nodes="junctions", simplify=False)
    assert (full.n_nodes, full.n_edges) == (4, 5)
    dual = read_osmnx(bbox=BOX)
    assert (dual.n_nodes, dual.n_edges) == (3, 2)


@pytest.mark.usefixtures("cache")
def test_every_kind_of_place_leads_to_the_same_roads(tmp_path: Path) -> None:
    """Place, point, address, polygon and layer of one square are one graph."""
    answer_roads(square(), ELEMENTS)
    expected = read_osmnx(bbox=BOX, nodes="junctions")
    found = {
        "lat": "49.405", "lon": "8.605", "importance": 0.5, "display_name": "Town",
        "boundingbox": ["49.395", "49.415", "8.595", "8.615"],
        "geojson": square().__geo_interface__,
    }  # fmt: skip
    answer_search([found], "Town", polygon_geojson=1, dedupe=0, limit=50)
    answer_search([found], "1 Main St", limit=1, dedupe=0)
    gpd.GeoDataFrame(geometry=[square()], crs=4326).to_crs(25832).to_file(tmp_path / "area.gpkg")
    box = osmnx.utils_geo.bbox_from_point(CENTRE, 1000)
    answer_roads(osmnx.utils_geo.bbox_to_poly(box), ELEMENTS)
    turned = gpd.read_file(tmp_path / "area.gpkg").to_crs(4326).geometry[0]
    answer_roads(turned, ELEMENTS)
    for options in (
        {"place": "Town"},
        {"point": CENTRE, "dist_m": 1000},
        {"address": "1 Main St", "dist_m": 1000},
        {"polygon": square().wkt},
        {"boundary": tmp_path / "area.gpkg"},
    ):
        graph = read_osmnx(**options, nodes="junctions")  # type: ignore[arg-type]
        assert list(graph.node_ids) == list(expected.node_ids), options
        np.testing.assert_array_equal(graph.edge_index, expected.edge_index)


@pytest.mark.usefixtures("cache")
def test_parts_that_no_road_joins_are_kept_and_told() -> None:
    """Unlike OSMnx's default, a road beside the main network stays; `retain_all` chooses."""
    lonely: list[dict[str, Any]] = [
        {"type": "node", "id": 5, "lat": 49.411, "lon": 8.601},
        {"type": "node", "id": 6, "lat": 49.412, "lon": 8.602},
        {"type": "way", "id": 12, "nodes": [5, 6], "tags": {"highway": "residential"}},
    ]
    answer_roads(square(), [*ELEMENTS, *lonely])
    graph = read_osmnx(bbox=BOX, nodes="junctions")
    assert graph.n_nodes == 4
    assert "the network falls into 2 parts that no road joins" in str(graph.report)
    assert read_osmnx(bbox=BOX, nodes="junctions", retain_all=False).n_nodes == 2


@pytest.mark.data
@pytest.mark.usefixtures("cache")
def test_krems_as_overpass_would_answer(data_dir: Path) -> None:
    """A real town through OSMnx's whole pipeline is as OSMnx has it."""
    with gzip.open(data_dir / "osm-small/krems.osm.gz") as file:
        root = ET.parse(file).getroot()
    elements = []
    drive = {"motorway", "trunk", "primary", "secondary", "tertiary", "residential", "trunk_link"}
    for item in root:
        tags = {tag.get("k"): tag.get("v") for tag in item.iter("tag")}
        if item.tag == "node":
            place = {"lat": float(item.get("lat", "")), "lon": float(item.get("lon", ""))}
            elements.append({"type": "node", "id": int(item.get("id", "")), **place, "tags": tags})
        elif item.tag == "way" and tags.get("highway") in drive:
            refs = [int(ref.get("ref", "")) for ref in item.iter("nd")]
            elements.append(
                {"type": "way", "id": int(item.get("id", "")), "nodes": refs, "tags": tags}
            )
    box = (15.58, 48.39, 15.64, 48.43)
    answer_roads(osmnx.utils_geo.bbox_to_poly(box), elements)
    graph = read_osmnx(bbox=box, nodes="junctions")
    theirs = osmnx.graph_from_bbox(box, network_type="drive", retain_all=True)
    assert (graph.n_nodes, graph.n_edges) == (
        len([n for n in theirs if theirs.degree(n)]),
        theirs.number_of_edges() - 2,
    )
    assert "2 segments are there twice" in str(graph.report)
    lengths = nx.get_edge_attributes(theirs, "length").values()
    assert graph.edge_weight.sum() == pytest.approx(sum(lengths), rel=1e-3)


PLACES_THAT_FAIL: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "are all missing; give exactly one of them"),
    "two places": ({"place": "Town", "bbox": BOX}, r"given together: \['place', 'bbox'\]"),
    "no distance": ({"point": CENTRE}, "`dist_m`: is None; give the metres around `point`"),
    "no distance above 0": ({"address": "x", "dist_m": -5}, "`dist_m`: is -5"),
    "distance without point": ({"bbox": BOX, "dist_m": 5}, "`dist_m`: is given with `bbox`"),
    "swapped point": ({"point": (8.6, 149.4), "dist_m": 5}, r"no such place|look swapped"),
    "swapped": ({"point": (149.4, 8.6), "dist_m": 5}, "latitude and longitude look swapped"),
    "three numbers": ({"point": (1, 2, 3), "dist_m": 5}, "`point`: is"),
    "empty name": ({"place": " "}, "`place`: is empty"),
    "box upside down": ({"bbox": (8.7, 49.4, 8.6, 49.5)}, "is no area in degrees"),
    "no polygon": ({"polygon": "LINESTRING (0 0, 1 1)"}, "is no polygon; give WKT"),
    "no WKT": ({"polygon": "Heidelberg"}, "'Heidelberg' is no polygon"),
    "metres": ({"polygon": "POLYGON ((0 0, 500 0, 500 500, 0 0))"}, "`polygon`: reaches from"),
    "no layer": ({"boundary": "nowhere.gpkg"}, "nowhere.gpkg: no such file"),
    "one number": ({"point": 5, "dist_m": 100}, "`point`: is 5; give .latitude, longitude"),
    "unknown network": ({"bbox": BOX, "network": "driev"}, "did you mean 'drive'"),
}


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", PLACES_THAT_FAIL)
def test_bad_options_are_told_before_any_download(name: str) -> None:
    """What cannot be asked for is an error at once; the swapped point in range is a far place."""
    options, message = PLACES_THAT_FAIL[name]
    if name == "swapped point":
        options = {"point": (108.6, 49.4), "dist_m": 5}
    with pytest.raises(DataError, match=f"(?s)cannot read from OSMnx.*({message})"):
        read_osmnx(**options)


@pytest.mark.usefixtures("cache")
def test_what_the_server_does_not_know() -> None:
    """No such place, a place that is no area, an area without roads: each with what to do."""
    answer_search([], "Nowhere", polygon_geojson=1, dedupe=0, limit=50)
    with pytest.raises(DataError, match="OpenStreetMap does not know 'Nowhere'; check the spell"):
        read_osmnx(place="Nowhere")
    spot = {
        "lat": "49.4", "lon": "8.6", "importance": 0.5, "display_name": "Pub",
        "boundingbox": ["49", "50", "8", "9"],
        "geojson": {"type": "Point", "coordinates": [8.6, 49.4]},
    }  # fmt: skip
    answer_search([spot], "Pub", polygon_geojson=1, dedupe=0, limit=50)
    with pytest.raises(DataError, match=r"'Pub' is no area in OpenStreetMap; .* use `address`"):
        read_osmnx(place="Pub")
    answer_search([], "Nowhere", limit=1, dedupe=0)
    with pytest.raises(DataError, match="OpenStreetMap does not know 'Nowhere'"):
        read_osmnx(address="Nowhere", dist_m=500)
    sea = shapely.box(1, 54, 1.01, 54.01)
    answer_roads(sea, [])
    with pytest.raises(DataError, match="has no roads of this kind; check the order of coordin"):
        read_osmnx(polygon=sea.wkt)


@pytest.mark.usefixtures("cache")
def test_roads_only_beside_the_polygon_are_none() -> None:
    """Overpass answers for 500 m around; if no road is inside, that is said."""
    small = shapely.box(8.6080, 49.4130, 8.6085, 49.4135)
    answer_roads(small, ELEMENTS)
    with pytest.raises(DataError, match="has no roads of this kind"):
        read_osmnx(polygon=small.wkt)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("options", [{"place": "Town"}, {"bbox": BOX}])
def test_a_server_that_does_not_answer(options: dict[str, Any]) -> None:
    """Without network the error says so and names the connectors for files."""
    with pytest.raises(
        DataError, match=r"was not reached \(ConnectionError\).*`osm` and `graphml`"
    ):
        read_osmnx(**options)


def test_settings_of_osmnx_are_left_alone(cache: Path) -> None:
    """Reading changes none of them, and the answer lies in the cache as OSMnx wrote it."""
    answer_roads(square(), ELEMENTS)
    (file,) = cache.glob("*.json")
    assert json.loads(file.read_text())["elements"][0]["id"] == 1
    before = {name: getattr(osmnx.settings, name) for name in dir(osmnx.settings)}
    read_osmnx(bbox=BOX)
    assert {name: getattr(osmnx.settings, name) for name in dir(osmnx.settings)} == before
