"""What is usual in the hours of a past, and what was closed then."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stgraph.scenario.history import build_history, by_kind, is_shut
from stgraph.scenario.traffic import SegmentTraffic

NAN = np.nan


def make_traffic(
    speed: np.ndarray,
    flow: np.ndarray,
    share: np.ndarray | None = None,
    *,
    start: str = "2026-11-23",
    minutes: int = 30,
    zone: str = "UTC",
) -> SegmentTraffic:
    freq = f"{minutes}min"
    time = pd.date_range(start, periods=len(speed), freq=freq, tz=zone).tz_convert("UTC")
    arrays = [np.asarray(part, dtype=np.float64) for part in (speed, flow)]
    return SegmentTraffic(time, zone, arrays[0], arrays[1], share)


def test_speeds_are_those_of_all_vehicles() -> None:
    """60 cars at 60 km/h, 180 at 20: 24 km/h on the way; without flows the harmonic mean, 30."""
    found = build_history(make_traffic([[60.0, 60], [20, 20]], [[60.0, NAN], [180, NAN]]))
    np.testing.assert_allclose(found.speed_kmh, [[24, 30]])
    np.testing.assert_allclose(found.flow_vph, [[120, NAN]])


def test_gaps_do_not_bend_the_mean() -> None:
    """A step with a flow and no speed says nothing about the speed; one with neither nothing."""
    speed = [[60.0, 60, NAN], [NAN, NAN, 0]]
    flow = [[60.0, 60, NAN], [180, NAN, NAN]]
    found = build_history(make_traffic(speed, flow))
    np.testing.assert_allclose(found.speed_kmh, [[60, 60, NAN]])
    np.testing.assert_allclose(found.flow_vph, [[120, 60, NAN]])


def test_empty_streets_have_no_speed() -> None:
    found = build_history(make_traffic([[50.0, NAN], [50, 40]], [[0.0, 0], [0, 40]]))
    np.testing.assert_allclose(found.speed_kmh, [[NAN, 40]])
    np.testing.assert_allclose(found.flow_vph, [[0, 20]])


def test_hours_that_are_covered_in_part_are_left_out() -> None:
    time = pd.date_range("2026-11-23 07:30", periods=4, freq="30min", tz="UTC")
    ones = np.ones((4, 1))
    found = build_history(SegmentTraffic(time, "UTC", 40 * ones, 10 * ones))
    assert list(found.hours.hour) == [8]


def test_kinds_are_local_hours_of_working_days_and_weekends() -> None:
    """Friday 2026-11-27 23:00 UTC is Saturday 0 h in Berlin; half-hour zones have their hours."""
    ones = np.ones((4, 1))
    at = make_traffic(ones, ones, start="2026-11-27 23:00", zone="Europe/Berlin")
    assert build_history(at).kind.tolist() == [23, 24]
    at = make_traffic(ones, ones, start="2026-11-28 00:00", zone="Asia/Kolkata")
    found = build_history(at)
    assert found.kind.tolist() == [24, 25]
    assert found.hours[0] == pd.Timestamp("2026-11-27 18:30", tz="UTC")


def test_days_are_local_and_survive_the_change_of_clocks() -> None:
    """2026-10-25 has 25 hours in Berlin; its two hours 2 are of one kind."""
    ones = np.ones((49, 1))
    found = build_history(
        make_traffic(ones, ones, start="2026-10-25", minutes=60, zone="Europe/Berlin")
    )
    assert np.bincount(found.day).tolist() == [25, 24]
    assert (found.kind[:25] == 26).sum() == 2
    later = build_history(make_traffic(ones, ones, start="2026-11-23 18:00", minutes=60))
    assert np.bincount(later.day).tolist() == [6, 24, 19]


def test_the_usual_is_the_median_and_weekends_stand_in() -> None:
    values = np.array([[10.0, NAN], [20, NAN], [90, 5]])
    usual = by_kind(values, np.array([8, 8, 8]))
    np.testing.assert_array_equal(usual[[8, 32]], [[20, 5]] * 2)
    assert np.isnan(usual[9]).all()


def test_streets_without_anybody_were_closed() -> None:
    """On one of five Mondays nobody drives where 100 usually do; where 10 do, that says nothing."""
    flow = np.tile([100.0, 10.0], (5 * 168, 1))
    flow[8] = 0.0
    flow[9] = NAN
    traffic = make_traffic(np.full(flow.shape, 40.0), flow, minutes=60)
    found = build_history(traffic)
    assert np.argwhere(found.share < 1).tolist() == [[8, 0]]
    assert np.flatnonzero(found.is_disturbed).tolist() == [8]
    assert is_shut(found.share)[8].tolist() == [True, False]


def test_said_closures_count_and_gaps_are_open() -> None:
    """A street that is closed for a quarter of an hour is narrowed, for more than half is shut."""
    share = np.array([[1.0, 0, 0.3, NAN], [1, 1, 0, NAN]])
    ones = np.ones((2, 4))
    found = build_history(make_traffic(ones, ones, share))
    np.testing.assert_allclose(found.share, [[1, 0.5, 0.15, 1]])
    assert is_shut(found.share).tolist() == [[False, False, True, False]]


def test_noise_is_that_of_undisturbed_days() -> None:
    """Normal numbers of sd 2 km/h and 20 veh/h are found again; a week of works does not count."""
    rng = np.random.default_rng(0)
    hours = 24 * 7 * 40
    speed, flow = 40 + 2 * rng.standard_normal((2, hours, 1))
    share = np.ones((hours, 1))
    speed[:168], share[:168] = 5.0, 0.5
    found = build_history(make_traffic(speed, 100 + 10 * (flow - 40), share, minutes=60))
    noise = found.noise()
    assert noise[0].shape == (48, 1)
    np.testing.assert_allclose(noise[0].mean(), 2.0, rtol=0.05)
    np.testing.assert_allclose(noise[1].mean(), 20.0, rtol=0.05)


def test_a_history_that_is_always_disturbed_still_has_noise() -> None:
    rng = np.random.default_rng(0)
    speed = 40 + rng.standard_normal((24 * 14, 1))
    ones = np.ones((24 * 14, 1))
    found = build_history(make_traffic(speed, 100 * ones, 0.5 * ones, minutes=60))
    assert np.isfinite(found.noise()[0]).all()


def test_the_usual_is_that_of_open_streets() -> None:
    """A bridge that is closed on four of five days has the flow of the fifth."""
    flow, share = np.full((5 * 24, 2), 100.0), np.ones((5 * 24, 2))
    flow[24:, 0], share[24:, 0] = 0.0, 0.0
    share[:, 1] = 0.3  # never open: whatever there was
    found = build_history(make_traffic(np.full(flow.shape, 40.0), flow, share, minutes=60))
    np.testing.assert_array_equal(found.usual_flow[:24], 100)
    np.testing.assert_array_equal(found.usual_speed[:24], 40)
