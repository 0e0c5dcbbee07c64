"""Errors of forecasts that name a class: masked, per horizon and per node, from counts alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import BoolArray, FloatArray

Counts = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class ClassErrors:
    """How often each class came true when another was forecast, per horizon and node.

    All measures but the log loss follow from these counts. Recall and F1 are 0 for a class that
    came true and was never forecast. Means over classes leave out those of which there is none: in
    recall those that never came true, in F1 those that were never forecast either.
    """

    counts: Counts  # (H, N, K came true, K forecast)
    surprise: Counts  # (H, N) sums of -log of the probability of what came true

    @classmethod
    def empty(cls, horizon: int, n_nodes: int, n_classes: int) -> ClassErrors:
        """Return the errors of no forecast at all."""
        counts = np.zeros((horizon, n_nodes, n_classes, n_classes))
        return cls(counts, np.zeros((horizon, n_nodes)))

    @property
    def horizon(self) -> int:
        """Steps ahead, H."""
        return int(self.counts.shape[0])

    def add(
        self,
        likely: npt.NDArray[np.int64],
        truth: npt.NDArray[np.int64],
        mask: BoolArray,
        probabilities: FloatArray | None = None,
    ) -> None:
        """Add a batch of classes (B, H, N); without probabilities the log loss is not known."""
        horizon, n_nodes, n_classes, _ = self.counts.shape
        place = np.arange(horizon * n_nodes).reshape(horizon, n_nodes)
        cell = (place * n_classes + truth) * n_classes + likely
        self.counts[...] += np.bincount(cell[mask], minlength=self.counts.size).reshape(
            self.counts.shape
        )
        if probabilities is None:
            self.surprise[...] = np.nan
            return
        chosen = np.take_along_axis(probabilities, truth[..., None], axis=-1)[..., 0]
        lost = -np.log(np.maximum(chosen.astype(np.float64), 1e-12))
        self.surprise[...] += np.where(mask, lost, 0).sum(axis=0)

    def metrics(self, *, axis: int | tuple[int, ...] | None) -> pd.DataFrame:
        """Return the metrics pooled over an axis.

        1 gives them per horizon, 0 per node, () per horizon and node (nodes vary fastest), None
        over all.
        """
        n_classes = self.counts.shape[-1]
        counts = self.counts.sum(axis=(0, 1) if axis is None else axis)
        counts = counts.reshape(-1, n_classes, n_classes)
        right = np.diagonal(counts, axis1=1, axis2=2)
        came, forecast = counts.sum(axis=2), counts.sum(axis=1)
        n = came.sum(axis=1)
        recall = _percent(right, came)
        f1 = _percent(2 * right, came + forecast)
        named = {f"f1_percent_{k}": f1[:, k] for k in range(n_classes)}
        return pd.DataFrame(
            {
                "accuracy_percent": _percent(right.sum(axis=1), n),
                "macro_recall_percent": _mean(recall),
                "macro_f1_percent": _mean(f1),
                **named,
                "log_loss": self.surprise.sum(axis=axis).ravel() / np.where(n > 0, n, np.nan),
                "n": n.astype(np.int64),
            }
        )


def classify(values: FloatArray, edges: tuple[float, ...]) -> npt.NDArray[np.int64]:
    """Return the positions of the classes of values; a limit belongs to the class above."""
    # limits of the type of the values, or 0.1 would lie on either side of itself
    return np.digitize(values, np.asarray(edges, dtype=values.dtype))


def _percent(part: Counts, whole: Counts) -> Counts:
    """Return per cents, NaN of nothing."""
    out: Counts = 100 * part / np.where(whole > 0, whole, np.nan)
    return out


def _mean(values: Counts) -> Counts:
    """Return the mean over the classes that occur, NaN where none does."""
    seen = np.isfinite(values)
    count = seen.sum(axis=1)
    total: Counts = np.where(seen, values, 0).sum(axis=1) / np.where(count > 0, count, np.nan)
    return total
