"""The rows of a scenario step by step in a GeoPackage: millions, with each geometry once.

Rows stand in the order of their steps, and a step knows its first and last one: the frame of an
instant is one range of rows, found without an index.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph_connectors.sinks import _gpkg

LAYER = "scenario_link"
DESCRIPTION = "What a scenario changes on every segment, step by step"
_VALUE, _STEP, _STATE = "scenario_link_value", "scenario_step", "scenario_state"
# how many decimals are kept: less than any method knows
_DECIMALS = {
    "speed_base": 2,
    "speed_scn": 2,
    "d_speed": 2,
    "d_speed_pct": 1,
    "d_speed_low": 2,
    "d_speed_high": 2,
    "flow_base": 1,
    "flow_scn": 1,
    "d_flow": 1,
    "d_flow_low": 1,
    "d_flow_high": 1,
    "tt_delta_s": 2,
}


def add_links(
    db: sqlite3.Connection, table: pd.DataFrame, run: pd.Series[Any], *, layer: str
) -> None:
    """Add the rows of a run, and the layer if it is not there yet.

    Parameters
    ----------
    db
        Connection of `open_for_bulk`.
    table
        Rows of `scenario_link`.
    run
        The row of `scenario`.
    layer
        The layer with the segments' lines, which has those of the run.
    """
    rows = table if table["ts"].is_monotonic_increasing else table.sort_values("ts", kind="stable")
    run_id = str(run["run_id"])
    first = 1 + _largest(db, _VALUE) if _is_there(db, _VALUE) else 1
    _add_steps(db, rows, run_id, str(run["zone"]), first)
    states = _add_states(db, rows)
    known = dict(
        db.execute(
            f"SELECT segment_id, fid FROM {_gpkg.quoted(layer)} WHERE run_id = ?",  # noqa: S608
            (run_id,),
        )
    )
    ids = rows["segment_id"]
    numbers, unique = pd.factorize(ids)
    fids = np.array([known[int(segment)] for segment in unique], dtype=np.int64)[numbers]
    kinds = {"fid": "", "segment_fid": "INTEGER NOT NULL", "state_fid": "INTEGER NOT NULL"}
    kinds |= dict.fromkeys(_DECIMALS, "REAL")
    add_rows(db, _VALUE, kinds, _value_rows(rows, first, fids, states), "Rows of scenario_link")
    if not _is_there(db, LAYER):
        _create_view(db, layer)
    count_links(db, layer)


def remove_links(db: sqlite3.Connection, run_id: str) -> None:
    """Remove the rows of a run."""
    low, high = db.execute(
        f"SELECT min(first_fid), max(last_fid) FROM {_STEP} WHERE run_id = ?",  # noqa: S608
        (run_id,),
    ).fetchone()
    if low is not None:
        db.execute(f"DELETE FROM {_VALUE} WHERE fid BETWEEN ? AND ?", (low, high))  # noqa: S608
    db.execute(f"DELETE FROM {_STEP} WHERE run_id = ?", (run_id,))  # noqa: S608


def add_rows(
    db: sqlite3.Connection,
    name: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
    description: str,
) -> None:
    """Add rows to a table, which is made if it is not there; the first column is its key."""
    if not _is_there(db, name):
        _gpkg.create_table(db, name, columns, (), description=description)
    marks, names = ", ".join("?" * len(columns)), ", ".join(map(_gpkg.quoted, columns))
    db.executemany(f"INSERT INTO {_gpkg.quoted(name)} ({names}) VALUES ({marks})", rows)  # noqa: S608


def instants(time: pd.DatetimeIndex) -> list[str | None]:
    """Return instants as GeoPackage 1.3 spells them: UTC with three decimals."""
    utc = time.tz_convert("UTC")
    texts = utc.strftime("%Y-%m-%dT%H:%M:%S")
    return [
        None if missing else f"{text}.{us // 1000:03.0f}Z"
        for text, us, missing in zip(texts, utc.microsecond, utc.isna(), strict=True)
    ]


def _add_steps(
    db: sqlite3.Connection, rows: pd.DataFrame, run_id: str, zone: str, first: int
) -> None:
    """Add the steps of a run, each with the range of its rows."""
    counts = rows.groupby("ts", sort=True).size()
    time = pd.DatetimeIndex(counts.index)
    ends = first + np.cumsum(counts.to_numpy())
    starts = ends - counts.to_numpy()
    local = time.tz_convert(zone).strftime("%Y-%m-%d %H:%M %Z")
    kinds = {
        "fid": "",
        "run_id": "TEXT NOT NULL",
        "step": "INTEGER NOT NULL",
        "ts": "DATETIME NOT NULL",
        "local_time": "TEXT",
        "first_fid": "INTEGER NOT NULL",
        "last_fid": "INTEGER NOT NULL",
    }
    numbers = itertools.count(1)
    found = zip(instants(time), local, starts.tolist(), (ends - 1).tolist(), strict=True)
    new = ((None, run_id, next(numbers), *step) for step in found)
    add_rows(db, _STEP, kinds, new, f"The steps of scenario_link, local time in {zone}")


def _add_states(db: sqlite3.Connection, rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the number of each row's status, source and significance, which are kept once."""
    kinds = {"fid": "", "status": "TEXT", "source": "TEXT", "significant": "BOOLEAN"}
    add_rows(db, _STATE, kinds, (), "Status, source and significance of rows of scenario_link")
    query = f"SELECT status, source, significant, fid FROM {_STATE}"  # noqa: S608
    known = {(status, source, bool(sure)): fid for status, source, sure, fid in db.execute(query)}
    status, source = pd.Categorical(rows["status"]), pd.Categorical(rows["source"])
    sure = rows["significant"].to_numpy(dtype=np.int64)
    n_sources = len(source.categories)
    codes = (status.codes.astype(np.int64) * n_sources + source.codes) * 2 + sure
    numbers = np.zeros((len(status.categories) * n_sources * 2) or 1, dtype=np.int64)
    for code in np.unique(codes).tolist():
        words = (
            str(status.categories[code // 2 // n_sources]),
            str(source.categories[code // 2 % n_sources]),
            bool(code % 2),
        )
        if words not in known:
            known[words] = len(known) + 1
            add_rows(db, _STATE, kinds, [(known[words], *words)], "")
        numbers[code] = known[words]
    found: npt.NDArray[np.int64] = numbers[codes]
    return found


def _value_rows(
    rows: pd.DataFrame,
    first: int,
    fids: npt.NDArray[np.int64],
    states: npt.NDArray[np.int64],
) -> Iterator[tuple[Any, ...]]:
    """Yield rows, made in blocks; NaN becomes NULL on the way."""
    columns = {name: rows[name].to_numpy() for name in _DECIMALS}
    block = 50_000
    for start in range(0, len(rows), block):
        part = slice(start, min(start + block, len(rows)))
        numbers = [
            np.round(columns[name][part].astype(np.float64), decimals).tolist()
            for name, decimals in _DECIMALS.items()
        ]
        keys = (range(first + part.start, first + part.stop), fids[part].tolist())
        yield from zip(*keys, states[part].tolist(), *numbers, strict=True)


def _create_view(db: sqlite3.Connection, layer: str) -> None:
    """Create the layer: steps, their rows, the lines of the segments."""
    parts = ["v.fid AS OGC_FID", "s.geom AS geom", "s.fid AS segment_fid", "t.run_id AS run_id"]
    own = ("segment_id", "name", "road_class", "length_m", "is_two_way")
    parts += [f"s.{name} AS {name}" for name in own]
    parts += ["t.ts AS ts", "t.local_time AS local_time"]
    parts += [f"v.{name} AS {name}" for name in _DECIMALS]
    parts += [f"c.{name} AS {name}" for name in ("status", "source", "significant")]
    parts.append("r.is_current AS is_current")
    select = (
        f"SELECT {', '.join(parts)} FROM scenario r CROSS JOIN {_STEP} t ON t.run_id = r.run_id "  # noqa: S608
        f"CROSS JOIN {_VALUE} v ON v.fid BETWEEN t.first_fid AND t.last_fid "
        f"JOIN {_gpkg.quoted(layer)} s ON s.fid = v.segment_fid "
        f"JOIN {_STATE} c ON c.fid = v.state_fid"
    )
    _gpkg.create_spatial_view(db, LAYER, select, description=DESCRIPTION, n_rows=0, like=layer)
    db.execute(f"CREATE INDEX {_STEP}_ts ON {_STEP} (ts)")


def count_links(db: sqlite3.Connection, layer: str) -> None:
    """Note how many rows the layer has, and where they are."""
    query = f"SELECT coalesce(sum(last_fid - first_fid + 1), 0) FROM {_STEP}"  # noqa: S608
    count = db.execute(query).fetchone()[0]
    db.execute(
        "UPDATE gpkg_ogr_contents SET feature_count = ? WHERE table_name = ?", (count, LAYER)
    )
    db.execute(
        "UPDATE gpkg_contents SET (min_x, min_y, max_x, max_y) = (SELECT min_x, min_y, max_x, max_y"
        " FROM gpkg_contents WHERE table_name = ?) WHERE table_name = ?",
        (layer, LAYER),
    )


def _is_there(db: sqlite3.Connection, name: str) -> bool:
    """Tell whether there is a table or view."""
    query = "SELECT count(*) FROM sqlite_master WHERE name = ?"
    return bool(db.execute(query, (name,)).fetchone()[0])


def _largest(db: sqlite3.Connection, name: str) -> int:
    """Return the largest key of a table."""
    return int(db.execute(f"SELECT coalesce(max(fid), 0) FROM {name}").fetchone()[0])  # noqa: S608
