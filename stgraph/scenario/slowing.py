"""By how much segments get slower where their flow changes, from curves and a learned network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
_LEAST_OPEN = 0.05  # of the capacity


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
        Times longer than before are longer by so many times as much. What another speed limit does
        is not stretched.

    Notes
    -----
    A lower limit slows those who are faster; in a jam nobody is. A higher one takes nothing from
    the delays.
    """
    before = vdf.minutes(hours.base, hours.baseline)
    usual = hours.baseline.speed_kmh
    after = np.stack(
        [
            vdf.minutes(flow, replace(state, speed_kmh=usual))
            for flow, state in zip(hours.scn, hours.states, strict=True)
        ]
    )
    after = _bounded(after / before, slope) * before
    free = vdf.free_minutes(hours.baseline)
    limited = [
        np.where(
            state.speed_kmh < usual,
            np.maximum(row, vdf.free_minutes(state)),
            row + vdf.free_minutes(state) - free,
        )
        for row, state in zip(after, hours.states, strict=True)
    ]
    # equal speeds are left alone, to the last digit
    same = [state.speed_kmh == usual for state in hours.states]
    found = np.where(np.stack(same), after, np.stack(limited)) / before
    return np.asarray(np.clip(found, _FASTEST, _SLOWEST))


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
    full = np.ones_like(hours.base)
    share = np.stack([open_share(state, hours.baseline) for state in hours.states])
    capacity = hours.baseline.capacity_vph.astype(np.float64)
    most = np.maximum(share, _LEAST_OPEN) * capacity
    usual = network.speeds(
        np.minimum(hours.base, capacity),
        np.minimum(hours.base_before, capacity),
        full,
        member=member,
    )
    now = network.speeds(
        np.minimum(hours.scn, most),
        np.minimum(hours.scn_before, capacity),
        share,
        member=member,
    )
    before = [hours.baseline] * len(hours.states)
    above_before = _above(vdf, hours.base, np.broadcast_to(capacity, most.shape), before)
    above_now = _above(vdf, hours.scn, most, hours.states)
    length = 0.06 * vdf.length_m
    ratios = [
        (length / speed_now + above_now) / (length / speed_usual + above_before)
        for speed_now, speed_usual in zip(now, usual, strict=True)
    ]
    return _bounded(np.mean(ratios, axis=0), slope)


def _above(vdf: VDF, flow: Floats, most: Floats, states: Sequence[RoadState]) -> Floats:
    """Return the minutes that the flow above the most makes a segment slower, (C, E)."""
    return np.stack(
        [
            vdf.minutes(all_of_it, state) - vdf.minutes(np.minimum(all_of_it, limit), state)
            for all_of_it, limit, state in zip(flow, most, states, strict=True)
        ]
    )


def open_share(state: RoadState, baseline: RoadState) -> Floats:
    """Return which part of the capacity is open, (E,); 0 where closed, at most 1."""
    part = state.capacity_vph.astype(np.float64) / np.maximum(baseline.capacity_vph, 1.0)
    return np.where(state.is_open, np.minimum(part, 1.0), 0.0)


def is_alike(
    state: RoadState, baseline: RoadState, *, closures: bool = True, narrowings: bool = True
) -> BoolArray:
    """Tell which segments a network knows: open in the baseline, as fast, and not wider.

    Parameters
    ----------
    state, baseline
        What holds with and without a scenario.
    closures, narrowings
        Whether it has ever seen some.
    """
    same = state.speed_kmh == baseline.speed_kmh
    narrower = state.capacity_vph < baseline.capacity_vph
    wider = state.capacity_vph > baseline.capacity_vph
    seen = np.where(state.is_open, narrowings | ~narrower, closures)
    return np.asarray(baseline.is_open & same & ~wider & seen, dtype=np.bool_)


def _bounded(ratio: Floats, slope: float) -> Floats:
    """Return ratios of times within what can be, longer ones stretched."""
    stretched = np.where(ratio > 1.0, 1.0 + slope * (ratio - 1.0), ratio)
    return np.clip(stretched, _FASTEST, _SLOWEST)
