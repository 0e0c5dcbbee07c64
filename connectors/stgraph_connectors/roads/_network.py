"""From nodes and edges with attributes, as graph files and networkx have them, to segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.errors import DataError
from stgraph.graph import BoolArray, IntArray
from stgraph.neighbours._lines import measure_lines
from stgraph.report import Report
from stgraph_connectors.roads._assemble import RawRoads
from stgraph_connectors.roads._segment_ids import number_texts

Float64Array = npt.NDArray[np.float64]
Objects = npt.NDArray[np.object_]

ATTRIBUTION = "© OpenStreetMap contributors, ODbL 1.0"
_DEGREES = (("lon", "lat"), ("longitude", "latitude"), ("lng", "lat"), ("long", "lat"))
_PLANE = (("x", "y"),)
_LENGTHS = ("length_m", "length")
_OFF = 1e-4  # degrees; in metres 10: a line that ends farther from its node is told
_FAR_FACTOR = 1.5  # given lengths in another unit differ from the measured ones by more


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes and edges as columns; missing is NaN or None."""

    name: str  # for messages: "city.graphml", "`graph`"
    ids: Sequence[Any]  # (N,) of any type
    nodes: Mapping[str, Any]  # attribute -> (N,)
    source: IntArray  # (E,) positions in ids
    target: IntArray  # (E,)
    edges: Mapping[str, Any]  # attribute -> (E,); `geometry` holds LineStrings or None
    both_ways: BoolArray  # (E,) True for undirected edges
    crs: Any = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def to_segments(network: Network, *, title: str, report: Report) -> RawRoads:
    """Return the directed segments of a network.

    Raises
    ------
    DataError
        Nodes have no usable coordinates, no CRS can be known, or there are no edges.
    """
    _check_edges(network, report)
    crs = _read_crs(network, report)
    xy = _find_places(network, crs, report)
    report.raise_errors(DataError, title=title)
    assert xy is not None  # noqa: S101 - else there was an error
    lines = _take_lines(network, report)
    crs, xy, lines = _settle_crs(network, crs, xy, lines, report)
    report.raise_errors(DataError, title=title)
    assert crs is not None  # noqa: S101 - else there was an error
    lines = _join_lines(network, xy, lines, crs, report)
    junctions = _junctions(network, xy, crs, report)
    attributes = pd.DataFrame(
        {name: column for name, column in network.edges.items() if name != "geometry"},
        index=range(len(network.source)),
    )
    if "speed_kph" in attributes and "speed_kmh" not in attributes:
        attributes["speed_kmh"] = attributes["speed_kph"]
        what = "`speed_kph` is taken as the speed, also where OSMnx has guessed it"
        report.info(f"{network.name}, edges", what)
    length_m = _lengths(network, lines, crs, report)
    raw = RawRoads(
        junctions=junctions,
        source=network.source,
        target=network.target,
        geometry=lines,
        attributes=attributes.drop(columns=[n for n in _LENGTHS if n in attributes]),
        length_m=length_m,
        lanes_of_both="osmid" in attributes,
        provenance={
            **network.provenance,
            **({"attribution": ATTRIBUTION} if "osmid" in attributes else {}),
        },
    )
    return _double(raw, network, report)


# ---------------------------------------------------------------- checks, CRS, coordinates


def _check_edges(network: Network, report: Report) -> None:
    """Note a network without nodes or edges."""
    if not len(network.ids):
        report.error(network.name, "has no nodes", "look at how it was made")
    elif not len(network.source):
        report.error(
            network.name, f"has {len(network.ids)} nodes but no edges", "roads are edges of it"
        )


def _read_crs(network: Network, report: Report) -> pyproj.CRS | None:
    """Return the CRS that the network names, if any."""
    if network.crs is None or str(network.crs).strip() in ("", "None"):
        return None
    try:
        return pyproj.CRS.from_user_input(network.crs)
    except pyproj.exceptions.CRSError:
        report.error(
            network.name,
            f"names the CRS {str(network.crs)[:60]!r}, which nobody knows",
            "pass crs=, such as crs='EPSG:4326'",
        )
        return None


