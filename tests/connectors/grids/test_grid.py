"""Squares, hexagons and polygons over an area, and what is counted in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import h3
import numpy as np
import pandas as pd
import pytest
import shapely
from stgraph_connectors.grids.grid import read_grid
from stgraph_connectors.sinks.geopackage import read_geopackage, write_geopackage

from stgraph.errors import DataError
from stgraph.graph import STGraph
from stgraph.registry import load

BOX = [8.60, 49.35, 8.64, 49.38]  # 2.9 km x 3.3 km of the Rhine plain
PLANE = shapely.box(0, 0, 30, 20)  # 3 x 2 squares of 10 m
PLAN = 'LOCAL_CS["plan",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
ENDLESS = shapely.Polygon([(0, 0), (1, 0), (np.inf, 1), (0, 0)])
ONE = {"time": ["2024-01-01"], "lat": [1.0], "lon": [1.0], "speed": [1]}


def plane(shape: shapely.Geometry = PLANE, *, crs: int | str = 25832) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(geometry=[shape], crs=crs)


def events(*rows: tuple[float, float, str], crs: int | None = 25832) -> dict[str, Any]:
    """Points in the plane as options of `read_grid`."""
    frame = pd.DataFrame(rows, columns=["x", "y", "time"])
    return {"points": frame, "points_crs": crs, "step_minutes": 60}


def squares(**options: Any) -> STGraph:
    return read_grid(plane(), **{"size_m": 10, "grid_crs": 25832, **options})


# ---------------------------------------------------------------- cells


def test_squares_by_hand() -> None:
    """Ids are row and column of the plane; sides and corners make neighbours."""
    graph = squares()
    assert list(graph.node_ids) == ["0_0", "0_1", "0_2", "1_0", "1_1", "1_2"]
    assert graph.nodes.geometry["1_2"].equals(shapely.box(20, 10, 30, 20))
    assert graph.nodes["share_inside"].tolist() == [1] * 6
    assert set(graph.nodes["kind"]) == {"cell"}
    assert graph.n_edges == 2 * (7 + 4)
    assert squares(neighbours="rook").n_edges == 2 * 7
    assert squares(neighbours="none").n_edges == 0
    assert squares(rings=2).n_edges == 6 * 5
    assert (graph.zone, graph.n_steps) == ("UTC", 0)


def test_ids_stay_when_the_boundary_grows() -> None:
    """Squares are anchored at the origin of the plane, not at the corner of the boundary."""
    small = read_grid(plane(shapely.box(1001, 1001, 1099, 1099)), size_m=50, grid_crs=25832)
    large = read_grid(plane(shapely.box(-200, 903, 1510, 1320)), size_m=50, grid_crs=25832)
    assert set(small.node_ids) < set(large.node_ids)
    same = large.nodes.loc[small.node_ids].geometry
    assert same.geom_equals(small.nodes.geometry).all()
    assert {"18_-4", "18_-1"} <= set(large.node_ids)  # below the origin too


def test_local_utm_zone_is_taken_and_told() -> None:
    graph = read_grid(BOX, size_m=500)
    assert graph.nodes.crs == "EPSG:32632"
    assert graph.provenance["grid"] == {"cell": "square", "size_m": 500, "grid_crs": "EPSG:32632"}
    assert "UTM zone 32N" in str(graph.report)
    assert graph.nodes.geometry.area.eq(250_000).all()


def test_share_clip_and_smallest_share() -> None:
    """A triangle over four squares: one whole, two halves, one touched in a corner only."""
    triangle = plane(shapely.Polygon([(0, 0), (20, 0), (0, 20)]))
    options: dict[str, Any] = {"size_m": 10, "grid_crs": 25832}
    graph = read_grid(triangle, **options)
    assert graph.nodes["share_inside"].to_dict() == {"0_0": 1, "0_1": 0.5, "1_0": 0.5}
    assert list(read_grid(triangle, min_share=0.6, **options).node_ids) == ["0_0"]
    cut = read_grid(triangle, clip=True, **options)
    assert cut.nodes.geometry.area.tolist() == [100, 50, 50]
    beyond = events((19, 9, "2024-01-01"), (11, 1, "2024-01-01"))  # in the square, not the triangle
    assert read_grid(triangle, clip=True, **options, **beyond).values.sum() == 1
    assert read_grid(triangle, **options, **beyond).values.sum() == 2


def test_a_thin_boundary_costs_its_own_cells_only() -> None:
    """A diagonal of 400 squares does not look at the 160,000 of its box."""
    path = shapely.LineString([(0, 0), (400_000, 400_000)]).buffer(1)
    graph = read_grid(plane(path), size_m=1000, grid_crs=25832, neighbours="none", max_cells=2000)
    assert 400 <= graph.n_nodes <= 1210
    row, column = graph.nodes["row"], graph.nodes["column"]
    assert (row - column).abs().max() <= 1


def test_hexagons_cover_the_boundary() -> None:
    """Ids are H3 indices; their outlines leave no part of the boundary uncovered."""
    graph = read_grid(BOX, cell="hexagon", resolution=8)
    assert all(h3.get_resolution(cell) == 8 for cell in graph.node_ids)
    covered = shapely.union_all(np.asarray(graph.nodes.geometry))
    assert covered.buffer(1e-9).covers(shapely.box(*BOX))
    middle = h3.latlng_to_cell(49.365, 8.62, 8)
    assert graph.adjacency()[[graph.node_ids.get_loc(middle)]].sum() == 6
    assert graph.nodes["share_inside"][middle] == 1


def test_hexagons_over_the_antimeridian_are_drawn_in_one_piece() -> None:
    """Cells west and east of 180 degrees stand side by side."""
    graph = read_grid([179.5, -17, -179.5, -16.5], cell="hexagon", resolution=5)
    west, _, east, _ = graph.nodes.total_bounds
    assert 179 < west < 179.5
    assert 180.5 < east < 181
    assert graph.provenance["graph"]["n_parts"] == 1
    covered = shapely.union_all(np.asarray(graph.nodes.geometry)).buffer(1e-9)
    assert covered.covers(shapely.box(179.5, -17, 180.5, -16.5))
    at = pd.DataFrame({"time": ["2024-01-01"] * 2, "lat": [-16.7] * 2, "lon": [179.9, -179.9]})
    options: dict[str, Any] = {"cell": "hexagon", "resolution": 5, "points": at, "step_minutes": 60}
    assert read_grid([179.5, -17, -179.5, -16.5], clip=True, **options).values.sum() == 2


def test_hexagons_around_a_pole_and_over_the_globe() -> None:
    """All 842 cells of resolution 1 are valid polygons, the polar ones reach the pole."""
    graph = read_grid([-180, -90, 180, 90], cell="hexagon", resolution=1)
    assert graph.n_nodes == 842
    assert graph.nodes.geometry.is_valid.all()
    pole = graph.nodes.geometry[h3.latlng_to_cell(90, 0, 1)]
    assert pole.bounds[0::2] == (-180, 180)
    assert pole.bounds[3] == 90


def test_polygons_as_they_are(tmp_path: Path) -> None:
    """Ids and attributes of the layer are kept; touching ones are neighbours."""
    layer = gpd.GeoDataFrame(
        {"id": ["A", "B", "C"], "people": [5, 6, 7]},
        geometry=[shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1), shapely.box(1, 1, 2, 2)],
        crs=4326,
    )
    layer.to_file(tmp_path / "zones.gpkg")
    at = pd.DataFrame({"time": ["2024-01-01"] * 3, "lat": [0.5, 0.5, 5], "lon": [0.5, 1, 1]})
    options: dict[str, Any] = {"points": at, "step_minutes": 60}
    graph = read_grid(tmp_path / "zones.gpkg", cell="polygon", **options)
    assert list(graph.node_ids) == ["A", "B", "C"]
    assert graph.nodes["people"].tolist() == [5, 6, 7]
    assert graph.n_edges == 6
    assert read_grid(layer, cell="polygon", neighbours="rook").n_edges == 4
    assert read_grid(layer, cell="polygon", neighbours="rook", rings=2).n_edges == 6
    # a point on the border counts once
    assert graph.values[0, :, 0].tolist() == [2, 0, 0]
    assert "1 of 3 points lie in no cell" in str(graph.report)


@pytest.mark.parametrize(
    "boundary",
    [
        BOX,
        tuple(BOX),
        shapely.box(*BOX),
        shapely.box(*BOX).wkt,
        f"SRID=4326;{shapely.box(*BOX).wkt}",
        "/config/" + shapely.box(*BOX).wkt,  # what a config makes of text
        gpd.GeoSeries([shapely.box(*BOX)], crs=4326),
        gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.box(*BOX)], crs=4326).rename_geometry("g"),
    ],
)
def test_every_form_of_a_boundary(boundary: Any) -> None:
    assert read_grid(boundary, size_m=500).equals(read_grid(BOX, size_m=500))


# ---------------------------------------------------------------- points


def test_counts_by_hand() -> None:
    """Zeros where nothing was counted, from the first step to the last."""
    graph = squares(
        **events(
            (5, 5, "2024-01-01 00:10"), (6, 6, "2024-01-01 00:50"), (25, 15, "2024-01-01 02:00")
        )
    )
    assert graph.values[:, :, 0].tolist() == [[2, 0, 0, 0, 0, 0], [0] * 6, [0, 0, 0, 0, 0, 1]]
    assert graph.mask.all()
    assert graph.feature_names == ("count",)
    assert str(graph.time[0]) == "2024-01-01 00:00:00+00:00"
    assert graph.step == pd.Timedelta(hours=1)


def test_sum_and_mean() -> None:
    """A mean of nothing is missing; an event without a value leaves its sum unknown."""
    frame = pd.DataFrame(
        {
            "x": [5, 6, 15],
            "y": [5, 6, 5],
            "time": ["2024-01-01 00:10", "2024-01-01 00:20", "2024-01-01 01:00"],
            "speed": [30.0, 50.0, np.nan],
        }
    )
    options: dict[str, Any] = {"points": frame, "points_crs": 25832, "step_minutes": 60}
    mean = squares(aggregate="mean", value_columns=["speed"], unit="km/h", **options)
    assert mean.values[0, 0, 0] == 40
    assert mean.mask.sum() == 1
    assert mean.features[0].unit == "km/h"
    total = squares(aggregate="sum", value_columns=["speed"], **options)
    assert total.values[0, :3, 0].tolist() == [80, 0, 0]
    assert not total.mask[1, 1, 0]
    assert total.mask.sum() == 11


def test_span_of_start_and_stop() -> None:
    """Steps before the first event are zeros too if the source is known to begin earlier."""
    at = events((5, 5, "2024-01-01 02:10"), (5, 5, "2024-01-01 09:10"))
    graph = squares(start="2024-01-01", stop="2024-01-01 04:00", **at)
    assert graph.values[:, 0, 0].tolist() == [0, 0, 1, 0]


def test_steps_start_at_local_midnight() -> None:
    """Days of Auckland begin at 11:00 UTC in summer."""
    at = {**events((5, 5, "2024-01-01 13:00"), (5, 5, "2024-01-02 01:00")), "step_minutes": 1440}
    graph = squares(zone="Pacific/Auckland", **at)
    assert str(graph.time[0]) == "2023-12-31 11:00:00+00:00"
    assert graph.values[:, 0, 0].tolist() == [1, 1]


def test_order_of_points_does_not_matter() -> None:
    """Property: shuffled events give the same graph, and nothing is counted twice."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.uniform(0, 48, 500), unit="h"),
            "longitude": rng.uniform(BOX[0], BOX[2], 500),
            "latitude": rng.uniform(BOX[1], BOX[3], 500),
        }
    )
    for options in ({"size_m": 400.0}, {"cell": "hexagon", "resolution": 9}):
        one = read_grid(BOX, points=frame, step_minutes=60, **options)  # type: ignore[arg-type]
        shuffled = frame.sample(frac=1, random_state=1)
        two = read_grid(BOX, points=[shuffled[:100], shuffled[100:]], step_minutes=60, **options)  # type: ignore[arg-type]
        assert one.equals(two)
        assert one.values.sum() == 500


