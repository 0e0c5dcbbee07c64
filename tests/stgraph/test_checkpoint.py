"""Models on disk: the same forecast in a new process, and nothing odd is ever loaded."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle  # noqa: TID251 - to show that it is refused
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learned_models import BLENDS, SMALL, as_needed
from safetensors.torch import load_file, save_file

from stgraph import checkpoint, registry
from stgraph.checkpoint import load_forecaster, save_forecaster
from stgraph.config import TrainConfig
from stgraph.errors import CheckpointError, OutputError
from stgraph.forecasting import Forecaster
from stgraph.graph import Feature, STGraph
from stgraph.training import fit

W, H = 6, 4
OPTIONS = {**SMALL, **BLENDS}
FILES = ("model.json", "weights.safetensors")


def fitted(graph: STGraph, model: str = "gcn_lstm", **options: Any) -> Forecaster:
    given = {"window": W, "horizon": H, "options": OPTIONS.get(model), **options}
    return fit(graph, model=model, train=TrainConfig(max_epochs=1, device="cpu"), **given)


@pytest.fixture(scope="module")
def graph(make_signal: Callable[..., STGraph]) -> STGraph:
    return make_signal(4)


@pytest.fixture(scope="module")
def forecaster(graph: STGraph) -> Forecaster:
    return fitted(graph)


@pytest.fixture
def saved(forecaster: Forecaster, tmp_path: Path) -> Path:
    return save_forecaster(forecaster, tmp_path / "model")


# ------------------------------------------------------------------------------ round trip


@pytest.mark.parametrize("model", registry.names("models"))
def test_save_and_load_gives_the_same_forecast(make_signal, tmp_path, model: str) -> None:
    graph = as_needed(make_signal(3, 24 * 18), model)  # long enough for a season of a week
    forecaster = fitted(graph, model)
    loaded = load_forecaster(save_forecaster(forecaster, tmp_path / model))
    assert loaded.forecast(graph).equals(forecaster.forecast(graph))
    assert loaded.model == model
    assert loaded.fitted_until == forecaster.fitted_until
    assert loaded.tuned_until == forecaster.tuned_until
    assert dict(loaded.notes) == dict(forecaster.notes)
    assert loaded.node_ids.equals(forecaster.node_ids)
    assert loaded.inputs.features == forecaster.inputs.features


def test_loaded_models_can_be_saved_again(forecaster, saved, tmp_path) -> None:
    again = save_forecaster(load_forecaster(saved), tmp_path / "again")
    for name in FILES:
        assert (again / name).read_bytes() == (saved / name).read_bytes()


TASKS: dict[str, dict[str, Any]] = {
    "text ids": {},
    "whole numbers as ids": {"ids": "int"},
    "two targets": {"n_targets": 2},
    "without a profile": {"n_steps": 60, "step": "7min"},
}
NEW_PROCESS = """
import importlib.util, sys
from pathlib import Path
import numpy as np
spec = importlib.util.spec_from_file_location("signals", sys.argv[1])
signals = importlib.util.module_from_spec(spec)
spec.loader.exec_module(signals)
from stgraph.checkpoint import load_forecaster
for folder in map(Path, sys.argv[2:]):
    recent = signals._signal(3, **eval((folder / "task").read_text())).select_steps(-48)
    forecast = load_forecaster(folder / "model").forecast(recent)
    np.save(folder / "forecast.npy", forecast.values)
    assert "lightning" not in sys.modules  # forecasting needs no training code
