"""Fill gaps by the usual level plus what the readings beside the gap deviate from theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stgraph.graph import BoolArray, FloatArray, IntArray, STGraph
from stgraph.preprocessing._days import build_day_grid, step_of
from stgraph.preprocessing._seasons import Recipe, SeasonChoice, choose_season, fit_table
from stgraph.preprocessing.calendar import slots_per_day
from stgraph.preprocessing.profiles import Profile

_LONGEST_LAG = 288  # steps; deviations further apart count as unrelated
_LAG_VALUES = 1_500_000  # values that the autocorrelation is taken from
_MOST_ALIKE = 0.999  # keeps the weights of two supports finite


@dataclass(frozen=True, eq=False)
class Bridge:
    """The usual level of one feature, and how alike deviations are that lie some steps apart."""

    table: FloatArray  # (S, N)
    slots: IntArray  # (T,) row of `table` at every step
    alike: npt.NDArray[np.float64]  # (L + 2,) autocorrelation at lag 0 .. L, then 0
    low: float  # nothing is filled below or above what was observed
    high: float

    def fill(self, block: FloatArray, known: BoolArray, nodes: slice, *, causal: bool) -> None:
        """Fill the gaps of some nodes in place, (T, n)."""
        before, after = supports(known)
        step, node = np.nonzero(~np.isfinite(block))
        start, stop = before[step, node], after[step, node]
        has_start, has_stop = start >= 0, (stop < len(block)) & (not causal)
        start, stop = np.where(has_start, start, 0), np.where(has_stop, stop, 0)
        table = self.table[:, nodes]
        usual = table[self.slots[step], node]
        deviation_start = block[start, node] - table[self.slots[start], node]
        deviation_stop = block[stop, node] - table[self.slots[stop], node]

        # simple kriging on a line: the two weights that fit the autocorrelation
        to_start = np.where(has_start, self._alike(step - start), 0)
        to_stop = np.where(has_stop, self._alike(stop - step), 0)
        between = np.where(has_start & has_stop, self._alike(stop - start), 0)
        scale = 1 - between**2
        from_start = (
            (to_start - between * to_stop) / scale * np.where(has_start, deviation_start, 0)
        )
        from_stop = (to_stop - between * to_start) / scale * np.where(has_stop, deviation_stop, 0)
        block[step, node] = np.clip(usual + from_start + from_stop, self.low, self.high)

    def _alike(self, lag: IntArray) -> npt.NDArray[np.float64]:
        """Return the autocorrelation at some lags."""
        return self.alike[np.clip(lag, 0, len(self.alike) - 1)]


def fit_bridge(graph: STGraph, position: int, steps: slice, season: SeasonChoice) -> Bridge:
    """Return the bridge of a feature, fitted on the observed values of some steps."""
    step = step_of(graph.time)
    values = graph.values[steps, :, position, None]
    mask = graph.mask[steps, :, position, None]
    grid = build_day_grid(graph.time[steps], graph.zone, step)
    found, recipe = choose_season(values, mask, grid, Recipe(), season)
    table = fit_table(values, mask, grid, recipe, found)
    slots = Profile(table, found, graph.zone, step).slots(graph.time)
    observed = mask[..., 0].any()
    return Bridge(
        table=table[..., 0],
        slots=slots,
        alike=_autocorrelation(
            values[..., 0], mask[..., 0], table[..., 0], slots[steps], slots_per_day(step)
        ),
        low=float(np.min(values, where=mask, initial=np.inf)) if observed else -np.inf,
        high=float(np.max(values, where=mask, initial=-np.inf)) if observed else np.inf,
    )


def supports(known: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the last known step up to, and the first known from every step; -1 and T if none."""
    n_steps = len(known)
    steps = np.arange(n_steps)[:, None]
    before = np.maximum.accumulate(np.where(known, steps, -1), axis=0)
    after = np.minimum.accumulate(np.where(known, steps, n_steps)[::-1], axis=0)[::-1]
    return before, after


def _autocorrelation(
    values: FloatArray, mask: BoolArray, table: FloatArray, slots: IntArray, a_day: int
) -> npt.NDArray[np.float64]:
    """Return how alike deviations from the usual are at lag 0 to one day, then 0."""
    n_steps, n_nodes = values.shape
    n_seen = max(1, min(n_nodes, _LAG_VALUES // max(1, n_steps)))
    nodes = np.unique(np.linspace(0, n_nodes - 1, n_seen).astype(np.int64))
    known = mask[:, nodes]
    deviation = np.where(known, values[:, nodes] - table[slots][:, nodes], 0)
    variance = (deviation**2).sum(axis=0, dtype=np.float64) / np.maximum(known.sum(axis=0), 1)
    alike = np.zeros(max(1, min(a_day, _LONGEST_LAG, n_steps - 1)) + 2)
    alike[0] = 1
    for lag in range(1, min(len(alike) - 1, n_steps)):
        pairs = (known[lag:] & known[:-lag]).sum(axis=0)
        product = (deviation[lag:] * deviation[:-lag]).sum(dtype=np.float64)
        expected = float((pairs * variance).sum())
        alike[lag] = product / expected if expected > 0 else 0
    alike[1:] = alike[1:].clip(0, _MOST_ALIKE)
    return alike
