"""The command line: what it prints where, its exit codes, and that help is quick."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import stgraph
from stgraph import pipeline
from stgraph.cli import main
from stgraph.errors import OutputError

CONFIG = """\
[data]
stations = "stations.csv"
readings = "readings.csv"
zone = "Europe/Berlin"
feature = "flow"
unit = "veh/h"
[graph]
k = 2
[windows]
window = 6
horizon = 4
[model]
name = "gcn_lstm"
hidden_size = 8
[train]
max_epochs = 2
[[output]]
sink = "geopackage"
path = "forecast.gpkg"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six stations, ten days of hourly readings, a tiny model; the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.toml").write_text(CONFIG)
    places = [f"s{i},{52.5 + i / 1000},13.4" for i in range(6)]
    (tmp_path / "stations.csv").write_text("\n".join(["id,lat,lon", *places]))
    time = pd.date_range("2024-05-01", periods=240, freq="h", name="time")
    hour = np.arange(240)[:, None]
    noise = np.random.default_rng(0).normal(size=(240, 6))
    values = 50 + 30 * np.sin(2 * np.pi * hour / 24) + 5 * np.arange(6) + noise
    frame = pd.DataFrame(values, index=time, columns=[f"s{i}" for i in range(6)])
    frame.to_csv(tmp_path / "readings.csv")
    return tmp_path


