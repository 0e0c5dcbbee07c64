"""Parts that the models share: residual perceptrons and the head."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualMLP(nn.Module):
    """A two-layer perceptron added to its input: (..., D) -> (..., D)."""

    def __init__(self, size: int, *, in_size: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(in_size or size, 2 * size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * size, size),
        )
        self.norm = nn.LayerNorm(size)

    def forward(self, state: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Return ``norm(state + net(inputs))``; `inputs` is the state itself by default."""
        out: Tensor = self.norm(state + self.net(state if inputs is None else inputs))
        return out


class DirectHead(nn.Module):
    """All horizons at once from one state per node: (B, N, D) -> (B, H, N, C).

    Starts near zero, so that an untrained model forecasts its anchor.
    """

    def __init__(self, size: int, *, horizon: int, n_outputs: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.linear = nn.Linear(size, horizon * n_outputs)
        nn.init.zeros_(self.linear.bias)
        nn.init.normal_(self.linear.weight, std=1e-3)

    def forward(self, state: Tensor) -> Tensor:
        """Return one value per horizon, node and output."""
        n_batch, n_nodes, _ = state.shape
        out: Tensor = self.linear(state).view(n_batch, n_nodes, self.horizon, -1)
        return out.transpose(1, 2)  # (B, H, N, C)
