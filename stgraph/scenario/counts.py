"""Counted flows of a typical week, and how well modelled flows fit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError, nearest_name
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.loading import free_minutes
from stgraph.scenario.traffic import find_flow, find_speed, flow_factor, speed_factor
from stgraph.scenario.week import Days, Floats, periods_at, week_periods
from stgraph.scenario.zoning import listed

_TITLE = "cannot use the counts"


@dataclass(frozen=True, eq=False)
class Counts:
    """Vehicles per hour on some segments in the hours of a typical week."""

    segments: IntArray  # (C,) positions of the segments in the road network
    flow: Floats  # (P, C) vehicles per hour, NaN where nothing is known
    period_of_hour: IntArray  # (7, 24) which of the P holds on a weekday (Monday first) and hour
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
        report, flow = Report(), np.asarray(self.flow)
        if flow.ndim != 2 or flow.shape[1] != len(self.segments):
            todo = f"(periods, {len(self.segments)}) expected"
            report.error("`flow`", f"has shape {flow.shape}", todo)
        elif (flow < 0).any() or np.isinf(flow).any():
            report.error("`flow`", "holds negative or infinite numbers", "use NaN for unknown")
        elif not np.isfinite(flow).any():
            report.error("`flow`", "holds no number at all", "give counts of some segments")
        elif np.shape(self.period_of_hour) != (7, 24) or np.max(self.period_of_hour) >= len(flow):
            what = f"has shape {np.shape(self.period_of_hour)} or names unknown periods"
            report.error(
                "`period_of_hour`", what, f"(7, 24) numbers of 0..{len(flow) - 1} expected"
            )
        report.raise_errors(DataError, title=_TITLE)

    @property
    def n_links(self) -> int:
        """Number of counted segments C."""
        return len(self.segments)

    def take(self, which: IntArray | BoolArray) -> Counts:
        """Return the counts of some of the segments."""
        return Counts(self.segments[which], self.flow[:, which], self.period_of_hour)

    def weights(self) -> Floats:
        """Return how much a link's squared errors count, (C,): less where there is more traffic."""
        known = np.isfinite(self.flow)
        mean = np.where(known, self.flow, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return np.asarray(1.0 / (mean + mean.mean()))


def counts_from_readings(
    readings: STGraph,
    roads: STGraph,
    *,
    feature: str | None = None,
    days: Days = "kinds",
    min_values: int = 1,
) -> Counts:
    """Average counted flows over a typical week.

    Parameters
    ----------
    readings
        Segments as nodes, by `segment_id`, with flows over time, such as in ``veh/h`` or
        ``veh/5min``; of other units a warning says that they are taken as vehicles per hour.
    roads
        Junctions as nodes, segments as edges with `segment_id`.
    feature
        The flow. None takes a feature named ``"flow"``, ``"flow_vph"``, ``"count"`` or
        ``"volume"``, else one whose unit is that of a flow, else the only one.
    days
        Which days count as alike, as for `week_periods`.
    min_values
        Hours of a link that have less are unknown.

    Returns
    -------
    Counts
        The median of each hour over the days: closures and accidents hardly change it.

    Raises
    ------
    DataError
        No flow, no times, no node that is a segment, negative flows.
    """
    report = Report()
    name = _find_feature(readings, feature or _usual_flow(readings), "flow", report)
    position = _find_segments(readings, roads, report)
    report.raise_errors(DataError, title=_TITLE)
    rows = np.flatnonzero(position >= 0)
    column = readings.feature_names.index(name)
    factor = _factor(readings, column, flow_factor, "vehicles per hour", report)
    values = readings.values[:, rows, column].astype(np.float64) * factor
    values[~readings.mask[:, rows, column]] = np.nan
    if (bad := values < 0).any():
        count = int(bad.sum())
        first = readings.node_ids[rows[np.argmax(bad.any(axis=0))]]
        what = f"{count} values are negative, the first at segment {first}"
        report.error(f"`{name}`", what, "mask them", count=count)
        report.raise_errors(DataError, title=_TITLE)
    hours = week_periods(days)
    flow = _typical(values, readings, hours, min_values)
    seen = np.isfinite(flow).any(axis=0)
    if not seen.any():
        report.error(f"`{name}`", "has no values on these roads", "check the readings")
        report.raise_errors(DataError, title=_TITLE)
    return Counts(position[rows][seen], flow[:, seen], hours, report)


def usual_minutes(
    readings: STGraph,
    roads: STGraph,
    *,
    feature: str | None = None,
    hours: tuple[int, int] = (7, 19),
) -> Floats:
    """Return how long segments usually take by day, by observed speeds.

    Parameters
    ----------
    readings
        Segments as nodes, by `segment_id`, with speeds over time, in km/h, mph or m/s.
    roads
        Junctions as nodes, segments as edges with `segment_id`.
    feature
        The speed. None takes the one whose unit is that of a speed.
    hours
        From and up to which hour of the day, in the zone of the readings.

    Returns
    -------
    numpy.ndarray
        (E,) minutes: length over the median speed. Segments without readings take as much longer
        than when they are empty as those of their class do.

    Raises
    ------
    DataError
        No such feature, or no node that is a segment.
    """
    report = Report()
    known = find_speed(readings)
    usual = None if known is None else readings.feature_names[known[0]]
    name = _find_feature(readings, feature or usual, "speed", report)
    position = _find_segments(readings, roads, report)
    report.raise_errors(DataError, title="cannot use the speeds")
    rows = np.flatnonzero(position >= 0)
    column = readings.feature_names.index(name)
    factor = _factor(readings, column, speed_factor, "km/h", report)
    clock = readings.time.tz_convert(readings.zone).hour
    steps = np.flatnonzero((clock >= hours[0]) & (clock < hours[1]))
    values = readings.values[steps][:, rows, column].astype(np.float64) * factor
    values[~readings.mask[steps][:, rows, column] | (values <= 0)] = np.nan
    speed = pd.DataFrame(values).median().to_numpy(dtype=np.float64)
    minutes = free_minutes(roads)
    assert roads.edges is not None  # noqa: S101 - asked before
    length = roads.edges["length_m"].to_numpy(dtype=np.float64)[position[rows]]
    seen = np.isfinite(speed) & (length > 0)
    slower = np.full(roads.n_edges, np.nan)
    slower[position[rows][seen]] = (length / speed * 0.06 / minutes[position[rows]])[seen]
    of_class = pd.Series(slower).groupby(road_classes(roads)).transform("median")
    alike = of_class.fillna(np.nanmedian(slower) if seen.any() else 1.0).to_numpy()
    return np.asarray(minutes * np.where(np.isfinite(slower), slower, alike))


def road_classes(roads: STGraph) -> npt.NDArray[np.str_]:
    """Return the (E,) classes of segments, all alike where nothing says them."""
    table = roads.edges
    column = next((c for c in ("highway", "road_class") if table is not None and c in table), None)
    if table is None or column is None:
        return np.zeros(roads.n_edges, dtype=np.int64).astype(str)
    return table[column].astype(str).to_numpy(dtype=str)


def _usual_flow(readings: STGraph) -> str | None:
    """Return the name of the feature that is the flow, if one can tell."""
    names = readings.feature_names
    for name in ("flow", "flow_vph", "count", "volume"):
        if name in names:
            return name
    known = find_flow(readings)
    if known is not None:
        return names[known[0]]
    return names[0] if len(names) == 1 else None


def _find_feature(readings: STGraph, name: str | None, kind: str, report: Report) -> str:
    """Return the name of a feature, or note that there is none, or no times."""
    names = readings.feature_names
    if name is None or name not in names:
        hint = nearest_name(name, names, n=3) if name else ""
        what = f"no feature {name!r}{hint}" if name else f"has no feature named {kind}"
        report.error("`readings`", what, f"name it with feature=; there are {list(names)}")
    if not readings.n_steps:
        report.error("`readings`", "has no times", f"give a {kind} over time")
    return str(name)


def _factor(
    readings: STGraph,
    column: int,
    factor_of: Callable[[str], float | None],
    wanted: str,
    report: Report,
) -> float:
    """Return what the unit of a feature is in the wanted one; 1 with a warning if unknown."""
    feature = readings.features[column]
    factor = factor_of(feature.unit)
    if factor is None:
        what = f"has the unit {feature.unit!r}"
        report.warning(f"`{feature.name}`", what, f"taken as {wanted}; state the unit")
    return 1.0 if factor is None else factor


def _find_segments(readings: STGraph, roads: STGraph, report: Report) -> IntArray:
    """Return the (N,) positions of the nodes among the segments, -1 for unknown ones."""
    table = roads.edges
    if table is None or "segment_id" not in table:
        report.error("`roads`", "has no `segment_id`", "read it with a road connector")
        return np.full(readings.n_nodes, -1, dtype=np.int64)
    known = pd.Index(table["segment_id"].astype(str))
    position: IntArray = known.get_indexer(readings.node_ids.astype(str)).astype(np.int64)
    lost = position < 0
    if lost.all():
        what = f"none of its {len(lost)} nodes is a segment: {listed(readings.node_ids)}"
        report.error("`readings`", what, f"ids of segments look like {listed(known, 3)}")
    elif lost.any():
        what = f"{int(lost.sum())} nodes are no segments: {listed(readings.node_ids[lost])}"
        report.warning("`readings`", what, "left out", count=int(lost.sum()))
    return position


def _typical(values: Floats, readings: STGraph, hours: IntArray, min_values: int) -> Floats:
    """Return the (P, C) medians over days of the means of hours."""
    local = readings.time.tz_convert(readings.zone)
    # an hour of a day is one value, whatever the step
    naive = local.tz_localize(None)
    frame = pd.DataFrame(values)
    key = [naive.normalize(), periods_at(readings.time, readings.zone, hours)]
    hourly = frame.groupby(key).mean()
    grouped = hourly.groupby(level=1)
    median = grouped.median().where(grouped.count() >= min_values)
    return np.asarray(median.reindex(range(int(hours.max()) + 1)).to_numpy(), dtype=np.float64)


# ---------------------------------------------------------------- how well flows fit


@dataclass(frozen=True)
class FitQuality:
    """How well modelled flows fit counted ones, over all links and periods that are counted."""

    n_links: int
    n_values: int
    r: float  # correlation
    geh_below_5: float  # share of values; 0.85 is what planners ask for
    rmse_vph: float
    slope: float  # counted = slope x modelled, through 0

    def __str__(self) -> str:
        """Return the figures in one line."""
        return (
            f"{self.n_links} links: r {self.r:.2f}, GEH < 5 {self.geh_below_5:.0%}, "
            f"RMSE {self.rmse_vph:.0f} veh/h, slope {self.slope:.2f}"
        )


def measure_fit(modelled: npt.ArrayLike, counted: npt.ArrayLike) -> FitQuality:
    """Compare modelled with counted flows.

    Parameters
    ----------
    modelled, counted
        (P, C) vehicles per hour; NaN in `counted` is left out.

    Returns
    -------
    FitQuality
        NaN for what cannot be said, such as a correlation of equal numbers.
    """
    model, count = np.asarray(modelled, np.float64), np.asarray(counted, np.float64)
    known = np.isfinite(count)
    n_links = int(known.any(axis=0).sum())
    f, c = model[known], count[known]
    if not len(c):
        return FitQuality(0, 0, np.nan, np.nan, np.nan, np.nan)
    geh = np.sqrt(2 * (f - c) ** 2 / np.maximum(f + c, 1e-12))
    varied = f.std() > 0 and c.std() > 0
    square = float(f @ f)
    return FitQuality(
        n_links=n_links,
        n_values=len(c),
        r=float(np.corrcoef(f, c)[0, 1]) if varied else np.nan,
        geh_below_5=float((geh < 5).mean()),
        rmse_vph=float(np.sqrt(((f - c) ** 2).mean())),
        slope=float(f @ c) / square if square > 0 else np.nan,
    )
