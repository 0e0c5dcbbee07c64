"""Which trips use a street, and which way they take without it; for one hour."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import dijkstra

from stgraph.graph import BoolArray, IntArray
from stgraph.scenario._routes import Routes, build_routes, grow_trees
from stgraph.scenario.turns import TurnNetwork

Float64s = npt.NDArray[np.float64]
Times = Callable[[Float64s], Float64s]  # flows (E,) to minutes (E,)

_PER_MIN = 0.1  # the longer a trip, the rarer: exp(-0.1 / min)
_SHARP_PER_MIN = 2.0  # who takes a street that is so much longer: exp(-2 / min)
_LONGEST_MIN = 3.0  # nobody takes a street that is longer by more
_N_ROUNDS = 5  # of fitting trips to the flows on their way


class Trips(NamedTuple):
    """Trips from junction to junction that have to find another way."""

    origin: IntArray  # (P,) positions of junctions
    end: IntArray  # (P,)
    vph: Float64s  # (P,)


def find_trips(
    net: TurnNetwork,
    ends: IntArray,
    minutes: Float64s,
    flow: Float64s,
    leaving: Float64s,
    *,
    reach_min: float,
    n_places: int,
) -> tuple[Trips, Float64s]:
    """Return trips that may explain the flows of streets that have to be left.

    Parameters
    ----------
    net, minutes
        The network before, with its E times.
    ends
        (2, E) junctions where the streets begin and end.
    flow
        (E,) vehicles per hour, 0 where not known.
    leaving
        (E,) how many of them have to leave a street.
    reach_min, n_places
        How far trips begin and end from these streets, and at how many junctions.

    Returns
    -------
    Trips
        Of each street as many as have to leave it.
    Float64s
        (E,) flows of these trips on their ways, nowhere more than `flow`.
    """
    E, (sources, targets) = len(flow), ends
    routes = build_routes(net, minutes)
    streets = np.flatnonzero(leaving > 0)
    streets = streets[np.argsort(-leaving[streets], kind="stable")]
    places, leave, enter = _places(routes, flow, streets, reach_min, n_places)
    trees = grow_trees(routes, places)
    after = grow_trees(routes, net.target[streets])  # from where the streets end
    end_nodes = net.end_of[places]
    rare = np.exp(-_PER_MIN * np.where(np.isfinite(trees.minutes), trees.minutes, 1e3))
    weight = leave[:, None] * enter[None, :] * rare[:, end_nodes]
    left, owed, removed = flow.copy(), leaving.copy(), np.zeros(E)
    found: list[Trips] = []
    for i, street in enumerate(streets):
        if owed[street] <= 1e-9:
            continue
        first = net.source[street]
        via = trees.minutes[:, first][:, None] + minutes[street] + after.minutes[i][end_nodes]
        with np.errstate(invalid="ignore"):  # no way at all: NaN, which is not small
            longer = via - trees.minutes[:, end_nodes]
        share = np.exp(-_SHARP_PER_MIN * np.fmax(longer, 0.0))
        share = np.where(longer <= _LONGEST_MIN, share, 0.0)
        share[places[:, None] == places[None, :]] = 0.0
        ways = (
            trees.links_to(np.arange(len(places)), np.full(len(places), first)),
            after.links_to(np.full(len(places), i), end_nodes),
        )
        table, rest = _fit(weight * share, owed[street], ways, left)
        u, w = np.nonzero(table)
        used = np.zeros(E)
        for (way, link), amount in zip(ways, (table.sum(1), table.sum(0)), strict=True):
            used += np.bincount(link, amount[way], minlength=E)
        used[street] += owed[street]
        # what cannot come from farther away goes round this street alone
        found.append(Trips(places[u], places[w], table[u, w]))
        found.append(Trips(sources[[street]], targets[[street]], np.array([rest])))
        removed += used
        left = np.maximum(left - used, 0.0)
        owed = np.maximum(owed - used, 0.0)
    return _joined(found, len(net.end_of)), np.minimum(removed, flow)


def spread_trips(
    net: TurnNetwork,
    trips: Trips,
    times: Times,
    remaining: Float64s,
    is_open: BoolArray,
    *,
    n_iterations: int,
) -> tuple[Float64s, Float64s]:
    """Return the flows of trips on the ways that are left, and those that have none.

    Parameters
    ----------
    net
        The network after the change.
    trips
        To be put onto it.
    times
        What a flow does to the times.
    remaining
        (E,) flow that is there already.
    is_open
        (E,) where these trips may drive.
    n_iterations
        Each time the last flows make the times of the next, and the mean of all counts.

    Returns
    -------
    Float64s
        (E,) vehicles per hour.
    Float64s
        (P,) of each pair of `trips` that find no way.
    """
    added, unserved = np.zeros(len(remaining)), np.zeros(len(trips.vph))
    origins, row = np.unique(trips.origin, return_inverse=True)
    end = net.end_of[trips.end]
    elsewhere = trips.origin != trips.end
    for iteration in range(n_iterations):
        minutes = np.where(is_open, times(remaining + added), np.inf)
        trees = grow_trees(build_routes(net, minutes), origins)
        lost = elsewhere & ~np.isfinite(trees.minutes[row, end])
        unserved = np.where(lost, trips.vph, 0.0)
        way, link = trees.links_to(row, end)
        now = np.bincount(link, trips.vph[way], minlength=len(remaining))
        added += (now - added) / (iteration + 1)
    return added, unserved


def _places(
    routes: Routes, flow: Float64s, streets: IntArray, reach_min: float, n_places: int
) -> tuple[IntArray, Float64s, Float64s]:
    """Return junctions around some streets, and how much traffic begins and ends there."""
    net = routes.net
    n_junctions = len(net.end_of)
    # how much passes is the best that is known of how much begins and ends
    E = len(flow)
    begins = _per_junction(net, net.source[:E], flow, outgoing=True)
    ends = _per_junction(net, net.target[:E], flow, outgoing=False)
    to = dijkstra(routes.matrix.T.tocsr(), indices=net.source[streets], min_only=True)
    away = dijkstra(routes.matrix, indices=net.target[streets], min_only=True)
    to, away = np.asarray(to)[:n_junctions], np.asarray(away)[net.end_of]
    near = np.minimum(to, away)
    score = np.where(near <= reach_min, (begins + ends) * np.exp(-_PER_MIN * near), -1.0)
    best = np.argsort(-score, kind="stable")[:n_places]
    best = np.sort(best[score[best] > 0])
    return best, begins[best], ends[best]


def _per_junction(net: TurnNetwork, node: IntArray, flow: Float64s, *, outgoing: bool) -> Float64s:
    """Return how much leaves or enters every junction."""
    total = np.bincount(node, flow, minlength=net.n_nodes).astype(np.float64)
    connector = net.link_of < 0
    a, b = net.source[connector], net.target[connector]
    # a street that begins or ends at a node of its own belongs to the junction behind the connector
    n = len(net.end_of)
    found = total[:n].copy()
    if outgoing:
        at_junction = a < n
        to_gate = at_junction & (b != net.end_of[np.where(at_junction, a, 0)])
        np.add.at(found, a[to_gate], total[b[to_gate]])
    else:
        junction_of_end = np.full(net.n_nodes, -1)
        junction_of_end[net.end_of] = np.arange(n)
        to_end = (a >= n) & (junction_of_end[b] >= 0)
        np.add.at(found, junction_of_end[b[to_end]], total[a[to_end]])
    return found


def _fit(
    weight: Float64s,
    amount: float,
    ways: tuple[tuple[IntArray, IntArray], tuple[IntArray, IntArray]],
    left: Float64s,
) -> tuple[Float64s, float]:
    """Return trips (U, W) with no more on any street than passes there, and what is missing."""
    total = weight.sum()
    if not total > 0:
        return np.zeros_like(weight), float(amount)
    table = weight * (amount / total)
    for turn in range(_N_ROUNDS):
        used = np.zeros(len(left))
        for (way, link), part in zip(ways, (table.sum(1), table.sum(0)), strict=True):
            used += np.bincount(link, part[way], minlength=len(left))
        room = np.minimum(1.0, left / np.maximum(used, 1e-12))
        limits = []
        for (way, link), size in zip(ways, table.shape, strict=True):
            limit = np.ones(size)
            np.minimum.at(limit, way, room[link])
            limits.append(limit)
        table = table * limits[0][:, None] * limits[1][None, :]
        if turn < _N_ROUNDS - 1 and table.sum() > 0:
            table *= amount / table.sum()
    return table, float(max(amount - table.sum(), 0.0))


def _joined(found: list[Trips], n_junctions: int) -> Trips:
    """Return all trips, each pair once."""
    if not found:
        nothing = np.zeros(0, dtype=np.int64)
        return Trips(nothing, nothing, np.zeros(0))
    origin, end, vph = (np.concatenate(part) for part in zip(*found, strict=True))
    code, which = np.unique(origin * n_junctions + end, return_inverse=True)
    total = np.bincount(which, vph, minlength=len(code)).astype(np.float64)
    kept = total > 0
    return Trips(code[kept] // n_junctions, code[kept] % n_junctions, total[kept])
