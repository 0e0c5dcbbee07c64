"""Other programs read the layers as they are: tipg, pg_tileserv, GDAL, GeoPandas.

All of them as a person would start them: with a login role that is a member of the reader.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pyogrio
import pytest
import shapely
from postgis_cases import query
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.schema import init_schema

from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis

ISSUED = pd.Timestamp("2024-03-01T07:00Z")
STEP = pd.Timedelta("15min")
SIDE = 20
N = SIDE * SIDE
LAYERS = ["forecast_latest", "forecast_latest_h1", "forecast_latest_h2"]
COLUMNS = ["speed", "speed_q10", "speed_q90"]

# schema: EPSG code, type of geometry; the coordinates are near Auckland in all of them
DATASETS = {
    "roads": (4326, "LineString"),
    "stations": (2193, "Point"),
    "cells": (3857, "Polygon"),
}


def make_shapes(kind: str) -> gpd.GeoSeries:
    """A square of `SIDE` x `SIDE` places, 0.001 degrees apart."""
    row, column = np.divmod(np.arange(N), SIDE)
    x, y = 174.7 + 0.001 * column, -36.9 + 0.001 * row
    shapes: Any = {
        "Point": lambda: shapely.points(x, y),
        "LineString": lambda: shapely.linestrings(
            np.stack([np.stack([x, y], -1), np.stack([x + 0.0008, y], -1)], axis=1)
        ),
        "Polygon": lambda: shapely.box(x, y, x + 0.0008, y + 0.0008),
    }[kind]()
    return gpd.GeoSeries(shapes, crs=4326)


def make_forecast(schema: str, issued_at: pd.Timestamp = ISSUED) -> STGraph:
    """Two steps; the mean of node i at step h is 1000 h + i."""
    code, kind = DATASETS[schema]
    mean = 1000 * np.arange(1, 3)[:, None] + np.arange(N, dtype=np.float32)[None, :]
    return STGraph(
        nodes=gpd.GeoDataFrame(
            {"kind": "place"},
            index=[f"{schema}/{i}" for i in range(N)],
            geometry=make_shapes(kind).to_crs(code).to_numpy(),
            crs=code,
        ),
        time=pd.date_range(issued_at + STEP, periods=2, freq=STEP),
        values=np.stack([mean, mean - 8, mean + 8], axis=-1).astype(np.float32),
        features=tuple(Feature(name, "km/h") for name in COLUMNS),
        provenance={"kind": "forecast", "issued_at": issued_at.isoformat()},
    )


@pytest.fixture(scope="module")
def reader(module_database: str) -> Iterator[str]:
    """DSN of a login role that may read three datasets."""
    name, password = f"reader_{secrets.token_hex(4)}", "a b/c@d:e%f"
    for schema in DATASETS:
        init_schema(module_database, schema=schema, roles=True)
        # the second issue updates the rows of the first
        publish_forecast(make_forecast(schema, ISSUED - STEP), module_database, schema=schema)
        publish_forecast(make_forecast(schema), module_database, schema=schema)
    groups = ", ".join(f"{schema}_reader" for schema in DATASETS)
    query(module_database, f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE {groups}")
    yield make_conninfo(module_database, user=name, password=password)
    query(module_database, f"DROP OWNED BY {name}; DROP ROLE {name}")


# ----------------------------------------------------------------------------------------- tipg


class Tipg:
    """A running tipg."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, path: str, **parameters: object) -> bytes:
        """Return the body of an answer."""
        text = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self._address}{path}?{text}", timeout=30) as answer:
            return bytes(answer.read())

    def items(self, layer: str, **parameters: object) -> list[dict[str, Any]]:
        """Return the features of a layer that some parameters select."""
        parameters = {"limit": 5000, "f": "geojson", **parameters}
        collection = json.loads(self.get(f"/collections/{layer}/items", **parameters))
        assert collection["numberMatched"] == collection["numberReturned"]
        return list(collection["features"])


