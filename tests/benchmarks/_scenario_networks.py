"""Equilibria on networks whose flows are known, and a day of them on a real city."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from _common import Row, at_most, data_dir
from planning_networks import Known, far_off, read_known, relative_gap
from stgraph_connectors.roads.any import read_roads

from stgraph.graph import Feature, STGraph
from stgraph.report import Report
from stgraph.scenario._routes import build_routes, expanded, lengths, segment_minutes
from stgraph.scenario.balancing import furness
from stgraph.scenario.demand_sources import demand_from_matrices
from stgraph.scenario.equilibrium import Equilibria, Equilibrium, solve_equilibrium
from stgraph.scenario.road_defaults import fill_roads
from stgraph.scenario.running import run
from stgraph.scenario.script import Scenario
from stgraph.scenario.turns import TurnNetwork, expand
from stgraph.scenario.zoning import build_zones

TRIPS_A_DAY = 400_000.0
DETERRENCE = 0.1  # per minute
BRIDGE = "Ernst-Walz-Brücke"  # the busiest one over the Neckar
# per cent of a day's trips in every hour
NIGHT_AND_MORNING = (0.6, 0.4, 0.3, 0.3, 0.6, 1.8, 4.5, 7.5, 7.0, 5.2, 4.8, 5.0)
HOURS = np.array([*NIGHT_AND_MORNING, 5.3, 5.4, 5.8, 6.6, 7.8, 8.2, 6.8, 5.0, 3.7, 3.0, 2.4, 1.4])


def known_networks(quick: bool) -> list[Row]:
    """Return how far flows are from the best known, and what Braess' road costs."""
    rows = []
    for name, close in (("SiouxFalls", 1e-6), ("Anaheim", 1e-8)):
        known = read_known(data_dir() / "transport-networks" / name)
        rows += _compare(name, known, gap=1e-4)
        if not quick:
            rows += _compare(name, known, gap=close)
    before, after = (_braess(has_road) for has_road in (False, True))
    off = max(abs(before - 83.0), abs(after - 92.0))
    return [
        *rows,
        Row("Braess, minutes of each without the road", before, "min"),
        Row("Braess, minutes of each with it", after, "min"),
        at_most("Braess, off from 83 and 92", off, "min", 0.01),
    ]


def _compare(name: str, known: Known, *, gap: float) -> list[Row]:
    """Return the deviations of one network from its best-known flows."""
    began = time.perf_counter()
    found = solve_equilibrium(
        known.net, trips=known.trips, gap=gap, max_iterations=2000, **known.given
    )
    seconds = time.perf_counter() - began
    own = relative_gap(
        known.net, known.given["junctions"], known.trips, found.flow_vph, found.minutes
    )
    much = known.best > 0.1 * known.best.max()
    each = np.abs(found.flow_vph - known.best)[much] / known.best[much]
    apart, worst = 100 * far_off(found.flow_vph, known.best), 100 * float(each.max())
    title = f"{name} to {gap:g}"
    what = f"{title}, the worst of them"
    return [
        at_most(f"{title}, relative gap (own search)", own, "", gap * 1.01),
        at_most(f"{title}, flow off", apart, "%", 1.0),
        Row(f"{title}, busy links off by less than 1 %", 100 * float((each < 0.01).mean()), "%"),
        at_most(what, worst, "%", 1.0) if gap < 1e-4 else Row(what, worst, "%"),
        Row(f"{title}, seconds", seconds, "s"),
    ]


def _braess(has_road: bool) -> float:
    """Return the minutes of each of six drivers; 10 q, 50 + q, 50 + q, 10 q and 10 + q per link."""
    source, target = np.array([0, 0, 1, 2, 1]), np.array([1, 2, 3, 3, 2])
    found = solve_equilibrium(
        expand(source, target, 4, np.zeros((2, 0), dtype=np.int64)),
        free_min=np.array([1e-6, 50.0, 50.0, 1e-6, 10.0]),
        alpha=np.array([1e7, 1 / 50, 1 / 50, 1e7, 1 / 10]),
        beta=np.ones(5),
        capacity_vph=np.ones(5),
        is_open=np.array([True, True, True, True, has_road]),
        junctions=np.array([0, 3]),
        trips=np.array([[0.0, 6.0], [0.0, 0.0]]),
        gap=1e-8,
    )
    used = found.flow_vph > 0
    return float(found.flow_vph[used] @ found.minutes[used]) / 6.0


@dataclass
class City:
    """A network, its curves and its trips of a day."""

    net: TurnNetwork
    free_min: np.ndarray
    capacity_vph: np.ndarray
    junctions: np.ndarray
    trips: np.ndarray  # (Z, Z) a day
    closed: np.ndarray  # positions of segments

    def network(self, *, closed: bool, gap: float) -> Equilibria:
        """Return the network with or without the bridge."""
        n = len(self.free_min)
        is_open = np.ones(n, dtype=bool)
        is_open[self.closed] = not closed
        return Equilibria(
            self.net, free_min=self.free_min, capacity_vph=self.capacity_vph,
            alpha=np.full(n, 0.15), beta=np.full(n, 4.0), is_open=is_open,
            junctions=self.junctions, gap=gap,
        )  # fmt: skip

    def solve_day(self, *, closed: bool, gap: float, hours: list[int]) -> list[Equilibrium]:
        """Return the equilibria of some hours."""
        network = self.network(closed=closed, gap=gap)
        return [network(self.trips * HOURS[hour] / HOURS.sum()) for hour in hours]


