"""Operations that set what existing segments have: open or closed, speed, lanes, capacity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stgraph.graph import BoolArray, IntArray
from stgraph.report import Level, Report
from stgraph.scenario.actions.change import Change
from stgraph.scenario.operations import (
    MAX_KMH,
    MAX_VPH_PER_LANE,
    Close,
    RemoveRoad,
    Roadworks,
    SetCapacity,
    SetLanes,
    SetSpeed,
)
from stgraph.scenario.road_defaults import fastest_kmh
from stgraph.scenario.streets import Streets
from stgraph.scenario.target_fields import describe, shorten

_LITTLE_VPH = 50.0  # per lane: less is a closure in disguise


class Work(NamedTuple):
    """The segments and steps of an operation, and whom to tell."""

    number: int
    rows: IntArray
    steps: BoolArray
    streets: Streets
    report: Report

    def note(
        self, level: Level, op: str, field: str, wrong: BoolArray, what: str, todo: str
    ) -> None:
        """Note what is wrong with some of the segments."""
        if wrong.any():
            rows = self.rows[wrong]
            each = shorten([describe(int(row), self.streets) for row in rows])
            tell = getattr(self.report, level)
            place = f"operation {self.number} ({op}), `{field}`"
            tell(place, f"{what} on {len(rows)} segments: {each}", todo, count=len(rows))


def change_attributes(operation: Any, work: Work) -> list[Change]:
    """Return what an operation sets, after checking it against what holds there."""
    return _KINDS[operation.op](operation, work)


def _change(
    operation: Any, work: Work, attribute: Any, how: Any, value: float, label: str, status: str = ""
) -> Change:
    """Return one change of an operation."""
    return Change(
        number=work.number,
        op=operation.op,
        rows=work.rows,
        steps=work.steps,
        attribute=attribute,
        how=how,
        value=value,
        status=status or "changed",
        label=label,
        override=operation.override,
    )


def _close(operation: Close, work: Work) -> list[Change]:
    return [_change(operation, work, "is_open", "set", 0.0, "closed", "closed")]


def _remove(operation: RemoveRoad, work: Work) -> list[Change]:
    return [_change(operation, work, "is_open", "set", 0.0, "removed", "removed")]


def _set_speed(operation: SetSpeed, work: Work) -> list[Change]:
    if operation.kmh is not None:
        return [_speed(operation, work, operation.kmh)]
    return [_scaled(operation, work, "speed_kmh", "speed", _check_speed)]


def _speed(operation: SetSpeed | Roadworks, work: Work, kmh: float) -> Change:
    """Return the change to a speed limit."""
    change = _change(operation, work, "speed_kmh", "set", kmh, f"{kmh:g} km/h")
    _check_speed(change, work, "kmh")
    return change


def _scaled(
    operation: SetSpeed | SetCapacity | Roadworks,
    work: Work,
    attribute: str,
    word: str,
    check: Callable[[Change, Work, str], None],
) -> Change:
    """Return the change of an attribute by a factor."""
    assert operation.factor is not None  # noqa: S101 - the model has one of them
    label = f"{word} × {operation.factor:g}"
    change = _change(operation, work, attribute, "times", operation.factor, label)
    check(change, work, "factor")
    return change


def _check_speed(change: Change, work: Work, field: str) -> None:
    """Note speeds that cannot be, that are unusual, or that are what holds already."""
    before = work.streets.speed_kmh[work.rows]
    after = change.apply(_values(work.streets))
    classes = work.streets.values.road_class[work.rows]
    usual = np.array([fastest_kmh(str(name)) for name in classes])
    fastest = f"{after.max():g} km/h" if len(after) else ""
    absurd = after > MAX_KMH
    todo = f"use at most {MAX_KMH:g} km/h"
    work.note("error", change.op, field, absurd, f"makes {fastest}", todo)
    faster = (after > usual) & ~absurd & (after > before)
    todo = f"at most {usual[faster].min():g} km/h are usual" if faster.any() else ""
    what = (
        f"{fastest} is more than usual for roads of class {shorten(sorted(set(classes[faster])))}"
    )
    work.note("warning", change.op, field, faster, what, todo)
    posted = (after > before) & ~absurd & ~faster
    todo = "right if the limit is raised; drivers do not go faster without"
    what = f"{fastest} is above the speed there now"
    work.note("warning", change.op, field, posted, what, todo)
    _note_same(change, work, field, before, after)


def _set_lanes(operation: SetLanes, work: Work) -> list[Change]:
    lanes = float(operation.lanes)
    label = f"{operation.lanes} lane{'s' if lanes > 1 else ''}"
    capacity = _change(operation, work, "capacity_vph", "set_lanes", lanes, label)
    change = _change(operation, work, "lanes", "set", lanes, label)
    _note_same(change, work, "lanes", work.streets.values.lanes[work.rows], np.full(
        len(work.rows), lanes))  # fmt: skip
    return [capacity, change]


def _set_capacity(operation: SetCapacity, work: Work) -> list[Change]:
    if operation.vph is None:
        return [_scaled(operation, work, "capacity_vph", "capacity", _check_capacity)]
    label = f"{operation.vph:g} veh/h"
    change = _change(operation, work, "capacity_vph", "set", operation.vph, label)
    _check_capacity(change, work, "vph")
    return [change]


def _check_capacity(change: Change, work: Work, field: str) -> None:
    """Note capacities that no lane has, or that are what holds already."""
    before = work.streets.values.capacity_vph[work.rows]
    after = change.apply(_values(work.streets))
    per_lane = after / work.streets.values.lanes[work.rows]
    # what the network itself says is more, as that of a source with days for hours, stays
    absurd = (per_lane > MAX_VPH_PER_LANE) & (after > before)
    most = f"{per_lane.max():.0f}" if len(per_lane) else ""
    todo = f"use at most {MAX_VPH_PER_LANE:g} vehicles per hour and lane, or set_lanes first"
    work.note("error", change.op, field, absurd, f"makes {most} vehicles per hour and lane", todo)
    what = f"leaves {per_lane.min():.0f} vehicles per hour and lane" if len(per_lane) else ""
    little = (per_lane < _LITTLE_VPH) & (after < before)
    todo = "queues would never end; use close if nobody gets through"
    work.note("warning", change.op, field, little, what, todo)
    _note_same(change, work, field, before, after)


def _roadworks(operation: Roadworks, work: Work) -> list[Change]:
    changes = []
    if operation.lanes_lost is not None:
        lost = float(operation.lanes_lost)
        lanes = work.streets.values.lanes[work.rows]
        what = f"takes {lost:g} lanes"
        todo = f"there are {lanes.min():g}; take fewer, or use close" if len(lanes) else ""
        work.note("error", operation.op, "lanes_lost", lanes - lost <= 0, what, todo)
        label = f"{lost:g} lane{'s' if lost > 1 else ''} fewer"
        changes += [
            _change(operation, work, "capacity_vph", "less_lanes", lost, label),
            _change(operation, work, "lanes", "less", lost, label),
        ]
    if operation.factor is not None:
        changes.append(_scaled(operation, work, "capacity_vph", "capacity", _check_capacity))
    if operation.kmh is not None:
        changes.append(_speed(operation, work, operation.kmh))
    return changes


def _note_same(
    change: Change,
    work: Work,
    field: str,
    before: npt.NDArray[Any],
    after: npt.NDArray[Any],
) -> None:
    """Note values that hold already."""
    same = np.isclose(before, after, rtol=1e-6)
    what = f"`{change.attribute}` is already so"
    level: Level = "warning" if same.all() else "info"
    work.note(level, change.op, field, same, what, "it changes nothing there")


def _values(streets: Streets) -> dict[str, npt.NDArray[np.float32]]:
    """Return what holds in the baseline."""
    values = streets.values
    return {
        "speed_kmh": values.speed_kmh,
        "lanes": values.lanes,
        "capacity_vph": values.capacity_vph,
    }


_KINDS: Mapping[str, Callable[[Any, Work], list[Change]]] = {
    "close": _close,
    "remove_road": _remove,
    "set_speed": _set_speed,
    "set_lanes": _set_lanes,
    "set_capacity": _set_capacity,
    "roadworks": _roadworks,
}
