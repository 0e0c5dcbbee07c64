"""Rasters as graphs: what CF says, what GeoTIFF says, and the real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from stgraph_connectors.grids.raster import read_raster
from stgraph_connectors.sinks.geopackage import read_geopackage, write_geopackage

from stgraph.errors import DataError
from stgraph.graph import STGraph
from stgraph.neighbours import build_contiguity
from stgraph.registry import load

rasterio = pytest.importorskip("rasterio")
xr = pytest.importorskip("xarray")

HOURS = "hours since 2024-01-01"


def field(
    shape: tuple[int, int, int] = (3, 2, 4),
    *,
    lat: Any = None,
    lon: Any = None,
    time: Any = None,
    units: str = HOURS,
    calendar: str = "standard",
) -> Any:
    """A dataset whose values are their own positions."""
    n_steps, n_rows, n_columns = shape
    return xr.Dataset(
        {"temperature": (("time", "lat", "lon"), np.arange(np.prod(shape)).reshape(shape) * 1.0,
                         {"units": "K"})},
        coords={
            "time": ("time", np.arange(n_steps) * 1.0 if time is None else time,
                     {"units": units, "calendar": calendar}),
            "lat": ("lat", np.arange(n_rows) * 1.0 if lat is None else lat,
                    {"units": "degrees_north"}),
            "lon": ("lon", np.arange(n_columns) * 1.0 if lon is None else lon,
                    {"units": "degrees_east"}),
        },
    )  # fmt: skip


def store(dataset: Any, path: Path, **encoding: Any) -> Path:
    """Write a dataset as NetCDF."""
    plain = {name: {"_FillValue": None} for name in ("time", "lat", "lon") if name in dataset}
    dataset.to_netcdf(path, engine="netcdf4", encoding=plain | encoding)
    return path


def tiff(
    path: Path,
    values: Any,
    *,
    dates: Any = (),
    crs: Any = 25832,
    nodata: float | None = -9,
    scale: float = 1.0,
    transform: Any = None,
) -> Path:
    """Write bands of 100 m cells whose north-west corner is at (500000, 5500000)."""
    values = np.asarray(values)
    values = values if values.ndim == 3 else values[np.newaxis]
    profile = {
        "driver": "GTiff", "width": values.shape[2], "height": values.shape[1],
        "count": values.shape[0], "dtype": values.dtype, "crs": crs, "nodata": nodata,
        "transform": transform or rasterio.Affine(100, 0, 500_000, 0, -100, 5_500_000),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
        for band, date in enumerate(dates):
            file.set_band_description(band + 1, date)
        file.scales = [scale] * values.shape[0]
    return path


def series(graph: STGraph, cell: str) -> list[float]:
    return graph.values[:, graph.node_ids.get_loc(cell), 0].tolist()


# ---------------------------------------------------------------- NetCDF


def test_cells_by_hand(tmp_path: Path) -> None:
    """One node a cell, row by row as in the file; sides halfway between the centres."""
    graph = read_raster(store(field(), tmp_path / "t.nc"))
    assert list(graph.node_ids[:5]) == ["0_0", "0_1", "0_2", "0_3", "1_0"]
    assert graph.nodes.geometry["1_2"].equals(shapely.box(1.5, 0.5, 2.5, 1.5))
    assert graph.nodes.crs == "EPSG:4326"
    assert series(graph, "1_2") == [6, 14, 22]
    assert (graph.features[0].name, graph.features[0].unit) == ("temperature", "K")
    assert graph.step == pd.Timedelta(hours=1)
    assert str(graph.time[0]) == "2024-01-01 00:00:00+00:00"
    assert set(map(tuple, graph.edge_index.T)) == set(
        map(tuple, build_contiguity(graph).edge_index.T)
    )
    assert read_raster(tmp_path / "t.nc", neighbours="rook").n_edges == 2 * (6 + 4)


def test_packed_values_and_fill(tmp_path: Path) -> None:
    """Scale, offset and fill value are undone; a cell that never has data is no node."""
    dataset = field()
    dataset["temperature"][:, 0, 1] = np.nan
    dataset["temperature"][1, 1, 1] = np.nan
    packed = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -99}
    graph = read_raster(store(dataset, tmp_path / "t.nc", temperature=packed))
    assert "0_1" not in graph.node_ids
    assert graph.n_nodes == 7
    assert series(graph, "1_2") == [6, 14, 22]
    assert graph.mask[:, graph.node_ids.get_loc("1_1"), 0].tolist() == [True, False, True]
    assert "1 cells have no data at any step" in str(graph.report)


def test_longitudes_to_360_become_180(tmp_path: Path) -> None:
    """Columns keep their place, so that those on both sides of 180 degrees stay neighbours."""
    path = store(
        field((1, 2, 4), lon=[178.0, 179.0, 180.0, 181.0], lat=[60.0, 59.0]), tmp_path / "t.nc"
    )
    graph = read_raster(path, step_minutes=60)
    assert graph.nodes.geometry["0_3"].equals(shapely.box(-179.5, 59.5, -178.5, 60.5))
    assert graph.adjacency()[[1]].sum() == 5  # 179 degrees has 180 beside it
    boxed = read_raster(path, bbox=[178.5, 58, -179.5, 61])
    assert list(boxed.node_ids) == ["0_1", "0_2", "1_1", "1_2"]
    assert "2 of 4 columns have longitudes beyond 180" in str(graph.report)


def test_grid_around_the_globe_closes(tmp_path: Path) -> None:
    """The first column is beside the last; cells at the poles end there; a box may cross 0."""
    lat, lon = np.array([-90.0, 0.0, 90.0]), np.arange(0.0, 360.0, 30.0)
    path = store(field((1, 3, 12), lat=lat, lon=lon), tmp_path / "t.nc")
    graph = read_raster(path)
    assert graph.provenance["grid"]["columns_around"] == 12
    neighbours = graph.node_ids[graph.edge_index[0][graph.edge_index[1] == 12]]
    assert set(neighbours) == {"0_11", "0_0", "0_1", "1_11", "1_1", "2_11", "2_0", "2_1"}
    assert graph.nodes.geometry["0_1"].bounds == (15, -90, 45, -45)
    across = read_raster(path, bbox=[-31, -10, 31, 10])
    assert list(across.node_ids) == ["1_0", "1_1", "1_11"]
    assert across.values[0, :, 0].tolist() == [12, 13, 23]
    assert across.n_edges == 4


@pytest.mark.parametrize(
    ("west", "east", "columns"),
    [(0, 360, 12), (-180, 180, 12), (140, 220, 3), (140, -140, 3), (200, 250, 2), (-160, -110, 2)],
)
def test_boxes_beyond_180_degrees(west: float, east: float, columns: int, tmp_path: Path) -> None:
    """A box in longitudes to 360 holds all that lies in it, not the part up to 180 only."""
    lat, lon = np.array([0.0, 30.0]), np.arange(0.0, 360.0, 30.0)
    path = store(field((1, 2, 12), lat=lat, lon=lon), tmp_path / "t.nc")
    assert read_raster(path, bbox=[west, -90, east, 90]).n_nodes == 2 * columns


def test_bounds_and_descending_latitudes(tmp_path: Path) -> None:
    """Bounds of the file win over the middles; rows stay in the file's order."""
    dataset = field((1, 2, 2), lat=[50.0, 40.0])
    dataset["lat"].attrs["bounds"] = "lat_bnds"
    dataset["lat_bnds"] = (("lat", "bnds"), [[52.0, 45.0], [45.0, 41.0]])
    graph = read_raster(store(dataset, tmp_path / "t.nc"))
    assert graph.nodes.geometry["0_0"].bounds == (-0.5, 45, 0.5, 52)
    assert graph.nodes.geometry["1_0"].bounds == (-0.5, 41, 0.5, 45)
    assert graph.feature_names == ("temperature",)


