"""GeoTIFF: a band per step, or a file per step with the date in its name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj

from stgraph._optional import require
from stgraph.errors import DataError, nearest_name
from stgraph.report import Report
from stgraph_connectors.grids._field import Axis, Variable, make_axis
from stgraph_connectors.grids._moments import Moments, from_instants
from stgraph_connectors.grids._netcdf import damaged

_CLOCK = (
    r"(?:[T_ -]?(?P<hour>[01]\d|2[0-3])[:h-]?(?P<minute>[0-5]\d)(?:[:-]?(?P<second>[0-5]\d))?Z?)?"
)
_DATES = tuple(
    re.compile(rf"(?<!\d){pattern}(?!\d)")
    for pattern in (
        r"(?P<year>(?:1[89]|20|21)\d\d)(?P<s>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=s)"
        r"(?P<day>0[1-9]|[12]\d|3[01])" + _CLOCK,
        r"(?P<year>(?:1[89]|20|21)\d\d)[-_.]?(?P<month>0[1-9]|1[0-2])",
        r"(?P<year>(?:1[89]|20|21)\d\d)",
    )
)
_DIRECTIVES = {
    "Y": r"\d{4}", "m": r"\d{2}", "d": r"\d{2}", "H": r"\d{2}", "M": r"\d{2}", "S": r"\d{2}",
    "j": r"\d{3}", "y": r"\d{2}", "b": r"[A-Za-z]{3}", "B": r"[A-Za-z]+",
}  # fmt: skip


@dataclass(frozen=True)
class TiffOptions:
    """How a stack of GeoTIFFs is to be understood."""

    variables: Sequence[str] = ()
    time_pattern: str | None = None
    first_time: pd.Timestamp | None = None
    step_minutes: float | None = None
    feature: str = "value"
    crs: pyproj.CRS | None = None


@dataclass(frozen=True)
class _Header:
    """What a file says before anything of it is read."""

    path: Path
    shape: tuple[int, int]
    transform: tuple[float, ...]
    crs: pyproj.CRS | None
    descriptions: tuple[str, ...]
    units: tuple[str, ...]


@dataclass(frozen=True)
class TiffField:
    """Files of one grid; every step and variable is a band of one of them."""

    name: str
    x: Axis
    y: Axis
    crs: pyproj.CRS
    variables: tuple[Variable, ...]
    moments: Moments | None
    bands: dict[str, list[tuple[Path, int]]]  # of every variable, by step
    chunk_steps: int = 1

    def close(self) -> None:
        """Nothing stays open."""

    def read(
        self, variable: str, steps: slice, rows: slice, columns: slice
    ) -> npt.NDArray[np.float32]:
        """Return (steps, rows, columns), NaN where there is no data; 1 step without time."""
        rasterio = require("rasterio", extra="raster")
        window = rasterio.windows.Window(
            columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        )
        bands = self.bands[variable][steps]
        part = np.empty((len(bands), int(window.height), int(window.width)), dtype=np.float32)
        opened: dict[Path, list[tuple[int, int]]] = {}
        for i, (path, band) in enumerate(bands):
            opened.setdefault(path, []).append((i, band))
        for path, wanted in opened.items():
            try:
                with _open(rasterio, path) as file:
                    for i, band in wanted:
                        data = file.read(band, window=window, masked=True).astype(np.float64)
                        data = data * file.scales[band - 1] + file.offsets[band - 1]
                        part[i] = data.filled(np.nan)
            except rasterio.errors.RasterioError as error:
                raise DataError(damaged(path.name, "GeoTIFF", error)) from error
        return part


def _open(rasterio: Any, path: Path) -> Any:
    """Open a file; that it has no georeference is said elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path)


