"""A network in the General Modeling Network Specification: a folder of CSV files.

python examples/gmns.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from stgraph_connectors.roads.gmns import read_gmns

# a main street, open both ways, and a side street that one may leave to the right only
FILES = {
    "config.csv": "dataset_name,long_length,speed,crs\nvillage,mile,mph,EPSG:25832\n",
    "node.csv": (
        "node_id,x_coord,y_coord\n1,500000,5400000\n2,500100,5400000\n3,500300,5400000\n"
        "4,500100,5399950\n"
    ),
    "link.csv": (
        "link_id,name,from_node_id,to_node_id,directed,length,facility_type,free_speed,lanes\n"
        "10,Main Street,1,2,false,0.0621,arterial,30,1\n"
        "20,Main Street,2,3,false,0.1243,arterial,40,1\n"
        "30,Side Street,4,2,true,0.0311,local,20,1\n"
    ),
    "movement.csv": "mvmt_id,node_id,ib_link_id,ob_link_id,type\n1,2,30,20,right\n",
}

if len(sys.argv) > 1:
    roads = read_gmns(sys.argv[1])
else:
    with tempfile.TemporaryDirectory() as name:
        for file, text in FILES.items():
            (Path(name) / file).write_text(text)
        roads = read_gmns(name)
print(roads)
print(roads.report)
print(roads.nodes[["link_id", "name", "length_m", "speed_kmh", "from_junction", "to_junction"]])
links = roads.nodes["link_id"].to_numpy()
print("turns:", [f"{links[a]} -> {links[b]}" for a, b in roads.edge_index.T])
