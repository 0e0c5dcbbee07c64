"""Connect stations by the distance along the roads between them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import shapely

from stgraph import registry
from stgraph.errors import GraphError
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._edges import (
    EDGE_LIMIT,
    Pairs,
    Weight,
    check_weight,
    finish_graph,
    gaussian_kernel,
    no_pairs,
    spread,
    weigh,
)
from stgraph.neighbours._places import Places, check_count, check_length, start_graph, to_metres
from stgraph.neighbours._roads import Roads, find_turns, find_twins, read_roads_graph
from stgraph.neighbours._routes import Spots, build_route_graph, count_parts, search
from stgraph.neighbours.gaussian import check_threshold
from stgraph.neighbours.snapping import UNKNOWN_DIRECTION, Side, Snapping, snap_stations
from stgraph.report import Finding, Report

Ways = Literal["drive", "drive_service", "walk", "bike", "all"]

_ROADS = "`roads`"
_SLACK = 0.98  # lengths along a road may be this much of the straight line, by rounding


def build_network(
    places: Places,
    roads: STGraph | str | os.PathLike[str],
    *,
    max_length_m: float = 10_000.0,
    weight: Weight = "gaussian",
    sigma_m: float | None = None,
    threshold: float = 0.1,
    k: int | None = None,
    include_self: bool = False,
    u_turns: bool = False,
    max_snap_m: float = 50.0,
    heading_column: str | None = None,
    road_column: str | None = None,
    side: Side | None = None,
    network: Ways | None = None,
) -> STGraph:
    """Connect stations by the distance along directed roads.

    Parameters
    ----------
    places
        One row per station, indexed by unique id, in any CRS. A graph keeps its nodes and signal
        and gets new edges.
    roads
        A road network as a graph (junctions with lines on the edges, or segments as
        `build_line_graph` makes them), or a file that the connector ``roads`` reads.
    max_length_m
        Longest way looked at, in metres.
    weight
        ``"gaussian"``: exp(-(length/sigma)^2); ``"length"``: metres; ``"binary"``: 1.
    sigma_m
        Width of the Gaussian kernel in metres. None takes the standard deviation of all
        distances up to `max_length_m`.
    threshold
        Smallest Gaussian weight kept, from 0 up to but not including 1.
    k
        Keep only the k nearest stations from which one is reached. None keeps all.
    include_self
        Whether every station on a road gets an edge to itself, of length 0; DCRNN's graphs have
        these, and they count for `sigma_m`.
    u_turns
        Whether one may turn back at every junction, instead of at dead ends only. A graph of
        segments brings its own turns, and this is not looked at.
    max_snap_m, heading_column, road_column, side
        How stations get onto the roads: see `snap_stations`. Where nothing tells the direction of
        a two-way street, the station counts for both.
    network
        Which ways of an OpenStreetMap file are roads: ``"drive"``, ``"drive_service"``,
        ``"walk"``, ``"bike"`` or ``"all"``. None: those of the connector, ``"drive"``.

    Returns
    -------
    STGraph
        N nodes, directed edges i -> j where j is reached from i, sorted by (target, source),
        their lengths in ``edges["length_m"]``. Stations on no road stay without edges.

    Raises
    ------
    GraphError
        Options, stations or roads cannot be used, no station is near a road, or there are more
        than 50 million pairs.

    Notes
    -----
    The kernel is that of Li et al., "Diffusion convolutional recurrent neural network", ICLR 2018.
    Searches are Dijkstra's, one per station and no further than `max_length_m`; memory grows with
    the pairs found, not with the square of the stations.
    """
    report = Report()
    check_length(report, "max_length_m", max_length_m, optional=False)
    check_weight(report, weight)
    check_length(report, "sigma_m", sigma_m)
    check_threshold(report, threshold)
    check_count(report, "k", k, optional=True)
    check_length(report, "max_snap_m", max_snap_m, optional=False)
    if sigma_m is not None and weight in ("length", "binary"):
        report.error("`sigma_m`", f"has no use with weight={weight!r}", "leave one of them out")
    if network is not None and isinstance(roads, STGraph):
        report.error("`network`", "is for files; `roads` is a graph already", "leave it out")
    report.raise_errors(GraphError, title="cannot connect stations along roads")
    graph = start_graph(places, report)
    road_graph = roads if isinstance(roads, STGraph) else _read_file(roads, network)
    snapping = snap_stations(
        places,
        road_graph,
        max_distance_m=max_snap_m,
        heading_column=heading_column,
        road_column=road_column,
        side=side,
    )
    report.extend(_findings(snapping))
    segments = cast("Roads", read_roads_graph(road_graph, Report()))  # snapping to them worked

    kernel = weight == "gaussian"
    reach = _reach(sigma_m, threshold, max_length_m) if kernel else max_length_m
    found = _Found(max_length_m, threshold if kernel and sigma_m is None and k is None else 0.0)
    found.add_loops(_on_road(snapping) if include_self else np.zeros(0, dtype=np.int64))
    for pairs in _ways(segments, snapping, reach, u_turns=u_turns, report=report):
        found.add(pairs)
    pairs = found.pairs()
    sigma_m = sigma_m or found.sigma_m(pairs)
    if k is not None:
        pairs = pairs.nearest_per_target(k + include_self)
    if kernel:
        weights = gaussian_kernel(pairs.length_m, sigma_m)
        pairs, weights = pairs.take(weights >= threshold), weights[weights >= threshold]
        notes: dict[str, Any] = {"weight": weight, "weight_unit": "1"}
        notes |= {"sigma_m": sigma_m, "threshold": threshold}
    else:
        weights, notes = weigh(pairs.length_m, weight)
    how: dict[str, Any] = {
        "method": "network",
        "max_length_m": max_length_m,
        "k": k,
        "include_self": include_self,
        "u_turns": u_turns if segments.turns is None else None,
        "snapped": snapping.stations["status"].value_counts().to_dict(),
    }
    join = "raise `max_length_m`, or look at `snap_stations` and the roads, if they should"
    return finish_graph(graph, pairs, weights, how=how | notes, report=report, join=join)


def _read_file(path: str | os.PathLike[str], network: Ways | None) -> STGraph:
    """Return the road network of a file."""
    read = registry.load("connectors", "roads")
    graph: STGraph = read(Path(path), nodes="junctions", network=network)
    return graph


def _reach(sigma_m: float | None, threshold: float, max_length_m: float) -> float:
    """Return the length beyond which no pair can count."""
    if sigma_m is None or threshold == 0:
        return max_length_m
    return min(max_length_m, sigma_m * _kernel_reach(threshold))


def _kernel_reach(threshold: float) -> float:
    """Return how many sigmas long a pair may be whose weight reaches the threshold."""
    return float(np.sqrt(-np.log(threshold))) * (1 + 1e-9)


def _findings(snapping: Snapping) -> Iterable[Finding]:
    """Return what snapping found; here a station without a direction counts for both."""
    for finding in snapping.report:
        both = UNKNOWN_DIRECTION in finding.what
        todo = "both directions count for them; give `heading_column` or `side` to tell them apart"
        yield replace(finding, todo=todo) if both else finding


def _on_road(snapping: Snapping) -> IntArray:
    """Return the rows of the stations that lie on a road."""
    return np.flatnonzero(snapping.stations["segment_id"].notna().to_numpy())


# ---------------------------------------------------------------- from stations to ways


def _ways(
    roads: Roads, snapping: Snapping, max_length_m: float, *, u_turns: bool, report: Report
) -> Iterable[Pairs]:
    """Return the ways between stations, block by block."""
    spots = _spots(roads, snapping)
    twins = find_twins(roads)
    turns = find_turns(roads, twins, u_turns=u_turns or _never_turns(roads, twins, spots))
    graph = build_route_graph(roads, turns, spots, len(snapping.stations))
    parts = count_parts(roads, turns, twins, spots)
    if len(parts) > 1:
        sizes = ", ".join(map(str, parts[:5])) + (", ..." if len(parts) > 5 else "")
        what = f"stations lie on {len(parts)} parts that no road joins, with {sizes} of them"
        report.warning(_ROADS, what, "get a larger extract if they should be joined")
    return search(graph, max_length_m, bounded=_lengths_are_sound(roads, report))


def _never_turns(roads: Roads, twins: IntArray, spots: Spots) -> bool:
    """Tell whether no shortest way has a U-turn, so that they need not be ruled out.

    It can only have one right behind its start or right before its end, and not where a station
    counts for both directions: leaving the other way is shorter then. To get round a forbidden
    turn, it may have one anywhere.
    """
    both = np.bincount(spots.station)[spots.station] == 2
    return bool((both | (twins[spots.segment] < 0)).all()) and not roads.forbidden.size


def _spots(roads: Roads, snapping: Snapping) -> Spots:
    """Return where stations lie; on both directions where nothing told which is meant."""
    table = snapping.stations
    ids = {number: row for row, number in enumerate(roads.segment_id)}
    one = _on_road(snapping)
    two = np.flatnonzero(table["other_segment_id"].notna().to_numpy())
    segment = [ids[number] for number in table["segment_id"].iloc[one]]
    other = [ids[number] for number in table["other_segment_id"].iloc[two]]
    offset_m = table["offset_m"].to_numpy(dtype=np.float64)
    length_m = roads.length_m[np.array(other, dtype=np.int64)]
    return Spots(
        station=np.concatenate([one, two]),
        segment=np.array([*segment, *other], dtype=np.int64),
        offset_m=np.concatenate([offset_m[one], np.maximum(length_m - offset_m[two], 0.0)]),
    )


def _lengths_are_sound(roads: Roads, report: Report) -> bool:
    """Tell whether no segment is shorter than the straight line between its ends."""
    ends = [shapely.get_coordinates(shapely.get_point(roads.lines, at)) for at in (0, -1)]
    first, last = (to_metres(xy, roads.crs)[0] for xy in ends)
    straight = np.linalg.norm(last - first, axis=1)
    short = roads.length_m < _SLACK * straight - 1.0
    if short.any():
        count = int(short.sum())
        what = f"`length_m` of {count} segments is less than the straight line between their ends"
        report.warning(_ROADS, what, "are they metres? drop the column to have them measured")
    return not short.any()


class _Found:
    """The pairs found so far, and what their standard deviation needs.

    With a threshold, pairs that cannot reach it are dropped on the way: lengths from 0 to
    `max_length_m` never deviate by more than half of it, as soon as they are not all the same.
    """

    def __init__(self, max_length_m: float, threshold: float) -> None:
        self._longest = None if threshold == 0 else max_length_m / 2 * _kernel_reach(threshold)
        self._blocks: list[Pairs] = []
        self._count = self._held = 0
        self._sum = self._squares = 0.0
        self._range = (np.inf, -np.inf)

    def add_loops(self, stations: IntArray) -> None:
        """Add an edge of length 0 from every station to itself."""
        self.add(Pairs(stations, stations, np.zeros(len(stations))))

    def add(self, pairs: Pairs) -> None:
        """Add a block of pairs."""
        length_m = pairs.length_m
        self._count += len(length_m)
        self._sum += float(length_m.sum())
        self._squares += float(length_m @ length_m)
        low, high = self._range
        self._range = (min(low, length_m.min(initial=np.inf)), max(high, length_m.max(initial=-1)))
        if self._range[1] - self._range[0] > 1.0:
            pairs = pairs.no_longer_than(self._longest)
        source, target = (
            cast("IntArray", p.astype(np.int32)) for p in (pairs.source, pairs.target)
        )
        self._blocks.append(Pairs(source, target, pairs.length_m))
        self._held += len(source)
        if self._held > EDGE_LIMIT:
            raise GraphError(
                f"there are more than {EDGE_LIMIT:,} pairs of stations within `max_length_m`; "
                "lower it, or give `sigma_m`"
            )

    def pairs(self) -> Pairs:
        """Return all pairs that may count."""
        blocks = self._blocks or [no_pairs()]
        parts = ([getattr(b, name) for b in blocks] for name in ("source", "target", "length_m"))
        return Pairs(*(np.concatenate(part) for part in parts))

    def sigma_m(self, pairs: Pairs) -> float:
        """Return the standard deviation of all pairs found, dropped ones too."""
        if len(pairs.length_m) == self._count:
            return spread(pairs.length_m)
        mean = self._sum / self._count
        return float(np.sqrt(self._squares / self._count - mean**2))
