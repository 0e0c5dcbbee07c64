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
    size: float = 1.0  # of a line or point, as a share of that of a measurement
    white: float = 0.0  # share of white in the colour of a line or point that shows a value
    dash: str | None = None  # of lines, in millimetres
    fill: str = "solid"  # of areas, as QGIS names it


# dark to pale on white: no ramp of values, and told apart without colours too
SUPPORT = (
    Support("own sensor", "own sensor", "#1b4965"),
    Support("near", "guess, a sensor near", "#5fa8d3", 0.6, 0.1, "2;1.2", "dense3"),
    Support("far", "guess, the next sensor far", "#a9c9dd", 0.5, 0.25, "1.2;1.4", "dense4"),
    Support("none", "guess, no sensor around", "#cdd3d6", 0.4, 0.4, "0.5;1.6", "dense5"),
)
_GUESS = "#8b9196"  # of guesses in legends, whatever their value
_UNBROKEN = "1000;0"  # a dash longer than any screen
_NOWHERE = 1e30  # a value that nothing has


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
            casing = line_options(OUTLINE, size * 1.45)
            add_layer(symbol, "SimpleLine", casing, locked=True)  # another colour is not for it
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


def fade_guesses(symbol: ET.Element, geometry: GeometryKind, column: str, size: float) -> None:
    """Make a symbol's look follow the support of what it shows, without transparency.

    Rows of several instants lie on top of each other, and pale ones would add up.
    """
    guessed = f"coalesce({quote(column)}, '') IN ({_guesses()})"
    colour = f"color_mix_rgb(@symbol_color, '#ffffff', {_by_support(column, 'white')})"
    width = _by_support(column, "size", factor=size)
    top = symbol[-1]
    if geometry == "point":
        outline = f"if({guessed}, @symbol_color, '{OUTLINE}')"
        define(top, {"size": width, "fillColor": colour, "outlineColor": outline})
    elif geometry == "line":
        # QGIS keeps the last pattern where there is none
        dash = _by_support(column, "dash").replace("NULL", f"'{_UNBROKEN}'")
        define(top, {"outlineWidth": width, "outlineColor": colour, "customDash": dash})
        for casing in symbol[:-1]:
            define(casing, {"enabled": f"NOT {guessed}"})
    else:
        define(top, {"fillStyle": _by_support(column, "fill")})


def add_legend_rows(
    renderer: ET.Element, geometry: GeometryKind, *, title: str, guesses_mm: float | None = None
) -> None:
    """Add to a legend its title, and what guesses look like if a size is given for them.

    QGIS has no place for that in a style: these are classes that no value falls into.
    """
    graduated = renderer.get("type") == "graduatedSymbol"
    groups = _child(renderer, "ranges" if graduated else "categories")
    symbols = _child(renderer, "symbols")
    groups.insert(0, _empty_class(graduated, "title", title))
    _add_nothing(symbols, "title", geometry)
    for kind in SUPPORT[1:] if guesses_mm is not None else ():
        groups.append(_empty_class(graduated, kind.value, kind.label))
        size = (guesses_mm or 0.0) * (1.0 if geometry == "polygon" else kind.size)
        shown = add_symbol(symbols, kind.value, geometry, _GUESS, size, cased=False, dash=kind.dash)
        if geometry == "polygon":
            _set_option(shown[-1], "style", kind.fill)


def define(layer: ET.Element, expressions: Mapping[str, str]) -> None:
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


def add_layer(
    symbol: ET.Element, kind: str, options: Mapping[str, str], *, locked: bool = False
) -> None:
    """Add a symbol layer with its options, in both notations that QGIS 3 reads."""
    layer = ET.SubElement(symbol, "layer", {"class": kind}, enabled="1", locked=str(int(locked)))
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


def _by_support(column: str, property_name: str, *, factor: float = 1.0) -> str:
    """Return an expression for a property that depends on support; measurements are the rest."""
    cases = {kind.value: getattr(kind, property_name) for kind in SUPPORT}
    texts = {
        value: _number(look * factor) if isinstance(look, float) else _literal(look)
        for value, look in cases.items()
    }
    other = texts.pop("own sensor")
    whens = " ".join(f"WHEN {quote(column)} = '{v}' THEN {text}" for v, text in texts.items())
    return f"CASE {whens} ELSE {other} END"


def _literal(text: str | None) -> str:
    """Return a text as QGIS expressions write it."""
    return "NULL" if text is None else f"'{text}'"


def _guesses() -> str:
    """Return the kinds of support that are guesses, as a list in an expression."""
    return ", ".join(f"'{kind.value}'" for kind in SUPPORT[1:])


def _empty_class(graduated: bool, symbol: str, label: str) -> ET.Element:
    """Return a class of a renderer that nothing falls into."""
    shown = {"symbol": symbol, "label": label, "render": "true"}
    if graduated:
        return ET.Element("range", shown, lower=repr(_NOWHERE), upper=repr(_NOWHERE))
    return ET.Element("category", shown, value=f"({label})", type="string")


def _add_nothing(symbols: ET.Element, name: str, geometry: GeometryKind) -> None:
    """Add a symbol that cannot be seen; one without layers would not be read."""
    symbol = add_symbol(symbols, name, geometry, "#ffffff", 0.1, cased=False)
    for option in ("style", "outline_style", "line_style"):
        _set_option(symbol[-1], option, "no")


def _set_option(layer: ET.Element, name: str, value: str) -> None:
    """Change an option of a symbol layer, if it has it, in both notations."""
    for option in layer.iterfind(f"Option/Option[@name='{name}']"):
        option.set("value", value)
    for option in layer.iterfind(f"prop[@k='{name}']"):
        option.set("v", value)


def _child(parent: ET.Element, tag: str) -> ET.Element:
    """Return a part of a renderer of our own, which has it."""
    return next(parent.iterfind(tag))
