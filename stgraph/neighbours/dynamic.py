"""Edges that change over time: one graph whose edge table says from when to when each is valid.

A dynamic graph is an STGraph whose `edges` have the columns `valid_from` and `valid_to`, UTC
instants of half-open intervals; a `valid_to` that is missing means: until further notice. One pair
of nodes may have several edges, one after the other. Models take one set of edges:
`collapse_edges` makes it, `edges_at` picks that of an instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import GraphError, InputError, nearest_name
from stgraph.graph import BoolArray, FloatArray, IntArray, STGraph
from stgraph.neighbours._edges import WHERE
from stgraph.report import Report

EdgeSet = tuple[Any, Any, Any]  # instant, edge_index (2, E), edge_weight (E,) or None
How = Literal["mean", "mean_when_valid", "max", "min", "last"]

FROM, TO = "valid_from", "valid_to"
_FOR_EVER = np.iinfo(np.int64).max

Int64Array = npt.NDArray[np.int64]


def build_dynamic(
    graph: STGraph,
    edge_sets: Iterable[EdgeSet],
    *,
    until: Any = None,
    weight_unit: str = "1",
) -> STGraph:
    """Give a graph edges that change over time.

    Parameters
    ----------
    graph
        Its nodes and signal are kept, its edges replaced.
    edge_sets
        Instant, edge_index (2, E) and edge_weight (E,), None for 1. A set is valid from its
        instant until the next one's. Naive instants are UTC; any order. A pair that a set lists
        twice counts with the sum of its weights.
    until
        When the last set ends. None: with the signal, or without one after as long as the set
        before it; a single set without a signal has no end.
    weight_unit
        What a weight is.

    Returns
    -------
    STGraph
        One edge per pair and interval of one weight, sorted by (target, source, valid_from).

    Raises
    ------
    GraphError
        No sets, two of one instant, edges that point nowhere, weights that are no numbers.
    """
    report = Report()
    sets = [_read_set(i, edge_set, graph.n_nodes, report)
            for i, edge_set in enumerate(edge_sets)]  # fmt: skip
    if not sets:
        report.error("`edge_sets`", "holds none", "give at least one (instant, edges, weights)")
    report.raise_errors(GraphError, title="cannot build a dynamic graph")
    sets.sort(key=lambda one: one[0])
    starts = np.array([one[0] for one in sets], dtype=np.int64)
    if (twice := np.flatnonzero(np.diff(starts) == 0)).size:
        report.error("`edge_sets`", f"two are of {_stamp(starts[twice[0]])}", "join them first")
    end = _end(graph, starts, until, report)
    report.raise_errors(GraphError, title="cannot build a dynamic graph")
    ends = np.append(starts[1:], end)

    # all edges of all sets, those of a pair together and in order of time
    number = np.repeat(np.arange(len(sets)), [one[1].shape[1] for one in sets])
    edge_index = np.concatenate([one[1] for one in sets], axis=1)
    weight = np.concatenate([one[2] for one in sets])
    order = np.lexsort((number, edge_index[0], edge_index[1]))
    edge_index, weight, number = edge_index[:, order], weight[order], number[order]
    goes_on = np.zeros(len(number), dtype=bool)
    same_pair = (np.diff(edge_index, axis=1) == 0).all(axis=0)
    goes_on[1:] = same_pair & (np.diff(number) == 1) & (np.diff(weight) == 0)
    first = np.flatnonzero(~goes_on)
    last = np.append(first[1:], len(number)) - 1 if len(first) else first
    table = pd.DataFrame(
        {FROM: _instants(starts[number[first]]), TO: _instants(ends[number[last]])}
    )
    kept = [finding for finding in graph.report if finding.where != WHERE]
    notes = {"method": "dynamic", "n_edge_sets": len(sets), "n_edges": len(first)}
    return graph.replace(
        edge_index=edge_index[:, first],
        edge_weight=weight[first],
        weight_unit=weight_unit,
        edges=table,
        provenance={
            **graph.provenance,
            "graph": notes,
            "findings": Report([*kept, *report]).to_json(),
        },
    )


def is_dynamic(graph: STGraph) -> bool:
    """Tell whether the edges of a graph change over time."""
    return graph.edges is not None and {FROM, TO} <= set(graph.edges.columns)


def edges_at(graph: STGraph, instant: Any) -> STGraph:
    """Return the graph with the edges that are valid at an instant, a static graph.

    Parameters
    ----------
    graph
        A dynamic graph; a static one is returned as it is.
    instant
        Naive instants are UTC.

    Raises
    ------
    InputError
        The instant is none, or the intervals are damaged.
    """
    if not is_dynamic(graph):
        return graph
    since, until = _intervals(graph)
    at = _us(instant)
    return _keep(graph, (since <= at) & (at < until))


def iterate_edge_sets(graph: STGraph) -> Iterator[tuple[pd.Timestamp, IntArray, FloatArray]]:
    """Yield instant, edge_index and edge_weight whenever the edges change.

    Parameters
    ----------
    graph
        A dynamic graph; `build_dynamic` makes it again of the sets. One without edges is yielded
        where there are none between two sets.

    Raises
    ------
    InputError
        The graph is static, or the intervals are damaged.
    """
    since, until = _required(graph)
    changes = np.unique(np.concatenate([since, until[until < _FOR_EVER]]))
    for at in changes:
        valid = (since <= at) & (at < until)
        if valid.any() or at < changes[-1]:
            yield _stamp(at), graph.edge_index[:, valid], graph.edge_weight[valid]


def collapse_edges(
    graph: STGraph, how: How = "mean", *, start: Any = None, stop: Any = None
) -> STGraph:
    """Make one edge of all edges of a pair, so that models can take the graph.

    Parameters
    ----------
    graph
        A dynamic graph; a static one is returned as it is.
    how
        ``"mean"``: over all the time, 0 while there is no edge, as for flows and similarities;
        ``"mean_when_valid"``: over the time with an edge, as for lengths; ``"max"``, ``"min"``;
        ``"last"``: the last one.
    start, stop
        Look at this time only, such as that of the training. None: from the first edge to the
        end of the last, where edges without an end last as long as the signal.

    Returns
    -------
    STGraph
        An edge per pair that had one, sorted by (target, source); `valid_share` in `edges` is the
        share of the time in which it had. Other columns are those of its first edge.

    Raises
    ------
    InputError
        `how` is unknown, no edge is valid in the time asked for, or intervals are damaged.
    """
    if how not in get_args(How):
        hint = nearest_name(how, get_args(How))
        raise InputError(f"`how` is {how!r}{hint}; use one of {list(get_args(How))}")
    if not is_dynamic(graph):
        return graph
    since, until = _intervals(graph)
    first = int(since.min()) if start is None else _us(start)
    final = _final(graph, since, until) if stop is None else _us(stop)
    inside = (since < final) & (until > first)
    if not inside.any():
        raise InputError(
            f"no edge is valid from {_stamp(first)} to {_stamp(final)}; edges are from "
            f"{_stamp(since.min())} on"
        )
    rows = np.flatnonzero(inside)
    rows = rows[np.lexsort((since[rows], graph.edge_index[0, rows], graph.edge_index[1, rows]))]
    pairs = graph.edge_index[:, rows]
    begins = np.flatnonzero(np.append(True, (np.diff(pairs, axis=1) != 0).any(axis=0)))
    length = (np.minimum(until, final) - np.maximum(since, first))[rows].astype(np.float64)
    weight, share = _collapse(graph.edge_weight[rows], length, begins, final - first, how)
    assert graph.edges is not None  # noqa: S101 - it is dynamic
    table = graph.edges.iloc[rows[begins]].drop(columns=[FROM, TO]).reset_index(drop=True)
    notes = graph.provenance.get("graph", {})
    return graph.replace(
        edge_index=pairs[:, begins],
        edge_weight=weight.astype(np.float32),
        edges=table.assign(valid_share=share),
        provenance={**graph.provenance, "graph": {**notes, "collapsed": how}},
    )


# ---------------------------------------------------------------- small


def _collapse(
    weight: FloatArray,
    length: npt.NDArray[np.float64],
    begins: Int64Array,
    span: int,
    how: How,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the weight of each run of edges, and the share of the time that they cover."""
    valid = np.add.reduceat(length, begins)
    if how in ("mean", "mean_when_valid"):
        total = np.add.reduceat(weight * length, begins)
        result = total / (span if how == "mean" else valid)
    elif how == "last":
        result = weight[np.append(begins[1:], len(weight)) - 1].astype(np.float64)
    else:
        reduce = np.maximum if how == "max" else np.minimum
        result = reduce.reduceat(weight, begins).astype(np.float64)
    return np.asarray(result), np.asarray(valid / span)


