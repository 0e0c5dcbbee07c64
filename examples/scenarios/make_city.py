"""Make the simulated city of the scenario examples: streets, demand, two weeks of traffic.

Nothing in it is real: the city is invented (its coordinates are in the North Sea), its traffic is
simulated with UXsim. Run it again to get the same files (extra `sim`, about half a minute):

    python examples/scenarios/make_city.py examples/scenarios/city
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely

from stgraph.scenario._departures import draw
from stgraph.scenario._links import Timetable, build_network
from stgraph.scenario._microworld import STEP_S, Departures, run
from stgraph.scenario.states import RoadState

SIMULATED = "invented city, traffic simulated with UXsim"
ZONE = "Europe/Berlin"
MONDAY = pd.Timestamp("2026-11-02", tz=ZONE)
DAYS, STEPS, PLATOON = 14, 96, 4  # of 15 minutes; cars that move as one
WEST, SOUTH = 5.0, 55.0  # degrees
COLUMNS, ROWS, BLOCK_M, RIVER_M = 10, 9, 380.0, 620.0
NORTH_BANK = 4  # first row north of the river
BRIDGES = {1: "West Bridge", 3: "Old Bridge", 5: "Market Bridge", 9: "East Bridge"}
PRIMARY = {"column": (1, 5, 9), "row": (1, 6)}
SECONDARY = {"column": (3, 7), "row": (3, 4, 8)}
COLUMN_NAMES = (
    "Alder",
    "Birch",
    "Cedar",
    "Elm",
    "Fir",
    "Hazel",
    "Juniper",
    "Larch",
    "Maple",
    "Oak",
)
ROW_NAMES = ("Meadow Lane", "South Road", "Orchard Lane", "South Quay", "North Quay", "Mill Lane")
ROW_NAMES += ("North Road", "Garden Lane", "Hill Road")
# class: km/h, lanes and cars per hour of a direction
STREETS = {"primary": (60, 2, 1500), "secondary": (50, 1, 850), "residential": (40, 1, 500)}
TRIPS = 145_000  # cars on a mean weekday
WEEK = (0.97, 1.0, 1.02, 1.02, 1.06, 0.78, 0.62)  # times that, Monday first
AM = (0, 0, 0, 0, 1, 3, 9, 20, 22, 12, 6, 4, 4, 4, 3, 3, 3, 3, 2, 1, 1, 0, 0, 0)
PM = (1, 0, 0, 0, 0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 7, 11, 16, 18, 13, 8, 5, 4, 3, 2)
DAY = (1, 0.6, 0.4, 0.4, 0.5, 1, 2, 3, 5, 7, 8, 9, 9, 9, 8, 8, 8, 8, 8, 7, 5, 4, 3, 2)


class Places(NamedTuple):
    """What the city is made of."""

    junctions: gpd.GeoDataFrame
    roads: gpd.GeoDataFrame  # a row per direction
    zones: gpd.GeoDataFrame
    river: gpd.GeoDataFrame


def make_places(seed: int = 6) -> Places:
    """Return junctions, streets, zones and river."""
    rng = np.random.default_rng(seed)
    column, row = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
    column, row = column.ravel(), row.ravel()
    x = column * BLOCK_M + rng.uniform(-45, 45, column.size)
    y = row * BLOCK_M + (row >= NORTH_BANK) * (RIVER_M - BLOCK_M) + rng.uniform(-45, 45, row.size)
    y += 90 * np.sin(column / 3.0)  # the river winds
    roads = _streets(x, y, rng)
    used = np.unique(roads[["from_junction", "to_junction"]])
    junctions = gpd.GeoDataFrame(
        {"junction": used, "source": SIMULATED}, geometry=_points(x, y)[used], crs=4326
    )
    # a zone at every junction; homes in the south, work around the north bank's market
    south, centre = row[used] < NORTH_BANK, np.hypot(column[used] - 5, row[used] - 5)
    homes = (1.5 + 2.5 * south) * rng.lognormal(0, 0.3, len(used))
    jobs = (0.4 + 6 * np.exp(-centre / 1.6)) * rng.lognormal(0, 0.3, len(used))
    zones = gpd.GeoDataFrame(
        {
            "id": [f"Z{i:02d}" for i in range(1, len(used) + 1)],
            "junction": used,
            "homes": np.rint(homes / homes.sum() * 40_000).astype(int),
            "jobs": np.rint(jobs / jobs.sum() * 30_000).astype(int),
            "source": SIMULATED,
        },
        geometry=_points(x, y)[used],
        crs=4326,
    )
    along = np.arange(-1, COLUMNS + 1)
    middle = (NORTH_BANK - 1) * BLOCK_M + RIVER_M / 2 + 90 * np.sin(along / 3.0)
    bank = shapely.LineString(np.column_stack([along * BLOCK_M, middle])).buffer(
        130, cap_style="flat"
    )
    water = shapely.transform(shapely.simplify(bank, 5), _in_degrees)
    river = gpd.GeoDataFrame({"name": ["River"], "source": SIMULATED}, geometry=[water], crs=4326)
    return Places(junctions, roads, zones, river)


def _streets(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> gpd.GeoDataFrame:
    """Return all streets, a row for each direction."""
    rows, points = [], _points(x, y)
    for a in range(COLUMNS * ROWS):
        c, r = a % COLUMNS, a // COLUMNS
        for b, along in ((a + 1, "row"), (a + COLUMNS, "column")):
            if (along == "row" and c == COLUMNS - 1) or b >= COLUMNS * ROWS:
                continue
            place = r if along == "row" else c
            bridge = BRIDGES.get(c) if along == "column" and r == NORTH_BANK - 1 else None
            if along == "column" and r == NORTH_BANK - 1 and bridge is None:
                continue
            kind = "primary" if place in PRIMARY[along] else "residential"
            kind = "secondary" if place in SECONDARY[along] else kind
            luck = rng.random(3)
            if kind == "residential" and luck[0] < 0.12:
                continue  # no street there
            name = ROW_NAMES[r] if along == "row" else f"{COLUMN_NAMES[c]} Street"
            kmh, lanes, vph = STREETS[kind]
            ways = [(a, b)] if kind == "residential" and luck[1] < 0.12 else [(a, b), (b, a)]
            for u, v in ways:
                rows.append(
                    {
                        "from_junction": u,
                        "to_junction": v,
                        "name": bridge or name,
                        "highway": kind,
                        "bridge": bridge is not None,
                        "oneway": "yes",  # a row per direction
                        "maxspeed": kmh,
                        "lanes": lanes,
                        "capacity_vph": round(vph * (0.9 + 0.2 * luck[2])),
                        "length_m": round(float(np.hypot(x[u] - x[v], y[u] - y[v])), 1),
                        "geometry": shapely.LineString([points[u], points[v]]),
                    }
                )
    roads = gpd.GeoDataFrame(rows, crs=4326)
    roads.insert(0, "id", np.arange(1, len(roads) + 1))
    return roads.assign(source=SIMULATED)


def _degrees(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return longitudes and latitudes of places in metres."""
    return WEST + x / (111_320 * np.cos(np.radians(SOUTH))), SOUTH + y / 111_320


