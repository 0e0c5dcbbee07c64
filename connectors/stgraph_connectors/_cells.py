"""Numbers in the cells of tables."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.report import Report
from stgraph_connectors._tables import Table
from stgraph_connectors._texts import MISSING_TEXT, is_number


def to_numbers(
    column: pd.Series, table: Table, report: Report, *, name: object = None
) -> npt.NDArray[np.float64]:
    """Return a column as numbers, NaN where empty; note words and infinite numbers."""
    name = column.name if name is None else name
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        words = np.zeros(len(column), dtype=bool)
    else:
        text = column.astype("string").str.strip()
        empty = (text.isna() | text.isin(MISSING_TEXT)).to_numpy(dtype=bool)
        dotted = text if table.decimal == "." else text.str.replace(table.decimal, ".", regex=False)
        parsed = pd.to_numeric(dotted.mask(empty), errors="coerce")
        numbers = parsed.to_numpy(dtype=np.float64, na_value=np.nan)
        words = np.isnan(numbers) & ~empty
    if words.any():
        first = int(np.argmax(words))
        report.error(
            table.at(first, name),
            f"{column.iloc[first]!r} is no number ({int(words.sum())} such cell(s))",
            _advice(str(column.iloc[first])),
            count=int(words.sum()),
        )
    with np.errstate(over="ignore"):
        infinite = np.isinf(numbers.astype(np.float32))
    if infinite.any():
        first = int(np.argmax(infinite))
        report.error(
            table.at(first, name),
            f"{numbers[first]} is no finite 32-bit number ({int(infinite.sum())} such cell(s))",
            "leave the cell empty where nothing was measured",
            count=int(infinite.sum()),
        )
    return numbers


def _advice(text: str) -> str:
    """Say what to do about a cell that is no number."""
    text = text.strip()
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", text):
        return "take the thousands separators out, or pass decimal=',' if it is a decimal comma"
    if is_number(text.replace(",", ".", 1)):
        return "it looks like a decimal comma; pass decimal=','"
    if is_number("".join(text.split())):
        return "take the spaces out of the number"
    return "correct the cell, or leave it empty where nothing was measured"
