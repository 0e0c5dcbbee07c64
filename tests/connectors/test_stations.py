"""Stations and readings of every kind come out as the same graph, and nothing goes in silence."""

from __future__ import annotations

import gzip
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stgraph_connectors.stations import read_stations

from stgraph.errors import DataError
from stgraph.graph import STGraph

IDS = ["0970_01", "0970_03", "12"]
STEPS = pd.date_range("2024-01-01", periods=4, freq="5min", tz="UTC")
VALUES = np.array([[1, 2, 3], [4, np.nan, 6], [7, 8, 9], [10, 11, 12]], dtype=np.float32)

STATIONS_CSV = (
    "sensor_id,road,lanes,latitude,longitude\n"
    "0970_01,High St,2,-37.86,145.09\n"
    "0970_03,Main St,3,-37.87,145.10\n"
    "12,,1,-37.88,145.11\n"
)


def stations_layer() -> gpd.GeoDataFrame:
    """The stations of `STATIONS_CSV` as a layer."""
    points = gpd.points_from_xy([145.09, 145.10, 145.11], [-37.86, -37.87, -37.88], crs=4326)
    return gpd.GeoDataFrame({"sensor_id": IDS, "lanes": [2, 3, 1]}, geometry=points)


def wide_frame() -> pd.DataFrame:
    """`VALUES`, one column per station."""
    index = STEPS.tz_localize(None).rename("time")
    return pd.DataFrame(VALUES, index=index, columns=IDS)


def long_frame() -> pd.DataFrame:
    """`VALUES`, one row per station and instant."""
    table = wide_frame().reset_index().melt("time", var_name="sensor_id", value_name="value")
    return table.dropna()


def check(graph: STGraph) -> None:
    """Check that a graph holds the stations and `VALUES`."""
    assert list(graph.node_ids) == IDS
    assert graph.nodes.crs == 4326
    assert graph.nodes["kind"].eq("station").all()
    assert list(graph.nodes["lanes"]) == [2, 3, 1]
    assert graph.nodes.geometry.x.round(2).tolist() == [145.09, 145.10, 145.11]
    assert graph.time.equals(STEPS.as_unit("us"))
    assert graph.step == pd.Timedelta("5min")
    assert graph.feature_names == ("value",)
    np.testing.assert_array_equal(graph.values[:, :, 0], VALUES)
    np.testing.assert_array_equal(graph.mask[:, :, 0], np.isfinite(VALUES))
    assert graph.n_edges == 0
    assert graph.provenance["step_minutes"] == 5
    assert not graph.report.warnings


# ---------------------------------------------------------------- kinds of files


