"""A network of speeds: what it is shown, that it learns, and when it is believed."""

from __future__ import annotations

import dataclasses
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scenario_town import make_demand, make_forecast, make_time, make_town

from stgraph.graph import Feature, STGraph
from stgraph.report import Report
from stgraph.scenario.fitting import City, fit_city
from stgraph.scenario.history import History, build_history
from stgraph.scenario.learned import FEWEST_HOURS, _skill
from stgraph.scenario.result import SOURCES, STATUS
from stgraph.scenario.running import may_learn, run
from stgraph.scenario.script import Scenario
from stgraph.scenario.slowing import Hours, by_curve, by_network, is_alike, open_share
from stgraph.scenario.speed_network import SpeedNetwork, fit_speed_network, street_facts
from stgraph.scenario.states import RoadState
from stgraph.scenario.streets import Streets, read_streets
from stgraph.scenario.traffic import read_traffic
from stgraph.scenario.vdf import fit_vdf

WORKS = Scenario("works", timezone="UTC").close(name="Mid Road", daily="07:00-10:00")
WAVE = 0.5 + 0.5 * np.sin((np.arange(24) - 9) / 24 * 2 * np.pi) ** 2


def made_past(n_days: int = 27, *, last: int = 27) -> STGraph:
    """Return hours in which Mid Road (20, 21) is shut every third day, and South Street (10) slows.

    While it is shut, the speed of segment 10 is 20 and not 40 km/h, which no curve can tell.
    """
    time = pd.date_range("2026-11-02", periods=24 * n_days, freq="h", tz="UTC")
    past = make_forecast(time=time)
    rng = np.random.default_rng(0)
    ids = [int(one) for one in past.node_ids]
    mid, south = [ids.index(20), ids.index(21)], ids.index(10)
    flow = 150 * WAVE[time.hour][:, None] * rng.uniform(0.9, 1.1, (len(time), 13))
    speed = 40 + rng.normal(0, 0.5, flow.shape)
    share = np.ones_like(flow)
    day, hour = np.arange(len(time)) // 24, np.asarray(time.hour)
    held = (day < last) & (day % 3 == 0) & (hour >= 7) & (hour < 14)
    speed[held, south] -= 20
    share[np.ix_(held, mid)] = flow[np.ix_(held, mid)] = 0.0
    speed[np.ix_(held, mid)] = np.nan
    values = np.stack([speed, flow, 100 * share], axis=-1).astype(np.float32)
    features = (
        Feature("speed", "km/h"), Feature("flow", "veh/h"),
        Feature("capacity_factor", "%", "observed"),
    )  # fmt: skip
    return past.replace(values=values, features=features, mask=np.isfinite(values))


@pytest.fixture(scope="module")
def city() -> City:
    return fit_city(make_town(), history=made_past(), demand=make_demand(40.0))


@pytest.fixture(scope="module")
def streets() -> Streets:
    found = read_streets(make_town(), Report())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def history(streets: Streets) -> History:
    traffic = read_traffic(made_past(), streets.segment_id, Report(), where="the history")
    assert traffic is not None
    return build_history(traffic)


@pytest.fixture(scope="module")
def network(city: City) -> SpeedNetwork:
    assert city.learned is not None
    return city.learned.network


def go(scenario: Scenario, city: City, **options: Any) -> Any:
    forecast = make_forecast(100.0, time=make_time(24))
    return run(scenario, make_town(), forecast, demand=make_demand(40.0), city=city, **options)


# ---------------------------------------------------------------- the network


def test_it_is_shown_what_is_open(streets: Streets, history: History) -> None:
    """Load on what is open, part that is open, closed; the rest does not change."""
    facts = street_facts(streets, history)
    flow = np.full((2, 13), 100.0)
    share = np.ones((2, 13))
    share[1] = 0.5
    share[1, 0] = 0.0
    x = facts.inputs(flow, flow, share).numpy()
    capacity = streets.values.capacity_vph
    np.testing.assert_allclose(x[0, :, 0], 100 / capacity, rtol=1e-5)
    np.testing.assert_allclose(x[1, 1:, 0], 200 / capacity[1:], rtol=1e-5)
    np.testing.assert_array_equal(x[1, :, 6], share[1])
    np.testing.assert_array_equal(x[1, :, 7], [1] + [0] * 12)
    np.testing.assert_array_equal(x[0, :, 8:], x[1, :, 8:])
    assert np.isfinite(x).all()


