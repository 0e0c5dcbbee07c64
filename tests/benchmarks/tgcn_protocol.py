"""One week of METR-LA ("Los-loop") by the protocol of the T-GCN and A3T-GCN papers.

What their code does (lehaifeng/T-GCN): the first 80 % of the steps train, the windows of the test
lie wholly in the other 20 % and the last possible one is left out
(``T-GCN/T-GCN-TensorFlow/input_data.py``); speeds are divided by the maximum of the whole series;
a model is trained for each horizon of 3, 6, 9 and 12 steps and its MAE pools windows, sensors and
all those steps; the epoch with the least RMSE on the test itself is reported
(``A3T-GCN/A3T-GCN.py``). There is no validation part. Here one model forecasts all 12 steps, takes
its validation from the end of the 80 %, and sees nothing of the test before it is scored on it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
from _common import Row, at_most, finish
from _skill_runs import EXAMPLES, machine

from stgraph.backtesting import evaluate
from stgraph.configfile import read_config
from stgraph.forecasting import Forecaster
from stgraph.graph import STGraph
from stgraph.pipeline import load_graph
from stgraph.preprocessing.splits import Split
from stgraph.training import fit_prepared, prepare

WINDOW = HORIZON = 12
TRAIN = 0.8  # of the steps
VALIDATION = 0.1  # of the training windows, the last ones
PUBLISHED = {  # MAE in mph over the first 3, 6, 9 and 12 steps
    "T-GCN": {3: 3.18, 6: 3.75, 9: 4.12, 12: 4.60},
    "A3T-GCN": {3: 3.14, 6: 3.66, 9: 4.17, 12: 4.23},
}
BETTER = 0.10  # by how much ours has to be better
BASELINES = ("persistence", "weekly_profile", "profile_decay")


def split_weeks(n_steps: int) -> Split:
    """Return the windows that may be learned from, a validation at their end, and no test."""
    stop = int(n_steps * TRAIN)
    n_windows = stop - WINDOW - HORIZON + 1
    tuned = round(n_windows * VALIDATION)
    cut = n_windows - tuned
    # no target of the validation is learned from
    return Split(range(cut - HORIZON + 1), range(cut, n_windows), range(0), WINDOW, HORIZON)


def test_starts(n_steps: int, n_ahead: int) -> range:
    """Return the windows that their code tests with a horizon of so many steps."""
    first = int(n_steps * TRAIN)
    return range(first, first + (n_steps - first) - WINDOW - n_ahead)


def lengthen(graph: STGraph) -> STGraph:
    """Return the graph with unobserved steps behind its end, for windows that reach there."""
    long = pd.date_range(
        graph.time[0], periods=graph.n_steps + HORIZON, freq=graph.step, unit=graph.time.unit
    )
    shape = (HORIZON, graph.n_nodes, graph.n_features)
    return graph.replace(
        time=long,
        values=np.concatenate([graph.values, np.full(shape, np.nan, np.float32)]),
        mask=np.concatenate([graph.mask, np.zeros(shape, dtype=bool)]),
    )


def pooled(forecaster: Forecaster, graph: STGraph, n_ahead: int) -> float:
    """Return the MAE over the first steps, on the windows that their code has for them."""
    starts = test_starts(graph.n_steps, n_ahead)
    scored = evaluate(forecaster, lengthen(graph), baselines=(), starts=starts)
    sums = scored.errors[scored.model].sums
    return float(sums["absolute"][:n_ahead].sum() / sums["n"][:n_ahead].sum())


def measure(models: Sequence[str], *, quick: bool) -> list[Row]:
    """Fit the models and print their errors under those of the papers."""
    print(machine())
    changes = ["train.max_epochs=1"] if quick else []
    job = read_config(EXAMPLES / "metr-la-week.toml", overrides=changes)
    graph = load_graph(job)
    # theirs read nothing but the window
    prepared = prepare(graph, split=split_weeks(graph.n_steps), use_seasons=False)
    ahead = (3, 6, 9, 12)
    print(f"\n| MAE, mph | {' | '.join(f'{5 * k} min' for k in ahead)} | fit s |\n{'|---' * 6}|")
    for name, figures in PUBLISHED.items():
        print(f"| {name}, its paper | {' | '.join(f'{figures[k]:.2f}' for k in ahead)} | |")
    rows: list[Row] = []
    for model in (*BASELINES, *models):
        began = time.perf_counter()
        forecaster = fit_prepared(prepared, model=model, train=job.train)
        seconds = time.perf_counter() - began
        errors = {k: pooled(forecaster, graph, k) for k in ahead}
        print(f"| {model} | {' | '.join(f'{errors[k]:.2f}' for k in ahead)} | {seconds:.0f} |")
        if model not in BASELINES:
            rows += [_judge(model, k, errors[k], quick=quick) for k in ahead]
    print()
    return rows


def _judge(model: str, n_ahead: int, mae: float, *, quick: bool) -> Row:
    """Return an error with its goal: a tenth below the better of the two papers."""
    name = f"{model}, MAE of the first {5 * n_ahead} minutes"
    goal = (1 - BETTER) * min(figures[n_ahead] for figures in PUBLISHED.values())
    return Row(name, mae, "mph") if quick else at_most(name, mae, "mph", round(goal, 3))


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the smoke version")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there, too")
    parser.add_argument("--model", action="append", help="default gcn_lstm; repeatable")
    asked = parser.parse_args()
    finish(measure(asked.model or ["gcn_lstm"], quick=asked.quick), asked.json)


if __name__ == "__main__":
    main()
