"""What the graph says about nodes and pairs, against values written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from stgraph.models import structure
from stgraph.models.structure import (
    N_BUCKETS,
    Places,
    Reach,
    adjacency,
    edge_pairs,
    laplacian_encoding,
    path_buckets,
    resistance_buckets,
    walk_encoding,
)


def graph(n_nodes: int, *edges: tuple[int, int, float]) -> csr_array:
    source, target, weight = zip(*edges, strict=True) if edges else ((), (), ())
    index = torch.tensor([source, target], dtype=torch.int64)
    return adjacency(index, torch.tensor(weight, dtype=torch.float32), n_nodes)


def random_graph(n_nodes: int, n_edges: int, seed: int = 0) -> csr_array:
    draw = np.random.default_rng(seed)
    edges = [
        (int(a), int(b), float(w))
        for (a, b), w in zip(
            draw.integers(0, n_nodes, (n_edges, 2)), draw.uniform(0.2, 1, n_edges), strict=True
        )
    ]
    return graph(n_nodes, *edges)


def relabel(matrix: csr_array, order: np.ndarray) -> csr_array:
    return csr_array(matrix[order][:, order])


def test_adjacency_adds_up_and_drops_loops_and_nothings() -> None:
    matrix = graph(3, (0, 1, 0.5), (0, 1, 0.25), (1, 1, 9.0), (1, 2, 0.0))
    assert matrix.toarray().tolist() == [[0, 0.75, 0], [0, 0, 0], [0, 0, 0]]


# ------------------------------------------------------------------------------ walks


def test_walks_on_a_path_of_three() -> None:
    """From the middle one returns after two steps for certain, from an end in one of two."""
    both = graph(3, (0, 1, 1.0), (1, 0, 1.0), (1, 2, 1.0), (2, 1, 1.0))
    code = walk_encoding(both, 4)
    expected = np.sqrt([[0, 0.5, 0, 0.5], [0, 1, 0, 1], [0, 0.5, 0, 0.5]])
    np.testing.assert_allclose(code[:, :4], expected, atol=1e-12)
    np.testing.assert_allclose(code[:, 4:8], expected, atol=1e-12)
    np.testing.assert_allclose(code[:, 8:], np.log([[2, 2], [3, 3], [2, 2]]))


def test_walks_know_the_direction() -> None:
    """0 -> 1 -> 0 and 1 -> 2: a walk from 0 comes back half the time, against the edges always."""
    code = walk_encoding(graph(3, (0, 1, 1.0), (1, 0, 1.0), (1, 2, 1.0)), 2)
    np.testing.assert_allclose(code[0, :4] ** 2, [0, 0.5, 0, 1], atol=1e-12)
    np.testing.assert_allclose(code[1, :4] ** 2, [0, 0.5, 0, 1], atol=1e-12)
    assert (code[2, :4] == 0).all()


@pytest.mark.parametrize("n_steps", [0, 1, 2, 5, 8])
def test_walks_are_diagonals_of_powers(n_steps: int) -> None:
    matrix = random_graph(12, 40)
    dense = matrix.toarray()
    code = walk_encoding(matrix, n_steps)
    assert code.shape == (12, 2 * n_steps + 2)
    for k, walk in enumerate((dense, dense.T)):
        walk = walk / np.maximum(walk.sum(axis=1, keepdims=True), 1e-30)
        for step in range(n_steps):
            back = np.diag(np.linalg.matrix_power(walk, step + 1))
            np.testing.assert_allclose(code[:, k * n_steps + step] ** 2, back, atol=1e-9)


def test_estimated_walks_are_near_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects large dense graphs: their numbers are those of small graphs but for some noise."""
    matrix = random_graph(300, 900)
    exact = walk_encoding(matrix, 8) ** 2
    monkeypatch.setattr(structure, "_EXACT_ENTRIES", 0)
    monkeypatch.setattr(structure, "_EXACT_PAIRS", 0)
    guessed = walk_encoding(matrix, 8) ** 2
    assert np.abs(guessed - exact)[:, :16].mean() < 0.01
    assert (walk_encoding(matrix, 8) ** 2 == guessed).all()


# ------------------------------------------------------------------------------ eigenvectors


def test_eigenvectors_of_a_path_are_cosines() -> None:
    """The second one of a path falls from end to end; it is its own mirror image, so it is zero."""
    path = graph(4, (0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0))
    assert (laplacian_encoding(path, 1) == 0).all()
    skewed = graph(4, (0, 1, 1.0), (1, 2, 1.0), (2, 3, 0.2))
    vector = laplacian_encoding(skewed, 1)[:, 0]
    assert np.all(np.diff(vector) > 0) or np.all(np.diff(vector) < 0)
    assert (vector**3).sum() > 0
    np.testing.assert_allclose((vector**2).mean(), 1)


def test_eigenvectors_that_the_graph_does_not_determine_are_zero() -> None:
    ring = graph(5, *((i, (i + 1) % 5, 1.0) for i in range(5)))
    assert (laplacian_encoding(ring, 3) == 0).all()


def test_eigenvectors_of_large_graphs_are_those_of_small_ones(monkeypatch) -> None:
    matrix = random_graph(120, 300)
    dense = laplacian_encoding(matrix, 6)
    monkeypatch.setattr(structure, "_DENSE_NODES", 0)
    np.testing.assert_allclose(laplacian_encoding(matrix, 6), dense, atol=1e-6)


