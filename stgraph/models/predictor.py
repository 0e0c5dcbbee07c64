"""Wrap a model: its output becomes ordered quantiles in input units, around an anchor."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from stgraph.inputs import Inputs
from stgraph.windows import Batch

QUANTILES = (0.1, 0.5, 0.9)


class Predictor(nn.Module):
    """A model with everything around it that turns a batch into quantiles in input units.

    A learned model answers with three channels per target: what to add to the anchor (the expected
    level plus the decayed last deviation), and how far the outer quantiles lie from the median, so
    that they never cross. `trust` is the share of the correction that is kept; see
    `stgraph.shrinkage`. A point model (`is_point`, the baselines) answers with one channel per
    target, and the outer quantiles lie where the residuals of the anchor had them; with
    ``uses_anchor = False`` its answer is the forecast itself.

    Shapes
    ------
    input
        `Batch`.
    output
        (B, H, N, C, 3): quantiles 10, 50 and 90 %.
    """

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model = model
        self.is_point = bool(getattr(model, "is_point", False))
        self.uses_anchor = bool(getattr(model, "uses_anchor", True))
        self.n_targets = len(inputs.targets)
        center, scale = inputs.target_scale()
        self.center: Tensor
        self.scale: Tensor
        self.lower: Tensor
        self.spread: Tensor
        self.trust: Tensor
        self.register_buffer("center", torch.tensor(center), persistent=False)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.register_buffer("lower", torch.tensor(inputs.lower), persistent=False)
        self.register_buffer("spread", torch.tensor(inputs.spread)[:, None], persistent=False)
        self.register_buffer("trust", torch.ones(self.n_targets))
        self.decay = nn.Parameter(torch.tensor(inputs.decay), requires_grad=not self.is_point)

    def forward(self, batch: Batch) -> Tensor:
        """Return the quantiles of every target, in input units."""
        out = self.model(batch.x, batch.u, batch.edge_index, batch.edge_weight)
        c = self.n_targets
        median = out[..., :c]
        if self.uses_anchor:
            median = self.anchor(batch) + self.trust * median
        if self.is_point:
            below = above = self.spread.expand_as(out)
        else:
            # softplus(0) = ln 2: an untrained model has the spread of the anchor's residuals
            below = self.spread * functional.softplus(out[..., c : 2 * c]) / math.log(2)
            above = self.spread * functional.softplus(out[..., 2 * c :]) / math.log(2)
        quantiles = torch.stack([median - below, median, median + above], dim=-1)
        in_units = quantiles * self.scale[..., None] + self.center[..., None]
        if self.training:  # a median below the bound still has to learn
            return in_units
        return torch.maximum(in_units, self.lower[:, None])

    def loss(self, batch: Batch) -> Tensor:
        """Return the masked mean pinball loss, in units of the pooled scale of the targets."""
        error = batch.y[..., None] - self(batch)  # (B, H, N, C, 3)
        levels = error.new_tensor(QUANTILES)
        pinball = torch.maximum(levels * error, (levels - 1) * error)
        pinball = pinball / self.scale.mean(dim=0)[:, None]
        seen = batch.y_mask[..., None]
        total: Tensor = (pinball * seen).sum() / seen.sum().clamp_min(1)
        return total

    def anchor(self, batch: Batch) -> Tensor:
        """Return the expected level plus a share of the last deviation from it, scaled."""
        c = self.n_targets
        last, expected_last = batch.x[:, -1, :, :c], batch.x[:, -1, :, 2 * c : 3 * c]
        return batch.u[..., :c] + self.decay * (last - expected_last)[:, None]
