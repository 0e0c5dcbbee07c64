"""Edges from a distance table or an adjacency matrix that somebody gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.errors import GraphError
from stgraph.graph import STGraph
from stgraph.neighbours import build_from_adjacency, build_from_distances


def _nodes(*ids: Any) -> gpd.GeoDataFrame:
    """Places without coordinates: tables need none."""
    return gpd.GeoDataFrame(index=list(ids), geometry=gpd.GeoSeries([None] * len(ids)).array)


def _table(*rows: tuple[Any, Any, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["from", "to", "cost"])


ABC = _nodes("a", "b", "c")
ROADS = _table(("a", "b", 100.0), ("b", "a", 300.0), ("b", "c", 200.0))


# ------------------------------------------------------------------ distances


def test_lengths_by_hand() -> None:
    """Directed as listed, sorted by target, then source."""
    graph = build_from_distances(ABC, ROADS, weight="length")
    assert graph.edge_index.tolist() == [[1, 0, 1], [0, 1, 2]]
    assert graph.edge_weight.tolist() == [300, 100, 200]
    assert graph.weight_unit == "m"
    assert graph.provenance["graph"]["method"] == "distances"


def test_gaussian_by_hand() -> None:
    """Sigma sqrt(20000/3) = 81.6 m: only 100 m keeps a weight of at least 0.1."""
    graph = build_from_distances(ABC, ROADS)
    assert graph.edge_index.tolist() == [[0], [1]]
    assert graph.edge_weight == pytest.approx(np.exp(-1.5))
    assert build_from_distances(ABC, ROADS, sigma_m=1000, threshold=0.95).n_edges == 2


@pytest.mark.data
def test_reproduces_the_published_pems_bay_graph(data_dir: Path) -> None:
    """Protects comparability: the defaults give DCRNN's adjacency, self loops and all."""
    folder = data_dir / "pems-bay-graph"
    sensors = pd.read_csv(folder / "sensors.csv", index_col="sensor_id")
    points = gpd.points_from_xy(sensors.longitude, sensors.latitude)
    places = gpd.GeoDataFrame(index=sensors.index, geometry=points, crs=4326)
    graph = build_from_distances(places, pd.read_csv(folder / "distances.csv.gz"))
    with np.load(folder / "adj_mx.npz") as published:
        expected, ids = published["adj"], published["sensor_ids"]
    assert graph.n_edges == 2694
    assert np.abs(graph.adjacency().toarray() - expected).max() < 1e-6
    again = build_from_adjacency(places, expected, ids=ids)
    assert np.array_equal(again.edge_index, graph.edge_index)


def test_self_loops() -> None:
    table = _table(("a", "a", 0.0), ("a", "b", 100.0))
    assert build_from_distances(ABC, table, weight="binary").n_edges == 2
    assert build_from_distances(ABC, table, weight="binary", include_self=False).n_edges == 1


def test_column_names_and_max_length() -> None:
    table = ROADS.set_axis(["u", "v", "metres"], axis=1)
    graph = build_from_distances(
        ABC,
        table,
        source_column="u",
        target_column="v",
        length_column="metres",
        weight="length",
        max_length_m=200,
    )
    assert graph.edge_weight.tolist() == [100, 200]


def test_pairs_listed_twice_take_the_shortest() -> None:
    table = _table(("a", "b", 200.0), ("a", "b", 100.0), ("b", "c", 5.0), ("b", "c", 5.0))
    graph = build_from_distances(ABC, table, weight="length")
    assert graph.edge_weight.tolist() == [100, 5]
    assert "1 pairs are listed with several distances; took the shortest" in str(graph.report)


@pytest.mark.parametrize(
    ("ids", "listed"),
    [((1, 2), ("1", "2")), (("1", "2"), (1, 2)), (("1", "2"), (1.0, 2.0)), ((1, 2), (1.0, 2.0))],
)
def test_ids_match_as_text_or_number(ids: Any, listed: Any) -> None:
    """A file's 400001 and another's "400001" are the same sensor."""
    graph = build_from_distances(_nodes(*ids), _table((*listed, 7.0)), weight="length")
    assert graph.edge_index.tolist() == [[0], [1]]


