"""The graph operator and diffusion against dense matrices."""

from __future__ import annotations

import warnings

import pytest
import torch

from stgraph.models.graph_operators import DiffusionMix, GraphOperator

# 0 -> 1 (weight 1), 2 -> 1 (weight 3), 1 -> 2 (weight 5); node 0 has no in-neighbour
EDGES = torch.tensor([[0, 2, 1], [1, 1, 2]])
WEIGHT = torch.tensor([1.0, 3.0, 5.0])


def test_operator_takes_the_weighted_mean_of_in_neighbours() -> None:
    state = torch.tensor([[[4.0], [10.0], [8.0]]])
    mixed = GraphOperator(EDGES, WEIGHT, 3)(state)
    # node 1: (1 * 4 + 3 * 8) / 4 = 7; node 2: 10
    assert mixed.ravel().tolist() == [0.0, 7.0, 10.0]


def test_edges_of_the_same_pair_add_up() -> None:
    twice = torch.tensor([[0, 0, 2], [1, 1, 1]])
    mixed = GraphOperator(twice, torch.tensor([1.0, 1.0, 2.0]), 3)(torch.eye(3)[None])
    torch.testing.assert_close(mixed[0, 1], torch.tensor([0.5, 0.0, 0.5]))


@pytest.mark.parametrize("weights", ["random", "zero"])
def test_operator_is_the_dense_product_forward_and_backward(weights: str) -> None:
    torch.manual_seed(0)
    n, e = 9, 30
    edges = torch.randint(0, n, (2, e))
    weight = torch.rand(e) if weights == "random" else torch.zeros(e)
    dense = torch.zeros(n, n).index_put_((edges[1], edges[0]), weight, accumulate=True)
    dense = dense / dense.sum(dim=1, keepdim=True).clamp_min(1e-30)
    state = torch.randn(4, n, 5, requires_grad=True)
    same = state.detach().clone().requires_grad_()
    wave = torch.randn(4, n, 5)
    sparse_out = GraphOperator(edges, weight, n)(state)
    dense_out = dense @ same
    torch.testing.assert_close(sparse_out, dense_out)
    (sparse_out * wave).sum().backward()
    (dense_out * wave).sum().backward()
    torch.testing.assert_close(state.grad, same.grad)


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_operator_works_in_mixed_precision(dtype: torch.dtype) -> None:
    state = torch.randn(2, 3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = GraphOperator(EDGES, WEIGHT, 3)(state.to(dtype))
        mixed.float().sum().backward()
    assert mixed.dtype == dtype
    assert torch.isfinite(state.grad).all()


def test_building_an_operator_warns_of_nothing() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        GraphOperator(EDGES, WEIGHT, 3)(torch.randn(1, 3, 1))
    assert caught == []
