"""A typical week: which of some periods holds on a weekday and hour."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import ConfigError, nearest_name
from stgraph.graph import IntArray

Floats = npt.NDArray[np.float64]
Days = Literal["each", "kinds", "all"]

_GROUPS: dict[str, list[int]] = {
    "each": [0, 1, 2, 3, 4, 5, 6],
    "kinds": [0, 0, 0, 0, 0, 1, 2],  # Monday to Friday, Saturday, Sunday
    "all": [0, 0, 0, 0, 0, 0, 0],
}
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def week_periods(days: Days = "kinds") -> IntArray:
    """Return a number for each hour of a week, the same for days that count as alike.

    Parameters
    ----------
    days
        ``"each"`` weekday for itself (168 periods), ``"kinds"``: Monday to Friday, Saturday and
        Sunday (72), or ``"all"`` alike (24).

    Returns
    -------
    IntArray
        (7, 24), Monday first.

    Raises
    ------
    ConfigError
        Another word.
    """
    if days not in _GROUPS:
        hint = nearest_name(days, _GROUPS)
        raise ConfigError(f"`days`: unknown value {days!r}{hint}; use one of {get_args(Days)}")
    return np.asarray(_GROUPS[days], dtype=np.int64)[:, None] * 24 + np.arange(24)


def periods_at(time: pd.DatetimeIndex, zone: str, period_of_hour: IntArray) -> IntArray:
    """Return which period holds at instants.

    Parameters
    ----------
    time
        (T,) UTC; naive instants are UTC.
    zone
        IANA name of the local time of `period_of_hour`.
    period_of_hour
        (7, 24), Monday first.

    Returns
    -------
    IntArray
        (T,).
    """
    local = (time if time.tz is not None else time.tz_localize("UTC")).tz_convert(zone)
    found: IntArray = period_of_hour[local.day_of_week.to_numpy(), local.hour.to_numpy()]
    return found


def fill_periods(values: Floats, known: Any, period_of_hour: IntArray) -> tuple[Floats, IntArray]:
    """Fill the periods of which nothing is known from the same hour of other days.

    Parameters
    ----------
    values
        (P, ...) one entry per period.
    known
        (P,) bool.
    period_of_hour
        (7, 24), as `week_periods` makes it: 24 periods per group of days.

    Returns
    -------
    values
        (P, ...); 0 at hours that are known on no day.
    empty
        (K,) hours of the day that are known on no day.
    """
    known = np.asarray(known, dtype=bool)
    hour = np.arange(len(values)) % 24
    group = np.arange(len(values)) // 24
    workday = np.array([bool((period_of_hour[:5] // 24 == g).any()) for g in range(len(values))])
    filled = np.where(known.reshape(-1, *[1] * (values.ndim - 1)), values, 0.0)
    empty = []
    for period in np.flatnonzero(~known):
        alike = known & (hour == hour[period])
        kin = alike & (workday[group] == workday[group[period]])
        use = kin if kin.any() else alike
        if use.any():
            filled[period] = values[use].mean(axis=0)
        elif hour[period] not in empty:
            empty.append(int(hour[period]))
    return filled, np.asarray(sorted(empty), dtype=np.int64)
