"""Profiles: right levels, honest without one's own day, correct across clock changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.errors import InputError
from stgraph.preprocessing import _days
from stgraph.preprocessing.calendar import local_day, time_of_day_slot
from stgraph.preprocessing.profiles import Profile, fit_profile, leave_day_out
from stgraph.preprocessing.splits import split_windows

ZONE = "Pacific/Auckland"
HOUR = pd.Timedelta("1h")


def hours(n_days: float, *, start: str = "2024-01-01") -> pd.DatetimeIndex:
    """Hours from local midnight of a Monday."""
    first = pd.Timestamp(start, tz=ZONE).tz_convert("UTC")
    return pd.date_range(first, periods=int(24 * n_days), freq="h")


def full(values: np.ndarray) -> np.ndarray:
    return np.ones(values.shape, dtype=bool)


def test_medians_written_out() -> None:
    """Three days of two nodes: the median of each hour, at any later instant of that hour."""
    time = hours(3)
    values = np.zeros((72, 2, 1), dtype=np.float32)
    values[8::24, 0, 0] = [1, 2, 9]
    values[9::24, 1, 0] = [4, 6, 5]
    profile = fit_profile(values, full(values), time, ZONE, season="day", smooth=0)
    assert profile.table.shape == (24, 2, 1)
    future = pd.DatetimeIndex(["2030-07-05 08:30", "2030-07-05 09:00"]).tz_localize(ZONE)
    assert profile.at(future)[..., 0].tolist() == [[2, 0], [0, 5]]
    out = leave_day_out(values, full(values), time, ZONE, season="day", smooth=0)
    assert out[8::24, 0, 0].tolist() == [5.5, 5, 1.5]
    assert out[9::24, 1, 0].tolist() == [5.5, 4.5, 5]


def test_week_falls_back_to_kind_of_day_then_day() -> None:
    """Mondays 10, other working days 20, Saturday 30; Sunday was never seen."""
    time = hours(13)
    level = np.array([10, 20, 20, 20, 20, 30, np.nan])
    values = level[local_day(time, ZONE) % 7 - 4].astype(np.float32)  # 2024-01-01 % 7 == 4
    values = values[:, None, None]
    mask = np.isfinite(values)
    profile = fit_profile(values, mask, time, ZONE, season="week", shrinkage=0, smooth=0)
    table = profile.table.reshape(7, 24)
    assert table[:, 12].tolist() == [10, 20, 20, 20, 20, 30, 30]
    shrunk = fit_profile(values, mask, time, ZONE, season="week", shrinkage=2, smooth=0)
    # Monday: two tens and two counts of the kind of day, which is 20 (ten 20s 2 to 2 with 20)
    assert shrunk.table.reshape(7, 24)[0, 12] == 15
    strict = fit_profile(values, mask, time, ZONE, season="week", min_count=3, smooth=0)
    assert strict.table.reshape(7, 24)[0, 12] == strict.table.reshape(7, 24)[1, 12] == 20


def test_nodes_without_values_get_what_is_usual_elsewhere() -> None:
    """A new sensor gets the network's level by time of day, a night gap the node's own median."""
    time = hours(4)
    slot = time_of_day_slot(time, ZONE, HOUR)
    values = np.stack([slot, slot + 2, slot], axis=1)[..., None].astype(np.float32)
    mask = full(values)
    mask[:, 2] = False
    mask[slot < 6, 1] = False
    profile = fit_profile(values, mask, time, ZONE, season="day", smooth=0)
    assert profile.table[7, :, 0].tolist() == [7, 9, 8]
    assert profile.table[3, 1, 0] == np.median(np.arange(6, 24) + 2)
    assert np.isfinite(leave_day_out(values, mask, time, ZONE)).all()


def test_smoothing_stays_within_the_day() -> None:
    """A peak spreads 1:2:1, and midnight does not mix with the other end of the day."""
    values = np.zeros((48, 1, 1), dtype=np.float32)
    values[[12, 36]] = 8
    values[[0, 24]] = 4
    profile = fit_profile(values, full(values), hours(2), ZONE, season="day", smooth=1)
    assert profile.table[[11, 12, 13], 0, 0].tolist() == [2, 4, 2]
    assert profile.table[[0, 1, 23], 0, 0].tolist() == [3, 1, 0]


def test_local_time_keeps_its_level_when_clocks_change() -> None:
    """A daily peak at 08:00 local stays at 08:00 although UTC shifts by an hour."""
    time = hours(40, start="2024-03-18")
    slot = time_of_day_slot(time, ZONE, HOUR)
    values = np.where(slot == 8, 100, 0)[:, None, None].astype(np.float32)
    for season in ("day", "day_type", "week"):
        profile = fit_profile(values, full(values), time, ZONE, season=season, smooth=0)
        np.testing.assert_array_equal(profile.at(time), values)
        out = leave_day_out(values, full(values), time, ZONE, season=season, smooth=0)
        np.testing.assert_array_equal(out, values)


def test_holidays_count_as_the_last_day_of_the_weekend() -> None:
    """Good Friday gets the level of Sunday, and does not spoil that of Fridays."""
    time = hours(28, start="2024-03-11")  # Good Friday is 2024-03-29
    day = local_day(time, ZONE)
    rest = ((day + 3) % 7 >= 5) | np.isin(day, [19811, 19814])  # and Easter Monday
    values = np.where(rest, 1, 9)[:, None, None].astype(np.float32)
    signal = (values, full(values), time, ZONE)
    options = {"season": "week", "shrinkage": 0, "holidays": "NZ-AUK"}
    np.testing.assert_array_equal(fit_profile(*signal, **options).at(time), values)
    np.testing.assert_array_equal(leave_day_out(*signal, **options), values)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    season=st.sampled_from(["day", "day_type", "week"]),
    statistic=st.sampled_from(["median", "mean"]),
    start=st.sampled_from(["2024-01-03", "2024-03-30", "2024-09-24"]),
    smooth=st.integers(0, 2),
    min_count=st.integers(1, 3),
    n_days=st.sampled_from([4.5, 9, 16.2]),
)
def test_left_out_day_is_exactly_the_fit_without_that_day(
    seed: int, season: str, statistic: str, start: str, smooth: int, min_count: int, n_days: float
) -> None:
    """For every day: fitting with that day masked gives what `leave_day_out` says, everywhere.

    With ties, gaps, a node without values, a node seen at night only, and both clock changes.
    """
    rng = np.random.default_rng(seed)
    time = hours(n_days, start=start)
    values = rng.integers(0, 9, (len(time), 4, 2)).astype(np.float32)
    mask = rng.random(values.shape) > 0.3
    mask[:, 2, 1] = False
    mask[:, 1, 0] &= time_of_day_slot(time, ZONE, HOUR) < 4
    options = {
        "season": season,
        "statistic": statistic,
        "smooth": smooth,
        "min_count": min_count,
    }
    out = leave_day_out(values, mask, time, ZONE, **options)
    day = local_day(time, ZONE)
    for one in np.unique(day):
        own = (day == one)[:, None, None]
        profile = fit_profile(values, mask & ~own, time, ZONE, **options)
        np.testing.assert_allclose(out[own[:, 0, 0]], profile.at(time[own[:, 0, 0]]), rtol=1e-5)


def test_small_blocks_and_order_of_nodes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes are independent: any order, any block size, the same levels."""
    time = hours(20)
    values = np.random.default_rng(0).random((480, 5, 2)).astype(np.float32)
    mask = values > 0.1
    before = values.copy()
    whole = fit_profile(values, mask, time, ZONE)
    out = leave_day_out(values, mask, time, ZONE)
    monkeypatch.setattr(_days, "_PIECE_VALUES", 1)
    order = [3, 1, 4, 0, 2]
    small = fit_profile(values[:, order], mask[:, order], time, ZONE)
    np.testing.assert_array_equal(small.table, whole.table[:, order])
    again = leave_day_out(values[:, order], mask[:, order], time, ZONE)
    np.testing.assert_array_equal(again, out[:, order])
    np.testing.assert_array_equal(values, before)


