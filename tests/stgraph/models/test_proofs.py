"""What can be proved of every model: nothing leaks, and it answers the same however it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from learned_models import BLENDS, SMALL
from torch import Tensor

from stgraph import registry
from stgraph.checkpoint import load_forecaster, save_forecaster
from stgraph.config import HeadConfig, TrainConfig
from stgraph.forecasting import Forecaster
from stgraph.graph import STGraph
from stgraph.inputs import Source, fit_inputs
from stgraph.layout import layout_of
from stgraph.models.build import build_predictor
from stgraph.models.predictor import Predictor
from stgraph.training import fit
from stgraph.windows import Batch, Windows

W, H = 6, 4
LEARNED = sorted(SMALL)
EVERY = sorted({*registry.names("models"), *LEARNED})
SINGLE = [name for name in EVERY if name not in BLENDS]
TRAIN = TrainConfig(max_epochs=1, batch_size=32, learning_rate=1e-2, device="cpu")


def fitted(graph: STGraph, name: str, head: HeadConfig | None = None) -> Forecaster:
    """Return a model fitted in one epoch."""
    options = {**SMALL, **BLENDS}.get(name, {})
    return fit(graph, model=name, options=options, head=head, window=W, horizon=H, train=TRAIN)


def poisoned(graph: STGraph, forecaster: Forecaster) -> STGraph:
    """Return the graph with every reading behind the validation part out of all bounds."""
    values, mask = graph.values.copy(), graph.mask.copy()
    behind = graph.time > forecaster.tuned_until
    assert behind.sum() > 24
    values[behind] = 1e6
    mask[behind] = True
    return graph.replace(values=values, mask=mask)


def built(graph: STGraph, name: str, **options: Any) -> tuple[Predictor, Windows]:
    """Return an untrained model without dropout whose output is not next to nothing."""
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    torch.manual_seed(0)
    given = {**SMALL.get(name, {}), **({"dropout": 0.0} if name in SMALL else {}), **options}
    predictor = build_predictor(name, given, inputs, layout=layout_of(graph))
    with torch.no_grad():  # heads start at next to nothing
        for part in predictor.model.parameters():
            part.add_(0.05 * torch.randn_like(part))
    return predictor.eval(), Windows(source, range(70))


# ---------------------------------------------------------------- it answers the same


@pytest.mark.parametrize("name", EVERY)
def test_a_saved_model_forecasts_bit_for_bit_the_same(make_signal, tmp_path, name: str) -> None:
    graph = make_signal(4, 24 * 6)
    forecaster = fitted(graph, name)
    again = load_forecaster(save_forecaster(forecaster, tmp_path / "model"))
    expected = forecaster.forecast(graph).values
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(again.forecast(graph).values, expected)


@pytest.mark.parametrize("name", SINGLE)
def test_one_window_alone_is_forecast_as_among_64(make_signal, name: str) -> None:
    """Protects serving: no statistics over the batch, nothing of one window in another."""
    predictor, windows = built(make_signal(5, missing=0.1), name)
    with torch.inference_mode():
        together = predictor(windows.__getitems__(range(64)))
        alone = torch.cat([predictor(windows[i]) for i in (0, 31, 63)])
    scale = predictor.scale.mean()
    assert ((alone - together[[0, 31, 63]]).abs().max() / scale) < 1e-4


@pytest.mark.parametrize("name", LEARNED)
def test_double_precision_says_the_same(make_signal, name: str) -> None:
    predictor, windows = built(make_signal(5), name)
    batch = windows.__getitems__(range(8))
    with torch.inference_mode():
        single = predictor(batch)
        double = predictor.double()(in_double(batch))
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", LEARNED)
def test_a_gpu_says_the_same(make_signal, name: str) -> None:
    predictor, windows = built(make_signal(5), name)
    batch = windows.__getitems__(range(8))
    with torch.inference_mode():
        cpu = predictor(batch)
        gpu = predictor.cuda()(Batch(*(part.cuda() for part in batch)))
    torch.testing.assert_close(cpu, gpu.cpu(), rtol=1e-3, atol=1e-2)


def in_double(batch: Batch) -> Batch:
    """Return the batch with float64 for float32."""
    return Batch(*(part.double() if part.is_floating_point() else part for part in batch))


# ---------------------------------------------------------------- nothing leaks


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("poison", [1e6, -1e6, float("nan"), float("inf")])
def test_what_lies_behind_the_mask_of_targets_changes_nothing(make_signal, name, poison) -> None:
    predictor, windows = built(make_signal(5, missing=0.2), name)
    batch = windows.__getitems__(range(16))
    assert not batch.y_mask.all()
    poisoned = batch._replace(y=torch.where(batch.y_mask, batch.y, poison))
    loss, gradients = loss_and_gradients(predictor, batch)
    other_loss, other_gradients = loss_and_gradients(predictor, poisoned)
    assert torch.equal(loss, other_loss)
    for key, gradient in gradients.items():
        assert torch.equal(gradient, other_gradients[key]), key


def loss_and_gradients(predictor: Predictor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss and its gradient by every parameter."""
    predictor.train().zero_grad()
    loss = predictor.loss(batch)
    loss.backward()
    named = predictor.named_parameters()
    return loss.detach(), {key: p.grad.clone() for key, p in named if p.grad is not None}


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("step", range(1, H))
def test_the_known_future_of_a_step_moves_no_forecast_before_it(make_signal, name, step) -> None:
    """Protects the order of time: an event planned for 8:00 changes nothing at 7:00."""
    predictor, windows = built(make_signal(5), name)
    batch = windows.__getitems__(range(4))
    later = batch.u.clone()
    later[:, step:] += torch.randn_like(later[:, step:])
    with torch.inference_mode():
        moved = (predictor(batch._replace(u=later)) - predictor(batch)).abs()
    assert moved[:, :step].max() == 0
    if name != "persistence":
        assert moved[:, step:].amax(dim=(0, 2, 3, 4)).min() > 0