def test_points_from_files(tmp_path: Path) -> None:
    """CSV, GeoPackage and Parquet in another CRS give the same counts."""
    frame = pd.DataFrame({"time": ["2024-01-01 00:10", "2024-01-01 01:10"]})
    points = gpd.GeoDataFrame(
        frame, geometry=gpd.points_from_xy([8.61, 8.63], [49.36, 49.37]), crs=4326
    )
    points.drop(columns="geometry").assign(lat=[49.36, 49.37], lon=[8.61, 8.63]).to_csv(
        tmp_path / "p.csv", index=False
    )
    points.to_file(tmp_path / "p.gpkg")
    points.to_crs(25832).to_parquet(tmp_path / "p.parquet")
    graphs = [
        read_grid(BOX, size_m=500, points=tmp_path / f"p.{kind}", step_minutes=60)
        for kind in ("csv", "gpkg", "parquet")
    ]
    assert graphs[0].equals(graphs[1])
    assert graphs[0].equals(graphs[2])
    assert graphs[0].values.sum() == 2


def test_trips_flow_out_and_in() -> None:
    """A trip leaves its origin when it begins and arrives when it ends."""
    trips = pd.DataFrame(
        {
            "started_at": ["2024-01-01 00:50"],
            "start_lng": [8.605],
            "start_lat": [49.355],
            "ended_at": ["2024-01-01 01:20"],
            "end_lng": [8.635],
            "end_lat": [49.375],
        }
    )
    graph = read_grid(BOX, size_m=500, trips=trips, step_minutes=60)
    assert graph.feature_names == ("out", "in")
    assert graph.values.sum(axis=1).tolist() == [[1, 0], [0, 1]]
    left, arrived = (int(graph.values[step, :, step].argmax()) for step in (0, 1))
    assert graph.nodes.geometry.iloc[left].bounds[0] < graph.nodes.geometry.iloc[arrived].bounds[0]
    named = trips.set_axis(["a", "b", "c", "d", "e", "f"], axis=1)
    same = read_grid(
        BOX, size_m=500, trips=named, step_minutes=60,
        origin_columns=["b", "c", "a"], destination_columns=["e", "f", "d"],
    )  # fmt: skip
    assert np.array_equal(same.values, graph.values)
    no_end = trips.drop(columns="ended_at")
    told = read_grid(BOX, size_m=500, trips=no_end, step_minutes=60)
    assert told.values.sum(axis=1).tolist() == [[1, 1]]
    assert "no column says when trips end" in str(told.report)


