"""Events: spans of time and places as a signal that is known beforehand."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
from stgraph_connectors.events import read_events

from stgraph import join_feature, registry
from stgraph.errors import DataError
from stgraph.graph import Feature, STGraph


def write(folder: Path, text: str) -> Path:
    path = folder / "events.csv"
    path.write_text(text)
    return path


def test_instants_and_days_become_steps(tmp_path: Path) -> None:
    """A concert touches three hours; a holiday is a whole local day, 24 hours; a step each side."""
    path = write(tmp_path, "from,to,what\n2024-05-01T18:20,2024-05-01T20:10,concert\n"
                 "2024-05-02,2024-05-02,holiday\n2024-05-01T10:00,,opening\n")  # fmt: skip
    graph = read_events(path, zone="Europe/Berlin")
    assert graph.features == (Feature("event", "", "known_future"),)
    assert graph.values[..., 0].sum(axis=0).tolist() == [3, 24, 1]
    assert graph.time[0] == pd.Timestamp("2024-05-01T07:00Z")
    assert graph.time[-1] == pd.Timestamp("2024-05-02T22:00Z")
    assert graph.time[graph.values[:, 0, 0] > 0][0] == pd.Timestamp("2024-05-01T16:00Z")
    assert graph.nodes["what"].tolist() == ["concert", "holiday", "opening"]
    assert graph.values[[0, -1]].max() == 0
    assert "has no places; join it with space" in str(graph.report)


def test_clocks_that_change_make_longer_days(tmp_path: Path) -> None:
    """New Zealand's 7 April 2024 had 25 hours, without an end column too."""
    for text in ("from\n2024-04-07\n", "from,to\n2024-04-07,2024-04-07\n"):
        graph = read_events(write(tmp_path, text), zone="Pacific/Auckland")
        assert graph.values.sum() == 25


def test_days_begin_when_clocks_allow(tmp_path: Path) -> None:
    """Cairo's 26 April 2024 begins at 1 o'clock and has 23 hours; the day before ends there."""
    for day, hours, begin in (("25", 24, "2024-04-24T22:00Z"), ("26", 23, "2024-04-25T22:00Z")):
        graph = read_events(write(tmp_path, f"from\n2024-04-{day}\n"), zone="Africa/Cairo")
        assert graph.values.sum() == hours
        assert graph.time[graph.values[:, 0, 0] > 0][0] == pd.Timestamp(begin)


def test_midnight_is_a_time_where_it_is_written(tmp_path: Path) -> None:
    """An evening that ends at midnight lasts 6 hours; a column of days of a layer is of days."""
    text = "from,to\n2024-05-01 18:00:00,2024-05-02 00:00:00\n"
    assert read_events(write(tmp_path, text)).values.sum() == 6
    layer = gpd.GeoDataFrame(
        {"from": pd.to_datetime(["2024-05-01"]), "to": pd.to_datetime(["2024-05-02"])},
        geometry=[shapely.Point(1, 1)], crs=4326,
    )  # fmt: skip
    layer.to_file(tmp_path / "e.gpkg")
    assert read_events(tmp_path / "e.gpkg").values.sum() == 24
    days = layer.astype(dict.fromkeys(["from", "to"], pd.ArrowDtype(pa.date32())))
    days.to_file(tmp_path / "days.gpkg", use_arrow=True)
    assert read_events(tmp_path / "days.gpkg").values.sum() == 48


def test_steps_count_from_local_midnight(tmp_path: Path) -> None:
    """A day of Auckland is one step of a day, and joins that day alone."""
    path = write(tmp_path, "from\n2024-05-01\n")
    graph = read_events(path, zone="Pacific/Auckland", step_minutes=1440)
    assert graph.values[:, 0, 0].tolist() == [0, 1, 0]
    assert graph.time[1] == pd.Timestamp("2024-05-01", tz="Pacific/Auckland")


def test_times_of_other_countries(tmp_path: Path) -> None:
    """Day first where it can only be that, or where it is said; semicolons and other names."""
    text = "from;to;Latitude;Long\n01.05.2024 10:00;01.05.2024 12:00;52.5;13.4\n"
    graph = read_events(write(tmp_path, text))
    assert graph.time[graph.values[:, 0, 0] > 0][0] == pd.Timestamp("2024-05-01T10:00Z")
    assert graph.nodes.geometry.iloc[0].coords[0] == (13.4, 52.5)
    said = read_events(write(tmp_path, "from\n02/03/2024\n"), time_format="%d/%m/%Y")
    assert said.time[1] == pd.Timestamp("2024-03-02T00:00Z")
    assert said.values.sum() == 24


