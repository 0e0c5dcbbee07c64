"""Classes and colours of one quantity, the same on the QGIS layer, the map and the animation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from stgraph.errors import InputError, nearest_name
from stgraph.graph import Feature, STGraph

# every ramp runs from low to high and stays readable with the common colour-vision deficiencies
RAMPS: dict[str, tuple[str, ...]] = {
    "ember": ("#fdd9a0", "#fdb07a", "#f8765c", "#dd4a68", "#ab337c", "#762181", "#3b0f70"),
    "tide": ("#f4e7a1", "#b5dba2", "#69c2a8", "#2ea1ae", "#1f79a7", "#2a5199", "#2b2a70"),
    "viridis": ("#fde725", "#a0da39", "#4ac16d", "#1fa187", "#277f8e", "#365c8d", "#440154"),
    "cividis": ("#ffea46", "#d6c162", "#aca073", "#828078", "#5d626e", "#35456c", "#00224e"),
    "traffic": ("#9e0b2f", "#dc4b3e", "#f59a63", "#fbe39b", "#a9d3df", "#5698c6", "#22508f"),
    "delta": ("#1f4f94", "#5a97c7", "#b1d3e4", "#f1efe9", "#f6bd9c", "#d9624f", "#9c1130"),
}
_TWO_SIDED = {"traffic", "delta"}  # two hues that meet in the middle
NO_DATA = "#c9c9c4"

_SPEED_UNITS = {"km/h", "kmh", "kph", "kmph", "mph", "mi/h", "m/s", "kn", "knots"}
_DELTA_WORDS = ("delta", "diff", "change", "anomaly", "residual", "bias", "skill")
_ACRONYMS = {"mae", "rmse", "mape", "smape", "mase", "crps", "mse"}
_ERROR_WORDS = _ACRONYMS | {"error", "width", "std"}
_COVER = 1e9  # outermost class limits: a later forecast may leave today's range
_SAMPLE = 200_000  # values looked at when breaks are chosen
# classes tell values apart that differ enough to matter
_SPEED_REACH = 0.6  # classes of speeds reach down to this share of the highest common speed
_LEAST_STEP = 1 / 200  # no other class is narrower than this share of the typical value


@dataclass(frozen=True)
class Style:
    """How one quantity is drawn; everything left at None is chosen from the data.

    Parameters
    ----------
    feature
        Name of the feature to colour. None: the first target that is no quantile.
    ramp
        Name in `RAMPS`. None: ``traffic`` for speeds, ``delta`` for differences, else ``ember``.
    n_classes
        Wanted number of classes, 2 to 12; fewer when the values do not tell so many apart.
    breaks
        Inner class limits, ascending, in the feature's unit. None chooses round numbers.
    label
        Name of the quantity in legends. None: the feature's name.
    unit
        Unit in legends. None: the feature's unit.
    reverse
        Turn the ramp around. None: only for differences where a loss is bad (speed, skill).
    diverging
        Classes symmetric around `centre`. None: for differences, by name or by sign.
    centre
        The neutral value of diverging classes, in the feature's unit.
    size_mm
        Point diameter or line width in millimetres. None: 3.4 for points, 0.9 for lines.
    """

    feature: str | None = None
    ramp: str | None = None
    n_classes: int = 7
    breaks: tuple[float, ...] | None = None
    label: str | None = None
    unit: str | None = None
    reverse: bool | None = None
    diverging: bool | None = None
    centre: float = 0.0
    size_mm: float | None = None

    def __post_init__(self) -> None:
        """Refuse options that cannot be drawn."""
        if not 2 <= self.n_classes <= 12:
            raise InputError(f"`n_classes` is {self.n_classes}; use 2 to 12")
        if self.ramp is not None and self.ramp not in RAMPS:
            hint = nearest_name(self.ramp, RAMPS)
            raise InputError(f"no ramp is called {self.ramp!r}{hint}; there are {sorted(RAMPS)}")
        if self.breaks is not None:
            limits = np.asarray(self.breaks, dtype=float)
            if not limits.size or not np.isfinite(limits).all() or (np.diff(limits) <= 0).any():
                raise InputError(f"`breaks` must be ascending numbers, got {self.breaks!r}")
        if self.size_mm is not None and not 0 < self.size_mm < 100:
            raise InputError(f"`size_mm` is {self.size_mm!r}; use millimetres above 0")


@dataclass(frozen=True)
class Classes:
    """Ready-made classes: K colours, K-1 inner breaks; a value on a break is in the lower class."""

    feature: str
    label: str
    unit: str
    breaks: tuple[float, ...]  # (K-1,) ascending
    colours: tuple[str, ...]  # (K,) "#rrggbb", low to high
    names: tuple[str, ...] = ()  # (K,) of the classes, where they have some of their own

    @property
    def title(self) -> str:
        """Return the quantity with its unit, as legends head it."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def limits(self) -> tuple[float, ...]:
        """Return K+1 class limits whose ends lie beyond any value."""
        reach = max([_COVER, *(10 * abs(value) for value in self.breaks)])
        return (-reach, *self.breaks, reach)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return one legend text per class, without the unit."""
        if self.names:
            return self.names
        if not self.breaks:
            return ("all values",)
        numbers = [format_number(value, self.breaks) for value in self.breaks]
        dash = "to" if self.breaks[0] < 0 else "–"
        inner = [f"{low} {dash} {high}" for low, high in pairwise(numbers)]
        return (f"≤ {numbers[0]}", *inner, f"> {numbers[-1]}")

    def index(self, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the class of each value, -1 where it is missing."""
        array = np.asarray(values, dtype=float)
        found = np.searchsorted(np.asarray(self.breaks, dtype=float), array, side="left")
        return np.where(np.isfinite(array), found, -1).astype(np.int64)


