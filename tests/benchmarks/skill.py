"""How good the forecasts are: every model next to the simple baselines, on three real data sets.

Each job is a config of ``examples/``, with its default settings and seed 0; the last 20 % of the
windows are the test. The simple baselines that a model has to beat at every horizon are
persistence, seasonal naive, weekly profile, and profile + decayed deviation; the linear models are
shown beside them.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pandas as pd
import torch
from _common import Row, at_least, at_most, main

from stgraph.backtesting import SIMPLE_BASELINES, evaluate
from stgraph.configfile import read_config
from stgraph.graph import STGraph
from stgraph.pipeline import load_graph
from stgraph.training import fit

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LINEAR = ("ridge", "ridge_node", "var")
# config, models, horizons shown, goal for the mean MAE of GCN-LSTM
JOBS = [
    ("metr-la-week", ("gcn_lstm", "identity_mlp"), (3, 6, 12), 3.45),
    ("scats-boroondara", ("gcn_lstm", "identity_mlp"), (1, 4, 8, 12), None),
    ("auckland", ("gcn_lstm",), (1, 6, 12, 24), None),
]
MAX_SECONDS = 300


def measure(quick: bool) -> list[Row]:
    """Fit and score every model of every job; quick: one epoch on a part of the data."""
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows: list[Row] = []
    for name, models, steps, goal in JOBS:
        settings = ["train.max_epochs=1"] if quick else []
        config = read_config(EXAMPLES / f"{name}.toml", overrides=settings)
        graph = load_graph(config)
        if quick:
            graph = graph.select_steps(0, min(graph.n_steps, 1500))
        tables = []
        for model in models:
            others = (*SIMPLE_BASELINES, *LINEAR) if model == models[0] else SIMPLE_BASELINES
            table, seconds = score(graph, config, model, others)
            tables.append(table if model == models[0] else table[table["model"] == model])
            rows += judge(name, model, table, seconds, None if quick else goal, quick=quick)
        show(name, graph, pd.concat(tables), steps)
    return rows


def score(graph: STGraph, config, model: str, baselines) -> tuple[pd.DataFrame, float]:
    """Return the skill table of a model and how long it took to fit."""
    began = time.perf_counter()
    forecaster = fit(
        graph,
        model=model,
        window=config.windows.window,
        horizon=config.windows.horizon,
        fractions=config.windows.fractions,
        train=config.train,
    )
    seconds = time.perf_counter() - began
    return evaluate(forecaster, graph, baselines=baselines).table(), seconds


def judge(
    name: str, model: str, table: pd.DataFrame, seconds: float, goal: float | None, *, quick: bool
) -> list[Row]:
    """Return the numbers of one model that have a goal."""
    own = table[table["model"] == model].set_index("horizon")
    simple = table[table["model"].isin(SIMPLE_BASELINES)].groupby("horizon")["mae"].min()
    skill = 100 * (1 - own["mae"] / simple)
    mae = own["mae"][0]
    has_goal = goal is not None and model == "gcn_lstm"
    title = f"{name}: {model}"
    return [
        at_most(f"{title}, mean MAE", mae, "", goal)
        if has_goal
        else Row(f"{title}, mean MAE", mae, ""),
        Row(f"{title}, skill over all horizons", skill[0], "%"),
        Row(f"{title}, least skill at a horizon", skill.drop(0).min(), "%")
        if quick
        else at_least(f"{title}, least skill at a horizon", skill.drop(0).min(), "%", 0),
        Row(f"{title}, 10-90 % coverage", own["coverage_percent"][0], "%"),
        at_most(f"{title}, fit", seconds, "s", MAX_SECONDS),
    ]


def show(name: str, graph: STGraph, table: pd.DataFrame, steps: tuple[int, ...]) -> None:
    """Print the table of one data set in Markdown."""
    unit = graph.features[0].unit
    table = table[table["horizon"].isin([0, *steps])]
    print(f"\n### {name}: {graph.n_nodes} nodes, {graph.n_steps} steps, {unit}\n")
    names = [("mean" if h == 0 else f"step {h}") for h in (*steps, 0)]
    print(
        "| model | "
        + " | ".join(f"MAE {n}" for n in names)
        + " | RMSE mean | MAPE % | coverage % |"
    )
    print("|---|" + "---|" * (len(names) + 3))
    for model, part in table.groupby("model", sort=False):
        part = part.set_index("horizon")
        mae = " | ".join(f"{part['mae'][h]:.2f}" for h in (*steps, 0))
        last = part.loc[0]
        print(
            f"| {model} | {mae} | {last['rmse']:.2f} | {last['mape_percent']:.1f} "
            f"| {last['coverage_percent']:.0f} |"
        )
    print()


if __name__ == "__main__":
    main(__doc__, measure)
