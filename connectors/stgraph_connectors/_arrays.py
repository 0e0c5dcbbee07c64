"""Read numpy archives without unpickling anything."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stgraph.errors import nearest_name
from stgraph.report import Report

Arrays = dict[str, npt.NDArray[Any]]

ARRAY_IDS = ("sensor_ids", "station_ids", "ids")  # names of the array of station ids


def read_npz(path: Path, report: Report) -> Arrays | None:
    """Return the arrays of an npz file, or None when it cannot be read."""
    try:
        with path.open("rb") as file:  # numpy leaves a damaged file open when it opens it itself
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                report.error(path.name, "is a single array", "save named arrays with np.savez")
                return None
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error)
        if "pickle" in reason.lower():
            what, todo = "holds Python objects or is no npz file", "save plain numbers and text"
        else:
            what = f"cannot be read as npz, it is damaged or cut off ({reason[:120]})"
            todo = "write or download it again"
        report.error(path.name, what, todo)
        return None


def pick(
    arrays: Arrays, names: tuple[str, ...], *, name: str, report: Report, required: bool = True
) -> npt.NDArray[Any] | None:
    """Return the array that goes by one of some names, or note that there is none."""
    for candidate in names:
        if candidate in arrays:
            return arrays[candidate]
    if required:
        hint = nearest_name(names[0], arrays)
        report.error(name, f"no array `{names[0]}`{hint}; there are {sorted(arrays)}", "rename it")
    return None
