"""What may follow what: the turns at the junctions of a road network."""

from __future__ import annotations

import numpy as np

from stgraph.graph import IntArray
from stgraph.neighbours._edges import check_edge_count


def all_turns(source: IntArray, target: IntArray, n_nodes: int) -> tuple[IntArray, IntArray]:
    """Return all pairs of segments of which the second begins where the first ends.

    Sorted by the first and then the second. `source` and `target` are the positions of the
    junctions of each segment, `n_nodes` is how many junctions there are.
    """
    leaving = np.argsort(source, kind="stable")
    n_leaving = np.bincount(source, minlength=n_nodes)
    begin = np.concatenate([[0], np.cumsum(n_leaving)])
    count = n_leaving[target]
    check_edge_count(int(count.sum()), todo="are all junctions joined in one?")
    before = np.repeat(np.arange(len(source)), count)
    nth = np.arange(len(before)) - np.repeat(np.cumsum(count) - count, count)
    return before, leaving[begin[target[before]] + nth]
