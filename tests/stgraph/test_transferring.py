"""Models on nodes that they were not fitted on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learned_models import INDUCTIVE, NEEDS_GRID, SMALL, on_cells

from stgraph.backtesting import evaluate
from stgraph.checkpoint import load_forecaster, save_forecaster
from stgraph.config import TrainConfig
from stgraph.configfile import read_config
from stgraph.errors import CheckpointError, InputError
from stgraph.forecasting import Forecaster
from stgraph.graph import Feature, STGraph
from stgraph.pipeline import load_graph
from stgraph.preprocessing.splits import split_windows
from stgraph.training import fit
from stgraph.transferring import parameters_per_node, transfer

W, H = 6, 4
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ANYWHERE = [*sorted(INDUCTIVE.keys() - NEEDS_GRID), "persistence", "profile_decay", "ridge"]
TRAIN = TrainConfig(max_epochs=1, batch_size=32, device="cpu")


def fitted(graph: STGraph, name: str = "graph_transformer", **options: Any) -> Forecaster:
    given = {**SMALL.get(name, {}), **INDUCTIVE.get(name, {}), **options}
    return fit(graph, model=name, options=given, window=W, horizon=H, train=TRAIN)


@pytest.fixture(scope="module")
def home(make_signal) -> STGraph:
    return make_signal(6)


@pytest.fixture(scope="module")
def away(make_signal) -> STGraph:
    return make_signal(9, ids="int", zone="Europe/Berlin", seed=3)


@pytest.fixture(scope="module")
def transformer(home: STGraph) -> Forecaster:
    return fitted(home)


@pytest.mark.parametrize("name", sorted(NEEDS_GRID))
def test_models_of_grids_run_on_other_grids(home, away, name: str) -> None:
    forecaster = fitted(on_cells(home), name)
    assert parameters_per_node(forecaster) == {}
    forecast = transfer(forecaster, on_cells(away)).forecast(on_cells(away))
    assert np.isfinite(forecast.values).all()


def test_from_a_small_graph_to_a_large_one(home, away) -> None:
    """There a node attends to its neighbours and the tokens only, with the same weights."""
    forecaster = fitted(home, local_above=7)
    assert np.isfinite(transfer(forecaster, away).forecast(away).values).all()


@pytest.mark.parametrize("name", ANYWHERE)
def test_models_without_parameters_per_node_run_elsewhere(home, away, name: str) -> None:
    forecaster = fitted(home, name)
    assert parameters_per_node(forecaster) == {}
    forecast = transfer(forecaster, away).forecast(away)
    assert forecast.n_nodes == 9
    assert np.isfinite(forecast.values).all()


def test_inputs_are_fitted_there_and_weights_are_taken_over(transformer, away) -> None:
    """Protects the meaning: scales and times are those of the new place, the rest is the model."""
    other = transfer(transformer, away)
    ours, theirs = transformer.predictor.state_dict(), other.predictor.state_dict()
    same = [name for name in ours if name not in ("decay", "trust")]
    assert all(torch.equal(ours[name], theirs[name]) for name in same)
    assert theirs["decay"].shape == (H, 9, 1)
    assert other.inputs.scaler.center.shape == (9, 1)
    assert other.inputs.calendar == transformer.inputs.calendar
    assert other.inputs.zone == "Europe/Berlin"
    assert other.node_ids.equals(away.node_ids)
    assert other.notes["transferred_from"]["n_nodes"] == 6
    assert "warning" not in other.notes


def test_to_its_own_graph_changes_nothing_but_the_anchor(transformer, home) -> None:
    """The decay goes on learning in training, and begins anew with a transfer."""
    again = transfer(transformer, home)
    with torch.no_grad():
        again.predictor.decay.copy_(transformer.predictor.decay)
        again.predictor.trust.copy_(transformer.predictor.trust)
    again = replace(again, calibration=transformer.calibration)
    np.testing.assert_allclose(
        again.forecast(home).values, transformer.forecast(home).values, rtol=1e-5
    )


def test_nothing_random_moves(transformer, away) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (transfer(transformer, away).forecast(away) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(first.values, second.values)


def test_the_test_part_is_never_looked_at(transformer, away) -> None:
    values = away.values.copy()
    values[-30:] = 1e6
    poisoned = away.replace(values=values)
    cut = away.n_steps - 40
    plain, other = (
        transfer(transformer, graph).forecast(graph, at=graph.time[cut])
        for graph in (away, poisoned)
    )
    assert np.array_equal(plain.values, other.values)


def test_a_transferred_model_is_saved_like_any_other(transformer, away, tmp_path) -> None:
    other = transfer(transformer, away)
    loaded = load_forecaster(save_forecaster(other, tmp_path / "model"))
    assert np.array_equal(other.forecast(away).values, loaded.forecast(away).values)
    assert loaded.notes == other.notes


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("n_nodes", [6, 9])
def test_parameters_per_node_are_listed(home, make_signal, n_nodes: int) -> None:
    """Protects also against a graph that has as many nodes by chance."""
    forecaster = fitted(home, "gcn_lstm", node_embedding_size=4, adaptive_rank=2)
    where = r"decoder\.identity 6 x 4.*give 6 x 2.*take 6 x 2"
    advice = r"fit it with node_embedding_size=0 and adaptive_rank=0"
    with pytest.raises(CheckpointError, match=rf"(?s)its own 6 nodes.*{where}.*{advice}"):
        transfer(forecaster, make_signal(n_nodes, ids="int"))


def test_baselines_per_node_are_refused(home, away) -> None:
    with pytest.raises(
        CheckpointError, match=r"ridge_node runs on its own 6 nodes.*choose another"
    ):
        transfer(fitted(home, "ridge_node"), away)


def test_trees_belong_to_no_node_but_what_they_see_of_them_does(home, away) -> None:
    with pytest.raises(CheckpointError, match=r"belong to them \(node_levels 6 x 2\)"):
        transfer(fitted(home, "lightgbm"), away)


def test_other_kinds_of_data_are_refused(transformer, make_signal) -> None:
    graph = make_signal(9, step="30min")
    graph = graph.replace(features=(Feature("flow", "veh"),))
    with pytest.raises(
        CheckpointError, match=r"(?s)2 problem.*flow \[veh\] target.*step 0 days 00:30"
    ):
        transfer(transformer, graph)
    split = split_windows(190, window=W, horizon=H + 1)
    with pytest.raises(InputError, match=r"`split` has window 6 and horizon 5"):
        transfer(transformer, make_signal(9), split=split)


def test_holidays_of_another_zone_have_to_be_given(transformer, away) -> None:
    knowing = replace(transformer, inputs=replace(transformer.inputs, holidays="NZ"))
    with pytest.raises(InputError, match=r"holidays of 'NZ'.*give `holidays` for Europe/Berlin"):
        transfer(knowing, away)
    assert transfer(knowing, away, holidays="DE").inputs.holidays == "DE"


# ------------------------------------------------------------------------------ without identity


def test_identities_that_were_left_out_in_training_may_be_missing(home, away) -> None:
    forecaster = fitted(home, node_embedding_size=4, identity_dropout=0.5)
    assert set(parameters_per_node(forecaster)) == {"identity"}
    other = transfer(forecaster, away)
    assert (other.predictor.state_dict()["model.identity"] == 0).all()
    assert np.isfinite(other.forecast(away).values).all()
    with pytest.raises(CheckpointError, match="identity 6 x 4"):
        transfer(fitted(home, node_embedding_size=4), away)


# ------------------------------------------------------------------------------ calibration


def test_calibration_is_that_of_the_new_place_where_it_can_be(transformer, away) -> None:
    other = transfer(transformer, away)
    assert not np.allclose(other.calibration.above, transformer.calibration.above)


def test_without_observations_to_calibrate_on_the_old_one_stays_with_a_warning(
    transformer, away
) -> None:
    split = split_windows(away.n_steps, window=W, horizon=H)
    mask = away.mask.copy()
    mask[split.targets("validation")] = False
    other = transfer(transformer, away.replace(mask=mask))
    for name in ("below", "above", "mean_below", "mean_above"):
        ours, theirs = getattr(other.calibration, name), getattr(transformer.calibration, name)
        assert np.array_equal(ours, theirs)
    assert torch.equal(other.predictor.trust, transformer.predictor.trust)
    assert other.notes["warning"].startswith("4 of 4 horizons have the calibration of the nodes")


# ------------------------------------------------------------------------------ edited edges


def test_a_closed_edge_changes_the_forecast_near_it(home) -> None:
    """Protects edits in QGIS: the same nodes with other edges need no transfer at all."""
    forecaster = fitted(home)
    forecaster.predictor.trust.fill_(1.0)
    kept = ~(
        (home.edge_index == [[2], [3]]).all(axis=0) | (home.edge_index == [[3], [2]]).all(axis=0)
    )
    assert kept.sum() == home.n_edges - 2
    closed = home.replace(
        edge_index=home.edge_index[:, kept], edge_weight=home.edge_weight[kept], edges=None
    )
    change = np.abs(forecaster.forecast(home).values - forecaster.forecast(closed).values)
    assert (change.max(axis=(0, 2))[[2, 3]] > 1e-3).all()


# ------------------------------------------------------------------------------ real data


@pytest.mark.data
def test_half_of_a_city_forecasts_the_other_half(data_dir, monkeypatch) -> None:
    """Fitted on some sensors of a real city, the model beats simple forecasts at others."""
    monkeypatch.setenv("STGRAPH_DATA", str(data_dir))
    graph = load_graph(read_config(EXAMPLES / "metr-la-week.toml"))
    home, away = (graph.select_nodes(graph.node_ids[part::4]) for part in (0, 2))
    options = {
        "node_embedding_size": 0,
        "adaptive_rank": 0,
        "hidden_size": 16,
        "n_layers": 1,
        "n_graph_layers": 1,
        "n_tokens": 4,
        "dropout": 0.0,
    }
    train = TrainConfig(max_epochs=4, learning_rate=5e-3, device="cpu")
    forecaster = fit(home, model="graph_transformer", options=options, train=train)
    result = evaluate(transfer(forecaster, away), away, baselines=("persistence", "profile_decay"))
    mae = result.table().query("horizon == 0").set_index("model")["mae"]
    assert mae["graph_transformer"] < 0.85 * mae["persistence"]
    assert mae["graph_transformer"] < mae["profile_decay"]
