"""Ensembles and the automatic choice: what they are made of, budgets, resuming, and no harm."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stgraph import training
from stgraph.backtesting import evaluate
from stgraph.checkpoint import load_forecaster, save_forecaster
from stgraph.config import HeadConfig, TrainConfig
from stgraph.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    MissingExtraError,
    TrainingError,
)
from stgraph.forecasting import Forecaster
from stgraph.graph import STGraph
from stgraph.models.build import read_options
from stgraph.models.ensemble import Blend
from stgraph.training import fit, prepare

W, H = 6, 4
TRAIN = TrainConfig(max_epochs=2, batch_size=32, learning_rate=1e-2, device="cpu")
TINY = {"name": "identity_mlp", "options": {"hidden_size": 8, "n_layers": 1}}


def fitted(graph: STGraph, model: str, *, train: TrainConfig = TRAIN, **given: Any) -> Forecaster:
    return fit(graph, model=model, window=W, horizon=H, train=train, **given)


def ensemble(graph: STGraph, *members: Any, **given: Any) -> Forecaster:
    options = {"members": members, **given.pop("options", {})}
    return fitted(graph, "ensemble", options=options, **given)


def mae(forecaster: Forecaster, graph: STGraph, *baselines: str) -> dict[str, float]:
    """Return the test error of a model and of baselines."""
    table = evaluate(forecaster, graph, baselines=baselines).table().query("horizon == 0")
    return dict(zip(table["model"], table["mae"], strict=True))


def median(forecaster: Forecaster, graph: STGraph) -> np.ndarray:
    return forecaster.forecast(graph).values[..., 2]


# ------------------------------------------------------------------------------ ensembles


def test_equal_weights_are_the_mean_of_the_members(make_signal) -> None:
    graph = make_signal(4, 24 * 10)
    both = ensemble(graph, "ridge", "weekly_profile", options={"weights": "equal"})
    alone = [fitted(graph, name) for name in ("ridge", "weekly_profile")]
    expected = np.mean([median(one, graph) for one in alone], axis=0)
    np.testing.assert_allclose(median(both, graph), expected, rtol=1e-5)
    assert [member.name for member in both.members] == ["ridge", "weekly_profile"]


def test_an_ensemble_is_a_forecaster_like_any_other(make_signal, tmp_path) -> None:
    graph = make_signal(4, 24 * 10, n_targets=2, missing=0.1)
    forecaster = ensemble(graph, TINY, TINY, "ridge", "persistence")
    forecast = forecaster.forecast(graph)
    low, middle, high = (forecast.values[..., k] for k in (1, 2, 3))
    assert (low <= middle).all()
    assert (middle <= high).all()
    again = load_forecaster(save_forecaster(forecaster, tmp_path / "model"))
    assert again.forecast(graph).equals(forecast)
    assert again.members == forecaster.members
    weights = forecaster.predictor.weights
    assert weights.shape == (len(forecaster.members), H, 2)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(H, 2))
    assert mae(forecaster, graph, "ridge")["ensemble"] > 0


def test_twins_get_seeds_that_differ(make_signal) -> None:
    graph = make_signal(4, 24 * 10)
    forecaster = ensemble(graph, TINY, {**TINY, "seed": 9}, TINY, options={"weights": "equal"})
    assert [member.seed for member in forecaster.members] == [0, 9, 1]
    states = [part.state_dict() for part in forecaster.predictor.members]
    assert not any(torch.equal(states[0]["decay"], other["decay"]) for other in states[1:])


def test_a_useless_member_is_left_out_of_the_checkpoint(make_signal) -> None:
    graph = make_signal(5, 24 * 16)
    forecaster = ensemble(graph, "ridge", "seasonal_naive")
    assert [member.name for member in forecaster.members] == ["ridge"]
    tried = {row["model"]: row for row in forecaster.notes["tried"]}
    assert tried["seasonal_naive"]["why_not"] == "adds nothing to the others"
    assert tried["ridge"]["weight"] == 1


@pytest.mark.parametrize(
    "head",
    [
        HeadConfig(kind="classes", edges=(35.0, 45.0)),
        HeadConfig(kind="gaussian"),
        HeadConfig(levels=(0.05, 0.25, 0.75)),
    ],
    ids=["classes", "gaussian", "more quantiles"],
)
def test_other_heads_are_averaged_too(make_signal, tmp_path, head: HeadConfig) -> None:
    graph = make_signal(4, 24 * 10)
    forecaster = ensemble(graph, TINY, TINY, head=head, options={"weights": "validated"})
    forecast = forecaster.forecast(graph)
    if head.kind == "classes":
        np.testing.assert_allclose(forecast.values[..., 1:].sum(axis=-1), 1, atol=1e-5)
    again = load_forecaster(save_forecaster(forecaster, tmp_path / "model"))
    assert again.forecast(graph).equals(forecast)


def test_members_that_were_done_are_not_trained_again(make_signal, tmp_path, monkeypatch) -> None:
    """A run killed in its second member goes on with it, and ends as an unbroken one does."""
    graph = make_signal(4, 24 * 10)
    unbroken = ensemble(graph, TINY, TINY)
    trained: list[int] = []
    learn = training.learn

    def learn_or_die(*args: Any, **given: Any) -> None:
        trained.append(args[3].seed)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        learn(*args, **given)

    monkeypatch.setattr(training, "learn", learn_or_die)
    with pytest.raises(KeyboardInterrupt):
        ensemble(graph, TINY, TINY, folder=tmp_path)
    resumed = ensemble(graph, TINY, TINY, folder=tmp_path, resume=True)
    assert trained == [0, 1, 1]
    np.testing.assert_array_equal(median(resumed, graph), median(unbroken, graph))


def test_members_of_another_job_are_refused(make_signal, tmp_path) -> None:
    graph = make_signal(4, 24 * 10)
    ensemble(graph, TINY, "ridge", folder=tmp_path)
    train = TRAIN.model_copy(update={"learning_rate": 1e-3})
    with pytest.raises(CheckpointError, match="another job"):
        ensemble(graph, TINY, "ridge", folder=tmp_path, resume=True, train=train)
    ensemble(graph, TINY, "ridge", folder=tmp_path, train=train)  # afresh


def test_members_that_learned_for_another_time_are_fitted_anew(
    make_signal, tmp_path, caplog
) -> None:
    """More epochs on resume must not end as the fewer ones did; a baseline learns in none."""
    caplog.set_level("INFO", logger="stgraph.selection")
    graph = make_signal(4, 24 * 10)
    ensemble(graph, "ridge", TINY, folder=tmp_path)
    assert "as fitted before" not in caplog.text
    longer = TRAIN.model_copy(update={"max_epochs": 3})
    resumed = ensemble(graph, "ridge", TINY, folder=tmp_path, resume=True, train=longer)
    assert "ridge, seed 0: as fitted before" in caplog.text
    assert "identity_mlp, seed 0: fitted anew, [train] differs" in caplog.text
    unbroken = ensemble(graph, "ridge", TINY, train=longer)
    np.testing.assert_array_equal(median(resumed, graph), median(unbroken, graph))
    ensemble(graph, "ridge", TINY, folder=tmp_path, resume=True, train=longer)
    assert "identity_mlp, seed 0: as fitted before" in caplog.text


def test_a_new_job_forgets_the_members_of_an_older_one(make_signal, tmp_path, monkeypatch) -> None:
    """Or it could not be resumed: what it has not reached yet would still be of the older job."""
    graph = make_signal(4, 24 * 10)
    ensemble(graph, "ridge", TINY, folder=tmp_path)
    train = TRAIN.model_copy(update={"learning_rate": 1e-3})

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    learn = training.learn
    monkeypatch.setattr(training, "learn", die)
    with pytest.raises(KeyboardInterrupt):
        ensemble(graph, "ridge", TINY, folder=tmp_path, train=train)
    monkeypatch.setattr(training, "learn", learn)
    ensemble(graph, "ridge", TINY, folder=tmp_path, train=train, resume=True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"members": ["gcn_lstmm"]}, r"did you mean 'gcn_lstm'|gcn_lstm"),
        ({"members": ["auto"]}, "names of models: 'auto' is made of others"),
        ({"members": ["ridge", "tdn"]}, r"'tdn' is unknown \(did you mean 'tdnn'"),
        ({"members": [{"name": "ridge", "sed": 3}]}, "sed"),
        ({"members": []}, "members"),
        ({"weights": "best"}, "weights"),
    ],
)
def test_wrong_members_are_refused_before_anything_is_fitted(options, match) -> None:
    with pytest.raises(ConfigError, match=match):
        read_options("ensemble", options)


def test_wrong_options_of_a_member_are_refused_before_any_is_trained(make_signal) -> None:
    with pytest.raises(ConfigError, match="hiden_size"):
        ensemble(make_signal(4), TINY, {"name": "gcn_lstm", "options": {"hiden_size": 3}})


def test_a_missing_package_is_said_before_any_member_is_trained(make_signal, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.setattr(training, "learn", lambda *_, **__: pytest.fail("a member was trained"))
    with pytest.raises(MissingExtraError, match="boost"):
        ensemble(make_signal(4, 24 * 10), TINY, "lightgbm")


@pytest.mark.parametrize("options", [{"candidates": ()}, {"budget_minutes": float("inf")}])
def test_a_choice_without_limits_or_candidates_is_refused(options) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        read_options("auto", options)


# ------------------------------------------------------------------------------ automatic choice


def auto(graph: STGraph, *candidates: str, minutes: float = 5.0, **given: Any) -> Forecaster:
    options: dict[str, Any] = {"budget_minutes": minutes}
    if candidates:
        options["candidates"] = candidates
    return fitted(graph, "auto", options=options, **given)


def made_of(values: np.ndarray, make_signal) -> STGraph:
    """Return a ring of nodes with these values (T, N) per hour."""
    graph = make_signal(values.shape[1], len(values))
    return graph.replace(values=values[..., None].astype(np.float32), mask=None)


SIMPLE = ("persistence", "seasonal_naive", "weekly_profile", "profile_decay", "ridge", "ridge_node")
HOURS = 24 * 24


@pytest.mark.parametrize("kind", ["noise", "random walk", "season"])
def test_no_worse_than_the_best_simple_baseline_where_nothing_helps(make_signal, kind) -> None:
    """Protects the promise of the automatic choice: beyond noise it never costs anything."""
    generator = np.random.default_rng(5)
    steps = generator.normal(0, 1, (HOURS, 6))
    daily = 5 * np.sin(2 * np.pi * (np.arange(HOURS)[:, None] / 24 + np.arange(6) / 6))
    values = {
        "noise": 50 + steps,
        "random walk": 100 + np.cumsum(steps, axis=0),
        "season": 50 + daily + 0.3 * steps,
    }[kind]
    graph = made_of(values, make_signal)
    forecaster = auto(graph, *SIMPLE, "identity_mlp", train=TRAIN)
    errors = mae(forecaster, graph, *SIMPLE)
    best = min(error for name, error in errors.items() if name != "auto")
    assert errors["auto"] <= 1.02 * best


def test_what_helps_is_blended_and_reported(make_signal) -> None:
    graph = make_signal(6, HOURS)
    forecaster = auto(graph, "persistence", "profile_decay", "ridge", "var")
    assert isinstance(forecaster.predictor, Blend)
    errors = mae(forecaster, graph, "persistence", "profile_decay", "ridge")
    assert errors["auto"] <= 1.01 * min(errors.values())
    rows = pd.DataFrame(forecaster.notes["tried"])
    assert rows["model"].tolist() == ["persistence", "profile_decay", "ridge", "var"]
    assert rows["weight"].sum() == pytest.approx(1, abs=0.01)
    assert rows.set_index("model")["why_not"]["persistence"] == "much worse than the best"
    assert (rows["validation_error"] > 0).all()


def test_a_budget_that_is_spent_says_so(make_signal) -> None:
    graph = make_signal(4, 24 * 10)
    train = TRAIN.model_copy(update={"max_epochs": 500})
    forecaster = auto(graph, "persistence", "gcn_lstm", minutes=0.0005, train=train)
    why_not = {row["model"]: row["why_not"] for row in forecaster.notes["tried"]}
    assert "s each, and" in why_not["gcn_lstm"] or why_not["gcn_lstm"] == "no time was left"
    assert [member.name for member in forecaster.members] == ["persistence"]


def test_what_is_tried_depends_on_the_data(make_signal, monkeypatch) -> None:
    from stgraph import selection
    from stgraph.models.ensemble import AutoConfig

    def names(graph: STGraph, *, use_seasons: bool = True, **sizes: int) -> list[str]:
        for name, size in sizes.items():
            monkeypatch.setattr(selection, name, size)
        bench = selection.Bench(
            prepared=prepare(graph, window=W, horizon=H, use_seasons=use_seasons),
            fit_one=lambda *_: pytest.fail("nothing is fitted"),
            head=HeadConfig(),
            train=TRAIN,
            folder=None,
            job="",
            resume=False,
        )
        return [member.name for member in selection._candidates(AutoConfig(), bench, [])]

    graph = make_signal(6, 24 * 10)
    usual = names(graph)
    assert {"gcn_lstm", "graph_transformer", "persistence", "var"} <= set(usual)
    cells = graph.nodes.assign(kind="cell", row=np.arange(6) // 3, column=np.arange(6) % 3)
    assert "cnn_3d" in names(graph.replace(nodes=cells))
    assert "graph_transformer" not in names(graph, _LARGE=5)
    assert "seasonal_naive" in usual
    assert "seasonal_naive" not in names(graph, use_seasons=False)


def test_without_validation_nothing_can_be_chosen(make_signal) -> None:
    with pytest.raises(InputError, match="needs validation windows"):
        auto(make_signal(4, 24 * 10), fractions=(0.8, 0.0, 0.2))


def test_a_candidate_that_does_not_fit_the_data_is_a_row(make_signal) -> None:
    forecaster = auto(make_signal(4, 24 * 10), "persistence", "cnn_3d")
    row = forecaster.notes["tried"][1]
    assert row["validation_error"] is None
    assert "grid" in row["why_not"]


def test_a_network_whose_training_fails_does_not_end_the_others(make_signal, monkeypatch) -> None:
    """Protects what was fitted so far: one diverging candidate is a row, not the end."""

    def fail(*_: Any, **__: Any) -> None:
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(training, "learn", fail)
    forecaster = auto(make_signal(4, 24 * 10), "persistence", "identity_mlp")
    assert forecaster.notes["tried"][1]["why_not"] == "the loss is nan"
    assert [member.name for member in forecaster.members] == ["persistence"]


@pytest.mark.parametrize("when", ["_seconds_per_epoch", "learn", "choose_trust"])
def test_a_network_too_large_for_the_machine_does_not_end_the_others(
    make_signal, monkeypatch, when: str
) -> None:
    """A lack of memory is a row, and says what helps."""
    from stgraph import learning, selection

    def swallow(*_: Any, **__: Any) -> None:
        torch.empty(1 << 50)  # really asked for, and refused by the system

    place = {"learn": learning, "_seconds_per_epoch": selection, "choose_trust": training}[when]
    monkeypatch.setattr(place, "count_parts" if when == "learn" else when, swallow)
    forecaster = auto(make_signal(4, 24 * 10), "persistence", "identity_mlp")
    why_not = forecaster.notes["tried"][1]["why_not"]
    assert why_not.startswith("fitting needs more memory than there is: ")
    assert "lower `train.memory_gb`" in why_not
    assert [member.name for member in forecaster.members] == ["persistence"]


def test_a_network_that_failed_holds_no_memory(make_signal, monkeypatch) -> None:
    """The next candidate needs what the last one had no room for."""
    from stgraph.models.predictor import Predictor

    held: list[weakref.ref[torch.Tensor]] = []

    def swallow(self: Any, batch: Any) -> None:
        mine = torch.ones(1000)
        held.append(weakref.ref(mine))
        torch.empty(1 << 50)

    monkeypatch.setattr(Predictor, "loss", swallow)
    forecaster = auto(make_signal(4, 24 * 10), "persistence", "identity_mlp")
    assert forecaster.notes["tried"][1]["why_not"].startswith("fitting needs more memory")
    assert held
    assert [ref() for ref in held] == [None] * len(held)


def test_forecasts_that_are_no_numbers_do_not_count(make_signal, monkeypatch) -> None:
    from stgraph.models.baselines import SeasonalNaive

    def broken(self: Any, x: Any, u: Any, *_: Any) -> Any:
        return torch.full((*u.shape[:3], 1), torch.nan)

    monkeypatch.setattr(SeasonalNaive, "forward", broken)
    forecaster = auto(make_signal(4, 24 * 10), "seasonal_naive", "persistence")
    assert "no numbers" in forecaster.notes["tried"][0]["why_not"]
    assert [member.name for member in forecaster.members] == ["persistence"]


# ------------------------------------------------------------------------------ real data


@pytest.mark.data
def test_a_quick_choice_on_real_counts_is_as_good_as_the_best_baseline(data_dir: Path) -> None:
    from stgraph.configfile import read_config
    from stgraph.pipeline import load_graph

    path = Path(__file__).resolve().parents[2] / "examples" / "scats-boroondara.toml"
    job = read_config(path, environment={"STGRAPH_DATA": str(data_dir)})
    graph = load_graph(job)
    forecaster = fit(
        graph,
        model="auto",
        options={"candidates": ("persistence", "profile_decay", "ridge", "ridge_node")},
        window=job.windows.window,
        horizon=job.windows.horizon,
    )
    errors = mae(forecaster, graph, "persistence", "profile_decay", "ridge", "ridge_node")
    assert errors["auto"] < 1.005 * min(error for name, error in errors.items() if name != "auto")
