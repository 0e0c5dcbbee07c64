"""Values where there is no sensor: hand-made roads with the answers written out."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import geopandas as gpd
import hypothesis
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import strategies as st

from stgraph.errors import GraphError, InputError
from stgraph.graph import Feature, STGraph
from stgraph.kriging.estimator import (
    Estimator,
    fit_estimator,
    never_narrower,
    widen_unsupported,
)
from stgraph.kriging.holdout import Holdout, evaluate_holdout
from stgraph.kriging.interpolation import InverseDistance, Kernel, fit_kernel, hide, interpolate
from stgraph.kriging.surroundings import SUPPORT, Surroundings, surround_segments, surround_stations

UTM = "EPSG:32632"
LIMITS = {"near_m": 1000.0, "far_m": 3000.0}


def _street(lengths: list[float], *, speeds: list[float] | None = None) -> STGraph:
    """Return a one-way street of segments, west to east, each with the next one."""
    ends = 500_000 + np.concatenate([[0], np.cumsum(lengths)])
    lines = [
        shapely.LineString([(a, 5_500_000), (b, 5_500_000)]) for a, b in itertools.pairwise(ends)
    ]
    n = len(lengths)
    nodes = gpd.GeoDataFrame(
        {"kind": "segment", "length_m": np.array(lengths, dtype=float), "highway": "primary"},
        index=10 + np.arange(n),
        geometry=lines,
        crs=UTM,
    )
    if speeds is not None:
        nodes["speed_kmh"] = speeds
    pairs = np.array([np.arange(n - 1), np.arange(1, n)])
    middle = (np.array(lengths[:-1]) + np.array(lengths[1:])) / 2
    return STGraph(nodes=nodes, edge_index=pairs, edges=pd.DataFrame({"length_m": middle}))


def _around(at: list[int], offsets: list[float], **options: float) -> Surroundings:
    """Return the surroundings of six segments of 1 km."""
    return surround_segments(_street([1000.0] * 6), np.array(at), np.array(offsets), **options)[0]  # type: ignore[arg-type]


def _all(around: Surroundings) -> np.ndarray:
    return np.ones(len(around.sensors), dtype=bool)


# ---------------------------------------------------------------------------------- surroundings


def test_ways_follow_the_direction_of_traffic() -> None:
    """Protects up- and downstream: what is ahead is not what is behind, and metres count."""
    around = _around([1, 4], [500.0, 700.0])
    down, up = around.length_m[:, 0], around.length_m[:, 4]
    # sensor 0 is 1500 m along the street, sensor 1 is 4700 m; the middles are at 500, 1500, ...
    np.testing.assert_allclose(down, [1000, 0, 2200, 1200, 200, np.inf], atol=1e-3)
    np.testing.assert_allclose(up[[0, 1, 2, 3, 5]], [np.inf, 0, 1000, 2000, 800], atol=1e-3)
    assert around.sensor[:, 0].tolist() == [0, 0, 1, 1, 1, -1]
    assert around.own.tolist() == [-1, 0, -1, -1, 1, -1]


def test_support_is_told_by_the_way_to_the_nearest_sensor() -> None:
    """Protects the classes: own sensor, near, far and none, in either direction."""
    around = _around([0], [500.0])
    assert around.distance_m().tolist() == [0, 1000, 2000, 3000, 4000, 5000]
    kinds = [SUPPORT[kind] for kind in around.support(**LIMITS)]
    assert kinds == ["own sensor", "near", "far", "far", "none", "none"]


def test_a_bounded_search_still_knows_what_hangs_together() -> None:
    """Protects the reach: beyond it nothing is near, but connected it is."""
    around = _around([0], [500.0], reach_m=2500.0)
    assert np.isinf(around.distance_m()[3:]).all()
    assert around.connected.all()


def test_roads_without_any_sensor_stay_unknown() -> None:
    """Protects against values out of nowhere: another component gets NaN."""
    street = _street([1000.0] * 6)
    cut = street.replace(
        edge_index=street.edge_index[:, :2],
        edge_weight=street.edge_weight[:2],
        edges=street.edges.iloc[:2],  # type: ignore[union-attr]
    )
    around, _ = surround_segments(cut, np.array([0]), np.array([500.0]))
    estimate = Estimator(**LIMITS).estimate(np.full((1, 1), 50.0, np.float32), around)
    assert np.isfinite(estimate.median[0]).tolist() == [True] * 3 + [False] * 3


def test_several_sensors_on_a_segment() -> None:
    """Protects `own`: the sensor nearest to the middle speaks for the segment."""
    assert _around([2, 2, 2], [100.0, 450.0, 990.0]).own[2] == 1


def test_similarities_become_metres(make_stations: Callable[..., STGraph]) -> None:
    """Protects DCRNN's adjacency: the kernel is undone, and no way is shorter than the air line."""
    graph = make_stations(5)
    length = np.array([1000.0, 1000.0, 1000.0, 1000.0])
    similar = np.exp(-np.square(length / 2500.0)).astype(np.float32)
    pairs = np.array([np.arange(4), np.arange(1, 5)])
    graph = graph.replace(edge_index=pairs, edge_weight=similar, weight_unit="1", edges=None)
    among = surround_stations(graph, n_each=2)
    np.testing.assert_allclose(among.length_m[0, :2], [1000, 2000], rtol=1e-4)
    assert among.sensor[0, :4].tolist() == [1, 2, -1, -1]  # nothing lies upstream of the first