def test_free_speeds_are_those_of_calm_hours(streets: Streets, history: History) -> None:
    """Of streets with hardly any traffic their usual speed; of the others 95 % of the limit."""
    facts = street_facts(streets, history)
    calm = (history.flow_vph < 0.15 * streets.values.capacity_vph).sum(axis=0) >= 5
    assert calm.any()
    np.testing.assert_allclose(facts.free_kmh[calm], 40, atol=1)
    np.testing.assert_allclose(facts.free_kmh[~calm], 0.95 * streets.speed_kmh[~calm])


def test_it_learns_what_curves_cannot_tell(network: SpeedNetwork, streets: Streets) -> None:
    """South Street is slow where Mid Road is shut, at the same flow."""
    flow = np.full((2, 13), 120.0)
    share = np.ones((2, 13))
    ids = streets.segment_id.tolist()
    mid = [ids.index(20), ids.index(21)]
    share[1, mid] = 0.0
    flow[1, mid] = 0.0
    free, shut = np.mean(network.speeds(flow, flow, share), axis=0)
    assert free[0] - shut[0] > 10
    others = [i for i in range(13) if i not in (0, *mid)]
    assert np.abs(free - shut)[others].max() < 6


def test_the_same_seeds_give_the_same_network(streets: Streets, history: History) -> None:
    """And nothing else's chance is touched."""
    facts, every = street_facts(streets, history), np.ones(len(history.hours), dtype=bool)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    told: list[int] = []
    options: dict[str, Any] = {"seeds": (1,), "n_epochs": 2}
    one = fit_speed_network(facts, history, every, on_epoch=lambda: told.append(1), **options)
    two = fit_speed_network(facts, history, every, **options)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(told) == 2
    flow = np.full((1, 13), 80.0)
    share = np.ones((1, 13))
    np.testing.assert_array_equal(one.speeds(flow, flow, share), two.speeds(flow, flow, share))
    other = fit_speed_network(facts, history, every, seeds=(2,), n_epochs=2)
    assert not np.array_equal(one.speeds(flow, flow, share), other.speeds(flow, flow, share))


