"""Connect cells with those at most k steps away: squares, hexagons, or polygons that touch."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
import pyproj
from scipy.sparse import csr_array

from stgraph.errors import GraphError, nearest_name
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._edges import (
    Pairs,
    Weight,
    check_edge_count,
    check_weight,
    finish_graph,
    weigh,
)
from stgraph.neighbours._places import (
    Float64Array,
    Places,
    Positions,
    check_count,
    locate,
    start_graph,
)
from stgraph.neighbours.contiguity import Rule, check_polygons, touching_pairs
from stgraph.report import Report

_RULES = ("queen", "rook")
_AT_ONCE = 1_000_000  # pairs whose length is taken at once
_SPARSE = 8  # places in the table of a grid per cell, above which cells are searched for


def build_k_ring(
    places: Places, *, k: int = 1, rule: Rule = "queen", weight: Weight = "binary"
) -> STGraph:
    """Connect every cell with the cells at most k steps away.

    Parameters
    ----------
    places
        Cells, one row per node. Squares have whole numbers in the columns `row` and `column`;
        hexagons have H3 cells of one resolution as ids; any other valid polygons are neighbours
        where they touch. A graph keeps its nodes and signal.
    k
        Steps, at least 1.
    rule
        ``"queen"``: a step may go over a corner; ``"rook"``: over sides only. Hexagons have no
        corners to go over.
    weight
        ``"binary"``: 1; ``"length"``: metres between centroids; ``"gaussian"``:
        exp(-(length/sigma)^2) of those.

    Returns
    -------
    STGraph
        N nodes, edges in both directions sorted by (target, source), with ``length_m`` between
        centroids and the number of steps ``ring`` (1 to k) in ``edges``.

    Raises
    ------
    GraphError
        Options, CRS or geometry cannot be used; every problem is listed.

    Notes
    -----
    ``provenance["grid"]["columns_around"]`` of a graph, as the connector `raster` writes it for
    a grid around the globe, says that the last column is beside the first.
    """
    report = Report()
    check_count(report, "k", k)
    if rule not in _RULES:
        todo = f"use one of {list(_RULES)}"
        report.error("`rule`", f"is {rule!r}{nearest_name(rule, _RULES)}", todo)
    check_weight(report, weight)
    graph = start_graph(places, report, kind="cell")
    positions = locate(graph, report)
    report.raise_errors(GraphError, title="cannot connect cells")

    nodes = graph.nodes.iloc[positions.nodes]
    if _is_grid(nodes):
        layout = "squares"
        around = dict(graph.provenance.get("grid", {})).get("columns_around")
        source, target, ring = _square_pairs(nodes, k, rule, around)
    elif (cells := _as_h3(nodes.index)) is not None:
        layout = "hexagons"
        source, target, ring = _hexagon_pairs(cells, k)
    else:
        layout = "polygons"
        source, target, ring = _polygon_pairs(graph, positions, k, rule, report)
    pairs = Pairs(source, target, _lengths(positions, source, target)).of_nodes(positions)
    weights, notes = weigh(pairs.length_m, weight)
    how: dict[str, Any] = {"method": "k_ring", "k": k, "rule": rule, "cells": layout}
    how |= {"metric": positions.metric, **notes}
    columns = {"length_m": pairs.length_m, "ring": ring}
    return finish_graph(graph, pairs, weights, how=how, report=report, columns=columns)


def _lengths(positions: Positions, source: IntArray, target: IntArray) -> Float64Array:
    """Return the lengths of pairs, some at a time: millions of points on the sphere are large."""
    length_m = np.empty(len(source))
    for start in range(0, len(source), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        length_m[part] = positions.lengths(source[part], target[part])
    return length_m


# ---------------------------------------------------------------- squares


def _is_grid(nodes: pd.DataFrame) -> bool:
    """Tell whether every node has its own row and column."""
    if not {"row", "column"} <= set(nodes.columns):
        return False
    whole = all(pd.api.types.is_integer_dtype(nodes[name]) for name in ("row", "column"))
    return whole and not nodes.duplicated(["row", "column"]).any()


def _square_pairs(
    nodes: pd.DataFrame, k: int, rule: Rule, around: int | None
) -> tuple[IntArray, IntArray, IntArray]:
    """Return source, target and steps of all pairs of squares at most k steps apart."""
    row, column = (nodes[name].to_numpy(dtype=np.int64) for name in ("row", "column"))
    steps = [(r, c, _steps(r, c, rule)) for r in range(-k, k + 1) for c in range(-k, k + 1)]
    steps = [step for step in steps if 0 < step[2] <= k]
    check_edge_count(len(row) * len(steps), todo="use a smaller k or larger cells")
    find = _finder(row, column)
    sources: list[IntArray] = []
    targets: list[IntArray] = []
    rings: list[IntArray] = []
    for r, c, steps_away in steps:
        beside = column + c if around is None else (column + c) % around
        found = find(row + r, beside)
        target = np.flatnonzero(found >= 0)
        sources.append(found[target])
        targets.append(target)
        rings.append(np.full(len(target), steps_away, dtype=np.int64))
    source, target, ring = (np.concatenate(parts) for parts in (sources, targets, rings))
    if around is None or around > 2 * k:
        return source, target, ring
    return _shortest(source, target, ring, len(row))  # so few columns that both ways round meet


def _steps(rows: int, columns: int, rule: Rule) -> int:
    """Return how many steps a cell is away."""
    rows, columns = abs(rows), abs(columns)
    return max(rows, columns) if rule == "queen" else rows + columns


def _finder(row: IntArray, column: IntArray) -> Any:
    """Return a function from rows and columns to positions of cells, -1 where there is none."""
    first_row, first_column = int(row.min(initial=0)), int(column.min(initial=0))
    n_rows = int(row.max(initial=0)) - first_row + 1
    n_columns = int(column.max(initial=0)) - first_column + 1
    keys = (row - first_row) * n_columns + (column - first_column)
    is_dense = n_rows * n_columns <= _SPARSE * len(keys) + 1_000
    order = np.argsort(keys, kind="stable")
    table = np.zeros(0, dtype=np.int64)
    if is_dense:
        table = np.full(n_rows * n_columns, -1, dtype=np.int64)
        table[keys] = np.arange(len(keys))

    def find(rows: IntArray, columns: IntArray) -> IntArray:
        rows, columns = rows - first_row, columns - first_column
        inside = (rows >= 0) & (rows < n_rows) & (columns >= 0) & (columns < n_columns)
        wanted = np.where(inside, rows * n_columns + columns, 0)
        if is_dense:
            return np.where(inside, table[wanted], -1)
        place = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
        found = order[place]
        return np.where(inside & (keys[found] == wanted), found, -1)

    return find


def _shortest(
    source: IntArray, target: IntArray, ring: IntArray, n: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Return every pair once, with its fewest steps, and none of a cell with itself."""
    order = np.lexsort((ring, source, target))
    keys = target[order] * n + source[order]
    kept = order[np.diff(keys, prepend=-1) != 0]
    kept = kept[source[kept] != target[kept]]
    return source[kept], target[kept], ring[kept]


