"""A scenario run by hand: a town of streets on a grid, one closed, one new, one slower."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from stgraph.graph import STGraph
from stgraph.scenario.result import SOURCES, STATUS, LinkEffects, ScenarioResult

ZONE = "Europe/Berlin"
CLOSED, NEW, SLOWED = (5, 6), (-1, -2), (1, 2)  # segment ids, both directions
_LON, _LAT, _STEP = 10.0, 50.0, 0.003  # degrees, some 200 m
_HOURS = (7, 19)  # local, when the street is closed


def make_result(
    *,
    n_columns: int = 4,
    n_rows: int = 3,
    minutes: int = 30,
    run_id: str = "20261123T050000Z-1a2b",
    start: str = "2026-11-23 00:00",
    hours: int = 24,
) -> ScenarioResult:
    """Return the effects of a closed street, a new one and a slower one on a town.

    Parameters
    ----------
    n_columns, n_rows
        Junctions, at least 3 by 2. The first four streets are: "South Street" from junction 0 to 1
        (slowed), 1 to 2, 2 to 3 (closed from 7 to 19 h); of each street both directions.
    minutes
        Length of a step.
    run_id
        Of the run.
    start
        First step, local time in Europe/Berlin.
    hours
        Length of the horizon.
    """
    roads = _make_roads(n_columns, n_rows)
    local = pd.date_range(start, periods=hours * 60 // minutes, freq=f"{minutes}min", tz=ZONE)
    time = local.tz_convert("UTC").as_unit("us")
    return ScenarioResult(
        run_id=run_id,
        name="South Street works",
        script="version: 1\nname: South Street works\noperations: [close: {...}]\n",
        method="assignment",
        baseline="forecast of 2026-11-23T05:00Z by gcn_lstm",
        zone=ZONE,
        roads=roads,
        time=time,
        links=_make_effects(roads, local),
        od=_make_od(),
        edits=_make_edits(roads, local),
        summary=_make_summary(),
        access=_make_access(),
        isochrones=_make_isochrones(),
        card={
            "method": "assignment",
            "demand": {"source": "gravity", "r2": 0.71},
            "noise_kmh": 0.6,
            "warnings": ["South Street has no counts: its capacity is a default"],
        },
    )


def _make_roads(n_columns: int, n_rows: int) -> STGraph:
    """Return junctions on a grid, the two directions of each street, and a new diagonal."""
    at = [(_LON + _STEP * x, _LAT + _STEP * y) for y in range(n_rows) for x in range(n_columns)]
    streets = [
        (y * n_columns + x, y * n_columns + x + 1, f"{_street(y)} Street")
        for y in range(n_rows)
        for x in range(n_columns - 1)
    ]
    streets += [
        (y * n_columns + x, (y + 1) * n_columns + x, f"{x + 1}. Avenue")
        for x in range(n_columns)
        for y in range(n_rows - 1)
    ]
    pairs = [(u, v, name) for a, b, name in streets for u, v, name in ((a, b, name), (b, a, name))]
    new = [(0, n_columns + 1, "New Link"), (n_columns + 1, 0, "New Link")]
    source, target, names = (list(part) for part in zip(*pairs, *new, strict=True))
    n_old = len(pairs)
    edges = gpd.GeoDataFrame(
        {
            "segment_id": [*range(1, n_old + 1), *NEW],
            "name": names,
            "highway": [
                "secondary" if name.endswith("Street") else "residential" for name in names
            ],
            "length_m": 220.0,
            "speed_kmh": 50.0,
            "lanes": 1.0,
        },
        geometry=[shapely.LineString([at[u], at[v]]) for u, v in zip(source, target, strict=True)],
        crs="EPSG:4326",
    )
    nodes = gpd.GeoDataFrame(
        {"kind": "junction"},
        index=[str(i) for i in range(len(at))],
        geometry=[shapely.Point(place) for place in at],
        crs="EPSG:4326",
    )
    return STGraph(
        nodes=nodes,
        edge_index=np.array([source, target]),
        edges=edges,
        edge_weight=np.full(len(edges), 220.0, dtype=np.float32),
        weight_unit="m",
        zone=ZONE,
    )


def _street(row: int) -> str:
    """Return the name of a street from west to east."""
    return ("South", "Middle", "North")[row] if row < 3 else f"{row + 1}th"


def _make_effects(roads: STGraph, local: pd.DatetimeIndex) -> LinkEffects:
    """Return slower parallel streets, faster ones behind the closed one, the less the farther."""
    ids = roads.edges["segment_id"].to_numpy()  # type: ignore[index]
    shapes = roads.edges.geometry.to_numpy()  # type: ignore[union-attr]
    centre = shapely.centroid(shapes)
    at = centre[list(ids).index(CLOSED[0])]
    steps = shapely.distance(centre, at) / _STEP
    east = np.array([shape.coords[0][1] == shape.coords[-1][1] for shape in shapes])
    hour = np.asarray(local.hour + local.minute / 60)
    busy = np.exp(-(((hour - 8) / 2) ** 2)) + np.exp(-(((hour - 17) / 2.5) ** 2))  # (T,)
    holds = (hour >= _HOURS[0]) & (hour < _HOURS[1])
    old = ids > 0

    base_speed = 45 - 12 * busy[:, None] - np.arange(len(ids))[None, :] % 3
    base_flow = 100 + 700 * busy[:, None] * np.where(east, 1.0, 0.6)
    near = np.exp(-steps / 1.5) * np.where(east, 1.0, -0.4)
    pull = (holds * (0.3 + busy))[:, None] * near[None, :]
    d_speed, d_flow = -14 * pull, 380 * pull
    d_speed[:, np.isin(ids, SLOWED)] -= 5.0
    new_flow = 60 + 300 * busy[:, None] * np.ones((1, len(ids)))

    status = np.zeros(d_speed.shape, dtype=np.int8)
    status[:, np.isin(ids, SLOWED)] = STATUS.index("changed")
    status[np.ix_(holds, np.isin(ids, CLOSED))] = STATUS.index("closed")
    status[:, ~old] = STATUS.index("new")
    gone, built = status == STATUS.index("closed"), status == STATUS.index("new")

    def clean(values: Any, absent: Any) -> Any:
        return np.where(absent, np.nan, values).astype(np.float32)

    return LinkEffects(
        speed_base=clean(base_speed, built),
        speed_scn=clean(np.where(built, 48.0, base_speed + d_speed), gone),
        flow_base=clean(base_flow, built),
        flow_scn=clean(np.where(built, new_flow, base_flow + d_flow), gone),
        d_speed_low=clean(d_speed - 1.5, gone | built),
        d_speed_high=clean(d_speed + 1.5, gone | built),
        d_flow_low=clean(d_flow - 30, gone | built),
        d_flow_high=clean(d_flow + 30, gone | built),
        significant=((np.abs(d_speed) > 1.2) | (np.abs(d_flow) > 40)) & ~gone,
        status=status,
        source=np.full(d_speed.shape, SOURCES.index("assignment"), dtype=np.int8),
    )


def _make_edits(roads: STGraph, local: pd.DatetimeIndex) -> gpd.GeoDataFrame:
    """Return a row per operation and segment."""
    day, utc = local[0].normalize(), local.tz_convert("UTC")
    hours = [(day + pd.Timedelta(hours=hour)).tz_convert("UTC") for hour in _HOURS]
    step = utc[1] - utc[0]
    whole = [utc[0], utc[-1] + step]
    rows = [
        (number, op, label, segment, status, *span)
        for number, op, label, segments, status, span in (
            (1, "close", "South Street closed 07:00-19:00", CLOSED, "closed", hours),
            (2, "add_road", "New Link, 50 km/h", NEW, "new", whole),
            (3, "set_speed", "South Street 30 km/h", SLOWED, "changed", whole),
        )
        for segment in segments
    ]
    names = ["operation", "op", "label", "segment_id", "status", "from", "to"]
    lines = roads.edges.set_index("segment_id").geometry  # type: ignore[union-attr]
    shapes = [lines[row[3]] for row in rows]
    return gpd.GeoDataFrame(pd.DataFrame(rows, columns=names), geometry=shapes, crs="EPSG:4326")


def _make_od() -> pd.DataFrame:
    """Return times between three zones; from the second one nobody gets to the third by day."""
    rows = [
        ("Z1", "Z2", "am", 120.0, 6.0, 7.5, False),
        ("Z2", "Z1", "am", 80.0, 6.2, 6.4, False),
        ("Z1", "Z3", "am", 40.0, 9.0, 8.5, False),
        ("Z2", "Z3", "am", 15.0, 5.0, np.nan, True),
        ("Z1", "Z2", "pm", 100.0, 7.0, 9.5, False),
        ("Z2", "Z1", "pm", 130.0, 7.1, 8.0, False),
        ("Z1", "Z3", "pm", 35.0, 9.5, 9.0, False),
        ("Z2", "Z3", "pm", 20.0, 5.5, np.nan, True),
    ]
    names = ["o", "d", "period", "trips", "tt_base_min", "tt_scn_min", "is_unreachable"]
    found = pd.DataFrame(rows, columns=names)
    change = found["tt_scn_min"] - found["tt_base_min"]
    return found.assign(d_min_low=change - 0.5, d_min_high=change + 1.0)


def _make_summary() -> pd.DataFrame:
    """Return numbers of the whole network."""
    rows = [
        ("VKT", "veh-km", 12_400.0, 12_650.0, 250.0, 180.0, 340.0),
        ("VHT", "veh-h", 410.0, 436.0, 26.0, 12.0, 41.0),
        ("mean speed", "km/h", 30.2, 29.0, -1.2, -1.9, -0.6),
        ("delay", "veh-h", 95.0, 118.0, 23.0, 10.0, 38.0),
        ("unserved trips", "trips", 0.0, 35.0, 35.0, np.nan, np.nan),
        ("CO2", "kg", 2_280.0, 2_350.0, 70.0, 40.0, 110.0),
    ]
    names = ["metric", "unit", "base", "scenario", "change", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def _make_access() -> pd.DataFrame:
    """Return jobs that can be reached from three zones."""
    rows = [
        ("Z1", "am", 1200.0, 1150.0, 3400.0, 3400.0),
        ("Z2", "am", 900.0, 700.0, 3400.0, 3100.0),
        ("Z3", "am", 400.0, 400.0, 2100.0, 2100.0),
    ]
    names = ["zone", "period", "jobs_15_base", "jobs_15_scn", "jobs_30_base", "jobs_30_scn"]
    found = pd.DataFrame(rows, columns=names)
    change = found["jobs_15_scn"] - found["jobs_15_base"]  # of 30 minutes nothing is known
    return found.assign(jobs_15_low=change * 1.5, jobs_15_high=change * 0.5)


def _make_isochrones() -> gpd.GeoDataFrame:
    """Return squares within reach of a zone: smaller with the scenario, in the morning most."""
    middle = shapely.Point(_LON + 1.5 * _STEP, _LAT + _STEP)
    rows = [
        ("Z2", period, network, minutes, 3 * size, size, middle.buffer(width, cap_style="square"))
        for period, loss in (("am", 0.4), ("day", 0.2))
        for network, share in (("baseline", 1.0), ("scenario", 1 - loss))
        for minutes, width in ((20.0, 2 * _STEP), (10.0, _STEP))
        for size in (round(minutes**2 / 100 * share, 3),)
        for width in (width * share**0.5,)
    ]
    names = ["zone", "period", "network", "minutes", "street_km", "area_km2", "geometry"]
    found = gpd.GeoDataFrame(pd.DataFrame(rows, columns=names), crs="EPSG:4326")
    found.geometry = [shapely.MultiPolygon([shape]) for shape in found.geometry]
    return found
