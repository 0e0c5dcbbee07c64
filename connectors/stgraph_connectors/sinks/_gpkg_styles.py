"""Styles, titles and descriptions of the layers of a GeoPackage."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stgraph.graph import STGraph
from stgraph_connectors.qgis import (
    GeometryKind,
    LayerView,
    build_metadata_xml,
    build_plain_qml,
)
from stgraph_connectors.sinks import _gpkg
from stgraph_connectors.sinks._document import crs_text
from stgraph_connectors.sinks._layer_styles import (
    NamedStyle,
    build_metric_styles,
    build_value_styles,
    metric_feature,
)
from stgraph_connectors.sinks._scales import edge_scale, limit_scale
from stgraph_connectors.styles import Style, feature_title, main_feature, printable, quantile_of

SUPPORT = "support"  # the node column with what a value rests on


@dataclass(frozen=True)
class LayerNames:
    """Names that depend on whether the graph is a forecast or readings."""

    layer: str  # the spatial view
    time: str  # instant of a row
    step: str  # number of the time step: 1, 2, ...

    @property
    def values(self) -> str:
        """Table with a row per node and step."""
        return f"{self.layer}_value"

    @property
    def steps(self) -> str:
        """Table with a row per step."""
        return f"{self.layer}_step"


def describe_layer(graph: STGraph, names: LayerNames) -> str:
    """Return a sentence about a layer with values: what, where, when, whose data."""
    local = graph.time.tz_convert(graph.zone)
    what = ", ".join(feature_title(f) for f in graph.features if quantile_of(f.name) is None)
    if any(quantile_of(feature.name) is not None for feature in graph.features):
        what += " with quantiles"
    span = f"{local[0]:%Y-%m-%d %H:%M} to {local[-1]:%Y-%m-%d %H:%M} {graph.zone}"
    text = f"{names.layer.capitalize()} of {what} for {graph.n_nodes} nodes, {span}."
    if graph.provenance.get("issued_at"):
        text += f" Issued {graph.provenance['issued_at']}"
        text += f" by {graph.provenance['model']}." if graph.provenance.get("model") else "."
    attribution = graph.provenance.get("attribution")
    return printable(f"{text} {attribution}" if attribution else text)


def add_value_styles(
    db: sqlite3.Connection,
    graph: STGraph,
    names: LayerNames,
    columns: Sequence[Mapping[str, Any]],
    *,
    geometry: GeometryKind,
    style: Style | None,
) -> None:
    """Add a style per feature; the one to draw is the layer's default.

    `columns` has a row per feature with the file's column name under ``column``.
    """
    first = main_feature(graph, style)
    supports = [SUPPORT] if SUPPORT in graph.nodes else []
    styles = build_value_styles(
        graph,
        [str(column["column"]) for column in columns],
        geometry=geometry,
        style=style,
        time_column=names.time,
        text_columns=(*supports, "local_time", "trend"),
        aliases={"local_time": f"local time ({graph.zone})"},
        support_column=next(iter(supports), None),
    )
    _add_styles(db, names.layer, styles)
    _add_metadata(db, graph, names.layer, feature_title(first), describe_layer(graph, names))


def add_metric_styles(
    db: sqlite3.Connection,
    graph: STGraph,
    layer: str,
    metrics: pd.DataFrame,
    columns: Sequence[str],
    *,
    geometry: GeometryKind,
) -> None:
    """Add a style per metric; the first metric is the layer's default."""
    unit = main_feature(graph).unit if graph.features else ""
    table = {
        column: (metric_feature(str(metric), unit), metrics.iloc[:, i].to_numpy(dtype=float))
        for i, (column, metric) in enumerate(zip(columns, metrics.columns, strict=True))
    }
    styles = build_metric_styles(table, geometry=geometry, n_nodes=graph.n_nodes)
    _add_styles(db, layer, styles)
    titles = {column: style.name for column, style in zip(columns, styles, strict=True)}
    _gpkg.add_column_notes(db, layer, titles)
    _add_metadata(db, graph, layer, "Error by node", f"{', '.join(titles.values())} per node.")


def add_quiet_styles(
    db: sqlite3.Connection, graph: STGraph, *, geometry: GeometryKind, edges: bool
) -> None:
    """Add plain grey styles for the nodes and edges, which lie under the coloured layer."""
    nodes = build_plain_qml(geometry=geometry, view=LayerView())
    _gpkg.add_style(db, _gpkg.NODES, "plain", nodes, default=True)
    if edges:
        view = LayerView(name_column="source", value_columns={"weight": "Weight"})
        lines = build_plain_qml(geometry="line", colour="#b4b9bd", view=view)
        lines = limit_scale(lines, edge_scale(graph, geometry))
        _gpkg.add_style(db, _gpkg.EDGES, "plain", lines, default=True)


def _add_styles(db: sqlite3.Connection, layer: str, styles: Sequence[NamedStyle]) -> None:
    """Add styles to the table where QGIS looks for them."""
    for style in styles:
        _gpkg.add_style(db, layer, style.name, style.qml, default=style.is_default)


def _add_metadata(
    db: sqlite3.Connection, graph: STGraph, layer: str, title: str, abstract: str
) -> None:
    """Add the layer's QGIS metadata with the source to be named."""
    attribution = graph.provenance.get("attribution")
    code = crs_text(graph.nodes.crs)
    xml = build_metadata_xml(
        title=title,
        abstract=abstract,
        attribution=None if attribution is None else str(attribution),
        crs=code if code is not None and len(code) < 30 else None,  # a code, no definition
    )
    _gpkg.add_layer_metadata(db, layer, xml)
