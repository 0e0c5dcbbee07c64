"""The symbols of QGIS styles: points, lines and areas, and how guesses look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple
from xml.etree import ElementTree as ET

GeometryKind = Literal["point", "line", "polygon"]

OUTLINE = "#2f3437"
SIZES: dict[GeometryKind, float] = {"point": 3.4, "line": 0.9, "polygon": 0.1}


class Support(NamedTuple):
    """How a class of support is drawn."""

    value: str
    label: str
    colour: str
    opacity: int  # per cent, of colours that show a value
    dash: str | None = None  # of lines, in millimetres


# dark to pale on white: no ramp of values, and told apart without colours too
SUPPORT = (
    Support("own sensor", "own sensor", "#1b4965", 100),
    Support("near", "guess, a sensor near", "#5fa8d3", 65, "2;1"),
    Support("far", "guess, the next sensor far", "#a9c9dd", 45, "1.2;1.4"),
    Support("none", "guess, no sensor around", "#cdd3d6", 25, "0.6;1.8"),
)


def add_symbol(
    parent: ET.Element,
    name: str,
    geometry: GeometryKind,
    colour: str,
    size: float,
    *,
    cased: bool = True,
    dash: str | None = None,
) -> ET.Element:
    """Add a marker, a line (with a dark casing) or a fill."""
    kind = {"point": "marker", "line": "line", "polygon": "fill"}[geometry]
    symbol = ET.SubElement(
        parent, "symbol", type=kind, name=name, alpha="1", force_rhr="0", clip_to_extent="1"
    )
    if geometry == "point":
        options = {
            "name": "circle",
            "color": rgba(colour),
            "size": _number(size),
            "size_unit": "MM",
            "outline_color": rgba(OUTLINE if cased else "#ffffff"),
            "outline_width": _number(min(0.2, size / 12)),
            "outline_width_unit": "MM",
            "outline_style": "solid",
        }
        add_layer(symbol, "SimpleMarker", options)
    elif geometry == "line":
        if cased:
            add_layer(symbol, "SimpleLine", line_options(OUTLINE, size * 1.45))
        add_layer(symbol, "SimpleLine", line_options(colour, size, dash=dash))
    else:
        options = {
            "color": rgba(colour),
            "style": "solid",
            "outline_color": rgba("#ffffff"),
            "outline_width": _number(size),
            "outline_width_unit": "MM",
            "outline_style": "solid",
            "joinstyle": "round",
        }
        add_layer(symbol, "SimpleFill", options)
    return symbol


def fade_guesses(symbol: ET.Element, column: str) -> None:
    """Make a symbol's opacity, in per cent, follow the support of what it shows."""
    name = quote(column)
    cases = " ".join(f"WHEN {name} = '{kind.value}' THEN {kind.opacity}" for kind in SUPPORT)
    holder = ET.SubElement(symbol, "data_defined_properties")
    table = ET.SubElement(holder, "Option", type="Map")
    ET.SubElement(table, "Option", type="QString", name="name", value="")
    properties = ET.SubElement(table, "Option", type="Map", name="properties")
    opacity = ET.SubElement(properties, "Option", type="Map", name="alpha")
    ET.SubElement(opacity, "Option", type="bool", name="active", value="true")
    expression = f"CASE {cases} ELSE 100 END"
    ET.SubElement(opacity, "Option", type="QString", name="expression", value=expression)
    ET.SubElement(opacity, "Option", type="int", name="type", value="3")
    ET.SubElement(table, "Option", type="QString", name="type", value="collection")


def add_source_symbol(
    renderer: ET.Element, geometry: GeometryKind, colour: str, size: float
) -> None:
    """Add the symbol that QGIS copies when a user adds a class."""
    add_symbol(ET.SubElement(renderer, "source-symbol"), "0", geometry, colour, size)


def line_options(colour: str, width: float, *, dash: str | None = None) -> dict[str, str]:
    """Return the options of a round line, solid or with a pattern of millimetres."""
    pattern = {"use_custom_dash": "1", "customdash": dash, "customdash_unit": "MM"} if dash else {}
    return {
        **pattern,
        "line_color": rgba(colour),
        "line_width": _number(width),
        "line_width_unit": "MM",
        "line_style": "solid",
        "capstyle": "round",
        "joinstyle": "round",
    }


def add_layer(symbol: ET.Element, kind: str, options: Mapping[str, str]) -> None:
    """Add a symbol layer with its options, in both notations that QGIS 3 reads."""
    layer = ET.SubElement(symbol, "layer", {"class": kind}, enabled="1", locked="0")
    layer.set("pass", "0")
    table = ET.SubElement(layer, "Option", type="Map")
    for name, value in options.items():
        ET.SubElement(table, "Option", type="QString", name=name, value=value)
    for name, value in options.items():
        ET.SubElement(layer, "prop", k=name, v=value)


def quote(column: str) -> str:
    """Return a column name as QGIS expressions write it."""
    return '"' + column.replace('"', '""') + '"'


def rgba(colour: str) -> str:
    """Return ``#rrggbb`` as ``r,g,b,255``."""
    return ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5)) + ",255"


def _number(value: float) -> str:
    """Return a short text of a size."""
    return f"{value:.4g}" if math.isfinite(value) else "0"
