"""What can be reached in time, with and without a scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from stgraph.errors import InputError, nearest_name, shown
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.scenario._cover import Cover, polygons
from stgraph.scenario._routes import Values, build_routes, expanded, lengths, segment_minutes
from stgraph.scenario._street_km import StreetLength
from stgraph.scenario.demand import Demand
from stgraph.scenario.od_times import HourlySpeeds, ODTimes, weighted_mean
from stgraph.scenario.periods import steps_of_periods
from stgraph.scenario.states import Edited

Origins: TypeAlias = Sequence[str | int] | pd.Series | gpd.GeoSeries


def reachable(
    od: ODTimes,
    demand: Demand,
    *,
    columns: Sequence[str] | None = None,
    minutes: Sequence[float] = (15, 30),
    zone: str = "UTC",
) -> pd.DataFrame:
    """Return how much can be reached from every zone, as `ScenarioResult.access` has it.

    Parameters
    ----------
    od
        Minutes between the zones, hour by hour.
    demand
        Zones, with the columns to be summed up.
    columns
        Numbers of the zones, such as ``("jobs",)``. None: `jobs` if there is such a column, else
        the zones themselves are counted, named "zones".
    minutes
        Limits.
    zone
        IANA name of the zone whose hours make morning, midday and afternoon.

    Returns
    -------
    pd.DataFrame
        Columns zone, period, and of every number and limit jobs_15_base and jobs_15_scn. A zone
        reaches itself. The time is the mean of the hours; what cannot be reached in one of them
        does not count as reached.

    Raises
    ------
    InputError
        If a column is missing, no number, or negative, or a limit is not above 0.
    """
    if columns is None:
        columns = ("jobs",) if "jobs" in demand.zones else ()
    numbers = {name: _numbers(demand.zones, name) for name in columns}
    if not numbers:
        numbers = {"zones": np.ones(demand.n_zones)}
    _check_limits(minutes)
    parts = []
    for period, chosen in steps_of_periods(od.hours, zone).items():
        part: dict[str, object] = {"zone": od.zones, "period": period}
        alike = np.ones((int(chosen.sum()), 1, 1))
        times = [weighted_mean(all_min[chosen], alike) for all_min in (od.base_min, od.scn_min)]
        for name, amount in numbers.items():
            for limit in minutes:
                for label, time in zip(("base", "scn"), times, strict=True):
                    part[f"{name}_{limit:g}_{label}"] = (time <= limit) @ amount
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def losers(access: pd.DataFrame, *, column: str, top_n: int = 10) -> pd.DataFrame:
    """Return the zones and parts of the day that lose most of what they reach.

    Parameters
    ----------
    access
        As `reachable` gives it, or `ScenarioResult.access`.
    column
        Number and limit, such as ``"jobs_15"``.
    top_n
        How many rows at most.

    Returns
    -------
    pd.DataFrame
        Columns zone, period, base, scenario, change, change_percent (NaN where there was nothing
        before), low and high (the range of the change, NaN where it is not known), worst first;
        only rows that lose something.

    Raises
    ------
    InputError
        If there is no such number.
    """
    known = [name.removesuffix("_base") for name in access.columns if name.endswith("_base")]
    if column not in known:
        hint = nearest_name(column, known)
        raise InputError(f"`column` is {column!r}{hint}; there are {', '.join(known) or 'none'}")
    base, scn = access[f"{column}_base"], access[f"{column}_scn"]
    found = access[["zone", "period"]].assign(base=base, scenario=scn, change=scn - base)
    found["change_percent"] = 100 * found["change"] / base.where(base > 0)
    for end in ("low", "high"):
        found[end] = access.get(f"{column}_{end}", np.nan)
    worse = found[found["change"] < 0]
    order = ["change", "zone", "period"]
    return worse.sort_values(order, kind="stable").head(top_n).reset_index(drop=True)


def isochrones(
    edited: Edited,
    speeds: HourlySpeeds,
    origins: Origins,
    *,
    minutes: Sequence[float] = (5, 10, 15, 30),
    periods: Sequence[str] | None = None,
    buffer_m: float = 60.0,
    zone: str = "UTC",
) -> gpd.GeoDataFrame:
    """Return the areas around the streets that can be reached from places in time.

    Parameters
    ----------
    edited
        Both networks.
    speeds
        Of every hour.
    origins
        Ids of junctions, or points, which start at the nearest junction. The index of a series
        names them.
    minutes
        Limits.
    periods
        Parts of the day, such as ``("am",)``. None: all that the horizon has.
    buffer_m
        How far from a street one still gets, in metres.
    zone
        IANA name of the zone whose hours make morning, midday and afternoon.

    Returns
    -------
    GeoDataFrame
        Columns origin, period, network (baseline or scenario), minutes, street_km, area_km2 and
        geometry (valid polygons in EPSG:4326; larger limits first, so that small ones are drawn on
        top). Streets reached in part count in part, and those of two directions once.

    Raises
    ------
    InputError
        If a junction or part of the day is not there, or a number is not above 0.

    Notes
    -----
    In a part of the day, a segment has the mean travel time of those hours in which it is open, and
    is closed if it is closed for more than half of them.
    """
    _check_limits([*minutes, buffer_m])
    junctions = _junctions(edited.roads, origins)
    names = list(origins.index) if isinstance(origins, pd.Series) else list(origins)
    parts = steps_of_periods(speeds.hours, zone)
    unknown = [name for name in periods or () if name not in parts]
    if unknown:
        raise InputError(f"`periods` has {unknown}; the horizon has {list(parts)}")
    lines = _lines(edited.roads)
    cover = Cover(lines, buffer_m)
    streets = StreetLength(lines, edited.parent, lengths(edited.roads) / 1000.0)
    places = [_place(edited.roads, lines, junction) for junction in junctions]
    rows = []
    for period in periods or parts:
        for network in ("baseline", "scenario"):
            kmh, is_open, banned = _period_network(edited, speeds, parts[period], network)
            reach = _Reach(edited.roads, kmh, is_open, banned)
            arrivals = reach.arrivals(junctions)
            for name, place, start in zip(names, places, arrivals, strict=True):
                for limit in sorted(minutes, reverse=True):
                    share = reach.shares(start, limit)
                    shape, km2 = cover.area(share, place)
                    km = streets.reached(share)
                    rows.append((name, period, network, limit, km, km2, shape))
    columns = ["origin", "period", "network", "minutes", "street_km", "area_km2", "geometry"]
    table = pd.DataFrame(rows, columns=columns)
    found = gpd.GeoDataFrame(table, geometry="geometry", crs=lines.crs).to_crs(4326)
    return found.set_geometry(polygons(found.geometry), crs=4326)


class _Reach:
    """A network at given speeds, and what can be reached on it."""

    def __init__(
        self, roads: STGraph, speed_kmh: Values, is_open: BoolArray, banned: IntArray
    ) -> None:
        self.minutes = segment_minutes(lengths(roads), speed_kmh, is_open)
        self.routes = build_routes(expanded(roads, banned, is_open), self.minutes)

    def arrivals(self, junctions: IntArray) -> Values:
        """Return when each of the E segments is entered from some junctions, (n, E) minutes."""
        starts = self.routes.net.source[: len(self.minutes)]
        return self.routes.from_junctions(junctions)[:, starts]

    def shares(self, start: Values, limit: float) -> Values:
        """Return how much of each segment is reached in time, from its beginning on, (E,)."""
        share = np.zeros(len(self.minutes))
        reached = np.flatnonzero((start <= limit) & np.isfinite(self.minutes))
        left = limit - start[reached]
        share[reached] = np.clip(left / np.maximum(self.minutes[reached], 1e-12), 0.0, 1.0)
        return share


def _lines(roads: STGraph) -> gpd.GeoSeries:
    """Return the segments in metres."""
    if not isinstance(roads.edges, gpd.GeoDataFrame) or roads.edges.crs is None:
        raise InputError("`roads` has no lines with a CRS; read it with its geometry")
    lines: gpd.GeoSeries = roads.edges.geometry.to_crs(roads.edges.estimate_utm_crs())
    return lines


def _place(roads: STGraph, lines: gpd.GeoSeries, junction: int) -> shapely.Point:
    """Return where a junction is: the end of one of its segments."""
    for ends, at in zip(roads.edge_index, (0, -1), strict=True):
        there = np.flatnonzero(ends == junction)
        if len(there):
            return shapely.Point(lines.iloc[there[0]].coords[at])
    return shapely.Point()


def _period_network(
    edited: Edited, speeds: HourlySpeeds, chosen: BoolArray, network: str
) -> tuple[Values, BoolArray, IntArray]:
    """Return the mean speeds, what is open and the forbidden turns of a part of the day."""
    base = network == "baseline"
    kmh = (speeds.base_kmh if base else speeds.scn_kmh)[chosen]
    is_open = (speeds.base_open if base else speeds.scn_open)[chosen]
    counted = is_open & (kmh > 0)
    pace = np.where(counted, 1.0 / np.where(counted, kmh, 1.0), 0.0).sum(axis=0)
    count = counted.sum(axis=0)
    mean = np.where(count > 0, count / np.where(count > 0, pace, 1.0), np.nan)
    states, n_hours = np.unique(speeds.state[chosen], return_counts=True)
    state = edited.periods[int(states[n_hours.argmax()])]  # that of most hours
    banned = (edited.baseline if base else state).banned_turns
    return mean, np.asarray(is_open.mean(axis=0) >= 0.5), banned


def _junctions(roads: STGraph, origins: Origins) -> IntArray:
    """Return the positions of junctions named by id, or nearest to points."""
    if isinstance(origins, gpd.GeoSeries):
        if origins.crs is None or origins.is_empty.any() or origins.isna().any():
            raise InputError("`origins` has no CRS or empty places; give points with a CRS")
        crs = origins.estimate_utm_crs()
        there = roads.nodes.geometry.to_crs(crs)
        found = there.sindex.nearest(origins.to_crs(crs).centroid, return_all=False)[1]
        return np.asarray(found, dtype=np.int64)
    positions = roads.node_ids.get_indexer(pd.Index(list(origins)))
    if (positions < 0).any():
        name = list(origins)[int(np.argmax(positions < 0))]
        hint = nearest_name(name, map(str, roads.node_ids))
        raise InputError(f"`origins` has {name!r}{hint}; give ids of junctions, or points")
    return np.asarray(positions, dtype=np.int64)


def _numbers(zones: gpd.GeoDataFrame, name: str) -> Values:
    """Return a column of the zones as numbers, those that are missing as 0."""
    if name not in zones:
        hint = nearest_name(name, map(str, zones.columns))
        there = ", ".join(str(column) for column in zones.columns if column != "geometry")
        raise InputError(f"`columns` has {name!r}{hint}; the zones have {there or 'none'}")
    numbers = pd.to_numeric(zones[name], errors="coerce")
    bad = (numbers.isna() & zones[name].notna()) | (numbers < 0) | np.isinf(numbers)
    if bad.any():
        first = zones.index[int(np.argmax(bad))]
        value = zones[name].iloc[int(np.argmax(bad))]
        raise InputError(
            f"`{name}` is {shown(value)} at zone {first!r}; give numbers of at least 0"
        )
    return numbers.fillna(0.0).to_numpy(dtype=np.float64)


def _check_limits(limits: Sequence[float]) -> None:
    """Raise where a limit is not above 0."""
    wrong = [limit for limit in limits if not (np.isfinite(limit) and limit > 0)]
    if wrong or not limits:
        raise InputError(f"`minutes` or `buffer_m` has {wrong}; give numbers above 0")
