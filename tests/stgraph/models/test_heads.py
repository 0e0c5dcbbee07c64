"""Heads: every one with every model, what it says by hand, and nothing that it must not see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from learned_models import SMALL
from pydantic import ValidationError
from torch import nn

from stgraph.calibration import Calibration
from stgraph.checkpoint import load_forecaster, save_forecaster
from stgraph.config import HeadConfig, TrainConfig
from stgraph.errors import InputError
from stgraph.forecasting import Forecaster
from stgraph.graph import STGraph
from stgraph.inputs import fit_inputs
from stgraph.layout import layout_of
from stgraph.models.build import build_predictor
from stgraph.models.heads import ClassHead, GaussianHead, QuantileHead, Units
from stgraph.models.layers import DirectHead
from stgraph.models.predictor import Predictor
from stgraph.training import fit
from stgraph.windows import Windows

W, H = 6, 4
NINETEEN = tuple(k / 20 for k in range(1, 20))
HEADS: dict[str, HeadConfig] = {
    "quantiles": HeadConfig(),
    "nineteen": HeadConfig(levels=NINETEEN),
    "odd": HeadConfig(levels=(0.02, 0.75), step_weights="near"),
    "mae": HeadConfig(kind="regression"),
    "mse": HeadConfig(kind="regression", loss="mse", step_weights="far"),
    "huber": HeadConfig(kind="regression", loss="huber", huber_delta=0.5),
    "gaussian": HeadConfig(kind="gaussian"),
    "classes": HeadConfig(kind="classes", edges=(40, 50, 60)),
    "weighted": HeadConfig(kind="classes", edges=(40, 60), class_weights=(1, 2, 5)),
}
BALANCED = HeadConfig(kind="classes", edges=(40, 60), class_weights="balanced")


def build(
    graph: STGraph, head: HeadConfig, name: str = "gcn_lstm", **options: Any
) -> tuple[Predictor, Windows]:
    """Return an untrained model without dropout whose last layer says something, and windows."""
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    torch.manual_seed(0)
    given = {**SMALL.get(name, {}), **({"dropout": 0.0} if name in SMALL else {}), **options}
    predictor = build_predictor(name, given, inputs, layout=layout_of(graph), head=head)
    with torch.no_grad():
        for part in predictor.modules():
            if isinstance(part, DirectHead):
                part.linear.weight.normal_(std=0.3)
    return predictor, Windows(source, range(60))


class Fixed(nn.Module):
    """A model whose answer is given."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x, u, edge_index, edge_weight):
        return self.answer


# ------------------------------------------------------------------------------ every head


