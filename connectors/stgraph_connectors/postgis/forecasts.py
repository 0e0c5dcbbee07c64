"""Publish an issue of a forecast: load it, update the layers, move the pointer, all or nothing."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from psycopg import sql
from psycopg.types.json import Jsonb

from stgraph.errors import DataError
from stgraph.graph import STGraph
from stgraph_connectors.postgis.connect import Connection, Patience, qualified, run_transaction
from stgraph_connectors.postgis.copying import copy_arrays, instants
from stgraph_connectors.postgis.layer_styles import write_styles
from stgraph_connectors.postgis.layers import (
    FORECAST,
    Column,
    Layer,
    layer_stride,
    update_layer,
)
from stgraph_connectors.postgis.places import (
    geometry_type,
    group_quantiles,
    sync_edges,
    sync_features,
    sync_nodes,
)
from stgraph_connectors.postgis.publishing import LOCK, short_names, take_turn
from stgraph_connectors.postgis.schema import check_schema
from stgraph_connectors.qgis import format_sparkline
from stgraph_connectors.sinks._document import describe_graph
from stgraph_connectors.styles import Style, feature_title, main_feature, quantile_of, stem_of

logger = logging.getLogger(__name__)

_OWN = ("fid", "node_id", "horizon", "target_time", "issued_at", "trend", "geom")
_MAX_HORIZON = 32_767


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
class _Issue:
    """A forecast, ready for the database."""

    graph: STGraph
    issued_at: pd.Timestamp
    step: pd.Timedelta
    means: dict[str, npt.NDArray[np.float32]]  # quantity -> (N, H)
    quantiles: dict[str, npt.NDArray[np.float32]]  # quantity -> (N, L, H)
    levels: dict[str, list[float]]
    columns: tuple[str, ...]  # of the layer, one per feature of the graph
    style: Style | None
    drawn: str  # the quantity of the map tip's line of blocks
    trend: dict[str, npt.NDArray[np.bytes_]]  # quantity -> (N,) lines of blocks, UTF-8
    document: dict[str, Any]
    digest: str


def publish_forecast(
    graph: STGraph,
    dsn: str,
    *,
    schema: str = "stgraph",
    style: Style | None = None,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
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
        Kept with the run, as JSON.
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
    issue = _prepare(graph, style)

    def work(connection: Connection) -> Publication:
        return _publish(
            connection,
            schema,
            issue,
            config=config,
            metrics=metrics,
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
    return Publication(**{**done.__dict__, "seconds": seconds})


# ---------------------------------------------------------------------------------- preparing


def _prepare(graph: STGraph, style: Style | None) -> _Issue:
    """Check a forecast and bring its values into the order of the database."""
    issued_at, step = _issue_time(graph)
    if not graph.n_nodes or not 1 <= graph.n_steps <= _MAX_HORIZON or not graph.n_features:
        raise DataError(f"{graph!r} has no values to publish")
    groups = group_quantiles(graph.features)
    values = np.where(graph.mask, graph.values, np.float32("nan")).transpose(1, 2, 0)  # (N, F, H)
    names = graph.feature_names
    means = {name: np.ascontiguousarray(values[:, names.index(name)]) for name in groups}
    quantiles = {name: np.ascontiguousarray(values[:, at]) for name, at in groups.items()}
    levels = {
        name: [quantile_of(names[i]) or 0.0 for i in positions]
        for name, positions in groups.items()
    }
    document = describe_graph(graph, reserved=_OWN)
    shown = main_feature(graph, style).name
    digest = hashlib.blake2b(digest_size=16)
    for part in (json.dumps(document, sort_keys=True), "\x00".join(map(str, graph.node_ids))):
        digest.update(part.encode("utf-8", "surrogatepass"))
    digest.update(np.ascontiguousarray(values).data)
    return _Issue(
        graph=graph,
        issued_at=issued_at,
        step=step,
        means=means,
        quantiles=quantiles,
        levels=levels,
        columns=short_names([feature["column"] for feature in document["features"]]),
        style=style,
        drawn=shown if shown in groups else stem_of(shown),
        trend={name: _draw(mean) for name, mean in means.items()},
        document=document,
        digest=digest.hexdigest(),
    )


def _draw(mean: npt.NDArray[np.float32]) -> npt.NDArray[np.bytes_]:
    """Return the course of each row of (N, H) as blocks; a gap is a dot as long as a block."""
    lines = [line.replace("·", "⋅") for line in format_sparkline(mean.T, width=12)]
    return np.char.encode(np.array(lines), "utf-8")


def _issue_time(graph: STGraph) -> tuple[pd.Timestamp, pd.Timedelta]:
    """Return when a forecast was issued, and its step."""
    provenance = graph.provenance
    if provenance.get("kind") != "forecast" or not provenance.get("issued_at"):
        raise DataError(
            "the graph is no forecast: `provenance` needs kind='forecast' and `issued_at`; "
            "readings go to publish_observations()"
        )
    issued_at = pd.Timestamp(provenance["issued_at"])
    issued_at = (
        issued_at.tz_localize("UTC") if issued_at.tz is None else issued_at.tz_convert("UTC")
    )
    step = graph.step
    if step is None and "step_minutes" in provenance:
        step = pd.Timedelta(minutes=float(provenance["step_minutes"]))
    if step is None:
        raise DataError("the forecast has one instant and no `step_minutes` in its `provenance`")
    return issued_at, step


# --------------------------------------------------------------------------------- publishing


def _announce(connection: Connection, schema: str, issue: _Issue, dsn: str) -> None:
    """Make the day's partition, and tidy up after publishers that were killed."""
    check_schema(connection, schema, dsn=dsn)
    connection.execute(
        sql.SQL("SELECT {}('forecast', %s::date)").format(qualified(schema, "ensure_partition")),
        (issue.issued_at.date(),),
    )
    # whoever holds the lock is at work; all other unfinished runs are of the dead
    connection.execute(
        sql.SQL(
            "UPDATE {} SET status = 'failed', finished_at = clock_timestamp(), "
            "message = 'the publisher ended before it was done' "
            "WHERE status = 'loading' AND pg_try_advisory_xact_lock(%s, hashtext(%s))"
        ).format(qualified(schema, "run")),
        (LOCK, schema),
    )
    connection.execute(
        sql.SQL(
            "INSERT INTO {} (issued_at, first_target, step, horizon, model, status, digest, "
            "library, document) VALUES (%s, %s, %s, %s, %s, 'loading', %s, %s, '{{}}')"
        ).format(qualified(schema, "run")),
        (
            issue.issued_at,
            issue.graph.time[0],
            issue.step,
            issue.graph.n_steps,
            _text(issue.graph.provenance.get("model")),
            issue.digest,
            f"stgraph-gis {version('stgraph-gis')}",
        ),
    )


