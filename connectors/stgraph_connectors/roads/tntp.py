"""Networks of the TransportationNetworks collection (``*_net.tntp``) for traffic assignment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.errors import DataError
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._lines import measure_lines
from stgraph.neighbours._turns import all_turns
from stgraph.report import Report
from stgraph_connectors._coordinates import parse_crs
from stgraph_connectors._ids import guess_column, shorten
from stgraph_connectors._tables import SUFFIXES, check_path, plain_suffix, read_table
from stgraph_connectors.roads._assemble import RawRoads, Reading, finish_roads
from stgraph_connectors.roads._local import LOCAL_UNITS
from stgraph_connectors.roads._segment_ids import number_texts
from stgraph_connectors.roads._tntp_files import (
    STANDARD_COLUMNS,
    TntpTable,
    check_counts,
    read_tntp_table,
)
from stgraph_connectors.roads._units import (
    KMH,
    METRES,
    SECONDS,
    LengthUnit,
    SpeedUnit,
    check_unit,
    find_length_unit,
    find_speed_unit,
    find_time_unit,
    guess_length_unit,
)

TimeUnit = Literal["s", "min", "h", "0.01 h"]

_TITLE = "cannot read a TNTP network"
_ID_NAMES = ("id", "node", "node_id", "n")


def read_tntp(
    net: str | Path,
    *,
    coordinates: str | Path | None = None,
    crs: str | int | None = None,
    length_unit: LengthUnit | None = None,
    time_unit: TimeUnit | None = None,
    speed_unit: SpeedUnit | None = None,
    through_zones: bool = False,
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
) -> STGraph:
    """Read a network of the TransportationNetworks collection.

    Capacity, free-flow time, `b`, `power`, toll and all other columns are kept as they are.

    Parameters
    ----------
    net
        A ``*_net.tntp``.
    coordinates
        Places of the nodes: a ``*_node.tntp``, or CSV, GeoJSON or GeoPackage of points. None
        takes the ``*_node.tntp`` beside `net`.
    crs
        CRS of coordinates that name none; ``"local"``: units of a plane that is nowhere on
        Earth, which is also what is taken, with a warning, for numbers that cannot be degrees.
    length_unit
        Unit of the column `length`. None takes what the file says; where it says nothing, lengths
        are measured between the nodes.
    time_unit
        Unit of the column `free_flow_time`. None takes what the file says. Where links have no
        speed of a known unit, it is made from this time and the length.
    speed_unit
        Unit of the column `speed`. None takes what the file says.
    through_zones
        Whether one may pass through nodes below ``<FIRST THRU NODE>``, which are zones.
    nodes
        ``"segments"``: links are nodes and turns edges; ``"junctions"``: junctions are nodes.
    u_turns
        Whether turning back onto the same street is a turn.
    speeds_kmh
        Speed by link type (as text), in km/h, where links have none.

    Returns
    -------
    STGraph
        Straight links between the nodes, without signal.

    Raises
    ------
    DataError
        Lists everything that cannot be used.
    """
    report = Report()
    check_unit("length_unit", length_unit, METRES, report)
    check_unit("time_unit", time_unit, SECONDS, report)
    check_unit("speed_unit", speed_unit, KMH, report)
    system = LOCAL_UNITS if crs == "local" else parse_crs(crs, report)
    path = check_path(net, report, role="net", suffixes=(".tntp", ".txt"))
    table = None if path is None else read_tntp_table(path, report, columns=STANDARD_COLUMNS)
    if table is not None:
        check_counts(table, report)
    report.raise_errors(DataError, title=_TITLE)
    assert path is not None and table is not None  # noqa: S101, PT018  # otherwise there are errors
    junctions = _read_junctions(path, coordinates, system, report)
    report.raise_errors(DataError, title=_TITLE)
    assert junctions is not None  # noqa: S101
    source, target = _positions(table, junctions, report)
    report.raise_errors(DataError, title=_TITLE)
    system = junctions.crs or LOCAL_UNITS  # always the first: mypy cannot know
    xy = shapely.get_coordinates(np.asarray(junctions.geometry))
    lines: Any = shapely.linestrings(np.stack([xy[source], xy[target]], axis=1))
    units = _Units(table, length_unit, time_unit, speed_unit)
    length_m = _lengths(table, units, lines, system, report)
    known_m = length_m
    if length_m is None and system != LOCAL_UNITS:
        known_m = measure_lines(lines, system).length_m
    first_through = int(float(table.meta.get("FIRST THRU NODE", 1)))
    is_zone = junctions.index.to_numpy() < first_through
    raw = RawRoads(
        junctions=junctions.assign(is_zone=is_zone),
        source=source,
        target=target,
        geometry=lines,
        attributes=_attributes(table, units, known_m, report),
        length_m=length_m,
        forbidden=_through(source, target, np.zeros_like(is_zone) if through_zones else is_zone),
        ids=_ids(table),
        provenance={"connector": "tntp", "source": table.name},
    )
    return finish_roads(
        raw, report=report, title=_TITLE, nodes=nodes, u_turns=u_turns, speeds_kmh=speeds_kmh
    )


# ---------------------------------------------------------------- junctions


def _read_junctions(
    net: Path, coordinates: str | Path | None, system: pyproj.CRS | None, report: Report
) -> gpd.GeoDataFrame | None:
    """Return the nodes as points indexed by their number."""
    if coordinates is None:
        beside = net.with_name(net.name.replace("_net", "_node"))
        if beside == net or not beside.is_file():
            others = [f.name for f in net.parent.glob("*") if _may_hold_nodes(f.name)]
            hint = f", such as {sorted(others)}" if others else ""
            what = f"there is no {beside.name} beside it, so nothing says where the nodes are"
            report.error(net.name, what, f"name a file with coordinates={hint}")
            return None
        coordinates = beside
        report.info(net.name, f"places of the nodes are from {beside.name}")
    path = check_path(coordinates, report, role="coordinates", suffixes=(".tntp", *SUFFIXES))
    if path is None:
        return None
    if plain_suffix(path) == ".tntp":
        table = read_tntp_table(path, report, columns=("node", "x", "y"))
        frame = None if table is None else table.frame
        own = None
    else:
        frame, own = _read_points(path, report)
    if frame is None:
        return None
    missing = [name for name in ("node", "x", "y") if name not in frame]
    if missing:
        report.error(path.name, f"has no column {missing}; columns are {list(frame)}", "add it")
        return None
    return _make_junctions(frame, own, system, path.name, report)


def _may_hold_nodes(name: str) -> bool:
    """Tell whether a file looks as if it had the coordinates of nodes."""
    lower = name.lower()
    return ("node" in lower or "coord" in lower) and not lower.endswith((".md", ".jpg", ".pdf"))


def _read_points(path: Path, report: Report) -> tuple[pd.DataFrame | None, pyproj.CRS | None]:
    """Return node, x and y of a table or layer, and the CRS that it names."""
    table = read_table(path, report, role="coordinates", text=())
    if table is None:
        return None, None
    frame = table.frame
    id_column = guess_column(
        list(frame.columns), _ID_NAMES, table=table, option="node", report=report
    )
    if id_column is None:
        return None, None
    found: dict[str, Any] = {"node": pd.to_numeric(frame[id_column], errors="coerce")}
    own = None
    if "geometry" in frame and isinstance(frame["geometry"].dtype, gpd.array.GeometryDtype):
        points = np.asarray(frame["geometry"], dtype=object)
        if (shapely.get_type_id(points) != 0).any():
            report.error(path.name, "holds others than points", "give the layer of the nodes")
            return None, None
        found["x"], found["y"] = shapely.get_x(points), shapely.get_y(points)
        own = gpd.GeoSeries(frame["geometry"]).crs
    else:
        for column in frame.columns:
            if str(column).strip().lower() in ("x", "y"):
                numbers = pd.to_numeric(frame[column], errors="coerce")
                found[str(column).strip().lower()] = numbers
    return pd.DataFrame(found), own


def _make_junctions(
    frame: pd.DataFrame,
    own: pyproj.CRS | None,
    given: pyproj.CRS | None,
    name: str,
    report: Report,
) -> gpd.GeoDataFrame | None:
    """Return points in a CRS, or note that nobody knows which."""
    node = frame["node"].to_numpy(dtype=np.float64)
    xy = frame[["x", "y"]].to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(xy).all(axis=1) | (node % 1 != 0)  # NaN is no whole number either
    twice = pd.Series(node).duplicated().to_numpy()
    for rows, what in ((wrong, "have no number or no place"), (twice, "are there twice")):
        if rows.any():
            first = shorten(node[rows].tolist(), 5)
            report.error(name, f"{int(rows.sum())} nodes {what}: {first}", "repair them")
    if own is not None and given is not None and own != given:
        report.error(name, f"is in {own.name} but crs= says {given.name}", "leave crs= out")
    crs = own or given
    small = bool((np.abs(xy) <= [180.0, 90.0]).all())
    if crs is None and small:
        todo = "say crs=4326 if they are, or crs='local' if they are units of a plane"
        report.error(name, "names no CRS, and its numbers look like degrees", todo)
    elif crs is None:
        what = "names no CRS: the nodes keep their numbers, without a place on Earth"
        report.warning(name, what, "crs= says where they are")
        crs = LOCAL_UNITS
    elif crs.is_geographic and not small:
        what = f"({xy[0, 0]:g}, {xy[0, 1]:g}) cannot be degrees"
        report.error(name, what, "say another crs=, or 'local'")
    if report.errors:
        return None
    index = pd.Index(node.astype(np.int64), name="junction_id")
    return gpd.GeoDataFrame(geometry=shapely.points(xy), index=index, crs=crs)


def _positions(
    table: TntpTable, junctions: gpd.GeoDataFrame, report: Report
) -> tuple[IntArray, IntArray]:
    """Return where links begin and end, or note nodes without a place."""
    ends = table.frame[["init_node", "term_node"]].to_numpy().astype(np.int64)
    at = junctions.index.get_indexer(pd.Index(ends.ravel())).reshape(-1, 2)
    if (at < 0).any():
        nodes = np.unique(ends[at < 0])
        what = f"{len(nodes)} nodes of links have no coordinates: {shorten(nodes.tolist(), 5)}"
        report.error(table.name, what, "add them to the coordinates", count=len(nodes))
    return at[:, 0], at[:, 1]


def _through(source: IntArray, target: IntArray, is_zone: npt.NDArray[np.bool_]) -> IntArray:
    """Return the turns at zones, which are for beginning and ending trips only."""
    before, after = all_turns(source, target, len(is_zone))
    at_zone = is_zone[target[before]]
    return np.column_stack([before[at_zone], after[at_zone]])


# ---------------------------------------------------------------- links


class _Units:
    """The units of a file, None where nobody says them."""

    def __init__(
        self, table: TntpTable, length: str | None, time: str | None, speed: str | None
    ) -> None:
        self.length = length or find_length_unit(table.units.get("length"))
        self.speed = speed or find_speed_unit(table.units.get("speed"))
        self.time = time or find_time_unit(table.units.get("free_flow_time"))


def _lengths(
    table: TntpTable,
    units: _Units,
    lines: Any,
    crs: pyproj.CRS,
    report: Report,
) -> npt.NDArray[np.float64] | None:
    """Return the lengths of links in metres, or None to measure them."""
    given = table.frame.get("length")
    if given is not None and units.length is not None:
        return given.to_numpy() * METRES[units.length]
    if crs == LOCAL_UNITS:
        what = "lengths are measured between the nodes, in units of their coordinates, not metres"
        report.warning(table.name, what, "length_unit= takes those of the file")
    elif given is not None:
        guess = guess_length_unit(given.to_numpy(), measure_lines(lines, crs).length_m)
        hint = f"; they look like {guess}" if guess else ""
        what = f"nothing says the unit of `length`{hint}"
        todo = "lengths are measured between the nodes; length_unit= takes those of the file"
        report.info(table.name, what, todo)
    return None


def _attributes(
    table: TntpTable,
    units: _Units,
    length_m: npt.NDArray[np.float64] | None,
    report: Report,
) -> pd.DataFrame:
    """Return all columns, and the speed where its unit is known."""
    frame = table.frame.drop(columns=["init_node", "term_node"])
    frame.insert(0, "init_node", table.frame["init_node"].astype(np.int64))
    frame.insert(1, "term_node", table.frame["term_node"].astype(np.int64))
    if "link_type" in frame:
        whole = (frame["link_type"] % 1 == 0).all()
        kind = frame["link_type"].astype(np.int64) if whole else frame["link_type"]
        frame = frame.assign(link_type=kind, highway=kind.astype(str))
    speed = frame["speed"].to_numpy() if "speed" in frame else np.zeros(len(frame))
    time = frame["free_flow_time"].to_numpy() if "free_flow_time" in frame else np.zeros(len(frame))
    known = np.full(len(frame), np.nan)
    if (speed > 0).any() and units.speed is not None:
        known = np.where(speed > 0, speed * KMH[units.speed], np.nan)
    elif (speed > 0).any():
        what = "nothing says the unit of `speed`"
        report.warning(table.name, what, "it is not used; speed_unit= says it")
    lacking = np.isnan(known) & (time > 0)
    if lacking.any() and units.time is not None and length_m is not None:
        hours = np.where(lacking, time, np.nan) * SECONDS[units.time] / 3600
        known = np.where(lacking, length_m / 1000 / hours, known)
        what = f"the speed of {int(lacking.sum())} links is made from length and `free_flow_time`"
        report.info(table.name, what, count=int(lacking.sum()))
    return frame.assign(speed_kmh=known)


def _ids(table: TntpTable) -> IntArray:
    """Return an id for every link, from its nodes and its number among those between them."""
    ends = table.frame[["init_node", "term_node"]].astype(np.int64)
    nth = ends.groupby(["init_node", "term_node"]).cumcount()
    rows = zip(ends["init_node"], ends["term_node"], nth, strict=True)
    return number_texts(f"{u} {v} {n}" for u, v, n in rows)
