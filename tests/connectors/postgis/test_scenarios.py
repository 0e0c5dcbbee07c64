"""Scenarios in PostGIS: whole or not at all, replaced, shown, removed, by roles."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import shapely
from postgis_cases import make_forecast, query
from psycopg import sql
from real_qgis import need_qgis_python, run_script
from scenario_results import CLOSED, make_result
from stgraph_connectors import _scenario_tables
from stgraph_connectors.postgis import _scenario_layers
from stgraph_connectors.postgis import scenarios as scenarios_module
from stgraph_connectors.postgis import schema as schema_module
from stgraph_connectors.postgis.connect import connect
from stgraph_connectors.postgis.forecasts import publish_forecast
from stgraph_connectors.postgis.project import write_project
from stgraph_connectors.postgis.scenarios import remove_scenarios, write_scenario_postgis
from stgraph_connectors.postgis.schema import init_schema, upgrade_schema

from stgraph.errors import DataError, InputError, OutputError
from stgraph.scenario import result as result_module
from stgraph.scenario.tables import Frames, tables

pytestmark = pytest.mark.postgis
RUN = "20261123T050000Z-1a2b"
OTHER = "20261124T050000Z-3c4d"
NAMES = tuple(_scenario_tables.COLUMNS)


@pytest.fixture(scope="module")
def frames() -> Frames:
    """The tables of a town with a closed street."""
    return tables(make_result())


def counts(dsn: str, schema: str = "stgraph") -> dict[str, int]:
    """Return the rows of every table."""
    found = {}
    with connect(dsn) as connection:
        for name in NAMES:
            text = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))
            found[name] = connection.execute(text).fetchone()[0]  # type: ignore[index]
    return found


def test_words_of_the_view_are_those_of_results() -> None:
    """Protects the view, which knows statuses by their numbers."""
    assert result_module.STATUS == _scenario_tables.STATUS
    assert result_module.SOURCES == _scenario_tables.SOURCES


@pytest.fixture
def old_database(database: str, frames: Frames, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with roles and a run in tables of version 2, which had no areas within reach."""
    every = schema_module._migrations()
    monkeypatch.setattr(schema_module, "_migrations", lambda: {n: every[n] for n in (1, 2)})
    old = {
        name: tuple(c for c in columns if c not in ("d_min_low", "d_min_high"))
        for name, columns in _scenario_tables.COLUMNS.items()
    }
    of_access = tuple(c for c in old["scenario_access"] if c not in ("low", "high"))
    del old["scenario_isochrone"]
    monkeypatch.setattr(scenarios_module, "COLUMNS", {**old, "scenario_access": of_access})
    monkeypatch.setattr(scenarios_module, "_SHOWN", ("scenario_link_peak", "scenario_edit"))
    monkeypatch.setattr(_scenario_layers, "SCENARIO_TABLES", tuple(old))
    init_schema(database, roles=True)
    write_scenario_postgis(frames, database)
    monkeypatch.undo()
    return database


def readers_see(dsn: str) -> list[bool]:
    """Return of every table whether readers may read it."""
    text = "SELECT has_table_privilege('stgraph_reader', %s::regclass, 'SELECT')"
    return [query(dsn, text, f"stgraph.{name}")[0][0] for name in NAMES]


def test_runs_of_an_older_schema_stay(old_database: str, frames: Frames) -> None:
    """Version 2 had no ranges between zones, NULL in its runs, and no areas within reach."""
    database = old_database
    assert upgrade_schema(database).before == 2
    new = {name: table.assign(run_id=OTHER) for name, table in frames.items()}
    write_scenario_postgis(new, database)
    text = "SELECT run_id, count(*), count(d_min_low), max(d_min_high) FROM stgraph.scenario_od "
    found = query(database, text + "GROUP BY 1 ORDER BY 1")
    assert found == [(RUN, 8, 0, None), (OTHER, 8, 6, 3.5)]
    text = "SELECT sum(low), sum(high) FROM stgraph.scenario_access WHERE run_id = "
    assert query(database, f"{text}'{OTHER}'") == [(-375.0, -125.0)]
    found = query(database, "SELECT run_id, count(*) FROM stgraph.scenario_isochrone GROUP BY 1")
    assert found == [(OTHER, 8)]
    rights = "SELECT has_table_privilege('stgraph_reader', 'stgraph.scenario_isochrone', 'SELECT')"
    assert query(database, rights) == [(True,)]
    column = "'stgraph.scenario_od', 'd_min_low'"
    rights = f"SELECT has_column_privilege('stgraph_reader', {column}, 'SELECT')"
    assert query(database, rights) == [(True,)]


def test_readers_see_tables_that_came_when_there_was_no_run(
    old_database: str, frames: Frames
) -> None:
    """All runs removed, the tables upgraded, a run published by a writer who is no owner."""
    with connect(old_database, autocommit=True) as connection:
        connection.execute("DELETE FROM stgraph.scenario")  # as it was done then
    assert upgrade_schema(old_database).before == 2
    with connect(old_database, autocommit=True) as connection:
        connection.execute("CREATE ROLE late_writer LOGIN")
        connection.execute("GRANT stgraph_writer TO late_writer")
    write_scenario_postgis(frames, re.sub(r"user=\S+", "user=late_writer", old_database))
    assert all(readers_see(old_database))


@pytest.mark.parametrize("name", ["scenario_isochrone", "scenario_access"])
def test_readers_see_all_tables_or_get_them_with_the_next_run(
    database: str, frames: Frames, name: str
) -> None:
    """A right that is missing comes back, of whichever table it is."""
    init_schema(database, roles=True)
    write_scenario_postgis(frames, database)
    with connect(database, autocommit=True) as connection:
        table = sql.Identifier("stgraph", name)
        connection.execute(sql.SQL("REVOKE SELECT ON {} FROM stgraph_reader").format(table))
    assert not all(readers_see(database))
    write_scenario_postgis(frames, database)
    assert all(readers_see(database))


def test_everything_is_there(database: str, frames: Frames) -> None:
    init_schema(database)
    done = write_scenario_postgis(frames, database)
    assert (done.run_id, done.n_rows, done.is_new, done.is_current) == (RUN, 48 * 36, True, True)
    assert counts(database) == {name: len(frames[name]) for name in NAMES}
    for name in ("scenario_link", "scenario_link_peak"):
        rows = pd.DataFrame(
            query(database, f"SELECT * FROM stgraph.{name} ORDER BY fid"),
            columns=[
                row[0]
                for row in query(
                    database,
                    "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass "
                    "AND attnum > 0 ORDER BY attnum",
                    f"stgraph.{name}",
                )
            ],
        )
        given = frames[name]
        for column in _scenario_tables.CHANGES:
            np.testing.assert_allclose(
                rows[column].astype(float), given[column].astype(float), rtol=1e-6
            )
        for column in ("segment_id", "status", "source", "significant", "run_id", "name"):
            expected = given.get(column)
            assert expected is None or rows[column].tolist() == expected.tolist()
        shapes = shapely.from_wkb(rows["geom"].to_list())
        assert shapely.get_type_id(shapes).tolist() == [1] * len(rows)


def test_closed_streets_are_null(database: str, frames: Frames) -> None:
    """NULL in the view, too: a NaN would be larger than all other numbers."""
    init_schema(database)
    write_scenario_postgis(frames, database)
    for layer in ("scenario_link", "scenario_link_peak"):
        rows = query(
            database,
            f"SELECT DISTINCT segment_id, speed_scn, d_speed, flow_scn FROM stgraph.{layer} "
            "WHERE status = 'closed' ORDER BY 1",
        )
        assert rows == [(segment, None, None, None) for segment in CLOSED]
        assert query(database, f"SELECT count(*) FROM stgraph.{layer} WHERE d_speed = 'NaN'") == [
            (0,)
        ]


def test_times_are_utc_and_local(database: str, frames: Frames) -> None:
    init_schema(database)
    write_scenario_postgis(frames, database)
    row = query(
        database,
        "SELECT ts AT TIME ZONE 'UTC', local_time FROM stgraph.scenario_link ORDER BY ts LIMIT 1",
    )
    assert row == [(pd.Timestamp("2026-11-22 23:00"), "2026-11-23 00:00 Europe/Berlin")]


def test_the_same_run_takes_its_own_place(database: str, frames: Frames) -> None:
    init_schema(database)
    write_scenario_postgis(frames, database)
    second = tables(make_result(run_id=OTHER, n_columns=5, minutes=60))
    write_scenario_postgis(second, database)
    before = counts(database)
    again = write_scenario_postgis(frames, database, current=False)
    assert (again.is_new, again.is_current) == (False, False)
    assert counts(database) == before
    totals = dict(
        query(database, "SELECT run_id, sum(flow_base) FROM stgraph.scenario_link GROUP BY 1")
    )
    for run, table in ((RUN, frames), (OTHER, second)):
        assert totals[run] == pytest.approx(table["scenario_link"]["flow_base"].sum(), rel=1e-3)
    loose = "SELECT count(*) FROM stgraph.scenario_link_value"
    assert query(database, loose) == [(before["scenario_link"],)]


