"""GTFS: a small feed whose edges are written out, and feeds as they should not be."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from stgraph_connectors.gtfs import read_gtfs

from stgraph import registry
from stgraph.errors import DataError
from stgraph.graph import STGraph

Tables = dict[str, str]

# line 1 (bus) A -> B -> C: 08:00, 08:04, 08:10; again at 09:00 with 6 minutes to B, and at 25:30
# line T (tram) C -> P1 every 10 minutes from 07:00 to 08:00, 5 minutes
FEED: Tables = {
    "agency": "agency_name,agency_url,agency_timezone\nCity,http://x,Europe/Berlin\n",
    "stops": (
        "stop_id,stop_name,stop_lat,stop_lon,location_type,parent_station\n"
        "A,Alpha,52.50,13.40,0,\nB,Beta,52.51,13.40,,\nC,Gamma,52.52,13.40,0,\n"
        "P1,Platform 1,52.530,13.40,0,P\nP2,Platform 2,52.531,13.40,0,P\n"
        "P,Station,52.5305,13.40,1,\nX,Never,52.6,13.4,0,\n"
    ),
    "routes": "route_id,route_short_name,route_type\nr1,1,3\nrt,T,900\n",
    "trips": "route_id,service_id,trip_id\nr1,week,t1\nr1,week,t2\nr1,week,night\nrt,week,tram\n"
    "r1,sunday,s1\n",
    "stop_times": (
        "trip_id,arrival_time,departure_time,stop_id,stop_sequence\n"
        "t1,08:00:00,08:00:00,A,1\nt1,08:04:00,08:05:00,B,2\nt1,08:10:00,08:10:00,C,3\n"
        "t2,09:00:00,09:00:00,A,10\nt2,09:06:00,09:06:00,B,20\nt2,09:10:00,,C,30\n"
        "night,25:30:00,25:30:00,A,1\nnight,25:32:00,25:32:00,B,2\n"
        "tram,06:00:00,06:00:00,C,1\ntram,06:05:00,06:05:00,P1,2\n"
        "s1,10:00:00,10:00:00,A,1\ns1,10:09:00,10:09:00,C,2\n"
    ),
    "calendar": (
        "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\n"
        "week,1,1,1,1,1,0,0,20240501,20240531\nsunday,0,0,0,0,0,0,1,20240501,20240531\n"
    ),
    "calendar_dates": "service_id,date,exception_type\nweek,20240509,2\nsunday,20240509,1\n",
    "frequencies": "trip_id,start_time,end_time,headway_secs\ntram,07:00:00,08:00:00,600\n",
    "transfers": (
        "from_stop_id,to_stop_id,transfer_type,min_transfer_time\n"
        "C,P1,2,240\nP1,C,0,\nA,B,3,\nP1,X,2,60\n"
    ),
}


def write(folder: Path, **changes: str | None) -> Path:
    """Write the feed with some tables replaced, or left out where None."""
    path = folder / "feed.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**FEED, **changes}.items():
            if text is not None:
                archive.writestr(f"{name}.txt", text)
    return path


def edges(graph: STGraph) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Return (source, target) -> travel time, trips, routes."""
    assert graph.edges is not None
    ids = graph.node_ids.to_numpy()
    table = graph.edges[["travel_time_s", "trips", "routes"]]
    pairs = zip(ids[graph.edge_index[0]], ids[graph.edge_index[1]], strict=True)
    return dict(zip(pairs, table.itertuples(index=False, name=None), strict=True))


def test_a_day_of_a_small_feed(tmp_path: Path) -> None:
    """Medians of rides, trips written out from headways, rides after midnight of the same day."""
    graph = read_gtfs(write(tmp_path))
    assert edges(graph) == {
        ("A", "B"): (240.0, 3, "1"),  # 240, 360 and 120 s
        ("B", "C"): (270.0, 2, "1"),  # 300 and 240 s, from the departure
        ("C", "P1"): (300.0, 6, "T"),
    }
    assert list(graph.node_ids) == ["A", "B", "C", "P1"]
    assert graph.nodes["stop_name"].tolist() == ["Alpha", "Beta", "Gamma", "Platform 1"]
    assert graph.nodes["kind"].unique().tolist() == ["station"]
    assert (graph.weight_unit, graph.zone) == ("s", "Europe/Berlin")
    assert graph.edge_weight.tolist() == [240.0, 270.0, 300.0]
    assert graph.provenance["date"] == "2024-05-01"
    assert graph.edges is not None
    # 0.01 degrees of latitude on a sphere of 6371 km
    np.testing.assert_allclose(graph.edges["length_m"], 1111.95, atol=0.1)
    np.testing.assert_allclose(graph.edges["trips_per_hour"], [3 / 24, 2 / 24, 6 / 24])
    assert "3 stops are not served in these hours, or are no stops" in str(graph.report)


