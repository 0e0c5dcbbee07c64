"""Layers of torch-geometric-temporal as models: run, learn, saved, and refused with a reason."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

import pytest
import torch
from torch import nn

from stgraph.checkpoint import load_forecaster, save_forecaster
from stgraph.config import ModelConfig, TrainConfig
from stgraph.convert.pgt import load_pgt
from stgraph.errors import ConfigError, InputError
from stgraph.models.build import read_options
from stgraph.models.pgt import PGT, PGTConfig, from_pgt
from stgraph.models.pgt_layers import CANNOT, RUNNERS
from stgraph.models.sizes import Sizes
from stgraph.training import fit

if importlib.util.find_spec("torch_geometric_temporal") is None:
    pytest.skip("needs torch-geometric-temporal", allow_module_level=True)

N, W, H = 6, 6, 3
RING = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]])
BOTH = torch.cat([RING, RING.flip(0)], dim=1)
WEIGHT = torch.linspace(0.5, 1.5, 12)
TINY = {"hidden_size": 8, "node_embedding_size": 4, "adaptive_rank": 2, "dropout": 0.0}

# everything that is not filled in from the task
ARGUMENTS: dict[str, dict[str, Any]] = {
    "A3TGCN": {"in_channels": 4, "out_channels": 8},
    "A3TGCN2": {"in_channels": 4, "out_channels": 8},
    "AAGCN": {"in_channels": 4, "out_channels": 8, "edge_index": BOTH.tolist()},
    "AGCRN": {"in_channels": 4, "out_channels": 8, "K": 2, "embedding_dimensions": 3},
    "ASTGCN": {
        "nb_block": 2,
        "in_channels": 4,
        "K": 2,
        "nb_chev_filter": 4,
        "nb_time_filter": 4,
        "time_strides": 1,
        "num_for_predict": 8,
    },
    "BatchedDCRNN": {"in_channels": 4, "out_channels": 8, "K": 2},
    "DCRNN": {"in_channels": 4, "out_channels": 8, "K": 2},
    "DyGrEncoder": {
        "conv_out_channels": 4,
        "conv_num_layers": 2,
        "conv_aggr": "mean",
        "lstm_out_channels": 8,
        "lstm_num_layers": 1,
    },
    "EvolveGCNH": {"in_channels": 4},
    "EvolveGCNO": {"in_channels": 4},
    "GCLSTM": {"in_channels": 4, "out_channels": 8, "K": 2},
    "GConvGRU": {"in_channels": 4, "out_channels": 8, "K": 2},
    "GConvLSTM": {"in_channels": 4, "out_channels": 8, "K": 2},
    "LRGCN": {"in_channels": 4, "out_channels": 8, "num_relations": 2, "num_bases": 2},
    "MPNNLSTM": {"in_channels": 4, "hidden_size": 8, "dropout": 0.0},
    "MSTGCN": {
        "nb_block": 2,
        "in_channels": 4,
        "K": 2,
        "nb_chev_filter": 4,
        "nb_time_filter": 4,
        "time_strides": 1,
        "num_for_predict": 8,
    },
    "MTGNN": {
        "gcn_true": True,
        "build_adj": False,
        "gcn_depth": 1,
        "kernel_set": [1, 2],
        "kernel_size": 2,
        "dropout": 0.0,
        "subgraph_size": 3,
        "node_dim": 4,
        "dilation_exponential": 1,
        "conv_channels": 4,
        "residual_channels": 4,
        "skip_channels": 4,
        "end_channels": 8,
        "in_dim": 4,
        "out_dim": 8,
        "layers": 2,
        "propalpha": 0.05,
        "tanhalpha": 3.0,
        "layer_norm_affline": True,
    },
    "STConv": {
        "in_channels": 4,
        "hidden_channels": 4,
        "out_channels": 8,
        "kernel_size": 2,
        "K": 2,
    },
    "TGCN": {"in_channels": 4, "out_channels": 8},
    "TGCN2": {"in_channels": 4, "out_channels": 8},
    "TemporalConv": {"in_channels": 4, "out_channels": 8, "kernel_size": 3},
}
# those of which an instance keeps too little to be read back
FORGETFUL = {"AAGCN", "ASTGCN", "MSTGCN", "MTGNN", "TemporalConv"}


def build(layer: str, **options: Any) -> PGT:
    torch.manual_seed(0)
    sizes = Sizes(n_nodes=N, window=W, horizon=H, n_past=3, n_future=4, n_outputs=3)
    given = {**TINY, "layer": layer, "arguments": ARGUMENTS[layer], **options}
    model = PGT(sizes, PGTConfig.model_validate(given))
    with torch.no_grad():
        model.decoder.head.linear.weight.normal_()
    return model


def batch(n_batch: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n_batch, W, N, 3, generator=generator)
    return x, torch.randn(n_batch, H, N, 4, generator=generator), BOTH, WEIGHT


def instance(layer: str) -> nn.Module:
    known = {"num_nodes": N, "number_of_nodes": N, "num_of_nodes": N, "num_of_vertices": N}
    known |= {"len_input": W, "periods": W, "seq_length": W, "window": W, "batch_size": 1}
    kind = getattr(load_pgt("nn"), layer)
    wanted = inspect.signature(kind.__init__).parameters
    given = {key: value for key, value in known.items() if key in wanted} | ARGUMENTS[layer]
    if layer == "AAGCN":
        given["edge_index"] = BOTH
    return kind(**given)


# ------------------------------------------------------------------------------ every layer


def test_every_layer_of_the_package_is_adapted_or_refused_with_a_reason() -> None:
    found = {
        name
        for name, kind in vars(load_pgt("nn")).items()
        if isinstance(kind, type) and issubclass(kind, nn.Module)
    }
    assert found == set(RUNNERS) | set(CANNOT)
    assert set(ARGUMENTS) == set(RUNNERS)


@pytest.mark.parametrize("layer", sorted(RUNNERS))
def test_shape_and_gradients(layer: str) -> None:
    model = build(layer)
    out = model(*batch())
    assert out.shape == (3, H, N, 3)
    out.square().sum().backward()
    heard = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.layer.parameters()]
    assert any(heard)
    assert model.project.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("layer", sorted(RUNNERS))
def test_windows_of_a_batch_do_not_see_each_other(layer: str) -> None:
    """Protects forecasts: one window at a time gives what all at once give."""
    model = build(layer).eval()
    x, u, *edges = batch()
    with torch.no_grad():
        together = model(x, u, *edges)
        alone = [model(x[i : i + 1], u[i : i + 1], *edges) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", sorted(RUNNERS))
def test_an_instance_is_read_back_or_says_what_it_needs(layer: str) -> None:
    asked = instance(layer)
    if layer in FORGETFUL:
        with pytest.raises(InputError, match=r"does not keep .*`arguments`"):
            from_pgt(asked)
        found = from_pgt(asked, arguments=ARGUMENTS[layer])
    else:
        found = from_pgt(asked)
    assert isinstance(found, ModelConfig)
    assert found.name == "pgt"
    built = build(layer, **read_options("pgt", found.options).model_dump(include={"arguments"}))
    shapes = {key: value.shape for key, value in asked.state_dict().items()}
    ours = {key: value.shape for key, value in built.layer.state_dict().items()}
    ours.pop("identity", None)  # of AGCRN, which expects it from outside
    assert ours == shapes


# ------------------------------------------------------------------------------ pipeline


@pytest.mark.parametrize("layer", ["GConvGRU", "TGCN", "AGCRN", "EvolveGCNO"])
def test_trained_and_saved_by_our_pipeline(make_signal: Any, tmp_path: Any, layer: str) -> None:
    graph = make_signal(N)
    train = TrainConfig(max_epochs=1, device="cpu")
    model = from_pgt(layer, arguments=ARGUMENTS[layer])
    forecaster = fit(graph, model=model, options=TINY, window=W, horizon=H, train=train)
    save_forecaster(forecaster, tmp_path / "model")
    again = load_forecaster(tmp_path / "model")
    assert again.forecast(graph).equals(forecaster.forecast(graph))
    assert again.options["layer"] == layer


def test_what_the_task_decides_may_be_left_out() -> None:
    sizes = Sizes(n_nodes=N, window=W, horizon=H, n_past=3, n_future=0, n_outputs=3)
    model = PGT(sizes, PGTConfig(layer="STConv", arguments={"kernel_size": 2}, hidden_size=8))
    assert model.layer.num_nodes == N
    assert model.project.out_features == 8
    with pytest.raises(ConfigError, match=r"`periods` of layer 'A3TGCN' is 9, but the task has 6"):
        PGT(sizes, PGTConfig(layer="A3TGCN", arguments={"periods": 9}))


def test_weights_of_evolving_layers_do_not_outlive_the_window() -> None:
    """Protects memory and copies: the weights that evolve belong to one forward pass."""
    model = build("EvolveGCNO")
    model(*batch())
    assert model.layer.weight is None


@pytest.mark.parametrize("layer", sorted(RUNNERS))
def test_learns_after_validation(layer: str) -> None:
    """Protects training: what a layer keeps of a graph in inference mode can be learned with."""
    model = build(layer)
    with torch.inference_mode():
        model.eval()(*batch())
    model.train()(*batch()).square().sum().backward()


def test_relations_of_lrgcn_are_both_ways() -> None:
    """Along a one-way ring, what a node hears against the edges is another relation."""
    model = build("LRGCN", n_graph_layers=0).eval()
    x, u, *_ = batch(1)
    changed = x.clone()
    changed[:, 0, 3] += 5
    with torch.no_grad():
        gap = model(x, u, RING, torch.ones(6)) - model(changed, u, RING, torch.ones(6))
    assert (gap.abs().amax(dim=(0, 1, 3))[[2, 3, 4]] > 1e-6).all()


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("layer", sorted(CANNOT))
def test_layers_that_cannot_be_adapted_say_why(layer: str) -> None:
    with pytest.raises(InputError, match=f"{layer} (is|takes|predicts) .*choose one of"):
        from_pgt(layer)
    with pytest.raises(ConfigError, match=f"{layer} (is|takes|predicts)"):
        read_options("pgt", {"layer": layer})


def test_only_classes_of_the_package_are_loaded() -> None:
    """Protects whoever opens a checkpoint: names are looked up in a list, never imported."""
    with pytest.raises(ConfigError, match=r"no layer is called 'os\.system'"):
        read_options("pgt", {"layer": "os.system"})

    class GConvGRU(nn.Module):
        """A class of somebody else that has the name of a layer."""

    with pytest.raises(InputError, match=r"`layer` '.*test_pgt.GConvGRU' is none of"):
        from_pgt(GConvGRU())


@pytest.mark.parametrize(
    ("layer", "arguments", "match"),
    [
        ("GConvGRU", {"chanels": 3}, r"has no argument `chanels`"),
        ("LRGCN", {"num_bases": 2}, r"'LRGCN' needs \['num_relations'\]"),
        ("TGCN", {"cached": True}, "`cached` of layer 'TGCN' keeps the graph"),
        ("STConv", {"kernel_size": 9}, "cannot take windows of 6 steps of 6 nodes"),
        ("GConvGRU", {"out_channels": "many"}, "layer 'GConvGRU' refuses"),
    ],
)
def test_wrong_arguments(layer: str, arguments: dict[str, Any], match: str) -> None:
    sizes = Sizes(n_nodes=N, window=W, horizon=H, n_past=3, n_future=0, n_outputs=3)
    with pytest.raises(ConfigError, match=match):
        PGT(sizes, PGTConfig(layer=layer, arguments=arguments))
