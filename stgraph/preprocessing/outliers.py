"""Take out readings that cannot be right: limits, stuck sensors, spikes, odd for their time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from stgraph.errors import InputError, nearest_name
from stgraph.graph import BoolArray, FloatArray, STGraph
from stgraph.preprocessing._changes import (
    check_whole,
    describe_places,
    steps_to_fit,
    with_changes,
)
from stgraph.preprocessing._days import build_day_grid, center, step_of
from stgraph.preprocessing._seasons import SEASONS, Recipe, Season, check_name, fit_table
from stgraph.preprocessing.profiles import Profile
from stgraph.report import Report

Limits = Mapping[str, tuple[float | None, float | None]]

# tells which (T, n) readings of some nodes to take out, given values and what is observed
_Check = Callable[[FloatArray, BoolArray], BoolArray]

_MAD_OF_NORMAL = 0.6745  # median absolute deviation of the normal distribution with deviation 1
_PIECE_VALUES = 2_000_000  # values worked on at once
_USUAL = Recipe(smooth=0)


def mask_outliers(
    graph: STGraph,
    *,
    limits: Limits | None = None,
    stuck_steps: int | None = None,
    zero_steps: int | None = None,
    max_spike: float | None = None,
    max_deviation: float | None = None,
    season: Season = "week",
    fit_steps: slice | None = None,
    max_share: float = 0.02,
) -> STGraph:
    """Call readings unobserved that cannot be right, by the checks asked for, in this order.

    Every check looks at what those before it left. Only features of role target or observed are
    cleaned. No check is on by default, because none can tell a fault from a rare event: a
    jam after an accident deviates from the usual as much as a broken sensor does, and it is what
    a forecast should know.

    Parameters
    ----------
    graph
        Any graph; needs two steps for the checks of spikes and deviations.
    limits
        Feature name -> (lowest, highest) value that is physically possible, in its unit; None
        leaves a side open.
    stuck_steps
        Shortest run of identical readings other than 0 that is called stuck; the whole run goes.
        Choose it longer than rounding, few counts or earlier interpolation make by themselves.
    zero_steps
        Shortest run of zeros that is called stuck, longer than the longest quiet night.
    max_spike
        Largest jump up and back (or down and back) within one step, in usual changes from step to
        step of the node at that time of day or at all times. Looks one step ahead.
    max_deviation
        Largest distance from the median of the same local time, in robust standard deviations
        (from the median absolute deviation at that time of day, or of all that is not 0 if larger).
        Use 8 or more, and rather for counts than for speeds.
    season
        What `max_deviation` compares with: the same time of ``week``, ``day_type`` or ``day``.
    fit_steps
        Steps that medians and usual changes are taken from, such as ``split.train_steps``, so
        that nothing of the test decides what is cleaned. None means all steps.
    max_share
        A check that takes more than this share of a feature's readings is reported as a warning.

    Returns
    -------
    STGraph
        Mask False and value NaN where a check failed. `report` says how many, which stations
        and from when on.

    Raises
    ------
    InputError
        No check asked for, a feature that does not exist, or thresholds that make no sense.
    """
    _check_limits(graph, limits)
    check_name("season", season, SEASONS)
    _check_thresholds(limits, stuck_steps, zero_steps, max_spike, max_deviation, max_share)
    fitted = steps_to_fit(graph, fit_steps) if graph.n_steps else slice(0, 0)
    report = Report()
    values, mask = np.array(graph.values), np.array(graph.mask)  # copies in memory
    for position in graph.feature_positions("target", "observed"):
        name = graph.features[position].name
        checks: dict[str, _Check | None] = {
            "outside the limits": _outside((limits or {}).get(name)),
            "stuck at a value": _in_runs(stuck_steps, zero=False),
            "stuck at zero": _in_runs(zero_steps, zero=True),
            "spike": _spikes(graph, max_spike, fitted),
            f"odd for its time ({season})": _deviations(graph, max_deviation, fitted, season),
        }
        part, seen = values[..., position], mask[..., position]
        n_observed = int(seen.sum())
        for label, check in checks.items():
            if check is None:
                continue
            bad = _by_node_blocks(check, part, seen)
            part[bad], seen[bad] = np.nan, False
            _note(report, graph, f"feature {name!r}, {label}", bad, n_observed, max_share)
    return with_changes(graph, report, values=values, mask=mask)


def _by_node_blocks(check: _Check, part: FloatArray, seen: BoolArray) -> BoolArray:
    """Return which (T, N) readings a check takes out, looking at some nodes at a time."""
    bad = np.zeros(part.shape, dtype=bool)
    width = max(1, _PIECE_VALUES // max(1, len(part)))
    for start in range(0, part.shape[1], width):
        nodes = slice(start, start + width)
        bad[:, nodes] = check(part[:, nodes], seen[:, nodes])
    return bad


def _outside(limit: tuple[float | None, float | None] | None) -> _Check | None:
    """Return the check for values outside the limits of a feature."""
    if limit is None:
        return None
    low = -np.inf if limit[0] is None else limit[0]
    high = np.inf if limit[1] is None else limit[1]

    def check(values: FloatArray, seen: BoolArray) -> BoolArray:
        return np.asarray(seen & ((values < low) | (values > high)))

    return check


def _in_runs(least: int | None, *, zero: bool) -> _Check | None:
    """Return the check for long runs of the same value, either of zeros or of others."""
    if least is None:
        return None

    def check(values: FloatArray, seen: BoolArray) -> BoolArray:
        n_steps = len(values)
        steps = np.arange(n_steps)[:, None]
        differs = np.ones((n_steps + 1, values.shape[1]), dtype=bool)
        differs[1:-1] = ~(seen[1:] & seen[:-1] & (values[1:] == values[:-1]))
        first = np.maximum.accumulate(np.where(differs[:-1], steps, 0), axis=0)
        last = np.minimum.accumulate(np.where(differs[1:], steps, n_steps)[::-1], axis=0)[::-1]
        wanted = (values == 0) == zero
        return np.asarray(seen & wanted & (last - first + 1 >= least))

    return check


def _spikes(graph: STGraph, most: float | None, fitted: slice) -> _Check | None:
    """Return the check for single readings far from both neighbours in time, on the same side."""
    if most is None:
        return None

    def check(values: FloatArray, seen: BoolArray) -> BoolArray:
        if len(values) < 3:
            return np.zeros(values.shape, dtype=bool)
        change = np.diff(np.where(seen, values, np.nan), axis=0, prepend=np.nan)
        height = np.zeros_like(change)
        rise, fall = change[1:-1], -change[2:]
        # rise and fall have the same sign where the reading sticks out
        height[1:-1] = np.where(rise * fall > 0, np.minimum(np.abs(rise), np.abs(fall)), 0)
        usual = _usual_size(graph, np.abs(change), fitted, "day")
        return seen & (height > most * usual)

    return check


def _deviations(graph: STGraph, most: float | None, fitted: slice, season: Season) -> _Check | None:
    """Return the check for readings far from the median of the same local time."""
    if most is None:
        return None

    def check(values: FloatArray, seen: BoolArray) -> BoolArray:
        known = np.where(seen, values, np.nan)
        distance = np.abs(known - _at_same_time(graph, known, fitted, season))
        # by time of day only: the few values at one time of the week tell too little of spread
        usual = _usual_size(graph, distance, fitted, "day") / np.float32(_MAD_OF_NORMAL)
        return seen & (distance > most * usual)

    return check


def _at_same_time(graph: STGraph, values: FloatArray, fitted: slice, season: Season) -> FloatArray:
    """Return at every step the median of the same local time in the fitted steps, (T, N)."""
    step = step_of(graph.time)
    grid = build_day_grid(graph.time[fitted], graph.zone, step)
    part = values[fitted, :, None]
    table = fit_table(part, np.isfinite(part), grid, _USUAL, season)
    return Profile(table, season, graph.zone, step).at(graph.time)[..., 0]


def _usual_size(graph: STGraph, sizes: FloatArray, fitted: slice, season: Season) -> FloatArray:
    """Return the median size at that time, at least that of all sizes above 0; NaN without any."""
    at_time = _at_same_time(graph, sizes, fitted, season)
    # quiet nights make half of the sizes 0; these say nothing about what is usual by day
    above = np.where(sizes[fitted] > 0, sizes[fitted], np.nan)
    at_all_times, _ = center(np.ascontiguousarray(above.T), "median")
    return np.maximum(at_time, at_all_times)


def _note(
    report: Report, graph: STGraph, where: str, bad: BoolArray, n_observed: int, max_share: float
) -> None:
    """Note how much a check took out."""
    count = int(bad.sum())
    if count == 0:
        report.info(where, "nothing found", count=0)
        return
    share = count / n_observed
    what = f"{count} of {n_observed} readings ({share:.2%}) taken out"
    places = describe_places(graph, bad)
    if share > max_share:
        advice = f"more than {max_share:.2%}: check the threshold"
        report.warning(where, f"{what}, {advice}", places, count=count)
    else:
        report.info(where, what, places, count=count)


def _check_limits(graph: STGraph, limits: Limits | None) -> None:
    """Raise unless limits are of measured features and in order."""
    positions = graph.feature_positions("target", "observed")
    known = [graph.feature_names[position] for position in positions]
    for name, limit in (limits or {}).items():
        if name not in known:
            hint = nearest_name(name, known)
            raise InputError(f"`limits` names feature {name!r}{hint}; there are {known}")
        given = [bound for bound in limit if bound is not None]
        if len(limit) != 2 or np.isnan(given).any() or given != sorted(given):
            raise InputError(f"`limits` of {name!r} are {limit!r}; give (lowest, highest) or None")


def _check_thresholds(
    limits: Limits | None,
    stuck_steps: int | None,
    zero_steps: int | None,
    max_spike: float | None,
    max_deviation: float | None,
    max_share: float,
) -> None:
    """Raise unless at least one check is asked for and all numbers make sense."""
    check_whole("stuck_steps", stuck_steps, least=2)
    check_whole("zero_steps", zero_steps, least=2)
    for name, most in (("max_spike", max_spike), ("max_deviation", max_deviation)):
        if most is not None and not most > 0:
            raise InputError(f"`{name}` is {most!r}; it must be above 0")
    if not 0 <= max_share <= 1:
        raise InputError(f"`max_share` is {max_share!r}; it must lie between 0 and 1")
    if not limits and (stuck_steps, zero_steps, max_spike, max_deviation) == (None,) * 4:
        raise InputError(
            "no check asked for; give `limits`, `stuck_steps`, `zero_steps`, `max_spike` or "
            "`max_deviation`"
        )