def test_hours_of_the_service_day(tmp_path: Path) -> None:
    """[8, 9) has one ride from A; 25.5 is half past one in the night."""
    path = write(tmp_path)
    morning = read_gtfs(path, from_hour=8, to_hour=9)
    assert edges(morning) == {("A", "B"): (240.0, 1, "1"), ("B", "C"): (300.0, 1, "1")}
    assert morning.edges is not None
    assert morning.edges["headway_minutes"].tolist() == [60.0, 60.0]
    assert edges(read_gtfs(path, from_hour=25.5)) == {("A", "B"): (120.0, 1, "1")}
    tram = read_gtfs(path, from_hour=7.5, to_hour=8)  # 07:30, 07:40, 07:50
    assert edges(tram) == {("C", "P1"): (300.0, 3, "T")}
    assert tram.edges is not None
    assert tram.edges["headway_minutes"].tolist() == [10.0]


def test_days_and_exceptions(tmp_path: Path) -> None:
    """Ascension Day, 9 May 2024, a Thursday, runs as a Sunday."""
    path = write(tmp_path)
    for options in ({"date": "2024-05-09"}, {"date": "20240512"}, {"weekday": "sunday"}):
        assert edges(read_gtfs(path, **options)) == {("A", "C"): (540.0, 1, "1")}
    thursday = read_gtfs(path, weekday="thursday")
    assert thursday.provenance["date"] == "2024-05-02"
    only_dates = "service_id,date,exception_type\nweek,20240601,1\n"
    graph = read_gtfs(write(tmp_path, calendar=None, calendar_dates=only_dates))
    assert graph.provenance["date"] == "2024-06-01"


def test_kinds_of_routes(tmp_path: Path) -> None:
    """900 is a tram in the extended list."""
    path = write(tmp_path)
    assert set(edges(read_gtfs(path, route_types=["tram"]))) == {("C", "P1")}
    assert set(edges(read_gtfs(path, route_types=["bus"]))) == {("A", "B"), ("B", "C")}
    assert len(edges(read_gtfs(path, route_types=["bus", "tram"]))) == 3


def test_routes_without_names_are_called_by_their_id(tmp_path: Path) -> None:
    """Nor is routes.txt needed where no kind is asked for."""
    for routes in (None, "route_id,route_type\nr1,3\nrt,0\n"):
        found = edges(read_gtfs(write(tmp_path, routes=routes)))
        assert [value[2] for value in found.values()] == ["r1", "r1", "rt"]
    with pytest.raises(DataError, match=r"routes.txt: is missing; `route_types` needs it"):
        read_gtfs(write(tmp_path, routes=None), route_types=["bus"])


def test_stations_and_transfers(tmp_path: Path) -> None:
    """Platforms become their station; type 3 is no way, and a walk without time takes 1.2 m/s."""
    path = write(tmp_path)
    merged = read_gtfs(path, merge_stations=True)
    assert list(merged.node_ids) == ["A", "B", "C", "P"]
    walking = read_gtfs(path, transfers=True)
    assert walking.edges is not None
    walks = walking.edges[walking.edges["kind"] == "transfer"]
    assert walks["travel_time_s"].round(1).tolist() == [926.6, 240.0]
    assert walking.n_edges == 5
    assert "1 transfers say no time" in str(walking.report)


def test_missing_times_are_interpolated(tmp_path: Path) -> None:
    """Four stops in ten minutes: equal parts, or by the distance along the shape."""
    head = "trip_id,arrival_time,departure_time,stop_id,stop_sequence,shape_dist_traveled\n"
    rows = [
        "t1,08:00:00,08:00:00,A,1,0", "t1,,,B,2,1", "t1,,,C,3,9", "t1,08:10:00,08:10:00,P1,4,10",
        "t2,09:00:00,09:00:00,A,1,", "t2,,,B,2,", "t2,,,C,3,", "t2,09:09:00,09:09:00,P1,4,",
    ]  # fmt: skip
    path = write(tmp_path, stop_times=head + "\n".join(rows), frequencies=None)
    assert [value[0] for value in edges(read_gtfs(path, to_hour=9)).values()] == [60, 480, 60]
    equal = read_gtfs(path, from_hour=9)
    assert [value[0] for value in edges(equal).values()] == [180, 180, 180]
    assert "4 stops had no time; interpolated" in str(equal.report)


def test_a_folder_or_a_folder_in_the_zip_is_a_feed(tmp_path: Path) -> None:
    """Byte order marks, blanks and quotes are no reason to fail."""
    expected = edges(read_gtfs(write(tmp_path)))
    folder = tmp_path / "feed"
    folder.mkdir()
    for name, text in FEED.items():
        spaced = text.replace(",", " , ") if name == "stops" else text
        (folder / f"{name}.txt").write_bytes(b"\xef\xbb\xbf" + spaced.encode())
    assert edges(read_gtfs(folder)) == expected
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"some folder/{file.name}")
    assert edges(registry.load("connectors", "gtfs")(feed=tmp_path / "inner.zip")) == expected