"""


def test_a_new_process_without_the_training_data_gives_the_same_bits(make_signal, tmp_path) -> None:
    wanted = {}
    for number, (name, options) in enumerate(TASKS.items()):
        folder = tmp_path / str(number)
        graph = make_signal(3, **options)
        forecaster = fitted(graph)
        save_forecaster(forecaster, folder / "model")
        (folder / "task").write_text(repr(options))
        wanted[name] = (folder, forecaster.forecast(graph.select_steps(-48)).values)
    script = tmp_path / "script.py"
    script.write_text(NEW_PROCESS)
    subprocess.run(
        [
            *(sys.executable, script, Path(__file__).with_name("conftest.py")),
            *(folder for folder, _ in wanted.values()),
        ],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    for name, (folder, values) in wanted.items():
        np.testing.assert_array_equal(np.load(folder / "forecast.npy"), values, err_msg=name)


def test_whole_numbers_stay_whole_numbers(make_signal, tmp_path) -> None:
    graph = make_signal(3, ids="int")
    loaded = load_forecaster(save_forecaster(fitted(graph, "persistence"), tmp_path / "m"))
    assert loaded.node_ids.tolist() == [100, 107, 114]
    texts = graph.replace(nodes=graph.nodes.set_axis(["100", "107", "114"]))
    with pytest.raises(CheckpointError, match=r"3 nodes are missing \[100, 107, 114\]"):
        loaded.forecast(texts)


def test_ids_of_every_script_survive(make_signal, tmp_path) -> None:
    graph = make_signal(3)
    graph = graph.replace(nodes=graph.nodes.set_axis(["Ōtāhuhu", "007", '"a"\n']))
    loaded = load_forecaster(save_forecaster(fitted(graph, "persistence"), tmp_path / "m"))
    assert loaded.node_ids.tolist() == ["Ōtāhuhu", "007", '"a"\n']
    loaded.check(graph)


def test_a_loaded_model_refuses_another_graph(saved, graph, make_signal) -> None:
    loaded = load_forecaster(saved)
    others = {
        "`nodes`: 1 nodes are missing": graph.select_nodes(["s0", "s1", "s2"]),
        "`nodes`: order differs: 's3' at position 0": graph.select_nodes(["s3", "s2", "s1", "s0"]),
        "`features`": graph.replace(features=(Feature("flow", "km/h"),)),
        "`time`: step": make_signal(4, step="30min"),
        "`zone`: 'UTC', fitted on 'Pacific/Auckland'": graph.replace(zone="UTC"),
    }
    for where, other in others.items():
        with pytest.raises(CheckpointError, match=where):
            loaded.forecast(other)


# ------------------------------------------------------------------------------ bad files


def test_nothing_in_the_folder_is_a_pickle(saved) -> None:
    assert sorted(path.name for path in saved.iterdir()) == sorted(FILES)
    json.loads((saved / "model.json").read_text(encoding="utf-8"))
    assert load_file(saved / "weights.safetensors")


class Bomb:
    """A pickle that would leave a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch exploded",))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pickle", "torch", "empty", "half", "text", "missing", "folder"])
def test_files_that_are_none_are_refused(saved, name, kind, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved / name
    whole = path.read_bytes()
    path.unlink()
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif kind == "torch":
        torch.save({"a": Bomb()}, path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "text": b"hello"}[kind])
    with pytest.raises(CheckpointError, match=rf"{name.split('.')[0]}"):
        load_forecaster(saved)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("folder", ["nowhere", "file", "empty"])
def test_folders_that_hold_no_model(tmp_path, folder: str) -> None:
    (tmp_path / "file").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no model .*give the folder that"):
        load_forecaster(tmp_path / folder)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "model.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize("found", [1, 99, None, "1", 0])
def test_other_formats_are_refused(saved, found: object) -> None:
    edit(saved, lambda d: d.update(format=found))
    todo = "upgrade" if found == 99 else "fit the model again"
    match = rf"has format {found!r}, this version reads 3; {todo}"
    with pytest.raises(CheckpointError, match=match):
        load_forecaster(saved)


def test_reading_a_model_moves_no_random_state(saved) -> None:
    before = torch.get_rng_state()
    load_forecaster(saved)
    torch.testing.assert_close(torch.get_rng_state(), before)


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another window": lambda d: d["inputs"].update(window=5),
    "window as text": lambda d: d["inputs"].update(window="6"),
    "another horizon": lambda d: d["inputs"].update(horizon=3),
    "another step": lambda d: d["inputs"].update(step_seconds=60),
    "another zone": lambda d: d["inputs"].update(zone="UTC"),
    "no such zone": lambda d: d["inputs"].update(zone="Mars/Olympus"),
    "another node": lambda d: d["node_ids"].append("s9"),
    "nodes in another order": lambda d: d["node_ids"].reverse(),
    "nodes that are none": lambda d: d.update(node_ids=7),
    "another scale": lambda d: d["inputs"]["scaler"]["scale"][0].__setitem__(0, 3.0),
    "a scale of zero": lambda d: d["inputs"]["scaler"]["scale"][0].__setitem__(0, 0.0),
    "no scaler": lambda d: d["inputs"].pop("scaler"),
    "no inputs": lambda d: d.pop("inputs"),
    "inputs as list": lambda d: d.update(inputs=[1, 2]),
    "one more key": lambda d: d["inputs"].update(surprise=1),
    "another size": lambda d: d["options"].update(hidden_size=16),
    "another model": lambda d: d.update(model="identity_mlp", options={}),
    "no options": lambda d: d.update(options=None),
    "another date": lambda d: d.update(tuned_until="2030-01-01T00:00:00+00:00"),
    "no date": lambda d: d.update(fitted_until="soon"),
    "another feature": lambda d: d["inputs"]["features"][0].__setitem__(0, "flow"),
    "a feature cut short": lambda d: d["inputs"].update(features=[[]]),
    "a season of its own": lambda d: d["inputs"].update(season_steps=7),
    "a calendar column": lambda d: d["inputs"].update(calendar=["someday"]),
    "another profile": lambda d: d["inputs"]["profile"].update(season="week"),
    "no profile": lambda d: d["inputs"].update(profile=None),
    "notes": lambda d: d["notes"].update(seed=9),
}


