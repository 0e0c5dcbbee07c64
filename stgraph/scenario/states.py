"""What holds on a road network, with and without a scenario."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd

from stgraph.graph import BoolArray, FloatArray, IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.operations import AddDemand, ScaleDemand, SetWeather


@dataclass(frozen=True, eq=False)
class RoadState:
    """What holds on every segment of an edited network during a period."""

    is_open: BoolArray  # (E,)
    speed_kmh: FloatArray  # (E,) free-flow speed
    lanes: FloatArray  # (E,)
    capacity_vph: FloatArray  # (E,) vehicles per hour; what it would be where it is closed
    banned_turns: IntArray  # (2, K) positions of segments: from, to; with those of the baseline

    def equals(self, other: RoadState) -> bool:
        """Tell whether the same holds on every segment."""
        names = ("is_open", "speed_kmh", "lanes", "capacity_vph", "banned_turns")
        return all(np.array_equal(getattr(self, n), getattr(other, n)) for n in names)


def replaced(parent: IntArray) -> BoolArray:
    """Tell which segments have parts, by what each inherits from, (E,) as of `Edited`."""
    found = np.zeros(len(parent), dtype=np.bool_)
    found[parent[(parent >= 0) & (parent != np.arange(len(parent)))]] = True
    return found


@dataclass(frozen=True, eq=False)
class Edited:
    """A road network and what a scenario makes of it.

    Both networks have the same E segments: first those of the baseline in their order, then those
    that the scenario adds. A segment that the scenario splits stays (in the baseline) and is
    replaced by its parts (in the scenario).
    """

    roads: STGraph  # junctions as nodes, all E segments as edges with `segment_id`
    parent: (
        IntArray  # (E,) the baseline's segment whose forecast it inherits: its own position, that
    )
    # of the segment it is a part of, or -1 for a new road
    time: pd.DatetimeIndex  # (T,) steps of the horizon, UTC
    baseline: RoadState  # new segments are closed
    periods: tuple[RoadState, ...]  # distinct states of the scenario
    period_of: IntArray  # (T,) which of them holds at a step
    changes: pd.DataFrame  # a row per operation, segment and attribute: operation (number from 1),
    # op, segment_id, attribute, before, after, from, to (UTC), n_steps
    edits: gpd.GeoDataFrame  # a row per operation and segment, with its line: operation, op, label,
    # segment_id, status (closed, changed, new, removed), from, to
    demand: tuple[AddDemand | ScaleDemand, ...]
    weather: tuple[SetWeather, ...]
    report: Report

    @property
    def is_part(self) -> BoolArray:
        """Which segments are parts of one that the scenario splits, (E,)."""
        return np.asarray((self.parent >= 0) & (self.parent != np.arange(len(self.parent))))

    @property
    def is_replaced(self) -> BoolArray:
        """Which segments are there in the scenario as their parts, (E,)."""
        return replaced(self.parent)

    def state(self, step: int) -> RoadState:
        """Return what holds at a step of the scenario."""
        return self.periods[int(self.period_of[step])]
