"""Index windows as torch batches: one graph, one signal, nothing copied but the batch at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.weak import WeakIdKeyDictionary

from stgraph.errors import InputError
from stgraph.graph import IntArray, STGraph
from stgraph.inputs import Source, fit_length_scale
from stgraph.neighbours.dynamic import is_dynamic

# edge index array -> what it and its weights were as tensors
_TENSORS: Any = WeakIdKeyDictionary()


class Batch(NamedTuple):
    """Some windows of one graph."""

    x: Tensor  # (B, W, N, F) past, scaled
    u: Tensor  # (B, H, N, K) known future, scaled
    y: Tensor  # (B, H, N, C) targets in input units, 0 where not observed
    y_mask: Tensor  # (B, H, N, C) True = observed
    edge_index: Tensor  # (2, E)
    edge_weight: Tensor  # (E,) similarities


class Windows(Dataset[Batch]):
    """Windows of one graph by the position they start at.

    A window is an index, never a copy: a batch is gathered when it is asked for, so the memory
    needed above the signal itself is one batch, however long the signal is.

    Parameters
    ----------
    source
        A graph seen through fitted inputs.
    starts
        First input step of every window.
    """

    def __init__(self, source: Source, starts: Sequence[int] | IntArray | range) -> None:
        self.source = source
        self.starts = np.asarray(starts, dtype=np.int64)
        self.edges = graph_tensors(source.graph, length_scale=source.inputs.length_scale)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.starts)

    def __getitem__(self, index: int) -> Batch:
        """Return one window as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return several windows as one batch, gathered at once."""
        arrays = self.source.gather(self.starts[np.asarray(indices, dtype=np.int64)])
        return Batch(
            torch.from_numpy(arrays.x),
            torch.from_numpy(arrays.u),
            torch.from_numpy(arrays.y),
            torch.from_numpy(arrays.y_mask),
            *self.edges,
        )

    def at_once(self, *, most: int = 64) -> int:
        """Return how many windows to hold at once: fewer of large graphs."""
        return self.source.inputs.windows_at_once(self.source.graph.n_nodes, most=most)

    def loader(
        self, *, batch_size: int | None = None, sampler: Sampler[int] | None = None
    ) -> DataLoader[Batch]:
        """Return a loader of whole batches, in time order without a sampler; of 64 by default."""
        return DataLoader(
            self,
            batch_size=batch_size or self.at_once(),
            sampler=sampler,
            generator=torch.Generator(),  # or it would draw from the global one
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # a batch already, never a list
        )


def graph_tensors(graph: STGraph, *, length_scale: float | None = None) -> tuple[Tensor, Tensor]:
    """Return edge index and similarities of a graph; lengths pass through a Gaussian kernel.

    The same edges give the same tensors, so that what models compute of a graph is computed once.

    Parameters
    ----------
    graph
        Its edge weights are similarities, or metres.
    length_scale
        Of the kernel, in metres; None fits it to the graph.

    Raises
    ------
    InputError
        A weight is negative, so that no mean over neighbours can be taken, or the edges change
        over time, so that a pair has several.
    """
    if is_dynamic(graph):
        raise InputError(
            "the edges change over time; models take one set of edges: call collapse_edges(graph) "
            "or edges_at(graph, instant)"
        )
    weight = graph.edge_weight
    if len(weight) and weight.min() < 0:
        edge = int(weight.argmin())
        raise InputError(
            f"`edge_weight` is {weight[edge]} at edge {edge}; models need weights of 0 or more"
        )
    if graph.weight_unit == "m" and len(weight):
        scale = length_scale or fit_length_scale(graph) or 1.0
        weight = np.exp(-np.square(weight / scale))
    edges = torch.tensor(graph.edge_index), torch.tensor(weight, dtype=torch.float32)
    known: tuple[Tensor, Tensor] | None = _TENSORS.get(graph.edge_index)
    if known is not None and all(map(torch.equal, known, edges)):  # arrays may change in place
        return known
    _TENSORS[graph.edge_index] = edges
    return edges


def _as_it_is(batch: Batch) -> Batch:
    """Return a batch that is one already."""
    return batch
