"""Networks of the traffic simulation SUMO: edges, lanes, and the turns that it knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.errors import DataError, nearest_name
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._turns import all_turns
from stgraph.report import Report
from stgraph_connectors._coordinates import parse_crs
from stgraph_connectors._ids import shorten
from stgraph_connectors.roads._assemble import RawRoads, Reading, finish_roads
from stgraph_connectors.roads._local import LOCAL_METRES
from stgraph_connectors.roads._names import to_numbers
from stgraph_connectors.roads._sumo_net import (
    VEHICLE_CLASSES,
    Edge,
    Lane,
    Net,
    parse_net,
    parse_shape,
    permits,
)

_TITLE = "cannot read a SUMO network"
_AS_DRAWN = 0.01  # share by which the length of a lane may differ from that of its shape


def read_sumo(
    net: str | Path,
    *,
    vehicle_class: str | None = "passenger",
    crs: str | int | None = None,
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
) -> STGraph:
    """Read a network of SUMO.

    Turns are those for which the network has a connection; all others are forbidden.

    Parameters
    ----------
    net
        A ``.net.xml``, also packed as ``.net.xml.gz``.
    vehicle_class
        SUMO's class of vehicles: edges and turns open to it are read, and its lanes counted.
        ``"all"`` or None reads all edges.
    crs
        CRS of the coordinates before SUMO's offset, for networks that name none. None: such a
        network keeps its own metres, without a place on Earth.
    nodes
        ``"segments"``: edges are nodes and turns edges; ``"junctions"``: junctions are nodes.
    u_turns
        Whether turning back onto the same street is a turn, where SUMO has a connection for it.
    speeds_kmh
        Speed by road type, in km/h, where the lanes have none.

    Returns
    -------
    STGraph
        In the CRS of the network, without signal. Edges run from junction to junction, so they
        are longer than their lanes, which end where the junction begins (`lane_length_m`).

    Raises
    ------
    DataError
        Lists everything that cannot be used.
    """
    report = Report()
    vehicle_class = None if vehicle_class == "all" else vehicle_class
    if vehicle_class is not None and vehicle_class not in VEHICLE_CLASSES:
        what = f"unknown class {vehicle_class!r}{nearest_name(vehicle_class, VEHICLE_CLASSES)}"
        report.error("`vehicle_class`", what, f"use one of {list(VEHICLE_CLASSES)}, or 'all'")
    given_crs = parse_crs(crs, report)
    parsed = parse_net(net, report)
    report.raise_errors(DataError, title=_TITLE)
    assert parsed is not None  # noqa: S101  # otherwise there is an error
    name = Path(net).name
    system, offset = _place(parsed, given_crs, name, report)
    edges = _open_edges(parsed, vehicle_class, name, report)
    report.raise_errors(DataError, title=_TITLE)
    raw = _to_raw(parsed, edges, vehicle_class, system, offset, name, report, u_turns=u_turns)
    report.raise_errors(DataError, title=_TITLE)
    return finish_roads(
        raw, report=report, title=_TITLE, nodes=nodes, u_turns=u_turns, speeds_kmh=speeds_kmh
    )


def _place(
    net: Net, given: pyproj.CRS | None, name: str, report: Report
) -> tuple[pyproj.CRS, npt.NDArray[np.float64]]:
    """Return the CRS of a network, and what was added to its coordinates."""
    text = net.location.get("projParameter", "!").strip()
    offset = np.zeros(2)
    shift = parse_shape(
        net.location.get("netOffset", "0,0"), f"{name}, location, `netOffset`", report
    )
    if shift:
        offset = np.array(shift[0])
    own = None
    if text not in ("!", "-", ".", ""):
        try:
            own = pyproj.CRS.from_user_input(text)
        except pyproj.exceptions.CRSError:
            what = f"the projection {text!r} is none that PROJ knows"
            report.error(f"{name}, location", what, "repair it in the file")
    if own is not None and given is not None and own != given:
        what = f"the network is in {own.to_string()} but crs= says {given.name}"
        report.error(name, what, "leave crs= out")
    if own is None and given is None:
        report.warning(
            name,
            "names no projection",
            "its metres are kept, without a place on Earth; crs= says where they are",
        )
        return LOCAL_METRES, offset
    return own or given or LOCAL_METRES, offset


def _open_edges(net: Net, vehicle_class: str | None, name: str, report: Report) -> list[Edge]:
    """Return the edges open to a class of vehicles, or note those that hang in the air."""
    missing = {
        (edge.attributes.get("id", ""), end)
        for edge in net.edges
        for end in (edge.attributes.get("from"), edge.attributes.get("to"))
        if end not in net.junctions
    }
    if missing:
        edge, end = min(missing, key=str)
        what = f"names the junction {end!r}, which is not there ({len(missing)} such)"
        report.error(f"{name}, edge {edge!r}", what, "make the net again", count=len(missing))
    ids = pd.Series([edge.attributes.get("id", "") for edge in net.edges], dtype="string")
    twice = ids[ids.duplicated()]
    if len(twice):
        report.error(name, f"edges appear twice: {shorten(twice, 5)}", "make the net again")
    if not net.edges:
        report.error(name, "has no edges", "give a .net.xml with roads")
    chosen = [edge for edge in net.edges if _open_lanes(edge, vehicle_class)]
    if net.edges and not chosen:
        what = f"none of {len(net.edges)} edges is open to {vehicle_class!r}"
        report.error(name, what, "choose another vehicle_class=, or 'all'")
    closed = len(net.edges) - len(chosen)
    if chosen and closed:
        what = f"{closed} of {len(net.edges)} edges are not open to {vehicle_class!r}"
        report.info(name, what, "they are left out", count=closed)
    return chosen


def _open_lanes(edge: Edge, vehicle_class: str | None) -> list[Lane]:
    """Return the lanes of an edge that are open to a class of vehicles."""
    return [lane for lane in edge.lanes if permits(lane.allow, lane.disallow, vehicle_class)]


def _to_raw(
    net: Net,
    edges: list[Edge],
    vehicle_class: str | None,
    crs: pyproj.CRS,
    offset: npt.NDArray[np.float64],
    name: str,
    report: Report,
    *,
    u_turns: bool,
) -> RawRoads:
    """Return the edges as segments between the junctions."""
    names = list(net.junctions)
    position = {junction: i for i, junction in enumerate(names)}
    xy = np.round(np.array(list(net.junctions.values())) - offset, 6)
    numbers, plain = to_numbers(names)
    columns = {"junction_type": [net.kinds[junction] for junction in names]}
    if not plain:
        columns["junction"] = names
    junctions = gpd.GeoDataFrame(
        columns, geometry=shapely.points(xy), index=pd.Index(numbers, name="junction_id"), crs=crs
    )
    source = np.array([position[edge.attributes["from"]] for edge in edges])
    target = np.array([position[edge.attributes["to"]] for edge in edges])
    lines = np.empty(len(edges), dtype=object)
    for i, edge in enumerate(edges):
        inner = edge.attributes.get("shape", "")
        where = f"{name}, edge {edge.attributes['id']!r}"
        between = np.array(parse_shape(inner, where, report)).reshape(-1, 2) - offset
        lines[i] = _line(xy[source[i]], between, xy[target[i]])
    lanes = [_open_lanes(edge, vehicle_class) for edge in edges]
    return RawRoads(
        junctions=junctions,
        source=source,
        target=target,
        geometry=lines,
        attributes=_attributes(edges, lanes),
        length_m=_stretched(lines, lanes),
        forbidden=_forbidden(net, edges, source, target, vehicle_class, u_turns, name, report),
        ids=to_numbers(edge.attributes["id"] for edge in edges)[0],
        provenance={"connector": "sumo", "source": name, "vehicle_class": vehicle_class},
    )


def _line(
    first: npt.NDArray[np.float64],
    between: npt.NDArray[np.float64],
    last: npt.NDArray[np.float64],
) -> shapely.LineString:
    """Return the line of an edge, which its shape may leave short of the junctions."""
    points = np.round(np.vstack([first, between, last]), 6)
    moving = np.concatenate([[True], (np.abs(np.diff(points, axis=0)) > 0.005).any(axis=1)])
    points = points[moving]
    points[-1] = last
    return shapely.LineString(points if len(points) > 1 else np.vstack([first, last]))


def _stretched(lines: npt.NDArray[np.object_], lanes: list[list[Lane]]) -> npt.NDArray[np.float64]:
    """Return lengths of edges whose lanes are longer or shorter than drawn, NaN for others."""
    length = np.full(len(lines), np.nan)
    for i, (line, (lane, *_)) in enumerate(zip(lines, lanes, strict=True)):
        drawn = shapely.LineString(lane.shape).length if len(lane.shape) > 1 else 0.0
        if drawn > 0 and abs(lane.length_m / drawn - 1) > _AS_DRAWN and lane.length_m > 1:
            length[i] = line.length * lane.length_m / drawn
    return length


def _attributes(edges: list[Edge], lanes: list[list[Lane]]) -> pd.DataFrame:
    """Return the attributes of edges, in the words of OSM where there is one."""
    keys = dict.fromkeys(key for edge in edges for key in edge.attributes)
    table = pd.DataFrame(
        {
            key: [edge.attributes.get(key) for edge in edges]
            for key in keys
            if key not in ("shape", "from", "to", "function")
        }
    )
    table = table.rename(columns={"id": "sumo_id"})
    speeds = [max(lane.speed_ms for lane in each) * 3.6 for each in lanes]
    table = table.assign(
        lanes=[len(each) for each in lanes],
        speed_kmh=speeds,
        lane_length_m=[each[0].length_m for each in lanes],
    )
    if "type" in table:
        table["highway"] = table["type"].str.removeprefix("highway.")
    origins = pd.Series([edge.origin or None for edge in edges], dtype="string")
    return table if origins.isna().all() else table.assign(osmid=origins)


def _forbidden(
    net: Net,
    edges: list[Edge],
    source: IntArray,
    target: IntArray,
    vehicle_class: str | None,
    u_turns: bool,
    name: str,
    report: Report,
) -> IntArray:
    """Return the turns between edges for which there is no connection."""
    if not net.connections:
        report.warning(name, "has no connections", "all turns are taken as allowed")
        return np.zeros((0, 2), dtype=np.int64)
    known = {edge.attributes["id"]: i for i, edge in enumerate(edges)}
    lanes = [{lane.index: lane for lane in edge.lanes} for edge in edges]
    allowed = set()
    for link in net.connections:
        before, after = known.get(link["from"]), known.get(link.get("to", ""))
        if (
            before is None
            or after is None
            or not _may_use(link, lanes, before, after, vehicle_class)
        ):
            continue
        back = link.get("dir") == "t" and source[before] == target[after]
        if u_turns or not back:
            allowed.add((before, after))
    pairs = np.column_stack(all_turns(source, target, len(net.junctions)))
    free = np.array(sorted(allowed), dtype=np.int64).reshape(-1, 2)
    n = len(edges)
    return pairs[~np.isin(pairs[:, 0] * n + pairs[:, 1], free[:, 0] * n + free[:, 1])]


def _may_use(
    link: dict[str, str],
    lanes: list[dict[int, Any]],
    before: int,
    after: int,
    vehicle_class: str | None,
) -> bool:
    """Tell whether a connection, and the lanes that it joins, are open to a class of vehicles."""
    ends = (lanes[before], link.get("fromLane")), (lanes[after], link.get("toLane"))
    for of_edge, index in ends:
        lane = of_edge.get(int(index)) if index is not None and index.isdigit() else None
        if lane is not None and not permits(lane.allow, lane.disallow, vehicle_class):
            return False
    return permits(link.get("allow", ""), link.get("disallow", ""), vehicle_class)
