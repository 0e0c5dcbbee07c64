"""The dual graph of a GraphML file by city2graph, in an environment that has it.

Prints the median seconds of some runs as JSON; `graphs.py` runs this.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import city2graph
import osmnx

warnings.simplefilter("ignore")


def main(packed: str, times: int) -> None:
    """Read the file, turn its graph some times, and print how long it took."""
    with tempfile.NamedTemporaryFile(suffix=".graphml") as file:
        Path(file.name).write_bytes(gzip.decompress(Path(packed).read_bytes()))
        graph = osmnx.load_graphml(file.name)
    nodes, edges = osmnx.graph_to_gdfs(graph)
    edges = edges[["length", "geometry"]].astype({"length": float})
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        dual_nodes, dual_edges = city2graph.dual_graph((nodes[["geometry"]], edges))
        data = city2graph.gdf_to_pyg(dual_nodes, dual_edges, node_feature_cols=["length"])
        seconds.append(time.perf_counter() - began)
    sizes = {"n_nodes": int(data.num_nodes), "n_edges": int(data.num_edges)}
    print(json.dumps({"seconds": statistics.median(seconds), **sizes}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
