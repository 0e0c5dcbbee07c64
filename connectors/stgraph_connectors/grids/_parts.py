"""Several files of one raster, each with its own steps, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyproj

from stgraph.report import Report
from stgraph_connectors.grids._field import Axis, Field, Variable
from stgraph_connectors.grids._moments import Moments, join


@dataclass(frozen=True)
class JoinedField:
    """Fields of one grid, one after the other in time."""

    parts: tuple[Field, ...]
    name: str
    moments: Moments | None
    starts: npt.NDArray[np.int64]  # first step of every part, and the end
    chunk_steps: int

    def close(self) -> None:
        """Close the files of all parts."""
        for part in self.parts:
            part.close()

    @property
    def x(self) -> Axis:
        """Columns."""
        return self.parts[0].x

    @property
    def y(self) -> Axis:
        """Rows."""
        return self.parts[0].y

    @property
    def crs(self) -> pyproj.CRS:
        """CRS of the axes."""
        return self.parts[0].crs

    @property
    def variables(self) -> tuple[Variable, ...]:
        """All variables."""
        return self.parts[0].variables

    def read(
        self, variable: str, steps: slice, rows: slice, columns: slice
    ) -> npt.NDArray[np.float32]:
        """Return (steps, rows, columns), NaN where there is no data; 1 step without time."""
        if not next(v for v in self.variables if v.name == variable).in_time:
            return self.parts[0].read(variable, steps, rows, columns)
        found = []
        for part, start, stop in zip(self.parts, self.starts[:-1], self.starts[1:], strict=True):
            first, last = max(steps.start, int(start)), min(steps.stop, int(stop))
            if first < last:
                inside = slice(first - int(start), last - int(start))
                found.append(part.read(variable, inside, rows, columns))
        return np.concatenate(found)


def join_fields(fields: Sequence[Field], report: Report) -> Field | None:
    """Return several files as one, in order of time, or note why they do not fit."""
    first = fields[0]
    name = f"{first.name} and {len(fields) - 1} more"
    moments = [field.moments for field in fields if field.moments is not None]
    if len(moments) < len(fields):
        report.error(name, "one of the files has no time", "read them one by one")
        return None
    for other in fields[1:]:
        same = np.array_equal(other.x.centres, first.x.centres) and np.array_equal(
            other.y.centres, first.y.centres
        )
        if not same or not other.crs.equals(first.crs):
            what = f"{other.name} has another grid or CRS than {first.name}"
            report.error(name, what, "regrid all files to one grid")
        elif other.variables != first.variables:
            ours, theirs = ([v.name for v in field.variables] for field in (first, other))
            what = f"{other.name} has the variables {theirs}, {first.name} {ours}"
            report.error(name, what, "name those of all files with variables=")
        elif moments[fields.index(other)].calendar != moments[0].calendar:
            report.error(name, f"{other.name} has another calendar than {first.name}", "convert it")
    if report.errors:
        return None
    order = sorted(range(len(fields)), key=lambda i: int(moments[i].own_us()[0]))
    if order != list(range(len(fields))):
        report.info(name, "files are not in order of time", "they were sorted")
    ordered = [moments[i] for i in order]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in ordered])]).astype(np.int64)
    chunk_steps = max(field.chunk_steps for field in fields)
    return JoinedField(tuple(fields[i] for i in order), name, join(ordered), starts, chunk_steps)
