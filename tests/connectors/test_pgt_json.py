"""JSON data sets of PyTorch Geometric Temporal: edges that stay and edges that change."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from stgraph_connectors.pgt_json import read_pgt_json

from stgraph.configfile import read_config
from stgraph.errors import DataError
from stgraph.neighbours import collapse_edges, edges_at, is_dynamic, iterate_edge_sets
from stgraph.pipeline import load_graph

STATIC = {"edges": [[0, 1], [1, 2]], "node_ids": {"b": 1, "a": 0, "c": 2},
          "FX": [[1, 2, 3], [4, None, 6]]}  # fmt: skip
DYNAMIC = {
    "edge_mapping": {
        "edge_index": {"1": [[0, 1]], "0": [[0, 1], [1, 1]]},
        "edge_weight": {"0": [3, 4], "1": [3]},
    },
    "time_periods": 2,
    "y": [[1, 2], [3, 4]],
}
LINKS = {
    "nodes": [{"bus_stop": 7, "y": [1, 2, 3]}, {"bus_stop": 9, "y": [4, 5, 6]}],
    "links": [{"source": 9, "target": 7, "weight": 250.5}],
}
STEPS = {"0": {"edges": [[0, 1]], "weights": [2], "y": [1, 2]}, "1": {"edges": [], "y": [3, 4]}}


def read(folder: Path, document: Any, **options: Any) -> Any:
    path = folder / "data.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_pgt_json(path, **{"start": "2024-01-01", "step_minutes": 1440, **options})


def test_edges_that_stay(tmp_path: Path) -> None:
    """Names in the order of their numbers, null is missing, no geometry."""
    graph = read(tmp_path, STATIC, feature="cases", unit="1", zone="Europe/Budapest")
    assert list(graph.node_ids) == ["a", "b", "c"]
    np.testing.assert_array_equal(graph.values[:, :, 0], [[1, 2, 3], [4, np.nan, 6]])
    assert graph.edge_index.tolist() == [[0, 1], [1, 2]]
    assert graph.time[0] == pd.Timestamp("2023-12-31T23:00Z")
    assert graph.step == pd.Timedelta("1D")
    assert graph.nodes.geometry.isna().all()
    assert not is_dynamic(graph)


def test_edges_that_change(tmp_path: Path) -> None:
    """A set per step; what stays is one edge with a longer interval."""
    graph = read(tmp_path, DYNAMIC)
    assert is_dynamic(graph)
    assert graph.edge_index.tolist() == [[0, 1], [1, 1]]
    assert [str(t)[:10] for t in graph.edges["valid_to"]] == ["2024-01-03", "2024-01-02"]
    assert edges_at(graph, graph.time[1]).n_edges == 1


def test_nodes_and_links(tmp_path: Path) -> None:
    """The layout of Montevideo's buses."""
    graph = read(tmp_path, LINKS, step_minutes=60, weight_unit="m")
    assert list(graph.node_ids) == ["7", "9"]
    np.testing.assert_array_equal(graph.values[:, :, 0], [[1, 4], [2, 5], [3, 6]])
    assert (graph.edge_index.tolist(), graph.edge_weight.tolist()) == ([[1], [0]], [250.5])
    assert graph.weight_unit == "m"


def test_steps_of_their_own(tmp_path: Path) -> None:
    """The layout of Twitter tennis; a step without edges has none."""
    graph = read(tmp_path, STEPS)
    assert graph.values[:, :, 0].tolist() == [[1, 2], [3, 4]]
    assert edges_at(graph, graph.time[1]).n_edges == 0


