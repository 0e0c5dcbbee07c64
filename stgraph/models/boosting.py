"""LightGBM on lags: gradient boosted trees that correct the anchor, one model for all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn

from stgraph._optional import require
from stgraph.graph import FloatArray, IntArray
from stgraph.models.options import ModelOptions
from stgraph.models.sizes import Sizes
from stgraph.models.tree_text import check_trees
from stgraph.windows import Batch, Windows

_MAX_LAGS = 24  # what lies further back comes in as its mean
_NEIGHBOUR_LAGS = (1, 2, 4, 7)  # steps back at which neighbours are looked at
_MIN_WINDOWS = 400  # of large graphs, rather fewer nodes of each window are looked at
_LEAF_ROWS = 200  # in a leaf at least; fewer where there are few rows
_PREDICTED_ROWS = 1_000_000  # at once


class BoostingConfig(ModelOptions):
    """Options of `Boosting`."""

    n_trees: int = Field(100, ge=1, le=10_000)
    n_leaves: int = Field(31, ge=2, le=4096)  # of a tree
    learning_rate: float = Field(0.1, gt=0, le=1)
    n_rows: int = Field(600_000, ge=1000)  # windows x nodes x horizons learned from, at most
    n_lags: int | None = Field(None, ge=1)  # past steps used; None: the window, 24 at most
    use_graph: bool = True  # also the mean deviations of the neighbours


class Boosting(nn.Module):
    """Gradient boosted trees on lags, expected levels, neighbours and the known future.

    One model for all nodes and horizons (the horizon is an input) with absolute loss, which answers
    with what to add to the anchor. LightGBM (Ke et al., NeurIPS 2017).

    Shapes
    ------
    input
        `x` (B, W, N, F), `u` (B, H, N, K).
    graph
        `edge_index` (2, E), `edge_weight` (E,); the trees see means over neighbours.
    output
        (B, H, N, C).
    """

    is_point: ClassVar[bool] = True

    def __init__(self, sizes: Sizes, config: BoostingConfig) -> None:
        super().__init__()
        self._lightgbm = require("lightgbm", extra="boost")
        self.sizes = sizes
        self.config = config
        self.seed = int(torch.randint(2**31 - 1, ()))  # that of training
        self.text: Tensor  # of the trees, as LightGBM writes it; empty: none
        self.node_levels: Tensor  # center and scale of every node: who it is
        self.register_buffer("text", torch.zeros(0, dtype=torch.uint8))
        self.register_buffer("node_levels", torch.zeros(sizes.n_nodes, 2 * sizes.n_outputs))
        self._booster: Any = None

    def fit_residuals(
        self,
        windows: Windows,
        residuals: Callable[[Batch], Tensor],
        center: Tensor,
        scale: Tensor,
    ) -> None:
        """Grow the trees.

        Parameters
        ----------
        windows
            To learn from.
        residuals
            Batch -> what the anchor leaves unexplained, (B, H, N, C), scaled.
        center, scale
            (1 or N, C) of the targets.
        """
        n_nodes = self.sizes.n_nodes
        levels = torch.cat([center.expand(n_nodes, -1), scale.expand(n_nodes, -1)], dim=1)
        self.node_levels.copy_(levels / scale.mean(dim=0).repeat(2))
        table, answers, weights = self._collect(windows, residuals, scale.expand(n_nodes, -1))
        if len(table) == 0:
            return
        options = {
            "objective": "l1",
            "num_leaves": self.config.n_leaves,
            "learning_rate": self.config.learning_rate,
            "min_data_in_leaf": max(1, min(_LEAF_ROWS, len(table) // 100)),
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": torch.get_num_threads(),
            "verbosity": -1,
        }
        rows = self._lightgbm.Dataset(table, answers, weight=weights, params={"verbosity": -1})
        booster = self._lightgbm.train(options, rows, self.config.n_trees)
        text = np.frombuffer(booster.model_to_string().encode(), dtype=np.uint8)
        self.text = torch.from_numpy(text.copy())
        self._booster = None

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return (B, H, N, C)."""
        shape = (*u.shape[:3], self.sizes.n_outputs)
        if not len(self.text):
            return u.new_zeros(shape)
        if self._booster is None:
            self._booster = self._read(self.text)
        seen = _Seen(x, u, self._means(edge_index, edge_weight), self._n_lags, self.sizes.n_outputs)
        n_rows = int(np.prod(shape))
        parts = []
        for first in range(0, n_rows, _PREDICTED_ROWS):
            rows = np.arange(first, min(first + _PREDICTED_ROWS, n_rows))
            table = self._table(seen, np.unravel_index(rows, shape))
            threads = torch.get_num_threads()
            parts.append(self._booster.predict(table, num_threads=threads, validate_features=False))
        out = np.concatenate(parts).reshape(shape).astype(np.float32)
        return torch.from_numpy(out).to(u)

    @property
    def _n_lags(self) -> int:
        """How many past steps a tree sees one by one."""
        return min(self.sizes.window, self.config.n_lags or _MAX_LAGS)

    def _means(self, edge_index: Tensor, edge_weight: Tensor) -> list[sparse.csr_array]:
        """Return what takes means over those that a node hears of, and those that hear of it."""
        if not self.config.use_graph:
            return []
        source, target = edge_index.cpu().numpy()
        n_nodes = self.sizes.n_nodes
        weight = edge_weight.cpu().numpy().astype(np.float32)
        other = source != target
        ends = (target[other], source[other])
        return [
            _row_means(sparse.csr_array((weight[other], pair), shape=(n_nodes, n_nodes)))
            for pair in (ends, ends[::-1])
        ]

    def _collect(
        self, windows: Windows, residuals: Callable[[Batch], Tensor], scale: Tensor
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return table, answers and weights of rows drawn from all windows alike."""
        generator = np.random.default_rng(self.seed)
        sizes, per_node = self.sizes, self.sizes.n_nodes * self.sizes.n_outputs
        n_used = min(len(windows), max(_MIN_WINDOWS, -(-self.config.n_rows // per_node)))
        every = max(1, len(windows) // max(n_used, 1))
        used = Windows(windows.source, windows.starts[::every])
        share = self.config.n_rows / max(1, len(used) * per_node * sizes.horizon)
        n_at_once = max(1, min(32, _PREDICTED_ROWS // (per_node * sizes.horizon)))
        tables, answers, weights = [], [], []
        means = self._means(*used.edges)
        for batch in used.loader(batch_size=n_at_once):
            drawn = batch.y_mask.numpy()
            if share < 1:
                drawn = drawn & (generator.random(drawn.shape, dtype=np.float32) < share)
            place = np.nonzero(drawn)
            seen = _Seen(batch.x, batch.u, means, self._n_lags, sizes.n_outputs)
            tables.append(self._table(seen, place))
            answers.append(residuals(batch).numpy()[place])
            weights.append(scale.numpy()[place[2], place[3]])
        return np.concatenate(tables), np.concatenate(answers), np.concatenate(weights)

    def _table(self, seen: _Seen, place: tuple[IntArray, ...]) -> FloatArray:
        """Return what the trees see at places (window, horizon, node, target); (rows, inputs)."""
        b, h, n, c = place
        levels = self.node_levels.numpy()
        own = [
            seen.past[b, n, c],
            seen.ahead[b, h, n, c],
            seen.others[b, n],
            seen.future[b, h, n],
            np.stack([levels[n, c], levels[n, self.sizes.n_outputs + c], h, c], axis=1),
        ]
        return np.concatenate(own, axis=1, dtype=np.float32)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take trees of any length, after a look at them."""
        text = state_dict.get(f"{prefix}text")
        if text is not None:
            self._booster = None
            if len(text):
                check_trees(text, n_inputs=self._n_inputs)
                self._booster = self._read(text)
            self.text = torch.zeros_like(text)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _read(self, text: Tensor) -> Any:
        """Return the trees of a text, or ValueError if LightGBM cannot read it."""
        try:
            return self._lightgbm.Booster(model_str=bytes(text.cpu().numpy()).decode())
        except self._lightgbm.basic.LightGBMError as error:
            raise ValueError(f"LightGBM cannot read the trees: {error}") from error

    @property
    def _n_inputs(self) -> int:
        """How many numbers the trees see."""
        sizes, c = self.sizes, self.sizes.n_outputs
        n_graph = 2 * sum(lag <= sizes.window for lag in _NEIGHBOUR_LAGS) * self.config.use_graph
        others = sizes.n_past - 3 * c + sizes.n_future - 3 * c
        return self._n_lags + 5 + n_graph + 3 + others + 4


class _Seen:
    """What the trees see of a batch, before it is laid out as rows."""

    def __init__(
        self, x: Tensor, u: Tensor, means: list[sparse.csr_array], n_lags: int, n_targets: int
    ) -> None:
        c = n_targets
        past, ahead = x.cpu().numpy(), u.cpu().numpy()
        deviation = past[..., :c] - past[..., 2 * c : 3 * c]  # (B, W, N, C)
        window = deviation.shape[1]
        observed = past[..., c : 2 * c]
        steps = [deviation[:, -lag] for lag in range(1, n_lags + 1)]
        steps += [deviation.mean(axis=1), past[:, -1, :, :c], past[:, -1, :, 2 * c : 3 * c]]
        steps += [observed.mean(axis=1), observed[:, -1]]
        for mean in means:
            recent = [deviation[:, -lag] for lag in _NEIGHBOUR_LAGS if lag <= window]
            steps += [_mix(mean, values) for values in recent]
        self.past = np.stack(steps, axis=-1)  # (B, N, C, .)
        levels = [ahead[..., k * c : (k + 1) * c] for k in range(3)]
        self.ahead = np.stack(levels, axis=-1)  # (B, H, N, C, 3)
        self.others = past[:, -1, :, 3 * c :]  # (B, N, .)
        self.future = ahead[..., 3 * c :]  # (B, H, N, .)


def _row_means(weights: sparse.csr_array) -> sparse.csr_array:
    """Return weights whose rows sum to 1, or to 0 where there is nobody."""
    total = np.asarray(weights.sum(axis=1)).ravel()
    scale: npt.NDArray[Any] = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    return sparse.csr_array(sparse.diags_array(scale) @ weights)


def _mix(mean: sparse.csr_array, values: FloatArray) -> FloatArray:
    """Return the mean of the neighbours' values (B, N, C)."""
    n_batch, n_nodes, n_targets = values.shape
    columns = values.transpose(1, 0, 2).reshape(n_nodes, -1)
    mixed: FloatArray = (mean @ columns).reshape(n_nodes, n_batch, n_targets).transpose(1, 0, 2)
    return mixed.astype(np.float32)
