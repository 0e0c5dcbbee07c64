"""Polygons that touch."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely

from stgraph.errors import GraphError
from stgraph.graph import STGraph
from stgraph.neighbours import build_contiguity

DEGREE_M = 6_371_008.8 * np.pi / 180


def _cells(*boxes: tuple[float, float, float, float], crs: Any = 2193) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(geometry=[shapely.box(*box) for box in boxes], crs=crs)


def _sides(graph: STGraph) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in graph.edge_index.T if a < b}


# 2 x 2 cells of 10 m: 0 and 1 below, 2 and 3 above
SQUARE = _cells((0, 0, 10, 10), (10, 0, 20, 10), (0, 10, 10, 20), (10, 10, 20, 20))


def test_queen_and_rook_by_hand() -> None:
    """The diagonals meet in one point: neighbours for a queen, not for a rook."""
    rook = build_contiguity(SQUARE, rule="rook")
    assert _sides(rook) == {(0, 1), (0, 2), (1, 3), (2, 3)}
    queen = build_contiguity(SQUARE)
    assert _sides(queen) == _sides(rook) | {(0, 3), (1, 2)}
    assert queen.n_edges == 12  # both ways
    assert queen.edge_weight.tolist() == [1] * 12
    assert list(queen.nodes["kind"]) == ["cell"] * 4


def test_weights() -> None:
    """Shared border 10 m (0 m at a corner), centroids 10 m or sqrt(200) m apart."""
    shared = build_contiguity(SQUARE, weight="shared")
    assert shared.adjacency().toarray()[0].tolist() == [0, 10, 10, 0]
    assert shared.weight_unit == "m"
    length = build_contiguity(SQUARE, weight="length").adjacency().toarray()[0]
    assert length == pytest.approx([0, 10, 10, np.sqrt(200)])
    assert shared.edges is not None
    assert list(shared.edges.columns) == ["length_m", "shared_m"]


def test_long_and_short_sides() -> None:
    """A cell beside two smaller ones shares a part of its side with each."""
    graph = build_contiguity(_cells((0, 0, 1, 3), (1, 0, 2, 1), (1, 1, 2, 3)), weight="shared")
    assert graph.adjacency().toarray().tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]


def test_island_and_hole() -> None:
    """A lake fills a hole: neighbours; an island in its middle touches only the lake."""
    outer = shapely.box(0, 0, 10, 10).difference(shapely.box(2, 2, 8, 8))
    lake = shapely.box(2, 2, 8, 8).difference(shapely.box(4, 4, 6, 6))
    cells = gpd.GeoDataFrame(geometry=[outer, lake, shapely.box(4, 4, 6, 6)], crs=2193)
    graph = build_contiguity(cells, weight="shared", rule="rook")
    assert graph.adjacency().toarray().tolist() == [[0, 24, 0], [24, 0, 8], [0, 8, 0]]


def test_border_in_metres_on_the_sphere() -> None:
    """Two cells of one degree at the equator share a degree of meridian."""
    graph = build_contiguity(_cells((0, 0, 1, 1), (1, 0, 2, 1), crs=4326), weight="shared")
    assert graph.edge_weight == pytest.approx([DEGREE_M] * 2, rel=1e-6)


@pytest.mark.parametrize("west", [-180, 0])
def test_antimeridian(west: float) -> None:
    """A ring of cells around the equator closes, whether longitudes begin at -180 or at 0."""
    ring = _cells(*((west + 30 * i, 0, west + 30 * (i + 1), 10) for i in range(12)), crs=4326)
    graph = build_contiguity(ring, rule="rook", weight="shared")
    assert _sides(graph) == {(i, i + 1) for i in range(11)} | {(0, 11)}
    assert graph.edge_weight == pytest.approx([10 * DEGREE_M] * 24, rel=1e-6)


def test_two_halves_of_the_world_meet_twice() -> None:
    halves = _cells((-180, -10, 0, 10), (0, -10, 180, 10), crs=4326)
    graph = build_contiguity(halves, rule="rook", weight="shared")
    assert graph.n_edges == 2
    assert graph.edge_weight == pytest.approx([40 * DEGREE_M] * 2, rel=1e-6)


def test_gap_separates_and_overlap_is_said() -> None:
    apart = build_contiguity(_cells((0, 0, 1, 1), (1.001, 0, 2, 1)))
    assert apart.n_edges == 0
    assert "2 nodes have no neighbour" in str(apart.report)
    over = build_contiguity(_cells((0, 0, 2, 1), (1, 0, 3, 1)), rule="rook")
    assert over.n_edges == 2
    assert "1 pairs of polygons overlap" in str(over.report)


def test_missing_geometry() -> None:
    cells = SQUARE.copy()
    cells.loc[1, "geometry"] = None
    assert _sides(build_contiguity(cells, rule="rook")) == {(0, 2), (2, 3)}


def test_order_of_nodes_means_nothing() -> None:
    named = SQUARE.set_axis(list("abcd"))
    shuffled = build_contiguity(named.loc[list("cadb")], rule="rook")
    pairs = {tuple(sorted(pair)) for pair in shuffled.node_ids.to_numpy()[shuffled.edge_index.T]}
    assert pairs == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}


_BOW = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])


@pytest.mark.parametrize(
    ("places", "options", "message"),
    [
        (
            SQUARE.set_geometry(SQUARE.centroid),
            {},
            "4 geometries are no polygons, such as the P",
        ),
        (
            gpd.GeoDataFrame(geometry=[_BOW, shapely.box(3, 3, 4, 4)], crs=2193),
            {},
            r"1 geometries are not valid, first 0: Self-intersection.*make_valid\(\)",
        ),
        (SQUARE, {"rule": "bishop"}, r"`rule`: is 'bishop'; use one of \['queen', 'rook'\]"),
        (SQUARE, {"rule": "quen"}, r"did you mean 'queen'\?"),
        (SQUARE, {"weight": "border"}, "`weight`: is 'border'"),
        (SQUARE.set_crs(None, allow_override=True), {}, "has geometry but no CRS"),
        (gpd.GeoDataFrame(geometry=[None], crs=2193), {}, "no node has a geometry"),
    ],
    ids=["points", "bow tie", "rule", "typo", "weight", "no CRS", "no geometry"],
)
def test_bad_input(places: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        build_contiguity(places, **options)
