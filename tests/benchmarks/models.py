"""Speed of the recurrent layers next to torch-geometric-temporal: same mathematics and weights.

METR-LA's shape: 207 sensors and their adjacency, batches of 64 windows of 12 steps, 32 numbers of
state, float32, 2 threads. Both sides run in this process, taking turns, on the same batch; their
side in its best batched use, one call per step on (B, N, F). Every pair of outputs is compared
first. Ratios are medians of the ratios of neighbouring runs, so that they stand up to a busy
machine. DCRNN is the right operator against theirs, which does not look at edge weights; parity is
on a graph where both are right.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _common import Row, at_least, at_most, main
from peers import peer
from torch import Tensor, nn

from stgraph.allocator import keep_freed_memory
from stgraph.models.graph_operators import Normalised, per_graph
from stgraph.models.recurrent import DCRNN, GCLSTM, TGCN, GConvLSTM, NodeLSTM

WEEK = Path(__file__).resolve().parents[3] / "shared" / "data" / "metr-la-week"
BATCH, STEPS, CHANNELS, HIDDEN, HOPS = 64, 12, 2, 32, 3
GOALS = {"GConvLSTM": (12, 9), "GCLSTM": (10, 6), "T-GCN": (8, 5), "DCRNN": (7, 5)}

Run = Callable[[], Any]


def measure(quick: bool) -> list[Row]:
    """Return parity and ratios of every layer."""
    torch.set_num_threads(2)
    keep_freed_memory()
    torch.manual_seed(0)
    n_runs = 2 if quick else 7
    edges = _metr_la()
    x = torch.randn(BATCH, STEPS, 207, CHANNELS)
    theirs = peer("torch_geometric_temporal.nn.recurrent")
    pairs: dict[str, tuple[nn.Module, nn.Module]] = {
        "GConvLSTM": (GConvLSTM(CHANNELS, HIDDEN, HOPS), theirs.GConvLSTM(CHANNELS, HIDDEN, HOPS)),
        "GCLSTM": (GCLSTM(CHANNELS, HIDDEN, HOPS), theirs.GCLSTM(CHANNELS, HIDDEN, HOPS)),
        "T-GCN": (TGCN(CHANNELS, HIDDEN), theirs.TGCN2(CHANNELS, HIDDEN, BATCH)),
        "DCRNN": (DCRNN(CHANNELS, HIDDEN, HOPS), theirs.BatchedDCRNN(CHANNELS, HIDDEN, HOPS)),
    }
    rows: list[Row] = []
    for name, (our_layer, their_layer) in pairs.items():
        our_layer.load_state_dict(their_layer.state_dict())
        ours, other = _ours(our_layer), _theirs(name, their_layer)
        same_for_both = _ring() if name == "DCRNN" else edges
        with torch.no_grad():
            gap = (ours(x, *same_for_both) - other(x, *same_for_both)).abs().max()
        rows.append(at_most(f"{name}: difference of outputs", float(gap), "", 1e-5))
        forward, training = GOALS[name]
        rows += _compare(f"{name}: forward", ours, other, (x, *edges), n_runs, forward, train=False)
        rows += _compare(
            f"{name}: training", ours, other, (x, *edges), n_runs, training, train=True
        )
    other = _theirs("GConvLSTM", pairs["GConvLSTM"][1])
    outside, of_torch = _Outside(), _OutsideOfTorch()
    outside.load_state_dict(of_torch.state_dict())
    gap = (outside(x, *edges) - of_torch(x, *edges)).abs().max()
    rows.append(at_most("GCN outside: difference to nn.LSTM", float(gap.detach()), "", 1e-5))
    name = "GCN outside, then an LSTM, against their GConvLSTM: training"
    rows += _compare(name, outside, other, (x, *edges), n_runs, 15, train=True)
    name = "GCN outside: training, theirs being nn.LSTM"
    return rows + _compare(name, outside, of_torch, (x, *edges), n_runs, None, train=True)


def _compare(
    name: str,
    ours: Callable[..., Tensor],
    theirs: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    n_runs: int,
    goal: float | None,
    *,
    train: bool,
) -> list[Row]:
    """Return windows per second of both sides, taking turns, and how many times ours are theirs."""

    def run(layer: Callable[..., Tensor]) -> None:
        with torch.set_grad_enabled(train):
            out = layer(*inputs)
            if train:
                out.square().mean().backward()

    times: list[tuple[float, float]] = []
    for turn in range(n_runs + 1):
        once = (_seconds(lambda: run(theirs)), _seconds(lambda: run(ours)))
        if turn:  # the first warms up
            times.append(once)
    ratio = median(t / o for t, o in times)
    what = f"{name}, times theirs"
    return [
        Row(f"{name}, theirs", BATCH / median(t for t, _ in times), "windows/s"),
        Row(f"{name}, ours", BATCH / median(o for _, o in times), "windows/s"),
        Row(what, ratio, "x") if goal is None else at_least(what, ratio, "x", goal),
    ]


def _seconds(run: Run) -> float:
    """Return how long a run takes; the processor's time on request, for a machine that is busy."""
    clock = time.process_time if os.environ.get("STGRAPH_CPU_TIME") else time.perf_counter
    began = clock()
    run()
    return clock() - began


