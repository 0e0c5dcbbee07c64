"""Roads of a graph file that we wrote ourselves, in either reading."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely

from stgraph.errors import DataError, GraphError
from stgraph.graph import BoolArray, IntArray, STGraph
from stgraph.neighbours._lines import measure_lines
from stgraph.neighbours._turns import all_turns
from stgraph.neighbours.line_graph import build_line_graph
from stgraph.report import Report
from stgraph_connectors.graph_file import read_graph
from stgraph_connectors.roads._assemble import Reading
from stgraph_connectors.sinks import _gpkg

_TITLE = "cannot read roads"
_ENDS = ("from_junction", "to_junction")


def is_stored(path: str | Path) -> bool:
    """Tell whether a GeoPackage is one of ours, with nodes and edges."""
    try:
        with closing(_gpkg.open_to_read(Path(path))) as db:
            return _gpkg.read_document(db) is not None
    except sqlite3.Error:
        return False


def read_stored(
    path: str | Path,
    *,
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
) -> STGraph:
    """Read the roads of a graph file, as they are or turned into the other reading.

    Parameters
    ----------
    path
        A ``.gpkg`` that the sink `graph` wrote, of a road network in either reading.
    nodes
        What the nodes shall be. Of stored segments, junctions are made from their columns
        `from_junction` and `to_junction`; turns that have no edge are forbidden then.
    u_turns
        Whether turning back onto the same street is a turn. Stored segments bring their turns.
    speeds_kmh
        Has no use: the speeds are in the file.

    Returns
    -------
    STGraph
        Without signal.

    Raises
    ------
    DataError
        The file cannot be read, holds no roads, or an option does not fit what is stored.
    """
    name = Path(path).name
    report = Report()
    if speeds_kmh is not None:
        what = "has no use: the segments of a graph file have their speeds"
        report.error("`speeds_kmh`", what, "give it when the file is built")
    stored = read_graph(path)
    held = _held(stored)
    if held is None:
        what = f"is a graph of {', '.join(sorted(set(stored.nodes['kind'].astype(str))))}"
        report.error(name, what, "name one that was built from roads, or a file of roads")
    elif held == "segments" and nodes == "segments" and u_turns and not _turns_back(stored):
        what = "asks for turns that are not among those of the stored segments"
        report.error("`u_turns`", what, "build the file with u_turns=true, or nodes=junctions")
    report.raise_errors(DataError, title=_TITLE)
    if held == nodes:
        return stored
    if nodes == "segments":
        try:
            return build_line_graph(stored, u_turns=u_turns)
        except GraphError as error:
            raise DataError(f"{name}: {error}") from error
    junctions = _to_junctions(stored, name, report)
    report.raise_errors(DataError, title=_TITLE)
    assert junctions is not None  # noqa: S101 - else there was an error
    return junctions


def _held(graph: STGraph) -> Reading | None:
    """Return in which reading a graph holds roads, None if it holds none."""
    if not graph.n_nodes:
        return None
    kinds = set(graph.nodes["kind"])
    if "junction" in kinds and "segment" not in kinds and graph.n_edges:
        return "junctions"
    lines = shapely.get_type_id(np.asarray(graph.nodes.geometry, dtype=object)) == 1
    return "segments" if lines.all() and "junction" not in kinds else None


def _turns_back(graph: STGraph) -> bool:
    """Tell whether a graph of segments was built with U-turns."""
    return bool(dict(graph.provenance.get("graph", {})).get("u_turns"))


# ---------------------------------------------------------------- from segments to junctions


def _to_junctions(segments: STGraph, name: str, report: Report) -> STGraph | None:
    """Return the junctions between segments as nodes, or note what they lack."""
    ends = _read_ends(segments, f"{name}, layer `nodes`", report)
    if ends is None:
        return None
    ids, position = np.unique(ends, return_inverse=True)
    source, target = position.reshape(2, -1).astype(np.int64)
    crs = cast("pyproj.CRS", segments.nodes.crs)  # there is one, else there are no ends
    lines = np.asarray(segments.nodes.geometry, dtype=object)
    points = np.full(len(ids), None, dtype=object)
    for at, junction in ((-1, target), (0, source)):
        points[junction] = shapely.get_point(lines, at)
    table = segments.nodes.drop(columns=[*_ENDS, "kind", "reverse_id"], errors="ignore")
    table = table.reset_index(names="segment_id")
    if "length_m" not in table:
        table["length_m"] = measure_lines(lines, crs).length_m
    kept = {key: note for key, note in segments.provenance.items() if key != "graph"}
    forbidden = _forbidden(segments, source, target, len(ids))
    if len(forbidden):
        kept["restrictions"] = segments.node_ids.to_numpy()[forbidden].tolist()
    index = pd.Index(ids, name="junction_id")
    return STGraph(
        nodes=gpd.GeoDataFrame({"kind": "junction"}, geometry=points, index=index, crs=crs),
        edge_index=np.stack([source, target]),
        edge_weight=table["length_m"].to_numpy(dtype=np.float32),
        weight_unit="m",
        edges=table,
        zone=segments.zone,
        provenance=kept,
    )


def _read_ends(segments: STGraph, where: str, report: Report) -> Any:
    """Return the junctions from which and to which segments run, (2, S), or note none."""
    if segments.nodes.crs is None:
        report.error(where, "has no CRS", "build the file from roads that name one")
        return None
    missing = [column for column in _ENDS if column not in segments.nodes]
    todo = "fill them in, or build the file with nodes=junctions"
    if missing:
        report.error(where, f"has no column {missing[0]!r}, so junctions are not known", todo)
        return None
    ends = segments.nodes[list(_ENDS)].apply(pd.to_numeric, errors="coerce")
    empty = ends.isna().to_numpy().any(axis=1)
    if empty.any():
        first, count = segments.node_ids[int(np.argmax(empty))], int(empty.sum())
        what = f"{count} segments name no junctions, {first} is the first"
        report.error(where, what, todo, count=count)
        return None
    return ends.to_numpy(dtype=np.int64).T


def _forbidden(segments: STGraph, source: IntArray, target: IntArray, n: int) -> IntArray:
    """Return the turns that junctions would allow and stored segments have not, (R, 2).

    U-turns are among them only where the stored segments have some.
    """
    before, after = all_turns(source, target, n)
    size = segments.n_nodes
    missing: BoolArray = ~np.isin(
        before * size + after, segments.edge_index[0] * size + segments.edge_index[1]
    )
    if not _turns_back(segments) and "reverse_id" in segments.nodes:
        back = segments.node_ids.get_indexer(pd.Index(segments.nodes["reverse_id"].fillna(-1)))
        missing &= back[before] != after
    return np.stack([before[missing], after[missing]], axis=1)
