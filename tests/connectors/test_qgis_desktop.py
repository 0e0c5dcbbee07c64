"""A real QGIS opens what the GeoPackage sink writes: coloured, with time, without warnings."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from real_qgis import need_qgis_python, run_desktop, run_script
from stgraph_connectors.sinks.geopackage import write_geopackage
from stgraph_connectors.styles import classify_feature

from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.qgis

SCRIPT = Path(__file__).with_name("qgis_script.py")


@pytest.fixture(scope="module", autouse=True)
def _qgis() -> None:
    """Without a QGIS all of these are skipped, in CI a failure."""
    need_qgis_python()


def make_graph(kind: str) -> STGraph:
    """Nine places whose speeds change from 5 minutes to 5 minutes over an hour."""
    x, y = 1_757_000.0, 5_920_000.0
    shapes = {
        "point": [shapely.Point(x + 300 * i, y + 200 * (i % 3)) for i in range(9)],
        "line": [shapely.LineString([(x, y + 90 * i), (x + 900, y + 90 * i)]) for i in range(9)],
        "polygon": [shapely.box(x + 90 * i, y, x + 90 * i + 80, y + 400) for i in range(9)],
    }[kind]
    mean = (20 + 5 * (np.arange(12)[:, None] + np.arange(9)[None, :]) % 60).astype(np.float32)
    return STGraph(
        nodes=gpd.GeoDataFrame(
            {"kind": "station"}, index=[f"n {i}" for i in range(9)], geometry=shapes, crs=2193
        ),
        edge_index=np.array([range(8), range(1, 9)]),
        time=pd.date_range("2024-03-01T07:00Z", periods=12, freq="5min"),
        values=np.stack([mean, mean - 5, mean, mean + 5], axis=-1),
        features=tuple(
            Feature(n, "km/h") for n in ("speed", "speed_q10", "speed_q50", "speed_q90")
        ),
        zone="Pacific/Auckland",
        provenance={
            "kind": "forecast",
            "issued_at": "2024-03-01T06:55:00+00:00",
            "attribution": "Data: somebody, CC BY 4.0",
        },
    )


def ask_qgis(path: Path, layer: str, folder: Path, zone: str = "UTC") -> dict[str, object]:
    """Open a layer in QGIS without a screen and return what it says about it."""
    run_script(SCRIPT, str(path), layer, str(folder), folder=folder, zone=zone)
    answer: dict[str, object] = json.loads((folder / "answer.json").read_text())
    return answer


@pytest.mark.parametrize("kind", ["point", "line", "polygon"])
def test_forecast_opens_coloured_and_with_time(tmp_path: Path, kind: str) -> None:
    graph = make_graph(kind)
    path = write_geopackage(graph, tmp_path / "f.gpkg")
    before = path.read_bytes()
    answer = ask_qgis(path, "forecast", tmp_path)
    assert answer["valid"]
    assert answer["features"] == 9 * 12
    assert answer["renderer"] == "graduatedSymbol"
    assert answer["classes"] == 1 + len(classify_feature(graph).colours)  # and the title
    # opened from a project file, as the desktop does
    assert answer["temporal"] == {"active": True, "field": "target_time", "seconds": 299.0}
    assert answer["uncoloured"] == 0
    assert answer["messages"] == []
    assert answer["attribution"] == ["Data: somebody, CC BY 4.0"]
    assert answer["alias"] == "Speed (km/h)"
    assert answer["styles"] == 4
    tip = str(answer["tip"])
    assert "<b>n 0</b><br>Speed (km/h): <b>20</b>" in tip
    assert "2024-03-01 20:00 NZDT<br>▁▂" in tip
    assert path.read_bytes() == before


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Auckland"])
def test_every_frame_shows_one_step(tmp_path: Path, zone: str) -> None:
    """In whatever zone the desktop runs, no frame mixes two steps and none is empty."""
    path = write_geopackage(make_graph("point"), tmp_path / "f.gpkg")
    answer = ask_qgis(path, "forecast", tmp_path, zone)
    assert answer["rows_per_frame"] == [9] * 12
    first, last = (tmp_path / f"frame{i}.png" for i in (0, 9))
    assert first.stat().st_size > 2000
    assert first.read_bytes() != last.read_bytes()


def test_readings_and_errors_open_coloured(tmp_path: Path) -> None:
    graph = make_graph("point")
    metrics = pd.DataFrame({"mae": np.linspace(1, 9, 9)}, index=graph.node_ids)
    observed = graph.select_features(["speed"]).replace(provenance={})
    path = write_geopackage(observed, tmp_path / "o.gpkg", node_metrics=metrics)
    answer = ask_qgis(path, "observation", tmp_path)
    assert answer["temporal"] == {"active": True, "field": "time", "seconds": 299.0}
    assert answer["messages"] == []
    answer = ask_qgis(path, "error_by_node", tmp_path)
    assert (answer["renderer"], answer["features"], answer["uncoloured"]) == (
        "graduatedSymbol",
        9,
        0,
    )
    assert answer["messages"] == []
    for layer in ("nodes", "edges"):
        answer = ask_qgis(path, layer, tmp_path)
        assert (answer["valid"], answer["renderer"], answer["messages"]) == (
            True,
            "singleSymbol",
            [],
        )


def test_hostile_names_and_missing_geometry_open(tmp_path: Path) -> None:
    graph = make_graph("point")
    shapes = [None, *graph.nodes.geometry[1:]]
    nodes = gpd.GeoDataFrame(
        {"kind": "x", 'a"b': 1, "OGC_FID": 2, "geom": "g", "tags": [[1]] * 9},
        index=graph.node_ids, geometry=shapes, crs=2193,
    )  # fmt: skip
    odd = graph.select_features(["speed"]).replace(
        nodes=nodes, features=(Feature("spe'ed \"[% 1 %] <10 %>", "km/h"),)
    )
    path = write_geopackage(odd, tmp_path / "f.gpkg")
    answer = ask_qgis(path, "forecast", tmp_path)
    assert (answer["valid"], answer["features"], answer["uncoloured"]) == (True, 108, 0)
    assert answer["messages"] == []


def test_the_desktop_itself_opens_the_layer_with_time(tmp_path: Path) -> None:
    """The program with its windows, on a virtual screen, given the file on the command line."""
    path = write_geopackage(make_graph("point"), tmp_path / "f.gpkg")
    code = tmp_path / "ask.py"
    code.write_text(DESKTOP.format(answer=str(tmp_path / "answer.txt")))
    run_desktop(code, f"{path}|layername=forecast", folder=tmp_path)
    assert (tmp_path / "answer.txt").read_text() == "graduatedSymbol True target_time"


DESKTOP = """
import os
from qgis.core import QgsProject
from qgis.PyQt.QtCore import QTimer

def answer():
    layers = list(QgsProject.instance().mapLayers().values())
    if not layers:
        return QTimer.singleShot(500, answer)
    time = layers[0].temporalProperties()
    with open({answer!r}, "w") as file:
        file.write(f"{{layers[0].renderer().type()}} {{time.isActive()}} {{time.startField()}}")
        file.flush()
    os._exit(0)

QTimer.singleShot(500, answer)
"""
