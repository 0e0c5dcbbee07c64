"""How good guesses are where there is no sensor: hidden sensors of METR-LA, hidden links of a city.

METR-LA (one week, 207 sensors): 20 % are hidden, three times, everything is fitted without them,
also the forecaster, and guesses at them are measured on the last 20 % of the week. Simulated city
(508 links, true speeds everywhere): 80 % of the links are hidden.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import geopandas as gpd
import numpy as np
import pandas as pd
from _common import Row, at_least, at_most, main
from stgraph_connectors.stations import read_stations

from stgraph.config import TrainConfig
from stgraph.graph import Feature, STGraph
from stgraph.kriging.estimator import fit_estimator
from stgraph.kriging.holdout import Holdout, evaluate_holdout
from stgraph.kriging.surroundings import surround_segments, surround_stations
from stgraph.neighbours import build_line_graph
from stgraph.preprocessing.splits import split_windows
from stgraph.training import fit

DATA = Path(os.environ.get("STGRAPH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
LIMITS = {"near_m": 1000.0, "far_m": 5000.0}
MAX_SECONDS = 60


def measure(quick: bool) -> list[Row]:
    """Measure both data sets; quick: one draw, a simple forecaster, a short training."""
    return [*measure_metr_la(quick=quick), *measure_city(quick=quick)]


def measure_metr_la(*, quick: bool) -> list[Row]:
    """Return errors at hidden sensors of Los Angeles."""
    folder = DATA / "metr-la-week"
    graph = read_stations(
        folder / "sensors.csv",
        folder / "speed.npz",
        adjacency=folder / "adj_mx.npz",
        feature="speed",
        unit="mph",
        zone="America/Los_Angeles",
    )
    among = surround_stations(graph)
    split = split_windows(graph.n_steps, window=12, horizon=12)
    train, tune = split.train_steps.stop, split.validation_steps.stop
    began = time.perf_counter()
    values = graph.values[..., 0]
    fitted = fit_estimator(values[:train], among, tune=values[train:tune], **LIMITS)
    seconds = time.perf_counter() - began
    print(f"estimator: {dict(fitted.notes)}")

    def refit(part: STGraph):
        return fit(
            part,
            model="profile_decay" if quick else "gcn_lstm",
            train=TrainConfig(max_epochs=12),
        )

    result = evaluate_holdout(
        graph,
        among,
        train_steps=train,
        tune_steps=tune,
        refit=refit,
        n_draws=1 if quick else 3,
        n_batches=100 if quick else 1200,
        **LIMITS,
    )
    show("METR-LA, 20 % of 207 sensors hidden", result)
    return [
        *judge("metr-la", result, quick=quick),
        at_most("metr-la: fit of the estimator", seconds, "s", MAX_SECONDS),
    ]


def measure_city(*, quick: bool) -> list[Row]:
    """Return errors at hidden links of the simulated city."""
    graph = read_city(n_days=8)
    middle = graph.nodes["length_m"].to_numpy() / 2
    among = surround_segments(graph, np.arange(graph.n_nodes), middle)[1]
    day = 288
    result = evaluate_holdout(
        graph,
        among,
        train_steps=5 * day,
        tune_steps=6 * day,
        refit=lambda part: fit(part, model="profile_decay", fractions=(5 / 8, 1 / 8, 2 / 8)),
        share=0.8,
        n_draws=1 if quick else 3,
        n_batches=100 if quick else 1200,
        near_m=500,
        far_m=2000,
    )
    show("Simulated city, 80 % of 508 links hidden", result)
    return judge("city", result, quick=quick)


def read_city(*, n_days: int) -> STGraph:
    """Return the links of the simulated city as segments, with their speeds of the last days."""
    links = gpd.read_file(DATA / "simcity" / "city.gpkg", layer="links")
    places = gpd.read_file(DATA / "simcity" / "city.gpkg", layer="nodes").set_index("node_id")
    segments = build_line_graph(_roads(links, places))
    days = np.load(DATA / "simcity" / "days.npz")
    speed = days["speed_ckmh"][-n_days:].reshape(-1, len(links)).astype(np.float32) / 100
    speed[speed > 600] = np.nan  # no vehicle
    order = links.set_index("link_id").index.get_indexer(segments.node_ids)
    return segments.replace(
        time=pd.date_range("2024-01-01", periods=len(speed), freq="5min", tz="UTC"),
        values=speed[:, order, None],
        mask=None,
        features=(Feature("speed", "km/h"),),
    )


def _roads(links: gpd.GeoDataFrame, places: gpd.GeoDataFrame) -> STGraph:
    """Return the road network with junctions as nodes."""
    at = [places.index.get_indexer(links[end]) for end in ("u", "v")]
    edges = links.rename(
        columns={"link_id": "segment_id", "road_class": "highway", "speed_limit_kmh": "speed_kmh"}
    )
    return STGraph(
        nodes=places[["geometry"]].assign(kind="junction"),
        edge_index=np.stack(at),
        edge_weight=links["length_m"].to_numpy(dtype=np.float32),
        weight_unit="m",
        edges=edges.drop(columns=["u", "v"]),
    )


def judge(name: str, result: Holdout, *, quick: bool) -> list[Row]:
    """Return the gains over inverse distance weighting, and the coverage."""
    table = result.summary()
    mae = table.pivot_table(index="minutes", columns="method", values="mae")
    kept = table[table["method"] == "what is written"].set_index("minutes")
    rows = []
    for minutes in mae.index:
        gain = 100 * (
            1 - mae.loc[minutes, "what is written"] / mae.loc[minutes, "inverse distance"]
        )
        when = "now" if minutes == 0 else f"in {minutes:g} min"
        title = f"{name}: gain over inverse distance {when}"
        rows.append(Row(title, gain, "%") if quick else at_least(title, gain, "%", 0))
        rows.append(Row(f"{name}: 10-90 % {when}", kept["coverage_percent"][minutes], "%"))
    return rows


def show(title: str, result: Holdout) -> None:
    """Print the table in Markdown."""
    print(f"\n### {title}\n\n| min | method | support | MAE | coverage % | width | n |")
    print("|---|---|---|---|---|---|---|")
    for row in result.table.itertuples():
        cover = "" if np.isnan(row.coverage_percent) else f"{row.coverage_percent:.0f}"
        width = "" if np.isnan(row.width) else f"{row.width:.1f}"
        print(
            f"| {row.minutes:g} | {row.method} | {row.support} | {row.mae:.2f} | {cover} "
            f"| {width} | {row.n} |"
        )
    print(f"\n{result.verdict()}\n", flush=True)


if __name__ == "__main__":
    main(__doc__, measure)
