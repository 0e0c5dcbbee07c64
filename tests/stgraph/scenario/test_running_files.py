"""Files of scenarios: read, checked as a whole, run, and written when all is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scenario_town import make_forecast, make_time, make_town
from stgraph_connectors.sinks.graph_file import write_graph

from stgraph.errors import ConfigError
from stgraph.scenario import running_files
from stgraph.scenario.opening import Opener
from stgraph.scenario.running_files import check_scenarios, run_file
from stgraph.scenario.scriptfile import read_scenarios

HEAD = """
timezone: UTC
baseline:
  roads: {connector: graph, path: town.gpkg}
  forecast:
    stations: segments.csv
    readings: forecast.csv
    units: {speed: km/h, flow: veh/h}
demand: {od: {matrix: od.csv, zones: zones.csv}, per: hour}
"""
SWEEP = (
    HEAD
    + """
outputs: {geopackage: runs.gpkg, report: page.html}
scenario:
  - name: works
    operations:
      - close: {name: Mid Road, daily: 07:00-09:00}
  - name: slow
    sweep: {kmh: [20, 30]}
    operations:
      - set_speed: {name: South Street, direction: both, kmh: "${kmh}"}
"""
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a town, its forecast of four hours, and trips."""
    monkeypatch.chdir(tmp_path)
    write_graph(make_town(), "town.gpkg")
    forecast = make_forecast(time=make_time(10))
    places = [f"{name},50.0,10.0" for name in forecast.node_ids]
    Path("segments.csv").write_text("\n".join(["id,lat,lon", *places]))
    rows = [
        f"{t:%Y-%m-%dT%H:%M:%SZ},{i},40,100" for t in forecast.time[6:] for i in forecast.node_ids
    ]
    Path("forecast.csv").write_text("\n".join(["time,id,speed,flow", *rows]))
    Path("od.csv").write_text("origin,destination,trips\n1,5,80\n5,1,80\n3,4,50\n")
    zones = ["1,50.0,10.0", "5,50.003,10.003", "3,50.0,10.006", "4,50.003,10.0"]
    Path("zones.csv").write_text("\n".join(["id,lat,lon", *zones]))
    Path("sweep.yaml").write_text(SWEEP)


def outputs() -> list[str]:
    """Return all files in the folder that a run has written."""
    given = {"town.gpkg", "segments.csv", "forecast.csv", "od.csv", "zones.csv"}
    return sorted(one.name for one in Path().iterdir() if one.name not in given
                  and one.suffix != ".yaml")  # fmt: skip


@pytest.mark.parametrize("only_check", [True, False])
def test_units_of_the_forecast_are_needed_to_check_and_to_run(only_check: bool) -> None:
    Path("bare.yaml").write_text(SWEEP.replace("    units: {speed: km/h, flow: veh/h}\n", ""))
    scenarios = read_scenarios("bare.yaml", needs=["roads"])
    with pytest.raises(ConfigError, match=r"'works', `baseline.forecast`: has no speeds in a known") as found:  # fmt: skip  # noqa: E501
        check_scenarios(
            scenarios, Opener(None), force=False, allow_disconnect=False, only_check=only_check
        )
    assert str(found.value).count("known unit") == 3


