"""QGIS styles as text: what QGIS needs is there, whatever names and values come."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stgraph_connectors.qgis import (
    GeometryKind,
    LayerView,
    build_graduated_qml,
    build_metadata_xml,
    build_plain_qml,
    build_support_qml,
    format_sparkline,
    geometry_kind,
)
from stgraph_connectors.styles import Style, classify

from stgraph.graph import Feature

CLASSES = classify([0.0, 9.0], feature=Feature("speed", "km/h"), style=Style(breaks=(3.0, 6.0)))
VIEW = LayerView(
    time_column="target_time",
    step=pd.Timedelta(minutes=5),
    value_columns={"speed": "Speed (km/h)"},
    text_columns=("trend",),
    aliases={"speed": "Speed (km/h)"},
    labels=True,
)


@pytest.mark.parametrize(
    ("geometry", "symbol", "layers"),
    [("point", "marker", 1), ("line", "line", 2), ("polygon", "fill", 1)],
)
def test_renderer_has_a_symbol_per_class(geometry: GeometryKind, symbol: str, layers: int) -> None:
    root = ET.fromstring(build_graduated_qml(CLASSES, "speed", geometry=geometry, view=VIEW))
    renderer = root.find("renderer-v2")
    assert renderer is not None
    assert renderer.get("type") == "graduatedSymbol"
    title, *ranges = renderer.findall("ranges/range")
    assert title.get("label") == "Speed (km/h)"
    assert [r.get("label") for r in ranges] == ["≤ 3", "3 – 6", "> 6"]
    assert float(ranges[0].get("lower", "0")) <= -1e9
    assert float(ranges[-1].get("upper", "0")) >= 1e9
    assert [r.get("lower") for r in ranges[1:]] == [r.get("upper") for r in ranges[:-1]]
    symbols = renderer.findall("symbols/symbol")
    assert [s.get("type") for s in symbols] == [symbol] * 4
    assert [len(s.findall("layer")) for s in symbols] == [layers] * 3 + [1]  # and the title's


def test_a_row_is_valid_for_a_second_less_than_a_step() -> None:
    """The whole step would show two steps at once in GeoPackage, whose instants are text."""
    root = ET.fromstring(build_graduated_qml(CLASSES, "speed", geometry="point", view=VIEW))
    temporal = root.find("temporal")
    assert temporal is not None
    assert {
        k: temporal.get(k)
        for k in ("enabled", "mode", "startField", "fixedDuration", "durationUnit")
    } == {
        "enabled": "1",
        "mode": "1",
        "startField": "target_time",
        "fixedDuration": "299",
        "durationUnit": "s",
    }


def test_a_layer_without_time_has_no_temporal_settings() -> None:
    for text in (
        build_graduated_qml(CLASSES, "mae", geometry="point"),
        build_plain_qml(geometry="line"),
    ):
        assert ET.fromstring(text).find("temporal") is None


def test_the_map_tip_shows_the_word_of_a_class() -> None:
    """As an expression that no word can end; numbers beside it stay numbers."""
    view = LayerView(
        value_columns={"speed_class": "Speed class", "speed_p0": "P"},
        class_names={"speed_class": ("below 20' mph", "a < b %] \\")},
    )
    tip = ET.fromstring(build_plain_qml(geometry="point", view=view)).findtext("mapTip") or ""
    assert tip.split("<br>")[1] == (
        "Speed class: <b>[% coalesce(array_get(array('below 20'' mph', 'a &lt; b % ] \\\\'), "
        "to_int(\"speed_class\")), '–') %]</b>"
    )
    assert 'format_number("speed_p0"' in tip


def test_sizes_are_in_millimetres() -> None:
    text = build_graduated_qml(CLASSES, "speed", geometry="point", size_mm=2.5)
    options = {o.get("name"): o.get("value") for o in ET.fromstring(text).iter("Option")}
    assert (options["size"], options["size_unit"]) == ("2.5", "MM")


def test_metadata_names_the_source() -> None:
    text = build_metadata_xml(title="t", abstract="a", attribution="me, CC BY 4.0", crs="EPSG:2193")
    root = ET.fromstring(text)
    assert root.findtext("rights") == "me, CC BY 4.0"
    assert root.findtext("crs/spatialrefsys/authid") == "EPSG:2193"


@given(name=st.text(), title=st.text(), text=st.text())
def test_any_name_gives_well_formed_xml(name: str, title: str, text: str) -> None:
    view = LayerView("t", pd.Timedelta("1h"), name, {name: title}, (text,), {name: title}, True)
    ET.fromstring(build_graduated_qml(CLASSES, name, geometry="line", view=view))
    ET.fromstring(
        build_metadata_xml(title=title, abstract=text, attribution=name, keywords=[title])
    )


def test_sparkline_has_a_block_per_step_and_a_dot_for_gaps() -> None:
    values = np.array([[0.0, 5.0, np.nan], [7.0, 5.0, np.nan], [np.nan, 5.0, np.nan]])
    assert format_sparkline(values) == ["▁█·", "▁▁▁", "···"]
    assert format_sparkline(np.arange(100.0)[:, None], width=4) == ["▁▃▆█"]
    assert format_sparkline(np.zeros((0, 2))) == ["", ""]


@pytest.mark.parametrize(
    ("types", "kind"),
    [
        (["Point", None, "MultiPoint"], "point"),
        (["LineString", "MultiLineString", "Point"], "line"),
        (["Polygon", "MultiPolygon", "LineString"], "polygon"),
        ([None, None], "point"),
        ([], "point"),
    ],
)
def test_what_most_geometries_are_decides(types: list[str], kind: str) -> None:
    assert geometry_kind(types) == kind


def expressions(layer: ET.Element) -> dict[str | None, str | None]:
    """Return what decides a property of a symbol layer, by the property's name."""
    found = layer.findall("data_defined_properties/Option/Option[@name='properties']/Option")
    parts = {one.get("name"): one.find("Option[@name='expression']") for one in found}
    return {name: None if part is None else part.get("value") for name, part in parts.items()}


