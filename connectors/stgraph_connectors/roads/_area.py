"""The part of a map that is asked for: a box, or a boundary from a layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from stgraph.graph import BoolArray
from stgraph.report import Report
from stgraph_connectors._tables import read_table

Float64Array = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]  # west, south, east, north in degrees

_AROUND_DEGREES = 0.01  # about 1 km: roads so near decide what is a junction inside


@dataclass(frozen=True, eq=False)
class Area:
    """A polygon in degrees."""

    polygon: BaseGeometry

    @property
    def near(self) -> Box:
        """The box around the polygon and what is near it."""
        west, south, east, north = self.polygon.bounds
        return (
            west - _AROUND_DEGREES,
            south - _AROUND_DEGREES,
            east + _AROUND_DEGREES,
            north + _AROUND_DEGREES,
        )

    def holds(self, xy: Float64Array) -> BoolArray:
        """Return which of (N, 2) longitudes and latitudes lie inside or on the border."""
        west, south, east, north = self.polygon.bounds
        x, y = xy.T
        inside: BoolArray = (west <= x) & (x <= east) & (south <= y) & (y <= north)
        shapely.prepare(self.polygon)
        inside[inside] = shapely.intersects_xy(self.polygon, xy[inside])
        return inside


def read_area(
    bbox: Box | None, boundary: str | Path | gpd.GeoDataFrame | None, report: Report
) -> Area | None:
    """Return the area of the options `bbox` and `boundary`, None for everything."""
    if bbox is not None and boundary is not None:
        report.error("`bbox` and `boundary`", "are both given", "give one of them")
        return None
    if bbox is not None:
        return _from_box(bbox, report)
    return None if boundary is None else _from_layer(boundary, report)


def _from_box(bbox: Box, report: Report) -> Area | None:
    numbers = np.asarray(bbox, dtype=object)
    todo = "give (west, south, east, north) in degrees, such as (8.66, 49.39, 8.72, 49.43)"
    if numbers.shape != (4,) or not all(isinstance(n, int | float | np.number) for n in numbers):
        report.error("`bbox`", f"is {bbox!r}", todo)
        return None
    west, south, east, north = (float(number) for number in bbox)
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        report.error("`bbox`", f"is {tuple(bbox)}, which is no area in degrees", todo)
        return None
    return Area(shapely.box(west, south, east, north))


def _from_layer(boundary: str | Path | gpd.GeoDataFrame, report: Report) -> Area | None:
    table = read_table(boundary, report, role="boundary", text=None)
    if table is None:
        return None
    column = table.frame.get("geometry")
    if column is None or not isinstance(column.dtype, gpd.array.GeometryDtype):
        report.error(table.name, "has no geometry", "give a layer of polygons")
        return None
    shapes = gpd.GeoSeries(column)
    if shapes.crs is None:
        report.error(table.name, "has no CRS", "set it with boundary.set_crs('EPSG:4326')")
        return None
    if shapes.crs.geodetic_crs is None:
        what = f"is in {shapes.crs.name}, which is nowhere on Earth"
        report.error(table.name, what, "give a layer in degrees or on a plane with a projection")
        return None
    valid = shapely.make_valid(shapes.to_crs("EPSG:4326").to_numpy())
    parts = shapely.get_parts(valid)
    polygon = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    if polygon.is_empty:
        report.error(table.name, "has no polygon", "give a layer of polygons")
        return None
    return Area(polygon)
