"""Connect places by what somebody measured: a table of distances or an adjacency matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array, issparse, sparray

from stgraph.errors import GraphError, nearest_name, shown
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._edges import (
    WHERE,
    Pairs,
    Weight,
    check_weight,
    finish_graph,
    gaussian_kernel,
    no_pairs,
    spread,
    weigh,
)
from stgraph.neighbours._places import Places, check_length, start_graph
from stgraph.neighbours.gaussian import check_threshold
from stgraph.report import Report

Matrix = npt.NDArray[Any] | sparray | pd.DataFrame


def build_from_distances(
    places: Places,
    table: pd.DataFrame,
    *,
    source_column: str = "from",
    target_column: str = "to",
    length_column: str = "cost",
    weight: Weight = "gaussian",
    sigma_m: float | None = None,
    threshold: float = 0.1,
    max_length_m: float | None = None,
    include_self: bool = True,
    ignore_unknown: bool = False,
) -> STGraph:
    """Connect places by a table of distances, such as those along the roads.

    Parameters
    ----------
    places
        One row per node, indexed by unique node id; geometry is not needed. A graph keeps its
        nodes and signal and gets new edges.
    table
        One row per directed pair, with node ids and metres; pairs that are not listed are not
        connected. A pair listed several times counts with its shortest distance.
    source_column, target_column, length_column
        Names of the columns; the defaults are those of the distance tables that come with
        METR-LA and PEMS-BAY.
    weight
        ``"gaussian"``: exp(-(length/sigma)^2); ``"length"``: metres; ``"binary"``: 1.
    sigma_m
        Width of the Gaussian kernel in metres. None takes the standard deviation of the
        distances used (their mean where they are all equal).
    threshold
        Smallest Gaussian weight kept, from 0 up to but not including 1.
    max_length_m
        Leave out pairs further apart than this, in metres. None uses all.
    include_self
        Whether pairs of a node with itself are used where the table has them.
    ignore_unknown
        Leave out pairs with ids that `places` does not have, instead of refusing them.

    Returns
    -------
    STGraph
        N nodes, directed edges as in the table sorted by (target, source), their lengths in
        ``edges["length_m"]``.

    Raises
    ------
    GraphError
        Columns are missing, ids are unknown, or distances are negative or no numbers.

    Notes
    -----
    With the defaults the result is the adjacency that Li et al., "Diffusion convolutional
    recurrent neural network", ICLR 2018, publish with PEMS-BAY.
    """
    report = Report()
    check_weight(report, weight)
    check_length(report, "sigma_m", sigma_m)
    check_length(report, "max_length_m", max_length_m)
    check_threshold(report, threshold)
    if sigma_m is not None and weight in ("length", "binary"):
        report.error("`sigma_m`", f"has no use with weight={weight!r}", "leave one of them out")
    graph = start_graph(places, report)
    columns = [source_column, target_column, length_column]
    pairs = _read_pairs(table, columns, graph.node_ids, report, ignore_unknown=ignore_unknown)
    report.raise_errors(GraphError, title="cannot connect places by the distance table")

    pairs = _shortest(pairs, report).no_longer_than(max_length_m)
    if not include_self:
        pairs = pairs.take(pairs.source != pairs.target)
    weights, notes = weigh(pairs.length_m, weight)
    if weight == "gaussian":
        sigma_m = sigma_m or spread(pairs.length_m)
        weights = gaussian_kernel(pairs.length_m, sigma_m)
        pairs, weights = pairs.take(weights >= threshold), weights[weights >= threshold]
        notes |= {"sigma_m": sigma_m, "threshold": threshold}
    how: dict[str, Any] = {"method": "distances", "max_length_m": max_length_m}
    return finish_graph(graph, pairs, weights, how=how | notes, report=report)


def build_from_adjacency(
    places: Places,
    matrix: Matrix,
    *,
    ids: Sequence[Any] | None = None,
    weight_unit: str = "1",
    include_self: bool = True,
    ignore_unknown: bool = False,
) -> STGraph:
    """Connect places by an adjacency matrix.

    Parameters
    ----------
    places
        As for `build_from_distances`.
    matrix
        (N, N), row = source, column = target, weights at least 0, 0 = no edge: an array, a scipy
        sparse array, or a DataFrame with node ids as index and columns.
    ids
        Node ids in the order of the rows and columns. None means the order of `places` (or the
        labels of a DataFrame).
    weight_unit
        What a weight is: ``"1"`` for similarities, ``"m"`` for lengths.
    include_self
        Whether the diagonal is used.
    ignore_unknown
        Leave out rows and columns of `ids` that `places` does not have, instead of refusing them.

    Returns
    -------
    STGraph
        N nodes, one directed edge per weight above 0, sorted by (target, source).

    Raises
    ------
    GraphError
        Wrong shape, negative weights or weights that are no numbers, or ids that do not fit.
    """
    report = Report()
    graph = start_graph(places, report)
    if isinstance(matrix, pd.DataFrame):
        if ids is None:
            ids = list(matrix.index)
            if list(matrix.columns) != ids:
                report.error("`matrix`", "has different index and columns", "label both alike")
        matrix = matrix.to_numpy()
    source, target, weights = _read_matrix(matrix, report)
    position = _row_positions(ids, matrix, graph.node_ids, report, ignore_unknown=ignore_unknown)
    report.raise_errors(GraphError, title="cannot connect places by the adjacency matrix")

    source, target = position[source], position[target]
    kept = (source >= 0) & (target >= 0) & (weights > 0)
    if not include_self:
        kept &= source != target
    pairs = Pairs(source[kept], target[kept], np.zeros(int(kept.sum())))
    how = {"method": "adjacency", "weight_unit": weight_unit}
    return finish_graph(graph, pairs, weights[kept], how=how, report=report, columns={})


def _read_pairs(
    table: pd.DataFrame,
    columns: list[str],
    node_ids: pd.Index,
    report: Report,
    *,
    ignore_unknown: bool,
) -> Pairs:
    """Return the rows of a distance table as pairs of nodes, or note what is wrong with them."""
    if not isinstance(table, pd.DataFrame):
        report.error("`table`", f"is a {type(table).__name__}", "pass a DataFrame, a pair a row")
        return no_pairs()
    missing = [name for name in columns if name not in table.columns]
    for name in missing:
        report.error(
            "`table`",
            f"has no column {name!r}{nearest_name(name, map(str, table.columns))}",
            f"it has {list(table.columns)}; name the columns to use",
        )
    if missing:
        return no_pairs()
    source, target = (match_ids(table[name], node_ids) for name in columns[:2])
    length_m = pd.to_numeric(table[columns[2]], errors="coerce").to_numpy(dtype=np.float64)
    known = (source >= 0) & (target >= 0)
    _note_unknown(table, columns, [source < 0, target < 0], report, ignore_unknown)
    bad = ~(length_m >= 0) | np.isinf(length_m)  # NaN is not at least 0
    bad &= known
    if bad.any():
        row = int(np.argmax(bad))
        report.error(
            f"`table`, column {columns[2]!r}, row {shown(table.index[row])}",
            f"holds {shown(table[columns[2]].iloc[row])}, as one of {int(bad.sum())} distances "
            "that are negative, missing or no numbers",
            "give metres of at least 0, or leave the pair out",
            count=int(bad.sum()),
        )
    return Pairs(source, target, length_m).take(known)


def match_ids(values: Any, node_ids: pd.Index) -> IntArray:
    """Return the position of each id among the nodes, -1 where there is none.

    Numbers match node ids that are text, and text matches node ids that are numbers: whether a
    file says 400001 or "400001" depends on its reader, not on its author.
    """
    values = pd.Series(values)
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    if pd.api.types.is_integer_dtype(node_ids):
        values = pd.to_numeric(values, errors="coerce").astype("Float64")
    elif pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_numeric_dtype(node_ids):
        values = values.astype(str).where(values.notna())
    positions = pd.Series(np.arange(len(node_ids)), index=node_ids.astype(values.dtype))
    return positions.reindex(values, fill_value=-1).to_numpy(dtype=np.int64)


def _note_unknown(
    table: pd.DataFrame,
    columns: list[str],
    unknown: list[npt.NDArray[np.bool_]],
    report: Report,
    ignore_unknown: bool,
) -> None:
    """Note ids of a distance table that no node has."""
    if ignore_unknown:
        count = int((unknown[0] | unknown[1]).sum())
        if count:
            report.info(WHERE, f"{count} pairs of unknown nodes left out, as asked", count=count)
        return
    for name, where in zip(columns, unknown, strict=False):
        if where.any():
            row = int(np.argmax(where))
            report.error(
                f"`table`, column {name!r}, row {shown(table.index[row])}",
                f"names the unknown node {shown(table[name].iloc[row])}, in "
                f"{int(where.sum())} rows",
                "correct the ids, or pass ignore_unknown=True to leave such pairs out",
                count=int(where.sum()),
            )


def _shortest(pairs: Pairs, report: Report) -> Pairs:
    """Return every pair once, with its shortest distance, and note where they differed."""
    order = np.lexsort((pairs.length_m, pairs.source, pairs.target))
    pairs = pairs.take(order)
    again = np.zeros(len(order), dtype=bool)
    again[1:] = (np.diff(pairs.source) == 0) & (np.diff(pairs.target) == 0)
    longer = again.copy()
    longer[1:] &= np.diff(pairs.length_m) > 0
    if longer.any():
        count = int(longer.sum())
        report.warning(
            WHERE, f"{count} pairs are listed with several distances", "took the shortest"
        )
    return pairs.take(~again)


def _read_matrix(matrix: Any, report: Report) -> tuple[IntArray, IntArray, npt.NDArray[np.float64]]:
    """Return row, column and weight of what is not 0, or note what is wrong with the matrix."""
    none = (*np.zeros((2, 0), dtype=np.int64), np.zeros(0))
    if not issparse(matrix):
        matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        report.error("`matrix`", f"has shape {matrix.shape}", "it must be (N, N)")
        return none
    if matrix.dtype != bool and not np.issubdtype(matrix.dtype, np.number):
        report.error("`matrix`", f"has dtype {matrix.dtype}", "it must hold numbers")
        return none
    if np.issubdtype(matrix.dtype, np.complexfloating):
        report.error("`matrix`", f"has dtype {matrix.dtype}", "it must hold real numbers")
        return none
    sparse = coo_array(matrix)
    sparse.sum_duplicates()
    source, target = (part.astype(np.int64) for part in sparse.coords)
    weights = np.asarray(sparse.data, dtype=np.float64)
    bad = ~(weights >= 0) | np.isinf(weights)
    if bad.any():
        first = int(np.argmax(bad))
        report.error(
            f"`matrix`, row {source[first]}, column {target[first]}",
            f"holds {weights[first]}, as one of {int(bad.sum())} weights that are negative or no "
            "numbers",
            "use weights of at least 0; 0 means no edge",
            count=int(bad.sum()),
        )
    return source, target, weights


def _row_positions(
    ids: Sequence[Any] | None,
    matrix: Any,
    node_ids: pd.Index,
    report: Report,
    *,
    ignore_unknown: bool,
) -> IntArray:
    """Return the node of each row of the matrix, -1 for rows to leave out."""
    n_rows = np.shape(matrix)[0] if np.ndim(matrix) else 0
    if ids is None:
        if n_rows != len(node_ids):
            report.error(
                "`matrix`",
                f"has {n_rows} rows for {len(node_ids)} nodes",
                "pass `ids` with the node id of each row, or cut it to the nodes",
            )
        return np.arange(n_rows, dtype=np.int64)
    position = match_ids(ids, node_ids)
    if len(position) != n_rows:
        report.error("`ids`", f"has {len(position)} ids for {n_rows} rows", "one id a row")
    twice = pd.Index(ids)[pd.Index(ids).duplicated()]
    if len(twice):
        report.error("`ids`", f"appear twice: {list(twice[:5])}", "make them unique")
    unknown = pd.Index(ids)[position < 0]
    if len(unknown) and not ignore_unknown:
        report.error(
            "`ids`",
            f"{len(unknown)} are no node: {list(unknown[:5])}",
            "correct them, or pass ignore_unknown=True to leave their rows out",
            count=len(unknown),
        )
    elif len(unknown):
        report.info(WHERE, f"{len(unknown)} rows of unknown nodes left out, as asked")
    return position
