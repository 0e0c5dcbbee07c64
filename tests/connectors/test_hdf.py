"""The HDF files of METR-LA and PEMS-BAY are read without PyTables and without unpickling."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from stgraph_connectors._hdf import read_hdf

from stgraph.report import Report

IDS = ["773869", "767541", "767542"]
TIMES = pd.date_range("2012-03-01", periods=4, freq="5min")


def write_metr_la(
    path: Path, values: np.ndarray, *, key: str = "df", ids: list | None = None
) -> None:
    """Write the layout of metr-la.h5: pandas' fixed format as Python 2 wrote it."""
    labels = np.array(IDS if ids is None else ids)
    labels = labels.astype("S") if labels.dtype.kind == "U" else labels
    kind = b"string" if labels.dtype.kind == "S" else b"integer"
    with h5py.File(path, "a") as file:
        group = file.create_group(key)
        group.attrs["pandas_type"] = np.bytes_(b"frame")
        group.attrs["encoding"] = np.bytes_(b"N.")  # a pickled None
        for name in ("axis0", "block0_items"):
            axis = group.create_dataset(name, data=labels)
            axis.attrs["kind"] = np.bytes_(kind)
            axis.attrs["name"] = np.bytes_(b"N.")
            axis.attrs["transposed"] = np.uint8(1)
        stamps = TIMES.as_unit("ns").asi8[: len(values)]
        time = group.create_dataset("axis1", data=stamps)
        time.attrs["kind"] = np.bytes_(b"datetime64")
        time.attrs["freq"] = np.bytes_(b"cpandas.tseries.offsets\nMinute\np0\n(tRp1\n.")  # not run
        block = group.create_dataset("block0_values", data=values)
        block.attrs["transposed"] = np.uint8(1)


@pytest.mark.parametrize(("key", "ids"), [("df", None), ("speed", [400001, 400017, 400030])])
def test_reads_the_original_layout(tmp_path: Path, key: str, ids: list | None) -> None:
    """METR-LA has the key `df` and ids of text, PEMS-BAY `speed` and whole numbers."""
    values = np.arange(12.0).reshape(4, 3)
    write_metr_la(tmp_path / "metr-la.h5", values, key=key, ids=ids)
    report = Report()
    frame = read_hdf(tmp_path / "metr-la.h5", report, key=None)
    assert frame is not None
    assert len(report) == 0
    assert list(frame.columns) == [str(i) for i in ids or IDS]
    assert list(frame.index) == list(TIMES)
    np.testing.assert_array_equal(frame.to_numpy(), values)


@pytest.mark.parametrize(
    ("name", "zone"),
    [("pandas_fixed.h5", None), ("pandas_fixed_zone.h5", "America/Los_Angeles")],
)
def test_reads_what_pandas_writes(name: str, zone: str | None) -> None:
    """Files of to_hdf(key="df") in pandas 3.1 with PyTables 3.11: two dtypes, a gap, a zone."""
    frame = pd.DataFrame({"a": [1, 2, 3, 4], "b": [0.5, np.nan, 2.5, 3.5], "c": 1.0}, index=TIMES)
    back = read_hdf(Path(__file__).parent / "files" / name, Report(), key=None)
    pd.testing.assert_frame_equal(
        back,
        frame.tz_localize(zone),
        check_dtype=False,
        check_freq=False,
        check_column_type=False,
        check_index_type=False,
    )


def test_several_tables_need_a_key(tmp_path: Path) -> None:
    """Which table is meant is not guessed."""
    path = tmp_path / "two.h5"
    for key in ("speed", "flow"):
        write_metr_la(path, np.zeros((4, 3)), key=key)
    report = Report()
    assert read_hdf(path, report, key=None) is None
    assert "holds 2 tables; name one with key=: ['flow', 'speed']" in str(report)
    assert read_hdf(path, Report(), key="speed") is not None
    assert read_hdf(path, report, key="sped") is None
    assert "no table 'sped' (did you mean 'speed'?)" in str(report)


def _cut(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def _change(name: str, data: object, kind: bytes | None = None):
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file["df"][name]
            item = file["df"].create_dataset(name, data=data)
            if kind is not None:
                item.attrs["kind"] = np.bytes_(kind)

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut, r"metr-la\.h5: cannot be read as HDF5, it is damaged or cut off"),
        (lambda path: path.write_bytes(b"time,a\n"), "cannot be read as HDF5"),
        (_change("axis1", [1.0, 2, 3, 4], b"float"), "axis1 holds float, not times"),
        (_change("axis1", [1, 2, 3, 4], b"integer"), "axis1 holds integer, not times"),
        (_change("block0_values", np.array([[b"x"] * 3] * 4)), "block0_values holds no numbers"),
        (_change("block0_values", np.zeros((2, 2))), r"has shape \(2, 2\), \(4, 3\) expected"),
        (_change("block0_items", [b"x", b"y", b"z"], b"string"), "the file is inconsistent"),
        (_change("axis0", [b"x"], b"string"), "the file is inconsistent"),
    ],
)
def test_damaged_files(tmp_path: Path, spoil, message: str) -> None:
    """Each damage is one finding."""
    path = tmp_path / "metr-la.h5"
    write_metr_la(path, np.zeros((4, 3)))
    spoil(path)
    report = Report()
    assert read_hdf(path, report, key=None) is None
    assert len(report.errors) == 1
    assert re.search(message, str(report)), report


def test_table_layout_is_named(tmp_path: Path) -> None:
    """The other layout of pandas keeps its names in pickles; it is refused with the way out."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("df").attrs["pandas_type"] = np.bytes_(b"frame_table")
    report = Report()
    assert read_hdf(tmp_path / "a.h5", report, key=None) is None
    assert "`table` layout" in str(report)
    assert "to_hdf(..., format='fixed')" in str(report)
