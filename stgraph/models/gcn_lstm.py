"""GCN-LSTM: an LSTM over time for every node, then diffusion over the graph, then all horizons."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from stgraph.models.layers import DiffusionMix, DirectHead, ResidualMLP
from stgraph.models.sizes import Sizes


class GCNLSTMConfig(BaseModel):
    """Options of `GCNLSTM`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden_size: int = Field(64, ge=1, le=4096)  # state per node
    n_lstm_layers: int = Field(1, ge=1, le=8)
    n_graph_layers: int = Field(2, ge=0, le=16)
    n_hops: int = Field(2, ge=1, le=8)  # diffusion steps per graph layer, each way
    adaptive_rank: int = Field(10, ge=0, le=256)  # learned adjacency; 0 = the given graph only
    node_embedding_size: int = Field(32, ge=0, le=1024)  # node identity; 0 = none (inductive)
    use_future: bool = True  # calendar, profile and other known-future inputs
    dropout: float = Field(0.1, ge=0.0, lt=1.0)


class GCNLSTM(nn.Module):
    """Forecast every node from its own past, its neighbours and the known future.

    Time first, then space: the form that Cini et al. (SGP, AAAI 2023) and Torch-MTS found best per
    second, with node identity (STID, CIKM 2022) and diffusion both ways (DCRNN, ICLR 2018).

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: GCNLSTMConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.lstm = nn.LSTM(sizes.n_past, hidden, num_layers=config.n_lstm_layers, batch_first=True)
        self.identity = (
            nn.Parameter(0.1 * torch.randn(sizes.n_nodes, config.node_embedding_size))
            if config.node_embedding_size
            else None
        )
        self.use_future = config.use_future and sizes.n_future > 0
        future_size = sizes.horizon * sizes.n_future if self.use_future else 0
        self.fuse = nn.Linear(hidden + config.node_embedding_size + future_size, hidden)
        mixes = [
            DiffusionMix(sizes.n_nodes, n_hops=config.n_hops, adaptive_rank=config.adaptive_rank)
            for _ in range(config.n_graph_layers)
        ]
        self.mixes = nn.ModuleList(mixes)
        self.updates = nn.ModuleList(
            ResidualMLP(hidden, in_size=hidden * mix.n_supports, dropout=config.dropout)
            for mix in mixes
        )
        self.refine = ResidualMLP(hidden, dropout=config.dropout)
        self.head = DirectHead(hidden, horizon=sizes.horizon, n_outputs=sizes.n_outputs)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        n_batch, window, n_nodes, n_past = x.shape
        series = x.transpose(1, 2).reshape(n_batch * n_nodes, window, n_past)
        out, _ = self.lstm(series)
        parts = [out[:, -1].view(n_batch, n_nodes, -1)]  # (B, N, D)
        if self.identity is not None:
            parts.append(self.identity.expand(n_batch, -1, -1))
        if self.use_future:
            parts.append(u.transpose(1, 2).reshape(n_batch, n_nodes, -1))  # (B, N, H*K)
        state = self.fuse(torch.cat(parts, dim=-1))
        for mix, update in zip(self.mixes, self.updates, strict=True):
            state = update(state, mix(state, edge_index, edge_weight))
        forecast: Tensor = self.head(self.refine(state))
        return forecast
