"""GPS points to speeds of segments: matching on roads with known truth, and the aggregation."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from made_drives import make_drives
from stgraph_connectors._hmm import MatchOptions, make_network, match_points
from stgraph_connectors._travel import follow_routes
from stgraph_connectors.trajectories import read_trajectories

from stgraph.configfile import read_config
from stgraph.errors import DataError
from stgraph.graph import STGraph
from stgraph.pipeline import load_graph

UTM = 32633
ORIGIN = np.array([500_000.0, 5_800_000.0])  # on the central meridian of the zone


def make_roads(*lines: Any, turns: Any) -> STGraph:
    """Segments 10, 11, ... in metres from the origin, and the turns between their positions."""
    shapes = [shapely.LineString(np.array(line, dtype=float) + ORIGIN) for line in lines]
    nodes = gpd.GeoDataFrame(
        {"kind": "segment"}, index=10 + np.arange(len(lines)), geometry=shapes, crs=UTM
    )
    return STGraph(nodes=nodes, edge_index=np.array(turns, dtype=np.int64).reshape(-1, 2).T)


def make_points(rows: Any, *, start: str = "2024-05-06 08:00") -> pd.DataFrame:
    """Points (trip, second, x, y) in metres from the origin."""
    frame = pd.DataFrame(rows, columns=["trip_id", "second", "x", "y"])
    project = pyproj.Transformer.from_crs(UTM, 4326, always_xy=True)
    lon, lat = project.transform(frame["x"] + ORIGIN[0], frame["y"] + ORIGIN[1])
    time = pd.Timestamp(start, tz="UTC") + pd.to_timedelta(frame["second"], unit="s")
    return pd.DataFrame({"trip_id": frame["trip_id"], "time": time, "lat": lat, "lon": lon})


@pytest.fixture
def street() -> STGraph:
    """East for 400 m in two segments and back west in two; a side street north in the middle."""
    return make_roads(
        [(0, 0), (200, 0)], [(200, 0), (400, 0)],
        [(400, 0), (200, 0)], [(200, 0), (0, 0)],
        [(200, 0), (200, 300)],
        turns=[(0, 1), (2, 3), (0, 4), (2, 4)],
    )  # fmt: skip


def test_speed_is_metres_over_seconds(street: STGraph) -> None:
    """36 km/h on the first segment and 18 on the second, counted once each."""
    drive = [("a", 0, 0, 2), ("a", 10, 100, -2), ("a", 20, 200, 2), ("a", 40, 300, 0),
             ("a", 60, 400, 0)]  # fmt: skip
    graph = read_trajectories(make_points(drive), street)
    assert graph.feature_names == ("speed", "count")
    assert [(f.unit, f.role) for f in graph.features] == [("km/h", "target"), ("1", "observed")]
    assert list(graph.node_ids) == [10, 11, 12, 13, 14]
    np.testing.assert_allclose(graph.values[0, :, 0], [36, 18, np.nan, np.nan, np.nan], rtol=0.01)
    assert graph.values[0, :, 1].tolist() == [1, 1, 0, 0, 0]
    assert graph.time[0] == pd.Timestamp("2024-05-06 08:00", tz="UTC")
    assert graph.n_edges == street.n_edges


def test_the_mean_is_over_the_space(street: STGraph) -> None:
    """200 m in 10 s and 200 m in 40 s are 28.8 km/h together, not the 45 of a mean of speeds."""
    rows = [("fast", 0, 0, 0), ("fast", 10, 200, 0), ("slow", 0, 0, 0), ("slow", 20, 100, 0),
            ("slow", 40, 200, 0)]  # fmt: skip
    graph = read_trajectories(make_points(rows), street)
    assert graph.values[0, 0, 0] == pytest.approx(3.6 * 400 / 50, rel=0.01)
    assert graph.values[0, 0, 1] == 2


def test_direction_decides_between_the_ways_of_a_street(street: STGraph) -> None:
    """Eastward and westward drives lie on the same line and on other segments."""
    east = [("e", 10 * i, 50 * i, 0) for i in range(9)]
    west = [("w", 10 * i, 400 - 50 * i, 0) for i in range(9)]
    graph = read_trajectories(make_points(east + west), street)
    assert graph.values[0, :, 1].tolist() == [1, 1, 1, 1, 0]


def test_the_route_between_far_points_is_found(street: STGraph) -> None:
    """Two points only, round the corner: both segments get their metres."""
    graph = read_trajectories(make_points([("a", 0, 20, 0), ("a", 48, 200, 300)]), street)
    np.testing.assert_allclose(graph.values[0, [0, 4], 0], [36, 36], rtol=0.01)
    assert graph.values[0, :, 1].tolist() == [1, 0, 0, 0, 1]


def test_opposite_carriageways_and_a_parallel_street() -> None:
    """15 m apart and 10 m of noise: the heading and the whole drive decide, not the nearest."""
    xs = list(range(0, 2001, 100))
    lines: list[Any] = []
    for y, way in ((0, 1), (15, -1), (40, 1)):  # east, west, and a street eastward beside them
        ends = xs[::way]
        lines += [[(a, y), (b, y)] for a, b in itertools.pairwise(ends)]
    turns = [(i, i + 1) for row in range(3) for i in range(20 * row, 20 * row + 19)]
    roads = make_roads(*lines, turns=turns)
    rng = np.random.default_rng(0)
    right = total = 0
    for trip in range(30):
        row = trip % 3
        x = np.arange(50, 1950, 60.0)
        x = x[::-1] if row == 1 else x
        xy = np.column_stack([x, np.full(len(x), (0, 15, 40)[row])])
        noisy = xy + rng.normal(0, 10, xy.shape) + ORIGIN
        network = make_network(np.asarray(roads.nodes.geometry), roads.edge_index)
        matched = match_points(
            network, noisy, 5.0 * np.arange(len(x)), np.zeros(len(x), np.int64), MatchOptions()
        )
        right += int((matched.segment // 20 == row).sum())
        total += len(x)
    assert right / total > 0.99


def test_a_forbidden_turn_is_no_way() -> None:
    """The same points, with and without the turn: the drive breaks where there is no route."""
    lines = [(0, 0), (200, 0)], [(200, 0), (200, 300)]
    rows = make_points([("a", 10 * i, min(50 * i, 200), max(0, 50 * i - 200)) for i in range(9)])
    whole = read_trajectories(rows, make_roads(*lines, turns=[(0, 1)]))
    assert whole.provenance["coverage"]["breaks"] == 0
    # a turn elsewhere keeps the network one with turns
    apart = read_trajectories(rows, make_roads(*lines, [(900, 0), (950, 0)], turns=[(1, 2)]))
    assert apart.provenance["coverage"]["breaks"] == 1
    assert "1 times no route leads from one point to the next" in str(apart.report)


def test_steps_counts_and_what_is_missing(street: STGraph) -> None:
    """A drive over the border of a step is in both; 0 drives are 0, no speed is missing."""
    rows = [("a", s, 40 * i, 0) for i, s in enumerate(range(840, 960, 20))]
    rows += [("b", s, 40 * i, 0) for i, s in enumerate(range(2000, 2100, 20))]
    graph = read_trajectories(make_points(rows), street)
    assert graph.n_steps == 3
    assert graph.values[:, 0, 1].tolist() == [1, 1, 1]
    assert graph.values[:, 1, 1].tolist() == [0, 0, 0]
    assert not graph.mask[:, 1, 0].any()
    assert graph.mask[:, :, 1].all()


def test_a_queue_is_slow_and_not_missing(street: STGraph) -> None:
    """Ten minutes on the spot: 0 km/h and nearly so, by positions that jump about."""
    rng = np.random.default_rng(1)
    rows = [("a", 10 * i, 100 + rng.normal(0, 3), rng.normal(0, 3)) for i in range(60)]
    rows += [("a", 600 + 10 * i, 100 + 50 * i, 0) for i in range(3)]
    graph = read_trajectories(make_points(rows), street)
    assert graph.values[0, 0, 0] < 3


def test_messy_points(street: STGraph, tmp_path: Path) -> None:
    """Rows in any order, repeats, no position, far away: told, and the rest is used."""
    frame = make_points([("a", 10 * i, 50 * i, 0) for i in range(9)])
    good = read_trajectories(frame, street)
    parts = [frame, frame.iloc[[3]], frame.iloc[[2]].assign(lat=np.nan)]
    parts += [frame.iloc[[4]].assign(trip_id=None), make_points([("z", 0, 9000, 0)])]
    worse = pd.concat(parts).sample(frac=1, random_state=0)
    worse.to_csv(tmp_path / "points.csv", index=False)
    graph = read_trajectories(tmp_path / "points.csv", street)
    np.testing.assert_allclose(graph.values, good.values, rtol=1e-5)
    text = str(graph.report)
    for words in ("1 points have no position", "1 points have no trip",
                  "1 points repeat an instant of their trip", "1 of 10 points are near no segment",
                  "40.0% of the segments"):  # fmt: skip
        assert words in text
    coverage = graph.provenance["coverage"]
    assert (coverage["points"], coverage["points_unmatched"], coverage["trips"]) == (10, 1, 2)


def test_layers_bounds_and_zones(street: STGraph, tmp_path: Path) -> None:
    """A GeoPackage in any CRS; start and stop are wall clock; steps count from local midnight."""
    frame = make_points([("a", 10 * i, 50 * i, 0) for i in range(9)])
    shapes = gpd.points_from_xy(frame.pop("lon"), frame.pop("lat"), crs=4326).to_crs(UTM)
    gpd.GeoDataFrame(frame, geometry=shapes).to_file(tmp_path / "p.gpkg", layer="points")
    graph = read_trajectories(
        tmp_path / "p.gpkg", street, zone="Asia/Kolkata", step_minutes=60,
        start="2024-05-06 13:30:20", stop="2024-05-06 13:31:00",
    )  # fmt: skip
    assert graph.time[0] == pd.Timestamp("2024-05-06 13:00", tz="Asia/Kolkata")
    assert graph.provenance["coverage"]["points"] == 4


GOOD = [("a", 10 * i, 50 * i, 0) for i in range(5)]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f.drop(columns="trip_id"), {}, "known name for `trip_column`"),
        (lambda f: f.drop(columns="time"), {}, "known name for `time_column`"),
        (lambda f: f.drop(columns="lat"), {}, "known name for `lat_column`"),
        (lambda f: f, {"lat_column": "latt"}, r"no column 'latt' \(did you mean 'lat'\?\)"),
        (lambda f: f.rename(columns={"lat": "lon", "lon": "lat"}).assign(lat=f["lat"] + 60), {},
         r"latitude 112.* is outside of the globe, latitude and longitude look swapped \(5 point"),
        (lambda f: f.assign(lat=f["lat"] * 1000), {}, r"outside of the globe \(5 .*of WGS 84"),
        (lambda f: f.rename(columns={"lat": "lon", "lon": "lat"}), {},
         "50 m of a segment: latitude and longitude look swapped; swap the two columns"),
        (lambda f: f.assign(lat=0.0, lon=0.0), {}, "no point is left"),
        (lambda f: f.assign(lat=-f["lat"]), {}, "none of 5 points is within 50 m of a segment"),
        (lambda f: f.assign(trip_id=range(5)), {}, "every trip has one point only"),
        (lambda f: f.assign(time="noon"), {}, "'noon' cannot be read as a time"),
        (lambda f: f.iloc[:0], {}, "the table has no rows"),
        (lambda f: f, {"start": "2025-01-01"}, "no point is left"),
        (lambda f: f, {"start": "early"}, "`start`: 'early' cannot be read as a time"),
        (lambda f: f, {"step_minutes": 0}, "`step_minutes`: is 0; give a number above 0"),
        (lambda f: f, {"sigma_m": -1, "max_gap_s": float("inf")}, "2 problem"),
        (lambda f: f, {"zone": "Mars"}, "unknown time zone 'Mars'"),
    ],
)  # fmt: skip
def test_points_that_cannot_be_used(
    street: STGraph, change: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_trajectories(change(make_points(GOOD)), street, **options)


def test_roads_that_cannot_be_used(points: Any, tmp_path: Path) -> None:
    """Junctions, segments without turns, no file."""
    with pytest.raises(DataError, match=r"nodes that are \['Point'\], not LineStrings"):
        read_trajectories(make_points(GOOD), STGraph(nodes=points))
    roads = make_roads([(0, 0), (9, 0)], [(9, 0), (20, 0)], turns=[])
    with pytest.raises(DataError, match="has no turns between its segments"):
        read_trajectories(make_points(GOOD), roads)
    with pytest.raises(DataError, match="no such file"):
        read_trajectories(make_points(GOOD), tmp_path / "roads.graphml")
    with pytest.raises(DataError, match="no such file"):
        read_trajectories(tmp_path / "points.csv", make_roads([(0, 0), (9, 0)], turns=[]))


# ---------------------------------------------------------------- real networks


@pytest.mark.data
@pytest.mark.parametrize("city", ["monaco", "helsinki", "krems"])
@pytest.mark.parametrize(
    ("every_s", "points_right", "route_right"), [(5, 0.88, 0.97), (15, 0.84, 0.97), (30, 0.8, 0.9)]
)
def test_made_drives_on_real_streets(
    city: str, every_s: float, points_right: float, route_right: float, data_dir: Path
) -> None:
    """10 m of noise: the routes are right nearly to the metre, points up to the next crossing."""
    from stgraph_connectors.roads.graphml import read_graphml

    roads = read_graphml(data_dir / f"osm-small/{city}_drive.graphml")
    table, driven = make_drives(roads, 25, seed=3, sigma_m=10, every_s=every_s)
    plane = roads.nodes.estimate_utm_crs()
    network = make_network(np.asarray(roads.nodes.geometry.to_crs(plane)), roads.edge_index)
    project = pyproj.Transformer.from_crs(4326, plane, always_xy=True)
    xy = np.column_stack(project.transform(table["lon"], table["lat"]))
    seconds = (table["time"] - table["time"].min()).dt.total_seconds().to_numpy()
    trip, names = pd.factorize(table["trip_id"])
    matched = match_points(network, xy, seconds, trip, MatchOptions())
    assert (roads.node_ids[matched.segment] == table["truth"]).mean() > points_right
    travel = follow_routes(network, matched, seconds, trip)
    found = pd.DataFrame({"trip_id": names[travel.drive], "metres": travel.metres,
                          "segment": roads.node_ids[travel.segment]})  # fmt: skip
    keys = ["trip_id", "segment"]
    given, wanted = (f.groupby(keys)["metres"].sum() for f in (found, driven))
    common = np.minimum(wanted.reindex(given.index, fill_value=0), given).sum()
    assert common / given.sum() > route_right  # of what was found
    assert common / wanted.sum() > route_right  # of what was driven


@pytest.mark.data
def test_a_job_on_trajectories(data_dir: Path, tmp_path: Path) -> None:
    """Points and a road file in a config."""
    from stgraph_connectors.roads.graphml import read_graphml

    roads = data_dir / "osm-small/monaco_drive.graphml"
    table, _ = make_drives(read_graphml(roads), 10, seed=0, sigma_m=5, every_s=10)
    table.drop(columns="truth").to_parquet(tmp_path / "gps.parquet")
    (tmp_path / "job.toml").write_text(
        f'[data]\nconnector = "trajectories"\npoints = "gps.parquet"\nroads = "{roads}"\n'
        'step_minutes = 5\n[graph]\nmethod = "given"\n'
        "[windows]\nwindow = 1\nhorizon = 1\nfractions = [0.6, 0.2, 0.2]\n"
    )
    graph = load_graph(read_config(tmp_path / "job.toml"))
    assert graph.n_nodes == 666
    assert graph.provenance["coverage"]["points_unmatched"] == 0
    assert 20 < np.nanmedian(graph.values[:, :, 0]) < 60
