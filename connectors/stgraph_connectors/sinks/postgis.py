"""Publish a forecast, or readings, in PostGIS, as layers that QGIS just opens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stgraph.errors import InputError
from stgraph.graph import STGraph
from stgraph_connectors.postgis.connect import Patience
from stgraph_connectors.postgis.evaluations import (
    EvaluationPublication,
    check_errors,
    publish_evaluation,
)
from stgraph_connectors.postgis.forecasts import Publication, publish_forecast
from stgraph_connectors.postgis.observations import (
    ObservationPublication,
    check_readings,
    publish_observations,
)
from stgraph_connectors.sinks._document import is_forecast
from stgraph_connectors.styles import Style, main_feature


@dataclass(frozen=True)
class PostgisPublication:
    """What became of each part; None for what was not given."""

    schema: str
    forecast: Publication | None = None
    observations: ObservationPublication | None = None
    evaluation: EvaluationPublication | None = None


def write_postgis(
    graph: STGraph,
    dsn: str,
    *,
    schema: str = "stgraph",
    style: Style | None = None,
    node_metrics: pd.DataFrame | None = None,
    observations: STGraph | None = None,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    code_version: str | None = None,
    edges: bool = True,
    current: bool | None = None,
    patience: Patience | None = None,
) -> PostgisPublication:
    """Publish a forecast or readings in PostGIS; doing it twice changes nothing.

    A forecast becomes the layers `forecast_latest` and `forecast_latest_h1`, `_h2`, ...; readings
    become `observation_latest` and `support`; errors per node become `error_by_node`. Each of the
    three is published as a whole or not at all, the forecast first.

    Parameters
    ----------
    graph
        A forecast, or readings.
    dsn
        libpq connection string such as ``service=traffic``; passwords belong into ``~/.pgpass``.
    schema
        The Postgres schema, made by ``stgraph db init``.
    style
        Which feature is coloured, and how. None chooses from the data.
    node_metrics
        Errors of the forecast's model at its main target, indexed by node id, or by node id and
        horizon (0 = over all): any of ``mae, rmse, mape_percent, skill_percent,
        coverage_percent, width, crps, n``.
    observations
        Readings to show beside a forecast, such as those of the last days; the classes of the
        styles are chosen from them.
    config, metrics
        Config of the job that made the forecast, and its skill, kept with it as JSON.
    code_version
        Version of the code or config that made the forecast, such as a git commit.
    edges
        Also write the edges.
    current
        Move the layers to this forecast. None: unless a later one is there.
    patience
        Timeouts and number of attempts. None means the defaults.

    Returns
    -------
    PostgisPublication
        What was written, part by part.

    Raises
    ------
    InputError
        The DSN, the graph, `observations` or `node_metrics` cannot be used; nothing was written.
    OutputError
        The database refused or was lost; what was published before is still there.
    """
    if not is_forecast(graph):
        if node_metrics is not None or observations is not None:
            raise InputError(
                "`node_metrics` and `observations` go with a forecast, and the graph holds readings"
            )
        done = publish_observations(
            graph, dsn, schema=schema, style=style, edges=edges, patience=patience
        )
        return PostgisPublication(schema, observations=done)
    # all that can be wrong is found before anything is written
    errors = None if node_metrics is None else _check_metrics(node_metrics, graph)
    if observations is not None:
        check_readings(observations)
    forecast = publish_forecast(
        graph,
        dsn,
        schema=schema,
        style=style,
        config=config,
        metrics=metrics,
        code_version=code_version,
        readings=observations,
        edges=edges,
        current=current,
        patience=patience,
    )
    readings = evaluation = None
    if observations is not None:
        readings = publish_observations(
            observations, dsn, schema=schema, style=style, edges=False, patience=patience
        )
    if errors is not None:
        evaluation = publish_evaluation(
            errors,
            dsn,
            schema=schema,
            model=str(graph.provenance.get("model") or "unnamed"),
            feature=main_feature(graph).name,
            patience=patience,
        )
    return PostgisPublication(schema, forecast, readings, evaluation)


def _check_metrics(metrics: pd.DataFrame, graph: STGraph) -> pd.DataFrame:
    """Return errors with their nodes and horizons as columns, or say what does not fit."""
    names = ["node", "horizon"]
    if metrics.index.nlevels > len(names):
        raise InputError("`node_metrics` must be indexed by node id, or by node id and horizon")
    if set(metrics.index.names) != set(names):  # in this order, whatever they are called
        metrics = metrics.rename_axis(index=names[: metrics.index.nlevels])
    ids = metrics.index.get_level_values("node")
    unknown = ids.unique().difference(graph.node_ids)
    if len(unknown):
        raise InputError(
            f"`node_metrics` is about unknown nodes {list(unknown[:5])}; "
            f"ids look like {list(graph.node_ids[:3])}"
        )
    return check_errors(metrics)
