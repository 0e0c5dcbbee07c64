"""Graph WaveNet: gated dilated convolutions, diffusion both ways and a learned adjacency."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from stgraph.models.causal import (
    CausalConv,
    Steps,
    dilations_for,
    pick_steps,
    plan_steps,
    taps_of,
)
from stgraph.models.decoder import Decoder
from stgraph.models.graph_conv import Adjacency, GraphConv, LearnedAdjacency
from stgraph.models.options import DecoderOptions
from stgraph.models.sizes import Sizes

_KERNEL = 2  # taps of every convolution, as published


class GraphWaveNetConfig(DecoderOptions):
    """Options of `GraphWaveNet`."""

    n_graph_layers: int = Field(1, ge=0, le=16)  # of the decoder, after those of the encoder
    n_channels: int = Field(32, ge=1, le=4096)  # of the convolutions in time and space
    n_skip_channels: int = Field(64, ge=1, le=4096)  # what every layer tells the decoder
    adjacency: Adjacency = "auto"  # the learned one of the encoder; auto: dense up to 500 nodes
    n_blocks: int = Field(1, ge=1, le=16)
    n_layers: int | None = Field(None, ge=1, le=16)  # per block; None: all see the whole window


class GraphWaveNet(nn.Module):
    """Forecast every node from layers that look back in time and around, each of them heard.

    Wu et al. (IJCAI 2019): per layer a gated convolution over two steps, dilations 1, 2, 4, ...,
    then diffusion along and against the edges and through a learned adjacency, with a residual
    connection; the last step of every layer goes to the decoder (skip connections). By default one
    block whose dilations grow until the window is seen: the steps that the last one does not need
    are left out, and few are needed then. ``n_blocks=4, n_layers=2`` are the published dilations.
    Batch normalisation is replaced by layer normalisation, which is the same in any batch; the
    last layer has no graph convolution, which would go nowhere.

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: GraphWaveNetConfig) -> None:
        super().__init__()
        self.config = config
        size = config.n_channels
        dilations = dilations_for(sizes.window, kernel_size=_KERNEL)
        if config.n_layers is not None:
            dilations = [2**level for level in range(config.n_layers)]
        dilations = dilations * config.n_blocks
        plan = plan_steps(sizes.window, [taps_of(_KERNEL, d) for d in dilations])
        self._first = list(plan[0])
        self.start = nn.Linear(sizes.n_past, size)
        self.adjacency = (
            LearnedAdjacency(sizes.n_nodes, rank=config.adaptive_rank, kind=config.adjacency)
            if config.adaptive_rank and len(dilations) > 1
            else None
        )
        self.layers = nn.ModuleList(
            _Layer(
                config,
                delays=taps_of(_KERNEL, dilation),
                have=plan[number],
                want=plan[number + 1],
                is_last=number == len(dilations) - 1,
            )
            for number, dilation in enumerate(dilations)
        )
        self.decoder = Decoder(sizes, config, in_size=config.n_skip_channels)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        learned = () if self.adjacency is None else self.adjacency.factors()
        state = self.start(x.permute(2, 0, 1, 3)[..., self._first, :])  # (N, B, S, C)
        skips: list[Tensor] = []
        for layer in self.layers:
            state, skip = layer(state, edge_index, edge_weight, learned)
            skips.append(skip)
        encoded = sum(skips[1:], skips[0]).relu().transpose(0, 1)  # (B, N, C)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast


class _Layer(nn.Module):
    """A gated convolution in time, what it tells the decoder, and a graph convolution."""

    def __init__(
        self,
        config: GraphWaveNetConfig,
        *,
        delays: Steps,
        have: Steps,
        want: Steps,
        is_last: bool,
    ) -> None:
        super().__init__()
        size = config.n_channels
        self._have, self._want = have, want
        self.conv = CausalConv(size, 2 * size, delays=delays, have=have, want=want)
        self.skip = nn.Linear(size, config.n_skip_channels)
        self.space: GraphConv | None = None
        if not is_last:
            self.space = GraphConv(
                size,
                size,
                convolution=config.convolution,
                n_hops=config.n_hops,
                n_learned=config.n_hops if config.adaptive_rank else 0,
            )
            self.norm = nn.LayerNorm(size)
        self.dropout = config.dropout

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor, learned: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return the sequence (N, B, S_out, C), and what is heard of it (N, B, C_skip)."""
        value, gate = self.conv(x).chunk(2, dim=-1)
        state = value.tanh() * gate.sigmoid()
        skip: Tensor = self.skip(state[..., -1, :])
        if self.space is None:
            return state, skip
        mixed = self.space(state, edge_index, edge_weight, learned)
        mixed = functional.dropout(mixed, self.dropout, self.training)
        return self.norm(pick_steps(x, self._have, self._want) + mixed), skip
