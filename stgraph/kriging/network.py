"""A small network that learns how far to trust each sensor around a place."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stgraph.graph import BoolArray, FloatArray, IntArray
from stgraph.kriging.interpolation import (
    Hiding,
    Kernel,
    differs_in_class,
    draw_hidings,
    mix,
    runs_against,
    tokens_of,
)
from stgraph.kriging.surroundings import Surroundings, straight_m

_CAP_M = 20_000.0  # ways that are longer, or not there, look the same
_SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)  # of the sensors, hidden while learning
_PLACES_AT_ONCE = 32
_STEPS_AT_ONCE = 24
_NEW_HIDING = 8  # batches from one hiding
_TOKENS_AT_ONCE = 2_000_000


class SensorAttention(nn.Module):
    """Attention of a place over the sensors around it, as a correction of fixed weights.

    It begins as the interpolation whose weights it is given, and knows nothing about who a place
    or a sensor is: only ways, attributes and values (as IGNNK does, Wu et al., AAAI 2021).

    Shapes
    ------
    static (M, K, S), told (B, M, K), weight (B, M, K) -> (B, M)
    """

    def __init__(self, n_static: int, hidden_size: int = 32) -> None:
        super().__init__()
        self.token = nn.Sequential(
            nn.Linear(n_static + 3, hidden_size),
            nn.SiLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.SiLU(),
        )
        self.context = nn.Linear(hidden_size, hidden_size)
        self.inner = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, 2)
        self.center: Tensor  # of the values, so that what the network sees lies around 0
        self.register_buffer("center", torch.tensor(0.0))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, static: Tensor, told: Tensor, weight: Tensor) -> Tensor:
        """Return the estimate at every place."""
        there = torch.isfinite(weight)
        finite = weight.masked_fill(~there, -1e9)
        share = finite.softmax(-1)
        mean = (share * told).sum(-1, keepdim=True)  # (B, M, 1)
        moving = torch.stack([told - mean, (mean - self.center).expand_as(told), share], dim=-1)
        token = self.token(
            torch.cat([static.expand(*told.shape, static.shape[-1]), moving], dim=-1)
        )
        token = token * there.unsqueeze(-1)
        around = (token * share.unsqueeze(-1)).sum(-2)  # (B, M, hidden)
        both = functional.silu(self.inner(token) + self.context(around).unsqueeze(-2))
        shift, offset = self.out(both).unbind(-1)
        share = (finite + shift).masked_fill(~there, -1e9).softmax(-1)
        estimate: Tensor = (share * (told + offset)).sum(-1)
        return estimate


def describe_tokens(around: Surroundings) -> FloatArray:
    """Return what does not change with time about each sensor around each place, (M, K + 1, S)."""
    there = around.sensor >= 0
    along = np.minimum(around.length_m, _CAP_M)
    straight = np.minimum(straight_m(around), _CAP_M)
    relation = np.broadcast_to(around.relation, there.shape)
    ours, theirs = around.places.road[:, None], around.sensors.road[around.sensor]
    ratio = around.places.reference[:, None] / around.sensors.reference[around.sensor]
    ratio = np.where(np.isfinite(ratio), np.log(np.clip(ratio, 0.1, 10)), 0)
    nearest = np.minimum(around.distance_m(), _CAP_M)[:, None]
    columns = [
        *(relation == kind for kind in range(3)),
        np.log1p(along / 300),
        np.log1p(straight / 300),
        np.log1p(np.broadcast_to(nearest, along.shape) / 300),
        (ours >= 0) & (ours == theirs),
        differs_in_class(around),
        runs_against(around),
        ratio,
    ]
    static = np.stack([np.where(there, column, 0) for column in columns], axis=-1)
    area = np.zeros((len(around), 1, static.shape[-1]))
    area[:, 0, 5] = np.log1p(nearest[:, 0] / 300)
    return np.concatenate([static, area], axis=1).astype(np.float32)


def n_static() -> int:
    """Return how many numbers `describe_tokens` says about each sensor."""
    return 10


def fit_attention(
    values: FloatArray,
    among: Surroundings,
    allowed: IntArray,
    kernel: Kernel,
    *,
    n_each: int,
    n_batches: int,
    seed: int,
    learning_rate: float = 4e-3,
) -> SensorAttention:
    """Learn from sensors that are hidden at random and guessed from the others.

    Parameters
    ----------
    values
        (T, S) readings in units of their deviation, not centred, because some are taken as ratios;
        NaN where missing: those are no targets.
    among
        The sensors around each sensor.
    allowed
        Sensors that may be looked at; the others are hidden throughout.
    kernel
        The interpolation that is corrected.
    n_each, n_batches, seed, learning_rate
        Sensors per relation, batches, seed of everything random, peak of the schedule.
    """
    generator = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SensorAttention(n_static())
    network.center.fill_(float(np.nanmean(values[:, allowed])))
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=n_batches, pct_start=0.1
    )
    steps = np.flatnonzero(np.isfinite(values[:, allowed]).any(axis=1))
    for number in range(n_batches):
        if number % _NEW_HIDING == 0:
            share = float(generator.choice(_SHARES))
            (hiding,) = draw_hidings(
                among,
                allowed,
                shares=[share],
                generator=generator,
                n_each=n_each,
                at_most=_PLACES_AT_ONCE,
            )
            static = torch.from_numpy(describe_tokens(hiding.around))
        some = values[generator.choice(steps, min(len(steps), _STEPS_AT_ONCE), replace=False)]
        truth = some[:, hiding.hidden]
        told, weight = tokens_of(some, hiding.around, hiding.visible, kernel)
        known = np.isfinite(truth) & np.isfinite(weight).any(axis=-1)
        if not known.any():
            continue
        guess = network(static, torch.from_numpy(told), torch.from_numpy(weight))
        target = torch.from_numpy(np.where(known, truth, np.float32(0)))
        loss = ((guess - target).abs() * torch.from_numpy(known)).sum() / int(known.sum())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()


def predict(
    network: SensorAttention | None,
    values: FloatArray,
    around: Surroundings,
    visible: BoolArray,
    kernel: Kernel,
    *,
    trust: float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """Return estimates at the places and the deviation among what speaks for them, (T, M) each.

    Parameters
    ----------
    network
        None leaves the interpolation as it is.
    values, around, visible, kernel
        As for `interpolation.interpolate`.
    trust
        Share of the network's correction that is kept.
    """
    overall = spread_of(values[:, visible])
    mean = np.empty((len(values), len(around)), dtype=np.float32)
    spread = np.empty_like(mean)
    rows = max(1, _TOKENS_AT_ONCE // max(1, len(values) * (around.sensor.shape[1] + 1)))
    for first in range(0, len(around), rows):
        part = np.arange(first, min(first + rows, len(around)))
        some = around.take(part)
        told, weight = tokens_of(values, some, visible, kernel)
        mean[:, part], spread[:, part] = mix(told, weight)
        # where no way leads to a sensor, anything that is seen somewhere may be
        lonely = part[np.isinf(some.distance_m())]
        spread[:, lonely] = np.maximum(spread[:, lonely], overall[:, None])
        if network is not None and trust > 0:
            static = torch.from_numpy(describe_tokens(some))
            with torch.inference_mode():
                guess = network(static, torch.from_numpy(told), torch.from_numpy(weight)).numpy()
            known = np.isfinite(mean[:, part])
            better = mean[:, part] + trust * (guess - mean[:, part])
            mean[:, part] = np.where(known, better, np.nan)
    return mean, spread


def spread_of(values: FloatArray) -> FloatArray:
    """Return the deviation of what is known at each step, 0 where hardly anything is."""
    known = np.isfinite(values)
    n = np.maximum(known.sum(axis=1), 1)
    filled = np.where(known, values, 0)
    mean = filled.sum(axis=1) / n
    gaps = np.where(known, values - mean[:, None], 0)
    return np.asarray(np.sqrt(np.square(gaps).sum(axis=1) / n), dtype=np.float32)


def errors_at(
    network: SensorAttention | None, values: FloatArray, hiding: Hiding, kernel: Kernel
) -> tuple[FloatArray, FloatArray]:
    """Return truth minus estimate at hidden sensors, and the deviation among what speaks."""
    mean, spread = predict(network, values, hiding.around, hiding.visible, kernel)
    return values[:, hiding.hidden] - mean, spread
