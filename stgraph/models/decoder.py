"""What every family ends with: who the node is, what is known ahead, neighbours, all horizons."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stgraph.models.fusion import build_fusion
from stgraph.models.future import KnownFuture
from stgraph.models.graph_operators import DiffusionMix
from stgraph.models.layers import DirectHead, ResidualMLP
from stgraph.models.options import DecoderOptions
from stgraph.models.sizes import Sizes


class Decoder(nn.Module):
    """Turn one encoded past per node into the forecast of all horizons.

    The encoded past is fused with node identity (STID, Shao et al., CIKM 2022) and what is known of
    the first step ahead, mixed with neighbours by diffusion both ways (DCRNN, Li et al., ICLR 2018)
    and a learned low-rank adjacency, and read out for all horizons at once. The known future of
    each step joins at the end, in the order of time: what is known of a step moves no forecast
    before it.

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
            parts.append(sizes.n_future)
        self.fuse = build_fusion(options.fusion, parts, hidden)
        mixes = [
            DiffusionMix(
                sizes.n_nodes,
                n_hops=options.n_hops,
                adaptive_rank=options.adaptive_rank,
                convolution=options.convolution,
            )
            for _ in range(options.n_graph_layers)
        ]
        self.mixes = nn.ModuleList(mixes)
        self.updates = nn.ModuleList(
            ResidualMLP(hidden, in_size=hidden * mix.n_supports, dropout=options.dropout)
            for mix in mixes
        )
        self.refine = ResidualMLP(hidden, dropout=options.dropout)
        self.head = DirectHead(hidden, horizon=sizes.horizon, n_outputs=sizes.n_outputs)
        self.ahead = KnownFuture(sizes, hidden) if self.use_future else None

    def forward(
        self, encoded: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor
    ) -> Tensor:
        """Return all horizons of all nodes."""
        n_batch = len(encoded)
        parts = [encoded]
        if self.identity is not None:
            parts.append(self.identity.expand(n_batch, -1, -1))
        if self.use_future:
            parts.append(u[:, 0])  # all forecasts may know of the first step, when it is at least
        state = self.fuse(parts)
        for mix, update in zip(self.mixes, self.updates, strict=True):
            state = update(state, mix(state, edge_index, edge_weight))
        state = self.refine(state)
        forecast: Tensor = self.head(state)
        return forecast if self.ahead is None else forecast + self.ahead(state, u)
