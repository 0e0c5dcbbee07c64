"""Routes between zones on given travel times, and the flows of trips that take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from stgraph.errors import DataError
from stgraph.graph import IntArray, STGraph
from stgraph.scenario._routes import build_routes, expanded, forbidden_turns, grow_trees
from stgraph.scenario.turns import TurnNetwork
from stgraph.scenario.week import Floats

_SLOWEST_KMH = 1.0
_SHORTEST_M = 1e-3  # searches leave out links of 0
_USUAL_KMH = 30.0  # where a street says nothing


def free_minutes(roads: STGraph) -> Floats:
    """Return the (E,) minutes that an empty street takes, by its length and speed."""
    table = roads.edges
    if table is None or "length_m" not in table:
        raise DataError("`roads`: the edges have no `length_m`; read them with a road connector")
    length = np.maximum(table["length_m"].to_numpy(dtype=np.float64), _SHORTEST_M)
    speed = np.full(len(table), _USUAL_KMH)
    if "speed_kmh" in table:
        speed = table["speed_kmh"].fillna(_USUAL_KMH).to_numpy(dtype=np.float64)
    minutes: Floats = length / np.maximum(speed, _SLOWEST_KMH) * 0.06
    if "travel_time_s" in table:  # of sources that have times and no speeds
        stated = table["travel_time_s"].to_numpy(dtype=np.float64) / 60
        minutes = np.where(np.isfinite(stated) & (stated > 0), stated, minutes)
    return minutes


@dataclass(frozen=True, eq=False)
class ZoneRoutes:
    """The quickest routes between all zones, one or several for each pair.

    Called with trips it is the simplest assignment there is: nobody reacts to traffic.
    """

    minutes: Floats  # (Z, Z) on the given times; 0 on the diagonal, inf where no way leads
    share: csr_array  # (Z * Z, E) part of a pair's trips that uses a segment

    def __call__(self, trips: npt.NDArray[np.floating]) -> Floats:
        """Return the flows of all segments.

        Parameters
        ----------
        trips
            (P, Z, Z) cars per hour.

        Returns
        -------
        numpy.ndarray
            (P, E) cars per hour.
        """
        found: Floats = (self.share.T @ np.reshape(trips, (len(trips), -1)).T).T
        return found


def find_routes(
    roads: STGraph,
    junctions: IntArray,
    *,
    minutes: npt.ArrayLike | None = None,
    n_draws: int = 1,
    spread: float = 0.25,
    seed: int = 0,
) -> ZoneRoutes:
    """Find the quickest routes between zones.

    Parameters
    ----------
    roads
        Junctions as nodes, segments as edges; their forbidden turns are not made.
    junctions
        (Z,) positions of the zones' junctions.
    minutes
        (E,) travel times above 0; inf closes a segment. None: those of empty streets.
    n_draws
        How many times routes are looked for, each time with other small errors in what drivers
        think of the travel times (Burrell's method): their shares are equal.
    spread
        Standard deviation of the logarithm of these errors. The first draw has none.
    seed
        Of the errors.

    Returns
    -------
    ZoneRoutes
        `minutes` are means over the draws, on the times without errors.
    """
    times = free_minutes(roads) if minutes is None else np.asarray(minutes, dtype=np.float64)
    if times.shape != (roads.n_edges,) or np.isnan(times).any() or (times <= 0).any():
        raise DataError(
            f"`minutes`: shape {times.shape} with {int((~(times > 0)).sum())} that are not above 0;"
            f" give ({roads.n_edges},) travel times above 0"
        )
    net = expanded(roads, forbidden_turns(roads), np.isfinite(times))
    rng = np.random.default_rng(seed)
    share: csr_array | None = None
    total = np.zeros((len(junctions), len(junctions)))
    for draw in range(n_draws):
        error = np.exp(spread * rng.standard_normal(len(times))) if draw else 1.0
        steps = _route_segments(net, junctions, times * error)
        share = steps if share is None else share + steps
        used = np.where(np.isfinite(times), times, 0.0)
        total += (steps @ used).reshape(total.shape)
    assert share is not None, "`n_draws` is at least 1"  # noqa: S101
    mean = total / n_draws
    lost = (mean == 0) & (junctions[:, None] != junctions)
    return ZoneRoutes(np.where(lost, np.inf, mean), csr_array(share / n_draws))


def _route_segments(net: TurnNetwork, junctions: IntArray, times: Floats) -> csr_array:
    """Return which segments the quickest route of every pair uses, as (Z * Z, E) ones."""
    n_zones = len(junctions)
    starts, row = np.unique(junctions, return_inverse=True)
    trees = grow_trees(build_routes(net, times), starts)
    pair, segment = trees.links_to(np.repeat(row, n_zones), np.tile(net.end_of[junctions], n_zones))
    shape = (n_zones * n_zones, len(times))
    return csr_array((np.ones(len(pair)), (pair, segment)), shape=shape)