def test_the_layers_show_one_run(database: str, frames: Frames) -> None:
    init_schema(database)
    second = tables(make_result(run_id=OTHER))
    assert write_scenario_postgis(frames, database, current=False).is_current  # the only one
    for given, options, shown in (
        (second, {}, OTHER),
        (frames, {"current": False}, OTHER),
        (second, {"current": False}, OTHER),
        (frames, {}, RUN),
    ):
        write_scenario_postgis(given, database, **options)  # type: ignore[arg-type]
        for name in ("scenario", *_scenario_layers.SCENARIO):
            text = f"SELECT DISTINCT run_id FROM stgraph.{name} WHERE is_current"
            assert query(database, text) == [(shown,)], name


def test_areas_within_reach_are_there(database: str, frames: Frames) -> None:
    """As valid polygons in degrees; a run without any has none, and no layer in a project."""
    init_schema(database)
    write_scenario_postgis(frames, database)
    given = frames["scenario_isochrone"]
    rows = query(
        database,
        "SELECT zone, period, network, minutes, area_km2, ST_AsBinary(geom), ST_IsValid(geom), "
        "ST_SRID(geom) FROM stgraph.scenario_isochrone ORDER BY fid",
    )
    assert [row[:3] for row in rows] == list(
        given[["zone", "period", "network"]].itertuples(index=False, name=None)
    )
    assert [row[3:5] for row in rows] == [
        pytest.approx(pair) for pair in given[["minutes", "area_km2"]].to_numpy().tolist()
    ]
    assert shapely.equals(shapely.from_wkb([bytes(row[5]) for row in rows]), given.geometry).all()
    assert {row[6:] for row in rows} == {(True, 4326)}
    with connect(database) as connection:
        assert "scenario_isochrone" in _scenario_layers.scenario_layers(connection, "stgraph")
    write_scenario_postgis(frames | {"scenario_isochrone": given.iloc[:0]}, database)
    assert counts(database)["scenario_isochrone"] == 0
    with connect(database) as connection:
        assert "scenario_isochrone" not in _scenario_layers.scenario_layers(connection, "stgraph")
    odd = given.set_geometry(given.geometry.representative_point())
    with pytest.raises(DataError, match=r"areas within reach are \['Point'\]"):
        write_scenario_postgis(frames | {"scenario_isochrone": odd}, database)


def test_only_what_changes(database: str, frames: Frames) -> None:
    init_schema(database)
    done = write_scenario_postgis(frames, database, links="changed")
    expected = len(_scenario_tables.changing_rows(frames["scenario_link"]))
    assert 0 < done.n_rows == expected < len(frames["scenario_link"])
    assert write_scenario_postgis(frames, database, links="none").n_rows == 0
    assert counts(database)["scenario_link"] == 0


