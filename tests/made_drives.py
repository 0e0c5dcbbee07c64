"""Drives with known truth on a network of road segments, as GPS would see them."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from stgraph.graph import STGraph


def make_drives(
    roads: STGraph, n_trips: int, *, seed: int, sigma_m: float, every_s: float, min_m: float = 1500
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return noisy points with their true segment, and the metres driven on every segment.

    Routes are shortest ones between random segments, every segment has one speed of 20 to 60 km/h.
    """
    rng = np.random.default_rng(seed)
    plane = roads.nodes.to_crs(roads.nodes.estimate_utm_crs())
    length, lines = plane.length.to_numpy(), np.asarray(plane.geometry)
    source, target = roads.edge_index
    between = (length[source] + length[target]) / 2
    ways = csr_array((between, (source, target)), shape=(len(length),) * 2)
    speed_ms = rng.uniform(20, 60, len(length)) / 3.6
    points: list[Any] = []
    driven: list[Any] = []
    while len(points) < n_trips:
        first = int(rng.integers(len(length)))
        metres, previous = dijkstra(ways, indices=first, return_predecessors=True)
        far = np.flatnonzero(np.isfinite(metres) & (metres > min_m) & (metres < 4 * min_m))
        if not len(far):
            continue
        path = [int(rng.choice(far))]
        while path[-1] != first:
            path.append(int(previous[path[-1]]))
        route = np.array(path[::-1])
        reached = np.concatenate([[0], np.cumsum(length[route] / speed_ms[route])])
        at = np.arange(0, reached[-1], every_s)
        place = np.searchsorted(reached, at, side="right") - 1
        share = (at - reached[place]) / (reached[place + 1] - reached[place])
        xy = shapely.get_coordinates(
            shapely.line_interpolate_point(lines[route[place]], share, normalized=True)
        )
        noisy = shapely.points(xy + rng.normal(0, sigma_m, xy.shape))
        trip = f"trip {len(points)}"
        time = pd.Timestamp("2024-05-06 08:00", tz="UTC") + pd.to_timedelta(
            at + 60.0 * len(points), unit="s"
        )
        frame = pd.DataFrame({"trip_id": trip, "time": time, "truth": plane.index[route[place]]})
        points.append(frame.assign(shape=noisy))
        last = place[-1]
        whole = np.append(length[route[:last]], share[-1] * length[route[last]])
        driven.append(pd.DataFrame({"trip_id": trip, "segment": plane.index[route[: last + 1]],
                                    "metres": whole}))  # fmt: skip
    table = pd.concat(points, ignore_index=True)
    degrees = gpd.GeoSeries(table.pop("shape"), crs=plane.crs).to_crs(4326)
    table["lat"], table["lon"] = degrees.y, degrees.x
    return table, pd.concat(driven, ignore_index=True)
