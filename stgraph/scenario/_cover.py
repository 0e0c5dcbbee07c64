"""Areas around streets, made of parts that are put together once and used again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import geopandas as gpd
import numpy as np
import shapely
from shapely.ops import substring

from stgraph.graph import IntArray
from stgraph.scenario._routes import Values

Area: TypeAlias = tuple[shapely.Geometry, float]  # and its square kilometres

_LEAF = 16  # lines of the smallest parts
_CORNERS = 4  # of a quarter of a circle
_STRAIGHTEN = 0.05  # of the margin: bends of a line that its margin hides
_SIMPLIFY = 0.05  # of the margin: corners that nobody sees


class Cover:
    """Lines with a margin, and the areas of those of them that are reached.

    The lines are sorted along a curve that fills the plane and halved again and again: whatever is
    reached as a whole is one area, joined once, and what is left is the rim.

    Parameters
    ----------
    lines
        (E,) lines in metres.
    buffer_m
        Width of the margin.
    """

    def __init__(self, lines: Any, buffer_m: float) -> None:
        self.buffer_m = buffer_m
        self.lines = np.asarray(lines)
        first, self.street_of = same_lines(self.lines)
        place = gpd.GeoSeries(self.lines[first]).hilbert_distance().to_numpy()
        order = np.argsort(place, kind="stable")
        self.rank = np.empty(len(first), dtype=np.int64)  # of each street along the curve
        self.rank[order] = np.arange(len(first))
        self.streets = self.lines[first[order]]
        self.whole: dict[tuple[int, int], shapely.Geometry] = {}
        self.known: dict[bytes, Area] = {}

    def area(self, share: Values, place: shapely.Point) -> Area:
        """Return the area around a place and the lines, of each the share from its beginning.

        It has fewer corners than that whose square kilometres are told, and may be invalid.

        Parameters
        ----------
        share
            (E,) from 0 to 1.
        place
            Always within the area.
        """
        share = np.round(share, 6)  # so that sums in another order are the same
        key = share.tobytes() + shapely.to_wkb(place)
        if key not in self.known:
            is_whole = np.zeros(len(self.streets), dtype=np.bool_)
            is_whole[self.rank[self.street_of[share >= 1]]] = True
            begun = (share > 0) & ~is_whole[self.rank[self.street_of]]
            parts = [place, *self._begun(share, np.flatnonzero(begun))]
            rim = self._around(np.array(parts))
            count = np.concatenate([[0], np.cumsum(is_whole)])
            area = shapely.union_all([*rim, *self._parts(count, 0, len(is_whole))])
            tolerance = _SIMPLIFY * self.buffer_m
            fewer = shapely.simplify(area, tolerance, preserve_topology=False)  # much faster
            self.known[key] = (fewer, float(area.area) / 1e6)
        return self.known[key]

    def _around(self, lines: Any) -> Any:
        """Return the margins of lines."""
        plain = shapely.simplify(lines, _STRAIGHTEN * self.buffer_m)
        return shapely.buffer(plain, self.buffer_m, quad_segs=_CORNERS)

    def _begun(self, share: Values, positions: IntArray) -> list[shapely.Geometry]:
        """Return the beginnings of lines."""
        return [substring(self.lines[i], 0.0, share[i], normalized=True) for i in positions]

    def _parts(self, count: IntArray, start: int, end: int) -> list[shapely.Geometry]:
        """Return areas that make up that of the streets from one rank to another."""
        n = count[end] - count[start]
        if n == end - start:
            return [self._joined(start, end)] if n else []
        if n == 0:
            return []
        if end - start <= _LEAF:
            return [self._joined(i, i + 1) for i in range(start, end) if count[i + 1] > count[i]]
        middle = (start + end) // 2
        return [*self._parts(count, start, middle), *self._parts(count, middle, end)]

    def _joined(self, start: int, end: int) -> shapely.Geometry:
        """Return the area of all streets from one rank to another."""
        if (start, end) not in self.whole:
            if end - start <= _LEAF:
                parts = list(self._around(self.streets[start:end]))
            else:
                middle = (start + end) // 2
                parts = [self._joined(start, middle), self._joined(middle, end)]
            self.whole[start, end] = shapely.union_all(parts)
        return self.whole[start, end]


def same_lines(lines: Any) -> tuple[IntArray, IntArray]:
    """Return the first line of each street, and the street of each; both directions are one."""
    keys = shapely.to_wkb(shapely.normalize(lines))
    _, first, street_of = np.unique(keys, return_index=True, return_inverse=True)
    return first, street_of


def polygons(shapes: Iterable[shapely.Geometry]) -> list[shapely.MultiPolygon]:
    """Return shapes as valid polygons, without points and lines that they may have become."""
    found = []
    for shape in shapely.make_valid(np.array(list(shapes), dtype=object)):
        parts = shapely.get_parts(shapely.get_parts(shape))  # polygons may be in a collection
        found.append(shapely.MultiPolygon([part for part in parts if part.area > 0]))
    return found
