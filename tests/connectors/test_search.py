"""Searches in the reachable part of a network find what a search of all of it finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from stgraph_connectors import _search
from stgraph_connectors._search import search_near


def make_network(n: int, seed: int) -> tuple[csr_array, np.ndarray]:
    """Points in a town of 5 km, each linked to three others nearby, one way."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 5_000, (n, 2))
    gaps = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    near = np.argsort(gaps, axis=1)[:, 1:4]
    source = np.repeat(np.arange(n), 3)
    return csr_array((gaps[source, near.ravel()], (source, near.ravel())), shape=(n, n)), xy


@pytest.mark.parametrize("cells", [8_000_000, 50])  # the second: one source at a time
def test_the_same_distances_and_ways_as_in_the_whole_network(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every length within the limit of its source, and the way that it is the length of."""
    monkeypatch.setattr(_search, "_CELLS", cells)
    ways, xy = make_network(400, 0)
    rng = np.random.default_rng(1)
    sources = rng.choice(400, 120, replace=False)
    limits = rng.uniform(50, 6_000, 120)
    whole = dijkstra(ways)
    seen = []
    for found in search_near(ways, xy, sources, limits):
        for row, place in enumerate(found.sources):
            seen.append(place)
            within = np.flatnonzero(whole[sources[place]] <= limits[place])
            columns = np.searchsorted(found.nodes, within)
            assert (found.nodes[columns] == within).all()
            np.testing.assert_array_equal(
                found.lengths[row, columns], whole[sources[place], within]
            )
            for column in columns[found.previous[row, columns] >= 0]:
                before = found.previous[row, column]
                link = ways[[found.nodes[before]], [found.nodes[column]]]
                assert found.lengths[row, before] + link == found.lengths[row, column]
    assert sorted(seen) == list(range(120))


def test_only_the_part_within_reach_is_searched() -> None:
    """A short limit in a large network meets few nodes, also where another source looks far."""
    ways, xy = make_network(400, 0)
    sources, limits = np.array([3, 200]), np.array([300.0, 4_000.0])
    sizes = {int(f.sources[0]): len(f.nodes) for f in search_near(ways, xy, sources, limits)}
    assert sizes[0] < 20 < sizes[1]


def test_no_source_is_no_search() -> None:
    """Where no pair is asked for there is nothing to find."""
    ways, xy = make_network(10, 0)
    assert list(search_near(ways, xy, np.zeros(0, np.int64), np.zeros(0))) == []
