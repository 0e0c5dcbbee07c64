"""CNN-LSTM: 2-D convolutions over a grid at every step, then an LSTM over time for every cell."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.raster import Raster
from stgraph.models.recurrent import NodeLSTM
from stgraph.models.sizes import Sizes


class CNNLSTMConfig(DecoderOptions):
    """Options of `CNNLSTM`."""

    n_channels: int = Field(16, ge=1, le=1024)  # of the images
    n_layers: int = Field(2, ge=1, le=16)  # convolutions, each a cell or more further
    kernel_size: Literal[1, 3, 5, 7] = 3  # rows and columns
    n_lstm_layers: int = Field(1, ge=1, le=8)


class CNNLSTM(nn.Module):
    """Forecast every cell of a grid: space first, by convolutions, then time, by an LSTM.

    As in DMVST-Net (Yao et al., AAAI 2018), with convolutions over the whole grid instead of a cut
    around each cell.

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities; rows and columns from the layout.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    needs_grid = True

    def __init__(self, sizes: Sizes, config: CNNLSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.raster = Raster(sizes, model="cnn_lstm")
        channels, hidden = config.n_channels, config.hidden_size
        first = sizes.n_past + 1
        self.layers = nn.ModuleList(
            nn.Conv2d(channels if i else first, channels, config.kernel_size, padding="same")
            for i in range(config.n_layers)
        )
        self.lstm = NodeLSTM(channels, hidden, num_layers=config.n_lstm_layers)
        self.decoder = Decoder(sizes, config, in_size=hidden)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all cells."""
        n_batch, window, n_nodes, _ = x.shape
        images = self.raster.scatter(x).flatten(0, 1)  # (B*W, F + 1, R, C)
        for number, layer in enumerate(self.layers):
            changed = functional.gelu(layer(images))
            images = images + changed if number else changed
        cells = self.raster.gather(images).view(n_batch, window, n_nodes, -1)
        forecast: Tensor = self.decoder(self.lstm(cells), u, edge_index, edge_weight)
        return forecast
