"""Any layer of lines as a road network: joined where their ends meet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from stgraph.errors import DataError, nearest_name
from stgraph.graph import IntArray, STGraph
from stgraph.neighbours._places import to_metres
from stgraph.report import Report
from stgraph_connectors._coordinates import parse_crs
from stgraph_connectors._ids import clean_ids, require_column, shorten
from stgraph_connectors._tables import read_table
from stgraph_connectors.roads._assemble import RawRoads, Reading, finish_roads
from stgraph_connectors.roads._columns import (
    BACKWARD,
    BOTH,
    CLOSED,
    FORWARD,
    find_back,
    find_column,
    has_twins,
    keep_names,
    read_directions,
    read_speeds,
)
from stgraph_connectors.roads._layers import LineLayer, clean_layer, read_layer
from stgraph_connectors.roads._names import to_numbers
from stgraph_connectors.roads._noding import Noded, node_lines
from stgraph_connectors.roads._segment_ids import number_texts
from stgraph_connectors.roads._units import KMH, SpeedUnit, check_unit

Direction = Literal["guess", "both", "forward", "backward"]

_TITLE = "cannot read roads"
_OURS = (
    "segment_id", "length_m", "speed_kmh", "speed_imputed", "lanes", "travel_time_s",
    "bearing_deg", "bearing_start_deg", "bearing_end_deg", "from_junction", "to_junction",
    "reverse_id", "kind", "highway", "oneway", "name",
)  # fmt: skip
_APART_M = 1.0  # ends of one given junction that are further apart are worth a warning
_NO_WORDS = ("", "no", "n", "false", "f", "none")  # of a level column such as `bridge`


def read_road_lines(
    lines: str | Path | gpd.GeoDataFrame | None = None,
    *,
    layer: str | None = None,
    dsn: str | None = None,
    schema: str = "public",
    table: str | None = None,
    crs: str | int | None = None,
    id_column: str | None = None,
    from_column: str | None = None,
    to_column: str | None = None,
    oneway: Direction = "guess",
    oneway_column: str | None = None,
    oneway_values: Mapping[str, str] | None = None,
    speed_column: str | None = None,
    speed_unit: SpeedUnit | None = None,
    lanes_column: str | None = None,
    class_column: str | None = None,
    name_column: str | None = None,
    level_column: str | None = None,
    snap_tolerance_m: float = 0.01,
    split_at_ends: bool = False,
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
) -> STGraph:
    """Read a layer of lines as a road network.

    Lines join where their ends meet, never where they merely cross. Columns not named are found
    by their names where that is safe, and the report says which were used.

    Parameters
    ----------
    lines
        GeoPackage, GeoParquet, shapefile, GeoJSON, FlatGeobuf, or a frame. None: a table in
        PostGIS, which `dsn` and `table` name.
    layer
        Layer of a GeoPackage. None takes the only one.
    dsn, schema, table
        libpq connection string, and a table or view there with a column of lines.
    crs
        CRS of a layer that does not name one.
    id_column
        Unique ids of the lines, from which the ids of segments are made: the ids themselves if
        they are whole numbers and every line is one segment. None makes ids from the places.
    from_column, to_column
        Ids of the junctions where lines begin and end, in place of joining ends that meet.
    oneway
        ``"guess"`` finds a column; without one, lines are open both ways, unless most have a
        twin the other way. Else every line is open as said.
    oneway_column
        Column of directions: yes/no, true/false, 1/0/-1, FT/TF/B, F/T/B, forward/backward.
    oneway_values
        What other values of it mean: ``{"A": "forward", "Z": "backward", "X": "closed"}``, and
        ``"both"``.
    speed_column, speed_unit
        Column of speeds, and the unit of plain numbers in it. None: found by name, km/h unless
        the name ends with another unit. Text such as ``30 mph`` says its own.
    lanes_column
        Column of lanes; of a line open both ways, those of both directions. Of this and the
        speed, a pair such as ``LANES_AB`` and ``LANES_BA`` gives each direction its own.
    class_column, name_column
        Columns of the type of road, which becomes `highway`, and of its name.
    level_column
        Column of heights such as OSM's `layer`, or of a yes such as `bridge`: lines of different
        levels do not join where both go on.
    snap_tolerance_m
        Ends at most this far apart are one junction, in metres.
    split_at_ends
        Cut a line where another one of its level ends on it.
    nodes
        ``"segments"``: directed segments are nodes and turns edges; ``"junctions"``: junctions
        are nodes and segments edges.
    u_turns
        Whether turning back onto the same street is a turn.
    speeds_kmh
        Speed by road type, in km/h, where the layer has none.

    Returns
    -------
    STGraph
        Segments or junctions in the CRS of the layer, without signal.

    Raises
    ------
    DataError
        Lists everything that cannot be used.
    OutputError
        The database cannot be reached.
    """
    report = Report()
    _check_options(oneway, speed_unit, snap_tolerance_m, (from_column, to_column), report)
    source = _read_source(lines, layer, (dsn, schema, table), crs, report)
    report.raise_errors(DataError, title=_TITLE)
    assert source is not None  # noqa: S101  # otherwise there is an error
    columns = source.table.frame.columns
    speed_kmh, speed = read_speeds(source.table, speed_column, speed_unit, report)
    back = find_back(speed, columns)
    meaning = _Meaning(
        *read_directions(source.table, oneway, oneway_column, oneway_values, report),
        speed_kmh,
        speed_kmh if back is None else read_speeds(source.table, back, speed_unit, report)[0],
        speed,
        find_column(lanes_column, "lanes_column", source.table, report),
        find_column(class_column, "class_column", source.table, report),
        find_column(name_column, "name_column", source.table, report),
    )
    _note_columns(meaning, source, report)
    ids = _read_ids(source, id_column, report)
    level = _read_levels(source, level_column, report)
    given = _read_junctions(source, from_column, to_column, report)
    report.raise_errors(DataError, title=_TITLE)
    if given is None:
        noded = node_lines(
            source.lines, level, source.crs, tolerance_m=snap_tolerance_m, split=split_at_ends,
            name=source.name, report=report,
        )  # fmt: skip
        junctions = _make_junctions(noded, source)
    else:
        noded, junctions = given
    raw = _make_segments(noded, junctions, source, meaning, ids, report)
    return finish_roads(
        raw, report=report, title=_TITLE, nodes=nodes, u_turns=u_turns, speeds_kmh=speeds_kmh
    )


# ---------------------------------------------------------------- options and source


@dataclass(frozen=True, eq=False)
class _Meaning:
    """What the columns of a layer mean, for every row."""

    direction: npt.NDArray[np.int64] | None
    oneway: Any | None  # column
    speed_kmh: npt.NDArray[np.float64]
    speed_back_kmh: npt.NDArray[np.float64]  # of the other direction, where the layer tells both
    speed: Any | None  # column
    lanes: Any | None  # column
    kind: Any | None  # column
    name: Any | None  # column


def _check_options(
    oneway: str,
    speed_unit: str | None,
    tolerance_m: float,
    ends: tuple[str | None, str | None],
    report: Report,
) -> None:
    """Note options that cannot be."""
    known = get_args(Direction)
    if oneway not in known:
        what = f"unknown value {oneway!r}{nearest_name(oneway, known)}"
        report.error("`oneway`", what, f"use one of {list(known)}")
    check_unit("speed_unit", speed_unit, KMH, report)
    if not (math.isfinite(tolerance_m) and tolerance_m >= 0):
        report.error("`snap_tolerance_m`", f"is {tolerance_m!r}", "use metres from 0 up")
    if (ends[0] is None) != (ends[1] is None):
        report.error("`from_column`", "needs `to_column`, and the other way", "name both or none")


def _read_source(
    lines: str | Path | gpd.GeoDataFrame | None,
    layer: str | None,
    stored: tuple[str | None, str, str | None],
    crs: str | int | None,
    report: Report,
) -> LineLayer | None:
    """Return the lines of a file, frame or database."""
    dsn, schema, table = stored
    if (lines is None) == (dsn is None):
        todo = "give a layer of lines, or `dsn` and `table` of a database"
        report.error("`lines`", "is missing" if dsn is None else "and `dsn` are both given", todo)
        return None
    if lines is not None:
        if table is not None:
            report.warning("`table`", f"is {table!r} but there is no `dsn`", "it was not used")
        return read_layer(lines, layer=layer, crs=crs, report=report)
    if dsn is None or table is None:
        report.error("`table`", "is missing", "name the table of the database that has the roads")
        return None
    from stgraph_connectors.roads._stored_lines import fetch_lines  # loads psycopg

    frame = fetch_lines(dsn, schema, table)
    read = read_table(frame, report, role=f"{schema}.{table}", text=None)
    return None if read is None else clean_layer(read, parse_crs(crs, report), report)


def _note_columns(meaning: _Meaning, source: LineLayer, report: Report) -> None:
    """Note what the columns were taken for."""
    used = {
        "direction": meaning.oneway, "speed": meaning.speed, "lanes": meaning.lanes,
        "type": meaning.kind, "name": meaning.name,
    }  # fmt: skip
    words = [f"{what} from `{column}`" for what, column in used.items() if column is not None]
    if words:
        report.info(source.name, ", ".join(words))


def _read_ids(source: LineLayer, column: str | None, report: Report) -> pd.Series | None:
    """Return the id of every line as text, or note ids that are missing or appear twice."""
    if column is None:
        return None
    table = source.table
    found = require_column(
        column, list(table.frame.columns), table=table, option="id_column", report=report
    )
    if found is None:
        return None
    ids = pd.Series(clean_ids(table.frame[found]))
    missing = (ids == "").to_numpy()
    twice = (ids.duplicated() & ~missing).to_numpy()
    for wrong, what in ((missing, "have no id"), (twice, "have an id that an earlier one has")):
        if wrong.any():
            count = int(wrong.sum())
            todo = "repair them, or leave id_column= out"
            place = table.at(int(np.argmax(wrong)), found)
            report.error(place, f"{count} lines {what}", todo, count=count)
    return ids.iloc[source.rows].reset_index(drop=True)


def _read_levels(source: LineLayer, column: str | None, report: Report) -> IntArray:
    """Return the level of every line, 0 where there is none."""
    level = np.zeros(len(source.lines), dtype=np.int64)
    if column is None:
        return level
    found = find_column(column, "level_column", source.table, report)
    if found is None:
        return level
    texts = source.table.frame[found].astype("string").fillna("").str.strip().str.lower()
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    words = np.where(texts.isin(_NO_WORDS), 0.0, 1.0)
    return np.asarray(np.where(np.isnan(numbers), words, numbers)[source.rows], dtype=np.int64)


# ---------------------------------------------------------------- junctions


def _make_junctions(noded: Noded, source: LineLayer) -> gpd.GeoDataFrame:
    """Return the places where lines meet, with ids that only depend on the place."""
    digits = 7 if source.crs.is_geographic else 3  # a centimetre, a millimetre
    places = np.round(noded.xy, digits) + 0.0
    texts = [
        f"{x:.{digits}f} {y:.{digits}f} {level}"
        for (x, y), level in zip(places, noded.level, strict=True)
    ]
    points = shapely.points(noded.xy)
    index = pd.Index(number_texts(texts), name="junction_id")
    return gpd.GeoDataFrame(geometry=points, index=index, crs=source.crs)


def _read_junctions(
    source: LineLayer, from_column: str | None, to_column: str | None, report: Report
) -> tuple[Noded, gpd.GeoDataFrame] | None:
    """Return lines between the junctions that columns name, placed where their lines end."""
    if from_column is None or to_column is None:
        return None
    table = source.table
    names: list[npt.NDArray[np.object_]] = []
    for option, column in (("from_column", from_column), ("to_column", to_column)):
        found = find_column(column, option, table, report)
        if found is None:
            return None
        texts = clean_ids(table.frame[found])[source.rows]
        missing = texts == ""
        if missing.any():
            place = table.at(int(source.rows[np.argmax(missing)]), found)
            what = f"{int(missing.sum())} lines name no junction"
            report.error(place, what, "complete them", count=int(missing.sum()))
        names.append(texts)
    both = np.concatenate(names)
    known, position = np.unique(both.astype(str), return_inverse=True)
    position = position.reshape(-1)
    ends = np.concatenate(
        [shapely.get_coordinates(shapely.get_point(source.lines, end)) for end in (0, -1)]
    )
    order = np.lexsort((ends[:, 1], ends[:, 0], position))
    first = order[np.searchsorted(position[order], np.arange(len(known)))]
    _note_spread(ends, position, ends[first], known, source, report)
    numbers, plain = to_numbers(known)
    columns = {} if plain else {"junction": known}
    index = pd.Index(numbers, name="junction_id")
    junctions = gpd.GeoDataFrame(
        columns, geometry=shapely.points(ends[first]), index=index, crs=source.crs
    )
    n = len(source.lines)
    noded = Noded(
        ends[first], np.zeros(len(known), np.int64), position[:n], position[n:], source.lines,
        np.arange(n), np.zeros(n, np.int64),
    )  # fmt: skip
    return noded, junctions


def _note_spread(
    ends: npt.NDArray[np.float64],
    position: IntArray,
    places: npt.NDArray[np.float64],
    known: npt.NDArray[Any],
    source: LineLayer,
    report: Report,
) -> None:
    """Note junctions whose lines do not end at one place."""
    away = np.linalg.norm(
        to_metres(ends, source.crs)[0] - to_metres(places[position], source.crs)[0], axis=1
    )
    far = np.unique(position[away > _APART_M])
    if len(far):
        what = f"at {len(far)} junctions lines end up to {away.max():.0f} m apart: "
        todo = "check from_column= and to_column=, and the direction of these lines"
        report.warning(source.name, what + shorten(known[far], 5), todo, count=len(far))


# ---------------------------------------------------------------- segments


def _make_segments(
    noded: Noded,
    junctions: gpd.GeoDataFrame,
    source: LineLayer,
    meaning: _Meaning,
    ids: pd.Series | None,
    report: Report,
) -> RawRoads:
    """Return a segment for every direction in which a line is open."""
    row = source.rows[noded.origin]
    direction = _directions(noded, meaning, row, source.name, report)
    ahead = np.flatnonzero((direction == BOTH) | (direction == FORWARD))
    back = np.flatnonzero((direction == BOTH) | (direction == BACKWARD))
    each = np.concatenate([ahead, back])
    reverse = np.concatenate([np.zeros(len(ahead), bool), np.ones(len(back), bool)])
    order = np.lexsort((reverse, each))
    each, reverse = each[order], reverse[order]
    lines = noded.lines[each].copy()
    lines[reverse] = shapely.reverse(lines[reverse])
    return RawRoads(
        junctions=junctions,
        source=np.where(reverse, noded.target[each], noded.source[each]),
        target=np.where(reverse, noded.source[each], noded.target[each]),
        geometry=lines,
        attributes=_attributes(source, meaning, row[each], direction[each], reverse),
        ids=None if ids is None else _segment_ids(ids, noded, source, each, reverse),
        lanes_of_both=find_back(meaning.lanes, source.table.frame.columns) is None,
        provenance={"connector": "road_lines", "source": source.name},
    )


def _directions(
    noded: Noded, meaning: _Meaning, row: IntArray, name: str, report: Report
) -> npt.NDArray[np.int64]:
    """Return the direction of every part."""
    if meaning.direction is not None:
        direction = meaning.direction[row]
        closed = int((direction == CLOSED).sum())
        if closed:
            what = f"{closed} lines are closed both ways"
            report.warning(name, what, "they are left out", count=closed)
        return direction
    if has_twins(noded.source, noded.target, noded.lines):
        what = "most lines have another one the other way"
        report.info(name, what, "each is taken as one direction; oneway='both' says otherwise")
        return np.full(len(row), FORWARD, dtype=np.int64)
    report.info(name, "no column of directions", "all lines are open both ways; oneway= says more")
    return np.full(len(row), BOTH, dtype=np.int64)


def _attributes(
    source: LineLayer,
    meaning: _Meaning,
    row: IntArray,
    direction: npt.NDArray[np.int64],
    reverse: npt.NDArray[np.bool_],
) -> pd.DataFrame:
    """Return the columns of the source and what they mean, a row for every segment."""
    frame = source.table.frame.drop(columns="geometry")
    given = frame.iloc[row].reset_index(drop=True)
    given.columns = given.columns.astype(str)
    table = keep_names(given, [name for name in _OURS if name not in ("name", "highway", "lanes")])
    table = table.assign(oneway=direction != BOTH)
    if meaning.speed is not None:
        speed_kmh = np.where(reverse, meaning.speed_back_kmh[row], meaning.speed_kmh[row])
        table = table.assign(speed_kmh=speed_kmh)
        if str(meaning.speed) == "speed_kmh" and "speed_imputed" in given:
            table["speed_imputed"] = given["speed_imputed"]  # written by us, guesses and all
    for name, column in (
        ("highway", meaning.kind), ("lanes", meaning.lanes), ("name", meaning.name)
    ):  # fmt: skip
        if column is not None and str(column) != name:
            table = keep_names(table, [name]).assign(**{name: given[str(column)]})
    lanes_back = find_back(meaning.lanes, given.columns)
    if lanes_back is not None:
        table["lanes"] = given[str(meaning.lanes)].where(~reverse, given[lanes_back])
    return table


def _segment_ids(
    ids: pd.Series,
    noded: Noded,
    source: LineLayer,
    each: IntArray,
    reverse: npt.NDArray[np.bool_],
) -> IntArray:
    """Return an id for each segment from the id of its line."""
    of_line = ids.iloc[noded.origin[each]].reset_index(drop=True)
    numbers, plain = to_numbers(of_line)
    if plain and not of_line.duplicated().any():
        return numbers
    part, way = source.part[noded.origin[each]], np.where(reverse, "back", "ahead")
    names = zip(of_line, part, noded.part[each], way, strict=True)
    return number_texts(" ".join(map(str, name)) for name in names)
