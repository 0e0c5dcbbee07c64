"""The sparse graph operator, built once per graph, and diffusion with it."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn


class _SparseProduct(torch.autograd.Function):
    """Sparse times dense with the transpose at hand, so that backward is one product as well."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        """Return ``matrix @ dense``."""
        ctx.transpose = transpose
        return _product(matrix, dense)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the dense factor; the graph itself is not learned."""
        return _product(ctx.transpose, gradient.contiguous()), None, None


def _product(matrix: Tensor, dense: Tensor) -> Tensor:
    """Return ``matrix @ dense`` in the precision of `dense`, computed in that of the matrix."""
    # no sparse product in bf16 on the CPU, whatever mixed precision asks for
    with torch.autocast(dense.device.type, enabled=False):
        return (matrix @ dense.to(matrix.dtype)).to(dense.dtype)


class GraphOperator:
    """A normalised adjacency that mixes node states, kept sparse with its transpose.

    Parameters
    ----------
    edge_index
        (2, E) int64, row 0 source, row 1 target.
    edge_weight
        (E,) similarities, not lengths; 0 or more.
    n_nodes
        Number of nodes N.
    """

    def __init__(self, edge_index: Tensor, edge_weight: Tensor, n_nodes: int) -> None:
        source, target = edge_index
        self._matrix = _mean_of_neighbours(source, target, edge_weight, n_nodes)
        self._transpose = _transposed(self._matrix)

    def __call__(self, state: Tensor) -> Tensor:
        """Replace every node's state by the weighted mean over its in-neighbours.

        Parameters
        ----------
        state
            (B, N, D) node states.

        Returns
        -------
        Tensor
            (B, N, D); zeros at nodes without in-neighbours.
        """
        n_batch, n_nodes, size = state.shape
        columns = state.transpose(0, 1).reshape(n_nodes, n_batch * size)
        mixed: Tensor = _SparseProduct.apply(  # type: ignore[no-untyped-call]
            columns, self._matrix, self._transpose
        )
        return mixed.reshape(n_nodes, n_batch, size).transpose(0, 1)


class DiffusionMix(nn.Module):
    """Concatenate a state with its diffusion along and against the edges.

    The supports of diffusion convolution (Li et al., DCRNN, ICLR 2018) and, with
    ``adaptive_rank``, the learned adjacency of Graph WaveNet (Wu et al., IJCAI 2019) in a low-rank
    form whose cost is linear in the number of nodes.

    Shapes: (B, N, D) -> (B, N, D * `n_supports`).
    """

    def __init__(self, n_nodes: int, *, n_hops: int = 2, adaptive_rank: int = 0) -> None:
        super().__init__()
        self.n_hops = n_hops
        self.n_supports = 1 + 2 * n_hops + (1 if adaptive_rank else 0)
        self.give = nn.Parameter(torch.randn(n_nodes, adaptive_rank)) if adaptive_rank else None
        self.take = nn.Parameter(torch.randn(n_nodes, adaptive_rank)) if adaptive_rank else None
        self._graph: tuple[Tensor, Tensor] | None = None
        self._operators: tuple[GraphOperator, GraphOperator] | None = None

    def forward(self, state: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return the state next to what diffuses into it."""
        parts = [state]
        for operator in self._both_ways(edge_index, edge_weight, state.shape[1]):
            mixed = state
            for _ in range(self.n_hops):
                mixed = operator(mixed)  # (B, N, D)
                parts.append(mixed)
        if self.give is not None and self.take is not None:
            pooled = self.give.softmax(dim=0).T @ state  # (B, rank, D)
            parts.append(self.take.softmax(dim=1) @ pooled)
        return torch.cat(parts, dim=-1)

    def _both_ways(
        self, edge_index: Tensor, edge_weight: Tensor, n_nodes: int
    ) -> tuple[GraphOperator, GraphOperator]:
        """Return the operators along and against the edges, built once per graph."""
        same = self._graph is not None and (
            self._graph[0] is edge_index and self._graph[1] is edge_weight
        )
        if not same or self._operators is None:
            self._graph = (edge_index, edge_weight)
            self._operators = (
                GraphOperator(edge_index, edge_weight, n_nodes),
                GraphOperator(edge_index.flip(0), edge_weight, n_nodes),
            )
        return self._operators


def _mean_of_neighbours(source: Tensor, target: Tensor, weight: Tensor, n_nodes: int) -> Tensor:
    """Return the CSR matrix whose row t averages the sources of t by weight."""
    total = torch.zeros(n_nodes, dtype=weight.dtype, device=weight.device)
    total.index_add_(0, target, weight)
    normal = weight / total[target].clamp_min(torch.finfo(weight.dtype).tiny)
    return _csr(torch.stack([target, source]), normal, n_nodes)


def _transposed(matrix: Tensor) -> Tensor:
    """Return the transpose of a square CSR matrix, as CSR."""
    coo = matrix.to_sparse_coo()  # type: ignore[no-untyped-call]
    return _csr(coo.indices().flip(0), coo.values(), len(matrix))


def _csr(pairs: Tensor, weight: Tensor, n_nodes: int) -> Tensor:
    """Return a square CSR matrix from (2, E) rows and columns; weights of the same pair add up."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        shape = (n_nodes, n_nodes)
        coo: Tensor = torch.sparse_coo_tensor(pairs, weight, shape, check_invariants=False)
        csr: Tensor = coo.coalesce().to_sparse_csr()
    return csr
