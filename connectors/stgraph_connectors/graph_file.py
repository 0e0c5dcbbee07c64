"""Read a graph from a GeoPackage with nodes and edges, as written or as edited in QGIS."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pyproj import CRS

from stgraph.errors import DataError, nearest_name
from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph_connectors.sinks import _gpkg
from stgraph_connectors.sinks._document import as_written, parse_document
from stgraph_connectors.sinks._files import existing_file
from stgraph_connectors.sinks._graph_rows import Changes, Rows, find_changes, read_rows
from stgraph_connectors.sinks._tables import decode_table
from stgraph_connectors.sinks.geopackage import read_geopackage

_ENDS = ("source", "target")
_FOREIGN = -2  # position of an end that names no node
Bools = npt.NDArray[np.bool_]


def read_graph(path: str | Path) -> STGraph:
    """Read the nodes and edges of a GeoPackage that `write_graph` wrote, edited or not.

    What was edited, added or deleted is taken as it is now, checked, and told in the report. Edges
    of a deleted node are left out. An empty `weight` or `length_m` is measured along the line.

    Parameters
    ----------
    path
        The ``.gpkg`` file; one of the sink `geopackage` is read with its signal.

    Returns
    -------
    STGraph
        Without signal. Equal to the graph that was written where nothing was edited.

    Raises
    ------
    DataError
        The file is missing, damaged, of other software, or was edited into something that is no
        graph: the message lists every problem.
    """
    file = existing_file(path)
    source = repr(str(path))
    try:
        with closing(_gpkg.open_to_read(file)) as db:
            document = parse_document(_gpkg.read_document(db), source=source)
            if "graph_file" not in document:
                return read_geopackage(file)
            with as_written(source):
                return _read(db, document, file.name)
    except sqlite3.Error as error:
        raise DataError(f"{source} is no readable graph file ({error}); write it again") from error


def _read(db: sqlite3.Connection, document: dict[str, Any], name: str) -> STGraph:
    """Return the graph of an open file, after all checks."""
    report = Report()
    columns = document["columns"]
    layers = {layer: read_rows(db, layer) for layer in (_gpkg.NODES, _gpkg.EDGES)}
    changes = {
        layer: find_changes(db, layer, rows, dict.fromkeys(columns[layer]))
        for layer, rows in layers.items()
    }
    for layer, rows in layers.items():
        where = f"{name}, layer `{layer}`"
        _check_columns(rows, columns[layer], where, report)
        _tell(changes[layer], where, report)
        _check_crs(db, layer, document["crs"], where, report)
    report.raise_errors(DataError, title=f"{name} is no graph any more")
    nodes = _decode_nodes(layers[_gpkg.NODES], document, f"{name}, layer `nodes`", report)
    parts = _decode_edges(layers, changes, document, name, report)
    report.raise_errors(DataError, title=f"{name} is no graph any more")
    edge_index, weight, edges = _measure(parts, document, f"{name}, layer `edges`", report)
    report.raise_errors(DataError, title=f"{name} is no graph any more")
    provenance = _provenance(document, nodes, edges, changes, name, report)
    return STGraph(
        nodes=nodes,
        edge_index=edge_index,
        edge_weight=weight,
        weight_unit=document["weight_unit"],
        edges=edges,
        zone=document["zone"],
        provenance=provenance,
    )


# ---------------------------------------------------------------------------- what was changed


def _check_columns(rows: Rows, written: list[str], where: str, report: Report) -> None:
    """Note columns that are gone; without some of them there is no graph."""
    for column in written:
        if column in rows.columns:
            continue
        what = f"has no column `{column}` any more{nearest_name(column, rows.columns)}"
        if column in ("node_id", "source", "target", "weight"):
            report.error(where, what, "undo its deletion, or write the file again")
        else:
            report.warning(where, what, "read without it")


def _check_crs(
    db: sqlite3.Connection, layer: str, crs: str | None, where: str, report: Report
) -> None:
    """Note a layer whose coordinates are no longer in the CRS they were written in."""
    query = (
        "SELECT organization, organization_coordsys_id FROM gpkg_geometry_columns "
        "JOIN gpkg_spatial_ref_sys USING (srs_id) WHERE table_name = ?"
    )
    row = db.execute(query, (layer,)).fetchone()
    expected = "EPSG:4326" if crs is None else crs
    if row is None:
        report.error(where, "is no layer of this file any more", "write the file again")
    elif expected.startswith("EPSG:") and f"{row[0].upper()}:{row[1]}" != expected:
        what = f"is in {row[0]}:{row[1]} and was written in {expected}"
        report.error(where, what, "save it in the CRS that it had, or write the file again")


def _tell(changes: Changes, where: str, report: Report) -> None:
    """Note how many rows were added, edited, moved and deleted."""
    for count, what, todo in (
        (int(changes.added.sum()), "rows were added", "read as they are"),
        (int(changes.edited.sum()), "rows have other attributes", "read as they are"),
        (int(changes.moved.sum()), "rows have another geometry", _moved(where)),
        (changes.n_deleted, "rows were deleted", "they are left out"),
    ):
        if count:
            text = f"{count} {what} since the file was written"
            report.info(where, text, todo, count=count)


def _moved(where: str) -> str:
    """Return what becomes of lengths when a geometry was moved."""
    if where.endswith("`nodes`"):
        return "read as it is; lines of edges do not follow"
    return "read as it is; `weight` and `length_m` stay: empty them to have them measured"


# -------------------------------------------------------------------------------------- parts


def _decode_nodes(
    rows: Rows, document: dict[str, Any], where: str, report: Report
) -> gpd.GeoDataFrame:
    """Return the node table."""
    notes, n_rows = document["nodes"], len(rows.fids)
    ids = pd.Series(rows.columns["node_id"], dtype=object)
    if n_rows == 0:
        report.error(where, "has no node left", "a graph needs one; write the file again")
    if ids.isna().any():
        fid = int(rows.fids[int(np.argmax(ids.isna()))])
        report.error(where, f"fid {fid} has no `node_id`", "give it one of its own")
    twice = ids[ids.duplicated() & ids.notna()]
    if len(twice):
        what = f"the `node_id` {twice.iloc[0]!r} is there twice"
        report.error(where, what, "give every node an id of its own", count=len(twice))
    table = _decode(rows, notes["columns"], document["columns"][_gpkg.NODES])
    index = pd.Index(decode_table(rows.columns, [notes["id"]], n_rows=n_rows).iloc[:, 0])
    if (
        notes["id"]["dtype"].startswith("int")
        and index.dtype.kind not in "iu"
        and not report.errors
    ):
        word = next(value for value in ids if not isinstance(value, int))
        what = f"`node_id` must be whole numbers, as they were written; found {word!r}"
        report.error(where, what, "correct it")
    table.index = index.rename(notes["id_name"])
    shapes = _shapes(rows, np.array(notes["multi"], dtype=np.int64) + 1)
    geometry = gpd.GeoSeries(shapes, index=table.index, crs=document["crs"])
    table.insert(min(notes["geometry_at"], table.shape[1]), "geometry", geometry)
    if "kind" in table and table["kind"].isna().any():
        known = table["kind"].dropna()
        table["kind"] = table["kind"].fillna(known.mode().iloc[0] if len(known) else "station")
    return gpd.GeoDataFrame(table, geometry="geometry", crs=document["crs"])


class _Edges(NamedTuple):
    """The edges that are left, before their empty cells are filled."""

    ends: npt.NDArray[np.int64]  # (2, E)
    weight: npt.NDArray[np.float64]  # (E,) NaN where the cell is empty
    table: pd.DataFrame  # E rows
    shapes: npt.NDArray[np.object_]  # (E,)
    fids: npt.NDArray[np.int64]  # (E,)
    bare: Bools  # (E,) drawn straight, without a line of its own


def _decode_edges(
    layers: Mapping[str, Rows],
    changes: Mapping[str, Changes],
    document: dict[str, Any],
    name: str,
    report: Report,
) -> _Edges:
    """Return ends, weights and attributes of the edges whose nodes are there."""
    rows, change, notes = layers[_gpkg.EDGES], changes[_gpkg.EDGES], document["edges"]
    where = f"{name}, layer `edges`"
    positions = {node: i for i, node in enumerate(layers[_gpkg.NODES].columns["node_id"])}
    ends = np.array(
        [[positions.get(end, _FOREIGN) for end in rows.columns[key]] for key in _ENDS],
        dtype=np.int64,
    ).reshape(2, -1)
    foreign = (ends == _FOREIGN).any(axis=0)
    orphans = foreign & ~change.added & ~change.edited & (changes[_gpkg.NODES].n_deleted > 0)
    if orphans.any():
        count = int(orphans.sum())
        report.warning(where, f"{count} edges run to a deleted node", "left out", count=count)
    lost = foreign & ~orphans
    if lost.any():
        row = int(np.argmax(lost))
        names = [rows.columns[key][row] for key in _ENDS]
        report.error(
            where,
            f"fid {rows.fids[row]} runs from {names[0]!r} to {names[1]!r}, which are not both a "
            "`node_id`",
            "fill in `source` and `target`, or add the node",
            count=int(lost.sum()),
        )
    kept = np.flatnonzero(~foreign)
    codes = [*notes["index"], *(notes["table"] or [])]
    table = _decode(rows, codes, document["columns"][_gpkg.EDGES]).iloc[kept]
    shapes = _shapes(rows, np.array(notes.get("multi", []), dtype=np.int64) + 1)
    bare = np.isin(rows.fids, notes.get("straight", [])) & ~change.moved
    cells = pd.Series(rows.columns["weight"], dtype=object)
    weight = pd.to_numeric(cells, errors="coerce")
    words = ((cells.notna() & weight.isna()) | np.isinf(weight.astype(float))).to_numpy(dtype=bool)
    if words.any():
        row = int(np.argmax(words))
        what = f"fid {rows.fids[row]} has the `weight` {cells[row]!r}"
        report.error(where, what, "give a finite number", count=int(words.sum()))
    return _Edges(
        ends[:, kept], weight.to_numpy(dtype=np.float64)[kept], table.reset_index(drop=True),
        shapes[kept], rows.fids[kept], bare[kept],
    )  # fmt: skip


def _decode(rows: Rows, codes: list[dict[str, Any]], written: list[str]) -> pd.DataFrame:
    """Return the attributes as they were typed, and behind them columns that somebody added."""
    there = [code for code in codes if code["name"] in rows.columns]
    arrays = dict(rows.columns)
    for code in there:  # somebody emptied cells of yes/no
        if code["codec"] == "plain" and code["dtype"] == "bool":
            arrays[code["name"]] = [bool(value) for value in arrays[code["name"]]]
    table = decode_table(arrays, there, n_rows=len(rows.fids))
    for position, code in enumerate(there):  # or of whole numbers
        if table.dtypes.iloc[position].kind == "O" and code["codec"] == "plain":
            numbers = pd.to_numeric(table.iloc[:, position], errors="coerce")
            table.isetitem(position, numbers.to_numpy())
    for column_name, values in rows.columns.items():
        if column_name not in written and column_name not in table.columns:
            table[column_name] = values
    return table


def _shapes(rows: Rows, multi_fids: Any) -> npt.NDArray[np.object_]:
    """Return geometries; of several parts where they were, or where they really are."""
    shapes = np.asarray(shapely.from_wkb(_gpkg.strip_headers(rows.blobs)), dtype=object)
    single = (shapely.get_type_id(shapes) >= 4) & (shapely.get_num_geometries(shapes) == 1)
    single &= ~np.isin(rows.fids, multi_fids)
    shapes[single] = shapely.get_geometry(shapes[single], 0)
    return shapes


# ------------------------------------------------------------------------------- empty cells


def _measure(
    parts: _Edges, document: dict[str, Any], where: str, report: Report
) -> tuple[Any, Any, pd.DataFrame | None]:
    """Return the edges with empty weights, lengths and segment ids filled in."""
    notes, table = document["edges"], parts.table
    weight, unit = parts.weight.copy(), document["weight_unit"]
    empty = ~np.isfinite(weight)
    if empty.any() and unit == "m":
        weight[empty] = _lengths(parts, empty, document, where, report)
        count = int(empty.sum())
        report.info(where, f"{count} edges had no `weight`", "measured in metres", count=count)
    elif empty.any():
        what = f"fid {parts.fids[int(np.argmax(empty))]} has no `weight`"
        report.error(where, what, f"give a number; the unit is {unit!r}", count=int(empty.sum()))
    if "length_m" in table:
        empty = table["length_m"].isna().to_numpy()
        if empty.any() and not report.errors:
            table["length_m"] = table["length_m"].where(
                ~empty, _lengths(parts, empty, document, where, report, everywhere=True)
            )
            report.info(where, f"{int(empty.sum())} edges had no `length_m`", "measured in metres")
    if "segment_id" in table:
        _number_segments(table, parts.fids, where, report)
    if notes["table"] is None and table.empty:
        return parts.ends, weight.astype(np.float32), None
    table = _restore_index(table, notes)
    if notes["geometry"] is None:
        return parts.ends, weight.astype(np.float32), table
    shapes = parts.shapes.copy()
    shapes[parts.bare] = None
    geometry = gpd.GeoSeries(shapes, index=table.index, crs=notes["crs"])
    table.insert(min(notes["geometry_at"], table.shape[1]), notes["geometry"], geometry)
    edges = gpd.GeoDataFrame(table, geometry=notes["geometry"], crs=notes["crs"])
    return parts.ends, weight.astype(np.float32), edges


def _lengths(
    parts: _Edges,
    which: Bools,
    document: dict[str, Any],
    where: str,
    report: Report,
    *,
    everywhere: bool = False,
) -> Any:
    """Return the lengths of some edges along their lines, or note which have no line."""
    from stgraph.neighbours._lines import measure_lines

    drawn = np.isin(shapely.get_type_id(parts.shapes), (1, 5))
    lengths = np.full(len(which), np.nan)
    bad = which & ~drawn
    if bad.any() or document["crs"] is None:
        fid = parts.fids[int(np.argmax(bad if bad.any() else which))]
        what = f"fid {fid} has no line to measure"
        report.error(where, what, "draw it, or fill in `weight` and `length_m`")
        return lengths if everywhere else lengths[which]
    crs = CRS.from_user_input(document["crs"])
    chosen = np.flatnonzero(which)
    lengths[chosen] = measure_lines(parts.shapes[chosen], crs).length_m
    return lengths if everywhere else lengths[which]


def _number_segments(table: pd.DataFrame, fids: Any, where: str, report: Report) -> None:
    """Give segments without an id the next free one; refuse ids that are there twice."""
    ids = pd.to_numeric(table["segment_id"], errors="coerce")
    twice = ids.duplicated() & ids.notna()
    if twice.any():
        row = int(np.argmax(twice))
        report.error(
            where,
            f"fid {fids[row]} has the `segment_id` {int(ids[row])} of another edge",
            "empty it to get a new one, as after splitting a line",
            count=int(twice.sum()),
        )
        return
    new = ids.isna()
    if new.any():
        free = (int(ids.max()) if ids.notna().any() else -1) + 1
        ids[new] = np.arange(free, free + int(new.sum()))
        count = int(new.sum())
        what = f"{count} edges had no `segment_id`"
        report.info(where, what, f"numbered from {free} on", count=count)
        table["segment_id"] = ids.astype(np.int64)


def _restore_index(table: pd.DataFrame, notes: dict[str, Any]) -> pd.DataFrame:
    """Return the table with the columns that were labels of the rows as labels."""
    names = [column["label"] for column in notes["index"] if column["label"] in table]
    if not names or len(names) < len(notes["index_names"]):
        return table
    labelled = table.set_index(names)
    labelled.index.names = notes["index_names"]
    return labelled


def _provenance(
    document: dict[str, Any],
    nodes: gpd.GeoDataFrame,
    edges: pd.DataFrame | None,
    changes: Mapping[str, Changes],
    name: str,
    report: Report,
) -> dict[str, Any]:
    """Return the notes of the file with what was found, without turns of deleted segments."""
    provenance = dict(document["provenance"])
    edited = any(change.some for change in changes.values())
    turns = provenance.get("restrictions")
    if edited and turns:
        known: set[Any] = set(nodes.index)
        if edges is not None and "segment_id" in edges:
            known |= set(edges["segment_id"])
        kept = [turn for turn in turns if set(turn) <= known]
        if len(kept) < len(turns):
            count = len(turns) - len(kept)
            what = f"{count} forbidden turns name a deleted segment"
            report.info(f"{name}, layer `edges`", what, "left out", count=count)
            provenance["restrictions"] = kept
    if document["signal"]:
        what = f"was written from a graph with {document['signal']}"
        report.info(name, what, "they are not in the file; read them from where they came from")
    if len(report):
        before = Report.from_json(provenance.get("findings", "[]"))
        provenance["findings"] = Report([*before, *report]).to_json()
    return provenance
