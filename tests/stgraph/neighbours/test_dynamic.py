"""Edges that change over time, and what becomes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.errors import GraphError, InputError
from stgraph.graph import Feature, STGraph
from stgraph.neighbours import build_dynamic, build_knn, collapse_edges, edges_at
from stgraph.neighbours.dynamic import is_dynamic, iterate_edge_sets
from stgraph.windows import graph_tensors

DAY = pd.Timedelta("1D")


def at(day: int) -> pd.Timestamp:
    return pd.Timestamp("2024-01-01", tz="UTC") + day * DAY


def edges(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def listed(graph: STGraph) -> list[tuple[int, int, float, int, int | None]]:
    """Return source, target, weight and the days of every edge."""
    assert graph.edges is not None
    spans = graph.edges["valid_from"], graph.edges["valid_to"]
    rows = zip(*graph.edge_index, graph.edge_weight, *spans, strict=True)
    return [
        (int(i), int(j), float(w), (a - at(0)).days, None if pd.isna(b) else (b - at(0)).days)
        for i, j, w, a, b in rows
    ]


@pytest.fixture
def changing(points: Any) -> STGraph:
    """0 -> 1 for three days, with another weight on the last; 2 -> 1 on the first and third."""
    return build_dynamic(
        STGraph(nodes=points),
        [
            (at(0), edges((0, 1), (2, 1)), [5, 1]),
            (at(1), edges((0, 1)), [5]),
            (at(2), edges((2, 1), (0, 1)), [1, 7]),
        ],
        weight_unit="people",
    )


def test_equal_edges_of_sets_that_follow_each_other_are_one(changing: STGraph) -> None:
    """Intervals are half-open; a set ends where the next begins, the last as long after."""
    assert listed(changing) == [
        (0, 1, 5, 0, 2), (0, 1, 7, 2, 3), (2, 1, 1, 0, 1), (2, 1, 1, 2, 3),
    ]  # fmt: skip
    assert is_dynamic(changing)
    assert changing.weight_unit == "people"
    assert changing.provenance["graph"]["n_edge_sets"] == 3


def test_an_edge_without_an_end_counts_until_the_signal_ends(points: Any) -> None:
    """The one that begins last is not lost, with a signal after it and without."""
    table = pd.DataFrame({"valid_from": [at(0), at(3)], "valid_to": pd.DatetimeIndex([pd.NaT] * 2)})
    table["valid_to"] = table["valid_to"].dt.tz_localize("UTC")
    graph = STGraph(nodes=points, edge_index=edges((0, 1), (1, 2)), edge_weight=np.array([4, 8]),
                    edges=table)  # fmt: skip
    assert collapse_edges(graph, "last").edge_weight.tolist() == [4, 8]
    longer = graph.replace(
        time=pd.date_range(at(0), periods=4, freq="D"),
        values=np.zeros((4, graph.n_nodes, 1)), mask=None, features=(Feature("flow"),),
    )  # fmt: skip
    static = collapse_edges(longer)
    assert static.edge_weight.tolist() == [4, 2]
    assert static.edges is not None
    assert static.edges["valid_share"].tolist() == [1, 0.25]


def test_edges_of_an_instant(changing: STGraph) -> None:
    """From the first microsecond on, and no longer at the last; nothing outside."""
    day = edges_at(changing, at(1))
    assert day.edge_index.tolist() == [[0], [1]]
    assert not is_dynamic(day)
    assert edges_at(changing, at(2) - pd.Timedelta("1us")).edge_weight.tolist() == [5]
    assert edges_at(changing, "2024-01-03").edge_weight.tolist() == [7, 1]
    assert edges_at(changing, at(3)).n_edges == edges_at(changing, at(-1)).n_edges == 0
    assert edges_at(day, at(0)) is day


def test_when_the_last_set_ends(graph: STGraph, points: Any) -> None:
    """With the signal, when told, or never."""
    one = [(graph.time[0], edges((0, 1)), None)]
    last = graph.time[-1] + graph.step
    assert build_dynamic(graph, one).edges["valid_to"].iloc[0] == last  # type: ignore[index]
    assert listed(build_dynamic(graph, one, until=at(9)))[0][4] == 9
    assert listed(build_dynamic(STGraph(nodes=points), one))[0][4] is None
    assert edges_at(build_dynamic(STGraph(nodes=points), one), "2300-01-01").n_edges == 1


def test_sets_in_any_order_pairs_listed_twice(points: Any) -> None:
    """The order of sets is that of time; weights of repeats are added, and told."""
    graph = build_dynamic(
        STGraph(nodes=points),
        [(at(1), edges(), []), (at(0), edges((0, 1), (0, 1), (3, 3)), [1, 2, 4])],
    )
    assert listed(graph) == [(0, 1, 3, 0, 1), (3, 3, 4, 0, 1)]
    assert "lists 1 pairs again; their weights were added up" in str(graph.report)


@pytest.mark.parametrize(
    ("how", "weights"),
    [
        ("mean", [(5 * 2 + 7) / 3, 2 / 3]),
        ("mean_when_valid", [17 / 3, 1]),
        ("max", [7, 1]),
        ("min", [5, 1]),
        ("last", [7, 1]),
    ],
)
def test_collapse(changing: STGraph, how: Any, weights: list[float]) -> None:
    """One edge a pair; means count the time, not the intervals."""
    static = collapse_edges(changing, how)
    assert static.edge_index.tolist() == [[0, 2], [1, 1]]
    np.testing.assert_allclose(static.edge_weight, weights, rtol=1e-6)
    assert static.edges is not None
    np.testing.assert_allclose(static.edges["valid_share"], [1, 2 / 3])
    assert not is_dynamic(static)
    assert collapse_edges(static) is static


def test_collapse_of_a_part_of_the_time(changing: STGraph) -> None:
    """What lies after the training is not looked at."""
    part = collapse_edges(changing, start=at(0) + DAY / 2, stop=at(2))
    np.testing.assert_allclose(part.edge_weight, [5, 1 / 3], rtol=1e-6)
    assert collapse_edges(changing, "last", stop=at(2)).edge_weight.tolist() == [5, 1]


def test_an_edge_without_end_collapses_to_itself(points: Any) -> None:
    graph = build_dynamic(STGraph(nodes=points), [(at(0), edges((0, 1)), [4])])
    assert collapse_edges(graph).edge_weight.tolist() == [4]


def test_no_model_gets_doubled_pairs(changing: STGraph) -> None:
    """A dynamic graph that nobody collapsed is refused where tensors are made."""
    with pytest.raises(InputError, match=r"edges change over time; .*collapse_edges"):
        graph_tensors(changing)
    assert graph_tensors(collapse_edges(changing))[0].shape == (2, 2)


def test_new_neighbours_make_it_static(changing: STGraph) -> None:
    assert not is_dynamic(build_knn(changing, k=1))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(1, 2), max_size=6
        ),
        min_size=1,
        max_size=6,
    )
)
def test_sets_come_back_as_they_were(sets: list[dict[tuple[int, int], int]]) -> None:
    """Every instant sees its own set, and building from what comes back gives the same graph."""
    import geopandas as gpd

    nodes = gpd.GeoDataFrame(index=list("abcd"), geometry=[None] * 4)
    given_sets = [(at(i), edges(*one), list(one.values())) for i, one in enumerate(sets)]
    graph = build_dynamic(STGraph(nodes=nodes), given_sets, until=at(len(sets)))
    for i, one in enumerate(sets):
        there = edges_at(graph, at(i) + DAY / 3)
        pairs = zip(*there.edge_index.tolist(), strict=True)
        assert dict(zip(pairs, there.edge_weight, strict=True)) == one
    if graph.n_edges:
        back = build_dynamic(
            STGraph(nodes=nodes), iterate_edge_sets(graph), until=graph.edges["valid_to"].max()
        )
        assert back.equals(graph)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([], "holds none; give at least one"),
        ([(at(0), edges((0, 1)), [1])] * 2, "two are of 2024-01-01"),
        ([(at(0), edges((0, 9)), [1])], "set 0: points at node 9 but the graph has 5"),
        ([(at(0), edges((-1, 0)), [1])], "points at node"),
        ([(at(0), edges((0, 1)), [1, 2])], "has 2 weights for 1 edges"),
        ([(at(0), edges((0, 1)), [np.nan])], "weights that are no numbers"),
        ([(at(0), np.ones((3, 2)), [1, 1])], r"has shape \(3, 2\)"),
        ([(at(0), np.ones((2, 1)), [1])], "dtype float64"),
        ([("soon", edges((0, 1)), [1])], "'soon' is no instant"),
        ([(at(0), edges((0, 1)))], "not enough values"),
    ],
)
def test_sets_that_cannot_be(points: Any, sets: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        build_dynamic(STGraph(nodes=points), sets)


def test_questions_that_cannot_be_answered(changing: STGraph, graph: STGraph) -> None:
    """Each says what to do."""
    with pytest.raises(InputError, match=r"`how` is 'men' \(did you mean 'mean'\?\)"):
        collapse_edges(changing, "men")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no edge is valid from 2024-02-01"):
        collapse_edges(changing, start="2024-02-01", stop="2024-03-01")
    with pytest.raises(InputError, match="is no instant"):
        edges_at(changing, "never")
    with pytest.raises(InputError, match="build_dynamic makes them"):
        next(iterate_edge_sets(graph))
    with pytest.raises(GraphError, match="`until`: is 2024-01-01"):
        build_dynamic(graph, [(at(0), edges(), [])], until=at(0))
    assert changing.edges is not None
    never = pd.Series([pd.NaT] * 4, dtype="datetime64[us, UTC]")
    for table, message in (
        (changing.edges.assign(valid_to=at(0)), "row 0: ends at 2024-01-01"),
        (changing.edges.assign(valid_from=never), "has missing instants"),
        (changing.edges.assign(valid_from="x"), "must hold instants"),
    ):
        with pytest.raises(InputError, match=message):
            edges_at(changing.replace(edges=table), at(0))
