"""Equilibria: numbers known from the literature, nothing lost, nothing noisy."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from planning_networks import far_off, read_known, relative_gap

from stgraph.errors import InputError, MissingExtraError, STGraphError
from stgraph.scenario.equilibrium import Equilibria, solve_equilibrium
from stgraph.scenario.turns import expand

NO_BAN = np.zeros((2, 0), dtype=np.int64)


def solve(source, target, trips, *, junctions=None, banned=NO_BAN, gap=1e-8, **numbers):
    """Solve on links of 1 minute that carry 1000 vehicles per hour, unless said otherwise."""
    source, target = np.asarray(source), np.asarray(target)
    n = len(source)
    trips = np.asarray(trips, dtype=float)
    junctions = np.arange(len(trips)) if junctions is None else np.asarray(junctions)
    net = expand(source, target, int(max(source.max(), target.max(), junctions.max())) + 1, banned)
    given = {"free_min": 1.0, "capacity_vph": 1000.0, "alpha": 0.15, "beta": 4.0, "is_open": True}
    options = {name: numbers.pop(name) for name in ("max_iterations",) if name in numbers}
    given = {name: np.broadcast_to(numbers.get(name, x), n) for name, x in given.items()}
    assert set(numbers) <= set(given)
    return solve_equilibrium(net, **given, junctions=junctions, trips=trips, gap=gap, **options)


def one_trip(n_zones, origin, destination, count):
    trips = np.zeros((n_zones, n_zones))
    trips[origin, destination] = count
    return trips


# two ways from 0 to 3: by 1 and by 2; the last link is the road between 1 and 2
BRAESS = ([0, 0, 1, 2, 1], [1, 2, 3, 3, 2])
# minutes 10 q, 50 + q, 50 + q, 10 q, 10 + q as in the textbook
BRAESS_TIMES = {
    "free_min": np.array([1e-6, 50.0, 50.0, 1e-6, 10.0]),
    "alpha": np.array([1e7, 1 / 50, 1 / 50, 1e7, 1 / 10]),
    "capacity_vph": np.ones(5),
    "beta": np.ones(5),
}


def test_braess_a_new_road_makes_all_slower() -> None:
    """Without the road 83 minutes for all six, with it 92."""
    trips = one_trip(4, 0, 3, 6.0)
    shut = np.array([True, True, True, True, False])
    before = solve(*BRAESS, trips, is_open=shut, **BRAESS_TIMES)
    np.testing.assert_allclose(before.flow_vph, [3, 3, 3, 3, 0], atol=1e-3)
    np.testing.assert_allclose(before.minutes, [30, 53, 53, 30, np.inf], rtol=1e-4)
    after = solve(*BRAESS, trips, **BRAESS_TIMES)
    np.testing.assert_allclose(after.flow_vph, [4, 2, 2, 4, 2], atol=1e-3)
    assert before.minutes[[0, 2]].sum() == pytest.approx(83, abs=1e-2)
    ways = [[0, 2], [1, 3], [0, 4, 3]]
    for way in ways:
        assert after.minutes[way].sum() == pytest.approx(92, abs=1e-2)


@pytest.mark.data
@pytest.mark.parametrize("name", ["SiouxFalls", "Anaheim"])
def test_known_networks_within_one_per_cent(data_dir: Path, name: str) -> None:
    """Flows of the literature, at a gap that our own search for the fastest ways confirms."""
    known = read_known(data_dir / "transport-networks" / name)
    found = solve_equilibrium(known.net, trips=known.trips, gap=1e-4, **known.given)
    assert found.gap <= 1e-4
    own = relative_gap(
        known.net, known.given["junctions"], known.trips, found.flow_vph, found.minutes
    )
    assert own == pytest.approx(found.gap, rel=1e-3)
    assert far_off(found.flow_vph, known.best) < 0.01
    assert not found.unserved.any()
    cost = found.flow_vph @ found.minutes
    load = known.best / known.given["capacity_vph"]
    slower = 1 + known.given["alpha"] * load ** known.given["beta"]
    assert cost == pytest.approx(known.best @ (known.given["free_min"] * slower), rel=1e-3)


@pytest.mark.data
def test_sioux_falls_every_link_within_one_per_cent(data_dir: Path) -> None:
    known = read_known(data_dir / "transport-networks" / "SiouxFalls")
    found = solve_equilibrium(known.net, trips=known.trips, gap=1e-4, **known.given)
    np.testing.assert_allclose(found.flow_vph, known.best, rtol=0.01)


@pytest.mark.data
def test_the_closer_the_gap_the_closer_the_flows(data_dir: Path) -> None:
    """On Anaheim, where many ways are about as fast, single links need a smaller gap."""
    known = read_known(data_dir / "transport-networks" / "Anaheim")
    near, exact = (
        solve_equilibrium(known.net, trips=known.trips, gap=gap, **known.given).flow_vph
        for gap in (1e-4, 1e-8)
    )
    assert far_off(exact, known.best) < 2e-4 < far_off(near, known.best)
    busy = known.best > 0.1 * known.best.max()
    np.testing.assert_allclose(exact[busy], known.best[busy], rtol=0.01)


@pytest.mark.data
def test_zones_must_not_be_driven_through(data_dir: Path) -> None:
    """What leaves a zone of Anaheim are its own trips."""
    known = read_known(data_dir / "transport-networks" / "Anaheim")
    found = solve_equilibrium(known.net, trips=known.trips, **known.given)
    leaves = np.bincount(known.net.source, found.flow_vph, minlength=38)[:38]
    np.testing.assert_allclose(leaves, known.trips.sum(axis=1), rtol=1e-9)


def test_parallel_links_share_by_their_times() -> None:
    """1 + q/1000 and 2 + q/1000 minutes, 3000 vehicles: 2000 and 1000, 3 minutes each."""
    trips = one_trip(2, 0, 1, 3000.0)
    free = np.array([1.0, 2.0])
    found = solve([0, 0], [1, 1], trips, free_min=free, alpha=1 / free, beta=1.0)
    np.testing.assert_allclose(found.flow_vph, [2000, 1000], rtol=1e-4)
    np.testing.assert_allclose(found.minutes, [3, 3], rtol=1e-4)


def test_parallel_links_in_the_middle_of_a_chain() -> None:
    """Contracting chains must not lose one of two links between the same junctions."""
    source, target = [0, 1, 1, 2, 3, 3], [1, 2, 2, 3, 4, 4]
    found = solve(source, target, one_trip(5, 0, 4, 900.0), junctions=range(5))
    np.testing.assert_allclose(found.flow_vph, [900, 450, 450, 900, 450, 450], atol=0.1)


# a river: 0-1-2 on the left, 3-4-5 on the right, bridges 1-4 and 2-5; every road both ways
STREETS = np.array([[0, 1], [1, 2], [3, 4], [4, 5], [1, 4], [2, 5]])
RIVER = (np.r_[STREETS[:, 0], STREETS[:, 1]], np.r_[STREETS[:, 1], STREETS[:, 0]])


def test_a_closed_bridge_is_left_to_the_other() -> None:
    is_open = np.ones(12, dtype=bool)
    is_open[[4, 10]] = False
    found = solve(*RIVER, one_trip(6, 0, 3, 500.0), is_open=is_open)
    np.testing.assert_allclose(found.flow_vph[[0, 1, 5, 9, 8]], 500)
    assert found.flow_vph.sum() == pytest.approx(2500)
    assert np.isinf(found.minutes[[4, 10]]).all()
    assert np.isfinite(found.minutes[is_open]).all()


def test_closed_links_may_hold_anything() -> None:
    """Their capacity is often 0 or missing."""
    is_open = np.arange(12) % 6 != 4
    capacity, free = np.full(12, 1000.0), np.ones(12)
    capacity[4], free[10] = 0.0, np.nan
    found = solve(
        *RIVER, one_trip(6, 0, 3, 1.0), is_open=is_open, capacity_vph=capacity, free_min=free
    )
    assert found.flow_vph[4] == 0
    assert found.flow_vph[5] == pytest.approx(1)


def test_trips_without_a_way_are_told() -> None:
    """Without bridges, those who stay on their side are served; no other trip is lost."""
    is_open = np.ones(12, dtype=bool)
    is_open[[4, 5, 10, 11]] = False
    trips = np.arange(36.0).reshape(6, 6)
    np.fill_diagonal(trips, 0)
    found = solve(*RIVER, trips, is_open=is_open)
    left = np.arange(6) < 3
    across = left[:, None] != left[None, :]
    np.testing.assert_array_equal(found.unserved, np.where(across, trips, 0))
    # into junction 0 only by the street from 1
    assert found.flow_vph[6] == pytest.approx(trips[[1, 2], 0].sum())


def test_nothing_open_serves_nobody() -> None:
    trips = one_trip(6, 0, 3, 500.0)
    found = solve(*RIVER, trips, is_open=False)
    np.testing.assert_array_equal(found.unserved, trips)
    assert found.flow_vph.sum() == 0
    assert found.gap == 0


def test_a_forbidden_turn_is_not_made() -> None:
    """Nor by ending a trip at the junction and beginning another there."""
    #  0 -> 1 -> 2 directly is forbidden; round by 3 is allowed
    source, target = [0, 1, 1, 3], [1, 2, 3, 2]
    trips = one_trip(4, 0, 2, 100.0)
    trips[0, 1], trips[1, 2] = 10.0, 5.0
    found = solve(source, target, trips, banned=np.array([[0], [1]]))
    np.testing.assert_allclose(found.flow_vph, [110, 5, 100, 100], rtol=1e-6)


def test_dead_ends_keep_their_trips() -> None:
    """Links to a zone at the end of a street are not cut off as dead ends."""
    #  a square 0 1 2 3, a dead end 1-4-5 with a zone at 5, one 2-6 without
    streets = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [1, 4], [4, 5], [2, 6]])
    source, target = np.r_[streets[:, 0], streets[:, 1]], np.r_[streets[:, 1], streets[:, 0]]
    trips = np.array([[0.0, 70.0], [30.0, 0.0]])
    found = solve(source, target, trips, junctions=[0, 5])
    np.testing.assert_allclose(found.flow_vph[[0, 4, 5, 7, 11, 12]], [70, 70, 70, 30, 30, 30])
    assert found.flow_vph.sum() == pytest.approx(300)


def test_one_ways_that_meet_at_a_dead_end_are_no_street() -> None:
    """AequilibraE 1.7.2 joins two one-ways into the same dead end, and drives back on one."""
    #  0 -> 3 <- 2 is no way; 0 -> 1 -> 2 is one; nor is 2 <- 4 -> 0
    source, target = [0, 1, 0, 2, 4, 4], [1, 2, 3, 3, 2, 0]
    time = np.array([9.0, 9.0, 1.0, 1.0, 1.0, 1.0])
    found = solve(source, target, [[0, 5], [0, 0]], junctions=[0, 2], free_min=time)
    np.testing.assert_allclose(found.flow_vph, [5, 5, 0, 0, 0, 0])


def test_a_loop_is_never_used() -> None:
    found = solve([0, 0, 1], [1, 0, 0], one_trip(2, 0, 1, 100.0))
    np.testing.assert_allclose(found.flow_vph, [100, 0, 0])
    assert found.minutes[1] == 1


def test_zones_may_share_a_junction() -> None:
    """Trips among them use no link, those from them add up."""
    trips = np.array([[0.0, 50.0, 7.0], [20.0, 0.0, 8.0], [1.0, 2.0, 99.0]])
    found = solve([0, 1], [1, 0], trips, junctions=[0, 0, 1])
    np.testing.assert_allclose(found.flow_vph, [15, 3])
    assert not found.unserved.any()


def test_no_trips_is_free_flow() -> None:
    found = solve(*RIVER, np.zeros((6, 6)))
    assert found.flow_vph.sum() == found.gap == found.n_iterations == 0
    np.testing.assert_array_equal(found.minutes, 1)


def test_links_that_never_slow_down_take_any_beta() -> None:
    found = solve([0], [1], one_trip(2, 0, 1, 9000.0), alpha=0.0, beta=0.5)
    assert found.minutes[0] == 1


def test_links_that_take_no_time() -> None:
    found = solve([0, 1], [1, 2], one_trip(3, 0, 2, 10.0), free_min=np.array([0.0, 2.0]))
    np.testing.assert_allclose(found.flow_vph, 10)
    assert found.minutes[0] == 0
    assert found.gap == 0


def test_a_tiny_capacity_is_avoided() -> None:
    """A street for one vehicle an hour beside a good one."""
    found = solve([0, 0], [1, 1], one_trip(2, 0, 1, 500.0), capacity_vph=np.array([1.0, 1000.0]))
    assert found.gap <= 1e-8
    assert found.minutes[0] == pytest.approx(found.minutes[1], rel=1e-3)
    assert found.flow_vph[0] == pytest.approx(0.5, rel=0.02)  # 0.15 q^4 = 0.15 0.5^4


def test_a_tiny_capacity_that_all_need_is_endured() -> None:
    found = solve([0, 1], [1, 2], one_trip(3, 0, 2, 500.0), capacity_vph=np.array([1.0, 1000.0]))
    np.testing.assert_allclose(found.flow_vph, 500)
    assert found.minutes[0] == pytest.approx(1 + 0.15 * 500**4)


def test_capacities_beyond_all_numbers_are_told() -> None:
    with pytest.raises(InputError, match="least capacity is 1e-90"):
        solve([0], [1], one_trip(2, 0, 1, 500.0), capacity_vph=1e-90)


def random_city(seed: int, n_junctions: int = 25, n_zones: int = 10):
    """Return streets, trips and forbidden turns, with dead ends, one-ways and parallel links."""
    rng = np.random.default_rng(seed)
    side = int(np.sqrt(n_junctions))
    number = np.arange(side * side).reshape(side, side)
    right = np.c_[number[:, :-1].ravel(), number[:, 1:].ravel()]
    down = np.c_[number[:-1].ravel(), number[1:].ravel()]
    streets = np.concatenate([right, down])
    streets = np.concatenate([streets, streets[:, ::-1]])
    streets = streets[rng.random(len(streets)) < 0.85]
    streets = np.concatenate([streets, streets[:4]])
    junctions = np.sort(rng.choice(side * side, n_zones, replace=False))
    trips = rng.uniform(0, 150, (n_zones, n_zones)) * (rng.random((n_zones, n_zones)) < 0.7)
    numbers = {
        "free_min": rng.uniform(0.5, 3, len(streets)),
        "capacity_vph": rng.uniform(300, 1500, len(streets)),
        "alpha": rng.uniform(0.1, 1.0, len(streets)),
        "beta": rng.uniform(1, 5, len(streets)),
        "is_open": rng.random(len(streets)) < 0.95,
    }
    pairs = np.argwhere(streets[:, 1][:, None] == streets[:, 0][None, :])
    banned = pairs[rng.random(len(pairs)) < 0.1].T
    return streets[:, 0], streets[:, 1], trips, junctions, banned, numbers


@pytest.mark.parametrize("seed", range(8))
def test_flow_is_conserved_and_the_gap_is_true(seed: int) -> None:
    """At every junction what comes in and begins goes out or ends; served and unserved is all."""
    source, target, trips, junctions, banned, numbers = random_city(seed)
    found = solve(source, target, trips, junctions=junctions, banned=banned, gap=1e-4, **numbers)
    served = trips - found.unserved
    np.fill_diagonal(served, 0)
    balance = np.bincount(target, found.flow_vph, 25) - np.bincount(source, found.flow_vph, 25)
    balance[junctions] -= served.sum(axis=0) - served.sum(axis=1)
    np.testing.assert_allclose(balance, 0, atol=1e-6)
    assert (found.flow_vph[~numbers["is_open"]] == 0).all()
    assert (found.flow_vph >= 0).all()
    net = expand(source, target, 25, banned)
    own = relative_gap(net, junctions, trips, found.flow_vph, found.minutes)
    assert own == pytest.approx(found.gap, abs=1e-7)
    assert found.gap <= 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_other_numbers_of_junctions_and_segments_change_nothing(seed: int) -> None:
    source, target, trips, junctions, banned, numbers = random_city(seed)
    rng = np.random.default_rng(99)
    rename, order, zones = rng.permutation(25), rng.permutation(len(source)), rng.permutation(10)
    place = np.argsort(order)
    one = solve(source, target, trips, junctions=junctions, banned=banned, gap=1e-6, **numbers)
    two = solve(
        rename[source[order]], rename[target[order]], trips[np.ix_(zones, zones)],
        junctions=rename[junctions[zones]], banned=place[banned], gap=1e-6,
        **{name: x[order] for name, x in numbers.items()},
    )  # fmt: skip
    np.testing.assert_array_equal(two.unserved, one.unserved[np.ix_(zones, zones)])
    assert far_off(two.flow_vph, one.flow_vph[order]) < 2e-3


def test_the_same_again_is_the_same_to_the_bit() -> None:
    """So no edit is no difference; nor do matrices that were solved before matter."""
    source, target, trips, junctions, banned, numbers = random_city(3)
    net = expand(source, target, 25, banned)
    network = Equilibria(net, junctions=junctions, **numbers)
    first = network(trips)
    network(2 * trips)
    again = network(trips)
    fresh = solve_equilibrium(net, junctions=junctions, trips=trips, **numbers)
    for other in (again, fresh):
        np.testing.assert_array_equal(other.flow_vph, first.flow_vph)
        np.testing.assert_array_equal(other.minutes, first.minutes)
        assert other.gap == first.gap


def test_arguments_are_not_changed() -> None:
    source, target, trips, junctions, banned, numbers = random_city(5)
    copies = {name: x.copy() for name, x in numbers.items()}
    before = trips.copy()
    solve(source, target, trips, junctions=junctions, banned=banned, gap=1e-2, **numbers)
    np.testing.assert_array_equal(trips, before)
    for name, x in copies.items():
        np.testing.assert_array_equal(numbers[name], x)


def test_too_few_iterations_return_the_best() -> None:
    """With the gap that these flows have."""
    source, target, trips, junctions, banned, numbers = random_city(0)
    trips = 5 * trips
    given = {"junctions": junctions, "banned": banned, **numbers}
    net = expand(source, target, 25, banned)
    gaps = []
    for most in (1, 2, 10):
        found = solve(source, target, trips, max_iterations=most, **given)
        assert found.n_iterations == most
        own = relative_gap(net, junctions, trips, found.flow_vph, found.minutes)
        assert own == pytest.approx(found.gap, rel=1e-6)
        gaps.append(found.gap)
    assert gaps[0] >= gaps[1] > gaps[2] > 1e-8


def test_neither_a_bar_nor_a_record_nor_a_file(
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """AequilibraE draws bars, crashes if tqdm is switched off, and logs every iteration."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("aequilibrae")
    with caplog.at_level(logging.DEBUG):
        solve(*RIVER, one_trip(6, 0, 3, 500.0), max_iterations=1)
    assert not logger.disabled
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_bars_are_as_before_afterwards() -> None:
    """A user's own work with AequilibraE keeps its bars, also after an error."""
    from aequilibrae.paths.linear_approximation import LinearApproximation

    before = LinearApproximation.signal.deactivate
    solve(*RIVER, one_trip(6, 0, 3, 500.0))
    with pytest.raises(InputError):
        solve([0], [1], one_trip(2, 0, 1, 500.0), capacity_vph=1e-90)
    assert LinearApproximation.signal.deactivate == before


