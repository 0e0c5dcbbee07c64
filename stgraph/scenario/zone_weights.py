"""Weights of zones: given as columns, or found by counted flows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.sparse import csr_array

from stgraph.errors import DataError, nearest_name, shown
from stgraph.graph import IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.balancing import fit_mix
from stgraph.scenario.counts import Counts, road_classes
from stgraph.scenario.week import Floats
from stgraph.scenario.zoning import build_zones, listed, place_zones

_PENALTY = 0.03  # of the squared logarithms by which weights are changed, per zone
_ROUNDS = 5  # amounts and weights in turns
_STEPS = 15  # of the optimiser in a round
_MOST_LINKS = 3000  # more hardly change the weights
_MUCH = 0.01  # of the weight
_TITLE = "cannot fit a gravity model"


@dataclass(frozen=True, eq=False)
class WeightedZones:
    """Zones with what begins and ends there, in shares."""

    zones: gpd.GeoDataFrame
    junctions: IntArray
    ends: tuple[Floats, Floats]  # (Z,) and (Z,): such as homes and jobs; twice the same
    guess: Callable[[Counts], tuple[Floats, Floats]] | None  # of them, by counts of some links


def weigh_zones(
    roads: STGraph,
    counts: Counts,
    columns: tuple[str, ...] | None,
    zones: gpd.GeoDataFrame | None,
    n_zones: int,
    junction_column: str | None,
    report: Report,
) -> WeightedZones:
    """Return zones, given or made, and their weights.

    Parameters
    ----------
    roads, counts, zones, n_zones, junction_column
        As for `fit_gravity`.
    columns
        One or two columns of the zones, or of the junctions where there are no zones. None: the
        weights are guessed.
    report
        Gets what is wrong with them.

    Raises
    ------
    DataError
        There are no zones, or no weights.
    """
    if zones is not None:
        placed, junctions = place_zones(
            zones, roads, junction_column=junction_column, report=report
        )
        report.raise_errors(DataError, title=_TITLE)
        member, zone_of = junctions, np.arange(len(junctions))
        table, whose = placed, "`zones`"
    else:
        table, whose = roads.nodes, "`roads`"
    at = [_column(table, name, whose, report) for name in columns or ()]
    report.raise_errors(DataError, title=_TITLE)
    if zones is None:
        found = at or list(guess_weights(roads, counts))
        total = np.sum([one / one.sum() for one in found], axis=0)
        placed, junctions, zone_of_junction = build_zones(roads, total, n_zones=n_zones)
        member = np.flatnonzero(zone_of_junction >= 0)
        zone_of = zone_of_junction[member]
        at = [_sums(zone_of, one[member], len(placed)) for one in at]
        placed = placed.assign(**dict(zip(columns or (), at, strict=True)))
        lost = 1 - total[member].sum() / total.sum()
        if lost > _MUCH:
            what = f"{lost:.1%} of the weight is at junctions that no way leads to or from"
            report.warning("`roads`", what, "left out")
    if len(placed) < 2:
        report.error("`zones`", f"there are {len(placed)}", "trips need two at least")
    report.raise_errors(DataError, title=_TITLE)

    def guess(seen: Counts) -> tuple[Floats, Floats]:
        first, last = guess_weights(roads, seen)
        n = len(placed)
        return _sums(zone_of, first[member], n), _sums(zone_of, last[member], n)

    ends = (at[0], at[-1]) if at else guess(counts)
    first, last = (one / one.sum() for one in ends)
    return WeightedZones(placed, junctions, (first, last), None if at else guess)


def _sums(group: IntArray, values: Floats, n: int) -> Floats:
    """Return the (n,) sums of values by group."""
    return np.bincount(group, values, n).astype(np.float64)


def _column(table: gpd.GeoDataFrame, name: str, whose: str, report: Report) -> Floats:
    """Return a column of weights, checked."""
    where = f"{whose}, column `{name}`"
    nothing = np.ones(len(table))
    if name not in table:
        names = [str(one) for one in table.columns]
        report.error(where, f"does not exist{nearest_name(name, names, n=3)}", f"there are {names}")
        return nothing
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.all():
        report.error(where, "holds no numbers", "give weights of at least 0")
        return nothing
    if bad.any():
        what = f"{int(bad.sum())} are no numbers: {listed(table.index[bad])}"
        report.warning(where, what, "taken as 0", count=int(bad.sum()))
        values = np.where(bad, 0.0, values)
    if (values < 0).any():
        first = int(np.argmax(values < 0))
        what = f"is {values[first]:g} at {shown(table.index[first])}"
        report.error(where, what, "give weights of at least 0")
        return nothing
    if not values.sum() > 0:
        report.error(where, "is 0 everywhere", "give weights above 0")
        return nothing
    return values


def guess_weights(roads: STGraph, counts: Counts) -> tuple[Floats, Floats]:
    """Guess how many trips begin and end at junctions, by the flows there.

    Links that are not counted have the mean flow of their class. A junction that more vehicles
    enter than leave in the morning has more work than homes.

    Parameters
    ----------
    roads
        Junctions as nodes, segments as edges.
    counts
        Vehicles per hour.

    Returns
    -------
    homes, jobs
        (N,) and (N,), each with the sum 1.
    """
    source, target = roads.edge_index
    n = roads.n_nodes
    mean = _mean(counts.flow)
    flow = np.full(roads.n_edges, float(mean.mean()))
    classes = road_classes(roads)
    counted = np.zeros(roads.n_edges, dtype=bool)
    counted[counts.segments] = True
    for one in np.unique(classes):
        alike = classes == one
        members = alike[counts.segments]
        if members.any():
            flow[alike] = mean[members].mean()
    flow[counts.segments] = mean
    through = np.bincount(source, flow, n) + np.bincount(target, flow, n)
    morning = np.unique(counts.period_of_hour[:5, 6:10])
    change = _mean(counts.flow[morning])
    at = np.zeros(roads.n_edges)
    at[counts.segments] = change
    # only where all streets of a junction are counted is the balance known
    missing = np.bincount(source, ~counted, n) + np.bincount(target, ~counted, n)
    gain = np.where(missing == 0, np.bincount(target, at, n) - np.bincount(source, at, n), 0.0)
    tilt = gain / max(float(np.abs(gain).max()), 1e-300)
    through = np.maximum(through, 1e-6 * through.max())
    homes, jobs = through * np.exp(-tilt), through * np.exp(tilt)
    return homes / homes.sum(), jobs / jobs.sum()


def _mean(flow: Floats) -> Floats:
    """Return the (C,) means over periods of what is known, 0 where nothing is."""
    known = np.isfinite(flow)
    mean: Floats = np.where(known, flow, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return mean


def fit_weights(
    resistance: Floats, share: csr_array, counts: Counts, start: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Find weights of zones whose gravity trips have the flows that were counted.

    Trips from i to j are h_i j_j f_ij, j_i h_j f_ij and m_i m_j f_ij with m the mean of h and j,
    in amounts by period. Logarithms of weights that move away from the start are penalised.

    Parameters
    ----------
    resistance
        (Z, Z) f, 0 on the diagonal.
    share
        (Z * Z, C) part of a pair's trips that uses a counted link.
    counts
        Vehicles per hour on these links.
    start
        (Z,) and (Z,) first guess, such as of `guess_weights`.

    Returns
    -------
    productions, attractions
        (Z,) and (Z,): shares of the first pattern's trips that begin and end in a zone.
    """
    if counts.n_links > _MOST_LINKS:
        some = np.random.default_rng(0).permutation(counts.n_links)[:_MOST_LINKS]
        share, counts = share[:, np.sort(some)], counts.take(np.sort(some))
    n = len(resistance)
    share, back = csr_array(share.T), csr_array(share)  # (C, Z * Z) and its transpose
    weight, known = counts.weights(), np.isfinite(counts.flow)
    value = np.nan_to_num(counts.flow)
    scale = max(float((value**2 * weight).sum()), 1e-300)
    origin = np.log(np.concatenate([np.maximum(one, 1e-9) for one in start]))
    amounts = np.zeros((len(value), 3))

    def flows(logs: Floats) -> Floats:
        trips = _patterns(np.exp(logs[:n]), np.exp(logs[n:]), resistance)
        return np.asarray((share @ trips.reshape(3, -1).T).T)

    def error(logs: Floats) -> tuple[float, Floats]:
        first, last = np.exp(logs[:n]), np.exp(logs[n:])
        wrong = (amounts @ flows(logs) - value) * known * weight
        # of the squared errors by the trips of each pattern, then by the weights
        slope = (back @ (2 * amounts.T @ wrong).T).T.reshape(3, n, n) * resistance / scale
        mean = (first + last) / 2
        both = (slope[2] @ mean + slope[2].T @ mean) / 2
        by_first = slope[0] @ last + slope[1].T @ last + both
        by_last = slope[0].T @ first + slope[1] @ first + both
        away = logs - origin
        total = float((wrong**2 / weight).sum() / scale + _PENALTY * (away @ away) / n)
        gradient = np.concatenate([by_first * first, by_last * last])
        return total, gradient + 2 * _PENALTY * away / n

    logs = origin
    for _ in range(_ROUNDS):
        amounts = fit_mix(flows(logs), counts.flow, weight)
        logs = minimize(error, logs, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    trips = _patterns(np.exp(logs[:n]), np.exp(logs[n:]), resistance)[0]
    rows, columns = trips.sum(axis=1), trips.sum(axis=0)
    return rows / rows.sum(), columns / columns.sum()


def _patterns(first: Floats, last: Floats, resistance: Floats) -> Floats:
    """Return the (3, Z, Z) trips there, back and among."""
    mean = (first + last) / 2
    return np.stack([
        first[:, None] * last * resistance,
        last[:, None] * first * resistance,
        mean[:, None] * mean * resistance,
    ])  # fmt: skip
