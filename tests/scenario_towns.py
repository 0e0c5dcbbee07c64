"""Small networks, edited by hand, for the tests of what a scenario does."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from stgraph.graph import IntArray, STGraph
from stgraph.report import Report
from stgraph.scenario.demand import Demand
from stgraph.scenario.en_route import EnRoute
from stgraph.scenario.result import SOURCES, STATUS, LinkEffects
from stgraph.scenario.states import Edited, RoadState
from stgraph.scenario.turns import TurnNetwork

NO_TURNS = np.zeros((2, 0), dtype=np.int64)


def make_roads(
    pairs: list[tuple[int, int]], places: list[tuple[float, float]], *, length_m: float = 1000.0
) -> STGraph:
    """Return junctions at places in kilometres around 10 degrees east, 50 north."""
    at = [(10.0 + x / 71.7, 50.0 + y / 111.2) for x, y in places]
    edges = gpd.GeoDataFrame(
        {
            "segment_id": 100 + np.arange(len(pairs)),
            "length_m": length_m,
            "speed_kmh": 60.0,
            "lanes": 1.0,
            "highway": "secondary",
        },
        geometry=[shapely.LineString([at[u], at[v]]) for u, v in pairs],
        crs=4326,
    )
    nodes = gpd.GeoDataFrame(
        {"kind": "junction"},
        index=[f"j{i}" for i in range(len(at))],
        geometry=gpd.points_from_xy(*zip(*at, strict=True)),
        crs=4326,
    )
    return STGraph(nodes=nodes, edge_index=np.array(pairs).T, edges=edges)


def diamond() -> STGraph:
    """Return five junctions: 0 to 1, then straight to 2 (segment 1) or round by 3, then to 4.

    Segments: 0: 0-1, 1: 1-2, 2: 2-4, 3: 1-3, 4: 3-2, 5: 4-0.
    """
    pairs = [(0, 1), (1, 2), (2, 4), (1, 3), (3, 2), (4, 0)]
    return make_roads(pairs, [(0, 0), (1, 0), (2, 0), (1.5, 1), (3, 0)])


def grid(n_columns: int = 5, n_rows: int = 4) -> STGraph:
    """Return a town of streets that run both ways, junctions row by row."""
    number = np.arange(n_columns * n_rows).reshape(n_rows, n_columns)
    streets = [*zip(number[:, :-1].ravel(), number[:, 1:].ravel(), strict=True)]
    streets += [*zip(number[:-1].ravel(), number[1:].ravel(), strict=True)]
    pairs = [pair for a, b in streets for pair in ((int(a), int(b)), (int(b), int(a)))]
    places = [(float(x), float(y)) for y in range(n_rows) for x in range(n_columns)]
    return make_roads(pairs, places)


def load_quickest(
    net: TurnNetwork, minutes: np.ndarray, junctions: IntArray, trips: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return flows, and trips without a way, where everybody takes the quickest one."""
    drivers = EnRoute(net, junctions, trips)
    drivers.choose(minutes, 1.0)
    return drivers.flow(), drivers.unserved


