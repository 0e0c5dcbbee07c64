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
from stgraph_connectors._symbols import add_layer, add_legend_rows, define, line_options, rgba
from stgraph_connectors.qgis import (
    GeometryKind,
    LayerView,
    build_graduated_qml,
    build_plain_qml,
    geometry_kind,
)
from stgraph_connectors.sinks import _gpkg
from stgraph_connectors.sinks._scales import edge_scale, limit_scale
from stgraph_connectors.styles import RAMPS, Classes, Style, blend_colours, classify

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
_SPEEDS = RAMPS["tide"][1:]  # without the palest colour, which is lost in thin lines on white
_LIMITS_KMH = (10.0, 20.0, 30.0, 50.0, 70.0, 100.0)
_CLOSE, _NEAR, _MIDDLE = 8_000, 16_000, 60_000  # map scales, 1 to ...
# legends have no scale, or 1: there lines are wide, but have no casing and no arrow
_SCALE = "if(coalesce(@map_scale, 0) < 2, 50000, @map_scale)"
_WIDTH_MM = (
    f"CASE WHEN @map_scale > {_MIDDLE} THEN 0.26 WHEN @map_scale > {_NEAR} THEN 0.46 ELSE 0.9 END"
)
_OFFSET_MM = f"if({_SCALE} < {_NEAR}, 0.62, 0)"  # to the right, so that both ways are seen
_CASING = "#5d6468"


def add_graph_styles(db: sqlite3.Connection, graph: STGraph) -> None:
    """Give both layers the styles that QGIS finds by itself, the first as default."""
    nodes = geometry_kind(list(graph.nodes.geometry.geom_type))
    roads = isinstance(graph.edges, gpd.GeoDataFrame) and _is_road(graph.edges)
    if nodes == "line":
        _add_all(db, _gpkg.NODES, _road_styles(graph.nodes, _node_view(graph)))
    else:
        plain = _plain(nodes, _node_view(graph), size_mm=1.1 if roads else 2.6)
        _add_all(db, _gpkg.NODES, {"plain": limit_scale(plain, _NEAR) if roads else plain})
    if roads:
        _add_all(db, _gpkg.EDGES, _road_styles(pd.DataFrame(graph.edges), _edge_view(graph)))
    else:
        # edges would hide cells, and turns their segments; look closely to see them
        plain = _thin(_edge_view(graph), arrows=nodes == "line")
        _add_all(db, _gpkg.EDGES, {"plain": limit_scale(plain, edge_scale(graph, nodes))})


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
        classes = _speed_classes(speeds)
        qml = build_graduated_qml(classes, "speed_kmh", geometry="line", view=view)
        qml = _close_last(qml, classes, float(np.nanmax(speeds)))
        styles["Speed limit (km/h)"] = _with_roads(qml, [(c, 1.0) for c in classes.colours])
    plain = _with_roads(build_plain_qml(geometry="line", view=view), [("#7d8a92", 0.8)])
    looks = _looks(table["highway"]) if "highway" in table.columns else {}
    if len(looks) > 1:
        styles["Road class"] = _by_class(looks, view)
    return styles | {"plain": plain}


def _speed_classes(speeds: Any) -> Classes:
    """Return classes of the usual speed limits, as far as they occur."""
    known = speeds[np.isfinite(speeds)]
    taken = np.unique(np.searchsorted(_LIMITS_KMH, known, side="left"))
    breaks = tuple(_LIMITS_KMH[i] for i in taken[:-1])
    # limits that are all in one class are told apart some other way
    style = Style(ramp="tide", n_classes=6, breaks=breaks or None)
    classes = classify(known, feature=Feature("speed limit", "km/h"), style=style)
    places = np.linspace(0, 1, len(classes.colours))
    return replace(classes, colours=blend_colours(_SPEEDS, places))


def _close_last(qml: str, classes: Classes, highest: float) -> str:
    """Return a style whose last class says up to which limit there are roads."""
    end = next((limit for limit in _LIMITS_KMH if highest <= limit), None)
    if end is None or not classes.breaks:
        return qml
    root = ET.fromstring(qml)  # noqa: S314  # our own text
    last = root.findall("renderer-v2/ranges/range")[-1]
    last.set("label", f"{classes.breaks[-1]:g} – {end:g}")
    return ET.tostring(root, encoding="unicode")


def _numbers(table: pd.DataFrame, name: str) -> Any:
    """Return a column as numbers; none where there is no such column."""
    if name not in table.columns:
        return np.zeros(0)
    return pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float)