def main_feature(graph: STGraph, style: Style | None = None) -> Feature:
    """Return the feature to draw: the one the style names, else the first plain target."""
    if style is not None and style.feature is not None:
        if style.feature not in graph.feature_names:
            hint = nearest_name(style.feature, graph.feature_names)
            raise InputError(
                f"no feature is called {style.feature!r}{hint}; "
                f"there are {list(graph.feature_names)}"
            )
        return graph.features[graph.feature_names.index(style.feature)]
    targets = [feature for feature in graph.features if feature.role == "target"]
    plain = [feature for feature in targets if quantile_of(feature.name) is None]
    candidates = plain or targets or list(graph.features)
    if not candidates:
        raise InputError("the graph has no feature to draw; give it a signal first")
    return candidates[0]


def quantile_of(name: str) -> float | None:
    """Return the level of a quantile feature (``speed_q90`` is 0.9), None for any other."""
    stem, _, level = name.rpartition("_q")
    return int(level) / 100 if stem and level.isdigit() and len(level) == 2 else None


def stem_of(name: str) -> str:
    """Return the quantity that a feature or its quantile is about."""
    return name if quantile_of(name) is None else name.rpartition("_q")[0]


def classify_feature(graph: STGraph, style: Style | None = None) -> Classes:
    """Return the classes of the feature to draw, over all nodes and steps of the graph.

    Parameters
    ----------
    graph
        Any graph with a signal; the classes of a forecast of classes are those it was made with.
    style
        Wishes; None chooses everything.

    Returns
    -------
    Classes
        The classes, valid for every step, so that frames can be compared.

    Raises
    ------
    InputError
        The feature does not exist.
    """
    feature = main_feature(graph, style)
    return classify_one(graph, feature, style)


def classify_one(graph: STGraph, feature: Feature, style: Style | None = None) -> Classes:
    """Return the classes of one feature of a graph; see `classify_feature`."""
    names, style = class_names(graph), style or Style()
    if is_class(feature, names) and style.breaks is None:
        return _named_classes(feature, names, style)
    if style.label is None and (title := _probability_title(feature, names)) is not None:
        style = replace(style, label=title)
    position = graph.feature_names.index(feature.name)
    return classify(graph.values[:, :, position], feature=feature, style=style)


def _named_classes(feature: Feature, names: Sequence[str], style: Style) -> Classes:
    """Return a colour for every class of a forecast, whether it is forecast anywhere or not."""
    speed = any(names[0].endswith(f" {unit}") for unit in _SPEED_UNITS)
    return Classes(
        feature=feature.name,
        label=printable(style.label or _readable(feature.name)),
        unit="",
        breaks=tuple(number + 0.5 for number in range(len(names) - 1)),
        colours=_pick_colours(
            style.ramp or ("traffic" if speed else "ember"),
            len(names),
            reverse=bool(style.reverse),
        ),
        names=tuple(names),
    )


