"""The line symbols of scenarios: changes by width and side, closed, new, removed, quiet."""

from __future__ import annotations

from typing import Literal
from xml.etree import ElementTree as ET

from stgraph_connectors._symbols import add_layer, define, line_options, rgba

_LEAST_MM, _MOST_MM = 0.3, 4.0
_MOST_VPH = 800.0  # a change of flow from here on is drawn at its widest
_UNKNOWN_MM = 0.9  # where no flow is known
_GAP_MM = 0.15  # from the middle of a two-way street
_PALE = 60  # of 255: how much an area hides
_TOP = 10  # level of what is drawn above all changes

# never wider than the most, and the square root of it in between: areas compare
_WIDTH = (
    f'coalesce(scale_exp(min(abs("d_flow"), {_MOST_VPH:g}), 0, {_MOST_VPH:g}, '
    f"{_LEAST_MM:g}, {_MOST_MM:g}, 0.7), {_UNKNOWN_MM:g})"
)


def add_change(
    symbol: ET.Element, colour: str, *, side: Literal["right", "left"], level: int
) -> None:
    """Add a line as wide as the flow changes, on its own side of a two-way street."""
    _add_line(symbol, colour, 1.0, level=level)
    sign = "" if side == "right" else "-"
    offset = f'if("is_two_way", {sign}({_WIDTH} / 2 + {_GAP_MM}), 0)'
    define(symbol[-1], {"outlineWidth": _WIDTH, "offset": offset})


def add_quiet(
    symbol: ET.Element,
    *,
    colour: str,
    width: float,
    dash: str | None = None,
    side: Literal["right", "left"] | None = None,
    level: int,
) -> None:
    """Add a thin line for what does not matter."""
    _add_line(symbol, colour, width, dash=dash, level=level)
    if side is not None:
        sign = "" if side == "right" else "-"
        offset = f'if("is_two_way", {sign}{width / 2 + _GAP_MM:g}, 0)'
        define(symbol[-1], {"offset": offset})


def add_closed(symbol: ET.Element) -> None:
    """Add a black line with a cross in its middle."""
    _add_line(symbol, "#ffffff", 1.9, level=_TOP)
    _add_line(symbol, "#000000", 1.1, level=_TOP + 1)
    options = {
        "placement": "centralpoint",
        "placements": "CentralPoint",
        "rotate": "1",
        "interval": "5",
        "interval_unit": "MM",
    }
    for colour, size, width, level in (("#ffffff", 4.4, 1.9, 2), ("#000000", 3.8, 1.0, 3)):
        add_layer(symbol, "MarkerLine", options)
        layer = symbol[-1]
        layer.set("pass", str(_TOP + level))
        name = f"@{symbol.get('name')}@{len(symbol) - 1}"
        marker = ET.SubElement(
            layer, "symbol", type="marker", name=name, alpha="1", force_rhr="0", clip_to_extent="1"
        )
        cross = {
            "name": "cross2",
            "color": rgba(colour),
            "outline_color": rgba(colour),
            "outline_width": f"{width:g}",
            "outline_width_unit": "MM",
            "outline_style": "solid",
            "size": f"{size:g}",
            "size_unit": "MM",
        }
        add_layer(marker, "SimpleMarker", cross)


def add_new(symbol: ET.Element) -> None:
    """Add a green double line."""
    _add_line(symbol, "#ffffff", 2.6, level=_TOP)
    _add_line(symbol, "#1a8a3a", 2.0, level=_TOP + 1)
    _add_line(symbol, "#ffffff", 0.9, level=_TOP + 2)


def add_removed(symbol: ET.Element) -> None:
    """Add a dotted black line."""
    _add_line(symbol, "#ffffff", 1.6, level=_TOP)
    _add_line(symbol, "#000000", 0.9, dash="0.9;1.3", level=_TOP + 1)


def add_area(symbol: ET.Element, colour: str, *, dash: str | None = None, level: int) -> None:
    """Add a pale area with an outline: where several lie on each other, it gets darker."""
    fill = rgba(colour).removesuffix(",255") + f",{_PALE}"
    options = {"color": fill, "style": "solid", "outline_style": "no"}
    add_layer(symbol, "SimpleFill", options)
    symbol[-1].set("pass", str(level))
    _add_line(symbol, "#ffffff", 0.9, level=_TOP)
    _add_line(symbol, colour, 0.45, dash=dash, level=_TOP + level)


def _add_line(
    symbol: ET.Element, colour: str, width: float, *, dash: str | None = None, level: int
) -> None:
    """Add a simple line; higher levels are drawn later."""
    options = line_options(colour, width, dash=dash)
    add_layer(symbol, "SimpleLine", {**options, "capstyle": "flat", "offset_unit": "MM"})
    symbol[-1].set("pass", str(level))
