"""Nodes and edges as matplotlib draws them, on quiet paper with a scale bar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from stgraph.graph import STGraph
from stgraph_connectors.sinks._edges import edge_lines, middle_points
from stgraph_connectors.sinks._labels import place_labels, text_options

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT = "#22272b", "#6b747b"
_PAPER, _GROUND, _GRID, _EDGE = "#efece5", "#f8f6f1", "#e4e0d6", "#b7bcc0"
_LABELS_UP_TO = 25  # nodes
_WIDE_DEGREES = 6.0  # beyond this a UTM zone would bend the picture
_MAX_EDGES = 50_000  # more would only be a grey area


@dataclass(frozen=True)
class NodeArtist:
    """A matplotlib collection and which node each of its parts shows."""

    collection: Any
    nodes: npt.NDArray[np.int64]


def draw_map(axes: Axes, graph: STGraph, *, size_mm: float | None = None) -> list[NodeArtist]:
    """Draw paper, graticule, edges, nodes, names and scale bar; colours come later.

    Parameters
    ----------
    axes
        Empty axes that the map shall fill.
    graph
        At least one node has a geometry.
    size_mm
        Point diameter or line width in millimetres. None: by the number of nodes.

    Returns
    -------
    list[NodeArtist]
        Points, lines and areas, for `paint_nodes`.
    """
    shapes, crs = _project(graph)
    xy = middle_points(shapes)
    _set_extent(axes, shapes, crs)
    _draw_ground(axes, shapes)
    if (shapely.get_type_id(shapes[shapely.get_type_id(shapes) >= 0]) == 0).all():
        _draw_edges(axes, graph, crs)
    size = _point_size(graph.n_nodes) if size_mm is None else size_mm * 72 / 25.4
    artists = _draw_points(axes, shapes, size)
    artists += _draw_lines(axes, shapes, 1.8 if size_mm is None else size)
    artists += _draw_areas(axes, shapes)
    bar = _draw_scale_bar(axes, crs)
    if graph.n_nodes <= _LABELS_UP_TO:
        radius = size / 2 * axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
        names = list(graph.nodes.get("name", graph.node_ids))
        place_labels(axes, xy, names, radius=radius, colour=INK, obstacles=bar)
    return artists


def paint_nodes(artists: list[NodeArtist], colours: npt.NDArray[np.str_]) -> None:
    """Give every node its colour, (N,) ``#rrggbb``."""
    for artist in artists:
        own = list(colours[artist.nodes])
        if hasattr(artist.collection, "get_segments"):  # lines have no face
            artist.collection.set_color(own)
        else:
            artist.collection.set_facecolor(own)


def _project(graph: STGraph) -> tuple[npt.NDArray[np.object_], pyproj.CRS]:
    """Return the shapes in a CRS that looks right on paper: metres unless the extent is wide."""
    shapes: gpd.GeoSeries = graph.nodes.geometry
    crs = pyproj.CRS(shapes.crs)
    if not crs.is_geographic:
        return shapes.to_numpy(), crs
    west, _, east, _ = shapes.total_bounds
    if east - west > _WIDE_DEGREES:
        return shapes.to_numpy(), crs
    try:
        crs = pyproj.CRS(shapes.estimate_utm_crs())
    except RuntimeError:  # no zone, near the poles
        return shapes.to_numpy(), crs
    return shapes.to_crs(crs).to_numpy(), crs


def _set_extent(axes: Axes, shapes: npt.NDArray[np.object_], crs: pyproj.CRS) -> None:
    """Show all shapes with a margin, undistorted, on paper with a faint graticule."""
    west, south, east, north = shapely.total_bounds(shapes)
    middle = math.radians((south + north) / 2) if crs.is_geographic else 0.0
    squeeze = max(math.cos(middle), 0.05)  # a degree of longitude against one of latitude
    frame = axes.get_window_extent()
    least = 0.01 if crs.is_geographic else 500.0  # one place alone
    width, height = (east - west) * squeeze, north - south
    if max(width, height) == 0:
        width = height = least
    unit = max(width / frame.width, height / frame.height) * 1.2  # with a margin
    x, y = (west + east) / 2, (south + north) / 2
    half_x, half_y = unit * frame.width / squeeze / 2, unit * frame.height / 2
    axes.set_xlim(x - half_x, x + half_x)
    axes.set_ylim(y - half_y, y + half_y)
    axes.set_facecolor(_PAPER)
    axes.grid(visible=True, color=_GRID, linewidth=0.9)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_ground(axes: Axes, shapes: npt.NDArray[np.object_]) -> None:
    """Draw the area of the nodes a little lighter than the paper around."""
    from matplotlib.patches import Polygon

    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    drawn = shapely.geometrycollections(shapes[shapely.is_geometry(shapes)])
    hull = shapely.convex_hull(drawn)
    area = shapely.buffer(hull, 0.06 * min(east - west, north - south))
    axes.add_patch(Polygon(shapely.get_coordinates(area), facecolor=_GROUND, zorder=0.4))


