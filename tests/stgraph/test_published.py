"""The published protocol: its windows by arithmetic, its tables, and a whole run on small files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stgraph import training
from stgraph.cli import main
from stgraph.errors import InputError, UnknownNameError
from stgraph.published import SHARES, SOURCES, published_table, split_published

Capture = pytest.CaptureFixture[str]
SMALL = ["train.max_epochs=1", "model.hidden_size=4", "train.batch_size=128"]
OPTIONS = ["-q", *(f"--set={change}" for change in SMALL)]


@pytest.mark.parametrize(
    ("dataset", "n_steps", "sizes"),
    [
        ("metr-la", 34_272, (23_974, 3_425, 6_850)),
        ("pems-bay", 52_116, (36_465, 5_209, 10_419)),
        ("pems03", 26_208, (15_711, 5_237, 5_237)),
        ("pems04", 16_992, (10_181, 3_394, 3_394)),
        ("pems07", 28_224, (16_921, 5_640, 5_640)),
        ("pems08", 17_856, (10_700, 3_567, 3_566)),
    ],
)
def test_windows_are_those_of_the_logs(
    dataset: str, n_steps: int, sizes: tuple[int, int, int]
) -> None:
    """Every window once, in time order, nothing left out: as Torch-MTS logs its data sets."""
    split = split_published(n_steps, dataset)
    parts = (split.train, split.validation, split.test)
    assert tuple(len(part) for part in parts) == sizes
    assert [start for part in parts for start in part] == list(range(n_steps - 23))


def test_splits_that_cannot_be() -> None:
    with pytest.raises(UnknownNameError, match=r"no benchmark is called 'metrla' .did you mean"):
        split_published(34_272, "metrla")
    with pytest.raises(InputError, match="24 steps are too few to split; give the whole data set"):
        split_published(24, "metr-la")


def test_published_numbers_are_whole() -> None:
    """Rows have their source; errors grow with the horizon; the average lies in between."""
    for dataset in SHARES:
        table = published_table(dataset)
        assert set(table["source"]) <= set(SOURCES)
        assert not table.duplicated(["model", "horizon", "source"]).any()
        assert table["mae"].notna().all()
        wide = table.pivot_table(index=["model", "source"], columns="horizon", values="mae")
        if {3, 6, 12} <= set(wide.columns):
            full = wide.dropna()
            assert len(full) > 10
            assert (full[3] <= full[6]).all()
            assert (full[6] <= full[12]).all()
            assert ((full[3] <= full[0]) & (full[0] <= full[12])).all()
    best = published_table("metr-la").query("horizon == 0").set_index("model")
    assert best.loc["STAEformer", ["mae", "rmse", "mape_percent"]].tolist() == [2.93, 5.98, 8.09]


def write_speeds(path: Path, *, n_steps: int = 700, n_nodes: int = 4) -> None:
    """Write days of speeds with some zeros, as pandas writes metr-la.h5."""
    random = np.random.default_rng(0)
    time = pd.date_range("2012-03-01", periods=n_steps, freq="5min").as_unit("ns")
    day = 60 + 8 * np.sin(2 * np.pi * np.arange(n_steps) / 288)[:, None]
    values = day + random.normal(0, 1, (n_steps, n_nodes))
    values[random.random(values.shape) < 0.05] = 0
    ids = [str(700000 + i) for i in range(n_nodes)]
    pd.DataFrame(values, time, ids).to_hdf(path, key="df", format="fixed")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


def test_a_run_on_speeds(capsys: Capture) -> None:
    """Ours stands above the published rows; what makes the run incomparable is said first."""
    write_speeds(Path("metr-la.h5"))
    Path("graph").mkdir()
    ids = [str(700000 + i) for i in range(4)]
    pd.to_pickle([ids, {}, np.eye(4, k=1, dtype=np.float32)], "graph/adj_mx.pkl", protocol=2)
    places = "".join(f"{i},{700000 + i},34.1,{-118 + 0.01 * i}\n" for i in range(4))
    Path("graph/graph_sensor_locations.csv").write_text(places)
    command = ["benchmark", "metr-la", "--data", "metr-la.h5", "--graph", "graph", *OPTIONS]
    assert main(command) == 0
    out = capsys.readouterr().out
    for words in ("gcn_lstm", "persistence", "2.93  5.98  8.09", "15 min", "this run"):
        assert words in out
    assert "NOT COMPARABLE" in out
    assert "windows: 474 for training, 68 for validation, 135 tested" in out
    assert "ours reads 12 steps, the time, and each sensor's usual day in the training part;" in out


def test_a_run_on_flows_as_json(capsys: Capture) -> None:
    """Ours and theirs in one list, with their sources; a part of a data set is no comparison."""
    random = np.random.default_rng(0)
    np.savez("PEMS08.npz", data=random.uniform(50, 90, (700, 3, 3)).astype(np.float32))
    Path("PEMS08.csv").write_text("from,to,cost\n0,1,352.6\n1,2,34.2\n")
    command = ["benchmark", "pems08", "--data", "PEMS08.npz", "--graph", "PEMS08.csv"]
    command += ["--model", "persistence", "--json", "-q", "--set=evaluate.baselines=[]"]
    assert main(command) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["comparable"] is False
    assert answer["windows"] == {"train": 406, "validation": 135, "test": 136}
    ours = [row for row in answer["table"] if row["source"] == "this run"]
    assert [row["horizon"] for row in ours] == [3, 6, 12, 0]
    theirs = {row["model"]: row["mae"] for row in answer["table"] if row["source"] != "this run"}
    assert theirs["STAEformer"] == 13.55


def test_earlier_weeks_are_read_only_when_asked_for_and_that_is_said(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published models read 12 steps: a run that reads weeks has another information set."""
    shown: list[bool] = []

    def fit(*args: Any, use_seasons: bool, **options: Any) -> Any:
        shown.append(use_seasons)
        return real(*args, use_seasons=use_seasons, **options)

    real = training.fit
    monkeypatch.setattr(training, "fit", fit)
    write_speeds(Path("b.h5"))
    command = ["benchmark", "metr-la", "--data", "b.h5", "--model", "profile_decay", "-q"]
    assert main([*command, "--set=evaluate.baselines=[]"]) == 0
    assert "four weeks" not in capsys.readouterr().out
    assert main([*command, "--set=prepare.seasons=true"]) == 0
    assert "AND the same time in the last four weeks" in capsys.readouterr().out
    assert shown == [False, True]