def read_geotiffs(paths: Sequence[Path], options: TiffOptions, report: Report) -> TiffField | None:
    """Return GeoTIFFs of one grid as a field, or None with findings."""
    headers = [_read_header(path, report) for path in paths]
    good = [header for header in headers if header is not None]
    if len(good) < len(headers) or not good:
        return None
    first = good[0]
    name = first.path.name if len(good) == 1 else f"{first.path.name} and {len(good) - 1} more"
    for other in good[1:]:
        if (other.shape, other.transform, other.crs) != (first.shape, first.transform, first.crs):
            what = f"{other.path.name} has another grid or CRS than {first.path.name}"
            report.error(name, what, "warp all files to one grid")
            return None
    crs = options.crs or first.crs
    own = first.crs
    if own is not None and crs is not None and not crs.equals(own, ignore_axis_order=True):
        what = f"the file says {own.name}, crs= says {crs.name}"
        report.warning(name, what, "crs= was taken")
    is_plain = first.transform == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    if crs is None or is_plain:
        what = "has no georeference: no " + ("transform" if is_plain else "CRS")
        todo = (
            "write it into the file (gdal_edit)" if is_plain else "say it with crs=, or gdal_edit"
        )
        report.error(name, what, todo)
        return None
    axes = _axes(first, crs, name, report)
    stack = _stack(good, options, name, report)
    if axes is None or stack is None:
        return None
    bands, moments = stack
    if options.variables:
        unknown = [variable for variable in options.variables if variable not in bands]
        for variable in unknown:
            what = f"no variable {variable!r}{nearest_name(variable, bands)}"
            report.error(name, what, f"there are {list(bands)}")
        if unknown:
            return None
        bands = {variable: bands[variable] for variable in options.variables}
    units = {v: first.units[entries[0][1] - 1] for v, entries in bands.items()}
    variables = tuple(Variable(v, units[v], moments is not None) for v in bands)
    return TiffField(name, *axes, crs, variables, moments, bands)


def _read_header(path: Path, report: Report) -> _Header | None:
    """Return what a file says about itself."""
    rasterio = require("rasterio", extra="raster")
    try:
        with _open(rasterio, path) as file:
            crs = None if file.crs is None else pyproj.CRS(file.crs.to_wkt())
            return _Header(
                path, file.shape, tuple(file.transform)[:6], crs,
                tuple(text or "" for text in file.descriptions),
                tuple(text or "" for text in file.units),
            )  # fmt: skip
    except rasterio.errors.RasterioError as error:
        reason = (str(error).replace(str(path), path.name).splitlines() or [""])[0][:160]
        what = f"cannot be read as GeoTIFF, it is damaged or cut off ({reason})"
        report.error(path.name, what, "write or download it again")
        return None


def _axes(header: _Header, crs: pyproj.CRS, name: str, report: Report) -> tuple[Axis, Axis] | None:
    """Return columns and rows of a grid that is not turned."""
    a, b, c, d, e, f = header.transform
    if b or d:
        report.error(name, "rows and columns are turned against x and y", "warp it (gdalwarp)")
        return None
    n_rows, n_columns = header.shape
    axes = []
    for origin, size, n, is_latitude in (
        (c, a, n_columns, False),
        (f, e, n_rows, crs.is_geographic),
    ):
        sides = origin + size * np.arange(n + 1)
        bounds = np.column_stack([sides[:-1], sides[1:]])
        axis = make_axis(
            bounds.mean(axis=1), bounds, name=name, spacing=abs(size), is_latitude=is_latitude,
            report=report,
        )  # fmt: skip
        if axis is not None:
            axes.append(axis)
    return (axes[0], axes[1]) if len(axes) == 2 else None


# ---------------------------------------------------------------- what a band is


_Bands = dict[str, list[tuple[Path, int]]]


def _stack(
    headers: Sequence[_Header], options: TiffOptions, name: str, report: Report
) -> tuple[_Bands, Moments | None] | None:
    """Return the band of every variable and step, and the instants."""
    counts = {len(header.descriptions) for header in headers}
    if len(counts) > 1:
        report.error(name, f"files have different numbers of bands: {sorted(counts)}", "sort them")
        return None
    if len(headers) > 1:
        return _files_as_steps(headers, options, name, report)
    header = headers[0]
    dates = [_find_date(text, options.time_pattern) for text in header.descriptions]
    n_bands, dated = len(dates), [date for date in dates if date is not None]
    entries = [(header.path, band + 1) for band in range(n_bands)]
    if len(dated) == n_bands and n_bands > 1:
        return {options.feature: entries}, _in_order(
            dated, {options.feature: entries}, name, report
        )
    if options.first_time is not None and n_bands > 1:
        counted = _counted(n_bands, options.first_time, options)
        return {options.feature: entries}, counted
    date = _find_date(header.path.stem, options.time_pattern)
    if n_bands > 1 and date is None and not any(header.descriptions):
        todo = (
            "name the date in each band's description, or pass first_time= and step_minutes= for "
            "a band per step"
        )
        report.warning(name, f"{n_bands} bands without date or name", f"taken as variables; {todo}")
    bands = _variables(header, options)
    moments = None if date is None else from_instants([date])
    if date is not None and options.time_pattern is None:
        todo = "time_pattern= says where another date stands"
        report.info(name, f"is of {date:%Y-%m-%d %H:%M}, by its name", todo)
    return {v: [(header.path, band)] for v, band in bands.items()}, moments