@pytest.fixture(params=["csv", "geojson", "gpkg", "geoparquet", "parquet", "frame", "layer"])
def stations(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    """The same stations in every form."""
    layer, kind = stations_layer(), request.param
    path = tmp_path / f"stations.{kind}"
    plain = pd.DataFrame(layer.drop(columns="geometry")).assign(
        lat=layer.geometry.y, lon=layer.geometry.x
    )
    if kind == "csv":
        path.write_text(STATIONS_CSV)
    elif kind in ("geojson", "gpkg"):
        layer.to_file(path)
    elif kind == "geoparquet":
        layer.to_parquet(path)
    elif kind == "parquet":
        plain.to_parquet(path)
    else:
        return plain if kind == "frame" else layer
    return path


@pytest.fixture(params=["long", "wide"])
def layout(request: pytest.FixtureRequest) -> pd.DataFrame:
    """The same readings as a long or wide frame."""
    return long_frame() if request.param == "long" else wide_frame()


@pytest.fixture(params=["csv", "csv.gz", "parquet", "frame", "npz"])
def readings(request: pytest.FixtureRequest, tmp_path: Path, layout: pd.DataFrame) -> object:
    """The same readings in every form."""
    kind = request.param
    path = tmp_path / f"readings.{kind}"
    if kind.startswith("csv"):
        layout.to_csv(path, index="sensor_id" not in layout)
    elif kind == "parquet":
        layout.to_parquet(path)
    elif kind == "npz":
        seconds = STEPS.as_unit("s").asi8
        np.savez(path, values=VALUES, timestamps=seconds, sensor_ids=np.array(IDS))
    else:
        return layout
    return path


def test_every_kind_of_file_gives_the_same_graph(stations: object, readings: object) -> None:
    """7 forms of stations times 5 forms of readings, long and wide."""
    check(read_stations(stations, readings))


def test_no_readings_make_a_graph_without_signal() -> None:
    """A layer alone is a graph of places."""
    graph = read_stations(stations_layer())
    assert (graph.n_nodes, graph.n_steps, graph.n_features) == (3, 0, 0)


def test_arguments_stay_as_they_were() -> None:
    """Frames of the caller are not changed."""
    layer, frame = stations_layer(), wide_frame()
    read_stations(layer, frame, missing="zero")
    pd.testing.assert_frame_equal(frame, wide_frame())
    pd.testing.assert_frame_equal(layer, stations_layer())


def test_attributes_keep_their_type(tmp_path: Path) -> None:
    """Numbers become numbers; codes with leading zeros stay text."""
    path = tmp_path / "stations.csv"
    path.write_text("id,site,lanes,note,lat,lon\n7,0970,2,NA,1,2\n8,0971,,x,1,3\n")
    nodes = read_stations(path).nodes
    assert list(nodes["site"]) == ["0970", "0971"]
    assert nodes["lanes"].tolist()[0] == 2.0
    assert np.isnan(nodes["lanes"].iloc[1])
    assert list(nodes["note"]) == ["NA", "x"]


def test_projected_coordinates_and_wkt(tmp_path: Path) -> None:
    """x/y with a CRS, and a column of well-known text."""
    path = tmp_path / "stations.csv"
    path.write_text("id,x,y\na,1750000,5900000\nb,1750100,5900000\n")
    assert read_stations(path, crs=2193).nodes.crs == 2193
    path.write_text('id,geometry\na,POINT (1 2)\nb,"POLYGON ((0 0, 1 0, 1 1, 0 0))"\n')
    nodes = read_stations(path, crs="EPSG:4326").nodes
    assert nodes.geometry.geom_type.tolist() == ["Point", "Polygon"]


def test_the_locations_of_metr_la_and_pems_bay(tmp_path: Path) -> None:
    """graph_sensor_locations.csv: with a header and a row number, and without a header."""
    path = tmp_path / "graph_sensor_locations.csv"
    path.write_text("index,sensor_id,latitude,longitude\n0,773869,34.15,-118.31\n1,5,34.1,-118.2\n")
    assert list(read_stations(path).node_ids) == ["773869", "5"]
    path.write_text("400001,37.364085,-121.901149\n400017,37.253303,-121.94544\n")
    graph = read_stations(path)
    assert list(graph.node_ids) == ["400001", "400017"]
    assert graph.nodes.geometry.y.tolist() == [37.364085, 37.253303]
    assert "no header; columns were taken as ['sensor_id', 'latitude', 'longitude']" in str(
        graph.report
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbf" + STATIONS_CSV.encode(),
        STATIONS_CSV.encode("utf-16"),
        STATIONS_CSV.replace("\n", "\r\n").encode(),
        STATIONS_CSV.replace("\n", "\r").encode(),
        STATIONS_CSV.replace(",", ";").encode(),
        STATIONS_CSV.replace(",", "\t").encode(),
        STATIONS_CSV.replace("\n12", "\n\n12").encode() + b"\n",
        STATIONS_CSV.replace("High St", '"High St, North"').encode(),
    ],
    ids=["bom", "utf-16", "crlf", "cr", "semicolon", "tab", "blank lines", "quotes"],
)
def test_spellings_of_csv(tmp_path: Path, raw: bytes) -> None:
    """What spreadsheets make of a CSV is read."""
    path = tmp_path / "stations.csv"
    path.write_bytes(raw)
    check(read_stations(path, wide_frame()))


