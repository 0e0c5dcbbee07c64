"""Round trips to networkx, and graphs of others."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import networkx as nx
import numpy as np
import pandas as pd
import pytest
import shapely

from stgraph.convert import from_networkx, to_networkx
from stgraph.errors import GraphError
from stgraph.graph import STGraph


def test_round_trip(full: STGraph, bare: STGraph) -> None:
    for graph in (full, bare):
        back = from_networkx(to_networkx(graph, signal=True))
        assert back.equals(graph)
        assert back.provenance == graph.provenance


def test_without_signal(full: STGraph) -> None:
    back = from_networkx(to_networkx(full))
    assert back.n_steps == 0
    assert back.equals(full.replace(time=None, values=None, mask=None, features=()))


def test_what_is_inside(full: STGraph) -> None:
    """Ids stay ids, columns become attributes."""
    result = to_networkx(full)
    assert type(result) is nx.DiGraph
    assert list(result.nodes) == [401, 7, 33, 2]
    assert result.nodes[33]["lanes"] == 3
    assert result.nodes[33]["geometry"] == shapely.box(10, 10, 20, 20)
    assert result.edges[2, 401] == {
        "weight": pytest.approx(0.1),
        "order": 0,
        "road": "A1",
        "length_m": 1.5,
    }
    assert result.graph["crs"] == "EPSG:2193"


def test_several_edges_between_two_nodes(bare: STGraph) -> None:
    """Protects parallel roads."""
    graph = bare.replace(edge_index=np.array([[0, 0, 1], [1, 1, 0]]), edge_weight=[3, 1, 2])
    result = to_networkx(graph)
    assert isinstance(result, nx.MultiDiGraph)
    assert from_networkx(result).equals(graph)


def test_edge_geometry(bare: STGraph) -> None:
    roads = gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1, 1)])], crs=4326)
    graph = bare.replace(edge_index=np.array([[0], [1]]), edge_weight=None, edges=roads)
    back = from_networkx(to_networkx(graph))
    assert isinstance(back.edges, gpd.GeoDataFrame)
    assert back.edges.crs == roads.crs
    assert back.equals(graph)
    graph = graph.replace(edges=roads.rename_geometry("line"))
    assert from_networkx(to_networkx(graph)).equals(graph)


def test_osmnx_layout() -> None:
    """Nodes with x and y, edges with a length: the street graphs of OSMnx."""
    street = nx.MultiDiGraph(crs="EPSG:4326")
    street.add_node(11, x=174.76, y=-36.85, street_count=3)
    street.add_node(12, x=174.77, y=-36.85, street_count=1)
    street.add_edge(12, 11, key=0, length=88.5, name="Queen Street")
    street.add_edge(11, 12, key=0, length=88.5, name=["Queen Street", "Customs Street"])
    graph = from_networkx(street, weight="length", weight_unit="m")
    assert graph.edge_index.tolist() == [[1, 0], [0, 1]]
    assert graph.edge_weight.tolist() == [88.5, 88.5]
    assert graph.weight_unit == "m"
    assert graph.nodes.geometry.iloc[0] == shapely.Point(174.76, -36.85)
    assert graph.edges is not None
    assert list(graph.edges.columns) == ["name"]


def test_undirected_becomes_both_ways() -> None:
    path = nx.path_graph(3)
    path.add_edge(2, 2)
    graph = from_networkx(path)
    assert graph.edge_index.tolist() == [[1, 0, 2, 1, 2], [0, 1, 1, 2, 2]]
    assert graph.edge_weight.tolist() == [1] * 5
    assert graph.nodes.geometry.isna().all()


def _weighted(**second: Any) -> nx.DiGraph[Any]:
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_edge("a", "b", weight=1.0)
    graph.add_edge("b", "a", **second)
    return graph


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (nx.DiGraph(), "has no nodes"),
        (_weighted(), "1 of 2 edges have no usable 'weight', first 'b' -> 'a': None"),
        (_weighted(weight="x"), "first 'b' -> 'a': 'x'; fill it or name another"),
        (nx.grid_2d_graph(2, 2), "ids of type mixed; use text"),
    ],
    ids=["empty", "no weight", "text", "tuples"],
)
def test_bad_graphs(graph: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        from_networkx(graph)


def test_names_in_the_way(full: STGraph) -> None:
    with pytest.raises(GraphError, match=r"`edges` has columns \['weight'\]"):
        to_networkx(full.replace(edges=pd.DataFrame({"weight": range(4)})))
    with pytest.raises(GraphError, match=r"`nodes` has columns \['values'\]"):
        to_networkx(full.replace(nodes=full.nodes.assign(values=1)), signal=True)
