"""Routes between zones and the flows on them, with turns that are forbidden."""

from __future__ import annotations

import dataclasses

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scenario_towns import load_quickest

from stgraph.graph import STGraph
from stgraph.scenario._routes import expanded, forbidden_turns
from stgraph.scenario.loading import find_routes

# 0 - 1 - 2 - 3 from west to east, 4 north and 5 south of 2, a way round from 3 to 4
PAIRS = [(0, 1), (1, 2), (2, 3), (2, 4), (2, 5), (3, 4)]
LEFT = (102, 106)  # from 1-2 into 2-4


def town(restrictions: list[tuple[int, int]]) -> STGraph:
    """Streets of a minute each in both directions, whose ids begin with 100."""
    points = gpd.points_from_xy([0, 1000, 2000, 3000, 2000, 2000], [0, 0, 0, 0, 1000, -1000])
    nodes = gpd.GeoDataFrame({"kind": "junction"}, index=list("abcdef"), geometry=points, crs=32632)
    ends = np.array([end for a, b in PAIRS for end in ((a, b), (b, a))]).T
    ids = 100 + np.arange(ends.shape[1])
    edges = pd.DataFrame({"segment_id": ids, "length_m": 1000.0, "speed_kmh": 60.0})
    return STGraph(nodes, ends, edges=edges, provenance={"restrictions": restrictions})


def test_restrictions_are_pairs_of_known_segments() -> None:
    np.testing.assert_array_equal(forbidden_turns(town([LEFT, (102, 999)])), [[2], [6]])
    assert forbidden_turns(town([])).shape == (2, 0)
    bare = dataclasses.replace(town([(2, 6)]), edges=None)  # edges without ids: their positions
    np.testing.assert_array_equal(forbidden_turns(bare), [[2], [6]])


@pytest.mark.parametrize("restrictions", [[], [LEFT]])
def test_quickest_routes_make_no_forbidden_turn(restrictions: list[tuple[int, int]]) -> None:
    """From 0 to 4 it is three minutes, or four by 3 where one must not turn left at 2."""
    roads, zones = town(restrictions), np.array([0, 4, 5])
    routes = find_routes(roads, zones)
    assert routes.minutes[0, 1] == 3 + len(restrictions)
    trips = np.zeros((3, 3))
    trips[0, 1], trips[0, 2], trips[2, 1], trips[1, 0] = 7, 5, 3, 2
    expected = np.zeros(12)
    expected[[0, 2]] = 12  # the two streets before the junction
    expected[[4, 10] if restrictions else [6]] += 7
    expected[8] += 5
    expected[[9, 6]] += 3
    expected[[7, 3, 1]] += 2
    np.testing.assert_allclose(routes(trips[None])[0], expected)
    net = expanded(roads, forbidden_turns(roads))
    flow, unserved = load_quickest(net, np.ones(12), zones, trips)
    np.testing.assert_allclose(flow, expected)
    assert not unserved.any()


@pytest.mark.parametrize("seed", range(6))
def test_flows_are_those_of_the_routes(seed: int) -> None:
    """Property: whatever is forbidden or closed, both searches load all trips that have a way."""
    rng = np.random.default_rng(seed)
    n, n_segments, n_zones = 8, 26, 5
    source = rng.integers(0, n, n_segments)
    ends = np.stack([source, (source + rng.integers(1, n, n_segments)) % n])
    meets = np.argwhere(ends[1][:, None] == ends[0])
    banned = meets[rng.random(len(meets)) < 0.3]
    nodes = gpd.GeoDataFrame(
        {"kind": "junction"},
        index=np.arange(n).astype(str),
        geometry=gpd.points_from_xy(rng.random(n), rng.random(n)),
        crs=32632,
    )
    edges = pd.DataFrame({"segment_id": np.arange(n_segments), "length_m": 1.0})
    roads = STGraph(nodes, ends, edges=edges, provenance={"restrictions": banned.tolist()})
    minutes = rng.uniform(1, 9, n_segments)
    minutes[rng.random(n_segments) < 0.2] = np.inf
    zones = rng.integers(0, n, n_zones)  # some share a junction
    trips = rng.uniform(0, 10, (n_zones, n_zones))
    routes = find_routes(roads, zones, minutes=minutes)
    net = expanded(roads, forbidden_turns(roads), np.isfinite(minutes))
    flow, unserved = load_quickest(net, minutes, zones, trips)
    np.testing.assert_allclose(flow, routes(trips[None])[0], atol=1e-9)
    np.testing.assert_array_equal(unserved > 0, np.isinf(routes.minutes))
    assert not flow[np.isinf(minutes)].any()
    served = np.isfinite(routes.minutes)
    spent = minutes[flow > 0] @ flow[flow > 0]
    assert spent == pytest.approx(trips[served] @ routes.minutes[served])
