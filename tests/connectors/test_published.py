"""METR-LA, PEMS-BAY and PEMS0x are read from files of their own layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from stgraph_connectors.published import read_published

from stgraph.errors import DataError


def write_frame(
    path: Path, *, n_steps: int = 40, n_nodes: int = 3, start: str = "2012-03-01", **axis: Any
) -> pd.DataFrame:
    """Write readings as pandas writes metr-la.h5; the first reading of the first sensor is 0."""
    time = pd.date_range(start, periods=n_steps, freq="5min", **axis).as_unit("ns")
    if axis:
        time = time.tz_localize(None)
    values = np.arange(n_steps * n_nodes, dtype=float).reshape(n_steps, n_nodes)
    frame = pd.DataFrame(values, time, [str(700000 + i) for i in range(n_nodes)])
    frame.to_hdf(path, key="df", format="fixed")
    return frame


def test_the_frame_that_pandas_itself_writes(tmp_path: Path) -> None:
    """Values, ids and the wall clock are those of pandas' own writer; an exact 0 is missing."""
    frame = write_frame(tmp_path / "metr-la.h5")
    graph = read_published(tmp_path / "metr-la.h5", dataset="metr-la")
    assert list(graph.node_ids) == list(frame.columns)
    assert not graph.mask[0, 0, 0]
    assert graph.mask.sum() == frame.size - 1
    np.testing.assert_array_equal(graph.values[1:, :, 0], frame.to_numpy()[1:])
    assert graph.zone == "Etc/GMT+8"
    assert graph.time[0].tz_convert(graph.zone).tz_localize(None) == frame.index[0]
    assert graph.step == pd.Timedelta(minutes=5)
    assert (graph.features[0].name, graph.features[0].unit) == ("speed", "mph")
    assert graph.provenance["complete"] is False
    assert "errors on it compare with nothing that is published" in str(graph.report)


def test_the_hour_that_spring_skips_is_no_gap(tmp_path: Path) -> None:
    """PEMS-BAY has 12 rows less than its days: every row is one step, and the clock stays right."""
    frame = write_frame(
        tmp_path / "pems-bay.h5", start="2017-03-12 01:30", tz="America/Los_Angeles"
    )
    assert (frame.index[6] - frame.index[5]) == pd.Timedelta("1h5min")
    graph = read_published(tmp_path / "pems-bay.h5", dataset="pems-bay")
    assert graph.n_steps == len(frame)
    assert graph.zone == "America/Los_Angeles"
    local = graph.time.tz_convert(graph.zone).tz_localize(None)
    assert list(local) == list(frame.index)


def test_rows_are_steps_also_where_the_clock_jumps(tmp_path: Path) -> None:
    """Published protocols count rows; a jump is said, and nothing is filled in."""
    frame = write_frame(tmp_path / "whole.h5")
    frame.drop(frame.index[[7, 8]]).to_hdf(tmp_path / "metr-la.h5", key="df", format="fixed")
    graph = read_published(tmp_path / "metr-la.h5", dataset="metr-la")
    assert graph.n_steps == 38
    assert "1 rows are not 5 minutes after the one before" in str(graph.report)


@pytest.mark.parametrize(("dataset", "start"), [("pems04", "2018-01-01"), ("pems08", "2016-07-01")])
def test_the_cube_of_flows(tmp_path: Path, dataset: Any, start: str) -> None:
    """The first of three features is read, from the day that the literature says; links weigh 1."""
    cube = np.random.default_rng(0).uniform(1, 9, (30, 4, 3)).astype(np.float32)
    np.savez(tmp_path / "PEMS.npz", data=cube)
    (tmp_path / "PEMS.csv").write_text("from,to,cost\n0,1,352.6\n1,2,34.2\n3,0,1.5\n")
    graph = read_published(tmp_path / "PEMS.npz", dataset=dataset, graph=tmp_path / "PEMS.csv")
    np.testing.assert_array_equal(graph.values, cube[..., :1])
    assert graph.time[0].tz_convert(graph.zone) == pd.Timestamp(start, tz="Etc/GMT+8")
    np.testing.assert_array_equal(graph.edge_index, [[0, 1, 3], [1, 2, 0]])
    np.testing.assert_array_equal(graph.edge_weight, [1, 1, 1])
    assert graph.nodes.geometry.isna().all()


def test_ids_of_a_text_file_name_the_columns(tmp_path: Path) -> None:
    """PEMS03's links are between station ids, its readings have none."""
    np.savez(tmp_path / "PEMS03.npz", data=np.ones((30, 2, 1)))
    (tmp_path / "PEMS03.txt").write_text("317842\n318711\n")
    (tmp_path / "PEMS03.csv").write_text("from,to,distance\n318711,317842,0.872\n")
    options: dict[str, Any] = {"dataset": "pems03", "graph": tmp_path / "PEMS03.csv"}
    graph = read_published(tmp_path / "PEMS03.npz", ids=tmp_path / "PEMS03.txt", **options)
    assert list(graph.node_ids) == ["317842", "318711"]
    np.testing.assert_array_equal(graph.edge_index, [[1], [0]])
    (tmp_path / "PEMS03.txt").write_text("317842\n")
    with pytest.raises(DataError, match=r"PEMS03\.txt: names 1 sensors, PEMS03\.npz has 2"):
        read_published(tmp_path / "PEMS03.npz", ids=tmp_path / "PEMS03.txt", **options)


