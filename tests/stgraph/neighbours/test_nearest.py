"""The k nearest and all within a radius: answers by hand, in metres, whatever the CRS."""

from __future__ import annotations

import time
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.errors import GraphError
from stgraph.graph import STGraph
from stgraph.neighbours import build_knn, build_radius

DEGREE_M = 6_371_008.8 * np.pi / 180  # a degree along a great circle


def _places(xy: Any, crs: Any = 2193, ids: Any = None) -> gpd.GeoDataFrame:
    x, y = np.asarray(xy, dtype=float).reshape(-1, 2).T
    return gpd.GeoDataFrame(index=ids, geometry=gpd.points_from_xy(x, y), crs=crs)


def _edges(graph: STGraph) -> list[tuple[int, int]]:
    return [(int(source), int(target)) for source, target in graph.edge_index.T]


# ------------------------------------------------------------------ knn by hand


def test_edges_by_hand() -> None:
    """Points at 0, 1, 3 and 7 m: edges run neighbour -> node, sorted by node, then neighbour."""
    graph = build_knn(_places([(0, 0), (1, 0), (3, 0), (7, 0)]), k=2)
    assert _edges(graph) == [(1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2), (1, 3), (2, 3)]
    assert graph.edge_weight.tolist() == [1, 3, 1, 2, 3, 2, 6, 4]
    assert graph.weight_unit == "m"
    assert graph.edges is not None
    assert graph.edges["length_m"].tolist() == [1, 3, 1, 2, 3, 2, 6, 4]


def test_provenance_tells_how(points: gpd.GeoDataFrame) -> None:
    assert build_knn(points, k=2, max_length_m=150).provenance["graph"] == {
        "method": "knn",
        "k": 2,
        "max_length_m": 150,
        "metric": "projected",
        "weight": "length",
        "weight_unit": "m",
        "n_edges": 8,
        "n_parts": 1,
        "n_isolated": 0,
        "isolated": [],
    }


def test_graph_keeps_nodes_and_signal(graph: STGraph) -> None:
    """Given a graph, only the edges are replaced."""
    built = build_knn(graph, k=1)
    assert built.n_edges == 5
    assert np.array_equal(built.values, graph.values, equal_nan=True)
    assert built.time.equals(graph.time)
    assert built.zone == graph.zone
    assert graph.n_edges == 8  # the argument is left alone


def test_rebuilding_replaces_the_findings_about_edges(graph: STGraph) -> None:
    lonely = build_radius(graph, radius_m=50)
    assert len(lonely.report.warnings) == 1
    assert len(build_radius(lonely, radius_m=50).report) == 1
    assert len(build_radius(lonely, radius_m=150).report) == 0


def test_ties_go_to_the_first_nodes() -> None:
    """The middle of a cross has four neighbours 1 m away; the first two are taken."""
    cross = [(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)]
    assert [s for s, t in _edges(build_knn(_places(cross), k=2)) if t == 0] == [1, 2]


def test_ties_on_a_lattice_are_deterministic() -> None:
    """Protects grids: of eight candidates the first ones, not those a search tree meets first."""
    xy = [(x, y) for y in range(30) for x in range(30)]
    graph = build_knn(_places(xy), k=3)
    inner = [s for s, t in _edges(graph) if t == 15 * 30 + 15]
    assert inner == [14 * 30 + 15, 15 * 30 + 14, 15 * 30 + 16]


def test_places_on_one_point() -> None:
    """Two stations at one place are each other's neighbours, of length 0; more than k too."""
    graph = build_knn(_places([(0, 0), (0, 0), (5, 0)]), k=1)
    assert _edges(graph) == [(1, 0), (0, 1), (0, 2)]
    assert graph.edge_weight.tolist() == [0, 0, 5]
    many = build_knn(_places([(0, 0)] * 6), k=2)
    assert _edges(many)[:4] == [(1, 0), (2, 0), (0, 1), (2, 1)]
    assert many.n_edges == 12
    assert build_knn(_places([(0, 0)] * 6), k=2, weight="gaussian").edge_weight.tolist() == [1] * 12


@pytest.mark.parametrize(("n", "k", "n_edges"), [(1, 8, 0), (2, 8, 2), (5, 4, 20), (5, 99, 20)])
def test_fewer_candidates_give_fewer_edges(n: int, k: int, n_edges: int) -> None:
    assert build_knn(_places([(i * i, 0) for i in range(n)]), k=k).n_edges == n_edges


def test_weights() -> None:
    """Lengths 1, 1, 3: their mean 5/3 is the width of the kernel."""
    places = _places([(0, 0), (1, 0), (4, 0)])
    gaussian = build_knn(places, k=1, weight="gaussian")
    assert gaussian.edge_weight == pytest.approx(np.exp(-(np.array([1, 1, 3]) ** 2) / (25 / 9)))
    assert gaussian.provenance["graph"]["sigma_m"] == pytest.approx(5 / 3)
    assert gaussian.weight_unit == "1"
    assert build_knn(places, k=1, weight="binary").edge_weight.tolist() == [1, 1, 1]