def _publish(
    connection: Connection,
    schema: str,
    issue: _Issue,
    *,
    config: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    edges: bool,
    current: bool | None,
    patience: Patience,
) -> Publication:
    """Do all of it in the one transaction of the connection."""
    run = qualified(schema, "run")
    take_turn(connection, schema)
    pointer = connection.execute(
        sql.SQL("SELECT issued_at, run_id FROM {}").format(qualified(schema, "current_issue"))
    ).fetchone()
    moves = current if current is not None else pointer is None or pointer[0] <= issue.issued_at
    same = connection.execute(
        sql.SQL(
            "SELECT run_id FROM {} WHERE issued_at = %s AND status = 'published' AND digest = %s"
        ).format(run),
        (issue.issued_at, issue.digest),
    ).fetchone()
    shown = pointer is not None and same is not None and pointer[1] == same[0]
    if same is not None and (shown or not moves):
        _forget_attempt(connection, schema, issue)
        if shown:
            _style(connection, schema, issue)
        return Publication(schema, same[0], issue.issued_at, 0, 0.0, False, shown)
    numbers = sync_nodes(connection, schema, issue.graph)
    if edges:
        sync_edges(connection, schema, issue.graph, numbers)
    features = [f for f in issue.graph.features if f.name in issue.means]
    ids = sync_features(connection, schema, features, issue.levels)
    n_rows = _load(connection, schema, issue, numbers, ids) if same is None else 0
    built = False
    run_id = _finish_run(connection, schema, issue, config, metrics)
    if moves:
        built = _show(connection, schema, issue, numbers, ids, patience)
        _style(connection, schema, issue)
        connection.execute(
            sql.SQL(
                "INSERT INTO {} (run_id, issued_at) VALUES (%s, %s) ON CONFLICT (only_row) DO "
                "UPDATE SET run_id = excluded.run_id, issued_at = excluded.issued_at"
            ).format(qualified(schema, "current_issue")),
            (run_id, issue.issued_at),
        )
    return Publication(
        schema, run_id, issue.issued_at, n_rows, 0.0, True, moves, (FORECAST,) if built else ()
    )


