"""What a graph is like: every fact written out for small graphs."""

from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
from road_graphs import make_roads

from stgraph.description import component_sizes, describe_graph
from stgraph.graph import STGraph
from stgraph.neighbours import build_radius


def test_a_signal_is_described(graph: STGraph) -> None:
    """Span in local time, features with unit and role, share of missing values."""
    facts = describe_graph(graph)
    assert (
        facts["time"] == "2024-01-01T13:00:00+13:00 to 2024-01-01T13:45:00+13:00 (Pacific/Auckland)"
    )
    assert facts["features"] == ["speed (km/h, target)"]
    assert facts["missing (%)"] == {"speed": 2.0}
    assert facts["step"] == "0 days 00:05:00"
    json.dumps(facts, allow_nan=False)


def test_components_are_counted_largest_first() -> None:
    """Two pairs that are connected one way only, and a node alone."""
    points = gpd.points_from_xy(range(6), range(6))
    nodes = gpd.GeoDataFrame({"kind": ["x"] * 6}, geometry=points, crs=4326)
    graph = STGraph(nodes=nodes, edge_index=np.array([[0, 2, 3], [1, 3, 4]]))
    assert component_sizes(graph).tolist() == [3, 2, 1]
    assert describe_graph(graph)["isolated nodes"] == 1


def test_components_are_those_of_the_report() -> None:
    """`graph info` and the findings of a builder count the same; a loop connects nothing."""
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy([0, 1, 90, 91, 500], [0] * 5), crs=32632)
    graph = build_radius(points, radius_m=5)
    graph = graph.replace(edge_index=np.hstack([graph.edge_index, [[4], [4]]]), edges=None,
                          edge_weight=np.ones(5, np.float32))  # fmt: skip
    facts = describe_graph(graph)
    assert (facts["components"], facts["isolated nodes"], facts["loops"]) == (3, 1, 1)
    said = str(graph.report)
    assert "falls into 3 components, 1 isolated nodes and 2 parts that share no edge" in said
    assert "own past" not in said  # there are no readings


def test_nothing_to_describe_is_no_failure() -> None:
    """No edges, no CRS, no geometry, no signal."""
    nodes = gpd.GeoDataFrame({"kind": ["a", None]}, geometry=[None, None])
    facts = describe_graph(STGraph(nodes=nodes))
    assert (facts["CRS"], facts["components"], facts["signal"]) == ("none", 2, "none")
    json.dumps(facts, allow_nan=False)


def test_segments_count_their_own_length() -> None:
    """In the reading of segments the nodes are the roads."""
    from stgraph.neighbours.line_graph import build_line_graph

    roads = make_roads()
    assert roads.edges is not None
    five = roads.replace(
        edge_index=roads.edge_index[:, :5], edge_weight=roads.edge_weight[:5],
        edges=roads.edges.iloc[:5],
    )  # fmt: skip
    facts = describe_graph(build_line_graph(five))
    assert facts["total length (km)"] == 0.944
    assert facts["imputed speeds (%)"] == 60.0
