"""GC-LSTM: an LSTM whose gates see the state through Chebyshev convolutions."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.recurrent import GCLSTM
from stgraph.models.sizes import Sizes


class GCLSTMConfig(DecoderOptions):
    """Options of `GCLSTMModel`."""

    n_terms: int = Field(3, ge=1, le=8)  # Chebyshev polynomials; 1: no graph in the recurrence


class GCLSTMModel(nn.Module):
    """Run the recurrence of Chen et al. (2018) over the past, and decode its last state.

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

    def __init__(self, sizes: Sizes, config: GCLSTMConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.encoder = GCLSTM(sizes.n_past, hidden, K=config.n_terms, bounded=True)
        self.decoder = Decoder(sizes, config, in_size=hidden)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        _, (encoded, _) = self.encoder(x, edge_index, edge_weight)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast
