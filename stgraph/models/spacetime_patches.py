"""Pooled spacetime patches: attention inside patches, and across them through a few tokens."""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from stgraph.errors import InputError
from stgraph.graph import IntArray
from stgraph.layout import Layout
from stgraph.models.decoder import Decoder
from stgraph.models.graph_operators import version_of
from stgraph.models.layers import ResidualMLP
from stgraph.models.options import DecoderOptions, check_heads
from stgraph.models.partitions import (
    Points,
    complete_places,
    hop_coordinates,
    split_cells,
    split_space,
)
from stgraph.models.sizes import Sizes

Partition = Literal["auto", "space", "graph", "blocks"]


class SpacetimePatchesConfig(DecoderOptions):
    """Options of `SpacetimePatches`."""

    n_layers: int = Field(2, ge=1, le=32)  # every other one looks at the shifted partition
    n_heads: int = Field(4, ge=1, le=64)  # of attention; hidden_size is a multiple of it
    patch_size: int | None = Field(None, ge=1)  # nodes; None: grows with the cube root of N
    patch_steps: int | None = Field(None, ge=1)  # steps; None: the whole window
    n_pooled: int = Field(2, ge=1, le=64)  # tokens of a patch that other patches see
    partition: Partition = "auto"  # blocks of a grid's cells, else by place, else by the graph

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        check_heads("hidden_size", self.hidden_size, self.n_heads)
        return self


