"""Errors of classes: by hand, as scikit-learn defines them, masked, beside binned baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from stgraph.backtesting import backtest, evaluate
from stgraph.classification import ClassErrors, classify
from stgraph.config import HeadConfig, TrainConfig
from stgraph.evaluation import Evaluation
from stgraph.forecasting import Forecaster
from stgraph.graph import STGraph
from stgraph.training import fit

W, H = 6, 4
MLP: dict[str, Any] = {"hidden_size": 8, "node_embedding_size": 4, "n_layers": 1}
HEAD = HeadConfig(kind="classes", edges=(40, 50, 60))
TRAIN = TrainConfig(max_epochs=6, batch_size=32, learning_rate=1e-2, device="cpu")


def errors_of(likely: np.ndarray, truth: np.ndarray, mask: np.ndarray, k: int) -> ClassErrors:
    """Return the errors of forecasts (B, H, N) that are sure of a class at 80 %."""
    errors = ClassErrors.empty(truth.shape[1], truth.shape[2], k)
    chances = np.full((*truth.shape, k), 0.2 / (k - 1), dtype=np.float32)
    np.put_along_axis(chances, likely[..., None], np.float32(0.8), axis=-1)
    errors.add(likely, truth, mask, chances)
    return errors


def test_metrics_by_hand() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 2]).reshape(7, 1, 1)
    likely = np.array([0, 0, 0, 1, 1, 0, 1]).reshape(7, 1, 1)
    row = errors_of(likely, truth, np.ones(truth.shape, bool), 4).metrics(axis=None).iloc[0]
    assert row["accuracy_percent"] == pytest.approx(100 * 4 / 7)
    assert row["macro_recall_percent"] == pytest.approx(100 * (3 / 4 + 1 / 2 + 0) / 3)
    assert row["f1_percent_0"] == pytest.approx(100 * 2 * 3 / (4 + 4))
    assert row["f1_percent_1"] == pytest.approx(100 * 2 * 1 / (2 + 3))
    assert row["f1_percent_2"] == 0
    assert np.isnan(row["f1_percent_3"])  # neither came nor was forecast
    assert row["macro_f1_percent"] == pytest.approx(100 * (0.75 + 0.4 + 0) / 3)
    assert row["log_loss"] == pytest.approx(-(4 * np.log(0.8) + 3 * np.log(0.2 / 3)) / 7)
    assert row["n"] == 7


def test_batches_axes_and_masks_agree() -> None:
    """Protects the counting: per horizon, per node and over all are sums of the same counts."""
    generator = np.random.default_rng(0)
    truth, likely = (generator.integers(3, size=(40, 2, 5)) for _ in range(2))
    mask = generator.random(truth.shape) < 0.7
    mask[:, :, 4] = False
    whole = errors_of(likely, truth, mask, 3)
    halves = errors_of(likely[:9], truth[:9], mask[:9], 3)
    rest = errors_of(likely[9:], truth[9:], mask[9:], 3)
    np.testing.assert_array_equal(whole.counts, halves.counts + rest.counts)
    right = (truth == likely) & mask
    per_node = whole.metrics(axis=0)
    wanted = 100 * right.sum(axis=(0, 1))[:4] / mask.sum(axis=(0, 1))[:4]
    np.testing.assert_allclose(per_node["accuracy_percent"][:4], wanted)
    assert per_node.drop(columns="n").iloc[4].isna().all()
    assert whole.metrics(axis=1)["n"].tolist() == mask.sum(axis=(0, 2)).tolist()
    both = whole.metrics(axis=())
    np.testing.assert_array_equal(both["n"], mask.sum(axis=0).ravel())  # nodes vary fastest
    # what is hidden does not count, whatever it is
    loud = errors_of(np.where(mask, likely, 2), np.where(mask, truth, 0), mask, 3)
    np.testing.assert_array_equal(loud.counts, whole.counts)


def test_a_limit_belongs_to_the_class_above() -> None:
    values = np.array([0.1, 0.0999, 0.2, 7], dtype=np.float32)
    assert classify(values, (0.1, 0.2)).tolist() == [1, 0, 2, 2]


def fitted(graph: STGraph, head: HeadConfig = HEAD, **options: Any) -> Forecaster:
    given = {"model": "identity_mlp", "options": MLP, "train": TRAIN, **options}
    return fit(graph, window=W, horizon=H, head=head, **given)


@pytest.fixture(scope="module")
def graph(make_signal) -> STGraph:
    return make_signal(6, 24 * 16, missing=0.05)


@pytest.fixture(scope="module")
def result(graph) -> Evaluation:
    return evaluate(fitted(graph), graph, baselines=("persistence", "profile_decay"))


def test_classes_are_measured_beside_binned_baselines(graph, result) -> None:
    table = result.table()
    assert table["model"].unique().tolist() == ["identity_mlp", "persistence", "profile_decay"]
    overall = table.query("horizon == 0").set_index("model")
    assert overall.loc["identity_mlp", "accuracy_percent"] > 80
    assert overall.loc["identity_mlp", "log_loss"] < 0.6
    assert np.isnan(overall.loc["persistence", "log_loss"])  # a number has no probabilities
    # persistence by hand
    starts = fitted(graph, model="persistence", options=None, head=HeadConfig()).test_starts(graph)
    at = np.array(starts)
    last, came = graph.values[at + W - 1, :, 0], graph.values[at + W, :, 0]
    seen = graph.mask[at + W - 1, :, 0] & graph.mask[at + W, :, 0]
    limits = np.array(HEAD.edges, dtype=np.float32)
    right = np.digitize(last[seen], limits) == np.digitize(came[seen], limits)
    first = table.query("model == 'persistence' and horizon == 1")["accuracy_percent"].item()
    assert first == pytest.approx(100 * right.mean(), abs=1.5)
    missed = 100 - overall["accuracy_percent"]
    skill = 100 * (1 - missed["identity_mlp"] / missed[["persistence", "profile_decay"]].min())
    assert overall.loc["identity_mlp", "skill_percent"] == pytest.approx(skill)


def test_tables_per_node_and_a_verdict(graph, result) -> None:
    per_node = result.per_node()
    assert per_node.index.equals(graph.node_ids)
    assert {"accuracy_percent", "f1_percent_3", "skill_percent"} <= set(per_node)
    assert len(result.per_node_and_horizon()) == 6 * (H + 1)
    assert "identity_mlp" in result.verdict()
    assert "MAE" not in result.verdict()


def test_the_verdict_names_what_was_measured() -> None:
    errors = {}
    for name, n_wrong in (("ours", 1), ("persistence", 2)):
        errors[name] = ClassErrors.empty(1, 1, 2)
        errors[name].counts[0, 0] = [[5, 0], [n_wrong, 5 - n_wrong]]
    day = pd.Timestamp("2024-01-01", tz="UTC")
    result = Evaluation(
        "ours", "speed", "km/h", day - day, pd.Index(["a"]), errors, 10, (day, day),
        "accuracy_percent",
    )  # fmt: skip
    assert result.verdict() == (
        "ours beats every baseline at all 1 horizons; over all of them its accuracy is 90.0 %, "
        "what it lacks of 100 50.0 % less than of the best baseline."
    )


def test_weights_raise_the_recall_of_rare_classes(make_signal) -> None:
    """Protects the weights: balanced ones are measured by recall, and raise it."""
    graph = make_signal(6, 24 * 16)
    edges = {"kind": "classes", "edges": (30, 75)}
    plain, balanced = (
        evaluate(fitted(graph, HeadConfig(**edges, class_weights=weights)), graph, baselines=())
        for weights in (None, "balanced")
    )
    assert (plain.yardstick, balanced.yardstick) == ("accuracy_percent", "macro_recall_percent")
    overall = [one.table().query("horizon == 0").iloc[0] for one in (plain, balanced)]
    assert overall[1]["macro_recall_percent"] > overall[0]["macro_recall_percent"]


def test_a_baseline_may_forecast_classes(make_signal) -> None:
    graph = make_signal(4, 24 * 16)
    forecaster = fitted(graph, model="profile_decay", options=None)
    table = evaluate(forecaster, graph, baselines=("persistence",)).table()
    overall = table.query("horizon == 0").set_index("model")
    assert overall.loc["profile_decay", "accuracy_percent"] > 60
    assert overall.loc["profile_decay", "log_loss"] < 1.2


def test_backtest_of_classes(make_signal) -> None:
    table = backtest(
        make_signal(4, 24 * 16), model="profile_decay", window=W, horizon=H, n_folds=2, head=HEAD,
        baselines=("persistence",),
    )  # fmt: skip
    assert table["macro_f1_percent"].notna().all()
    assert table["fold"].nunique() == 2
