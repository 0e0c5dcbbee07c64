"""Pickles are read as data, never run."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stgraph_connectors._pickles import read_plain_pickle

from stgraph.errors import DataError


def _text(text: bytes) -> bytes:
    """The opcode of a Python 2 `str`."""
    if len(text) < 256:
        return b"U" + bytes([len(text)]) + text
    return b"T" + struct.pack("<i", len(text)) + text


def python2_adjacency(ids: list[str], matrix: np.ndarray) -> bytes:
    """What Python 2 wrote into adj_mx.pkl: [sensor_ids, id_to_index, adj_mx], protocol 2."""
    names = b"]q\x01(" + b"".join(_text(i.encode()) for i in ids) + b"e"
    places = b"}q\x02("
    places += b"".join(_text(i.encode()) + b"K" + bytes([k]) for k, i in enumerate(ids)) + b"u"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85q\x05U\x01b"
        b"q\x06\x87q\x07Rq\x08(K\x01"
        + b"K" + bytes([matrix.shape[0]]) + b"K" + bytes([matrix.shape[1]]) + b"\x86"
        b"cnumpy\ndtype\nq\x09U\x02f4q\x0aK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\x0dNNNJ\xff\xff"
        b"\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89"
        + _text(matrix.astype("<f4").tobytes())
        + b"tq\x0fb"
    )  # fmt: skip
    return b"\x80\x02]q\x00(" + names + places + array + b"e."


def test_reads_what_python_2_wrote(tmp_path: Path) -> None:
    """The original adj_mx.pkl of METR-LA is such a file."""
    matrix = np.array([[1, 0.5], [0, 1]], dtype=np.float32)
    path = tmp_path / "adj_mx.pkl"
    path.write_bytes(python2_adjacency(["773869", "767541"], matrix))
    ids, places, array = read_plain_pickle(path)
    assert ids == ["773869", "767541"]
    assert places == {"773869": 0, "767541": 1}
    np.testing.assert_array_equal(array, matrix)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        np.array([[True, False]]),
        np.array([1.5], dtype=">f4"),
    ],
)
def test_reads_what_this_python_writes(tmp_path: Path, protocol: int, array: np.ndarray) -> None:
    """Arrays of numbers survive every protocol."""
    path = tmp_path / "data.pkl"
    pd.to_pickle([["a", "b"], {"a": 0, "b": np.int64(1)}, array], path, protocol=protocol)
    ids, places, back = read_plain_pickle(path)
    assert (ids, places) == (["a", "b"], {"a": 0, "b": 1})
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        (b"cos\nsystem\n(S'touch pwned'\ntR.", "os.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0btouch pwned\x85R.", "posix.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"(S'touch pwned'\nios\nsystem\n.", "INST os system"),
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"cnumpy\nndarray\n(K\x01tR.", "a call of 'numpy.ndarray'"),
        (b"Pid\n.", "PERSID"),
        (b"\x80\x02cnumpy\ndtype\nU\x02O8\x85R.", "bare name"),
        (b"cnumpy\ndtype\n.", "bare name"),
    ],
)
def test_refuses_everything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: bytes, asked: str
) -> None:
    """A pickle that wants something run is refused with its name, and nothing runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pkl").write_bytes(code)
    with pytest.raises(DataError, match=rf"bad\.pkl: the pickle asks for .*{asked}.*not run"):
        read_plain_pickle(tmp_path / "bad.pkl")
    assert not (tmp_path / "pwned").exists()


def test_refuses_arrays_of_objects(tmp_path: Path) -> None:
    """An object array holds whatever its writer liked."""
    np.array([{"a": 1}], dtype=object).dump(tmp_path / "bad.pkl")
    with pytest.raises(DataError, match="not plain data"):
        read_plain_pickle(tmp_path / "bad.pkl")


def test_every_cut_is_an_error_of_ours(tmp_path: Path) -> None:
    """A download that stopped anywhere gives one clear error."""
    whole = python2_adjacency(["a", "b"], np.eye(2, dtype=np.float32))
    path = tmp_path / "adj_mx.pkl"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"adj_mx\.pkl"):
            read_plain_pickle(path)


def test_random_bytes_never_escape(tmp_path: Path) -> None:
    """Whatever one byte is changed to, there is a result or a DataError."""
    whole = python2_adjacency(["a", "b"], np.eye(2, dtype=np.float32))
    rng = np.random.default_rng(0)
    path = tmp_path / "adj_mx.pkl"
    for _ in range(500):
        raw = bytearray(whole)
        raw[rng.integers(len(raw))] = rng.integers(256)
        path.write_bytes(bytes(raw))
        try:
            read_plain_pickle(path)
        except DataError as error:
            assert "adj_mx.pkl" in str(error)  # noqa: PT017
