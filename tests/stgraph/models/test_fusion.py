"""Fusions: concatenation, attention, gates; swappable in every family that has the option."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import torch
from learned_models import SMALL

from stgraph import registry
from stgraph.layout import Layout
from stgraph.models.build import read_options
from stgraph.models.fusion import AttentionFusion, ConcatFusion, GatedFusion, build_fusion
from stgraph.models.options import Fusing
from stgraph.models.sizes import Sizes

KINDS = typing.get_args(Fusing)
ROW = Layout(5, cells=np.stack([np.zeros(5, dtype=np.int64), np.arange(5)], axis=1))
SIZES = Sizes(n_nodes=5, window=6, horizon=3, n_past=3, n_future=4, n_outputs=3, layout=ROW)
FUSING = sorted(name for name in SMALL if "fusion" in type(read_options(name, {})).model_fields)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_sizes", [[3], [3, 4], [2, 5, 7]])
@pytest.mark.parametrize("out_size", [8, 6, 1])
def test_shape_and_gradients(kind: Fusing, in_sizes: list[int], out_size: int) -> None:
    torch.manual_seed(0)
    fusion = build_fusion(kind, in_sizes, out_size)
    parts = [torch.randn(2, 5, size) for size in in_sizes]
    fused = fusion(parts)
    assert fused.shape == (2, 5, out_size)
    fused.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in fusion.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_float64_and_bf16(kind: Fusing) -> None:
    """Protects gradient checks, and training on a GPU."""
    fusion = build_fusion(kind, [3, 4, 2], 8)
    parts = [torch.randn(2, 5, size) for size in (3, 4, 2)]
    wide = fusion.double()([part.double() for part in parts])
    assert wide.dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = fusion.float()(parts)
    torch.testing.assert_close(narrow.double(), wide, rtol=0.05, atol=0.05)


def test_concat_has_the_names_of_old_checkpoints() -> None:
    assert set(build_fusion("concat", [3, 4], 8).state_dict()) == {"linear.weight", "linear.bias"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_part_is_only_mapped(kind: Fusing) -> None:
    assert isinstance(build_fusion(kind, [3], 8), ConcatFusion)


def test_attention_with_equal_shares_is_the_concatenation() -> None:
    """Protects the scale: attention starts from what concatenation does."""
    attention, concat = AttentionFusion([3, 4], 8), ConcatFusion([3, 4], 8)
    with torch.no_grad():
        attention.query.zero_()
        concat.linear.weight.copy_(torch.cat([t.weight for t in attention.tokens], dim=1))
        concat.linear.bias.copy_(attention.tokens[0].bias + attention.tokens[1].bias)
    parts = [torch.randn(2, 5, 3), torch.randn(2, 5, 4)]
    torch.testing.assert_close(attention(parts), concat(parts))


def test_attention_looks_where_the_query_finds_something() -> None:
    attention = AttentionFusion([1, 1], 4)
    with torch.no_grad():
        for token in attention.tokens:
            token.weight.fill_(1)
            token.bias.zero_()
        attention.query.fill_(10)
    fused = attention([torch.tensor([[[5.0]]]), torch.tensor([[[-5.0]]])])
    torch.testing.assert_close(fused, torch.full((1, 1, 4), 10.0))  # two parts x share 1 x 5


def test_two_gated_parts_are_the_gate_of_gman() -> None:
    """z * a + (1 - z) * b with z = sigmoid(a W + b V + c)."""
    fusion = GatedFusion([3, 4], 8)
    left, right = torch.randn(2, 5, 3), torch.randn(2, 5, 4)
    a, b = fusion.values[0](left), fusion.values[1](right)
    z = torch.sigmoid(fusion.gate(torch.cat([a, b], dim=-1)))
    torch.testing.assert_close(fusion([left, right]), z * a + (1 - z) * b)


def test_gates_of_three_parts_share_out_the_whole() -> None:
    """Parts that say the same give just that, whatever the gates are."""
    fusion = GatedFusion([2, 2, 2], 4)
    for value in fusion.values[1:]:
        value.load_state_dict(fusion.values[0].state_dict())
    part = torch.randn(3, 2)
    torch.testing.assert_close(fusion([part, part, part]), fusion.values[0](part))


@pytest.mark.parametrize("name", FUSING)
@pytest.mark.parametrize("kind", KINDS)
def test_every_family_takes_every_fusion(name: str, kind: Fusing) -> None:
    """Protects the swap: the option means the same everywhere."""
    options = read_options(name, {**SMALL[name], "fusion": kind})
    model = registry.load("models", name)(SIZES, options)
    x, u = torch.randn(2, 6, 5, 3), torch.randn(2, 3, 5, 4)
    edges = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]])
    out = model(x, u, edges, torch.ones(5))
    assert out.shape == (2, 3, 5, 3)
    assert torch.isfinite(out).all()
