"""Heads: what a model's numbers mean, and what it is trained for.

A model answers with `n_channels` numbers per target and knows nothing else about its head. The head
turns them into quantiles (ascending, never crossing) or into log probabilities of classes, and says
what an answer costs in training and how validation judges it.

Shapes
------
`raw` (B, H, N, C, `n_channels`) and `start` (B, H, N, C), what the model corrects, are scaled; the
answer is (B, H, N, C, Q) quantiles in input units, or (B, H, N, C, K) log probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from stgraph.config import HeadConfig
from stgraph.models.losses import (
    class_losses,
    gaussian_losses,
    huber_losses,
    masked_error,
    pinball_losses,
)

_LEAST_DEVIATION = 0.01  # of the spread: a node that never moves has no likelihood without limit
_LEAST_PROBABILITY = 1e-3  # of a class before the model has said anything
_NORMAL_90 = NormalDist().inv_cdf(0.9)
_LOGISTIC_90 = math.log(9)  # the same of the logistic distribution


class Units(NamedTuple):
    """Numbers fitted on the training part, between the model's scale and input units."""

    center: Tensor  # (1 or N, C)
    scale: Tensor  # (1 or N, C)
    spread: Tensor  # (H, 1, C) scaled: 80 % of the residuals of the anchor are smaller
    trust: Tensor  # (C,) share of the model's correction that is kept
    lower: Tensor  # (C,) no value is below it


class Head(Protocol):
    """What every head can do; each is an `nn.Module`."""

    n_channels: int

    def answer(self, raw: Tensor, start: Tensor, units: Units) -> Tensor:
        """Return what the model's numbers mean: (B, H, N, C, Q or K)."""

    def losses(self, answer: Tensor, truth: Tensor, mask: Tensor, units: Units) -> Tensor:
        """Return what each answer costs in training, (B, H, N, C), free of units."""

    def misses(self, answer: Tensor, truth: Tensor, mask: Tensor, units: Units) -> Tensor:
        """Return the error that validation judges each forecast by, (B, H, N, C)."""

    def finish(self, answer: Tensor, units: Units) -> Tensor:
        """Return the forecast: quantiles above the smallest value, or probabilities."""


class QuantileHead(nn.Module):
    """A median, and how far apart the quantiles on both sides of it lie.

    Every distance passes through a softplus and they add up from the median outwards, so quantiles
    never cross. An untrained model has the spread of the anchor's residuals.
    """

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.n_channels = len(self.levels)
        ratio = _normal_ratios(self.levels)
        self.n_below = self.levels.index(0.5)
        self.gaps_below: Tensor
        self.gaps_above: Tensor
        outwards = -ratio[: self.n_below].flip(0), ratio[self.n_below + 1 :]
        for name, far in zip(("gaps_below", "gaps_above"), outwards, strict=True):
            gaps = far.diff(prepend=far.new_zeros(1))
            self.register_buffer(name, gaps, persistent=False)

    def answer(self, raw: Tensor, start: Tensor, units: Units) -> Tensor:
        """Return quantiles in input units."""
        median = (start + units.trust * raw[..., 0])[..., None]
        # softplus(0) = ln 2: an untrained model has the spread of the anchor's residuals
        gaps = units.spread[..., None] * functional.softplus(raw[..., 1:]) / math.log(2)
        below = (gaps[..., : self.n_below] * self.gaps_below).cumsum(-1).flip(-1)
        above = (gaps[..., self.n_below :] * self.gaps_above).cumsum(-1)
        return _in_units(torch.cat([median - below, median, median + above], dim=-1), units)

    def losses(self, answer: Tensor, truth: Tensor, mask: Tensor, units: Units) -> Tensor:
        """Return the pinball losses in standard deviations."""
        errors = masked_error(truth[..., None], answer, mask[..., None])
        return pinball_losses(errors, self.levels) / _pooled(units)

    def misses(self, answer: Tensor, truth: Tensor, mask: Tensor, units: Units) -> Tensor:
        """Return absolute errors of the median."""
        median = self.finish(answer, units)[..., self.n_below]
        return masked_error(truth, median, mask).abs()

    def finish(self, answer: Tensor, units: Units) -> Tensor:
        """Return quantiles that are not below the smallest possible value."""
        return torch.maximum(answer, units.lower[:, None])