def test_auto_takes_a_day_for_a_week_and_a_week_for_months() -> None:
    """With one week nothing tells weekdays apart; with ten, Mondays that differ do."""
    rng = np.random.default_rng(0)

    def season(n_days: int, weekly: float) -> Profile:
        time = hours(n_days)
        wall = time.tz_convert(ZONE)
        level = 50 + 30 * np.sin(wall.hour / 24 * 2 * np.pi) + weekly * wall.day_of_week
        values = (level.to_numpy()[:, None, None] + rng.normal(0, 3, (len(time), 6, 1))).astype(
            "f4"
        )
        return fit_profile(values, full(values), time, ZONE)

    assert season(7, 0).season == "day"
    assert season(70, 6).season == "week"
    assert season(70, 0).season == "day"
    # one week: Mondays happen once, so nothing can be said about them
    assert season(7, 6).season in ("day", "day_type")


def test_auto_leaves_no_choice_to_the_later_days() -> None:
    """Choosing season and smoothing again for the left-out days gives the same choice."""
    time = hours(30)
    values = np.random.default_rng(3).random((720, 3, 1)).astype(np.float32)
    profile = fit_profile(values, full(values), time, ZONE)
    by_itself = leave_day_out(values, full(values), time, ZONE)
    told = leave_day_out(
        values, full(values), time, ZONE, season=profile.season, smooth=profile.smooth
    )
    np.testing.assert_array_equal(by_itself, told)


