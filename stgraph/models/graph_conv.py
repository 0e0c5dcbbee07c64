"""Graph convolution inside an encoder: sequences with the node first, all steps in one product."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from stgraph.models.graph_operators import kind_of, per_graph
from stgraph.models.options import Convolution

Adjacency = Literal["auto", "dense", "low_rank"]
_DENSE_NODES = 500  # above, N x N numbers cost more time than all else, and then the memory


class LearnedAdjacency(nn.Module):
    """Who listens to whom, learned: (N, C) -> (N, C), rows are weighted means over all nodes.

    ``dense`` is the self-adaptive adjacency of Graph WaveNet, softmax(relu(take give')), N x N;
    ``low_rank`` softmax(take) softmax(give)', whose cost is linear in the number of nodes.

    Parameters
    ----------
    n_nodes
        Number of nodes N.
    rank
        Numbers that say what a node takes, and what it gives.
    kind
        ``auto`` is dense up to 500 nodes.
    """

    def __init__(self, n_nodes: int, *, rank: int, kind: Adjacency = "auto") -> None:
        super().__init__()
        self.is_dense = kind == "dense" or (kind == "auto" and n_nodes <= _DENSE_NODES)
        self.give = nn.Parameter(torch.randn(n_nodes, rank))
        self.take = nn.Parameter(torch.randn(n_nodes, rank))

    def factors(self) -> tuple[Tensor, ...]:
        """Return the matrices whose product is the adjacency, computed once for all layers."""
        if self.is_dense:
            return ((self.take @ self.give.T).relu().softmax(dim=1),)
        return self.take.softmax(dim=1), self.give.softmax(dim=0).T


class GraphConv(nn.Module):
    """A linear map of a state, its neighbourhoods and what a learned adjacency adds.

    Shapes
    ------
    input
        (N, ..., C_in), the node first, so that every support is one product.
    output
        (N, ..., C_out).
    """

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        convolution: Convolution = "diffusion",
        n_hops: int = 2,
        n_learned: int = 0,
    ) -> None:
        super().__init__()
        self.kind, n_mixed = kind_of(convolution, n_hops)
        self.keeps_state = convolution == "chebyshev"  # T_0 is the state itself
        self.n_learned = n_learned
        n_supports = n_mixed + (not self.keeps_state) + n_learned
        self.linear = nn.Linear(n_supports * in_size, out_size)

    def forward(
        self,
        state: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor,
        learned: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """Return the new state of every node; `learned` are the factors of an adjacency."""
        supports = per_graph(self.kind, edge_index, edge_weight, len(state))
        columns = state.reshape(len(state), -1)
        parts = [part.view(state.shape) for part in supports(columns)]
        if not self.keeps_state:
            parts.insert(0, state)
        for _ in range(self.n_learned):
            for factor in reversed(learned):
                columns = factor @ columns
            parts.append(columns.view(state.shape))
        out: Tensor = self.linear(torch.cat(parts, dim=-1))
        return out
