"""Numbers as a report shows them: with units, and never more precise than their range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

MISSING = "–"
NOISE = "cannot be told from noise"
_COUNTED = ("trip", "pairs")  # in units that have no parts
_STEPS_IN_RANGE = 4  # a range shows at least so many different numbers


@dataclass(frozen=True)
class Estimate:
    """A quantity with and without a scenario, and what its change may be."""

    base: float
    scenario: float
    change: float
    low: float = math.nan  # NaN: nobody knows the range
    high: float = math.nan
    unit: str = ""

    @classmethod
    def of(cls, row: Any) -> Estimate:
        """Return the estimate in a row of a summary."""
        return cls(
            base=as_float(row["base"]),
            scenario=as_float(row["scenario"]),
            change=as_float(row["change"]),
            low=as_float(row["low"]),
            high=as_float(row["high"]),
            unit=str(row["unit"]),
        )

    @property
    def has_range(self) -> bool:
        """Whether anything is known of how sure the change is."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def is_noise(self) -> bool:
        """Whether no change at all lies within the range."""
        return self.has_range and self.low <= 0 <= self.high and not self.is_nothing

    @property
    def is_nothing(self) -> bool:
        """Whether nothing changes, and that for sure."""
        return self.change == 0 and (not self.has_range or self.low == self.high == 0)

    @property
    def step(self) -> float:
        """What its numbers are rounded to."""
        if self.has_range and self.high > self.low:
            return decade((self.high - self.low) / _STEPS_IN_RANGE)
        if any(word in self.unit for word in _COUNTED):
            return 1.0
        sizes = [abs(v) for v in (self.base, self.scenario, self.change) if math.isfinite(v) and v]
        step = decade(max(sizes, default=1.0) / 100)
        return min(step, decade(abs(self.change))) if self.change else step

    @property
    def percent(self) -> str:
        """The change in per cent of the baseline, rounded as its range; empty where it has none."""
        if not (self.base > 0 and math.isfinite(self.change)):
            return ""
        per_cent = 100 / self.base
        if self.has_range and self.high > self.low:
            step = decade((self.high - self.low) * per_cent / _STEPS_IN_RANGE)
        else:
            step = decade(abs(self.change) * per_cent / 10) if self.change else 1.0
        return f"{signed(self.change * per_cent, max(min(step, 10.0), 0.1))}\u00a0%"

    @property
    def range(self) -> str:
        """The range of the change, or that there is none."""
        if not self.has_range:
            return "not known"
        return f"{signed(self.low, self.step)} to {signed(self.high, self.step)}"

    @property
    def verdict(self) -> str:
        """What may be said about the change, in words."""
        if not math.isfinite(self.change):
            return "not known"
        if self.is_nothing:
            return "no change"
        if self.is_noise:
            return NOISE
        word = "more" if self.change > 0 else "less"
        return word if self.has_range else f"{word}, range not known"


def as_float(value: Any) -> float:
    """Return a number, NaN for anything that is missing."""
    return math.nan if value is None or value is pd.NA else float(value)


def decade(value: float) -> float:
    """Return the largest power of ten that a positive number is not below."""
    if not (value > 0 and math.isfinite(value)):
        return 1.0
    return float(10.0 ** math.floor(math.log10(value * (1 + 1e-9))))


def number(value: float, step: float = 1.0) -> str:
    """Return a number rounded to a power of ten, with a real minus and groups of thousands.

    Nothing at all is 0, however precise its neighbours are.
    """
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    digits = max(0, -round(math.log10(step)))
    rounded = round(value / step) * step
    text = f"{abs(rounded):,.{digits}f}"
    return f"−{text}" if rounded < 0 and text.strip("0.,") else text


def signed(value: float, step: float = 1.0) -> str:
    """Return a number as `number` does, with a plus where it is above nothing."""
    text = number(value, step)
    is_plus = value > 0 and text.strip("0.,") and text != MISSING
    return f"+{text}" if is_plus else text


def plain(value: Any) -> str:
    """Return any value of a card: floats with three digits, lists with commas, yes and no."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        size = float(value)
        return f"{size:.3g}".replace("-", "−") if abs(size) < 1000 else number(size)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(part) for part in value) or "none"
    return MISSING if value is None else str(value)