@pytest.fixture(scope="module")
def tipg(reader: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tipg]:
    """tipg with the settings of docs/postgis.md, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("tipg")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "tipg.main:app", "--port", str(port)],
            env={
                **{name: value for name, value in os.environ.items() if name[:2] != "PG"},
                "DATABASE_URL": url_of(reader),
                "TIPG_DB_SCHEMAS": json.dumps(list(DATASETS)),
                "TIPG_DB_ONLY_SPATIAL_TABLES": "false",
                "TIPG_SORT_COLUMNS": "false",
                "TIPG_CACHECONTROL": "public, max-age=60",
            },
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        server = Tipg(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 60
        while True:
            try:
                server.get("/healthz")
                break
            except (urllib.error.URLError, ConnectionError):
                ended = process.poll() is not None or time.monotonic() > deadline
                assert not ended, (folder / "log").read_text()
                time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def url_of(dsn: str) -> str:
    """Return a DSN as the URL that SQLAlchemy, asyncpg and the like take."""
    part = conninfo_to_dict(dsn)
    with psycopg.connect(dsn) as connection:
        host = connection.info.host or "localhost"
        port = connection.info.port
    quoted = {name: urllib.parse.quote(str(part[name]), safe="") for name in ("user", "password")}
    return (
        f"postgresql://{quoted['user']}:{quoted['password']}"
        f"@{urllib.parse.quote(host, safe='')}:{port}/{part['dbname']}"
    )


def test_tipg_lists_the_layers_and_nothing_else(tipg: Tipg) -> None:
    """The reader's rights decide: tables with the raw data are not offered."""
    found = json.loads(tipg.get("/collections", limit=100, f="json"))["collections"]
    expected = {f"{schema}.{layer}" for schema in DATASETS for layer in LAYERS}
    expected |= {
        f"{schema}.{name}" for schema in DATASETS for name in ("forecast_value", "node_series")
    }
    assert {collection["id"] for collection in found} == expected
    (roads,) = [c for c in found if c["id"] == "roads.forecast_latest"]
    assert roads["extent"]["spatial"]["bbox"][0] == pytest.approx(
        [174.7, -36.9, 174.7198, -36.881], abs=1e-5
    )


@pytest.mark.parametrize("schema", list(DATASETS))
def test_tipg_answers_by_box_and_time(tipg: Tipg, schema: str) -> None:
    """A box and an instant select; ids, values and times are those that were published."""
    corner = [174.6999, -36.9001, 174.7015, -36.8985]  # the first two of the first two rows
    target = (ISSUED + 2 * STEP).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = tipg.items(
        f"{schema}.forecast_latest", bbox=",".join(map(str, corner)), datetime=target
    )
    nodes = [0, 1, SIDE, SIDE + 1]
    properties = [feature["properties"] for feature in found]
    assert sorted((p["node_id"], p["speed"]) for p in properties) == sorted(
        (f"{schema}/{i}", 2000 + i) for i in nodes
    )
    assert {p["horizon"] for p in properties} == {2}
    assert {pd.Timestamp(p["target_time"]) for p in properties} == {ISSUED + 2 * STEP}
    assert [feature["id"] for feature in found] == [p["fid"] for p in properties]
    assert {feature["geometry"]["type"] for feature in found} == {DATASETS[schema][1]}
    inside = shapely.box(*corner)
    assert all(inside.intersects(shapely.geometry.shape(f["geometry"])) for f in found)


def test_tipg_takes_an_interval_of_time(tipg: Tipg) -> None:
    """The interval is about `target_time`, though `issued_at` is a time as well."""
    begin, end = ("2024-03-01T07:10:00Z", "2024-03-01T07:20:00Z")
    found = tipg.items("roads.forecast_latest", datetime=f"{begin}/{end}")
    assert len(found) == N
    assert {feature["properties"]["horizon"] for feature in found} == {1}
    assert not tipg.items(
        "roads.forecast_latest", datetime="2024-03-01T06:50:00Z/2024-03-01T07:10:00Z"
    )
    assert len(tipg.items("roads.forecast_latest_h2")) == N
    (one,) = tipg.items("roads.forecast_latest", node_id="roads/17", horizon=2)
    assert one["properties"]["speed"] == 2017


