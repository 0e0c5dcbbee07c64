"""What the local clock and calendar say about an instant, past or future."""

from __future__ import annotations

from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pandas as pd

from stgraph import _optional
from stgraph.errors import InputError, nearest_name
from stgraph.graph import BoolArray, FloatArray, IntArray

DAYS_A_WEEK = 7
_DAY_US = 86_400_000_000
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def build_calendar(
    time: pd.DatetimeIndex,
    zone: str,
    *,
    holidays: str | None = None,
    weekend: tuple[int, ...] | None = None,
) -> tuple[FloatArray, tuple[str, ...]]:
    """Describe every instant by its place in the local day, week and year of holidays.

    Everything follows the local wall clock, so 08:00 stays 08:00 when clocks change, and
    everything is known for future instants.

    Parameters
    ----------
    time
        (T,) instants; naive ones are taken as UTC. They need no fixed step.
    zone
        IANA name of the local time zone.
    holidays
        Country or country-subdivision code such as ``"NZ-AUK"`` or ``"AU-VIC"`` (needs the extra
        ``holidays``). None leaves the three holiday columns out.
    weekend
        Days of the weekend, Monday = 0. None means those of the country in `holidays`, else
        Saturday and Sunday.

    Returns
    -------
    FloatArray
        (T, K) numbers between -1 and 1: sine and cosine of the time of day (two harmonics) and of
        the time of week, one-hot day of the week, weekend, and with `holidays` the day itself,
        the day before and the day after a holiday.
    tuple[str, ...]
        The K column names.

    Raises
    ------
    InputError
        Unknown zone or holiday code (with the nearest known one), or missing instants.
    MissingExtraError
        `holidays` is given and the package is not installed.
    """
    wall = _wall_clock(time, zone)
    day, moment = np.divmod(wall, _DAY_US)
    weekday = weekday_of(day)
    if holidays is not None:
        holiday_days, rest_days = _holidays(holidays, day)
    else:
        holiday_days, rest_days = np.zeros(0, dtype=np.int64), (5, 6)
    rest_days = check_weekend(rest_days if weekend is None else weekend)

    day_angle = 2 * np.pi * moment / _DAY_US
    week_angle = 2 * np.pi * (weekday + moment / _DAY_US) / DAYS_A_WEEK
    columns: dict[str, object] = {
        "day_sin_1": np.sin(day_angle),
        "day_cos_1": np.cos(day_angle),
        "day_sin_2": np.sin(2 * day_angle),
        "day_cos_2": np.cos(2 * day_angle),
        "week_sin": np.sin(week_angle),
        "week_cos": np.cos(week_angle),
    }
    columns |= {name: weekday == i for i, name in enumerate(_WEEKDAYS)}
    columns["weekend"] = np.isin(weekday, rest_days)
    if holidays is not None:
        columns["holiday"] = np.isin(day, holiday_days)
        columns["day_before_holiday"] = np.isin(day + 1, holiday_days)
        columns["day_after_holiday"] = np.isin(day - 1, holiday_days)
    table = np.stack([np.asarray(column, np.float32) for column in columns.values()], axis=1)
    return table, tuple(columns)


def local_day(time: pd.DatetimeIndex, zone: str) -> IntArray:
    """Return the local calendar day of every instant, as days since 1970-01-01.

    Parameters
    ----------
    time
        (T,) instants; naive ones are taken as UTC.
    zone
        IANA name of the local time zone.

    Returns
    -------
    IntArray
        (T,) ordinals. A day has 23 or 25 hours where clocks change.

    Raises
    ------
    InputError
        Unknown zone or missing instants.
    """
    return _wall_clock(time, zone) // _DAY_US


def time_of_day_slot(time: pd.DatetimeIndex, zone: str, step: pd.Timedelta) -> IntArray:
    """Return which part of the local day every instant falls into.

    Parameters
    ----------
    time
        (T,) instants; naive ones are taken as UTC.
    zone
        IANA name of the local time zone.
    step
        Length of a slot; slot 0 begins at local midnight.

    Returns
    -------
    IntArray
        (T,) slots in 0 .. `slots_per_day` - 1. An hour that clocks repeat has the same slots
        twice, an hour that they skip has none.

    Raises
    ------
    InputError
        Unknown zone, missing instants, or a step that is not positive.
    """
    slot: IntArray = _wall_clock(time, zone) % _DAY_US // _step_us(step)
    return slot


