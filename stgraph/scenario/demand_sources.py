"""Demand from matrices, patterns and what the connector `od` reads."""

from __future__ import annotations

from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError, nearest_name, shown
from stgraph.graph import IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.balancing import furness
from stgraph.scenario.demand import Demand, check_size, finish_demand
from stgraph.scenario.week import Days, Floats, fill_periods, periods_at, week_periods
from stgraph.scenario.zoning import listed

Per = Literal["hour", "day", "period"]

# share of a working day's car trips per hour: usual in cities, for those who know no better
USUAL_PROFILE = (
    0.007, 0.004, 0.003, 0.003, 0.006, 0.017, 0.043, 0.074, 0.073, 0.053, 0.048, 0.050,
    0.053, 0.054, 0.058, 0.068, 0.082, 0.083, 0.068, 0.050, 0.036, 0.029, 0.023, 0.015,
)  # fmt: skip

_TITLE = "cannot make demand"


def demand_from_matrices(
    matrices: npt.ArrayLike,
    zones: gpd.GeoDataFrame,
    roads: STGraph,
    *,
    time: pd.DatetimeIndex | None = None,
    zone: str = "UTC",
    days: Days = "kinds",
    period_of_hour: npt.ArrayLike | None = None,
    junction_column: str | None = None,
    max_distance_m: float = 2000.0,
    source: str = "matrices",
) -> Demand:
    """Make demand of matrices of cars per hour.

    Parameters
    ----------
    matrices
        (P, Z, Z) cars per hour, or (Z, Z) for all hours; with `time` (T, Z, Z), averaged over a
        typical week.
    zones
        Z rows in the order of the matrices: points or polygons with ids as index.
    roads
        Junctions as nodes, segments as edges.
    time
        (T,) beginnings of the hours, or parts of hours, that the matrices are of.
    zone
        IANA zone in which `time` has weekdays and hours.
    days
        Which days count as alike where there is `time`, as for `week_periods`.
    period_of_hour
        (7, 24) which matrix holds when. None: 1 matrix holds always, 24 are hours of every day, 72
        and 168 are as `week_periods` numbers them.
    junction_column
        Column of `zones` with ids of junctions. None: the nearest junction.
    max_distance_m
        Zones farther from a street are reported.
    source
        For the provenance.

    Returns
    -------
    Demand
        Its `report` tells what was found: trips inside zones (kept apart), far zones, zones that
        no way leads to.

    Raises
    ------
    DataError
        Lists everything that cannot be used.
    """
    report = Report()
    trips = _as_matrices(matrices, zones, report)
    report.raise_errors(DataError, title=_TITLE)
    assert trips is not None  # noqa: S101 - else there was an error
    if time is not None:
        trips, hours = _average_week(trips, time, zone, days, report)
    else:
        hours = _hours_of(len(trips), period_of_hour, report)
    report.raise_errors(DataError, title=_TITLE)
    placing = {"junction_column": junction_column, "max_distance_m": max_distance_m}
    return finish_demand(trips, hours, zones, roads, {"source": source}, placing, report)


def demand_from_patterns(
    patterns: npt.ArrayLike,
    zones: gpd.GeoDataFrame,
    roads: STGraph,
    *,
    trips_per_day: float | npt.ArrayLike,
    hour_share: npt.ArrayLike = USUAL_PROFILE,
    mix: npt.ArrayLike | None = None,
    junction_column: str | None = None,
    max_distance_m: float = 2000.0,
) -> Demand:
    """Make demand of patterns of trips, such as to work and home, and their shares by hour.

    Parameters
    ----------
    patterns
        (K, Z, Z), each taken as shares of its own total.
    zones, roads, junction_column, max_distance_m
        As for `demand_from_matrices`.
    trips_per_day
        Cars of a day, or (7,) of every weekday.
    hour_share
        (24,) or (7, 24) shares of the day's trips; scaled so that a day adds up to 1.
    mix
        (24, K) or (7, 24, K) shares of the patterns in an hour; scaled to add up to 1. None: equal.

    Returns
    -------
    Demand
        Cars per hour: trips x share of the hour x mix of patterns.

    Raises
    ------
    DataError
        Lists everything that cannot be used.
    """
    report = Report()
    shapes = _as_matrices(patterns, zones, report, name="`patterns`")
    report.raise_errors(DataError, title=_TITLE)
    assert shapes is not None  # noqa: S101 - else there was an error
    totals = shapes.sum(axis=(1, 2), keepdims=True)
    if (totals == 0).any():
        which = np.flatnonzero(totals.ravel() == 0).tolist()
        report.error("`patterns`", f"{which} are all 0", "leave them out")
    a_day = _shaped(trips_per_day, "`trips_per_day`", [(), (7,)], (7,), report)
    share = _shaped(hour_share, "`hour_share`", [(24,), (7, 24)], (7, 24), report)
    k = len(shapes)
    given = np.full((24, k), 1.0 / k) if mix is None else mix
    parts = _shaped(given, "`mix`", [(24, k), (7, 24, k)], (7, 24, k), report)
    for values, name in ((share, "`hour_share`"), (parts, "`mix`")):
        if values is not None and (values.sum(axis=-1) == 0).any():
            report.error(name, "has shares that are all 0", "give one above 0")
    report.raise_errors(DataError, title=_TITLE)
    assert a_day is not None and share is not None and parts is not None  # noqa: S101, PT018
    share = share / share.sum(axis=1, keepdims=True)
    parts = parts / parts.sum(axis=2, keepdims=True)
    amounts = (a_day[:, None] * share)[:, :, None] * parts  # (7, 24, K) cars per hour
    distinct, hours = np.unique(amounts.reshape(-1, k), axis=0, return_inverse=True)
    check_size(len(distinct), shapes.shape[1], report)
    trips = np.tensordot(distinct, shapes / totals, axes=(1, 0))
    placing = {"junction_column": junction_column, "max_distance_m": max_distance_m}
    source = {"source": "patterns", "n_patterns": k}
    return finish_demand(trips, hours.reshape(7, 24), zones, roads, source, placing, report)


