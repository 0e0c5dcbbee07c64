"""Fitted estimators on disk: one safetensors file with JSON in its header, never pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stgraph.errors import CheckpointError, OutputError
from stgraph.kriging.estimator import Estimator
from stgraph.kriging.interpolation import Kernel
from stgraph.kriging.network import SensorAttention, n_static
from stgraph.tensor_files import read_training_state, write_training_state

_FORMAT = 1  # raised when older versions could not read what is written
_NUMBERS = ("near_m", "far_m", "scale", "trust", "n_each", "floor")
_ARRAYS = ("below", "above", "factors")


def save_estimators(
    estimators: Mapping[str, Estimator], path: Path, *, sensors: Sequence[object]
) -> Path:
    """Write the estimators of a job, by target, and the sensors that they were fitted to.

    Raises
    ------
    OutputError
        The file could not be written.
    """
    state = {
        "estimators_format": _FORMAT,
        "sensors": [str(sensor) for sensor in sensors],
        "estimators": {name: _describe(one) for name, one in estimators.items()},
    }
    try:
        write_training_state(state, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); check it") from error
    return path


def load_estimators(
    path: Path, *, sensors: Sequence[object], near_m: float, far_m: float
) -> dict[str, Estimator]:
    """Read what `save_estimators` wrote, for the same sensors and limits.

    Raises
    ------
    CheckpointError
        There is no such file, it is damaged, or it was fitted to something else.
    """
    advice = "run `stgraph fit` again"
    try:
        state = read_training_state(path)
        if state.get("estimators_format") != _FORMAT:
            raise ValueError("is of another version")
        if state["sensors"] != [str(sensor) for sensor in sensors]:
            raise ValueError(f"was fitted to {len(state['sensors'])} other sensors on the roads")
        found = {name: _restore(parts) for name, parts in state["estimators"].items()}
        for one in found.values():
            if (one.near_m, one.far_m) != (near_m, far_m):
                raise ValueError(f"was fitted with near_m {one.near_m:g}, far_m {one.far_m:g}")
    except (CheckpointError, KeyError, TypeError, ValueError, RuntimeError) as error:
        text = str(error).splitlines()[0].split(";")[0]
        raise CheckpointError(f"{path}: {text or type(error).__name__}; {advice}") from error
    return found


def _describe(estimator: Estimator) -> dict[str, Any]:
    """Return an estimator as nested plain values and tensors."""
    network = estimator.network
    return {
        **{name: getattr(estimator, name) for name in _NUMBERS},
        **{name: torch.tensor(getattr(estimator, name)) for name in _ARRAYS},
        "kernel": estimator.kernel.to_dict(),
        "network": None if network is None else dict(network.state_dict()),
        "notes": dict(estimator.notes),
    }


def _restore(parts: dict[str, Any]) -> Estimator:
    """Return the estimator that `_describe` described."""
    network = None
    if parts["network"] is not None:
        network = SensorAttention(n_static())
        network.load_state_dict(parts["network"])
        network.eval()
    arrays: dict[str, Any] = {name: parts[name].numpy() for name in _ARRAYS}
    return Estimator(
        **{name: parts[name] for name in _NUMBERS},
        **arrays,
        kernel=Kernel.from_dict(parts["kernel"]),
        network=network,
        notes=parts["notes"],
    )
