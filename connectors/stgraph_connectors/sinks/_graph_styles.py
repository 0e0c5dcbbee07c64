"""Styles of a graph file: roads by speed or class, with their direction when one looks closely."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pandas as pd

from stgraph.graph import Feature, STGraph
from stgraph_connectors._symbols import add_layer, line_options, rgba
from stgraph_connectors.qgis import (
    GeometryKind,
    LayerView,
    build_graduated_qml,
    build_plain_qml,
    geometry_kind,
)
from stgraph_connectors.sinks import _gpkg
from stgraph_connectors.styles import RAMPS, Style, classify

# from the ways that many take to the ways that few take: colour and width
_CLASSES = {
    "motorway": ("#2b2a70", 1.5),
    "trunk": ("#2a5199", 1.35),
    "primary": ("#1f79a7", 1.2),
    "secondary": ("#2ea1ae", 1.05),
    "tertiary": ("#69c2a8", 0.95),
    "unclassified": ("#a3bfae", 0.8),
    "residential": ("#b9b8a5", 0.75),
    "living_street": ("#d0b48a", 0.7),
    "service": ("#cfcac0", 0.55),
}
_OTHER = ("#c08fa6", 0.6)  # tracks, paths, what nobody classified
_SPEEDS = RAMPS["tide"][1:]
_CLOSE, _NEAR, _MIDDLE = 8_000, 16_000, 60_000  # map scales, 1 to ...
_WIDTH_MM = (
    f"CASE WHEN @map_scale > {_MIDDLE} THEN 0.26 WHEN @map_scale > {_NEAR} THEN 0.46 ELSE 0.9 END"
)
_OFFSET_MM = f"if(@map_scale < {_NEAR}, 0.62, 0)"  # to the right, so that both ways are seen
_CASING = "#5d6468"


def add_graph_styles(db: sqlite3.Connection, graph: STGraph) -> None:
    """Give both layers the styles that QGIS finds by itself, the first as default."""
    nodes = geometry_kind(list(graph.nodes.geometry.geom_type))
    roads = isinstance(graph.edges, gpd.GeoDataFrame) and _is_road(graph.edges)
    if nodes == "line":
        _add_all(db, _gpkg.NODES, _road_styles(graph.nodes, _node_view(graph)))
    else:
        plain = _plain(nodes, _node_view(graph), size_mm=1.1 if roads else 2.6)
        _add_all(db, _gpkg.NODES, {"plain": _until(plain, _NEAR) if roads else plain})
    if roads:
        _add_all(db, _gpkg.EDGES, _road_styles(pd.DataFrame(graph.edges), _edge_view(graph)))
    else:
        # the turns between segments would hide the segments; look closely to see them
        plain = _thin(_edge_view(graph), arrows=nodes == "line")
        _add_all(db, _gpkg.EDGES, {"plain": _until(plain, _CLOSE) if nodes == "line" else plain})


def _is_road(table: pd.DataFrame) -> bool:
    """Tell whether lines are roads rather than links."""
    return bool({"speed_kmh", "highway", "segment_id"} & set(map(str, table.columns)))


def _add_all(db: sqlite3.Connection, layer: str, styles: Mapping[str, str]) -> None:
    """Add styles by name; the first is the default."""
    for i, (name, qml) in enumerate(styles.items()):
        _gpkg.add_style(db, layer, name, qml, default=i == 0)


def _node_view(graph: STGraph) -> LayerView:
    """Return what the map tip of a node shows."""
    return LayerView(value_columns=_measures(graph.nodes), text_columns=_words(graph.nodes))


def _edge_view(graph: STGraph) -> LayerView:
    """Return what the map tip of an edge shows."""
    table = pd.DataFrame() if graph.edges is None else graph.edges
    unit = "" if graph.weight_unit == "1" else f" ({graph.weight_unit})"
    name = "segment_id" if "segment_id" in table.columns else "source"
    values = {**_measures(table), "weight": f"Weight{unit}"}
    return LayerView(name_column=name, value_columns=values, text_columns=_words(table))


def _measures(table: pd.DataFrame) -> dict[str, str]:
    """Return the columns of a table that tell how long and how fast, with their titles."""
    titles = {
        "length_m": "Length (m)",
        "speed_kmh": "Speed (km/h)",
        "lanes": "Lanes",
        "travel_time_s": "Travel time (s)",
        "trips_per_hour": "Trips per hour",
        "headway_minutes": "Headway (min)",
        "turn_angle_deg": "Turn (degrees, right positive)",
    }
    return {name: title for name, title in titles.items() if name in table.columns}


def _words(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the columns of a table that name a thing."""
    return tuple(n for n in ("name", "stop_name", "highway", "routes") if n in table.columns)


