"""Simple forecasts, the ones every model has to beat: fitted in closed form, same signature.

Each answers (B, H, N, C) in scaled units from the channels that `stgraph.inputs` documents, has
``is_point``, and says whether its answer is added to the anchor; those with numbers to fit have
``fit_closed_form``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from stgraph.errors import InputError
from stgraph.models.options import ModelOptions
from stgraph.models.sizes import Sizes
from stgraph.windows import Batch

_MAX_VAR_INPUTS = 5000


class NoOptions(ModelOptions):
    """Options of a baseline that has none."""


class RidgeConfig(ModelOptions):
    """Options of the linear baselines."""

    penalty: float = Field(1.0, gt=0)  # added to the diagonal, per 1,000 windows
    n_lags: int | None = Field(None, ge=1)  # past steps used; None: the window, for VAR 3


class Persistence(nn.Module):
    """The last observation, at every horizon."""

    is_point: ClassVar[bool] = True
    uses_anchor: ClassVar[bool] = False

    def __init__(self, sizes: Sizes, config: NoOptions) -> None:  # noqa: ARG002
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return (B, H, N, C)."""
        return _last(x, self.sizes.n_outputs).expand(-1, self.sizes.horizon, -1, -1)


class SeasonalNaive(nn.Module):
    """The value of the same time one season ago: a week where the data has one, else a day."""

    is_point: ClassVar[bool] = True
    uses_anchor: ClassVar[bool] = False

    def __init__(self, sizes: Sizes, config: NoOptions) -> None:  # noqa: ARG002
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return (B, H, N, C)."""
        return u[..., 2 * self.sizes.n_outputs : 3 * self.sizes.n_outputs]


class WeeklyProfile(nn.Module):
    """The node's median at this local time of week (of day, where the data is too short)."""

    is_point: ClassVar[bool] = True
    uses_anchor: ClassVar[bool] = False

    def __init__(self, sizes: Sizes, config: NoOptions) -> None:  # noqa: ARG002
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return (B, H, N, C)."""
        return u[..., self.sizes.n_outputs : 2 * self.sizes.n_outputs]


class ProfileDecay(nn.Module):
    """The expected level plus a decaying share of the last deviation from it.

    That is the anchor of every model, one coefficient per node and horizon; nothing is added.
    """

    is_point: ClassVar[bool] = True

    def __init__(self, sizes: Sizes, config: NoOptions) -> None:  # noqa: ARG002
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return (B, H, N, C)."""
        return torch.zeros_like(u[..., : self.sizes.n_outputs])


class GlobalRidge(nn.Module):
    """One ridge regression for all nodes: past values and expected levels to every horizon."""

    is_point: ClassVar[bool] = True
    uses_anchor: ClassVar[bool] = False

    def __init__(self, sizes: Sizes, config: RidgeConfig) -> None:
        super().__init__()
        self.ridge = _Ridge(sizes, config, n_models=1)

    def fit_closed_form(self, batches: Iterator[Batch], center: Tensor, scale: Tensor) -> None:
        """Solve the normal equations over all nodes together."""
        self.ridge.fit(batches, center, scale)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return (B, H, N, C)."""
        out: Tensor = self.ridge(x, u)
        return out


class NodeRidge(nn.Module):
    """A ridge regression of its own for every node."""

    is_point: ClassVar[bool] = True
    uses_anchor: ClassVar[bool] = False

    def __init__(self, sizes: Sizes, config: RidgeConfig) -> None:
        super().__init__()
        self.ridge = _Ridge(sizes, config, n_models=sizes.n_nodes)

    def fit_closed_form(self, batches: Iterator[Batch], center: Tensor, scale: Tensor) -> None:
        """Solve the normal equations of every node."""
        self.ridge.fit(batches, center, scale)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return (B, H, N, C)."""
        out: Tensor = self.ridge(x, u)
        return out


