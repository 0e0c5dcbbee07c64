"""Write the steps of a graph as an animated map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stgraph._optional import require
from stgraph.errors import InputError
from stgraph.graph import STGraph
from stgraph_connectors.sinks._files import written_aside
from stgraph_connectors.sinks._scene import build_scene, show_step, take_picture
from stgraph_connectors.styles import Style

_DPI = 80.0  # 960 by 600 pixels
_MAX_FRAMES = 300
_COLOURS = 128  # of 256 that a GIF may have; enough for classes, text edges and greys


def write_animation(
    graph: STGraph,
    target: str | Path,
    *,
    style: Style | None = None,
    title: str | None = None,
    seconds_per_frame: float = 0.5,
    overwrite: bool = True,
) -> Path:
    """Write a GIF that runs over the steps of a graph, each frame as `write_map` draws it.

    Parameters
    ----------
    graph
        A forecast or readings of at most 300 steps; at least one node has a geometry.
    target
        A ``.gif`` file; it appears complete or not at all.
    style
        Which feature, classes and colours, as on the QGIS layer. None chooses from the data.
    title
        Heading. None: the quantity.
    seconds_per_frame
        How long a step is shown, 0.02 to 60; the last one stays three times as long.
    overwrite
        Replace an existing file.

    Returns
    -------
    Path
        The target; the same graph always gives the same bytes.

    Raises
    ------
    InputError
        The path is no ``.gif`` file, there are too many steps, or the style does not fit.
    OutputError
        The file could not be written; nothing was left behind.
    MissingExtraError
        matplotlib or pillow is not installed (extra ``plot``).
    """
    if not 0.02 <= seconds_per_frame <= 60:
        raise InputError(f"`seconds_per_frame` is {seconds_per_frame}; use 0.02 to 60")
    if graph.n_steps > _MAX_FRAMES:
        raise InputError(
            f"the graph has {graph.n_steps} steps, an animation shows at most {_MAX_FRAMES}; "
            "choose some with graph.select_steps(start, stop)"
        )
    require("PIL.Image", extra="plot")
    with written_aside(target, suffixes=(".gif",), overwrite=overwrite) as path:
        frames = _draw_frames(graph, style, title)
        milliseconds = [round(seconds_per_frame * 1000)] * len(frames)
        milliseconds[-1] *= 3
        frames[0].save(
            path,
            save_all=True,
            append_images=frames[1:],
            duration=milliseconds,
            loop=0,
            optimize=False,  # one palette for all frames, so that only what moves is stored
        )
    return Path(target)


def _draw_frames(graph: STGraph, style: Style | None, title: str | None) -> list[Any]:
    """Return a palette image per step, all with the same palette."""
    from PIL import Image

    scene = build_scene(graph, style=style, title=title, dpi=_DPI)
    pictures = []
    for step in range(graph.n_steps):
        show_step(scene, step)
        pictures.append(_pack(take_picture(scene)))
    palette = _common_palette(pictures)
    channels = np.stack([palette >> 16, palette >> 8 & 255, palette & 255], axis=1)
    frames = []
    for picture in pictures:
        frame = Image.fromarray(_nearest(picture, channels))
        frame.putpalette(channels.astype(np.uint8).tobytes())
        frames.append(frame)
    return frames


def _pack(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Return an RGB picture as one number per pixel."""
    wide = picture.astype(np.int32)
    return wide[:, :, 0] << 16 | wide[:, :, 1] << 8 | wide[:, :, 2]


def _common_palette(pictures: list[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    """Return the commonest colours of three pictures.

    All classes are in the legend of every picture, so their colours are among them.
    """
    chosen = [pictures[i] for i in sorted({0, len(pictures) // 2, len(pictures) - 1})]
    colours, counts = np.unique(np.stack(chosen), return_counts=True)
    return colours[np.argsort(-counts, kind="stable")[:_COLOURS]]


def _nearest(
    picture: npt.NDArray[np.int32], channels: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    """Return the palette position of each pixel: flat colours exactly, soft edges nearly."""
    colours, inverse = np.unique(picture, return_inverse=True)
    own = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    # |a - b|² without a table of all differences
    distance = (channels**2).sum(axis=1) - 2 * own @ channels.T
    found: npt.NDArray[np.uint8] = distance.argmin(axis=1).astype(np.uint8)
    return found[inverse].reshape(picture.shape)