@pytest.mark.data
def test_a_folder_has_graph_and_places(tmp_path: Path, data_dir: Path) -> None:
    """DCRNN's distances become DCRNN's matrix; the table of places lies beside it."""
    folder = data_dir / "pems-bay-graph"
    frame = write_frame(tmp_path / "b.h5", start="2017-01-01", n_nodes=325)
    matrix = np.load(folder / "adj_mx.npz")
    names = dict(zip(frame.columns, matrix["sensor_ids"].astype(str), strict=True))
    frame.rename(columns=names).to_hdf(tmp_path / "pems-bay.h5", key="speed", format="fixed")
    given = read_published(tmp_path / "pems-bay.h5", dataset="pems-bay", graph=folder)
    assert given.n_edges == 2694
    assert given.nodes.geometry.notna().all()
    made = read_published(
        tmp_path / "pems-bay.h5", dataset="pems-bay", graph=folder / "distances.csv.gz"
    )
    np.testing.assert_allclose(made.adjacency().toarray(), given.adjacency().toarray(), atol=1e-6)


WRONG: dict[str, tuple[Any, str]] = {
    "no such file": (None, r"metr-la\.h5: no such file"),
    "another ending": ("metr-la.csv", r"metr-la\.csv: unknown kind of file '.csv'"),
    "no HDF": ("metr-la.h5", r"metr-la\.h5: cannot be read as HDF5"),
    "no npz": ("metr-la.npz", r"metr-la\.npz: .*npz"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_files_are_one_message(case: str, tmp_path: Path) -> None:
    name, message = WRONG[case]
    if name is not None:
        (tmp_path / name).write_bytes(b"no data at all")
    with pytest.raises(DataError, match=message):
        read_published(tmp_path / (name or "metr-la.h5"), dataset="metr-la")


def test_the_file_of_another_data_set_is_refused(tmp_path: Path) -> None:
    """325 sensors are PEMS-BAY, whatever the command says."""
    write_frame(tmp_path / "metr-la.h5", n_nodes=325)
    with pytest.raises(
        DataError, match=r"325 .* metr-la has 34,272 of 207; this looks like pems-b"
    ):
        read_published(tmp_path / "metr-la.h5", dataset="metr-la")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones(3)}, r"PEMS04\.npz: no array `data`"),
        ({"data": np.ones(3)}, r"`data`: has shape \(3,\)"),
        ({"data": np.array([["a"]])}, r"`data`: has shape \(1, 1\) and dtype <U1"),
        ({"data": np.zeros((9, 2, 1))}, "holds no reading other than 0"),
    ],
)
def test_wrong_arrays(arrays: dict, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "PEMS04.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_published(tmp_path / "PEMS04.npz", dataset="pems04")


def test_wrong_names_and_graphs(tmp_path: Path) -> None:
    write_frame(tmp_path / "m.h5")
    with pytest.raises(DataError, match=r"unknown data set 'metrla' \(did you mean 'metr-la'"):
        read_published(tmp_path / "m.h5", dataset="metrla")  # type: ignore[arg-type]
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"folder: the folder has none of .*adj_mx\.pkl"):
        read_published(tmp_path / "m.h5", dataset="metr-la", graph=tmp_path / "folder")
    (tmp_path / "d.csv").write_text("from,to,cost\n700000,700001,far\n")
    with pytest.raises(DataError, match=r"d\.csv, column `cost`: 1 cells are no numbers"):
        read_published(tmp_path / "m.h5", dataset="metr-la", graph=tmp_path / "d.csv")
    (tmp_path / "d.csv").write_text("from,to,cost\n1,2,3\n")
    with pytest.raises(DataError, match=r"d\.csv"):
        read_published(tmp_path / "m.h5", dataset="pems04", graph=tmp_path / "d.csv")


def test_distances_of_other_sensors_are_no_graph(tmp_path: Path) -> None:
    """No edge at all would be measured as if it were the published graph."""
    write_frame(tmp_path / "m.h5")
    options: dict[str, Any] = {"dataset": "metr-la", "graph": tmp_path / "d.csv"}
    (tmp_path / "d.csv").write_text("from,to,cost\n1,2,30\n2,1,40\n700000,1,5\n")
    with pytest.raises(DataError, match=r"d\.csv: none of its 3 links joins .*\['1', '2'\]"):
        read_published(tmp_path / "m.h5", **options)
    (tmp_path / "d.csv").write_text("from,to,cost\n")
    with pytest.raises(DataError, match=r"d\.csv"):
        read_published(tmp_path / "m.h5", **options)
    (tmp_path / "d.csv").write_text("from,to,cost\n700000,700001,30\n700000,8,40\n9,8,5\n")
    graph = read_published(tmp_path / "m.h5", **options)
    assert graph.n_edges == 1
    found = [finding for finding in graph.report.warnings if finding.where == "d.csv"]
    assert [finding.count for finding in found] == [2]
    assert found[0].what == "2 of 3 links name 2 sensors without readings, such as '8'"
