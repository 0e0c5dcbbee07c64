"""Training: repeatable, resumable after a kill, silent, and blind to what it must not see."""

from __future__ import annotations

import logging
import os
import random
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stgraph import learning, tensor_files
from stgraph.config import ModelConfig, TrainConfig
from stgraph.errors import CheckpointError, InputError, OutputError, TrainingError
from stgraph.forecasting import Forecaster
from stgraph.graph import Feature, STGraph
from stgraph.inputs import Source
from stgraph.models.predictor import Predictor
from stgraph.preprocessing.splits import split_windows
from stgraph.training import fit
from stgraph.windows import Windows

W, H = 6, 4
OPTIONS: dict[str, Any] = {
    "gcn_lstm": {"hidden_size": 8, "node_embedding_size": 4, "adaptive_rank": 2},
    "identity_mlp": {"hidden_size": 8, "node_embedding_size": 4, "n_layers": 1},
}
TRAIN = {"max_epochs": 4, "batch_size": 32, "device": "cpu"}


def trained(graph: STGraph, *, model: str = "gcn_lstm", **options: Any) -> Forecaster:
    """Fit a small model; options of `TrainConfig` go there, others to `fit`."""
    config = {key: options.pop(key) for key in list(options) if key in TrainConfig.model_fields}
    given = {"window": W, "horizon": H, "options": OPTIONS.get(model), **options}
    return fit(graph, model=model, train=TrainConfig(**{**TRAIN, **config}), **given)


def weights_of(forecaster: Forecaster) -> dict[str, torch.Tensor]:
    return forecaster.predictor.state_dict()


def same(first: Forecaster, second: Forecaster) -> bool:
    """Tell whether two models have bit-equal weights and calibration."""
    ours, theirs = weights_of(first), weights_of(second)
    calibrations = zip(
        vars(first.calibration).values(), vars(second.calibration).values(), strict=True
    )
    return all(torch.equal(ours[name], theirs[name]) for name in ours | theirs) and all(
        np.array_equal(a, b) for a, b in calibrations
    )


@pytest.mark.parametrize("model", sorted(OPTIONS))
def test_same_seed_same_weights(make_signal, model: str) -> None:
    graph = make_signal(4)
    first = trained(graph, model=model, max_epochs=2)
    torch.rand(7)  # what happened before does not matter
    assert same(first, trained(graph, model=model, max_epochs=2))
    assert not same(first, trained(graph, model=model, max_epochs=2, seed=1))


# ------------------------------------------------------------------------------ resume

KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path

def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

tests = load(Path(sys.argv[1]))
whole, count = tests.Predictor.loss, 0

def loss(self, batch):
    global count
    count += 1
    if count == 10:  # 4 batches an epoch: in the third
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, batch)

