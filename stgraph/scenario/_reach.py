"""From where one can get to where at all."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from stgraph.graph import BoolArray, IntArray


def find_ways(
    source: IntArray, target: IntArray, n_nodes: int, starts: IntArray, ends: IntArray
) -> BoolArray:
    """Tell which nodes can be reached from which, by any number of links.

    Parameters
    ----------
    source, target
        (L,) positions of the nodes of links.
    n_nodes
        Number of nodes.
    starts, ends
        (Z,) positions of nodes that belong together.

    Returns
    -------
    BoolArray
        (Z, Z) from start to end; true on the diagonal.
    """
    links = csr_array((np.ones(len(source)), (source, target)), shape=(n_nodes, n_nodes))
    n_parts, part = connected_components(links, directed=True, connection="strong")
    first, last = part[starts], part[ends]
    if len(np.unique(np.concatenate([first, last]))) == 1:
        return np.ones((len(starts), len(ends)), dtype=np.bool_)
    # among parts in which all can reach each other
    pairs = np.unique(np.stack([part[source], part[target]]), axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    between = csr_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(n_parts, n_parts))
    different, which = np.unique(first, return_inverse=True)
    hops = dijkstra(between, directed=True, indices=different, unweighted=True)
    reached = np.isfinite(hops[which.reshape(-1)][:, last])
    np.fill_diagonal(reached, val=True)
    return np.asarray(reached, dtype=np.bool_)