def test_decimal_commas_and_other_encodings(tmp_path: Path) -> None:
    """A European export: semicolons, decimal commas, Windows-1252; all of it reported."""
    path = tmp_path / "stations.csv"
    path.write_bytes("id;Straße;lat;lon\na;Süd;52,5;13,4\nb;Nord;52,6;13,5\n".encode("cp1252"))
    readings = tmp_path / "readings.csv"
    readings.write_text("time;a;b\n2024-01-01 00:00;1,5;2\n2024-01-01 01:00;;3,25\n")
    graph = read_stations(path, readings, decimal=",")
    assert graph.nodes["Straße"].tolist() == ["Süd", "Nord"]
    assert graph.nodes.geometry.y.tolist() == [52.5, 52.6]
    assert "line 1: byte b'\\xdf' is not UTF-8" in str(graph.report.warnings[0])
    np.testing.assert_array_equal(graph.values[:, :, 0], [[1.5, 2], [np.nan, 3.25]])
    assert "separated by semicolons" in str(graph.report)


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize(
    ("given_ids", "reading_ids"),
    [
        ([773869, 767541], ["773869", "767541"]),
        ([773869.0, 767541.0], [773869, 767541]),
        ([" 773869", "767541 "], [773869.0, 767541.0]),
        ([b"773869", b"767541"], ["773869.0", "767541.0"]),
    ],
)
def test_ids_that_differ_by_dtype_are_one(given_ids: list, reading_ids: list) -> None:
    """773869, 773869.0, "773869" and " 773869" are the same station."""
    places = pd.DataFrame({"id": given_ids, "lat": [1, 2], "lon": [3, 4]})
    frame = pd.DataFrame([[1, 2], [3, 4]], index=STEPS[:2], columns=reading_ids)
    graph = read_stations(places, frame)
    assert list(graph.node_ids) == ["773869", "767541"]
    np.testing.assert_array_equal(graph.values[:, :, 0], [[1, 2], [3, 4]])
    assert not graph.report.warnings


def test_lost_leading_zeros_are_found_and_said() -> None:
    """A spreadsheet made 970 of 0970: matched where nothing else can be meant."""
    places = pd.DataFrame({"id": ["0970", "0971", "971"], "lat": [1, 2, 3], "lon": [3, 4, 5]})
    frame = pd.DataFrame([[1, 2], [3, 4]], index=STEPS[:2], columns=[970, 971])
    graph = read_stations(places, frame)
    np.testing.assert_array_equal(graph.values[0, :, 0], [1, np.nan, 2])
    assert "('970', '0970')" in str(graph.report.warnings[0])


def test_strangers_and_silent_stations_are_reported() -> None:
    """Readings of unknown stations go, stations without readings stay, both with a finding."""
    frame = long_frame().replace({"sensor_id": {"12": "99"}})
    graph = read_stations(stations_layer(), frame)
    text = str(graph.report)
    assert "4 readings are of 1 stations that the layer does not have: ['99']" in text
    assert "1 of 3 stations have no reading: ['12']" in text
    assert not graph.mask[:, 2].any()
    graph = read_stations(stations_layer(), wide_frame().rename(columns={"12": "total"}))
    assert "1 columns belong to no station: ['total']" in str(graph.report)


def test_rows_without_id_are_reported() -> None:
    """An empty id is dropped with its line."""
    frame = pd.concat([long_frame(), long_frame().iloc[:1].assign(sensor_id=None)])
    graph = read_stations(stations_layer(), frame)
    assert "row 12: 1 rows have no station id" in str(graph.report)


