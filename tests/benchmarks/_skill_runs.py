"""Fit one model to one data set and measure it; every measurement is one JSON line."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stgraph import registry
from stgraph.backtesting import evaluate
from stgraph.config import JobConfig
from stgraph.configfile import read_config
from stgraph.forecasting import Forecaster
from stgraph.graph import STGraph
from stgraph.pipeline import load_graph
from stgraph.training import Prepared, fit_prepared, prepare

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# data set -> horizons shown in its table
DATA = {
    "metr-la-week": (3, 6, 12),
    "scats-boroondara": (1, 4, 8, 12),
    "auckland": (1, 6, 12, 24),
    "montevideo-bus": (1, 3, 6, 12),
    "hangzhou-metro": (1, 3, 6),
}
BASELINES = (
    "persistence",
    "seasonal_naive",
    "weekly_profile",
    "profile_decay",
    "ridge",
    "ridge_node",
    "var",
    "lightgbm",
)
FAMILIES = (
    "gcn_lstm",
    "identity_mlp",
    "gconv_lstm",
    "gc_lstm",
    "t_gcn",
    "dcrnn",
    "a3t_gcn",
    "graph_transformer",
    "spacetime_patches",
    "tcn",
    "tdnn",
    "stgcn",
    "graph_wavenet",
    "temporal_attention",
)
CHOICES = ("ensemble", "auto")  # made of several models
MODELS = (*BASELINES, *FAMILIES, *CHOICES)
QUICK_STEPS = 1500  # of the smoke version

Line = dict[str, Any]


@dataclass(frozen=True)
class DataSet:
    """One data set, ready to fit models to."""

    name: str
    job: JobConfig
    graph: STGraph
    prepared: Prepared
    is_quick: bool


def known(model: str) -> bool:
    """Tell whether a model can be fitted here; those that are not registered are skipped."""
    return model.split()[0] in registry.names("models")


def load(name: str, *, quick: bool) -> DataSet:
    """Read a data set as its example does and fit what all models are shown."""
    settings = ["train.max_epochs=1"] if quick else []
    job = read_config(EXAMPLES / f"{name}.toml", overrides=settings)
    graph = load_graph(job)
    if quick:
        graph = graph.select_steps(0, min(graph.n_steps, QUICK_STEPS))
    windows = job.windows
    prepared = prepare(
        graph, window=windows.window, horizon=windows.horizon, fractions=windows.fractions
    )
    return DataSet(name, job, graph, prepared, quick)


def measure(data: DataSet, model: str) -> Line:
    """Fit a model with its default settings, seed 0, and return what it reaches in the test.

    Settings that differ stand behind its name, as in ``gcn_lstm mix_inputs=diffusion``.
    """
    name, *settings = model.split()
    options = dict(setting.split("=", 1) for setting in settings)
    began, cpu_began = time.perf_counter(), time.process_time()
    forecaster: Forecaster = fit_prepared(
        data.prepared, model=name, options=options, train=data.job.train
    )
    seconds = time.perf_counter() - began
    cpu_seconds = time.process_time() - cpu_began
    evaluation = evaluate(forecaster, data.graph, baselines=())
    table = evaluation.table()
    columns = ["horizon", "mae", "rmse", "mape_percent", "coverage_percent", "crps"]
    return {
        "data": data.name,
        "model": model,
        "quick": data.is_quick,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),  # of all threads; says more on a busy machine
        "nodes": data.graph.n_nodes,
        "steps": data.graph.n_steps,
        "windows": evaluation.n_windows,
        "unit": evaluation.unit,
        "errors": table[columns].to_dict(orient="list"),
        "notes": {name: str(value) for name, value in forecaster.notes.items()},
        "machine": machine(),
    }


def machine() -> str:
    """Return what the times depend on."""
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
