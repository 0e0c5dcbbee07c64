"""Any layer of lines as roads: the highways of San José, and links with junctions of their own.

python examples/road_lines.py   # the data folder is STGRAPH_DATA, ../shared/data if it is not set
"""

from __future__ import annotations

import os
from pathlib import Path

from stgraph_connectors.roads.lines import read_road_lines

folder = Path(os.environ.get("STGRAPH_DATA", "../shared/data"))

# plain lines without a single attribute: joined where they end, each driven as it is drawn
highways = read_road_lines(folder / "pems-bay-graph/osm_highways.gpkg", oneway="forward")
print(highways)
print(highways.report)

# a layer that names its junctions: ids of links stay those of the source
city = read_road_lines(
    folder / "simcity/city.gpkg", layer="links", id_column="link_id", from_column="u", to_column="v"
)
print(city.nodes[["name", "highway", "length_m", "speed_kmh", "lanes", "reverse_id"]].head())

junctions = read_road_lines(folder / "simcity/city.gpkg", layer="links", nodes="junctions")
print(f"{junctions.n_nodes} junctions, {junctions.edges['length_m'].sum() / 1000:.1f} km")
