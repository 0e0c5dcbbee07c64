"""A correction is kept as far as validation can tell that it helps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stgraph.graph import STGraph
from stgraph.inputs import Source, fit_inputs
from stgraph.models.predictor import Predictor
from stgraph.shrinkage import choose_trust
from stgraph.windows import Windows

W, H = 6, 4


class Correction(nn.Module):
    """A model whose correction is a given function of the true one."""

    def __init__(self, windows: Windows, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.windows, self.rule = windows, rule
        self.predictor: list[Predictor] = []  # in a list, so that it is no part of the model

    def forward(self, x: Tensor, u: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        every = self.windows.__getitems__(range(len(self.windows)))
        place = [int((every.x == row).flatten(1).all(dim=1).nonzero()[0]) for row in x]
        batch = self.windows.__getitems__(place)
        (predictor,) = self.predictor
        true = (batch.y - predictor.center) / predictor.scale - predictor.anchor(batch)
        return torch.cat([self.rule(true), torch.zeros_like(true), torch.zeros_like(true)], -1)


def trust_of(graph: STGraph, rule: Callable[[Tensor], Tensor], n_windows: int = 60) -> Tensor:
    inputs, _ = fit_inputs(graph, window=W, horizon=H, train_steps=24 * 5)
    windows = Windows(Source(graph, inputs), range(24 * 5, 24 * 5 + n_windows))
    model = Correction(windows, rule)
    predictor = Predictor(model, inputs)
    model.predictor.append(predictor)
    return choose_trust(predictor, windows)


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        (lambda true: true, 1.0, 1.0),  # right
        (lambda true: 2 * true, 0.5, 0.5),  # twice too much
        (lambda true: -true, 0.0, 0.0),  # wrong way
        (lambda true: torch.zeros_like(true), 0.0, 0.0),  # none
        (lambda true: 0.02 * torch.randn(true.shape), 0.0, 0.2),  # noise
    ],
)
def test_trust_is_what_validation_supports(make_signal, rule, low: float, high: float) -> None:
    torch.manual_seed(0)
    (trust,) = trust_of(make_signal(3), rule).tolist()
    assert low - 1e-6 <= trust <= high + 1e-6


def test_each_target_has_its_own(make_signal) -> None:
    def first_right_second_wrong(true: Tensor) -> Tensor:
        return true * torch.tensor([1.0, -1.0])

    assert trust_of(make_signal(3, n_targets=2), first_right_second_wrong).tolist() == [1, 0]


@pytest.mark.parametrize("n_windows", [0, 3])
def test_nothing_to_choose_by_keeps_all(make_signal, n_windows: int) -> None:
    assert trust_of(make_signal(3), lambda true: -true, n_windows).tolist() == [1]


def test_what_was_not_observed_does_not_count(make_signal) -> None:
    graph = make_signal(3)
    mask = graph.mask.copy()
    mask[24 * 5 + W :: 2] = False
    loud = graph.replace(values=np.where(mask, graph.values, np.float32(1e6)), mask=mask)
    quiet = graph.replace(mask=mask)
    rules = [trust_of(g, lambda true: 1.5 * true).tolist() for g in (quiet, loud)]
    assert rules[0] == rules[1]
