"""Where the nodes of a graph lie, as far as models care: metres, and cells of a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._places import locate
from stgraph.report import Report

Metres = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """How many nodes there are, and where.

    Fitted models keep it: a partition of space is part of what they learned on.
    """

    n_nodes: int
    xyz: Metres | None = None  # (N, 2 or 3) metres from their mean, NaN = no place
    cells: IntArray | None = None  # (N, 2) row and column of the cells of a grid


def layout_of(graph: STGraph) -> Layout:
    """Return the layout of a graph.

    Parameters
    ----------
    graph
        Its nodes may lack geometry; cells of a grid have the columns ``row`` and ``column``.

    Returns
    -------
    Layout
        Metres on the plane of the CRS, or on the sphere (three coordinates) if it has none.
    """
    nodes = graph.nodes
    cells = None
    if {"row", "column"} <= set(nodes.columns) and (nodes["kind"] == "cell").all():
        cells = nodes[["row", "column"]].to_numpy(dtype=np.int64)
        cells = cells - cells.min(axis=0)
    places = locate(graph, Report())  # what cannot be located has no place
    if len(places) == 0:
        return Layout(graph.n_nodes, None, cells)
    xyz = np.full((graph.n_nodes, places.xyz.shape[1]), np.nan, dtype=np.float32)
    xyz[places.nodes] = places.xyz - places.xyz.mean(axis=0)  # float32 keeps centimetres so
    return Layout(graph.n_nodes, xyz, cells)
