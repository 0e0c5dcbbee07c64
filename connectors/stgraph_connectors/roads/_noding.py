"""Where lines meet: ends at one place are one junction, lines that merely cross do not join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from stgraph.graph import BoolArray, IntArray
from stgraph.neighbours._places import Float64Array, to_metres
from stgraph.report import Report

_SAME_M = 1e-6  # a point of a line this near to where it is cut is that place
_NEAR_M = 1.0  # ends that are closer than this and do not join may be meant to


@dataclass(frozen=True, eq=False)
class Noded:
    """Lines between junctions, each a part of one of the lines given."""

    xy: Float64Array  # (J, 2) places of the junctions, in order of x and y
    level: IntArray  # (J,)
    source: IntArray  # (S,) positions in xy
    target: IntArray  # (S,)
    lines: npt.NDArray[np.object_]  # (S,) from source to target
    origin: IntArray  # (S,) position of the line that each is a part of
    part: IntArray  # (S,) number of the part, from 0 along the line


@dataclass(frozen=True, eq=False)
class _Touches:
    """Junctions on the interior of lines, in order along each line."""

    line: IntArray  # (K,)
    junction: IntArray  # (K,)
    along_m: Float64Array  # (K,) on the plane
    flat: npt.NDArray[np.object_]  # (L,) the lines on the plane, in metres


def node_lines(
    lines: npt.NDArray[np.object_],
    level: IntArray,
    crs: pyproj.CRS,
    *,
    tolerance_m: float,
    split: bool,
    name: str,
    report: Report,
) -> Noded:
    """Join lines at their ends.

    Parameters
    ----------
    lines
        (L,) LineStrings of at least two points, without heights.
    level
        (L,) Height of each line as a whole number. Where several lines of one level meet and
        several of another, as when maps cut bridges and what is under them, they are two
        junctions; a line that would end there alone joins the others, as a bridge its ramp.
    crs
        CRS of the lines.
    tolerance_m
        Ends that are at most this far apart are one place, and are moved there.
    split
        Cut lines where the end of another line of their level lies on them.
    name
        Source of the lines, for the report.
    report
        Takes what is moved, cut, or seems to be meant to join but does not.

    Returns
    -------
    Noded
        Junctions do not depend on the order of the lines.
    """
    ends = np.concatenate([_points(lines, 0), _points(lines, -1)])
    xy, place = _gather(ends, crs, tolerance_m)
    junction, place, level_of = _separate_levels(place, np.tile(level, 2))
    xy = xy[place]
    source, target = junction[: len(lines)], junction[len(lines) :]
    lines = _move_ends(lines, xy[source], xy[target], name, report)
    short = shapely.length(lines) == 0
    if short.all():
        todo = "make snap_tolerance_m= smaller"
        report.error(name, f"all lines are shorter than {tolerance_m:g} m", todo)
    origin = np.arange(len(lines))
    part = np.zeros(len(lines), dtype=np.int64)
    touches = _find_touches(lines, level, xy, level_of, crs, max(tolerance_m, 1e-6))
    if split and len(touches.line):
        lines, source, target, origin, part = _cut(lines, source, target, xy, touches)
        cut = len(np.unique(touches.line))
        what = f"{cut} lines have ends of others on them"
        report.info(name, what, f"cut into {len(lines) - len(level) + cut}", count=cut)
    elif len(touches.line):
        count = len(np.unique(touches.junction))
        what = f"at {count} places a line ends on another line, between its ends"
        report.warning(name, what, "they do not join; split_at_ends=True cuts them", count=count)
    _note_near_misses(xy, np.concatenate([source, target]), crs, name, report)
    return Noded(xy, level_of, source, target, lines, origin, part)


def _points(lines: npt.NDArray[np.object_], which: int) -> Float64Array:
    """Return the first (0) or last (-1) points of lines."""
    return np.asarray(shapely.get_coordinates(shapely.get_point(lines, which)), dtype=np.float64)


def _gather(ends: Float64Array, crs: pyproj.CRS, tolerance_m: float) -> tuple[Float64Array, Any]:
    """Return the distinct places, in order of x and y, and that of each point."""
    xy, place = np.unique(ends + 0.0, axis=0, return_inverse=True)
    place = place.reshape(-1)
    metres, _ = to_metres(xy, crs)
    pairs = cKDTree(metres).query_pairs(tolerance_m, output_type="ndarray")
    if not len(pairs):
        return xy, place
    links = csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(xy),) * 2)
    _, group = connected_components(links, directed=False)
    # the first point in order of x and y stands for its group, whatever the order of the lines
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return xy[first[order]], rank[number.reshape(-1)][place]


def _separate_levels(place: IntArray, level: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the junction of each end, and place and level of each junction."""
    level = level.copy()
    order = np.lexsort((level, place))
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    for ends in np.split(order, starts[1:]) if np.ptp(level) else []:
        if level[ends[0]] != level[ends[-1]]:
            level[ends] = _join_single_ends(level[ends])
    both, junction = np.unique(np.stack([place, level], axis=1), axis=0, return_inverse=True)
    return junction.reshape(-1), both[:, 0], both[:, 1]


def _join_single_ends(levels: IntArray) -> IntArray:
    """Return the levels of ends at one place, where none goes on alone if others go on."""
    known, count = np.unique(levels, return_counts=True)
    through = known[count >= 2]
    if len(through) < 2:
        return np.full_like(levels, through[0] if len(through) else known[0])
    nearest = through[np.abs(levels[:, None] - through).argmin(axis=1)]
    return np.where(np.isin(levels, through), levels, nearest)