def test_one_day_gives_a_profile_but_none_without_it() -> None:
    """A single day can be fitted; leaving it out leaves nothing, and the message says so."""
    values = np.arange(24, dtype=np.float32)[:, None, None]
    profile = fit_profile(values, full(values), hours(1), ZONE)
    assert profile.season == "day"
    np.testing.assert_array_equal(profile.table, values)
    with pytest.raises(InputError, match="at least two local days"):
        leave_day_out(values, full(values), hours(1), ZONE)


def test_steps_of_a_day_and_of_seven_hours() -> None:
    """Daily values have one slot a day; odd steps that clock changes push together still work."""
    time = pd.date_range("2024-01-01", periods=70, freq="D", tz="UTC")
    values = np.random.default_rng(0).random((70, 2, 1)).astype(np.float32)
    assert fit_profile(values, full(values), time, ZONE, season="week").table.shape == (7, 2, 1)
    assert leave_day_out(values, full(values), time, ZONE).shape == values.shape
    time = pd.date_range("2024-03-20", periods=70, freq="7h", tz="UTC")
    assert leave_day_out(values, full(values), time, ZONE, season="week").shape == values.shape


def test_saved_and_restored() -> None:
    """JSON plus one array bring the profile back."""
    values = np.random.default_rng(0).random((480, 2, 1)).astype(np.float32)
    profile = fit_profile(values, full(values), hours(20), ZONE, holidays="NZ-AUK")
    parts = json.loads(json.dumps(profile.to_dict()))
    again = Profile.from_dict(parts, profile.table.copy())
    future = pd.date_range("2031-01-01", periods=200, freq="h", tz="UTC")
    np.testing.assert_array_equal(again.at(future), profile.at(future))
    assert again.to_dict() == profile.to_dict()
    with pytest.raises(InputError, match="a profile has"):
        Profile.from_dict({"season": "day"}, profile.table)
    with pytest.raises(InputError, match=r"needs \(24, N, C\)"):
        Profile.from_dict({**parts, "season": "day"}, profile.table[:3])


