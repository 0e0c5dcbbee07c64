"""Demand from weights and counts: balanced, fitted, and honest about links that it did not see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from stgraph.errors import DataError
from stgraph.graph import Feature, STGraph
from stgraph.scenario.adjusting import adjust_to_counts
from stgraph.scenario.balancing import fit_mix, furness
from stgraph.scenario.counts import Counts, counts_from_readings, measure_fit, usual_minutes
from stgraph.scenario.demand import Demand
from stgraph.scenario.gravity import fit_gravity, scale_totals
from stgraph.scenario.loading import find_routes, free_minutes
from stgraph.scenario.week import fill_periods, week_periods
from stgraph.scenario.zoning import build_zones

SIZE = 5  # junctions along a side of the town


def town() -> STGraph:
    """A grid of streets, both ways, with homes in the west and jobs in the east."""
    xy = np.array([(x * 400.0, y * 500.0) for x in range(SIZE) for y in range(SIZE)])
    pairs = [
        (i, j)
        for i in range(len(xy))
        for j in range(len(xy))
        if np.isclose(np.abs(xy[i] - xy[j]).sum(), 400 * (xy[i, 0] != xy[j, 0]) + 500 * (
            xy[i, 1] != xy[j, 1])) and np.hypot(*(xy[i] - xy[j])) in (400.0, 500.0)
    ]  # fmt: skip
    ends = np.array(pairs).T
    lines = [shapely.LineString([xy[i], xy[j]]) for i, j in pairs]
    length = [line.length for line in lines]
    speed = np.where(xy[ends[0], 1] == xy[ends[1], 1], 50.0, 30.0)
    table = {"segment_id": 100 + np.arange(len(lines)), "length_m": length, "speed_kmh": speed}
    nodes = gpd.GeoDataFrame(
        {
            "kind": "junction",
            "homes": np.exp(-xy[:, 0] / 800) * (1 + 0.3 * np.sin(np.arange(25))),
            "jobs": np.exp(xy[:, 0] / 800) * (1 + 0.3 * np.cos(np.arange(25))),
        },
        index=pd.Index(np.arange(len(xy)), name="junction_id"),
        geometry=gpd.points_from_xy(*xy.T),
        crs=32632,
    )
    return STGraph(nodes, ends, edges=gpd.GeoDataFrame(table, geometry=lines, crs=32632))


def truth(roads: STGraph, b: float = 0.4) -> tuple[np.ndarray, Counts]:
    """The trips that the town is made of, and counts of their flows on all streets."""
    routes = find_routes(roads, np.arange(25), n_draws=16, spread=0.3)
    homes, jobs = (roads.nodes[name].to_numpy() for name in ("homes", "jobs"))
    resistance = np.exp(-b * routes.minutes) * ~np.eye(25, dtype=bool)
    there = furness(resistance, homes / homes.sum(), jobs / jobs.sum())
    back = furness(resistance, jobs / jobs.sum(), homes / homes.sum())
    hours = np.arange(24)
    out = 900 * np.exp(-((hours - 8) ** 2) / 4) + 60
    home = 900 * np.exp(-((hours - 17) ** 2) / 4) + 60
    trips = out[:, None, None] * there + home[:, None, None] * back
    return trips, Counts(np.arange(roads.n_edges), routes(trips), week_periods("all"))


# ---------------------------------------------------------------- pieces


@pytest.mark.parametrize("seed", range(8))
def test_furness_has_the_sums_asked_for(seed: int) -> None:
    """Property: sums of rows and columns, the total, and the pattern of zeros."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    matrix = rng.gamma(0.7, 1.0, (n, n)) + 1e-3
    rows, columns = rng.gamma(1, 5, n), rng.gamma(1, 5, n)
    rows[0] = 0.0
    found = furness(matrix, rows, columns)
    np.testing.assert_allclose(found.sum(axis=1), rows, atol=1e-6 * rows.sum())
    np.testing.assert_allclose(found.sum(axis=0), columns * rows.sum() / columns.sum(), rtol=1e-6,
                               atol=1e-6 * rows.sum())  # fmt: skip
    np.testing.assert_allclose(found.sum(), rows.sum())
    assert not found[0].any()


def test_furness_by_hand() -> None:
    """A matrix whose answer is known: of ones, the product of the sums over the total."""
    found = furness(np.ones((2, 2)), np.array([30.0, 10.0]), np.array([1.0, 3.0]))
    np.testing.assert_allclose(found, [[7.5, 22.5], [2.5, 7.5]])


def test_furness_of_zones_that_nobody_reaches() -> None:
    """Protects totals: what cannot go anywhere goes where the others go."""
    seed = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    found = furness(seed, np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(found, 2 * seed)
    assert not furness(np.zeros((2, 2)), np.ones(2), np.ones(2)).any()


def test_mix_is_the_best_without_negatives() -> None:
    """Protects the amounts: by hand, against scipy, and 0 where nothing is counted."""
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    flows = rng.gamma(1, 1, (3, 20))
    counted = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0], [-1.0, 4.0, 1.0]]) @ flows
    counted = np.vstack([counted, np.full(20, np.nan)])
    found = fit_mix(flows, counted, np.ones(20))
    for i in range(3):
        np.testing.assert_allclose(found[i], nnls(flows.T, counted[i])[0], atol=1e-4)
    assert not found[3].any()


def test_routes_are_the_quickest_ways() -> None:
    """Protects minutes and flows: two trips along a street of three junctions."""
    points = gpd.points_from_xy([0, 1000, 2000], [0, 0, 0])
    nodes = gpd.GeoDataFrame(
        {"kind": "junction"}, index=["a", "b", "c"], geometry=points, crs=32632
    )
    edges = pd.DataFrame({"length_m": [1000.0, 1000, 2500, 900], "speed_kmh": [60.0, 60, 60, 20]})
    roads = STGraph(nodes, np.array([[0, 1, 0, 0], [1, 2, 2, 1]]), edges=edges)
    np.testing.assert_allclose(free_minutes(roads), [1, 1, 2.5, 2.7])
    routes = find_routes(roads, np.array([0, 1, 2]))
    np.testing.assert_allclose(routes.minutes, [[0, 1, 2], [np.inf, 0, 1], [np.inf, np.inf, 0]])
    trips = np.zeros((1, 3, 3))
    trips[0, 0] = [0, 5, 7]
    np.testing.assert_allclose(routes(trips), [[12, 7, 0, 0]])
    closed = find_routes(roads, np.array([0, 1, 2]), minutes=[np.inf, 1, 2.5, 2.7])
    np.testing.assert_allclose(closed(trips), [[0, 0, 7, 5]])


def test_flow_is_conserved_at_every_junction() -> None:
    """Property: what enters and begins leaves and ends."""
    roads = town()
    trips, counts = truth(roads)
    source, target = roads.edge_index
    for hour in (3, 8, 17):
        enters = np.bincount(target, counts.flow[hour], 25) + trips[hour].sum(axis=1)
        leaves = np.bincount(source, counts.flow[hour], 25) + trips[hour].sum(axis=0)
        np.testing.assert_allclose(enters, leaves)


def test_zones_of_equal_weight() -> None:
    """Protects the zones that are made: every junction in one, weights alike, all reproducible."""
    roads = town()
    weights = roads.nodes["jobs"].to_numpy()
    zones, junctions, of = build_zones(roads, weights, n_zones=6)
    assert len(zones) == 6 == len(set(junctions.tolist()))
    assert of.min() == 0
    np.testing.assert_allclose(np.bincount(of, weights), zones["weight"])
    assert zones["weight"].max() < 4 * zones["weight"].min()
    assert (of[junctions] == np.arange(6)).all()
    assert len(build_zones(roads, weights, n_zones=100)[0]) == 25


def test_figures_of_a_fit_by_hand() -> None:
    """Protects GEH, RMSE and slope; what is not counted is left out."""
    found = measure_fit([[100.0, 400.0, 9.0]], [[110.0, 300.0, np.nan]])
    geh = [np.sqrt(2 * 10**2 / 210), np.sqrt(2 * 100**2 / 700)]
    assert geh[0] < 5 < geh[1]
    assert (found.n_links, found.n_values, found.geh_below_5) == (2, 2, 0.5)
    assert found.rmse_vph == pytest.approx(np.sqrt((10**2 + 100**2) / 2))
    assert found.slope == pytest.approx((100 * 110 + 400 * 300) / (100**2 + 400**2))
    assert "GEH < 5 50%" in str(found)


def test_hours_without_data_are_those_of_other_days() -> None:
    """Protects Sundays that nobody counted, and hours that are on no day."""
    hours = week_periods("kinds")
    values = np.arange(72.0)
    known = np.ones(72, dtype=bool)
    known[[24 + 5, 7, 24 + 7, 48 + 7]] = False
    filled, empty = fill_periods(values, known, hours)
    assert filled[24 + 5] == 48 + 5  # Saturday as Sunday
    assert empty.tolist() == [7]
    assert filled[7] == 0


# ---------------------------------------------------------------- the whole


def test_gravity_finds_what_the_town_is_made_of() -> None:
    """The flows, the deterrence and the trips of a town that is a gravity model."""
    roads = town()
    trips, counts = truth(roads)
    demand, fit = fit_gravity(roads, counts=counts, weights=("homes", "jobs"))
    assert demand.n_zones == 25
    assert fit.deterrence == pytest.approx(0.4, rel=0.1)
    assert fit.fitted.r > 0.999
    assert fit.held_out is not None
    assert fit.held_out.geh_below_5 > 0.99
    order = np.argsort(demand.junctions)
    found = demand.at(2, 8)[np.ix_(order, order)]
    assert np.corrcoef(found.ravel(), trips[8].ravel())[0, 1] > 0.999
    assert found.sum() == pytest.approx(trips[8].sum(), rel=0.03)
    assert fit.trips_per_day == pytest.approx(trips.sum(), rel=0.03)
    assert demand.provenance["fitted"] == str(fit.fitted)
    assert demand.provenance["held_out"] == str(fit.held_out)
    assert "held out" in str(fit)


def test_few_counts_are_enough_for_totals() -> None:
    """Twelve of eighty streets: the flows on the others are right."""
    roads = town()
    _, counts = truth(roads)
    some = np.arange(0, 80, 7)
    demand, fit = fit_gravity(roads, counts=counts.take(some), weights=("homes", "jobs"))
    routes = find_routes(roads, demand.junctions, n_draws=16, spread=0.3)
    rest = np.setdiff1d(np.arange(80), some)
    assert measure_fit(routes(demand.trips)[:, rest], counts.flow[:, rest]).r > 0.98
    assert fit.fitted.n_links == 12


def test_weights_are_found_where_there_are_none() -> None:
    """Counts on all streets: without homes and jobs, flows that were hidden are right."""
    roads = town()
    _, counts = truth(roads)
    demand, fit = fit_gravity(roads, counts=counts)
    assert fit.held_out is not None
    assert fit.held_out.r > 0.95
    assert fit.weights == "weights found by the counts"
    assert (demand.trips >= 0).all()


def test_zones_and_a_deterrence_that_are_known() -> None:
    """Protects users with zones and a survey of trips."""
    roads = town()
    _, counts = truth(roads)
    zones = roads.nodes.iloc[::3].rename_axis("zone_id")
    demand, fit = fit_gravity(
        roads, counts=counts, zones=zones, weights="homes", deterrence=0.2, folds=1
    )
    assert demand.n_zones == 9
    assert fit.deterrence == 0.2
    assert fit.held_out is None
    assert fit.patterns == ("all",)
    assert "no link was held out" in str(fit.report)


def test_an_assignment_scales_the_totals() -> None:
    """Protects the generic assignment: one that loses half of the flow gets twice the trips."""
    roads = town()
    _, counts = truth(roads)

    def assign(demand: Demand) -> Any:
        routes = find_routes(roads, demand.junctions, n_draws=16, spread=0.3)
        return lambda trips: 0.5 * routes(trips)

    plain, _ = fit_gravity(roads, counts=counts, weights=("homes", "jobs"))
    demand, fit = fit_gravity(roads, counts=counts, weights=("homes", "jobs"), assign=assign)
    np.testing.assert_allclose(demand.totals(), 2 * plain.totals(), rtol=0.02)
    assert fit.assigned is not None
    assert fit.assigned.slope == pytest.approx(1.0, abs=0.02)
    fewer = Counts(counts.segments, counts.flow[:1], np.zeros((7, 24), dtype=int))
    with pytest.raises(DataError, match="24 periods of demand, 1 of counts"):
        scale_totals(demand, fewer, assign(demand))


def test_counts_of_a_typical_week() -> None:
    """Protects medians by local hour, gaps, other nodes, and hours of which nothing is known."""
    roads = town()
    time = pd.date_range("2026-11-15 23:00", periods=4 * 24 * 14, freq="15min", tz="UTC")
    hour = time.tz_convert("Europe/Berlin").hour.to_numpy()
    values = np.stack([hour * 10.0, hour * 20.0, hour * 1.0], axis=1)[:, :, None]
    values[:96, 0] = 9999.0  # an odd day
    values[hour == 5, 1] = np.nan
    nodes = gpd.GeoDataFrame(index=[103, 100, 7], geometry=[None] * 3)
    readings = STGraph(nodes, time=time, values=values, features=(Feature("flow", "veh/h"),),
                       zone="Europe/Berlin")  # fmt: skip
    counts = counts_from_readings(readings, roads)
    assert counts.segments.tolist() == [3, 0]
    weekday = counts.flow[counts.period_of_hour[0]]
    np.testing.assert_allclose(weekday[:, 0], np.arange(24) * 10)
    assert np.isnan(weekday[5, 1])
    assert "1 nodes are no segments: 7" in str(counts.report)


def test_units_of_counts_and_speeds() -> None:
    """Protects totals and times: 5 cars in 5 minutes are 60 an hour, 10 m/s are 36 km/h."""
    roads = town()
    time = pd.date_range("2026-11-16", periods=24, freq="h", tz="UTC")
    nodes = gpd.GeoDataFrame(index=[100], geometry=[None])
    values = np.tile([10.0, 5.0], (24, 1, 1))
    features = (Feature("v", "m/s"), Feature("q", "veh/5min"))
    readings = STGraph(nodes, time=time, values=values, features=features)
    counts = counts_from_readings(readings, roads)
    assert np.nanmax(counts.flow) == np.nanmin(counts.flow) == 60
    assert not counts.report.warnings
    length = roads.edges["length_m"].to_numpy()  # type: ignore[index]
    assert usual_minutes(readings, roads)[0] == pytest.approx(length[0] / 36 * 0.06)
    odd = readings.replace(features=(Feature("v"), Feature("flow", "1")))
    counts = counts_from_readings(odd, roads)
    assert np.nanmax(counts.flow) == 5
    assert "`flow`: has the unit '1'; taken as vehicles per hour" in str(counts.report)
    with pytest.raises(DataError, match="has no feature named speed"):
        usual_minutes(odd, roads)


def test_usual_minutes_of_speeds() -> None:
    """Protects routes: medians of the day, and others as much slower as their class is."""
    roads = town()
    time = pd.date_range("2026-11-16", periods=48, freq="h", tz="UTC")
    day = (time.hour >= 7) & (time.hour < 19)
    values = np.stack([np.where(day, 25.0, 99.0), np.full(48, np.nan)], axis=1)[:, :, None]
    nodes = gpd.GeoDataFrame(index=[100, 101], geometry=[None] * 2)
    readings = STGraph(nodes, time=time, values=values, features=(Feature("speed", "km/h"),))
    minutes, free = usual_minutes(readings, roads), free_minutes(roads)
    length = roads.edges["length_m"].to_numpy()  # type: ignore[index]
    assert minutes[0] == pytest.approx(length[0] / 25 * 0.06)
    np.testing.assert_allclose(minutes / free, minutes[0] / free[0])
    with pytest.raises(DataError, match="no feature 'velocity'"):
        usual_minutes(readings, roads, feature="velocity")


def test_adjusting_keeps_a_demand_that_is_right() -> None:
    """Protects the truth: no factors where they do not help, and the totals as counted."""
    roads = town()
    trips, counts = truth(roads)
    zones = roads.nodes
    noise = np.random.default_rng(1).lognormal(0, 0.05, counts.flow.shape)
    noisy = Counts(counts.segments, counts.flow * noise, counts.period_of_hour)
    prior = Demand(zones, np.arange(25), 0.5 * trips, week_periods("all"))
    demand, how = adjust_to_counts(prior, noisy, roads)
    assert how.penalty is None
    np.testing.assert_allclose(demand.totals(), 2 * prior.totals(), rtol=0.02)
    assert how.before.slope == pytest.approx(2, rel=0.02)


def test_adjusting_repairs_zones() -> None:
    """A demand whose zones are wrong: better on hidden links, and nearer to the true trips."""
    roads = town()
    trips, counts = truth(roads)
    rng = np.random.default_rng(2)
    wrong = trips * rng.lognormal(0, 0.8, 25)[:, None] * rng.lognormal(0, 0.8, 25)
    prior = Demand(roads.nodes, np.arange(25), wrong, week_periods("all"))
    demand, how = adjust_to_counts(prior, counts, roads)
    assert how.penalty is not None
    assert how.held_out is not None
    assert how.held_out_scaled is not None
    assert how.held_out.rmse_vph < how.held_out_scaled.rmse_vph
    right = trips[8].ravel()
    before = np.corrcoef(prior.at(0, 8).ravel(), right)[0, 1]
    assert np.corrcoef(demand.at(0, 8).ravel(), right)[0, 1] > before


@pytest.mark.data
def test_simcity_without_od(data_dir: Path) -> None:
    """Protects the figures of the documentation: flows on links that were not counted."""
    from stgraph_connectors.roads.lines import read_road_lines

    folder = data_dir / "simcity"
    roads = read_road_lines(
        folder / "city.gpkg", layer="links", id_column="link_id", from_column="u",
        to_column="v", nodes="junctions",
    )  # fmt: skip
    days = np.load(folder / "days.npz")
    some = (days["weekday"][:14] < 5).nonzero()[0]
    segments = roads.edges["segment_id"].to_numpy()  # type: ignore[index]
    flow = days["flow_vph"][some].reshape(len(some), 24, 12, 508).mean(axis=2)[..., segments]
    speed = days["speed_ckmh"][some, 84:228].astype(float)[..., segments]
    speed[speed == 65535] = np.nan
    length = roads.edges["length_m"].to_numpy()  # type: ignore[index]
    minutes = length / np.nanmedian(speed.reshape(-1, 508), axis=0) * 100 * 0.06
    counts = Counts(np.arange(508), np.median(flow, axis=0), week_periods("all"))
    zones = gpd.read_file(folder / "city.gpkg", layer="nodes").set_index("node_id")
    seen, hidden = np.arange(0, 508, 10), np.setdiff1d(np.arange(508), np.arange(0, 508, 10))
    demand, fit = fit_gravity(
        roads, counts=counts.take(seen), zones=zones, weights=("home_weight", "job_weight"),
        minutes=minutes,
    )  # fmt: skip
    routes = find_routes(roads, demand.junctions, minutes=minutes, n_draws=16, spread=0.3)
    found = measure_fit(routes(demand.trips)[:, hidden], counts.flow[:, hidden])
    assert found.r > 0.94
    assert found.geh_below_5 > 0.85
    assert 200_000 < fit.trips_per_day < 280_000  # the truth is 205,000


# ---------------------------------------------------------------- what is refused


BAD: list[tuple[dict[str, Any], str]] = [
    ({"weights": "home"}, r"column `home`: does not exist \(did you mean 'homes'"),
    ({"weights": ("homes", "kind")}, "column `kind`: holds no numbers"),
    ({"weights": "minus"}, "is -1 at 3; give weights of at least 0"),
    ({"weights": "nothing"}, "is 0 everywhere"),
    ({"weights": ("homes", "jobs", "shops")}, "give one or two columns"),
    ({"n_zones": 1}, "`n_zones`: is 1"),
    ({"n_zones": 2.5}, "`n_zones`: is 2.5"),
    ({"folds": 0}, "`folds`: is 0"),
    ({"n_draws": 0}, "`n_draws`: is 0"),
    ({"deterrence": -0.1}, "`deterrence`: is -0.1"),
    ({"minutes": np.zeros(80)}, "80 that are not above 0"),
    ({"minutes": np.ones(3)}, r"shape \(3,\)"),
]


@pytest.mark.parametrize(("options", "match"), BAD)
def test_bad_options(options: dict[str, Any], match: str) -> None:
    """Each of them says what is allowed."""
    roads = town()
    _, counts = truth(roads)
    minus, nothing = np.ones(25), np.zeros(25)
    minus[3] = -1
    nodes = roads.nodes.assign(minus=minus, nothing=nothing)
    given = {"weights": ("homes", "jobs"), **options}
    with pytest.raises(DataError, match=match):
        fit_gravity(roads.replace(nodes=nodes), counts=counts, **given)


def test_bad_counts() -> None:
    """Counts that are none, of other roads, or negative."""
    roads, hours = town(), np.zeros((7, 24), dtype=int)
    one = np.array([0])
    for flow, match in (
        ([[-1.0]], "negative or infinite"),
        ([[np.inf]], "negative or infinite"),
        ([[np.nan]], "no number at all"),
        ([[1.0, 2.0]], r"has shape \(1, 2\)"),
    ):
        with pytest.raises(DataError, match=match):
            Counts(one, np.array(flow), hours)
    with pytest.raises(DataError, match="unknown periods"):
        Counts(one, np.ones((1, 1)), hours + 1)
    with pytest.raises(DataError, match="`counts`: are all 0"):
        fit_gravity(roads, counts=Counts(one, np.zeros((1, 1)), hours), weights="homes")
    beyond = Counts(np.array([80]), np.ones((1, 1)), hours)
    with pytest.raises(DataError, match="names segment 80 of 80"):
        fit_gravity(roads, counts=beyond, weights="homes")
    prior = Demand(roads.nodes, np.arange(25), np.zeros((1, 25, 25)), hours)
    with pytest.raises(DataError, match="names segments beyond 80"):
        adjust_to_counts(prior, beyond, roads)
    with pytest.raises(DataError, match="no trips use any"):
        adjust_to_counts(prior, Counts(one, np.ones((1, 1)), hours), roads)


def test_bad_readings() -> None:
    """Readings of other places, without flows, without times."""
    roads = town()
    time = pd.date_range("2026-11-16", periods=3, freq="h", tz="UTC")
    nodes = gpd.GeoDataFrame(index=[103, 100], geometry=[None] * 2)
    features = (Feature("speed"), Feature("flow"))
    good = STGraph(nodes, time=time, values=np.ones((3, 2, 2)), features=features)
    with pytest.raises(DataError, match=r"no feature 'flo' \(did you mean 'flow'\?\)"):
        counts_from_readings(good, roads, feature="flo")
    with pytest.raises(DataError, match="has no times"):
        counts_from_readings(STGraph(nodes), roads)
    values = good.values.copy()
    values[:2, 0, 1] = -1
    with pytest.raises(DataError, match="2 values are negative, the first at segment 103"):
        counts_from_readings(good.replace(values=values), roads)
    other = STGraph(
        gpd.GeoDataFrame(index=["x", "y"], geometry=[None] * 2), time=time,
        values=np.ones((3, 2, 2)), features=features,
    )  # fmt: skip
    with pytest.raises(DataError, match="none of its 2 nodes is a segment: x, y"):
        counts_from_readings(other, roads)
    with pytest.raises(DataError, match="has no values"):
        counts_from_readings(good.replace(mask=np.zeros((3, 2, 2), dtype=bool)), roads)
