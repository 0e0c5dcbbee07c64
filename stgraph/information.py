"""What `stgraph info` tells: this program, a config, or a checkpoint."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

from stgraph import registry

_PACKAGES = (
    "torch",
    "torch-geometric",
    "lightning",
    "numpy",
    "pandas",
    "geopandas",
    "pyogrio",
    "psycopg",
)


def describe(path: Path | None = None) -> dict[str, Any]:
    """Return facts about this program, or about what a path holds.

    Parameters
    ----------
    path
        A folder that `stgraph fit` wrote (a checkpoint, or the run folder around it), or a TOML
        config. None describes the program.

    Returns
    -------
    dict
        Names and values, ready for JSON.

    Raises
    ------
    CheckpointError
        The folder holds no model.
    ConfigError
        The file is no valid config.
    """
    if path is None:
        return _describe_program()
    return _describe_checkpoint(path) if path.is_dir() else _describe_config(path)


def _describe_program() -> dict[str, Any]:
    """Return versions, device and registered names."""
    import torch

    on_gpu = torch.cuda.is_available()
    return {
        "stgraph-gis": version("stgraph-gis"),
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": torch.cuda.get_device_name()
        if on_gpu
        else f"cpu, {torch.get_num_threads()} threads",
        **{group: registry.names(group) for group in get_args(registry.Group)},
    }


def _describe_checkpoint(folder: Path) -> dict[str, Any]:
    """Return what a saved model was fitted on."""
    from stgraph.checkpoint import load_forecaster

    inner = folder / "checkpoint"
    forecaster = load_forecaster(inner if inner.is_dir() else folder)
    inputs = forecaster.inputs
    notes = dict(forecaster.notes)
    if tried := notes.pop("tried", None):
        notes["tried"] = {
            f"{number}. {row['model']}, seed {row['seed']}:": row["why_not"]
            or f"weight {row['weight']}"
            for number, row in enumerate(tried, start=1)
        }
    return {
        "model": forecaster.model,
        "options": dict(forecaster.options),
        "nodes": len(forecaster.node_ids),
        "features": [f"{f.name} ({f.unit or '1'}, {f.role})" for f in inputs.features],
        "head": forecaster.head.kind,
        "step": str(inputs.step),
        "window": inputs.window,
        "horizon": inputs.horizon,
        "zone": inputs.zone,
        "fitted until": str(forecaster.fitted_until),
        "weights": sum(weight.numel() for weight in forecaster.predictor.parameters()),
        **notes,
    }


def _describe_config(path: Path) -> dict[str, Any]:
    """Return what a config asks for, defaults included."""
    from stgraph.config import dump_job
    from stgraph.configfile import read_config

    return dump_job(read_config(path))


def _version(name: str) -> str:
    """Return the version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
