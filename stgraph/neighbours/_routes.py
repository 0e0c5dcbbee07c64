"""Shortest ways along directed roads between spots on them, never farther than asked.

The search runs over states instead of junctions: segments with the same possible continuations
share one. Where U-turns and all turns are allowed that is one state per junction; a forbidden turn
or U-turn splits a junction only as far as needed. Segments are cut at the spots, so that lengths
from spot to spot are read off directly; states that save more than they cost are taken out first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from stgraph.graph import BoolArray, IntArray
from stgraph.neighbours._contraction import contract, link_nodes
from stgraph.neighbours._edges import Pairs
from stgraph.neighbours._places import Float64Array, to_metres
from stgraph.neighbours._roads import Roads

_CELLS = 6_000_000  # distances held at once: 48 MB
_ROUND = 1.01  # straight lines are measured to 0.5 %
_TILE_M = 1_000.0  # places in one tile are kept together in memory


@dataclass(frozen=True, eq=False)
class Spots:
    """M places on segments; a station has one, or two where it counts for both directions."""

    station: IntArray  # (M,) number of the station, from 0
    segment: IntArray  # (M,) position of the segment
    offset_m: Float64Array  # (M,) along it

    def take(self, chosen: IntArray) -> Spots:
        """Return some of the spots."""
        return Spots(self.station[chosen], self.segment[chosen], self.offset_m[chosen])


@dataclass(frozen=True, eq=False)
class RouteGraph:
    """The network to search: states, then spots, then one node for each station."""

    links: csr_array  # (V, V) metres
    metres: Float64Array  # (V, 2 or 3) where the nodes are
    spots: Spots  # sorted by segment and offset
    n_states: int
    n_stations: int

    @property
    def first_station(self) -> int:
        """Number of the node of the first station."""
        return self.n_states + len(self.spots.station)


def build_route_graph(roads: Roads, turns: IntArray, spots: Spots, n_stations: int) -> RouteGraph:
    """Cut the roads at the spots and link what can be driven."""
    spots = spots.take(np.lexsort((spots.station, spots.offset_m, spots.segment)))
    state, n_states = _states(turns, len(roads))
    n_spots = len(spots.station)
    node = n_states + np.arange(n_spots)
    first = np.full(len(roads), -1, dtype=np.int64)
    first[spots.segment[::-1]] = node[::-1]
    starts = np.diff(spots.segment, prepend=-1) != 0
    last = np.roll(starts, -1)
    # from a state along whatever may follow, up to its end or to the first spot on it
    before, after = _one_segment_per_state(turns, state)
    cut = first[after] >= 0
    offset = np.zeros(len(roads))
    offset[spots.segment[starts]] = spots.offset_m[starts]
    there = np.where(cut, first[after], state[after])
    along = np.where(cut, offset[after], roads.length_m[after])
    # from spot to spot, from the last one to the end, and from stations to their spots
    next_ = np.flatnonzero(~starts[1:])
    gap = np.diff(spots.offset_m)[next_]
    beside = next_[gap == 0]
    rest = roads.length_m[spots.segment[last]] - spots.offset_m[last]
    links = [
        (before, there, along),
        (node[next_], node[next_ + 1], gap),
        (node[beside + 1], node[beside], np.zeros(len(beside))),
        (node[last], state[spots.segment[last]], np.maximum(rest, 0.0)),
        (n_states + n_spots + spots.station, node, np.zeros(n_spots)),
    ]
    n_nodes = n_states + n_spots + n_stations
    source, target, length_m = (np.concatenate(part) for part in zip(*links, strict=True))
    whole = link_nodes(source, target, length_m, n_nodes)
    return RouteGraph(
        links=contract(whole, needed=np.arange(n_nodes) >= n_states),
        metres=_metres(roads, state, spots, n_nodes, n_states),
        spots=spots,
        n_states=n_states,
        n_stations=n_stations,
    )


def _states(turns: IntArray, n_segments: int) -> tuple[IntArray, int]:
    """Return the state that each segment leads to: one for all with the same continuations."""
    # sets are compared by the sum of random numbers of 64 bits, one per member
    code = np.random.default_rng(0).integers(0, 2**63, n_segments, dtype=np.uint64)
    total = np.zeros(n_segments, dtype=np.uint64)
    np.add.at(total, turns[0], code[turns[1]])
    values, state = np.unique(total, return_inverse=True)
    return state.astype(np.int64), len(values)


def _one_segment_per_state(turns: IntArray, state: IntArray) -> tuple[IntArray, IntArray]:
    """Return the turns as pairs (state, next segment), each once."""
    _, representative = np.unique(state, return_index=True)
    chosen = np.zeros(len(state), dtype=bool)
    chosen[representative] = True
    kept = chosen[turns[0]]
    return state[turns[0][kept]], turns[1][kept]


def _metres(
    roads: Roads, state: IntArray, spots: Spots, n_nodes: int, n_states: int
) -> Float64Array:
    """Return where the nodes of the search are, in metres on a plane or on the sphere."""
    ends = shapely.get_coordinates(shapely.get_point(roads.lines, -1))
    share = spots.offset_m / np.maximum(roads.length_m[spots.segment], 1e-9)
    on_line = shapely.line_interpolate_point(roads.lines[spots.segment], share, normalized=True)
    xy = np.zeros((n_nodes, 2))
    xy[state] = ends
    at_spots = shapely.get_coordinates(on_line)
    xy[n_states : n_states + len(share)] = at_spots
    xy[n_states + len(share) + spots.station] = at_spots
    return to_metres(xy, roads.crs)[0]


# ---------------------------------------------------------------- searching


def search(graph: RouteGraph, max_length_m: float, *, bounded: bool) -> Iterator[Pairs]:
    """Yield, block by block, the lengths between different stations up to some length.

    `bounded` says that no segment is shorter than the straight line, so that only the
    neighbourhood of a station has to be looked at.
    """
    stations = np.unique(graph.spots.station)
    first, second = _columns(graph)
    for members, nodes in _regions(graph, stations, max_length_m if bounded else np.inf):
        links = graph.links[nodes][:, nodes]
        at = np.full(graph.links.shape[0], -1, dtype=np.int64)
        at[nodes] = np.arange(len(nodes))
        reach = np.flatnonzero((at[first] >= 0) | (at[second] >= 0))
        rows = max(1, _CELLS // len(nodes))
        for start in range(0, len(members), rows):
            block = members[start : start + rows]
            begin = at[graph.first_station + block]
            metres = dijkstra(links, indices=begin, limit=max_length_m)
            yield _read_block(metres, block, reach, at[first[reach]], at[second[reach]])


def _columns(graph: RouteGraph) -> tuple[IntArray, IntArray]:
    """Return the one or two nodes at which each station is reached; its own node if it has none."""
    own = graph.first_station + np.arange(graph.n_stations)
    first, second = own.copy(), own.copy()
    node = graph.n_states + np.arange(len(graph.spots.station))
    first[graph.spots.station] = node
    second[graph.spots.station[::-1]] = node[::-1]
    return first, second


def _read_block(
    metres: Float64Array, block: IntArray, reach: IntArray, first: IntArray, second: IntArray
) -> Pairs:
    """Return the finite lengths of a block of searches as pairs of stations."""
    if min(first.min(initial=0), second.min(initial=0)) < 0:
        metres = np.hstack([metres, np.full((len(metres), 1), np.inf)])  # where -1 points
    lengths = metres[:, first]
    two = np.flatnonzero(first != second)
    lengths[:, two] = np.minimum(lengths[:, two], metres[:, second[two]])
    row, column = np.nonzero(np.isfinite(lengths))
    source, target = block[row], reach[column]
    other = source != target
    return Pairs(source[other], target[other], lengths[row[other], column[other]])


def _regions(
    graph: RouteGraph, stations: IntArray, max_length_m: float
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield stations that lie together, and the nodes around them that a search can reach.

    Both come tile by tile: what is near is then near in memory too, which halves the time.
    """
    order = np.lexsort(np.floor(graph.metres / _TILE_M).T)
    order = order[_used(graph)[order]]
    place = graph.metres[graph.first_station + stations]
    size = max(max_length_m, _TILE_M)
    _, number = np.unique(np.floor(place / size), axis=0, return_inverse=True)
    number = number.ravel()
    for one in range(int(number.max(initial=-1)) + 1):
        members = number == one
        low = place[members].min(axis=0) - max_length_m * _ROUND
        high = place[members].max(axis=0) + max_length_m * _ROUND
        inside = ((graph.metres >= low) & (graph.metres <= high)).all(axis=1)
        yield stations[members], order[inside[order]]


def _used(graph: RouteGraph) -> BoolArray:
    """Tell which nodes have a link."""
    n_nodes = graph.links.shape[0]
    linked = np.diff(graph.links.indptr) + np.bincount(graph.links.indices, minlength=n_nodes) > 0
    return np.asarray(linked)


def count_parts(roads: Roads, turns: IntArray, twins: IntArray, spots: Spots) -> IntArray:
    """Return how many stations lie on each part of the network, the most first."""
    two_way = np.flatnonzero(twins >= 0)
    source = np.concatenate([turns[0], two_way])
    target = np.concatenate([turns[1], twins[two_way]])
    links = coo_array((np.ones(len(source)), (source, target)), (len(roads), len(roads)))
    _, part = connected_components(links, directed=False)
    _, first = np.unique(spots.station, return_index=True)
    on_part = np.bincount(part[spots.segment[first]])
    return np.sort(on_part[on_part > 0])[::-1]
