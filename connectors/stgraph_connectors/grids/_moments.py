"""Instants of any calendar, and the fixed steps in UTC that become of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.report import Report

Int64Array = npt.NDArray[np.int64]
CalendarRule = Literal["nearest", "error"]

DAY_US = 86_400_000_000
MONTH_US = 2_629_746_000_000  # 30.436875 days: a twelfth of the mean year of 365.2425 days
_REAL = ("standard", "gregorian", "proleptic_gregorian")
_DAYS_OF_YEAR = {"360_day": 360, "noleap": 365, "365_day": 365, "all_leap": 366, "366_day": 366}
_SAME_DAY = 3.0  # days by which labels of months may lie apart in their month
_MOVED = 0.1  # share of a step by which an instant may be moved without a warning
_LONG, _EMPTY = 50_000, 100  # steps, and steps per instant, above which an axis is a mistake


@dataclass(frozen=True)
class Moments:
    """S instants as year, month, day and time of day in a calendar that may not be the real one."""

    year: Int64Array
    month: Int64Array
    day: Int64Array
    us: Int64Array  # microseconds since midnight
    calendar: str = "standard"

    def __len__(self) -> int:
        """Return the number of instants."""
        return len(self.year)

    @property
    def is_real(self) -> bool:
        """Tell whether the calendar is that of the world."""
        return self.calendar in _REAL

    def take(self, chosen: Any) -> Moments:
        """Return some of the instants."""
        year, month, day, us = self.year, self.month, self.day, self.us
        return Moments(year[chosen], month[chosen], day[chosen], us[chosen], self.calendar)

    def label(self, i: int) -> str:
        """Return an instant as text, as the source has it."""
        seconds = int(self.us[i]) // 1_000_000
        clock = f"T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        date = f"{int(self.year[i]):04d}-{int(self.month[i]):02d}-{int(self.day[i]):02d}"
        return date + (clock if seconds else "")

    def own_us(self) -> Int64Array:
        """Return microseconds on a clock that runs evenly in the calendar."""
        if self.calendar not in _DAYS_OF_YEAR:
            return self.real_us()
        length = _DAYS_OF_YEAR[self.calendar]
        return np.asarray((self.year * length + self._day_of_year()) * DAY_US + self.us)

    def real_us(self) -> Int64Array:
        """Return microseconds since 1970 UTC of the real calendar.

        Years of 360 days are spread over the real year, day by day; other calendars keep the
        date, and a 29 February that never was is 1 March.
        """
        if self.calendar == "360_day":
            first = _days_since_1970(self.year, np.ones_like(self.month), np.ones_like(self.day))
            leap = (self.year % 4 == 0) & ((self.year % 100 != 0) | (self.year % 400 == 0))
            day = np.rint((self._day_of_year() + 0.5) * (365 + leap) / 360 - 0.5).astype(np.int64)
            return np.asarray((first + day) * DAY_US + self.us)
        return np.asarray(_days_since_1970(self.year, self.month, self.day) * DAY_US + self.us)

    def dated_us(self) -> Int64Array:
        """Return microseconds since 1970 UTC with the date kept, 30 February as 2 or 1 March."""
        return np.asarray(_days_since_1970(self.year, self.month, self.day) * DAY_US + self.us)

    def _day_of_year(self) -> Int64Array:
        """Return days since the year's first in a calendar whose years are all alike."""
        if self.calendar == "360_day":
            return np.asarray((self.month - 1) * 30 + self.day - 1)
        february = 29 if _DAYS_OF_YEAR[self.calendar] == 366 else 28
        lengths = np.array([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
        before = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        return np.asarray(before[self.month - 1] + self.day - 1)


def _days_since_1970(year: Int64Array, month: Int64Array, day: Int64Array) -> Int64Array:
    """Return days since 1970-01-01 in the Gregorian calendar, also before it was in use."""
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    return months.astype("datetime64[D]").astype(np.int64) + day - 1


def from_dates(dates: Sequence[Any], calendar: str) -> Moments:
    """Return instants from objects with year, month, day and so on, as cftime makes them."""
    rows = [(d.year, d.month, d.day, d.hour, d.minute, d.second, d.microsecond) for d in dates]
    year, month, day, hour, minute, second, us = np.array(rows, dtype=np.int64).reshape(-1, 7).T
    since_midnight = ((hour * 60 + minute) * 60 + second) * 1_000_000 + us
    return Moments(year, month, day, since_midnight, calendar)


def from_instants(instants: Any) -> Moments:
    """Return instants of the real calendar."""
    index = pd.DatetimeIndex(instants)
    year, month, day = (
        np.asarray(part, dtype=np.int64) for part in (index.year, index.month, index.day)
    )
    return Moments(year, month, day, np.asarray(index.as_unit("us").asi8) % DAY_US)


def join(parts: Sequence[Moments]) -> Moments:
    """Return the instants of several sources one after the other."""
    return Moments(
        np.concatenate([part.year for part in parts]),
        np.concatenate([part.month for part in parts]),
        np.concatenate([part.day for part in parts]),
        np.concatenate([part.us for part in parts]),
        parts[0].calendar,
    )


# ---------------------------------------------------------------- fixed steps


@dataclass(frozen=True)
class Steps:
    """A time axis with a fixed step, and where the instants of the source are on it."""

    time: pd.DatetimeIndex  # (T,) UTC
    position: Int64Array  # (S,) step of every instant, -1 where it is left out
    notes: dict[str, Any]  # for the provenance


def place_steps(
    moments: Moments,
    *,
    step_minutes: float | None,
    calendar: CalendarRule,
    name: str,
    report: Report,
) -> Steps | None:
    """Return the steps of a source, or None when it has no fixed step, as `report` says.

    Parameters
    ----------
    moments
        At least one instant.
    step_minutes
        Length of a step; None finds it out.
    calendar
        What to do about other calendars, months and years: ``"nearest"`` steps, or ``"error"``.
    name
        Of the source, for messages.
    report
        Takes the findings.
    """
    own = moments.own_us()
    if len(moments) == 1:
        time = pd.DatetimeIndex(moments.real_us().view("datetime64[us]"), tz="UTC")
        if step_minutes is not None:
            time = pd.date_range(time[0], periods=1, freq=pd.Timedelta(minutes=step_minutes))
        return Steps(time, np.zeros(1, dtype=np.int64), {})
    late = np.flatnonzero(np.diff(own) <= 0)
    if len(late):
        first = int(late[0])
        what = f"time does not rise: {moments.label(first)} is followed by "
        report.error(name, what + moments.label(first + 1), "sort it and leave repetitions out")
        return None
    given = None if step_minutes is None else round(step_minutes * 60_000_000)
    months = _months(moments, own) if given is None else None
    if months is not None:
        return _nominal(moments, months, calendar, name, report)
    if moments.is_real:
        return _regular(moments, own, own, given, name, report)
    what = f"the calendar of {moments.calendar!r} is not that of the world"
    if calendar == "error":
        todo = "pass calendar='nearest' to put it on real days, or convert the file"
        report.error(name, what, todo)
        return None
    spread = "spread over the real year" if moments.calendar == "360_day" else "kept"
    report.warning(name, what, f"its dates were {spread}; days without a source are missing")
    return _regular(moments, moments.real_us(), own, given, name, report)


def _months(moments: Moments, own: Int64Array) -> int | None:
    """Return how many months a step has, None where instants do not come by the month."""
    month = moments.year * 12 + moments.month
    steps = np.diff(month)
    if (steps < 1).any():
        return None
    even = np.diff(own)
    if moments.is_real and (even == even[0]).all() and even[0] % (7 * DAY_US) == 0:
        return None  # every so many weeks
    day = moments.day + moments.us / DAY_US
    lengths = 30.436875
    apart = np.abs((day - day[0] + lengths / 2) % lengths - lengths / 2)
    return int(np.gcd.reduce(steps)) if apart.max() <= _SAME_DAY else None


def _nominal(
    moments: Moments, months: int, calendar: CalendarRule, name: str, report: Report
) -> Steps | None:
    """Return steps of so many mean months, from the first label on."""
    span = f"{months // 12} year(s)" if months % 12 == 0 else f"{months} month(s)"
    what = f"steps of {span} have no fixed length"
    if calendar == "error":
        todo = f"pass calendar='nearest' for a mean step of {months * MONTH_US / DAY_US:g} days"
        report.error(name, what, todo)
        return None
    month = moments.year * 12 + moments.month
    position = np.asarray((month - month[0]) // months, dtype=np.int64)
    step, dated = months * MONTH_US, moments.dated_us()
    moved = np.abs(dated[0] + position * step - dated).max() / DAY_US
    other = "" if moments.is_real else f" of the calendar {moments.calendar!r}"
    report.warning(
        name,
        f"{what}: {moments.label(0)} .. {moments.label(len(moments) - 1)}{other}",
        f"a step is {step / DAY_US:g} days, the mean; times are up to {moved:.1f} days beside "
        "their labels, which are kept in provenance",
    )
    labels: list[str | None] = [None] * (int(position[-1]) + 1)
    for i, place in enumerate(position.tolist()):
        labels[place] = moments.label(i)
    notes = {"calendar": moments.calendar, "step_months": months, "time_labels": labels}
    return _steps(int(dated[0]), step, position, notes)


def _regular(
    moments: Moments,
    real: Int64Array,
    own: Int64Array,
    given: int | None,
    name: str,
    report: Report,
) -> Steps | None:
    """Return the steps nearest to the instants."""
    differences, counts = np.unique(np.diff(own), return_counts=True)
    usual = int(differences[np.argmax(counts)])
    step = given or usual
    position = np.rint((real - real[0]) / step).astype(np.int64)
    n_steps = int(position.max()) + 1
    if n_steps > _LONG and n_steps > _EMPTY * len(moments):
        what = f"{len(moments):,} instants in {n_steps:,} steps of {step / 60e6:g} minutes"
        report.error(name, what, "say a longer step with step_minutes=")
        return None
    moved = np.abs(real[0] + position * step - real)
    twice = np.diff(position, prepend=-1) == 0
    if twice.any() and moments.is_real:
        first = int(np.argmax(twice))
        what = (
            f"{int(twice.sum())} instants share a step of {step / 60e6:g} minutes, such as "
            f"{moments.label(first - 1)} and {moments.label(first)}"
        )
        todo = "say a shorter step with step_minutes=, or take means of the file first"
        report.error(name, what, todo)
        return None
    position[twice] = -1
    n_empty = n_steps - len(np.unique(position[position >= 0]))
    _note_regular(moments, step, moved, n_empty, int(twice.sum()), name, report)
    notes: dict[str, Any] = {} if moments.is_real else {"calendar": moments.calendar}
    return _steps(int(real[0]), step, position, notes)


def _note_regular(
    moments: Moments,
    step: int,
    moved: Int64Array,
    n_empty: int,
    n_twice: int,
    name: str,
    report: Report,
) -> None:
    """Say what putting instants on steps has done."""
    if moved.max() > step * (_MOVED if moments.is_real else 1.0):
        what = (
            f"instants are up to {moved.max() / 3.6e9:.2g} hours off a step of {step / 3.6e9:g} h"
        )
        report.warning(name, what, "they were moved to the nearest step; see step_minutes=")
    if n_twice:
        what = f"{n_twice} instants fall into the step of an earlier one"
        report.warning(name, what, "they were left out", count=n_twice)
    if n_empty:
        what = f"{n_empty} steps have no source"
        report.info(name, what, "they are missing", count=n_empty)


def _steps(first: int, step: int, position: Int64Array, notes: dict[str, Any]) -> Steps:
    """Return the axis from the first instant on."""
    start = pd.Timestamp(np.datetime64(first, "us")).tz_localize("UTC").as_unit("us")
    length = pd.Timedelta(step, unit="us")
    time = pd.date_range(start, periods=int(position.max()) + 1, freq=length, unit="us")
    return Steps(time, position, {**notes, "step_minutes": step / 60_000_000})
