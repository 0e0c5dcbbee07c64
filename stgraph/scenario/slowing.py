"""By how much segments get slower where their flow changes, from curves and a learned network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stgraph.graph import BoolArray
from stgraph.scenario.states import RoadState
from stgraph.scenario.vdf import VDF

if TYPE_CHECKING:  # torch is loaded where networks are fitted
    from stgraph.scenario.speed_network import SpeedNetwork

Floats = npt.NDArray[np.float64]

_FASTEST = 0.3  # of the time before: no segment gets quicker than that
_SLOWEST = 60.0  # times


@dataclass(frozen=True, eq=False)
class Hours:
    """Flows of C hours on E segments, with and without a scenario, as a method sees them."""

    base: Floats  # (C, E) vehicles per hour: what is usual or forecast
    scn: Floats  # (C, E) that with the change of the modelled flows
    base_before: Floats  # (C, E) of the hour before
    scn_before: Floats
    states: Sequence[RoadState]  # (C,) of the scenario
    baseline: RoadState


def by_curve(vdf: VDF, hours: Hours, *, slope: float = 1.0) -> Floats:
    """Return times in the scenario per time in the baseline, (C, E), by the curve of a segment.

    Parameters
    ----------
    vdf
        Of the E segments.
    hours
        Flows.
    slope
        Times longer than before are longer by so many times as much.
    """
    before = vdf.minutes(hours.base, hours.baseline)
    after = np.stack(
        [vdf.minutes(flow, state) for flow, state in zip(hours.scn, hours.states, strict=True)]
    )
    return _bounded(after / before, slope)


def by_network(
    network: SpeedNetwork,
    vdf: VDF,
    hours: Hours,
    *,
    slope: float = 1.0,
    member: int | None = None,
) -> Floats:
    """Return times in the scenario per time in the baseline, (C, E), by a learned network.

    The network has not seen flows above the capacity, as no counter has: up to there it is asked,
    and what is above makes segments slower as their curve says.

    Parameters
    ----------
    network
        Fitted to the E segments.
    vdf, hours, slope
        As for `by_curve`.
    member
        Of its networks only this; None: their mean.
    """
    E = hours.base.shape[1]
    capacity = hours.baseline.capacity_vph.astype(np.float64)
    share = np.stack([open_share(state, hours.baseline) for state in hours.states])
    most = np.maximum(share, 0.05) * capacity
    under = np.minimum(hours.scn, most)
    usual = network.speeds(hours.base, hours.base_before, np.ones_like(hours.base))
    now = network.speeds(under, np.minimum(hours.scn_before, capacity), share)
    chosen = range(len(usual)) if member is None else [member]
    length_km = vdf.length_m[:E] / 1000
    ratios = [60 * length_km / now[i] / (60 * length_km / usual[i]) for i in chosen]
    above = np.stack(
        [
            (vdf.minutes(flow, state) - vdf.minutes(low, state)) / (60 * length_km / speed)
            for flow, low, state, speed in zip(
                hours.scn, under, hours.states, usual[0], strict=True
            )
        ]
    )
    return _bounded(np.mean(ratios, axis=0) + above, slope)


def open_share(state: RoadState, baseline: RoadState) -> Floats:
    """Return which part of the capacity is open, (E,); 0 where closed."""
    part = state.capacity_vph.astype(np.float64) / np.maximum(baseline.capacity_vph, 1.0)
    return np.where(state.is_open, part, 0.0)


def is_alike(state: RoadState, baseline: RoadState) -> BoolArray:
    """Tell which segments a network knows: open in the baseline, as fast, and not wider."""
    same = state.speed_kmh == baseline.speed_kmh
    narrower = state.capacity_vph <= baseline.capacity_vph
    return np.asarray(baseline.is_open & same & narrower)


def _bounded(ratio: Floats, slope: float) -> Floats:
    """Return ratios of times within what can be, longer ones stretched."""
    stretched = np.where(ratio > 1.0, 1.0 + slope * (ratio - 1.0), ratio)
    return np.clip(stretched, _FASTEST, _SLOWEST)