def _load(
    connection: Connection,
    schema: str,
    issue: _Issue,
    numbers: npt.NDArray[np.int64],
    ids: Mapping[str, int],
) -> int:
    """Replace the rows of the issue and return how many values were written."""
    forecast = qualified(schema, "forecast")
    part = qualified(schema, f"forecast_{issue.issued_at:%Y%m%d}")
    connection.execute(
        sql.SQL("DELETE FROM {} WHERE issued_at = %s").format(forecast), (issue.issued_at,)
    )
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


def _finish_run(
    connection: Connection,
    schema: str,
    issue: _Issue,
    config: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
) -> int:
    """Turn the announced run into the published one of its issue time."""
    run = qualified(schema, "run")
    connection.execute(
        sql.SQL(
            "UPDATE {} SET status = 'replaced' WHERE issued_at = %s AND status = 'published'"
        ).format(run),
        (issue.issued_at,),
    )
    row = connection.execute(
        sql.SQL(
            "UPDATE {run} SET status = 'published', finished_at = clock_timestamp(), "
            "config = %s, metrics = %s, document = %s, code_version = %s WHERE run_id = ("
            "SELECT max(run_id) FROM {run} WHERE issued_at = %s AND digest = %s "
            "AND status IN ('loading', 'failed', 'replaced')) RETURNING run_id"
        ).format(run=run),
        (
            None if config is None else Jsonb(_jsonable(config)),
            None if metrics is None else Jsonb(_jsonable(metrics)),
            Jsonb(issue.document),
            _text(issue.graph.provenance.get("code_version")),
            issue.issued_at,
            issue.digest,
        ),
    ).fetchone()
    return int(row[0])  # type: ignore[index]  # the run was announced


def _show(
    connection: Connection,
    schema: str,
    issue: _Issue,
    numbers: npt.NDArray[np.int64],
    ids: Mapping[str, int],
    patience: Patience,
) -> bool:
    """Let the layers show the issue; True if they had to be built."""
    part = qualified(schema, f"forecast_{issue.issued_at:%Y%m%d}")
    rows = "(SELECT * FROM {} WHERE issued_at = {} AND feature_id = {}) AS {}"
    names = [issue.drawn, *(name for name in ids if name != issue.drawn)]
    source: sql.Composable = sql.SQL("")
    for name in names:
        source += sql.SQL(rows).format(
            part, sql.Literal(issue.issued_at), sql.Literal(ids[name]), _alias(issue, ids, name)
        )
        if name != issue.drawn:
            source += sql.SQL(" USING (node_id)")
        if name != names[-1]:
            source += sql.SQL(" JOIN ")
    return update_layer(
        connection,
        schema,
        _layer(issue, layer_stride(int(numbers.max()))),
        _expressions(issue, ids),
        source,
        numbers,
        patience=patience,
    )


def _style(connection: Connection, schema: str, issue: _Issue) -> None:
    """Let QGIS open the layer with our styles."""
    write_styles(
        connection,
        schema,
        issue.graph,
        layer=FORECAST,
        columns=issue.columns,
        time_column="target_time",
        style=issue.style,
    )


