"""Rows of `public.layer_styles`: one default per layer, changed ones stay, rights explained."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import pytest
import shapely
from psycopg.conninfo import make_conninfo
from stgraph_connectors.postgis.connect import connect, run_transaction
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.layer_styles import (
    prepare_styles,
    write_metric_styles,
    write_styles,
)
from stgraph_connectors.postgis.layers import Column
from stgraph_connectors.postgis.schema import init_schema
from stgraph_connectors.styles import Style, classify, classify_feature

from stgraph.graph import Feature, STGraph

pytestmark = pytest.mark.postgis

NAMES = ("speed", "speed_q10", "speed_q90")
TITLES = [
    "Speed (km/h)",
    "Speed, 10\u202f% quantile (km/h)",
    "Speed, 90\u202f% quantile (km/h)",
]
TABLES = ["forecast_latest", "forecast_latest_h1", "forecast_latest_h2"]


def make_forecast(hour: int = 7, shift: float = 0.0, names: tuple[str, ...] = NAMES) -> STGraph:
    """Four segments, two steps of 15 minutes, speeds from 10 to 80 km/h."""
    lines = [shapely.LineString([(174.7, -36.8 - i / 100), (174.8, -36.8)]) for i in range(4)]
    mean = np.array([[10, 30, 50, 70], [20, 40, 60, 80]], dtype=np.float32) + shift
    issued_at = pd.Timestamp(f"2024-03-01T{hour:02d}:00Z")
    return STGraph(
        nodes=gpd.GeoDataFrame({"kind": "segment"}, index=list("abcd"), geometry=lines, crs=4326),
        time=pd.date_range(issued_at + pd.Timedelta("15min"), periods=2, freq="15min"),
        values=np.stack([mean, mean - 5, mean + 5][: len(names)], axis=-1),
        features=tuple(Feature(name, "km/h") for name in names),
        provenance={"kind": "forecast", "issued_at": issued_at.isoformat()},
    )


def query(dsn: str, text: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Return the rows of a query, or none."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(text.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def styles(dsn: str, table: str = "forecast_latest") -> dict[str, tuple[str, bool]]:
    """Return text and default mark per name of the styles of a table."""
    rows = query(
        dsn,
        "SELECT stylename, styleqml::text, useasdefault FROM public.layer_styles "
        "WHERE f_table_schema = 'traffic' AND f_table_name = %s ORDER BY id",
        table,
    )
    assert len({name for name, *_ in rows}) == len(rows)
    return {name: (qml, default) for name, qml, default in rows}


def defaults(dsn: str) -> list[str]:
    """Return the names of the default styles of the main layer."""
    return [name for name, (_, default) in styles(dsn).items() if default]


@pytest.fixture
def published(database: str) -> str:
    """DSN of a database with one issue in the schema `traffic`."""
    init_schema(database, schema="traffic", roles=True)
    publish_forecast(make_forecast(), database, schema="traffic")
    return database


def test_rows_are_as_qgis_finds_them(published: str) -> None:
    """Catalogue is the database, type is empty, one default per table, a style per quantity."""
    database = query(published, "SELECT current_database()")[0][0]
    rows = query(
        published,
        "SELECT DISTINCT f_table_catalog, f_table_schema, f_geometry_column, type, stylesld::text "
        "FROM public.layer_styles",
    )
    assert rows == [(database, "traffic", "geom", None, None)]
    tables = query(published, "SELECT DISTINCT f_table_name FROM public.layer_styles ORDER BY 1")
    assert [name for (name,) in tables] == TABLES
    for table in TABLES:
        found = styles(published, table)
        assert list(found) == TITLES
        assert [default for _, default in found.values()] == [True, False, False]


def test_classes_of_the_main_layer_have_time_and_those_of_a_horizon_none(published: str) -> None:
    """A layer of one instant must stay visible while the temporal controller is on."""
    classes = classify_feature(make_forecast())
    for table in TABLES:
        root = ET.fromstring(styles(published, table)["Speed (km/h)"][0])
        renderer = root.find("renderer-v2")
        assert renderer is not None
        assert renderer.get("attr") == "speed"
        title, *ranges = renderer.findall("ranges/range")
        assert title.get("label") == "Speed (km/h)"
        assert [float(r.get("upper", 0)) for r in ranges] == list(classes.limits[1:])
        temporal = root.find("temporal")
        if table == "forecast_latest":
            assert temporal is not None
            assert (temporal.get("startField"), temporal.get("fixedDuration")) == (
                "target_time",
                "899",
            )
        else:
            assert temporal is None
        aliases = {a.get("field"): a.get("name") for a in root.findall("aliases/alias")}
        assert aliases["speed_q10"] == "Speed, 10\u202f% quantile (km/h)"
        assert aliases["target_time"] == "target time"
        tip = root.findtext("mapTip") or ""
        assert "[% coalesce(\"local_time\", '') %]" in tip
        assert tip.endswith("[% coalesce(\"trend\", '') %]")


def test_a_later_issue_changes_no_style(published: str) -> None:
    """Colours mean the same in every issue, and nothing is written for it."""
    before = query(published, "SELECT * FROM public.layer_styles ORDER BY id")
    publish_forecast(make_forecast(8, shift=40), published, schema="traffic")
    assert query(published, "SELECT * FROM public.layer_styles ORDER BY id") == before


def test_other_wishes_write_the_styles_anew(published: str) -> None:
    """Also when the issue itself is there already."""
    before = styles(published)
    style = Style(breaks=(25.0, 50.0), feature="speed_q90")
    publish_forecast(make_forecast(), published, schema="traffic", style=style)
    after = styles(published)
    assert list(after) == TITLES
    assert all(before[name][0] != after[name][0] for name in TITLES)
    assert defaults(published) == [TITLES[2]]
    ranges = ET.fromstring(after[TITLES[2]][0]).findall("renderer-v2/ranges/range")
    assert [r.get("upper") for r in ranges[1:-1]] == ["25.0", "50.0"]


def test_styles_of_features_that_are_gone_go(published: str) -> None:
    publish_forecast(make_forecast(8, names=("speed",)), published, schema="traffic")
    assert list(styles(published)) == ["Speed (km/h)"]


def test_a_changed_style_stays_and_remains_the_default(published: str) -> None:
    """Whoever saved over our style in QGIS keeps it, whatever we have to write."""
    query(
        published,
        "UPDATE public.layer_styles SET styleqml = XMLPARSE(DOCUMENT '<qgis mine=\"1\"/>') "
        "WHERE f_table_name = 'forecast_latest' AND stylename = 'Speed (km/h)'",
    )
    old = styles(published)
    for style in (Style(n_classes=3), Style(n_classes=4)):
        publish_forecast(make_forecast(), published, schema="traffic", style=style)
    new = styles(published)
    assert new["Speed (km/h)"] == ('<qgis mine="1"/>', True)
    assert new[TITLES[1]][0] != old[TITLES[1]][0]
    assert defaults(published) == ["Speed (km/h)"]
    assert styles(published, "forecast_latest_h1")["Speed (km/h)"][1]


def test_another_default_of_the_user_stays_the_default(published: str) -> None:
    """QGIS marks the user's row and unmarks ours; ours is renewed without the mark."""
    query(published, "UPDATE public.layer_styles SET useasdefault = false")
    query(
        published,
        "INSERT INTO public.layer_styles (f_table_catalog, f_table_schema, f_table_name, "
        "f_geometry_column, stylename, styleqml, useasdefault, type) VALUES (current_database(), "
        "'traffic', 'forecast_latest', 'geom', 'mine', '<qgis/>', true, 'LineString')",
    )
    publish_forecast(make_forecast(), published, schema="traffic", style=Style(n_classes=3))
    assert defaults(published) == ["mine"]
    assert set(styles(published)) == {"mine", *TITLES}
    # deleted in QGIS: the layer must not stay without a default
    query(published, "DELETE FROM public.layer_styles WHERE stylename = 'mine'")
    publish_forecast(make_forecast(), published, schema="traffic", style=Style(n_classes=4))
    assert defaults(published) == ["Speed (km/h)"]


def test_another_of_our_styles_as_default_stays_the_default(published: str) -> None:
    query(published, "UPDATE public.layer_styles SET useasdefault = stylename = %s", TITLES[1])
    for n_classes in (3, 4):
        wish = Style(n_classes=n_classes)
        publish_forecast(make_forecast(), published, schema="traffic", style=wish)
        assert defaults(published) == [TITLES[1]]


def test_styles_of_other_layers_and_columns_of_newer_versions_stay(database: str) -> None:
    """The table belongs to all layers of the database, and newer QGIS has more columns."""
    query(
        database,
        "CREATE TABLE public.layer_styles (id serial PRIMARY KEY, f_table_catalog varchar, "
        "f_table_schema varchar, f_table_name varchar, f_geometry_column varchar, "
        "stylename text, styleqml xml, stylesld xml, useasdefault boolean, description text, "
        "owner varchar(63) DEFAULT CURRENT_USER, ui xml, update_time timestamp DEFAULT now(), "
        "type varchar, r_raster_column varchar)",
    )
    query(
        database,
        "INSERT INTO public.layer_styles (f_table_catalog, f_table_schema, f_table_name, "
        "f_geometry_column, stylename, styleqml, useasdefault) VALUES (current_database(), "
        "'public', 'forecast_latest', 'geom', 'Speed (km/h)', '<qgis/>', true)",
    )
    init_schema(database, schema="traffic")
    for n_classes in (5, 4):
        wish = Style(n_classes=n_classes)
        publish_forecast(make_forecast(), database, schema="traffic", style=wish)
    assert list(styles(database)) == TITLES
    assert query(database, "SELECT count(*) FROM public.layer_styles") == [(10,)]


