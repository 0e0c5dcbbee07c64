"""The area that cells are to cover, from a file, text, four numbers or a frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.report import Report
from stgraph_connectors._coordinates import parse_crs
from stgraph_connectors._tables import read_table

_WKT = re.compile(
    r"\s*(?:SRID=(?P<srid>\d+);)?\s*(?:MULTI)?(?:POLYGON|GEOMETRYCOLLECTION)\b", re.IGNORECASE
)
_WHERE = "`boundary`"


@dataclass(frozen=True)
class Boundary:
    """Polygons that say where cells are wanted; each may be a zone of its own."""

    zones: gpd.GeoDataFrame  # valid polygons with a CRS; attributes as the source has them
    name: str  # of the source, for messages and provenance

    @property
    def crs(self) -> pyproj.CRS:
        """CRS of the zones."""
        return cast("pyproj.CRS", self.zones.crs)

    def area(self, crs: pyproj.CRS) -> Any:
        """Return all of it as one (multi)polygon in a CRS."""
        shapes = self.zones.geometry
        if not crs.equals(self.crs):
            shapes = _densified(shapes).to_crs(crs)
        return shapely.union_all(np.asarray(shapes, dtype=object))

    def area_m2(self) -> float:
        """Return the area on the ellipsoid in square metres."""
        geodetic = cast("pyproj.CRS", self.crs.geodetic_crs)
        degrees = (
            self.zones.geometry if self.crs.is_geographic else self.zones.to_crs(geodetic).geometry
        )
        geod = geodetic.get_geod() or pyproj.Geod(ellps="WGS84")
        return sum(abs(geod.geometry_area_perimeter(shape)[0]) for shape in degrees)


def read_boundary(
    source: object, *, layer: str | None, crs: str | int | None, report: Report
) -> Boundary | None:
    """Return the boundary, or None when it cannot be used, which `report` then says.

    Parameters
    ----------
    source
        Path of a layer, well-known text, ``(west, south, east, north)``, a shape or a frame.
    layer
        Layer of a GeoPackage.
    crs
        CRS of a source that names none; None is degrees for text, numbers and shapes.
    report
        Takes the findings.
    """
    system = parse_crs(crs, report)
    if crs is not None and system is None:
        return None
    if isinstance(source, str | Path) and not is_wkt(source):
        table = read_table(source, report, role="boundary", text=None, layer=layer)
        return None if table is None else _from_frame(table.frame, table.name, system, report)
    if isinstance(source, pd.DataFrame | gpd.GeoSeries):
        frame = source.to_frame("geometry") if isinstance(source, gpd.GeoSeries) else source
        if isinstance(frame, gpd.GeoDataFrame) and frame.active_geometry_name not in (
            None,
            "geometry",
        ):
            frame = frame.rename_geometry("geometry")
        return _from_frame(frame, _WHERE, system, report)
    shape, own = _to_shape(source, report)
    if shape is None:
        return None
    if own is not None and system is None:
        system = own
    frame = gpd.GeoDataFrame(geometry=[shape], crs=system or pyproj.CRS(4326))
    return _check(frame, _WHERE, report)


def is_wkt(source: object) -> bool:
    """Tell whether a text, or the last part of a path made of it, is well-known text."""
    return _WKT.match(Path(str(source)).name) is not None


def _to_shape(source: object, report: Report) -> tuple[Any, pyproj.CRS | None]:
    """Return text, numbers or a shape as a polygon, and the CRS that the text names."""
    if isinstance(source, str | Path):
        text = Path(source).name
        srid = cast("re.Match[str]", _WKT.match(text))["srid"]
        try:
            shape = shapely.from_wkt(text.split(";", 1)[-1])
        except shapely.errors.GEOSException as error:
            report.error(_WHERE, f"cannot be read as well-known text ({error})", "check brackets")
            return None, None
        return shape, None if srid is None else parse_crs(int(srid), report)
    if isinstance(source, shapely.Geometry):
        return source, None
    if isinstance(source, Sequence | np.ndarray):
        return _box(source, report), None
    what = f"is a {type(source).__name__}"
    report.error(
        _WHERE, what, "pass a file, well-known text, [west, south, east, north] or a frame"
    )
    return None, None


def _box(numbers: Any, report: Report) -> Any:
    """Return four numbers as a box; west above east goes over the antimeridian."""
    try:
        bounds = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError):
        bounds = np.zeros(0)
    if bounds.shape != (4,) or not np.isfinite(bounds).all():
        todo = "give four numbers: [west, south, east, north]"
        report.error(_WHERE, f"{list(numbers)!r} is no box", todo)
        return None
    west, south, east, north = (float(number) for number in bounds)
    if south > north:
        todo = "the order is [west, south, east, north]"
        report.error(_WHERE, f"south {south:g} is above north {north:g}", todo)
        return None
    if west > east and -180 <= east < west <= 180:
        report.info(
            _WHERE, f"west {west:g} is above east {east:g}", "it goes over the antimeridian"
        )
        east += 360
    return shapely.box(west, south, east, north)


def _from_frame(
    frame: pd.DataFrame, name: str, system: pyproj.CRS | None, report: Report
) -> Boundary | None:
    """Return the polygons of a layer."""
    if "geometry" not in frame or not isinstance(frame["geometry"].dtype, gpd.array.GeometryDtype):
        what = f"holds no geometry; columns are {[str(column) for column in frame.columns][:8]}"
        report.error(name, what, "pass a layer of polygons")
        return None
    shapes = gpd.GeoSeries(frame["geometry"])
    if shapes.crs is None and system is None:
        report.error(name, "the boundary names no CRS", "say which with crs=, such as crs=4326")
        return None
    if shapes.crs is not None and system is not None and shapes.crs != system:
        what = f"the boundary is in {shapes.crs.name} but crs= says {system.name}"
        report.error(name, what, "leave crs= out; squares are laid out in grid_crs=")
        return None
    zones = gpd.GeoDataFrame(frame.drop(columns="geometry"), geometry=shapes)
    return _check(
        zones if shapes.crs is not None or system is None else zones.set_crs(system), name, report
    )


def _check(zones: gpd.GeoDataFrame, name: str, report: Report) -> Boundary | None:
    """Repair polygons, drop those without area, and note what is none."""
    shapes = np.asarray(zones.geometry, dtype=object)
    there = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    if not there.all():
        count = int((~there).sum())
        report.warning(name, f"{count} rows have no geometry", "they were dropped", count=count)
        zones, shapes = zones[there], shapes[there]
    if len(zones) == 0:
        report.error(name, "the boundary is empty", "pass at least one polygon")
        return None
    finite = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    if not finite.all():
        report.error(name, "the boundary has coordinates that are no numbers", "repair the layer")
        return None
    flat = np.asarray(shapely.get_dimensions(shapes) < 2)
    if flat.all():
        kinds = sorted({str(shape.geom_type) for shape in shapes})
        report.error(name, f"holds no polygons but {kinds}", "pass polygons; buffer() makes some")
        return None
    shapes = shapely.force_2d(shapes)
    invalid = ~shapely.is_valid(shapes)
    if invalid.any():
        count, reason = int(invalid.sum()), shapely.is_valid_reason(shapes[invalid][0])
        what = f"{count} polygons are not valid: {reason}"
        report.warning(name, what, "they were repaired with make_valid", count=count)
        shapes[invalid] = shapely.make_valid(shapes[invalid])
    shapes = _polygons_only(shapes)
    empty = shapely.area(shapes) <= 0
    if empty.all():
        report.error(name, "the boundary has an area of 0", "check its coordinates")
        return None
    if empty.any():
        count = int(empty.sum())
        report.warning(name, f"{count} shapes have no area", "they were dropped", count=count)
    zones = zones[~empty].set_geometry(
        gpd.GeoSeries(shapes[~empty], zones.index[~empty], crs=zones.crs)
    )
    return _check_degrees(Boundary(zones, name), report)


def _check_degrees(boundary: Boundary, report: Report) -> Boundary | None:
    """Note bounds that cannot be degrees, or cannot be metres."""
    west, south, east, north = (float(bound) for bound in boundary.zones.total_bounds)
    shown = f"({west:g}, {south:g}, {east:g}, {north:g})"
    if boundary.crs.is_geographic and (west < -360 or east > 540 or south < -90 or north > 90):
        swapped = max(abs(west), abs(east)) <= 90 and max(abs(south), abs(north)) <= 360
        what = f"bounds {shown} are no degrees of {boundary.crs.name}"
        todo = (
            "latitude and longitude look swapped: the order is longitude, latitude"
            if swapped
            else "say the CRS with crs=, such as crs=25832"
        )
        report.error(boundary.name, what, todo)
        return None
    if not boundary.crs.is_geographic and max(map(abs, (west, south, east, north))) <= 360:
        what = f"bounds {shown} look like degrees, but {boundary.crs.name} is in metres"
        report.warning(boundary.name, what, "pass crs=4326 if they are longitude and latitude")
    return boundary


def _polygons_only(shapes: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return shapes without the lines and points that repairing may leave."""
    mixed = np.flatnonzero(~np.isin(shapely.get_type_id(shapes), (3, 6)))
    for position in mixed:
        parts = shapely.get_parts(shapes[position])
        parts = shapely.get_parts(parts)  # collections of multipolygons
        shapes[position] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    return shapes


def _densified(shapes: gpd.GeoSeries) -> gpd.GeoSeries:
    """Return shapes whose long sides have points in between, as they bend in another CRS."""
    west, south, east, north = shapes.total_bounds
    longest = max(east - west, north - south) / 50
    return shapes.segmentize(longest) if longest > 0 else shapes
