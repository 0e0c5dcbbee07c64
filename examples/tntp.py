"""Networks of the TransportationNetworks collection: Anaheim in feet, Sioux Falls in nothing said.

python examples/tntp.py   # the data folder is STGRAPH_DATA, ../shared/data if it is not set
"""

from __future__ import annotations

import os
from pathlib import Path

from stgraph_connectors.roads.tntp import read_tntp

folder = Path(os.environ.get("STGRAPH_DATA", "../shared/data")) / "transport-networks"

# the units stand in the original header of the file; nobody drives through the zones
places = folder / "Anaheim/anaheim_nodes.geojson"
anaheim = read_tntp(folder / "Anaheim/Anaheim_net.tntp", coordinates=places)
print(anaheim)
print(anaheim.nodes[["capacity", "free_flow_time", "length_m", "speed_kmh"]].describe())

# nothing says units here: lengths are measured, the time unit is from the README of the network
sioux_falls = read_tntp(
    folder / "SiouxFalls/SiouxFalls_net.tntp", crs=4326, time_unit="0.01 h", nodes="junctions"
)
print(sioux_falls)
print(sioux_falls.report)
