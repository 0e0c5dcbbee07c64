"""What is usual in the hours of a horizon, where there is no forecast to compare with."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import ConfigError
from stgraph.graph import Feature, STGraph
from stgraph.report import Report
from stgraph.scenario.history import History, kinds_of
from stgraph.scenario.opening import find_steps
from stgraph.scenario.script import Scenario
from stgraph.scenario.streets import Streets

Floats = npt.NDArray[np.float64]


def usual_forecast(
    scenario: Scenario, history: History, streets: Streets, roads: STGraph
) -> STGraph:
    """Return the medians of the same hours of the past, at the steps of a scenario's horizon.

    Parameters
    ----------
    scenario
        Has a horizon.
    history, streets
        The past of the segments.
    roads
        The network, for the places.

    Raises
    ------
    ConfigError
        The horizon cannot be known.
    """
    report = Report()
    time = find_steps(scenario, None, report)
    report.raise_errors(ConfigError, title=f"scenario {scenario.name!r} cannot be run")
    kind = kinds_of(time, history.zone)
    values = np.stack([history.usual_speed[kind], history.usual_flow[kind]], axis=-1)
    nodes = gpd.GeoDataFrame(
        {"kind": "segment"},
        index=pd.Index(streets.segment_id),
        geometry=streets.lines,
        crs=roads.nodes.crs,
    )
    return STGraph(
        nodes=nodes,
        time=time,
        values=values.astype(np.float32),
        features=(Feature("speed", "km/h"), Feature("flow", "veh/h")),
        zone=history.zone,
        provenance={"source": "what is usual at these hours"},
    )


def fill_flows(
    flow_vph: Floats,
    time: pd.DatetimeIndex,
    history: History | None,
    report: Report,
    *,
    where: str = "the forecast",
) -> Floats:
    """Return flows (T, E), of segments without any the usual ones of the past.

    Parameters
    ----------
    flow_vph
        (T, E) that are forecast; NaN where not known.
    time
        (T,) UTC.
    history
        Of the same segments. None: nothing is filled.
    report
        Gets how many segments have usual flows, and how many still have none.
    where
        Whose flows these are, for messages.
    """
    missing = ~np.isfinite(flow_vph).any(axis=0)
    found = flow_vph
    if history is not None and missing.any():
        usual = history.usual_flow[kinds_of(time, history.zone)]
        found = np.where(missing, usual, flow_vph)
        filled = missing & np.isfinite(usual).any(axis=0)
        if filled.any():
            what = f"has no flows of {int(filled.sum())} segments"
            todo = "those that are usual in the history are taken"
            report.info(where, what, todo, count=int(filled.sum()))
        missing = missing & ~filled
    if missing.any():
        what = f"nothing is known of the flows of {int(missing.sum())} segments"
        todo = "modelled ones are taken where trips are known"
        report.warning(where, what, todo, count=int(missing.sum()))
    return found
