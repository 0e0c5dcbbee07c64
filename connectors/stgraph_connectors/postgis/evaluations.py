"""Publish how large a model's errors were, per node and horizon, and the layer about it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import pandas as pd
from psycopg import sql

from stgraph.errors import DataError, nearest_name, shown
from stgraph.graph import Feature
from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    execute,
    qualified,
    run_transaction,
)
from stgraph_connectors.postgis.copying import copy_records
from stgraph_connectors.postgis.layer_styles import write_metric_styles
from stgraph_connectors.postgis.layers import ERRORS, Column, Layer, update_layer
from stgraph_connectors.postgis.publishing import create_stage, dataset_geometry, take_turn
from stgraph_connectors.postgis.schema import check_schema

logger = logging.getLogger(__name__)

_MAX_HORIZON = 32_767
# what a number says, and its unit: None is that of the feature
_METRICS: dict[str, tuple[str, str | None]] = {
    "mae": ("Mean absolute error of the median", None),
    "rmse": ("Root of the mean squared error", None),
    "mape_percent": ("Mean absolute error, relative to what was observed", "%"),
    "skill_percent": ("By how much the MAE is smaller than that of the best baseline", "%"),
    "coverage_percent": ("How often the truth lay between the outer quantiles", "%"),
    "width": ("Mean distance of the outer quantiles", None),
    "crps": ("Continuous ranked probability score", None),
    "n": ("Values compared", ""),
}


@dataclass(frozen=True)
class EvaluationPublication:
    """What became of an evaluation."""

    schema: str
    model: str
    feature: str
    n_rows: int  # nodes x horizons
    n_changed: int  # rows that were not there before
    seconds: float
    layers_built: tuple[str, ...] = ()


def publish_evaluation(
    table: pd.DataFrame,
    dsn: str,
    *,
    model: str,
    feature: str,
    schema: str = "stgraph",
    patience: Patience | None = None,
) -> EvaluationPublication:
    """Publish the errors of a model at one quantity, in the place of its earlier ones.

    The layer `error_by_node` shows the rows over all horizons (`horizon` 0), if there are some;
    the table `evaluation` keeps all rows of all models. All of it is one transaction.

    Parameters
    ----------
    table
        One row per node and horizon: `node` (its id), `horizon` (steps, 0 = over all; left out:
        0), both as columns or in the index, and any of ``mae, rmse, mape_percent, skill_percent,
        coverage_percent, width, crps, n``. What is not finite counts as missing.
    dsn
        libpq connection string of the schema's owner, or, once the layer is there, a writer.
    model
        Name of the model.
    feature
        Name of the quantity, as published; gives `mae`, `rmse`, `width` and `crps` their unit.
    schema
        The Postgres schema, made by `init_schema`.
    patience
        Timeouts and number of attempts. None means the defaults.

    Returns
    -------
    EvaluationPublication
        How many rows there are, and how many were new or different.

    Raises
    ------
    DataError
        Columns, nodes or the feature are unknown, rows appear twice, or a horizon is no number
        of steps.
    OutputError
        The database refused or was lost; the errors published before are still there.
    """
    began = time.perf_counter()
    rows = check_errors(table)
    if not model or "\x00" in model:
        raise DataError(f"`model` is {model!r}; give the name of the model")

    def work(connection: Connection) -> EvaluationPublication:
        check_schema(connection, schema, dsn=dsn)
        take_turn(connection, schema)
        return _publish(connection, schema, rows, model, feature, patience or Patience())

    done = run_transaction(dsn, work, patience=patience)
    seconds = time.perf_counter() - began
    logger.info("published %d errors of %s in %.2f s", done.n_rows, model, seconds)
    return replace(done, seconds=seconds)


def check_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns `node` (text), `horizon` and metrics of a table of errors.

    Raises
    ------
    DataError
        Something in it cannot be kept; no database is asked.
    """
    named = [name for name in table.index.names if name is not None]
    rows = (table.reset_index() if named else table).copy()
    if "horizon" not in rows:
        rows["horizon"] = 0
    metrics = [column for column in rows.columns if column not in ("node", "horizon")]
    unknown = [column for column in metrics if column not in _METRICS]
    if "node" not in rows or unknown or not metrics:
        hint = nearest_name(str(unknown[0]), _METRICS) if unknown else ""
        raise DataError(
            f"the errors have columns {list(rows.columns)}{hint}; give `node`, `horizon` and any "
            f"of {list(_METRICS)}"
        )
    rows["node"] = rows["node"].map(str)
    rows["horizon"] = _check_horizons(rows["horizon"])
    twice = rows.duplicated(["node", "horizon"])
    if twice.any():
        first = rows[twice].iloc[0]
        raise DataError(
            f"node {shown(first['node'])} has two rows for horizon {first['horizon']}; keep one"
        )
    for name in metrics:
        rows[name] = _check_numbers(rows[name])
    return rows[["node", "horizon", *(name for name in _METRICS if name in metrics)]]