def _find_places(network: Network, crs: pyproj.CRS | None, report: Report) -> Float64Array | None:
    """Return the coordinates of all nodes, NaN where only unused ones have none."""
    if report.errors and not len(network.ids):
        return None
    found = _coordinates(network, crs)
    if found is None:
        names = sorted(map(str, network.nodes))
        report.error(
            network.name,
            f"nodes have no coordinates; their attributes are {names[:8]}",
            "give each node `x` and `y` (with a CRS), or `lon` and `lat`: a drawing of a graph "
            "is no map",
        )
        return None
    columns, xy = found
    bad = ~np.isfinite(xy).all(axis=1)
    used = np.zeros(len(xy), bool)
    used[network.source] = used[network.target] = True
    for chosen, level in ((bad & used, report.error), (bad & ~used, report.warning)):
        if chosen.any():
            first = [str(network.ids[i]) for i in np.flatnonzero(chosen)[:3]]
            ends = "end edges" if chosen[used].any() else "have no edges"
            todo = "repair or remove them" if chosen[used].any() else "they are left out"
            level(
                f"{network.name}, {columns}",
                f"{int(chosen.sum())} nodes without coordinates {ends}, such as {first}",
                todo,
                count=int(chosen.sum()),
            )
    return xy


def _coordinates(network: Network, crs: pyproj.CRS | None) -> tuple[str, Float64Array] | None:
    """Return where coordinates were found, and the coordinates."""
    names = {str(name).lower(): name for name in reversed(list(network.nodes))}
    pairs = (*_PLANE, *_DEGREES) if crs is not None else (*_DEGREES, *_PLANE)
    for x, y in pairs:
        if x in names and y in names:
            columns = [network.nodes[names[name]] for name in (x, y)]
            return f"`{names[x]}` and `{names[y]}`", np.stack([*map(_numbers, columns)], axis=1)
    for name in ("geometry", "pos"):
        if name in names:
            return f"`{names[name]}`", np.array([*map(_point, network.nodes[names[name]])])
    if all(isinstance(i, tuple) and len(i) == 2 and isinstance(i[0], float) for i in network.ids):
        return "the ids of nodes", np.array([*map(_point, network.ids)])
    return None


def _numbers(values: Any) -> Float64Array:
    """Return values as numbers, NaN for what is none."""
    return np.asarray(pd.to_numeric(pd.Series(values), errors="coerce"), dtype=np.float64)


def _point(value: Any) -> tuple[float, float]:
    """Return the coordinates of a Point or of a pair of numbers, NaN for anything else."""
    if isinstance(value, shapely.Point) and not value.is_empty:
        return value.x, value.y
    if isinstance(value, tuple | list | np.ndarray) and len(value) in (2, 3):
        try:
            return float(value[0]), float(value[1])
        except (TypeError, ValueError):
            pass
    return np.nan, np.nan


def _settle_crs(
    network: Network, crs: pyproj.CRS | None, xy: Float64Array, lines: Objects, report: Report
) -> tuple[pyproj.CRS | None, Float64Array, Objects]:
    """Return the CRS, guessed if none is named, and coordinates in order x, y (longitude first)."""
    known = xy[np.isfinite(xy).all(axis=1)]
    most_x, most_y = np.abs(known).max(axis=0) if len(known) else (0.0, 0.0)
    if crs is not None and not crs.is_geographic:
        if most_x <= 180 and most_y <= 90 and most_x + most_y > 0:
            report.error(
                network.name,
                f"coordinates up to ({most_x:g}, {most_y:g}) look like degrees, but {crs.name} "
                "is in metres",
                "pass crs='EPSG:4326' if they are longitude and latitude",
            )
        return crs, xy, lines
    if most_x <= 180 and most_y <= 90:
        if crs is None:
            crs = pyproj.CRS(4326)
            report.warning(
                network.name,
                "names no CRS",
                "its coordinates are taken as degrees of EPSG:4326; pass crs= if they are not",
            )
        return crs, xy, lines
    if most_x <= 90 and most_y <= 180:
        report.warning(
            network.name,
            f"latitudes up to {most_y:g} cannot be: x and y look swapped",
            "they were swapped back",
        )
        swapped = [line is not None and abs(line.bounds[3]) > 90 for line in lines]
        if any(swapped):
            lines = np.asarray(shapely.transform(lines, lambda c: c[:, ::-1]), dtype=object)
        return crs or pyproj.CRS(4326), xy[:, ::-1].copy(), lines
    what = "names no CRS, and its coordinates are no degrees"
    if crs is not None:
        what = f"coordinates up to ({most_x:g}, {most_y:g}) are no degrees, as {crs.name} has them"
    report.error(network.name, what, "pass crs= with the CRS of the coordinates")
    return None, xy, lines


