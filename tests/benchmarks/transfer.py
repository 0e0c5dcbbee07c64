"""Models on nodes that they never saw: fitted on every second sensor, measured on the others.

One week of METR-LA. Beside what is carried over stand the simple baselines of the new nodes and the
same model fitted to the new nodes themselves, which is what a transfer saves.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from _common import Row, at_most, main

from stgraph.backtesting import evaluate
from stgraph.config import TrainConfig
from stgraph.configfile import read_config
from stgraph.forecasting import Forecaster
from stgraph.graph import STGraph
from stgraph.pipeline import load_graph
from stgraph.training import fit
from stgraph.transferring import transfer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
INDUCTIVE = {"node_embedding_size": 0, "adaptive_rank": 0}
# what is fitted at home -> options
MODELS = {
    "graph_transformer": INDUCTIVE,
    "gcn_lstm": INDUCTIVE,
}


def measure(quick: bool) -> list[Row]:
    """Fit at home, carry over, and score on the test part of the other nodes."""
    graph = load_graph(read_config(EXAMPLES / "metr-la-week.toml"))
    train = TrainConfig(max_epochs=1 if quick else 12)
    home, away = (graph.select_nodes(graph.node_ids[part::2]) for part in (0, 1))
    rows, simple = [], {}
    for name, options in MODELS.items():
        there = fit(home, model=name, options=options, train=train)
        began = time.perf_counter()
        carried = transfer(there, away)
        seconds = time.perf_counter() - began
        simple = simple or score(carried, away, ("persistence", "profile_decay"))
        own = score(fit(away, model=name, options=options, train=train), away, ())
        mae = score(carried, away, ())[name]
        goal = simple["profile_decay"]
        rows += [
            Row(f"{name}, carried over, mean MAE", mae, "mph")
            if quick
            else at_most(f"{name}, carried over, mean MAE", mae, "mph", goal),
            Row(f"{name}, fitted there", own[name], "mph"),
            Row(f"{name}, seconds to carry over", seconds, "s"),
        ]
    return [*rows, *(Row(f"{name} there", mae, "mph") for name, mae in simple.items())]


def score(forecaster: Forecaster, graph: STGraph, baselines: tuple[str, ...]) -> dict[str, float]:
    """Return the mean absolute error over all horizons of a model and of some baselines."""
    table = evaluate(forecaster, graph, baselines=baselines).table()
    return table[table["horizon"] == 0].set_index("model")["mae"].to_dict()


if __name__ == "__main__":
    main(__doc__, measure)