# ---------------------------------------------------------------- hexagons


def _as_h3(ids: pd.Index) -> list[int] | None:
    """Return ids as H3 cells of one resolution, or None where they are not."""
    if len(ids) == 0 or not isinstance(ids[0], str):
        return None
    from h3.api import basic_int as h3

    try:
        cells = [int(text, 16) for text in ids]
    except ValueError:
        return None
    if not all(h3.is_valid_cell(cell) for cell in cells):
        return None
    return cells if len({h3.get_resolution(cell) for cell in cells}) == 1 else None


def _hexagon_pairs(cells: list[int], k: int) -> tuple[IntArray, IntArray, IntArray]:
    """Return source, target and steps of all pairs of hexagons at most k steps apart."""
    from h3.api import basic_int as h3

    check_edge_count(len(cells) * 3 * k * (k + 1), todo="use a smaller k or larger cells")
    known = np.array(cells, dtype=np.uint64)
    order = np.argsort(known)
    ordered = known[order]
    sources, targets, rings = [], [], []
    for ring in range(1, k + 1):
        around = [h3.grid_ring(cell, ring) for cell in cells]
        counts = np.fromiter(map(len, around), dtype=np.int64, count=len(cells))
        flat = np.fromiter(
            (cell for cells_around in around for cell in cells_around),
            dtype=np.uint64,
            count=int(counts.sum()),
        )
        place = np.minimum(np.searchsorted(ordered, flat), len(ordered) - 1)
        there = ordered[place] == flat
        sources.append(order[place[there]])
        targets.append(np.repeat(np.arange(len(cells)), counts)[there])
        rings.append(np.full(int(there.sum()), ring, dtype=np.int64))
    return np.concatenate(sources), np.concatenate(targets), np.concatenate(rings)


# ---------------------------------------------------------------- any polygons


def _polygon_pairs(
    graph: STGraph, positions: Positions, k: int, rule: Rule, report: Report
) -> tuple[IntArray, IntArray, IntArray]:
    """Return source, target and steps of all pairs of polygons at most k steps apart."""
    check_polygons(graph.nodes, report)
    report.raise_errors(GraphError, title="cannot connect cells")
    polygons = np.asarray(graph.nodes.geometry, dtype=object)[positions.nodes]
    crs = cast("pyproj.CRS", graph.nodes.crs)  # there is geometry, so there is one
    first, second, _ = touching_pairs(polygons, crs, rule, report)
    n = len(polygons)
    ends = np.concatenate([first, second]), np.concatenate([second, first])
    touches = csr_array((np.ones(len(ends[0]), dtype=np.int64), ends), (n, n))
    everyone = np.arange(n)
    seen = csr_array((np.ones(n, dtype=np.int64), (everyone, everyone)), (n, n))
    reached = seen
    sources: list[IntArray] = []
    targets: list[IntArray] = []
    rings: list[IntArray] = []
    for ring in range(1, k + 1):
        reached = _ones(reached @ touches)
        reached = _ones(reached - reached * seen)  # those not met before
        seen = _ones(seen + reached)
        check_edge_count(seen.nnz - n, todo="use a smaller k or larger cells")
        target, source = (np.asarray(end, dtype=np.int64) for end in reached.nonzero())
        sources.append(source)
        targets.append(target)
        rings.append(np.full(len(source), ring, dtype=np.int64))
    return np.concatenate(sources), np.concatenate(targets), np.concatenate(rings)


def _ones(matrix: Any) -> csr_array:
    """Return a matrix with 1 wherever it is not 0."""
    ones: csr_array = csr_array(matrix)
    ones.eliminate_zeros()
    ones.data = np.ones_like(ones.data)
    return ones