# ------------------------------------------------------------------ metres in every CRS


def test_great_circle_metres() -> None:
    """At 60 degrees north a degree east is half a degree north; London to Paris is 343.6 km."""
    graph = build_knn(_places([(0, 60), (1, 60), (0, 61)], 4326), k=2)
    lengths = dict(zip(_edges(graph), graph.edge_weight, strict=True))
    assert lengths[2, 0] == pytest.approx(DEGREE_M, rel=1e-6)
    assert lengths[1, 0] == pytest.approx(DEGREE_M / 2, rel=1e-4)
    cities = build_knn(_places([(-0.1278, 51.5074), (2.3522, 48.8566)], 4326), k=1)
    assert cities.edge_weight == pytest.approx(343_557, rel=1e-5)
    assert cities.provenance["graph"]["metric"] == "great-circle"


def test_antimeridian() -> None:
    """Fiji: 179.9 E and 179.9 W are 0.2 degrees apart, not 359.8."""
    graph = build_knn(_places([(179.9, 0), (-179.9, 0), (178, 0)], 4326), k=1)
    assert _edges(graph) == [(1, 0), (0, 1), (0, 2)]
    assert graph.edge_weight[0] == pytest.approx(0.2 * DEGREE_M, rel=1e-6)


def test_us_feet_become_metres() -> None:
    """EPSG:2263, New York, is in US survey feet."""
    graph = build_knn(_places([(990_000, 200_000), (991_000, 200_000)], 2263), k=1)
    assert graph.edge_weight == pytest.approx(304.8006, rel=1e-6)


def test_web_mercator_is_measured_on_the_sphere() -> None:
    """Its metres are twice too long at 60 degrees north."""
    degrees = _places([(0, 60), (0.1, 60)], 4326)
    expected = build_knn(degrees, k=1).edge_weight
    graph = build_knn(degrees.to_crs(3857), k=1)
    assert graph.edge_weight == pytest.approx(expected, rel=1e-6)
    assert graph.provenance["graph"]["metric"] == "great-circle"


def test_polygons_count_with_their_centroid() -> None:
    boxes = [shapely.box(0, 0, 2, 2), shapely.box(10, 0, 14, 2)]
    assert build_knn(gpd.GeoDataFrame(geometry=boxes, crs=2193), k=1).edge_weight.tolist() == [
        11,
        11,
    ]


# ------------------------------------------------------------------ what is said


def test_nodes_without_geometry_stay_alone(points: gpd.GeoDataFrame) -> None:
    """They keep their row and signal, get no edges, and the report names them."""
    points.geometry = [*points.geometry[:4], None]
    graph = build_knn(points, k=2)
    assert 4 not in graph.edge_index
    assert graph.provenance["graph"]["isolated"] == ["e"]
    assert "1 nodes have no geometry: ['e']" in str(graph.report)
    assert "1 nodes have no neighbour: ['e']" in str(graph.report)


def test_parts_are_said() -> None:
    """Two pairs far apart make two parts; that is allowed, and told."""
    graph = build_knn(_places([(0, 0), (1, 0), (100, 0), (101, 0)]), k=1)
    assert graph.provenance["graph"]["n_parts"] == 2
    assert "the graph falls into 2 parts" in str(graph.report)


# ------------------------------------------------------------------ radius


def test_radius_by_hand(points: gpd.GeoDataFrame) -> None:
    """Stations 100 m apart: 100 m includes the next one on either side."""
    graph = build_radius(points, radius_m=100)
    assert _edges(graph) == [(1, 0), (0, 1), (2, 1), (1, 2), (3, 2), (2, 3), (4, 3), (3, 4)]
    assert build_radius(points, radius_m=99.999).n_edges == 0
    assert build_radius(points, radius_m=1e9).n_edges == 20


def test_radius_with_a_limit(points: gpd.GeoDataFrame) -> None:
    graph = build_radius(points, radius_m=250, max_neighbours=1)
    assert _edges(graph) == [(1, 0), (0, 1), (1, 2), (2, 3), (3, 4)]
    assert build_radius(points, radius_m=99, max_neighbours=1).n_edges == 0


def test_radius_around_the_world() -> None:
    """Half the Earth's girth reaches the antipode."""
    places = _places([(0, 0), (180, 0), (90, 45)], 4326)
    assert build_radius(places, radius_m=180.001 * DEGREE_M).n_edges == 6
    assert build_radius(places, radius_m=179 * DEGREE_M).n_edges == 4


