"""Zones and the junctions where their trips enter the streets."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any, cast

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from stgraph.errors import nearest_name
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.neighbours._places import is_mercator
from stgraph.report import Report
from stgraph.scenario.week import Floats

# nobody lives on them: a junction of such streets alone is no place to begin a trip
NO_ACCESS = ("motorway", "motorway_link", "trunk_link")
_SHOWN = 5


def listed(values: Iterable[object], shown: int = _SHOWN) -> str:
    """Return the first values in words, and how many more there are."""
    words = [str(value) for value in values]
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def find_entries(roads: STGraph) -> BoolArray:
    """Tell which junctions trips can begin and end at.

    They lie in the largest part of the network in which every junction reaches every other, on at
    least one street that is no motorway (if there is any such street).

    Parameters
    ----------
    roads
        Junctions as nodes, segments as edges.

    Returns
    -------
    BoolArray
        (N,).
    """
    n = roads.n_nodes
    ends = roads.edge_index
    graph = csr_array((np.ones(roads.n_edges), (ends[0], ends[1])), shape=(n, n))
    _, part = connected_components(graph, directed=True, connection="strong")
    entries: BoolArray = part == np.bincount(part).argmax()
    table = roads.edges
    column = next((c for c in ("highway", "road_class") if table is not None and c in table), None)
    if table is None or column is None:
        return entries
    classes = table[column].astype("str").str.split(";").str[0]
    local = ~classes.isin(NO_ACCESS).to_numpy()
    reached = np.zeros(n, dtype=bool)
    reached[ends[:, local].ravel()] = True
    return entries & reached if (entries & reached).any() else entries


def place_zones(
    zones: gpd.GeoDataFrame,
    roads: STGraph,
    *,
    junction_column: str | None = None,
    max_distance_m: float = 2000.0,
    report: Report,
) -> tuple[gpd.GeoDataFrame, IntArray]:
    """Give every zone the junction where its trips begin and end.

    Parameters
    ----------
    zones
        Z rows indexed by zone id: points, or polygons that are taken by a point inside. Zones
        without a place must have ids of junctions.
    roads
        Junctions as nodes, segments as edges.
    junction_column
        Column of `zones` with ids of junctions. None: the nearest entry, see `find_entries`.
    max_distance_m
        Zones farther from their junction are reported.
    report
        Takes what is wrong: zones without a junction (errors), far ones (warnings).

    Returns
    -------
    zones
        With the columns `junction` (id) and `distance_m` (NaN where it was named).
    junctions
        (Z,) positions of junctions; those of zones in error mean nothing.
    """
    shapes = np.asarray(zones.geometry, dtype=object)
    placed = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    distance = np.full(len(zones), np.nan)
    if junction_column is not None:
        junctions = _named(zones, roads, junction_column, report)
    elif not placed.any():
        junctions = _by_id(zones.index, roads, report)
    else:
        junctions = np.zeros(len(zones), dtype=np.int64)
        if not placed.all():
            what = f"{int((~placed).sum())} have no place: {listed(zones.index[~placed])}"
            report.error("`zones`", what, "give them a place, or name junctions for all")
        junctions[placed], distance[placed] = _nearest(zones[placed], roads, report)
        _tell_far(zones.index, distance, max_distance_m, report)
    return zones.assign(junction=roads.node_ids[junctions], distance_m=distance), junctions


def _named(zones: gpd.GeoDataFrame, roads: STGraph, column: str, report: Report) -> IntArray:
    """Return the junctions that a column names."""
    if column not in zones:
        what = f"no column {column!r}{nearest_name(column, map(str, zones.columns), n=3)}"
        report.error("`junction_column`", what, f"there are {list(zones.columns)}")
        return np.zeros(len(zones), dtype=np.int64)
    return _by_id(pd.Index(zones[column]), roads, report)


def _by_id(ids: pd.Index[Any], roads: STGraph, report: Report) -> IntArray:
    """Return the positions of junctions by their ids, be they numbers or texts."""
    known = pd.Index(roads.node_ids.astype(str))
    wanted = pd.Index([_as_text(one) for one in ids])
    positions = known.get_indexer(wanted)
    unknown = positions < 0
    if unknown.any():
        first = wanted[unknown][0]
        what = f"{int(unknown.sum())} name no junction: {listed(wanted[unknown])}"
        todo = f"give zones a place, or ids of junctions{nearest_name(first, known, n=3)}"
        report.error("`zones`", what, todo, count=int(unknown.sum()))
    found: IntArray = np.maximum(positions, 0).astype(np.int64)
    return found


def _as_text(value: object) -> str:
    """Return an id as text; a column with gaps makes 12.0 of 12."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def choose_plane(places: gpd.GeoSeries) -> pyproj.CRS:
    """Return a CRS in metres for places that have a CRS."""
    crs = cast("pyproj.CRS", places.crs)
    if crs.geodetic_crs is None:
        return crs
    if crs.is_projected and crs.axis_info[0].unit_conversion_factor == 1.0 and not is_mercator(crs):
        return crs
    return places.estimate_utm_crs()


def project_junctions(roads: STGraph, plane: pyproj.CRS | None = None) -> Floats:
    """Return where junctions are, in metres; NaN where they have no place.

    Parameters
    ----------
    roads
        Junctions as nodes.
    plane
        A CRS in metres. None: that of the roads, or their UTM zone.

    Returns
    -------
    Floats
        (N, 2).
    """
    points = roads.nodes.geometry
    if points.crs is None or (points.isna() | points.is_empty).all():
        return np.stack([points.x, points.y], axis=1).astype(np.float64)
    moved = points.to_crs(choose_plane(points) if plane is None else plane)
    return np.stack([moved.x, moved.y], axis=1).astype(np.float64)


