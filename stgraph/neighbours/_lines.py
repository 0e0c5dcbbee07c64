"""What a line measures on the ground: its length and the compass bearings along it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import shapely

from stgraph.graph import IntArray
from stgraph.neighbours._places import Float64Array, to_metres


@dataclass(frozen=True, eq=False)
class LineMeasures:
    """Lengths and bearings of lines; bearings are degrees clockwise from north, 0 up to 360."""

    length_m: Float64Array  # (E,)
    bearing_deg: Float64Array  # (E,) from the first to the last point
    bearing_start_deg: Float64Array  # (E,) of the first piece
    bearing_end_deg: Float64Array  # (E,) of the last piece


def measure_lines(lines: Any, crs: pyproj.CRS) -> LineMeasures:
    """Measure lines of at least two points; bearings of pieces without length are NaN.

    Lengths are great circles for degrees, and lengths on the plane in other CRSs; so are the
    bearings, which are then from grid north.
    """
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    first = np.searchsorted(owner, np.arange(len(lines)))
    last = np.searchsorted(owner, np.arange(len(lines)), side="right") - 1
    metres, _ = to_metres(xy, crs)
    pieces = np.linalg.norm(np.diff(metres, axis=0), axis=1)
    pieces[owner[1:] != owner[:-1]] = 0.0
    length = np.zeros(len(lines))
    np.add.at(length, owner[1:], pieces)
    # points that repeat have no direction: the nearest piece with a length gives it
    after, before = _next_moving(pieces, first), _previous_moving(pieces, last)
    return LineMeasures(
        length,
        _bearings(xy, first, last, crs),
        _bearings(xy, after, after + 1, crs),
        _bearings(xy, before, before + 1, crs),
    )


def _next_moving(pieces: Float64Array, at: IntArray) -> IntArray:
    """Return the first piece from each point on that has a length."""
    moving = np.flatnonzero(pieces > 0)
    if not len(moving):
        return np.zeros_like(at)
    return moving[np.minimum(np.searchsorted(moving, at), len(moving) - 1)]


def _previous_moving(pieces: Float64Array, at: IntArray) -> IntArray:
    """Return the last piece before each point that has a length."""
    moving = np.flatnonzero(pieces > 0)
    if not len(moving):
        return np.zeros_like(at)
    return moving[np.maximum(np.searchsorted(moving, at) - 1, 0)]


def _bearings(xy: Float64Array, start: IntArray, stop: IntArray, crs: pyproj.CRS) -> Float64Array:
    """Return compass bearings between points; NaN where both are the same."""
    (x0, y0), (x1, y1) = xy[start].T, xy[stop].T
    if crs.is_geographic:
        factor = crs.axis_info[0].unit_conversion_factor
        x0, y0, x1, y1 = (part * factor for part in (x0, y0, x1, y1))
        east = np.sin(x1 - x0) * np.cos(y1)
        north = np.cos(y0) * np.sin(y1) - np.sin(y0) * np.cos(y1) * np.cos(x1 - x0)
    else:
        east, north = x1 - x0, y1 - y0
    bearing = np.degrees(np.arctan2(east, north)) % 360.0
    return np.where((x0 == x1) & (y0 == y1), np.nan, bearing)
