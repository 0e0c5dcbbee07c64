"""Turn the texts of a GraphML document into columns of numbers, lists and lines."""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from stgraph.graph import IntArray
from stgraph.report import Report
from stgraph_connectors.roads._graphml_document import Document, Key
from stgraph_connectors.roads._graphml_flat import Elements

Objects = npt.NDArray[np.object_]

# what OSMnx writes as text although it is a number
_NUMBERS = {
    "x", "y", "lon", "lat", "longitude", "latitude", "length", "speed_kph", "travel_time",
    "bearing", "grade", "grade_abs", "elevation", "street_count",
}  # fmt: skip
_KINDS_OF_NUMBER = {"int", "long", "float", "double"}
_TRUTH = {"True": True, "False": False, "true": True, "false": False, "1": True, "0": False}
_NOTHING = dict.fromkeys(["nan", "None", "<NA>", "[]"])  # missing, but written as text
_PLAIN_LIST = re.compile(r"\['([^'\\]*(?:', '[^'\\]*)*)'\]|\[([^'\"\\\[\]{}()]*)\]")
_LINE, _LINE_END = "LINESTRING (", ")"


def to_columns(
    document: Document, elements: Elements, scope: str, *, name: str, report: Report
) -> dict[str, Any]:
    """Return the attributes of all nodes or all edges as columns of `count` values.

    Numbers become floats (NaN where missing), True and False booleans, lists texts joined by
    semicolons, geometries shapely objects; everything else stays text, None where missing.
    """
    columns: dict[str, Any] = {}
    for key, declared in document.keys.items():
        if declared.scope not in (scope, "all"):
            continue
        at, texts = _gather(elements, key, declared)
        if not len(at):
            continue
        column = declared.name if declared.name not in columns else f"{declared.name}_{key}"
        where = f"{name}, attribute `{declared.name}`"
        columns[column] = _to_column(declared, at, texts, elements.count, where, report)
    unknown = sorted(set(elements.texts) - set(document.keys))
    if unknown:
        what = f"{scope}s have data for keys that the file does not declare: {unknown[:5]}"
        report.warning(name, what, "they are left out", count=len(unknown))
    return columns


def _gather(elements: Elements, key: str, declared: Key) -> tuple[IntArray, Any]:
    """Return the positions and texts of a key, its default where an element has none."""
    chunks = elements.texts.get(key, [])
    at = np.concatenate([np.zeros(0, np.int64), *(chunk[0] for chunk in chunks)])
    parts = [chunk[1] for chunk in chunks]
    if declared.default is not None:
        rest = np.setdiff1d(np.arange(elements.count), at)
        at = np.concatenate([at, rest])
        parts.append(pa.array([declared.default] * len(rest), pa.large_string()))
    texts = parts[0] if len(parts) == 1 else pa.concat_arrays(parts) if parts else None
    return at, texts


def _to_column(
    declared: Key, at: IntArray, texts: Any, count: int, where: str, report: Report
) -> Any:
    """Return the texts of a key as a column."""
    name = declared.name.lower()
    if name == "geometry":
        return _scatter(read_wkt(texts, where, report), at, count, None)
    if declared.kind in _KINDS_OF_NUMBER or name in _NUMBERS:
        return _scatter(_to_numbers(texts, where, report), at, count, np.nan)
    coded = texts.dictionary_encode()
    distinct = coded.dictionary.to_pylist()
    if declared.kind == "boolean" or set(distinct) <= {"True", "False"}:
        known = [_TRUTH.get(text.strip()) for text in distinct]
        if None not in known and len(set(at.tolist())) == count:
            column = np.zeros(count, dtype=bool)
            column[at] = np.array(known, dtype=bool)[coded.indices.to_numpy()]
            return column
        values = np.array(known, dtype=object)
    else:
        values = np.array([_NOTHING.get(t, join_list(t)) for t in distinct], dtype=object)
    return _scatter(values[coded.indices.to_numpy()], at, count, None)


def _scatter(values: Any, at: IntArray, count: int, missing: Any) -> Any:
    """Return values at their positions in a column."""
    column = np.full(count, missing, dtype=values.dtype)
    column[at] = values
    return column


def _to_numbers(texts: Any, where: str, report: Report) -> npt.NDArray[np.float64]:
    """Return texts as numbers; what is none is reported and missing."""
    try:
        return np.asarray(pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        values = texts.to_pylist()
    numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(float)
    wrong = [text for text, n in zip(values, numbers, strict=True) if np.isnan(n) and _says(text)]
    if wrong:
        what = f"{len(wrong)} values are no numbers, such as {wrong[0]!r}"
        report.warning(where, what, "taken as missing", count=len(wrong))
    return np.asarray(numbers)


def _says(text: str) -> bool:
    """Tell whether a text that is no number says anything."""
    return text.strip().lower() not in ("", "nan", "none", "<na>")


def join_list(text: str) -> str:
    """Return a list that is written as Python writes it as values joined by semicolons.

    Each value once, in order of first appearance. Text that is no list stays as it is.
    """
    if not (text.startswith("[") and text.endswith("]")):
        return text
    plain = _PLAIN_LIST.fullmatch(text)
    if plain:
        values = plain[1].split("', '") if plain[1] is not None else plain[2].split(", ")
        return ";".join(dict.fromkeys(values))
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return ";".join(dict.fromkeys(map(str, found)))


def read_wkt(texts: Any, where: str, report: Report) -> Objects:
    """Return geometries; None, and a finding, where a text is none."""
    lines = _read_lines(texts)
    if lines is not None:
        return lines
    listed = texts.to_pylist()
    shapes = np.asarray(shapely.from_wkt(listed, on_invalid="ignore"), dtype=object)
    wrong = np.flatnonzero(shapely.is_missing(shapes))
    if len(wrong):
        first = listed[wrong[0]][:60]
        what = f"{len(wrong)} geometries cannot be read, such as {first!r}"
        report.warning(where, what, "straight lines are taken", count=len(wrong))
    return shapes


def _read_lines(texts: Any) -> Objects | None:
    """Return plain LINESTRINGs, five times faster than GEOS reads them; None if one is not."""
    plain = pc.and_(pc.starts_with(texts, _LINE), pc.ends_with(texts, _LINE_END))
    points = pc.count_substring(texts, ", ").to_numpy() + 1
    blanks = pc.count_substring(texts, " ").to_numpy()
    if not pc.all(plain).as_py() or (blanks != 2 * points).any() or (points < 2).any():
        return None
    # all lines as one text of numbers
    whole = "".join(texts.to_pylist())
    inner = whole[len(_LINE) : -len(_LINE_END)].replace(_LINE_END + _LINE, " ").replace(", ", " ")
    try:
        words = pc.split_pattern(pa.array([inner], pa.large_string()), " ").flatten()
        numbers = pc.cast(words, pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    if len(numbers) != 2 * points.sum():
        return None
    owner = np.repeat(np.arange(len(points)), points)
    return np.asarray(shapely.linestrings(numbers.reshape(-1, 2), indices=owner), dtype=object)