def test_projection_from_grid_mapping(tmp_path: Path) -> None:
    """Projected x and y with a grid mapping; cells are in that CRS."""
    dataset = xr.Dataset(
        {"rain": (("y", "x"), np.ones((2, 2)), {"grid_mapping": "crs"}), "crs": ((), 0)},
        coords={
            "x": ("x", [1000.0, 3000.0], {"standard_name": "projection_x_coordinate"}),
            "y": ("y", [1000.0, 3000.0], {"standard_name": "projection_y_coordinate"}),
        },
    )
    dataset["crs"].attrs = gpd.GeoSeries(crs=3035).crs.to_cf()
    graph = read_raster(store(dataset, tmp_path / "t.nc"))
    assert graph.nodes.crs == "EPSG:3035"
    assert graph.nodes.geometry["0_0"].bounds == (0, 0, 2000, 2000)
    assert graph.nodes["rain"].tolist() == [1] * 4  # nothing changes: a column of the nodes
    assert graph.n_steps == 0


def test_turned_pole_becomes_degrees(tmp_path: Path) -> None:
    """A regional model on a rotated grid: polygons where the cells really are."""
    dataset = field((1, 2, 2)).rename(lat="rlat", lon="rlon")
    for name, axis in (("rlat", "grid_latitude"), ("rlon", "grid_longitude")):
        dataset[name].attrs = {"standard_name": axis, "units": "degrees"}
    dataset["temperature"].attrs["grid_mapping"] = "pole"
    dataset["pole"] = ((), 0)
    dataset["pole"].attrs = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": 39.25,
        "grid_north_pole_longitude": -162.0,
    }
    graph = read_raster(store(dataset, tmp_path / "t.nc"))
    assert graph.nodes.crs == "EPSG:4326"
    middle = graph.nodes.geometry["0_0"].centroid
    assert (middle.x, middle.y) == pytest.approx((18.0, 50.75), abs=0.01)


