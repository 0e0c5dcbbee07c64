"""Scenarios as a GeoPackage: every run, replaced or appended, in one go."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
from scenario_results import CLOSED, make_result
from stgraph_connectors.sinks import scenario_geopackage
from stgraph_connectors.sinks.geopackage import write_geopackage
from stgraph_connectors.sinks.scenario_geopackage import write_scenario_geopackage

from stgraph import registry
from stgraph.errors import InputError, OutputError
from stgraph.scenario.tables import Frames, tables

OTHER = "20261124T050000Z-3c4d"


@pytest.fixture(scope="module")
def frames() -> Frames:
    """The tables of a town with a closed street."""
    return tables(make_result())


def read(path: Path, layer: str) -> gpd.GeoDataFrame:
    return gpd.read_file(path, layer=layer)


def test_everything_reads_back(frames: Frames, tmp_path: Path) -> None:
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    for name, table in frames.items():
        found = read(path, name)
        assert len(found) == len(table), name
        shared = [column for column in table if column in found and column != "geometry"]
        assert set(table.columns) - {"geometry"} <= set(shared)
        for column in table.select_dtypes("number"):
            given = table[column].to_numpy(dtype=float)
            np.testing.assert_allclose(
                found[column].to_numpy(dtype=float), given, atol=0.051, err_msg=f"{name}.{column}"
            )
        for column in ("status", "source", "significant", "run_id"):
            if column in table:
                assert found[column].tolist() == table[column].tolist()
    assert read(path, "scenario_link")["ts"].tolist() == frames["scenario_link"]["ts"].tolist()
    lines = read(path, "scenario_link_peak").geometry
    assert lines.geom_equals(frames["scenario_link_peak"].geometry).all()


def test_older_files_get_new_columns(frames: Frames, tmp_path: Path) -> None:
    """A file without ranges between zones: its runs have none, and new ones are added."""
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    with closing(sqlite3.connect(path)) as db, db:
        for name, columns in (("scenario_od", ("d_min_low", "d_min_high")),
                              ("scenario_access", ("low", "high"))):  # fmt: skip
            for column in columns:
                db.execute(f"ALTER TABLE {name} DROP COLUMN {column}")
    write_scenario_geopackage({n: t.assign(run_id=OTHER) for n, t in frames.items()}, path)
    od = read(path, "scenario_od").set_index("run_id")
    assert od.loc[OTHER, "d_min_high"].tolist()[:2] == [2.5, pytest.approx(1.2)]
    assert od["d_min_low"].drop(OTHER).isna().all()
    access = read(path, "scenario_access").set_index("run_id")
    assert access.loc[OTHER, "low"].min() == -300.0


def test_runs_are_removed_with_all_their_rows(frames: Frames, tmp_path: Path) -> None:
    """And the layers show the newest of the others; nothing else is left behind."""
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    (mine,) = frames["scenario"]["run_id"]
    alone = {name: len(read(path, name)) for name in frames}
    size = path.stat().st_size
    later = {name: table.assign(run_id=OTHER) for name, table in frames.items()}
    later["scenario"] = later["scenario"].assign(
        created=later["scenario"]["created"] + pd.Timedelta("1D")
    )
    write_scenario_geopackage(later, path)
    assert read(path, "scenario").set_index("run_id")["is_current"].to_dict() == {
        mine: False, OTHER: True,
    }  # fmt: skip
    created = later["scenario"]["created"].iloc[0]
    kept = {"keep": pd.Timedelta("12h"), "now": created}
    assert scenario_geopackage.remove_scenarios(path, runs=(OTHER, "unknown")) == (OTHER,)
    for name, count in alone.items():
        rows = read(path, name)
        assert len(rows) == count, name
        assert set(rows["run_id"]) == {mine}
        if "is_current" in rows:
            assert rows["is_current"].all()
    assert path.stat().st_size < 1.1 * size
    assert pyogrio.read_info(path, layer="scenario_link")["features"] == alone["scenario_link"]
    # too old, but shown; and then not shown any more
    inode = path.stat().st_ino  # of a new file it would be another one
    assert scenario_geopackage.remove_scenarios(path, **kept) == ()
    assert scenario_geopackage.remove_scenarios(path, runs=("unknown",)) == ()
    assert path.stat().st_ino == inode
    write_scenario_geopackage(later, path)
    assert scenario_geopackage.remove_scenarios(path, **kept) == (mine,)
    assert set(read(path, "scenario_link")["run_id"]) == {OTHER}
    assert scenario_geopackage.remove_scenarios(path, runs=(OTHER,)) == (OTHER,)
    write_scenario_geopackage(frames, path)
    assert {name: len(read(path, name)) for name in frames} == alone
    assert sorted(one.name for one in tmp_path.iterdir()) == ["s.gpkg"]


def test_areas_come_with_the_first_run_that_asks_for_them(frames: Frames, tmp_path: Path) -> None:
    """There is no such layer before; then it has its styles, and goes along with its run."""
    plain = frames | {"scenario_isochrone": frames["scenario_isochrone"].iloc[:0]}
    path = write_scenario_geopackage(plain, tmp_path / "s.gpkg")
    assert "scenario_isochrone" not in pyogrio.list_layers(path)[:, 0]
    write_scenario_geopackage({n: t.assign(run_id=OTHER) for n, t in frames.items()}, path)
    rows = read(path, "scenario_isochrone")
    assert rows["run_id"].tolist() == [OTHER] * 8
    assert rows.geom_type.unique().tolist() == ["MultiPolygon"]
    assert rows.geom_equals(frames["scenario_isochrone"], align=False).all()
    with closing(sqlite3.connect(path)) as db:
        of = "WHERE f_table_name = 'scenario_isochrone'"
        assert db.execute(f"SELECT count(*) FROM layer_styles {of}").fetchone() == (4,)
    write_scenario_geopackage(plain, path)  # the same as the first, which is shown again
    assert not read(path, "scenario_isochrone")["is_current"].any()
    assert scenario_geopackage.remove_scenarios(path, runs=(OTHER,)) == (OTHER,)
    assert len(read(path, "scenario_isochrone")) == 0


def test_what_holds_no_runs_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.gpkg"
    gpd.GeoDataFrame({"a": [1]}, geometry=[None], crs=4326).to_file(other)
    with pytest.raises(InputError, match="holds no scenarios"):
        scenario_geopackage.remove_scenarios(other, runs=("a",))
    with pytest.raises(InputError):
        scenario_geopackage.remove_scenarios(tmp_path / "no.gpkg", runs=("a",))


def test_a_file_whose_runs_cannot_be_read_is_said_so(frames: Frames, tmp_path: Path) -> None:
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE scenario")
    with pytest.raises(InputError, match=r"cannot read .*no such table: scenario"):
        scenario_geopackage.remove_scenarios(path, runs=("a",))


def test_closed_streets_are_null_in_the_file(frames: Frames, tmp_path: Path) -> None:
    """NULL, not 0 and not NaN as a number, which SQLite would sort before all others."""
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    with closing(sqlite3.connect(path)) as db:
        for layer in ("scenario_link", "scenario_link_peak"):
            rows = db.execute(
                f"SELECT DISTINCT segment_id, speed_scn, d_speed FROM {layer} "
                "WHERE status = 'closed' ORDER BY segment_id"
            ).fetchall()
            assert rows == [(segment, None, None) for segment in CLOSED]


def test_times_are_utc_and_local(frames: Frames, tmp_path: Path) -> None:
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    with closing(sqlite3.connect(path)) as db:
        row = db.execute("SELECT ts, local_time FROM scenario_link LIMIT 1").fetchone()
    assert row == ("2026-11-22T23:00:00.000Z", "2026-11-23 00:00 CET")


def test_the_same_run_twice_changes_nothing(frames: Frames, tmp_path: Path) -> None:
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    before = {
        name: read(path, name).drop(columns="segment_fid", errors="ignore") for name in frames
    }
    write_scenario_geopackage(frames, path)
    for name, table in before.items():
        again = read(path, name).drop(columns="segment_fid", errors="ignore")
        pd.testing.assert_frame_equal(pd.DataFrame(table), pd.DataFrame(again))


def test_several_runs_share_a_file(frames: Frames, tmp_path: Path) -> None:
    """The layers show the run that was written last, and the other ones stay."""
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    second = tables(make_result(run_id=OTHER, n_columns=5, minutes=60))
    write_scenario_geopackage(second, path)
    for name in frames:
        assert len(read(path, name)) == len(frames[name]) + len(second[name])
    for name in ("scenario", "scenario_link", "scenario_link_peak", "scenario_edit"):
        found = read(path, name)
        assert set(found.loc[found["is_current"].astype(bool), "run_id"]) == {OTHER}
    write_scenario_geopackage(frames, path)
    found = read(path, "scenario_link")
    assert found.loc[found["is_current"], "run_id"].unique().tolist() == [
        frames["scenario"]["run_id"].iloc[0]
    ]
    # the rows of the replaced run still belong to their own segments
    mine = found[found["run_id"] == OTHER].sort_values(["ts", "segment_id"])
    given = second["scenario_link"].sort_values(["ts", "segment_id"])
    np.testing.assert_allclose(
        mine["flow_base"].to_numpy(), given["flow_base"].to_numpy(), atol=0.051
    )


def test_runs_keep_the_reference_system_of_the_file(tmp_path: Path) -> None:
    result = make_result()
    path = write_scenario_geopackage(tables(result), tmp_path / "s.gpkg")
    roads = result.roads.replace(
        nodes=result.roads.nodes.to_crs(32632), edges=result.roads.edges.to_crs(32632)
    )
    moved = replace(result, run_id=OTHER, roads=roads, edits=result.edits.to_crs(32632))
    write_scenario_geopackage(tables(moved), path)
    found = read(path, "scenario_link_peak")
    assert found.crs == "EPSG:4326"
    ends = found.groupby("run_id").geometry.apply(
        lambda lines: lines.total_bounds.round(6).tolist()
    )
    assert ends.iloc[0] == ends.iloc[1]


def test_only_what_changes(frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that changes at any time keeps all of its steps."""
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg", links="changed")
    found = read(path, "scenario_link")
    table = frames["scenario_link"]
    matters = table[table["significant"] | (table["status"] != "normal")]["segment_id"]
    assert set(found["segment_id"]) == set(matters) != set(table["segment_id"])
    assert (found.groupby("segment_id").size() == 48).all()
    assert len(read(write_scenario_geopackage(frames, path, links="none"), "scenario_link")) == 0
    assert len(read(path, "scenario_link_peak")) == len(frames["scenario_link_peak"])
    monkeypatch.setattr(scenario_geopackage, "_FEW_ROWS", 100)
    assert len(read(write_scenario_geopackage(frames, path), "scenario_link")) == len(found)


