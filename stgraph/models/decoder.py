"""What every family ends with: who the node is, what is known ahead, neighbours, all horizons."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stgraph.models.fusion import build_fusion
from stgraph.models.graph_operators import DiffusionMix
from stgraph.models.layers import DirectHead, ResidualMLP
from stgraph.models.options import DecoderOptions
from stgraph.models.sizes import Sizes


class Decoder(nn.Module):
    """Turn one encoded past per node into the forecast of all horizons.

    The encoded past is fused with node identity (STID, Shao et al., CIKM 2022) and the known
    future, mixed with neighbours by diffusion both ways (DCRNN, Li et al., ICLR 2018) and a learned
    low-rank adjacency, and read out for all horizons at once.

    Shapes
    ------
    input
        `encoded` (B, N, `in_size`), `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, options: DecoderOptions, *, in_size: int) -> None:
        super().__init__()
        hidden = options.hidden_size
        parts = [in_size]
        self.identity: nn.Parameter | None = None
        if options.node_embedding_size:
            start = 0.1 * torch.randn(sizes.n_nodes, options.node_embedding_size)
            self.identity = nn.Parameter(start)
            parts.append(options.node_embedding_size)
        self.use_future = options.use_future and sizes.n_future > 0
        if self.use_future:
            parts.append(sizes.horizon * sizes.n_future)
        self.fuse = build_fusion(options.fusion, parts, hidden)
        mixes = [
            DiffusionMix(sizes.n_nodes, n_hops=options.n_hops, adaptive_rank=options.adaptive_rank)
            for _ in range(options.n_graph_layers)
        ]
        self.mixes = nn.ModuleList(mixes)
        self.updates = nn.ModuleList(
            ResidualMLP(hidden, in_size=hidden * mix.n_supports, dropout=options.dropout)
            for mix in mixes
        )
        self.refine = ResidualMLP(hidden, dropout=options.dropout)
        self.head = DirectHead(hidden, horizon=sizes.horizon, n_outputs=sizes.n_outputs)

    def forward(
        self, encoded: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor
    ) -> Tensor:
        """Return all horizons of all nodes."""
        n_batch, n_nodes, _ = encoded.shape
        parts = [encoded]
        if self.identity is not None:
            parts.append(self.identity.expand(n_batch, -1, -1))
        if self.use_future:
            parts.append(u.transpose(1, 2).reshape(n_batch, n_nodes, -1))  # (B, N, H*K)
        state = self.fuse(parts)
        for mix, update in zip(self.mixes, self.updates, strict=True):
            state = update(state, mix(state, edge_index, edge_weight))
        forecast: Tensor = self.head(self.refine(state))
        return forecast
