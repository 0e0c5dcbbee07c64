"""Networks of SUMO: what is open to whom, which turns there are, where it is, what is refused.

`files/sumo/town.net.xml` was made with Eclipse SUMO 1.28 from the three plain files beside it,
then rid of the comment with the date::

    netconvert -n town.nod.xml -e town.edg.xml -x town.con.xml -o town.net.xml \
        --proj.utm --junctions.corner-detail 0 --output.street-names

The lists of turns and lengths below are what sumolib 1.28 says about it.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import shapely
from stgraph_connectors.roads.sumo import read_sumo

from stgraph.errors import DataError
from stgraph.graph import STGraph

TOWN = Path(__file__).parents[1] / "files/sumo/town.net.xml"
LANE_LENGTHS = {
    "c_e": 199.40, "c_n": 207.97, "c_w": 209.16, "d_e": 400.00, "e_c": 199.40, "e_d": 211.97,
    "n_w": 387.25, "s_c": 211.97, "w_c": 209.16,
}  # fmt: skip
TURNS = {
    "c_e e_d", "c_n n_w", "d_e e_c", "e_c c_n", "e_c c_w", "n_w w_c", "s_c c_e", "s_c c_n",
    "w_c c_e",
}  # fmt: skip
U_TURNS = {"c_w w_c", "e_c c_e", "e_d d_e", "w_c c_w"}


def turns(graph: STGraph) -> set[str]:
    names = graph.nodes["sumo_id"].to_numpy()
    return {f"{names[a]} {names[b]}" for a, b in graph.edge_index.T}


def changed(tmp_path: Path, old: str, new: str, *, count: int = -1) -> Path:
    """Return the town with a text replaced."""
    text = TOWN.read_text()
    assert old in text
    path = tmp_path / "town.net.xml"
    path.write_text(text.replace(old, new, count))
    return path


def test_edges_are_segments_and_connections_are_turns() -> None:
    """Two left turns are missing, and the busway is not for cars."""
    graph = read_sumo(TOWN)
    assert turns(graph) == TURNS
    lengths = graph.nodes.set_index("sumo_id")["lane_length_m"]
    assert lengths.to_dict() == LANE_LENGTHS
    assert "1 of 10 edges are not open to 'passenger'" in str(graph.report)


def test_u_turns_are_those_that_sumo_knows() -> None:
    """There is a connection back at the ends of streets; at the signals only for two of them."""
    assert turns(read_sumo(TOWN, u_turns=True)) == TURNS | U_TURNS


def test_another_class_of_vehicles_has_other_roads() -> None:
    """Buses have the busway and their lane, walkers all but that; None is everything."""
    bus = read_sumo(TOWN, vehicle_class="bus")
    assert {"c_n n_d", "n_d d_e"} <= turns(bus)
    assert bus.nodes.set_index("sumo_id").loc["s_c", "lanes"] == 1
    assert read_sumo(TOWN, vehicle_class="pedestrian", nodes="junctions").n_edges == 9
    assert read_sumo(TOWN, vehicle_class="all").n_nodes == 10
    assert read_sumo(TOWN, vehicle_class=None).n_nodes == 10


def test_lanes_speeds_types_and_names() -> None:
    """Only lanes open to the class count; m/s become km/h; OSM's types are its words."""
    segments = read_sumo(TOWN).nodes.set_index("sumo_id")
    assert segments.loc[["w_c", "c_w", "s_c"], "lanes"].tolist() == [2, 1, 1]
    assert segments.loc["w_c", "speed_kmh"] == pytest.approx(13.89 * 3.6)
    assert segments.loc["w_c", "highway"] == "secondary"
    assert segments.loc["w_c", "type"] == "highway.secondary"
    assert segments.loc["w_c", "name"] == "High Street"
    assert not segments["speed_imputed"].any()


def test_places_are_those_of_the_source() -> None:
    """The offset is undone: the junctions are at the longitudes and latitudes that were given."""
    graph = read_sumo(TOWN, nodes="junctions")
    assert graph.nodes.crs.to_epsg() == 32632 or "zone=32" in graph.nodes.crs.to_string()
    places = graph.nodes.set_index("junction").to_crs(4326).geometry
    xy = shapely.get_coordinates(places.loc[["west", "depot"]])
    assert xy == pytest.approx(np.array([[9.0, 50.0], [9.006, 50.002]]), abs=1e-6)


def test_edges_run_from_junction_to_junction() -> None:
    """Lines begin and end at the junctions, with their bends; a longer lane stretches its edge."""
    graph = read_sumo(TOWN, nodes="junctions")
    edges = graph.edges.set_index("sumo_id")
    assert edges.loc["n_w"].geometry.geom_type == "LineString"
    assert shapely.get_num_coordinates(edges.loc["n_w"].geometry) == 4
    points = shapely.get_coordinates(np.asarray(graph.nodes.geometry))
    ends = shapely.get_coordinates(shapely.get_point(np.asarray(graph.edges.geometry), -1))
    assert ends == pytest.approx(points[graph.edge_index[1]])
    # 222 m as the crow flies, drawn 400 m long: as much longer as the lane is
    drawn = edges.loc["e_d", "length_m"] / edges.loc["e_d", "lane_length_m"]
    assert edges.loc["d_e", "length_m"] / 400 == pytest.approx(drawn, rel=1e-3)


