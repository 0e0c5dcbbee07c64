"""Roads and turns of a SUMO network: here a little one, as netconvert writes it.

python examples/sumo.py [FILE.net.xml]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from stgraph_connectors.roads.sumo import read_sumo

# three roads meet; there is a connection for each turn but the one from the east to the north
NET = """<net version="1.20">
  <location netOffset="-500000.00,-5538400.00" projParameter="+proj=utm +zone=32 +datum=WGS84"/>
  <edge id="west_in" from="west" to="centre" type="highway.secondary">
    <lane id="west_in_0" index="0" speed="13.89" length="190" shape="0,198 190,198"/>
    <lane id="west_in_1" index="1" speed="13.89" length="190" shape="0,202 190,202"/>
  </edge>
  <edge id="east_in" from="east" to="centre" type="highway.secondary">
    <lane id="east_in_0" index="0" speed="13.89" length="190" shape="400,202 210,202"/>
  </edge>
  <edge id="north_out" from="centre" to="north" type="highway.residential">
    <lane id="north_out_0" index="0" speed="8.33" length="190" shape="202,210 202,400"/>
  </edge>
  <edge id="west_out" from="centre" to="west" type="highway.secondary">
    <lane id="west_out_0" index="0" speed="13.89" length="190" shape="190,206 0,206"/>
  </edge>
  <junction id="west" type="dead_end" x="0" y="200"/>
  <junction id="centre" type="priority" x="200" y="200"/>
  <junction id="east" type="dead_end" x="400" y="200"/>
  <junction id="north" type="dead_end" x="200" y="400"/>
  <connection from="west_in" to="north_out" fromLane="1" toLane="0" dir="l" state="M"/>
  <connection from="east_in" to="west_out" fromLane="0" toLane="0" dir="s" state="M"/>
</net>
"""

if len(sys.argv) > 1:
    roads = read_sumo(sys.argv[1])
else:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "little.net.xml"
        path.write_text(NET)
        roads = read_sumo(path)
print(roads)
print(roads.report)
print(roads.nodes[["sumo_id", "highway", "lanes", "speed_kmh", "length_m"]].head(10))
names = roads.nodes["sumo_id"].to_numpy()
for before, after in roads.edge_index.T[:10]:
    print(f"{names[before]} -> {names[after]}")
