"""What is known of readings before they are on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.report import Report
from stgraph_connectors._clock import Int64Array
from stgraph_connectors._ids import guess_column, require_column
from stgraph_connectors._tables import Table

Layout = Literal["auto", "long", "wide"]
Floats = npt.NDArray[np.floating[Any]]

TIME_NAMES = (
    "time", "timestamp", "datetime", "date_time", "date", "ds", "ts", "time_utc", "utc",
    "timestamp_utc", "datetime_utc", "index", "column 1", "unnamed: 0", "measured_at",
    "observed_at",
)  # fmt: skip


@dataclass(frozen=True)
class ReadingOptions:
    """How the tables of readings are to be understood; None is found out."""

    id_column: str | None = None
    time_column: str | None = None
    value_columns: Sequence[str] | None = None
    layout: Layout = "auto"
    feature: str = "value"
    zone: str = "UTC"
    time_format: str | None = None
    decimal: str = "."
    key: str | None = None


@dataclass(frozen=True)
class Readings:
    """R rows of readings. Long: one station a row. Wide: the same S stations in every row."""

    time: Int64Array  # (R,) microseconds since 1970 UTC
    stations: Int64Array  # long (R,), wide (S,): positions in the layer
    values: Floats  # long (R, F), wide (R, S, F)
    features: tuple[str, ...]  # F names
    rows: Int64Array  # (R,) positions in the tables, one after the other
    tables: tuple[Table, ...]  # where the rows come from
    lengths: tuple[int, ...]  # rows of each table

    @property
    def name(self) -> str:
        """Names of the tables."""
        return ", ".join(dict.fromkeys(table.name for table in self.tables))

    @property
    def is_wide(self) -> bool:
        """Tell whether a row holds all stations."""
        return self.values.ndim == 3

    def at(self, row: int) -> str:
        """Say where a row is, in the words of its file."""
        position = int(self.rows[row])
        for table, length in zip(self.tables, self.lengths, strict=True):
            if position < length:
                return table.at(position)
            position -= length
        return self.tables[-1].name

    def take(self, rows: npt.NDArray[Any]) -> Readings:
        """Return some of the rows."""
        stations = self.stations if self.is_wide else self.stations[rows]
        return replace(self, time=self.time[rows], stations=stations, values=self.values[rows],
                       rows=self.rows[rows])  # fmt: skip


def time_column(table: Table, options: ReadingOptions, report: Report) -> tuple[Any, Any]:
    """Return the times and the name of their column; (None, None) if there are none."""
    frame, wanted = table.frame, options.time_column
    columns = list(frame.columns)
    index = frame.index
    if wanted is not None and wanted != index.name:
        name = require_column(wanted, columns, table=table, option="time_column", report=report)
    elif isinstance(index, pd.DatetimeIndex) or wanted is not None:
        return pd.Series(index), index.name or "index"
    elif index.name is not None and str(index.name).lower() in TIME_NAMES:
        return pd.Series(index), index.name
    else:
        name = guess_column(columns, TIME_NAMES, table=table, option="time_column", report=report)
    return (None, None) if name is None else (frame[name], name)
