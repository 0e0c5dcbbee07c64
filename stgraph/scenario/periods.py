"""How long the steps of a horizon are, and the parts of a day that maps and tables are about."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stgraph.graph import BoolArray

# half-open local hours; the day is all of the horizon, nights included
HOURS = {"am": (6, 10), "mid": (10, 15), "pm": (15, 19)}
PERIODS = (*HOURS, "day")
LABELS = {"am": "Morning", "mid": "Midday", "pm": "Afternoon", "day": "Whole time"}


def step_length(time: pd.DatetimeIndex) -> pd.Timedelta:
    """Return the length of a step; an hour if there is only one and nothing says it."""
    if len(time) > 1:
        return time[1] - time[0]
    return pd.Timedelta(hours=1) if time.freq is None else pd.Timedelta(time.freq)  # type: ignore[arg-type]


def step_hours(time: pd.DatetimeIndex) -> float:
    """Return the length of a step in hours, as `step_length` has it."""
    return float(step_length(time) / pd.Timedelta(hours=1))


def steps_of_periods(time: pd.DatetimeIndex, zone: str) -> dict[str, BoolArray]:
    """Tell which steps of a horizon belong to which part of the day.

    Parameters
    ----------
    time
        Beginnings of the T steps, with a zone.
    zone
        IANA name of the zone whose hours count.

    Returns
    -------
    dict
        ``"am"``, ``"mid"`` and ``"pm"``, as far as the horizon has steps in them, and ``"day"``,
        which has all steps; each with T booleans.
    """
    hour = np.asarray(time.tz_convert(zone).hour)
    parts = {name: (hour >= first) & (hour < end) for name, (first, end) in HOURS.items()}
    return {name: steps for name, steps in parts.items() if steps.any()} | {
        "day": np.ones(len(time), dtype=np.bool_)
    }