def test_tipg_draws_tiles(tipg: Tipg, tmp_path: Path) -> None:
    """A vector tile holds the segments that it covers, with their values."""
    z, x, y = 14, 16143, 10000
    body = tipg.get(f"/collections/roads.forecast_latest_h1/tiles/WebMercatorQuad/{z}/{x}/{y}")
    path = tmp_path / "tile.mvt"
    path.write_bytes(body)
    tile = pyogrio.read_dataframe(path, X=x, Y=y, Z=z)
    assert tile.crs == "EPSG:3857"
    assert {"fid", "node_id", "target_time", *COLUMNS} <= set(tile.columns)
    rows = dict(zip(tile["node_id"], tile["speed"], strict=True))
    assert len(rows) > 100
    assert rows == {f"roads/{i}": 1000 + i for i in (int(name[6:]) for name in rows)}
    lines = make_shapes("LineString").to_crs(3857)
    inside = lines.intersects(shapely.box(*_tile_bounds(z, x, y)))
    assert {f"roads/{i}" for i in np.flatnonzero(inside)} <= set(rows)


def _tile_bounds(z: int, x: int, y: int) -> tuple[float, float, float, float]:
    """Return the corners of a tile in EPSG:3857."""
    half = 20037508.342789244
    size = 2 * half / 2**z
    return -half + x * size, half - (y + 1) * size, -half + (x + 1) * size, half - y * size


def test_tipg_answers_for_a_chart(tipg: Tipg) -> None:
    """The function `node_series` is a collection with parameters."""
    found = tipg.items(
        "roads.node_series",
        **{"node": "roads/17", "from": "2024-03-01T00:00Z", "to": "2024-03-02T00:00Z"},
    )
    values = {pd.Timestamp(f["properties"]["time"]): f["properties"]["forecast"] for f in found}
    assert values == {ISSUED: 1017, ISSUED + STEP: 1017, ISSUED + 2 * STEP: 2017}


# ---------------------------------------------------------------------------------- pg_tileserv


def test_pg_tileserv_finds_layers_that_it_can_serve(reader: str) -> None:
    """It wants a type, an SRID and a right; a whole number as single key; statistics."""
    found = query(
        reader,
        """
        SELECT n.nspname || '.' || c.relname, postgis_typmod_srid(a.atttypmod),
               postgis_typmod_type(a.atttypmod), k.attname, format_type(k.atttypid, NULL),
               obj_description(c.oid)
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.atttypid = 'geometry'::regtype
        JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND i.indnatts = 1
        JOIN pg_attribute k ON k.attrelid = i.indexrelid
        WHERE c.relkind IN ('r', 'p') AND postgis_typmod_srid(a.atttypmod) > 0
          AND has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
        """,
    )
    assert {row[0]: row[1:5] for row in found} == {
        f"{schema}.{layer}": (code, kind, "fid", "integer")
        for schema, (code, kind) in DATASETS.items()
        for layer in LAYERS
    }
    assert all(row[5] for row in found)
    for schema in DATASETS:
        for layer in LAYERS:
            (bounds,) = query(
                reader,
                "SELECT ST_Extent(ST_Transform(ST_SetSRID(ST_EstimatedExtent("
                "%s, %s, 'geom')::geometry, %s), 4326))",
                *(schema, layer, DATASETS[schema][0]),
            )
            assert bounds[0].startswith("BOX(174."), (schema, layer)


@pytest.mark.parametrize("schema", list(DATASETS))
def test_the_registry_of_geometry_columns_is_right(reader: str, schema: str) -> None:
    """What QGIS, GeoServer, MapServer and GDAL look at."""
    code, kind = DATASETS[schema]
    found = query(
        reader,
        "SELECT f_table_name, f_geometry_column, coord_dimension, srid, type "
        "FROM geometry_columns WHERE f_table_schema = %s",
        schema,
    )
    readable = [row for row in found if row[0] in LAYERS]
    assert sorted(readable) == [(layer, "geom", 2, code, kind.upper()) for layer in LAYERS]


