"""Write one step of a graph as a map picture."""

from __future__ import annotations

from pathlib import Path

from stgraph._optional import require
from stgraph.errors import InputError
from stgraph.graph import STGraph
from stgraph_connectors.sinks._files import written_aside
from stgraph_connectors.sinks._scene import build_scene, show_step, take_picture
from stgraph_connectors.styles import Style


def write_map(
    graph: STGraph,
    target: str | Path,
    *,
    style: Style | None = None,
    title: str | None = None,
    step: int = 0,
    dpi: int = 150,
    overwrite: bool = True,
) -> Path:
    """Write one step of a graph as a PNG map with legend and the course of the mean.

    Parameters
    ----------
    graph
        A forecast or readings; at least one node has a geometry.
    target
        A ``.png`` file; it appears complete or not at all.
    style
        Which feature, classes and colours, as on the QGIS layer. None chooses from the data.
    title
        Heading. None: the quantity.
    step
        Position on the time axis, negative from the end.
    dpi
        Pixels per inch of a picture of 12 by 7.5 inches, 50 to 600.
    overwrite
        Replace an existing file.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    InputError
        The path is no ``.png`` file, or the step or the style do not fit the graph.
    OutputError
        The file could not be written; nothing was left behind.
    MissingExtraError
        matplotlib or pillow is not installed (extra ``plot``).
    """
    if not -graph.n_steps <= step < max(graph.n_steps, 1):
        raise InputError(f"`step` is {step}; the graph has {graph.n_steps} steps, from 0 on")
    if not 50 <= dpi <= 600:
        raise InputError(f"`dpi` is {dpi}; use 50 to 600")
    image = require("PIL.Image", extra="plot")
    with written_aside(target, suffixes=(".png",), overwrite=overwrite) as path:
        scene = build_scene(graph, style=style, title=title, dpi=dpi)
        show_step(scene, step)
        image.fromarray(take_picture(scene)).save(path, optimize=True, dpi=(dpi, dpi))
    return Path(target)
