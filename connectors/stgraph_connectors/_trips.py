"""Trips between zones, whatever file they come from, and the checks of their matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.report import Report
from stgraph_connectors._clock import Int64Array
from stgraph_connectors._ids import clean_ids, shorten

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TripOptions:
    """How a matrix is to be understood; None is found out."""

    matrix_name: str | None = None
    ids: Sequence[object] | None = None
    origin_column: str | None = None
    destination_column: str | None = None
    value_column: str | None = None
    time_column: str | None = None
    zone: str = "UTC"
    max_dense: int = 10_000


@dataclass(frozen=True)
class Trips:
    """R flows between zones, at an instant each where the source has times."""

    ids: npt.NDArray[np.object_]  # (M,) of the zones that the source names; empty: it names none
    origin: Int64Array  # (R,) positions in ids, or in the layer where there are none
    destination: Int64Array  # (R,)
    trips: Floats  # (R,)
    n_zones: int  # rows of the matrix, at least len(ids)
    name: str
    time_us: Int64Array | None = None  # (R,) since 1970 UTC
    instants: Int64Array | None = None  # all that the source has, also those without a trip


def is_too_large(n: int, name: str, options: TripOptions, report: Report) -> bool:
    """Refuse a dense matrix above the limit, with what to do."""
    if n <= options.max_dense:
        return False
    report.error(
        name,
        f"is a dense matrix of {n:,} x {n:,} cells, {n * n * 8 / 1e9:.1f} GB",
        "write it as a long table without zeros, as OMX or by scipy.sparse.save_npz, or pass "
        f"max_dense={n}",
    )
    return True


def from_dense(
    matrix: npt.NDArray[Any],
    ids: npt.NDArray[np.object_],
    name: str,
    report: Report,
    row: int = 0,
) -> Trips | None:
    """Return what is not 0 of a dense matrix, or of a part of one that begins at a row."""
    if not check_matrix(matrix, name, report, row):
        return None
    known = np.nan_to_num(matrix)
    origin, destination = np.nonzero(known)
    trips = known[origin, destination].astype(np.float64)
    return Trips(ids, origin, destination, trips, len(matrix), name)


def check_matrix(matrix: npt.NDArray[Any], name: str, report: Report, row: int = 0) -> bool:
    """Note negative, infinite and missing cells."""
    bad = np.isinf(matrix) | (matrix < 0)
    if bad.any():
        i, j = (int(place) for place in np.argwhere(bad)[0])
        what = f"holds {matrix[i, j]:g}, as one of {int(bad.sum())} cells below 0 or infinite"
        report.error(f"{name}, row {row + i}, column {j}", what, "trips are numbers of at least 0")
        return False
    if missing := int(np.isnan(matrix).sum()):
        report.warning(name, f"{missing} cells are missing", "taken as no trips", count=missing)
    return True


def given_ids(
    found: npt.NDArray[Any] | None, n: int, options: TripOptions, name: str, report: Report
) -> npt.NDArray[np.object_] | None:
    """Return the ids of the rows; empty where nobody names them."""
    ids = found if options.ids is None else np.asarray(list(options.ids), dtype=object)
    if ids is None:
        return np.zeros(0, dtype=object)
    clean = clean_ids(ids)
    twice = pd.Index(clean)[pd.Index(clean).duplicated()]
    if len(clean) != n:
        report.error(name, f"has {n} rows for {len(clean)} ids", "one id a row")
    elif len(twice):
        report.error(name, f"ids appear twice: {shorten(twice, 5)}", "make ids unique")
    else:
        return clean
    return None
