"""A graph network that knows how the speeds of a city follow from its flows.

It sees the flow of every segment in an hour and the hour before, which part of the capacity is
open, and what kind of street it is, and passes messages along the turns in both directions, to
segments that end at the same junction and to the other way of the street. So it knows what a curve
of each segment alone cannot: queues that reach back, and junctions where two busy streets meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor, nn

from stgraph.graph import BoolArray
from stgraph.models.graph_operators import Supports
from stgraph.neighbours._turns import all_turns
from stgraph.scenario.history import History, is_shut
from stgraph.scenario.streets import Streets

Floats = npt.NDArray[np.float64]

_HIDDEN = 24
_LAYERS = 2
_BATCH = 16
_RATE = 3e-3
_FREE_LOAD = 0.15  # of the capacity: below, nobody is in the way
_SOME_VPH = 50.0  # hours with fewer cars say less about speeds
_LOWEST = 0.05  # of the capacity
_RANGE = (0.03, 1.3)  # of the free speed that forecasts may be


@dataclass(frozen=True, eq=False)
class StreetFacts:
    """What does not change on E segments."""

    capacity_vph: Floats  # (E,)
    free_kmh: Floats  # (E,) usual speed without traffic
    columns: Floats  # (E, K) what the network is shown of every segment
    supports: Supports

    def inputs(self, flow: Floats, before: Floats, share: Floats) -> Tensor:
        """Return what the network is shown, (H, E, F).

        Parameters
        ----------
        flow, before
            (H, E) vehicles per hour, of each hour and the one before it.
        share
            (H, E) of the capacity that is open, 0 where closed.
        """
        load = flow / (self.capacity_vph * np.maximum(share, _LOWEST))
        closed = is_shut(share)
        parts = [
            load,
            load**2,
            load**4,
            4 * np.maximum(load - 0.7, 0.0),
            before / self.capacity_vph,
            np.log1p(flow) / 5,
            share,
            closed,
        ]
        moving = np.stack(np.broadcast_arrays(*parts), axis=-1)
        fixed = np.broadcast_to(self.columns, (*flow.shape, self.columns.shape[1]))
        return torch.from_numpy(np.concatenate([moving, fixed], axis=-1).astype(np.float32))


def street_facts(streets: Streets, history: History) -> StreetFacts:
    """Return what does not change on the segments of a network."""
    capacity = streets.values.capacity_vph.astype(np.float64)
    limit = streets.speed_kmh.astype(np.float64)
    calm = np.where(history.flow_vph < _FREE_LOAD * capacity, history.speed_kmh, np.nan)
    free = 0.95 * limit
    some = np.isfinite(calm).sum(axis=0) >= 5
    free[some] = np.nanmedian(calm[:, some], axis=0)
    names = streets.values.road_class.astype(str)
    classes = (names[:, None] == np.unique(names)[None, :]).astype(np.float64)
    numbers = [free / limit, streets.length_m / 500, limit / 50, capacity / 1500]
    columns = np.concatenate([np.stack(numbers, axis=-1), classes], axis=1)
    return StreetFacts(capacity, free, columns, _supports(streets))


def _supports(streets: Streets) -> Supports:
    """Return the means over segments before, after, beside, and the other way."""
    E = len(streets)
    before, after = all_turns(streets.source, streets.target, streets.roads.n_nodes)
    straight = streets.twin[before] != after
    before, after = before[straight], after[straight]
    ends = sparse.csr_array((np.ones(E), (np.arange(E), streets.target)))
    beside = sparse.csr_array(ends @ ends.T)
    beside.setdiag(0)
    beside.eliminate_zeros()
    back = np.flatnonzero(streets.twin >= 0)
    one = np.ones(len(before))
    walks = [
        sparse.csr_array((one, (after, before)), shape=(E, E)),
        sparse.csr_array((one, (before, after)), shape=(E, E)),
        beside,
        sparse.csr_array((np.ones(len(back)), (back, streets.twin[back])), shape=(E, E)),
    ]
    return Supports([_means(walk) for walk in walks], n_hops=1)


def _means(walk: sparse.csr_array) -> sparse.csr_array:
    """Return a matrix whose rows add up to 1, or 0."""
    total = np.asarray(walk.sum(axis=1)).ravel()
    return sparse.csr_array(sparse.diags_array(1.0 / np.maximum(total, 1.0)) @ walk)


class _Network(nn.Module):
    """Logarithm of the speed as a part of the free one, of (B, E, F) inputs: (B, E)."""

    def __init__(self, n_inputs: int, n_segments: int, supports: Supports) -> None:
        super().__init__()
        self.supports = supports
        self.enter = nn.Linear(n_inputs, _HIDDEN)
        self.norms = nn.ModuleList(nn.LayerNorm(_HIDDEN) for _ in range(_LAYERS))
        size = _HIDDEN * (1 + supports.n_supports)
        self.layers = nn.ModuleList(nn.Linear(size, _HIDDEN) for _ in range(_LAYERS))
        self.leave = nn.Linear(_HIDDEN, 1)
        self.own = nn.Parameter(torch.zeros(n_segments, 2))  # level and slope of each segment
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.relu(self.enter(x))
        for norm, layer in zip(self.norms, self.layers, strict=True):
            calm = norm(state)
            mixed = torch.cat([calm, self.supports.mix(calm)], dim=-1)
            state = state + torch.relu(layer(mixed))
        found: Tensor = self.leave(state)[..., 0]
        return found * (1 + self.own[:, 1]) + 0.1 * self.own[:, 0]


@dataclass(frozen=True, eq=False)
class SpeedNetwork:
    """Networks of several seeds, and what they are shown."""

    facts: StreetFacts
    networks: tuple[nn.Module, ...]

    def speeds(
        self, flow: Floats, before: Floats, share: Floats, *, member: int | None = None
    ) -> list[Floats]:
        """Return speeds in km/h, (H, E) of each network; the inputs as of `StreetFacts`.

        `member` asks only the network of this number.
        """
        x = self.facts.inputs(flow, before, share)
        asked = self.networks if member is None else (self.networks[member],)
        with torch.no_grad():
            parts = [np.exp(net(x).double().numpy()) for net in asked]
        return [np.clip(part, *_RANGE) * self.facts.free_kmh for part in parts]


def fit_speed_network(
    facts: StreetFacts,
    history: History,
    hours: BoolArray,
    *,
    seeds: Sequence[int] = (0, 1),
    n_epochs: int = 24,
    on_epoch: Callable[[], None] | None = None,
) -> SpeedNetwork:
    """Fit networks to the hours of a past.

    Parameters
    ----------
    facts, history
        The network, and its past.
    hours
        (H,) which hours may be learned from; of each the hour before is looked at, too.
    seeds
        A network for each.
    n_epochs
        Rounds through all hours.
    on_epoch
        Is called after each round.
    """
    known = np.isfinite(history.flow_vph).mean(axis=1) > 0.5
    follows = np.r_[False, np.diff(history.hours.asi8) == np.min(np.diff(history.hours.asi8))]
    rows = np.flatnonzero(hours & known & follows)
    flow = np.nan_to_num(history.flow_vph)
    x = facts.inputs(flow[rows], flow[rows - 1], history.share[rows])
    slower = np.maximum(history.speed_kmh[rows], 1.0) / facts.free_kmh
    good = np.isfinite(slower) & ~is_shut(history.share[rows])
    weight = np.where(good, flow[rows] / (flow[rows] + _SOME_VPH), 0.0)
    target = np.where(good, slower, 1.0)
    scale = torch.from_numpy((facts.free_kmh / 10).astype(np.float32))
    y, w = (torch.from_numpy(part.astype(np.float32)) for part in (target, weight))
    networks = [_train(x, y, w, scale, facts.supports, seed, n_epochs, on_epoch) for seed in seeds]
    return SpeedNetwork(facts, tuple(networks))


def _train(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    scale: Tensor,
    supports: Supports,
    seed: int,
    n_epochs: int,
    on_epoch: Callable[[], None] | None,
) -> _Network:
    """Return a network fitted to parts of the free speed, errors in km/h."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(x.shape[-1], x.shape[1], supports)
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=1e-3)
    n_steps = n_epochs * -(-len(x) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, n_steps, pct_start=0.2)
    rng = np.random.default_rng(seed)
    for _ in range(n_epochs):
        order = torch.from_numpy(rng.permutation(len(x)))
        for batch in torch.split(order, _BATCH):
            off = (torch.exp(network(x[batch])) - y[batch]) * scale
            loss = (weight[batch] * off**2).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        if on_epoch is not None:
            on_epoch()
    return network.eval()