class VAR(nn.Module):
    """Vector autoregression: deviations of all nodes at the last lags to every node and horizon.

    Ridge in its dual form where there are more inputs than windows.
    """

    is_point: ClassVar[bool] = True
    uses_anchor: ClassVar[bool] = False

    def __init__(self, sizes: Sizes, config: RidgeConfig) -> None:
        super().__init__()
        self.sizes = sizes
        self.penalty = config.penalty
        self.n_lags = min(config.n_lags or 3, sizes.window)
        n_inputs = self.n_lags * sizes.n_nodes * self.sizes.n_outputs
        if n_inputs > _MAX_VAR_INPUTS:
            raise InputError(
                f"VAR over {sizes.n_nodes} nodes and {self.n_lags} lags has {n_inputs} inputs, "
                f"more than {_MAX_VAR_INPUTS}; use fewer lags or the model 'ridge_node'"
            )
        self.weight: Tensor
        shape = (n_inputs, sizes.horizon * sizes.n_nodes * self.sizes.n_outputs)
        self.register_buffer("weight", torch.zeros(shape))

    def fit_closed_form(self, batches: Iterator[Batch], center: Tensor, scale: Tensor) -> None:
        """Solve the primal or the dual ridge problem, whichever is smaller."""
        n_inputs, n_outputs = self.weight.shape
        gram = torch.zeros(n_inputs, n_inputs, dtype=torch.float64)
        cross = torch.zeros(n_inputs, n_outputs, dtype=torch.float64)
        rows: list[Tensor] = []
        answers: list[Tensor] = []
        n_windows = 0
        for batch in batches:
            n_windows += len(batch.x)
            rows.append(self._inputs(batch.x).double())
            ahead = _deviation_ahead(batch, center, scale, self.sizes.n_outputs)
            answers.append(ahead.flatten(1).double())
            if n_windows > n_inputs:  # primal: products are enough, rows need not be kept
                x, y = torch.cat(rows), torch.cat(answers)
                gram += x.T @ x
                cross += x.T @ y
                rows, answers = [], []
        penalty = self.penalty * n_windows / 100
        if n_windows > n_inputs:
            eye = torch.eye(n_inputs, dtype=torch.float64)
            self.weight.copy_(torch.linalg.solve(gram + penalty * eye, cross))
        elif n_windows:
            x, y = torch.cat(rows), torch.cat(answers)
            eye = torch.eye(n_windows, dtype=torch.float64)
            self.weight.copy_(x.T @ torch.linalg.solve(x @ x.T + penalty * eye, y))

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return (B, H, N, C)."""
        out = (self._inputs(x) @ self.weight).view(len(x), self.sizes.horizon, x.shape[2], -1)
        return u[..., : self.sizes.n_outputs] + out

    def _inputs(self, x: Tensor) -> Tensor:
        """Return the last deviations of all nodes, (B, lags * N * C)."""
        c = self.sizes.n_outputs
        recent = x[:, -self.n_lags :]
        return (recent[..., :c] - recent[..., 2 * c : 3 * c]).flatten(1)


class _Ridge(nn.Module):
    """Ridge regression of deviations from the expected level, one model or one per node."""

    def __init__(self, sizes: Sizes, config: RidgeConfig, *, n_models: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.penalty = config.penalty
        self.n_lags = min(config.n_lags or sizes.window, sizes.window)
        n_inputs = sizes.n_outputs * (2 * self.n_lags + sizes.horizon) + 1
        shape = (n_models, n_inputs, sizes.horizon * sizes.n_outputs)
        self.weight: Tensor
        self.register_buffer("weight", torch.zeros(shape))

    def fit(self, batches: Iterator[Batch], center: Tensor, scale: Tensor) -> None:
        """Solve the normal equations; a missing target counts as its expected level."""
        n_models, n_inputs, n_outputs = self.weight.shape
        gram = torch.zeros(n_models, n_inputs, n_inputs, dtype=torch.float64)
        cross = torch.zeros(n_models, n_inputs, n_outputs, dtype=torch.float64)
        n_windows = 0
        for batch in batches:
            inputs = self._inputs(batch.x, batch.u).double()  # (N, B, D)
            y = _deviation_ahead(batch, center, scale, self.sizes.n_outputs)
            y = y.permute(2, 0, 1, 3).flatten(2).double()  # (N, B, H*C)
            if n_models == 1:
                inputs, y = inputs.flatten(0, 1)[None], y.flatten(0, 1)[None]
            gram += inputs.transpose(1, 2) @ inputs
            cross += inputs.transpose(1, 2) @ y
            n_windows += len(batch.x)
        penalty = self.penalty * max(n_windows, 1) / 1000
        gram += penalty * torch.eye(n_inputs, dtype=torch.float64)
        c = self.sizes.n_outputs
        for h in range(self.sizes.horizon):  # from what is known up to that step
            known, step = n_inputs - c * (self.sizes.horizon - 1 - h), slice(c * h, c * (h + 1))
            solved = torch.linalg.solve(gram[:, :known, :known], cross[:, :known, step])
            self.weight[:, :known, step] = solved.float()

    def forward(self, x: Tensor, u: Tensor) -> Tensor:
        """Return (B, H, N, C)."""
        n_nodes, n_batch = x.shape[2], len(x)
        out = self._inputs(x, u) @ self.weight  # (N, B, H*C)
        out = out.view(n_nodes, n_batch, self.sizes.horizon, -1).permute(1, 2, 0, 3)
        return u[..., : self.sizes.n_outputs] + out

    def _inputs(self, x: Tensor, u: Tensor) -> Tensor:
        """Return what the regression sees of every node, (N, B, D)."""
        c = self.sizes.n_outputs
        recent = x[:, -self.n_lags :]
        parts = [
            recent[..., :c].permute(2, 0, 1, 3).flatten(2),
            recent[..., 2 * c : 3 * c].permute(2, 0, 1, 3).flatten(2),
            torch.ones_like(recent[..., :1]).permute(2, 0, 1, 3)[..., 0, :],
            u[..., :c].permute(2, 0, 1, 3).flatten(2),  # last, in the order of time
        ]
        return torch.cat(parts, dim=-1)


def _last(x: Tensor, n_targets: int) -> Tensor:
    """Return the last observation, (B, 1, N, C)."""
    return x[:, -1:, :, :n_targets]


def _deviation_ahead(batch: Batch, center: Tensor, scale: Tensor, n_targets: int) -> Tensor:
    """Return the scaled targets less their expected level, 0 where not observed; (B, H, N, C)."""
    deviation = (batch.y - center) / scale - batch.u[..., :n_targets]
    return torch.where(batch.y_mask, deviation, 0)
