"""The usual level by time of day, kind of day and day of the week, from coarse to fine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from stgraph.errors import InputError, nearest_name
from stgraph.graph import BoolArray, FloatArray, IntArray
from stgraph.preprocessing._days import DayGrid, Statistic, center, center_without
from stgraph.preprocessing.calendar import DAYS_A_WEEK, check_weekend, is_holiday, weekday_of

Season = Literal[
    "day", "day_type", "week"
]  # from coarse to fine; each falls back to the one before
SeasonChoice = Literal["day", "day_type", "week", "auto"]
SEASONS: tuple[Season, ...] = get_args(Season)

_SMOOTHINGS = (0, 1, 2, 4, 8, 16)  # tried when `smooth` is None
_CHOICE_VALUES = 1_500_000  # values that are looked at to choose season and smoothing


@dataclass(frozen=True)
class Recipe:
    """How a profile is fitted; every option is checked once, here."""

    statistic: Statistic = "median"
    min_count: int = 1
    shrinkage: float = 0.5
    smooth: int | None = None
    weekend: tuple[int, ...] = (5, 6)
    holidays: str | None = None

    def __post_init__(self) -> None:
        """Check every option."""
        check_name("statistic", self.statistic, get_args(Statistic))
        for name, least in (("min_count", 1), ("shrinkage", 0), ("smooth", 0)):
            option = getattr(self, name)
            if not (option is None or option >= least):
                raise InputError(f"`{name}` is {option!r}; at least {least} expected")
        object.__setattr__(self, "weekend", check_weekend(self.weekend))

    def weekdays(self, grid: DayGrid) -> IntArray:
        """Return the day of the week that every row of a grid counts as."""
        return weekdays_of(grid.days, self.weekend, self.holidays)


def fit_table(
    values: FloatArray,
    mask: BoolArray,
    grid: DayGrid,
    recipe: Recipe,
    season: Season,
    *,
    complete: bool = True,
) -> FloatArray:
    """Return the (S, N, C) table of a profile, NaN for nodes without any observed value.

    With `complete` False it is NaN too where a node has no value at that time of any day.
    """
    n_labels = int(day_labels(season, recipe.weekend).max()) + 1
    n_slots = grid.steps.shape[1]
    table = np.empty((n_labels * n_slots, *values.shape[1:]), dtype=np.float32)
    for nodes in grid.node_blocks(values):
        x = grid.lay_out(values[:, nodes], mask[:, nodes])
        block = _fit_block(x, recipe.weekdays(grid), recipe, season, complete=complete)  # (K, S, M)
        table[:, nodes] = block.reshape(table[:, nodes].shape)
    return table


def _fit_block(
    x: FloatArray, weekday: IntArray, recipe: Recipe, season: Season, *, complete: bool
) -> FloatArray:
    """Return the (K, S, M) levels of (M, S, R) values, from the coarsest season to the wanted."""
    daily, _ = center(x, recipe.statistic)
    levels = daily[None]
    if complete:
        own = center(daily, recipe.statistic)[0][:, None]
        levels = np.where(np.isnan(daily), own, daily)[None]
    for coarse, fine in _steps_to(season):
        parents = levels
        levels = np.empty((0, *daily.shape), dtype=np.float32)
        for parent, in_label in _groups(coarse, fine, recipe.weekend):
            rows = np.isin(weekday, in_label)
            usual, count = center(x[..., rows], recipe.statistic)
            mixed = _mix(usual, count, parents[parent], recipe)
            levels = np.concatenate([levels, mixed[None]])
    return smoothed(levels.transpose(0, 2, 1), recipe.smooth)


def estimates_without_day(
    x: FloatArray, grid: DayGrid, recipe: Recipe, season: Season
) -> Iterator[FloatArray]:
    """Yield (M, S, R) levels without the day of each row, from the day to the wanted season."""
    weekday, days, repeated = recipe.weekdays(grid), grid.days, grid.repeated
    levels, _ = center_without(x, days, repeated, recipe.statistic)
    gappy = np.isnan(levels).any(axis=(1, 2))
    if gappy.any():
        own = center(levels[gappy].transpose(0, 2, 1), recipe.statistic)[0][:, None]
        levels[gappy] = np.where(np.isnan(levels[gappy]), own, levels[gappy])
    yield levels
    for coarse, fine in _steps_to(season):
        finer = np.empty_like(levels)
        for _, in_label in _groups(coarse, fine, recipe.weekend):
            rows = np.isin(weekday, in_label)
            usual, count = center_without(
                x[..., rows], days[rows], repeated[rows], recipe.statistic
            )
            finer[..., rows] = _mix(usual, count, levels[..., rows], recipe)
        levels = finer
        yield levels


def choose_season(
    values: FloatArray, mask: BoolArray, grid: DayGrid, recipe: Recipe, season: SeasonChoice
) -> tuple[Season, Recipe]:
    """Return season and smoothing as asked, or those that predict left-out days best."""
    check_name("season", season, (*SEASONS, "auto"))
    if season != "auto" and recipe.smooth is not None:
        return season, recipe
    weekday = recipe.weekdays(grid)[np.unique(grid.days, return_index=True)[1]]
    usable = tuple(name for name in SEASONS if _is_repeated(name, weekday, recipe.weekend))
    seasons = usable if season == "auto" else (season,)
    smoothings = _SMOOTHINGS if recipe.smooth is None else (recipe.smooth,)
    errors = _errors_without_day(values, mask, grid, recipe, smoothings)
    tried = errors[[SEASONS.index(name) for name in seasons]]
    # the first of equals is the simplest
    best = np.unravel_index(int(tried.argmin()), tried.shape)
    return seasons[best[0]], replace(recipe, smooth=smoothings[best[1]])


def _is_repeated(season: Season, weekday: IntArray, weekend: tuple[int, ...]) -> bool:
    """Tell whether every kind of day of a season occurs twice, so that one can be left out."""
    counts = np.bincount(day_labels(season, weekend)[weekday])
    return season == "day" or bool((counts[counts > 0] > 1).all())


def _errors_without_day(
    values: FloatArray,
    mask: BoolArray,
    grid: DayGrid,
    recipe: Recipe,
    smoothings: tuple[int, ...],
) -> npt.NDArray[np.float64]:
    """Return the (seasons, smoothings) errors of profiles on left-out days, for some nodes.

    The absolute errors are in parts of those of the first season, averaged over the channels.
    """
    n_nodes, n_channels = values.shape[1:]
    n_seen = max(1, min(n_nodes, _CHOICE_VALUES // max(1, len(values) * n_channels)))
    nodes = np.unique(np.linspace(0, n_nodes - 1, n_seen).astype(np.int64))
    values, mask = values[:, nodes], mask[:, nodes]
    total = np.zeros((len(SEASONS), len(smoothings), n_channels))
    for block in grid.node_blocks(values):
        x = grid.lay_out(values[:, block], mask[:, block])
        for i, levels in enumerate(estimates_without_day(x, grid, recipe, SEASONS[-1])):
            done = 0
            for j, times in enumerate(smoothings):
                levels, done = smoothed(levels, times - done), times
                error = np.nansum(np.abs(levels - x), axis=(1, 2), dtype=np.float64)
                total[i, j] += error.reshape(-1, n_channels).sum(axis=0)
    scale = np.where(total[0, 0] > 0, total[0, 0], 1)
    relative: npt.NDArray[np.float64] = (total / scale).mean(axis=-1)
    return relative


def _mix(usual: FloatArray, count: IntArray, coarse: FloatArray, recipe: Recipe) -> FloatArray:
    """Return the usual level of a season, mixed with the coarser one where it rests on little."""
    share = count / np.float32(recipe.shrinkage + count.clip(1))
    mixed = share * usual + (1 - share) * coarse
    return np.where(count >= recipe.min_count, mixed, coarse).astype(np.float32)


def smoothed(levels: FloatArray, times: int | None) -> FloatArray:
    """Average (M, S, R) levels with the slots beside by 1:2:1; the ends count as their own."""
    for _ in range(times or 0):
        after = levels.copy()
        after[:, 1:] += levels[:, :-1]
        after[:, :1] += levels[:, :1]
        after[:, :-1] += levels[:, 1:]
        after[:, -1:] += levels[:, -1:]
        after += levels
        after *= np.float32(0.25)
        levels = after
    return levels


def fill_from_network(levels: FloatArray) -> FloatArray:
    """Fill what no node's own values gave, (..., N, C), by the median of all nodes."""
    gappy = np.isnan(levels).any(axis=(1, 2))
    if gappy.any():
        part = levels[gappy]
        others, _ = center(part.transpose(0, 2, 1), "median")
        levels = levels.copy()
        levels[gappy] = np.where(np.isnan(part), others[:, None], part)
    return levels


