"""Networks in the General Modeling Network Specification: a folder of CSV files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.errors import DataError, nearest_name
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.neighbours._lines import measure_lines
from stgraph.report import Report
from stgraph_connectors._coordinates import parse_crs
from stgraph_connectors._ids import clean_ids, shorten
from stgraph_connectors._tables import Table
from stgraph_connectors.roads._assemble import RawRoads, Reading, finish_roads
from stgraph_connectors.roads._columns import keep_names
from stgraph_connectors.roads._gmns_files import (
    Config,
    is_allowed,
    read_config,
    read_file,
    read_groups,
    to_floats,
)
from stgraph_connectors.roads._gmns_turns import find_forbidden
from stgraph_connectors.roads._names import to_numbers
from stgraph_connectors.roads._segment_ids import number_texts
from stgraph_connectors.roads._units import (
    KMH,
    METRES,
    LengthUnit,
    SpeedUnit,
    check_unit,
    guess_length_unit,
)

_TITLE = "cannot read a GMNS network"
_TRUE, _FALSE = ("true", "1", "yes", "t", "y"), ("false", "0", "no", "f", "n")
_KEPT_APART = ("geometry", "from_node_id", "to_node_id", "directed", "dir_flag", "geometry_id")
_OURS = ("segment_id", "length_m", "speed_kmh", "travel_time_s", "from_junction", "to_junction",
    "reverse_id", "kind", "oneway", "highway")  # fmt: skip


def read_gmns(
    folder: str | Path,
    *,
    use: str | None = "auto",
    crs: str | int | None = None,
    length_unit: LengthUnit | None = None,
    speed_unit: SpeedUnit | None = None,
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
) -> STGraph:
    """Read a network of the General Modeling Network Specification (GMNS).

    Parameters
    ----------
    folder
        Holds `node.csv` and `link.csv`, and where there are `config.csv`, `geometry.csv`,
        `movement.csv` and `use_group.csv`.
    use
        Links and movements for this use are read, and those that name none: ``"auto"``,
        ``"bike"``, ``"walk"`` ... ``"all"`` or None reads all.
    crs
        CRS of a network whose `config.csv` names none. None is degrees where the numbers can be.
    length_unit, speed_unit
        Units of lengths and of free speeds. None: what `config.csv` says; without it, the unit
        in which lengths are what the lines measure, and km/h, or mph beside miles and feet.
    nodes
        ``"segments"``: links are nodes and turns edges; ``"junctions"``: junctions are nodes.
    u_turns
        Whether turning back onto the same street is a turn.
    speeds_kmh
        Speed by `facility_type`, in km/h, where links have none.

    Returns
    -------
    STGraph
        Without signal. Where `movement.csv` lists turns from a link, all others are forbidden.

    Raises
    ------
    DataError
        Lists everything that cannot be used.
    """
    report = Report()
    use = None if use == "all" else use
    check_unit("length_unit", length_unit, METRES, report)
    check_unit("speed_unit", speed_unit, KMH, report)
    given_crs = parse_crs(crs, report)
    place = _find_folder(folder, report)
    report.raise_errors(DataError, title=_TITLE)
    node = read_file(place, "node", report, ("node_id", "x_coord", "y_coord"))
    link = read_file(place, "link", report, ("link_id", "from_node_id", "to_node_id"))
    config = read_config(place, report)
    report.raise_errors(DataError, title=_TITLE)
    assert node is not None and link is not None  # noqa: S101, PT018  # otherwise there are errors
    junctions = _read_nodes(node, config, given_crs, report)
    report.raise_errors(DataError, title=_TITLE)
    assert junctions is not None  # noqa: S101
    groups = read_groups(place, report)
    links = _read_links(place, link, junctions, groups, use, report)
    report.raise_errors(DataError, title=_TITLE)
    assert links is not None  # noqa: S101
    raw, each = _to_raw(links, junctions, config, (length_unit, speed_unit), report)
    forbidden = find_forbidden(
        place, links.ids, np.asarray(junctions["node_id"]), (each, raw.source, raw.target),
        clean_ids(link.frame["link_id"]), groups, use, report,
    )  # fmt: skip
    raw = replace(raw, forbidden=forbidden)
    report.raise_errors(DataError, title=_TITLE)
    return finish_roads(
        raw, report=report, title=_TITLE, nodes=nodes, u_turns=u_turns, speeds_kmh=speeds_kmh
    )


def _find_folder(folder: str | Path, report: Report) -> Path:
    """Return the folder, also where one of its files is named."""
    if not isinstance(folder, str | Path):
        report.error("`folder`", f"is a {type(folder).__name__}", "pass a path")
        return Path()
    path = Path(folder)
    if path.is_file():
        path = path.parent
    if not path.is_dir():
        beside = [file.name for file in path.parent.glob("*")] if path.parent.is_dir() else []
        what = f"no such folder{nearest_name(path.name, beside)}"
        report.error(path.name, what, "check the path")
    return path


# ---------------------------------------------------------------- nodes


def _read_nodes(
    table: Table, config: Config, given: pyproj.CRS | None, report: Report
) -> gpd.GeoDataFrame | None:
    """Return the nodes as points; their index are numbers, `node_id` is as in the file."""
    ids = clean_ids(table.frame["node_id"])
    for wrong, what in (
        (ids == "", "nodes have no id"),
        (pd.Series(ids).duplicated().to_numpy() & (ids != ""), "nodes have an id twice"),
    ):
        if wrong.any():
            first = int(np.argmax(wrong))
            what = f"{int(wrong.sum())} {what}"
            report.error(table.at(first, "node_id"), what, "give every node its own")
    xy = np.column_stack([to_floats(table, f"{axis}_coord", report) for axis in "xy"])
    lacking = ~np.isfinite(xy).all(axis=1)
    if lacking.any() and not report.errors:
        first = int(np.argmax(lacking))
        what = f"{int(lacking.sum())} nodes have no place"
        report.error(table.at(first, "x_coord"), what, "complete x_coord and y_coord")
    crs = _settle_crs(xy, config, given, table, report)
    if report.errors or crs is None:
        return None
    numbers, _ = to_numbers(ids)
    columns = table.frame.drop(columns=["x_coord", "y_coord", "geometry"], errors="ignore")
    columns = keep_names(columns.assign(node_id=ids), ["kind"])
    index = pd.Index(numbers, name="junction_id")
    return gpd.GeoDataFrame(columns.set_axis(index), geometry=shapely.points(xy), crs=crs)


def _settle_crs(
    xy: npt.NDArray[np.float64],
    config: Config,
    given: pyproj.CRS | None,
    table: Table,
    report: Report,
) -> pyproj.CRS | None:
    """Return the CRS of the config or of the caller; degrees if numbers and column names fit."""
    if config.crs is not None and given is not None and config.crs != given:
        what = f"config.csv says {config.crs.name} but crs= says {given.name}"
        report.error(table.name, what, "leave crs= out")
        return None
    crs = config.crs or given
    known = xy[np.isfinite(xy).all(axis=1)]
    small = bool((np.abs(known) <= [180.0, 90.0]).all())
    if crs is None and not small:
        swapped = (np.abs(known) <= [90.0, 180.0]).all()
        hint = "latitude and longitude look swapped" if swapped else "these are no degrees"
        todo = "swap x_coord and y_coord" if swapped else "say which with crs= or in config.csv"
        report.error(table.name, f"nothing names a CRS, and {hint}", todo)
        return None
    if crs is None:
        what = "nothing names a CRS; the numbers can be degrees"
        report.warning(table.name, what, "taken as longitude and latitude (EPSG:4326)")
        return pyproj.CRS(4326)
    if crs.is_geographic and not small:
        swapped = (np.abs(known) <= [90.0, 180.0]).all()
        hint = "latitude and longitude look swapped" if swapped else "these look like metres"
        what = f"({known[0, 0]:g}, {known[0, 1]:g}) cannot be of {crs.name}, {hint}"
        report.error(table.name, what, "correct the CRS or the coordinates")
        return None
    return crs


# ---------------------------------------------------------------- links


@dataclass(frozen=True, eq=False)
class _Links:
    """Links that are read, as rows of the file and positions of nodes."""

    name: str  # of the folder
    table: Table
    rows: IntArray  # (L,) rows of the file
    ids: npt.NDArray[np.object_]  # (L,)
    source: IntArray  # (L,) positions of nodes
    target: IntArray
    directed: BoolArray  # (L,)
    lines: npt.NDArray[np.object_]  # (L,) from source to target


def _read_links(
    place: Path,
    table: Table,
    junctions: gpd.GeoDataFrame,
    groups: dict[str, set[str]],
    use: str | None,
    report: Report,
) -> _Links | None:
    """Return the links for a use, with their lines from node to node."""
    frame = table.frame
    allowed = is_allowed(frame, groups, use)
    if not allowed.any():
        uses = sorted(set(frame["allowed_uses"].astype("string").fillna("")))
        what = f"no link is for {use!r}; there are {shorten(uses)}"
        report.error(table.name, what, "choose another use=, or 'all'")
        return None
    if not allowed.all():
        count = int((~allowed).sum())
        what = f"{count} of {len(frame)} links are not for {use!r}"
        report.info(table.name, what, "they are left out", count=count)
    rows = np.flatnonzero(allowed)
    ids = clean_ids(frame["link_id"])[rows]
    twice = pd.Series(ids).duplicated().to_numpy() | (ids == "")
    if twice.any():
        first = int(rows[np.argmax(twice)])
        what = f"{int(twice.sum())} links have no id, or one that an earlier one has"
        report.error(table.at(first, "link_id"), what, "give every link its own")
    known = pd.Index(junctions["node_id"])
    ends = []
    for column in ("from_node_id", "to_node_id"):
        names = clean_ids(frame[column])[rows]
        at = np.asarray(known.get_indexer(pd.Index(names)), dtype=np.int64)
        if (at < 0).any():
            first = int(np.argmax(at < 0))
            what = f"{names[first]!r} is no node of node.csv ({int((at < 0).sum())} such links)"
            report.error(table.at(int(rows[first]), column), what, "correct it, or add the node")
        ends.append(at)
    directed = _read_flags(table, rows, report)
    if report.errors:
        return None
    lines = _read_lines(place, table, rows, ends[0], ends[1], junctions, report)
    return _Links(place.name, table, rows, ids, ends[0], ends[1], directed, lines)


def _read_flags(table: Table, rows: IntArray, report: Report) -> BoolArray:
    """Return whether each link is open from its first to its last node only."""
    for column in ("directed", "dir_flag"):  # older files have only the second
        if column in table.frame:
            texts = table.frame[column].iloc[rows].astype("string").fillna("").str.lower()
            texts = texts.str.strip().str.removesuffix(".0")
            known = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False), "": True}
            if column == "dir_flag":
                known["-1"] = True
            odd = ~texts.isin(known).to_numpy()
            if odd.any():
                first = int(np.argmax(odd))
                what = f"{texts.iloc[first]!r} is neither true nor false"
                report.error(table.at(int(rows[first]), column), what, "write 1 or 0")
                return np.ones(len(rows), dtype=bool)
            return texts.map(known).to_numpy(dtype=bool)
    report.warning(table.name, "has no column `directed`", "all links are taken as one-way")
    return np.ones(len(rows), dtype=bool)


def _read_lines(
    place: Path,
    table: Table,
    rows: IntArray,
    source: IntArray,
    target: IntArray,
    junctions: gpd.GeoDataFrame,
    report: Report,
) -> npt.NDArray[np.object_]:
    """Return the line of every link, straight where the files have none."""
    frame = table.frame.iloc[rows]
    text = pd.Series(pd.NA, index=frame.index, dtype="string")
    if "geometry" in frame:
        text = _stripped(frame["geometry"])
    if "geometry_id" in frame:
        stored = read_file(place, "geometry", report, ("geometry_id", "geometry"), optional=True)
        if stored is not None:
            shapes = _stripped(stored.frame["geometry"])
            shapes.index = pd.Index(clean_ids(stored.frame["geometry_id"]))
            shapes = shapes[~shapes.index.duplicated()]
            found = pd.Series(clean_ids(frame["geometry_id"]), index=frame.index).map(shapes)
            text = text.fillna(found.astype("string"))
    plain = text.astype(object).where(text.notna(), None).to_numpy()
    lines: Any = shapely.from_wkt(plain, on_invalid="ignore")
    wrong = shapely.is_missing(lines) & text.notna().to_numpy()
    wrong |= ~shapely.is_missing(lines) & (shapely.get_type_id(lines) != 1)
    if wrong.any():
        first = int(np.argmax(wrong))
        what = f"{str(text.iloc[first])[:40]!r} is no LINESTRING ({int(wrong.sum())} such)"
        todo = "a straight line is taken in its place"
        report.warning(table.at(int(rows[first]), "geometry"), what, todo, count=int(wrong.sum()))
    xy = shapely.get_coordinates(np.asarray(junctions.geometry))
    straight: Any = shapely.linestrings(np.stack([xy[source], xy[target]], axis=1))
    none = shapely.is_missing(lines) | wrong
    if none.any() and not none.all():
        count = int(none.sum())
        report.info(table.name, f"{count} links have no line", "taken as straight", count=count)
    lines = np.where(none, straight, lines)
    return _turn_round(lines, xy[source], xy[target])


def _stripped(column: pd.Series) -> pd.Series:
    """Return a column as text, missing where it is empty."""
    text = column.astype("string").str.strip()
    return text.mask(text == "")


def _turn_round(
    lines: npt.NDArray[np.object_],
    first: npt.NDArray[np.float64],
    last: npt.NDArray[np.float64],
) -> npt.NDArray[np.object_]:
    """Return lines from their first to their last node, whatever `dir_flag` says of them."""
    start = shapely.get_coordinates(shapely.get_point(lines, 0))
    stop = shapely.get_coordinates(shapely.get_point(lines, -1))
    ahead = np.linalg.norm(start - first, axis=1) + np.linalg.norm(stop - last, axis=1)
    back = np.linalg.norm(start - last, axis=1) + np.linalg.norm(stop - first, axis=1)
    against = back < ahead
    turned = lines.copy()
    turned[against] = shapely.reverse(lines[against])
    return turned


# ---------------------------------------------------------------- segments


def _to_raw(
    links: _Links,
    junctions: gpd.GeoDataFrame,
    config: Config,
    units: tuple[str | None, str | None],
    report: Report,
) -> tuple[RawRoads, IntArray]:
    """Return links as segments, two where they are open both ways, and the link of each."""
    n = len(links.rows)
    each = np.concatenate([np.arange(n), np.flatnonzero(~links.directed)])
    reverse = np.arange(len(each)) >= n
    order = np.lexsort((reverse, each))
    each, reverse = each[order], reverse[order]
    lines = links.lines[each].copy()
    lines[reverse] = shapely.reverse(lines[reverse])
    frame = links.table.frame.iloc[links.rows[each]].reset_index(drop=True)
    crs = junctions.crs or pyproj.CRS(4326)  # always the first: mypy cannot know
    length_m, length_unit = _lengths(links, each, crs, config, units[0], report)
    attributes = keep_names(frame.drop(columns=list(_KEPT_APART), errors="ignore"), _OURS)
    attributes = attributes.assign(oneway=links.directed[each])
    if "facility_type" in frame:
        attributes["highway"] = frame["facility_type"].astype("string")
    speed = _speeds(links, each, config, units[1], length_unit, report)
    if speed is not None:
        attributes["speed_kmh"] = speed
    numbers, plain = to_numbers(links.ids)
    if plain and links.directed.all():
        ids = numbers[each]
    else:
        ways = np.where(reverse, "back", "ahead")
        ids = number_texts(f"{a} {b}" for a, b in zip(links.ids[each], ways, strict=True))
    raw = RawRoads(
        junctions=junctions,
        source=np.where(reverse, links.target[each], links.source[each]),
        target=np.where(reverse, links.source[each], links.target[each]),
        geometry=lines,
        attributes=attributes,
        length_m=length_m,
        ids=ids,
        provenance={"connector": "gmns", "source": config.dataset or links.name},
    )
    return raw, each


def _lengths(
    links: _Links,
    each: IntArray,
    crs: pyproj.CRS,
    config: Config,
    unit: str | None,
    report: Report,
) -> tuple[npt.NDArray[np.float64] | None, str | None]:
    """Return the lengths of segments in metres, None to measure them, and the unit of the file."""
    if "length" not in links.table.frame:
        return None, None
    given = to_floats(links.table, "length", report)[links.rows]
    guess = guess_length_unit(given, measure_lines(links.lines, crs).length_m)
    said = unit or config.length_unit
    where = links.table.column("length")
    if said is None and guess is None:
        todo = "lengths are measured along the lines; length_unit= takes those of the file"
        report.warning(where, "nothing says its unit, and it fits none", todo)
        return None, None
    if said is not None and guess not in (None, said) and unit is None:
        what = f"config.csv says {said}, but the lengths are what the lines measure in {guess}"
        report.warning(where, what, f"{guess} is taken; length_unit={said!r} insists")
        said = guess
    elif said is None:
        report.info(where, f"nothing says its unit; it fits {guess}", "which is taken")
    metres = given * METRES[str(said or guess)]
    return metres[each], said or guess


def _speeds(
    links: _Links,
    each: IntArray,
    config: Config,
    unit: str | None,
    length_unit: str | None,
    report: Report,
) -> npt.NDArray[np.float64] | None:
    """Return the free speeds of segments in km/h, or None where there are none."""
    if "free_speed" not in links.table.frame:
        return None
    given = to_floats(links.table, "free_speed", report)[links.rows[each]]
    said = unit or config.speed_unit
    if said is None:
        said = "mph" if length_unit in ("mi", "ft") else "km/h"
        where = links.table.column("free_speed")
        report.warning(where, "nothing says its unit", f"taken as {said}; speed_unit= says another")
    return np.where(given > 0, given * KMH[said], np.nan)
