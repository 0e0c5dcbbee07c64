"""Patches of space and graph: balanced, whole, compact, and the same whatever the node order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.graph import IntArray
from stgraph.models.partitions import complete_places, hop_coordinates, split_cells, split_space


def members(patches: IntArray) -> set[frozenset[int]]:
    """Return the patches as sets of nodes."""
    return {frozenset(patch.tolist()) for patch in patches}


def cut_share(patches: IntArray, edge_index: IntArray, n_nodes: int) -> float:
    """Return the share of edges between patches."""
    patch = np.empty(n_nodes, dtype=np.int64)
    patch[patches.ravel()] = np.repeat(np.arange(len(patches)), patches.shape[1])
    return float((patch[edge_index[0]] != patch[edge_index[1]]).mean())


def split_graph(
    edge_index: IntArray, n_nodes: int, *, patch_size: int, shifted: bool = False
) -> IntArray:
    """Return patches from the edges alone."""
    points = hop_coordinates(edge_index, n_nodes)
    return split_space(points, patch_size=patch_size, shifted=shifted)


def lattice(side: int) -> tuple[np.ndarray, IntArray]:
    """Return the points of a square lattice, a bit moved, and the edges between neighbours."""
    rng = np.random.default_rng(0)
    row, column = np.divmod(np.arange(side * side), side)
    points = np.column_stack([column, row]) + rng.uniform(-0.2, 0.2, (side * side, 2))
    right, down = column < side - 1, row < side - 1
    node = np.arange(side * side)
    pairs = [np.array([node[right], node[right] + 1]), np.array([node[down], node[down] + side])]
    return points, np.concatenate(pairs, axis=1)


def test_points_on_a_line_are_cut_in_order() -> None:
    """Ten points, four at most: three patches, of which the short ones repeat a node."""
    points = np.column_stack([np.arange(10.0), np.zeros(10)])
    assert split_space(points, patch_size=4).tolist() == [[0, 1, 2, 0], [3, 4, 5, 6], [7, 8, 9, 7]]


def test_borders_move_in_the_shifted_partition_also_on_a_line() -> None:
    points = np.column_stack([np.arange(12.0), np.zeros(12)])
    plain, shifted = (split_space(points, patch_size=4, shifted=s) for s in (False, True))
    assert members(plain) == {frozenset(range(4)), frozenset(range(4, 8)), frozenset(range(8, 12))}
    middle = {frozenset(range(2, 6)), frozenset(range(6, 10))}
    assert members(shifted) == {frozenset({0, 1}), *middle, frozenset({10, 11})}


@given(n=st.integers(1, 200), size=st.integers(1, 40), dim=st.sampled_from([1, 2, 3]))
def test_every_node_is_in_one_patch_and_patches_are_balanced(n: int, size: int, dim: int) -> None:
    points = np.random.default_rng(n).normal(size=(n, dim))
    for shifted in (False, True):
        patches = split_space(points, patch_size=size, shifted=shifted)
        groups = [set(patch.tolist()) for patch in patches]
        assert sorted(node for group in groups for node in group) == list(range(n))
        assert patches.shape[1] <= size
        lengths = [len(group) for group in groups]
        if not shifted:
            assert len(patches) == -(-n // size)
            assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("shifted", [False, True])
def test_the_order_of_nodes_does_not_matter(shifted: bool) -> None:
    points, edges = lattice(12)
    order = np.random.default_rng(1).permutation(len(points))
    place = np.argsort(order)
    by_place = split_space(points, patch_size=10, shifted=shifted)
    turned = split_space(points[order], patch_size=10, shifted=shifted)
    assert members(by_place) == members(order[turned])
    # a graph without symmetries: a few edges are missing
    some = edges[:, np.random.default_rng(2).random(edges.shape[1]) < 0.9]
    by_graph = split_graph(some, len(points), patch_size=10, shifted=shifted)
    turned = split_graph(place[some], len(points), patch_size=10, shifted=shifted)
    assert members(by_graph) == members(order[turned])


def test_patches_from_edges_alone_are_nearly_as_compact_as_those_from_places() -> None:
    points, edges = lattice(40)
    n = len(points)
    by_place = cut_share(split_space(points, patch_size=25), edges, n)
    by_graph = cut_share(split_graph(edges, n, patch_size=25), edges, n)
    by_chance = cut_share(np.random.default_rng(0).permutation(n).reshape(-1, 25), edges, n)
    assert by_place < 0.25
    assert by_graph < 0.35
    assert by_chance > 0.9


def test_components_and_lonely_nodes_find_a_patch() -> None:
    """Two rings of four and two nodes without edges: each ring is a patch."""
    ring = np.array([[0, 1, 2, 3], [1, 2, 3, 0]])
    patches = split_graph(np.concatenate([ring, ring + 4], axis=1), 10, patch_size=4)
    assert sorted({node for patch in patches for node in patch}) == list(range(10))
    assert split_graph(np.zeros((2, 0), dtype=np.int64), 3, patch_size=2).shape == (2, 2)
    assert split_graph(np.zeros((2, 0), dtype=np.int64), 1, patch_size=2).tolist() == [[0]]


def test_cells_are_cut_into_blocks() -> None:
    """Four rows of six cells in blocks of four; shifted by half a block."""
    cells = np.array(np.divmod(np.arange(24), 6)).T
    blocks = split_cells(cells, patch_size=4)
    assert blocks is not None
    assert blocks.tolist()[0] == [0, 1, 6, 7]
    assert blocks.shape == (6, 4)
    shifted = split_cells(cells, patch_size=4, shifted=True)
    assert shifted is not None
    assert {7, 8, 13, 14} in [set(block.tolist()) for block in shifted]


def test_a_narrow_grid_has_long_blocks() -> None:
    cells = np.column_stack([np.zeros(12, dtype=np.int64), np.arange(12)])
    blocks = split_cells(cells, patch_size=4)
    assert blocks is not None
    assert blocks.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_grid_of_mostly_holes_has_no_blocks() -> None:
    cells = np.random.default_rng(0).choice(10_000, 100, replace=False)
    assert split_cells(np.array(np.divmod(cells, 100)).T, patch_size=25) is None


def test_nodes_without_a_place_lie_at_their_neighbours() -> None:
    xyz = np.array([[0.0, 0.0], [4.0, 2.0], [np.nan, np.nan], [np.nan, np.nan], [np.nan, np.nan]])
    edges = np.array([[0, 1, 2], [2, 2, 3]])
    places = complete_places(xyz, edges)
    assert places.tolist() == [[0, 0], [4, 2], [2, 1], [2, 1], [2, 1]]
    assert complete_places(np.full((2, 2), np.nan), edges[:, :0]).tolist() == [[0, 0], [0, 0]]
    assert complete_places(xyz[:2], edges[:, :0]) is not None
