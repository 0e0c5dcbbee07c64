"""A network in which forbidden turns cannot be made."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stgraph.errors import InputError
from stgraph.graph import BoolArray, IntArray


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
    Turning back is not forbidden, as in any search from junction to junction. Where it must not
    serve to evade a forbidden turn, give the pairs of `with_turns_back`.
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


def with_turns_back(
    source: IntArray, target: IntArray, banned: IntArray, is_open: BoolArray | None = None
) -> IntArray:
    """Return forbidden turns together with turns back that would evade them at once.

    Who must not turn left could go straight on, turn back where that street ends, and then turn
    right. So after a junction with forbidden turns nobody turns back before the first junction
    where there is a choice, nor at it; at dead ends one may. Elsewhere nobody wants to.

    Parameters
    ----------
    source, target, banned
        As for `expand`.
    is_open
        (E,) where one may drive; before a closed street one may turn back. None: everywhere.

    Returns
    -------
    IntArray
        (2, K') pairs of positions of segments; those given come first.

    Notes
    -----
    Between two junctions with several segments one cannot tell which is the way back of which:
    there nothing is added.
    """
    n_junctions = int(max(np.max(source, initial=-1), np.max(target, initial=-1))) + 1
    source, target, banned = _checked(source, target, n_junctions, banned)
    forbidden = {(a, b) for a, b in banned.T.tolist() if target[a] == source[b]}
    leaving: dict[int, list[int]] = {}
    usable = np.arange(len(source)) if is_open is None else np.flatnonzero(is_open)
    for segment in usable.tolist() if forbidden else []:
        leaving.setdefault(int(source[segment]), []).append(segment)

    def onwards(segment: int) -> list[int]:
        """Return the segments that one may go into without turning back."""
        return [
            other
            for other in leaving.get(int(target[segment]), [])
            if target[other] not in (source[segment], target[segment])
            and (segment, other) not in forbidden
        ]

    found = []
    ahead = sorted({onward for a in {a for a, _ in forbidden} for onward in onwards(a)})
    seen = set(ahead)
    while ahead:
        segment = ahead.pop()
        on = onwards(segment)
        back = (
            [b for b in leaving[int(target[segment])] if target[b] == source[segment]] if on else []
        )
        if len(back) == 1:
            found.append((segment, back[0]))
        if len(on) == 1 and on[0] not in seen:  # no choice yet
            seen.add(on[0])
            ahead.append(on[0])
    added = np.array(sorted(set(found) - forbidden), dtype=np.int64).reshape(-1, 2)
    return np.concatenate([banned, added.T], axis=1)


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
