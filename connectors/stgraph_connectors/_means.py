"""Means that leave missing values out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def mean_of_known(values: npt.NDArray[Any], *, axis: int) -> npt.NDArray[np.float64]:
    """Return means of the finite numbers along an axis, NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
