"""The recurrence of GConvLSTM and GC-LSTM over whole windows, its gradient written by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stgraph.models.recurrent.memory import Memory, Record, sigmoid_back, tanh_, tanh_back
from stgraph.models.recurrent.products import times

State = tuple[Tensor, Tensor]


def run_lstm(
    weight: Tensor, peepholes: Tensor | None, rows: Tensor, start: State | None, memory: Memory
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a graph-convolutional LSTM over all steps.

    Everything lies feature first, so that all gates of all nodes and windows are one matrix
    product per step, ``weight @ [rows; h; T_1 h; ...]``, and so is the gradient of all weights.

    Parameters
    ----------
    weight
        (4 D, R + S D): input, forget, output gate, and what is written into the cell.
    peepholes
        (3, D) from the cell to input, forget and output gate, or None.
    rows
        (T, R, N * B) what the gates see beside the state; a row of ones carries the bias.
    start
        Hidden and cell state, (D, N * B) each; None: zeros.
    memory
        What the gates see of a hidden state.

    Returns
    -------
    tuple
        Hidden states of all steps (T, D, N * B), last hidden and last cell state (D, N * B).
    """
    h, c = start or (None, None)
    out: tuple[Tensor, Tensor, Tensor] = _LSTM.apply(weight, peepholes, rows, h, c, memory)  # type: ignore[no-untyped-call]
    return out


class _LSTM(torch.autograd.Function):
    """All steps of the recurrence."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        peepholes: Tensor | None,
        rows: Tensor,
        h: Tensor | None,
        c: Tensor | None,
        memory: Memory,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return all hidden states, the last one, and the last cell state."""
        ctx.set_materialize_grads(False)
        n_steps, size, n_columns = len(rows), len(weight) // 4, rows.shape[2]
        keep = any(ctx.needs_input_grad)
        record = Record(rows, memory, size, keep=keep)
        out = rows.new_empty(n_steps, size, n_columns)
        ctx.from_zero = c is None
        cell = torch.zeros_like(out[0]) if c is None else c
        cells, gates = [cell], []
        for t in range(n_steps):
            seen = record.write(t, h)
            now = times(weight[:, : len(seen)], seen)
            cell = _step(now, peepholes, cell, out[t])
            h = out[t]
            if keep:
                cells.append(cell)
                gates.append(now)
        if keep:
            ctx.save_for_backward(weight, peepholes, *record.seen, *cells, *gates)
            ctx.memory, ctx.n_rows = memory, record.n_rows
        return out, out[-1].clone(), cell.clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_out: Tensor | None, d_h: Tensor | None, d_c: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Go through time backwards."""
        weight, peepholes, *saved = ctx.saved_tensors
        n_steps = len(saved) // 3  # one more of the cells
        seen, cells, gates = saved[:n_steps], saved[n_steps : 2 * n_steps + 1], saved[-n_steps:]
        size, n_rows = len(weight) // 4, ctx.n_rows
        d_weight = torch.zeros_like(weight)
        d_peepholes = None if peepholes is None else torch.zeros_like(peepholes)
        wants_rows = ctx.needs_input_grad[2]
        d_rows = seen[0].new_empty(n_steps, n_rows, seen[0].shape[1]) if wants_rows else None
        d_gates = torch.empty_like(gates[0])
        d_h = torch.zeros_like(cells[0]) if d_h is None else d_h.clone()
        d_c = torch.zeros_like(cells[0]) if d_c is None else d_c.clone()
        for t in reversed(range(n_steps)):
            if d_out is not None:
                d_h += d_out[t]
            d_c = _step_back(gates[t], peepholes, cells[t : t + 2], d_h, d_c, d_gates)
            if d_peepholes is not None:
                _add_peepholes(d_peepholes, d_gates, cells[t : t + 2])
            if d_rows is not None:
                d_rows[t] = times(weight[:, :n_rows].T, d_gates)
            if t == 0 and ctx.from_zero:
                d_weight[:, :n_rows] += times(d_gates, seen[0][:n_rows].T)
                return d_weight, d_peepholes, d_rows, None, None, None
            d_weight += times(d_gates, seen[t].T)
            d_h = ctx.memory.gather(times(weight[:, n_rows:].T, d_gates), size)
        return d_weight, d_peepholes, d_rows, d_h, d_c, None


def _step(gates: Tensor, peepholes: Tensor | None, cell: Tensor, out: Tensor) -> Tensor:
    """Turn the sums at the gates into the gates, write the hidden state, return the cell."""
    size = len(cell)
    i, f, o, g = gates.view(4, size, -1).unbind()
    tanh_(g)
    if peepholes is None:
        gates[: 3 * size].sigmoid_()
    else:
        both = gates[: 2 * size].view(2, size, -1)
        both.addcmul_(peepholes[:2, :, None], cell).sigmoid_()
    after = (f * cell).addcmul_(i, g)
    if peepholes is not None:
        o.addcmul_(peepholes[2, :, None], after).sigmoid_()
    torch.mul(o, tanh_(after.clone()), out=out)
    return after


def _step_back(
    gates: Tensor,
    peepholes: Tensor | None,
    cells: list[Tensor],
    d_h: Tensor,
    d_c: Tensor,
    d_gates: Tensor,
) -> Tensor:
    """Write the gradient of the sums at the gates, return that of the cell before; use up d_h."""
    before, after = cells
    size = len(after)
    i, f, o, g = gates.view(4, size, -1)
    d_i, d_f, d_o, d_g = d_gates.view(4, size, -1)
    bent = tanh_(after.clone())
    sigmoid_back(d_h * bent, o, d_o)
    d_c += tanh_back(d_h.mul_(o), bent, d_h)
    if peepholes is not None:
        d_c.addcmul_(peepholes[2, :, None], d_o)
    sigmoid_back(torch.mul(d_c, g, out=d_i), i, d_i)
    sigmoid_back(torch.mul(d_c, before, out=d_f), f, d_f)
    tanh_back(torch.mul(d_c, i, out=d_g), g, d_g)
    d_c.mul_(f)
    if peepholes is not None:
        d_c.addcmul_(peepholes[0, :, None], d_i).addcmul_(peepholes[1, :, None], d_f)
    return d_c


def _add_peepholes(d_peepholes: Tensor, d_gates: Tensor, cells: list[Tensor]) -> None:
    """Add one step's gradient of the peepholes."""
    before, after = cells
    for gate, (d_gate, cell) in enumerate(
        zip(d_gates.view(4, len(after), -1)[:3], (before, before, after), strict=True)
    ):
        d_peepholes[gate] += torch.linalg.vecdot(d_gate, cell)
