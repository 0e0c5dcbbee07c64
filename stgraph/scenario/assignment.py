"""Which ways drivers take: flows and times of one hour, on any state of a network.

Two kinds of drivers. In ``equilibrium`` nobody gets there sooner by another way (Wardrop 1952;
solved by AequilibraE). ``reactive`` drivers choose their next street at every junction by the times
of the moment, which are judged with errors (probit, Burrell 1968; Daganzo & Sheffi 1977), and a
part of them decides anew in every round: flows never settle, and their mean counts. Where normal
flows are known, reactive drivers can be fitted to them, and come much closer to what closures do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from stgraph.graph import IntArray, STGraph
from stgraph.scenario._routes import expanded
from stgraph.scenario.en_route import EnRoute
from stgraph.scenario.equilibrium import Equilibria
from stgraph.scenario.states import RoadState
from stgraph.scenario.turns import TurnNetwork
from stgraph.scenario.vdf import VDF

Floats = npt.NDArray[np.float64]

SPREADS = (0.15, 0.25, 0.35, 0.45, 0.6)  # that are tried
_MOST_LABELS = 50_000  # zones times junctions: above, reactive drivers take too long
_MOST_SOLVERS = 4  # states of a network that stay prepared
_MOST_HOURS = 6  # of the day that drivers are fitted to


@dataclass(frozen=True)
class Drivers:
    """How drivers choose their ways."""

    kind: Literal["equilibrium", "reactive"] = "equilibrium"
    spread: float = 0.45  # of reactive ones: standard deviation of the logarithm of their errors
    response: float = 0.2  # of reactive ones: how many choose anew in a round
    n_rounds: int = 50
    n_settling: int = 15  # rounds at the beginning that do not count
    gap: float = 1e-4  # relative, of the equilibrium


class Loaded(NamedTuple):
    """Flows and times of one hour."""

    flow_vph: Floats  # (E,)
    minutes: Floats  # (E,) inf where closed
    unserved: Floats  # (Z, Z) trips per hour without a way


class Assignment:
    """A network with its curves, zones and drivers; remembers what it has solved.

    Parameters
    ----------
    roads
        Junctions as nodes, E segments as edges.
    vdf
        Of these segments.
    junctions
        (Z,) positions of the junctions where trips of a zone begin and end.
    drivers
        How they choose.
    seed
        Of the errors of reactive drivers; they are the same on all states of the network.
    heir
        (E,) positions of the segments whose errors are made, too: parts of a split street are
        misjudged as the street is. None: each its own.
    """

    def __init__(
        self,
        roads: STGraph,
        vdf: VDF,
        junctions: IntArray,
        drivers: Drivers,
        *,
        seed: int = 0,
        heir: IntArray | None = None,
    ) -> None:
        self.roads = roads
        self.vdf = vdf
        self.junctions = np.asarray(junctions, dtype=np.int64)
        self.drivers = drivers
        self.seed = seed
        self.heir = np.arange(roads.n_edges) if heir is None else heir
        self._nets: dict[bytes, TurnNetwork] = {}
        self._solvers: deque[tuple[RoadState, Equilibria]] = deque(maxlen=_MOST_SOLVERS)

    def fresh(self) -> Assignment:
        """Return the same without what it remembers, which no other process can use."""
        return Assignment(
            self.roads, self.vdf, self.junctions, self.drivers, seed=self.seed, heir=self.heir
        )

    def load(self, state: RoadState, trips: npt.NDArray[np.floating[Any]]) -> Loaded:
        """Return the flows of some trips, (Z, Z) per hour, on a state of the network."""
        net = self._net(state)
        wanted = trips.astype(np.float64)
        if self.drivers.kind == "equilibrium":
            return self._settle(net, state, wanted)
        return self._react(net, state, wanted)

    def _net(self, state: RoadState) -> TurnNetwork:
        """Return the network with the turns of a state forbidden, made once."""
        banned = np.ascontiguousarray(state.banned_turns)
        key = banned.tobytes() + (state.is_open.tobytes() if banned.size else b"")
        if key not in self._nets:
            self._nets[key] = expanded(self.roads, banned, state.is_open)
        return self._nets[key]

    def _settle(self, net: TurnNetwork, state: RoadState, trips: Floats) -> Loaded:
        """Return the user equilibrium."""
        solve = next((known for one, known in self._solvers if one is state), None)
        if solve is None:
            solve = Equilibria(
                net,
                free_min=self.vdf.free_minutes(state),
                capacity_vph=state.capacity_vph.astype(np.float64),
                alpha=self.vdf.alpha,
                beta=self.vdf.beta,
                is_open=state.is_open,
                junctions=self.junctions,
                gap=self.drivers.gap,
            )
            self._solvers.append((state, solve))
        found = solve(trips)
        return Loaded(found.flow_vph, found.minutes, found.unserved)

    def _react(self, net: TurnNetwork, state: RoadState, trips: Floats) -> Loaded:
        """Return the mean flows of drivers who react to the times of the moment."""
        rng = np.random.default_rng(self.seed)
        drivers, E = self.drivers, self.roads.n_edges
        flow, total = np.zeros(E), np.zeros(E)
        on_the_way = EnRoute(net, self.junctions, trips)
        for n in range(drivers.n_rounds):
            times = np.where(state.is_open, self.vdf.minutes(flow, state), np.inf)
            seen = times * np.exp(drivers.spread * rng.standard_normal(E)[self.heir])
            on_the_way.choose(np.maximum(seen, 1e-6), max(drivers.response, 1 / (n + 1)))
            flow = on_the_way.flow()
            if n >= drivers.n_settling:
                total += flow
        flow = total / (drivers.n_rounds - drivers.n_settling)
        minutes = np.where(state.is_open, self.vdf.minutes(flow, state), np.inf)
        return Loaded(flow, minutes, on_the_way.unserved)


class DriverFit(NamedTuple):
    """How well modelled flows of the baseline fit usual ones."""

    drivers: Drivers
    correlation: float  # over hours and segments
    slope: float  # usual flow per modelled flow
    tried: Mapping[float, float]  # spread -> correlation; 0 is the equilibrium


def fit_drivers(
    assignment: Assignment,
    state: RoadState,
    trips: Sequence[Floats],
    flows: Sequence[Floats],
    speeds: Sequence[Floats] | None = None,
) -> DriverFit:
    """Return the drivers under whom normal flows and speeds come closest to usual ones.

    Parameters
    ----------
    assignment
        Of the network as it is.
    state
        What holds on it.
    trips, flows
        Of some hours: (Z, Z) cars per hour, and (E,) usual flows, NaN where not known.
    speeds
        Of the same hours: (E,) usual speeds in km/h, NaN where not known. None: flows alone count.

    Notes
    -----
    The least product of the root mean squares of both errors wins. On networks with many zones and
    junctions reactive drivers take too long, and only the equilibrium is looked at.
    """
    n_labels = len(np.unique(assignment.junctions)) * assignment.roads.n_nodes
    candidates = [Drivers()]
    if n_labels <= _MOST_LABELS:
        candidates += [Drivers("reactive", spread=spread) for spread in SPREADS]
    picked = np.unique(np.linspace(0, len(trips) - 1, _MOST_HOURS).round().astype(int))
    usual = np.stack([flows[i] for i in picked])
    known = np.isfinite(usual)
    best: DriverFit | None = None
    least = np.inf
    tried: dict[float, float] = {}
    for drivers in candidates:
        quick = replace(drivers, n_rounds=30, n_settling=10, gap=1e-3)
        twin = Assignment(
            assignment.roads, assignment.vdf, assignment.junctions, quick, seed=assignment.seed
        )
        loaded = [twin.load(state, trips[i]) for i in picked]
        x, y = np.stack([one.flow_vph for one in loaded])[known], usual[known]
        r = float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else 0.0
        tried[drivers.spread if drivers.kind == "reactive" else 0.0] = round(r, 4)
        error = float(np.sqrt(((x - y) ** 2).mean()))
        if speeds is not None:
            said = 0.06 * assignment.vdf.length_m / np.stack([one.minutes for one in loaded])
            off = said - np.stack([speeds[i] for i in picked])
            error *= float(np.sqrt(np.nanmean(off**2))) if np.isfinite(off).any() else 1.0
        if error < least:
            least = error
            slope = float((x @ y) / (x @ x)) if (x @ x) > 0 else 1.0
            best = DriverFit(drivers, r, slope, tried)
    assert best is not None  # noqa: S101 - there is at least one candidate
    return best
