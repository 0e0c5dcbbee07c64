"""Delaunay triangulation on a plane and on the sphere."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.errors import GraphError
from stgraph.graph import STGraph
from stgraph.neighbours import build_delaunay


def _places(xy: Any, crs: Any = 2193) -> gpd.GeoDataFrame:
    x, y = np.asarray(xy, dtype=float).reshape(-1, 2).T
    return gpd.GeoDataFrame(geometry=gpd.points_from_xy(x, y), crs=crs)


def _sides(graph: STGraph) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in graph.edge_index.T if a < b}


def test_by_hand() -> None:
    """A kite: its short diagonal is a side, its long one is not."""
    graph = build_delaunay(_places([(0, 0), (10, 1), (20, 0), (10, -1)]))
    assert _sides(graph) == {(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)}
    assert graph.n_edges == 10  # both ways
    assert graph.edge_weight.min() == 2
    assert (np.diff(graph.edge_index[1]) >= 0).all()


def test_max_length() -> None:
    graph = build_delaunay(_places([(0, 0), (10, 1), (20, 0), (10, -1)]), max_length_m=5)
    assert _sides(graph) == {(1, 3)}


@pytest.mark.parametrize("crs", [2193, 4326])
@pytest.mark.parametrize(
    ("xy", "sides"),
    [
        ([(0, 0)], set()),
        ([(0, 0), (1, 0)], {(0, 1)}),
        ([(0, 0), (2, 0), (1, 0), (3, 0)], {(0, 2), (1, 2), (1, 3)}),
        ([(0, 0), (0, 0)], {(0, 1)}),
        ([(0, 0), (0, 0), (0, 0)], {(0, 1), (0, 2), (1, 2)}),
        ([(0, 0), (1, 0), (1, 0)], {(0, 1), (0, 2), (1, 2)}),
    ],
    ids=["one", "two", "line", "twins", "triplets", "twins and one"],
)
def test_degenerate(xy: Any, sides: set[tuple[int, int]], crs: int) -> None:
    """One, two, collinear and coincident places have no triangle, and still neighbours."""
    assert _sides(build_delaunay(_places(xy, crs))) == sides


def test_twins_share_their_neighbours() -> None:
    """Two stations at one corner of a triangle: each has both others and its twin."""
    graph = build_delaunay(_places([(0, 0), (10, 0), (0, 10), (0, 0)]))
    assert _sides(graph) == {(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (0, 3)}


def test_antimeridian() -> None:
    """The same kite at longitude 180 gives the same sides."""
    kite = np.array([(-1, 0), (0, 0.1), (1, 0), (0, -0.1)])
    there = (kite + [180, -17] + 180) % 360 - 180
    there[:, 1] = kite[:, 1] - 17
    assert _sides(build_delaunay(_places(there, 4326))) == {(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)}


def test_around_the_pole() -> None:
    """A ring of stations at 80 degrees north around one at the pole is a wheel."""
    ring = [(lon, 80) for lon in range(-180, 180, 60)]
    sides = _sides(build_delaunay(_places([(0, 90), *ring], 4326)))
    assert {(0, i) for i in range(1, 7)} <= sides
    assert {(i, i + 1) for i in range(1, 6)} | {(1, 6)} <= sides


def test_all_around_the_world() -> None:
    """The six ends of the axes: an octahedron's twelve sides, or all but those of its far face."""
    ends = [(0, 0), (90, 0), (180, 0), (-90, 0), (0, 90), (0, -90)]
    graph = build_delaunay(_places(ends, 4326))
    octahedron = {(a, b) for a in range(6) for b in range(a + 1, 6)} - {(0, 2), (1, 3), (4, 5)}
    assert octahedron <= _sides(graph)


@given(
    st.lists(
        st.tuples(st.integers(-500, 500), st.integers(-500, 500)),
        min_size=3,
        max_size=20,
        unique=True,
    )
)
@settings(max_examples=50, deadline=None)
def test_symmetric_connected_and_planar(xy: Any) -> None:
    """Whatever the layout: edges both ways, one part, at most 3N - 6 sides."""
    graph = build_delaunay(_places(xy))
    adjacency = graph.adjacency().toarray()
    assert np.array_equal(adjacency, adjacency.T)
    assert graph.provenance["graph"]["n_parts"] == 1
    assert graph.n_edges // 2 <= max(3 * len(xy) - 6, len(xy) - 1)


def test_plane_and_sphere_agree_in_a_city() -> None:
    """Protects the stereographic view: 300 places in 4 km, in degrees and in metres."""
    rng = np.random.default_rng(1)
    plane = _places(rng.uniform([1_755_000, 5_918_000], [1_759_000, 5_922_000], (300, 2)))
    first, second = _sides(build_delaunay(plane)), _sides(build_delaunay(plane.to_crs(4326)))
    assert len(first ^ second) <= 4  # the projection bends the border by millimetres


def test_bad_options() -> None:
    with pytest.raises(GraphError, match="`max_length_m`: is 0; use metres above 0"):
        build_delaunay(_places([(0, 0)]), max_length_m=0)
