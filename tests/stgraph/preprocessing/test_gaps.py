"""Gap filling: right values, an unchanged mask, no look ahead where none is promised."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import InputError, UnknownNameError
from stgraph.graph import Feature, STGraph
from stgraph.preprocessing import gaps
from stgraph.preprocessing.gaps import (
    fill_bridge,
    fill_gaps,
    fill_linear,
    fill_neighbour_mean,
    fill_seasonal,
)

NAN = np.nan


def make_points(n_nodes: int) -> gpd.GeoDataFrame:
    """Stations a, b, c, ... on a line."""
    places = gpd.points_from_xy(np.arange(n_nodes) * 100.0, np.zeros(n_nodes))
    return gpd.GeoDataFrame(
        index=[chr(ord("a") + i) for i in range(n_nodes)], geometry=places, crs="EPSG:2193"
    )


def line(*values: float) -> STGraph:
    """One station, one value an hour."""
    return signal(np.array(values, dtype=np.float32)[:, None])


def signal(values: np.ndarray, *, start: str = "2024-01-01", step: str = "1h") -> STGraph:
    """Stations on a line without edges, values (T, N)."""
    return STGraph(
        nodes=make_points(values.shape[1]),
        time=pd.date_range(start, periods=len(values), freq=step, tz="UTC"),
        values=values[..., None].astype(np.float32),
        features=(Feature("speed", "km/h"),),
        zone="Pacific/Auckland",
    )


def filled(graph: STGraph) -> list[float]:
    return graph.values[:, 0, 0].tolist()


def same(left: list[float], right: list[float]) -> None:
    np.testing.assert_allclose(left, right)


def test_linear_between_observed_values() -> None:
    """The ends stay open, the middle is a line, the mask says what was observed."""
    graph = line(NAN, 1, NAN, NAN, 4, NAN)
    result = fill_linear(graph)
    same(filled(result), [NAN, 1, 2, 3, 4, NAN])
    np.testing.assert_array_equal(result.mask, graph.mask)
    same(filled(graph), [NAN, 1, NAN, NAN, 4, NAN])
    texts = [str(finding) for finding in result.report]
    assert "filled 2 value(s) by linear interpolation" in texts[0]
    assert "2 value(s) could not be filled; 1 node(s): 'a' 2 from 2024-01-01 13:00" in texts[1]
    assert [finding.level for finding in result.report] == ["info", "warning"]


def test_linear_leaves_longer_gaps_whole() -> None:
    """A gap longer than the limit is not filled in part."""
    graph = line(1, NAN, 3, NAN, NAN, 6)
    same(filled(fill_linear(graph, max_steps=1)), [1, 2, 3, NAN, NAN, 6])


def test_causal_carries_the_last_observation() -> None:
    """Nothing before the first observation, and only as far as allowed after one."""
    graph = line(NAN, 1, NAN, NAN, 4, NAN)
    same(filled(fill_linear(graph, causal=True)), [NAN, 1, 1, 1, 4, 4])
    same(filled(fill_linear(graph, causal=True, max_steps=1)), [NAN, 1, 1, NAN, 4, 4])


def test_values_that_were_not_observed_are_no_support() -> None:
    """A value the mask does not vouch for is neither a support nor replaced."""
    graph = line(1, NAN, 9, NAN, 5)
    mask = np.array([1, 0, 0, 0, 1], dtype=bool)[:, None, None]
    graph = graph.replace(mask=mask)
    same(filled(fill_linear(graph)), [1, 2, 9, 4, 5])
    same(filled(fill_linear(graph, causal=True)), [1, 1, 9, 1, 5])


def test_seasonal_median_of_the_local_time() -> None:
    """Four Mondays at 08:00 local: the missing one is the median of the others."""
    values = np.zeros((28 * 24, 1))
    values[8::168, 0] = [10, 20, 60, NAN]
    values[9::24, 0] = 5
    graph = signal(values, start="2023-12-31 11:00")  # Monday 00:00 in Auckland
    result = fill_seasonal(graph)
    assert result.values[8 + 3 * 168, 0, 0] == 20
    early = fill_seasonal(graph, fit_steps=slice(0, 14 * 24))
    assert early.values[8 + 3 * 168, 0, 0] == 15


def test_seasonal_follows_the_local_clock() -> None:
    """A peak at 08:00 local is filled at 08:00 local after clocks have changed."""
    time = pd.date_range("2024-03-17 11:00", periods=28 * 24, freq="h", tz="UTC")
    peak = (time.tz_convert("Pacific/Auckland").hour == 8).astype(float)
    values = peak.copy()
    values[-48:] = NAN
    result = fill_seasonal(signal(values[:, None], start=str(time[0].tz_localize(None))))
    np.testing.assert_array_equal(result.values[:, 0, 0], peak)


def test_seasonal_falls_back_to_the_day_and_leaves_unknown_hours() -> None:
    """Without a second week the day stands in; an hour never seen stays a gap."""
    values = np.tile(np.arange(24.0), 5)[:, None]
    values[12::24] = NAN
    values[24 + 7] = NAN
    result = fill_seasonal(signal(values))
    assert result.values[24 + 7, 0, 0] == 7
    assert np.isnan(result.values[12::24]).all()
    assert result.report.warnings[0].count == 5


def test_bridge_between_the_usual_and_the_line() -> None:
    """A day 10 above the usual stays above it in a short gap, and fades to it in a long one."""
    rng = np.random.default_rng(0)
    usual = np.tile(50 + 30 * np.sin(np.arange(24) / 24 * 2 * np.pi), 200)
    level = np.zeros(len(usual))
    for step in range(1, len(level)):  # deviations that keep 0.9 of themselves
        level[step] = 0.9 * level[step - 1] + rng.normal(0, 2)
    truth = usual + level
    for length in (4, 40):
        values = truth.copy()
        cut = np.arange(len(values)) % 100 < length
        cut[:100] = cut[-100:] = False
        values[cut] = NAN
        graph = signal(values[:, None])
        results = [fill_bridge(graph), fill_linear(graph), fill_seasonal(graph, season="day")]
        error = [np.abs(result.values[cut, 0, 0] - truth[cut]).mean() for result in results]
        assert error[0] < 0.95 * min(error[1:])


def test_causal_bridge_uses_nothing_after_the_fitted_steps() -> None:
    """Behind `fit_steps`, what comes later changes nothing; fillings stay in the observed range."""
    rng = np.random.default_rng(1)
    values = rng.poisson(3, (240, 2)).astype(float)
    values[rng.random(values.shape) < 0.3] = NAN
    other = values.copy()
    other[220:] = 999
    options = {"causal": True, "fit_steps": slice(0, 160)}
    one, two = fill_bridge(signal(values), **options), fill_bridge(signal(other), **options)
    np.testing.assert_array_equal(one.values[:220], two.values[:220])
    assert np.isfinite(one.values).all()
    assert one.values.min() == np.nanmin(values)
    chain = fill_gaps(signal(values), methods=("bridge",), **options, season="auto")
    np.testing.assert_array_equal(chain.values, one.values)


def test_bridge_leaves_nodes_never_observed() -> None:
    """Without any value of its own a node has no usual level."""
    values = np.random.default_rng(0).random((72, 2))
    values[:, 1] = NAN
    result = fill_bridge(signal(values))
    assert np.isnan(result.values[:, 1]).all()
    assert result.report.warnings[0].count == 72


@pytest.mark.data
def test_bridge_beats_line_and_season_on_footfall(data_dir: Path) -> None:
    """Six hours cut out of real counts: the bridge is clearly nearer than either alone."""
    with np.load(data_dir / "auckland-pedestrians/counts.npz") as file:
        truth = file["values"][:8760]
    rng = np.random.default_rng(0)
    values = truth.copy()
    for node in range(truth.shape[1]):
        for start in rng.choice(len(truth) - 6, 40, replace=False):
            values[start : start + 6, node] = NAN
    graph = signal(values).replace(zone="UTC")  # the file has the local clock
    results = [fill_bridge(graph), fill_linear(graph), fill_seasonal(graph)]
    cut = np.isfinite(truth) & np.isnan(values)
    cut &= np.all([np.isfinite(result.values[..., 0]) for result in results], axis=0)
    error = [np.abs(result.values[..., 0] - truth)[cut].mean() for result in results]
    assert error[0] < 0.9 * min(error[1:])


def test_neighbour_mean_by_length_and_by_similarity() -> None:
    """Half the distance counts twice; similarities count as they are; only observed ones count."""
    values = np.array([[10, NAN, 40, NAN, NAN]], dtype=np.float32)
    edges = np.array([[0, 2, 1, 2, 0], [1, 1, 1, 3, 3]])
    lengths = np.array([100, 200, 1, 50, 0], dtype=np.float32)
    base = STGraph(
        nodes=make_points(5),
        edge_index=edges,
        edge_weight=lengths,
        weight_unit="m",
        time=pd.date_range("2024-01-01", periods=1, tz="UTC"),
        values=values[..., None],
        features=(Feature("speed"),),
    )
    result = fill_neighbour_mean(base).values[0, :, 0]
    # b: a at 100 m counts 2, c at 200 m counts 1, its own loop nothing
    # d: c at 50 m counts 1/50, a at 0 m as much as at 1 m
    same(result.tolist(), [10, 20, 40, (40 / 50 + 10) / (1 / 50 + 1), NAN])
    similar = base.replace(weight_unit="1", edge_weight=np.array([3, 1, 9, -1, 2], np.float32))
    same(fill_neighbour_mean(similar).values[0, :4, 0].tolist(), [10, 17.5, 40, 10])


def test_neighbour_mean_uses_no_filled_value(graph: STGraph) -> None:
    """Two gaps side by side do not fill each other."""
    values = graph.values.copy()
    values[3, 1:3] = NAN
    part = graph.replace(values=values, mask=None)
    result = fill_neighbour_mean(part)
    assert result.values[3, :, 0].tolist() == [15, 15, 18, 18, 19]
    # node c misses step 4 too; its neighbours b and d are observed there
    assert result.values[4, 2, 0] == 22


def test_chain_fills_in_order_and_reports_each(graph: STGraph) -> None:
    """Short gaps by a line, long ones by the season, the rest by the neighbours."""
    values = np.tile(np.arange(24.0, dtype=np.float32), 8)[:, None] + [0, 100, 200, 300, 400]
    values[30, 0] = NAN
    values[50:70, 1] = NAN
    values[:, 2] = NAN
    full = graph.replace(
        time=pd.date_range("2024-01-01", periods=192, freq="h"), values=values[..., None], mask=None
    )
    result = fill_gaps(full, max_steps=3)
    assert result.values[30, 0, 0] == 6
    assert result.values[50, 1, 0] == 102
    assert result.values[60, 2, 0] == 312  # b was not observed there, d was
    assert result.values[80, 2, 0] == (108 + 308) / 2
    assert np.isfinite(result.values).all()
    assert [finding.count for finding in result.report] == [1, 20, 192]
    np.testing.assert_array_equal(result.mask, full.mask)
    assert np.isnan(full.values[30, 0, 0])


def test_only_measured_features_are_filled() -> None:
    """What is known ahead or static is not guessed."""
    graph = line(1, NAN, 3)
    values = np.repeat(graph.values, 3, axis=2)
    features = (Feature("a", role="observed"), Feature("b", role="known_future"), Feature("c"))
    result = fill_linear(graph.replace(values=values, mask=None, features=features))
    np.testing.assert_array_equal(np.isnan(result.values[1, 0]), [False, True, False])


@given(
    gap=st.lists(st.booleans(), min_size=30, max_size=30),
    longest=st.integers(1, 5),
    cut=st.integers(1, 29),
)
def test_causal_filling_does_not_change_when_the_future_comes(
    gap: list[bool], longest: int, cut: int
) -> None:
    """Filling the first steps alone gives what filling everything gives for them."""
    values = np.where(gap, np.nan, np.arange(30.0))[:, None]
    graph = signal(values)
    whole = fill_linear(graph, causal=True, max_steps=longest)
    part = fill_linear(graph.select_steps(0, cut), causal=True, max_steps=longest)
    np.testing.assert_array_equal(part.values, whole.values[:cut])


def test_small_pieces_change_nothing(graph: STGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Working through the signal in pieces gives the result of the whole."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random((200, 5, 1)) > 0.4, rng.random((200, 5, 1)), np.nan)
    graph = graph.replace(
        values=values, mask=None, time=pd.date_range("2024-01-01", periods=200, freq="h")
    )
    options = {"methods": ("linear", "neighbours", "seasonal"), "max_steps": 1}
    whole = fill_gaps(graph, **options)
    monkeypatch.setattr(gaps, "_PIECE_VALUES", 1)
    np.testing.assert_array_equal(fill_gaps(graph, **options).values, whole.values)


def test_nothing_to_fill_is_no_problem(graph: STGraph) -> None:
    """No gaps, no signal, one step: the graph comes back."""
    whole = graph.replace(values=np.nan_to_num(graph.values), mask=None)
    result = fill_gaps(whole)
    np.testing.assert_array_equal(result.values, whole.values)
    assert "has no gaps" in str(result.report)
    assert fill_gaps(graph.select_steps(0, 0)).n_steps == 0
    assert fill_linear(line(1)).n_steps == 1


def test_earlier_findings_are_kept() -> None:
    """Two fillings leave both reports."""
    result = fill_linear(fill_linear(line(NAN, 1, NAN, 3), max_steps=1), causal=True)
    assert len(result.report) == 4 - 1


def test_bad_gap_options(graph: STGraph) -> None:
    """Unknown methods, impossible limits and missing neighbours are refused."""
    with pytest.raises(UnknownNameError, match=r"'linar' \(did you mean 'linear'"):
        fill_gaps(graph, methods=("linar",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`methods` is empty"):
        fill_gaps(graph, methods=())
    with pytest.raises(InputError, match="`max_steps` is 0"):
        fill_linear(graph, max_steps=0)
    with pytest.raises(InputError, match=r"`max_steps` is 1\.5"):
        fill_linear(graph, max_steps=1.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`season` is 'weak' \(did you mean 'week'"):
        fill_seasonal(graph, season="weak")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"`fit_steps` .* selects no consecutive steps of 10"):
        fill_seasonal(graph, fit_steps=slice(20, 30))
    with pytest.raises(InputError, match="needs `fit_steps`"):
        fill_gaps(graph, causal=True)
    with pytest.raises(InputError, match="no edges"):
        fill_neighbour_mean(line(1, NAN))
    with pytest.raises(InputError, match="`weight_unit` is 's'"):
        fill_neighbour_mean(graph.replace(weight_unit="s"))
    with pytest.raises(InputError, match="fewer than two instants"):
        fill_seasonal(line(NAN))
    with pytest.raises(InputError, match="needs `fit_steps`"):
        fill_gaps(graph, methods=("bridge",), causal=True)