def classify(values: npt.ArrayLike, *, feature: Feature, style: Style | None = None) -> Classes:
    """Return classes with round limits and fitting colours for some values.

    Values that hardly differ get few, wide classes: speeds are classified down to 60 % of the
    highest common one, so that red is a jam, and no other class is narrower than half a per cent
    of the typical value.

    Parameters
    ----------
    values
        Numbers of any shape in the feature's unit; missing ones are left out.
    feature
        Name and unit of the quantity.
    style
        Wishes; None chooses everything.

    Returns
    -------
    Classes
        At most `style.n_classes` classes; one class when all values are equal or missing.
    """
    style = style or Style()
    unit = feature.unit if style.unit is None else style.unit
    sample = _sample(values)
    speed = unit.strip().lower() in _SPEED_UNITS and not _is_error(feature.name)
    diverging = _is_difference(sample, feature.name) if style.diverging is None else style.diverging
    if style.breaks is not None:
        breaks = [float(value) for value in style.breaks]
    elif sample.size == 0 or sample[0] == sample[-1]:
        breaks = []
    elif diverging:
        breaks = _symmetric_breaks(sample, style.n_classes, style.centre)
    elif speed:
        breaks = _even_breaks(sample, style.n_classes)
    else:
        breaks = _quantile_breaks(sample, style.n_classes)
    ramp = style.ramp or ("delta" if diverging else "traffic" if speed else "ember")
    loss_is_bad = diverging and style.ramp is None and (speed or "skill" in feature.name.lower())
    reverse = loss_is_bad if style.reverse is None else style.reverse
    return Classes(
        feature=feature.name,
        label=printable(style.label or _readable(feature.name)),
        unit="" if unit == "1" else printable(unit),
        breaks=tuple(breaks),
        colours=_pick_colours(ramp, len(breaks) + 1, reverse=reverse),
    )


def format_number(value: float, others: tuple[float, ...] = ()) -> str:
    """Return a number as text with as many decimals as its neighbours need, 1 200 style."""
    numbers = [value, *others]
    enough = (d for d in range(7) if all(math.isclose(x, round(x, d)) for x in numbers))
    decimals = next(enough, None)
    if decimals is None:  # smaller than millionths
        return f"{value:.3g}".replace("-", "−", 1)
    text = f"{abs(value):,.{decimals}f}".replace(",", "\u202f")
    return f"−{text}" if value < 0 else text


def feature_title(feature: Feature, *, classes: Sequence[str] = ()) -> str:
    """Return a feature's name in words, with its unit; that of a class's probability names it."""
    unit = "" if feature.unit in ("", "1") else f" ({feature.unit})"
    words = _probability_title(feature, classes) or _readable(feature.name)
    return printable(words + unit)


def class_names(graph: STGraph) -> tuple[str, ...]:
    """Return the classes of a forecast of classes in words, none of any other graph."""
    return tuple(printable(name) for name in graph.provenance.get("classes") or ())


def is_class(feature: Feature, classes: Sequence[str]) -> bool:
    """Tell whether a feature's values are positions among the classes."""
    return feature.name.endswith("_class") and len(classes) > 1


def _probability_title(feature: Feature, classes: Sequence[str]) -> str | None:
    """Return ``Speed below 20 mph, probability`` for ``speed_p0``, None for any other feature."""
    stem, _, number = feature.name.rpartition("_p")
    if not (stem and number.isdecimal() and int(number) < len(classes)):
        return None
    return f"{_readable(stem)} {classes[int(number)]}, probability"


def printable(text: object) -> str:
    """Return text on one line, without what XML, SQL or a screen cannot hold."""
    return "".join(c if c.isprintable() or c == "\u202f" else " " for c in str(text))


def _readable(name: str) -> str:
    """Return a feature name as words: ``speed_q90`` becomes ``Speed, 90 % quantile``."""
    level = quantile_of(name)
    words = " ".join(stem_of(name).replace("_", " ").split()) or name
    text = _capitalised(words)
    return text if level is None else f"{text}, {level:.0%} quantile".replace("%", "\u202f%")


def _capitalised(words: str) -> str:
    """Return words with a capital first letter, and error measures in capitals."""
    first, _, rest = words.partition(" ")
    first = first.upper() if first in _ACRONYMS else first[:1].upper() + first[1:]
    return f"{first} {rest}".strip().removesuffix(" percent")


