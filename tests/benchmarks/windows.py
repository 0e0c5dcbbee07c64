"""Memory that windows need above the raw signal, next to torch-geometric-temporal's way.

Each way runs in a process of its own on a synthetic signal of METR-LA's size (34,272 steps, 207
nodes, 2 float32 features, 57 MB). Its peak of resident memory is counted from the moment when the
signal is there and everything is imported. Linux only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _common import Row, at_least, at_most, main

N_STEPS, N_NODES, WINDOW, HORIZON, BATCH = 34_272, 207, 12, 12, 64
MEGABYTE = 1e6


def measure(quick: bool) -> list[Row]:
    """Return memory and time of each way."""
    n_steps = 6_000 if quick else N_STEPS
    ours = _in_process("ours", n_steps)
    half = _in_process("ours", n_steps // 2)
    fitted = _in_process("fitted", n_steps)
    rows = [
        at_most("windows: above the signal, an epoch", ours["extra_mb"], "MB", 60),
        at_most(
            "windows: more than at half the length", ours["extra_mb"] - half["extra_mb"], "MB", 10
        ),
        Row("windows: a batch of 64", ours["ms_per_batch"], "ms"),
        Row("windows: with profile, left out by day", fitted["extra_mb"], "MB"),
        Row("windows: a batch of 64 with profile", fitted["ms_per_batch"], "ms"),
    ]
    theirs = _in_process("pgt", n_steps)
    if "missing" in theirs:
        print(f"without torch-geometric-temporal: {theirs['missing']}", file=sys.stderr)
        return rows
    return [
        *rows,
        Row("torch-geometric-temporal: loader and a3tgcn2 example", theirs["extra_mb"], "MB"),
        Row("torch-geometric-temporal: a batch of 64", theirs["ms_per_batch"], "ms"),
        at_least(
            "torch-geometric-temporal: times our memory",
            theirs["extra_mb"] / max(ours["extra_mb"], 0.1),
            "x",
            1 if quick else 10,
        ),
    ]


def _in_process(way: str, n_steps: int) -> dict[str, float]:
    """Return what a way measures in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--way", way, str(n_steps)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


# ------------------------------------------------------------------------------ the ways


def ours(n_steps: int) -> dict[str, float]:
    """Iterate over an epoch of our windows, without a profile."""
    from stgraph.inputs import Inputs, Source
    from stgraph.preprocessing.scalers import Scaler
    from stgraph.windows import Windows

    graph = _graph(n_steps)
    center = np.zeros((1, 2), dtype=np.float32)
    inputs = Inputs(
        window=WINDOW,
        horizon=HORIZON,
        features=graph.features,
        zone=graph.zone,
        step=graph.step,
        scaler=Scaler("standard", center, center + 1),
        lower=center[0, :1],
        calendar=("day_sin_1", "day_cos_1", "week_sin", "week_cos"),
    )

    def work() -> float:
        windows = Windows(Source(graph, inputs), range(n_steps - WINDOW - HORIZON + 1))
        return _iterate(windows.loader(batch_size=BATCH))

    return _extra_memory(work)


def fitted(n_steps: int) -> dict[str, float]:
    """Fit the inputs and iterate over an epoch as training does."""
    from stgraph.inputs import fit_inputs
    from stgraph.windows import Windows

    graph = _graph(n_steps)

    def work() -> float:
        _, source = fit_inputs(
            graph, window=WINDOW, horizon=HORIZON, train_steps=int(0.7 * n_steps)
        )
        starts = range(int(0.7 * n_steps) - WINDOW - HORIZON + 1)
        return _iterate(Windows(source, starts).loader(batch_size=BATCH))

    return _extra_memory(work)


def pgt(n_steps: int) -> dict[str, float]:
    """Do what torch-geometric-temporal's loader and its a3tgcn2 example do."""
    import torch

    from stgraph.convert import to_pgt
    from stgraph.errors import MissingExtraError

    graph = _graph(n_steps)
    try:
        to_pgt(graph.select_steps(0, 3).select_features(["speed"]))  # imports it
    except MissingExtraError as error:
        return {"missing": str(error)}  # type: ignore[dict-item]
    from torch_geometric_temporal.dataset.metr_la import METRLADatasetLoader
    from torch_geometric_temporal.signal import temporal_signal_split

    loader = METRLADatasetLoader.__new__(METRLADatasetLoader)  # its files are not at hand
    loader.X = torch.from_numpy(np.ascontiguousarray(graph.values.transpose(1, 2, 0)))
    loader.A = torch.eye(N_NODES)
    del graph

    def work() -> float:
        dataset = loader.get_dataset(num_timesteps_in=WINDOW, num_timesteps_out=HORIZON)
        train, _ = temporal_signal_split(dataset, train_ratio=0.8)
        features = torch.from_numpy(np.array(train.features)).type(torch.FloatTensor)
        targets = torch.from_numpy(np.array(train.targets)).type(torch.FloatTensor)
        whole = torch.utils.data.TensorDataset(features, targets)
        batches = torch.utils.data.DataLoader(whole, batch_size=BATCH, shuffle=True, drop_last=True)
        return _iterate(batches, at_most=100)

    return _extra_memory(work)


def _graph(n_steps: int):
    """Return a synthetic signal with two features."""
    import geopandas as gpd
    import pandas as pd

    from stgraph.graph import Feature, STGraph

    values = np.random.default_rng(0).random((n_steps, N_NODES, 2), dtype=np.float32)
    return STGraph(
        nodes=gpd.GeoDataFrame(geometry=gpd.GeoSeries([None] * N_NODES)),
        time=pd.date_range("2012-03-01", periods=n_steps, freq="5min", tz="UTC"),
        values=values,
        features=(Feature("speed", "mph"), Feature("time of day", "", "observed")),
        zone="America/Los_Angeles",
    )


# ------------------------------------------------------------------------------ measuring


def _iterate(batches, *, at_most: int | None = None) -> float:
    """Go through the batches and return the milliseconds that one took."""
    began, n_seen = time.perf_counter(), 0
    for _ in batches:
        n_seen += 1
        if n_seen == at_most:
            break
    return 1000 * (time.perf_counter() - began) / n_seen


def _extra_memory(work: Callable[[], float]) -> dict[str, float]:
    """Return the peak of resident memory above that before, and what the work returns."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident("VmRSS")
    ms_per_batch = work()
    return {"extra_mb": (_resident("VmHWM") - before) / MEGABYTE, "ms_per_batch": ms_per_batch}


def _resident(field: str) -> int:
    """Return a number of bytes that the kernel counts for this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        way = {"ours": ours, "fitted": fitted, "pgt": pgt}[sys.argv[2]]
        print(json.dumps(way(int(sys.argv[3]))))
    else:
        main(__doc__.splitlines()[0], measure)
