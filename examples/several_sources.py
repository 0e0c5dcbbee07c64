"""Weather and an event joined to pedestrian counters, as features of every counter.

python examples/several_sources.py   # counts from STGRAPH_DATA, ../shared/data if it is not set
"""

from __future__ import annotations

import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from stgraph_connectors.stations import read_stations

from stgraph import Feature, STGraph, join_feature

data = Path(os.environ.get("STGRAPH_DATA", "../shared/data")) / "auckland-pedestrians"
counts = read_stations(
    data / "sensors.csv", data / "counts.npz", feature="pedestrians", zone="Pacific/Auckland",
    start="2024-05-01", stop="2024-06-01",
)  # fmt: skip
print(counts)

# a weather station that reports every three hours, in local time: the same for all counters
hours = pd.date_range("2024-05-01", "2024-06-02", freq="3h")
rain = np.random.default_rng(0).gamma(0.3, 2.0, len(hours))
weather = pd.DataFrame({"rain_mm": rain, "temperature": 15.0}, index=hours)
joined = join_feature(counts, weather, prefix="weather_", max_age_minutes=180)

# a street festival: an area, on three evenings; known beforehand, and 0 at all other times
evenings = pd.date_range("2024-05-10 06:00", "2024-05-12 12:00", freq="h", tz="UTC")
area = shapely.Point(174.765, -36.8465).buffer(0.003)
festival = STGraph(
    nodes=gpd.GeoDataFrame({"kind": ["area"]}, index=["festival"], geometry=[area], crs=4326),
    time=evenings,
    values=np.isin(evenings.hour, range(6, 11)).astype(np.float32)[:, None, None],
    features=(Feature("festival", "", "known_future"),),
)
joined = join_feature(joined, festival, space="within", fill=0, ahead_steps=24)

print(joined)
print(joined.features)
print(joined.report)
near = joined.values[..., -1].max(axis=0) > 0
print(f"{int(near.sum())} of {joined.n_nodes} counters lie in the festival area")