def test_no_station_is_its_own_neighbour(make_stations: Callable[..., STGraph]) -> None:
    """Protects the hold-out from the inside: not even stations at the same point."""
    graph = make_stations(6)
    same = gpd.GeoSeries([graph.nodes.geometry.iloc[0]] * 6, index=graph.node_ids, crs=UTM)
    among = surround_stations(graph.replace(nodes=graph.nodes.set_geometry(same)))
    assert not (among.sensor == np.arange(6)[:, None]).any()


def test_hidden_sensors_are_in_no_list(make_stations: Callable[..., STGraph]) -> None:
    """Protects `thin`: only visible sensors, in the order of their distance."""
    among = surround_stations(make_stations(10), n_each=9)
    visible = np.arange(10) % 2 == 0
    thin = among.thin(visible, 3)
    assert visible[thin.sensor[thin.sensor >= 0]].all()
    assert (np.diff(thin.length_m[:, :3], axis=1)[:5] >= 0).all()


# --------------------------------------------------------------------------------- interpolation


def test_weights_fall_with_the_way() -> None:
    """Protects the kernel: exp(-length / width) of both sensors, and no straight lines here."""
    around = _around([0, 2], [500.0, 500.0]).take(np.array([1]))
    kernel = Kernel(width_m=(1000, 500, 1000), gain=(1, 1, 0), prior=1e-9)
    values = np.array([[30.0, 60.0]], dtype=np.float32)
    down, up = np.exp(-1), np.exp(-2)  # 1000 m to sensor 1 downstream, 1000 m to sensor 0
    expected = (down * 60 + up * 30) / (down + up)
    assert interpolate(values, around, _all(around), kernel)[0, 0] == pytest.approx(expected)


def test_ratio_of_speed_limits_is_carried() -> None:
    """Protects `relative`: half of 100 km/h is half of 50 km/h."""
    street = _street([1000.0] * 3, speeds=[100.0, 50.0, 100.0])
    around, _ = surround_segments(street, np.array([0]), np.array([500.0]))
    values = np.array([[50.0]], dtype=np.float32)
    one = _all(around)
    assert interpolate(values, around, one, Kernel(relative=1.0))[0, 1] == pytest.approx(
        25, rel=1e-3
    )
    assert interpolate(values, around, one, Kernel(relative=0.0))[0, 1] == pytest.approx(
        50, rel=1e-3
    )


def test_missing_readings_say_nothing() -> None:
    """Protects masks: the other sensor speaks alone, and without any there is NaN."""
    around = _around([0, 2], [500.0, 500.0]).take(np.array([1]))
    values = np.array([[np.nan, 60.0], [np.nan, np.nan]], dtype=np.float32)
    found = interpolate(values, around, _all(around), Kernel())
    assert found[0, 0] == pytest.approx(60)
    assert np.isnan(found[1, 0])


