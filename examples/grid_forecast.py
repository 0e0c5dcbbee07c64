"""Forecasts on a grid: showers that move across a raster, by models that see rows and columns.

python examples/grid_forecast.py [epochs]   # writes grid_forecast.gpkg with the cells coloured
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import xarray as xr
from stgraph_connectors.grids.raster import read_raster
from stgraph_connectors.sinks.geopackage import write_geopackage

from stgraph import TrainConfig, evaluate, fit

MODELS = ("cnn_3d", "spacetime_patches")  # conv_lstm and cnn_lstm take longer to learn


def make_rain(n_steps: int = 480) -> xr.Dataset:
    """Showers on 8 x 12 cells of 2 km, every 10 minutes: born at random, blown to the east."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:16_000:2_000, 0:24_000:2_000] + 1_000.0
    rain = rng.gamma(0.5, 0.1, (n_steps, *x.shape))
    for begin in rng.integers(-20, n_steps, n_steps // 8):
        place, strength = rng.uniform([-8_000, 0], [16_000, 16_000]), rng.gamma(3, 1.5)
        speed = rng.normal([1_400, 300], 200)  # metres per step
        for age in range(20):
            if 0 <= begin + age < n_steps:
                at = place + age * speed
                far = ((x - at[0]) ** 2 + (y - at[1]) ** 2) / 4_000**2
                rain[begin + age] += strength * np.sin(np.pi * (age + 1) / 21) * np.exp(-far)
    time = pd.date_range("2024-05-06", periods=n_steps, freq="10min")
    coordinates = {"time": time, "y": y[::-1, 0] + 5_000_000, "x": x[0] + 500_000}
    return xr.Dataset({"rain": (("time", "y", "x"), rain, {"units": "mm/h"})}, coordinates)


def main() -> None:
    graph = read_raster(make_rain(), crs=32632)
    print(graph)
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    train = TrainConfig(max_epochs=epochs, learning_rate=5e-3, progress=False)
    for model in MODELS:
        forecaster = fit(graph, model=model, window=6, horizon=6, train=train)
        table = evaluate(forecaster, graph, baselines=("persistence", "profile_decay")).table()
        error = table.query("horizon == 0").set_index("model")["mae"].round(3)
        print(f"mean absolute error in mm/h: {error.to_dict()}")
    forecast = forecaster.forecast(graph)
    print(write_geopackage(forecast, "grid_forecast.gpkg"))


if __name__ == "__main__":
    main()
