"""Turn a road network inside out: its directed segments become nodes, its turns become edges."""

from __future__ import annotations

from typing import Any, cast

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely

from stgraph.errors import GraphError
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.neighbours._edges import (
    Pairs,
    Weight,
    check_weight,
    finish_graph,
    weigh,
)
from stgraph.neighbours._lines import measure_lines
from stgraph.neighbours._turns import all_turns
from stgraph.report import Report

_MEASURES = ("length_m", "bearing_deg", "bearing_start_deg", "bearing_end_deg")
# lines whose lengths, as drawn, differ by less may be the two ways of one street
_SAME_M, _SAME_DEGREES = 1e-3, 1e-6


def build_line_graph(
    roads: STGraph, *, u_turns: bool = False, weight: Weight = "binary"
) -> STGraph:
    """Make every directed segment a node, and every turn from one to the next an edge.

    Parameters
    ----------
    roads
        Junctions as nodes and directed segments as edges. Its `edges` is a GeoDataFrame with a
        unique integer `segment_id` and LineStrings from source to target; without `edges`,
        straight lines between the nodes are taken, numbered in their order. Lengths, bearings
        and travel times are taken from columns as the road connectors make them, or measured.
        Turns in ``provenance["restrictions"]``, pairs of segment ids, get no edge.
    u_turns
        Whether a turn from a segment back onto the same street in the other direction counts.
    weight
        ``"binary"``: 1; ``"length"``: metres from midpoint to midpoint; ``"gaussian"``:
        exp(-(length/mean length)^2).

    Returns
    -------
    STGraph
        A node per segment, indexed by `segment_id` and with all its columns, `from_junction`,
        `to_junction` and `reverse_id` (the same street the other way, -1 where there is none).
        An edge per turn with `via_junction`, `turn_angle_deg` (-180 to 180, 0 straight on, right
        positive), `length_m` and, with travel times, `travel_time_s` from midpoint to midpoint.

    Raises
    ------
    GraphError
        The graph has no edges, no CRS, or segment ids or lines that cannot be used.
    """
    report = Report()
    check_weight(report, weight)
    segments = _segments(roads, report)
    report.raise_errors(GraphError, title="cannot build a line graph")
    source, target = roads.edge_index
    before, after = all_turns(source, target, roads.n_nodes)
    crs = cast("pyproj.CRS", roads.nodes.crs)  # there is one, else there was an error
    close = _SAME_DEGREES if crs.is_geographic else _SAME_M
    back = _reverse_of(segments, source, target, close)
    kept = np.ones(len(before), bool) if u_turns else back[before] != after
    kept &= ~_forbidden(before, after, segments["segment_id"], roads.provenance)
    before, after = before[kept], after[kept]
    columns = _turn_columns(segments, before, after, roads.node_ids[target[before]])
    weights, notes = weigh(columns["length_m"], weight)
    ids = segments["segment_id"].to_numpy()
    nodes = segments.assign(
        kind="segment",
        from_junction=roads.node_ids[source],
        to_junction=roads.node_ids[target],
        reverse_id=np.where(back >= 0, ids[back], -1),
    )
    nodes.index = pd.Index(nodes.pop("segment_id"))
    provenance = {key: note for key, note in roads.provenance.items() if key != "restrictions"}
    graph = STGraph(nodes=nodes, zone=roads.zone, provenance=provenance)
    return finish_graph(
        graph,
        Pairs(before, after, columns["length_m"]),
        weights,
        how={"method": "line_graph", "u_turns": u_turns, **notes},
        report=report,
        columns=columns,
        join="look at them in QGIS if the roads should be connected",
    )


def _segments(roads: STGraph, report: Report) -> gpd.GeoDataFrame:
    """Return the table of segments with ids, lines, lengths and bearings, or note what lacks."""
    edges = roads.edges
    if roads.n_edges == 0:
        report.error("`roads`", "has no edges", "give a road network with junctions as nodes")
    crs = roads.nodes.crs
    if crs is None:
        report.error("`roads`", "has no CRS", "set_crs() on its nodes")
    if report.errors or crs is None:
        return gpd.GeoDataFrame()
    if not isinstance(edges, gpd.GeoDataFrame):
        table = pd.DataFrame() if edges is None else edges
        lines = _straight_lines(roads, report)
        if lines is None:
            return gpd.GeoDataFrame()
        edges = gpd.GeoDataFrame(table, geometry=lines, crs=crs)
    if not isinstance(edges.index, pd.RangeIndex):
        edges = edges.reset_index(drop=True)
    if edges.active_geometry_name != "geometry":
        edges = edges.rename_geometry("geometry")
    if "segment_id" not in edges:
        edges = edges.assign(segment_id=np.arange(len(edges)))
    _check_segments(edges, report)
    if not report.errors and not set(_MEASURES) <= set(edges.columns):
        measures = measure_lines(np.asarray(edges.geometry), crs)
        missing = [name for name in _MEASURES if name not in edges]
        edges = edges.assign(**{name: getattr(measures, name) for name in missing})
    return edges


