"""Take the picture `qgis-postgis.png`: the project of a made-up town in PostGIS, opened in QGIS.

A throw-away server is started and gone at the end, as `make images` does::

    python docs/images/qgis_postgis.py docs/images/qgis-postgis.png
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from stgraph_connectors.postgis.evaluations import publish_evaluation
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.observations import publish_observations
from stgraph_connectors.postgis.project import write_project
from stgraph_connectors.postgis.schema import init_schema

from stgraph.graph import Feature, STGraph

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from throwaway_postgres import start_server  # noqa: E402

N_COLUMNS, N_ROWS = 31, 17  # crossings
BLOCK_M = 120.0
ARTERIAL = 5  # every fifth street is a fast one
H = 12


def make_streets(seed: int = 7) -> gpd.GeoDataFrame:
    """Return the segments between neighbouring crossings of a town, with their free speed."""
    random = np.random.default_rng(seed)
    corner = random.normal(0, 0.16, (N_COLUMNS, N_ROWS, 2)) * BLOCK_M
    corner += np.stack(np.mgrid[:N_COLUMNS, :N_ROWS], axis=-1) * BLOCK_M
    corner += (1_756_000, 5_919_000)
    lines, free = [], []
    for i, j in np.ndindex(N_COLUMNS, N_ROWS):
        for di, dj, street in ((1, 0, j), (0, 1, i)):
            fast = street % ARTERIAL == ARTERIAL // 2
            if i + di < N_COLUMNS and j + dj < N_ROWS and (fast or random.random() < 0.78):
                lines.append(shapely.LineString([corner[i, j], corner[i + di, j + dj]]))
                free.append(66.0 if fast else 44.0)
    ids = [f"segment {k}" for k in range(len(lines))]
    return gpd.GeoDataFrame({"kind": "segment", "free": free}, index=ids, geometry=lines, crs=2193)


def make_forecast(streets: gpd.GeoDataFrame) -> STGraph:
    """Return speeds of an evening: the jam grows from the centre and along the fast streets."""
    middle = shapely.get_coordinates(streets.geometry.centroid.to_numpy())
    away = np.hypot(*((middle - middle.mean(axis=0)) / (BLOCK_M * np.array([7.5, 4.5]))).T)
    waves = np.sin(middle[:, 0] / 310) * np.cos(middle[:, 1] / 270)
    hour = np.arange(1, H + 1)[:, None] / H
    jam = np.exp(-(away**2) / (0.35 + 0.9 * hour)) * (0.45 + 0.4 * np.sin(np.pi * hour))
    mean = streets["free"].to_numpy() * (1 - jam) * (1 + 0.09 * waves)
    values = np.stack([mean, mean * 0.85, mean * 1.12], axis=-1).astype(np.float32)
    issued_at = pd.Timestamp("2025-03-03T03:45Z")
    return STGraph(
        nodes=streets.drop(columns="free"),
        time=pd.date_range(issued_at + pd.Timedelta("15min"), periods=H, freq="15min"),
        values=values,
        features=tuple(Feature(name, "km/h") for name in ("speed", "speed_q10", "speed_q90")),
        zone="Pacific/Auckland",
        provenance={"kind": "forecast", "issued_at": issued_at.isoformat()},
    )


def main(picture: str) -> None:
    """Publish the town, write its project and let QGIS open it."""
    graph = make_forecast(make_streets())
    errors = pd.DataFrame({"node": graph.node_ids, "mae": graph.values[0, :, 0] / 10})
    with start_server() as server, tempfile.TemporaryDirectory() as folder:
        dsn = server.create_database("town")
        init_schema(dsn)
        publish_forecast(graph, dsn)
        publish_observations(graph.select_features(["speed"]).replace(provenance={}), dsn)
        publish_evaluation(errors, dsn, model="made-up", feature="speed")
        project = write_project(dsn, Path(folder) / "town.qgz")
        command = ["xvfb-run", "-a", "-s", "-screen 0 1440x900x24", "qgis", "--nologo"]
        command += ["--noversioncheck", "--noplugins", "--profiles-path", folder]
        command += ["--project", str(project)]
        command += ["--code", str(ROOT / "docs" / "images" / "qgis_window.py")]
        environment = {"STGRAPH_PNG": picture, "STGRAPH_FRAME": str(H // 2 - 1), "HOME": folder}
        subprocess.run(command, env=os.environ | environment, check=True, timeout=180)


if __name__ == "__main__":
    main(sys.argv[1])
