"""A city of road segments, its forecasts, and a PostGIS to publish them to."""

from __future__ import annotations

from collections.abc import Iterator

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from _common import table  # noqa: F401  # puts tests/ on the path
from throwaway_postgres import Server, start_server

from stgraph.graph import Feature, STGraph

FEATURES = tuple(Feature(name, "km/h") for name in ("speed", "speed_q10", "speed_q50", "speed_q90"))
STEP = pd.Timedelta(minutes=5)
FIRST = pd.Timestamp("2026-11-20", tz="UTC")
# as compose.yaml has them
SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "wal_compression": "lz4",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
}


def start_durable_server() -> Server:
    """Start a server that keeps what it commits, with the settings of compose.yaml."""
    return start_server(durable=True, settings=SETTINGS)


def make_segments(n_segments: int, *, seed: int = 0) -> gpd.GeoDataFrame:
    """Return lines of 2 to 7 points, about 100 m long, in rows like streets."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_segments)))
    row, column = np.divmod(np.arange(n_segments), side)
    n_points = rng.integers(2, 8, n_segments)
    lines = []
    for r, c, n in zip(row, column, n_points, strict=True):
        along = 8 + c * 0.001 + np.linspace(0, 0.001, n)
        lines.append(shapely.linestrings(along, 47 + r * 0.001 + rng.normal(0, 1e-4, n)))
    names = [f"way/{i}" for i in range(n_segments)]
    return gpd.GeoDataFrame({"kind": "segment"}, index=names, geometry=lines, crs="EPSG:4326")


def make_issues(
    segments: gpd.GeoDataFrame, n_issues: int, *, horizon: int = 12, seed: int = 1
) -> Iterator[STGraph]:
    """Yield forecasts, one every five minutes."""
    rng = np.random.default_rng(seed)
    spread = np.array([0, -8, 0, 8], dtype=np.float32)
    for k in range(n_issues):
        issued_at = FIRST + k * STEP
        mean = rng.normal(50, 10, (horizon, len(segments), 1)).astype(np.float32)
        yield STGraph(
            nodes=segments,
            time=pd.date_range(issued_at + STEP, periods=horizon, freq=STEP),
            values=mean + spread,
            features=FEATURES,
            zone="Europe/Zurich",
            provenance={
                "kind": "forecast",
                "issued_at": issued_at.isoformat(),
                "model": "gcn_lstm",
                "step_minutes": 5.0,
                "horizon": horizon,
            },
        )
