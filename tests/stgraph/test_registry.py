"""Names of connectors, models, sinks and builders."""

from __future__ import annotations

import importlib.metadata
from typing import get_args

import pytest

from stgraph import registry
from stgraph.errors import UnknownNameError

GROUPS = get_args(registry.Group)


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in GROUPS for name in registry._BUILTIN[group]]
)
def test_every_builtin_loads(group: registry.Group, name: str) -> None:
    """Protects the strings of the registry against typing errors and moved functions."""
    assert callable(registry.load(group, name))


def test_names_are_sorted() -> None:
    known = registry.names("neighbours")
    assert known == sorted(known)
    assert {"contiguity", "delaunay", "gaussian", "knn", "radius"} <= set(known)


def test_unknown_name() -> None:
    """The message holds the known names and the closest."""
    with pytest.raises(
        UnknownNameError, match=r"no neighbour is called 'knm' \(did you mean 'knn'\?\); there are"
    ):
        registry.load("neighbours", "knm")


def test_third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the entry points of other packages."""
    entry = importlib.metadata.EntryPoint("ring", "json:dumps", "stgraph.neighbours")

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [entry] if group == "stgraph.neighbours" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert "ring" in registry.names("neighbours")
    assert "ring" not in registry.names("models")
    assert registry.load("neighbours", "ring") is importlib.import_module("json").dumps
