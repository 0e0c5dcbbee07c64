"""Cells over an area: squares at multiples of their size, H3 hexagons, or given polygons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.report import Report
from stgraph_connectors._ids import ID_NAMES, clean_ids, guess_column, require_column, shorten
from stgraph_connectors._tables import Table
from stgraph_connectors.grids._boundary import Boundary

Int64Array = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_BLOCK = 200_000  # candidates looked at together
_NO_SHARE = 1e-9  # a cell with less of its area inside only touches the boundary
_WIDE_DEGREES = 9.0  # from the middle of a UTM zone; squares are 1 % off there


class Cells(Protocol):
    """Cells as nodes, and which of them a point lies in."""

    @property
    def nodes(self) -> gpd.GeoDataFrame:
        """One row a cell, indexed by its id."""

    @property
    def notes(self) -> dict[str, Any]:
        """What to keep in the provenance."""

    @property
    def clipped(self) -> bool:
        """Tell whether cells were cut to the boundary."""

    def find(self, x: Floats, y: Floats) -> Int64Array:
        """Return the position of the cell of every point in the CRS of the nodes, -1 outside."""


@dataclass(frozen=True)
class CellOptions:
    """Which cells of those that meet the boundary are kept."""

    clip: bool = False  # cut cells to the boundary
    min_share: float = 0.0  # smallest share of a cell's area inside
    max_cells: int = 2_000_000


def too_many(n_cells: float, what: str, options: CellOptions, todo: str, report: Report) -> bool:
    """Refuse more cells than allowed, before any of them is made."""
    if n_cells <= options.max_cells:
        return False
    report.error(
        "`max_cells`",
        f"{what} would make about {n_cells:,.0f} cells, {options.max_cells:,} are allowed",
        f"{todo}, or pass max_cells={int(n_cells * 1.1) + 1}",
    )
    return True


# ---------------------------------------------------------------- squares


@dataclass(frozen=True)
class Squares:
    """Squares in a plane; cell (r, c) covers x from c to c + 1 and y from r to r + 1 times size."""

    nodes: gpd.GeoDataFrame
    size_m: float
    clipped: bool = False

    @property
    def notes(self) -> dict[str, Any]:
        """What to keep in the provenance."""
        crs = cast("pyproj.CRS", self.nodes.crs)
        epsg = crs.to_epsg()
        name = crs.to_wkt() if epsg is None else f"EPSG:{epsg}"
        return {"cell": "square", "size_m": self.size_m, "grid_crs": name}

    def find(self, x: Floats, y: Floats) -> Int64Array:
        """Return the position of the square of every point, -1 outside."""
        known = np.isfinite(x) & np.isfinite(y)
        found = np.full(len(x), -1, dtype=np.int64)
        row = np.floor(y[known] / self._unit).astype(np.int64)
        column = np.floor(x[known] / self._unit).astype(np.int64)
        cells = pd.MultiIndex.from_frame(pd.DataFrame(self.nodes[["row", "column"]]))
        found[known] = cells.get_indexer(pd.MultiIndex.from_arrays([row, column]))
        return found

    @property
    def _unit(self) -> float:
        """Size in units of the CRS."""
        return self.size_m / cast("pyproj.CRS", self.nodes.crs).axis_info[0].unit_conversion_factor


def make_squares(
    boundary: Boundary,
    size_m: float,
    grid_crs: pyproj.CRS | None,
    options: CellOptions,
    report: Report,
) -> Squares | None:
    """Return the squares that meet a boundary, in a given plane or the local UTM zone."""
    crs = grid_crs or _local_plane(boundary, report)
    if crs is None:
        return None
    unit = size_m / crs.axis_info[0].unit_conversion_factor
    area = boundary.area(crs)
    if not np.isfinite(area.bounds).all() or area.area <= 0:
        what = f"the boundary cannot be drawn in {crs.name}"
        report.error("`grid_crs`", what, "name a plane for this region with grid_crs=")
        return None
    west, south, east, north = area.bounds
    if unit > east - west and unit > north - south:
        width, height = (side * size_m / unit for side in (east - west, north - south))
        what = f"{size_m:g} m is larger than the boundary of {width:,.0f} m x {height:,.0f} m"
        report.error("`size_m`", what, "use smaller squares")
        return None
    what = f"squares of {size_m:g} m over {boundary.area_m2() / 1e6:,.0f} km²"
    todo = "use larger squares or a smaller boundary"
    if too_many(area.area / unit**2, what, options, todo, report):
        return None
    rows = int(np.floor(south / unit)), int(np.ceil(north / unit))
    row, column, share = _inside(area, rows, unit, options)
    if too_many(len(row), what, options, todo, report):
        return None
    if not len(row):
        report.error("`min_share`", "no cell has so much of it inside", "use a smaller share")
        return None
    boxes = shapely.box(column * unit, row * unit, (column + 1) * unit, (row + 1) * unit)
    ids = np.char.add(np.char.add(row.astype(str), "_"), column.astype(str)).astype(object)
    table = {"row": row, "column": column, "share_inside": share, "kind": "cell"}
    nodes = gpd.GeoDataFrame(table, index=pd.Index(ids, name="cell_id"), geometry=boxes, crs=crs)
    return Squares(_finish(nodes, area, options), size_m, options.clip)


def _local_plane(boundary: Boundary, report: Report) -> pyproj.CRS | None:
    """Return the UTM zone of the middle of a boundary, or note that there is none."""
    try:
        crs = boundary.zones.estimate_utm_crs()
    except RuntimeError:
        todo = "name a plane, such as grid_crs=3413 in the north or 3031 in the south"
        report.error("`grid_crs`", "there is no UTM zone so near to a pole", todo)
        return None
    geodetic = cast("pyproj.CRS", boundary.crs.geodetic_crs)
    degrees = boundary.zones if boundary.crs.is_geographic else boundary.zones.to_crs(geodetic)
    west, _, east, _ = degrees.total_bounds
    where, what = "`grid_crs`", f"squares are laid out in {crs.name}"
    if (east - west) / 2 > _WIDE_DEGREES:
        todo = "the boundary is so wide that squares are more than 1 % off; name grid_crs="
        report.warning(where, what, todo)
    else:
        report.info(where, what, "another zone gives other ids; name grid_crs= to keep them")
    return crs


def _inside(
    area: Any, rows: tuple[int, int], unit: float, options: CellOptions
) -> tuple[Int64Array, Int64Array, Floats]:
    """Return row, column and share inside of the squares that meet an area, strip by strip.

    It stops where more squares were found than are allowed.
    """
    west, _, east, _ = area.bounds
    at_once = max(1, int(_BLOCK * unit // (east - west)))
    found: list[tuple[Int64Array, Int64Array, Floats]] = []
    n_found = 0
    for start in range(rows[0], rows[1], at_once):
        stop = min(start + at_once, rows[1])
        part = shapely.intersection(area, shapely.box(west, start * unit, east, stop * unit))
        if shapely.area(part) == 0 or n_found > options.max_cells:
            continue
        low, _, high, _ = part.bounds
        columns = np.arange(int(np.floor(low / unit)), int(np.ceil(high / unit)))
        row = np.repeat(np.arange(start, stop), len(columns))
        column = np.tile(columns, stop - start)
        boxes = shapely.box(column * unit, row * unit, (column + 1) * unit, (row + 1) * unit)
        shapely.prepare(part)
        share = share_inside(boxes, part)
        kept = (share > _NO_SHARE) & (share >= options.min_share)
        found.append((row[kept], column[kept], share[kept]))
        n_found += int(kept.sum())
    none = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    row, column, share = (np.concatenate(parts) for parts in zip(none, *found, strict=True))
    return row, column, share


def share_inside(shapes: npt.NDArray[np.object_], area: Any) -> Floats:
    """Return the share of each shape's area that lies inside a prepared area, on the plane."""
    share = np.asarray(shapely.covers(area, shapes), dtype=np.float64)
    meets = np.flatnonzero((share == 0) & shapely.intersects(area, shapes))
    if len(meets):
        part = shapely.area(shapely.intersection(area, shapes[meets]))
        share[meets] = np.minimum(part / shapely.area(shapes[meets]), 1.0)
    return share


