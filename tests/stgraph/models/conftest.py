"""Signals as the model of a test takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from learned_models import NEEDS_GRID

from stgraph.graph import STGraph


@pytest.fixture
def make_signal(make_signal, request: pytest.FixtureRequest):
    """Make a signal; its nodes are cells where the parameter `name` is a model of grids."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}

    def on_grid(*args: Any, **options: Any) -> STGraph:
        graph = make_signal(*args, **options)
        row, column = np.divmod(np.arange(graph.n_nodes), 3)  # the last row may have holes
        return graph.replace(nodes=graph.nodes.assign(kind="cell", row=row, column=column))

    return on_grid if parameters.get("name") in NEEDS_GRID else make_signal
