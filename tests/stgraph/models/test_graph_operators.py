"""Graph operators against dense matrices and torch-geometric, and diffusion with them."""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import Any

import pytest
import torch
from peers import peer
from torch import Tensor

from stgraph.models import graph_operators
from stgraph.models.graph_operators import (
    Chebyshev,
    Diffusion,
    DiffusionMix,
    Normalised,
    per_graph,
)

# 0 -> 1 (weight 1), 2 -> 1 (weight 3), 1 -> 2 (weight 5); node 0 has no in-neighbour
EDGES = torch.tensor([[0, 2, 1], [1, 1, 2]])
WEIGHT = torch.tensor([1.0, 3.0, 5.0])
ONE_HOP = Diffusion(1, both_ways=False)


def random_graph(n: int = 9, e: int = 30) -> tuple[Tensor, Tensor]:
    """Return edges with loops and repeated pairs."""
    torch.manual_seed(0)
    return torch.randint(0, n, (2, e)), torch.rand(e)


def adjacency(edges: Tensor, weight: Tensor, n: int = 9) -> Tensor:
    """Return the dense matrix of weights, row = source."""
    dense = torch.zeros(n, n, dtype=torch.float64)
    return dense.index_put_((edges[0], edges[1]), weight.double(), accumulate=True)


# ------------------------------------------------------------------------------ matrices


def test_averaging_takes_the_weighted_mean_of_in_neighbours() -> None:
    mixed = ONE_HOP(EDGES, WEIGHT, 3)(torch.tensor([[4.0], [10.0], [8.0]]))
    # node 1: (1 * 4 + 3 * 8) / 4 = 7; node 2: 10
    assert mixed.ravel().tolist() == [0.0, 7.0, 10.0]


def test_spreading_gives_away_all_that_a_node_has() -> None:
    supports = Diffusion(1, spreading=True)(EDGES, WEIGHT, 3)
    mixed = supports(torch.tensor([[4.0], [10.0], [8.0]]))
    # along: 0 and 2 give all to 1, 1 all to 2; against: 1 gives 1/4 to 0 and 3/4 to 2
    assert mixed[0].ravel().tolist() == [0.0, 12.0, 10.0]
    assert mixed[1].ravel().tolist() == [2.5, 8.0, 7.5]


def test_edges_of_the_same_pair_add_up() -> None:
    twice = torch.tensor([[0, 0, 2], [1, 1, 1]])
    mixed = ONE_HOP(twice, torch.tensor([1.0, 1.0, 2.0]), 3)(torch.eye(3))
    torch.testing.assert_close(mixed[0, 1], torch.tensor([0.5, 0.0, 0.5]))


