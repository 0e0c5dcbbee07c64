"""Read frames that pandas wrote to HDF5 in its fixed layout, without unpickling anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from stgraph.errors import nearest_name
from stgraph.report import Report

_RESAVE = "save it again with to_hdf(..., format='fixed'), or as CSV or Parquet"


def read_hdf(path: Path, report: Report, *, key: str | None) -> pd.DataFrame | None:
    """Return a frame of numbers from a fixed-layout HDF file, times as index.

    `metr-la.h5` and `pems-bay.h5` are such files. Attributes that hold Python objects are not
    looked at. None when it cannot be read, which `report` then says.
    """
    try:
        with h5py.File(path, "r") as file:
            group = _choose(file, path, report, key)
            return None if group is None else _read_frame(group, path, report)
    except (OSError, RuntimeError, KeyError) as error:
        what = f"cannot be read as HDF5, it is damaged or cut off ({str(error)[:160]})"
        report.error(path.name, what, "copy or download it again")
        return None


def _choose(file: Any, path: Path, report: Report, key: str | None) -> Any:
    """Return the group of the frame to read."""
    groups = {name: item for name, item in file.items() if isinstance(item, h5py.Group)}
    frames = [name for name, group in groups.items() if "axis0" in group and "axis1" in group]
    key = None if key is None else key.strip("/")
    if key is None and len(frames) == 1:
        return groups[frames[0]]
    if key in frames:
        return groups[key]
    if key is not None:
        what = f"no table {key!r}{nearest_name(key, frames)}"
        report.error(path.name, what, f"there are {frames}")
    elif frames:
        report.error(path.name, f"holds {len(frames)} tables", f"name one with key=: {frames}")
    elif any(_text(group.attrs.get("pandas_type")) == "frame_table" for group in groups.values()):
        report.error(path.name, "is in the `table` layout of pandas", _RESAVE)
    else:
        what = f"holds no table of pandas, only {sorted(file)[:5]}"
        report.error(path.name, what, "expected the layout of metr-la.h5: /df with axis0, axis1")
    return None


def _read_frame(group: Any, path: Path, report: Report) -> pd.DataFrame | None:
    """Put the blocks of one frame together."""
    where = f"{path.name}, {group.name}"
    columns = _labels(group["axis0"])
    time = _times(group["axis1"], where, report)
    names = sorted(name for name in group if re.fullmatch(r"block\d+_values", name))
    blocks = [(group[name], _labels(group[name.replace("values", "items")])) for name in names]
    objects = [block.name for block, _ in blocks if block.dtype.kind not in "fiu"]
    if objects:
        report.error(where, f"{objects[0]} holds no numbers but {blocks[0][0].dtype}", _RESAVE)
    if objects or time is None:
        return None
    values = np.full((len(time), len(columns)), np.nan)
    place = {label: position for position, label in enumerate(columns)}
    for block, items in blocks:
        data = np.asarray(block[()])
        # pandas stores a block as (time, columns) and marks it so; very old files have no mark
        if not block.attrs.get("transposed", data.shape[0] == len(time)):
            data = data.T
        if data.shape != (len(time), len(items)) or not set(items) <= set(place):
            what = f"{block.name} has shape {data.shape}, ({len(time)}, {len(items)}) expected"
            report.error(where, what, "the file is inconsistent; write or download it again")
            return None
        values[:, [place[item] for item in items]] = data
    return pd.DataFrame(values, index=time, columns=columns)


def _times(axis: Any, where: str, report: Report) -> pd.DatetimeIndex | None:
    """Return the instants of the time axis, aware if the file names a zone."""
    kind = _text(axis.attrs.get("kind"))
    unit = re.fullmatch(r"datetime64(?:\[(ns|us|ms|s)\])?", kind)
    if unit is None or axis.dtype.kind != "i":
        what = f"axis1 holds {kind or axis.dtype}, not times"
        report.error(where, what, "set a DatetimeIndex before writing the file")
        return None
    data = np.asarray(axis[()]).astype(f"datetime64[{unit.group(1) or 'ns'}]")
    index = pd.DatetimeIndex(data)
    zone = _text(axis.attrs.get("tz"))
    return index.tz_localize("UTC").tz_convert(zone) if zone else index


def _labels(axis: Any) -> list[str]:
    """Return the labels of an axis as text."""
    data = np.asarray(axis[()])
    if data.dtype.kind == "O":  # variable-length text; pickled objects are arrays of bytes
        data = np.array([_text(item) for item in data.ravel()])
    return [_text(item) for item in data.tolist()]


def _text(value: Any) -> str:
    """Return an attribute or label as text; nothing becomes an empty text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return "" if value is None or isinstance(value, h5py.Empty) else str(value)
