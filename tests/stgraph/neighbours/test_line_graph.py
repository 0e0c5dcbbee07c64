"""Line graphs of little networks whose turns are written out."""

from __future__ import annotations

import geopandas as gpd
import networkx as nx
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from stgraph import STGraph, build_line_graph
from stgraph.errors import GraphError

UTM = "EPSG:32632"


def roads(
    points: dict[int, tuple[float, float]],
    edges: list[tuple[int, int]],
    *,
    crs: str = UTM,
    restrictions: list[list[int]] | None = None,
    lines: list[shapely.LineString] | None = None,
) -> STGraph:
    """Return a road network of straight lines; segment k of the list gets the id 10 * (k + 1)."""
    nodes = gpd.GeoDataFrame(
        geometry=shapely.points(list(points.values())), index=list(points), crs=crs
    )
    shapes = lines or [shapely.LineString([points[u], points[v]]) for u, v in edges]
    table = gpd.GeoDataFrame(
        {"segment_id": [10 * (k + 1) for k in range(len(edges))]}, geometry=shapes, crs=crs
    )
    index = nodes.index.get_indexer
    return STGraph(
        nodes=nodes,
        edge_index=np.stack([index([u for u, _ in edges]), index([v for _, v in edges])]),
        edges=table,
        provenance={"restrictions": restrictions or []},
    )


def turns(graph: STGraph) -> dict[tuple[int, int], float]:
    """Return (from segment, to segment) -> turn angle, rounded."""
    source, target = (graph.node_ids[part] for part in graph.edge_index)
    assert graph.edges is not None
    angles = graph.edges["turn_angle_deg"].round(3)
    return dict(zip(zip(source, target, strict=True), angles, strict=True))


#         3
#         |
#   1 --- 2 --- 4    two-way streets 1-2, 2-3, 2-4, every piece 100 m
CROSSING = {1: (0.0, 0.0), 2: (100.0, 0.0), 3: (100.0, 100.0), 4: (200.0, 0.0)}
BOTH_WAYS = [(1, 2), (2, 1), (2, 3), (3, 2), (2, 4), (4, 2)]


def test_turns_of_a_crossing() -> None:
    """Protects which turns there are, and their angles: right is positive, straight on is 0."""
    graph = build_line_graph(roads(CROSSING, BOTH_WAYS))
    assert turns(graph) == {
        (10, 30): -90.0,  # from the west to the north: left
        (10, 50): 0.0,
        (40, 20): 90.0,  # from the north to the west: right
        (40, 50): -90.0,
        (60, 20): 0.0,
        (60, 30): 90.0,
    }
    assert graph.nodes["kind"].eq("segment").all()
    assert graph.nodes.loc[10, ["from_junction", "to_junction", "reverse_id"]].tolist() == [
        1,
        2,
        20,
    ]
    assert graph.nodes.loc[10, "length_m"] == pytest.approx(100)
    assert graph.edges is not None
    assert graph.edges["length_m"].to_numpy() == pytest.approx(np.full(6, 100.0))
    assert graph.edges["via_junction"].eq(2).all()


def test_u_turns_are_added_on_request() -> None:
    """Protects U-turns at crossings and at dead ends, which turn by 180 degrees."""
    graph = build_line_graph(roads(CROSSING, BOTH_WAYS), u_turns=True)
    back = {pair: angle for pair, angle in turns(graph).items() if abs(angle) == 180}
    assert back == dict.fromkeys(
        [(10, 20), (20, 10), (30, 40), (40, 30), (50, 60), (60, 50)], 180.0
    )
    assert graph.n_edges == 12


def test_one_way_pair_is_no_u_turn() -> None:
    """Protects dual carriageways: back along the other street is a turn, not a U-turn."""
    points = {1: (0.0, 0.0), 2: (100.0, 0.0)}
    lines = [
        shapely.LineString([(0, 0), (50, 10), (100, 0)]),
        shapely.LineString([(100, 0), (50, -10), (0, 0)]),
    ]
    graph = build_line_graph(roads(points, [(1, 2), (2, 1)], lines=lines))
    assert set(turns(graph)) == {(10, 20), (20, 10)}
    assert graph.nodes["reverse_id"].tolist() == [-1, -1]


def test_both_ways_of_a_street_may_differ_in_length() -> None:
    """Protects U-turns where a source has measured each way by itself."""
    network = roads({1: (0.0, 0.0), 2: (100.0, 0.0)}, [(1, 2), (2, 1)])
    measured = network.replace(edges=network.edges.assign(length_m=[100.0, 104.0]))
    graph = build_line_graph(measured)
    assert graph.nodes["reverse_id"].to_dict() == {10: 20, 20: 10}
    assert turns(graph) == {}


def test_parallel_streets_of_one_length_keep_their_own_reverse() -> None:
    """Protects twins: four segments between the same junctions, all of one length."""
    points = {1: (0.0, 0.0), 2: (100.0, 0.0)}
    north = shapely.LineString([(0, 0), (50, 10), (100, 0)])
    south = shapely.LineString([(0, 0), (50, -10), (100, 0)])
    lines = [north, south, south.reverse(), north.reverse()]
    graph = build_line_graph(roads(points, [(1, 2), (1, 2), (2, 1), (2, 1)], lines=lines))
    assert graph.nodes["reverse_id"].to_dict() == {10: 40, 20: 30, 30: 20, 40: 10}
    assert set(turns(graph)) == {(10, 30), (20, 40), (30, 10), (40, 20)}


