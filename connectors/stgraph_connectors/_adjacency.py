"""Read a given adjacency: a matrix in npz, CSV or DCRNN's pickle, or a table of links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from stgraph.errors import DataError
from stgraph.report import Report
from stgraph_connectors._arrays import ARRAY_IDS, Arrays, pick, read_npz
from stgraph_connectors._cells import to_numbers
from stgraph_connectors._ids import clean_ids, match_ids, shorten
from stgraph_connectors._pickles import read_plain_pickle
from stgraph_connectors._tables import check_path, plain_suffix, read_table

_SUFFIXES = (".npz", ".pkl", ".pickle", ".csv", ".txt", ".tsv", ".parquet")
_SOURCE_NAMES = ("source", "from", "src", "u", "origin", "from_id", "source_id")
_TARGET_NAMES = ("target", "to", "dst", "v", "destination", "to_id", "target_id")
_WEIGHT_NAMES = ("weight", "cost", "distance", "length", "length_m", "distance_m", "w")


@dataclass(frozen=True)
class Links:
    """Directed links by position in the list of all stations."""

    index: npt.NDArray[np.int64]  # (2, E)
    weight: npt.NDArray[np.float32]  # (E,)


@dataclass(frozen=True)
class _Named:
    """Directed links by position in their own list of ids."""

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    ids: npt.NDArray[np.object_] | None  # None: the file does not name them
    size: int  # stations, with or without links


def read_links(
    source: str | Path,
    ids: pd.Index[Any],
    own_ids: Sequence[object] | None,
    report: Report,
    *,
    drop: Sequence[object] | None = None,
) -> Links | None:
    """Return the links of an adjacency file, or None when it cannot be used.

    Parameters
    ----------
    source
        Path of the adjacency; entry [i, j] is the weight of the edge i -> j, 0 is no edge.
    ids
        Ids of all stations in the order of their source.
    own_ids
        Ids of the rows and columns of a matrix that does not name them. None means `ids`.
    report
        Takes the findings.
    drop
        Rows of a matrix to leave out, by its own ids or else by position; the others are the
        stations in their order, whatever the matrix calls them.
    """
    path = check_path(source, report, role="adjacency", suffixes=_SUFFIXES)
    if path is None:
        return None
    suffix = plain_suffix(path)
    if suffix == ".npz":
        arrays = read_npz(path, report)
        named = None if arrays is None else _from_arrays(arrays, path.name, report)
    elif suffix in (".pkl", ".pickle"):
        named = _from_pickle(path, report)
    else:
        named = _from_table(path, report)
    if named is None or not _check_weights(named, path.name, report):
        return None
    if drop is not None:
        named = _without(named, drop, path.name, report)
        if named is None:
            return None
    labels = named.ids
    if own_ids is not None and labels is None:
        labels = clean_ids(list(own_ids))
    elif own_ids is not None:
        report.warning(path.name, "names its stations itself", "adjacency_ids= was not used")
    links = _to_positions(named, labels, ids, path.name, report)
    return None if links is None else _merge_repeated(links, ids, path.name, report)


# ---------------------------------------------------------------- kinds of files


def _from_arrays(arrays: Arrays, name: str, report: Report) -> _Named | None:
    """Read `adj` and its ids, or a matrix that scipy.sparse saved."""
    if {"indices", "indptr", "data", "shape"} <= set(arrays):
        shape = (int(arrays["shape"][0]), int(arrays["shape"][-1]))
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        kind = arrays["format"].item() if "format" in arrays else b"csr"
        make = sparse.csc_array if kind in (b"csc", "csc") else sparse.csr_array
        try:
            return _from_matrix(make(parts, shape=shape), None, name, report)
        except (ValueError, IndexError) as error:
            report.error(name, f"is no sparse matrix ({error})", "save it again")
            return None
    matrix = pick(arrays, ("adj", "adj_mx", "adjacency", "matrix"), name=name, report=report)
    ids = pick(arrays, ARRAY_IDS, name=name, report=report, required=False)
    return None if matrix is None else _from_matrix(matrix, ids, name, report)


def _from_pickle(path: Path, report: Report) -> _Named | None:
    """Read DCRNN's list of ids, dict of positions and matrix, or a matrix alone."""
    try:
        data = read_plain_pickle(path)
    except DataError as error:
        where, _, what = str(error).partition(": ")
        what, _, todo = what.rpartition("; ")
        report.error(where, what, todo)
        return None
    if isinstance(data, list | tuple) and len(data) == 3:
        ids, _, matrix = data
        if isinstance(ids, list | tuple):
            return _from_matrix(matrix, np.asarray(clean_ids(list(ids))), path.name, report)
    elif isinstance(data, np.ndarray):
        return _from_matrix(data, None, path.name, report)
    what = f"holds {type(data).__name__}, not [sensor_ids, positions, matrix]"
    report.error(path.name, what, "give DCRNN's adj_mx.pkl, an npz or a CSV")
    return None


