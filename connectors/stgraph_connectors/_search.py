"""Bounded searches along directed turns, each in the part of the network that it can reach.

A search over a whole city costs as much as the city is large, even where it ends after a few
hundred metres. Sources that lie near each other are therefore searched together, in the part that
any of them reaches: the same distances at a cost that depends on the limit alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CELLS = 8_000_000  # distances in memory at once
_TILE_M = 2_000.0  # sources in one tile are searched together
_SHORTEST_M = 500.0  # limits below are all the same


class Found(NamedTuple):
    """What one search found: S sources, and the M nodes that any of them reaches."""

    sources: Ints  # (S,) positions among the sources asked for
    nodes: Ints  # (M,) of the network, ascending
    lengths: Floats  # (S, M) inf beyond the limit
    previous: npt.NDArray[np.signedinteger]  # (S, M) positions in `nodes`, negative at the source


def search_near(ways: csr_array, xy: Floats, sources: Ints, limits: Floats) -> Iterator[Found]:
    """Yield the shortest ways from each source, sources that lie together at once.

    Parameters
    ----------
    ways
        (N, N) metres from node to node.
    xy
        (N, 2) where the nodes are, metres; decides only what is searched together.
    sources, limits
        (S,) nodes, and how far to look from each; it may be looked further.
    """
    # one far source must not make all searches wide
    size = np.ceil(np.log2(np.maximum(limits, _SHORTEST_M) / _SHORTEST_M))
    tile = np.floor(xy[sources] / np.maximum(_TILE_M, 2 * _SHORTEST_M * 2**size)[:, None])
    order = np.lexsort((tile[:, 0], tile[:, 1], size))
    keys = np.column_stack([size, tile])[order]
    starts = np.flatnonzero(np.append(True, (np.diff(keys, axis=0) != 0).any(axis=1)))
    for together in np.split(order, starts[1:]) if len(order) else ():
        limit = float(limits[together].max())
        reached = dijkstra(ways, indices=sources[together], limit=limit, min_only=True)
        nodes = np.flatnonzero(np.isfinite(reached)).astype(np.int64)
        part = ways[nodes][:, nodes]
        places = np.searchsorted(nodes, sources[together])
        at_once = max(1, _CELLS // len(nodes))
        for begin in range(0, len(together), at_once):
            rows = slice(begin, begin + at_once)
            lengths, previous = dijkstra(
                part, indices=places[rows], limit=limit, return_predecessors=True
            )
            yield Found(together[rows], nodes, lengths, previous)