# ------------------------------------------------------------------------------ both sides


def _ours(layer: nn.Module) -> Callable[..., Tensor]:
    """Return what gives the last hidden state (B, N, D)."""

    def last(x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        out: Tensor = layer(x, edge_index, edge_weight)[0][:, -1]
        return out

    return last


def _theirs(name: str, layer: nn.Module) -> Callable[..., Tensor]:
    """Return what gives the last hidden state (B, N, D), one call per step on all windows."""

    def last(x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        if name == "DCRNN":
            out: Tensor = layer(x, edge_index, edge_weight)[:, -1]
            return out
        zeros = x.new_zeros(len(x), x.shape[2], HIDDEN)
        h, c = zeros, zeros
        for t in range(x.shape[1]):
            if name == "T-GCN":
                h = layer(x[:, t], edge_index, edge_weight, h)
            else:
                h, c = layer(x[:, t], edge_index, edge_weight, h, c)
        return h

    return last


class _Outside(nn.Module):
    """Graph-mixed inputs into an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = NodeLSTM(2 * CHANNELS, HIDDEN)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return the last hidden state (B, N, D)."""
        graph = per_graph(Normalised(identity=True), edge_index, edge_weight, x.shape[2])
        mixed = graph.mix(x.flatten(0, 1)).view(*x.shape[:3], -1)
        last: Tensor = self.run(mixed)
        return last

    def run(self, mixed: Tensor) -> Tensor:
        """Return the last hidden state from (B, T, N, F)."""
        last: Tensor = self.lstm(mixed)
        return last


class _OutsideOfTorch(_Outside):
    """The same by torch's LSTM, time first: batch first costs it a copy of all states."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2 * CHANNELS, HIDDEN)  # type: ignore[assignment]

    def run(self, mixed: Tensor) -> Tensor:
        """Return the last hidden state from (B, T, N, F)."""
        n_batch, n_steps, n_nodes, size = mixed.shape
        series = mixed.permute(1, 2, 0, 3).reshape(n_steps, n_nodes * n_batch, size)
        last: Tensor = self.lstm(series)[1][0][0].view(n_nodes, n_batch, -1)
        return last.transpose(0, 1)


def _metr_la() -> tuple[Tensor, Tensor]:
    """Return the edges of METR-LA, or as many at random where the data is not at hand."""
    if (WEEK / "adj_mx.npz").exists():
        adjacency = np.load(WEEK / "adj_mx.npz")["adj"]
    else:
        print("no data at hand: a random graph of METR-LA's size", file=sys.stderr)
        random = np.random.default_rng(0)
        adjacency = random.random((207, 207)) * (random.random((207, 207)) < 1722 / 207**2)
    source, target = np.nonzero(adjacency)
    weight = torch.tensor(adjacency[source, target], dtype=torch.float32)
    return torch.tensor(np.stack([source, target])), weight


def _ring() -> tuple[Tensor, Tensor]:
    """Return a ring of 207 nodes with weights of 1, where their diffusion is right."""
    nodes = torch.arange(207)
    return torch.stack([nodes, (nodes + 1) % 207]), torch.ones(207)


if __name__ == "__main__":
    main(__doc__ or "", measure)
