"""The QGIS project: all layers in their groups, with styles, a clock, and no password."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from psycopg.conninfo import make_conninfo
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.project import write_project
from stgraph_connectors.postgis.schema import init_schema

from stgraph.errors import InputError, OutputError
from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis


def make_forecast(n_steps: int = 3, minutes: int = 30) -> STGraph:
    """Two stations near Auckland."""
    points = gpd.points_from_xy([174.0, 175.0], [-37.0, -36.0])
    issued_at = pd.Timestamp("2024-03-01T23:00Z")
    step = pd.Timedelta(minutes=minutes)
    values = np.arange(2 * n_steps, dtype=np.float32).reshape(n_steps, 2, 1)
    return STGraph(
        nodes=gpd.GeoDataFrame({"kind": "station"}, index=["a", "b"], geometry=points, crs=4326),
        time=pd.date_range(issued_at + step, periods=n_steps, freq=step),
        values=values,
        features=(Feature("speed", "km/h"),),
        provenance={
            "kind": "forecast",
            "issued_at": issued_at.isoformat(),
            "step_minutes": float(minutes),
        },
    )


def publish(dsn: str, schema: str = "traffic", **options: Any) -> str:
    """Return the DSN of a database with one issue."""
    init_schema(dsn, schema=schema, roles=True)
    publish_forecast(make_forecast(**options), dsn, schema=schema)
    return dsn


def read_project(path: Path) -> ET.Element:
    """Return the document of a project."""
    if path.suffix == ".qgs":
        return ET.parse(path).getroot()
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        assert name == f"{path.stem}.qgs"
        return ET.fromstring(archive.read(name))


def tree(group: ET.Element) -> list[Any]:
    """Return names and check marks of a group of layers."""
    names = [(child.get("name"), child.get("checked") == "Qt::Checked") for child in group]
    inner = [(tree(child),) if len(child) else () for child in group]
    return [(*name, *below) for name, below in zip(names, inner, strict=True)]


def test_layers_stand_in_groups_and_only_the_forecast_is_shown(
    database: str, tmp_path: Path
) -> None:
    path = write_project(publish(database), tmp_path / "p.qgz", schema="traffic")
    root = read_project(path)
    top = root.find("layer-tree-group")
    assert top is not None
    horizons = [("in 30 min", False), ("in 1 h", False), ("in 1 h 30 min", False)]
    assert tree(top) == [
        ("Forecast", True, [("Forecast", True), ("By horizon", False, horizons)]),
    ]
    layers = root.findall("projectlayers/maplayer")
    assert [layer.findtext("layername") for layer in layers] == [
        "Forecast", "in 30 min", "in 1 h", "in 1 h 30 min",
    ]  # fmt: skip
    ids = {leaf.get("id") for leaf in top.iter("layer-tree-layer")}
    assert ids == {layer.findtext("id") for layer in layers}
    first = layers[0]
    assert (first.get("geometry"), first.get("wkbType")) == ("Point", "Point")
    assert first.findtext("srs/spatialrefsys/authid") == "EPSG:4326"
    source = first.findtext("datasource") or ""
    assert source.endswith(
        "key='fid' srid=4326 type=Point checkPrimaryKeyUnicity='0' "
        'table="traffic"."forecast_latest" (geom)'
    )


def test_styles_are_embedded_with_time_and_choices(database: str, tmp_path: Path) -> None:
    """The default one is drawn; the others are in the layer's menu."""
    dsn = publish(database)
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO public.layer_styles (f_table_catalog, f_table_schema, f_table_name, "
            "f_geometry_column, stylename, styleqml, useasdefault) VALUES (current_database(), "
            "'traffic', 'forecast_latest', 'geom', 'mine', XMLPARSE(DOCUMENT '<!DOCTYPE qgis>"
            '<qgis labelsEnabled="0"><renderer-v2 type="nullSymbol"/></qgis>\'), false)'
        )
    first, second, *_ = read_project(
        write_project(dsn, tmp_path / "p.qgz", schema="traffic")
    ).findall("projectlayers/maplayer")
    renderer, temporal = first.find("renderer-v2"), first.find("temporal")
    assert renderer is not None
    assert temporal is not None
    assert (renderer.get("type"), renderer.get("attr")) == ("graduatedSymbol", "speed")
    assert (temporal.get("enabled"), temporal.get("startField")) == ("1", "target_time")
    assert first.get("labelsEnabled") == "1"
    assert second.find("temporal") is None
    manager = first.find("map-layer-style-manager")
    assert manager is not None
    assert manager.get("current") == "Speed (km/h)"
    assert [(s.get("name"), len(s)) for s in manager] == [("Speed (km/h)", 0), ("mine", 1)]