@pytest.mark.parametrize(
    ("document", "options", "message"),
    [
        ("{", {}, "is no JSON, or cut off"),
        ("[1]", {}, "holds a list"),
        ({"y": [[1]]}, {}, "has no `edges`, `edge_mapping` or `links`"),
        ({"edges": []}, {}, "has no signal"),
        ({**STATIC, "y": [[1, 2, 3]]}, {}, r"several tables could be the signal: \['y', 'FX'\]"),
        (STATIC, {"signal": "FY"}, r"no table 'FY' \(did you mean 'FX'\?\)"),
        ({**STATIC, "FX": [[1, 2], [3]]}, {}, "is no table of numbers"),
        ({**STATIC, "FX": [1, 2]}, {}, r"has shape \(2,\)"),
        ({**STATIC, "FX": [[1, 2, float("inf")]]}, {}, "is infinite at step 0, node 2"),
        ({**STATIC, "node_ids": {"a": 0}}, {}, "does not number the 3 nodes"),
        ({**STATIC, "edges": [[0, 5]]}, {}, "points at node 5, there are 3"),
        ({**STATIC, "edges": [[0, "x"]]}, {}, "no pairs of numbers"),
        ({**STATIC, "weights": [1]}, {}, "has 1 weights for 2 edges"),
        ({**STATIC, "weights": [1, float("nan")]}, {}, "no finite numbers"),
        ({**DYNAMIC, "y": [[1, 2]] * 3}, {}, "has no edges for 1 of 3 steps, first step 2"),
        ({**LINKS, "links": [{"source": 1, "target": 7}]}, {}, "points at node -1"),
        ({**LINKS, "nodes": [{"y": [1]}]}, {}, "have no unique `bus_stop`"),
        ({**LINKS, "links": [5]}, {}, "is no list of objects"),
        ({**LINKS, "links": [{"source": [1], "target": 7}]}, {}, "points at node -1"),
        ({**LINKS, "nodes": [{"id": ["a"], "y": [1]}]}, {}, "have no unique `bus_stop`"),
        ({**STATIC, "node_ids": {"a": "x", "b": 0, "c": 1}}, {}, "does not number the 3 nodes"),
        (
            {"y": [[1, 2]], "edge_mapping": {"edge_index": {"0": [[0, 1]]}, "edge_weight": [1]}},
            {},
            "that are no objects",
        ),
        (
            {"0": {"y": [1, 2], "edges": [[0, 1]]}, "2": {"y": [1, 2], "edges": [[0, 1]]}},
            {},
            "has 2 steps, 0 to 2, and 2 in the signal; a step is missing",
        ),
        (LINKS, {"signal": "z"}, "not every node has `z`"),
        (STATIC, {"start": "spring"}, "`start`: 'spring' cannot be read as a time"),
        (STATIC, {"step_minutes": 0}, "`step_minutes`: is 0"),
        (STATIC, {"zone": "Mars"}, "unknown time zone 'Mars'"),
    ],
)
def test_bad_input(tmp_path: Path, document: Any, options: Any, message: str) -> None:
    """One DataError that says where and what to do."""
    with pytest.raises(DataError, match=message):
        read(tmp_path, document, **options)


def test_a_file_cut_off(tmp_path: Path) -> None:
    raw = gzip.compress(json.dumps(STATIC).encode())
    (tmp_path / "cut.json.gz").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match="cannot be unpacked, it is damaged or cut off"):
        read_pgt_json(tmp_path / "cut.json.gz", start="2024-01-01", step_minutes=60)


# ---------------------------------------------------------------- real data


@pytest.mark.data
def test_mobility_in_england(data_dir: Path) -> None:
    """61 days of edges come back day by day as the file has them, in fewer rows."""
    path = data_dir / "pygt-small/england_covid.json.gz"
    graph = read_pgt_json(path, start="2020-03-13", step_minutes=1440, zone="Europe/London")
    document = json.loads(gzip.decompress(path.read_bytes()))
    assert (graph.n_nodes, graph.n_steps) == (129, 61)
    assert graph.n_edges == 82_529 - 1_252  # rows of the file, less those that go on unchanged
    sets = list(iterate_edge_sets(graph))
    assert len(sets) == 61
    mapping = document["edge_mapping"]
    for i, (instant, edge_index, weight) in enumerate(sets):
        assert instant == graph.time[i]
        pairs = map(tuple, mapping["edge_index"][str(i)])
        wanted = dict(zip(pairs, mapping["edge_weight"][str(i)], strict=True))
        given = dict(zip(zip(*edge_index.tolist(), strict=True), weight, strict=True))
        assert given == {pair: pytest.approx(w) for pair, w in wanted.items()}
    static = collapse_edges(graph)
    assert static.n_edges == 2_347
    assert static.edge_weight.sum() == pytest.approx(
        sum(sum(w) for w in mapping["edge_weight"].values()) / 61, rel=1e-5
    )


@pytest.mark.data
def test_chickenpox_in_hungary(data_dir: Path) -> None:
    """Weeks of counties, edges that stay."""
    path = data_dir / "pygt-small/chickenpox.json.gz"
    graph = read_pgt_json(path, start="2005-01-03", step_minutes=7 * 1440)
    assert (graph.n_nodes, graph.n_steps, graph.n_edges) == (20, 521, 102)
    assert list(graph.node_ids[:2]) == ["BACS", "BARANYA"]


@pytest.mark.data
def test_a_job_on_edges_that_change_says_that_it_collapses_them(
    data_dir: Path, tmp_path: Path
) -> None:
    """No pair twice reaches a model, and no edge of the test days."""
    (tmp_path / "job.toml").write_text(
        '[data]\nconnector = "pgt_json"\nstart = "2020-03-13"\nstep_minutes = 1440\n'
        f'path = "{data_dir}/pygt-small/england_covid.json.gz"\n[graph]\nmethod = "given"\n'
        "[windows]\nwindow = 7\nhorizon = 1\n"
    )
    graph = load_graph(read_config(tmp_path / "job.toml"))
    assert not is_dynamic(graph)
    keys = graph.edge_index[0] * graph.n_nodes + graph.edge_index[1]
    assert len(np.unique(keys)) == graph.n_edges
    warning = next(str(f) for f in graph.report.warnings if "change over time" in f.what)
    assert "81277 of them; models take edges that stay" in warning
    assert "pairs were made of those before 2020-04-" in warning
