"""Counts per square: bicycle trips that it makes, out of and into squares of 500 m.

python examples/grid.py   # writes grid.gpkg, which QGIS opens with the squares coloured
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from stgraph_connectors.grids.grid import read_grid
from stgraph_connectors.sinks.geopackage import write_geopackage

HEIDELBERG = [8.64, 49.38, 8.72, 49.43]  # west, south, east, north


def make_trips(n_trips: int = 20_000) -> pd.DataFrame:
    """Two weeks of trips between homes and the centre, in the columns of a bike share."""
    rng = np.random.default_rng(0)
    hour = rng.choice([8, 12, 17, 20], n_trips, p=[0.4, 0.1, 0.4, 0.1]) + rng.normal(0, 1, n_trips)
    start = pd.Timestamp("2024-05-06") + pd.to_timedelta(rng.integers(0, 14, n_trips), unit="D")
    start += pd.to_timedelta(hour, unit="h")
    homes = rng.uniform([8.64, 49.38], [8.72, 49.43], (n_trips, 2))
    work = rng.normal([8.69, 49.41], 0.005, (n_trips, 2))
    morning = (hour < 12)[:, None]
    origin, destination = np.where(morning, homes, work), np.where(morning, work, homes)
    trips = pd.DataFrame({"started_at": start, "ended_at": start + pd.Timedelta(minutes=12)})
    trips[["start_lng", "start_lat"]] = origin
    trips[["end_lng", "end_lat"]] = destination
    return trips


def main() -> None:
    graph = read_grid(
        HEIDELBERG,
        size_m=500,
        grid_crs=25832,
        trips=make_trips(),
        step_minutes=60,
        zone="Europe/Berlin",
        unit="trips/h",
    )
    print(graph)
    print(graph.report)
    busiest = graph.values.sum(axis=(0, 2)).argmax()
    print(f"busiest square: {graph.node_ids[busiest]}, {graph.nodes.geometry.iloc[busiest]}")
    print(write_geopackage(graph.select_steps(0, 24), "grid.gpkg"))


if __name__ == "__main__":
    main()
