"""Trips between zones, hour by hour of a typical week."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from stgraph.errors import DataError
from stgraph.graph import IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario._routes import expanded, find_ways, forbidden_turns
from stgraph.scenario.week import Floats
from stgraph.scenario.zoning import listed, place_zones

_TITLE = "cannot make demand"
_MOST_CELLS = 400_000_000  # numbers of all matrices together: 3.2 GB
_MANY_TRIPS = 20_000.0  # an hour from or to one zone: more than ten lanes


@dataclass(frozen=True, eq=False)
class Demand:
    """How many cars want to go from zone to zone, in a typical week.

    Raises
    ------
    DataError
        Parts that do not fit each other, trips that are negative or no numbers.
    """

    zones: gpd.GeoDataFrame  # Z rows, indexed by zone id, with a place each and perhaps weights
    junctions: IntArray  # (Z,) positions of the junctions where their trips begin and end
    trips: Floats  # (P, Z, Z) cars per hour, from row to column; 0 on the diagonal
    period_of_hour: IntArray  # (7, 24) which of the P holds on a weekday (Monday first) and hour
    provenance: Mapping[str, Any] = field(default_factory=dict)  # source, or how it was fitted
    intrazonal: Floats | None = None  # (P, Z) cars per hour inside zones: they use no link
    report: Report = field(default_factory=Report)  # what was found while it was made

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
        n, shape = len(self.zones), np.shape(self.trips)
        report = Report()
        if len(shape) != 3 or shape[1:] != (n, n) or not shape[0]:
            report.error("`trips`", f"has shape {shape}", f"(periods, {n}, {n}) expected")
        elif not np.isfinite(self.trips).all() or (np.asarray(self.trips) < 0).any():
            report.error("`trips`", "holds negative numbers or none", "correct them")
        if not self.zones.index.is_unique:
            twice = self.zones.index[self.zones.index.duplicated()]
            report.error("`zones`", f"ids appear twice: {listed(twice)}", "rename them")
        if np.shape(self.junctions) != (n,):
            what = f"has shape {np.shape(self.junctions)}"
            report.error("`junctions`", what, f"({n},) expected, one for each zone")
        hours = np.asarray(self.period_of_hour)
        if hours.shape != (7, 24):
            report.error("`period_of_hour`", f"has shape {hours.shape}", "(7, 24) expected")
        elif len(shape) == 3 and not (hours.min() >= 0 and hours.max() < shape[0]):
            what = f"names period {hours.max()} of {shape[0]}"
            report.error("`period_of_hour`", what, f"use 0..{shape[0] - 1}")
        report.raise_errors(DataError, title="not a valid Demand")

    @property
    def n_zones(self) -> int:
        """Number of zones Z."""
        return len(self.zones)

    def at(self, weekday: int, hour: int) -> Floats:
        """Return the (Z, Z) cars per hour on a weekday (Monday is 0) at an hour of the day."""
        return np.asarray(self.trips[int(self.period_of_hour[weekday, hour])])

    def totals(self) -> Floats:
        """Return the (7, 24) cars per hour in all, without trips inside zones."""
        found: Floats = np.asarray(self.trips).sum(axis=(1, 2))[self.period_of_hour]
        return found


# ---------------------------------------------------------------- what is true of all


def finish_demand(
    trips: Floats,
    hours: IntArray,
    zones: gpd.GeoDataFrame,
    roads: STGraph,
    source: Mapping[str, Any],
    placing: Mapping[str, Any],
    report: Report,
) -> Demand:
    """Place the zones, keep trips inside them apart, and tell what is odd."""
    if not trips.any():
        report.error("`trips`", "are all 0", "check the matrices")
    if not zones.index.is_unique:
        twice = zones.index[zones.index.duplicated()]
        report.error("`zones`", f"ids appear twice: {listed(twice)}", "rename them")
    found, junctions = place_zones(zones, roads, report=report, **placing)
    report.raise_errors(DataError, title=_TITLE)
    inside = np.diagonal(trips, axis1=1, axis2=2).copy()
    between = trips * ~np.eye(len(zones), dtype=bool)
    between, inside = between.astype(np.float64), inside.astype(np.float64)
    weight = np.bincount(hours.ravel(), minlength=len(trips)) / 168
    _tell_unused(between, inside, junctions, weight, report)
    _tell_unreachable(between, weight, found.index, junctions, roads, report)
    busiest = np.maximum(between.sum(axis=1).max(axis=0), between.sum(axis=2).max(axis=0))
    if (many := busiest > _MANY_TRIPS).any():
        what = f"{int(many.sum())} zones have more than {_MANY_TRIPS:,.0f} trips an hour: "
        what += listed(found.index[many])
        report.warning("`trips`", what, "check the unit: trips of a day or of an hour?")
    return Demand(found, junctions, between, hours, dict(source), inside, report)


def _tell_unused(
    between: Floats, inside: Floats, junctions: IntArray, weight: Floats, report: Report
) -> None:
    """Note trips that use no link: inside zones, and between zones of one junction."""
    total = float(weight @ (between.sum(axis=(1, 2)) + inside.sum(axis=1)))
    if inside.any():
        count = float(weight @ inside.sum(axis=1))
        what = f"{count:,.1f} trips an hour ({count / total:.1%}) stay inside their zone"
        report.info("`trips`", what, "kept apart: they use no link")
    shared = (junctions[:, None] == junctions) & ~np.eye(len(junctions), dtype=bool)
    if shared.any():
        count = float(weight @ between[:, shared].sum(axis=1))
        what = f"{int(shared.any(axis=1).sum())} zones share a junction with another one; "
        what += f"{count:,.1f} trips an hour ({count / max(total, 1e-12):.1%}) between them"
        report.info("`zones`", what, "they use no link")


def _tell_unreachable(
    trips: Floats,
    weight: Floats,
    ids: pd.Index[Any],
    junctions: IntArray,
    roads: STGraph,
    report: Report,
) -> None:
    """Note pairs with trips between which no way leads.

    Parameters
    ----------
    trips
        (P, Z, Z) cars per hour.
    weight
        (P,) share of the week that a period holds.
    ids
        (Z,) of the zones.
    junctions
        (Z,) positions of their junctions.
    roads
        Junctions as nodes, segments as edges.
    report
        Takes a warning with zones and trips.
    """
    net = expanded(roads, forbidden_turns(roads))
    reached = find_ways(net.source, net.target, net.n_nodes, junctions, net.end_of[junctions])
    if reached.all():
        return
    lost = (weight @ trips.reshape(len(trips), -1)).reshape(len(ids), -1) * ~reached
    if not lost.any():
        return
    zones = np.flatnonzero((lost.sum(axis=0) + lost.sum(axis=1)) > 0)
    worst = zones[np.argsort(-(lost.sum(axis=0) + lost.sum(axis=1))[zones], kind="stable")]
    what = f"no way leads between {int((lost > 0).sum())} pairs with {lost.sum():,.1f} trips an "
    what += f"hour, such as from or to {listed(ids[worst])}"
    report.warning("`trips`", what, "they are not served; check the streets there",
                   count=int((lost > 0).sum()))  # fmt: skip


def check_size(n_periods: int, n_zones: int, report: Report) -> None:
    """Stop before matrices are made that do not fit in memory."""
    if n_periods * n_zones**2 > _MOST_CELLS:
        what = f"{n_periods} periods of {n_zones:,} zones are {n_periods * n_zones**2:,} numbers"
        report.error("`trips`", what, "join zones, or days with days='all'")
        report.raise_errors(DataError, title=_TITLE)