def test_radius_too_wide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory against a radius given in the wrong unit."""
    monkeypatch.setattr("stgraph.neighbours._edges.EDGE_LIMIT", 10)
    with pytest.raises(GraphError, match="20 edges, more than the 10 allowed; use a smaller"):
        build_radius(_places([(i, 0) for i in range(5)]), radius_m=100)


# ------------------------------------------------------------------ properties

_COORDINATES = st.lists(
    st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=2, max_size=12, unique=True
)


@given(_COORDINATES, st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_lengths_do_not_depend_on_node_order(xy: Any, k: int, random: Any) -> None:
    """Protects against an answer that depends on how the file was sorted."""
    ids = [f"n{i}" for i in range(len(xy))]
    places = _places(xy, ids=ids)
    order = ids.copy()
    random.shuffle(order)

    def lengths(graph: STGraph) -> dict[str, list[float]]:
        table = pd.DataFrame({"node": graph.node_ids[graph.edge_index[1]], "m": graph.edge_weight})
        return {node: sorted(part["m"]) for node, part in table.groupby("node")}

    first, second = lengths(build_knn(places, k=k)), lengths(build_knn(places.loc[order], k=k))
    assert first.keys() == second.keys()
    for node, expected in first.items():
        assert second[node] == pytest.approx(expected, abs=1e-3)


@given(_COORDINATES, st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_agrees_with_all_pairs(xy: Any, k: int) -> None:
    """Protects the search tree and its ties against the obvious slow way."""
    graph = build_knn(_places(xy), k=k)
    points = np.array(xy)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    for node in range(len(xy)):
        expected = np.sort(distance[node])[: min(k, len(xy) - 1)]
        found = graph.edge_weight[graph.edge_index[1] == node]
        assert np.sort(found) == pytest.approx(expected, rel=1e-5, abs=1e-3)


def test_8600_places_in_well_under_a_second() -> None:
    """Protects the size of a state's sensors: random, on a lattice (all tied), or on one point."""
    rng = np.random.default_rng(0)
    random = _places(rng.uniform([-124, 32], [-114, 42], (8600, 2)), 4326)
    lattice = _places([(100 * x, 100 * y) for x in range(100) for y in range(86)])
    for places in (random, lattice, _places(np.zeros((8600, 2)))):
        start = time.perf_counter()
        assert build_knn(places, k=8).n_edges == 68_800
        assert time.perf_counter() - start < 1.0


# ------------------------------------------------------------------ bad input

_PAIR = _places([(0, 0), (1, 0)])
_MIXED = gpd.GeoDataFrame(geometry=[shapely.Point(0, 0), shapely.box(0, 0, 1, 1)], crs=2193)


@pytest.mark.parametrize("k", [0, -1, 1.5, "8", None, True, np.nan])
def test_bad_k(k: Any) -> None:
    with pytest.raises(GraphError, match=r"`k`: is .*; use a whole number of at least 1"):
        build_knn(_PAIR, k=k)


@pytest.mark.parametrize("radius", [0, -5, np.nan, "100", None, True])
def test_bad_radius(radius: Any) -> None:
    with pytest.raises(GraphError, match=r"`radius_m`: is .*; use metres above 0"):
        build_radius(_PAIR, radius_m=radius)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (_PAIR.set_crs(None, allow_override=True), "has geometry but no CRS; call set_crs"),
        (_MIXED, r"mixes geometry types \['Point', 'Polygon'\]"),
        (gpd.GeoDataFrame(geometry=[None, None], crs=2193), "no node has a geometry; give coord"),
        (_PAIR.iloc[:0], "`nodes`: is empty"),
        (_PAIR.set_axis(["a", "a"]), "ids appear twice"),
        (pd.DataFrame({"x": [1]}), "is a DataFrame; pass a GeoDataFrame"),
        (_places([(-36.8, 174.8)], 4326), "latitude and longitude are swapped"),
        (_places([(4e6, 0)], 4978), "geocentric CRS WGS 84; call to_crs"),
        (
            gpd.GeoDataFrame(
                geometry=[shapely.GeometryCollection([shapely.Point(0, 0)])], crs=2193
            ),
            r"mixes geometry types \['GeometryCollection'\]",
        ),
    ],
    ids=["no CRS", "mixed", "no geometry", "empty", "ids", "type", "swapped", "geocentric", "bag"],
)
@pytest.mark.parametrize("build", [build_knn, lambda p: build_radius(p, radius_m=9)])
def test_bad_places(build: Any, places: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        build(places)


def test_all_problems_in_one_message() -> None:
    """Protects the user's time: options and places are judged together."""
    with pytest.raises(GraphError) as caught:
        build_knn(
            _PAIR.set_crs(None, allow_override=True),
            k=0,
            max_length_m=-1,
            weight="gausian",  # type: ignore[arg-type]
        )
    text = str(caught.value)
    assert all(part in text for part in ("no CRS", "`k`", "`max_length_m`", "did you mean 'gaussi"))


def test_misspelt_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="max_length"):
        build_knn(_PAIR, max_length=3)  # type: ignore[call-arg]
