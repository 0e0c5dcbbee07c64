"""Metrics against numpy, skill, and a verdict that says where a baseline wins."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stgraph.errors import InputError
from stgraph.evaluation import Errors, Evaluation

H, N = 2, 3


def errors_of(forecast: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> Errors:
    errors = Errors.empty(*truth.shape[1:])
    half = len(truth) // 2
    for part in (slice(half), slice(half, None)):  # two batches are one sample
        errors.add(forecast[part], truth[part], mask[part])
    return errors


def random_case(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.normal(0, 5, (40, H, N)).round()  # with zeros
    median = truth + generator.normal(0, 2, truth.shape)
    forecast = np.stack([median + 0.3, median - 2, median, median + 3], axis=-1)
    mask = generator.random(truth.shape) < 0.7
    return forecast.astype(np.float32), np.where(mask, truth, 0).astype(np.float32), mask


def test_by_hand() -> None:
    # one horizon, one node, four windows; the third was not observed, the fourth was 0
    truth = np.array([10.0, 20.0, 0.0, 0.0]).reshape(4, 1, 1)
    mask = np.array([True, True, False, True]).reshape(4, 1, 1)
    # mean, 10 %, 50 %, 90 %
    forecast = np.array([[11, 8, 9, 12], [24, 21, 22, 25], [9, 9, 9, 9], [1, -1, 0.5, 1]])
    errors = Errors.empty(1, 1)
    errors.add(forecast.reshape(4, 1, 1, 4), truth, mask)
    row = errors.metrics(axis=None).iloc[0]
    assert row["n"] == 3
    assert row["mae"] == pytest.approx((1 + 2 + 0.5) / 3)  # of the median
    assert row["rmse"] == pytest.approx(np.sqrt((1 + 16 + 1) / 3))  # of the mean
    assert row["mape_percent"] == pytest.approx(100 * (0.1 + 0.1) / 2)  # zeros left out
    assert row["coverage_percent"] == pytest.approx(100 * 2 / 3)
    assert row["width"] == pytest.approx((4 + 4 + 2) / 3)
    pinball = [
        (0.1 * 2 + 0.5 * 1 + 0.1 * 2) / 3,
        (0.9 * 1 + 0.5 * 2 + 0.1 * 5) / 3,
        (0.1 * 1 + 0.5 * 0.5 + 0.1 * 1) / 3,
    ]
    assert row["crps"] == pytest.approx(2 * np.mean(pinball))


@pytest.mark.parametrize("axis", [0, 1, None])
def test_metrics_are_those_of_numpy(axis: int | None) -> None:
    forecast, truth, mask = random_case()
    table = errors_of(forecast, truth, mask).metrics(axis=axis)
    groups = {
        0: [(slice(None), slice(None), n) for n in range(N)],
        1: [(slice(None), h, slice(None)) for h in range(H)],
        None: [(slice(None), slice(None), slice(None))],
    }[axis]
    assert len(table) == len(groups)
    for (_, row), place in zip(table.iterrows(), groups, strict=True):
        seen = mask[place]
        y, (mean, low, median, high) = truth[place][seen], np.moveaxis(forecast[place][seen], -1, 0)
        some = y != 0
        assert row["n"] == seen.sum()
        assert row["mae"] == pytest.approx(np.abs(y - median).mean(), rel=1e-5)
        assert row["rmse"] == pytest.approx(np.sqrt(np.square(y - mean).mean()), rel=1e-5)
        relative = np.abs(y - median)[some] / np.abs(y[some])
        assert row["mape_percent"] == pytest.approx(100 * relative.mean(), rel=1e-5)
        inside = (y >= low) & (y <= high)
        assert row["coverage_percent"] == pytest.approx(100 * inside.mean(), rel=1e-5)


def test_what_was_not_observed_does_not_count() -> None:
    forecast, truth, mask = random_case()
    loud = np.where(mask, truth, 1e9)
    wild = np.where(mask[..., None], forecast, np.nan)
    plain = errors_of(forecast, truth, mask).metrics(axis=1)
    pd.testing.assert_frame_equal(plain, errors_of(wild, loud, mask).metrics(axis=1))


def test_nothing_observed_is_not_a_number() -> None:
    forecast, truth, mask = random_case()
    mask[:, :, 1] = False
    table = errors_of(forecast, truth, mask).metrics(axis=0)
    assert table["n"].tolist()[1] == 0
    assert table.drop(columns="n").iloc[1].isna().all()
    zeros = errors_of(forecast, np.zeros_like(truth), mask).metrics(axis=None)
    assert zeros["mape_percent"].isna().all()
    assert zeros["mae"].notna().all()


# ------------------------------------------------------------------------------ skill, verdict


def evaluation(**mae: list[float]) -> Evaluation:
    """Return an evaluation in which each forecast misses by so much at each horizon."""
    errors = {}
    for name, misses in mae.items():
        truth = np.full((10, len(misses), 2), 100.0)
        forecast = truth[..., None] + np.array(misses)[None, :, None, None] * np.ones(4)
        errors[name] = Errors.empty(len(misses), 2)
        errors[name].add(forecast, truth, np.ones(truth.shape, dtype=bool))
    day = pd.Timestamp("2024-01-01", tz="UTC")
    return Evaluation(
        model=next(iter(mae)),
        target="speed",
        unit="km/h",
        step=pd.Timedelta(minutes=5),
        node_ids=pd.Index(["a", "b"]),
        errors=errors,
        n_windows=10,
        span=(day, day),
    )


def test_skill_is_against_the_best_baseline_at_each_horizon() -> None:
    result = evaluation(ours=[1.0, 3.0], persistence=[2.0, 4.0], profile=[4.0, 2.0])
    table = result.table().set_index(["model", "horizon"])
    assert table.loc[("ours", 1), "skill_percent"] == pytest.approx(50)  # 1 against 2
    assert table.loc[("ours", 2), "skill_percent"] == pytest.approx(-50)  # 3 against 2
    assert table.loc[("ours", 0), "skill_percent"] == pytest.approx(100 * (1 - 2 / 3))
    assert table.loc[("persistence", 2), "skill_percent"] == pytest.approx(-100)
    assert table.loc["ours", "minutes"].tolist() == [5, 10, 0]
    assert result.baselines == ["persistence", "profile"]


def test_table_of_some_steps_keeps_the_overall_row() -> None:
    result = evaluation(ours=[1.0, 3.0, 5.0], persistence=[2.0, 4.0, 6.0])
    assert result.table([1, 3])["horizon"].tolist() == [1, 3, 0, 1, 3, 0]
    with pytest.raises(InputError, match=r"`steps` \[0, 4\] are no horizons; there are 1..3"):
        result.table([0, 3, 4])


def test_verdict_of_a_model_that_is_better() -> None:
    verdict = evaluation(ours=[1.0, 1.0], persistence=[2.0, 4.0]).verdict()
    assert verdict == (
        "ours beats every baseline at all 2 horizons; over all of them its MAE is 1 km/h, "
        "66.7 % better than the best baseline."
    )


def test_verdict_says_where_a_baseline_wins() -> None:
    verdict = evaluation(
        ours=[3.0, 3.0, 3.0, 3.0], persistence=[2.0, 2.5, 9.0, 9.0], profile=[5.0, 5.0, 5.0, 1.0]
    ).verdict()
    assert "A baseline wins at 3 of 4 horizons" in verdict
    assert "persistence at 2" in verdict
    assert "profile at 1" in verdict
    assert "steps 1, 2, 4" in verdict


def test_a_draw_is_no_victory() -> None:
    assert "persistence at 1" in evaluation(ours=[2.0, 1.0], persistence=[2.0, 2.0]).verdict()


def test_verdict_without_baselines_or_observations() -> None:
    assert "nothing is known" in evaluation(ours=[1.0]).verdict()
    result = evaluation(ours=[1.0], persistence=[2.0])
    result.errors["ours"] = result.errors["persistence"] = Errors.empty(1, 2)
    assert "Nothing was observed in the test" in result.verdict()
    assert result.table()["mae"].isna().all()


def test_a_horizon_without_observations_is_left_out_of_the_verdict() -> None:
    result = evaluation(ours=[1.0, 1.0], persistence=[2.0, 2.0])
    for errors in result.errors.values():
        for sums in errors.sums.values():
            sums[1] = 0
    assert "at all 1 horizons" in result.verdict()


def test_a_baseline_without_error_leaves_no_skill() -> None:
    result = evaluation(ours=[1.0], persistence=[0.0])
    assert result.table()["skill_percent"].isna().all()
    assert result.per_node()["skill_percent"].isna().all()
    assert "A baseline wins at 1 of 1" in result.verdict()


def test_per_node() -> None:
    table = evaluation(ours=[1.0, 3.0], persistence=[4.0, 4.0], profile=[5.0, 5.0]).per_node()
    assert table.index.tolist() == ["a", "b"]
    assert table["mae"].tolist() == [2.0, 2.0]
    assert table["skill_percent"].tolist() == [50.0, 50.0]
    assert "skill_percent" not in evaluation(ours=[1.0]).per_node()


def test_per_node_and_horizon() -> None:
    """Protects what a database is given: a row per node and step, and one over all steps, 0."""
    made = evaluation(ours=[1.0, 3.0], persistence=[4.0, 4.0], profile=[5.0, 2.0])
    table = made.per_node_and_horizon()
    assert table.index.names == ["node", "horizon"]
    assert table["mae"].to_dict() == {
        ("a", 0): 2.0,
        ("a", 1): 1.0,
        ("a", 2): 3.0,
        ("b", 0): 2.0,
        ("b", 1): 1.0,
        ("b", 2): 3.0,
    }
    assert table["skill_percent"]["a"].tolist() == pytest.approx([42.857, 75.0, -50.0], rel=1e-4)
    assert list(table.columns) == list(made.per_node().columns)
