"""Read forecasts and readings back from the database as graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from psycopg import sql

from stgraph.errors import DataError, InputError, nearest_name, shown
from stgraph.graph import Feature, STGraph
from stgraph.report import Report
from stgraph_connectors.postgis._observed import moment
from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    describe_dsn,
    execute,
    qualified,
)
from stgraph_connectors.postgis.copying import instants
from stgraph_connectors.postgis.fetching import fetch_arrays, fetch_groups, fetch_packed
from stgraph_connectors.postgis.places import group_quantiles
from stgraph_connectors.postgis.stored import (
    Dataset,
    open_reading,
    positions_of,
    read_dataset,
    restore,
)

_SPARSE = 1_000  # steps per instant with readings, above which the step cannot be right


def read_forecast(
    dsn: str,
    *,
    schema: str = "stgraph",
    issued_at: str | pd.Timestamp | None = None,
    chunk_rows: int = 20_000,
    patience: Patience | None = None,
) -> STGraph:
    """Read a published forecast back as the graph that it was.

    Attributes of nodes, and edges, are those of the last graph published. What was masked is NaN.

    Parameters
    ----------
    dsn
        libpq connection string of a member of the schema's writer or owner role.
    schema
        The Postgres schema.
    issued_at
        Issue time; without a zone it is wall clock of the dataset. None: the current issue.
    chunk_rows
        Rows (of a node and quantity each) in memory beside the result, at least 1.
    patience
        Timeouts. None means the defaults.

    Returns
    -------
    STGraph
        All of one moment, whatever is published meanwhile.

    Raises
    ------
    DataError
        There is no such issue; names the nearest one.
    OutputError
        The server cannot be reached, the schema is missing, or we may not read it.
    """
    _check_chunk(chunk_rows)
    where = f"{describe_dsn(dsn)}, schema {schema!r}"
    with open_reading(dsn, schema, "forecast", patience) as connection:
        dataset = read_dataset(connection, schema, chunk_rows)
        issue, document = _find_issue(connection, schema, issued_at, dataset.zone, where)
        names = [feature["name"] for feature in document["features"]]
        features = [Feature(f["name"], f["unit"], f["role"]) for f in document["features"]]
        numbers = _numbers_of(connection, schema, issue, dataset, where)
        shape = (document["n_steps"], len(numbers), len(names))
        values = np.full(shape, np.nan, dtype=np.float32)
        for name, quantiles in group_quantiles(features).items():
            query = _quantity(schema, issue, name)
            at = [names.index(name), *quantiles]
            shapes: list[tuple[int, ...]] = [(shape[0],), (len(quantiles), shape[0])]
            _fill_forecast(
                values, at, numbers, fetch_arrays(connection, query, shapes, chunk_rows=chunk_rows)
            )
        return restore(connection, dataset, document, numbers, values)


def read_observations(
    dsn: str,
    *,
    schema: str = "stgraph",
    start: str | pd.Timestamp | None = None,
    stop: str | pd.Timestamp | None = None,
    features: Sequence[str] | None = None,
    step_minutes: float | None = None,
    max_cells: int = 500_000_000,
    chunk_rows: int = 1_000_000,
    patience: Patience | None = None,
) -> STGraph:
    """Read what was observed as a graph with a fixed step.

    Parameters
    ----------
    dsn
        libpq connection string of a member of the schema's writer or owner role.
    schema
        The Postgres schema.
    start, stop
        Leave out readings before `start` and from `stop` on; without a zone they are wall clock
        of the dataset. None: no limit.
    features
        Names of quantities, in the order wanted. None: all that have readings.
    step_minutes
        Length of a step. None: the longest that fits all instants.
    max_cells
        Largest grid (steps x nodes x features) that is made.
    chunk_rows
        Readings in memory beside the result, at least 1.
    patience
        Timeouts. None means the defaults.

    Returns
    -------
    STGraph
        All nodes of the last graph published, in its order, and after them others with readings;
        the mask is False where there is none. All of one moment, whatever is published meanwhile.

    Raises
    ------
    DataError
        No readings in the span, an unknown feature, instants that lie on no grid.
    OutputError
        The server cannot be reached, the schema is missing, or we may not read it.
    """
    _check_chunk(chunk_rows)
    where = f"{describe_dsn(dsn)}, schema {schema!r}"
    report = Report()
    with open_reading(dsn, schema, "observation", patience) as connection:
        dataset = read_dataset(connection, schema, chunk_rows)
        span = _condition(start, stop, dataset.zone)
        seen = _instants_in(connection, schema, span)
        time = _grid(seen, step_minutes, where, report)
        chosen = _choose_features(connection, schema, features, where)
        numbers = _numbers_of_all(connection, dataset)
        shape = (len(time), len(numbers), len(chosen))
        if np.prod(shape, dtype=float) > max_cells:
            raise DataError(
                f"{where}: a grid of {shape[0]:,} steps x {shape[1]:,} nodes x {shape[2]} features "
                f"is more than `max_cells` = {max_cells:,}; give `start`, `stop` or `features`"
            )
        values = np.full(shape, np.nan, dtype=np.float32)
        if seen.size:
            _fill_observed(connection, schema, values, time, seen, numbers, chosen, chunk_rows)
        there = np.asarray(np.isfinite(values).any(axis=0))  # (N, F)
        if not there.any():
            raise DataError(f"{where}: {_nothing_there(connection, schema, start, stop)}")
        nodes = np.isin(numbers, dataset.listed) | np.any(there, axis=1)
        kept = np.any(there, axis=0) | (features is not None)
        if not (nodes.all() and kept.all()):
            values = values[np.ix_(np.ones(len(time), dtype=bool), nodes, kept)]
        document = _document(dataset, time, [f for f, k in zip(chosen, kept, strict=True) if k])
        document["provenance"] = {
            "connector": "postgis",
            "source": {"database": describe_dsn(dsn), "schema": schema},
            "findings": report.to_json(),
        }
        return restore(connection, dataset, document, numbers[nodes], values)


# ---------------------------------------------------------------------------------- forecasts


def _find_issue(
    connection: Connection,
    schema: str,
    issued_at: str | pd.Timestamp | None,
    zone: str,
    where: str,
) -> tuple[pd.Timestamp, dict[str, Any]]:
    """Return the time and the document of an issue."""
    run, current = qualified(schema, "run"), qualified(schema, "current_issue")
    wanted = None if issued_at is None else _instant(issued_at, zone, "issued_at")
    if wanted is None:
        query = "SELECT r.issued_at, r.document FROM {} r JOIN {} c USING (run_id)"
        row = execute(connection, query, run, current).fetchone()
    else:
        query = "SELECT issued_at, document FROM {} WHERE status = 'published' AND issued_at = %s"
        row = execute(connection, query, run, parameters=(wanted,)).fetchone()
    if row is not None:
        return pd.Timestamp(row[0]), row[1]
    nearest = execute(
        connection,
        "SELECT issued_at FROM {} WHERE status = 'published' "
        "ORDER BY abs(extract(epoch FROM issued_at - %s::timestamptz)) LIMIT 1",
        run,
        parameters=(wanted,),
    ).fetchone()
    if nearest is None:
        raise DataError(f"{where}: no forecast was published yet")
    what = "no current issue" if wanted is None else f"no issue of {wanted.isoformat()}"
    raise DataError(f"{where}: {what}; the nearest is `issued_at` = {nearest[0].isoformat()!r}")


def _numbers_of(
    connection: Connection, schema: str, issue: pd.Timestamp, dataset: Dataset, where: str
) -> npt.NDArray[np.int64]:
    """Return the numbers of the nodes of an issue: in the order of the last graph, then others."""
    found = _fetch_numbers(
        connection,
        sql.SQL(
            "SELECT string_agg(int4send(node_id), '' ORDER BY node_id) FROM {f} "
            "WHERE issued_at = {at} AND feature_id = "
            "(SELECT min(feature_id) FROM {f} WHERE issued_at = {at})"
        ).format(f=qualified(schema, "forecast"), at=sql.Literal(issue.to_pydatetime())),
    )
    if not found.size:
        raise DataError(f"{where}: the issue of {issue.isoformat()} was just removed by pruning")
    listed = dataset.listed[np.isin(dataset.listed, found)]
    return np.concatenate([listed, found[~np.isin(found, listed)]])


def _quantity(schema: str, issue: pd.Timestamp, name: str) -> sql.Composable:
    """Return the query of all rows of a quantity."""
    return sql.SQL(
        "SELECT node_id, mean, quantiles FROM {} WHERE issued_at = {} "
        "AND feature_id = (SELECT feature_id FROM {} WHERE name = {})"
    ).format(
        qualified(schema, "forecast"),
        sql.Literal(issue.to_pydatetime()),
        qualified(schema, "feature"),
        sql.Literal(name),
    )


def _fill_forecast(
    values: npt.NDArray[np.float32],
    at: list[int],
    numbers: npt.NDArray[np.int64],
    blocks: Iterator[tuple[npt.NDArray[np.int64], list[npt.NDArray[np.float32]]]],
) -> None:
    """Put rows of a quantity into `values` (H, N, F); `at` are the mean's and quantiles' places."""
    positions = positions_of(numbers)
    for found, (mean, quantiles) in blocks:
        values[:, positions[found], at[0]] = mean.T
        for level, place in enumerate(at[1:]):
            values[:, positions[found], place] = quantiles[:, level].T


# ------------------------------------------------------------------------------- observations


def _condition(
    start: str | pd.Timestamp | None, stop: str | pd.Timestamp | None, zone: str
) -> sql.Composable:
    """Return the condition on the column `time`."""
    parts: list[sql.Composable] = [sql.SQL("true")]
    if start is not None:
        parts.append(sql.SQL("time >= {}").format(sql.Literal(_instant(start, zone, "start"))))
    if stop is not None:
        parts.append(sql.SQL("time < {}").format(sql.Literal(_instant(stop, zone, "stop"))))
    return sql.SQL(" AND ").join(parts)


def _instants_in(
    connection: Connection, schema: str, span: sql.Composable
) -> npt.NDArray[np.int64]:
    """Return the instants with readings, in microseconds since 2000 UTC."""
    return _fetch_numbers(
        connection,
        sql.SQL(
            "SELECT string_agg(timestamptz_send(time), '' ORDER BY time) FROM {} WHERE {}"
        ).format(qualified(schema, "observation_time"), span),
        width=8,
    )


def _grid(
    seen: npt.NDArray[np.int64], step_minutes: float | None, where: str, report: Report
) -> pd.DatetimeIndex:
    """Return the time axis on which all instants lie."""
    if seen.size == 0:
        return pd.DatetimeIndex([], tz="UTC")
    between = np.diff(seen)
    step = int(np.gcd.reduce(between)) if seen.size > 1 else 0
    if step_minutes is not None:
        step = round(step_minutes * 60_000_000)
        if step <= 0 or (between % step).any():
            raise DataError(
                f"{where}: instants with readings are no multiples of `step_minutes` = "
                f"{step_minutes:g} apart; leave it out, or read another span"
            )
    first = pd.Timestamp(moment(seen[0]))
    if not step:
        return pd.DatetimeIndex([first])
    n_steps = int((seen[-1] - seen[0]) // step) + 1
    length = pd.Timedelta(step, unit="us")
    if n_steps > _SPARSE * seen.size:
        raise DataError(
            f"{where}: {seen.size} instants with readings lie on no grid (a step of {length} would "
            f"make {n_steps:,}); publish readings with a fixed step"
        )
    if n_steps > seen.size:
        gaps = f"{n_steps - seen.size:,} of {n_steps:,} steps of {length} have no reading at all"
        report.warning("`observation`", gaps, "they were kept, all of it missing")
    return pd.date_range(first, periods=n_steps, freq=length)


def _choose_features(
    connection: Connection, schema: str, names: Sequence[str] | None, where: str
) -> list[tuple[int, Feature]]:
    """Return the features asked for, with their numbers."""
    rows = execute(
        connection,
        "SELECT name, feature_id, unit, role FROM {} ORDER BY feature_id",
        qualified(schema, "feature"),
    ).fetchall()
    known = {row[0]: (int(row[1]), Feature(row[0], row[2], row[3])) for row in rows}
    if isinstance(names, str):
        raise InputError(f"`features` is the text {names!r}; give a list of names")
    for name in names or ():
        if name not in known:
            hint = nearest_name(name, known)
            raise DataError(f"{where}: no feature is called {name!r}{hint}; there are {[*known]}")
    return [known[name] for name in (known if names is None else names)]


def _numbers_of_all(connection: Connection, dataset: Dataset) -> npt.NDArray[np.int64]:
    """Return the numbers of all nodes, those of the last graph first and in its order."""
    query = sql.SQL("SELECT string_agg(int4send(node_id), '' ORDER BY node_id) FROM {}")
    found = _fetch_numbers(connection, query.format(qualified(dataset.schema, "node")))
    return np.concatenate([dataset.listed, found[~np.isin(found, dataset.listed)]])


def _fill_observed(
    connection: Connection,
    schema: str,
    values: npt.NDArray[np.float32],
    time: pd.DatetimeIndex,
    seen: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    chosen: Sequence[tuple[int, Feature]],
    chunk_rows: int,
) -> None:
    """Put all readings of some instants into `values` (T, N, F)."""
    step = 1 if len(time) < 2 else int(instants(time[1]) - instants(time[0]))
    positions = positions_of(numbers)
    places = {number: i for i, (number, _) in enumerate(chosen)}
    n_instants = max(1, chunk_rows // max(1, len(numbers) * len(chosen)))
    for i in range(0, len(seen), n_instants):
        part = seen[i : i + n_instants]
        query = _readings(schema, part[0], part[-1], list(places))
        for instant, feature, found, block in fetch_groups(connection, query):
            values[(instant - seen[0]) // step, positions[found], places[feature]] = block


def _readings(
    schema: str, first: np.int64, last: np.int64, feature_ids: list[int]
) -> sql.Composable:
    """Return the query of all readings from an instant to another, a row per instant and feature.

    Packed on the server: a row per reading would take ten times as long to come over.
    """
    return sql.SQL(
        "SELECT time, feature_id, string_agg(int4send(node_id) || float4send(value), '') FROM {} "
        "WHERE time BETWEEN {} AND {} AND feature_id = ANY({}) GROUP BY time, feature_id"
    ).format(
        qualified(schema, "observation"),
        sql.Literal(moment(first)),
        sql.Literal(moment(last)),
        sql.Literal(feature_ids),
    )


def _nothing_there(connection: Connection, schema: str, start: object, stop: object) -> str:
    """Return that there are no readings, and where there are some."""
    row = execute(
        connection, "SELECT min(time), max(time) FROM {}", qualified(schema, "observation_time")
    ).fetchone()
    if row is None or row[0] is None:
        return "no readings were published yet"
    first, last = (at.isoformat() for at in row)
    given = f"`start` = {shown(start)} and `stop` = {shown(stop)}"
    return f"no readings between {given}; there are some from {first} to {last}"


def _document(
    dataset: Dataset, time: pd.DatetimeIndex, chosen: Sequence[tuple[int, Feature]]
) -> dict[str, Any]:
    """Return what `restore_graph` wants to know of readings."""
    step = int(instants(time[1]) - instants(time[0])) if len(time) > 1 else None
    return {
        "zone": dataset.zone,
        "weight_unit": dataset.weight_unit,
        "start_us": int(time.as_unit("us").asi8[0]),
        "step_us": step,
        "n_steps": len(time),
        "features": [{"name": f.name, "unit": f.unit, "role": f.role} for _, f in chosen],
    }


# -------------------------------------------------------------------------------------- small


def _fetch_numbers(
    connection: Connection, query: sql.Composed, *, width: int = 4
) -> npt.NDArray[np.int64]:
    """Return the whole numbers that a query packs into one value."""
    return fetch_packed(connection, query, np.dtype(f">i{width}")).astype(np.int64)


def _instant(time: str | pd.Timestamp, zone: str, name: str) -> pd.Timestamp:
    """Return an instant or wall clock in UTC."""
    try:
        stamp = pd.Timestamp(time)
        if stamp.tzinfo is None:
            stamp = stamp.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
        utc: pd.Timestamp = stamp.tz_convert("UTC").floor("us")
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`{name}` is {time!r}; give an ISO time such as '2024-03-01T06:55Z'"
        ) from error
    if pd.isna(utc):
        raise InputError(f"`{name}` is {time!r}; give an ISO time such as '2024-03-01T06:55Z'")
    return utc


def _check_chunk(chunk_rows: int) -> None:
    """Refuse chunks of nothing."""
    if chunk_rows < 1:
        raise InputError(f"`chunk_rows` is {chunk_rows!r}; give at least 1")
