"""Weights of several forecasts: least absolute error on validation, as far as it can tell.

Three things keep noise from choosing. Weights are not negative and sum to 1, those of a horizon are
drawn towards those of all horizons, and these towards equal ones. Then only a share of them is
taken and the rest left with a safe choice (equal weights, or the best simple forecast): the
smallest share that is within one standard error of the best on blocks of windows that the weights
were not fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import nn
from torch.nn import functional

from stgraph.graph import BoolArray, FloatArray, IntArray
from stgraph.shrinkage import smallest_share
from stgraph.windows import Windows

_SHARES = np.linspace(0, 1, 11)
_N_FOLDS = 5
_MUCH_WORSE = 1.1  # times the least error: no part of equal weights
_POOLING = 0.05  # of weights towards equal ones, in units of what the data say
_HORIZON_POOLING = 0.5  # of the weights of a horizon towards those of all
_LEAST_WEIGHT = 0.02  # below it at every horizon a forecast is not worth its time
_N_ROUNDS = 25
_VALUES = 1_000_000  # of one forecast kept in memory
_LEAST_WINDOWS = 24  # of large graphs, rather fewer nodes are looked at than still fewer windows

Floats = npt.NDArray[np.float64]


class Judge:
    """Observations of the validation part, and the errors that forecasts make there.

    Parameters
    ----------
    tuning
        Windows to judge by; on large graphs every k-th of them, and some nodes, are used.
    middle
        Position of the median among the quantiles of a forecast.
    edges
        Limits between classes, where the forecasts are probabilities.
    """

    def __init__(self, tuning: Windows, *, middle: int = 1, edges: Sequence[float] = ()) -> None:
        inputs, graph = tuning.source.inputs, tuning.source.graph
        per_node = inputs.horizon * len(inputs.targets) * (len(edges) + 1)
        most = max(_LEAST_WINDOWS, _VALUES // (per_node * graph.n_nodes))
        every = max(1, -(-len(tuning) // most))
        self.windows = Windows(tuning.source, tuning.starts[::every])
        n_nodes = min(graph.n_nodes, max(1, _VALUES // (per_node * max(1, len(self.windows)))))
        some = np.random.default_rng(0).permutation(graph.n_nodes)[:n_nodes]
        self._nodes: IntArray = np.sort(some)  # drawn: rows of a grid are alike
        self.horizon = inputs.horizon
        self._middle = middle
        self._edges = torch.tensor(edges)
        ahead = self.windows.starts[:, None] + inputs.window + np.arange(inputs.horizon)
        every_node: BoolArray = graph.mask[ahead][..., inputs.targets]
        self.mask: BoolArray = every_node[:, :, self._nodes]  # (V, H, nodes, C)

    def errors(self, predictor: nn.Module) -> FloatArray:
        """Return how far a forecast is off, 0 where not observed: (V, H, nodes, C, K).

        K is 1 for the median, else the number of classes.
        """
        parts = []
        predictor.eval()
        with torch.inference_mode():
            for batch in self.windows.loader():
                answer = predictor(batch).float()[:, :, self._nodes]
                truth, seen = batch.y[:, :, self._nodes], batch.y_mask[:, :, self._nodes]
                if len(self._edges):
                    of = torch.bucketize(truth.contiguous(), self._edges, right=True)
                    gap = answer - functional.one_hot(of, len(self._edges) + 1)
                else:
                    gap = answer[..., self._middle, None] - truth[..., None]
                parts.append(torch.where(seen[..., None], gap, 0))
        return torch.cat(parts).numpy()

    def score(self, errors: FloatArray) -> float:
        """Return the mean absolute error, or the mean Brier score of classes."""
        return float(_losses(errors).sum() / max(1, self.mask.sum()))

    def blocks(self) -> IntArray:
        """Return the block of each window, one horizon long: neighbours share their targets."""
        starts = self.windows.starts
        blocks: IntArray = (starts - starts[:1]) // self.horizon
        return blocks


def fit_weights(
    errors: Sequence[FloatArray], judge: Judge, *, base: int | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the weights of several forecasts, and how far they are believed.

    Parameters
    ----------
    errors
        Of every forecast, as `Judge.errors` returns them.
    judge
        Whose errors they are.
    base
        Position of the safe choice; None: equal weights, without forecasts that are much worse.

    Returns
    -------
    tuple
        Weights (M, H, C), not negative, which sum to 1; and the shares (C,) of the fitted weights
        in them, the rest of which is the safe choice's.
    """
    n_members, n_targets = len(errors), judge.mask.shape[-1]
    scores = np.array([judge.score(part) for part in errors])
    good = scores <= _MUCH_WORSE * scores.min()
    alike = good / good.sum()
    safe = alike if base is None else np.eye(n_members)[base]
    weights = np.empty((n_members, judge.horizon, n_targets), dtype=np.float32)
    shares = np.empty(n_targets, dtype=np.float32)
    for c in range(n_targets):
        table = np.stack([part[..., c, :] for part in errors], axis=-1)  # (V, H, nodes, K, M)
        seen = judge.mask[..., c]
        shares[c] = _believe(table, seen, judge, safe, alike)
        fitted = _fit(table, seen, alike) if shares[c] else safe[None]
        weights[..., c] = ((1 - shares[c]) * safe + shares[c] * fitted).T
    return _drop_least(weights), shares