def test_ids_that_look_like_missing_values_are_ids(tmp_path: Path) -> None:
    """A stop NA, a service None, a route nan: whoever numbers a city may come to them."""
    renamed = {"week": "None", "r1": "nan", "A": "NA"}
    tables = {
        name: re.sub(r"(?<=[,\n])(week|r1|A)(?=[,\n])", lambda m: renamed[m[0]], text)
        for name, text in FEED.items()
    }
    graph = read_gtfs(write(tmp_path, **tables))
    assert list(graph.node_ids) == ["NA", "B", "C", "P1"]
    assert set(edges(graph)) == {("NA", "B"), ("B", "C"), ("C", "P1")}


def test_commas_at_the_end_of_rows_shift_nothing(tmp_path: Path) -> None:
    """Some programs end every row, but not the header, with a comma."""
    expected = edges(read_gtfs(write(tmp_path)))
    tables = {}
    for name, text in FEED.items():
        head, _, rows = text.partition("\n")
        tables[name] = head + "\n" + rows.replace("\n", ",\n")
    assert edges(read_gtfs(write(tmp_path, **tables))) == expected


def test_blanks_alone_are_missing(tmp_path: Path) -> None:
    """Also in stop times, which are then interpolated without a warning."""
    rows = "t1,08:00:00,08:00:00, A ,1\nt1, ,  ,B,2\nt1,08:10:00,08:10:00,C,3\n"
    graph = read_gtfs(write(tmp_path, stop_times=HEAD + rows, frequencies=None))
    assert edges(graph) == {("A", "B"): (300.0, 1, "1"), ("B", "C"): (300.0, 1, "1")}
    assert "are none" not in str(graph.report)


def test_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    """Feeds list their rows in any order."""
    expected = read_gtfs(write(tmp_path), transfers=True)
    times = pd.read_csv(io.StringIO(FEED["stop_times"]), dtype=str)
    shuffled = times.sample(frac=1, random_state=3).to_csv(index=False)
    assert read_gtfs(write(tmp_path, stop_times=shuffled), transfers=True).equals(expected)


@pytest.mark.data
def test_stops_of_montevideo_as_a_feed(tmp_path: Path, data_dir: Path) -> None:
    """Every link ridden once at 20 km/h: 675 stops, and travel times follow the road lengths."""
    stops = pd.read_csv(data_dir / "montevideo-bus/stops.csv", dtype={"stop_id": str})
    links = pd.read_csv(data_dir / "montevideo-bus/links.csv", dtype={"source": str, "target": str})
    trips = [f"t{i}" for i in range(len(links))]
    seconds = 8 * 3600 + (links["weight"] / (20 / 3.6)).round().astype(int)
    clock = [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in seconds]
    start = ["08:00:00"] * len(links)
    times = pd.concat([
        pd.DataFrame({"trip_id": trips, "stop_id": links["source"], "stop_sequence": 1,
                      "arrival_time": start, "departure_time": start}),
        pd.DataFrame({"trip_id": trips, "stop_id": links["target"], "stop_sequence": 2,
                      "arrival_time": clock, "departure_time": clock}),
    ])  # fmt: skip
    places = stops.rename(columns={"latitude": "stop_lat", "longitude": "stop_lon"})
    path = write(
        tmp_path,
        stops=places[["stop_id", "stop_lat", "stop_lon"]].to_csv(index=False),
        stop_times=times.to_csv(index=False),
        trips="route_id,service_id,trip_id\n" + "".join(f"r1,week,{trip}\n" for trip in trips),
        frequencies=None, transfers=None,
    )  # fmt: skip
    graph = read_gtfs(path)
    assert (graph.n_nodes, graph.n_edges) == (675, len(links.drop_duplicates(["source", "target"])))
    assert graph.edges is not None
    ratio = graph.edges["travel_time_s"] * 20 / 3.6 / graph.edges["length_m"]
    assert 0.95 < ratio.median() < 1.3  # roads are a little longer than straight lines