# ----------------------------------------------------------------------------------- documents


def _road_styles(table: pd.DataFrame, view: LayerView) -> dict[str, str]:
    """Return the styles that the columns of a table of lines allow, the best first."""
    styles = {}
    speeds = _numbers(table, "speed_kmh")
    if len(np.unique(speeds[np.isfinite(speeds)])) > 1:
        feature = Feature("speed", "km/h")
        classes = classify(speeds, feature=feature, style=Style(ramp="tide", n_classes=6))
        # without the palest colour, which is lost in thin lines on white
        places = np.linspace(0, len(_SPEEDS) - 1, len(classes.colours)).round().astype(int)
        classes = replace(classes, colours=tuple(_SPEEDS[i] for i in places))
        qml = build_graduated_qml(classes, "speed_kmh", geometry="line", view=view)
        styles["Speed (km/h)"] = _with_roads(qml, [(c, 1.0) for c in classes.colours])
    if "highway" in table.columns:
        styles["Road class"] = _by_class(table["highway"], view)
    plain = build_plain_qml(geometry="line", view=view)
    return styles | {"plain": _with_roads(plain, [("#7d8a92", 0.8)])}


def _numbers(table: pd.DataFrame, name: str) -> Any:
    """Return a column as numbers; none where there is no such column."""
    if name not in table.columns:
        return np.zeros(0)
    return pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float)


def _by_class(highway: pd.Series, view: LayerView) -> str:
    """Return a style with a colour and width per class of road; links count with their road."""
    there = {str(value).split(";")[0].removesuffix("_link") for value in highway.dropna()}
    looks = {name: look for name, look in _CLASSES.items() if name in there}
    root = ET.fromstring(build_plain_qml(geometry="line", view=view))  # noqa: S314  # our own text
    old = _find(root, "renderer-v2")
    first = "regexp_substr(\"highway\", '^([^;]*?)(?:_link)?(?:;|$)')"
    renderer = ET.Element(
        "renderer-v2", type="categorizedSymbol", attr=first, symbollevels="0", enableorderby="0",
        forceraster="0",
    )  # fmt: skip
    root.insert(list(root).index(old), renderer)
    root.remove(old)
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for i, name in enumerate([*looks, ""]):
        label = name.replace("_", " ") or "other"
        ET.SubElement(categories, "category", symbol=str(i), value=name, label=label, render="true")
        ET.SubElement(
            symbols, "symbol", type="line", name=str(i), alpha="1", force_rhr="0",
            clip_to_extent="1",
        )  # fmt: skip
    text = ET.tostring(root, encoding="unicode")
    return _with_roads(text, [*looks.values(), _OTHER])


def _find(root: ET.Element, path: str) -> ET.Element:
    """Return a part of a document of our own, which has it."""
    return next(iter(root.iterfind(path)))


def _with_roads(qml: str, looks: list[tuple[str, float]]) -> str:
    """Return a line style with the symbols of roads: width by scale, casing, side, arrows."""
    root = ET.fromstring(qml)  # noqa: S314  # our own text
    symbols = _find(root, "renderer-v2/symbols")
    for symbol, (colour, factor) in zip(symbols, looks, strict=True):
        for layer in list(symbol):
            symbol.remove(layer)
        _draw_road(symbol, colour, factor)
    return ET.tostring(root, encoding="unicode")