def _nearest(zones: gpd.GeoDataFrame, roads: STGraph, report: Report) -> tuple[IntArray, Floats]:
    """Return the nearest entry of each zone, and how far it is in metres."""
    nothing = np.zeros(len(zones), dtype=np.int64), np.full(len(zones), np.nan)
    if zones.crs is None or roads.nodes.crs is None:
        whose = "`zones`" if zones.crs is None else "`roads`"
        report.error(whose, "has no CRS", "call set_crs() on it, or name junctions for zones")
        return nothing
    plane = choose_plane(roads.nodes.geometry)
    inside = gpd.GeoSeries(zones.geometry.representative_point()).to_crs(plane)
    places = np.stack([inside.x, inside.y], axis=1)
    xy = project_junctions(roads, plane)
    usable = np.flatnonzero(find_entries(roads) & np.isfinite(xy).all(axis=1))
    if not len(usable):
        report.error("`roads`", "has no junction with a place", "read it with places")
        return nothing
    lost = ~np.isfinite(places).all(axis=1)
    if lost.any():
        what = f"{int(lost.sum())} are outside what the CRS of the roads can hold"
        report.error("`zones`", f"{what}: {listed(zones.index[lost])}", "check their CRS")
    distance, found = cKDTree(xy[usable]).query(np.nan_to_num(places))
    return usable[found].astype(np.int64), np.where(lost, np.nan, distance)


def _tell_far(ids: pd.Index[Any], distance: Floats, limit: float, report: Report) -> None:
    """Note zones that are far from their junction; that all are is an error."""
    far = distance > limit
    if not far.any():
        return
    worst = int(np.nanargmax(distance))
    what = f"{int(far.sum())} of {len(ids)} are farther than {limit:g} m from a street: "
    what += f"{listed(ids[far])}; the farthest is {ids[worst]} with {distance[worst]:,.0f} m"
    if far[np.isfinite(distance)].all() and len(ids) > 1:
        todo = "check the CRS, and that zones and roads are of the same place"
        report.error("`zones`", what, todo, count=int(far.sum()))
    else:
        todo = "their trips begin at the nearest junction all the same; a wider network helps"
        report.warning("`zones`", what, todo, count=int(far.sum()))


# ---------------------------------------------------------------- zones where there are none


def build_zones(
    roads: STGraph, weights: Floats, *, n_zones: int = 200
) -> tuple[gpd.GeoDataFrame, IntArray, IntArray]:
    """Cut the junctions of a network into zones of about the same weight.

    The heaviest part is halved across its longer side until there are enough.

    Parameters
    ----------
    roads
        Junctions as nodes, with places.
    weights
        (N,) how many trips begin or end at a junction; junctions with 0 are in no zone.
    n_zones
        How many at most.

    Returns
    -------
    zones
        Z rows, ids ``"Z1"`` ...; the place is that of the junction, columns `junction`,
        `n_junctions` and `weight`.
    junctions
        (Z,) positions: the member nearest to the centre of weight.
    zone_of_junction
        (N,) position of the zone, -1 for none.
    """
    xy = project_junctions(roads)
    usable = np.flatnonzero(find_entries(roads) & (weights > 0) & np.isfinite(xy).all(axis=1))
    parts = _halve(xy, weights, usable, n_zones)
    zone_of = np.full(roads.n_nodes, -1, dtype=np.int64)
    junctions = np.zeros(len(parts), dtype=np.int64)
    for i, part in enumerate(parts):
        zone_of[part] = i
        centre = np.average(xy[part], axis=0, weights=weights[part])
        junctions[i] = part[np.argmin(((xy[part] - centre) ** 2).sum(axis=1))]
    zones = gpd.GeoDataFrame(
        {
            "junction": roads.node_ids[junctions],
            "n_junctions": [len(part) for part in parts],
            "weight": [float(weights[part].sum()) for part in parts],
        },
        index=pd.Index([f"Z{i + 1}" for i in range(len(parts))], name="zone_id"),
        geometry=roads.nodes.geometry.to_numpy()[junctions],
        crs=roads.nodes.crs,
    )
    return zones, junctions, zone_of


def _halve(xy: Floats, weights: Floats, usable: IntArray, n_zones: int) -> list[IntArray]:
    """Return the positions of the members of each part, in a fixed order."""
    if not len(usable):
        return []
    queue: list[tuple[float, int, IntArray]] = [(-float(weights[usable].sum()), 0, usable)]
    done: list[IntArray] = []
    number = 1
    while queue and len(queue) + len(done) < n_zones:
        _, _, part = heapq.heappop(queue)
        if len(part) == 1:
            done.append(part)
            continue
        axis = int(np.argmax(np.ptp(xy[part], axis=0)))
        part = part[np.lexsort((part, xy[part, axis]))]
        share = np.cumsum(weights[part])
        cut = int(np.argmin(np.abs(share - share[-1] / 2))) + 1
        cut = min(max(cut, 1), len(part) - 1)
        for half in (part[:cut], part[cut:]):
            heapq.heappush(queue, (-float(weights[half].sum()), number, half))
            number += 1
    parts = [*done, *(part for _, _, part in queue)]
    return sorted((np.sort(part) for part in parts), key=lambda part: int(part[0]))
