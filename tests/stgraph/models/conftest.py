"""Signals as the model of a test takes them."""

from __future__ import annotations

import pytest
from learned_models import as_needed


@pytest.fixture
def make_signal(make_signal, request: pytest.FixtureRequest):
    """Make a signal; its nodes are cells where the parameter `name` is a model of grids."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}

    name = parameters.get("name", "")
    return lambda *args, **options: as_needed(make_signal(*args, **options), name)
