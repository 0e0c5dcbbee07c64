"""Which steps a window covers: half-open, local, widened outwards, right where clocks change."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stgraph.report import Report
from stgraph.scenario.window import Window, window_steps

BERLIN = "Europe/Berlin"


def axis(start: str, n_steps: int, freq: str = "h", zone: str = BERLIN) -> pd.DatetimeIndex:
    """Return a UTC axis that begins at a local time."""
    first = pd.Timestamp(start, tz=zone).tz_convert("UTC")
    return pd.date_range(first, periods=n_steps, freq=freq).as_unit("us")


def window(**fields: Any) -> Window:
    """Return a window; `start` is its `from`."""
    if "start" in fields:
        fields["from"] = fields.pop("start")
    return Window.model_validate(fields)


def covered(
    one: Window | None, time: pd.DatetimeIndex, zone: str | None = BERLIN
) -> tuple[list[str], Report]:
    """Return the local beginnings of the covered steps, and what was noted."""
    report = Report()
    steps = window_steps(one, time, zone, report, "operation 1 (close)")
    assert steps.dtype == bool
    assert steps.shape == time.shape
    local = time[steps].tz_convert(zone or "UTC")
    return [f"{t:%a %H:%M}" for t in local], report


def test_no_window_is_all_the_time() -> None:
    assert covered(None, axis("2026-11-23", 3)) == (
        ["Mon 00:00", "Mon 01:00", "Mon 02:00"],
        Report(),
    )


def test_ends_are_no_part_of_it() -> None:
    """07:00-09:00 on hours is two steps."""
    found = covered(window(daily="07:00-09:00"), axis("2026-11-23", 24))
    assert found == (["Mon 07:00", "Mon 08:00"], Report())
    between = window(start="2026-11-23 07:00", to="2026-11-23T09:00")
    assert covered(between, axis("2026-11-23", 24)) == found


def test_days_of_the_week() -> None:
    """Friday to Monday has three nights between."""
    time = axis("2026-11-23", 8 * 4, "6h")  # from a Monday, eight days
    steps, report = covered(window(daily="06:00-12:00", days="fri-mon"), time)
    assert steps == [f"{day} 06:00" for day in ("Mon", "Fri", "Sat", "Sun", "Mon")]
    assert not len(report)
    whole, _ = covered(window(days=["tue", "Thursday"]), time)
    assert whole == [f"{day} {hour:02}:00" for day in ("Tue", "Thu") for hour in (0, 6, 12, 18)]


def test_nights_belong_to_the_day_on_which_they_begin() -> None:
    """Friday night ends on Saturday, and began before the horizon."""
    night = window(daily="22:00-02:00", days=["fri"])
    steps, _ = covered(night, axis("2026-11-27 21:00", 8))
    assert steps == ["Fri 22:00", "Fri 23:00", "Sat 00:00", "Sat 01:00"]
    steps, _ = covered(night, axis("2026-11-28 00:00", 8))
    assert steps == ["Sat 00:00", "Sat 01:00"]


def test_hours_of_some_dates() -> None:
    """`daily` within `from` and `to` is both."""
    both = window(daily="07:00-08:00", start="2026-11-24", to="2026-11-26")
    steps, report = covered(both, axis("2026-11-23", 24 * 5))
    assert steps == ["Tue 07:00", "Wed 07:00"]
    assert not len(report)


def test_open_ends_reach_to_the_end_of_the_horizon() -> None:
    time = axis("2026-11-23", 4)
    assert covered(window(start="2026-11-23 02:00"), time)[0] == ["Mon 02:00", "Mon 03:00"]
    assert covered(window(to="2026-11-23 01:00"), time)[0] == ["Mon 00:00"]


def test_widened_to_whole_steps() -> None:
    """Half an hour of an hour is that hour, and the user is told."""
    steps, report = covered(window(daily="07:30-08:10"), axis("2026-11-23", 24))
    assert steps == ["Mon 07:00", "Mon 08:00"]
    (finding,) = report.warnings
    assert "07:30-08:10 begins or ends between the steps of 60 minutes" in str(finding)
    assert finding.where == "operation 1 (close) `window`"
    assert not len(covered(window(daily="07:30-08:10"), axis("2026-11-23", 288, "5min"))[1])


def test_instants_with_an_offset_need_no_zone() -> None:
    """An offset says which instant it is."""
    time = axis("2026-11-23 06:00", 3, zone="UTC")
    assert covered(
        window(start="2026-11-23T07:00:00Z", to="2026-11-23T09:00+01:00"), time, None
    ) == (
        ["Mon 07:00"],
        Report(),
    )


def test_spring_forward() -> None:
    """On 29 March 2026 there is no 02:30 in Berlin: the window begins at 03:00."""
    steps, report = covered(window(daily="02:30-04:00"), axis("2026-03-29", 6))
    assert steps == ["Sun 03:00"]
    assert "2026-03-29 02:30 does not exist in Europe/Berlin" in str(report.warnings[0])
    assert covered(window(daily="07:00-08:00"), axis("2026-03-28", 47))[0] == [
        "Sat 07:00",
        "Sun 07:00",
    ]


def test_hours_that_a_day_has_not() -> None:
    """02:10 to 02:50 is nothing on that Sunday, and said to be so."""
    steps, report = covered(window(daily="02:10-02:50"), axis("2026-03-29", 12, "5min"))
    assert steps == []
    assert "covers no step" in str(report.errors[0])
    assert len(report.warnings) in {0, 2}


def test_autumn_back() -> None:
    """On 25 October 2026 02:00-03:00 is twice in Berlin: the window has both."""
    time = axis("2026-10-25", 8)
    steps, report = covered(window(daily="02:00-03:00"), time)
    assert steps == ["Sun 02:00", "Sun 02:00"]
    assert "exists twice in Europe/Berlin" in str(report.warnings[0])
    steps, _ = covered(window(start="2026-10-25 02:30", to="2026-10-25 02:45"), time)
    assert steps == ["Sun 02:00", "Sun 02:00"]
    one = window(start="2026-10-25T02:00+01:00", to="2026-10-25T03:00+01:00")
    assert covered(one, time) == (["Sun 02:00"], Report())
    assert len(covered(window(days="sun"), time)[0]) == 8


def test_a_day_without_midnight() -> None:
    """In Beirut clocks go from 00:00 to 01:00: the day begins an hour later."""
    time = axis("2026-03-28 22:00", 5, zone="Asia/Beirut")
    steps, _ = covered(window(days="sun"), time, "Asia/Beirut")
    assert steps == ["Sun 01:00", "Sun 02:00", "Sun 03:00"]


def test_a_horizon_of_one_step() -> None:
    """Its length is that of its frequency."""
    assert covered(window(daily="07:00-08:00"), axis("2026-11-23 07:00", 1))[0] == ["Mon 07:00"]


@pytest.mark.parametrize("zone", [BERLIN, "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"])
def test_a_window_and_its_opposite_are_everything(zone: str) -> None:
    """Every step of two weeks is in 06:00-18:00 or in 18:00-06:00, none in both."""
    time = axis("2026-10-18", 14 * 24 * 4, "15min", zone)
    report = Report()
    day, night = (
        window_steps(window(daily=hours), time, zone, report, "x")
        for hours in ("06:00-18:00", "18:00-06:00")
    )
    assert np.array_equal(day, ~night)
    assert not len(report)


@pytest.mark.parametrize(
    ("fields", "zone", "message"),
    [
        ({"daily": "07:00-09:00"}, None, "the scenario has no time zone; give one: timezone ="),
        ({"start": "2026-11-23 07:00"}, None, "from 2026-11-23 07:00 is a local time"),
        ({"days": "sat"}, BERLIN, "sat covers no step of the horizon; choose a time from Mon 2026"),
        ({"start": "2027-01-01"}, BERLIN, "covers no step .* to Tue 2026-11-24 00:00 CET"),
        ({"to": "2026-11-23"}, BERLIN, "covers no step"),
        (
            {"start": "2026-11-23 07:00", "to": "2026-11-23T06:00:00Z"},
            BERLIN,
            "ends at 2026-11-23 06:00 UTC, not after its beginning",
        ),
    ],
)
def test_nothing_to_cover(fields: dict[str, str], zone: str | None, message: str) -> None:
    """A window that never holds is an error, once, and not a scenario without effect."""
    steps, report = covered(window(**fields), axis("2026-11-23", 24), zone)
    assert steps == []
    (error,) = report.errors
    assert pd.Series([str(error)]).str.contains(message).all(), error


def test_in_words() -> None:
    """Tables and reports show windows as people write them."""
    assert str(window(daily="7:00-19:00", days="mon-fri")) == "mon-fri 07:00-19:00"
    instant = window(start=dt.datetime(2026, 11, 23, 7), to="2026-11-24T00:00+01:00")  # noqa: DTZ001
    assert str(instant) == "from 2026-11-23 07:00 to 2026-11-24 00:00+0100"
