"""What an operation sets on segments, when, and to what; and who contradicts whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph.scenario.streets import Streets
from stgraph.scenario.target_fields import describe, shorten

Attribute = Literal["is_open", "speed_kmh", "lanes", "capacity_vph"]
How = Literal["set", "times", "less", "set_lanes", "less_lanes"]
Values = dict[str, npt.NDArray[np.float32]]

UNITS = {"is_open": "", "speed_kmh": " km/h", "lanes": " lanes", "capacity_vph": " veh/h"}


@dataclass(frozen=True, eq=False)
class Change:
    """One attribute that one operation sets."""

    number: int  # of the operation, from 1
    op: str
    rows: IntArray  # (K,) positions of segments
    steps: BoolArray  # (T,)
    attribute: Attribute
    how: How
    value: float
    status: str  # as in `Edited.edits`
    label: str  # for the map
    override: bool = False

    @property
    def where(self) -> str:
        """Name of the operation, for messages."""
        return f"operation {self.number} ({self.op})"

    def apply(self, values: Values) -> npt.NDArray[np.float32]:
        """Return what the attribute becomes on the segments, from what holds there, (K,)."""
        before = values[self.attribute][self.rows]
        lanes = values["lanes"][self.rows]
        value = np.float32(self.value)
        if self.how == "set":
            return np.full(before.shape, value, dtype=np.float32)
        if self.how == "times":
            return (before * value).astype(np.float32)
        if self.how == "less":
            return (before - value).astype(np.float32)
        # capacity in proportion to the lanes
        left = value if self.how == "set_lanes" else lanes - value
        return (before * left / lanes).astype(np.float32)


def note_conflicts(
    changes: Sequence[Change], streets: Streets, time: pd.DatetimeIndex, report: Report
) -> None:
    """Note operations that set the same of the same segment at the same time.

    `time` is in the zone of the messages.
    """
    told: set[tuple[int, int]] = set()
    for k, later in enumerate(changes):
        for earlier in changes[:k]:
            pair = (earlier.number, later.number)
            if pair in told:
                continue
            if "add_road" in (earlier.op, later.op):
                if _is_absent(earlier, later):
                    told.add(pair)
                    what = f"is about a road that {earlier.where} opens at other times only"
                    report.warning(later.where, what, "it has no effect; compare the windows")
                continue
            rows = _overlap(earlier, later)
            if not len(rows):
                continue
            if earlier.attribute != later.attribute:
                if _is_hidden(earlier, later, rows):
                    told.add(pair)
                    _note_hidden(earlier, later, report)
                continue
            if later.override:
                continue
            told.add(pair)
            _note_conflict(earlier, later, rows, streets, time, report)


def _overlap(earlier: Change, later: Change) -> IntArray:
    """Return the segments that two operations set at the same time."""
    if earlier.number == later.number or not (earlier.steps & later.steps).any():
        return np.zeros(0, dtype=np.int64)
    return np.intersect1d(earlier.rows, later.rows)


def _is_absent(earlier: Change, later: Change) -> bool:
    """Tell whether an operation changes a new road only while it is not open."""
    apart = earlier.number != later.number and not (earlier.steps & later.steps).any()
    return apart and bool(np.isin(later.rows, earlier.rows).any())


def _is_hidden(earlier: Change, later: Change, rows: IntArray) -> bool:
    """Tell whether one of two operations closes whatever the other one changes."""
    for closing, other in ((earlier, later), (later, earlier)):
        if closing.status in ("closed", "removed") and other.attribute != "is_open":
            covered = not (other.steps & ~closing.steps).any()
            return covered and len(rows) == len(other.rows)
    return False


def _note_hidden(earlier: Change, later: Change, report: Report) -> None:
    """Note an operation on segments that another one closes."""
    closing, other = (earlier, later) if earlier.attribute == "is_open" else (later, earlier)
    what = f"sets `{other.attribute}` of segments that {closing.where} closes at that time"
    report.warning(other.where, what, "it has no effect; leave it out")


def _note_conflict(
    earlier: Change,
    later: Change,
    rows: IntArray,
    streets: Streets,
    time: pd.DatetimeIndex,
    report: Report,
) -> None:
    """Note two operations that contradict each other."""
    both = np.flatnonzero(earlier.steps & later.steps)
    times = f"from {time[both[0]]:%Y-%m-%d %H:%M %Z}, for {len(both)} of {len(time)} steps"
    each = shorten([describe(int(row), streets) for row in rows])
    if later.attribute == "is_open":
        what = f"opens or closes segments that {earlier.where} opens or closes as well: {each}"
        if earlier.op == later.op == "close":
            what = f"closes segments that {earlier.where} has closed already: {each}"
    else:
        what = f"sets `{later.attribute}` ({later.label}), and so does {earlier.where} "
        what += f"({earlier.label}), of segments {each}"
    todo = "give them different times or segments, or `override = true` in operation "
    report.error(later.where, f"{what}, {times}", f"{todo}{later.number}", count=len(rows))


class Painted(NamedTuple):
    """A change, and what it made of what, (K,)."""

    change: Change
    before: npt.NDArray[np.float32]
    after: npt.NDArray[np.float32]


def paint(
    changes: Sequence[Change], start: Values, active: BoolArray
) -> tuple[Values, dict[int, Painted]]:
    """Return what holds while some of the changes are active, and what each of these did."""
    values = dict(start)
    painted = {}
    for n in np.flatnonzero(active).tolist():
        change = changes[n]
        before, after = values[change.attribute], change.apply(values)
        painted[n] = Painted(change, before[change.rows], after)
        values[change.attribute] = before.copy()
        values[change.attribute][change.rows] = after
    return values, painted
