"""Read any table file into a frame that still knows the lines it came from."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet
import pyogrio

from stgraph.errors import nearest_name
from stgraph.report import Report
from stgraph_connectors._hdf import read_hdf
from stgraph_connectors._texts import read_lines

_VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb")
_TEXT_SUFFIXES = (".csv", ".txt", ".tsv")
_HDF_SUFFIXES = (".h5", ".hdf", ".hdf5")
_STYLES = "layer_styles"  # table in which QGIS keeps styles, which GDAL lists as a layer
_OF_OTHERS = {  # endings of files -> the connector that reads them
    ".osm": "osm", ".pbf": "osm", ".osm.xml": "osm", ".net.xml": "sumo", ".graphml": "graphml",
    ".tntp": "tntp", ".omx": "od", ".tif": "raster", ".tiff": "raster", ".nc": "raster",
}  # fmt: skip
SUFFIXES = (*_TEXT_SUFFIXES, ".parquet", ".geoparquet", *_VECTOR_SUFFIXES, *_HDF_SUFFIXES)


@dataclass(frozen=True)
class Table:
    """A frame, the name of its source, and how its rows are called there."""

    frame: pd.DataFrame
    name: str  # "readings.csv", or "`readings`" for a frame given by the caller
    lines: npt.NDArray[np.int64] | None = None  # line of each row in a text file
    headless: bool = False  # a text file whose first line is data
    decimal: str = "."  # decimal sign of numbers that are text

    def at(self, position: int, column: object = None) -> str:
        """Say where a row is: ``readings.csv, column `speed`, line 17``."""
        middle = "" if column is None else f", column `{column}`"
        if self.lines is None:
            return f"{self.name}{middle}, row {position + 1}"
        return f"{self.name}{middle}, line {self.lines[position]}"

    def column(self, column: object) -> str:
        """Say where a column is."""
        return f"{self.name}, column `{column}`"


def read_table(
    source: str | Path | pd.DataFrame,
    report: Report,
    *,
    role: str,
    text: Collection[str] | None,
    layer: str | None = None,
    decimal: str = ".",
) -> Table | None:
    """Read a table of any known kind; None when it cannot be read, which `report` then says.

    Parameters
    ----------
    source
        A path or a frame.
    report
        Takes the findings.
    role
        Name of the argument, for messages: ``"stations"`` or ``"readings"``.
    text
        Lower-case names of the columns of a text file to keep as text; None keeps all as text.
    layer
        Layer of a GeoPackage, or key of an HDF file. None takes the only one.
    decimal
        Decimal sign of text files.
    """
    if isinstance(source, pd.DataFrame):
        _note_layer(layer, f"`{role}`", role, report)
        return _take_frame(source, f"`{role}`", report)
    path = check_path(source, report, role=role, suffixes=SUFFIXES)
    if path is None:
        return None
    suffix = plain_suffix(path)
    if suffix not in (*_HDF_SUFFIXES, *_VECTOR_SUFFIXES):
        _note_layer(layer, path.name, role, report)
    if suffix in _TEXT_SUFFIXES:
        rows = read_lines(path, report, text=text, decimal=decimal)
        if rows is None:
            return None
        return Table(rows.frame, path.name, rows.numbers, rows.headless, decimal)
    frame: pd.DataFrame | None
    if suffix in _HDF_SUFFIXES:
        frame = read_hdf(path, report, key=layer)
    elif suffix in _VECTOR_SUFFIXES:
        frame = _read_layer(path, report, layer)
    else:
        frame = _read_parquet(path, report)
    if frame is not None and len(frame) == 0:
        report.error(path.name, "the table has no rows", "pass a table with data")
        return None
    return None if frame is None else Table(_plain_frame(frame), path.name)


def _take_frame(frame: pd.DataFrame, name: str, report: Report) -> Table | None:
    """Return a frame of the caller as a table, or note why it cannot be one."""
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        names = [str(label) for label in twice.unique()[:5]]
        report.error(name, f"columns appear twice: {names}", "rename them")
        return None
    if len(frame) == 0:
        report.error(name, "the table has no rows", "pass a table with data")
        return None
    return Table(_plain_frame(frame), name)


def _note_layer(layer: str | None, name: str, role: str, report: Report) -> None:
    """Note the name of a layer or key where the source is one table."""
    if layer is not None:
        option = "layer" if role == "stations" else "key"
        report.warning(name, f"is a single table, not {layer!r}", f"{option}= was not used")


def _plain_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a plain frame, the geometry of a layer in the column `geometry`."""
    if isinstance(frame.index, pd.MultiIndex):
        frame = frame.reset_index()
    if not isinstance(frame, gpd.GeoDataFrame):
        return frame
    name = frame.active_geometry_name
    if name is None or name == "geometry":
        return pd.DataFrame(frame)
    return (
        pd.DataFrame(frame)
        .drop(columns="geometry", errors="ignore")
        .rename(columns={name: "geometry"})
    )


