"""What a scenario does to the whole network, in a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import InputError
from stgraph.graph import BoolArray
from stgraph.scenario._routes import Values, lengths
from stgraph.scenario.emissions import co2_g_per_km
from stgraph.scenario.od_times import ODTimes
from stgraph.scenario.periods import step_hours
from stgraph.scenario.result import LinkEffects
from stgraph.scenario.states import Edited

COLUMNS = ["metric", "unit", "base", "scenario", "change", "low", "high"]
UNITS = {"VKT": "veh-km", "VHT": "veh-h", "mean speed": "km/h", "delay": "veh-h", "CO2": "kg"}
LONGER_MIN = 5.0  # trips that take this much longer are counted
_TRIP_UNITS = {
    "OD time, mean": "min",
    "OD time, p90": "min",
    f"trips over {LONGER_MIN:g} min longer": "%",
}

Float64s = npt.NDArray[np.float64]


class Traffic(NamedTuple):
    """Speeds and flows of one network, with what does not count in both left out."""

    speed: Float64s  # (T, E) km/h; 1 where nothing is counted
    vehicles: Float64s  # (T, E) that pass in the step, 0 where nothing is counted
    free_kmh: Values  # (T, E)
    length_km: Float64s  # (E,)


def summarise(
    edited: Edited,
    effects: LinkEffects,
    *,
    od: ODTimes | None = None,
    trips_base: Values | None = None,
    trips_scn: Values | None = None,
    members: Iterable[tuple[Values, Values]] | None = None,
    trip_members: Sequence[Mapping[str, float]] = (),
) -> pd.DataFrame:
    """Return the numbers of the whole network: distance, time, delay, trips, carbon dioxide.

    Parameters
    ----------
    edited
        Both networks.
    effects
        Speeds and flows of both in T steps.
    od
        Minutes between zones, hour by hour. None: no numbers on trips.
    trips_base, trips_scn
        (H, Z, Z) cars of the hours of `od`; `trips_scn` None: those of the baseline.
    members
        Speeds and flows (T, E) of the scenario from other demands, curves or models. The range
        is then that of their totals. None: from the ranges of the segments, all of them at the
        same end at once, which is the widest it can be.
    trip_members
        What `trip_numbers` gives for the same members. Empty: no range of numbers on trips.

    Returns
    -------
    pd.DataFrame
        A row per number: metric, unit, base, scenario, change, and low and high of the change.
        NaN where it cannot be told.

    Raises
    ------
    InputError
        If arrays do not fit the horizon, the network or the zones.

    Notes
    -----
    A segment counts at a step if flow and speed are known there on both networks, or its flow is
    0, or it is closed or absent on one of them (0 there). The row "covered network" says how much
    of the street length that is: other numbers are on that part only.
    """
    _check(edited, effects, od, trips_base, trips_scn)
    counted, share = _covered(edited, effects)
    ranges = _totals_of_range(edited, effects, counted, members)
    base = _totals(_traffic(edited, effects.speed_base, effects.flow_base, counted, base=True))
    scn = _totals(_traffic(edited, effects.speed_scn, effects.flow_scn, counted, base=False))
    rows = []
    for name, unit in UNITS.items():
        low, high = ranges(name, base[name])
        rows.append((name, unit, base[name], scn[name], scn[name] - base[name], low, high))
    if not counted.any():
        rows = [_mean_of_streets(edited, effects)]
    rows += delay_by_operation(edited, effects).itertuples(index=False, name=None)
    rows += [] if od is None else _trip_rows(od, trips_base, trips_scn, trip_members)
    rows.append(("covered network", "%", share, share, 0.0, np.nan, np.nan))
    return pd.DataFrame(rows, columns=COLUMNS)


def delay_by_operation(edited: Edited, effects: LinkEffects) -> pd.DataFrame:
    """Return the delay in those steps in which an operation is the only one that holds.

    Parameters
    ----------
    edited
        Both networks. Operations on demand or weather leave no trace in `edits`; with them nothing
        can be told apart, and there are no rows.
    effects
        Speeds and flows of both in T steps.

    Returns
    -------
    pd.DataFrame
        As of `summarise`, a row per operation that is alone at some time, and "several operations"
        for the time in which it is not; empty if none is, or if there is one operation only.
    """
    edits = edited.edits
    numbers = list(dict.fromkeys(edits["operation"])) if len(edits) else []
    if len(numbers) < 2 or edited.demand or edited.weather:
        return pd.DataFrame(columns=COLUMNS)
    holds = np.zeros((len(numbers), len(edited.time)), dtype=np.bool_)
    spans = edits[["operation", "from", "to"]].drop_duplicates()
    for number, begin, end in spans.itertuples(index=False, name=None):
        holds[numbers.index(number)] |= (edited.time >= begin) & (edited.time < end)
    counted, _ = _covered(edited, effects)
    base = _traffic(edited, effects.speed_base, effects.flow_base, counted, base=True)
    scn = _traffic(edited, effects.speed_scn, effects.flow_scn, counted, base=False)
    base_h, scn_h = _delay(base).sum(axis=1), _delay(scn).sum(axis=1)
    several = holds.sum(axis=0) > 1
    if not (holds & ~several).any():
        return pd.DataFrame(columns=COLUMNS)  # none is ever alone
    named = edits.drop_duplicates("operation").set_index("operation")["op"]
    parts = [
        (f"delay, operation {number} ({named[number]})", held & ~several)
        for number, held in zip(numbers, holds, strict=True)
    ]
    rows = []
    for name, steps in [*parts, ("delay, several operations", several)]:
        if steps.any():
            before, after = float(base_h[steps].sum()), float(scn_h[steps].sum())
            rows.append((name, "veh-h", before, after, after - before, np.nan, np.nan))
    return pd.DataFrame(rows, columns=COLUMNS)


# ---------------------------------------------------------------- streets


def _covered(edited: Edited, effects: LinkEffects) -> tuple[BoolArray, float]:
    """Return which steps and segments count, and their share of the street length in per cent."""
    scn_open = np.stack([state.is_open for state in edited.periods])[edited.period_of]
    base_open = edited.baseline.is_open
    there = base_open | scn_open
    base = _known(effects.speed_base, effects.flow_base) | ~base_open
    scn = _known(effects.speed_scn, effects.flow_scn) | ~scn_open
    counted = _with_parts(edited, there & base & scn)
    length = lengths(edited.roads).astype(np.float64)
    total = float((there * length).sum())
    return counted, 100.0 * float((counted * length).sum()) / total if total > 0 else np.nan


def _with_parts(edited: Edited, counted: BoolArray) -> BoolArray:
    """Return what counts, a split segment and its parts all together or not at all."""
    parts = np.flatnonzero((edited.parent >= 0) & (edited.parent != np.arange(len(edited.parent))))
    if len(parts) == 0:
        return counted
    whole = edited.parent[parts]
    found = counted.copy()
    np.logical_and.at(found.T, whole, counted[:, parts].T)
    found[:, parts] &= found[:, whole]
    return found


def _known(speed: Values, flow: Values) -> BoolArray:
    """Return where time and distance are known; an empty street needs no speed."""
    return np.asarray((np.isfinite(flow) & np.isfinite(speed) & (speed > 0)) | (flow == 0))


def _traffic(
    edited: Edited, speed: Values, flow: Values, counted: BoolArray, *, base: bool
) -> Traffic:
    """Return the traffic of one network, with nothing where nothing is counted."""
    hours = step_hours(edited.time)
    used = counted & np.isfinite(flow) & np.isfinite(speed) & (speed > 0)
    if base:  # parts have the forecast of their street, which counts once
        used &= edited.baseline.is_open
    vehicles = np.where(used, flow, 0.0).astype(np.float64) * hours
    free = np.stack([state.speed_kmh for state in edited.periods])[edited.period_of]
    if base:
        free = np.broadcast_to(edited.baseline.speed_kmh, free.shape)
    length_km = lengths(edited.roads).astype(np.float64) / 1000.0
    return Traffic(np.where(used, speed, 1.0).astype(np.float64), vehicles, free, length_km)


def _delay(traffic: Traffic) -> Float64s:
    """Return the vehicle hours (T, E) beyond those at free flow."""
    free = np.where(np.isfinite(traffic.free_kmh), traffic.free_kmh, traffic.speed)
    hours = np.maximum(1.0 / traffic.speed - 1.0 / np.maximum(free, 1.0), 0.0)
    return traffic.vehicles * traffic.length_km * hours


def _totals(traffic: Traffic) -> dict[str, float]:
    """Return the sums over steps and segments."""
    km = traffic.vehicles * traffic.length_km
    vkt, vht = float(km.sum()), float((km / traffic.speed).sum())
    return {
        "VKT": vkt,
        "VHT": vht,
        "mean speed": vkt / vht if vht > 0 else np.nan,
        "delay": float(_delay(traffic).sum()),
        "CO2": float((km * co2_g_per_km(traffic.speed)).sum()) / 1000.0,
    }


def _totals_of_range(
    edited: Edited,
    effects: LinkEffects,
    counted: BoolArray,
    members: Iterable[tuple[Values, Values]] | None,
) -> Callable[[str, float], tuple[float, float]]:
    """Return what gives the lowest and highest change of a number."""
    pairs = _corners(effects) if members is None else list(members)
    if pairs:  # the range holds what is shown
        pairs = [(effects.speed_scn, effects.flow_scn), *pairs]
    totals = [_totals(_traffic(edited, speed, flow, counted, base=False)) for speed, flow in pairs]

    def find(name: str, base: float) -> tuple[float, float]:
        changes = [total[name] - base for total in totals]
        return (min(changes), max(changes)) if changes else (np.nan, np.nan)

    return find


def _corners(effects: LinkEffects) -> list[tuple[Values, Values]]:
    """Return the scenario's speeds and flows with all segments at one end of their ranges."""
    known = [np.isfinite(part).any() for part in (effects.d_speed_low, effects.d_flow_low)]
    if not any(known):
        return []

    def at(base: Values, scn: Values, change: Values) -> Values:
        return np.where(np.isfinite(change) & np.isfinite(base), base + change, scn)

    speeds = [
        np.maximum(at(effects.speed_base, effects.speed_scn, change), 1.0)
        for change in (effects.d_speed_low, effects.d_speed_high)
    ]
    flows = [
        np.maximum(at(effects.flow_base, effects.flow_scn, change), 0.0)
        for change in (effects.d_flow_low, effects.d_flow_high)
    ]
    return [
        (np.where(np.isfinite(effects.speed_scn), speed, np.nan), flow)
        for speed in speeds
        for flow in flows
    ]


