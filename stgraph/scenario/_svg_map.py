"""Maps of what changes, as SVG without any style of its own: the page's style sheet has it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import BoolArray, IntArray
from stgraph.scenario._sheet import (
    WIDTH,
    Sheet,
    middle_of,
    nice_length,
    path_of,
    path_of_streets,
)

SPEED_CLASSES = (-15.0, -10.0, -5.0, -2.0, 2.0, 5.0, 10.0, 15.0)  # km/h
FLOW_CLASSES = (-500.0, -250.0, -100.0, -25.0, 25.0, 100.0, 250.0, 500.0)  # vehicles per hour
_WIDTH_CLASSES = (25.0, 100.0, 250.0, 500.0)  # vehicles per hour that lines get wider at
_WIDTHS = (4, 6, 8, 11, 16)  # units, as in the style sheet
_CLOSED_WIDTH, _GAP = 8, 2
_MAX_TIPS = 250  # lines with a text of their own
_MAX_LABELS = 8
_LETTER, _LINE = 16, 34  # units of a label
_CROSS = 10  # units from its middle


@dataclass(frozen=True)
class Quantity:
    """What a map shows."""

    name: str  # of the colours: "speed" or "flow"
    column: str  # of the links
    classes: tuple[float, ...]
    unit: str
    less: str  # what a change below nothing is, in one word
    more: str


SPEED = Quantity("speed", "d_speed", SPEED_CLASSES, "km/h", "slower", "faster")
FLOW = Quantity("flow", "d_flow", FLOW_CLASSES, "veh/h", "less traffic", "more traffic")


def draw_network(sheet: Sheet, major: BoolArray, shown: BoolArray, *, name: str) -> str:
    """Return the network as it is, to be used by all maps of a page by its name."""
    minor = path_of_streets(sheet, np.flatnonzero(shown & ~major))
    main = path_of_streets(sheet, np.flatnonzero(shown & major))
    return f'<g id="{name}"><path class="b0" d="{minor}"/><path class="b1" d="{main}"/></g>'


def draw_changes(sheet: Sheet, links: pd.DataFrame, quantity: Quantity) -> str:
    """Return what changes on the links of a network, the largest changes on top.

    Parameters
    ----------
    sheet
        Where the E links are.
    links
        E rows: `d_speed`, `d_flow`, `significant`, `status`, `title` (what a mouse is told).
    quantity
        What the colours show.

    Returns
    -------
    str
        SVG elements.
    """
    value = links[quantity.column].to_numpy(dtype=float)
    status = links["status"].to_numpy(dtype=object)
    drawn = np.isfinite(value) & ~np.isin(status, ("closed", "removed", "new"))
    colour = class_of(value, quantity)
    is_changed = drawn & (colour != len(quantity.classes) // 2)
    sure = links["significant"].to_numpy(dtype=bool)
    width = np.digitize(np.abs(links["d_flow"].fillna(0).to_numpy(dtype=float)), _WIDTH_CLASSES)
    parts = [_unsure(sheet, np.flatnonzero(is_changed & ~sure))]
    shown = np.flatnonzero(is_changed & sure)
    shown = shown[np.argsort(np.abs(value[shown]), kind="stable")]
    n_many = max(len(shown) - _MAX_TIPS, 0)
    many, few = shown[:n_many], shown[n_many:]
    for c, w in sorted({(int(colour[i]), int(width[i])) for i in many}):
        group = [i for i in many if colour[i] == c and width[i] == w]
        parts.append(f'<path class="c{c} w{w}" d="{path_of(sheet, group, offset=_offset(w))}"/>')
    titles = links["title"].to_numpy(dtype=object)
    for i in few:
        data = path_of(sheet, [i], offset=_offset(int(width[i])))
        title = f"<title>{escape(str(titles[i]))}</title>"
        parts.append(f'<path class="c{colour[i]} w{width[i]}" d="{data}">{title}</path>')
    return f'<g class="{quantity.name}">{"".join(parts)}</g>' + draw_status(sheet, status)


def class_of(value: npt.NDArray[np.float64], quantity: Quantity) -> IntArray:
    """Return the class of each number, the one nearer to no change where it is on a limit."""
    above = np.digitize(value, quantity.classes, right=True)
    return np.where(value > 0, above, np.digitize(value, quantity.classes))


def _unsure(sheet: Sheet, positions: IntArray) -> str:
    """Return changes that may be none, as one dashed line."""
    if not len(positions):
        return ""
    return f'<path class="unsure" d="{path_of(sheet, positions, offset=_offset(0))}"/>'


def _offset(width: int) -> float:
    """Return how far a line of a class of widths stands beside the middle of its street."""
    return _WIDTHS[width] / 2 + _GAP


def draw_status(sheet: Sheet, status: npt.NDArray[np.object_]) -> str:
    """Return closed links as black lines with crosses and new ones as double lines."""
    parts: list[str] = []
    new = path_of_streets(sheet, np.flatnonzero(status == "new"))
    if new:
        parts.append(f'<path class="new0" d="{new}"/><path class="new1" d="{new}"/>')
    gone = np.flatnonzero(np.isin(status, ("closed", "removed")))
    if len(gone):
        offset = _CLOSED_WIDTH / 2 + _GAP / 2
        parts.append(f'<path class="closed" d="{path_of(sheet, gone, offset=offset)}"/>')
        middles = {middle_of(sheet, int(i)) for i in gone}
        a = _CROSS
        crosses = "".join(
            f"M{x - a} {y - a}l{2 * a} {2 * a}m0 {-2 * a}l{-2 * a} {2 * a}"
            for x, y in sorted(filter(None, middles))
        )
        parts.append(f'<path class="cross0" d="{crosses}"/><path class="cross1" d="{crosses}"/>')
    return "".join(parts)


def draw_edits(sheet: Sheet, status: npt.NDArray[np.object_]) -> str:
    """Return what a scenario changes by itself: closed, new, and links with other values."""
    changed = path_of(sheet, np.flatnonzero(status == "changed"), offset=_offset(1))
    other = f'<path class="changed" d="{changed}"/>' if changed else ""
    return other + draw_status(sheet, status)


def draw_labels(sheet: Sheet, positions: Sequence[int], names: Sequence[str]) -> str:
    """Return names beside links, each name once, and none that would lie over another."""
    taken: list[tuple[float, float, float, float]] = []
    seen: set[str] = set()
    parts: list[str] = []
    for position, name in zip(positions, names, strict=True):
        place = middle_of(sheet, position)
        if place is None or not name or name in seen or len(parts) >= _MAX_LABELS:
            continue
        text = name if len(name) <= 32 else name[:31] + "…"
        half = len(text) * _LETTER / 2
        x, y = min(max(place[0], half + 8), WIDTH - half - 8), place[1] - 18
        box = (x - half, y - _LINE, x + half, y)
        in_sheet = 0 <= place[0] <= WIDTH and _LINE < y <= sheet.height
        if not in_sheet or any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        seen.add(name)
        parts.append(f'<text x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>')
    return f'<g class="names">{"".join(parts)}</g>' if parts else ""


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Tell whether two boxes (left, top, right, bottom) share some area."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def draw_frame(sheet: Sheet) -> str:
    """Return scale bar and north arrow, in a group that stays where it is when a map is zoomed."""
    y = sheet.height - 40
    north = f'<path class="north" d="M{WIDTH - 50} 110l-18 0 18-60 18 60z"/>'
    letter = f'<text class="mid" x="{WIDTH - 50}" y="40">N</text>'
    if not np.isfinite(sheet.metres):
        return f'<g class="frame">{north}{letter}</g>'
    length = nice_length(sheet.metres * WIDTH / 5)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    bar = f'<path class="bar" d="M40 {y - 14}v14h{length / sheet.metres:.0f}v-14"/>'
    return (
        f'<g class="frame">{bar}<text class="length" x="52" y="{y - 12}">{text}</text>'
        f"{north}{letter}</g>"
    )


def draw_map(sheet: Sheet, content: str, *, network: str, name: str, title: str, desc: str) -> str:
    """Return a whole map: the network, what is drawn onto it, scale and north.

    Parameters
    ----------
    sheet
        Where things are.
    content
        SVG elements of the functions above.
    network
        Name that `draw_network` was given.
    name
        Id of the map, unique in its page.
    title, desc
        What it is, and what it shows, for those who do not see it.
    """
    x, y, width, height = sheet.whole
    scale = f' data-metres="{sheet.metres:.6g}"' if np.isfinite(sheet.metres) else ""
    return (
        f'<svg id="{name}" class="map" viewBox="0 0 {WIDTH} {sheet.height}" role="img" '
        f'aria-labelledby="{name}-t {name}-d" data-whole="{x} {y} {width} {height}"{scale}>'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(desc)}</desc>'
        f'<use href="#{network}"/>{content}{draw_frame(sheet)}</svg>'
    )


_CLOSED_KEY = (
    '<path class="closed" d="M4 12h52"/><path class="cross1" d="M22 4l16 16m0-16l-16 16"/>',
    "closed",
)
_NEW_KEY = ('<path class="new0" d="M4 12h52"/><path class="new1" d="M4 12h52"/>', "new")


def draw_legend(quantity: Quantity) -> str:
    """Return what the colours and lines of a map mean, as HTML."""
    classes = quantity.classes
    names = [f"below −{-classes[0]:g}"]
    names += [f"{_sign(a)} to {_sign(b)}" for a, b in itertools.pairwise(classes)]
    names += [f"above +{classes[-1]:g}"]
    middle = len(classes) // 2
    names[middle] = f"within ±{classes[middle]:g}"
    styles = [f"c{i} w3" for i in range(len(names))]
    styles[middle] = "b1"
    keys = [
        (f'<path class="{style}" d="M4 12h52"/>', text)
        for style, text in zip(styles, names, strict=True)
    ]
    keys += [
        ('<path class="unsure" d="M4 12h52"/>', "cannot be told from noise"),
        _CLOSED_KEY,
        _NEW_KEY,
    ]
    head = f"Change in {quantity.unit}, from {quantity.less} to {quantity.more}"
    return f'<p class="legend-head">{escape(head)}</p>{_list(keys, quantity.name)}'


def edit_legend() -> str:
    """Return what the lines of the map of edits mean, as HTML."""
    other = ('<path class="changed" d="M4 12h52"/>', "other speed, lanes or capacity")
    return _list([_CLOSED_KEY, _NEW_KEY, other], "edits")


def _list(keys: Sequence[tuple[str, str]], name: str) -> str:
    """Return a legend of drawn marks and their meanings."""
    items = "".join(
        f'<li><svg class="key {name}" viewBox="0 0 60 24" aria-hidden="true">{mark}</svg>'
        f"{escape(text)}</li>"
        for mark, text in keys
    )
    return f'<ul class="legend">{items}</ul>'


def _sign(value: float) -> str:
    """Return a class boundary with its sign."""
    return f"+{value:g}" if value > 0 else f"−{-value:g}"
