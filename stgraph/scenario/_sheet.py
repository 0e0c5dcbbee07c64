"""Road networks as a picture: where things are on the paper, and lines as SVG paths."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely

from stgraph.graph import BoolArray, FloatArray, IntArray, STGraph

WIDTH = 2000  # units of a picture, about two per pixel of a wide screen
_HEIGHTS = (900, 1700)  # units
_MARGIN = 0.12  # of the part that a picture is about
_EDGE = 0.06  # of the network's extent, around all of it
_LEAST = 0.2  # of the network's extent that is shown
_DETAIL = 0.8  # units by which simplified lines may be off
_LIMITS_M = (400.0, 10_000_000.0)  # what a picture may be wide

PointArray = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, bottom, width, height in metres


@dataclass(frozen=True, eq=False)
class Sheet:
    """E lines in units of a picture, x to the right and y down."""

    points: PointArray  # (P, 2) the vertices of all lines
    starts: IntArray  # (E + 1,) where the vertices of each line begin
    height: int  # units that are shown; the width is WIDTH
    whole: tuple[int, int, int, int]  # x, y, width, height of all of the network
    metres: float  # per unit; NaN where nobody knows the unit of the network
    box: Box

    def line(self, position: int) -> PointArray:
        """Return the vertices of a line."""
        return self.points[self.starts[position] : self.starts[position + 1]]


def make_sheet(roads: STGraph, focus: BoolArray, *, box: Box | None = None) -> Sheet | None:
    """Lay the segments of a road network out on a picture.

    Parameters
    ----------
    roads
        Junctions as nodes, E segments as edges; with lines.
    focus
        (E,) which segments the picture is about. None of them: all.
    box
        What is shown, as the sheet of another scenario on the same network has it. None: by focus.

    Returns
    -------
    Sheet or None
        None where no segment has a line.
    """
    lines = _lines_in_metres(roads)
    known = ~(shapely.is_missing(lines) | shapely.is_empty(lines))
    if not known.any():
        return None
    left, bottom, width, height = box or _extent(lines[known], lines[known & focus])
    metres = width / WIDTH
    shapes = shapely.simplify(lines, _DETAIL * metres, preserve_topology=False)
    points, of = shapely.get_coordinates(shapes, return_index=True)
    points = (points - [left, bottom + height]) / [metres, -metres]
    x, y = np.floor(points.min(axis=0)).astype(int)
    dx, dy = np.ceil(points.max(axis=0)).astype(int) - (x, y)
    return Sheet(
        box=(left, bottom, width, height),
        points=points,
        starts=np.searchsorted(of, np.arange(len(lines) + 1)),
        height=round(height / metres),
        whole=(int(x), int(y), max(int(dx), 1), max(int(dy), 1)),
        metres=metres if roads.edges.crs is not None else math.nan,  # type: ignore[union-attr]
    )


def _lines_in_metres(roads: STGraph) -> npt.NDArray[np.object_]:
    """Return the line of each segment, None where it has none."""
    lines = gpd.GeoSeries(roads.edges.geometry)  # type: ignore[union-attr]  # tables.py checks it
    crs = lines.crs
    in_metres = crs is None or all(axis.unit_name == "metre" for axis in crs.axis_info)
    if not in_metres and lines.notna().any():
        lines = lines.to_crs(lines.estimate_utm_crs())
    found: npt.NDArray[np.object_] = np.array(lines.to_numpy(), dtype=object)
    found[~np.isin(shapely.get_type_id(found), (1, 5))] = None
    return found


def _extent(lines: npt.NDArray[np.object_], focus: npt.NDArray[np.object_]) -> Box:
    """Return left, bottom, width and height in metres of what is shown."""
    whole = shapely.total_bounds(lines)
    size = whole[2:] - whole[:2]
    part = shapely.total_bounds(focus) if len(focus) else whole
    room = np.maximum(
        _MARGIN * (part[2:] - part[:2]), (_LEAST * size.max() - part[2:] + part[:2]) / 2
    )
    edge = _EDGE * size.max()
    low = np.maximum(part[:2] - room, whole[:2] - edge)
    high = np.minimum(part[2:] + room, whole[2:] + edge)
    middle, (width, height) = (low + high) / 2, high - low
    flat, tall = (units / WIDTH for units in _HEIGHTS)
    width = min(max(width, height / tall, _LIMITS_M[0]), _LIMITS_M[1])
    height = min(max(height, width * flat), width * tall)
    return middle[0] - width / 2, middle[1] - height / 2, width, height


def path_of(sheet: Sheet, positions: Iterable[int], *, offset: float = 0.0) -> str:
    """Return lines as the data of one SVG path, in whole units.

    Parameters
    ----------
    sheet
        Where the lines are.
    positions
        Which lines.
    offset
        Units that lines are shifted to the right of where they lead.
    """
    return "".join(_path(_shift(sheet.line(int(p)), offset)) for p in positions)


def path_of_streets(sheet: Sheet, positions: Iterable[int]) -> str:
    """Return lines as the data of one SVG path, the two directions of a street once."""
    seen: set[bytes] = set()
    parts = []
    for position in positions:
        points = np.rint(sheet.line(int(position))).astype(np.int64)
        key = min(points.tobytes(), points[::-1].tobytes())
        if key not in seen:
            seen.add(key)
            parts.append(_path(points.astype(float)))
    return "".join(parts)


def middle_of(sheet: Sheet, position: int, *, offset: float = 0.0) -> tuple[int, int] | None:
    """Return the place half-way along a line, None where it has no line."""
    points = _shift(sheet.line(position), offset)
    if len(points) < 2:
        return None
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    x, y = (np.interp(along[-1] / 2, along, points[:, axis]) for axis in (0, 1))
    return round(float(x)), round(float(y))


def _shift(points: PointArray, offset: float) -> PointArray:
    """Return vertices shifted to the right of where their line leads."""
    if not offset or len(points) < 2:
        return points
    pieces = np.diff(points, axis=0)
    length = np.hypot(*pieces.T)
    pieces, points = pieces[length > 0], points[np.concatenate([[True], length > 0])]
    if not len(pieces):
        return points
    ahead = pieces / np.hypot(*pieces.T)[:, None]
    right = np.column_stack([-ahead[:, 1], ahead[:, 0]])  # y is down
    at = np.vstack([right[:1], right[:-1] + right[1:], right[-1:]])
    size = np.hypot(*at.T)[:, None]
    shifted: PointArray = points + offset * np.divide(
        at, size, out=np.zeros_like(at), where=size > 1e-9
    )
    return shifted


def _path(points: PointArray | FloatArray) -> str:
    """Return the data of an SVG path along vertices, nothing if they are one place."""
    if len(points) < 2:
        return ""
    whole = np.rint(points).astype(np.int64)
    steps = np.diff(whole, axis=0)
    steps = steps[steps.any(axis=1)]
    if not len(steps):
        return ""
    moves = "".join(f"{dx}{dy}" if dy < 0 else f"{dx} {dy}" for dx, dy in _spaced(steps))
    return f"M{whole[0, 0]} {whole[0, 1]}l{moves.lstrip()}"


def _spaced(steps: IntArray) -> Iterable[tuple[str, int]]:
    """Yield steps, the first number with the blank that it needs before it."""
    for dx, dy in steps.tolist():
        yield (f"{dx}" if dx < 0 else f" {dx}"), dy


def nice_length(metres: float) -> float:
    """Return 1, 2 or 5 times a power of ten that is at most a length."""
    power = 10.0 ** math.floor(math.log10(metres))
    return next(step * power for step in (5, 2, 1) if step * power <= metres * (1 + 1e-9))
