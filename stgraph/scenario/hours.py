"""Flows of every hour of a horizon, with and without what a scenario does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import IntArray
from stgraph.scenario.assignment import Assignment, Loaded
from stgraph.scenario.demand_changes import HourlyDemand
from stgraph.scenario.periods import step_length
from stgraph.scenario.states import Edited, RoadState

Floats = npt.NDArray[np.float64]
_Key = tuple[bytes, int]  # of trips, and which state
_Task = tuple[RoadState, Floats]

_LARGE = 3000  # segments from which on several processes pay
_mine: list[Assignment] = []  # of a process that only loads


@dataclass(frozen=True, eq=False)
class Cases:
    """The C pairs of an hour of a horizon and a state of the network.

    Within a case nothing changes, so everything is computed once for it.
    """

    case_of: IntArray  # (T,) the case of every step
    hour: IntArray  # (C,) period of the demand
    state: IntArray  # (C,) position in `Edited.periods`
    before: IntArray  # (C,) the case of the hour before, itself at the beginning

    def __len__(self) -> int:
        """Return the number of cases C."""
        return len(self.hour)

    def means(self, values: Floats) -> Floats:
        """Return means over the known steps of every case, (T, E) to (C, E)."""
        known = np.isfinite(values)
        total = np.zeros((len(self), values.shape[1]))
        count = np.zeros_like(total)
        np.add.at(total, self.case_of, np.where(known, values, 0.0))
        np.add.at(count, self.case_of, known)
        with np.errstate(invalid="ignore"):
            return np.where(count > 0, total / count, np.nan)


def find_cases(edited: Edited, demand: HourlyDemand) -> Cases:
    """Return the pairs of hour and state of a horizon."""
    past = _hours_past(edited.time, demand.period_of_step)
    whole = np.floor(past + 1e-9).astype(np.int64)
    pairs = np.stack([whole, demand.period_of_step, edited.period_of])
    _, first, case_of = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
    case_of = case_of.ravel()
    earlier = first - _steps_per_hour(edited.time)
    before = np.where(earlier >= 0, case_of[np.maximum(earlier, 0)], np.arange(len(first)))
    return Cases(case_of, demand.period_of_step[first], edited.period_of[first], before)


def _hours_past(time: pd.DatetimeIndex, period_of_step: IntArray) -> Floats:
    """Return hours since the beginning of some hour, (T,); hours begin where trips change."""
    change = np.flatnonzero(np.diff(period_of_step)) + 1
    begin = time[int(change[0]) if len(change) else 0]
    return np.asarray((time - begin) / pd.Timedelta(hours=1), dtype=np.float64)


def _steps_per_hour(time: pd.DatetimeIndex) -> int:
    """Return how many steps an hour has, at least one."""
    return max(1, round(pd.Timedelta(hours=1) / step_length(time)))


@dataclass(frozen=True, eq=False)
class HourlyFlows:
    """Modelled flows of C cases."""

    base: Floats  # (C, E) vehicles per hour; parts of a split street have the whole street's
    scn: Floats  # (C, E)
    unserved_base: Floats  # (C,) trips per hour without a way
    unserved_scn: Floats

    @property
    def change(self) -> Floats:
        """What the scenario adds, (C, E)."""
        return self.scn - self.base


def load_hours(
    assignment: Assignment,
    edited: Edited,
    demand: HourlyDemand,
    cases: Cases,
    *,
    factor: float = 1.0,
    n_processes: int = 1,
    on_done: Callable[[], None] | None = None,
) -> HourlyFlows:
    """Return the flows of all cases.

    Parameters
    ----------
    assignment
        On the segments of `edited`.
    edited, demand, cases
        The network, the trips, and the pairs of both.
    factor
        All trips are multiplied by it.
    n_processes
        Of large networks so many hours are solved at the same time. A script that asks for more
        than one needs ``if __name__ == "__main__":``.
    on_done
        Is called as many times as there are cases, as they get done.

    Notes
    -----
    Where neither the network nor the trips differ, both sides are the same numbers.
    """
    same = [state.equals(edited.baseline) for state in edited.periods]
    wanted: dict[_Key, _Task] = {}

    def ask(state: int, trips: Floats) -> _Key:
        number = -1 if state < 0 or same[state] else state
        key = (hashlib.sha256(trips.tobytes()).digest(), number)
        roads = edited.baseline if number < 0 else edited.periods[number]
        wanted.setdefault(key, (roads, factor * trips))
        return key

    usual = [ask(-1, demand.baseline[hour]) for hour in cases.hour]
    changed = [
        ask(int(state), demand.scenario[hour])
        for hour, state in zip(cases.hour, cases.state, strict=True)
    ]
    solved: dict[_Key, Loaded] = {}
    for key, found in zip(
        wanted, _solve(assignment, list(wanted.values()), n_processes), strict=True
    ):
        told = len(solved) * len(cases) // len(wanted)
        solved[key] = found
        for _ in range(len(solved) * len(cases) // len(wanted) - told):
            if on_done is not None:
                on_done()
    parent = np.maximum(edited.parent, 0)
    base = [np.where(edited.parent >= 0, solved[key].flow_vph[parent], 0.0) for key in usual]
    return HourlyFlows(
        np.stack(base),
        np.stack([solved[key].flow_vph for key in changed]),
        np.asarray([solved[key].unserved.sum() for key in usual]),
        np.asarray([solved[key].unserved.sum() for key in changed]),
    )


def _solve(assignment: Assignment, tasks: Sequence[_Task], n_processes: int) -> Iterator[Loaded]:
    """Yield the flows of every task in their order; of large networks in several processes."""
    n_processes = min(len(tasks), n_processes)
    is_large = assignment.roads.n_edges >= _LARGE and assignment.drivers.kind == "equilibrium"
    if n_processes <= 1 or not is_large:
        for state, trips in tasks:
            yield assignment.load(state, trips)
        return
    with ProcessPoolExecutor(
        n_processes,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(assignment.fresh(),),
    ) as pool:
        yield from pool.map(_load, tasks)


def _begin(assignment: Assignment) -> None:
    """Keep the network of a process."""
    _mine.append(assignment)


def _load(task: _Task) -> Loaded:
    """Return the flows of a task on the network of this process."""
    return _mine[-1].load(*task)


def to_steps(values: Floats, cases: Cases, edited: Edited) -> Floats:
    """Return (T, E) values of steps from those of cases, (C, E).

    Between the middles of two hours in which the same holds on the network they are interpolated.
    """
    T = len(edited.time)
    n_hour, steps = _steps_per_hour(edited.time), np.arange(T)
    # where in its hour the middle of a step lies, from -1/2 to 1/2
    past = _hours_past(edited.time, cases.hour[cases.case_of])
    off = (past + step_length(edited.time) / pd.Timedelta(hours=2)) % 1.0 - 0.5
    # at the ends of the horizon, hours that are there in part will do
    other = np.clip(steps + np.where(off > 0, n_hour, -n_hour), 0, T - 1)
    same = cases.state[cases.case_of[other]] == cases.state[cases.case_of]
    part = np.where(same, np.abs(off), 0.0)[:, None]
    own = values[cases.case_of]
    return np.asarray(own + part * (values[cases.case_of[other]] - own))
