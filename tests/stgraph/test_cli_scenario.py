"""`stgraph scenario`: what a file would change, what runs hold, and what is wrong with either."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
from scenario_results import make_result
from scenario_town import make_forecast, make_town
from stgraph_connectors.sinks.graph_file import write_graph

from stgraph import cli_scenario
from stgraph.cli import main
from stgraph.cli_runs import keep_length
from stgraph.errors import InputError

Capture = pytest.CaptureFixture[str]

TWO = """
timezone: Europe/Berlin
baseline: {roads: {connector: graph, path: town.gpkg}}
horizon: {from: 2026-11-23 06:00, to: 2026-11-23 12:00}
scenario:
  - name: works
    description: half a day
    operations:
      - close: {name: Mid Road, daily: 07:00-10:00}
  - name: slow
    extends: works
    sweep: {kmh: [20, 30]}
    operations:
      - set_speed: {name: South Street, direction: both, kmh: "${kmh}"}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a town and three scenarios."""
    monkeypatch.chdir(tmp_path)
    write_graph(make_town(), "town.gpkg")
    Path("two.yaml").write_text(TWO)


def out_of(capsys: Capture) -> Any:
    return json.loads(capsys.readouterr().out)


def test_list_of_a_file(capsys: Capture) -> None:
    """Sweeps are spread out, and extending is shown."""
    assert main(["scenario", "list", "two.yaml", "--json"]) == 0
    rows = out_of(capsys)
    assert [row["name"] for row in rows] == ["works", "slow kmh=20", "slow kmh=30"]
    assert rows[2]["operations"] == "close, set_speed"
    assert rows[2]["extends"] == "works"
    assert main(["scenario", "list", "two.yaml"]) == 0
    assert "3 scenario(s) in two.yaml" in capsys.readouterr().out


def test_check_says_what_would_change(capsys: Capture) -> None:
    """Without a forecast, on steps of five minutes; and as a layer."""
    words = ["scenario", "check", "two.yaml", "--only", "works", "--out", "edits.gpkg"]
    assert main([*words, "--json"]) == 0
    shown = out_of(capsys)
    (works,) = shown["scenarios"]
    (change,) = works["changes"]
    assert change["about"] == "name Mid Road"
    assert change["when"] == "07:00-10:00"
    assert (change["attribute"], change["segments"]) == ("is_open", "2")
    assert (change["before"], change["after"]) == ("open", "closed")
    layer = gpd.read_file("edits.gpkg", layer="scenario_edit")
    assert set(layer["segment_id"]) == {20, 21}
    assert set(layer["scenario"]) == {"works"}
    assert main(["scenario", "check", "two.yaml"]) == 0
    text = capsys.readouterr().out
    assert "What slow kmh=30 would change" in text
    assert "a run also needs a forecast: give `baseline.forecast` or a `job`" in text


def test_check_with_a_forecast(capsys: Capture) -> None:
    """The steps are those of the forecast, and a run has all that it needs."""
    forecast = make_forecast()
    places = [f"{name},50.0,10.0" for name in forecast.node_ids]
    Path("segments.csv").write_text("\n".join(["id,lat,lon", *places]))
    rows = [f"{t:%Y-%m-%dT%H:%M:%SZ},{i},40,100" for t in forecast.time for i in forecast.node_ids]
    Path("forecast.csv").write_text("\n".join(["time,id,speed,flow", *rows]))
    source = "forecast: {stations: segments.csv, readings: forecast.csv, units: {speed: km/h}}"
    text = TWO.replace("path: town.gpkg}}", f"path: town.gpkg}}, {source}}}")
    Path("all.yaml").write_text(text)
    assert main(["scenario", "check", "all.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "3 scenario(s) are ready: stgraph scenario run all.yaml" in shown
    Path("late.yaml").write_text(text.replace("2026-11-23", "2027-11-23"))
    assert main(["scenario", "check", "late.yaml"]) == 2
    assert "is not all in the forecast" in capsys.readouterr().err
    Path("bare.yaml").write_text(text.replace(", readings: forecast.csv", ""))
    assert main(["scenario", "check", "bare.yaml"]) == 2
    assert "`baseline.forecast`: has no steps" in capsys.readouterr().err


def test_check_reads_demand(capsys: Capture) -> None:
    """Trips that a closure cuts off are an error, unless that is wanted."""
    Path("od.csv").write_text("origin,destination,trips\n1,5,10\n5,1,10\n")
    zones = "id,lat,lon\n1,50.0,10.0\n5,50.003,10.003\n"
    Path("zones.csv").write_text(zones)
    text = TWO.split("scenario:")[0] + (
        "demand: {od: {matrix: od.csv, zones: zones.csv}, per: hour}\n"
        "operations:\n  - close: {where: segment_id == 20 or segment_id == 21"
        " or segment_id == 14 or segment_id == 15 or segment_id == 16 or segment_id == 17}\n"
    )
    Path("cut.yaml").write_text(text)
    assert main(["scenario", "check", "cut.yaml", "--force"]) == 2
    error = capsys.readouterr().err
    assert "'cut', " in error
    assert main(["scenario", "check", "cut.yaml", "--force", "--disconnect"]) == 0


def test_errors_of_all_scenarios(capsys: Capture) -> None:
    """What only the network knows is said for all scenarios at once, too."""
    Path("bad.yaml").write_text(
        TWO.replace("name: Mid Road,", "name: Mid Raod,").replace("kmh: [20, 30]", "kmh: [20]")
    )
    assert main(["scenario", "check", "bad.yaml"]) == 2
    error = capsys.readouterr().err
    assert "these scenarios cannot be run: 2 problem(s)" in error
    assert "'works', operation 1 (close)" in error
    assert "'slow kmh=20', operation 1 (close)" in error
    assert "Mid Road" in error


def fake_run(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a run in place that does nothing but note what it was asked."""
    asked: dict[str, Any] = {}
    result = make_result()

    def run_file(path: Path, **options: Any) -> tuple[Any, ...]:
        asked.update(options, path=path)
        options["on_progress"]("1 of 1")
        return (SimpleNamespace(result=result, outputs=(Path("a.gpkg"),)),)

    module = ModuleType("stgraph.scenario.running_files")
    module.run_file = run_file  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stgraph.scenario.running_files", module)
    return asked


