"""When an operation holds: half-open windows of local time, and the steps that they cover."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from stgraph.errors import nearest_name
from stgraph.graph import BoolArray
from stgraph.report import Report
from stgraph.scenario.periods import step_length

_MODEL = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
_DAY = dt.timedelta(days=1)
_DAILY = re.compile(r"(\d{1,2}):(\d\d)\s*[-\u2013]\s*(\d{1,2}):(\d\d)")  # a hyphen or a dash
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMES = (*WEEKDAYS, "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _read_instant(value: Any) -> Any:
    """Return a date and time; refuse seconds since 1970, which nobody means."""
    if isinstance(value, dt.datetime):
        return value
    try:
        return dt.datetime.fromisoformat(value.strip())
    except (AttributeError, ValueError):
        raise ValueError("a date and time, such as 2026-11-23 07:00") from None


Instant = Annotated[dt.datetime, BeforeValidator(_read_instant)]  # local where it has no offset


class Window(BaseModel):
    """From an instant up to another, or the same hours of some days, or both: those days of then.

    Local times are those of the scenario's `timezone`.
    """

    model_config = _MODEL
    from_: Instant | None = Field(default=None, alias="from")
    to: Instant | None = None  # no longer part of it
    daily: str | None = None  # "07:00-19:00"; over midnight: "22:00-05:00"
    days: tuple[str, ...] | None = None  # ("mon-fri", "sun"); None: every day

    @model_validator(mode="before")
    @classmethod
    def _from_hours(cls, value: Any) -> Any:
        """Return the hours of a day, as in ``arrive = "17:30-19:00"``, as a window."""
        return {"daily": value} if isinstance(value, str) else value

    @field_validator("daily")
    @classmethod
    def _is_range(cls, daily: str | None) -> str | None:
        """Return hours as 07:00-19:00."""
        return None if daily is None else "{:02}:{:02}-{:02}:{:02}".format(*_read_hours(daily))

    @field_validator("days", mode="before")
    @classmethod
    def _listed(cls, days: Any) -> Any:
        """Return days as a tuple; ``"mon-fri, sun"`` is two."""
        if isinstance(days, str):
            return tuple(part.strip() for part in days.split(","))
        return tuple(days) if isinstance(days, list) else days

    @field_validator("days")
    @classmethod
    def _are_days(cls, days: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Return days in lower case, checked."""
        if days is None:
            return None
        if not days:
            raise ValueError('at least one day, such as "mon-fri"; without `days` it is every day')
        for text in days:
            _read_days(text)
        return tuple(text.strip().lower() for text in days)

    @model_validator(mode="after")
    def _has_length(self) -> Window:
        """Refuse windows without a limit, and those that end before they begin."""
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError(
                "says no time; give `from` and `to`, `daily` or `days`, or leave the window out"
            )
        start, stop = self.from_, self.to
        comparable = start and stop and (start.tzinfo is None) == (stop.tzinfo is None)
        if comparable and start >= stop:  # type: ignore[operator]
            raise ValueError(
                f"ends at {stop}, not after its beginning at {start}; give a later `to`"
            )
        return self

    @property
    def is_local(self) -> bool:
        """Whether it means something only with a time zone."""
        naive = any(t is not None and t.tzinfo is None for t in (self.from_, self.to))
        return naive or self.daily is not None or self.days is not None

    @property
    def hours(self) -> tuple[dt.timedelta, dt.timedelta]:
        """Beginning and end after local midnight; an end on the next day is above 24 hours."""
        if self.daily is None:
            return dt.timedelta(0), _DAY
        first_hour, first_minute, last_hour, last_minute = _read_hours(self.daily)
        start = dt.timedelta(hours=first_hour, minutes=first_minute)
        stop = dt.timedelta(hours=last_hour, minutes=last_minute)
        return start, stop if stop > start else stop + _DAY

    @property
    def weekdays(self) -> frozenset[int]:
        """Days on which it begins, 0 is Monday."""
        if self.days is None:
            return frozenset(range(7))
        return frozenset(day for text in self.days for day in _read_days(text))

    def __str__(self) -> str:
        """Return the window in words, for tables and reports."""
        parts = [
            ", ".join(self.days or ()),
            self.daily or "",
            "" if self.from_ is None else f"from {self.from_:%Y-%m-%d %H:%M}{_offset(self.from_)}",
            "" if self.to is None else f"to {self.to:%Y-%m-%d %H:%M}{_offset(self.to)}",
        ]
        return " ".join(part for part in parts if part)


