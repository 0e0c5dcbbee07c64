"""Make a search graph smaller without changing a distance between the nodes that count.

A node that nobody asks for is taken out, and every way through it becomes a link of its own. That
pays as long as few new links replace those that go: junctions of two or three streets, dead ends,
and points where a road was merely split.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from stgraph.graph import BoolArray, IntArray
from stgraph.neighbours._places import Float64Array

_ROUNDS = 12
_MORE = 3  # links that taking out a node may add
_PICKS = 4  # passes in which nodes that do not touch each other are picked
_WORTH = 0.01  # share of the nodes that a round must take out to be worth it


def link_nodes(
    source: IntArray, target: IntArray, length_m: Float64Array, n_nodes: int
) -> csr_array:
    """Return links as a matrix (row = source); of parallel ones the shortest, none to oneself."""
    order = np.lexsort((length_m, target, source))
    source, target, length_m = source[order], target[order], length_m[order]
    kept = (np.diff(source, prepend=-1) != 0) | (np.diff(target, prepend=-1) != 0)
    kept &= source != target
    source, target, length_m = source[kept], target[kept], length_m[kept]
    rows = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=n_nodes))])
    # given by rows, not as pairs, because that keeps links of 0 m
    return csr_array((length_m, target.astype(np.int32), rows.astype(np.int32)), (n_nodes, n_nodes))


def contract(links: csr_array, needed: BoolArray) -> csr_array:
    """Take nodes out that are not needed; they stay in the matrix, without links."""
    free = ~needed
    generator = np.random.default_rng(0)  # breaks ties; the distances do not depend on it
    for _ in range(_ROUNDS):
        chosen = _pick(links, free, generator)
        if chosen.sum() <= _WORTH * len(free):
            break
        links = _take_out(links, chosen)
        free &= ~chosen
    return links


def _pick(links: csr_array, free: BoolArray, generator: np.random.Generator) -> BoolArray:
    """Return nodes whose removal costs few links, no two of them linked."""
    n_nodes = links.shape[0]
    source, target = _ends(links)
    n_out = np.bincount(source, minlength=n_nodes)
    n_in = np.bincount(target, minlength=n_nodes)
    added = n_in * n_out - n_in - n_out
    left = free & (added <= _MORE)
    cost = added + generator.random(n_nodes)
    chosen = np.zeros(n_nodes, dtype=bool)
    for _ in range(_PICKS):
        rivals = left[source] & left[target]
        one, other = source[rivals], target[rivals]
        beaten = np.zeros(n_nodes, dtype=bool)
        beaten[np.where(cost[one] > cost[other], one, other)] = True
        new = left & ~beaten
        chosen |= new
        left &= ~new
        left[target[new[source]]] = False
        left[source[new[target]]] = False
    return chosen


def _take_out(links: csr_array, chosen: BoolArray) -> csr_array:
    """Return links with the ways through the chosen nodes in place of the nodes."""
    source, target = _ends(links)
    length_m = links.data
    into = np.flatnonzero(chosen[target])
    # every link into a chosen node is followed by each link out of it
    begin, count = links.indptr[target[into]], np.diff(links.indptr)[target[into]]
    first = np.repeat(into, count)
    nth = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
    second = np.repeat(begin, count) + nth
    kept = ~(chosen[source] | chosen[target])
    return link_nodes(
        np.concatenate([source[kept], source[first]]),
        np.concatenate([target[kept], target[second]]),
        np.concatenate([length_m[kept], length_m[first] + length_m[second]]),
        links.shape[0],
    )


def _ends(links: csr_array) -> tuple[IntArray, IntArray]:
    """Return source and target of every link, in the order of its data."""
    n_nodes = links.shape[0]
    source = np.repeat(np.arange(n_nodes, dtype=np.int64), np.diff(links.indptr))
    return source, links.indices.astype(np.int64)
