"""GCN-LSTM: an LSTM over time for every node, then diffusion over the graph, then all horizons."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stgraph.models.decoder import Decoder
from stgraph.models.graph_operators import DiffusionMix
from stgraph.models.options import Convolution, DecoderOptions
from stgraph.models.recurrent import NodeLSTM
from stgraph.models.sizes import Sizes

_SERIES_AT_ONCE = 1 << 14  # more go through the LSTM in parts, computed again for the gradient


class GCNLSTMConfig(DecoderOptions):
    """Options of `GCNLSTM`."""

    n_lstm_layers: int = Field(1, ge=1, le=8)
    cell: Literal["lstm", "gru"] = "lstm"
    mix_inputs: Literal["none"] | Convolution = "none"  # readings of neighbours as inputs, too


class GCNLSTM(nn.Module):
    """Forecast every node from its own past, its neighbours and the known future.

    Time first, then space: the form that Cini et al. (SGP, AAAI 2023) and Torch-MTS found best per
    second. With ``mix_inputs`` space comes first, too: each step's readings are mixed with those of
    the neighbours before the LSTM sees them.

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
        hidden, in_size = config.hidden_size, sizes.n_past
        self.mix: DiffusionMix | None = None
        if config.mix_inputs != "none":
            kind = config.mix_inputs
            self.mix = DiffusionMix(sizes.n_nodes, n_hops=config.n_hops, convolution=kind)
            in_size *= self.mix.n_supports
        layer = NodeLSTM if config.cell == "lstm" else nn.GRU
        self.lstm = layer(in_size, hidden, num_layers=config.n_lstm_layers)
        self.decoder = Decoder(sizes, config, in_size=hidden)

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        n_batch, window, n_nodes, n_past = x.shape
        if self.mix is not None:
            mixed = self.mix(x.reshape(-1, n_nodes, n_past), edge_index, edge_weight)
            x = mixed.view(n_batch, window, n_nodes, -1)
        # the order that batches lie in in memory, so that nothing is copied
        series = x.permute(1, 2, 0, 3).reshape(window, n_nodes * n_batch, -1)
        encoded = self._encode(series).view(n_nodes, n_batch, -1).transpose(0, 1)  # (B, N, D)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast

    def _encode(self, series: Tensor) -> Tensor:
        """Return the last state of each series, (W, R, F) -> (R, D); in parts where many.

        The recurrence keeps 20 to 50 kB of each series for the gradient, which 100,000 nodes
        have no room for.
        """
        n_parts = -(-series.shape[1] // _SERIES_AT_ONCE)
        if n_parts == 1:
            return self._last_state(series)
        states = [
            checkpoint(self._last_state, part, use_reentrant=False, preserve_rng_state=False)
            for part in series.tensor_split(n_parts, dim=1)
        ]
        return torch.cat(states)

    def _last_state(self, series: Tensor) -> Tensor:
        """Return the state of the last layer at the last step."""
        if isinstance(self.lstm, NodeLSTM):
            state: Tensor = self.lstm(series[None])[0]  # all series as nodes of one window
            return state
        out: Tensor = self.lstm(series)[0][-1]
        return out
