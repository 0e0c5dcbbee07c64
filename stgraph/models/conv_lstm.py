"""ConvLSTM: an LSTM over time whose gates are convolutions over the rows and columns of a grid."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.raster import Raster
from stgraph.models.sizes import Sizes


class ConvLSTMConfig(DecoderOptions):
    """Options of `ConvLSTM`."""

    n_channels: int = Field(16, ge=1, le=1024)  # of hidden and cell state
    n_layers: int = Field(1, ge=1, le=8)  # cells on top of each other
    kernel_size: Literal[1, 3, 5, 7] = 3  # rows and columns


class ConvLSTM(nn.Module):
    """Forecast every cell of a grid by a convolutional recurrence over the window.

    After Shi et al. (NeurIPS 2015), without the peepholes, which would tie weights to cells; all
    horizons are read from the last state instead of fed back one by one.

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

    def __init__(self, sizes: Sizes, config: ConvLSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.raster = Raster(sizes, model="conv_lstm")
        first = sizes.n_past + 1
        self.cells = nn.ModuleList(
            ConvLSTMCell(config.n_channels if i else first, config.n_channels, config.kernel_size)
            for i in range(config.n_layers)
        )
        self.decoder = Decoder(sizes, config, in_size=config.n_channels)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all cells."""
        images = self.raster.scatter(x)  # (B, W, F + 1, R, C)
        for cell in self.cells:
            images = cell(images)  # (B, W, D, R, C)
        encoded = self.raster.gather(images[:, -1])  # (B, N, D)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast


class ConvLSTMCell(nn.Module):
    """The recurrence over all steps: (B, W, F, R, C) -> (B, W, D, R, C)."""

    def __init__(self, in_size: int, size: int, kernel_size: int) -> None:
        super().__init__()
        self.size = size
        self.from_input = nn.Conv2d(in_size, 4 * size, kernel_size, padding="same")
        self.from_state = nn.Conv2d(size, 4 * size, kernel_size, padding="same", bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the hidden state after every step."""
        n_batch, window = images.shape[:2]
        # the input part of all steps at once
        gates = self.from_input(images.flatten(0, 1)).view(n_batch, window, -1, *images.shape[3:])
        hidden = cell = gates.new_zeros(n_batch, self.size, *images.shape[3:])
        states = []
        for step in range(window):
            now = gates[:, step]
            if step:  # the state starts at zero
                now = now + self.from_state(hidden)
            take, keep, new, show = now.chunk(4, dim=1)
            # a forget gate that starts open remembers the whole window
            cell = torch.sigmoid(keep + 1) * cell + torch.sigmoid(take) * torch.tanh(new)
            hidden = torch.sigmoid(show) * torch.tanh(cell)
            states.append(hidden)
        return torch.stack(states, dim=1)
