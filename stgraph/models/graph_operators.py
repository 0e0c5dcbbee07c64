"""Fixed operators of a graph, built once per graph: walks, Chebyshev polynomials, GCN.

A `Supports` holds the matrices T_1 ... T_S that a model mixes node states with, in CSR with their
transposes, so that backward costs what forward does. Which ones is said by a frozen `Diffusion`,
`Chebyshev` or `Normalised`; `per_graph` remembers what was built of a graph for as long as its
edge tensors live:

>>> supports = per_graph(Diffusion(n_hops=2), edge_index, edge_weight, n_nodes)
>>> mixed = supports.mix(state)  # (B, N, D) -> (B, N, S * D)
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakIdKeyDictionary

from stgraph.models.options import Convolution

Built = TypeVar("Built")
Series = Literal["power", "chebyshev"]

_DENSE_NODES = 2000  # on GPUs, up to here a dense product is faster than a sparse one
_MAX_FILL = 4.0  # on GPUs, powers are stacked up to so many times the terms of going hop by hop
_CHUNK_BYTES = 1 << 28  # columns are laid out anew in parts of this size


class Supports:
    """Fixed matrices of one graph, applied to node states all at once.

    Each walk gives its first `n_hops` powers (or Chebyshev polynomials); with `identity` the state
    itself comes first. On GPUs the powers are multiplied out and stacked where they stay sparse,
    so that all supports are one product; on CPUs that takes more terms than going hop by hop, and
    more time (METR-LA, K=3: twice).

    Parameters
    ----------
    walks
        (N, N) matrices, row = node that receives.
    n_hops
        Powers of each; 0 or more.
    series
        ``power`` P, P^2, ... or ``chebyshev`` T_1 = P, T_k = 2 P T_(k-1) - T_(k-2).
    identity
        Whether T_0, the state itself, is the first support.
    dense
        Whether to keep dense matrices; None: on GPUs up to 2,000 nodes.
    """

    def __init__(
        self,
        walks: Sequence[sparse.csr_array],
        *,
        n_hops: int,
        series: Series = "power",
        identity: bool = False,
        dense: bool | None = None,
    ) -> None:
        self.n_nodes: int = walks[0].shape[0]
        self.n_supports = len(walks) * n_hops + int(identity)
        self._walks = list(walks)
        self._n_hops = n_hops
        self._series = series
        self._identity = identity
        self._dense = dense
        self._pairs: dict[tuple[torch.dtype, torch.device], list[tuple[Tensor, Tensor]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what goes to other processes: without tensors, which are made there again."""
        return {**self.__dict__, "_pairs": {}}

    def __call__(self, columns: Tensor) -> Tensor:
        """Apply all supports to a matrix of node states, differentiably: (N, C) -> (S, N, C)."""
        out: Tensor = _Product.apply(columns, self)  # type: ignore[no-untyped-call]
        return out

    def mix(self, state: Tensor) -> Tensor:
        """Put what each support makes of the states side by side: (B, N, D) -> (B, N, S * D)."""
        n_batch, n_nodes, size = state.shape
        bytes_each = 8 * n_nodes * max(1, self.n_supports * size)
        n_parts = max(1, min(n_batch, -(-n_batch * bytes_each // _CHUNK_BYTES)))
        if n_parts > 1:
            return torch.cat([self.mix(part) for part in state.tensor_split(n_parts)])
        columns = state.transpose(0, 1).reshape(n_nodes, n_batch * size)
        mixed: Tensor = self(columns).view(self.n_supports, n_nodes, n_batch, size)
        return mixed.permute(2, 1, 0, 3).reshape(n_batch, n_nodes, self.n_supports * size)

    def product(self, columns: Tensor) -> Tensor:
        """Apply all supports, not differentiably: (N, C) -> (S, N, C)."""
        pairs = self._matrices(columns)
        inputs = columns.to(pairs[0][0].dtype)
        shape = (self.n_supports, self.n_nodes, columns.shape[1])
        with torch.autocast(columns.device.type, enabled=False):
            if self._is_stack(pairs):
                return (pairs[0][0] @ inputs).view(shape).to(columns.dtype)
            out = inputs.new_empty(shape)
            if self._identity:
                out[0] = inputs
            for walk, (matrix, _) in enumerate(pairs):
                first = int(self._identity) + walk * self._n_hops
                self._walk(matrix, inputs, out[first : first + self._n_hops])
        return out.to(columns.dtype)

    def transposed_product(self, columns: Tensor) -> Tensor:
        """Apply the transposes and add up, not differentiably: (S, N, C) -> (N, C)."""
        pairs = self._matrices(columns)
        inputs = columns.to(pairs[0][0].dtype)
        with torch.autocast(columns.device.type, enabled=False):
            if self._is_stack(pairs):
                return (pairs[0][1] @ inputs.reshape(-1, columns.shape[2])).to(columns.dtype)
            total = inputs[0].clone() if self._identity else torch.zeros_like(inputs[0])
            for walk, (_, transpose) in enumerate(pairs):
                first = int(self._identity) + walk * self._n_hops
                total += self._back(transpose, inputs[first : first + self._n_hops])
        return total.to(columns.dtype)

    def _walk(self, matrix: Tensor, columns: Tensor, out: Tensor) -> None:
        """Write the powers of one walk into (hops, N, C)."""
        for hop in range(self._n_hops):
            now = out[hop - 1] if hop else columns
            if hop and self._series == "chebyshev":
                before = out[hop - 2] if hop > 1 else columns
                torch.addmm(before, matrix, now, beta=-1, alpha=2, out=out[hop])
            else:
                torch.mm(matrix, now, out=out[hop])

    def _back(self, transpose: Tensor, columns: Tensor) -> Tensor:
        """Sum the transposed powers of one walk by Horner's or Clenshaw's scheme."""
        if not self._n_hops:
            return columns.new_zeros(columns.shape[1:])
        before, after = None, columns[-1]
        for hop in reversed(range(self._n_hops - 1)):
            twice = 2 if self._series == "chebyshev" else 1
            step = torch.addmm(columns[hop], transpose, after, alpha=twice)
            if self._series == "chebyshev" and before is not None:
                step -= before
            before, after = after, step
        out = transpose @ after
        if self._series == "chebyshev" and before is not None:
            out -= before
        return out

    def _matrices(self, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return matrices and transposes for states of this type and place; one if stacked."""
        on_gpu = like.device.type == "cuda"
        dense = on_gpu and self.n_nodes <= _DENSE_NODES if self._dense is None else self._dense
        low = like.dtype in (torch.float16, torch.bfloat16)
        # no sparse products in half precision, and on CPUs they would gain nothing
        dtype = torch.float32 if low and not (dense and on_gpu) else like.dtype
        key = (dtype, like.device)
        if key not in self._pairs:
            stack = self._multiply_out(_MAX_FILL if on_gpu or dense else 1.0)
            with torch.inference_mode(mode=False):
                self._pairs[key] = [
                    (
                        _to_torch(matrix, dtype, like.device, dense=dense),
                        _to_torch(sparse.csr_array(matrix.T), dtype, like.device, dense=dense),
                    )
                    for matrix in (self._walks if stack is None else [stack])
                ]
        return self._pairs[key]

    def _is_stack(self, pairs: list[tuple[Tensor, Tensor]]) -> bool:
        """Tell whether there is one matrix with all supports."""
        return pairs[0][0].shape[0] != self.n_nodes or self.n_supports == 1

    def _multiply_out(self, fill: float) -> sparse.csr_array | None:
        """Return all supports in one (S * N, N) matrix, or None if they take too many terms."""
        most = fill * self._n_hops * sum(walk.nnz for walk in self._walks) + self.n_nodes
        parts = [sparse.eye_array(self.n_nodes, format="csr")] if self._identity else []
        for walk in self._walks:
            before, now = sparse.eye_array(self.n_nodes, format="csr"), walk
            for hop in range(self._n_hops):
                if hop:
                    after = walk @ now
                    if self._series == "chebyshev":
                        after = 2 * after - before
                    before, now = now, after
                parts.append(now)
                if sum(part.nnz for part in parts) > most:
                    return None
        if not parts:
            return sparse.csr_array((0, self.n_nodes))
        return sparse.csr_array(sparse.vstack(parts, format="csr"))


class _Product(torch.autograd.Function):
    """All supports at once, with the transpose at hand so that backward is one product as well."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, supports: Supports) -> Tensor:
        """Return (S, N, C)."""
        ctx.supports = supports
        return supports.product(columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the states; the graph itself is not learned."""
        return ctx.supports.transposed_product(gradient), None


# ------------------------------------------------------------------------------ kinds


@dataclass(frozen=True)
class Diffusion:
    """Random walks along and against the edges, as in DCRNN (Li et al., ICLR 2018).

    Averaging (the default), each node takes the weighted mean of its in-neighbours, and of its
    out-neighbours. Spreading, each node gives away what it has in shares of its edges' weights:
    the operator of DCRNN's authors, whose columns sum to 1.
    """

    n_hops: int = 2
    identity: bool = False
    series: Series = "power"
    spreading: bool = False
    both_ways: bool = True
    dense: bool | None = None

    def __call__(self, edge_index: Tensor, edge_weight: Tensor, n_nodes: int) -> Supports:
        """Return the supports of a graph."""
        along = _adjacency(edge_index, edge_weight, n_nodes)
        walks = [along, sparse.csr_array(along.T)] if self.both_ways else [along]
        if self.spreading:  # divide by what the giver gives in all, not by what the taker takes
            walks = [sparse.csr_array(_rows_to_one(sparse.csr_array(w.T)).T) for w in walks]
        else:
            walks = [_rows_to_one(walk) for walk in walks]
        return Supports(
            walks,
            n_hops=self.n_hops,
            series=self.series,
            identity=self.identity,
            dense=self.dense,
        )


@dataclass(frozen=True)
class Chebyshev:
    """Chebyshev polynomials T_0 ... T_(K-1) of the scaled Laplacian (Defferrard et al., 2016).

    As `torch_geometric.nn.ChebConv` has them: loops are left out, degrees are those of the
    sources, and the largest eigenvalue is taken as 2 (``sym``, ``rw``) or as twice the largest
    degree (``none``).

    They are made for edges that lead both ways. With one-way streets, where a node hears much and
    is hardly heard, they grow beyond bounds; `bounded` takes the larger of both degrees, so that no
    walk grows (its spectral norm with ``sym`` is 1 at most). Else it is the same.
    """

    n_terms: int = 3
    normalization: Literal["sym", "rw", "none"] = "sym"
    identity: bool = True  # whether T_0, the state itself, comes first
    bounded: bool = False  # whether degrees are the larger of those out and in
    dense: bool | None = None

    def __call__(self, edge_index: Tensor, edge_weight: Tensor, n_nodes: int) -> Supports:
        """Return the supports of a graph."""
        other = edge_index[0] != edge_index[1]
        along = _adjacency(edge_index[:, other], edge_weight[other], n_nodes)
        degree = np.asarray(along.sum(axis=0)).ravel()  # by source
        if self.bounded:
            degree = np.maximum(degree, np.asarray(along.sum(axis=1)).ravel())
        if self.normalization == "none":
            scale = max(float(degree.max(initial=0)), np.finfo(np.float64).tiny)
            scaled = sparse.diags_array(degree / scale - 1) - along / scale
        elif self.normalization == "sym":
            root = _inverse(np.sqrt(degree))
            scaled = -(sparse.diags_array(root) @ along @ sparse.diags_array(root))
        else:
            scaled = -(along @ sparse.diags_array(_inverse(degree)))
        return Supports(
            [sparse.csr_array(scaled)],
            n_hops=self.n_terms - 1,
            series="chebyshev",
            identity=self.identity,
            dense=self.dense,
        )


@dataclass(frozen=True)
class Normalised:
    """The symmetrically normalised adjacency of GCN (Kipf and Welling, ICLR 2017), with loops.

    As `torch_geometric.nn.GCNConv` has it: nodes without a loop get one of weight `loop`, degrees
    are those of the targets.
    """

    loop: float = 1.0  # 0: none is added
    n_hops: int = 1
    identity: bool = False
    dense: bool | None = None

    def __call__(self, edge_index: Tensor, edge_weight: Tensor, n_nodes: int) -> Supports:
        """Return the supports of a graph."""
        along = _adjacency(edge_index, edge_weight, n_nodes)
        if self.loop:
            has_loop = np.zeros(n_nodes, dtype=bool)
            has_loop[edge_index[0][edge_index[0] == edge_index[1]].cpu().numpy()] = True
            along = sparse.csr_array(along + sparse.diags_array(np.where(has_loop, 0, self.loop)))
        root = _inverse(np.sqrt(np.asarray(along.sum(axis=1)).ravel()))
        scaled = sparse.diags_array(root) @ along @ sparse.diags_array(root)
        return Supports(
            [sparse.csr_array(scaled)],
            n_hops=self.n_hops,
            identity=self.identity,
            dense=self.dense,
        )


def _adjacency(edge_index: Tensor, edge_weight: Tensor, n_nodes: int) -> sparse.csr_array:
    """Return the (N, N) matrix of weights, row = target; those of the same pair add up."""
    source, target = edge_index.cpu().numpy()
    weight = edge_weight.detach().cpu().double().numpy()
    return sparse.csr_array((weight, (target, source)), shape=(n_nodes, n_nodes))


def _rows_to_one(matrix: sparse.csr_array) -> sparse.csr_array:
    """Return a matrix with rows that sum to 1; rows of zeros stay."""
    share = _inverse(np.asarray(matrix.sum(axis=1)).ravel())
    return sparse.csr_array(sparse.diags_array(share) @ matrix)


def _inverse(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return 1 / values, 0 where they are 0."""
    inverse = np.zeros(len(values))
    np.divide(1, values, out=inverse, where=values > 0)
    return inverse


def _to_torch(
    matrix: sparse.csr_array, dtype: torch.dtype, device: torch.device, *, dense: bool
) -> Tensor:
    """Return a scipy matrix as a torch matrix, with the 32-bit indices that MKL wants."""
    if dense:
        return torch.from_numpy(matrix.toarray()).to(dtype=dtype, device=device)
    matrix.sort_indices()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data).to(dtype),
            size=matrix.shape,
            check_invariants=False,
        ).to(device)


# ------------------------------------------------------------------------------ per graph

# edge_index -> (what, N, id of edge_weight) -> (edge_weight, versions of both, built)
_REMEMBERED: Any = WeakIdKeyDictionary()


def per_graph(
    build: Callable[[Tensor, Tensor, int], Built],
    edge_index: Tensor,
    edge_weight: Tensor,
    n_nodes: int,
) -> Built:
    """Return ``build(edge_index, edge_weight, n_nodes)``, computed once per graph.

    All models share what was built. It is forgotten with the edge tensors, and built anew when
    they are other ones or were changed in place.

    Parameters
    ----------
    build
        Hashable: a module-level function or a frozen dataclass such as `Diffusion`. What it
        returns must not hold the edge tensors themselves.
    edge_index
        (2, E) int64, row 0 source, row 1 target.
    edge_weight
        (E,) similarities, 0 or more.
    n_nodes
        Number of nodes N.
    """
    built_of_graph = _REMEMBERED.get(edge_index)
    if built_of_graph is None:
        built_of_graph = _REMEMBERED[edge_index] = {}
    key = (build, n_nodes, id(edge_weight))
    state = (version_of(edge_index), version_of(edge_weight))
    known = built_of_graph.get(key)
    if known is not None and known[0]() is edge_weight and known[1] == state:
        return cast(Built, known[2])
    for other in [k for k, (weight, _, _) in built_of_graph.items() if weight() is None]:
        del built_of_graph[other]
    with torch.inference_mode(mode=False), torch.no_grad():
        built = build(edge_index, edge_weight, n_nodes)
    built_of_graph[key] = (weakref.ref(edge_weight), state, built)
    return built


def version_of(tensor: Tensor) -> int:
    """Return what changes when a tensor is changed in place; tensors of inference do not tell."""
    return -1 if tensor.is_inference() else tensor._version


# ------------------------------------------------------------------------------ layer


def kind_of(
    convolution: Convolution, n_hops: int
) -> tuple[Diffusion | Normalised | Chebyshev, int]:
    """Return the supports that an option asks for, and how many they are."""
    kinds: dict[Convolution, tuple[Diffusion | Normalised | Chebyshev, int]] = {
        "diffusion": (Diffusion(n_hops), 2 * n_hops),
        "gcn": (Normalised(n_hops=n_hops), n_hops),
        "chebyshev": (Chebyshev(n_terms=n_hops + 1, bounded=True), n_hops + 1),
    }
    return kinds[convolution]


class DiffusionMix(nn.Module):
    """Concatenate a state with what its neighbours are like.

    By default its diffusion along and against the edges (Li et al., DCRNN, ICLR 2018); with
    ``convolution`` the powers of GCN's adjacency or Chebyshev polynomials instead. With
    ``adaptive_rank`` also the learned adjacency of Graph WaveNet (Wu et al., IJCAI 2019) in a
    low-rank form whose cost is linear in the number of nodes.

    Shapes: (B, N, D) -> (B, N, D * `n_supports`).
    """

    def __init__(
        self,
        n_nodes: int,
        *,
        n_hops: int = 2,
        adaptive_rank: int = 0,
        convolution: Convolution = "diffusion",
    ) -> None:
        super().__init__()
        self.kind, n_mixed = kind_of(convolution, n_hops)
        self.keeps_state = convolution == "chebyshev"  # T_0 is the state itself
        self.n_supports = n_mixed + (not self.keeps_state) + (adaptive_rank > 0)
        self.give = nn.Parameter(torch.randn(n_nodes, adaptive_rank)) if adaptive_rank else None
        self.take = nn.Parameter(torch.randn(n_nodes, adaptive_rank)) if adaptive_rank else None

    def forward(self, state: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        """Return the state next to what comes from its neighbours."""
        supports = per_graph(self.kind, edge_index, edge_weight, state.shape[1])
        parts = [supports.mix(state)] if self.keeps_state else [state, supports.mix(state)]
        if self.give is not None and self.take is not None:
            pooled = self.give.softmax(dim=0).T @ state  # (B, rank, D)
            parts.append(self.take.softmax(dim=1) @ pooled)
        return torch.cat(parts, dim=-1)