def _check_horizons(horizons: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Return horizons as whole numbers, or say which is none."""
    numbers = pd.to_numeric(horizons, errors="coerce").to_numpy(dtype=float)
    odd = ~((numbers >= 0) & (numbers <= _MAX_HORIZON) & (numbers == np.floor(numbers)))
    if odd.any():
        raise DataError(
            f"horizon {shown(horizons.iloc[int(odd.argmax())])} is no number of steps; use 1, 2, "
            "... and 0 for all together"
        )
    return numbers.astype(np.int64)


def _check_numbers(values: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """Return numbers as they are kept, NaN where none is."""
    try:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {values.name!r} holds no numbers ({error})") from error
    with np.errstate(over="ignore"):
        fits = np.isfinite(numbers.astype(np.float32))  # the column is a real
    return np.where(fits, numbers, np.nan)


# --------------------------------------------------------------------------------- publishing


def _publish(
    connection: Connection,
    schema: str,
    rows: pd.DataFrame,
    model: str,
    feature: str,
    patience: Patience,
) -> EvaluationPublication:
    """Do all of it in the one transaction of the connection."""
    feature_id, unit = _find_feature(connection, schema, feature)
    metrics = [name for name in _METRICS if name in rows]
    units = {name: _unit(name, unit) for name in metrics}
    has_layer = bool((rows["horizon"] == 0).any())
    n_changed, built = 0, False
    if _is_news(connection, schema, rows, model, feature, has_layer=has_layer):
        numbers = _find_nodes(connection, schema, rows["node"])
        stage = _stage(connection, rows, numbers, metrics)
        n_changed = _replace(connection, schema, stage, model, feature_id)
        if has_layer:
            overall = np.sort(numbers[(rows["horizon"] == 0).to_numpy()])
            about = (model, feature)
            built = _show(connection, schema, stage, overall, units, about, patience)
    if has_layer:
        drawn = {name: Feature(name, unit) for name, unit in units.items()}
        write_metric_styles(connection, schema, drawn, layer=ERRORS)
    layers = (ERRORS,) if built else ()
    return EvaluationPublication(schema, model, feature, len(rows), n_changed, 0.0, layers)


def _is_news(
    connection: Connection,
    schema: str,
    rows: pd.DataFrame,
    model: str,
    feature: str,
    *,
    has_layer: bool,
) -> bool:
    """Tell whether the errors are others than those published last, and remember them.

    Every issue comes with the errors of its model, and they change only when it is evaluated anew.
    """
    dataset = qualified(schema, "dataset")
    query = "SELECT errors, nodes_digest, layers ? %s FROM {}"
    row = execute(connection, query, dataset, parameters=(ERRORS,)).fetchone()
    known, nodes, is_there = row or ({}, None, False)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([nodes, list(rows.columns)]).encode())
    digest.update(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes())
    about = json.dumps([model, feature])
    news = {about: digest.hexdigest()} | ({"shown": about} if has_layer else {})
    if news.items() <= known.items() and (is_there or not has_layer):
        return False
    update = "UPDATE {} SET errors = errors || %s::jsonb"
    execute(connection, update, dataset, parameters=(json.dumps(news),))
    return True


def _show(
    connection: Connection,
    schema: str,
    stage: sql.Identifier,
    numbers: npt.NDArray[np.int64],
    units: Mapping[str, str],
    about: tuple[str, str],
    patience: Patience,
) -> bool:
    """Let the layer show the staged errors over all horizons; True if it had to be built."""
    layer = _layer(units, dataset_geometry(connection, schema))
    values: dict[str, sql.Composable] = {name: sql.Identifier("s", name) for name in units}
    values |= {"model": sql.Literal(about[0]), "feature": sql.Literal(about[1])}
    source = sql.SQL("(SELECT * FROM {} WHERE horizon = 0) AS s").format(stage)
    return update_layer(connection, schema, layer, values, source, numbers, patience=patience)


def _find_feature(connection: Connection, schema: str, name: str) -> tuple[int, str]:
    """Return number and unit of a feature, or say which there are."""
    query = "SELECT name, feature_id, unit FROM {} ORDER BY feature_id"
    rows = execute(connection, query, qualified(schema, "feature")).fetchall()
    known = {row[0]: (int(row[1]), str(row[2])) for row in rows}
    if name not in known:
        raise DataError(
            f"no feature of schema {schema!r} is called {name!r}{nearest_name(name, known)}; there "
            f"are {list(known)}: publish a forecast or readings of it first"
        )
    return known[name]


def _find_nodes(connection: Connection, schema: str, ids: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Return the numbers of nodes, or say which are not known."""
    query = "SELECT id, node_id FROM {} WHERE id = ANY(%s)"
    wanted = [text for text in ids.unique().tolist() if "\x00" not in text]
    rows = execute(connection, query, qualified(schema, "node"), parameters=(wanted,)).fetchall()
    known = dict(rows)
    unknown = [text for text in ids.unique().tolist() if text not in known]
    if unknown:
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        raise DataError(
            f"schema {schema!r} has no nodes {unknown[:10]}{more}; publish a forecast or readings "
            "of them first"
        )
    return np.array([known[text] for text in ids], dtype=np.int64)


def _stage(
    connection: Connection, rows: pd.DataFrame, numbers: npt.NDArray[np.int64], metrics: list[str]
) -> sql.Identifier:
    """Load the errors into a temporary table with all columns of `evaluation`."""
    kinds: dict[str, LiteralString] = {"node_id": "int4", "horizon": "int2"}
    kinds |= {name: "int4" if name == "n" else "float4" for name in _METRICS}
    stage = create_stage(connection, "staged_errors", kinds)
    columns: list[list[Any]] = [numbers.tolist(), rows["horizon"].tolist()]
    for name in metrics:
        known = [None if np.isnan(value) else value for value in rows[name].tolist()]
        columns.append([None if x is None else round(x) for x in known] if name == "n" else known)
    loaded = {name: kinds[name] for name in ("node_id", "horizon", *metrics)}
    copy_records(connection, stage, loaded, zip(*columns, strict=True))
    execute(connection, "ANALYZE {}", stage)
    return stage


def _replace(
    connection: Connection, schema: str, stage: sql.Identifier, model: str, feature_id: int
) -> int:
    """Make the rows of a model and feature be the staged ones; return how many were not there."""
    names = [sql.Identifier(name) for name in _METRICS]
    staged = sql.SQL(", ").join(sql.SQL("s.{}").format(name) for name in names)
    kept = sql.SQL(", ").join(sql.SQL("e.{}").format(name) for name in names)
    evaluation = qualified(schema, "evaluation")
    execute(
        connection,
        "DELETE FROM {} e WHERE e.model = %s AND e.feature_id = %s AND NOT EXISTS (SELECT 1 "
        "FROM {} s WHERE s.node_id = e.node_id AND s.horizon = e.horizon "
        "AND ROW({}) IS NOT DISTINCT FROM ROW({}))",
        evaluation,
        stage,
        staged,
        kept,
        parameters=(model, feature_id),
    )
    return execute(
        connection,
        "INSERT INTO {} (model, feature_id, node_id, horizon, {}) "
        "SELECT %s, %s, s.node_id, s.horizon, {} FROM {} s ON CONFLICT DO NOTHING",
        evaluation,
        sql.SQL(", ").join(names),
        staged,
        stage,
        parameters=(model, feature_id),
    ).rowcount


def _unit(metric: str, of_feature: str) -> str:
    """Return the unit of a metric of a feature with a unit."""
    own = _METRICS[metric][1]
    return of_feature if own is None else own


def _layer(units: Mapping[str, str], place: tuple[int, LiteralString]) -> Layer:
    """Return what the layer `error_by_node` must look like, from its metrics and their units."""
    columns = [
        Column("model", "text", "Whose errors these are"),
        Column("feature", "text", "The quantity that was forecast"),
    ]
    for name, unit in units.items():
        text = _METRICS[name][0]
        comment = f"{text} ({unit})" if unit not in ("", "1") else text
        columns.append(Column(name, "integer" if name == "n" else "real", comment))
    return Layer(
        name=ERRORS,
        comment="Errors on the test period, over all horizons, one row per node",
        columns=tuple(columns),
        srid=place[0],
        geometry_type=place[1],
    )
