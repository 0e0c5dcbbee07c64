"""The layer `forecast_latest`: what it looks like for an issue, and where its values come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import pandas as pd
from psycopg import sql

from stgraph_connectors.postgis.connect import Connection, Patience, qualified
from stgraph_connectors.postgis.issues import Issue
from stgraph_connectors.postgis.layer_styles import write_styles
from stgraph_connectors.postgis.layers import (
    FORECAST,
    Column,
    Layer,
    layer_stride,
    update_layer,
)
from stgraph_connectors.postgis.places import group_quantiles
from stgraph_connectors.postgis.publishing import dataset_geometry
from stgraph_connectors.styles import class_names, feature_title

SUPPORT = "support"  # the node column with what a value rests on


def show_issue(
    connection: Connection,
    schema: str,
    issue: Issue,
    numbers: npt.NDArray[np.int64],
    ids: Mapping[str, int],
    patience: Patience,
) -> bool:
    """Let the layers show the issue; True if they had to be built."""
    return update_layer(
        connection,
        schema,
        _layer(issue, layer_stride(int(numbers.max())), dataset_geometry(connection, schema)),
        _expressions(issue, ids),
        _source(schema, issue, ids),
        numbers,
        patience=patience,
    )


def _source(schema: str, issue: Issue, ids: Mapping[str, int]) -> sql.Composable:
    """Return the FROM clause with one row per node: its values of every quantity."""
    rows = sql.SQL("(SELECT * FROM {} WHERE issued_at = {} AND feature_id = {}) AS {}")
    names = [issue.drawn, *(name for name in ids if name != issue.drawn)]
    parts = [
        rows.format(
            qualified(schema, issue.partition),
            sql.Literal(issue.issued_at),
            sql.Literal(ids[name]),
            _alias(issue, ids, name),
        )
        for name in names
    ]
    if _tells_support(issue):
        parts.append(sql.SQL("{} AS told").format(qualified(schema, "node")))
    joined = [sql.SQL(" JOIN {} USING (node_id)").format(part) for part in parts[1:]]
    return sql.SQL("").join([parts[0], *joined])


def style_issue(connection: Connection, schema: str, issue: Issue) -> None:
    """Let QGIS open the layer with our styles."""
    write_styles(
        connection,
        schema,
        issue.sample,
        layer=FORECAST,
        columns=issue.columns,
        time_column="target_time",
        step=issue.step,
        style=issue.style,
    )


def _layer(issue: Issue, stride: int, place: tuple[int, LiteralString]) -> Layer:
    """Return what the layer `forecast_latest` must look like for an issue."""
    srid, kind = place
    step = f"{issue.step / pd.Timedelta(minutes=1):g} minutes"
    columns = [
        Column("horizon", "smallint", f"Steps ahead, from 1; a step is {step}", fixed=True),
        Column("target_time", "timestamptz", f"The instant that is forecast, valid for {step}"),
        Column("local_time", "text", f"target_time in {issue.graph.zone}"),
        Column("issued_at", "timestamptz", "When the forecast was made: the last instant known"),
    ]
    columns += [
        Column(column, "real", feature_title(feature, classes=class_names(issue.graph)))
        for column, feature in zip(issue.columns, issue.graph.features, strict=True)
    ]
    if _tells_support(issue):
        columns.append(
            Column(
                SUPPORT, "text", "What the values rest on: own sensor, or a guess: near, far, none"
            )
        )
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


def _expressions(issue: Issue, ids: Mapping[str, int]) -> dict[str, sql.Composable]:
    """Return where each column of the layer comes from."""
    times = issue.graph.time
    local = times.tz_convert(issue.graph.zone).strftime("%Y-%m-%d %H:%M %Z")
    result: dict[str, sql.Composable] = {
        "horizon": sql.SQL("t.horizon"),
        "target_time": _by_horizon(times.to_pydatetime().tolist(), "timestamptz[]"),
        "local_time": _by_horizon(local.tolist(), "text[]"),
        "issued_at": sql.Literal(issue.issued_at.to_pydatetime()),
        "trend": sql.SQL("s.trend"),
    }
    if _tells_support(issue):
        result[SUPPORT] = sql.SQL("told.attributes ->> {}").format(sql.Literal(SUPPORT))
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


def _tells_support(issue: Issue) -> bool:
    """Tell whether the nodes say what their values rest on."""
    return SUPPORT in issue.graph.nodes and SUPPORT not in issue.columns


def _by_horizon(values: list[Any], kind: LiteralString) -> sql.Composed:
    """Return the expression that has one of H values per row."""
    return sql.SQL("({}::{})[t.horizon]").format(sql.Literal(values), sql.SQL(kind))


def _alias(issue: Issue, ids: Mapping[str, int], name: str) -> sql.Identifier:
    """Return the name of a quantity's rows in a query; those of the drawn one are the source."""
    return sql.Identifier("s" if name == issue.drawn else f"f{ids[name]}")