def _junctions(
    network: Network, xy: Float64Array, crs: pyproj.CRS, report: Report
) -> gpd.GeoDataFrame:
    """Return the nodes as points with integer ids."""
    taken = {"x", "y", "geometry", "pos", "lon", "lat", "longitude", "latitude", "lng", "long"}
    columns = {name: v for name, v in network.nodes.items() if str(name).lower() not in taken}
    ids = whole_ids(network.ids)
    if ids is None:
        texts = [str(value) for value in network.ids]
        if len(set(texts)) < len(texts):  # 1 and "1"
            texts = [f"{type(value).__name__} {value}" for value in network.ids]
        ids = number_texts(texts)
        columns["source_id"] = np.array(texts, dtype=object)
        report.info(
            network.name,
            f"ids of nodes are no whole numbers, such as {texts[0]!r}",
            "junctions get numbers made from them; column `source_id` keeps them",
        )
    index = pd.Index(ids, name="junction_id")
    return gpd.GeoDataFrame(columns, index=index, geometry=shapely.points(xy), crs=crs)


def whole_ids(ids: Sequence[Any]) -> IntArray | None:
    """Return ids as whole numbers, or None if one of them is none."""
    kinds = set(map(type, ids))
    if kinds == {str}:
        try:
            numbers = np.array(ids, dtype=object).astype(np.int64)
        except (ValueError, OverflowError):
            return None
        same = list(map(str, numbers.tolist())) == list(ids)  # "007" is another id than "7"
        return numbers if same else None
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        try:
            return np.array(ids, dtype=np.int64)
        except OverflowError:
            return None
    return None


# ---------------------------------------------------------------- lines and lengths


def _take_lines(network: Network, report: Report) -> Objects:
    """Return the lines of the edges, None where an edge has none that can be used."""
    count = len(network.source)
    given = network.edges.get("geometry")
    if given is None:
        return np.full(count, None, dtype=object)
    lines = np.array(given, dtype=object)
    texts = np.array([isinstance(line, str) for line in lines])
    if texts.any():
        lines[texts] = shapely.from_wkt(lines[texts], on_invalid="ignore")
    is_shape = shapely.is_geometry(lines)
    lines[~is_shape] = None
    several = shapely.get_type_id(lines) == 5  # MultiLineString
    if several.any():
        lines[several] = shapely.line_merge(lines[several])
    usable = shapely.get_type_id(lines) == 1
    usable[usable] = np.isfinite(shapely.bounds(lines[usable])).all(axis=1)
    odd = (is_shape | texts) & ~usable
    if odd.any():
        report.warning(
            f"{network.name}, `geometry` of edges",
            f"{int(odd.sum())} are no line that can be used",
            "a straight line is taken",
            count=int(odd.sum()),
        )
    lines[~usable] = None
    return lines


