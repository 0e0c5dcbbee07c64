"""Wrap a model: its output becomes a forecast in input units, around an anchor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stgraph.config import HeadConfig
from stgraph.inputs import Inputs
from stgraph.models.heads import Head, Units, build_head
from stgraph.models.losses import masked_mean, weigh_steps
from stgraph.windows import Batch

QUANTILES = (0.1, 0.5, 0.9)  # of the default head


class Predictor(nn.Module):
    """A model with everything around it that turns a batch into a forecast in input units.

    A learned model answers with as many numbers per target as its head wants (`stgraph.models.
    heads`), the first of which is added to the anchor: the expected level plus the decayed last
    deviation. `trust` is the share of the correction that is kept; see `stgraph.shrinkage`. A point
    model (`is_point`, the baselines) answers with one number per target, and the quantiles lie
    where the residuals of the anchor had them; with ``uses_anchor = False`` its answer is the
    forecast itself.

    Shapes
    ------
    input
        `Batch`.
    output
        (B, H, N, C, Q): quantiles in ascending order, 10, 50 and 90 % by default; or
        (B, H, N, C, K): probabilities of classes.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, head: HeadConfig | None = None) -> None:
        super().__init__()
        head = head or HeadConfig()
        self.model = model
        self.is_point = bool(getattr(model, "is_point", False))
        self.uses_anchor = bool(getattr(model, "uses_anchor", True))
        self.head: Head = build_head(head, is_point=self.is_point)
        self.n_targets = len(inputs.targets)
        center, scale = inputs.target_scale()
        self.center: Tensor
        self.scale: Tensor
        self.lower: Tensor
        self.spread: Tensor
        self.trust: Tensor
        self.step_weights: Tensor | None
        self.register_buffer("center", torch.tensor(center), persistent=False)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.register_buffer("lower", torch.tensor(inputs.lower), persistent=False)
        self.register_buffer("spread", torch.tensor(inputs.spread)[:, None], persistent=False)
        self.register_buffer("trust", torch.ones(self.n_targets))
        weights = weigh_steps(head.step_weights, inputs.horizon)
        self.register_buffer("step_weights", weights, persistent=False)
        self.decay = nn.Parameter(torch.tensor(inputs.decay), requires_grad=not self.is_point)

    def forward(self, batch: Batch) -> Tensor:
        """Return the forecast of every target: quantiles in input units, or probabilities."""
        return self.head.finish(self.answer(*self.run_model(batch)), self.units())

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss over what was observed, in units of the pooled scale."""
        # not finished: a median below the smallest value still has to learn
        answer = self.answer(*self.run_model(batch))
        losses = self.head.losses(answer, batch.y, batch.y_mask, self.units())
        return masked_mean(losses, batch.y_mask, self.step_weights)

    def validation_error(self, batch: Batch) -> Tensor:
        """Return the mean error that validation judges by: absolute in input units by default."""
        answer = self.answer(*self.run_model(batch))
        return masked_mean(self.misses(answer, batch), batch.y_mask, self.step_weights)

    def misses(self, answer: Tensor, batch: Batch) -> Tensor:
        """Return the error of every value of an answer that validation judges by, (B, H, N, C)."""
        return self.head.misses(answer, batch.y, batch.y_mask, self.units())

    def run_model(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the model's numbers (B, H, N, C, P), and what they correct (B, H, N, C)."""
        out = self.model(batch.x, batch.u, batch.edge_index, batch.edge_weight)
        raw = out.to(self.decay.dtype).unflatten(-1, (-1, self.n_targets)).transpose(-1, -2)
        start = self.anchor(batch) if self.uses_anchor else torch.zeros_like(raw[..., 0])
        return raw, start

    def answer(self, raw: Tensor, start: Tensor, trust: Tensor | None = None) -> Tensor:
        """Return what the head makes of the model's numbers; `trust` in place of its own."""
        return self.head.answer(raw, start, self.units(trust))

    def units(self, trust: Tensor | None = None) -> Units:
        """Return the numbers between the model's scale and input units."""
        trust = self.trust if trust is None else trust
        return Units(self.center, self.scale, self.spread, trust, self.lower)

    def anchor(self, batch: Batch) -> Tensor:
        """Return the expected level plus a share of the last deviation from it, scaled."""
        c = self.n_targets
        last, expected_last = batch.x[:, -1, :, :c], batch.x[:, -1, :, 2 * c : 3 * c]
        return batch.u[..., :c] + self.decay * (last - expected_last)[:, None]
