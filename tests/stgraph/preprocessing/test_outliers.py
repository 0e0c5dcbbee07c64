"""Outlier checks find the fault and leave quiet nights, events and the test span alone."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import InputError
from stgraph.graph import Feature, STGraph
from stgraph.preprocessing import outliers
from stgraph.preprocessing.outliers import mask_outliers

NAN = np.nan


def signal(values: np.ndarray, *, step: str = "1h") -> STGraph:
    """Stations a, b, ... without edges, values (T, N)."""
    n_nodes = values.shape[1]
    places = gpd.points_from_xy(np.arange(n_nodes) * 100.0, np.zeros(n_nodes))
    return STGraph(
        nodes=gpd.GeoDataFrame(index=list("abcdef"[:n_nodes]), geometry=places, crs="EPSG:2193"),
        time=pd.date_range("2024-01-01", periods=len(values), freq=step, tz="UTC"),
        values=values[..., None].astype(np.float32),
        features=(Feature("speed", "km/h"),),
        zone="Pacific/Auckland",
    )


def line(*values: float) -> STGraph:
    return signal(np.array(values)[:, None])


def taken(before: STGraph, after: STGraph) -> list[list[int]]:
    """Return [step, node] of what is no longer observed, and check that values went too."""
    gone = before.mask & ~after.mask
    assert np.isnan(after.values[gone]).all()
    np.testing.assert_array_equal(after.values[~gone], before.values[~gone])
    return np.argwhere(gone[..., 0]).tolist()


def busy_weeks(n_weeks: int, *, n_nodes: int = 3, seed: int = 0) -> np.ndarray:
    """Counts with a daily peak, quiet nights of zeros and noise."""
    rng = np.random.default_rng(seed)
    hour = np.arange(n_weeks * 168) % 24
    level = np.clip(200 * np.sin((hour - 6) / 24 * 2 * np.pi), 0, None)
    noise = rng.normal(1, 0.1, (len(hour), n_nodes))
    return np.round(level[:, None] * noise)


def test_limits_written_out() -> None:
    """What is physically impossible goes; the limits themselves are possible."""
    graph = line(-1, 0, 50, 120, 121, NAN)
    result = mask_outliers(graph, limits={"speed": (0, 120)})
    assert taken(graph, result) == [[0, 0], [4, 0]]
    assert taken(graph, mask_outliers(graph, limits={"speed": (None, 120)})) == [[4, 0]]
    finding = result.report.findings[0]
    assert (finding.count, finding.level) == (2, "warning")
    assert "2 of 5 readings (40.00%) taken out, more than 2.00%" in finding.what
    assert finding.todo == "1 node(s): 'a' 2 from 2024-01-01 13:00"
    assert finding.where == "feature 'speed', outside the limits"


def test_stuck_readings_but_not_quiet_nights() -> None:
    """Four times 7 is stuck; zeros are not, nor are three times 5, nor a run broken by a gap."""
    graph = line(0, 0, 0, 0, 0, 7, 7, 7, 7, 5, 5, 5, 9, 9, NAN, 9, 9)
    result = mask_outliers(graph, stuck_steps=4)
    assert taken(graph, result) == [[5, 0], [6, 0], [7, 0], [8, 0]]
    zeros = mask_outliers(graph, zero_steps=5)
    assert taken(graph, zeros) == [[step, 0] for step in range(5)]


def test_filled_values_do_not_make_a_sensor_stuck() -> None:
    """Equal values that were not observed are no evidence."""
    graph = line(7, 7, 7, 7, 7)
    mask = np.array([1, 1, 0, 1, 1], dtype=bool)[:, None, None]
    graph = graph.replace(mask=mask)
    result = mask_outliers(graph, stuck_steps=3)
    np.testing.assert_array_equal(result.mask, mask)


def test_a_spike_but_not_a_step_or_an_event() -> None:
    """Up and back within one step is a spike; a lasting change is news."""
    values = 50 + np.tile([0, 1, 2, 1], 60).astype(float)
    values[101] = 150
    values[151:] -= 30
    values[200:206] = 5
    graph = line(*values)
    result = mask_outliers(graph, max_spike=10)
    assert taken(graph, result) == [[101, 0]]


def test_spikes_at_the_ends_and_beside_gaps_are_not_judged() -> None:
    """Without both neighbours there is nothing to compare with."""
    values = np.tile([1.0, 2.0], 20)
    values[[0, 20, 39]] = 99
    values[19] = NAN
    graph = line(*values)
    assert taken(graph, mask_outliers(graph, max_spike=5)) == []
    assert taken(line(1, 99), mask_outliers(line(1, 99), max_spike=5)) == []


def test_odd_for_its_time() -> None:
    """200 at noon is usual, 200 at night is not; the noise of the day is no outlier."""
    values = busy_weeks(8)
    values[5 * 168 + 2, 1] = 200
    graph = signal(values)
    result = mask_outliers(graph, max_deviation=8)
    assert taken(graph, result) == [[5 * 168 + 2, 1]]
    finding = result.report.findings[0]
    assert finding.level == "info"
    assert "1 node(s): 'b' 1 from 2024-02-05 15:00" in finding.todo


def test_nodes_without_usual_values_are_not_judged() -> None:
    """A node that only began after the fitted steps keeps its readings."""
    values = busy_weeks(6)
    values[: 4 * 168, 2] = NAN
    graph = signal(values)
    result = mask_outliers(graph, max_deviation=8, max_spike=50, fit_steps=slice(0, 4 * 168))
    assert all(node != 2 for _, node in taken(graph, result))


def test_the_test_span_decides_nothing() -> None:
    """What is cleaned in the first steps is the same whatever happens later."""
    values = busy_weeks(8)
    values[900, 0] = 5000
    wild = values.copy()
    wild[6 * 168 :] = 1e6 * np.random.default_rng(1).random(wild[6 * 168 :].shape)
    fit = slice(0, 6 * 168)
    options = {"max_deviation": 8, "max_spike": 20, "fit_steps": fit}
    calm = mask_outliers(signal(values), **options)
    other = mask_outliers(signal(wild), **options)
    # the last fitted step is judged as a spike by the step after it
    np.testing.assert_array_equal(calm.mask[: 6 * 168 - 1], other.mask[: 6 * 168 - 1])
    assert not calm.mask[900, 0, 0]


def test_checks_work_on_what_is_left() -> None:
    """A stuck run that lies outside the limits is counted once."""
    graph = line(1, 999, 999, 999, 2, 3)
    result = mask_outliers(graph, limits={"speed": (0, 100)}, stuck_steps=3)
    assert [finding.count for finding in result.report] == [3, 0]


def test_only_measured_features_and_nothing_else_changes(graph: STGraph) -> None:
    """Features known ahead are left alone; the graph given is not changed."""
    values = np.repeat(graph.values, 2, axis=2)
    features = (Feature("speed"), Feature("price", role="known_future"))
    two = graph.replace(values=values, mask=None, features=features)
    before = two.values.copy()
    result = mask_outliers(two, limits={"speed": (0, 10)})
    assert result.mask[..., 1].sum() == two.mask[..., 1].sum()
    np.testing.assert_array_equal(two.values, before)
    assert result.edge_index is two.edge_index
    with pytest.raises(InputError, match="`limits` names feature 'price'"):
        mask_outliers(two, limits={"price": (0, 1)})


@given(shift=st.integers(1, 400), scale=st.sampled_from([0.5, 2.0, 1024.0]))
def test_units_do_not_matter(shift: int, scale: float) -> None:
    """The same readings in other units lose the same readings."""
    values = busy_weeks(4, n_nodes=2)
    values[shift, 0] = 3000
    options = {"max_deviation": 8.0, "max_spike": 30.0, "stuck_steps": 5}
    one, other = signal(values), signal(values * scale)
    np.testing.assert_array_equal(
        mask_outliers(one, **options).mask, mask_outliers(other, **options).mask
    )


def test_small_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some nodes at a time give the result of all at once."""
    values = busy_weeks(5)
    values[[30, 300], [0, 2]] = 4000
    options = {"max_deviation": 6, "max_spike": 20, "stuck_steps": 4, "zero_steps": 20}
    whole = mask_outliers(signal(values), **options)
    monkeypatch.setattr(outliers, "_PIECE_VALUES", 1)
    np.testing.assert_array_equal(mask_outliers(signal(values), **options).mask, whole.mask)


