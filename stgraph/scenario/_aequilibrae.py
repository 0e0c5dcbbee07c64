"""Run AequilibraE's assignment in memory: without a project, a bar, a log or a file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order

from stgraph import _optional
from stgraph.errors import InputError, STGraphError
from stgraph.graph import IntArray
from stgraph.scenario.week import Floats

_NO_TIME = 1e-9  # minutes: AequilibraE wants more than 0
_MUCH = 1e-6  # of all trips may be missing by rounding


class Links(NamedTuple):
    """Links between nodes, with times of free * (1 + alpha * (flow / capacity) ** beta)."""

    source: IntArray  # (L,) positions of nodes
    target: IntArray  # (L,)
    free_min: Floats  # (L,) minutes
    capacity_vph: Floats  # (L,) vehicles per hour
    alpha: Floats  # (L,)
    beta: Floats  # (L,) at least 1


class Solution(NamedTuple):
    """Flows close to the equilibrium."""

    flow_vph: Floats  # (L,)
    gap: float  # (time of all on their ways - on the fastest ways) / time of all
    n_iterations: int


def link_minutes(links: Links, flow_vph: Floats) -> Floats:
    """Return the (L,) minutes that links take at some flows."""
    load = (flow_vph / links.capacity_vph) ** links.beta
    return links.free_min * (1.0 + links.alpha * load)


class Engine:
    """A graph that AequilibraE has prepared, for any number of matrices."""

    def __init__(self, links: Links, starts: IntArray, ends: IntArray) -> None:
        """Give every zone a node of its own, which only its own trips pass.

        Parameters
        ----------
        links
            L links.
        starts, ends
            (U,) nodes where the trips of a zone begin, and where those to it end.
        """
        _optional.require("aequilibrae", extra="scenario")
        self._paths: Any = _optional.require("aequilibrae.paths", extra="scenario")
        self._matrix: Any = _optional.require("aequilibrae.matrix", extra="scenario")
        self._n_links, self.n_zones = len(links.source), len(starts)
        self._kept = _on_ways(links, starts, ends)
        links = self.links = _take(links, self._kept)
        own = np.arange(self.n_zones)
        n_more = 2 * self.n_zones
        # ids of zones are 1..U, those of nodes follow
        table = {
            "a_node": np.concatenate([links.source + self.n_zones, own, ends + self.n_zones]),
            "b_node": np.concatenate([links.target + self.n_zones, starts + self.n_zones, own]),
            "free": np.concatenate(
                [np.maximum(links.free_min, _NO_TIME), np.full(n_more, _NO_TIME)]
            ),
            "capacity": np.concatenate([links.capacity_vph, np.ones(n_more)]),
            "alpha": np.concatenate([links.alpha, np.zeros(n_more)]),
            "beta": np.concatenate([links.beta, np.ones(n_more)]),
        }
        frame = pd.DataFrame(table)
        frame[["a_node", "b_node"]] += 1
        frame.insert(0, "link_id", np.arange(1, len(frame) + 1))
        frame["direction"] = np.int8(1)
        self._ids = own + 1
        with _quiet(self._paths):
            self._graph = self._paths.Graph()
            self._graph.network = frame
            self._graph.prepare_graph(self._ids)
            self._graph.set_graph("free")
            self._graph.set_blocked_centroid_flows(True)

    def solve(self, trips: Floats, *, gap: float, max_iterations: int) -> Solution:
        """Return the best flows that were found.

        Parameters
        ----------
        trips
            (U, U) vehicles per hour, all of which have a way; 0 on the diagonal.
        gap
            Relative gap at which to stop.
        max_iterations
            How many flows to judge at most.

        Raises
        ------
        InputError
            If times are beyond all numbers.
        STGraphError
            If AequilibraE did not put all trips onto the network.
        """
        with _quiet(self._paths), np.errstate(all="ignore"):
            assignment = self._paths.TrafficAssignment()
            assignment.set_classes([self._paths.TrafficClass("car", self._graph, self._car(trips))])
            assignment.set_vdf("BPR")
            assignment.set_vdf_parameters({"alpha": "alpha", "beta": "beta"})
            assignment.set_capacity_field("capacity")
            assignment.set_time_field("free")
            # its threads take turns, share the trips by chance, and may mix up their memory
            assignment.set_cores(1)
            assignment.max_iter = max_iterations + 2  # the first two are not judged
            assignment.rgap_target = gap
            assignment.set_algorithm("bfw")
            judge = _Judge(assignment.assignment, self.links, gap)
            assignment.assignment.check_convergence = judge
            assignment.execute(log_specification=False)
        if not len(judge.best_flow):
            least = float(self.links.capacity_vph.min())
            raise InputError(
                f"times are beyond all numbers; the least capacity is {least:.3g} vehicles "
                "an hour: check `capacity_vph` and `beta`, or close such segments"
            )
        self._check_complete(judge.best_flow, trips)
        flow = np.zeros(self._n_links)
        flow[self._kept] = judge.best_flow[: len(self._kept)]
        return Solution(flow, judge.best_gap, judge.n_iterations)

    def _car(self, trips: Floats) -> Any:
        """Return a matrix of AequilibraE's in memory."""
        matrix = self._matrix.AequilibraeMatrix()
        matrix.create_empty(zones=self.n_zones, matrix_names=["car"], memory_only=True)
        matrix.index[:] = self._ids
        matrix.matrices[:, :, 0] = trips
        matrix.computational_view(["car"])
        return matrix

    def _check_complete(self, flow: Floats, trips: Floats) -> None:
        """Raise if the flows that leave and enter the zones are not the trips."""
        ends = flow[len(self.links.source) :]
        wanted = np.concatenate([trips.sum(axis=1), trips.sum(axis=0)])
        lost = float(np.abs(ends - wanted).sum()) / 2
        if not lost <= _MUCH * trips.sum():
            raise STGraphError(
                f"AequilibraE lost {lost:.6g} of {trips.sum():.6g} trips an hour; "
                "its version may not fit (1.7 is tested)"
            )


