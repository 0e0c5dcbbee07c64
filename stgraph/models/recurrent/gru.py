"""The recurrence of DCRNN and T-GCN over whole windows, its gradient written by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stgraph.models.recurrent.memory import Memory, Record, sigmoid_back, tanh_, tanh_back
from stgraph.models.recurrent.products import times

_LARGE = 1 << 30  # bytes of a record of all steps


def run_gru(
    weight: Tensor, candidate: Tensor, rows: Tensor, start: Tensor | None, memory: Memory
) -> tuple[Tensor, Tensor]:
    """Run a graph-convolutional GRU, reset before the product, over all steps.

    ``z, r = sigmoid(weight @ [rows; S h])``, ``n = tanh(candidate @ [rows; S (r h)])``,
    ``h = z h + (1 - z) n``, where S puts the state and its supports over each other.

    Parameters
    ----------
    weight
        (2 D, R + S D): update and reset gate.
    candidate
        (D, R + S D).
    rows
        (T, R, N * B) what the gates see beside the state; a row of ones carries the bias.
    start
        Hidden state (D, N * B); None: zeros.
    memory
        What the gates see of a hidden state.

    Returns
    -------
    tuple
        Hidden states of all steps (T, D, N * B), and the last one.
    """
    out: tuple[Tensor, Tensor] = _GRU.apply(weight, candidate, rows, start, memory)  # type: ignore[no-untyped-call]
    return out


class _GRU(torch.autograd.Function):
    """All steps of the recurrence."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        candidate: Tensor,
        rows: Tensor,
        h: Tensor | None,
        memory: Memory,
    ) -> tuple[Tensor, Tensor]:
        """Return all hidden states and the last one."""
        ctx.set_materialize_grads(False)
        n_steps, size, n_columns = len(rows), len(candidate), rows.shape[2]
        keep = any(ctx.needs_input_grad)
        first = Record(rows, memory, size, keep=keep)
        # of large graphs the reset state is spread again for the gradient: two records are too much
        again = keep and first.n_bytes > _LARGE
        second = Record(rows, memory, size, keep=keep and not again)
        out = rows.new_empty(n_steps, size, n_columns)
        gates: list[Tensor] = []
        ctx.from_zero = h is None
        for t in range(n_steps):
            seen = first.write(t, h)
            both = times(weight[:, : len(seen)], seen).sigmoid_()
            z, r = both[:size], both[size:]
            seen = second.write(t, None if h is None else r * h)
            n = tanh_(times(candidate[:, : len(seen)], seen))
            torch.lerp(n, torch.zeros_like(n) if h is None else h, z, out=out[t])
            h = out[t]
            if keep:
                gates += [both, n]
        if keep:
            kept = [] if again else second.seen
            ctx.save_for_backward(weight, candidate, *first.seen, *kept, *gates)
            ctx.memory, ctx.n_rows, ctx.n_steps = memory, first.n_rows, n_steps
        return out, out[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor | None, d_h: Tensor | None) -> tuple[Tensor | None, ...]:
        """Go through time backwards."""
        weight, candidate, *saved = ctx.saved_tensors
        size, n_rows, n_steps, memory = len(candidate), ctx.n_rows, ctx.n_steps, ctx.memory
        first, second, gates = saved[:n_steps], saved[n_steps : -2 * n_steps], saved[-2 * n_steps :]
        d_weight, d_candidate = torch.zeros_like(weight), torch.zeros_like(candidate)
        wants_rows = ctx.needs_input_grad[2]
        d_rows = first[0].new_empty(n_steps, n_rows, first[0].shape[1]) if wants_rows else None
        d_both, d_n = torch.empty_like(gates[0]), torch.empty_like(gates[1])
        d_h = torch.zeros_like(d_n) if d_h is None else d_h.clone()
        for t in reversed(range(n_steps)):
            if d_out is not None:
                d_h += d_out[t]
            (z, r), n = gates[2 * t].view(2, size, -1), gates[2 * t + 1]
            h = first[t][n_rows : n_rows + size]  # the one before, zeros at the start
            sigmoid_back(d_h * (h - n), z, d_both[:size])
            tanh_back(torch.addcmul(d_h, d_h, z, value=-1), n, d_n)
            seen = second[t] if second else _with_reset(first[t], r * h, n_rows, memory)
            d_candidate += times(d_n, seen.T)
            at_start = t == 0 and ctx.from_zero
            if at_start:
                d_both[size:].zero_()
            else:
                d_reset = memory.gather(times(candidate[:, n_rows:].T, d_n), size)
                sigmoid_back(d_reset * h, r, d_both[size:])
            d_weight += times(d_both, first[t].T)
            if d_rows is not None:
                d_rows[t] = times(weight[:, :n_rows].T, d_both)
                d_rows[t] += times(candidate[:, :n_rows].T, d_n)
            if at_start:
                return d_weight, d_candidate, d_rows, None, None
            d_h = d_h.mul_(z).addcmul_(d_reset, r)
            d_h += memory.gather(times(weight[:, n_rows:].T, d_both), size)
        return d_weight, d_candidate, d_rows, d_h, None


def _with_reset(seen: Tensor, reset: Tensor, n_rows: int, memory: Memory) -> Tensor:
    """Return the inputs of a step with another state in the place of theirs."""
    other = torch.empty_like(seen)
    other[:n_rows] = seen[:n_rows]
    memory.spread(reset, other[n_rows:])
    return other