class RegressionHead(nn.Module):
    """One number; quantiles lie where the residuals of the anchor had them in training."""

    n_channels = 1

    def __init__(self, levels: Sequence[float], *, loss: str = "mae", delta: float = 1.0) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.loss = loss
        self.delta = delta
        self.middle = self.levels.index(0.5)
        self.ratios: Tensor
        self.register_buffer("ratios", _normal_ratios(self.levels), persistent=False)

    def answer(self, raw: Tensor, start: Tensor, units: Units) -> Tensor:
        """Return quantiles in input units."""
        point = (start + units.trust * raw[..., 0])[..., None]
        return _in_units(point + self.ratios * units.spread[..., None], units)

    def losses(self, answer: Tensor, truth: Tensor, mask: Tensor, units: Units) -> Tensor:
        """Return absolute, squared or Huber's losses, in standard deviations."""
        errors = masked_error(truth, answer[..., self.middle], mask) / _pooled(units)
        if self.loss == "mse":
            return errors**2
        return errors.abs() if self.loss == "mae" else huber_losses(errors, self.delta)

    def misses(self, answer: Tensor, truth: Tensor, mask: Tensor, units: Units) -> Tensor:
        """Return absolute errors, squared ones if that is what was trained for."""
        point = self.finish(answer, units)[..., self.middle]
        errors = masked_error(truth, point, mask)
        return errors**2 if self.loss == "mse" else errors.abs()

    def finish(self, answer: Tensor, units: Units) -> Tensor:
        """Return quantiles that are not below the smallest possible value."""
        return torch.maximum(answer, units.lower[:, None])


class GaussianHead(nn.Module):
    """Mean and standard deviation of a normal distribution; quantiles follow from them."""

    n_channels = 2

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.middle = self.levels.index(0.5)
        self.at_90 = self.levels.index(0.9)
        self.ratios: Tensor
        self.register_buffer("ratios", _normal_ratios(self.levels), persistent=False)

    def answer(self, raw: Tensor, start: Tensor, units: Units) -> Tensor:
        """Return quantiles in input units."""
        mean = (start + units.trust * raw[..., 0])[..., None]
        width = functional.softplus(raw[..., 1:]) / math.log(2) + _LEAST_DEVIATION
        return _in_units(mean + self.ratios * width * units.spread[..., None], units)

    def losses(self, answer: Tensor, truth: Tensor, mask: Tensor, units: Units) -> Tensor:
        """Return negative log likelihoods, in standard deviations."""
        errors = masked_error(truth, answer[..., self.middle], mask) / _pooled(units)
        # far from 0, rounding may leave nothing between two quantiles
        least = _LEAST_DEVIATION / _NORMAL_90 * units.spread * units.scale
        return gaussian_losses(errors, self.deviation(answer).maximum(least) / _pooled(units))

    def misses(self, answer: Tensor, truth: Tensor, mask: Tensor, units: Units) -> Tensor:
        """Return absolute errors of the mean."""
        mean = self.finish(answer, units)[..., self.middle]
        return masked_error(truth, mean, mask).abs()

    def finish(self, answer: Tensor, units: Units) -> Tensor:
        """Return quantiles that are not below the smallest possible value."""
        return torch.maximum(answer, units.lower[:, None])

    def deviation(self, answer: Tensor) -> Tensor:
        """Return the standard deviation that belongs to an answer, in input units."""
        return (answer[..., self.at_90] - answer[..., self.middle]) / _NORMAL_90


