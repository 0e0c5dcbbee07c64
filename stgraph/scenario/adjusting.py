"""A demand that is moved towards counted flows, as far as that helps where nobody counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize
from scipy.sparse import csr_array

from stgraph.errors import DataError
from stgraph.graph import IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.counts import Counts, FitQuality, measure_fit
from stgraph.scenario.demand import Demand, check_size
from stgraph.scenario.loading import find_routes
from stgraph.scenario.week import Floats

_PENALTIES = (3.0, 1.0, 0.3, 0.1)  # of squared logarithms of the factors of zones, mildest first
_PARTS = (0, 6, 10, 15, 20)  # hours at which parts of the day begin: factors are fitted on those
_STEPS = 40  # of the optimiser
_FEW_LINKS = 50  # with less, only totals are scaled
_HIDDEN = 5  # every so many links are hidden to choose the penalty


@dataclass(frozen=True)
class Adjustment:
    """How a demand was adjusted, and whether that helped."""

    penalty: float | None  # of factors of zones; None: totals of hours alone were scaled
    curve: pd.DataFrame  # penalty (NaN: totals alone), error on the links that were hidden
    before: FitQuality  # of the demand as it was, on all counted links
    fitted: FitQuality  # of what came out
    held_out_scaled: FitQuality | None  # totals alone, on links hidden from the fit
    held_out: FitQuality | None  # factors with the penalty chosen, on the same links
    report: Report = field(default_factory=Report)


def adjust_to_counts(
    demand: Demand,
    counts: Counts,
    roads: STGraph,
    *,
    minutes: npt.ArrayLike | None = None,
    n_draws: int = 16,
    spread: float = 0.3,
    seed: int = 0,
) -> tuple[Demand, Adjustment]:
    """Scale the hours of a demand to counts, and its zones where that helps on hidden links.

    Every period gets a factor. Origins and destinations get factors, too, the same at all hours,
    that are kept near 1 by a penalty; the mildest change is taken that is about as good on hidden
    links as the best one, and none if none helps. Single pairs are never fitted: there are far
    more of them than counts, and they lose what they had of the truth.

    Parameters
    ----------
    demand
        Such as of an OD matrix that is some years old.
    counts
        Vehicles per hour on some segments.
    roads
        Junctions as nodes, segments as edges.
    minutes, n_draws, spread, seed
        Of the routes, as for `find_routes`.

    Returns
    -------
    Demand
        With a period for every pair of a period of the demand and one of the counts.
    Adjustment
        Figures before and after, on hidden links, too.

    Raises
    ------
    DataError
        Counts on segments that there are not, or no trips over any of them.
    """
    if not ((counts.segments >= 0) & (counts.segments < roads.n_edges)).all():
        raise DataError(f"`counts`: names segments beyond {roads.n_edges}; use these roads' counts")
    report = Report([*counts.report])
    week = np.stack([demand.period_of_hour.ravel(), counts.period_of_hour.ravel()])
    pairs, period = np.unique(week, axis=1, return_inverse=True)
    check_size(pairs.shape[1], demand.n_zones, report)
    routes = find_routes(
        roads, demand.junctions, minutes=minutes, n_draws=n_draws, spread=spread, seed=seed
    )
    trips = np.asarray(demand.trips, dtype=np.float64)
    old = np.asarray(routes(trips))[:, counts.segments][pairs[0]]
    # the same counts for every pair of periods
    each = Counts(counts.segments, counts.flow[pairs[1]], period.reshape(7, 24))
    if not old[np.isfinite(each.flow)].any():
        raise DataError("`counts`: no trips use any of these segments; check zones and segments")
    search = _Search(trips[pairs[0]], csr_array(routes.share[:, counts.segments]), each)
    best, curve, plain, hidden = search.choose(seed)
    everything = np.arange(counts.n_links)
    matrices = search.scale(search.factors(best, everything), everything)
    if best is None and counts.n_links >= _FEW_LINKS:
        what = "factors of zones do not help on hidden links"
        report.info("`counts`", what, "totals of hours alone were scaled")
    inside = None if demand.intrazonal is None else demand.intrazonal[pairs[0]]
    notes = dict(demand.provenance) | {"adjusted": True, "penalty": best}
    adjusted = replace(
        demand, trips=matrices, period_of_hour=period.reshape(7, 24), provenance=notes,
        intrazonal=inside, report=Report([*demand.report, *report]),
    )  # fmt: skip
    new = search.flows(matrices)
    return adjusted, Adjustment(
        penalty=best,
        curve=curve,
        before=measure_fit(old, each.flow),
        fitted=measure_fit(new, each.flow),
        held_out_scaled=plain,
        held_out=hidden,
        report=report,
    )


class _Search:
    """The trips, who of them uses which counted link, and the counts."""

    def __init__(self, trips: Floats, share: csr_array, counts: Counts) -> None:
        """Add up the hours of parts of the day: factors of zones are the same in all of them."""
        self.trips, self.counts = trips, counts
        self.back, self.share = share, csr_array(share.T)  # (Z * Z, C) and (C, Z * Z)
        hour = np.searchsorted(_PARTS, np.arange(24), side="right") - 1
        part = np.zeros((len(_PARTS), len(trips)))
        np.add.at(part, (np.tile(hour, 7), counts.period_of_hour.ravel()), 1.0)
        known = np.isfinite(counts.flow).all(axis=1)
        self.part = part * known  # hours of a week; only those in which all links are counted
        if not self.part.any():
            self.part = part * np.isfinite(counts.flow).any(axis=1)

    def flows(self, trips: Floats) -> Floats:
        """Return the (P, C) flows on counted links."""
        return np.asarray((self.share @ trips.reshape(len(trips), -1).T).T)

    def scale(self, factors: Floats, links: IntArray) -> Floats:
        """Return the trips times factors of pairs, with the totals that fit the links."""
        trips = self.trips * factors
        flows = self.flows(trips)[:, links]
        count, weight = self.counts.flow[:, links], self.counts.weights()[links]
        known, value = np.isfinite(count), np.nan_to_num(count)
        square = (flows**2 * weight * known).sum(axis=1)
        product = (flows * value * weight * known).sum(axis=1)
        usual = product.sum() / max(float(square.sum()), 1e-300)  # for hours without counts
        factor = np.where(square > 0, product / np.maximum(square, 1e-300), usual)
        scaled: Floats = trips * factor[:, None, None]
        return scaled

    def factors(self, penalty: float | None, links: IntArray) -> Floats:
        """Return the (Z, Z) factors of pairs: those of their origin times those of their end."""
        n = self.trips.shape[1]
        if penalty is None:
            return np.ones((n, n))
        trips = np.tensordot(self.part, self.scale(np.ones((n, n)), links), axes=(1, 0))
        value = (self.part @ np.nan_to_num(self.counts.flow))[:, links]
        share, back = self.share[links], csr_array(self.back[:, links])
        weight = self.counts.weights()[links]
        scale = max(float((value**2 * weight).sum()), 1e-300)

        def error(logs: Floats) -> tuple[float, Floats]:
            now = trips * np.exp(logs[:n, None] + logs[n:])
            wrong = (share @ now.reshape(len(now), -1).T).T - value
            slope = (back @ (2 * wrong * weight / scale).T).T.reshape(now.shape) * now
            by_zone = np.concatenate([slope.sum(axis=(0, 2)), slope.sum(axis=(0, 1))])
            total = float((wrong**2 * weight).sum() / scale + penalty * (logs @ logs) / n)
            return total, by_zone + 2 * penalty * logs / n

        start = np.zeros(2 * n)
        found = minimize(error, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
        logs = found.x
        return np.asarray(np.exp(logs[:n, None] + logs[n:]))

    def choose(
        self, seed: int
    ) -> tuple[float | None, pd.DataFrame, FitQuality | None, FitQuality | None]:
        """Return the penalty, errors of all, and the fit of totals and of factors when hidden."""
        n = self.counts.n_links
        if n < _FEW_LINKS:
            return None, pd.DataFrame({"penalty": [], "error": []}), None, None
        hidden = np.sort(np.random.default_rng(seed).permutation(n)[: max(2, n // _HIDDEN)])
        rest = np.setdiff1d(np.arange(n), hidden)
        count = self.counts.flow[:, hidden]
        tried: list[float | None] = [None, *_PENALTIES]
        flows = [self.flows(self.scale(self.factors(one, rest), rest))[:, hidden] for one in tried]
        weight, known = self.counts.weights()[hidden], np.isfinite(count)
        errors = np.stack([
            (weight * known * (one - np.nan_to_num(count)) ** 2).sum(axis=0) for one in flows
        ])  # fmt: skip
        best = int(np.argmin(errors.sum(axis=1)))
        # the mildest of those whose errors, link by link, are no clearer than chance
        worse = errors - errors[best]
        noise = worse.std(axis=1) * np.sqrt(len(hidden))
        chosen = int(np.argmax(worse.sum(axis=1) <= noise))
        names = [np.nan if one is None else one for one in tried]
        curve = pd.DataFrame({"penalty": names, "error": errors.sum(axis=1)})
        return (
            tried[chosen], curve, measure_fit(flows[0], count), measure_fit(flows[chosen], count),
        )  # fmt: skip
