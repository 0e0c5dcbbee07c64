"""How long trips from zone to zone take, with and without a scenario."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stgraph.errors import InputError
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.scenario._routes import Values, build_routes, expanded, lengths, segment_minutes
from stgraph.scenario.demand import Demand
from stgraph.scenario.periods import steps_of_periods
from stgraph.scenario.result import LinkEffects
from stgraph.scenario.states import Edited, RoadState


@dataclass(frozen=True, eq=False)
class HourlySpeeds:
    """Mean speeds on both networks, hour by hour; every open segment has one."""

    hours: pd.DatetimeIndex  # (H,) beginnings, UTC
    base_kmh: Values  # (H, E)
    scn_kmh: Values  # (H, E)
    base_open: BoolArray  # (H, E)
    scn_open: BoolArray  # (H, E)
    state: IntArray  # (H,) which of the scenario's states holds for most of the hour
    known: BoolArray  # (E,) the baseline's speed is known at some time, not filled


@dataclass(frozen=True, eq=False)
class ODTimes:
    """Minutes from zone to zone, hour by hour; inf: there is no way."""

    zones: pd.Index  # (Z,) ids
    hours: pd.DatetimeIndex  # (H,) beginnings, UTC
    base_min: Values  # (H, Z, Z) from row to column
    scn_min: Values  # (H, Z, Z)


def od_times(
    roads: STGraph,
    speed_kmh: Values,
    is_open: BoolArray,
    junctions: IntArray,
    banned: IntArray,
) -> Values:
    """Return the minutes of the fastest way from every zone to every other.

    Parameters
    ----------
    roads
        Junctions as nodes, E directed segments as edges with `length_m`.
    speed_kmh
        (E,) speeds; not looked at where a segment is closed.
    is_open
        (E,) whether one may drive there.
    junctions
        (Z,) positions of the junctions where trips of a zone begin and end.
    banned
        (2, K) positions of segments between which one must not turn; may be empty.

    Returns
    -------
    Values
        (Z, Z), from row to column; 0 within a zone, inf where there is no way.

    Raises
    ------
    InputError
        If an open segment has no speed, or something does not fit the network.

    Notes
    -----
    A snapshot: the speeds of one hour hold for the whole trip.
    """
    junctions = np.asarray(junctions, dtype=np.int64)
    outside = junctions[(junctions < 0) | (junctions >= roads.n_nodes)]
    if len(outside):
        last = roads.n_nodes - 1
        raise InputError(f"`junctions` holds position {int(outside[0])}; there are 0..{last}")
    minutes = segment_minutes(lengths(roads), speed_kmh, is_open)
    routes = build_routes(expanded(roads, banned, is_open), minutes)
    origins, row = np.unique(junctions, return_inverse=True)
    found = routes.from_junctions(origins)[row][:, routes.net.end_of[junctions]]
    found[junctions[:, None] == junctions[None, :]] = 0.0
    return found


def hourly_speeds(edited: Edited, effects: LinkEffects, *, zone: str = "UTC") -> HourlySpeeds:
    """Return the mean speed of every segment in every hour, gaps filled.

    Parameters
    ----------
    edited
        Both networks.
    effects
        Speeds of T steps.
    zone
        IANA name of the zone whose full hours count.

    Returns
    -------
    HourlySpeeds
        The mean is of the travel time. A segment counts as closed where it is for more than half
        of the hour. An open segment without speed gets the one of the other network, else the
        free-flow speed.
    """
    hours, hour_of = full_hours(edited.time, zone)
    H = len(hours)
    count = np.bincount(hour_of, minlength=H)
    open_steps = np.stack([state.is_open for state in edited.periods])[edited.period_of]
    scn_open = _per_hour(open_steps, hour_of, H) >= 0.5 * count[:, None]
    n_states = len(edited.periods)
    states = np.bincount(hour_of * n_states + edited.period_of, minlength=H * n_states)
    state = states.reshape(H, n_states).argmax(axis=1)
    base = _mean_speed(effects.speed_base, hour_of, H)
    scn = _mean_speed(effects.speed_scn, hour_of, H)
    known = np.asarray(np.isfinite(base).any(axis=0))
    whole = np.where(edited.parent >= 0, edited.parent, np.arange(len(edited.parent)))
    base = base[:, whole]  # parts of a split segment have its speed
    free_scn = np.stack([s.speed_kmh for s in edited.periods])[state]
    # a change of the free-flow speed shows where nothing else is known
    scn = _first_known(scn, base, free_scn)
    base = _first_known(base, np.tile(edited.baseline.speed_kmh, (H, 1)))
    base_open = np.tile(edited.baseline.is_open, (H, 1))
    return HourlySpeeds(hours, base, scn, base_open, scn_open, state, known)


def measure_od(
    edited: Edited, speeds: HourlySpeeds, demand: Demand, *, known: ODTimes | None = None
) -> ODTimes:
    """Return the minutes between zones on both networks, hour by hour.

    Parameters
    ----------
    edited
        Both networks.
    speeds
        Of every hour.
    demand
        Whose zones are meant; its trips do not matter.
    known
        Times of the same baseline with other speeds in the scenario, so that those of the baseline
        are not looked for again. None: there are none.

    Returns
    -------
    ODTimes
        Of every hour of `speeds`. Hours in which nothing differs are exactly equal.
    """
    H, Z = len(speeds.hours), demand.n_zones
    base = np.empty((H, Z, Z)) if known is None else known.base_min
    scn = np.empty((H, Z, Z))

    def search(speed: Values, is_open: BoolArray, state: RoadState) -> Values:
        return od_times(edited.roads, speed, is_open, demand.junctions, state.banned_turns)

    for hour in range(H):
        state = edited.periods[speeds.state[hour]]
        if known is None:
            base[hour] = search(speeds.base_kmh[hour], speeds.base_open[hour], edited.baseline)
        scn[hour] = base[hour]
        if _differs(edited, speeds, hour):
            scn[hour] = search(speeds.scn_kmh[hour], speeds.scn_open[hour], state)
    return ODTimes(demand.zones.index, speeds.hours, base, scn)


def od_table(od: ODTimes, *, zone: str = "UTC", trips: Values | None = None) -> pd.DataFrame:
    """Return the times between zones by part of the day, as `ScenarioResult.od` has them.

    Parameters
    ----------
    od
        Minutes of every hour.
    zone
        IANA name of the zone whose hours make morning, midday and afternoon.
    trips
        (H, Z, Z) cars of every hour in the scenario. None: not known, all hours count alike.

    Returns
    -------
    pd.DataFrame
        Columns o, d, period, trips (of the whole part of the day), tt_base_min, tt_scn_min (mean
        of the hours by trips) and is_unreachable: the scenario cuts the pair off. A pair that
        cannot be driven in some hour of the part in which somebody wants to has no time (NaN): a
        mean without that hour would look better than it is. Pairs that had no way before have no
        time either, but are not cut off. Pairs without trips are left out if trips are known.
    """
    Z = len(od.zones)
    _check_trips(od, trips)
    parts = []
    for period, chosen in steps_of_periods(od.hours, zone).items():
        weight = np.ones((int(chosen.sum()), Z, Z)) if trips is None else trips[chosen]
        total = weight.sum(axis=0)
        keep = ~np.eye(Z, dtype=np.bool_) & (total > 0)
        o, d = np.nonzero(keep)
        base = weighted_mean(od.base_min[chosen], weight)[o, d]
        scn = weighted_mean(od.scn_min[chosen], weight)[o, d]
        part = {
            "o": od.zones[o],
            "d": od.zones[d],
            "period": period,
            "trips": np.nan if trips is None else total[o, d],
            "tt_base_min": _finite(base),
            "tt_scn_min": _finite(scn),
            "is_unreachable": _cut_off(od, chosen, weight)[o, d],
        }
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _cut_off(od: ODTimes, hours: BoolArray, weight: Values) -> BoolArray:
    """Tell which pairs lose their only way in some of the hours in which somebody wants it."""
    lost = np.isfinite(od.base_min[hours]) & ~np.isfinite(od.scn_min[hours])
    return np.asarray((lost & (weight > 0)).any(axis=0), dtype=np.bool_)


def weighted_mean(minutes: Values, weight: Values) -> Values:
    """Return the mean over the first axis, inf if some value that counts is."""
    used = weight > 0
    total = weight.sum(axis=0)
    held = np.where(used, minutes, 0.0) * np.where(used, weight, 1.0)
    return np.where(total > 0, held.sum(axis=0) / np.where(total > 0, total, 1.0), np.nan)


def full_hours(time: pd.DatetimeIndex, zone: str) -> tuple[pd.DatetimeIndex, IntArray]:
    """Return the hours of a zone that a horizon touches, and which of them each step is in."""
    local = time.tz_convert(zone)
    offset = local.tz_localize(None) - time.tz_convert("UTC").tz_localize(None)
    begin = (time.tz_convert("UTC") + offset).floor("h") - offset
    hours, hour_of = np.unique(begin.as_unit("us").asi8, return_inverse=True)
    index = pd.DatetimeIndex(hours.astype("datetime64[us]"), tz="UTC")
    return index, hour_of.astype(np.int64)


def _differs(edited: Edited, speeds: HourlySpeeds, hour: int) -> bool:
    """Return whether the two networks differ in an hour, in what matters for the times."""
    state, base = edited.periods[speeds.state[hour]], edited.baseline
    is_open = speeds.base_open[hour]
    return not (
        np.array_equal(is_open, speeds.scn_open[hour])
        and np.array_equal(speeds.base_kmh[hour][is_open], speeds.scn_kmh[hour][is_open])
        and np.array_equal(base.banned_turns, state.banned_turns)
    )


def _per_hour(values: Values | BoolArray, hour_of: IntArray, n_hours: int) -> Values:
    """Return the sums of steps per hour, (H, E)."""
    total = np.zeros((n_hours, values.shape[1]))
    np.add.at(total, hour_of, values)
    return total


def _mean_speed(speed: Values, hour_of: IntArray, n_hours: int) -> Values:
    """Return the speed of the mean travel time of every hour, NaN where none is known."""
    known = np.isfinite(speed) & (speed > 0)
    pace = np.where(known, 1.0 / np.where(known, speed, 1.0).astype(np.float64), 0.0)
    total, count = _per_hour(pace, hour_of, n_hours), _per_hour(known, hour_of, n_hours)
    return np.where(count > 0, count / np.where(count > 0, total, 1.0), np.nan)


def _first_known(*choices: Values) -> Values:
    """Return the first of several values that is known."""
    found = np.array(choices[0], dtype=np.float64)
    for choice in choices[1:]:
        found = np.where(np.isfinite(found), found, choice)
    return found


def _finite(values: Values) -> Values:
    """Return the values with NaN for infinite ones."""
    return np.where(np.isfinite(values), values, np.nan)


def _check_trips(od: ODTimes, trips: Values | None) -> None:
    """Raise where trips do not fit the hours and zones."""
    if trips is not None and trips.shape != od.base_min.shape:
        what = f"`trips` has the shape {trips.shape}, the times have {od.base_min.shape}"
        raise InputError(f"{what}; give the cars of every hour, origin and destination")
