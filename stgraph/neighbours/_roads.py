"""A road graph as arrays, whichever of its two forms it comes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.errors import shown
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._lines import measure_lines
from stgraph.neighbours._places import Float64Array
from stgraph.neighbours._turns import all_turns
from stgraph.report import Report

GeometryArray = npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Roads:
    """S directed segments of a road network, and what may follow what."""

    segment_id: IntArray  # (S,)
    lines: GeometryArray  # (S,) LineStrings in driving direction, in `crs`
    length_m: Float64Array  # (S,)
    table: pd.DataFrame  # S rows, attributes of the segments
    crs: pyproj.CRS
    junctions: IntArray | None  # (2, S) start and end of each segment; None where turns are given
    turns: IntArray | None  # (2, A) segments that may follow each other; None: see `find_turns`
    forbidden: IntArray  # (2, R) turns that are not allowed

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self.lines)


def read_roads_graph(roads: Any, report: Report) -> Roads | None:
    """Return the segments of a road graph, or note why it is none.

    The segments are the edges of a graph of junctions, or the nodes of a graph of segments.
    """
    if not isinstance(roads, STGraph):
        report.error("`roads`", f"is a {type(roads).__name__}", "pass a road graph (STGraph)")
        return None
    primal = isinstance(roads.edges, gpd.GeoDataFrame)
    table: gpd.GeoDataFrame = roads.edges if primal else roads.nodes  # type: ignore[assignment]
    crs = table.crs or roads.nodes.crs
    lines = np.asarray(table.geometry, dtype=object)
    # 1: LineString; what is missing has -1
    drawn = (shapely.get_type_id(lines) == 1) & ~shapely.is_empty(lines)
    if not len(lines) or not drawn.any():
        what = "has no segments" if primal or not len(lines) else "has no lines as geometry"
        todo = "read it with a road connector, or put a line on every edge or node"
        report.error("`roads`", what, todo)
        return None
    if not drawn.all():
        count, first = int((~drawn).sum()), int(np.argmin(drawn))
        name = "nothing" if lines[first] is None else f"a {lines[first].geom_type}"
        what = f"has {name} at segment {first}, one of {count} that are no LineStrings"
        report.error("`roads`", what, "drop them, or split them into single lines", count=count)
    if crs is None:
        report.error("`roads`", "has no CRS", "call set_crs() on its nodes and edges")
    if report.errors or crs is None:
        return None
    ids = _segment_ids(roads, table, report)
    found = Roads(
        segment_id=ids,
        lines=lines,
        length_m=_lengths(roads, table, primal, lines, crs, report),
        table=table.drop(columns=table.geometry.name).reset_index(drop=True),
        crs=crs,
        junctions=roads.edge_index if primal else None,
        turns=None if primal else roads.edge_index,
        forbidden=_forbidden(roads, ids, report),
    )
    return None if report.errors else found


def _segment_ids(roads: STGraph, table: gpd.GeoDataFrame, report: Report) -> IntArray:
    """Return the id of every segment: their column, the node ids, or their position."""
    if "segment_id" in table.columns:
        column = table["segment_id"]
    elif table is roads.nodes:
        column = pd.Series(roads.node_ids)
    else:
        return np.arange(len(table), dtype=np.int64)
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any() or (numbers % 1 != 0).any() or numbers.duplicated().any():
        todo = "number the segments with whole numbers, each once"
        report.error("`roads`, `segment_id`", "holds ids that are no number or appear twice", todo)
        return np.arange(len(table), dtype=np.int64)
    return numbers.to_numpy(dtype=np.int64)


def _lengths(
    roads: STGraph,
    table: gpd.GeoDataFrame,
    primal: bool,
    lines: GeometryArray,
    crs: pyproj.CRS,
    report: Report,
) -> Float64Array:
    """Return the length of every segment, as given or else measured, or note what it cannot be."""
    if "length_m" in table.columns:
        length_m = pd.to_numeric(table["length_m"], errors="coerce").to_numpy(dtype=np.float64)
    elif primal and roads.weight_unit == "m":
        length_m = roads.edge_weight.astype(np.float64)
    else:
        return measure_lines(lines, crs).length_m
    bad = ~(length_m >= 0) | np.isinf(length_m)  # NaN is not at least 0
    if bad.any():
        first, count = int(np.argmax(bad)), int(bad.sum())
        what = f"is {shown(length_m[first])} at segment {first}, one of {count} such"
        todo = "give metres of at least 0, or drop the column to have them measured"
        report.error("`roads`, `length_m`", what, todo, count=count)
    return length_m


def _forbidden(roads: STGraph, ids: IntArray, report: Report) -> IntArray:
    """Return the forbidden turns as positions of segments; those of unknown segments are noted."""
    given = np.asarray(roads.provenance.get("restrictions", []), dtype=np.int64).reshape(-1, 2)
    positions = np.stack([pd.Index(ids).get_indexer(pd.Index(part)) for part in given.T])
    known = (positions >= 0).all(axis=0)
    if not known.all():
        count = int((~known).sum())
        what = f"{count} turn restrictions name segments that are not there"
        report.info("`roads`", what, "left out", count=count)
    return positions[:, known].astype(np.int64)


def find_twins(roads: Roads) -> IntArray:
    """Return for every segment the one that runs the other way on the same line, or -1."""
    first, last = (shapely.get_coordinates(shapely.get_point(roads.lines, at)) for at in (0, -1))
    corners = ["x0", "y0", "x1", "y1"]
    there = pd.DataFrame(np.hstack([first, last]), columns=corners)
    back = pd.DataFrame(np.hstack([last, first]), columns=corners)
    there["a"] = back["b"] = np.arange(len(roads))
    pairs = there.merge(back, on=corners)
    pairs = pairs[pairs["a"] != pairs["b"]]
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    same = shapely.equals_exact(roads.lines[a], shapely.reverse(roads.lines[b]), tolerance=1e-9)
    twins = np.full(len(roads), -1, dtype=np.int64)
    twins[a[same][::-1]] = b[same][::-1]  # of several the first
    return twins


def find_turns(roads: Roads, twins: IntArray, *, u_turns: bool) -> IntArray:
    """Return which segment may follow which, as (2, A) positions.

    Without U-turns, a segment is not followed by its twin, except at a dead end, where nothing
    else can follow. Forbidden turns are left out.
    """
    turns = roads.turns
    if turns is None:
        start, end = cast("IntArray", roads.junctions)  # a graph of segments brings its turns
        turns = np.stack(all_turns(start, end, int(max(start.max(), end.max())) + 1))
        if not u_turns:
            back = twins[turns[0]] == turns[1]
            going_on = np.bincount(turns[0][~back], minlength=len(roads))
            turns = turns[:, ~back | (going_on[turns[0]] == 0)]
    code = turns[0] * len(roads) + turns[1]
    return turns[:, ~np.isin(code, roads.forbidden[0] * len(roads) + roads.forbidden[1])]
