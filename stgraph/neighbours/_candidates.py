"""Which segments a station may be meant for, weighed and ranked, all stations at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from stgraph.graph import BoolArray, IntArray
from stgraph.neighbours._headings import turn_between
from stgraph.neighbours._places import Float64Array
from stgraph.neighbours._roads import GeometryArray, Roads, find_twins

TextArray = npt.NDArray[np.object_]

_ON_ROAD_M = 0.5  # a station nearer than this to the line lies on it, on neither side
_SAME_SPOT_M = 1.0  # roads met at points nearer than this are met at the same place
_STRAIGHT_DEG = 45.0  # and are one road there if they turn by less than this
_PIECE_M = 1.0  # bearings at a point are those of the line this far around it


@dataclass(frozen=True)
class Rules:
    """What decides between candidates."""

    max_distance_m: float
    max_heading_deg: float
    side: str | None
    ambiguity_m: float


@dataclass(frozen=True, eq=False)
class Candidates:
    """C pairs of a station and a segment within reach, sorted by station and rank."""

    station: IntArray  # (C,) rows of the stations
    segment: IntArray  # (C,) positions of the segments
    rank: IntArray  # (C,) from 1, the best of a station
    distance_m: Float64Array  # (C,)
    fraction: Float64Array  # (C,) of the segment's length, from its start
    on_road: Float64Array  # (C, 2) nearest point of the segment, on the plane
    side: TextArray  # (C,) "left", "right" or "on"
    heading_difference_deg: Float64Array  # (C,) NaN without a heading
    why: TextArray  # (C,) what speaks for or against
    best: IntArray  # (K,) the candidates of rank 1
    doubt: TextArray  # (C,) why rank 1 is not sure, empty where it is
    direction: TextArray  # (C,) what told rank 1's direction
    other: IntArray  # (C,) the other direction of rank 1's street where nothing told it, or -1
    nearest_m: Float64Array  # (N,) distance to the nearest segment, for stations without any


@dataclass(frozen=True, eq=False)
class RoadNames:
    """Which station names which segment's road, through the different texts of both."""

    station: IntArray  # (N,) number of the station's text, -1 where it says nothing
    segment: IntArray  # (S,) number of the segment's text
    same: BoolArray  # (texts of stations, texts of segments)


def read_road_names(column: pd.Series[Any], table: pd.DataFrame) -> RoadNames:
    """Return which texts of stations mean which texts of segments."""
    columns = [table[name].astype("string").fillna("") for name in ("ref", "name") if name in table]
    joined = columns[0] if len(columns) == 1 else columns[0] + ";" + columns[1]
    segment, of_segments = pd.factorize(joined)
    texts = column.astype("string").str.strip()
    station, of_stations = pd.factorize(texts.where(texts != ""))
    roads = [set(map(_plain, str(text).split(";"))) for text in of_segments]
    numbers = [{re.sub(r"\D", "", name) for name in names if _is_ref(name)} for names in roads]
    same = np.zeros((len(of_stations), len(of_segments)), dtype=bool)
    for row, text in enumerate(map(_plain, of_stations)):
        pool = numbers if text.isdigit() else roads
        same[row] = [text in names or text in own for names, own in zip(pool, roads, strict=True)]
    return RoadNames(station, segment, same)


def _plain(text: Any) -> str:
    """Return a name without case, spaces and punctuation."""
    return re.sub(r"\W|_", "", str(text)).casefold()


def _is_ref(name: str) -> bool:
    """Tell whether a plain name is a road number such as i280 or a3."""
    return re.fullmatch(r"[a-z]{0,4}\d+[a-z]?", name) is not None


