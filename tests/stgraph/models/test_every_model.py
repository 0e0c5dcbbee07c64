"""What every learned model must do: shapes, gradients, seeds, learning, relabelling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from learned_models import BLENDS, INDUCTIVE, PER_NODE, SMALL, WITHOUT_GRAPH

from stgraph import registry
from stgraph.backtesting import evaluate
from stgraph.config import TrainConfig
from stgraph.errors import ConfigError, UnknownNameError
from stgraph.graph import STGraph
from stgraph.inputs import fit_inputs
from stgraph.layout import Layout, layout_of
from stgraph.models.build import build_predictor, read_options
from stgraph.models.layers import DirectHead
from stgraph.models.predictor import Predictor
from stgraph.training import fit
from stgraph.windows import Windows

W, H = 6, 4
ALL = sorted(SMALL)


def build(graph: STGraph, name: str, seed: int = 0, **options: Any) -> tuple[Predictor, Windows]:
    """Return an untrained model without dropout, and the windows of four days."""
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    torch.manual_seed(seed)
    given = {**SMALL[name], "dropout": 0.0, **options}
    return build_predictor(name, given, inputs, layout=layout_of(graph)), Windows(source, range(60))


def test_every_learned_model_is_in_these_tests() -> None:
    learned = [
        name
        for name in registry.names("models")
        if name not in BLENDS and not getattr(registry.load("models", name), "is_point", False)
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


def wake_head(predictor: Predictor) -> None:
    """Give a head that starts at next to nothing some weights."""
    for part in predictor.modules():
        if isinstance(part, DirectHead):
            part.linear.weight.normal_(std=0.3)


@pytest.mark.parametrize("name", ALL)
def test_a_gradient_reaches_every_parameter(make_signal, name: str) -> None:
    predictor, windows = build(make_signal(5), name)
    with torch.no_grad():  # a head that starts at zero passes next to nothing back
        wake_head(predictor)
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
    anchor = build_predictor("profile_decay", {}, windows.source.inputs, layout=Layout(4))
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
        elif value.ndim and key.split(".")[-1] in PER_NODE:
            assert len(value) == n_nodes
            state[key] = value[order]
    other.load_state_dict(state)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("learned_identity", [True, False])
def test_relabelling_nodes_relabels_the_forecast(make_signal, name, learned_identity) -> None:
    graph = make_signal(7)
    options = {} if learned_identity else INDUCTIVE[name]
    order = [4, 2, 6, 0, 1, 5, 3]
    shuffled = graph.select_nodes(graph.node_ids[order])
    predictor, windows = build(graph, name, **options)
    other, other_windows = build(shuffled, name, seed=9, **options)
    if not learned_identity:  # then nothing of the model itself belongs to a node
        assert not PER_NODE & {key.split(".")[-1] for key, _ in predictor.model.named_parameters()}
    permute(predictor, other, order, 7)
    with torch.no_grad():
        wake_head(predictor)
        permute(predictor, other, order, 7)
        plain = predictor(windows.__getitems__(range(6)))[:, :, order]
        turned = other(other_windows.__getitems__(range(6)))
    torch.testing.assert_close(plain, turned, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_a_model_hears_its_neighbours_through_the_graph(make_signal, name: str) -> None:
    """Protects the graph: what a neighbour saw matters, and without edges it does not."""
    predictor, windows = build(make_signal(6), name, **INDUCTIVE[name])
    with torch.no_grad():
        wake_head(predictor)
    batch = windows.__getitems__([0])
    x = batch.x.clone()
    x[:, :-1, 3] += 5  # what node 3 saw, but for its last value
    predictor.eval()
    with torch.no_grad():
        before = predictor.model(batch.x, batch.u, batch.edge_index, batch.edge_weight)
        after = predictor.model(x, batch.u, batch.edge_index, batch.edge_weight)
    changed = (before - after).abs().amax(dim=(0, 1, 3)) > 1e-6
    assert changed[3]
    # a ring: 2 and 4 are the neighbours of 3
    assert changed[[2, 4]].all() != (name in WITHOUT_GRAPH)


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
