"""GCN-LSTM: an LSTM over time for every node, then diffusion over the graph, then all horizons."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.sizes import Sizes


class GCNLSTMConfig(DecoderOptions):
    """Options of `GCNLSTM`."""

    n_lstm_layers: int = Field(1, ge=1, le=8)


class GCNLSTM(nn.Module):
    """Forecast every node from its own past, its neighbours and the known future.

    Time first, then space: the form that Cini et al. (SGP, AAAI 2023) and Torch-MTS found best per
    second.

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
        self.decoder = Decoder(sizes, config, in_size=hidden)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        n_batch, window, n_nodes, n_past = x.shape
        series = x.transpose(1, 2).reshape(n_batch * n_nodes, window, n_past)
        out, _ = self.lstm(series)
        encoded = out[:, -1].view(n_batch, n_nodes, -1)  # (B, N, D)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast
