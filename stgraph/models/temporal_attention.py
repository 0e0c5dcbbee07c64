"""Temporal attention: self-attention over each node's window, read out at the last step."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from stgraph.models.attention import FeedForward, TimeAttention
from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions, check_heads
from stgraph.models.sizes import Sizes


class TemporalAttentionConfig(DecoderOptions):
    """Options of `TemporalAttention`."""

    n_channels: int = Field(32, ge=1, le=4096)  # of every step's token
    n_heads: int = Field(4, ge=1, le=64)
    n_attention_layers: int = Field(2, ge=1, le=32)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        check_heads("n_channels", self.n_channels, self.n_heads)
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
        self.attention = nn.ModuleList(
            TimeAttention(size, n_heads=config.n_heads, dropout=config.dropout)
            for _ in range(config.n_attention_layers)
        )
        self.feed_forward = nn.ModuleList(
            FeedForward(size, dropout=config.dropout) for _ in range(config.n_attention_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.decoder = Decoder(sizes, config, in_size=size)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        series = x.permute(0, 2, 1, 3).flatten(0, 1)  # (B * N, W, F)
        tokens = self.embed(series) + self.age
        layers = zip(self.attention, self.feed_forward, strict=True)
        for number, (attend, feed_forward) in enumerate(layers, start=1):
            tokens = attend(tokens, only_last=number == len(self.attention))
            tokens = feed_forward(tokens)
        encoded = self.norm(tokens[:, -1]).view(len(x), x.shape[2], -1)  # (B, N, C)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast
