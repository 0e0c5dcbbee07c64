"""NetCDF and Zarr through xarray, read window by window."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj

from stgraph._optional import require
from stgraph.errors import DataError, nearest_name
from stgraph.report import Report
from stgraph_connectors.grids._axes import (
    Dimensions,
    Kind,
    attribute,
    coordinate_of,
    find_crs,
    find_dimensions,
)
from stgraph_connectors.grids._field import Axis, Variable, make_axis
from stgraph_connectors.grids._moments import Moments, from_dates, from_instants

_DAMAGED = "cannot be read as {kind}, it is damaged or cut off ({reason})"
_COMPACT = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M"}
_LONG_UNITS = re.compile(r"^\s*(?P<unit>months?|years?)\s+since\s+(?P<base>.+)$", re.IGNORECASE)


@dataclass(frozen=True)
class FieldOptions:
    """How a gridded file is to be understood; None is found out."""

    variables: Sequence[str] = ()
    x_dim: str | None = None
    y_dim: str | None = None
    time_dim: str | None = None
    select: Mapping[str, Any] | None = None
    crs: pyproj.CRS | None = None


@dataclass(frozen=True)
class NetcdfField:
    """Variables of a dataset that share a grid."""

    dataset: Any  # xr.Dataset, nothing of it is in memory
    name: str
    x: Axis
    y: Axis
    crs: pyproj.CRS
    variables: tuple[Variable, ...]
    moments: Moments | None
    dimensions: Dimensions
    picked: Mapping[str, int]  # position on every other dimension
    chunk_steps: int
    is_ours: bool  # opened here, not by the caller

    def close(self) -> None:
        """Close the file, unless it is the caller's."""
        if self.is_ours:
            self.dataset.close()

    def read(
        self, variable: str, steps: slice, rows: slice, columns: slice
    ) -> npt.NDArray[np.float32]:
        """Return (steps, rows, columns), NaN where there is no data; 1 step without time."""
        array = self.dataset.variables[variable]
        where: dict[str, Any] = {self.dimensions.y: rows, self.dimensions.x: columns}
        where |= {dim: place for dim, place in self.picked.items() if dim in array.dims}
        order = [self.dimensions.y, self.dimensions.x]
        if self.dimensions.time in array.dims:
            where[str(self.dimensions.time)] = steps
            order.insert(0, str(self.dimensions.time))
        try:
            part = array.isel(where).transpose(*order).to_numpy()
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise DataError(damaged(self.name, "NetCDF or Zarr", error)) from error
        part = np.asarray(part, dtype=np.float32)
        return part if part.ndim == 3 else part[np.newaxis]


def damaged(name: str, kind: str, error: Exception) -> str:
    """Say that a file cannot be read to its end."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
    what = _DAMAGED.format(kind=kind, reason=reason)
    return f"cannot read raster: 1 problem(s)\n- {name}: {what}; write or download it again"


def open_dataset(path: Path, report: Report) -> Any | None:
    """Return a file or Zarr store as a dataset with nothing of it in memory, or note why not."""
    xarray = require("xarray", extra="raster")
    is_zarr = path.is_dir()
    if not is_zarr:
        require("netCDF4", extra="raster")
    engine = "zarr" if is_zarr else "netcdf4"
    if is_zarr:
        require("zarr", extra="raster")
    try:
        return xarray.open_dataset(
            path, engine=engine, decode_times=False, decode_timedelta=False, decode_coords=False,
            mask_and_scale=True, cache=False, chunks=None,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, AttributeError) as error:
        reason = (str(error).replace(str(path), path.name).splitlines() or [""])[0][:160]
        what = _DAMAGED.format(kind="Zarr" if is_zarr else "NetCDF", reason=reason)
        report.error(path.name, what, "write or download it again")
        return None


def read_dataset(
    dataset: Any, name: str, options: FieldOptions, report: Report, *, is_ours: bool
) -> NetcdfField | None:
    """Return the variables of a dataset that share a grid, or None with findings."""
    given: dict[Kind, str | None] = {
        "x": options.x_dim, "y": options.y_dim, "t": options.time_dim,
    }  # fmt: skip
    names = _choose(dataset, given, options, name, report)
    found = {
        variable: find_dimensions(dataset, variable, given, name=name, report=report)
        for variable in names
    }
    dims = {variable: one for variable, one in found.items() if one is not None}
    if len(dims) < len(names) or not dims:
        return None
    if len({(one.x, one.y) for one in dims.values()}) > 1:
        grids = {v: (one.y, one.x) for v, one in dims.items()}
        todo = "read one grid at a time: name its variables with variables="
        report.error(name, f"variables lie on different grids: {grids}", todo)
        return None
    times = sorted({one.time for one in dims.values() if one.time is not None})
    if len(times) > 1:
        todo = "name variables of one time axis with variables="
        report.error(name, f"variables have different time axes: {times}", todo)
        return None
    first = next((one for one in dims.values() if one.time is not None), dims[names[0]])
    others = tuple(dict.fromkeys(dim for one in dims.values() for dim in one.others))
    picked = _pick(dataset, others, options.select or {}, name, report)
    crs = find_crs(dataset, names[0], first, options.crs, name=name, report=report)
    if crs is None or picked is None:
        return None
    axes = _axes(dataset, first, crs, name, report)
    moments = None
    if first.time is not None:
        moments = _moments(dataset, first.time, name, report)
    if axes is None or (first.time is not None and moments is None):
        return None
    variables = tuple(
        Variable(v, str(attribute(dataset.variables[v], "units") or ""), dims[v].time is not None)
        for v in names
    )
    return NetcdfField(
        dataset, name, *axes, crs, variables, moments, first, picked,
        _chunk_steps(dataset, names, first), is_ours,
    )  # fmt: skip


# ---------------------------------------------------------------- variables


def _choose(
    dataset: Any,
    given: Mapping[Kind, str | None],
    options: FieldOptions,
    name: str,
    report: Report,
) -> list[str]:
    """Return the names of the variables to read."""
    known = [str(v) for v, array in dataset.variables.items() if array.dtype.kind in "iufb"]
    helpers = {
        text
        for array in dataset.variables.values()
        for key in ("bounds", "climatology", "grid_mapping", "ancillary_variables", "coordinates")
        for text in str(attribute(array, key) or "").split()
    }
    if options.variables:
        unknown = [variable for variable in options.variables if variable not in known]
        for variable in unknown:
            fields = [v for v in known if dataset.variables[v].ndim >= 2 and v not in helpers]
            what = f"no variable {variable!r}{nearest_name(variable, known)}; there are {fields}"
            report.error(name, what, "correct variables=")
        return [] if unknown else list(options.variables)
    chosen = []
    for variable in known:
        dims = dataset.variables[variable].dims
        if variable in helpers or variable in dims or len(dims) < 2:
            continue
        silent = Report()
        if find_dimensions(dataset, variable, given, name=name, report=silent) is not None:
            chosen.append(variable)
    if not chosen:
        fields = [v for v in known if dataset.variables[v].ndim >= 2 and v not in helpers]
        for variable in fields[:1]:  # say what is wrong with it
            find_dimensions(dataset, variable, given, name=name, report=report)
        if not fields:
            what = f"no variable over x and y; variables are {[str(v) for v in dataset.variables]}"
            report.error(name, what, "check the file")
    return chosen


def _pick(
    dataset: Any, others: Sequence[str], select: Mapping[str, Any], name: str, report: Report
) -> dict[str, int] | None:
    """Return the position on every dimension that is neither x, y nor time."""
    unknown = sorted(set(select) - set(others))
    if unknown:
        what = f"no such dimension: {unknown}{nearest_name(unknown[0], others)}"
        report.error("`select`", what, f"there are {list(others)} beside x, y and time")
    picked = {}
    for dim in others:
        size, coordinate = dataset.sizes[dim], coordinate_of(dataset, dim)
        labels = np.arange(size) if coordinate is None else coordinate.to_numpy()
        if dim not in select and size == 1:
            picked[dim] = 0
            continue
        shown = [label.item() if hasattr(label, "item") else label for label in labels[:8]]
        if dim not in select:
            what = f"has {size} values of `{dim}`: {shown}"
            report.error(name, what, f"choose one with select={{'{dim}': {shown[0]!r}}}")
            continue
        place = _position(labels, select[dim])
        if place is None:
            report.error("`select`", f"`{dim}` has no {select[dim]!r}", f"there are {shown}")
        else:
            picked[dim] = place
    return None if report.errors else picked


def _position(labels: npt.NDArray[Any], wanted: Any) -> int | None:
    """Return the position of a label, None where it is not there."""
    if labels.dtype.kind in "iuf":
        try:
            found = np.flatnonzero(np.isclose(labels.astype(np.float64), float(wanted)))
        except (TypeError, ValueError):
            return None
    else:
        found = np.flatnonzero(labels.astype(str) == str(wanted))
    return int(found[0]) if len(found) else None


def _chunk_steps(dataset: Any, names: Sequence[str], dims: Dimensions) -> int:
    """Return how many steps lie together in the file."""
    largest = 1
    for name in names:
        array = dataset.variables[name]
        chunks = attribute(array, "chunksizes") or attribute(array, "chunks")
        if chunks is not None and dims.time in array.dims:
            largest = max(largest, int(chunks[array.dims.index(dims.time)]))
    return largest


# ---------------------------------------------------------------- axes and time


def _axes(
    dataset: Any, dims: Dimensions, crs: pyproj.CRS, name: str, report: Report
) -> tuple[Axis, Axis] | None:
    """Return columns and rows."""
    centres, bounds = {}, {}
    for dim in (dims.x, dims.y):
        coordinate = coordinate_of(dataset, dim)
        if coordinate is None:
            what = f"the dimension `{dim}` has no coordinates"
            report.error(name, what, "the raster has no georeference; add them to the file")
            return None
        centres[dim] = np.asarray(coordinate.to_numpy(), dtype=np.float64)
        named = attribute(coordinate, "bounds")
        there = named is not None and named in dataset.variables
        bounds[dim] = (
            np.asarray(dataset.variables[named].to_numpy(), dtype=np.float64) if there else None
        )
    axes = []
    for dim, other in ((dims.x, dims.y), (dims.y, dims.x)):
        steps = np.diff(centres[other])
        spacing = float(np.abs(steps).mean()) if len(steps) else None
        axis = make_axis(
            centres[dim], bounds[dim], name=f"{name}, `{dim}`", spacing=spacing,
            is_latitude=dim == dims.y and crs.is_geographic, report=report,
        )  # fmt: skip
        if axis is not None:
            axes.append(axis)
    return (axes[0], axes[1]) if len(axes) == 2 else None


def _moments(dataset: Any, dim: str, name: str, report: Report) -> Moments | None:
    """Return the instants along the time dimension."""
    where = f"{name}, `{dim}`"
    coordinate = coordinate_of(dataset, dim)
    if coordinate is None:
        report.error(where, "has no coordinate, so its instants are not known", "add one")
        return None
    raw = coordinate.to_numpy()
    if len(raw) == 0:
        report.error(where, "has no instants, the raster is empty", "check how it was made")
        return None
    if raw.dtype.kind == "M":  # a dataset that xarray has decoded already
        return from_instants(raw)
    if raw.dtype == object and hasattr(raw[0], "calendar"):
        return from_dates(list(raw), str(raw[0].calendar))
    units = str(attribute(coordinate, "units") or "")
    calendar = str(attribute(coordinate, "calendar") or "standard").lower()
    if raw.dtype.kind in "iuf" and not np.isfinite(raw.astype(np.float64)).all():
        report.error(where, "has instants that are missing or NaN", "repair the file")
        return None
    try:
        return _decode(raw, units, calendar)
    except (ValueError, TypeError, OverflowError) as error:
        what = f"instants such as {raw[0]!s} in {units or 'no units'!r} ({calendar}) are no times"
        todo = 'write units like "hours since 1970-01-01 00:00"'
        report.error(where, f"{what} ({str(error)[:100]})", todo)
        return None


def _decode(raw: npt.NDArray[Any], units: str, calendar: str) -> Moments:
    """Return raw times as instants."""
    import pandas as pd

    cftime = require("cftime", extra="raster")
    months = _LONG_UNITS.match(units)
    if months is not None and calendar != "360_day":
        # calendar months from the first instant on, which is what writers of such units mean
        base = cftime.num2date(0, f"days since {months['base']}", calendar)
        factor = 12 if months["unit"].lower().startswith("y") else 1
        count = np.floor(raw.astype(np.float64) * factor + 1e-6).astype(np.int64)
        ahead = base.month - 1 + count
        same = np.full(len(count), 1, dtype=np.int64)
        clock = ((base.hour * 60 + base.minute) * 60 + base.second) * 1_000_000
        return Moments(
            base.year + ahead // 12,
            ahead % 12 + 1,
            same * min(base.day, 28),
            same * clock,
            calendar,
        )
    if " since " in units:
        dates = cftime.num2date(
            raw, units, calendar, only_use_cftime_datetimes=True, only_use_python_datetimes=False
        )
        return from_dates(list(np.atleast_1d(dates)), calendar)
    text = pd.Series(raw).astype("string" if raw.dtype.kind in "OUST" else "Int64").astype("string")
    length = int(text.str.len().iloc[0])
    if raw.dtype.kind in "iuf" and length not in _COMPACT:
        raise ValueError("numbers without units")
    fmt = _COMPACT[length] if raw.dtype.kind in "iuf" else "ISO8601"
    return from_instants(pd.to_datetime(text, format=fmt))
