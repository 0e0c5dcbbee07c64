"""New roads: how they join the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from stgraph.graph import IntArray
from stgraph.neighbours._lines import measure_lines
from stgraph.report import Report
from stgraph.scenario.actions.site import Piece, Site
from stgraph.scenario.operations import MAX_VPH_PER_LANE, AddRoad
from stgraph.scenario.road_defaults import CAPACITY_PER_LANE_VPH, default_capacity
from stgraph.scenario.streets import Float64Array, Streets, fold
from stgraph.scenario.target_fields import shorten, three_nearest

_TOUCH_M = 1.0  # nearer to its end, another road is met and not crossed


def add_road(site: Site, road: AddRoad, number: int, report: Report, where: str) -> None:
    """Build a road: join its ends to the network, and make a segment for each way."""
    streets = site.streets
    line = _read_line(road, streets, report, where)
    if line is None:
        return
    _check_values(road, site, report, where)
    flat = shapely.get_coordinates(streets.to_plane(line))
    ends = [_join(site, road, flat, which, report, where) for which in (0, -1)]
    if ends[0] is None or ends[1] is None:
        return
    if ends[0] == ends[1]:
        name = _junction_name(site, ends[0])
        what = f"both ends join the same junction {name}"
        report.error(f"{where}, `geometry`", what, "lower `snap_m`, or end it elsewhere")
        return
    xy = shapely.get_coordinates(line).copy()
    places = site.junction_xy()
    xy[0], xy[-1] = places[ends[0]], places[ends[1]]
    _note_crossings(site, xy, (ends[0], ends[1]), report, where)
    _add_ways(site, road, number, xy, (ends[0], ends[1]))


def _read_line(road: AddRoad, streets: Streets, report: Report, where: str) -> Any:
    """Return the line of a road in the CRS of the network, or note why not."""
    if streets.from_degrees is None:
        report.error(
            f"{where}, `geometry`", "the roads have no place on Earth", "read them with crs="
        )
        return None
    return streets.place(shapely.force_2d(shapely.from_wkt(road.geometry)))


def _check_values(road: AddRoad, site: Site, report: Report, where: str) -> None:
    """Note names that are taken, classes nobody knows, and capacities no lane has."""
    if fold(road.id) in site.streets.names or any(
        fold(p.values.get("name", "")) == fold(road.id) for p in site.pieces
    ):
        what = f"{road.id!r} is the name of another road"
        report.error(f"{where}, `id`", what, "choose a name that is not taken")
    here = site.streets.classes
    if here and road.road_class not in here:
        known = here if road.road_class in CAPACITY_PER_LANE_VPH else [
            *here, *CAPACITY_PER_LANE_VPH
        ]  # fmt: skip
        hint = three_nearest(road.road_class, known)
        what = f"no road here is of class {road.road_class!r}"
        todo = f"nothing can be learned of it here; use one of {shorten(here)}"
        report.warning(f"{where}, `road_class`", what, f"{todo}; {hint}" if hint else todo)
    if road.capacity_vph is not None and road.capacity_vph > MAX_VPH_PER_LANE * road.lanes:
        what = f"is {road.capacity_vph:g} on {road.lanes} lanes"
        todo = f"use at most {MAX_VPH_PER_LANE:g} vehicles per hour and lane"
        report.error(f"{where}, `capacity_vph`", what, todo)


def _join(
    site: Site, road: AddRoad, flat: Float64Array, which: int, report: Report, where: str
) -> int | None:
    """Return the junction where an end of a road joins the network, or note why none."""
    place = f"{where}, `geometry`, {'first' if which == 0 else 'last'} point"
    point = shapely.Point(flat[which])
    away = np.linalg.norm(site.flat_junctions() - flat[which], axis=1)
    if away.min() <= road.snap_m:
        return int(np.argmin(away))
    rows = site.alive()
    distance = shapely.distance(point, site.flat_lines(rows))
    nearest = int(rows[np.argmin(distance)])
    best = float(distance.min())
    name = _segment_name(site, nearest)
    if best > road.snap_m:
        far = "are longitude and latitude swapped?" if best > 100_000 else "move it onto a road"
        what = f"the nearest road, {name}, is {best:.1f} m away; `snap_m` is {road.snap_m:g} m"
        report.error(place, what, f"{far}, or raise `snap_m`")
        return None
    if not road.split_edges:
        what = f"ends on {name}, {away.min():.1f} m from the nearest junction"
        todo = "end it at a junction, raise `snap_m`, or allow `split_edges`"
        report.error(place, what, todo)
        return None
    return site.split(nearest, point)


def _add_ways(
    site: Site, road: AddRoad, number: int, xy: Float64Array, ends: tuple[int, int]
) -> None:
    """Add the segments of a road."""
    line = shapely.LineString(xy)
    crs = site.streets.crs
    assert crs is not None  # noqa: S101 - else there was an error
    length_m = float(measure_lines(np.array([line], dtype=object), crs).length_m[0])
    capacity = road.capacity_vph or _capacity(site, road)
    values = {
        "name": road.id,
        "road_class": road.road_class,
        "oneway": road.oneway,
        "speed_kmh": road.kmh,
        "lanes": float(road.lanes),
        "capacity_vph": capacity,
    }
    shape = shapely.to_wkt(line, rounding_precision=7)

    def way(points: Float64Array, begin: int, end: int, name: str) -> int:
        key = f"{road.id} {shape} {name}"
        return site.add(
            Piece(points, begin, end, key, -1, -1, length_m, number=number, values=values)
        )

    ahead = way(xy, ends[0], ends[1], "ahead")
    if not road.oneway:
        site.pair(ahead, way(xy[::-1].copy(), ends[1], ends[0], "back"))


def _capacity(site: Site, road: AddRoad) -> float:
    """Return the usual capacity of a road: of its class here, else by the table."""
    values = site.streets.values
    same = values.road_class == road.road_class
    if same.any():
        return float(np.median(values.capacity_vph[same] / values.lanes[same])) * road.lanes
    return default_capacity(road.road_class, road.lanes)


def _note_crossings(
    site: Site, xy: Float64Array, ends: tuple[int, int], report: Report, where: str
) -> None:
    """Note roads that a new one crosses without a junction, and roads that it doubles."""
    rows = site.alive()
    flat = site.streets.to_plane(shapely.LineString(xy))
    met = rows[shapely.intersects(flat, site.flat_lines(rows))]
    for at in met.tolist():
        same = site.ends(at) == ends
        if same and site.flat(at).hausdorff_distance(flat) < 2 * _TOUCH_M:
            what = f"there is already a road along it: {_segment_name(site, at)}"
            report.warning(f"{where}, `geometry`", what, "both are kept")
            break
    places = shapely.intersection(flat, site.flat_lines(met))
    inner = shapely.line_interpolate_point(flat, [0.0, flat.length])
    away = np.minimum(*(shapely.distance(end, places) for end in inner)) > _TOUCH_M
    crossed = _once(site, met[away])
    if len(crossed):
        names = [_segment_name(site, int(at)) for at in crossed]
        what = f"crosses {len(crossed)} roads without a junction: {shorten(names)}"
        todo = "right if it is a bridge or tunnel; else build it in parts that end on them"
        report.warning(f"{where}, `geometry`", what, todo, count=len(crossed))


def _once(site: Site, rows: IntArray) -> IntArray:
    """Return segments, of the two ways of a street the first."""
    kept = [at for at in rows.tolist() if not 0 <= site.twin(at) < at]
    return np.array(kept, dtype=np.int64)


def _segment_name(site: Site, at: int) -> str:
    """Return a segment in words."""
    streets = site.streets
    if at >= site.n_base:
        piece = site.pieces[at - site.n_base]
        if piece.like < 0:
            return repr(piece.values["name"])
        at = piece.like
    names = streets.column("name")
    name = "" if names is None or names.isna().iloc[at] else f" {str(names.iloc[at])!r}"
    return f"{streets.segment_id[at]}{name}"


def _junction_name(site: Site, at: int) -> str:
    """Return the id of a junction."""
    ids = site.streets.roads.node_ids
    return str(ids[at]) if at < len(ids) else "that is new"