def test_bad_profile_input() -> None:
    """Arrays, names and numbers that do not fit are named."""
    values = np.ones((48, 2, 1), dtype=np.float32)
    time = hours(2)
    with pytest.raises(InputError, match=r"\(47,\).* must be \(T, N, C\)"):
        fit_profile(values, full(values), time[1:], ZONE)
    with pytest.raises(InputError, match="the same as bool"):
        leave_day_out(values, full(values).astype(int), time, ZONE)
    with pytest.raises(InputError, match=r"`season` is 'weak' \(did you mean 'week'"):
        fit_profile(values, full(values), time, ZONE, season="weak")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`statistic` is 'meen' \(did you mean 'mean'"):
        fit_profile(values, full(values), time, ZONE, statistic="meen")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`shrinkage` is -1"):
        fit_profile(values, full(values), time, ZONE, shrinkage=-1)
    with pytest.raises(InputError, match="`min_count` is 0"):
        leave_day_out(values, full(values), time, ZONE, min_count=0)
    with pytest.raises(InputError, match="unknown time zone 'Mars'"):
        fit_profile(values, full(values), time, "Mars")
    with pytest.raises(InputError, match=r"channel\(s\) \[0\] of `values` have no observed"):
        fit_profile(values, ~full(values), time, ZONE)
    with pytest.raises(InputError, match="does not rise"):
        fit_profile(values, full(values), time[::-1], ZONE)
    with pytest.raises(InputError, match="fewer than two instants"):
        fit_profile(values[:1], full(values[:1]), pd.DatetimeIndex([time[0]]), ZONE)


def read_series(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, pd.DatetimeIndex]:
    """Return values, mask and the wall clock, taken as UTC: slots need no more."""
    with np.load(folder / name) as file:
        values, stamps = file["values"][..., None], file["timestamps"]
    time = pd.to_datetime(stamps, unit="s", utc=True)
    return values, np.isfinite(values), time


def window_mae(profile: Profile, name: tuple[np.ndarray, np.ndarray, pd.DatetimeIndex]) -> float:
    """Return the mean over 12 -> 12 test windows of the absolute error, last 20 % of windows."""
    values, mask, time = name
    test = split_windows(len(values), window=12, horizon=12).test
    error = np.where(mask, np.abs(profile.at(time) - values), np.nan)
    return float(
        np.mean([np.nanmean(error[test.start + h : test.stop + h]) for h in range(12, 24)])
    )


@pytest.mark.data
def test_reference_error_of_the_day_median(data_dir: Path) -> None:
    """Freeway week: 4.82 mph by time of day alone; the chosen profile is clearly better."""
    series = read_series(data_dir, "metr-la-week/speed.npz")
    values, mask, time = series
    train = split_windows(len(values), window=12, horizon=12).train_steps
    signal = (values[train], mask[train], time[train], "UTC")
    assert window_mae(fit_profile(*signal, season="day"), series) == pytest.approx(4.82, abs=0.03)
    chosen = fit_profile(*signal)
    assert chosen.season == "day_type"
    assert window_mae(chosen, series) < 4.3


@pytest.mark.data
def test_chosen_profile_is_about_the_best_on_the_test(data_dir: Path) -> None:
    """Choosing by left-out training days comes within 2 % of choosing by the test."""
    for name in ("scats-boroondara/volume.npz", "auckland-pedestrians/counts.npz"):
        series = read_series(data_dir, name)
        values, mask, time = series
        train = split_windows(len(values), window=12, horizon=12).train_steps
        signal = (values[train], mask[train], time[train], "UTC")
        chosen = fit_profile(*signal)
        assert chosen.season == "week"
        others = [
            window_mae(fit_profile(*signal, season=season, smooth=smooth), series)
            for season in ("day", "day_type", "week")
            for smooth in (0, 1, 4)
        ]
        assert window_mae(chosen, series) < 1.02 * min(others)
