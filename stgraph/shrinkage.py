"""How much of what a model learned is worth keeping: less where validation cannot tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stgraph.models.predictor import Predictor
from stgraph.windows import Windows

_SHARES = np.linspace(0, 1, 11)
Sums = npt.NDArray[np.float64]


def choose_trust(predictor: Predictor, tuning: Windows, *, batch_size: int | None = None) -> Tensor:
    """Return the share of the model's correction to its anchor that is kept, per target.

    The anchor is the strongest simple baseline, so a correction has to earn its place: of all
    shares whose validation error is within one standard error of the best, the smallest is taken
    (the one-standard-error rule of Breiman et al., 1984). The error bars come from blocks of
    windows one horizon long, because neighbouring windows share most of their targets.

    Parameters
    ----------
    predictor
        Trained, with `trust` 1.
    tuning
        Windows that it did not learn from.
    batch_size
        Windows at once; None: 64, or fewer of large graphs.

    Returns
    -------
    Tensor
        (C,) between 0 and 1; 1 where there is nothing to choose by.
    """
    errors, counts = [], []
    predictor.eval()
    with torch.inference_mode():
        for batch in tuning.loader(batch_size=batch_size):
            raw, start = predictor.run_model(batch)
            seen = batch.y_mask
            error = []
            for share in _SHARES:
                answer = predictor.answer(raw, start, torch.full_like(predictor.trust, share))
                misses = torch.where(seen, predictor.misses(answer, batch), 0)
                error.append(misses.sum(dim=(1, 2)))  # (B, C)
            errors.append(torch.stack(error, dim=1))  # (B, shares, C)
            counts.append(seen.sum(dim=(1, 2)))  # (B, C)
    if not errors:
        return torch.ones(predictor.n_targets)
    horizon = predictor.decay.shape[0]
    total = _sum_blocks(torch.cat(errors).double().numpy(), horizon)
    count = _sum_blocks(torch.cat(counts).double().numpy(), horizon)
    shares = [
        smallest_share(total[..., c], count[:, c], _SHARES) for c in range(predictor.n_targets)
    ]
    return torch.tensor(shares)


def _sum_blocks(rows: Sums, length: int) -> Sums:
    """Return sums over consecutive blocks of rows."""
    return np.add.reduceat(rows, np.arange(0, len(rows), length), axis=0)


def smallest_share(total: Sums, count: npt.NDArray[Any], shares: npt.NDArray[np.float64]) -> float:
    """Return the smallest share that is not clearly worse than the best: one standard error.

    Parameters
    ----------
    total
        (blocks, shares) sums of errors.
    count
        (blocks,) how many errors each sum has.
    shares
        Ascending.
    """
    seen = count > 0
    if seen.sum() < 2:
        return 1.0
    error = total[seen] / count[seen, None]  # (blocks, shares)
    best = int(error.mean(axis=0).argmin())
    worse = error - error[:, [best]]
    bar = worse.std(axis=0, ddof=1) / np.sqrt(len(error))
    return float(shares[np.argmax(worse.mean(axis=0) <= bar)])