def _finish(nodes: gpd.GeoDataFrame, area: Any, options: CellOptions) -> gpd.GeoDataFrame:
    """Return the cells, cut to the boundary if that was asked for."""
    if not options.clip:
        return nodes
    shapes = np.asarray(nodes.geometry, dtype=object).copy()
    border = np.flatnonzero(nodes["share_inside"].to_numpy() < 1)
    shapes[border] = shapely.intersection(area, shapes[border])
    parts = ~np.isin(shapely.get_type_id(shapes), (3, 6))
    shapes[parts] = shapely.buffer(shapes[parts], 0)  # a border may run along a side
    return nodes.set_geometry(gpd.GeoSeries(shapes, index=nodes.index, crs=nodes.crs))


def find_inside(cells: Cells, x: Floats, y: Floats) -> Int64Array:
    """Return the position of the cell of every point, -1 outside, also of what was cut off."""
    found = cells.find(x, y)
    if not cells.clipped or len(found) == 0:
        return found
    shapes = np.asarray(cells.nodes.geometry, dtype=object)
    cut = cells.nodes["share_inside"].to_numpy() < 1
    asked = np.flatnonzero((found >= 0) & cut[found])
    inside = np.zeros(len(asked), dtype=bool)
    is_geographic = cast("pyproj.CRS", cells.nodes.crs).is_geographic
    for turn in (0.0, -360.0, 360.0) if is_geographic else (0.0,):
        inside |= shapely.intersects_xy(shapes[found[asked]], x[asked] + turn, y[asked])
    found[asked[~inside]] = -1
    return found