@pytest.mark.parametrize("value", [(np.nan, 1.0), (0.0, 0.0)])
def test_stations_without_coordinates(value: tuple[float, float]) -> None:
    """Dropped with their readings, or kept, as asked; (0, 0) is no place."""
    places = pd.DataFrame({"id": IDS, "lat": [1, 2, value[0]], "lon": [3, 4, value[1]]})
    graph = read_stations(places, wide_frame())
    assert list(graph.node_ids) == IDS[:2]
    np.testing.assert_array_equal(graph.values[:, :, 0], VALUES[:, :2])
    assert "1 of 3 stations have no coordinates: ['12']" in str(graph.report)
    kept = read_stations(places, wide_frame(), missing_coordinates="keep")
    assert list(kept.node_ids) == IDS
    assert kept.nodes.geometry.isna().tolist() == [False, False, True]


def test_a_single_swapped_station_is_a_warning() -> None:
    """Only what can be known: swapped, this one would stand among the others."""
    places = pd.DataFrame(
        {"id": list("abcd"), "lat": [52, 52.1, 52.2, 13], "lon": [13, 13, 13, 52]}
    )
    report = read_stations(places).report
    assert "row 4: latitude 13, longitude 52 is far from all others" in str(report.warnings[0])


# ---------------------------------------------------------------- time and grid


def test_unsorted_rows_with_gaps() -> None:
    """The order of rows does not matter; a missing step is NaN and masked."""
    frame = long_frame()
    frame = frame[frame["time"] != STEPS[2].tz_localize(None)].sample(frac=1, random_state=0)
    graph = read_stations(stations_layer(), frame)
    np.testing.assert_array_equal(graph.values[[0, 1, 3], :, 0], VALUES[[0, 1, 3]])
    assert not graph.mask[2].any()


def test_the_longest_gap_is_named() -> None:
    """Which station, from when to when, in how many steps; a silent station is no gap."""
    values = np.ones((6, 3))
    values[1, 0] = values[3:5, 1] = np.nan
    values[:, 2] = np.nan
    times = pd.date_range("2024-07-01 12:00", periods=6, freq="h")
    frame = pd.DataFrame(values, index=times, columns=IDS)
    text = str(read_stations(stations_layer(), frame, zone="Europe/Berlin").report)
    assert "3 of 12 readings are missing (25.00%)" in text
    assert (
        f"is of {IDS[1]!r}: 2 steps from 2024-07-01 15:00 to 2024-07-01 16:00, Europe/Berlin"
    ) in text
    frame = frame.rename_axis("time").melt(ignore_index=False, var_name="id", value_name="flow")
    frame = frame.reset_index().assign(speed=[*[np.nan] * 3, *[1.0] * 15])
    text = str(read_stations(stations_layer(), frame).report)
    assert f"is of {IDS[2]!r}, `flow`: 6 steps from 2024-07-01 12:00 to 2024-07-01 17:00" in text


@pytest.mark.parametrize("frame", [long_frame(), wide_frame()], ids=["long", "wide"])
def test_rows_out_of_order_are_reported(frame: pd.DataFrame) -> None:
    """One row that stands too low is one finding; stations one after the other are in order."""
    assert "below" not in str(read_stations(stations_layer(), frame).report)
    moved = frame.iloc[[1, 0, *range(2, len(frame))]]
    report = str(read_stations(stations_layer(), moved).report)
    assert "`readings`, row 2: 1 rows stand below a later one; they were sorted by time" in report