def test_options_of_no_use_are_told() -> None:
    """What is named for the other kind of events, or for another rule, is not passed over."""
    rows = events((5, 5, "2024-01-01"))
    graph = squares(**rows, origin_columns=["x", "y"], value_columns=["x"])
    told = "`origin_columns`, `value_columns`: is of no use for points and aggregate='count'"
    assert told in str(graph.report)
    assert "of no use" not in str(squares(**rows, x_column="x", y_column="y").report)


def test_mercator_is_told() -> None:
    """Squares of 10 m in it are 6.5 m wide in Germany."""
    graph = read_grid(BOX, size_m=500, grid_crs=3857)
    assert "are shorter on the ground the further from the equator" in str(graph.report)


def test_swapped_coordinates_are_guessed_and_said() -> None:
    frame = pd.DataFrame({"time": ["2024-01-01"] * 3, "lat": [8.61] * 3, "lon": [49.36] * 3})
    graph = read_grid(BOX, size_m=500, points=frame, step_minutes=60)
    assert graph.values.sum() == 3
    assert "3 of 3 points lie in cells only with lat and lon swapped" in str(graph.report)


def test_missing_places_and_times_are_told() -> None:
    frame = pd.DataFrame(
        {
            "time": ["2024-01-01", "", "2024-01-01", "2024-01-01", "2024-01-01"],
            "lat": [49.36, 49.36, np.nan, 0, 51],
            "lon": [8.61, 8.61, 8.61, 0, 8.61],
        }
    )
    graph = read_grid(BOX, size_m=500, points=frame, step_minutes=60)
    assert graph.values.sum() == 1
    told = str(graph.report)
    assert "1 rows have no time" in told
    assert "2 of 5 points have no coordinates" in told
    assert "1 rows are at (0, 0)" in told
    assert "1 of 5 points lie in no cell, first (8.61, 51) in row 5" in told