@pytest.mark.parametrize("name", sorted(EDITS))
def test_an_edited_model_is_refused(saved, name: str) -> None:
    edit(saved, EDITS[name])
    with pytest.raises(CheckpointError, match=r"is damaged or was edited .*; fit the model again"):
        load_forecaster(saved)


def test_a_reformatted_model_is_the_same_model(saved, graph, forecaster) -> None:
    edit(saved, lambda d: None)  # other white space
    assert load_forecaster(saved).forecast(graph).equals(forecaster.forecast(graph))


def test_files_of_two_models_are_not_mixed(saved, graph, tmp_path) -> None:
    other = save_forecaster(fitted(graph, horizon=H, fractions=(0.6, 0.2, 0.2)), tmp_path / "b")
    shutil.copy(other / "weights.safetensors", saved)
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_forecaster(saved)


@pytest.mark.parametrize("change", ["less", "more", "shape", "other"])
def test_weights_that_do_not_fit_are_refused(saved, change: str) -> None:
    path = saved / "weights.safetensors"
    arrays = load_file(path)
    name = "predictor.model.decoder.fuse.linear.weight"
    if change == "less":
        arrays.pop(name)
    elif change == "more":
        arrays["predictor.model.surprise"] = torch.zeros(2)
    elif change == "shape":
        arrays[name] = torch.zeros(3, 3)
    else:
        arrays = {"a": torch.zeros(2)}
    save_file(arrays, path)
    with pytest.raises(CheckpointError, match="is damaged or was edited"):
        load_forecaster(saved)


# ------------------------------------------------------------------------------ failing writes


def test_a_model_replaces_an_older_one(saved, graph) -> None:
    other = fitted(graph, "persistence")
    save_forecaster(other, saved)
    assert load_forecaster(saved).model == "persistence"
    assert [path.name for path in saved.parent.iterdir()] == ["model"]  # nothing left aside


def test_a_folder_with_other_things_is_not_touched(forecaster, tmp_path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("...")
    (tmp_path / "file").write_text("...")
    for name in ("precious", "file"):
        with pytest.raises(OutputError, match=f"{name} exists and holds no model"):
            save_forecaster(forecaster, tmp_path / name)
    assert (tmp_path / "precious" / "thesis.tex").exists()
    with pytest.raises(OutputError, match="cannot write"):
        save_forecaster(forecaster, tmp_path / "file" / "model")


@pytest.mark.parametrize("step", ["weights", "json", "move"])
def test_an_older_model_survives_a_failed_write(saved, graph, forecaster, step, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    plain = Path.replace
    if step == "weights":
        monkeypatch.setattr(checkpoint, "save_file", full)
    elif step == "json":
        monkeypatch.setattr(Path, "write_text", full)
    else:  # the old one is moved aside, then the new one cannot be moved in
        monkeypatch.setattr(
            Path, "replace", lambda p, to: full() if p.name == "new" else plain(p, to)
        )
    with pytest.raises(OutputError, match="No space left on device"):
        save_forecaster(fitted(graph, "persistence"), saved)
    monkeypatch.undo()
    assert load_forecaster(saved).forecast(graph).equals(forecaster.forecast(graph))
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_disk_that_is_really_full(forecaster, tmp_path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot write"):
            save_forecaster(forecaster, tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_notes_of_any_kind_can_be_saved(forecaster, tmp_path) -> None:
    odd = dataclasses.replace(forecaster, notes={"seed": np.int64(3), "where": tmp_path})
    save_forecaster(odd, tmp_path / "model")
    assert load_forecaster(tmp_path / "model").notes == {"seed": 3, "where": str(tmp_path)}
