"""Graph Transformer: attention over time and over space, told by the graph who is near whom."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from stgraph.models.attention import FeedForward, SpaceAttention, TimeAttention
from stgraph.models.decoder import Decoder
from stgraph.models.graph_operators import per_graph
from stgraph.models.options import DecoderOptions, check_heads
from stgraph.models.sizes import Sizes
from stgraph.models.structure import Distance, Pairs, Places, Reach


class GraphTransformerConfig(DecoderOptions):
    """Options of `GraphTransformer`."""

    temporal: Literal["fold", "attention"] = "fold"  # the window as one vector, or as tokens
    n_layers: int = Field(2, ge=1, le=16)  # rounds of attention over space
    n_temporal_layers: int = Field(1, ge=1, le=16)  # rounds of attention over time
    n_heads: int = Field(4, ge=1, le=64)
    n_tokens: int = Field(16, ge=0, le=1024)  # pooled from all nodes; 0: none
    structure_bias: Distance = "paths"
    n_walk_steps: int = Field(16, ge=0, le=64)  # random-walk encoding; 0: none
    n_eigenvectors: int = Field(0, ge=0, le=256)  # Laplacian encoding
    identity_dropout: float = Field(0.0, ge=0.0, lt=1.0)  # nodes without identity in training
    local_above: int = Field(1000, ge=0, le=2000)  # nodes; then neighbours and tokens only

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        check_heads("hidden_size", self.hidden_size, self.n_heads)
        return self


class GraphTransformer(nn.Module):
    """Forecast every node from what it attends to, in time and in space.

    The embeddings and the order, time before space, are those of STAEformer (Liu et al., CIKM
    2023); scores over space are biased by the length of paths both ways (Graphormer, Ying et al.,
    NeurIPS 2021), and random walks say where in the graph a node is (LSPE, Dwivedi et al., ICLR
    2022). Without node identities (``node_embedding_size=0, adaptive_rank=0``) nothing belongs to a
    node, and the model runs on another graph.

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: GraphTransformerConfig) -> None:
        super().__init__()
        self.config = config
        hidden, n_identity = config.hidden_size, config.node_embedding_size
        self.n_time = sizes.n_future if config.use_future else 0
        self.past = _Past(sizes, config)
        self.now = nn.Linear(self.n_time, hidden, bias=False) if self.n_time else None
        self.identity: nn.Parameter | None = None
        if n_identity:
            self.identity = nn.Parameter(0.1 * torch.randn(sizes.n_nodes, n_identity))
            self.who = nn.Linear(n_identity, hidden, bias=False)
        self._places = Places(config.n_walk_steps, config.n_eigenvectors)
        self.where = nn.Sequential(
            nn.Linear(self._places.size, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(hidden)
        # the identity comes with the encoded past, so that it can be left out in both places
        without = config.model_copy(update={"node_embedding_size": 0})
        self.decoder = Decoder(sizes, without, in_size=hidden + n_identity)
        self._reach = Reach(config.structure_bias, config.local_above)

    @property
    def can_forget(self) -> frozenset[str]:
        """Names of parameters per node that the model has learned to do without."""
        return frozenset({"identity"} if self.config.identity_dropout else ())

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        n_batch, _, n_nodes, _ = x.shape
        context = self.where(self._where(edge_index, edge_weight, n_nodes, x)).expand(
            n_batch, -1, -1
        )
        if self.now is not None:
            context = context + self.now(u[:, 0])
        identity = self._who(n_batch, n_nodes)
        if identity is not None:
            context = context + self.who(identity)
        state = self.past(x, context)
        pairs = per_graph(self._reach, edge_index, edge_weight, n_nodes)
        for layer in self.layers:
            state = layer(state, pairs)
        encoded = self.norm(state)
        if identity is not None:
            encoded = torch.cat([encoded, identity.to(encoded.dtype)], dim=-1)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast

    def _who(self, n_batch: int, n_nodes: int) -> Tensor | None:
        """Return who every node is, (B, N, E), in training nobody here and there."""
        if self.identity is None:
            return None
        who = self.identity.expand(n_batch, -1, -1)
        if self.training and self.config.identity_dropout:
            kept = torch.rand(n_batch, n_nodes, 1, device=who.device)
            who = who * (kept >= self.config.identity_dropout)
        return who

    def _where(self, edge_index: Tensor, edge_weight: Tensor, n_nodes: int, like: Tensor) -> Tensor:
        """Return where in the graph every node is, (N, S); signs of eigenvectors are by chance."""
        code = per_graph(self._places, edge_index, edge_weight, n_nodes).to(like.dtype)
        n_vectors = self.config.n_eigenvectors
        if self.training and n_vectors:
            signs = torch.ones(code.shape[1], device=code.device, dtype=code.dtype)
            signs[-n_vectors:] -= 2 * (torch.rand(n_vectors, device=code.device) < 0.5)
            code = code * signs
        return code


class _Layer(nn.Module):
    """One round of attention over space: (B, N, D) -> (B, N, D)."""

    def __init__(self, config: GraphTransformerConfig) -> None:
        super().__init__()
        self.attend = SpaceAttention(
            config.hidden_size,
            n_heads=config.n_heads,
            n_tokens=config.n_tokens,
            bias=config.structure_bias,
            dropout=config.dropout,
        )
        self.feed_forward = FeedForward(config.hidden_size, dropout=config.dropout)

    def forward(self, state: Tensor, pairs: Pairs) -> Tensor:
        """Return the new states."""
        out: Tensor = self.feed_forward(self.attend(state, pairs))
        return out


class _Past(nn.Module):
    """One state per node from its window: (B, W, N, F), (B, N, D) -> (B, N, D)."""

    def __init__(self, sizes: Sizes, config: GraphTransformerConfig) -> None:
        super().__init__()
        hidden, window = config.hidden_size, sizes.window
        self.layers: nn.ModuleList | None = None
        if config.temporal == "fold":
            self.fold = nn.Linear(window * sizes.n_past, hidden)
            self.refine = FeedForward(hidden, dropout=config.dropout)
            return
        self.value = nn.Linear(sizes.n_past, hidden)
        self.position = nn.Parameter(0.1 * torch.randn(window, hidden))
        self.layers = nn.ModuleList(
            nn.Sequential(
                TimeAttention(hidden, n_heads=config.n_heads, dropout=config.dropout),
                FeedForward(hidden, dropout=config.dropout),
            )
            for _ in range(config.n_temporal_layers)
        )
        self.fold = nn.Linear(window * hidden, hidden)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return one state per node."""
        n_batch, _, n_nodes, _ = x.shape
        past = x.transpose(1, 2)  # (B, N, W, F)
        if self.layers is None:
            state: Tensor = self.refine(self.fold(past.flatten(2)) + context)
            return state
        steps = self.value(past) + self.position + context[:, :, None]
        steps = steps.flatten(0, 1)  # (B * N, W, D)
        for layer in self.layers:
            steps = layer(steps)
        folded: Tensor = self.fold(steps.flatten(1)).unflatten(0, (n_batch, n_nodes))
        return folded + context