def test_a_failure_leaves_what_was_there(
    database: str, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks at the very end: the run of before is still whole."""
    init_schema(database)
    write_scenario_postgis(frames, database)
    before = query(database, "SELECT run_no, first_fid FROM stgraph.scenario")

    def fail(*_: object, **__: object) -> None:
        raise OutputError("broken")

    monkeypatch.setattr("stgraph_connectors.postgis.scenarios.write_named_styles", fail)
    with pytest.raises(OutputError, match="broken"):
        write_scenario_postgis(frames, database)
    assert query(database, "SELECT run_no, first_fid FROM stgraph.scenario") == before
    assert counts(database)["scenario_link"] == 48 * 36


def test_roles(database: str, frames: Frames) -> None:
    """A writer publishes and removes, a reader reads layers and tables and changes nothing."""
    init_schema(database, roles=True)
    with connect(database, autocommit=True) as connection:
        for login, group in (("scn_writer", "writer"), ("scn_reader", "reader")):
            connection.execute(f"CREATE ROLE {login} LOGIN")  # type: ignore[call-overload]
            connection.execute(f"GRANT stgraph_{group} TO {login}")  # type: ignore[call-overload]
    writer, reader = (
        re.sub(r"user=\S+", f"user={login}", database) for login in ("scn_writer", "scn_reader")
    )
    assert writer != database
    seen = "SELECT has_table_privilege('stgraph_reader', 'stgraph.scenario_link_peak', 'SELECT')"
    assert query(database, seen) == [(False,)]  # empty layers would only be in the way
    with pytest.raises(OutputError, match=r"first scenario needs the rights of 'stgraph_owner'"):
        write_scenario_postgis(frames, writer)
    write_scenario_postgis(frames, database)
    write_scenario_postgis(frames, writer)
    write_scenario_postgis(frames, writer)
    for name in NAMES:
        assert query(reader, f"SELECT count(*) FROM stgraph.{name}") == [(len(frames[name]),)]
    with pytest.raises(OutputError, match="permission denied"):
        write_scenario_postgis(frames, reader)
    with pytest.raises(OutputError, match="permission denied"):
        remove_scenarios(reader, runs=(RUN,))
    assert remove_scenarios(writer, runs=(RUN, "unknown")) == (RUN,)
    assert set(counts(database).values()) == {0}


def test_roles_that_come_later(database: str, frames: Frames) -> None:
    """Who makes roles for a schema that has runs already lets readers see them."""
    init_schema(database)
    write_scenario_postgis(frames, database)
    init_schema(database, roles=True)
    seen = "SELECT has_table_privilege('stgraph_reader', %s::regclass, 'SELECT')"
    for name in NAMES:
        assert query(database, seen, f"stgraph.{name}") == [(True,)]
    assert query(database, seen, "stgraph.scenario_link_value") == [(False,)]


def test_old_runs_go_but_not_the_one_shown(database: str, frames: Frames) -> None:
    init_schema(database)
    write_scenario_postgis(frames, database)
    write_scenario_postgis(tables(make_result(run_id=OTHER)), database)
    month = pd.Timedelta(days=30)
    assert remove_scenarios(database, keep=month) == ()
    later = pd.Timestamp.now(tz="UTC") + pd.Timedelta(days=31)
    assert remove_scenarios(database, keep=month, now=later) == (RUN,)
    assert counts(database)["scenario"] == 1
    assert query(database, "SELECT DISTINCT run_id FROM stgraph.scenario_link") == [(OTHER,)]


def test_scenarios_and_forecasts_share_a_schema(database: str, frames: Frames) -> None:
    """Publishing one leaves the other alone, and styles of both are there."""
    init_schema(database, schema="city")
    publish_forecast(make_forecast(), database, schema="city")
    write_scenario_postgis(frames, database, schema="city")
    publish_forecast(make_forecast(1), database, schema="city")
    styled = query(
        database,
        "SELECT f_table_name, stylename FROM public.layer_styles WHERE f_table_schema = 'city' "
        "AND useasdefault AND f_table_name NOT LIKE 'forecast_latest_h%' ORDER BY 1",
    )
    assert styled == [
        ("forecast_latest", "Speed (km/h)"),
        ("scenario_edit", "What changes"),
        ("scenario_isochrone", "Within reach, whole time"),
        ("scenario_link", "Speed change (km/h)"),
        ("scenario_link_peak", "Speed change (km/h), whole time"),
    ]


def test_a_users_style_stays(database: str, frames: Frames) -> None:
    init_schema(database)
    write_scenario_postgis(frames, database)
    change = (
        "UPDATE public.layer_styles SET styleqml = XMLPARSE(DOCUMENT '<qgis/>') "
        "WHERE f_table_name = 'scenario_edit'"
    )
    query(database, change)
    write_scenario_postgis(frames, database, side="left")
    rows = query(
        database,
        "SELECT styleqml::text FROM public.layer_styles WHERE f_table_name = 'scenario_edit'",
    )
    assert rows == [("<qgis/>",)]


def test_a_frame_uses_the_index(database: str) -> None:
    """The temporal controller asks for the rows of one step among those of many runs."""
    init_schema(database)
    write_scenario_postgis(tables(make_result(n_columns=12, n_rows=12, minutes=10)), database)
    plan = query(
        database,
        "EXPLAIN SELECT * FROM stgraph.scenario_link "
        "WHERE ts >= '2026-11-23T08:00Z' AND ts < '2026-11-23T08:10Z'",
    )
    assert "scenario_link_value_ts" in "\n".join(row[0] for row in plan)


def test_hostile_names_and_texts(database: str) -> None:
    """Quotes, per cents and zero characters in names are just characters."""
    schema = 'we"ird %s'
    init_schema(database, schema=schema)
    result = make_result(run_id="a'b\"; DROP TABLE x; --%s")
    odd = replace(
        result, name="50 % \x00 of 'it'", card={"a\x00": [float("nan"), "\ud800"]}, script="%(x)s"
    )
    write_scenario_postgis(tables(odd), database, schema=schema)
    write_scenario_postgis(tables(odd), database, schema=schema)
    assert counts(database, schema)["scenario"] == 1
    found = query(database, 'SELECT name, card FROM "we""ird %s".scenario')
    assert found == [("50 % \ufffd of 'it'", {"a\ufffd": [None, "?"]})]


def leaves(path: Path) -> list[tuple[str, str]]:
    """Return the layers of a project, each with whether it is shown."""
    tree = ET.parse(path).getroot().find("layer-tree-group")
    assert tree is not None
    return [
        (leaf.get("name", ""), leaf.get("checked", "")) for leaf in tree.iter("layer-tree-layer")
    ]


def test_a_project_has_the_layers(database: str, frames: Frames, tmp_path: Path) -> None:
    """Alone they are shown; beside a forecast they are one click away."""
    init_schema(database)
    write_scenario_postgis(frames, database)
    path = write_project(database, tmp_path / "s.qgs", fixed_time=True)
    root = ET.parse(path).getroot()
    assert root.findtext("title") == "stgraph: scenario"
    on, off = "Qt::Checked", "Qt::Unchecked"
    assert leaves(path) == [
        ("What changes", on),
        ("Effects by part of the day", on),
        ("Effects step by step", off),
        ("Areas within reach", off),
    ]
    assert root.find("ProjectTimeSettings").get("timeStep") == "30"  # type: ignore[union-attr]
    sources = [source.text or "" for source in root.iter("datasource")]
    assert all("key='fid'" in text and "srid=4326" in text for text in sources)
    box = root.find("mapcanvas/extent")
    assert box is not None
    assert float(box.findtext("ymax", "0")) - float(box.findtext("ymin", "0")) > 1000  # of metres
    publish_forecast(make_forecast(), database)
    path = write_project(database, tmp_path / "f.qgs")
    assert ("Effects by part of the day", on) in leaves(path)
    groups = ET.parse(path).getroot().findall("layer-tree-group/layer-tree-group")
    assert [(g.get("name"), g.get("checked")) for g in groups] == [
        ("Scenario", off),
        ("Forecast", on),
    ]


@pytest.mark.qgis
def test_a_real_qgis_draws_the_project(database: str, frames: Frames, tmp_path: Path) -> None:
    """All layers are valid, styled, and have rows in a frame of the clock."""
    need_qgis_python()
    init_schema(database)
    write_scenario_postgis(frames, database)
    path = write_project(database, tmp_path / "s.qgs")
    code = tmp_path / "ask.py"
    code.write_text(ASK)
    run_script(code, str(path), str(tmp_path / "answer.json"), folder=tmp_path)
    assert json.loads((tmp_path / "answer.json").read_text()) == {
        "Effects by part of the day": [True, "RuleRenderer", 144, 12],
        "Effects step by step": [True, "RuleRenderer", 36, 3],
        "What changes": [True, "RuleRenderer", 6, 1],
        "Areas within reach": [True, "RuleRenderer", 8, 4],
    }


ASK = """
import json, sys
from qgis.core import QgsApplication, QgsFeatureRequest, QgsProject
application = QgsApplication([], False)
application.initQgis()
project = QgsProject.instance()
assert project.read(sys.argv[1])
answer = {}
for layer in project.mapLayers().values():
    request = QgsFeatureRequest()
    if layer.temporalProperties().isActive():
        ends = ("2026-11-23T08:00:00Z", "2026-11-23T08:30:00Z")
        text = "ts >= to_datetime('%s') AND ts < to_datetime('%s')" % ends
        request.setFilterExpression(text)
    rows = sum(1 for _ in layer.getFeatures(request))
    styles = len(layer.styleManager().styles())
    answer[layer.name()] = [layer.isValid(), layer.renderer().type(), rows, styles]
with open(sys.argv[2], "w") as file:
    json.dump(answer, file)
"""


def test_bad_input(database: str, frames: Frames) -> None:
    init_schema(database)
    with pytest.raises(InputError, match="`links` is 'auto'"):
        write_scenario_postgis(frames, database, links="auto")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`side` is"):
        write_scenario_postgis(frames, database, side="up")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="9 problem"):
        write_scenario_postgis({}, database)
    with pytest.raises(OutputError, match="no schema 'nope'"):
        write_scenario_postgis(frames, database, schema="nope")
    links = frames["scenario_link"].astype({"status": object}).assign(status="melted")
    with pytest.raises(InputError, match=r"`status` has \['melted'\]"):
        write_scenario_postgis(dict(frames) | {"scenario_link": links}, database)
    areas = shapely.buffer(frames["scenario_segment"].geometry.to_numpy(), 0.001)
    segments = frames["scenario_segment"].set_geometry(areas, crs=4326)
    with pytest.raises(DataError, match=r"segments are \['Polygon'\]"):
        write_scenario_postgis(dict(frames) | {"scenario_segment": segments}, database)
    assert set(counts(database).values()) == {0}
