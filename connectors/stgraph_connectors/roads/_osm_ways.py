"""Which ways of OpenStreetMap make a network, and in which directions they are used."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import numpy as np

from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph_connectors.roads._osm_records import OsmData, Tags

Network = Literal["drive", "drive_service", "walk", "bike", "all"]

# what a way must not be, as OSMnx asks Overpass: a value is out when the pattern occurs in it
_NOT_IN_USE = "abandoned|construction|no|planned|platform|proposed|raceway|razed|rest_area|services"
_NOT_FOR_CARS = (
    f"{_NOT_IN_USE}|bridleway|bus_guideway|corridor|cycleway|elevator|escalator|footway|path|"
    "pedestrian|steps|track"
)
_DRIVE = {"area": "yes", "access": "private", "motor_vehicle": "no", "motorcar": "no"}
_EXCLUDED: dict[Network, dict[str, str]] = {
    "all": {"area": "yes", "highway": _NOT_IN_USE},
    "drive": {
        **_DRIVE,
        "highway": f"{_NOT_FOR_CARS}|service",
        "service": "alley|driveway|emergency_access|parking|parking_aisle|private",
    },
    "drive_service": {
        **_DRIVE,
        "highway": _NOT_FOR_CARS,
        "service": "emergency_access|parking|parking_aisle|private",
    },
    "walk": {
        "area": "yes",
        "access": "private",
        "highway": f"{_NOT_IN_USE}|bus_guideway|cycleway|motor",
        "foot": "no",
        "service": "private",
        "sidewalk": "separate",
        "sidewalk:both": "separate",
        "sidewalk:left": "separate",
        "sidewalk:right": "separate",
    },
    "bike": {
        "area": "yes",
        "access": "private",
        "highway": f"{_NOT_IN_USE}|bus_guideway|corridor|elevator|escalator|footway|motor|steps",
        "bicycle": "no",
        "service": "private",
    },
}

_FORWARD = {"yes", "true", "1", "F"}
_BACKWARD = {"-1", "reverse", "T"}
_BOTH = {"no", "false", "0", "none"}
_CHANGING = {"reversible", "alternating"}
_CIRCLES = {"roundabout", "circular"}
_ONE_WAY_TYPES = {"motorway"}
_CONTRAFLOW = {"opposite", "opposite_lane", "opposite_track"}


class Pieces(NamedTuple):
    """Every way cut at every node: straight directed edges, both ways where allowed.

    Where several ways run along the same two nodes there is one edge, which belongs to all.
    """

    source: IntArray  # (P,) positions of nodes
    target: IntArray  # (P,)
    edge: IntArray  # (M,) edge of each membership, M >= P
    way: IntArray  # (M,) position of the way
    against: BoolArray  # (M,) True where the edge runs against the order of the way's nodes


def choose_ways(data: OsmData, network: Network) -> IntArray:
    """Return the positions of the ways that belong to a network."""
    patterns = {key: re.compile(value) for key, value in _EXCLUDED[network].items()}
    out: dict[tuple[str, str], bool] = {}  # few values occur, each is looked at once

    def excluded(key: str, value: str) -> bool:
        if (key, value) not in out:
            out[key, value] = patterns[key].search(value) is not None
        return out[key, value]

    kept = [
        i
        for i, tags in enumerate(data.way_tags)
        if not any(key in tags and excluded(key, tags[key]) for key in patterns)
    ]
    return np.array(kept, dtype=np.int64)


def find_directions(data: OsmData, network: Network, report: Report) -> IntArray:
    """Return, for each way, 1 along its nodes only, -1 against them only, 0 both."""
    if network == "walk":
        return np.zeros(len(data.way_ids), dtype=np.int64)
    found = [_direction(tags, network) for tags in data.way_tags]
    changing = sum(tags.get("oneway") in _CHANGING for tags in data.way_tags)
    if changing:
        todo = "taken as open both ways"
        report.warning("tag `oneway`", f"{changing} ways change direction", todo, count=changing)
    return np.array(found, dtype=np.int64)


def _direction(tags: Tags, network: Network) -> int:
    oneway = tags.get("oneway", "")
    if network == "bike":
        oneway = tags.get("oneway:bicycle", oneway)
        if tags.get("cycleway") in _CONTRAFLOW:
            return 0
    if oneway in _FORWARD:
        return 1
    if oneway in _BACKWARD:
        return -1
    if oneway in _BOTH or oneway in _CHANGING:
        return 0
    implied = tags.get("junction") in _CIRCLES or tags.get("highway") in _ONE_WAY_TYPES
    return 1 if implied else 0


def cut_ways(data: OsmData, directions: IntArray, report: Report) -> Pieces:
    """Return the ways as straight edges between consecutive nodes.

    A node that the file lacks opens a gap; a node that is repeated at once counts once.
    """
    way_of_ref = data.way_of_ref
    first, second = data.refs[:-1], data.refs[1:]
    joined = (way_of_ref[:-1] == way_of_ref[1:]) & (first >= 0) & (second >= 0) & (first != second)
    first, second, way = first[joined], second[joined], way_of_ref[:-1][joined]
    along, against = directions[way] >= 0, directions[way] <= 0
    # the two directions of a piece stay side by side, so that edges follow the file
    place = np.concatenate([2 * np.flatnonzero(along), 2 * np.flatnonzero(against) + 1])
    order = np.argsort(place)
    source = np.concatenate([first[along], second[against]])[order]
    target = np.concatenate([second[along], first[against]])[order]
    way = np.concatenate([way[along], way[against]])[order]
    kept, edge = _unique_pairs(source * len(data.node_ids) + target)
    repeated = np.ones(len(way), dtype=bool)
    repeated[kept] = False
    _note_repeated(data, np.unique(way[repeated]), report)
    return Pieces(source[kept], target[kept], edge, way, place[order] % 2 == 1)


def _unique_pairs(keys: IntArray) -> tuple[IntArray, IntArray]:
    """Return where keys stand for the first time, and for each key which of those it is."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(first), dtype=np.int64)
    rank[order] = np.arange(len(first))
    return first[order], rank[inverse]


def _note_repeated(data: OsmData, ways: IntArray, report: Report) -> None:
    if len(ways):
        report.warning(
            "ways",
            f"{len(ways)} ways run along nodes that a way has joined already ({_some(data, ways)})",
            "such a piece is one road, with the tags of all its ways",
            count=len(ways),
        )


def note_lacking(data: OsmData, report: Report) -> None:
    """Note ways that refer to nodes which the file lacks."""
    missing = data.refs < 0
    if missing.any():
        ways = np.unique(data.way_of_ref[missing])
        report.warning(
            "ways",
            f"{len(ways)} ways refer to nodes that the file lacks ({_some(data, ways)})",
            f"their parts between known nodes are kept; {int(missing.sum())} places are unknown",
            count=len(ways),
        )


def _some(data: OsmData, ways: IntArray) -> str:
    return "such as way " + ", ".join(str(data.way_ids[i]) for i in ways[:3])
