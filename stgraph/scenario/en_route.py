"""Drivers who choose their next street anew at every junction, by the times of the moment.

Whoever comes to a junction goes on as somebody does who stands there with the same destination,
wherever they come from: a Markov chain of streets (Akamatsu 1996; Baillon & Cominetti 2008, whose
equilibrium is not waited for here). Those who are under way react, too, and one driver may begin by
one route and go on by another.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from stgraph.scenario._routes import build_routes
from stgraph.scenario.turns import TurnNetwork

Floats = npt.NDArray[np.float64]

_MOST_STREETS = 10_000  # of one way: only numerical trouble would take more
_LEFT = 1e-8  # of all trips may not have arrived when flows are read


class EnRoute:
    """The drivers of some trips on a network.

    Parameters
    ----------
    net
        Junctions and links.
    junctions
        (Z,) positions of the junctions where trips of a zone begin and end.
    trips
        (Z, Z) per hour, from row to column; those within a junction use no street.
    """

    def __init__(self, net: TurnNetwork, junctions: npt.NDArray[np.int64], trips: Floats) -> None:
        self.net = net
        self._junctions, self._trips = junctions, trips
        self._ends, self._column = np.unique(net.end_of[junctions], return_inverse=True)
        n_links = len(net.source)
        self._into = csr_array(
            (np.ones(n_links), (net.target, np.arange(n_links))), shape=(net.n_nodes, n_links)
        )
        # of those who pass the tail of a link, bound for an end: the part that takes it
        self._part = np.zeros((n_links, len(self._ends)))
        self._owed = np.zeros((net.n_nodes, len(self._ends)))  # who begins where
        self._passing = self._owed
        self._is_under_way = False
        self.unserved = np.zeros_like(trips)  # (Z, Z) trips per hour without a way

    def choose(self, minutes: Floats, part: float) -> None:
        """Let a part of the drivers at every junction decide for the quickest way from there.

        Parameters
        ----------
        minutes
            (E,) of the segments, above 0; inf where nobody may drive, the same ones every time.
        part
            Of all drivers; 1 the first time.
        """
        routes = build_routes(self.net, minutes)
        back = csr_array(routes.matrix.T)
        left, onto = dijkstra(back, indices=self._ends, return_predecessors=True)
        if not self._is_under_way:
            self._begin(np.isfinite(left))
        end, node = np.nonzero(onto >= 0)
        link = routes.steps_between(node, onto[end, node].astype(np.int64))
        self._part *= 1.0 - part
        self._part[link, end] += part

    def _begin(self, has_way: npt.NDArray[np.bool_]) -> None:
        """Put those on the network who have a way, by (ends, nodes)."""
        away = self._junctions[:, None] != self._junctions[None, :]
        served = away & has_way.T[self._junctions][:, self._column]
        self.unserved = np.where(away & ~served, self._trips, 0.0)
        at = (self._junctions[:, None], self._column[None, :])
        np.add.at(self._owed, at, np.where(served, self._trips, 0.0))
        self._passing, self._is_under_way = self._owed, True

    def flow(self) -> Floats:
        """Return the vehicles per hour on the (E,) segments, all on their way to the end."""
        least = _LEFT * max(float(self._owed.sum()), 1.0)
        taking = self._passing[self.net.source] * self._part
        for _ in range(_MOST_STREETS):
            before, self._passing = self._passing, self._owed + self._into @ taking
            taking = self._passing[self.net.source] * self._part
            if not np.abs(self._passing - before).sum() > least:
                break
        n_segments = int((self.net.link_of >= 0).sum())
        found: Floats = taking.sum(axis=1)[:n_segments]
        return found
