"""Read tables of readings, long or wide, one or several, into one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stgraph.report import Report
from stgraph_connectors._ids import ID_NAMES
from stgraph_connectors._long import read_long
from stgraph_connectors._signal import TIME_NAMES, ReadingOptions, Readings
from stgraph_connectors._tables import SUFFIXES, check_path, plain_suffix, read_table
from stgraph_connectors._wide import read_arrays, read_wide


def read_readings(
    sources: Sequence[str | Path | pd.DataFrame],
    ids: pd.Index[Any],
    options: ReadingOptions,
    report: Report,
) -> Readings | None:
    """Return the readings of all sources as one, or None when one of them cannot be read.

    Parameters
    ----------
    sources
        Paths or frames: parts of one table, such as one file a month.
    ids
        Ids of the stations; readings of others are left out and reported.
    options
        How to understand the tables.
    report
        Takes the findings.
    """
    parts = [_read_part(source, ids, options, report) for source in sources]
    good = [part for part in parts if part is not None]
    if len(good) < len(parts):
        return None
    if len({(part.is_wide, part.features) for part in good}) > 1:
        kinds = [
            f"{p.tables[0].name}: {'wide' if p.is_wide else 'long'} {list(p.features)}"
            for p in good
        ]
        report.error("`readings`", f"parts are not alike: {kinds}", "read them one by one")
        return None
    return _join(good)


def _read_part(
    source: str | Path | pd.DataFrame, ids: pd.Index[Any], options: ReadingOptions, report: Report
) -> Readings | None:
    """Read one table."""
    if isinstance(source, str | Path) and plain_suffix(Path(source)) == ".npz":
        path = check_path(source, report, role="readings", suffixes=(*SUFFIXES, ".npz"))
        return None if path is None else read_arrays(path, ids, options, report)
    named = [options.id_column, options.time_column]
    text = {*ID_NAMES, *TIME_NAMES, *(name.lower() for name in named if name is not None)}
    table = read_table(
        source, report, role="readings", text=text, layer=options.key, decimal=options.decimal
    )
    if table is None:
        return None
    if table.headless:
        what = "holds data where column names are expected"
        report.error(f"{table.name}, line 1", what, "write a line of column names")
        return None
    layout = options.layout
    if layout == "auto":
        is_long = options.id_column is not None or _has_id_column(table.frame)
        layout = "long" if is_long else "wide"
    read = read_long if layout == "long" else read_wide
    return read(table, ids, options, report)


def _has_id_column(frame: pd.DataFrame) -> bool:
    """Tell whether a column has a known name of ids."""
    return any(str(name).strip().lower() in ID_NAMES for name in frame.columns)


def _join(parts: list[Readings]) -> Readings:
    """Put parts one after the other; wide parts get the stations of all."""
    if len(parts) == 1:
        return parts[0]
    lengths = tuple(length for part in parts for length in part.lengths)
    starts = np.cumsum([0, *lengths])
    stations = np.concatenate([part.stations for part in parts])
    values = [part.values for part in parts]
    if parts[0].is_wide:
        stations = np.unique(stations)
        for i, part in enumerate(parts):
            shape = (len(part.time), len(stations), len(part.features))
            wider = np.full(shape, np.nan, dtype=part.values.dtype)
            wider[:, np.searchsorted(stations, part.stations)] = part.values
            values[i] = wider
    return Readings(
        time=np.concatenate([part.time for part in parts]),
        stations=stations,
        values=np.concatenate(values),
        features=parts[0].features,
        rows=np.concatenate([part.rows + starts[i] for i, part in enumerate(parts)]),
        tables=tuple(table for part in parts for table in part.tables),
        lengths=lengths,
    )
