"""What a scenario does to a road network, as arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from stgraph.errors import ConfigError
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.report import Finding, Report
from stgraph.scenario.actions.attributes import Work, change_attributes
from stgraph.scenario.actions.building import add_road
from stgraph.scenario.actions.change import Change, Painted, Values, note_conflicts, paint
from stgraph.scenario.actions.listing import Banned, list_changes, list_edits
from stgraph.scenario.actions.site import Built, Site
from stgraph.scenario.actions.turning import find_turns, reverse_road
from stgraph.scenario.operations import (
    AddDemand,
    AddRoad,
    BanTurn,
    Operation,
    Reverse,
    ScaleDemand,
    SetWeather,
)
from stgraph.scenario.script import Scenario
from stgraph.scenario.selecting import select
from stgraph.scenario.states import Edited, RoadState
from stgraph.scenario.streets import Streets, read_streets
from stgraph.scenario.target_fields import describe, shorten
from stgraph.scenario.window import window_steps

_OPERATION = re.compile(r"operation (\d+) ")


def edit(
    scenario: Scenario, roads: STGraph, time: pd.DatetimeIndex, *, force: bool = False
) -> Edited:
    """Return what a scenario makes of a road network.

    Parameters
    ----------
    scenario
        Operations in their order.
    roads
        The network, in the reading ``nodes="junctions"``.
    time
        (T,) steps of the horizon, UTC.
    force
        Take targets of more than a fifth of the network without complaint.

    Returns
    -------
    Edited
        Both networks on one list of segments, with what was found in its report.

    Raises
    ------
    ConfigError
        Lists everything that is wrong, by operation.
    """
    report = Report()
    edited = try_edit(scenario, roads, time, report, force=force)
    report.raise_errors(ConfigError, title=f"scenario {scenario.name!r} cannot be used")
    assert edited is not None  # noqa: S101 - else there was an error
    return edited


def try_edit(
    scenario: Scenario,
    roads: STGraph,
    time: pd.DatetimeIndex,
    report: Report,
    *,
    force: bool = False,
) -> Edited | None:
    """Return what a scenario makes of a road network, or None with errors in the report."""
    time = _clean_time(time, report)
    streets = read_streets(roads, report)
    if report.errors or streets is None:
        return None
    numbered = list(enumerate(scenario.operations, 1))
    built = _build(numbered, streets, report, force)
    draft = _Draft(scenario.timezone, built, time, report, force)
    for number, operation in numbered:
        draft.take(number, operation)
    local = time.tz_convert(scenario.timezone or "UTC")
    note_conflicts(draft.changes, built.streets, local, report)
    sort_findings(report)
    return None if report.errors else draft.finish(scenario.operations)


def _clean_time(time: Any, report: Report) -> pd.DatetimeIndex:
    """Return the steps in UTC, or note why they cannot be used."""
    if not isinstance(time, pd.DatetimeIndex) or len(time) == 0:
        report.error("`time`", f"is {type(time).__name__} without steps", "give a DatetimeIndex")
        return pd.DatetimeIndex([], tz="UTC")
    return time.tz_localize("UTC") if time.tz is None else time.tz_convert("UTC")


def sort_findings(report: Report) -> None:
    """Put findings in the order of the operations, those about all of them first."""

    def number(finding: Finding) -> int:
        found = _OPERATION.match(finding.where)
        return int(found[1]) if found else 0

    report.findings.sort(key=number)


def _where(number: int, operation: Operation) -> str:
    """Return the name of an operation, for messages."""
    return f"operation {number} ({operation.op})"


# ---------------------------------------------------------------- new segments


def _build(
    numbered: Sequence[tuple[int, Operation]], streets: Streets, report: Report, force: bool
) -> Built:
    """Return the network with all segments that operations add, which are closed at first."""
    site = Site(streets)
    for number, operation in numbered:
        if isinstance(operation, AddRoad):
            add_road(site, operation, number, report, _where(number, operation))
    built = site.finish()
    reverses = [(n, operation) for n, operation in numbered if isinstance(operation, Reverse)]
    if not reverses:
        return built
    site = Site(built.streets)
    for number, operation in reverses:
        where = _where(number, operation)
        rows = select(
            operation.target,
            built.streets,
            report,
            where,
            direction=operation.direction,
            among=_among(built, number),
            force=force,
        )
        reverse_road(site, rows, number, report, where)
    turned = site.finish()
    n_old = len(built.streets)
    number_of = turned.number.copy()
    number_of[:n_old] = built.number
    replaced = np.zeros(len(turned.streets), dtype=np.bool_)
    replaced[:n_old] = built.replaced
    return replace(turned, n_base=built.n_base, number=number_of, replaced=replaced)


def _among(built: Built, number: int) -> BoolArray:
    """Tell which segments an operation may mean: those that are there when it is its turn."""
    return ~built.replaced & (built.number < number)


# ---------------------------------------------------------------- operations


class _Draft:
    """What the operations set, one after the other."""

    def __init__(
        self, zone: str | None, built: Built, time: pd.DatetimeIndex, report: Report, force: bool
    ) -> None:
        self.zone, self.built, self.time = zone, built, time
        self.report, self.force = report, force
        self.streets = built.streets
        self.changes: list[Change] = []
        self.banned: list[Banned] = []
        self.removed = np.zeros(len(built.streets), dtype=np.int64)  # by which operation

    def take(self, number: int, operation: Operation) -> None:
        """Add what an operation sets."""
        where = _where(number, operation)
        steps = self._steps(operation, where)
        if isinstance(operation, AddRoad):
            rows = np.flatnonzero(self.built.number == number)
            self._open(number, operation, rows, steps, operation.id)
        elif isinstance(operation, BanTurn):
            self._ban(number, operation, steps, where)
        elif not isinstance(operation, AddDemand | ScaleDemand | SetWeather):
            self._change(number, operation, steps, where)

    def _steps(self, operation: Operation, where: str) -> BoolArray:
        """Return when an operation holds; windows outside of the horizon are noted."""
        for name in ("arrive", "leave"):
            window = getattr(operation, name, None)
            if window is not None:
                place = f"{where}, `{name}`:"
                window_steps(window, self.time, self.zone, self.report, place)
        return window_steps(operation.window, self.time, self.zone, self.report, where)

    def _open(
        self, number: int, operation: Any, rows: IntArray, steps: BoolArray, label: str
    ) -> None:
        """Open new segments."""
        if len(rows) and steps.any():
            self.changes.append(
                Change(
                    number, operation.op, rows, steps, "is_open", "set", 1.0, "new", label,
                    operation.override,
                )
            )  # fmt: skip

    def _change(self, number: int, operation: Any, steps: BoolArray, where: str) -> None:
        """Add what an operation sets on existing segments."""
        if isinstance(operation, Reverse):  # what it is about was selected when it was built
            new = np.flatnonzero(self.built.number == number)
            rows = self._turned(new)
        else:
            rows = self._rows(operation, operation.target, "target", number, where)
            rows = self._left(rows, operation, where)
        if not len(rows) or not steps.any():
            return
        if isinstance(operation, Reverse):
            label = "turned round"
            self.changes.append(
                Change(
                    number, operation.op, rows, steps, "is_open", "set", 0.0, "closed", label,
                    operation.override,
                )
            )  # fmt: skip
            self._open(number, operation, new, steps, label)
            return
        if operation.op == "remove_road":
            self.removed[rows] = number
        work = Work(number, rows, steps, self.streets, self.report)
        self.changes += change_attributes(operation, work)

    def _turned(self, new: IntArray) -> IntArray:
        """Return the segments that some new ones turn round: the last ones with such a line."""
        turned = self.built.turned
        return np.array([turned[int(row)] for row in new], dtype=np.int64)

    def _rows(self, operation: Any, target: Any, field: str, number: int, where: str) -> IntArray:
        """Return the segments that a target names."""
        return select(
            target,
            self.streets,
            self.report,
            where,
            field=field,
            direction=getattr(operation, "direction", "forward"),
            among=_among(self.built, number),
            force=self.force,
        )

    def _left(self, rows: IntArray, operation: Any, where: str) -> IntArray:
        """Return segments without those that are removed; note if they were named."""
        gone = rows[self.removed[rows] > 0]
        if len(gone) and (operation.target.edges is not None or len(gone) == len(rows)):
            number = int(self.removed[gone[0]])
            each = shorten([describe(int(row), self.streets) for row in gone])
            what = f"{each} is not there: operation {number} (remove_road) takes it away"
            self.report.error(f"{where}, `target`", what, "leave one of the two out")
        left: IntArray = rows[self.removed[rows] == 0]
        return left

    def _ban(self, number: int, operation: BanTurn, steps: BoolArray, where: str) -> None:
        """Add the turns that an operation forbids."""
        sides = [
            self._rows(operation, target, field, number, where)
            for field, target in (("from", operation.from_), ("to", operation.to))
        ]
        if all(len(rows) for rows in sides):
            turns = find_turns(sides[0], sides[1], self.streets, self.report, where)
            if turns.shape[1] and steps.any():
                self.banned.append(Banned(number, turns, steps))

    # ------------------------------------------------------------ the result

    def finish(self, operations: Sequence[Operation]) -> Edited:
        """Return the edited network."""
        streets, built = self.streets, self.built
        new = np.arange(len(streets)) >= built.n_base
        values: Values = {
            "is_open": (~new).astype(np.float32),
            "speed_kmh": streets.values.speed_kmh,
            "lanes": streets.values.lanes,
            "capacity_vph": streets.values.capacity_vph,
        }
        baseline = _state(values, streets.forbidden)
        # parts are there at once; what is built waits for its operation
        start = values | {"is_open": (~built.replaced & (built.number == 0)).astype(np.float32)}
        periods, period_of, painted = self._periods(start)
        return Edited(
            roads=streets.roads,
            parent=streets.parent,
            time=self.time,
            baseline=baseline,
            periods=periods,
            period_of=period_of,
            changes=list_changes(painted, self.banned, streets, self.time),
            edits=list_edits(self.changes, self.banned, streets, self.time),
            demand=tuple(o for o in operations if isinstance(o, AddDemand | ScaleDemand)),
            weather=tuple(o for o in operations if isinstance(o, SetWeather)),
            report=self.report,
        )

    def _periods(self, start: Values) -> tuple[tuple[RoadState, ...], IntArray, list[Painted]]:
        """Return the distinct states, which one holds at each step, and what each change did."""
        changes, banned = self.changes, self.banned
        steps = [change.steps for change in changes] + [ban.steps for ban in banned]
        masks = np.array(steps, dtype=np.bool_)
        masks = masks.reshape(len(changes) + len(banned), len(self.time))
        patterns, first, number = np.unique(masks.T, axis=0, return_index=True, return_inverse=True)
        states: list[RoadState] = []
        of_pattern = np.zeros(len(patterns), dtype=np.int64)
        painted: dict[int, Painted] = {}
        for k in np.argsort(first):  # in the order of time
            active, bans = patterns[k][: len(changes)], patterns[k][len(changes) :]
            values, results = paint(changes, start, active)
            painted = results | painted  # as it was when it began
            state = _state(values, self._turns(bans))
            same = [i for i, known in enumerate(states) if known.equals(state)]
            of_pattern[k] = same[0] if same else len(states)
            if not same:
                states.append(state)
        period_of = of_pattern[number.reshape(-1)]
        return tuple(states), period_of, [painted[n] for n in sorted(painted)]

    def _turns(self, active: BoolArray) -> IntArray:
        """Return the forbidden turns, with those of operations that are active."""
        parts = [ban.turns for ban, is_active in zip(self.banned, active, strict=True) if is_active]
        if not parts:
            return self.streets.forbidden
        turns = np.concatenate([self.streets.forbidden, *parts], axis=1)
        _, kept = np.unique(turns, axis=1, return_index=True)
        return turns[:, np.sort(kept)]


def _state(values: Values, turns: IntArray) -> RoadState:
    """Return what holds as a state."""
    return RoadState(
        is_open=values["is_open"] > 0,
        speed_kmh=values["speed_kmh"],
        lanes=values["lanes"],
        capacity_vph=values["capacity_vph"],
        banned_turns=turns,
    )
