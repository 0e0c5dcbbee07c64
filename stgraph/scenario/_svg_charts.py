"""Line charts as SVG without any style of its own: the page's style sheet has it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from stgraph.scenario._numbers import decade, number

_WIDTH, _HEIGHT = 900, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 130, 40, 44
_N_TICKS = 5

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart, with its name at its end."""

    name: str
    kind: str  # of the style: "base" or "scn"
    y: Array
    low: Array | None = None  # of the band around it
    high: Array | None = None


def draw_chart(
    x: Array,
    lines: Sequence[Line],
    *,
    ticks: Sequence[tuple[float, str]],
    unit: str,
    name: str,
    title: str,
    desc: str,
    markers: bool = False,
) -> str:
    """Return lines over a common axis, with bands.

    Parameters
    ----------
    x
        (T,) rising, at least 2.
    lines
        Each with T values; NaN makes a gap.
    ticks
        Places on the x axis and what is written there.
    unit
        Of the y axis.
    name
        Id of the picture, unique in its page.
    title, desc
        What it is, and what it shows, for those who do not see it.
    markers
        Points on the lines.
    """
    arrays = [part for line in lines for part in (line.y, line.low, line.high) if part is not None]
    levels = _levels(np.concatenate(arrays))
    across = _scale(float(x.min()), float(x.max()), _LEFT, _WIDTH - _RIGHT)
    down = _scale(levels[0], levels[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(levels, down, [(float(across(np.float64(v))), text) for v, text in ticks], unit)]
    xs = across(x)
    parts += [
        _band(xs, down(line.low), down(line.high))
        for line in lines
        if line.low is not None and line.high is not None
    ]
    for line in lines:
        parts.append(f'<path class="line {line.kind}" d="{_line(xs, down(line.y))}"/>')
        if markers:
            parts += [
                f'<circle class="{line.kind}" cx="{a:.0f}" cy="{b:.0f}" r="4"/>'
                for a, b in zip(xs, down(line.y), strict=True)
                if math.isfinite(b)
            ]
    parts.append(_names(lines, down))
    return (
        f'<svg id="{name}" class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(desc)}</desc>{"".join(parts)}</svg>'
    )


class _scale:  # noqa: N801  # used as a function
    """A straight line from numbers to units of the picture."""

    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        self.low, self.first = low, first
        self.slope = (last - first) / (high - low) if high > low else 0.0

    def __call__(self, value: Array | float) -> Array:
        return np.asarray(self.first + (np.asarray(value, dtype=float) - self.low) * self.slope)


def _levels(values: Array) -> list[float]:
    """Return round numbers around all values, and 0 where they come near it."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if 0 < low < 0.6 * high:
        low = 0.0
    if high < 0 and high > 0.6 * low:
        high = 0.0
    if high <= low:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    rough = (high - low) / _N_TICKS
    step = next(f * decade(rough) for f in (1, 2, 5, 10) if f * decade(rough) >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _axes(levels: list[float], down: _scale, ticks: Sequence[tuple[float, str]], unit: str) -> str:
    """Return the grid with its numbers."""
    step = decade(levels[1] - levels[0])
    parts = [f'<text class="unit" x="{_LEFT}" y="{_TOP - 18}">{escape(unit)}</text>']
    for level in levels:
        y = float(down(level))
        kind = "grid zero" if level == 0 else "grid"
        parts.append(f'<path class="{kind}" d="M{_LEFT} {y:.0f}H{_WIDTH - _RIGHT}"/>')
        text = number(level, step)
        parts.append(f'<text class="level" x="{_LEFT - 8}" y="{y + 5:.0f}">{text}</text>')
    bottom = _HEIGHT - _BOTTOM
    for x, text in ticks:
        parts.append(f'<path class="tick" d="M{x:.0f} {bottom}v6"/>')
        parts.append(f'<text class="mid" x="{x:.0f}" y="{bottom + 24}">{escape(text)}</text>')
    return "".join(parts)


def _line(x: Array, y: Array) -> str:
    """Return the data of a path, with gaps where nothing is known."""
    parts, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if math.isfinite(b):
            parts.append(f"{pen}{a:.0f} {b:.0f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _band(x: Array, low: Array, high: Array) -> str:
    """Return the area between two lines, where both are known."""
    known = np.isfinite(low) & np.isfinite(high)
    x, low, high = x[known], low[known], high[known]
    if len(x) < 2:
        return ""
    there = [f"{a:.0f} {b:.0f}" for a, b in zip(x, low, strict=True)]
    back = [f"{a:.0f} {b:.0f}" for a, b in zip(x[::-1], high[::-1], strict=True)]
    return f'<path class="band" d="M{"L".join([*there, *back])}z"/>'


def _names(lines: Sequence[Line], down: _scale) -> str:
    """Return the names of the lines at their ends, apart from each other."""
    ends = []
    for line in lines:
        known = np.flatnonzero(np.isfinite(line.y))
        if len(known) and line.name:
            ends.append((float(down(line.y[known[-1]])), line))
    ends.sort(key=lambda end: end[0])
    parts, last = [], -math.inf
    for y, line in ends:
        y = max(y, last + 20)
        last = y
        x = _WIDTH - _RIGHT + 10
        parts.append(
            f'<text class="name {line.kind}" x="{x}" y="{y + 5:.0f}">{escape(line.name)}</text>'
        )
    return "".join(parts)
