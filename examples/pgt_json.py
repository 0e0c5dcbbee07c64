"""A graph whose edges change every day: people moving between English regions, spring 2020.

python examples/pgt_json.py   # the data folder is ../shared/data, or STGRAPH_DATA
"""

from __future__ import annotations

import os
from pathlib import Path

from stgraph_connectors.pgt_json import read_pgt_json

from stgraph.neighbours import collapse_edges, edges_at, iterate_edge_sets

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("STGRAPH_DATA", HERE / "../../shared/data"))

graph = read_pgt_json(
    DATA / "pygt-small/england_covid.json.gz", start="2020-03-13", step_minutes=1440,
    feature="cases", weight_unit="people", zone="Europe/London",
)  # fmt: skip
print(graph)
assert graph.edges is not None
print(graph.edges.head(3))  # from when to when each edge is valid

for day, _, people in list(iterate_edge_sets(graph))[::15]:
    print(f"{day:%d %B}: {len(people):,} edges, {people.sum():,.0f} people")

print("on Easter Sunday", edges_at(graph, "2020-04-12"))
print("on average", collapse_edges(graph))  # one edge a pair, which models can take
