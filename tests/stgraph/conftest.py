"""Shared fixture of the model side: small signals with a daily rhythm, made to order."""

from __future__ import annotations

from collections.abc import Callable

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from stgraph.graph import Feature, STGraph

MakeSignal = Callable[..., STGraph]


def _signal(
    n_nodes: int = 6,
    n_steps: int = 24 * 8,
    *,
    step: str = "h",
    start: str = "2024-05-06",
    zone: str = "Pacific/Auckland",
    n_targets: int = 1,
    edges: bool = True,
    missing: float = 0.0,
    ids: str = "str",
    seed: int = 0,
) -> STGraph:
    """Return a ring of nodes, a daily wave per node plus a slow wave that runs along the ring."""
    generator = np.random.default_rng(seed)
    time = pd.date_range(start, periods=n_steps, freq=step, tz="UTC")
    hours = ((time - time[0]) / pd.Timedelta(hours=1)).to_numpy()[:, None, None]
    node = np.arange(n_nodes)[None, :, None]
    target = np.arange(n_targets)[None, None, :]
    daily = 10 * np.sin(2 * np.pi * (hours / 24 + node / 17 + target / 5))
    wave = 6 * np.sin(2 * np.pi * (hours / 31 - node / max(n_nodes, 2)))
    noise = generator.normal(0, 0.5, (n_steps, n_nodes, n_targets))
    values = (40 + 5 * node + 20 * target + daily + wave + noise).astype(np.float32)
    values[generator.random(values.shape) < missing] = np.nan
    ring = np.arange(n_nodes)
    pairs = np.array([ring, np.roll(ring, -1)]) if edges else np.zeros((2, 0), dtype=np.int64)
    index = [f"s{i}" for i in ring] if ids == "str" else [100 + 7 * int(i) for i in ring]
    xy = gpd.points_from_xy(1_750_000.0 + 100.0 * ring, np.full(n_nodes, 5_900_000.0))
    names = ("speed", "flow", "density")
    return STGraph(
        nodes=gpd.GeoDataFrame({"kind": "station"}, index=index, geometry=xy, crs="EPSG:2193"),
        edge_index=np.concatenate([pairs, pairs[::-1]], axis=1),
        time=time,
        values=values,
        features=tuple(Feature(names[c], "km/h") for c in range(n_targets)),
        zone=zone,
    )


@pytest.fixture(scope="session")
def make_signal() -> MakeSignal:
    """Make a signal: `make_signal(n_nodes, n_steps, step=, zone=, n_targets=, missing=, ...)`."""
    return _signal