@pytest.mark.parametrize(("rule", "expected"), [("mean", 3.0), ("first", 1.0), ("last", 5.0)])
@pytest.mark.parametrize("kind", ["long", "wide"])
def test_duplicates(kind: str, rule: str, expected: float) -> None:
    """Two readings of one station and instant become one by rule, and it is said."""
    frame = long_frame() if kind == "long" else wide_frame().reset_index()
    extra = frame.iloc[[0]].copy()
    extra["value" if kind == "long" else "0970_01"] = 5.0
    graph = read_stations(stations_layer(), pd.concat([frame, extra]), duplicates=rule)
    assert graph.values[0, 0, 0] == expected
    assert "1 rows repeat earlier" in str(graph.report.warnings[0])
    assert "1 of these with other values" in str(graph.report.warnings[0])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("mean", [[2.5, 2.0], [8.5, 10.0]]),
        ("sum", [[5.0, np.nan], [17.0, 20.0]]),
        ("first", [[1.0, 2.0], [7.0, 9.0]]),
        ("last", [[4.0, 2.0], [10.0, 11.0]]),
        ("max", [[4.0, 2.0], [10.0, 11.0]]),
        ("min", [[1.0, 2.0], [7.0, 9.0]]),
    ],
)
@pytest.mark.parametrize("kind", ["long", "wide"])
def test_finer_readings_are_aggregated(kind: str, rule: str, expected: list) -> None:
    """Steps of 10 minutes of readings every 5; a sum that lacks a reading is missing."""
    frame = wide_frame()[IDS[:2]]
    frame.iloc[2, 1] = 9.0
    if kind == "long":
        frame = frame.reset_index().melt("time", var_name="sensor_id").dropna()
    graph = read_stations(stations_layer(), frame, step_minutes=10, aggregate=rule)
    np.testing.assert_array_equal(graph.values[:, :2, 0], expected)
    assert "aggregated by" in str(graph.report)


def test_the_grid_keeps_the_place_of_the_readings() -> None:
    """Readings at 00:02, 00:07 ... stay there; jitter of seconds goes to the nearest step."""
    frame = wide_frame()
    frame.index = frame.index + pd.Timedelta("2min")
    assert read_stations(stations_layer(), frame).time[0] == pd.Timestamp("2024-01-01 00:02Z")
    frame.index = frame.index + pd.to_timedelta([0, 3, -3, 0], unit="s")
    graph = read_stations(stations_layer(), frame, step_minutes=5)
    np.testing.assert_array_equal(graph.values[:, :, 0], VALUES)
    assert "2 readings are off the grid by up to 0.05 minutes" in str(graph.report)


def test_stations_that_report_at_different_minutes_keep_their_step() -> None:
    """The step is the difference within a station, not between stations."""
    frame = long_frame()
    late = frame["sensor_id"] == "12"
    frame.loc[late, "time"] += pd.Timedelta("1min")
    graph = read_stations(stations_layer(), frame)
    assert graph.step == pd.Timedelta("5min")
    np.testing.assert_array_equal(graph.values[:, :, 0], VALUES)


def test_hours_of_half_hour_zones_start_at_local_hours() -> None:
    """Hourly steps of quarter-hours in India start at :30 UTC."""
    index = pd.date_range("2024-01-01", periods=8, freq="15min", name="time")
    frame = pd.DataFrame(np.ones((8, 3)), index=index, columns=IDS)
    graph = read_stations(stations_layer(), frame, zone="Asia/Kolkata", step_minutes=60)
    assert graph.time[0] == pd.Timestamp("2023-12-31 18:30Z")
    assert graph.n_steps == 2


def test_daily_readings_over_a_clock_change() -> None:
    """Local midnights are not 24 hours apart; they go to the nearest day, and it is said."""
    index = pd.date_range("2024-03-29", periods=5, freq="D", name="time")
    frame = pd.DataFrame(np.arange(15.0).reshape(5, 3), index=index, columns=IDS)
    graph = read_stations(stations_layer(), frame, zone="Europe/Berlin")
    np.testing.assert_array_equal(graph.values[:, :, 0], frame.to_numpy())
    assert "off the grid by up to 60 minutes" in str(graph.report)


def test_zeros_are_missing_by_choice() -> None:
    """METR-LA writes 0 where nothing was measured."""
    frame = wide_frame().fillna(0)
    assert read_stations(stations_layer(), frame).mask.all()
    graph = read_stations(stations_layer(), frame, missing="zero")
    np.testing.assert_array_equal(graph.mask[:, :, 0], np.isfinite(VALUES))
    assert "1 readings are exactly 0; taken as missing" in str(graph.report)


def test_start_and_stop_are_wall_clock() -> None:
    """Half-open, in the zone; what is left out is said."""
    graph = read_stations(
        stations_layer(), wide_frame(), start="2024-01-01 00:05", stop="2024-01-01 00:15"
    )
    np.testing.assert_array_equal(graph.values[:, :, 0], VALUES[1:3])
    assert "2 rows are before start or from stop on" in str(graph.report)