def _in_degrees(places: np.ndarray) -> np.ndarray:
    return np.column_stack(_degrees(*places.T))


def _points(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return shapely.points(*_degrees(x, y))


# ---------------------------------------------------------------- demand


def make_demand(places: Places) -> np.ndarray:
    """Return cars per hour between zones on a mean weekday, Saturday and Sunday, (3, 24, Z, Z)."""
    metric = places.zones.to_crs(places.zones.estimate_utm_crs()).geometry
    away = np.stack([metric.distance(point) for point in metric]) / 1000
    likes = np.exp(-0.35 * away) * (1 - np.eye(len(away)))
    homes, jobs = (places.zones[name].to_numpy(dtype=float) for name in ("homes", "jobs"))
    to_work = homes[:, None] * (jobs * likes) / (jobs * likes).sum(axis=1, keepdims=True)
    both = homes + jobs
    other = both[:, None] * (both * likes) / (both * likes).sum(axis=1, keepdims=True)
    patterns = np.stack([pattern / pattern.sum() for pattern in (to_work, to_work.T, other)])
    week = np.array([[AM, PM, DAY], [(0,) * 24, (0,) * 24, DAY], [(0,) * 24, (0,) * 24, DAY]])
    shares = week * np.array([[0.28, 0.30, 0.42], [0, 0, 1], [0, 0, 1]])[:, :, None]
    shares = shares / np.maximum(week.sum(axis=2, keepdims=True), 1)
    size = TRIPS * np.array([1.0, WEEK[5], WEEK[6]])
    return size[:, None, None, None] * np.einsum("dkh,kij->dhij", shares, patterns)


# ---------------------------------------------------------------- traffic


def make_incidents(places: Places, day: int, seed: int = 6) -> pd.DataFrame:
    """Return what happens on a day: closures and losses of half the capacity."""
    rng = np.random.default_rng((seed, day, 1))
    roads = places.roads
    rows, busy = [], roads["lanes"] * roads["capacity_vph"]
    for _ in range(rng.poisson(3.5)):
        street = int(rng.choice(len(roads), p=busy / busy.sum()))
        start = int(rng.integers(6 * 4, 20 * 4))
        begin = MONDAY + pd.Timedelta(days=day, minutes=15 * start)
        end = begin + pd.Timedelta(minutes=15 * int(rng.integers(4, 15)))
        factor = 0.0 if rng.random() < 0.7 else 0.5
        u, v = roads.loc[street, ["from_junction", "to_junction"]]
        ways = (roads["from_junction"] == u) & (roads["to_junction"] == v)
        if rng.random() < 0.5:  # both ways
            ways |= (roads["from_junction"] == v) & (roads["to_junction"] == u)
        rows += [
            {"id": int(i), "from": begin, "to": end, "capacity_factor": factor}
            for i in roads.loc[ways, "id"]
        ]
    return pd.DataFrame(rows, columns=["id", "from", "to", "capacity_factor"])


def simulate_day(
    places: Places, demand: np.ndarray, day: int, seed: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """Return speeds in km/h, NaN where nobody drove, and flows in cars per hour, (96, E)."""
    rng = np.random.default_rng((seed, day, 0))
    roads, kind = places.roads, max(day % 7 - 4, 0)
    position = pd.Series(np.arange(len(places.junctions)), index=places.junctions["junction"])
    ends = [position.loc[roads[end]].to_numpy() for end in ("from_junction", "to_junction")]
    length_m = roads["length_m"].to_numpy()
    states, timetable = _states(places, make_incidents(places, day, seed), day)
    network = build_network(*ends, len(position), length_m, states, timetable)
    # every day a little different
    n_zones = len(places.zones)
    factor = rng.normal(WEEK[day % 7] / (1.0, WEEK[5], WEEK[6])[kind], 0.04)
    productions, attractions = rng.lognormal(0, 0.08, (2, n_zones))
    trips = demand[kind] * factor * productions[:, None] * attractions[None, :]
    trips *= rng.lognormal(0, 0.05, 24)[:, None, None]
    platoons, _ = draw(trips, trips, platoon=PLATOON, seed=(seed, day))
    at = position.loc[places.zones["junction"]].to_numpy()
    departures = Departures(
        np.floor(platoons.time_s / STEP_S).astype(np.int64),
        network.node_of[at[platoons.origin]],
        network.end_of[at[platoons.destination]],
    )
    result = run(
        network.links, departures, platoon=PLATOON, routes_s=300.0, seed=int(rng.integers(2**31))
    )
    speed = np.full(result.time_s.shape, np.nan)
    np.divide(result.distance_m * 3.6, result.time_s, out=speed, where=result.distance_m > 1)
    speed = np.minimum(speed, roads["maxspeed"].to_numpy())
    return speed, result.distance_m / length_m * (STEPS / 24)


def _states(places: Places, incidents: pd.DataFrame, day: int) -> tuple[list[RoadState], Timetable]:
    """Return the states of the roads on a day, and when they begin."""
    midnight = MONDAY + pd.Timedelta(days=day)
    begins = ((incidents["from"] - midnight) / pd.Timedelta(seconds=1)).to_numpy(dtype=float)
    ends = ((incidents["to"] - midnight) / pd.Timedelta(seconds=1)).to_numpy(dtype=float)
    instants = np.unique(np.concatenate([[0.0], begins, ends]))
    instants = instants[instants < 86_400]
    segments = incidents["id"].to_numpy(dtype=int) - 1
    states = []
    for instant in instants:
        factor = np.ones(len(places.roads))
        now = (begins <= instant) & (instant < ends)
        np.minimum.at(factor, segments[now], incidents["capacity_factor"].to_numpy(float)[now])
        states.append(
            RoadState(
                is_open=factor > 0,
                speed_kmh=places.roads["maxspeed"].to_numpy(dtype=float),
                lanes=places.roads["lanes"].to_numpy(dtype=float),
                capacity_vph=places.roads["capacity_vph"] * np.maximum(factor, 0.01),
                banned_turns=np.zeros((2, 0), dtype=np.int64),
            )
        )
    edges = np.linspace(0, 86_400, STEPS + 1)
    return states, Timetable(instants, np.arange(len(instants)), edges)


# ---------------------------------------------------------------- files


def write_city(folder: Path, *, days: int = DAYS) -> None:
    """Write the files of the city."""
    folder.mkdir(parents=True, exist_ok=True)
    places = make_places()
    demand = make_demand(places)
    _write_layers(places, folder)
    _write_demand(places, demand, folder / "od.npz")
    traffic = [simulate_day(places, demand, day) for day in range(days)]
    _write_history(places, traffic, folder / "history.parquet")
    incidents = pd.concat([make_incidents(places, day) for day in range(days)])
    incidents.to_csv(folder / "incidents.csv", index=False)


def _write_layers(places: Places, folder: Path) -> None:
    """Write the streets, their middles as stations, zones and river."""
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2026-11-16T00:00:00.000Z"})
    for path in (folder / "roads.gpkg", folder / "city.gpkg"):
        path.unlink(missing_ok=True)
    roads = places.roads.drop(columns=["from_junction", "to_junction", "length_m"])
    roads.to_file(folder / "roads.gpkg", layer="roads", engine="pyogrio")
    stations = roads[["id", "name", "highway", "source", "geometry"]]
    # where traffic drives: to the right of the middle
    plane = stations.to_crs(stations.estimate_utm_crs())
    right = shapely.offset_curve(plane.geometry.array, -4.0)
    middle = shapely.line_interpolate_point(right, 0.5, normalized=True)
    stations = plane.set_geometry(gpd.array.from_shapely(middle, crs=plane.crs)).to_crs(4326)
    stations.to_file(path, layer="segments", engine="pyogrio")
    places.zones.drop(columns="junction").to_file(path, layer="zones", engine="pyogrio")
    places.river.to_file(path, layer="river", engine="pyogrio")


def _write_demand(places: Places, demand: np.ndarray, path: Path) -> None:
    """Write cars per hour on a Friday, Saturday and Sunday."""
    friday = MONDAY + pd.Timedelta(days=4)
    times = pd.date_range(friday, periods=72, freq="h").tz_localize(None)
    np.savez_compressed(
        path,
        trips=np.round(demand.reshape(72, *demand.shape[2:]), 1).astype(np.float32),
        timestamps=times.to_numpy().astype("datetime64[s]"),
        ids=places.zones["id"].to_numpy(dtype=str),
    )


def _write_history(
    places: Places, traffic: list[tuple[np.ndarray, np.ndarray]], path: Path
) -> None:
    """Write a row per segment and 15 minutes."""
    speed, flow = (np.concatenate(parts) for parts in zip(*traffic, strict=True))
    time = pd.date_range(MONDAY, periods=len(speed), freq="15min").tz_convert("UTC")
    table = pd.DataFrame(
        {
            "id": np.tile(places.roads["id"].to_numpy(np.int16), len(speed)),
            "time": np.repeat(time.as_unit("ms"), speed.shape[1]),
            "speed": np.round(speed.ravel() * 4) / 4,
            "flow": np.round(flow.ravel()).astype(np.int16),
        }
    ).astype({"speed": np.float32})
    table = table.sort_values(["id", "time"], kind="stable")
    table.to_parquet(path, index=False, compression="zstd", compression_level=19)


if __name__ == "__main__":
    write_city(Path(sys.argv[1] if len(sys.argv) > 1 else "city"))