def demand_from_od(
    od: STGraph,
    roads: STGraph,
    *,
    per: Per | None = None,
    hours: tuple[float, float] | None = None,
    profile: npt.ArrayLike | None = None,
    days: Days = "kinds",
    junction_column: str | None = None,
    max_distance_m: float = 2000.0,
) -> Demand:
    """Make demand of an origin-destination matrix as the connector `od` reads it.

    Parameters
    ----------
    od
        Zones as nodes, pairs as edges with trips as weights. Where it has times, the trips of an
        hour of the week are the whole matrix, balanced to the mean productions and attractions of
        that hour.
    roads
        Junctions as nodes, segments as edges.
    per
        What the trips are of: an ``"hour"``, a ``"day"``, or a ``"period"`` of the day, named in
        `hours`. None: as the unit says (``"trips/h"``, ``"trips/day"``), or by its times.
    hours
        Beginning and end of the period in hours of the day, such as ``(7, 9)``.
    profile
        (24,) or (7, 24) how the trips of an hour compare with those of others. None: `per` day has
        a usual day's (with a warning), `per` hour the same trips at all hours, `per` period
        trips in that period alone.
    days
        Which days count as alike where there are times, as for `week_periods`.
    junction_column, max_distance_m
        As for `demand_from_matrices`.

    Returns
    -------
    Demand
        Cars per hour; its `report` has what was found and assumed.

    Raises
    ------
    DataError
        Lists everything that cannot be used.
    """
    report = Report()
    matrix = _square(od, report)
    if od.n_steps:
        trips, week = _over_time(od, matrix, days, report)
    else:
        shares = _shares(od.weight_unit, per, hours, profile, report)
        report.raise_errors(DataError, title=_TITLE)
        distinct, codes = np.unique(shares.ravel(), return_inverse=True)
        check_size(len(distinct), od.n_nodes, report)
        trips, week = distinct[:, None, None] * matrix, codes.reshape(7, 24)
    report.raise_errors(DataError, title=_TITLE)
    placing = {"junction_column": junction_column, "max_distance_m": max_distance_m}
    source = {"source": "od", "of": od.provenance.get("source"), "total": float(matrix.sum())}
    return finish_demand(trips, week, od.nodes, roads, source, placing, report)


# ---------------------------------------------------------------- matrices


