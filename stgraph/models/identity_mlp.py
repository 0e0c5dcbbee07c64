"""Node-identity MLP: the window folded into one vector per node, and who the node is."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from stgraph.models.future import KnownFuture
from stgraph.models.layers import DirectHead, ResidualMLP
from stgraph.models.options import ModelOptions
from stgraph.models.sizes import Sizes


class IdentityMLPConfig(ModelOptions):
    """Options of `IdentityMLP`."""

    hidden_size: int = Field(64, ge=1, le=4096)  # state per node
    n_layers: int = Field(3, ge=1, le=32)
    node_embedding_size: int = Field(32, ge=0, le=1024)  # 0 = no identity
    use_future: bool = True  # calendar, profile and other known-future inputs
    dropout: float = Field(0.1, ge=0.0, lt=1.0)


class IdentityMLP(nn.Module):
    """Forecast every node from its own past, its identity and the known future; no graph.

    After STID (Shao et al., CIKM 2022).

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        Not used.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: IdentityMLPConfig) -> None:
        super().__init__()
        self.config = config
        self.use_future = config.use_future and sizes.n_future > 0
        future_size = sizes.n_future if self.use_future else 0
        self.identity = (
            nn.Parameter(0.1 * torch.randn(sizes.n_nodes, config.node_embedding_size))
            if config.node_embedding_size
            else None
        )
        in_size = sizes.window * sizes.n_past + config.node_embedding_size + future_size
        self.fold = nn.Linear(in_size, config.hidden_size)
        self.layers = nn.ModuleList(
            ResidualMLP(config.hidden_size, dropout=config.dropout) for _ in range(config.n_layers)
        )
        self.head = DirectHead(config.hidden_size, horizon=sizes.horizon, n_outputs=sizes.n_outputs)
        self.ahead = KnownFuture(sizes, config.hidden_size) if self.use_future else None

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:  # noqa: ARG002
        """Return all horizons of all nodes."""
        n_batch, _, n_nodes, _ = x.shape
        parts = [x.transpose(1, 2).reshape(n_batch, n_nodes, -1)]  # (B, N, W*F)
        if self.identity is not None:
            parts.append(self.identity.expand(n_batch, -1, -1))
        if self.use_future:
            parts.append(u[:, 0])
        state = self.fold(torch.cat(parts, dim=-1))
        for layer in self.layers:
            state = layer(state)
        forecast: Tensor = self.head(state)
        return forecast if self.ahead is None else forecast + self.ahead(state, u)
