"""stgraph: graph-based spatiotemporal forecasts that open in QGIS.

Names are loaded when they are first used: ``import stgraph`` imports nothing else.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; at run time `__getattr__` loads
    from stgraph_connectors.postgis.reading import read_forecast, read_observations
    from stgraph_connectors.sinks.postgis import write_postgis

    from stgraph.backtesting import backtest, evaluate
    from stgraph.checkpoint import load_forecaster, save_forecaster
    from stgraph.config import HeadConfig, TrainConfig
    from stgraph.configfile import read_config
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
    from stgraph.forecasting import Forecaster
    from stgraph.graph import Feature, STGraph
    from stgraph.joining import join_feature
    from stgraph.models.pgt import from_pgt
    from stgraph.neighbours import (
        build_contiguity,
        build_delaunay,
        build_from_adjacency,
        build_from_distances,
        build_gaussian,
        build_k_ring,
        build_knn,
        build_line_graph,
        build_network,
        build_radius,
        snap_stations,
    )
    from stgraph.pipeline import run
    from stgraph.report import Finding, Report
    from stgraph.training import fit
    from stgraph.transferring import transfer

    __version__: str

# name -> module that defines it; keep `__all__` and the imports above in step. Connectors and sinks
# are strings here as in the registry: nothing of them is imported until it is used
_EXPORTS: dict[str, str] = {
    "CheckpointError": "stgraph.errors",
    "ConfigError": "stgraph.errors",
    "DataError": "stgraph.errors",
    "Feature": "stgraph.graph",
    "Finding": "stgraph.report",
    "Forecaster": "stgraph.forecasting",
    "GraphError": "stgraph.errors",
    "HeadConfig": "stgraph.config",
    "InputError": "stgraph.errors",
    "MissingExtraError": "stgraph.errors",
    "OutputError": "stgraph.errors",
    "Report": "stgraph.report",
    "STGraph": "stgraph.graph",
    "STGraphError": "stgraph.errors",
    "TrainConfig": "stgraph.config",
    "TrainingError": "stgraph.errors",
    "UnknownNameError": "stgraph.errors",
    "backtest": "stgraph.backtesting",
    "build_contiguity": "stgraph.neighbours",
    "build_delaunay": "stgraph.neighbours",
    "build_from_adjacency": "stgraph.neighbours",
    "build_from_distances": "stgraph.neighbours",
    "build_gaussian": "stgraph.neighbours",
    "build_k_ring": "stgraph.neighbours",
    "build_knn": "stgraph.neighbours",
    "build_line_graph": "stgraph.neighbours",
    "build_network": "stgraph.neighbours",
    "build_radius": "stgraph.neighbours",
    "evaluate": "stgraph.backtesting",
    "fit": "stgraph.training",
    "from_pgt": "stgraph.models.pgt",
    "join_feature": "stgraph.joining",
    "load_forecaster": "stgraph.checkpoint",
    "read_config": "stgraph.configfile",
    "read_forecast": "stgraph_connectors.postgis.reading",
    "read_observations": "stgraph_connectors.postgis.reading",
    "run": "stgraph.pipeline",
    "save_forecaster": "stgraph.checkpoint",
    "snap_stations": "stgraph.neighbours",
    "transfer": "stgraph.transferring",
    "write_postgis": "stgraph_connectors.sinks.postgis",
}

__all__ = [
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
]

# modules that load torch, now or when their functions are called
_USE_TORCH = (
    "backtesting",
    "checkpoint",
    "forecasting",
    "models.pgt",
    "pipeline",
    "training",
    "transferring",
)


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("stgraph-gis")
    elif name in _EXPORTS:
        if _EXPORTS[name].removeprefix("stgraph.") in _USE_TORCH:
            # measured: on a machine that others use too, spinning threads slow training down 5 to
            # 25 times; OpenMP reads this when torch is first imported and never again
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        value = getattr(importlib.import_module(_EXPORTS[name]), name)
    else:
        raise AttributeError(f"module 'stgraph' has no attribute {name!r}", name=name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names and what is loaded."""
    return sorted({*globals(), *__all__})
