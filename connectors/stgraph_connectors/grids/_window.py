"""Which cells of a raster become nodes, and what is read for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.graph import BoolArray
from stgraph.report import Report
from stgraph_connectors.grids._field import Axis, Field, Floats

Int64Array = npt.NDArray[np.int64]
Reduce = Literal["mean", "sum", "min", "max", "first"]

_AT_ONCE = 8_000_000  # values of the file that are in memory together
_TURN = 360.0


@dataclass(frozen=True)
class Window:
    """Blocks of cells inside the box, and the rows and columns of the file they are made of."""

    rows: Int64Array  # (R,) blocks of rows
    columns: Int64Array  # (C,) blocks of columns
    y: Axis  # of those rows
    x: Axis  # of those columns, longitudes from -180 to 180
    every: int
    columns_around: int | None  # blocks around the globe, where the grid goes around it
    crs: pyproj.CRS

    @property
    def n_cells(self) -> int:
        """Number of blocks."""
        return len(self.rows) * len(self.columns)


def choose_window(
    field: Field, bbox: Floats | None, every: int, *, report: Report
) -> Window | None:
    """Return the blocks whose middle lies in a box, or None where there is none.

    Parameters
    ----------
    field
        The raster.
    bbox
        West, south, east, north in its CRS; west above east goes over the antimeridian.
    every
        Side of a block in cells, counted from the file's first row and column.
    report
        Takes the findings.
    """
    x, y = field.x.blocks(every), field.y.blocks(every)
    around = None
    if field.crs.is_geographic:
        span = field.x.edges[:, 1].max() - field.x.edges[:, 0].min()
        if abs(span - _TURN) < np.median(np.diff(field.x.edges, axis=1)) / 2:
            around = len(x)
        turns = np.floor((x.centres + 180) / _TURN) * _TURN
        if turns.any():
            count = int((turns != 0).sum())
            what = f"{count} of {len(x)} columns have longitudes beyond 180 degrees"
            report.info(field.name, what, "they were brought to -180 .. 180", count=count)
            x = Axis(x.centres - turns, x.edges - turns[:, None])
    columns, rows = np.arange(len(x)), np.arange(len(y))
    if bbox is not None:
        west, south, east, north = bbox
        inside = _between(x.centres, west, east, is_geographic=field.crs.is_geographic)
        columns, rows = columns[inside], rows[(y.centres >= south) & (y.centres <= north)]
        if not len(columns) or not len(rows):
            low, high = (float(bound) for bound in (x.edges.min(), x.edges.max()))
            bottom, top = float(y.edges.min()), float(y.edges.max())
            what = f"{[float(bound) for bound in bbox]} holds no middle of a cell"
            todo = f"the raster covers [{low:g}, {bottom:g}, {high:g}, {top:g}]"
            report.error("`bbox`", what, todo)
            return None
    part_x, part_y = (
        Axis(axis.centres[chosen], axis.edges[chosen]) for axis, chosen in ((x, columns), (y, rows))
    )
    return Window(rows, columns, part_y, part_x, every, around, field.crs)


def _between(x: Floats, west: float, east: float, *, is_geographic: bool) -> BoolArray:
    """Return which x lie in a span; longitudes are the same a turn further."""
    if not is_geographic:
        return (x >= west) & (x <= east)
    east = east + _TURN if west > east else east
    inside = np.zeros(len(x), dtype=bool)
    for turn in (-_TURN, 0.0, _TURN):
        inside |= (x + turn >= west) & (x + turn <= east)
    return inside


def _runs(blocks: Int64Array, every: int, n: int) -> list[slice]:
    """Return the cells of blocks as slices: two where a box goes over the file's edge."""
    breaks = np.flatnonzero(np.diff(blocks) != 1) + 1
    parts = np.split(blocks, breaks)
    return [slice(int(p[0]) * every, min((int(p[-1]) + 1) * every, n)) for p in parts]


def _starts(blocks: Int64Array, every: int) -> Int64Array:
    """Return where each block begins among the cells read for all of them."""
    return np.arange(len(blocks)) * every


def read_window(field: Field, variable: str, steps: slice, window: Window) -> npt.NDArray[Any]:
    """Return the cells of the file that a window is made of, (steps, rows, columns)."""
    rows = _runs(window.rows, window.every, len(field.y))
    columns = _runs(window.columns, window.every, len(field.x))
    return np.concatenate(
        [
            np.concatenate([field.read(variable, steps, r, c) for c in columns], axis=2)
            for r in rows
        ],
        axis=1,
    )