def test_inverse_distance_by_hand() -> None:
    """Protects the baseline: 1 / d and 1 / (2 d)."""
    around = _around([0, 3], [500.0, 500.0]).take(np.array([1]))
    values = np.array([[30.0, 60.0]], dtype=np.float32)
    found = InverseDistance(power=1.0, n_sensors=2)(values, around)
    assert found[0, 0] == pytest.approx((30 / 1 + 60 / 2) / 1.5)


def test_kernel_is_chosen_by_hidden_sensors(make_stations: Callable[..., STGraph]) -> None:
    """Protects the fit: a signal that changes along the road asks for a narrow kernel."""
    graph = make_stations(30)
    among = surround_stations(graph, n_each=6)
    hidings = [hide(among, np.arange(first, 30, 3), n_each=2) for first in range(3)]
    values = graph.values[:, :, 0]
    kernel, error = fit_kernel(values, hidings)
    constant = np.nanmean(np.abs(values - values.mean(axis=1, keepdims=True)))
    assert error < 0.5 * constant
    assert kernel.prior < 0.1


# ------------------------------------------------------------------------------------- estimator


def test_own_sensor_keeps_its_value(make_stations: Callable[..., STGraph]) -> None:
    """Protects measurements: not rounded, not smoothed, and without a width."""
    around = _around([1, 4], [500.0, 500.0])
    values = np.array([[41.25, 63.5], [np.nan, 60.0]], dtype=np.float32)
    estimate = Estimator(**LIMITS).estimate(values, around)
    assert estimate.median[0, [1, 4]].tolist() == [41.25, 63.5]
    assert estimate.below[0, [1, 4]].tolist() == [0, 0]
    assert np.isfinite(estimate.median[1, 1])
    assert estimate.below[1, 1] > 0  # it did not report then: a guess like any other
    forecast = np.array([[40.0, 30.0, 41.0, 52.0], [60.0, 50.0, 61.0, 72.0]], dtype=np.float32)
    carried = Estimator(**LIMITS).carry(forecast[None], around)
    np.testing.assert_array_equal(carried[0, [1, 4]], forecast)
    assert make_stations  # the fixture is for the others


def test_bounds_widen_with_distance(make_stations: Callable[..., STGraph]) -> None:
    """Protects honesty: factors per ring never shrink, whatever the residuals say."""
    fitted = _fit(make_stations(24))
    assert (np.diff(fitted.below) >= 0).all()
    assert (np.diff(fitted.above) >= 0).all()
    assert fitted.network is None
    assert "not asked for" in fitted.notes["why_no_network"]


@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    calm=st.sampled_from([0.0, 0.01, 1.0, 30.0]),
    silent=st.booleans(),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_no_support_is_never_sure(seed: int, calm: float, silent: bool) -> None:
    """Protects the map: at every step the width at "none" is at least that of far, near and own.

    Whatever is forecast and fitted; each place at "none" against what is usual in a class. A place
    with a sensor has that sensor's forecast, no wider and no narrower.
    """
    random = np.random.default_rng(seed)
    street = _street([1000.0] * 14)
    at = np.sort(random.choice(6, 4, replace=False))
    around, _ = surround_segments(street, at, np.full(4, 500.0), reach_m=6000.0)
    forecast = np.sort(random.normal(50, calm, (3, 4, 4)), axis=-1).astype(np.float32)
    forecast = forecast[..., [1, 0, 2, 3]]
    visible = np.ones(4, dtype=bool)
    if silent:
        visible[0], forecast[:, 0] = False, np.nan
    around = around.thin(visible, 4)
    estimator = Estimator(
        **LIMITS,
        floor=float(random.uniform(0, 1)),
        below=never_narrower(random.uniform(0, 3, 5), unknown=1.0),
        above=never_narrower(random.uniform(0, 3, 5), unknown=1.0),
        factors=np.sort(random.uniform(0, 2, (2, 3))).astype(np.float32),
        kernel=Kernel(prior=float(random.choice([1e-6, 0.1, 10]))),
    )
    carried = estimator.carry(forecast, around, visible)
    np.testing.assert_array_equal(carried[:, at[visible]], forecast[:, visible])
    width = carried[..., 3] - carried[..., 1]
    kind = around.support(**LIMITS)
    least = width[:, kind == 3].min(axis=1) + 1e-3
    for one in range(3):
        others = width[:, kind == one]
        if others.size:
            assert (least >= others.mean(axis=1)).all(), SUPPORT[one]
            assert (least >= np.median(others, axis=1)).all(), SUPPORT[one]