tests.Predictor.loss = loss
graph = load(Path(sys.argv[1]).with_name("conftest.py"))._signal(4)
tests.trained(graph, folder=sys.argv[2])
"""


def test_killed_and_resumed_is_as_if_nothing_had_happened(make_signal, tmp_path) -> None:
    script, job = tmp_path / "killed.py", tmp_path / "job"
    script.write_text(KILLED)
    killed = subprocess.run(
        [sys.executable, "-W", "always", script, __file__, job],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    graph = make_signal(4)
    resumed = trained(graph, folder=job, resume=True)
    assert list(metrics_of(job).index) == [2, 3]  # two epochs were done
    assert same(trained(graph), resumed)
    # once more changes nothing
    assert same(resumed, trained(graph, folder=job, resume=True))
    # some warnings come once per process only, and here was a fresh one
    assert killed.stdout == ""
    ours = [line for line in killed.stderr.splitlines() if "site-packages" not in line]
    words = ("stgraph", "beta", "GPU", "epoch", "litlogger", "max_epochs")
    assert [line for line in ours if any(word in line for word in words)] == []


def test_a_state_file_that_was_being_written_does_no_harm(make_signal, tmp_path, monkeypatch):
    graph, whole, calls = make_signal(4), tensor_files.save_file, []

    def cut_off(tensors: Any, path: Path, metadata: Any) -> None:
        whole(tensors, path, metadata)
        calls.append(1)
        if len(calls) == 4:
            path.write_bytes(path.read_bytes()[:1000])
            raise KeyboardInterrupt

    monkeypatch.setattr(tensor_files, "save_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        trained(graph, folder=tmp_path)
    monkeypatch.setattr(tensor_files, "save_file", whole)
    assert same(trained(graph), trained(graph, folder=tmp_path, resume=True))


def test_an_interrupted_training_goes_on(make_signal, tmp_path, monkeypatch) -> None:
    graph, whole, calls = make_signal(4), Predictor.loss, []

    def interrupted(self: Predictor, batch: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return whole(self, batch)

    monkeypatch.setattr(Predictor, "loss", interrupted)
    handler = signal.getsignal(signal.SIGINT)  # the default, or none in a process in the background
    with pytest.raises(KeyboardInterrupt):
        trained(graph, folder=tmp_path)
    monkeypatch.setattr(Predictor, "loss", whole)
    assert signal.getsignal(signal.SIGINT) is handler  # the next interrupt works, too
    assert same(trained(graph), trained(graph, folder=tmp_path, resume=True))


@pytest.mark.parametrize("cut", [7, 10, 13])
def test_averaged_weights_survive_an_interrupt(make_signal, tmp_path, monkeypatch, cut) -> None:
    """Protects both sets of weights, those that learn and their averages, and how many they are."""
    graph, whole, calls = make_signal(4), Predictor.loss, []

    def interrupted(self: Predictor, batch: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == cut:
            raise KeyboardInterrupt
        return whole(self, batch)

    monkeypatch.setattr(Predictor, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(graph, folder=tmp_path, ema_decay=0.9)
    monkeypatch.setattr(Predictor, "loss", whole)
    unbroken = trained(graph, ema_decay=0.9)
    assert same(unbroken, trained(graph, folder=tmp_path, ema_decay=0.9, resume=True))
    assert not same(unbroken, trained(graph, ema_decay=0.0))


def test_validation_and_forecast_are_those_of_averaged_weights(make_signal, tmp_path) -> None:
    """Protects what is kept: the weights whose validation error was written down."""
    graph = make_signal(4)
    forecaster = trained(graph, folder=tmp_path, ema_decay=0.95, learning_rate=0.02)
    states = [
        tensor_files.read_training_state(tmp_path / "training" / f"{name}.safetensors")
        for name in ("best", "last")
    ]
    for state in states:
        kept, moving = state["state_dict"], state["current_model_state"]
        assert set(kept) == set(moving)
        assert any(not torch.equal(kept[name], moving[name]) for name in kept)
    best = states[0]["state_dict"]
    for name, value in weights_of(forecaster).items():
        if name != "trust":
            assert torch.equal(value, best[f"predictor.{name}"])
    # the error that chose them
    forecaster.predictor.trust.fill_(1)
    split = split_windows(graph.n_steps, window=W, horizon=H, fractions=(0.7, 0.1, 0.2))
    windows = Windows(Source(graph, forecaster.inputs), split.validation)
    error = forecaster.predictor.validation_error(windows.__getitems__(range(len(windows))))
    assert metrics_of(tmp_path)["val_error"].min() == pytest.approx(error.item(), rel=1e-4)


def test_more_epochs_can_be_asked_for_on_resume(make_signal, tmp_path) -> None:
    graph = make_signal(4)
    few = trained(graph, folder=tmp_path, max_epochs=1)
    more = trained(graph, folder=tmp_path, max_epochs=3, resume=True)
    assert not same(few, more)


def test_fewer_epochs_on_resume_end_the_training(make_signal, tmp_path) -> None:
    """An automatic choice that goes on may have time for fewer epochs than were done."""
    graph = make_signal(4)
    done = trained(graph, folder=tmp_path, max_epochs=4)
    for n_epochs in (4, 2, 1):
        assert same(done, trained(graph, folder=tmp_path, max_epochs=n_epochs, resume=True))


def test_without_resume_an_old_state_is_forgotten(make_signal, tmp_path) -> None:
    graph = make_signal(4)
    trained(graph, folder=tmp_path, seed=5)
    assert same(trained(graph), trained(graph, folder=tmp_path))


def test_resume_without_a_state_begins(make_signal, tmp_path) -> None:
    graph = make_signal(4)
    assert same(trained(graph), trained(graph, folder=tmp_path / "new", resume=True))


def test_a_training_that_stopped_early_stays_stopped(make_signal, tmp_path) -> None:
    graph = make_signal(4)
    options = {"max_epochs": 30, "patience": 1, "learning_rate": 0.3}
    stopped = trained(graph, folder=tmp_path, **options)
    assert len(metrics_of(tmp_path)) < 30
    state = (tmp_path / "training" / "last.safetensors").read_bytes()
    assert same(stopped, trained(graph, folder=tmp_path, resume=True, **options))
    assert (tmp_path / "training" / "last.safetensors").read_bytes() == state


@pytest.mark.parametrize(
    ("other", "where"),
    [
        ({"model": "identity_mlp"}, "model"),
        ({"options": {**OPTIONS["gcn_lstm"], "hidden_size": 16}}, "model options"),
        ({"options": {**OPTIONS["gcn_lstm"], "dropout": 0.3}}, "model options"),  # same shapes
        ({"seed": 1}, "train"),
        ({"learning_rate": 1e-4}, "train"),
        ({"window": 7}, "windows"),
        ({"use_filled": True}, "use_filled"),
        ({"use_seasons": False}, "use_seasons"),
        ({"fractions": (0.6, 0.2, 0.2)}, "windows"),
    ],
)
def test_the_state_of_another_job_is_refused(make_signal, tmp_path, other, where) -> None:
    graph = make_signal(4)
    trained(graph, folder=tmp_path, max_epochs=1)
    state = (tmp_path / "training" / "last.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=f"state of another job, which differs in {where}"):
        trained(graph, folder=tmp_path, max_epochs=1, resume=True, **other)
    assert (tmp_path / "training" / "last.safetensors").read_bytes() == state


@pytest.mark.parametrize(
    "model",
    [
        "seasonal_naive",
        ModelConfig(name="seasonal_naive"),
        ModelConfig(name="ensemble", options={"members": ["seasonal_naive", "persistence"]}),
    ],
)
def test_last_season_cannot_be_repeated_where_it_is_not_read(make_signal, model) -> None:
    """Else the profile would be called seasonal naive."""
    with pytest.raises(InputError, match="leave `use_seasons` on"):
        fit(make_signal(4, 24 * 10), model=model, window=6, horizon=4, use_seasons=False)


def test_the_state_of_other_data_is_refused(make_signal, tmp_path) -> None:
    graph = make_signal(4)
    trained(graph, folder=tmp_path, max_epochs=1)
    ids = ["w", "x", "y", "z"]
    others = {
        "nodes": graph.replace(nodes=graph.nodes.set_axis(ids)),
        "edges": graph.replace(edge_weight=2 * graph.edge_weight),
        "readings": graph.replace(values=graph.values * 1.1),
        "features": graph.replace(features=(Feature("speed", "mph"),)),
    }
    for where, other in others.items():
        with pytest.raises(CheckpointError, match=f"differs in {where}; choose another folder"):
            trained(other, folder=tmp_path, max_epochs=1, resume=True)
    with pytest.raises(CheckpointError, match="differs in calendar"):
        trained(graph, folder=tmp_path, max_epochs=1, resume=True, holidays="NZ")


def test_the_state_of_a_version_with_other_weights_is_refused(
    make_signal, tmp_path, monkeypatch
) -> None:
    """A buffer that came or went would otherwise fail deep inside, as a fault of ours."""
    graph = make_signal(4)
    trained(graph, folder=tmp_path, max_epochs=1)
    plain = Predictor.__init__

    def newer(self: Predictor, *parts: Any) -> None:
        plain(self, *parts)
        self.register_buffer("later", torch.ones(1))

    monkeypatch.setattr(Predictor, "__init__", newer)
    with pytest.raises(CheckpointError, match="differs in weights; choose another folder"):
        trained(graph, folder=tmp_path, max_epochs=1, resume=True)


@pytest.mark.parametrize(
    ("options", "precision"), [({}, "bf16-mixed"), ({"precision": "32"}, "32-true")]
)
def test_one_gpu_is_used_where_there_is_one(tmp_path, monkeypatch, options, precision) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(learning.lightning, "Trainer", lambda **options: asked.update(options))
    learning._trainer(TrainConfig(**options), tmp_path, [], 1)
    assert (asked["accelerator"], asked["devices"]) == ("cuda", 1)
    assert asked["precision"] == precision


@pytest.mark.parametrize("model", OPTIONS)
def test_mixed_precision_trains_on_the_cpu_too(make_signal, model: str) -> None:
    """What a GPU does by default: half precision in training, full precision in the result."""
    forecaster = trained(make_signal(4), model=model, max_epochs=1, precision="bf16")
    assert {part.dtype for part in weights_of(forecaster).values()} == {torch.float32}
    assert np.isfinite(forecaster.forecast(make_signal(4)).values).all()


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95 a pickle", b"{}" * 50])
def test_a_damaged_state_is_refused(make_signal, tmp_path, content: bytes) -> None:
    graph = make_signal(4)
    trained(graph, folder=tmp_path, max_epochs=1)
    (tmp_path / "training" / "last.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.safetensors is no safetensors file"):
        trained(graph, folder=tmp_path, resume=True)


# ------------------------------------------------------------------------------ best weights


def metrics_of(folder: Path) -> pd.DataFrame:
    """Return the logged metrics, one row per epoch."""
    return pd.read_csv(folder / "training" / "logs" / "metrics.csv").groupby("epoch").max()


def validation_error(forecaster: Forecaster, graph: STGraph) -> float:
    split = split_windows(graph.n_steps, window=W, horizon=H)
    windows = Windows(Source(graph, forecaster.inputs), split.validation)
    batch = windows.__getitems__(range(len(windows)))
    trust = forecaster.predictor.trust.clone()  # chosen after training
    with torch.inference_mode():
        forecaster.predictor.trust.fill_(1)
        gap = (forecaster.predictor(batch)[..., 1] - batch.y).abs()
        forecaster.predictor.trust.copy_(trust)
    return float(gap[batch.y_mask].mean())


def test_the_weights_of_the_best_epoch_are_kept(make_signal, tmp_path) -> None:
    graph = make_signal(4, missing=0.1)
    # a rate so high that the last epochs are worse
    forecaster = trained(graph, folder=tmp_path, max_epochs=30, patience=3, learning_rate=1.0)
    errors = metrics_of(tmp_path)["val_error"]
    assert errors.iloc[-1] > errors.min()
    assert validation_error(forecaster, graph) == pytest.approx(errors.min(), rel=1e-4)
    assert errors.index[-1] == errors.idxmin() + 3 < 29  # stopped 3 epochs after the best one


@pytest.mark.parametrize("fractions", [(0.8, 0.0, 0.2), (1.0, 0.0, 0.0)])
def test_without_validation_the_last_weights_are_kept(make_signal, tmp_path, fractions) -> None:
    graph = make_signal(4)
    forecaster = trained(graph, folder=tmp_path, fractions=fractions, max_epochs=2)
    assert same(forecaster, trained(graph, folder=tmp_path, fractions=fractions, max_epochs=2))
    assert (forecaster.calibration.below == 1).all()
    assert forecaster.tuned_until == forecaster.fitted_until


def test_a_validation_part_without_observations_is_none(make_signal) -> None:
    graph = make_signal(4)
    mask = graph.mask.copy()
    mask[130:160] = False
    forecaster = trained(graph.replace(mask=mask), max_epochs=2)
    assert (forecaster.calibration.below == 1).all()


def test_max_minutes_ends_training(make_signal, tmp_path) -> None:
    trained(make_signal(4), folder=tmp_path, max_epochs=100_000, patience=99_999, max_minutes=0.01)
    assert 0 < len(metrics_of(tmp_path)) < 5000


# ------------------------------------------------------------------------------ no leak


def test_what_lies_behind_validation_never_trains(make_signal) -> None:
    graph = make_signal(4, missing=0.1)
    plain = trained(graph, max_epochs=2)
    stop = int(graph.time.searchsorted(plain.tuned_until, side="right"))
    values = graph.values.copy()
    values[stop:] = 1e30
    assert same(plain, trained(graph.replace(values=values, mask=None), max_epochs=2))


def test_validation_chooses_but_never_teaches(make_signal) -> None:
    graph = make_signal(4)
    plain = trained(graph, max_epochs=1)
    stop = int(graph.time.searchsorted(plain.fitted_until, side="right"))
    values = graph.values.copy()
    values[stop:] += 1000
    other = trained(graph.replace(values=values, mask=None), max_epochs=1)
    ours, theirs = weights_of(plain), weights_of(other)
    # but how much of the learned correction is kept is chosen by validation
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name != "trust")


@pytest.mark.parametrize("model", ["gcn_lstm", "ridge_node", "var", "profile_decay"])
def test_values_that_the_mask_hides_never_train(make_signal, model: str) -> None:
    graph = make_signal(4, missing=0.3)
    loud = np.where(graph.mask, graph.values, np.float32(-1e9))
    hidden = graph.replace(values=loud, mask=graph.mask)
    options = {"model": model, "max_epochs": 2}
    assert same(trained(graph, **options), trained(hidden, **options))


# ------------------------------------------------------------------------------ manners


@pytest.mark.parametrize("model", ["gcn_lstm", "var"])
def test_training_leaves_no_trace(make_signal, model: str, capfd) -> None:
    torch.manual_seed(11)

    def state() -> dict[str, Any]:
        return {
            "torch": torch.get_rng_state().tolist(),
            "numpy": repr(np.random.get_state()),  # noqa: NPY002 - the global one is meant
            "python": random.getstate(),
            "filters": list(warnings.filters),
            "environment": dict(os.environ),
            "levels": {n: logging.getLogger(n).level for n in ("lightning.pytorch", "lightning")},
            "handlers": list(logging.getLogger().handlers),
            "precision": torch.get_float32_matmul_precision(),
            "grad": torch.is_grad_enabled(),
            "folder": sorted(Path.cwd().iterdir()),
        }

    before = state()
    trained(make_signal(3), model=model, max_epochs=1)
    after = state()
    assert {name for name in before if before[name] != after[name]} == set()
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


def test_tensorboard_logs_on_request(make_signal, tmp_path) -> None:
    trained(make_signal(3), folder=tmp_path, tensorboard=True, max_epochs=1)
    logs = [path.name for path in (tmp_path / "training" / "logs").iterdir()]
    assert "metrics.csv" in logs
    assert any(name.startswith("events.out.tfevents") for name in logs)


def test_a_loss_that_is_not_finite_is_an_error(make_signal, tmp_path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch \d+; lower `train.learning"):
        trained(make_signal(3), max_epochs=3, learning_rate=1e30, folder=tmp_path)


def test_a_folder_that_cannot_be_written(make_signal, tmp_path) -> None:
    (tmp_path / "file").write_text("...")
    with pytest.raises(OutputError, match=r"cannot write .*file.*choose another folder"):
        trained(make_signal(3), folder=tmp_path / "file")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*File too large"):
            trained(make_signal(3), folder=tmp_path / "job")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# ------------------------------------------------------------------------------ odd tasks


def with_extra(graph: STGraph, role: str, *, n_future: int = 0) -> STGraph:
    """Return the graph with one more feature; the targets are hidden in the last steps."""
    extra = np.sin(np.arange(graph.n_steps, dtype=np.float32))[:, None, None]
    extra = np.broadcast_to(extra, (graph.n_steps, graph.n_nodes, 1))
    mask = np.concatenate([graph.mask, np.ones(extra.shape, dtype=bool)], axis=-1)
    mask[graph.n_steps - n_future :, :, : graph.n_features] = False
    values = np.concatenate([graph.values, extra], axis=-1)
    features = (*graph.features, Feature("extra", "", role))
    return graph.replace(values=values, mask=mask, features=features)


ODD_TASKS: dict[str, tuple[Callable[..., STGraph], dict[str, Any]]] = {
    "a horizon of more than a day": (lambda make: make(3, 24 * 16), {"horizon": 30}),
    "a window of more than a day": (lambda make: make(3, 24 * 16), {"window": 30}),
    "one step each": (lambda make: make(3), {"window": 1, "horizon": 1}),
    "one node": (lambda make: make(1), {}),
    "one node without edges": (lambda make: make(1, edges=False), {}),
    "no edges": (lambda make: make(4, edges=False), {}),
    "two targets": (lambda make: make(3, n_targets=2), {}),
    "three targets with gaps": (lambda make: make(3, n_targets=3, missing=0.3), {}),
    "an observed extra": (lambda make: with_extra(make(3), "observed"), {}),
    "a static extra": (lambda make: with_extra(make(3), "static"), {}),
    "a known future": (lambda make: with_extra(make(3), "known_future", n_future=4), {}),
    "two targets and a known future": (
        lambda make: with_extra(make(3, n_targets=2), "known_future", n_future=4),
        {},
    ),
    "days": (lambda make: make(3, 120, step="D"), {}),
    "weeks": (lambda make: make(3, 80, step="7D"), {}),
    "an odd step": (lambda make: make(3, 400, step="7min"), {}),
    "two days": (lambda make: make(3, 48), {}),
    "the fewest steps possible": (lambda make: make(2, 41), {}),
    "clock changes": (lambda make: make(3, 24 * 20, start="2024-03-28"), {}),
    "tiny numbers": (lambda make: scaled(make(3), 1e-9), {}),
    "huge numbers": (lambda make: scaled(make(3), 1e30), {}),
    "the same number always": (lambda make: scaled(make(3), 0.0), {}),
    "a node without readings": (lambda make: silenced(make(3)), {}),
}


def scaled(graph: STGraph, factor: float) -> STGraph:
    return graph.replace(values=graph.values * np.float32(factor) + np.float32(5 * (factor == 0)))


def silenced(graph: STGraph) -> STGraph:
    mask = graph.mask.copy()
    mask[:, 1] = False
    return graph.replace(mask=mask)


@pytest.mark.parametrize("model", ["gcn_lstm", "identity_mlp", "ridge_node", "var"])
@pytest.mark.parametrize("task", sorted(ODD_TASKS))
def test_odd_tasks_train_and_forecast(make_signal, task: str, model: str) -> None:
    make, options = ODD_TASKS[task]
    graph = make(make_signal)
    forecaster = trained(graph, model=model, max_epochs=1, **options)
    forecast = forecaster.forecast(graph)
    targets = [f for f in graph.features if f.role == "target"]
    horizon = options.get("horizon", H)
    assert forecast.values.shape == (horizon, graph.n_nodes, 4 * len(targets))
    assert forecast.mask.all()
    quantiles = forecast.values.reshape(horizon, graph.n_nodes, len(targets), 4)[..., 1:]
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    # an untrained hand at the wheel still stays near what there was
    seen = np.abs(graph.values[np.broadcast_to(graph.mask, graph.values.shape)]).max()
    assert np.abs(quantiles).max() <= 20 * seen


def test_too_little_data_says_how_much_is_needed(make_signal) -> None:
    with pytest.raises(InputError, match=r"40 steps are too few .* at least 41 are needed"):
        trained(make_signal(3, 40))


def test_a_name_nobody_registered(make_signal) -> None:
    with pytest.raises(InputError, match=r"no model is called 'gcn_lst'.*'gcn_lstm'"):
        trained(make_signal(3), model="gcn_lst")


@pytest.mark.parametrize("model", [torch.nn.GRU(4, 8), torch.nn.GRU])
def test_a_layer_instead_of_a_name_is_pointed_to_from_pgt(make_signal, model) -> None:
    """In one line; the text of a whole network would hide what to do."""
    with pytest.raises(
        InputError, match=r"`model` is of type GRU, .*model=from_pgt\(\.\.\.\)"
    ) as caught:
        fit(make_signal(3, 60), model=model)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"`model` is of type int, .* give the name of a model"):
        fit(make_signal(3, 60), model=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["standard", "minmax", "robust"])
def test_the_scaler_asked_for_is_used_and_leaves_a_linear_forecast_alone(make_signal, kind) -> None:
    graph = make_signal(3, 24 * 6)
    forecaster = fit(graph, model="persistence", window=4, horizon=2, scaler=kind)
    assert forecaster.inputs.scaler.kind == kind
    last = graph.values[-1, :, 0]
    np.testing.assert_allclose(forecaster.forecast(graph).values[0, :, 0], last, rtol=1e-4)
