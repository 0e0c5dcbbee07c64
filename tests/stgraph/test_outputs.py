"""Outputs that are databases: which key they take, what they are told, what is never shown."""

# ruff: noqa: E501  # the table below has one case per line

from __future__ import annotations

import json
import logging
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stgraph import outputs, pipeline, registry
from stgraph.cli import main
from stgraph.config import JobConfig, OutputConfig, describe_secret
from stgraph.configfile import read_config
from stgraph.errors import ConfigError, InputError, OutputError
from stgraph.graph import STGraph

SECRET = "tr0ub4dor"
DSN = f"postgresql://ana:{SECRET}@db.example.org:5433/traffic?sslmode=require"
SHOWN = "database 'traffic' on db.example.org, port 5433"
CONFIG = """\
[data]
stations = "stations.csv"
readings = "readings.csv"
feature = "flow"
[graph]
k = 2
[windows]
window = 6
horizon = 4
[model]
name = "persistence"
[evaluate]
baselines = ["seasonal_naive"]
"""
OUTPUT = """\
[[output]]
sink = "made_up"
dsn = "${STGRAPH_DSN}"
schema = "city"
"""
WRITTEN: list[dict[str, Any]] = []


def write_made_up(
    graph: STGraph,
    dsn: str,
    *,
    schema: str = "stgraph",
    node_metrics: pd.DataFrame | None = None,
    observations: STGraph | None = None,
    config: dict[str, Any] | None = None,
) -> None:
    """Keep what a database would be given."""
    if schema == "down":
        raise OutputError("the database is down")
    WRITTEN.append(
        {
            "graph": graph,
            "dsn": dsn,
            "schema": schema,
            "node_metrics": node_metrics,
            "observations": observations,
            "config": config,
        }
    )


def read_made_up(dsn: str, *, limit: int = 3) -> STGraph:
    """Fail, so that it shows what an error would tell."""
    raise InputError(f"{len(dsn)} characters, limit {limit}")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five stations, 20 days of hourly readings, and another package's sink; the working folder."""
    places = [f"{i},{52.5 + i / 1000},13.4" for i in range(5)]
    (tmp_path / "stations.csv").write_text("\n".join(["id,lat,lon", *places]))
    time = pd.date_range("2024-05-01", periods=480, freq="h", name="time")
    values = 50 + 30 * np.sin(2 * np.pi * np.arange(480)[:, None] / 24) + np.arange(5)
    pd.DataFrame(values, time, list("01234")).to_csv(tmp_path / "readings.csv")
    offered = {"sinks": write_made_up, "connectors": read_made_up}

    def entries(group: str) -> list[Any]:
        entry = type("Entry", (), {"name": "made_up", "load": lambda: offered[group]})
        return [entry] if group in offered else []

    monkeypatch.setattr(registry, "_entries", entries)
    monkeypatch.setenv("STGRAPH_DSN", DSN)
    monkeypatch.chdir(tmp_path)
    WRITTEN.clear()
    return tmp_path


def read(folder: Path, more: str = OUTPUT, *changes: str, config: str = CONFIG) -> JobConfig:
    (folder / "job.toml").write_text(config + more)
    return read_config(folder / "job.toml", overrides=changes)


def test_a_job_hands_over_forecast_errors_readings_and_config(project: Path) -> None:
    """A database gets errors per node and horizon and what was seen lately, by asking for them."""
    result = pipeline.run(read(project))
    assert result.outputs == (f"made_up: {SHOWN}, schema 'city'",)
    (given,) = WRITTEN
    assert (given["dsn"], given["schema"]) == (DSN, "city")
    assert given["graph"].equals(result.forecast)
    metrics = given["node_metrics"]
    assert metrics.index.names == ["node", "horizon"]
    assert set(metrics.index) == {(str(n), h) for n in range(5) for h in range(5)}
    expected = result.evaluation.per_node_and_horizon().loc[metrics.index, "mae"]
    assert metrics["mae"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-6)
    seen = given["observations"]
    assert seen.time[-1] == result.graph.time[-1]
    assert seen.n_steps == 7 * 24
    assert given["config"]["output"][0]["dsn"] == SHOWN
    assert given["config"]["windows"]["horizon"] == 4


