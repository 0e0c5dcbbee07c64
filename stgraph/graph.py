"""The one data type: a graph of places with a signal over time, and its checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy.sparse import csr_array

from stgraph._canonical import (
    BoolArray,
    FloatArray,
    IntArray,
    clean_edge_index,
    clean_nodes,
    clean_time,
    clean_values,
    clean_weight,
    is_zone,
)
from stgraph.errors import GraphError, InputError, nearest_name, shown
from stgraph.report import Report

__all__ = ["BoolArray", "Feature", "FloatArray", "IntArray", "Role", "STGraph"]

Role = Literal["target", "observed", "known_future", "static"]

_CHUNK_VALUES = 4_000_000  # values checked at once, so that a memory map is never read whole


@dataclass(frozen=True)
class Feature:
    """One quantity in the last axis of `STGraph.values`."""

    name: str
    unit: str = ""
    role: Role = "target"


@dataclass(frozen=True, eq=False)
class STGraph:
    """A graph whose nodes carry values over time.

    Station readings, gridded fields, road speeds and forecasts are all of this type: every
    connector returns one, every model learns from one, every sink takes one.

    Parameters
    ----------
    nodes
        N rows indexed by unique node id (str or int), one CRS; column `kind` says what a node
        is (station, cell, segment, junction) and is added when missing. Geometry may be None.
    edge_index
        (2, E) int64, row 0 source, row 1 target, positions in `nodes`. None means no edges.
    edge_weight
        (E,) float32, in `weight_unit`. None means 1 for every edge.
    weight_unit
        What a weight is: ``"m"`` for lengths, ``"1"`` for similarities.
    edges
        Optional table of E rows with edge attributes, in the order of `edge_index`.
    time
        (T,) instants with a fixed step; naive instants are taken as UTC. None means no signal.
    values
        (T, N, F) float32, may be a memory map; NaN where nothing is known.
    mask
        (T, N, F), True = observed. None means: wherever `values` is finite.
    features
        F features, in the order of the last axis of `values`.
    zone
        IANA name of the local time zone, used for calendars only.
    provenance
        Small JSON-like notes about where this came from.

    Raises
    ------
    GraphError
        Lists every inconsistency found, not only the first.
    """

    nodes: gpd.GeoDataFrame
    edge_index: IntArray = None  # type: ignore[assignment]  # None becomes (2, 0)
    edge_weight: FloatArray = None  # type: ignore[assignment]  # None becomes ones
    weight_unit: str = "1"
    edges: pd.DataFrame | None = None
    time: pd.DatetimeIndex = None  # type: ignore[assignment]  # None becomes (0,)
    values: FloatArray = None  # type: ignore[assignment]  # None becomes (0, N, 0)
    mask: BoolArray = None  # type: ignore[assignment]  # None becomes isfinite(values)
    features: tuple[Feature, ...] = ()
    zone: str = "UTC"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Bring the parts into their canonical types, then check all of them at once."""
        report = Report()
        _set(self, "nodes", clean_nodes(self.nodes, report))
        _set(self, "edge_index", clean_edge_index(self.edge_index, report))
        _set(self, "edge_weight", clean_weight(self.edge_weight, self.edge_index, report))
        _set(self, "time", clean_time(self.time, report))
        _set(self, "values", clean_values(self.values, len(self.nodes), report))
        _set(self, "features", _clean_features(self.features, report))
        # shapes decide whether the remaining checks make sense at all
        _check_edges(self, report)
        _check_shapes(self, report)
        _check_features(self, report)
        if not report.errors:
            mask = np.isfinite(self.values) if self.mask is None else np.asarray(self.mask)
            _set(self, "mask", mask)
            _check_signal(self, report)
        if not isinstance(self.provenance, Mapping):
            report.error("`provenance`", f"is a {type(self.provenance).__name__}", "pass a dict")
        if not is_zone(self.zone):
            report.error(
                "`zone`",
                f"unknown time zone {self.zone!r}{nearest_name(self.zone, available_timezones())}",
                "use an IANA name such as 'Europe/Berlin'",
            )
        report.raise_errors(GraphError, title="not a valid STGraph")

    # ---------------------------------------------------------------- sizes and names

    @property
    def n_nodes(self) -> int:
        """Number of nodes N."""
        return len(self.nodes)

    @property
    def n_edges(self) -> int:
        """Number of directed edges E."""
        return int(self.edge_index.shape[1])

    @property
    def n_steps(self) -> int:
        """Number of time steps T."""
        return len(self.time)

    @property
    def n_features(self) -> int:
        """Number of features F."""
        return len(self.features)

    @property
    def node_ids(self) -> pd.Index:
        """Node ids in the order of the node axis."""
        return self.nodes.index

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Feature names in the order of the feature axis."""
        return tuple(feature.name for feature in self.features)

    @property
    def step(self) -> pd.Timedelta | None:
        """Length of a time step; None for a graph without signal or with one instant only."""
        return None if self.time.freq is None else pd.Timedelta(self.time.freq)  # type: ignore[arg-type]

    @property
    def tzinfo(self) -> ZoneInfo:
        """The local time zone."""
        return ZoneInfo(self.zone)

    @property
    def report(self) -> Report:
        """What was found and changed while this graph was read."""
        return Report.from_json(self.provenance.get("findings", "[]"))

    def feature_positions(self, *roles: Role) -> list[int]:
        """Return the positions of the features that have one of the roles."""
        return [i for i, feature in enumerate(self.features) if feature.role in roles]

    def adjacency(self) -> csr_array:
        """Return the weights as a sparse (N, N) matrix, row = source, column = target."""
        shape = (self.n_nodes, self.n_nodes)
        return csr_array((self.edge_weight, (self.edge_index[0], self.edge_index[1])), shape=shape)

    # ---------------------------------------------------------------- parts of it

    def replace(self, **parts: Any) -> STGraph:
        """Return a graph with some parts replaced, checked again."""
        return dataclasses.replace(self, **parts)

    def select_steps(self, start: int | None = None, stop: int | None = None) -> STGraph:
        """Return the graph with the time steps ``start:stop`` only (views, nothing is copied)."""
        steps = slice(start, stop)
        return self.replace(time=self.time[steps], values=self.values[steps], mask=self.mask[steps])

    def select_features(self, names: Sequence[str]) -> STGraph:
        """Return the graph with some features only, in the order given."""
        unknown = [name for name in names if name not in self.feature_names]
        if unknown:
            hints = ", ".join(f"{n!r}{nearest_name(n, self.feature_names)}" for n in unknown)
            raise InputError(f"no such feature: {hints}; there are {list(self.feature_names)}")
        positions = [self.feature_names.index(name) for name in names]
        return self.replace(
            values=self.values[:, :, positions],
            mask=self.mask[:, :, positions],
            features=tuple(self.features[i] for i in positions),
        )

    def select_nodes(self, ids: Iterable[object]) -> STGraph:
        """Return the subgraph of some nodes, in the order given; edges to others are left out."""
        wanted = pd.Index(list(ids))
        positions = self.node_ids.get_indexer(wanted)
        if (positions < 0).any():
            missing = list(wanted[positions < 0][:5])
            raise InputError(f"no such node: {missing}; ids look like {list(self.node_ids[:3])}")
        new_position = np.full(self.n_nodes, -1, dtype=np.int64)
        new_position[positions] = np.arange(len(positions))
        edge_index = new_position[self.edge_index]
        kept = (edge_index >= 0).all(axis=0)
        return self.replace(
            nodes=self.nodes.iloc[positions],
            edge_index=edge_index[:, kept],
            edge_weight=self.edge_weight[kept],
            edges=None if self.edges is None else self.edges.iloc[np.flatnonzero(kept)],
            values=self.values[:, positions],
            mask=self.mask[:, positions],
        )

    def equals(self, other: STGraph) -> bool:
        """Tell whether both graphs hold the same nodes, edges, signal and names."""
        return (
            self.nodes.drop(columns="geometry", errors="ignore").equals(
                other.nodes.drop(columns="geometry", errors="ignore")
            )
            and self.nodes.crs == other.nodes.crs
            and _same_geometry(self.nodes, other.nodes)
            and np.array_equal(self.edge_index, other.edge_index)
            and np.array_equal(self.edge_weight, other.edge_weight)
            and _same_table(self.edges, other.edges)
            and (self.weight_unit, self.zone) == (other.weight_unit, other.zone)
            and self.time.equals(other.time)
            and self.features == other.features
            and np.array_equal(self.mask, other.mask)
            and np.array_equal(self.values, other.values, equal_nan=True)
        )

    def __repr__(self) -> str:
        """Return one line with the sizes."""
        span = f"{self.time[0]} .. {self.time[-1]}" if self.n_steps else "no signal"
        return (
            f"STGraph({self.n_nodes} nodes, {self.n_edges} edges, {self.n_steps} steps "
            f"[{span}], features={list(self.feature_names)})"
        )


def _set(graph: STGraph, name: str, value: object) -> None:
    """Set a field of the frozen graph while it is being built."""
    object.__setattr__(graph, name, value)


def _same_geometry(nodes: gpd.GeoDataFrame, others: gpd.GeoDataFrame) -> bool:
    """Tell whether two node tables with the same index have the same geometry, or both none."""
    first, second = np.asarray(nodes.geometry), np.asarray(others.geometry)
    missing = shapely.is_missing(first)
    same = shapely.equals_exact(first, second, tolerance=0.0) | missing
    return bool(same.all() and np.array_equal(missing, shapely.is_missing(second)))


def _same_table(edges: pd.DataFrame | None, others: pd.DataFrame | None) -> bool:
    """Tell whether two edge tables have the same rows, whatever their labels, or both are none."""
    if edges is None or others is None:
        return edges is others
    return edges.reset_index(drop=True).equals(others.reset_index(drop=True))


def _clean_features(features: object, report: Report) -> tuple[Feature, ...]:
    """Return the features as a tuple, or note what is none."""
    given = tuple(features) if isinstance(features, Iterable) else (features,)
    others = [feature for feature in given if not isinstance(feature, Feature)]
    if others or isinstance(features, str):
        first = features if isinstance(features, str) else others[0]
        report.error("`features`", f"holds {first!r}", "use Feature(name, unit, role) for each")
        return ()
    return given


def _check_edges(graph: STGraph, report: Report) -> None:
    """Note edges that point nowhere and weights that are no numbers."""
    edge_index, weight, n_nodes = graph.edge_index, graph.edge_weight, graph.n_nodes
    outside = edge_index[(edge_index < 0) | (edge_index >= n_nodes)]
    if outside.size and n_nodes:
        report.error(
            "`edge_index`",
            f"points at node {int(outside[0])} but the graph has {n_nodes} nodes "
            f"(0..{n_nodes - 1})",
            "rebuild it after dropping nodes",
        )
    if weight.shape != (graph.n_edges,):
        report.error("`edge_weight`", f"has shape {weight.shape}", f"({graph.n_edges},) expected")
    elif not np.isfinite(weight).all():
        position = int(np.argmin(np.isfinite(weight)))
        report.error(
            "`edge_weight`", f"is {weight[position]} at edge {position}", "use finite weights"
        )
    edges_crs = getattr(graph.edges, "crs", None)
    if edges_crs is not None and graph.nodes.crs is not None and edges_crs != graph.nodes.crs:
        report.error(
            "`edges`",
            f"is in {edges_crs.name} but `nodes` in {graph.nodes.crs.name}",
            "call to_crs() on one of them",
        )
    if graph.edges is not None and len(graph.edges) != graph.n_edges:
        report.error(
            "`edges`", f"has {len(graph.edges)} rows for {graph.n_edges} edges", "one row an edge"
        )


def _check_shapes(graph: STGraph, report: Report) -> None:
    """Note arrays whose shape does not fit time, nodes and features."""
    # a part that could not be read has no length, so its axis is not compared
    unread = {finding.where for finding in report.errors}
    expected = [graph.n_steps, graph.n_nodes, graph.n_features]
    shape = graph.values.shape
    if len(shape) == 3:
        for axis, part in enumerate(["`time`", "`nodes`", "`features`"]):
            expected[axis] = shape[axis] if part in unread else expected[axis]
    if "`values`" in unread:
        return
    if shape != tuple(expected):
        report.error(
            "`values`",
            f"has shape {shape}",
            f"{tuple(expected)} = (time, nodes, features) expected",
        )
    if graph.mask is not None:
        mask = np.asarray(graph.mask)
        if mask.dtype != bool:
            report.error("`mask`", f"has dtype {mask.dtype}", "it must be bool, True = observed")
        if mask.shape != shape:
            report.error("`mask`", f"has shape {mask.shape}", f"{shape} expected")


def _check_features(graph: STGraph, report: Report) -> None:
    """Note features whose name appears twice or whose role nobody knows."""
    names = [feature.name for feature in graph.features]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        report.error("`features`", f"names appear twice: {twice}", "rename them")
    for feature in graph.features:
        if feature.role not in get_args(Role):
            report.error(
                f"`features`, {feature.name!r}",
                f"role {feature.role!r}{nearest_name(feature.role, get_args(Role))}",
                f"use one of {list(get_args(Role))}",
            )


def _check_signal(graph: STGraph, report: Report) -> None:
    """Note observed values that are no numbers, reading a memory map piece by piece."""
    per_step = max(1, graph.n_nodes * graph.n_features)
    rows = max(1, _CHUNK_VALUES // per_step)
    for start in range(0, graph.n_steps, rows):
        part = slice(start, start + rows)
        bad = graph.mask[part] & ~np.isfinite(graph.values[part])
        if bad.any():
            t, n, f = (int(i) for i in np.argwhere(bad)[0])
            report.error(
                "`values`",
                f"is {graph.values[start + t, n, f]} at {graph.time[start + t]}, node "
                f"{shown(graph.node_ids[n])}, feature {graph.features[f].name!r}, which `mask` "
                "calls observed",
                "set the mask to False there or repair the value",
            )
            return
        if np.isinf(graph.values[part]).any():
            report.error("`values`", "holds infinite numbers", "replace them by NaN")
            return
