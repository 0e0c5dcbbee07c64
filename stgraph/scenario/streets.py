"""A road network as arrays, as scenarios need it: complete, and with both ways of every street."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.graph import FloatArray, IntArray, STGraph
from stgraph.neighbours._roads import find_twins, read_roads_graph
from stgraph.report import Report
from stgraph.scenario.road_defaults import RoadValues, fill_roads

Float64Array = npt.NDArray[np.float64]
Objects = npt.NDArray[np.object_]

_SAME_LENGTH = 0.05  # the two ways of a street, where drawn apart, differ by less


@dataclass(frozen=True, eq=False)
class Streets:
    """E directed segments with all that operations look at."""

    roads: STGraph  # junctions as nodes, the segments as edges
    segment_id: IntArray  # (E,)
    source: IntArray  # (E,) positions of junctions
    target: IntArray  # (E,)
    lines: Objects  # (E,) LineStrings in the CRS of the roads
    length_m: Float64Array  # (E,)
    values: RoadValues
    twin: IntArray  # (E,) the same street the other way, -1: none
    forbidden: IntArray  # (2, K) turns, as positions
    table: pd.DataFrame  # E rows: the columns of the edges
    parent: IntArray  # (E,) as in `Edited`

    def __len__(self) -> int:
        """Return the number of segments E."""
        return len(self.segment_id)

    @property
    def speed_kmh(self) -> FloatArray:
        """Free-flow speed, (E,)."""
        return self.values.speed_kmh

    @cached_property
    def crs(self) -> pyproj.CRS | None:
        """CRS of the lines; None for a plane that is nowhere on Earth."""
        return self.roads.nodes.crs

    @cached_property
    def plane(self) -> pyproj.Transformer | None:
        """From the CRS of the roads to metres on a plane; None if it has such."""
        crs = self.crs
        if crs is None or not crs.is_geographic:
            return None
        west, south, east, north = shapely.total_bounds(self.lines)
        middle = f"+lat_0={(south + north) / 2} +lon_0={(west + east) / 2}"
        here = pyproj.CRS(f"+proj=aeqd {middle} +datum=WGS84 +units=m")
        return pyproj.Transformer.from_crs(crs, here, always_xy=True)

    def to_plane(self, shapes: Any) -> Any:
        """Return shapes in the CRS of the roads in metres on a plane."""
        if self.plane is None:
            return shapes
        return _transform(shapes, self.plane)

    @cached_property
    def from_degrees(self) -> pyproj.Transformer | None:
        """From longitude and latitude to the CRS of the roads; None if they are nowhere."""
        if self.crs is None:
            return None
        try:
            return pyproj.Transformer.from_crs(4326, self.crs, always_xy=True)
        except pyproj.exceptions.ProjError:  # units of a plane that is nowhere on Earth
            return None

    def place(self, shapes: Any) -> Any:
        """Return shapes given in degrees in the CRS of the roads, which must have one."""
        assert self.from_degrees is not None  # noqa: S101 - callers have asked
        return _transform(shapes, self.from_degrees)

    @cached_property
    def flat_lines(self) -> Objects:
        """The lines in metres on a plane."""
        flat = self.to_plane(self.lines)
        return np.asarray(flat, dtype=object)

    @cached_property
    def junction_names(self) -> pd.Index:
        """Ids of the junctions as text."""
        return pd.Index([str(name) for name in self.roads.node_ids])

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of streets, as names are compared."""
        column = self.table.get("name")
        return frozenset() if column is None else frozenset(map(fold, column.dropna().unique()))

    @cached_property
    def classes(self) -> list[str]:
        """Classes that segments have."""
        return sorted(str(name) for name in pd.unique(self.values.road_class) if name)

    def column(self, name: str) -> pd.Series | None:
        """Return a column of the edges, or None."""
        return self.table.get(name)


def fold(name: object) -> str:
    """Return a name as names are compared: without case and doubled blanks."""
    return " ".join(str(name).casefold().split())


