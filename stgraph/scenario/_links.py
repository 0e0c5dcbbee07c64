"""Make the network that the simulation runs on from states of roads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from stgraph.graph import BoolArray, IntArray
from stgraph.scenario._microworld import STEP_S, Floats, Links
from stgraph.scenario.states import RoadState
from stgraph.scenario.turns import with_turns_back


class Timetable(NamedTuple):
    """Which state holds from when on."""

    starts_s: Floats  # (C,) seconds after the begin, rising from 0
    states: IntArray  # (C,) positions of states
    edges_s: Floats  # (H + 1,) borders of the intervals that are reported


class Network(NamedTuple):
    """Links, and where trips begin and end."""

    links: Links
    node_of: IntArray  # (J,) node where trips from a junction begin, -1: no road there
    end_of: IntArray  # (J,) node where trips to it end


def build_network(
    source: IntArray,
    target: IntArray,
    n_junctions: int,
    length_m: Floats,
    states: Sequence[RoadState],
    timetable: Timetable,
) -> Network:
    """Turn segments that may be closed and turns that may be forbidden into links.

    Parameters
    ----------
    source, target
        (E,) positions of the junctions where segments begin and end.
    n_junctions
        Number of junctions J.
    length_m
        (E,) in metres.
    states
        What holds on the segments, with S entries.
    timetable
        When.

    Returns
    -------
    Network
        Junctions with forbidden turns are opened up into one link for each turn; of parallel
        segments all but one have a node in the middle.
    """
    is_open = np.stack([state.is_open for state in states])
    used = np.flatnonzero(is_open.any(axis=0) & (source != target))
    parts = _Parts(source, target, n_junctions, length_m, states, used)
    entry, exit_ = np.full(len(source), -1), np.full(len(source), -1)
    entry[used] = np.arange(len(used))
    banned = [
        with_turns_back(source, target, state.banned_turns, state.is_open) for state in states
    ]
    end_of = _open_up(parts, used, banned)
    exit_[used] = _split_parallel(parts, len(used))
    nodes, ends = np.unique([*parts.source, *parts.target], return_inverse=True)
    place = np.full(parts.n_nodes, -1)
    place[nodes] = np.arange(len(nodes))
    links = Links(
        source=ends[: len(parts.source)],
        target=ends[len(parts.source) :],
        n_nodes=len(nodes),
        length_m=np.array(parts.length_m, dtype=np.float64),
        lanes=np.array(parts.lanes, dtype=np.int64),
        speed_kmh=np.stack(parts.speed_kmh, axis=1),
        capacity_vph=np.stack(parts.capacity_vph, axis=1),
        is_open=np.stack(parts.is_open, axis=1),
        starts_s=timetable.starts_s,
        states=timetable.states,
        entry=entry,
        exit=exit_,
        edges_s=timetable.edges_s,
    )
    return Network(links, place[:n_junctions], place[end_of])


def reachable(network: Network, junctions: IntArray, state: int) -> BoolArray:
    """Tell from which junctions one gets to which ones while a state holds.

    Parameters
    ----------
    network
        The network of the simulation.
    junctions
        (Z,) positions of junctions.
    state
        Position of the state.

    Returns
    -------
    array
        (Z, Z), from row to column; False where there is no road at a junction, and to itself.
    """
    links = network.links
    is_open = links.is_open[state]
    ends = (links.source[is_open], links.target[is_open])
    matrix = csr_array((np.ones(len(ends[0])), ends), shape=(links.n_nodes, links.n_nodes))
    starts, ends_at = network.node_of[junctions], network.end_of[junctions]
    found, inverse = np.unique(starts[starts >= 0], return_inverse=True)
    result = np.zeros((len(junctions), len(junctions)), dtype=np.bool_)
    hops = dijkstra(matrix, indices=found, unweighted=True)
    result[starts >= 0] = np.isfinite(hops[inverse][:, np.maximum(ends_at, 0)])
    result[:, ends_at < 0] = False
    result[junctions[:, None] == junctions[None, :]] = False
    return result


class _Parts:
    """Links in the making."""

    def __init__(
        self,
        source: IntArray,
        target: IntArray,
        n_junctions: int,
        length_m: Floats,
        states: Sequence[RoadState],
        used: IntArray,
    ) -> None:
        """Begin with the segments that are ever open."""
        self.states = states
        self.n_nodes = n_junctions
        self.source: list[int] = source[used].tolist()
        self.target: list[int] = target[used].tolist()
        self.length_m: list[float] = np.maximum(length_m[used], 1.0).tolist()
        first = states[0]
        self.lanes: list[int] = np.maximum(np.rint(np.nan_to_num(first.lanes[used])), 1).tolist()
        self.speed_kmh = list(np.stack([state.speed_kmh[used] for state in states], axis=1))
        self.capacity_vph = list(np.stack([state.capacity_vph[used] for state in states], axis=1))
        self.is_open = list(np.stack([state.is_open[used] for state in states], axis=1))

    def add_node(self) -> int:
        """Return a new node."""
        self.n_nodes += 1
        return self.n_nodes - 1

    def add_turn(self, source: int, target: int, like: int, is_open: BoolArray) -> None:
        """Add a link that is driven through in a step, with the lanes and speed of another one."""
        self.source.append(source)
        self.target.append(target)
        self.length_m.append(float(self.speed_kmh[like].max()) / 3.6 * STEP_S)
        self.lanes.append(self.lanes[like])
        self.speed_kmh.append(np.full(len(self.states), self.speed_kmh[like].max()))
        self.capacity_vph.append(np.full(len(self.states), np.inf))
        self.is_open.append(is_open)


def _open_up(parts: _Parts, used: IntArray, banned_turns: Sequence[IntArray]) -> IntArray:
    """Give every turn a link of its own where some are forbidden; return where trips end."""
    end_of = np.arange(parts.n_nodes)
    position = {int(segment): k for k, segment in enumerate(used)}
    banned = [
        {(position[a], position[b]) for a, b in turns.T if {a, b} <= position.keys()}
        for turns in banned_turns
    ]
    source, target = np.array(parts.source), np.array(parts.target)
    every = {pair for pairs in banned for pair in pairs if target[pair[0]] == source[pair[1]]}
    always = np.ones(len(parts.states), dtype=np.bool_)
    for junction in sorted({int(target[a]) for a, _ in every}):
        end_of[junction] = parts.add_node()
        before = {int(b): parts.add_node() for b in np.flatnonzero(source == junction)}
        for b, node in before.items():
            parts.source[b] = node
            parts.add_turn(junction, node, b, always)
        for a in np.flatnonzero(target == junction).tolist():
            parts.target[a] = node = parts.add_node()
            # the turn takes the place of the end of the segment
            step_m = float(parts.speed_kmh[a].max()) / 3.6 * STEP_S
            parts.length_m[a] = max(parts.length_m[a] - step_m, parts.length_m[a] / 2)
            parts.add_turn(node, int(end_of[junction]), a, always)
            for b, gate in before.items():
                allowed = np.array([(a, b) not in pairs for pairs in banned])
                if allowed.any():
                    parts.add_turn(node, gate, a, allowed)
    return end_of


def _split_parallel(parts: _Parts, n_segments: int) -> IntArray:
    """Put a node into the middle of links that have a twin; return where segments end."""
    exit_ = np.arange(n_segments)
    seen: set[tuple[int, int]] = set()
    for k in range(n_segments):
        pair = (parts.source[k], parts.target[k])
        if pair in seen:
            exit_[k] = len(parts.source)
            parts.source.append(parts.add_node())
            parts.target.append(parts.target[k])
            parts.target[k] = parts.source[-1]
            parts.length_m[k] /= 2
            parts.length_m.append(parts.length_m[k])
            parts.lanes.append(parts.lanes[k])
            parts.speed_kmh.append(parts.speed_kmh[k])
            parts.capacity_vph.append(parts.capacity_vph[k])
            parts.capacity_vph[k] = np.full(len(parts.states), np.inf)
            parts.is_open.append(np.ones(len(parts.states), dtype=np.bool_))
        seen.add(pair)
    return exit_