def test_readings_after_the_issue_are_not_handed_over(project: Path) -> None:
    """What a forecast may not know is not published beside it."""
    pipeline.run(read(project, OUTPUT, "forecast.at=2024-05-10T12:00"))
    seen = WRITTEN[0]["observations"]
    assert str(seen.time[-1]) == "2024-05-10 12:00:00+00:00"
    assert str(seen.time[0]) == "2024-05-03 13:00:00+00:00"


def test_a_large_network_hands_over_fewer_days(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publication every few minutes must not compare a week of 50,000 segments."""
    graph = pipeline.load_graph(read(project))
    for most, steps in ((5 * 50, 50), (5, 6), (10**9, 7 * 24)):
        monkeypatch.setattr(outputs, "_MAX_VALUES", most)
        recent = outputs.recent_readings(graph, until=graph.time[-1], window=6)
        assert recent.n_steps == steps
        assert recent.time[-1] == graph.time[-1]


def test_a_new_model_leaves_databases_alone_and_removes_files(project: Path) -> None:
    """Only files of an older model go; a database keeps its last good issue."""
    more = OUTPUT + '[[output]]\nsink = "geopackage"\npath = "f.gpkg"\n'
    config = read(project, more)
    pipeline.run(config)
    graph = pipeline.load_graph(config)
    forecaster = pipeline.fit_job(config, graph)
    made = {path.name for path in (project / "runs/job").iterdir()}
    assert made == {"checkpoint", "training"} or made == {"checkpoint"}
    pipeline.forecast_job(config, graph, forecaster)
    assert WRITTEN[-1]["node_metrics"] is None  # those of the older model are gone


def test_damaged_errors_per_horizon_are_bad_input(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of ours that somebody edited is no fault of ours."""
    pipeline.run(read(project))
    for content in (b"", b"rubbish"):
        (project / "runs/job/errors.parquet").write_bytes(content)
        assert main(["forecast", "job.toml"]) == 2
        assert "errors.parquet is damaged or cannot be read; evaluate" in capsys.readouterr().err


# fmt: off
BAD_OUTPUTS = [
    ('sink = "made_up"', r"1 `dsn`: is missing; add `dsn = \.\.\.`"),
    ('sink = "made_up"\npath = "a.gpkg"', r"`path`: is for other sinks: 'made_up' takes `dsn`; add `dsn = "),
    (f'sink = "made_up"\ndsn = "{DSN}"\npath = "a"', r"1 problem\(s\)\n.*`path`: is for other sinks"),
    (f'sink = "geopackage"\ndsn = "{DSN}"', r"`dsn`: is for other sinks: 'geopackage' takes `path`"),
    (f'sink = "geopackage"\npath = "a.gpkg"\ndsn = "{DSN}"', r"1 problem\(s\)\n.*`dsn`: is for other sinks"),
    (f'sink = "made_up"\npath = "{DSN}"', r"`path`: is for other sinks"),
    (f'sink = "made_up"\ndns = "{DSN}"', r"`dns`: is an unknown key \(did you mean 'dsn'\?\)"),
    (f'sink = "made_up"\ndsn = ["{DSN}"]', r"`dsn`: is no text; give a connection string"),
    (f'sink = "made_up"\ndsn = "{DSN} host"', r"`dsn`: is no connection string; write 'service"),
    (f'sink = "made_up"\ndsn = "ana {SECRET}"', r"`dsn`: is no connection string"),
    ('sink = "made_up"\ndsn = ""', r"`dsn`: is empty; give a connection string"),
    ('sink = "made_up"\ndsn = "${STGRAPH_NOWHERE}"', r"names \$\{STGRAPH_NOWHERE\}, which is not set; run: export"),
    (f'sink = "made_down"\ndsn = "{DSN}"', r"`sink`: cannot be 'made_down' \(did you mean 'made_up'"),
    (f'sink = "made_up"\ndsn = "{DSN}"\n[[output]]\nsink = "made_up"\ndsn = "{DSN}"', r"`dsn`: the same schema is given twice; give every output"),
    (f'sink = "made_up"\ndsn = "{DSN}"\nport = 3', r"`port`: is an unknown key.*'dsn'"),
]
# fmt: on


@pytest.mark.parametrize(("output", "message"), BAD_OUTPUTS)
def test_bad_outputs_are_explained_without_the_connection_string(
    project: Path, capsys: pytest.CaptureFixture[str], output: str, message: str
) -> None:
    """Too many keys, too few, or no DSN: said clearly, and the password stays where it is."""
    with pytest.raises(ConfigError, match=message):
        read(project, f"[[output]]\n{output}\n")
    assert main(["check", "job.toml", "--debug"]) == 2
    out, err = capsys.readouterr()
    assert "ConfigError" in err
    assert SECRET not in out + err


@pytest.mark.parametrize(
    "change", [DSN, f"host=x password={SECRET}", f"x.y.z={DSN}", f"output.9.dsn={DSN}", f"a={DSN}"]
)
def test_changes_on_the_command_line_do_not_show_secrets(
    project: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    """A slip in `--set` is answered with the place, never with the value."""
    (project / "job.toml").write_text(CONFIG)
    assert main(["check", "job.toml", "--debug", "--set", change]) == 2
    out, err = capsys.readouterr()
    assert SECRET not in out + err


def test_no_way_of_showing_a_job_shows_its_secrets(
    project: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Printing, dumping, `info`, report, files and messages: where it leads, not how to get in."""
    caplog.set_level(logging.DEBUG)
    config = read(project)
    shown = [repr(config), str(config.model_dump()), config.model_dump_json()]
    assert main(["info", "job.toml", "--json"]) == 0
    assert main(["info", "job.toml"]) == 0
    assert main(["run", "job.toml", "--json", "--debug"]) == 0
    assert main(["run", "job.toml", "--set", "output.0.schema=down", "--debug"]) == 2
    shown += [*capsys.readouterr(), caplog.text]
    assert SHOWN in shown[3]
    files = [path for path in (project / "runs").rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert not [text for text in shown if SECRET in text]
    report = json.loads((project / "runs/job/report.json").read_text())
    assert report["config"]["output"][0]["dsn"] == SHOWN


def test_what_leads_nowhere_we_know_is_hidden_altogether() -> None:
    """A secret of another kind of server is not taken apart."""
    output = OutputConfig(sink="x", dsn=f"mqtt://:{SECRET}@host with spaces")
    assert output.dsn is not None
    assert describe_secret(output.dsn) == "**********"
    with pytest.raises(ConfigError, match="an output of 'x' needs a `path` or a `dsn`"):
        _ = OutputConfig(sink="x").target


def test_a_connector_may_read_from_a_database(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`[data]` takes a DSN under the same rules as `[[output]]`."""
    data = '[data]\nconnector = "made_up"\ndsn = "${STGRAPH_DSN}"\nlimit = 5\n'
    config = read(project, "", config=data)
    assert SECRET not in repr(config)
    with pytest.raises(InputError, match=f"{len(DSN)} characters, limit 5"):
        pipeline.load_graph(config)
    assert main(["info", "job.toml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["options"]["dsn"] == SHOWN
    with pytest.raises(ConfigError, match=r"\[data\] `dsn`: is missing"):
        read(project, "", config='[data]\nconnector = "made_up"\n')


def test_code_version_is_the_commit_of_the_folder(tmp_path: Path) -> None:
    """A folder under git says its commit and whether files differ; any other says nothing."""
    assert outputs.find_code_version(tmp_path / "not there") is None
    assert outputs.find_code_version(tmp_path) is None
    (tmp_path / "job.toml").write_text("a")
    for command in (
        "init --quiet",
        "add job.toml",
        "-c user.name=a -c user.email=a@example.org commit --quiet --message a",
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command.split()], check=True)
    clean = outputs.find_code_version(tmp_path)
    assert clean is not None
    assert len(clean) == 12
    (tmp_path / "job.toml").write_text("b")
    assert outputs.find_code_version(tmp_path) == f"{clean}-dirty"