def _looks(highway: pd.Series) -> dict[str, tuple[str, float]]:
    """Return colour and width per class of road that occurs; links count with their road."""
    there = {str(value).split(";")[0].removesuffix("_link") for value in highway.unique()}
    looks = {name: look for name, look in _CLASSES.items() if name in there}
    return looks if there <= set(looks) else looks | {"": _OTHER}


def _by_class(looks: Mapping[str, tuple[str, float]], view: LayerView) -> str:
    """Return a style with a colour and width per class of road."""
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
    shown = {**looks, "": _OTHER}  # what somebody draws may have any class
    for i, name in enumerate(shown):
        label = name.replace("_", " ") or "other"
        ET.SubElement(categories, "category", symbol=str(i), value=name, label=label, render="true")
        ET.SubElement(
            symbols, "symbol", type="line", name=str(i), alpha="1", force_rhr="0",
            clip_to_extent="1",
        )  # fmt: skip
    add_legend_rows(renderer, "line", title="Road class")
    return _with_roads(ET.tostring(root, encoding="unicode"), list(shown.values()))


def _find(root: ET.Element, path: str) -> ET.Element:
    """Return a part of a document of our own, which has it."""
    return next(iter(root.iterfind(path)))


def _with_roads(qml: str, looks: list[tuple[str, float]]) -> str:
    """Return a line style with the symbols of roads: width by scale, casing, side, arrows."""
    root = ET.fromstring(qml)  # noqa: S314  # our own text
    symbols = _find(root, "renderer-v2/symbols")
    numbered = [symbol for symbol in symbols if (symbol.get("name") or "").isdigit()]
    for symbol, (colour, factor) in zip(numbered, looks, strict=True):
        for layer in list(symbol):
            symbol.remove(layer)
        _draw_road(symbol, colour, factor)
    return ET.tostring(root, encoding="unicode")


def _draw_road(symbol: ET.Element, colour: str, factor: float) -> None:
    """Add casing, line and arrow to an empty symbol."""
    casing = {
        # a legend draws what is not enabled, too: there the line hides it
        "outlineWidth": f"({_WIDTH_MM}) * {factor:g} + if({_SCALE} < {_NEAR}, 0.3, -0.1)",
        "offset": _OFFSET_MM,
        "enabled": f"{_SCALE} < {_NEAR}",
    }
    add_layer(symbol, "SimpleLine", line_options(_CASING, 1.2 * factor))
    define(symbol[-1], casing)
    add_layer(symbol, "SimpleLine", line_options(colour, 0.9 * factor))
    define(symbol[-1], {"outlineWidth": f"({_WIDTH_MM}) * {factor:g}", "offset": _OFFSET_MM})
    dark = int(colour[1:3], 16) + int(colour[3:5], 16) + int(colour[5:7], 16) < 330
    _add_arrow(symbol, "#ffffff" if dark else "#2f3437", 1.7)


def _add_arrow(symbol: ET.Element, colour: str, size: float) -> None:
    """Add an arrow head in the middle of the line, pointing along it."""
    options = {"placement": "centralpoint", "rotate": "1", "offset": "0", "offset_unit": "MM"}
    add_layer(symbol, "MarkerLine", options)
    line = symbol[-1]
    close = f"{_SCALE} < {_CLOSE}"
    define(line, {"enabled": close, "offset": _OFFSET_MM})
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
    define(marker[-1], {"size": f"if({close}, {size:g}, 0)"})


def _plain(geometry: GeometryKind, view: LayerView, *, size_mm: float) -> str:
    """Return a style with one quiet symbol."""
    colour = "#4d5a63" if geometry == "point" else "#c6ced2"
    size = size_mm if geometry == "point" else None
    return build_plain_qml(geometry=geometry, colour=colour, size_mm=size, view=view)


def _thin(view: LayerView, *, arrows: bool) -> str:
    """Return a style of thin lines, with arrows if asked for."""
    qml = build_plain_qml(geometry="line", colour="#9aa3a8", size_mm=0.2, view=view)
    if not arrows:
        return qml
    root = ET.fromstring(qml)  # noqa: S314  # our own text
    symbol = _find(root, "renderer-v2/symbols/symbol")
    _add_arrow(symbol, "#707a80", 1.2)
    for expression in symbol.iter("Option"):
        if expression.get("value") == _OFFSET_MM:
            expression.set("value", "0")
    return ET.tostring(root, encoding="unicode")
