"""Drivers who choose their next street at every junction."""

from __future__ import annotations

import numpy as np
import pytest
from scenario_towns import NO_TURNS, diamond, load_quickest, make_roads

from stgraph.scenario._routes import expanded
from stgraph.scenario.en_route import EnRoute


def test_quickest_ways_to_the_number() -> None:
    """The straight street is quicker than that by junction 3; trips within a junction use none."""
    net = expanded(diamond(), NO_TURNS)
    trips = np.array([[0.0, 50, 7], [20, 0, 0], [5, 0, 0]])
    flow, unserved = load_quickest(net, np.ones(6), np.array([0, 4, 0]), trips)
    # zones 0 and 2 share a junction: 50 + 0 out, 20 back
    np.testing.assert_array_equal(flow, [50, 50, 50, 0, 0, 20])
    assert not unserved.any()


def test_forbidden_turns_are_respected_and_nobody_is_lost() -> None:
    """From 0-1 not into 1-2: all go by 3. Connectors take no time; flows pass them whole."""
    net = expanded(diamond(), np.array([[0], [1]]))
    trips = np.array([[0.0, 30], [0, 0]])
    flow, unserved = load_quickest(net, np.ones(6), np.array([0, 4]), trips)
    np.testing.assert_array_equal(flow, [30, 0, 30, 30, 30, 0])
    assert not unserved.any()
    # the same with a street before: who comes from 4 by 0 is not lost on the way
    flow, _ = load_quickest(net, np.ones(6), np.array([4, 2]), trips)
    np.testing.assert_array_equal(flow, [30, 0, 0, 30, 30, 30])
    # who begins at junction 1 may still go straight on; who ends there is let in
    trips = np.array([[0.0, 9, 0], [0, 0, 8], [0] * 3])
    flow, _ = load_quickest(net, np.ones(6), np.array([0, 1, 4]), trips)
    np.testing.assert_array_equal(flow, [9, 8, 8, 0, 0, 0])


@pytest.mark.parametrize(
    ("minutes", "wanted"), [([2.0, 1, 1], [0, 12, 3]), ([1.0, 2, 1], [12, 0, 3])]
)
def test_of_parallel_streets_the_quicker_one_is_driven(
    minutes: list[float], wanted: list[float]
) -> None:
    net = expanded(make_roads([(0, 1), (0, 1), (1, 0)], [(0, 0), (1, 0)]), NO_TURNS)
    trips = np.array([[0.0, 12], [3, 0]])
    flow, _ = load_quickest(net, np.array(minutes), np.array([0, 1]), trips)
    np.testing.assert_array_equal(flow, wanted)


def test_trips_without_a_way_are_told() -> None:
    """4-0 closed: nobody gets back; those who can are not touched."""
    minutes = np.array([1.0, 1, 1, 1, 1, np.inf])
    trips = np.array([[0.0, 30], [11, 0]])
    flow, unserved = load_quickest(expanded(diamond(), NO_TURNS), minutes, np.array([0, 4]), trips)
    np.testing.assert_array_equal(flow, [30, 30, 30, 0, 0, 0])
    np.testing.assert_array_equal(unserved, [[0, 0], [11, 0]])


def test_nothing_is_driven_where_all_is_closed() -> None:
    net = expanded(diamond(), NO_TURNS)
    trips = np.array([[0.0, 30], [11, 0]])
    flow, unserved = load_quickest(net, np.full(6, np.inf), np.array([0, 4]), trips)
    assert not flow.any()
    np.testing.assert_array_equal(unserved, trips)


def test_a_part_of_those_at_a_junction_decides_anew() -> None:
    """All went straight; a quarter of those at junction 1 decides for the way by 3."""
    drivers = EnRoute(
        expanded(diamond(), NO_TURNS), np.array([0, 4]), np.array([[0.0, 100], [0, 0]])
    )
    drivers.choose(np.ones(6), 1.0)
    np.testing.assert_array_equal(drivers.flow(), [100, 100, 100, 0, 0, 0])
    drivers.choose(np.array([1.0, 9, 1, 1, 1, 1]), 0.25)
    np.testing.assert_allclose(drivers.flow(), [100, 75, 100, 25, 25, 0])
    drivers.choose(np.array([1.0, 9, 1, 1, 1, 1]), 1.0)  # all of them: as if they had never else
    np.testing.assert_allclose(drivers.flow(), [100, 0, 100, 100, 100, 0], atol=1e-6)


def test_who_decides_anew_may_come_back() -> None:
    """Half of those at 0 go to 2 by 1, half of those at 1 go there by 0: to the number.

    Of one car 1 + 1/4 + 1/16 ... = 4/3 pass junction 0, half of them go to 1.
    """
    roads = make_roads([(0, 1), (1, 0), (0, 2), (1, 2)], [(0, 0), (1, 0), (0, 1)])
    trips = np.array([[0.0, 3], [0, 0]])
    drivers = EnRoute(expanded(roads, NO_TURNS), np.array([0, 2]), trips)
    drivers.choose(np.array([1.0, 1, 9, 1]), 1.0)
    drivers.choose(np.array([1.0, 1, 1, 9]), 0.5)
    np.testing.assert_allclose(drivers.flow(), [2.0, 1, 2, 1], rtol=1e-6)
