"""Which segments are closed, new, changed or removed, for every state of a scenario."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stgraph.graph import BoolArray
from stgraph.scenario.result import STATUS, CodeArray
from stgraph.scenario.states import Edited, RoadState


def segment_status(edited: Edited) -> CodeArray:
    """Return the status of every segment in every state, as positions in `STATUS`.

    Parameters
    ----------
    edited
        Both networks.

    Returns
    -------
    CodeArray
        (P, E), of the P `edited.periods`; ``status[edited.period_of]`` is that of every step.
        A segment that parts have replaced is removed; a part is normal or changed; a new road is
        new while it is open, and closed before and after.
    """
    n_segments = len(edited.parent)
    own = edited.parent == np.arange(n_segments)
    removed = _gone(edited)
    codes = np.zeros((len(edited.periods), n_segments), dtype=np.int8)
    for code, state in zip(codes, edited.periods, strict=True):
        code[_differs(edited, state)] = STATUS.index("changed")
        code[(edited.parent < 0) & state.is_open] = STATUS.index("new")
        # what is closed in the baseline as well is as it was
        code[~state.is_open & (edited.baseline.is_open | ~own)] = STATUS.index("closed")
        code[removed] = STATUS.index("removed")
    return codes


def _gone(edited: Edited) -> BoolArray:
    """Tell which segments are removed, or are there as parts only."""
    gone = edited.is_replaced
    assert edited.roads.edges is not None  # noqa: S101 - segments are edges
    ids = pd.Index(edited.roads.edges["segment_id"])
    named = edited.edits.loc[edited.edits["status"] == "removed", "segment_id"]
    gone[ids.get_indexer(pd.Index(named))] = True
    return gone


def _differs(edited: Edited, state: RoadState) -> BoolArray:
    """Tell which segments have another speed, capacity, lanes or turns than before."""
    base, whole = edited.baseline, np.maximum(edited.parent, 0)
    names = ("speed_kmh", "lanes", "capacity_vph")
    differs = np.logical_or.reduce(
        [getattr(state, name) != getattr(base, name)[whole] for name in names]
    )
    n = len(whole)
    new = np.setdiff1d(
        state.banned_turns[0] * n + state.banned_turns[1],
        base.banned_turns[0] * n + base.banned_turns[1],
    )
    differs[new // n] = True
    return np.asarray(differs & (edited.parent >= 0), dtype=np.bool_)
