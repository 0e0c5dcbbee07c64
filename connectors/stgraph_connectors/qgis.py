"""QGIS styles (QML) and layer metadata, generated for whatever store the layer lives in.

Nothing here knows GeoPackage or PostGIS: a sink puts the texts where its store keeps styles.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph_connectors._means import mean_of_known
from stgraph_connectors._symbols import (
    OUTLINE,
    SIZES,
    SUPPORT,
    GeometryKind,
    add_legend_rows,
    add_source_symbol,
    add_symbol,
    fade_guesses,
    quote,
    rgba,
)
from stgraph_connectors.styles import Classes, Style

__all__ = [
    "Classes",
    "GeometryKind",
    "LayerView",
    "Style",
    "build_graduated_qml",
    "build_metadata_xml",
    "build_plain_qml",
    "build_style",
    "build_support_qml",
    "format_sparkline",
    "geometry_kind",
]


_VERSION = "3.22.0-Białowieża"  # the oldest QGIS these styles are tested with
_CATEGORIES = "LayerConfiguration|Symbology|Labeling|Fields|MapTips|Temporal"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INSTANT = "yyyy-MM-dd HH:mm t"  # with the zone
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class LayerView:
    """What QGIS shows of a layer beside its colours.

    Parameters
    ----------
    time_column
        Instant column that the temporal controller filters on. None: the layer has no time.
    step
        How long a row is valid from its instant on. None: the instant only.
    name_column
        Column that names a feature in lists, map tips and labels.
    value_columns
        Columns shown in the map tip, in order, with their legend title as value.
    text_columns
        Columns shown in the map tip as they are, under all others (local time, sparkline).
    aliases
        Column name to the name that a person reads, with the unit.
    labels
        Write the name beside each feature.
    instant_columns
        Columns shown in the map tip as date and time, under the values.
    support_column
        Column with what a value rests on (own sensor, near, far, none): guesses are thinner and
        broken, the more so the weaker their support is. None: all are drawn alike.
    class_names
        Value column to the words that the map tip shows for its numbers 0, 1, 2, ...
    map_tip
        The whole map tip as HTML with expressions. None: made of the columns above.
    label_expression
        What is written along a line or rim instead of its name, however short the line is.
    """

    time_column: str | None = None
    step: pd.Timedelta | None = None
    name_column: str = "node_id"
    value_columns: Mapping[str, str] | None = None
    text_columns: Sequence[str] = ()
    aliases: Mapping[str, str] | None = None
    labels: bool = False
    instant_columns: Sequence[str] = ()
    support_column: str | None = None
    class_names: Mapping[str, Sequence[str]] | None = None
    map_tip: str | None = None
    label_expression: str | None = None


def build_graduated_qml(
    classes: Classes,
    column: str,
    *,
    geometry: GeometryKind,
    view: LayerView | None = None,
    size_mm: float | None = None,
) -> str:
    """Return a QGIS style that colours a layer by the classes of one column.

    The legend starts with the title of the classes and ends with what guesses look like.

    Parameters
    ----------
    classes
        Class limits and colours; the outermost classes take every value beyond them.
    column
        Column with the numbers, in the unit of the classes.
    geometry
        What is drawn: ``point``, ``line`` or ``polygon``.
    view
        Time, map tip and names. None: colours only.
    size_mm
        Point diameter or line width in millimetres. None: 3.4, 0.9.

    Returns
    -------
    str
        The QML document.
    """
    view = view or LayerView()
    root = _start_document(view)
    renderer = ET.SubElement(
        root,
        "renderer-v2",
        type="graduatedSymbol",
        attr=column,
        graduatedMethod="GraduatedColor",
        symbollevels="0",
        enableorderby="0",
        forceraster="0",
    )
    ranges = ET.SubElement(renderer, "ranges")
    limits = classes.limits
    for i, label in enumerate(classes.labels):
        ET.SubElement(
            ranges,
            "range",
            symbol=str(i),
            lower=repr(limits[i]),
            upper=repr(limits[i + 1]),
            label=label,
            render="true",
        )
    symbols = ET.SubElement(renderer, "symbols")
    size = SIZES[geometry] if size_mm is None else size_mm
    for i, colour in enumerate(classes.colours):
        symbol = add_symbol(symbols, str(i), geometry, colour, size)
        if view.support_column is not None:
            fade_guesses(symbol, geometry, view.support_column, size)
    guesses = None if view.support_column is None else size
    add_legend_rows(renderer, geometry, title=classes.title, guesses_mm=guesses)
    add_source_symbol(renderer, geometry, classes.colours[0], size)
    ET.SubElement(ET.SubElement(renderer, "classificationMethod", id="Custom"), "parameters")
    return _finish_document(root, view, geometry)


def build_support_qml(
    column: str,
    *,
    geometry: GeometryKind,
    view: LayerView | None = None,
    size_mm: float | None = None,
) -> str:
    """Return a QGIS style with a category per class of support: guesses are pale and dashed.

    Parameters
    ----------
    column
        Column with ``own sensor``, ``near``, ``far`` or ``none``.
    geometry, view, size_mm
        As for `build_graduated_qml`.

    Returns
    -------
    str
        The QML document.
    """
    view = view or LayerView()
    root = _start_document(view)
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=column, symbollevels="0"
    )
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    size = SIZES[geometry] if size_mm is None else size_mm
    for i, kind in enumerate(SUPPORT):
        shown = {"symbol": str(i), "value": kind.value, "label": kind.label, "type": "string"}
        ET.SubElement(categories, "category", shown, render="true")
        width = size if geometry == "polygon" else size * kind.size
        own = kind.dash is None
        add_symbol(symbols, str(i), geometry, kind.colour, width, cased=own, dash=kind.dash)
    add_source_symbol(renderer, geometry, SUPPORT[-1].colour, size)
    return _finish_document(root, view, geometry)


def build_plain_qml(
    *,
    geometry: GeometryKind,
    colour: str = "#8b9196",
    size_mm: float | None = None,
    view: LayerView | None = None,
) -> str:
    """Return a QGIS style with one quiet symbol, for the nodes and edges under a coloured layer.

    Parameters
    ----------
    geometry
        What is drawn: ``point``, ``line`` or ``polygon``.
    colour
        Colour as ``#rrggbb``.
    size_mm
        Point diameter or line width in millimetres. None: a little less than coloured layers.
    view
        Map tip and names. None: the symbol only.

    Returns
    -------
    str
        The QML document.
    """
    view = view or LayerView()
    root = _start_document(view)
    renderer = ET.SubElement(root, "renderer-v2", type="singleSymbol", symbollevels="0")
    size = {"point": 1.8, "line": 0.3, "polygon": 0.1}[geometry] if size_mm is None else size_mm
    add_symbol(ET.SubElement(renderer, "symbols"), "0", geometry, colour, size, cased=False)
    return _finish_document(root, view, geometry)


def build_style(renderer: ET.Element, *, geometry: GeometryKind, view: LayerView) -> str:
    """Return a QGIS style around a renderer of one's own.

    Parameters
    ----------
    renderer
        The element ``renderer-v2``.
    geometry
        What is drawn: ``point``, ``line`` or ``polygon``.
    view
        Time, map tip and names.

    Returns
    -------
    str
        The QML document.
    """
    root = _start_document(view)
    root.append(renderer)
    return _finish_document(root, view, geometry)


def build_metadata_xml(
    *,
    title: str,
    abstract: str,
    attribution: str | None = None,
    keywords: Sequence[str] = (),
    crs: str | None = None,
) -> str:
    """Return QGIS layer metadata: what the layer shows, and whom to name as its source.

    Parameters
    ----------
    title, abstract
        Plain text.
    attribution
        Whom to name, with the licence. None: nobody.
    keywords
        Words for the catalogue.
    crs
        Authority code such as ``EPSG:2193``. None leaves it out.

    Returns
    -------
    str
        The metadata document in QGIS's own format.
    """
    root = ET.Element("qgis", version=_VERSION)
    for tag, text in (
        ("identifier", title),
        ("parentidentifier", ""),
        ("language", "ENG"),
        ("type", "dataset"),
        ("title", title),
        ("abstract", abstract),
    ):
        ET.SubElement(root, tag).text = text
    if keywords:
        words = ET.SubElement(root, "keywords", vocabulary="gmd:topicCategory")
        for word in keywords:
            ET.SubElement(words, "keyword").text = word
    if attribution:
        ET.SubElement(root, "rights").text = attribution
        ET.SubElement(root, "license").text = attribution
    if crs:
        spatial = ET.SubElement(ET.SubElement(root, "crs"), "spatialrefsys")
        ET.SubElement(spatial, "authid").text = crs
    return _to_text(root)


def format_sparkline(values: npt.ArrayLike, *, width: int = 24) -> list[str]:
    """Return one line of block characters per node, scaled to the node's own range.

    Parameters
    ----------
    values
        (T, N) numbers; missing ones become a dot.
    width
        Longest line; longer series are averaged into that many parts.

    Returns
    -------
    list[str]
        N texts of min(T, width) characters.
    """
    lines = draw_blocks(values, [*BLOCKS, "·"], width=width)
    return [str(line) for line in lines]


def draw_blocks(
    values: npt.ArrayLike, symbols: Sequence[str] | Sequence[bytes], *, width: int
) -> npt.NDArray[Any]:
    """Return (N,) lines of symbols for (T, N) values: the last symbol is for what is missing.

    All symbols have the same length, so that whole columns are put together at once.
    """
    array = np.asarray(values, dtype=np.float64)
    bounds = np.linspace(0, len(array), min(len(array), width) + 1).round().astype(int)
    parts = [mean_of_known(array[a:b], axis=0) for a, b in pairwise(bounds)]
    known_symbols = np.array(symbols)
    if not parts:
        return np.full(array.shape[1], known_symbols[0][:0])
    table = np.stack(parts)  # (width, N)
    known = np.isfinite(table)
    low = np.where(known, table, np.inf).min(axis=0)
    span = np.where(known, table, -np.inf).max(axis=0) - low
    span = np.where(np.isfinite(span) & (span > 0), span, 1.0)
    level = np.where(known, (table - np.where(np.isfinite(low), low, 0)) / span * 7, -1)
    drawn = np.ascontiguousarray(known_symbols[level.round().astype(int)].T)  # (N, width)
    kind, size = drawn.dtype.kind, len(symbols[0]) * len(table)
    return drawn.view(f"{kind}{size}")[:, 0]


def geometry_kind(types: Sequence[str]) -> GeometryKind:
    """Return what most geometries are, from names such as ``MultiLineString`` (None is skipped)."""
    names = [name for name in types if isinstance(name, str)]
    lines = sum("Line" in name for name in names)
    areas = sum("Polygon" in name for name in names)
    if max(lines, areas) * 2 <= len(names):
        return "point"
    return "line" if lines >= areas else "polygon"


def _start_document(view: LayerView) -> ET.Element:
    """Return the root of a style with its temporal settings."""
    root = ET.Element(
        "qgis",
        version=_VERSION,
        styleCategories=_CATEGORIES,
        labelsEnabled=str(int(view.labels)),
    )
    if view.time_column is None:
        return root
    duration, unit = _duration(view.step)
    temporal = ET.SubElement(
        root,
        "temporal",
        enabled="1",
        mode="1",  # instant in one field, valid for a fixed duration
        startField=view.time_column,
        endField="",
        fixedDuration=duration,
        durationUnit=unit,
        durationField="",
        startExpression="",
        endExpression="",
        accumulate="0",
        limitMode="0",  # a row counts from its instant on, up to but without the next
    )
    span = ET.SubElement(temporal, "fixedRange")
    ET.SubElement(span, "start")
    ET.SubElement(span, "end")
    return root


def _finish_document(root: ET.Element, view: LayerView, geometry: GeometryKind) -> str:
    """Add labels, aliases, display name and map tip, and return the text."""
    if view.labels:
        _add_labels(root, view, geometry)
    aliases = ET.SubElement(root, "aliases")
    for i, (column, text) in enumerate((view.aliases or {}).items()):
        ET.SubElement(aliases, "alias", field=column, index=str(i), name=text)
    ET.SubElement(root, "previewExpression").text = quote(view.name_column)
    ET.SubElement(root, "mapTip").text = _map_tip(view)
    return _to_text(root)


def _to_text(root: ET.Element) -> str:
    """Return a document without the characters that XML cannot hold."""
    for element in root.iter():
        element.text = None if element.text is None else _NOT_XML.sub("", element.text)
        for name, value in element.attrib.items():
            element.set(name, _NOT_XML.sub("", value))
    return ET.tostring(root, encoding="unicode")


def _duration(step: pd.Timedelta | None) -> tuple[str, str]:
    """Return how long a row is valid, as number and QGIS unit: a second less than a step.

    GeoPackage instants are compared as text, and ``03:00:00.000Z`` sorts after ``03:00:00``: with
    the whole step, the frame from 04:00 on would show the rows of 03:00 as well.
    """
    seconds = 0.0 if step is None else step.total_seconds()
    value = seconds - 1 if seconds > 2 else seconds
    return (str(int(value)) if value == int(value) else repr(value)), "s"


def _map_tip(view: LayerView) -> str:
    """Return the HTML that QGIS shows at the pointer."""
    if view.map_tip is not None:
        return view.map_tip
    lines = [f"<b>[% {quote(view.name_column)} %]</b>"]
    for column, title in (view.value_columns or {}).items():
        name, words = quote(column), (view.class_names or {}).get(column)
        shown = f"format_number({name}, if(abs({name}) < 10, 2, 0))"
        if words:
            shown = f"array_get(array({', '.join(map(_literal, words))}), to_int({name}))"
        shown = f"coalesce({shown}, '–')"
        lines.append(f"{_escape(title)}: <b>[% {shown} %]</b>")
    texts = [f"format_date({quote(column)}, '{_INSTANT}')" for column in view.instant_columns]
    texts += [quote(column) for column in view.text_columns]
    lines += [f"[% coalesce({text}, '') %]" for text in texts]
    return "<br>".join(lines)


def _literal(text: str) -> str:
    """Return text for HTML as a string of an expression, without ending the expression."""
    plain = _escape(text).replace("%]", "% ]").replace("\\", "\\\\")
    return "'" + plain.replace("'", "''") + "'"


def _escape(text: str) -> str:
    """Return text for HTML, without starting an expression."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain.replace("[%", "[ %")


def _add_labels(root: ET.Element, view: LayerView, geometry: GeometryKind) -> None:
    """Add small names with a light halo, left out where they would overlap."""
    labeling = ET.SubElement(root, "labeling", type="simple")
    settings = ET.SubElement(labeling, "settings")
    style = ET.SubElement(
        settings,
        "text-style",
        fieldName=view.label_expression or view.name_column,
        isExpression=str(int(view.label_expression is not None)),
        fontSize="7.5" if view.label_expression is None else "9",
        fontSizeUnit="Point",
        fontWeight="50",  # without it the lightest one
        textColor=rgba(OUTLINE),
        textOpacity="1",
        multilineHeight="1",
    )
    ET.SubElement(
        style,
        "text-buffer",
        bufferDraw="1",
        bufferSize="0.8",
        bufferSizeUnits="MM",
        bufferColor=rgba("#ffffff"),
        bufferOpacity="0.85",
    )
    around = {"point": "6", "line": "2", "polygon": "7" if view.label_expression else "0"}[geometry]
    ET.SubElement(
        settings,
        "placement",
        placement=around,
        placementFlags="10",  # above a line; without it no line gets a name
        priority="5",
        predefinedPositionOrder="TR,TL,BR,BL,R,L,TSR,BSR",
        dist="0.6" if view.label_expression is None else "1.6",
        distUnits="MM",
        overrunDistance="0" if view.label_expression is None else "100",
        overrunDistanceUnit="MM",
        offsetType="1",
    )
    ET.SubElement(settings, "rendering", displayAll="0", obstacle="1", drawLabels="1")