@pytest.mark.parametrize("n_terms", [1, 2, 3, 5])
@pytest.mark.parametrize("normalization", ["sym", "rw", "none"])
def test_chebyshev_is_that_of_torch_geometric(n_terms: int, normalization: Any) -> None:
    edges, weight = random_graph()
    theirs = peer("torch_geometric.nn").ChebConv(
        4, 6, n_terms, normalization if normalization != "none" else None
    )
    state = torch.randn(3, 9, 4)
    mixed = Chebyshev(n_terms, normalization)(edges, weight, 9).mix(state)
    ours = mixed @ torch.cat([lin.weight for lin in theirs.lins], dim=1).T + theirs.bias
    torch.testing.assert_close(ours, theirs(state, edges, weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_bounded_chebyshev_does_not_grow_on_one_way_streets(seed: int) -> None:
    """A node that hears much and is hardly heard: theirs multiplies, ours keeps to 1."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, 9, (2, 30), generator=generator)
    weight = 10 ** (-20 * torch.rand(30, generator=generator, dtype=torch.float64))
    eye = torch.eye(9, dtype=torch.float64)
    norms = [
        torch.linalg.matrix_norm(Chebyshev(2, bounded=bounded)(edges, weight, 9)(eye)[1], 2)
        for bounded in (False, True)
    ]
    assert norms[0] > 10
    assert norms[1] <= 1 + 1e-9
    both, twice = torch.cat([edges, edges.flip(0)], dim=1), weight.repeat(2)
    same = [Chebyshev(3, bounded=bounded)(both, twice, 9)(eye) for bounded in (False, True)]
    torch.testing.assert_close(*same)


@pytest.mark.parametrize("loop", [1.0, 2.0, 0.0])
def test_normalised_is_that_of_torch_geometric(loop: float) -> None:
    torch.manual_seed(0)
    edges = torch.tensor([[0, 2, 1, 3, 3], [1, 1, 2, 3, 4]])  # a loop at 3, in-degree 0 at 0
    weight = torch.rand(5)
    theirs = peer("torch_geometric.nn").GCNConv(
        4, 6, improved=loop == 2, add_self_loops=loop > 0, bias=False
    )
    state = torch.randn(3, 5, 4)
    mixed = Normalised(loop=loop)(edges, weight, 5).mix(state)
    torch.testing.assert_close(mixed @ theirs.lin.weight.T, theirs(state, edges, weight))


# ------------------------------------------------------------------------------ products


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize("series", ["power", "chebyshev"])
def test_every_way_of_computing_is_the_dense_product(
    monkeypatch, stacked: bool, dense: bool, identity: bool, series: Any
) -> None:
    """Protects the paths that this machine would not choose by itself, backward included."""
    multiply_out = graph_operators.Supports._multiply_out
    monkeypatch.setattr(
        graph_operators.Supports,
        "_multiply_out",
        lambda self, _: multiply_out(self, 1e9 if stacked else -1e9),
    )
    edges, weight = random_graph()
    matrix = adjacency(edges, weight)
    along, against = (m / m.sum(dim=1, keepdim=True).clamp_min(1e-30) for m in (matrix.T, matrix))
    wanted = [torch.eye(9, dtype=torch.float64)] if identity else []
    for walk in (along, against):
        powers = [torch.eye(9, dtype=torch.float64), walk]
        for _ in range(2):
            back = powers[-2] if series == "chebyshev" else 0
            powers.append((2 if series == "chebyshev" else 1) * walk @ powers[-1] - back)
        wanted += powers[1:]
    kind = Diffusion(3, identity=identity, series=series, dense=dense)
    supports = kind(edges, weight, 9)
    assert supports.n_supports == len(wanted)
    columns = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    out = supports(columns)
    torch.testing.assert_close(out, torch.stack([m @ columns for m in wanted]))
    assert torch.autograd.gradcheck(supports, columns)


@pytest.mark.parametrize("kind", [ONE_HOP, Chebyshev(3), Normalised()])
@pytest.mark.parametrize("weight", [0.0, None])
def test_without_weight_or_edges_nothing_is_infinite(kind: Any, weight: float | None) -> None:
    edges = EDGES if weight is not None else EDGES[:, :0]
    given = torch.full((edges.shape[1],), weight or 0.0)
    assert torch.isfinite(kind(edges, given, 3)(torch.ones(3, 2))).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dense", [True, False])
def test_every_precision(dtype: torch.dtype, dense: bool) -> None:
    state = torch.randn(2, 3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = Diffusion(2, dense=dense)(EDGES, WEIGHT, 3).mix(state.to(dtype))
        mixed.float().sum().backward()
    assert mixed.dtype == dtype
    assert torch.isfinite(state.grad).all()


def test_states_in_parts_are_mixed_the_same(monkeypatch) -> None:
    supports, state = Diffusion(2)(EDGES, WEIGHT, 3), torch.randn(5, 3, 2)
    whole = supports.mix(state)
    monkeypatch.setattr(graph_operators, "_CHUNK_BYTES", 300)
    assert torch.equal(supports.mix(state), whole)


def test_building_an_operator_warns_of_nothing() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ONE_HOP(EDGES, WEIGHT, 3)(torch.randn(3, 1))
    assert caught == []


# ------------------------------------------------------------------------------ per graph


def test_what_depends_on_the_graph_is_built_once_and_forgotten_with_it() -> None:
    edges, weight = EDGES.clone(), WEIGHT.clone()
    with torch.inference_mode():
        first = per_graph(ONE_HOP, edges, weight, 3)
    assert per_graph(Diffusion(1, both_ways=False), edges, weight, 3) is first
    assert per_graph(Diffusion(2), edges, weight, 3) is not first
    assert per_graph(ONE_HOP, edges, weight.clone(), 3) is not first
    weight[0] = 7  # changed in place
    second = per_graph(ONE_HOP, edges, weight, 3)
    assert second is not first
    gone = weakref.ref(second)
    del second, first, edges
    gc.collect()
    assert gone() is None


# ------------------------------------------------------------------------------ layer


def test_mix_puts_both_directions_side_by_side() -> None:
    mix = DiffusionMix(3, n_hops=2)
    state = torch.tensor([[[4.0], [10.0], [8.0]]])
    out = mix(state, EDGES, WEIGHT)
    assert out.shape == (1, 3, mix.n_supports)
    along = [[0.0, 0.0], [7.0, 7.5], [10.0, 7.0]]  # 1 and 2 hops: (1 * 0 + 3 * 10) / 4
    # against the edges: node 0 hears 1, node 1 hears 2, node 2 hears 1
    against = [[10.0, 8.0], [8.0, 10.0], [10.0, 8.0]]
    wanted = torch.cat([state[0], torch.tensor(along), torch.tensor(against)], dim=1)
    torch.testing.assert_close(out[0], wanted)


def test_learned_adjacency_averages_over_all_nodes() -> None:
    torch.manual_seed(0)
    mix = DiffusionMix(7, n_hops=1, adaptive_rank=3)
    out = mix(torch.full((2, 7, 4), 5.0), torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0))
    assert out.shape == (2, 7, 4 * mix.n_supports)
    torch.testing.assert_close(out[..., -4:], torch.full((2, 7, 4), 5.0))  # a mean of fives
    assert (out[..., 4:-4] == 0).all()  # nobody has neighbours


def test_mix_follows_when_the_graph_changes() -> None:
    mix, state = DiffusionMix(3, n_hops=1), torch.randn(1, 3, 2)
    first = mix(state, EDGES, WEIGHT)
    turned = mix(state, EDGES.flip(0), WEIGHT)
    torch.testing.assert_close(turned[..., 2:4], first[..., 4:6])
    heavier = mix(state, EDGES, torch.tensor([3.0, 1.0, 5.0]))
    assert not torch.equal(heavier, first)
