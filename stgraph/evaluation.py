"""Errors of forecasts: masked, per horizon and per node, always next to the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stgraph.classification import ClassErrors
from stgraph.errors import InputError
from stgraph.graph import BoolArray, FloatArray

_SUMS = ("n", "absolute", "squared", "n_relative", "relative", "covered", "width", "pinball")


@dataclass(frozen=True)
class Errors:
    """Sums of errors per horizon and node, from which every metric follows.

    MAE, MAPE, coverage and pinball loss score the median and the outer quantiles; RMSE scores the
    mean, because that is what a squared error asks for (Gneiting, JASA 2011). For a point forecast
    both are the same. MAPE leaves out observations of exactly 0.
    """

    sums: dict[str, np.ndarray[Any, np.dtype[np.float64]]]  # name -> (H, N)

    @classmethod
    def empty(cls, horizon: int, n_nodes: int) -> Errors:
        """Return the errors of no forecast at all."""
        return cls({name: np.zeros((horizon, n_nodes)) for name in _SUMS})

    @property
    def horizon(self) -> int:
        """Steps ahead, H."""
        return int(self.sums["n"].shape[0])

    def add(self, forecast: FloatArray, truth: FloatArray, mask: BoolArray) -> None:
        """Add a batch: forecast (B, H, N, 4) mean, 10, 50, 90 %; truth and mask (B, H, N)."""
        mean, low, median, high = np.moveaxis(forecast.astype(np.float64), -1, 0)
        error, gap = truth - median, truth - mean
        nonzero = mask & (truth != 0)
        relative = np.abs(error) / np.where(nonzero, np.abs(truth), 1)
        pinball = sum(
            np.maximum(q * (truth - z), (q - 1) * (truth - z))
            for q, z in ((0.1, low), (0.5, median), (0.9, high))
        )
        parts = {
            "n": mask,
            "absolute": np.abs(error),
            "squared": gap**2,
            "n_relative": nonzero,
            "relative": relative * nonzero,
            "covered": (truth >= low) & (truth <= high),
            "width": high - low,
            "pinball": pinball / 3,
        }
        for name, values in parts.items():
            self.sums[name] += np.where(mask, values, 0).sum(axis=0)

    def metrics(self, *, axis: int | tuple[int, ...] | None) -> pd.DataFrame:
        """Return the metrics pooled over an axis.

        1 gives them per horizon, 0 per node, () per horizon and node (nodes vary fastest), None
        over all.
        """
        total = {name: values.sum(axis=axis).ravel() for name, values in self.sums.items()}
        n = np.where(total["n"] > 0, total["n"], np.nan)
        n_relative = np.where(total["n_relative"] > 0, total["n_relative"], np.nan)
        return pd.DataFrame(
            {
                "mae": total["absolute"] / n,
                "rmse": np.sqrt(total["squared"] / n),
                "mape_percent": 100 * total["relative"] / n_relative,
                "coverage_percent": 100 * total["covered"] / n,
                "width": total["width"] / n,
                "crps": 2 * total["pinball"] / n,
                "n": total["n"].astype(np.int64),
            }
        )


@dataclass(frozen=True)
class Evaluation:
    """Errors of a model and of baselines on the same windows of one target."""

    model: str
    target: str
    unit: str
    step: pd.Timedelta
    node_ids: pd.Index
    errors: Mapping[str, Errors | ClassErrors]  # of the model and of each baseline
    n_windows: int
    span: tuple[pd.Timestamp, pd.Timestamp]  # first and last target time
    yardstick: str = "mae"  # the metric that skill is about: an error, or a share in per cent

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines."""
        return [name for name in self.errors if name != self.model]

    def table(self, steps: Sequence[int] | None = None) -> pd.DataFrame:
        """Return the skill table: one row per model and horizon, and one over all horizons.

        Parameters
        ----------
        steps
            Horizons to show, counted from 1. None shows all.

        Returns
        -------
        DataFrame
            Columns ``model, horizon`` (steps; 0 = all), ``minutes, mae, rmse, mape_percent``,
            ``skill_percent`` (of MAE against the best baseline at that horizon; positive means
            better, NaN where that baseline makes no error), ``coverage_percent, width, crps, n``.
            Of classes ``accuracy_percent, macro_recall_percent, macro_f1_percent,
            skill_percent`` (of the share of misses), ``f1_percent_0, ..., log_loss, n``.
        """
        horizon = next(iter(self.errors.values())).horizon
        odd = [step for step in steps or () if not 1 <= step <= horizon]
        if odd:
            raise InputError(f"`steps` {odd} are no horizons; there are 1..{horizon}")
        rows = []
        for name, errors in self.errors.items():
            per_horizon = errors.metrics(axis=1)
            per_horizon.insert(0, "horizon", np.arange(1, horizon + 1))
            overall = errors.metrics(axis=None).assign(horizon=0)
            rows.append(pd.concat([per_horizon, overall]).assign(model=name))
        table = pd.concat(rows, ignore_index=True)
        metrics = [name for name in table if name not in ("model", "horizon")]
        lost = self._lost(table)
        best = lost[table["model"] != self.model].groupby(table["horizon"]).min()
        table["skill_percent"] = _skill(lost, table["horizon"].map(best))
        table["minutes"] = table["horizon"] * (self.step / pd.Timedelta(minutes=1))
        if steps is not None:
            table = table[table["horizon"].isin([0, *steps])]
        first = ["model", "horizon", "minutes", *metrics[:3], "skill_percent", *metrics[3:]]
        return table[first].reset_index(drop=True)

    def per_node(self) -> pd.DataFrame:
        """Return the model's metrics per node over all horizons, with skill in per cent.

        Returns
        -------
        DataFrame
            Indexed by node id; NaN at nodes without observation.
        """
        table = self.errors[self.model].metrics(axis=0)
        table.index = self.node_ids
        if self.baselines:
            table["skill_percent"] = self._skill_of(table, axis=0)
        return table

    def per_node_and_horizon(self) -> pd.DataFrame:
        """Return the model's metrics per node and horizon, with skill in per cent.

        Returns
        -------
        DataFrame
            Indexed by ``node`` and ``horizon`` (steps; 0 = over all), columns as in `per_node`; NaN
            where nothing was observed.
        """
        table = self.errors[self.model].metrics(axis=())
        steps = range(1, len(table) // len(self.node_ids) + 1)
        table.index = pd.MultiIndex.from_product([steps, self.node_ids], names=["horizon", "node"])
        if self.baselines:
            table["skill_percent"] = self._skill_of(table, axis=())
        overall = pd.concat({0: self.per_node()}, names=["horizon", "node"])
        return pd.concat([overall, table]).swaplevel()

    def verdict(self) -> str:
        """Return in one sentence whether the model is worth having, and where it is not."""
        if not self.baselines:
            return f"{self.model}: no baseline was asked for, so nothing is known about its skill."
        table = self.table()
        seen = table[table["n"] > 0]
        if seen.empty:
            return f"Nothing was observed in the test, so nothing is known about {self.model}."
        overall = seen[(seen["model"] == self.model) & (seen["horizon"] == 0)].iloc[0]
        ours = seen["model"] == self.model
        # at equal errors the simple one wins, so the model comes last
        ranked = pd.concat([seen[~ours], seen[ours]], ignore_index=True)
        ranked = ranked[ranked["horizon"] > 0]
        ranked = ranked.loc[self._lost(ranked).groupby(ranked["horizon"]).idxmin()]
        lost = ranked[ranked["model"] != self.model]
        n = len(ranked)
        if lost.empty:
            value, skill = overall[self.yardstick], overall["skill_percent"]
            what = f"MAE is {value:.3g} {self.unit}, {skill:.1f} % better than"
            if self.yardstick != "mae":
                words = self.yardstick.removesuffix("_percent").replace("_", " ")
                what = f"{words} is {value:.1f} %, what it lacks of 100 {skill:.1f} % less than of"
            return (
                f"{self.model} beats every baseline at all {n} horizons; over all of them its "
                f"{what} the best baseline."
            )
        winners = lost["model"].value_counts()
        wins = ", ".join(f"{name} at {count}" for name, count in winners.items())
        which = ", ".join(str(step) for step in lost["horizon"].head(12))
        return (
            f"A baseline wins at {len(lost)} of {n} horizons ({wins}; steps {which}"
            f"{', ...' if len(lost) > 12 else ''}): use it there, or give {self.model} more data."
        )

    def _lost(self, table: pd.DataFrame) -> pd.Series[float]:
        """Return what is to be small: an error, or what a share lacks of the whole."""
        values = table[self.yardstick]
        return 100 - values if self.yardstick.endswith("_percent") else values

    def _skill_of(self, table: pd.DataFrame, *, axis: int | tuple[int, ...]) -> pd.Series[float]:
        """Return the skill of the model's metrics, pooled over an axis as they are."""
        others = [self._lost(self.errors[name].metrics(axis=axis)) for name in self.baselines]
        best = pd.Series(np.min(np.stack(others), axis=0), index=table.index)
        return _skill(self._lost(table), best)


def _skill(mae: pd.Series[float], reference: pd.Series[float]) -> pd.Series[float]:
    """Return by how many per cent an error is smaller than another, NaN where that is 0."""
    return 100 * (1 - mae / reference.where(reference > 0))


def minutes_in_words(minutes: float) -> str:
    """Return a span of time with its unit: 15 min, 1 h, 2 d."""
    if minutes % 1440 == 0 and minutes > 1440:
        return f"{minutes / 1440:g} d"
    return f"{minutes / 60:g} h" if minutes % 60 == 0 else f"{minutes:g} min"
