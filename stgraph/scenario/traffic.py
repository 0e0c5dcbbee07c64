"""Speeds and flows of segments, from any graph that has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import STGraph
from stgraph.report import Report

Floats = npt.NDArray[np.float64]

_SPEED_UNITS = {"km/h": 1.0, "kmh": 1.0, "kph": 1.0, "mph": 1.609344, "m/s": 3.6}
_FLOW_UNIT = re.compile(r"(?:veh|vehicles?|cars?)\s*/\s*(?:(\d+(?:\.\d+)?)\s*)?(h|hour|min)")
_BAND = re.compile(r"_q\d+$")


@dataclass(frozen=True, eq=False)
class SegmentTraffic:
    """Speeds and flows of E segments in T steps; NaN: not known."""

    time: pd.DatetimeIndex  # (T,) UTC
    zone: str  # IANA name
    speed_kmh: Floats  # (T, E)
    flow_vph: Floats  # (T, E) vehicles per hour
    capacity_share: Floats | None = None  # (T, E) of the capacity that is open, 0 closed

    @property
    def has_flow(self) -> bool:
        """Whether any flow is known."""
        return bool(np.isfinite(self.flow_vph).any())


def read_traffic(
    graph: STGraph, segment_id: npt.NDArray[Any], report: Report, *, where: str
) -> SegmentTraffic | None:
    """Return what a graph says of some segments, or None with an error in the report.

    Parameters
    ----------
    graph
        Segments as nodes, indexed by their ids, with a feature in km/h, mph or m/s, and perhaps
        one in vehicles per time. Of a forecast, its mean counts. A feature `capacity_factor`
        (0 to 1, or in %) says which part of the capacity was open.
    segment_id
        (E,) ids of the segments that are wanted; ids are compared as text.
    report
        Gets what is wrong, and how many segments nothing is known of.
    where
        What the graph is, for messages.
    """
    speed, flow = _find(graph, _SPEED_UNITS.get), _find(graph, _per_hour)
    if speed is None:
        units = {f.name: f.unit for f in graph.features}
        report.error(where, f"has no speeds; its features are {units}", "give one in km/h or mph")
    if not graph.n_steps:
        report.error(where, "has no steps", "give one with values over time")
    if report.errors or speed is None:
        return None
    ids = pd.Index([str(name) for name in graph.node_ids])
    at = ids.get_indexer(pd.Index([str(int(one)) for one in segment_id]))
    if (at < 0).all():
        report.error(
            where,
            f"knows none of the segments; its nodes are like {list(ids[:3])}",
            "give one whose nodes are the segments of the roads",
        )
        return None
    unknown = int((at < 0).sum())
    if unknown:
        what = f"nothing is known of {unknown} of {len(at)} segments"
        report.warning(where, what, "they have no values", count=unknown)
    share = [i for i, f in enumerate(graph.features) if f.name == "capacity_factor"]
    part = _values(graph, (share[0], 1.0), at) if share else None
    if part is not None and np.nanmax(part, initial=0.0) > 1.5:
        part = part / 100.0
    nothing = np.full((graph.n_steps, len(at)), np.nan)
    return SegmentTraffic(
        graph.time,
        graph.zone,
        _values(graph, speed, at),
        nothing if flow is None else _values(graph, flow, at),
        part,
    )


def _find(graph: STGraph, factor_of: Any) -> tuple[int, float] | None:
    """Return the first feature whose unit is known, with its factor; bands do not count."""
    for position, feature in enumerate(graph.features):
        factor = factor_of(feature.unit.strip())
        if factor is not None and not _BAND.search(feature.name):
            return position, factor
    return None


def _per_hour(unit: str) -> float | None:
    """Return what a unit of flow is in vehicles per hour."""
    found = _FLOW_UNIT.fullmatch(unit.strip().lower())
    if found is None:
        return None
    hours = float(found[1] or 1) / (60.0 if found[2] == "min" else 1.0)
    return 1.0 / hours


def _values(graph: STGraph, feature: tuple[int, float], at: Any) -> Floats:
    """Return the values of one feature, (T, E), NaN where it is not observed."""
    position, factor = feature
    values = np.where(graph.mask[:, :, position], graph.values[:, :, position], np.nan)
    found: Floats = values[:, np.maximum(at, 0)].astype(np.float64) * factor
    found[:, at < 0] = np.nan
    return found