def test_points_indexed_by_time_are_not_changed() -> None:
    """A frame of the caller stays as it is, so that it can be counted twice."""
    frame = pd.DataFrame({"x": [5.0], "y": [5.0]}, index=pd.DatetimeIndex(["2024-01-01 00:10"]))
    before = frame.copy()
    for _ in range(2):
        graph = squares(points=frame, points_crs=25832, step_minutes=60)
        assert graph.values[0, 0, 0] == 1
    pd.testing.assert_frame_equal(frame, before)


def test_the_hour_that_autumn_repeats() -> None:
    """Two events at one wall clock are two events, both at the earlier instant."""
    at = events((5, 5, "2024-10-27 02:30"), (5, 5, "2024-10-27 02:30"))
    graph = squares(zone="Europe/Berlin", **at)
    assert graph.values[:, 0, 0].tolist() == [2]
    assert str(graph.time[0]) == "2024-10-27 00:00:00+00:00"


# ---------------------------------------------------------------- bad input


def refuse(message: str, boundary: Any = None, **options: Any) -> None:
    """Expect an error that says so."""
    options = {"size_m": 10, "grid_crs": 25832, **options}
    with pytest.raises(DataError, match=message):
        read_grid(plane() if boundary is None else boundary, **options)


def test_ten_million_cells_are_refused_before_any_is_made() -> None:
    """With the size and what to do; hexagons too."""
    refuse(r"squares of 10 m over 1,\d{3} km² would make about 1\d,\d{3},\d{3} cells, 2,000,000 "
           r"are allowed; use larger squares.*max_cells=",
           [8.0, 49.0, 8.5, 49.3], grid_crs=None)  # fmt: skip
    refuse(r"hexagons of resolution 12 .* use a lower resolution",
           [8.0, 49.0, 8.5, 49.3], cell="hexagon", resolution=12, size_m=None)  # fmt: skip


