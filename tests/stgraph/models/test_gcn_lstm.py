"""GCN-LSTM: its cells, mixing before the LSTM, and series in parts."""

from __future__ import annotations

import pytest
import torch

from stgraph.models.gcn_lstm import GCNLSTM, GCNLSTMConfig
from stgraph.models.sizes import Sizes

SIZES = Sizes(n_nodes=5, window=6, horizon=4, n_past=3, n_future=2, n_outputs=3)
RING = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]])


def answer(model: GCNLSTM, x: torch.Tensor) -> torch.Tensor:
    """Return the forecast for some past."""
    return model(x, torch.zeros(len(x), 4, 5, 2), RING, torch.ones(5))


def make(**options: object) -> GCNLSTM:
    torch.manual_seed(0)
    given = {"hidden_size": 8, "node_embedding_size": 0, "adaptive_rank": 0, "dropout": 0.0}
    model = GCNLSTM(SIZES, GCNLSTMConfig(**{**given, **options}))
    with torch.no_grad():
        model.decoder.head.linear.weight.normal_()
    return model


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("mix_inputs", ["none", "diffusion", "gcn", "chebyshev"])
def test_cells_and_mixing(cell: str, mix_inputs: str) -> None:
    """Without graph layers, only mixed inputs bring in the neighbours."""
    model = make(cell=cell, mix_inputs=mix_inputs, n_graph_layers=0, n_hops=1)
    x = torch.randn(2, 6, 5, 3)
    other = x.clone()
    other[:, :, 1] += 1
    moved = (answer(model, x) - answer(model, other)).abs().amax(dim=(0, 1, 3)) > 1e-6
    along = mix_inputs != "none"
    against = mix_inputs == "diffusion"  # both ways
    assert moved.tolist() == [against, True, along, False, False]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_series_in_parts_are_what_they_are_together(cell: str, monkeypatch) -> None:
    """Protects large graphs: the same forecasts and gradients, with less memory."""
    model = make(cell=cell, n_lstm_layers=2)
    x = torch.randn(3, 6, 5, 3)
    results = []
    for at_once in (100, 4):
        monkeypatch.setattr("stgraph.models.gcn_lstm._SERIES_AT_ONCE", at_once)
        model.zero_grad()
        out = answer(model, x)
        out.square().sum().backward()
        results.append([out.detach(), *(p.grad.clone() for p in model.lstm.parameters())])
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, parts)