def test_the_clock_runs_and_takes_its_range_from_the_layers(database: str, tmp_path: Path) -> None:
    """A stored range would show an empty map from the next day on."""
    dsn = publish(database)
    root = read_project(write_project(dsn, tmp_path / "p.qgs", schema="traffic"))
    settings = root.find("ProjectTimeSettings")
    assert settings is not None
    assert (settings.get("timeStep"), settings.get("timeStepUnit")) == ("30", "min")
    assert settings.find("TemporalRange") is None
    assert root.findtext("properties/TemporalControllerWidget/NavigationMode") == "1"
    refresh = {m.get("autoRefreshTime") for m in root.findall("projectlayers/maplayer")}
    assert refresh == {"600000"}
    path = write_project(dsn, tmp_path / "p.qgs", schema="traffic", fixed_time=True)
    span = read_project(path).find("ProjectTimeSettings/TemporalRange")
    assert span is not None
    assert [end.text for end in span] == ["2024-03-01T23:30:00Z", "2024-03-02T01:00:00Z"]


def test_the_map_shows_all_nodes_in_web_mercator(database: str, tmp_path: Path) -> None:
    root = read_project(write_project(publish(database), tmp_path / "p.qgz", schema="traffic"))
    assert root.findtext("projectCrs/spatialrefsys/authid") == "EPSG:3857"
    box = [float(end.text or "nan") for end in root.findall("mapcanvas/extent/*")]
    points = gpd.GeoSeries(shapely.points([(174, -37), (175, -36)]), crs=4326).to_crs(3857)
    west, south, east, north = points.total_bounds
    margin = 0.05 * (north - south)
    expected = [west - margin, south - margin, east + margin, north + margin]
    assert box == pytest.approx(expected, abs=1)


def test_one_step_of_a_day(database: str, tmp_path: Path) -> None:
    """The length of the only step is the distance from the issue."""
    dsn = publish(database, n_steps=1, minutes=1440)
    root = read_project(write_project(dsn, tmp_path / "p.qgz", schema="traffic"))
    settings = root.find("ProjectTimeSettings")
    assert settings is not None
    assert (settings.get("timeStep"), settings.get("timeStepUnit")) == ("24", "h")
    assert [m.findtext("layername") for m in root.findall("projectlayers/maplayer")] == [
        "Forecast", "in 1 d",
    ]  # fmt: skip


@pytest.mark.parametrize("ending", [".qgz", ".qgs"])
def test_no_password_gets_into_the_file(database: str, tmp_path: Path, ending: str) -> None:
    dsn = make_conninfo(publish(database), password="s3cr3t pass'word", sslpassword="s3cr3t-key")
    path = write_project(dsn, tmp_path / f"p{ending}", schema="traffic", authcfg="a1b2c3d")
    raw = path.read_bytes()
    if ending == ".qgz":
        with zipfile.ZipFile(path) as archive:
            raw += archive.read("p.qgs")
    assert b"s3cr3t" not in raw
    assert b"password" not in raw
    source = read_project(path).findtext("projectlayers/maplayer/datasource") or ""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    assert source.startswith(
        f"host='{parts['host']}' port='{parts['port']}' dbname='{parts['dbname']}' "
        "user='postgres' authcfg=a1b2c3d key="
    )


def test_a_service_is_named_instead_of_its_parts(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(database)
    parts = psycopg.conninfo.conninfo_to_dict(database)
    lines = ["[city]", *(f"{name}={value}" for name, value in parts.items()), "password=s3cr3t"]
    (tmp_path / "services").write_text("\n".join(lines))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    path = write_project("service=city sslmode=prefer", tmp_path / "p.qgs", schema="traffic")
    source = read_project(path).findtext("projectlayers/maplayer/datasource") or ""
    assert source.startswith("service='city' sslmode='prefer' key='fid'")
    assert str(parts["host"]) not in path.read_text()


def test_a_reader_may_write_it_and_sees_what_it_may_see(database: str, tmp_path: Path) -> None:
    publish(database)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE ROLE project_reader LOGIN IN ROLE traffic_reader")
    dsn = make_conninfo(database, user="project_reader")
    root = read_project(write_project(dsn, tmp_path / "p.qgz", schema="traffic"))
    assert len(root.findall("projectlayers/maplayer")) == 4
    with psycopg.connect(database) as connection:
        connection.execute("REVOKE SELECT ON public.layer_styles FROM traffic_reader")
    root = read_project(write_project(dsn, tmp_path / "p.qgz", schema="traffic"))
    renderer = root.find("projectlayers/maplayer/renderer-v2")
    assert renderer is not None
    assert renderer.get("type") == "singleSymbol"


def test_hostile_schema_is_quoted(database: str, tmp_path: Path) -> None:
    schema = "tr'a\"f\\f <ic>"
    root = read_project(write_project(publish(database, schema), tmp_path / "p.qgz", schema=schema))
    source = root.findtext("projectlayers/maplayer/datasource") or ""
    assert source.endswith(r"""table="tr'a\"f\\f <ic>"."forecast_latest" (geom)""")


def test_what_cannot_be_written_is_said(database: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no layers that this user may read"):
        write_project(database, tmp_path / "p.qgz", schema="traffic")
    publish(database)
    with pytest.raises(InputError, match="does not end in"):
        write_project(database, tmp_path / "p.zip", schema="traffic")
    with pytest.raises(InputError, match="7 letters and digits"):
        write_project(database, tmp_path / "p.qgz", schema="traffic", authcfg="x' password='y")
    (tmp_path / "p.qgz").write_text("mine")
    with pytest.raises(OutputError, match="already there"):
        write_project(database, tmp_path / "p.qgz", schema="traffic", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["p.qgz"]
