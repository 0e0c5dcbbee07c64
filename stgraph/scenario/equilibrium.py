"""User equilibrium: nobody gets there sooner by another way, given where all others drive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stgraph import _optional
from stgraph.errors import InputError
from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph.scenario._aequilibrae import Engine, Links, link_minutes
from stgraph.scenario._routes import find_ways
from stgraph.scenario.turns import TurnNetwork
from stgraph.scenario.week import Floats


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Flows and times of one hour."""

    flow_vph: Floats  # (E,) vehicles per hour, 0 where closed
    minutes: Floats  # (E,) at these flows, inf where closed
    gap: float  # share of all time that would be saved if all took the ways that are fastest now
    n_iterations: int
    unserved: Floats  # (Z, Z) trips per hour that find no way


def solve_equilibrium(
    net: TurnNetwork,
    *,
    free_min: Floats,
    capacity_vph: Floats,
    alpha: Floats,
    beta: Floats,
    is_open: BoolArray,
    junctions: IntArray,
    trips: Floats,
    gap: float = 1e-4,
    max_iterations: int = 500,
) -> Equilibrium:
    """Return the flows at which nobody is sooner there by another way.

    Parameters
    ----------
    net
        Junctions and links with the turns that are allowed.
    free_min
        (E,) minutes without traffic, at least 0.
    capacity_vph
        (E,) vehicles per hour, above 0.
    alpha, beta
        (E,) of the times ``free_min * (1 + alpha * (flow / capacity_vph) ** beta)``: `alpha` at
        least 0, `beta` at least 1 (at will where `alpha` is 0).
    is_open
        (E,) where one may drive; elsewhere the other numbers do not matter.
    junctions
        (Z,) positions of the junctions where the trips of every zone begin and end. Zones may
        share one.
    trips
        (Z, Z) per hour, from row to column. Those within a zone, or between zones at the same
        junction, use no link.
    gap
        Relative gap at which to stop.
    max_iterations
        When to stop at the latest.

    Returns
    -------
    Equilibrium
        On the E segments in their order. `gap` is above the one asked for if `max_iterations` did
        not do; the flows are then the best that were found.

    Raises
    ------
    InputError
        If shapes or numbers do not fit.
    MissingExtraError
        AequilibraE is not installed.

    Notes
    -----
    Solved by AequilibraE, https://www.aequilibrae.com (bi-conjugate Frank-Wolfe, Mitradjieva &
    Lindberg 2013), on one core and the same to the bit each time; for several hours or scenarios
    use several processes, and for several matrices on the same network `Equilibria`. AequilibraE
    judges flows by times that are one iteration older; `gap` is that of the flows returned.
    """
    network = Equilibria(
        net, free_min=free_min, capacity_vph=capacity_vph, alpha=alpha, beta=beta,
        is_open=is_open, junctions=junctions, gap=gap, max_iterations=max_iterations,
    )  # fmt: skip
    return network(trips)


class Equilibria:
    """Equilibria of several matrices on one network, which is prepared only once.

    The parameters are those of `solve_equilibrium`.
    """

    def __init__(
        self,
        net: TurnNetwork,
        *,
        free_min: Floats,
        capacity_vph: Floats,
        alpha: Floats,
        beta: Floats,
        is_open: BoolArray,
        junctions: IntArray,
        gap: float = 1e-4,
        max_iterations: int = 500,
    ) -> None:
        _optional.require("aequilibrae", extra="scenario")  # say so before all other work
        n_segments = int((net.link_of >= 0).sum())
        segments = Links(
            source=net.source[:n_segments],
            target=net.target[:n_segments],
            free_min=np.asarray(free_min, dtype=np.float64),
            capacity_vph=np.asarray(capacity_vph, dtype=np.float64),
            alpha=np.asarray(alpha, dtype=np.float64),
            beta=np.asarray(beta, dtype=np.float64),
        )
        is_open, junctions = np.asarray(is_open), np.asarray(junctions)
        _check_segments(segments, is_open)
        _check_junctions(junctions, len(net.end_of))
        _check_options(gap, max_iterations)
        self._gap, self._max_iterations = gap, max_iterations
        self._segments = _without_closed(segments, is_open)
        # zones at the same junction are one
        self._starts, self._which = np.unique(junctions, return_inverse=True)
        self._ends = net.end_of[self._starts]
        # loops lead nowhere
        own = np.flatnonzero(is_open & (segments.source != segments.target))
        self._used = np.concatenate([own, np.arange(n_segments, len(net.link_of))])
        self._links = _with_connectors(net, self._used, self._segments)
        ends = (self._links.source, self._links.target)
        self._has_way = find_ways(*ends, net.n_nodes, self._starts, self._ends)
        away = self._has_way & ~np.eye(len(self._starts), dtype=np.bool_)
        self._served = np.flatnonzero(away.any(axis=0) | away.any(axis=1))
        self._engine: Engine | None = None  # made for the first trips

    def __call__(self, trips: Floats) -> Equilibrium:
        """Return the equilibrium of some trips.

        Parameters
        ----------
        trips
            (Z, Z) per hour, from row to column.

        Returns
        -------
        Equilibrium
            As `solve_equilibrium` gives it.

        Raises
        ------
        InputError
            If `trips` does not fit the zones, or holds what is no number of trips.
        """
        trips = np.asarray(trips, dtype=np.float64)
        _check_trips(trips, len(self._which))
        pairs = np.ix_(self._which, self._which)
        unserved = np.where(self._has_way[pairs], 0.0, trips)
        merged = np.zeros((len(self._starts),) * 2)
        np.add.at(merged, pairs, trips - unserved)
        np.fill_diagonal(merged, 0.0)

        n_segments = len(self._segments.source)
        flow, gap, n_iterations = np.zeros(n_segments), 0.0, 0
        if merged.any():
            if self._engine is None:
                ends = (self._starts[self._served], self._ends[self._served])
                self._engine = Engine(self._links, *ends)
            found, gap, n_iterations = self._engine.solve(
                merged[np.ix_(self._served, self._served)],
                gap=self._gap,
                max_iterations=self._max_iterations,
            )
            own = self._used < n_segments
            flow[self._used[own]] = found[own]
        minutes = link_minutes(self._segments, flow)
        return Equilibrium(flow, minutes, gap, n_iterations, unserved)


