"""TDNN: a time-delay network, whose layers look at ever fewer steps that lie ever further apart."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from stgraph.errors import ConfigError
from stgraph.models.causal import CausalConv, plan_steps
from stgraph.models.decoder import Decoder
from stgraph.models.options import DecoderOptions
from stgraph.models.sizes import Sizes

Delays = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


class TDNNConfig(DecoderOptions):
    """Options of `TDNN`."""

    n_channels: int = Field(64, ge=1, le=4096)  # of every layer
    delays: Annotated[tuple[Delays, ...], Field(min_length=1)] | None = None  # None: see `TDNN`


class TDNN(nn.Module):
    """Forecast every node from its own past at chosen delays, its neighbours, the known future.

    The time-delay network of Waibel et al. (1989) with contexts that are sub-sampled in the deeper
    layers, as Peddinti et al. (2015) do. Each layer sees the one below now and at some delays:
    ``(0, 1, 2)``, then ``(0, 3)``, ``(0, 6)``, ``(0, 12)``, ... until the window is seen, so every
    step is read once and the cost is that of two matrix products over the window. ReLU and layer
    normalisation after each.

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: TDNNConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.n_channels
        delays = config.delays or _contexts_for(sizes.window)
        plan = plan_steps(sizes.window, delays)
        if not all(plan):
            raise ConfigError(
                f"`delays` {delays} look behind all of a window of {sizes.window} steps; give some "
                "layer smaller ones, or None"
            )
        self._first = list(plan[0])
        layers: list[nn.Module] = []
        for level, taps in enumerate(delays):
            in_size = channels if level else sizes.n_past
            steps = {"have": plan[level], "want": plan[level + 1]}
            layers += [
                CausalConv(in_size, channels, delays=taps, **steps),
                nn.ReLU(),
                nn.LayerNorm(channels),
                nn.Dropout(config.dropout),
            ]
        self.layers = nn.Sequential(*layers)
        self.decoder = Decoder(sizes, config, in_size=channels)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        series = x.permute(0, 2, 1, 3)[..., self._first, :]  # (B, N, S, F)
        encoded = self.layers(series)[..., -1, :]  # (B, N, C)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast


def _contexts_for(window: int) -> tuple[tuple[int, ...], ...]:
    """Return the delays of as many layers as see the whole window."""
    contexts: list[tuple[int, ...]] = [tuple(range(min(3, window)))]
    seen = 3
    while seen < window:
        contexts.append((0, seen))
        seen *= 2
    return tuple(contexts)
