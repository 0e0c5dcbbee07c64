"""Read a layer of stations: ids, attributes and places."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely

from stgraph.report import Report
from stgraph_connectors._arrays import ARRAY_IDS, pick, read_npz
from stgraph_connectors._cells import to_numbers
from stgraph_connectors._coordinates import (
    LATITUDE_NAMES,
    LONGITUDE_NAMES,
    X_NAMES,
    Y_NAMES,
    Bools,
    blank_zero,
    check_numbers,
    parse_crs,
)
from stgraph_connectors._ids import ID_NAMES, clean_ids, guess_column, require_column, shorten
from stgraph_connectors._tables import Table, check_path, plain_suffix, read_table

MissingCoordinates = Literal["drop", "keep", "error"]


@dataclass(frozen=True)
class PlaceOptions:
    """How the layer of stations is to be understood; None is found out."""

    layer: str | None = None
    id_column: str | None = None
    lat_column: str | None = None
    lon_column: str | None = None
    x_column: str | None = None
    y_column: str | None = None
    crs: str | int | None = None
    missing: MissingCoordinates = "drop"
    decimal: str = "."
    id_names: tuple[str, ...] = ID_NAMES  # known names of the column of ids

    @property
    def names_degrees(self) -> bool:
        """Tell whether columns of latitude or longitude are named."""
        return self.lat_column is not None or self.lon_column is not None

    @property
    def names_metres(self) -> bool:
        """Tell whether columns of x or y are named."""
        return self.x_column is not None or self.y_column is not None


@dataclass(frozen=True)
class _Columns:
    """Names of the columns of coordinates; None where there are none."""

    x: Any | None
    y: Any | None
    in_degrees: bool

    @property
    def names(self) -> tuple[Any, Any]:
        """Names of the x and the y column."""
        return self.x, self.y


def read_places(
    source: str | Path | pd.DataFrame, options: PlaceOptions, report: Report
) -> tuple[gpd.GeoDataFrame, pd.Index[Any]] | None:
    """Return the stations that have a place, and the ids of all of them in the source's order.

    Parameters
    ----------
    source
        Path or frame.
    options
        How to understand it.
    report
        Takes the findings; None is returned when the layer cannot be used at all.
    """
    if isinstance(source, str | Path) and plain_suffix(Path(source)) == ".npz":
        table = _read_ids_of_arrays(source, report)
    else:
        table = read_table(
            source, report, role="stations", text=None, layer=options.layer, decimal=options.decimal
        )
    if table is None:
        return None
    if table.headless:
        table = _name_columns(table, report)
    if table is None:
        return None
    ids = _read_ids(table, options, report)
    geometry = _read_geometry(table, options, report)
    if ids is None or geometry is None:
        return None
    frame = _attributes(table, ids.name, options, report)
    nodes = gpd.GeoDataFrame(frame.assign(kind="station"), geometry=geometry.reset_index(drop=True))
    nodes.index = pd.Index(ids.to_numpy(dtype=object), name=str(ids.name))
    kept = _check_ids(nodes, table, report)
    nodes = nodes[kept]
    order = nodes.index
    return _treat_missing(nodes, options.missing, table, report), order


def _read_ids_of_arrays(source: str | Path, report: Report) -> Table | None:
    """Return the stations that an npz of readings names; they have no places."""
    path = check_path(source, report, role="stations", suffixes=(".npz",))
    arrays = None if path is None else read_npz(path, report)
    if path is None or arrays is None:
        return None
    ids = pick(arrays, ARRAY_IDS, name=path.name, report=report)
    if ids is None:
        return None
    if ids.ndim != 1 or not len(ids):
        what = f"has shape {ids.shape}"
        report.error(f"{path.name}, `sensor_ids`", what, "it must be one id a station")
        return None
    return Table(pd.DataFrame({"sensor_id": clean_ids(ids)}), path.name)


def _attributes(
    table: Table, id_column: object, options: PlaceOptions, report: Report
) -> pd.DataFrame:
    """Return the columns beside id and geometry, those of text files as numbers where they are."""
    taken = [name for name in table.frame.columns if name in (id_column, "geometry")]
    frame = table.frame.drop(columns=taken).reset_index(drop=True)
    if "geometry" in taken and not _is_place(table, options):
        report.info(table.column("geometry"), "is not used", "other columns give the places")
    if "kind" in frame.columns:
        report.info(table.column("kind"), "is a name of ours", "renamed `source_kind`")
        frame = frame.rename(columns={"kind": "source_kind"})
    return frame if table.lines is None else frame.apply(_to_attribute, decimal=table.decimal)


def _name_columns(table: Table, report: Report) -> Table | None:
    """Name the columns of a file without header: id, lat, lon with or without a row number."""
    n_columns = table.frame.shape[1]
    names = {3: ["sensor_id", "latitude", "longitude"]}
    names[4] = ["index", *names[3]]
    where = f"{table.name}, line 1"
    if n_columns not in names:
        report.error(where, f"no header over {n_columns} columns", "write a line of column names")
        return None
    report.info(where, "no header", f"columns were taken as {names[n_columns]}")
    return replace(table, frame=table.frame.set_axis(names[n_columns], axis=1))


def _to_attribute(column: pd.Series, *, decimal: str) -> pd.Series:
    """Return a text column as numbers if all of it are plain numbers; ids like 0970 stay text."""
    text = column.astype("string").str.strip()
    filled = text[text.fillna("") != ""].str.replace(decimal, ".", regex=False)
    plain = filled.str.fullmatch(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
    if len(filled) == 0 or not bool(plain.all()):
        return column
    numbers = pd.to_numeric(filled.astype(object))
    return numbers if len(filled) == len(text) else numbers.astype(float).reindex(text.index)


# ---------------------------------------------------------------- ids


def _read_ids(table: Table, options: PlaceOptions, report: Report) -> pd.Series[Any] | None:
    """Return the ids as text, named like their column."""
    frame, id_column = table.frame, options.id_column
    columns = [name for name in frame.columns if name != "geometry"]
    if id_column is not None and id_column != frame.index.name:
        found = require_column(id_column, columns, table=table, option="id_column", report=report)
    elif frame.index.name is not None or not isinstance(frame.index, pd.RangeIndex):
        return pd.Series(list(clean_ids(frame.index)), name=frame.index.name or "id")
    else:
        found = guess_column(
            columns, options.id_names, table=table, option="id_column", report=report
        )
    if found is None:
        return None
    return pd.Series(list(clean_ids(frame[found])), name=found)


def _check_ids(nodes: gpd.GeoDataFrame, table: Table, report: Report) -> Bools:
    """Note ids that are missing or appear twice; return the rows to keep."""
    column = nodes.index.name
    missing = np.asarray(nodes.index == "", dtype=bool)
    if missing.any():
        first = int(np.argmax(missing))
        what = f"{int(missing.sum())} stations have no id"
        report.error(table.at(first, column), what, "give every station an id")
    twice = nodes.index.duplicated() & ~missing
    plain = pd.DataFrame(nodes.drop(columns="geometry")).astype("string").fillna("")
    plain = plain.assign(_id=nodes.index, _place=shapely.to_wkb(np.asarray(nodes.geometry)))
    same = twice & plain.duplicated().to_numpy()
    if same.any():
        first = int(np.argmax(same))
        ids = shorten(list(nodes.index[same]), 5)
        what = f"{int(same.sum())} rows repeat an earlier one word for word: {ids}"
        report.warning(table.at(first), what, "they were dropped", count=int(same.sum()))
    other = twice & ~same
    if other.any():
        first = int(np.argmax(other))
        ids = shorten(list(pd.unique(pd.Series(nodes.index[other]))), 5)
        report.error(
            table.at(first, column),
            f"{int(other.sum())} stations have an id that an earlier one has: {ids}",
            "make ids unique, or name another column with id_column=",
            count=int(other.sum()),
        )
    return np.asarray(~(twice | missing), dtype=bool)


# ---------------------------------------------------------------- places


def _read_geometry(table: Table, options: PlaceOptions, report: Report) -> gpd.GeoSeries | None:
    """Return the geometry of every row, None where there is none."""
    system = parse_crs(options.crs, report)
    if options.crs is not None and system is None:
        return None
    if _is_place(table, options):
        column = table.frame["geometry"]
        if isinstance(column.dtype, gpd.array.GeometryDtype):
            return _layer_geometry(gpd.GeoSeries(column), system, table, report)
        return _wkt_geometry(table, system, report)
    columns = _find_columns(table, options, report)
    if columns is None:
        return None
    if columns.x is None:
        nowhere = np.full(len(table.frame), None, dtype=object)
        return gpd.GeoSeries(nowhere, index=table.frame.index, crs=system)
    if columns.in_degrees and system is not None and not system.is_geographic:
        what = f"crs is {system.name}, in metres, but the columns are latitude and longitude"
        report.error(table.name, what, "leave crs= out, or name x_column= and y_column=")
        return None
    if not columns.in_degrees and system is None:
        what = f"columns `{columns.x}` and `{columns.y}` have no CRS"
        report.error(table.name, what, "say which with crs=, such as crs=2193")
        return None
    return _points(table, columns, system or pyproj.CRS(4326), report)


def _is_place(table: Table, options: PlaceOptions) -> bool:
    """Tell whether the column `geometry` is to be used: shapes, or text if nothing else is."""
    if "geometry" not in table.frame or options.names_degrees or options.names_metres:
        return False
    lower = {str(name).strip().lower() for name in table.frame.columns}
    has_numbers = bool(lower & {*LATITUDE_NAMES, *X_NAMES})
    is_shape = isinstance(table.frame["geometry"].dtype, gpd.array.GeometryDtype)
    return is_shape or not has_numbers


def _wkt_geometry(table: Table, crs: pyproj.CRS | None, report: Report) -> gpd.GeoSeries | None:
    """Return the shapes of a column of well-known text."""
    text = table.frame["geometry"].astype("string").str.strip().fillna("")
    shapes = shapely.from_wkt(text.replace("", None).to_numpy(dtype=object), on_invalid="ignore")
    bad = np.asarray(shapely.is_missing(shapes)) & (text != "").to_numpy(dtype=bool)
    if bad.any():
        first = int(np.argmax(bad))
        what = f"{text.iloc[first]!r} is no well-known text ({int(bad.sum())} such cell(s))"
        report.error(table.at(first, "geometry"), what, "write it like POINT (174.76 -36.85)")
        return None
    return _layer_geometry(gpd.GeoSeries(shapes, index=table.frame.index), crs, table, report)


def _points(table: Table, columns: _Columns, crs: pyproj.CRS, report: Report) -> gpd.GeoSeries:
    """Return points from two columns of numbers."""
    x, y = (to_numbers(table.frame[name], table, report, name=name) for name in columns.names)
    check_numbers(x, y, crs, table, columns.names, report)
    x, y = blank_zero(x, y, table, report)
    known = np.isfinite(x) & np.isfinite(y)
    points = np.full(len(x), None, dtype=object)
    points[known] = shapely.points(x[known], y[known])
    return gpd.GeoSeries(points, index=table.frame.index, crs=crs)


def _find_columns(table: Table, options: PlaceOptions, report: Report) -> _Columns | None:
    """Return the columns of the coordinates, or note that they cannot be known."""
    if options.names_degrees and options.names_metres:
        what = "both lat/lon and x/y columns are named"
        report.error(table.name, what, "name one pair only")
        return None
    x_option, y_option = ("lon_column", "lat_column")
    for in_degrees, x_known, y_known in (
        (True, LONGITUDE_NAMES, LATITUDE_NAMES),
        (False, X_NAMES, Y_NAMES),
    ):
        if not in_degrees:
            x_option, y_option = ("x_column", "y_column")
        named = options.names_degrees if in_degrees else options.names_metres
        if (options.names_degrees or options.names_metres) and not named:
            continue
        x = _find_column(table, x_option, options, x_known, report, required=named)
        y = _find_column(table, y_option, options, y_known, report, required=named)
        if x is not None and y is not None:
            return _Columns(x, y, in_degrees)
        if named:
            return None
    if options.missing == "keep":
        return _Columns(None, None, in_degrees=True)
    report.error(
        table.name,
        f"no columns of coordinates; columns are {shorten(table.frame.columns)}",
        "name lat_column= and lon_column=, or x_column=, y_column= and crs=; "
        "missing_coordinates='keep' makes a graph without places",
    )
    return None


def _find_column(
    table: Table,
    option: str,
    options: PlaceOptions,
    known: Collection[str],
    report: Report,
    *,
    required: bool,
) -> Any | None:
    """Return the column that an option names, or the one with a known name."""
    given, columns = getattr(options, option), list(table.frame.columns)
    if given is not None:
        return require_column(given, columns, table=table, option=option, report=report)
    return guess_column(
        columns, known, table=table, option=option, report=report, required=required
    )


def _layer_geometry(
    geometry: gpd.GeoSeries, system: pyproj.CRS | None, table: Table, report: Report
) -> gpd.GeoSeries | None:
    """Return the geometry of a layer with a CRS, empty ones as None."""
    if geometry.crs is None and system is None:
        report.error(table.name, "the layer names no CRS", "say which with crs=, such as crs=4326")
        return None
    if geometry.crs is not None and system is not None and geometry.crs != system:
        what = f"the layer is in {geometry.crs.name} but crs= says {system.name}"
        report.error(table.name, what, "leave crs= out; to reproject call to_crs() on the layer")
        return None
    crs = geometry.crs or system or pyproj.CRS(4326)
    shapes = np.asarray(geometry, dtype=object).copy()
    shapes[shapely.is_empty(shapes)] = None
    west, south, east, north = shapely.bounds(shapes).T
    for x, y in ((west, south), (east, north)):
        if check_numbers(x, y, crs, table, ("geometry", "geometry"), report):
            break
    return gpd.GeoSeries(shapes, index=geometry.index, crs=crs)


def _treat_missing(
    nodes: gpd.GeoDataFrame, how: MissingCoordinates, table: Table, report: Report
) -> gpd.GeoDataFrame:
    """Drop, keep or refuse stations without a place."""
    missing = np.asarray(nodes.geometry.isna(), dtype=bool)
    if not missing.any():
        return nodes
    ids = shorten(list(nodes.index[missing]), 5)
    what = f"{int(missing.sum())} of {len(nodes)} stations have no coordinates: {ids}"
    count = int(missing.sum())
    if how == "error":
        report.error(table.name, what, "complete them, or drop them", count=count)
    elif how == "keep":
        report.warning(table.name, what, "they were kept without a place", count=count)
    elif missing.all():
        if report.errors:  # which say already why
            return nodes
        todo = "complete them; missing_coordinates='keep' makes a graph without places"
        report.error(table.name, what, todo, count=count)
    else:
        todo = "they were dropped with their readings; missing_coordinates='keep' keeps them"
        report.warning(table.name, what, todo, count=count)
        return nodes[~missing]
    return nodes
