"""Stations onto roads: the sensors of PEMS-BAY on their highways, and the distances between them.

python examples/snap_stations.py   # the data folder is STGRAPH_DATA, ../shared/data if not set
"""

from __future__ import annotations

import os
from pathlib import Path

import geopandas as gpd
import pandas as pd
from stgraph_connectors.roads.lines import read_road_lines

from stgraph import build_network, snap_stations

folder = Path(os.environ.get("STGRAPH_DATA", "../shared/data")) / "pems-bay-graph"
roads = read_road_lines(folder / "osm_highways.gpkg", oneway="forward", nodes="junctions")
sensors = pd.read_csv(folder / "sensors.csv", index_col="sensor_id")
points = gpd.points_from_xy(sensors.longitude, sensors.latitude, crs="EPSG:4326")
stations = gpd.GeoDataFrame(sensors, geometry=points)

# every station on a directed segment; what was in doubt is a layer to look at in QGIS
snapping = snap_stations(stations, roads, max_distance_m=30)
print(snapping.report)
print(snapping.stations[["segment_id", "distance_m", "offset_m", "side", "status"]].head())
snapping.candidates.to_file("candidates.gpkg", layer="candidates")

# DCRNN's kernel of the distances along the roads, no further than 10 km
graph = build_network(stations, roads, max_length_m=10_000, include_self=True)
print(graph)
print(f"sigma = {graph.provenance['graph']['sigma_m']:.0f} m")