def find_candidates(
    points: GeometryArray,
    lines: GeometryArray,
    network: Roads,
    heading: Float64Array,
    names: RoadNames | None,
    rules: Rules,
) -> Candidates:
    """Return what is within reach of every station, best first."""
    tree = shapely.STRtree(lines)
    located = np.flatnonzero(~shapely.is_missing(points))
    row, segment = tree.query(points[located], "dwithin", distance=rules.max_distance_m)
    station = located[row]
    twins = find_twins(network)
    # both directions of a street are measured on one of them, so that they are equally far
    line = np.where(twins[segment] >= 0, np.minimum(segment, twins[segment]), segment)
    distance_m = shapely.distance(points[station], lines[line])
    along = shapely.line_locate_point(lines[segment], points[station])
    bearing = _bearings(lines[segment], along)
    foot = shapely.get_coordinates(shapely.line_interpolate_point(lines[segment], along))
    off = turn_between(bearing, heading[station])
    tier, why = _weigh(off, _named(names, station, segment), rules)
    side = _sides(shapely.get_coordinates(points[station]) - foot, bearing, distance_m)
    wrong_side = (side != rules.side) & (side != "on") if rules.side else np.zeros(len(side), bool)
    ids = network.segment_id[segment]
    order = np.lexsort((ids, wrong_side, np.nan_to_num(off), distance_m, tier, station))
    length = shapely.length(lines[segment])
    ranked = _Ranked(
        station=station[order],
        segment=segment[order],
        tier=tier[order],
        distance_m=distance_m[order],
        off=off[order],
        side=side[order],
        on_road=foot[order],
        bearing=bearing[order],
        twin=twins[segment][order],
    )
    best = np.flatnonzero(np.diff(ranked.station, prepend=-1))
    mine = best[np.searchsorted(ranked.station[best], ranked.station)]  # best of the same station
    direction, other = _tell_direction(ranked, rules)
    behind = np.arange(len(mine)) - mine
    gap = ranked.distance_m - ranked.distance_m[mine]
    further = np.array([f"{metres:.1f} m further away" for metres in gap], dtype=object)
    return Candidates(
        station=ranked.station,
        segment=ranked.segment,
        rank=behind + 1,
        distance_m=ranked.distance_m,
        fraction=np.divide(along, length, out=np.zeros_like(along), where=length > 0)[order],
        on_road=ranked.on_road,
        side=ranked.side,
        heading_difference_deg=ranked.off,
        why=np.where((why[order] == "") & (behind > 0), further, why[order]),
        best=best,
        doubt=_doubt(ranked, mine, why[order], rules),
        direction=direction,
        other=other,
        nearest_m=_nearest(tree, points, lines, np.setdiff1d(located, station)),
    )


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Candidates in order, as far as what follows needs them."""

    station: IntArray
    segment: IntArray
    tier: IntArray
    distance_m: Float64Array
    off: Float64Array
    side: TextArray
    on_road: Float64Array
    bearing: Float64Array
    twin: IntArray


def _named(names: RoadNames | None, station: IntArray, segment: IntArray) -> BoolArray:
    """Tell which candidates are of the road that the station names, or of any where it does not."""
    if names is None or not names.same.size:
        return np.ones(len(station), dtype=bool)
    text = names.station[station]
    return (text < 0) | names.same[np.maximum(text, 0), names.segment[segment]]


def _weigh(off: Float64Array, named: BoolArray, rules: Rules) -> tuple[IntArray, TextArray]:
    """Return in which class a candidate is, 0 the best, and what speaks against it."""
    turned = off > rules.max_heading_deg  # NaN, no heading, is not
    tier = turned.astype(np.int64) + (off >= 90.0) + 3 * ~named
    why = np.full(len(off), "", dtype=object)
    why[turned] = [f"heading differs by {degrees:.0f} degrees" for degrees in off[turned]]
    why[~named] = [f"{text}; another road".lstrip("; ") for text in why[~named]]
    return tier, why


def _bearings(lines: GeometryArray, along: Float64Array) -> Float64Array:
    """Return the bearing of lines at some distance along them, in degrees from north."""
    length = shapely.length(lines)
    before = shapely.line_interpolate_point(lines, np.clip(along - _PIECE_M, 0.0, length))
    after = shapely.line_interpolate_point(lines, np.clip(along + _PIECE_M, 0.0, length))
    east, north = (shapely.get_coordinates(after) - shapely.get_coordinates(before)).T
    return np.asarray(np.degrees(np.arctan2(east, north)) % 360.0, dtype=np.float64)


def _sides(away: Float64Array, bearing: Float64Array, distance_m: Float64Array) -> TextArray:
    """Return on which side of directed lines points lie that are so far away from them."""
    angle = np.radians(bearing)
    east, north = away.T
    right = east * np.cos(angle) - north * np.sin(angle)
    side = np.where(right > 0, "right", "left").astype(object)
    side[(distance_m < _ON_ROAD_M) | (np.abs(right) < _ON_ROAD_M)] = "on"
    return side


def _tell_direction(ranked: _Ranked, rules: Rules) -> tuple[TextArray, IntArray]:
    """Return what told the direction of each candidate, and the other one if nothing did."""
    told = np.full(len(ranked.twin), "one-way", dtype=object)
    two_way = ranked.twin >= 0
    by_heading = two_way & ~np.isnan(ranked.off) & (ranked.off != 90.0)
    by_side = two_way & ~by_heading & (rules.side is not None) & (ranked.side != "on")
    told[two_way] = "unknown"
    told[by_side], told[by_heading] = "side", "heading"
    return told, np.where(told == "unknown", ranked.twin, -1)


def _doubt(ranked: _Ranked, mine: IntArray, why: TextArray, rules: Rules) -> TextArray:
    """Return why the best candidate of a station is not sure, empty where it is."""
    best = ranked.segment[mine]
    rival = (ranked.segment != best) & (ranked.segment != ranked.twin[mine])
    rival &= ranked.tier == ranked.tier[mine]
    rival &= ranked.distance_m - ranked.distance_m[mine] <= rules.ambiguity_m
    # the next piece of the same road, met at their common end, is no other road
    apart = np.hypot(*(ranked.on_road - ranked.on_road[mine]).T)
    turn = turn_between(ranked.bearing, ranked.bearing[mine])
    rival &= (apart > _SAME_SPOT_M) | (np.minimum(turn, 180.0 - turn) > _STRAIGHT_DEG)
    rivals = np.bincount(mine[rival], minlength=len(mine))
    doubt = np.full(len(mine), "", dtype=object)
    near = rivals > 0
    doubt[near] = [f"{n} more within {rules.ambiguity_m:g} m of the distance" for n in rivals[near]]
    worse = ranked.tier > 0
    doubt[worse] = [f"no better one within reach: {text}" for text in why[worse]]
    return doubt


def _nearest(
    tree: shapely.STRtree, points: GeometryArray, lines: GeometryArray, rows: IntArray
) -> Float64Array:
    """Return the distance of some stations to their nearest segment, NaN for the others."""
    nearest_m = np.full(len(points), np.nan)
    if len(rows):
        nearest_m[rows] = shapely.distance(points[rows], lines[tree.nearest(points[rows])])
    return nearest_m