def time_of_week_slot(time: pd.DatetimeIndex, zone: str, step: pd.Timedelta) -> IntArray:
    """Return which part of the local week every instant falls into.

    Parameters
    ----------
    time
        (T,) instants; naive ones are taken as UTC.
    zone
        IANA name of the local time zone.
    step
        Length of a slot; the first slot of every day begins at local midnight, Monday first.

    Returns
    -------
    IntArray
        (T,) slots in 0 .. 7 * `slots_per_day` - 1.

    Raises
    ------
    InputError
        Unknown zone, missing instants, or a step that is not positive.
    """
    day, moment = np.divmod(_wall_clock(time, zone), _DAY_US)
    slot: IntArray = weekday_of(day) * slots_per_day(step) + moment // _step_us(step)
    return slot


def slots_per_day(step: pd.Timedelta) -> int:
    """Return how many slots of a step a day has; the last is shorter if the step is no divisor."""
    return -(-_DAY_US // _step_us(step))


def weekday_of(day: IntArray) -> IntArray:
    """Return the day of the week, Monday = 0, of local days as `local_day` counts them."""
    return (day + _EPOCH_WEEKDAY) % DAYS_A_WEEK


def is_holiday(day: IntArray, code: str) -> BoolArray:
    """Tell which local days, as `local_day` counts them, are holidays somewhere.

    Parameters
    ----------
    day
        Days since 1970-01-01, any shape.
    code
        Country or country-subdivision code such as ``"NZ-AUK"``.

    Returns
    -------
    BoolArray
        True for holidays, in the shape of `day`.

    Raises
    ------
    InputError
        Unknown code, with the nearest known one.
    MissingExtraError
        The package ``holidays`` is not installed.
    """
    return np.isin(day, _holidays(code, day)[0])


def check_weekend(weekend: tuple[int, ...]) -> tuple[int, ...]:
    """Return the weekend in order, or raise InputError if it holds no days of a week."""
    if not all(isinstance(day, (int, np.integer)) and 0 <= day < DAYS_A_WEEK for day in weekend):
        raise InputError(f"`weekend` is {weekend!r}; use days 0 (Monday) to 6 (Sunday)")
    return tuple(sorted({int(day) for day in weekend}))


def _wall_clock(time: pd.DatetimeIndex, zone: str) -> IntArray:
    """Return what the local clock shows, in microseconds since 1970-01-01 00:00 on it."""
    if not isinstance(time, pd.DatetimeIndex):
        raise InputError(f"`time` is a {type(time).__name__}; pass a DatetimeIndex in UTC")
    if time.hasnans:
        raise InputError(f"`time` has {int(np.sum(time.isna()))} missing instants; drop them")
    utc = time.tz_localize("UTC") if time.tz is None else time
    wall = utc.tz_convert(_zone_info(zone)).tz_localize(None).as_unit("us")
    return np.asarray(wall.asi8, dtype=np.int64)


def _zone_info(zone: str) -> ZoneInfo:
    """Return the time zone, or raise InputError with the nearest known name."""
    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, TypeError, OSError) as error:
        hint = nearest_name(zone, available_timezones())
        raise InputError(f"unknown time zone {zone!r}{hint}") from error


def _step_us(step: pd.Timedelta) -> int:
    """Return the length of a step in microseconds."""
    length = int(pd.Timedelta(step) / pd.Timedelta(microseconds=1))
    if length <= 0:
        raise InputError(f"`step` is {step}; it must be positive")
    return length


def _holidays(code: str, day: IntArray) -> tuple[IntArray, tuple[int, ...]]:
    """Return the holidays in and around the years of some days, and the days of the weekend."""
    package = _optional.require("holidays", extra="holidays")
    countries = package.list_supported_countries(include_aliases=True)
    known = [*countries, *(f"{c}-{part}" for c, parts in countries.items() for part in parts)]
    if code not in known:
        raise InputError(
            f"no holidays are known for {code!r}{nearest_name(code, known)}; use a country code "
            "such as 'NZ' or country-subdivision such as 'NZ-AUK'"
        )
    country, _, part = code.partition("-")
    # a day before or after a holiday may be in the year before or after
    around = [day.min() - 1, day.max() + 1] if day.size else [0, -1]
    first, last = np.array(around, "datetime64[D]").astype("datetime64[Y]").astype(int) + 1970
    years = range(int(first), int(last) + 1)
    table = package.country_holidays(country, subdiv=part or None, years=years)
    dates = np.array(sorted(table), dtype="datetime64[D]").astype(np.int64)
    return dates, tuple(sorted(table.weekend))
