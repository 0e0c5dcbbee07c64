"""Stations onto the directed segments they measure, and what is said about those in doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph import STGraph, build_line_graph
from stgraph.errors import GraphError
from stgraph.neighbours import snap_stations

EAST, NORTH = 500_000.0, 5_400_000.0  # the origin of the little networks, in UTM zone 32N


def make_roads(*lines: list[tuple[float, float]], **columns: Any) -> STGraph:
    """Return roads of lines given in metres from the origin, numbered 10, 20, 30, ..."""
    shapes = [shapely.LineString([(EAST + x, NORTH + y) for x, y in line]) for line in lines]
    ends = [point for shape in shapes for point in (shape.coords[0], shape.coords[-1])]
    corners = list(dict.fromkeys(ends))
    index = np.array([corners.index(point) for point in ends]).reshape(-1, 2).T
    table = {"segment_id": 10 * np.arange(1, len(lines) + 1), **columns}
    return STGraph(
        nodes=gpd.GeoDataFrame(geometry=shapely.points(corners), crs=32632),
        edge_index=index,
        edges=gpd.GeoDataFrame(table, geometry=shapes, crs=32632),
    )


def make_stations(*places: tuple[float, float], **columns: Any) -> gpd.GeoDataFrame:
    """Return stations a, b, c, ... at metres from the origin."""
    points = [shapely.Point(EAST + x, NORTH + y) for x, y in places]
    ids = [chr(ord("a") + i) for i in range(len(places))]
    return gpd.GeoDataFrame(columns, index=ids, geometry=points, crs=32632)


EASTWARD, WESTWARD = [(0.0, 0.0), (1000.0, 0.0)], [(1000.0, 0.0), (0.0, 0.0)]
NORTHWARD = [(500.0, -500.0), (500.0, 500.0)]
ONE_WAY = make_roads(EASTWARD)
TWO_WAY = make_roads(EASTWARD, WESTWARD)
# right-hand traffic: eastbound in the south, westbound 14 m to the north
MOTORWAY = make_roads(EASTWARD, [(1000.0, 14.0), (0.0, 14.0)])


# ---------------------------------------------------------------- where they lie


def test_by_hand() -> None:
    """Segment, distance, metres from its start, and the side seen in driving direction."""
    snapping = snap_stations(make_stations((300, -4), (700, 6), (900, 0)), ONE_WAY)
    table = snapping.stations
    assert list(table.index) == ["a", "b", "c"]
    assert table["segment_id"].tolist() == [10, 10, 10]
    assert table["distance_m"].tolist() == pytest.approx([4, 6, 0])
    assert table["offset_m"].tolist() == pytest.approx([300, 700, 900])
    assert table["side"].tolist() == ["right", "left", "on"]
    assert table["status"].tolist() == ["snapped"] * 3
    assert table["direction"].tolist() == ["one-way"] * 3
    assert table["heading_difference_deg"].isna().all()
    assert not snapping.report.warnings


def test_offset_agrees_with_the_length_of_the_segment() -> None:
    """A segment that says it is 1,010 m long has its middle at 505 m."""
    roads = make_roads(EASTWARD, length_m=[1010.0])
    table = snap_stations(make_stations((500, 3)), roads).stations
    assert table["offset_m"].tolist() == pytest.approx([505])


def test_segments_as_nodes_are_the_same_roads() -> None:
    stations = make_stations((300, -4), (500, 200))
    roads = make_roads(EASTWARD, NORTHWARD)
    one = snap_stations(stations, roads)
    other = snap_stations(stations, build_line_graph(roads))
    pd.testing.assert_frame_equal(pd.DataFrame(one.stations), pd.DataFrame(other.stations))


def test_degrees_are_measured_in_the_local_utm_zone() -> None:
    """Protects against distances in degrees, and says what was done."""
    stations, roads = make_stations((300, -4)).to_crs(4326), ONE_WAY
    there = roads.replace(nodes=roads.nodes.to_crs(4326), edges=roads.edges.to_crs(4326))  # type: ignore[union-attr, call-arg]
    snapping = snap_stations(stations, there)
    assert snapping.stations["distance_m"].tolist() == pytest.approx([4], abs=0.01)
    assert snapping.stations["offset_m"].tolist() == pytest.approx([300], rel=5e-3)  # on a sphere
    assert snapping.stations.crs == snapping.candidates.crs == 4326
    assert "were measured in WGS 84 / UTM zone 32N" in str(snapping.report)
    mixed = snap_stations(stations, roads).stations  # another CRS than that of the roads
    assert mixed["distance_m"].tolist() == pytest.approx([4], abs=0.01)


@pytest.mark.data
def test_sensors_of_pems_bay_are_on_their_highways(data_dir: Path) -> None:
    """Ground truth: 325 sensors on 848 lines; >= 99 % right, median offset error <= 5 m."""
    folder = data_dir / "pems-bay-graph"
    truth = pd.read_csv(folder / "points_on_edges.csv")
    sensors = pd.read_csv(folder / "sensors.csv", index_col="sensor_id")
    points = gpd.points_from_xy(sensors.longitude, sensors.latitude)
    lines = gpd.read_file(folder / "osm_highways.gpkg")
    ends = np.vstack(
        [shapely.get_coordinates(shapely.get_point(lines.geometry.values, at)) for at in (0, -1)]
    )
    junctions, index = np.unique(ends, axis=0, return_inverse=True)
    roads = STGraph(
        nodes=gpd.GeoDataFrame(geometry=shapely.points(junctions), crs=4326),
        edge_index=index.reshape(2, -1),
        edges=lines,
    )
    stations = gpd.GeoDataFrame(index=sensors.index, geometry=points, crs=4326)
    table = snap_stations(stations, roads).stations
    right = table["segment_id"].to_numpy() == truth["E"].to_numpy()
    assert right.mean() >= 0.99  # 1.00
    error = np.abs(table["offset_m"].to_numpy() - truth["length"].to_numpy())[right]
    assert np.median(error) <= 5.0  # 0.53
    assert table["distance_m"].max() < 17
    assert set(table["direction"]) == {"one-way"}


@settings(max_examples=30, deadline=None)
@given(
    offset=st.floats(1, 999), away=st.floats(-40, 40), turn=st.floats(0, 360), east=st.booleans()
)
def test_turning_everything_changes_nothing(
    offset: float, away: float, turn: float, east: bool
) -> None:
    """Property: distance, offset and side do not depend on where north is."""
    line = EASTWARD if east else WESTWARD
    roads, stations = make_roads(line), make_stations((offset, away))
    about = (EAST, NORTH)
    spun = roads.replace(edges=roads.edges.set_geometry(roads.edges.rotate(turn, origin=about)))  # type: ignore[union-attr, operator]
    there = stations.set_geometry(stations.rotate(turn, origin=about))
    columns = ["distance_m", "offset_m"]
    plain = snap_stations(stations, roads).stations
    turned = snap_stations(there, spun).stations
    assert turned[columns].to_numpy() == pytest.approx(plain[columns].to_numpy(), abs=1e-6)
    assert plain["offset_m"].iloc[0] == pytest.approx(offset if east else 1000 - offset)
    if abs(abs(away) - 0.5) > 1e-6:
        assert turned["side"].iloc[0] == plain["side"].iloc[0]


# ---------------------------------------------------------------- which direction


@pytest.mark.parametrize("word", ["W", "west", "Westbound", "WB", " wb ", "270", 270, -90.0, "630"])
def test_heading_chooses_the_direction(word: Any) -> None:
    """The same street, the other way round: offsets count from the other end."""
    stations = make_stations((300, -4), way=[word])
    table = snap_stations(stations, TWO_WAY, heading_column="way").stations
    assert table["segment_id"].tolist() == [20]
    assert table["offset_m"].tolist() == pytest.approx([700])
    assert table["heading_difference_deg"].tolist() == pytest.approx([0], abs=1e-6)
    assert table["direction"].tolist() == ["heading"]


@pytest.mark.parametrize(("word", "degrees"), [("north-east", 45), ("SSW", 202.5), ("nwb", 315)])
def test_compass_words(word: str, degrees: float) -> None:
    stations = make_stations((0, 3), way=[word])
    table = snap_stations(
        stations, make_roads([(0, 0), (0, 9)]), heading_column="way", max_heading_deg=180
    ).stations
    expected = min(degrees, 360 - degrees)
    assert table["heading_difference_deg"].tolist() == pytest.approx([expected])


def test_heading_beats_distance_between_carriageways() -> None:
    """A sensor mapped into the median is not put onto the opposite carriageway."""
    stations = make_stations((300, 5), (300, 5), (300, 5), way=["W", "E", None])
    snapping = snap_stations(stations, MOTORWAY, heading_column="way")
    assert snapping.stations["segment_id"].tolist() == [20, 10, 10]
    assert snapping.stations["status"].tolist() == ["snapped", "snapped", "ambiguous"]
    assert "1 stations have no heading" in str(snapping.report)


@pytest.mark.parametrize(("side", "segments"), [("right", [10, 20]), ("left", [20, 10])])
def test_rule_of_the_road_chooses_the_direction(side: Any, segments: list[int]) -> None:
    """Where traffic keeps right, a station south of a street measures those who go east."""
    table = snap_stations(make_stations((300, -4), (300, 4)), TWO_WAY, side=side).stations
    assert table["segment_id"].tolist() == segments
    assert table["direction"].tolist() == ["side", "side"]
    assert table["other_segment_id"].isna().all()


def test_open_direction_is_counted_not_listed() -> None:
    """Without heading or side the lower id is taken, the other one noted, one finding for all."""
    snapping = snap_stations(make_stations((300, -4), (600, 4)), TWO_WAY)
    assert snapping.stations["segment_id"].tolist() == [10, 10]
    assert snapping.stations["other_segment_id"].tolist() == [20, 20]
    assert snapping.stations["direction"].tolist() == ["unknown", "unknown"]
    assert snapping.stations["status"].tolist() == ["snapped", "snapped"]
    assert "2 lie on two-way streets and nothing tells the direction" in str(snapping.report)
    assert len(snapping.report.warnings) == 1
    on_the_line = snap_stations(make_stations((300, 0.1)), TWO_WAY, side="right").stations
    assert on_the_line["direction"].tolist() == ["unknown"]


# ---------------------------------------------------------------- which road


def test_crossing_streets_are_ambiguous() -> None:
    """4 m from one street and 6 m from another: a guess, and both are drawn."""
    roads = make_roads(EASTWARD, NORTHWARD)
    snapping = snap_stations(make_stations((494, 4), (300, 2)), roads)
    assert snapping.stations["segment_id"].tolist() == [10, 10]
    assert snapping.stations["status"].tolist() == ["ambiguous", "snapped"]
    assert snapping.stations["reason"].iloc[0] == "1 more within 5 m of the distance"
    layer = snapping.candidates
    assert layer["station"].tolist() == ["a", "a", "b"]
    assert layer["segment_id"].tolist() == [10, 20, 10]
    assert layer["rank"].tolist() == [1, 2, 1]
    assert layer["why"].tolist() == ["", "2.0 m further away", ""]
    assert layer.length.tolist() == pytest.approx([4, 6, 2])
    assert "1 fit several roads" in str(snapping.report)
    sure = snap_stations(make_stations((494, 4)), roads, ambiguity_m=1).stations
    assert sure["status"].tolist() == ["snapped"]


def test_next_piece_of_the_same_road_is_no_rival() -> None:
    """Protects against calling every station near a split of its road ambiguous."""
    roads = make_roads([(0, 0), (500, 0)], [(500, 0), (1000, 0)])
    table = snap_stations(make_stations((500, 3)), roads).stations
    assert table["status"].tolist() == ["snapped"]
    assert table["segment_id"].tolist() == [10]
    assert table["offset_m"].tolist() == pytest.approx([500])


def test_heading_that_no_road_has_is_ambiguous() -> None:
    stations = make_stations((300, 3), way=["N"])
    table = snap_stations(stations, TWO_WAY, heading_column="way").stations
    assert table["status"].tolist() == ["ambiguous"]
    assert table["reason"].iloc[0] == "no better one within reach: heading differs by 90 degrees"


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("I 280", 20),
        ("i-280", 20),
        (280, 20),
        ("Sinclair Freeway", 20),
        ("US 101", 10),
        ("101", 10),
    ],
)
def test_road_names_choose_the_road(name: Any, segment: int) -> None:
    """A ramp beside the motorway is nearer, but the station says which road it is on."""
    roads = make_roads(
        EASTWARD,
        [(0, 20), (1000, 20)],
        ref=["US 101;CA 85", "I 280"],
        name=[None, "Sinclair Freeway"],
    )
    stations = make_stations((300, 9 if segment == 20 else 11), road=[name])
    table = snap_stations(stations, roads, road_column="road").stations
    assert table["segment_id"].tolist() == [segment]
    assert table["status"].tolist() == ["snapped"]


def test_road_names_that_are_not_there_are_ambiguous() -> None:
    roads = make_roads(EASTWARD, ref=["US 101"])
    stations = make_stations((300, 3), (400, 3), road=["I 880", None])
    table = snap_stations(stations, roads, road_column="road").stations
    assert table["status"].tolist() == ["ambiguous", "snapped"]
    assert table["reason"].iloc[0] == "no better one within reach: another road"


# ---------------------------------------------------------------- bad input


def test_too_far_is_reported_and_not_snapped() -> None:
    snapping = snap_stations(make_stations((300, 3), (300, 80)), ONE_WAY)
    assert snapping.stations["status"].tolist() == ["snapped", "too far"]
    assert snapping.stations["segment_id"].isna().tolist() == [False, True]
    assert snapping.stations["distance_m"].tolist() == pytest.approx([3, 80])
    assert snapping.stations["reason"].iloc[1] == "nearest road at 80 m"
    assert "1 are further than 50 m from every road" in str(snapping.report)
    assert "they are b" in str(snapping.report)
    assert snapping.candidates["station"].tolist() == ["a"]
    assert snap_stations(make_stations((300, 80)), ONE_WAY, max_distance_m=80).stations[
        "status"
    ].tolist() == ["snapped"]


def test_no_place_is_reported_and_not_snapped() -> None:
    stations = make_stations((300, 3), (400, 3))
    stations.loc["b", "geometry"] = None
    snapping = snap_stations(stations, ONE_WAY)
    assert snapping.stations["status"].tolist() == ["snapped", "no place"]
    assert snapping.stations["reason"].tolist() == ["", "no coordinates"]
    assert "1 have no coordinates" in str(snapping.report)


@pytest.mark.parametrize("place", [shapely.Point(), shapely.Point(np.nan, 1.0)])
def test_coordinates_that_are_no_numbers(place: Any) -> None:
    stations = make_stations((300, 3), (400, 3))
    stations.loc["b", "geometry"] = place
    with pytest.raises(GraphError, match=r"empty or not finite geometry at \['b'\]"):
        snap_stations(stations, ONE_WAY)


def test_stations_near_no_road_say_why() -> None:
    """A limit that is too small is raised; other places need other roads."""
    with pytest.raises(GraphError, match=r"the nearest is 90 m away; .* or raise `max_snap_m` \("):
        snap_stations(make_stations((300, 90), (300, 900)), ONE_WAY)
    with pytest.raises(GraphError, match=r"is 1,000 km away; stations and roads do not overlap; "):
        snap_stations(make_stations((300, 1e6)), ONE_WAY)
    with pytest.raises(GraphError) as caught:
        snap_stations(make_stations((300, 5e3)), ONE_WAY)
    assert "give roads of the area where the stations are" in str(caught.value)
    assert "raise" not in str(caught.value)


def test_swapped_coordinates_are_guessed() -> None:
    degrees = make_stations((300, 3), (400, 3)).to_crs(4326)
    swapped = degrees.set_geometry(
        gpd.points_from_xy(degrees.geometry.y, degrees.geometry.x, crs=4326)
    )
    with pytest.raises(GraphError, match=r"no station is within 50 m of a road.*look swapped"):
        snap_stations(swapped, ONE_WAY)


PLAN = 'LOCAL_CS["plan",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'


def test_a_plan_that_is_nowhere_on_earth_is_measured_as_it_is() -> None:
    """Networks of models without a projection: the plane of the stations is that of the roads."""
    stations = make_stations((300, -4)).set_crs(PLAN, allow_override=True)
    edges = ONE_WAY.edges.set_crs(PLAN, allow_override=True)
    roads = ONE_WAY.replace(nodes=ONE_WAY.nodes.set_crs(PLAN, allow_override=True), edges=edges)
    table = snap_stations(stations, roads).stations
    assert table["offset_m"].tolist() == pytest.approx([300])
    assert table["distance_m"].tolist() == pytest.approx([4])
    with pytest.raises(GraphError, match="`roads`: is in plan, which is nowhere on Earth"):
        snap_stations(make_stations((300, -4)), roads)
    with pytest.raises(GraphError, match="`stations`: is in plan, which is nowhere on Earth"):
        snap_stations(stations, ONE_WAY)


def _missing_length() -> STGraph:
    return make_roads(EASTWARD, length_m=[np.nan])


@pytest.mark.parametrize(
    ("stations", "roads", "options", "message"),
    [
        (make_stations((300, 3)), ONE_WAY, {"max_distance_m": 0}, "`max_distance_m`: is 0"),
        (make_stations((300, 3)), ONE_WAY, {"ambiguity_m": -1}, "`ambiguity_m`: is -1"),
        (make_stations((300, 3)), ONE_WAY, {"max_heading_deg": 270}, "`max_heading_deg`: is 270"),
        (make_stations((300, 3)), ONE_WAY, {"max_candidates": 0}, "`max_candidates`: is 0"),
        (
            make_stations((300, 3)),
            ONE_WAY,
            {"side": "rihgt"},
            "`side`: is 'rihgt' .did you mean 'ri",
        ),
        (
            make_stations((300, 3), heading=["N"]),
            ONE_WAY,
            {"heading_column": "headng"},
            "no column 'headng' .did you mean 'heading'",
        ),
        (
            make_stations((300, 3), (400, 3), way=["nrth", "inbound"]),
            ONE_WAY,
            {"heading_column": "way"},
            "column 'way': holds 'inbound'.*, 'nrth' .did you mean 'north'.*in 2 rows",
        ),
        (make_stations((300, 3), way=[np.inf]), ONE_WAY, {"heading_column": "way"}, "infinite"),
        (
            make_stations((300, 3), road=["1"]),
            ONE_WAY,
            {"road_column": "road"},
            "`roads`: has no column `ref` or `name`",
        ),
        (make_stations((300, 3)).set_crs(None, allow_override=True), ONE_WAY, {}, "but no CRS"),
        (make_stations(), ONE_WAY, {}, "`nodes`: is empty"),
        (gpd.GeoDataFrame(geometry=[None], crs=4326), ONE_WAY, {}, "no row with coordinates"),
        (pd.DataFrame({"x": [1]}), ONE_WAY, {}, "`stations`: is a DataFrame"),
        (
            pd.concat([make_stations((300, 3))] * 2),
            ONE_WAY,
            {},
            "ids appear twice|twice|unique",
        ),
        (make_stations((300, 3)), "city.osm", {}, "`roads`: is a str; pass a road graph"),
        (make_stations((300, 3)), ONE_WAY.replace(edges=None), {}, "has no lines as geometry"),
        (
            make_stations((300, 3)),
            make_roads(EASTWARD, WESTWARD, segment_id=[1, 1]),
            {},
            "`segment_id`: holds ids that are no number or appear twice",
        ),
        (
            make_stations((300, 3)),
            make_roads(EASTWARD, length_m=[-5.0]),
            {},
            "`length_m`: is -5.0 at segment 0",
        ),
        (make_stations((300, 3)), _missing_length(), {}, "`length_m`: is nan at segment 0"),
    ],
)
def test_bad_input(stations: Any, roads: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        snap_stations(stations, roads, **options)


def test_all_problems_at_once() -> None:
    with pytest.raises(GraphError, match=r"2 problem\(s\)(.|\n)*`side`(.|\n)*no column 'way'"):
        snap_stations(make_stations((300, 3)), ONE_WAY, heading_column="way", side="up")  # type: ignore[arg-type]


def test_lines_without_geometry() -> None:
    edges = TWO_WAY.edges.copy()  # type: ignore[union-attr]
    edges.loc[1, "geometry"] = None
    with pytest.raises(GraphError, match="has nothing at segment 1, one of 1 that are no LineStr"):
        snap_stations(make_stations((300, 3)), TWO_WAY.replace(edges=edges))