class _Axis(NamedTuple):
    """The steps of a horizon, and the zone of local times."""

    starts: pd.DatetimeIndex  # (T,) UTC
    step: pd.Timedelta
    zone: str | None

    @property
    def end(self) -> pd.Timestamp:
        """End of the last step."""
        return self.starts[-1] + self.step


class _Span(NamedTuple):
    """A part of a window: [start, stop)."""

    start: pd.Timestamp  # UTC
    stop: pd.Timestamp


def window_steps(
    window: Window | None,
    time: pd.DatetimeIndex,
    zone: str | None,
    report: Report,
    where: str,
) -> BoolArray:
    """Return which steps of a time axis a window covers.

    Parameters
    ----------
    window
        None covers everything.
    time
        (T,) beginnings of steps, UTC, evenly spaced. A single one needs its `freq`.
    zone
        IANA name for local times. None is enough for windows whose times all have an offset.
    report
        Gets an error where the window covers nothing or its zone is missing, and a warning where it
        had to be widened to whole steps or where clocks change.
    where
        What the window belongs to, for messages: ``"operation 2 (close)"``.

    Returns
    -------
    numpy.ndarray
        (T,) bool. A step is covered if any part of it lies in the window.
    """
    if window is None:
        return np.ones(len(time), dtype=bool)
    place = f"{where} `window`"
    covered = np.zeros(len(time), dtype=bool)
    if window.is_local and zone is None:
        what = f"{window} is a local time, and the scenario has no time zone"
        report.error(place, what, 'give one: timezone = "Europe/Berlin"')
        return covered
    axis = _Axis(time, step_length(time), zone)
    between, n_found = 0, len(report.errors)
    for span in _spans(window, axis, report, place):
        start = int(time.searchsorted(span.start, side="right")) - 1
        stop = int(time.searchsorted(span.stop, side="left"))
        if span.stop <= time[0] or span.start >= axis.end:
            continue
        covered[max(start, 0) : stop] = True
        inside = [t for t in span if time[0] < t < axis.end]
        between += sum((t - time[0]) % axis.step != pd.Timedelta(0) for t in inside)
    if between:
        minutes = axis.step.total_seconds() / 60
        what = f"{window} begins or ends between the steps of {minutes:g} minutes"
        report.warning(place, what, "it was widened outwards to whole steps", count=between)
    if not covered.any() and len(report.errors) == n_found:
        first, last = (t.tz_convert(zone or "UTC") for t in (time[0], axis.end))
        what = f"{window} covers no step of the horizon"
        todo = f"choose a time from {first:%a %Y-%m-%d %H:%M} to {last:%a %Y-%m-%d %H:%M %Z}"
        report.error(place, what, todo)
    return covered


def to_utc(
    instant: dt.datetime, zone: str | None, *, is_end: bool, report: Report, where: str
) -> pd.Timestamp:
    """Return an instant as UTC, also where clocks repeat or skip it.

    A time that exists twice is the earlier one where a window begins and the later one where it
    ends; one that does not exist is the moment when the clocks go forward. Both are noted.
    """
    stamp = pd.Timestamp(instant)
    if stamp.tzinfo is not None:
        return stamp.tz_convert("UTC")
    shown = f"{stamp:%Y-%m-%d %H:%M}"
    both = [
        stamp.tz_localize(zone, ambiguous=summer, nonexistent="shift_forward")
        for summer in (True, False)
    ]
    local = max(both) if is_end else min(both)
    if local.tz_localize(None) != stamp:
        todo = f"taken as {local:%H:%M}, when they have gone forward"
        report.warning(where, f"{shown} does not exist in {zone}, where clocks change", todo)
    elif both[0] != both[1]:
        todo = f"taken as the {'later' if is_end else 'earlier'} one; an offset such as +01:00 says"
        report.warning(where, f"{shown} exists twice in {zone}, where clocks change", todo)
    return local.tz_convert("UTC")


