"""The tags of ways as columns of segments, where a segment may run over several ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import BoolArray, IntArray
from stgraph_connectors.roads._osm_records import OsmData, Tags
from stgraph_connectors.roads._speeds import Float64Array, parse_each, parse_lanes, parse_speed

ObjectArray = npt.NDArray[np.object_]

TAGS = (
    "highway", "name", "ref", "maxspeed", "lanes", "bridge", "tunnel", "junction", "access",
    "service", "surface", "width", "layer", "motor_vehicle", "bicycle", "foot", "cycleway",
    "sidewalk", "lit", "smoothness", "tracktype", "toll", "maxheight", "maxweight",
)  # fmt: skip
# tags whose value may differ by direction, as in `maxspeed:backward`
_DIRECTED = ("maxspeed", "maxheight", "maxweight", "turn:lanes", "access")
# where a limit is told when `maxspeed` is not, as in `maxspeed:type=DE:urban`
_SPEED_TAGS = ("maxspeed", "maxspeed:type", "zone:maxspeed", "source:maxspeed")


@dataclass(frozen=True, eq=False)
class Runs:
    """Stretches of segments on one way each, segment by segment in the direction of travel."""

    segment: IntArray  # (K,) ascending
    way: IntArray  # (K,) positions of ways
    against: BoolArray  # (K,) whether the stretch runs against the way's nodes
    length_m: Float64Array  # (K,)
    n_segments: int

    def spread(self, along: Float64Array, against: Float64Array) -> Float64Array:
        """Return (K,) values of stretches from (W,) values of ways by direction."""
        return np.where(self.against, against[self.way], along[self.way])


def merge_tags(
    data: OsmData, runs: Runs, directions: IntArray, *, columns: Sequence[str]
) -> pd.DataFrame:
    """Return one row per segment with the tags of its ways.

    Several values are joined by semicolons in the order of first appearance; a tag with
    ``:forward`` or ``:backward`` counts for its direction. What is no column is in `other_tags`,
    written as GDAL does (HSTORE).
    """
    table: dict[str, object] = {"osmid": _join(runs, runs.way, data.way_ids.astype(str))}
    for key in dict.fromkeys(columns):
        if key not in ("oneway", "osmid"):
            codes, values = _encode(data.way_tags, key, runs)
            if len(values):
                table[key] = _join(runs, codes, values)
    one_way = np.ones(runs.n_segments, dtype=bool)
    one_way[runs.segment[directions[runs.way] == 0]] = False
    table["oneway"] = one_way
    table["reversed"] = _join(runs, runs.against.astype(np.int64), np.array(["no", "yes"]))
    other = _join_other(data.way_tags, runs, {*columns, "oneway"})
    if any(text is not None for text in other):
        table["other_tags"] = other
    return pd.DataFrame(table)


def _encode(tags: list[Tags], key: str, runs: Runs) -> tuple[IntArray, npt.NDArray[np.str_]]:
    """Return the value of a tag on each stretch as a code, -1 for none, and the values."""
    along = [way.get(key) for way in tags]
    if key not in _DIRECTED:
        codes, values = pd.factorize(np.array(along, dtype=object))
        return codes[runs.way], np.array(values, dtype=object)
    forward, backward = f"{key}:forward", f"{key}:backward"
    by_direction = [way.get(forward, way.get(key)) for way in tags]
    by_direction += [way.get(backward, way.get(key)) for way in tags]
    codes, values = pd.factorize(np.array(by_direction, dtype=object))
    return codes[runs.way + len(tags) * runs.against], np.array(values, dtype=object)


def _join(runs: Runs, codes: IntArray, values: npt.NDArray[np.generic]) -> ObjectArray:
    """Return the values of each segment, different ones joined; None where there is none."""
    known = codes >= 0
    segment, code = runs.segment[known], codes[known]
    joined = np.full(runs.n_segments, None, dtype=object)
    if not len(segment):
        return joined
    starts = np.flatnonzero(np.diff(segment, prepend=-1))
    joined[segment[starts]] = values[code[starts]].astype(object)
    differs = np.minimum.reduceat(code, starts) != np.maximum.reduceat(code, starts)
    stops = np.append(starts[1:], len(segment))
    for start, stop in zip(starts[differs], stops[differs], strict=True):
        parts = [part for i in code[start:stop] for part in str(values[i]).split(";")]
        joined[segment[start]] = ";".join(dict.fromkeys(part.strip() for part in parts))
    return joined


def _join_other(tags: list[Tags], runs: Runs, columns: set[str]) -> ObjectArray:
    """Return the tags that are no column as one text per segment."""
    rest = [{k: v for k, v in way.items() if k not in columns} for way in tags]
    texts = np.array([_to_hstore(way) for way in rest] or [None], dtype=object)
    joined = np.full(runs.n_segments, None, dtype=object)
    starts = np.flatnonzero(np.diff(runs.segment, prepend=-1))
    stops = np.append(starts[1:], len(runs.segment))
    joined[runs.segment[starts]] = texts[runs.way[starts]]
    several = stops - starts > 1
    for start, stop in zip(starts[several], stops[several], strict=True):
        merged: dict[str, dict[str, None]] = {}
        for way in runs.way[start:stop]:
            for key, value in rest[way].items():
                merged.setdefault(key, {})[value] = None
        joined[runs.segment[start]] = _to_hstore({k: ";".join(v) for k, v in merged.items()})
    return joined


def _to_hstore(tags: Mapping[str, str]) -> str | None:
    """Return tags as HSTORE text, or None if there are none."""
    return ",".join(f"{_quote(k)}=>{_quote(v)}" for k, v in tags.items()) or None


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def merge_speeds(data: OsmData, runs: Runs) -> Float64Array:
    """Return the speed limit of each segment in km/h, NaN where no way of it has one.

    Over several limits it is the one at which the whole takes as long: the harmonic mean,
    weighted by length, of the parts with a limit.
    """
    speed = runs.spread(_limits(data.way_tags, ":forward"), _limits(data.way_tags, ":backward"))
    known = np.isfinite(speed)
    length = np.where(known, runs.length_m, 0.0)
    hours = np.where(known, runs.length_m / np.where(known, speed, 1.0), 0.0)
    total = np.bincount(runs.segment, weights=length, minlength=runs.n_segments)
    spent = np.bincount(runs.segment, weights=hours, minlength=runs.n_segments)
    speeds = np.full(runs.n_segments, np.nan)
    np.divide(total, spent, out=speeds, where=spent > 0)
    return np.round(speeds, 6)  # 30, not 29.999999999999996


def _limits(tags: list[Tags], direction: str) -> Float64Array:
    """Return the speed limit of each way in one direction in km/h, or NaN."""
    limit = np.full(len(tags), np.nan)
    for key in (f"maxspeed{direction}", *_SPEED_TAGS):
        column = pd.Series([way.get(key) for way in tags], dtype=object)
        limit = np.where(np.isfinite(limit), limit, parse_each(column, parse_speed))
    return limit


def merge_lanes(data: OsmData, runs: Runs, directions: IntArray) -> Float64Array:
    """Return the lanes in the direction of each segment, the fewest along it, NaN if unknown.

    OSM's `lanes` counts both directions of a two-way street: half of it is taken, at least 1,
    unless `lanes:forward` and `lanes:backward` tell.
    """
    both = _numbers(data.way_tags, "lanes")
    half = np.where(directions == 0, np.maximum(both / 2, 1.0), both)
    along, against = (_numbers(data.way_tags, f"lanes:{d}") for d in ("forward", "backward"))
    lanes = runs.spread(
        np.where(np.isfinite(along), along, half), np.where(np.isfinite(against), against, half)
    )
    fewest = np.full(runs.n_segments, np.inf)
    np.minimum.at(fewest, runs.segment, np.where(np.isfinite(lanes), lanes, np.inf))
    return np.where(np.isfinite(fewest), fewest, np.nan)


def _numbers(tags: list[Tags], key: str) -> Float64Array:
    column = pd.Series([way.get(key) for way in tags], dtype=object)
    return parse_each(column, parse_lanes)