def _final(graph: STGraph, since: Int64Array, until: Int64Array) -> int:
    """Return when the last edge ends; one without an end lasts as long as the signal."""
    ends = until[until < _FOR_EVER]
    final = int(ends.max()) if len(ends) else 0
    if len(ends) < len(until):
        if graph.n_steps and graph.step is not None:
            final = max(final, _us(graph.time[-1] + graph.step))
        # one that begins last of all counts as much as an instant, rather than not at all
        final = max(final, int(since.max()) + 1)
    return final


def _read_set(
    i: int, edge_set: EdgeSet, n_nodes: int, report: Report
) -> tuple[int, IntArray, FloatArray]:
    """Return instant, edges and weights of a set, every pair once."""
    where, nothing = f"`edge_sets`, set {i}", (0, np.zeros((2, 0), np.int64), np.zeros(0, "f4"))
    try:
        instant, index, weights = edge_set
        at = _us(instant)
        edge_index = np.asarray(index)
        weight = np.asarray(
            np.ones(edge_index.shape[-1]) if weights is None else weights, dtype=np.float64
        ).ravel()
    except (ValueError, TypeError, IndexError) as error:
        report.error(where, str(error)[:120], "give (instant, edge_index, edge_weight)")
        return nothing
    if edge_index.size == 0:
        return at, nothing[1], nothing[2]
    whole = np.issubdtype(edge_index.dtype, np.integer)
    if edge_index.ndim != 2 or edge_index.shape[0] != 2 or not whole:
        what = f"`edge_index` has shape {edge_index.shape} and dtype {edge_index.dtype}"
        report.error(where, what, "it must be (2, E) whole numbers")
    elif weight.shape != edge_index.shape[1:] or not np.isfinite(weight).all():
        what = f"has {weight.size} weights for {edge_index.shape[1]} edges"
        what = "has weights that are no numbers" if weight.size == edge_index.shape[1] else what
        report.error(where, what, "one finite weight an edge")
    elif edge_index.min() < 0 or edge_index.max() >= n_nodes:
        what = f"points at node {edge_index.max()} but the graph has {n_nodes}"
        report.error(where, what, "positions are 0 to the number of nodes - 1")
    else:
        return at, *_join_pairs(edge_index.astype(np.int64), weight, n_nodes, where, report)
    return nothing


