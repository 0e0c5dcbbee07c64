"""Attention over the nodes of a graph and over the steps of a window."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stgraph.models.structure import N_BUCKETS, Distance, Pairs


class FeedForward(nn.Module):
    """A two-layer perceptron on normalised states, added to them: (..., D) -> (..., D)."""

    def __init__(self, size: int, *, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(size),
            nn.Linear(size, 2 * size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * size, size),
            nn.Dropout(dropout),
        )

    def forward(self, state: Tensor) -> Tensor:
        """Return the new states."""
        out: Tensor = state + self.net(state)
        return out


class SpaceAttention(nn.Module):
    """Every node attends to nodes, biased by how far they are, and to a few pooled tokens.

    The bias per head is that of Graphormer (Ying et al., NeurIPS 2021), in both directions of the
    edges. The tokens pool all nodes by learned queries (Set Transformer, Lee et al., ICML 2019).
    On small graphs a node attends to all nodes; on large ones to its neighbours, and what is far
    comes through the tokens alone, so that memory is linear in nodes and edges. Both ways have the
    same parameters.

    Shapes: (B, N, D) -> (B, N, D).
    """

    def __init__(self, size: int, *, n_heads: int, n_tokens: int, bias: Distance, dropout: float):
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size, bias=False)
        self.out = nn.Linear(size, size)
        self.tokens = nn.Parameter(0.5 * torch.randn(n_tokens, size)) if n_tokens else None
        # one head begins by looking near, one everywhere, and so on
        slope = torch.linspace(1.0, 0.0, n_heads)[:, None] * torch.linspace(0, 2, N_BUCKETS)
        self.near: nn.Parameter | None = None
        self.near_back: nn.Parameter | None = None
        if bias != "none":
            self.near = nn.Parameter(-slope)
            self.near_back = nn.Parameter(-slope) if bias == "paths" else None

    def forward(self, state: Tensor, pairs: Pairs) -> Tensor:
        """Return the new states."""
        normal = self.norm(state)
        query = _heads(self.query(normal), self.n_heads)  # (B, h, N, D / h)
        key, value = (
            _heads(part, self.n_heads) for part in self.key_value(normal).chunk(2, dim=-1)
        )
        if self.tokens is not None:
            probe = _heads(self.tokens.expand(len(state), -1, -1).to(normal.dtype), self.n_heads)
            pooled = functional.scaled_dot_product_attention(probe, key, value)
            joined = pooled.transpose(1, 2).flatten(2)  # (B, m, D)
            far_key, far_value = (
                _heads(part, self.n_heads) for part in self.key_value(joined).chunk(2, dim=-1)
            )
        else:
            far_key = far_value = key[:, :, :0]
        bias = self._bias(pairs, query.dtype)
        near, far = (query, key, value), (far_key, far_value)
        if pairs.node is None or pairs.neighbour is None:
            mixed = _to_all(near, far, bias)
        else:
            mixed = _to_neighbours(near, far, bias, pairs.node, pairs.neighbour)
        moved: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return state + functional.dropout(moved, self.dropout, self.training)

    def _bias(self, pairs: Pairs, dtype: torch.dtype) -> Tensor | None:
        """Return what is added to the scores, (h, P) or (h, N, N)."""
        if self.near is None:
            return None
        bias = self.near[:, pairs.towards]
        if self.near_back is not None:
            bias = bias + self.near_back[:, pairs.back]
        return bias.to(dtype)


def _to_all(
    near: tuple[Tensor, Tensor, Tensor], far: tuple[Tensor, Tensor], bias: Tensor | None
) -> Tensor:
    """Return what every node takes from all nodes and the tokens, (B, h, N, D / h)."""
    query, key, value = near
    if bias is not None:
        bias = functional.pad(bias, (0, far[0].shape[2]))  # no bias on tokens
    return functional.scaled_dot_product_attention(
        query, torch.cat([key, far[0]], dim=2), torch.cat([value, far[1]], dim=2), bias
    )


def _to_neighbours(
    near: tuple[Tensor, Tensor, Tensor],
    far: tuple[Tensor, Tensor],
    bias: Tensor | None,
    node: Tensor,
    neighbour: Tensor,
) -> Tensor:
    """Return what every node takes from its neighbours and the tokens, (B, h, N, D / h)."""
    # nodes first: rows are what is gathered and added up
    query, key, value = (part.permute(2, 0, 1, 3).contiguous() for part in near)
    query = query * query.shape[-1] ** -0.5
    score = (query[node] * key[neighbour]).sum(dim=-1)  # (P, B, h)
    if bias is not None:
        score = score + bias.T[:, None]
    far_score = torch.einsum("nbhd,bhmd->nbhm", query, far[0])
    # the largest score of every node, so that nothing overflows; it cancels out
    top = score.detach().new_full(query.shape[:3], -torch.inf)
    top = top.scatter_reduce(0, node[:, None, None].expand_as(score), score.detach(), "amax")
    if far_score.shape[-1]:
        top = torch.maximum(top, far_score.detach().amax(dim=-1))  # (N, B, h)
    weight, far_weight = (score - top[node]).exp(), (far_score - top[..., None]).exp()
    total = far_weight.sum(dim=-1).index_add(0, node, weight)
    mixed = torch.einsum("nbhm,bhmd->nbhd", far_weight, far[1])
    mixed = mixed.index_add(0, node, weight[..., None] * value[neighbour])
    out: Tensor = mixed / total[..., None]
    return out.permute(1, 2, 0, 3)


class TimeAttention(nn.Module):
    """Every step of a window, or the last one alone, attends to all steps.

    Shapes: (B * N, W, D) -> (B * N, W, D), or (B * N, 1, D).
    """

    def __init__(self, size: int, *, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size, bias=False)
        self.out = nn.Linear(size, size)

    def forward(self, steps: Tensor, *, only_last: bool = False) -> Tensor:
        """Return the new steps, or the last one."""
        normal = self.norm(steps)
        asking = normal[:, -1:] if only_last else normal
        steps = steps[:, -1:] if only_last else steps
        parts = (self.query(asking), *self.key_value(normal).chunk(2, dim=-1))
        query, key, value = (_heads(part, self.n_heads) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        moved: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return steps + functional.dropout(moved, self.dropout, self.training)


def _heads(state: Tensor, n_heads: int) -> Tensor:
    """Return (B, N, D) as (B, h, N, D / h)."""
    n_batch, n_rows, _ = state.shape
    return state.reshape(n_batch, n_rows, n_heads, -1).transpose(1, 2)