# ---------------------------------------------------------------- hexagons


@dataclass(frozen=True)
class Hexagons:
    """H3 cells of one resolution, in degrees."""

    nodes: gpd.GeoDataFrame
    resolution: int
    clipped: bool = False

    @property
    def notes(self) -> dict[str, Any]:
        """What to keep in the provenance."""
        return {"cell": "hexagon", "resolution": self.resolution}

    def find(self, x: Floats, y: Floats) -> Int64Array:
        """Return the position of the hexagon of every point, -1 outside."""
        from h3.api import basic_int as h3

        known = np.isfinite(x) & np.isfinite(y) & (np.abs(y) <= 90) & (np.abs(x) <= 540)
        found = np.full(len(x), -1, dtype=np.int64)
        places = zip(y[known].tolist(), x[known].tolist(), strict=True)
        cells = [h3.latlng_to_cell(lat, lon, self.resolution) for lat, lon in places]
        own = pd.Index(np.array([int(cell, 16) for cell in self.nodes.index], dtype=np.uint64))
        found[known] = own.get_indexer(pd.Index(np.array(cells, dtype=np.uint64)))
        return found


def make_hexagons(
    boundary: Boundary, resolution: int, options: CellOptions, report: Report
) -> Hexagons | None:
    """Return the H3 cells that meet a boundary."""
    from h3.api import basic_int as h3

    cell_m2 = h3.average_hexagon_area(resolution, "m^2")
    area_m2 = boundary.area_m2()
    what = f"hexagons of resolution {resolution} over {area_m2 / 1e6:,.0f} km²"
    todo = "use a lower resolution or a smaller boundary"
    if too_many(area_m2 / cell_m2, what, options, todo, report):
        return None
    area = boundary.area(pyproj.CRS(4326))
    cells = sorted(_covering(area, resolution))
    shapely.prepare(area)
    shapes, share = _beside(_outlines(cells, resolution), area)
    ids = [h3.int_to_str(cell) for cell in cells]
    table = {"share_inside": share, "kind": "cell"}
    nodes = gpd.GeoDataFrame(
        table, index=pd.Index(ids, name="cell_id", dtype=object), geometry=shapes, crs=4326
    )
    nodes = nodes[(share > _NO_SHARE) & (share >= options.min_share)]
    if too_many(len(nodes), what, options, todo, report):
        return None
    if not len(nodes):
        report.error("`min_share`", "no cell has so much of it inside", "use a smaller share")
        return None
    return Hexagons(_finish(nodes, area, options), resolution, options.clip)


def _covering(area: Any, resolution: int) -> set[int]:
    """Return the H3 cells that meet an area in degrees, also beyond the antimeridian."""
    from h3.api import basic_int as h3

    cells: set[int] = set()
    for turn in (-360, 0, 360):
        part = shapely.intersection(area, shapely.box(-180 + turn, -90, 180 + turn, 90))
        # H3 takes a shape wider than half the globe for one over the antimeridian
        for west in range(-180, 180, 120):
            third = shapely.box(west + turn, -90, west + 120 + turn, 90)
            for shape in shapely.get_parts(shapely.intersection(part, third)):
                if shapely.area(shape) > 0:
                    polygon = h3.geo_to_h3shape(_shifted(shape, -turn))
                    found = h3.h3shape_to_cells_experimental(polygon, resolution, "overlap")
                    cells.update(found)
    return cells


def _shifted(shape: Any, degrees: float) -> Any:
    """Return a shape moved along the equator."""
    return shapely.transform(shape, lambda xy: xy + np.array([degrees, 0.0])) if degrees else shape


def _beside(shapes: npt.NDArray[np.object_], area: Any) -> tuple[npt.NDArray[np.object_], Floats]:
    """Return the cells on the side of the antimeridian where the area is, and their share in it."""
    west, _, east, _ = area.bounds
    bounds, share, shapes = shapely.bounds(shapes), share_inside(shapes, area), shapes.copy()
    for turn in (-360.0, 360.0):
        near = np.flatnonzero((bounds[:, 2] + turn >= west) & (bounds[:, 0] + turn <= east))
        if len(near):
            moved = np.array([_shifted(shape, turn) for shape in shapes[near]], dtype=object)
            there = share_inside(moved, area)
            better = there > share[near]
            shapes[near[better]], share[near[better]] = moved[better], there[better]
    return shapes, share


