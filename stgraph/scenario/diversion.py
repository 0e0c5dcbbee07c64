"""Where the traffic of a closed street goes, if nothing is known of trips: a pattern only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stgraph.errors import InputError
from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph.scenario._detours import Float64s, Trips, find_trips, spread_trips
from stgraph.scenario._routes import Values, expanded, lengths, segment_minutes
from stgraph.scenario.od_times import full_hours
from stgraph.scenario.states import Edited, RoadState
from stgraph.scenario.turns import TurnNetwork

Vdf = Callable[[Float64s, Float64s, Float64s], Float64s]

_SLOWEST = 10.0  # times as long as before is the most that a street may take


@dataclass(frozen=True, eq=False)
class Diverted:
    """Speeds and flows of a scenario, by `divert`."""

    speed_kmh: Values  # (T, E) NaN where closed or not known
    flow_vph: Values  # (T, E)
    unserved_vph: Values  # (T,) vehicles per hour that find no way
    report: Report


def bpr(flow: Float64s, capacity_vph: Float64s, free_min: Float64s) -> Float64s:
    """Return the time on a street by the curve of the Bureau of Public Roads (0.15, 4)."""
    return free_min * (1.0 + 0.15 * (flow / capacity_vph) ** 4)


def divert(
    edited: Edited,
    speed_kmh: Values,
    flow_vph: Values,
    *,
    vdf: Vdf = bpr,
    zone: str = "UTC",
    reach_min: float = 20.0,
    n_places: int = 150,
    n_iterations: int = 5,
) -> Diverted:
    """Send the traffic of closed and narrowed streets round, hour by hour.

    Parameters
    ----------
    edited
        Both networks.
    speed_kmh, flow_vph
        (T, E) of the baseline; parts of a split segment get those of the segment. NaN where not
        known: free flow, and nobody to be sent round.
    vdf
        Gives the time on every street (E,) from its flow, its capacity (both in vehicles per hour)
        and its time without traffic.
    zone
        IANA name of the zone whose full hours are looked at.
    reach_min
        How many minutes from these streets trips may begin and end.
    n_places
        At how many junctions, those with most traffic first.
    n_iterations
        How often times and ways are found anew.

    Returns
    -------
    Diverted
        Where nothing changes, what was given. A new road carries only those that are sent round.

    Raises
    ------
    InputError
        If shapes do not fit, or an option is not above 0.

    Notes
    -----
    The trips that use a closed street are not known. They are taken to begin and end where most
    traffic passes, to be the rarer the longer they are, to have the street on (nearly) their
    fastest way, and to be nowhere more than what drives there. What cannot be explained so goes
    round the street alone. All of them take the ways that are then fastest. Of a street of less
    capacity, what exceeds it is sent round. Nobody else changes the way, so flows are conserved at
    every junction. Trips that find no way are taken out.
    """
    _check(edited, speed_kmh, flow_vph, reach_min, n_places, n_iterations)
    network = _Before(edited, vdf)
    report = Report()
    speed, flow = network.inherit(speed_kmh), network.inherit(flow_vph)
    new_speed, new_flow = speed.copy(), flow.copy()
    unserved = np.zeros(len(edited.time))
    hours, hour_of = full_hours(edited.time, zone)
    blind: set[int] = set()
    for hour in range(len(hours)):
        for period in np.unique(edited.period_of[hour_of == hour]):
            steps = np.flatnonzero((hour_of == hour) & (edited.period_of == period))
            state = edited.periods[int(period)]
            found = network.solve(
                state, _mean_speed(speed[steps]), _mean(flow[steps]), reach_min, n_places,
                n_iterations,
            )  # fmt: skip
            slower, change, lost, unknown = found
            new_speed[steps] = speed[steps] / slower
            new_flow[steps] = np.maximum(flow[steps] + change, 0.0)
            unserved[steps] = lost
            blind.update(unknown.tolist())
            _fill_new(new_speed, new_flow, steps, change, network, state)
            new_speed[np.ix_(steps, ~state.is_open)] = np.nan
            new_flow[np.ix_(steps, ~state.is_open)] = np.nan
    _note(report, edited, network, sorted(blind), unserved)
    kind = np.result_type(speed_kmh, flow_vph)
    return Diverted(new_speed.astype(kind), new_flow.astype(kind), unserved, report)


class _Before:
    """The baseline's network on the segments of the scenario, split where that splits them."""

    def __init__(self, edited: Edited, vdf: Vdf) -> None:
        self.edited, self.vdf = edited, vdf
        own = np.arange(edited.roads.n_edges)
        self.heir = np.where(edited.parent >= 0, edited.parent, own)
        self.is_part = self.heir != own
        # a segment that is split is replaced by its parts, before as well
        replaced = np.isin(own, self.heir[self.is_part])
        base = edited.baseline
        self.is_open = base.is_open[self.heir] & ~replaced & (edited.parent >= 0)
        self.free_kmh = base.speed_kmh[self.heir].astype(np.float64)
        self.capacity = base.capacity_vph[self.heir].astype(np.float64)
        self.banned = base.banned_turns
        self.length_m = lengths(edited.roads)
        self.nets: dict[bytes, TurnNetwork] = {}

    def inherit(self, values: Values) -> Float64s:
        """Return (T, E) values with those of the split segments on their parts."""
        found = np.asarray(values, dtype=np.float64)[:, self.heir]
        return np.where(self.edited.parent >= 0, found, np.nan)

    def net(self, banned: IntArray, is_open: BoolArray) -> TurnNetwork:
        """Return the network with some forbidden turns."""
        key = np.ascontiguousarray(banned).tobytes() + (is_open.tobytes() if banned.size else b"")
        if key not in self.nets:
            self.nets[key] = expanded(self.edited.roads, banned, is_open)
        return self.nets[key]

    def solve(
        self,
        state: RoadState,
        speed: Float64s,
        flow: Float64s,
        reach_min: float,
        n_places: int,
        n_iterations: int,
    ) -> tuple[Float64s, Float64s, float, IntArray]:
        """Return the factors of time, the change of flow, who finds no way, and blind closures."""
        before = self._minutes(self.free_kmh, speed, self.is_open)
        known = np.where(np.isfinite(flow) & self.is_open, flow, 0.0)
        leaving = np.where(self.is_open & ~state.is_open, known, 0.0)
        narrowed = self.is_open & state.is_open & (state.capacity_vph < self.capacity)
        surplus = np.maximum(known - np.maximum(state.capacity_vph, 0.0), 0.0)
        leaving = np.where(narrowed, surplus, leaving)
        unknown = np.flatnonzero(self.is_open & ~state.is_open & ~np.isfinite(flow))
        # a lower limit slows those down who are faster; a higher one speeds all up
        still = self._minutes(state.speed_kmh, speed, state.is_open)
        with np.errstate(invalid="ignore", divide="ignore"):
            up = np.where(state.speed_kmh > self.free_kmh, self.free_kmh / state.speed_kmh, 1.0)
        free = 0.06 * self.length_m / np.where(state.speed_kmh > 0, state.speed_kmh, np.nan)
        limited = np.where(state.speed_kmh < self.free_kmh, np.fmax(still, free), still * up)

        def times(total: Float64s) -> Float64s:
            return limited * self._slowing(state, known, total)

        if not leaving.any():
            change, lost = np.zeros(len(flow)), 0.0
        else:
            trips, removed = find_trips(
                self.net(self.banned, self.is_open), self.edited.roads.edge_index, before, known,
                leaving, reach_min=reach_min, n_places=n_places,
            )  # fmt: skip
            open_to_them = state.is_open & ~(leaving > 0)
            added, unserved = self._spread(
                trips, times, known - removed, open_to_them, state, n_iterations
            )
            change, lost = added - removed, float(unserved.sum())
        after = times(known + change)
        usable = self.is_open & state.is_open & (before > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            slower = np.where(usable & np.isfinite(speed), after / before, 1.0)
        return np.where(np.isfinite(slower), slower, 1.0), change, lost, unknown

    def _spread(
        self,
        trips: Trips,
        times: Callable[[Float64s], Float64s],
        remaining: Float64s,
        is_open: BoolArray,
        state: RoadState,
        n_iterations: int,
    ) -> tuple[Float64s, Float64s]:
        """Put trips onto the network of a state."""
        net = self.net(state.banned_turns, is_open)
        return spread_trips(net, trips, times, remaining, is_open, n_iterations=n_iterations)

    def _slowing(self, state: RoadState, known: Float64s, total: Float64s) -> Float64s:
        """Return the factors of time by flow and capacity, 1 where these do not change."""
        one = np.ones(len(total))
        room = state.capacity_vph.astype(np.float64)
        capacity = np.where(room > 0, room, np.nan)
        same = (total == known) & (capacity == self.capacity)
        with np.errstate(all="ignore"):  # a curve may explode
            before = self.vdf(known, np.where(self.is_open, self.capacity, capacity), one)
            after = self.vdf(np.maximum(total, 0.0), capacity, one)
            factor = np.where(same | ~(before > 0) | ~np.isfinite(after), 1.0, after / before)
        return np.asarray(np.clip(factor, 1.0 / _SLOWEST, _SLOWEST), dtype=np.float64)

    def _minutes(self, free_kmh: Values, speed: Float64s, is_open: BoolArray) -> Float64s:
        """Return the times at the speeds that are known, else at free flow."""
        known = np.where(speed > 0, speed, free_kmh)
        return segment_minutes(self.length_m, known, is_open).astype(np.float64)


def _fill_new(
    new_speed: Float64s,
    new_flow: Float64s,
    steps: IntArray,
    change: Float64s,
    network: _Before,
    state: RoadState,
) -> None:
    """Give roads that were not there before those who are sent round, at free flow."""
    new = np.flatnonzero(state.is_open & ~network.is_open)
    new_flow[np.ix_(steps, new)] = change[new]
    new_speed[np.ix_(steps, new)] = state.speed_kmh[new]


def _mean(values: Float64s) -> Float64s:
    """Return the mean of the steps that are known, NaN where none is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _mean_speed(values: Float64s) -> Float64s:
    """Return the speed of the mean time, NaN where none is known."""
    with np.errstate(divide="ignore"):
        return 1.0 / _mean(np.where(values > 0, 1.0 / values, np.nan))


def _note(
    report: Report, edited: Edited, network: _Before, blind: list[int], unserved: Float64s
) -> None:
    """Say what the method cannot tell."""
    what = "the traffic is sent round by the flows alone, without knowing any trips"
    report.warning("method diversion", what, "read it as where, not as how much; give a demand")
    if blind and edited.roads.edges is not None:
        ids = edited.roads.edges["segment_id"].to_numpy()
        some = ", ".join(str(ids[i]) for i in blind[:3])
        what = f"{len(blind)} closed segments have no flow in the baseline ({some} ...)"
        report.warning("method diversion", what, "nobody is sent round them", count=len(blind))
    new = np.zeros(len(network.is_open), dtype=np.bool_)
    for state in edited.periods:
        new |= state.is_open & (edited.parent < 0)
    if new.any():
        count = int(new.sum())
        what = f"{count} new segments draw only those who have to leave another street"
        report.warning("method diversion", what, "give a demand for more", count=count)
    if unserved.any():
        what = f"up to {unserved.max():.0f} vehicles per hour find no way"
        report.warning("method diversion", what, "they are taken out", count=1)


def _check(
    edited: Edited,
    speed_kmh: Values,
    flow_vph: Values,
    reach_min: float,
    n_places: int,
    n_iterations: int,
) -> None:
    """Raise where the input does not fit, naming all that does not."""
    shape = (len(edited.time), edited.roads.n_edges)
    wrong = [
        f"`{name}` has the shape {values.shape}, not {shape}"
        for name, values in (("speed_kmh", speed_kmh), ("flow_vph", flow_vph))
        if values.shape != shape
    ]
    options = {"reach_min": reach_min, "n_places": n_places, "n_iterations": n_iterations}
    wrong += [f"`{name}` is {value}, not above 0" for name, value in options.items() if value <= 0]
    if not wrong:
        wrong += [
            f"`{name}` is below 0 at {int((values < 0).sum())} places"
            for name, values in (("speed_kmh", speed_kmh), ("flow_vph", flow_vph))
            if (values < 0).any()
        ]
    if wrong:
        raise InputError("cannot divert: " + "; ".join(wrong))
