"""Make quantiles honest: stretch them until they hold what they promise on the validation part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stgraph.graph import BoolArray, FloatArray

_MIN_OBSERVATIONS = 100  # per horizon; fewer leave the quantiles as they are
_TINY = 1e-6  # of the largest width


@dataclass(frozen=True)
class Calibration:
    """Per horizon and target, how far the outer quantiles are stretched, and where the mean lies.

    Conformalised quantile regression (Romano et al., NeurIPS 2019) in its scaled form: an outer
    quantile keeps its shape over nodes and time, and its distance from the median is multiplied by
    one factor per horizon. The mean is the median plus a multiple of both distances, by least
    squares.
    """

    below: FloatArray  # (H, C) factor on median - q10
    above: FloatArray  # (H, C) factor on q90 - median
    mean_below: FloatArray  # (H, C) share of median - q10 that the mean lies under the median
    mean_above: FloatArray  # (H, C) share of q90 - median that the mean lies over the median

    @classmethod
    def identity(cls, horizon: int, n_targets: int) -> Calibration:
        """Return the calibration that changes nothing and takes the median for the mean."""
        one = np.ones((horizon, n_targets), dtype=np.float32)
        return cls(one, one, 0 * one, 0 * one)

    def apply(self, quantiles: FloatArray, lower: FloatArray) -> FloatArray:
        """Return mean and calibrated quantiles.

        Parameters
        ----------
        quantiles
            (B, H, N, C, 3) 10, 50 and 90 %, ordered, in input units.
        lower
            (C,) smallest possible value of each target.

        Returns
        -------
        FloatArray
            (B, H, N, C, 4): mean, 10, 50 and 90 %.
        """
        median = quantiles[..., 1]
        below = median - quantiles[..., 0]
        above = quantiles[..., 2] - median
        mean = median - self.mean_below[:, None] * below + self.mean_above[:, None] * above
        low = median - self.below[:, None] * below
        high = median + self.above[:, None] * above
        return np.maximum(np.stack([mean, low, median, high], axis=-1), lower[:, None])


def fit_calibration(
    forecasts: Iterable[tuple[FloatArray, FloatArray, BoolArray]],
    *,
    horizon: int,
    n_targets: int,
    fit_mean: bool,
) -> Calibration:
    """Fit a calibration to forecasts of windows that the model did not learn from.

    Parameters
    ----------
    forecasts
        Batches of quantiles (B, H, N, C, 3), observations (B, H, N, C) and their mask.
    horizon, n_targets
        H and C.
    fit_mean
        False takes the median for the mean, as point forecasts want it.

    Returns
    -------
    Calibration
        Identity at horizons with fewer than 100 observations.
    """
    parts = list(forecasts)
    identity = Calibration.identity(horizon, n_targets)
    if not parts:
        return identity
    fitted = [getattr(identity, name).copy() for name in identity.__dataclass_fields__]
    below, above, mean_below, mean_above = fitted
    for h in range(horizon):
        for c in range(n_targets):
            seen = np.concatenate([mask[:, h, :, c].ravel() for _, _, mask in parts])
            if seen.sum() < _MIN_OBSERVATIONS:
                continue
            quantiles = np.concatenate([q[:, h, :, c].reshape(-1, 3) for q, _, _ in parts])[seen]
            truth = np.concatenate([y[:, h, :, c].ravel() for _, y, _ in parts])[seen]
            deviation = truth - quantiles[:, 1]
            low = quantiles[:, 1] - quantiles[:, 0]
            high = quantiles[:, 2] - quantiles[:, 1]
            below[h, c] = _stretch(-deviation, low)
            above[h, c] = _stretch(deviation, high)
            if fit_mean:
                basis = np.stack([-low, high], axis=1).astype(np.float64)
                # both distances may be nearly the same: rounding must not tell them apart
                share = np.linalg.lstsq(basis, deviation.astype(np.float64), rcond=1e-3)[0]
                mean_below[h, c], mean_above[h, c] = np.clip(share, -1, 1)
    return Calibration(below, above, mean_below, mean_above)


def _stretch(deviation: FloatArray, width: FloatArray) -> float:
    """Return the factor on the width under which 90 % of new deviations will lie, at least 0.

    Where the width is next to nothing, at forecasts cut off at the smallest possible value, no
    factor helps, so those do not count.
    """
    wide = width > _TINY * width.max()
    if np.count_nonzero(wide) < _MIN_OBSERVATIONS:
        return 1.0
    scores = deviation[wide] / width[wide]
    level = min(1.0, 0.9 * (1 + 1 / len(scores)))
    return max(0.0, float(np.quantile(scores, level, method="higher")))