def _transform(shapes: Any, transformer: pyproj.Transformer) -> Any:
    """Return shapes in another CRS."""

    def move(xy: Any) -> Any:
        return np.column_stack(transformer.transform(*xy.T))

    return shapely.transform(shapes, move)


def read_streets(roads: STGraph, report: Report) -> Streets | None:
    """Return a road network as arrays, or note why it cannot be used.

    Parameters
    ----------
    roads
        In the reading ``nodes="junctions"``. Without lines on its edges, straight ones are taken.
    report
        Gets what is wrong, and what was guessed.
    """
    if not isinstance(roads, STGraph):
        report.error("`roads`", f"is a {type(roads).__name__}", "pass a road network (STGraph)")
        return None
    kinds = set(roads.nodes["kind"].unique())
    if "segment" in kinds:
        report.error(
            "`roads`",
            "has segments as nodes",
            'scenarios route from junction to junction: read it with nodes = "junctions"',
        )
        return None
    roads = _with_lines(roads, report)
    found = None if report.errors else read_roads_graph(roads, report)
    if found is None or found.junctions is None:
        return None
    edges, provenance = roads.edges, roads.provenance
    if edges is not None and "length_m" not in edges:
        roads = roads.replace(edges=edges.assign(length_m=found.length_m))
    return Streets(
        roads=roads,
        segment_id=found.segment_id,
        source=found.junctions[0],
        target=found.junctions[1],
        lines=found.lines,
        length_m=np.maximum(found.length_m, 1e-3),  # searches leave out links of 0
        values=fill_roads(found.table, provenance=provenance, report=report),
        twin=_both_ways(
            find_twins(found), found.junctions, found.length_m, found.table, roads.n_nodes
        ),
        forbidden=found.forbidden,
        table=found.table,
        parent=np.arange(len(found)),
    )


def _with_lines(roads: STGraph, report: Report) -> STGraph:
    """Return a network whose edges have lines and ids, straight lines where it has none."""
    edges = roads.edges
    if roads.n_edges == 0:
        report.error("`roads`", "has no segments", "read it with a road connector")
        return roads
    if isinstance(edges, gpd.GeoDataFrame):
        if "segment_id" in edges:
            return roads
        return roads.replace(edges=edges.assign(segment_id=np.arange(len(edges))))
    points = np.asarray(roads.nodes.geometry, dtype=object)
    if shapely.is_missing(points).any() or (shapely.get_type_id(points) != 0).any():
        report.error("`roads`", "has neither lines nor points at its junctions", "give either")
        return roads
    lines = shapely.linestrings(shapely.get_coordinates(points)[roads.edge_index.T])
    table = pd.DataFrame(index=range(roads.n_edges)) if edges is None else edges
    if "segment_id" not in table:
        table = table.assign(segment_id=np.arange(len(table)))
    return roads.replace(edges=gpd.GeoDataFrame(table, geometry=lines, crs=roads.nodes.crs))


def _both_ways(
    twin: IntArray, ends: IntArray, length_m: Float64Array, table: pd.DataFrame, n_nodes: int
) -> IntArray:
    """Complete twins by those drawn apart: the only way back, as long and of the same name."""
    alone = twin < 0
    if not alone.any():
        return twin
    source, target = ends
    there, back = source * n_nodes + target, target * n_nodes + source
    alone &= ~pd.Series(there).duplicated(keep=False).to_numpy()
    rows = np.flatnonzero(alone)
    at = pd.Index(there[rows]).get_indexer(pd.Index(back[rows]))
    pairs = np.stack([rows[at >= 0], rows[at[at >= 0]]])
    pairs = pairs[:, pairs[0] != pairs[1]]  # a loop is not its own way back
    longer = np.maximum(length_m[pairs[0]], length_m[pairs[1]])
    same = np.abs(length_m[pairs[0]] - length_m[pairs[1]]) <= _SAME_LENGTH * longer
    if "name" in table:
        names = table["name"].astype("string").fillna("").to_numpy(dtype=object)
        same &= names[pairs[0]] == names[pairs[1]]
    twin = twin.copy()
    twin[pairs[0][same]] = pairs[1][same]
    return twin