def _from_matrix(matrix: Any, ids: Any, name: str, report: Report) -> _Named | None:
    """Return the entries of a square matrix that are not zero."""
    is_matrix = sparse.issparse(matrix) or isinstance(matrix, np.ndarray)
    if not is_matrix or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        shape = getattr(matrix, "shape", type(matrix).__name__)
        report.error(name, f"the adjacency has shape {shape}", "it must be square")
        return None
    if matrix.dtype.kind not in "fiub":
        report.error(name, f"the adjacency has dtype {matrix.dtype}", "it must hold numbers")
        return None
    if ids is not None and len(ids) != matrix.shape[0]:
        what = f"names {len(ids)} stations for {matrix.shape[0]} rows of the matrix"
        report.error(name, what, "give one id a row")
        return None
    entries = sparse.coo_array(matrix)
    entries.sum_duplicates()
    rows, columns = entries.coords
    own = None if ids is None else clean_ids(ids)
    weight = entries.data.astype(np.float64)
    size = int(matrix.shape[0])
    return _Named(rows.astype(np.int64), columns.astype(np.int64), weight, own, size)


def _from_table(path: Path, report: Report) -> _Named | None:
    """Read a table of links, or a square matrix without or with ids."""
    table = read_table(path, report, role="adjacency", text=None)
    if table is None:
        return None
    lower = {str(name).strip().lower(): name for name in table.frame.columns}
    start = next((lower[name] for name in _SOURCE_NAMES if name in lower), None)
    end = next((lower[name] for name in _TARGET_NAMES if name in lower), None)
    if start is None or end is None:
        is_square = table.frame.shape[0] == table.frame.shape[1]
        if table.headless and is_square:
            columns = [to_numbers(table.frame[name], table, report) for name in table.frame.columns]
            return _from_matrix(np.stack(columns, axis=1), None, table.name, report)
        what = f"has no columns `source` and `target` but {shorten(list(table.frame.columns), 5)}"
        report.error(table.name, what, "rename them, or give a square matrix without header")
        return None
    cost = next((lower[name] for name in _WEIGHT_NAMES if name in lower), None)
    if cost is None:
        report.info(table.name, "no column `weight`", "every link weighs 1")
        weight = np.ones(len(table.frame))
    else:
        weight = to_numbers(table.frame[cost], table, report, name=cost)
    ends = np.concatenate([clean_ids(table.frame[name]) for name in (start, end)])
    codes, ids = pd.factorize(ends)
    half = len(table.frame)
    return _Named(codes[:half], codes[half:], weight, np.asarray(ids, dtype=object), len(ids))


# ---------------------------------------------------------------- checks and order