def _mean_of_streets(edited: Edited, effects: LinkEffects) -> tuple[Any, ...]:
    """Return the row that can be told without flows: the mean speed along the streets."""
    both = np.isfinite(effects.speed_base) & np.isfinite(effects.speed_scn)
    both &= (effects.speed_base > 0) & (effects.speed_scn > 0)
    km = both * lengths(edited.roads).astype(np.float64)
    if not km.any():
        return ("mean speed, by length", "km/h", *[np.nan] * 5)
    means = [
        float(km.sum() / (km / np.where(both, speed, 1.0)).sum())
        for speed in (effects.speed_base, effects.speed_scn)
    ]
    change = means[1] - means[0]
    return ("mean speed, by length", "km/h", *means, change, np.nan, np.nan)


# ---------------------------------------------------------------- trips


def trip_numbers(
    od: ODTimes, trips_base: Values | None = None, *, network: str = "scenario"
) -> dict[str, float]:
    """Return what times between zones mean for the trips: how long they take, who loses most.

    Parameters
    ----------
    od
        Minutes between zones, hour by hour.
    trips_base
        (H, Z, Z) cars of every hour in the baseline. None: all pairs and hours count alike.
    network
        ``"scenario"`` or ``"base"``: with or without what changes.

    Returns
    -------
    dict[str, float]
        "OD time, mean" and "OD time, p90" in minutes, "trips over 5 min longer" in per cent, of the
        trips that can be made on both networks; NaN where there are none.
    """
    trips = _between_zones(od, trips_base)
    both = np.isfinite(od.base_min) & np.isfinite(od.scn_min) & (trips > 0)
    weight, base = trips[both], od.base_min[both]
    minutes = base if network == "base" else od.scn_min[both]
    if not len(weight):
        return dict.fromkeys(_TRIP_UNITS, np.nan)
    total = float(weight.sum())
    found = (
        float((weight * minutes).sum()) / total,
        weighted_quantile(minutes, weight, 0.9),
        100.0 * float(weight[minutes - base > LONGER_MIN].sum()) / total,
    )
    return dict(zip(_TRIP_UNITS, found, strict=True))


