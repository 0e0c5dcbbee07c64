"""What comes out of a scenario: baseline, scenario, difference, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import BoolArray, FloatArray, IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.states import replaced

STATUS = ("normal", "closed", "new", "changed", "removed")
SOURCES = ("forecast", "assignment", "learned", "simulated", "diversion")

CodeArray = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class LinkEffects:
    """Speeds and flows of E segments in T steps, with and without what a scenario does.

    NaN: nothing is known, the segment is closed, or it does not exist there.
    """

    speed_base: FloatArray  # (T, E) km/h
    speed_scn: FloatArray
    flow_base: FloatArray  # (T, E) vehicles per hour
    flow_scn: FloatArray
    d_speed_low: FloatArray  # (T, E) km/h: the range of what the speed may change by
    d_speed_high: FloatArray
    d_flow_low: FloatArray
    d_flow_high: FloatArray
    significant: BoolArray  # (T, E) the change is at least twice the noise
    status: CodeArray  # (T, E) position in STATUS
    source: CodeArray  # (T, E) position in SOURCES: what the scenario's values rest on


@dataclass(frozen=True, eq=False)
class ScenarioResult:
    """A scenario that was run."""

    run_id: str  # time of the run and a mark of its inputs
    name: str
    script: str  # the scenario as YAML
    method: str  # what was used: assignment, learned, diversion, simulate, forecast
    baseline: str  # which forecast it is compared with
    zone: str  # IANA name, for local times
    roads: STGraph  # junctions as nodes, E segments as edges (a GeoDataFrame with `segment_id`)
    time: pd.DatetimeIndex  # (T,) UTC
    links: LinkEffects
    od: pd.DataFrame  # o, d, period, trips, tt_base_min, tt_scn_min, is_unreachable (cut off), and
    # d_min_low, d_min_high: the range of the change
    edits: gpd.GeoDataFrame  # as `Edited.edits`
    summary: pd.DataFrame  # metric, unit, base, scenario, change, low, high
    access: pd.DataFrame  # zone, period, jobs_15_base, jobs_15_scn, jobs_15_low and jobs_15_high
    # (the range of the change), jobs_30_base, ...; may be empty
    card: Mapping[str, Any] = field(default_factory=dict)  # what this rests on, JSON-like
    report: Report = field(default_factory=Report)
    top_n: int = 20  # streets in the lists of a page
    od_pairs: tuple[tuple[str, str], ...] = ()  # zones between which a page always shows times
    isochrones: gpd.GeoDataFrame | None = None  # zone, period, network ("baseline", "scenario"),
    # minutes, street_km, area_km2, geometry; None: nobody asked
    parent: IntArray | None = None  # (E,) as of `Edited`; None: no segment was split

    @property
    def is_replaced(self) -> BoolArray:
        """Which segments are told of by the parts that they were split into, (E,)."""
        n = self.roads.n_edges
        return replaced(np.arange(n) if self.parent is None else self.parent)
