"""What of a scenario a learned network has seen before, and where it goes beyond the past."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph.scenario.demand_changes import HourlyDemand
from stgraph.scenario.history import History
from stgraph.scenario.result import SOURCES, LinkEffects
from stgraph.scenario.slowing import Hours, is_alike
from stgraph.scenario.states import Edited, RoadState
from stgraph.scenario.target_fields import shorten

if TYPE_CHECKING:  # torch is loaded where a network is fitted
    from stgraph.scenario.learned import Learned

Floats = npt.NDArray[np.float64]

_MORE = 1.1  # times the most that a segment ever had: beyond the past


@dataclass(frozen=True, eq=False)
class Shown:
    """What a network is shown of some cases, on the n segments that it was fitted to."""

    cases: IntArray  # (K,) those in which it knows some of what is changed
    hours: Hours  # of the K cases, (K, n)
    is_known: BoolArray  # (K, n) where what it says counts


def knows_some(edited: Edited, demand: HourlyDemand, learned: Learned) -> bool:
    """Tell whether at some time something is closed or narrowed as in the past.

    Parameters
    ----------
    edited
        Both networks.
    demand
        Trips of the horizon; hours with other trips than usual are none that a network knows.
    learned
        Says which kinds of incidents there were.
    """
    usual = ~demand.is_changed[demand.period_of_step]
    old = _Old(edited)
    baseline = old.state_of_baseline(edited)
    return any(
        _is_disturbed(_as_known(old.state(edited.periods[number]), baseline, learned), baseline)
        for number in np.unique(edited.period_of[usual])
    )


def show(hours: Hours, edited: Edited, other_trips: BoolArray, learned: Learned) -> Shown:
    """Return what a network is shown, and where it is believed.

    Parameters
    ----------
    hours
        Flows and states of C cases on E segments.
    edited
        Both networks.
    other_trips
        (C,) cases with other trips than usual.
    learned
        Says which kinds of incidents there were.

    Notes
    -----
    It knows nothing of hours in which nothing is closed or narrowed as in the past: there the
    curves count. In others they do on new segments, parts of split ones, and those with another
    speed limit, more capacity, or a kind of change that the past does not have; the network is
    shown none of these changes. A split street is one street to it.
    """
    old = _Old(edited)
    baseline = old.state_of_baseline(edited)
    states = [old.state(state) for state in hours.states]
    shown = [_as_known(state, baseline, learned) for state in states]
    chosen = [
        case
        for case, state in enumerate(shown)
        if not other_trips[case] and _is_disturbed(state, baseline)
    ]
    known = [_alike(states[case], baseline, learned) & ~old.is_split for case in chosen]
    seen = Hours(
        base=hours.base[chosen, : old.n],
        scn=old.flow(hours.scn[chosen]),
        base_before=hours.base_before[chosen, : old.n],
        scn_before=old.flow(hours.scn_before[chosen]),
        states=[shown[case] for case in chosen],
        baseline=baseline,
    )
    is_known = np.array(known, dtype=np.bool_).reshape(len(chosen), old.n)
    return Shown(np.array(chosen, dtype=np.int64), seen, is_known)


class _Old:
    """The n segments of the network as it is, and what the parts of split ones say of them."""

    def __init__(self, edited: Edited) -> None:
        assert edited.roads.edges is not None  # noqa: S101 - segments are edges
        self.parts = np.flatnonzero(edited.is_part)
        self.parent = edited.parent[self.parts]
        added = np.concatenate([self.parts, np.flatnonzero(edited.parent < 0)])
        self.n = int(added.min()) if len(added) else len(edited.parent)
        self.is_split = np.zeros(self.n, dtype=np.bool_)
        self.is_split[self.parent] = True
        length = edited.roads.edges["length_m"].to_numpy(dtype=np.float64)[self.parts]
        total = np.bincount(self.parent, length, self.n)
        self.share = length / total[self.parent]  # of the street

    def state(self, state: RoadState) -> RoadState:
        """Return what holds; a split street is open if all its parts are."""
        is_open, capacity = state.is_open[: self.n].copy(), state.capacity_vph[: self.n].copy()
        is_open[self.is_split] = True
        np.logical_and.at(is_open, self.parent, state.is_open[self.parts])
        np.minimum.at(capacity, self.parent, state.capacity_vph[self.parts])
        return RoadState(
            is_open, state.speed_kmh[: self.n], state.lanes[: self.n], capacity, state.banned_turns
        )

    def state_of_baseline(self, edited: Edited) -> RoadState:
        """Return what holds without the scenario."""
        base = edited.baseline
        return RoadState(
            base.is_open[: self.n], base.speed_kmh[: self.n], base.lanes[: self.n],
            base.capacity_vph[: self.n], base.banned_turns,
        )  # fmt: skip

    def flow(self, flow: Floats) -> Floats:
        """Return flows (K, n); of a split street the mean along it."""
        found = flow[:, : self.n].copy()
        found[:, self.is_split] = 0.0
        np.add.at(found.T, self.parent, (self.share * flow[:, self.parts]).T)
        return found


def _alike(state: RoadState, baseline: RoadState, learned: Learned) -> BoolArray:
    """Tell which segments are as the past has had them, (n,)."""
    return is_alike(
        state, baseline, closures=learned.has_closures, narrowings=learned.has_narrowings
    )


def _as_known(state: RoadState, baseline: RoadState, learned: Learned) -> RoadState:
    """Return a state without the changes that the past does not have."""
    slow = replace(state, speed_kmh=baseline.speed_kmh)
    known = _alike(slow, baseline, learned)
    return replace(
        slow,
        is_open=np.where(known, state.is_open, baseline.is_open),
        capacity_vph=np.where(known, state.capacity_vph, baseline.capacity_vph),
    )


def _is_disturbed(state: RoadState, baseline: RoadState) -> bool:
    """Tell whether something is closed or narrowed."""
    less = state.capacity_vph < baseline.capacity_vph
    return bool((baseline.is_open & (~state.is_open | less)).any())


# ---------------------------------------------------------------- what a result rests on


def shares_of_sources(effects: LinkEffects) -> dict[str, float]:
    """Return which share of all that changes, steps and segments, rests on what; empty if nothing.

    Parameters
    ----------
    effects
        Baseline and scenario.
    """
    same = (effects.speed_scn == effects.speed_base) & (effects.flow_scn == effects.flow_base)
    changed = np.isfinite(effects.speed_scn) & ~same
    changed &= effects.source != SOURCES.index("forecast")
    count = np.bincount(effects.source[changed], minlength=len(SOURCES))
    return {
        name: float(number / count.sum())
        for name, number in zip(SOURCES, count, strict=True)
        if number
    }


def warn_beyond_past(
    effects: LinkEffects, edited: Edited, history: History | None, report: Report
) -> None:
    """Warn of segments that carry more in a scenario than they ever did in the past.

    Parameters
    ----------
    effects
        Baseline and scenario.
    edited
        Both networks.
    history
        The past; None: nothing is known of it.
    report
        Gets the warning, with the number of segments.

    Notes
    -----
    Those count whose flow is significantly higher than in the baseline and, in some step, more
    than a tenth above the highest flow of an hour of the past.
    """
    if history is None:
        return
    past = np.nan_to_num(history.flow_vph, nan=-np.inf).max(axis=0)
    most = np.where(edited.parent >= 0, past[np.maximum(edited.parent, 0)], -np.inf)
    most = np.where(np.isfinite(most), np.maximum(most, 1.0), np.inf)
    risen = effects.significant & ~(effects.flow_scn <= effects.flow_base)
    times = np.where(risen, np.nan_to_num(effects.flow_scn) / most, 0.0).max(axis=0)
    beyond = np.flatnonzero(times > _MORE)
    if not len(beyond):
        return
    assert edited.roads.edges is not None  # noqa: S101 - segments are edges
    ids = edited.roads.edges["segment_id"].to_numpy()
    worst = beyond[np.argsort(-times[beyond], kind="stable")]
    report.warning(
        "extrapolation",
        f"{len(beyond)} segments carry more than they ever did in the history, up to "
        f"{times.max():.1f} times as much: {shorten(ids[worst])}",
        "nothing was fitted to such flows; how much slower they get may be far off",
        count=len(beyond),
    )
