"""Stations and their readings, from files as messy as they come, to a graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import available_timezones

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError, nearest_name
from stgraph.graph import Feature, Role, STGraph
from stgraph.report import Report
from stgraph_connectors._adjacency import Links, read_links
from stgraph_connectors._clock import check_limit, instant_us
from stgraph_connectors._coverage import note_missing
from stgraph_connectors._grid import Aggregate, Duplicates, Grid, GridOptions, to_grid
from stgraph_connectors._places import MissingCoordinates, PlaceOptions, read_places
from stgraph_connectors._readings import read_readings
from stgraph_connectors._signal import Layout, ReadingOptions, Readings
from stgraph_connectors._tables import check_path

Missing = Literal["nan", "zero"]

_TITLE = "cannot read stations"


def read_stations(
    stations: str | Path | gpd.GeoDataFrame | pd.DataFrame,
    readings: str | Path | pd.DataFrame | Sequence[str | Path | pd.DataFrame] | None = None,
    *,
    layer: str | None = None,
    id_column: str | None = None,
    lat_column: str | None = None,
    lon_column: str | None = None,
    x_column: str | None = None,
    y_column: str | None = None,
    crs: str | int | None = None,
    missing_coordinates: MissingCoordinates = "drop",
    reading_id_column: str | None = None,
    time_column: str | None = None,
    time_format: str | None = None,
    value_columns: Sequence[str] | None = None,
    layout: Layout = "auto",
    key: str | None = None,
    decimal: Literal[".", ","] = ".",
    feature: str = "value",
    unit: str = "",
    units: Mapping[str, str] | None = None,
    roles: Mapping[str, Role] | None = None,
    zone: str = "UTC",
    start: str | pd.Timestamp | None = None,
    stop: str | pd.Timestamp | None = None,
    step_minutes: float | None = None,
    aggregate: Aggregate = "mean",
    missing: Missing = "nan",
    duplicates: Duplicates = "mean",
    max_cells: int = 500_000_000,
    adjacency: str | Path | None = None,
    adjacency_ids: Sequence[object] | None = None,
    adjacency_drop: Sequence[object] | None = None,
    weight_unit: str = "1",
) -> STGraph:
    """Read a layer of stations and their readings into a graph.

    Nothing is dropped or changed in silence: `graph.report` lists every finding with file,
    column, line and what was done. What cannot be used is raised at once, all of it together.

    Parameters
    ----------
    stations
        CSV, GeoJSON, GeoPackage, (Geo)Parquet, shapefile, or a frame; one row a station. An npz
        of readings names stations without places, for `missing_coordinates` ``"keep"``.
    readings
        CSV (also .gz), Parquet, npz (`values`, `timestamps`, `sensor_ids`), pandas HDF in the
        fixed layout such as ``metr-la.h5``, or a frame. Several are parts of one table. None
        makes a graph without signal.
    layer
        Layer of a GeoPackage. None takes the only one.
    id_column
        Column of the station ids. None guesses it by name (``id``, ``sensor_id`` ...).
    lat_column, lon_column
        Columns of the coordinates in degrees. None guesses them by name.
    x_column, y_column
        Columns of the coordinates in `crs`, in place of degrees.
    crs
        CRS of x and y, or of a layer that does not name one.
    missing_coordinates
        Stations without a place: ``"drop"`` with a warning, ``"keep"``, or ``"error"``.
    reading_id_column, time_column
        Columns of the readings. None guesses them by name.
    time_format
        Format of text times as in `strptime`. None finds it out; what is not clear is an error.
    value_columns
        Columns of quantities in a long table, or columns to read of a wide one. None takes all.
    layout
        ``"long"``: a row per station and instant; ``"wide"``: a column per station;
        ``"auto"``: long if there is a column of ids.
    key
        Table of an HDF file, or layer of readings in a GeoPackage. None takes the only one.
    decimal
        Decimal sign of numbers in text files.
    feature, unit
        Name and unit of the quantity of a wide table; `unit` also serves a long table with one.
    units, roles
        Unit and role by feature name. The role is ``"target"`` unless said otherwise.
    zone
        IANA zone of times that name none, and of the calendar. Times with a zone or offset are
        converted, also where they are mixed.
    start, stop
        Leave out readings before `start` and from `stop` on; without a zone they are wall clock.
    step_minutes
        Length of a step. None takes the most frequent difference and says so.
    aggregate
        How readings finer than the step become one. A sum that lacks a reading is missing.
    missing
        ``"zero"`` takes an exact 0 as missing, as METR-LA needs.
    duplicates
        What to make of several readings of one station at one instant.
    max_cells
        Largest grid (steps x stations x features) that is made.
    adjacency
        Square matrix in npz, CSV or DCRNN's ``adj_mx.pkl``, or a CSV of links (`source`,
        `target`, `weight`). Entry [i, j] is the edge i -> j, 0 is no edge. None makes no edges.
    adjacency_ids
        Ids of the rows of a matrix that does not name them. None: the order of `stations`.
    adjacency_drop
        Rows of a matrix to leave out, by its ids or else by position from 0, where it has more
        stations than there are; the others are `stations` in their order. None leaves out none.
    weight_unit
        Unit of the weights of `adjacency`: ``"m"`` for lengths, ``"1"`` for similarities.

    Returns
    -------
    STGraph
        N stations (ids are text) in the CRS of the layer, T steps in UTC, F features.

    Raises
    ------
    DataError
        Lists everything that cannot be used: file, column, line, value and what to do.

    Notes
    -----
    Wall clocks that a clock change repeats are taken in the order of the rows: the first is the
    earlier instant; one alone is the earlier instant. Wall clocks that it skips never were: these
    rows are dropped. Both are reported.
    """
    report = Report()
    for name, given, known in (
        ("missing_coordinates", missing_coordinates, get_args(MissingCoordinates)),
        ("layout", layout, get_args(Layout)),
        ("decimal", decimal, (".", ",")),
        ("aggregate", aggregate, get_args(Aggregate)),
        ("missing", missing, get_args(Missing)),
        ("duplicates", duplicates, get_args(Duplicates)),
    ):
        _check_word(name, given, known, report)
    _check_clock(zone, step_minutes, {"start": start, "stop": stop}, report)
    _check_format(time_format, report)
    report.raise_errors(DataError, title=_TITLE)
    place_options = PlaceOptions(
        layer, id_column, lat_column, lon_column, x_column, y_column, crs,
        missing_coordinates, decimal,
    )  # fmt: skip
    if isinstance(value_columns, str):
        value_columns = [value_columns]
    reading_options = ReadingOptions(
        reading_id_column, time_column, value_columns, layout, feature, zone, time_format,
        decimal, key,
    )  # fmt: skip
    sources = _as_list(readings)
    places = _read_places(stations, place_options, [*sources, adjacency], report)
    cut = _Cut(start, stop, zone, missing)
    signal = _read_signal(sources, places, reading_options, cut, report)
    grid_options = GridOptions(step_minutes, aggregate, duplicates, max_cells, zone)
    grid = None if signal is None else to_grid(signal, len(places.nodes), grid_options, report)
    features = () if signal is None else _features(signal.features, unit, units, roles, report)
    links = None
    if adjacency is not None:
        links = _read_links(adjacency, places, adjacency_ids, adjacency_drop, report)
    ids = {"adjacency_ids": adjacency_ids, "adjacency_drop": adjacency_drop}
    for option in (option for option, value in ids.items() if value is not None):
        if adjacency is None:
            report.warning(f"`{option}`", "there is no adjacency", "the ids were not used")
    report.raise_errors(DataError, title=_TITLE)
    if grid is not None:
        names = tuple(feature.name for feature in features)
        note_missing(grid, places.nodes.index, names, zone=zone, report=report)
    provenance = {
        "connector": "stations",
        "source": {"stations": _name(stations), "readings": [_name(item) for item in sources]},
        "findings": report.to_json(),
    }
    return _build(places, links, weight_unit, grid, features, zone, provenance)


# ---------------------------------------------------------------- options


def _check_word(name: str, given: str, known: tuple[str, ...], report: Report) -> None:
    """Note an option that is none of its known words."""
    if given not in known:
        what = f"unknown value {given!r}{nearest_name(given, known)}"
        report.error(f"`{name}`", what, f"use one of {list(known)}")


def _check_clock(
    zone: str, step_minutes: float | None, limits: Mapping[str, Any], report: Report
) -> None:
    """Note a zone, step or limit that cannot be."""
    if zone not in available_timezones():
        what = f"unknown time zone {zone!r}{nearest_name(zone, available_timezones())}"
        report.error("`zone`", what, "use an IANA name such as 'Europe/Berlin' or 'Etc/GMT-10'")
    if step_minutes is not None:
        is_number = isinstance(step_minutes, int | float) and math.isfinite(step_minutes)
        if not is_number or step_minutes < 1e-4:
            report.error("`step_minutes`", f"is {step_minutes!r}", "give minutes above 0")
    for name, limit in limits.items():
        check_limit(name, limit, report)


def _check_format(time_format: str | None, report: Report) -> None:
    """Note a format of times that cannot be."""
    try:
        pd.to_datetime(["2024"], format=time_format, errors="coerce")
    except (ValueError, TypeError) as error:
        todo = "write it as for strptime, such as '%d.%m.%Y %H:%M'"
        report.error("`time_format`", f"is {time_format!r} ({error})", todo)


def _as_list(
    readings: str | Path | pd.DataFrame | Sequence[str | Path | pd.DataFrame] | None,
) -> list[str | Path | pd.DataFrame]:
    """Return the sources of readings as a list."""
    if readings is None:
        return []
    if isinstance(readings, Sequence) and not isinstance(readings, str):
        return list(readings)
    return [readings]  # what is no table is refused where it is read


def _name(source: object) -> str:
    """Return the name of a source without its folder."""
    return Path(source).name if isinstance(source, str | Path) else type(source).__name__


# ---------------------------------------------------------------- stages


@dataclass(frozen=True)
class _Places:
    """Stations with a place, and all of them as the source has them."""

    nodes: gpd.GeoDataFrame
    ids: pd.Index[Any]  # of all stations
    kept: npt.NDArray[np.int64]  # position in `nodes` of each of `ids`, -1 where dropped


@dataclass(frozen=True)
class _Cut:
    """What of the readings is to be left out."""

    start: str | pd.Timestamp | None
    stop: str | pd.Timestamp | None
    zone: str
    missing: Missing


def _read_places(
    stations: str | Path | pd.DataFrame,
    options: PlaceOptions,
    others: Sequence[object],
    report: Report,
) -> _Places:
    """Return the stations; without any, raise also what is wrong with the other files."""
    places = read_places(stations, options, report)
    if places is None:
        for other in others:
            if isinstance(other, str | Path):
                check_path(other, report, role="readings", suffixes=None)
        report.raise_errors(DataError, title=_TITLE)
        raise DataError(f"{_TITLE}: {_name(stations)} holds none")
    nodes, ids = places
    return _Places(nodes, ids, np.asarray(nodes.index.get_indexer(ids), dtype=np.int64))


def _read_signal(
    sources: list[str | Path | pd.DataFrame],
    places: _Places,
    options: ReadingOptions,
    cut: _Cut,
    report: Report,
) -> Readings | None:
    """Return the readings of kept stations between start and stop, zeros treated as asked."""
    readings = read_readings(sources, places.ids, options, report) if sources else None
    if readings is None:
        return None
    readings = _keep_stations(readings, places.kept)
    outside = np.zeros(len(readings.time), dtype=bool)
    if cut.start is not None:
        outside |= readings.time < instant_us(cut.start, cut.zone)
    if cut.stop is not None:
        outside |= readings.time >= instant_us(cut.stop, cut.zone)
    if outside.any():
        count = int(outside.sum())
        what = f"{count} rows are before start or from stop on"
        report.info(readings.name, what, "left out", count=count)
        readings = readings.take(np.flatnonzero(~outside))
    if readings.values.size == 0 and report.errors:
        return None  # they say why
    if readings.values.size == 0:
        n_rows = sum(readings.lengths)
        what = f"none of {n_rows} rows is of a station with a place between start and stop"
        report.error(readings.name, what, "check ids, coordinates, start= and stop=")
        return None
    return _blank_zeros(readings, report) if cut.missing == "zero" else readings


def _keep_stations(readings: Readings, kept: npt.NDArray[np.int64]) -> Readings:
    """Return the readings of stations that were kept, by position among these."""
    positions = kept[readings.stations]
    if (positions >= 0).all():
        return replace(readings, stations=positions)
    if readings.is_wide:
        values = readings.values[:, positions >= 0]
        return replace(readings, stations=positions[positions >= 0], values=values)
    return replace(readings, stations=positions).take(np.flatnonzero(positions >= 0))


def _blank_zeros(readings: Readings, report: Report) -> Readings:
    """Return the readings with NaN for every exact 0."""
    zeros = readings.values == 0
    if not zeros.any():
        return readings
    count = int(zeros.sum())
    report.info(readings.name, f"{count} readings are exactly 0", "taken as missing", count=count)
    values = readings.values.astype(np.result_type(readings.values, np.float32))
    values[zeros] = np.nan
    return replace(readings, values=values)


def _features(
    names: tuple[str, ...],
    unit: str,
    units: Mapping[str, str] | None,
    roles: Mapping[str, Role] | None,
    report: Report,
) -> tuple[Feature, ...]:
    """Return the features with their units and roles."""
    for option, given in (("units", units), ("roles", roles)):
        unknown = sorted(set(given or ()) - set(names))
        if unknown:
            hints = ", ".join(f"{name!r}{nearest_name(name, names)}" for name in unknown)
            report.error(f"`{option}`", f"no such feature: {hints}", f"there are {list(names)}")
    known = get_args(Role)
    for name, role in (roles or {}).items():
        if role not in known:
            what = f"role {role!r} of {name!r}{nearest_name(role, known)}"
            report.error("`roles`", what, f"use one of {list(known)}")
    default = unit if len(names) == 1 else ""
    if unit and len(names) > 1:
        what = f"{unit!r} cannot be the unit of all of {list(names)}"
        report.warning("`unit`", what, "it was not used; name each in units=")
    return tuple(
        Feature(name, (units or {}).get(name, default), (roles or {}).get(name, "target"))
        for name in names
    )


def _read_links(
    adjacency: str | Path,
    places: _Places,
    own_ids: Sequence[object] | None,
    drop: Sequence[object] | None,
    report: Report,
) -> Links | None:
    """Return the links between stations that were kept, by position among these."""
    links = read_links(adjacency, places.ids, own_ids, report, drop=drop)
    if links is None:
        return None
    ends = places.kept[links.index]
    inside = (ends >= 0).all(axis=0)
    if not inside.all():
        count = int((~inside).sum())
        what = f"{count} edges are of stations without coordinates"
        report.warning(_name(adjacency), what, "they were dropped with them", count=count)
    return Links(ends[:, inside], links.weight[inside])


def _build(
    places: _Places,
    links: Links | None,
    weight_unit: str,
    grid: Grid | None,
    features: tuple[Feature, ...],
    zone: str,
    provenance: Mapping[str, Any],
) -> STGraph:
    """Put the parts together."""
    parts: dict[str, Any] = {"nodes": places.nodes, "zone": zone, "provenance": provenance}
    if links is not None:
        parts |= {"edge_index": links.index, "edge_weight": links.weight}
        parts |= {"weight_unit": weight_unit}
    if grid is not None:
        parts |= {"time": grid.time, "values": grid.values, "features": features}
        parts["provenance"] = {**provenance, "step_minutes": grid.step_minutes}
    return STGraph(**parts)