def test_places_without_support_are_as_wide_as_far_ones() -> None:
    """Protects the floor: root mean square of 3 and 4 + 4 is 6.04; what is wider stays."""
    below = np.array([[1.0, 4.0, 0.5, 9.0, 0.0, np.nan]], dtype=np.float32)
    above = np.array([[2.0, 4.0, 1.5, 9.0, 0.0, np.nan]], dtype=np.float32)
    kind = np.array([2, 2, 3, 3, 3, 3])
    low, high = widen_unsupported(below, above, kind, np.array([[2.0, 2.0]], np.float32))
    np.testing.assert_allclose((low + high)[0], [3, 8, 6.0415, 18, 6.0415, np.nan], rtol=1e-4)
    np.testing.assert_allclose(low[0, 2] / high[0, 2], 1 / 3, rtol=1e-4)  # as lopsided as before
    np.testing.assert_allclose(low[0, 4], high[0, 4])


def test_bounds_hold_at_sensors_that_were_hidden(make_stations: Callable[..., STGraph]) -> None:
    """Protects calibration: between 10 and 90 % lie about four of five values."""
    graph = make_stations(60, n_steps=300)
    hidden = np.arange(0, 60, 5)
    values = graph.values[:, :, 0]
    among = surround_stations(graph, n_each=12)
    seen = np.setdiff1d(np.arange(60), hidden)
    fitted = fit_estimator(values[:200], among, allowed=seen, learn=False, **LIMITS)
    hiding = hide(among, hidden, n_each=4)
    made = fitted.estimate(values[200:], hiding.around, hiding.visible)
    truth = values[200:, hidden]
    inside = (truth >= made.median - made.below) & (truth <= made.median + made.above)
    assert 0.7 < inside.mean() < 0.98


def test_hidden_sensors_leak_nothing(make_stations: Callable[..., STGraph]) -> None:
    """Protects the hold-out: with other readings at the hidden sensors, nothing changes."""
    graph = make_stations(24)
    among = surround_stations(graph)
    seen, hidden = np.arange(4, 24), np.arange(4)
    values = graph.values[:, :, 0]
    wild = values.copy()
    wild[:, hidden] = 9999.0
    hiding = hide(among, hidden, n_each=4)
    found = []
    for given in (values, wild):
        fitted = fit_estimator(given, among, allowed=seen, n_batches=16, **LIMITS)
        found.append(fitted.estimate(given, hiding.around, hiding.visible).median)
    np.testing.assert_array_equal(found[0], found[1])


def test_relabelling_changes_nothing() -> None:
    """Protects against identities: sensors in another order give the same estimates."""
    generator = np.random.default_rng(0)
    at, offset = np.array([0, 2, 5]), np.array([100.0, 500.0, 900.0])
    values = generator.normal(50, 10, (4, 3)).astype(np.float32)
    order = np.array([2, 0, 1])
    street = _street([700.0] * 6)
    first, _ = surround_segments(street, at, offset)
    second, _ = surround_segments(street, at[order], offset[order])
    estimator = Estimator(**LIMITS)
    np.testing.assert_allclose(
        estimator.estimate(values, first).median,
        estimator.estimate(values[:, order], second).median,
        rtol=1e-5,
    )


