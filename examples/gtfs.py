"""A timetable as a graph of stops: made here from the bus stops and links of Montevideo.

python examples/gtfs.py   # reads the stops from STGRAPH_DATA, ../shared/data if it is not set
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pandas as pd
from stgraph_connectors.gtfs import read_gtfs
from stgraph_connectors.sinks.graph_file import write_graph

from stgraph.description import describe_graph


def clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def make_feed(data: Path, feed: Path) -> None:
    """Ride every link from 7:00 on, every 10 minutes for two hours, at 18 km/h."""
    stops = pd.read_csv(data / "stops.csv", dtype={"stop_id": str})
    links = pd.read_csv(data / "links.csv", dtype={"source": str, "target": str})
    stops.rename(columns={"latitude": "stop_lat", "longitude": "stop_lon"}).to_csv(
        feed / "stops.txt", index=False
    )
    trips, times, often = [], [], []
    for number, link in enumerate(links.itertuples()):
        trips.append(("bus", "daily", number))
        times.append((number, "07:00:00", "07:00:00", link.source, 1))
        arrival = clock(7 * 3600 + round(link.weight / 5))
        times.append((number, arrival, arrival, link.target, 2))
        often.append((number, "07:00:00", "09:00:00", 600))
    days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    calendar = [("daily", *[1] * 7, 20201001, 20201031)]
    for name, columns, rows in (
        ("trips", "route_id service_id trip_id", trips),
        ("stop_times", "trip_id arrival_time departure_time stop_id stop_sequence", times),
        ("frequencies", "trip_id start_time end_time headway_secs", often),
        ("calendar", f"service_id {' '.join(days)} start_date end_date", calendar),
    ):
        pd.DataFrame(rows, columns=columns.split()).to_csv(feed / f"{name}.txt", index=False)


data = Path(os.environ.get("STGRAPH_DATA", "../shared/data")) / "montevideo-bus"
with tempfile.TemporaryDirectory() as folder:
    make_feed(data, Path(folder))
    stops = read_gtfs(folder, weekday="tuesday", from_hour=7, to_hour=9)

for name, value in describe_graph(stops).items():
    print(f"{name}: {value}")
print(stops.edges[["travel_time_s", "trips_per_hour", "headway_minutes", "length_m"]].describe())
print(write_graph(stops, "stops.gpkg"), "opens in QGIS")
