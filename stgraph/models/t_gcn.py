"""T-GCN: a GRU over graph-convolved inputs."""

from __future__ import annotations

from torch import Tensor, nn

from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.recurrent import TGCN
from stgraph.models.sizes import Sizes


class TGCNConfig(DecoderOptions):
    """Options of `TGCNModel`."""


class TGCNModel(nn.Module):
    """Run the recurrence of Zhao et al. (IEEE T-ITS 2020) over the past, and decode its last state.

    All horizons are read out at once: no forecast is fed back, so training is one pass.

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: TGCNConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.encoder = TGCN(sizes.n_past, hidden)
        self.decoder = Decoder(sizes, config, in_size=hidden)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        _, encoded = self.encoder(x, edge_index, edge_weight)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast
