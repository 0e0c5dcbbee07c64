"""Baselines against numbers computed by hand or by numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stgraph.errors import ConfigError, InputError
from stgraph.graph import STGraph
from stgraph.inputs import Source, fit_inputs
from stgraph.models.baselines import VAR, GlobalRidge, NodeRidge, RidgeConfig
from stgraph.models.sizes import Sizes
from stgraph.training import fit
from stgraph.windows import Windows

W, H = 5, 3


def forecasts_of(model: str, graph: STGraph, starts: range, *, horizon: int = H) -> np.ndarray:
    """Return the (B, H, N, C) medians of a fitted baseline, in input units."""
    forecaster = fit(graph, model=model, window=W, horizon=horizon)
    source = Source(graph, forecaster.inputs)
    return np.concatenate([out[..., 2] for _, out in forecaster.predict(source, starts)])


def steps_of(starts: range, first: int, n: int) -> np.ndarray:
    return np.asarray(starts)[:, None] + first + np.arange(n)


def test_persistence_repeats_the_last_observation(make_signal) -> None:
    graph = make_signal(4, 24 * 8, missing=0.3, n_targets=2)
    starts = range(100, 130)
    out = forecasts_of("persistence", graph, starts)
    for b, start in enumerate(starts):
        past = graph.values[start : start + W]
        for n, c in np.ndindex(4, 2):
            seen = past[:, n, c][np.isfinite(past[:, n, c])]
            if seen.size:
                np.testing.assert_allclose(out[b, :, n, c], seen[-1], rtol=1e-5)


@pytest.mark.parametrize(("n_days", "season"), [(8, 24), (30, 24 * 7)])
def test_seasonal_naive_is_the_value_of_a_season_ago(make_signal, n_days, season) -> None:
    graph = make_signal(3, 24 * n_days)
    starts = range(24 * n_days - 40, 24 * n_days - W - H)
    out = forecasts_of("seasonal_naive", graph, starts)
    np.testing.assert_allclose(out, graph.values[steps_of(starts, W, H) - season], rtol=1e-5)


def test_seasonal_naive_over_more_than_a_season(make_signal) -> None:
    graph = make_signal(2, 24 * 16)
    start = 24 * 13
    out = forecasts_of("seasonal_naive", graph, range(start, start + 1), horizon=30)
    steps = start + W + np.arange(30)
    # what lies behind the issue is replaced by the day before it
    lagged = np.where(steps - 24 < start + W, steps - 24, steps - 48)
    np.testing.assert_allclose(out[0], graph.values[lagged], rtol=1e-5)


def test_weekly_profile_is_the_usual_level_and_profile_decay_adds_the_deviation(
    make_signal,
) -> None:
    graph = make_signal(3, 24 * 8)
    starts = range(150, 170)
    forecaster = fit(graph, model="profile_decay", window=W, horizon=H)
    profile, decay = forecaster.inputs.profile, forecaster.inputs.decay
    ahead, last = steps_of(starts, W, H), steps_of(starts, W - 1, 1)
    usual = profile.at(graph.time)
    out = forecasts_of("weekly_profile", graph, starts)
    np.testing.assert_allclose(out, usual[ahead], rtol=1e-5)
    deviation = graph.values[last] - usual[last]  # (B, 1, N, C)
    out = forecasts_of("profile_decay", graph, starts)
    np.testing.assert_allclose(out, usual[ahead] + decay * deviation, rtol=1e-4)


def test_a_profile_of_an_exact_week_forecasts_it_exactly(make_signal) -> None:
    graph = make_signal(2, 24 * 7 * 5, zone="UTC", start="2024-01-01")
    step = np.arange(graph.n_steps)
    values = np.stack([step % 168, 200 - step % 24], axis=1)[..., None].astype(np.float32)
    exact = graph.replace(values=values, mask=None)
    starts = range(700, 800)
    truth = values[steps_of(starts, W, H)]
    np.testing.assert_allclose(forecasts_of("seasonal_naive", exact, starts), truth, atol=1e-3)


# ------------------------------------------------------------------------------ ridge


def task(graph: STGraph, train_steps: int) -> tuple[Windows, Sizes, torch.Tensor, torch.Tensor]:
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=train_steps)
    sizes = Sizes(
        graph.n_nodes, W, H, inputs.n_past, inputs.n_future, n_outputs=len(inputs.targets)
    )
    windows = Windows(source, range(train_steps - W - H + 1))
    center, scale = (torch.tensor(part) for part in inputs.target_scale())
    return windows, sizes, center, scale


def solve(rows: np.ndarray, answers: np.ndarray, penalty: float) -> np.ndarray:
    """Return ridge coefficients by least squares on rows that stand for the penalty."""
    extra = np.sqrt(penalty) * np.eye(rows.shape[1])
    zeros = np.zeros((rows.shape[1], answers.shape[1]))
    return np.linalg.lstsq(
        np.concatenate([rows, extra]), np.concatenate([answers, zeros]), rcond=None
    )[0]


def design(windows: Windows, c: int, center, scale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs (B, N, D), deviations ahead (B, N, H*C) and levels ahead (B, H, N, C)."""
    batch = windows.__getitems__(range(len(windows)))
    x, u = batch.x.double().numpy(), batch.u.double().numpy()
    past, level, ahead = x[..., :c], x[..., 2 * c : 3 * c], u[..., :c]
    n_batch, _, n_nodes, _ = x.shape
    parts = [np.swapaxes(part, 1, 2).reshape(n_batch, n_nodes, -1) for part in (past, level, ahead)]
    rows = np.concatenate([*parts, np.ones((n_batch, n_nodes, 1))], axis=-1)
    gap = ((batch.y.double() - center) / scale).numpy() - ahead
    gap = np.where(batch.y_mask.numpy(), gap, 0)
    return rows, np.swapaxes(gap, 1, 2).reshape(n_batch, n_nodes, -1), ahead