def test_one_odd_instant_is_a_warning_with_the_way_out() -> None:
    """A year typed wrong in a long series that still fits: named, not refused."""
    index = pd.date_range("2024-01-01", periods=200, freq="D").append(
        pd.DatetimeIndex(["2034-01-01"])
    )
    frame = pd.DataFrame(np.ones((201, 3)), index=index, columns=IDS)
    report = read_stations(stations_layer(), frame).report
    assert "row 201: 2034-01-01T00:00:00Z stands apart" in str(report.warnings[0])
    assert "stop='2034-01-01T00:00:00Z'" in str(report.warnings[0])


# ---------------------------------------------------------------- features and parts


def test_several_features_units_and_roles() -> None:
    """Number columns of a long table are features; text and coordinates are left out, said."""
    frame = long_frame().assign(flow=1, note="ok", lat=1.0)
    graph = read_stations(
        stations_layer(), frame, units={"flow": "veh/h"}, roles={"flow": "observed"}
    )
    assert graph.feature_names == ("value", "flow")
    assert [(f.unit, f.role) for f in graph.features] == [("", "target"), ("veh/h", "observed")]
    assert "columns left out: ['note', 'lat']" in str(graph.report)
    only = read_stations(stations_layer(), frame, value_columns=["flow"])
    assert only.feature_names == ("flow",)


def test_parts_are_joined(tmp_path: Path) -> None:
    """One file a month, the second with fewer stations; lines are counted per file."""
    wide_frame().iloc[:2].to_csv(tmp_path / "jan.csv")
    wide_frame().iloc[2:, :2].to_csv(tmp_path / "feb.csv")
    graph = read_stations(stations_layer(), [tmp_path / "jan.csv", tmp_path / "feb.csv"])
    expected = VALUES.copy()
    expected[2:, 2] = np.nan
    np.testing.assert_array_equal(graph.values[:, :, 0], expected)
    assert graph.provenance["source"]["readings"] == ["jan.csv", "feb.csv"]
    assert str(tmp_path) not in str(graph.provenance)


def test_duplicates_are_named_by_file_and_line(tmp_path: Path) -> None:
    """The second of two overlapping files is named, with its own line."""
    wide_frame().to_csv(tmp_path / "a.csv")
    wide_frame().iloc[3:].to_csv(tmp_path / "b.csv")
    report = read_stations(stations_layer(), [tmp_path / "a.csv", tmp_path / "b.csv"]).report
    assert any(finding.where == "b.csv, line 2" for finding in report)


def test_arrays_of_several_features(tmp_path: Path) -> None:
    """(T, N, F) in npz."""
    values = np.stack([VALUES, VALUES * 10], axis=2)
    np.savez(tmp_path / "a.npz", values=values, sensor_ids=IDS, timestamps=STEPS.as_unit("s").asi8)
    graph = read_stations(stations_layer(), tmp_path / "a.npz", value_columns=["speed", "flow"])
    assert graph.feature_names == ("speed", "flow")
    np.testing.assert_array_equal(graph.values, values)


# ---------------------------------------------------------------- adjacency


