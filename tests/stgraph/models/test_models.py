"""What every learned model must do: shapes, gradients, seeds, learning, relabelling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stgraph import registry
from stgraph.backtesting import evaluate
from stgraph.config import TrainConfig
from stgraph.errors import ConfigError, UnknownNameError
from stgraph.graph import STGraph
from stgraph.inputs import fit_inputs
from stgraph.models.build import build_predictor, read_options
from stgraph.models.predictor import Predictor
from stgraph.models.sizes import Sizes
from stgraph.training import fit
from stgraph.windows import Windows

W, H = 6, 4
SMALL: dict[str, dict[str, Any]] = {
    "gcn_lstm": {"hidden_size": 8, "node_embedding_size": 4, "adaptive_rank": 2},
    "identity_mlp": {"hidden_size": 8, "node_embedding_size": 4, "n_layers": 1},
}
ALL = sorted(SMALL)


def build(graph: STGraph, name: str, seed: int = 0, **options: Any) -> tuple[Predictor, Windows]:
    """Return an untrained model without dropout, and the windows of four days."""
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    torch.manual_seed(seed)
    given = {**SMALL[name], "dropout": 0.0, **options}
    return build_predictor(name, given, inputs, n_nodes=graph.n_nodes), Windows(source, range(60))


def test_every_learned_model_is_in_these_tests() -> None:
    learned = [
        name
        for name in registry.names("models")
        if not getattr(registry.load("models", name), "is_point", False)
    ]
    assert learned == ALL


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("use_future", [True, False])
def test_shape(make_signal, name: str, n_targets: int, use_future: bool) -> None:
    graph = make_signal(5, n_targets=n_targets)
    predictor, windows = build(graph, name, use_future=use_future)
    batch = windows.__getitems__(range(3))
    raw = predictor.model(batch.x, batch.u, batch.edge_index, batch.edge_weight)
    assert raw.shape == (3, H, 5, 3 * n_targets)
    assert predictor(batch).shape == (3, H, 5, n_targets, 3)


@pytest.mark.parametrize("name", ALL)
def test_a_gradient_reaches_every_parameter(make_signal, name: str) -> None:
    predictor, windows = build(make_signal(5), name)
    with torch.no_grad():  # a head that starts at zero passes next to nothing back
        predictor.model.head.linear.weight.normal_(std=0.3)
    predictor.loss(windows.__getitems__(range(40))).backward()
    silent = [
        key
        for key, value in predictor.named_parameters()
        if value.grad is None or not value.grad.abs().sum() > 0
    ]
    assert silent == []


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_output(make_signal, name: str) -> None:
    graph = make_signal(4)
    first, windows = build(graph, name, seed=3)
    again, other = build(graph, name, seed=3)[0], build(graph, name, seed=4)[0]
    batch = windows.__getitems__(range(5))
    assert torch.equal(first(batch), again(batch))
    assert not torch.equal(first(batch), other(batch))


@pytest.mark.parametrize("name", ALL)
def test_an_untrained_model_forecasts_its_anchor(make_signal, name: str) -> None:
    predictor, windows = build(make_signal(4), name)
    anchor = build_predictor("profile_decay", {}, windows.source.inputs, n_nodes=4)
    batch = windows.__getitems__(range(5))
    gap = (predictor(batch)[..., 1] - anchor(batch)[..., 1]).abs()
    assert (gap / predictor.scale).max() < 0.05


@pytest.mark.parametrize("name", ALL)
def test_some_steps_beat_the_last_value_and_the_untrained_model(make_signal, name: str) -> None:
    graph = make_signal(6, 24 * 16)
    train = TrainConfig(max_epochs=8, batch_size=32, learning_rate=1e-2, device="cpu")
    forecaster = fit(graph, model=name, options=SMALL[name], window=W, horizon=H, train=train)
    result = evaluate(forecaster, graph, baselines=("persistence", "profile_decay"))
    overall = result.table().query("horizon == 0").set_index("model")["mae"]
    assert overall[name] < 0.8 * overall["persistence"]
    assert overall[name] < overall["profile_decay"]


def permute(predictor: Predictor, other: Predictor, order: list[int], n_nodes: int) -> None:
    """Give `other` the parameters of `predictor` with everything per node in another order."""
    state = predictor.state_dict()
    for key, value in state.items():
        if key == "decay":
            state[key] = value[:, order]
        elif value.ndim and key.split(".")[-1] in {"identity", "give", "take"}:
            assert len(value) == n_nodes
            state[key] = value[order]
    other.load_state_dict(state)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("learned_identity", [True, False])
def test_relabelling_nodes_relabels_the_forecast(make_signal, name, learned_identity) -> None:
    graph = make_signal(7)
    without = {"node_embedding_size": 0, **({"adaptive_rank": 0} if name == "gcn_lstm" else {})}
    options = {} if learned_identity else without
    order = [4, 2, 6, 0, 1, 5, 3]
    shuffled = graph.select_nodes(graph.node_ids[order])
    predictor, windows = build(graph, name, **options)
    other, other_windows = build(shuffled, name, seed=9, **options)
    if not learned_identity:  # then nothing of the model itself belongs to a node
        assert not {"identity", "give", "take"} & {
            key.split(".")[-1] for key, _ in predictor.model.named_parameters()
        }
    permute(predictor, other, order, 7)
    with torch.no_grad():
        predictor.model.head.linear.weight.normal_(std=0.3)
        permute(predictor, other, order, 7)
        plain = predictor(windows.__getitems__(range(6)))[:, :, order]
        turned = other(other_windows.__getitems__(range(6)))
    torch.testing.assert_close(plain, turned, rtol=1e-3, atol=1e-3)


def test_only_the_graph_model_hears_its_neighbours(make_signal) -> None:
    graph = make_signal(6)
    for name, hears in (("gcn_lstm", True), ("identity_mlp", False)):
        options = {"adaptive_rank": 0, "n_graph_layers": 1, "n_hops": 1} if hears else {}
        predictor, windows = build(graph, name, **options)
        batch = windows.__getitems__([0])
        x = batch.x.clone()
        x[:, :-1, 3] += 5  # what node 3 saw, but for its last value
        before = predictor.model(batch.x, batch.u, batch.edge_index, batch.edge_weight)
        after = predictor.model(x, batch.u, batch.edge_index, batch.edge_weight)
        changed = (before - after).abs().amax(dim=(0, 1, 3)) > 1e-9
        # a ring: 2 and 4 are the neighbours of 3
        assert changed.tolist() == [False, False, hears, True, hears, False]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("n_nodes", "edges"), [(1, True), (1, False), (4, False)])
def test_one_node_and_no_edges(make_signal, name: str, n_nodes: int, edges: bool) -> None:
    predictor, windows = build(make_signal(n_nodes, edges=edges), name)
    loss = predictor.loss(windows.__getitems__(range(8)))
    loss.backward()
    assert torch.isfinite(loss)


# ------------------------------------------------------------------------------ options


@pytest.mark.parametrize("name", registry.names("models"))
def test_options_of_every_model_are_checked(name: str) -> None:
    assert read_options(name, {}) is not None
    with pytest.raises(ConfigError, match=r"`hiden_size`: is no option"):
        read_options(name, {"hiden_size": 3})


def test_all_wrong_options_are_listed_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)2 problem.*hidden_size.*-1.*dropout") as caught:
        read_options("gcn_lstm", {"hidden_size": -1, "dropout": 2})
    assert "gcn_lstm" in str(caught.value)
    with pytest.raises(UnknownNameError, match="gcn_lstm"):
        read_options("gcn_lstmm", {})


# ------------------------------------------------------------------------------ predictor


class Fixed(nn.Module):
    """A model whose answer is given."""

    def __init__(self, answer: torch.Tensor, *, is_point: bool, uses_anchor: bool = True) -> None:
        super().__init__()
        self.answer = answer
        self.is_point = is_point
        self.uses_anchor = uses_anchor

    def forward(self, x, u, edge_index, edge_weight):
        return self.answer


def test_predictor_by_hand(make_signal) -> None:
    graph = make_signal(2, 24 * 5)
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    batch = Windows(source, range(3)).__getitems__([0, 1])
    center, scale = (torch.tensor(part) for part in inputs.target_scale())
    anchor = batch.u[..., :1] + torch.tensor(inputs.decay) * (
        batch.x[:, -1, :, :1] - batch.x[:, -1, :, 2:3]
    ).unsqueeze(1)
    anchor_in_units = anchor * scale + center
    width = torch.tensor(inputs.spread)[:, None] * scale
    # zeros: the anchor, with the spread of its residuals
    out = Predictor(Fixed(torch.zeros(2, H, 2, 3), is_point=False), inputs)(batch)
    torch.testing.assert_close(out[..., 1], anchor_in_units)
    torch.testing.assert_close(
        out[..., 2] - out[..., 1], width.expand(2, H, 2, 1), atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(
        out[..., 1] - out[..., 0], width.expand(2, H, 2, 1), atol=1e-3, rtol=1e-3
    )
    # a point forecast of its own: 2 scaled units over the center, whatever the anchor
    out = Predictor(Fixed(torch.full((2, H, 2, 1), 2.0), is_point=True, uses_anchor=False), inputs)(
        batch
    )
    wanted = (2 * scale + center).expand(2, H, 2, 1)
    torch.testing.assert_close(out[..., 1], wanted)


def test_quantiles_never_cross_and_never_fall_below_the_smallest_value(make_signal) -> None:
    graph = make_signal(3, 24 * 5, n_targets=2)
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    assert (inputs.lower == 0).all()
    batch = Windows(source, range(9)).__getitems__(range(9))
    torch.manual_seed(0)
    for size in (0.1, 10.0, 1000.0):
        wild = size * torch.randn(9, H, 3, 6)
        out = Predictor(Fixed(wild, is_point=False), inputs).eval()(batch)
        assert (out.diff(dim=-1) >= 0).all()
        assert (out >= 0).all()


def test_loss_by_hand(make_signal) -> None:
    graph = make_signal(2, 24 * 5)
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    windows = Windows(source, range(9))
    predictor = Predictor(Fixed(torch.zeros(9, H, 2, 3), is_point=False), inputs)
    batch = windows.__getitems__(range(9))
    mask = batch.y_mask.clone()
    mask[3:, 2:] = False
    batch = batch._replace(y_mask=mask, y=torch.where(mask, batch.y, 0))
    out, truth = predictor(batch).detach().numpy()[..., 0, :], batch.y.numpy()[..., 0]
    total, n = 0.0, 0
    for place in np.ndindex(truth.shape):
        if mask.numpy()[(*place, 0)]:
            for q, forecast in zip((0.1, 0.5, 0.9), out[place], strict=True):
                gap = truth[place] - forecast
                total += q * gap if gap > 0 else (q - 1) * gap
            n += 1
    wanted = total / n / inputs.scaler.scale.mean()
    assert predictor.loss(batch).item() == pytest.approx(wanted, rel=1e-4)
    # nothing observed: nothing to learn, no NaN
    nothing = batch._replace(y_mask=torch.zeros_like(mask), y=torch.zeros_like(batch.y))
    assert predictor.loss(nothing).item() == 0


def test_masked_targets_never_influence_the_loss(make_signal) -> None:
    predictor, windows = build(make_signal(3), "identity_mlp")
    batch = windows.__getitems__(range(9))
    mask = torch.rand(batch.y.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    quiet = batch._replace(y_mask=mask, y=torch.where(mask, batch.y, 0))
    loud = batch._replace(y_mask=mask, y=torch.where(mask, batch.y, 1e6))
    assert predictor.loss(quiet).item() == predictor.loss(loud).item()


def test_sizes_are_what_inputs_say(make_signal) -> None:
    graph = make_signal(3, n_targets=2)
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    arrays = source.gather(np.arange(2))
    sizes = Sizes(3, W, H, inputs.n_past, inputs.n_future, 6)
    assert arrays.x.shape == (2, sizes.window, sizes.n_nodes, sizes.n_past)
    assert arrays.u.shape == (2, sizes.horizon, sizes.n_nodes, sizes.n_future)
