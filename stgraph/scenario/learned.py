"""Learn from the closures of the past how speeds follow, and whether that beats the curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph.scenario.assignment import Assignment
from stgraph.scenario.demand import Demand
from stgraph.scenario.history import History, by_kind, is_shut
from stgraph.scenario.slowing import Hours, by_curve, by_network
from stgraph.scenario.speed_network import SpeedNetwork, fit_speed_network, street_facts
from stgraph.scenario.states import RoadState
from stgraph.scenario.streets import Streets

Floats = npt.NDArray[np.float64]
Say = Callable[[str], None]

FEWEST_HOURS = 50  # with something closed or narrowed; fewer teach nothing
_MOST_HOURS = 240  # that are looked at
_DAY = (6, 21)  # local hours
_SLOPES = (1.0, 2.0)  # that a delay slope may have
_TRUST = 0.1  # in the slope that the delays of incidents of an hour or two would give
_SLOWEST_KMH = 2.0


@dataclass(frozen=True, eq=False)
class Learned:
    """A network that was fitted to a past, and how it did on closures that it had not seen."""

    network: SpeedNetwork
    slope: float  # longer times are stretched by it: what the delays of incidents ask for
    skill: float  # on held-out incidents, 1 - squared errors / those of no effect
    skill_of_curves: float  # the same of the assignment alone
    n_hours: int  # of the incidents
    n_days: int
    has_closures: bool  # what kinds of incidents there were
    has_narrowings: bool

    @property
    def is_better(self) -> bool:
        """Whether it did better than the curves alone."""
        return self.skill > self.skill_of_curves

    def __str__(self) -> str:
        """Return what a report says."""
        return (
            f"on {self.n_hours} hours with closures of {self.n_days} days, each predicted by a "
            f"network that had not seen its day, it explains {100 * self.skill:.1f} % of the "
            f"squared deviations of speed (the curves {100 * self.skill_of_curves:.1f} %; most of "
            "it is noise of single hours)"
        )


def fit_learned(
    streets: Streets,
    history: History,
    demand: Demand,
    assignment: Assignment,
    baseline: RoadState,
    *,
    report: Report,
    say: Say = lambda _: None,
) -> Learned | None:
    """Return a network fitted to the past, or None where too little was ever closed.

    Parameters
    ----------
    streets
        The E segments of the network as it is.
    history
        Their past.
    demand
        Trips of the hours of a week.
    assignment, baseline
        On this network, and what holds on it.
    report
        Gets why there is none.
    say
        Is told what is being done.
    """
    rows = _incidents(history)
    if len(rows) < FEWEST_HOURS:
        report.info(
            "learned",
            f"{len(rows)} hours of the history have something closed or narrowed",
            f"a network is learned from {FEWEST_HOURS} and more; the assignment alone is used",
        )
        return None
    say(f"assigning trips to {len(rows)} hours with closures")
    hours = _assign(history, demand, assignment, baseline, rows)
    facts = street_facts(streets, history)
    curves = by_curve(assignment.vdf, hours)
    ratio = np.ones_like(curves)
    odd = (history.day % 2).astype(bool)
    for fold, held_out in enumerate((odd, ~odd)):
        say(f"learning without half of the days, {fold + 1} of 2")
        part = fit_speed_network(facts, history, ~held_out, seeds=(fold,), n_epochs=16)
        mine = held_out[rows]
        ratio[mine] = by_network(
            part,
            assignment.vdf,
            hours,
        )[mine]
    skills = [_skill(history, rows, one) for one in (ratio, curves)]
    say("learning from all days")
    network = fit_speed_network(facts, history, np.ones(len(history.hours), bool))
    share = history.share[rows]
    return Learned(
        network=network,
        slope=_slope(history, rows, hours, ratio, streets.length_m),
        skill=skills[0],
        skill_of_curves=skills[1],
        n_hours=len(rows),
        n_days=len(np.unique(history.day[rows])),
        has_closures=bool(is_shut(share).any()),
        has_narrowings=bool(((share < 0.99) & ~is_shut(share)).any()),
    )


def _incidents(history: History) -> IntArray:
    """Return the hours by day with the weightiest incidents, in order of time."""
    local = history.kind % 24
    by_day = (local >= _DAY[0]) & (local < _DAY[1])
    lost = ((1.0 - history.share) * np.nan_to_num(history.usual_flow[history.kind])).sum(axis=1)
    rows = np.flatnonzero(by_day & history.is_disturbed & (lost > 0))
    weightiest = rows[np.argsort(-lost[rows], kind="stable")][:_MOST_HOURS]
    return np.sort(weightiest)


def _assign(
    history: History,
    demand: Demand,
    assignment: Assignment,
    baseline: RoadState,
    rows: IntArray,
) -> Hours:
    """Return the flows of some hours of the past, as if only the usual were known of them."""
    local = history.kind % 24
    weekday = np.where(history.kind >= 24, 5, 0)
    states, change = [], []
    usual: dict[int, Floats] = {}
    for row in rows:
        kind = int(history.kind[row])
        trips = demand.at(int(weekday[row]), int(local[row]))
        if kind not in usual:
            usual[kind] = assignment.load(baseline, trips).flow_vph
        share = history.share[row]
        state = RoadState(
            baseline.is_open & ~is_shut(share),
            baseline.speed_kmh,
            baseline.lanes,
            (baseline.capacity_vph * np.maximum(share, 0.05)).astype(np.float32),
            baseline.banned_turns,
        )
        states.append(state)
        change.append(assignment.load(state, trips).flow_vph - usual[kind])
    base = np.nan_to_num(history.usual_flow[history.kind[rows]])
    earlier = (local[rows] - 1) % 24 + 24 * (history.kind[rows] >= 24)
    base_before = np.nan_to_num(history.usual_flow[earlier])
    moved = np.stack(change)
    is_open = np.stack([state.is_open for state in states])
    # of an incident that began less than an hour ago, the hour before saw nothing
    went_on = (history.share[np.maximum(rows - 1, 0)] == history.share[rows]).all(axis=1)
    return Hours(
        base=base,
        scn=np.where(is_open, np.maximum(base + moved, 0.0), 0.0),
        base_before=base_before,
        scn_before=np.maximum(base_before + moved * went_on[:, None], 0.0),
        states=states,
        baseline=baseline,
    )


def _skill(history: History, rows: IntArray, ratio: Floats) -> float:
    """Return the part of the squared deviations of speed that is explained, weighted by noise."""
    usual = history.usual_speed[history.kind[rows]]
    off = history.speed_kmh[rows] - usual
    noise = history.noise()[0][history.kind[rows]]
    counted = np.isfinite(off) & ~is_shut(history.share[rows])
    weight = np.where(counted, 1.0 / (np.nan_to_num(noise, nan=2.0) ** 2 + 1.0), 0.0)
    off = np.where(counted, off, 0.0)
    said = np.where(counted, usual * (1.0 / ratio - 1.0), 0.0)
    total = float((weight * off**2).sum())
    return 1.0 - float((weight * (said - off) ** 2).sum()) / total if total > 0 else 0.0


def _slope(
    history: History,
    rows: IntArray,
    hours: Hours,
    ratio: Floats,
    length_m: npt.NDArray[np.floating],
) -> float:
    """Return how much longer delays are than said, as far as that is trusted.

    Vehicles on the network count: their number beyond the usual is the delay of all per hour.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        density = history.flow_vph / np.maximum(history.speed_kmh, _SLOWEST_KMH)
    density = np.where(history.flow_vph == 0, 0.0, density)
    calm = ~history.is_disturbed
    usual = _mean_by_kind(density, history.kind, calm)
    kinds = history.kind[rows]
    seen = np.nansum((density[rows] - usual[kinds]) * length_m, axis=1)
    speed = np.maximum(history.usual_speed[kinds], _SLOWEST_KMH)
    is_open = np.stack([state.is_open for state in hours.states])
    after = np.where(is_open, hours.scn * ratio / speed, 0.0)
    said = np.nansum((after - hours.base / speed) * length_m, axis=1)
    if not (said**2).sum() > 0:
        return 1.0
    asked = float((seen * said).sum() / (said**2).sum())
    return float(np.clip(1.0 + _TRUST * (asked - 1.0), *_SLOPES))


def _mean_by_kind(values: Floats, kind: IntArray, calm: BoolArray) -> Floats:
    """Return means over calm hours of each kind, (48, E); medians of all where there are none."""
    out = by_kind(values, kind)
    for one in np.unique(kind[calm]):
        rows = values[calm & (kind == one)]
        known = np.isfinite(rows)
        some = known.any(axis=0)
        out[one, some] = np.where(known, rows, 0.0).sum(axis=0)[some] / known.sum(axis=0)[some]
    return out
