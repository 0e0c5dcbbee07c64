"""The styles of a layer, one per quantity, for whatever store keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy.typing as npt
import pandas as pd

from stgraph.graph import Feature, STGraph
from stgraph_connectors.qgis import (
    GeometryKind,
    LayerView,
    build_graduated_qml,
    build_support_qml,
)
from stgraph_connectors.styles import (
    Classes,
    Style,
    class_names,
    classify,
    classify_feature,
    classify_one,
    feature_title,
    is_class,
    main_feature,
    stem_of,
)

_LABELS_UP_TO = 40  # nodes; more names than that hide the map


@dataclass(frozen=True)
class NamedStyle:
    """A style as QGIS lists it; a layer opens with its default one."""

    name: str
    qml: str
    is_default: bool


def build_value_styles(
    graph: STGraph,
    columns: Sequence[str],
    *,
    geometry: GeometryKind,
    style: Style | None = None,
    time_column: str | None = None,
    step: pd.Timedelta | None = None,
    instant_columns: Sequence[str] = (),
    text_columns: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
    support_column: str | None = None,
) -> list[NamedStyle]:
    """Return a style per feature; the one to draw is the default.

    Parameters
    ----------
    graph
        Any graph with a signal; its values choose the classes.
    columns
        Column of the layer per feature of the graph.
    geometry
        What is drawn.
    style
        Wishes; None chooses everything.
    time_column
        Instant that the temporal controller filters on; a row is valid for a step. None: no time.
    step
        How long a row is valid. None: a step of the graph.
    instant_columns, text_columns
        Columns at the end of the map tip.
    aliases
        Names of columns that are no features.
    support_column
        Column with what a value rests on: guesses look weaker, and a style more shows the classes.

    Returns
    -------
    list[NamedStyle]
        In the order of the features.
    """
    first = main_feature(graph, style)
    classes = classify_feature(graph, style)
    names, shown = class_names(graph), dict(zip(columns, graph.features, strict=True))
    titles = {column: feature_title(of, classes=names) for column, of in shown.items()}
    view = LayerView(
        time_column=time_column,
        step=None if time_column is None else step or _step(graph),
        value_columns=titles,
        instant_columns=instant_columns,
        text_columns=text_columns,
        aliases={**titles, **(aliases or {})},
        labels=graph.n_nodes <= _LABELS_UP_TO,
        class_names={column: names for column, of in shown.items() if is_class(of, names)},
        support_column=support_column,
    )
    size = None if style is None else style.size_mm
    styles = []
    for i, (column, feature) in enumerate(zip(columns, graph.features, strict=True)):
        own = _classes_like(classes, graph, i, first)
        qml = build_graduated_qml(own, column, geometry=geometry, view=view, size_mm=size)
        styles.append(NamedStyle(titles[column], qml, feature is first))
    if support_column is not None:
        qml = build_support_qml(support_column, geometry=geometry, view=view, size_mm=size)
        styles.append(NamedStyle("Support", qml, is_default=False))
    return styles


def build_metric_styles(
    columns: Mapping[str, tuple[Feature, npt.ArrayLike]],
    *,
    geometry: GeometryKind,
    n_nodes: int,
    instant_columns: Sequence[str] = (),
    text_columns: Sequence[str] = (),
    size_mm: float | None = None,
) -> list[NamedStyle]:
    """Return a style per number of a layer with one row per node; the first is the default.

    Parameters
    ----------
    columns
        Column of the layer to what it is about and its values.
    geometry
        What is drawn.
    n_nodes
        Rows of the layer.
    instant_columns, text_columns
        Columns at the end of the map tip.
    size_mm
        Point diameter or line width in millimetres. None: as in all layers.

    Returns
    -------
    list[NamedStyle]
        In the order of the columns.
    """
    titles = _titles({column: feature for column, (feature, _) in columns.items()})
    view = LayerView(
        value_columns=titles,
        instant_columns=instant_columns,
        text_columns=text_columns,
        aliases=titles,
        labels=n_nodes <= _LABELS_UP_TO,
    )
    styles = []
    for i, (column, (feature, values)) in enumerate(columns.items()):
        classes = classify(values, feature=feature)
        qml = build_graduated_qml(classes, column, geometry=geometry, view=view, size_mm=size_mm)
        styles.append(NamedStyle(titles[column], qml, i == 0))
    return styles


def metric_feature(metric: str, unit: str) -> Feature:
    """Return an error measure of a quantity in `unit` as a quantity of its own."""
    name = metric.lower()
    if "percent" in name or "mape" in name or "skill" in name or "coverage" in name:
        return Feature(metric, "%")
    same = any(word in name for word in ("mae", "rmse", "bias", "error", "width"))
    return Feature(metric, unit if same else "")


def _titles(features: Mapping[str, Feature]) -> dict[str, str]:
    """Return what a person reads instead of each column's name."""
    return {column: feature_title(feature) for column, feature in features.items()}


def _step(graph: STGraph) -> pd.Timedelta | None:
    """Return the step of a graph; a single instant of a forecast knows it as well."""
    if graph.step is None and "step_minutes" in graph.provenance:
        return pd.Timedelta(minutes=float(graph.provenance["step_minutes"]))
    return graph.step


def _classes_like(classes: Classes, graph: STGraph, position: int, first: Feature) -> Classes:
    """Return the drawn feature's classes for its own quantiles, fresh ones for other quantities."""
    feature = graph.features[position]
    if feature is first:
        return classes
    if stem_of(feature.name) == stem_of(first.name):
        label = feature_title(replace(feature, unit=""))
        return replace(classes, feature=feature.name, label=label)
    return classify_one(graph, feature)
