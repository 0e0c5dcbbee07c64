"""How each layer of torch-geometric-temporal is called: the past in, one state per node out.

A layer has its own idea of axes, batches and states. A runner takes it, the past (B, W, N, C) and
the edges, and returns (B, N, D). Windows never see each other: layers that know batches get one,
others a graph of B unconnected copies, and those that mix windows are called once per window.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stgraph.models.graph_operators import per_graph

Edges = tuple[Tensor, Tensor]
Runner = Callable[[Any, Tensor, Edges], Tensor]


@dataclass(frozen=True)
class Copies:
    """Builds the graph of some unconnected copies of a graph, for `per_graph`."""

    n_copies: int

    def __call__(self, edge_index: Tensor, edge_weight: Tensor, n_nodes: int) -> Edges:
        """Return edge index (2, copies * E) and edge weight (copies * E,)."""
        shift = n_nodes * torch.arange(self.n_copies, device=edge_index.device)
        copied = edge_index[:, None] + shift[:, None]  # (2, copies, E)
        return copied.flatten(1), edge_weight.repeat(self.n_copies)


def _copies(edges: Edges, n_copies: int, n_nodes: int) -> Edges:
    """Return the edges of unconnected copies, built once per graph."""
    return per_graph(Copies(n_copies), *edges, n_nodes)


# ------------------------------------------------------------------------------ cells


def _run_cell(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Loop over the steps of all windows as one graph; (H), (H, C) or (out, H, C) comes back."""
    n_batch, window, n_nodes, _ = x.shape
    copied = _copies(edges, n_batch, n_nodes)
    states: list[Tensor] = []
    for step in range(window):
        out = layer(x[:, step].flatten(0, 1), *copied, *states)
        parts = out[-2:] if isinstance(out, tuple) else (out,)
        states = [part.reshape(n_batch * n_nodes, -1) for part in parts]
    return states[0].view(n_batch, n_nodes, -1)