def test_what_an_automatic_choice_tried_is_shown(capsys: Capture) -> None:
    write_speeds(Path("b.h5"), n_steps=400)
    command = ["benchmark", "metr-la", "--data", "b.h5", "--model", "auto", "-q"]
    command += ['--set=model.candidates=["persistence", "ridge"]', "--set=evaluate.baselines=[]"]
    assert main(command) == 0
    assert "What auto is made of" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    tried = json.loads(capsys.readouterr().out)["tried"]
    assert [row["model"] for row in tried] == ["persistence", "ridge"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metrla", "--data", "a.h5"], "no benchmark is called 'metrla'"),
        (["metr-la", "--data", "a.h5"], "a.h5: no such file"),
        (["metr-la", "--data", "b.h5", "--set=windows.window=6"], "protocol is 12 to 12"),
        (["metr-la", "--data", "b.h5", "--set=windows.fractions=[0.6,0.2,0.2]"], "its own split"),
        (["metr-la", "--data", "b.h5", "--set=prepare.outliers={}"], "every reading but 0"),
        (["metr-la", "--data", "b.h5", "--model", "seasonal_naive"], "set it to true"),
        (
            ["metr-la", "--data", "b.h5", "--set=head.kind=classes", "--set=head.edges=[30,50]"],
            "errors of numbers are published",
        ),
        (["metr-la", "--data", "b.h5", "--model", "gcnlstm"], "did you mean 'gcn_lstm'"),
        (["metr-la", "--data", "b.h5", "--graph", "none.pkl"], "none.pkl: no such file"),
        (["metr-la"], "--data"),
    ],
)
def test_wrong_calls_are_one_message(arguments: list[str], message: str, capsys: Capture) -> None:
    """What, where and what to do; no traceback and nothing trained."""
    write_speeds(Path("b.h5"), n_steps=100)
    assert main(["benchmark", *arguments, "-q"]) == 2
    assert message in capsys.readouterr().err


def test_the_head_of_the_job_is_the_one_that_is_measured(monkeypatch) -> None:
    from stgraph.configfile import check_tables
    from stgraph.published import run_published

    write_speeds(Path("b.h5"), n_steps=400)
    tables = {
        "data": {"connector": "published", "dataset": "metr-la", "path": "b.h5"},
        "graph": {"method": "given"},
        "model": {"name": "persistence"},
        "head": {"kind": "gaussian"},
        "evaluate": {"baselines": []},
    }
    heads = []
    fit = training.fit
    monkeypatch.setattr(
        training, "fit", lambda *args, **given: heads.append(given["head"]) or fit(*args, **given)
    )
    run_published(check_tables(tables, name="job", title="no", folder=Path.cwd()))
    assert [head.kind for head in heads] == ["gaussian"]


def test_an_error_per_horizon_is_that_of_the_single_step(capsys: Capture) -> None:
    """Persistence on a ramp is wrong by the steps ahead; the average pools all 12, zeros aside."""
    ramp = np.arange(1, 401, dtype=np.float32)[:, None, None]
    ramp = np.repeat(ramp, 2, axis=1)
    ramp[350, 0] = 0  # a missing reading, by the protocol; it is no target and no last value
    np.savez("PEMS04.npz", data=ramp)
    command = ["benchmark", "pems04", "--data", "PEMS04.npz", "--model", "persistence"]
    assert main([*command, "--json", "-q", "--set=evaluate.baselines=[]"]) == 0
    rows = json.loads(capsys.readouterr().out)["table"][:4]
    split = split_published(400, "pems04")
    for row in rows:
        steps = [row["horizon"]] if row["horizon"] else range(1, 13)
        errors = []
        for start in split.test:
            for node in range(2):
                last = start + 11 - (node == 0 and start + 11 == 350)
                for step in steps:
                    target = start + 11 + step
                    if not (node == 0 and target == 350):
                        errors.append(target - last)
        assert row["mae"] == pytest.approx(np.mean(errors), rel=1e-5)
        assert row["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-5)
