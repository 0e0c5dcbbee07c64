"""A networkx graph of roads, as OSMnx returns it, and how to download one.

python examples/osmnx_graph.py   # reads Krems from STGRAPH_DATA, ../shared/data if it is not set
"""

from __future__ import annotations

import os
from pathlib import Path

import osmnx
from stgraph_connectors.roads.osmnx import read_osmnx_graph

folder = Path(os.environ.get("STGRAPH_DATA", "../shared/data"))

# with a network: read_osmnx(place="Krems an der Donau, Austria"), or osmnx.graph_from_place(...)
graph = osmnx.load_graphml(folder / "osm-small/krems_drive.graphml")

roads = read_osmnx_graph(graph)
print(roads)
print(roads.nodes[["name", "length_m", "speed_kmh", "from_junction", "to_junction"]].head())

metric = read_osmnx_graph(osmnx.project_graph(graph), nodes="junctions")
print(metric, metric.nodes.crs.name)

# speeds of your own where the map has none
slow = read_osmnx_graph(graph, speeds_kmh={"residential": 20, "unclassified": 25})
hours = [given.nodes["travel_time_s"].sum() / 3600 for given in (roads, slow)]
print(f"driving every segment once: {hours[0]:.2f} h, {hours[1]:.2f} h with slower side streets")
