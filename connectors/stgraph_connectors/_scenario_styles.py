"""How QGIS draws a scenario: what gets slower or faster, by how much traffic, and how sure that is.

Classes are fixed and symmetric, so that maps of several scenarios can be laid side by side. The
line is as wide as the flow changes, lies on the side of the street that it is about, and is grey
where nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal
from uuid import NAMESPACE_OID, uuid5
from xml.etree import ElementTree as ET

import pandas as pd

from stgraph_connectors._scenario_symbols import (
    add_area,
    add_change,
    add_closed,
    add_new,
    add_quiet,
    add_removed,
)
from stgraph_connectors._scenario_tips import PERIOD_WORDS, PERIODS, area_tip, edit_tip, effect_tip
from stgraph_connectors.qgis import LayerView, build_style
from stgraph_connectors.sinks._layer_styles import NamedStyle
from stgraph_connectors.styles import format_number

Side = Literal["right", "left"]

# dark to pale to dark, told apart with the common colour-vision deficiencies (ColorBrewer)
_RED_BLUE = ("#67001f", "#b2182b", "#d6604d", "#f4a582", "#92c5de", "#4393c3", "#2166ac", "#053061")
_GREEN_PURPLE = (
    "#00441b", "#1b7837", "#5aae61", "#a6dba0", "#c2a5cf", "#9970ab", "#762a83", "#40004b",
)  # fmt: skip


@dataclass(frozen=True)
class _Shown:
    """One quantity that a style colours by."""

    column: str
    title: str
    unit: str
    limits: tuple[float, ...]  # upper half of the symmetric class limits
    colours: tuple[str, ...]  # from the lowest class to the highest, without the middle one
    words: tuple[str, str]  # of the lowest and highest class


_SHOWN = (
    _Shown("d_speed", "Speed change", "km/h", (2, 5, 10, 15), _RED_BLUE, ("slower", "faster")),
    _Shown("d_flow", "Flow change", "veh/h", (25, 100, 250, 500), _GREEN_PURPLE, ("less", "more")),
    _Shown("d_speed_pct", "Speed change", "%", (5, 10, 20, 40), _RED_BLUE, ("slower", "faster")),
)

ALIASES = {
    "run_id": "run",
    "segment_id": "segment",
    "road_class": "class of road",
    "length_m": "length (m)",
    "speed_base": "speed before (km/h)",
    "speed_scn": "speed after (km/h)",
    "d_speed": "change of speed (km/h)",
    "d_speed_pct": "change of speed (%)",
    "d_speed_low": "change of speed, at least (km/h)",
    "d_speed_high": "change of speed, at most (km/h)",
    "flow_base": "flow before (veh/h)",
    "flow_scn": "flow after (veh/h)",
    "d_flow": "change of flow (veh/h)",
    "d_flow_low": "change of flow, at least (veh/h)",
    "d_flow_high": "change of flow, at most (veh/h)",
    "tt_delta_s": "longer travel time (s)",
    "significant": "change is at least twice the noise",
    "closed_share": "share of the time it is closed",
    "is_two_way": "the other direction is there as well",
    "is_current": "run that was written last",
    "ts": "instant (UTC)",
    "local_time": "local time",
}

AREA_ALIASES = {
    "run_id": "run",
    "minutes": "within (min)",
    "street_km": "streets (km)",
    "area_km2": "area (km²)",
    "is_current": "run that was written last",
}


def peak_styles(*, side: Side = "right") -> list[NamedStyle]:
    """Return the styles of `scenario_link_peak`: a quantity and a period each.

    Parameters
    ----------
    side
        On which side people drive.

    Returns
    -------
    list[NamedStyle]
        The change of speed over the whole time is the default.
    """
    styles: list[NamedStyle] = []
    for shown in _SHOWN:
        for period, words in PERIODS.items():
            title = f"{shown.title} ({shown.unit}), {words}"
            view = LayerView(
                name_column="name",
                aliases=ALIASES,
                map_tip=effect_tip(PERIOD_WORDS, has_share=True),
            )
            renderer = _renderer(shown, title, _shown_rows(period), side)
            qml = build_style(renderer, geometry="line", view=view)
            styles.append(NamedStyle(title, qml, not styles))
    return styles


def link_styles(step: pd.Timedelta, *, side: Side = "right") -> list[NamedStyle]:
    """Return the styles of `scenario_link`, which has a row per step, for the temporal controller.

    Parameters
    ----------
    step
        How long a row is valid.
    side
        On which side people drive.

    Returns
    -------
    list[NamedStyle]
        The change of speed is the default.
    """
    styles: list[NamedStyle] = []
    for shown in _SHOWN:
        title = f"{shown.title} ({shown.unit})"
        view = LayerView(
            time_column="ts",
            step=step,
            name_column="name",
            aliases=ALIASES,
            map_tip=effect_tip("coalesce(\"local_time\", '')", has_share=False),
        )
        which = _unless_filtered("is_current", _FLAG)
        qml = build_style(_renderer(shown, title, which, side), geometry="line", view=view)
        styles.append(NamedStyle(title, qml, not styles))
    return styles


def edit_styles() -> list[NamedStyle]:
    """Return the style of `scenario_edit`: what the operations do, drawn on top of the effects."""
    renderer, rules, symbols = _start_rules("What changes", _unless_filtered("is_current", _FLAG))
    kinds = {"closed": "closed", "new": "new road", "removed": "removed", "changed": "changed"}
    for status, label in kinds.items():
        _add_rule(rules, symbols, label, _equals("status", status))
        symbol = _add_symbol(symbols)
        if status == "closed":
            add_closed(symbol)
        elif status == "new":
            add_new(symbol)
        elif status == "removed":
            add_removed(symbol)
        else:
            add_quiet(symbol, colour="#6a3d9a", width=0.7, dash="1.6;1.0", level=9)
    view = LayerView(
        name_column="label",
        labels=True,
        label_expression=_ONCE,
        aliases={"valid_from": "from (UTC)", "valid_to": "to (UTC)", "op": "operation"},
        map_tip=edit_tip(),
    )
    return [
        NamedStyle(
            "What changes", build_style(renderer, geometry="line", view=view), is_default=True
        )
    ]


def area_styles() -> list[NamedStyle]:
    """Return the styles of `scenario_isochrone`, a period each: before in blue, after in orange."""
    styles: list[NamedStyle] = []
    for period, words in PERIODS.items():
        title = f"Within reach, {words}"
        renderer, rules, symbols = _start_rules(title, _shown_rows(period))
        for level, (network, label, colour, dash) in enumerate(_AREAS):
            _add_rule(rules, symbols, label, _equals("network", network))
            add_area(_add_symbol(symbols, "fill"), colour, dash=dash, level=level)
        view = LayerView(
            name_column="zone",
            labels=True,
            label_expression=_LIMIT,
            aliases=AREA_ALIASES,
            map_tip=area_tip(),
        )
        qml = build_style(renderer, geometry="polygon", view=view)
        styles.append(NamedStyle(title, qml, not styles))
    return styles


_AREAS = (  # from the lowest to the one on top
    ("baseline", "before", "#2166ac", None),
    ("scenario", "with the scenario", "#d95f02", "2.2;1.2"),
)
# along the rim of what can be reached with the scenario
_LIMIT = "if(\"network\" = 'scenario', \"zone\" || ', ' || \"minutes\" || ' min', NULL)"
# the words of an operation along the first of its segments
_ONCE = 'if("segment_id" = minimum("segment_id", "run_id" || \' \' || "operation"), "label", NULL)'

# -------------------------------------------------------------------------------------- renderers


def _renderer(shown: _Shown, title: str, which: str, side: Side) -> ET.Element:
    """Return rules by status, then by class; what is not sure is grey whatever its number."""
    renderer, rules, symbols = _start_rules(title, which)
    for status, label, add in (
        ("closed", "closed", add_closed),
        ("new", "new road", add_new),
        ("removed", "removed", add_removed),
    ):
        _add_rule(rules, symbols, label, _equals("status", status))
        add(_add_symbol(symbols))
    limits = [-limit for limit in reversed(shown.limits)] + list(shown.limits)
    middle = len(shown.limits)
    sure = f"({_FLAG.format('significant')}) AND \"status\" IN ('normal', 'changed')"
    for i, (low, high) in enumerate(pairwise([None, *limits, None])):
        _add_rule(
            rules, symbols, _label(shown, low, high), f"{sure} AND {_between(shown, low, high)}"
        )
        if i == middle:
            add_quiet(_add_symbol(symbols), colour="#c4c8cb", width=0.35, side=side, level=1)
        else:
            strength = middle - i if i < middle else i - middle  # 1 to 4
            colour = shown.colours[i if i < middle else i - 1]
            add_change(_add_symbol(symbols), colour, side=side, level=1 + strength)
    _add_rule(rules, symbols, "within the noise", "ELSE")
    add_quiet(
        _add_symbol(symbols), colour="#b6bbbf", width=0.25, dash="1.4;1.2", side=side, level=0
    )
    return renderer


def _start_rules(title: str, which: str) -> tuple[ET.Element, ET.Element, ET.Element]:
    """Return a renderer, its rule for the rows that are drawn at all, and its symbols."""
    renderer = ET.Element(
        "renderer-v2", type="RuleRenderer", symbollevels="0", enableorderby="0", forceraster="0"
    )
    top = ET.SubElement(renderer, "rules", key=_key(title))
    rules = ET.SubElement(top, "rule", key=_key(title, "rows"), filter=which, label=title)
    return renderer, rules, ET.SubElement(renderer, "symbols")


def _add_rule(rules: ET.Element, symbols: ET.Element, label: str, condition: str) -> None:
    """Add a rule for the symbol that comes next."""
    number = str(len(symbols))
    key = _key(str(rules.get("key")), number)
    ET.SubElement(rules, "rule", key=key, symbol=number, label=label, filter=condition)


def _add_symbol(symbols: ET.Element, kind: Literal["line", "fill"] = "line") -> ET.Element:
    """Add a symbol without layers."""
    name = str(len(symbols))
    return ET.SubElement(
        symbols, "symbol", type=kind, name=name, alpha="1", force_rhr="0", clip_to_extent="1"
    )


def _key(*parts: str) -> str:
    """Return an id that is the same each time."""
    return "{" + str(uuid5(NAMESPACE_OID, "/".join(parts))) + "}"


def _label(shown: _Shown, low: float | None, high: float | None) -> str:
    """Return the text of a class in the legend."""
    if low is None:
        return f"≤ {format_number(high or 0)} {shown.unit}, {shown.words[0]}"
    if high is None:
        return f"> +{format_number(low)} {shown.unit}, {shown.words[1]}"
    return f"{_signed(low)} to {_signed(high)}"


def _signed(value: float) -> str:
    """Return a number with its sign."""
    return f"+{format_number(value)}" if value > 0 else format_number(value)


def _between(shown: _Shown, low: float | None, high: float | None) -> str:
    """Return the condition of a class; a number on a limit is in the one nearer to no change."""
    inner = []
    if low is not None:
        inner.append(f'"{shown.column}" {">" if low > 0 else ">="} {low:g}')
    if high is not None:
        inner.append(f'"{shown.column}" {"<" if high < 0 else "<="} {high:g}')
    return " AND ".join(inner)


# ------------------------------------------------------------------------------------ expressions

_FLAG = '"{}"'  # a yes or no, as every store gives it


def _equals(column: str, text: str) -> str:
    """Return a condition on a text."""
    return f"\"{column}\" = '{text}'"


def _shown_rows(period: str) -> str:
    """Return the condition of the rows of a period of the run that is shown."""
    of_period = _unless_filtered("period", _equals("period", period))
    return f"({_unless_filtered('is_current', _FLAG)}) AND ({of_period})"


def _unless_filtered(column: str, condition: str) -> str:
    """Return a condition that gives way where the user has filtered the layer by its column."""
    wanted = "run_id" if column == "is_current" else column
    filtered = f"layer_property(@layer_id, 'source') LIKE '%\"{wanted}\"%'"
    return f"{condition.format(column)} OR {filtered}"