def test_styles_come_back_where_the_table_is_gone(published: str) -> None:
    """As after a restore of our schema alone."""
    query(published, "DROP TABLE public.layer_styles")
    publish_forecast(make_forecast(8), published, schema="traffic")
    assert defaults(published) == ["Speed (km/h)"]


def test_hostile_names_are_only_text(database: str) -> None:
    name = "spe'ed \"%s {} <b>]]> ÄŞ"
    init_schema(database, schema='tr"a%f{f}ic')
    forecast = make_forecast(names=(name,))
    publish_forecast(forecast, database, schema='tr"a%f{f}ic')
    ((stored, qml),) = query(
        database,
        "SELECT stylename, styleqml::text FROM public.layer_styles WHERE f_table_schema = %s "
        "AND f_table_name = 'forecast_latest'",
        'tr"a%f{f}ic',
    )
    assert stored == "Spe'ed \"%s {} <b>]]> ÄŞ (km/h)"
    renderer = ET.fromstring(qml).find("renderer-v2")
    assert renderer is not None
    assert renderer.get("attr") == "spe_ed __s __ _b____ ÄŞ"  # as in the table


def test_features_of_another_publisher_keep_their_styles(published: str) -> None:
    """Two feeds fill one layer; what was its default stays, and neither undoes the other."""
    query(
        published,
        "INSERT INTO traffic.feature (name, unit, role) VALUES ('flow', 'veh/h', 'target')",
    )
    query(
        published,
        "CREATE TABLE traffic.observation_latest AS SELECT node_id AS fid, id AS node_id, "
        "20.0::real AS speed, node_id * 100.0::real AS flow, geom FROM traffic.node",
    )
    columns = [Column("speed", "real", "Speed (km/h)"), Column("flow", "real", "Flow (veh/h)")]

    def write(name: str, unit: str, n_columns: int, n_steps: int = 2) -> bool:
        readings = make_forecast(names=("speed",)).select_steps(0, n_steps)
        readings = readings.replace(features=(Feature(name, unit),), provenance={})
        state = {"parts": ["observation_latest"], "columns": [asdict(c) for c in columns]}
        state["columns"] = state["columns"][:n_columns]
        query(
            published,
            "UPDATE traffic.dataset SET layers = layers || %s::jsonb",
            json.dumps({"observation_latest": state}),
        )
        return run_transaction(
            published,
            lambda c: write_styles(
                c, "traffic", readings, layer="observation_latest", columns=[name]
            ),
        )

    assert write("speed", "km/h", 1)
    assert write("flow", "veh/h", 2)
    found = styles(published, "observation_latest")
    marks = {name: default for name, (_, default) in found.items()}
    assert marks == {"Flow (veh/h)": False, "Speed (km/h)": True}
    assert not write("speed", "km/h", 2)
    assert not write("speed", "km/h", 2, n_steps=1)
    assert styles(published, "observation_latest") == found


# ------------------------------------------------------------------------------------ numbers


