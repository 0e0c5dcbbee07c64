"""Turn restrictions of OpenStreetMap as forbidden pairs of directed edges."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph_connectors.roads._osm_records import OsmData, Restriction
from stgraph_connectors.roads._osm_ways import Network, Pieces
from stgraph_connectors.roads._simplify import Chains

Row = tuple[int, ...]  # directed edges in a row, the last of which is forbidden after the others

_MODES: dict[Network, tuple[str, ...]] = {  # from general to special
    "drive": ("vehicle", "motor_vehicle", "motorcar"),
    "drive_service": ("vehicle", "motor_vehicle", "motorcar"),
    "all": ("vehicle", "motor_vehicle", "motorcar"),
    "bike": ("vehicle", "bicycle"),
    "walk": ("foot",),
}
_ROLES = ("from", "via", "to")


@dataclass(frozen=True, eq=False)
class _Lookup:
    """The directed edges of those ways that restrictions name."""

    node_ids: IntArray
    # way id -> positions of its nodes in order
    nodes_of: dict[int, list[int]] = field(default_factory=dict)
    # (way id, node) -> edges of the way into it, and out of it
    arriving: dict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    leaving: dict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    edge: dict[tuple[int, int, int], int] = field(default_factory=dict)  # by way id and nodes
    ends: dict[int, tuple[int, int]] = field(default_factory=dict)  # edge -> its nodes
    # node -> all edges out of it
    exits: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def position(self, node: int) -> int:
        """Return the position of a node id; -2 if no way of the network uses it."""
        i = int(np.searchsorted(self.node_ids, node))
        return i if i < len(self.node_ids) and self.node_ids[i] == node else -2


def find_forbidden(data: OsmData, pieces: Pieces, network: Network, report: Report) -> list[Row]:
    """Return rows of directed edges that must not be driven one after the other.

    Parameters
    ----------
    data
        The ways of the network, and all restrictions of the file.
    pieces
        The same ways, cut into directed edges.
    network
        Whose restrictions count: those of cars, of bicycles, or (walk) of nobody but walkers.
    report
        Gets the restrictions that cannot be used.

    Returns
    -------
    list of tuple of int
        Pairs for a turn at a node; longer rows for a restriction over ways in between.
    """
    troubles: Counter[str] = Counter()
    wanted = [r for r in data.restrictions if _kind(r, network, troubles)]
    lookup = _make_lookup(data, pieces, wanted)
    found: dict[Row, None] = {}
    for restriction in wanted:
        kind = _kind(restriction, network, Counter())
        found |= dict.fromkeys(_expand(restriction, kind, lookup, troubles))
    for what, count in troubles.items():
        report.warning("turn restrictions", f"{count} {what}", "they are not used", count=count)
    return list(found)


def _kind(restriction: Restriction, network: Network, troubles: Counter[str]) -> str:
    """Return what a restriction asks of the users of a network, such as no_u_turn, or nothing."""
    tags, modes = restriction.tags, _MODES[network]
    if any(key.startswith(("day_", "hour_")) or key.endswith(":conditional") for key in tags):
        troubles["hold at certain times or for certain vehicles only"] += 1
        return ""
    exempt = {mode.strip() for mode in tags.get("except", "").split(";")}
    kind = "" if network == "walk" else tags.get("restriction", "")
    for mode in modes:
        kind = tags.get(f"restriction:{mode}", "" if mode in exempt else kind)
    if kind and not kind.startswith(("no_", "only_")):
        troubles["are of a kind that is neither no_... nor only_..."] += 1
        return ""
    return kind


def _make_lookup(data: OsmData, pieces: Pieces, wanted: list[Restriction]) -> _Lookup:
    named = {ref for r in wanted for _, kind, ref in r.members if kind == "w"}
    chosen = np.isin(data.way_ids, np.array(sorted(named), dtype=np.int64))
    lookup = _Lookup(data.node_ids)
    for way in np.flatnonzero(chosen):
        refs = data.refs[data.starts[way] : data.starts[way + 1]]
        lookup.nodes_of[int(data.way_ids[way])] = refs.tolist()
    rows = np.flatnonzero(chosen[pieces.way])
    ways = data.way_ids[pieces.way[rows]]
    reached = np.zeros(len(data.node_ids), dtype=bool)
    reached[pieces.target[pieces.edge[rows]]] = True
    for edge, way in zip(pieces.edge[rows].tolist(), ways.tolist(), strict=True):
        u, v = int(pieces.source[edge]), int(pieces.target[edge])
        lookup.arriving[way, v].append(edge)
        lookup.leaving[way, u].append(edge)
        lookup.edge[way, u, v] = edge
        lookup.ends[edge] = (u, v)
    for edge in np.flatnonzero(reached[pieces.source]).tolist():
        lookup.exits[int(pieces.source[edge])].append(edge)
    return lookup


def _expand(
    restriction: Restriction, kind: str, lookup: _Lookup, troubles: Counter[str]
) -> Iterator[Row]:
    """Yield the rows of edges that one restriction forbids."""
    members: dict[str, list[tuple[str, int]]] = {role: [] for role in _ROLES}
    for role, what, ref in restriction.members:
        if role in members:
            members[role].append((what, ref))
    origins, vias, aims = (members[role] for role in _ROLES)
    if not (origins and vias and aims):
        troubles["lack a member `from`, `via` or `to`"] += 1
        return
    if any(kind == "w" and ref not in lookup.nodes_of for kind, ref in [*origins, *vias, *aims]):
        return  # a way that does not belong to this network or to this extract
    for _, origin in origins:
        for _, aim in aims:
            if vias[0][0] == "w":
                rows = _over_ways(origin, [ref for _, ref in vias], aim, lookup)
            else:
                rows = _at_node(origin, vias[0][1], aim, lookup)
            if rows is None:
                troubles["do not fit their ways: it is not clear where they turn"] += 1
                return
            for row in rows:
                yield from _all_others(row, lookup) if kind.startswith("only_") else [row]


def _at_node(origin: int, via: int, aim: int, lookup: _Lookup) -> list[Row] | None:
    """Return the turns from a way onto a way at a node; None if that is not one turn."""
    node = lookup.position(via)
    if node not in lookup.nodes_of[origin] or node not in lookup.nodes_of[aim]:
        return None
    into, out = lookup.arriving[origin, node], lookup.leaving[aim, node]
    if origin == aim:  # back onto the same way, from either side where it goes on
        ends = lookup.ends
        return [(a, b) for a in into for b in out if ends[a][0] == ends[b][1]]
    if len(into) > 1 or len(out) > 1:
        return None
    return [(a, b) for a in into for b in out]  # nothing where one-way streets end it anyway


def _over_ways(origin: int, vias: list[int], aim: int, lookup: _Lookup) -> list[Row] | None:
    """Return the row from a way over others onto a way; None if they do not form a chain."""
    ways = [origin, *vias, aim]
    meets = [_meeting(a, b, lookup) for a, b in pairwise(ways)]
    nodes = [node for node in meets if node is not None]
    if len(nodes) < len(meets):
        return None
    into, out = lookup.arriving[origin, nodes[0]], lookup.leaving[aim, nodes[-1]]
    if len(into) > 1 or len(out) > 1:
        return None
    row: list[int | None] = [*into]
    for way, (start, stop) in zip(vias, pairwise(nodes), strict=True):
        along = lookup.nodes_of[way]
        i, j = along.index(start), along.index(stop)
        passed = along[i : j + 1] if i <= j else along[j : i + 1][::-1]
        row += [lookup.edge.get((way, u, v)) for u, v in pairwise(passed) if u != v]
    row += out
    edges = tuple(edge for edge in row if edge is not None)
    return [edges] if into and out and len(edges) == len(row) else []


def _meeting(way: int, other: int, lookup: _Lookup) -> int | None:
    """Return the one node where two ways meet, at an end if there are several."""
    nodes, others = lookup.nodes_of[way], lookup.nodes_of[other]
    shared = set(nodes) & set(others) - {-1}
    if len(shared) > 1:
        shared &= {nodes[0], nodes[-1]} & {others[0], others[-1]}
    return shared.pop() if len(shared) == 1 else None


def _all_others(row: Row, lookup: _Lookup) -> Iterator[Row]:
    """Yield the rows that leave the one that must be followed."""
    for i, (edge, wanted) in enumerate(pairwise(row)):
        for other in lookup.exits[lookup.ends[edge][1]]:
            if other != wanted:
                yield (*row[: i + 1], other)


def find_kept(rows: Iterable[Row], following: IntArray, pieces: Pieces, n_nodes: int) -> BoolArray:
    """Return the nodes that must stay junctions because a way is forbidden to go on there."""
    kept = np.zeros(n_nodes, dtype=bool)
    for row in rows:
        if following[row[-2]] == row[-1]:
            kept[pieces.target[row[-2]]] = True
    return kept


def to_pairs(
    rows: Iterable[Row], chains: Chains, pieces: Pieces, report: Report, *, u_turns: bool
) -> IntArray:
    """Return (R, 2) pairs of segments that must not follow each other.

    A row of three or more segments becomes a pair only where that is the same: where nothing else
    comes into, or nothing else goes out of, the segments between.
    """
    place = np.empty(len(chains.order), dtype=np.int64)
    place[chains.order] = np.arange(len(place))
    pairs: dict[tuple[int, int], None] = {}
    longer: list[Row] = []
    for row in rows:
        segments = _to_segments(row, chains, place)
        if len(segments) == 2:
            pairs[segments[0], segments[1]] = None
        elif len(segments) > 2:
            longer.append(segments)
    turns = _Turns(chains, pieces, set(pairs), u_turns)
    unsaid = 0
    for segments in longer:
        pair = _same_as_pair(segments, turns)
        unsaid += pair is None
        if pair:
            pairs[pair] = None
    if unsaid:
        what = f"{unsaid} hold only for those who come from one road and cross another"
        todo = "pairs of segments cannot say that; they are not used"
        report.warning("turn restrictions", what, todo, count=unsaid)
    if pairs:
        what = f"{len(pairs)} turns are forbidden by the map"
        report.info("turn restrictions", what, "they are left out", count=len(pairs))
    return np.array(list(pairs), dtype=np.int64).reshape(-1, 2)


def _to_segments(row: Row, chains: Chains, place: IntArray) -> Row:
    """Return the segments that a row of edges passes; nothing if it turns amid a segment."""
    segments = [int(chains.chain[row[0]])]
    for edge, after in pairwise(row):
        here, there = chains.chain[edge], chains.chain[after]
        if here == there and place[after] == place[edge] + 1:
            continue
        if chains.last[here] != edge or chains.first[there] != after:
            return ()
        segments.append(int(there))
    return tuple(segments)


@dataclass(frozen=True, eq=False)
class _Turns:
    """Which segments can come before and after a segment."""

    chains: Chains
    pieces: Pieces
    forbidden: set[tuple[int, int]]
    u_turns: bool

    def before(self, segment: int) -> list[int]:
        """Return the segments from which this one can be reached."""
        first = self.chains.first[segment]
        last = self.chains.last
        near = self.pieces.target[last] == self.pieces.source[first]
        if not self.u_turns:
            near &= self.pieces.source[last] != self.pieces.target[first]
        return [s for s in np.flatnonzero(near).tolist() if (s, segment) not in self.forbidden]

    def after(self, segment: int) -> list[int]:
        """Return the segments that can be reached from this one."""
        last = self.chains.last[segment]
        first = self.chains.first
        near = self.pieces.source[first] == self.pieces.target[last]
        if not self.u_turns:
            near &= self.pieces.target[first] != self.pieces.source[last]
        return [s for s in np.flatnonzero(near).tolist() if (segment, s) not in self.forbidden]


def _same_as_pair(segments: Row, turns: _Turns) -> tuple[int, int] | None:
    """Return the pair that forbids a row and nothing else, if there is one."""
    for i, (here, there) in enumerate(pairwise(segments)):
        entered = all(turns.before(segments[j]) == [segments[j - 1]] for j in range(1, i + 1))
        left = all(
            turns.after(segments[j]) == [segments[j + 1]] for j in range(i + 1, len(segments) - 1)
        )
        if entered and left:
            return here, there
    return None
