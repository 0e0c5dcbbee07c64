"""The public names of the package."""

from __future__ import annotations

import ast
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
        "GraphError",
        "InputError",
        "MissingExtraError",
        "OutputError",
        "Report",
        "STGraph",
        "STGraphError",
        "TrainingError",
        "UnknownNameError",
        "__version__",
        "build_contiguity",
        "build_delaunay",
        "build_from_adjacency",
        "build_from_distances",
        "build_gaussian",
        "build_knn",
        "build_radius",
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
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stgraph.")
        for alias in node.names
    }
    assert told == set(stgraph._EXPORTS.items())


def test_version_is_that_of_the_distribution() -> None:
    assert stgraph.__version__ == version("stgraph-gis")


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'stgraph' has no attribute 'STGraf'"):
        stgraph.STGraf  # noqa: B018
