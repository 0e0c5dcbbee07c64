"""Parts of the day."""

from __future__ import annotations

import pandas as pd

from stgraph.scenario.periods import LABELS, PERIODS, steps_of_periods


def test_hours_are_local() -> None:
    """Protects the morning peak from being the one of Greenwich."""
    time = pd.date_range("2026-06-01 04:00", periods=3, freq="h", tz="UTC")
    steps = steps_of_periods(time, "Europe/Berlin")  # 6, 7, 8 o'clock
    assert steps["am"].tolist() == [True, True, True]
    assert not steps_of_periods(time, "UTC")["am"][:2].any()


def test_parts_without_steps_are_left_out_and_the_day_is_everything() -> None:
    """Protects maps from empty periods."""
    time = pd.date_range("2026-06-01 08:00", periods=4, freq="h", tz="UTC")
    steps = steps_of_periods(time, "UTC")
    assert {name: int(mask.sum()) for name, mask in steps.items()} == {"am": 2, "mid": 2, "day": 4}
    assert set(steps) <= set(PERIODS) == set(LABELS)


def test_ends_are_half_open() -> None:
    """10:00 belongs to midday, 19:00 to no part but the day."""
    time = pd.DatetimeIndex(["2026-06-01 09:55", "2026-06-01 10:00", "2026-06-01 19:00"], tz="UTC")
    steps = steps_of_periods(time, "UTC")
    assert steps["am"].tolist() == [True, False, False]
    assert steps["mid"].tolist() == [False, True, False]
    assert "pm" not in steps
