"""Calendar features and slots follow the local wall clock, also where clocks change."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import InputError, MissingExtraError
from stgraph.preprocessing.calendar import (
    build_calendar,
    is_holiday,
    local_day,
    slots_per_day,
    time_of_day_slot,
    time_of_week_slot,
    weekday_of,
)

HOUR = pd.Timedelta("1h")


def local(*texts: str, zone: str = "Pacific/Auckland") -> pd.DatetimeIndex:
    return pd.DatetimeIndex(texts).tz_localize(zone).tz_convert("UTC")


def test_columns_of_known_instants() -> None:
    """Sunday 06:00 local: a quarter of the day, the last day of the week, a weekend."""
    table, names = build_calendar(local("2024-06-02 06:00"), "Pacific/Auckland")
    row = dict(zip(names, table[0].tolist(), strict=True))
    assert table.dtype == np.float32
    assert row["day_sin_1"] == pytest.approx(1)
    assert row["day_cos_1"] == pytest.approx(0, abs=1e-6)
    assert row["day_sin_2"] == pytest.approx(0, abs=1e-6)
    assert row["day_cos_2"] == pytest.approx(-1)
    assert row["week_sin"] == pytest.approx(np.sin(2 * np.pi * 6.25 / 7))
    assert (row["sunday"], row["saturday"], row["weekend"]) == (1, 0, 1)
    assert "holiday" not in row


def test_holidays_and_the_days_around_them() -> None:
    """Auckland's own anniversary day is a holiday there and not in Wellington."""
    days = local("2024-01-28 12:00", "2024-01-29 00:00", "2024-01-29 23:00", "2024-01-30 08:00")
    table, names = build_calendar(days, "Pacific/Auckland", holidays="NZ-AUK")
    assert names[-3:] == ("holiday", "day_before_holiday", "day_after_holiday")
    assert table[:, -3:].tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]
    elsewhere, _ = build_calendar(days, "Pacific/Auckland", holidays="NZ-WGN")
    assert not elsewhere[:, -3:].any()
    victoria = local("2006-11-07 12:00", "2024-12-31 12:00", zone="Australia/Melbourne")
    # the day before a holiday of the next year is found too
    assert build_calendar(victoria, "Australia/Melbourne", holidays="AU-VIC")[0][1, -2] == 1


def test_works_for_future_instants_and_none() -> None:
    """A forecast ten years ahead has a calendar; no instants give no rows."""
    table, _ = build_calendar(local("2036-12-25 09:00"), "Pacific/Auckland", holidays="NZ")
    assert table[0, -3] == 1
    empty, names = build_calendar(pd.DatetimeIndex([], tz="UTC"), "UTC", holidays="NZ")
    assert empty.shape == (0, len(names))


def test_weekend_of_the_country_or_as_asked() -> None:
    """Friday rests in Saudi Arabia; the caller may say otherwise."""
    friday = pd.DatetimeIndex(["2024-06-07 09:00"])
    at = build_calendar(friday, "Asia/Riyadh")[1].index("weekend")
    assert build_calendar(friday, "Asia/Riyadh")[0][0, at] == 0
    assert build_calendar(friday, "Asia/Riyadh", holidays="SA")[0][0, at] == 1
    assert build_calendar(friday, "Asia/Riyadh", holidays="SA", weekend=(5, 6))[0][0, at] == 0


def test_slots_across_both_clock_changes() -> None:
    """The repeated hour has its slot twice, the skipped one never; midnight stays slot 0."""
    autumn = pd.date_range("2024-04-06 12:00", periods=5, freq="h", tz="UTC")
    assert time_of_day_slot(autumn, "Pacific/Auckland", HOUR).tolist() == [1, 2, 2, 3, 4]
    spring = pd.date_range("2024-09-28 12:00", periods=4, freq="h", tz="UTC")
    assert time_of_day_slot(spring, "Pacific/Auckland", HOUR).tolist() == [0, 1, 3, 4]
    assert set(time_of_week_slot(spring, "Pacific/Auckland", HOUR)) == {144, 145, 147, 148}
    year = pd.date_range("2024-01-01", "2025-01-01", freq="h", tz="UTC")
    _, sizes = np.unique(local_day(year, "Pacific/Auckland"), return_counts=True)
    assert sorted(set(sizes[1:-1].tolist())) == [23, 24, 25]


def test_weekday_and_day_ordinals() -> None:
    """Local days are counted from 1970-01-01, a Thursday."""
    days = local_day(local("1970-01-01 23:00", "1970-01-05 00:00"), "Pacific/Auckland")
    assert days.tolist() == [0, 4]
    assert weekday_of(days).tolist() == [3, 0]
    assert is_holiday(days, "NZ").tolist() == [True, False]


def test_a_step_that_does_not_divide_the_day() -> None:
    """Every day begins with slot 0; the last slot of a day is the shorter one."""
    step = pd.Timedelta("7h")
    assert slots_per_day(step) == 4
    times = pd.DatetimeIndex(["2024-01-01 00:00", "2024-01-01 23:00", "2024-01-02 00:00"])
    assert time_of_day_slot(times, "UTC", step).tolist() == [0, 3, 0]
    assert time_of_week_slot(times, "UTC", step).tolist() == [0, 3, 4]


@given(
    offset=st.integers(0, 10_000),
    zone=st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_slots_agree_with_pandas(offset: int, zone: str) -> None:
    """Slot and weekday are what the wall clock of pandas says, for zones of every kind."""
    time = pd.date_range("2024-01-01", periods=50, freq="15min", tz="UTC") + offset * HOUR
    wall = time.tz_convert(zone)
    slot = (wall.hour * 60 + wall.minute) // 15
    assert time_of_day_slot(time, zone, pd.Timedelta("15min")).tolist() == slot.tolist()
    week = time_of_week_slot(time, zone, pd.Timedelta("15min"))
    assert week.tolist() == (wall.day_of_week * 96 + slot).tolist()


def test_bad_calendar_input() -> None:
    """Unknown names come back with the nearest known one."""
    time = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    with pytest.raises(InputError, match=r"'Pacific/Aukland' .did you mean 'Pacific/Auckland'"):
        build_calendar(time, "Pacific/Aukland")
    for zone in ("", "../etc", "Europe", None):
        with pytest.raises(InputError, match="unknown time zone"):
            local_day(time, zone)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no holidays are known for 'NZ-AKL' .*'NZ-AUK'"):
        build_calendar(time, "UTC", holidays="NZ-AKL")
    with pytest.raises(InputError, match="no holidays are known for ''"):
        build_calendar(time, "UTC", holidays="")
    with pytest.raises(InputError, match=r"`weekend` is .7,."):
        build_calendar(time, "UTC", weekend=(7,))
    with pytest.raises(InputError, match="1 missing instants"):
        build_calendar(pd.DatetimeIndex(["2024-01-01", None]), "UTC")
    with pytest.raises(InputError, match="`time` is a list"):
        local_day([1, 2], "UTC")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`step` is .* must be positive"):
        time_of_day_slot(time, "UTC", pd.Timedelta(0))


def test_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, only holidays are out of reach."""
    time = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    monkeypatch.setitem(sys.modules, "holidays", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stgraph-gis\[holidays\]'"):
        build_calendar(time, "UTC", holidays="NZ")
    assert build_calendar(time, "UTC")[0].shape == (3, 14)