def _layer(issue: _Issue, stride: int) -> Layer:
    """Return what the layer `forecast_latest` must look like for an issue."""
    srid, kind = geometry_type(issue.graph)
    step = f"{issue.step / pd.Timedelta(minutes=1):g} minutes"
    columns = [
        Column("horizon", "smallint", f"Steps ahead, from 1; a step is {step}", fixed=True),
        Column("target_time", "timestamptz", f"The instant that is forecast, valid for {step}"),
        Column("issued_at", "timestamptz", "When the forecast was made: the last instant known"),
    ]
    columns += [
        Column(column, "real", feature_title(feature))
        for column, feature in zip(issue.columns, issue.graph.features, strict=True)
    ]
    columns.append(Column("trend", "text", "The node's whole forecast as a line of blocks"))
    return Layer(
        name=FORECAST,
        comment="The current forecast, one row per node and horizon",
        columns=tuple(columns),
        srid=srid,
        geometry_type=kind,
        n_horizons=issue.graph.n_steps,
        stride=stride,
    )


def _expressions(issue: _Issue, ids: Mapping[str, int]) -> dict[str, sql.Composable]:
    """Return where each column of the layer comes from."""
    first = sql.Literal(issue.graph.time[0].to_pydatetime())
    result: dict[str, sql.Composable] = {
        "horizon": sql.SQL("t.horizon"),
        "target_time": sql.SQL("{} + (t.horizon - 1) * {}").format(
            first, sql.Literal(issue.step.to_pytimedelta())
        ),
        "issued_at": sql.Literal(issue.issued_at.to_pydatetime()),
        "trend": sql.SQL("s.trend"),
    }
    groups = group_quantiles(issue.graph.features)
    for name, positions in groups.items():
        alias = _alias(issue, ids, name)
        own = issue.columns[issue.graph.feature_names.index(name)]
        result[own] = sql.SQL("nullif({}.mean[t.horizon], 'NaN')").format(alias)
        for level, position in enumerate(positions, start=1):
            result[issue.columns[position]] = sql.SQL(
                "nullif({}.quantiles[{}][t.horizon], 'NaN')"
            ).format(alias, sql.Literal(level))
    return result


def _alias(issue: _Issue, ids: Mapping[str, int], name: str) -> sql.Identifier:
    """Return the name of a quantity's rows in a query; those of the drawn one are the source."""
    return sql.Identifier("s" if name == issue.drawn else f"f{ids[name]}")


def _forget_attempt(connection: Connection, schema: str, issue: _Issue) -> None:
    """Remove the announcement of a run that was there already."""
    connection.execute(
        sql.SQL(
            "DELETE FROM {} WHERE issued_at = %s AND digest = %s AND status = 'loading'"
        ).format(qualified(schema, "run")),
        (issue.issued_at, issue.digest),
    )


def _note_failure(dsn: str, schema: str, issue: _Issue, error: Exception) -> None:
    """Note in the run why it failed, if the server can still be asked."""
    message = str(error).splitlines()[0][:500] if str(error) else type(error).__name__

    def work(connection: Connection) -> None:
        connection.execute(
            sql.SQL(
                "UPDATE {} SET status = 'failed', finished_at = clock_timestamp(), message = %s "
                "WHERE issued_at = %s AND digest = %s AND status = 'loading'"
            ).format(qualified(schema, "run")),
            (message, issue.issued_at, issue.digest),
        )

    try:
        run_transaction(dsn, work, patience=Patience(attempts=1, connect_timeout_s=3))
    except OSError as another:
        logger.debug("the failure could not be noted: %s", another)


def _jsonable(value: Mapping[str, Any]) -> Any:
    """Return a mapping as JSON knows it."""
    return json.loads(json.dumps(value, default=str))


def _text(value: object) -> str | None:
    """Return a value as text, None as it is."""
    return None if value is None else str(value)
