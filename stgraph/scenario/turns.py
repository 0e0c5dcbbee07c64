"""A network in which forbidden turns cannot be made."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stgraph.errors import InputError
from stgraph.graph import IntArray


class TurnNetwork(NamedTuple):
    """Junctions and links, of which some stand for turns at junctions with forbidden ones.

    A trip begins at its junction (positions below the number of junctions stay) and ends at
    `end_of` its junction. The two differ only where a turn is forbidden.
    """

    source: IntArray  # (E',) the E segments in their order, then the connectors
    target: IntArray  # (E',)
    n_nodes: int
    link_of: IntArray  # (E',) position of the segment, -1 for a connector, which takes no time
    end_of: IntArray  # (n_junctions,) where trips to a junction end


def expand(source: IntArray, target: IntArray, n_junctions: int, banned: IntArray) -> TurnNetwork:
    """Split the junctions that have forbidden turns, so that none of these can be made.

    Parameters
    ----------
    source, target
        (E,) positions of the junctions where a segment begins and ends.
    n_junctions
        Number of junctions.
    banned
        (2, K) positions of segments: from which, into which one must not turn. Pairs that do not
        meet are no turns, and change nothing.

    Returns
    -------
    TurnNetwork
        Without forbidden turns what was given. At a junction with some, a segment that must not
        go on into all others ends at a node of its own, from which connectors lead to those it
        may go into, and to the node where trips end.

    Raises
    ------
    InputError
        If a position is outside of the network, or the shapes do not fit.

    Notes
    -----
    Turning back is not forbidden, as in any search from junction to junction. Forbid it by pairs
    where it must not serve to evade a forbidden turn.
    """
    source, target, banned = _checked(source, target, n_junctions, banned)
    banned = np.unique(banned[:, target[banned[0]] == source[banned[1]]], axis=1)
    if banned.shape[1] == 0:
        return TurnNetwork(
            source, target, n_junctions, np.arange(len(source)), np.arange(n_junctions)
        )
    stopped = np.unique(banned[0])  # segments that must not go everywhere
    split = np.unique(target[stopped])
    after = n_junctions + np.arange(len(stopped))  # where they end
    end_of = np.arange(n_junctions)
    end_of[split] = n_junctions + len(stopped) + np.arange(len(split))

    # every pair of a stopped segment and one that it may go into
    outgoing = np.flatnonzero(np.isin(source, split))
    outgoing = outgoing[np.argsort(source[outgoing], kind="stable")]
    first = np.searchsorted(source[outgoing], target[stopped], side="left")
    count = np.searchsorted(source[outgoing], target[stopped], side="right") - first
    which = np.repeat(np.arange(len(stopped)), count)
    into = outgoing[np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count)]
    pair = stopped[which] * len(source) + into
    allowed = ~np.isin(pair, banned[0] * len(source) + banned[1])
    which, into = which[allowed], into[allowed]

    gated = np.unique(into)  # segments that begin at a node of their own
    n_before = n_junctions + len(stopped) + len(split)
    before = n_before + np.arange(len(gated))
    new_source, new_target = source.copy(), target.copy()
    new_target[stopped] = after
    new_source[gated] = before
    connectors = [
        (after[which], before[np.searchsorted(gated, into)]),
        (source[gated], before),  # trips that begin here, and those who may go everywhere
        (after, end_of[target[stopped]]),
        (split, end_of[split]),
    ]
    starts, ends = (np.concatenate(part) for part in zip(*connectors, strict=True))
    return TurnNetwork(
        np.concatenate([new_source, starts]),
        np.concatenate([new_target, ends]),
        n_before + len(gated),
        np.concatenate([np.arange(len(source)), np.full(len(starts), -1)]),
        end_of,
    )


def _checked(
    source: IntArray, target: IntArray, n_junctions: int, banned: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Return the arrays as int64, or raise where they do not fit together."""
    source, target = np.asarray(source, np.int64), np.asarray(target, np.int64)
    banned = np.asarray(banned, np.int64)
    if source.ndim != 1 or source.shape != target.shape:
        shapes = f"{source.shape} and {target.shape}"
        raise InputError(f"`source` and `target` have the shapes {shapes}; give both as (E,)")
    if banned.size == 0:
        banned = np.zeros((2, 0), dtype=np.int64)
    if banned.ndim != 2 or banned.shape[0] != 2:
        raise InputError(f"`banned` has the shape {banned.shape}; give positions as (2, K)")
    ends = np.concatenate([source, target])
    for name, given, size in (
        ("`source` and `target`", ends, n_junctions),
        ("`banned`", banned.ravel(), len(source)),
    ):
        outside = given[(given < 0) | (given >= size)]
        if len(outside):
            raise InputError(f"{name} hold position {int(outside[0])}; there are 0..{size - 1}")
    return source, target, banned
