"""Road networks from OpenStreetMap files: XML, plain or packed, and PBF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.errors import DataError, nearest_name
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.neighbours._places import to_metres
from stgraph.report import Report
from stgraph_connectors.roads._area import Area, Float64Array, read_area
from stgraph_connectors.roads._assemble import RawRoads, Reading, finish_roads
from stgraph_connectors.roads._network import ATTRIBUTION
from stgraph_connectors.roads._osm_files import read_osm_file
from stgraph_connectors.roads._osm_records import NODE_TAGS, OsmData
from stgraph_connectors.roads._osm_tags import (
    TAGS,
    Runs,
    merge_lanes,
    merge_speeds,
    merge_tags,
)
from stgraph_connectors.roads._osm_ways import (
    Network,
    Pieces,
    choose_ways,
    cut_ways,
    find_directions,
    note_lacking,
)
from stgraph_connectors.roads._restrictions import find_forbidden, find_kept, to_pairs
from stgraph_connectors.roads._simplify import Chains, find_chains, find_next

_WGS84 = "EPSG:4326"
_SPEEDS_KMH: dict[Network, float] = {"walk": 5.0, "bike": 15.0}  # maps tell limits of cars


def read_osm(
    path: str | Path,
    *,
    network: Network = "drive",
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    boundary: str | Path | gpd.GeoDataFrame | None = None,
    simplify: bool = True,
    restrictions: bool = True,
    tags: Sequence[str] = TAGS,
) -> STGraph:
    """Read the roads of an OpenStreetMap file as a graph.

    Nothing is left out in silence: `graph.report` lists what was found and changed.

    Parameters
    ----------
    path
        OSM XML (``.osm``, also ``.osm.gz`` and ``.osm.bz2``), or ``.osm.pbf``, which needs the
        extra `pbf`.
    network
        Which ways to take, by the filters of OSMnx: ``"drive"`` (public roads), with service
        roads (``"drive_service"``), ``"walk"``, ``"bike"``, or ``"all"`` that are in use.
    nodes
        ``"segments"``: directed segments are nodes and turns are edges; ``"junctions"``:
        junctions are nodes and directed segments are edges.
    u_turns
        Whether turning back onto the same street is a turn (segments only).
    speeds_kmh
        Speed by highway type, in km/h, where the map has none. On foot and by bicycle, where
        speed limits do not count: in place of 5 and 15 km/h.
    bbox
        Take segments with both ends in this box: west, south, east, north in degrees.
    boundary
        Take segments with both ends in the polygons of this layer, in place of `bbox`.
    simplify
        Whether to merge pieces of road that meet where nothing branches; False keeps each.
    restrictions
        Whether to leave out turns that a relation of type `restriction` forbids.
    tags
        Tags that become columns; the others are in the column `other_tags`.

    Returns
    -------
    STGraph
        N segments or junctions in EPSG:4326, without signal; lengths in metres on the sphere.

    Raises
    ------
    DataError
        The file is missing, cut off, damaged or no OSM, or holds no road of the kind asked for.
    MissingExtraError
        A PBF file, and osmium is not installed.
    """
    report = Report()
    path = Path(path)
    title = f"cannot read roads from {path}"
    _check_options(network, nodes, tags, report)
    area = read_area(bbox, boundary, report)
    report.raise_errors(DataError, title=title)
    data = _read_ways(path, network, area, report)
    report.raise_errors(DataError, title=title)
    raw = _assemble(
        data, network, report, _Choice(simplify, restrictions, u_turns, ("highway", *tags))
    )
    if network in _SPEEDS_KMH:
        raw = _at_own_speed(raw, _SPEEDS_KMH[network], speeds_kmh or {})
    if area is not None:
        raw = _clip(raw, area, report)
    report.raise_errors(DataError, title=title)
    return finish_roads(
        raw, report=report, title=title, nodes=nodes, u_turns=u_turns, speeds_kmh=speeds_kmh
    )


def _check_options(network: str, nodes: str, tags: object, report: Report) -> None:
    """Note options that cannot be used."""
    for name, given, known in (
        ("network", network, get_args(Network)),
        ("nodes", nodes, get_args(Reading)),
    ):
        if given not in known:
            hint = nearest_name(given, known)
            report.error(f"`{name}`", f"is {given!r}{hint}", f"use one of {list(known)}")
    if not (isinstance(tags, list | tuple) and all(isinstance(t, str) and t for t in tags)):
        report.error("`tags`", f"is {tags!r}", "give a list of names, such as ['name', 'surface']")


@dataclass(frozen=True)
class _Choice:
    """Options that decide what a segment is."""

    simplify: bool
    restrictions: bool
    u_turns: bool
    tags: tuple[str, ...]


def _read_ways(path: Path, network: Network, area: Area | None, report: Report) -> OsmData:
    """Return the ways of a network in and near an area; that there are none is an error."""
    data = read_osm_file(path, near=None if area is None else area.near)
    for remark in data.remarks:
        todo = "the extract may not be whole; ask for it again"
        report.warning(f"{path}", f"the server that made it remarked: {remark}", todo)
    if area is not None:
        data = _near(data, area)
    if not len(data.way_ids):
        where = "has no way with the tag `highway`" + ("" if area is None else " in the area")
        todo = "give an extract of OpenStreetMap with its roads" + (
            "" if area is None else ", or look at the area: longitude comes first"
        )
        report.error(f"{path}", where, todo)
        return data
    kept = choose_ways(data, network)
    if not len(kept):
        kinds = pd.Series([tags["highway"] for tags in data.way_tags]).value_counts()
        some = ", ".join(f"{name} ({count})" for name, count in kinds.head(5).items())
        what = f"none of {len(data.way_ids)} ways belongs to the network {network!r}"
        report.error(f"{path}", what, f"there are {some}; try network = 'all'")
    data = data.select_ways(kept)
    note_lacking(data, report)
    return data


def _near(data: OsmData, area: Area) -> OsmData:
    """Return the ways with a node in or near the area."""
    west, south, east, north = area.near
    x, y = data.xy.T
    inside = np.append((west <= x) & (x <= east) & (south <= y) & (y <= north), False)
    return data.select_ways(np.unique(data.way_of_ref[inside[data.refs]]))


def _assemble(data: OsmData, network: Network, report: Report, choice: _Choice) -> RawRoads:
    """Return the segments of some ways, with their tags and the turns they must not make."""
    directions = find_directions(data, network, report)
    pieces = cut_ways(data, directions, report)
    n_nodes = len(data.node_ids)
    rows = find_forbidden(data, pieces, network, report) if choice.restrictions else []
    following = np.full(len(pieces.source), -1, dtype=np.int64)
    if choice.simplify:
        following = find_next(pieces.source, pieces.target, n_nodes)
    kept = find_kept(rows, following, pieces, n_nodes)
    chains = find_chains(pieces.source, pieces.target, following, keep=kept)
    if chains.n_rings:
        what = f"{chains.n_rings} rings have no junction"
        todo = "each is kept, as a loop at one of its nodes"
        report.info("ways", what, todo, count=chains.n_rings)
    metres, _ = to_metres(data.xy, pyproj.CRS(_WGS84))
    length_m = np.linalg.norm(metres[pieces.source] - metres[pieces.target], axis=1)
    runs = _make_runs(pieces, chains, length_m)
    ends = np.stack([pieces.source[chains.first], pieces.target[chains.last]])
    used, position = np.unique(ends, return_inverse=True)
    source, target = position.reshape(2, -1)
    return RawRoads(
        junctions=_make_junctions(data, used),
        source=source,
        target=target,
        geometry=_make_lines(data, pieces, chains),
        attributes=merge_tags(data, runs, directions, columns=choice.tags).assign(
            speed_kmh=merge_speeds(data, runs), lanes=merge_lanes(data, runs, directions)
        ),
        length_m=np.bincount(chains.chain, length_m, len(chains)).astype(np.float64),
        forbidden=to_pairs(rows, chains, pieces, report, u_turns=choice.u_turns),
        provenance={
            "connector": "osm",
            "source": "OpenStreetMap",
            "attribution": ATTRIBUTION,
            "network": network,
        },
    )


def _make_runs(pieces: Pieces, chains: Chains, length_m: Float64Array) -> Runs:
    """Return the stretches of segments on one way each."""
    place = np.empty(len(chains.order), dtype=np.int64)
    place[chains.order] = np.arange(len(place))
    order = np.argsort(place[pieces.edge], kind="stable")
    edge, way = pieces.edge[order], pieces.way[order]
    segment = chains.chain[edge]
    begins = np.flatnonzero(
        np.diff(segment, prepend=-1).astype(bool) | np.diff(way, prepend=-1).astype(bool)
    )
    return Runs(
        segment=segment[begins],
        way=way[begins],
        against=pieces.against[order][begins],
        length_m=np.add.reduceat(length_m[edge], begins) if len(begins) else length_m[:0],
        n_segments=len(chains),
    )


def _make_lines(data: OsmData, pieces: Pieces, chains: Chains) -> npt.NDArray[np.object_]:
    """Return the line of each segment."""
    starts = data.xy[pieces.source[chains.order]]
    ends = data.xy[pieces.target[chains.last]]
    xy = np.insert(starts, chains.starts[1:], ends, axis=0)
    n_points = np.diff(chains.starts) + 1
    return np.asarray(
        shapely.linestrings(xy, indices=np.repeat(np.arange(len(chains)), n_points)), dtype=object
    )


def _make_junctions(data: OsmData, used: IntArray) -> gpd.GeoDataFrame:
    """Return the nodes at which segments end, with the tags that say what they are."""
    ids = data.node_ids[used]
    tagged = [data.node_tags.get(node, {}) for node in ids.tolist()]
    columns = {
        key: [tags.get(key) for tags in tagged]
        for key in NODE_TAGS
        if any(key in tags for tags in tagged)
    }
    points = shapely.points(data.xy[used])
    index = pd.Index(ids, name="junction_id")
    return gpd.GeoDataFrame(columns, index=index, geometry=points, crs=_WGS84)


def _at_own_speed(raw: RawRoads, speed_kmh: float, speeds_kmh: Mapping[str, float]) -> RawRoads:
    """Return the segments at the speed of walkers or cyclists, whatever the limit for cars."""
    kind = raw.attributes["highway"].str.split(";").str[0]
    # what is no table of speeds is refused at the end
    given = kind.map(dict(speeds_kmh) if isinstance(speeds_kmh, Mapping) else {})
    speed = pd.to_numeric(given, errors="coerce").astype(np.float64).fillna(speed_kmh)
    return replace(raw, attributes=raw.attributes.assign(speed_kmh=speed, speed_imputed=True))


def _clip(raw: RawRoads, area: Area, report: Report) -> RawRoads:
    """Return the segments with both ends in the area."""
    inside: BoolArray = area.holds(shapely.get_coordinates(raw.junctions.geometry.to_numpy()))
    chosen = inside[raw.source] & inside[raw.target]
    if not chosen.any():
        west, south, east, north = (round(float(x), 4) for x in raw.junctions.total_bounds)
        what = "no road has both its ends in the area"
        todo = f"the roads near it span ({west}, {south}, {east}, {north}); make the area larger"
        report.error("`bbox` or `boundary`", what, todo)
    return raw.take(chosen)
