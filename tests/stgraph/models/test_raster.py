"""Grids as images: where cells go, what is refused, and what convolutions see."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from stgraph_connectors.grids.raster import read_raster

from stgraph import registry
from stgraph.errors import InputError
from stgraph.layout import Layout, layout_of
from stgraph.models.build import read_options
from stgraph.models.raster import Raster
from stgraph.models.sizes import Sizes

GRID_MODELS = ("cnn_3d", "conv_lstm", "cnn_lstm")


def sizes_of(cells: np.ndarray | None, n_nodes: int | None = None) -> Sizes:
    """Return the sizes of a task on some cells: 4 steps to 2, three channels in, one out."""
    count = len(cells) if cells is not None else n_nodes or 1
    layout = Layout(count, None, cells)
    return Sizes(
        n_nodes=count, window=4, horizon=2, n_past=3, n_future=2, n_outputs=1, layout=layout
    )


def test_nodes_go_to_their_rows_and_columns_and_back() -> None:
    """Three cells in two rows and two columns; the fourth place is empty, and the mask says so."""
    raster = Raster(sizes_of(np.array([[1, 1], [0, 0], [0, 1]])), model="cnn_3d")
    x = torch.arange(1.0, 7.0).view(1, 1, 3, 2)  # node n has (2n + 1, 2n + 2)
    image = raster.scatter(x)
    assert image.tolist() == [[[[[3, 5], [0, 1]], [[4, 6], [0, 2]], [[1, 1], [0, 1]]]]]
    assert torch.equal(raster.gather(image)[..., :2], x)


@pytest.mark.parametrize("name", GRID_MODELS)
def test_nodes_that_are_no_cells_are_refused_with_a_way_out(name: str) -> None:
    model_class = registry.load("models", name)
    message = rf"'{name}' needs a grid .* spacetime_patches"
    for sizes in (sizes_of(None, 3), Sizes(3, 4, 2, 3, 2, 1)):
        with pytest.raises(InputError, match=message):
            model_class(sizes, read_options(name, {}))


def test_a_raster_of_nothing_but_holes_is_refused() -> None:
    cells = np.array([[0, 0], [9_999, 9_999]])
    with pytest.raises(InputError, match="2 cells lie in a raster of 10000 rows x 10000 columns"):
        Raster(sizes_of(cells), model="cnn_3d")


def test_two_nodes_in_one_cell_are_refused() -> None:
    with pytest.raises(InputError, match="2 nodes are the cell of row 0 and column 1"):
        Raster(sizes_of(np.array([[0, 1], [0, 0], [0, 1]])), model="cnn_3d")


@pytest.mark.parametrize("name", GRID_MODELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_cell_sees_as_far_as_its_convolutions(name: str, dtype: torch.dtype) -> None:
    """Protects rows and columns: without graph, what happens in a corner stays near it."""
    cells = np.array(np.divmod(np.arange(49), 7)).T
    options = {"n_graph_layers": 0, "node_embedding_size": 0, "dropout": 0, "n_layers": 1}
    torch.manual_seed(0)
    model = registry.load("models", name)(sizes_of(cells), read_options(name, options)).eval()
    steps = 4 if name == "conv_lstm" else 1  # a recurrence looks one cell further every step
    x, u = torch.randn(2, 4, 49, 3), torch.zeros(2, 2, 49, 2)
    changed = x.clone()
    changed[:, 0, 0] += 3  # the corner, at the first step
    edges, weight = torch.zeros((2, 0), dtype=torch.int64), torch.zeros(0)
    if dtype == torch.float64:
        model, x, changed, u, weight = (thing.to(dtype) for thing in (model, x, changed, u, weight))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        gap = (model(x, u, edges, weight) - model(changed, u, edges, weight)).abs()
    assert torch.isfinite(gap).all()
    if dtype == torch.float64:
        moved = gap.amax(dim=(0, 1, 3)).view(7, 7) > 1e-14
        assert moved[: steps + 1, : steps + 1].all()
        assert moved.sum() == (steps + 1) ** 2


@pytest.mark.parametrize("name", GRID_MODELS)
def test_holes_are_told_apart_from_cells_of_zero(name: str) -> None:
    """A cell of zeros beside another one changes what that one sees; the mask channel says so."""
    model_class, options = registry.load("models", name), read_options(name, {"n_graph_layers": 0})
    answers = []
    for cells in (np.array([[0, 0], [0, 2]]), np.array([[0, 0], [0, 2], [0, 1]])):
        torch.manual_seed(0)
        model = model_class(sizes_of(cells), options).eval()
        with torch.no_grad():
            model.decoder.identity.zero_()
            x, u = torch.zeros(1, 4, len(cells), 3), torch.zeros(1, 2, len(cells), 2)
            edges = torch.zeros((2, 0), dtype=torch.int64)
            answers.append(model(x, u, edges, torch.zeros(0))[:, :, :2])
    assert not torch.allclose(answers[0], answers[1], atol=1e-7)


@pytest.mark.data
def test_a_real_coast_is_a_raster_with_holes(data_dir: Path) -> None:
    """Sea surface temperatures on 9 x 216 cells, 443 of them land."""
    graph = read_raster(data_dir / "weather-grid" / "ostia_monthly.nc", every=2)
    layout = layout_of(graph)
    sizes = dataclasses.replace(sizes_of(layout.cells), layout=layout)
    raster = Raster(sizes, model="cnn_3d")
    assert (raster.n_rows, raster.n_columns) == (9, 216)
    assert int(raster.mask.sum()) == graph.n_nodes == 1501
    values = torch.from_numpy(graph.values[None, :4])
    assert torch.equal(raster.gather(raster.scatter(values))[..., :1], values)
