"""The thresholded Gaussian kernel of distances."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pytest

from stgraph.errors import GraphError
from stgraph.neighbours import build_gaussian


def _line(*x: float) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(geometry=gpd.points_from_xy(x, np.zeros(len(x))), crs=2193)


def test_by_hand() -> None:
    """Points at 0, 1 and 3 m: distances 1, 2, 3 with deviation sqrt(2/3), kept from 0.1 on."""
    graph = build_gaussian(_line(0, 1, 3))
    assert graph.edge_index.tolist() == [[1, 0], [0, 1]]
    assert graph.edge_weight == pytest.approx([np.exp(-1.5)] * 2)
    assert graph.provenance["graph"]["sigma_m"] == pytest.approx(np.sqrt(2 / 3))
    assert graph.weight_unit == "1"


def test_threshold_keeps_what_reaches_it() -> None:
    """With sigma 1 m and distances 1, 2 and 3 m: weights exp(-1), exp(-4), exp(-9)."""
    line = _line(0, 1, 3)
    for threshold, n_edges in [(0.5, 0), (0.36, 2), (0.018, 4), (1e-4, 6), (0, 6)]:
        assert build_gaussian(line, sigma_m=1, threshold=threshold).n_edges == n_edges


def test_include_self() -> None:
    graph = build_gaussian(_line(0, 1, 3), include_self=True)
    assert graph.adjacency().toarray().diagonal().tolist() == [1, 1, 1]
    assert graph.n_edges == 5


def test_k_and_radius_take_the_mean_as_width() -> None:
    """On a line of equal steps the deviation of the neighbours' distances would be 0."""
    line = _line(*range(6))
    near = build_gaussian(line, radius_m=1)
    assert near.edge_weight == pytest.approx([np.exp(-1)] * 10)
    assert build_gaussian(line, k=1).edge_weight == pytest.approx([np.exp(-1)] * 6)


def test_equal_distances_and_one_point() -> None:
    """No spread, no division by zero."""
    assert build_gaussian(_line(0, 7)).edge_weight == pytest.approx([np.exp(-1)] * 2)
    assert build_gaussian(_line(0, 0)).edge_weight.tolist() == [1, 1]
    assert build_gaussian(_line(0)).n_edges == 0


def test_sigma_of_all_pairs_without_holding_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory: the width is measured in blocks and does not depend on their size."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 1000, (40, 2))
    places = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*xy.T), crs=2193)
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    expected = distance[~np.eye(40, dtype=bool)].std()
    for size in (10, 100, 10_000):
        monkeypatch.setattr("stgraph.neighbours.gaussian._PAIRS_AT_ONCE", size)
        assert build_gaussian(places).provenance["graph"]["sigma_m"] == pytest.approx(expected)


def test_many_nodes_need_a_limit() -> None:
    """No dense N x N above 5,000 nodes; with a width or a limit it is sparse and fine."""
    many = _line(*range(5001))
    with pytest.raises(GraphError, match=r"5001 nodes are too many .*\(limit 5000\); give `k`"):
        build_gaussian(many)
    assert build_gaussian(many, sigma_m=1).n_edges == 10_000
    assert build_gaussian(many, k=2).n_edges == 10_000  # the ends' second neighbours are too far
    with pytest.raises(GraphError, match="too many"):
        build_gaussian(many, sigma_m=1, threshold=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1}, "`threshold`: is 1; use a number from 0 to below 1"),
        ({"threshold": -0.1}, "`threshold`: is -0.1"),
        ({"threshold": np.nan}, "`threshold`: is nan"),
        ({"threshold": "0.1"}, "`threshold`: is '0.1'"),
        ({"sigma_m": 0}, "`sigma_m`: is 0; use metres above 0"),
        ({"k": 0}, "`k`: is 0"),
        ({"k": 3, "radius_m": 10}, "`k` and `radius_m`: are both given; choose one"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        build_gaussian(_line(0, 1, 3), **options)