def _draw_road(symbol: ET.Element, colour: str, factor: float) -> None:
    """Add casing, line and arrow to an empty symbol."""
    casing = {
        "outlineWidth": f"({_WIDTH_MM}) * {factor:g} + 0.3",
        "offset": _OFFSET_MM,
        "enabled": f"@map_scale < {_NEAR}",
    }
    add_layer(symbol, "SimpleLine", line_options(_CASING, 1.2 * factor))
    _define(symbol[-1], casing)
    add_layer(symbol, "SimpleLine", line_options(colour, 0.9 * factor))
    _define(symbol[-1], {"outlineWidth": f"({_WIDTH_MM}) * {factor:g}", "offset": _OFFSET_MM})
    dark = int(colour[1:3], 16) + int(colour[3:5], 16) + int(colour[5:7], 16) < 330
    _add_arrow(symbol, "#ffffff" if dark else "#2f3437", 1.7, f"@map_scale < {_CLOSE}")


def _add_arrow(symbol: ET.Element, colour: str, size: float, when: str) -> None:
    """Add an arrow head in the middle of the line, pointing along it."""
    options = {"placement": "centralpoint", "rotate": "1", "offset": "0", "offset_unit": "MM"}
    add_layer(symbol, "MarkerLine", options)
    line = symbol[-1]
    _define(line, {"enabled": when, "offset": _OFFSET_MM})
    marker = ET.SubElement(
        line, "symbol", type="marker", name=f"@{symbol.get('name')}@{len(symbol) - 1}", alpha="1",
        force_rhr="0", clip_to_extent="1",
    )  # fmt: skip
    head = {
        "name": "filled_arrowhead",
        "color": rgba(colour),
        "outline_color": rgba(colour),
        "outline_width": "0",
        "outline_width_unit": "MM",
        "size": f"{size:g}",
        "size_unit": "MM",
    }
    add_layer(marker, "SimpleMarker", head)


def _define(layer: ET.Element, expressions: Mapping[str, str]) -> None:
    """Let expressions decide some properties of a symbol layer."""
    parent = ET.SubElement(layer, "data_defined_properties")
    table = ET.SubElement(parent, "Option", type="Map")
    ET.SubElement(table, "Option", type="QString", name="name", value="")
    properties = ET.SubElement(table, "Option", type="Map", name="properties")
    for name, expression in expressions.items():
        one = ET.SubElement(properties, "Option", type="Map", name=name)
        ET.SubElement(one, "Option", type="bool", name="active", value="true")
        ET.SubElement(one, "Option", type="QString", name="expression", value=expression)
        ET.SubElement(one, "Option", type="int", name="type", value="3")
    ET.SubElement(table, "Option", type="QString", name="type", value="collection")


def _plain(geometry: GeometryKind, view: LayerView, *, size_mm: float) -> str:
    """Return a style with one quiet symbol."""
    colour = "#4d5a63" if geometry == "point" else "#dfe4e6"
    size = size_mm if geometry == "point" else None
    return build_plain_qml(geometry=geometry, colour=colour, size_mm=size, view=view)


def _thin(view: LayerView, *, arrows: bool) -> str:
    """Return a style of thin lines, with arrows if asked for."""
    qml = build_plain_qml(geometry="line", colour="#9aa3a8", size_mm=0.2, view=view)
    if not arrows:
        return qml
    root = ET.fromstring(qml)  # noqa: S314  # our own text
    symbol = _find(root, "renderer-v2/symbols/symbol")
    _add_arrow(symbol, "#707a80", 1.2, f"@map_scale < {_CLOSE}")
    for expression in symbol.iter("Option"):
        if expression.get("value") == _OFFSET_MM:
            expression.set("value", "0")
    return ET.tostring(root, encoding="unicode")


def _until(qml: str, scale: int) -> str:
    """Return a style whose layer is drawn only at scales larger than 1 to `scale`."""
    root = ET.fromstring(qml)  # noqa: S314  # our own text
    root.set("hasScaleBasedVisibilityFlag", "1")
    root.set("minScale", str(scale))
    root.set("maxScale", "0")
    root.set("styleCategories", f"{root.get('styleCategories')}|Rendering")
    return ET.tostring(root, encoding="unicode")