@pytest.mark.parametrize("kind", ["npz", "pkl", "csv", "links", "sparse", "plain"])
def test_given_adjacency(tmp_path: Path, kind: str) -> None:
    """Entry [i, j] is the edge i -> j; ids decide the order, zeros are no edges."""
    matrix = np.array([[1, 0.5, 0], [0, 1, 0.25], [0, 0, 0]], dtype=np.float32)
    order = [1, 0, 2]
    ids, mixed = [IDS[i] for i in order], matrix[np.ix_(order, order)]
    options: dict = {}
    if kind == "npz":
        path = tmp_path / "adj.npz"
        np.savez(path, adj=mixed, sensor_ids=np.array(ids))
    elif kind == "sparse":
        path = tmp_path / "adj.npz"
        sparse = pytest.importorskip("scipy.sparse")
        sparse.save_npz(path, sparse.csr_array(mixed))
        options = {"adjacency_ids": ids}
    elif kind == "pkl":
        path = tmp_path / "adj_mx.pkl"
        pd.to_pickle([ids, {}, mixed], path, protocol=2)
    elif kind == "csv":
        path = tmp_path / "adj.csv"
        np.savetxt(path, mixed, delimiter=",")
        options = {"adjacency_ids": ids}
    elif kind == "plain":
        path = tmp_path / "adj.npz"
        np.savez(path, adj=matrix)
    else:
        path = tmp_path / "links.csv"
        i, j = np.nonzero(matrix)
        links = {"source": np.array(IDS)[i], "target": np.array(IDS)[j], "weight": matrix[i, j]}
        pd.DataFrame(links).to_csv(path, index=False)
    graph = read_stations(stations_layer(), adjacency=path, weight_unit="m", **options)
    np.testing.assert_array_equal(graph.adjacency().toarray(), matrix)
    assert graph.weight_unit == "m"


def test_adjacency_of_more_stations_than_there_are(tmp_path: Path) -> None:
    """Edges of stations that the layer lacks, or that have no place, go with a finding."""
    np.savez(tmp_path / "a.npz", adj=np.ones((4, 4)), sensor_ids=np.array([*IDS, "99"]))
    places = pd.DataFrame({"id": IDS, "lat": [1, 2, np.nan], "lon": [3, 4, 5]})
    graph = read_stations(places, adjacency=tmp_path / "a.npz")
    assert graph.n_edges == 4
    assert "1 of its stations are not in the layer: ['99']" in str(graph.report)
    lost = "a.npz: 5 edges are of stations without coordinates; they were dropped with them"
    assert lost in str(graph.report)


def test_adjacency_of_fewer_stations_than_there_are(tmp_path: Path) -> None:
    """Stations that it does not name are named; ids that are not needed are not used in silence."""
    np.savez(tmp_path / "a.npz", adj=np.ones((2, 2)), sensor_ids=np.array(IDS[:2]))
    graph = read_stations(stations_layer(), adjacency=tmp_path / "a.npz", adjacency_ids=IDS[:2])
    assert graph.n_edges == 4
    assert f"1 of 3 stations are not in it: ['{IDS[2]}']; they have no edges" in str(graph.report)
    assert "names its stations itself; adjacency_ids= was not used" in str(graph.report)


@pytest.mark.parametrize(("ids", "drop"), [([7, 8, 9, 10], [8]), (None, [1])])
def test_adjacency_with_a_row_too_many(tmp_path: Path, ids: list | None, drop: list) -> None:
    """A row named by its id, or its place, goes with its links; the rest are the stations."""
    matrix = np.array([[0, 9, 1, 0], [9, 0, 9, 9], [0, 9, 0, 2], [3, 0, 0, 0]])
    named = {} if ids is None else {"station_ids": np.array(ids)}
    np.savez(tmp_path / "a.npz", adj=matrix, **named)
    options = {"adjacency": tmp_path / "a.npz", "adjacency_drop": drop}
    graph = read_stations(stations_layer(), **options)
    np.testing.assert_array_equal(graph.adjacency().toarray(), [[0, 1, 0], [0, 0, 2], [3, 0, 0]])
    assert "with 5 links; left out as adjacency_drop= asks" in str(graph.report)
    with pytest.raises(DataError, match=r"a\.npz: has no rows \['99'\]; there are"):
        read_stations(stations_layer(), adjacency=tmp_path / "a.npz", adjacency_drop=[99])