def test_run(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options arrive, the summary and the files are shown."""
    asked = fake_run(monkeypatch)
    words = ["scenario", "run", "two.yaml", "--only", "works", "--jobs", "2", "--disconnect", "-q"]
    assert main(words) == 0
    assert (asked["path"], asked["only"], asked["jobs"]) == (Path("two.yaml"), ["works"], 2)
    assert (asked["force"], asked["allow_disconnect"], asked["out"]) == (False, True, None)
    text = capsys.readouterr().out
    assert f"{make_result().name}, by " in text
    assert text.splitlines()[-1] == "a.gpkg"
    assert main([*words, "--json"]) == 0
    (shown,) = out_of(capsys)["scenarios"]
    assert shown["outputs"] == ["a.gpkg"]
    assert len(shown["summary"]) == len(make_result().summary)


def test_report_and_compare_of_a_file(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_run(monkeypatch)
    assert main(["scenario", "report", "two.yaml", "--out", "a.html"]) == 0
    assert asked["out"] == Path("a.html")
    assert capsys.readouterr().out == "a.html\n"
    assert main(["scenario", "compare", "two.yaml", "--json"]) == 0
    assert {"metric", "unit", "baseline", make_result().name} == set(out_of(capsys)[0])


def test_runs_in_a_geopackage(capsys: Capture) -> None:
    """What was run is listed and put side by side without running it again."""
    write = pytest.importorskip("stgraph_connectors.sinks.scenario_geopackage")
    from stgraph.scenario.tables import tables

    result = make_result()
    write.write_scenario_geopackage(tables(result), "runs.gpkg")
    assert main(["scenario", "list", "runs.gpkg", "--json"]) == 0
    (row,) = out_of(capsys)
    assert (row["name"], row["run_id"]) == (result.name, result.run_id)
    assert main(["scenario", "compare", "runs.gpkg", "--json"]) == 0
    rows = out_of(capsys)
    assert {"metric", "unit", "base", result.name} == set(rows[0])
    assert main(["scenario", "compare", "runs.gpkg", "--only", "nobody"]) == 2
    assert "has no run of 'nobody'" in capsys.readouterr().err


def test_runs_are_removed_from_a_geopackage(capsys: Capture) -> None:
    """By id or age; a run that is not there changes nothing."""
    write = pytest.importorskip("stgraph_connectors.sinks.scenario_geopackage")
    from stgraph.scenario.tables import tables

    frames = tables(make_result())
    for run in ("a", "b", "c"):
        new = {name: table.assign(run_id=run) for name, table in frames.items()}
        write.write_scenario_geopackage(new, "runs.gpkg")
    before = Path("runs.gpkg").read_bytes()
    assert main(["scenario", "remove", "runs.gpkg", "--run", "a", "--run", "x"]) == 2
    assert "has no run 'x'" in capsys.readouterr().err
    assert Path("runs.gpkg").read_bytes() == before
    assert main(["scenario", "remove", "runs.gpkg", "--run", "a"]) == 0
    assert capsys.readouterr().out == "removed a\n"
    inode = Path("runs.gpkg").stat().st_ino
    assert main(["scenario", "remove", "runs.gpkg", "--keep", "5000w"]) == 0
    assert capsys.readouterr().out == "nothing was removed\n"
    assert Path("runs.gpkg").stat().st_ino == inode
    assert main(["scenario", "remove", "runs.gpkg", "--run", "c", "--json"]) == 0
    assert out_of(capsys) == {"removed": ["c"], "missing": []}
    assert main(["scenario", "list", "runs.gpkg", "--json"]) == 0
    assert [row["run_id"] for row in out_of(capsys)] == ["b"]


def test_runs_of_a_file_and_of_a_database_are_removed_apart(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both named are refused, as one would be left as it is; a variable that is set is no name."""
    write = pytest.importorskip("stgraph_connectors.sinks.scenario_geopackage")
    from stgraph.scenario.tables import tables

    write.write_scenario_geopackage(tables(make_result()), "runs.gpkg")
    assert main(["scenario", "remove", "runs.gpkg", "--dsn", "x", "--keep", "8w"]) == 2
    assert "runs.gpkg and --dsn are both named" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("STGRAPH_DSN", "service=traffic")
    assert main(["scenario", "remove", "runs.gpkg", "--keep", "8w"]) == 0


@pytest.mark.parametrize("text", ["0d", "36525d", "0000000036525d", "876600h", "5217w"])
def test_up_to_a_hundred_years_are_kept(text: str) -> None:
    assert keep_length(text) <= pd.Timedelta(days=36_525)


@pytest.mark.postgis
def test_runs_are_removed_from_a_database(capsys: Capture, database: str) -> None:
    pytest.importorskip("psycopg")
    from stgraph_connectors.postgis.scenarios import write_scenario_postgis
    from stgraph_connectors.postgis.schema import init_schema

    from stgraph.scenario.tables import tables

    init_schema(database)
    frames = tables(make_result())
    for run in ("a", "b"):
        new = {name: table.assign(run_id=run) for name, table in frames.items()}
        write_scenario_postgis(new, database)
    assert main(["scenario", "remove", "--dsn", database, "--run", "a", "--run", "x"]) == 2
    out = capsys.readouterr()
    assert out.out == "removed a\n"
    assert "there is no run x" in out.err
    assert main(["scenario", "remove", "--dsn", database, "--keep", "1h", "--json"]) == 0
    assert out_of(capsys) == {"removed": [], "missing": []}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "no.yaml"], "no.yaml: there is no such file"),
        (["list", "no.gpkg"], "there is no such file; write one with"),
        (["list", "town.gpkg"], "holds no runs of scenarios (no such table: scenario)"),
        (["list", "broken.gpkg"], "holds no runs of scenarios (file is not a database)"),
        (["check", "two.yaml", "--out", "a.shp"], "does not end in .gpkg"),
        (["check", "two.yaml", "--out", "no/a.gpkg"], "the folder 'no' does not exist"),
        (["check", "two.yaml", "--only", "slwo"], "there is no such scenario (did you mean 'slow"),
        (["run", "two.yaml", "--out", "a.csv"], "does not end in .gpkg or .html"),
        (["run", "two.yaml", "--jobs", "0"], "Invalid value for '--jobs'"),
        (["report", "two.yaml", "--out", "a.pdf"], "does not end in .html or .htm"),
        (["remove", "no.gpkg", "--run", "a"], "there is no such file"),
        (["remove", "town.gpkg", "--keep", "30d"], "holds no runs of scenarios"),
        (["remove", "town.gpkg"], "nothing is named; give --run RUN"),
        (["remove", "--keep", "soon", "--dsn", "x"], "is no length of time"),
        (["remove", "--keep", "-3d", "--dsn", "x"], "is no length of time"),
        (["remove", "--keep", "99999999999d", "--dsn", "x"], "is more than 100 years"),
        (["remove", "--keep", "9" * 5000 + "h", "--dsn", "x"], "is more than 100 years"),
        (["remove", "--keep", "36526d", "--dsn", "x"], "is more than 100 years"),
        (["remove", "--run", "a"], "no database is named"),
        (["check", "bare.yaml"], "`baseline.roads`: is missing"),
        (["check", "no_horizon.yaml"], "`horizon`: is missing, and there is no forecast"),
    ],
)
def test_bad_words(words: list[str], message: str, capsys: Capture) -> None:
    """One message, no traceback, exit code 2."""
    Path("broken.gpkg").write_bytes(b"no database at all" * 100)
    Path("bare.yaml").write_text("operations: [{scale_demand: {factor: 2}}]")
    Path("no_horizon.yaml").write_text(
        "baseline: {roads: {connector: graph, path: town.gpkg}}\n"
        "operations: [{close: {name: Mid Road}}]"
    )
    assert main(["scenario", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_job_without_a_model_says_how_to_get_one(tmp_path: Path) -> None:
    """Who runs a scenario before its forecast job reads the command, not about missing files."""
    job = tmp_path / "city.toml"
    job.write_text('[data]\nstations = "stations.csv"\nreadings = "readings.csv"\n')
    with pytest.raises(InputError, match=r"no model in .* yet; train it first: stgraph run .*city"):
        cli_scenario._JobForecasts()(job)
