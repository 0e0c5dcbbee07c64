"""The parts around the graph: head and residual perceptron."""

from __future__ import annotations

import torch

from stgraph.models.layers import DirectHead, ResidualMLP


def test_an_untrained_head_adds_next_to_nothing() -> None:
    torch.manual_seed(0)
    out = DirectHead(8, horizon=4, n_outputs=3)(torch.randn(2, 5, 8))
    assert out.shape == (2, 4, 5, 3)
    assert out.abs().max() < 0.05


def test_residual_mlp_keeps_the_shape() -> None:
    layer = ResidualMLP(6, in_size=9)
    assert layer(torch.randn(2, 3, 6), torch.randn(2, 3, 9)).shape == (2, 3, 6)
