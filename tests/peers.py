"""Other libraries that tests compare with, imported without the warnings of their own."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import pytest

from stgraph.convert.pgt import _signal_class


def peer(name: str) -> ModuleType:
    """Return a module of torch-geometric or torch-geometric-temporal, or skip the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if name.startswith("torch_geometric_temporal"):
                _signal_class()  # lends what the package lacks
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"needs {name}: {error}", allow_module_level=True)
