"""The whole job in five lines of Python: vehicle counts in Boroondara (Melbourne).

python examples/five_lines.py [EPOCHS]   # the data folder is ../shared/data, or STGRAPH_DATA
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stgraph_connectors.sinks.geopackage import write_geopackage
from stgraph_connectors.stations import read_stations

from stgraph import TrainConfig, build_knn, evaluate, fit

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("STGRAPH_DATA", HERE / "../../shared/data")) / "scats-boroondara"
TRAIN = TrainConfig(max_epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 20)

stations = read_stations(DATA / "sensors.csv", DATA / "volume.npz", zone="Australia/Melbourne")
graph = build_knn(stations, k=8)
forecaster = fit(graph, model="gcn_lstm", window=12, horizon=12, train=TRAIN)
print(evaluate(forecaster, graph).verdict())
print(write_geopackage(forecaster.forecast(graph), "forecast.gpkg"))
