"""The data type: canonical form, every inconsistency refused at once, parts, equality."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import GraphError, InputError
from stgraph.graph import Feature, STGraph

SPEED = (Feature("speed", "km/h"),)


def _places(ids: list[Any], xy: list[tuple[float, float]], crs: Any = "EPSG:2193") -> Any:
    x, y = zip(*xy, strict=True)
    return gpd.GeoDataFrame(index=ids, geometry=gpd.points_from_xy(x, y), crs=crs)


def _pair() -> gpd.GeoDataFrame:
    return _places(["a", "b"], [(0, 0), (3, 4)])


# ------------------------------------------------------------------ canonical form


def test_smallest_graph() -> None:
    """One node and nothing else is a graph, with all arrays there and empty."""
    graph = STGraph(nodes=_places(["a"], [(0, 0)]))
    assert (graph.n_nodes, graph.n_edges, graph.n_steps, graph.n_features) == (1, 0, 0, 0)
    assert graph.edge_index.shape == (2, 0)
    assert graph.edge_weight.shape == (0,)
    assert graph.values.shape == graph.mask.shape == (0, 1, 0)
    assert graph.step is None
    assert str(graph.time.dtype) == "datetime64[us, UTC]"
    assert list(graph.nodes["kind"]) == ["station"]
    assert "no signal" in repr(graph)


def test_sizes_and_names(graph: STGraph) -> None:
    assert (graph.n_nodes, graph.n_edges, graph.n_steps, graph.n_features) == (5, 8, 10, 1)
    assert list(graph.node_ids) == ["a", "b", "c", "d", "e"]
    assert graph.feature_names == ("speed",)
    assert graph.feature_positions("target") == [0]
    assert graph.feature_positions("observed", "static") == []
    assert graph.step == pd.Timedelta("5min")
    assert str(graph.tzinfo) == "Pacific/Auckland"
    assert repr(graph) == (
        "STGraph(5 nodes, 8 edges, 10 steps [2024-01-01 00:00:00+00:00 .. "
        "2024-01-01 00:45:00+00:00], features=['speed'])"
    )


def test_dtypes_are_canonical() -> None:
    graph = STGraph(
        nodes=_pair(),
        edge_index=[[0], [1]],  # type: ignore[arg-type]
        time=["2024-01-01", "2024-01-02"],  # type: ignore[arg-type]
        values=[[[1], [2]], [[3], [4]]],  # type: ignore[arg-type]
        features=SPEED,
    )
    assert graph.edge_index.dtype == np.int64
    assert graph.edge_weight.dtype == graph.values.dtype == np.float32
    assert graph.edge_weight.tolist() == [1.0]
    assert graph.mask.dtype == bool
    assert graph.mask.all()
    assert str(graph.time.dtype) == "datetime64[us, UTC]"
    assert graph.step == pd.Timedelta("1D")


def test_mask_follows_the_values(graph: STGraph) -> None:
    """The one NaN of the fixture is the one value that was not observed."""
    assert np.argwhere(~graph.mask).tolist() == [[4, 2, 0]]


def test_local_clock_becomes_utc() -> None:
    """Protects instants: a local axis keeps them across a clock change."""
    local = pd.date_range("2024-03-31 00:00", periods=4, freq="h", tz="Europe/Berlin")
    graph = STGraph(nodes=_pair(), time=local, values=np.zeros((4, 2, 1)), features=SPEED)
    assert graph.time[0] == pd.Timestamp("2024-03-30 23:00", tz="UTC")
    assert graph.step == pd.Timedelta("1h")


def test_one_instant_keeps_its_step() -> None:
    graph = STGraph(
        nodes=_pair(),
        time=pd.date_range("2024-01-01", periods=1, freq="15min"),
        values=np.zeros((1, 2, 1)),
        features=SPEED,
    )
    assert graph.step == pd.Timedelta("15min")


def test_other_geometry_name() -> None:
    nodes = _pair().rename_geometry("geom")
    assert STGraph(nodes=nodes).nodes.active_geometry_name == "geometry"
    assert nodes.active_geometry_name == "geom"  # the caller's table is left alone


def test_memory_map_stays_one(tmp_path: Path) -> None:
    """Protects memory: a float32 file is not read whole, neither to check nor to cut it."""
    np.lib.format.open_memmap(tmp_path / "v.npy", "w+", np.float32, (20, 2, 1))[:] = 1
    values = np.load(tmp_path / "v.npy", mmap_mode="r")
    time = pd.date_range("2024-01-01", periods=20, freq="h")
    graph = STGraph(nodes=_pair(), time=time, values=values, features=SPEED)
    assert isinstance(graph.values, np.memmap)
    assert np.shares_memory(graph.select_steps(5, 9).values, values)


def test_frozen(graph: STGraph) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.zone = "UTC"  # type: ignore[misc]


# ------------------------------------------------------------------ parts


def test_adjacency_is_source_by_target() -> None:
    graph = STGraph(nodes=_pair(), edge_index=np.array([[0], [1]]), edge_weight=np.array([5.0]))
    assert graph.adjacency().toarray().tolist() == [[0, 5], [0, 0]]


def test_select_nodes(graph: STGraph) -> None:
    """Nodes in the order asked for; edges between them only, renumbered."""
    part = graph.select_nodes(["c", "b", "e"])
    assert list(part.node_ids) == ["c", "b", "e"]
    assert part.edge_index.tolist() == [[1, 0], [0, 1]]  # b -> c and c -> b
    assert part.values[3, :, 0].tolist() == [17, 16, 19]
    assert not part.mask[4, 0, 0]


def test_select_nodes_keeps_the_edge_table_in_step(graph: STGraph) -> None:
    named = graph.replace(edges=pd.DataFrame({"road": list("stuvwxyz")}))
    part = named.select_nodes(["a", "b"])
    assert part.edges is not None
    assert list(part.edges["road"]) == ["s", "w"]


def test_select_steps_and_features(graph: STGraph) -> None:
    assert graph.select_steps(2, 5).time.equals(graph.time[2:5])
    assert graph.select_steps(9).step == pd.Timedelta("5min")
    two = graph.replace(
        values=np.repeat(graph.values, 2, axis=2),
        mask=None,
        features=(*SPEED, Feature("flow", "veh/h", "observed")),
    )
    assert two.select_features(["flow", "speed"]).feature_names == ("flow", "speed")


@given(st.permutations(range(5)))
def test_relabelling_keeps_neighbours(order: list[int]) -> None:
    """Protects the link between node table, edges and signal: order of nodes means nothing."""
    nodes = _places(list("abcde"), [(float(i), 0.0) for i in range(5)])
    graph = STGraph(
        nodes=nodes,
        edge_index=np.array([[0, 1, 3], [1, 2, 4]]),
        time=pd.date_range("2024-01-01", periods=1, freq="h"),
        values=np.arange(5.0).reshape(1, 5, 1),
        features=SPEED,
    )
    shuffled = graph.select_nodes([graph.node_ids[i] for i in order])
    pairs = {tuple(shuffled.node_ids[list(edge)]) for edge in shuffled.edge_index.T}
    assert pairs == {("a", "b"), ("b", "c"), ("d", "e")}
    assert shuffled.values[0, :, 0].tolist() == [float(i) for i in order]
    assert shuffled.select_nodes(graph.node_ids).equals(graph)


def test_report_comes_from_the_provenance(graph: STGraph) -> None:
    findings = '[{"level": "info", "where": "x", "what": "y", "todo": "", "count": 2}]'
    assert len(graph.report) == 0
    assert graph.replace(provenance={"findings": findings}).report.findings[0].count == 2


# ------------------------------------------------------------------ equality


def test_equals_itself_without_geometry() -> None:
    """Missing geometry equals missing geometry."""
    nodes = _pair()
    nodes.geometry = [shapely.Point(0, 0), None]
    assert STGraph(nodes=nodes).equals(STGraph(nodes=nodes.copy()))


@pytest.mark.parametrize(
    "change",
    [
        {"zone": "UTC"},
        {"weight_unit": "1"},
        {"edge_weight": np.zeros(8)},
        {"edge_index": np.zeros((2, 8), dtype=int)},
        {"edges": pd.DataFrame({"road": list("stuvwxyz")})},
        {"mask": np.zeros((10, 5, 1), dtype=bool)},
        {"values": np.zeros((10, 5, 1)), "mask": None},
        {"features": (Feature("speed", "mph"),)},
        {"time": pd.date_range("2024-01-01", periods=10, freq="6min")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_equals_sees_every_part(graph: STGraph, change: dict[str, Any]) -> None:
    assert graph.equals(graph.replace())
    assert not graph.equals(graph.replace(**change))


def test_equals_sees_moved_nodes(graph: STGraph) -> None:
    moved = graph.nodes.set_geometry(graph.nodes.translate(1e-9 * 1e7))
    assert not graph.equals(graph.replace(nodes=moved))
    assert not graph.equals(graph.select_nodes(["b", "a", "c", "d", "e"]))


# ------------------------------------------------------------------ bad input

_TIME = pd.date_range("2024-01-01", periods=2, freq="h")
_SIGNAL: dict[str, Any] = {"time": _TIME, "values": np.zeros((2, 2, 1)), "features": SPEED}
_INF = np.full((2, 2, 1), np.inf)

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nodes no GeoDataFrame": ({"nodes": pd.DataFrame({"x": [1]})}, "`nodes`: is a DataFrame; pass"),
    "nodes empty": ({"nodes": _pair().iloc[:0]}, "`nodes`: is empty"),
    "nodes no geometry": ({"nodes": gpd.GeoDataFrame({"x": [1]})}, "no active geometry column"),
    "nodes second geometry": (
        {"nodes": _pair().rename_geometry("geom").assign(geometry=1)},
        "column `geometry` that is not the active one",
    ),
    "ids twice": ({"nodes": _pair().set_axis(["a", "a"])}, r"ids appear twice: \['a'\]"),
    "ids missing": ({"nodes": _pair().set_axis(["a", None])}, "1 ids are missing"),
    "ids float": ({"nodes": _pair().set_axis([0.5, 1.5])}, "ids of type floating; use text"),
    "ids mixed": ({"nodes": _pair().set_axis(["a", 1])}, "ids of type mixed-integer"),
    "ids tuples": (
        {"nodes": _pair().set_axis(pd.MultiIndex.from_tuples([(1, 2), (1, 3)]))},
        "ids of type mixed",
    ),
    "no CRS": ({"nodes": _pair().set_crs(None, allow_override=True)}, "has geometry but no CRS"),
    "lat/lon swapped": (
        {"nodes": _places(["a", "b"], [(-36.8, 174.8), (-36.9, 174.7)], 4326)},
        r"2 geometries lie outside .* first at \(-36.8, 174.8\).*swapped",
    ),
    "projected called degrees": (
        {"nodes": _places(["a", "b"], [(1.7e6, 5.9e6), (0, 0)], 4326)},
        "1 geometries lie outside the degrees of WGS 84",
    ),
    "geometry not finite": (
        {"nodes": _places(["a", "b"], [(0, 0), (np.nan, 1)])},
        r"empty or not finite geometry at \['b'\]",
    ),
    "geometry empty": (
        {"nodes": gpd.GeoDataFrame(geometry=[shapely.Point()], crs=2193)},
        r"empty or not finite geometry at \[0\]",
    ),
    "edge_index shape": ({"edge_index": np.zeros((3, 2), int)}, r"has shape \(3, 2\); it must be"),
    "edge_index float": ({"edge_index": np.zeros((2, 1))}, "`edge_index`: has dtype float64"),
    "edge_index ragged": ({"edge_index": [[0], [0, 1]]}, "rows of different lengths"),
    "edge past the end": (
        {"edge_index": [[0], [2]]},
        r"points at node 2 but the graph has 2 nodes \(0..1\); rebuild it after dropping nodes",
    ),
    "edge negative": ({"edge_index": [[-1], [0]]}, "points at node -1"),
    "weight shape": ({"edge_index": [[0], [1]], "edge_weight": [1, 2]}, r"\(2,\); \(1,\) expected"),
    "weight NaN": ({"edge_index": [[0], [1]], "edge_weight": [np.nan]}, "is nan at edge 0"),
    "weight too big": ({"edge_index": [[0], [1]], "edge_weight": [1e300]}, "is inf at edge 0"),
    "weight text": ({"edge_index": [[0], [1]], "edge_weight": ["x"]}, "has dtype <U1"),
    "edges rows": (
        {"edge_index": [[0], [1]], "edges": pd.DataFrame({"x": [1, 2]})},
        "`edges`: has 2 rows for 1 edges",
    ),
    "edges other CRS": (
        {
            "edge_index": [[0], [1]],
            "edges": gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1, 1)])], crs=4326),
        },
        "`edges`: is in WGS 84 but `nodes` in NZGD2000",
    ),
    "time text": (_SIGNAL | {"time": ["soon", "later"]}, "cannot be read as instants"),
    "time numbers": (_SIGNAL | {"time": [1, 2]}, "`time`: holds numbers"),
    "time missing": (_SIGNAL | {"time": [_TIME[0], pd.NaT]}, "1 instants are missing"),
    "time unsorted": (
        _SIGNAL | {"time": _TIME[::-1]},
        "2024-01-01 01:00:00.* is followed by 2024-01-01 00:00:00",
    ),
    "time twice": (_SIGNAL | {"time": [_TIME[0], _TIME[0]]}, "does not rise by a fixed step"),
    "time irregular": (
        {
            "time": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-04"]),
            "values": np.zeros((3, 2, 1)),
            "features": SPEED,
        },
        "2024-01-02.* is followed by 2024-01-04",
    ),
    "time months": (
        {
            "time": pd.date_range("2024-01-01", periods=1, freq="MS"),
            "values": np.zeros((1, 2, 1)),
            "features": SPEED,
        },
        "step <MonthBegin> of no fixed length",
    ),
    "values shape": (
        _SIGNAL | {"values": np.zeros((2, 3, 1))},
        r"has shape \(2, 3, 1\); \(2, 2, 1\) = \(time, nodes, features\) expected",
    ),
    "values flat": (_SIGNAL | {"values": np.zeros((2, 2))}, r"has shape \(2, 2\)"),
    "values text": (_SIGNAL | {"values": [[["a"], ["b"]]] * 2}, "`values`: has dtype <U1"),
    "values bool": (_SIGNAL | {"values": np.zeros((2, 2, 1), bool)}, "`values`: has dtype bool"),
    "values complex": (_SIGNAL | {"values": np.zeros((2, 2, 1), complex)}, "complex128"),
    "values ragged": (_SIGNAL | {"values": [[1], [1, 2]]}, "`values`: has rows of different"),
    "values infinite": (
        _SIGNAL | {"values": _INF, "mask": np.zeros((2, 2, 1), bool)},
        "holds infinite numbers; replace them by NaN",
    ),
    "values without time": ({"values": np.zeros((2, 2, 1)), "features": SPEED}, r"\(0, 2, 1\)"),
    "values too big": (_SIGNAL | {"values": np.full((2, 2, 1), 1e300)}, "holds infinite numbers"),
    "NaN called observed": (
        _SIGNAL | {"values": np.full((2, 2, 1), np.nan), "mask": np.ones((2, 2, 1), bool)},
        "is nan at 2024-01-01 00:00:00.*, node 'a', feature 'speed', which `mask` calls observed",
    ),
    "mask shape": (_SIGNAL | {"mask": np.ones((2, 2), bool)}, r"`mask`: has shape \(2, 2\)"),
    "mask numbers": (_SIGNAL | {"mask": np.ones((2, 2, 1))}, "`mask`: has dtype float64"),
    "features text": (_SIGNAL | {"features": "speed"}, "holds 'speed'; use Feature"),
    "features names": (_SIGNAL | {"features": ("speed",)}, "holds 'speed'; use Feature"),
    "features twice": (
        {"time": _TIME, "values": np.zeros((2, 2, 2)), "features": SPEED * 2},
        r"names appear twice: \['speed'\]",
    ),
    "role": (
        _SIGNAL | {"features": (Feature("speed", role="targt"),)},  # type: ignore[arg-type]
        r"role 'targt' \(did you mean 'target'\?\)",
    ),
    "zone": ({"zone": "Europe/Berln"}, r"unknown time zone .*\(did you mean 'Europe/Berlin'\?\)"),
    "zone path": ({"zone": "../etc/passwd"}, "unknown time zone"),
    "zone None": ({"zone": None}, "unknown time zone None"),
    "provenance": ({"provenance": ["x"]}, "`provenance`: is a list; pass a dict"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    """Each gives one GraphError that says what, where and what to do, and nothing else."""
    parts, message = BAD[name]
    with pytest.raises(GraphError, match=message) as caught:
        STGraph(**({"nodes": _pair()} | parts))
    assert str(caught.value).startswith("not a valid STGraph: 1 problem(s)\n- `")


def test_all_problems_in_one_message() -> None:
    """Protects the user's time."""
    with pytest.raises(GraphError, match=r"4 problem\(s\)") as caught:
        STGraph(
            nodes=_pair(),
            edge_index=np.array([[0], [9]]),
            edge_weight=np.array([np.nan]),
            time=_TIME,
            values=np.zeros((2, 3, 1)),
            features=SPEED,
            zone="Mars",
        )
    text = str(caught.value)
    assert all(part in text for part in ("`edge_index`", "`edge_weight`", "`values`", "`zone`"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.select_nodes(["a", "zz"]), r"no such node: \['zz'\]; ids look like \['a'"),
        (lambda g: g.select_nodes(["a", "a"]), "ids appear twice"),
        (lambda g: g.select_nodes([]), "is empty"),
        (lambda g: g.select_features(["sped"]), r"'sped' \(did you mean 'speed'\?\)"),
    ],
)
def test_bad_selection(graph: STGraph, call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(graph)


def test_misspelt_part_is_a_type_error(graph: STGraph) -> None:
    with pytest.raises(TypeError, match="edge_weights"):
        graph.replace(edge_weights=np.zeros(8))