def _join_lines(
    network: Network, xy: Float64Array, lines: Objects, crs: pyproj.CRS, report: Report
) -> Objects:
    """Return lines that run from source to target, straight ones where there is none."""
    missing = shapely.is_missing(lines)
    lines = lines.copy()
    ends = np.stack([xy[network.source], xy[network.target]], axis=1)  # (E, 2, 2)
    if missing.any():
        lines[missing] = shapely.linestrings(ends[missing])
    if missing.all():
        return lines
    points, owner = shapely.get_coordinates(lines, return_index=True)
    first = np.searchsorted(owner, np.arange(len(lines)))
    last = np.searchsorted(owner, np.arange(len(lines)), side="right") - 1
    along = np.stack([points[first], points[last]], axis=1)
    gap = np.linalg.norm(along - ends, axis=2).max(axis=1)
    gap_back = np.linalg.norm(along[:, ::-1] - ends, axis=2).max(axis=1)
    limit = _OFF if crs.is_geographic else _OFF * 1e5
    turned = gap_back < np.minimum(gap, limit)
    if turned.any():
        lines[turned] = shapely.reverse(lines[turned])
        report.info(
            f"{network.name}, `geometry` of edges",
            f"{int(turned.sum())} lines run from target to source",
            "they were turned round",
            count=int(turned.sum()),
        )
    off = np.minimum(gap, gap_back) > limit
    if off.any():
        report.warning(
            f"{network.name}, `geometry` of edges",
            f"{int(off.sum())} of {len(lines)} lines end more than 10 m from their nodes",
            "check that lines and nodes are in the same CRS",
            count=int(off.sum()),
        )
    return lines


def _lengths(
    network: Network, lines: Objects, crs: pyproj.CRS, report: Report
) -> Float64Array | None:
    """Return the given lengths in metres, NaN where they are to be measured."""
    name = next((name for name in _LENGTHS if name in network.edges), None)
    if name is None:
        return None
    given = _numbers(network.edges[name])
    wrong = given < 0
    if wrong.any():
        report.warning(
            f"{network.name}, `{name}`",
            f"{int(wrong.sum())} lengths are negative, such as {given[wrong][0]:g}",
            "measured from the lines",
            count=int(wrong.sum()),
        )
    given = np.where(given > 0, given, np.nan)
    if str(network.provenance.get("created_with")).startswith("OSMnx"):
        return given  # which has metres, always
    measured = measure_lines(lines, crs).length_m
    both = np.isfinite(given) & (measured > 0)
    if not both.any():
        return None
    ratio = float(np.median(given[both] / measured[both]))
    if not 1 / _FAR_FACTOR < ratio < _FAR_FACTOR:
        report.warning(
            f"{network.name}, `{name}`",
            f"is {ratio:.3g} times the length of the lines in metres (median)",
            "taken as another unit: lengths are measured from the lines",
        )
        return None
    return given


def _double(raw: RawRoads, network: Network, report: Report) -> RawRoads:
    """Return the segments with a second one, the other way, for each undirected edge."""
    both = network.both_ways
    if not both.any():
        return raw
    report.info(
        network.name,
        f"{int(both.sum())} edges have no direction",
        "each became two segments, one each way",
        count=int(both.sum()),
    )
    if "oneway" in raw.attributes:
        says = raw.attributes["oneway"].astype("string").str.lower().isin(["true", "yes", "1"])
        count = int((says.to_numpy() & both).sum())
        if count:
            report.warning(
                f"{network.name}, `oneway`",
                f"{count} edges without a direction say that they are one-way",
                "they are read both ways; save the directed graph to keep it",
                count=count,
            )
    rows = np.concatenate([np.arange(len(both)), np.flatnonzero(both)])
    return RawRoads(
        junctions=raw.junctions,
        source=np.concatenate([raw.source, raw.target[both]]),
        target=np.concatenate([raw.target, raw.source[both]]),
        geometry=np.concatenate([raw.geometry, shapely.reverse(raw.geometry[both])]),
        attributes=raw.attributes.iloc[rows].reset_index(drop=True),
        length_m=None if raw.length_m is None else raw.length_m[rows],
        lanes_of_both=raw.lanes_of_both,
        provenance=raw.provenance,
    )