def test_self_loop_leads_into_itself_and_not_back() -> None:
    """Protects a block that begins and ends at one junction: round again, but no U-turn."""
    points = {1: (0.0, 0.0)}
    block = shapely.LineString([(0, 0), (50, 0), (50, 50), (0, 50), (0, 0)])
    graph = build_line_graph(roads(points, [(1, 1), (1, 1)], lines=[block, block.reverse()]))
    assert set(turns(graph)) == {(10, 10), (20, 20)}
    assert set(
        turns(
            build_line_graph(
                roads(points, [(1, 1), (1, 1)], lines=[block, block.reverse()]), u_turns=True
            )
        )
    ) == {(10, 10), (10, 20), (20, 10), (20, 20)}


def test_forbidden_turns_get_no_edge() -> None:
    """Protects turn restrictions; those of segments that are not there do no harm."""
    graph = build_line_graph(roads(CROSSING, BOTH_WAYS, restrictions=[[10, 30], [10, 999]]))
    assert (10, 30) not in turns(graph)
    assert graph.n_edges == 5
    assert "restrictions" not in graph.provenance


def test_columns_of_the_source_stay_and_times_are_between_midpoints() -> None:
    """Protects attributes and the travel time of a turn."""
    network = roads(CROSSING, BOTH_WAYS)
    assert network.edges is not None
    network = network.replace(
        edges=network.edges.assign(name=list("abcdef"), travel_time_s=[10.0, 1, 20, 1, 30, 1])
    )
    graph = build_line_graph(network, weight="length")
    assert graph.nodes["name"].tolist() == list("abcdef")
    assert graph.edges is not None
    times = dict(zip(turns(graph), graph.edges["travel_time_s"], strict=True))
    assert times[10, 30] == 15.0
    assert graph.weight_unit == "m"
    assert graph.edge_weight == pytest.approx(np.full(6, 100.0))


def test_bearings_of_degrees() -> None:
    """Protects bearings in degrees: a step east at 60 degrees north still points east."""
    network = roads(
        {1: (10.0, 60.0), 2: (10.01, 60.0), 3: (10.01, 60.01)}, [(1, 2), (2, 3)], crs="EPSG:4326"
    )
    graph = build_line_graph(network)
    assert graph.nodes["bearing_deg"].to_numpy() == pytest.approx([90.0, 0.0], abs=0.01)
    assert turns(graph)[10, 20] == pytest.approx(-90.0, abs=0.01)
    assert graph.nodes["length_m"].to_numpy() == pytest.approx([556.0, 1112.0], abs=1.0)


def test_graph_without_lines_gets_straight_ones() -> None:
    """Protects networks that come as points and pairs only."""
    network = roads(CROSSING, BOTH_WAYS).replace(edges=None)
    graph = build_line_graph(network)
    assert graph.n_edges == 6
    assert list(graph.node_ids) == list(range(6))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_same_turns_as_networkx(pairs: list[tuple[int, int]]) -> None:
    """Protects the pairs of any multigraph against networkx's line graph."""
    points = {k: (100.0 * k, 10.0 * k * k) for k in range(6)}
    bent = [
        shapely.LineString([points[u], (points[u][0] + k + 1, -50 - k), points[v]])
        for k, (u, v) in enumerate(pairs)
    ]
    graph = build_line_graph(roads(points, pairs, lines=bent), u_turns=True)
    multigraph = nx.MultiDiGraph()
    keys = [(u, v, multigraph.add_edge(u, v)) for u, v in pairs]
    ids = {key: 10 * (k + 1) for k, key in enumerate(keys)}
    expected = {(ids[a], ids[b]) for a, b in nx.line_graph(multigraph).edges()}
    assert set(turns(graph)) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.replace(edge_index=None, edge_weight=None, edges=None), "has no edges"),
        (lambda g: g.replace(edges=g.edges.assign(segment_id=7)), "`segment_id` 7 appears twice"),
        (lambda g: g.replace(edges=g.edges.assign(segment_id=list("abcdef"))), "use integers"),
        (
            lambda g: g.replace(edges=g.edges.set_geometry(g.edges.centroid)),
            "6 edges are no LineString; the first, at 0, has a Point",
        ),
        (
            lambda g: g.replace(edges=None, nodes=g.nodes.set_geometry(g.nodes.buffer(1))),
            "neither lines on its edges nor points on its nodes",
        ),
    ],
)
def test_what_is_no_road_network_is_refused(change: object, message: str) -> None:
    """Protects against graphs of stations, and against tables edited by hand."""
    with pytest.raises(GraphError, match=message):
        build_line_graph(change(roads(CROSSING, BOTH_WAYS)))  # type: ignore[operator]


def test_network_without_crs_and_unknown_weight_are_told_together() -> None:
    """Protects the one message that names all that is wrong."""
    network = roads(CROSSING, BOTH_WAYS).replace(edges=None)
    placeless = gpd.GeoDataFrame(index=network.node_ids, geometry=[None] * 4)
    network = network.replace(nodes=placeless)
    with pytest.raises(GraphError, match=r"(?s)`weight`.*CRS"):
        build_line_graph(network, weight="lenght")  # type: ignore[arg-type]
