"""Graph convolution inside the recurrence: GConvLSTM, GC-LSTM, T-GCN, DCRNN, A3T-GCN over windows.

Equations and names of parameters (but A3T-GCN's) are those of torch-geometric-temporal, so weights
load both ways.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stgraph.models.graph_operators import Chebyshev, Diffusion, Normalised, Supports, per_graph
from stgraph.models.recurrent.gru import run_gru
from stgraph.models.recurrent.lstm import run_lstm
from stgraph.models.recurrent.memory import Memory


class ChebyshevWeights(nn.Module):
    """Weights of a Chebyshev convolution, named as those of `torch_geometric.nn.ChebConv`."""

    def __init__(self, in_channels: int, out_channels: int, K: int, *, bias: bool) -> None:
        super().__init__()
        self.lins = nn.ModuleList(_linear(in_channels, out_channels) for _ in range(K))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def matrix(self) -> Tensor:
        """Return (out, K * in)."""
        return torch.cat([lin.get_parameter("weight") for lin in self.lins], dim=1)


class GCNWeights(nn.Module):
    """Weights of a graph convolution, named as those of `torch_geometric.nn.GCNConv`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.lin = _linear(in_channels, out_channels)


class DiffusionWeights(nn.Module):
    """Weights of a diffusion convolution, named as those of `DConv` of the other package."""

    def __init__(self, in_channels: int, out_channels: int, K: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, K, in_channels, out_channels))
        nn.init.xavier_uniform_(self.weight)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None


class GConvLSTM(nn.Module):
    """LSTM with peepholes whose gates are Chebyshev convolutions (Seo et al., ICONIP 2018).

    With `bounded` they do not grow on graphs of one-way streets, see `Chebyshev`.

    Shapes
    ------
    input
        `x` (B, T, N, `in_channels`), optional state (H, C), (B, N, `out_channels`) each.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        Hidden states of all steps (B, T, N, `out_channels`), and the last state (H, C).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        K: int,
        *,
        bias: bool = True,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.K = in_channels, out_channels, K
        self._kind = Chebyshev(K, identity=False, bounded=bounded)
        for gate in "ifco":
            conv_x = ChebyshevWeights(in_channels, out_channels, K, bias=bias)
            conv_h = ChebyshevWeights(out_channels, out_channels, K, bias=bias)
            self.add_module(f"conv_x_{gate}", conv_x)
            self.add_module(f"conv_h_{gate}", conv_h)
            if gate != "c":
                peephole = nn.init.xavier_uniform_(torch.empty(1, out_channels))
                self.register_parameter(f"w_c_{gate}", nn.Parameter(peephole))
            self.register_parameter(f"b_{gate}", nn.Parameter(torch.zeros(1, out_channels)))

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return hidden states of all steps and the last state."""
        graph = _graph(self._kind, edge_index, edge_weight, x.shape[2])
        parts = []
        for gate in "ifoc":
            conv_x, conv_h = getattr(self, f"conv_x_{gate}"), getattr(self, f"conv_h_{gate}")
            biases = [b for b in (conv_x.bias, conv_h.bias) if b is not None]
            bias = functools.reduce(torch.add, biases, getattr(self, f"b_{gate}")[0])
            parts.append(torch.cat([bias[:, None], conv_x.matrix(), conv_h.matrix()], dim=1))
        peepholes = torch.cat([self.get_parameter(f"w_c_{gate}") for gate in "ifo"])
        return _lstm(torch.cat(parts), peepholes, x, graph, graph, state)


class GCLSTM(nn.Module):
    """LSTM whose gates see the hidden state through Chebyshev convolutions (Chen et al., 2018).

    Shapes, and `bounded`: as `GConvLSTM`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        K: int,
        *,
        bias: bool = True,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.K = in_channels, out_channels, K
        self._kind = Chebyshev(K, identity=False, bounded=bounded)
        for gate in "ifco":
            conv = ChebyshevWeights(out_channels, out_channels, K, bias=bias)
            self.add_module(f"conv_{gate}", conv)
            weight = nn.init.xavier_uniform_(torch.empty(in_channels, out_channels))
            self.register_parameter(f"W_{gate}", nn.Parameter(weight))
            self.register_parameter(f"b_{gate}", nn.Parameter(torch.zeros(1, out_channels)))

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return hidden states of all steps and the last state."""
        graph = _graph(self._kind, edge_index, edge_weight, x.shape[2])
        parts = []
        for gate in "ifoc":
            conv = getattr(self, f"conv_{gate}")
            bias = getattr(self, f"b_{gate}")[0]
            bias = bias if conv.bias is None else bias + conv.bias
            parts += [torch.cat([bias[:, None], getattr(self, f"W_{gate}").T, conv.matrix()], 1)]
        return _lstm(torch.cat(parts), None, x, None, graph, state)


