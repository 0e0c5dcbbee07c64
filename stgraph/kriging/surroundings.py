"""Which sensors lie around each place: along the road in both directions, and through the air."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from stgraph.errors import GraphError, InputError
from stgraph.graph import BoolArray, FloatArray, IntArray, STGraph
from stgraph.neighbours._places import EARTH_RADIUS_M, Float64Array, to_metres

DOWNSTREAM, UPSTREAM, STRAIGHT = 0, 1, 2
SUPPORT = ("own sensor", "near", "far", "none")

_ROWS_AT_ONCE = 64  # sensors from which paths are searched at once
_LARGEST_KERNEL = 0.95  # quantile of straight / relative lengths that is taken for the unit


@dataclass(frozen=True, eq=False)
class Sites:
    """What is known about some places, row by row."""

    xyz: Float64Array  # (M, 2 or 3) metres
    reference: Float64Array  # (M,) what a value is relative to, such as a speed limit; or NaN
    group: IntArray  # (M,) road class as a number, -1 unknown
    road: IntArray  # (M,) road name as a number, -1 unknown
    bearing: Float64Array  # (M,) compass degrees, NaN unknown

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self.xyz)

    def take(self, rows: IntArray) -> Sites:
        """Return some of the places."""
        return Sites(*(getattr(self, part.name)[rows] for part in fields(self)))


@dataclass(frozen=True, eq=False)
class Surroundings:
    """For each of M places the nearest of S sensors, one list per relation, side by side.

    Lists are in order of distance: the sensors that traffic from the place reaches first, those
    whose traffic reaches the place, and those that are near in a straight line. A sensor may be in
    several of them.
    """

    places: Sites
    sensors: Sites
    sensor: IntArray  # (M, K) position among the sensors, -1 where the list is shorter
    length_m: FloatArray  # (M, K) inf where there is none
    relation: IntArray  # (K,) DOWNSTREAM, UPSTREAM or STRAIGHT
    own: IntArray  # (M,) sensor on the place itself, -1 none
    connected: BoolArray  # (M,) there is some way, however long, between the place and a sensor

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self.sensor)

    def take(self, rows: IntArray) -> Surroundings:
        """Return the surroundings of some places."""
        return replace(
            self,
            places=self.places.take(rows),
            sensor=self.sensor[rows],
            length_m=self.length_m[rows],
            own=self.own[rows],
            connected=self.connected[rows],
        )

    def distance_m(self) -> FloatArray:
        """Return the length of the way to the nearest sensor, (M,): 0 at a sensor, inf if none."""
        along = np.where(self.relation == STRAIGHT, np.float32(np.inf), self.length_m)
        nearest = along.min(axis=1, initial=np.inf).astype(np.float32)
        return np.where(self.own >= 0, np.float32(0), nearest)

    def support(self, *, near_m: float, far_m: float) -> IntArray:
        """Return per place the position in `SUPPORT` of what its values rest on."""
        distance = self.distance_m()
        classes = np.searchsorted([near_m, far_m], distance, side="left") + 1
        return np.where(self.own >= 0, 0, classes).astype(np.int64)

    def thin(self, visible: BoolArray, n_each: int) -> Surroundings:
        """Return the surroundings as they are when only some sensors exist.

        Parameters
        ----------
        visible
            (S,) which sensors there are.
        n_each
            Sensors kept per relation, at most.
        """
        parts, lengths, relations = [], [], []
        for kind in (DOWNSTREAM, UPSTREAM, STRAIGHT):
            columns = np.flatnonzero(self.relation == kind)
            sensor, length = self.sensor[:, columns], self.length_m[:, columns]
            there = (sensor >= 0) & visible[sensor]
            # a stable sort keeps the order of distance among those that are there
            order = np.argsort(~there, axis=1, kind="stable")[:, :n_each]
            there = np.take_along_axis(there, order, axis=1)
            parts.append(np.where(there, np.take_along_axis(sensor, order, axis=1), -1))
            found = np.take_along_axis(length, order, axis=1)
            lengths.append(np.where(there, found, np.float32(np.inf)))
            relations.append(np.full(order.shape[1], kind))
        own = np.where((self.own >= 0) & visible[self.own], self.own, -1)
        return replace(
            self,
            sensor=np.concatenate(parts, axis=1),
            length_m=np.concatenate(lengths, axis=1),
            relation=np.concatenate(relations),
            own=own,
        )


def surround_stations(graph: STGraph, *, n_each: int = 12, reach_m: float = 10_000) -> Surroundings:
    """Return for each station the other ones around it, by the edges of their graph.

    Parameters
    ----------
    graph
        Stations. Edges in metres count as ways of that length. Edges between 0 and 1 count as
        Gaussian similarities of ways, exp(-(length / s)^2), with s such that hardly any way is
        shorter than the straight line. Without edges the straight line is all that is known.
    n_each
        Sensors per relation.
    reach_m
        Longest way that is looked for, in metres.

    Returns
    -------
    Surroundings
        M = S: no station is in its own lists, and `own` is -1 everywhere.

    Raises
    ------
    GraphError
        A station has no coordinates.
    """
    sites = describe_sites(graph)
    ways = _ways_between(graph, sites)
    at = np.arange(graph.n_nodes)
    zero = np.zeros(graph.n_nodes)
    found = _search(sites, sites, ways, at, at, zero, n_each=n_each, reach_m=reach_m, alone=True)
    return replace(found, own=np.full(graph.n_nodes, -1))


def surround_segments(
    segments: STGraph,
    at: IntArray,
    offset_m: Float64Array,
    *,
    n_each: int = 4,
    reach_m: float = 10_000,
) -> tuple[Surroundings, Surroundings]:
    """Return the sensors around each segment of a road network, and around each sensor.

    Parameters
    ----------
    segments
        Road segments as nodes, edges with a column ``length_m`` from middle to middle.
    at
        (S,) position of the segment that each sensor is on.
    offset_m
        (S,) metres along that segment.
    n_each
        Sensors per relation around a segment; three times as many around a sensor, of which some
        are hidden to learn from.
    reach_m
        Longest way that is looked for, in metres.

    Returns
    -------
    tuple
        Of the M segments, and of the S sensors (none in its own lists).

    Raises
    ------
    GraphError
        The graph is no network of segments.
    """
    if segments.edges is None or "length_m" not in segments.edges:
        raise GraphError(
            "`segments` has no edge column 'length_m'; read the roads with nodes='segments'"
        )
    sites = describe_sites(segments)
    sensors = sites.take(at)
    shape = (segments.n_nodes, segments.n_nodes)
    length = np.maximum(segments.edges["length_m"].to_numpy(dtype=np.float64), 1e-3)
    ways = csr_array((length, tuple(segments.edge_index)), shape=shape)
    whole = _lengths(segments)[at]
    beyond = np.where(np.isfinite(whole), offset_m - whole / 2, 0.0)  # of the middle
    everywhere = np.arange(segments.n_nodes)
    options: dict[str, Any] = {"reach_m": reach_m}
    around = _search(sites, sensors, ways, everywhere, at, beyond, n_each=n_each, **options)
    own = np.full(segments.n_nodes, -1)
    # of several sensors on a segment the one nearest to its middle speaks for it
    order = np.argsort(-np.abs(beyond), kind="stable")
    own[at[order]] = order
    among = _search(
        sensors, sensors, ways, at, at, beyond, n_each=3 * n_each, alone=True, **options
    )
    return replace(around, own=own), replace(among, own=np.full(len(at), -1))


def describe_sites(graph: STGraph) -> Sites:
    """Return what the columns of a node table say: speeds, road class, name and bearing."""
    nodes = graph.nodes
    shapes = np.asarray(nodes.geometry, dtype=object)
    if shapely.is_missing(shapes).any() or nodes.crs is None:
        raise GraphError(
            "places without coordinates have no surroundings; drop them, or give their geometry "
            "with a CRS"
        )
    middle = shapely.get_coordinates(shapely.centroid(shapes))
    lines = shapely.get_type_id(shapes) == 1
    on_line = shapely.line_interpolate_point(shapes[lines], 0.5, normalized=True)
    middle[lines] = shapely.get_coordinates(on_line)
    reference = nodes.get("speed_kmh", pd.Series(np.nan, nodes.index)).to_numpy(dtype=np.float64)
    bearing = nodes.get("bearing_deg", pd.Series(np.nan, nodes.index)).to_numpy(dtype=np.float64)
    return Sites(
        xyz=to_metres(middle, nodes.crs)[0],
        reference=np.where(reference > 0, reference, np.nan),
        group=_codes(nodes, ("highway", "road_class", "class")),
        road=_codes(nodes, ("ref", "name")),
        bearing=bearing.astype(np.float64),
    )


def _codes(nodes: pd.DataFrame, columns: tuple[str, ...]) -> IntArray:
    """Return the first of some columns that is there as numbers, -1 where it says nothing."""
    codes = np.full(len(nodes), -1, dtype=np.int64)
    first = 0
    for column in columns:
        if column in nodes:
            own, names = pd.factorize(nodes[column].astype("string"))
            codes = np.where(codes < 0, np.where(own >= 0, own + first, -1), codes)
            first += len(names)
    return codes


def _lengths(segments: STGraph) -> Float64Array:
    """Return the length of each segment in metres, NaN where unknown."""
    if "length_m" not in segments.nodes:
        return np.full(segments.n_nodes, np.nan)
    return segments.nodes["length_m"].to_numpy(dtype=np.float64)


def _ways_between(graph: STGraph, sites: Sites) -> csr_array:
    """Return the lengths of the edges between stations, in metres."""
    source, target = graph.edge_index
    other = source != target
    source, target = source[other], target[other]
    weight = graph.edge_weight[other].astype(np.float64)
    shape = (graph.n_nodes, graph.n_nodes)
    if graph.weight_unit != "m":
        if weight.size and not ((weight > 0) & (weight <= 1)).all():
            raise InputError(
                f"edges in {graph.weight_unit!r} with weights from {weight.min():g} to "
                f"{weight.max():g} are neither metres nor similarities in (0, 1]; connect the "
                "stations by lengths"
            )
        relative = np.sqrt(-np.log(weight))
        straight = _straight(sites.xyz[source], sites.xyz[target])
        some = relative > 0
        unit = np.quantile(straight[some] / relative[some], _LARGEST_KERNEL) if some.any() else 1.0
        weight = np.where(some, relative * unit, straight)
    return csr_array((np.maximum(weight, 1e-3), (source, target)), shape=shape)


def _straight(first: Float64Array, second: Float64Array) -> Float64Array:
    """Return straight distances between points in metres (along the ground where on a sphere)."""
    chord = np.asarray(np.linalg.norm(first - second, axis=-1), dtype=np.float64)
    if first.shape[-1] == 2:
        return chord
    angle = np.arcsin(np.minimum(chord / (2 * EARTH_RADIUS_M), 1.0))
    return np.asarray(2 * EARTH_RADIUS_M * angle)


def straight_m(around: Surroundings) -> FloatArray:
    """Return the straight distances from each place to the sensors in its lists, (M, K)."""
    there = around.sensor >= 0
    length = _straight(around.places.xyz[:, None], around.sensors.xyz[around.sensor])
    return np.where(there, length, np.inf).astype(np.float32)


def _search(
    places: Sites,
    sensors: Sites,
    ways: csr_array,
    at_places: IntArray,
    at_sensors: IntArray,
    beyond_m: Float64Array,
    *,
    n_each: int,
    reach_m: float,
    alone: bool = False,
) -> Surroundings:
    """Return the nearest sensors of each place; `alone`: places are sensors, not their own."""
    parts = []
    for reverse in (True, False):  # downstream of a place: paths that end at the sensor
        blocks = _path_lengths(ways, at_sensors, at_places, beyond_m, reach_m, reverse=reverse)
        parts.append(_nearest(blocks, len(places), n_each, alone=alone))
    parts.append(_nearest_straight(places, sensors, n_each, alone=alone))
    relation = np.repeat([DOWNSTREAM, UPSTREAM, STRAIGHT], [part[0].shape[1] for part in parts])
    label = connected_components(ways, directed=False)[1]
    return Surroundings(
        places=places,
        sensors=sensors,
        sensor=np.concatenate([part[0] for part in parts], axis=1),
        length_m=np.concatenate([part[1] for part in parts], axis=1).astype(np.float32),
        relation=relation,
        own=np.full(len(places), -1),
        connected=np.isin(label[at_places], label[at_sensors]),
    )


def _path_lengths(
    ways: csr_array,
    at_sensors: IntArray,
    at_places: IntArray,
    beyond_m: Float64Array,
    reach_m: float,
    *,
    reverse: bool,
) -> Iterator[tuple[IntArray, Float64Array]]:
    """Yield some sensors and the lengths of the ways between them and all places, (n, M)."""
    matrix = ways.T.tocsr() if reverse else ways
    sign = 1.0 if reverse else -1.0
    for rows in np.array_split(
        np.arange(len(at_sensors)), max(1, -(-len(at_sensors) // _ROWS_AT_ONCE))
    ):
        if not len(rows):
            continue
        length = dijkstra(matrix, indices=at_sensors[rows], limit=reach_m)[:, at_places]
        # from the middle of the sensor's segment to where the sensor is
        length = np.maximum(length + sign * beyond_m[rows, None], 0.0)
        same = at_sensors[rows, None] == at_places[None]
        yield rows, np.where(same, np.abs(beyond_m[rows, None]), length)


def _nearest(
    blocks: Iterator[tuple[IntArray, Float64Array]], n_places: int, k: int, *, alone: bool
) -> tuple[IntArray, Float64Array]:
    """Return the k nearest sensors of every place, (M, k) each, in order of distance."""
    sensor = np.full((n_places, k), -1, dtype=np.int64)
    length = np.full((n_places, k), np.inf)
    for rows, found in blocks:
        if alone:
            found[np.arange(len(rows)), rows] = np.inf
        close = np.flatnonzero((found < length[:, -1]).any(axis=0))  # the others keep their lists
        block = found[:, close].T
        both = np.concatenate([length[close], block], axis=1)
        ids = np.concatenate([sensor[close], np.broadcast_to(rows, block.shape)], axis=1)
        order = np.argsort(both, axis=1, kind="stable")[:, :k]
        length[close] = np.take_along_axis(both, order, axis=1)
        sensor[close] = np.take_along_axis(ids, order, axis=1)
    return np.where(np.isfinite(length), sensor, -1), length


def _nearest_straight(
    places: Sites, sensors: Sites, k: int, *, alone: bool
) -> tuple[IntArray, Float64Array]:
    """Return the k sensors nearest in a straight line, (M, k) each, in order of distance."""
    n = min(len(sensors), k + alone)
    found = np.asarray(cKDTree(sensors.xyz).query(places.xyz, k=max(1, n))[1]).reshape(-1, n)
    if alone:
        is_self = found == np.arange(len(places))[:, None]
        is_self[~is_self.any(axis=1), -1] = True  # others at the same point came before it
        order = np.argsort(is_self, axis=1, kind="stable")[:, : n - 1]
        found = np.take_along_axis(found, order, axis=1)
    length = _straight(places.xyz[:, None], sensors.xyz[found])
    short = k - found.shape[1]
    return (
        np.pad(found, ((0, 0), (0, short)), constant_values=-1),
        np.pad(length, ((0, 0), (0, short)), constant_values=np.inf),
    )
