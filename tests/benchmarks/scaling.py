"""How time and memory grow with the number of nodes: every learned model on street lattices.

A lattice of streets, jittered, with one street in twenty missing: a planar graph of degree ~4 both
ways, three days of 15-minute readings, window and horizon 12. Each model at each size runs in a
process of its own, so that its peak memory is its own: it gathers batches, trains a few steps and
forecasts one window of all nodes. Batches hold about as many values at every size, and the cost
per node is what a step takes divided by windows x nodes. ``whole path``: everything that fitting
does around the model's own training (scaler, profile, anchor, trust, calibration).
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from _common import Row, at_most, main

SIZES = (200, 2_000, 20_000, 100_000)
QUICK = (200, 2_000)
QUICK_MODELS = ("gcn_lstm", "spacetime_patches")
VALUES = 64_000  # windows x nodes in a batch, about
W = H = 12
N_DAYS = 3
STEPS_A_DAY = 96
MAX_GROWTH = 2.0  # cost per node at the largest size, in parts of that at 2,000
MAX_SECONDS = 10.0
MAX_MB = 8_000
PATIENCE = 600  # seconds for one model at one size
NOT_HERE = {"cnn_3d", "cnn_lstm", "conv_lstm", "pgt"}  # they need a grid, or another's layer
# what a model is given on large graphs; nothing: it sees to that by itself
LARGE: dict[str, dict[str, Any]] = {}


def make_streets(n_nodes: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return places (N, 2) in metres and edges (2, E) both ways of a lattice of streets."""
    generator = np.random.default_rng(seed)
    width = int(np.ceil(np.sqrt(n_nodes)))
    node = np.arange(n_nodes)
    column, row = node % width, node // width
    places = 100.0 * np.stack([column, row], axis=1) + generator.uniform(-30, 30, (n_nodes, 2))
    right = node[(column + 1 < width) & (node + 1 < n_nodes)]
    down = node[node + width < n_nodes]
    pairs = np.concatenate([np.stack([right, right + 1]), np.stack([down, down + width])], axis=1)
    pairs = pairs[:, generator.random(pairs.shape[1]) > 0.05]
    return places, np.concatenate([pairs, pairs[::-1]], axis=1)


def make_city(n_nodes: int) -> Any:
    """Return a signal on the streets: a daily wave, slow waves over space, noise."""
    import geopandas as gpd
    import pandas as pd

    from stgraph.graph import Feature, STGraph

    places, edges = make_streets(n_nodes)
    generator = np.random.default_rng(1)
    n_steps = N_DAYS * STEPS_A_DAY
    hour = (np.arange(n_steps, dtype=np.float32) / STEPS_A_DAY)[:, None]
    across = (places[:, 0] / 1_500).astype(np.float32)
    values = 40 + 10 * np.sin(2 * np.pi * hour + 0.1 * across)
    values += 6 * np.sin(2 * np.pi * 3.3 * hour - across)
    values += generator.standard_normal(values.shape, dtype=np.float32)
    metres = np.linalg.norm(places[edges[0]] - places[edges[1]], axis=1)
    return STGraph(
        nodes=gpd.GeoDataFrame(
            {"kind": ["station"] * n_nodes},
            geometry=gpd.points_from_xy(*(1e6 + places.T)),
            crs="EPSG:2193",
        ),
        edge_index=edges,
        edge_weight=metres.astype(np.float32),
        weight_unit="m",
        time=pd.date_range("2024-05-06", periods=n_steps, freq="15min", tz="UTC"),
        values=values[..., None],
        features=(Feature("speed", "km/h"),),
        zone="Pacific/Auckland",
    )


def measure(quick: bool) -> list[Row]:
    """Run every model at every size, and the way around the models."""
    from learned_models import SMALL

    sizes = QUICK if quick else SIZES
    named = os.environ.get("STGRAPH_BENCHMARK_MODELS", "")
    everything = [name for name in sorted(SMALL) if name not in NOT_HERE]
    chosen = named.split(",") if named else QUICK_MODELS if quick else everything
    rows: list[Row] = []
    for name in ["whole path", *sorted(SMALL)]:
        if name in chosen or (not named and name == "whole path"):
            rows += judge(name, {n: run_alone(name, n) for n in sizes}, quick=quick)
    return rows


def run_alone(name: str, n_nodes: int) -> dict[str, float]:
    """Return what a fresh process measures; nothing where the model refuses the task."""
    command = [sys.executable, str(Path(__file__)), "--one", name, str(n_nodes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    except subprocess.CalledProcessError as error:
        print(f"{name}, {n_nodes} nodes: {(error.stderr.splitlines() or ['killed'])[-1]}")
        return {}
    except subprocess.TimeoutExpired:
        print(f"{name}, {n_nodes} nodes: not done in {PATIENCE} s")
        return {}
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}, {n_nodes} nodes: {found}", flush=True)
    return found


def judge(name: str, found: dict[int, dict[str, float]], *, quick: bool) -> list[Row]:
    """Return the rows of one model: every size, and how the cost per node grows."""
    rows = []
    largest, middle = max(found), 2_000
    for n_nodes, numbers in found.items():
        for key, value in numbers.items():
            title = f"{name}, {n_nodes:,} nodes: {key.partition(' [')[0]}"
            unit = key.partition(" [")[2].removesuffix("]")
            goal = None if quick or n_nodes < largest else _goal(key)
            rows.append(
                Row(title, value, unit) if goal is None else at_most(title, value, unit, goal)
            )
    if not quick and found[largest] and found[middle]:
        for key in found[largest]:
            if key.endswith("per node]"):
                ratio = found[largest][key] / found[middle][key]
                title = f"{name}: {key.partition(' [')[0]}, 100,000 : 2,000"
                rows.append(at_most(title, ratio, "x", MAX_GROWTH))
    return rows


def _goal(key: str) -> float | None:
    """Return the goal of a number at the largest size."""
    if key.startswith("peak memory"):
        return MAX_MB
    return MAX_SECONDS if key.startswith("forecast") else None


# ------------------------------------------------------------------- in a process of its own


def measure_one(name: str, n_nodes: int) -> dict[str, float]:
    """Return times and memory of one model at one size."""
    import torch

    import stgraph.training  # noqa: F401  # so that imports are not counted

    torch.manual_seed(0)
    imports = _peak()
    graph = make_city(n_nodes)
    found = measure_path(graph) if name == "whole path" else measure_model(name, graph)
    found["peak memory above imports [MB]"] = _peak() - imports
    found["peak memory [MB]"] = _peak()
    return {key: round(value, 4) for key, value in found.items()}


def measure_model(name: str, graph: Any) -> dict[str, float]:
    """Return what training steps and the forecast of one window take."""
    import torch

    from stgraph.allocator import keep_freed_memory
    from stgraph.inputs import Source, fit_inputs
    from stgraph.layout import layout_of
    from stgraph.models.build import build_predictor
    from stgraph.windows import Windows

    keep_freed_memory()
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=2 * STEPS_A_DAY + W + H)
    predictor = build_predictor(name, LARGE.get(name, {}), inputs, layout=layout_of(graph))
    windows = Windows(source, range(STEPS_A_DAY))
    n_batch = min(32, max(1, VALUES // graph.n_nodes))
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=1e-4)
    batch = windows.__getitems__(range(n_batch))

    def step() -> None:
        optimizer.zero_grad()
        predictor.loss(batch).backward()
        optimizer.step()

    values = n_batch * graph.n_nodes
    gathering = _median_of(lambda: windows.__getitems__(range(n_batch)))
    training = _median_of(step)
    predictor.eval()
    known = Windows(Source(graph, inputs), [2 * STEPS_A_DAY])
    with torch.inference_mode():
        forecasting = _median_of(lambda: predictor(known[0]))
        many = _median_of(lambda: predictor(batch))
    return {
        "gathering [us per node]": 1e6 * gathering / values,
        "training [us per node]": 1e6 * training / values,
        "inference [us per node]": 1e6 * many / values,
        "forecast of one window [s]": forecasting,
    }


def measure_path(graph: Any) -> dict[str, float]:
    """Return what the parts of a fit and of a forecast take around learning.

    The model that they stand around is one of the smallest, and learns for some seconds only.
    """
    from stgraph.config import HeadConfig, TrainConfig
    from stgraph.models.build import build_predictor
    from stgraph.shrinkage import choose_trust
    from stgraph.training import calibrate, fit, prepare

    per_node = 1e6 / graph.n_nodes
    prepared, preparing = _timed(lambda: prepare(graph, window=W, horizon=H))
    predictor = build_predictor("profile_decay", {}, prepared.inputs, layout=prepared.layout).eval()
    _, trusting = _timed(lambda: choose_trust(predictor, prepared.tuning))
    _, calibrating = _timed(
        lambda: calibrate(predictor, HeadConfig(), prepared.tuning, prepared.inputs)
    )
    train = TrainConfig(max_epochs=1, max_minutes=0.05, device="cpu")
    forecaster = fit(
        graph, model="identity_mlp", options={"n_layers": 1}, window=W, horizon=H, train=train
    )
    _, forecasting = _timed(lambda: forecaster.forecast(graph))
    return {
        "inputs [us per node]": preparing * per_node,
        "trust [us per node]": trusting * per_node,
        "calibration [us per node]": calibrating * per_node,
        "forecast from a graph to a graph [s]": forecasting,
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and the seconds it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def _median_of(work: Callable[[], object], *, n_times: int = 3) -> float:
    """Return the median of some times in seconds, after one that does not count."""
    work()
    times = []
    for _ in range(n_times):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _peak() -> float:
    """Return the largest memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure_one(sys.argv[2], int(sys.argv[3]))))
    else:
        main(__doc__, measure)
