"""A real QGIS opens the PostGIS layers as a reader would: no key hint, coloured, with time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pytest
import shapely
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from real_qgis import need_qgis_python, run_desktop, run_script
from stgraph_connectors.postgis.evaluations import publish_evaluation
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.observations import publish_observations
from stgraph_connectors.postgis.project import write_project
from stgraph_connectors.postgis.schema import init_schema
from stgraph_connectors.styles import Style, classify_feature

from stgraph.graph import Feature, STGraph

pytestmark = [pytest.mark.qgis, pytest.mark.postgis]

SCRIPT = Path(__file__).with_name("qgis_layers_script.py")
KINDS = {"point": "Point", "line": "LineString", "polygon": "Polygon"}
NAMES = ("speed", "speed_q10", "speed_q90")
N, H = 6, 4  # nodes, horizons
TABLES = [
    "forecast_latest", "forecast_latest_h1", "forecast_latest_h4",
    "observation_latest", "error_by_node", "support",
]  # fmt: skip
FRAMES = [0, 2]  # horizons that are looked at, from 0


def make_shapes(kind: str) -> list[shapely.Geometry]:
    """Six places, 400 m apart, in metres of New Zealand."""
    x, y = 1_757_000.0, 5_920_000.0
    corners = [(x + 400 * (i % 3), y + 400 * (i // 3)) for i in range(N)]
    return {
        "point": [shapely.Point(a, b) for a, b in corners],
        "line": [shapely.LineString([(a - 150, b), (a + 150, b)]) for a, b in corners],
        "polygon": [shapely.box(a - 150, b - 150, a + 150, b + 150) for a, b in corners],
    }[kind]


def make_forecast(kind: str, hour: int = 7) -> STGraph:
    """Speeds between 20 and 80 km/h that change from step to step."""
    mean = (20 + 13 * (np.arange(H)[:, None] * 2 + np.arange(N)[None, :]) % 60).astype(np.float32)
    issued_at = pd.Timestamp(f"2024-03-01T{hour:02d}:00Z")
    return STGraph(
        nodes=gpd.GeoDataFrame(
            {"kind": "station"},
            index=[f"n {i}" for i in range(N)], geometry=make_shapes(kind), crs=2193,
        ),
        time=pd.date_range(issued_at + pd.Timedelta("5min"), periods=H, freq="5min"),
        values=np.stack([mean, mean - 5, mean + 5], axis=-1),
        features=tuple(Feature(name, "km/h") for name in NAMES),
        zone="Pacific/Auckland",
        provenance={"kind": "forecast", "issued_at": issued_at.isoformat()},
    )  # fmt: skip


def expected_colours(graph: STGraph, values: npt.NDArray[np.float32]) -> list[str]:
    """Return the colours of the classes that some mean values are in."""
    classes = classify_feature(graph)
    return [classes.colours[i] for i in classes.index(values)]


def as_source(dsn: str) -> str:
    """Return a DSN as QGIS writes it."""
    parts = conninfo_to_dict(dsn)
    names = ("dbname", "host", "port", "user", "password")
    return " ".join(f"{name}='{parts[name]}'" for name in names if parts.get(name))


def ask_qgis(folder: Path, dsn: str, layers: list[tuple[str, str]], save: str = "") -> Any:
    """Open layers in QGIS and return what it says about them."""
    places = {
        kind: [(p.x, p.y) for p in shapely.centroid(np.array(make_shapes(kind)))] for kind in KINDS
    }
    starts = [f"{make_forecast('point').time[k]:%Y-%m-%dT%H:%M:%SZ}" for k in FRAMES]
    task = {
        "source": as_source(dsn), "layers": layers, "places": places, "frames": starts,
        "seconds": 300, "save": save and as_source(save),
    }  # fmt: skip
    (folder / "task.json").write_text(json.dumps(task))
    run_script(SCRIPT, str(folder / "task.json"), folder=folder, zone="America/New_York")
    return json.loads((folder / "answer.json").read_text())


@pytest.fixture(scope="module")
def published(module_database: str) -> str:
    """DSN of a database with points, lines and polygons in a schema each, readers and an editor."""
    need_qgis_python()
    for kind in KINDS:
        graph = make_forecast(kind)
        init_schema(module_database, schema=kind, roles=True)
        publish_forecast(graph, module_database, schema=kind)
        readings = graph.select_features(["speed"]).replace(provenance={})
        publish_observations(readings, module_database, schema=kind)
        errors = pd.DataFrame({"node": graph.node_ids, "mae": np.linspace(1, 9, N)})
        publish_evaluation(errors, module_database, schema=kind, model="m", feature="speed")
    with psycopg.connect(module_database) as connection:
        for who in ("reader", "writer"):
            connection.execute(f"CREATE ROLE qgis_{who} LOGIN".encode())
            roles = ", ".join(f"{kind}_{who}" for kind in KINDS)
            connection.execute(f"GRANT {roles} TO qgis_{who}".encode())
    return module_database


@pytest.fixture(scope="module")
def seen(published: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What QGIS says about all layers, asked as a reader; then an editor saves a style."""
    layers = [(kind, table) for kind in KINDS for table in TABLES]
    folder = tmp_path_factory.mktemp("qgis")
    reader = make_conninfo(published, user="qgis_reader")
    writer = make_conninfo(published, user="qgis_writer")
    return ask_qgis(folder, reader, layers, save=writer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("table", TABLES)
def test_layer_opens_without_a_key_and_with_its_style(seen: Any, kind: str, table: str) -> None:
    layer = seen["layers"][f"{kind}.{table}"]
    assert layer["valid"]
    assert layer["features"] == (N * H if table == "forecast_latest" else N)
    assert (layer["geometry"], layer["crs"]) == (KINDS[kind], "EPSG:2193")
    assert layer["renderer"] == "graduatedSymbol"
    assert layer["styles"] == (1 if table in ("observation_latest", "error_by_node", "support")
                               else 3)  # fmt: skip
    # a layer of one instant stays visible while the clock runs
    assert layer["temporal"] is (table == "forecast_latest")
    assert set(layer["colours"][0]) != {"#ffffff"}
    assert seen["messages"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_browser_lists_the_layers_as_they_are(seen: Any, kind: str) -> None:
    """A reader finds every layer with its type and CRS, and nothing behind them."""
    listed = seen["browser"][kind]
    horizons = {f"forecast_latest_h{k}" for k in range(1, H + 1)}
    others = {"forecast_latest", "observation_latest", "error_by_node", "support"}
    assert set(listed) == others | horizons
    for name, found in listed.items():
        assert found == [[KINDS[kind]], ["EPSG:2193"], ["fid"]], name


@pytest.mark.parametrize("kind", KINDS)
def test_frames_show_the_values_of_their_step(seen: Any, kind: str) -> None:
    """Every node has the colour of its class, at two instants, and on the layer of a horizon."""
    graph = make_forecast(kind)
    layer = seen["layers"][f"{kind}.forecast_latest"]
    assert layer["limits"][1:] == list(classify_feature(graph).limits[1:])
    frames = [expected_colours(graph, graph.values[k, :, 0]) for k in FRAMES]
    assert layer["colours"] == frames
    assert frames[0] != frames[1]
    for k in (1, 4):
        shown = seen["layers"][f"{kind}.forecast_latest_h{k}"]["colours"]
        assert shown == [expected_colours(graph, graph.values[k - 1, :, 0])]


def test_click_and_pointer_tell_about_a_node(seen: Any) -> None:
    """A click asks for the row by its stored key; the map tip has units, time and course."""
    layer = seen["layers"]["line.forecast_latest"]
    assert layer["identified"] == ["n 5", H, H * 1_000_000 + N]
    assert layer["aliases"]["speed_q90"] == "Speed, 90\u202f% quantile (km/h)"
    tip = layer["tip"]
    assert tip.startswith("<b>n ")
    assert "<br>Speed (km/h): <b>" in tip
    assert " NZDT<br>" in tip or " NZST<br>" in tip
    assert tip[-H:].strip("▁▂▃▄▅▆▇█") == ""


def test_a_style_saved_in_qgis_survives_the_next_issue(
    seen: Any, published: str, tmp_path: Path
) -> None:
    """Saved by QGIS itself as the default; then we must write all of our styles anew."""
    assert seen["saved"] == ""
    graph = make_forecast("point", hour=8)
    publish_forecast(graph, published, schema="point", style=Style(n_classes=3))
    layers = [("point", "forecast_latest"), ("point", "forecast_latest_h1")]
    again = ask_qgis(tmp_path, make_conninfo(published, user="qgis_reader"), layers)["layers"]
    assert again["point.forecast_latest"]["renderer"] == "singleSymbol"
    assert again["point.forecast_latest"]["styles"] == 4
    assert len(again["point.forecast_latest_h1"]["limits"]) == 1 + 3  # the title and the classes


def test_the_desktop_opens_project_and_layer_with_time(published: str, tmp_path: Path) -> None:
    """The clock of the project is on and shows the first step; a layer added by hand has time."""
    dsn = make_conninfo(published, user="qgis_reader")
    project = write_project(dsn, tmp_path / "city.qgz", schema="line")
    code = tmp_path / "ask.py"
    source = f'{as_source(dsn)} table="polygon"."forecast_latest" (geom)'
    code.write_text(DESKTOP.format(source=source, answer=str(tmp_path / "answer.json")))
    run_desktop(code, "--project", str(project), folder=tmp_path)
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["layers"] == [True] * (1 + H + 3)
    assert answer["crs"] == "EPSG:3857"
    assert answer["shown"] == ["Forecast"]
    assert answer["temporal"] == [True, "target_time", "graduatedSymbol"]
    assert answer["range"] == ["2024-03-01T07:05:00Z", "2024-03-01T07:10:00Z"]
    assert answer["frames"] == H
    assert answer["added"] == [True, "target_time", "graduatedSymbol"]


DESKTOP = """
import json
import os
from qgis.core import QgsProject
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.utils import iface

def describe(layer):
    time = layer.temporalProperties()
    return [time.isActive(), time.startField(), layer.renderer().type()]

def answer():
    project = QgsProject.instance()
    layers = project.mapLayers().values()
    clock = iface.mapCanvas().temporalController()
    if not layers or clock.totalFrameCount() < 2:
        return QTimer.singleShot(300, answer)
    shown = iface.mapCanvas().temporalRange()
    found = dict(
        layers=[layer.isValid() for layer in layers],
        crs=project.crs().authid(),
        shown=[layer.name() for layer in project.layerTreeRoot().checkedLayers()],
        temporal=describe(project.mapLayersByName("Forecast")[0]),
        range=[end.toUTC().toString(Qt.ISODate) for end in (shown.begin(), shown.end())],
        frames=clock.totalFrameCount(),
        added=describe(iface.addVectorLayer({source!r}, "added", "postgres")),
    )
    with open({answer!r}, "w") as file:
        json.dump(found, file)
        file.flush()
    os._exit(0)

QTimer.singleShot(300, answer)
"""