def test_automatic_choice_is_told(
    frames: Frames,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody must miss rows without being told."""
    monkeypatch.setattr(scenario_geopackage, "_FEW_ROWS", 100)
    with caplog.at_level(logging.INFO, logger=scenario_geopackage.__name__):
        write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    assert "of 36 segments that change" in caplog.text


def test_a_frame_is_a_range_of_rows(frames: Frames, tmp_path: Path) -> None:
    """Protects the temporal controller from passing over millions of rows."""
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    with closing(sqlite3.connect(path)) as db:
        plan = db.execute(
            "EXPLAIN QUERY PLAN SELECT * FROM scenario_link "
            "WHERE ts >= '2026-11-23T08:00:00' AND ts < '2026-11-23T08:30:00'"
        ).fetchall()
    text = " ".join(row[3] for row in plan)
    assert "SEARCH v USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in text
    assert "scenario_step_ts" in text


def test_styles_come_along_and_stay_as_the_user_made_them(frames: Frames, tmp_path: Path) -> None:
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    with closing(sqlite3.connect(path)) as db, db:
        rows = db.execute(
            "SELECT f_table_name, styleName, useAsDefault FROM layer_styles ORDER BY id"
        ).fetchall()
        db.execute("UPDATE layer_styles SET styleQML = 'mine' WHERE f_table_name = 'scenario_edit'")
    default = [(layer, name) for layer, name, is_default in rows if is_default]
    assert ("scenario_link_peak", "Speed change (km/h), whole time") in default
    assert ("scenario_link", "Speed change (km/h)") in default
    assert len(default) == len({layer for layer, _, _ in rows}) == 5
    assert sum(layer == "scenario_link_peak" for layer, _, _ in rows) == 12
    write_scenario_geopackage(tables(make_result(run_id=OTHER)), path)
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT styleQML FROM layer_styles WHERE f_table_name = 'scenario_edit'"
        assert db.execute(query).fetchall() == [("mine",)]


def test_empty_tables_keep_their_types(tmp_path: Path) -> None:
    """A run without demand first, one with demand later: numbers must not become text."""
    bare = replace(make_result(), od=make_result().od.iloc[:0], access=pd.DataFrame())
    path = write_scenario_geopackage(tables(bare), tmp_path / "s.gpkg")
    write_scenario_geopackage(tables(make_result(run_id=OTHER)), path)
    assert read(path, "scenario_od")["tt_base_min"].dtype == float
    assert read(path, "scenario_access")["change"].sum() == -550.0


def test_other_files_are_left_alone(frames: Frames, tmp_path: Path) -> None:
    """A forecast under that name must not be lost by mistake."""
    path = write_geopackage(make_result().roads, tmp_path / "f.gpkg")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"holds no scenarios.*append=False"):
        write_scenario_geopackage(frames, path)
    (tmp_path / "t.gpkg").write_text("no database")
    with pytest.raises(InputError, match="holds no scenarios"):
        write_scenario_geopackage(frames, tmp_path / "t.gpkg")
    assert path.read_bytes() == before
    assert len(read(write_scenario_geopackage(frames, path, append=False), "scenario")) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.gpkg", "t.gpkg"]


def test_a_failure_leaves_what_was_there(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_scenario_geopackage(frames, tmp_path / "s.gpkg")
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(scenario_geopackage._scenario_links, "add_links", fail)
    with pytest.raises(OutputError, match="disk full"):
        write_scenario_geopackage(frames, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.gpkg"]


def test_wrong_tables_are_named_all_at_once(frames: Frames, tmp_path: Path) -> None:
    broken = {name: table for name, table in frames.items() if name != "scenario_od"}
    broken["scenario_link"] = frames["scenario_link"].drop(columns=["d_flow", "status"])
    broken["scenario_edit"] = pd.DataFrame(frames["scenario_edit"])
    with pytest.raises(InputError, match=r"3 problem.*") as caught:
        write_scenario_geopackage(broken, tmp_path / "s.gpkg")
    for part in ("`scenario_od`", "['d_flow', 'status']", "has no geometry"):
        assert part in str(caught.value)
    two = dict(frames) | {"scenario_summary": frames["scenario_summary"].assign(run_id="b")}
    with pytest.raises(InputError, match="one after the other"):
        write_scenario_geopackage(two, tmp_path / "s.gpkg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"links": "some"}, "`links` is 'some'"), ({"side": "middle"}, "`side` is 'middle'")],
)
def test_wrong_options(
    frames: Frames, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_scenario_geopackage(frames, tmp_path / "s.gpkg", **options)  # type: ignore[arg-type]


def test_hostile_texts_are_just_texts(frames: Frames, tmp_path: Path) -> None:
    result = make_result(run_id="a'b\"; DROP TABLE scenario; --")
    path = write_scenario_geopackage(tables(result), tmp_path / "s.gpkg")
    write_scenario_geopackage(tables(result), path)
    assert read(path, "scenario")["run_id"].tolist() == [result.run_id]


def test_the_registry_knows_the_sinks() -> None:
    assert registry.load("scenario_sinks", "geopackage") is write_scenario_geopackage
    assert "geopackage" in registry.names("scenario_sinks")
