"""Which places of another source count for which node."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import geopandas as gpd
import numpy as np
import shapely

from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._places import Float64Array, Positions, to_metres
from stgraph.neighbours.tables import match_ids
from stgraph.report import Report

Space = Literal["nearest", "within", "around", "same id", "all nodes"]


class Links(NamedTuple):
    """Pairs of a node and a place that counts for it, sorted by node."""

    node: IntArray  # (L,) positions in the graph
    place: IntArray  # (L,) positions in the other source
    length_m: Float64Array  # (L,) NaN where distance plays no part


def link_places(
    graph: STGraph,
    places: gpd.GeoDataFrame | None,
    *,
    space: Space,
    max_distance_m: float | None,
    where: str,
    report: Report,
) -> Links:
    """Return which places count for which node; what makes that impossible goes to the report."""
    n_places = 1 if places is None else len(places)
    if space == "all nodes" or places is None:
        node = np.repeat(np.arange(graph.n_nodes), n_places)
        return _links(node, np.tile(np.arange(n_places), graph.n_nodes), None)
    if space == "same id":
        return _same_id(graph, places, where, report)
    points, shapes = _in_one_crs(graph, places, where, report)
    if report.errors:
        return _links(np.zeros(0), np.zeros(0), None)
    known = np.flatnonzero(~shapely.is_missing(points))
    if space == "within":
        return _within(points, known, shapes, where, report)
    if (shapely.get_type_id(shapes[~shapely.is_missing(shapes)]) == 0).all():
        return _by_points(graph, points, known, shapes, space, max_distance_m)
    return _by_shapes(graph, points, known, shapes, space, max_distance_m)


def _links(node: Any, place: Any, length_m: Any) -> Links:
    """Return links in the order of nodes."""
    node, place = (np.asarray(part, dtype=np.int64) for part in (node, place))
    length = np.full(len(node), np.nan) if length_m is None else np.asarray(length_m, dtype=float)
    order = np.lexsort((place, node))
    return Links(node[order], place[order], length[order])


def _same_id(graph: STGraph, places: gpd.GeoDataFrame, where: str, report: Report) -> Links:
    """Return links between equal ids; a number and its text are equal."""
    found = match_ids(places.index, graph.node_ids)
    if not (found >= 0).any():
        report.error(
            where,
            f"no id is that of a node: {list(places.index[:3])} there, "
            f"{list(graph.node_ids[:3])} here",
            'join by place: space = "nearest"',
        )
    kept = np.flatnonzero(found >= 0)
    return _links(found[kept], kept, None)


def _in_one_crs(
    graph: STGraph, places: gpd.GeoDataFrame, where: str, report: Report
) -> tuple[Any, Any]:
    """Return node points and the shapes of places, both in the CRS of the graph."""
    for name, table in (("the graph", graph.nodes), (where, places)):
        if table.crs is None or table.geometry.isna().all():
            lacking = "geometry" if table.geometry.isna().all() else "CRS"
            todo = 'join with space = "same id" or "all nodes", or give places'
            report.error(name, f"has no {lacking}", todo)
    if report.errors:
        return None, None
    crs: Any = graph.nodes.crs
    shapes = places.geometry.to_crs(crs).to_numpy()
    geometry = graph.nodes.geometry.to_numpy()
    return shapely.centroid(geometry), shapes


def _within(points: Any, known: Any, shapes: Any, where: str, report: Report) -> Links:
    """Return links to the areas that a node lies in."""
    if not (shapely.get_dimensions(shapes) == 2).any():
        report.error(where, "has no areas to lie within", 'use space = "nearest" or "around"')
        return _links(np.zeros(0), np.zeros(0), None)
    areas = np.where(shapely.get_dimensions(shapes) == 2, shapes, None)
    node, place = shapely.STRtree(areas).query(points[known], predicate="intersects")
    return _links(known[node], place, None)


def _by_points(
    graph: STGraph, points: Any, known: Any, shapes: Any, space: Space, reach: float | None
) -> Links:
    """Return links by distances between points, on the ground."""
    crs: Any = graph.nodes.crs
    there = np.flatnonzero(~shapely.is_missing(shapes))
    ours = Positions(known, *to_metres(shapely.get_coordinates(points[known]), crs))
    theirs = Positions(there, *to_metres(shapely.get_coordinates(shapes[there]), crs))
    if space == "nearest" or reach is None:
        straight, place = (np.asarray(part) for part in theirs.tree().query(ours.xyz))
        node = np.arange(len(known))
    else:
        pairs = ours.tree().sparse_distance_matrix(
            theirs.tree(), theirs.to_straight(reach), output_type="ndarray"
        )
        node, place, straight = pairs["i"], pairs["j"], pairs["v"]
    length = ours.to_length(straight)
    kept = np.full(len(node), fill_value=True) if reach is None else length <= reach
    return _links(known[node[kept]], there[place[kept]], length[kept])


def _by_shapes(
    graph: STGraph, points: Any, known: Any, shapes: Any, space: Space, reach: float | None
) -> Links:
    """Return links by distances to lines and areas, on the plane of the local UTM zone."""
    nodes = gpd.GeoSeries(points, crs=graph.nodes.crs)
    plane = nodes.estimate_utm_crs()
    ours = nodes.to_crs(plane).to_numpy()[known]
    theirs = gpd.GeoSeries(shapes, crs=graph.nodes.crs).to_crs(plane).to_numpy()
    tree = shapely.STRtree(theirs)
    if space == "nearest" or reach is None:
        (node, place), length = tree.query_nearest(
            ours, max_distance=reach, all_matches=False, return_distance=True
        )
    else:
        node, place = tree.query(ours, predicate="dwithin", distance=reach)
        length = shapely.distance(ours[node], theirs[place])
    return _links(known[node], place, length)