def _straight_lines(roads: STGraph, report: Report) -> Any:
    """Return straight lines from node to node, or note nodes that have no place."""
    points = np.asarray(roads.nodes.geometry, dtype=object)
    if shapely.is_missing(points).any() or (shapely.get_type_id(points) != 0).any():
        report.error(
            "`roads`", "has neither lines on its edges nor points on its nodes", "give either"
        )
        return None
    xy = shapely.get_coordinates(points)
    return shapely.linestrings(xy[roads.edge_index.T])


def _check_segments(edges: gpd.GeoDataFrame, report: Report) -> None:
    """Note ids that are no unique integers, and geometries that are no lines."""
    ids = edges["segment_id"]
    if not pd.api.types.is_integer_dtype(ids):
        report.error("`roads.edges`", f"`segment_id` is of type {ids.dtype}", "use integers")
    elif ids.duplicated().any():
        first = ids[ids.duplicated()].iloc[0]
        report.error("`roads.edges`", f"`segment_id` {first} appears twice", "make them unique")
    others = np.flatnonzero(shapely.get_type_id(np.asarray(edges.geometry)) != 1)
    if len(others):
        shape = edges.geometry.iloc[others[0]]
        what = "no geometry" if shape is None else f"a {shape.geom_type}"
        report.error(
            "`roads.edges`",
            f"{len(others)} edges are no LineString; the first, at {others[0]}, has {what}",
            "split or drop them",
        )


def _reverse_of(
    segments: gpd.GeoDataFrame, source: IntArray, target: IntArray, close: float
) -> IntArray:
    """Return for each segment the position of the same street the other way, or -1."""
    low, high = np.minimum(source, target), np.maximum(source, target)
    length = shapely.length(np.asarray(segments.geometry))
    order = np.lexsort((length, high, low))
    first, second = order[:-1], order[1:]
    # runs of segments between the same junctions and of the same length
    joined = (low[first] == low[second]) & (high[first] == high[second])
    joined &= np.abs(length[second] - length[first]) < close
    run = np.concatenate([[0], np.cumsum(~joined)])
    xy = _centres(segments)
    reverse = np.full(len(source), -1)
    pair = np.flatnonzero(np.bincount(run) == 2)
    start = np.searchsorted(run, pair)
    _match(order[start], order[start + 1], source, target, xy, reverse)
    for number in np.flatnonzero(np.bincount(run) > 2):  # several streets, all of one length
        members = order[np.searchsorted(run, number) : np.searchsorted(run, number, side="right")]
        for one in members:
            for other in members[members > one]:
                if reverse[one] < 0 and reverse[other] < 0:
                    _match(np.array([one]), np.array([other]), source, target, xy, reverse)
    return reverse


def _match(
    one: IntArray, other: IntArray, source: IntArray, target: IntArray, xy: Any, reverse: IntArray
) -> None:
    """Note in `reverse` the pairs that run between the same ends, opposite, along one line."""
    opposite = (source[one] == target[other]) & (target[one] == source[other])
    scale = 1e-9 * np.maximum(1.0, np.abs(xy[one]).max(axis=1, initial=0.0)) + 1e-7
    same = opposite & (np.abs(xy[one] - xy[other]).max(axis=1, initial=0.0) < scale)
    reverse[one[same]], reverse[other[same]] = other[same], one[same]


def _centres(segments: gpd.GeoDataFrame) -> Any:
    """Return the means of the points of lines: a line and its reverse have the same."""
    lines = np.asarray(segments.geometry)
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    count = np.bincount(owner, minlength=len(lines))
    sums = [np.bincount(owner, weights=part, minlength=len(lines)) for part in xy.T]
    return np.column_stack(sums) / count[:, None]


def _forbidden(before: IntArray, after: IntArray, ids: pd.Series, provenance: Any) -> BoolArray:
    """Tell which turns the provenance forbids."""
    restrictions = np.asarray(provenance.get("restrictions", []), dtype=np.int64).reshape(-1, 2)
    if not len(restrictions):
        return np.zeros(len(before), bool)
    position = pd.Index(ids).get_indexer(restrictions.ravel()).reshape(-1, 2)
    position = position[(position >= 0).all(axis=1)]
    n = len(ids)
    return np.isin(before * n + after, position[:, 0] * n + position[:, 1])


def _turn_columns(
    segments: gpd.GeoDataFrame, before: IntArray, after: IntArray, via: pd.Index
) -> dict[str, Any]:
    """Return the attributes of turns: where, how sharp, how far, how long."""
    end, begin = (segments[f"bearing_{name}_deg"].to_numpy() for name in ("end", "start"))
    turn = (begin[after] - end[before] + 180.0) % 360.0 - 180.0
    columns: dict[str, Any] = {
        "via_junction": via.to_numpy(),
        "turn_angle_deg": np.where(turn == -180.0, 180.0, turn),
    }
    for name in ("length_m", "travel_time_s"):
        if name in segments:
            amount = segments[name].to_numpy(dtype=np.float64)
            columns[name] = (amount[before] + amount[after]) / 2
    return columns