def read_city(path: Path, *, n_zones: int = 200) -> City:
    """Return a city with gravity trips between zones of as many metres of street each."""
    roads = read_roads(path, nodes="junctions")
    assert roads.edges is not None
    values = fill_roads(roads.edges, provenance=roads.provenance, report=Report())
    free = segment_minutes(lengths(roads), values.speed_kmh, np.ones(roads.n_edges, dtype=bool))
    weights = np.bincount(roads.edge_index[0], weights=lengths(roads), minlength=roads.n_nodes)
    zones, junctions, _ = build_zones(roads, weights, n_zones=n_zones)
    net = expanded(roads, np.asarray(roads.provenance.get("restrictions", np.zeros((2, 0), int))))
    minutes = build_routes(net, free).from_junctions(junctions)[:, net.end_of[junctions]]
    trips = np.where(np.isfinite(minutes), np.exp(-DETERRENCE * minutes), 0.0)
    np.fill_diagonal(trips, 0.0)
    share = zones["weight"].to_numpy(dtype=np.float64)
    size = TRIPS_A_DAY * share / share.sum()
    trips = furness(trips, size, size, tolerance=1e-6)
    names = [str(name) for name in roads.edges["name"]]
    closed = np.flatnonzero([BRIDGE in name for name in names])
    capacity = values.capacity_vph.astype(np.float64)
    return City(net, np.asarray(free), capacity, junctions, trips, closed)


def _half(job: tuple[City, bool, float, list[int]]) -> list[Equilibrium]:
    city, closed, gap, hours = job
    return city.solve_day(closed=closed, gap=gap, hours=hours)


def heidelberg(quick: bool) -> list[Row]:
    """Return how long a day with and without a bridge takes, and how exact the difference is."""
    began = time.perf_counter()
    city = read_city(
        data_dir() / "osm-heidelberg" / "drive.graphml.gz", n_zones=50 if quick else 200
    )
    read = time.perf_counter() - began
    hours = [3, 17] if quick else list(range(24))
    rows = [
        Row("Heidelberg, segments", len(city.free_min), ""),
        Row("Heidelberg, zones", len(city.junctions), ""),
        Row("Heidelberg, reading and gravity", read, "s"),
    ]
    differences = {}
    for gap in (1e-3, 1e-4):
        began = time.perf_counter()
        jobs = [(city, closed, gap, hours) for closed in (False, True)]
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            base, shut = pool.map(_half, jobs)
        seconds = time.perf_counter() - began
        differences[gap] = shut[hours.index(17)].flow_vph - base[hours.index(17)].flow_vph
        title = f"Heidelberg to {gap:g}"
        what = f"{title}, {len(hours)} hours on 2 networks, 2 processes"
        rows += [
            at_most(what, seconds, "s", 120.0) if gap == 1e-3 else Row(what, seconds, "s"),
            Row(f"{title}, iterations at 17 h", shut[hours.index(17)].n_iterations, ""),
            at_most(f"{title}, largest gap", max(e.gap for e in [*base, *shut]), "", gap),
        ]
    return rows if quick else [*rows, *_exactness(city, differences)]


def heidelberg_run(quick: bool) -> list[Row]:
    """Return how long a planner waits for the whole of it: one closure, a day, 200 zones."""
    path = data_dir() / "osm-heidelberg" / "drive.graphml.gz"
    city = read_city(path, n_zones=50 if quick else 200)
    roads = read_roads(path, nodes="junctions")
    places = roads.nodes.iloc[city.junctions].reset_index(drop=True)
    share = np.asarray(HOURS, dtype=np.float64) / np.sum(HOURS)
    demand = demand_from_matrices(
        share[:, None, None] * city.trips, places, roads, period_of_hour=np.tile(range(24), (7, 1))
    )
    time_axis = pd.date_range("2026-11-23", periods=4 if quick else 24, freq="h", tz="UTC")
    assert roads.edges is not None
    speed = fill_roads(roads.edges, provenance=roads.provenance, report=Report()).speed_kmh
    forecast = STGraph(
        nodes=gpd.GeoDataFrame(
            {"kind": "segment"},
            index=pd.Index(roads.edges["segment_id"].to_numpy()),
            geometry=roads.edges.geometry.to_numpy(),
            crs=roads.nodes.crs,
        ),
        time=time_axis,
        values=np.broadcast_to(speed[None, :, None], (len(time_axis), len(speed), 1)).copy(),
        features=(Feature("speed", "km/h"),),
    )
    scenario = Scenario("bridge").close(edges=roads.edges["segment_id"].iloc[city.closed].tolist())
    began = time.perf_counter()
    result = run(scenario, roads, forecast, demand=demand, allow_disconnect=True, n_processes=2)
    seconds = time.perf_counter() - began
    title = f"Heidelberg, the whole run of {len(time_axis)} hours"
    goal = Row(title, seconds, "s") if quick else at_most(title, seconds, "s", 180.0)
    vht = result.summary.set_index("metric").loc["VHT"]
    return [goal, Row("Heidelberg, change of VHT", 100 * vht["change"] / vht["base"], "%")]


def _exactness(city: City, differences: dict[float, np.ndarray]) -> list[Row]:
    """Return how far differences at the evening peak are from those of a much smaller gap."""
    base, shut = (
        city.solve_day(closed=closed, gap=3e-6, hours=[17])[0] for closed in (False, True)
    )
    true = np.delete(shut.flow_vph - base.flow_vph, city.closed)
    rows = [Row("Heidelberg, mean change of flow at 17 h", float(np.abs(true).mean()), "veh/h")]
    for gap, found in differences.items():
        error = float(np.abs(np.delete(found, city.closed) - true).mean())
        rows.append(Row(f"Heidelberg to {gap:g}, mean error of it", error, "veh/h"))
    return rows