def check_path(
    source: object, report: Report, *, role: str, suffixes: Collection[str] | None
) -> Path | None:
    """Return the path if it is a readable file of a known kind, or note why not."""
    if not isinstance(source, str | Path):
        report.error(f"`{role}`", f"is a {type(source).__name__}", "pass a path or a table")
        return None
    path = Path(source)
    if not path.exists():
        beside = [file.name for file in path.parent.glob("*")] if path.parent.is_dir() else []
        what = f"no such file in {path.parent.name or '.'!r}{nearest_name(path.name, beside)}"
        report.error(path.name, what, "check the path")
    elif path.is_dir():
        report.error(path.name, "is a folder", "name the file in it")
    elif suffixes is not None and plain_suffix(path) not in suffixes:
        what = f"unknown kind of file {''.join(path.suffixes) or '(no ending)'!r}"
        report.error(path.name, what, f"{_whose(path)}known endings: {' '.join(suffixes)}")
    elif path.stat().st_size == 0:
        report.error(path.name, "the file is empty", "write it again, or check the download")
    else:
        return path
    return None


def _whose(path: Path) -> str:
    """Return which connector reads files of such a name, empty if none is known to."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".bz2")
    found = (reader for ending, reader in _OF_OTHERS.items() if name.endswith(ending))
    reader = next(found, None)
    return "" if reader is None else f"read it with the connector `{reader}`; "


def plain_suffix(path: Path) -> str:
    """Return the ending in lower case, without ``.gz``."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


# ---------------------------------------------------------------- binary tables and layers


def _read_parquet(path: Path, report: Report) -> pd.DataFrame | None:
    """Read Parquet, as a layer where it says that it is one."""

    def read() -> pd.DataFrame:
        schema = pyarrow.parquet.read_schema(path)
        is_layer = b"geo" in (schema.metadata or {})
        return gpd.read_parquet(path) if is_layer else pd.read_parquet(path)

    return _attempt(read, path, report, kind="Parquet")


def _read_layer(path: Path, report: Report, layer: str | None) -> pd.DataFrame | None:
    """Read one layer of a vector file."""

    def read() -> pd.DataFrame | None:
        tables = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
        layers = [name for name in tables if name != _STYLES] or tables
        if layer is not None and layer not in layers:
            what = f"no layer {layer!r}{nearest_name(layer, layers)}"
            report.error(path.name, what, f"there are {layers}")
            return None
        if layer is None and len(layers) > 1:
            report.error(
                path.name, f"holds {len(layers)} layers", f"name one with layer=: {layers}"
            )
            return None
        return gpd.read_file(path, layer=layer or next(iter(layers), None), engine="pyogrio")

    return _attempt(read, path, report, kind="vector layer")


def _attempt(
    read: Callable[[], pd.DataFrame | None], path: Path, report: Report, *, kind: str
) -> pd.DataFrame | None:
    """Run a reader and note its refusal."""
    try:
        return read()
    except (OSError, ValueError, KeyError, pyogrio.errors.DataSourceError) as error:
        reason = str(error).splitlines()[0].replace(str(path), path.name) if str(error) else ""
        what = f"cannot be read as {kind}, it is damaged or cut off ({reason[:160]})"
        report.error(path.name, what, "write or download it again")
        return None
