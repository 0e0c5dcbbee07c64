"""Which segments each field of a target names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from stgraph.errors import InputError
from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph.scenario.conditions import find_rows
from stgraph.scenario.streets import Streets, fold
from stgraph.scenario.target import Near

_INSIDE = 0.5  # share of the length that must lie in a polygon
_TIE_M = 0.5  # lines whose distances differ by less are equally near
_LONGEST_SIDE = 0.01  # degrees: longer ones are bent in other CRSs
_SHOWN = 5


def three_nearest(name: object, known: Iterable[object]) -> str:
    """Return the three known names most like one, as the end of a message."""
    folded: dict[str, str] = {}
    for each in known:
        folded.setdefault(fold(each), str(each))
    wanted = fold(name)
    holding = [each for each in folded if wanted and (wanted in each or each in wanted)]
    close = difflib.get_close_matches(wanted, list(folded), n=3, cutoff=0.3)
    best = list(dict.fromkeys([*close[:1], *sorted(holding, key=len), *close]))[:3]
    return f"the nearest are {', '.join(repr(folded[each]) for each in best)}" if best else ""


def shorten(values: Iterable[Any]) -> str:
    """Return the first of some values, and how many more there are."""
    values = list(values)
    text = ", ".join(str(value) for value in values[:_SHOWN])
    return text + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")


def find_edges(
    ids: Sequence[int], streets: Streets, among: BoolArray, report: Report, where: str
) -> BoolArray:
    """Find segments by id; those that were split are their parts."""
    at = pd.Index(streets.segment_id).get_indexer(pd.Index(list(ids)))
    unknown = [one for one, place in zip(ids, at, strict=True) if place < 0]
    if unknown:
        known = streets.segment_id[among]
        todo = f"use values of `segment_id`, such as {shorten(known[:3])}"
        report.error(where, f"no segment {shorten(unknown)}", todo, count=len(unknown))
    found = np.zeros(len(streets), dtype=np.bool_)
    found[at[at >= 0]] = True
    parts = found[np.maximum(streets.parent, 0)] & (streets.parent >= 0)
    gone = found & ~among
    gone[streets.parent[parts & among]] = False  # its parts stand for it
    if gone.any():
        ids_gone = streets.segment_id[gone]
        todo = "name roads after the operation that adds them, and not those turned round"
        report.error(where, f"segment {shorten(ids_gone)} is not there yet", todo)
    return found | parts


def find_osmid(
    ids: Sequence[int], streets: Streets, among: BoolArray, report: Report, where: str
) -> BoolArray:
    """Find segments by the OpenStreetMap way that they are, or are joined of."""
    column = streets.column("osmid")
    if column is None:
        report.error(where, "the network has no column `osmid`", "use another kind of target")
        return np.zeros(len(streets), dtype=np.bool_)
    each = _words(column.astype("string").str.removesuffix(".0"))
    known = set(each[among[each.index.to_numpy()]])
    unknown = [one for one in ids if str(one) not in known]
    if unknown:
        todo = "are they ways (not nodes), of roads that cars may use, in this area?"
        report.error(where, f"no segment is of way {shorten(unknown)}", todo, count=len(unknown))
    return _rows(each, {str(one) for one in ids}, len(streets))


def find_name(
    name: str, streets: Streets, among: BoolArray, report: Report, where: str
) -> BoolArray:
    """Find segments by the whole name of the street."""
    column = streets.column("name")
    none = np.zeros(len(streets), dtype=np.bool_)
    if column is None or not column.notna().any():
        report.error(where, "the network has no names", "use another kind of target")
        return none
    each = _words(column)
    folded = each.map(fold)
    found = _rows(folded, {fold(name)}, len(streets))
    # names that are themselves lists, as given
    found |= (column.map(fold, na_action="ignore") == fold(name)).to_numpy(dtype=np.bool_)
    if not (found & among).any():
        hint = three_nearest(name, each[among[each.index.to_numpy()]].unique())
        report.error(where, f"no street is called {name!r}", hint or "look at column `name`")
        return none
    return found


def find_class(
    classes: Sequence[str], streets: Streets, among: BoolArray, report: Report, where: str
) -> BoolArray:
    """Find segments by their class; of several that one has, any counts."""
    each = _words(pd.Series(streets.values.road_class)).map(fold)
    known = sorted(set(each[among[each.index.to_numpy()]]))
    for one in classes:
        if fold(one) not in known:
            todo = f"use one of {shorten(known)}" if known else "the network has no classes"
            hint = three_nearest(one, known)
            report.error(where, f"no road is of class {one!r}", f"{hint}; {todo}".lstrip("; "))
    return _rows(each, {fold(one) for one in classes}, len(streets))


def _words(column: pd.Series) -> pd.Series:
    """Return each text of a column, several joined by semicolons apart, by row."""
    text = column.astype("string").reset_index(drop=True).dropna()
    text = text[text != ""]
    several = text.str.contains(";", regex=False)
    split = text[several].str.split(";").explode().str.strip()
    return pd.concat([text[~several], split]).astype(object)


def _rows(each: pd.Series, wanted: set[str], count: int) -> BoolArray:
    """Return the rows that have one of some words."""
    found = np.zeros(count, dtype=np.bool_)
    found[each.index.to_numpy()[each.isin(wanted).to_numpy()]] = True
    return found


def find_where(
    condition: str, streets: Streets, among: BoolArray, report: Report, where: str
) -> BoolArray:
    """Find segments by a condition on their columns."""
    values = streets.values
    complete = {
        "segment_id": streets.segment_id,
        "length_m": streets.length_m,
        "speed_kmh": values.speed_kmh,
        "lanes": values.lanes,
        "capacity_vph": values.capacity_vph,
        "road_class": values.road_class,
    }
    table = {str(name): streets.table[name] for name in streets.table}
    table |= {name: pd.Series(column) for name, column in complete.items()}
    try:
        found = find_rows(condition, table, len(streets))
    except InputError as error:
        report.error(where, str(error), "such as \"lanes >= 2 and road_class == 'primary'\"")
        return np.zeros(len(streets), dtype=np.bool_)
    if not (found & among).any():
        report.error(where, f"{condition!r} holds for no segment", "look at the columns in QGIS")
    return found


def find_inside(
    polygon: str | Path, streets: Streets, among: BoolArray, report: Report, where: str
) -> BoolArray:
    """Find segments of which at least half the length lies in polygons."""
    found = np.zeros(len(streets), dtype=np.bool_)
    shape = _read_polygon(polygon, streets, report, where)
    if shape is None:
        return found
    shapely.prepare(shape)  # as it is: on a plane its long sides would be other lines
    lines = streets.lines
    touching = np.flatnonzero(shapely.intersects(shape, lines))
    inside = shapely.contains_properly(shape, lines[touching])
    found[touching[inside]] = True
    part = touching[~inside]
    share = shapely.length(shapely.intersection(lines[part], shape)) / shapely.length(lines[part])
    found[part] = share >= _INSIDE
    if not (found & among).any():
        x0, y0, x1, y1 = shapely.bounds(shape)
        a0, b0, a1, b1 = shapely.total_bounds(streets.lines)
        what = f"no segment lies inside; it spans {x0:.6g} {y0:.6g} to {x1:.6g} {y1:.6g}"
        todo = f"the roads span {a0:.6g} {b0:.6g} to {a1:.6g} {b1:.6g}"
        if x0 <= b1 and b0 <= x1 and y0 <= a1 and a0 <= y1 and not (x0 <= a1 and a0 <= x1):
            todo += "; are longitude and latitude swapped?"
        report.error(where, what, todo)
    return found


def _read_polygon(polygon: str | Path, streets: Streets, report: Report, where: str) -> Any:
    """Return the polygons of a text or file in the CRS of the roads, or note why not."""
    if streets.from_degrees is None:
        report.error(where, "the roads have no place on Earth", "read them with crs=")
        return None
    text = str(polygon).strip()
    if text.upper().startswith(("POLYGON", "MULTIPOLYGON")):
        shape = shapely.from_wkt(text, on_invalid="ignore")
        if shape is None or shape.is_empty:
            report.error(where, f"is no WKT: {text[:60]!r}", "such as POLYGON((lon lat, ...))")
            return None
        assert streets.crs is not None  # noqa: S101 - else there was an error
        if not streets.crs.is_geographic:
            shape = shapely.segmentize(shape, _LONGEST_SIDE)
        return streets.place(shapely.make_valid(shape))
    if not Path(text).exists():
        todo = "name a GeoJSON, GeoPackage or shapefile, or write POLYGON((lon lat, ...))"
        report.error(where, f"there is no file {text[:80]!r}", todo)
        return None
    return _read_polygon_file(Path(text), streets, report, where)


def _read_polygon_file(path: Path, streets: Streets, report: Report, where: str) -> Any:
    """Return the polygons of a file in the CRS of the roads, or note why not."""
    import geopandas as gpd
    import pyogrio

    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if "olygon" in str(kind)]
        frame = gpd.read_file(path, layer=layers[0]) if layers else gpd.GeoDataFrame(geometry=[])
    except (OSError, RuntimeError, ValueError) as error:
        report.error(where, f"{str(path)!r} cannot be read: {error}", "give a layer of polygons")
        return None
    frame = frame[frame.geom_type.isin(["Polygon", "MultiPolygon"])]
    if not len(frame):
        report.error(where, f"{str(path)!r} has no polygons", "give a layer of polygons")
        return None
    if frame.crs is None:
        report.error(where, f"{str(path)!r} names no CRS", "save it with one, such as EPSG:4326")
        return None
    assert streets.crs is not None  # noqa: S101 - else there was an error
    return frame.geometry.make_valid().to_crs(streets.crs).union_all()


def find_near(
    near: Near, streets: Streets, among: BoolArray, report: Report, where: str
) -> BoolArray:
    """Find the segment nearest to a point, and its twin where that is as near."""
    found = np.zeros(len(streets), dtype=np.bool_)
    if streets.from_degrees is None:
        report.error(where, "the roads have no place on Earth", "read them with crs=")
        return found
    rows = np.flatnonzero(among)
    if not len(rows):
        return found
    point = streets.to_plane(streets.place(shapely.Point(near.lon, near.lat)))
    distance = shapely.distance(point, streets.flat_lines[rows])
    best = float(distance.min())
    if best > near.max_m:
        nearest = describe(int(rows[np.argmin(distance)]), streets)
        what = f"no segment within {near.max_m:g} m; the nearest, {nearest}, is {best:.0f} m away"
        todo = "move the point, or raise `max_m`"
        if best > 100_000:
            todo = "are longitude and latitude swapped?"
        report.error(where, what, todo)
        return found
    hits = rows[distance <= best + _TIE_M]
    others = hits[(hits != hits[0]) & (hits != streets.twin[hits[0]])]
    if len(others):
        each = [describe(int(row), streets) for row in hits]
        what = f"{len(hits)} segments are equally near ({best:.1f} m): {shorten(each)}"
        report.error(where, what, "move the point along one of them, or use edges")
        return found
    found[hits] = True
    return found


def describe(row: int, streets: Streets) -> str:
    """Return a segment in words: id, name or class."""
    name = streets.column("name")
    text = "" if name is None or pd.isna(name.iloc[row]) else f" {str(name.iloc[row])!r}"
    if not text and streets.values.road_class[row]:
        text = f" ({streets.values.road_class[row]})"
    return f"{streets.segment_id[row]}{text}"


def find_between(
    ends: tuple[str, str], streets: Streets, among: BoolArray, report: Report, where: str
) -> BoolArray:
    """Find the segments of the fastest way from a junction to another, without traffic."""
    found = np.zeros(len(streets), dtype=np.bool_)
    at = streets.junction_names.get_indexer(pd.Index(list(ends)))
    for name, position in zip(ends, at, strict=True):
        if position < 0:
            hint = three_nearest(name, streets.junction_names)
            report.error(where, f"no junction {name!r}", hint or "use ids of the nodes")
    if (at < 0).any():
        return found
    if at[0] == at[1]:
        report.error(where, f"begins and ends at junction {ends[0]!r}", "name two junctions")
        return found
    row_of, before = _search(int(at[0]), streets, among)
    place = int(at[1])
    while place != at[0]:
        if before[place] < 0:
            report.error(where, f"there is no way from {ends[0]!r} to {ends[1]!r}", "swap them?")
            return np.zeros(len(streets), dtype=np.bool_)
        found[row_of[int(before[place]), place]] = True
        place = int(before[place])
    return found


def _search(
    start: int, streets: Streets, among: BoolArray
) -> tuple[dict[tuple[int, int], int], IntArray]:
    """Return the fastest segment between junctions, and the junction before each on its way."""
    seconds = streets.length_m / (streets.speed_kmh / 3.6)
    rows = np.flatnonzero(among & (streets.source != streets.target))
    order = rows[np.argsort(-seconds[rows], kind="stable")]  # the fastest comes last and stays
    source, target = streets.source[order], streets.target[order]
    row_of = dict(zip(zip(source.tolist(), target.tolist(), strict=True), order.tolist(),
                      strict=True))  # fmt: skip
    best = np.fromiter(row_of.values(), dtype=np.int64, count=len(row_of))
    n_nodes = streets.roads.n_nodes
    ends = (streets.source[best], streets.target[best])
    graph = csr_array((seconds[best], ends), shape=(n_nodes, n_nodes))
    _, before = dijkstra(graph, directed=True, indices=np.array([start]), return_predecessors=True)
    return row_of, np.asarray(before[0], dtype=np.int64)
