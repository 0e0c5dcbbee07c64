"""Match GPS points to directed road segments by a hidden Markov model.

The model of Newson and Krumm, "Hidden Markov map matching through noise and sparseness", 2009: a
point is the likelier the nearer it is to a segment, a pair of points the likelier the better the
way along the roads between them agrees with the straight line. Routes come from bounded searches
over the turns of the network, so one-ways and forbidden turns are kept; all points of a block are
treated together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import csr_array

from stgraph_connectors._search import Floats, Ints, search_near

_BLOCK = 20_000  # points matched together
_IMPOSSIBLE = -1e30


@dataclass(frozen=True)
class MatchOptions:
    """How points are matched; lengths in metres."""

    sigma_m: float = 10.0  # standard deviation of a position, each way
    beta_m: float = 20.0  # how far route and straight line usually differ
    max_distance_m: float = 50.0  # of a point to its segment
    max_candidates: int = 10  # segments looked at per point
    max_gap_s: float = 300.0  # longest time between two points that a route may bridge
    max_speed_kmh: float = 160.0


@dataclass(frozen=True)
class Network:
    """Directed segments on a plane in metres, and the turns between them."""

    lines: npt.NDArray[np.object_]  # (S,) LineStrings in driving direction
    length_m: Floats  # (S,) along the plane
    ways: csr_array  # (S, S), entry [i, j] = metres from the start of i to the start of j
    start_xy: Floats  # (S, 2) where they begin


class Matched(NamedTuple):
    """Where each point is; segment -1 where it could not be matched."""

    segment: Ints  # (P,) positions in the network
    offset_m: Floats  # (P,) along the segment
    distance_m: Floats  # (P,) from the point to the segment
    linked: npt.NDArray[np.bool_]  # (P,) a route leads here from the point matched before
    route_m: Floats  # (P,) its length


def make_network(lines: Any, edge_index: Ints) -> Network:
    """Return a network from segments on a plane and the turns from one to the next."""
    length = np.asarray(shapely.length(lines), dtype=np.float64)
    source, target = edge_index
    # scipy takes an explicit 0 as no edge
    weights = np.maximum(length[source], 1e-6)
    ways = csr_array((weights, (source, target)), (len(length),) * 2)
    coordinates, owner = shapely.get_coordinates(lines, return_index=True)
    first = np.searchsorted(owner, np.arange(len(length)))
    return Network(lines, length, ways, coordinates[first])


def match_points(
    network: Network, xy: Floats, seconds: Floats, trip: Ints, options: MatchOptions
) -> Matched:
    """Return the segment, offset and distance of every point.

    Parameters
    ----------
    network
        Segments and turns.
    xy
        (P, 2) on the plane of the network, metres.
    seconds
        (P,) instants; rising within a trip.
    trip
        (P,) number of the trip; the points of a trip lie side by side.
    options
        Noise and limits.
    """
    tree = shapely.STRtree(network.lines)
    parts = []
    for start, stop in _blocks(trip):
        rows = slice(start, stop)
        parts.append(_match_block(network, tree, xy[rows], seconds[rows], trip[rows], options))
    if not parts:
        return _unmatched(0)
    return Matched(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _unmatched(n_points: int) -> Matched:
    """Return points of which none is on a segment."""
    segment = np.full(n_points, -1, dtype=np.int64)
    offset, distance, route = (np.full(n_points, np.nan) for _ in range(3))
    return Matched(segment, offset, distance, np.zeros(n_points, dtype=bool), route)


def _blocks(trip: Ints) -> list[tuple[int, int]]:
    """Return ranges of whole trips with about as many points each."""
    ends = np.append(np.flatnonzero(np.diff(trip)) + 1, len(trip))
    blocks, start = [], 0
    for i, end in enumerate(ends):
        if end > start and (end - start >= _BLOCK or i == len(ends) - 1):
            blocks.append((start, int(end)))
            start = int(end)
    return blocks


def _match_block(
    network: Network,
    tree: shapely.STRtree,
    xy: Floats,
    seconds: Floats,
    trip: Ints,
    options: MatchOptions,
) -> Matched:
    """Match some whole trips."""
    segment, offset, distance = _candidates(network, tree, xy, options)  # (P, K)
    there = segment >= 0
    emission = np.where(there, -0.5 * np.square(distance / options.sigma_m), _IMPOSSIBLE)
    used = np.flatnonzero(there.any(axis=1))
    result = _unmatched(len(xy))
    if len(used) == 0:
        return result
    before, after = used[:-1], used[1:]
    waited = seconds[after] - seconds[before]
    straight = np.hypot(*(xy[after] - xy[before]).T)
    goes_on = (trip[before] == trip[after]) & (waited <= options.max_gap_s)
    reach = _reach(straight, waited, options)
    route = _routes(
        network,
        (segment[before], offset[before]),
        (segment[after], offset[after]),
        np.where(goes_on, reach, -1.0),
        options,
    )  # (P - 1, K, K)
    excess = np.abs(route - straight[:, None, None])
    change = np.where(np.isfinite(route), -excess / options.beta_m, _IMPOSSIBLE)
    chosen, linked = _viterbi(emission[used], change)
    rows = np.arange(len(used))
    result.segment[used] = segment[used][rows, chosen]
    result.offset_m[used] = offset[used][rows, chosen]
    result.distance_m[used] = distance[used][rows, chosen]
    result.linked[used] = linked
    result.route_m[after] = route[rows[1:] - 1, chosen[:-1], chosen[1:]]
    return result


def _candidates(
    network: Network, tree: shapely.STRtree, xy: Floats, options: MatchOptions
) -> tuple[Ints, Floats, Floats]:
    """Return the nearest segments of every point, their offsets and distances, each (P, K)."""
    points: Any = shapely.points(xy)
    row, found = tree.query(points, predicate="dwithin", distance=options.max_distance_m)
    metres: Any = shapely.distance(points[row], network.lines[found])
    order = np.lexsort((metres, row))
    row, found, metres = row[order], found[order], metres[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    width = min(options.max_candidates, int(rank.max()) + 1 if len(rank) else 1)
    kept = rank < width
    row, found, metres, rank = row[kept], found[kept], metres[kept], rank[kept]
    segment = np.full((len(xy), width), -1, dtype=np.int64)
    offset, distance = (np.full((len(xy), width), np.nan) for _ in range(2))
    segment[row, rank] = found
    distance[row, rank] = metres
    offset[row, rank] = shapely.line_locate_point(network.lines[found], points[row])
    return segment, offset, distance


def _reach(straight: Floats, waited: Floats, options: MatchOptions) -> Floats:
    """Return the longest route that is looked for between two points."""
    slack = 4 * options.sigma_m
    detour = 3 * straight + 300.0
    return np.minimum(detour, waited * options.max_speed_kmh / 3.6) + slack


def _routes(
    network: Network,
    start: tuple[Ints, Floats],
    stop: tuple[Ints, Floats],
    reach: Floats,
    options: MatchOptions,
) -> Floats:
    """Return the metres along the roads between candidates (P, K, K); inf where there is no way.

    On the segment itself a little backwards is no move: positions are noisy.
    """
    (first, from_m), (second, to_m) = start, stop
    shape = (len(first), first.shape[1], second.shape[1])
    a = np.broadcast_to(first[:, :, None], shape)
    b = np.broadcast_to(second[:, None, :], shape)
    wanted = (a >= 0) & (b >= 0) & (reach >= 0)[:, None, None]
    along = np.broadcast_to(to_m[:, None, :] - from_m[:, :, None], shape)
    route = np.full(shape, np.inf)
    same = wanted & (a == b) & (along >= -3 * options.sigma_m)
    route[same] = np.maximum(along[same], 0.0)
    other = wanted & ~same & (a != b)
    # from start of segment to start of segment, so the offsets are added afterwards
    limit = np.broadcast_to((reach[:, None] + from_m)[:, :, None], shape)
    lengths = _between(network, a[other], b[other], limit[other])
    route[other] = np.maximum(lengths + along[other], 0.0)
    too_far = route > reach[:, None, None]
    route[too_far] = np.inf
    return route


def _between(network: Network, source: Ints, target: Ints, limit: Floats) -> Floats:
    """Return the metres from start to start of many pairs of segments, each pair once."""
    n = len(network.length_m)
    keys, back = np.unique(source * n + target, return_inverse=True)
    sources, targets = np.divmod(keys, n)
    distinct, place = np.unique(sources, return_inverse=True)
    widest = np.zeros(len(distinct))
    np.maximum.at(widest, place[back], limit)
    first = np.searchsorted(sources, distinct)  # keys are sorted by source
    count = np.diff(np.append(first, len(keys)))
    result = np.full(len(keys), np.inf)
    for found in search_near(network.ways, network.start_xy, distinct, widest):
        size = count[found.sources]
        row = np.repeat(np.arange(len(size)), size)
        pair = np.repeat(first[found.sources] - np.cumsum(size) + size, size) + np.arange(len(row))
        column = np.searchsorted(found.nodes, targets[pair])
        there = found.nodes[np.minimum(column, len(found.nodes) - 1)] == targets[pair]
        result[pair[there]] = found.lengths[row[there], column[there]]
    return result[back]


def _viterbi(emission: Floats, change: Floats) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the likeliest candidate of every point, and whether one leads on from the last.

    Where nothing leads from one point to the next, a new chain begins.
    """
    n, width = emission.shape
    best = np.zeros((n, width), dtype=np.int64)
    linked = np.zeros(n, dtype=bool)
    score = emission[0]
    scores = np.empty_like(emission)
    scores[0] = score
    for i in range(1, n):
        total = score[:, None] + change[i - 1]
        best[i] = total.argmax(axis=0)
        reached = total[best[i], np.arange(width)] + emission[i]
        linked[i] = reached.max() > _IMPOSSIBLE / 2
        score = reached if linked[i] else emission[i]
        score = score - score.max()  # so that a long chain does not run out of numbers
        scores[i] = score
    chosen = np.zeros(n, dtype=np.int64)
    chosen[-1] = scores[-1].argmax()
    for i in range(n - 1, 0, -1):
        chosen[i - 1] = best[i, chosen[i]] if linked[i] else scores[i - 1].argmax()
    return chosen, linked
