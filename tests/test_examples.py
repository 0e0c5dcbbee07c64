"""Every example runs, with a small setting; the demo is one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stgraph.cli import main

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SMALL = ["train.max_epochs=1", "model.hidden_size=8", "train.batch_size=256"]


def run_small(config: Path, folder: Path, *more: str) -> pd.DataFrame:
    """Run an example with a small model and return its metrics."""
    changes = [f"run.folder={folder}", *SMALL, *more]
    assert main(["run", str(config), "-q", *(f"--set={change}" for change in changes)]) == 0
    return pd.read_csv(folder / "metrics.csv")


@pytest.mark.data
@pytest.mark.parametrize(("name", "n_nodes"), [("metr-la-week", 207), ("scats-boroondara", 139)])
def test_configs_of_real_data_run(
    name: str,
    n_nodes: int,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The configs in examples/ work on the data as it comes."""
    monkeypatch.setenv("STGRAPH_DATA", str(data_dir))
    metrics = run_small(EXAMPLES / f"{name}.toml", tmp_path / "run")
    assert set(metrics["horizon"]) == set(range(13))
    assert len(pd.read_csv(tmp_path / "run/nodes.csv")) == n_nodes
    assert (tmp_path / "run/forecast.gpkg").stat().st_size > 100_000
    assert "gcn_lstm" in capsys.readouterr().out


def test_the_demo_shows_skill_and_names_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`stgraph demo` ends with the skill table and three paths, and can be called again."""
    monkeypatch.chdir(tmp_path)
    changes = [*SMALL, "data.start=2024-11-01", "windows.window=24"]
    for _ in range(2):
        assert main(["demo", "-q", *(f"--set={change}" for change in changes)]) == 0
        out = capsys.readouterr().out
        for word in ("gcn_lstm", "persistence", "seasonal_naive", "weekly_profile", "24 h"):
            assert word in out
        assert out.split()[-3:] == ["demo/forecast.gpkg", "demo/map.png", "demo/forecast.gif"]
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"forecast.gpkg", "map.png", "forecast.gif", "checkpoint", "report.json"} <= made


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
