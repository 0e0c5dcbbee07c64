"""Flows of one hour: who drives where, with errors and without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scenario_towns import NO_TURNS, grid, make_roads

from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph.scenario.assignment import SPREADS, Assignment, Drivers, fit_drivers
from stgraph.scenario.states import RoadState
from stgraph.scenario.streets import read_streets
from stgraph.scenario.vdf import VDF, fit_vdf

REACTIVE = Drivers("reactive", spread=0.3, n_rounds=20, n_settling=5)


def make_state(roads: STGraph, closed: tuple[int, ...] = (), banned: Any = NO_TURNS) -> RoadState:
    """Return 60 km/h, one lane and 1000 vehicles per hour everywhere."""
    E = roads.n_edges
    is_open = ~np.isin(np.arange(E), closed)
    return RoadState(is_open, np.full(E, 60.0), np.ones(E), np.full(E, 1000.0), np.asarray(banned))


def usual_curves(roads: STGraph) -> VDF:
    streets = read_streets(roads, Report())
    assert streets is not None
    return fit_vdf(streets, None, Report())


def assign(roads: STGraph, junctions: list[int], drivers: Drivers = REACTIVE) -> Assignment:
    return Assignment(roads, usual_curves(roads), np.array(junctions), drivers)


def left_over(roads: STGraph, flow: np.ndarray, junctions: list[int], trips: np.ndarray) -> Any:
    """Return what a junction lets out more than in, less the trips that begin and end there."""
    out = np.bincount(roads.edge_index[0], flow, roads.n_nodes)
    into = np.bincount(roads.edge_index[1], flow, roads.n_nodes)
    own = np.bincount(junctions, trips.sum(axis=1) - trips.sum(axis=0), roads.n_nodes)
    return out - into - own


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["reactive", "equilibrium"])
def test_flow_is_conserved_at_every_junction(seed: int, kind: Any) -> None:
    """Property: whatever is closed and forbidden, what comes in goes out or ends there."""
    rng = np.random.default_rng(seed)
    roads = grid(5, 4)
    source, target = roads.edge_index
    meets = np.argwhere(target[:, None] == source[None, :])
    banned = meets[rng.choice(len(meets), 12, replace=False)].T
    junctions = [*rng.choice(20, 5, replace=False).tolist()]
    junctions.append(junctions[0])  # two zones share a junction
    trips = rng.uniform(0, 200, (6, 6)) * (1 - np.eye(6))
    closed = tuple(rng.choice(roads.n_edges, 6, replace=False).tolist())
    state = make_state(roads, closed, banned)
    found = assign(roads, junctions, replace(REACTIVE, kind=kind)).load(state, trips)
    served = trips - found.unserved
    lost = left_over(roads, found.flow_vph, junctions, served)
    np.testing.assert_allclose(lost, 0, atol=1e-7 * trips.sum())
    assert (found.flow_vph[list(closed)] == 0).all()
    assert np.isinf(found.minutes[list(closed)]).all()
    assert (found.flow_vph >= 0).all()
    assert found.flow_vph.sum() > 1000


# ---------------------------------------------------------------- drivers who react


def test_the_same_seed_gives_the_same_numbers() -> None:
    roads, trips = grid(), np.full((3, 3), 300.0) * (1 - np.eye(3))
    loads = [assign(roads, [0, 7, 19]).load(make_state(roads), trips) for _ in range(2)]
    np.testing.assert_array_equal(loads[0].flow_vph, loads[1].flow_vph)
    other = Assignment(roads, usual_curves(roads), np.array([0, 7, 19]), REACTIVE, seed=1)
    assert not np.array_equal(other.load(make_state(roads), trips).flow_vph, loads[0].flow_vph)


def test_reactive_drivers_spread_over_ways_that_are_as_good() -> None:
    """Both streets are as long: with errors about half take each, some 10 % more or less."""
    roads = make_roads([(0, 1), (0, 1), (1, 0)], [(0, 0), (1, 0)])
    drivers = Drivers("reactive", n_rounds=200, n_settling=20)
    found = assign(roads, [0, 1], drivers).load(make_state(roads), np.array([[0.0, 900], [0, 0]]))
    np.testing.assert_allclose(found.flow_vph[:2], 450, rtol=0.1)
    assert found.flow_vph[:2].sum() == pytest.approx(900)


def test_equilibrium_times_are_equal() -> None:
    """1500 on two streets of 1000: 750 each, and 1 min * (1 + 0.15 * 0.75 ** 4)."""
    roads = make_roads([(0, 1), (0, 1), (1, 0)], [(0, 0), (1, 0)])
    found = assign(roads, [0, 1], Drivers()).load(
        make_state(roads), np.array([[0.0, 1500], [0, 0]])
    )
    np.testing.assert_allclose(found.flow_vph[:2], 750, rtol=1e-3)
    np.testing.assert_allclose(found.minutes[:2], 1 + 0.15 * 0.75**4, rtol=1e-3)


def test_no_trips_is_no_flow() -> None:
    roads = grid()
    for drivers in (REACTIVE, Drivers()):
        found = assign(roads, [0, 19], drivers).load(make_state(roads), np.zeros((2, 2)))
        assert not found.flow_vph.any()
        assert not found.unserved.any()
        np.testing.assert_allclose(found.minutes, 1.0)


def test_a_split_street_is_misjudged_as_the_whole() -> None:
    """0-1-2 in one piece and in two: other streets carry what they did, to the last digit."""
    places = [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, 1.0)]
    roads = make_roads([(0, 2), (0, 3), (3, 2), (2, 0), (0, 1), (1, 2)], places)
    edges = roads.edges.assign(length_m=[1000.0, 600, 600, 1000, 500, 500])
    roads = roads.replace(edges=edges)
    heir = np.array([0, 1, 2, 3, 0, 0])
    work = Assignment(roads, usual_curves(roads), np.array([0, 2]), REACTIVE, heir=heir)
    trips = np.array([[0.0, 800], [100, 0]])
    whole = work.load(make_state(roads, (4, 5)), trips).flow_vph
    parts = work.load(make_state(roads, (0,)), trips).flow_vph
    np.testing.assert_allclose(parts[1:4], whole[1:4], rtol=1e-12)
    np.testing.assert_allclose(parts[4:], whole[0], rtol=1e-12)
    assert 0 < whole[1] < 800


# ---------------------------------------------------------------- fitting drivers


def test_drivers_are_recognised() -> None:
    """Flows that reactive drivers made are fitted best by reactive ones, nearly one to one."""
    roads = grid(4, 4)
    rng = np.random.default_rng(0)
    junctions = [0, 3, 12, 15, 5, 10]
    trips = [rng.uniform(50, 250, (6, 6)) * (1 - np.eye(6)) for _ in range(4)]
    true = assign(roads, junctions, Drivers("reactive", spread=0.4, n_rounds=60, n_settling=15))
    flows = [true.load(make_state(roads), one).flow_vph for one in trips]
    flows[1][3] = np.nan  # not known
    fit = fit_drivers(assign(roads, junctions), make_state(roads), trips, flows)
    assert fit.drivers.kind == "reactive"
    assert fit.correlation > 0.93
    assert fit.correlation >= max(fit.tried.values()) - 0.02
    assert set(fit.tried) == {0.0, *SPREADS}
    assert fit.slope == pytest.approx(1.0, abs=0.05)


def test_large_networks_are_in_equilibrium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stgraph.scenario.assignment._MOST_LABELS", 10)
    roads = grid()
    trips = [np.full((3, 3), 100.0) * (1 - np.eye(3))]
    flows = [assign(roads, [0, 7, 19], Drivers()).load(make_state(roads), trips[0]).flow_vph]
    fit = fit_drivers(assign(roads, [0, 7, 19]), make_state(roads), trips, flows)
    assert fit.drivers == Drivers()
    assert list(fit.tried) == [0.0]
