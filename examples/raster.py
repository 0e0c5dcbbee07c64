"""A gridded field as a graph: six-hourly air temperature of North America.

python examples/raster.py   # reads air_temperature_small.nc below STGRAPH_DATA, else makes a field
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from stgraph_connectors.grids.raster import read_raster
from stgraph_connectors.sinks.geopackage import write_geopackage


def make_field() -> xr.Dataset:
    """A warm wave that moves east, on a grid of 2.5 degrees."""
    time = pd.date_range("2024-01-01", periods=20, freq="6h")
    lat, lon = np.arange(75, 15, -2.5), np.arange(200, 330, 2.5)
    phase = lon[None, None, :] / 20 - np.arange(20)[:, None, None] / 4
    air = 300 - lat[None, :, None] + 5 * np.sin(phase)
    coordinates = {"time": time, "lat": lat, "lon": lon}
    return xr.Dataset({"air": (("time", "lat", "lon"), air, {"units": "K"})}, coordinates)


def main() -> None:
    data = Path(os.environ.get("STGRAPH_DATA", "../shared/data"))
    path = data / "weather-grid" / "air_temperature_small.nc"
    source = path if path.exists() else make_field()

    # all cells, and blocks of 2 x 2 cells around the Great Lakes
    graph = read_raster(source)
    print(graph)
    print(graph.report)
    lakes = read_raster(source, bbox=[-95, 40, -75, 50], every=2, reduce="max")
    print(lakes)
    print(lakes.nodes.head())
    print(write_geopackage(lakes, "raster.gpkg"))


if __name__ == "__main__":
    main()
