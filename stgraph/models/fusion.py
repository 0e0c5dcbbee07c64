"""Fuse what is known of a node from several sides into one state."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stgraph.models.options import Fusing

_N_HEADS = 4  # of the attention; fewer where they do not divide the state


def build_fusion(kind: Fusing, in_sizes: Sequence[int], out_size: int) -> nn.Module:
    """Return a fusion of parts: list of (..., in_sizes[i]) -> (..., out_size).

    Parameters
    ----------
    kind
        ``concat``, ``attention`` or ``gated``. A single part has nothing to be weighed against
        and is only mapped.
    in_sizes
        Size of every part.
    out_size
        Size D of the fused state.
    """
    if kind == "concat" or len(in_sizes) == 1:
        return ConcatFusion(in_sizes, out_size)
    if kind == "attention":
        return AttentionFusion(in_sizes, out_size)
    return GatedFusion(in_sizes, out_size)


class ConcatFusion(nn.Module):
    """A linear map of all parts side by side: every part counts the same everywhere."""

    def __init__(self, in_sizes: Sequence[int], out_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(in_sizes), out_size)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Return one state per node."""
        fused: Tensor = self.linear(torch.cat(list(parts), dim=-1))
        return fused


class AttentionFusion(nn.Module):
    """A learned query per head looks at the parts of a node and sums them by what it finds.

    Every part becomes a token (..., D). Shares are multiplied by the number of parts, so that equal
    shares give the sum, which is what `ConcatFusion` does.
    """

    def __init__(self, in_sizes: Sequence[int], out_size: int) -> None:
        super().__init__()
        self.n_heads = math.gcd(out_size, _N_HEADS)
        self.tokens = nn.ModuleList(nn.Linear(size, out_size) for size in in_sizes)
        head_size = out_size // self.n_heads
        self.query = nn.Parameter(torch.randn(self.n_heads, head_size) / head_size)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Return one state per node."""
        pairs = zip(self.tokens, parts, strict=True)
        tokens = torch.stack([layer(part) for layer, part in pairs], dim=-2)  # (..., P, D)
        heads = tokens.view(*tokens.shape[:-1], self.n_heads, -1)  # (..., P, heads, D / heads)
        share = (heads * self.query).sum(-1, keepdim=True).softmax(dim=-3)
        fused: Tensor = (len(parts) * share * heads).sum(-3).flatten(-2)
        return fused


class GatedFusion(nn.Module):
    """Gates decide for every number of the state how much each part has a say in it.

    Two parts: the gated fusion of GMAN (Zheng et al., AAAI 2020), z * a + (1 - z) * b with z a
    sigmoid of both. More parts: the softmax that the sigmoid is the two-part case of.
    """

    def __init__(self, in_sizes: Sequence[int], out_size: int) -> None:
        super().__init__()
        n_parts = len(in_sizes)
        self.values = nn.ModuleList(nn.Linear(size, out_size) for size in in_sizes)
        self.gate = nn.Linear(n_parts * out_size, (n_parts - 1) * out_size)  # the last one is 0

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Return one state per node."""
        values = [layer(part) for layer, part in zip(self.values, parts, strict=True)]
        flat: Tensor = self.gate(torch.cat(values, dim=-1))
        logits = flat.view(*flat.shape[:-1], len(parts) - 1, -1)  # (..., P - 1, D)
        logits = torch.cat([logits, torch.zeros_like(logits[..., :1, :])], dim=-2)
        fused: Tensor = (logits.softmax(dim=-2) * torch.stack(values, dim=-2)).sum(-2)
        return fused
