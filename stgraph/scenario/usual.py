"""What is usual in the hours of a horizon, where there is no forecast to compare with."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd

from stgraph.errors import ConfigError
from stgraph.graph import Feature, STGraph
from stgraph.report import Report
from stgraph.scenario.history import History, kinds_of
from stgraph.scenario.opening import find_steps
from stgraph.scenario.script import Scenario
from stgraph.scenario.streets import Streets


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
