"""Read delimited text files: encoding, separator and header are found out, damage is noted."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.report import Report

MISSING_TEXT = (
    "",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "<NA>",
    "NaN",
    "nan",
    "NULL",
    "null",
    "None",
    "none",
)

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_MAGIC = {
    b"PK\x03\x04": ("an Excel workbook or a zip archive", "save the sheet as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "save the sheet as CSV"),
    b"PAR1": ("a Parquet file", "give it the ending .parquet"),
    b"\x89HDF": ("an HDF5 file", "give it the ending .h5"),
    b"SQLite format 3": ("a GeoPackage or SQLite database", "give it the ending .gpkg"),
    b"\x1f\x8b": ("compressed by gzip", "give it the ending .csv.gz"),
    b"<!DOCTYPE": ("a web page", "download the file itself"),
    b"<html": ("a web page", "download the file itself"),
    b"version https://git-lfs": ("a pointer of git-lfs, not the data", "run: git lfs pull"),
}


@dataclass(frozen=True)
class Lines:
    """The rows of a text file and the lines they stand in."""

    frame: pd.DataFrame
    numbers: npt.NDArray[np.int64]  # line of each row, from 1
    headless: bool  # the first line is data


def read_lines(
    path: Path, report: Report, *, text: Collection[str] | None, decimal: str
) -> Lines | None:
    """Read a delimited text file: separator, encoding and header are found out.

    Parameters
    ----------
    path
        The file; the ending ``.gz`` is unpacked.
    report
        Takes the findings; None is returned when the file cannot be used.
    text
        Lower-case names of the columns to keep as text; None keeps all as text.
    decimal
        Decimal sign of the other columns.
    """
    raw = _read_bytes(path, report)
    if raw is None:
        return None
    separator = _sniff_separator(raw, path.name, report)
    head = raw.split(b"\n", 1)[0].decode().replace("\r", " ")
    fields = [field.strip() for field in next(csv.reader([head], delimiter=separator))]
    headless = len(fields) > 1 and all(is_number(field) for field in fields)
    if headless:
        names = [f"column {i + 1}" for i in range(len(fields))]
    else:
        names = [field or f"column {i + 1}" for i, field in enumerate(fields)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        report.error(f"{path.name}, line 1", f"columns appear twice: {twice[:5]}", "rename them")
        return None
    if not _check_lines(raw, separator, len(names), path.name, report):
        return None
    types = (
        dict.fromkeys(names, "str")
        if text is None  # few distinct ids and times: a category needs a tenth of the memory
        else {name: "category" for name in names if name.lower() in text}
    )
    frame = _parse(raw, separator, names, types, headless, decimal, path.name, report)
    if frame is None:
        return None
    # a blank line is no row; a table of one column cannot tell it from a missing value
    blank = np.zeros(len(frame), dtype=bool)
    if len(names) > 1:
        blank = np.array(frame.iloc[:, 0].isin(["", np.nan]), dtype=bool)
        candidates = frame[blank].astype("string").fillna("")
        blank[blank] = (candidates == "").all(axis=1).to_numpy()
    lines = np.flatnonzero(~blank) + (1 if headless else 2)
    if len(lines) == 0:
        report.error(path.name, "there is a header but no rows", "check the download")
        return None
    frame = frame[~blank].reset_index(drop=True) if blank.any() else frame
    return Lines(frame, lines, headless)


def _read_bytes(path: Path, report: Report) -> bytes | None:
    """Return the file as UTF-8 without mark, unpacked, or note why it is no text table."""
    raw = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            what = f"cannot be unpacked, it is damaged or cut off ({error})"
            report.error(path.name, what, "copy or download it again")
            return None
    for magic, (what, todo) in _MAGIC.items():
        if raw.startswith(magic):
            report.error(path.name, f"is {what}", todo)
            return None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raw = raw.decode("utf-16", errors="replace").encode()
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if not raw or raw.isspace():
        report.error(path.name, "the file is empty", "write it again, or check the download")
        return None
    if b"\0" in raw:
        what = f"byte {raw.index(0)} is zero, so it is no text"
        report.error(path.name, what, "save the table as CSV")
        return None
    # lines end in \n, \r\n, or \r alone as on old Macs
    raw = raw.replace(b"\r\n", b"\n") if b"\n" in raw else raw.replace(b"\r", b"\n")
    return _to_utf8(raw, path.name, report)


def _to_utf8(raw: bytes, name: str, report: Report) -> bytes:
    """Return UTF-8, reading anything else as Windows-1252."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        report.warning(
            f"{name}, line {line}",
            f"byte {raw[error.start : error.start + 1]!r} is not UTF-8",
            "the file was read as Windows-1252; save it as UTF-8 if letters look wrong",
        )
        return raw.decode("cp1252", errors="replace").encode()
    return raw


def _sniff_separator(raw: bytes, name: str, report: Report) -> str:
    """Return the separator that the first line uses most."""
    head = raw.split(b"\n", 1)[0].decode()
    separator = max(_SEPARATORS, key=head.count)
    if head.count(separator) == 0:
        separator = ","
    if separator != ",":
        report.info(f"{name}, line 1", f"columns are separated by {_SEPARATORS[separator]}s")
    return separator


def _check_lines(raw: bytes, separator: str, n_fields: int, name: str, report: Report) -> bool:
    """Note lines with another number of fields than the first one."""
    try:
        counts = _count_fields(raw, separator, n_fields)
    except csv.Error as error:
        report.error(name, f"cannot be read as a table ({error})", "check the quotes")
        return False
    odd = np.flatnonzero((counts != n_fields) & (counts > 0))
    if odd.size == 0:
        return True
    line = int(odd[0]) + 1
    last = " (the last line: the file looks cut off)" if line == len(counts) else ""
    report.error(
        f"{name}, line {line}",
        f"has {int(counts[odd[0]])} fields where line 1 has {n_fields}{last}; "
        f"{odd.size} such line(s)",
        "repair the line, or quote fields that hold the separator",
        count=int(odd.size),
    )
    return False


def _count_fields(raw: bytes, separator: str, n_fields: int) -> npt.NDArray[np.int64]:
    """Return the number of fields of every line, 0 for blank lines."""
    if b'"' in raw:
        rows = csv.reader(io.StringIO(raw.decode()), delimiter=separator)
        return np.fromiter(map(len, rows), dtype=np.int64)
    data = np.frombuffer(raw if raw.endswith(b"\n") else raw + b"\n", dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    marks = np.flatnonzero(data == ord(separator))
    if n_fields > 1 and len(marks) == len(ends) * (n_fields - 1):
        # the usual file: every line has its share of separators, and this is the fast check
        block = marks.reshape(len(ends), n_fields - 1)
        if (block[:, -1] < ends).all() and (block[1:, 0] > ends[:-1]).all():
            return np.full(len(ends), n_fields, dtype=np.int64)
    counts = np.diff(np.searchsorted(marks, ends), prepend=0) + 1
    counts[np.diff(ends, prepend=-1) == 1] = 0
    return counts


def _parse(
    raw: bytes,
    separator: str,
    names: list[str],
    types: Mapping[Any, Any],
    headless: bool,
    decimal: str,
    name: str,
    report: Report,
) -> pd.DataFrame | None:
    """Parse the lines; in text columns ``NA`` is a word like any other."""
    others = [column for column in names if column not in types]
    try:
        return pd.read_csv(
            io.BytesIO(raw),
            sep=separator,
            names=names,
            header=None,
            skiprows=0 if headless else 1,
            dtype=dict(types),
            na_values={column: list(MISSING_TEXT) for column in others},
            keep_default_na=False,
            index_col=False,
            skip_blank_lines=False,
            skipinitialspace=True,
            low_memory=False,
            decimal=decimal,
        )
    except pd.errors.EmptyDataError:
        report.error(name, "there is a header but no rows", "check the download")
    except pd.errors.ParserError as error:
        report.error(name, f"cannot be read as a table ({error})", "check quotes and separators")
    return None


def is_number(text: str) -> bool:
    """Tell whether a field is a number, so that it is no column name."""
    try:
        float(text)
    except ValueError:
        return False
    return text.lower() not in ("nan", "inf")
