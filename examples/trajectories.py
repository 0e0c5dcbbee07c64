"""Speeds of road segments from GPS points of vehicles: made drives on the streets of Monaco.

python examples/trajectories.py   # the data folder is ../shared/data, or STGRAPH_DATA
"""

from __future__ import annotations

import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from stgraph_connectors.roads.any import read_roads
from stgraph_connectors.trajectories import read_trajectories

from stgraph import STGraph

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("STGRAPH_DATA", HERE / "../../shared/data"))


def make_points(roads: STGraph, n_trips: int = 60) -> pd.DataFrame:
    """Drive about at random and note a position with 10 m of noise every 10 s."""
    rng = np.random.default_rng(0)
    plane = roads.nodes.to_crs(roads.nodes.estimate_utm_crs())
    trips = []
    for trip in range(n_trips):
        segment, route = int(rng.integers(roads.n_nodes)), []
        for _ in range(30):
            route.append(segment)
            turns = roads.edge_index[1, roads.edge_index[0] == segment]
            if len(turns) == 0:
                break
            segment = int(rng.choice(turns))
        line = shapely.LineString(np.concatenate(
            [shapely.get_coordinates(plane.geometry.iloc[s]) for s in route]
        ))  # fmt: skip
        places = shapely.line_interpolate_point(line, np.arange(0, line.length, 90.0))  # 32 km/h
        noisy = shapely.points(
            shapely.get_coordinates(places) + rng.normal(0, 10, (len(places), 2))
        )
        degrees = gpd.GeoSeries(noisy, crs=plane.crs).to_crs(4326)
        start = pd.Timestamp("2024-05-06 07:00", tz="Europe/Monaco") + trip * pd.Timedelta("1min")
        time = start + pd.to_timedelta(10 * np.arange(len(places)), unit="s")
        trips.append(pd.DataFrame({"trip_id": trip, "time": time, "lat": degrees.y,
                                   "lon": degrees.x}))  # fmt: skip
    return pd.concat(trips, ignore_index=True)


roads = read_roads(DATA / "osm-small/monaco_drive.graphml")
graph = read_trajectories(make_points(roads), roads, step_minutes=15, zone="Europe/Monaco")
print(graph)
print(graph.report)
print(graph.provenance["coverage"])
busiest = graph.values[:, :, 1].sum(axis=0).argsort()[-5:]
speed = np.nanmean(graph.values[:, busiest, 0], axis=0).round(1)
print(graph.nodes.iloc[busiest][["name", "highway"]].assign(speed_kmh=speed))
