"""Cut nodes into balanced patches: by place, by the cells of a grid, or by the graph alone.

A partition is an array (L, P) of node positions. Patches that are short of P nodes repeat their
own, so that attention needs no mask; patches differ by one node at most, but for those at the rim
of a shifted partition, which have half as many.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from stgraph.graph import BoolArray, IntArray

Points = npt.NDArray[np.floating]

_LANDMARKS = 8  # distances to them are the coordinates of a graph without places
_SMOOTHING = 3  # rounds of averaging that tell apart nodes of the same distances
_TURN = math.radians(40)  # of a shifted partition; not 45, where the diagonals of a grid tie
_MIN_FILL = 0.5  # share of a raster that has to be cells for it to be cut into blocks
_HASHING = 8  # rounds that tell nodes apart by what surrounds them


def split_space(points: Points, *, patch_size: int, shifted: bool = False) -> IntArray:
    """Cut points into balanced patches by a k-d tree.

    Every cut lies across the widest axis, in proportion to the patches on either side. Points of
    the same coordinate are told apart by the other axes, and only then by their order.

    Parameters
    ----------
    points
        (N, D) finite coordinates.
    patch_size
        Most nodes in a patch.
    shifted
        Move the borders: cut in turned axes, and from half a patch on.

    Returns
    -------
    ndarray
        (L, P) node positions, L = ceil(N / patch_size), one more if shifted.
    """
    n_patches = -(-len(points) // patch_size)
    size = -(-len(points) // n_patches)  # no more than needed
    capacity = np.full(n_patches, size)
    if shifted and n_patches > 1:
        capacity = np.array([size // 2, *capacity[1:], size - size // 2])
        points = _turned(points)
    return _padded(_cut(points.astype(np.float64), capacity), size)


def split_cells(cells: IntArray, *, patch_size: int, shifted: bool = False) -> IntArray | None:
    """Cut the cells of a grid into blocks of rows and columns.

    Parameters
    ----------
    cells
        (N, 2) row and column from 0.
    patch_size
        Cells of a block, about: blocks are as square as the grid allows.
    shifted
        Move the borders by half a block.

    Returns
    -------
    ndarray or None
        (L, P) node positions; None if half of the raster or more has no cells.
    """
    n_rows, n_columns = (int(n) for n in cells.max(axis=0) + 1)
    if len(cells) < _MIN_FILL * n_rows * n_columns:
        return None
    # a grid narrower than a square block has longer ones
    per_axis = [
        max(1, round(n / max(math.sqrt(patch_size), patch_size / other)))
        for n, other in ((n_rows, n_columns), (n_columns, n_rows))
    ]
    shift = 0.5 if shifted else 0.0
    block = [
        np.floor(cells[:, axis] * (count / size) + (shift if count > 1 else 0.0)).astype(np.int64)
        for axis, (count, size) in enumerate(zip(per_axis, (n_rows, n_columns), strict=True))
    ]
    order = np.lexsort((cells[:, 1], cells[:, 0], block[1], block[0]))
    key = block[0][order] * (per_axis[1] + 1) + block[1][order]
    pieces = np.split(order, np.flatnonzero(np.diff(key)) + 1)
    return _padded(pieces, max(len(piece) for piece in pieces))


def hop_coordinates(edge_index: IntArray, n_nodes: int) -> Points:
    """Place nodes by the edges alone, so that `split_space` can cut them.

    A node's coordinates are its distances in hops to some nodes that are far apart, a bit smoothed.

    Parameters
    ----------
    edge_index
        (2, E); directions do not matter.
    n_nodes
        Number of nodes N.

    Returns
    -------
    ndarray
        (N, D) coordinates; those of two components are far from each other.
    """
    ends = np.concatenate([edge_index, edge_index[::-1]], axis=1)
    shape = (n_nodes, n_nodes)
    both = sparse.csr_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=shape)
    mean = _mean_of_neighbours(edge_index, n_nodes)
    degree = np.bincount(ends[0], minlength=n_nodes)
    mark = _surroundings(degree, mean)  # decides between nodes that are equally far
    hops = _hops(both, int(np.argmax(degree + mark)))
    nearest = np.full(n_nodes, np.inf)
    columns: list[Points] = []
    for _ in range(_LANDMARKS):
        farthest = hops if not columns else nearest
        hops = _hops(both, int(np.lexsort((mark, farthest))[-1]))
        columns.append(hops)
        nearest = np.minimum(nearest, hops)
    points = np.column_stack(columns)
    # other components lie far away
    points = np.where(np.isfinite(points), points, 2 * points[np.isfinite(points)].max() + 1)
    for _ in range(_SMOOTHING):
        points = np.where(degree[:, None] == 0, points, (points + mean @ points) / 2)
    # what no landmark tells apart at least stays together by component
    _, component = csgraph.connected_components(both, directed=False)
    highest = np.zeros(n_nodes)
    np.maximum.at(highest, component, mark)
    return np.column_stack([points, 1e-6 * highest[component], 1e-9 * component, 1e-12 * mark])


def complete_places(xyz: Points, edge_index: IntArray) -> Points:
    """Put nodes without a place (NaN) where their neighbours are; else at the middle."""
    lost: BoolArray = np.isnan(xyz.sum(axis=1))
    if not lost.any():
        return xyz
    known = np.where(lost[:, None], 0.0, xyz).astype(np.float64)
    if lost.all():
        return known
    mean = _mean_of_neighbours(edge_index, len(xyz))
    found: BoolArray = ~lost
    middle = known[found].mean(axis=0)
    for _ in range(_LANDMARKS):  # hops over which a place is handed on
        share: Points = mean @ found.astype(np.float64)
        reached = lost & ~found & (share > 0)
        known[reached] = (mean @ known)[reached] / share[reached, None]
        found |= reached
    known[~found] = middle
    return known


# ------------------------------------------------------------------------ parts


def _cut(points: Points, capacity: IntArray) -> list[IntArray]:
    """Return the members of the leaves of a k-d tree, from the first leaf to the last."""
    leaves: list[IntArray] = []
    before = np.concatenate([[0], np.cumsum(capacity)])
    stack = [(np.arange(len(points)), 0, len(capacity))]
    while stack:
        members, first, last = stack.pop()
        if last - first == 1:
            leaves.append(members)
            continue
        middle = (first + last) // 2
        share = (before[middle] - before[first]) / (before[last] - before[first])
        here = points[members]
        axis = int(np.argmax(np.ptp(here, axis=0))) if len(here) else 0
        others = [here[:, other] for other in range(here.shape[1]) if other != axis]
        members = members[np.lexsort((*others, here[:, axis]))]
        cut = round(len(members) * share)
        stack.append((members[cut:], middle, last))
        stack.append((members[:cut], first, middle))
    return leaves


def _padded(pieces: list[IntArray], size: int) -> IntArray:
    """Return patches as one array (L, size); short ones repeat their members, empty ones go."""
    return np.stack([np.resize(piece, size) for piece in pieces if len(piece)])


def _turned(points: Points) -> Points:
    """Return points with every pair of axes turned, so that cuts fall elsewhere."""
    turned = points.astype(np.float64)
    cos, sin = math.cos(_TURN), math.sin(_TURN)
    for first in range(turned.shape[1] - 1):
        pair = turned[:, first : first + 2] @ np.array([[cos, -sin], [sin, cos]])
        turned[:, first : first + 2] = pair
    return turned


def _surroundings(degree: IntArray, mean: sparse.csr_array) -> Points:
    """Return a number of 0 to 1/2 per node that depends on what surrounds it, not on its label."""
    mark = degree.astype(np.float64)
    for _ in range(_HASHING):
        mark = np.sin(1 + mark + 2 * (mean @ mark))
    # as rounded, sums in another order are the same
    return np.round((mark + 1) / 4, 9)


def _hops(both: sparse.csr_array, start: int) -> Points:
    """Return the number of edges from one node to all, infinite where there is no way."""
    hops: Points = csgraph.dijkstra(both, indices=[start], unweighted=True)[0]
    return hops


def _mean_of_neighbours(edge_index: IntArray, n_nodes: int) -> sparse.csr_array:
    """Return the matrix that averages over neighbours, whatever the direction of the edges."""
    ends = np.concatenate([edge_index, edge_index[::-1]], axis=1)
    count = np.bincount(ends[1], minlength=n_nodes)
    weight = 1.0 / count[ends[1]]
    return sparse.csr_array((weight, (ends[1], ends[0])), shape=(n_nodes, n_nodes))
