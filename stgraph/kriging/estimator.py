"""From sensors to places without one: fitted, shrunk to what hidden sensors bear out, with bounds.

Everything is learned by hiding sensors. The interpolation is the fallback; the network's correction
of it is kept only as far as sensors that it never saw show that it helps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stgraph.errors import InputError
from stgraph.graph import BoolArray, FloatArray, IntArray
from stgraph.kriging.interpolation import (
    Hiding,
    Kernel,
    draw_hidings,
    fit_kernel,
    interpolate,
    median_of,
)
from stgraph.kriging.network import SensorAttention, errors_at, fit_attention, predict
from stgraph.kriging.surroundings import Surroundings
from stgraph.shrinkage import smallest_share

logger = logging.getLogger(__name__)

N_EACH = 4  # sensors per relation
MIN_SENSORS = 4  # to fit anything by hiding some
_MIN_TO_LEARN = 20  # sensors, before a network is tried
_KERNEL_STEPS = 200  # instants that the kernel is fitted on
_TUNE_STEPS = 150  # instants at which hidden sensors are judged
_KERNEL_SHARES = (0.2, 0.2, 0.5, 0.8)  # of the sensors that are hidden
_MORE_HIDDEN = (0.0, 0.5, 0.85, 0.95)  # of the others, beside the fold that is judged
_N_FOLDS = 3
_FOLD_SHARE = 0.5  # of the batches, where sensors are only judged
_SHARES = np.linspace(0, 1, 11)
_FLOOR = 0.5  # of the mean absolute error, added to the deviation among the sensors
_MIN_SCORES = 100
_LEVEL = 0.9  # of the one-sided bounds


class Estimate(NamedTuple):
    """What is guessed at each place and step, (T, M) each, in units of the values."""

    median: FloatArray
    below: FloatArray  # median - q10
    above: FloatArray  # q90 - median


@dataclass(frozen=True, eq=False)
class Estimator:
    """Fitted: carries values from sensors to places, with bounds that widen with distance."""

    near_m: float
    far_m: float
    kernel: Kernel = field(default_factory=Kernel)
    scale: float = 1.0
    network: SensorAttention | None = None  # None: the interpolation alone
    trust: float = 0.0  # share of the network's correction that is kept
    n_each: int = N_EACH
    floor: float = 1.0  # least deviation, in units of `scale`
    below: FloatArray = field(default_factory=lambda: np.ones(5, dtype=np.float32))  # per ring
    above: FloatArray = field(default_factory=lambda: np.ones(5, dtype=np.float32))
    factors: FloatArray = field(  # (2, 3) on bounds of forecasts, by side and near, far, none
        default_factory=lambda: np.ones((2, 3), dtype=np.float32)
    )
    notes: Mapping[str, Any] = field(default_factory=dict)  # errors at hidden sensors, seconds

    @property
    def method(self) -> str:
        """What the estimates are made by."""
        return "interpolation" if self.network is None else "attention over sensors"

    def in_words(self, unit: str = "") -> str:
        """Return in one line what the estimates are made by, and how far off they were."""
        notes, parts = self.notes, [self.method]
        if "why_no_network" in notes:
            parts[0] += f" (no network: {notes['why_no_network']})"
        if "mae_kept" in notes:
            error = f"MAE at hidden sensors {notes['mae_kept']:.3g} {unit}".rstrip()
            if self.network is not None:
                error += f", by interpolation alone {notes['mae_interpolation']:.3g}"
                error += f"; {100 * self.trust:.0f} % of the network's correction kept"
            parts.append(error)
        if "fit_seconds" in notes:
            parts.append(f"fitted in {notes['fit_seconds']:.0f} s")
        return "; ".join(parts)

    def rings_m(self) -> FloatArray:
        """Return the outer limits of the rings of distance that have bounds of their own."""
        near, far = self.near_m, self.far_m
        return np.array([near / 2, near, (near + far) / 2, far], dtype=np.float32)

    def estimate(
        self, values: FloatArray, around: Surroundings, visible: BoolArray | None = None
    ) -> Estimate:
        """Guess the values at places from those at sensors.

        Parameters
        ----------
        values
            (T, S) at the sensors, NaN where missing.
        around
            M places and the sensors around them.
        visible
            (S,) sensors that may be used. None means all.

        Returns
        -------
        Estimate
            NaN where no sensor is connected in any way. A place with a sensor of its own has that
            sensor's value and no width, where the sensor has one.
        """
        visible = np.ones(values.shape[1], dtype=bool) if visible is None else visible
        own = np.where((around.own >= 0) & visible[around.own], around.own, -1)
        around = replace(around, own=own)
        scaled = (values / self.scale).astype(np.float32)
        mean, spread = predict(self.network, scaled, around, visible, self.kernel, trust=self.trust)
        ring = np.searchsorted(self.rings_m(), around.distance_m(), side="left")
        unit = (spread + self.floor) * self.scale
        median = mean * self.scale
        median[:, ~around.connected] = np.nan
        result = Estimate(median, unit * self.below[ring], unit * self.above[ring])
        return _keep_own(result, values, around)

    def carry(
        self, forecast: FloatArray, around: Surroundings, visible: BoolArray | None = None
    ) -> FloatArray:
        """Carry forecasts from sensors to places.

        Parameters
        ----------
        forecast
            (H, S, 4): mean, 10, 50 and 90 % at the sensors.
        around, visible
            As for `estimate`.

        Returns
        -------
        FloatArray
            (H, M, 4). The bounds hold what is not known about the future and what is not known
            about the place. A place with a sensor of its own has that sensor's forecast; without
            any support the bounds are at least as wide as those with some usually are.
        """
        seen = np.ones(forecast.shape[1], dtype=bool) if visible is None else visible
        around = replace(around, own=np.where((around.own >= 0) & seen[around.own], around.own, -1))
        median, *sides = self.widths(forecast, around, seen)
        least = self.future(forecast, around, seen)
        kind = around.support(near_m=self.near_m, far_m=self.far_m)
        factor = np.concatenate([np.ones((2, 1), np.float32), self.factors], axis=1)[:, kind]
        shift = interpolate(forecast[..., 0] - forecast[..., 2], around, seen, self.kernel)
        # a guess is never surer than the sensors that it is made from
        below, above = (np.maximum(f * w, a) for f, w, a in zip(factor, sides, least, strict=True))
        at_sensors = forecast[:, seen, 3] - forecast[:, seen, 1]
        below, above = widen_unsupported(below, above, kind, at_sensors)
        parts = [median + shift, median - below, median, median + above]
        carried = np.stack(parts, axis=-1)
        own = around.own >= 0
        carried[:, own] = forecast[:, around.own[own]]
        return carried.astype(np.float32)

    def widths(
        self, forecast: FloatArray, around: Surroundings, visible: BoolArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return medians at the places, and how far they may be off to both sides, (H, M) each."""
        median, below, above = self.estimate(forecast[..., 2], around, visible)
        ahead = self.future(forecast, around, visible)
        return median, np.hypot(below, ahead[0]), np.hypot(above, ahead[1])

    def future(
        self, forecast: FloatArray, around: Surroundings, visible: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return how wide the forecasts around each place are to both sides, (H, M) each."""
        low = forecast[..., 2] - forecast[..., 1]
        high = forecast[..., 3] - forecast[..., 2]
        sides = [interpolate(side, around, visible, self.kernel) for side in (low, high)]
        return np.maximum(sides[0], 0), np.maximum(sides[1], 0)


def fit_estimator(
    values: FloatArray,
    among: Surroundings,
    *,
    near_m: float,
    far_m: float,
    allowed: IntArray | None = None,
    tune: FloatArray | None = None,
    learn: bool = True,
    n_batches: int = 1200,
    seed: int = 0,
) -> Estimator:
    """Fit everything that carries values from sensors to places, by hiding sensors.

    Parameters
    ----------
    values
        (T, S) readings of the training part, NaN where missing.
    among
        The sensors around each sensor, at least 12 per relation.
    near_m, far_m
        Limits of the classes of support, in metres.
    allowed
        Positions of the sensors that may be looked at. None means all.
    tune
        (V, S) readings of the validation part, at which sensors that were hidden from the network
        decide how far it is trusted. None takes the training part.
    learn
        Try the network at all.
    n_batches
        How long the network learns.
    seed
        Of everything random.

    Returns
    -------
    Estimator
        Its `notes` tell the errors at hidden sensors, and why there is no network if there is none.
    """
    began = time.perf_counter()
    allowed = np.arange(values.shape[1]) if allowed is None else np.asarray(allowed)
    known = np.isfinite(values[:, allowed])
    if not known.any():
        raise InputError("no sensor has a reading to learn from; give readings")
    allowed = allowed[known.any(axis=0)]
    scale = float(np.nanstd(values[:, allowed])) or 1.0
    start = Estimator(near_m=near_m, far_m=far_m, scale=scale)
    if len(allowed) < MIN_SENSORS:
        why = f"{len(allowed)} sensor(s), {MIN_SENSORS} are needed to fit by hiding some"
        return replace(start, notes={"why_no_network": why})
    scaled = (values / scale).astype(np.float32)
    generator = np.random.default_rng(seed)
    hidings = draw_hidings(
        among, allowed, shares=_KERNEL_SHARES, generator=generator, n_each=N_EACH
    )
    kernel, _ = fit_kernel(_some(scaled, _KERNEL_STEPS), hidings)
    judged = _some(scaled if tune is None else tune / scale, _TUNE_STEPS)
    many = learn and len(allowed) >= _MIN_TO_LEARN
    batches = round(_FOLD_SHARE * n_batches) if many else 0
    folds = _judge_folds(scaled, judged, among, allowed, kernel, generator, batches, seed)
    fitted = replace(start, kernel=kernel, trust=_choose_trust(folds) if many else 0.0)
    notes = _errors_in_words(folds, fitted.trust, scale)
    if not many:
        why = "not asked for" if not learn else f"{len(allowed)} sensors, {_MIN_TO_LEARN} needed"
        notes["why_no_network"] = why
    elif fitted.trust == 0:
        notes["why_no_network"] = "no better than the interpolation at sensors it had not seen"
    else:
        network = fit_attention(
            scaled, among, allowed, kernel, n_each=N_EACH, n_batches=n_batches, seed=seed
        )
        fitted = replace(fitted, network=network)
    notes["fit_seconds"] = round(time.perf_counter() - began, 1)
    return replace(_with_bounds(fitted, folds), notes=notes)


class _Fold(NamedTuple):
    """What sensors that were hidden from everything say about the estimates."""

    error: FloatArray  # (V, M) truth - interpolation
    correction: FloatArray  # (V, M) the network's
    spread: FloatArray  # (V, M)
    distance_m: FloatArray  # (M,)
    sensor: IntArray  # (M,)


def _judge_folds(
    scaled: FloatArray,
    judged: FloatArray,
    among: Surroundings,
    allowed: IntArray,
    kernel: Kernel,
    generator: np.random.Generator,
    n_batches: int,
    seed: int,
) -> list[_Fold]:
    """Return errors at every sensor, hidden in turn, with none to nearly all others visible."""
    found = []
    for number, fold in enumerate(np.array_split(generator.permutation(allowed), _N_FOLDS)):
        others = np.setdiff1d(allowed, fold)
        network = None
        if n_batches:
            network = fit_attention(
                scaled,
                among,
                others,
                kernel,
                n_each=N_EACH,
                n_batches=n_batches,
                seed=seed + number + 1,
            )
        for hiding in hide_more(among, np.sort(fold), others, generator):
            error, spread = errors_at(None, judged, hiding, kernel)
            correction = np.zeros_like(error)
            if network is not None:
                correction = error - errors_at(network, judged, hiding, kernel)[0]
            distance = hiding.around.distance_m()
            found.append(_Fold(error, correction, spread, distance, hiding.hidden))
    return found


def hide_more(
    among: Surroundings, fold: IntArray, others: IntArray, generator: np.random.Generator
) -> list[Hiding]:
    """Return a fold of sensors seen from all others, and from fewer and fewer of them."""
    hidings = []
    for share in _MORE_HIDDEN:
        n = max(1, round((1 - share) * len(others)))
        visible = np.zeros(len(among.sensors), dtype=bool)
        visible[generator.permutation(others)[:n]] = True
        hidings.append(Hiding(fold, among.take(fold).thin(visible, N_EACH), visible))
    return hidings


def _choose_trust(folds: Sequence[_Fold]) -> float:
    """Return the smallest share of the correction that is not clearly worse than the best.

    Every sensor counts as one draw, because it is new sensors that the network must be right at.
    Only the hidings with most sensors visible count: that is how it will be used.
    """
    totals, counts = [], []
    for fold in folds[:: len(_MORE_HIDDEN)]:
        known = np.isfinite(fold.error)
        gaps = [
            np.where(known, np.abs(fold.error - share * fold.correction), 0).sum(axis=0)
            for share in _SHARES
        ]
        totals.append(np.stack(gaps, axis=1))
        counts.append(known.sum(axis=0))
    share = smallest_share(np.concatenate(totals), np.concatenate(counts), _SHARES)
    return share


def _errors_in_words(folds: Sequence[_Fold], trust: float, scale: float) -> dict[str, Any]:
    """Return the errors at hidden sensors for the notes, in units of the values."""
    usual = folds[:: len(_MORE_HIDDEN)]
    plain = np.concatenate([fold.error.ravel() for fold in usual])
    better = np.concatenate([(fold.error - trust * fold.correction).ravel() for fold in usual])
    return {
        "mae_interpolation": round(float(np.nanmean(np.abs(plain))) * scale, 4),
        "mae_kept": round(float(np.nanmean(np.abs(better))) * scale, 4),
        "trust": round(trust, 2),
    }


def _with_bounds(estimator: Estimator, folds: Sequence[_Fold]) -> Estimator:
    """Return the estimator with bounds per ring that hold at hidden sensors (split conformal)."""
    errors = [fold.error - estimator.trust * fold.correction for fold in folds]
    floor = _FLOOR * float(np.nanmean(np.abs(np.concatenate([e.ravel() for e in errors]))))
    floor = max(floor, 1e-6)
    scores = [e / (fold.spread + floor) for e, fold in zip(errors, folds, strict=True)]
    rings = [np.searchsorted(estimator.rings_m(), fold.distance_m, side="left") for fold in folds]
    sides = []
    for sign in (-1, 1):
        bounds = np.full(5, np.nan)
        for ring in range(5):
            parts = [sign * s[:, r == ring].ravel() for s, r in zip(scores, rings, strict=True)]
            bounds[ring] = conformal_quantile(np.concatenate(parts))
        sides.append(never_narrower(bounds, unknown=2.0))  # about 90 % of a bell curve
    return replace(estimator, floor=floor, below=sides[0], above=sides[1])


def widen_unsupported(
    below: FloatArray, above: FloatArray, kind: IntArray, at_sensors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return bounds that are nowhere narrower at "none" than they usually are where there is more.

    Sensors that agree by chance, as all do at night, say nothing about places far away from them.

    Parameters
    ----------
    below, above
        (H, M) how far the places may be off to both sides, NaN where unknown.
    kind
        (M,) positions in `SUPPORT`.
    at_sensors
        (H, S) widths of the forecasts of the sensors themselves.

    Returns
    -------
    tuple
        The same with "none" at least as wide, at each step, as the root mean square and the median
        of the widths of sensors, of near and of far places.
    """
    width = below + above
    usual = [_usual(at_sensors), *(_usual(width[:, kind == one]) for one in (1, 2))]
    lack = np.maximum(np.max(usual, axis=0)[:, None] - width, 0) * (kind == 3)
    share = np.where(width > 0, below / np.where(width > 0, width, 1), 0.5)
    return below + lack * share, above + lack * (1 - share)


def _usual(widths: FloatArray) -> FloatArray:
    """Return the larger of root mean square and median of what is known in each row, else 0."""
    known = np.isfinite(widths)
    n = np.maximum(known.sum(axis=1), 1)
    mean_square = np.square(np.where(known, widths, 0), dtype=np.float64).sum(axis=1) / n
    middle = np.nan_to_num(median_of(widths))
    return np.asarray(np.maximum(np.sqrt(mean_square), middle), dtype=np.float32)


def conformal_quantile(scores: FloatArray) -> float:
    """Return what 90 % of new scores will be below, NaN where too few are known."""
    known = scores[np.isfinite(scores)]
    if len(known) < _MIN_SCORES:
        return np.nan
    level = min(1.0, _LEVEL * (1 + 1 / len(known)))
    return max(0.0, float(np.quantile(known, level, method="higher")))


def never_narrower(bounds: npt.NDArray[np.float64], *, unknown: float) -> FloatArray:
    """Return bounds that do not shrink with distance; unknown ones are those before, or after."""
    known = np.flatnonzero(np.isfinite(bounds))
    if not len(known):
        return np.full(len(bounds), unknown, dtype=np.float32)
    filled = bounds.copy()
    filled[: known[0]] = bounds[known[0]]
    filled = np.where(np.isfinite(filled), filled, 0)
    return np.maximum.accumulate(filled).astype(np.float32)


def _some(values: FloatArray, n: int) -> FloatArray:
    """Return at most n of the steps at which anything is known, evenly spread."""
    steps = np.flatnonzero(np.isfinite(values).any(axis=1))
    chosen = steps[np.unique(np.linspace(0, len(steps) - 1, n).astype(np.int64))]
    return np.asarray(values[chosen], dtype=np.float32)


def _keep_own(estimate: Estimate, values: FloatArray, around: Surroundings) -> Estimate:
    """Return the estimate with the sensors' own values where they have any."""
    places = np.flatnonzero(around.own >= 0)
    own = values[:, around.own[places]]
    known = np.isfinite(own)
    parts = []
    for part, at_sensor in zip(
        estimate, (own, np.zeros_like(own), np.zeros_like(own)), strict=True
    ):
        part = part.astype(np.float32, copy=True)
        part[:, places] = np.where(known, at_sensor, part[:, places])
        parts.append(part)
    return Estimate(*parts)
