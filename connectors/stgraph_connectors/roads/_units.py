"""Units of lengths and speeds in road networks, as their files and users write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from stgraph.errors import nearest_name
from stgraph.neighbours._places import Float64Array
from stgraph.report import Report

LengthUnit = Literal["m", "km", "mi", "ft", "yd"]
SpeedUnit = Literal["km/h", "mph", "m/s", "ft/min", "m/min"]

METRES: dict[str, float] = {"m": 1.0, "km": 1000.0, "mi": 1609.344, "ft": 0.3048, "yd": 0.9144}
KMH: dict[str, float] = {
    "km/h": 1.0,
    "mph": 1.609344,
    "m/s": 3.6,
    "ft/min": 0.018288,
    "m/min": 0.06,
}
SECONDS: dict[str, float] = {"s": 1.0, "min": 60.0, "h": 3600.0, "0.01 h": 36.0}
_LENGTH_WORDS = {
    "m": ("m", "meter", "meters", "metre", "metres"),
    "km": ("km", "kilometer", "kilometers", "kilometre", "kilometres"),
    "mi": ("mi", "mile", "miles"),
    "ft": ("ft", "foot", "feet"),
    "yd": ("yd", "yard", "yards"),
}
_SPEED_WORDS = {
    "km/h": ("km/h", "kmh", "kph", "kmph", "km/hr", "kilometers per hour"),
    "mph": ("mph", "mi/h", "mi/hr", "miles/hr", "mile/hour", "miles per hour"),
    "m/s": ("m/s", "mps", "meters per second"),
    "ft/min": ("ft/min", "feet per minute"),
    "m/min": ("m/min", "meters per minute"),
}
_TIME_WORDS = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "min": ("min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "0.01 h": ("0.01 h", "0.01 hr", "0.01 hour", "0.01 hours"),
}
_CLOSE = 0.1  # a unit is guessed where lengths are that near to what the lines measure


def find_length_unit(word: object) -> str | None:
    """Return the unit of lengths that a word means, or None."""
    return _find(word, _LENGTH_WORDS)


def find_speed_unit(word: object) -> str | None:
    """Return the unit of speeds that a word means, or None."""
    return _find(word, _SPEED_WORDS)


def find_time_unit(word: object) -> str | None:
    """Return the unit of times that a word means, or None."""
    return _find(word, _TIME_WORDS)


def _find(word: object, known: Mapping[str, tuple[str, ...]]) -> str | None:
    lower = str(word).strip().lower().replace("metre", "meter")
    return next((unit for unit, words in known.items() if lower in words), None)


def check_unit(name: str, unit: str | None, known: Mapping[str, float], report: Report) -> None:
    """Note a unit that nobody knows."""
    if unit is not None and unit not in known:
        what = f"unknown unit {unit!r}{nearest_name(unit, known)}"
        report.error(f"`{name}`", what, f"use one of {list(known)}")


def guess_length_unit(given: Float64Array, measured_m: Float64Array) -> str | None:
    """Return the unit in which lengths are what the lines measure, or None if there is none."""
    usable = (given > 0) & (measured_m > 0)
    if not usable.any():
        return None
    factor = float(np.median(measured_m[usable] / given[usable]))
    unit = min(METRES, key=lambda unit: abs(np.log(METRES[unit] / factor)))
    return unit if abs(METRES[unit] / factor - 1) <= _CLOSE else None
