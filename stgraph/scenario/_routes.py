"""Ways on a road network: the shortest ones, and whether there is any."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from stgraph.errors import InputError
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.scenario.turns import TurnNetwork, expand, with_turns_back

Values: TypeAlias = npt.NDArray[np.floating[Any]]  # of either precision


@dataclass(frozen=True, eq=False)
class Routes:
    """A network with a time per link, ready to be searched."""

    net: TurnNetwork
    minutes: Values  # (E',) inf where nobody may drive
    matrix: csr_array  # (n_nodes, n_nodes) minutes; of parallel links the fastest
    link: IntArray  # (nnz,) the link of each entry of the matrix

    @cached_property
    def _code(self) -> IntArray:
        """(nnz,) of the entries of the matrix, rising: from which node to which."""
        n = self.net.n_nodes
        source = np.repeat(np.arange(n), np.diff(self.matrix.indptr))
        return np.asarray(source * n + self.matrix.indices)

    def steps_between(self, source: IntArray, target: IntArray) -> IntArray:
        """Return the links that lead from nodes to nodes next to them."""
        entry = np.searchsorted(self._code, source * self.net.n_nodes + target)
        return self.link[entry]

    def links_between(self, source: IntArray, target: IntArray) -> IntArray:
        """Return the segments that lead from nodes to nodes next to them, -1 for connectors."""
        return self.net.link_of[self.steps_between(source, target)]

    def from_junctions(self, junctions: IntArray) -> Values:
        """Return minutes from some junctions to every node, (n, n_nodes); inf: no way."""
        return np.asarray(dijkstra(self.matrix, indices=junctions), dtype=np.float64)


def segment_minutes(length_m: Values, speed_kmh: Values, is_open: BoolArray) -> Values:
    """Return how long a segment takes at a speed, inf where it is closed.

    Raises
    ------
    InputError
        If an open segment has no speed above 0.
    """
    given = {"speed_kmh": np.asarray(speed_kmh), "is_open": np.asarray(is_open)}
    for name, values in given.items():
        if values.shape != length_m.shape:
            what = f"`{name}` has the shape {values.shape}, but there are {len(length_m)} segments"
            raise InputError(f"{what}; give one value for each")
    speed, is_open = given["speed_kmh"].astype(np.float64), given["is_open"].astype(np.bool_)
    wrong = is_open & ~((speed > 0) & np.isfinite(speed))
    if wrong.any():
        first = int(np.argmax(wrong))
        what = f"{int(wrong.sum())} open segments have no speed, the first at position {first}"
        raise InputError(f"{what} ({speed[first]}); fill it with the free-flow speed or close it")
    time = np.full(len(length_m), np.inf)
    time[is_open] = 0.06 * length_m[is_open] / speed[is_open]  # m / (km/h) in minutes
    return time


def lengths(roads: STGraph) -> Values:
    """Return the length of every segment in metres.

    Raises
    ------
    InputError
        If the network has no such column, or lengths that are missing or negative.
    """
    if roads.edges is None or "length_m" not in roads.edges:
        raise InputError("`roads` has no `edges` with a column `length_m`; read it as junctions")
    length_m = roads.edges["length_m"].to_numpy(dtype=np.float64)
    if not (length_m >= 0).all():
        first = int(np.argmax(~(length_m >= 0)))
        raise InputError(f"`length_m` is {length_m[first]} at segment {first}; measure it anew")
    return length_m


def build_routes(net: TurnNetwork, minutes: Values) -> Routes:
    """Return a network to be searched for shortest ways.

    Parameters
    ----------
    net
        Junctions and links.
    minutes
        (E,) of the segments; inf where nobody may drive.
    """
    cost = np.where(net.link_of >= 0, minutes[net.link_of], 0.0)
    order = np.lexsort((cost, net.target, net.source))
    order = order[np.isfinite(cost[order])]
    source, target = net.source[order], net.target[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
    link = order[first]
    starts = np.searchsorted(net.source[link], np.arange(net.n_nodes + 1))
    shape = (net.n_nodes, net.n_nodes)
    # index arrays of 32 bits, as the search wants them
    parts = (cost[link], net.target[link].astype(np.int32), starts.astype(np.int32))
    return Routes(net, cost, csr_array(parts, shape=shape), link)


def expanded(roads: STGraph, banned: IntArray, is_open: BoolArray | None = None) -> TurnNetwork:
    """Return the network of some roads, split where turns are forbidden or would evade that.

    Segments that are not open stay in it; their times have to be infinite.
    """
    source, target = roads.edge_index
    banned = with_turns_back(source, target, banned, is_open)
    return expand(source, target, roads.n_nodes, banned)


def forbidden_turns(roads: STGraph) -> IntArray:
    """Return the turns that some roads forbid, (2, K) positions of known segments."""
    given = np.asarray(roads.provenance.get("restrictions", []), dtype=np.int64).reshape(-1, 2)
    ids = np.arange(roads.n_edges)
    if roads.edges is not None and "segment_id" in roads.edges:
        ids = roads.edges["segment_id"].to_numpy()
    found = pd.Index(ids).get_indexer(pd.Index(given.ravel())).reshape(-1, 2).T
    return np.asarray(found[:, (found >= 0).all(axis=0)], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Trees:
    """Shortest ways from some nodes."""

    routes: Routes
    origins: IntArray  # (U,) nodes
    minutes: Values  # (U, n_nodes)
    before: IntArray  # (U, n_nodes) the node before, negative at the origin

    def links_to(self, row: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
        """Return the links on the ways to some ends: which way, and which segment.

        Parameters
        ----------
        row
            (P,) positions of the origins.
        end
            (P,) nodes; those that cannot be reached have no links.
        """
        which, node = np.arange(len(end)), np.asarray(end)
        ways, links = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        while len(which):
            before = self.before[row[which], node].astype(np.int64)
            moved = before >= 0
            which, node, before = which[moved], node[moved], before[moved]
            link = self.routes.links_between(before, node)
            is_segment = link >= 0
            ways.append(which[is_segment])
            links.append(link[is_segment])
            node = before
        return np.concatenate(ways), np.concatenate(links)


def grow_trees(routes: Routes, origins: IntArray) -> Trees:
    """Search the shortest ways from some nodes."""
    minutes, before = dijkstra(routes.matrix, indices=origins, return_predecessors=True)
    return Trees(routes, origins, np.asarray(minutes), np.asarray(before))


def find_ways(
    source: IntArray, target: IntArray, n_nodes: int, starts: IntArray, ends: IntArray
) -> BoolArray:
    """Tell which nodes can be reached from which, by any number of links.

    Parameters
    ----------
    source, target
        (L,) positions of the nodes of links.
    n_nodes
        Number of nodes.
    starts, ends
        (Z,) positions of nodes that belong together.

    Returns
    -------
    BoolArray
        (Z, Z) from start to end; true on the diagonal.
    """
    links = csr_array((np.ones(len(source)), (source, target)), shape=(n_nodes, n_nodes))
    n_parts, part = connected_components(links, directed=True, connection="strong")
    first, last = part[starts], part[ends]
    if len(np.unique(np.concatenate([first, last]))) == 1:
        return np.ones((len(starts), len(ends)), dtype=np.bool_)
    # among parts in which all can reach each other
    pairs = np.unique(np.stack([part[source], part[target]]), axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    between = csr_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(n_parts, n_parts))
    different, which = np.unique(first, return_inverse=True)
    hops = dijkstra(between, directed=True, indices=different, unweighted=True)
    reached = np.isfinite(hops[which.reshape(-1)][:, last])
    np.fill_diagonal(reached, val=True)
    return np.asarray(reached, dtype=np.bool_)
