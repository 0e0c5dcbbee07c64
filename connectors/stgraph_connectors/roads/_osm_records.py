"""What both readers of OpenStreetMap files hand over: plain arrays of nodes and ways."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stgraph.graph import IntArray

Tags = dict[str, str]

NODE_KINDS = ("highway", "junction", "railway")  # a node with one of these tags is told apart
NODE_TAGS = (*NODE_KINDS, "ref")  # kept of it; the same as OSMnx keeps
FIXED = 10_000_000  # OSM's own resolution: coordinates are whole multiples of 1e-7 degrees


class Restriction(NamedTuple):
    """A relation of type restriction, as it stands in the file."""

    relation: int
    tags: Tags
    members: tuple[tuple[str, str, int], ...]  # (role, "n" | "w" | "r", id)


@dataclass(frozen=True, eq=False)
class OsmData:
    """The ways with a tag `highway`, the nodes they use, and the restrictions on turns."""

    node_ids: IntArray  # (N,) ascending
    xy: npt.NDArray[np.float64]  # (N, 2) longitude, latitude
    node_tags: dict[int, Tags]  # by node id, only where it has one of NODE_KINDS
    way_ids: IntArray  # (W,)
    way_tags: list[Tags]  # W
    starts: IntArray  # (W + 1,) where the nodes of a way begin in `refs`
    refs: IntArray  # (R,) positions in `node_ids`; -1 where the file lacks the node
    restrictions: list[Restriction]
    remarks: list[str]  # what the program that made the file says went wrong

    @property
    def way_of_ref(self) -> IntArray:
        """(R,) position of the way that each of `refs` belongs to."""
        return np.repeat(np.arange(len(self.way_ids)), np.diff(self.starts))

    def select_ways(self, kept: IntArray) -> OsmData:
        """Return the data with some of the ways only, given as ascending positions."""
        wanted = np.zeros(len(self.way_ids), dtype=bool)
        wanted[kept] = True
        lengths = np.diff(self.starts)
        return OsmData(
            self.node_ids,
            self.xy,
            self.node_tags,
            self.way_ids[kept],
            [self.way_tags[i] for i in kept],
            np.concatenate([[0], np.cumsum(lengths[kept])]),
            self.refs[np.repeat(wanted, lengths)],
            self.restrictions,
            self.remarks,
        )


@dataclass
class Collector:
    """Takes what a reader finds, 24 bytes a node, and makes arrays of it at the end."""

    node_ids: array[int] = field(default_factory=lambda: array("q"))
    node_xy: array[int] = field(default_factory=lambda: array("i"))  # in units of 1e-7 degrees
    node_tags: dict[int, Tags] = field(default_factory=dict)
    way_ids: array[int] = field(default_factory=lambda: array("q"))
    way_tags: list[Tags] = field(default_factory=list)
    way_lengths: array[int] = field(default_factory=lambda: array("q"))
    refs: array[int] = field(default_factory=lambda: array("q"))
    restrictions: list[Restriction] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    pool: dict[str, str] = field(default_factory=dict)

    def add_node_tags(self, node: int, tags: Tags) -> None:
        """Keep those tags of a node that say what a junction is."""
        if any(key in tags for key in NODE_KINDS):
            self.node_tags[node] = {key: tags[key] for key in NODE_TAGS if key in tags}

    def add_way(self, way: int, tags: Iterable[tuple[str, str]], refs: Sequence[int]) -> None:
        """Take a way with its node ids."""
        pool = self.pool.setdefault
        self.way_ids.append(way)
        self.way_tags.append({pool(key, key): pool(value, value) for key, value in tags})
        self.way_lengths.append(len(refs))
        self.refs.extend(refs)

    def finish(self) -> OsmData:
        """Return what was taken, with nodes as positions; nodes of no way are left out."""
        refs = np.array(self.refs, dtype=np.int64)
        ids, first = np.unique(np.array(self.node_ids, dtype=np.int64), return_index=True)
        xy = np.array(self.node_xy, dtype=np.int32).reshape(-1, 2)
        used = np.sort(refs)
        used = used[np.diff(used, prepend=used[:1] - 1) > 0]
        place = np.searchsorted(ids, used)
        found = place < len(ids)
        found[found] = ids[place[found]] == used[found]
        used, place = used[found], place[found]
        position = np.searchsorted(used, refs)
        position[position == len(used)] = 0
        known = used[position] == refs if len(used) else np.zeros(len(refs), dtype=bool)
        return OsmData(
            used,
            xy[first[place]] / FIXED,
            self.node_tags,
            np.array(self.way_ids, dtype=np.int64),
            self.way_tags,
            np.concatenate([[0], np.cumsum(np.array(self.way_lengths, dtype=np.int64))]),
            np.where(known, position, -1),
            self.restrictions,
            self.remarks,
        )