def test_all_scenarios_are_run_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the file, one city for all, layers in one file, one page."""
    fitted: list[str] = []
    fit = running_files.fit_city

    def note(*given: Any, **options: Any) -> Any:
        fitted.append("city")
        return fit(*given, **options)

    monkeypatch.setattr(running_files, "fit_city", note)
    told: list[str] = []
    runs = run_file("sweep.yaml", on_progress=told.append)
    assert [one.result.name for one in runs] == ["works", "slow kmh=20", "slow kmh=30"]
    # a network could be learned for closures, and not for speeds
    assert len(fitted) == 2
    assert outputs() == ["page.html", "runs.gpkg"]
    rows = gpd.read_file("runs.gpkg", layer="scenario")
    assert set(rows["name"]) == {one.result.name for one in runs}
    assert {Path(name).name for one in runs for name in one.outputs} == {"runs.gpkg", "page.html"}
    assert all(len(one.outputs) == 2 for one in runs)
    assert any(line.startswith("slow kmh=30: ") for line in told)
    assert runs[0].result.method == "assignment"


def test_several_processes_give_the_same(tmp_path: Path) -> None:
    """Cities, networks, forecasts and results survive the way there and back."""
    alone = run_file("sweep.yaml", only=["slow"], out=tmp_path / "alone.gpkg")
    there = run_file("sweep.yaml", only=["slow"], out="there.gpkg", jobs=2)
    assert outputs() == ["alone.gpkg", "there.gpkg"]
    for one, other in zip(alone, there, strict=True):
        assert one.result.name == other.result.name
        assert one.result.script == other.result.script
        for part in ("speed_scn", "flow_scn", "d_speed_low", "significant"):
            np.testing.assert_array_equal(
                getattr(one.result.links, part), getattr(other.result.links, part)
            )
        pd.testing.assert_frame_equal(one.result.summary, other.result.summary)


def test_only_some_and_elsewhere() -> None:
    """`out` takes the place of what the file names."""
    (found,) = run_file("sweep.yaml", only=["works"], out="other.HTML")
    assert outputs() == ["other.HTML"]
    assert [Path(one).name for one in found.outputs] == ["other.HTML"]
    with pytest.raises(ConfigError, match="did you mean 'works'"):
        run_file("sweep.yaml", only=["wroks"])


def test_everything_wrong_is_told_before_anything_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all scenarios at once; nothing is fitted, nothing written."""
    monkeypatch.setattr(running_files, "fit_city", lambda *_, **__: pytest.fail("too early"))
    text = SWEEP.replace("name: Mid Road", "name: Mid Raod").replace("[20, 30]", "[20]")
    Path("bad.yaml").write_text(text.replace("name: South Street", "name: Souht Street"))
    with pytest.raises(ConfigError, match="2 problem") as caught:
        run_file("bad.yaml")
    text = str(caught.value)
    assert "'works', operation 1 (close)" in text
    assert "'slow kmh=20', operation 1 (set_speed)" in text
    assert "Mid Road" in text
    assert outputs() == []


def test_a_later_failure_leaves_nothing_half_written(monkeypatch: pytest.MonkeyPatch) -> None:
    run = running_files.run

    def fail(scenario: Any, *given: Any, **options: Any) -> Any:
        if scenario.name == "slow kmh=30":
            raise ConfigError("out of luck")
        return run(scenario, *given, **options)

    monkeypatch.setattr(running_files, "run", fail)
    with pytest.raises(ConfigError, match="out of luck"):
        run_file("sweep.yaml")
    assert outputs() == []


def test_cut_off_trips_are_left_out_if_wanted() -> None:
    cut = HEAD + (
        "operations:\n  - close: {where: segment_id == 16 or segment_id == 17}\n"
        "  - close: {where: segment_id == 12 or segment_id == 13}\n"
    )
    Path("cut.yaml").write_text(cut)
    with pytest.raises(ConfigError, match="trips"):
        run_file("cut.yaml", force=True)
    (found,) = run_file("cut.yaml", force=True, allow_disconnect=True)
    summary = found.result.summary.set_index("metric")
    assert summary.loc["unserved trips", "change"] == pytest.approx(50.0 * 4)
    assert found.outputs == ()
    assert outputs() == []


def test_files_that_name_nothing(tmp_path: Path) -> None:
    (tmp_path / "none.yaml").write_text("name: a\noperations:\n  - close: {name: Mid Road}\n")
    with pytest.raises(ConfigError, match="roads"):
        run_file(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        run_file("nowhere.yaml")


def test_speeds_without_a_unit_are_told_before_anything_is_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running_files, "fit_city", lambda *_, **__: pytest.fail("too early"))
    Path("bare.yaml").write_text(SWEEP.replace("units: {speed: km/h, flow: veh/h}", ""))
    with pytest.raises(ConfigError, match=r"`baseline.forecast`: has no speeds"):
        run_file("bare.yaml", only=["works"])
