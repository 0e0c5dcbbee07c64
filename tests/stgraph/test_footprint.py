"""What a training step takes, and steps in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learned_models import SMALL

from stgraph.config import TrainConfig
from stgraph.errors import TrainingError
from stgraph.footprint import count_parts, saying_what_to_do_without_memory, window_bytes
from stgraph.inputs import fit_inputs
from stgraph.layout import layout_of
from stgraph.models.build import build_predictor
from stgraph.training import fit
from stgraph.windows import Windows

W, H = 6, 4


def make(graph, name: str = "gcn_lstm"):
    inputs, source = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 4)
    predictor = build_predictor(name, SMALL[name], inputs, layout=layout_of(graph))
    return predictor, Windows(source, range(40))


def test_bytes_grow_with_nodes_and_leave_no_trace(make_signal) -> None:
    small, large = (make(make_signal(n)) for n in (50, 500))
    state = torch.get_rng_state()
    ratio = window_bytes(*large) / window_bytes(*small)
    assert 8 < ratio < 12
    assert torch.equal(torch.get_rng_state(), state)
    assert large[0].training
    assert all(part.grad is None for part in large[0].parameters())


@pytest.mark.parametrize(("share", "n_parts"), [(100, 1), (32, 1), (16, 2), (5, 7), (0.1, 32)])
def test_a_batch_goes_in_as_many_parts_as_needed(make_signal, share, n_parts) -> None:
    predictor, windows = make(make_signal(5))
    memory_gb = (share + 0.01) * window_bytes(predictor, windows) / 1e9
    found = count_parts(predictor, windows, batch_size=32, memory_gb=memory_gb)
    assert found == n_parts


def test_steps_in_parts_learn_the_same(make_signal) -> None:
    """Protects large graphs: memory is bounded and the result does not depend on it."""
    graph = make_signal(5, 24 * 8)
    options = {**SMALL["gcn_lstm"], "dropout": 0.0}
    weights = []
    for memory_gb in (4.0, 1e-9):
        train = TrainConfig(max_epochs=2, batch_size=8, memory_gb=memory_gb, device="cpu")
        forecaster = fit(graph, options=options, window=W, horizon=H, train=train)
        weights.append(forecaster.predictor.state_dict())
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=1e-2, atol=1e-3)


def _of_torch() -> None:
    torch.empty(1 << 50)


def _of_numpy() -> None:
    np.empty(1 << 50)


def _of_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@pytest.mark.parametrize("lack", [_of_torch, _of_numpy, _of_a_gpu])
def test_a_lack_of_memory_says_what_helps(lack) -> None:
    with (
        pytest.raises(TrainingError, match=r"than there is: .+; lower `train.memory_gb`"),
        saying_what_to_do_without_memory(),
    ):
        lack()


@pytest.mark.parametrize("words", ["CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED when"])
def test_lacks_without_a_class_are_known_by_their_words(words: str) -> None:
    with pytest.raises(TrainingError, match="needs more"), saying_what_to_do_without_memory():
        raise RuntimeError(words)


def test_other_errors_are_not_about_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be"), saying_what_to_do_without_memory():
        torch.ones(2, 3) @ torch.ones(2, 3)
