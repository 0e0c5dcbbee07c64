"""A3T-GCN: attention over the hidden states of a T-GCN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.recurrent import A3TGCN
from stgraph.models.sizes import Sizes


class A3TGCNConfig(DecoderOptions):
    """Options of `A3TGCNModel`."""

    last_state: bool = True  # beside the attention's mean the last state; the paper has none


class A3TGCNModel(nn.Module):
    """Run the recurrence of Bai et al. (ISPRS IJGI 2021) over the past, and decode its states.

    Attention says how much each of the window's states counts. The decoder sees the last state,
    too: a mean over the window alone forgets what is happening now. All horizons are read out at
    once: no forecast is fed back, so training is one pass.

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: A3TGCNConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.encoder = A3TGCN(sizes.n_past, hidden)
        self.decoder = Decoder(sizes, config, in_size=hidden * (1 + config.last_state))

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        states, last = self.encoder.cell(x, edge_index, edge_weight)
        encoded = self.encoder.attend(states)
        if self.config.last_state:
            encoded = torch.cat([encoded, last], dim=-1)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast
