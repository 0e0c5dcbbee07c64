"""How good guesses are where there is no sensor: hide sensors, guess them, compare."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from stgraph.errors import InputError
from stgraph.evaluation import minutes_in_words
from stgraph.forecasting import Forecaster
from stgraph.graph import BoolArray, FloatArray, IntArray, STGraph
from stgraph.inputs import Source
from stgraph.kriging.estimator import (
    MIN_SENSORS,
    N_EACH,
    Estimator,
    conformal_quantile,
    fit_estimator,
    hide_more,
    never_narrower,
)
from stgraph.kriging.interpolation import (
    InverseDistance,
    draw_hidings,
    fit_inverse_distance,
    interpolate,
)
from stgraph.kriging.surroundings import SUPPORT, Surroundings

logger = logging.getLogger(__name__)

_MAX_WINDOWS = 60  # of the validation and of the test part, evenly spread
_MAX_STEPS = 400
_N_FOLDS = 3
IDW, INTERPOLATION, KEPT = "inverse distance", "graph interpolation", "what is written"
LIMIT, IDW_LIMIT = "share of the speed limit", "inverse distance of that share"
_IN_WORDS = {
    IDW: "inverse distance weighting",
    LIMIT: "one share of the speed limit everywhere",
    IDW_LIMIT: "inverse distance weighting of the share of the speed limit",
}


@dataclass(frozen=True)
class Holdout:
    """Errors at sensors that were hidden from everything, over all draws."""

    table: pd.DataFrame  # method, minutes, support, mae, coverage_percent, width, n
    unit: str
    share: float
    n_draws: int

    @property
    def kept(self) -> str:
        """The name of what is written, in the column `method`."""
        return KEPT

    def summary(self) -> pd.DataFrame:
        """Return errors per horizon and method, all classes of support together."""
        whole = self.table[self.table["support"] == "all"].reset_index(drop=True)
        return whole.drop(columns="support")

    def verdict(self) -> str:
        """Return in one sentence whether the estimates are worth having, and where they are not."""
        mae = self.summary().pivot_table(index="minutes", columns="method", values="mae")
        draws = f"{self.n_draws} draw" + "s" * (self.n_draws != 1)
        start = f"At hidden sensors ({100 * self.share:.0f} %, {draws})"
        if KEPT not in mae:
            return f"{start} nothing was observed, so nothing is known about the estimates."
        simple = mae[[name for name in (IDW, LIMIT, IDW_LIMIT) if name in mae]]
        best, name = simple.min(axis=1), simple.idxmin(axis=1).map(_IN_WORDS)
        gain = 100 * (1 - mae[KEPT] / best.where(best > 0)).fillna(0.0)
        # at equal errors the simple one wins
        won, lost = gain[mae[KEPT] < best], gain[mae[KEPT] >= best]
        if lost.empty:
            return (
                f"{start} what is written beats {_listed(name.unique(), 'and')} at all "
                f"{len(won)} horizons: its MAE is {_span(won)} lower."
            )
        better = f"better {_when(won.index)} (MAE {_span(won)} lower) but " if len(won) else ""
        whose = _listed(name[lost.index].unique(), "or")
        return (
            f"{start} what is written is {better}no better than {whose} {_when(lost.index)} "
            f"(MAE {_span(-lost)} higher): guesses are worth no more than that there."
        )


def _span(percent: pd.Series[float]) -> str:
    """Return from where to where some percentages go."""
    low, high = f"{percent.min():.0f}", f"{percent.max():.0f}"
    return f"{low.replace('-0', '0')} %" if low == high else f"{low} to {high} %"


def _when(minutes: pd.Index[float]) -> str:
    """Return horizons in words."""
    return _listed(["now" if one == 0 else f"in {minutes_in_words(one)}" for one in minutes], "and")


def _listed(words: Iterable[str], last: str) -> str:
    """Return words as one would say them: a, b and c."""
    *most, end = words
    return f"{', '.join(most)} {last} {end}" if most else end


def evaluate_holdout(
    graph: STGraph,
    among: Surroundings,
    *,
    train_steps: int,
    tune_steps: int,
    near_m: float,
    far_m: float,
    forecaster: Forecaster | None = None,
    refit: Callable[[STGraph], Forecaster] | None = None,
    columns: IntArray | None = None,
    share: float = 0.2,
    n_draws: int = 3,
    steps: Sequence[int] = (3, 6, 12),
    learn: bool = True,
    limits: bool = True,
    n_batches: int = 1200,
    seed: int = 0,
) -> Holdout:
    """Hide a share of the sensors, fit everything without them, and measure at them.

    Parameters
    ----------
    graph
        Readings at S sensors.
    among
        The sensors around each sensor.
    train_steps, tune_steps
        First step behind the training part, and behind the validation part.
    near_m, far_m
        Limits of the classes of support, in metres.
    forecaster
        Fitted to all sensors: its weights have seen the hidden ones in training, but it is shown
        none of their readings. None measures present values only.
    refit
        Fits a forecaster to the visible sensors alone, instead of `forecaster`: slow and beyond
        reproach.
    columns
        (S,) nodes of the graph that the sensors of `among` are. None: all, in this order.
    share
        Of the sensors, hidden in each draw.
    n_draws
        How often.
    steps
        Horizons to measure, counted from 1.
    learn, n_batches
        Whether the network is tried, and how long it learns.
    limits
        Compare with shares of the speed limit, where all sensors have one. False for limits that
        are guesses themselves.
    seed
        Of the draws and everything else random.

    Returns
    -------
    Holdout
        Mean errors in the unit of the first target; minute 0 is the present.

    Raises
    ------
    InputError
        There are too few sensors to hide some.
    """
    columns = np.arange(graph.n_nodes) if columns is None else columns
    n_sensors = len(columns)
    n_hidden = count_hidden(n_sensors, share=share)
    position = graph.feature_positions("target")[0]
    unit = graph.features[position].unit
    values = np.where(graph.mask[..., position], graph.values[..., position], np.nan)
    values = values[:, columns].astype(np.float32)
    rows: list[_Row] = []
    for draw in range(n_draws):
        generator = np.random.default_rng([seed, draw])
        hidden = np.sort(generator.permutation(n_sensors)[:n_hidden])
        visible = np.ones(n_sensors, dtype=bool)
        visible[hidden] = False
        test = _Test(values, among, hidden, visible, train_steps, tune_steps, limits)
        estimator = fit_estimator(
            np.where(visible, values[:train_steps], np.float32(np.nan)),
            among,
            near_m=near_m,
            far_m=far_m,
            allowed=np.flatnonzero(visible),
            tune=np.where(visible, values[train_steps:tune_steps], np.float32(np.nan)),
            learn=learn,
            n_batches=n_batches,
            seed=seed + draw,
        )
        in_space = _fit_in_space(test, generator)
        rows += _measure_present(test, estimator, in_space)
        if forecaster is not None or refit is not None:
            shown, model = _forecaster_for(graph, columns[hidden], forecaster, refit)
            at = shown.node_ids.get_indexer(graph.node_ids[columns])
            rows += _measure_forecasts(test, estimator, in_space, model, shown, at, steps)
        logger.info("hold-out %d of %d: %s", draw + 1, n_draws, estimator.in_words(unit))
    return Holdout(_tabulate(rows), unit, share, n_draws)


def count_hidden(n_sensors: int, *, share: float) -> int:
    """Return how many sensors a draw hides.

    Raises
    ------
    InputError
        That is none, or too few are left to learn from.
    """
    n_hidden = round(share * n_sensors)
    if n_hidden < 1 or n_sensors - n_hidden < MIN_SENSORS:
        raise InputError(
            f"{n_sensors} sensors are too few to hide {100 * share:g} % and learn from the "
            "others; give more, or evaluate without a hold-out"
        )
    return n_hidden


def fit_factors(
    estimator: Estimator,
    forecasts: FloatArray,
    truth: FloatArray,
    among: Surroundings,
    *,
    allowed: IntArray | None = None,
    seed: int = 0,
) -> Estimator:
    """Return the estimator with bounds of forecasts that hold at hidden sensors.

    Parameters
    ----------
    estimator
        As fitted to readings.
    forecasts
        (B, H, S, 4) at the sensors, of windows that the forecaster did not learn from.
    truth
        (B, H, S) what came, NaN where unknown.
    among
        The sensors around each sensor.
    allowed
        Sensors that may be looked at. None means all.
    seed
        Of which sensors are hidden together.
    """
    allowed = np.arange(truth.shape[2]) if allowed is None else allowed
    if len(allowed) < MIN_SENSORS or not len(forecasts):
        return estimator
    flat = forecasts.reshape(-1, *forecasts.shape[2:])
    came = truth.reshape(-1, truth.shape[2])
    scores: dict[tuple[int, int], list[Any]] = {}
    generator = np.random.default_rng(seed)
    for fold in np.array_split(generator.permutation(allowed), _N_FOLDS):
        others = np.setdiff1d(allowed, fold)
        for hiding in hide_more(among, np.sort(fold), others, generator):
            sides = estimator.widths(flat, hiding.around, hiding.visible)
            gap = came[:, hiding.hidden] - sides[0]
            kinds = hiding.around.support(near_m=estimator.near_m, far_m=estimator.far_m)
            for side, sign in enumerate((-1, 1)):
                score = sign * gap / np.maximum(sides[side + 1], 1e-6)
                for kind in range(1, 4):
                    scores.setdefault((side, kind), []).append(score[:, kinds == kind].ravel())
    factors = np.full((2, 3), np.nan)
    for (side, kind), parts in scores.items():
        factors[side, kind - 1] = conformal_quantile(np.concatenate(parts))
    return replace(estimator, factors=np.stack([never_narrower(f, unknown=1.0) for f in factors]))


def forecast_windows(
    forecaster: Forecaster,
    graph: STGraph,
    starts: Sequence[int] | range,
    *,
    position: int | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return forecasts (B, H, N, 4) of some windows, evenly spread, and what came (B, H, N)."""
    some = np.asarray(starts)
    some = some[np.unique(np.linspace(0, len(some) - 1, _MAX_WINDOWS).astype(np.int64))]
    inputs = forecaster.inputs
    position = inputs.targets[0] if position is None else position
    column = inputs.targets.index(position)
    made = [part for _, part in forecaster.predict(Source(graph, inputs), some)]
    steps = some[:, None] + inputs.window + np.arange(inputs.horizon)
    seen = graph.mask[steps][..., position]
    came = np.where(seen, graph.values[steps][..., position], np.float32(np.nan))
    return np.concatenate(made)[..., column, forecaster.head.main_positions], came