def read_mask(
    field: Field, variable: str, keep: Sequence[float] | None, window: Window
) -> BoolArray:
    """Return the cells of the file that a mask keeps: (rows, columns) of the window."""
    values = read_window(field, variable, slice(0, 1), window)[0]
    known = np.isfinite(values)
    wanted = values != 0 if keep is None else np.isin(values, np.asarray(keep))
    return np.asarray(known & wanted, dtype=bool)


def read_blocks(
    field: Field,
    variable: str,
    window: Window,
    mask: BoolArray | None,
    how: Reduce,
    steps: Int64Array | None = None,
) -> Any:
    """Yield first step, last step and values (steps, blocks), some steps at a time.

    Parameters
    ----------
    field, variable, window
        What to read.
    mask
        Cells of the file that count; None counts all that have data.
    how
        What becomes of the cells of a block.
    steps
        Steps of the file wanted, rising; None reads what never changes.
    """
    n_rows = sum(run.stop - run.start for run in _runs(window.rows, window.every, len(field.y)))
    n_columns = sum(
        run.stop - run.start for run in _runs(window.columns, window.every, len(field.x))
    )
    at_once = max(1, _AT_ONCE // max(1, n_rows * n_columns))
    if at_once > field.chunk_steps > 1:
        at_once -= at_once % field.chunk_steps  # never unpack a chunk twice
    at_once = max(at_once, min(field.chunk_steps, 8 * at_once))
    first, last = (0, 1) if steps is None else (int(steps[0]), int(steps[-1]) + 1)
    for start in range(first, last, at_once):
        stop = min(start + at_once, last)
        part = read_window(field, variable, slice(start, stop), window)
        if mask is not None:
            part = np.where(mask, part, np.float32(np.nan))
        blocks = _reduce(part, window, how)
        yield start, stop, blocks.reshape(len(blocks), -1)


def _reduce(part: npt.NDArray[Any], window: Window, how: Reduce) -> npt.NDArray[np.float32]:
    """Return (steps, R, C) blocks of cells, missing cells left out."""
    if window.every == 1:
        return part.astype(np.float32, copy=False)
    rows, columns = (_starts(blocks, window.every) for blocks in (window.rows, window.columns))
    if how == "first":
        return np.asarray(part[:, rows][:, :, columns], dtype=np.float32)
    known = np.isfinite(part)

    def reduce(function: Any, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(
            function.reduceat(function.reduceat(values, rows, axis=1), columns, axis=2)
        )

    if how in ("min", "max"):
        return reduce(np.fmin if how == "min" else np.fmax, part).astype(np.float32)
    total = reduce(np.add, np.where(known, part, 0).astype(np.float64))
    count = reduce(np.add, known.astype(np.int64))
    value = total / np.maximum(count, 1) if how == "mean" else total
    return np.where(count > 0, value, np.nan).astype(np.float32)


# ---------------------------------------------------------------- polygons


def make_nodes(window: Window) -> gpd.GeoDataFrame:
    """Return the blocks as polygons, row by row as in the file, ids `row_column`."""
    row = np.repeat(window.rows, len(window.columns))
    column = np.tile(window.columns, len(window.rows))
    south, north = np.repeat(window.y.edges, len(window.columns), axis=0).T
    west, east = np.tile(window.x.edges, (len(window.rows), 1)).T
    shapes = np.asarray(shapely.box(west, south, east, north), dtype=object)
    ids = np.char.add(np.char.add(row.astype(str), "_"), column.astype(str)).astype(object)
    crs = window.crs
    if crs.is_geographic and crs.is_derived:  # such as a turned pole, which no file format takes
        shapes, crs = _unturned(shapes, crs), pyproj.CRS(4326)
    table = pd.DataFrame({"row": row, "column": column, "kind": "cell"})
    index = pd.Index(ids, name="cell_id")
    return gpd.GeoDataFrame(table.set_index(index), geometry=shapes, crs=crs)


def _unturned(shapes: npt.NDArray[np.object_], crs: pyproj.CRS) -> npt.NDArray[np.object_]:
    """Return polygons of a turned pole in degrees of WGS 84; over 180 they go on beyond it."""
    transformer = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    corners, shape = shapely.get_coordinates(shapes, return_index=True)
    lon, lat = transformer.transform(*corners.T)
    low, high = (np.full(len(shapes), fill) for fill in (np.inf, -np.inf))
    np.minimum.at(low, shape, lon)
    np.maximum.at(high, shape, lon)
    lon = np.where((high - low > _TURN / 2)[shape] & (lon < 0), lon + _TURN, lon)
    return np.asarray(shapely.set_coordinates(shapes, np.column_stack([lon, lat])), dtype=object)
