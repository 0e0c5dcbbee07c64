"""What models are shown: levels by hand, and nothing from behind the training steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stgraph.errors import InputError
from stgraph.graph import Feature, STGraph
from stgraph.inputs import Inputs, Source, fit_inputs
from stgraph.preprocessing.gaps import fill_gaps
from stgraph.preprocessing.profiles import Profile
from stgraph.preprocessing.scalers import Scaler

HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def three_days(make_signal: Callable[..., STGraph]) -> STGraph:
    """One node, hourly, UTC: 100 * day + hour."""
    graph = make_signal(1, 72, zone="UTC", start="2024-01-01")
    step = np.arange(72)
    values = (100 * (step // 24) + step % 24).astype(np.float32).reshape(72, 1, 1)
    return graph.replace(values=values, mask=None)


def by_hand(graph: STGraph, *, share: float, window: int = 3, horizon: int = 2) -> Inputs:
    """Return inputs with a daily season and the profile 50 + hour."""
    table = (50 + np.arange(24, dtype=np.float32)).reshape(24, 1, 1)
    return Inputs(
        window=window,
        horizon=horizon,
        features=graph.features,
        zone="UTC",
        step=HOUR,
        scaler=Scaler("standard", np.zeros((1, 1)), np.ones((1, 1))),
        lower=np.full(1, -np.inf, dtype=np.float32),
        profile=Profile(table, "day", "UTC", HOUR),
        season_steps=24,
        profile_share=share,
    )


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (1.0, 50 + 5),
        # the means of 5 o'clock on the days before: (5 + 105) / 2 = 55
        (0.0, 55),
        (0.25, 0.25 * 55 + 0.75 * 55),
    ],
)
def test_levels_by_hand(three_days: STGraph, share: float, expected: float) -> None:
    source = Source(three_days, by_hand(three_days, share=share))
    level, profile, season_ago = source.levels(np.array([[48 + 5]]), np.array([48 + 5]))
    assert level.item() == expected
    assert profile.item() == 55
    assert season_ago.item() == 105


def test_recent_level_leaves_out_what_was_missing(three_days: STGraph) -> None:
    mask = np.ones((72, 1, 1), dtype=bool)
    mask[24 + 5] = False
    source = Source(three_days.replace(mask=mask), by_hand(three_days, share=0.0))
    level, _, season_ago = source.levels(np.array([[48 + 5]]), np.array([48 + 5]))
    assert level.item() == 5  # two days ago
    assert season_ago.item() == 55  # the profile stands in
    # nothing known at all: the profile
    level, _, _ = source.levels(np.array([[5]]), np.array([5]))
    assert level.item() == 55


def test_a_horizon_longer_than_a_season_uses_the_last_one_known(three_days: STGraph) -> None:
    source = Source(three_days, by_hand(three_days, share=0.0, horizon=60))
    steps = np.array([[24 + 3, 24 + 23, 48, 48 + 3, 72 + 3]])
    _, _, season_ago = source.levels(steps, np.array([24]))  # only the first day is known
    assert season_ago.ravel().tolist() == [3, 23, 0, 3, 3]


def test_levels_never_look_past_the_issue(three_days: STGraph) -> None:
    inputs = by_hand(three_days, share=0.0, horizon=40)
    loud = three_days.values.copy()
    loud[30:] = 1e6
    steps, issued = np.arange(20, 72)[None], np.array([30])
    for quiet, noisy in zip(
        Source(three_days, inputs).levels(steps, issued),
        Source(three_days.replace(values=loud), inputs).levels(steps, issued),
        strict=True,
    ):
        np.testing.assert_array_equal(quiet, noisy)


# ------------------------------------------------------------------------------ no leak


def fitted(graph: STGraph, train_steps: int, **options: object) -> tuple[Inputs, Source]:
    return fit_inputs(graph, window=6, horizon=8, train_steps=train_steps, **options)


def numbers_of(inputs: Inputs) -> dict[str, object]:
    """Return everything that was fitted."""
    profile = None if inputs.profile is None else inputs.profile.table
    return {
        "center": inputs.scaler.center,
        "scale": inputs.scaler.scale,
        "profile": profile,
        "share": inputs.profile_share,
        "season": inputs.season_steps,
        "calendar": inputs.calendar,
        "decay": inputs.decay,
        "spread": inputs.spread,
        "lower": inputs.lower,
    }


@pytest.mark.parametrize("n_days", [5, 24])
@pytest.mark.parametrize("poison", [1e30, -1e30, np.nan])
def test_nothing_behind_the_training_steps_is_fitted(make_signal, n_days, poison) -> None:
    graph = make_signal(4, 24 * n_days, missing=0.1, n_targets=2)
    train_steps = int(24 * n_days * 0.7)
    values = graph.values.copy()
    values[train_steps:] = poison
    poisoned = graph.replace(values=values, mask=None)
    clean, source = fitted(graph, train_steps)
    other, other_source = fitted(poisoned, train_steps)
    for name, number in numbers_of(clean).items():
        np.testing.assert_array_equal(number, numbers_of(other)[name], err_msg=name)
    # and no training window shows any of it
    starts = np.arange(train_steps - 6 - 8 + 1)
    for a, b in zip(
        vars(source.gather(starts)).values(),
        vars(other_source.gather(starts)).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_the_profile_of_a_training_day_leaves_that_day_out(make_signal) -> None:
    graph = make_signal(3, 24 * 8, zone="UTC", start="2024-05-06")
    day = slice(24 * 3, 24 * 4)
    values = graph.values.copy()
    values[day] += 30
    changed = graph.replace(values=values)
    steps, issued = np.arange(24 * 8)[None], np.array([24 * 8])
    quiet = fitted(graph, 24 * 8)[1].levels(steps, issued)[1][0]
    loud = fitted(changed, 24 * 8)[1].levels(steps, issued)[1][0]
    np.testing.assert_allclose(quiet[day], loud[day], rtol=1e-6)
    assert np.abs(quiet - loud).max() > 1  # other days do see it


def test_the_profile_after_training_knows_every_day(make_signal) -> None:
    graph = make_signal(3, 24 * 8)
    inputs, source = fitted(graph, 24 * 6)
    steps = np.arange(24 * 6, 24 * 8)[None]
    after = source.levels(steps, np.array([24 * 6]))[1][0]
    np.testing.assert_array_equal(after, inputs.profile.at(graph.time[24 * 6 :]))


def test_values_that_the_mask_hides_are_not_fitted(make_signal) -> None:
    graph = make_signal(3, 24 * 16, missing=0.3)
    loud = graph.replace(values=np.where(graph.mask, graph.values, 1e20), mask=graph.mask)
    quiet, noisy = fitted(graph, 24 * 15)[0], fitted(loud, 24 * 15)[0]
    for name, number in numbers_of(quiet).items():
        np.testing.assert_array_equal(number, numbers_of(noisy)[name], err_msg=name)


def test_relabelled_nodes_give_relabelled_inputs(make_signal) -> None:
    graph = make_signal(5, 24 * 6, missing=0.1)
    order = [3, 0, 4, 1, 2]
    shuffled = graph.select_nodes(graph.node_ids[order])
    starts = np.arange(0, 60, 7)
    plain = fitted(graph, 24 * 5)[1].gather(starts)
    other = fitted(shuffled, 24 * 5)[1].gather(starts)
    for name in ("x", "u", "y", "y_mask"):
        a, b = getattr(plain, name)[:, :, order], getattr(other, name)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------ the anchor


def test_the_anchor_keeps_deviations_that_last_and_drops_those_that_do_not(make_signal) -> None:
    graph = make_signal(2, 24 * 30, zone="UTC")
    generator = np.random.default_rng(1)
    n = graph.n_steps
    noise = generator.normal(0, 1, n)
    lasting = np.zeros(n)
    for t in range(1, n):
        lasting[t] = 0.95 * lasting[t - 1] + noise[t]
    daily = 10 * np.sin(2 * np.pi * np.arange(n) / 24)
    values = np.stack([daily + lasting, daily + noise], axis=1)[..., None] + 50
    inputs, _ = fitted(graph.replace(values=values.astype(np.float32), mask=None), n)
    lasts, fades = inputs.decay[:, 0, 0], inputs.decay[:, 1, 0]
    assert lasts[0] > 0.7
    assert lasts[0] > lasts[-1]  # a share of 0.95 ** 8
    assert (fades[:3] < lasts[:3] - 0.2).all()  # drawn towards the other node, but its own


def test_the_spread_holds_80_percent_of_what_the_anchor_leaves(make_signal) -> None:
    graph = make_signal(5, 24 * 25)
    inputs, source = fitted(graph, 24 * 25)
    arrays = source.gather(np.arange(0, 24 * 25 - 14))
    center, scale = inputs.target_scale()
    last = arrays.x[:, -1, :, :1] - arrays.x[:, -1, :, 2:3]
    anchor = arrays.u[..., :1] + inputs.decay * last[:, None]
    rest = np.abs((arrays.y - center) / scale - anchor)
    inside = (rest <= inputs.spread[:, None]).mean(axis=(0, 2, 3))
    assert (np.abs(inside - 0.8) < 0.06).all()


# ------------------------------------------------------------------------------ odd data


def test_forecasts_are_cut_off_at_0_only_where_nothing_was_below(make_signal) -> None:
    graph = make_signal(3, 100, n_targets=2)
    values = graph.values.copy()
    values[7, 1, 1] = -5
    inputs, _ = fitted(graph.replace(values=values), 80)
    assert inputs.lower.tolist() == [0, -np.inf]


@pytest.mark.parametrize(
    ("step", "n_steps", "season"),
    [
        ("5min", 288 * 3, 288),  # days
        ("h", 24 * 15, 24 * 7),  # weeks, as soon as there are two
        ("h", 24 * 13, 24),
        ("D", 40, 7),
        ("W", 60, 0),
        ("7min", 206 * 3, 0),  # no divisor of a day
        ("5min", 100, 0),  # less than a day
    ],
)
def test_the_season_fits_step_and_span(make_signal, step: str, n_steps: int, season: int) -> None:
    graph = make_signal(2, n_steps, step="7D" if step == "W" else step)
    inputs, source = fitted(graph, n_steps)
    assert inputs.season_steps == season
    arrays = source.gather(np.arange(3))
    assert np.isfinite(arrays.x).all()
    assert np.isfinite(arrays.u).all()
    assert arrays.x.shape[-1] == inputs.n_past
    assert arrays.u.shape[-1] == inputs.n_future


def test_a_node_without_any_reading_has_numbers_all_the_same(make_signal) -> None:
    graph = make_signal(4, 24 * 16)
    mask = graph.mask.copy()
    mask[:, 2] = False
    inputs, source = fitted(graph.replace(mask=mask), 24 * 15)
    arrays = source.gather(np.arange(5))
    assert np.isfinite(arrays.x).all()
    assert np.isfinite(arrays.u).all()
    assert np.isfinite(inputs.decay).all()


@pytest.mark.parametrize("hidden", [slice(0, 300), slice(280, 360), slice(20, 380)])
def test_long_silence_in_the_training_steps_is_no_obstacle(make_signal, hidden: slice) -> None:
    # silent in the first four fifths, in the last fifth, and on all days but the first
    graph = make_signal(3, 24 * 16)
    mask = graph.mask.copy()
    mask[hidden] = False
    inputs, source = fitted(graph.replace(mask=mask), 24 * 15)
    assert np.isfinite(source.gather(np.arange(3)).u).all()
    assert 0 <= inputs.profile_share <= 1


def test_what_cannot_be_fitted_is_said(make_signal) -> None:
    graph = make_signal(3, 100, n_targets=2)
    no_target = tuple(Feature(f.name, f.unit, "observed") for f in graph.features)
    with pytest.raises(InputError, match="no feature has role 'target'"):
        fitted(graph.replace(features=no_target), 80)
    silent = graph.mask.copy()
    silent[:80, :, 1] = False
    with pytest.raises(InputError, match="target 'flow' has no observation in the training steps"):
        fitted(graph.replace(mask=silent), 80)
    with pytest.raises(InputError, match="no time step"):
        fitted(graph.select_steps(0, 1).replace(time=graph.time[:1].tolist()), 1)


def test_a_known_future_that_is_not_known_is_named_with_its_time(make_signal) -> None:
    graph = make_signal(2, 60)
    event = np.ones((60, 2, 1), dtype=np.float32)
    event[50, 1] = np.nan
    features = (*graph.features, Feature("event", "", "known_future"))
    with_event = graph.replace(
        values=np.concatenate([graph.values, event], axis=-1), mask=None, features=features
    )
    source = fitted(with_event, 40)[1]
    source.gather(np.array([30]))  # needs 36..43
    with pytest.raises(InputError, match=r"'event' has role known_future but no value at .*2024"):
        source.gather(np.array([30, 40]))  # needs 46..53


def test_holidays_and_weekdays_count_once_they_were_seen_often_enough(make_signal) -> None:
    few = fitted(make_signal(2, 24 * 5, zone="UTC"), 24 * 5)[0].calendar
    many = fitted(make_signal(2, 24 * 40, zone="UTC"), 24 * 40)[0].calendar
    assert "monday" not in few
    assert {"monday", "weekend", "day_sin_1"} <= set(many)


def test_filled_gaps_are_inputs_only_when_asked_for(three_days: STGraph) -> None:
    """A value that the mask hides is unknown, unless preprocessing is said to have put it there."""
    mask = np.ones((72, 1, 1), dtype=bool)
    mask[50] = mask[52] = False  # inside the window, and a target
    graph = three_days.replace(mask=mask)
    inputs = by_hand(graph, share=1.0)
    plain = Source(graph, inputs).gather(np.array([49]))
    filled = Source(graph, replace(inputs, use_filled=True)).gather(np.array([49]))
    assert plain.x[0, :, 0, 0].tolist() == [201, 201, 203]
    assert filled.x[0, :, 0, 0].tolist() == [201, 202, 203]
    assert filled.x[0, :, 0, 1].tolist() == [1, 0, 1]
    assert not filled.y_mask[0, 0].any()
    assert filled.y[0, 0].item() == 0


def test_without_seasons_nothing_before_the_window_is_read(make_signal) -> None:
    """What forecasts from a feed without history, and the published protocol, rest on."""
    graph = make_signal(3, 24 * 28, zone="UTC")
    sizes: dict[str, int] = {"window": 6, "horizon": 4, "train_steps": 24 * 21}
    starts = np.array([24 * 25])
    mask = graph.mask.copy()
    mask[: starts[0]] = False
    silent = graph.replace(mask=mask)
    with_weeks, alone = (fit_inputs(graph, use_seasons=on, **sizes)[0] for on in (True, False))
    assert (with_weeks.reach, alone.reach) == (6 + 4 * 168, 6)
    whole, cut = Source(graph, alone).gather(starts), Source(silent, alone).gather(starts)
    np.testing.assert_array_equal(whole.x, cut.x)
    np.testing.assert_array_equal(whole.u, cut.u)
    whole, cut = Source(graph, with_weeks).gather(starts), Source(silent, with_weeks).gather(starts)
    assert not np.array_equal(whole.u, cut.u)


def test_gaps_filled_from_later_readings_are_no_inputs(three_days: STGraph) -> None:
    mask = np.ones((72, 1, 1), dtype=bool)
    mask[20] = False
    gappy = three_days.replace(mask=mask)
    ahead = fill_gaps(gappy, methods=("linear",))
    with pytest.raises(InputError, match=r"show the future.*causal=True"):
        fit_inputs(ahead, window=3, horizon=2, train_steps=60, use_filled=True)
    causal = fill_gaps(gappy, methods=("linear",), causal=True)
    fit_inputs(causal, window=3, horizon=2, train_steps=60, use_filled=True)


def test_large_graphs_are_fitted_in_parts_with_the_same_result(make_signal, monkeypatch) -> None:
    """Protects memory: what is gathered at once does not grow with the number of nodes."""
    graph = make_signal(4, 24 * 28, missing=0.1)
    given = {"window": 6, "horizon": 4, "train_steps": 24 * 24}
    whole, _ = fit_inputs(graph, **given)
    assert whole.windows_at_once(4) == 64
    monkeypatch.setattr("stgraph.inputs._VALUES_AT_ONCE", 100)
    parts, _ = fit_inputs(graph, **given)
    assert parts.windows_at_once(4) == 2
    assert parts.windows_at_once(1000) == 1
    assert parts.profile_share == whole.profile_share
    np.testing.assert_allclose(parts.spread, whole.spread)
    np.testing.assert_allclose(parts.decay, whole.decay)
