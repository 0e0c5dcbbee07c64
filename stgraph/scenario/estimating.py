"""From modelled changes to speeds and flows of every step, their range, and what is noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph.scenario.assignment import Assignment
from stgraph.scenario.demand_changes import HourlyDemand
from stgraph.scenario.diversion import divert
from stgraph.scenario.fitting import City
from stgraph.scenario.history import kinds_of
from stgraph.scenario.hours import Cases, HourlyFlows, find_cases, load_hours, to_steps
from stgraph.scenario.periods import step_hours
from stgraph.scenario.result import SOURCES, LinkEffects
from stgraph.scenario.seen import show
from stgraph.scenario.slowing import Hours, by_curve, by_network
from stgraph.scenario.states import Edited
from stgraph.scenario.statuses import segment_status
from stgraph.scenario.streets import Streets
from stgraph.scenario.vdf import VDF, inherit

Floats = npt.NDArray[np.float64]
Steps = npt.NDArray[np.float32]
Used = Literal["assignment", "learned"]

_MORE_TRIPS = 1.1  # and fewer: the range that demand is known in
_QUICK_LABELS = 200_000  # zones times junctions up to which other demands are assigned, too
_STEEPER, _FLATTER = 1.5, 0.7  # times the delays of the curves: the range they are known in
_FEWER_MOVE = 0.65  # of the modelled change of flow, as measured where drivers were in equilibrium
_NOISE_KMH, _NOISE_VPH = 1.0, 15.0  # of an hour of a day, where there is no history
_SIGMAS = 2.0


@dataclass(frozen=True, eq=False)
class Base:
    """What is forecast without the scenario, on the E segments of an edited network."""

    speed: Floats  # (T, E) NaN where not known, or new
    flow: Floats  # (T, E)


@dataclass(frozen=True, eq=False)
class Weather:
    """What is forecast with the weather of a scenario, which all else that it does goes on top of.

    The first of the forecasts is the best guess, others could be as well.
    """

    starts: tuple[Base, ...]
    state: IntArray  # (T,) the same number where the same weather is set
    is_unsure: BoolArray  # (T,) where it changes something, and nobody knows how sure that is


@dataclass(frozen=True, eq=False)
class _Setting:
    """One of the ways to estimate that are as good as any other."""

    flows: HourlyFlows
    moving: float = 1.0  # part of the change of flow
    slope: float = 1.0  # of delays
    network: int | None = None  # of the learned ones only this; None: their mean


@dataclass(frozen=True, eq=False)
class Estimate:
    """Effects, and other ones that would fit what is known as well."""

    effects: LinkEffects
    members: tuple[tuple[Steps, Steps], ...]  # speeds and flows (T, E) of the scenario
    unserved: tuple[float, float]  # trips of the horizon without a way, baseline and scenario


def estimate(
    city: City,
    edited: Edited,
    streets: Streets,
    base: Base,
    demand: HourlyDemand,
    *,
    method: Used,
    weather: Weather | None = None,
    seed: int = 0,
    n_processes: int = 1,
    on_done: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Return what assignment, and the learned network if asked for, say of a scenario.

    Parameters
    ----------
    city
        What was fitted to the past.
    edited, streets
        Both networks; all their segments.
    base
        The forecast.
    demand
        Trips of the horizon.
    method
        ``"learned"`` needs a city with a learned network.
    weather
        What is forecast with other weather. None: the same as the forecast.
    seed
        Of the errors of drivers.
    n_processes
        As of `load_hours`.
    on_done
        Is told how many of all assignments are done.
    """
    cases = find_cases(edited, demand)
    vdf = inherit(city.vdf, edited.parent, streets)
    flows = _load_all(
        city, edited, vdf, demand, cases, seed=seed, n_processes=n_processes, on_done=on_done
    )
    # where no flow is forecast, the modelled one has to do
    middle = _mean_flows(flows)
    known = np.isfinite(base.flow).any(axis=0) | (edited.parent < 0)
    modelled = to_steps(middle.base, cases, edited)
    base, *starts = (
        replace(one, flow=np.where(known, one.flow, modelled))
        for one in (base, *(() if weather is None else weather.starts))
    )
    first, *others = starts or [base]
    settings = _settings(city, middle, flows[1:], method)
    other_trips = demand.is_changed[cases.hour]
    members = [
        _apply(city, edited, vdf, start, cases, setting, other_trips, method=method)
        for start, setting in [
            *((first, setting) for setting in settings),
            *((other, settings[0]) for other in others),
        ]
    ]
    speed, flow, source = members[0]
    effects = assemble(
        city, edited, base, speed, flow, source, [m[:2] for m in members], weather=weather
    )
    hours = np.bincount(cases.case_of) * step_hours(edited.time)
    lost = (
        float(middle.unserved_base @ hours),
        float(middle.unserved_scn @ hours),
    )
    return Estimate(effects, _others(edited, members), lost)


