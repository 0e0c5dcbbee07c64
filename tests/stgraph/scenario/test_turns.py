"""Networks in which forbidden turns cannot be made."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from stgraph.errors import InputError
from stgraph.scenario.turns import expand, with_turns_back

# a cross: 0 west, 1 middle, 2 east, 3 north; every arm both ways
SOURCE = np.array([0, 1, 1, 2, 1, 3])
TARGET = np.array([1, 0, 2, 1, 3, 1])


def lengths(source, target, n_junctions, banned, cost=None):
    """Return the shortest ways (from junction, to junction) in the expanded network."""
    net = expand(source, target, n_junctions, banned)
    cost = np.ones(len(source)) if cost is None else cost
    time = np.where(net.link_of >= 0, cost[net.link_of], 1e-9)
    order = np.lexsort((time, net.target, net.source))
    matrix = csr_array((net.n_nodes, net.n_nodes)).tolil()
    for i in order[::-1]:
        matrix[net.source[i], net.target[i]] = time[i]
    return dijkstra(matrix.tocsr(), indices=np.arange(n_junctions))[:, net.end_of]


def by_segments(source, target, n_junctions, banned, cost):
    """Return the same, by a search from segment to segment (plain, slow)."""
    forbidden = set(map(tuple, np.asarray(banned).T.tolist()))
    found = np.full((n_junctions, n_junctions), np.inf)
    for origin in range(n_junctions):
        best = np.where(source == origin, cost, np.inf)
        for _ in range(len(source) + 1):
            for a in range(len(source)):
                for b in np.flatnonzero(source == target[a]):
                    if (a, int(b)) not in forbidden:
                        best[b] = min(best[b], best[a] + cost[b])
        np.minimum.at(found[origin], target, best)
        found[origin, origin] = 0
    return found


def test_without_forbidden_turns_nothing_changes() -> None:
    """Networks without restrictions cost nothing."""
    net = expand(SOURCE, TARGET, 4, np.zeros((2, 0), dtype=int))
    np.testing.assert_array_equal(net.source, SOURCE)
    np.testing.assert_array_equal(net.target, TARGET)
    assert net.n_nodes == 4
    np.testing.assert_array_equal(net.link_of, np.arange(6))
    np.testing.assert_array_equal(net.end_of, np.arange(4))


def test_a_forbidden_turn_is_gone_and_the_others_are_not() -> None:
    """From the west one may still go east, end in the middle, and begin there to the north."""
    found = lengths(SOURCE, TARGET, 4, [[0], [4]])  # no left turn from the west to the north
    expected = lengths(SOURCE, TARGET, 4, [[], []])
    expected[0, 3] = 4  # to the east, back, and then north
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_segment_that_may_go_nowhere_still_ends() -> None:
    """Trips to a junction are no turns there."""
    found = lengths(SOURCE, TARGET, 4, [[0, 0, 0], [1, 2, 4]])
    assert found[0, 1] == pytest.approx(1)
    assert np.isinf(found[0, 2:]).all()
    assert found[2, 3] == pytest.approx(2)


def test_pairs_that_do_not_meet_change_nothing() -> None:
    """Restrictions of segments that lie elsewhere are no turns."""
    assert expand(SOURCE, TARGET, 4, [[0], [5]]).n_nodes == 4


def test_segments_come_first() -> None:
    """Flows of segments are the first E of the expanded links."""
    net = expand(SOURCE, TARGET, 4, [[0, 3], [4, 4]])
    np.testing.assert_array_equal(net.link_of[:6], np.arange(6))
    assert (net.link_of[6:] == -1).all()


@pytest.mark.parametrize("seed", range(8))
def test_any_network_has_the_ways_of_a_search_by_segments(seed: int) -> None:
    """Property: random networks, parallel segments and many restrictions included."""
    rng = np.random.default_rng(seed)
    n, n_links = 7, 22
    source = rng.integers(0, n, n_links)
    target = (source + rng.integers(1, n, n_links)) % n
    meets = np.argwhere(target[:, None] == source[None, :])
    banned = meets[rng.random(len(meets)) < 0.4].T
    cost = rng.uniform(1, 5, n_links)
    found = lengths(source, target, n, banned, cost)
    np.testing.assert_allclose(found, by_segments(source, target, n, banned, cost), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"banned": [[0], [6]]}, "position 6; there are 0..5"),
        ({"banned": [[0, 1, 2]]}, r"\(2, K\)"),
        ({"n_junctions": 3}, "position 3; there are 0..2"),
        ({"target": TARGET[:5]}, r"give both as \(E,\)"),
    ],
)
def test_bad_input_is_refused(change, match) -> None:
    given = {"source": SOURCE, "target": TARGET, "n_junctions": 4, "banned": [[0], [4]], **change}
    with pytest.raises(InputError, match=match):
        expand(**given)


def two_way(*pairs: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return streets in both directions: 2 i leads there, 2 i + 1 back."""
    ends = np.array([end for a, b in pairs for end in ((a, b), (b, a))])
    return ends[:, 0], ends[:, 1]


