"""Roads of an OpenStreetMap file: segments to forecast on, and junctions to route over.

python examples/osm.py   # reads krems.osm.gz below STGRAPH_DATA, else a crossing that it draws
"""

from __future__ import annotations

import os
from pathlib import Path

from stgraph_connectors.roads.osm import read_osm

CROSSING = """<osm version="0.6">
<node id="1" lon="9.000" lat="50.001"/><node id="2" lon="9.002" lat="50.001"/>
<node id="3" lon="9.001" lat="50.000"/><node id="4" lon="9.001" lat="50.002"/>
<node id="5" lon="9.001" lat="50.001"><tag k="highway" v="traffic_signals"/></node>
<way id="10"><nd ref="1"/><nd ref="5"/><nd ref="2"/>
  <tag k="highway" v="primary"/><tag k="maxspeed" v="50"/></way>
<way id="11"><nd ref="3"/><nd ref="5"/><nd ref="4"/><tag k="highway" v="residential"/></way>
</osm>"""


def main() -> None:
    path = Path(os.environ.get("STGRAPH_DATA", "../shared/data")) / "osm-small" / "krems.osm.gz"
    if not path.exists():
        path = Path("crossing.osm")
        path.write_text(CROSSING)

    # directed segments are nodes, turns are edges: what forecasts want
    segments = read_osm(path)
    print(segments.report)
    print(f"{segments.n_nodes} segments, {segments.n_edges} turns")
    columns = ["highway", "length_m", "speed_kmh", "speed_imputed", "travel_time_s"]
    print(segments.nodes[columns].head())

    # junctions are nodes, every road for walkers included
    junctions = read_osm(path, network="walk", nodes="junctions")
    length_km = junctions.edges["length_m"].sum() / 1000
    print(f"{junctions.n_nodes} junctions, {length_km:.0f} km of ways for walkers, both ways")


if __name__ == "__main__":
    main()