def _join_pairs(
    edge_index: IntArray, weight: npt.NDArray[np.float64], n_nodes: int, where: str, report: Report
) -> tuple[IntArray, FloatArray]:
    """Return every pair once, with the sum of its weights."""
    keys, codes = np.unique(edge_index[1] * n_nodes + edge_index[0], return_inverse=True)
    repeats = len(codes) - len(keys)
    if repeats:
        report.warning(where, f"lists {repeats} pairs again", "their weights were added up")
    target, source = np.divmod(keys, n_nodes)
    total = np.bincount(codes, weight, len(keys))
    return np.stack([source, target]).astype(np.int64), total.astype(np.float32)


def _end(graph: STGraph, starts: Int64Array, until: Any, report: Report) -> int:
    """Return when the last set ends."""
    last = int(starts[-1])
    if until is not None:
        end = _us(until)
        if end <= last:
            what = f"is {_stamp(end)}, the last set begins at {_stamp(last)}"
            report.error("`until`", what, "give a later instant")
        return end
    if graph.n_steps and graph.step is not None:
        end = _us(graph.time[-1] + graph.step)
        if end > last:
            return end
    return last + int(starts[-1] - starts[-2]) if len(starts) > 1 else _FOR_EVER


def _required(graph: STGraph) -> tuple[Int64Array, Int64Array]:
    """Return the intervals of a graph that must be dynamic."""
    if not is_dynamic(graph):
        raise InputError(f"`edges` has no columns {FROM!r} and {TO!r}; build_dynamic makes them")
    return _intervals(graph)


def _intervals(graph: STGraph) -> tuple[Int64Array, Int64Array]:
    """Return from when to when edges are valid, in microseconds."""
    assert graph.edges is not None  # noqa: S101 - asked before
    columns = []
    for name in (FROM, TO):
        column = graph.edges[name]
        if not pd.api.types.is_datetime64_any_dtype(column):
            raise InputError(f"`edges`, column {name!r}, is {column.dtype}; it must hold instants")
        columns.append(pd.DatetimeIndex(pd.to_datetime(column, utc=True)).as_unit("us"))
    if columns[0].hasnans:
        raise InputError(f"`edges`, column {FROM!r}, has missing instants; fill them")
    since = np.asarray(columns[0].asi8)
    until: Int64Array = np.where(columns[1].isna(), _FOR_EVER, columns[1].asi8)
    if (bad := np.flatnonzero(until <= since)).size:
        what = f"row {int(bad[0])}: ends at {columns[1][bad[0]]}, not after {columns[0][bad[0]]}"
        raise InputError(f"`edges`, {what}; intervals are half-open, from before to after")
    return since, until


def _keep(graph: STGraph, valid: BoolArray) -> STGraph:
    """Return the static graph of some of the edges."""
    assert graph.edges is not None  # noqa: S101 - asked before
    table = graph.edges[valid].drop(columns=[FROM, TO]).reset_index(drop=True)
    return graph.replace(
        edge_index=graph.edge_index[:, valid],
        edge_weight=graph.edge_weight[valid],
        edges=table if len(table.columns) else None,
    )


def _us(instant: Any) -> int:
    """Return microseconds since 1970 UTC of an instant."""
    try:
        stamp = pd.Timestamp(instant)
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp
        return int(stamp.tz_convert("UTC").as_unit("us").asm8.astype(np.int64))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{instant!r} is no instant; write 2024-01-31T16:45Z") from error


def _stamp(us: Any) -> pd.Timestamp:
    """Return an instant in UTC."""
    return pd.Timestamp(int(us), unit="us", tz="UTC")


def _instants(us: Int64Array) -> pd.DatetimeIndex:
    """Return instants in UTC, missing where there is no end."""
    nat = np.iinfo(np.int64).min
    values = np.where(us == _FOR_EVER, nat, us).view("datetime64[us]")
    return pd.DatetimeIndex(values).tz_localize("UTC")
