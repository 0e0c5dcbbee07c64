"""What is wrong with a scenario is said before anything is computed, all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from scenario_town import (
    EAST,
    LAT,
    LON,
    STEP,
    make_demand,
    make_forecast,
    make_time,
    make_town,
    place,
)
from stgraph_connectors.roads._local import LOCAL_METRES

from stgraph import registry
from stgraph.errors import ConfigError
from stgraph.report import Report
from stgraph.scenario.checking import check
from stgraph.scenario.demand import Demand
from stgraph.scenario.script import Scenario

TIME = make_time()
SOUTH = {"edges": [10]}
ACROSS = f"LINESTRING ({LON} {LAT}, {LON + STEP} {LAT + STEP})"

Make = Callable[[Scenario], Scenario]


def found(
    make: Make,
    level: str = "error",
    *,
    demand: Demand | None = None,
    forecast: bool = False,
    allow_disconnect: bool = False,
) -> str:
    """Return the findings of one level; errors and a result exclude each other."""
    scenario = make(Scenario("test", timezone="UTC"))
    edited, report = check(
        scenario,
        make_town(),
        time=TIME,
        demand=demand,
        forecast=make_forecast() if forecast else None,
        allow_disconnect=allow_disconnect,
    )
    assert (edited is None) == bool(report.errors)
    return "\n".join(str(each) for each in report if each.level == level)


def road(line: str, **options: object) -> Make:
    given = {"id": "New", "geometry": line, "kmh": 50.0} | options
    return lambda s: s.add_road(**given)  # type: ignore[arg-type]


# each with what the message must say: operation, field, value, what to do
BAD_ROADS: dict[str, tuple[Make, list[str]]] = {
    "unknown id": (lambda s: s.close(edges=[10, 99]), ["operation 1 (close)", "edges", "99"]),
    "unknown way": (lambda s: s.close(osmid=[7]), ["`target.osmid`", "way 7"]),
    "unknown name": (
        lambda s: s.close(name="Sout Street"),
        ["`target.name`", "'Sout Street'", "'South Street'", "'North Street'"],
    ),
    "unknown class": (
        lambda s: s.close(road_class="primery"), ["`target.road_class`", "'primery'", "'primary'"],
    ),
    "unknown column": (lambda s: s.close(where="lane > 1"), ["`target.where`", "'lanes'"]),
    "no condition": (lambda s: s.close(where="lanes >"), ["`target.where`", "cannot be read"]),
    "words of SQL": (lambda s: s.close(where="lanes = 2"), ["write == for ="]),
    "program": (
        lambda s: s.close(where="().__class__.__bases__ == 1"), ["`target.where`", "is no"],
    ),
    "text and number": (lambda s: s.close(where="lanes == 'two'"), ["`lanes` has numbers"]),
    "number and text": (lambda s: s.close(where="name > 3"), ["`name` has texts"]),
    "condition of nothing": (lambda s: s.close(where="lanes > 7"), ["holds for no segment"]),
    "unknown junction": (lambda s: s.close(between=("1", "77")), ["`target.between`", "'77'"]),
    "no way": (
        lambda s: s.close(between=("6", "3"), road_class="residential", within=(
            f"POLYGON (({LON} {LAT}, {LON + 0.001} {LAT}, {LON} {LAT + 0.001}, {LON} {LAT}))")),
        ["`target.within`", "no segment lies inside"],
    ),
    "nothing near": (
        lambda s: s.close(near=(LON + STEP / 2, LAT - STEP)), ["`target.near`", "50 m", "334 m"],
    ),
    "swapped": (lambda s: s.close(near=(LAT, LON)), ["`target.near`", "swapped"]),
    "at a corner": (
        lambda s: s.close(near=place(2)), ["`target.near`", "6 segments are equally near"],
    ),
    "no polygon file": (
        lambda s: s.close(polygon="missing.geojson"), ["`target.polygon`", "'missing.geojson'"],
    ),
    "polygon elsewhere": (
        lambda s: s.close(within="POLYGON ((0 0, 1 0, 1 1, 0 0))"),
        ["`target.within`", "no segment lies inside", "the roads span"],
    ),
    "nothing in common": (
        lambda s: s.close(name="South Street", road_class="secondary"),
        ["no segment fits all of it", "`name` 4", "`road_class` 5"],
    ),
    "most of the town": (
        lambda s: s.close(where="lanes >= 1"), ["13 of 13", "100%", "at most 20%"],
    ),
    "one-way has no back": (
        lambda s: s.close(edges=[EAST], direction="back"), ["`direction`", "one-way"],
    ),
    "road of later": (
        lambda s: s.close(name="New").add_road(id="New", geometry=ACROSS, kmh=50),
        ["operation 1 (close)", "no street is called 'New'"],
    ),
    "removed": (
        lambda s: s.remove_road(edges=[10]).set_speed(edges=[10], kmh=30),
        ["operation 2 (set_speed)", "operation 1 (remove_road) takes it away"],
    ),
    "two speeds": (
        lambda s: s.set_speed(edges=[10], kmh=30).set_speed(edges=[10], kmh=40),
        ["operation 2 (set_speed)", "`speed_kmh` (40 km/h)", "operation 1 (set_speed) (30 km/h)",
         "10 'South Street'", "override = true"],
    ),
    "two speeds at some time": (
        lambda s: s.set_speed(edges=[10], kmh=30, daily="07:00-09:00").roadworks(
            edges=[10], kmh=20, daily="08:00-10:00"),
        ["operation 2 (roadworks)", "from 2026-11-23 08:00 UTC", "1 of 24 steps"],
    ),
    "lanes and capacity": (
        lambda s: s.set_lanes(edges=[10], lanes=1).set_capacity(edges=[10], vph=900),
        ["operation 2 (set_capacity)", "`capacity_vph` (900 veh/h)", "(1 lane)"],
    ),
    "closed twice": (
        lambda s: s.close(edges=[10]).close(name="South Street", daily="07:00-09:00"),
        ["operation 2 (close)", "operation 1 (close) has closed already"],
    ),
    "closed and turned round": (
        lambda s: s.close(edges=[EAST]).reverse(edges=[EAST]), ["operation 2 (reverse)"],
    ),
    "two-way turned round": (
        lambda s: s.reverse(edges=[10]), ["two-way", "close one direction"],
    ),
    "all lanes lost": (
        lambda s: s.roadworks(edges=[20], lanes_lost=1), ["`lanes_lost`", "there are 1", "close"],
    ),
    "too fast by factor": (
        lambda s: s.set_speed(edges=[10], factor=4.0), ["`factor`", "200 km/h", "130"],
    ),
    "too much for the lanes": (
        lambda s: s.set_capacity(edges=[20], vph=5000), ["`vph`", "5000", "2400"],
    ),
    "turn that is none": (
        lambda s: s.ban_turn(from_={"edges": [10]}, to={"edges": [14]}),
        ["operation 1 (ban_turn)", "no segment of `to` begins where one of `from` ends"],
    ),
    "turn from nowhere": (
        lambda s: s.ban_turn(from_={"name": "X"}, to={"edges": [14]}), ["`from.name`", "'X'"],
    ),
    "outside of the horizon": (
        lambda s: s.close(edges=[10], from_="2027-01-01 00:00", to="2027-01-02 00:00"),
        ["operation 1 (close)", "window", "covers no step"],
    ),
    "weekend only": (lambda s: s.close(edges=[10], days=["sat"]), ["covers no step"]),
    "ends in the fields": (
        road(f"LINESTRING ({LON} {LAT}, {LON + STEP / 2} {LAT + STEP / 2})"),
        ["`geometry`, last point", "`snap_m` is 15 m"],
    ),
    "ends on another continent": (
        road("LINESTRING (50 10, 50.001 10)"), ["first point", "swapped"],
    ),
    "may not split": (
        road(f"LINESTRING ({LON} {LAT}, {LON + STEP / 2} {LAT + STEP})", split_edges=False),
        ["last point", "'North Street'", "`split_edges`"],
    ),
    "ends where it begins": (
        road(f"LINESTRING ({LON} {LAT}, {LON} {LAT + 0.001}, {LON + 1e-5} {LAT})"),
        ["both ends join the same junction 1"],
    ),
    "name is taken": (road(ACROSS, id="south street"), ["`id`", "'south street'"]),
    "two new roads of one name": (
        lambda s: road(ACROSS)(road(ACROSS)(s)), ["operation 2 (add_road)", "`id`", "'New'"],
    ),
    "event without demand": (
        lambda s: s.add_demand(at={"zone": "A"}, trips=100, arrive="07:00-09:00"),
        ["operation 1 (add_demand)", "there are none", "gravity"],
    ),
    "scaled without demand": (lambda s: s.scale_demand(factor=2), ["operation 1 (scale_demand)"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ROADS)
def test_what_cannot_be_is_an_error(case: str) -> None:
    """Protects every message: which operation, which field, which value, what is allowed."""
    make, words = BAD_ROADS[case]
    text = found(make)
    missing = [word for word in words if word not in text]
    assert not missing, text


BAD_DEMAND: dict[str, tuple[Make, list[str]]] = {
    "unknown zone": (
        lambda s: s.add_demand(at={"zone": "a"}, trips=9, arrive="07:00-09:00"),
        ["`at.zone`", "no zone 'a'", "'A'"],
    ),
    "unknown junction": (
        lambda s: s.add_demand(at={"node": "55"}, trips=9, arrive="07:00-09:00"),
        ["`at.node`", "no junction '55'", "'5'"],
    ),
    "far away": (
        lambda s: s.add_demand(at={"lon": 11.0, "lat": 50.0}, trips=9, arrive="07:00-09:00"),
        ["`at`", "km from the nearest zone"],
    ),
    "unknown weights": (
        lambda s: s.add_demand(at={"zone": "A"}, trips=9, arrive="07:00-09:00", origins="home"),
        ["`origins`", "'home'", "'homes'"],
    ),
    "arrival outside of the horizon": (
        lambda s: s.add_demand(at={"zone": "A"}, trips=9, arrive={"days": ["sun"]}),
        ["`arrive`", "covers no step"],
    ),
    "unknown zones": (
        lambda s: s.scale_demand(factor=2, from_zone=["A", "D"], to_zone="E"),
        ["`from_zone`", "'D'", "`to_zone`", "'E'"],
    ),
    "scaled twice": (
        lambda s: s.scale_demand(factor=2, from_zone="A").scale_demand(factor=3, to_zone="B"),
        ["operation 2 (scale_demand)", "operation 1 (scale_demand)", "1 pairs"],
    ),
    "unknown weather": (
        lambda s: s.set_weather(feature="rian", value=3.0), ["`feature`", "'rian'", "'rain'"],
    ),
    "weather twice": (
        lambda s: s.set_weather(feature="rain", value=3.0).set_weather(feature="rain", value=1.0),
        ["operation 2 (set_weather)", "operation 1 (set_weather)"],
    ),
    "cut off": (
        lambda s: s.close(name="South Street"),
        ["operation 1 (close)", "cuts off 480 trips between 2 pairs", "zones B, A, C",
         "A to B (240), C to B (240)", "allow_disconnect"],
    ),
    "cut off for hours": (
        lambda s: s.close(edges=[EAST], daily="07:00-09:00").set_speed(edges=[10], kmh=30).close(
            edges=[13], direction="forward", daily="08:00-10:00"),
        ["operation 3 (close)", "trips", "zones"],
    ),
    "cut off by a turn": (
        lambda s: s.ban_turn(from_={"edges": [12]}, to={"edges": [EAST]}).close(edges=[16]),
        ["operation 1 (ban_turn) and operation 2 (close)", "A to C (240)"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_DEMAND)
def test_what_the_demand_does_not_have_is_an_error(case: str) -> None:
    make, words = BAD_DEMAND[case]
    text = found(make, demand=make_demand(), forecast=True)
    missing = [word for word in words if word not in text]
    assert not missing, text


WARNINGS: dict[str, tuple[Make, list[str]]] = {
    "unusually fast": (lambda s: s.set_speed(edges=[14], kmh=70), ["`kmh`", "residential", "50"]),
    "above the limit": (lambda s: s.set_speed(edges=[10], kmh=60), ["above the speed there now"]),
    "as it is": (lambda s: s.set_speed(edges=[10], kmh=50), ["already so", "changes nothing"]),
    "hardly anything": (lambda s: s.set_capacity(edges=[20], vph=20), ["`vph`", "use close"]),
    "closed anyway": (
        lambda s: s.close(edges=[10]).set_speed(edges=[10], kmh=30),
        ["operation 2 (set_speed)", "operation 1 (close) closes at that time"],
    ),
    "turn again": (
        lambda s: s.ban_turn(from_=SOUTH, to={"edges": [20]}), ["operation 1", "already"],
    ),
    "crossing": (
        road(f"LINESTRING ({LON} {LAT}, {LON + STEP * 1.5} {LAT + STEP / 2}, "
             f"{LON + 2 * STEP} {LAT})"),
        ["crosses 1 roads without a junction", "'Mid Road'", "bridge or tunnel"],
    ),
    "there already": (
        road(f"LINESTRING ({LON} {LAT}, {LON + STEP} {LAT})"), ["already a road along it"],
    ),
    "new class": (road(ACROSS, road_class="secundary"), ["`road_class`", "'secondary'"]),
    "lonely": (lambda s: s.close(edges=[12]), ["cuts off 1 segments", "East Road"]),
    "sensor": (lambda s: s.close(edges=[20]), ["carry sensors: 20", "masked"]),
    "not built yet": (
        lambda s: s.add_road(id="X", geometry=ACROSS, kmh=50, from_="2026-11-23 12:00").close(
            name="X", to="2026-11-23 10:00"),
        ["operation 2 (close)", "operation 1 (add_road) opens at other times only"],
    ),
    "between the steps": (
        lambda s: s.close(edges=[20], daily="07:10-09:00"), ["widened outwards"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WARNINGS)
def test_what_is_odd_is_a_warning(case: str) -> None:
    make, words = WARNINGS[case]
    roads = make_town().replace(provenance={"restrictions": [[10, 20]]})
    scenario = make(Scenario("test", timezone="UTC"))
    _, report = check(scenario, roads, time=TIME, forecast=make_forecast())
    text = "\n".join(str(each) for each in report.warnings)
    assert not [word for word in words if word not in text], text


ODD_DEMAND: dict[str, tuple[Make, list[str]]] = {
    "too many": (
        lambda s: s.add_demand(at={"zone": "C"}, trips=90_000, arrive="07:00-09:00"),
        ["`trips`", "90,000", "1,440", "45,000 cars an hour", "1,200"],
    ),
    "swapped": (
        lambda s: s.add_demand(
            at={"node": "5"}, trips=9, arrive="20:00-21:00", leave="07:00-09:00"),
        ["`leave`", "swapped"],
    ),
    "factor 1": (lambda s: s.scale_demand(factor=1), ["`factor`", "changes nothing"]),
    "no trips": (
        lambda s: s.scale_demand(factor=2, from_zone="A", to_zone="A"), ["no trips between"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD_DEMAND)
def test_odd_demand_is_a_warning(case: str) -> None:
    make, words = ODD_DEMAND[case]
    text = found(make, "warning", demand=make_demand())
    assert not [word for word in words if word not in text], text


def test_a_closure_without_traffic_has_no_effect() -> None:
    scenario = Scenario("test", timezone="UTC").close(edges=[14])
    _, report = check(scenario, make_town(), time=TIME, forecast=make_forecast(0.0))
    assert "no effect expected" in str(report)
    _, report = check(scenario, make_town(), time=TIME, forecast=make_forecast(10.0))
    assert "no effect expected" not in str(report)


def test_cut_off_trips_may_be_left_out() -> None:
    """Protects --allow-disconnect: a warning with the same trips."""
    edited, report = check(
        Scenario("test", timezone="UTC").close(name="South Street"),
        make_town(),
        time=TIME,
        demand=make_demand(),
        allow_disconnect=True,
    )
    assert edited is not None
    assert "480 trips" in str(report.warnings[0])


def test_no_zone_is_cut_off_where_there_is_another_way() -> None:
    """Protects closures that everybody can drive round."""
    assert not found(lambda s: s.close(edges=[10]), demand=make_demand())


def test_horizon_must_be_in_the_forecast() -> None:
    forecast = make_forecast(time=TIME[:12])
    scenario = Scenario("test", timezone="UTC").close(edges=[10])
    edited, report = check(scenario, make_town(), time=TIME, forecast=forecast)
    assert edited is None
    assert "12 of 24 steps are not in the forecast" in str(report)


def test_forecast_of_other_roads_is_told() -> None:
    forecast = make_forecast()
    forecast = forecast.replace(nodes=forecast.nodes.set_index(forecast.node_ids + 500))
    scenario = Scenario("test", timezone="UTC").close(edges=[10])
    _, report = check(scenario, make_town(), time=TIME, forecast=forecast)
    assert "2 segments have no forecast: 10, 11" in str(report)


def test_everything_is_found_at_once_and_in_order() -> None:
    """Protects people who fix a script once and not ten times."""
    scenario = (
        Scenario("test", timezone="UTC")
        .close(edges=[99])
        .set_speed(name="Sout Street", kmh=30)
        .add_road(id="X", geometry="LINESTRING (50 10, 50.001 10)", kmh=30)
        .scale_demand(factor=2)
        .set_weather(feature="snow", value=1.0)
    )
    edited, report = check(scenario, make_town(), time=TIME, forecast=make_forecast())
    assert edited is None
    numbers = [int(each.where.split()[1]) for each in report.errors]
    assert numbers == [1, 2, 3, 3, 4, 5]


def test_large_targets_can_be_forced() -> None:
    scenario = Scenario("test", timezone="UTC").set_speed(where="lanes >= 1", kmh=30)
    edited, report = check(scenario, make_town(), time=TIME, force=True)
    assert edited is not None, str(report)
    assert (edited.periods[0].speed_kmh == 30).all()


@pytest.mark.parametrize(
    ("roads", "words"),
    [
        (make_town().select_nodes([1]), "has no segments"),
        (
            make_town().replace(nodes=make_town().nodes.assign(kind="segment")),
            "segments as nodes",
        ),
        ("roads.gpkg", "is a str"),
    ],
)
def test_networks_that_cannot_be_edited(roads: object, words: str) -> None:
    edited, report = check(Scenario("test"), roads, time=TIME)  # type: ignore[arg-type]
    assert edited is None
    assert words in str(report)


def test_no_steps() -> None:
    edited, report = check(Scenario("test"), make_town(), time=TIME[:0])
    assert edited is None
    assert "`time`" in str(report)


def test_local_planes_have_no_degrees() -> None:
    """Protects networks in units of a plane that is nowhere on Earth."""
    town = make_town()
    assert isinstance(town.edges, gpd.GeoDataFrame)
    local = town.replace(
        nodes=town.nodes.set_crs(LOCAL_METRES, allow_override=True),
        edges=town.edges.set_crs(LOCAL_METRES, allow_override=True),
    )
    scenario = (
        Scenario("test", timezone="UTC")
        .close(near=(LON, LAT))
        .close(polygon="POLYGON ((0 0, 1 0, 1 1, 0 0))")
        .add_road(id="X", geometry=ACROSS, kmh=50)
    )
    _, report = check(scenario, local, time=TIME)
    assert [each.what for each in report.errors] == ["the roads have no place on Earth"] * 3


def test_polygon_files(tmp_path: Path) -> None:
    """Protects layers with and without polygons or CRS."""
    box = shapely.box(LON - 0.001, LAT - 0.001, LON + STEP * 0.6, LAT + 0.001)
    frame = gpd.GeoDataFrame(geometry=[box], crs=4326)
    frame.to_crs(25832).to_file(tmp_path / "area.gpkg")
    gpd.GeoDataFrame(geometry=[box.centroid], crs=4326).to_file(tmp_path / "points.gpkg")
    frame.to_file(tmp_path / "nowhere.shp")
    (tmp_path / "nowhere.prj").unlink()
    (tmp_path / "text.geojson").write_text("no json")
    told = {
        name: found(lambda s, name=name: s.close(polygon=tmp_path / name))  # type: ignore[misc]
        for name in ("area.gpkg", "points.gpkg", "nowhere.shp", "text.geojson")
    }
    assert told["area.gpkg"] == ""
    assert "has no polygons" in told["points.gpkg"]
    assert "names no CRS" in told["nowhere.shp"]
    assert "cannot be read" in told["text.geojson"]


@pytest.mark.data
def test_closures_of_simcity_cut_off_nobody(data_dir: Path) -> None:
    """Protects the proof: its closures can be driven round, with all 156 zones."""
    roads = registry.load("connectors", "road_lines")(
        str(data_dir / "simcity" / "city.gpkg"), layer="links", id_column="link_id",
        from_column="u", to_column="v", nodes="junctions",
    )  # fmt: skip
    n = roads.n_nodes
    zones = roads.nodes[["geometry"]]
    demand = Demand(
        zones, np.arange(n), np.ones((1, n, n)) - np.eye(n), np.zeros((7, 24), np.int64)
    )
    for links in ([377, 380], [365, 368], [141, 144]):
        scenario = Scenario("closure", timezone="UTC").close(edges=links, daily="07:00-19:00")
        edited, report = check(scenario, roads, time=make_time(minutes=5), demand=demand)
        assert edited is not None, str(report)
        assert not report.errors
    # all bridges: the river divides the city
    scenario = Scenario("flood", timezone="UTC").close(road_class="bridge")
    edited, report = check(scenario, roads, time=make_time(minutes=5), demand=demand)
    assert edited is None
    assert "cuts off" in str(report.errors[0])


def test_findings_can_be_raised() -> None:
    """Protects the way to an error for those who want one."""
    _, report = check(Scenario("test").close(edges=[99]), make_town(), time=pd.DatetimeIndex(TIME))
    assert isinstance(report, Report)
    with pytest.raises(ConfigError, match="99"):
        report.raise_errors(ConfigError, title="scenario")


def test_pairs_to_be_shown_are_zones() -> None:
    demand = make_demand()
    zone = str(demand.zones.index[0])
    scenario = Scenario("a", outputs={"od_pairs": [(zone, "Nowhere")]}).close(**SOUTH)
    _, report = check(scenario, make_town(), time=TIME, demand=demand, allow_disconnect=True)
    told = [finding for finding in report.errors if finding.where == "`outputs.od_pairs`"]
    assert [finding.what for finding in told] == ["no zone 'Nowhere'"]


def test_areas_begin_at_zones_of_the_demand() -> None:
    """Nearest names; and without any demand there are no zones to begin at."""
    demand = make_demand()
    zone = str(demand.zones.index[0])
    asked = {"isochrones": {"from": [zone, f"{zone}x"]}}
    scenario = Scenario("a", outputs=asked).close(**SOUTH)
    _, report = check(scenario, make_town(), time=TIME, demand=demand, allow_disconnect=True)
    told = [one for one in report.errors if one.where == "`outputs.isochrones`"]
    assert [one.what for one in told] == [f"no zone '{zone}x'"]
    assert zone in told[0].todo
    _, report = check(scenario, make_town(), time=TIME)
    assert [one.what for one in report.errors] == ["needs zones, and there are none"]
    promised = Scenario(**{**dict(scenario), "demand": {"gravity": {"weights": ["home"]}}})
    _, report = check(promised, make_town(), time=TIME)
    assert not report.errors