def _load_all(
    city: City,
    edited: Edited,
    vdf: VDF,
    demand: HourlyDemand,
    cases: Cases,
    *,
    seed: int,
    n_processes: int,
    on_done: Callable[[int, int], None] | None,
) -> list[HourlyFlows]:
    """Return the flows of the demand, and where that is quick of less and more of it.

    Each has other errors of drivers, so that their mean has less of chance.
    """
    factors = [1.0]
    if len(np.unique(demand.junctions)) * edited.roads.n_nodes <= _QUICK_LABELS:
        factors += [1 / _MORE_TRIPS, _MORE_TRIPS]
    n_all, done = len(factors) * len(cases), 0

    def count() -> None:
        nonlocal done
        done += 1
        if on_done is not None:
            on_done(done, n_all)

    return [
        load_hours(
            Assignment(
                edited.roads,
                vdf,
                demand.junctions,
                city.drivers,
                seed=seed + number,
                heir=_heir(edited),
            ),
            edited,
            demand,
            cases,
            factor=factor,
            n_processes=n_processes,
            on_done=count,
        )
        for number, factor in enumerate(factors)
    ]


def _settings(
    city: City, middle: HourlyFlows, others: Sequence[HourlyFlows], method: Used
) -> list[_Setting]:
    """Return the ways to estimate that are as good as any other, the best guess first."""
    found = [_Setting(one) for one in (middle, *others)]
    found += [_Setting(middle, slope=slope) for slope in (_STEEPER, _FLATTER)]
    if not others:
        found.append(_Setting(middle, moving=_FEWER_MOVE))
    if method == "learned" and city.learned is not None:
        n_networks = len(city.learned.network.networks)
        found += [_Setting(middle, network=number) for number in range(n_networks)]
    return found


def _mean_flows(flows: Sequence[HourlyFlows]) -> HourlyFlows:
    """Return the mean of several assignments: less of it is chance."""
    return HourlyFlows(
        *(
            np.mean([getattr(one, name) for one in flows], axis=0)
            for name in ("base", "scn", "unserved_base", "unserved_scn")
        )
    )


def _others(
    edited: Edited, members: Sequence[tuple[Steps, Steps, *tuple[object, ...]]]
) -> tuple[tuple[Steps, Steps], ...]:
    """Return speeds and flows of all members but the first; NaN where nobody may drive."""
    gone = _gone(edited)
    return tuple((member[0] * gone, member[1] * gone) for member in members[1:])


def _gone(edited: Edited) -> Steps:
    """Return 1 where a segment is open in the scenario, NaN elsewhere, (T, E)."""
    is_open = np.stack([state.is_open for state in edited.periods])[edited.period_of]
    return np.where(is_open, np.float32(1.0), np.float32(np.nan))


def _heir(edited: Edited) -> IntArray:
    """Return the segment whose drivers' errors are made on each: of parts, that of the street."""
    return np.where(edited.parent >= 0, edited.parent, np.arange(len(edited.parent)))


def estimate_diversion(
    city: City,
    edited: Edited,
    streets: Streets,
    base: Base,
    *,
    weather: Weather | None = None,
    zone: str,
    report: Report,
) -> Estimate:
    """Return a pattern of what happens, where nothing is known of who drives where.

    Parameters
    ----------
    city, edited, streets, base, weather
        As for `estimate`.
    zone
        IANA name of the zone whose full hours are looked at.
    report
        Gets what could not be sent round.
    """
    vdf = inherit(city.vdf, edited.parent, streets)

    def minutes(flow: Floats, capacity: Floats, free: Floats) -> Floats:
        load = flow / np.maximum(capacity, 1.0)
        return np.asarray(free * (1.0 + vdf.alpha * load**vdf.beta))

    first, *others = (base,) if weather is None else weather.starts
    found = divert(edited, first.speed, first.flow, vdf=minutes, zone=zone)
    report.extend(found.report)
    speed, flow = found.speed_kmh.astype(np.float32), found.flow_vph.astype(np.float32)
    source = np.full(speed.shape, SOURCES.index("diversion"), dtype=np.int8)
    if weather is not None:  # which nobody's detour changes
        alike = (speed == first.speed.astype(np.float32)) & (flow == first.flow.astype(np.float32))
        source[alike] = SOURCES.index("forecast")
    half = (first.speed + speed) / 2, (first.flow + flow) / 2
    members = [(speed, flow), (half[0].astype(np.float32), half[1].astype(np.float32))]
    members += [_on_other(speed, flow, first, other) for other in others]
    effects = assemble(city, edited, base, speed, flow, source, members, weather=weather)
    lost = float(found.unserved_vph.sum() * step_hours(edited.time))
    return Estimate(effects, _others(edited, members), (0.0, lost))


