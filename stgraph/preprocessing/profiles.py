"""What is usual at a place at a local time of day or week, with and without one's own day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stgraph.errors import InputError
from stgraph.graph import BoolArray, FloatArray, IntArray
from stgraph.preprocessing._days import Statistic, build_day_grid, step_of
from stgraph.preprocessing._seasons import (
    SEASONS,
    Recipe,
    Season,
    SeasonChoice,
    check_name,
    choose_season,
    day_labels,
    estimates_without_day,
    fill_from_network,
    fit_table,
    smoothed,
    weekdays_of,
)
from stgraph.preprocessing.calendar import (
    check_weekend,
    local_day,
    slots_per_day,
    time_of_day_slot,
)


@dataclass(frozen=True, eq=False)
class Profile:
    """The usual level of every node at every local time of day or week, past or future.

    Parameters
    ----------
    table
        (S, N, C) levels in input units, no NaN; S slots as `slots` numbers them.
    season
        ``day``: slots of a day; ``day_type``: those of a working day, then those of a day of the
        weekend; ``week``: those of Monday to Sunday.
    zone
        IANA name of the local time zone.
    step
        Length of a slot.
    weekend
        Days of the weekend, Monday = 0.
    holidays
        Country or country-subdivision code; holidays count as the last day of the weekend.
    smooth
        How often the table was smoothed; a note only.

    Raises
    ------
    InputError
        The table does not have the slots of the season.
    """

    table: FloatArray
    season: Season
    zone: str
    step: pd.Timedelta
    weekend: tuple[int, ...] = (5, 6)
    holidays: str | None = None
    smooth: int = 0

    def __post_init__(self) -> None:
        """Check that the table has one row per slot."""
        check_name("season", self.season, SEASONS)
        labels = day_labels(self.season, check_weekend(self.weekend))
        n_slots = int(labels.max() + 1) * slots_per_day(self.step)
        if self.table.ndim != 3 or len(self.table) != n_slots:
            raise InputError(
                f"`table` has shape {self.table.shape}; season {self.season!r} with step "
                f"{self.step} needs ({n_slots}, N, C)"
            )

    def slots(self, time: pd.DatetimeIndex) -> IntArray:
        """Return the row of `table` for every instant, past or future, (T,)."""
        day = local_day(time, self.zone)
        label = day_labels(self.season, self.weekend)[weekdays_of(day, self.weekend, self.holidays)]
        return label * slots_per_day(self.step) + time_of_day_slot(time, self.zone, self.step)

    def at(self, time: pd.DatetimeIndex) -> FloatArray:
        """Return the usual levels at any instants, past or future, (T, N, C)."""
        return self.table[self.slots(time)]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the table as JSON text and numbers."""
        return {
            "season": self.season,
            "zone": self.zone,
            "step_s": self.step.total_seconds(),
            "weekend": list(self.weekend),
            "holidays": self.holidays,
            "smooth": self.smooth,
        }

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any], table: FloatArray) -> Profile:
        """Return the profile that `to_dict` described, with its table.

        Raises
        ------
        InputError
            Parts are missing or unknown, or do not fit the table.
        """
        names = {"season", "zone", "step_s", "weekend", "holidays", "smooth"}
        if set(parts) != names:
            raise InputError(f"a profile has {sorted(names)}, given: {sorted(parts)}")
        return cls(
            table=np.asarray(table, dtype=np.float32),
            season=parts["season"],
            zone=parts["zone"],
            step=pd.Timedelta(seconds=parts["step_s"]),
            weekend=tuple(parts["weekend"]),
            holidays=parts["holidays"],
            smooth=parts["smooth"],
        )


