"""Put stations onto the road segments they measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely

from stgraph.errors import GraphError, nearest_name
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._candidates import Candidates, Rules, find_candidates, read_road_names
from stgraph.neighbours._headings import read_headings
from stgraph.neighbours._places import (
    Float64Array,
    Places,
    check_count,
    check_length,
    is_mercator,
    start_graph,
)
from stgraph.neighbours._roads import GeometryArray, Roads, read_roads_graph
from stgraph.report import Report

Side = Literal["left", "right"]

WHERE = "`stations`"
UNKNOWN_DIRECTION = "lie on two-way streets and nothing tells the direction"
_SHOWN = 5  # ids listed in findings
_ELSEWHERE_M = 1000.0  # stations that are all further than this from every road are elsewhere
_LIMIT = "`max_snap_m` (of `snap_stations`: `max_distance_m`)"  # as jobs and as Python call it


@dataclass(frozen=True, eq=False)
class Snapping:
    """Where stations lie on a road network.

    Parameters
    ----------
    stations
        One row per station, in their order, with their index, geometry and CRS:
        `segment_id` (Int64, missing where it was not snapped); `other_segment_id` (Int64), the
        same street the other way where nothing tells which of both is meant; `distance_m` from
        the station to the segment (to the nearest one where it was not snapped); `offset_m`
        along the directed segment from its start, in its `length_m`; `side` of the segment on
        which the station lies (``"left"``, ``"right"``, ``"on"``); `heading_difference_deg` (0 to
        180, NaN without a heading); `direction`, what told the direction (``"one-way"``,
        ``"heading"``, ``"side"``, ``"unknown"``); `status` (``"snapped"``, ``"ambiguous"``,
        ``"too far"``, ``"no place"``) and `reason`. An ambiguous station has the segment of its
        best candidate.
    candidates
        Lines from stations to segments, to look at: the best one of every station, and of
        ambiguous stations all those that were weighed; `station`, `segment_id`, `rank` from 1,
        `distance_m`, `offset_m`, `heading_difference_deg`, `status` and `why`.
    report
        What was found, with counts.
    """

    stations: gpd.GeoDataFrame
    candidates: gpd.GeoDataFrame
    report: Report


def snap_stations(
    stations: Places,
    roads: STGraph,
    *,
    max_distance_m: float = 50.0,
    heading_column: str | None = None,
    max_heading_deg: float = 60.0,
    road_column: str | None = None,
    side: Side | None = None,
    ambiguity_m: float = 5.0,
    max_candidates: int = 5,
) -> Snapping:
    """Put every station onto the directed road segment that it measures.

    Parameters
    ----------
    stations
        One row per station, indexed by unique id, in any CRS; lines and polygons count with
        their centroid.
    roads
        A road network: a graph of junctions whose `edges` have LineStrings in driving direction,
        or a graph of segments (`build_line_graph`) whose nodes are those lines.
    max_distance_m
        Stations further than this from every segment are reported and not snapped.
    heading_column
        Column of `stations` with the direction of the traffic measured: degrees clockwise from
        north, or words such as ``N``, ``north-east``, ``NB``, ``southbound``. Empty = unknown.
    max_heading_deg
        Largest difference between that heading and the segment beside the station. Signed
        directions of motorways ("I-80 East") bend away from their name: 90 suits them.
    road_column
        Column of `stations` with the name or number of the road (``I 280``, ``280``), compared
        with `ref` and `name` of the segments. Empty = unknown.
    side
        Side on which traffic drives: ``"right"`` (Europe, America) or ``"left"`` (Britain,
        Japan, New Zealand). A station beside a two-way street is then taken to measure the
        direction on its own side. None leaves that open.
    ambiguity_m
        A station is ambiguous when another road that fits equally well is at most this much
        further away than the best one.
    max_candidates
        Segments listed per ambiguous station.

    Returns
    -------
    Snapping
        Segment, offset and status of every station, the candidates as a layer, and a report.

    Raises
    ------
    GraphError
        Options, columns, geometry or CRS cannot be used, or no station is near any road; every
        problem is listed.

    Notes
    -----
    Distances are measured on the plane of the roads' CRS where it has metres, else in the UTM
    zone of the stations.
    """
    report = Report()
    _check_options(report, max_distance_m, max_heading_deg, side, ambiguity_m, max_candidates)
    network = read_roads_graph(roads, report)
    places = _read_places(stations, report)
    heading = _read_heading(places, heading_column, report)
    names = _read_names(places, road_column, network, report)
    _check_planes(places, network, report)
    report.raise_errors(GraphError, title="cannot snap stations")

    network = cast("Roads", network)
    plane = _choose_plane(places, network, report)
    points, lines = _project(places, network, plane)
    rules = Rules(max_distance_m, max_heading_deg, side, ambiguity_m)
    found = find_candidates(points, lines, network, heading, names, rules)
    _check_reach(found, places, network, max_distance_m, report)
    table = _describe_stations(places, points, found, network)
    _note_findings(table, max_distance_m, report)
    layer = _draw_candidates(table, points, found, network, plane, max_candidates)
    return Snapping(table, layer, report)


# ---------------------------------------------------------------- reading what is given


def _check_options(
    report: Report,
    max_distance_m: float,
    max_heading_deg: float,
    side: str | None,
    ambiguity_m: float,
    max_candidates: int,
) -> None:
    """Note options that cannot be used."""
    check_length(report, "max_distance_m", max_distance_m, optional=False)
    check_count(report, "max_candidates", max_candidates)
    if not 0 <= ambiguity_m < np.inf:
        report.error("`ambiguity_m`", f"is {ambiguity_m!r}", "use metres of at least 0")
    if not 0 < max_heading_deg <= 180:
        todo = "use degrees above 0, up to 180"
        report.error("`max_heading_deg`", f"is {max_heading_deg!r}", todo)
    if side not in (None, "left", "right"):
        known = ["left", "right"]
        what = f"is {side!r}{nearest_name(side, known)}"
        report.error("`side`", what, f"use one of {known}, the side on which traffic drives")


def _read_places(stations: Places, report: Report) -> gpd.GeoDataFrame:
    """Return the table of stations, checked as the nodes of a graph are."""
    if not isinstance(stations, gpd.GeoDataFrame | STGraph):
        todo = "pass a GeoDataFrame or an STGraph"
        report.error(WHERE, f"is a {type(stations).__name__}", todo)
        return gpd.GeoDataFrame(geometry=[])
    places = start_graph(stations, report).nodes
    if not len(places):
        report.error(WHERE, "has no rows", "give at least one station")
    elif not _located(np.asarray(places.geometry, dtype=object)).any():
        report.error(WHERE, "has no row with coordinates", "give every station its point")
    elif places.crs is None:
        todo = "call set_crs(), with 4326 for longitude and latitude"
        report.error(WHERE, "has no CRS", todo)
    return places


def _located(shapes: GeometryArray) -> Any:
    """Tell which shapes are somewhere: not missing, not empty, with finite coordinates."""
    return np.isfinite(shapely.bounds(shapes)).all(axis=1)


def _column(places: gpd.GeoDataFrame, name: str, option: str, report: Report) -> Any:
    """Return a column of the stations, or note that there is none."""
    if name in places.columns:
        return places[name]
    known = [str(column) for column in places.columns if column != places.geometry.name]
    what = f"there is no column {name!r}{nearest_name(name, known)}"
    report.error(f"{WHERE}, `{option}`", what, f"there are {known}")
    return None


def _read_heading(
    places: gpd.GeoDataFrame, heading_column: str | None, report: Report
) -> Float64Array:
    """Return the heading of every station in degrees, NaN where unknown."""
    unknown = np.full(len(places), np.nan)
    if heading_column is None:
        return unknown
    column = _column(places, heading_column, "heading_column", report)
    if column is None:
        return unknown
    heading = read_headings(column, report, where=f"{WHERE}, column {heading_column!r}")
    if np.isnan(heading).any() and not report.errors:
        count = int(np.isnan(heading).sum())
        report.info(WHERE, f"{count} stations have no heading", "snapped without", count=count)
    return heading


def _read_names(
    places: gpd.GeoDataFrame, road_column: str | None, network: Roads | None, report: Report
) -> Any:
    """Return what road every station names, or None where that is not asked for."""
    if road_column is None or network is None:
        return None
    column = _column(places, road_column, "road_column", report)
    if not {"ref", "name"} & set(network.table.columns):
        report.error("`roads`", "has no column `ref` or `name`", "leave `road_column` out")
    return None if column is None or report.errors else read_road_names(column, network.table)


# ---------------------------------------------------------------- one plane for both


def _check_planes(places: gpd.GeoDataFrame, network: Roads | None, report: Report) -> None:
    """Note stations and roads of which one is nowhere on Earth, as networks of models are."""
    if network is None or places.crs is None or places.crs == network.crs:
        return
    for whose, crs in ((WHERE, places.crs), ("`roads`", network.crs)):
        if crs.geodetic_crs is None:
            what = f"is in {crs.name}, which is nowhere on Earth, unlike the other"
            report.error(whose, what, "say where the network is with crs= when it is read")


def _choose_plane(places: gpd.GeoDataFrame, network: Roads, report: Report) -> pyproj.CRS:
    """Return the CRS to measure in: that of the roads if it has metres, else a UTM zone."""
    crs = network.crs
    if crs.geodetic_crs is None:
        return crs
    if crs.is_projected and crs.axis_info[0].unit_conversion_factor == 1.0 and not is_mercator(crs):
        return crs
    shapes = np.asarray(places.geometry, dtype=object)
    usable = places.geometry[_located(shapes)]
    try:
        plane = usable.estimate_utm_crs()
    except (RuntimeError, ValueError, pyproj.exceptions.ProjError):
        # coordinates that are none of their CRS; the roads then say where to measure
        plane = gpd.GeoSeries(network.lines, crs=crs).estimate_utm_crs()
    report.info(WHERE, f"were measured in {plane.name}", f"because {crs.name} is not in metres")
    return cast("pyproj.CRS", plane)


def _project(
    places: gpd.GeoDataFrame, network: Roads, plane: pyproj.CRS
) -> tuple[GeometryArray, GeometryArray]:
    """Return stations as points and roads as lines of the plane; None where there is no place."""
    shapes = np.asarray(places.geometry, dtype=object)
    points = np.full(len(shapes), None, dtype=object)
    located = _located(shapes)
    points[located] = np.asarray(
        gpd.GeoSeries(shapely.centroid(shapes[located]), crs=places.crs).to_crs(plane)
    )
    points[~_located(points)] = None  # what its CRS cannot hold
    lines = np.asarray(gpd.GeoSeries(network.lines, crs=network.crs).to_crs(plane))
    return points, lines.astype(object)


# ---------------------------------------------------------------- what comes out


def _check_reach(
    found: Candidates,
    places: gpd.GeoDataFrame,
    network: Roads,
    max_distance_m: float,
    report: Report,
) -> None:
    """Refuse stations none of which is near a road, and guess why."""
    if len(found.station):
        return
    nearest = found.nearest_m[np.isfinite(found.nearest_m)]
    away = f"the nearest is {_distance(nearest.min())} away" if len(nearest) else "none has a place"
    guess = f"check the CRS of both, or raise {_LIMIT} if that is as it should be"
    if len(nearest) and nearest.min() > max(_ELSEWHERE_M, max_distance_m):
        away += "; stations and roads do not overlap"
        guess = "give roads of the area where the stations are, or check the CRS of both"
    what = f"no station is within {max_distance_m:g} m of a road; {away}"
    report.error(WHERE, what, _guess_swapped(places, network) or guess, count=len(places))
    report.raise_errors(GraphError, title="cannot snap stations")


def _distance(metres: float) -> str:
    """Return a distance in words, long ones in kilometres."""
    return f"{metres:,.0f} m" if metres < 10_000 else f"{metres / 1000:,.0f} km"


def _guess_swapped(places: gpd.GeoDataFrame, network: Roads) -> str:
    """Return a sentence if the stations lie among the roads once x and y are swapped."""
    shapes = np.asarray(places.geometry, dtype=object)
    xy = shapely.get_coordinates(shapely.centroid(shapes[_located(shapes)]))
    swapped = gpd.GeoSeries(shapely.points(xy[:, ::-1]), crs=places.crs)
    low, high = np.array(gpd.GeoSeries(network.lines, crs=network.crs).total_bounds).reshape(2, 2)
    margin = (high - low).max()
    there = shapely.get_coordinates(np.asarray(swapped.to_crs(network.crs)))
    inside = (there >= low - margin).all(axis=1) & (there <= high + margin).all(axis=1)
    if inside.mean() <= 0.5:
        return ""
    return (
        "longitude and latitude look swapped: points are (x, y) = (longitude, latitude), "
        "as in points_from_xy(longitude, latitude)"
    )


def _describe_stations(
    places: gpd.GeoDataFrame,
    points: GeometryArray,
    found: Candidates,
    network: Roads,
) -> gpd.GeoDataFrame:
    """Return the table of stations with where each was put and why."""
    n = len(places)
    best, at = found.best, found.station[found.best]
    ids: IntArray = network.segment_id
    status = np.where(shapely.is_missing(points), "no place", "too far").astype(object)
    status[at] = np.where(found.doubt[best] == "", "snapped", "ambiguous")
    reason = np.where(shapely.is_missing(points), "no coordinates", "").astype(object)
    far = status == "too far"
    reason[far] = [f"nearest road at {metres:,.0f} m" for metres in found.nearest_m[far]]
    reason[at] = found.doubt[best]
    segment = np.full(n, -1, dtype=np.int64)
    other = np.full(n, -1, dtype=np.int64)
    segment[at] = found.segment[best]
    other[at] = found.other[best]
    number = {
        "distance_m": found.distance_m,
        "offset_m": found.fraction * network.length_m[found.segment],
        "heading_difference_deg": found.heading_difference_deg,
    }
    columns: dict[str, Any] = {
        name: _spread_over(values[best], at, n) for name, values in number.items()
    }
    columns["distance_m"] = np.where(segment >= 0, columns["distance_m"], found.nearest_m)
    words = {"side": found.side, "direction": found.direction}
    for name, values in words.items():
        columns[name] = np.full(n, "", dtype=object)
        columns[name][at] = values[best]
    table = gpd.GeoDataFrame(
        {
            "segment_id": _ids_or_missing(ids, segment),
            "other_segment_id": _ids_or_missing(ids, other),
            "distance_m": columns["distance_m"],
            "offset_m": columns["offset_m"],
            "side": columns["side"],
            "heading_difference_deg": columns["heading_difference_deg"],
            "direction": columns["direction"],
            "status": status,
            "reason": reason,
        },
        geometry=np.asarray(places.geometry),
        crs=places.crs,
    )
    return table.set_index(places.index)


def _spread_over(values: Float64Array, at: IntArray, n: int) -> Float64Array:
    """Return values at their stations, NaN elsewhere."""
    spread = np.full(n, np.nan)
    spread[at] = values
    return spread


def _ids_or_missing(ids: IntArray, position: IntArray) -> Any:
    """Return segment ids for positions, missing where the position is -1."""
    return pd.arrays.IntegerArray(ids[np.maximum(position, 0)], position < 0)


def _note_findings(table: gpd.GeoDataFrame, max_distance_m: float, report: Report) -> None:
    """Note how many stations were not snapped, or not for sure."""
    todo = {
        "no place": "have no coordinates and were not snapped",
        "too far": f"are further than {max_distance_m:g} m from every road and were not snapped",
        "ambiguous": "fit several roads; see them in the layer `candidates`, which `stgraph graph "
        "snap` writes, and give `heading_column` or `road_column`",
    }
    for status, what in todo.items():
        ids = list(table.index[table["status"] == status])
        if ids:
            shown = ", ".join(map(str, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
            report.warning(WHERE, f"{len(ids)} {what}", f"they are {shown}", count=len(ids))
    open_ = int((table["direction"] == "unknown").sum())
    if open_:
        report.warning(
            WHERE,
            f"{open_} {UNKNOWN_DIRECTION}",
            "the segment with the lower id was taken; give `heading_column` or `side`",
            count=open_,
        )


def _draw_candidates(
    table: gpd.GeoDataFrame,
    points: GeometryArray,
    found: Candidates,
    network: Roads,
    plane: pyproj.CRS,
    max_candidates: int,
) -> gpd.GeoDataFrame:
    """Return lines from the stations to what was weighed for them."""
    ambiguous = (table["status"] == "ambiguous").to_numpy()[found.station]
    kept = (found.rank == 1) | (ambiguous & (found.rank <= max_candidates))
    station, segment = found.station[kept], found.segment[kept]
    ends = np.stack([shapely.get_coordinates(points[station]), found.on_road[kept]], axis=1)
    layer = gpd.GeoDataFrame(
        {
            "station": np.asarray(table.index)[station],
            "segment_id": network.segment_id[segment],
            "rank": found.rank[kept],
            "distance_m": found.distance_m[kept],
            "offset_m": found.fraction[kept] * network.length_m[segment],
            "heading_difference_deg": found.heading_difference_deg[kept],
            "status": table["status"].to_numpy()[station],
            "why": found.why[kept],
        },
        geometry=shapely.linestrings(ends),
        crs=plane,
    )
    return layer.to_crs(cast("pyproj.CRS", table.crs))
