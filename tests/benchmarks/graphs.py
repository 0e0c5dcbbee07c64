"""Time and memory from road networks to graphs, next to what users do without us.

Each piece of work runs in processes of its own, ours and theirs in turn, medians of five; a time
is that of the work alone, without imports. city2graph is measured where the variable
CITY2GRAPH_PYTHON names a Python that has it.
"""

from __future__ import annotations

import gc
import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from _common import Row, at_least, at_most, main
from stgraph_connectors.roads.lines import read_road_lines

from stgraph.neighbours import build_network, snap_stations

DATA = Path(os.environ.get("STGRAPH_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))
GRAPHML = "STGRAPH_BENCH_GRAPHML"  # where the processes find the unpacked file
PBF = DATA / "osm-heidelberg/heidelberg.osm.pbf"


def measure(quick: bool) -> list[Row]:
    """Return the rows of the table, of a small city if `quick`."""
    times = 1 if quick else 5
    big, small = (5_000, 2_000) if quick else (200_000, 20_000)
    wide, n_stations = (5_000, 200) if quick else (100_000, 8_600)
    return [
        *_line_graph_rows(times),
        *_pbf_rows(times, "drive" if quick else "all"),
        *_city_rows(times, big, small),
        *_station_rows(times, wide, n_stations),
        *_truth_rows(),
    ]


# ------------------------------------------------------------------------- groups of rows


def _line_graph_rows(times: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "drive.graphml")
        with gzip.open(DATA / "osm-heidelberg/drive.graphml.gz") as packed, path.open("wb") as file:
            shutil.copyfileobj(packed, file)
        os.environ[GRAPHML] = str(path)
        works = ["ours_file", "ours_memory", "networkx_file", "networkx_memory"]
        spent = _in_turn(works, times)
    ours, ours_memory, theirs, theirs_memory = (spent[name][0] for name in works)
    rows = [
        Row("GraphML file to line graph tensors", ours, "s"),
        Row("the same by osmnx + networkx + from_networkx", theirs, "s"),
        at_least("times faster, file read by both", theirs / ours, "x", 20),
        Row("graph in memory to line graph tensors", ours_memory, "s"),
        Row("the same by networkx + from_networkx", theirs_memory, "s"),
        at_least("times faster, from memory", theirs_memory / ours_memory, "x", 20),
    ]
    peer = os.environ.get("CITY2GRAPH_PYTHON")
    if peer:
        rows += _city2graph_rows(peer, times, ours_memory)
    return rows


def _city2graph_rows(peer: str, times: int, ours: float) -> list[Row]:
    packed = DATA / "osm-heidelberg/drive.graphml.gz"
    command = [peer, str(Path(__file__).with_name("_city2graph.py")), str(packed), str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = float(json.loads(done.stdout.splitlines()[-1])["seconds"])
    return [
        Row("the same by city2graph.dual_graph + gdf_to_pyg", theirs, "s"),
        at_least("times faster than city2graph, from memory", theirs / ours, "x", 1),
    ]


def _pbf_rows(times: int, network: str) -> list[Row]:
    seconds, peak = _in_turn([f"pbf_{network}"], times)[f"pbf_{network}"]
    return [
        at_most(f"Heidelberg .osm.pbf, {network} ways, to a graph", seconds, "s", 15),
        at_most("peak memory of it", peak, "MB", 1_500),
    ]


def _city_rows(times: int, big: int, small: int) -> list[Row]:
    spent = _in_turn([f"city_{big}", f"city_{small}"], times)
    (long, peak), (short, _) = spent[f"city_{big}"], spent[f"city_{small}"]
    ratio = (long / big) / (short / small)
    return [
        at_most(f"{big:,} segments: line graph + kNN + kernel", long, "s", 20),
        at_most("peak memory of it", peak, "MB", 3_000),
        at_most(f"cost per segment, over that of {small:,}", ratio, "x", 1.5),
    ]


def _station_rows(times: int, n_segments: int, n_stations: int) -> list[Row]:
    names = [f"snap_{n_segments}_{n_stations}", f"network_{n_segments}_{n_stations}"]
    spent = _in_turn(names, times)
    (snap, _), (network, peak) = (spent[name] for name in names)
    return [
        at_most(f"{n_stations:,} points onto {n_segments:,} segments", snap, "s", 5),
        at_most(f"{n_stations:,} stations: kernel of road distances up to 10 km", network, "s", 60),
        Row("peak memory of it", peak, "MB"),
    ]


def _truth_rows() -> list[Row]:
    """Return how the sensors of PEMS-BAY are placed, and how far apart, next to what is published.

    Each of the 848 lines is one carriageway, drawn in the direction of its traffic.
    """
    folder = DATA / "pems-bay-graph"
    lines = folder / "osm_highways.gpkg"
    roads = read_road_lines(lines, id_column="col1", oneway="forward", nodes="junctions")
    sensors = pd.read_csv(folder / "sensors.csv", index_col="sensor_id")
    places = gpd.points_from_xy(sensors["longitude"], sensors["latitude"], crs=4326)
    stations = gpd.GeoDataFrame(index=sensors.index, geometry=places)
    truth = pd.read_csv(folder / "points_on_edges.csv")
    found = snap_stations(stations, roads).stations
    right = found["segment_id"].to_numpy() == truth["E"].to_numpy()
    off = np.abs(found["offset_m"].to_numpy() - truth["length"].to_numpy())[right]
    graph = build_network(stations, roads, weight="length", max_length_m=1e6)
    source, target = stations.index.to_numpy()[graph.edge_index]
    ours = pd.DataFrame({"from": source, "to": target, "metres": graph.edge_weight})
    pairs = ours.merge(pd.read_csv(folder / "distances.csv.gz"), on=["from", "to"])
    near = pairs[pairs["metres"] <= 10_000]
    return [
        at_least("PEMS-BAY: sensors on the right line", 100 * right.mean(), "%", 99),
        at_most("median error along it", float(np.median(off)), "m", 5),
        at_least(
            "road distances, correlation with the published where both are up to 10 km",
            _correlation(near[near["cost"] <= 10_000]),
            "",
            0.9,
        ),
        Row("where ours are up to 10 km", _correlation(near), ""),
        Row("where both have any way", _correlation(pairs), ""),
    ]


def _correlation(pairs: pd.DataFrame) -> float:
    """Return the correlation of our distances with the published ones."""
    return float(np.corrcoef(pairs["metres"], pairs["cost"])[0, 1])


def _in_turn(names: list[str], times: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds and peak MB of some works, run in turn."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(times):
        for name in names:
            command = [sys.executable, __file__, "--work", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: tuple(statistics.median(run[key] for run in some) for key in ("seconds", "peak_mb"))
        for name, some in runs.items()
    }


# ---------------------------------------------------- works: each returns what is to be timed


def _ours_file() -> Callable[[], object]:
    from stgraph_connectors.roads.graphml import read_graphml

    from stgraph.convert import to_pyg

    return lambda: to_pyg(read_graphml(os.environ[GRAPHML]))


def _ours_memory() -> Callable[[], object]:
    from stgraph_connectors.roads.graphml import read_graphml

    from stgraph.convert import to_pyg
    from stgraph.neighbours import build_line_graph

    roads = read_graphml(os.environ[GRAPHML], nodes="junctions")
    return lambda: to_pyg(build_line_graph(roads, u_turns=True))


def _networkx_file() -> Callable[[], object]:
    import osmnx

    turn = _networkx_turn()
    return lambda: turn(osmnx.load_graphml(os.environ[GRAPHML]))


def _networkx_memory() -> Callable[[], object]:
    import osmnx

    graph = osmnx.load_graphml(os.environ[GRAPHML])
    turn = _networkx_turn()
    return lambda: turn(graph)


def _networkx_turn() -> Callable[[object], object]:
    """Return the way of networkx; its line graph has no attributes, so length is carried over."""
    import networkx as nx
    from torch_geometric.utils import from_networkx

    def turn(graph: nx.MultiDiGraph) -> object:
        lines = nx.line_graph(graph)
        for segment in lines.nodes:
            lines.nodes[segment]["length"] = float(graph.edges[segment]["length"])
        return from_networkx(lines, group_node_attrs=["length"])

    return turn


def _pbf(network: str) -> Callable[[], object]:
    from stgraph_connectors.roads.osm import read_osm

    return lambda: read_osm(PBF, network=network)


def _city(n_segments: str) -> Callable[[], object]:
    from _cities import make_city

    from stgraph.neighbours import build_gaussian, build_knn, build_line_graph

    roads = make_city(int(n_segments), nodes="junctions")

    def build() -> object:
        lines = build_line_graph(roads)
        return lines, build_knn(lines, k=8), build_gaussian(lines, k=16)

    return build


def _snap(n_segments: str, n_stations: str) -> Callable[[], object]:
    from _cities import make_city, make_stations

    city = make_city(int(n_segments))
    stations = make_stations(int(n_stations), city)
    return lambda: snap_stations(stations, city)


def _network(n_segments: str, n_stations: str) -> Callable[[], object]:
    from _cities import make_city, make_stations

    city = make_city(int(n_segments))
    stations = make_stations(int(n_stations), city)
    return lambda: build_network(stations, city, max_length_m=10_000.0)


WORKS: dict[str, Callable[..., Callable[[], object]]] = {
    "ours_file": _ours_file,
    "ours_memory": _ours_memory,
    "networkx_file": _networkx_file,
    "networkx_memory": _networkx_memory,
    "pbf": _pbf,
    "city": _city,
    "snap": _snap,
    "network": _network,
}


def run_work(name: str) -> None:
    """Do one piece of work and print its seconds and the peak memory of the process."""
    if name in WORKS:
        work = WORKS[name]()
    else:
        kind, *sizes = name.split("_")
        work = WORKS[kind](*sizes)
    if name in WORKS:  # those of a second or less are warmed up, on both sides
        work()
    gc.collect()
    gc.freeze()  # what was imported and made before is not searched for garbage again
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


if __name__ == "__main__":
    if "--work" in sys.argv:
        run_work(sys.argv[-1])
    else:
        main(__doc__.splitlines()[0], measure)