def test_ids_are_the_same_whenever_read(tmp_path: Path) -> None:
    """And in a smaller net too: the id of an edge depends on its name alone."""
    whole = read_sumo(TOWN).nodes.reset_index().set_index("sumo_id")["segment_id"]
    text = TOWN.read_text()
    begin = text.index('    <edge id="n_w"')
    end = text.index("</edge>", begin) + len("</edge>\n")
    path = tmp_path / "smaller.net.xml"
    path.write_text(text[:begin] + text[end:])
    part = read_sumo(path).nodes.reset_index().set_index("sumo_id")["segment_id"]
    assert (whole[part.index] == part).all()
    assert len(part) == 8


def test_packed_files(tmp_path: Path) -> None:
    """As netconvert writes them when the name ends with .gz."""
    path = tmp_path / "town.net.xml.gz"
    path.write_bytes(gzip.compress(TOWN.read_bytes()))
    assert read_sumo(path).equals(read_sumo(TOWN))


def test_a_network_of_nowhere_keeps_its_metres(tmp_path: Path) -> None:
    """Without projection there is no place on Earth, unless crs= says it."""
    start = TOWN.read_text().index("projParameter=")
    old = TOWN.read_text()[start : TOWN.read_text().index("/>", start)]
    path = changed(tmp_path, old, 'projParameter="!"')
    local = read_sumo(path)
    assert local.nodes.crs.name == "local metres"
    assert "names no projection" in str(local.report)
    placed = read_sumo(path, crs="EPSG:32632")
    assert placed.nodes.crs.to_epsg() == 32632
    lengths = [graph.nodes["length_m"].to_numpy() for graph in (local, placed, read_sumo(TOWN))]
    assert lengths[0] == pytest.approx(lengths[1])
    assert lengths[0] == pytest.approx(lengths[2])


def test_a_network_without_connections_allows_all_turns(tmp_path: Path) -> None:
    """Which is told."""
    path = changed(tmp_path, "<connection from", "<other from")
    graph = read_sumo(path)
    assert "w_c c_n" in turns(graph)
    assert "has no connections" in str(graph.report)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("</net>", "", r"line \d+, column \d+: is no well-formed XML"),
        ("<net ", "<osm ", "is an OSM file: use the connector osm"),
        ("<net ", "<nodes ", "run netconvert"),
        ("<net ", "<html ", "has the root <html>, not <net>"),
        ('from="west"', 'from="vest"', "names the junction 'vest', which is not there"),
        ('from="west" to="centre"', 'to="centre"', "names the junction None"),
        ('speed="13.89"', 'speed="fast"', "`speed`: is 'fast', no number"),
        (' x="0.00"', ' x="?"', "junction 'west', `x`: is '\\?', no number"),
        ('length="400.00" shape', "shape", "`length`: is missing"),
        ("71.66,455.85", "71.66;455.85", "cannot be read; it should be x,y"),
        ('id="c_w" from', 'id="w_c" from', "edges appear twice: \\['w_c'\\]"),
        ("+proj=utm", "+proj=flat", "is none that PROJ knows"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, old: str, new: str, match: str) -> None:
    """Every message says where and what to do."""
    path = changed(tmp_path, old, new)
    if old == "<net ":
        path.write_text(path.read_text().replace("</net>", f"</{new[1:-1]}>"))
    with pytest.raises(DataError, match=match):
        read_sumo(path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"vehicle_class": "pasenger"}, "did you mean 'passenger'"),
        ({"crs": 4326}, "leave crs= out"),
        ({"crs": "EPSG:0"}, "is no CRS"),
        ({"nodes": "edges"}, "`nodes`: is 'edges'"),
        ({"speeds_kmh": {"secondary": -5}}, "is -5"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, object], match: str) -> None:
    """Refused before anything is read where that is possible."""
    with pytest.raises(DataError, match=match):
        read_sumo(TOWN, **options)  # type: ignore[arg-type]


def test_missing_cut_and_empty_files(tmp_path: Path) -> None:
    """A wrong name, half a download, nothing in it."""
    with pytest.raises(DataError, match=r"did you mean 'town\.net\.xml'"):
        read_sumo(TOWN.with_name("towns.net.xml"))
    half = tmp_path / "half.net.xml.gz"
    half.write_bytes(gzip.compress(TOWN.read_bytes())[:1500])
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_sumo(half)
    empty = tmp_path / "empty.net.xml"
    empty.write_text("<net/>")
    with pytest.raises(DataError, match="has no edges"):
        read_sumo(empty)
    (tmp_path / "town.net.xls").write_text("x")
    with pytest.raises(DataError, match=r"unknown kind of file '\.net\.xls'"):
        read_sumo(tmp_path / "town.net.xls")
    railway = tmp_path / "railway.net.xml"
    railway.write_text(
        re.sub(' (dis)?allow="[^"]*"', "", TOWN.read_text()).replace("<lane", '<lane allow="rail"')
    )
    with pytest.raises(DataError, match="none of 10 edges is open to 'passenger'; choose another"):
        read_sumo(railway)
