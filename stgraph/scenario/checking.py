"""Everything about a scenario that can be known before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.checking_demand import check_demand
from stgraph.scenario.demand import Demand
from stgraph.scenario.editing import sort_findings, try_edit
from stgraph.scenario.operations import Operation, SetWeather
from stgraph.scenario.reaching import check_junctions, check_trips
from stgraph.scenario.script import Scenario
from stgraph.scenario.states import Edited
from stgraph.scenario.target_fields import shorten, three_nearest
from stgraph.scenario.weather import check_features, features_told
from stgraph.scenario.window import window_steps

_FLOW = "flow"
_LITTLE_VPH = 1.0  # less is nobody
_OWN_SENSOR = "own sensor"


def check(
    scenario: Scenario,
    roads: STGraph,
    *,
    time: pd.DatetimeIndex,
    demand: Demand | None = None,
    forecast: STGraph | None = None,
    force: bool = False,
    allow_disconnect: bool = False,
) -> tuple[Edited | None, Report]:
    """Return what a scenario would change, and everything that is wrong with it.

    Parameters
    ----------
    scenario
        Operations in their order.
    roads
        The network, in the reading ``nodes="junctions"``.
    time
        (T,) steps of the horizon, UTC.
    demand
        Trips between zones; None: what needs them is an error, and cut-off trips are not counted.
    forecast
        Of every segment by `segment_id`; None: what it would tell is not checked.
    force
        Take targets of more than a fifth of the network without complaint.
    allow_disconnect
        Whether trips that can no longer be made are left out, which is an error otherwise.

    Returns
    -------
    edited
        Both networks; None where errors stand in the way.
    report
        Errors, warnings and notes, with number and kind of the operation, field, value, and what
        is allowed.
    """
    report = Report()
    zone = scenario.timezone or "UTC"
    edited = try_edit(scenario, roads, time, report, force=force)
    numbered = list(enumerate(scenario.operations, 1))
    if not numbered:
        report.info("`operations`", "there are none", "the scenario is the baseline")
    if len(time) == 0:
        return None, report
    steps = time if time.tz is not None else time.tz_localize("UTC")
    promised = scenario.demand is not None
    check_demand(numbered, demand, edited, steps, zone, report, is_promised=promised)
    _check_weather(numbered, forecast, steps, scenario.timezone, report)
    _check_zones(scenario, demand, report, is_promised=promised)
    if forecast is not None:
        _check_horizon(steps, forecast, report)
    if edited is not None:
        if demand is None:
            check_junctions(edited, report)
        else:
            check_trips(edited, demand, zone, report, allow_disconnect=allow_disconnect)
        if forecast is not None:
            _check_forecast(edited, forecast, report)
    sort_findings(report)
    return (None if report.errors else edited), report


def check_promise(scenario: Scenario, demand: Demand | None, report: Report) -> None:
    """Note what a scenario asks of a demand that it names, and that was not given.

    Parameters
    ----------
    scenario
        Operations, the source of its demand, and what is to be shown.
    demand
        Trips between zones; None: nobody has read them.
    report
        Gets errors of operations that would do nothing, and warnings of what would not be shown.
    """
    if demand is not None or scenario.demand is None:
        return
    numbered = list(enumerate(scenario.operations, 1))
    check_demand(numbered, None, None, pd.DatetimeIndex([]), "UTC", report)
    what = "the script names a source of trips, and none were given: no times between zones"
    report.warning("`demand`", what, "give `demand`, or run the file, which reads it")
    for field, asked in _asked(scenario).items():
        if asked:
            report.warning(f"`outputs.{field}`", "needs zones, and there are none", "give `demand`")


def _asked(scenario: Scenario) -> dict[str, list[str]]:
    """Return the zones that each of the outputs is about."""
    outputs = scenario.outputs
    places = [] if outputs.isochrones is None else list(outputs.isochrones.from_)
    return {
        "od_pairs": [name for pair in outputs.od_pairs for name in pair],
        "isochrones": places,
    }


def _check_zones(
    scenario: Scenario, demand: Demand | None, report: Report, *, is_promised: bool
) -> None:
    """Note zones to be shown that are no zones of the demand."""
    asked = _asked(scenario)
    if demand is None and not is_promised:
        what, todo = "needs zones, and there are none", "give `demand`, or leave them out"
        if asked["isochrones"]:
            report.error("`outputs.isochrones`", what, todo)
        if asked["od_pairs"]:
            report.warning("`outputs.od_pairs`", what, todo)
    if demand is None:
        return
    known = {str(name) for name in demand.zones.index}
    for field, names in asked.items():
        for name in dict.fromkeys(names):
            if name not in known:
                todo = three_nearest(name, known)
                report.error(f"`outputs.{field}`", f"no zone {name!r}", todo)


def _check_weather(
    operations: Sequence[tuple[int, Operation]],
    forecast: STGraph | None,
    time: pd.DatetimeIndex,
    zone: str | None,
    report: Report,
) -> None:
    """Note features that the model does not know, and those that are set twice."""
    told = None if forecast is None else features_told(forecast)
    if told is not None:
        check_features([(n, o) for n, o in operations if isinstance(o, SetWeather)], told, report)
    earlier: list[tuple[int, str, BoolArray]] = []
    for number, operation in operations:
        if not isinstance(operation, SetWeather):
            continue
        where = f"operation {number} (set_weather)"
        if told is None:
            lacks = "a forecast" if forecast is None else "knowing the features of the model"
            report.info(
                f"{where}, `feature`", f"{operation.feature!r} is not checked without {lacks}"
            )
        steps = window_steps(operation.window, time, zone, Report(), where)
        for other, feature, its_steps in earlier:
            if feature == operation.feature and (steps & its_steps).any():
                if operation.override:
                    continue
                what = f"sets {feature!r}, which operation {other} (set_weather) sets as well"
                todo = f"give them different times, or `override = true` in operation {number}"
                report.error(where, what, todo)
        earlier.append((number, operation.feature, steps))


def _check_horizon(time: pd.DatetimeIndex, forecast: STGraph, report: Report) -> None:
    """Note steps that the forecast does not have."""
    missing = ~time.isin(forecast.time)
    if missing.any():
        count, first = int(missing.sum()), time[int(np.argmax(missing))]
        what = f"{count} of {len(time)} steps are not in the forecast, first {first:%Y-%m-%d %H:%M}"
        span = "it is empty"
        if forecast.n_steps:
            a, b = forecast.time[0], forecast.time[-1]
            step = (
                ""
                if forecast.step is None
                else f" every {forecast.step.total_seconds() / 60:g} min"
            )
            span = f"it goes from {a:%Y-%m-%d %H:%M} to {b:%Y-%m-%d %H:%M} UTC{step}"
        report.error("`horizon`", what, span, count=count)


# ---------------------------------------------------------------- what the forecast tells


def _check_forecast(edited: Edited, forecast: STGraph, report: Report) -> None:
    """Note closures without traffic, closed sensors, and segments without a forecast."""
    assert edited.roads.edges is not None  # noqa: S101 - segments are edges
    ids = pd.Index(edited.roads.edges["segment_id"])
    column = _columns(ids, forecast)
    for (number, op), rows in edited.changes.groupby(["operation", "op"], sort=True):
        where = f"operation {number} ({op})"
        at = np.unique(ids.get_indexer(pd.Index(rows["segment_id"])))
        parents = edited.parent[at]
        old = np.unique(parents[parents >= 0])
        none = old[column[old] < 0]
        if len(none):
            what = f"{len(none)} segments have no forecast: {shorten(ids[none])}"
            todo = "nothing to compare with there; is it a forecast of these roads?"
            report.warning(where, what, todo, count=len(none))
        closing = rows[(rows["attribute"] == "is_open") & (rows["after"] == 0)]
        closed = np.asarray(ids.get_indexer(pd.Index(closing["segment_id"])), dtype=np.int64)
        closed = np.unique(np.maximum(edited.parent[closed], 0))
        if len(closing):
            _check_flow(where, closed, column, edited, forecast, report)
            _check_sensors(where, closed, column, ids, forecast, report)


def _columns(ids: pd.Index, forecast: STGraph) -> IntArray:
    """Return where a forecast has each segment, -1 where it has none."""
    names = pd.Index([str(name) for name in forecast.node_ids])
    wanted = pd.Index([str(name) for name in ids])
    return np.asarray(names.get_indexer(wanted), dtype=np.int64)


def _check_flow(
    where: str,
    closed: IntArray,
    column: IntArray,
    edited: Edited,
    forecast: STGraph,
    report: Report,
) -> None:
    """Note closures of segments on which nobody drives."""
    names = [name for name in forecast.feature_names if name in (_FLOW, f"{_FLOW}_q50")]
    at = column[closed]
    if not names or (at < 0).any():
        return
    while_closed = np.array([not state.is_open[closed].any() for state in edited.periods])
    steps = forecast.time.get_indexer(edited.time[while_closed[edited.period_of]])
    steps = steps[steps >= 0]
    flow = forecast.values[:, at, forecast.feature_names.index(names[0])][steps]
    known = np.isfinite(flow)
    if known.any() and float(flow[known].max()) < _LITTLE_VPH:
        what = f"nobody is forecast on the {len(closed)} segments that it closes"
        report.warning(where, what, "no effect expected", count=len(closed))


def _check_sensors(
    where: str,
    closed: IntArray,
    column: IntArray,
    ids: pd.Index,
    forecast: STGraph,
    report: Report,
) -> None:
    """Note closed segments that are measured."""
    if "support" not in forecast.nodes:
        return
    support = forecast.nodes["support"].astype(str).to_numpy()
    at = column[closed]
    own = closed[(at >= 0) & (support[np.maximum(at, 0)] == _OWN_SENSOR)]
    if len(own):
        what = f"closes {len(own)} segments that carry sensors: {shorten(ids[own])}"
        report.warning(where, what, "their readings are masked while it holds", count=len(own))
