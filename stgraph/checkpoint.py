"""Models on disk: safetensors for numbers, JSON for everything else, never pickle."""

from __future__ import annotations

import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from stgraph.calibration import Calibration
from stgraph.errors import CheckpointError, OutputError, STGraphError
from stgraph.forecasting import Forecaster
from stgraph.graph import Feature
from stgraph.inputs import Inputs
from stgraph.models.build import build_predictor
from stgraph.preprocessing.profiles import Profile
from stgraph.preprocessing.scalers import Scaler
from stgraph.tensor_files import read_arrays

FORMAT = 1  # raised when older versions could not read what is written
_MODEL_FILE = "model.json"
_WEIGHTS_FILE = "weights.safetensors"


def save_forecaster(forecaster: Forecaster, folder: str | Path) -> Path:
    """Write a fitted model into a folder: ``model.json`` and ``weights.safetensors``.

    Parameters
    ----------
    forecaster
        What `fit` returned.
    folder
        New, or one that holds a model, which is replaced; anything else is refused.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        It could not be written; an older model in the folder is still there.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and _is_replaceable(folder)):
        raise OutputError(f"{folder} exists and holds no model; choose another folder")
    document, arrays = _describe(forecaster)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error}") from error
    try:
        aside.chmod(0o755)
        save_file(arrays, aside / _WEIGHTS_FILE)
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (aside / _MODEL_FILE).write_text(text, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        aside.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def load_forecaster(folder: str | Path) -> Forecaster:
    """Read a model that `save_forecaster` wrote; nothing in it is ever executed.

    Parameters
    ----------
    folder
        Folder with ``model.json`` and ``weights.safetensors``.

    Returns
    -------
    Forecaster
        On the CPU, ready to forecast.

    Raises
    ------
    CheckpointError
        The folder holds no model, a damaged one, or one of a newer version.
    """
    folder = Path(folder)
    document = _read_document(folder)
    arrays = read_arrays(folder / _WEIGHTS_FILE)
    try:
        return _restore(document, arrays)
    except STGraphError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder} is damaged or was edited ({type(error).__name__}: {error}); "
            "fit the model again"
        ) from error


def _is_replaceable(folder: Path) -> bool:
    """Tell whether a folder is empty or holds a model and nothing else."""
    return {entry.name for entry in folder.iterdir()} <= {_MODEL_FILE, _WEIGHTS_FILE}


def _describe(forecaster: Forecaster) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a forecaster as a JSON document and named tensors."""
    inputs = forecaster.inputs
    arrays = {f"predictor.{k}": v for k, v in forecaster.predictor.state_dict().items()}
    for name in Calibration.__dataclass_fields__:
        arrays[f"calibration.{name}"] = torch.tensor(getattr(forecaster.calibration, name))
    for name in ("lower", "decay", "spread"):
        arrays[f"inputs.{name}"] = torch.tensor(getattr(inputs, name))
    document = {
        "format": FORMAT,
        "stgraph_version": version("stgraph-gis"),
        "model": forecaster.model,
        "options": dict(forecaster.options),
        "node_ids": forecaster.node_ids.tolist(),
        "node_id_type": "int" if forecaster.node_ids.dtype.kind in "iu" else "str",
        "fitted_until": forecaster.fitted_until.isoformat(),
        "tuned_until": forecaster.tuned_until.isoformat(),
        "notes": dict(forecaster.notes),
        "inputs": {
            "window": inputs.window,
            "horizon": inputs.horizon,
            "features": [[f.name, f.unit, f.role] for f in inputs.features],
            "zone": inputs.zone,
            "step_seconds": inputs.step.total_seconds(),
            "season_steps": inputs.season_steps,
            "profile_share": inputs.profile_share,
            "holidays": inputs.holidays,
            "calendar": list(inputs.calendar),
            "scaler": inputs.scaler.to_dict(),
            "profile": None,
        },
    }
    if inputs.profile is not None:
        arrays["inputs.profile"] = torch.tensor(inputs.profile.table)
        document["inputs"]["profile"] = inputs.profile.to_dict()
    return document, {name: value.contiguous() for name, value in arrays.items()}


def _restore(document: dict[str, Any], arrays: dict[str, Tensor]) -> Forecaster:
    """Return the forecaster that `_describe` described."""
    parts = dict(document["inputs"])
    profile = parts.pop("profile")
    inputs = Inputs(
        features=tuple(Feature(*feature) for feature in parts.pop("features")),
        calendar=tuple(parts.pop("calendar")),
        step=pd.Timedelta(seconds=parts.pop("step_seconds")),
        scaler=Scaler.from_dict(parts.pop("scaler")),
        profile=None
        if profile is None
        else Profile.from_dict(profile, arrays["inputs.profile"].numpy()),
        **{name: arrays[f"inputs.{name}"].numpy() for name in ("lower", "decay", "spread")},
        **parts,
    )
    ids = (
        np.array(document["node_ids"])
        if document["node_id_type"] == "int"
        else document["node_ids"]
    )
    node_ids = pd.Index(ids)
    predictor = build_predictor(
        document["model"], document["options"], inputs, n_nodes=len(node_ids)
    )
    weights = {
        name.removeprefix("predictor."): value
        for name, value in arrays.items()
        if name.startswith("predictor.")
    }
    predictor.load_state_dict(weights)
    calibration = {
        name: arrays[f"calibration.{name}"].numpy() for name in Calibration.__dataclass_fields__
    }
    return Forecaster(
        model=document["model"],
        options=document["options"],
        inputs=inputs,
        predictor=predictor.eval(),
        calibration=Calibration(**calibration),
        node_ids=node_ids,
        fitted_until=pd.Timestamp(document["fitted_until"]),
        tuned_until=pd.Timestamp(document["tuned_until"]),
        notes=document["notes"],
    )


def _read_document(folder: Path) -> dict[str, Any]:
    """Return the parsed ``model.json`` of a folder, of a format that we know."""
    path = folder / _MODEL_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(
            f"{folder} holds no model (no {_MODEL_FILE}); give the folder that `stgraph fit` wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); fit the model again") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise CheckpointError(
            f"{path} has format {found!r}, this version reads {FORMAT}; "
            "upgrade stgraph-gis or fit the model again"
        )
    return dict(document)
