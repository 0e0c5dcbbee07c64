"""Cells of a grid as an image with a mask, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from stgraph.errors import InputError
from stgraph.models.sizes import Sizes

_MAX_EMPTY = 16  # places of the raster per cell


class Raster(nn.Module):
    """Scatter the nodes of a grid into rows and columns, and gather them back.

    Places without a cell are zero; one more channel says which have one, and where the grid ends.

    Parameters
    ----------
    sizes
        Of a task whose layout has cells.
    model
        Name to use in messages.

    Raises
    ------
    InputError
        The nodes are no cells with rows and columns, two of them are the same cell, or most of the
        raster would be empty.
    """

    def __init__(self, sizes: Sizes, *, model: str) -> None:
        super().__init__()
        cells = None if sizes.layout is None else sizes.layout.cells
        if cells is None:
            raise InputError(
                f"model {model!r} needs a grid whose cells have a `row` and a `column`; the "
                "connectors grid (squares) and raster make such graphs. For hexagons, stations "
                "and roads use spacetime_patches or gcn_lstm"
            )
        self.n_rows, self.n_columns = (int(n) for n in cells.max(axis=0) + 1)
        self.n_places = self.n_rows * self.n_columns
        if self.n_places > max(_MAX_EMPTY * len(cells), 1024):
            raise InputError(
                f"{len(cells)} cells lie in a raster of {self.n_rows} rows x {self.n_columns} "
                f"columns, which model {model!r} would fill with zeros; cut the grid to the area "
                "of interest or use spacetime_patches"
            )
        places = cells[:, 0] * self.n_columns + cells[:, 1]
        unique, count = np.unique(places, return_counts=True)
        if len(unique) < len(places):
            row, column = divmod(int(unique[count.argmax()]), self.n_columns)
            raise InputError(
                f"{int(count.max())} nodes are the cell of row {row} and column {column} "
                "(counted from the first); give every node its own cell"
            )
        mask = torch.zeros(self.n_places)
        mask[torch.from_numpy(places)] = 1.0
        self.places: Tensor
        self.mask: Tensor
        self.register_buffer("places", torch.from_numpy(places), persistent=False)
        self.register_buffer("mask", mask.view(self.n_rows, self.n_columns), persistent=False)

    def scatter(self, x: Tensor) -> Tensor:
        """Return images with a mask channel: (B, W, N, F) -> (B, W, F + 1, R, C)."""
        n_batch, window, _, n_channels = x.shape
        image = x.new_zeros(n_batch, window, n_channels, self.n_places)
        image = image.index_copy(3, self.places, x.transpose(2, 3))
        image = image.view(n_batch, window, n_channels, self.n_rows, self.n_columns)
        mask = self.mask.to(x.dtype).expand(n_batch, window, 1, -1, -1)
        return torch.cat([image, mask], dim=2)

    def gather(self, image: Tensor) -> Tensor:
        """Return the nodes of images: (..., D, R, C) -> (..., N, D)."""
        return image.flatten(-2).index_select(-1, self.places).transpose(-2, -1)
