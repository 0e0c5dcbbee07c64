"""LightGBM on lags: what it learns, what it may not see, and trees on disk that are looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stgraph.backtesting import SIMPLE_BASELINES, evaluate
from stgraph.checkpoint import load_forecaster, save_forecaster
from stgraph.config import TrainConfig
from stgraph.configfile import read_config
from stgraph.errors import CheckpointError, MissingExtraError
from stgraph.forecasting import Forecaster
from stgraph.graph import STGraph
from stgraph.models.tree_text import check_trees
from stgraph.pipeline import load_graph
from stgraph.tensor_files import read_arrays
from stgraph.training import fit

pytest.importorskip("lightgbm")

W, H = 6, 4
QUICK = {"n_trees": 20, "n_leaves": 8}


def fitted(graph: STGraph, *, seed: int = 0, **options: object) -> Forecaster:
    """Return a model of twenty small trees."""
    given = {**QUICK, **options}
    train = TrainConfig(seed=seed)
    return fit(graph, model="lightgbm", options=given, window=W, horizon=H, train=train)


def test_it_beats_its_anchor_on_waves(make_signal) -> None:
    graph = make_signal(6, 24 * 16)
    result = evaluate(fitted(graph), graph, baselines=("persistence", "profile_decay"))
    mae = result.table().query("horizon == 0").set_index("model")["mae"]
    assert mae["lightgbm"] < 0.8 * mae["profile_decay"]


@pytest.mark.parametrize("n_targets", [1, 2])
def test_saved_trees_forecast_the_same(make_signal, tmp_path, n_targets: int) -> None:
    graph = make_signal(4, 24 * 8, missing=0.1, n_targets=n_targets)
    forecaster = fitted(graph)
    again = load_forecaster(save_forecaster(forecaster, tmp_path / "model"))
    expected = forecaster.forecast(graph).values
    np.testing.assert_array_equal(again.forecast(graph).values, expected)


def test_same_seed_same_trees_and_another_seed_others(make_signal) -> None:
    graph = make_signal(5, 24 * 16)
    options = {"n_rows": 2000}
    first, again = fitted(graph, **options), fitted(graph, **options)
    other = fitted(graph, seed=1, **options)
    assert torch.equal(first.predictor.model.text, again.predictor.model.text)
    assert not torch.equal(first.predictor.model.text, other.predictor.model.text)


def test_what_is_behind_the_mask_is_not_learned(make_signal) -> None:
    graph = make_signal(4, 24 * 8, missing=0.2)
    values = np.where(graph.mask, graph.values, 1e6).astype(np.float32)
    poisoned = graph.replace(values=values, mask=graph.mask)
    assert torch.equal(fitted(graph).predictor.model.text, fitted(poisoned).predictor.model.text)


def test_relabelling_nodes_relabels_the_forecast(make_signal) -> None:
    """Protects against trees that split by the number of a node."""
    graph = make_signal(5, 24 * 8)
    forecaster = fitted(graph)
    shuffled = graph.select_nodes(graph.node_ids[[3, 1, 4, 0, 2]])
    other = fitted(shuffled)
    gap = other.forecast(shuffled).values - forecaster.forecast(graph).values[:, [3, 1, 4, 0, 2]]
    assert np.abs(gap).max() < 0.5  # ties between splits may fall otherwise


@pytest.mark.parametrize(("n_nodes", "edges"), [(1, False), (4, False)])
def test_one_node_and_no_edges(make_signal, n_nodes: int, edges: bool) -> None:
    graph = make_signal(n_nodes, 24 * 8, edges=edges)
    assert np.isfinite(fitted(graph).forecast(graph).values).all()


@pytest.mark.data
def test_a_few_trees_beat_every_simple_baseline_on_real_counts(data_dir: Path) -> None:
    path = Path(__file__).resolve().parents[3] / "examples" / "scats-boroondara.toml"
    job = read_config(path, environment={"STGRAPH_DATA": str(data_dir)})
    graph = load_graph(job)
    options = {"n_trees": 40, "n_rows": 60_000}
    forecaster = fit(graph, model="lightgbm", options=options)
    table = evaluate(forecaster, graph, baselines=(*SIMPLE_BASELINES, "ridge")).table()
    mae = table.query("horizon == 0").set_index("model")["mae"]
    assert mae["lightgbm"] < mae.drop("lightgbm").min()


# ------------------------------------------------------------------------------ trees on disk


@pytest.fixture
def trees(make_signal) -> tuple[str, int]:
    """The text of some trees, and how many numbers they look at."""
    model = fitted(make_signal(4, 24 * 8)).predictor.model
    return bytes(model.text.numpy()).decode(), model._n_inputs


def as_tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def test_sound_trees_pass(trees) -> None:
    text, n_inputs = trees
    check_trees(as_tensor(text), n_inputs=n_inputs)


@pytest.mark.parametrize(
    ("line", "change", "match"),
    [
        ("split_feature", "999", "an input that does not exist"),
        ("split_feature", "-5", "an input that does not exist"),
        ("left_child", "777", "is no tree"),
        ("right_child", "-99", "is no tree"),
        ("left_child", "0", "is no tree"),
        ("threshold", "import", "other than numbers"),
        ("leaf_value", "1 2 3 4 5 6 7 8 9", "not one value per leaf"),
        ("num_leaves", "3", "not one value per leaf"),
    ],
)
def test_broken_trees_are_refused(trees, line: str, change: str, match: str) -> None:
    """Protects memory: LightGBM reads such a text without a look, in C++."""
    text, n_inputs = trees
    lines = text.split("\nTree=")[1].split("\n")
    place = next(i for i, row in enumerate(lines) if row.startswith(f"{line}="))
    old = lines[place]
    lines[place] = f"{line}={change} {old.partition('=')[2].partition(' ')[2]}".rstrip()
    if line == "num_leaves":
        lines[place] = f"{line}={change}"
    with pytest.raises(ValueError, match=match):
        check_trees(as_tensor(with_first_tree(text, "\n".join(lines))), n_inputs=n_inputs)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("left_child=", "left_child=777\nleft_child=", "there twice"),
        ("left_child=", "left_child=777\x0cleft_child=", "plain text"),
        ("left_child=", "left_child=777\rleft_child=", "plain text"),
        ("\nleft_child=", "\n\nleft_child=", "no tree has"),
        ("left_child=", " left_child=", "no tree has"),
        ("\nleft_child=", "\nend of trees\nleft_child=", "no tree has"),
        ("\n\n", "\n", "no tree has"),
        ("left_child=1 ", "left_child=1e0 ", "other than numbers"),
        ("num_leaves=", "num_leaves=1_", "other than numbers"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(trees, old: str, new: str, match: str) -> None:
    """A text that we read in one way and LightGBM in another would pass unseen."""
    text, n_inputs = trees
    first = text.split("\nTree=")[1]
    assert old in first
    with pytest.raises(ValueError, match=match):
        check_trees(as_tensor(with_first_tree(text, first.replace(old, new))), n_inputs=n_inputs)


def with_first_tree(text: str, first: str) -> str:
    """Return a text with another first tree, and the sizes that go with it."""
    head, _, *rest = text.split("\nTree=")
    sizes = [len(f"Tree={tree}\n") for tree in (first, *rest)]
    listed = next(row for row in head.split("\n") if row.startswith("tree_sizes="))
    head = head.replace(listed, "tree_sizes=" + " ".join(map(str, sizes)))
    return "\nTree=".join([head, first, *rest])


def test_trees_of_another_model_or_none_are_refused(trees) -> None:
    text, n_inputs = trees
    with pytest.raises(ValueError, match="max_feature_idx"):
        check_trees(as_tensor(text), n_inputs=n_inputs + 1)
    with pytest.raises(ValueError, match="no trees"):
        check_trees(as_tensor("nothing"), n_inputs=3)
    with pytest.raises(ValueError, match="other sizes"):
        check_trees(as_tensor(text.replace("\nTree=1\n", "\n\nTree=1\n")), n_inputs=n_inputs)


def test_what_lightgbm_cannot_read_is_refused_on_loading(trees, make_signal) -> None:
    """Not at the first forecast, and as an error of the file."""
    text, _ = trees
    model = fitted(make_signal(4, 24 * 8)).predictor.model
    names = next(row for row in text.split("\n") if row.startswith("feature_names="))
    state = {**model.state_dict(), "text": as_tensor(text.replace(names, "feature_names=a b"))}
    with pytest.raises(ValueError, match="LightGBM cannot read"):
        model.load_state_dict(state)


def test_a_damaged_checkpoint_is_refused(make_signal, tmp_path) -> None:
    from safetensors.torch import save_file

    from stgraph.tensor_files import read_header

    folder = save_forecaster(fitted(make_signal(4, 24 * 8)), tmp_path / "model")
    arrays = read_arrays(folder / "weights.safetensors")
    header = read_header(folder / "weights.safetensors")
    arrays["predictor.model.text"] = arrays["predictor.model.text"][:900].clone()
    save_file(arrays, folder / "weights.safetensors", metadata=header)
    with pytest.raises(CheckpointError, match="damaged"):
        load_forecaster(folder)


def test_without_the_package_it_says_what_to_install(make_signal, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(MissingExtraError, match=r"stgraph-gis\[boost\]"):
        fitted(make_signal(4, 24 * 8))


def test_baselines_do_not_load_it() -> None:
    code = "import sys, stgraph.models.boosting; sys.exit('lightgbm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
