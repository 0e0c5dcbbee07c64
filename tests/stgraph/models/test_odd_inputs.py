"""Every learned model on odd graphs and tasks, and as a module that others copy and reuse."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from learned_models import NEEDS_GRID, SMALL
from torch import Tensor, nn

from stgraph import registry
from stgraph.layout import Layout
from stgraph.models.build import read_options
from stgraph.models.sizes import Sizes

N, W, H = 7, 6, 4
ALL = sorted(SMALL)
NODES = torch.arange(N)
RING = torch.stack([NODES, (NODES + 1) % N])
ONES = torch.ones(N)
ODD: dict[str, tuple[Tensor, Tensor]] = {
    "isolated nodes": (RING[:, :2], ONES[:2]),
    "weights of 0": (RING, torch.zeros(N)),
    "loops": (torch.cat([RING, torch.stack([NODES, NODES])], dim=1), torch.ones(2 * N)),
    "edges twice": (RING.repeat(1, 2), torch.ones(2 * N)),
    "unlike weights": (RING, torch.logspace(-30, 20, N)),
}


def build(name: str, *, window: int = W, horizon: int = H) -> nn.Module:
    """Return a model without dropout, of nodes without places, whose weights are not near zero."""
    torch.manual_seed(0)
    cells = np.stack(np.divmod(np.arange(N), 3), axis=1) if name in NEEDS_GRID else None
    layout = Layout(N, cells=cells)
    sizes = Sizes(N, window, horizon, n_past=3, n_future=2, n_outputs=3, layout=layout)
    model = registry.load("models", name)(
        sizes, read_options(name, {**SMALL[name], "dropout": 0.0})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def signal(*, window: int = W, horizon: int = H) -> tuple[Tensor, Tensor]:
    """Return past and known future of two windows."""
    return torch.randn(2, window, N, 3), torch.randn(2, horizon, N, 2)


def learn(model: nn.Module, *inputs: Any) -> Tensor:
    """Return the forecast, after making sure that it and all gradients are finite."""
    out: Tensor = model(*inputs)
    out.square().sum().backward()
    assert torch.isfinite(out).all()
    for key, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), key
    return out


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("graph", ODD)
def test_odd_graphs(name: str, graph: str) -> None:
    learn(build(name), *signal(), *ODD[graph])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("window", "horizon"), [(1, 1), (1, 5), (13, 1)])
def test_short_and_long_windows(name: str, window: int, horizon: int) -> None:
    model = build(name, window=window, horizon=horizon)
    out = learn(model, *signal(window=window, horizon=horizon), RING, ONES)
    assert out.shape == (2, horizon, N, 3)


@pytest.mark.parametrize("name", ALL)
def test_a_copy_of_a_used_model_answers_the_same(name: str) -> None:
    """Protects averages of weights: they are kept in a copy of the whole module."""
    model, inputs = build(name), (*signal(), RING, ONES)
    expected = model(*inputs)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(*inputs), expected)
    assert torch.equal(model(*inputs), expected)


@pytest.mark.parametrize("name", ALL)
def test_what_inference_left_behind_can_be_learned_with(name: str) -> None:
    """Protects training: what is kept of a graph may have been made by a validation."""
    model, edges = build(name), (RING.clone(), ONES.clone())
    with torch.inference_mode():
        model.eval()(*signal(), *edges)
    learn(model.train(), *signal(), *edges)


@pytest.mark.parametrize("name", ALL)
def test_an_edge_changed_in_place_is_heard(name: str) -> None:
    """Protects edited graphs: nothing that is kept of a graph outlives it."""
    model, inputs = build(name).eval(), signal()
    edges, weight = RING.clone(), ONES.clone()
    model(*inputs, edges, weight)
    edges[1] = (NODES + 2) % N
    weight[0] = 3
    fresh = build(name).eval()(*inputs, edges.clone(), weight.clone())
    torch.testing.assert_close(model(*inputs, edges, weight), fresh)


@pytest.mark.parametrize("name", ALL)
def test_single_after_double_precision(name: str) -> None:
    """Protects what is kept of a graph from being handed on in another type."""
    model, (x, u) = build(name), signal()
    single = model(x, u, RING, ONES)
    double = model.double()(x.double(), u.double(), RING, ONES.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.float()(x, u, RING, ONES), single)
