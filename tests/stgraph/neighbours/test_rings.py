"""Cells at most k steps away."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import h3
import numpy as np
import pytest
import shapely

from stgraph.errors import GraphError
from stgraph.graph import STGraph
from stgraph.neighbours import build_contiguity, build_k_ring


def squares(rows: int, columns: int, *, named: bool = True) -> gpd.GeoDataFrame:
    """Cells of 10 m, row by row from the south-west."""
    row, column = (axis.ravel() for axis in np.mgrid[:rows, :columns])
    boxes = shapely.box(column * 10, row * 10, column * 10 + 10, row * 10 + 10)
    names = {"row": row, "column": column} if named else {}
    return gpd.GeoDataFrame(names, geometry=boxes, crs=2193)


def pairs(graph: STGraph) -> set[tuple[Any, Any]]:
    ids = graph.node_ids.to_numpy()
    return {(ids[a], ids[b]) for a, b in graph.edge_index.T}


def test_rings_of_the_middle_cell_by_hand() -> None:
    """5 x 5 cells: 8 and 16 around the middle for a queen, 4 and 8 for a rook."""
    for rule, first, second in (("queen", 8, 16), ("rook", 4, 8)):
        graph = build_k_ring(squares(5, 5), k=2, rule=rule)  # type: ignore[arg-type]
        assert graph.edges is not None
        of_middle = graph.edges[graph.edge_index[1] == 12]
        assert of_middle["ring"].value_counts().to_dict() == {1: first, 2: second}
    beside = (graph.edge_index == np.array([[13], [12]])).all(axis=0)
    assert graph.edges.loc[beside, "length_m"].tolist() == [10]


@pytest.mark.parametrize("rule", ["queen", "rook"])
def test_three_ways_to_the_same_edges(rule: Any) -> None:
    """By row and column, by touching polygons, and by the builder of contiguity."""
    cells = squares(4, 6).drop(index=[7, 8, 20])  # with holes
    fast = build_k_ring(cells, rule=rule)
    slow = build_k_ring(cells.drop(columns=["row", "column"]), rule=rule)
    assert pairs(fast) == pairs(slow) == pairs(build_contiguity(cells, rule=rule))
    assert np.array_equal(fast.edge_index, slow.edge_index)


def test_a_ring_goes_round_what_is_not_there() -> None:
    """Rings of a grid count rows and columns; those of polygons go from neighbour to neighbour."""
    cells = squares(1, 3).drop(index=[1])
    assert pairs(build_k_ring(cells, k=2)) == {(0, 2), (2, 0)}
    assert build_k_ring(cells.drop(columns=["row", "column"]), k=2).n_edges == 0


def test_polygons_two_steps_away() -> None:
    """A line of four cells without rows: each ring is one further."""
    graph = build_k_ring(squares(1, 4, named=False), k=2)
    assert graph.edges is not None
    found = dict(zip(map(tuple, graph.edge_index.T.tolist()), graph.edges["ring"], strict=True))
    assert found[(0, 1)] == 1
    assert found[(0, 2)] == 2
    assert (0, 3) not in found


def test_grid_around_the_globe() -> None:
    """The last column is beside the first; with few columns each pair comes once."""
    graph = STGraph(nodes=squares(1, 6), provenance={"grid": {"columns_around": 6}})
    assert (5, 0) in pairs(build_k_ring(graph))
    few = STGraph(nodes=squares(1, 3), provenance={"grid": {"columns_around": 3}})
    ring = build_k_ring(few, k=2)
    assert sorted(pairs(ring)) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert ring.n_edges == 6


def test_far_apart_squares_need_no_table() -> None:
    """Two clusters a million rows apart are found by searching."""
    cells = squares(2, 2)
    far = cells.assign(row=cells["row"] + 1_000_000)
    both = gpd.GeoDataFrame(np.concatenate([cells, far]), columns=cells.columns, crs=2193)
    both = both.astype({"row": int, "column": int}).set_geometry("geometry", crs=2193)
    assert build_k_ring(both).n_edges == 24


def test_hexagons_by_their_ids() -> None:
    """The middle of a disk has 6 neighbours in the first ring and 12 in the second."""
    cells = h3.grid_disk(h3.latlng_to_cell(49.4, 8.7, 8), 3)
    middle = cells.index(h3.latlng_to_cell(49.4, 8.7, 8))
    shapes = [shapely.Polygon([(x, y) for y, x in h3.cell_to_boundary(cell)]) for cell in cells]
    graph = build_k_ring(gpd.GeoDataFrame(index=cells, geometry=shapes, crs=4326), k=2)
    assert graph.edges is not None
    of_middle = graph.edges[graph.edge_index[1] == middle]
    assert of_middle["ring"].value_counts().to_dict() == {1: 6, 2: 12}
    assert build_k_ring(graph).n_edges == build_contiguity(graph).n_edges
    assert graph.provenance["graph"]["cells"] == "hexagons"


def test_weights() -> None:
    length = build_k_ring(squares(1, 3), k=2, weight="length")
    assert length.adjacency().toarray()[0].tolist() == [0, 10, 20]
    assert length.weight_unit == "m"
    near = build_k_ring(squares(1, 2), weight="gaussian").edge_weight
    assert near == pytest.approx(np.exp(-1))


def test_bad_options_are_told_together() -> None:
    with pytest.raises(GraphError, match=r"(?s)`k`.*`rule`.*did you mean 'queen'.*`weight`"):
        build_k_ring(squares(2, 2), k=0, rule="quen", weight="heavy")  # type: ignore[arg-type]


def test_points_are_refused() -> None:
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy([0, 1], [0, 1]), crs=2193)
    with pytest.raises(GraphError, match="no polygons"):
        build_k_ring(points)


def test_a_ring_too_wide_is_refused() -> None:
    """Before any pair is made."""
    with pytest.raises(GraphError, match=r"more than the 50,000,000 allowed; use a smaller k"):
        build_k_ring(squares(100, 100), k=60)
