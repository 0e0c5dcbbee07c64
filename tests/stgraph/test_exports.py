"""The public names of the package."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import stgraph


def test_export_list() -> None:
    """Protects users: a name leaves this list only on purpose, with a line in the changelog."""
    promised = {
        "CheckpointError",
        "ConfigError",
        "DataError",
        "Feature",
        "Finding",
        "Forecaster",
        "GraphError",
        "HeadConfig",
        "InputError",
        "MissingExtraError",
        "OutputError",
        "Report",
        "STGraph",
        "STGraphError",
        "TrainConfig",
        "TrainingError",
        "UnknownNameError",
        "__version__",
        "backtest",
        "build_contiguity",
        "build_delaunay",
        "build_from_adjacency",
        "build_from_distances",
        "build_gaussian",
        "build_k_ring",
        "build_knn",
        "build_line_graph",
        "build_network",
        "build_radius",
        "evaluate",
        "fit",
        "from_pgt",
        "join_feature",
        "load_forecaster",
        "read_config",
        "read_forecast",
        "read_observations",
        "run",
        "save_forecaster",
        "snap_stations",
        "transfer",
        "write_postgis",
    }
    assert promised <= set(stgraph.__all__)


@pytest.mark.parametrize("name", stgraph.__all__)
def test_every_public_name_loads(name: str) -> None:
    """Protects the lazy table against typing errors."""
    assert getattr(stgraph, name) is not None
    assert name in dir(stgraph)


def test_lists_agree() -> None:
    """Protects type checkers: what loads at run time is what they are told."""
    assert sorted({*stgraph._EXPORTS, "__version__"}) == sorted(stgraph.__all__)
    tree = ast.parse(Path(stgraph.__file__).read_text())
    told = {
        (alias.name, node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        if node.module and node.module.startswith(("stgraph.", "stgraph_connectors."))
        for alias in node.names
    }
    assert told == set(stgraph._EXPORTS.items())


@pytest.mark.parametrize(("given", "then"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_without_spinning_unless_told_otherwise(given: str | None, then: str) -> None:
    """Protects training on busy machines, and everybody who needs no torch or knows better."""
    code = (
        "import os, sys, stgraph; policy = lambda: os.environ.get('OMP_WAIT_POLICY')\n"
        f"stgraph.STGraph; assert policy() == {given!r} and 'torch' not in sys.modules\n"
        f"stgraph.run; assert policy() == {then!r} and 'torch' not in sys.modules"
    )
    environment = {name: text for name, text in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_version_is_that_of_the_distribution() -> None:
    assert stgraph.__version__ == version("stgraph-gis")


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'stgraph' has no attribute 'STGraf'"):
        stgraph.STGraf  # noqa: B018