def test_it_goes_to_other_processes_and_back(city: City) -> None:
    """A city with a network and all that belongs to it, as sweeps send it."""
    there = ForkingPickler.loads(bytes(ForkingPickler.dumps(city)))
    assert there.learned is not None
    assert city.learned is not None
    flow, share = np.full((1, 13), 80.0), np.ones((1, 13))
    for one, other in zip(
        city.learned.network.speeds(flow, flow, share),
        there.learned.network.speeds(flow, flow, share),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- how much slower


def make_hours(
    streets: Streets, base: np.ndarray, scn: np.ndarray, state: RoadState | None = None
) -> Hours:
    values = streets.values
    usual = RoadState(
        np.ones(13, dtype=bool), values.speed_kmh, values.lanes, values.capacity_vph,
        np.zeros((2, 0), dtype=np.int64),
    )  # fmt: skip
    return Hours(base, scn, base, scn, [usual if state is None else state] * len(base), usual)


def test_curves_slow_by_flow_and_limit(streets: Streets) -> None:
    """BPR: from 0 to the capacity 1.15 times as long; half the limit twice; slopes stretch."""
    vdf = fit_vdf(streets, None, Report())
    full = streets.values.capacity_vph[None].astype(float)
    hours = make_hours(streets, np.zeros((1, 13)), full)
    np.testing.assert_allclose(by_curve(vdf, hours), 1.15)
    np.testing.assert_allclose(by_curve(vdf, hours, slope=2.0), 1.30)
    back = make_hours(streets, full, np.zeros((1, 13)))
    np.testing.assert_allclose(by_curve(vdf, back, slope=2.0), 1 / 1.15)
    half = dataclasses.replace(hours.baseline, speed_kmh=streets.speed_kmh / 2)
    slow = make_hours(streets, np.zeros((1, 13)), np.zeros((1, 13)), half)
    np.testing.assert_allclose(by_curve(vdf, slow), 2.0, rtol=1e-6)
    np.testing.assert_allclose(by_curve(vdf, slow, slope=2.0), 2.0, rtol=1e-6)
    jam = make_hours(streets, np.zeros((1, 13)), 100 * full)
    np.testing.assert_allclose(by_curve(vdf, jam), 60.0)


def test_a_lower_limit_slows_nobody_in_a_jam(streets: Streets) -> None:
    """At 2.5 times the capacity it takes 6.86 times as long; half the limit changes nothing."""
    vdf = fit_vdf(streets, None, Report())
    load = 2.5 * streets.values.capacity_vph[None].astype(float)
    hours = make_hours(streets, load, load)
    half = dataclasses.replace(hours.baseline, speed_kmh=streets.speed_kmh / 2)
    np.testing.assert_allclose(by_curve(vdf, make_hours(streets, load, load, half)), 1.0)
    # a limit twice as high saves half of the empty street's time and nothing of the delay
    high = dataclasses.replace(hours.baseline, speed_kmh=streets.speed_kmh * 2)
    found = by_curve(vdf, make_hours(streets, load, load, high))
    times = 1 + 0.15 * 2.5**4
    np.testing.assert_allclose(found, (times - 0.5) / times, rtol=1e-6)


def test_no_change_is_none_for_a_network_either(network: SpeedNetwork, streets: Streets) -> None:
    """Also where more drive than there is room for."""
    vdf = fit_vdf(streets, None, Report())
    flow = np.stack([np.full(13, 50.0), 1.5 * streets.values.capacity_vph])
    np.testing.assert_array_equal(by_network(network, vdf, make_hours(streets, flow, flow)), 1.0)


def test_above_the_capacity_the_curve_counts(network: SpeedNetwork, streets: Streets) -> None:
    """The network is not asked about flows that nobody has counted."""
    vdf = fit_vdf(streets, None, Report())
    room = streets.values.capacity_vph[None].astype(float)
    some = np.full((1, 13), 50.0)
    full, over = (
        by_network(network, vdf, make_hours(streets, some, part * room)) for part in (1.0, 1.5)
    )
    assert (over > full).all()
    usual = np.array(network.speeds(some, some, np.ones((1, 13))))
    length = 0.06 * streets.length_m
    more = vdf.minutes(1.5 * room, make_hours(streets, some, some).baseline) - vdf.minutes(
        room, make_hours(streets, some, some).baseline
    )
    np.testing.assert_allclose(over - full, np.mean(more / (length / usual), axis=0), rtol=1e-6)
    one = by_network(network, vdf, make_hours(streets, some, room), member=0)
    two = by_network(network, vdf, make_hours(streets, some, room), member=1)
    np.testing.assert_allclose((one + two) / 2, full)


def test_what_a_network_knows(streets: Streets) -> None:
    base = make_hours(streets, np.zeros((1, 13)), np.zeros((1, 13))).baseline
    is_open, room, speed = base.is_open.copy(), base.capacity_vph.copy(), base.speed_kmh.copy()
    is_open[0], speed[3] = False, 20.0
    room[1] /= 2
    room[2] *= 2
    state = dataclasses.replace(base, is_open=is_open, capacity_vph=room, speed_kmh=speed)
    assert is_alike(state, base)[:5].tolist() == [True, True, False, False, True]
    assert is_alike(base, state)[0] == np.False_
    np.testing.assert_allclose(open_share(state, base)[:5], [0, 0.5, 1, 1, 1])


# ---------------------------------------------------------------- learning from closures


def test_a_network_is_learned_and_tells_its_skill(city: City) -> None:
    learned = city.learned
    assert learned is not None
    assert (learned.n_hours, learned.n_days) == (63, 9)
    assert learned.has_closures
    assert not learned.has_narrowings
    assert learned.is_better
    assert learned.skill > 0.3
    assert learned.skill > learned.skill_of_curves + 0.2
    assert 1.0 <= learned.slope <= 2.0
    assert "63 hours with closures of 9 days" in str(learned)
    assert city.card()["learned"] == str(learned)


def test_too_few_closures_teach_nothing() -> None:
    past = made_past(last=19)  # 7 of 27 days
    city = fit_city(make_town(), history=past, demand=make_demand(40.0))
    assert city.learned is None
    found = [one for one in city.report.findings if one.where == "learned"]
    assert found[0].level == "info"
    assert found[0].what.startswith("49 hours of the history")
    assert f"from {FEWEST_HOURS} and more" in found[0].todo
    with pytest.raises(Exception, match="nothing was learned"):
        go(WORKS.extend("a", method="learned"), city)


def test_not_learning_is_possible(city: City) -> None:
    quick = fit_city(make_town(), history=made_past(), demand=make_demand(40.0), learn=False)
    assert quick.learned is None
    assert quick.drivers == city.drivers


def test_auto_takes_the_better_one(city: City) -> None:
    """The learned one where it was better; then South Street is slow though its flow is not."""
    found = go(WORKS, city)
    assert found.method == "learned"
    ids = found.roads.edges["segment_id"].tolist()
    change = (found.links.speed_scn - found.links.speed_base)[:, ids.index(10)]
    assert change[8] < -5
    np.testing.assert_array_equal(change[10:], 0)
    assert (found.links.source[8] == SOURCES.index("learned")).all()
    assert city.learned is not None
    worse = dataclasses.replace(city.learned, skill=city.learned.skill_of_curves)
    found = go(WORKS, dataclasses.replace(city, learned=worse))
    assert found.method == "assignment"
    assert "was no better than the assignment" in str(found.report)
    found = go(WORKS.extend("a", method="learned"), dataclasses.replace(city, learned=worse))
    assert found.method == "learned"
    assert any("used all the same" in one.todo for one in found.report.warnings)


@pytest.mark.parametrize(
    ("scenario", "what"),
    [
        (Scenario("a").set_speed(name="Mid Road", direction="both", kmh=30), "set_speed"),
        (WORKS.scale_demand(factor=1.2), "scale_demand"),
        (Scenario("a").set_capacity(edges=[20], direction="forward", factor=0.5), "narrowed"),
    ],
)
def test_the_unseen_falls_back(scenario: Scenario, what: str, city: City) -> None:
    """With a warning if a network was asked for, else a note."""
    for method in ("learned", "auto"):
        found = go(scenario.extend("a", method=method), city)
        assert found.method == "assignment"
        (told,) = [one for one in found.report.findings if one.where == "method learned"]
        assert what in told.what
        assert told.level == ("warning" if method == "learned" else "info")


LINE = "LINESTRING (10.0015 50.0, 10.0015 50.003)"


def test_what_is_known_is_learned_and_the_rest_is_not(city: City) -> None:
    """Mid Road is shut from 7 to 10; half of South Street (12) has 20 km/h from 6 to 12."""
    limit: Any = {"edges": [12], "direction": "forward", "kmh": 20, "daily": "06:00-12:00"}
    both = go(WORKS.extend("both").set_speed(**limit), city)
    assert both.method == "learned"
    source = both.links.source
    ids = both.roads.edges["segment_id"].tolist()
    at, others = ids.index(12), np.delete(np.arange(13), ids.index(12))
    # of the same hour by segment
    assert (source[7:10, at] == SOURCES.index("assignment")).all()
    assert (source[7:10][:, others] == SOURCES.index("learned")).all()
    change = both.links.speed_scn - both.links.speed_base
    assert change[8, ids.index(10)] < -5  # what no curve can tell
    np.testing.assert_allclose(both.links.speed_scn[8, at], 16, rtol=0.05)  # 40 x 20/50
    # hours with the limit alone are those of the limit alone
    alone = go(Scenario("limit", timezone="UTC").set_speed(**limit), city)
    assert alone.method == "assignment"
    held = np.r_[6, 10, 11]
    assert (source[held] == SOURCES.index("assignment")).all()
    np.testing.assert_array_equal(both.links.speed_scn[held], alone.links.speed_scn[held])
    assert (source[12:] == SOURCES.index("forecast")).all()
    # and it is told
    (told,) = [one for one in both.report.findings if one.where == "method learned"]
    assert told.level == "info"
    assert told.what == "a network learns nothing about set_speed"
    shares = both.card["which part rests on what"]
    assert list(shares) == ["assignment", "learned"]
    assert shares["learned"] in told.todo
    assert "which part rests on what" not in alone.card
    asked = go(WORKS.extend("both", method="learned").set_speed(**limit), city)
    (told,) = [one for one in asked.report.findings if one.where == "method learned"]
    assert told.level == "warning"


def test_hours_with_other_trips_rest_on_the_assignment(city: City) -> None:
    """Half as many trips more from 8 to 9, while Mid Road is shut from 7 to 10."""
    found = go(WORKS.scale_demand(factor=1.5, daily="08:00-09:00"), city)
    assert found.method == "learned"
    names = [SOURCES[one] for one in found.links.source[6:11, 0]]
    assert names == ["forecast", "learned", "assignment", "learned", "forecast"]
    shut = go(WORKS, city)
    np.testing.assert_array_equal(found.links.speed_scn[7], shut.links.speed_scn[7])


def test_new_roads_rest_on_the_assignment(city: City) -> None:
    """A road that splits two streets, and a closure; a split street is one to the network."""
    built = go(WORKS.extend("b").add_road(id="N", geometry=LINE, kmh=5), city)
    assert built.method == "learned"
    links, ids = built.links, built.roads.edges["segment_id"].to_numpy()
    learned = links.source == SOURCES.index("learned")
    assert not learned[:, ids < 0].any()
    split = (links.status == STATUS.index("removed")).all(axis=0)
    assert split.sum() == 4
    assert not learned[:, split].any()
    assert learned[7:10][:, (ids >= 0) & ~split].all()
    assert not learned[np.r_[0:7, 10:24]].any()
    # nobody takes the new road: others are as slow as without it
    shut = go(WORKS, city)
    there = ~split[:13] & np.isfinite(shut.links.speed_scn[8])
    np.testing.assert_allclose(
        links.speed_scn[8, :13][there], shut.links.speed_scn[8][there], rtol=0.02
    )
    alone = go(Scenario("n").add_road(id="N", geometry=LINE, kmh=50), city)
    assert alone.method == "assignment"


def test_a_removed_road_is_a_closed_one(city: City) -> None:
    """The same streets are left, so the same is said of them."""
    removed = go(Scenario("a").remove_road(name="Mid Road"), city)
    closed = go(Scenario("a").close(name="Mid Road"), city)
    assert removed.method == closed.method == "learned"
    np.testing.assert_array_equal(removed.links.speed_scn, closed.links.speed_scn)


def test_a_narrowing_is_not_shown_to_whom_never_saw_one(city: City) -> None:
    """Half of South Street narrowed beside the closure: nothing else differs by it."""
    narrow = WORKS.extend("b").set_capacity(edges=[12], direction="forward", factor=0.9)
    found, shut = go(narrow, city), go(WORKS, city)
    assert found.method == "learned"
    ids = found.roads.edges["segment_id"].tolist()
    at = ids.index(12)
    assert SOURCES[found.links.source[8, at]] == "assignment"
    others = np.delete(np.arange(13), at)
    np.testing.assert_allclose(
        found.links.speed_scn[8][others], shut.links.speed_scn[8][others], rtol=0.02
    )
    assert (found.links.source[12] == SOURCES.index("assignment")).all()


@pytest.mark.parametrize(
    ("scenario", "wanted"),
    [
        (WORKS, True),
        (WORKS.set_speed(edges=[12], direction="forward", kmh=30), True),
        (WORKS.scale_demand(factor=2), True),
        (Scenario("a").remove_road(edges=[20]), True),
        (Scenario("a").set_speed(edges=[12], direction="forward", kmh=30), False),
        (Scenario("a").add_road(id="N", geometry=LINE, kmh=50), False),
        (Scenario("a").scale_demand(factor=2), False),
        (Scenario("a").ban_turn(from_={"edges": [10]}, to={"edges": [20]}), False),
        (Scenario("a"), False),
        (WORKS.extend("a", method="assignment"), False),
        (Scenario("a", method="learned").scale_demand(factor=2), True),
    ],
)
def test_a_network_is_worth_its_time_where_something_is_closed(
    scenario: Scenario, wanted: bool
) -> None:
    assert may_learn(scenario) == wanted


def test_more_than_ever_is_warned_of(city: City) -> None:
    """No segment ever had more than 165 cars an hour; an event of 3000 brings more."""
    found = go(WORKS, city)
    assert not [one for one in found.report.warnings if one.where == "extrapolation"]
    crowd = WORKS.add_demand(at={"zone": "A"}, trips=3000, arrive={"daily": "12:00-13:00"})
    found = go(crowd, city)
    (told,) = [one for one in found.report.warnings if one.where == "extrapolation"]
    most = np.nanmax(city.history.flow_vph, axis=0)
    beyond = (found.links.flow_scn > 1.1 * most) & found.links.significant
    beyond &= found.links.flow_scn > found.links.flow_base
    assert told.count == beyond.any(axis=0).sum() > 0
    assert f"{told.count} segments carry more than they ever did" in told.what
    times = np.where(beyond, found.links.flow_scn / most, 0).max()
    assert f"up to {times:.1f} times as much" in told.what


def test_no_edit_is_no_difference_exactly(city: City) -> None:
    found = go(Scenario("none"), city)
    np.testing.assert_array_equal(found.links.speed_base, found.links.speed_scn)
    np.testing.assert_array_equal(found.links.flow_base, found.links.flow_scn)
    assert (found.summary["change"] == 0).all()


def test_a_past_that_never_differs_has_a_skill_all_the_same(history: History) -> None:
    """No deviation at all: nothing to explain, and no division by it."""
    still = dataclasses.replace(
        history,
        speed_kmh=np.where(np.isfinite(history.speed_kmh), 40.0, np.nan),
        usual_speed=np.full((48, 13), 40.0),
    )
    rows = np.arange(8, 14)
    assert _skill(still, rows, np.ones((6, 13))) == 0.0


def test_what_is_learned_goes_on_top_of_other_weather(city: City) -> None:
    """Rain of which a model made 36 of 40 km/h: the network slows that, and so it is told."""
    dry = make_forecast(100.0, time=make_time(24))
    values = dry.values.copy()
    values[10:, :, 0] = 36.0
    wet = dry.replace(values=values)
    close = Scenario("c", method="learned", timezone="UTC").close(
        name="Mid Road", daily="08:00-14:00"
    )
    both = close.set_weather(feature="rain", value=5, daily="10:00-24:00")
    alone = go(close, city).links
    found = go(both, city, with_weather=wet)
    links = found.links
    assert found.method == "learned"
    assert "learns nothing" not in str(found.report)
    np.testing.assert_array_equal(links.source, alone.source)
    np.testing.assert_array_equal(links.speed_base, alone.speed_base)
    np.testing.assert_array_equal(links.speed_scn[:10], alone.speed_scn[:10])
    np.testing.assert_allclose(links.speed_scn[10:], alone.speed_scn[10:] * 0.9, rtol=1e-5)
    np.testing.assert_array_equal(links.flow_scn, alone.flow_scn)
    assert (links.source[16:] == SOURCES.index("forecast")).all()