@pytest.mark.parametrize("name", EVERY)
def test_nothing_of_the_test_part_is_in_a_fit(make_signal, name: str) -> None:
    """Poisons every reading behind the validation part and expects the same fit, bit for bit."""
    graph = make_signal(4, 24 * 8, missing=0.05)
    forecaster = fitted(graph, name)
    assert_same_fit(forecaster, fitted(poisoned(graph, forecaster), name))


@pytest.mark.parametrize("name", ["identity_mlp", "ridge", "ensemble"])
@pytest.mark.parametrize(
    "head",
    [
        HeadConfig(kind="gaussian"),
        HeadConfig(kind="classes", edges=(40, 60), class_weights="balanced"),
    ],
    ids=["gaussian", "balanced classes"],
)
def test_nothing_of_the_test_part_is_in_other_heads(make_signal, name: str, head) -> None:
    """Balanced weights of classes come from the training part, shares of trust from validation."""
    graph = make_signal(4, 24 * 8, missing=0.05)
    forecaster = fitted(graph, name, head)
    assert_same_fit(forecaster, fitted(poisoned(graph, forecaster), name, head))


def assert_same_fit(one: Forecaster, other: Forecaster) -> None:
    """Compare weights, inputs and calibration bit for bit."""
    weights, theirs = one.predictor.state_dict(), other.predictor.state_dict()
    assert weights.keys() == theirs.keys()
    for key, value in weights.items():
        assert torch.equal(value, theirs[key]), key
    for key in ("center", "scale"):
        ours, other_numbers = getattr(one.inputs.scaler, key), getattr(other.inputs.scaler, key)
        np.testing.assert_array_equal(ours, other_numbers)
    for key in ("decay", "spread", "lower", "season_steps", "profile_share", "calendar"):
        np.testing.assert_array_equal(getattr(one.inputs, key), getattr(other.inputs, key))
    assert one.inputs.profile is not None
    assert other.inputs.profile is not None
    np.testing.assert_array_equal(one.inputs.profile.table, other.inputs.profile.table)
    for key in one.calibration.__dataclass_fields__:
        np.testing.assert_array_equal(
            getattr(one.calibration, key), getattr(other.calibration, key)
        )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("training", [True, False])
def test_no_target_moves_a_feature_of_its_window(make_signal, seed: int, training: bool) -> None:
    """Changes every reading from the first forecast step on, in any pattern of gaps."""
    generator = np.random.default_rng(seed)
    graph = make_signal(4, 24 * 20, missing=0.2, n_targets=2, seed=seed)
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 18)
    left_out = source._left_out if training else None
    assert (left_out is not None) == training
    start = int(generator.integers(0, 24 * 16))
    values, mask = graph.values.copy(), graph.mask.copy()
    ahead = slice(start + W, None)
    values[ahead] = generator.normal(0, 1e4, values[ahead].shape)
    mask[ahead] = generator.random(mask[ahead].shape) > 0.3
    changed = graph.replace(values=values, mask=mask)
    before = Source(graph, inputs, left_out=left_out).gather(np.array([start]))
    after = Source(changed, inputs, left_out=left_out).gather(np.array([start]))
    np.testing.assert_array_equal(before.x, after.x)
    np.testing.assert_array_equal(before.u, after.u)
    assert not np.array_equal(before.y, after.y)
