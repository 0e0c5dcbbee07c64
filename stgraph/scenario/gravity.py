"""Demand where there is no OD matrix: a gravity model, fitted to counted flows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array

from stgraph.errors import DataError
from stgraph.graph import IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.balancing import fit_mix, furness
from stgraph.scenario.counts import Counts, FitQuality, measure_fit
from stgraph.scenario.demand import Demand, check_size
from stgraph.scenario.loading import ZoneRoutes, find_routes
from stgraph.scenario.week import Floats, fill_periods
from stgraph.scenario.zone_weights import WeightedZones, fit_weights, weigh_zones
from stgraph.scenario.zoning import listed

Assign = Callable[[Floats], npt.NDArray[np.floating[Any]]]  # (P, Z, Z) trips to (P, E) flows

_TITLE = "cannot fit a gravity model"
_DETERRENCE = np.geomspace(0.02, 1.0, 18)  # per minute
_FEW_DETERRENCES = np.array([0.05, 0.1, 0.2, 0.35])  # where weights are found, too
_FEW_LINKS = 10  # with less, none is held out
_ROUNDS = 3  # of scaling totals to the flows of an assignment
_ROUTE_STEPS = 20_000_000  # pairs of zones x draws x segments of a route that fit in memory


@dataclass(frozen=True)
class GravityFit:
    """How a gravity model was fitted, and how well it does."""

    deterrence: float  # b of exp(-b x minutes)
    curve: pd.DataFrame  # a row per b tried: deterrence, error (share of the counts' squares)
    amounts: Floats  # (P, K) trips per hour of each pattern
    patterns: tuple[str, ...]  # K names
    fitted: FitQuality  # on all counted links, flows of the quickest routes
    held_out: FitQuality | None  # on links that were hidden while everything was fitted
    assigned: FitQuality | None  # on all counted links, flows of `assign`
    mean_minutes: float  # of a trip
    trips_per_day: float  # mean over the week
    weights: str  # what productions and attractions rest on
    report: Report = field(default_factory=Report)

    def __str__(self) -> str:
        """Return what a user wants to know in some lines."""
        lines = [
            f"gravity model, weights: {self.weights}",
            f"deterrence {self.deterrence:.3f}/min, mean trip {self.mean_minutes:.1f} min, "
            f"{self.trips_per_day:,.0f} trips a day",
            f"fitted on {self.fitted}",
            f"held out {self.held_out}" if self.held_out else "no link was held out",
        ]
        return "\n".join(lines + ([f"assigned: {self.assigned}"] if self.assigned else []))

    def notes(self) -> dict[str, Any]:
        """Return what the demand rests on, JSON-like, for its provenance."""
        return {
            "source": "gravity",
            "weights": self.weights,
            "deterrence": self.deterrence,
            "n_links": self.fitted.n_links,
            "mean_minutes": round(self.mean_minutes, 2),
            "trips_per_day": round(self.trips_per_day, 1),
            "fitted": str(self.fitted),
            "held_out": "no link was held out" if self.held_out is None else str(self.held_out),
        }


def fit_gravity(
    roads: STGraph,
    *,
    counts: Counts,
    weights: str | tuple[str, str] | None = None,
    zones: gpd.GeoDataFrame | None = None,
    n_zones: int = 200,
    minutes: npt.ArrayLike | None = None,
    deterrence: float | None = None,
    junction_column: str | None = None,
    assign: Callable[[Demand], Assign] | None = None,
    folds: int = 5,
    n_draws: int = 16,
    spread: float = 0.3,
    seed: int = 0,
) -> tuple[Demand, GravityFit]:
    """Make demand of weights of zones and counted flows.

    Trips are a doubly constrained gravity model with deterrence exp(-b x minutes). With two
    weights, such as homes and jobs, there are three patterns: from the first to the second, back,
    and among their mean. Every hour has the amounts of the patterns that fit its counts best.

    Parameters
    ----------
    roads
        Junctions as nodes, segments as edges.
    counts
        Vehicles per hour on all or some segments.
    weights
        One or two columns, of `zones` or else of the junctions. None: weights are found that fit
        the counts, which takes counts on many links.
    zones
        Z zones. None: the junctions are cut into `n_zones` of about the same weight.
    n_zones
        How many zones at most, where there are none.
    minutes
        (E,) usual travel times, such as length over the observed speed of the day. None: those of
        empty streets. Observed ones give much better routes.
    deterrence
        b, per minute. None: the one that fits best.
    junction_column
        As for `demand_from_matrices`.
    assign
        Makes an assignment for a demand: a function of (P, Z, Z) trips that returns (P, E) flows.
        Totals of hours are then scaled to its flows. None: the quickest routes are enough.
    folds
        Links are hidden in so many turns to measure `held_out`; 1 hides none. With less than ten
        links none are.
    n_draws, spread, seed
        Of the routes, as for `find_routes`; fewer draws are made where memory asks for it.

    Returns
    -------
    Demand
        Its periods are those of the counts.
    GravityFit
        Figures on the links fitted and on those held out.

    Raises
    ------
    DataError
        Lists everything that cannot be used.
    """
    report = Report([*counts.report])
    columns = (weights,) if isinstance(weights, str) else weights
    _check(roads, counts, n_zones, deterrence, folds, n_draws, columns, report)
    report.raise_errors(DataError, title=_TITLE)
    found = weigh_zones(roads, counts, columns, zones, n_zones, junction_column, report)
    draws = max(1, min(n_draws, _ROUTE_STEPS // (len(found.zones) ** 2 * 50)))
    routes = find_routes(
        roads, found.junctions, minutes=minutes, n_draws=draws, spread=spread, seed=seed
    )
    _tell_closed(routes, found, report)
    share = csr_array(routes.share[:, counts.segments].T)
    model = _Model(routes, counts, found.ends, found.guess, share)
    tried = _DETERRENCE if columns else _FEW_DETERRENCES
    tried = tried if deterrence is None else np.array([float(deterrence)])
    best, curve, held_out = _search(model, tried, _folds(counts, folds, seed))
    everything = np.arange(counts.n_links)
    trips = model.trips(best, everything)
    each = model.flows(trips)
    amounts = model.amounts(each, everything)
    flows = amounts @ each
    known = np.isfinite(counts.flow).any(axis=1)
    amounts, _ = fill_periods(amounts, known, counts.period_of_hour)
    check_size(len(amounts), len(found.zones), report)
    matrices = np.tensordot(amounts, trips, axes=(1, 0))
    _tell_fit(held_out, best, deterrence, report)
    source = "weights found by the counts" if columns is None else " and ".join(columns)
    demand = Demand(found.zones, found.junctions, matrices, counts.period_of_hour, report=report)
    assigned = None
    if assign is not None:
        demand, assigned = scale_totals(demand, counts, assign(demand))
    fit = _describe(demand, routes, counts, amounts, flows, best, curve, report)
    done = GravityFit(**fit, held_out=held_out, assigned=assigned, weights=source)
    return replace(demand, provenance=done.notes()), done


def scale_totals(demand: Demand, counts: Counts, assign: Assign) -> tuple[Demand, FitQuality]:
    """Scale the trips of every period to counts, by the flows of an assignment.

    Parameters
    ----------
    demand
        Its periods are those of the counts.
    counts
        Vehicles per hour.
    assign
        A function of (P, Z, Z) trips that returns (P, E) flows.

    Returns
    -------
    Demand
        Who goes where in a period is as before.
    FitQuality
        Of the flows of the last assignment.
    """
    if len(demand.trips) != len(counts.flow):
        what = f"{len(demand.trips)} periods of demand, {len(counts.flow)} of counts"
        raise DataError(f"`counts`: {what}; both need the same typical week")
    trips, weight = np.asarray(demand.trips, dtype=np.float64), counts.weights()
    known, value = np.isfinite(counts.flow), np.nan_to_num(counts.flow)
    flows = np.zeros_like(value)
    for turn in range(_ROUNDS + 1):
        flows = np.asarray(assign(trips), dtype=np.float64)[:, counts.segments]
        if turn == _ROUNDS:
            break
        square = (flows**2 * weight * known).sum(axis=1)
        factor = (flows * value * weight * known).sum(axis=1) / np.maximum(square, 1e-300)
        factor = np.where(square > 0, np.clip(factor, 0.2, 5.0), 1.0)
        trips = trips * factor[:, None, None]
    return replace(demand, trips=trips), measure_fit(flows, counts.flow)


def _check(
    roads: STGraph,
    counts: Counts,
    n_zones: int,
    deterrence: float | None,
    folds: int,
    n_draws: int,
    columns: tuple[str, ...] | None,
    report: Report,
) -> None:
    """Note options that cannot be."""
    for name, value, least in (
        ("n_zones", n_zones, 2),
        ("folds", folds, 1),
        ("n_draws", n_draws, 1),
    ):
        if not isinstance(value, int) or value < least:
            report.error(f"`{name}`", f"is {value!r}", f"give a whole number of at least {least}")
    if columns is not None and len(columns) not in (1, 2):
        report.error("`weights`", f"is {columns!r}", "give one or two columns")
    if deterrence is not None and not 0 <= deterrence < 100:
        report.error("`deterrence`", f"is {deterrence!r}", "give a number per minute, such as 0.1")
    if not ((counts.segments >= 0) & (counts.segments < roads.n_edges)).all():
        what = f"names segment {int(counts.segments.max())} of {roads.n_edges}"
        report.error("`counts`", what, "make the counts on these roads")
    elif not np.nansum(counts.flow) > 0:
        report.error("`counts`", "are all 0", "check the feature and its unit")


# ---------------------------------------------------------------- the model


@dataclass(frozen=True, eq=False)
class _Model:
    """Trips by deterrence, and their flows on the counted links."""

    routes: ZoneRoutes
    counts: Counts
    ends: tuple[Floats, Floats]
    guess: Callable[[Counts], tuple[Floats, Floats]] | None  # of weights to be found by counts
    share: csr_array  # (C, Z * Z) of `routes`, counted links only

    def trips(self, deterrence: float, links: IntArray) -> Floats:
        """Return (K, Z, Z) trips of each pattern, with the sum 1."""
        first, last = self.ends
        minutes = self.routes.minutes
        reached = np.isfinite(minutes) & ~np.eye(len(minutes), dtype=bool)
        resistance = np.exp(-deterrence * np.where(reached, minutes, 0.0)) * reached
        if self.guess is not None:
            seen, share = self.counts.take(links), csr_array(self.share[links].T)
            first, last = fit_weights(resistance, share, seen, self.guess(seen))
        pairs = [(first, last)]
        if not np.array_equal(first, last):
            mean = (first + last) / 2
            pairs += [(last, first), (mean, mean)]
        trips = np.stack([furness(resistance, a, b, tolerance=1e-7) for a, b in pairs])
        return np.asarray(trips / np.maximum(trips.sum(axis=(1, 2), keepdims=True), 1e-300))

    def flows(self, trips: Floats) -> Floats:
        """Return (K, C) flows on the counted links."""
        return np.asarray((self.share @ trips.reshape(len(trips), -1).T).T)

    def amounts(self, flows: Floats, links: IntArray) -> Floats:
        """Return (P, K) amounts of the patterns that fit some of the links."""
        weight = self.counts.weights()[links]
        return fit_mix(flows[:, links], self.counts.flow[:, links], weight)


def _folds(counts: Counts, folds: int, seed: int) -> list[IntArray]:
    """Return the links that are hidden together, in turns."""
    if folds < 2 or counts.n_links < _FEW_LINKS:
        return []
    order = np.random.default_rng(seed).permutation(counts.n_links)
    return [np.sort(order[i::folds]) for i in range(folds)]


def _search(
    model: _Model, tried: Floats, groups: list[IntArray]
) -> tuple[float, pd.DataFrame, FitQuality | None]:
    """Return the best deterrence, the errors of all, and the fit on links held out."""
    if model.guess is not None:
        return _search_hidden(model, tried, groups)
    counts, everything = model.counts, np.arange(model.counts.n_links)
    rests = [np.setdiff1d(everything, group) for group in groups]
    errors, of_rest, modelled = [], [], []
    for b in tried:
        flows = model.flows(model.trips(b, everything))
        errors.append(_errors(model.amounts(flows, everything) @ flows, counts))
        found = [model.amounts(flows, rest) @ flows for rest in rests]
        pairs = zip(found, rests, strict=True)
        of_rest.append([_errors(one[:, rest], counts.take(rest)) for one, rest in pairs])
        modelled.append(found)
    best = _lowest(tried, np.stack(errors))
    curve = pd.DataFrame({"deterrence": tried, "error": np.sum(errors, axis=1)})
    if not groups:
        return best, curve, None
    hidden = np.full_like(counts.flow, np.nan)
    for i, group in enumerate(groups):  # each with the deterrence that the other links choose
        chosen = _mildest(np.stack([row[i] for row in of_rest]))
        hidden[:, group] = modelled[chosen][i][:, group]
    return best, curve, measure_fit(hidden, counts.flow)


def _search_hidden(
    model: _Model, tried: Floats, groups: list[IntArray]
) -> tuple[float, pd.DataFrame, FitQuality | None]:
    """Do the same with weights found by counts, which is slow: one fold has to do."""
    counts, everything = model.counts, np.arange(model.counts.n_links)
    hidden = groups[0] if groups else everything
    rest = np.setdiff1d(everything, hidden) if groups else everything
    errors, found = [], []
    for b in tried:
        flows = model.flows(model.trips(b, rest))
        found.append((model.amounts(flows, rest) @ flows)[:, hidden])
        errors.append(float(_errors(found[-1], counts.take(hidden)).sum()))
    curve = pd.DataFrame({"deterrence": tried, "error": errors})
    best = int(np.argmin(errors))
    quality = measure_fit(found[best], counts.flow[:, hidden]) if groups else None
    return float(tried[best]), curve, quality


def _errors(flows: Floats, counts: Counts) -> Floats:
    """Return the (C,) weighted squared errors, as shares of those of no flow on all links."""
    known, value = np.isfinite(counts.flow), np.nan_to_num(counts.flow)
    weight = counts.weights() * known
    whole = max(float((weight * value**2).sum()), 1e-300)
    return np.asarray((weight * (flows - value) ** 2).sum(axis=0) / whole)


def _mildest(errors: Floats) -> int:
    """Return the lowest deterrence that fits about as well as the best one.

    Routes that are few leave short links too empty, which short trips seem to repair. So of what
    fits equally well, up to the standard error over links, the longest trips are taken.
    """
    worse = errors - errors[int(np.argmin(errors.sum(axis=1)))]
    noise = worse.std(axis=1) * np.sqrt(errors.shape[1])
    return int(np.argmax(worse.sum(axis=1) <= noise))


def _lowest(tried: Floats, errors: Floats) -> float:
    """Return the mildest of what fits best, between those tried."""
    i, sums = _mildest(errors), errors.sum(axis=1)
    if not 0 < i < len(tried) - 1 or i != int(np.argmin(sums)):
        return float(tried[i])
    left, middle, right = sums[i - 1 : i + 2]
    shift = 0.5 * (left - right) / max(left - 2 * middle + right, 1e-300)
    ratio = tried[i + 1] / tried[i]  # the grid is geometric
    return float(tried[i] * ratio ** np.clip(shift, -0.5, 0.5))


# ---------------------------------------------------------------- what comes out


def _tell_closed(routes: ZoneRoutes, found: WeightedZones, report: Report) -> None:
    """Note zones that no way leads to or from."""
    lost = ~np.isfinite(routes.minutes)
    if lost.any():
        zones = found.zones.index[lost.mean(axis=0) + lost.mean(axis=1) > 1]
        what = f"no way leads between {int(lost.sum())} pairs of zones: {listed(zones)}"
        report.warning("`zones`", what, "without trips", count=int(lost.sum()))


def _tell_fit(
    held_out: FitQuality | None, best: float, given: float | None, report: Report
) -> None:
    """Note what should make a user careful."""
    if given is None and (best <= _DETERRENCE[0] or best >= _DETERRENCE[-1]):
        what = f"the best fit is at the end of what was tried, {best:g} per minute"
        report.warning("`deterrence`", what, "give one that is known, such as 0.1")
    if held_out is None:
        what = "no link was held out: how good the demand is elsewhere is not known"
        report.warning("`counts`", what, "count on ten links or more")
    elif held_out.geh_below_5 < 0.5 or not held_out.r > 0.7:
        what = f"the flows on links that were held out fit badly: {held_out}"
        report.warning("`counts`", what, "take effects as a pattern, not as numbers")


def _describe(
    demand: Demand,
    routes: ZoneRoutes,
    counts: Counts,
    amounts: Floats,
    flows: Floats,
    best: float,
    curve: pd.DataFrame,
    report: Report,
) -> dict[str, Any]:
    """Return the figures of a fit."""
    reached = np.where(np.isfinite(routes.minutes), routes.minutes, 0.0)
    hours = np.bincount(counts.period_of_hour.ravel(), minlength=len(demand.trips))
    week = np.tensordot(hours, demand.trips, axes=(0, 0))
    names = ("there", "back", "among") if amounts.shape[1] > 1 else ("all",)
    return {
        "deterrence": best,
        "curve": curve,
        "amounts": amounts,
        "patterns": names,
        "fitted": measure_fit(flows, counts.flow),
        "mean_minutes": float((week * reached).sum() / max(week.sum(), 1e-300)),
        "trips_per_day": float(week.sum() / 7),
        "report": report,
    }
