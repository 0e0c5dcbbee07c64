"""Losses per value, and their mean over what was observed.

A value that was not observed has no error at all, whatever stands in its place: its error is 0
before anything is computed from it, so it changes neither the loss nor a gradient. What was
observed is told by a mask of bits, never by comparing scaled numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def masked_error(truth: Tensor, forecast: Tensor, mask: Tensor) -> Tensor:
    """Return ``truth - forecast``, 0 where nothing was observed."""
    return torch.where(mask, truth - forecast, 0)


def masked_mean(losses: Tensor, mask: Tensor, step_weights: Tensor | None = None) -> Tensor:
    """Return the mean over what was observed, 0 where that is nothing.

    Parameters
    ----------
    losses
        (B, H, N, C) one per value; those that were not observed do not count.
    mask
        (B, H, N, C) True = observed.
    step_weights
        (H,) what an error at each horizon counts; None: all the same.
    """
    kept = torch.where(mask, losses, 0)
    if step_weights is None:
        return kept.sum() / mask.sum().clamp_min(1)
    weights = step_weights[:, None, None]
    weight = (mask * weights).sum()
    return (kept * weights).sum() / weight.where(weight > 0, 1)


def pinball_losses(errors: Tensor, levels: Sequence[float]) -> Tensor:
    """Return the pinball losses of quantiles, (..., Q) -> (...), as many as three of them.

    The mean over the quantiles, times 3: so the loss is as large with 19 of them as with three.
    """
    at = errors.new_tensor(levels)
    return 3 * torch.maximum(at * errors, (at - 1) * errors).mean(dim=-1)


def huber_losses(errors: Tensor, delta: float) -> Tensor:
    """Return squared errors that grow linearly from `delta` on: half the square below it."""
    size = errors.abs()
    return torch.where(size <= delta, 0.5 * errors**2, delta * (size - 0.5 * delta))


def gaussian_losses(errors: Tensor, deviation: Tensor) -> Tensor:
    """Return negative log likelihoods under normal distributions, without their constant.

    Both are in the same unit, in which `deviation` is above 0.
    """
    return torch.log(deviation) + 0.5 * (errors / deviation) ** 2


def class_losses(log_probabilities: Tensor, classes: Tensor, weights: Tensor | None) -> Tensor:
    """Return weighted cross-entropies, (..., K) -> (...).

    Parameters
    ----------
    log_probabilities
        (..., K).
    classes
        (...) positions of the classes that came true.
    weights
        (K,) what a miss of each class counts; None: all the same.
    """
    chosen = log_probabilities.gather(-1, classes[..., None])[..., 0]
    return -chosen if weights is None else -chosen * weights[classes]


def weigh_steps(weights: str | Sequence[float], horizon: int) -> Tensor | None:
    """Return what an error at each horizon counts, (H,) with mean 1; None: all the same.

    Parameters
    ----------
    weights
        One number per horizon, or a ramp: "uniform"; "near", where the weight falls evenly from
        the first to the last horizon, to 1/H of it; or "far", the other way round.
    horizon
        H.
    """
    if weights == "uniform":
        return None
    falling = torch.arange(horizon, 0, -1, dtype=torch.float32)
    ramps = {"near": falling, "far": falling.flip(0)}
    given = (
        ramps[weights] if isinstance(weights, str) else torch.tensor([float(w) for w in weights])
    )
    return given / given.mean()