class TGCN(nn.Module):
    """GRU over graph-convolved inputs (Zhao et al., T-GCN, IEEE T-ITS 2020).

    Shapes
    ------
    input
        `x` (B, T, N, `in_channels`), optional state H (B, N, `out_channels`).
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        Hidden states of all steps (B, T, N, `out_channels`), and the last one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        improved: bool = False,
        add_self_loops: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self._kind = Normalised(loop=(2.0 if improved else 1.0) if add_self_loops else 0.0)
        for gate in "zrh":
            self.add_module(f"conv_{gate}", GCNWeights(in_channels, out_channels))
            self.add_module(f"linear_{gate}", nn.Linear(2 * out_channels, out_channels))

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return hidden states of all steps and the last one."""
        graph = _graph(self._kind, edge_index, edge_weight, x.shape[2])
        parts = []
        for gate in "zrh":
            conv, linear = getattr(self, f"conv_{gate}"), getattr(self, f"linear_{gate}")
            of_x, of_h = linear.weight.split(self.out_channels, dim=1)
            bias = of_x @ conv.bias + linear.bias
            parts.append(torch.cat([bias[:, None], of_x @ conv.lin.weight, of_h], dim=1))
        return _gru(parts, x, graph, None, state, only_mixed=True)


class DCRNN(nn.Module):
    """GRU whose gates are diffusion convolutions both ways (Li et al., ICLR 2018).

    Walks go along and against the edges by their weights, and degrees are those of the way walked.
    Powers above the first follow the Chebyshev recursion, as in the code of the paper's authors.

    Shapes: as `TGCN`.
    """

    def __init__(self, in_channels: int, out_channels: int, K: int, *, bias: bool = True) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.K = in_channels, out_channels, K
        for gate in "zrh":
            conv = DiffusionWeights(in_channels + out_channels, out_channels, K, bias=bias)
            self.add_module(f"conv_x_{gate}", conv)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return hidden states of all steps and the last one."""
        kind = Diffusion(self.K - 1, series="chebyshev", spreading=True)
        graph = _graph(kind, edge_index, edge_weight, x.shape[2])
        parts = [self._rows(getattr(self, f"conv_x_{gate}")) for gate in "zrh"]
        return _gru(parts, x, graph, graph, state)

    def _rows(self, conv: DiffusionWeights) -> Tensor:
        """Return one gate's weights as (out, 1 + S * in + S * out)."""
        given = conv.weight
        both = given[:, 0].sum(dim=0, keepdim=True)  # no hop is the same both ways
        whole = torch.cat([both, given[:, 1:].flatten(0, 1)])  # (S, in + out, out)
        of_x, of_h = whole[:, : self.in_channels], whole[:, self.in_channels :]
        bias = given.new_zeros(self.out_channels) if conv.bias is None else conv.bias
        columns = [bias[None], of_x.flatten(0, 1), of_h.flatten(0, 1)]
        return torch.cat(columns).T