class SpacetimePatches(nn.Module):
    """Forecast every node from its patch of space and time, and what the other patches pool.

    Space is cut into balanced patches, the window into spans of steps; a token is a node in a span.
    Each layer attends inside a patch, pools it into few tokens by learned queries, attends among
    those of all patches and spans, and hands the answer back to the nodes. The layers take turns
    between two partitions, so that no border stays one. Cost grows with N^(4/3), memory with N.

    After PatchSTG (Fang et al., KDD 2025), which attends across patches node by node instead of
    through pooled tokens.

    Shapes
    ------
    input
        `x` (B, W, N, F) past, `u` (B, H, N, K) known future.
    graph
        `edge_index` (2, E), `edge_weight` (E,) similarities.
    output
        (B, H, N, `sizes.n_outputs`).
    """

    def __init__(self, sizes: Sizes, config: SpacetimePatchesConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.layout = sizes.layout or Layout(sizes.n_nodes)
        self.kind = _kind_of(self.layout, config.partition)
        lost = self.layout.xyz is None or bool(np.isnan(self.layout.xyz).any())
        self.follows_edges = self.kind == "graph" or (self.kind == "space" and lost)
        self.patch_size = config.patch_size or default_patch_size(sizes.n_nodes, config.n_pooled)
        self.steps = min(config.patch_steps or sizes.window, sizes.window)
        self.n_spans = -(-sizes.window // self.steps)
        self.fold = nn.Linear(self.steps * sizes.n_past, hidden)
        self.span = nn.Parameter(0.1 * torch.randn(self.n_spans, 1, hidden))
        self.layers = nn.ModuleList(PatchLayer(config) for _ in range(config.n_layers))
        self.decoder = Decoder(sizes, config, in_size=self.n_spans * hidden)
        self.who = (
            nn.Linear(config.node_embedding_size, hidden, bias=False)
            if config.node_embedding_size
            else None
        )
        self._partitions: list[Tensor] = []
        self._cut_of: tuple[Tensor, int] | None = None  # edges, and how often they were changed

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return all horizons of all nodes."""
        n_batch, _, n_nodes, _ = x.shape
        state = self.tokens(x)  # (B, S, N, D)
        here = torch.arange(n_nodes, device=x.device)  # where the nodes are among the tokens
        for number, layer in enumerate(self.layers):
            patches = self.partitions(edge_index)[number % 2]
            state = state.index_select(2, here[patches.flatten()])
            state = layer(state.view(*state.shape[:2], *patches.shape, -1)).flatten(2, 3)
            here = _first_place(patches, n_nodes)
        state = state.index_select(2, here)
        encoded = state.transpose(1, 2).reshape(n_batch, n_nodes, -1)  # (B, N, S*D)
        forecast: Tensor = self.decoder(encoded, u, edge_index, edge_weight)
        return forecast

    def tokens(self, x: Tensor) -> Tensor:
        """Return one token per span and node: (B, W, N, F) -> (B, S, N, D)."""
        n_batch, window, n_nodes, n_past = x.shape
        x = functional.pad(x, (0, 0, 0, 0, self.n_spans * self.steps - window, 0))
        spans = x.view(n_batch, self.n_spans, self.steps, n_nodes, n_past).transpose(2, 3)
        state: Tensor = self.fold(spans.flatten(3)) + self.span
        identity = self.decoder.identity
        return state if self.who is None or identity is None else state + self.who(identity)

    def partitions(self, edge_index: Tensor) -> list[Tensor]:
        """Return both partitions, each (L, P) nodes, made once per graph or once for all."""
        if not self._is_cut(edge_index):
            both = cut_twice(
                self.layout, edge_index.cpu().numpy(), kind=self.kind, patch_size=self.patch_size
            )
            self._partitions = [torch.from_numpy(part).to(edge_index.device) for part in both]
            if self.follows_edges:
                self._cut_of = edge_index, version_of(edge_index)
        return self._partitions

    def _is_cut(self, edge_index: Tensor) -> bool:
        """Tell whether the partitions at hand are those of a graph, and where it is."""
        if not self._partitions or self._partitions[0].device != edge_index.device:
            return False
        if self._cut_of is None:
            return True
        edges, version = self._cut_of
        return edges is edge_index and version == version_of(edge_index)


class PatchLayer(nn.Module):
    """Attention inside patches, among their pooled tokens, and back.

    Shapes: (B, S, L, P, D) -> the same.
    """

    def __init__(self, config: SpacetimePatchesConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.n_heads = config.n_heads
        self.inside = nn.Linear(hidden, 3 * hidden)
        self.inside_out = nn.Linear(hidden, hidden)
        self.inside_norm = nn.LayerNorm(hidden)
        self.queries = nn.Parameter(torch.randn(config.n_pooled, hidden))
        self.pool = nn.Linear(hidden, 2 * hidden)
        self.across = nn.Linear(hidden, 3 * hidden)
        self.across_out = nn.Linear(hidden, hidden)
        self.across_norm = nn.LayerNorm(hidden)
        self.ask = nn.Linear(hidden, hidden)
        self.answer = nn.Linear(hidden, 2 * hidden)
        self.answer_out = nn.Linear(hidden, hidden)
        self.answer_norm = nn.LayerNorm(hidden)
        self.update = ResidualMLP(hidden, dropout=config.dropout)

    def forward(self, state: Tensor) -> Tensor:
        """Return the state of all nodes in all patches."""
        n_batch = len(state)
        shape = state.shape
        state = state.flatten(0, 2)  # (B*S*L, P, D)
        mixed = self._attend(*self.inside(state).chunk(3, dim=-1))
        state = self.inside_norm(state + self.inside_out(mixed))

        queries = self.queries.expand(len(state), -1, -1)
        pooled = self._attend(queries, *self.pool(state).chunk(2, dim=-1))  # (B*S*L, M, D)
        pooled = pooled.reshape(n_batch, -1, shape[-1])  # (B, S*L*M, D)
        mixed = self._attend(*self.across(pooled).chunk(3, dim=-1))
        pooled = self.across_norm(pooled + self.across_out(mixed))

        pooled = pooled.reshape(len(state), -1, shape[-1])
        mixed = self._attend(self.ask(state), *self.answer(pooled).chunk(2, dim=-1))
        state = self.answer_norm(state + self.answer_out(mixed))
        out: Tensor = self.update(state)
        return out.view(shape)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return multi-head attention, (B, Q, D) queries over (B, K, D)."""
        queries, keys, values = (
            part.view(*part.shape[:2], self.n_heads, -1).transpose(1, 2)
            for part in (queries, keys, values)
        )
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return mixed.transpose(1, 2).flatten(2)


def default_patch_size(n_nodes: int, n_pooled: int) -> int:
    """Return the patch size that balances attention inside (N*P) and across ((N*M/P)^2)."""
    return min(n_nodes, max(8, round(math.cbrt(2 * n_pooled**2 * n_nodes))))


def cut_twice(
    layout: Layout, edge_index: IntArray, *, kind: Partition, patch_size: int
) -> list[IntArray]:
    """Return two partitions of all nodes with different borders.

    Parameters
    ----------
    layout
        Where the nodes lie.
    edge_index
        (2, E); looked at where nodes have no place.
    kind
        ``blocks``, ``space`` or ``graph``.
    patch_size
        Most nodes in a patch.

    Returns
    -------
    list
        Two arrays (L, P) of node positions.
    """
    if kind == "blocks" and layout.cells is not None:
        blocks = [
            split_cells(layout.cells, patch_size=patch_size, shifted=s) for s in (False, True)
        ]
        whole = [block for block in blocks if block is not None]
        if len(whole) == 2:
            return whole
        points: Points = layout.cells.astype(np.float64)  # a grid with large holes
    elif kind == "space" and layout.xyz is not None:
        points = complete_places(layout.xyz, edge_index)
    else:
        points = hop_coordinates(edge_index, layout.n_nodes)
    return [split_space(points, patch_size=patch_size, shifted=s) for s in (False, True)]


def _kind_of(layout: Layout, asked: Partition) -> Partition:
    """Return how to cut, as asked or as the layout allows."""
    if asked == "blocks" and layout.cells is None:
        raise InputError(
            "`partition` is 'blocks', but the nodes are no cells with rows and columns; "
            "use 'auto', 'space' or 'graph'"
        )
    has_places = layout.xyz is not None and bool(np.isfinite(layout.xyz).all(axis=1).any())
    if asked == "space" and not has_places:
        raise InputError("`partition` is 'space', but no node has a place; use 'auto' or 'graph'")
    if asked != "auto":
        return asked
    if layout.cells is not None:
        return "blocks"
    return "space" if has_places else "graph"


def _first_place(patches: Tensor, n_nodes: int) -> Tensor:
    """Return where each node comes in the flattened patches; (N,)."""
    flat = patches.flatten()
    place = torch.arange(len(flat), device=flat.device)
    first = torch.full((n_nodes,), len(flat), dtype=torch.int64, device=flat.device)
    return first.scatter_reduce(0, flat, place, "amin")