def test_nobody_turns_back_at_the_next_junction_to_evade_a_ban() -> None:
    """Straight on, back, and then right is no way round a forbidden left turn."""
    # 0 - 1 - 2 - 4 with 3 north of 1, and 5, 6 behind 4
    source, target = two_way((0, 1), (1, 2), (1, 3), (2, 4), (4, 5), (4, 6))
    left = [[0], [4]]  # from 0-1 into 1-3
    pairs = with_turns_back(source, target, left)
    # 2 is no junction where there is a choice, 4 is
    assert set(map(tuple, pairs.T.tolist())) == {(0, 4), (2, 3), (6, 7)}
    found = lengths(source, target, 7, pairs)
    assert found[0, 3] == pytest.approx(8)  # to 5 or 6, which are dead ends, and back
    assert lengths(source, target, 7, left)[0, 3] == pytest.approx(4)
    assert found[2, 3] == pytest.approx(2)
    assert found[0, 5] == pytest.approx(4)


def test_at_dead_ends_one_may_turn_back() -> None:
    """There is no other way out."""
    np.testing.assert_array_equal(with_turns_back(SOURCE, TARGET, [[0], [4]]), [[0], [4]])


def test_before_a_closed_street_one_may_turn_back() -> None:
    """Nobody is caught at a junction that a closure makes a dead end."""
    source, target = two_way((0, 1), (1, 2), (1, 3), (2, 4), (2, 5))
    pairs = [(0, 4), (2, 3)]  # back at 2
    np.testing.assert_array_equal(with_turns_back(source, target, [[0], [4]]).T, pairs)
    is_open = ~np.isin(np.arange(10), [6, 8])
    found = with_turns_back(source, target, [[0], [4]], is_open)
    np.testing.assert_array_equal(found, [[0], [4]])


def test_without_forbidden_turns_all_may_turn_back() -> None:
    """Networks without restrictions stay as they are, also where pairs are no turns."""
    source, target = two_way((0, 1), (1, 2), (1, 3), (2, 4))
    assert with_turns_back(source, target, np.zeros((2, 0), dtype=int)).shape == (2, 0)
    assert with_turns_back(source, target, [[0], [6]]).shape == (2, 1)


def test_several_streets_between_two_junctions() -> None:
    """There one may come back another way, and nothing is added."""
    source, target = two_way((0, 1), (1, 2), (1, 3), (1, 2), (2, 4))
    assert with_turns_back(source, target, [[0], [4]]).shape == (2, 1)


def test_every_pair_of_a_town_still_has_a_way() -> None:
    """Property: in a grid of two-way streets no single forbidden turn cuts anything off."""
    rng = np.random.default_rng(1)
    pairs = [(i, i + 1) for i in range(16) if i % 4 < 3] + [(i, i + 4) for i in range(12)]
    source, target = two_way(*pairs)
    meets = np.argwhere((target[:, None] == source) & (source[:, None] != target))
    for pair in rng.permutation(meets)[:20]:
        banned = with_turns_back(source, target, pair[:, None])
        assert np.isfinite(lengths(source, target, 16, banned)).all()
