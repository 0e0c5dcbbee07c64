"""What is known ahead, in the order of time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stgraph.models.sizes import Sizes


class KnownFuture(nn.Module):
    """Add to each step what its known future, and that of the steps before it, say to a state.

    A map from the known future of all steps to features of all steps, whose weights from a step to
    the steps before it are zero, meets the state of the node in a perceptron with weights of its
    own for every step. So a change planned for a step moves no forecast before it.

    Shapes: state (B, N, D), known future (B, H, N, K) -> (B, H, N, `sizes.n_outputs`). Starts near
    zero, so that an untrained model forecasts its anchor.
    """

    def __init__(self, sizes: Sizes, size: int, *, n_features: int = 16) -> None:
        super().__init__()
        horizon = sizes.horizon
        self.n_features = n_features
        self.from_state = nn.Linear(size, horizon * n_features)
        self.from_future = nn.Linear(horizon * sizes.n_future, horizon * n_features, bias=False)
        self.out = nn.Parameter(5e-3 * torch.randn(horizon, n_features, sizes.n_outputs))
        known = torch.ones(horizon, horizon).tril()  # row: step forecast, column: step known
        known = known.repeat_interleave(n_features, dim=0).repeat_interleave(sizes.n_future, dim=1)
        self.known: Tensor
        self.register_buffer("known", known, persistent=False)

    def forward(self, state: Tensor, u: Tensor) -> Tensor:
        """Return what is added to the forecast of every step."""
        n_batch, horizon, n_nodes, _ = u.shape
        ahead = u.transpose(1, 2).reshape(n_batch, n_nodes, -1)  # (B, N, H*K)
        known = functional.linear(ahead, self.from_future.weight * self.known)
        features = functional.gelu(self.from_state(state) + known)
        features = features.view(n_batch, n_nodes, horizon, self.n_features)
        return torch.einsum("bnhp,hpc->bhnc", features, self.out)
