"""A scenario that was run."""

from __future__ import annotations

import pytest
from scenario_results import make_result

from stgraph.scenario.result import ScenarioResult


@pytest.fixture(scope="session")
def result() -> ScenarioResult:
    """A town with a closed street, a new one and a slower one, for a day."""
    return make_result()
