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
_NOTHING = {"nan", "None", "<NA>", "[]"}  # missing values that were written as text
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


def _gather(elements: Elements, key: str, declared: Key) -> tuple[IntArray, list[str]]:
    """Return the positions and texts of a key, its default where an element has none."""
    chunks = elements.texts.get(key, [])
    at = np.concatenate([np.zeros(0, np.int64), *(chunk[0] for chunk in chunks)])
    texts = chunks[0][1] if len(chunks) == 1 else [text for chunk in chunks for text in chunk[1]]
    if declared.default is not None:
        rest = np.setdiff1d(np.arange(elements.count), at)
        at, texts = np.concatenate([at, rest]), [*texts, *[declared.default] * len(rest)]
    return at, texts


def _to_column(
    declared: Key, at: IntArray, texts: list[str], count: int, where: str, report: Report
) -> Any:
    """Return the texts of a key as a column."""
    name = declared.name.lower()
    if name == "geometry":
        return _scatter(read_wkt(texts, where, report), at, count, None)
    if declared.kind in _KINDS_OF_NUMBER or name in _NUMBERS:
        return _scatter(_to_numbers(texts, where, report), at, count, np.nan)
    distinct = set(texts)
    if declared.kind == "boolean" or distinct <= {"True", "False"}:
        values = np.array([_TRUTH.get(text.strip()) for text in texts], dtype=object)
    elif distinct & _NOTHING or any(text[:1] == "[" for text in distinct):
        plain = {text: None if text in _NOTHING else join_list(text) for text in distinct}
        values = np.array([plain[text] for text in texts], dtype=object)
    else:
        values = np.array(texts, dtype=object)
    column = _scatter(values, at, count, None)
    known = {type(value) for value in set(column.tolist())} if len(distinct) < 5 else {str}
    return column.astype(bool) if known == {bool} else column


def _scatter(values: Any, at: IntArray, count: int, missing: Any) -> Any:
    """Return values at their positions in a column."""
    column = np.full(count, missing, dtype=values.dtype)
    column[at] = values
    return column


def _to_numbers(texts: list[str], where: str, report: Report) -> npt.NDArray[np.float64]:
    """Return texts as numbers; what is none is reported and missing."""
    values = np.array(texts, dtype=object)
    try:
        return np.asarray(values.astype(np.float64))
    except ValueError:
        numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(float)
        wrong = np.flatnonzero(np.isnan(numbers) & (values != ""))
        if len(wrong):
            what = f"{len(wrong)} values are no numbers, such as {texts[wrong[0]]!r}"
            report.warning(where, what, "taken as missing", count=len(wrong))
        return np.asarray(numbers)


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


def read_wkt(texts: list[str], where: str, report: Report) -> Objects:
    """Return geometries; None, and a finding, where a text is none."""
    lines = _read_lines(texts)
    if lines is not None:
        return lines
    shapes = np.asarray(shapely.from_wkt(texts, on_invalid="ignore"), dtype=object)
    wrong = np.flatnonzero(shapely.is_missing(shapes))
    if len(wrong):
        first = texts[wrong[0]][:60]
        what = f"{len(wrong)} geometries cannot be read, such as {first!r}"
        report.warning(where, what, "straight lines are taken", count=len(wrong))
    return shapes


def _read_lines(texts: list[str]) -> Objects | None:
    """Return plain LINESTRINGs, ten times faster than GEOS reads them; None if one is not plain."""
    if not all(text.startswith(_LINE) and text.endswith(_LINE_END) for text in texts) or not texts:
        return None
    inner = pa.array([text[len(_LINE) : -len(_LINE_END)] for text in texts], pa.large_string())
    points = pc.count_substring(inner, ", ").to_numpy() + 1
    words = pc.split_pattern(pc.replace_substring(inner, ", ", " "), " ")
    if (pc.list_value_length(words).to_numpy() != 2 * points).any() or (points < 2).any():
        return None
    try:
        numbers = pc.cast(words.flatten(), pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    owner = np.repeat(np.arange(len(texts)), points)
    return np.asarray(shapely.linestrings(numbers.reshape(-1, 2), indices=owner), dtype=object)