def test_graphs_without_signal_or_readings() -> None:
    """Nothing to look at is no error."""
    empty = line(1, 2).select_steps(0, 0)
    assert mask_outliers(empty, limits={"speed": (0, 1)}).n_steps == 0
    missing = line(NAN, NAN, NAN, NAN)
    result = mask_outliers(missing, stuck_steps=2, max_spike=2, max_deviation=2)
    assert {finding.what for finding in result.report} == {"nothing found"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no check asked for"),
        ({"limits": {}}, "no check asked for"),
        ({"limits": {"sped": (0, 1)}}, r"'sped' \(did you mean 'speed'"),
        ({"limits": {"speed": (2, 1)}}, r"`limits` of 'speed' are \(2, 1\)"),
        ({"limits": {"speed": (0, NAN)}}, "`limits` of 'speed'"),
        ({"limits": {"speed": (0, 1, 2)}}, "`limits` of 'speed'"),
        ({"stuck_steps": 1}, "`stuck_steps` is 1; .* at least 2"),
        ({"zero_steps": 2.5}, r"`zero_steps` is 2\.5"),
        ({"max_spike": 0}, "`max_spike` is 0; it must be above 0"),
        ({"max_deviation": NAN}, "`max_deviation` is nan"),
        ({"max_deviation": 5, "season": "year"}, "`season` is 'year'"),
        ({"max_spike": 5, "max_share": 2}, "`max_share` is 2"),
        ({"max_spike": 5, "fit_steps": slice(5, 5)}, "selects no consecutive steps"),
    ],
)
def test_bad_outlier_options(options: dict[str, object], message: str) -> None:
    """Every option that makes no sense is named with its value."""
    with pytest.raises(InputError, match=message):
        mask_outliers(line(1, 2, 3), **options)  # type: ignore[arg-type]


@pytest.mark.data
def test_real_freeway_and_footfall_lose_little(data_dir: Path) -> None:
    """On real data, careful thresholds take out less than one reading in a hundred."""

    for name, step in (
        ("metr-la-week/speed.npz", "5min"),
        ("auckland-pedestrians/counts.npz", "1h"),
    ):
        with np.load(data_dir / name) as file:
            graph = signal(file["values"][:4000, :6], step=step)
        result = mask_outliers(graph, stuck_steps=24, max_spike=40, max_deviation=20)
        assert (graph.mask & ~result.mask).mean() < 0.01
