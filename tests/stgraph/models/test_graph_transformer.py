"""What is special about the Graph Transformer: reach, structure, identities that come and go."""

from __future__ import annotations

import pytest
import torch

from stgraph.errors import ConfigError
from stgraph.models.attention import SpaceAttention
from stgraph.models.build import read_options
from stgraph.models.graph_transformer import GraphTransformer, GraphTransformerConfig
from stgraph.models.sizes import Sizes
from stgraph.models.structure import Pairs, Reach

W, H, F, K = 6, 3, 4, 5
TINY = {"hidden_size": 8, "n_heads": 2, "n_tokens": 2, "adaptive_rank": 0, "dropout": 0.0}


def build(n_nodes: int, **options: object) -> GraphTransformer:
    torch.manual_seed(0)
    sizes = Sizes(n_nodes=n_nodes, window=W, horizon=H, n_past=F, n_future=K, n_outputs=3)
    model = GraphTransformer(sizes, GraphTransformerConfig.model_validate({**TINY, **options}))
    torch.nn.init.normal_(model.decoder.head.linear.weight)
    return model.eval()


def draw(n_nodes: int, n_edges: int = 20, n_batch: int = 2) -> tuple[torch.Tensor, ...]:
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(n_batch, W, n_nodes, F, generator=draws)
    u = torch.randn(n_batch, H, n_nodes, K, generator=draws)
    edges = torch.randint(0, n_nodes, (2, n_edges), generator=draws)
    return x, u, edges, torch.rand(n_edges, generator=draws) + 0.1


@pytest.mark.parametrize("temporal", ["fold", "attention"])
@pytest.mark.parametrize("structure_bias", ["paths", "resistance", "none"])
@pytest.mark.parametrize("local_above", [0, 1000])
def test_options_of_every_kind_learn(temporal: str, structure_bias: str, local_above: int) -> None:
    """Protects every combination: finite forecasts, a gradient for every parameter."""
    model = build(
        9,
        temporal=temporal,
        structure_bias=structure_bias,
        local_above=local_above,
        n_eigenvectors=2,
        dropout=0.1,
    ).train()
    model(*draw(9)).pow(2).mean().backward()
    assert [k for k, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("n_tokens", [0, 3])
@pytest.mark.parametrize("bias", ["paths", "none"])
def test_neighbours_alone_are_attention_with_the_rest_masked(n_tokens: int, bias: str) -> None:
    """Protects large graphs: sums over edges do what the dense product does with -inf elsewhere."""
    torch.manual_seed(0)
    attend = SpaceAttention(8, n_heads=2, n_tokens=n_tokens, bias=bias, dropout=0.0).double()
    state = torch.randn(3, 7, 8, dtype=torch.float64, requires_grad=True)
    _, _, edges, weight = draw(7, 12)
    pairs = Reach(bias, 0)(edges, weight, 7)
    local = attend(state, pairs)
    dense = dense_of(attend, state, pairs, 7)
    torch.testing.assert_close(local, dense)
    ours = torch.autograd.grad(local.pow(2).sum(), state, retain_graph=True)
    theirs = torch.autograd.grad(dense.pow(2).sum(), state)
    torch.testing.assert_close(ours, theirs)


def dense_of(
    attend: SpaceAttention, state: torch.Tensor, pairs: Pairs, n_nodes: int
) -> torch.Tensor:
    """Return what attention over all nodes gives where all pairs but the given are ruled out."""
    bias = torch.full((attend.n_heads, n_nodes, n_nodes), -torch.inf, dtype=torch.float64)
    given = attend._bias(pairs, torch.float64)
    bias[:, pairs.node, pairs.neighbour] = 0.0 if given is None else given
    everyone = Pairs(None, None, pairs.towards, pairs.back)
    attend._bias = lambda *_: bias  # type: ignore[method-assign]
    try:
        return attend(state, everyone)
    finally:
        del attend._bias


def test_scores_of_any_size_do_not_overflow() -> None:
    attend = SpaceAttention(8, n_heads=2, n_tokens=2, bias="paths", dropout=0.0)
    with torch.no_grad():
        attend.query.weight.mul_(1e3)
        attend.key_value.weight.mul_(1e3)
        _, _, edges, weight = draw(7, 12)
        assert torch.isfinite(
            attend(torch.randn(1, 7, 8), Reach("paths", 0)(edges, weight, 7))
        ).all()


def test_the_same_weights_serve_small_and_large_graphs() -> None:
    small, large = build(9), build(9, local_above=0)
    assert small.state_dict().keys() == large.state_dict().keys()


def test_an_edited_edge_changes_the_forecast() -> None:
    model = build(9, node_embedding_size=0)
    x, u, edges, weight = draw(9)
    before = model(x, u, edges, weight)
    closed = weight.clone()
    closed[3] = 0
    assert not torch.allclose(before, model(x, u, edges, closed))
    torch.testing.assert_close(before, model(x, u, edges.clone(), weight.clone()))


def test_an_edge_tells_far_nodes_apart_without_diffusion() -> None:
    """Protects the bias: with attention alone, closing an edge still matters."""
    model = build(9, node_embedding_size=0, n_graph_layers=0, n_walk_steps=0)
    x, u, edges, weight = draw(9)
    closed = weight.clone()
    closed[3] = 0
    assert not torch.allclose(model(x, u, edges, weight), model(x, u, edges, closed))


def test_identities_are_left_out_in_training_only() -> None:
    model = build(9, identity_dropout=0.5, node_embedding_size=4)
    assert model.can_forget == {"identity"}
    assert build(9).can_forget == set()
    graph = draw(9)
    torch.testing.assert_close(model(*graph), model(*graph))
    assert not torch.allclose(model.train()(*graph), model(*graph))


def test_signs_of_eigenvectors_are_drawn_in_training_only() -> None:
    model = build(9, n_eigenvectors=2, n_walk_steps=0)
    graph = draw(9)
    torch.testing.assert_close(model(*graph), model(*graph))
    model.train()
    codes = {tuple(model._where(*graph[2:], 9, graph[0])[0].tolist()) for _ in range(40)}
    assert len(codes) == 4


@pytest.mark.parametrize("local_above", [0, 1000])
def test_mixed_precision_and_double(local_above: int) -> None:
    model, graph = build(9, local_above=local_above), draw(9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(*graph)
    high = model.double()(*(part.double() for part in graph[:2]), *graph[2:])
    assert high.dtype == torch.float64
    torch.testing.assert_close(low.double(), high, atol=0.1, rtol=0.1)


def test_heads_share_the_state() -> None:
    with pytest.raises(ConfigError, match="`hidden_size` 10 is no multiple of `n_heads` 4"):
        read_options("graph_transformer", {"hidden_size": 10})