class A3TGCN(nn.Module):
    """Attention over the hidden states of a T-GCN (Bai et al., A3T-GCN, ISPRS IJGI 2021).

    A perceptron scores each node's hidden state at each step, and the softmax over time of the
    scores weighs them; the authors' code scores all nodes together, by the square of a linear map.
    The layer of that name in torch-geometric-temporal gives each step the same empty state, so that
    the order of time does not matter to it; this one is recurrent.

    Shapes
    ------
    input
        `x` (B, T, N, `in_channels`).
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        Weighted hidden state (B, N, `out_channels`).
    """

    def __init__(self, in_channels: int, out_channels: int, *, improved: bool = False) -> None:
        super().__init__()
        self.cell = TGCN(in_channels, out_channels, improved=improved)
        self.score = nn.Sequential(
            nn.Linear(out_channels, out_channels),
            nn.Tanh(),
            nn.Linear(out_channels, 1, bias=False),  # a constant would move no weight
        )

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Return the weighted hidden state."""
        states, _ = self.cell(x, edge_index, edge_weight)
        return self.attend(states)

    def attend(self, states: Tensor) -> Tensor:
        """Return the mean of hidden states (B, T, N, C) over time, weighted by their scores."""
        weight = self.score(states).softmax(dim=1)
        out: Tensor = (weight * states).sum(dim=1)
        return out


def _linear(in_channels: int, out_channels: int) -> nn.Linear:
    """Return a linear map without bias, initialised as that of graph convolutions."""
    linear = nn.Linear(in_channels, out_channels, bias=False)
    nn.init.xavier_uniform_(linear.weight)
    return linear


def _graph(
    kind: Chebyshev | Diffusion | Normalised,
    edge_index: Tensor,
    edge_weight: Tensor | None,
    n_nodes: int,
) -> Supports:
    """Return the supports of a graph, built once; without weights all edges weigh 1."""
    if edge_weight is None:
        return per_graph(_Unweighted(kind), edge_index, edge_index, n_nodes)
    return per_graph(kind, edge_index, edge_weight, n_nodes)


@dataclass(frozen=True)
class _Unweighted:
    """A kind of supports on a graph where all edges weigh 1."""

    kind: Chebyshev | Diffusion | Normalised

    def __call__(self, edge_index: Tensor, _: Tensor, n_nodes: int) -> Supports:
        """Return the supports of a graph."""
        return self.kind(edge_index, torch.ones(edge_index.shape[1]), n_nodes)


def _lstm(
    weight: Tensor,
    peepholes: Tensor | None,
    x: Tensor,
    input_graph: Supports | None,
    state_graph: Supports,
    state: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run an LSTM over (B, T, N, F)."""
    n_batch, _, n_nodes, _ = x.shape
    memory = Memory(state_graph, n_nodes, n_batch)
    dtype = _dtype(x, weight)
    with torch.autocast(x.device.type, enabled=False):
        rows = _rows(x.to(dtype), input_graph)
        start = None if state is None else (_columns(state[0], dtype), _columns(state[1], dtype))
        holes = None if peepholes is None else peepholes.to(dtype)
        out, h, c = run_lstm(weight.to(dtype), holes, rows, start, memory)
    shape = (-1, n_nodes, n_batch)
    last = (h.view(shape).permute(2, 1, 0), c.view(shape).permute(2, 1, 0))
    return out.view(len(out), *shape).permute(3, 0, 2, 1), last


def _gru(
    parts: list[Tensor],
    x: Tensor,
    input_graph: Supports,
    state_graph: Supports | None,
    state: Tensor | None,
    *,
    only_mixed: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run a GRU over (B, T, N, F)."""
    n_batch, _, n_nodes, _ = x.shape
    memory = Memory(state_graph, n_nodes, n_batch)
    dtype = _dtype(x, parts[0])
    with torch.autocast(x.device.type, enabled=False):
        rows = _rows(x.to(dtype), input_graph, only_mixed=only_mixed)
        start = None if state is None else _columns(state, dtype)
        weight, candidate = torch.cat(parts[:2]).to(dtype), parts[2].to(dtype)
        out, h = run_gru(weight, candidate, rows, start, memory)
    shape = (-1, n_nodes, n_batch)
    return out.view(len(out), *shape).permute(3, 0, 2, 1), h.view(shape).permute(2, 1, 0)


def _dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """Return the type to compute in: mixed precision pays on GPUs only."""
    if x.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return weight.dtype


def _rows(x: Tensor, graph: Supports | None, *, only_mixed: bool = False) -> Tensor:
    """Return what the gates see of the inputs: ones, inputs, mixed inputs; (T, R, N * B)."""
    n_batch, n_steps, n_nodes, size = x.shape
    lying = x.permute(1, 3, 2, 0)  # (T, F, N, B)
    parts = [x.new_ones(n_steps, 1, n_nodes, n_batch)]
    if not only_mixed:
        parts.append(lying)
    if graph is not None and graph.n_supports:
        mixed = graph(x.permute(2, 1, 3, 0).reshape(n_nodes, -1))  # (S, N, T * F * B)
        mixed = mixed.view(graph.n_supports, n_nodes, n_steps, size, n_batch)
        parts.append(mixed.permute(2, 0, 3, 1, 4).flatten(1, 2))  # (T, S * F, N, B)
    return torch.cat(parts, dim=1).flatten(2)


def _columns(state: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a state (B, N, D) feature first, (D, N * B)."""
    return state.to(dtype).permute(2, 1, 0).flatten(1)