def _outlines(cells: list[int], resolution: int) -> npt.NDArray[np.object_]:
    """Return the outlines of H3 cells in degrees; over the antimeridian they go on beyond 180."""
    from h3.api import basic_int as h3

    corners = [h3.cell_to_boundary(cell) for cell in cells]
    counts = np.fromiter(map(len, corners), dtype=np.int64, count=len(corners))
    flat = np.array([place for outline in corners for place in outline], dtype=np.float64)
    lat, lon = flat.reshape(-1, 2).T
    cell = np.repeat(np.arange(len(cells)), counts)
    low, high = (np.full(len(cells), fill) for fill in (np.inf, -np.inf))
    np.minimum.at(low, cell, lon)
    np.maximum.at(high, cell, lon)
    lon = np.where((high - low > 180)[cell] & (lon < 0), lon + 360, lon)
    rings = shapely.linearrings(np.column_stack([lon, lat]), indices=cell)
    shapes = np.asarray(shapely.polygons(rings), dtype=object)
    for pole in (90.0, -90.0):
        at_pole = h3.latlng_to_cell(pole, 0.0, resolution)
        if at_pole in cells:
            shapes[cells.index(at_pole)] = _cap(h3.cell_to_boundary(at_pole), pole)
    return shapes


def _cap(outline: Any, pole: float) -> Any:
    """Return the cell around a pole: from its corners, by longitude, up to the pole."""
    corners = sorted((lon, lat) for lat, lon in outline)
    edge = corners[0][0] + 360 - corners[-1][0]
    share = (180 - corners[-1][0]) / edge
    lat = corners[-1][1] + share * (corners[0][1] - corners[-1][1])
    return shapely.Polygon([(-180, lat), *corners, (180, lat), (180, pole), (-180, pole)])


# ---------------------------------------------------------------- polygons as they are


@dataclass(frozen=True)
class Zones:
    """Polygons that somebody drew: districts, zones of a model."""

    nodes: gpd.GeoDataFrame
    clipped: bool = False

    @property
    def notes(self) -> dict[str, Any]:
        """What to keep in the provenance."""
        return {"cell": "polygon"}

    def find(self, x: Floats, y: Floats) -> Int64Array:
        """Return the position of the first polygon that a point lies in, -1 outside."""
        found = np.full(len(x), -1, dtype=np.int64)
        known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        tree = shapely.STRtree(np.asarray(self.nodes.geometry, dtype=object))
        for start in range(0, len(known), _BLOCK):
            part = known[start : start + _BLOCK]
            place, cell = tree.query(shapely.points(x[part], y[part]), predicate="intersects")
            order = np.lexsort((cell, place))
            place, first = np.unique(place[order], return_index=True)
            found[part[place]] = cell[order][first]
        return found


def take_polygons(
    boundary: Boundary, id_column: str | None, options: CellOptions, report: Report
) -> Zones | None:
    """Return the polygons of a layer as cells, with all their attributes."""
    zones = boundary.zones
    what = "the layer"
    if too_many(len(zones), what, options, "merge some", report):
        return None
    columns = [name for name in zones.columns if name != "geometry"]
    table = Table(pd.DataFrame(zones), boundary.name)
    found: Any = None
    if id_column is not None:
        found = require_column(id_column, columns, table=table, option="id_column", report=report)
        if found is None:
            return None
    else:
        found = guess_column(
            columns, {*ID_NAMES, "zone_id", "zone", "code", "cell_id"}, table=table,
            option="id_column", report=report, required=False,
        )  # fmt: skip
    if report.errors:
        return None
    labels = zones.index if found is None else zones[found]
    ids = pd.Index(clean_ids(labels), name="cell_id" if found is None else str(found))
    if found is None:
        report.info(boundary.name, "no column of ids", "the row labels serve; see id_column=")
    twice = ids[ids.duplicated()]
    if len(twice) or (ids == "").any():
        what = (
            f"{len(twice)} polygons have an id that another one has: {shorten(twice.unique(), 5)}"
        )
        what = what if len(twice) else f"{int((ids == '').sum())} polygons have no id"
        report.error(boundary.name, what, "name another column with id_column=, or dissolve them")
        return None
    if "kind" in columns and found != "kind":
        zones = zones.rename(columns={"kind": "source_kind"})
    rest = zones.drop(columns=[] if found is None else [found])
    return Zones(rest.set_axis(ids, axis=0).assign(kind="cell"))