def _draw_edges(axes: Axes, graph: STGraph, crs: pyproj.CRS) -> None:
    """Draw each connection once, whatever its directions."""
    from matplotlib.collections import LineCollection

    low, high = np.sort(graph.edge_index, axis=0)
    _, first = np.unique(low * graph.n_nodes + high, return_index=True)
    if not 0 < len(first) <= _MAX_EDGES:
        return
    every = edge_lines(graph)
    once = every.to_numpy()[first]
    lines = gpd.GeoSeries(once[shapely.is_geometry(once)], crs=every.crs).to_crs(crs)
    parts = [shapely.get_coordinates(part) for part in shapely.get_parts(lines.to_numpy())]
    width = 1.1 if len(parts) < 500 else 0.5
    axes.add_collection(LineCollection(parts, colors=_EDGE, linewidths=width, zorder=2))


def _point_size(n_nodes: int) -> float:
    """Return a point diameter, in typographic points, that keeps many nodes apart."""
    return float(np.clip(34.0 / n_nodes**0.33, 1.6, 12.0))


def _draw_points(axes: Axes, shapes: npt.NDArray[np.object_], size: float) -> list[NodeArtist]:
    """Draw point nodes as outlined dots."""
    parts, nodes = _parts(shapes, 0)
    if not len(nodes):
        return []
    outline = 0.8 if size > 4 else 0.25
    xy = shapely.get_coordinates(parts)
    dots = axes.scatter(xy[:, 0], xy[:, 1], s=size**2, edgecolors=INK, linewidths=outline, zorder=4)
    return [NodeArtist(dots, nodes)]


def _draw_lines(axes: Axes, shapes: npt.NDArray[np.object_], width: float) -> list[NodeArtist]:
    """Draw line nodes over a dark casing."""
    from matplotlib.collections import LineCollection

    parts, nodes = _parts(shapes, 1)
    if not len(nodes):
        return []
    segments = [shapely.get_coordinates(part) for part in parts]
    if len(segments) < 5000:
        casing = LineCollection(
            segments, colors=INK, linewidths=width * 1.6, capstyle="round", zorder=3
        )
        axes.add_collection(casing)
    lines = LineCollection(segments, linewidths=width, capstyle="round", zorder=4)
    axes.add_collection(lines)
    return [NodeArtist(lines, nodes)]


def _draw_areas(axes: Axes, shapes: npt.NDArray[np.object_]) -> list[NodeArtist]:
    """Draw polygon nodes with their holes."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    parts, nodes = _parts(shapes, 3)
    if not len(nodes):
        return []
    # rings that turn the other way round are holes
    rings = [shapely.get_rings(part) for part in shapely.normalize(parts)]
    paths = [
        Path.make_compound_path(*(Path(shapely.get_coordinates(r), closed=True) for r in group))
        for group in rings
    ]
    areas = PathCollection(paths, edgecolors="white", linewidths=0.5, zorder=1.5)
    axes.add_collection(areas)
    return [NodeArtist(areas, nodes)]


def _parts(
    shapes: npt.NDArray[np.object_], kind: int
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """Return the simple parts of one kind (0 point, 1 line, 3 area) and the node of each."""
    parts, nodes = shapely.get_parts(shapes, return_index=True)
    wanted = shapely.get_type_id(parts) == kind
    return parts[wanted], nodes[wanted].astype(np.int64)


def _draw_scale_bar(axes: Axes, crs: pyproj.CRS) -> list[Any]:
    """Draw a bar of a round length, measured on the ellipsoid, and return its box in pixels."""
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    x, y = west + 0.035 * (east - west), south + 0.035 * (north - south)
    metres = _metres_per_unit(crs, (west + east) / 2, (south + north) / 2)
    wanted = 0.22 * (east - west) * metres
    length = _round_length(wanted)
    units = length / metres
    tick = 0.008 * (north - south)
    axes.plot([x, x, x + units, x + units], [y + tick, y, y, y + tick], color=INK, lw=1.4, zorder=6)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    label = axes.text(
        x + units / 2, y + 1.5 * tick, text, size=8.5, color=INK, ha="center", va="bottom",
        zorder=6, **text_options(),
    )  # fmt: skip
    from matplotlib.transforms import Bbox

    corner = axes.transData.transform([(x, y), (x + units, y + tick)])
    return [Bbox.union([Bbox(corner), label.get_window_extent()]).padded(6)]


def _metres_per_unit(crs: pyproj.CRS, x: float, y: float) -> float:
    """Return how many metres on the ground one map unit eastwards is, at a position."""
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    step = 1e-3 if crs.is_geographic else 10.0
    lon, lat = to_degrees.transform([x - step, x + step], [y, y])
    _, _, metres = pyproj.Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])
    return float(metres / (2 * step)) if math.isfinite(metres) and metres > 0 else 1.0


def _round_length(wanted: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten below a length."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(m * power for m in (5, 2, 1) if m * power <= wanted * (1 + 1e-9))