def _move_ends(
    lines: npt.NDArray[np.object_],
    first: Float64Array,
    last: Float64Array,
    name: str,
    report: Report,
) -> npt.NDArray[np.object_]:
    """Return the lines with their ends moved onto the junctions."""
    away = (_points(lines, 0) != first).any(axis=1) | (_points(lines, -1) != last).any(axis=1)
    if not away.any():
        return lines
    lines = lines.copy()
    for i in np.flatnonzero(away):
        xy = shapely.get_coordinates(lines[i])
        xy[0], xy[-1] = first[i], last[i]
        lines[i] = shapely.LineString(xy)
    count = int(away.sum())
    report.info(name, f"{count} lines were moved at an end, within the tolerance", count=count)
    return lines


def _to_plane(xy: Float64Array, crs: pyproj.CRS) -> Float64Array:
    """Return coordinates in metres on a plane: that of the CRS, or of the local UTM zone."""
    metres, metric = to_metres(xy, crs)
    if metric == "projected":
        return metres
    corners = gpd.GeoSeries(shapely.points([xy.min(axis=0), xy.max(axis=0)]), crs=crs)
    try:
        plane = corners.estimate_utm_crs()
    except RuntimeError:  # near the poles UTM has no zone
        lon, lat = corners.to_crs(4326).union_all().centroid.coords[0]
        plane = pyproj.CRS(f"+proj=aeqd +lon_0={lon} +lat_0={lat}")
    there = pyproj.Transformer.from_crs(crs, plane, always_xy=True)
    return np.column_stack(there.transform(xy[:, 0], xy[:, 1]))


def _find_touches(
    lines: npt.NDArray[np.object_],
    level: IntArray,
    xy: Float64Array,
    level_of: IntArray,
    crs: pyproj.CRS,
    tolerance_m: float,
) -> _Touches:
    """Return where junctions lie on lines of their level, away from the ends of these."""
    coordinates, owner = shapely.get_coordinates(lines, return_index=True)
    plane = _to_plane(np.concatenate([coordinates, xy]), crs)
    flat: Any = shapely.linestrings(plane[: len(coordinates)], indices=owner)
    points: Any = shapely.points(plane[len(coordinates) :])
    junction, line = shapely.STRtree(flat).query(points, "dwithin", distance=tolerance_m)
    length = shapely.length(flat[line])
    along: Any = shapely.line_locate_point(flat[line], points[junction])
    # a line that ends on itself passes there twice: take the place between its ends
    again = length - shapely.line_locate_point(shapely.reverse(flat[line]), points[junction])
    along = np.where(along > tolerance_m, along, again)
    inside: BoolArray = (along > tolerance_m) & (along < length - tolerance_m)
    inside &= level[line] == level_of[junction]
    order = np.lexsort((along[inside], line[inside]))
    return _Touches(line[inside][order], junction[inside][order], along[inside][order], flat)


def _cut(
    lines: npt.NDArray[np.object_],
    source: IntArray,
    target: IntArray,
    xy: Float64Array,
    touches: _Touches,
) -> tuple[npt.NDArray[np.object_], IntArray, IntArray, IntArray, IntArray]:
    """Return lines, sources, targets, origins and numbers of parts, cut at the touches."""
    pieces: list[Any] = []
    rows: list[tuple[int, int, int, int]] = []
    begin = np.searchsorted(touches.line, np.arange(len(lines)))
    stop = np.searchsorted(touches.line, np.arange(len(lines)), side="right")
    for i, line in enumerate(lines):
        at = slice(begin[i], stop[i])
        ends = [int(source[i]), *touches.junction[at].tolist(), int(target[i])]
        if len(ends) == 2:
            pieces.append(line)
        else:
            pieces.extend(_cut_one(line, touches.flat[i], xy[ends[1:-1]], touches.along_m[at]))
        rows.extend((ends[k], ends[k + 1], i, k) for k in range(len(ends) - 1))
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    made = np.empty(len(pieces), dtype=object)
    made[:] = pieces
    return made, columns[0], columns[1], columns[2], columns[3]


def _cut_one(line: Any, flat: Any, at: Float64Array, along_m: Float64Array) -> list[Any]:
    """Return the parts of a line between points on it, given also by their distance along it."""
    xy = shapely.get_coordinates(line)
    pieces_m = np.linalg.norm(np.diff(shapely.get_coordinates(flat), axis=0), axis=1)
    reached_m = np.concatenate([[0.0], np.cumsum(pieces_m)])
    parts, start, done = [], xy[0], 1
    for point, distance in zip(at, along_m, strict=True):
        upto = int(np.searchsorted(reached_m, distance - _SAME_M))
        parts.append(np.vstack([start, xy[done:upto], point]))
        start = point
        done = max(done, int(np.searchsorted(reached_m, distance + _SAME_M)))
    parts.append(np.vstack([start, xy[done:]]))
    return [shapely.LineString(part) for part in parts]


def _note_near_misses(
    xy: Float64Array, ends: IntArray, crs: pyproj.CRS, name: str, report: Report
) -> None:
    """Note dead ends that are nearly at another junction."""
    if len(xy) < 2:
        return
    metres, _ = to_metres(xy, crs)
    distance = np.asarray(cKDTree(metres).query(metres, k=2)[0])
    dead: BoolArray = np.bincount(ends, minlength=len(xy)) == 1
    near = dead & (distance[:, 1] > 0) & (distance[:, 1] <= _NEAR_M)
    if near.any():
        count, most = int(near.sum()), float(distance[near, 1].max())
        what = f"{count} dead ends are within {most:.2g} m of another end"
        todo = f"they do not join; snap_tolerance_m={most * 1.01:.2g} joins them"
        report.warning(name, what, todo, count=count)
