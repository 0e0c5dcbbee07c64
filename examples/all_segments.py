"""Forecast every road of a city from sensors on a fifth of them.

python examples/all_segments.py   # reads simcity below STGRAPH_DATA, else a street that it draws
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from stgraph_connectors.sinks.geopackage import read_geopackage

from stgraph import read_config, run

JOB = """\
[data]
connector = "stations"
stations = "sensors.csv"
readings = "speeds.npz"
feature = "speed"
unit = "km/h"
zone = "UTC"

[windows]
window = 12
horizon = 12

[model]
name = "profile_decay"  # quick; leave it out for the default

[roads]
connector = "road_lines"
lines = "roads.gpkg"
heading_column = "heading"
near_m = 500
far_m = 2000
learn = false           # quick; leave it out to try the network
draws = 1

[[output]]
sink = "geopackage"
of = "segments"
path = "segments.gpkg"
"""


def main() -> None:
    city = Path(os.environ.get("STGRAPH_DATA", "../shared/data")) / "simcity"
    roads, speeds = read_city(city) if city.exists() else draw_street()
    write_data(roads, speeds)
    Path("all_segments.toml").write_text(JOB)

    result = run(read_config("all_segments.toml"))
    print(result.holdout.summary().round(2).to_string(index=False))
    print(result.holdout.verdict())

    # what every value rests on, and how wide it is
    forecast = read_geopackage("runs/all_segments/segments.gpkg")
    low, high = (forecast.feature_names.index(f"speed_{q}") for q in ("q10", "q90"))
    nodes = forecast.nodes.assign(
        width=(forecast.values[..., high] - forecast.values[..., low]).mean(axis=0)
    )
    print(nodes.groupby("support")["width"].agg(["count", "mean"]).round(1))


def read_city(folder: Path) -> tuple[gpd.GeoDataFrame, np.ndarray]:
    """Return the links of a simulated city, and the speeds of its last four days."""
    links = gpd.read_file(folder / "city.gpkg", layer="links")
    speeds = np.load(folder / "days.npz")["speed_ckmh"][-4:].reshape(-1, len(links)) / 100
    return links, np.where(speeds > 600, np.nan, speeds)  # no vehicle, no speed


def draw_street() -> tuple[gpd.GeoDataFrame, np.ndarray]:
    """Return a straight one-way street of 60 pieces, and a slow wave that runs along it."""
    ends = 10 + 0.003 * np.arange(61)
    lines = [shapely.LineString([(a, 50), (b, 50)]) for a, b in itertools.pairwise(ends)]
    columns = {"oneway": "yes", "road_class": "arterial", "speed_limit_kmh": 50}
    links = gpd.GeoDataFrame(columns, index=range(60), geometry=lines, crs=4326)
    step, place = np.arange(4 * 288)[:, None], np.arange(60)[None]
    noise = np.random.default_rng(0).normal(size=(len(step), 60))
    return links, 40 + 8 * np.sin(step / 20 - place / 6) + noise


def write_data(roads: gpd.GeoDataFrame, speeds: np.ndarray) -> None:
    """Write the roads, and a sensor in the middle of every fifth of them."""
    roads.to_file("roads.gpkg")
    chosen = np.random.default_rng(0).permutation(len(roads))[: len(roads) // 5]
    lines = np.asarray(roads.geometry)[chosen]
    middle = shapely.get_coordinates(shapely.line_interpolate_point(lines, 0.5, normalized=True))
    ends = shapely.get_coordinates(shapely.get_point(lines, [-1])).reshape(-1, 2)
    east, north = ((ends - middle) * [np.cos(np.radians(50)), 1]).T
    ids = [f"d{number}" for number in chosen]
    pd.DataFrame(
        {
            "sensor_id": ids,
            "longitude": middle[:, 0],
            "latitude": middle[:, 1],
            "heading": np.degrees(np.arctan2(east, north)) % 360,
        }
    ).to_csv("sensors.csv", index=False)
    time = pd.date_range("2024-01-01", periods=len(speeds), freq="5min")
    np.savez(
        "speeds.npz",
        values=speeds[:, chosen].astype(np.float32),
        timestamps=time.astype("datetime64[s]").astype(np.int64),
        sensor_ids=np.array(ids),
    )


if __name__ == "__main__":
    main()
