"""Networks of transport planning with equilibria that are known, for tests and benchmarks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from stgraph.scenario.turns import TurnNetwork


@dataclass
class Known:
    """A network of the TransportationNetworks collection, its trips and best-known flows."""

    net: TurnNetwork
    given: dict[str, Any]  # the numbers that `solve_equilibrium` wants
    trips: np.ndarray
    best: np.ndarray


def read_known(folder: Path) -> Known:
    """Read one. Zones that must not be driven through have two nodes: one to leave, one to end."""
    name = folder.name
    text = (folder / f"{name}_net.tntp").read_text()
    first_through = int(re.search(r"FIRST THRU NODE>\s*(\d+)", text)[1])
    n_nodes = int(re.search(r"NUMBER OF NODES>\s*(\d+)", text)[1])
    lines = [line.rstrip("; \t") for line in text.splitlines() if line[:1].isspace()]
    rows = np.array([line.split() for line in lines if line.strip()], dtype=np.float64)
    source, target = rows[:, 0].astype(np.int64) - 1, rows[:, 1].astype(np.int64) - 1

    trips_text = (folder / f"{name}_trips.tntp").read_text()
    n_zones = int(re.search(r"NUMBER OF ZONES>\s*(\d+)", trips_text)[1])
    trips = np.zeros((n_zones, n_zones))
    for origin, body in re.findall(r"Origin\s+(\d+)([^O]*)", trips_text):
        for destination, count in re.findall(r"(\d+)\s*:\s*([\d.]+)", body):
            trips[int(origin) - 1, int(destination) - 1] = float(count)

    flow_lines = (folder / f"{name}_flow.tntp").read_text().splitlines()[1:]
    flows = {
        tuple(map(int, line.split()[:2])): line.split()[2] for line in flow_lines if line.strip()
    }
    best = np.array([flows[a + 1, b + 1] for a, b in zip(source, target, strict=True)], dtype=float)

    closed = min(first_through - 1, n_nodes)
    end_of = np.arange(n_nodes)
    end_of[:closed] = n_nodes + np.arange(closed)
    net = TurnNetwork(source, end_of[target], n_nodes + closed, np.arange(len(rows)), end_of)
    given = {
        "free_min": rows[:, 4],
        "capacity_vph": rows[:, 2],
        "alpha": rows[:, 5],
        "beta": rows[:, 6],
        "is_open": np.ones(len(rows), dtype=bool),
        "junctions": np.arange(n_zones),
    }
    return Known(net, given, trips, best)


def relative_gap(
    net: TurnNetwork,
    junctions: np.ndarray,
    trips: np.ndarray,
    flow: np.ndarray,
    minutes: np.ndarray,
) -> float:
    """Return the share of all time that fastest ways would save, from flows and times alone."""
    of = net.link_of
    cost = np.where(of >= 0, minutes[of], 0.0)
    order = np.argsort(-cost, kind="stable")
    fastest = {(net.source[i], net.target[i]): cost[i] for i in order if np.isfinite(cost[i])}
    ends = np.array(list(fastest)).T
    values = np.maximum(list(fastest.values()), 1e-12)
    matrix = coo_array((values, tuple(ends)), shape=(net.n_nodes,) * 2).tocsr()
    best = dijkstra(matrix, indices=junctions)[:, net.end_of[junctions]]
    apart = junctions[:, None] != junctions[None, :]
    served = np.where(apart & np.isfinite(best), trips, 0.0)
    used = flow > 0
    taken = flow[used] @ minutes[used]
    return float((taken - (served * np.where(served > 0, best, 0.0)).sum()) / taken)


def far_off(flow: np.ndarray, best: np.ndarray) -> float:
    """Return the sum of all differences, as a share of all flow."""
    return float(np.abs(flow - best).sum() / best.sum())
