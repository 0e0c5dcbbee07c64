"""What every raster is, whatever file it comes from: two axes, instants, and windows to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyproj

from stgraph.report import Report
from stgraph_connectors.grids._moments import Moments

Floats = npt.NDArray[np.float64]
_EVEN = 1e-3  # share of a cell by which cells of one size may differ
_POLE = 90.0


@dataclass(frozen=True)
class Axis:
    """Cells along x or y, in the order of the file: rising or falling."""

    centres: Floats  # (n,)
    edges: Floats  # (n, 2) lower and upper

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.centres)

    def blocks(self, every: int) -> Axis:
        """Return the axis of blocks of cells, the last of which may be smaller."""
        if every == 1:
            return self
        starts = np.arange(0, len(self), every)
        low = np.minimum.reduceat(self.edges[:, 0], starts)
        high = np.maximum.reduceat(self.edges[:, 1], starts)
        return Axis((low + high) / 2, np.column_stack([low, high]))


@dataclass(frozen=True)
class Variable:
    """One quantity of a raster."""

    name: str
    unit: str
    in_time: bool  # False: it never changes


class Field(Protocol):
    """A raster that is read window by window."""

    @property
    def name(self) -> str:
        """Name of the source, for messages."""

    @property
    def x(self) -> Axis:
        """Columns."""

    @property
    def y(self) -> Axis:
        """Rows."""

    @property
    def crs(self) -> pyproj.CRS:
        """CRS of the axes."""

    @property
    def variables(self) -> tuple[Variable, ...]:
        """All variables on this grid that may be read."""

    @property
    def moments(self) -> Moments | None:
        """The instants of the source, in its own calendar; None without time."""

    @property
    def chunk_steps(self) -> int:
        """Steps that lie together in the file."""

    def read(
        self, variable: str, steps: slice, rows: slice, columns: slice
    ) -> npt.NDArray[np.float32]:
        """Return (steps, rows, columns), NaN where there is no data; 1 step without time."""

    def close(self) -> None:
        """Close the files that were opened for it."""


def make_axis(
    centres: Floats,
    bounds: Floats | None,
    *,
    name: str,
    spacing: float | None,
    is_latitude: bool,
    report: Report,
) -> Axis | None:
    """Return an axis from centres, and from bounds if the source has them.

    Parameters
    ----------
    centres
        (n,) must rise or fall.
    bounds
        (n, 2). None takes the middles between centres; one centre alone needs `spacing`.
    name
        Where the axis stands, for messages.
    spacing
        Cell size of the other axis, for an axis of one cell.
    is_latitude
        Cut cells at the poles.
    report
        Takes the findings.
    """
    if len(centres) == 0:
        report.error(name, "has no cells, the raster is empty", "check how it was made")
        return None
    if not np.isfinite(centres).all():
        count = int((~np.isfinite(centres)).sum())
        report.error(name, f"{count} coordinates are missing or NaN", "repair the file")
        return None
    steps = np.diff(centres)
    if len(steps) and not ((steps > 0).all() or (steps < 0).all()):
        place = int(np.argmax(np.sign(steps) != np.sign(steps[0]))) if steps[0] else 0
        what = f"neither rises nor falls: {centres[place]:g} is followed by {centres[place + 1]:g}"
        report.error(name, what, "sort the raster along it")
        return None
    if bounds is not None and bounds.shape == (len(centres), 2) and np.isfinite(bounds).all():
        edges = np.sort(bounds, axis=1)
    elif len(steps) == 0 and spacing is None:
        what = "is a single cell without bounds, so that its size is not known"
        report.error(name, what, "add bounds, or read more of the raster")
        return None
    else:
        middle = _middles(centres, spacing)
        edges = np.sort(np.column_stack([middle[:-1], middle[1:]]), axis=1)
    if is_latitude:
        edges = np.clip(edges, -_POLE, _POLE)
    return Axis(centres, edges)


def _middles(centres: Floats, spacing: float | None) -> Floats:
    """Return the n + 1 sides of cells, in the middle between centres; even ones without noise."""
    steps = np.diff(centres)
    if len(steps) == 0:
        half = abs(spacing or 1.0) / 2
        return np.array([centres[0] - half, centres[0] + half])
    mean = (centres[-1] - centres[0]) / len(steps)
    if np.abs(steps - mean).max() <= _EVEN * abs(mean):
        # coordinates of 32 bits differ in the last digit
        return np.asarray(centres[0] + mean * (np.arange(len(centres) + 1) - 0.5))
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = centres[0] - steps[0] / 2, centres[-1] + steps[-1] / 2
    return np.concatenate([[first], middle, [last]])