def _sample(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the finite values in ascending order, thinned evenly when there are many."""
    array = np.asarray(values)
    if array.ndim > 1:  # whole rows first: the array may be a memory map larger than memory
        array = array[:: max(1, array.size // (10 * _SAMPLE))]
    flat = array.reshape(-1)
    flat = flat[:: max(1, flat.size // _SAMPLE)].astype(np.float64)
    return np.sort(flat[np.isfinite(flat)])


def _is_difference(sample: npt.NDArray[np.float64], name: str) -> bool:
    """Tell whether values are differences: by their name, or by both signs being common."""
    if any(word in name.lower() for word in _DELTA_WORDS):
        return True
    low, high = np.quantile(sample, [0.02, 0.98]) if sample.size else (0.0, 0.0)
    return bool(low < 0 < high and min(-low, high) > 0.1 * max(-low, high))


def _is_error(name: str) -> bool:
    """Tell whether a name is that of an error measure: in km/h it is no speed, and low is good."""
    return not _ERROR_WORDS.isdisjoint(name.lower().replace("_", " ").split())


def _nice_step(width: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is at most the width."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(m * power for m in (5.0, 2.0, 1.0, 0.5) if m * power <= width * (1 + 1e-9))


def _tidy(value: float) -> float:
    """Return a limit without the dust of binary fractions, and without a negative zero."""
    return float(f"{value:.10g}") + 0.0


def _next_step(step: float) -> float:
    """Return the next larger one of 1, 2, 5 times a power of ten."""
    return _nice_step(step * 2.6)


def _quantile_breaks(sample: npt.NDArray[np.float64], n_classes: int) -> list[float]:
    """Return quantiles rounded as coarsely as their distance to the neighbours allows."""
    marks = np.quantile(sample, np.linspace(0, 1, n_classes + 1))
    least = _LEAST_STEP * float(np.median(np.abs(sample)))
    breaks: list[float] = []
    for left, middle, right in zip(marks[:-2], marks[1:-1], marks[2:], strict=True):
        gap = min(d for d in (middle - left, right - middle, math.inf) if d > 0)
        if math.isinf(gap):
            continue
        step = _nice_step(gap)
        while abs(np.round(middle / step) * step - middle) > gap / 8:
            step = _nice_step(step * 0.9)  # the next smaller one
        value = _tidy(np.round(middle / step) * step)
        wide = not breaks or (value > breaks[-1] and value - breaks[-1] >= least)
        if sample[0] <= value < sample[-1] and wide:
            breaks.append(value)
    return breaks


def _even_breaks(sample: npt.NDArray[np.float64], n_classes: int) -> list[float]:
    """Return round, evenly spaced limits between the 2 % and the 98 % quantile, or from lower."""
    low, high = (float(x) for x in np.quantile(sample, [0.02, 0.98]))
    if high <= low:
        low, high = float(sample[0]), float(sample[-1])
    low = min(low, _SPEED_REACH * high)
    step = _nice_step((high - low) / n_classes)
    while True:
        marks = np.arange(math.ceil(low / step), math.ceil(high / step)) * step
        inside = [_tidy(x) for x in marks if x < sample[-1]]
        if len(inside) < n_classes:
            return inside
        step = _next_step(step)


def _symmetric_breaks(
    sample: npt.NDArray[np.float64], n_classes: int, centre: float
) -> list[float]:
    """Return round limits at equal distances on both sides of the centre."""
    reach = float(np.quantile(np.abs(sample - centre), 0.98)) or float(
        np.abs(sample - centre).max()
    )
    sides = n_classes // 2
    if reach == 0.0:
        return []
    step = _nice_step(reach / sides)
    offsets = np.arange(1, sides + 1) * step if n_classes % 2 else np.arange(1, sides) * step
    zero = [] if n_classes % 2 else [0.0]
    marks = [*(-offsets[::-1]), *zero, *offsets]
    return sorted({_tidy(centre + x) for x in marks})


def _pick_colours(name: str, n_colours: int, *, reverse: bool) -> tuple[str, ...]:
    """Return evenly spaced colours of a ramp."""
    two_sided = name in _TWO_SIDED
    # a single class takes a strong colour, not the pale end of the ramp
    where = np.linspace(0, 1, n_colours) if n_colours > 1 else np.array([0.6])
    if two_sided and n_colours % 2 == 0:  # between two hues there is only a dull grey
        side = np.linspace(0, 1 / 3, n_colours // 2)
        where = np.concatenate([side, 1 - side[::-1]])
    colours = blend_colours(RAMPS[name], where)
    return colours[::-1] if reverse else colours


def blend_colours(ramp: Sequence[str], where: npt.NDArray[np.float64]) -> tuple[str, ...]:
    """Return the colours at some places from 0 to 1 along a ramp, linear between its anchors."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in ramp], dtype=float)
    at = np.linspace(0, 1, len(ramp))
    channels = np.stack([np.interp(where, at, anchors[:, k]) for k in range(3)], axis=1)
    return tuple("#{:02x}{:02x}{:02x}".format(*(round(x) for x in row)) for row in channels)
