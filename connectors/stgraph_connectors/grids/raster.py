"""Rasters as graphs: GeoTIFF stacks, NetCDF and Zarr, one node a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError, nearest_name
from stgraph.graph import Feature, Role, STGraph
from stgraph.neighbours import build_k_ring
from stgraph.report import Report
from stgraph_connectors._clock import instant_us
from stgraph_connectors._coordinates import parse_crs
from stgraph_connectors.grids._field import Field, Variable
from stgraph_connectors.grids._geotiff import TiffOptions
from stgraph_connectors.grids._moments import CalendarRule, Steps, place_steps
from stgraph_connectors.grids._netcdf import FieldOptions
from stgraph_connectors.grids._options import (
    Neighbours,
    check_number,
    check_time,
    check_word,
    need,
)
from stgraph_connectors.grids._sources import Dataset, open_source, source_names
from stgraph_connectors.grids._window import (
    Reduce,
    Window,
    choose_window,
    make_nodes,
    read_blocks,
    read_mask,
)

_TITLE = "cannot read raster"


def read_raster(
    source: str | Path | Sequence[str | Path] | Dataset,
    *,
    variables: Sequence[str] | None = None,
    time_dim: str | None = None,
    x_dim: str | None = None,
    y_dim: str | None = None,
    select: Mapping[str, float | str] | None = None,
    crs: str | int | None = None,
    bbox: Sequence[float] | None = None,
    every: int = 1,
    reduce: Reduce = "mean",
    mask: str | None = None,
    mask_keep: Sequence[float] | None = None,
    time_pattern: str | None = None,
    first_time: str | pd.Timestamp | None = None,
    step_minutes: float | None = None,
    calendar: CalendarRule = "nearest",
    start: str | pd.Timestamp | None = None,
    stop: str | pd.Timestamp | None = None,
    zone: str = "UTC",
    feature: str = "value",
    units: Mapping[str, str] | None = None,
    roles: Mapping[str, Role] | None = None,
    neighbours: Neighbours = "queen",
    rings: int = 1,
    max_cells: int = 2_000_000,
    max_values: int = 500_000_000,
) -> STGraph:
    """Read a raster into a graph with one node per cell.

    Only what `variables`, `bbox` and the span ask for is read. Coordinates, time, units, scale
    and fill values are those of the CF conventions.

    Parameters
    ----------
    source
        GeoTIFF (``.tif``), NetCDF (``.nc``) or Zarr (a folder): one, a list, a folder of such
        files, or a pattern such as ``tiles/*.tif``; or an xarray dataset.
    variables
        Names of those to read. None reads all on the grid; what never changes becomes a column
        of the nodes.
    time_dim, x_dim, y_dim
        Dimensions of a NetCDF or Zarr. None finds them by axis, standard name, units and name.
    select
        One value of every other dimension with several, as in ``{"level": 850}``.
    crs
        CRS of the coordinates. None takes that of the file.
    bbox
        ``[west, south, east, north]`` in the CRS of the raster: cells whose middle lies inside.
        West above east goes over the antimeridian, as does east above 180.
    every
        Blocks of so many by so many cells become one.
    reduce
        What becomes of the cells of a block; cells without data are left out.
    mask
        Variable that is 0 or without data where cells are to be dropped, such as a land mask.
    mask_keep
        Values of `mask` to keep. None keeps all but 0.
    time_pattern
        Form of the date in names of GeoTIFF files or bands, as in `strptime`. None finds it.
    first_time
        Instant of the first band or file of GeoTIFFs that hold no dates, in UTC if it names no
        zone; needs `step_minutes`.
    step_minutes
        Length of a step. None finds it out.
    calendar
        Calendars of 360 or 365 days, and steps of months or years: ``"nearest"`` puts them on
        fixed steps (see Notes), ``"error"`` refuses them.
    start, stop
        Leave out steps before `start` and from `stop` on; without a zone they are wall clock.
    zone
        IANA zone of the calendar. Times of rasters are UTC.
    feature
        Name of the quantity of a GeoTIFF with one band a step.
    units, roles
        Unit and role by variable name. None: the unit of the file, role ``"target"``.
    neighbours, rings
        ``"queen"`` (over corners), ``"rook"`` (over sides) or ``"none"``, and how many steps far.
        A grid around the globe closes.
    max_cells, max_values
        Largest number of cells, and of steps x cells x variables, that is read.

    Returns
    -------
    STGraph
        N cells as polygons, ids `row_column` as counted in the file (which `bbox` does not
        change), without those that have no data at any step. Longitudes are -180 to 180.

    Raises
    ------
    DataError
        Lists everything that cannot be used: file, variable, dimension and what to do.
    MissingExtraError
        The packages of the extra ``raster`` are not installed.

    Notes
    -----
    A graph has a fixed step. Instants that come by the month or year get the mean step of
    30.436875 days a month from the first label on; the labels are in
    ``provenance["time_labels"]``. Days of a 360-day calendar are spread over the real year; a
    365-day calendar keeps its dates and lacks 29 February. What moved is in the report.
    """
    report = Report()
    _check(locals(), report)
    system = parse_crs(crs, report)
    box = _read_box(bbox, report)
    report.raise_errors(DataError, title=_TITLE)
    names = [variables] if isinstance(variables, str) else list(variables or ())
    wanted = [*names, *([mask] if mask is not None and names and mask not in names else [])]
    field_options = FieldOptions(wanted, x_dim, y_dim, time_dim, select, system)
    first = None if first_time is None else pd.Timestamp(instant_us(first_time, "UTC"), unit="us")
    tiff_options = TiffOptions(wanted, time_pattern, first, step_minutes, feature, system)
    field = need(open_source(source, field_options, tiff_options, report), report, _TITLE)
    with closing(field):
        layers = [v for v in field.variables if v.name != mask or v.name in names]
        _check_names(field, layers, mask, units, roles, report)
        window = need(choose_window(field, box, every, report=report), report, _TITLE)
        span = _Span(start, stop, zone, step_minutes, calendar)
        steps = _choose_steps(field, layers, span, report)
        _check_size(field, window, layers, steps, (max_cells, max_values), report)
        report.raise_errors(DataError, title=_TITLE)
        signal = _read(field, layers, window, steps, (mask, mask_keep), reduce)
    _note_dropped(signal, field.name, mask, report)
    report.raise_errors(DataError, title=_TITLE)
    graph = _build(signal, window, steps, zone, units or {}, roles or {})
    notes = {"source": source_names(source), "findings": report.to_json()}
    graph = graph.replace(provenance={**graph.provenance, **notes})
    return graph if neighbours == "none" else build_k_ring(graph, k=rings, rule=neighbours)


# ---------------------------------------------------------------- options


def _check(given: dict[str, Any], report: Report) -> None:
    """Note options that cannot be, or that do not go together."""
    check_word("reduce", given["reduce"], get_args(Reduce), report)
    check_word("calendar", given["calendar"], get_args(CalendarRule), report)
    check_word("neighbours", given["neighbours"], get_args(Neighbours), report)
    for name in ("every", "rings", "max_cells", "max_values"):
        check_number(name, given[name], report, least=1, whole=True)
    check_number("step_minutes", given["step_minutes"], report, least=1e-4, optional=True)
    limits = {name: given[name] for name in ("start", "stop", "first_time")}
    check_time(given["zone"], limits, report)
    if given["first_time"] is not None and given["step_minutes"] is None:
        report.error("`step_minutes`", "is missing beside first_time=", "give the step in minutes")
    if given["mask_keep"] is not None and given["mask"] is None:
        report.error("`mask`", "is missing beside mask_keep=", "name the variable")
    for name, role in (given["roles"] or {}).items():
        if role not in get_args(Role):
            what = f"role {role!r} of {name!r}{nearest_name(role, get_args(Role))}"
            report.error("`roles`", what, f"use one of {list(get_args(Role))}")


def _read_box(bbox: Sequence[float] | None, report: Report) -> npt.NDArray[np.float64] | None:
    """Return the box as four numbers, or note that it is none."""
    if bbox is None:
        return None
    try:
        box = np.asarray(bbox, dtype=np.float64)
    except (TypeError, ValueError):
        box = np.zeros(0)
    if box.shape != (4,) or not np.isfinite(box).all() or box[1] > box[3]:
        todo = "give [west, south, east, north]"
        report.error("`bbox`", f"{list(bbox)!r} is no box", todo)
        return None
    return box


def _check_names(
    field: Field,
    layers: list[Variable],
    mask: str | None,
    units: Mapping[str, str] | None,
    roles: Mapping[str, Role] | None,
    report: Report,
) -> None:
    """Note options about variables that are not there."""
    known = [variable.name for variable in layers]
    for option, given in (("units", units), ("roles", roles)):
        for name in sorted(set(given or ()) - set(known)):
            what = f"no variable {name!r}{nearest_name(name, known)}"
            report.error(f"`{option}`", what, f"there are {known}")
    everything = [variable.name for variable in field.variables]
    if mask is not None and mask not in everything:
        what = f"no variable {mask!r}{nearest_name(mask, everything)} on this grid"
        report.error("`mask`", what, f"there are {everything}")
    if not layers:
        report.error(field.name, "holds nothing beside the mask", "name variables=")


# ---------------------------------------------------------------- steps and sizes


@dataclass(frozen=True)
class _Span:
    """Which steps are wanted, and how they are placed."""

    start: str | pd.Timestamp | None
    stop: str | pd.Timestamp | None
    zone: str
    step_minutes: float | None
    calendar: CalendarRule


@dataclass(frozen=True)
class _Chosen:
    """Steps of the file that are read, and where they go."""

    source: npt.NDArray[np.int64]  # (S,) rising
    steps: Steps


def _choose_steps(
    field: Field, layers: list[Variable], span: _Span, report: Report
) -> _Chosen | None:
    """Return the steps of the file between start and stop; None where nothing changes."""
    moments = field.moments
    if moments is None or not any(variable.in_time for variable in layers):
        return None
    real = moments.real_us()
    inside = np.ones(len(real), dtype=bool)
    if span.start is not None:
        inside &= real >= instant_us(span.start, span.zone)
    if span.stop is not None:
        inside &= real < instant_us(span.stop, span.zone)
    if not inside.any():
        what = f"no step lies between start and stop; it has {moments.label(0)} .. "
        report.error(field.name, what + moments.label(len(moments) - 1), "check start= and stop=")
        return None
    wanted = np.flatnonzero(inside)
    steps = place_steps(
        moments.take(wanted), step_minutes=span.step_minutes, calendar=span.calendar,
        name=field.name, report=report,
    )  # fmt: skip
    return None if steps is None else _Chosen(wanted, steps)


def _check_size(
    field: Field,
    window: Window,
    layers: list[Variable],
    chosen: _Chosen | None,
    limits: tuple[int, int],
    report: Report,
) -> None:
    """Refuse more cells or values than allowed, before any is read."""
    max_cells, max_values = limits
    shape = f"{len(window.rows):,} x {len(window.columns):,} = {window.n_cells:,} cells"
    if window.n_cells > max_cells:
        every = int(np.ceil(window.every * np.sqrt(window.n_cells / max_cells)))
        report.error(
            field.name,
            f"has {shape}, {max_cells:,} are allowed",
            f"cut it with bbox=, take blocks with every={every}, or pass "
            f"max_cells={window.n_cells}",
        )
    if chosen is None:
        return
    n_steps, n_layers = len(chosen.steps.time), sum(variable.in_time for variable in layers)
    n_values = n_steps * window.n_cells * n_layers
    if n_values > max_values:
        report.error(
            field.name,
            f"{n_steps:,} steps of {shape} and {n_layers} variable(s) are {n_values:,} values "
            f"({n_values * 4 / 1e9:,.1f} GB), {max_values:,} are allowed",
            "cut it with bbox=, start=, stop= or variables=, or take blocks with every=",
        )


# ---------------------------------------------------------------- values


@dataclass(frozen=True)
class _Signal:
    """What was read of a window: cells with data only."""

    kept: npt.NDArray[np.int64]  # positions of the cells in the window
    n_masked: int  # cells that the mask has dropped
    n_empty: int  # cells without data
    n_infinite: int  # values that are no finite number of 32 bits
    values: npt.NDArray[np.float32] | None  # (T, N, F)
    features: tuple[Variable, ...]
    columns: dict[str, npt.NDArray[np.float32]]  # of what never changes


def _read(
    field: Field,
    layers: list[Variable],
    window: Window,
    chosen: _Chosen | None,
    masked: tuple[str | None, Sequence[float] | None],
    how: Reduce,
) -> _Signal:
    """Read the window variable by variable, some steps at a time."""
    mask = None if masked[0] is None else read_mask(field, masked[0], masked[1], window)
    kept = np.arange(window.n_cells)
    if mask is not None:
        # a block is kept where one of its cells is
        first = np.arange(len(window.rows)) * window.every
        across = np.arange(len(window.columns)) * window.every
        any_row = np.logical_or.reduceat(mask, first, axis=0)
        kept = np.flatnonzero(np.logical_or.reduceat(any_row, across, axis=1))
    n_masked = window.n_cells - len(kept)
    columns = {}
    for variable in layers:
        if chosen is None or not variable.in_time:
            _, _, part = next(read_blocks(field, variable.name, window, mask, how))
            columns[variable.name] = part[0, kept]
    features = tuple(v for v in layers if v.in_time and chosen is not None)
    known = np.zeros(len(kept), dtype=bool)
    n_infinite = 0
    values = None
    if chosen is not None and features:
        shape = (len(chosen.steps.time), len(kept), len(features))
        values = np.full(shape, np.nan, dtype=np.float32)
        for f, variable in enumerate(features):
            for start, stop, part in read_blocks(
                field, variable.name, window, mask, how, chosen.source
            ):
                wanted = (chosen.source >= start) & (chosen.source < stop)
                place = chosen.steps.position[wanted]
                here = part[chosen.source[wanted] - start][:, kept]
                values[place[place >= 0], :, f] = here[place >= 0]
        known, n_infinite = _blank_infinite(values)
    else:
        for column in columns.values():
            known |= np.isfinite(column)
    if not known.all():
        values = None if values is None else values[:, known]
        columns = {name: column[known] for name, column in columns.items()}
    return _Signal(
        kept[known], n_masked, int((~known).sum()), n_infinite, values, features, columns
    )


def _blank_infinite(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.bool_], int]:
    """Make infinite values missing; return which cells have data, and how many were infinite."""
    known, n_infinite = np.zeros(values.shape[1], dtype=bool), 0
    for step in values:  # step by step: a mask of all values would be large
        finite = np.isfinite(step)
        known |= finite.any(axis=1)
        if not finite.all():
            n_infinite += int(np.isinf(step).sum())
            step[~finite] = np.nan
    return known, n_infinite


def _note_dropped(signal: _Signal, name: str, mask: str | None, report: Report) -> None:
    """Say which cells are no nodes."""
    if signal.n_masked:
        what = f"{signal.n_masked:,} cells are outside of `{mask}`"
        report.info(name, what, "they are no nodes", count=signal.n_masked)
    if signal.n_infinite:
        what = f"{signal.n_infinite:,} values are no finite 32-bit numbers"
        report.warning(name, what, "they count as missing", count=signal.n_infinite)
    if not len(signal.kept):
        report.error(name, "no cell holds a value, the raster is empty", "check no-data and mask")
    elif signal.n_empty:
        what = f"{signal.n_empty:,} cells have no data at any step"
        report.info(name, what, "they are no nodes", count=signal.n_empty)


def _build(
    signal: _Signal,
    window: Window,
    chosen: _Chosen | None,
    zone: str,
    units: Mapping[str, str],
    roles: Mapping[str, Role],
) -> STGraph:
    """Put the parts together."""
    nodes = make_nodes(window).iloc[signal.kept]
    for name, column in signal.columns.items():
        nodes[name if name not in nodes.columns else f"source_{name}"] = column
    grid: dict[str, Any] = {"cell": "raster", "every": window.every}
    if window.columns_around is not None:
        grid["columns_around"] = window.columns_around
    parts: dict[str, Any] = {"nodes": nodes, "zone": zone}
    provenance: dict[str, Any] = {"connector": "raster", "grid": grid}
    if chosen is not None and signal.values is not None:
        parts |= {
            "time": chosen.steps.time,
            "values": signal.values,
            "features": tuple(
                Feature(v.name, units.get(v.name, v.unit), roles.get(v.name, "target"))
                for v in signal.features
            ),
        }
        provenance |= chosen.steps.notes
    return STGraph(**parts, provenance=provenance)
