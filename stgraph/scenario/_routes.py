"""Shortest ways on a road network, with the turns that are forbidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from stgraph.errors import InputError
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.scenario.turns import TurnNetwork, expand

Values: TypeAlias = npt.NDArray[np.floating[Any]]  # of either precision


@dataclass(frozen=True, eq=False)
class Routes:
    """A network with a time per link, ready to be searched."""

    net: TurnNetwork
    minutes: Values  # (E',) inf where nobody may drive
    matrix: csr_array  # (n_nodes, n_nodes) minutes; of parallel links the fastest
    link: IntArray  # (nnz,) the link of each entry of the matrix

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


def expanded(roads: STGraph, banned: IntArray) -> TurnNetwork:
    """Return the network of some roads, split where turns are forbidden."""
    source, target = roads.edge_index
    return expand(source, target, roads.n_nodes, banned)
