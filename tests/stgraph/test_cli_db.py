"""The commands around a database: what they do, print, and never print."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
from stgraph_connectors.sinks.postgis import write_postgis

from stgraph.cli import main
from stgraph.graph import STGraph

SECRET = "tr0ub4dor"


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """No database of the developer's."""
    monkeypatch.delenv("STGRAPH_DSN", raising=False)


@pytest.mark.parametrize(
    "command",
    ["db init", "db upgrade", "db status", "db prune --keep 30d", "qgis project --out a.qgz"],
)
def test_a_database_has_to_be_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Nothing is guessed: the DSN comes from the environment or an option."""
    for value in (None, "", "  "):
        if value is not None:
            monkeypatch.setenv("STGRAPH_DSN", value)
        assert main(command.split()) == 2
        message = capsys.readouterr().err
        assert "no database is named; run: export STGRAPH_DSN='service=traffic'" in message


@pytest.mark.parametrize(
    "dsn",
    [
        f"ana {SECRET}",
        f"postgresql://ana:{SECRET}@127.0.0.1:1/traffic",
        f"host=127.0.0.1 port=1 password={SECRET}",
        f"postgresql://ana:a@{SECRET}@127.0.0.1:1/traffic",
        f"postgresql://ana:a/{SECRET}@127.0.0.1:1/traffic",
    ],
)
def test_no_command_shows_a_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """Neither in a message, nor with `--debug`, nor in help, however wrong the DSN is."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("STGRAPH_DSN", dsn)
    assert main(["db", "init", "--debug"]) == 2
    assert main(["db", "init", "--schema", "pg_x"]) == 2
    assert main(["db", "init", "--help"]) == 0
    assert main(["db", "init", "--dns", "x"]) == 2
    out, err = capsys.readouterr()
    assert "STGRAPH_DSN" in out
    assert SECRET not in out + err


@pytest.mark.postgis
def test_init_can_be_repeated_and_says_what_to_grant(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From nothing to tables and roles; the lines that it prints are SQL that works."""
    monkeypatch.setenv("STGRAPH_DSN", database)
    assert main(["db", "init"]) == 0
    assert capsys.readouterr().out == "schema 'stgraph' was made to version 3\n"
    assert main(["db", "upgrade"]) == 0
    assert capsys.readouterr().out == "schema 'stgraph' was at version 3 already\n"
    assert main(["db", "init", "--roles", "--schema", 'o"dd', "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema"], answer["before"], answer["after"]) == ('o"dd', 0, 3)
    assert sorted(answer["roles"]) == ['o"dd_owner', 'o"dd_reader', 'o"dd_writer']
    lines = [line for line in answer["grants"] if not line.startswith("--")]
    assert 'GRANT "o""dd_reader" TO <person in QGIS>;' in lines
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE ROLE stgraph_test_login LOGIN")
        for line in lines:
            connection.execute(line.split("<")[0].encode() + b"stgraph_test_login")
    assert main(["db", "init", "--roles", "--schema", 'o"dd']) == 0
    out = capsys.readouterr().out
    assert out.startswith("schema 'o\"dd' was at version 3 already\n-- run with the names of your")
    assert main(["db", "upgrade", "--json", "--dsn", database]) == 0
    assert json.loads(capsys.readouterr().out)["after"] == 3


@pytest.mark.postgis
def test_what_is_missing_is_said(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a schema, the message has the command that makes it."""
    assert main(["db", "upgrade", "--dsn", database, "--schema", "city"]) == 2
    assert "run: stgraph db init --schema city" in capsys.readouterr().err
    assert main(["db", "init", "--dsn", database, "--schema", "public"]) == 2
    assert "which belongs to others" in capsys.readouterr().err


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """The groups are found from the top."""
    assert main(["--help"]) == 0
    assert main(["db", "--help"]) == 0
    out = capsys.readouterr().out
    for name in (" db ", " qgis ", " init ", " upgrade ", " status ", " prune "):
        assert name in out


def publish(dsn: str, graph: STGraph) -> None:
    """Publish a small forecast, whatever its values."""
    issued = graph.time[-1]
    forecast = graph.replace(
        time=pd.date_range(issued + pd.Timedelta(minutes=5), periods=3, freq="5min"),
        values=np.ones((3, graph.n_nodes, 1), dtype=np.float32),
        mask=None,
        provenance={"kind": "forecast", "issued_at": issued.isoformat(), "model": "made up"},
    )
    write_postgis(forecast, dsn, observations=graph)


@pytest.mark.postgis
def test_a_dataset_is_looked_after(
    database: str,
    graph: STGraph,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Project, status and pruning of a published dataset, for people and as JSON."""
    monkeypatch.setenv("STGRAPH_DSN", database)
    monkeypatch.chdir(tmp_path)
    assert main(["db", "init", "--json"]) == 0
    capsys.readouterr()
    assert main(["db", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["current_issue"] is None
    assert main(["qgis", "project", "--out", "a.qgz"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    publish(database, graph)
    assert main(["qgis", "project", "--out", "a.qgz"]) == 0
    assert capsys.readouterr().out == "a.qgz\n"
    assert main(["qgis", "project", "--out", "a.qgz"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["qgis", "project", "--out", "a.qgz", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"outputs": ["a.qgz"]}
    with zipfile.ZipFile("a.qgz") as archive:
        assert b"forecast_latest" in archive.read("a.qgs")
    assert main(["db", "status", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    expected = {"schema": "stgraph", "n_nodes": 5, "n_issues": 1, "n_instants": 10}
    assert expected.items() <= facts.items()
    assert facts["current_issue"].startswith("2024-01-01T00:45")
    assert main(["db", "status"]) == 0
    out = capsys.readouterr().out
    for words in ("observation_latest", "support", "2024-01-01T00:45:00+00:00", "last failure │ -"):
        assert words in out
    assert main(["db", "prune", "--keep", "1d"]) == 0
    assert "issues" in capsys.readouterr().out  # that of the current issue stays
    assert main(["db", "prune", "--keep", "1d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_issues"] == 0
    assert main(["db", "prune", "--keep", "soon"]) == 2
    assert "'soon'" in capsys.readouterr().err
