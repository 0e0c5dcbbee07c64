"""Publish an issue of a forecast: load it, update the layers, move the pointer, all or nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import OutputError
from stgraph.graph import STGraph
from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    execute,
    qualified,
    run_transaction,
)
from stgraph_connectors.postgis.copying import copy_arrays, instants
from stgraph_connectors.postgis.forecast_layer import show_issue, style_issue
from stgraph_connectors.postgis.issues import Issue, prepare_issue
from stgraph_connectors.postgis.layers import FORECAST
from stgraph_connectors.postgis.places import sync_edges, sync_features, sync_nodes
from stgraph_connectors.postgis.publishing import LOCK, as_jsonb, clean_text, take_turn
from stgraph_connectors.postgis.schema import check_schema
from stgraph_connectors.styles import Style

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publication:
    """What became of an issue."""

    schema: str
    run_id: int
    issued_at: pd.Timestamp
    n_rows: int  # values written: nodes x quantities x horizons
    seconds: float
    is_new: bool  # False: the same issue was there already
    is_current: bool  # the layers show it
    layers_built: tuple[str, ...] = ()  # layers that were made or made anew


@dataclass(frozen=True)
class _Notes:
    """What is kept with a run beside its values."""

    config: Mapping[str, Any] | None
    metrics: Mapping[str, Any] | None
    code_version: str | None


def publish_forecast(
    graph: STGraph,
    dsn: str,
    *,
    schema: str = "stgraph",
    style: Style | None = None,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    code_version: str | None = None,
    readings: STGraph | None = None,
    edges: bool = True,
    current: bool | None = None,
    patience: Patience | None = None,
) -> Publication:
    """Publish a forecast as the current issue of a dataset; readers see it whole or not at all.

    Parameters
    ----------
    graph
        A forecast; `provenance` says when it was issued.
    dsn
        libpq connection string of the schema's owner, or, once the layers are there, a writer.
    schema
        The Postgres schema, made by `init_schema`.
    style
        How QGIS draws the layers, unless somebody changed that there. None chooses everything.
    config, metrics
        Of the job that made it; kept with the run, as JSON.
    code_version
        Version of the code or config that made it, such as a git commit; kept with the run.
    readings
        What was observed lately: the classes of the styles are chosen from it, once. None: from
        the forecast.
    edges
        Also write the edges.
    current
        Move the layers to this issue. None: unless a later issue is there.
    patience
        Timeouts and number of attempts. None means the defaults.

    Returns
    -------
    Publication
        Which run it became, and whether it was new.

    Raises
    ------
    DataError
        The graph is no forecast that can be kept: no issue time, no nodes, no step.
    OutputError
        The database refused or was lost; the last good issue stays current.
    """
    patience = patience or Patience()
    began = time.perf_counter()
    issue = prepare_issue(graph, style, readings)
    notes = _Notes(config, metrics, code_version)

    def work(connection: Connection) -> Publication:
        return _publish(
            connection,
            schema,
            issue,
            notes,
            edges=edges,
            current=current,
            patience=patience,
        )

    run_transaction(dsn, lambda c: _announce(c, schema, issue, dsn), patience=patience)
    try:
        done = run_transaction(dsn, work, patience=patience)
    except Exception as error:
        _note_failure(dsn, schema, issue, error)
        raise
    seconds = time.perf_counter() - began
    logger.info("published issue %s in %.2f s: %d values", done.issued_at, seconds, done.n_rows)
    if not done.is_current:
        logger.info("issue %s is kept; the layers stay at a later one", done.issued_at)
    return replace(done, seconds=seconds)


def _announce(connection: Connection, schema: str, issue: Issue, dsn: str) -> None:
    """Make the day's partition, and tidy up after publishers that were killed."""
    check_schema(connection, schema, dsn=dsn)
    run, day = qualified(schema, "run"), issue.issued_at.date()
    ensure = qualified(schema, "ensure_partition")
    execute(connection, "SELECT {}('forecast', %s::date)", ensure, parameters=(day,))
    # whoever holds the lock is at work; all other unfinished runs are of the dead
    execute(
        connection,
        "UPDATE {} SET status = 'failed', finished_at = clock_timestamp(), "
        "message = 'the publisher ended before it was done' "
        "WHERE status = 'loading' AND pg_try_advisory_xact_lock(%s, hashtext(%s))",
        run,
        parameters=(LOCK, schema),
    )
    execute(
        connection,
        "INSERT INTO {} (issued_at, first_target, step, horizon, model, status, digest, "
        "library, document) "
        # seconds: across a change of clocks, the server's `1 day` is not always 24 hours
        "VALUES (%s, %s, make_interval(secs => %s), %s, %s, 'loading', %s, %s, '{{}}')",
        run,
        parameters=(
            issue.issued_at,
            issue.graph.time[0],
            issue.step.total_seconds(),
            issue.graph.n_steps,
            _text(issue.graph.provenance.get("model")),
            issue.digest,
            f"stgraph-gis {version('stgraph-gis')}",
        ),
    )