def _take(links: Links, some: IntArray) -> Links:
    """Return some of the links."""
    return Links(
        source=links.source[some],
        target=links.target[some],
        free_min=links.free_min[some],
        capacity_vph=links.capacity_vph[some],
        alpha=links.alpha[some],
        beta=links.beta[some],
    )


def _on_ways(links: Links, starts: IntArray, ends: IntArray) -> IntArray:
    """Return the positions of the links that lead from some start to some end.

    AequilibraE (until 1.7.2) takes any junction with two links for the middle of a chain, and
    drives on where both lead into it. Among links that come from and lead to somewhere is no such.
    """
    nodes = np.concatenate([links.source, links.target, starts, ends])
    extra = int(nodes.max()) + 1  # a node before all starts, or behind all ends
    ways = []
    for source, target, first in (
        (links.source, links.target, starts),
        (links.target, links.source, ends),
    ):
        rows = np.concatenate([source, np.full(len(first), extra)])
        columns = np.concatenate([target, first])
        matrix = csr_array((np.ones(len(rows)), (rows, columns)), shape=(extra + 1,) * 2)
        reached = np.zeros(extra + 1, dtype=np.bool_)
        reached[breadth_first_order(matrix, extra, return_predecessors=False)] = True
        ways.append(reached[source])
    return np.flatnonzero(ways[0] & ways[1])


class _Judge:
    """Decides when it is enough, by the gap of the very flows that are returned.

    AequilibraE measures flows by times that are one iteration older. When this is called, the
    all-or-nothing flows are those on the fastest ways at the times of the flows kept here.
    """

    def __init__(self, assignment: Any, links: Links, gap: float) -> None:
        self._assignment, self._links, self._wanted = assignment, links, gap
        self._flow: Floats | None = None
        self.best_flow: Floats = np.zeros(0)
        self.best_gap = np.inf
        self.n_iterations = 0

    def __call__(self) -> bool:
        if self._flow is not None:
            flow, n_links = self._flow, len(self._links.source)
            minutes = link_minutes(self._links, flow[:n_links])
            taken = float(flow[:n_links] @ minutes)
            fastest = float(self._assignment.aon_total_flow[:n_links] @ minutes)
            gap = (taken - fastest) / taken if taken > 0 else 0.0
            if not np.isfinite(gap):
                return True  # numbers have run over
            self.n_iterations += 1
            if gap < self.best_gap:
                self.best_gap, self.best_flow = max(gap, 0.0), flow
        self._flow = np.array(self._assignment.fw_total_flow)
        self._assignment.rgap = self.best_gap
        return self.best_gap <= self._wanted


@contextmanager
def _quiet(paths: Any) -> Iterator[None]:
    """Keep AequilibraE from drawing bars, logging every iteration, and warning of its own code."""
    logger = logging.getLogger("aequilibrae")
    signals = (
        getattr(paths.linear_approximation.LinearApproximation, "signal", None),
        getattr(paths.all_or_nothing.allOrNothing, "signal", None),
    )
    # inside QGIS the signals are its own, and draw nothing
    bars: list[Any] = [signal for signal in signals if hasattr(signal, "deactivate")]
    before, was_disabled = [bar.deactivate for bar in bars], logger.disabled
    logger.disabled = True
    for bar in bars:
        bar.deactivate = True
    try:
        with warnings.catch_warnings():  # it uses what pandas is about to drop
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.disabled = was_disabled
        for bar, value in zip(bars, before, strict=True):
            bar.deactivate = value
