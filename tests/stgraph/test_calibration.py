"""Calibration: quantiles that hold what they promise, and never cross."""

from __future__ import annotations

import numpy as np
import pytest

from stgraph.calibration import Calibration, fit_calibration
from stgraph.graph import BoolArray, FloatArray

Forecasts = tuple[FloatArray, FloatArray, BoolArray]
NONE = np.full(1, -np.inf, dtype=np.float32)


def made_up(
    n: int, *, below: float, above: float, n_targets: int = 1, seed: int = 0, skew: float = 1.0
) -> Forecasts:
    """Return forecasts of noise: median right, outer quantiles `below` and `above` from it.

    The noise is exponential below and above, ten times wider at the second node and `skew` times
    longer above.
    """
    generator = np.random.default_rng(seed)
    shape = (n, 3, 2, n_targets)
    median = generator.normal(50, 10, shape)
    wide = np.array([1.0, 10.0])[None, None, :, None]
    side = np.where(generator.random(shape) < 0.5, -1.0, skew)
    truth = median + side * generator.exponential(1, shape) * wide
    quantiles = np.stack([median - below * wide, median, median + above * wide], axis=-1)
    return quantiles.astype(np.float32), truth.astype(np.float32), np.ones(shape, dtype=bool)


def fitted(parts: list[Forecasts], *, fit_mean: bool = False, n_targets: int = 1) -> Calibration:
    return fit_calibration(parts, horizon=3, n_targets=n_targets, fit_mean=fit_mean)


@pytest.mark.parametrize(("below", "above"), [(0.1, 5.0), (1.0, 1.0), (30.0, 0.01)])
@pytest.mark.parametrize("n_targets", [1, 2])
def test_about_80_percent_lie_between_the_outer_quantiles(below, above, n_targets) -> None:
    calibration = fitted(
        [made_up(900, below=below, above=above, n_targets=n_targets)], n_targets=n_targets
    )
    quantiles, truth, _ = made_up(900, below=below, above=above, n_targets=n_targets, seed=1)
    out = calibration.apply(quantiles, np.repeat(NONE, n_targets))
    # each side, at each horizon, and at the calm node as well as at the wild one
    under, over = truth < out[..., 1], truth > out[..., 3]
    for share in (under, over):
        assert np.abs(share.mean(axis=(0, 2)) - 0.1).max() < 0.03
        assert np.abs(share.mean(axis=(0, 1)) - 0.1).max() < 0.03
    np.testing.assert_array_equal(out[..., 2], quantiles[..., 1])  # the median stays


def test_the_factor_by_hand() -> None:
    # deviations 1..100 above a median of 0 with width 1, none below: 90 % of new ones lie
    # under the value at rank 0.9 * (1 + 1/100) of the way: 91 (the next higher one)
    truth = np.arange(1, 101, dtype=np.float32).reshape(100, 1, 1, 1)
    quantiles = np.broadcast_to(np.float32([-1, 0, 1]), (100, 1, 1, 1, 3))
    parts = [(quantiles, truth, np.ones(truth.shape, dtype=bool))]
    calibration = fit_calibration(parts, horizon=1, n_targets=1, fit_mean=False)
    assert calibration.above.item() == 91
    assert calibration.below.item() == 0
    out = calibration.apply(np.float32([[[[[8, 10, 11]]]]]), NONE)
    assert out.ravel().tolist() == [10, 10, 10, 10 + 91]


def test_batches_are_one_sample() -> None:
    whole = made_up(300, below=1, above=1)
    halves = [tuple(part[:100] for part in whole), tuple(part[100:] for part in whole)]
    for a, b in zip(vars(fitted([whole])).values(), vars(fitted(halves)).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_quantiles_never_cross_whatever_was_fitted() -> None:
    generator = np.random.default_rng(0)
    for seed in range(20):
        bias = generator.normal(0, 20)
        quantiles, truth, mask = made_up(200, below=0.5, above=0.5, seed=seed)
        calibration = fitted([(quantiles, truth + np.float32(bias), mask)], fit_mean=True)
        out = calibration.apply(quantiles, np.float32([30.0]))
        assert (np.diff(out[..., 1:], axis=-1) >= 0).all()
        assert (out >= 30).all()


def test_few_observations_change_nothing() -> None:
    quantiles, truth, mask = made_up(60, below=3, above=3)  # 120 a horizon
    mask = mask.copy()
    mask[:, 0, 1] = False  # 60 left at the first
    calibration = fitted([(quantiles, truth, mask)], fit_mean=True)
    for name in ("below", "above"):
        factor = getattr(calibration, name)[:, 0]
        assert factor[0] == 1
        assert (factor[1:] != 1).all()
    assert calibration.mean_above[0, 0] == 0
    none = fit_calibration([], horizon=3, n_targets=2, fit_mean=True)
    out = none.apply(np.repeat(quantiles, 2, axis=-2), np.repeat(NONE, 2))
    np.testing.assert_allclose(out[..., 1:], np.repeat(quantiles, 2, axis=-2), rtol=1e-6)
    np.testing.assert_array_equal(out[..., 0], out[..., 2])


def test_hidden_observations_do_not_count() -> None:
    quantiles, truth, mask = made_up(300, below=1, above=1)
    seen = np.random.default_rng(3).random(mask.shape) < 0.7
    loud = np.where(seen, truth, np.float32(1e9))
    for a, b in zip(
        vars(fitted([(quantiles, truth, seen)], fit_mean=True)).values(),
        vars(fitted([(quantiles, loud, seen)], fit_mean=True)).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_the_mean_leans_to_the_longer_tail() -> None:
    parts = made_up(3000, below=1, above=1, skew=4.0)
    calibration = fitted([parts], fit_mean=True)
    quantiles, truth, _ = made_up(3000, below=1, above=1, skew=4.0, seed=1)
    out = calibration.apply(quantiles, NONE)

    def squared(forecast: FloatArray) -> float:
        return float(np.square(forecast - truth).mean())

    assert squared(out[..., 0]) < squared(out[..., 2])  # the mean is the better one for squares
    calm = (truth - out[..., 0])[:, :, 0]
    assert abs(calm.mean()) < 0.3


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_the_unit_does_not_matter(unit: float) -> None:
    quantiles, truth, mask = made_up(300, below=2, above=0.5)
    scaled = (quantiles * np.float32(unit), truth * np.float32(unit), mask)
    np.testing.assert_allclose(
        fitted([scaled]).above, fitted([(quantiles, truth, mask)]).above, rtol=1e-3
    )


def test_forecasts_without_width_leave_the_others_alone() -> None:
    # a quarter of the forecasts was cut off at 0, all three quantiles alike, and was too low
    quantiles, truth, mask = made_up(400, below=2, above=2)
    cut = np.random.default_rng(5).random(mask.shape) < 0.25
    flat = np.where(cut[..., None], np.float32(0), quantiles)
    calibration = fitted([(flat, truth, mask)], fit_mean=True)
    plain = fitted([(quantiles, truth, mask)])
    np.testing.assert_allclose(calibration.above, plain.above, rtol=0.2)
    # nothing but such forecasts: as they are
    alone = fitted([(np.zeros_like(quantiles), truth, mask)], fit_mean=True)
    assert (alone.above == 1).all()
    assert np.isfinite(alone.mean_above).all()
