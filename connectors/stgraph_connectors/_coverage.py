"""What a grid of readings lacks: silent stations, and the longest gap of the others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.report import Report
from stgraph_connectors._grid import Grid
from stgraph_connectors._ids import shorten


def note_missing(
    grid: Grid, ids: pd.Index, features: tuple[str, ...], *, zone: str, report: Report
) -> None:
    """Warn of stations without a single reading, and say where the longest gap of the others is.

    Parameters
    ----------
    grid
        Values (T, N, F), NaN where nobody read.
    ids, features
        Names of the N stations and F features.
    zone
        Zone of the times in messages.
    report
        Takes the findings.
    """
    missing = np.isnan(grid.values)
    silent = np.asarray(missing.all(axis=(0, 2)), dtype=bool)
    if silent.any():
        count = int(silent.sum())
        what = f"{count} of {len(ids)} stations have no reading: {shorten(ids[silent], 5)}"
        report.warning("`stations`", what, "they were kept, all of it missing", count=count)
    missing[:, silent] = False
    if not missing.any():
        return
    n_steps, _, n_features = missing.shape
    series, first, last = _longest_run(missing.reshape(n_steps, -1))
    who = f"{ids[series // n_features]!r}"
    if n_features > 1:
        who += f", `{features[series % n_features]}`"
    start, stop = (f"{grid.time[t].tz_convert(zone):%Y-%m-%d %H:%M}" for t in (first, last))
    n_read, count = missing[:, ~silent].size, int(missing.sum())
    report.info(
        "`readings`",
        f"{count:,} of {n_read:,} readings are missing ({count / n_read:.2%}); the longest gap "
        f"is of {who}: {last - first + 1:,} steps from {start} to {stop}, {zone}",
        "the mask says where",
        count=count,
    )


def _longest_run(missing: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return column, first and last row of the longest run of True in a (T, C) array."""
    n_steps, n_columns = missing.shape
    # one column after the other, apart by a False
    line = np.zeros((n_columns, n_steps + 1), dtype=bool)
    line[:, 1:] = missing.T
    turns = np.flatnonzero(np.diff(line.ravel(), append=False))
    before, last = turns[::2], turns[1::2]
    longest = int(np.argmax(last - before))
    column, first = divmod(int(before[longest]), n_steps + 1)
    return column, first, int(last[longest]) - column * (n_steps + 1) - 1
