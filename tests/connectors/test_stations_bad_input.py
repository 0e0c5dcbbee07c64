"""Bad stations and readings: each gives one DataError that says what, where and what to do."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import h5py
import numpy as np
import pandas as pd
import pytest
from stgraph_connectors.stations import read_stations

from stgraph.errors import DataError

STATIONS = "sensor_id,latitude,longitude\na,-36.85,174.76\nb,-36.86,174.77\n"
LONG = "sensor_id,time,speed\n" + "".join(
    f"{i},2024-01-01 0{h}:00,{h}\n" for i in "ab" for h in range(5)
)
WIDE = "time,a,b\n" + "".join(f"2024-01-01 0{h}:00,{h},{h}\n" for h in range(5))
Call = tuple[Any, Any, dict[str, Any]]
Make = Callable[[Path], Call]


def text(
    stations: str | bytes = STATIONS,
    readings: str | bytes | None = LONG,
    *,
    suffix: str = ".csv",
    **options: Any,
) -> Make:
    """Write stations.csv and readings.csv (or another ending) and read them."""

    def make(folder: Path) -> Call:
        for name, content in (("stations.csv", stations), (f"readings{suffix}", readings)):
            if content is not None:
                raw = content if isinstance(content, bytes) else content.encode()
                (folder / name).write_bytes(raw)
        source = None if readings is None else folder / f"readings{suffix}"
        return folder / "stations.csv", source, options

    return make


def layer(**columns: Any) -> gpd.GeoDataFrame:
    """A layer of two points."""
    points = gpd.points_from_xy([174.76, 174.77], [-36.85, -36.86], crs=4326)
    return gpd.GeoDataFrame({"id": ["a", "b"], **columns}, geometry=points)


def frames(stations: Any, readings: Any = None, **options: Any) -> Make:
    """Pass tables as they are."""
    return lambda _: (stations, readings, options)


def wide(values: Any = None, index: Any = None, columns: Any = ("a", "b")) -> pd.DataFrame:
    """A wide table of five hours."""
    index = pd.date_range("2024-01-01", periods=5, freq="h") if index is None else index
    values = np.ones((5, 2)) if values is None else values
    return pd.DataFrame(values, index=index, columns=list(columns))


def npz(**arrays: Any) -> Make:
    """Write readings.npz with some arrays changed; None leaves one out."""
    whole = {
        "values": np.ones((5, 2), dtype=np.float32),
        "timestamps": 3600 * np.arange(5) + 1_704_067_200,
        "sensor_ids": np.array(["a", "b"]),
    }

    def make(folder: Path) -> Call:
        parts = {name: a for name, a in {**whole, **arrays}.items() if a is not None}
        np.savez(folder / "readings.npz", **parts)
        return layer(), folder / "readings.npz", {}

    return make


def adjacency(name: str, content: Any, **options: Any) -> Make:
    """Write an adjacency file beside a good layer."""

    def make(folder: Path) -> Call:
        path = folder / name
        if isinstance(content, dict):
            np.savez(path, **content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)
        return layer(), None, {"adjacency": path, **options}

    return make


def file(
    name: str, write: Callable[[Path], Any], *, readings: bool = False, **options: Any
) -> Make:
    """Write any file and read it as stations or readings."""

    def make(folder: Path) -> Call:
        write(folder / name)
        return (layer(), folder / name, options) if readings else (folder / name, None, options)

    return make


def two_layers(path: Path) -> None:
    layer().to_file(path, layer="inner")
    layer().to_file(path, layer="outer")


def zipped(path: Path) -> None:
    path.write_bytes(gzip.compress(LONG.encode() * 50))


def truncated(write: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Write a file and keep its first half."""

    def spoil(path: Path) -> None:
        write(path)
        raw = path.read_bytes()
        path.write_bytes(raw[: len(raw) // 2])

    return spoil


def swap(old: str, new: str, *, base: str = LONG) -> str:
    """Change one cell of a text."""
    assert base.count(old) >= 1
    return base.replace(old, new, 1)


CASES: dict[str, tuple[Make, tuple[str, ...]]] = {
    # files
    "missing file": (
        lambda folder: (folder / "statons.csv", None, {}),
        ("statons.csv: no such file", "check the path"),
    ),
    "folder": (lambda folder: (folder, None, {}), ("is a folder", "name the file in it")),
    "empty file": (text("", None), ("stations.csv: the file is empty",)),
    "blank file": (text(" \n\n", None), ("stations.csv: the file is empty",)),
    "header only": (text("id,lat,lon\n", None), ("stations.csv: there is a header but no rows",)),
    "unknown ending": (
        file("stations.docx", lambda p: p.write_text("x")),
        ("stations.docx: unknown kind of file '.docx'", "known endings: .csv"),
    ),
    "number as a source": (frames(7), ("`stations`: is a int", "pass a path or a table")),
    "excel with the wrong ending": (
        text(b"PK\x03\x04rest", None),
        ("stations.csv: is an Excel workbook or a zip", "save the sheet as CSV"),
    ),
    "web page": (text("<!DOCTYPE html>", None), ("is a web page", "download the file itself")),
    "git-lfs pointer": (
        text("version https://git-lfs.github.com/spec/v1\n", None),
        ("pointer of git-lfs", "git lfs pull"),
    ),
    "binary": (text(b"id,lat\x00,lon\n1,2,3\n", None), ("byte 6 is zero",)),
    "gzip cut off": (
        file("readings.csv.gz", truncated(zipped), readings=True),
        ("readings.csv.gz: cannot be unpacked, it is damaged or cut off", "download it again"),
    ),
    "gzip that is none": (
        file("readings.csv.gz", lambda p: p.write_text(LONG), readings=True),
        ("readings.csv.gz: cannot be unpacked",),
    ),
    "csv cut off": (
        text(readings=LONG[: LONG.rindex(",")]),
        ("readings.csv, line 11: has 2 fields where line 1 has 3 (the last line", "cut off"),
    ),
    "too many fields": (
        text(readings=swap("01:00,1", "01:00,1,5")),
        ("readings.csv, line 3: has 4 fields where line 1 has 3; 1 such line(s)", "repair"),
    ),
    "column names twice": (
        text("id,lat,lon,lat\n1,2,3,4\n", None),
        ("stations.csv, line 1: columns appear twice: ['lat']", "rename them"),
    ),
    "readings without header": (
        text(readings="1,2,3\n4,5,6\n"),
        ("readings.csv, line 1: holds data where column names are expected",),
    ),
    "stations without header": (
        text("1,2,3,4,5\n6,7,8,9,0\n", None),
        ("stations.csv, line 1: no header over 5 columns", "write a line of column names"),
    ),
    "parquet cut off": (
        file("readings.parquet", truncated(lambda p: wide().to_parquet(p)), readings=True),
        ("readings.parquet: cannot be read as Parquet, it is damaged or cut off",),
    ),
    "geopackage cut off": (
        file("stations.gpkg", truncated(lambda p: layer().to_file(p))),
        ("stations.gpkg: cannot be read as vector layer",),
    ),
    "geojson that is none": (
        file("stations.geojson", lambda p: p.write_text('{"type": "FeatureColl')),
        ("stations.geojson: cannot be read as vector layer",),
    ),
    "several layers": (
        file("city.gpkg", two_layers),
        ("city.gpkg: holds 2 layers; name one with layer=: ['inner', 'outer']",),
    ),
    "unknown layer": (
        file("city.gpkg", two_layers, layer="iner"),
        ("no layer 'iner' (did you mean 'inner'?)", "there are ['inner', 'outer']"),
    ),
    "hdf cut off": (
        file("metr-la.h5", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n0000"), readings=True),
        ("metr-la.h5: cannot be read as HDF5", "download it again"),
    ),
    "hdf of something else": (
        file("model.h5", lambda p: h5py.File(p, "w").create_group("w").file.close(), readings=True),
        ("model.h5: holds no table of pandas, only ['w']", "metr-la.h5"),
    ),
    "empty table": (frames(layer().iloc[:0]), ("`stations`: the table has no rows",)),
    # stations
    "no id column": (
        text("road,lat,lon\nx,1,2\n", None),
        ("stations.csv: no column has a known name for `id_column`", "['road', 'lat', 'lon']"),
    ),
    "several id columns": (
        text("id,sensor_id,lat,lon\n1,2,3,4\n", None),
        ("several columns could be `id_column`: ['id', 'sensor_id']", "say which with id_column="),
    ),
    "misspelt id column": (
        text(STATIONS, None, id_column="sensorid"),
        ("no column 'sensorid' (did you mean 'sensor_id'?)", "correct id_column="),
    ),
    "ids twice": (
        text(STATIONS + "a,-36.9,174.8\n", None),
        ("stations.csv, column `sensor_id`, line 4: 1 stations have an id that", "['a']"),
    ),
    "station without id": (
        text(STATIONS + ",-36.9,174.8\n", None),
        ("column `sensor_id`, line 4: 1 stations have no id", "give every station an id"),
    ),
    "no coordinates at all": (
        text("sensor_id,road\na,x\n", None),
        ("stations.csv: no columns of coordinates", "missing_coordinates='keep'"),
    ),
    "swapped coordinates": (
        text("id,lat,lon\na,174.76,-36.85\nb,174.77,-36.86\n", None),
        ("column `lat`, line 2", "look swapped (2 station(s)); swap the two columns"),
    ),
    "latitude out of range": (
        text("id,lat,lon\na,-36.85,174\nb,-368.6,174\n", None),
        ("column `lat`, line 3", "latitude -368.6, longitude 174 is outside of the globe"),
    ),
    "metres called degrees": (
        text("id,lat,lon\na,5900000,1750000\n", None),
        ("line 2", "these look like metres", "name their CRS: x_column="),
    ),
    "degrees called metres": (
        text("id,x,y\na,174.76,-36.85\n", None, crs=2193),
        ("line 2: (174.76, -36.85) looks like degrees", "pass crs=4326"),
    ),
    "x and y without crs": (
        text("id,x,y\na,1750000,5900000\n", None),
        ("columns `x` and `y` have no CRS", "crs=2193"),
    ),
    "unknown crs": (
        text("id,x,y\na,1,2\n", None, crs="EPSG:999999"),
        ("`crs`: 'EPSG:999999' is no CRS", "use an EPSG code"),
    ),
    "projected crs for degrees": (
        text(STATIONS, None, crs=2193),
        ("in metres, but the columns are latitude and longitude", "leave crs= out"),
    ),
    "both pairs of columns": (
        text(STATIONS, None, lat_column="latitude", x_column="longitude"),
        ("both lat/lon and x/y columns are named", "name one pair only"),
    ),
    "decimal comma in a coordinate": (
        text('id,lat,lon\na,"-36,85",174.76\n', None),
        ("column `lat`, line 2: '-36,85' is no number", "pass decimal=','"),
    ),
    "infinite coordinate": (
        text("id,lat,lon\na,inf,174\nb,1,2\n", None),
        ("column `lat`, line 2: inf is no finite", "leave the cell empty"),
    ),
    "layer without crs": (
        frames(layer().set_crs(None, allow_override=True)),
        ("`stations`: the layer names no CRS", "crs=4326"),
    ),
    "layer with another crs": (
        frames(layer(), crs=2193),
        ("the layer is in WGS 84 but crs= says", "to_crs()"),
    ),
    "layer in metres called degrees": (
        frames(layer().to_crs(2193).set_crs(4326, allow_override=True)),
        ("is outside of the globe", "these look like metres"),
    ),
    "missing coordinates refused": (
        text("id,lat,lon\na,1,2\nb,,3\n", None, missing_coordinates="error"),
        ("1 of 2 stations have no coordinates: ['b']", "complete them"),
    ),
    "no station has a place": (
        text("id,lat,lon\na,,\nb,0,0\n", None),
        ("2 of 2 stations have no coordinates", "missing_coordinates='keep'"),
    ),
    "bad wkt": (
        text("id,geometry\na,POINT (1 2)\nb,POINT (1\n", None, crs=4326),
        ("column `geometry`, line 3: 'POINT (1' is no well-known text", "POINT (174.76 -36.85)"),
    ),
    # readings
    "no reading belongs to a station": (
        text(readings=LONG.replace("a,2", "x,2").replace("b,2", "y,2")),
        ("no reading belongs to a station: ids are ['x', 'y'], those of the stations ['a', 'b']",),
    ),
    "no column is named like a station": (
        text(readings=WIDE.replace("a,b", "x,y")),
        ("no column is named like a station: columns are ['x', 'y']", "reading_id_column="),
    ),
    "several columns for one station": (
        frames(layer(), wide(columns=["a", "a "])),
        ("several columns belong to one station: ['a']", "rename or drop them"),
    ),
    "no time column": (
        text(readings="sensor_id,hour,speed\na,1,2\n"),
        ("no column has a known name for `time_column`", "say which with time_column="),
    ),
    "several time columns": (
        text(readings="sensor_id,date,time,speed\na,2024-01-01,10:00,2\n"),
        ("several columns could be `time_column`: ['date', 'time']",),
    ),
    "several reading id columns": (
        text(readings="id,sensor_id,time,speed\n1,a,2024-01-01,2\n"),
        ("several columns could be `reading_id_column`: ['id', 'sensor_id']",),
    ),
    "misspelt value column": (
        text(value_columns=["sped"]),
        ("no column 'sped' (did you mean 'speed'?)", "correct value_columns="),
    ),
    "no numbers": (
        text(readings="sensor_id,time,note\na,2024-01-01,wet\nb,2024-01-01,dry\n"),
        ("no column holds numbers", "name them in value_columns="),
    ),
    "a word among numbers": (
        text(readings=swap("03:00,3", "03:00,three")),
        ("readings.csv, column `speed`, line 5: 'three' is no number (1 such cell(s))", "correct"),
    ),
    "spaces in a number": (
        text(readings=swap("03:00,3", "03:00,1 203")),
        ("line 5: '1 203' is no number", "take the spaces out"),
    ),
    "decimal comma": (
        text(readings=swap("03:00,3", '03:00,"3,5"')),
        ("line 5: '3,5' is no number", "pass decimal=','"),
    ),
    "a word in a wide table": (
        text(readings=swap("02:00,2,2", "02:00,2,broken", base=WIDE)),
        ("readings.csv, column `b`, line 4: 'broken' is no number",),
    ),
    "reading beyond 32 bits": (
        text(readings=swap("00:00,0", "00:00,1e39")),
        ("column `speed`, line 2: 1e+39 is no finite 32-bit number",),
    ),
    "infinite reading": (
        text(readings=swap("03:00,3", "03:00,inf")),
        ("column `speed`, line 5: inf is no finite 32-bit number", "leave the cell empty"),
    ),
    "too large for 32 bits": (
        text(readings=swap("02:00,2,2", "02:00,2,1e300", base=WIDE)),
        ("column `b`, line 4: 1e+300 is no finite 32-bit number",),
    ),
    "unreadable time": (
        text(readings=swap("2024-01-01 03:00", "2024-13-01 03:00")),
        ("column `time`, line 5: '2024-13-01 03:00' cannot be read as a time", "time_format="),
    ),
    "day or month first": (
        text(readings=LONG.replace("2024-01-01", "01/02/2024")),
        ("column `time`", "can be read as day first or month first", "time_format="),
    ),
    "wrong time format": (
        text(time_format="%d.%m.%Y"),
        ("column `time`, line 2: '2024-01-01 00:00' cannot be read as a time (10 such",),
    ),
    "a year typed wrong": (
        text(readings=LONG + "b,2204-01-01 00:00,1\n"),
        ("readings.csv, line 12: the grid would have 3,155,666 cells"
         , "2204-01-01T00:00:00Z stands apart by 180.0 years", "stop='2204-01-01T00:00:00Z'"),
    ),
    "a grid too large": (
        text(readings=LONG + "b,2024-01-02 00:00,1\n", max_cells=20),
        ("the grid would have 50 cells, 25 steps", "max_cells=50"),
    ),
    "one instant only": (
        frames(layer(), wide().iloc[:1]),
        ("no station has two instants, so the step is not known", "say it with step_minutes="),
    ),
    "duplicates refused": (
        text(readings=LONG + "a,2024-01-01 00:00,9\n", duplicates="error"),
        ("readings.csv, line 12: 1 rows repeat earlier pairs of station and instant, 1 of these",),
    ),
    "nothing between start and stop": (
        text(start="2030-01-01"),
        ("none of 10 rows is of a station with a place between start and stop",),
    ),
    "parts that are not alike": (
        lambda folder: (layer(), [wide(), pd.DataFrame(
            {"id": ["a", "b"], "time": ["2024-01-01"] * 2, "v": [1, 2]})], {}),
        ("parts are not alike: [", "`readings`: wide ['value']", "read them one by one"),
    ),
    # npz
    "npz cut off": (
        file("readings.npz", truncated(lambda p: np.savez(p, values=np.ones(999))), readings=True),
        ("readings.npz: cannot be read as npz",),
    ),
    "npz with a pickle inside": (
        npz(sensor_ids=np.array(["a", None], dtype=object)),
        ("readings.npz: holds Python objects", "save plain numbers and text"),
    ),
    "npz without values": (
        npz(values=None, value=np.ones((5, 2))),
        ("no array `values` (did you mean 'value'?)", "rename it"),
    ),
    "npz of another shape": (
        npz(values=np.ones((5, 3))),
        ("`values`: has shape (5, 3, 1) for 5 timestamps and 2 ids",),
    ),
    "npz of text": (
        npz(values=np.full((5, 2), "x")),
        ("readings.npz, `values`: has dtype <U1", "it must hold numbers"),
    ),
    "npz with infinity": (
        npz(values=np.array([[1, 2], [1, np.inf], [1, 2], [1, 2], [1, 2.0]])),
        ("column `values`, row 2: is infinite for 'b'", "write NaN"),
    ),
    # options
    "unknown zone": (
        text(zone="Pacific/Aukland"),
        ("`zone`: unknown time zone 'Pacific/Aukland' (did you mean 'Pacific/Auckland'?)",),
    ),
    "unknown rule": (
        text(aggregate="average"),
        ("`aggregate`: unknown value 'average'", "use one of ['mean', 'sum'"),
    ),
    "no step": (text(step_minutes=0), ("`step_minutes`: is 0", "give minutes above 0")),
    "unreadable start": (text(start="soon"), ("`start`: 'soon' cannot be read as a time",)),
    "unit of an unknown feature": (
        text(units={"sped": "km/h"}),
        ("`units`: no such feature: 'sped' (did you mean 'speed'?)", "there are ['speed']"),
    ),
    "unknown role": (
        text(roles={"speed": "goal"}),
        ("`roles`: role 'goal' of 'speed'", "use one of ['target'"),
    ),
    "format of times that is none": (
        text(time_format="%Q"),
        ("`time_format`: is '%Q' ('Q' is a bad directive", "as for strptime"),
    ),
    "step that is text": (text(step_minutes="5"), ("`step_minutes`: is '5'", "minutes above 0")),
    "readings that are no table": (
        frames(layer(), 5),
        ("`readings`: is a int; pass a path or a table",),
    ),
    "frame with a column twice": (
        frames(layer(), pd.DataFrame([[0, 1, 2]], columns=["time", "a", "a"])),
        ("`readings`: columns appear twice: ['a']; rename them",),
    ),
    "thousands separators": (
        text(readings=swap("00:00,0", '00:00,"1,234"')),
        ("'1,234' is no number", "take the thousands separators out"),
    ),
    # adjacency
    "adjacency that runs something": (
        adjacency("adj_mx.pkl", b"cos\nsystem\n(S'true'\ntR."),
        ("adj_mx.pkl: the pickle asks for 'os.system'", "was not run", "save the adjacency as npz"),
    ),
    "adjacency cut off": (
        adjacency("adj_mx.pkl", b"\x80\x02]q\x00("),
        ("adj_mx.pkl: ", "copy or download it again"),
    ),
    "adjacency not square": (
        adjacency("adj.npz", {"adj": np.ones((2, 3))}),
        ("adj.npz: the adjacency has shape (2, 3)", "it must be square"),
    ),
    "adjacency with NaN": (
        adjacency("adj.npz", {"adj": np.array([[1, np.nan], [0, 1]])}),
        ("adj.npz: weight nan from 0 to 1", "use finite weights"),
    ),
    "adjacency with negative weights": (
        adjacency("links.csv", "source,target,weight\na,b,-1\n"),
        ("links.csv: weight -1.0 from 'a' to 'b'",),
    ),
    "adjacency of other stations": (
        adjacency("links.csv", "source,target,weight\nx,y,1\n"),
        ("links.csv: ids ['x', 'y'] are none of the stations ['a', 'b']",),
    ),
    "adjacency without ends": (
        adjacency("links.csv", "start,end\na,b\n"),
        ("links.csv: has no columns `source` and `target`", "rename them"),
    ),
    "adjacency larger than the layer": (
        adjacency("adj.npz", {"adj": np.ones((3, 3))}),
        ("adj.npz: has 3 rows without ids, there are 2 stations", "adjacency_ids="),
    ),
    "adjacency with too few ids": (
        adjacency("adj.npz", {"adj": np.eye(2), "sensor_ids": np.array(["a"])}),
        ("adj.npz: names 1 stations for 2 rows of the matrix",),
    ),
    "adjacency smaller than the layer": (
        adjacency("adj.npz", {"adj": np.eye(1)}),
        ("adj.npz: has 1 rows without ids, there are 2 stations", "adjacency_ids="),
    ),
    "adjacency with more ids than rows": (
        adjacency("adj.npz", {"adj": np.eye(2)}, adjacency_ids=["a", "b", "c"]),
        ("adj.npz: has 2 rows for 3 ids", "give one id a row"),
    ),
    "adjacency with one id twice": (
        adjacency("adj.npz", {"adj": np.eye(2), "sensor_ids": np.array(["a", "a"])}),
        ("adj.npz: has 2 rows for 2 ids, 1 of them distinct", "give one id a row"),
    ),
    "adjacency with two weights for one link": (
        adjacency("links.csv", "source,target,weight\na,b,1\nb,a,1\na,b,2\n"),
        ("the link from 'a' to 'b' is listed with several weights", "keep one line a link"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name: str, tmp_path: Path) -> None:
    """Each case names the problem, its place and the way out, without a folder in the message."""
    make, fragments = CASES[name]
    stations, readings, options = make(tmp_path)
    with pytest.raises(DataError) as caught:
        read_stations(stations, readings, **options)
    message = str(caught.value)
    assert message.startswith("cannot read stations: ")
    for fragment in fragments:
        assert fragment in message, message
    assert "1 problem(s)" in message, message
    assert str(tmp_path) not in message


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    """One reading of the message is enough to repair both files."""
    (tmp_path / "stations.csv").write_text("id,lat,lon\na,174,-36\na,174,-37\nb,x,-36\n")
    (tmp_path / "readings.csv").write_text(
        "id,time,speed,flow\na,2024-01-01,1,x\nb,noon,2,3\na,2024-01-02,inf,4\nb,2024-01-03,1,9\n"
    )
    with pytest.raises(DataError) as caught:
        read_stations(tmp_path / "stations.csv", tmp_path / "readings.csv")
    message = str(caught.value)
    assert "6 problem(s)" in message
    for fragment in (
        "stations.csv, column `id`, line 3",
        "stations.csv, column `lat`, line 4: 'x'",
        "look swapped",
        "readings.csv, column `flow`, line 2: 'x'",
        "readings.csv, column `time`, line 3: 'noon'",
        "readings.csv, column `speed`, line 4: inf",
    ):
        assert fragment in message


def test_both_missing_files_are_named(tmp_path: Path) -> None:
    """Neither file is there: both are said."""
    with pytest.raises(DataError, match=r"(?s)a\.csv.*b\.csv"):
        read_stations(tmp_path / "a.csv", tmp_path / "b.csv")


def test_misspelt_options_fail_at_the_call() -> None:
    """No option is swallowed."""
    with pytest.raises(TypeError, match="time_colum"):
        read_stations(layer(), wide(), time_colum="time")  # type: ignore[call-arg]


def test_every_cut_of_a_csv_is_read_or_refused(tmp_path: Path) -> None:
    """A download that stopped anywhere never gives anything but a graph or a DataError."""
    for length in range(len(LONG)):
        (tmp_path / "readings.csv").write_text(LONG[:length])
        try:
            read_stations(layer(), tmp_path / "readings.csv", step_minutes=60)
        except DataError as error:
            assert "readings.csv" in str(error)  # noqa: PT017
