"""Whether what a scenario does to the demand can be done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pyproj
import shapely

from stgraph.graph import BoolArray
from stgraph.report import Report
from stgraph.scenario.actions.listing import step_of
from stgraph.scenario.demand import Demand
from stgraph.scenario.operations import AddDemand, Operation, ScaleDemand
from stgraph.scenario.states import Edited
from stgraph.scenario.target_fields import shorten, three_nearest
from stgraph.scenario.week import periods_at
from stgraph.scenario.window import window_steps

_FAR_M = 2000.0  # a place farther from any zone is not in the area
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
    for field in ("from_zone", "to_zone"):
        _check_zones(getattr(operation, field), demand, report, f"{where}, `{field}`")
    if operation.factor == 1:
        report.warning(f"{where}, `factor`", "is 1", "it changes nothing")
    rows, columns = _pairs(operation, demand)
    if rows.any() and columns.any():
        scaled = np.asarray(demand.trips)[:, rows][:, :, columns]
        if not scaled.any():
            report.warning(where, "there are no trips between these zones", "it changes nothing")


def _check_zones(given: str | Iterable[str], demand: Demand, report: Report, where: str) -> None:
    """Note ids of zones that there are not."""
    if given == "any":
        return
    known = [str(name) for name in demand.zones.index]
    for one in [given] if isinstance(given, str) else given:
        if one not in known:
            what = f"no zone {one!r}; there are {len(known)}, such as {shorten(known[:3])}"
            report.error(where, what, three_nearest(one, known) or "use an id of a zone, or any")


def _pairs(operation: ScaleDemand, demand: Demand) -> tuple[BoolArray, BoolArray]:
    """Return which zones an operation is about, as origins and as destinations."""
    ids = np.array([str(name) for name in demand.zones.index], dtype=object)

    def chosen(given: str | tuple[str, ...]) -> BoolArray:
        if given == "any":
            return np.ones(len(ids), dtype=np.bool_)
        return np.isin(ids, [given] if isinstance(given, str) else list(given))

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
    _check_origins(operation, demand, report, f"{where}, `origins`")
    hours = np.bincount(periods_at(time, zone, demand.period_of_hour), minlength=len(demand.trips))
    share = step_of(time).total_seconds() / 3600
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
    at = operation.at
    if at.zone is not None:
        before = len(report.errors)
        _check_zones(at.zone, demand, report, f"{where}, `at.zone`")
        known = [str(name) for name in demand.zones.index]
        return None if len(report.errors) > before else int(demand.junctions[known.index(at.zone)])
    if at.node is not None:
        known = [] if edited is None else [str(name) for name in edited.roads.node_ids]
        if known and at.node not in known:
            todo = three_nearest(at.node, known) or "use an id of a junction"
            report.error(f"{where}, `at.node`", f"no junction {at.node!r}", todo)
        return known.index(at.node) if at.node in known else None
    return _nearest_zone(operation, demand, report, where)


def _nearest_zone(operation: AddDemand, demand: Demand, report: Report, where: str) -> int | None:
    """Return the junction of the zone nearest to a place, or note that it is far from all."""
    crs = demand.zones.crs
    if crs is None:
        report.error(f"{where}, `at`", "the zones have no CRS", "name a zone or node instead")
        return None
    points = demand.zones.geometry.representative_point().to_crs(4326)
    lon, lat = float(operation.at.lon or 0), float(operation.at.lat or 0)
    n = len(points)
    away = np.asarray(
        pyproj.Geod(ellps="WGS84").inv(
            np.full(n, lon), np.full(n, lat), points.x.to_numpy(), points.y.to_numpy()
        )[2]
    )
    nearest = int(np.argmin(away))
    shapes = np.asarray(demand.zones.geometry.to_crs(4326), dtype=object)
    inside = shapely.covers(shapes, shapely.Point(lon, lat))
    if away[nearest] > _FAR_M and not inside.any():
        what = f"{lon:g} {lat:g} is {away[nearest] / 1000:.1f} km from the nearest zone, "
        what += str(demand.zones.index[nearest])
        todo = "longitude comes first; or name a zone or node"
        report.error(f"{where}, `at`", what, todo)
        return None
    return int(demand.junctions[np.argmax(inside) if inside.any() else nearest])


def _check_origins(operation: AddDemand, demand: Demand, report: Report, where: str) -> None:
    """Note columns of weights that there are not, or that weigh nothing."""
    if operation.origins == "demand":
        return
    table = demand.zones.drop(columns=demand.zones.geometry.name)
    if operation.origins not in table:
        hint = three_nearest(operation.origins, table.columns)
        todo = f"use 'demand' or a column of the zones: {shorten(list(table.columns)) or 'none'}"
        what = f"the zones have no column {operation.origins!r}"
        report.error(where, what, f"{hint}; {todo}" if hint else todo)
        return
    weights = pd.to_numeric(table[operation.origins], errors="coerce")
    if weights.isna().all() or not weights.sum() > 0 or (weights < 0).any():
        what = f"column {operation.origins!r} has no weights above 0, or some below"
        report.error(where, what, "use a column of numbers such as inhabitants")


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