def _on_other(speed: Steps, flow: Steps, first: Base, other: Base) -> tuple[Steps, Steps]:
    """Return speeds and flows as they would be on another forecast: by ratio and by difference."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(first.speed > 0, speed / first.speed, 1.0)
    known = np.isfinite(other.speed)
    speeds = np.where(known, other.speed * ratio, speed)
    flows = np.where(np.isfinite(other.flow), other.flow + (flow - first.flow), flow)
    return speeds.astype(np.float32), np.maximum(flows, 0.0).astype(np.float32)


def estimate_weather(city: City, edited: Edited, base: Base, weather: Weather) -> Estimate:
    """Return what the weather does where nothing but the weather changes: as it is forecast.

    Parameters
    ----------
    city, edited, base, weather
        As for `estimate`.
    """
    members = [
        (one.speed.astype(np.float32), one.flow.astype(np.float32)) for one in weather.starts
    ]
    source = np.full(base.speed.shape, SOURCES.index("forecast"), dtype=np.int8)
    effects = assemble(city, edited, base, *members[0], source, members, weather=weather)
    return Estimate(effects, _others(edited, members), (0.0, 0.0))


def _apply(
    city: City,
    edited: Edited,
    vdf: VDF,
    base: Base,
    cases: Cases,
    setting: _Setting,
    other_trips: BoolArray,
    *,
    method: Used,
) -> tuple[Steps, Steps, npt.NDArray[np.int8]]:
    """Return speeds, flows and sources (T, E) of the scenario from modelled flows.

    `other_trips` are (C,) the cases with trips that no network has seen.
    """
    flows = setting.flows
    change = setting.moving * flows.change
    means = cases.means(base.flow)
    usual = np.where(np.isfinite(means), means, flows.base)
    hours = _hours(edited, cases, usual, change)
    ratio = by_curve(vdf, hours, slope=setting.slope)
    learned = np.zeros(ratio.shape, dtype=np.bool_)
    if method == "learned" and city.learned is not None:
        n_known = len(city.streets)
        shown = show(hours, edited, other_trips, city.learned)
        learned[shown.cases, :n_known] = shown.is_known
        if len(shown.cases):
            found = by_network(
                city.learned.network, _first(vdf, n_known), shown.hours,
                slope=setting.slope * city.learned.slope, member=setting.network,
            )  # fmt: skip
            ratio[learned] = found[shown.is_known]
    # nothing differs where neither network nor trips do, to the last digit
    same = np.array([state.equals(edited.baseline) for state in hours.states])
    same &= (change == 0).all(axis=1)
    ratio[same] = 1.0
    steps_change = to_steps(change, cases, edited)
    flow = np.where(edited.parent < 0, to_steps(flows.scn, cases, edited), base.flow + steps_change)
    steps_ratio = to_steps(ratio, cases, edited)
    speed = base.speed / steps_ratio
    new = np.stack(
        [
            0.06 * vdf.length_m / vdf.minutes(scn, state)
            for scn, state in zip(hours.scn, hours.states, strict=True)
        ]
    )
    speed = np.where(edited.parent < 0, new[cases.case_of], speed)
    source = np.where(learned, SOURCES.index("learned"), SOURCES.index("assignment"))
    # an hour without changes has some at its ends, towards hours with them
    untouched = same[cases.case_of] & ((steps_change == 0) & (steps_ratio == 1)).all(axis=1)
    codes = np.where(untouched[:, None], SOURCES.index("forecast"), source[cases.case_of])
    return (
        speed.astype(np.float32),
        np.maximum(flow, 0.0).astype(np.float32),
        codes.astype(np.int8),
    )


def _hours(edited: Edited, cases: Cases, usual: Floats, change: Floats) -> Hours:
    """Return what the methods that slow segments look at."""
    states = [edited.periods[state] for state in cases.state]
    is_open = np.stack([state.is_open for state in states])
    after = np.where(is_open, np.maximum(usual + change, 0.0), 0.0)
    return Hours(
        base=usual,
        scn=after,
        base_before=usual[cases.before],
        scn_before=after[cases.before],
        states=states,
        baseline=edited.baseline,
    )


def _first(vdf: VDF, n: int) -> VDF:
    """Return the curves of the first segments."""
    return VDF(vdf.length_m[:n], vdf.factor[:n], vdf.alpha[:n], vdf.beta[:n], vdf.classes)


def assemble(
    city: City,
    edited: Edited,
    base: Base,
    speed: Steps,
    flow: Steps,
    source: npt.NDArray[np.int8],
    members: list[tuple[Steps, Steps]],
    *,
    weather: Weather | None = None,
) -> LinkEffects:
    """Return effects with range, status and what can be told from noise.

    Parameters
    ----------
    city, edited, base
        What is known without the scenario.
    speed, flow, source
        (T, E) of the scenario.
    members
        Speeds and flows that would fit as well, the ones above among them.
    weather
        What is set of it, so that the hours that it lasts are known. Where it is unsure, there are
        no ranges, and the noise alone says what is significant.
    """
    unsure = np.zeros((len(edited.time), 1), dtype=np.bool_)
    if weather is not None:
        unsure = weather.is_unsure[:, None]
    status = segment_status(edited)[edited.period_of]
    speed_before, flow_before = base.speed.astype(np.float32), base.flow.astype(np.float32)
    gone = _gone(edited)
    ranges = []
    for which, usual in ((0, speed_before), (1, flow_before)):
        changes = np.stack([member[which] * gone - usual for member in members])
        ends = changes.min(axis=0), changes.max(axis=0)
        ranges += [np.where(unsure, np.float32(np.nan), end) for end in ends]
    d_speed, d_flow = speed * gone - speed_before, flow * gone - flow_before
    noise_speed, noise_flow = _noise(city, edited, weather)
    signs = [unsure | _one_sign(ranges[at], ranges[at + 1]) for at in (0, 2)]
    significant = (np.abs(d_speed) >= _SIGMAS * noise_speed) & signs[0]
    significant |= (np.abs(d_flow) >= _SIGMAS * noise_flow) & signs[1]
    # what begins or ends to exist is no noise; a street that is split does neither
    significant |= np.isfinite(gone) != edited.baseline.is_open[_heir(edited)]
    significant &= ~edited.is_replaced
    # parts of a split street have what is forecast for it
    before = np.where(edited.parent >= 0, np.float32(1.0), np.float32(np.nan))
    return LinkEffects(
        speed_base=speed_before * before,
        speed_scn=speed * gone,
        flow_base=flow_before * before,
        flow_scn=flow * gone,
        d_speed_low=ranges[0] * before,
        d_speed_high=ranges[1] * before,
        d_flow_low=ranges[2] * before,
        d_flow_high=ranges[3] * before,
        significant=np.asarray(significant, dtype=np.bool_),
        status=status,
        source=source,
    )


def _one_sign(low: Floats, high: Floats) -> BoolArray:
    """Tell where a range does not cross zero."""
    return np.asarray(low * high > 0)


def _noise(city: City, edited: Edited, weather: Weather | None) -> tuple[Floats, Floats]:
    """Return the noise of means over as many hours as a state of the scenario lasts, (T, E).

    Hours of the same kind differ from day to day, about independently of each other; the mean
    over n hours differs by the root of n less.
    """
    T, E = len(edited.time), len(edited.parent)
    state = edited.period_of
    if weather is not None:
        state = state * (int(weather.state.max()) + 1) + weather.state
    n_hours = np.bincount(state)[state] * step_hours(edited.time)
    root = np.sqrt(np.maximum(n_hours, 1.0))[:, None]
    if city.history is None:
        return np.full((T, E), _NOISE_KMH) / root, np.full((T, E), _NOISE_VPH) / root
    kind = kinds_of(edited.time, city.history.zone)
    out = []
    for noise, usual in zip(city.history.noise(), (_NOISE_KMH, _NOISE_VPH), strict=True):
        own = np.where(np.isfinite(noise), noise, usual)[kind]
        own = own[:, np.maximum(edited.parent, 0)]
        out.append(np.where(edited.parent < 0, usual, own) / root)
    return out[0], out[1]
