"""Recurrent layers against torch-geometric-temporal, the papers, and finite differences."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from peers import peer
from torch import Tensor, nn

from stgraph.models.recurrent import A3TGCN, DCRNN, GCLSTM, TGCN, GConvLSTM, gru, products

N, B, T, F, D = 7, 3, 4, 2, 5
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "GConvLSTM": (GConvLSTM, {"K": 3}),
    "GConvLSTM, no graph": (GConvLSTM, {"K": 1}),
    "GConvLSTM, one bias": (GConvLSTM, {"K": 2, "bias": False}),
    "GCLSTM": (GCLSTM, {"K": 3}),
    "TGCN": (TGCN, {}),
    "TGCN, improved": (TGCN, {"improved": True}),
    "DCRNN": (DCRNN, {"K": 3}),
    "DCRNN, no graph": (DCRNN, {"K": 1}),
}
ALL = sorted(LAYERS)


def random_graph() -> tuple[Tensor, Tensor]:
    """Return directed weighted edges, loops included, where every node has some each way."""
    generator = torch.Generator().manual_seed(1)
    there = torch.rand(N, N, generator=generator) < 0.35
    there |= torch.eye(N, dtype=torch.bool).roll(1, 0)
    edges = there.nonzero().T.contiguous()
    return edges, 0.1 + torch.rand(edges.shape[1], generator=generator)


def ring() -> tuple[Tensor, Tensor]:
    """Return a directed ring with weights of 1."""
    nodes = torch.arange(N)
    return torch.stack([nodes, (nodes + 1) % N]), torch.ones(N)


def both(name: str) -> tuple[nn.Module, nn.Module]:
    """Return our layer and theirs with the same random weights; they load both ways."""
    torch.manual_seed(0)
    layer_class, options = LAYERS[name]
    theirs = getattr(peer("torch_geometric_temporal.nn.recurrent"), layer_class.__name__)
    ours, other = layer_class(F, D, **options), theirs(F, D, **options)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.5)
    other.load_state_dict(ours.state_dict())
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours.load_state_dict(other.state_dict())
    return ours, other


def step_by_step(layer: nn.Module, x: Tensor, *graph: Tensor) -> Tensor:
    """Return the last hidden state of their layer, window by window and step by step."""
    last = []
    for window in x:
        state: Any = ()
        for now in window:
            out = layer(now, *graph, *state)
            state = out if isinstance(out, tuple) else (out,)
        last.append(state[0])
    return torch.stack(last)


def our_last(layer: nn.Module, x: Tensor, *graph: Tensor) -> Tensor:
    """Return the last hidden state of our layer."""
    out: Tensor = layer(x, *graph)[0][:, -1]
    return out


@pytest.mark.parametrize("name", ALL)
def test_outputs_and_gradients_are_those_of_torch_geometric_temporal(name: str) -> None:
    """Protects the equations, on a graph where theirs are right."""
    ours, theirs = both(name)
    graph = ring() if name.startswith("DCRNN") else random_graph()
    x, wave = torch.randn(B, T, N, F), torch.randn(B, N, D)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    our_out, their_out = our_last(ours, mine, *graph), step_by_step(theirs, other, *graph)
    torch.testing.assert_close(our_out, their_out, rtol=1e-5, atol=1e-5)
    (our_out * wave).sum().backward()
    (their_out * wave).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)
    for (key, value), (other_key, other_value) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert key == other_key
        torch.testing.assert_close(value.grad, other_value.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["GConvLSTM", "GCLSTM", "TGCN"])
def test_without_weights_every_edge_weighs_one(name: str) -> None:
    ours, _ = both(name)
    edges, _ = random_graph()
    x = torch.randn(B, T, N, F)
    torch.testing.assert_close(ours(x, edges)[0], ours(x, edges, torch.ones(edges.shape[1]))[0])


def test_of_large_graphs_the_reset_states_are_not_kept(monkeypatch) -> None:
    """Protects memory: at 100,000 nodes both records of a GRU would take over 3 GB."""
    edges, weight = random_graph()
    layer, x = both("DCRNN")[0], torch.randn(B, T, N, F)
    n_kept = []
    for large in (1 << 30, 0):
        monkeypatch.setattr(gru, "_LARGE", large)
        kept: list[Tensor] = []

        def note(tensor: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            layer(x, edges, weight)
        n_kept.append(len(kept))
    assert n_kept[0] - n_kept[1] == T


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("from_state", [True, False])
@pytest.mark.parametrize(("n_batch", "large"), [(2, 1 << 30), (2, 0), (1, 0)])
def test_the_backward_by_hand_is_that_of_finite_differences(
    monkeypatch, name: str, from_state: bool, n_batch: int, large: int
) -> None:
    """Protects every path of the gradient: inputs, states, weights; from each of the outputs.

    Those of large graphs as well: one window, and what is spread again instead of kept.
    """
    monkeypatch.setattr(gru, "_LARGE", large)
    ours = both(name)[0].double()
    edges, weight = random_graph()
    x = torch.randn(n_batch, 3, N, F, dtype=torch.float64, requires_grad=True)
    start = torch.randn(2, n_batch, N, D, dtype=torch.float64, requires_grad=True)
    is_lstm = "LSTM" in name

    def run(x: Tensor, start: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        state = ((start[0], start[1]) if is_lstm else start[0]) if from_state else None
        out, last = ours(x, edges, weight.double(), state)
        return (out, *last) if is_lstm else (out, last)

    parameters = tuple(ours.parameters())
    assert torch.autograd.gradcheck(run, (x, start, *parameters), fast_mode=True)


@pytest.mark.parametrize("name", ALL)
def test_a_window_may_be_run_in_parts(name: str) -> None:
    """Protects the state that is handed on: two halves are the whole."""
    ours, graph = both(name)[0], random_graph()
    x = torch.randn(B, T, N, F)
    whole, last = ours(x, *graph)
    first, state = ours(x[:, :2], *graph)
    second, also_last = ours(x[:, 2:], *graph, state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    if isinstance(last, tuple):
        torch.testing.assert_close(also_last[1], last[1])
        also_last, last = also_last[0], last[0]
    torch.testing.assert_close(also_last, last)
    torch.testing.assert_close(last, whole[:, -1])


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_kept_without_gradients_and_the_answer_is_the_same(name: str) -> None:
    ours, graph = both(name)[0], random_graph()
    x = torch.randn(B, T, N, F)
    learning = ours(x, *graph)[0]
    with torch.inference_mode():
        torch.testing.assert_close(ours(x, *graph)[0], learning)
    one = ours(x[1:2], *graph)[0]
    torch.testing.assert_close(one, learning[1:2])


@pytest.mark.parametrize("name", ALL)
def test_backward_twice_is_the_same(name: str) -> None:
    """Protects what is kept for the way back from being used as scratch."""
    ours, graph = both(name)[0], random_graph()
    out = our_last(ours, torch.randn(B, T, N, F), *graph).square().sum()
    weights = list(ours.parameters())
    first = torch.autograd.grad(out, weights, retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(out, weights, allow_unused=True)
    for a, b in zip(first, second, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[1::7])
def test_the_order_of_axes_in_memory_does_not_matter(name: str, order: tuple[int, ...]) -> None:
    ours, graph = both(name)[0], random_graph()
    x = torch.randn(B, T, N, F)
    back = [order.index(axis) for axis in range(4)]
    other = x.permute(order).contiguous().permute(back)
    assert torch.equal(ours(other, *graph)[0], ours(x, *graph)[0])


@pytest.mark.parametrize("name", ALL)
def test_mixed_precision(name: str) -> None:
    """On CPUs the recurrence stays in float32: half precision is emulated there."""
    ours, graph = both(name)[0], random_graph()
    x = torch.randn(B, T, N, F)
    plain = our_last(ours, x, *graph)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = our_last(ours, x.bfloat16(), *graph)
        mixed.sum().backward()
    torch.testing.assert_close(mixed, plain, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ALL)
def test_in_half_precision_throughout(name: str) -> None:
    """What mixed precision does on GPUs: weights, inputs and gates in bfloat16."""
    ours, graph = both(name)[0], random_graph()
    x = torch.randn(B, T, N, F)
    plain = our_last(ours, x, *graph)
    low = our_last(ours.bfloat16(), x.bfloat16(), *graph)
    low.float().sum().backward()
    torch.testing.assert_close(low.float(), plain, rtol=0.1, atol=0.1)


def test_without_onednn_the_answer_is_the_same(monkeypatch, caplog) -> None:
    ours, graph = both("GConvLSTM")[0], random_graph()
    x = torch.randn(B, T, N, F)
    usual = ours(x, *graph)[0]
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *_: torch.zeros(2, 4))
    products._onednn.cache_clear()
    with caplog.at_level("INFO"):
        torch.testing.assert_close(ours(x, *graph)[0], usual)
    assert "its own is used" in caplog.text
    products._onednn.cache_clear()


# ------------------------------------------------------------------------------ DCRNN


def diffusion_of_the_paper(x: Tensor, layer: Any, edges: Tensor, weight: Tensor) -> Tensor:
    """Return one diffusion convolution from dense matrices: (N, F) -> (N, D)."""
    adjacency = torch.zeros(N, N).index_put_((edges[0], edges[1]), weight)
    along = (adjacency / adjacency.sum(dim=1, keepdim=True)).T  # columns sum to 1
    against = adjacency / adjacency.sum(dim=0)
    out = x @ layer.weight[:, 0].sum(dim=0) + layer.bias
    for way, walk in enumerate((along, against)):
        powers = [x, walk @ x]
        for k in range(1, layer.weight.shape[1]):
            out = out + powers[k] @ layer.weight[way, k]
            powers.append(2 * walk @ powers[-1] - powers[-2])
    return out


def dcrnn_of_the_paper(layer: Any, x: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
    """Return the last hidden state of one window from dense matrices."""
    h = torch.zeros(N, D)
    for now in x:
        seen = torch.cat([now, h], dim=1)
        z = diffusion_of_the_paper(seen, layer.conv_x_z, edges, weight).sigmoid()
        r = diffusion_of_the_paper(seen, layer.conv_x_r, edges, weight).sigmoid()
        reset = torch.cat([now, r * h], dim=1)
        n = diffusion_of_the_paper(reset, layer.conv_x_h, edges, weight).tanh()
        h = z * h + (1 - z) * n
    return h


def test_dcrnn_walks_by_edge_weights_as_the_paper_and_theirs_does_not() -> None:
    """Theirs uses weights for the degrees only, and degrees of the wrong edges on the way back."""
    ours, theirs = both("DCRNN")
    edges, weight = random_graph()
    x = torch.randn(B, T, N, F)
    right = torch.stack([dcrnn_of_the_paper(ours, window, edges, weight) for window in x])
    torch.testing.assert_close(our_last(ours, x, edges, weight), right, rtol=1e-5, atol=1e-5)
    assert (step_by_step(theirs, x, edges, weight) - right).abs().max() > 0.01


def test_dcrnn_with_four_terms_goes_on_with_the_recursion_and_theirs_does_not() -> None:
    ours = DCRNN(F, D, 4)
    theirs = peer("torch_geometric_temporal.nn.recurrent").DCRNN(F, D, 4)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(B, T, N, F)
    right = torch.stack([dcrnn_of_the_paper(ours, window, *ring()) for window in x])
    torch.testing.assert_close(our_last(ours, x, *ring()), right, rtol=1e-5, atol=1e-5)
    assert (step_by_step(theirs, x, *ring()) - right).abs().max() > 0.01


# ------------------------------------------------------------------------------ A3T-GCN


def test_a3tgcn_tells_the_order_of_time_and_theirs_does_not() -> None:
    """Theirs gives every step the same empty state: shuffled with its attention, nothing moves."""
    torch.manual_seed(0)
    ours, graph = A3TGCN(F, D), random_graph()
    theirs = peer("torch_geometric_temporal.nn.recurrent").A3TGCN(F, D, periods=T)
    x, order = torch.randn(1, T, N, F), torch.tensor([2, 0, 3, 1])
    moved = (ours(x, *graph) - ours(x[:, order], *graph)).abs().max()
    assert moved > 1e-3
    lying = x[0].permute(1, 2, 0)  # (N, F, T)
    before = theirs(lying, *graph)
    with torch.no_grad():
        theirs._attention.copy_(theirs._attention[order].clone())
    torch.testing.assert_close(theirs(lying[..., order], *graph), before)


def test_a3tgcn_weighs_the_states_of_a_tgcn() -> None:
    torch.manual_seed(0)
    ours, graph = A3TGCN(F, D), random_graph()
    x = torch.randn(B, T, N, F)
    states = ours.cell(x, *graph)[0]
    nn.init.zeros_(ours.score[2].weight)  # then all steps count the same
    torch.testing.assert_close(ours(x, *graph), states.mean(dim=1))