def test_options_that_do_not_fit_are_told_together() -> None:
    refuse(
        r"(?s)`cell`.*did you mean 'square'.*`neighbours`.*`rings`.*`zone`.*`start`",
        cell="sqare", neighbours="kings", rings=0, zone="Berlin", start="once",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"`size_m`: is missing for cell='square'; give the side in metres", {"size_m": None}),
        (r"`size_m`: is -5; give a number above 0", {"size_m": -5}),
        (r"`resolution`: is 16; give a whole number of at least 0 and at most 15",
         {"cell": "hexagon", "resolution": 16}),
        (r"`resolution`: is missing for cell='hexagon'", {"cell": "hexagon"}),
        (r"`size_m`: 500 m is larger than the boundary of 30 m x 20 m", {"size_m": 500}),
        (r"`min_share`: is 2; give a number of at least 0 and at most 1", {"min_share": 2}),
        (r"`min_share`: no cell has so much of it inside", {"size_m": 21, "min_share": 1}),
        (r"`grid_crs`: 99999 is no CRS", {"grid_crs": 99999}),
        (r"`grid_crs`: WGS 84 is no plane", {"grid_crs": 4326}),
        (r"`trips`: is given beside `points`", {"trips": "a.csv", "points": "b.csv"}),
        (r"`step_minutes`: is None", {"points": pd.DataFrame({"x": [1]})}),
        (r"`value_columns`: is missing; name what to take the mean of",
         {**events((5, 5, "2024-01-01")), "aggregate": "mean"}),
        (r"columns `x` and `y` have no CRS; say which with points_crs=",
         events((5, 5, "2024-01-01"), crs=None)),
        (r"none of 1 points has a time and lies in a cell", events((500, 5, "2024-01-01"))),
        (r"'soon' cannot be read as a time", events((5, 5, "soon"))),
        (r"no column has a known name for `time_column`; columns are \['lat', 'lon'\]",
         {"points": pd.DataFrame({"lat": [1.0], "lon": [2.0]}), "step_minutes": 60}),
        (r"no column has a known name for `x_column`",
         {"points": pd.DataFrame({"time": ["2024-01-01"]}), "step_minutes": 60}),
        (r"no column 'sped' \(did you mean 'speed'\?\)",
         {"points": pd.DataFrame(ONE),
          "step_minutes": 60, "aggregate": "sum", "value_columns": ["sped"]}),
        (r"no such file in 'nowhere'", {"points": "nowhere/points.csv", "step_minutes": 5}),
        (r"no columns of the origin of trips",
         {"trips": pd.DataFrame({"time": ["2024-01-01"]}), "step_minutes": 60}),
        (r"`destination_columns`: is \['a'\]; give two or three names",
         {"trips": pd.DataFrame({"start_x": [1], "start_y": [1], "start_time": ["2024-01-01"]}),
          "step_minutes": 60, "destination_columns": ["a"]}),
        (r"`points`: is a int; pass a path or a table", {"points": 5, "step_minutes": 5}),
        (r"nothing was counted between start and stop",
         {**events((5, 5, "2024-01-01")), "start": "2025-01-01"}),
        (r"steps of 6 cells are [\d,]+ values \([\d.]+ GB\), 500,000,000 are allowed",
         {**events((5, 5, "1970-01-01"), (5, 5, "2024-01-01")), "step_minutes": 0.01}),
        (r"`points`: is empty; give a table", {"points": [], "step_minutes": 60}),
    ],
)  # fmt: skip
def test_bad_options_and_points(message: str, options: dict[str, Any]) -> None:
    refuse(message, **options)


