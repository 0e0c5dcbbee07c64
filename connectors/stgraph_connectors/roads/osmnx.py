"""Road networks of OSMnx: downloaded by it for a place, or a graph of it in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import geopandas as gpd
import networkx as nx
import numpy as np
import shapely

from stgraph.errors import DataError, nearest_name
from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph_connectors.roads._area import Area, read_area
from stgraph_connectors.roads._assemble import Reading, finish_roads
from stgraph_connectors.roads._network import Network, to_segments

NetworkType = Literal["drive", "drive_service", "walk", "bike", "all", "all_public"]
Download = Callable[..., Any]  # a function of OSMnx, called with its own options

_TITLE = "cannot read from OSMnx"
_TITLE_GRAPH = "cannot read the networkx graph"
_PLACES = ("place", "bbox", "point", "address", "polygon", "boundary")


def read_osmnx(
    *,
    place: str | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    point: tuple[float, float] | None = None,
    address: str | None = None,
    polygon: str | None = None,
    boundary: str | Path | gpd.GeoDataFrame | None = None,
    dist_m: float | None = None,
    network: NetworkType = "drive",
    simplify: bool = True,
    retain_all: bool = True,
    custom_filter: str | None = None,
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
) -> STGraph:
    """Download a road network through OSMnx.

    Its own functions do it with its own settings: what ``osmnx.settings`` says about the cache,
    the server and the tags holds. A place that is in its cache needs no network.

    Parameters
    ----------
    place
        Name of an area that OpenStreetMap knows, such as ``"Heidelberg, Germany"``. Exactly one
        of the first six options is given.
    bbox
        (left, bottom, right, top) in degrees.
    point
        (latitude, longitude) in degrees, as OSMnx has it; `dist_m` around it.
    address
        An address; `dist_m` around it.
    polygon
        An area as WKT, longitude first, in degrees.
    boundary
        A layer of polygons in any CRS.
    dist_m
        Half the side of the box around `point` or `address`, in metres.
    network
        Kind of network, as OSMnx names it.
    simplify
        Whether nodes that are no junctions become part of the lines.
    retain_all
        False keeps the largest connected part only, as OSMnx does if not told otherwise.
    custom_filter
        Overpass filter of ways in place of `network`, such as ``'["highway"~"motorway"]'``.
    nodes
        ``"segments"``: directed road segments are nodes; ``"junctions"``: junctions are.
    u_turns
        Whether turning back onto the same street is a turn (segments only).
    speeds_kmh
        Speed by road type, in km/h, where the map has none.

    Returns
    -------
    STGraph
        In EPSG:4326, without signal.

    Raises
    ------
    DataError
        Not exactly one place is given, it is not found, has no roads, or the server does not
        answer.
    """
    report = Report()
    given = {
        "place": place, "bbox": bbox, "point": point, "address": address, "polygon": polygon,
        "boundary": boundary,
    }  # fmt: skip
    kind = _which(given, dist_m, network, report)
    area = _read_polygon(kind, given, report)
    report.raise_errors(DataError, title=_TITLE)
    graph = _download(
        kind,
        {**given, "dist_m": dist_m, "area": None if area is None else area.polygon},
        {
            "network_type": network,
            "simplify": simplify,
            "retain_all": retain_all,
            "custom_filter": custom_filter,
        },
        report,
    )
    report.raise_errors(DataError, title=_TITLE)
    provenance = {"connector": "osmnx", "source": {kind: _shown(given[kind])}, "network": network}
    found = to_network(graph, name="OSMnx", provenance=provenance)
    raw = to_segments(found, title=_TITLE, report=report)
    return finish_roads(
        raw, report=report, title=_TITLE, nodes=nodes, u_turns=u_turns, speeds_kmh=speeds_kmh
    )


def read_osmnx_graph(
    graph: nx.Graph[Any],
    *,
    crs: str | int | None = None,
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
) -> STGraph:
    """Return a networkx graph of roads, such as one of OSMnx, as a road graph.

    Parameters
    ----------
    graph
        Any of the four kinds of networkx. Nodes have `x` and `y`, or `lon` and `lat`, `pos`, or
        `geometry`; or their ids are coordinates, as in momepy. Edges may have `geometry`,
        `length`, `maxspeed`, `speed_kph`, `highway` and `lanes`. It is not changed.
    crs
        CRS of the coordinates. None takes the one that the graph names, else EPSG:4326 if the
        coordinates can be degrees.
    nodes
        ``"segments"``: directed road segments are nodes; ``"junctions"``: junctions are.
    u_turns
        Whether turning back onto the same street is a turn (segments only).
    speeds_kmh
        Speed by road type, in km/h, where the graph has none.

    Returns
    -------
    STGraph
        In the CRS of the graph, without signal. Undirected edges are segments both ways, edges
        without a line are straight; ids that are no whole numbers become numbers, and the column
        `source_id` of junctions keeps them.

    Raises
    ------
    DataError
        It is no networkx graph, or has no coordinates or no edges.
    """
    report = Report()
    if not isinstance(graph, nx.Graph):
        report.error("`graph`", f"is a {type(graph).__name__}", "give a networkx graph")
    report.raise_errors(DataError, title=_TITLE_GRAPH)
    found = to_network(graph, name="`graph`", crs=crs)
    raw = to_segments(found, title=_TITLE_GRAPH, report=report)
    return finish_roads(
        raw, report=report, title=_TITLE_GRAPH, nodes=nodes, u_turns=u_turns, speeds_kmh=speeds_kmh
    )


# ---------------------------------------------------------------- what is asked for


def _which(given: Mapping[str, Any], dist_m: float | None, network: str, report: Report) -> str:
    """Return which kind of place is given, or note that it is not exactly one."""
    kinds = [kind for kind, value in given.items() if value is not None]
    if len(kinds) != 1:
        what = f"are given together: {kinds}" if kinds else "are all missing"
        report.error(", ".join(f"`{kind}`" for kind in _PLACES), what, "give exactly one of them")
        return "place"
    (kind,) = kinds
    if kind in ("point", "address"):
        if dist_m is None or not dist_m > 0:
            report.error("`dist_m`", f"is {dist_m!r}", f"give the metres around `{kind}`")
    elif dist_m is not None:
        report.error("`dist_m`", f"is given with `{kind}`", "use it with `point` or `address`")
    if kind in ("place", "address") and not str(given[kind]).strip():
        report.error(f"`{kind}`", "is empty", "give a name, such as 'Heidelberg, Germany'")
    if kind == "point":
        _check_point(given["point"], report)
    known = get_args(NetworkType)
    if network not in known:
        hint = nearest_name(network, known)
        report.error("`network`", f"is {network!r}{hint}", f"use one of {list(known)}")
    return kind


def _check_point(point: Any, report: Report) -> None:
    """Note a point that is no latitude and longitude."""
    todo = "give (latitude, longitude) in degrees, such as (49.41, 8.69)"
    is_pair = isinstance(point, tuple | list | np.ndarray) and len(point) == 2
    if not is_pair or not all(isinstance(n, int | float | np.number) for n in point):
        report.error("`point`", f"is {point!r}", todo)
    elif not (abs(point[0]) <= 90 and abs(point[1]) <= 180):
        swapped = abs(point[1]) <= 90 and abs(point[0]) <= 180
        what = "latitude and longitude look swapped" if swapped else "no such place"
        report.error("`point`", f"is {tuple(point)}: {what}", todo)


def _read_polygon(kind: str, given: Mapping[str, Any], report: Report) -> Area | None:
    """Return the area of `bbox`, `polygon` or `boundary`, None for the others."""
    if kind in ("bbox", "boundary"):
        return read_area(given["bbox"], given["boundary"], report)
    if kind != "polygon":
        return None
    polygon = shapely.from_wkt(str(given["polygon"]), on_invalid="ignore")
    todo = "give WKT with longitude first, such as 'POLYGON ((8.6 49.4, 8.7 49.4, 8.7 49.5, ...))'"
    if polygon is None or polygon.geom_type not in ("Polygon", "MultiPolygon") or polygon.is_empty:
        report.error("`polygon`", f"{str(given['polygon'])[:60]!r} is no polygon", todo)
        return None
    west, south, east, north = polygon.bounds
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        report.error("`polygon`", f"reaches from {west, south} to {east, north}", todo)
        return None
    return Area(polygon if polygon.is_valid else shapely.make_valid(polygon))


def _shown(place: Any) -> Any:
    """Return what the provenance says about a place."""
    if isinstance(place, gpd.GeoDataFrame):
        return "a layer in memory"
    return place.name if isinstance(place, Path) else place


# ---------------------------------------------------------------- OSMnx


def _download(
    kind: str, given: Mapping[str, Any], options: Mapping[str, Any], report: Report
) -> Any:
    """Return the graph that OSMnx makes of a place, or note why there is none."""
    import osmnx
    from osmnx._errors import InsufficientResponseError, ResponseStatusCodeError
    from requests.exceptions import RequestException

    shown = "the area" if given[kind] is None or kind == "boundary" else f"{given[kind]!r}"
    where = f"`{kind}`"
    try:
        if kind == "place":
            return osmnx.graph_from_place(given["place"], **options)
        if kind == "point":
            return osmnx.graph_from_point(tuple(given["point"]), given["dist_m"], **options)
        if kind == "address":
            return osmnx.graph_from_address(given["address"], given["dist_m"], **options)
        if kind == "bbox":
            return osmnx.graph_from_bbox(tuple(given["bbox"]), **options)
        return osmnx.graph_from_polygon(given["area"], **options)
    except RequestException as error:
        reason = type(error).__name__
        report.error(
            where,
            f"the server of OpenStreetMap was not reached ({reason})",
            "check the connection, or read a file: connectors `osm` and `graphml`",
        )
    except ResponseStatusCodeError as error:
        what = f"the server refused: {str(error)[:160]}"
        report.error(where, what, "try again later, or a smaller area")
    except (TypeError, InsufficientResponseError) as error:
        _note_nothing(kind, shown, str(error), report)
    except (ValueError, nx.NetworkXException, osmnx._errors.CacheOnlyInterruptError) as error:
        if "within the requested polygon" in str(error) or isinstance(error, nx.NetworkXException):
            _note_nothing(kind, shown, "No data elements", report)
        else:
            report.error(where, f"OSMnx says: {str(error)[:200]}", "see its documentation")
    return None


def _note_nothing(kind: str, shown: str, reason: str, report: Report) -> None:
    """Note that a place was not found, or has no roads."""
    if "No data elements" in reason or "Found no graph nodes" in reason:
        todo = "check the order of coordinates (longitude first), or ask for another `network`"
        if kind in ("point", "address"):
            todo = "check the coordinates (latitude first), or make `dist_m` larger"
        report.error(f"`{kind}`", f"{shown} has no roads of this kind", todo)
    elif "(Multi)Polygon" in reason or "Polygon" in reason:
        todo = "add the country or region, or use `address` with `dist_m`"
        report.error(f"`{kind}`", f"{shown} is no area in OpenStreetMap", todo)
    else:
        todo = "check the spelling on openstreetmap.org, add the country"
        report.error(f"`{kind}`", f"OpenStreetMap does not know {shown}", todo)


# ---------------------------------------------------------------- networkx


def to_network(
    graph: nx.Graph[Any],
    *,
    name: str,
    crs: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> Network:
    """Return the nodes and edges of a networkx graph as columns."""
    position = {node: i for i, node in enumerate(graph.nodes)}
    ends = list(graph.edges(data=True))
    count = len(ends)
    created = graph.graph.get("created_with")
    return Network(
        name=name,
        ids=list(position),
        nodes=_columns([data for _, data in graph.nodes(data=True)]),
        source=np.fromiter((position[u] for u, _, _ in ends), np.int64, count),
        target=np.fromiter((position[v] for _, v, _ in ends), np.int64, count),
        edges=_columns([data for _, _, data in ends]),
        both_ways=np.full(count, not graph.is_directed()),
        crs=graph.graph.get("crs") if crs is None else crs,
        provenance={
            **(provenance or {"connector": "osmnx_graph", "source": type(graph).__name__}),
            **({"created_with": str(created)} if created else {}),
        },
    )


def _columns(rows: list[dict[Any, Any]]) -> dict[str, Any]:
    """Return the attributes of nodes or edges as columns."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {str(name): _column(str(name), [row.get(name) for row in rows]) for name in names}


def _column(name: str, values: list[Any]) -> Any:
    """Return values as an array of numbers, of truth, or of objects; lists as joined text."""
    kinds = set(map(type, values))
    if kinds <= {float, int, type(None)} and name != "osmid":
        if kinds == {int}:
            try:
                return np.array(values, dtype=np.int64)
            except OverflowError:
                pass
        return np.array(values, dtype=np.float64)  # None becomes NaN
    if kinds == {bool}:
        return np.array(values)
    if name == "osmid" or kinds & {list, set, frozenset} or (tuple in kinds and name != "pos"):
        values = [_joined(value) for value in values]
    return np.fromiter(values, dtype=object, count=len(values))


def _joined(value: Any) -> Any:
    """Return a value as text, a list with each value once; what is missing stays so."""
    if isinstance(value, list | tuple | set | frozenset):
        return ";".join(dict.fromkeys(map(str, value))) or None
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    return None if missing else str(value)
