"""STGCN: gated convolution in time, convolution over the graph, gated convolution in time."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from stgraph.models.causal import CausalConv, Steps, pick_steps, plan_steps, taps_of
from stgraph.models.decoder import Decoder
from stgraph.models.graph_conv import GraphConv
from stgraph.models.options import Convolution, DecoderOptions
from stgraph.models.sizes import Sizes


class STGCNConfig(DecoderOptions):
    """Options of `STGCN`."""

    convolution: Convolution = "chebyshev"  # "gcn" is the first-order form of the paper
    n_graph_layers: int = Field(1, ge=0, le=16)  # of the decoder, after those of the encoder
    n_channels: int = Field(32, ge=1, le=4096)  # of the convolutions in time
    n_graph_channels: int = Field(16, ge=1, le=4096)  # of the convolutions over the graph
    kernel_size: int = Field(3, ge=2, le=64)  # steps that a convolution looks at
    n_blocks: int = Field(2, ge=1, le=16)


class STGCN(nn.Module):
    """Forecast every node from blocks that look back in time, around, and back in time again.

    Yu et al. (IJCAI 2018): a block is a gated convolution in time (GLU), a graph convolution with
    fewer channels, and another gated convolution; the last one looks at all steps that the blocks
    leave. Layer normalisation is over the channels of each node and step alone, so that no node
    depends on others but through the graph.

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: STGCNConfig) -> None:
        super().__init__()
        self.config = config
        taps = taps_of(config.kernel_size, 1)
        n_convs = 2 * config.n_blocks
        n_left = max(1, sizes.window - n_convs * (config.kernel_size - 1))
        plan = plan_steps(sizes.window, [*[taps] * n_convs, taps_of(n_left, 1)])
        self._first = list(plan[0])
        self.blocks = nn.ModuleList(
            _Block(
                config.n_channels if block else sizes.n_past,
                config,
                delays=taps,
                steps=(plan[2 * block], plan[2 * block + 1], plan[2 * block + 2]),
            )
            for block in range(config.n_blocks)
        )
        size = config.n_channels
        self.last = _GatedConv(size, size, delays=taps_of(n_left, 1), have=plan[-2], want=plan[-1])
        self.decoder = Decoder(sizes, config, in_size=size)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        state = x.permute(2, 0, 1, 3)[..., self._first, :]  # (N, B, S, F)
        for block in self.blocks:
            state = block(state, edge_index, edge_weight)
        encoded = self.last(state)[..., -1, :].transpose(0, 1)  # (B, N, C)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast


class _GatedConv(nn.Module):
    """A gated linear unit over convolved steps, with the input added to what is gated."""

    def __init__(
        self, in_size: int, out_size: int, *, delays: Steps, have: Steps, want: Steps
    ) -> None:
        super().__init__()
        self._have, self._want = have, want
        self.conv = CausalConv(in_size, 2 * out_size, delays=delays, have=have, want=want)
        self.match = nn.Linear(in_size, out_size) if in_size != out_size else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., S_out, C_out)."""
        value, gate = self.conv(x).chunk(2, dim=-1)
        out: Tensor = (value + self.match(pick_steps(x, self._have, self._want))) * gate.sigmoid()
        return out


class _Block(nn.Module):
    """Time, space, time: (N, B, S_in, C_in) -> (N, B, S_out, C)."""

    def __init__(
        self, in_size: int, config: STGCNConfig, *, delays: Steps, steps: tuple[Steps, Steps, Steps]
    ) -> None:
        super().__init__()
        have, between, want = steps
        size, narrow = config.n_channels, config.n_graph_channels
        self.before = _GatedConv(in_size, size, delays=delays, have=have, want=between)
        self.match = nn.Linear(size, narrow)
        self.space = GraphConv(size, narrow, convolution=config.convolution, n_hops=config.n_hops)
        self.after = _GatedConv(narrow, size, delays=delays, have=between, want=want)
        self.norm = nn.LayerNorm(size)
        self.dropout = config.dropout

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return the sequence after the block."""
        x = self.before(x)
        x = (self.match(x) + self.space(x, edge_index, edge_weight)).relu()
        return functional.dropout(self.norm(self.after(x)), self.dropout, self.training)