def test_an_npz_of_readings_names_stations_without_places(tmp_path: Path) -> None:
    """Where nobody knows where the stations are, their readings and links are enough."""
    path = tmp_path / "inflow.npz"
    times = np.arange(3) * 600
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.savez(path, values=values, timestamps=times, sensor_ids=np.array(["0", "1"]))
    graph = read_stations(path, path, missing_coordinates="keep")
    assert list(graph.node_ids) == ["0", "1"]
    assert graph.nodes.geometry.isna().all()
    np.testing.assert_array_equal(graph.values[..., 0], values)
    with pytest.raises(DataError, match="missing_coordinates='keep' makes a graph without places"):
        read_stations(path, path)
    np.savez(path, values=values, timestamps=times, sensor_ids=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"`sensor_ids`: has shape \(2, 2\); it must be one id"):
        read_stations(path, path, missing_coordinates="keep")


def test_a_link_that_is_repeated_is_one_edge(tmp_path: Path) -> None:
    """The same line again is dropped with a warning; the way back is a link of its own."""
    lines = [f"{IDS[i]},{IDS[j]},2" for i, j in [(0, 1), (1, 2), (0, 1), (1, 0), (0, 1)]]
    (tmp_path / "links.csv").write_text("\n".join(["source,target,weight", *lines]))
    graph = read_stations(stations_layer(), adjacency=tmp_path / "links.csv")
    np.testing.assert_array_equal(graph.edge_index, [[0, 1, 1], [1, 2, 0]])
    repeated = f"2 links repeat another: from {IDS[0]!r} to {IDS[1]!r}; they were dropped"
    assert repeated in str(graph.report)


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "speed"}, "`readings`: is a single table, not 'speed'; key= was not used"),
        ({"layer": "all"}, "`stations`: is a single table, not 'all'; layer= was not used"),
        ({"unit": "km/h"}, "`unit`: 'km/h' cannot be the unit of all of ['value', 'flow']"),
        ({"adjacency_ids": IDS}, "`adjacency_ids`: there is no adjacency"),
    ],
)
def test_an_option_without_use_is_reported(options: dict, message: str) -> None:
    """What cannot take effect is said, because somebody expects that it does."""
    frame = long_frame().assign(flow=1.0)
    report = read_stations(stations_layer(), frame, **options).report
    assert message in str(report)
    assert not read_stations(stations_layer(), frame).report.warnings


# ---------------------------------------------------------------- properties


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_order_of_rows_and_columns_gives_the_same_graph(data: st.DataObject) -> None:
    """Rows of a long table and columns of a wide one may come in any order."""
    rows = data.draw(st.permutations(range(len(long_frame()))))
    columns = data.draw(st.permutations(IDS))
    check(read_stations(stations_layer(), long_frame().iloc[rows]))
    check(read_stations(stations_layer(), wide_frame()[columns]))


@settings(deadline=None, max_examples=30)
@given(hours=st.integers(-24, 24))
def test_shift_in_time_shifts_the_graph(hours: int) -> None:
    """Readings later by some hours give the same graph later by these hours."""
    frame = wide_frame()
    frame.index = frame.index + pd.Timedelta(hours, unit="h")
    graph = read_stations(stations_layer(), frame)
    assert (graph.time == STEPS + pd.Timedelta(hours, unit="h")).all()
    np.testing.assert_array_equal(graph.values[:, :, 0], VALUES)


def test_a_large_table_is_read_without_a_loop_per_row(tmp_path: Path) -> None:
    """200,000 rows take well under the time that a loop over them would (a guard, not a figure)."""
    index = pd.date_range("2024-01-01", periods=1000, freq="5min", name="time")
    frame = pd.DataFrame(np.ones((1000, 200), dtype=np.float32), index=index)
    frame.columns = [str(i) for i in range(200)]
    table = frame.reset_index().melt("time", var_name="id", value_name="speed")
    with gzip.open(tmp_path / "long.csv.gz", "wt", compresslevel=1) as file:
        table.to_csv(file, index=False)
    places = pd.DataFrame({"id": range(200), "lat": 1.0, "lon": np.arange(200) / 100})
    graph = read_stations(places, tmp_path / "long.csv.gz")
    assert graph.values.shape == (1000, 200, 1)
    assert graph.mask.all()
