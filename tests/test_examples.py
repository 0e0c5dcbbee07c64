"""Every example runs, with a small setting; the demo is one of them."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, LiteralString

import pandas as pd
import psycopg
import pyogrio
import pytest

from stgraph import demonstration
from stgraph.cli import main
from stgraph.scenario.sources import Horizon

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = [path.stem for path in sorted(EXAMPLES.glob("*.py")) if path.stem != "five_lines"]
SMALL = ["train.max_epochs=1", "model.hidden_size=8", "train.batch_size=256"]


def run_small(config: Path, folder: Path, *more: str) -> pd.DataFrame:
    """Run an example with a small model and return its metrics."""
    changes = [f"run.folder={folder}", *SMALL, *more]
    assert main(["run", str(config), "-q", *(f"--set={change}" for change in changes)]) == 0
    return pd.read_csv(folder / "metrics.csv")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n_nodes", "horizon"),
    [
        ("metr-la-week", 207, 12),
        ("scats-boroondara", 139, 12),
        ("montevideo-bus", 675, 12),
        ("hangzhou-metro", 80, 6),
    ],
)
def test_configs_of_real_data_run(
    name: str,
    n_nodes: int,
    horizon: int,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The configs in examples/ work on the data as it comes."""
    monkeypatch.setenv("STGRAPH_DATA", str(data_dir))
    metrics = run_small(EXAMPLES / f"{name}.toml", tmp_path / "run")
    assert set(metrics["horizon"]) == set(range(horizon + 1))
    assert len(pd.read_csv(tmp_path / "run/nodes.csv")) == n_nodes
    (written,) = (tmp_path / "run").glob("forecast.*")
    assert written.stat().st_size > 10_000
    assert "gcn_lstm" in capsys.readouterr().out


@pytest.mark.data
@pytest.mark.postgis
def test_station_files_become_layers_in_postgis(
    database: str,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From files to what QGIS opens, by the commands that the example names; then an issue more."""
    monkeypatch.setenv("STGRAPH_DATA", str(data_dir))
    monkeypatch.setenv("STGRAPH_DSN", database)
    config = EXAMPLES / "metr-la-postgis.toml"
    changes = [f"--set=run.folder={tmp_path}", *(f"--set={change}" for change in SMALL)]
    assert main(["check", str(config), *changes]) == 2
    assert "run: stgraph db init --schema los_angeles" in capsys.readouterr().err
    assert main(["db", "init", "--schema", "los_angeles"]) == 0
    run_small(config, tmp_path)
    assert capsys.readouterr().out.rstrip().endswith("schema 'los_angeles'")
    earlier = [str(config), "-q", *changes, "--at", "2012-03-06T08:00"]
    assert main(["forecast", *earlier]) == 0
    with psycopg.connect(database) as connection:

        def ask(query: LiteralString) -> list[tuple[Any, ...]]:
            return connection.execute(query).fetchall()

        layer = "FROM los_angeles.forecast_latest"
        assert ask(f"SELECT count(*), count(speed), max(horizon) {layer}") == [(2484, 2484, 12)]
        last = "SELECT DISTINCT target_time - issued_at " + layer + " WHERE horizon = 12"
        assert ask(last) == [(pd.Timedelta(hours=1).to_pytimedelta(),)]
        # the layers stay at the newest issue; both are kept
        assert ask(f"SELECT DISTINCT issued_at::date::text {layer}") == [("2012-03-08",)]
        assert ask("SELECT count(*) FROM los_angeles.run WHERE status = 'published'") == [(2,)]
        assert ask("SELECT count(speed) FROM los_angeles.observation_latest") == [(207,)]
        assert ask("SELECT count(mae), count(skill_percent) FROM los_angeles.error_by_node") == [
            (207, 207)
        ]
        assert ask("SELECT count(*) FROM los_angeles.evaluation") == [(207 * 13,)]
        kept = "SELECT config->'output'->0->>'dsn' FROM los_angeles.run LIMIT 1"
        assert "database" in ask(kept)[0][0]
        told = "SELECT metrics->>'verdict', jsonb_typeof(metrics->'skill') FROM los_angeles.run"
        assert all("MAE" in verdict or "baseline" in verdict for verdict, _ in ask(told))


def test_the_demo_shows_skill_and_names_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`stgraph demo` ends with the skill table and five paths, and can be called again."""
    monkeypatch.chdir(tmp_path)
    hours = Horizon.model_validate({"from": "2026-11-16T07:00", "to": "2026-11-16T09:00"})
    quick = functools.partial(demonstration.run_scenario_demo, horizon=hours)
    monkeypatch.setattr(demonstration, "run_scenario_demo", quick)
    changes = [*SMALL, "data.start=2024-11-01", "windows.window=24"]
    for _ in range(2):
        assert main(["demo", "-q", *(f"--set={change}" for change in changes)]) == 0
        out = capsys.readouterr().out
        for word in ("gcn_lstm", "persistence", "seasonal_naive", "weekly_profile", "24 h"):
            assert word in out
        assert "Market Bridge closed (simulated city)” (2 changes of roads) costs" in out
        files = [f"demo/{name}" for name in ("forecast.gpkg", "map.png", "forecast.gif")]
        assert out[: out.index("Market Bridge")].split()[-4:-1] == files
        assert out.split()[-2:] == ["demo/scenario.gpkg", "demo/scenario.html"]
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"forecast.gpkg", "map.png", "forecast.gif", "checkpoint", "report.json"} <= made
    assert "simulated" in (tmp_path / "demo/scenario.html").read_text()
    layers = pyogrio.read_dataframe("demo/scenario.gpkg", layer="scenario_link_peak")
    assert len(set(layers["run_id"])) == 1  # runs do not gather
    assert (layers["status"] == "closed").sum() >= 2