def test_two_events_in_the_hour_that_clocks_repeat(tmp_path: Path) -> None:
    """Each is its own: both are in the first of the two hours."""
    text = "from,to\n" + "2024-10-27T02:10,2024-10-27T02:50\n" * 2
    graph = read_events(write(tmp_path, text), zone="Europe/Berlin")
    assert (graph.values[:, 0] == graph.values[:, 1]).all()


def test_values_and_areas(tmp_path: Path) -> None:
    """Visitors while it lasts, on areas of a layer; any CRS."""
    layer = gpd.GeoDataFrame(
        {"start": ["2024-05-01T01:00"], "end": ["2024-05-01T03:00"], "visitors": [500]},
        geometry=[shapely.box(0, 0, 100, 100)], crs=2193,
    )  # fmt: skip
    layer.to_file(tmp_path / "e.gpkg")
    graph = registry.load("connectors", "events")(
        tmp_path / "e.gpkg", from_column="start", to_column="end", value_column="visitors",
        name="visitors", step_minutes=30,
    )  # fmt: skip
    assert graph.values[:, 0, 0].tolist() == [0, 500, 500, 500, 500, 0]
    assert graph.nodes.crs.to_epsg() == 2193


def test_events_join_stations_and_their_future(tmp_path: Path) -> None:
    """A counter near two events at once, 0 at all other times, known beyond the last count."""
    rows = [
        "from,to,lat,lon",
        "2024-05-01T02:00,2024-05-01T04:00,0,0",
        "2024-05-01T03:00,2024-05-01T07:00,0,0.001",
        "2024-05-01T03:00,,50,50",
    ]
    path = write(tmp_path, "\n".join(rows))
    places = gpd.points_from_xy([0, 1], [0, 0])
    nodes = gpd.GeoDataFrame(index=["near", "far"], geometry=places, crs=4326)  # fmt: skip
    counts = STGraph(
        nodes=nodes, time=pd.date_range("2024-05-01", periods=6, freq="h"),
        values=np.ones((6, 2, 1), np.float32), features=(Feature("n"),),
    )  # fmt: skip
    joined = join_feature(
        counts, read_events(path), space="around", max_distance_m=500, combine="sum", fill=0,
        ahead_steps=3,
    )  # fmt: skip
    assert joined.values[:, 0, 1].tolist() == [0, 0, 1, 2, 1, 1, 1, 0, 0]
    assert joined.values[:, 1, 1].max() == 0


BAD = {
    "no column": ("start,to\n2024-05-01,\n", {}, "has no column `from`"),
    "no value": ("from\n2024-05-01\n", {"value_column": "n"}, "has no column `n`"),
    "no time": ("from\nsoon\n", {}, "line 2: 'soon' cannot be read as a time"),
    "an empty begin": ("from,to\n,2024-05-01\n", {}, "line 2: 1 events have no begin"),
    "a wrong end": ("from,to\n2024-05-01,late\n", {}, "column `to`, line 2: 'late' cannot"),
    "a wrong name of the end": ("from,end\n2024-05-01,2024-05-02\n", {"to_column": "ende"},
                                r"has no column `ende` \(did you mean 'end'"),
    "day or month first": ("from\n01/05/2024\n", {}, "read as day first or month first; say which"),
    "an hour that never was": ("from,to\n2024-03-31T01:00,2024-03-31T02:30\n",
                               {"zone": "Europe/Berlin"}, "line 2: '2024-03-31T02:30' never was"),
    "backwards": ("from,to\n2024-05-02T10:00,2024-05-02T09:00\n", {}, "not after its begin"),
    "no number": ("from,n\n2024-05-01,many\n", {"value_column": "n"}, "'many'"),
    "no row": ("from,to\n", {}, "there is a header but no rows"),
    "a wrong zone": ("from\n2024-05-01\n", {"zone": "Berlin"}, "unknown time zone 'Berlin'"),
    "no step": ("from\n2024-05-01\n", {"step_minutes": 0}, "`step_minutes`: is 0"),
    "too many values": ("from,to\n1700-01-01,2200-01-01\n" + "2024-05-01,\n" * 9,
                        {"step_minutes": 1}, "take a longer step, or fewer events"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_events_are_named(tmp_path: Path, name: str) -> None:
    text, options, message = BAD[name]
    with pytest.raises(DataError, match=message):
        read_events(write(tmp_path, text), **options)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_events(tmp_path / "no.csv")
    (tmp_path / "x.gpkg").write_text("hello")
    with pytest.raises(DataError, match="cannot be read as events"):
        read_events(tmp_path / "x.gpkg")