def test_static_variables_masks_and_levels(tmp_path: Path) -> None:
    """A land mask drops cells, heights become a column, one level is chosen."""
    dataset = field().expand_dims(level=[850.0, 500.0], axis=1).copy(deep=True)
    dataset["temperature"][:, 1] += 1000
    dataset["height"] = (("lat", "lon"), np.arange(8.0).reshape(2, 4))
    dataset["land"] = (("lat", "lon"), np.array([[1, 1, 0, 0], [0, 0, 2, 2]]))
    path = store(dataset, tmp_path / "t.nc")
    with pytest.raises(DataError, match=r"2 values of `level`: \[850.0, 500.0\]; choose one with"):
        read_raster(path)
    graph = read_raster(path, select={"level": 500}, mask="land")
    assert list(graph.node_ids) == ["0_0", "0_1", "1_2", "1_3"]
    assert graph.nodes["height"].tolist() == [0, 1, 6, 7]
    assert "land" not in graph.nodes
    assert series(graph, "1_2") == [1006, 1014, 1022]
    lakes = read_raster(path, select={"level": 500}, mask="land", mask_keep=[2])
    assert list(lakes.node_ids) == ["1_2", "1_3"]
    only = read_raster(path, variables=["temperature"], select={"level": 850.0}, mask="land")
    assert "height" not in only.nodes
    assert series(only, "0_0") == [0, 8, 16]


@pytest.mark.parametrize(
    ("how", "expected"),
    [("mean", 2.5), ("sum", 10.0), ("min", 0.0), ("max", 5.0), ("first", 0.0)],
)
def test_blocks_of_cells(how: Any, expected: float, tmp_path: Path) -> None:
    """Values 0 1 / 4 5 of the first block; the last blocks are what is left over."""
    graph = read_raster(store(field((1, 3, 4)), tmp_path / "t.nc"), every=2, reduce=how)
    assert list(graph.node_ids) == ["0_0", "0_1", "1_0", "1_1"]
    assert graph.values[0, 0, 0] == expected
    assert graph.nodes.geometry["0_0"].bounds == (-0.5, -0.5, 1.5, 1.5)
    assert graph.nodes.geometry["1_0"].bounds == (-0.5, 1.5, 1.5, 2.5)


def test_a_box_changes_neither_ids_nor_values(tmp_path: Path) -> None:
    """Property: reading a part is reading all and taking the part, with blocks or without."""
    rng = np.random.default_rng(3)
    dataset = field((5, 9, 12), lon=np.arange(170.0, 182.0))
    dataset["temperature"].values[rng.random((5, 9, 12)) < 0.3] = np.nan
    path = store(dataset, tmp_path / "t.nc")
    for every in (1, 2, 5):
        whole = read_raster(path, every=every, neighbours="none")
        part = read_raster(path, every=every, bbox=[172, 2, -179.5, 6], neighbours="none")
        assert 0 < part.n_nodes < whole.n_nodes
        assert part.equals(whole.select_nodes(part.node_ids))


