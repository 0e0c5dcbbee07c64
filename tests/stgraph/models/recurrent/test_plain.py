"""The LSTM for every node against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stgraph.models.recurrent import NodeLSTM

B, W, N, F, D = 3, 5, 4, 2, 6


def of_torch(lstm: NodeLSTM, x: Tensor) -> tuple[Tensor, list[Tensor | None]]:
    """Return the last states by torch's own LSTM of the same weights, and its gradients."""
    plain = nn.LSTM(F, D, lstm.num_layers, batch_first=True).to(x.dtype)
    plain.load_state_dict(lstm.state_dict())
    series = x.transpose(1, 2).reshape(-1, W, F)
    last = plain(series)[0][:, -1].view(len(x), N, D)
    last.square().sum().backward()
    return last.detach(), [parameter.grad for parameter in plain.parameters()]


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("n_batch", [1, B])
def test_it_is_the_lstm_of_torch(num_layers: int, n_batch: int) -> None:
    """Protects names, order of gates, outputs and gradients."""
    torch.manual_seed(0)
    lstm, x = NodeLSTM(F, D, num_layers=num_layers), torch.randn(n_batch, W, N, F)
    wanted, gradients = of_torch(lstm, x)
    last = lstm(x)
    torch.testing.assert_close(last, wanted, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(lstm(x), wanted, rtol=1e-5, atol=1e-6)
    last.square().sum().backward()
    for parameter, gradient in zip(lstm.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


def test_finite_differences() -> None:
    lstm = NodeLSTM(F, D, num_layers=2).double()
    x = torch.randn(2, 3, N, F, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: lstm(x), (x, *lstm.parameters()), fast_mode=True)


def test_mixed_precision() -> None:
    lstm, x = NodeLSTM(F, D), torch.randn(B, W, N, F)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(lstm(x.bfloat16()), lstm(x), rtol=0.05, atol=0.05)
