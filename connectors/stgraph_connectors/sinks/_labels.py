"""Text on pictures: fonts that have the letters, widths that fit, labels that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

_BASE = "DejaVu Sans"  # comes with matplotlib
_MORE = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans")
_MAX_LETTERS = 34
# around a point: right, left, upper right, lower right, upper left, lower left, above, below
_SIDES = ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1))


@cache
def _fonts() -> tuple[tuple[str, Any], ...]:
    """Return the font families to use, with their character maps, the base one first."""
    from matplotlib import font_manager

    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    families = [_BASE, *(family for family in _MORE if family in installed)]
    return tuple(
        (family, font_manager.get_font(font_manager.findfont(family)).get_charmap())
        for family in families
    )


def text_options() -> dict[str, Any]:
    """Return the options of every text: its fonts, and that a dollar sign is a dollar sign."""
    return {"family": [family for family, _ in _fonts()], "parse_math": False}


def plain(text: object) -> str:
    """Return one line of text; letters that no font here has become a question mark."""
    line = " ".join(str(text).split())
    return "".join(c if any(ord(c) in table for _, table in _fonts()) else "?" for c in line)


def fit(text: Text, *, width: float, smallest: float = 7.0) -> None:
    """Shrink a text until it is at most `width` pixels wide, then cut it."""
    for _ in range(100):
        wide = text.get_window_extent().width
        size, letters = float(text.get_fontsize()), text.get_text().removesuffix("…")
        if wide <= width or len(letters) < 2:
            return
        if size > smallest:
            text.set_fontsize(max(smallest, size * max(width / wide, 0.5) - 0.1))
        else:
            keep = min(len(letters) - 1, int(len(letters) * width / wide))
            text.set_text(letters[:keep].rstrip() + "…")


def wrap(text: Text, *, width: float, most_lines: int) -> None:
    """Break a text between words into lines of at most `width` pixels; shrink or cut the last."""
    words, lines = text.get_text().split(), list[str]()
    while words and len(lines) < most_lines - 1:
        n_fitting = 0
        for n in range(1, len(words) + 1):
            text.set_text(" ".join(words[:n]))
            if text.get_window_extent().width > width:
                break
            n_fitting = n
        if n_fitting == 0:  # a word longer than a line
            break
        lines.append(" ".join(words[:n_fitting]))
        words = words[n_fitting:]
    if words:
        text.set_text(" ".join(words))
        fit(text, width=width)
        lines.append(text.get_text())
    text.set_text("\n".join(lines))


def place_labels(
    axes: Axes,
    xy: npt.NDArray[np.float64],
    names: Sequence[object],
    *,
    radius: float,
    colour: str,
    obstacles: Sequence[Bbox] = (),
) -> None:
    """Write names beside points, each where it covers nothing, or not at all.

    Parameters
    ----------
    axes
        Axes whose limits are final.
    xy
        (N, 2) positions in data coordinates; NaN is left out.
    names
        N names.
    radius
        Of a point, in pixels.
    colour
        Of the letters.
    obstacles
        Boxes in pixels that stay free.
    """
    from matplotlib import patheffects
    from matplotlib.transforms import Bbox

    pixels = axes.transData.transform(xy)
    frame = axes.get_window_extent().padded(-4)
    points = [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius) for x, y in pixels]
    taken = [*obstacles]
    halo: list[patheffects.AbstractPathEffect] = [
        patheffects.withStroke(linewidth=2.2, foreground="white", alpha=0.8)
    ]
    # crowded points first: they have the fewest free sides
    for i in np.argsort(-_crowding(pixels, 12 * radius), kind="stable"):
        name = plain(names[i])
        if not np.isfinite(pixels[i]).all() or not name:
            continue
        short = name if len(name) <= _MAX_LETTERS else name[: _MAX_LETTERS - 1].rstrip() + "…"
        label = axes.text(0, 0, short, size=7.5, color=colour, zorder=6, **text_options())
        size = _drawn_size(label)
        gap = radius + 0.4 * size[1]
        box = _free_box(pixels[i], size, gap, [*taken, *points], frame)
        if box is None:
            label.remove()
            continue
        taken.append(box)
        x, y = axes.transData.inverted().transform((box.x0, box.y0))
        label.set_position((float(x), float(y)))
        label.set_verticalalignment("bottom")
        label.set_path_effects(halo)


def _drawn_size(label: Text) -> tuple[float, float]:
    """Return width and height in pixels; letters with a halo are wider than plain ones."""
    from matplotlib.textpath import TextPath

    box = label.get_window_extent()
    figure = label.get_figure(root=True)
    path = TextPath(
        (0, 0), label.get_text(), size=float(label.get_fontsize()), prop=label.get_fontproperties()
    )
    return path.get_extents().width * figure.dpi / 72, box.height  # type: ignore[union-attr]


def _crowding(pixels: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.int64]:
    """Return how many other points lie within reach of each."""
    gaps = np.abs(pixels[:, None, :] - pixels[None, :, :])
    near: npt.NDArray[np.int64] = (gaps < reach).all(axis=2).sum(axis=1)
    return near


def _free_box(
    centre: npt.NDArray[np.float64],
    size: tuple[float, float],
    gap: float,
    taken: Sequence[Bbox],
    frame: Bbox,
) -> Bbox | None:
    """Return the first place around a point that covers nothing and lies in the frame."""
    from matplotlib.transforms import Bbox

    width, height = size
    for right, up in _SIDES:
        reach = gap if not (right and up) else gap * 0.75
        x0 = centre[0] + right * reach - width * (1 - right) / 2
        y0 = centre[1] + up * reach - height * (1 - up) / 2
        box = Bbox.from_bounds(x0, y0, width, height)
        inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
        if inside and not any(box.overlaps(other) for other in taken):
            return box
    return None
