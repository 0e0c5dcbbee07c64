"""OpenStreetMap files become the right roads: hand-drawn networks with the answer written out."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from drawn_osm import Ways, osm_text, write_osm
from stgraph_connectors.roads.osm import read_osm

from stgraph.graph import STGraph

# a cross: 1 west, 2 east, 3 south, 4 north, 5 in the middle
CROSS = {1: (0, 1), 2: (2, 1), 3: (1, 0), 4: (1, 2), 5: (1, 1)}
HERE: Ways = {10: ("1 5 2", "highway=primary name=High"), 11: ("3 5 4", "highway=residential")}


def links(graph: STGraph) -> set[tuple[int, int]]:
    """Return the directed segments of a primal graph as pairs of OSM node ids."""
    ids = graph.node_ids.to_numpy()[graph.edge_index]
    pairs = list(zip(*ids.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    return set(pairs)


def both(*pairs: tuple[int, int]) -> set[tuple[int, int]]:
    return {*pairs, *((b, a) for a, b in pairs)}


def row(graph: STGraph, source: int, target: int) -> dict[str, object]:
    """Return the attributes of the one segment between two nodes."""
    ids = graph.node_ids.to_numpy()[graph.edge_index]
    (position,) = np.flatnonzero((ids[0] == source) & (ids[1] == target))
    return graph.edges.iloc[position].to_dict()


def turns(graph: STGraph) -> set[tuple[int, int, int]]:
    """Return the forbidden turns of a primal graph as triples of OSM node ids."""
    ids = graph.node_ids.to_numpy()[graph.edge_index]
    where = {s: i for i, s in enumerate(graph.edges["segment_id"])}
    pairs = [(where[a], where[b]) for a, b in graph.provenance.get("restrictions", [])]
    assert all(ids[1, a] == ids[0, b] for a, b in pairs)
    return {(int(ids[0, a]), int(ids[1, a]), int(ids[1, b])) for a, b in pairs}


def read(tmp_path: Path, places: dict[int, tuple[float, float]], ways: Ways, **options) -> STGraph:
    turns = options.pop("turns", None)
    options = {"nodes": "junctions", **options}
    return read_osm(write_osm(tmp_path, places, ways, turns), **options)


# ---------------------------------------------------------------- topology


def test_roads_that_share_a_node_cross(tmp_path: Path) -> None:
    graph = read(tmp_path, CROSS, HERE)
    assert links(graph) == both((1, 5), (5, 2), (3, 5), (5, 4))
    assert graph.nodes.crs == "EPSG:4326"
    assert set(graph.nodes["kind"]) == {"junction"}


def test_a_bridge_does_not_cross_the_road_below(tmp_path: Path) -> None:
    """Lines that intersect without a common node are no junction."""
    ways: Ways = {10: ("1 2", "highway=primary bridge=yes layer=1"), 11: ("3 4", "highway=primary")}
    graph = read(tmp_path, CROSS, ways)
    assert links(graph) == both((1, 2), (3, 4))
    assert row(graph, 1, 2)["bridge"] == "yes"
    assert "2 parts" in str(graph.report)


def test_nodes_of_a_curve_are_no_junctions(tmp_path: Path) -> None:
    """A chain of two ways is one segment with all its points and the tags of both."""
    ways: Ways = {10: ("1 5", "highway=primary ref=A"), 11: ("5 4", "highway=secondary ref=A")}
    graph = read(tmp_path, CROSS, ways)
    assert links(graph) == both((1, 4))
    there = row(graph, 1, 4)
    assert (there["osmid"], there["highway"], there["ref"]) == ("10;11", "primary;secondary", "A")
    assert shapely.get_coordinates(there["geometry"]).tolist() == pytest.approx(
        np.array([[9, 50.001], [9.001, 50.001], [9.001, 50.002]])
    )
    assert row(graph, 4, 1)["highway"] == "secondary;primary"
    assert there["length_m"] == pytest.approx(71.47 + 111.19, abs=0.05)


def test_without_simplification_each_piece_is_a_segment(tmp_path: Path) -> None:
    graph = read(tmp_path, CROSS, {10: ("1 5 4", "highway=primary")}, simplify=False)
    assert links(graph) == both((1, 5), (5, 4))


@pytest.mark.parametrize(
    ("tags", "answer"),
    [
        ("oneway=yes", {(1, 2)}),
        ("oneway=true", {(1, 2)}),
        ("oneway=1", {(1, 2)}),
        ("oneway=-1", {(2, 1)}),
        ("oneway=reverse", {(2, 1)}),
        ("oneway=no", both((1, 2))),
        ("oneway=reversible", both((1, 2))),
        ("junction=roundabout", {(1, 2)}),
        ("junction=circular", {(1, 2)}),
        ("junction=roundabout oneway=no", both((1, 2))),
        ("highway=motorway", {(1, 2)}),
        ("highway=motorway oneway=no", both((1, 2))),
        ("highway=motorway_link", both((1, 2))),
    ],
)
def test_directions(tmp_path: Path, tags: str, answer: set[tuple[int, int]]) -> None:
    tags = tags if "highway=" in tags else f"highway=primary {tags}"
    graph = read(tmp_path, CROSS, {10: ("1 2", tags)})
    assert links(graph) == answer
    assert set(graph.edges["oneway"]) == {len(answer) == 1}
    assert ("change direction" in str(graph.report)) == ("reversible" in tags)


def test_walkers_go_both_ways_and_slowly(tmp_path: Path) -> None:
    """One-way signs and speed limits are for cars."""
    ways: Ways = {10: ("1 5 2", "highway=primary oneway=yes maxspeed=50")}
    graph = read(tmp_path, CROSS, ways, network="walk", speeds_kmh={"steps": 2})
    assert links(graph) == both((1, 2))
    assert graph.edges["speed_kmh"].tolist() == [5.0, 5.0]
    assert graph.edges["speed_imputed"].all()
    given = read(tmp_path, CROSS, ways, network="walk", speeds_kmh={"primary": 4.0})
    assert given.edges["speed_kmh"].tolist() == [4.0, 4.0]


@pytest.mark.parametrize("tags", ["oneway:bicycle=no", "cycleway=opposite_lane"])
def test_bicycles_may_go_against_cars_where_signed(tmp_path: Path, tags: str) -> None:
    ways: Ways = {10: ("1 2", f"highway=residential oneway=yes {tags}")}
    assert links(read(tmp_path, CROSS, ways, network="bike")) == both((1, 2))
    assert links(read(tmp_path, CROSS, ways)) == {(1, 2)}


def test_a_pair_of_carriageways(tmp_path: Path) -> None:
    """Two one-way roads side by side meet two-way roads at both ends."""
    places = {1: (0, 0), 2: (1, 0), 3: (2, 0.1), 4: (2, -0.1), 5: (3, 0), 6: (4, 0)}
    ways: Ways = {
        10: ("1 2", "highway=primary"),
        11: ("2 4 5", "highway=primary oneway=yes"),
        12: ("5 3 2", "highway=primary oneway=yes"),
        13: ("5 6", "highway=primary"),
    }
    graph = read(tmp_path, places, ways)
    assert links(graph) == both((1, 2), (5, 6)) | {(2, 5), (5, 2)}
    assert row(graph, 2, 5)["osmid"] == "11"
    assert row(graph, 5, 2)["osmid"] == "12"


def test_a_roundabout_turns_one_way(tmp_path: Path) -> None:
    """The ring is cut where roads join; its other node is only a curve."""
    places = {1: (0, 0), 2: (1, 1), 3: (2, 0), 4: (1, -1), 5: (-1, 0), 6: (1, 2), 7: (3, 0)}
    ways: Ways = {
        10: ("3 2 1 4 3", "highway=primary junction=roundabout"),
        11: ("5 1", "highway=primary"),
        12: ("6 2", "highway=primary"),
        13: ("7 3", "highway=primary"),
    }
    graph = read(tmp_path, places, ways)
    assert links(graph) == both((5, 1), (6, 2), (7, 3)) | {(3, 2), (2, 1), (1, 3)}
    assert len(shapely.get_coordinates(row(graph, 1, 3)["geometry"])) == 3


def test_parallel_roads_stay_two(tmp_path: Path) -> None:
    """Two streets between the same junctions are two segments each way."""
    places = {1: (0, 0), 2: (1, 0), 3: (1.5, 1), 4: (2, 0), 5: (3, 0)}
    ways: Ways = {
        10: ("1 2 4 5", "highway=primary"),
        11: ("2 3 4", "highway=residential"),
    }
    graph = read(tmp_path, places, ways)
    ids = graph.node_ids.to_numpy()[graph.edge_index]
    assert sorted(zip(*ids.tolist(), strict=True)) == sorted(
        [(1, 2), (2, 1), (2, 4), (2, 4), (4, 2), (4, 2), (4, 5), (5, 4)]
    )
    assert graph.edges["segment_id"].is_unique


def test_a_way_drawn_twice_is_one_road(tmp_path: Path) -> None:
    """A copy of a street in the map makes neither a second street nor junctions along it."""
    ways: Ways = {10: ("1 5 2", "highway=primary"), 11: ("2 5 1", "highway=primary name=Copy")}
    graph = read(tmp_path, CROSS, ways)
    assert links(graph) == both((1, 2))
    assert (row(graph, 1, 2)["osmid"], row(graph, 1, 2)["name"]) == ("10;11", "Copy")
    assert "1 ways run along nodes that a way has joined already" in str(graph.report)


def test_a_loop_returns_to_its_junction(tmp_path: Path) -> None:
    """A street that leaves a junction and comes back is a self-loop each way."""
    places = {1: (0, 0), 2: (1, 0), 3: (2, 1), 4: (2, -1)}
    ways: Ways = {10: ("1 2 3 4 2", "highway=residential")}
    graph = read(tmp_path, places, ways)
    ids = graph.node_ids.to_numpy()[graph.edge_index]
    assert sorted(zip(*ids.tolist(), strict=True)) == [(1, 2), (2, 1), (2, 2), (2, 2)]
    loops = [shapely.get_coordinates(line).tolist() for line in graph.edges.geometry[2:]]
    assert len(graph.edges["segment_id"].unique()) == 4
    assert all(len(line) == 4 for line in loops if line[0] == line[-1])


@pytest.mark.parametrize(("tags", "count"), [("", 2), ("oneway=yes", 1)])
def test_a_ring_without_junction_is_kept(tmp_path: Path, tags: str, count: int) -> None:
    """A circuit that nothing joins opens at its node with the smallest id."""
    places = {7: (0, 0), 3: (1, 0), 9: (1, 1)}
    graph = read(tmp_path, places, {10: ("7 3 9 7", f"highway=residential {tags}")})
    assert graph.node_ids.tolist() == [3]
    assert graph.edge_index.tolist() == [[0] * count, [0] * count]
    assert "1 rings have no junction" in str(graph.report)


def test_a_dead_end_is_a_junction(tmp_path: Path) -> None:
    places = {1: (0, 0), 2: (1, 0), 3: (2, 0), 4: (1, 1), 5: (1, 2)}
    ways: Ways = {10: ("1 2 3", "highway=primary"), 11: ("2 4 5", "highway=residential")}
    assert links(read(tmp_path, places, ways)) == both((1, 2), (2, 3), (2, 5))


def test_a_one_way_street_that_widens_is_cut_there(tmp_path: Path) -> None:
    ways: Ways = {10: ("1 5", "highway=primary oneway=yes"), 11: ("5 2", "highway=primary")}
    assert links(read(tmp_path, CROSS, ways)) == {(1, 5)} | both((5, 2))


# ---------------------------------------------------------------- attributes


def test_speed_and_lanes_survive_a_change_along_the_road(tmp_path: Path) -> None:
    """1 km at 50 and 1 km at 100 take as long as 2 km at 66.7; the narrowest part counts."""
    places = {1: (0, 0), 2: (0, 9), 3: (0, 18)}
    ways: Ways = {
        10: ("1 2", "highway=primary maxspeed=50 lanes=4"),
        11: ("2 3", "highway=primary maxspeed=100 lanes=2"),
    }
    there = row(read(tmp_path, places, ways), 1, 3)
    assert there["speed_kmh"] == pytest.approx(2 / (1 / 50 + 1 / 100))
    assert there["lanes"] == 1.0
    assert there["maxspeed"] == "50;100"
    assert not there["speed_imputed"]
    assert there["travel_time_s"] == pytest.approx(there["length_m"] / there["speed_kmh"] * 3.6)


def test_speeds_in_miles_and_by_direction(tmp_path: Path) -> None:
    ways: Ways = {
        10: ("1 5", "highway=primary maxspeed=30_+_mph"),
        11: ("5 2", "highway=primary maxspeed=50 maxspeed:backward=30"),
        12: ("3 5", "highway=primary maxspeed:type=DE:urban lanes=3 lanes:forward=2"),
        13: ("5 4", "highway=primary"),
    }
    graph = read(tmp_path, CROSS, ways, speeds_kmh={"primary": 44.0})
    assert row(graph, 1, 5)["speed_kmh"] == pytest.approx(48.28, abs=0.01)
    assert [row(graph, *ends)["speed_kmh"] for ends in ((5, 2), (2, 5))] == [50.0, 30.0]
    assert row(graph, 2, 5)["maxspeed"] == "30"
    assert row(graph, 3, 5)["speed_kmh"] == 50.0
    assert [row(graph, *ends)["lanes"] for ends in ((3, 5), (5, 3))] == [2.0, 1.5]
    assert row(graph, 5, 4)["speed_kmh"] == 44.0
    assert row(graph, 5, 4)["speed_imputed"]


def test_every_tag_is_kept(tmp_path: Path) -> None:
    """Tags without a column of their own are in one text, which QGIS takes for a map."""
    ways: Ways = {
        10: ("1 5", "highway=primary postal_code=1 note=a&quot;b"),
        11: ("5 2", "highway=primary postal_code=2"),
    }
    graph = read(tmp_path, CROSS, ways)
    assert row(graph, 1, 2)["other_tags"] == '"postal_code"=>"1;2","note"=>"a\\"b"'
    chosen = read(tmp_path, CROSS, ways, tags=["postal_code", "highway"])
    assert row(chosen, 2, 1)["postal_code"] == "2;1"
    assert row(chosen, 1, 2)["other_tags"] == '"note"=>"a\\"b"'


def test_tags_of_junctions_are_columns(tmp_path: Path) -> None:
    text = osm_text(CROSS, HERE).replace(
        '<node id="5" lon="9.0010000" lat="50.0010000"/>',
        '<node id="5" lon="9.001" lat="50.001"><tag k="highway" v="traffic_signals"/></node>',
    )
    path = tmp_path / "signals.osm"
    path.write_text(text)
    graph = read_osm(path, nodes="junctions")
    assert graph.nodes["highway"].dropna().to_dict() == {5: "traffic_signals"}


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("network", "kept"),
    [
        ("drive", {10}),
        ("drive_service", {10, 11, 12}),
        ("walk", {10, 11, 12, 13, 15}),
        ("bike", {10, 11, 12, 14, 15}),
        ("all", {10, 11, 12, 13, 14, 15, 16, 17}),
    ],
)
def test_networks_take_the_ways_that_osmnx_takes(
    tmp_path: Path, network: str, kept: set[int]
) -> None:
    tags = {
        10: "highway=residential",
        11: "highway=service",
        12: "highway=service service=driveway",
        13: "highway=steps",
        14: "highway=cycleway",
        15: "highway=track",
        16: "highway=motorway",
        17: "highway=residential access=private",
        18: "highway=construction",
        19: "highway=pedestrian area=yes",
    }
    if network == "drive_service":
        tags[10] = "highway=residential motor_vehicle=yes"
    places = {i: (i % 2, i) for i in range(1, 40)}
    ways: Ways = {way: (f"{2 * (way - 9)} {2 * (way - 9) + 1}", text) for way, text in tags.items()}
    graph = read(tmp_path, places, ways, network=network)
    expected = kept | ({16} if network in ("drive", "drive_service") else set())
    assert set(graph.edges["osmid"].astype(int)) == expected


# ---------------------------------------------------------------- turn restrictions


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("no_left_turn", {(1, 5, 4)}),
        ("only_straight_on", {(1, 5, 1), (1, 5, 3), (1, 5, 4)}),
    ],
)
def test_restrictions_at_a_junction(
    tmp_path: Path, kind: str, answer: set[tuple[int, int, int]]
) -> None:
    """What may only be done forbids everything else."""
    ways: Ways = {
        way: (f"{n} 5", "highway=primary") for way, n in ((11, 1), (12, 2), (13, 3), (14, 4))
    }
    aim = 14 if kind == "no_left_turn" else 12
    rule = {1: (f"from:w11 via:n5 to:w{aim}", f"restriction={kind}")}
    assert turns(read(tmp_path, CROSS, ways, turns=rule)) == answer
    assert not turns(read(tmp_path, CROSS, ways, turns=rule, restrictions=False))
    assert not turns(read(tmp_path, CROSS, ways, turns=rule, network="walk"))
    segments = read(tmp_path, CROSS, ways, turns=rule, nodes="segments")
    all_turns = read(tmp_path, CROSS, ways, nodes="segments")
    assert all_turns.n_edges - segments.n_edges == len(answer - {(1, 5, 1)})


@pytest.mark.parametrize(
    ("tags", "holds"),
    [
        ("restriction=no_left_turn except=bicycle;psv", True),
        ("restriction=no_left_turn except=motorcar", False),
        ("restriction:hgv=no_left_turn", False),
        ("restriction:motorcar=no_left_turn", True),
        ("restriction:conditional=no_left_turn_@_(Mo-Fr)", False),
        ("restriction=no_left_turn day_on=Monday", False),
        ("restriction=turn_around", False),
    ],
)
def test_restrictions_hold_for_those_they_name(tmp_path: Path, tags: str, holds: bool) -> None:
    ways: Ways = {way: (f"{n} 5", "highway=primary") for way, n in ((11, 1), (12, 2), (14, 4))}
    graph = read(tmp_path, CROSS, ways, turns={1: ("from:w11 via:n5 to:w14", tags)})
    assert turns(graph) == ({(1, 5, 4)} if holds else set())
    told = "conditional" in tags or "day_on" in tags or "turn_around" in tags
    assert ("they are not used" in str(graph.report)) == told


def test_a_junction_stays_where_going_on_is_forbidden(tmp_path: Path) -> None:
    """At a node without side streets, too; simplifying would lose the restriction."""
    ways: Ways = {10: ("1 5", "highway=primary"), 11: ("5 2", "highway=primary")}
    rule = {1: ("from:w10 via:n5 to:w11", "restriction=no_straight_on")}
    graph = read(tmp_path, CROSS, ways, turns=rule)
    assert links(graph) == both((1, 5), (5, 2))
    assert turns(graph) == {(1, 5, 2)}
    u_turn = {1: ("from:w10 via:n5 to:w10", "restriction=no_u_turn")}
    assert links(read(tmp_path, CROSS, ways, turns=u_turn)) == both((1, 2))


def test_a_u_turn_at_a_junction_is_forbidden(tmp_path: Path) -> None:
    ways: Ways = {way: (f"{n} 5", "highway=primary") for way, n in ((11, 1), (12, 2), (14, 4))}
    rule = {1: ("from:w11 via:n5 to:w11", "restriction=no_u_turn")}
    assert turns(read(tmp_path, CROSS, ways, turns=rule)) == {(1, 5, 1)}


# two carriageways, north (1 2 3) and south (6 5 4), joined by a link 2-5
PAIR = {1: (0, 0), 2: (0, 1), 3: (0, 2), 4: (1, 0), 5: (1, 1), 6: (1, 2), 7: (2, 1)}
CARRIAGEWAYS: Ways = {
    10: ("1 2", "highway=primary oneway=yes"),
    11: ("2 3", "highway=primary oneway=yes"),
    12: ("6 5", "highway=primary oneway=yes"),
    13: ("5 4", "highway=primary oneway=yes"),
    14: ("2 5", "highway=primary"),
}


def test_a_restriction_over_a_way_becomes_the_same_pair(tmp_path: Path) -> None:
    """Nobody else comes onto the link, so its turn is forbidden; or else the report says so."""
    rule = {1: ("from:w10 via:w14 to:w13", "restriction=no_u_turn")}
    graph = read(tmp_path, PAIR, CARRIAGEWAYS, turns=rule)
    assert turns(graph) == {(1, 2, 5)}
    side: Ways = {**CARRIAGEWAYS, 15: ("5 7", "highway=primary")}
    assert turns(read(tmp_path, PAIR, side, turns=rule)) == {(2, 5, 4)}
    more = {**PAIR, 8: (-1, 1)}
    crossing: Ways = {**side, 16: ("8 2", "highway=primary")}
    graph = read(tmp_path, more, crossing, turns=rule)
    assert turns(graph) == set()
    assert "1 hold only for those who come from one road and cross another" in str(graph.report)


def test_restrictions_that_do_not_fit_are_told(tmp_path: Path) -> None:
    ways: Ways = {way: (f"{n} 5", "highway=primary") for way, n in ((11, 1), (12, 2), (14, 4))}
    rules = {
        1: ("from:w11 via:n1 to:w14", "restriction=no_left_turn"),
        2: ("from:w11 to:w14", "restriction=no_left_turn"),
        3: ("from:w11 via:n5 to:w99", "restriction=no_left_turn"),
    }
    graph = read(tmp_path, CROSS, ways, turns=rules)
    assert turns(graph) == set()
    text = str(graph.report)
    assert "1 do not fit their ways" in text
    assert "1 lack a member" in text


# ---------------------------------------------------------------- files and areas


def test_packed_files_are_the_same(tmp_path: Path) -> None:
    plain = write_osm(tmp_path, CROSS, HERE)
    ids = read_osm(plain).node_ids.tolist()
    for suffix, pack in ((".osm.gz", gzip.compress), (".osm.bz2", bz2.compress)):
        packed = tmp_path / f"packed{suffix}"
        packed.write_bytes(pack(plain.read_bytes()))
        assert read_osm(packed).node_ids.tolist() == ids


def test_pbf_is_the_same_as_xml(tmp_path: Path) -> None:
    """Both readers hand over the same stream."""
    osmium = pytest.importorskip("osmium")
    rule = {1: ("from:w10 via:n5 to:w10", "restriction=no_u_turn")}
    plain = write_osm(tmp_path, CROSS, HERE, rule)
    packed = tmp_path / "drawn.osm.pbf"
    with osmium.SimpleWriter(str(packed)) as writer:
        for item in osmium.FileProcessor(str(plain)):
            writer.add(item)
    first, second = (read_osm(path, nodes="junctions") for path in (plain, packed))
    assert first.edges.equals(second.edges)
    assert first.nodes.equals(second.nodes)
    assert first.provenance == second.provenance
    assert first.provenance["connector"] == "osm"
    assert "OpenStreetMap contributors" in first.provenance["attribution"]


def test_an_area_keeps_segments_with_both_ends_inside(tmp_path: Path) -> None:
    bbox = (8.9995, 50.0005, 9.0015, 50.0025)  # without 2 and 3
    graph = read(tmp_path, CROSS, HERE, bbox=bbox)
    assert links(graph) == both((1, 5), (5, 4))
    boundary = gpd.GeoDataFrame(geometry=[shapely.box(*bbox)], crs="EPSG:4326").to_crs(25832)
    assert links(read(tmp_path, CROSS, HERE, boundary=boundary)) == both((1, 5), (5, 4))
    boundary.to_file(tmp_path / "area.gpkg")
    graph = read(tmp_path, CROSS, HERE, boundary=tmp_path / "area.gpkg")
    assert links(graph) == both((1, 5), (5, 4))


def test_ids_do_not_depend_on_the_extract(tmp_path: Path) -> None:
    """A smaller cut-out, or the ways in another order, names the same segments alike."""
    whole = read(tmp_path, CROSS, HERE, nodes="segments")
    part = read(tmp_path, CROSS, HERE, nodes="segments", bbox=(8.9995, 50.0005, 9.0015, 50.0025))
    turned = read(tmp_path, CROSS, dict(reversed(HERE.items())), nodes="segments")
    assert set(part.node_ids) < set(whole.node_ids)
    assert set(turned.node_ids) == set(whole.node_ids)
