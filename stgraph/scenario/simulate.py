"""Simulate baseline and scenario car by car (UXsim), often enough to know the noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import pandas as pd

from stgraph import _optional
from stgraph.errors import InputError
from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph.scenario import _microworld as microworld
from stgraph.scenario._departures import draw
from stgraph.scenario._links import Network, Timetable, build_network, reachable
from stgraph.scenario._microworld import JAM_PER_M, STEP_S, Departures, Floats, Links, Passage
from stgraph.scenario.states import Edited, RoadState

MIN_REPLICATES = 8  # with fewer, the noise is not known
_SIGMAS = 2.0  # smaller changes are not significant
_PLATOONS = range(3, 11)  # cars
_ROUTES_S = (300.0, 600.0, 900.0, 1800.0)
_STUCK = 0.05  # share of the trips under way at the end that is told


@dataclass(frozen=True, eq=False)
class Simulated:
    """Speeds and flows of R runs with and without a scenario.

    NaN where a segment is closed for the whole hour; free speed where nobody drives. Parts of a
    segment that the scenario splits have the baseline of the whole.
    """

    hours: pd.DatetimeIndex  # (H,) UTC
    speed_base_runs: Floats  # (R, H, E) km/h: length driven over time spent
    speed_scn_runs: Floats
    flow_base_runs: Floats  # (R, H, E) cars per hour
    flow_scn_runs: Floats
    unserved_base: Floats  # (Z, Z) trips that have no way, not simulated
    unserved_scn: Floats
    n_trips: tuple[float, float]  # simulated in baseline and scenario, mean over the runs
    n_under_way: tuple[float, float]  # of these, not arrived at the end
    platoon: int  # cars that move as one
    report: Report = field(default_factory=Report)

    @property
    def n_replicates(self) -> int:
        """Number of runs R."""
        return len(self.speed_base_runs)

    def change(self, quantity: str, *, hours: BoolArray | None = None) -> Change:
        """Return by how much the scenario changes speed or flow, and how sure that is.

        Parameters
        ----------
        quantity
            ``"speed"`` or ``"flow"``.
        hours
            (H,) the hours to take the mean of first, which has less noise; None: each by itself.

        Returns
        -------
        Change
            Arrays (H, E), or (E,) if there are `hours`.
        """
        if quantity not in ("speed", "flow"):
            raise InputError(f"`quantity` is {quantity!r}; it may be 'speed' or 'flow'")
        runs = [getattr(self, f"{quantity}_{side}_runs") for side in ("base", "scn")]
        if hours is not None:
            runs = [_mean(run[:, hours], axis=1) for run in runs]
        means = [_mean(run, axis=0) for run in runs]
        errors = [run.var(axis=0, ddof=1) / len(run) for run in runs]
        difference, error = means[1] - means[0], np.sqrt(errors[0] + errors[1])
        significant = np.isfinite(difference) & (np.abs(difference) >= _SIGMAS * error)
        return Change(means[0], means[1], difference, error, significant & (difference != 0))


class Change(NamedTuple):
    """Means over the runs and their difference."""

    base: Floats
    scn: Floats
    difference: Floats
    error: Floats  # standard error of the difference
    significant: BoolArray  # the difference is at least twice that


def simulate(
    edited: Edited,
    junctions: IntArray,
    baseline: Floats,
    scenario: Floats,
    *,
    hours: pd.DatetimeIndex,
    n_replicates: int = MIN_REPLICATES,
    seed: int = 0,
    warm_up_hours: int = 1,
    platoon: int | None = None,
    max_memory_gb: float = 4.0,
    n_processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Simulated:
    """Simulate the traffic of some hours with and without a scenario, several times each.

    Parameters
    ----------
    edited
        The roads and what the scenario makes of them, with its times.
    junctions
        (Z,) positions of the junctions where the trips of a zone begin and end.
    baseline, scenario
        (H, Z, Z) cars per hour, from row to column.
    hours
        (H,) UTC beginnings of hours that follow on each other.
    n_replicates
        Runs of each side, at least 8, each with its own departures and chance.
    seed
        Of all chance; the same seed gives the same numbers, in any number of processes.
    warm_up_hours
        Hours with the trips of the first hour, before it, that are not reported.
    platoon
        Cars that move as one; more is faster and coarser. None: 3, or more where the lanes could
        not take the capacities or the memory would not suffice.
    max_memory_gb
        Larger runs are refused.
    n_processes
        Runs at the same time, each in a process; these share `max_memory_gb`.
    progress
        Is told how many of all runs are done, after each.

    Returns
    -------
    Simulated
        Speeds and flows by run, hour and segment.

    Raises
    ------
    InputError
        The arrays do not fit together, there are too few replicates, or the network is too large.
    MissingExtraError
        UXsim is not installed.
    """
    _check(edited, junctions, (baseline, scenario), hours, n_replicates)
    _optional.require("uxsim", extra="sim")
    report = Report()
    begin = hours[0] - pd.Timedelta(hours=warm_up_hours)
    edges: Floats = np.arange(warm_up_hours, warm_up_hours + len(hours) + 1) * np.float64(3600)
    always = Timetable(np.zeros(1), np.zeros(1, dtype=np.int64), edges)
    changing = Timetable(*_switches(edited, begin), edges)
    sides = [
        _prepare(edited, states, timetable, junctions, _with_warm_up(trips, warm_up_hours))
        for states, timetable, trips in (
            ((edited.baseline,), always, baseline),
            (edited.periods, changing, scenario),
        )
    ]
    size = _fit(sides, platoon, max_memory_gb / max(n_processes, 1), report)
    runs = []
    for passage in _run_all(_jobs(sides, junctions, size, n_replicates, seed), n_processes):
        runs.append(passage)
        if progress is not None:
            progress(len(runs), 2 * n_replicates)
    result = _collect(edited, hours, sides, runs, size, report)
    _tell(result, sides)
    return result


class _Side(NamedTuple):
    """Baseline or scenario, ready to run."""

    network: Network
    trips: Floats  # (W + H, Z, Z) that have a way
    lost: Floats  # (Z, Z) trips that have none
    free_kmh: Floats  # (H, E) NaN where closed


class _Size(NamedTuple):
    """How coarse the runs are."""

    platoon: int
    routes_s: float


class _Job(NamedTuple):
    """One run."""

    links: Links
    departures: Departures
    size: _Size
    seed: int


def _check(
    edited: Edited,
    junctions: IntArray,
    trips: tuple[Floats, Floats],
    hours: pd.DatetimeIndex,
    n_replicates: int,
) -> None:
    """Raise one error with all that does not fit together."""
    report = Report()
    if n_replicates < MIN_REPLICATES:
        report.error(
            "`n_replicates`",
            f"is {n_replicates}; the noise is not known with fewer than {MIN_REPLICATES}",
            f"give at least {MIN_REPLICATES}",
        )
    steps = np.diff(hours.as_unit("s").asi8)
    if len(hours) == 0 or hours.tz is None or (steps != 3600).any():
        report.error("`hours`", "are not hours that follow on each other, with a zone", "")
    size = (len(hours), len(junctions), len(junctions))
    for name, side in zip(("baseline", "scenario"), trips, strict=True):
        if side.shape != size:
            report.error(f"`{name}`", f"has the shape {side.shape}", f"give (H, Z, Z) = {size}")
        elif not (np.isfinite(side).all() and (side >= 0).all()):
            report.error(f"`{name}`", "has trips that are negative or no numbers", "")
    places = np.asarray(junctions)
    if len(places) and not (places.min() >= 0 and places.max() < edited.roads.n_nodes):
        report.error(
            "`junctions`", f"name position {places.max()} of {edited.roads.n_nodes} junctions", ""
        )
    report.raise_errors(InputError, title="cannot simulate")


def _with_warm_up(trips: Floats, warm_up_hours: int) -> Floats:
    """Return the trips with those of the first hour in front, as often as asked for."""
    return np.concatenate([trips[:1]] * warm_up_hours + [trips])


def _switches(edited: Edited, begin: pd.Timestamp) -> tuple[Floats, IntArray]:
    """Return when, in seconds after the begin, which state of the scenario begins."""
    seconds = (edited.time - begin).total_seconds().to_numpy()
    states = np.asarray(edited.period_of, dtype=np.int64)
    changed = np.concatenate([[True], states[1:] != states[:-1]])
    seconds, states = seconds[changed], states[changed]
    # what holds at the begin; before the first step what holds there
    first = max(int(np.searchsorted(seconds, 0.0, side="right")) - 1, 0)
    starts = np.maximum(seconds[first:], 0.0)
    starts[0] = 0.0
    return starts, states[first:]


def _prepare(
    edited: Edited,
    states: Sequence[RoadState],
    timetable: Timetable,
    junctions: IntArray,
    trips: Floats,
) -> _Side:
    """Build the network of a side and leave out the trips that have no way in their hour."""
    source, target = edited.roads.edge_index
    length_m = np.asarray(_edges(edited)["length_m"], dtype=np.float64)
    network = build_network(source, target, edited.roads.n_nodes, length_m, states, timetable)
    middle = (np.arange(len(trips)) + 0.5) * 3600
    state_of = timetable.states[np.searchsorted(timetable.starts_s, middle, side="right") - 1]
    ways = {state: reachable(network, junctions, state) for state in set(state_of.tolist())}
    served = np.stack([ways[state] for state in state_of.tolist()])
    here = junctions[:, None] == junctions[None, :]
    warm_up = len(trips) - (len(timetable.edges_s) - 1)
    lost = np.where(served | here, 0.0, trips)[warm_up:].sum(axis=0)
    return _Side(network, np.where(served, trips, 0.0), lost, _free_speeds(states, timetable))


def _edges(edited: Edited) -> pd.DataFrame:
    """Return the table of segments."""
    if edited.roads.edges is None:
        raise InputError("`edited.roads` has no table of edges; read roads with junctions as nodes")
    return edited.roads.edges


def _free_speeds(states: Sequence[RoadState], timetable: Timetable) -> Floats:
    """Return the free speed of segments by hour, NaN where they are closed all of it."""
    borders = timetable.edges_s
    ends = np.append(timetable.starts_s[1:], max(borders[-1], timetable.starts_s[-1]))
    total = np.zeros((len(borders) - 1, len(states[0].is_open)))
    weight = np.zeros_like(total)
    for start, end, state in zip(timetable.starts_s, ends, timetable.states, strict=True):
        there = np.clip(np.minimum(end, borders[1:]) - np.maximum(start, borders[:-1]), 0, None)
        share = there[:, None] * states[int(state)].is_open[None, :]
        weight += share
        total += share * np.nan_to_num(states[int(state)].speed_kmh)[None, :]
    mean: Floats = np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)
    return mean


def _fit(
    sides: Sequence[_Side], platoon: int | None, max_memory_gb: float, report: Report
) -> _Size:
    """Return the finest size that the capacities and the memory allow, or refuse."""
    finest = _finest_platoon(sides[0].network.links) if platoon is None else platoon
    platoons = range(finest, max(_PLATOONS.stop, finest + 1)) if platoon is None else (platoon,)

    def memory(size: _Size) -> float:
        return max(
            microworld.memory_gb(
                side.network.links,
                n_platoons=float(side.trips.sum()) / size.platoon,
                routes_s=size.routes_s,
            )
            for side in sides
        )

    sizes = [_Size(cars, seconds) for seconds in _ROUTES_S for cars in platoons]
    for size in sizes:
        if memory(size) <= max_memory_gb:
            if size != sizes[0]:
                report.info(
                    "simulation",
                    f"made coarser to stay below {max_memory_gb:.1f} GB",
                    f"{size.platoon} cars move as one, routes every {size.routes_s:.0f} s",
                )
            return size
    links = sides[0].network.links
    raise InputError(
        f"simulating {len(links.source)} links, {links.n_nodes} junctions and "
        f"{sides[0].trips.sum():.0f} trips takes about {memory(sizes[-1]):.1f} GB a run, more than "
        f"{max_memory_gb:.1f}; simulate fewer hours or a part of the network, raise "
        "`max_memory_gb`, or use the method 'assignment'"
    )


def _finest_platoon(links: Links) -> int:
    """Return the smallest platoon with which lanes can take the capacities of nearly all links."""
    lane_vph = links.capacity_vph[0] / links.lanes
    metres_per_s = links.speed_kmh[0] / 3.6
    counted = np.isfinite(lane_vph) & links.is_open[0]
    for platoon in _PLATOONS:
        headway = STEP_S / platoon + 1 / (metres_per_s * JAM_PER_M)
        if (3600 / headway >= lane_vph)[counted].mean() >= 0.95:
            return platoon
    return _PLATOONS[-1]


def _jobs(
    sides: Sequence[_Side], junctions: IntArray, size: _Size, n_replicates: int, seed: int
) -> Iterator[_Job]:
    """Yield the runs: of every replicate the baseline, then the scenario."""
    for replicate in range(n_replicates):
        drawn = draw(sides[0].trips, sides[1].trips, platoon=size.platoon, seed=(seed, replicate))
        engine = int(np.random.SeedSequence((seed, replicate)).generate_state(1)[0] >> 1)
        for side, platoons in zip(sides, drawn, strict=True):
            departures = Departures(
                np.floor(platoons.time_s / STEP_S).astype(np.int64),
                side.network.node_of[junctions[platoons.origin]],
                side.network.end_of[junctions[platoons.destination]],
            )
            yield _Job(side.network.links, departures, size, engine)


def _run(job: _Job) -> Passage:
    """Do one run, here or in a process of its own."""
    return microworld.run(
        job.links,
        job.departures,
        platoon=job.size.platoon,
        routes_s=job.size.routes_s,
        seed=job.seed,
    )


def _run_all(jobs: Iterable[_Job], n_processes: int) -> Iterator[Passage]:
    """Yield what the runs give, in their order."""
    if n_processes <= 1:
        yield from map(_run, jobs)
        return
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_run, jobs)


def _collect(
    edited: Edited,
    hours: pd.DatetimeIndex,
    sides: Sequence[_Side],
    runs: Sequence[Passage],
    size: _Size,
    report: Report,
) -> Simulated:
    """Put the runs of both sides side by side."""
    halves = [runs[0::2], runs[1::2]]
    speeds = [
        np.stack([_speed(run, side.free_kmh) for run in half])
        for half, side in zip(halves, sides, strict=True)
    ]
    flows = [
        np.stack([run.distance_m / _lengths(side) + 0 * side.free_kmh for run in half])
        for half, side in zip(halves, sides, strict=True)
    ]
    # parts of a segment that the scenario splits: in the baseline the whole is driven on
    part = np.flatnonzero(~edited.baseline.is_open & (edited.parent >= 0))
    for runs_of in (speeds[0], flows[0]):
        runs_of[..., part] = runs_of[..., edited.parent[part]]
    trips, waiting = (
        tuple(float(np.mean([getattr(run, name) for run in half])) for half in halves)
        for name in ("n_trips", "n_under_way")
    )
    return Simulated(
        hours=hours,
        speed_base_runs=speeds[0],
        speed_scn_runs=speeds[1],
        flow_base_runs=flows[0],
        flow_scn_runs=flows[1],
        unserved_base=sides[0].lost,
        unserved_scn=sides[1].lost,
        n_trips=(trips[0], trips[1]),
        n_under_way=(waiting[0], waiting[1]),
        platoon=size.platoon,
        report=report,
    )


def _speed(run: Passage, free_kmh: Floats) -> Floats:
    """Return speeds in km/h: free where nobody drove, NaN where closed."""
    speed = np.divide(run.distance_m * 3.6, run.time_s, out=free_kmh.copy(), where=run.time_s > 0)
    # steps of the engine are coarse: on a free road a car may seem to be too fast
    return np.minimum(speed, free_kmh)


def _lengths(side: _Side) -> Floats:
    """Return how long segments are to the engine."""
    links = side.network.links
    first, last = links.entry, links.exit
    length = links.length_m[first] + np.where(first != last, links.length_m[last], 0.0)
    return np.where(first < 0, 1.0, length)


def _tell(result: Simulated, sides: Sequence[_Side]) -> None:
    """Report trips that were not simulated or did not arrive."""
    for name, side, trips, waiting in zip(
        ("baseline", "scenario"), sides, result.n_trips, result.n_under_way, strict=True
    ):
        if side.lost.sum() > 0:
            result.report.warning(
                f"simulation, {name}", f"{side.lost.sum():.0f} trips have no way", "left out"
            )
        if waiting > _STUCK * trips:
            result.report.warning(
                f"simulation, {name}",
                f"{waiting / trips:.0%} of the trips had not arrived at the end: the traffic jams",
                "lower the demand or check the capacities; effects in a jammed city say little",
            )


def _mean(values: Floats, axis: int) -> Floats:
    """Return the mean of what is known, NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean
