"""Readings from a database, a day now and the rest later.

python examples/database.py   # makes a SQLite file; any URL of SQLAlchemy works the same way
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
from stgraph_connectors.appending import append_readings
from stgraph_connectors.database import read_database

from stgraph import build_knn


def make_database(file: Path) -> None:
    """Write 20 stations and three days of speeds every five minutes."""
    rng = np.random.default_rng(0)
    ids = [f"loop {i}" for i in range(20)]
    lat, lon = 52.5 + 0.01 * rng.random(20), 13.4 + 0.01 * rng.random(20)
    stations = pd.DataFrame({"station_id": ids, "lat": lat, "lon": lon})
    time = pd.date_range("2024-05-01", periods=3 * 288, freq="5min").strftime("%Y-%m-%d %H:%M:%S")
    readings = pd.DataFrame({"station_id": np.tile(ids, len(time)), "time": np.repeat(time, 20)})
    readings["speed_kmh"] = rng.normal(50, 5, len(readings)).round(1)
    with closing(sqlite3.connect(file)) as connection:
        stations.to_sql("stations", connection, index=False)
        readings.to_sql("readings", connection, index=False)


with tempfile.TemporaryDirectory() as folder:
    make_database(Path(folder) / "city.db")
    url = f"sqlite:///{folder}/city.db"  # or postgresql://user:password@host/database
    options = {"readings": "readings", "stations": "stations", "zone": "Europe/Berlin"}
    options |= {"unit": "km/h", "step_minutes": 15}

    graph = build_knn(read_database(url, stop="2024-05-02", **options), k=4)
    print(graph)
    newer = read_database(url, since=graph.time[-1], **options)  # only what came since
    graph = append_readings(graph, newer)
    print(graph)
    print(graph.report)
