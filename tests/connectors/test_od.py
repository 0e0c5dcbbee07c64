"""Origin-destination matrices to demand between zones."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from stgraph_connectors.od import read_od

from stgraph.configfile import read_config
from stgraph.errors import DataError, MissingExtraError
from stgraph.pipeline import load_graph

# a -> b 5, a -> c 1, b -> a 2, c -> c 4
MATRIX = np.array([[0, 5, 1], [2, 0, 0], [0, 0, 4]], dtype=float)
EDGES = [("b", "a", 2.0), ("a", "b", 5.0), ("a", "c", 1.0), ("c", "c", 4.0)]  # by (target, source)
LONG = "origin,destination,trips\na,b,5\na,c,1\nb,a,2\nc,c,4\n"
TNTP = """<NUMBER OF ZONES> 3
<TOTAL OD FLOW> 12.0
<END OF METADATA>

Origin  1
    1 : 0.0;  2 : 5.0;
    3 : 1.0;
~ a comment
Origin 2
 1 :2; 2: 0;
origin 3
3 : 4.0;
"""


def make_zones(ids: str = "abc") -> gpd.GeoDataFrame:
    """Points in a row."""
    points = gpd.points_from_xy(1_750_000 + 100 * np.arange(len(ids)), [5.9e6] * len(ids))
    return gpd.GeoDataFrame({"zone_id": list(ids)}, geometry=points, crs=2193)


def write(folder: Path, kind: str, matrix: Any = MATRIX, ids: Any = ("a", "b", "c")) -> Path:
    """Write a matrix in one of the ways it may come."""
    path = folder / f"matrix.{kind}"
    if kind == "csv":
        pd.DataFrame(matrix, ids, ids).to_csv(path)
    elif kind == "npz":
        np.savez(path, matrix=matrix, ids=np.array(ids, dtype=str))
    elif kind == "omx":
        openmatrix = pytest.importorskip("openmatrix")
        with openmatrix.open_file(str(path), "w") as file:
            file["trips"] = np.asarray(matrix)
            file.create_mapping("taz", ids)
    return path


def listed(graph: Any) -> list[tuple[str, str, float]]:
    """Return the edges by name."""
    ids = graph.node_ids
    source, target = graph.edge_index
    return [(ids[i], ids[j], float(w))
            for i, j, w in zip(source, target, graph.edge_weight, strict=True)]  # fmt: skip


def test_a_long_table(tmp_path: Path) -> None:
    """Edges origin -> destination with their trips, sums of rows and columns at the zones."""
    (tmp_path / "od.csv").write_text(LONG)
    graph = read_od(tmp_path / "od.csv", make_zones())
    assert listed(graph) == EDGES
    assert list(graph.nodes["productions"]) == [6, 2, 4]
    assert list(graph.nodes["attractions"]) == [2, 5, 5]
    assert (graph.weight_unit, graph.n_steps, set(graph.nodes["kind"])) == ("trips", 0, {"zone"})
    assert graph.nodes.crs == "EPSG:2193"
    assert graph.edges is not None
    assert graph.edges.iloc[1].to_dict() == {"origin": "a", "destination": "b", "trips": 5.0}
    assert read_od(tmp_path / "od.csv", make_zones(), include_self=False).n_edges == 3


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_dense_matrices(kind: str, tmp_path: Path) -> None:
    """The same from a square table and from arrays."""
    assert listed(read_od(write(tmp_path, kind), make_zones())) == EDGES
    assert listed(read_od(write(tmp_path, kind), make_zones("cab"))) != EDGES  # other positions
    assert sorted(listed(read_od(write(tmp_path, kind), make_zones("cab")))) == sorted(EDGES)


def test_omx(tmp_path: Path) -> None:
    """Rows are named by the mapping of the file; numbers and text are the same id."""
    path = write(tmp_path, "omx", ids=[10, 30, 20])
    zones = make_zones().assign(zone_id=[10, 20, 30])
    graph = read_od(path, zones)
    # in the matrix zone 30 is second: 10 -> 30 has 5, 30 -> 10 has 2, 10 -> 20 has 1
    assert listed(graph) == [
        ("30", "10", 2.0), ("10", "20", 1.0), ("20", "20", 4.0), ("10", "30", 5.0),
    ]  # fmt: skip


def test_a_frame_and_zones_without_a_place() -> None:
    """No layer at all: the matrix names the zones."""
    frame = pd.DataFrame(MATRIX, index=list("abc"), columns=list("abc"))
    graph = read_od(frame)
    assert listed(graph) == EDGES
    assert graph.nodes.geometry.isna().all()


def test_scipy_sparse_and_rows_in_the_order_of_the_zones(tmp_path: Path) -> None:
    """Nothing names the rows: the order of the layer is taken, and said."""
    sp.save_npz(tmp_path / "s.npz", sp.csr_array(MATRIX))
    graph = read_od(tmp_path / "s.npz", make_zones())
    assert listed(graph) == EDGES
    assert "its rows are taken in the order of the zones" in str(graph.report)
    assert (
        listed(read_od(tmp_path / "s.npz", make_zones("cba"), matrix_ids=["a", "b", "c"])) != EDGES
    )


def test_tntp(tmp_path: Path) -> None:
    """Entries over several lines, comments, zeros, and a total that is checked."""
    (tmp_path / "x_trips.tntp").write_text(TNTP)
    graph = read_od(tmp_path / "x_trips.tntp")
    assert [w for _, _, w in listed(graph)] == [2, 5, 1, 4]
    assert "its 12.00 trips are the <TOTAL OD FLOW>" in str(graph.report)
    (tmp_path / "x_trips.tntp").write_text(TNTP.replace("12.0", "13.0"))
    report = str(read_od(tmp_path / "x_trips.tntp").report)
    assert "says 13.00 trips but the entries add up to 12.00; the file may be cut off" in report


def test_time_slices(tmp_path: Path) -> None:
    """Productions and attractions per step; an hour with others only is 0, a lacking one not."""
    (tmp_path / "od.csv").write_text(
        "o,d,trips,time\na,b,5,2024-01-01 07:00\nb,a,1,2024-01-01 07:00\n"
        "a,b,3,2024-01-01 08:00\nb,c,2,2024-01-01 10:00\n"
    )
    graph = read_od(tmp_path / "od.csv", make_zones(), step_minutes=60, zone="Pacific/Auckland")
    assert graph.feature_names == ("productions", "attractions")
    assert {f.unit for f in graph.features} == {"trips"}
    np.testing.assert_array_equal(
        graph.values[:, :, 0], [[5, 1, 0], [3, 0, 0], [np.nan] * 3, [0, 2, 0]]
    )
    np.testing.assert_array_equal(graph.values[3, :, 1], [0, 0, 2])
    assert listed(graph)[1] == ("a", "b", pytest.approx(8 / 3))  # of three hours with trips
    total = read_od(tmp_path / "od.csv", make_zones(), step_minutes=60, over_time="sum")
    assert listed(total)[1] == ("a", "b", 8)
    assert list(total.nodes["productions"]) == [8, 3, 0]
    half = read_od(tmp_path / "od.csv", make_zones(), step_minutes=120)
    assert half.values[1, 0, 0] == 3  # 08:00 and nothing at 09:00; 07:00 is in the step before


def test_a_matrix_per_instant(tmp_path: Path) -> None:
    """npz with time first; an instant without a trip is there all the same."""
    cube = np.stack([MATRIX, 0 * MATRIX, 2 * MATRIX])
    stamps = 1_704_067_200 + 3600 * np.arange(3)
    np.savez(tmp_path / "c.npz", od=cube, timestamps=stamps, ids=np.array(["a", "b", "c"]))
    graph = read_od(tmp_path / "c.npz", make_zones())
    np.testing.assert_array_equal(graph.values[:, :, 0], [[6, 2, 4], [0, 0, 0], [12, 4, 8]])
    assert graph.time[0] == pd.Timestamp("2024-01-01", tz="UTC")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=4, max_size=4))
def test_nothing_is_lost_between_dense_and_long(cells: list[list[int]]) -> None:
    """A matrix and the list of its cells are one graph, whose weights add up to all trips."""
    matrix = np.array(cells, dtype=float)
    if not matrix.any():
        return
    ids = list("pqrs")
    dense = read_od(pd.DataFrame(matrix, ids, ids))
    rows = [(ids[i], ids[j], matrix[i, j]) for i in range(4) for j in range(4)]
    long = read_od(pd.DataFrame(rows, columns=["origin", "destination", "trips"]))
    assert listed(dense) == listed(long)
    assert dense.edge_weight.sum() == matrix.sum()
    np.testing.assert_array_equal(dense.nodes["productions"], matrix.sum(axis=1))


def test_rows_that_repeat_a_pair_at_one_time_are_told(tmp_path: Path) -> None:
    """A row per pair and time is right; the same one again is likely a mistake."""
    rows = "origin,destination,time,trips\n" + "a,b,2024-05-01 00:00,5\n" * 2
    (tmp_path / "od.csv").write_text(rows + "a,b,2024-05-01 01:00,5\n")
    graph = read_od(tmp_path / "od.csv", over_time="sum")
    assert listed(graph) == [("a", "b", 15.0)]
    assert "1 rows repeat a pair of zones at one time" in str(graph.report)


def test_findings_about_zones_and_rows(tmp_path: Path) -> None:
    """Repeats are added up, strangers and silent zones named, small flows told."""
    (tmp_path / "od.csv").write_text(LONG + "a,b,1\nx,a,3\n,a,2\na,c,\n")
    graph = read_od(tmp_path / "od.csv", make_zones("abcd"), ignore_unknown=True, min_trips=2)
    assert listed(graph) == [("b", "a", 2.0), ("a", "b", 6.0), ("c", "c", 4.0)]
    assert list(graph.nodes["productions"]) == [7, 2, 4, 0]
    text = str(graph.report)
    for words in (
        "1 rows repeat a pair of zones; their trips were added up",
        "1 zones are not in the layer: ['x'], with 3.0 trips (18.8%); left out, as asked",
        "1 zones are not in the matrix: ['d']",
        "1 rows have no origin or no destination",
        "1 cells are empty; taken as no trips",
        "1 pairs have less than 2 trips, 1.0 in all",
    ):
        assert words in text
    kept = read_od(tmp_path / "od.csv", make_zones("dabc"), ignore_unknown=True, keep_empty=False)
    assert list(kept.node_ids) == ["a", "b", "c"]
    assert listed(kept)[0] == ("b", "a", 2.0)


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_a_large_dense_matrix_is_refused_before_it_is_read(kind: str, tmp_path: Path) -> None:
    """The size is in the header; the message says what to write instead."""
    ids = [f"z{i}" for i in range(60)]
    path = write(tmp_path, kind, np.ones((60, 60)), ids)
    with pytest.raises(DataError, match=r"60 x 60 cells, 0\.0 GB; write it as a long table"):
        read_od(path, max_dense=50)
    with pytest.raises(DataError, match="or pass max_dense=60"):
        read_od(pd.DataFrame(np.ones((60, 60)), ids, ids), max_dense=50)


def test_omx_is_read_in_blocks_whatever_its_size(tmp_path: Path) -> None:
    """An OMX file never becomes one dense array, so that it has no limit."""
    matrix = sp.random_array((1200, 1200), density=0.001, rng=0, format="csr")
    path = write(tmp_path, "omx", matrix.toarray(), list(range(1200)))
    graph = read_od(path, max_dense=10)
    assert graph.n_edges == matrix.nnz
    np.testing.assert_allclose(graph.adjacency().toarray(), matrix.toarray(), rtol=1e-6)
    negative = matrix.toarray()
    negative[700, 3] = -1
    with pytest.raises(DataError, match="row 700, column 3: holds -1"):
        read_od(write(tmp_path, "omx", negative, list(range(1200))))


BAD = [
    ("od.csv", "a,b\n1,2\n", {}, "is 1 x 1, ids in rows or columns only"),
    ("od.csv", "1,2,3\n4,5,6\n", {}, "has numbers where column names are expected"),
    ("od.csv", LONG.replace("5", "-5"), {}, "line 2: -5 trips are below 0"),
    ("od.csv", LONG.replace("5", "many"), {}, "'many' is no number"),
    ("od.csv", LONG.replace("5", "inf"), {}, "inf is no finite"),
    ("od.csv", LONG.replace("trips", "x") , {"value_column": "y"}, "no column 'y'"),
    ("od.csv", "origin,destination,x,y\na,b,1,2\n", {}, "several columns could be the trips"),
    ("od.csv", "origin,destination\na,b\n", {}, "no column is left; say which with value_column="),
    ("od.csv", "origin,trips\na,1\n", {}, "known name for `destination_column`"),
    ("od.csv", LONG, {"origin_column": "orign"}, r"no column 'orign' \(did you mean 'origin'\?\)"),
    ("od.csv", LONG.replace("a,b", "q,b"), {}, r"1 zones are not in the layer: \['q'\], with 5"),
    ("od.csv", "origin,destination,trips\na,b,0\n", {}, "no pair of zones has trips"),
    ("od.csv", LONG, {"min_trips": 99}, "no pair of zones has trips"),
    ("od.csv", LONG, {"min_trips": -1}, "`min_trips`: is -1"),
    ("od.csv", LONG, {"over_time": "max"}, "`over_time`: unknown value 'max'"),
    ("od.csv", LONG, {"zone": "Nowhere"}, "unknown time zone"),
    ("od.csv", LONG, {"max_dense": 0}, "`max_dense`: is 0"),
    ("od.csv", ",a,b\na,1,2\na,3,4\n", {}, "ids in rows or columns only"),
    ("od.csv", ",a,b\na,1,-2\nb,3,4\n", {}, "holds -2, as one of 1 cells below 0"),
    ("od.csv", "o,d,trips,time\na,b,1,noon\n", {}, "'noon' cannot be read as a time"),
    ("od.csv", "o,d,trips,time\na,b,1,2024-01-01\n", {}, "say it with step_minutes="),
    ("od.tntp", "<NUMBER OF ZONES> 3\n", {}, "has no <END OF METADATA>"),
    ("od.tntp", TNTP.replace("rigin", "rigins"), {}, "has no line `Origin`"),
    ("od.tntp", TNTP.replace("5.0", "5,0"), {}, "'5,0' is no number"),
    ("od.tntp", TNTP.replace("ZONES> 3", "ZONES> 2"), {}, "says 2 zones but names zone 3"),
    ("od.tntp", TNTP.replace("4.0", "-4.0"), {}, "has trips below 0"),
    ("od.tntp", "<END OF METADATA>\nOrigin 1\n\nOrigin 2\n", {}, "has no trips; give a file of"),
    ("od.omx", "no HDF", {}, "cannot be read as OMX"),
    ("od.npz", "no zip", {}, "cannot be read as npz|holds Python objects"),
    ("od.xlsx", "x", {}, "unknown kind of file"),
    ("od.csv.gz", "", {}, "the file is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "options", "message"), BAD)
def test_bad_input(
    name: str, text: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """One DataError with file, line and what to do."""
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()) if text else b"")
    else:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_od(path, make_zones(), **options)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"matrix": MATRIX[:2]}, {}, r"has shape \(2, 3\)"),
        ({"matrix": np.array([["x"]])}, {}, "has dtype <U1"),
        ({"matrix": MATRIX, "ids": np.array(["a", "b"])}, {}, "has 3 rows for 2 ids"),
        ({"matrix": MATRIX, "ids": np.array(["a", "b", "b"])}, {}, "ids appear twice"),
        ({"matrix": MATRIX, "other": MATRIX}, {"matrix_name": "othr"}, "did you mean 'other'"),
        ({"matrix": np.full((3, 3), -np.inf)}, {}, "as one of 9 cells below 0 or infinite"),
        ({"matrix": np.ones((2, 2))}, {}, "has 2 rows without ids, the layer has 3 zones"),
        ({"matrix": np.ones((2, 3, 3)), "ids": np.array(["a", "b", "c"])}, {}, "no array `timest"),
        (
            {"matrix": np.ones((2, 3, 3)), "timestamps": np.arange(3)},
            {},
            "has 2 matrices for 3 timestamps",
        ),
    ],
)
def test_bad_arrays(
    arrays: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_od(tmp_path / "m.npz", make_zones(), **options)


def test_several_matrices_in_an_omx_file(tmp_path: Path) -> None:
    """Without a name the names are told."""
    path = write(tmp_path, "omx", ids=[1, 2, 3])
    openmatrix = pytest.importorskip("openmatrix")
    with openmatrix.open_file(str(path), "a") as file:
        file["pm"] = MATRIX.T.copy()
    with pytest.raises(DataError, match=r"has 2 matrices; name one with matrix_name=: \['pm', 'tr"):
        read_od(path)
    with pytest.raises(DataError, match=r"no matrix 'pn' \(did you mean 'pm'\?\)"):
        read_od(path, matrix_name="pn")
    assert read_od(path, matrix_name="pm").edge_weight.sum() == 12


def test_omx_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.omx").write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "openmatrix", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'stgraph-gis\[od\]'"):
        read_od(tmp_path / "m.omx")


# ---------------------------------------------------------------- real data


@pytest.mark.data
@pytest.mark.parametrize(
    ("city", "zones", "total", "n_zones", "n_edges"),
    [
        ("SiouxFalls", "SiouxFallsCoordinates.geojson", 360_600.0, 24, 528),
        ("Anaheim", "anaheim_nodes.geojson", 104_694.4, 38, 1406),
    ],
)
def test_real_trips_add_up_to_their_published_total(
    city: str, zones: str, total: float, n_zones: int, n_edges: int, data_dir: Path
) -> None:
    """<TOTAL OD FLOW> of the publishers, at the zones and on the edges."""
    folder = data_dir / "transport-networks" / city
    graph = read_od(folder / f"{city}_trips.tntp", folder / zones, keep_empty=False)
    assert (graph.n_nodes, graph.n_edges) == (n_zones, n_edges)
    assert graph.edge_weight.sum() == pytest.approx(total)
    assert graph.nodes["productions"].sum() == pytest.approx(total)
    assert graph.nodes["attractions"].sum() == pytest.approx(total)
    assert "<TOTAL OD FLOW> that it names" in str(graph.report)


@pytest.mark.data
def test_a_real_long_table_on_polygons(data_dir: Path, tmp_path: Path) -> None:
    """The same city as CSV, on zones as polygons, from a config."""
    (tmp_path / "job.toml").write_text(
        '[data]\nconnector = "od"\n'
        f'matrix = "{data_dir}/transport-networks/SiouxFalls/SiouxFalls_od.csv"\n'
        f'zones = "{data_dir}/siouxfalls-geo/network.gpkg"\nlayer = "zones"\n'
        '[graph]\nmethod = "given"\n'
    )
    graph = load_graph(read_config(tmp_path / "job.toml"))
    assert set(graph.nodes.geom_type) <= {"Polygon", "MultiPolygon"}
    assert graph.edge_weight.sum() == 360_600
    tntp = read_od(data_dir / "transport-networks/SiouxFalls/SiouxFalls_trips.tntp")
    assert sorted(listed(graph)) == sorted(listed(tntp))
