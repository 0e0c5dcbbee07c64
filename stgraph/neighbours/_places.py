"""Where places are, in metres on a plane or on the sphere, never in degrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from scipy.spatial import cKDTree

from stgraph.errors import GraphError
from stgraph.graph import IntArray, STGraph
from stgraph.report import Report

Float64Array = npt.NDArray[np.float64]
Metric = Literal["great-circle", "projected"]
Places = gpd.GeoDataFrame | STGraph

EARTH_RADIUS_M = 6_371_008.8  # mean radius of the Earth; great circles are right to 0.5 %
DENSE_LIMIT = 5_000  # nodes up to which all pairs may be looked at


@dataclass(frozen=True, eq=False)
class Positions:
    """The places that have a geometry, as points in metres."""

    nodes: IntArray  # (P,) positions in the node table
    xyz: Float64Array  # (P, 2) on a plane or (P, 3) on the sphere, metres
    metric: Metric

    def __len__(self) -> int:
        """Return how many places have a geometry."""
        return len(self.nodes)

    def tree(self) -> cKDTree:
        """Return a search tree over the points; its distances are straight, not great circles."""
        return cKDTree(self.xyz)

    def to_length(self, straight_m: Float64Array) -> Float64Array:
        """Return lengths along the ground for straight distances, both in metres."""
        if self.metric == "projected":
            return straight_m
        return 2 * EARTH_RADIUS_M * np.arcsin(np.minimum(straight_m / (2 * EARTH_RADIUS_M), 1.0))

    def to_straight(self, length_m: float) -> float:
        """Return the straight distance for a length along the ground, both in metres."""
        if self.metric == "projected":
            return length_m
        return float(2 * EARTH_RADIUS_M * np.sin(min(length_m / (2 * EARTH_RADIUS_M), np.pi / 2)))

    def lengths(self, first: IntArray, second: IntArray) -> Float64Array:
        """Return the lengths between pairs of points, in metres."""
        return self.to_length(np.linalg.norm(self.xyz[first] - self.xyz[second], axis=1))


def start_graph(places: Places, report: Report, *, kind: str = "station") -> STGraph:
    """Return the places as a valid graph; what is wrong with options is told along."""
    if isinstance(places, STGraph):
        return places
    try:
        if isinstance(places, gpd.GeoDataFrame) and "kind" not in places.columns:
            places = places.assign(kind=kind)
        return STGraph(nodes=places)
    except GraphError as error:
        options = [f"- {finding}" for finding in report.errors]
        raise GraphError("\n".join([str(error), *options])) from error


def locate(graph: STGraph, report: Report) -> Positions:
    """Return the nodes that have a geometry as points, or note why they have none.

    Lines and polygons count with their centroid.
    """
    geometry = np.asarray(graph.nodes.geometry, dtype=object)
    nodes = np.flatnonzero(~shapely.is_missing(geometry))
    present = geometry[nodes]
    dimensions = np.unique(shapely.get_dimensions(present))
    if len(nodes) == 0:
        report.error(
            "`places`", "no node has a geometry", "give coordinates, or a distance table instead"
        )
    if len(dimensions) > 1 or (shapely.get_type_id(present) == 7).any():  # 7: collection
        kinds = sorted({shape.geom_type for shape in present})
        report.error("`places`", f"mixes geometry types {kinds}", "use one type for all places")
    crs = graph.nodes.crs
    if crs is not None and crs.is_geocentric:
        report.error("`places`", f"has the geocentric CRS {crs.name}", "call to_crs(4326) on it")
    if report.errors or crs is None:
        return Positions(nodes[:0], np.zeros((0, 2)), "projected")
    xyz, metric = to_metres(shapely.get_coordinates(shapely.centroid(present)), crs)
    return Positions(nodes, xyz, metric)


def to_metres(xy: Float64Array, crs: pyproj.CRS) -> tuple[Float64Array, Metric]:
    """Return coordinates of a CRS as metres on its plane, or on the sphere if it has none."""
    if is_mercator(crs):
        # its metres grow with latitude (twice too long at 60 degrees), so measure on the sphere
        geodetic = cast("pyproj.CRS", crs.geodetic_crs)
        transformer = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
        return to_metres(np.column_stack(transformer.transform(*xy.T)), geodetic)
    factor = crs.axis_info[0].unit_conversion_factor  # metres or radians per unit of the CRS
    if not crs.is_geographic:
        return xy * factor, "projected"
    lon, lat = xy.T * factor
    on_unit_sphere = [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]
    return EARTH_RADIUS_M * np.column_stack(on_unit_sphere), "great-circle"


def is_mercator(crs: pyproj.CRS) -> bool:
    """Tell whether a CRS is (web) Mercator, the projection whose metres are no metres."""
    operation = crs.coordinate_operation
    name = "" if operation is None else operation.method_name
    return name.startswith(("Mercator", "Popular Visualisation Pseudo Mercator"))


# -------------------------------------------------------------------- checks of options


def check_count(report: Report, name: str, value: Any, *, optional: bool = False) -> None:
    """Note an option that is not a whole number of at least 1."""
    if value is None and optional:
        return
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1:
        report.error(f"`{name}`", f"is {value!r}", "use a whole number of at least 1")


def check_length(report: Report, name: str, value: Any, *, optional: bool = True) -> None:
    """Note an option that is not a positive number of metres."""
    if value is None and optional:
        return
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not value > 0:  # NaN is not above 0
        report.error(f"`{name}`", f"is {value!r}", "use metres above 0")
