"""A graph as layers that QGIS opens, and read back after somebody edited it.

python examples/graph_file.py   # writes stations.gpkg; data from STGRAPH_DATA or ../shared/data
"""

from __future__ import annotations

import os
from pathlib import Path

import geopandas as gpd
import pyogrio
import shapely
from stgraph_connectors.graph_file import read_graph
from stgraph_connectors.sinks.graph_file import write_graph
from stgraph_connectors.stations import read_stations

from stgraph import build_knn
from stgraph.description import describe_graph

data = Path(os.environ.get("STGRAPH_DATA", "../shared/data"))
stations = read_stations(data / "metr-la-week/sensors.csv")
graph = build_knn(stations, k=4)
path = write_graph(graph, "stations.gpkg")
print(path, "has the layers nodes and edges; stgraph graph info stations.gpkg says the same as:")
for name, value in describe_graph(graph).items():
    print(f"  {name}: {value}")

print("as it was written:", read_graph(path).equals(graph))
# what QGIS saves of a new line: its ends are filled in, its empty weight will be measured
first, last = graph.nodes.iloc[[0, -1]].geometry
drawn = gpd.GeoDataFrame(
    {"source": [graph.node_ids[0]], "target": [graph.node_ids[-1]]},
    geometry=[shapely.LineString([first, last])],
    crs=graph.nodes.crs,
)
pyogrio.write_dataframe(drawn, path, layer="edges", driver="GPKG", append=True)
edited = read_graph(path)
print(f"{edited.n_edges} edges; the new one is {edited.edge_weight[-1]:,.0f} m long")
print(edited.report)
