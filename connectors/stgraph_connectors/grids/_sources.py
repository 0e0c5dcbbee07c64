"""The files of a raster: one, several, a folder, a pattern, or a dataset in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from stgraph.report import Report
from stgraph_connectors._tables import check_path
from stgraph_connectors.grids._field import Field
from stgraph_connectors.grids._geotiff import TiffOptions, read_geotiffs
from stgraph_connectors.grids._netcdf import FieldOptions, open_dataset, read_dataset
from stgraph_connectors.grids._parts import join_fields

_TIFF = (".tif", ".tiff", ".gtiff")
_NETCDF = (".nc", ".nc4", ".cdf", ".netcdf")


@runtime_checkable
class Dataset(Protocol):
    """What is read of an xarray dataset."""

    @property
    def data_vars(self) -> Any:
        """Its variables."""

    @property
    def sizes(self) -> Any:
        """Its dimensions."""


def open_source(
    source: object, options: FieldOptions, tiff_options: TiffOptions, report: Report
) -> Field | None:
    """Return the source as a field."""
    if isinstance(source, Dataset):
        return read_dataset(source, "`source`", options, report, is_ours=False)
    paths = _paths(source, report)
    if not paths:
        return None
    if all(path.suffix.lower() in _TIFF for path in paths):
        return read_geotiffs(paths, tiff_options, report)
    fields = []
    for path in paths:
        dataset = open_dataset(path, report)
        field = None
        if dataset is not None:
            field = read_dataset(dataset, path.name, options, report, is_ours=True)
            if field is None:
                dataset.close()
        fields.append(field)
    good: list[Field] = [field for field in fields if field is not None]
    whole = None
    if len(good) == len(paths):
        whole = good[0] if len(good) == 1 else join_fields(good, report)
    if whole is None:
        for part in good:
            part.close()
    return whole


def _paths(source: object, report: Report) -> list[Path]:
    """Return the files of a source: all of one kind, folders and patterns expanded."""
    given = [source] if isinstance(source, str | Path) else source
    if not isinstance(given, Sequence) or not given:
        what = f"is a {type(source).__name__}" if given else "is an empty list"
        report.error("`source`", what, "pass a path, a list of them, or an xarray dataset")
        return []
    paths = [path for item in given for path in _expand(item, report)]
    for path in paths:
        if not path.is_dir():
            check_path(path, report, role="source", suffixes=(*_TIFF, *_NETCDF))
    if len({path.suffix.lower() in _TIFF for path in paths}) > 1:
        report.error("`source`", "mixes GeoTIFF with other files", "read them one by one")
    return [] if report.errors else paths


def _expand(item: object, report: Report) -> list[Path]:
    """Return the files that a path, a folder or a pattern stands for."""
    if not isinstance(item, str | Path):
        report.error("`source`", f"holds a {type(item).__name__}", "pass paths")
        return []
    path = Path(item)
    if "*" in path.name:
        found = sorted(path.parent.glob(path.name))
        if not found:
            report.error("`source`", f"no file is like {path.name!r}", "check the pattern")
        return found
    if not path.is_dir() or _is_zarr(path):
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in (*_TIFF, *_NETCDF))
    if not found:
        report.error(path.name, "holds no GeoTIFF or NetCDF", "name a file")
    return found


def _is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr store."""
    marks = ("zarr.json", ".zgroup", ".zmetadata")
    return path.suffix.lower() == ".zarr" or any((path / mark).exists() for mark in marks)


def source_names(source: object) -> list[str]:
    """Return the names of a source without folders."""
    if isinstance(source, str | Path):
        return [Path(source).name]
    if isinstance(source, Sequence):
        return [Path(item).name for item in source]
    return [type(source).__name__]
