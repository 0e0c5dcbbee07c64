"""Convolution over time: causal, and only the steps that the last one needs, with equal results."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from stgraph import registry
from stgraph.errors import ConfigError
from stgraph.models.build import read_options
from stgraph.models.causal import CausalConv, dilations_for, pick_steps, plan_steps, taps_of
from stgraph.models.sizes import Sizes
from stgraph.models.tcn import TCN, TCNConfig
from stgraph.models.tdnn import TDNN, TDNNConfig

IN_TIME = ["graph_wavenet", "stgcn", "tcn", "tdnn", "temporal_attention"]
TINY = {"hidden_size": 8, "node_embedding_size": 4, "adaptive_rank": 2, "dropout": 0.0}
RING = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]])


def build(name: str, window: int, **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = Sizes(n_nodes=5, window=window, horizon=3, n_past=3, n_future=4, n_outputs=3)
    model = registry.load("models", name)(sizes, read_options(name, {**TINY, **options}))
    with torch.no_grad():
        model.decoder.head.linear.weight.normal_()
    return model


# ------------------------------------------------------------------------------ layers


def test_plan_by_hand() -> None:
    """Two taps with dilations 1, 2, 4: eight steps, four, two, one."""
    plan = plan_steps(10, [taps_of(2, dilation) for dilation in (1, 2, 4)])
    assert plan == [(2, 3, 4, 5, 6, 7, 8, 9), (3, 5, 7, 9), (5, 9), (9,)]
    assert plan_steps(3, [(0, 1), (0, 2)]) == [(0, 1, 2), (0, 2), (2,)]


@pytest.mark.parametrize(
    ("window", "kernel", "n", "expected"),
    [(1, 2, 1, [1]), (12, 2, 1, [1, 2, 4, 8]), (12, 3, 2, [1, 2]), (14, 3, 2, [1, 2, 4])],
)
def test_as_many_dilations_as_see_the_window(window, kernel, n, expected) -> None:
    assert dilations_for(window, kernel_size=kernel, n_convolutions=n) == expected


def test_convolution_is_that_of_torch_with_zeros_before_the_window() -> None:
    x = torch.randn(4, 9, 3)
    steps = tuple(range(9))
    conv = CausalConv(3, 5, delays=taps_of(3, 2), have=steps, want=steps)
    kernel = conv.linear.weight.view(5, 3, 3).permute(0, 2, 1).flip(-1)  # oldest tap first
    padded = functional.pad(x.transpose(1, 2), (4, 0))
    expected = functional.conv1d(padded, kernel, conv.linear.bias, dilation=2).transpose(1, 2)
    torch.testing.assert_close(conv(x), expected)


@given(
    window=st.integers(1, 15),
    delays=st.lists(st.sets(st.integers(0, 9), max_size=3).map(lambda s: (0, *s)), max_size=4),
)
def test_only_needed_steps_give_what_all_steps_give(window: int, delays: list) -> None:
    """Property: leaving out steps that nobody looks at changes nothing."""
    torch.manual_seed(0)
    every = tuple(range(window))
    whole = few = torch.randn(2, window, 3)
    plan = plan_steps(window, delays)
    few = pick_steps(few, every, plan[0])
    for taps, have, want in zip(delays, plan[:-1], plan[1:], strict=True):
        full = CausalConv(3, 3, delays=taps, have=every, want=every)
        part = CausalConv(3, 3, delays=taps, have=have, want=want)
        part.load_state_dict(full.state_dict())
        whole, few = full(whole).relu(), part(few).relu()
    torch.testing.assert_close(few[:, -1], whole[:, -1])


def test_no_step_sees_a_later_one() -> None:
    """Protects against leaks: changing step 4 changes nothing before it."""
    every = tuple(range(8))
    conv = CausalConv(3, 5, delays=(0, 1, 3), have=every, want=every)
    x = torch.randn(2, 8, 3)
    changed = x.clone()
    changed[:, 4] += 1
    gap = (conv(x) - conv(changed)).abs().amax(dim=(0, 2)) > 0
    assert gap.tolist() == [False] * 4 + [True, True, False, True]


# ------------------------------------------------------------------------------ models


@pytest.mark.parametrize("name", IN_TIME)
@pytest.mark.parametrize("window", [1, 2, 5, 12, 40])
def test_any_window(name: str, window: int) -> None:
    """Windows shorter and longer than what the kernels reach, each step of which is seen."""
    model = build(name, window)
    x = torch.randn(2, window, 5, 3, requires_grad=True)
    out = model(x, torch.randn(2, 3, 5, 4), RING, torch.ones(5))
    out.square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", IN_TIME)
def test_float64_and_bf16(name: str) -> None:
    model = build(name, 6)
    x, u = torch.randn(2, 6, 5, 3), torch.randn(2, 3, 5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = model(x, u, RING, torch.ones(5))
    wide = model.double()(x.double(), u.double(), RING, torch.ones(5).double())
    assert wide.dtype == torch.float64
    assert (narrow - wide).abs().mean() < 0.05 * wide.abs().mean()


def test_tcn_blocks_see_as_far_as_they_say() -> None:
    """One block of two convolutions with three taps reaches five steps."""
    model = build("tcn", 12, n_blocks=1)
    x = torch.randn(1, 12, 5, 3, requires_grad=True)
    model(x, torch.randn(1, 3, 5, 4), RING, torch.ones(5)).square().sum().backward()
    assert (x.grad.abs().amax(dim=(0, 2, 3)) > 0).tolist() == [False] * 7 + [True] * 5


def test_tdnn_looks_at_the_given_delays() -> None:
    model = build("tdnn", 12, delays=[[0, 2], [0, 5]])
    x = torch.randn(1, 12, 5, 3, requires_grad=True)
    model(x, torch.randn(1, 3, 5, 4), RING, torch.ones(5)).square().sum().backward()
    seen = (x.grad.abs().amax(dim=(0, 2, 3)) > 0).nonzero().flatten()
    assert seen.tolist() == [11 - 7, 11 - 5, 11 - 2, 11]


def test_delays_that_look_behind_the_window_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"`delays` \(\(0, 1\), \(5,\)\).*window of 5 steps"):
        build("tdnn", 5, delays=[[0, 1], [5]])
    build("tdnn", 6, delays=[[0, 1], [5]])


def test_default_delays_read_every_step_once() -> None:
    sizes = Sizes(n_nodes=2, window=12, horizon=1, n_past=1, n_future=0, n_outputs=1)
    widths = [
        part.linear.in_features for part in TDNN(sizes, TDNNConfig()).layers.modules()
        if isinstance(part, CausalConv)
    ]  # fmt: skip
    assert widths == [3 * 1, 2 * 64, 2 * 64]
    blocks = TCN(sizes, TCNConfig()).blocks
    assert len(blocks) == 2


def test_channels_are_shared_out_among_heads() -> None:
    with pytest.raises(ConfigError, match=r"n_channels.*no multiple of `n_heads`"):
        read_options("temporal_attention", {"n_channels": 30, "n_heads": 4})
