"""Hourly calls per hexagon (H3), with neighbours up to two hexagons away.

python examples/hexagons.py   # makes its own calls, and forecasts them by their weekly profile
"""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from stgraph_connectors.grids.grid import read_grid

from stgraph import evaluate, fit


def make_calls(area: shapely.Geometry, n_calls: int = 30_000) -> pd.DataFrame:
    """Four weeks of calls, most of them by day, some outside of the area."""
    rng = np.random.default_rng(1)
    west, south, east, north = area.bounds
    hour = rng.integers(0, 28 * 24, n_calls)
    by_day = rng.random(n_calls) < 0.55 + 0.45 * np.sin((hour % 24 - 8) / 24 * 2 * np.pi)
    time = pd.Timestamp("2024-04-01") + pd.to_timedelta(hour + rng.random(n_calls), unit="h")
    calls = {
        "time": time,
        "lon": rng.uniform(west, east, n_calls),
        "lat": rng.uniform(south, north, n_calls),
    }
    return pd.DataFrame(calls)[by_day]


def main() -> None:
    area = shapely.Point(8.67, 49.41).buffer(0.06)
    city = gpd.GeoDataFrame({"name": ["city"]}, geometry=[area], crs=4326)
    graph = read_grid(
        city,
        cell="hexagon",
        resolution=7,
        min_share=0.5,
        points=make_calls(area),
        feature="calls",
        unit="calls/h",
        step_minutes=60,
        zone="Europe/Berlin",
        rings=2,
    )
    print(graph)
    print(graph.report)
    print(graph.edges["ring"].value_counts().to_string())
    forecaster = fit(graph, model="profile_decay", window=24, horizon=6)
    print(evaluate(forecaster, graph).verdict())


if __name__ == "__main__":
    main()