def test_network_begins_as_the_interpolation(make_stations: Callable[..., STGraph]) -> None:
    """Protects the fallback: an untrained network changes nothing."""
    from stgraph.kriging.network import SensorAttention, n_static, predict

    among = surround_stations(make_stations(12)).thin(np.arange(12) % 2 == 0, 3)
    values = make_stations(12).values[:5, :, 0]
    visible = np.arange(12) % 2 == 0
    plain, _ = predict(None, values, among, visible, Kernel())
    same, _ = predict(SensorAttention(n_static()), values, among, visible, Kernel())
    np.testing.assert_allclose(plain, same, rtol=1e-4)


def test_masked_targets_teach_nothing(make_stations: Callable[..., STGraph]) -> None:
    """Protects training on gaps: a sensor that never reports does no harm."""
    graph = make_stations(24)
    values = graph.values[:, :, 0].copy()
    values[:, 3] = np.nan
    values[::7] = np.nan
    fitted = fit_estimator(values, surround_stations(graph), learn=False, **LIMITS)
    assert np.isfinite(fitted.notes["mae_interpolation"])


def test_few_sensors_fall_back(make_stations: Callable[..., STGraph]) -> None:
    """Protects small towns: three sensors still give values, and it is said what was not fitted."""
    graph = make_stations(3)
    fitted = fit_estimator(graph.values[:, :, 0], surround_stations(graph), **LIMITS)
    assert "3 sensor(s)" in fitted.notes["why_no_network"]
    around = surround_stations(graph)
    assert np.isfinite(fitted.estimate(graph.values[:2, :, 0], around).median).all()


def test_hold_out_tells_errors_and_coverage(make_stations: Callable[..., STGraph]) -> None:
    """Protects the table: both baselines and what is written, per class of support."""
    graph = make_stations(30)
    result = evaluate_holdout(
        graph,
        surround_stations(graph),
        train_steps=150,
        tune_steps=180,
        n_draws=2,
        learn=False,
        **LIMITS,
    )
    table = result.summary().set_index("method")
    assert set(table.index) == {"inverse distance", "graph interpolation", "what is written"}
    assert table["mae"].max() < 0.3 * graph.values.std()
    assert 50 < table.loc["what is written", "coverage_percent"] <= 100
    assert "inverse distance weighting" in result.verdict()


@pytest.mark.parametrize(
    ("written", "simple", "limit", "says"),
    [
        (
            [3.0, 4.0],
            [4.0, 5.0],
            None,
            "beats inverse distance weighting at all 2 horizons: its MAE is 20 to 25 % lower.",
        ),
        (
            [3.0, 5.1],
            [4.0, 5.0],
            None,
            "is better now (MAE 25 % lower) but no better than inverse distance weighting in 1 h "
            "(MAE 2 % higher): guesses are worth no more than that there.",
        ),
        (
            [4.0, 6.0],
            [5.0, 5.0],
            [2.0, 6.0],
            "is no better than one share of the speed limit everywhere or inverse distance "
            "weighting now and in 1 h (MAE 20 to 100 % higher): guesses are worth no more than "
            "that there.",
        ),
        (
            [5.0, 5.0],
            [5.0, 5.0],
            None,
            "is no better than inverse distance weighting now and in 1 h (MAE 0 % higher): "
            "guesses are worth no more than that there.",
        ),
    ],
)
def test_the_verdict_says_what_is_better_where(
    written: list[float], simple: list[float], limit: list[float] | None, says: str
) -> None:
    """Protects the sentence under the table: no signs to guess at, and ties go to the simple."""
    methods = {"what is written": written, "inverse distance": simple}
    methods |= {} if limit is None else {"share of the speed limit": limit}
    rows = [
        {"minutes": minutes, "method": method, "support": "all", "mae": mae}
        for method, errors in methods.items()
        for minutes, mae in zip([0.0, 60.0], errors, strict=True)
    ]
    verdict = Holdout(pd.DataFrame(rows), "km/h", 0.2, 1).verdict()
    assert verdict == f"At hidden sensors (20 %, 1 draw) what is written {says}"