def _believe(
    table: FloatArray, seen: BoolArray, judge: Judge, safe: Floats, prior: Floats
) -> float:
    """Return the share of fitted weights that pays on windows that they were not fitted to."""
    blocks, starts = judge.blocks(), judge.windows.starts
    folds = np.array_split(np.arange(len(starts)), min(_N_FOLDS, len(np.unique(blocks))))
    if len(folds) < 2:
        return 0.0
    losses = np.zeros((len(starts), len(_SHARES)))
    for fold in folds:
        first, last = starts[fold[0]], starts[fold[-1]]
        away = (starts <= first - judge.horizon) | (starts >= last + judge.horizon)
        if not seen[away].any():
            return 0.0
        fitted = _fit(table[away], seen[away], prior)
        for k, share in enumerate(_SHARES):
            weights = (1 - share) * safe + share * fitted  # (H, M)
            mixed = np.einsum("vhnkm,hm->vhnk", table[fold], weights)
            losses[fold, k] = _losses(mixed).sum(axis=(1, 2))
    edges = np.flatnonzero(np.diff(blocks, prepend=-1))
    total = np.add.reduceat(losses, edges, axis=0)
    count = np.add.reduceat(seen.sum(axis=(1, 2)).astype(np.float64), edges)
    if np.count_nonzero(count) < 2:
        return 0.0
    return smallest_share(total, count, _SHARES)


def _fit(table: FloatArray, seen: BoolArray, prior: Floats) -> Floats:
    """Return the weights of every horizon, (H, M), drawn towards those of all."""
    n_horizon, n_members = table.shape[1], table.shape[-1]
    is_squared = table.shape[3] > 1
    together = table[seen].reshape(-1, n_members)
    pooled = _least_error(together, prior, _POOLING, is_squared=is_squared)
    rows = []
    for h in range(n_horizon):
        own = table[:, h][seen[:, h]].reshape(-1, n_members)
        rows.append(_least_error(own, pooled, _HORIZON_POOLING, is_squared=is_squared))
    return np.stack(rows)


def _least_error(errors: FloatArray, prior: Floats, pull: float, *, is_squared: bool) -> Floats:
    """Return weights with the least absolute error of the mean, drawn towards a prior.

    Iteratively reweighted least squares on the simplex; Brier scores are squares already.
    """
    n_members = len(prior)
    if len(errors) == 0 or n_members == 1:
        return prior
    weights = prior
    for _ in range(1 if is_squared else _N_ROUNDS):
        rest = np.abs(errors @ weights.astype(np.float32))
        floor = 0.01 * float(rest.mean()) + 1e-12
        importance = np.ones_like(rest) if is_squared else 1 / np.maximum(rest, floor)
        gram = (errors * importance[:, None]).T.astype(np.float64) @ errors
        # what differs between the members: their common error says nothing about weights
        centred = gram - gram.mean(axis=0) - gram.mean(axis=1, keepdims=True) + gram.mean()
        ridge = pull * float(np.median(np.diag(centred))) + 1e-9 * float(np.trace(gram)) + 1e-30
        new = _on_simplex(gram + ridge * np.eye(n_members), ridge * prior)
        moved = float(np.abs(new - weights).max())
        weights = new
        if moved < 1e-3:
            break
    return weights


def _on_simplex(gram: Floats, linear: Floats) -> Floats:
    """Return the w >= 0 with sum 1 that minimises w'Gw / 2 - l'w."""
    upper = np.linalg.cholesky(gram).T
    answer = np.linalg.solve(upper.T, linear)
    heavy = 1e3 * np.sqrt(np.trace(gram))  # the sum is 1 to about 1e-6
    rows = np.vstack([upper, np.full(len(gram), heavy)])
    weights: Floats = nnls(rows, np.append(answer, heavy))[0]
    weights /= weights.sum()
    return weights


def _losses(errors: FloatArray) -> FloatArray:
    """Return absolute errors, or Brier scores of classes: (..., K) -> (...)."""
    losses: FloatArray = np.abs(errors[..., 0])
    if errors.shape[-1] > 1:
        losses = np.square(errors).sum(axis=-1)
    return losses


def _drop_least(weights: FloatArray) -> FloatArray:
    """Return weights without those that are next to nothing at every horizon."""
    kept = np.where(weights.max(axis=(1, 2), keepdims=True) < _LEAST_WEIGHT, 0, weights)
    out: FloatArray = kept / kept.sum(axis=0)
    return out