@pytest.mark.parametrize(
    ("message", "boundary"),
    [
        (r"the boundary names no CRS; say which with crs=", gpd.GeoDataFrame(geometry=[PLANE])),
        (r"the boundary has an area of 0", [8.6, 49.3, 8.6, 49.3]),
        (r"holds no polygons but \['LineString'\]",
         gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1, 1)])], crs=4326)),
        (r"the boundary is empty", gpd.GeoDataFrame(geometry=[None], crs=4326)),
        (r"the boundary has coordinates that are no numbers",
         gpd.GeoDataFrame(geometry=[ENDLESS], crs=4326)),
        (r"`boundary`: \[1, 2, 3\] is no box; give four numbers", [1, 2, 3]),
        (r"south 50 is above north 49", [8, 50, 9, 49]),
        (r"cannot be read as well-known text", "POLYGON ((0 0, 1 1)"),
        (r"no such file", "nowhere/city.gpkg"),
        (r"`boundary`: is a int; pass a file, well-known text", 5),
        (r"bounds .* are no degrees of WGS 84; say the CRS with crs=",
         [470000, 5460000, 480000, 5470000]),
        (r"latitude and longitude look swapped", [-36.9, 174.7, -36.8, 174.8]),
        (r"holds no geometry", pd.DataFrame({"a": [1]})),
        (r"no UTM zone so near to a pole; name a plane, such as grid_crs=3413", [0, 85, 10, 89]),
        (r"plan is nowhere on Earth, where squares are laid out; say where", plane(crs=PLAN)),
    ],
)  # fmt: skip
def test_bad_boundaries(message: str, boundary: Any) -> None:
    refuse(message, boundary, grid_crs=None)


def test_a_crs_that_contradicts_the_layer() -> None:
    refuse(r"the boundary is in ETRS89 / UTM zone 32N but crs= says WGS 84", crs=4326)


def test_bow_ties_are_repaired_and_told() -> None:
    """An outline that crosses itself is two triangles."""
    bow = plane(shapely.Polygon([(0, 0), (20, 20), (20, 0), (0, 20)]))
    graph = read_grid(bow, size_m=10, grid_crs=25832)
    assert graph.nodes["share_inside"].tolist() == [0.5] * 4
    assert "1 polygons are not valid: Self-intersection" in str(graph.report)


def test_polygons_with_one_id_are_refused() -> None:
    layer = gpd.GeoDataFrame(
        {"id": ["A", "A"]}, geometry=[shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1)], crs=4326
    )
    with pytest.raises(DataError, match=r"1 polygons have an id that another one has: \['A'\]"):
        read_grid(layer, cell="polygon")


# ---------------------------------------------------------------- the rest of the way


@pytest.mark.data
def test_zones_of_a_city_three_ways(data_dir: Path, tmp_path: Path) -> None:
    """Sioux Falls: its 24 zones as they are, and hexagons and clipped squares that fill them."""
    path = data_dir / "siouxfalls-geo/network.gpkg"
    zones = read_grid(path, layer="zones", cell="polygon")
    assert zones.n_nodes == 24
    assert zones.provenance["graph"]["n_isolated"] == 0
    area = zones.nodes.to_crs(32614).area.sum()
    clipped = read_grid(path, layer="zones", size_m=250, clip=True)
    assert clipped.nodes.area.sum() == pytest.approx(area, rel=1e-6)
    hexagons = read_grid(path, layer="zones", cell="hexagon", resolution=8, clip=True)
    assert hexagons.nodes.to_crs(32614).area.sum() == pytest.approx(area, rel=1e-6)
    for graph in (clipped, hexagons):
        assert read_geopackage(write_geopackage(graph, tmp_path / "c.gpkg")).equals(graph)
    with pytest.raises(DataError, match="holds 3 layers; name one with layer="):
        read_grid(path, size_m=250)


def test_registered_by_name() -> None:
    assert load("connectors", "grid") is read_grid


def test_geopackage_draws_the_cells(tmp_path: Path) -> None:
    """Counts go to the sink as polygons and come back as they were."""
    graph = squares(**events((5, 5, "2024-01-01 00:10"), (25, 15, "2024-01-01 02:00")))
    path = write_geopackage(graph, tmp_path / "grid.gpkg")
    assert read_geopackage(path).equals(graph)
    layer = gpd.read_file(path, layer="observation")
    assert set(layer.geometry.geom_type) == {"Polygon"}
    assert len(layer) == 18