def test_unknown_ids_can_be_left_out() -> None:
    table = _table(("a", "b", 1.0), ("a", "z", 1.0), ("y", "b", np.nan))
    graph = build_from_distances(ABC, table, weight="length", ignore_unknown=True)
    assert graph.n_edges == 1
    assert "2 pairs of unknown nodes left out, as asked" in str(graph.report)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (_table(("a", "z", 1.0)), "column 'to', row 0: names the unknown node 'z'"),
        (_table(("a", None, 1.0)), "column 'to', row 0: names the unknown node None"),
        (_table(("a", "b", -1.0)), "column 'cost', row 0: holds .*-1.0.*negative, missing or no"),
        (_table(("a", "b", np.nan)), "column 'cost', row 0: holds .*nan"),
        (_table(("a", "b", np.inf)), "column 'cost', row 0: holds .*inf"),
        (_table(("a", "b", "far")), "column 'cost', row 0: holds 'far'"),
        (_table(("a", "b", 1.0)).rename(columns={"cost": "costs"}), "did you mean 'costs'"),
        (_table((1.5, 2.5, 1.0)), "column 'from', row 0: names the unknown node 1.5"),
        ([("a", "b", 1.0)], "`table`: is a list; pass a DataFrame"),
    ],
    ids=[
        "unknown",
        "no id",
        "negative",
        "NaN",
        "infinite",
        "text",
        "column",
        "numbers",
        "list",
    ],
)
def test_bad_tables(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        build_from_distances(ABC, table)


def test_a_width_without_a_kernel_is_refused() -> None:
    """An option that would do nothing is an error, not ignored."""
    with pytest.raises(GraphError, match="`sigma_m`: has no use with weight='length'"):
        build_from_distances(ABC, ROADS, weight="length", sigma_m=100)


def test_all_problems_in_one_message() -> None:
    table = _table(("a", "z", 1.0), ("y", "b", 1.0), ("a", "b", -1.0), ("b", "a", np.nan))
    with pytest.raises(GraphError) as caught:
        build_from_distances(ABC, table, sigma_m=-1, threshold=2, weight="x")  # type: ignore[arg-type]
    text = str(caught.value)
    assert "6 problem(s)" in text
    assert "one of 2 distances" in text


# ------------------------------------------------------------------ adjacency

MATRIX = np.array([[1.0, 0.5, 0], [0, 0, 0.25], [0, 0, 0]])


@pytest.mark.parametrize(
    "matrix",
    [
        MATRIX,
        MATRIX.astype(np.float32),
        scipy.sparse.csr_array(MATRIX),
        scipy.sparse.coo_matrix(MATRIX),
        pd.DataFrame(MATRIX, index=list("abc"), columns=list("abc")),
    ],
    ids=["float64", "float32", "csr", "coo", "frame"],
)
def test_adjacency_by_hand(matrix: Any) -> None:
    """Row = source, column = target."""
    graph = build_from_adjacency(ABC, matrix)
    assert graph.edge_index.tolist() == [[0, 0, 1], [0, 1, 2]]
    assert graph.edge_weight.tolist() == [1, 0.5, 0.25]
    assert graph.adjacency().toarray().tolist() == MATRIX.tolist()
    assert build_from_adjacency(ABC, matrix, include_self=False).n_edges == 2


def test_boolean_and_units() -> None:
    graph = build_from_adjacency(ABC, MATRIX > 0, weight_unit="m")
    assert graph.edge_weight.tolist() == [1, 1, 1]
    assert graph.weight_unit == "m"


def test_rows_in_another_order() -> None:
    """Protects against the silent mistake: a matrix in the order of another file."""
    order = [2, 0, 1]
    shuffled = MATRIX[np.ix_(order, order)]
    graph = build_from_adjacency(ABC, shuffled, ids=["c", "a", "b"])
    assert graph.adjacency().toarray().tolist() == MATRIX.tolist()
    frame = pd.DataFrame(shuffled, index=list("cab"), columns=list("cab"))
    assert build_from_adjacency(ABC, frame).equals(graph)


def test_more_rows_than_nodes() -> None:
    """A network of 81 stations, readings of 80: say which row is whose, then leave one out."""
    wide = np.ones((4, 4)) - np.eye(4)
    graph = build_from_adjacency(ABC, wide, ids=list("abxc"), ignore_unknown=True)
    assert graph.n_edges == 6
    assert "1 rows of unknown nodes left out, as asked" in str(graph.report)


@given(st.permutations(range(5)), st.integers(0, 2**25 - 1))
@settings(max_examples=40, deadline=None)
def test_round_trip_and_relabelling(order: list[int], bits: int) -> None:
    """Any matrix comes back, and the order of nodes means nothing."""
    matrix = np.array([(bits >> i) & 1 for i in range(25)], dtype=float).reshape(5, 5)
    nodes = _nodes(*"abcde")
    graph = build_from_adjacency(nodes, matrix)
    assert np.array_equal(graph.adjacency().toarray(), matrix)
    shuffled: STGraph = build_from_adjacency(nodes.iloc[order], matrix, ids=list("abcde"))
    assert np.array_equal(shuffled.adjacency().toarray(), matrix[np.ix_(order, order)])


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        (np.ones((3, 2)), {}, r"`matrix`: has shape \(3, 2\); it must be \(N, N\)"),
        (np.ones(3), {}, r"has shape \(3,\)"),
        (np.ones((4, 4)), {}, "has 4 rows for 3 nodes; pass `ids`"),
        (np.full((3, 3), np.nan), {}, "row 0, column 0: holds nan, as one of 9 weights"),
        (-MATRIX, {}, "row 0, column 0: holds -1.0, as one of 3 weights that are negative"),
        (np.full((3, 3), np.inf), {}, "holds inf"),
        (np.full((3, 3), "x"), {}, "has dtype <U1; it must hold numbers"),
        (MATRIX * 1j, {}, "has dtype complex128; it must hold real numbers"),
        (np.ones((4, 4)), {"ids": list("abcx")}, r"1 are no node: \['x'\]"),
        (MATRIX, {"ids": list("aab")}, r"appear twice: \['a'\]"),
        (MATRIX, {"ids": list("ab")}, "has 2 ids for 3 rows"),
        (pd.DataFrame(MATRIX, index=list("abc")), {}, "different index and columns"),
        (scipy.sparse.csr_array(-MATRIX), {}, "negative"),
    ],
    ids=lambda value: None,
)
def test_bad_matrices(matrix: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        build_from_adjacency(ABC, matrix, **options)
