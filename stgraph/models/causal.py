"""Causal convolution over the window, of which only what the last step needs is computed.

A stack of convolutions is read out at the last step of the window. Going back from there, every
layer has to know the steps that the next one looks at, and no others: with dilations 1, 2, 4, ...
half of the steps of the layer below. The result is that of convolving everywhere, bit for bit in
the same arithmetic, at a fraction of the cost.

Sequences are (..., S, C): any leading axes, S kept steps, channels last, so that a convolution is
one matrix product over the gathered steps. What lies before the window is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Steps = tuple[int, ...]


def plan_steps(window: int, delays: Sequence[Sequence[int]]) -> list[Steps]:
    """Return which steps each layer's input has to have, and last those of the output.

    Parameters
    ----------
    window
        Steps of the first input, 0 to `window` - 1.
    delays
        Per layer, how many steps back each of its taps looks.

    Returns
    -------
    list
        One tuple of steps per layer and one for the output, which is the last step alone.
    """
    plan: list[Steps] = [(window - 1,)]
    for taps in reversed(delays):
        looked_at = {step - delay for step in plan[-1] for delay in taps}
        plan.append(tuple(sorted(step for step in looked_at if step >= 0)))
    return plan[::-1]


def dilations_for(window: int, *, kernel_size: int, n_convolutions: int = 1) -> list[int]:
    """Return dilations 1, 2, 4, ... as many as make the last step see the whole window.

    Parameters
    ----------
    window
        Steps to see.
    kernel_size
        Taps of a convolution.
    n_convolutions
        Convolutions with each dilation.
    """
    dilations, seen = [1], 1 + n_convolutions * (kernel_size - 1)
    while seen < window:
        dilations.append(2 * dilations[-1])
        seen += n_convolutions * (kernel_size - 1) * dilations[-1]
    return dilations


def taps_of(kernel_size: int, dilation: int) -> Steps:
    """Return the delays of a convolution: 0, d, 2d, ..."""
    return tuple(dilation * k for k in range(kernel_size))


class CausalConv(nn.Module):
    """A convolution over past and present steps: (..., S_in, C_in) -> (..., S_out, C_out).

    Parameters
    ----------
    in_size, out_size
        Channels.
    delays
        How many steps back each tap looks; none looks ahead.
    have, want
        Steps that the input has, and those of the output.
    """

    def __init__(
        self, in_size: int, out_size: int, *, delays: Sequence[int], have: Steps, want: Steps
    ) -> None:
        super().__init__()
        place = {step: position for position, step in enumerate(have)}
        # position in the input of every tap of every output step, None before the window
        self._taps = [[place.get(step - delay) for delay in delays] for step in want]
        self.linear = nn.Linear(len(delays) * in_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution at the wanted steps."""
        steps = x.unbind(-2)
        before = torch.zeros_like(steps[0])
        taps = [before if i is None else steps[i] for row in self._taps for i in row]
        gathered = torch.cat(taps, dim=-1)  # (..., S_out * taps * C_in)
        shape = (*gathered.shape[:-1], len(self._taps), -1)
        out: Tensor = self.linear(gathered.view(shape))
        return out


def pick_steps(x: Tensor, have: Steps, want: Steps) -> Tensor:
    """Return some steps of a sequence, (..., S_have, C) -> (..., S_want, C)."""
    if have == want:
        return x
    steps = x.unbind(-2)
    return torch.stack([steps[have.index(step)] for step in want], dim=-2)
