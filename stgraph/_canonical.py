"""Bring what a caller gave for a graph into canonical types, noting what cannot be used."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pandas.tseries.frequencies import to_offset

from stgraph.report import Report

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


def clean_nodes(nodes: object, report: Report) -> gpd.GeoDataFrame:
    """Return the nodes as a GeoDataFrame with an active geometry and a `kind`."""
    if not isinstance(nodes, gpd.GeoDataFrame):
        report.error("`nodes`", f"is a {type(nodes).__name__}", "pass a GeoDataFrame")
        return gpd.GeoDataFrame(geometry=[])
    if nodes.active_geometry_name is None:
        report.error("`nodes`", "has no active geometry column", "call set_geometry() on it")
        return gpd.GeoDataFrame(index=nodes.index, geometry=gpd.GeoSeries(index=nodes.index))
    if nodes.active_geometry_name != "geometry":
        if "geometry" in nodes.columns:
            report.error("`nodes`", "has a column `geometry` that is not the active one", "drop it")
            return gpd.GeoDataFrame(geometry=[])
        nodes = nodes.rename_geometry("geometry")
    if "kind" not in nodes.columns:
        nodes = nodes.assign(kind="station")
    if len(nodes) == 0:
        report.error("`nodes`", "is empty", "a graph needs at least one node")
    kind_of_ids = pd.api.types.infer_dtype(nodes.index, skipna=True)
    if len(nodes) and kind_of_ids not in {"string", "integer", "empty"}:
        report.error(
            "`nodes`", f"has ids of type {kind_of_ids}", "use text, or whole numbers, as index"
        )
        return nodes
    duplicated = nodes.index[nodes.index.duplicated()].unique()
    if len(duplicated):
        report.error("`nodes`", f"ids appear twice: {list(duplicated[:5])}", "make ids unique")
    if nodes.index.hasnans:
        report.error("`nodes`", f"{int(np.sum(nodes.index.isna()))} ids are missing", "fill them")
    _check_coordinates(nodes, report)
    return nodes


def _check_coordinates(nodes: gpd.GeoDataFrame, report: Report) -> None:
    """Note a missing CRS, and geometries that are empty, not finite, or no degrees."""
    geometry = np.asarray(nodes.geometry, dtype=object)
    there = ~shapely.is_missing(geometry)
    if nodes.crs is None and there.any():
        report.error("`nodes`", "has geometry but no CRS", "call set_crs() on it")
    present, ids = geometry[there], nodes.index[there]
    west, south, east, north = shapely.bounds(present).T
    odd = ~np.isfinite(west + south + east + north)  # empty geometry has NaN bounds
    if odd.any():
        shown = list(ids[odd][:5])
        report.error("`nodes`", f"empty or not finite geometry at {shown}", "drop or repair them")
    if nodes.crs is not None and nodes.crs.is_geographic and len(present):
        outside = (west < -360) | (east > 360) | (south < -90) | (north > 90)
        if outside.any():
            first = int(np.argmax(outside))
            report.error(
                "`nodes`",
                f"{int(outside.sum())} geometries lie outside the degrees of {nodes.crs.name}, "
                f"first at ({west[first]:g}, {south[first]:g})",
                "check the CRS and whether latitude and longitude are swapped",
                count=int(outside.sum()),
            )


def is_zone(zone: object) -> bool:
    """Tell whether a name is a time zone of the IANA database."""
    try:
        ZoneInfo(zone)  # type: ignore[arg-type]  # whatever the caller gave
    except (AttributeError, OSError, TypeError, ValueError, ZoneInfoNotFoundError):
        return False
    return True


def _as_array(name: str, given: object, report: Report) -> npt.NDArray[Any] | None:
    """Return what the caller gave as an array of real numbers, or note why it is none."""
    try:
        array = given if isinstance(given, np.ndarray) else np.asarray(given)
    except ValueError:
        report.error(f"`{name}`", "has rows of different lengths", "pass an array")
        return None
    real = np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
    if array.size and not real:
        report.error(f"`{name}`", f"has dtype {array.dtype}", "it must hold numbers")
        return None
    return array


def clean_edge_index(edge_index: object, report: Report) -> IntArray:
    """Return the edge index as (2, E) int64."""
    empty = np.zeros((2, 0), dtype=np.int64)
    if edge_index is None:
        return empty
    array = _as_array("edge_index", edge_index, report)
    if array is None:
        return empty
    if array.ndim != 2 or array.shape[0] != 2:
        report.error("`edge_index`", f"has shape {array.shape}", "it must be (2, E)")
        return empty
    if array.size and not np.issubdtype(array.dtype, np.integer):
        report.error("`edge_index`", f"has dtype {array.dtype}", "it must hold whole numbers")
        return empty
    return array.astype(np.int64, copy=False)


def clean_weight(weight: object, edge_index: IntArray, report: Report) -> FloatArray:
    """Return the edge weights as (E,) float32."""
    if weight is None:
        return np.ones(edge_index.shape[1], dtype=np.float32)
    array = _as_array("edge_weight", weight, report)
    if array is None:
        return np.ones(edge_index.shape[1], dtype=np.float32)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def clean_time(time: object, report: Report) -> pd.DatetimeIndex:
    """Return the time axis in UTC with its step as `freq`, or note why it is not one."""
    empty = pd.DatetimeIndex([], tz="UTC").as_unit("us")
    if time is None:
        return empty
    dtype = time.dtype if hasattr(time, "dtype") else np.asarray(time).dtype
    if pd.api.types.is_numeric_dtype(dtype):
        report.error("`time`", "holds numbers", "convert them, as pd.to_datetime(unit=...) does")
        return empty
    try:
        index = pd.DatetimeIndex(time)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        report.error("`time`", f"cannot be read as instants ({error})", "pass a DatetimeIndex")
        return empty
    freq = index.freq
    index = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
    index = index.as_unit("us")
    if index.hasnans:
        report.error("`time`", f"{int(np.sum(index.isna()))} instants are missing", "fill them")
        return index
    if len(index) < 2:
        return _with_freq(index, freq, report)
    steps = np.diff(index.asi8)
    if steps[0] <= 0 or (steps != steps[0]).any():
        place = int(np.argmax((steps != steps[0]) | (steps <= 0)))
        report.error(
            "`time`",
            f"does not rise by a fixed step: {index[place]} is followed by {index[place + 1]}",
            "sort, remove duplicates and resample to a fixed step",
        )
        return index
    step = pd.Timedelta(int(steps[0]), unit="us")
    return pd.date_range(index[0], periods=len(index), freq=step, unit="us")


def _with_freq(index: pd.DatetimeIndex, freq: Any, report: Report) -> pd.DatetimeIndex:
    """Return an axis of at most one instant with its step, which must have a fixed length."""
    if freq is None:
        return index
    try:
        return pd.DatetimeIndex(index, freq=to_offset(pd.Timedelta(freq)))
    except ValueError:
        report.error("`time`", f"has the step {freq!r} of no fixed length", "use a fixed step")
        return index


def clean_values(values: object, n_nodes: int, report: Report) -> FloatArray:
    """Return the values as (T, N, F) float32; a float32 memory map stays one."""
    if values is None:
        return np.zeros((0, n_nodes, 0), dtype=np.float32)
    array = _as_array("values", values, report)
    if array is None:
        return np.zeros((0, n_nodes, 0), dtype=np.float32)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)