def _steps_to(season: Season) -> Iterator[tuple[Season, Season]]:
    """Yield pairs of a season and the next finer one, up to the wanted season."""
    for fine in range(1, SEASONS.index(season) + 1):
        yield SEASONS[fine - 1], SEASONS[fine]


def day_labels(season: Season, weekend: tuple[int, ...]) -> IntArray:
    """Return for Monday to Sunday which of the season's days it is."""
    days = np.arange(DAYS_A_WEEK)
    if season == "day":
        return np.zeros_like(days)
    return np.isin(days, weekend).astype(np.int64) if season == "day_type" else days


def _groups(
    coarse: Season, fine: Season, weekend: tuple[int, ...]
) -> Iterator[tuple[int, IntArray]]:
    """Yield for each label of a season the coarser season's label and its days of the week."""
    labels, parents = day_labels(fine, weekend), day_labels(coarse, weekend)
    for label in range(labels.max() + 1):
        in_label = np.flatnonzero(labels == label)
        yield int(parents[in_label[0]]) if in_label.size else 0, in_label


def weekdays_of(day: IntArray, weekend: tuple[int, ...], holidays: str | None) -> IntArray:
    """Return the day of the week that local days count as, holidays as the last rest day."""
    weekday = weekday_of(day)
    if holidays is None or not weekend:
        return weekday
    return np.where(is_holiday(day, holidays), weekend[-1], weekday)


def check_name(what: str, name: object, known: tuple[str, ...]) -> None:
    """Raise unless a name is one of the known ones."""
    if name not in known:
        raise InputError(f"`{what}` is {name!r}{nearest_name(name, known)}; use {list(known)}")