def test_trips_that_aequilibrae_loses_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads swallow their errors, and go on without the trips."""
    from aequilibrae.paths.all_or_nothing import allOrNothing

    work = allOrNothing.func_assig_thread

    def fail_once(self, origin, threads):
        if origin == 1:
            raise RuntimeError("lost")
        work(self, origin, threads)

    monkeypatch.setattr(allOrNothing, "func_assig_thread", fail_once)
    trips = one_trip(6, 0, 3, 500.0) + one_trip(6, 2, 3, 500.0)
    with pytest.raises(STGraphError, match="lost 500 of 1000 trips"):
        solve(*RIVER, trips)


def test_without_aequilibrae_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aequilibrae", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stgraph-gis\[scenario\]'"):
        solve(*RIVER, np.zeros((6, 6)))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"capacity_vph": 0.0}, "`capacity_vph`.*is 0.0 at segment 0.*close a road"),
        ({"capacity_vph": np.nan}, "`capacity_vph`.*is nan"),
        ({"free_min": -1.0}, "`free_min`.*is -1.0.*at least 0"),
        ({"free_min": np.inf}, "`free_min`.*is inf"),
        ({"alpha": -0.1}, "`alpha`.*at least 0"),
        ({"beta": 0.5}, "`beta`.*is 0.5.*at least 1"),
        ({"is_open": 1}, "`is_open` holds int64; give true or false"),
        ({"gap": 0.0}, "`gap` is 0.0; give a share"),
        ({"gap": 1.0}, "`gap` is 1.0"),
        ({"max_iterations": 0}, "`max_iterations` is 0; give at least 1"),
        ({"junctions": [0, 1, 2, 3, 4]}, r"`trips` has the shape \(6, 6\); give \(5, 5\)"),
        ({"junctions": [0, 1, 2, 3, 4, -1]}, "`junctions` holds -1; there are 0..5"),
        ({"junctions": [0.5] * 6}, "holds float64; give one position"),
        ({"trips": np.full((6, 6), -1.0)}, "`trips` is -1.0 from zone 0 to zone 0"),
        ({"trips": np.full((6, 6), np.nan)}, "`trips` is nan"),
    ],
)
def test_bad_input_is_told(wrong, match) -> None:
    given = {"trips": np.zeros((6, 6)), **wrong}
    if given.get("junctions") == [0.5] * 6:
        net = expand(*RIVER, 6, NO_BAN)
        ones = np.ones(12)
        with pytest.raises(InputError, match=match):
            Equilibria(
                net, free_min=ones, capacity_vph=ones, alpha=ones, beta=ones,
                is_open=ones > 0, junctions=np.array([0.5] * 6),
            )  # fmt: skip
        return
    with pytest.raises(InputError, match=match):
        solve(*RIVER, **given)


def test_all_wrong_numbers_are_told_at_once() -> None:
    with pytest.raises(InputError) as error:
        solve(*RIVER, np.zeros((6, 6)), capacity_vph=-1.0, alpha=-1.0, beta=0.0)
    assert all(name in str(error.value) for name in ("capacity_vph", "alpha", "beta"))


def test_wrong_shapes_are_told() -> None:
    net = expand(*RIVER, 6, NO_BAN)
    ones = np.ones(12)
    with pytest.raises(InputError, match=r"`alpha` \(3,\): wrong shape for 12 segments"):
        Equilibria(
            net, free_min=ones, capacity_vph=ones, alpha=np.ones(3), beta=ones,
            is_open=ones > 0, junctions=np.arange(6),
        )  # fmt: skip