def _trip_rows(
    od: ODTimes,
    trips_base: Values | None,
    trips_scn: Values | None,
    members: Sequence[Mapping[str, float]],
) -> list[tuple[Any, ...]]:
    """Return the rows on trips; without their numbers all pairs and hours count alike."""
    unit = "pairs and hours" if trips_base is None else "trips"
    before = _between_zones(od, trips_base)
    after = before if trips_scn is None else _between_zones(od, trips_scn)
    lost = [
        float(trips[~np.isfinite(minutes)].sum())
        for trips, minutes in ((before, od.base_min), (after, od.scn_min))
    ]
    rows: list[tuple[Any, ...]] = [
        ("unserved trips", unit, *lost, lost[1] - lost[0], np.nan, np.nan)
    ]
    base, scn = (trip_numbers(od, trips_base, network=name) for name in ("base", "scenario"))
    for name, of in _TRIP_UNITS.items():
        changes = [one[name] - base[name] for one in (scn, *members)]
        ends = (min(changes), max(changes)) if members else (np.nan, np.nan)
        rows.append((name, of, base[name], scn[name], changes[0], *ends))
    return rows


def _between_zones(od: ODTimes, trips: Values | None) -> Values:
    """Return the trips from zone to zone, none within one."""
    given = np.ones(od.base_min.shape) if trips is None else trips
    return np.where(np.eye(len(od.zones), dtype=np.bool_), 0.0, given)


def weighted_quantile(values: Values, weight: Values, q: float) -> float:
    """Return the smallest value up to which a share `q` of the weight lies; NaN without any."""
    if len(values) == 0:
        return float("nan")
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    at = int(np.searchsorted(total, q * total[-1]))
    return float(values[order[min(at, len(values) - 1)]])


# ---------------------------------------------------------------- checks


def _check(
    edited: Edited,
    effects: LinkEffects,
    od: ODTimes | None,
    trips_base: Values | None,
    trips_scn: Values | None,
) -> None:
    """Raise where shapes do not fit, naming all that do not."""
    shape = (len(edited.time), edited.roads.n_edges)
    wrong = [
        f"`{name}` {values.shape}, not {shape}"
        for name, values in vars(effects).items()
        if values.shape != shape
    ]
    if od is None and (trips_base is not None or trips_scn is not None):
        wrong.append("trips without `od`: give the times between the zones, too")
    if od is not None:
        wrong += [
            f"`{name}` {trips.shape}, not {od.base_min.shape}"
            for name, trips in (("trips_base", trips_base), ("trips_scn", trips_scn))
            if trips is not None and trips.shape != od.base_min.shape
        ]
    if wrong:
        raise InputError("shapes do not fit: " + "; ".join(wrong))
