"""GPS points of vehicles to speeds of road segments, by map matching."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.errors import DataError
from stgraph.graph import Feature, STGraph
from stgraph.report import Report
from stgraph_connectors._cells import to_numbers
from stgraph_connectors._clock import (
    NO_TIME,
    Int64Array,
    check_zone,
    instant_us,
    read_times,
    step_start,
)
from stgraph_connectors._coordinates import LATITUDE_NAMES, LONGITUDE_NAMES
from stgraph_connectors._hmm import Matched, MatchOptions, Network, make_network, match_points
from stgraph_connectors._ids import code_ids, guess_column, require_column
from stgraph_connectors._signal import TIME_NAMES
from stgraph_connectors._tables import Table, read_table
from stgraph_connectors._travel import Travel, follow_routes

_TITLE = "cannot read the trajectories"
_TRIP_NAMES = (
    "trip_id", "trip", "trajectory_id", "trajectory", "track_id", "track", "journey_id", "ride_id",
    "vehicle_id", "device_id", "id",
)  # fmt: skip
_MINUTE = 60_000_000  # microseconds
_ENOUGH_M = 20.0  # metres in a step on a segment, or half of its length, that give a speed
_ENOUGH_S = 60.0  # or seconds, of a vehicle that stands in a queue
_MOST_CELLS = 500_000_000


@dataclass(frozen=True)
class _Points:
    """P points, those of a trip together and in order of time."""

    lon_lat: npt.NDArray[np.float64]  # (P, 2) degrees
    us: Int64Array  # (P,) since 1970 UTC
    trip: Int64Array  # (P,)
    name: str


def read_trajectories(
    points: str | Path | pd.DataFrame,
    roads: str | Path | STGraph,
    *,
    step_minutes: float = 15.0,
    trip_column: str | None = None,
    time_column: str | None = None,
    lat_column: str | None = None,
    lon_column: str | None = None,
    layer: str | None = None,
    zone: str = "UTC",
    start: str | pd.Timestamp | None = None,
    stop: str | pd.Timestamp | None = None,
    speeds_kmh: Mapping[str, float] | None = None,
    sigma_m: float = 10.0,
    max_distance_m: float = 50.0,
    max_gap_s: float = 300.0,
    max_speed_kmh: float = 160.0,
) -> STGraph:
    """Read GPS points of vehicles and make speeds and counts of road segments of them.

    Every trip is matched to the directed segments by a hidden Markov model, so that one-ways,
    carriageways and forbidden turns count; what it drove between two points is shared out over the
    segments of its route.

    Parameters
    ----------
    points
        CSV, Parquet, GeoPackage or a frame with a row per point: trip, time, and latitude and
        longitude, or geometry.
    roads
        Road segments as a graph (a node per directed segment), or any file that `read_roads`
        takes.
    step_minutes
        Length of a step, counted from local midnight.
    trip_column, time_column, lat_column, lon_column
        Columns of the points. None guesses them by name.
    layer
        Layer of a GeoPackage of points. None takes the only one.
    zone
        IANA zone of times that name none, and of the calendar.
    start, stop
        Leave out points before `start` and from `stop` on; without a zone they are wall clock.
    speeds_kmh
        Speeds of types of roads that name none, where `roads` is a file.
    sigma_m
        Standard deviation of a position, in metres each way.
    max_distance_m
        A point further than this from every segment is not matched.
    max_gap_s
        Points further apart in time begin a new drive.
    max_speed_kmh
        No route is faster.

    Returns
    -------
    STGraph
        All segments, with `speed` (km/h: metres driven over seconds spent, the mean over the
        space; missing where less than 20 m and 60 s were seen) and `count` (drives, 0 where none
        passed). ``provenance["coverage"]`` and the report say how much was matched and covered.

    Raises
    ------
    DataError
        Points, options or roads cannot be used; lists everything found.
    """
    report = Report()
    limits = {"sigma_m": sigma_m, "max_distance_m": max_distance_m, "max_gap_s": max_gap_s,
              "max_speed_kmh": max_speed_kmh, "step_minutes": step_minutes}  # fmt: skip
    bounds = _check_options(limits, zone, start, stop, report)
    report.raise_errors(DataError, title=_TITLE)
    columns = (trip_column, time_column, lat_column, lon_column)
    found = _read_points(points, columns, layer, zone, bounds, report)
    report.raise_errors(DataError, title=_TITLE)
    assert found is not None  # noqa: S101 - else there was an error
    segments = _segments(roads, speeds_kmh, report)
    report.raise_errors(DataError, title=_TITLE)
    options = MatchOptions(
        sigma_m=sigma_m, max_distance_m=max_distance_m, max_gap_s=max_gap_s,
        max_speed_kmh=max_speed_kmh,
    )  # fmt: skip
    plane = segments.nodes.estimate_utm_crs()
    lines = np.asarray(segments.nodes.geometry.to_crs(plane))
    network = make_network(lines, segments.edge_index)
    seconds = (found.us - found.us.min()) / 1e6
    matched = _match(found, network, seconds, plane, options, report)
    report.raise_errors(DataError, title=_TITLE)
    travel = follow_routes(network, matched, seconds, found.trip)
    travel = travel.take(travel.seconds > 0)
    start_us = step_start(int(found.us.min()), step_minutes, zone)
    bins = (travel.at * 1e6 + found.us.min() - start_us) // (step_minutes * _MINUTE)
    time, values = _aggregate(
        travel, bins.astype(np.int64), network.length_m, start_us, step_minutes, found.name, report
    )
    report.raise_errors(DataError, title=_TITLE)
    coverage = _coverage(found, matched, values, report)
    provenance = {
        **segments.provenance,
        "connector": "trajectories",
        "source": {"points": found.name, "roads": segments.provenance.get("source")},
        "step_minutes": step_minutes,
        "coverage": coverage,
        "plane": plane.to_string(),
        "findings": Report([*segments.report, *report]).to_json(),
    }
    return segments.replace(
        time=time,
        values=values,
        mask=None,
        features=(Feature("speed", "km/h"), Feature("count", "1", "observed")),
        zone=zone,
        provenance=provenance,
    )


# ---------------------------------------------------------------- options and roads


def _check_options(
    limits: Mapping[str, Any], zone: str, start: Any, stop: Any, report: Report
) -> tuple[int | None, int | None]:
    """Return the bounds in microseconds, and note options that cannot be."""
    for name, value in limits.items():
        number = isinstance(value, int | float) and math.isfinite(value)
        if not number or value <= 0:
            report.error(f"`{name}`", f"is {value!r}", "give a number above 0")
    if not check_zone(zone, report):
        return None, None
    bounds: list[int | None] = []
    for name, given in (("start", start), ("stop", stop)):
        try:
            bounds.append(None if given is None else instant_us(given, zone))
        except (ValueError, TypeError):
            what = f"{given!r} cannot be read as a time"
            report.error(f"`{name}`", what, "write 2024-01-31 or 2024-01-31 16:45")
            bounds.append(None)
    return bounds[0], bounds[1]


def _segments(roads: Any, speeds_kmh: Mapping[str, float] | None, report: Report) -> STGraph:
    """Return a graph whose nodes are directed segments, or note that it is none."""
    if isinstance(roads, STGraph):
        graph = roads
        if speeds_kmh is not None:
            report.warning("`speeds_kmh`", "`roads` is a graph already", "they were not used")
    else:
        from stgraph_connectors.roads.any import read_roads  # only here: many packages

        graph = read_roads(roads, speeds_kmh=speeds_kmh)
    shapes = np.asarray(graph.nodes.geometry, dtype=object)
    if not (shapely.get_type_id(shapes) == 1).all():
        kinds = sorted({"nothing" if s is None else s.geom_type for s in shapes[:1000]})
        todo = "read roads with nodes='segments', or call build_line_graph on them"
        report.error("`roads`", f"has nodes that are {kinds}, not LineStrings", todo)
    elif graph.n_edges == 0 and graph.n_nodes > 1:
        report.error("`roads`", "has no turns between its segments", "keep the edges of the graph")
    return graph


# ---------------------------------------------------------------- points


def _read_points(
    source: str | Path | pd.DataFrame,
    given: tuple[str | None, ...],
    layer: str | None,
    zone: str,
    bounds: tuple[int | None, int | None],
    report: Report,
) -> _Points | None:
    """Return the points of all trips, sorted; None when they cannot be used."""
    crs = source.crs if isinstance(source, gpd.GeoDataFrame) else None
    known = {*_TRIP_NAMES, *TIME_NAMES, *(name.lower() for name in given if name is not None)}
    table = read_table(source, report, role="points", text=known, layer=layer)
    if table is None:
        return None
    names = list(table.frame.columns)
    columns: list[Any] = []
    for option, wanted, guesses in (
        ("trip_column", given[0], _TRIP_NAMES),
        ("time_column", given[1], TIME_NAMES),
    ):
        find = guess_column if wanted is None else require_column
        first = names if wanted is None else wanted
        second = guesses if wanted is None else names
        columns.append(find(first, second, table=table, option=option, report=report))
    lon_lat = _positions(table, given[2], given[3], crs, report)
    if None in columns or lon_lat is None:
        return None
    codes, _ = code_ids(table.frame[columns[0]])
    us = read_times(
        table.frame[columns[1]], groups=codes, table=table, name=columns[1], zone=zone,
        time_format=None, report=report,
    )  # fmt: skip
    return _sort_points(table, lon_lat, us, codes, bounds, report)


def _positions(
    table: Table, lat: str | None, lon: str | None, crs: Any, report: Report
) -> npt.NDArray[np.float64] | None:
    """Return longitude and latitude of every row, NaN where there is none."""
    names = list(table.frame.columns)
    if "geometry" in names and lat is None and lon is None:
        series = gpd.GeoSeries(table.frame["geometry"])
        series = series if series.crs is not None or crs is None else series.set_crs(crs)
        if series.crs is None or not (series.geom_type.dropna() == "Point").all():
            what = "names no CRS" if series.crs is None else "holds other shapes than points"
            report.error(table.column("geometry"), what, "give points with a CRS")
            return None
        degrees = series.to_crs(4326)
        return np.column_stack([degrees.x, degrees.y])
    found = []
    for option, wanted, guesses in (
        ("lon_column", lon, LONGITUDE_NAMES),
        ("lat_column", lat, LATITUDE_NAMES),
    ):
        if wanted is None:
            name = guess_column(names, guesses, table=table, option=option, report=report)
        else:
            name = require_column(wanted, names, table=table, option=option, report=report)
        found.append(name)
    if None in found:
        return None
    x, y = (to_numbers(table.frame[name], table, report, name=name) for name in found)
    wrong = (np.abs(y) > 90) | (np.abs(x) > 360)
    if wrong.any():
        row, count = int(np.argmax(wrong)), int(wrong.sum())
        what = f"latitude {y[row]:g}, longitude {x[row]:g} is outside of the globe"
        todo = "give degrees of WGS 84"
        if bool((np.abs(x[wrong]) <= 90).all() and (np.abs(y[wrong]) <= 360).all()):
            what, todo = f"{what}, latitude and longitude look swapped", "swap the two columns"
        report.error(table.at(row, found[1]), f"{what} ({count} point(s))", todo, count=count)
    return np.column_stack([x, y])


def _sort_points(
    table: Table,
    lon_lat: npt.NDArray[np.float64],
    us: Int64Array,
    trip: Int64Array,
    bounds: tuple[int | None, int | None],
    report: Report,
) -> _Points | None:
    """Return the usable points, those of a trip together, each instant of it once."""
    if report.errors:
        return None
    start, stop = bounds
    inside = us != NO_TIME
    inside &= (us >= start) if start is not None else True
    inside &= (us < stop) if stop is not None else True
    placed = np.isfinite(lon_lat).all(axis=1) & (lon_lat != 0).any(axis=1)
    for rows, what in (
        (~placed, "points have no position"),
        (trip < 0, "points have no trip"),
        (placed & (us != NO_TIME) & ~inside, "points are before start or from stop on"),
    ):
        if count := int(rows.sum()):
            report.warning(table.at(int(np.argmax(rows))), f"{count} {what}", "left out",
                           count=count)  # fmt: skip
    kept = np.flatnonzero(inside & placed & (trip >= 0))
    kept = kept[np.lexsort((us[kept], trip[kept]))]
    twice = np.zeros(len(kept), dtype=bool)
    twice[1:] = (np.diff(trip[kept]) == 0) & (np.diff(us[kept]) == 0)
    if count := int(twice.sum()):
        what = f"{count} points repeat an instant of their trip"
        report.warning(table.at(int(kept[np.argmax(twice)])), what, "the first counts", count=count)
    kept = kept[~twice]
    if len(kept) == 0:
        report.error(table.name, "no point is left", "check times, positions, start= and stop=")
        return None
    single = np.bincount(trip[kept])
    if (single < 2).all():
        what = "every trip has one point only, so nothing moves"
        report.error(table.name, what, "name the column of trips with trip_column=")
        return None
    return _Points(lon_lat[kept], us[kept], trip[kept], table.name)


def _match(
    found: _Points,
    network: Network,
    seconds: npt.NDArray[np.float64],
    plane: Any,
    options: MatchOptions,
    report: Report,
) -> Matched:
    """Return where on the segments the points are, or note that none is."""
    project = pyproj.Transformer.from_crs(4326, plane, always_xy=True)
    xy = np.column_stack(project.transform(*found.lon_lat.T))
    matched = match_points(network, xy, seconds, found.trip, options)
    if not (matched.segment >= 0).any():
        what = f"none of {len(xy):,} points is within {options.max_distance_m:g} m of a segment"
        todo = "check coordinates, roads and max_distance_m="
        low, high = np.reshape(shapely.total_bounds(network.lines), (2, 2))
        margin = (high - low).max()
        there = np.column_stack(project.transform(*found.lon_lat.T[::-1]))
        among = (there >= low - margin).all(axis=1) & (there <= high + margin).all(axis=1)
        if among.mean() > 0.5:
            what, todo = f"{what}: latitude and longitude look swapped", "swap the two columns"
        report.error(found.name, what, todo)
    return matched


# ---------------------------------------------------------------- steps


def _aggregate(
    travel: Travel,
    bins: Int64Array,
    length_m: npt.NDArray[np.float64],
    start_us: int,
    step_minutes: float,
    name: str,
    report: Report,
) -> tuple[pd.DatetimeIndex, npt.NDArray[np.float32]]:
    """Return the steps, and speed and count (T, N, 2)."""
    n_segments, n_steps = len(length_m), int(bins.max(initial=0)) + 1
    start = pd.Timestamp(start_us, unit="us", tz="UTC")
    time = pd.date_range(start, periods=n_steps, freq=pd.Timedelta(minutes=step_minutes))
    if n_steps * n_segments * 2 > _MOST_CELLS:
        what = f"the grid would have {n_steps:,} steps x {n_segments:,} segments"
        report.error(name, what, "give start= and stop=, or a longer step_minutes=")
        return time, np.zeros((0, n_segments, 2), dtype=np.float32)
    cell = bins * n_segments + travel.segment
    size = n_steps * n_segments
    metres = np.bincount(cell, travel.metres, size)
    seconds = np.bincount(cell, travel.seconds, size)
    # a drive counts once in a step, however many of its points lie there
    drives = np.unique(np.column_stack([cell, travel.drive]), axis=0)
    count = np.bincount(drives[:, 0], minlength=size)
    enough_m = np.tile(np.minimum(_ENOUGH_M, length_m / 2), n_steps)
    enough = (seconds > 0) & ((metres >= enough_m) | (seconds >= _ENOUGH_S))
    speed = np.full(size, np.nan)
    speed[enough] = 3.6 * metres[enough] / seconds[enough]
    values = np.stack([speed, count], axis=1).reshape(n_steps, n_segments, 2)
    return time, values.astype(np.float32)


def _coverage(
    points: _Points, matched: Matched, values: npt.NDArray[np.float32], report: Report
) -> dict[str, Any]:
    """Return how much was matched and covered, and say it in the report."""
    known = np.isfinite(values[:, :, 0])
    lost = int((matched.segment < 0).sum())
    n_trips = len(np.unique(points.trip))
    # a trip begins once; more beginnings are breaks
    breaks = int(((matched.segment >= 0) & ~matched.linked).sum()) - len(
        np.unique(points.trip[matched.segment >= 0])
    )
    coverage = {
        "points": len(points.us),
        "points_unmatched": lost,
        "trips": n_trips,
        "breaks": breaks,
        "median_distance_m": round(float(np.nanmedian(matched.distance_m)), 2),
        "segments_with_speed": round(float(known.any(axis=0).mean()), 4),
        "steps_with_speed": round(float(known.any(axis=1).mean()), 4),
        "cells_with_speed": round(float(known.mean()), 6),
    }
    if lost:
        what = f"{lost:,} of {len(points.us):,} points are near no segment"
        report.warning(points.name, what, "not matched; see max_distance_m=", count=lost)
    if breaks:
        what = f"{breaks:,} times no route leads from one point to the next"
        report.warning(points.name, what, "a new drive begins there; see max_gap_s=", count=breaks)
    report.info(
        points.name,
        f"{len(points.us) - lost:,} points of {n_trips:,} trips are on segments, "
        f"{coverage['median_distance_m']:g} m off in the middle",
        f"{coverage['segments_with_speed']:.1%} of the segments and "
        f"{coverage['cells_with_speed']:.2%} of all segments and steps have a speed",
    )
    return coverage