def _without(links: _Named, drop: Sequence[object], name: str, report: Report) -> _Named | None:
    """Return the links without some stations, the others renumbered and no longer named."""
    own = np.arange(links.size).astype(str) if links.ids is None else links.ids
    gone = np.isin(own.astype(str), clean_ids(list(drop)).astype(str))
    unknown = sorted(set(clean_ids(list(drop))) - set(own[gone]))
    if unknown:
        what = f"has no rows {shorten(unknown, 5)}; there are {shorten(own, 3)}"
        report.error(name, what, "correct adjacency_drop=")
        return None
    places = np.where(gone, -1, np.cumsum(~gone) - 1)
    source, target = places[links.source], places[links.target]
    kept = (source >= 0) & (target >= 0)
    count = int((~kept).sum())
    what = f"{int(gone.sum())} rows {shorten(own[gone], 5)} with {count} links"
    report.info(name, what, "left out as adjacency_drop= asks", count=count)
    size = links.size - int(gone.sum())
    return _Named(source[kept], target[kept], links.weight[kept], None, size)


def _check_weights(links: _Named, name: str, report: Report) -> bool:
    """Note weights that are missing, infinite or negative."""
    bad = ~np.isfinite(links.weight) | (links.weight < 0)
    if not bad.any():
        return True
    first = int(np.argmax(bad))
    ends = (int(links.source[first]), int(links.target[first]))
    if links.ids is not None:
        ends = tuple(links.ids[i] for i in ends)
    what = f"weight {links.weight[first]} from {ends[0]!r} to {ends[1]!r} ({int(bad.sum())} such)"
    report.error(name, what, "use finite weights of at least 0; 0 is no edge")
    return False


def _to_positions(
    links: _Named,
    own_ids: npt.NDArray[np.object_] | None,
    ids: pd.Index[Any],
    name: str,
    report: Report,
) -> Links | None:
    """Return the links by position in the list of stations."""
    if own_ids is None:
        if links.size != len(ids):
            what = f"has {links.size} rows without ids, there are {len(ids)} stations"
            report.error(name, what, "name the rows with adjacency_ids=")
            return None
        positions = np.arange(len(ids))
    elif links.size != len(own_ids) or pd.Index(own_ids).has_duplicates:
        n_distinct = pd.Index(own_ids).nunique()
        what = f"has {links.size} rows for {len(own_ids)} ids, {n_distinct} of them distinct"
        report.error(name, what, "give one id a row")
        return None
    else:
        positions = match_ids(own_ids, ids, name=name, report=report, thing="ids of the adjacency")
        strangers = own_ids[positions < 0]
        if len(strangers) == len(own_ids):
            what = f"ids {shorten(own_ids, 3)} are none of the stations {shorten(ids, 3)}"
            report.error(name, what, "give the adjacency of these stations")
            return None
        if len(strangers):
            what = f"{len(strangers)} of its stations are not in the layer: {shorten(strangers, 5)}"
            report.warning(name, what, "their edges were dropped", count=len(strangers))
    absent = np.setdiff1d(np.arange(len(ids)), positions)
    if len(absent):
        what = f"{len(absent)} of {len(ids)} stations are not in it: {shorten(ids[absent], 5)}"
        report.warning(name, what, "they have no edges", count=len(absent))
    index = np.stack([positions[links.source], positions[links.target]])
    kept = (index >= 0).all(axis=0) & (links.weight > 0)
    return Links(index[:, kept].astype(np.int64), links.weight[kept].astype(np.float32))


def _merge_repeated(links: Links, ids: pd.Index[Any], name: str, report: Report) -> Links | None:
    """Return every link once; one that is listed with several weights cannot be used."""
    keys = links.index[0] * len(ids) + links.index[1]
    order = np.lexsort((links.weight, keys))
    again = np.diff(keys[order]) == 0
    if not again.any():
        return links
    differ = again & (np.diff(links.weight[order]) > 0)
    first = order[int(np.argmax(differ if differ.any() else again))]
    ends = f"from {ids[links.index[0, first]]!r} to {ids[links.index[1, first]]!r}"
    count = int(again.sum())
    if differ.any():
        what = f"the link {ends} is listed with several weights ({int(differ.sum())} such)"
        report.error(name, what, "keep one line a link", count=count)
        return None
    report.warning(name, f"{count} links repeat another: {ends}", "they were dropped", count=count)
    kept = np.sort(order[np.concatenate([[True], ~again])])
    return Links(links.index[:, kept], links.weight[kept])