def _without_closed(segments: Links, is_open: BoolArray) -> Links:
    """Return segments of which the closed ones take for ever, whatever was given."""
    slows = is_open & (segments.alpha > 0)
    return segments._replace(
        free_min=np.where(is_open, segments.free_min, np.inf),
        capacity_vph=np.where(is_open, segments.capacity_vph, 1.0),
        alpha=np.where(slows, segments.alpha, 0.0),
        beta=np.where(slows, segments.beta, 1.0),
    )


def _with_connectors(net: TurnNetwork, used: IntArray, segments: Links) -> Links:
    """Return the links that may be used; connectors take no time."""
    of = net.link_of[used]
    own = of >= 0
    return Links(
        source=net.source[used],
        target=net.target[used],
        free_min=np.where(own, segments.free_min[of], 0.0),
        capacity_vph=np.where(own, segments.capacity_vph[of], 1.0),
        alpha=np.where(own, segments.alpha[of], 0.0),
        beta=np.where(own, segments.beta[of], 1.0),
    )


def _check_segments(segments: Links, is_open: BoolArray) -> None:
    """Raise where numbers of segments cannot be."""
    shape = segments.source.shape
    given = {**segments._asdict(), "is_open": is_open}
    shapes = [f"`{name}` {x.shape}" for name, x in given.items() if x.shape != shape]
    if shapes:
        what = ", ".join(shapes)
        raise InputError(f"{what}: wrong shape for {shape[0]} segments; give one value for each")
    if is_open.dtype != np.bool_:
        raise InputError(f"`is_open` holds {is_open.dtype}; give true or false")
    report = Report()
    for name, fits, allowed in (
        ("free_min", segments.free_min >= 0, "minutes of at least 0"),
        ("capacity_vph", segments.capacity_vph > 0, "above 0; close a road that nobody may use"),
        ("alpha", segments.alpha >= 0, "at least 0"),
        ("beta", (segments.beta >= 1) | (segments.alpha == 0), "at least 1"),
    ):
        values = given[name]
        wrong = np.flatnonzero(is_open & ~(fits & np.isfinite(values)))
        if len(wrong):
            first = int(wrong[0])
            what = f"is {values[first]} at segment {first}"
            report.error(f"`{name}`", what, f"give {allowed}", count=len(wrong))
    report.raise_errors(InputError, title="cannot find an equilibrium")


def _check_junctions(junctions: IntArray, n_junctions: int) -> None:
    """Raise unless there is a junction for every zone."""
    if junctions.ndim != 1 or junctions.dtype.kind not in "iu" or not len(junctions):
        what = f"`junctions` has the shape {junctions.shape} and holds {junctions.dtype}"
        raise InputError(f"{what}; give one position for each zone")
    outside = junctions[(junctions < 0) | (junctions >= n_junctions)]
    if len(outside):
        raise InputError(f"`junctions` holds {outside[0]}; there are 0..{n_junctions - 1}")


def _check_options(gap: float, max_iterations: int) -> None:
    """Raise where an option cannot be."""
    if not 0 < gap < 1:
        raise InputError(f"`gap` is {gap}; give a share between 0 and 1, such as 1e-4")
    if max_iterations < 1:
        raise InputError(f"`max_iterations` is {max_iterations}; give at least 1")


def _check_trips(trips: Floats, n_zones: int) -> None:
    """Raise unless there is a number of trips for every pair of zones."""
    if trips.shape != (n_zones, n_zones):
        raise InputError(f"`trips` has the shape {trips.shape}; give ({n_zones}, {n_zones})")
    wrong = np.argwhere(~(np.isfinite(trips) & (trips >= 0)))
    if len(wrong):
        row, column = wrong[0]
        what = f"`trips` is {trips[row, column]} from zone {row} to zone {column}"
        raise InputError(f"{what}; give trips per hour of at least 0")
