"""3-D convolutions over time, rows and columns of a grid."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.raster import Raster
from stgraph.models.sizes import Sizes


class CNN3DConfig(DecoderOptions):
    """Options of `CNN3D`."""

    n_channels: int = Field(16, ge=1, le=1024)  # of the images
    n_layers: int = Field(2, ge=1, le=16)  # convolutions, each a cell or more further
    kernel_size: Literal[1, 3, 5, 7] = 3  # rows, columns and steps


class CNN3D(nn.Module):
    """Forecast every cell of a grid from the block of space and time around it.

    3-D convolutions with residuals (C3D, Tran et al., ICCV 2015; here for fields, not video), then
    one that takes in the whole window.

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

    def __init__(self, sizes: Sizes, config: CNN3DConfig) -> None:
        super().__init__()
        self.config = config
        self.raster = Raster(sizes, model="cnn_3d")
        channels, kernel = config.n_channels, config.kernel_size
        first = sizes.n_past + 1
        self.layers = nn.ModuleList(
            nn.Conv3d(channels if i else first, channels, kernel, padding="same")
            for i in range(config.n_layers)
        )
        self.fold = nn.Conv3d(channels, config.hidden_size, (sizes.window, 1, 1))
        self.decoder = Decoder(sizes, config, in_size=config.hidden_size)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all cells."""
        volume = self.raster.scatter(x).transpose(1, 2)  # (B, F + 1, W, R, C)
        for number, layer in enumerate(self.layers):
            changed = functional.gelu(layer(volume))
            volume = volume + changed if number else changed
        image = self.fold(volume).squeeze(2)  # (B, D, R, C)
        encoded = self.raster.gather(image)  # (B, N, D)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast
