"""Demand from matrices, patterns and OD graphs: what comes out, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from stgraph.errors import ConfigError, DataError
from stgraph.graph import Feature, STGraph
from stgraph.scenario.demand import Demand
from stgraph.scenario.demand_sources import (
    USUAL_PROFILE,
    demand_from_matrices,
    demand_from_od,
    demand_from_patterns,
)
from stgraph.scenario.week import week_periods

XY = [(0.0, 0.0), (1000.0, 0.0), (1000.0, 1000.0), (0.0, 1000.0)]
TRIPS = np.array([[5.0, 10.0, 0.0], [20.0, 0.0, 30.0], [0.0, 40.0, 0.0]])


def square_roads(**edge_columns: Any) -> STGraph:
    """Four junctions around a block, streets both ways; junctions are named 10, 20, 30, 40."""
    nodes = gpd.GeoDataFrame(
        {"kind": "junction"},
        index=pd.Index([10, 20, 30, 40], name="junction_id"),
        geometry=[shapely.Point(*xy) for xy in XY],
        crs=32632,
    )
    a = np.array([0, 1, 2, 3, 1, 2, 3, 0])
    b = np.array([1, 2, 3, 0, 0, 1, 2, 3])
    lines = [shapely.LineString([XY[i], XY[j]]) for i, j in zip(a, b, strict=True)]
    table = {"segment_id": np.arange(8), "length_m": 1000.0, "speed_kmh": 60.0} | edge_columns
    edges = gpd.GeoDataFrame(table, geometry=lines, crs=32632)
    return STGraph(nodes, np.stack([a, b]), edges=edges)


def three_zones(**columns: Any) -> gpd.GeoDataFrame:
    """Zones A, B, C near the junctions 10, 20 and 30."""
    points = [shapely.Point(10, 0), shapely.Point(1000, 40), shapely.Point(900, 900)]
    ids = pd.Index(["A", "B", "C"], name="zone_id")
    return gpd.GeoDataFrame(columns, index=ids, geometry=points, crs=32632)


def od_graph(matrix: np.ndarray = TRIPS, unit: str = "trips", **parts: Any) -> STGraph:
    """What the connector `od` would make of a matrix."""
    i, j = np.nonzero(matrix)
    ids = ["A", "B", "C"]
    table = pd.DataFrame(
        {"origin": np.take(ids, i), "destination": np.take(ids, j), "trips": matrix[i, j]}
    )
    return STGraph(
        three_zones(kind="zone"),
        np.stack([i, j]),
        matrix[i, j].astype(np.float32),
        unit,
        table,
        **parts,
    )


# ---------------------------------------------------------------- what comes out


def test_zones_go_to_their_nearest_junctions() -> None:
    """Protects where trips begin: the nearest junction, and how far that is."""
    demand = demand_from_matrices(TRIPS, three_zones(), square_roads())
    assert demand.junctions.tolist() == [0, 1, 2]
    assert demand.zones["junction"].tolist() == [10, 20, 30]
    np.testing.assert_allclose(demand.zones["distance_m"], [10.0, 40.0, np.hypot(100, 100)])


def test_trips_inside_zones_are_kept_apart() -> None:
    """Protects the totals: trips inside zones are neither lost nor on the streets."""
    demand = demand_from_matrices(TRIPS, three_zones(), square_roads())
    assert demand.intrazonal is not None
    assert demand.intrazonal.tolist() == [[5.0, 0.0, 0.0]]
    assert np.diagonal(demand.trips[0]).tolist() == [0.0, 0.0, 0.0]
    assert demand.trips.sum() + demand.intrazonal.sum() == TRIPS.sum()
    assert "stay inside their zone" in str(demand.report)


def test_polygons_are_taken_by_a_point_inside() -> None:
    """Protects zones with a hole or a bend, whose centre lies in another zone."""
    bent = shapely.Polygon([(0, 0), (3000, 0), (3000, 10), (10, 10), (10, 3000), (0, 3000)])
    zones = three_zones()
    zones.loc["A", "geometry"] = bent
    demand = demand_from_matrices(TRIPS, zones, square_roads())
    inside = bent.representative_point()
    distances = [inside.distance(shapely.Point(*xy)) for xy in XY]
    assert demand.junctions[0] == int(np.argmin(distances))


def test_a_column_names_the_junctions() -> None:
    """Protects users who know where their zones are connected; numbers with gaps are floats."""
    zones = three_zones(at=[40.0, 10.0, 10.0])
    demand = demand_from_matrices(TRIPS, zones, square_roads(), junction_column="at")
    assert demand.junctions.tolist() == [3, 0, 0]
    assert "share a junction" in str(demand.report)


def test_zones_without_a_place_are_junctions_of_the_same_id() -> None:
    """Protects TNTP networks, whose zones are junctions."""
    zones = three_zones().set_index(pd.Index(["20", "30", "40"]))
    zones["geometry"] = gpd.GeoSeries([None, None, None], index=zones.index)
    demand = demand_from_matrices(TRIPS, zones, square_roads())
    assert demand.junctions.tolist() == [1, 2, 3]


def test_no_zone_enters_at_a_motorway_or_a_dead_end() -> None:
    """Protects trips against junctions that cannot be left or reached."""
    roads = square_roads(highway=["residential"] * 3 + ["motorway"] + ["residential"] * 4)
    cut = roads.replace(
        edge_index=roads.edge_index[:, [0, 1, 3, 4, 5]],
        edge_weight=roads.edge_weight[[0, 1, 3, 4, 5]],
        edges=roads.edges.iloc[[0, 1, 3, 4, 5]],
    )  # 40 can be left by a motorway, and not reached
    zones = three_zones()
    zones.loc["C", "geometry"] = shapely.Point(0, 1000)
    demand = demand_from_matrices(TRIPS, zones, cut)
    assert demand.zones["junction"].tolist() == [10, 20, 10]


def test_trips_of_a_day_are_spread_over_it() -> None:
    """Protects the total of a day, with a profile of one's own and with the usual one."""
    profile = np.arange(1.0, 25.0)
    demand = demand_from_od(od_graph(), square_roads(), per="day", profile=profile)
    np.testing.assert_allclose(demand.totals().sum(axis=1), 100.0)
    np.testing.assert_allclose(demand.at(0, 23), demand.at(0, 0) * 24)
    assert not demand.report.warnings
    usual = demand_from_od(od_graph(unit="trips/day"), square_roads())
    np.testing.assert_allclose(usual.totals().sum(axis=1), 100.0)
    assert "as usual in cities" in str(usual.report)
    np.testing.assert_allclose(sum(USUAL_PROFILE), 1.0)


def test_trips_of_a_period_are_per_hour_inside_it() -> None:
    """Protects matrices of a peak: 90 minutes with 100 trips are 66.7 trips an hour."""
    demand = demand_from_od(od_graph(), square_roads(), per="period", hours=(7, 8.5))
    np.testing.assert_allclose(demand.totals()[0, [6, 7, 8, 9]], [0, 100 / 1.5, 100 / 3, 0])
    assert "no trips outside" in str(demand.report)
    profile = np.ones(24)
    profile[17] = 3.0
    other = demand_from_od(od_graph(), square_roads(), per="period", hours=(7, 9), profile=profile)
    np.testing.assert_allclose(other.totals()[0, [7, 8, 17]], [50, 50, 150])


def test_trips_of_an_hour_follow_a_profile_of_the_week() -> None:
    """Protects factors by weekday and hour; equal hours share a matrix."""
    profile = np.ones((7, 24))
    profile[6] = 0.5
    demand = demand_from_od(od_graph(unit="trips/h"), square_roads(), profile=profile)
    assert len(demand.trips) == 2
    np.testing.assert_allclose(demand.totals()[[0, 6], 12], [100, 50])


def test_productions_over_time_give_the_hours_of_a_week() -> None:
    """Protects OD over time: sums of each hour as read, and hours without a matrix filled."""
    time = pd.date_range("2026-11-16", periods=48, freq="30min", tz="UTC")  # a Monday
    scale = np.repeat(np.arange(24.0), 2) / 2  # half hours: trips per hour = hour
    sums = np.stack([TRIPS.sum(axis=1), TRIPS.sum(axis=0)], axis=1)
    features = (Feature("productions", "trips"), Feature("attractions", "trips"))
    od = od_graph(time=time, values=scale[:, None, None] * sums, features=features)
    demand = demand_from_od(od, square_roads(), days="each")
    np.testing.assert_allclose(demand.at(0, 9), 9 * (TRIPS - np.diag([5, 0, 0])), rtol=1e-5)
    np.testing.assert_allclose(demand.at(3, 9), demand.at(0, 9))  # no Thursday in it
    assert "hours of the week are in no matrix" in str(demand.report)


def test_matrices_over_time_are_averaged_by_local_hour() -> None:
    """Protects the mean of a typical week, in local time."""
    time = pd.date_range("2026-11-16", periods=14 * 24, freq="h", tz="UTC")
    local = time.tz_convert("Europe/Berlin")
    matrices = TRIPS * local.hour.to_numpy()[:, None, None]
    matrices[-24 * 7 :] *= 3  # the second week has three times as many
    demand = demand_from_matrices(
        matrices, three_zones(), square_roads(), time=time, zone="Europe/Berlin", days="each"
    )
    assert demand.at(2, 8)[0, 1] == 10 * 8 * 2


def test_patterns_times_shares() -> None:
    """Protects the builder of patterns: trips x share of the hour x mix, totals kept."""
    out = np.array([[0, 4, 0], [0, 0, 0], [0, 0, 0]])
    back = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    mix = np.tile([[1.0, 1.0]], (24, 1))
    mix[7] = [3, 1]
    share = np.ones(24)
    demand = demand_from_patterns(
        [out, back], three_zones(), square_roads(),
        trips_per_day=[240] * 5 + [120] * 2, hour_share=share, mix=mix,
    )  # fmt: skip
    assert demand.at(0, 7).tolist() == [[0, 7.5, 0], [1.25, 0, 0], [0, 1.25, 0]]
    assert demand.at(6, 8).tolist() == [[0, 2.5, 0], [1.25, 0, 0], [0, 1.25, 0]]
    np.testing.assert_allclose(demand.totals().sum(axis=1), [240] * 5 + [120] * 2)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost(seed: int) -> None:
    """Property: trips between and inside zones of a day are those of the matrix."""
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(0.5, 20.0, (3, 3))
    demand = demand_from_od(
        od_graph(matrix), square_roads(), per="day", profile=rng.uniform(0, 1, (7, 24))
    )
    assert demand.intrazonal is not None
    each = demand.trips + np.stack([np.diag(one) for one in demand.intrazonal])
    np.testing.assert_allclose(each[demand.period_of_hour[seed]].sum(axis=0), matrix)


@pytest.mark.data
def test_simcity_trips_of_a_weekday(data_dir: Path) -> None:
    """Protects the documented way to read patterns and shares."""
    from stgraph_connectors.roads.lines import read_road_lines

    city = data_dir / "simcity" / "city.gpkg"
    roads = read_road_lines(
        city, layer="links", id_column="link_id", from_column="u", to_column="v", nodes="junctions"
    )
    zones = gpd.read_file(city, layer="nodes").set_index("node_id")
    od = np.load(data_dir / "simcity" / "od.npz")
    demand = demand_from_patterns(
        od["patterns"], zones, roads, trips_per_day=float(od["trips_per_day"]),
        hour_share=od["hour_share"], mix=od["mix_weekday"],
    )  # fmt: skip
    np.testing.assert_allclose(demand.totals().sum(axis=1), 205_000)
    assert demand.zones["junction"].astype(str).tolist() == zones.index.astype(str).tolist()
    assert demand.zones["distance_m"].max() < 1.0


@pytest.mark.data
def test_sioux_falls_without_places(data_dir: Path) -> None:
    """Protects TNTP trips on a TNTP network, exact in total."""
    from stgraph_connectors.od import read_od
    from stgraph_connectors.roads.tntp import read_tntp

    folder = data_dir / "transport-networks" / "SiouxFalls"
    roads = read_tntp(folder / "SiouxFalls_net.tntp", crs=4326, nodes="junctions")
    od = read_od(folder / "SiouxFalls_trips.tntp")
    demand = demand_from_od(od, roads, per="hour")
    assert demand.trips.sum() == pytest.approx(360_600)
    assert roads.node_ids[demand.junctions].astype(str).tolist() == list(demand.zones.index)


# ---------------------------------------------------------------- what is refused


BAD_MATRICES = [
    (np.where(TRIPS == 10, -1.0, TRIPS), r"1 entries are negative, the first -1.0 from 'A' to 'B'"),
    (np.where(TRIPS == 10, np.nan, TRIPS), "no finite number, the first nan from 'A' to 'B'"),
    (np.where(TRIPS == 10, np.inf, TRIPS), "no finite number"),
    (np.zeros((3, 3)), "`trips`: are all 0"),
    (np.ones((2, 3)), r"has shape \(2, 3\)"),
    (np.ones((4, 4)), "has 4 rows for 3 zones"),
    (np.ones(3), r"has shape \(3,\)"),
    (np.ones((5, 3, 3)), "there are 5; say when each holds"),
    ([["a", "b"], ["c", "d"]], "holds what is no number"),
    (np.ones((0, 3, 3)), "has shape"),
]


@pytest.mark.parametrize(("matrix", "match"), BAD_MATRICES)
def test_bad_matrices(matrix: Any, match: str) -> None:
    """Every one of them would make flows that nobody can explain."""
    with pytest.raises(DataError, match=match):
        demand_from_matrices(matrix, three_zones(), square_roads())


BAD_PER: list[tuple[dict[str, Any], str]] = [
    ({}, "`per`: is not given, and the unit 'trips' does not say it"),
    ({"per": "days"}, r"unknown value 'days' \(did you mean 'day'\?\)"),
    ({"per": "period"}, "`hours`: is None"),
    ({"per": "period", "hours": (9, 7)}, r"`hours`: is \(9, 7\)"),
    ({"per": "period", "hours": ("7", "9")}, "give beginning and end"),
    ({"per": "day", "hours": (7, 9)}, "use per='period'"),
    ({"per": "day", "profile": [1.0] * 12}, r"has shape \(12,\)"),
    ({"per": "day", "profile": [-1.0] * 24}, "negative"),
    ({"per": "day", "profile": [0.0] * 24}, "is 0 throughout"),
    ({"per": "day", "profile": ["x"] * 24}, "no number"),
]


@pytest.mark.parametrize(("options", "match"), BAD_PER)
def test_bad_units_and_profiles(options: dict[str, Any], match: str) -> None:
    """A wrong unit is a factor of ten on every street."""
    with pytest.raises(DataError, match=match):
        demand_from_od(od_graph(), square_roads(), **options)


def test_bad_zones() -> None:
    """Zones that are nowhere near the streets, or named twice, or unknown."""
    roads = square_roads()
    far = three_zones().translate(1e5, 0)
    with pytest.raises(DataError, match="3 of 3 are farther than 2000 m from a street"):
        demand_from_matrices(TRIPS, three_zones().set_geometry(far), roads)
    twice = three_zones().set_index(pd.Index(["A", "A", "B"]))
    with pytest.raises(DataError, match="ids appear twice: A"):
        demand_from_matrices(TRIPS, twice, roads)
    with pytest.raises(DataError, match="no column 'juncton'"):
        demand_from_matrices(TRIPS, three_zones(), roads, junction_column="juncton")
    with pytest.raises(DataError, match="1 name no junction: 99"):
        demand_from_matrices(TRIPS, three_zones(at=[10, 20, 99]), roads, junction_column="at")
    zones = three_zones()
    zones.loc["C", "geometry"] = None
    with pytest.raises(DataError, match="1 have no place: C"):
        demand_from_matrices(TRIPS, zones, roads)
    with pytest.raises(DataError, match="`zones`: has no CRS"):
        demand_from_matrices(TRIPS, three_zones().set_crs(None, allow_override=True), roads)


def test_one_far_zone_is_told() -> None:
    """Protects a cordon station outside the map: usable, but the user should know."""
    zones = three_zones()
    zones.loc["C", "geometry"] = shapely.Point(9000, 1000)
    demand = demand_from_matrices(TRIPS, zones, square_roads())
    assert "1 of 3 are farther than 2000 m from a street: C" in str(demand.report)
    assert "8,000 m" in str(demand.report)


def test_zones_that_no_way_leads_to_are_told() -> None:
    """Protects against trips that silently vanish in the assignment."""
    roads = square_roads()
    out = [0, 1, 4, 5]  # only 10 - 20 - 30 are joined
    roads = roads.replace(
        edge_index=roads.edge_index[:, out], edge_weight=None, edges=roads.edges.iloc[out]
    )
    zones = three_zones(at=[10, 20, 40])
    demand = demand_from_matrices(TRIPS, zones, roads, junction_column="at")
    assert "no way leads between 2 pairs with 70.0 trips" in str(demand.report.warnings[0])


def test_a_day_taken_for_an_hour_is_told() -> None:
    """Protects against the usual mistake with units."""
    demand = demand_from_matrices(TRIPS * 1000, three_zones(), square_roads())
    assert "trips of a day or of an hour?" in str(demand.report)


def test_od_graphs_that_are_none() -> None:
    """Protects against roads and demand in the wrong order, and against empty matrices."""
    with pytest.raises(DataError, match="is a road network"):
        demand_from_od(square_roads(), od_graph(), per="hour")
    empty = od_graph().replace(edge_index=None, edge_weight=None, edges=None)
    with pytest.raises(DataError, match="has 3 zones and 0 pairs"):
        demand_from_od(empty, square_roads(), per="hour")
    time = pd.date_range("2026-11-16", periods=2, freq="D", tz="UTC")
    sums = np.ones((2, 3, 2))
    days = od_graph(
        time=time, values=sums, features=(Feature("productions"), Feature("attractions"))
    )
    with pytest.raises(DataError, match="has steps of 24 hours"):
        demand_from_od(days, square_roads())
    other = od_graph(time=time, values=sums[:, :, :1], features=(Feature("speed"),))
    with pytest.raises(DataError, match="not the features"):
        demand_from_od(other, square_roads())


def test_bad_patterns_times_and_periods() -> None:
    """Shares, times and periods that do not fit."""
    roads, zones = square_roads(), three_zones()
    with pytest.raises(DataError, match=r"`patterns`: \[1\] are all 0"):
        demand_from_patterns([TRIPS, TRIPS * 0], zones, roads, trips_per_day=1)
    with pytest.raises(DataError, match=r"`trips_per_day`: holds negative"):
        demand_from_patterns([TRIPS], zones, roads, trips_per_day=-1)
    with pytest.raises(DataError, match=r"`mix`: has shape \(24, 2\)"):
        demand_from_patterns([TRIPS], zones, roads, trips_per_day=1, mix=np.ones((24, 2)))
    with pytest.raises(DataError, match="`mix`: has shares that are all 0"):
        demand_from_patterns([TRIPS], zones, roads, trips_per_day=1, mix=np.zeros((24, 1)))
    hours = np.full((7, 24), 3)
    with pytest.raises(DataError, match="names matrix 3"):
        demand_from_matrices(TRIPS, zones, roads, period_of_hour=hours)
    time = pd.DatetimeIndex(["2026-01-01", "2026-01-02"])
    with pytest.raises(DataError, match="`time`: has 2 instants"):
        demand_from_matrices(TRIPS, zones, roads, time=time)
    with pytest.raises(ConfigError, match="unknown value 'weekly'"):
        week_periods("weekly")  # type: ignore[arg-type]


def test_a_demand_checks_itself() -> None:
    """Protects those who build one by hand."""
    zones, junctions, hours = three_zones(), np.arange(3), np.zeros((7, 24), dtype=int)
    Demand(zones, junctions, TRIPS[None], hours)
    with pytest.raises(DataError, match=r"\(periods, 3, 3\) expected"):
        Demand(zones, junctions, TRIPS, hours)
    with pytest.raises(DataError, match="names period 1 of 1"):
        Demand(zones, junctions, TRIPS[None], hours + 1)
    with pytest.raises(DataError, match=r"`junctions`: has shape \(2,\)"):
        Demand(zones, junctions[:2], TRIPS[None], hours)
    with pytest.raises(DataError, match="negative"):
        Demand(zones, junctions, -TRIPS[None], hours)
