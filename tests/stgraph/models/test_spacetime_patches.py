"""Which patches a layout gives, how far tokens see, and large graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stgraph.errors import ConfigError, InputError
from stgraph.layout import Layout
from stgraph.models.build import read_options
from stgraph.models.sizes import Sizes
from stgraph.models.spacetime_patches import (
    SpacetimePatches,
    SpacetimePatchesConfig,
    cut_twice,
    default_patch_size,
)

RING = torch.tensor([[*range(12)], [*range(1, 12), 0]])


def model_on(layout: Layout, **options: object) -> SpacetimePatches:
    """Return an untrained model: 5 steps to 2, two channels in, one known ahead, one out."""
    sizes = Sizes(
        n_nodes=layout.n_nodes,
        window=5,
        horizon=2,
        n_past=2,
        n_future=1,
        n_outputs=1,
        layout=layout,
    )
    torch.manual_seed(0)
    small = {"hidden_size": 8, "n_heads": 2, "dropout": 0.0, **options}
    return SpacetimePatches(sizes, SpacetimePatchesConfig.model_validate(small))


def inputs(n_nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return past and known future of three windows."""
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(3, 5, n_nodes, 2, generator=generator),
        torch.randn(3, 2, n_nodes, 1, generator=generator),
    )


def test_patches_come_from_cells_else_places_else_edges() -> None:
    line = np.column_stack([np.arange(12.0), np.zeros(12)]).astype(np.float32)
    cells = np.array(np.divmod(np.arange(12), 4)).T
    nowhere = np.full((12, 2), np.nan, dtype=np.float32)
    assert model_on(Layout(12, line, cells)).kind == "blocks"
    assert model_on(Layout(12, line)).kind == "space"
    assert model_on(Layout(12, nowhere)).kind == "graph"
    assert model_on(Layout(12)).kind == "graph"
    assert model_on(Layout(12, line, cells), partition="graph").kind == "graph"
    with pytest.raises(InputError, match="no cells with rows and columns"):
        model_on(Layout(12, line), partition="blocks")
    with pytest.raises(InputError, match="no node has a place"):
        model_on(Layout(12, nowhere), partition="space")


@pytest.mark.parametrize("kind", ["blocks", "space", "graph"])
def test_every_way_to_cut_covers_all_nodes_twice(kind: str) -> None:
    cells = np.array(np.divmod(np.arange(12), 4)).T
    layout = Layout(12, cells.astype(np.float32), cells)
    both = cut_twice(layout, RING.numpy(), kind=kind, patch_size=4)
    for patches in both:
        assert set(patches.ravel()) == set(range(12))
    assert {frozenset(p) for p in both[0]} != {frozenset(p) for p in both[1]}


def test_without_pooling_tokens_would_stay_in_their_patch() -> None:
    """Two far-apart patches hear each other through pooled tokens, and each node its own patch."""
    far = np.array([[0.0, 0.0], [1, 0], [1000, 0], [1001, 0]], dtype=np.float32)
    model = model_on(Layout(4, far), patch_size=2, n_layers=1, n_graph_layers=0).double()
    (x, u), edges = inputs(4), torch.zeros((2, 0), dtype=torch.int64)
    x, u = x.double(), u.double()
    weight = torch.zeros(0, dtype=torch.float64)
    changed = x.clone()
    changed[:, :, 0] += 1
    with torch.no_grad():
        gap = (model(x, u, edges, weight) - model(changed, u, edges, weight)).abs().amax((0, 1, 3))
        assert (gap > 0).all()
        model.layers[0].answer_out.weight.zero_()  # what the pooled tokens hand back
        gap = (model(x, u, edges, weight) - model(changed, u, edges, weight)).abs().amax((0, 1, 3))
    assert (gap > 0).tolist() == [True, True, False, False]


@pytest.mark.parametrize("patch_steps", [1, 2, 5, 9])
def test_spans_of_steps_cover_the_window(patch_steps: int) -> None:
    """Five steps in spans of two are three tokens a node; every step is seen."""
    model = model_on(Layout(12), patch_steps=patch_steps)
    x, u = inputs(12)
    x.requires_grad_()
    assert model.tokens(x).shape == (3, -(-5 // min(patch_steps, 5)), 12, 8)
    model(x, u, RING, torch.ones(12)).square().sum().backward()
    assert (x.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_another_graph_is_cut_anew() -> None:
    """Protects edited graphs: partitions follow the edges, but not where places are known."""
    model = model_on(Layout(12), patch_size=4)
    first = model.partitions(RING)
    assert model.partitions(RING) is first
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(model.partitions(order[RING])[0], first[0])
    edited = RING.clone()
    assert torch.equal(model.partitions(edited)[0], first[0])
    edited.copy_(order[RING])
    assert not torch.equal(model.partitions(edited)[0], first[0])
    line = np.column_stack([np.arange(12.0), np.zeros(12)]).astype(np.float32)
    placed = model_on(Layout(12, line), patch_size=4)
    assert placed.partitions(RING) is placed.partitions(order[RING])


def test_patches_grow_with_the_cube_root_of_the_graph() -> None:
    assert [default_patch_size(n, 2) for n in (1, 5, 207, 2_000, 100_000)] == [1, 5, 12, 25, 93]


def test_heads_divide_the_state() -> None:
    with pytest.raises(ConfigError, match="no multiple of `n_heads`"):
        read_options("spacetime_patches", {"hidden_size": 10, "n_heads": 4})


def test_mixed_precision_is_close() -> None:
    model = model_on(Layout(12), patch_size=4)
    x, u = inputs(12)
    plain = model(x, u, RING, torch.ones(12))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(x, u, RING, torch.ones(12))
    torch.testing.assert_close(mixed.float(), plain, rtol=0.1, atol=0.02)


def test_memory_is_linear_in_the_number_of_nodes() -> None:
    """20,000 nodes: no tensor is as large as a hundredth of nodes x nodes."""
    n = 20_000
    rng = np.random.default_rng(0)
    model = model_on(Layout(n, rng.random((n, 2), dtype=np.float32)))
    edges = torch.from_numpy(rng.integers(0, n, (2, 4 * n)))
    largest = 0

    def note(_module: object, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.numel())

    for part in model.modules():
        part.register_forward_hook(note)
    with torch.inference_mode():
        out = model(torch.randn(1, 5, n, 2), torch.randn(1, 2, n, 1), edges, torch.ones(4 * n))
    assert out.shape == (1, 2, n, 1)
    assert largest < n * n / 100
