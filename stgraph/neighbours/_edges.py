"""From pairs of places to the edges of a graph: choice, weights, order, and what to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from stgraph.errors import GraphError, nearest_name
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._places import Float64Array, Positions
from stgraph.report import Report

Weight = Literal["length", "gaussian", "binary"]

EDGE_LIMIT = 50_000_000  # directed edges that a radius may give before it is called a mistake
TIE_M = 1e-6  # lengths closer than this are the same length
WHERE = "`edges`"  # marks the findings about edges, so that a rebuild replaces them
_SHOWN = 10  # ids listed in notes


@dataclass(frozen=True, eq=False)
class Pairs:
    """Directed pairs of places and the length between them."""

    source: IntArray  # (E,)
    target: IntArray  # (E,)
    length_m: Float64Array  # (E,)

    def take(self, chosen: Any) -> Pairs:
        """Return some of the pairs, by position or by truth value."""
        return Pairs(self.source[chosen], self.target[chosen], self.length_m[chosen])

    def both_ways(self) -> Pairs:
        """Return every pair in both directions."""
        return Pairs(
            np.concatenate([self.source, self.target]),
            np.concatenate([self.target, self.source]),
            np.concatenate([self.length_m, self.length_m]),
        )

    def no_longer_than(self, max_length_m: float | None) -> Pairs:
        """Return the pairs up to some length, or all of them."""
        return self if max_length_m is None else self.take(self.length_m <= max_length_m)

    def nearest_per_target(self, k: int) -> Pairs:
        """Return the k shortest pairs of every target; of equal ones the first node's."""
        order = np.lexsort((self.source, np.rint(self.length_m / TIE_M), self.target))
        target = self.target[order]
        rank = np.arange(len(order)) - np.searchsorted(target, target)
        return self.take(order[rank < k])

    def of_nodes(self, positions: Positions) -> Pairs:
        """Return the pairs of points as pairs of rows in the node table."""
        nodes = positions.nodes
        return Pairs(nodes[self.source], nodes[self.target], self.length_m)


def no_pairs() -> Pairs:
    """Return no pairs."""
    none = np.zeros(0, dtype=np.int64)
    return Pairs(none, none, np.zeros(0))


def mean_length(length_m: Float64Array) -> float:
    """Return the mean of lengths, or 1 m where there is none or all are 0."""
    return float(np.mean(length_m)) or 1.0 if len(length_m) else 1.0


def spread(length_m: Float64Array) -> float:
    """Return the standard deviation of lengths; their mean where all are equal."""
    sigma = float(np.std(length_m)) if len(length_m) else 0.0
    return sigma if sigma > TIE_M else mean_length(length_m)


def gaussian_kernel(length_m: Float64Array, sigma_m: float) -> Float64Array:
    """Return exp(-(length / sigma)^2)."""
    return np.exp(-np.square(length_m / sigma_m))


def weigh(length_m: Float64Array, weight: Weight) -> tuple[Float64Array, dict[str, Any]]:
    """Return the weights of edges and what to note about them."""
    if weight == "length":
        return length_m, {"weight": weight, "weight_unit": "m"}
    if weight == "binary":
        return np.ones(len(length_m)), {"weight": weight, "weight_unit": "1"}
    sigma_m = mean_length(length_m)
    notes = {"weight": weight, "weight_unit": "1", "sigma_m": sigma_m}
    return gaussian_kernel(length_m, sigma_m), notes


def check_weight(report: Report, weight: str, known: tuple[str, ...] = get_args(Weight)) -> None:
    """Note an unknown way to weigh edges."""
    if weight not in known:
        report.error(
            "`weight`", f"is {weight!r}{nearest_name(weight, known)}", f"use one of {list(known)}"
        )


def check_edge_count(count: int, *, todo: str) -> None:
    """Refuse to build more edges than any machine is likely to hold."""
    if count > EDGE_LIMIT:
        raise GraphError(
            f"this would make {count:,} edges, more than the {EDGE_LIMIT:,} allowed; {todo}"
        )


def finish_graph(
    graph: STGraph,
    pairs: Pairs,
    weights: Float64Array,
    *,
    how: dict[str, Any],
    report: Report,
    columns: dict[str, Any] | None = None,
    join: str = "raise k or the radius if they should",
) -> STGraph:
    """Return the graph with these edges, sorted, and with notes on how they were built.

    `join` says what to do where parts of the graph share no edge.
    """
    order = np.lexsort((pairs.source, pairs.target))
    edge_index = np.stack([pairs.source, pairs.target])[:, order].astype(np.int64)
    columns = {"length_m": pairs.length_m} if columns is None else columns
    table = pd.DataFrame({name: np.asarray(column)[order] for name, column in columns.items()})
    how = {key: value for key, value in how.items() if value is not None}
    notes = how | _describe(graph, edge_index, report, join)
    kept = [finding for finding in graph.report if finding.where != WHERE]
    return graph.replace(
        edge_index=edge_index,
        edge_weight=weights[order].astype(np.float32),
        weight_unit=how["weight_unit"],
        edges=table if columns else None,
        provenance={
            **graph.provenance,
            "graph": notes,
            "findings": Report([*kept, *report]).to_json(),
        },
    )


def _describe(graph: STGraph, edge_index: IntArray, report: Report, join: str) -> dict[str, Any]:
    """Return counts of edges, parts and lonely nodes, and note what the user should look at."""
    n_nodes = graph.n_nodes
    unlocated = list(graph.node_ids[graph.nodes.geometry.isna()])
    proper = edge_index[:, edge_index[0] != edge_index[1]]  # an edge to oneself connects nothing
    isolated = np.flatnonzero(np.bincount(proper.ravel(), minlength=n_nodes) == 0)
    names = list(graph.node_ids[isolated])
    links = csr_array((np.ones(proper.shape[1]), (proper[0], proper[1])), (n_nodes, n_nodes))
    n_parts, _ = connected_components(links, directed=False)
    if len(unlocated):
        shown = unlocated[:_SHOWN]
        report.warning(
            WHERE, f"{len(unlocated)} nodes have no geometry: {shown}", count=len(unlocated)
        )
    if len(isolated) and n_nodes > 1:
        report.warning(
            WHERE,
            f"{len(isolated)} nodes have no neighbour: {names[:_SHOWN]}",
            "forecasts for them use their own past only" if graph.n_steps else join,
            count=len(isolated),
        )
    lonely = f"{n_parts} components, {len(isolated)} isolated nodes and " if len(isolated) else ""
    if n_parts - len(isolated) > 1:
        report.warning(
            WHERE,
            f"the graph falls into {lonely}{n_parts - len(isolated)} parts that share no edge",
            join,
            count=n_parts - len(isolated),
        )
    return {
        "n_edges": int(edge_index.shape[1]),
        "n_parts": int(n_parts),
        "n_isolated": len(isolated),
        "isolated": [str(name) for name in names[:_SHOWN]],
    }
