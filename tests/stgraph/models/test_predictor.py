"""What stands around a model: anchor, quantiles, loss, masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from learned_models import SMALL
from torch import nn

from stgraph.inputs import fit_inputs
from stgraph.layout import layout_of
from stgraph.models.build import build_predictor
from stgraph.models.predictor import Predictor
from stgraph.models.sizes import Sizes
from stgraph.windows import Windows

W, H = 6, 4


def build(graph, name: str, **options: Any) -> tuple[Predictor, Windows]:
    """Return an untrained model without dropout, and the windows of four days."""
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    torch.manual_seed(0)
    given = {**SMALL[name], "dropout": 0.0, **options}
    return build_predictor(name, given, inputs, layout=layout_of(graph)), Windows(source, range(60))


class Fixed(nn.Module):
    """A model whose answer is given."""

    def __init__(self, answer: torch.Tensor, *, is_point: bool, uses_anchor: bool = True) -> None:
        super().__init__()
        self.answer = answer
        self.is_point = is_point
        self.uses_anchor = uses_anchor

    def forward(self, x, u, edge_index, edge_weight):
        return self.answer


def test_predictor_by_hand(make_signal) -> None:
    graph = make_signal(2, 24 * 5)
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    batch = Windows(source, range(3)).__getitems__([0, 1])
    center, scale = (torch.tensor(part) for part in inputs.target_scale())
    anchor = batch.u[..., :1] + torch.tensor(inputs.decay) * (
        batch.x[:, -1, :, :1] - batch.x[:, -1, :, 2:3]
    ).unsqueeze(1)
    anchor_in_units = anchor * scale + center
    width = torch.tensor(inputs.spread)[:, None] * scale
    # zeros: the anchor, with the spread of its residuals
    out = Predictor(Fixed(torch.zeros(2, H, 2, 3), is_point=False), inputs)(batch)
    torch.testing.assert_close(out[..., 1], anchor_in_units)
    torch.testing.assert_close(
        out[..., 2] - out[..., 1], width.expand(2, H, 2, 1), atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(
        out[..., 1] - out[..., 0], width.expand(2, H, 2, 1), atol=1e-3, rtol=1e-3
    )
    # a point forecast of its own: 2 scaled units over the center, whatever the anchor
    out = Predictor(Fixed(torch.full((2, H, 2, 1), 2.0), is_point=True, uses_anchor=False), inputs)(
        batch
    )
    wanted = (2 * scale + center).expand(2, H, 2, 1)
    torch.testing.assert_close(out[..., 1], wanted)


def test_quantiles_never_cross_and_never_fall_below_the_smallest_value(make_signal) -> None:
    graph = make_signal(3, 24 * 5, n_targets=2)
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    assert (inputs.lower == 0).all()
    batch = Windows(source, range(9)).__getitems__(range(9))
    torch.manual_seed(0)
    for size in (0.1, 10.0, 1000.0):
        wild = size * torch.randn(9, H, 3, 6)
        out = Predictor(Fixed(wild, is_point=False), inputs).eval()(batch)
        assert (out.diff(dim=-1) >= 0).all()
        assert (out >= 0).all()


def test_loss_by_hand(make_signal) -> None:
    graph = make_signal(2, 24 * 5)
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    windows = Windows(source, range(9))
    predictor = Predictor(Fixed(torch.zeros(9, H, 2, 3), is_point=False), inputs)
    batch = windows.__getitems__(range(9))
    mask = batch.y_mask.clone()
    mask[3:, 2:] = False
    batch = batch._replace(y_mask=mask, y=torch.where(mask, batch.y, 0))
    out, truth = predictor(batch).detach().numpy()[..., 0, :], batch.y.numpy()[..., 0]
    total, n = 0.0, 0
    for place in np.ndindex(truth.shape):
        if mask.numpy()[(*place, 0)]:
            for q, forecast in zip((0.1, 0.5, 0.9), out[place], strict=True):
                gap = truth[place] - forecast
                total += q * gap if gap > 0 else (q - 1) * gap
            n += 1
    wanted = total / n / inputs.scaler.scale.mean()
    assert predictor.loss(batch).item() == pytest.approx(wanted, rel=1e-4)
    # nothing observed: nothing to learn, no NaN
    nothing = batch._replace(y_mask=torch.zeros_like(mask), y=torch.zeros_like(batch.y))
    assert predictor.loss(nothing).item() == 0


def test_masked_targets_never_influence_the_loss(make_signal) -> None:
    predictor, windows = build(make_signal(3), "identity_mlp")
    batch = windows.__getitems__(range(9))
    mask = torch.rand(batch.y.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    quiet = batch._replace(y_mask=mask, y=torch.where(mask, batch.y, 0))
    loud = batch._replace(y_mask=mask, y=torch.where(mask, batch.y, 1e6))
    assert predictor.loss(quiet).item() == predictor.loss(loud).item()


def test_sizes_are_what_inputs_say(make_signal) -> None:
    graph = make_signal(3, n_targets=2)
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    arrays = source.gather(np.arange(2))
    sizes = Sizes(3, W, H, inputs.n_past, inputs.n_future, 6)
    assert arrays.x.shape == (2, sizes.window, sizes.n_nodes, sizes.n_past)
    assert arrays.u.shape == (2, sizes.horizon, sizes.n_nodes, sizes.n_future)