def test_nodes_outside_the_largest_part_have_no_eigenvectors() -> None:
    code = laplacian_encoding(graph(6, (0, 1, 1.0), (1, 2, 0.5), (2, 3, 0.2)), 2)
    assert (code[4:] == 0).all()
    assert np.abs(code[:4]).sum() > 0


def test_of_parts_of_the_same_size_the_heaviest_is_encoded() -> None:
    """Protects relabelling: which part comes first is chance."""
    path = ((0, 1, 1.0), (1, 2, 1.0), (2, 3, 0.2))
    heavier = tuple((a + 4, b + 4, 2 * weight) for a, b, weight in path)
    matrix = graph(8, *path, *heavier)
    order = np.arange(8)[::-1]
    for at, labelled in enumerate((relabel(matrix, order), matrix)):
        encoded = (laplacian_encoding(labelled, 1) != 0).ravel()
        assert encoded.tolist() == 4 * [at == 0] + 4 * [at == 1]


@pytest.mark.parametrize("n_nodes", [1, 2, 3])
def test_tiny_graphs_have_encodings_of_the_same_size(n_nodes: int) -> None:
    code = Places(4, 5)(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0), n_nodes)
    assert code.shape == (n_nodes, 2 * 4 + 2 + 5)
    assert (code == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_relabelling_relabels_everything(seed: int) -> None:
    matrix = random_graph(40, 120, seed)
    order = np.random.default_rng(seed).permutation(40)
    other = relabel(matrix, order)
    for encode in (lambda m: walk_encoding(m, 6), lambda m: laplacian_encoding(m, 5)):
        np.testing.assert_allclose(encode(other), encode(matrix)[order], atol=1e-6)
    for buckets in (lambda m: path_buckets(m)[0], resistance_buckets):
        turned = buckets(matrix)[order][:, order]
        assert (buckets(other) != turned).mean() < 0.001  # rounding at the bounds


# ------------------------------------------------------------------------------ distances


def test_paths_count_edges_in_their_direction() -> None:
    """0 -> 1 -> 2, node 3 alone: buckets 0, 2, 3 for no, one and two edges, the last for no way."""
    towards, back = path_buckets(graph(4, (0, 1, 1.0), (1, 2, 1.0)))
    none = N_BUCKETS - 1
    # row: the node that attends; column: where the way begins
    assert towards.tolist() == [
        [0, none, none, none],
        [2, 0, none, none],
        [3, 2, 0, none],
        [none, none, none, 0],
    ]
    assert (back == towards.T).all()


def test_weak_edges_are_long() -> None:
    towards, _ = path_buckets(graph(4, (0, 1, 1.0), (1, 2, 1.0), (2, 3, 0.1)))
    assert towards[3, 2] > towards[1, 0]


def test_two_ways_resist_less_than_one() -> None:
    """A ring of four resistors: 3/4 between neighbours, 1 across; on a path of them 1 and 2."""
    ring = graph(
        4, *((i, (i + 1) % 4, 1.0) for i in range(4)), *(((i + 1) % 4, i, 1.0) for i in range(4))
    )
    assert resistance_buckets(ring)[0].tolist() == [0, 1, 2, 1]
    line = graph(3, (0, 1, 1.0), (1, 0, 1.0), (1, 2, 1.0), (2, 1, 1.0))
    assert resistance_buckets(line)[0].tolist() == [0, 2, 3]
    assert resistance_buckets(graph(2)).tolist() == [[0, N_BUCKETS - 1], [N_BUCKETS - 1, 0]]


def test_hardly_a_conductor_is_none_and_a_perfect_one_is_near() -> None:
    """Protects kernels of lengths, whose similarities fall below what an inverse can hold."""
    usual = [(0, 1, 1.0), (1, 0, 1.0), (4, 5, 1.0), (5, 4, 1.0)]
    odd = graph(6, *usual, (1, 2, 1e-28), (2, 1, 1e-28), (2, 3, 1e25), (3, 2, 1e25))
    none = N_BUCKETS - 1
    assert resistance_buckets(odd)[:4, :4].tolist() == [
        [0, 2, none, none],
        [2, 0, none, none],
        [none, none, 0, 1],
        [none, none, 1, 0],
    ]


def test_pairs_are_neighbours_both_ways_and_the_node_itself() -> None:
    node, neighbour, (towards, back) = edge_pairs(graph(3, (0, 1, 1.0), (2, 1, 1.0), (1, 2, 1.0)))
    none = N_BUCKETS - 1
    found = list(zip(node, neighbour, towards, back, strict=True))
    assert found == [
        (0, 0, 0, 0),
        (0, 1, none, 2),
        (1, 0, 2, none),
        (1, 1, 0, 0),
        (1, 2, 2, 2),
        (2, 1, 2, 2),
        (2, 2, 0, 0),
    ]


def test_nothing_is_square_above_the_limit() -> None:
    edges = torch.tensor([[0, 1], [1, 2]]), torch.ones(2)
    assert Reach("paths", 2000)(*edges, 2000).towards.shape == (2000, 2000)
    assert Reach("paths", 2000)(*edges, 2001).towards.shape == (2001 + 4,)