def _as_matrices(
    given: npt.ArrayLike, zones: gpd.GeoDataFrame, report: Report, *, name: str = "`matrices`"
) -> Floats | None:
    """Return (P, Z, Z) numbers of at least 0, or note why they are none."""
    try:
        found = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        report.error(name, "holds what is no number", "give an array of numbers")
        return None
    found = found[None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[1] != found.shape[2] or not found.size:
        report.error(name, f"has shape {np.shape(given)}", "(periods, zones, zones) expected")
        return None
    if found.shape[1] != len(zones):
        what = f"has {found.shape[1]} rows for {len(zones)} zones"
        report.error(name, what, "give a zone for every row, in the same order")
        return None
    for bad, word in ((~np.isfinite(found), "no finite number"), (found < 0, "negative")):
        if bad.any():
            period, i, j = (int(one) for one in np.argwhere(bad)[0])
            ids = zones.index
            what = f"{int(bad.sum())} entries are {word}, the first {found[period, i, j]} "
            what += f"from {shown(ids[i])} to {shown(ids[j])} in matrix {period}"
            report.error(name, what, "correct them; no trips are 0", count=int(bad.sum()))
    return found


def _square(od: STGraph, report: Report) -> Floats:
    """Return the trips of an OD graph as a (Z, Z) matrix."""
    if od.n_nodes == 0 or od.n_edges == 0:
        report.error("`od`", f"has {od.n_nodes} zones and {od.n_edges} pairs", "check the matrix")
        report.raise_errors(DataError, title=_TITLE)
    kinds = set(od.nodes["kind"].astype(str))
    if kinds & {"junction", "segment"}:
        what = f"is a road network (nodes of kind {sorted(kinds)})"
        report.error("`od`", what, "pass what read_od gives, then the roads")
        report.raise_errors(DataError, title=_TITLE)
    check_size(1, od.n_nodes, report)
    # weights are float32: the table has the trips as they were read
    table = od.edges
    exact = table is not None and "trips" in table and not od.n_steps
    trips = np.asarray(table["trips"] if exact and table is not None else od.edge_weight)
    matrix = np.zeros((od.n_nodes, od.n_nodes))
    np.add.at(matrix, (od.edge_index[0], od.edge_index[1]), trips.astype(np.float64))
    checked = _as_matrices(matrix, od.nodes, report, name="`od`")
    report.raise_errors(DataError, title=_TITLE)
    if not matrix.any():
        report.error("`od`", "all trips are 0", "check the column of the trips")
    return matrix if checked is None else checked[0]


def _shaped(
    given: npt.ArrayLike,
    name: str,
    allowed: list[tuple[int, ...]],
    wanted: tuple[int, ...],
    report: Report,
) -> Floats | None:
    """Return numbers of at least 0 in the shape wanted, or note why they are none."""
    try:
        found = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        report.error(name, "holds what is no number", "give numbers")
        return None
    if found.shape not in allowed:
        report.error(name, f"has shape {found.shape}", f"one of {allowed} expected")
        return None
    if not np.isfinite(found).all() or (found < 0).any():
        report.error(name, "holds negative numbers or none", "give numbers of at least 0")
        return None
    return np.broadcast_to(found, wanted)


# ---------------------------------------------------------------- times


def _hours_of(n_periods: int, given: npt.ArrayLike | None, report: Report) -> IntArray:
    """Return which of P matrices holds when."""
    if given is not None:
        hours = np.asarray(given)
        if hours.shape != (7, 24) or hours.dtype.kind not in "iu":
            what = f"has shape {hours.shape} and type {hours.dtype}"
            report.error("`period_of_hour`", what, "(7, 24) whole numbers expected")
        elif hours.min() < 0 or hours.max() >= n_periods:
            what = f"names matrix {hours.min() if hours.min() < 0 else hours.max()}"
            report.error("`period_of_hour`", what, f"there are 0..{n_periods - 1}")
        return hours.astype(np.int64) if hours.dtype.kind in "iu" else hours
    usual: dict[int, IntArray] = {1: np.zeros((7, 24), dtype=np.int64)}
    usual |= {24: week_periods("all"), 72: week_periods("kinds"), 168: week_periods("each")}
    if n_periods not in usual:
        todo = "say when each holds with period_of_hour=, or give times with time="
        report.error("`matrices`", f"there are {n_periods}", todo)
    return usual.get(n_periods, usual[1])


def _average_week(
    trips: Floats, time: pd.DatetimeIndex, zone: str, days: Days, report: Report
) -> tuple[Floats, IntArray]:
    """Return the means of the hours of a week, and which of them holds when."""
    hours = week_periods(days)
    if len(time) != len(trips):
        report.error("`time`", f"has {len(time)} instants", f"{len(trips)} expected")
        return trips, hours
    check_size(int(hours.max()) + 1, trips.shape[1], report)
    period = periods_at(pd.DatetimeIndex(time), zone, hours)
    n = int(hours.max()) + 1
    count = np.bincount(period, minlength=n)
    sums = np.zeros((n, *trips.shape[1:]))
    np.add.at(sums, period, trips)
    mean = sums / np.maximum(count, 1)[:, None, None]
    return _fill(mean, count > 0, hours, report), hours


def _fill(mean: Floats, known: Any, hours: IntArray, report: Report) -> Floats:
    """Fill hours of which nothing is known, and say so."""
    filled, empty = fill_periods(mean, known, hours)
    missing = int((~np.asarray(known)).sum())
    if missing:
        what = f"{missing} of {len(mean)} hours of the week are in no matrix"
        report.warning("`time`", what, "taken from the same hour of other days", count=missing)
    if len(empty):
        what = f"the hours {listed(empty, 24)} of the day are on no day"
        report.warning("`time`", what, "without trips then", count=len(empty))
    return filled


def _over_time(od: STGraph, matrix: Floats, days: Days, report: Report) -> tuple[Floats, IntArray]:
    """Return the matrix balanced to the mean sums of each hour of the week."""
    hours = week_periods(days)
    n = int(hours.max()) + 1
    names = ("productions", "attractions")
    step_h = 1.0 if od.step is None else od.step / pd.Timedelta(hours=1)
    if any(name not in od.feature_names for name in names):
        what = f"has times but not the features {names}, only {od.feature_names}"
        report.error("`od`", what, "read it with the connector od")
    if step_h > 1:
        what = f"has steps of {step_h:g} hours"
        report.error("`od`", what, "give steps of an hour or less, or read it without times")
    report.raise_errors(DataError, title=_TITLE)
    check_size(n, od.n_nodes, report)
    sums = np.asarray(od.select_features(names).values, dtype=np.float64) / step_h
    seen = np.isfinite(sums).all(axis=(1, 2))
    period = periods_at(od.time, od.zone, hours)
    count = np.bincount(period[seen], minlength=n)
    mean = np.zeros((n, od.n_nodes, 2))
    np.add.at(mean, period[seen], sums[seen])
    mean = _fill(mean / np.maximum(count, 1)[:, None, None], count > 0, hours, report)
    trips = np.stack([furness(matrix, one[:, 0], one[:, 1]) for one in mean])
    what = "who goes where is that of all times; how many begin and end where is of each hour"
    report.info("`od`", what, "matrices per hour go into demand_from_matrices(time=)")
    return trips, hours


def _shares(
    unit: str,
    per: Per | None,
    hours: tuple[float, float] | None,
    profile: npt.ArrayLike | None,
    report: Report,
) -> Floats:
    """Return the (7, 24) share of a static matrix that an hour has."""
    nothing = np.ones((7, 24))
    known = _of_unit(unit) if per is None else per
    if known is None or known not in get_args(Per):
        what = f"unknown value {known!r}{nearest_name(known, get_args(Per))}"
        if per is None:
            what = f"is not given, and the unit {unit!r} does not say it"
        report.error("`per`", what, "say what the trips are of: 'hour', 'day' or 'period'")
        return nothing
    window = _window(known, hours, report)
    given: Floats | None = window
    if profile is not None:
        given = _shaped(profile, "`profile`", [(24,), (7, 24)], (7, 24), report)
    elif known == "day":
        given = np.broadcast_to(np.asarray(USUAL_PROFILE), (7, 24))
        what = "is not given: the trips are spread over the day as usual in cities"
        report.warning("`profile`", what, "give the shares of 24 hours, or scale to counts")
    elif known == "period":
        todo = "give a profile to have trips at other hours"
        report.warning("`profile`", "is not given: there are no trips outside `hours`", todo)
    else:
        what = "is not given: the same trips at every hour of the week"
        report.warning("`profile`", what, "give 24 factors of the trips")
    if report.errors or given is None:
        return nothing
    if known == "hour":
        return np.asarray(given)
    whole = (window if given is window else given * window).sum(axis=1, keepdims=True)
    if (whole == 0).any():
        report.error("`profile`", "is 0 throughout the period", "give numbers above 0")
        return nothing
    return np.asarray(given / whole)


def _window(per: str, hours: tuple[float, float] | None, report: Report) -> Floats:
    """Return the (7, 24) part of every hour that a period of the day covers."""
    whole = np.ones((7, 24))
    if per != "period":
        if hours is not None:
            report.error("`hours`", f"is {hours} while `per` is {per!r}", "use per='period'")
        return whole
    numbers = hours if isinstance(hours, tuple | list) and len(hours) == 2 else (0, 0)
    start, end = (float(h) if isinstance(h, int | float) else np.nan for h in numbers)
    if not 0 <= start < end <= 24:
        todo = "give beginning and end in hours of the day, such as (7, 9)"
        report.error("`hours`", f"is {hours!r}", todo)
        return whole
    clock = np.arange(24)
    return np.broadcast_to(np.clip(np.minimum(end, clock + 1) - np.maximum(start, clock), 0, 1),
                           (7, 24))  # fmt: skip


def _of_unit(unit: str) -> str | None:
    """Return what trips are of, by their unit."""
    words = unit.casefold().replace("per", "/").replace(" ", "")
    ends = {"/h": "hour", "/hr": "hour", "/hour": "hour", "vph": "hour", "/d": "day", "/day": "day"}
    return next((per for end, per in ends.items() if words.endswith(end)), None)
