"""The sizes that every model is built for."""

from __future__ import annotations

from dataclasses import dataclass

from stgraph.layout import Layout


@dataclass(frozen=True)
class Sizes:
    """Sizes of one forecasting task, as every model's constructor takes them."""

    n_nodes: int  # N
    window: int  # W, input steps
    horizon: int  # H, output steps
    n_past: int  # F, channels of x
    n_future: int  # K, channels of u
    n_outputs: int  # C * Q, targets times what the head asks for
    layout: Layout | None = None  # where the nodes lie; None: unknown
