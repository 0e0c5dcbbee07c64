"""One run of UXsim on a network whose states change while it runs.

All arrays are of the engine's own links: those of the segments, and those that stand for turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stgraph import _optional
from stgraph.graph import BoolArray, IntArray

Floats = npt.NDArray[np.float64]

STEP_S = 6.0  # divides the time between looks at the routes, so that closures come with one
JAM_PER_M = 0.2  # cars per metre and lane that stand
_NO_LIMIT = 1e10  # the engine's own word for it
_ARRIVED = 3  # state of a car, also that


@dataclass(frozen=True, eq=False)
class Links:
    """The network of a run: K links between nodes, and their S states."""

    source: IntArray  # (K,) positions of nodes
    target: IntArray  # (K,)
    n_nodes: int
    length_m: Floats  # (K,)
    lanes: IntArray  # (K,)
    speed_kmh: Floats  # (S, K)
    capacity_vph: Floats  # (S, K) of the end of the link; inf: as many as its lanes can take
    is_open: BoolArray  # (S, K)
    starts_s: Floats  # (C,) seconds after the begin, rising from 0, when states begin
    states: IntArray  # (C,) which
    entry: IntArray  # (E,) the link where a segment begins, -1: none
    exit: IntArray  # (E,) the link where it ends
    edges_s: Floats  # (H + 1,) seconds: borders of the intervals that are reported


@dataclass(frozen=True, eq=False)
class Departures:
    """Platoons of cars, in the order of their departure."""

    step: IntArray  # (M,) of STEP_S
    source: IntArray  # (M,) positions of nodes
    target: IntArray  # (M,)


@dataclass(frozen=True, eq=False)
class Passage:
    """What a run gives."""

    distance_m: Floats  # (H, E) driven on the segment by all cars in the interval
    time_s: Floats  # (H, E) spent there
    n_entered: Floats  # (K,) cars that went into a link until the end
    n_left: Floats  # (K,) and out of it
    n_trips: float  # cars that wanted to depart
    n_under_way: float  # of these, how many had not arrived at the end


def run(
    links: Links, departures: Departures, *, platoon: int, routes_s: float, seed: int
) -> Passage:
    """Simulate traffic once.

    Parameters
    ----------
    links
        The network; parts of a junction must not have two links between the same nodes.
    departures
        Who departs when.
    platoon
        Cars that move as one.
    routes_s
        How often drivers look at the speeds of the moment, in seconds.
    seed
        Of the engine: the same seed gives the same run.

    Returns
    -------
    Passage
        Distance and time by segment and interval, from the curves of cars that came and went.
    """
    world, handles = _build(links, platoon=platoon, routes_s=routes_s, seed=seed)
    _load(world, departures, platoon=platoon)
    world.finalize_scenario()
    last = float(links.edges_s[-1])
    for begin, state, end in zip(
        links.starts_s, links.states, [*links.starts_s[1:], last], strict=True
    ):
        if begin >= last:
            break
        if begin > 0:
            _change(handles, links, int(state))
        # the engine goes up to and including the step of `until_t`
        world.exec_simulation(until_t=min(float(end), last) - 0.5 * STEP_S)
    arrived = sum(state == _ARRIVED for _, state in world._cpp_world.get_all_vehicle_states())
    n_trips = len(departures.step)
    passage = Passage(
        *_measure(links, handles, platoon=platoon),
        n_trips=float(n_trips * platoon),
        n_under_way=float((n_trips - arrived) * platoon),
    )
    # its parts know each other: hundreds of MB would stay until the next collection of garbage
    for part in (*world.NODES, *world.LINKS, world):
        vars(part).clear()
    return passage


def memory_gb(links: Links, *, n_platoons: float, routes_s: float) -> float:
    """Return about how much memory a run takes.

    The engine keeps the way from every node to every other one for each look at the routes, a
    number per car and link, and eight numbers per link and step.
    """
    n, k = links.n_nodes, len(links.source)
    duration = float(links.edges_s[-1])
    routes = n * n * (8 * duration / routes_s + 60) + 8 * n * k
    cars = n_platoons * (8 * k + n / 8 + 2500)
    return (routes + cars + 64 * k * duration / STEP_S) / 1e9


def _build(links: Links, *, platoon: int, routes_s: float, seed: int) -> tuple[Any, list[Any]]:
    """Return the engine's world with the first state, and its links."""
    uxsim = _optional.require("uxsim", extra="sim")
    world = uxsim.World(
        cpp=True,
        deltan=platoon,
        reaction_time=STEP_S / platoon,
        duo_update_time=routes_s,
        tmax=float(links.edges_s[-1]) + STEP_S,  # the last step ends it, which takes time
        random_seed=seed,
        vehicle_logging_timestep_interval=0,
        print_mode=0,
        save_mode=0,
        show_mode=0,
        threads=1,
    )
    for node in range(links.n_nodes):
        world.addNode(str(node), 0.0, 0.0)
    first = int(links.states[0])
    handles = [
        world.addLink(
            str(k),
            str(links.source[k]),
            str(links.target[k]),
            float(links.length_m[k]),
            free_flow_speed=float(links.speed_kmh[first, k]) / 3.6,
            jam_density_per_lane=JAM_PER_M,
            number_of_lanes=int(links.lanes[k]),
            capacity_out=_per_second(links.capacity_vph[first, k]),
            capacity_in=_NO_LIMIT if links.is_open[first, k] else 0.0,
        )
        for k in range(len(links.source))
    ]
    return world, handles


