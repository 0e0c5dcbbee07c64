"""What is fitted once for a city: curves, drivers, and a learned network where it pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stgraph.errors import DataError
from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph.scenario.assignment import Assignment, DriverFit, Drivers, fit_drivers
from stgraph.scenario.demand import Demand
from stgraph.scenario.history import History, build_history
from stgraph.scenario.states import RoadState
from stgraph.scenario.streets import Streets, read_streets
from stgraph.scenario.traffic import read_traffic
from stgraph.scenario.vdf import VDF, fit_vdf

if TYPE_CHECKING:  # torch is loaded where a network is fitted
    from stgraph.scenario.learned import Learned

Say = Callable[[str], None]

_DAY = list(range(6, 21))  # hours of working days that drivers are fitted to
_FEWEST_KNOWN = 0.2  # of the segments with usual flows, for drivers fitted to them


@dataclass(frozen=True, eq=False)
class City:
    """A network as it is, with all that was fitted to its past."""

    streets: Streets
    baseline: RoadState
    vdf: VDF
    history: History | None
    demand: Demand | None
    drivers: Drivers
    driver_fit: DriverFit | None
    learned: Learned | None
    report: Report

    def card(self) -> dict[str, Any]:
        """Return what results rest on, JSON-like."""
        out: dict[str, Any] = {
            "segments": len(self.streets),
            "curves": self.vdf.classes.to_dict(orient="records"),
            "drivers": self.drivers.kind,
        }
        if self.history is not None:
            first, last = self.history.hours[[0, -1]].tz_convert(self.history.zone)
            out["history"] = (
                f"{len(self.history.hours)} hours from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
            )
        if self.driver_fit is not None:
            fit = self.driver_fit
            out["fit of usual flows"] = f"correlation {fit.correlation:.3f}, slope {fit.slope:.2f}"
            out["spread of drivers' errors"] = self.drivers.spread
        if self.demand is not None:
            out["demand"] = dict(self.demand.provenance)
        if self.learned is not None:
            out["learned"] = str(self.learned)
        return out


def fit_city(
    roads: STGraph,
    *,
    history: STGraph | None = None,
    demand: Demand | None = None,
    learn: bool = True,
    seed: int = 0,
    say: Say = lambda _: None,
) -> City:
    """Fit to the past of a network what its scenarios rest on.

    Parameters
    ----------
    roads
        Junctions as nodes, segments as edges.
    history
        Speeds and flows of segments in the past, as `read_traffic` takes them. None: curves are
        the usual ones, and drivers are in equilibrium.
    demand
        Trips of a typical week. None: nothing about drivers.
    learn
        Whether to learn a network from past closures.
    seed
        Of all chance.
    say
        Is told what is being done.

    Raises
    ------
    DataError
        The network or the history cannot be used.
    """
    report = Report()
    streets = read_streets(roads, report)
    report.raise_errors(DataError, title="the network cannot be used")
    assert streets is not None  # noqa: S101 - else there was an error
    past = _read_history(history, streets, report)
    vdf = fit_vdf(streets, past, report)
    values = streets.values
    baseline = RoadState(
        np.ones(len(streets), dtype=np.bool_),
        values.speed_kmh,
        values.lanes,
        values.capacity_vph,
        streets.forbidden,
    )
    fit, learned = None, None
    if demand is not None:
        report.extend(demand.report)
        assignment = Assignment(streets.roads, vdf, demand.junctions, Drivers(), seed=seed)
        if past is not None and _known_flows(past) >= _FEWEST_KNOWN:
            say("fitting drivers to usual flows")
            fit = _fit_drivers(assignment, baseline, demand, past)
            assignment.drivers = fit.drivers
            if learn:
                from stgraph.scenario.learned import fit_learned

                learned = fit_learned(
                    streets, past, demand, assignment, baseline, report=report, say=say
                )
        else:
            report.warning(
                "drivers",
                "no usual flows to fit them to",
                "they are in equilibrium; effects on flows are a pattern more than amounts",
            )
    drivers = Drivers() if fit is None else fit.drivers
    return City(streets, baseline, vdf, past, demand, drivers, fit, learned, report)


def _read_history(history: STGraph | None, streets: Streets, report: Report) -> History | None:
    """Return the past of the segments; None without one."""
    if history is None:
        return None
    traffic = read_traffic(history, streets.segment_id, report, where="the history")
    report.raise_errors(DataError, title="the history cannot be used")
    assert traffic is not None  # noqa: S101 - else there was an error
    return build_history(traffic)


def _known_flows(history: History) -> float:
    """Return the share of segments whose flow by day is usually known."""
    return float(np.isfinite(history.usual_flow[_DAY]).any(axis=0).mean())


def _fit_drivers(
    assignment: Assignment, baseline: RoadState, demand: Demand, history: History
) -> DriverFit:
    """Return the drivers that fit the usual flows and speeds of working days between 6 and 21 h."""
    hours = [hour for hour in _DAY if np.isfinite(history.usual_flow[hour]).any()]
    trips = [demand.at(0, hour) for hour in hours]
    flows = [history.usual_flow[hour] for hour in hours]
    speeds = [history.usual_speed[hour] for hour in hours]
    return fit_drivers(assignment, baseline, trips, flows, speeds)
