"""From matched points to metres and seconds on every segment that a vehicle passed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stgraph_connectors._hmm import Matched, Network
from stgraph_connectors._search import Floats, Found, Ints, search_near

_SLACK_M = 0.01  # what is lost in adding and subtracting offsets


@dataclass(frozen=True)
class Travel:
    """Pieces of drives, each on one segment."""

    segment: Ints  # (R,) positions in the network
    metres: Floats  # (R,)
    seconds: Floats  # (R,) spent for them
    at: Floats  # (R,) instant of the middle of the piece
    drive: Ints  # (R,) number of the drive, so that a vehicle is counted once

    def take(self, rows: npt.NDArray[np.bool_]) -> Travel:
        """Return some of the pieces."""
        return Travel(
            self.segment[rows], self.metres[rows], self.seconds[rows], self.at[rows],
            self.drive[rows],
        )  # fmt: skip


def follow_routes(network: Network, matched: Matched, seconds: Floats, trip: Ints) -> Travel:
    """Return what was driven between the points that are linked.

    Between two points the speed is taken as even: time is shared out by metres.

    Parameters
    ----------
    network, matched
        As `match_points` takes and gives them.
    seconds, trip
        (P,) of the points, as for `match_points`.
    """
    used = np.flatnonzero(matched.segment >= 0)
    pairs = used[1:][matched.linked[used[1:]]]
    before = used[np.flatnonzero(matched.linked[used[1:]])]
    a, b = matched.segment[before], matched.segment[pairs]
    from_m, to_m = matched.offset_m[before], matched.offset_m[pairs]
    limit = matched.route_m[pairs] + from_m - to_m + _SLACK_M  # from start to start
    inner, inner_of = _inner_segments(network, a, b, limit)

    # pieces: on the first segment, on the last where it is another, and on those between
    rows = np.arange(len(a))
    other = a != b
    first_m = np.where(other, network.length_m[a] - from_m, np.maximum(to_m - from_m, 0.0))
    row = np.concatenate([rows, inner_of, rows[other]])
    segment = np.concatenate([a, inner, b[other]])
    metres = np.concatenate([np.maximum(first_m, 0.0), network.length_m[inner], to_m[other]])
    rank = np.concatenate([np.zeros(len(rows)), _ranks(inner_of), np.full(int(other.sum()), 1e9)])
    order = np.lexsort((rank, row))
    row, segment, metres = row[order], segment[order], metres[order]

    total = np.bincount(row, metres, len(a))
    n_pieces = np.bincount(row, minlength=len(a))
    share = np.where(
        total[row] > 0, metres / np.where(total > 0, total, 1.0)[row], 1.0 / n_pieces[row]
    )
    spent = share * (seconds[pairs] - seconds[before])[row]
    passed = np.cumsum(spent)
    begin = np.concatenate([[0.0], passed])[np.searchsorted(row, np.arange(len(a)))]
    at = seconds[before][row] + passed - begin[row] - spent / 2 if len(row) else passed
    return Travel(segment, metres, spent, at, trip[before][row])


def _ranks(groups: Ints) -> Floats:
    """Return 1, 2, 3, ... within each run of equal numbers."""
    if len(groups) == 0:
        return np.zeros(0)
    starts = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
    lengths = np.diff(np.append(starts, len(groups)))
    ranks: Floats = (np.arange(len(groups)) - np.repeat(starts, lengths) + 1).astype(np.float64)
    return ranks


def _inner_segments(network: Network, a: Ints, b: Ints, limit: Floats) -> tuple[Ints, Ints]:
    """Return the segments between those of each pair in driving order, and whose they are."""
    n = len(network.length_m)
    rows = np.flatnonzero(a != b)
    keys, back = np.unique(a[rows] * n + b[rows], return_inverse=True)
    sources, targets = np.divmod(keys, n)
    distinct = np.unique(sources)
    widest = np.zeros(len(distinct))
    np.maximum.at(widest, np.searchsorted(distinct, a[rows]), limit[rows])
    first = np.searchsorted(sources, [*distinct, n])  # keys are sorted by source
    paths: list[list[int]] = [[] for _ in keys]
    for found in search_near(network.ways, network.start_xy, distinct, widest):
        for row, place in enumerate(found.sources.tolist()):
            for k in range(first[place], first[place + 1]):
                paths[k] = _walk_back(found, row, int(targets[k]))
    counts = np.array([len(paths[k]) for k in back], dtype=np.int64)
    inner = np.array([s for k in back for s in paths[k]], dtype=np.int64)
    return inner, np.repeat(rows, counts)


def _walk_back(found: Found, row: int, target: int) -> list[int]:
    """Return the segments between the source of a row and a target, in driving order."""
    tree = found.previous[row]
    at = int(tree[np.searchsorted(found.nodes, target)])
    path = []
    while at >= 0:
        path.append(int(found.nodes[at]))
        at = int(tree[at])
    return path[-2::-1]  # without the source, which is the last
