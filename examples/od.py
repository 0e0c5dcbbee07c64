"""Demand between zones from an origin-destination matrix: Sioux Falls.

python examples/od.py   # the data folder is ../shared/data, or STGRAPH_DATA
"""

from __future__ import annotations

import os
from pathlib import Path

from stgraph_connectors.od import read_od

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("STGRAPH_DATA", HERE / "../../shared/data"))
CITY = DATA / "transport-networks/SiouxFalls"

# TNTP here; a long CSV, a square one, npz or OMX are read by the same call
graph = read_od(CITY / "SiouxFalls_trips.tntp", CITY / "SiouxFallsCoordinates.geojson")
print(graph)
print(graph.report)
print(graph.nodes[["productions", "attractions"]].nlargest(5, "productions"))
assert graph.edges is not None
print(graph.edges.nlargest(5, "trips"))

# only the large flows, without those inside a zone
large = read_od(CITY / "SiouxFalls_od.csv", min_trips=1000, include_self=False)
print(f"{large.n_edges} pairs carry {large.edge_weight.sum():,.0f} {large.weight_unit}")
