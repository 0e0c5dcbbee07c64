"""Tables of what a scenario changes: by attribute, and as a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import BoolArray, IntArray
from stgraph.scenario.actions.change import Change, Painted
from stgraph.scenario.periods import step_length
from stgraph.scenario.streets import Streets

CHANGES = (
    "operation", "op", "segment_id", "attribute", "before", "after", "from", "to", "n_steps",
)  # fmt: skip
EDITS = ("operation", "op", "label", "segment_id", "status", "from", "to")


class Banned(NamedTuple):
    """Turns that an operation forbids."""

    number: int
    turns: IntArray  # (2, K)
    steps: BoolArray


def list_changes(
    painted: Sequence[Painted], banned: Sequence[Banned], streets: Streets, time: pd.DatetimeIndex
) -> pd.DataFrame:
    """Return a row per operation, segment and attribute."""
    parts = []
    for change, before, after in painted:
        first = _row(change.number, change.op, change.steps, time)
        ids = streets.segment_id[change.rows]
        parts.append(_frame(first, ids, change.attribute, before, after))
    for number, turns, steps in banned:
        first = _row(number, "ban_turn", steps, time)
        ids = streets.segment_id[turns]
        nothing = np.full(turns.shape[1], np.nan)
        parts.append(_frame(first, ids[0], "no_turn_into", nothing, ids[1]))
    parts = [part for part in parts if len(part)]
    if not parts:
        return _empty(CHANGES)
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values("operation", kind="stable", ignore_index=True)


def _row(number: int, op: str, steps: BoolArray, time: pd.DatetimeIndex) -> dict[str, Any]:
    """Return what all rows of an operation have."""
    at = np.flatnonzero(steps)
    start, stop = span(at, time)
    return {"operation": number, "op": op, "from": start, "to": stop, "n_steps": len(at)}


def span(at: npt.NDArray[Any], time: pd.DatetimeIndex) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return when the first of some steps begins and the last ends."""
    return time[at[0]], time[at[-1]] + step_length(time)


def _frame(
    first: dict[str, Any], ids: IntArray, attribute: str, before: Any, after: Any
) -> pd.DataFrame:
    """Return the rows of one change."""
    columns = {
        **first,
        "segment_id": ids,
        "attribute": attribute,
        "before": np.asarray(before, dtype=np.float64),
        "after": np.asarray(after, dtype=np.float64),
    }
    return pd.DataFrame(columns)[list(CHANGES)]


def _empty(columns: Sequence[str]) -> pd.DataFrame:
    """Return a table without rows."""
    kinds = {
        **dict.fromkeys(("operation", "segment_id", "n_steps"), "int64"),
        **dict.fromkeys(("before", "after"), "float64"),
        **dict.fromkeys(("from", "to"), "datetime64[us, UTC]"),
    }
    table = pd.DataFrame({name: [] for name in columns}, dtype=object)
    return table.astype({name: kinds[name] for name in columns if name in kinds})


def list_edits(
    changes: Sequence[Change], banned: Sequence[Banned], streets: Streets, time: pd.DatetimeIndex
) -> gpd.GeoDataFrame:
    """Return a row per operation and segment, with its line."""
    parts, rows = [], []
    for number in sorted({c.number for c in changes} | {b.number for b in banned}):
        own = [change for change in changes if change.number == number]
        for status in dict.fromkeys(change.status for change in own):
            same = [change for change in own if change.status == status]
            at = np.unique(np.concatenate([change.rows for change in same]))
            label = ", ".join(dict.fromkeys(change.label for change in same))
            parts.append(
                _layer(number, same[0].op, label, status, at, same[0].steps, streets, time)
            )
            rows.append(at)
        for one in (ban for ban in banned if ban.number == number):
            at = np.unique(one.turns[0])
            label = "no turn into " + ", ".join(
                dict.fromkeys(str(i) for i in streets.segment_id[one.turns[1]])
            )
            parts.append(_layer(number, "ban_turn", label, "changed", at, one.steps, streets, time))
            rows.append(at)
    parts = [part for part in parts if len(part)]
    table = pd.concat(parts, ignore_index=True) if parts else _empty(EDITS)
    at = np.concatenate(rows).astype(np.int64) if rows else np.zeros(0, dtype=np.int64)
    return gpd.GeoDataFrame(table, geometry=streets.lines[at], crs=streets.crs)


def _layer(
    number: int,
    op: str,
    label: str,
    status: str,
    at: IntArray,
    steps: BoolArray,
    streets: Streets,
    time: pd.DatetimeIndex,
) -> pd.DataFrame:
    """Return the rows of one operation."""
    start, stop = span(np.flatnonzero(steps), time)
    columns = {
        "operation": number,
        "op": op,
        "label": label,
        "segment_id": streets.segment_id[at],
        "status": status,
        "from": start,
        "to": stop,
    }
    return pd.DataFrame(columns)