def _spans(window: Window, axis: _Axis, report: Report, where: str) -> Iterator[_Span]:
    """Yield the parts of a window that may touch the steps of an axis."""
    start, stop = axis.starts[0], axis.end
    if window.from_ is not None:
        start = to_utc(window.from_, axis.zone, is_end=False, report=report, where=where)
    if window.to is not None:
        stop = to_utc(window.to, axis.zone, is_end=True, report=report, where=where)
    if start >= stop and window.from_ is not None and window.to is not None:
        what = f"ends at {stop:%Y-%m-%d %H:%M %Z}, not after its beginning at {start:%H:%M %Z}"
        report.error(where, what, "give a later `to`")
        return
    if window.daily is None and window.days is None:
        yield _Span(start, stop)
        return
    for span in _daily_spans(window, axis, report, where):
        cut = _Span(max(span.start, start), min(span.stop, stop))
        if cut.start < cut.stop:
            yield cut


def _daily_spans(window: Window, axis: _Axis, report: Report, where: str) -> Iterator[_Span]:
    """Yield the hours of every day that a window has and that an axis may reach."""
    (first, last), weekdays = window.hours, window.weekdays
    day = axis.starts[0].tz_convert(axis.zone).date() - _DAY  # its night may reach into ours
    end = axis.end.tz_convert(axis.zone).date()
    while day <= end:
        midnight = dt.datetime.combine(day, dt.time())
        day += _DAY
        if midnight.weekday() not in weekdays:
            continue
        notes = Report()
        start = to_utc(midnight + first, axis.zone, is_end=False, report=notes, where=where)
        stop = to_utc(midnight + last, axis.zone, is_end=True, report=notes, where=where)
        if start < axis.end and stop > axis.starts[0]:
            report.extend(notes)
            if start < stop:
                yield _Span(start, stop)


def _read_hours(text: str) -> tuple[int, int, int, int]:
    """Return hour and minute of the beginning and of the end of a range of hours."""
    match = _DAILY.fullmatch(text.strip())
    if match is None:
        raise ValueError('hours such as "07:00-19:00"')
    first_hour, first_minute, last_hour, last_minute = map(int, match.groups())
    start, stop = first_hour * 60 + first_minute, last_hour * 60 + last_minute
    if max(first_minute, last_minute) > 59 or start >= 24 * 60 or stop > 24 * 60:
        raise ValueError('hours from 00:00 to 24:00, such as "07:00-19:00"')
    if start == stop:
        raise ValueError("two different times; without `daily` it is all day")
    return first_hour, first_minute, last_hour, last_minute


def _read_days(text: str) -> list[int]:
    """Return the days of ``"sat"``, ``"mon-fri"`` or ``"fri-mon"``, 0 is Monday."""
    ends = [part.strip() for part in re.split(r"[-\u2013]", text.lower())]
    for name in ends:
        if name not in _NAMES:
            hint = nearest_name(name, _NAMES, n=3)
            raise ValueError(f'days such as "mon-fri" or "sun": there is no {name!r}{hint}')
    if len(ends) > 2:
        raise ValueError('days such as "mon-fri" or "sun"')
    first, last = (_NAMES.index(name) % 7 for name in (ends[0], ends[-1]))
    week = list(itertools.islice(itertools.cycle(range(7)), first, first + 7))
    return week[: (last - first) % 7 + 1]


def _offset(instant: dt.datetime) -> str:
    """Return the offset of an instant from UTC, if it has one."""
    return "" if instant.tzinfo is None else f"{instant:%z}"