@pytest.mark.parametrize("kind", ["nineteen", "huber", "gaussian", "weighted"])
@pytest.mark.parametrize("name", [*sorted(SMALL), "persistence", "ridge"])
def test_every_head_goes_with_every_model(make_signal, name: str, kind: str) -> None:
    head = HEADS[kind]
    predictor, windows = build(make_signal(4), head, name)
    batch = windows.__getitems__(range(40))
    out = predictor(batch)
    assert out.shape == (40, H, 4, 1, head.n_classes or len(head.levels))
    if head.n_classes:
        torch.testing.assert_close(out.sum(-1), torch.ones(40, H, 4, 1))
    else:
        assert (out.diff(dim=-1) >= 0).all()
    loss = predictor.loss(batch)
    assert torch.isfinite(loss)
    if name in SMALL:
        loss.backward()
        silent = [
            key
            for key, value in predictor.named_parameters()
            if value.grad is None or not value.grad.abs().sum() > 0
        ]
        assert silent == []


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_masked_targets_change_no_bit_of_the_loss(make_signal, kind: str) -> None:
    predictor, windows = build(make_signal(3), HEADS[kind])
    batch = windows.__getitems__(range(9))
    mask = torch.rand(batch.y.shape, generator=torch.Generator().manual_seed(0)) < 0.6

    def learn(hidden: float) -> list[torch.Tensor]:
        predictor.zero_grad()
        seen = batch._replace(y_mask=mask, y=torch.where(mask, batch.y, hidden))
        loss = predictor.loss(seen)
        loss.backward()
        grads = [p.grad.clone() for p in predictor.parameters() if p.grad is not None]
        return [loss.detach(), predictor.validation_error(seen).detach(), *grads]

    for hidden in (1e6, float("inf"), float("nan")):
        for quiet, loud in zip(learn(0.0), learn(hidden), strict=True):
            assert torch.equal(quiet, loud)


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_nothing_observed_is_nothing_to_learn(make_signal, kind: str) -> None:
    predictor, windows = build(make_signal(3), HEADS[kind])
    batch = windows.__getitems__(range(9))
    batch = batch._replace(y_mask=torch.zeros_like(batch.y_mask), y=torch.zeros_like(batch.y))
    loss = predictor.loss(batch)
    loss.backward()
    assert loss.item() == 0
    for parameter in predictor.parameters():
        assert parameter.grad is None or not parameter.grad.any()


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_losses_are_computed_in_32_bits(make_signal, kind: str) -> None:
    """Protects from bf16: an answer with 8 bits still has a loss that is not rounded to 8."""
    predictor, windows = build(make_signal(3), HEADS[kind], "identity_mlp")
    batch = windows.__getitems__(range(9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, out = predictor.loss(batch), predictor(batch)
    assert low.dtype == out.dtype == torch.float32
    torch.testing.assert_close(low, predictor.loss(batch), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_gradients_of_every_head(make_signal, kind: str) -> None:
    """Protects the derivative of what stands between a model's numbers and the loss."""
    graph = make_signal(2, 24 * 5)
    predictor, windows = build(graph, HEADS[kind])
    predictor = predictor.double()
    batch = windows.__getitems__([0, 7])
    batch = type(batch)(*(p.double() if p.is_floating_point() else p for p in batch))
    if HEADS[kind].n_classes:  # classes that are not all the same
        batch = batch._replace(y=batch.y + 10 * torch.randn(batch.y.shape))
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(
        2, H, 2, predictor.head.n_channels, generator=generator, dtype=torch.float64
    ).requires_grad_()

    def loss(raw: torch.Tensor) -> torch.Tensor:
        predictor.model = Fixed(raw)
        return predictor.loss(batch)

    assert torch.autograd.gradcheck(loss, (raw,))


@pytest.mark.parametrize("kind", [*sorted(HEADS), "balanced"])
def test_fit_forecast_save_and_load(make_signal, tmp_path, kind: str) -> None:
    head = HEADS.get(kind, BALANCED)
    graph = make_signal(4, 24 * 8, missing=0.1)
    forecaster = trained(graph, head)
    forecast = forecaster.forecast(graph)
    assert forecast.feature_names == tuple("speed" + suffix for suffix in head.suffixes)
    assert np.isfinite(forecast.values).all()
    loaded = load_forecaster(save_forecaster(forecaster, tmp_path / "model"))
    assert loaded.head == head
    np.testing.assert_array_equal(loaded.forecast(graph).values, forecast.values)
    if kind == "balanced":  # weights that were counted are kept, to judge by them again
        ours, theirs = forecaster.predictor.state_dict(), loaded.predictor.state_dict()
        assert torch.equal(ours["head.weights"], theirs["head.weights"])
        assert ours["head.weights"].std() > 0


def trained(graph: STGraph, head: HeadConfig, **options: Any) -> Forecaster:
    train = TrainConfig(
        **{"max_epochs": 2, "batch_size": 32, "learning_rate": 1e-2, "device": "cpu", **options}
    )
    return fit(
        graph, model="gcn_lstm", options=SMALL["gcn_lstm"], window=W, horizon=H, head=head,
        train=train,
    )  # fmt: skip


# ------------------------------------------------------------------------------ quantiles


def test_more_quantiles_leave_the_three_where_they_are(make_signal) -> None:
    """Protects the start: 10, 50 and 90 % of an untrained model do not depend on the others."""
    graph = make_signal(3)
    answers = {}
    for kind in ("quantiles", "nineteen"):
        predictor, windows = build(graph, HEADS[kind])
        predictor.model = Fixed(torch.zeros(9, H, 3, predictor.head.n_channels))
        answers[kind] = predictor(windows.__getitems__(range(9)))
    at = [NINETEEN.index(level) for level in (0.1, 0.5, 0.9)]
    torch.testing.assert_close(answers["nineteen"][..., at], answers["quantiles"])


def test_quantiles_add_up_from_the_median_outwards(make_signal) -> None:
    """Protects the order of the channels: median, outwards below, outwards above."""
    predictor, windows = build(make_signal(2), HeadConfig(levels=(0.05, 0.1, 0.5, 0.9)))
    batch = windows.__getitems__([0])
    raw = torch.full((1, H, 2, 4), -50.0)  # no width at all
    raw[..., 0] = 1.0
    raw[..., 1] = 3.0  # but between 50 and 10 %
    predictor.model = Fixed(raw)
    out = predictor(batch)[..., 0, :]
    assert torch.equal(out[..., 0], out[..., 1])
    assert (out[..., 1] < out[..., 2]).all()
    assert torch.equal(out[..., 2], out[..., 3])


@pytest.mark.parametrize("kind", ["nineteen", "odd", "mae", "gaussian"])
def test_quantiles_neither_cross_nor_fall_below_the_smallest_value(make_signal, kind) -> None:
    graph = make_signal(3, 24 * 8)
    predictor, windows = build(graph, HEADS[kind])
    predictor.eval()
    batch = windows.__getitems__(range(9))
    torch.manual_seed(0)
    for size in (0.1, 10.0, 1000.0):
        predictor.model = Fixed(size * torch.randn(9, H, 3, predictor.head.n_channels))
        out = predictor(batch)
        assert (out.diff(dim=-1) >= 0).all()
        assert (out >= 0).all()
    values = trained(graph, HEADS[kind]).forecast(graph).values  # calibrated
    quantiles = values[..., 1 : 1 + len(HEADS[kind].levels)]
    assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_nineteen_quantiles_hold_what_they_promise(make_signal) -> None:
    graph = make_signal(6, 24 * 30)
    forecaster = trained(graph, HEADS["nineteen"], max_epochs=6)
    windows = Windows(seen_by(graph, forecaster), forecaster.test_starts(graph))
    outs = [out for _, out in forecaster.predict(windows.source, windows.starts)]
    quantiles = np.concatenate(outs)[..., 1:]
    truth = windows.__getitems__(range(len(windows))).y.numpy()[..., None]
    share = (truth <= quantiles).mean(axis=(0, 1, 2, 3))
    assert np.abs(share - NINETEEN).max() < 0.06


def seen_by(graph: STGraph, forecaster: Forecaster) -> Any:
    from stgraph.inputs import Source

    return Source(graph, forecaster.inputs)


# ------------------------------------------------------------------------------ gaussian


def test_gaussian_quantiles_are_those_of_the_distribution(make_signal) -> None:
    predictor, windows = build(make_signal(2), HEADS["gaussian"])
    assert isinstance(predictor.head, GaussianHead)
    batch = windows.__getitems__([0, 5])
    answer = predictor.answer(*predictor.run_model(batch))
    deviation = predictor.head.deviation(answer)
    normal = torch.distributions.Normal(answer[..., 1], deviation)
    for k, level in enumerate((0.1, 0.5, 0.9)):
        torch.testing.assert_close(answer[..., k], normal.icdf(torch.tensor(level)))
    wanted = -normal.log_prob(batch.y).mean() - 0.5 * np.log(2 * np.pi)
    pooled = predictor.scale.mean(dim=0).log()
    torch.testing.assert_close(predictor.loss(batch), wanted - pooled.squeeze())


def test_a_narrow_distribution_far_from_0_has_a_finite_loss() -> None:
    """At 100,000 the next number in 32 bits is 0.008 away, and quantiles are nearer than that."""
    head, one = GaussianHead((0.1, 0.5, 0.9)), torch.ones(1, 1)
    units = Units(1e5 * one, 1e-3 * one, torch.ones(H, 1, 1), torch.ones(1), -1e9 * torch.ones(1))
    raw = torch.zeros(1, H, 1, 1, 2, requires_grad=True)
    answer = head.answer(raw, torch.zeros(1, H, 1, 1), units)
    assert head.deviation(answer).max() == 0
    truth = torch.full((1, H, 1, 1), 1e5)
    losses = head.losses(answer, truth, torch.ones(1, H, 1, 1, dtype=torch.bool), units)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(raw.grad).all()


def test_the_forecast_says_the_standard_deviation(make_signal) -> None:
    graph = make_signal(3)
    forecast = trained(graph, HEADS["gaussian"]).forecast(graph)
    low, mean, high, deviation = (
        forecast.values[..., forecast.feature_names.index(f"speed{end}")]
        for end in ("_q10", "", "_q90", "_std")
    )
    assert (deviation > 0).all()
    np.testing.assert_allclose(high - low, 2 * 1.2815516 * deviation, rtol=1e-4)
    assert ((low < mean) & (mean < high)).all()


def test_the_standard_deviation_does_not_shrink_where_values_end(make_signal) -> None:
    """A lower quantile that is cut off at 0 says nothing about how wide the distribution is."""
    forecaster = trained(make_signal(3), HEADS["gaussian"])
    assert forecaster.inputs.lower[0] == 0
    answer = np.array([-3.0, 1.0, 5.0], dtype=np.float32).reshape(1, 1, 1, 1, 3).repeat(H, axis=1)
    identity = Calibration.identity(H, 1)
    shown = replace(forecaster, calibration=identity)._finish(answer)[0, 0, 0, 0]
    np.testing.assert_allclose(shown, [1, 0, 1, 5, 4 / 1.28155], rtol=1e-4)


# ------------------------------------------------------------------------------ classes


def test_a_limit_belongs_to_the_class_above() -> None:
    head = ClassHead([20, 40.5])
    values = torch.tensor([-3, 19.99, 20, 40.4, 40.5, 99])
    assert head.classify(values).tolist() == [0, 0, 1, 1, 2, 2]


def test_an_untrained_model_has_the_classes_of_its_anchor(make_signal) -> None:
    graph = make_signal(6)
    predictor, windows = build(graph, HEADS["classes"])
    predictor.model = Fixed(torch.zeros(9, H, 6, 4))
    batch = windows.__getitems__(range(9))
    anchor = predictor.anchor(batch) * predictor.scale + predictor.center
    assert isinstance(predictor.head, ClassHead)
    own = predictor.head.classify(anchor)
    out = predictor(batch)
    limits = torch.tensor([40.0, 50.0, 60.0])
    clear = ((anchor[..., None] - limits).abs() > 2).all(dim=-1)
    assert torch.equal(out.argmax(-1)[clear], own[clear])
    # as far from a limit as 80 % of the residuals are at most: 10 % lie beyond it
    start = predictor.anchor(batch)
    inside = predictor.head._around(
        (limits[1] - predictor.center) / predictor.scale + predictor.spread + 0 * start,
        predictor.units(),
    ).exp()
    torch.testing.assert_close(
        inside[..., :2].sum(-1), torch.full_like(start, 0.1), atol=2e-3, rtol=0
    )


def test_balanced_classes_count_the_same() -> None:
    head = ClassHead([1, 2, 3])
    values = torch.tensor([0.0] * 6 + [1.0] * 3 + [2.0])  # none in the last class
    head.balance(values)
    assert head.weights is not None
    classes = head.classify(values)
    total = [head.weights[classes][classes == k].sum().item() for k in range(4)]
    assert total == pytest.approx([10 / 3, 10 / 3, 10 / 3, 0])
    assert head.weights[3] == 1


def test_balance_is_taken_from_the_training_part_only(make_signal) -> None:
    """Protects from a leak: other readings after the training part change no weight."""
    graph = make_signal(4, 24 * 8)
    values = graph.values.copy()
    values[-24:] = 1.0
    late = graph.replace(values=values)
    ours, theirs = (trained(one, BALANCED).predictor.head for one in (graph, late))
    assert isinstance(ours, ClassHead)
    assert isinstance(theirs, ClassHead)
    assert ours.weights is not None
    assert theirs.weights is not None
    assert torch.equal(ours.weights, theirs.weights)


def test_a_class_forecast_says_what_its_classes_are(make_signal) -> None:
    graph = make_signal(3)
    forecast = trained(graph, HEADS["classes"]).forecast(graph)
    assert forecast.provenance["classes"] == [
        "below 40 km/h", "40 to 50 km/h", "50 to 60 km/h", "60 km/h or more",
    ]  # fmt: skip
    assert {feature.unit for feature in forecast.features} == {"1"}
    likely, chances = forecast.values[..., 0], forecast.values[..., 1:]
    np.testing.assert_array_equal(likely, chances.argmax(axis=-1))
    np.testing.assert_allclose(chances.sum(axis=-1), 1, atol=1e-5)


def test_classes_of_two_targets_are_refused(make_signal) -> None:
    with pytest.raises(InputError, match=r"classes have limits .*speed.*flow"):
        build(make_signal(3, n_targets=2), HEADS["classes"])


# ------------------------------------------------------------------------------ step weights


def test_step_weights_by_hand(make_signal) -> None:
    graph = make_signal(3)
    predictor, windows = build(graph, HeadConfig(kind="regression", step_weights=(0, 2, 0, 0)))
    batch = windows.__getitems__(range(9))
    error = (batch.y - predictor(batch)[..., 1]).abs()[:, 1].mean() / predictor.scale.mean()
    torch.testing.assert_close(predictor.loss(batch), error)
    with pytest.raises(InputError, match="`step_weights` has 3 numbers for 4 steps"):
        build(graph, HeadConfig(step_weights=(1, 2, 3)))


# ------------------------------------------------------------------------------ config


def test_levels_are_in_order_and_have_what_tables_show() -> None:
    assert HeadConfig(levels=(0.95, 0.05)).levels == (0.05, 0.1, 0.5, 0.9, 0.95)
    assert HeadConfig(levels=NINETEEN).levels == NINETEEN
    assert HeadConfig(levels=(0.05,)).suffixes == ("", "_q05", "_q10", "_q50", "_q90")
    assert isinstance(QuantileHead((0.1, 0.5, 0.9)), nn.Module)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"levels": (0.025,)}, "whole per cents"),
        ({"levels": (0.0,)}, "whole per cents"),
        ({"kind": "classes"}, "the limits between the classes"),
        ({"kind": "classes", "edges": (3, 2)}, "ascending"),
        ({"kind": "classes", "edges": (3,), "class_weights": (1,)}, "each of the 2 classes"),
        ({"kind": "classes", "edges": (3,), "levels": (0.5,)}, "it to quantiles or"),
        ({"edges": (3,)}, "it to classes, not to quantiles"),
        ({"loss": "mse"}, "it to regression"),
        ({"step_weights": (0, 0)}, "at least one number above 0"),
        ({"step_weights": "nearest"}, "near"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HeadConfig(**given)