def test_only_what_is_wanted_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A box, a span and one variable of a large file touch a small part of it."""
    dataset = field((48, 60, 80), time=np.arange(48) * 1.0)
    dataset["other"] = dataset["temperature"] * 2
    path = store(dataset, tmp_path / "t.nc", temperature={"chunksizes": (4, 60, 80)})
    from stgraph_connectors.grids._netcdf import NetcdfField

    read: list[int] = []
    plain = NetcdfField.read

    def counting(self: NetcdfField, *where: Any) -> Any:
        part = plain(self, *where)
        read.append(part.size)
        return part

    monkeypatch.setattr(NetcdfField, "read", counting)
    graph = read_raster(
        path, variables=["temperature"], bbox=[10, 10, 19, 14], start="2024-01-01 10:00",
        stop="2024-01-01 13:00",
    )  # fmt: skip
    assert graph.values.shape == (3, 50, 1)
    assert sum(read) == 3 * 50


def test_zarr_and_a_dataset_in_memory(tmp_path: Path) -> None:
    """The same graph from NetCDF, Zarr, and a dataset that xarray has decoded."""
    from_file = read_raster(store(field(), tmp_path / "t.nc"))
    xr.decode_cf(field()).to_zarr(tmp_path / "t.zarr", zarr_format=2, consolidated=True)
    assert read_raster(tmp_path / "t.zarr").equals(from_file)
    assert read_raster(xr.decode_cf(field())).equals(from_file)
    assert read_raster(field()).equals(from_file)


def test_files_of_one_year_each(tmp_path: Path) -> None:
    """Parts are joined in order of time, by a list, a folder or a pattern."""
    whole = field((4, 2, 2))
    store(whole.isel(time=slice(2, 4)), tmp_path / "a.nc")
    store(whole.isel(time=slice(0, 2)), tmp_path / "b.nc")
    expected = read_raster(whole)
    for source in ([tmp_path / "a.nc", tmp_path / "b.nc"], tmp_path, tmp_path / "*.nc"):
        assert read_raster(source).equals(expected)
    store(field((2, 2, 3)), tmp_path / "c.nc")
    with pytest.raises(DataError, match=r"c.nc has another grid or CRS than a.nc"):
        read_raster(tmp_path)


def test_files_are_closed_again(tmp_path: Path) -> None:
    """A file that was read can be written anew, and a dataset of the caller stays open."""
    path = store(field(), tmp_path / "t.nc")
    read_raster(path)
    store(field((1, 2, 2)), path)
    assert read_raster(path).n_nodes == 4
    with xr.open_dataset(path) as dataset:
        read_raster(dataset)
        assert read_raster(dataset).n_nodes == 4


def test_infinite_values_count_as_missing() -> None:
    dataset = field()
    dataset["temperature"][0, 0, 0] = np.inf
    graph = read_raster(dataset)
    assert not graph.mask[0, 0, 0]
    assert "1 values are no finite 32-bit numbers" in str(graph.report)


# ---------------------------------------------------------------- time


def test_gaps_are_missing_steps(tmp_path: Path) -> None:
    graph = read_raster(store(field(time=[0.0, 1.0, 4.0]), tmp_path / "t.nc"))
    assert graph.n_steps == 5
    assert graph.mask[:, 0, 0].tolist() == [True, True, False, False, True]
    assert "2 steps have no source; they are missing" in str(graph.report)


def test_months_get_a_mean_step(tmp_path: Path) -> None:
    """Steps of 30.436875 days from the first label on; the labels are kept."""
    first = pd.date_range("2023-01-01", periods=14, freq="MS")
    days = (first - first[0]).days.to_numpy(dtype=float)
    path = store(
        field((14, 1, 2), lat=[5.0], time=days, units="days since 2023-01-01"), tmp_path / "t.nc"
    )
    graph = read_raster(path)
    assert graph.step == pd.Timedelta(days=30.436875)
    assert graph.provenance["time_labels"] == [f"{day:%Y-%m-%d}" for day in first]
    assert np.abs((graph.time.tz_localize(None) - first).total_seconds()).max() < 2.5 * 86400
    assert "steps of 1 month(s) have no fixed length" in str(graph.report)
    with pytest.raises(DataError, match=r"pass calendar='nearest' for a mean step of 30.4369 days"):
        read_raster(path, calendar="error")
    weekly = read_raster(path, step_minutes=7 * 1440)
    assert weekly.step == pd.Timedelta(days=7)


def test_units_of_months_that_nobody_else_decodes(tmp_path: Path) -> None:
    """ "months since" of the real calendar: calendar months, one missing."""
    path = store(field(time=[0, 1, 3], units="months since 2000-01-15"), tmp_path / "t.nc")
    graph = read_raster(path)
    assert graph.provenance["time_labels"] == ["2000-01-15", "2000-02-15", None, "2000-04-15"]
    assert graph.mask[:, 0, 0].tolist() == [True, True, False, True]


def test_days_of_360_are_spread_over_the_real_year(tmp_path: Path) -> None:
    """360 values on 366 days: none lost, none doubled, 6 days missing, the year stays in place."""
    time = np.arange(720.0)
    path = store(
        field((720, 1, 1), lat=[5.0], lon=[5.0], time=time, units="days since 2024-01-01",
              calendar="360_day"), tmp_path / "t.nc",
    )  # fmt: skip
    with pytest.raises(DataError, match="is a single cell without bounds"):
        read_raster(path)
    path = store(
        field((720, 1, 2), lat=[5.0], time=time, units="days since 2024-01-01", calendar="360_day"),
        tmp_path / "u.nc",
    )
    graph = read_raster(path)
    assert graph.step == pd.Timedelta(days=1)
    assert graph.mask[:, 0, 0].sum() == 720
    assert graph.n_steps == 366 + 365
    start_of_2025 = int(np.flatnonzero(graph.time == pd.Timestamp("2025-01-01", tz="UTC"))[0])
    assert graph.values[start_of_2025, 0, 0] == 360 * 2
    assert "the calendar of '360_day' is not that of the world" in str(graph.report)
    with pytest.raises(DataError, match="pass calendar='nearest' to put it on real days"):
        read_raster(path, calendar="error")


def test_calendar_without_leap_days(tmp_path: Path) -> None:
    """Dates stay; 29 February 2024 is missing; six-hourly steps keep their hours."""
    path = store(
        field((4 * 4, 1, 2), lat=[5.0], time=np.arange(16.0) * 6, calendar="noleap",
              units="hours since 2024-02-27"), tmp_path / "t.nc",
    )  # fmt: skip
    graph = read_raster(path)
    assert graph.n_steps == 20
    missing = graph.time[~graph.mask[:, 0, 0]]
    assert [str(time) for time in missing] == [
        f"2024-02-29 {h:02d}:00:00+00:00" for h in (0, 6, 12, 18)
    ]


def test_one_instant(tmp_path: Path) -> None:
    path = store(field((1, 2, 2)), tmp_path / "t.nc")
    assert read_raster(path).step is None
    assert read_raster(path, step_minutes=30).step == pd.Timedelta(minutes=30)


# ---------------------------------------------------------------- GeoTIFF


def test_a_band_a_step(tmp_path: Path) -> None:
    """Dates in the descriptions; no data and scale are undone."""
    values = np.array([[[1, 2], [3, -9]], [[5, 6], [-9, -9]]], dtype=np.int16)
    path = tiff(tmp_path / "t.tif", values, dates=["2024-01-01", "2024-01-02"], scale=0.5)
    graph = read_raster(path, units={"value": "mm"})
    assert list(graph.node_ids) == ["0_0", "0_1", "1_0"]
    assert graph.nodes.crs == "EPSG:25832"
    assert graph.nodes.geometry["1_0"].bounds == (500_000, 5_499_800, 500_100, 5_499_900)
    assert graph.values[..., 0].tolist()[0] == [0.5, 1, 1.5]
    assert graph.mask[1, :, 0].tolist() == [True, True, False]
    assert graph.features[0].unit == "mm"
    assert graph.step == pd.Timedelta(days=1)


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (("rain_20240101.tif", "rain_20240102.tif"), None),
        (("rain_2024-01-01T00.tif", "rain_2024-01-02T00.tif"), None),
        (("tile42.2024.01.01.tif", "tile42.2024.01.02.tif"), None),
        (("rain-2024001.tif", "rain-2024002.tif"), "%Y%j"),
        (("01Jan2024.tif", "02Jan2024.tif"), "%d%b%Y"),
    ],
)
def test_a_file_a_step(names: tuple[str, str], pattern: str | None, tmp_path: Path) -> None:
    """Dates in file names, in any order of files."""
    for i, name in enumerate(names):
        tiff(tmp_path / name, np.full((2, 2), i, dtype=np.float32))
    graph = read_raster([tmp_path / names[1], tmp_path / names[0]], time_pattern=pattern)
    assert graph.values[:, 0, 0].tolist() == [0, 1]
    assert [f"{time:%Y-%m-%d}" for time in graph.time] == ["2024-01-01", "2024-01-02"]


def test_what_is_guessed_or_overruled_of_a_geotiff_is_told(tmp_path: Path) -> None:
    """A number in a name that may be a year, and a CRS other than that of the file."""
    path = tiff(tmp_path / "tile_2048.tif", np.ones((2, 2), dtype=np.float32))
    graph = read_raster(path, crs=32632)
    assert graph.nodes.crs == "EPSG:32632"
    assert "is of 2048-01-01 00:00, by its name; time_pattern=" in str(graph.report)
    assert "the file says ETRS89 / UTM zone 32N, crs= says WGS 84 / UTM" in str(graph.report)
    assert not read_raster(path, crs=25832).report.warnings


def test_bands_without_dates(tmp_path: Path) -> None:
    """They are steps if the first instant is given, else variables of the nodes."""
    path = tiff(tmp_path / "t.tif", np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    graph = read_raster(path, first_time="2024-01-01", step_minutes=60, feature="rain")
    assert graph.feature_names == ("rain",)
    assert series(graph, "0_1") == [1, 5]
    east = read_raster(path, first_time="2024-01-01 02:00+02:00", step_minutes=60)
    assert east.time.equals(graph.time)
    static = read_raster(path)
    assert static.nodes[["band_1", "band_2"]].to_numpy().tolist()[1] == [1, 5]
    assert "2 bands without date or name; taken as variables" in str(static.report)
    named = tiff(tmp_path / "n.tif", np.zeros((2, 2, 2), dtype=np.float32), dates=["rain", "snow"])
    columns = read_raster(named, variables=["snow"]).nodes.columns
    assert "snow" in columns
    assert "rain" not in columns


# ---------------------------------------------------------------- bad input


def refuse(message: str, source: Any, **options: Any) -> None:
    with pytest.raises(DataError, match=message):
        read_raster(source, **options)


def test_ten_million_cells_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """With the size and what would do."""
    path = tmp_path / "large.tif"
    profile = {"driver": "GTiff", "width": 4000, "height": 2500, "count": 1, "dtype": "uint8",
               "crs": 25832, "transform": rasterio.Affine(10, 0, 0, 0, -10, 0),
               "sparse_ok": True}  # fmt: skip
    with rasterio.open(path, "w", **profile):
        pass
    refuse(
        r"large.tif: has 2,500 x 4,000 = 10,000,000 cells, 2,000,000 are allowed; cut it with "
        r"bbox=, take blocks with every=3, or pass max_cells=10000000", path,
    )  # fmt: skip


def test_too_many_values_are_refused() -> None:
    refuse(r"3 steps of 2 x 4 = 8 cells and 1 variable\(s\) are 24 values", field(), max_values=20)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    """Cut off in the head or in the middle, of another kind, empty, or not there."""
    rng = np.random.default_rng(0)
    dataset = field((50, 20, 20))
    dataset["temperature"].values = rng.random((50, 20, 20))
    whole = store(dataset, tmp_path / "t.nc", temperature={"chunksizes": (1, 20, 20)}).read_bytes()
    for name, share in (("head.nc", 0.01), ("middle.nc", 0.5)):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        refuse(rf"{name}.*damaged or cut off", tmp_path / name)
    (tmp_path / "text.nc").write_text("hello")
    refuse(r"text.nc: cannot be read as NetCDF", tmp_path / "text.nc")
    (tmp_path / "text.tif").write_text("hello")
    refuse(r"text.tif: cannot be read as GeoTIFF", tmp_path / "text.tif")
    (tmp_path / "none.nc").touch()
    refuse(r"none.nc: the file is empty", tmp_path / "none.nc")
    refuse(r"no such file in .* \(did you mean 'text.nc'\?\)", tmp_path / "tekst.nc")
    refuse(r"unknown kind of file '.grib'", _touched(tmp_path / "a.grib"))
    refuse(r"no file is like 'x\*.nc'", tmp_path / "x*.nc")
    (tmp_path / "folder").mkdir()
    refuse(r"folder: holds no GeoTIFF or NetCDF", tmp_path / "folder")
    (tmp_path / "bad.zarr").mkdir()
    refuse(r"bad.zarr: cannot be read as Zarr", tmp_path / "bad.zarr")
    refuse(r"`source`: is an empty list", [])


def _touched(path: Path) -> Path:
    path.write_bytes(b"GRIB")
    return path


def test_a_tiff_cut_off_in_its_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tiff(tmp_path / "rain_20240101.tif", rng.random((300, 300)).astype(np.float32))
    path.write_bytes(path.read_bytes()[:100_000])
    refuse(r"rain_20240101.tif.*damaged or cut off", path)


def test_geotiffs_that_cannot_be(tmp_path: Path) -> None:
    values = np.zeros((2, 2), dtype=np.float32)
    refuse(
        r"has no georeference: no CRS; say it with crs=", tiff(tmp_path / "a.tif", values, crs=None)
    )
    plain = rasterio.Affine.identity()
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = tiff(tmp_path / "b.tif", values, crs=None, transform=plain)
    refuse(r"has no georeference: no transform", path)
    turned = rasterio.Affine(100, 10, 0, 10, -100, 0)
    refuse(r"rows and columns are turned", tiff(tmp_path / "c.tif", values, transform=turned))
    first = tiff(tmp_path / "d_20240101.tif", values)
    other = tiff(tmp_path / "d_20240102.tif", np.zeros((3, 2), dtype=np.float32))
    refuse(r"d_20240102.tif has another grid or CRS", [first, other])
    undated = [tiff(tmp_path / f"e{i}.tif", values) for i in range(2)]
    refuse(r"2 file names hold no date, such as 'e0.tif'; say its form with time_pattern=", undated)
    refuse(r"`step_minutes`: is missing beside first_time=", undated, first_time="2024-01-01")
    empty = np.full((2, 2), -9, dtype=np.float32)
    refuse(r"no cell holds a value, the raster is empty", tiff(tmp_path / "f.tif", empty))
    refuse(r"no variable 'rain'; there are \['value'\]", first, variables=["rain"])
    refuse(r"mixes GeoTIFF with other files", [first, store(field(), tmp_path / "g.nc")])


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"no variable 'temprature' \(did you mean 'temperature'\?\)",
         {"variables": ["temprature"]}),
        (r"no dimension 'tiem' \(did you mean 'time'\?\)", {"time_dim": "tiem"}),
        (r"no such dimension: \['level'\]", {"select": {"level": 1}}),
        (r"`mask`: no variable 'land'", {"mask": "land"}),
        (r"`mask`: is missing beside mask_keep=", {"mask_keep": [1]}),
        (r"`bbox`: .* is no box", {"bbox": [1, 2, 3]}),
        (r"`bbox`: .* holds no middle of a cell; the raster covers \[-0.5, -0.5, 3.5, 1.5\]",
         {"bbox": [50, 50, 51, 51]}),
        (r"`every`: is 0; give a whole number of at least 1", {"every": 0}),
        (r"`crs`: 'somewhere' is no CRS", {"crs": "somewhere"}),
        (r"`calendar`: unknown value 'julian'", {"calendar": "julian"}),
        (r"`reduce`: unknown value 'average'", {"reduce": "average"}),
        (r"no step lies between start and stop; it has 2024-01-01 .. 2024-01-01T02:00:00",
         {"start": "2025-01-01"}),
        (r"`roles`: role 'goal'", {"roles": {"temperature": "goal"}}),
        (r"`units`: no variable 'temperatur' \(did you mean 'temperature'\?\)",
         {"units": {"temperatur": "C"}}),
        (r"2 instants share a step of 120 minutes|1 instants share a step of 120 minutes",
         {"step_minutes": 120}),
    ],
)  # fmt: skip
def test_bad_options(message: str, options: dict[str, Any]) -> None:
    refuse(message, field(), **options)


def test_axes_that_cannot_be() -> None:
    refuse(r"`lat`: 1 coordinates are missing or NaN", field(lat=[1.0, np.nan]))
    refuse(r"`lon`: neither rises nor falls: 2 is followed by 1", field(lon=[0.0, 2.0, 1.0, 3.0]))
    refuse(r"`lat`: has no cells, the raster is empty", field((1, 0, 2)))
    refuse(r"`time`: has no instants, the raster is empty", field((0, 2, 2)))
    refuse(r"the dimension `lat` has no coordinates", field().drop_vars("lat"))
    plain = field().rename(lat="a", lon="b").drop_vars(["a", "b"])
    refuse(r"no x or y among the dimensions \['time', 'a', 'b'\]", plain)
    metres = field().rename(lat="y", lon="x")
    for name in ("x", "y"):
        metres[name].attrs = {"units": "m"}
    refuse(r"has no georeference: neither a grid mapping nor longitudes", metres)
    assert read_raster(metres, crs=25832).nodes.crs == "EPSG:25832"


def test_times_that_cannot_be() -> None:
    refuse(r"time does not rise: 2024-01-01T02:00:00 is followed by 2024-01-01T01:00:00",
           field(time=[0.0, 2.0, 1.0]))  # fmt: skip
    refuse(r"time does not rise", field(time=[0.0, 1.0, 1.0]))
    refuse(r"has instants that are missing or NaN", field(time=[0.0, np.nan, 1.0]))
    refuse(r"are no times .*write units like", field(units="hours after lunch"))
    refuse(r"are no times", field(calendar="martian"))
    far = field(time=[0.0, 1 / 60, 9e6])
    refuse(r"3 instants in .* steps of 1 minutes; say a longer step", far)


def test_variables_that_do_not_go_together() -> None:
    """Two grids, two time axes, a curvilinear grid."""
    dataset = field()
    dataset["coarse"] = (("lat2", "lon2"), np.zeros((2, 2)))
    dataset = dataset.assign_coords(
        lat2=("lat2", [0.0, 2.0], {"units": "degrees_north"}),
        lon2=("lon2", [0.0, 2.0], {"units": "degrees_east"}),
    )
    refuse(r"variables lie on different grids: .*'coarse': \('lat2', 'lon2'\)", dataset)
    assert read_raster(dataset, variables=["coarse"]).n_nodes == 4
    forecast = field().expand_dims(reference=[0.0, 6.0])
    forecast["reference"].attrs = {"standard_name": "time", "units": HOURS}
    refuse(r"has 2 dimensions of time: \['reference', 'time'\]; say which with time_dim=", forecast)
    chosen = read_raster(forecast, time_dim="time", select={"reference": 6})
    assert chosen.n_steps == 3
    curved = field().rename(lat="j", lon="i").drop_vars(["i", "j"])
    curved["lat"] = (("j", "i"), np.zeros((2, 4)), {"units": "degrees_north"})
    curved["lon"] = (("j", "i"), np.zeros((2, 4)), {"units": "degrees_east"})
    refuse(r"lies on a curvilinear grid: `lat` has the dimensions \['j', 'i'\]; regrid it", curved)


# ---------------------------------------------------------------- real files


@pytest.mark.data
@pytest.mark.parametrize("name", ["E1", "A1B"])
def test_climate_models_of_360_days(name: str, data_dir: Path) -> None:
    """240 yearly means, 37 x 49 cells: a mean year as the step, labels kept, nothing lost."""
    path = data_dir / f"weather-grid/{name}_north_america.nc"
    graph = read_raster(path)
    assert graph.values.shape == (240, 37 * 49, 1)
    assert graph.mask.all()
    assert graph.step == pd.Timedelta(days=365.2425)
    labels = graph.provenance["time_labels"]
    assert (labels[0], labels[-1]) == ("1860-06-01", "2099-06-01")
    assert [int(label[:4]) for label in labels] == graph.time.year.tolist()
    raw = xr.open_dataset(path, decode_times=False)["air_temperature"].to_numpy()
    assert np.array_equal(graph.values[..., 0], raw.reshape(240, -1))
    west, south, east, north = graph.nodes.total_bounds
    assert (west, east) == (-135.9375, -44.0625)
    assert (south, north) == (14.375, 60.625)
    with pytest.raises(DataError, match="have no fixed length"):
        read_raster(path, calendar="error")


@pytest.mark.data
def test_sea_surface_with_land(data_dir: Path) -> None:
    """54 months around the equator: land is no node, the ocean goes around the globe."""
    graph = read_raster(data_dir / "weather-grid/ostia_monthly.nc")
    assert graph.n_nodes + 2055 == 18 * 432
    assert graph.n_steps == 54
    assert graph.mask.all()
    assert graph.provenance["grid"]["columns_around"] == 432
    assert 289 < graph.values.min() < graph.values.max() < 306
    first, last = (graph.node_ids.get_loc(f"0_{column}") for column in (0, 431))
    assert graph.adjacency()[[first]].toarray()[0, last] == 1
    within = graph.nodes.geometry.bounds
    assert within["minx"].min() > -181
    assert within["maxx"].max() < 181


@pytest.mark.data
def test_reanalysis_goes_to_qgis_as_polygons(data_dir: Path, tmp_path: Path) -> None:
    """Six-hourly readings: written as cells, read back as they were."""
    graph = read_raster(data_dir / "weather-grid/air_temperature_small.nc", zone="America/Denver")
    assert graph.values.shape == (20, 25 * 53, 1)
    assert graph.step == pd.Timedelta(hours=6)
    path = write_geopackage(graph, tmp_path / "air.gpkg", edges=False)
    layer = gpd.read_file(path, layer="observation", rows=10)
    assert set(layer.geometry.geom_type) == {"Polygon"}
    assert layer["air"].notna().all()
    assert read_geopackage(path).nodes.geometry.geom_equals(graph.nodes.geometry).all()


def test_registered_by_name() -> None:
    assert load("connectors", "raster") is read_raster
