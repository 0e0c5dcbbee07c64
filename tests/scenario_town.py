"""A town made by hand for scenarios: two rows of three junctions, one street one-way."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from stgraph.graph import Feature, STGraph
from stgraph.scenario.demand import Demand

LON, LAT, STEP = 10.0, 50.0, 0.003  # degrees: some 215 m to the east, 334 m to the north

#   4 --North-- 5 --North-- 6
#   |           |           ^
#  West        Mid         East (one-way, northwards)
#   |           |           |
#   1 --South-- 2 --South-- 3
_STREETS = [
    (10, 1, 2, "South Street", "primary"),
    (12, 2, 3, "South Street", "primary"),
    (14, 4, 5, "North Street", "residential"),
    (16, 5, 6, "North Street", "residential"),
    (18, 1, 4, "West Road", "secondary"),
    (20, 2, 5, "Mid Road", "secondary"),
]
EAST = 22


def place(junction: int) -> tuple[float, float]:
    """Return longitude and latitude of a junction."""
    row, column = divmod(junction - 1, 3)
    return LON + STEP * column, LAT + STEP * row


def make_town(**columns: Any) -> STGraph:
    """Return the town; segment 10 runs from 1 to 2, 11 back, and so on; 22 is East Road."""
    rows = []
    for number, a, b, name, kind in _STREETS:
        rows += [(number, a, b, name, kind), (number + 1, b, a, name, kind)]
    rows.append((EAST, 3, 6, "East Road", "secondary"))
    lanes = {"primary": 2.0, "secondary": 1.0, "residential": 1.0}
    capacity = {"primary": 2000.0, "secondary": 800.0, "residential": 400.0}
    speed = {"primary": 50.0, "secondary": 50.0, "residential": 30.0}
    ids, a, b, names, kinds = (list(part) for part in zip(*rows, strict=True))
    table = pd.DataFrame(
        {
            "segment_id": ids,
            "osmid": [str(1000 + number // 2) for number in ids],
            "name": names,
            "highway": kinds,
            "oneway": [number == EAST for number in ids],
            "length_m": [215.0 if abs(p - q) == 1 else 334.0 for p, q in zip(a, b, strict=True)],
            "speed_kmh": [speed[kind] for kind in kinds],
            "lanes": [lanes[kind] for kind in kinds],
            "capacity_vph": [capacity[kind] for kind in kinds],
        }
        | columns
    )
    lines = [shapely.LineString([place(p), place(q)]) for p, q in zip(a, b, strict=True)]
    nodes = gpd.GeoDataFrame(
        {"kind": "junction"},
        index=pd.Index(range(1, 7), name="junction_id"),
        geometry=[shapely.Point(place(number)) for number in range(1, 7)],
        crs=4326,
    )
    return STGraph(
        nodes=nodes,
        edge_index=np.array([a, b]) - 1,
        edge_weight=table["length_m"].to_numpy(dtype=np.float32),
        weight_unit="m",
        edges=gpd.GeoDataFrame(table, geometry=lines, crs=4326),
    )


def make_time(hours: int = 24, *, minutes: int = 60) -> pd.DatetimeIndex:
    """Return steps from Monday 2026-11-23 00:00 UTC."""
    return pd.date_range(
        "2026-11-23", periods=hours * 60 // minutes, freq=f"{minutes}min", tz="UTC", unit="us"
    )


def make_demand(per_hour: float = 10.0) -> Demand:
    """Return as many cars per hour between each two of three zones: A at 1, B at 3, C at 6."""
    at = [1, 3, 6]
    zones = gpd.GeoDataFrame(
        {"homes": [100.0, 50.0, 0.0]},
        index=pd.Index(["A", "B", "C"]),
        geometry=[shapely.Point(place(junction)) for junction in at],
        crs=4326,
    )
    trips = np.full((1, 3, 3), per_hour)
    trips[:, range(3), range(3)] = 0.0
    return Demand(zones, np.array(at) - 1, trips, np.zeros((7, 24), dtype=np.int64))


def make_forecast(flow: float = 100.0, *, time: pd.DatetimeIndex | None = None) -> STGraph:
    """Return 40 km/h and some flow on every segment; segment 20 carries a sensor."""
    time = make_time() if time is None else time
    town = make_town()
    assert isinstance(town.edges, gpd.GeoDataFrame)
    ids = town.edges["segment_id"].to_numpy()
    nodes = gpd.GeoDataFrame(
        {"kind": "segment", "support": np.where(ids == 20, "own sensor", "near")},
        index=pd.Index(ids),
        geometry=np.asarray(town.edges.geometry),
        crs=4326,
    )
    values = np.full((len(time), len(ids), 3), 40.0, dtype=np.float32)
    values[..., 1] = flow
    values[..., 2] = 0.0
    features = (
        Feature("speed", "km/h"), Feature("flow", "veh/h"), Feature("rain", "mm/h", "known_future")
    )  # fmt: skip
    return STGraph(nodes=nodes, time=time, values=values, features=features)
