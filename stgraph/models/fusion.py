"""Fuse what is known of a node from several sides into one state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stgraph.models.options import Fusing


def build_fusion(kind: Fusing, in_sizes: Sequence[int], out_size: int) -> nn.Module:
    """Return the fusion of some parts: list of (B, N, in_sizes[i]) -> (B, N, out_size)."""
    if kind == "concat":
        return ConcatFusion(in_sizes, out_size)
    raise NotImplementedError(kind)


class ConcatFusion(nn.Module):
    """A linear map of all parts side by side."""

    def __init__(self, in_sizes: Sequence[int], out_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(in_sizes), out_size)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Return one state per node."""
        fused: Tensor = self.linear(torch.cat(list(parts), dim=-1))
        return fused
