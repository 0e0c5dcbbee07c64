"""stgraph: graph-based spatiotemporal forecasts that open in QGIS.

Names are loaded when they are first used: ``import stgraph`` imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; at run time `__getattr__` loads
    from stgraph.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        GraphError,
        InputError,
        MissingExtraError,
        OutputError,
        STGraphError,
        TrainingError,
        UnknownNameError,
    )
    from stgraph.graph import Feature, STGraph
    from stgraph.neighbours import (
        build_contiguity,
        build_delaunay,
        build_from_adjacency,
        build_from_distances,
        build_gaussian,
        build_knn,
        build_radius,
    )
    from stgraph.report import Finding, Report

    __version__: str

# name -> module that defines it; keep `__all__` and the imports above in step
_EXPORTS: dict[str, str] = {
    "CheckpointError": "stgraph.errors",
    "ConfigError": "stgraph.errors",
    "DataError": "stgraph.errors",
    "Feature": "stgraph.graph",
    "Finding": "stgraph.report",
    "GraphError": "stgraph.errors",
    "InputError": "stgraph.errors",
    "MissingExtraError": "stgraph.errors",
    "OutputError": "stgraph.errors",
    "Report": "stgraph.report",
    "STGraph": "stgraph.graph",
    "STGraphError": "stgraph.errors",
    "TrainingError": "stgraph.errors",
    "UnknownNameError": "stgraph.errors",
    "build_contiguity": "stgraph.neighbours",
    "build_delaunay": "stgraph.neighbours",
    "build_from_adjacency": "stgraph.neighbours",
    "build_from_distances": "stgraph.neighbours",
    "build_gaussian": "stgraph.neighbours",
    "build_knn": "stgraph.neighbours",
    "build_radius": "stgraph.neighbours",
}

__all__ = [
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
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("stgraph-gis")
    elif name in _EXPORTS:
        value = getattr(importlib.import_module(_EXPORTS[name]), name)
    else:
        raise AttributeError(f"module 'stgraph' has no attribute {name!r}", name=name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names and what is loaded."""
    return sorted({*globals(), *__all__})