TRIP = "t1,08:00:00,08:00:00,A,1\nt1,{},{},B,2\nt1,08:10:00,08:10:00,C,3\n"
HEAD = "trip_id,arrival_time,departure_time,stop_id,stop_sequence\n"
BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no stops": ({"stops": None}, {}, "feed.zip, stops.txt: is missing"),
    "no calendar": ({"calendar": None, "calendar_dates": None}, {}, "and calendar_dates.txt too"),
    "no column": ({"trips": FEED["trips"].replace("trip_id", "tripid")}, {},
                  r"trips.txt: has no column `trip_id` \(did you mean 'tripid'"),
    "an empty table": ({"stop_times": HEAD}, {}, "stop_times.txt: has no row"),
    "an empty file": ({"trips": ""}, {}, "trips.txt: is no table"),
    "a date of another year": ({}, {"date": "2019-05-01"},
                               "no trip runs on 2019-05-01; the feed covers 2024-05-01 to 2024"),
    "a day off": ({}, {"date": "2024-05-04"}, "no trip runs on 2024-05-04"),
    "no date": ({}, {"date": "soon"}, "`date`: is 'soon'; write it as 2024-05-14"),
    "a wrong weekday": ({}, {"weekday": "sunnday"}, r"`weekday`: is 'sunnday' \(did you mean"),
    "a weekday off": ({}, {"weekday": "saturday"}, "no trip runs on a saturday"),
    "date and weekday": ({}, {"date": "2024-05-01", "weekday": "monday"}, "give one of them"),
    "hours without rides": ({}, {"from_hour": 3, "to_hour": 4}, "no ride departs from 3 h to 4"),
    "hours backwards": ({}, {"from_hour": 9, "to_hour": 8}, "from 9 to 8 there is no hour"),
    "an hour beyond": ({}, {"from_hour": -1}, "`from_hour`: is -1"),
    "an unknown kind": ({}, {"route_types": ["buss"]}, r"'buss' \(did you mean 'bus'"),
    "a kind that is not there": ({}, {"route_types": ["ferry"]}, r"route types \[3, 900\]"),
    "a broken date": ({"calendar": FEED["calendar"].replace("20240501", "2024-5-1")}, {},
                      "column `start_date`: holds '2024-5-1'"),
    "a year mistyped": ({"calendar": FEED["calendar"].replace("20240531", "22240531")}, {},
                        "covers 2024-05-01 to 2224-05-31; correct the years"),
    "no times": ({"stop_times": HEAD + "t1,,,A,1\nt1,,,B,2\n"}, {}, "has no time at all"),
    "no places": ({"stops": FEED["stops"].replace("52.", "952.")}, {}, "no ride departs"),
    "endless headways": ({"frequencies": "trip_id,start_time,end_time,headway_secs\n"
                          "tram,00:00:00,99999:00:00,1\n"}, {}, "would make 359,996,400"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_feeds_and_options_are_named(tmp_path: Path, name: str) -> None:
    tables, options, message = BAD[name]
    with pytest.raises(DataError, match=message):
        read_gtfs(write(tmp_path, **tables), **options)


def test_no_feed_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no feed"):
        read_gtfs(tmp_path / "no.zip")
    (tmp_path / "cut.zip").write_bytes(write(tmp_path).read_bytes()[:500])
    with pytest.raises(DataError, match="no readable zip file"):
        read_gtfs(tmp_path / "cut.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"4 problem\(s\)"):
        read_gtfs(tmp_path / "empty")


@pytest.mark.parametrize(
    ("tables", "finding"),
    [
        ({"stop_times": HEAD + TRIP.format("8h", "8h")}, "1 times such as '8h' are none"),
        ({"stop_times": HEAD + TRIP.format("07:00:00", "07:00:00")}, "1 rides arrive before they"),
        ({"stop_times": HEAD + TRIP.format("08:05:00", "08:05:00").replace("B,2", "B,1")},
         "or one that is there twice"),
        ({"stop_times": HEAD + TRIP.format("08:00:00", "08:00:00")}, "1 edges take no time"),
        ({"stops": FEED["stops"].replace("C,Gamma", "CC,Gamma")}, "a stop that stops.txt does not"),
        ({"stops": FEED["stops"].replace("52.52,13.40", ",")}, "a stop without coordinates"),
        ({"stops": FEED["stops"] + "A,Again,1,1,0,\n"}, "1 stops are there twice, such as 'A'"),
        ({"agency": FEED["agency"].replace("Europe/Berlin", "Berlin")}, "names no known time zone"),
        ({"frequencies": FEED["frequencies"].replace("600", "0")}, "have no headway above 0"),
        ({"transfers": None}, "transfers.txt: is missing; there are no transfers"),
    ],
)  # fmt: skip
def test_what_can_still_be_used_is_told(tmp_path: Path, tables: Tables, finding: str) -> None:
    graph = read_gtfs(write(tmp_path, **tables), transfers=True)
    assert finding in str(graph.report)
    assert graph.n_edges


def test_a_feed_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "feed.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in FEED.items():
            archive.writestr(f"{name}.txt", text.replace("Alpha", "Größe").encode("latin-1"))
    graph = read_gtfs(path)
    assert graph.nodes["stop_name"].iloc[0] == "Größe"
    assert "stops.txt: is not UTF-8; read as Latin-1" in str(graph.report)