class ClassHead(nn.Module):
    """Probabilities of classes between limits, such as levels of congestion.

    The model corrects the log probabilities that the anchor has when its residuals are logistic
    with their spread. A point model (`is_point`) has just those, around its own forecast.
    """

    def __init__(
        self,
        edges: Sequence[float],
        *,
        weights: Sequence[float] | Literal["balanced"] | None = None,
        is_point: bool = False,
    ) -> None:
        super().__init__()
        self.is_point = is_point
        self.n_channels = 1 if is_point else len(edges) + 1
        self.edges: Tensor
        self.weights: Tensor | None
        limits = torch.tensor([float(edge) for edge in edges])
        self.register_buffer("edges", limits, persistent=False)
        is_balanced = weights == "balanced"  # by `balance`, when the readings are known
        given = [1.0] * (len(edges) + 1) if is_balanced else weights
        numbers = None if given is None else torch.tensor([float(weight) for weight in given])
        scaled = None if numbers is None else numbers / numbers.mean()
        self.register_buffer("weights", scaled, persistent=is_balanced)

    def answer(self, raw: Tensor, start: Tensor, units: Units) -> Tensor:
        """Return log probabilities."""
        if self.is_point:
            return self._around(start + units.trust * raw[..., 0], units)
        return torch.log_softmax(self._around(start, units) + units.trust[:, None] * raw, dim=-1)

    def losses(self, answer: Tensor, truth: Tensor, mask: Tensor, units: Units) -> Tensor:  # noqa: ARG002
        """Return weighted cross-entropies."""
        # nothing observed has no class; any will do, for it does not count
        return class_losses(answer, self.classify(torch.where(mask, truth, 0)), self.weights)

    def misses(self, answer: Tensor, truth: Tensor, mask: Tensor, units: Units) -> Tensor:
        """Return weighted cross-entropies."""
        return self.losses(answer, truth, mask, units)

    def finish(self, answer: Tensor, units: Units) -> Tensor:  # noqa: ARG002
        """Return probabilities."""
        return answer.exp()

    def classify(self, values: Tensor) -> Tensor:
        """Return the positions of the classes of values; a limit belongs to the class above."""
        return torch.bucketize(values, self.edges, right=True)

    def balance(self, values: Tensor) -> None:
        """Let every class count the same, however often it is among some values."""
        counts = torch.bincount(self.classify(values).flatten(), minlength=len(self.edges) + 1)
        weights = counts.sum() / (counts.clamp_min(1) * (counts > 0).sum())
        self.weights = weights.where(counts > 0, 1).to(self.edges.dtype)

    def _around(self, point: Tensor, units: Units) -> Tensor:
        """Return the log probabilities of classes around a scaled point forecast."""
        edges = (self.edges - units.center[..., None]) / units.scale[..., None]  # (N, C, K - 1)
        width = units.spread[..., None] / _LOGISTIC_90
        below = torch.sigmoid((edges - point[..., None]) / width)
        ends = below.new_zeros((*below.shape[:-1], 1))
        shares = torch.cat([ends, below, ends + 1], dim=-1).diff(dim=-1) + _LEAST_PROBABILITY
        return torch.log(shares / shares.sum(dim=-1, keepdim=True))


def build_head(config: HeadConfig, *, is_point: bool) -> Head:
    """Return the head that a config asks for; point models have one number for all of them."""
    if config.kind == "classes":
        return ClassHead(config.edges, weights=config.class_weights, is_point=is_point)
    if is_point or config.kind == "regression":
        return RegressionHead(config.levels, loss=config.loss, delta=config.huber_delta)
    return (GaussianHead if config.kind == "gaussian" else QuantileHead)(config.levels)


def _in_units(quantiles: Tensor, units: Units) -> Tensor:
    """Return scaled quantiles in input units."""
    return quantiles * units.scale[..., None] + units.center[..., None]


def _pooled(units: Units) -> Tensor:
    """Return one scale per target, (C,), so that errors of all nodes count alike."""
    return units.scale.mean(dim=0)


def _normal_ratios(levels: Sequence[float]) -> Tensor:
    """Return quantiles of the normal distribution in units of its 90 % one."""
    # of the upper half alone, so that both sides are bit-equal
    far = [NormalDist().inv_cdf(max(level, 1 - level)) / _NORMAL_90 for level in levels]
    signs = [math.copysign(1, level - 0.5) for level in levels]
    return torch.tensor([sign * size for sign, size in zip(signs, far, strict=True)])
