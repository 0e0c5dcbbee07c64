"""The picture of a graph at one step: map, legend, course over time; shared by PNG and GIF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph._optional import require
from stgraph.errors import InputError
from stgraph.graph import STGraph
from stgraph_connectors._means import mean_of_known
from stgraph_connectors.sinks._basemap import INK, SOFT, NodeArtist, draw_map, paint_nodes
from stgraph_connectors.sinks._labels import fit, plain, text_options, wrap
from stgraph_connectors.styles import (
    NO_DATA,
    Classes,
    Style,
    classify_feature,
    format_number,
    main_feature,
    stem_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

_SIZE_INCHES = (12.0, 7.5)
_MAP_WIDTH = 0.63  # of the picture; the rest is the panel
_LEFT, _RIGHT = _MAP_WIDTH + 0.028, 0.978
_FOOTER_LINES = 2  # more would reach the labels of the chart
_RULE, _BAND, _LINE, _NOW = "#dfe3e6", "#d3deea", "#2f5373", "#c8442f"


@dataclass(frozen=True)
class Scene:
    """A drawn figure and the parts that change from step to step."""

    graph: STGraph
    classes: Classes
    values: npt.NDArray[np.float32]  # (T, N) of the drawn feature
    means: npt.NDArray[np.float64]  # (T,) over the nodes
    canvas: FigureCanvasAgg
    artists: list[NodeArtist]
    when: Text
    ahead: Text
    readout: Text
    marker: Any  # dot on the course of the means
    cursor: Any  # vertical line


def build_scene(
    graph: STGraph, *, style: Style | None = None, title: str | None = None, dpi: float = 100.0
) -> Scene:
    """Draw all that stays the same, and return it with the parts that `show_step` changes.

    Parameters
    ----------
    graph
        A graph with a signal and at least one geometry.
    style
        Which feature, classes and colours. None chooses from the data.
    title
        Heading. None: the quantity.
    dpi
        Pixels per inch of a picture of 12 by 7.5 inches.

    Returns
    -------
    Scene
        To be shown with `show_step` and taken with `take_picture`.

    Raises
    ------
    InputError
        There is nothing to draw.
    MissingExtraError
        matplotlib is not installed.
    """
    _check_drawable(graph)
    require("matplotlib", extra="plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    feature = main_feature(graph, style)
    classes = classify_feature(graph, style)
    values = graph.values[:, :, graph.feature_names.index(feature.name)]
    figure = Figure(figsize=_SIZE_INCHES, dpi=dpi, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    ground = figure.add_axes((0.0, 0.0, _MAP_WIDTH, 1.0))
    artists = draw_map(ground, graph, size_mm=None if style is None else style.size_mm)
    width = (_RIGHT - _LEFT) * _SIZE_INCHES[0] * dpi

    def write(y: float, text: str, size: float, colour: str, **more: Any) -> Text:
        line = figure.text(_LEFT, y, plain(text), size=size, color=colour, **text_options(), **more)
        fit(line, width=width)
        return line

    forecast = graph.provenance.get("kind") == "forecast"
    heading = title or (f"{classes.label} forecast" if forecast else classes.label)
    write(0.937, heading, 18, INK, weight="bold")
    when, ahead = write(0.882, "", 13, INK), write(0.848, "", 9.5, SOFT)
    write(0.787, classes.title, 10.5, INK, weight="bold")
    _draw_legend(figure.add_axes((_LEFT, 0.44, 0.3, 0.33)), classes, _has_gaps(graph, values))
    write(0.386, f"Mean of {_nodes_in_words(graph)}", 10.5, INK, weight="bold")
    readout = write(0.355, "", 9.5, SOFT)
    chart = figure.add_axes((_LEFT + 0.032, 0.105, _RIGHT - _LEFT - 0.036, 0.225))
    means = mean_of_known(values, axis=1)
    marker, cursor = _draw_course(chart, graph, feature.name, means)
    source = plain(graph.provenance.get("attribution") or "")
    footer = figure.text(_LEFT, 0.016, source, size=7.5, color=SOFT, va="bottom", **text_options())
    wrap(footer, width=width, most_lines=_FOOTER_LINES)
    return Scene(
        graph, classes, values, means, canvas, artists, when, ahead, readout, marker, cursor
    )


def show_step(scene: Scene, step: int) -> None:
    """Bring a scene to a step: colours, time, marker."""
    graph, classes = scene.graph, scene.classes
    palette = np.array([*classes.colours, NO_DATA])
    paint_nodes(scene.artists, palette[classes.index(scene.values[step])])
    instant = graph.time[step]
    local = instant.tz_convert(graph.zone)
    scene.when.set_text(f"{local:%a} {local.day} {local:%b %Y, %H:%M %Z}")
    scene.ahead.set_text(plain(_issue_text(graph, step)))
    fit(scene.ahead, width=(_RIGHT - _LEFT) * scene.canvas.get_width_height()[0])
    mean = float(scene.means[step])
    unit = f" {classes.unit}" if classes.unit else ""
    scene.readout.set_text(plain(f"{_rounded(mean)}{unit}" if np.isfinite(mean) else "no data"))
    scene.marker.set_data([local], [mean])
    scene.cursor.set_xdata([local, local])


def take_picture(scene: Scene) -> npt.NDArray[np.uint8]:
    """Return the scene as it is now, (height, width, 3) bytes."""
    scene.canvas.draw()  # type: ignore[no-untyped-call]
    pixels = scene.canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return np.asarray(pixels)[:, :, :3].copy()


def _check_drawable(graph: STGraph) -> None:
    """Raise an InputError when there is nothing to draw."""
    if not graph.n_steps or not graph.n_features:
        raise InputError("the graph has no signal to draw; give it `time` and `values`")
    if graph.nodes.geometry.isna().all():
        raise InputError("no node has a geometry to draw; write a GeoPackage or GeoParquet instead")


def _has_gaps(graph: STGraph, values: npt.NDArray[np.float32]) -> bool:
    """Tell whether any node that is drawn has a missing value."""
    return bool(np.isnan(values[:, graph.nodes.geometry.notna().to_numpy()]).any())


def _nodes_in_words(graph: STGraph) -> str:
    """Return ``21 stations``, or ``21 nodes`` when they are of several kinds."""
    kinds = graph.nodes["kind"].unique()
    word = str(kinds[0]) if len(kinds) == 1 else "node"
    return f"{graph.n_nodes} {word}" + ("s" if graph.n_nodes != 1 else "")


def _issue_text(graph: STGraph, step: int) -> str:
    """Return when and by what a forecast was made, and how far ahead this step is."""
    issued = graph.provenance.get("issued_at")
    if issued is None:
        return graph.zone
    at = pd.Timestamp(issued)
    at = at.tz_localize("UTC") if at.tzinfo is None else at
    minutes = (graph.time[step] - at).total_seconds() / 60
    ahead = f"{minutes / 60:g} h" if minutes % 60 == 0 else f"{minutes:g} min"
    local = at.tz_convert(graph.zone)
    text = f"{ahead} ahead, issued {local:%a} {local.day} {local:%b, %H:%M}"
    model = graph.provenance.get("model")
    return f"{text}, {model}" if model else text


def _rounded(value: float) -> str:
    """Return a number with about three digits."""
    return format_number(float(f"{value:.3g}") if abs(value) < 1000 else round(value))


def _draw_legend(axes: Axes, classes: Classes, gaps: bool) -> None:
    """Draw one swatch per class, the highest on top, and one for missing values."""
    rows = list(zip(classes.colours, classes.labels, strict=True))[::-1]
    rows += [(NO_DATA, "no data")] if gaps else []
    slots = max(len(rows), 7)  # few classes do not become huge
    axes.set_xlim(0, 10)
    axes.set_ylim(slots, 0)
    axes.set_axis_off()
    for i, (colour, label) in enumerate(rows):
        axes.scatter(0.35, i + 0.5, s=105, color=colour, edgecolors=INK, linewidths=0.7)
        axes.text(0.95, i + 0.5, label, size=9.5, color=INK, va="center_baseline", **text_options())


def _draw_course(
    axes: Axes, graph: STGraph, feature: str, means: npt.NDArray[np.float64]
) -> tuple[Any, Any]:
    """Draw the mean over the nodes with its band, and return the marker and its line."""
    local = graph.time.tz_convert(graph.zone)
    times = local.to_pydatetime()
    cursor = axes.axvline(times[0], color=_NOW, linewidth=1.0, alpha=0.7, zorder=2)
    band = _band(graph, feature)
    if band is not None:
        axes.fill_between(times, band[0], band[1], color=_BAND, linewidth=0, zorder=1)
        axes.text(1, 1.02, "mean 10–90 % band", size=8, color=SOFT, ha="right", va="bottom",
                  transform=axes.transAxes, **text_options())  # fmt: skip
    dot = "o" if len(times) == 1 else ""
    axes.plot(times, means, color=_LINE, linewidth=1.8, marker=dot, zorder=3)
    (marker,) = axes.plot([times[0]], [means[0]], "o", color=_NOW, markersize=7,
                          markeredgecolor="white", markeredgewidth=1.2, zorder=4)  # fmt: skip
    _format_course(axes, graph)
    return marker, cursor


def _band(graph: STGraph, feature: str) -> list[npt.NDArray[np.float64]] | None:
    """Return the means of the 10 % and 90 % quantiles over the nodes, None without them."""
    names = [f"{stem_of(feature)}_q{level}" for level in (10, 90)]
    if not set(names) <= set(graph.feature_names):
        return None
    positions = [graph.feature_names.index(name) for name in names]
    return [mean_of_known(graph.values[:, :, i], axis=1) for i in positions]


def _format_course(axes: Axes, graph: STGraph) -> None:
    """Give the chart quiet axes in local time."""
    from matplotlib import dates, ticker

    locator = dates.AutoDateLocator(  # type: ignore[no-untyped-call]
        tz=graph.tzinfo, minticks=3, maxticks=6
    )
    axes.xaxis.set_major_locator(locator)
    spell = dates.ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator,
        tz=graph.tzinfo,
        formats=["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%S.%f"],
        zero_formats=["", "%Y", "%b", "%d %b", "%H:%M", "%H:%M"],
        show_offset=False,
    )
    axes.xaxis.set_major_formatter(spell)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.yaxis.set_major_formatter(lambda value, _: format_number(value))
    axes.margins(x=0.02)
    axes.grid(visible=True, axis="y", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=SOFT)
    for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        label.set_fontfamily(text_options()["family"])
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_RULE)