@pytest.mark.parametrize("per_node", [False, True])
@pytest.mark.parametrize("n_targets", [1, 2])
def test_ridge_is_what_numpy_solves(make_signal, per_node: bool, n_targets: int) -> None:
    graph = make_signal(3, 24 * 8, missing=0.1, n_targets=n_targets)
    windows, sizes, center, scale = task(graph, 24 * 6)
    model = (NodeRidge if per_node else GlobalRidge)(sizes, RidgeConfig(penalty=50.0))
    model.fit_closed_form(iter(windows.loader(batch_size=40)), center, scale)
    rows, answers, ahead = design(windows, n_targets, center, scale)
    penalty = 50.0 * len(windows) / 1000
    wanted = np.empty(answers.shape)
    for h in range(H):  # of the expected levels, those up to the step that is forecast
        step = slice(h * n_targets, (h + 1) * n_targets)
        known = np.r_[: rows.shape[-1] - 1 - (H - 1 - h) * n_targets, rows.shape[-1] - 1]
        if per_node:
            for n in range(3):
                own = rows[:, n][:, known]
                wanted[:, n, step] = own @ solve(own, answers[:, n, step], penalty)
        else:
            flat = rows[..., known].reshape(-1, len(known))
            weight = solve(flat, answers[..., step].reshape(-1, n_targets), penalty)
            wanted[..., step] = rows[..., known] @ weight
    wanted = np.swapaxes(wanted.reshape(len(windows), 3, H, n_targets), 1, 2) + ahead
    batch = windows.__getitems__(range(len(windows)))
    out = model(batch.x, batch.u, batch.edge_index, batch.edge_weight).numpy()
    np.testing.assert_allclose(out, wanted, atol=2e-4)


@pytest.mark.parametrize("n_windows", [12, 130])  # dual and primal form
def test_var_is_what_numpy_solves_in_both_forms(make_signal, n_windows: int) -> None:
    graph = make_signal(8, 24 * 8)
    windows, sizes, center, scale = task(graph, 24 * 6)
    windows = Windows(windows.source, range(n_windows))
    model = VAR(sizes, RidgeConfig(penalty=10.0, n_lags=2))
    model.fit_closed_form(iter(windows.loader(batch_size=50)), center, scale)
    assert (n_windows < 2 * 8) == (n_windows == 12)  # fewer windows than inputs: dual
    batch = windows.__getitems__(range(n_windows))
    x, u = batch.x.double().numpy(), batch.u.double().numpy()
    rows = (x[:, -2:, :, 0] - x[:, -2:, :, 2]).reshape(n_windows, -1)
    gap = ((batch.y.double() - center) / scale).numpy() - u[..., :1]
    weight = solve(rows, gap.reshape(n_windows, -1), 10.0 * n_windows / 100)
    wanted = (rows @ weight).reshape(gap.shape) + u[..., :1]
    out = model(batch.x, batch.u, batch.edge_index, batch.edge_weight).numpy()
    np.testing.assert_allclose(out, wanted, atol=1e-3)


def test_var_refuses_too_many_inputs() -> None:
    sizes = Sizes(n_nodes=2000, window=12, horizon=3, n_past=3, n_future=3, n_outputs=1)
    with pytest.raises(InputError, match="use fewer lags or the model 'ridge_node'"):
        VAR(sizes, RidgeConfig())


def test_linear_models_find_a_linear_rule(make_signal) -> None:
    # a wave that the last two values tell exactly: x[t+1] = 2 cos(w) x[t] - x[t-1]
    graph = make_signal(2, 300, step="7min")  # too short for a profile
    wave = np.sin(0.35 * np.arange(300))[:, None] * np.array([3.0, 5.0]) + 50
    graph = graph.replace(values=wave[..., None].astype(np.float32), mask=None)
    starts = range(240, 290)
    truth = graph.values[steps_of(starts, W, H)]
    for model in ("ridge", "ridge_node", "var"):
        options = {"penalty": 1e-6}
        forecaster = fit(graph, model=model, options=options, window=W, horizon=H)
        source = Source(graph, forecaster.inputs)
        out = np.concatenate([o[..., 2] for _, o in forecaster.predict(source, starts)])
        assert np.abs(out - truth).max() < 0.05, model


@pytest.mark.parametrize("model", ["persistence", "weekly_profile", "ridge", "var"])
def test_the_quantiles_of_a_baseline_hold_about_80_percent(make_signal, model: str) -> None:
    graph = make_signal(5, 24 * 40)
    forecaster = fit(graph, model=model, window=W, horizon=H)
    starts = forecaster.test_starts(graph)
    source = Source(graph, forecaster.inputs)
    out = np.concatenate([out for _, out in forecaster.predict(source, starts)])
    truth = graph.values[steps_of(starts, W, H)]
    inside = (truth >= out[..., 1]) & (truth <= out[..., 3])
    assert 0.65 < inside.mean() < 0.95
    assert (out[..., 0] == out[..., 2]).all()  # the mean of a point forecast is that point


def test_options_of_baselines(make_signal) -> None:
    graph = make_signal(2, 60)
    with pytest.raises(ConfigError, match=r"`penalti`: is no option of ridge.*'penalty'"):
        fit(graph, model="ridge", options={"penalti": 1}, window=W, horizon=H)
    with pytest.raises(ConfigError, match="`n_lags`: is 0"):
        fit(graph, model="var", options={"n_lags": 0}, window=W, horizon=H)
    with pytest.raises(ConfigError, match="`penalty`: is no option of persistence"):
        fit(graph, model="persistence", options={"penalty": 1}, window=W, horizon=H)