@dataclass(frozen=True)
class _Test:
    """One draw."""

    values: FloatArray  # (T, S) of all sensors
    among: Surroundings
    hidden: IntArray
    visible: BoolArray
    train_steps: int
    tune_steps: int
    limits: bool  # speed limits are worth comparing with

    def around(self, n_each: int = N_EACH) -> Surroundings:
        """Return what is visible around the hidden sensors."""
        return self.among.take(self.hidden).thin(self.visible, n_each)


@dataclass(frozen=True)
class _Row:
    """Errors of one method at one horizon of one draw."""

    method: str
    minutes: float
    gap: FloatArray  # (B, M) truth - median
    inside: FloatArray  # (B, M) NaN without bounds
    width: FloatArray
    support: IntArray  # (M,)


def _fit_in_space(test: _Test, generator: np.random.Generator) -> InverseDistance:
    """Return the best inverse-distance weighting of the visible sensors."""
    allowed = np.flatnonzero(test.visible)
    n_each = int((test.among.relation == 2).sum())
    hidings = draw_hidings(
        test.among, allowed, shares=(0.2, 0.2, 0.2), generator=generator, n_each=n_each
    )
    known = test.values[: test.train_steps]
    return fit_inverse_distance(known[:: max(1, len(known) // 200)], hidings)[0]


def _measure_present(test: _Test, estimator: Estimator, in_space: InverseDistance) -> list[_Row]:
    """Return the errors at the hidden sensors at the very steps that the others are read at."""
    test_values = test.values[test.tune_steps :]
    test_values = test_values[:: max(1, len(test_values) // _MAX_STEPS)]
    read = np.where(test.visible, test_values, np.float32(np.nan))
    made = estimator.estimate(read, test.around(), test.visible)
    bounds = (made.median - made.below, made.median + made.above)
    return _rows(test, estimator, in_space, 0.0, read, test_values, (made.median, *bounds))


def _measure_forecasts(
    test: _Test,
    estimator: Estimator,
    in_space: InverseDistance,
    forecaster: Forecaster,
    graph: STGraph,
    at: IntArray,
    steps: Sequence[int],
) -> list[_Row]:
    """Return the errors of forecasts at the hidden sensors, end to end."""
    inputs = forecaster.inputs
    tuning = range(
        max(0, test.train_steps - inputs.window),
        test.tune_steps - inputs.window - inputs.horizon + 1,
    )
    made, came = _spread(forecast_windows(forecaster, graph, tuning), at, test)
    tuned = fit_factors(estimator, made, came, test.among, allowed=np.flatnonzero(test.visible))
    testing = range(
        max(0, test.tune_steps - inputs.window),
        graph.n_steps - inputs.window - inputs.horizon + 1,
    )
    made, _ = _spread(forecast_windows(forecaster, graph, testing), at, test)
    some = np.asarray(testing)
    some = some[np.unique(np.linspace(0, len(some) - 1, _MAX_WINDOWS).astype(np.int64))]
    rows = []
    for step in steps:
        if step > inputs.horizon:
            continue
        ahead = made[:, step - 1]
        truth = test.values[some + inputs.window + step - 1]
        around = test.around()
        carried = tuned.carry(ahead, around, test.visible)
        minutes = step * (inputs.step / pd.Timedelta(minutes=1))
        bounds = (carried[..., 2], carried[..., 1], carried[..., 3])
        rows += _rows(test, estimator, in_space, minutes, ahead[..., 2], truth, bounds)
    return rows


def _spread(
    windows: tuple[FloatArray, FloatArray], at: IntArray, test: _Test
) -> tuple[FloatArray, FloatArray]:
    """Return forecasts and truth with a column for every sensor, NaN at the hidden ones."""
    result = []
    for part in windows:
        whole = part[:, :, at]  # hidden ones may be at -1: of another node, and overwritten
        whole[:, :, ~test.visible] = np.nan
        result.append(whole)
    return result[0], result[1]


def _forecaster_for(
    graph: STGraph,
    hidden: IntArray,
    forecaster: Forecaster | None,
    refit: Callable[[STGraph], Forecaster] | None,
) -> tuple[STGraph, Forecaster]:
    """Return the graph without the hidden readings, and a model that forecasts it."""
    if refit is not None:
        known = graph.select_nodes(graph.node_ids.delete(hidden))
        return known, refit(known)
    if forecaster is None:
        raise InputError("give a forecaster, or a function that fits one")
    mask = graph.mask.copy()
    mask[:, hidden] = False
    values = np.where(mask | ~graph.mask, graph.values, np.float32(np.nan))
    return graph.replace(values=values, mask=mask), forecaster


def _rows(
    test: _Test,
    estimator: Estimator,
    in_space: InverseDistance,
    minutes: float,
    read: FloatArray,
    truth: FloatArray,
    bounds: tuple[FloatArray, FloatArray, FloatArray],
) -> list[_Row]:
    """Return the errors of all methods that carry what is read to the hidden sensors."""
    came = truth[:, test.hidden]
    around = test.around()
    support = around.support(near_m=estimator.near_m, far_m=estimator.far_m)
    nothing = np.full_like(came, np.nan)
    plain = interpolate(read, around, test.visible, estimator.kernel)
    wide = test.around(int((test.among.relation == 2).sum()))
    # all methods are judged by the same readings
    came = np.where(np.isfinite(in_space(read, wide) + plain + bounds[0]), came, np.nan)
    inside = np.where(np.isfinite(came), (came >= bounds[1]) & (came <= bounds[2]), np.nan)
    limits = around.sensors.reference.astype(np.float32)
    rows = []
    if test.limits and np.isfinite(limits).all():
        shares = read / limits
        usual = np.nanmedian(shares) * limits[test.hidden]
        in_share = in_space(shares, wide) * limits[test.hidden]
        rows = [
            _Row(LIMIT, minutes, came - usual, nothing, nothing, support),
            _Row(IDW_LIMIT, minutes, came - in_share, nothing, nothing, support),
        ]
    return [
        *rows,
        _Row(IDW, minutes, came - in_space(read, wide), nothing, nothing, support),
        _Row(INTERPOLATION, minutes, came - plain, nothing, nothing, support),
        _Row(KEPT, minutes, came - bounds[0], inside, bounds[2] - bounds[1], support),
    ]


def _tabulate(rows: Sequence[_Row]) -> pd.DataFrame:
    """Return the errors of all draws per horizon, method and class of support."""
    lines = []
    keys = dict.fromkeys((row.minutes, row.method) for row in rows)
    for minutes, method in sorted(keys, key=lambda key: key[0]):
        own = [row for row in rows if (row.minutes, row.method) == (minutes, method)]
        for kind, name in [(None, "all"), *enumerate(SUPPORT)]:
            pick = [slice(None) if kind is None else row.support == kind for row in own]
            gap = np.concatenate([row.gap[:, p].ravel() for row, p in zip(own, pick, strict=True)])
            known = np.isfinite(gap)
            if not known.any():
                continue
            inside, width = (
                np.concatenate(
                    [getattr(row, part)[:, p].ravel() for row, p in zip(own, pick, strict=True)]
                )[known]
                for part in ("inside", "width")
            )
            lines.append(
                {
                    "minutes": minutes,
                    "method": method,
                    "support": name,
                    "mae": float(np.abs(gap[known]).mean()),
                    "coverage_percent": 100 * float(inside.mean()),
                    "width": float(width.mean()),
                    "n": int(known.sum()),
                }
            )
    return pd.DataFrame(lines)
