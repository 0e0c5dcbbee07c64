"""Evaluation and backtest: only windows never seen, and rivals that learn from the same steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from stgraph import backtesting, training
from stgraph.backtesting import SIMPLE_BASELINES, backtest, evaluate
from stgraph.config import TrainConfig
from stgraph.errors import CheckpointError, InputError, UnknownNameError
from stgraph.forecasting import Forecaster
from stgraph.graph import STGraph
from stgraph.preprocessing.splits import Split, rolling_origins, split_windows
from stgraph.training import Prepared, fit, fit_prepared, prepare

W, H = 6, 4
MLP: dict[str, Any] = {"hidden_size": 8, "node_embedding_size": 4, "n_layers": 1}
TRAIN = TrainConfig(max_epochs=1, device="cpu")


def fitted(graph: STGraph, model: str = "profile_decay", **options: Any) -> Forecaster:
    return fit(graph, model=model, window=W, horizon=H, **options)


def test_persistence_is_scored_as_numpy_scores_it(make_signal) -> None:
    graph = make_signal(3, missing=0.1)
    result = evaluate(fitted(graph, "persistence"), graph, baselines=())
    starts = np.array(split_windows(graph.n_steps, window=W, horizon=H).test)
    last = pd.DataFrame(graph.values[..., 0]).ffill().to_numpy()
    misses = []
    for h in range(H):
        gap = np.abs(graph.values[starts + W + h, :, 0] - last[starts + W - 1])
        # a window without any reading has no last one
        empty = ~np.isfinite(graph.values[starts[:, None] + np.arange(W), :, 0]).any(axis=1)
        misses.append(np.nanmean(np.where(empty, np.nan, gap)))
    table = result.table().query("horizon > 0")
    assert table["mae"].tolist() == pytest.approx(misses, rel=0.02)
    assert result.n_windows == len(starts)
    assert result.span == (graph.time[starts[0] + W], graph.time[-1])
    assert (result.target, result.unit) == ("speed", "km/h")


def test_the_table_has_every_model_at_every_horizon(make_signal) -> None:
    graph = make_signal(3)
    forecaster = fitted(graph, "identity_mlp", options=MLP, train=TRAIN)
    table = evaluate(forecaster, graph).table()
    assert table["model"].unique().tolist() == ["identity_mlp", *SIMPLE_BASELINES]
    assert len(table) == 5 * (H + 1)
    assert table["mae"].notna().all()
    # the model itself is no rival of its own
    alone = evaluate(fitted(graph), graph, baselines=("profile_decay", "persistence"))
    assert alone.baselines == ["persistence"]


def test_another_target(make_signal) -> None:
    graph = make_signal(3, n_targets=2)
    forecaster = fitted(graph)
    first, second = (evaluate(forecaster, graph, target=name) for name in ("speed", "flow"))
    assert second.target == "flow"
    assert first.table()["mae"].tolist() != second.table()["mae"].tolist()
    # each as if it were alone
    alone = evaluate(fitted(graph.select_features(["flow"])), graph.select_features(["flow"]))
    np.testing.assert_allclose(second.table()["mae"], alone.table()["mae"], rtol=0.05)
    with pytest.raises(InputError, match=r"no target is called 'speeed'; there are \['speed', "):
        evaluate(forecaster, graph, target="speeed")


def test_readings_before_the_test_part_are_not_scored(make_signal) -> None:
    graph = make_signal(3)
    forecaster = fitted(graph)
    result = evaluate(forecaster, graph, baselines=())
    assert result.span[0] > forecaster.tuned_until
    with pytest.raises(InputError, match=r"no window lies behind .*give newer data"):
        evaluate(forecaster, graph.select_steps(0, 120))


def test_rivals_learn_from_the_same_steps(make_signal, monkeypatch) -> None:
    graph = make_signal(3)
    seen: list[Split] = []

    def spied(graph: STGraph, **options: Any) -> Prepared:
        seen.append(options["split"])
        return prepare(graph, **options)

    monkeypatch.setattr(backtesting, "prepare", spied)
    for fractions in ((0.7, 0.1, 0.2), (0.8, 0.0, 0.2), (0.5, 0.3, 0.2)):
        forecaster = fitted(graph, fractions=fractions)
        evaluate(forecaster, graph, baselines=("persistence",))
        wanted = split_windows(graph.n_steps, window=W, horizon=H, fractions=fractions)
        assert list(seen[-1].train) == list(wanted.train)
        assert list(seen[-1].validation) == list(wanted.validation)


def test_rivals_know_nothing_of_the_test_part(make_signal) -> None:
    graph = make_signal(3)
    forecaster = fitted(graph)
    first = forecaster.test_starts(graph)[0] + W
    values = graph.values.copy()
    values[first + 20 :] = 1e4  # behind the windows that are scored
    loud = graph.replace(values=values)
    starts = range(first - W, first - W + 10)
    names = ("persistence", "weekly_profile", "ridge", "var")
    tables = [
        evaluate(forecaster, g, baselines=names, starts=starts).table() for g in (graph, loud)
    ]
    pd.testing.assert_frame_equal(*tables)


def test_data_that_begins_later_is_refused_by_the_rivals(make_signal) -> None:
    graph = make_signal(3, 24 * 16)
    forecaster = fitted(graph)
    late = graph.select_steps(24 * 12)
    assert evaluate(forecaster, late, baselines=()).n_windows > 0
    with pytest.raises(InputError, match="the baselines need the same steps; give older data too"):
        evaluate(forecaster, late)


def test_what_does_not_fit_is_refused(make_signal) -> None:
    graph = make_signal(3)
    with pytest.raises(CheckpointError, match="`nodes`"):
        evaluate(fitted(graph), make_signal(4))
    with pytest.raises(UnknownNameError, match="persistence"):
        evaluate(fitted(graph), graph, baselines=("persistance",))


# ------------------------------------------------------------------------------ backtest


@pytest.mark.parametrize(("first", "stop"), [(-1, 5), (0, 1000)])
def test_windows_outside_the_data_are_refused(make_signal, first: int, stop: int) -> None:
    """Before the beginning they would silently be those of the end."""
    graph = make_signal(2)
    forecaster = fit(graph, model="persistence", window=W, horizon=H)
    with pytest.raises(InputError, match=rf"`starts` range\({first}, {stop}\) reach outside the"):
        evaluate(forecaster, graph, starts=range(first, stop))


def test_folds_do_not_overlap_and_use_only_the_past(make_signal, monkeypatch) -> None:
    graph = make_signal(2)
    fitted_until: list[pd.Timestamp] = []

    def spied(prepared: Prepared, **options: Any) -> Forecaster:
        forecaster = fit_prepared(prepared, **options)
        fitted_until.append(forecaster.tuned_until)
        return forecaster

    monkeypatch.setattr(training, "fit_prepared", spied)  # as `fit` calls it
    monkeypatch.setattr(backtesting, "fit_prepared", spied)
    table = backtest(
        graph, model="profile_decay", window=W, horizon=H, n_folds=3, baselines=("persistence",)
    )
    assert table["fold"].unique().tolist() == [1, 2, 3]
    assert table["model"].unique().tolist() == ["profile_decay", "persistence"]
    assert len(table) == 3 * 2 * (H + 1)
    spans = table.groupby("fold")[["from", "until"]].first()
    # model and rival of each fold were fitted to what lies before its test block
    for fold, span in enumerate(spans.itertuples()):
        assert fitted_until[2 * fold] == fitted_until[2 * fold + 1]
        assert fitted_until[2 * fold] < span._1
    splits = rolling_origins(graph.n_steps, window=W, horizon=H, n_folds=3, test_fraction=0.4)
    starts = [start for split in splits for start in split.test]
    assert len(starts) == len(set(starts))
    first_targets = [graph.time[split.test[0] + W] for split in splits]
    assert spans["from"].tolist() == first_targets
    assert spans["until"].iloc[-1] == graph.time[-1]


def test_a_fold_does_not_depend_on_what_comes_after_it(make_signal) -> None:
    graph = make_signal(2)
    options = {"model": "ridge", "window": W, "horizon": H, "n_folds": 2, "baselines": ("var",)}
    plain = backtest(graph, **options)
    end = graph.time.get_loc(plain.query("fold == 1")["until"].iloc[0])
    values = graph.values.copy()
    values[end + 1 :] = 1e4
    other = backtest(graph.replace(values=values), **options)
    pd.testing.assert_frame_equal(plain.query("fold == 1"), other.query("fold == 1"))
    assert not plain.query("fold == 2").equals(other.query("fold == 2"))


def test_a_learned_model_is_trained_anew_in_each_fold(make_signal) -> None:
    table = backtest(
        make_signal(2),
        model="identity_mlp",
        options=MLP,
        train=TRAIN,
        window=W,
        horizon=H,
        n_folds=2,
        baselines=(),
    )
    assert table["fold"].unique().tolist() == [1, 2]
    assert table["skill_percent"].isna().all()  # nothing to compare with


def test_too_few_steps_for_the_folds(make_signal) -> None:
    with pytest.raises(InputError, match="30 steps are too few for 4 folds"):
        backtest(make_signal(2, 30), window=W, horizon=H)