def make_edited(
    roads: STGraph,
    *,
    closed: tuple[int, ...] = (),
    new: tuple[int, ...] = (),
    speed_kmh: dict[int, float] | None = None,
    capacity: dict[int, float] | None = None,
    banned: np.ndarray = NO_TURNS,
    hours: int = 24,
    minutes: int = 60,
    window: tuple[int, int] = (0, 24),
    start: str = "2026-11-23",
) -> Edited:
    """Return an edited network: segments closed, new, of other speed or capacity in a window."""
    E, step = roads.n_edges, pd.Timedelta(minutes=minutes)
    time = pd.date_range(start, periods=hours * 60 // minutes, freq=step, tz="UTC").as_unit("us")
    speed = roads.edges["speed_kmh"].to_numpy(dtype=np.float64)
    is_new = np.isin(np.arange(E), new)
    baseline = RoadState(~is_new, speed, np.ones(E), np.full(E, 1000.0), NO_TURNS)
    changed, room = speed.copy(), np.full(E, 1000.0)
    for where, values in ((changed, speed_kmh or {}), (room, capacity or {})):
        for position, value in values.items():
            where[position] = value
    is_open = ~np.isin(np.arange(E), closed)
    edited = RoadState(is_open, changed, np.ones(E), room, np.asarray(banned))
    before = RoadState(np.ones(E, np.bool_), speed, np.ones(E), np.full(E, 1000.0), NO_TURNS)
    hour = np.asarray(time.hour)
    holds = (hour >= window[0]) & (hour < window[1])
    periods = (before, edited) if not holds.all() else (edited,)
    period_of = holds.astype(np.int64) if not holds.all() else np.zeros(len(time), np.int64)
    touched = sorted({*closed, *new, *(speed_kmh or {}), *(capacity or {})})
    begin = time[np.flatnonzero(holds)[0]] if holds.any() else time[0]
    end = time[np.flatnonzero(holds)[-1]] + step if holds.any() else time[0]
    return Edited(
        roads=roads,
        parent=np.where(is_new, -1, np.arange(E)),
        time=time,
        baseline=baseline,
        periods=periods,
        period_of=period_of,
        changes=pd.DataFrame(),
        edits=gpd.GeoDataFrame(
            {
                "operation": 1,
                "op": "close",
                "label": "works",
                "segment_id": roads.edges["segment_id"].to_numpy()[touched],
                "status": "closed",
                "from": begin,
                "to": end,
            },
            geometry=roads.edges.geometry.to_numpy()[touched],
            crs=4326,
        ),
        demand=(),
        weather=(),
        report=Report(),
    )


def make_effects(
    edited: Edited,
    speed_base: np.ndarray,
    flow_base: np.ndarray,
    speed_scn: np.ndarray | None = None,
    flow_scn: np.ndarray | None = None,
    *,
    spread: float = 0.0,
) -> LinkEffects:
    """Return effects; closed and absent segments are NaN, ranges are the change and `spread`."""
    T, E = len(edited.time), edited.roads.n_edges
    full = [
        np.broadcast_to(np.asarray(values, dtype=np.float64), (T, E)).copy()
        for values in (
            speed_base,
            speed_base if speed_scn is None else speed_scn,
            flow_base,
            flow_base if flow_scn is None else flow_scn,
        )
    ]
    states = np.stack([state.is_open for state in edited.periods])[edited.period_of]
    absent = np.broadcast_to(~edited.baseline.is_open, (T, E))
    full[0][absent] = full[2][absent] = np.nan
    full[1][~states] = full[3][~states] = np.nan
    d_speed, d_flow = full[1] - full[0], full[3] - full[2]
    status = np.zeros((T, E), dtype=np.int8)
    status[absent] = STATUS.index("new")
    status[~states] = STATUS.index("closed")
    return LinkEffects(
        *full,
        d_speed - spread,
        d_speed + spread,
        d_flow - 10 * spread,
        d_flow + 10 * spread,
        np.abs(d_speed) > spread,
        status,
        np.full((T, E), SOURCES.index("assignment"), dtype=np.int8),
    )


def make_demand(roads: STGraph, junctions: list[int], trips: np.ndarray | float = 10.0) -> Demand:
    """Return zones at junctions, with the same trips at every hour."""
    Z = len(junctions)
    zones = gpd.GeoDataFrame(
        {"jobs": 100.0 * (1 + np.arange(Z))},
        index=[f"Z{i}" for i in range(Z)],
        geometry=roads.nodes.geometry.to_numpy()[junctions],
        crs=4326,
    )
    table = np.broadcast_to(np.asarray(trips, dtype=np.float64), (1, Z, Z))
    table = np.where(np.eye(Z, dtype=np.bool_), 0.0, table)
    return Demand(zones, np.array(junctions), table, np.zeros((7, 24), dtype=np.int64))
