"""A city's roads from a GraphML file of OSMnx, as a graph of segments and as tensors.

python examples/graphml.py   # reads Heidelberg from STGRAPH_DATA, ../shared/data if it is not set
"""

from __future__ import annotations

import os
from pathlib import Path

from stgraph_connectors.roads.graphml import read_graphml

from stgraph.convert import to_pyg

folder = Path(os.environ.get("STGRAPH_DATA", "../shared/data"))
path = folder / "osm-heidelberg/drive.graphml.gz"

roads = read_graphml(path)  # a node is a directed segment, an edge a turn
print(roads)
print(roads.report)
columns = ["name", "highway", "length_m", "speed_kmh", "speed_imputed", "lanes", "bearing_deg"]
print(roads.nodes[columns].head())
tensors = to_pyg(roads)
print(tensors.edge_index.shape, tensors.pos.shape)

junctions = read_graphml(path, nodes="junctions")  # a node is a crossing, an edge a segment
print(junctions)
sharp = roads.edges["turn_angle_deg"].abs() > 120
print(f"{int(sharp.sum())} of {roads.n_edges} turns are sharper than 120 degrees")
