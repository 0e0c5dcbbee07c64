"""Forecasts: what they hold, when they are for, and that they know nothing of the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from learned_models import BLENDS, SMALL, as_needed

from stgraph import registry
from stgraph.config import TrainConfig
from stgraph.errors import CheckpointError, InputError
from stgraph.forecasting import Forecaster
from stgraph.graph import Feature, STGraph
from stgraph.inputs import Source
from stgraph.training import fit

W, H = 6, 4
OPTIONS = {**SMALL, **BLENDS}
ALL = registry.names("models")


def fitted(graph: STGraph, model: str = "profile_decay", **options: Any) -> Forecaster:
    given = {"window": W, "horizon": H, "options": OPTIONS.get(model), **options}
    return fit(graph, model=model, train=TrainConfig(max_epochs=1, device="cpu"), **given)


def with_event(graph: STGraph, *, n_future: int) -> STGraph:
    """Return the graph with an event known ahead; the targets are hidden in the last steps."""
    event = np.broadcast_to(
        np.arange(graph.n_steps, dtype=np.float32)[:, None, None] % 3,
        (graph.n_steps, graph.n_nodes, 1),
    )
    mask = np.concatenate([graph.mask, np.ones(event.shape, dtype=bool)], axis=-1)
    mask[graph.n_steps - n_future :, :, :-1] = False
    return graph.replace(
        values=np.concatenate([graph.values, event], axis=-1),
        mask=mask,
        features=(*graph.features, Feature("event", "", "known_future")),
    )


# ------------------------------------------------------------------------------ what it holds


def test_a_forecast_is_a_graph(make_signal) -> None:
    graph = make_signal(3, n_targets=2)
    forecast = fitted(graph).forecast(graph)
    assert forecast.feature_names == (
        *("speed", "speed_q10", "speed_q50", "speed_q90"),
        *("flow", "flow_q10", "flow_q50", "flow_q90"),
    )
    assert {(f.unit, f.role) for f in forecast.features} == {("km/h", "target")}
    assert forecast.values.shape == (H, 3, 8)
    assert forecast.values.dtype == np.float32
    assert forecast.mask.all()
    assert forecast.nodes.equals(graph.nodes)
    assert np.array_equal(forecast.edge_index, graph.edge_index)
    assert forecast.zone == graph.zone
    assert forecast.time[0] == graph.time[-1] + graph.step
    assert len(forecast.time) == H
    assert forecast.step == graph.step
    about = dict(forecast.provenance)
    about.pop("findings")
    assert about == {
        "kind": "forecast",
        "issued_at": graph.time[-1].isoformat(),
        "model": "profile_decay",
        "step_minutes": 60.0,
        "horizon": H,
    }
    assert about["issued_at"].endswith("+00:00")


def test_provenance_of_the_data_stays(make_signal) -> None:
    graph = make_signal(3).replace(provenance={"licence": "CC BY 4.0", "kind": "readings"})
    about = fitted(graph).forecast(graph).provenance
    assert about["licence"] == "CC BY 4.0"
    assert about["kind"] == "forecast"


def test_one_step_ahead(make_signal) -> None:
    graph = make_signal(2)
    forecast = fitted(graph, horizon=1).forecast(graph)
    assert forecast.time.tolist() == [graph.time[-1] + pd.Timedelta(hours=1)]


def test_a_forecast_is_what_predict_says(make_signal) -> None:
    graph = make_signal(3)
    forecaster = fitted(graph, "gcn_lstm")
    at = 150
    forecast = forecaster.forecast(graph, at=graph.time[at])
    source = Source(graph, forecaster.inputs)
    ((starts, many),) = forecaster.predict(source, range(at - W + 1 - 3, at - W + 2))
    assert starts.tolist() == list(range(at - W - 2, at - W + 2))
    np.testing.assert_allclose(
        forecast.values.reshape(H, 3, 1, 4), many[-1], rtol=1e-5
    )  # alone and in a batch


def test_forecasting_twice_gives_the_same(make_signal) -> None:
    graph = make_signal(3)
    forecaster = fitted(graph, "gcn_lstm")  # with dropout while it was trained
    assert forecaster.forecast(graph).equals(forecaster.forecast(graph))


# ------------------------------------------------------------------------------ no future


@pytest.mark.parametrize("model", ALL)
def test_what_comes_after_the_issue_never_changes_a_forecast(make_signal, model: str) -> None:
    graph = as_needed(make_signal(3, 24 * 21, missing=0.1), model)
    forecaster = fitted(graph, model)
    at = 24 * 20 + 5
    plain = forecaster.forecast(graph, at=graph.time[at])
    for poison in (np.float32(1e6), np.float32(np.nan)):
        values = graph.values.copy()
        values[at + 1 :] = poison
        other = graph.replace(values=values, mask=None)
        assert plain.equals(forecaster.forecast(other, at=graph.time[at]))
    cut = graph.select_steps(0, at + 1)
    assert plain.equals(forecaster.forecast(cut, at=graph.time[at]))
    # and in a backtest, where the future lies in the same array
    start = np.array([at - W + 1])
    loud = np.concatenate([graph.values[: at + 1], np.full_like(graph.values[at + 1 :], 1e6)])
    for g in (graph, graph.replace(values=loud, mask=None)):
        ((_, out),) = forecaster.predict(Source(g, forecaster.inputs), start)
        np.testing.assert_allclose(out[0].reshape(H, 3, 4), plain.values, rtol=1e-5)


def test_only_the_known_future_is_seen_ahead(make_signal) -> None:
    graph = with_event(make_signal(3), n_future=0)
    forecaster = fitted(graph, "identity_mlp")
    forecaster.predictor.trust.fill_(1)  # whatever validation thought of one epoch
    at = graph.time[150]
    plain = forecaster.forecast(graph, at=at)
    values = graph.values.copy()
    values[151:, :, 0] = 1e6
    assert plain.equals(forecaster.forecast(graph.replace(values=values), at=at))
    values = graph.values.copy()
    values[152, :, 1] += 5
    changed = forecaster.forecast(graph.replace(values=values), at=at)
    assert not np.array_equal(plain.values, changed.values)


def test_known_future_that_is_missing_is_named(make_signal) -> None:
    graph = with_event(make_signal(3), n_future=H)
    forecaster = fitted(graph)
    last = graph.time[-1 - H]
    assert forecaster.forecast(graph).provenance["issued_at"] == last.isoformat()
    short = graph.select_steps(0, graph.n_steps - 2)
    missing = str(short.time[-1] + graph.step)
    with pytest.raises(InputError, match=rf"feature 'event' .* no value at .*{missing[:13]}"):
        forecaster.forecast(short)


# ------------------------------------------------------------------------------ when


def test_at_the_last_step_with_an_observation(make_signal) -> None:
    graph = make_signal(3)
    mask = graph.mask.copy()
    mask[-5:] = False
    forecast = fitted(graph).forecast(graph.replace(mask=mask))
    assert forecast.provenance["issued_at"] == graph.time[-6].isoformat()


@pytest.mark.parametrize(
    ("at", "issued"),
    [
        ("2024-05-13T06:00:00Z", "2024-05-13T06:00:00+00:00"),
        ("2024-05-13T06:59:59Z", "2024-05-13T06:00:00+00:00"),  # the last step before it
        ("2024-05-13 18:00", "2024-05-13T06:00:00+00:00"),  # local: Auckland, UTC+12
        ("2024-05-13T08:00:00+02:00", "2024-05-13T06:00:00+00:00"),
        (pd.Timestamp("2024-05-13 06:00", tz="UTC"), "2024-05-13T06:00:00+00:00"),
        (np.datetime64("2024-05-13T18:00"), "2024-05-13T06:00:00+00:00"),
    ],
)
def test_at_an_instant(make_signal, at: Any, issued: str) -> None:
    graph = make_signal(2)
    forecast = fitted(graph).forecast(graph, at=at)
    assert forecast.provenance["issued_at"] == issued
    assert forecast.time[0] == pd.Timestamp(issued) + pd.Timedelta(hours=1)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("2024-05-01T00:00Z", r"`at` 2024-05-01T00:00Z lies outside the data, which covers 2024-"),
        ("2024-05-14T00:00Z", "lies outside the data"),
        ("2030-01-01", r"outside the data, .* \.\. .*; choose an instant in there"),
        ("tomorrow morning", r"`at` 'tomorrow morning' is no instant .*; use ISO 8601"),
        ("", "is no instant"),
        ({}, "is no instant"),
        ("2024-05-06T04:00Z", "needs 6 steps before it, there are 5; give more history"),
    ],
)
def test_at_an_impossible_instant(make_signal, at: Any, message: str) -> None:
    graph = make_signal(2)
    with pytest.raises(InputError, match=message):
        fitted(graph).forecast(graph, at=at)


def test_instants_that_clocks_repeat_or_skip_need_an_offset(make_signal) -> None:
    graph = make_signal(2, 24 * 10, start="2024-04-01")  # clocks go back on 7 April, 03:00
    forecaster = fitted(graph)
    with pytest.raises(InputError, match="exists twice or never in Pacific/Auckland"):
        forecaster.forecast(graph, at="2024-04-07 02:30")
    for offset, hour in (("+13:00", 13), ("+12:00", 14)):
        forecast = forecaster.forecast(graph, at=f"2024-04-07T02:30{offset}")
        assert forecast.provenance["issued_at"] == f"2024-04-06T{hour}:00:00+00:00"


@pytest.mark.parametrize("start", ["2024-03-30", "2024-09-20"])  # back in April, ahead in September
def test_profiles_follow_the_local_clock_across_its_changes(make_signal, start: str) -> None:
    graph = make_signal(2, 24 * 12, start=start)
    hour = graph.time.tz_convert(graph.zone).hour.to_numpy()
    by_clock = (10.0 + hour)[:, None, None] * np.ones((1, 2, 1))
    graph = graph.replace(values=by_clock.astype(np.float32), mask=None)
    # trained before the change, or across it; forecast behind it
    forecaster = fitted(graph, "weekly_profile", horizon=24, fractions=(0.5, 0.0, 0.5))
    forecast = forecaster.forecast(graph, at=graph.time[24 * 10])
    wanted = 10 + forecast.time.tz_convert(graph.zone).hour.to_numpy()
    error = np.abs(forecast.values[..., 0] - wanted[:, None])
    assert error.max() < 1.0
    steps = np.diff(forecast.time.asi8)
    assert (steps == steps[0]).all()  # in UTC, one hour apart always


# ------------------------------------------------------------------------------ other graphs


def test_newer_data_than_that_of_the_fit(make_signal) -> None:
    whole = make_signal(3, 24 * 30)
    forecaster = fitted(whole.select_steps(0, 24 * 10), "gcn_lstm")
    newer = whole.select_steps(24 * 20, 24 * 25)
    forecast = forecaster.forecast(newer)
    assert forecast.time[0] == newer.time[-1] + whole.step
    assert np.isfinite(forecast.values).all()


def test_short_history_is_enough_and_said(make_signal) -> None:
    graph = make_signal(3, 24 * 21)
    forecaster = fitted(graph)
    assert len(forecaster.forecast(graph).report.warnings) == 0
    (doubt,) = forecaster.forecast(graph.select_steps(graph.n_steps - W)).report.warnings
    assert "6 steps, less than a season of 168" in doubt.what
    with pytest.raises(InputError, match="needs 6 steps before it, there are 5"):
        forecaster.forecast(graph.select_steps(graph.n_steps - W + 1))


def test_silent_nodes_are_said(make_signal) -> None:
    graph = make_signal(4)
    mask = graph.mask.copy()
    mask[-W:, [1, 3]] = False
    forecast = fitted(graph, "gcn_lstm").forecast(graph.replace(mask=mask))
    (doubt,) = forecast.report.warnings
    assert "2 nodes have no reading there: ['s1', 's3']" in doubt.what
    assert forecast.mask.all()


def test_another_graph_is_refused_saying_where(make_signal) -> None:
    graph = make_signal(4)
    forecaster = fitted(graph)
    others = {
        r"`nodes`: 1 nodes are missing \['s3'\], 0 are new": graph.select_nodes(["s0", "s1", "s2"]),
        r"`nodes`: 0 nodes are missing \[\], 1 are new \['s4'\]": make_signal(5),
        r"`nodes`: order differs: 's1' at position 0, fitted on 's0'": graph.select_nodes(
            ["s1", "s0", "s2", "s3"]
        ),
        r"`features`: .*mph.* here, .*km/h.* there": graph.replace(
            features=(Feature("speed", "mph"),)
        ),
        r"`features`: 2 here, 1 there": make_signal(4, n_targets=2),
        r"`time`: step 0 days 00:30:00, fitted on 0 days 01:00:00": make_signal(4, step="30min"),
        r"`zone`: 'Europe/Berlin', fitted on 'Pacific/Auckland'": graph.replace(
            zone="Europe/Berlin"
        ),
        r"`nodes`: 4 nodes are missing": make_signal(4, ids="int"),
    }
    for message, other in others.items():
        with pytest.raises(CheckpointError, match=message):
            forecaster.forecast(other)
    # all at once
    with pytest.raises(CheckpointError, match=r"(?s)does not fit this profile_decay: 3 problem"):
        forecaster.forecast(make_signal(5, step="30min", zone="UTC"))


def test_graphs_with_nothing_to_forecast_from(make_signal) -> None:
    graph = make_signal(3)
    forecaster = fitted(graph)
    with pytest.raises(InputError, match="nothing was observed at any step"):
        forecaster.forecast(graph.replace(mask=np.zeros_like(graph.mask)))
    with pytest.raises(InputError, match="no signal to forecast from"):
        forecaster.forecast(graph.select_steps(0, 0))


def test_test_windows_lie_behind_everything_seen(make_signal) -> None:
    graph = make_signal(3)
    forecaster = fitted(graph)
    starts = forecaster.test_starts(graph)
    assert graph.time[starts[0] + W] == forecaster.tuned_until + graph.step
    assert starts[-1] + W + H == graph.n_steps
    assert forecaster.fitted_until < forecaster.tuned_until
    assert len(forecaster.test_starts(graph.select_steps(0, 100))) == 0


def test_a_forecaster_is_shown_in_one_line(make_signal) -> None:
    """At the end of a notebook's cell, hundreds of lines of weights help nobody."""
    forecaster = fitted(make_signal())
    shown = repr(forecaster)
    assert shown.startswith(f"Forecaster('profile_decay', {len(forecaster.node_ids)} nodes, ")
    assert len(shown) < 300
    assert "\n" not in shown


def test_notes_are_added_not_changed(make_signal) -> None:
    forecaster = fitted(make_signal(2))
    assert forecaster.notes["seed"] == 0
    assert forecaster.with_notes(city="Kerikeri").notes["city"] == "Kerikeri"
    assert "city" not in forecaster.notes
