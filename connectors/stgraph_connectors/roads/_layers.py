"""Read a layer of lines: one part a row, with a CRS, and nothing in it that is no line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph_connectors._coordinates import parse_crs
from stgraph_connectors._ids import shorten
from stgraph_connectors._tables import Table, check_path, plain_suffix, read_table

SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".geoparquet")

_LAYERED = (".gpkg", ".geojson", ".json", ".shp", ".fgb")
_LINE, _LINES, _COLLECTION = 1, 5, 7  # type numbers of shapely


class LineLayer:
    """Lines of a layer, their attributes, and where each came from."""

    def __init__(
        self, table: Table, rows: IntArray, lines: npt.NDArray[np.object_], crs: pyproj.CRS
    ) -> None:
        self.name = table.name
        self.table = table  # all rows of the source
        self.rows = rows  # (L,) row of each line
        self.lines = lines  # (L,) LineStrings without heights
        self.crs = crs

    @property
    def part(self) -> IntArray:
        """Number of each line among those of its row, from 0."""
        return np.asarray(pd.Series(self.rows).groupby(self.rows).cumcount(), dtype=np.int64)


def read_layer(
    source: str | Path | gpd.GeoDataFrame,
    *,
    layer: str | None,
    crs: str | int | None,
    report: Report,
) -> LineLayer | None:
    """Read a layer of lines from a file or frame; None if it cannot be used."""
    system = parse_crs(crs, report)
    if isinstance(source, str | Path):
        path = check_path(source, report, role="lines", suffixes=SUFFIXES)
        if path is None:
            return None
        if layer is not None and plain_suffix(path) not in _LAYERED:
            report.warning(path.name, f"is a single table, not {layer!r}", "layer= was not used")
            layer = None
    elif isinstance(source, gpd.GeoSeries):
        source = gpd.GeoDataFrame(geometry=source)
    elif layer is not None:
        report.warning("`lines`", f"is a single table, not {layer!r}", "layer= was not used")
        layer = None
    table = read_table(source, report, role="lines", text=None, layer=layer)
    return None if table is None else clean_layer(table, system, report)


def clean_layer(table: Table, system: pyproj.CRS | None, report: Report) -> LineLayer | None:
    """Return what of a table can be roads, or note why nothing can."""
    column = table.frame.get("geometry")
    if column is None or not isinstance(column.dtype, gpd.array.GeometryDtype):
        what = f"has no geometry; columns are {shorten(table.frame.columns)}"
        report.error(table.name, what, "give a layer of lines")
        return None
    shapes = np.asarray(column, dtype=object)
    crs = _settle_crs(gpd.GeoSeries(column).crs, system, shapes, table.name, report)
    lines, rows = _take_lines(shapes, table, report)
    if crs is None or lines is None:
        return None
    lines, rows = _drop_unusable(lines, rows, table, report)
    if not len(lines):
        if not report.errors:
            report.error(table.name, "no line is left", "look at the layer in QGIS")
        return None
    _check_places(lines, rows, crs, table, report)
    lines, rows = _drop_copies(lines, rows, table, report)
    return LineLayer(table, rows, lines, crs)


def _settle_crs(
    own: pyproj.CRS | None,
    given: pyproj.CRS | None,
    shapes: npt.NDArray[np.object_],
    name: str,
    report: Report,
) -> pyproj.CRS | None:
    """Return the CRS of a layer, or note that it names none or another one than is given."""
    if own is None and given is None:
        if any(finding.where == "`crs`" for finding in report.errors):
            return None
        bounds = shapely.total_bounds(shapes)
        in_degrees = bool((np.abs(bounds) <= [180, 90, 180, 90]).all())
        hint = "crs=4326, as these look like degrees" if in_degrees else "crs='EPSG:25832'"
        report.error(name, "the layer names no CRS", f"say which, such as {hint}")
        return None
    if own is not None and given is not None and own != given:
        what = f"the layer is in {own.name} but crs= says {given.name}"
        report.error(name, what, "leave crs= out; to reproject call to_crs() on the layer")
        return None
    return own or given


def _take_lines(
    shapes: npt.NDArray[np.object_], table: Table, report: Report
) -> tuple[npt.NDArray[np.object_] | None, IntArray]:
    """Return the lines of all rows one by one, and the row of each."""
    kind = shapely.get_type_id(shapes)
    empty = (kind < 0) | shapely.is_empty(shapes)
    if empty.any():
        first, count = int(np.argmax(empty)), int(empty.sum())
        report.warning(
            table.at(first), f"{count} rows have no geometry", "they are left out", count=count
        )
    parts, rows = shapely.get_parts(shapes[~empty], return_index=True)
    rows = np.flatnonzero(~empty)[rows]
    while (shapely.get_type_id(parts) >= _LINES - 1).any():  # collections may hold collections
        parts, inner = shapely.get_parts(parts, return_index=True)
        rows = rows[inner]
    parts_kind = shapely.get_type_id(parts)
    is_line = (parts_kind == _LINE) | (parts_kind == 2)  # a LinearRing is a line, too
    if len(parts) and not is_line.any():
        names = sorted({shape.geom_type for shape in shapes[~empty]})
        todo = "road_lines reads lines; for places that measure use the connector stations"
        report.error(table.name, f"holds no lines but {', '.join(names)}", todo)
        return None, rows
    if not is_line.all():
        count = len(np.unique(rows[~is_line]))
        names = sorted({shape.geom_type for shape in parts[~is_line]})
        what = f"{count} rows hold {', '.join(names)} among the lines"
        report.warning(table.at(int(rows[~is_line][0])), what, "these are left out", count=count)
    several = int((np.bincount(rows[is_line], minlength=1) > 1).sum())
    if several:
        what = f"{several} rows have lines of several parts"
        report.info(table.name, what, "each part is a road of its own", count=several)
    lines, rings = parts[is_line], parts_kind[is_line] == 2
    lines[rings] = [shapely.LineString(ring.coords) for ring in lines[rings]]
    return lines, rows[is_line]


def _drop_unusable(
    lines: npt.NDArray[np.object_], rows: IntArray, table: Table, report: Report
) -> tuple[npt.NDArray[np.object_], IntArray]:
    """Return lines on the plane without those that are not there or go nowhere."""
    high = shapely.has_z(lines)
    if high.any():
        count = int(high.sum())
        report.info(table.name, f"{count} lines have heights", "these are left out", count=count)
        lines = shapely.force_2d(lines)
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    broken = np.zeros(len(lines), dtype=bool)
    broken[owner[~np.isfinite(xy).all(axis=1)]] = True
    lines, rows = _drop(lines, rows, broken, "coordinates that are no numbers", table, report)
    return _drop(lines, rows, shapely.length(lines) == 0, "no length", table, report)


def _drop(
    lines: npt.NDArray[np.object_],
    rows: IntArray,
    wrong: BoolArray,
    what: str,
    table: Table,
    report: Report,
) -> tuple[npt.NDArray[np.object_], IntArray]:
    """Return the lines without the wrong ones, and note how many those are."""
    if wrong.any():
        count = int(wrong.sum())
        place = table.at(int(rows[np.argmax(wrong)]))
        report.warning(place, f"{count} lines have {what}", "they are left out", count=count)
    return lines[~wrong], rows[~wrong]


def _check_places(
    lines: npt.NDArray[np.object_],
    rows: IntArray,
    crs: pyproj.CRS,
    table: Table,
    report: Report,
) -> None:
    """Note lines that cannot be where the CRS says, and what may have happened to them."""
    if crs.is_geocentric:
        report.error(table.name, f"is in the geocentric {crs.name}", "call to_crs(4326) on it")
        return
    west, south, east, north = shapely.bounds(lines).T
    x = np.where(np.abs(west) > np.abs(east), west, east)
    y = np.where(np.abs(south) > np.abs(north), south, north)
    if not crs.is_geographic:
        if ((np.abs(x) <= 360) & (np.abs(y) <= 90)).all() and crs.is_projected:
            what = f"({x[0]:g}, {y[0]:g}) looks like degrees, but {crs.name} is in metres"
            report.error(table.name, what, "pass crs=4326 if these are longitude and latitude")
        return
    outside = (np.abs(x) > 360) | (np.abs(y) > 90)
    if outside.any():
        first, count = int(np.argmax(outside)), int(outside.sum())
        if (np.abs(x[outside]) <= 90).all() and (np.abs(y[outside]) <= 360).all():
            what, todo = "latitude and longitude look swapped", "swap them"
        else:
            what, todo = "these look like metres", "say which CRS the layer is in"
        report.error(
            table.at(int(rows[first])),
            f"latitude {y[first]:g}, longitude {x[first]:g} is outside of the globe, {what} "
            f"({count} lines)",
            todo,
            count=count,
        )
        return
    middle_x, middle_y = np.median(x), np.median(y)
    far = np.hypot(x - middle_x, y - middle_y)
    odd = (far > 5.0) & (np.hypot(y - middle_x, x - middle_y) < far / 10)
    if odd.any():
        first, count = int(np.argmax(odd)), int(odd.sum())
        what = (
            f"latitude {y[first]:g}, longitude {x[first]:g} is far from all others but would be "
            f"among them if swapped ({count} lines)"
        )
        report.warning(table.at(int(rows[first])), what, "check these lines", count=count)


def _drop_copies(
    lines: npt.NDArray[np.object_], rows: IntArray, table: Table, report: Report
) -> tuple[npt.NDArray[np.object_], IntArray]:
    """Return the lines without those that repeat another one, attributes and all."""
    shape = pd.Series(shapely.to_wkb(lines))
    repeated = shape.duplicated(keep=False).to_numpy()
    if not repeated.any():
        return lines, rows
    others: Any = table.frame.drop(columns="geometry").iloc[rows[repeated]].astype("string")
    others = others.fillna("").reset_index(drop=True).assign(_shape=shape[repeated].to_numpy())
    copies = np.zeros(len(lines), dtype=bool)
    copies[repeated] = others.duplicated().to_numpy()
    kept = int((shape[~copies].duplicated()).sum())
    if kept:
        what = f"{kept} lines lie on another one but have other attributes"
        report.warning(table.name, what, "they are kept as roads side by side", count=kept)
    return _drop(lines, rows, copies, "a copy with the same attributes", table, report)
