"""What the graph alone says about nodes and pairs of nodes: encodings and attention biases.

Everything here is computed from the edges, without parameters and without node identities, so a
model that uses it runs on any graph. Sparse throughout, but for pairs of a graph that is small
enough that every node attends to every other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csgraph, csr_array, diags_array, eye_array
from scipy.sparse.linalg import eigsh
from torch import Tensor

Numbers = npt.NDArray[np.float64]
Buckets = npt.NDArray[np.int64]
Distance = Literal["paths", "resistance", "none"]

# path lengths in typical edges; whole numbers, as graphs without weights have, lie inside a bucket
_PATH_BOUNDS = np.array([0.0, 0.75, 1.5, 2.5, 3.5, 4.5, 6.5, 9.5, 13.5, 20.5, 30.5, 60.5, 120.5])
N_BUCKETS = len(_PATH_BOUNDS) + 1  # the last one: no path
_EXACT_ENTRIES = 100  # mean number of nodes within reach up to which walks are counted exactly,
_EXACT_PAIRS = 4_000_000  # or pairs of nodes: always up to 2,000 nodes
_N_PROBES = 64  # random signs per node at once beyond that
_N_ROUNDS = 4
_DENSE_NODES = 500  # eigenvectors of all nodes at once up to here, of a few above
_MOST_UNLIKE = 1e3  # conductors of so many typical ones are as good as any, of so few as none
_SIMPLE_GAP = 1e-3  # eigenvalues that differ by a smaller share count as the same


@dataclass(frozen=True)
class Places:
    """Encode where in the graph every node is: random walks, degrees, eigenvectors."""

    n_walk_steps: int
    n_eigenvectors: int

    @property
    def size(self) -> int:
        """Numbers per node; the eigenvectors are the last of them."""
        return 2 * self.n_walk_steps + 2 + self.n_eigenvectors

    def __call__(self, edge_index: Tensor, edge_weight: Tensor, n_nodes: int) -> Tensor:
        """Return (N, `size`) float32."""
        matrix = adjacency(edge_index, edge_weight, n_nodes)
        parts = [walk_encoding(matrix, self.n_walk_steps)]
        if self.n_eigenvectors:
            parts.append(laplacian_encoding(matrix, self.n_eigenvectors))
        code = torch.from_numpy(np.concatenate(parts, axis=1))
        return code.to(edge_weight.device, torch.float32)


class Pairs(NamedTuple):
    """Which nodes attend to which, and how far they are from each other."""

    node: Tensor | None  # (P,) ascending; None: every node attends to every node
    neighbour: Tensor | None  # (P,)
    towards: Tensor  # (P,) or (N, N) bucket of the way from the neighbour to the node
    back: Tensor  # (P,) or (N, N) bucket of the way from the node to the neighbour


@dataclass(frozen=True)
class Reach:
    """Find which nodes attend to which: all to all, or to neighbours on large graphs."""

    distance: Distance
    local_above: int  # nodes

    def __call__(self, edge_index: Tensor, edge_weight: Tensor, n_nodes: int) -> Pairs:
        """Return the pairs of a graph with the buckets of their distances."""
        matrix = adjacency(edge_index, edge_weight, n_nodes)
        pair: tuple[Buckets | None, Buckets | None] = None, None
        if n_nodes > self.local_above:
            node, neighbour, (towards, back) = edge_pairs(matrix)
            pair = node, neighbour
        elif self.distance == "resistance":
            towards = back = resistance_buckets(matrix)
        else:
            towards, back = path_buckets(matrix)
        device = edge_index.device
        tensors = (
            None if part is None else torch.from_numpy(part).to(device)
            for part in (*pair, towards, back)
        )
        return Pairs(*tensors)  # type: ignore[arg-type]  # the last two are there


def adjacency(edge_index: Tensor, edge_weight: Tensor, n_nodes: int) -> csr_array:
    """Return the sparse (N, N) matrix of similarities, [source, target], without loops.

    Edges of the same pair add up; edges of weight 0 are none.
    """
    source, target = edge_index.detach().cpu().numpy()
    weight = edge_weight.detach().double().cpu().numpy()
    kept = (source != target) & (weight > 0)
    pairs = (source[kept], target[kept])
    matrix = csr_array((weight[kept], pairs), shape=(n_nodes, n_nodes))
    matrix.sum_duplicates()
    return matrix


def walk_encoding(matrix: csr_array, n_steps: int) -> Numbers:
    """Return how likely random walks are back where they began, and how many edges a node has.

    The random-walk positional encoding of Dwivedi et al. (LSPE, ICLR 2022), along and against the
    edges. Exact where few nodes lie within reach, as in road networks of any size, else an
    estimate from random signs (Hutchinson) with a fixed seed, whose memory is linear in the nodes.

    Parameters
    ----------
    matrix
        (N, N) similarities, as `adjacency` returns them.
    n_steps
        Longest walk.

    Returns
    -------
    Numbers
        (N, 2 * `n_steps` + 2): square roots of the return probabilities after 1, 2, ... steps
        along the edges, then against them, then the logarithm of 1 + edges out and in.
    """
    against = csr_array(matrix.T)
    along = [np.sqrt(np.clip(p, 0, 1)) for p in _returns(_rows_to_one(matrix), n_steps)]
    columns = 2 * along
    if abs(matrix - against).nnz:  # else every edge leads both ways
        columns[n_steps:] = [
            np.sqrt(np.clip(p, 0, 1)) for p in _returns(_rows_to_one(against), n_steps)
        ]
    for axis in (1, 0):
        columns.append(np.log1p((matrix > 0).sum(axis=axis).astype(np.float64)))
    return np.stack(columns, axis=1)


def _rows_to_one(matrix: csr_array) -> csr_array:
    """Return a matrix whose rows add up to 1, or are empty."""
    total = np.asarray(matrix.sum(axis=1)).ravel()
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    return csr_array(diags_array(inverse) @ matrix)


def _returns(walk: csr_array, n_steps: int) -> list[Numbers]:
    """Return the diagonals of the first powers of a matrix.

    The diagonal of the power a + b is what the powers a and b, transposed, have in common, so that
    half the steps are enough.
    """
    n_nodes = walk.shape[0]
    shorter, power = csr_array(eye_array(n_nodes, format="csr")), walk
    found = [power.diagonal()]
    while len(found) < n_steps:
        if power.nnz > max(_EXACT_ENTRIES * n_nodes, _EXACT_PAIRS):
            return [*found, *_estimated_returns(walk, n_steps)[len(found) :]]
        back = csr_array(power.T)
        if len(found) > 1:
            found.append(np.asarray((shorter * back).sum(axis=1)).ravel())
        found.append(np.asarray((power * back).sum(axis=1)).ravel())
        shorter, power = power, csr_array(power @ walk)
    return found[:n_steps]


def _estimated_returns(walk: csr_array, n_steps: int) -> list[Numbers]:
    """Return estimates of the diagonals, from random signs sent along and against the walk.

    Half the steps each way: the products vary far less than signs compared with their whole walk.
    """
    back = csr_array(walk.T)
    draw = np.random.default_rng(0)
    found = np.zeros((n_steps, walk.shape[0]))
    for _ in range(_N_ROUNDS):
        along = against = draw.choice([-1.0, 1.0], (walk.shape[0], _N_PROBES))
        for step in range(n_steps):
            if step % 2 == 0:
                along = walk @ along
            else:
                against = back @ against
            found[step] += (along * against).mean(axis=1) / _N_ROUNDS
    return list(found)


def laplacian_encoding(matrix: csr_array, size: int) -> Numbers:
    """Return eigenvectors of the normalised Laplacian of the largest connected part.

    Of several of the same size, the heaviest. Those of the smallest eigenvalues but the first,
    scaled to a mean square of 1 (Dwivedi and Bresson, 2020). The sign of each is such that its
    third moment is positive, and eigenvectors that are not determined by the graph, because their
    eigenvalue is repeated or because they are their own mirror image, are zero: so relabelling the
    nodes relabels the encoding.

    Parameters
    ----------
    matrix
        (N, N) similarities, as `adjacency` returns them.
    size
        Number of eigenvectors.

    Returns
    -------
    Numbers
        (N, `size`), zero at nodes outside the largest part.
    """
    both = csr_array(matrix + matrix.T)
    nodes = _largest_part(both)
    encoding = np.zeros((matrix.shape[0], size))
    if len(nodes) < 3:
        return encoding
    part = csr_array(both[nodes][:, nodes])
    values, vectors = _smallest_eigenvectors(part, size + 2)
    gap = np.minimum(np.diff(values[:-1]), np.diff(values[1:])) / values[1:-1]
    vectors = np.sqrt(len(nodes)) * vectors[:, 1:-1]
    skew = (vectors**3).mean(axis=0)
    vectors = vectors * np.where(skew < 0, -1.0, 1.0)
    vectors[:, (gap < _SIMPLE_GAP) | (np.abs(skew) < 1e-4)] = 0
    encoding[nodes, : vectors.shape[1]] = vectors
    return encoding


def _largest_part(both: csr_array) -> Buckets:
    """Return the nodes of the connected part with most nodes, of several the heaviest one."""
    _, label = csgraph.connected_components(both, directed=False)
    weight = np.bincount(label, weights=np.asarray(both.sum(axis=1)).ravel())
    return np.flatnonzero(label == np.lexsort((weight, np.bincount(label)))[-1])


def _smallest_eigenvectors(part: csr_array, count: int) -> tuple[Numbers, Numbers]:
    """Return the smallest eigenvalues and vectors of the normalised Laplacian, ascending."""
    n_nodes = part.shape[0]
    root = diags_array(1 / np.sqrt(np.asarray(part.sum(axis=1)).ravel()))
    laplacian = eye_array(n_nodes) - root @ part @ root
    if n_nodes <= max(_DENSE_NODES, 2 * count):
        values, vectors = np.linalg.eigh(laplacian.toarray())
        return values[:count], vectors[:, :count]
    start = np.random.default_rng(0).normal(size=n_nodes)  # else it would be a random one
    values, vectors = eigsh(csr_array(laplacian).tocsc(), k=count, sigma=-1e-6, v0=start)
    order = np.argsort(values)
    return values[order], vectors[:, order]


def path_buckets(matrix: csr_array) -> tuple[Buckets, Buckets]:
    """Return how far every node is from every other, as buckets; for small graphs.

    An edge is as long as its similarity is small, in units of the median edge.

    Parameters
    ----------
    matrix
        (N, N) similarities, as `adjacency` returns them.

    Returns
    -------
    tuple
        (N, N) buckets of the shortest path from the column's node to the row's, and back.
    """
    if matrix.nnz == 0:
        length = np.where(np.eye(matrix.shape[0], dtype=bool), 0.0, np.inf)
    else:
        length = csgraph.shortest_path(_edge_lengths(matrix), method="D")
    bucket = np.searchsorted(_PATH_BOUNDS, length.T)
    return bucket, bucket.T.copy()


def resistance_buckets(matrix: csr_array) -> Buckets:
    """Return buckets (N, N) of the effective resistance between all nodes; for small graphs.

    Edges are conductors of their similarity, both ways; many paths are less far than one. In units
    of the median edge, like `path_buckets`.
    """
    n_nodes = matrix.shape[0]
    if matrix.nnz == 0:
        return np.where(np.eye(n_nodes, dtype=bool), 0, N_BUCKETS - 1)
    both = (matrix + matrix.T) / 2 * np.median(1 / matrix.data)
    # numbers of too many sizes have no inverse, and buckets do not tell them apart
    both.data = np.where(both.data * _MOST_UNLIKE < 1, 0, both.data.clip(max=_MOST_UNLIKE))
    both.eliminate_zeros()
    _, label = csgraph.connected_components(both, directed=False)
    together = label[:, None] == label
    # a constant per connected part makes the matrix regular, and cancels out of the differences
    inverse = np.linalg.inv(csgraph.laplacian(both.toarray()) + together)
    diagonal = np.diag(inverse)
    resistance = np.where(together, diagonal[:, None] + diagonal - 2 * inverse, np.inf)
    resistance[resistance < 1e-9] = 0
    return np.searchsorted(_PATH_BOUNDS, resistance)


def edge_pairs(matrix: csr_array) -> tuple[Buckets, Buckets, Buckets]:
    """Return every node with itself and its neighbours both ways, and how far those are.

    Parameters
    ----------
    matrix
        (N, N) similarities, as `adjacency` returns them.

    Returns
    -------
    tuple
        (P,) nodes in ascending order, (P,) the neighbour of each, and (2, P) buckets of the edge
        from the neighbour and to it, as in `path_buckets`; no edge is no path.
    """
    n_nodes = matrix.shape[0]
    lengths = _edge_lengths(matrix)
    into, out = csr_array(lengths.T), lengths
    pattern = csr_array(eye_array(n_nodes, format="csr") + (into > 0) + (out > 0)).tocoo()
    order = np.lexsort((pattern.col, pattern.row))
    node, neighbour = (pattern.coords[i][order].astype(np.int64) for i in (0, 1))
    buckets = np.empty((2, len(node)), dtype=np.int64)
    for way, lengths in enumerate((into, out)):
        found = np.asarray(lengths[node, neighbour]).ravel()
        buckets[way] = np.searchsorted(_PATH_BOUNDS, np.where(found > 0, found, np.inf))
        buckets[way, node == neighbour] = 0
    return node, neighbour, buckets


def _edge_lengths(matrix: csr_array) -> csr_array:
    """Return the inverse of similarities, such that the median edge has length 1."""
    lengths = matrix.copy()
    if lengths.nnz:
        lengths.data = 1 / lengths.data
        lengths.data /= np.median(lengths.data)
    return lengths
