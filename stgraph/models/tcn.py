"""TCN: residual blocks of causal dilated convolutions over each node's window."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from stgraph.models.causal import (
    CausalConv,
    Steps,
    dilations_for,
    pick_steps,
    plan_steps,
    taps_of,
)
from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.sizes import Sizes


class TCNConfig(DecoderOptions):
    """Options of `TCN`."""

    n_channels: int = Field(32, ge=1, le=4096)  # of every convolution
    kernel_size: int = Field(3, ge=2, le=64)  # steps that a convolution looks at
    n_blocks: int | None = Field(None, ge=1, le=32)  # None: as many as see the whole window


class TCN(nn.Module):
    """Forecast every node from convolutions over its own past, its neighbours, the known future.

    The temporal convolutional network of Bai et al. (2018): per block two causal convolutions with
    the same dilation, ReLU and dropout after each, around them a residual connection; dilations
    double from block to block. Its weight normalisation is left out.

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: TCNConfig) -> None:
        super().__init__()
        self.config = config
        kernel, channels = config.kernel_size, config.n_channels
        dilations = dilations_for(sizes.window, kernel_size=kernel, n_convolutions=2)
        if config.n_blocks is not None:
            dilations = [2**level for level in range(config.n_blocks)]
        plan = plan_steps(sizes.window, [taps_of(kernel, d) for d in dilations for _ in range(2)])
        self._first = plan[0]
        self.blocks = nn.Sequential(
            *(
                _Block(
                    channels if level else sizes.n_past,
                    channels,
                    delays=taps_of(kernel, dilation),
                    steps=(plan[2 * level], plan[2 * level + 1], plan[2 * level + 2]),
                    dropout=config.dropout,
                )
                for level, dilation in enumerate(dilations)
            )
        )
        self.decoder = Decoder(sizes, config, in_size=channels)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        series = x.permute(0, 2, 1, 3)  # (B, N, W, F)
        series = series[..., list(self._first), :]
        encoded = self.blocks(series)[..., -1, :]  # (B, N, C)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast


class _Block(nn.Module):
    """Two causal convolutions with the same dilation around a residual connection."""

    def __init__(
        self,
        in_size: int,
        size: int,
        *,
        delays: Steps,
        steps: tuple[Steps, Steps, Steps],
        dropout: float,
    ) -> None:
        super().__init__()
        have, between, want = steps
        self._have, self._want = have, want
        self.net = nn.Sequential(
            CausalConv(in_size, size, delays=delays, have=have, want=between),
            nn.ReLU(),
            nn.Dropout(dropout),
            CausalConv(size, size, delays=delays, have=between, want=want),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.match = nn.Linear(in_size, size) if in_size != size else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``relu(x + net(x))`` at the wanted steps."""
        out: Tensor = (self.match(pick_steps(x, self._have, self._want)) + self.net(x)).relu()
        return out
