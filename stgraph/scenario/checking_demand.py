"""Whether what a scenario does to the demand can be done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stgraph.graph import BoolArray
from stgraph.report import Report
from stgraph.scenario.demand import Demand
from stgraph.scenario.demand_places import Places, as_ids, check_zones, find_origins
from stgraph.scenario.operations import AddDemand, Operation, ScaleDemand
from stgraph.scenario.periods import step_length
from stgraph.scenario.states import Edited
from stgraph.scenario.week import periods_at
from stgraph.scenario.window import window_steps

Numbered = Sequence[tuple[int, Operation]]


def check_demand(
    operations: Numbered,
    demand: Demand | None,
    edited: Edited | None,
    time: pd.DatetimeIndex,
    zone: str,
    report: Report,
    *,
    is_promised: bool = False,
) -> None:
    """Note what is wrong with operations on the demand.

    Parameters
    ----------
    operations
        With their numbers.
    demand
        Trips between zones; None: there are none.
    edited
        The network, as far as it could be made.
    time, zone
        Steps of the horizon, and whose hours count.
    report
        Gets what is wrong.
    is_promised
        Whether the scenario names a source of trips that was not read for this check.
    """
    for number, operation in operations:
        if not isinstance(operation, AddDemand | ScaleDemand):
            continue
        where = f"operation {number} ({operation.op})"
        if demand is None:
            if not is_promised:
                todo = "give `demand`: a matrix of trips, or gravity from weights of the nodes"
                report.error(where, "needs trips between zones, and there are none", todo)
            continue
        if isinstance(operation, AddDemand):
            _check_event(operation, demand, edited, time, zone, report, where)
        else:
            _check_scale(operation, demand, report, where)
    if demand is not None:
        _note_scaled_twice(operations, demand, time, zone, report)


def _check_scale(operation: ScaleDemand, demand: Demand, report: Report, where: str) -> None:
    """Note zones that there are not, and factors that change nothing."""
    check_zones(operation, demand, report, where)
    if operation.factor == 1:
        report.warning(f"{where}, `factor`", "is 1", "it changes nothing")
    rows, columns = _pairs(operation, demand)
    if rows.any() and columns.any():
        scaled = np.asarray(demand.trips)[:, rows][:, :, columns]
        if not scaled.any():
            report.warning(where, "there are no trips between these zones", "it changes nothing")


def _pairs(operation: ScaleDemand, demand: Demand) -> tuple[BoolArray, BoolArray]:
    """Return which zones an operation is about, as origins and as destinations."""
    ids = np.array([str(name) for name in demand.zones.index], dtype=object)

    def chosen(given: str | tuple[str, ...]) -> BoolArray:
        return np.isin(ids, as_ids(given)) | (given == "any")

    return chosen(operation.from_zone), chosen(operation.to_zone)


def _note_scaled_twice(
    operations: Numbered, demand: Demand, time: pd.DatetimeIndex, zone: str, report: Report
) -> None:
    """Note operations that scale the same trips at the same time."""
    known: list[tuple[int, BoolArray, BoolArray, BoolArray]] = []
    for number, operation in operations:
        if not isinstance(operation, ScaleDemand):
            continue
        steps = window_steps(operation.window, time, zone, Report(), "")
        rows, columns = _pairs(operation, demand)
        for earlier, old_rows, old_columns, old_steps in known:
            both = int((rows & old_rows).sum()) * int((columns & old_columns).sum())
            if both and (steps & old_steps).any() and not operation.override:
                where = f"operation {number} (scale_demand)"
                what = f"scales trips that operation {earlier} (scale_demand) scales as well"
                todo = f"give them different times or zones, or `override = true` in {number}"
                report.error(where, f"{what}: {both} pairs of zones", todo, count=both)
        known.append((number, rows, columns, steps))


# ---------------------------------------------------------------- events


def _check_event(
    operation: AddDemand,
    demand: Demand,
    edited: Edited | None,
    time: pd.DatetimeIndex,
    zone: str,
    report: Report,
    where: str,
) -> None:
    """Note places, origins and numbers of an event that cannot be."""
    junction = _find_place(operation, demand, edited, report, where)
    find_origins(operation, demand, report, where)
    hours = np.bincount(periods_at(time, zone, demand.period_of_hour), minlength=len(demand.trips))
    share = step_length(time).total_seconds() / 3600
    there_are = float(hours * share @ np.asarray(demand.trips).sum(axis=(1, 2)))
    if operation.trips > there_are:
        what = f"is {operation.trips:,.0f}; all trips of the horizon are {there_are:,.0f}"
        report.warning(f"{where}, `trips`", what, "check it: it is the number of cars")
    steps = {
        name: window_steps(window, time, zone, Report(), "")
        for name, window in (("arrive", operation.arrive), ("leave", operation.leave))
        if window is not None
    }
    if len(steps) == 2 and steps["arrive"].any() and steps["leave"].any():
        first = {name: int(np.argmax(each)) for name, each in steps.items()}
        if first["leave"] < first["arrive"]:
            what = "begins before anybody has arrived"
            report.warning(f"{where}, `leave`", what, "are `arrive` and `leave` swapped?")
    if junction is not None and edited is not None:
        _check_crowd(operation, junction, edited, steps, share, report, where)


def _find_place(
    operation: AddDemand, demand: Demand, edited: Edited | None, report: Report, where: str
) -> int | None:
    """Return the junction of an event, or note a place that there is not."""
    if edited is None and operation.at.node is not None:
        return None  # nobody knows the junctions
    places = Places(demand, None if edited is None else edited.roads)
    places.find(operation, report, where)
    zone = places.of.get(id(operation))
    return None if zone is None else places.junctions[zone]


def _check_crowd(
    operation: AddDemand,
    junction: int,
    edited: Edited,
    steps: dict[str, BoolArray],
    share: float,
    report: Report,
    where: str,
) -> None:
    """Note more cars per hour than the roads at the place carry."""
    ends = {"arrive": edited.roads.edge_index[1], "leave": edited.roads.edge_index[0]}
    for name, each in steps.items():
        hours = float(each.sum()) * share
        if hours == 0:
            continue
        state = edited.state(int(np.argmax(each)))
        carried = float(state.capacity_vph[(ends[name] == junction) & state.is_open].sum())
        if operation.trips / hours > carried:
            what = f"is {operation.trips / hours:,.0f} cars an hour ({name}), and the roads at "
            what += f"the place carry {carried:,.0f}"
            todo = "queues are certain; use a longer window, or the zone that has the car parks"
            report.warning(f"{where}, `trips`", what, todo)
