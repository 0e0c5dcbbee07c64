"""Numbers and their words in reports."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.scenario._numbers import NOISE, Estimate, decade, number, plain, signed


def test_numbers_are_as_coarse_as_their_range() -> None:
    """Nobody reads 1,243.7 vehicle hours where the range is 900 to 1,600."""
    estimate = Estimate(19_683.2, 20_926.9, 1_243.7, 903.0, 1_611.0, "veh-h")
    assert estimate.step == 100
    assert number(estimate.change, estimate.step) == "1,200"
    assert estimate.range == "+900 to +1,600"
    assert estimate.percent == "+6.3\u00a0%"
    assert estimate.verdict == "more"


def test_noise_is_said_in_words() -> None:
    """A range across nothing is no effect."""
    assert Estimate(100, 101, 1, -2, 4).verdict == NOISE
    assert Estimate(100, 99, -1, -2, -0.5).verdict == "less"
    assert Estimate(100, 100, 0, 0, 0).verdict == "no change"
    assert Estimate(100, 101, 1).verdict == "more, range not known"
    assert Estimate(math.nan, math.nan, math.nan).verdict == "not known"


def test_numbers_without_range_have_three_digits_but_show_the_change() -> None:
    """A small change of a large number does not vanish."""
    assert Estimate(12_345.0, 12_348.0, 3.0).step == 1
    assert Estimate(0.0, 35.0, 35.0).percent == ""
    assert Estimate(0.123456, 0.123456, 0.0).step == 0.001


def test_signs() -> None:
    """Minus signs are no hyphens, and nothing has no sign."""
    assert signed(-3.26, 0.1) == "−3.3"
    assert signed(0.02, 0.1) == "0.0"
    assert signed(-0.02, 0.1) == "0.0"
    assert signed(math.nan) == "–"
    assert number(1_234_567.0) == "1,234,567"
    assert number(0.0, 0.00001) == signed(0.0, 0.00001) == "0"


def test_values_of_cards() -> None:
    """What a card holds is readable, whatever it is."""
    assert plain(0.7123) == "0.712"
    assert plain(12_345.6) == "12,346"
    assert plain(True) == "yes"
    assert plain([1, "a", None]) == "1, a, –"
    assert plain([]) == "none"


@settings(deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9), st.floats(0, 1e9))
def test_rounding_never_exceeds_a_quarter_of_the_range(
    change: float, width: float, base: float
) -> None:
    """Property: the step is at most a quarter of the range, and the shown number within it."""
    estimate = Estimate(base, base + change, change, change - width / 2, change + width / 2)
    real = estimate.high - estimate.low
    if real <= 0:
        return
    assert estimate.step <= real / 4 * (1 + 1e-6)
    shown = float(number(change, estimate.step).replace(",", "").replace("−", "-"))
    assert shown == pytest.approx(change, abs=estimate.step * 0.51, rel=1e-9)


@settings(deadline=None)
@given(st.floats(1e-9, 1e12))
def test_decades(value: float) -> None:
    """Property: a decade is the power of ten at or below."""
    assert decade(value) <= value * (1 + 1e-8) < 10 * decade(value) * (1 + 1e-7)