def test_numbers_per_node_are_styled_from_the_table(published: str) -> None:
    """Errors of a model: a style per measure, the first is the default, gaps do no harm."""
    query(
        published,
        "CREATE TABLE traffic.error_by_node (fid integer PRIMARY KEY, node_id text, mae real, "
        "skill_percent real, geom geometry(LineString, 4326))",
    )
    query(
        published,
        "INSERT INTO traffic.error_by_node SELECT node_id, id, node_id, nullif(node_id, 2) * 10, "
        "geom FROM traffic.node",
    )
    features = {"mae": Feature("mae", "km/h"), "skill_percent": Feature("skill_percent", "%")}

    def work(connection: psycopg.Connection[Any]) -> bool:
        return write_metric_styles(connection, "traffic", features, layer="error_by_node")

    assert run_transaction(published, work)
    assert not run_transaction(published, work)
    found = styles(published, "error_by_node")
    assert {name: default for name, (_, default) in found.items()} == {
        "MAE (km/h)": True,
        "Skill (%)": False,
    }
    ranges = ET.fromstring(found["MAE (km/h)"][0]).findall("renderer-v2/ranges/range")
    uppers = [float(r.get("upper", "nan")) for r in ranges[1:-1]]
    assert uppers == list(classify([1, 2, 3, 4], feature=features["mae"]).breaks)


# ------------------------------------------------------------------------------------- rights


@pytest.fixture
def login(database: str) -> str:
    """DSN of a role that may work in its schema and nowhere else."""
    query(database, "CREATE ROLE layer_styles_login LOGIN")
    return make_conninfo(database, user="layer_styles_login")


def advice(caplog: pytest.LogCaptureFixture) -> str:
    """Return the SQL that a warning told to run."""
    (record,) = [r for r in caplog.records if "layer_styles" in r.getMessage()]
    return record.getMessage().partition("run: ")[2]


def test_roles_get_their_rights(published: str, login: str) -> None:
    """The reader sees styles and changes none; the writer writes them."""
    query(published, "GRANT traffic_reader TO layer_styles_login")
    assert query(login, "SELECT count(*) FROM layer_styles") == [(9,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(login, "DELETE FROM public.layer_styles")
    query(published, "REVOKE traffic_reader FROM layer_styles_login")
    query(published, "GRANT traffic_writer TO layer_styles_login")
    publish_forecast(make_forecast(), login, schema="traffic", style=Style(n_classes=3))
    assert list(styles(published)) == TITLES


@pytest.mark.parametrize("there", [False, True])
def test_missing_rights_are_explained_and_publishing_goes_on(
    database: str, login: str, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    """The SQL of the warning is all that is needed."""
    init_schema(database, schema="traffic", roles=True)
    query(database, "DROP TABLE public.layer_styles")  # as if whoever made the roles could not
    query(database, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    query(database, "GRANT traffic_owner TO layer_styles_login")
    if there:
        query(database, "CREATE SCHEMA other")
        init_schema(database, schema="another")
        run_transaction(database, lambda c: prepare_styles(c, "another"))
    caplog.set_level(logging.WARNING)
    done = publish_forecast(make_forecast(), login, schema="traffic")
    assert done.is_current
    assert "layers open plain" in caplog.text
    statements = advice(caplog)
    assert ("CREATE TABLE public.layer_styles" in statements) is not there
    query(database, statements)
    caplog.clear()
    publish_forecast(make_forecast(8), login, schema="traffic")
    assert not caplog.records
    assert list(styles(database)) == TITLES


def test_without_roles_the_advice_is_about_the_publisher(
    database: str, caplog: pytest.LogCaptureFixture, login: str
) -> None:
    query(database, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    query(database, "CREATE SCHEMA traffic AUTHORIZATION layer_styles_login")
    init_schema(login, schema="traffic")
    caplog.clear()
    publish_forecast(make_forecast(), login, schema="traffic")
    assert '"layer_styles_login"' in advice(caplog)
    query(database, advice(caplog))
    caplog.clear()
    publish_forecast(make_forecast(8), login, schema="traffic")
    assert not caplog.records
    assert list(styles(database)) == TITLES


def test_readers_who_cannot_see_styles_are_named(
    database: str, login: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise their layers open plain without a word."""
    init_schema(database, schema="traffic", roles=True)
    with connect(database) as connection:
        prepare_styles(connection, "traffic")
    query(database, "REVOKE ALL ON public.layer_styles FROM traffic_reader")
    query(database, "GRANT traffic_owner TO layer_styles_login")
    publish_forecast(make_forecast(), login, schema="traffic")
    assert "traffic_reader may not read styles" in caplog.text
    assert advice(caplog) == 'GRANT SELECT ON public.layer_styles TO "traffic_reader"'


def test_an_odd_table_of_styles_does_not_stop_the_forecast(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    query(database, "CREATE TABLE public.layer_styles (id integer)")
    init_schema(database, schema="traffic")
    assert publish_forecast(make_forecast(), database, schema="traffic").is_current
    assert "layers open plain" in caplog.text