def test_guesses_look_weaker_in_every_style() -> None:
    """Nobody takes a guess for a measurement: thin, broken, not cased, and never transparent.

    Rows of several instants lie on top of each other; transparent ones would add up.
    """
    view = LayerView(support_column="support")
    root = ET.fromstring(build_graduated_qml(CLASSES, "speed", geometry="line", view=view))
    for symbol in root.findall("renderer-v2/symbols/symbol")[:3]:
        assert symbol.get("alpha") == "1"
        assert symbol.find("data_defined_properties") is None
        casing, line = (expressions(layer) for layer in symbol.findall("layer"))
        assert casing == {"enabled": "NOT coalesce(\"support\", '') IN ('near', 'far', 'none')"}
        assert line["outlineWidth"] == (
            "CASE WHEN \"support\" = 'near' THEN 0.54 WHEN \"support\" = 'far' THEN 0.45 "
            "WHEN \"support\" = 'none' THEN 0.36 ELSE 0.9 END"
        )
        assert line["customDash"] == (
            "CASE WHEN \"support\" = 'near' THEN '2;1.2' WHEN \"support\" = 'far' THEN '1.2;1.4' "
            "WHEN \"support\" = 'none' THEN '0.5;1.6' ELSE '1000;0' END"
        )
    plain = ET.fromstring(build_graduated_qml(CLASSES, "speed", geometry="line", view=VIEW))
    assert plain.find(".//data_defined_properties") is None


@pytest.mark.parametrize(
    ("geometry", "names"),
    [
        ("point", {"size", "fillColor", "outlineColor"}),
        ("polygon", {"fillStyle"}),
    ],
)
def test_guesses_at_points_and_areas_look_weaker(geometry: GeometryKind, names: set[str]) -> None:
    view = LayerView(support_column="support")
    root = ET.fromstring(build_graduated_qml(CLASSES, "speed", geometry=geometry, view=view))
    layer = root.find("renderer-v2/symbols/symbol/layer")
    assert layer is not None
    assert set(expressions(layer)) == names


def test_the_legend_says_what_is_shown_and_what_a_guess_looks_like() -> None:
    """Classes that no value falls into, as a style has no other place for it."""
    view = LayerView(support_column="support")
    root = ET.fromstring(build_graduated_qml(CLASSES, "speed", geometry="line", view=view))
    ranges = root.findall("renderer-v2/ranges/range")
    assert [r.get("label") for r in ranges] == [
        "Speed (km/h)", "≤ 3", "3 – 6", "> 6",
        "guess, a sensor near", "guess, the next sensor far", "guess, no sensor around",
    ]  # fmt: skip
    extra = [ranges[0], *ranges[4:]]
    assert {(r.get("lower"), r.get("upper")) for r in extra} == {("1e+30", "1e+30")}
    symbols = {s.get("name") for s in root.findall("renderer-v2/symbols/symbol")}
    assert {r.get("symbol") for r in ranges} == symbols


def test_support_has_a_category_per_class() -> None:
    """Own sensors are solid and dark, guesses dashed and pale."""
    root = ET.fromstring(build_support_qml("support", geometry="line"))
    renderer = root.find("renderer-v2")
    assert renderer is not None
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "support")
    values = [category.get("value") for category in renderer.findall("categories/category")]
    assert values == ["own sensor", "near", "far", "none"]
    dashes = [
        symbol.find("layer/Option/Option[@name='customdash']") is not None
        for symbol in renderer.findall("symbols/symbol")
    ]
    assert dashes == [False, True, True, True]
