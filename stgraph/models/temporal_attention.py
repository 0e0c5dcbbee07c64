"""Temporal attention: self-attention over each node's window, read out at the last step."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.sizes import Sizes


class TemporalAttentionConfig(DecoderOptions):
    """Options of `TemporalAttention`."""

    n_channels: int = Field(32, ge=1, le=4096)  # of every step's token
    n_heads: int = Field(4, ge=1, le=64)
    n_attention_layers: int = Field(2, ge=1, le=32)

    @model_validator(mode="after")
    def _heads_divide(self) -> TemporalAttentionConfig:
        """Refuse channels that cannot be shared out among the heads."""
        if self.n_channels % self.n_heads:
            raise ValueError(
                f"`n_channels` {self.n_channels} is no multiple of `n_heads` {self.n_heads}; "
                "choose numbers that divide"
            )
        return self


class TemporalAttention(nn.Module):
    """Forecast every node from the steps of its past that matter, neighbours, the known future.

    An encoder of the Transformer (Vaswani et al., 2017; pre-norm) over the steps of the window,
    shared by nodes. What a step is told of time is how long ago it was. Only the last step is read
    out, so only its query is computed in the last layer.

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: TemporalAttentionConfig) -> None:
        super().__init__()
        self.config = config
        size = config.n_channels
        self.embed = nn.Linear(sizes.n_past, size)
        self.age = nn.Parameter(0.1 * torch.randn(sizes.window, size))
        self.layers = nn.ModuleList(
            _Layer(size, n_heads=config.n_heads, dropout=config.dropout)
            for _ in range(config.n_attention_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.decoder = Decoder(sizes, config, in_size=size)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        series = x.permute(0, 2, 1, 3).flatten(0, 1)  # (B * N, W, F)
        tokens = self.embed(series) + self.age
        for number, layer in enumerate(self.layers, start=1):
            tokens = layer(tokens, only_last=number == len(self.layers))
        encoded = self.norm(tokens[:, -1]).view(len(x), x.shape[2], -1)  # (B, N, C)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast


class _Layer(nn.Module):
    """Attention of all steps, or of the last one alone, to all steps; then a perceptron."""

    def __init__(self, size: int, *, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size)
        self.out = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)
        self.feed = nn.Sequential(
            nn.LayerNorm(size),
            nn.Linear(size, 2 * size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * size, size),
        )

    def forward(self, tokens: Tensor, *, only_last: bool) -> Tensor:
        """Return the tokens (M, W, D), or the last one (M, 1, D)."""
        normal = self.norm(tokens)
        if only_last:
            tokens = tokens[:, -1:]
        query = self._heads(self.query(normal[:, -1:] if only_last else normal))
        key, value = self.key_value(normal).chunk(2, dim=-1)
        seen = functional.scaled_dot_product_attention(query, self._heads(key), self._heads(value))
        tokens = tokens + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        out: Tensor = tokens + self.feed(tokens)
        return out

    def _heads(self, part: Tensor) -> Tensor:
        """Return (M, heads, S, D / heads)."""
        return part.view(*part.shape[:2], self.n_heads, -1).transpose(1, 2)
