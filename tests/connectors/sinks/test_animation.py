"""The animation: a frame per step, the same bytes every time, small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from stgraph_connectors.sinks.animation import write_animation
from stgraph_connectors.styles import classify_feature

from stgraph.errors import InputError
from stgraph.graph import STGraph


def test_a_frame_per_step_with_its_duration(forecast: STGraph, tmp_path: Path) -> None:
    path = write_animation(forecast, tmp_path / "f.gif", seconds_per_frame=0.25)
    with Image.open(path) as picture:
        assert (picture.n_frames, picture.size) == (3, (960, 600))  # type: ignore[attr-defined]
        frames = []
        durations = []
        for i in range(3):
            picture.seek(i)
            durations.append(picture.info["duration"])
            frames.append(np.asarray(picture.convert("RGB")))
        assert picture.info["loop"] == 0
    assert durations == [250, 250, 750]
    assert not np.array_equal(frames[0], frames[2])


def test_class_colours_are_exact(forecast: STGraph, tmp_path: Path) -> None:
    """A palette that only comes close would show other classes than QGIS."""
    with Image.open(write_animation(forecast, tmp_path / "f.gif")) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    found = {"#{:02x}{:02x}{:02x}".format(*row) for row in np.unique(pixels, axis=0)}
    assert {"#ffffff", *classify_feature(forecast).colours} <= found


def test_the_same_graph_gives_the_same_bytes(forecast: STGraph, tmp_path: Path) -> None:
    one = write_animation(forecast, tmp_path / "1.gif").read_bytes()
    assert write_animation(forecast, tmp_path / "2.gif").read_bytes() == one


def test_24_frames_stay_below_3_megabytes(forecast: STGraph, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(0, 80, (24, 4, 4)).astype(np.float32)
    time = pd.date_range("2024-03-01", periods=24, freq="h")
    long = forecast.replace(values=values, time=time, mask=None)
    assert write_animation(long, tmp_path / "f.gif").stat().st_size < 3_000_000


def test_too_many_steps_and_bad_durations_are_refused(forecast: STGraph, tmp_path: Path) -> None:
    values = np.zeros((301, 4, 4), dtype=np.float32)
    long = forecast.replace(
        values=values, time=pd.date_range("2024-01-01", periods=301, freq="h"), mask=None
    )
    with pytest.raises(InputError, match="select_steps"):
        write_animation(long, tmp_path / "f.gif")
    with pytest.raises(InputError, match=r"use 0\.02 to 60"):
        write_animation(forecast, tmp_path / "f.gif", seconds_per_frame=0)
    with pytest.raises(InputError, match=r"does not end in \.gif"):
        write_animation(forecast, tmp_path / "f.png")
    assert list(tmp_path.iterdir()) == []
