"""What operations make of a demand, hour by hour of a horizon."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd

from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.demand import Demand, check_size
from stgraph.scenario.demand_places import Places, as_ids, check_zones, find_origins
from stgraph.scenario.operations import AddDemand, ScaleDemand
from stgraph.scenario.periods import step_length
from stgraph.scenario.week import Floats, periods_at
from stgraph.scenario.window import Window, to_utc

DemandOperation = AddDemand | ScaleDemand

_DAY = dt.timedelta(days=1)
_DIGITS = 12  # hours whose changes agree to so many digits share a matrix


@dataclass(frozen=True, eq=False)
class HourlyDemand:
    """Trips of a horizon, with and without what a scenario does to them."""

    zones: gpd.GeoDataFrame  # Z rows: those of the demand, then places of events that are no zone
    junctions: IntArray  # (Z,) positions of the junctions where trips begin and end
    baseline: Floats  # (P, Z, Z) cars per hour
    scenario: Floats  # (P, Z, Z)
    period_of_step: IntArray  # (T,) which of the P holds at a step
    hours: Floats  # (P,) how long each period lasts in the horizon
    is_changed: BoolArray  # (P,) the scenario differs from the baseline


class _Steps(NamedTuple):
    """The steps of a horizon, and the hours of local time that they belong to."""

    start: Floats  # (T,) seconds since 1970
    length: float  # seconds
    hour: IntArray  # (T,) number of the local hour
    base: IntArray  # (H,) period of the demand in an hour of the horizon
    hours: Floats  # (H,) how long the horizon is in that hour


class _Change(NamedTuple):
    """An operation, and how much of it falls into each hour."""

    operation: DemandOperation
    where: str
    arriving: Floats  # (H,) trips per hour to the place; for scaling: the factor
    leaving: Floats  # (H,) trips per hour from the place


def apply_demand(
    demand: Demand,
    operations: Sequence[DemandOperation],
    time: pd.DatetimeIndex,
    zone: str,
    report: Report,
    *,
    roads: STGraph | None = None,
    numbers: Sequence[int] | None = None,
) -> HourlyDemand:
    """Change a demand, hour by hour, one operation after the other.

    Parameters
    ----------
    demand
        Of a typical week.
    operations
        `add_demand` and `scale_demand`, in their order: what is added before it is scaled, too.
    time
        (T,) beginnings of steps of at most an hour, UTC, evenly spaced.
    zone
        IANA name of the local time of windows and of the typical week.
    report
        Gets errors for operations that cannot be done, which are left out: unknown zones and
        columns, no trips in the horizon; warnings for trips outside it, and nothing to scale.
    roads
        Junctions as nodes: an event at a junction that is no zone's becomes a zone of its own.
        None: it takes place in the zone whose junction it is.
    numbers
        Of the operations, for messages. None: 1, 2 ...

    Returns
    -------
    HourlyDemand
        Hours with the same trips share a period.

    Notes
    -----
    The trips of an event are spread evenly over its window; an hour that is partly covered has
    that part. All trips of a window inside the horizon arrive: the sum over steps is exact.
    """
    steps = _read_steps(time, zone, demand)
    found = Places(demand, roads)
    changes = []
    for i, operation in enumerate(operations):
        where = f"operation {i + 1 if numbers is None else numbers[i]} ({operation.op})"
        before = len(report.errors)
        if isinstance(operation, AddDemand):
            found.find(operation, report, where)
            parts = _spread_event(operation, time, zone, steps, report, where)
        else:
            check_zones(operation, demand, report, where)
            parts = _spread_factor(operation, time, zone, steps, report, where)
        if len(report.errors) == before:
            changes.append(_Change(operation, where, *parts))
    return _combine(found, changes, steps, report)


def _read_steps(time: pd.DatetimeIndex, zone: str, demand: Demand) -> _Steps:
    """Return the hours of a horizon; where clocks go back, an hour appears twice."""
    length = float(step_length(time).total_seconds())
    local = time.tz_convert(zone)
    naive = local.tz_localize(None)
    offset = (naive - time.tz_localize(None)).total_seconds().to_numpy()
    start = np.asarray((time - pd.Timestamp(0, tz="UTC")).total_seconds(), dtype=np.float64)
    floor = (start + offset) // 3600
    _, first, hour = np.unique(
        np.stack([floor, offset]), axis=1, return_index=True, return_inverse=True
    )
    base = periods_at(time, zone, demand.period_of_hour)[first]
    hours = np.bincount(hour.ravel(), minlength=len(first)) * length / 3600
    return _Steps(start, length, hour.ravel(), base, hours)


# ---------------------------------------------------------------- times


def _occurrences(
    window: Window, time: pd.DatetimeIndex, zone: str, report: Report, where: str
) -> Iterator[tuple[float, float]]:
    """Yield whole occurrences of a window as seconds since 1970, also parts off the horizon."""
    first, last = time[0], time[-1] + step_length(time)
    lower = upper = None
    if window.from_ is not None:
        lower = to_utc(window.from_, zone, is_end=False, report=report, where=where)
    if window.to is not None:
        upper = to_utc(window.to, zone, is_end=True, report=report, where=where)
    spans = [(lower or first, upper or last)]
    if window.daily is not None or window.days is not None:
        spans = []
        begin, end = window.hours
        day = first.tz_convert(zone).date() - _DAY  # its night may reach into ours
        while day <= last.tz_convert(zone).date():
            midnight = dt.datetime.combine(day, dt.time())
            day += _DAY
            if midnight.weekday() in window.weekdays:
                spans.append(
                    (
                        to_utc(midnight + begin, zone, is_end=False, report=Report(), where=where),
                        to_utc(midnight + end, zone, is_end=True, report=Report(), where=where),
                    )
                )
    for start, stop in spans:
        if lower is not None:
            start = max(start, lower)
        if upper is not None:
            stop = min(stop, upper)
        if start < stop:
            yield start.timestamp(), stop.timestamp()


def _inside(start: float, stop: float, steps: _Steps) -> Floats:
    """Return the (T,) seconds of every step that lie in a span."""
    end = steps.start + steps.length
    return np.asarray(np.clip(np.minimum(end, stop) - np.maximum(steps.start, start), 0.0, None))


def _spread_event(
    operation: AddDemand,
    time: pd.DatetimeIndex,
    zone: str,
    steps: _Steps,
    report: Report,
    where: str,
) -> tuple[Floats, Floats]:
    """Return the (H,) trips per hour that arrive and that leave."""
    parts = []
    for name in ("arrive", "leave"):
        window: Window | None = getattr(operation, name)
        trips = np.zeros(len(steps.start))
        lost, touched = 0.0, False
        spans = [] if window is None else list(
            _occurrences(window, time, zone, report, f"{where}, `{name}`"))  # fmt: skip
        for start, stop in spans:
            share = _inside(start, stop, steps) / (stop - start)
            if share.any():
                touched = True
                trips += operation.trips * share
                lost += operation.trips * max(0.0, 1.0 - float(share.sum()))
        if window is not None and not touched:
            first, last = time[0].tz_convert(zone), time[-1].tz_convert(zone)
            what = f"{window} has no trips in the horizon"
            todo = f"choose a time from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
            report.error(f"{where}, `{name}`", what, todo)
        elif lost > 1e-9 * operation.trips:
            what = f"{lost:,.0f} of the trips are outside the horizon"
            report.warning(f"{where}, `{name}`", what, "left out; a longer horizon has them")
        parts.append(np.bincount(steps.hour, trips, len(steps.hours)) / steps.hours)
    return parts[0], parts[1]


def _spread_factor(
    operation: ScaleDemand,
    time: pd.DatetimeIndex,
    zone: str,
    steps: _Steps,
    report: Report,
    where: str,
) -> tuple[Floats, Floats]:
    """Return the (H,) mean factor of every hour."""
    seconds = np.full(len(steps.start), steps.length)
    if operation.window is not None:
        spans = list(_occurrences(operation.window, time, zone, report, f"{where}, `window`"))
        seconds = np.sum([_inside(*span, steps) for span in spans], axis=0) + 0 * seconds
        seconds = np.minimum(seconds, steps.length)
        if not seconds.any():
            first, last = time[0].tz_convert(zone), time[-1].tz_convert(zone)
            todo = f"choose a time from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
            what = f"{operation.window} is outside the horizon"
            report.error(f"{where}, `window`", what, todo)
    part = np.bincount(steps.hour, seconds, len(steps.hours)) / (steps.hours * 3600)
    return 1.0 + (operation.factor - 1.0) * part, np.zeros(len(part))


# ---------------------------------------------------------------- trips


def _combine(
    found: Places, changes: Sequence[_Change], steps: _Steps, report: Report
) -> HourlyDemand:
    """Return the matrices of all hours that differ."""
    key = np.stack(
        [steps.base, *(part for change in changes for part in (change.arriving, change.leaving))],
        axis=1,
    )
    _, first, period = np.unique(
        np.round(key, _DIGITS), axis=0, return_index=True, return_inverse=True
    )
    old, n = found.demand.n_zones, len(found.junctions)
    check_size(2 * len(first), n, report)
    baseline = np.zeros((len(first), n, n))
    baseline[:, :old, :old] = np.asarray(found.demand.trips)[steps.base[first]]
    scenario = baseline.copy()
    for change in changes:
        if isinstance(change.operation, ScaleDemand):
            _scale(scenario, change, first, found, report)
        else:
            _add(scenario, baseline, change, first, found, report)
    period = period.ravel()
    return HourlyDemand(
        found.zones(),
        np.asarray(found.junctions, dtype=np.int64),
        baseline,
        scenario,
        period[steps.hour],
        np.bincount(period, steps.hours, len(first)).astype(np.float64),
        (scenario != baseline).any(axis=(1, 2)),
    )


def _scale(trips: Floats, change: _Change, hours: IntArray, found: Places, report: Report) -> None:
    """Multiply trips between zones, in place."""
    operation = change.operation
    assert isinstance(operation, ScaleDemand)  # noqa: S101 - asked before
    factor = change.arriving[hours]
    ids = np.array(found.ids + [""] * len(found.added))
    rows, columns = (
        np.ones(len(ids), dtype=bool) if given == "any" else np.isin(ids, as_ids(given))
        for given in (operation.from_zone, operation.to_zone)
    )
    pairs = rows[:, None] & columns
    touched = factor != 1.0
    if operation.factor != 1.0 and not trips[touched][:, pairs].any():
        todo = "choose zones and hours with trips; add_demand makes new ones"
        report.warning(change.where, "there are no trips to scale", todo)
    trips[:, pairs] *= factor[:, None]


def _add(
    trips: Floats,
    baseline: Floats,
    change: _Change,
    hours: IntArray,
    found: Places,
    report: Report,
) -> None:
    """Add trips to a place and from it, in place."""
    operation = change.operation
    assert isinstance(operation, AddDemand)  # noqa: S101 - asked before
    place = found.of[id(operation)]
    given = find_origins(operation, found.demand, report, change.where)
    if given is not None:  # places that are no zone have no weight
        given = np.pad(given, (0, len(found.added)))
    if operation.origins != "demand" and given is None:
        return
    mean = np.asarray(found.demand.trips).mean(axis=0)
    arriving, leaving = change.arriving[hours], change.leaving[hours]
    for amounts, axis in ((arriving, 1), (leaving, 0)):
        for p in np.flatnonzero(amounts > 0):
            weight = baseline[p].sum(axis=axis) if given is None else given.copy()
            weight[place] = 0.0
            if given is None and not weight.any():  # nobody drives at this hour: as in all others
                weight[: len(mean)] = mean.sum(axis=axis)
                weight[place] = 0.0
            if not weight.any():
                what = "no other zone has trips or weights to come from"
                report.error(f"{change.where}, `origins`", what, "name a column of the zones")
                return
            share = amounts[p] * weight / weight.sum()
            if axis == 1:
                trips[p, :, place] += share
            else:
                trips[p, place, :] += share
