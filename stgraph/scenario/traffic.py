"""Speeds and flows of segments, from any graph that has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import IntArray, STGraph
from stgraph.report import Report

Floats = npt.NDArray[np.float64]

_SPEED_UNITS = {"km/h": 1.0, "kmh": 1.0, "kph": 1.0, "mph": 1.609344, "mi/h": 1.609344, "m/s": 3.6}
_SHARE = "capacity_factor"
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


def read_traffic(
    graph: STGraph, segment_id: npt.NDArray[Any], report: Report, *, where: str
) -> SegmentTraffic | None:
    """Return what a graph says of some segments, or None with an error in the report.

    Parameters
    ----------
    graph
        Segments as nodes, indexed by their ids, with a feature in km/h, mph or m/s, and perhaps
        one in vehicles per time. Of several those named `speed` and `flow` count, else targets,
        else the first; of a forecast, its mean. A feature `capacity_factor` (0 to 1, or in %)
        says which part of the capacity was open.
    segment_id
        (E,) ids of the segments that are wanted; ids are compared as text.
    report
        Gets what is wrong, and how many segments nothing is known of.
    where
        What the graph is, for messages.
    """
    speed, flow = find_speed(graph), find_flow(graph)
    if speed is None:
        units = {f.name: f.unit for f in graph.features}
        report.error(
            where,
            f"has no speeds; its features are {units}",
            'give one in km/h or mph, or say so: units = {speed = "km/h"}',
        )
    if not graph.n_steps:
        report.error(where, "has no steps", "give one with values over time")
    if speed is None or not graph.n_steps:
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
    nothing = np.full((graph.n_steps, len(at)), np.nan)
    return SegmentTraffic(
        graph.time,
        graph.zone,
        _values(graph, speed, at),
        nothing if flow is None else _values(graph, flow, at),
        _open_share(graph, at),
    )


def find_speed(graph: STGraph) -> tuple[int, float] | None:
    """Return the position of the speed and what its unit is in km/h; None without one."""
    return _find(graph, "speed", speed_factor)


def find_flow(graph: STGraph) -> tuple[int, float] | None:
    """Return the position of the flow and what its unit is per hour; None without one."""
    return _find(graph, "flow", flow_factor)


def _find(
    graph: STGraph, name: str, factor_of: Callable[[str], float | None]
) -> tuple[int, float] | None:
    """Return the feature of a quantity, with the factor of its unit; bands do not count."""
    found = [
        (feature.name != name, feature.role != "target", position, factor)
        for position, feature in enumerate(graph.features)
        if (factor := factor_of(feature.unit)) is not None and not _BAND.search(feature.name)
    ]
    return min(found)[2:] if found else None


def speed_factor(unit: str) -> float | None:
    """Return what a unit of speed is in km/h; None where it is none."""
    return _SPEED_UNITS.get(unit.strip().lower())


def flow_factor(unit: str) -> float | None:
    """Return what a unit of flow is in vehicles per hour; None where it is none."""
    found = _FLOW_UNIT.fullmatch(unit.strip().lower())
    if found is None:
        return None
    hours = float(found[1] or 1) / (60.0 if found[2] == "min" else 1.0)
    return 1.0 / hours


def _open_share(graph: STGraph, at: IntArray) -> Floats | None:
    """Return which part of the capacity was open, (T, E); None where nothing says it."""
    for position, feature in enumerate(graph.features):
        if feature.name == _SHARE:
            part = _values(graph, (position, 1.0), at)
            in_percent = feature.unit.strip() == "%" or bool((np.nan_to_num(part) > 1.5).any())
            return part / 100.0 if in_percent else part
    return None


def _values(graph: STGraph, feature: tuple[int, float], at: IntArray) -> Floats:
    """Return the values of one feature, (T, E), NaN where it is not observed."""
    position, factor = feature
    values = np.where(graph.mask[:, :, position], graph.values[:, :, position], np.nan)
    found: Floats = values[:, np.maximum(at, 0)].astype(np.float64) * factor
    found[:, at < 0] = np.nan
    return found
