"""Make quantiles honest: stretch them until they hold what they promise on the validation part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stgraph.graph import BoolArray, FloatArray

LEVELS = (0.1, 0.5, 0.9)
_MIN_OBSERVATIONS = 100  # per horizon; fewer leave the quantiles as they are
_TINY = 1e-6  # of the largest width


@dataclass(frozen=True)
class Calibration:
    """Per horizon and target, how far the outer quantiles are stretched, and where the mean lies.

    Conformalised quantile regression (Romano et al., NeurIPS 2019) in its scaled form: an outer
    quantile keeps its shape over nodes and time, and its distance from the median is multiplied by
    one factor per horizon. The mean is the median plus a multiple of the mean distance on both
    sides, by least squares.
    """

    below: FloatArray  # (H, C, quantiles below the median) factors on their distance from it
    above: FloatArray  # (H, C, quantiles above the median)
    mean_below: FloatArray  # (H, C) share of the distances below that the mean lies under it
    mean_above: FloatArray  # (H, C) share of the distances above that the mean lies over it

    @classmethod
    def identity(
        cls, horizon: int, n_targets: int, levels: Sequence[float] = LEVELS
    ) -> Calibration:
        """Return the calibration that changes nothing and takes the median for the mean."""
        one = np.ones((horizon, n_targets), dtype=np.float32)
        sides = sum(level < 0.5 for level in levels), sum(level > 0.5 for level in levels)
        below, above = (one[..., None].repeat(n, axis=-1) for n in sides)
        return cls(below, above, 0 * one, 0 * one)

    def apply(self, quantiles: FloatArray, lower: FloatArray) -> FloatArray:
        """Return mean and calibrated quantiles.

        Parameters
        ----------
        quantiles
            (B, H, N, C, Q) in ascending order, in input units.
        lower
            (C,) smallest possible value of each target.

        Returns
        -------
        FloatArray
            (B, H, N, C, 1 + Q): mean and quantiles.
        """
        median, below, above = _distances(quantiles, self.below.shape[-1])
        shift = self.mean_above[:, None] * above.mean(axis=-1)
        shift -= self.mean_below[:, None] * below.mean(axis=-1)
        # factors differ, so an outer quantile might lie inside an inner one: it is as far at least
        far_below = np.maximum.accumulate((self.below[:, None] * below)[..., ::-1], axis=-1)
        far_above = np.maximum.accumulate(self.above[:, None] * above, axis=-1)
        parts = [median + shift[..., None], median - far_below[..., ::-1], median]
        out: FloatArray = np.concatenate([*parts, median + far_above], axis=-1)
        return np.maximum(out, lower[:, None])


def fit_calibration(
    forecasts: Iterable[tuple[FloatArray, FloatArray, BoolArray]],
    *,
    horizon: int,
    n_targets: int,
    fit_mean: bool,
    levels: Sequence[float] = LEVELS,
) -> Calibration:
    """Fit a calibration to forecasts of windows that the model did not learn from.

    Parameters
    ----------
    forecasts
        Batches of quantiles (B, H, N, C, Q), observations (B, H, N, C) and their mask.
    horizon, n_targets
        H and C.
    fit_mean
        False takes the median for the mean, as point forecasts want it.
    levels
        What the Q quantiles promise, in ascending order, 0.5 among them.

    Returns
    -------
    Calibration
        Identity at horizons with fewer than 100 observations.
    """
    parts = list(forecasts)
    identity = Calibration.identity(horizon, n_targets, levels)
    if not parts:
        return identity
    fitted = [getattr(identity, name).copy() for name in identity.__dataclass_fields__]
    below, above, mean_below, mean_above = fitted
    for h in range(horizon):
        for c in range(n_targets):
            seen = np.concatenate([mask[:, h, :, c].ravel() for _, _, mask in parts])
            if seen.sum() < _MIN_OBSERVATIONS:
                continue
            n_quantiles = len(levels)
            quantiles = np.concatenate(
                [q[:, h, :, c].reshape(-1, n_quantiles) for q, _, _ in parts]
            )[seen]
            truth = np.concatenate([y[:, h, :, c].ravel() for _, y, _ in parts])[seen]
            median, low, high = _distances(quantiles, below.shape[-1])
            deviation = truth - median[:, 0]
            for k, level in enumerate(level for level in levels if level < 0.5):
                below[h, c, k] = _stretch(-deviation, low[:, k], 1 - level)
            for k, level in enumerate(level for level in levels if level > 0.5):
                above[h, c, k] = _stretch(deviation, high[:, k], level)
            if fit_mean:
                basis = np.stack([-low.mean(-1), high.mean(-1)], axis=1).astype(np.float64)
                # both distances may be nearly the same: rounding must not tell them apart
                share = np.linalg.lstsq(basis, deviation.astype(np.float64), rcond=1e-3)[0]
                mean_below[h, c], mean_above[h, c] = np.clip(share, -1, 1)
    return Calibration(below, above, mean_below, mean_above)


def _distances(quantiles: FloatArray, n_below: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the median (..., 1), and how far the quantiles below and above it are from it."""
    median = quantiles[..., n_below : n_below + 1]
    return median, median - quantiles[..., :n_below], quantiles[..., n_below + 1 :] - median


def _stretch(deviation: FloatArray, width: FloatArray, share: float) -> float:
    """Return the factor on the width under which a share of new deviations lies, at least 0.

    Where the width is next to nothing, at forecasts cut off at the smallest possible value, no
    factor helps, so those do not count.
    """
    wide = width > _TINY * width.max()
    if np.count_nonzero(wide) < _MIN_OBSERVATIONS:
        return 1.0
    scores = deviation[wide] / width[wide]
    level = min(1.0, share * (1 + 1 / len(scores)))
    return max(0.0, float(np.quantile(scores, level, method="higher")))