def test_a_wheel_has_all_that_the_demo_reads() -> None:
    """The files of the simulated city are packaged, those that the job and the scenario name."""
    project = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    city = EXAMPLES / "scenarios"
    named = {"bridge-closure.toml"}
    for name in ("bridge-closure.toml", "baseline.toml", "city.toml"):
        named |= set(re.findall(r'"(city/[\w.]+|\w+\.toml)"', (city / name).read_text()))
    assert {name.split("/")[0] for name in named} == {
        Path(name).relative_to("examples/scenarios").as_posix() for name in wheel
    }
    for source, target in wheel.items():
        assert target == f"stgraph/demo_city/{Path(source).name}"
        assert (EXAMPLES.parent / source).exists()


@pytest.mark.parametrize(
    "path", sorted((EXAMPLES / "scenarios").glob("*.toml")), ids=lambda p: p.stem
)
def test_scenarios_of_the_simulated_city_are_ready(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every example of a scenario passes its check, and says which command comes next."""
    if path.stem == "city":
        assert main(["check", str(path)]) == 0
    elif path.stem != "baseline":
        assert main(["scenario", "check", str(path)]) == 0
    else:
        assert main(["scenario", "list", str(path)]) == 0
    assert "as it is" in capsys.readouterr().out or path.stem != "baseline"


def test_the_demo_is_an_example_like_any_other() -> None:
    """No special code path: the packaged config is the one that examples/ shows."""
    packaged = EXAMPLES.parent / "stgraph/demo.toml"
    assert (EXAMPLES / "auckland.toml").read_text() == packaged.read_text()


@pytest.mark.data
def test_five_lines_of_python_do_the_same(data_dir: Path, tmp_path: Path) -> None:
    """What the README shows in Python works as it stands."""
    script = shutil.copy(EXAMPLES / "five_lines.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "error", script, "1"],
        cwd=tmp_path,
        env={**os.environ, "STGRAPH_DATA": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "gcn_lstm" in done.stdout
    assert (tmp_path / "forecast.gpkg").exists()


@pytest.mark.data
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run_without_warnings(name: str, data_dir: Path, tmp_path: Path) -> None:
    """One script a source: each works as it stands, on real data or on data that it makes."""
    script = shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env={**os.environ, "STGRAPH_DATA": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