# ----------------------------------------------------------------------------------------- GDAL


def run_gdal(program: str, *arguments: str) -> str:
    """Return what a program of gdal-bin says."""
    if shutil.which(program) is None:
        message = f"no {program}; install gdal-bin"
        in_ci = os.environ.get("CI", "").lower() in {"1", "true"}
        pytest.fail(message) if in_ci else pytest.skip(message)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("schema", list(DATASETS))
@pytest.mark.parametrize("layer", ["forecast_latest", "forecast_latest_h2"])
def test_gdal_describes_a_layer(reader: str, schema: str, layer: str) -> None:
    """`ogrinfo` sees type, SRID, key and number of the features."""
    source = f"PG:{make_conninfo(reader, options=f'-c search_path={schema},public')}"
    said = run_gdal("ogrinfo", "-ro", "-so", source, f"{schema}.{layer}")
    code, kind = DATASETS[schema]
    assert f"Geometry: {kind.replace('LineString', 'Line String')}\n" in said
    assert f"Feature Count: {N * (2 if layer == 'forecast_latest' else 1)}\n" in said
    assert f'ID["EPSG",{code}]' in said
    assert "FID Column = fid" in said
    assert "target_time: DateTime" in said
    assert "speed: Real(Float32)" in said


def test_gdal_lists_the_layers(reader: str) -> None:
    """All but `forecast_latest`, which GDAL opens by its name: it lists no partitioned table."""
    said = run_gdal("ogrinfo", "-ro", "-q", f"PG:{reader} schemas=roads")
    names = {line.split(": ", 1)[1].split(" (")[0] for line in said.splitlines() if ": " in line}
    assert set(LAYERS[1:]) <= names


@pytest.mark.parametrize(("driver", "name"), [("GPKG", "out.gpkg"), ("GeoJSON", "out.geojson")])
def test_gdal_converts_a_layer(reader: str, tmp_path: Path, driver: str, name: str) -> None:
    """`ogr2ogr` writes what was published, in another CRS too."""
    path = tmp_path / name
    run_gdal("ogr2ogr", "-f", driver, "-t_srs", "EPSG:4326", str(path), f"PG:{reader}",
             "stations.forecast_latest_h2")  # fmt: skip
    made = gpd.read_file(path).sort_values("node_id", key=lambda ids: ids.str[9:].astype(int))
    assert made["speed"].tolist() == [2000 + i for i in range(N)]
    assert made["node_id"].tolist() == [f"stations/{i}" for i in range(N)]
    assert set(pd.to_datetime(made["target_time"], utc=True)) == {ISSUED + 2 * STEP}
    expected = make_shapes("Point").get_coordinates()
    np.testing.assert_allclose(made.get_coordinates(), expected, atol=1e-6)


# ------------------------------------------------------------------------------------ GeoPandas


@pytest.mark.filterwarnings("ignore:pandas only supports SQLAlchemy")  # and psycopg as well
@pytest.mark.parametrize("schema", list(DATASETS))
def test_geopandas_reads_a_layer(reader: str, schema: str) -> None:
    """`read_postgis` gives geometries with their CRS."""
    with psycopg.connect(reader) as connection:
        text = f"SELECT * FROM {schema}.forecast_latest_h1"
        table = gpd.read_postgis(text, connection, index_col="fid")
    assert table.crs == f"EPSG:{DATASETS[schema][0]}"
    assert sorted(table["speed"]) == [1000 + i for i in range(N)]
    assert set(table.geom_type) == {DATASETS[schema][1]}
    by_node = table.set_index("node_id").loc[[f"{schema}/{i}" for i in range(N)]]
    expected = make_forecast(schema).nodes.geometry
    assert by_node.geometry.geom_equals(expected, align=False).all()
