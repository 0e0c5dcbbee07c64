"""Connect polygons that touch each other."""

from __future__ import annotations

from typing import Any, Literal, cast

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from stgraph.errors import GraphError, nearest_name, shown
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._edges import Pairs, check_weight, finish_graph, weigh
from stgraph.neighbours._places import (
    Float64Array,
    Places,
    Positions,
    locate,
    start_graph,
    to_metres,
)
from stgraph.report import Report

Rule = Literal["queen", "rook"]
_RULES = ("queen", "rook")
_WEIGHTS = ("binary", "shared", "length", "gaussian")
Geometries = npt.NDArray[np.object_]


def build_contiguity(
    places: Places,
    *,
    rule: Rule = "queen",
    weight: Literal["binary", "shared", "length", "gaussian"] = "binary",
) -> STGraph:
    """Connect polygons that touch each other.

    Parameters
    ----------
    places
        Valid polygons, one row per node, in any CRS; a graph keeps its nodes and signal. In a
        geographic CRS polygons also meet across the antimeridian.
    rule
        ``"queen"``: one common point is enough; ``"rook"``: a common border is needed.
    weight
        ``"binary"``: 1; ``"shared"``: length of the common border in metres; ``"length"``:
        metres between centroids; ``"gaussian"``: exp(-(length/sigma)^2) of those.

    Returns
    -------
    STGraph
        N nodes, edges in both directions sorted by (target, source), with ``length_m`` between
        centroids and ``shared_m`` of common border in ``edges``.

    Raises
    ------
    GraphError
        Options or CRS cannot be used, or a geometry is no valid polygon; every problem is listed.

    Notes
    -----
    Borders must be drawn with the same vertices on both sides: a gap, however thin, separates.
    """
    report = Report()
    if rule not in _RULES:
        todo = f"use one of {list(_RULES)}"
        report.error("`rule`", f"is {rule!r}{nearest_name(rule, _RULES)}", todo)
    check_weight(report, weight, _WEIGHTS)
    graph = start_graph(places, report, kind="cell")
    check_polygons(graph.nodes, report)
    positions = locate(graph, report)
    report.raise_errors(GraphError, title="cannot connect touching polygons")

    polygons = np.asarray(graph.nodes.geometry, dtype=object)[positions.nodes]
    crs = cast("pyproj.CRS", graph.nodes.crs)  # there is geometry, so there is one
    first, second, shared_m = touching_pairs(polygons, crs, rule, report)
    pairs = Pairs(first, second, positions.lengths(first, second)).both_ways().of_nodes(positions)
    shared_m = np.concatenate([shared_m, shared_m])
    weights, notes = _weights(pairs, shared_m, weight)
    how: dict[str, Any] = {"method": "contiguity", "rule": rule, "metric": positions.metric}
    columns = {"length_m": pairs.length_m, "shared_m": shared_m}
    return finish_graph(graph, pairs, weights, how=how | notes, report=report, columns=columns)


def _weights(
    pairs: Pairs, shared_m: Float64Array, weight: Any
) -> tuple[Float64Array, dict[str, Any]]:
    """Return the weights of edges and what to note about them."""
    if weight == "shared":
        return shared_m, {"weight": weight, "weight_unit": "m"}
    return weigh(pairs.length_m, weight)


def check_polygons(nodes: gpd.GeoDataFrame, report: Report) -> None:
    """Note geometries that are no polygons, or no valid ones."""
    geometry = np.asarray(nodes.geometry, dtype=object)
    present = ~shapely.is_missing(geometry)
    others = np.flatnonzero(present & (shapely.get_dimensions(geometry) != 2))
    if len(others):
        first = others[0]
        report.error(
            "`places`",
            f"{len(others)} geometries are no polygons, such as the "
            f"{geometry[first].geom_type} of {shown(nodes.index[first])}",
            "use `build_knn` or `build_delaunay` for points",
            count=len(others),
        )
    invalid = np.flatnonzero(present & ~shapely.is_valid(geometry))
    if len(invalid):
        first = invalid[0]
        report.error(
            "`places`",
            f"{len(invalid)} geometries are not valid, first {shown(nodes.index[first])}: "
            f"{shapely.is_valid_reason(geometry[first])}",
            "repair them with make_valid()",
            count=len(invalid),
        )


def touching_pairs(
    polygons: Geometries, crs: pyproj.CRS, rule: Rule, report: Report
) -> tuple[IntArray, IntArray, Float64Array]:
    """Return pairs of touching polygons, first < second, and the length of their border."""
    first, second, common = _meet(polygons, polygons)
    if crs.is_geographic:
        # once more after a full turn, for polygons that meet across the antimeridian
        turn = round(2 * np.pi / crs.axis_info[0].unit_conversion_factor, 9)
        bounds = shapely.bounds(polygons)
        west = np.flatnonzero(bounds[:, 0] + turn <= bounds[:, 2].max(initial=-np.inf) + 1e-9)
        turned = shapely.transform(polygons[west], lambda xy: xy + np.array([turn, 0.0]))
        rows, others, across = _meet(turned, polygons)
        first, second = np.append(first, west[rows]), np.append(second, others)
        common = np.append(common, across)
        first, second = np.minimum(first, second), np.maximum(first, second)
    dimension = shapely.get_dimensions(common)
    different = first < second
    overlapping = np.flatnonzero(different & (dimension == 2))
    if len(overlapping):
        example = overlapping[0]
        report.warning(
            "`places`",
            f"{len(overlapping)} pairs of polygons overlap, such as rows {first[example]} and "
            f"{second[example]} of those with a geometry",
            "they count as neighbours; check the layer",
            count=len(overlapping),
        )
    kept = different & (dimension >= (0 if rule == "queen" else 1))
    return _merge(first[kept], second[kept], _border_m(common[kept], crs), len(polygons))


def _meet(some: Geometries, others: Geometries) -> tuple[IntArray, IntArray, Geometries]:
    """Return which polygons meet which, and what they have in common; each pair once."""
    first, second = shapely.STRtree(others).query(some, predicate="intersects")
    if some is others:
        first, second = first[first < second], second[first < second]
    return first, second, shapely.intersection(some[first], others[second])


def _merge(
    first: IntArray, second: IntArray, border_m: Float64Array, n: int
) -> tuple[IntArray, IntArray, Float64Array]:
    """Return every pair once, with the sum of its borders."""
    keys, place = np.unique(first.astype(np.int64) * n + second, return_inverse=True)
    total_m = np.bincount(place, weights=border_m, minlength=len(keys)).astype(np.float64)
    return keys // n, keys % n, total_m


def _border_m(common: Geometries, crs: pyproj.CRS) -> Float64Array:
    """Return the length of common lines in metres; half the outline where polygons overlap."""
    parts, pair = shapely.get_parts(common, return_index=True)
    area = shapely.get_dimensions(parts) == 2
    parts[area] = shapely.boundary(parts[area])
    # an outline may be several rings
    lines, part = shapely.get_parts(parts, return_index=True)
    corners, line = shapely.get_coordinates(lines, return_index=True)
    xyz, metric = to_metres(corners, crs)
    straight = np.linalg.norm(np.diff(xyz, axis=0), axis=1)
    length_m = Positions(np.arange(len(xyz)), xyz, metric).to_length(straight)
    same_line = line[1:] == line[:-1]
    part_of = part[line[1:][same_line]]
    share = np.where(area[part_of], 0.5, 1.0)
    weights = length_m[same_line] * share
    return np.bincount(pair[part_of], weights=weights, minlength=len(common)).astype(np.float64)
