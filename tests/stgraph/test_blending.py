"""Weights of forecasts: least error where the data can tell, and the safe choice where not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from stgraph import blending
from stgraph.blending import Judge, _fit, _least_error, _on_simplex, fit_weights
from stgraph.graph import STGraph
from stgraph.inputs import Source, fit_inputs
from stgraph.layout import layout_of
from stgraph.models.build import build_predictor
from stgraph.windows import Windows

W, H = 6, 4


@pytest.fixture
def judge(make_signal) -> Judge:
    """120 windows of 5 nodes and 2 targets to judge by."""
    return judge_of(make_signal(5, 24 * 12, n_targets=2, missing=0.1))


def judge_of(graph: STGraph) -> Judge:
    inputs, _ = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 5)
    return Judge(Windows(Source(graph, inputs), range(24 * 5, 24 * 10)))


def noise(judge: Judge, size: float, seed: int) -> np.ndarray:
    """Return errors (V, H, N, C, 1) of a forecast that is off at random."""
    errors = np.random.default_rng(seed).normal(0, size, (*judge.mask.shape, 1))
    return np.where(judge.mask[..., None], errors, 0).astype(np.float32)


def test_a_simplex_problem_with_a_known_answer() -> None:
    """Minimises 4 a^2 + b^2 with a + b = 1: a = 1/5; and a member that only harms gets nothing."""
    np.testing.assert_allclose(_on_simplex(np.diag([8.0, 2.0]), np.zeros(2)), [0.2, 0.8], atol=1e-5)
    bound = _on_simplex(np.array([[1.0, 2.0], [2.0, 9.0]]), np.zeros(2))
    np.testing.assert_allclose(bound, [1, 0], atol=1e-5)


def test_least_absolute_error_is_what_a_linear_program_finds() -> None:
    generator = np.random.default_rng(1)
    common = generator.laplace(size=(400, 1))
    errors = common + generator.laplace(size=(400, 3)) * [1.0, 1.5, 4.0] + [0, 0, 2.0]
    ours = _least_error(errors.astype(np.float32), np.full(3, 1 / 3), 0.0, is_squared=False)
    # min sum(t) with -t <= E w <= t, sum(w) = 1, w >= 0
    n = len(errors)
    limits = np.block([[errors, -np.eye(n)], [-errors, -np.eye(n)]])
    exact = linprog(
        np.r_[np.zeros(3), np.ones(n)],
        A_ub=limits,
        b_ub=np.zeros(2 * n),
        A_eq=np.r_[np.ones(3), np.zeros(n)][None],
        b_eq=[1],
    )
    assert np.abs(errors @ ours).sum() < 1.002 * exact.fun
    np.testing.assert_allclose(ours, exact.x[:3], atol=0.05)


def test_a_much_better_forecast_gets_nearly_all_weight(judge) -> None:
    errors = [noise(judge, 1.0, 0), noise(judge, 8.0, 1)]
    weights, shares = fit_weights(errors, judge)
    assert weights.shape == (2, H, 2)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-6)
    assert (weights[0] > 0.85).all()
    assert (shares > 0.8).all()


def test_equally_good_forecasts_keep_equal_weights(judge) -> None:
    """Protects against noise that chooses: the fitted weights differ, but bring nothing."""
    errors = [noise(judge, 1.0, seed) for seed in range(3)]
    table = np.stack([e[..., 0, :] for e in errors], axis=-1)
    fitted = _fit(table, judge.mask[..., 0], np.full(3, 1 / 3))
    assert np.abs(fitted - 1 / 3).max() > 0.005
    weights, _ = fit_weights(errors, judge)
    np.testing.assert_allclose(weights, 1 / 3, atol=0.05)


def test_copies_of_the_safe_choice_with_noise_leave_it_alone(judge) -> None:
    """A rival that is the safe forecast and a little more noise cannot win."""
    safe = noise(judge, 3.0, 0)
    rival = safe + noise(judge, 1.0, 1)
    weights, shares = fit_weights([rival, safe], judge, base=1)
    assert (shares == 0).all()
    np.testing.assert_array_equal(weights[1], 1)


def test_horizons_have_weights_of_their_own(judge) -> None:
    """The first forecast is good at near horizons, the second at far ones."""
    ramp = np.linspace(0.3, 3, H)[:, None, None, None]
    errors = [noise(judge, 1.0, 0) * ramp, noise(judge, 1.0, 1) * ramp[::-1]]
    weights, _ = fit_weights([e.astype(np.float32) for e in errors], judge)
    assert (np.diff(weights[0], axis=0) < 0).all()


def test_a_forecast_with_next_to_no_weight_is_left_out(judge) -> None:
    errors = [noise(judge, 1.0, 0), noise(judge, 1.0, 1), noise(judge, 50.0, 2)]
    weights, _ = fit_weights(errors, judge)
    assert (weights[2] == 0).all()


def test_large_graphs_are_judged_on_some_nodes_of_enough_windows(make_signal, monkeypatch) -> None:
    """Protects the choice on large graphs: one window would always leave the safe choice."""
    monkeypatch.setattr(blending, "_VALUES", 2 * H * 40)
    graph = make_signal(5, 24 * 12, n_targets=2, missing=0.1)
    judge = judge_of(graph)
    assert len(judge.windows) == 24
    assert judge.mask.shape == (24, H, 1, 2)
    source = judge.windows.source
    predictor = build_predictor("persistence", {}, source.inputs, layout=layout_of(graph))
    errors = judge.errors(predictor)
    assert errors.shape == (24, H, 1, 2, 1)
    assert (errors[~judge.mask] == 0).all()
    _, shares = fit_weights([errors + noise(judge, 9, 0), errors * 0], judge, base=0)
    assert (shares > 0.5).all()


def test_too_few_windows_leave_the_safe_choice(make_signal) -> None:
    graph = make_signal(3, 24 * 6)
    inputs, _ = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 5)
    judge = Judge(Windows(Source(graph, inputs), range(24 * 5, 24 * 5 + 3)))
    weights, shares = fit_weights([noise(judge, 1, 0), -noise(judge, 1, 0)], judge)
    assert (shares == 0).all()
    np.testing.assert_allclose(weights, 0.5)