def test_what_was_fitted_is_said_in_a_line(make_stations: Callable[..., STGraph]) -> None:
    """Protects the log: words and a unit, no dict; and why there is no network."""
    notes = {"mae_interpolation": 0.8304, "mae_kept": 0.7821, "trust": 0.9, "fit_seconds": 33.7}
    plain = Estimator(**LIMITS, notes=notes)
    assert plain.in_words("mph") == (
        "interpolation; MAE at hidden sensors 0.782 mph; fitted in 34 s"
    )
    from stgraph.kriging.network import SensorAttention, n_static

    learned = Estimator(**LIMITS, notes=notes, network=SensorAttention(n_static()), trust=0.9)
    assert learned.in_words("mph") == (
        "attention over sensors; MAE at hidden sensors 0.782 mph, by interpolation alone 0.83; "
        "90 % of the network's correction kept; fitted in 34 s"
    )
    assert (
        _fit(make_stations(24))
        .in_words()
        .startswith("interpolation (no network: not asked for); MAE at hidden sensors ")
    )


# ------------------------------------------------------------------------------------- bad input


def test_places_without_coordinates(make_stations: Callable[..., STGraph]) -> None:
    """Protects the message: no coordinates, no surroundings."""
    graph = make_stations(3)
    nodes = graph.nodes.copy()
    nodes.geometry = gpd.GeoSeries([None, *nodes.geometry.iloc[1:]], index=nodes.index, crs=UTM)
    with pytest.raises(GraphError, match="places without coordinates have no surroundings"):
        surround_stations(graph.replace(nodes=nodes))


def test_edges_that_are_neither_lengths_nor_similarities(
    make_stations: Callable[..., STGraph],
) -> None:
    """Protects the message: minutes are no metres."""
    graph = make_stations(3)
    odd = graph.replace(edge_weight=np.full(graph.n_edges, 7.0, np.float32), weight_unit="min")
    with pytest.raises(InputError, match="neither metres nor similarities"):
        surround_stations(odd)


def test_junctions_are_no_segments() -> None:
    """Protects the message: the roads must be read with segments as nodes."""
    street = _street([1000.0] * 3).replace(edges=None)
    with pytest.raises(GraphError, match="nodes='segments'"):
        surround_segments(street, np.array([0]), np.array([0.0]))


def test_nothing_to_learn_from(make_stations: Callable[..., STGraph]) -> None:
    """Protects the message: sensors without any reading."""
    graph = make_stations(5)
    with pytest.raises(InputError, match="no sensor has a reading"):
        fit_estimator(np.full((9, 5), np.nan, np.float32), surround_stations(graph), **LIMITS)


def test_too_few_to_hide(make_stations: Callable[..., STGraph]) -> None:
    """Protects the message: two stations cannot be hidden and learned from."""
    graph = make_stations(2)
    with pytest.raises(InputError, match="too few to hide"):
        evaluate_holdout(graph, surround_stations(graph), train_steps=50, tune_steps=60, **LIMITS)


# -------------------------------------------------------------------------------------- fixtures


def _fit(graph: STGraph) -> Estimator:
    return fit_estimator(graph.values[:, :, 0], surround_stations(graph), learn=False, **LIMITS)


@pytest.fixture(scope="module")
def make_stations() -> Callable[..., STGraph]:
    """Make stations every kilometre of a two-way street, with a wave that runs along it."""

    def make(n: int, n_steps: int = 200) -> STGraph:
        generator = np.random.default_rng(1)
        t, x = np.arange(n_steps)[:, None], np.arange(n)[None]
        values = 60 + 15 * np.sin(t / 9 - x / 3) + generator.normal(0, 1, (n_steps, n))
        points = gpd.points_from_xy(500_000.0 + 1000 * np.arange(n), np.full(n, 5_500_000.0))
        ahead = np.array([np.arange(n - 1), np.arange(1, n)])
        return STGraph(
            nodes=gpd.GeoDataFrame(
                {"kind": "station"}, index=np.arange(n), geometry=points, crs=UTM
            ),
            edge_index=np.concatenate([ahead, ahead[::-1]], axis=1),
            edge_weight=np.full(2 * (n - 1), 1000.0, np.float32),
            weight_unit="m",
            time=pd.date_range("2024-05-06", periods=n_steps, freq="5min", tz="UTC"),
            values=values[..., None].astype(np.float32),
            features=(Feature("speed", "km/h"),),
        )

    return make