def fit_profile(
    values: FloatArray,
    mask: BoolArray,
    time: pd.DatetimeIndex,
    zone: str,
    *,
    season: SeasonChoice = "auto",
    statistic: Statistic = "median",
    min_count: int = 1,
    shrinkage: float = 0.5,
    smooth: int | None = None,
    weekend: tuple[int, ...] = (5, 6),
    holidays: str | None = None,
) -> Profile:
    """Fit the usual level of every node at every local time of day or week.

    Parameters
    ----------
    values
        (T, N, C) values of the training steps only; may be a memory map, which is read in pieces.
    mask
        (T, N, C), True = observed; nothing else is looked at.
    time
        (T,) instants in UTC with a fixed step.
    zone
        IANA name of the local time zone; slots follow its wall clock across clock changes.
    season
        ``day``, ``day_type`` (working day or weekend), ``week``, or ``auto``: the one that
        predicts left-out days best. One week of data gives a day, months give a week.
    statistic
        ``median`` or ``mean`` of the observed values in a slot.
    min_count
        Slots of a week or day type with fewer observed values are taken from the coarser season.
    shrinkage
        Observations that the coarser season counts for: a slot with n values is mixed n to
        `shrinkage`. 0 switches it off.
    smooth
        How often each slot is averaged with its neighbours of the same day by 1:2:1. None takes
        what predicts left-out days best: none for a sharp hourly profile of years, more for 5
        minutes of a few days.
    weekend
        Days of the weekend, Monday = 0.
    holidays
        Country or country-subdivision code (extra ``holidays``) whose holidays count as the last
        day of the weekend.

    Returns
    -------
    Profile
        Complete: where a node has no value at a time of day, its own median stands in, and for a
        node without any value the median of all nodes at that time.

    Raises
    ------
    InputError
        Shapes or options that do not fit, or a channel without any observed value.
    """
    recipe = Recipe(statistic, min_count, shrinkage, smooth, weekend, holidays)
    _check_signal(values, mask, time)
    step = step_of(time)
    grid = build_day_grid(time, zone, step)
    chosen, recipe = choose_season(values, mask, grid, recipe, season)
    table = fit_table(values, mask, grid, recipe, chosen)
    table = fill_from_network(table)
    never = np.flatnonzero(np.isnan(table).any(axis=(0, 1)))
    if never.size:
        raise InputError(f"channel(s) {never.tolist()} of `values` have no observed value")
    return Profile(table, chosen, zone, step, recipe.weekend, holidays, recipe.smooth or 0)


def leave_day_out(
    values: FloatArray,
    mask: BoolArray,
    time: pd.DatetimeIndex,
    zone: str,
    *,
    season: SeasonChoice = "auto",
    statistic: Statistic = "median",
    min_count: int = 1,
    shrinkage: float = 0.5,
    smooth: int | None = None,
    weekend: tuple[int, ...] = (5, 6),
    holidays: str | None = None,
) -> FloatArray:
    """Return at every training step the profile fitted without the local day of that step.

    A profile that contains the very value a model is to predict leaks it: the model learns to
    trust the profile more than it deserves later. Give it this in training and `Profile.at`
    afterwards.

    Parameters
    ----------
    values, mask, time, zone
        The training steps, as in `fit_profile`.
    season, statistic, min_count, shrinkage, smooth, weekend, holidays
        As in `fit_profile`; pass ``season=profile.season`` and ``smooth=profile.smooth`` to spare
        a second choice.

    Returns
    -------
    FloatArray
        (T, N, C), at step t exactly what `fit_profile` gives for that instant if all values of
        its local day are masked, at every level it falls back to.

    Raises
    ------
    InputError
        As in `fit_profile`, or fewer than two local days with observed values.
    """
    recipe = Recipe(statistic, min_count, shrinkage, smooth, weekend, holidays)
    _check_signal(values, mask, time)
    grid = build_day_grid(time, zone, step_of(time))
    chosen, recipe = choose_season(values, mask, grid, recipe, season)
    out = np.empty(values.shape, dtype=np.float32)
    for nodes in grid.node_blocks(values):
        x = grid.lay_out(values[:, nodes], mask[:, nodes])
        *_, finest = estimates_without_day(x, grid, recipe, chosen)
        grid.lay_back(smoothed(finest, recipe.smooth), out[:, nodes])
    out = fill_from_network(out)
    if np.isnan(out).any():
        step = int(np.isnan(out).any(axis=(1, 2)).argmax())
        raise InputError(
            f"without the local day of {time[step]} nothing is observed; a profile that leaves "
            "days out needs at least two local days with observed values"
        )
    return out


def _check_signal(values: FloatArray, mask: BoolArray, time: pd.DatetimeIndex) -> None:
    """Raise unless the arrays and the time axis belong together."""
    fits = values.ndim == 3 and mask.shape == values.shape and mask.dtype == bool
    if not fits or len(time) != len(values):
        raise InputError(
            f"`values` {values.shape}, `mask` {mask.shape} ({mask.dtype}) and `time` "
            f"({len(time)},) must be (T, N, C), the same as bool, and (T,)"
        )
