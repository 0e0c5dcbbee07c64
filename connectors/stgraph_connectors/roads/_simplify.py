"""Merge pieces of road that meet where nothing branches, on arrays of any size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stgraph.graph import BoolArray, IntArray


@dataclass(frozen=True, eq=False)
class Chains:
    """Directed edges in a row, from one junction to the next."""

    order: IntArray  # (P,) edges, chain by chain, in the direction of travel
    starts: IntArray  # (C + 1,) where each chain begins in `order`
    chain: IntArray  # (P,) chain of each edge
    n_rings: int  # rings without a junction; each has got one

    def __len__(self) -> int:
        """Return how many chains there are."""
        return len(self.starts) - 1

    @cached_property
    def first(self) -> IntArray:
        """(C,) first edge of each chain."""
        return self.order[self.starts[:-1]]

    @cached_property
    def last(self) -> IntArray:
        """(C,) last edge of each chain."""
        return self.order[self.starts[1:] - 1]


def find_next(source: IntArray, target: IntArray, n_nodes: int) -> IntArray:
    """Return the edge that continues each edge where there is no choice, else -1.

    The rules are those of ``osmnx.simplify_graph``: a node is passed through when it has exactly
    two neighbours and either one edge in and one out, or two in and two out.
    """
    inner = _find_inner(source, target, n_nodes)
    by_source = np.argsort(source, kind="stable")
    begins = np.searchsorted(source[by_source], np.arange(n_nodes + 1))
    following = np.full(len(source), -1, dtype=np.int64)
    entering = np.flatnonzero(inner[target])
    node = target[entering]
    option = by_source[begins[node]]
    other = by_source[begins[node + 1] - 1]  # the same one where only one goes out
    returns = target[option] == source[entering]
    following[entering] = np.where(returns, other, option)
    return following


def _find_inner(source: IntArray, target: IntArray, n_nodes: int) -> BoolArray:
    """Return which nodes are passed through."""
    neighbours_out = _distinct(source, target, n_nodes)
    neighbours_in = _distinct(target, source, n_nodes)
    both = _distinct(np.concatenate([source, target]), np.concatenate([target, source]), n_nodes)
    n_out = np.bincount(source, minlength=n_nodes)
    n_in = np.bincount(target, minlength=n_nodes)
    loops = np.zeros(n_nodes, dtype=bool)
    loops[source[source == target]] = True
    one_way = (n_out == 1) & (n_in == 1)
    two_way = (n_out == 2) & (n_in == 2) & (neighbours_out == 2) & (neighbours_in == 2)
    inner: BoolArray = (both == 2) & (one_way | two_way) & ~loops
    return inner


def _distinct(node: IntArray, neighbour: IntArray, n_nodes: int) -> IntArray:
    """Return how many different neighbours each node has."""
    pairs = np.sort(node * n_nodes + neighbour)  # several times faster than np.unique
    new = np.diff(pairs, prepend=-1) != 0
    return np.bincount(pairs[new] // n_nodes, minlength=n_nodes)


def find_chains(
    source: IntArray, target: IntArray, following: IntArray, *, keep: BoolArray
) -> Chains:
    """Return the edges grouped into chains.

    Parameters
    ----------
    source, target
        (P,) positions of nodes.
    following
        (P,) from `find_next`.
    keep
        (N,) nodes that stay junctions although they could be passed through.

    Returns
    -------
    Chains
        Numbered by the position of their first edge. A ring without junction is opened at the
        node with the smallest position.
    """
    following = np.where(keep[target], -1, following)
    head, rank, closed = _follow_back(following)
    n_rings = 0
    if closed.any():
        opened = _open_rings(source, target, closed, len(keep))
        n_rings = int(opened.sum())
        following = np.where(opened[target], -1, following)
        head, rank, closed = _follow_back(following)
    order = np.lexsort((rank, head))
    starts = np.flatnonzero(np.append(rank[order] == 0, True))
    chain = np.empty(len(order), dtype=np.int64)
    chain[order] = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return Chains(order, starts, chain, n_rings)


def _follow_back(following: IntArray) -> tuple[IntArray, IntArray, BoolArray]:
    """Return the first edge of each edge's chain, the steps since it, and whether it is a ring."""
    n = len(following)
    before = np.full(n, -1, dtype=np.int64)
    goes_on = np.flatnonzero(following >= 0)
    before[following[goes_on]] = goes_on
    head = np.where(before >= 0, before, np.arange(n))
    rank = (before >= 0).astype(np.int64)
    # each round doubles the steps, so that a chain of a thousand edges takes ten
    for _ in range(max(n, 1).bit_length()):
        further = head[head]
        if (further == head).all():
            break
        rank, head = rank + rank[head], further
    return head, rank, before[head] >= 0


def _open_rings(source: IntArray, target: IntArray, closed: BoolArray, n_nodes: int) -> BoolArray:
    """Return one node of every ring, the one with the smallest position."""
    a, b = source[closed], target[closed]
    links = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(n_nodes, n_nodes))
    _, label = connected_components(links.tocsr(), directed=False)
    nodes = np.unique(a)
    _, first = np.unique(label[nodes], return_index=True)
    opened = np.zeros(n_nodes, dtype=bool)
    opened[nodes[first]] = True
    return opened
