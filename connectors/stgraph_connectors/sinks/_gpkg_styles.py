"""Styles, titles and descriptions of the layers of a GeoPackage."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from stgraph.graph import Feature, STGraph
from stgraph_connectors.qgis import (
    GeometryKind,
    LayerView,
    build_graduated_qml,
    build_metadata_xml,
    build_plain_qml,
)
from stgraph_connectors.sinks import _gpkg
from stgraph_connectors.sinks._document import crs_text
from stgraph_connectors.styles import (
    Classes,
    Style,
    classify,
    classify_feature,
    feature_title,
    main_feature,
    printable,
    quantile_of,
    stem_of,
)

_LABELS_UP_TO = 40  # nodes; more names than that hide the map


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
    classes = classify_feature(graph, style)
    pairs = list(zip(columns, graph.features, strict=True))
    titles = {str(column["column"]): feature_title(feature) for column, feature in pairs}
    step = graph.step
    if step is None and "step_minutes" in graph.provenance:
        step = pd.Timedelta(minutes=float(graph.provenance["step_minutes"]))
    view = LayerView(
        time_column=names.time,
        step=step,
        value_columns=titles,
        text_columns=("local_time", "trend"),
        aliases={**titles, "local_time": f"local time ({graph.zone})"},
        labels=graph.n_nodes <= _LABELS_UP_TO,
    )
    for i, (column, feature) in enumerate(pairs):
        own = _classes_like(classes, graph, i, first)
        size = None if style is None else style.size_mm
        qml = build_graduated_qml(own, column["column"], geometry=geometry, view=view, size_mm=size)
        name = feature_title(feature)
        _gpkg.add_style(db, names.layer, name, qml, default=feature is first)
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
    target = main_feature(graph) if graph.features else Feature("value")
    features = [Feature(str(m), _metric_unit(str(m), target.unit)) for m in metrics.columns]
    titles = {c: feature_title(feature) for c, feature in zip(columns, features, strict=True)}
    view = LayerView(value_columns=titles, aliases=titles, labels=graph.n_nodes <= _LABELS_UP_TO)
    for i, (column, feature) in enumerate(zip(columns, features, strict=True)):
        classes = classify(metrics.iloc[:, i].to_numpy(dtype=float), feature=feature)
        qml = build_graduated_qml(classes, column, geometry=geometry, view=view)
        _gpkg.add_style(db, layer, titles[column], qml, default=i == 0)
    _gpkg.add_column_notes(db, layer, titles)
    _add_metadata(db, graph, layer, "Error by node", f"{', '.join(titles.values())} per node.")


def add_quiet_styles(db: sqlite3.Connection, *, geometry: GeometryKind, edges: bool) -> None:
    """Add plain grey styles for the nodes and edges, which lie under the coloured layer."""
    nodes = build_plain_qml(geometry=geometry, view=LayerView())
    _gpkg.add_style(db, _gpkg.NODES, "plain", nodes, default=True)
    if edges:
        view = LayerView(name_column="source", value_columns={"weight": "Weight"})
        lines = build_plain_qml(geometry="line", colour="#b4b9bd", view=view)
        _gpkg.add_style(db, _gpkg.EDGES, "plain", lines, default=True)


def _classes_like(classes: Classes, graph: STGraph, position: int, first: Feature) -> Classes:
    """Return the drawn feature's classes for its own quantiles, fresh ones for other quantities."""
    feature = graph.features[position]
    if stem_of(feature.name) == stem_of(first.name):
        return replace(classes, feature=feature.name)
    return classify(graph.values[:, :, position], feature=feature)


def _metric_unit(metric: str, unit: str) -> str:
    """Return the unit of an error measure of a quantity."""
    name = metric.lower()
    if "percent" in name or "mape" in name or "skill" in name or "coverage" in name:
        return "%"
    return unit if any(word in name for word in ("mae", "rmse", "bias", "error", "width")) else ""


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
