"""Models on disk: safetensors for numbers, JSON for everything else, never pickle."""

from __future__ import annotations

import hashlib
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from stgraph.calibration import Calibration
from stgraph.config import HeadConfig
from stgraph.errors import CheckpointError, MissingExtraError, OutputError, UnknownNameError
from stgraph.forecasting import Forecaster
from stgraph.graph import Feature
from stgraph.inputs import Inputs
from stgraph.layout import Layout
from stgraph.models.build import build_blend, build_predictor
from stgraph.models.ensemble import Blend, Member
from stgraph.models.predictor import Predictor
from stgraph.preprocessing.profiles import Profile
from stgraph.preprocessing.scalers import Scaler
from stgraph.tensor_files import read_arrays, read_header

FORMAT = 3  # raised when older versions could not read what is written
_MODEL_FILE = "model.json"
_WEIGHTS_FILE = "weights.safetensors"
_DIGEST_KEY = "model_json_sha256"  # in the header of the weights: ties the two files together


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
    document, arrays = _describe(forecaster)
    try:
        check_target(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
            new = Path(aside) / "new"
            new.mkdir()
            save_file(arrays, new / _WEIGHTS_FILE, metadata={_DIGEST_KEY: _digest(document)})
            text = json.dumps(document, indent=1, ensure_ascii=False, default=_plain)
            (new / _MODEL_FILE).write_text(text, encoding="utf-8")
            _put_in_place(new, folder, old=Path(aside) / "old")
    except OutputError:
        raise
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {folder}: {error}") from error
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
        The folder holds no model, a damaged one, or one of another format.
    """
    folder = Path(folder)
    document = _read_document(folder)
    arrays = read_arrays(folder / _WEIGHTS_FILE)
    try:
        with torch.random.fork_rng(devices=[]):  # building a model draws weights
            forecaster = _restore(document, arrays)
        if read_header(folder / _WEIGHTS_FILE).get(_DIGEST_KEY) != _digest(document):
            raise ValueError(f"{_MODEL_FILE} and {_WEIGHTS_FILE} do not belong together")
        return forecaster
    except (UnknownNameError, MissingExtraError):
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines()][:2]  # a few names are enough
        raise CheckpointError(
            f"{folder} is damaged or was edited ({type(error).__name__}: "
            f"{shorten(' '.join(lines), 200)}); fit the model again"
        ) from error


def check_target(folder: Path) -> None:
    """Raise OutputError if a path is there, unless it is an empty folder or a model alone."""
    if not folder.exists():
        return
    known = {_MODEL_FILE, _WEIGHTS_FILE}
    if not folder.is_dir() or not {entry.name for entry in folder.iterdir()} <= known:
        raise OutputError(f"{folder} exists and holds no model; choose another folder")


def _put_in_place(new: Path, folder: Path, *, old: Path) -> None:
    """Move a new folder to its place; an older one there stays until that has worked."""
    if folder.exists():
        folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise


def _digest(document: dict[str, Any]) -> str:
    """Return what changes with any change of a JSON document."""
    text = json.dumps(document, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python, anything else that is no JSON as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _describe(forecaster: Forecaster) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a forecaster as a JSON document and named tensors."""
    inputs = forecaster.inputs
    arrays = {f"predictor.{k}": v for k, v in forecaster.predictor.state_dict().items()}
    for name in Calibration.__dataclass_fields__:
        arrays[f"calibration.{name}"] = torch.tensor(getattr(forecaster.calibration, name))
    for name in ("lower", "decay", "spread"):
        arrays[f"inputs.{name}"] = torch.tensor(getattr(inputs, name))
    for name in ("xyz", "cells"):
        if (places := getattr(forecaster.layout, name)) is not None:
            arrays[f"layout.{name}"] = torch.tensor(places)
    document: dict[str, Any] = {
        "format": FORMAT,
        "stgraph_version": version("stgraph-gis"),
        "model": forecaster.model,
        "options": dict(forecaster.options),
        "head": forecaster.head.model_dump(mode="json", exclude_unset=True),
        "members": [member.model_dump(mode="json") for member in forecaster.members],
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
            "length_scale": inputs.length_scale,
            "holidays": inputs.holidays,
            "use_filled": inputs.use_filled,
            "use_seasons": inputs.use_seasons,
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
    inputs = _restore_inputs(document["inputs"], arrays)
    ids = (
        np.array(document["node_ids"])
        if document["node_id_type"] == "int"
        else document["node_ids"]
    )
    node_ids = pd.Index(ids)
    places = {
        name: arrays[f"layout.{name}"].numpy()
        for name in ("xyz", "cells")
        if f"layout.{name}" in arrays
    }
    layout = Layout(len(node_ids), **places)
    head = HeadConfig.model_validate_json(json.dumps(document["head"]))
    members = tuple(Member.model_validate(member) for member in document["members"])
    predictor: Predictor | Blend
    if members:
        predictor = build_blend(members, inputs, layout=layout, head=head)
    else:
        predictor = build_predictor(
            document["model"], document["options"], inputs, layout=layout, head=head
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
        layout=layout,
        fitted_until=pd.Timestamp(document["fitted_until"]),
        tuned_until=pd.Timestamp(document["tuned_until"]),
        notes=document["notes"],
        head=head,
        members=members,
    )


def _restore_inputs(document: dict[str, Any], arrays: dict[str, Tensor]) -> Inputs:
    """Return the inputs of a forecaster that `_describe` described."""
    parts = dict(document)
    profile = parts.pop("profile")
    numbers = {name: arrays[f"inputs.{name}"].numpy() for name in ("lower", "decay", "spread")}
    return Inputs(
        features=tuple(Feature(*feature) for feature in parts.pop("features")),
        calendar=tuple(parts.pop("calendar")),
        step=pd.Timedelta(seconds=parts.pop("step_seconds")),
        scaler=Scaler.from_dict(parts.pop("scaler")),
        profile=None
        if profile is None
        else Profile.from_dict(profile, arrays["inputs.profile"].numpy()),
        **{**parts, **numbers},
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
        is_newer = isinstance(found, int) and found > FORMAT
        todo = "upgrade stgraph-gis" if is_newer else "fit the model again"
        raise CheckpointError(f"{path} has format {found!r}, this version reads {FORMAT}; {todo}")
    return dict(document)