def test_help_is_quick_and_loads_no_heavy_package() -> None:
    """Help must answer at once: no torch, no pandas."""
    code = (
        "import sys; from stgraph.cli import main; code = main(['--help']); "
        "print(sorted({'torch', 'pandas', 'geopandas', 'pydantic'} & set(sys.modules))); "
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    for command in ("init", "check", "fit", "forecast", "evaluate", "run", "demo", "info"):
        assert f" {command} " in done.stdout


def test_run_does_everything_and_leaves_whole_files(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command from readings to a layer: results on stdout, progress on stderr."""
    assert main(["run", "job.toml"]) == 0
    out, err = capsys.readouterr()
    assert "gcn_lstm" in out
    assert "profile_decay" in out
    assert out.strip().endswith("runs/job/forecast.gpkg")
    assert "fitting gcn_lstm to" in err
    made = {path.name for path in (project / "runs/job").iterdir()}
    expected = {"checkpoint", "training", "metrics.csv", "nodes.csv", "report.json"}
    expected |= {"errors.parquet"}
    assert made == {*expected, "forecast.gpkg"}
    report = json.loads((project / "runs/job/report.json").read_text())
    assert report["config"]["windows"]["horizon"] == 4
    assert report["skill"][0]["model"] == "gcn_lstm"
    metrics = pd.read_csv(project / "runs/job/metrics.csv")
    assert set(metrics["horizon"]) == {0, 1, 2, 3, 4}


def test_stages_one_by_one_and_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """fit, evaluate and forecast share the run folder; each can be called again."""
    assert main(["fit", "job.toml", "-q"]) == 0
    assert capsys.readouterr().out.strip() == str(project / "runs/job/checkpoint")
    for _ in range(2):
        assert main(["evaluate", "job.toml", "-q", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["verdict"]
        assert answer["skill"][-1]["horizon"] == "all"
        assert main(["forecast", "job.toml", "-q", "--json", "--at", "2024-05-08T09:00"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer == {"outputs": [str(project / "runs/job/forecast.gpkg")]}
    assert main(["info", "runs/job", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["model"], facts["nodes"], facts["horizon"]) == ("gcn_lstm", 6, 4)


def test_a_new_model_removes_the_results_of_the_old_one(project: Path) -> None:
    """Figures of one model beside the weights of another would be a lie."""
    assert main(["run", "job.toml", "-q"]) == 0
    assert main(["fit", "job.toml", "-q", "--set", "train.seed=1"]) == 0
    made = {path.name for path in (project / "runs/job").iterdir()}
    assert made == {"checkpoint", "training"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["db", "prune"], "Missing option '--keep'; see: stgraph db prune --help"),
        (["qgis", "project"], "Missing option '--out'; see: stgraph qgis project --help"),
        (["db", "prune", "--kep", "1d"], "No such option: --kep"),
        (["forecats"], "No such command 'forecats'"),
    ],
)
def test_a_command_that_cannot_be_understood(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"stgraph: {message}")


@pytest.mark.parametrize("command", ["evaluate", "forecast"])
def test_a_model_of_another_config_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Results of one model under the name of another would be a lie."""
    assert main(["fit", "job.toml", "-q", "--set", "model.hidden_size=4"]) == 0
    changes = ["--set", "windows.horizon=5", "--set", "prepare.gaps.max_steps=3"]
    assert main([command, "job.toml", "-q", *changes]) == 2
    message = capsys.readouterr().err
    assert "fitted with another config; fit again, or give the same as then: 3 prob" in message
    assert "[model] options: is {'hidden_size': 8} in the config, but the model has {'h" in message
    assert "[prepare.gaps] given: is True in the config, but the model has False" in message
    assert "[windows] `horizon`: is 5 in the config, but the model has 4" in message
    assert main([command, "job.toml", "-q", "--set", "model.hidden_size=4"]) == 0


def test_what_would_fail_after_training_fails_before_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hours of training must not end in a message about a folder or a share."""
    no_test = ["job.toml", "--set", "windows.fractions=[0.8, 0.2, 0.0]"]
    assert main(["check", *no_test]) == 0
    expected = "is ready: stgraph fit job.toml --set 'windows.fractions=[0.8, 0.2, 0.0]'\n"
    assert capsys.readouterr().out.endswith(expected)
    assert main(["run", *no_test]) == 2
    assert "[windows] `fractions`: no window is left to test on" in capsys.readouterr().err
    notes = project / "runs/job/checkpoint/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    for command in ("check", "fit", "run"):
        assert main([command, "job.toml"]) == 2
        assert "checkpoint exists and holds no model" in capsys.readouterr().err
    assert not (project / "runs/job/training").exists()


def test_damaged_errors_per_node_are_bad_input(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of ours that somebody edited is no fault of ours."""
    assert main(["fit", "job.toml", "-q"]) == 0
    for text in ("", "rubbish", 'a"\n"'):
        (project / "runs/job/nodes.csv").write_text(text)
        assert main(["forecast", "job.toml"]) == 2
        assert "nodes.csv is damaged or cannot be read; evaluate again" in capsys.readouterr().err


def test_resume_goes_on_from_the_last_epoch(project: Path) -> None:
    """A longer training continues; that of another model is refused."""
    assert main(["fit", "job.toml", "-q"]) == 0
    assert main(["fit", "job.toml", "-q", "--resume", "--set", "train.max_epochs=3"]) == 0
    log = pd.read_csv(project / "runs/job/training/logs/metrics.csv")
    assert log["epoch"].max() == 2
    assert main(["fit", "job.toml", "-q", "--resume", "--set", "model.hidden_size=16"]) == 2


def test_check_shows_findings_and_sizes_and_trains_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a run would meet, before it costs anything."""
    assert main(["check", "job.toml", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["sizes"]["nodes"], answer["sizes"]["steps"]) == (6, 240)
    assert answer["sizes"]["test windows"] > 0
    assert any("step of 60 minutes" in finding["what"] for finding in answer["findings"])
    assert main(["check", "job.toml"]) == 0
    assert "job.toml is ready" in capsys.readouterr().out
    assert not (project / "runs").exists()


def test_check_builds_the_model(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `check` calls ready can be fitted, and with the options that were checked."""
    assert main(["check", "job.toml", "--json"]) == 0
    sizes = json.loads(capsys.readouterr().out)["sizes"]
    assert main(["fit", "job.toml", "-q"]) == 0
    capsys.readouterr()
    assert main(["info", "runs/job", "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert sizes["model"] == fitted["model"] == "gcn_lstm"
    assert sizes["weights"] == pytest.approx(fitted["weights"], rel=0.02)  # and decay
    assert main(["check", "job.toml", "--model", "cnn_3d"]) == 2
    assert "model 'cnn_3d' needs a grid whose cells" in capsys.readouterr().err
    twins = 'model.members=["ridge", {name = "tdnn", options = {hiden_size = 4}}]'
    assert main(["check", "job.toml", "--model", "ensemble", "--set", twins]) == 2
    assert re.search(r"`members` 2, tdnn: .*hiden_size.*did you mean", _shown(capsys))
    good = ["job.toml", "--model", "ensemble", "--set", 'model.members=["ridge", "tdnn"]']
    assert main(["check", *good]) == 0
    assert "--model ensemble --set 'model.members=" in _shown(capsys)


def test_options_that_do_not_go_together_are_bad_input(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What two options say together belongs to no key, and is no fault of ours."""
    heads = ["--model", "spacetime_patches", "--set", "model.n_heads=7"]
    assert main(["check", "job.toml", *heads]) == 2
    expected = "job.toml, [model]: `hidden_size` 64 is no multiple of `n_heads` 7; choose numbers"
    assert expected in capsys.readouterr().err
    none = ["--model", "ensemble", "--set", "model.members=[]"]
    assert main(["check", "job.toml", *none]) == 2
    assert "`members`: cannot be (); give at least one" in capsys.readouterr().err


def test_classes_that_the_readings_do_not_have_are_bad_input(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit in another unit would train a model that is right in 100 % of all cases."""
    classes = ["job.toml", "--set", "head.kind=classes", "--set"]
    for command in ("check", "run"):
        assert main([command, *classes, "head.edges=[500, 900]"]) == 2
        assert re.search(
            r"\[head\] `edges`: all readings of the training part are in the class 'below 500 "
            r"veh/h'; give limits between \d\S+ and \d+",
            _shown(capsys),
        )
    assert main(["check", *classes, "head.edges=[50, 900]", "--json"]) == 0
    shares = json.loads(capsys.readouterr().out)["sizes"]["classes in training"]
    assert re.fullmatch(
        r"below 50 veh/h: \d\d %, 50 to 900 veh/h: \d\d %, 900 veh/h or more: 0 %", shares
    )


def _shown(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command printed, on one line."""
    return " ".join(" ".join(capsys.readouterr()).split())


def test_init_writes_a_config_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A config that somebody edited is not lost by accident."""
    assert main(["init"]) == 0
    assert "stgraph check stgraph.toml" in capsys.readouterr().out
    (project / "stgraph.toml").write_text("mine")
    assert main(["init"]) == 2
    assert (project / "stgraph.toml").read_text() == "mine"
    assert main(["init", "--force"]) == 0
    assert "[data]" in (project / "stgraph.toml").read_text()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """What every bug report begins with."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stgraph-gis {stgraph.__version__}\n"


def test_info_names_versions_and_what_is_registered(capsys: pytest.CaptureFixture[str]) -> None:
    """The first question of every bug report."""
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"stgraph-gis", "python", "packages", "device", "models"} <= set(facts)
    assert "gcn_lstm" in facts["models"]
    assert main(["info"]) == 0
    assert "geopackage" in capsys.readouterr().out


def test_a_fault_of_ours_is_code_1_and_says_where_the_traceback_is(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input and bugs must not look alike."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(pipeline, "load_graph", fail)
    assert main(["check", "job.toml"]) == 1
    error = capsys.readouterr().err
    assert "internal error: ZeroDivisionError: oh" in error
    assert "Traceback" not in error
    path = Path(error.split("the traceback is in ")[1].strip())
    assert "in fail" in path.read_text()
    path.unlink()
    assert main(["check", "job.toml", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interruption_is_code_130(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for every program that Ctrl-C ended."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "load_graph", interrupt)
    assert main(["run", "job.toml"]) == 130
    assert "interrupted; `--resume` goes on with the training" in capsys.readouterr().err
    assert main(["check", "job.toml"]) == 130
    assert capsys.readouterr().err.strip() == "stgraph: interrupted"


def test_an_output_that_fails_late_leaves_the_model_and_no_half_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes of training are kept when the disk is full at the end."""
    assert main(["fit", "job.toml", "-q"]) == 0

    def full(*_: object, **__: object) -> None:
        raise OutputError("no space left")

    monkeypatch.setattr("stgraph_connectors.sinks.geopackage.write_geopackage", full, raising=True)
    assert main(["forecast", "job.toml"]) == 2
    assert (project / "runs/job/checkpoint/model.json").exists()
    assert not (project / "runs/job/forecast.gpkg").exists()


def test_results_as_json_are_all_that_stdout_holds(project: Path) -> None:
    """A bar or message in between would break every program that reads the answer."""
    command = [sys.executable, "-m", "stgraph.cli", "run", "job.toml", "--json"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == {"skill", "verdict", "outputs"}
    assert "Epoch" in done.stderr


def test_another_model_by_its_name_leaves_the_options_of_the_file_behind(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`hidden_size` of the file's gcn_lstm is no option of ridge."""
    assert main(["fit", "job.toml", "--model", "ridge", "--quiet"]) == 0
    document = json.loads((project / "runs/job/checkpoint/model.json").read_text())
    assert (document["model"], document["options"]) == ("ridge", {})
    assert main(["evaluate", "job.toml", "--model", "ridge", "--quiet"]) == 0
    assert main(["evaluate", "job.toml", "--quiet"]) == 2
    assert "fitted with another config" in capsys.readouterr().err
    assert main(["fit", "job.toml", "--model", "rigde"]) == 2
    assert "did you mean 'ridge'" in capsys.readouterr().err


def test_an_automatic_choice_shows_and_keeps_what_it_tried(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--model", "auto", "--set", 'model.candidates=["persistence", "ridge"]', "--quiet"]
    assert main(["run", "job.toml", *chosen]) == 0
    shown = capsys.readouterr().out
    assert "What auto is made of" in shown
    assert "much worse than the best" in shown
    kept = pd.read_csv(project / "runs/job/selection.csv")
    assert kept["model"].tolist() == ["persistence", "ridge"]
    report = json.loads((project / "runs/job/report.json").read_text())
    assert [row["model"] for row in report["tried"]] == ["persistence", "ridge"]
    assert main(["forecast", "job.toml", *chosen]) == 0
    assert main(["fit", "job.toml", "--model", "ridge", "--quiet"]) == 0
    assert not (project / "runs/job/selection.csv").exists()
    capsys.readouterr()
    assert main(["run", "job.toml", *chosen, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tried"]) == 2
    assert main(["info", "runs/job", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["head"] == "quantiles"
    assert list(facts["tried"]) == ["1. persistence, seed 0:", "2. ridge, seed 0:"]
