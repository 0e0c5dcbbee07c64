"""Graph convolution inside encoders, the learned adjacency, STGCN and Graph WaveNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stgraph import registry
from stgraph.models.build import read_options
from stgraph.models.graph_conv import GraphConv, LearnedAdjacency
from stgraph.models.graph_operators import kind_of
from stgraph.models.sizes import Sizes

TINY = {"hidden_size": 8, "node_embedding_size": 0, "dropout": 0.0, "n_graph_layers": 0}
RING = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]])
WEIGHT = torch.tensor([1.0, 0.5, 2.0, 1.0, 0.2, 1.0])


def build(name: str, window: int, **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = Sizes(n_nodes=6, window=window, horizon=3, n_past=3, n_future=0, n_outputs=3)
    model = registry.load("models", name)(sizes, read_options(name, {**TINY, **options}))
    with torch.no_grad():
        model.decoder.head.linear.weight.normal_()
    return model


@pytest.mark.parametrize("convolution", ["diffusion", "gcn", "chebyshev"])
def test_convolution_by_dense_matrices(convolution: Any) -> None:
    """Each support has its own weights, at every step alike."""
    conv = GraphConv(3, 4, convolution=convolution, n_hops=2)
    state = torch.randn(6, 2, 5, 3)
    supports = kind_of(convolution, 2)[0](RING, WEIGHT, 6)
    dense = supports(torch.eye(6))
    parts = [torch.einsum("nm,mbsc->nbsc", matrix, state) for matrix in dense]
    parts = parts if convolution == "chebyshev" else [state, *parts]
    expected = conv.linear(torch.cat(parts, dim=-1))
    torch.testing.assert_close(conv(state, RING, WEIGHT), expected)


@pytest.mark.parametrize("kind", ["dense", "low_rank"])
def test_rows_of_a_learned_adjacency_are_weighted_means(kind: Any) -> None:
    torch.manual_seed(0)
    adjacency = LearnedAdjacency(7, rank=3, kind=kind)
    matrix = torch.eye(7)
    for factor in reversed(adjacency.factors()):
        matrix = factor @ matrix
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(7))
    assert (matrix > 0).all()


def test_learned_adjacency_is_linear_in_large_graphs() -> None:
    """Protects memory: no N x N numbers above 500 nodes."""
    few, many = LearnedAdjacency(500, rank=2), LearnedAdjacency(501, rank=2)
    assert [tuple(part.shape) for part in few.factors()] == [(500, 500)]
    assert [tuple(part.shape) for part in many.factors()] == [(501, 2), (2, 501)]


def test_learned_hops_are_powers() -> None:
    """Two learned supports: the adjacency, and the adjacency applied twice."""
    conv = GraphConv(3, 4, n_hops=1, n_learned=2)
    state = torch.randn(6, 2, 3)
    adjacency = LearnedAdjacency(6, rank=2).factors()
    once = torch.einsum("nm,mbc->nbc", adjacency[0], state)
    twice = torch.einsum("nm,mbc->nbc", adjacency[0], once)
    mixed = kind_of("diffusion", 1)[0](RING, WEIGHT, 6)(state.flatten(1)).view(2, 6, 2, 3)
    expected = conv.linear(torch.cat([state, *mixed, once, twice], dim=-1))
    torch.testing.assert_close(conv(state, RING, WEIGHT, adjacency), expected)


@pytest.mark.parametrize(
    ("name", "options", "n_steps"),
    [
        ("graph_wavenet", {"n_blocks": 4, "n_layers": 2}, 13),  # as published
        ("graph_wavenet", {"n_layers": 2}, 4),
        ("graph_wavenet", {}, 16),
        ("stgcn", {}, 16),  # the last convolution takes all that is left
    ],
)
def test_steps_that_a_forecast_depends_on(name: str, options: Any, n_steps: int) -> None:
    model = build(name, 16, **options)
    x = torch.randn(1, 16, 6, 3, requires_grad=True)
    model(x, torch.zeros(1, 3, 6, 0), RING, WEIGHT).square().sum().backward()
    seen = x.grad.abs().amax(dim=(0, 2, 3)) > 0
    assert seen.tolist() == [False] * (16 - n_steps) + [True] * n_steps


@pytest.mark.parametrize(
    ("name", "options", "reach"),
    [
        ("stgcn", {"convolution": "chebyshev", "n_hops": 1, "n_blocks": 1}, 1),
        ("stgcn", {"convolution": "gcn", "n_hops": 1, "n_blocks": 2}, 2),
        ("graph_wavenet", {"n_hops": 1, "n_layers": 3, "adaptive_rank": 0}, 2),
    ],
)
def test_how_far_the_encoder_sees_in_space(name: str, options: Any, reach: int) -> None:
    """One ring apart per graph convolution and hop; the last layer of Graph WaveNet has none."""
    model = build(name, 8, **options)
    both = torch.cat([RING, RING.flip(0)], dim=1)
    x = torch.randn(1, 8, 6, 3, requires_grad=True)
    out = model(x, torch.zeros(1, 3, 6, 0), both, torch.ones(12))
    out[:, :, 0].square().sum().backward()
    heard = (x.grad.abs().amax(dim=(0, 1, 3)) > 0).nonzero().flatten().tolist()
    assert heard == [node for node in range(6) if min(node, 6 - node) <= reach]


def test_graph_wavenet_without_learned_adjacency_has_nothing_of_nodes() -> None:
    names = {key.split(".")[-1] for key in build("graph_wavenet", 8, adaptive_rank=0).state_dict()}
    assert not names & {"give", "take", "identity"}
