"""Tensors on disk without pickle: safetensors files, and Lightning's training state as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stgraph.errors import CheckpointError

_STATE_KEY = "stgraph_training_state"


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; anything else, a pickle say, is refused unread."""
    try:
        arrays: dict[str, Tensor] = load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; fit the model again") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no safetensors file or is cut off ({error}); fit the model again"
        ) from error
    return arrays


def read_header(path: Path) -> dict[str, str]:
    """Return the notes in the header of a safetensors file that `read_arrays` can read."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def write_training_state(state: dict[str, Any], path: Path) -> None:
    """Write a nested state as one safetensors file: tensors, and JSON in its header.

    Written aside and moved into place, so that a kill leaves the last state whole.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_to_json(state, tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    save_file(tensors, aside, metadata={_STATE_KEY: text})
    aside.replace(path)


def read_training_state(path: str | Path) -> dict[str, Any]:
    """Return the state of a training run that `write_training_state` wrote."""
    tensors = read_arrays(Path(path))
    text = read_header(Path(path)).get(_STATE_KEY)
    if text is None:
        raise CheckpointError(f"{path} holds no training state; start without resume")
    state: dict[str, Any] = _from_json(json.loads(text), tensors)
    return state


def _to_json(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a nested value as JSON; tensors are put aside and replaced by their name."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):  # pairs, because keys may be numbers
        return {"dict": [[_to_json(k, tensors), _to_json(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_to_json(item, tensors) for item in value]}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not np.isfinite(value):
        return {"float": str(value)}
    return value


def _from_json(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return what `_to_json` turned into JSON."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_from_json(k, tensors): _from_json(v, tensors) for k, v in content}
    if kind == "float":
        return float(content)
    items = [_from_json(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