def _publish(
    connection: Connection,
    schema: str,
    issue: Issue,
    notes: _Notes,
    *,
    edges: bool,
    current: bool | None,
    patience: Patience,
) -> Publication:
    """Do all of it in the one transaction of the connection."""
    take_turn(connection, schema)
    pointer = qualified(schema, "current_issue")
    shown = execute(connection, "SELECT issued_at, run_id FROM {}", pointer).fetchone()
    moves = current if current is not None else shown is None or shown[0] <= issue.issued_at
    known = _find_run(connection, schema, issue)
    is_shown = shown is not None and shown[1] == known
    if known is not None and (is_shown or not moves):
        _forget_attempt(connection, schema, issue)
        if is_shown:
            style_issue(connection, schema, issue)
        return Publication(schema, known, issue.issued_at, 0, 0.0, False, is_shown)
    numbers = sync_nodes(connection, schema, issue.graph)
    if edges:
        sync_edges(connection, schema, issue.graph, numbers)
    ids = sync_features(connection, schema, issue.features, issue.levels)
    n_rows = _load(connection, schema, issue, numbers, ids) if known is None else 0
    run_id = _finish_run(connection, schema, issue, notes)
    built = moves and show_issue(connection, schema, issue, numbers, ids, patience)
    if moves:
        style_issue(connection, schema, issue)
        execute(
            connection,
            "INSERT INTO {} (run_id, issued_at) VALUES (%s, %s) ON CONFLICT (only_row) DO "
            "UPDATE SET run_id = excluded.run_id, issued_at = excluded.issued_at",
            pointer,
            parameters=(run_id, issue.issued_at),
        )
    layers = (FORECAST,) if built else ()
    is_new = known is None
    return Publication(schema, run_id, issue.issued_at, n_rows, 0.0, is_new, moves, layers)


def _find_run(connection: Connection, schema: str, issue: Issue) -> int | None:
    """Return the published run that is exactly this issue."""
    row = execute(
        connection,
        "SELECT run_id FROM {} WHERE issued_at = %s AND status = 'published' AND digest = %s",
        qualified(schema, "run"),
        parameters=(issue.issued_at, issue.digest),
    ).fetchone()
    return None if row is None else int(row[0])


def _load(
    connection: Connection,
    schema: str,
    issue: Issue,
    numbers: npt.NDArray[np.int64],
    ids: Mapping[str, int],
) -> int:
    """Replace the rows of the issue and return how many values were written."""
    part = qualified(schema, issue.partition)
    delete = "DELETE FROM {} WHERE issued_at = %s"
    execute(connection, delete, part, parameters=(issue.issued_at,))
    order = np.argsort(numbers)  # the key grows at its end only
    n_rows = 0
    for name, feature_id in sorted(ids.items(), key=lambda item: item[1]):
        n_rows += copy_arrays(
            connection,
            part,
            {
                "issued_at": ("timestamptz", instants(issue.issued_at)),
                "feature_id": ("smallint", feature_id),
                "node_id": ("integer", numbers[order]),
                "mean": ("real[]", issue.means[name][order]),
                "quantiles": ("real[]", issue.quantiles[name][order]),
                "trend": ("text", issue.trend[name][order]),
            },
        )
    return n_rows * issue.graph.n_steps


def _finish_run(connection: Connection, schema: str, issue: Issue, notes: _Notes) -> int:
    """Turn the announced run into the published one of its issue time."""
    run = qualified(schema, "run")
    execute(
        connection,
        "UPDATE {} SET status = 'replaced' WHERE issued_at = %s AND status = 'published'",
        run,
        parameters=(issue.issued_at,),
    )
    row = execute(
        connection,
        "UPDATE {} SET status = 'published', finished_at = clock_timestamp(), message = NULL, "
        "config = %s, metrics = %s, document = %s, code_version = %s WHERE run_id = ("
        "SELECT max(run_id) FROM {} WHERE issued_at = %s AND digest = %s) RETURNING run_id",
        run,
        run,
        parameters=(
            as_jsonb(notes.config),
            as_jsonb(notes.metrics),
            as_jsonb(issue.document),
            _text(notes.code_version),
            issue.issued_at,
            issue.digest,
        ),
    ).fetchone()
    if row is None:
        raise OutputError(
            f"issue {issue.issued_at} was removed while it was published, by pruning; publish an "
            "issue that is not older than what is kept"
        )
    return int(row[0])


def _forget_attempt(connection: Connection, schema: str, issue: Issue) -> None:
    """Remove the announcement of a run that was there already."""
    execute(
        connection,
        "DELETE FROM {} WHERE issued_at = %s AND digest = %s AND status = 'loading'",
        qualified(schema, "run"),
        parameters=(issue.issued_at, issue.digest),
    )


def _note_failure(dsn: str, schema: str, issue: Issue, error: Exception) -> None:
    """Note in the run why it failed, if the server can still be asked."""
    message = str(error).splitlines()[0][:500] if str(error) else type(error).__name__

    def work(connection: Connection) -> None:
        execute(
            connection,
            "UPDATE {} SET status = 'failed', finished_at = clock_timestamp(), message = %s "
            "WHERE issued_at = %s AND digest = %s AND status = 'loading'",
            qualified(schema, "run"),
            parameters=(message, issue.issued_at, issue.digest),
        )

    try:
        run_transaction(dsn, work, patience=Patience(attempts=1, connect_timeout_s=3))
    except OSError as another:
        logger.debug("the failure could not be noted: %s", another)


def _text(value: object) -> str | None:
    """Return a value as text, None as it is."""
    return None if value is None else clean_text(str(value))
