"""A real QGIS draws scenarios: classes, sides, widths, draw order, tips, time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from real_qgis import need_qgis_python, run_script
from scenario_results import make_result
from stgraph_connectors._scenario_styles import edit_styles, link_styles, peak_styles
from stgraph_connectors.sinks.scenario_geopackage import write_scenario_geopackage

from stgraph.scenario.tables import tables

SCRIPT = Path(__file__).with_name("qgis_scenario_script.py")


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What QGIS says about a file with two runs."""
    need_qgis_python()
    folder = tmp_path_factory.mktemp("qgis")
    path = write_scenario_geopackage(tables(make_result(run_id="first")), folder / "s.gpkg")
    write_scenario_geopackage(tables(make_result(run_id="second")), path)
    (folder / "left.qml").write_text(peak_styles(side="left")[0].qml)
    run_script(SCRIPT, str(path), str(folder), folder=folder)
    found: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    return found


@pytest.mark.qgis
def test_layers_open_without_a_word(answer: dict[str, Any]) -> None:
    assert answer["messages"] == []
    assert answer["renderers"] == dict.fromkeys(
        ("scenario_link_peak", "scenario_link", "scenario_edit", "scenario_isochrone"),
        "RuleRenderer",
    )


@pytest.mark.qgis
def test_only_one_run_and_period_is_drawn(answer: dict[str, Any]) -> None:
    """Two runs of four periods: of eight rows per segment, one is drawn."""
    assert answer["drawn"]["scenario_link_peak"] == {"second day": 36}
    assert answer["drawn"]["scenario_edit"] == {"second": 6}
    assert answer["drawn"]["scenario_isochrone"] == {"second": 4}  # two limits, before and after


@pytest.mark.qgis
def test_a_users_filter_decides_what_is_drawn(answer: dict[str, Any]) -> None:
    """Whoever filters by run and period sees just that, in the same colours."""
    assert answer["filtered"] == {"first am": 36}
    assert answer["area_filtered"] == {"first am": 4}


@pytest.mark.qgis
def test_areas_before_and_after_are_told_apart(answer: dict[str, Any]) -> None:
    areas = {(network, minutes): (labels, tip) for network, minutes, labels, tip in answer["areas"]}
    assert "before" in areas["baseline", 10][0]
    assert "with the scenario" in areas["scenario", 10][0]
    words = "<b>20 min from zone Z2</b>, whole time<br>scenario: 3.2 km², 10 km of streets"
    assert areas["scenario", 20][1] == words


@pytest.mark.qgis
def test_every_row_has_the_symbol_of_its_class(answer: dict[str, Any]) -> None:
    labels = answer["labels"]
    assert "closed" in labels["5"]
    assert "new road" in labels["-1"]
    assert "−10 to −5" in labels["1"]  # −5 all the time and more in the peaks


@pytest.mark.qgis
def test_traffic_is_drawn_on_its_own_side(answer: dict[str, Any]) -> None:
    """Eastbound traffic lies south of the middle of the street where people drive on the right."""
    assert answer["side"]["right"] == "south"
    assert answer["side"]["left"] == "north"


@pytest.mark.qgis
def test_frames_of_the_clock(answer: dict[str, Any]) -> None:
    """Each frame has the segments of one step of the run that is shown."""
    assert answer["temporal"] == {"active": True, "field": "ts", "seconds": 1799.0}
    assert answer["frame"] == 72  # both runs; the renderer leaves out one of them
    assert answer["drawn"]["scenario_link"] == {"second": 36}


@pytest.mark.qgis
def test_tips_are_words(answer: dict[str, Any]) -> None:
    tips = answer["tips"]
    assert tips["5"].startswith(
        "<b>South Street</b>, whole time<br>closed for 50 % of the time; be"
    )
    assert "new road: 48 km/h" in tips["-1"]
    assert "speed 4" in tips["1"]
    assert "flow " in tips["1"]
    assert "s longer over 220 m" in tips["1"]
    assert "rests on assignment" in tips["1"]
    assert "no change is claimed" in tips["20"]
    assert answer["edit_tip"].startswith("<b>1. South Street closed 07:00-19:00</b><br>close")


def test_classes_are_fixed_and_symmetric() -> None:
    """Protects maps of several scenarios from having other classes each."""
    qml = peak_styles()[0].qml
    for low, high in ((-15, -10), (-10, -5), (-5, -2)):
        assert f"&quot;d_speed&quot; &gt;= {low} AND &quot;d_speed&quot; &lt; {high}" in qml
        assert f"&quot;d_speed&quot; &gt; {-high} AND &quot;d_speed&quot; &lt;= {-low}" in qml
    assert "&quot;d_speed&quot; &gt;= -2 AND &quot;d_speed&quot; &lt;= 2" in qml


def test_every_quantity_and_period_has_a_style() -> None:
    names = [style.name for style in peak_styles()]
    assert len(names) == len(set(names)) == 12
    assert [style.is_default for style in peak_styles()] == [True] + [False] * 11
    assert "Flow change (veh/h), afternoon" in names
    assert [style.name for style in link_styles(pd.Timedelta("5min"))] == [
        "Speed change (km/h)",
        "Flow change (veh/h)",
        "Speed change (%)",
    ]
    assert len(edit_styles()) == 1
    assert peak_styles() == peak_styles()  # nothing random in them