def _run_batched_cell(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Loop over the steps of a cell whose convolutions take a batch, if the state has one."""
    n_states = 2 if "C" in inspect.signature(layer.forward).parameters else 1
    zeros = x.new_zeros(x.shape[0], x.shape[2], layer.out_channels)
    states = [zeros] * n_states
    for step in range(x.shape[1]):
        out = layer(x[:, step], *edges, *states)
        states = list(out) if isinstance(out, tuple) else [out]
    return states[0]


def _run_relational(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Loop over the steps of LRGCN: along the edges is one relation, against them another."""
    edge_index, edge_type = edges[0], torch.zeros_like(edges[0][0])
    if layer.num_relations > 1:
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
        edge_type = torch.cat([edge_type, edge_type + 1])
    n_batch, _, n_nodes, _ = x.shape
    copied = Copies(n_batch)(edge_index, edge_type, n_nodes)
    states: tuple[Tensor, ...] = ()
    for step in range(x.shape[1]):
        states = layer(x[:, step].flatten(0, 1), *copied, *states)
    return states[0].view(n_batch, n_nodes, -1)


def _run_adaptive(layer: Any, x: Tensor, edges: Edges) -> Tensor:  # noqa: ARG001
    """Loop over the steps of AGCRN, which learns its graph from node identities."""
    state: Tensor | None = None
    for step in range(x.shape[1]):
        state = layer(x[:, step], layer.identity, state)
    assert state is not None  # noqa: S101  # a window has a step at least
    return state


def _run_evolving(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Loop over the steps of EvolveGCN, whose weights start anew in every window."""
    n_batch, window, n_nodes, _ = x.shape
    copied = _copies(edges, n_batch, n_nodes)
    layer.weight = None
    for step in range(window):
        out = layer(x[:, step].flatten(0, 1), *copied)
    layer.weight = None  # or it would keep the whole graph of its gradient
    return torch.as_tensor(out).view(n_batch, n_nodes, -1)


# ------------------------------------------------------------------------------ whole windows


def _run_periods(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Call A3TGCN: (B * N, C, W)."""
    n_batch, _, n_nodes, _ = x.shape
    series = x.permute(0, 2, 3, 1).flatten(0, 1)
    out: Tensor = layer(series, *_copies(edges, n_batch, n_nodes))
    return out.view(n_batch, n_nodes, -1)


def _run_batched_periods(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Call A3TGCN2: (B, N, C, W)."""
    out: Tensor = layer(x.permute(0, 2, 3, 1), *edges)
    return out


def _run_unweighted(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Call ASTGCN and MSTGCN: (B, N, C, W) and the edges without weights."""
    out: Tensor = layer(x.permute(0, 2, 3, 1), edges[0])
    return out


def _run_steps(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Call what takes (B, W, N, C) and gives steps back, of which the last counts."""
    out: Tensor = layer(x, *edges)
    return out[:, -1]


def _run_batched_steps(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Call BatchedDCRNN, which keeps the edges of a batch and what it made of them."""
    kept = layer._cached_expanded_edge_weight
    if kept is not None:
        unlearnable = kept.is_inference() and not torch.is_inference_mode_enabled()
        if unlearnable or kept.device != x.device:
            layer._cached_edge_index = None
    return _run_steps(layer, x, edges)


def _run_in_time(layer: Any, x: Tensor, edges: Edges) -> Tensor:  # noqa: ARG001
    """Call TemporalConv, which knows no graph."""
    out: Tensor = layer(x)
    return out[:, -1]


def _run_mpnn(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Call MPNNLSTM: all steps of all windows as one graph."""
    n_batch, window, n_nodes, _ = x.shape
    copied = _copies(edges, n_batch * window, n_nodes)
    out: Tensor = layer(x.flatten(0, 2), *copied)
    return out.view(n_batch, n_nodes, -1)


def _run_mtgnn(layer: Any, x: Tensor, edges: Edges) -> Tensor:
    """Call MTGNN: (B, C, N, W) and a dense matrix, unless it builds its own."""
    n_nodes = x.shape[2]
    matrix = x.new_zeros(n_nodes, n_nodes)
    matrix = matrix.index_put(tuple(edges[0].flip(0)), edges[1].to(x), accumulate=True)
    matrix = matrix / matrix.sum(dim=1, keepdim=True).clamp_min(1e-12)
    out: Tensor = layer(x.permute(0, 3, 2, 1), matrix)  # (B, C_out, N, 1)
    return out[..., -1].transpose(1, 2)


def _run_skeleton(layer: Any, x: Tensor, edges: Edges) -> Tensor:  # noqa: ARG001
    """Call AAGCN: (B, C, W, N); it has its edges from its constructor."""
    out: Tensor = layer(x.permute(0, 3, 1, 2).contiguous())
    return out[:, :, -1].transpose(1, 2)


def _one_by_one(runner: Runner) -> Runner:
    """Return a runner that calls the layer once per window."""

    def run(layer: Any, x: Tensor, edges: Edges) -> Tensor:
        return torch.cat([runner(layer, window, edges) for window in torch.split(x, 1)])

    return run


RUNNERS: dict[str, Runner] = {
    "A3TGCN": _run_periods,
    "A3TGCN2": _run_batched_periods,
    "AAGCN": _run_skeleton,
    "AGCRN": _run_adaptive,
    "ASTGCN": _run_unweighted,
    "BatchedDCRNN": _run_batched_steps,
    "DCRNN": _run_cell,
    "DyGrEncoder": _run_cell,
    "EvolveGCNH": _one_by_one(_run_evolving),
    "EvolveGCNO": _run_evolving,
    "GCLSTM": _run_batched_cell,
    "GConvGRU": _run_batched_cell,
    "GConvLSTM": _run_batched_cell,
    "LRGCN": _run_relational,
    "MPNNLSTM": _run_mpnn,
    "MSTGCN": _one_by_one(_run_unweighted),
    "MTGNN": _run_mtgnn,
    "STConv": _run_steps,
    "TGCN": _run_cell,
    "TGCN2": _run_batched_cell,
    "TemporalConv": _run_in_time,
}

_A_PART = "is a part of other layers, not one that turns a window into states"
CANNOT: dict[str, str] = {
    "ChebConvAttention": _A_PART,
    "DNNTSP": "predicts sets of items, attends over items as if they were steps, and prints",
    "GMAN": "takes one channel, and weekdays and steps of the day as whole numbers",
    "GraphConstructor": _A_PART,
    "HeteroGCLSTM": "takes graphs with several types of nodes",
    "MixProp": _A_PART,
    "SpatioTemporalAttention": _A_PART,
    "SpatioTemporalEmbedding": _A_PART,
}

# what the layers call the channels they take, the first that a constructor has
IN_CHANNELS = ("in_channels", "in_dim", "conv_out_channels")
# what they call the numbers that the task decides
N_NODES = {"num_nodes", "number_of_nodes", "num_of_nodes", "num_of_vertices"}
WINDOW = {"len_input", "periods", "seq_length", "window"}


def adopt(layer: nn.Module, n_nodes: int) -> nn.Module:
    """Return a layer with what it expects from outside as parameters of its own."""
    if type(layer).__name__ == "AGCRN":
        size: int = layer.embedding_dimensions  # type: ignore[assignment]
        layer.register_parameter("identity", nn.Parameter(torch.randn(n_nodes, size)))
    return layer