def _files_as_steps(
    headers: Sequence[_Header], options: TiffOptions, name: str, report: Report
) -> tuple[_Bands, Moments | None] | None:
    """Return one step per file."""
    dates = [_find_date(header.path.stem, options.time_pattern) for header in headers]
    bands = _variables(headers[0], options)
    stack = {v: [(header.path, band) for header in headers] for v, band in bands.items()}
    undated = [h.path.name for h, date in zip(headers, dates, strict=True) if date is None]
    if not undated:
        return stack, _in_order([date for date in dates if date is not None], stack, name, report)
    if options.first_time is not None:
        return stack, _counted(len(headers), options.first_time, options)
    what = f"{len(undated)} file names hold no date, such as {undated[0]!r}"
    todo = "say its form with time_pattern='%Y%m%d', or pass first_time= and step_minutes="
    report.error(name, what, todo)
    return None


def _variables(header: _Header, options: TiffOptions) -> dict[str, int]:
    """Return the name and number of every band of a file."""
    if len(header.descriptions) == 1:
        return {options.feature: 1}
    names = [text or f"band_{i + 1}" for i, text in enumerate(header.descriptions)]
    if len(set(names)) < len(names):
        names = [f"band_{i + 1}" for i in range(len(names))]
    return {text: i + 1 for i, text in enumerate(names)}


def _counted(n: int, first: pd.Timestamp, options: TiffOptions) -> Moments:
    """Return instants a step apart, from the first on."""
    step = pd.Timedelta(minutes=options.step_minutes or 0)
    return from_instants([first + i * step for i in range(n)])


def _in_order(dates: list[pd.Timestamp], stack: _Bands, name: str, report: Report) -> Moments:
    """Return the instants in order, the bands sorted with them."""
    order = sorted(range(len(dates)), key=dates.__getitem__)
    if order != list(range(len(dates))):
        report.info(name, "bands or files are not in order of time", "they were sorted")
        for variable, entries in stack.items():
            stack[variable] = [entries[i] for i in order]
    return from_instants([dates[i] for i in order])


def _find_date(text: str, pattern: str | None) -> pd.Timestamp | None:
    """Return the date in a text: by a `strptime` pattern, or one that is clearly a date."""
    if pattern is not None:
        expression = re.sub(
            r"%([A-Za-z])", lambda found: _DIRECTIVES.get(found[1], ".+?"), _escaped(pattern)
        )
        for match in re.finditer(f"(?={expression})", text):
            whole = re.compile(expression).match(text, match.start())
            stamp = pd.to_datetime(whole[0] if whole else "", format=pattern, errors="coerce")
            if not pd.isna(stamp):
                return pd.Timestamp(stamp)
        return None
    for known in _DATES:
        found = known.search(text)
        if found is not None:
            part = {key: int(value or 0) for key, value in found.groupdict().items() if key != "s"}
            date = part["year"], part.get("month", 1), part.get("day", 1)
            hour, minute, second = (part.get(name, 0) for name in ("hour", "minute", "second"))
            try:
                return pd.Timestamp(datetime(*date, hour, minute, second))  # noqa: DTZ001  # rasters are in UTC
            except ValueError:
                continue
    return None


def _escaped(pattern: str) -> str:
    """Return a `strptime` pattern with all but its directives taken literally."""
    return "".join(
        part if part.startswith("%") else re.escape(part)
        for part in re.split(r"(%[A-Za-z])", pattern)
    )