def _per_second(capacity_vph: float) -> float:
    """Return a capacity as the engine wants it."""
    return float(capacity_vph) / 3600 if np.isfinite(capacity_vph) else _NO_LIMIT


def _load(world: Any, departures: Departures, *, platoon: int) -> None:
    """Give every platoon to the engine by itself, which drops what is less than one."""
    add = _optional.require("uxsim.uxsim_cpp", extra="sim").add_demand
    flow = platoon / STEP_S * (1 + 1e-6)  # a platoon in one step, also after rounding
    for step, source, target in zip(
        departures.step.tolist(),
        departures.source.tolist(),
        departures.target.tolist(),
        strict=True,
    ):
        begin = (step + 0.5) * STEP_S
        add(world._cpp_world, str(source), str(target), begin, begin + STEP_S, flow, [])


def _change(handles: list[Any], links: Links, state: int) -> None:
    """Bring another state about; cars on a link that closes drive on to its end."""
    speed, capacity = links.speed_kmh[state], links.capacity_vph[state]
    for k, link in enumerate(handles):
        link.capacity_in = _NO_LIMIT if links.is_open[state, k] else 0.0
        link.capacity_in_remain = _NO_LIMIT if links.is_open[state, k] else 0.0
        link.capacity_out = _per_second(capacity[k])
        if link.u != speed[k] / 3.6:
            link.change_free_flow_speed(float(speed[k]) / 3.6)


def _measure(
    links: Links, handles: list[Any], *, platoon: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return distances, times, and cars in and out, from the cumulative curves of all links."""
    shape = (len(links.edges_s) - 1, len(links.entry))
    distance, time = np.zeros(shape), np.zeros(shape)
    entered, left = np.zeros(len(handles)), np.zeros(len(handles))
    n_steps = int(links.edges_s[-1] / STEP_S)
    curves = [(link.cum_arrival[:n_steps], link.cum_departure[:n_steps]) for link in handles]
    for k, (arrivals, leavings) in enumerate(curves):
        entered[k], left[k] = arrivals[-1], leavings[-1]
    slowest = links.speed_kmh.min(axis=0) / 3.6
    for e, (first, last) in enumerate(zip(links.entry, links.exit, strict=True)):
        if first < 0 or entered[first] == 0:
            continue
        length = links.length_m[first] + (links.length_m[last] if last != first else 0.0)
        come, gone = _instants(curves[first][0], platoon), _instants(curves[last][1], platoon)
        # those who are still there: as fast as they could, at the earliest after the end
        rest = come[len(gone) :] + length / slowest[first]
        gone = np.concatenate([gone, np.maximum(rest, links.edges_s[-1])])
        distance[:, e], time[:, e] = edie(come, gone, links.edges_s)
        distance[:, e] *= length * platoon
        time[:, e] *= platoon
    return distance, time, entered, left


def _instants(curve: Floats, platoon: int) -> Floats:
    """Return when every platoon passed, in seconds, from a cumulative curve."""
    passed = np.rint(np.diff(curve, prepend=0.0) / platoon).astype(np.int64)
    return np.repeat(np.arange(len(curve), dtype=np.float64), passed) * np.float64(STEP_S)


def edie(come: Floats, gone: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Share out lengths and times of passages over intervals.

    Parameters
    ----------
    come, gone
        (M,) seconds when cars came and went, both rising; who came first goes first.
    edges
        (H + 1,) seconds, rising: the borders of the intervals.

    Returns
    -------
    tuple
        (H,) passages, as shares of the length; and (H,) seconds spent.
    """
    gone = np.maximum(gone, come + 1e-9)
    first = np.searchsorted(gone, edges, side="right")  # before it: gone
    last = np.searchsorted(come, edges, side="left")  # from it on: not yet come
    spent = np.concatenate([[0.0], np.cumsum(gone - come)])
    shares, times = first.astype(np.float64), spent[first]
    for i in np.flatnonzero(last > first):
        inside = slice(first[i], last[i])
        there = edges[i] - come[inside]
        shares[i] += float((there / (gone[inside] - come[inside])).sum())
        times[i] += float(there.sum())
    return shares[1:] - shares[:-1], times[1:] - times[:-1]
