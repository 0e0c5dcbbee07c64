"""From the directed segments of any source to a road graph: clean, measured, with stable ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from stgraph.errors import DataError, nearest_name
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.neighbours import build_line_graph
from stgraph.neighbours._lines import measure_lines
from stgraph.report import Report
from stgraph_connectors.roads._segment_ids import number_segments
from stgraph_connectors.roads._speeds import (
    Float64Array,
    check_speeds,
    fill_speeds,
    parse_each,
    parse_lanes,
    parse_speed,
)

Reading = Literal["segments", "junctions"]

_WHERE = "roads"
_SHOWN = 5  # sizes of components listed


@dataclass(frozen=True, eq=False)
class RawRoads:
    """The directed segments of a source, as it gives them.

    `attributes` may have, in the words of OSM, `highway` (type), `maxspeed` (text), `lanes`
    (text), `oneway` and anything else; lists are joined. A column `speed_kmh` or `lanes` of
    numbers is taken as it is, missing where unknown; `speed_imputed` marks guesses among them.
    """

    junctions: gpd.GeoDataFrame  # Points indexed by int64 junction id, one CRS
    source: IntArray  # (E,) positions in junctions
    target: IntArray  # (E,)
    geometry: npt.NDArray[np.object_]  # (E,) LineStrings source -> target, CRS of junctions
    attributes: pd.DataFrame  # E rows
    length_m: Float64Array | None = None  # (E,) NaN where unknown; None: measured
    forbidden: IntArray = field(default_factory=lambda: np.zeros((0, 2), np.int64))  # (R, 2) edges
    ids: IntArray | None = None  # (E,) unique ids of the source; None: made from the junctions
    lanes_of_both: bool = False  # `lanes` of two-way streets counts both directions, as in OSM
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def take(self, chosen: BoolArray) -> RawRoads:
        """Return some of the segments; junctions stay."""
        position = np.where(chosen, np.cumsum(chosen) - 1, -1)
        forbidden = position[self.forbidden.reshape(-1, 2)]
        return replace(
            self,
            source=self.source[chosen],
            target=self.target[chosen],
            geometry=self.geometry[chosen],
            attributes=self.attributes[chosen].reset_index(drop=True),
            length_m=None if self.length_m is None else self.length_m[chosen],
            forbidden=forbidden[(forbidden >= 0).all(axis=1)],
            ids=None if self.ids is None else self.ids[chosen],
        )


def finish_roads(
    raw: RawRoads,
    *,
    report: Report,
    title: str,
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
) -> STGraph:
    """Return the road graph of the segments of a source.

    Parameters
    ----------
    raw
        Segments with positions, lines and attributes; nothing of it is changed.
    report
        What the reader has found so far; gets what is found here.
    title
        What cannot be read, for the error that lists the findings.
    nodes
        ``"segments"``: segments are nodes and turns are edges; ``"junctions"``: junctions are
        nodes and segments are edges.
    u_turns
        Whether turning back onto the same street is a turn (segments only).
    speeds_kmh
        Speed by road type, in km/h, where the source has none.

    Returns
    -------
    STGraph
        Without signal; the report is in ``provenance["findings"]``.

    Raises
    ------
    DataError
        Options cannot be used, or no segment is left.
    """
    _check_reading(nodes, report)
    report.raise_errors(DataError, title=title)
    raw = _clean(raw, report)
    if not len(raw.source) and not report.errors:
        report.error(_WHERE, "no road is left", "look at the area and the kinds of roads asked for")
    report.raise_errors(DataError, title=title)
    edges = _describe(raw, speeds_kmh or {}, report)
    report.raise_errors(DataError, title=title)
    used = np.zeros(len(raw.junctions), bool)
    used[raw.source] = used[raw.target] = True
    position = np.cumsum(used) - 1
    edge_index = position[np.stack([raw.source, raw.target])]
    _note_components(edge_index, int(used.sum()), edges["length_m"].to_numpy(), report)
    ids = edges["segment_id"].to_numpy()
    restrictions = ids[raw.forbidden].tolist()
    graph = STGraph(
        nodes=raw.junctions[used].assign(kind="junction"),
        edge_index=edge_index,
        edge_weight=edges["length_m"].to_numpy(dtype=np.float32),
        weight_unit="m",
        edges=edges,
        provenance={
            **raw.provenance,
            **({"restrictions": restrictions} if restrictions else {}),
            "findings": report.to_json(),
        },
    )
    return build_line_graph(graph, u_turns=u_turns) if nodes == "segments" else graph


def _check_reading(nodes: str, report: Report) -> None:
    """Note a reading of the network that there is not."""
    known = get_args(Reading)
    if nodes not in known:
        report.error(
            "`nodes`", f"is {nodes!r}{nearest_name(nodes, known)}", f"use one of {list(known)}"
        )


def _clean(raw: RawRoads, report: Report) -> RawRoads:
    """Return the segments that have a line with a length, each once; on a plane, not in 3-D."""
    lines = raw.geometry
    usable = shapely.get_type_id(lines) == 1  # a LineString
    usable[usable] = ~shapely.is_empty(lines[usable])
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    usable[owner[~np.isfinite(xy).all(axis=1)]] = False
    raw = _drop(raw, ~usable, "have no line, or one with coordinates that are no numbers", report)
    if shapely.has_z(raw.geometry).any():
        report.info(_WHERE, "lines have heights, which are left out")
        raw = replace(raw, geometry=shapely.force_2d(raw.geometry))
    raw = _drop(raw, shapely.length(raw.geometry) == 0, "have no length", report)
    if raw.ids is not None:
        return raw
    return _drop(raw, _find_twice(raw), "are there twice, line and direction alike", report)


def _find_twice(raw: RawRoads) -> BoolArray:
    """Tell which segments have the ends and the line of an earlier one."""
    ends = pd.Series(raw.source * len(raw.junctions) + raw.target)
    twice = np.zeros(len(ends), bool)
    parallel = np.flatnonzero(ends.duplicated(keep=False))
    shape = shapely.to_wkb(raw.geometry[parallel])
    twice[parallel] = pd.DataFrame({"ends": ends[parallel], "shape": shape}).duplicated()
    return twice


def _drop(raw: RawRoads, wrong: BoolArray, what: str, report: Report) -> RawRoads:
    """Return the segments without the wrong ones, and note how many those are."""
    if not wrong.any():
        return raw
    count = int(wrong.sum())
    first = {
        str(name): raw.attributes[name].iloc[int(np.argmax(wrong))]
        for name in ("osmid", "id", "name")
        if name in raw.attributes
    }
    hint = f"; the first is {first}" if first else ""
    report.warning(_WHERE, f"{count} segments {what}{hint}", "they are left out", count=count)
    return raw.take(~wrong)


def _describe(raw: RawRoads, speeds_kmh: Mapping[str, float], report: Report) -> gpd.GeoDataFrame:
    """Return the table of segments: what the source says, measures, speeds, lanes and ids."""
    crs = raw.junctions.crs
    if crs is None:
        report.error(_WHERE, "have no CRS", "name it, as in crs = 'EPSG:25832'")
        return gpd.GeoDataFrame()
    table = pd.DataFrame(
        {
            str(name): _flatten(column)
            for name, column in raw.attributes.items()
            if str(name) not in ("geometry", "segment_id")
        },
        index=pd.RangeIndex(len(raw.source)),
    )
    measured = measure_lines(raw.geometry, crs)
    given = np.full(len(table), np.nan) if raw.length_m is None else raw.length_m
    length_m = np.where(given > 0, given, measured.length_m)  # NaN is not above 0
    speed, imputed = _speeds(table, speeds_kmh, report)
    ids = number_segments(raw.junctions.index, raw.source, raw.target, raw.geometry)
    table = table.assign(
        length_m=length_m,
        speed_kmh=speed,
        speed_imputed=imputed,
        lanes=_lanes(table, both=raw.lanes_of_both),
        travel_time_s=length_m / (speed / 3.6),
        bearing_deg=measured.bearing_deg,
        bearing_start_deg=measured.bearing_start_deg,
        bearing_end_deg=measured.bearing_end_deg,
    )
    table.insert(0, "segment_id", ids if raw.ids is None else raw.ids)
    return gpd.GeoDataFrame(table, geometry=raw.geometry, crs=crs)


def _flatten(column: pd.Series) -> pd.Series:
    """Return a column with lists joined by semicolons, each value once, in their order."""
    if column.dtype != object:
        return column
    several = column.map(lambda value: isinstance(value, list | tuple | set))
    if not several.any():
        return column
    column = column.copy()
    column[several] = column[several].map(lambda v: ";".join(dict.fromkeys(map(str, v))))
    return column


def _speeds(
    table: pd.DataFrame, speeds_kmh: Mapping[str, float], report: Report
) -> tuple[Float64Array, BoolArray]:
    """Return the speed of each segment in km/h and whether it is a guess."""
    speed = np.full(len(table), np.nan)
    if "speed_kmh" in table:
        speed = pd.to_numeric(table["speed_kmh"], errors="coerce").to_numpy(np.float64)
        speed = np.where(speed > 0, speed, np.nan)
    if "maxspeed" in table:
        speed = np.where(np.isnan(speed), parse_each(table["maxspeed"], parse_speed), speed)
    kind = table["highway"] if "highway" in table else pd.Series("", index=table.index)
    check_speeds(speeds_kmh, set(map(str, kind.dropna().unique())), report)
    imputed = np.isnan(speed)
    if "speed_imputed" in table:  # a speed that the reader itself has guessed
        guessed = table["speed_imputed"].astype("string").str.lower().eq("true").fillna(False)
        imputed |= guessed.to_numpy(bool)
    if imputed.any():
        share = f"{imputed.mean():.0%}"
        report.info(_WHERE, f"{share} of the segments say no speed; they get that of their type")
    return (speed if report.errors else fill_speeds(speed, kind, speeds_kmh)), imputed


def _lanes(table: pd.DataFrame, *, both: bool) -> Float64Array:
    """Return the lanes of each direction, NaN where unknown."""
    if "lanes" not in table:
        return np.full(len(table), np.nan)
    lanes = parse_each(table["lanes"], parse_lanes)
    if both and "oneway" in table:
        two_way = ~table["oneway"].astype("string").str.lower().isin(["true", "yes", "1", "-1"])
        lanes = np.where(two_way, np.maximum(lanes / 2, 1.0), lanes)
    return lanes


def _note_components(
    edge_index: IntArray, n_nodes: int, length_m: Float64Array, report: Report
) -> None:
    """Note networks of several parts; all of them are kept."""
    links = csr_array(
        (np.ones(edge_index.shape[1]), (edge_index[0], edge_index[1])), (n_nodes,) * 2
    )
    n_parts, part = connected_components(links, directed=False)
    if n_parts == 1:
        return
    size = np.bincount(part)
    km = np.bincount(part[edge_index[0]], weights=length_m) / 1000
    order = np.argsort(-km)[:_SHOWN]
    parts = ", ".join(f"{size[i]} junctions with {km[i]:.1f} km" for i in order)
    more = f" and {n_parts - len(order)} more" if n_parts > len(order) else ""
    report.warning(
        _WHERE,
        f"the network falls into {n_parts} parts that no road joins: {parts}{more}",
        "all are kept; segments as nodes may fall into more, where no turn leads on",
        count=n_parts,
    )
