"""Rows of the table `observation`: read them as an array, compare, change only what differs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt

from stgraph_connectors.postgis.connect import Connection, execute, qualified
from stgraph_connectors.postgis.copying import copy_arrays
from stgraph_connectors.postgis.publishing import create_stage

Instants = npt.NDArray[np.int64]  # microseconds since 2000-01-01 UTC, ascending

_DAY_US = 86_400_000_000
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_ARRAY_HEADER = 20  # bytes: dimensions, flags, type, length, first index


@dataclass(frozen=True)
class Axes:
    """What the three axes of a block of readings stand for; it is dense in all of them."""

    time: Instants  # (T,)
    feature_ids: tuple[int, ...]  # (F,)
    numbers: npt.NDArray[np.int64]  # (N,) numbers of nodes, ascending


@dataclass(frozen=True)
class Changes:
    """How many rows were written."""

    n_added: int = 0
    n_changed: int = 0
    n_removed: int = 0

    def __str__(self) -> str:
        """Return the numbers in words, as messages have them."""
        return f"{self.n_added} added, {self.n_changed} changed, {self.n_removed} removed"

    def __add__(self, other: Changes) -> Changes:
        """Return the sums."""
        return Changes(
            self.n_added + other.n_added,
            self.n_changed + other.n_changed,
            self.n_removed + other.n_removed,
        )


def days_of(time: Instants) -> list[date]:
    """Return the UTC days of some instants, each once."""
    return [EPOCH.date() + timedelta(days=int(day)) for day in np.unique(time // _DAY_US)]


def merge_block(
    connection: Connection,
    schema: str,
    axes: Axes,
    values: npt.NDArray[np.float32],
    span: tuple[int, int],
) -> Changes:
    """Make the rows of some nodes and features in a span be exactly these values.

    Parameters
    ----------
    connection
        Inside a transaction; the partitions are there.
    schema
        Name of the Postgres schema.
    axes
        Instants, features and nodes of the values.
    values
        (T, F, N), NaN where nothing was observed.
    span
        First instant, and the instant before which it ends; it holds all of `axes.time`.

    Returns
    -------
    Changes
        Rows that were added, changed and removed; all others were not touched.
    """
    there = read_instants(connection, schema, span)
    ours = np.isin(there, axes.time)
    n_odd = _remove_instants(connection, schema, axes, there[~ours])
    observed = np.isfinite(values)
    if ours.any():
        known = read_values(connection, schema, axes)
        present = np.isfinite(known)
        differs = present & (values != known)  # a value that is no number differs as well
        n_removed = int((differs & ~observed).sum())
        n_changed = int(differs.sum()) - n_removed
        added = observed & ~present
        _change(connection, schema, axes, values, differs)
    else:
        added, differs = observed, np.zeros_like(observed)
        n_changed = n_removed = 0
    _add(connection, schema, axes, values, added)
    new = added.any(axis=(1, 2)) & ~np.isin(axes.time, there)
    if new.any():
        table = qualified(schema, "observation_time")
        copy_arrays(connection, table, {"time": ("timestamptz", axes.time[new])})
    emptied = (differs & ~observed).any(axis=(1, 2))
    _forget_instants(connection, schema, np.concatenate([axes.time[emptied], there[~ours]]))
    return Changes(int(added.sum()), n_changed, n_removed + n_odd)


def read_instants(connection: Connection, schema: str, span: tuple[int, int]) -> Instants:
    """Return the instants with a reading from the first of a span to before its end."""
    row = execute(
        connection,
        "SELECT array_send(array_agg(time ORDER BY time)) FROM {} WHERE time >= %s AND time < %s",
        qualified(schema, "observation_time"),
        parameters=(moment(span[0]), moment(span[1])),
    ).fetchone()
    return _unpack(row[0], ">i8").astype(np.int64)  # type: ignore[index]  # an aggregate


def read_last_instants(connection: Connection, schema: str, n_instants: int) -> Instants:
    """Return the last instants with a reading."""
    row = execute(
        connection,
        "SELECT array_send(array_agg(time ORDER BY time)) "
        "FROM (SELECT time FROM {} ORDER BY time DESC LIMIT %s) AS t",
        qualified(schema, "observation_time"),
        parameters=(n_instants,),
    ).fetchone()
    return _unpack(row[0], ">i8").astype(np.int64)  # type: ignore[index]  # an aggregate


def read_values(connection: Connection, schema: str, axes: Axes) -> npt.NDArray[np.float32]:
    """Return the readings as (T, F, N), NaN where there is none.

    The time axis must hold every instant with a reading from its first to its last.
    """
    shape = (len(axes.time), len(axes.feature_ids), len(axes.numbers))
    values = np.full(shape, np.nan, dtype=np.float32)
    if not values.size:
        return values
    for f, feature_id in enumerate(axes.feature_ids):
        row = execute(
            connection,
            "SELECT array_send(array_agg(time)), array_send(array_agg(node_id)), "
            "array_send(array_agg(value)) FROM {} "
            "WHERE time BETWEEN %s AND %s AND feature_id = %s AND node_id = ANY(%s)",
            qualified(schema, "observation"),
            parameters=(
                moment(axes.time[0]),
                moment(axes.time[-1]),
                feature_id,
                axes.numbers.tolist(),
            ),
        ).fetchone()
        time, number, value = map(_unpack, row, (">i8", ">i4", ">f4"))  # type: ignore[arg-type]  # an aggregate
        t, n = np.searchsorted(axes.time, time), np.searchsorted(axes.numbers, number)
        values[t, f, n] = value
    return values


def moment(instant: int | np.int64) -> datetime:
    """Return microseconds since 2000 as the driver takes an instant."""
    return EPOCH + timedelta(microseconds=int(instant))


# ------------------------------------------------------------------------------------ changing


def _add(
    connection: Connection,
    schema: str,
    axes: Axes,
    values: npt.NDArray[np.float32],
    where: npt.NDArray[np.bool_],
) -> None:
    """Load new rows into the partitions of their days, in the order of the key."""
    bounds = np.flatnonzero(np.diff(axes.time // _DAY_US)) + 1
    for part, chosen, time in zip(
        np.split(values, bounds), np.split(where, bounds), np.split(axes.time, bounds), strict=True
    ):
        if not chosen.any():
            continue
        t, f, n = np.nonzero(chosen)
        copy_arrays(
            connection,
            qualified(schema, f"observation_{days_of(time)[0]:%Y%m%d}"),
            {
                "time": ("timestamptz", time[t]),
                "feature_id": ("smallint", np.array(axes.feature_ids)[f]),
                "node_id": ("integer", axes.numbers[n]),
                "value": ("real", part[chosen]),
            },
        )


def _change(
    connection: Connection,
    schema: str,
    axes: Axes,
    values: npt.NDArray[np.float32],
    where: npt.NDArray[np.bool_],
) -> None:
    """Give rows another value, and remove those whose value is NaN."""
    if not where.any():
        return
    stage = create_stage(
        connection,
        "staged_observation",
        {"time": "timestamptz", "feature_id": "smallint", "node_id": "integer", "value": "real"},
    )
    t, f, n = np.nonzero(where)
    copy_arrays(
        connection,
        stage,
        {
            "time": ("timestamptz", axes.time[t]),
            "feature_id": ("smallint", np.array(axes.feature_ids)[f]),
            "node_id": ("integer", axes.numbers[n]),
            "value": ("real", values[where]),
        },
    )
    execute(connection, "ANALYZE {}", stage)
    span = (moment(axes.time[0]), moment(axes.time[-1]))
    for statement in (_UPDATE, _DELETE):
        execute(connection, statement, qualified(schema, "observation"), stage, parameters=span)


_UPDATE: LiteralString = (
    "UPDATE {} o SET value = s.value FROM {} s WHERE o.time BETWEEN %s AND %s "
    "AND s.time = o.time AND s.feature_id = o.feature_id AND s.node_id = o.node_id "
    "AND s.value <> 'NaN'"
)
_DELETE: LiteralString = (
    "DELETE FROM {} o USING {} s WHERE o.time BETWEEN %s AND %s "
    "AND s.time = o.time AND s.feature_id = o.feature_id AND s.node_id = o.node_id "
    "AND s.value = 'NaN'"
)


def _remove_instants(connection: Connection, schema: str, axes: Axes, time: Instants) -> int:
    """Remove the rows of our nodes and features at some instants and return their number."""
    if not len(time):
        return 0
    return execute(
        connection,
        "DELETE FROM {} WHERE time BETWEEN %s AND %s AND time = ANY(%s) AND feature_id = ANY(%s) "
        "AND node_id = ANY(%s)",
        qualified(schema, "observation"),
        parameters=(
            moment(time[0]),
            moment(time[-1]),
            [moment(instant) for instant in time],
            list(axes.feature_ids),
            axes.numbers.tolist(),
        ),
    ).rowcount


def _forget_instants(connection: Connection, schema: str, time: Instants) -> None:
    """Remove those instants from the list that no row is left of."""
    if len(time):
        execute(
            connection,
            # the limit keeps it one probe of the key per instant
            "DELETE FROM {} t WHERE t.time = ANY(%s) "
            "AND (SELECT o.time FROM {} o WHERE o.time = t.time LIMIT 1) IS NULL",
            qualified(schema, "observation_time"),
            qualified(schema, "observation"),
            parameters=([moment(instant) for instant in time],),
        )


def _unpack(sent: bytes | None, dtype: str) -> npt.NDArray[Any]:
    """Return the elements of an array as `array_send` gives it, without missing ones."""
    if sent is None:
        return np.zeros(0, dtype=dtype)
    rows = np.frombuffer(sent, dtype=[("size", ">i4"), ("value", dtype)], offset=_ARRAY_HEADER)
    return rows["value"]
