"""Tables of any content as columns that GIS files can hold, and back.

Plain numbers, text and instants stay what they are; everything else (lists, sets, mixed
columns) becomes JSON text. A `Column` per column remembers how to get the original back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

Codec = Literal["plain", "time", "text", "json", "wkt"]

_MAX_EXACT = 2.0**53  # whole numbers beyond this are not exact as float64


@dataclass(frozen=True)
class Column:
    """How one column of a table is kept in a file."""

    name: str  # name in the file
    label: Any  # label in the table; a list stands for a tuple
    dtype: str  # pandas dtype of the table's column
    codec: Codec

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Column:
        """Return the column that `asdict` turned into a JSON object."""
        return cls(**row)


def encode_table(
    table: pd.DataFrame, *, reserved: Iterable[str] = ()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return file-ready arrays by file name, and the JSON rows that `decode_table` needs.

    Parameters
    ----------
    table
        Any table, without its active geometry.
    reserved
        File column names already taken, compared without case.

    Returns
    -------
    tuple[dict[str, Any], list[dict[str, Any]]]
        Arrays of int64, float64, bool, text (None where missing) or UTC instants.
    """
    names = safe_names([str(label) for label in table.columns], reserved=reserved)
    arrays: dict[str, Any] = {}
    columns = []
    for i, (label, name) in enumerate(zip(table.columns, names, strict=True)):
        series = table.iloc[:, i]
        codec, arrays[name] = _encode(series)
        columns.append(asdict(Column(name, _label(label), str(series.dtype), codec)))
    return arrays, columns


def decode_table(
    arrays: Mapping[str, Any], columns: Iterable[Mapping[str, Any]], *, n_rows: int
) -> pd.DataFrame:
    """Return the table that `encode_table` took apart."""
    parsed = [Column.from_json(row) for row in columns]
    index = pd.RangeIndex(n_rows)
    parts = [_decode(pd.Series(arrays[column.name], index=index), column) for column in parsed]
    labels = [tuple(c.label) if isinstance(c.label, list) else c.label for c in parsed]
    if not parts:
        return pd.DataFrame(index=index)
    table = pd.concat(parts, axis=1)
    table.columns = pd.Index(labels) if labels else table.columns
    return table


def safe_names(names: Iterable[str], *, reserved: Iterable[str] = ()) -> list[str]:
    """Return names that are unique without case and hold nothing that breaks SQL or XML."""
    taken = {name.casefold() for name in reserved}
    result = []
    for name in names:
        stem = re.sub(r"[^\w .()/°-]|[\ud800-\udfff]", "_", name).strip()[:60] or "column"
        candidate, n = stem, 2
        while candidate.casefold() in taken:
            candidate, n = f"{stem}_{n}", n + 1
        taken.add(candidate.casefold())
        result.append(candidate)
    return result


def to_json(value: Any) -> str:
    """Return JSON text of nearly anything; what JSON does not know becomes its text."""
    return json.dumps(value, default=_jsonable, allow_nan=True)


def _label(label: Any) -> Any:
    """Return a column label as JSON can hold it."""
    if isinstance(label, tuple):
        return [_label(part) for part in label]
    if isinstance(label, np.integer):
        return int(label)
    return label if isinstance(label, (str, int, float)) or label is None else str(label)


def _encode(series: pd.Series) -> tuple[Codec, Any]:
    """Return how a column is kept, and its values in that form."""
    dtype = series.dtype
    if isinstance(dtype, gpd.array.GeometryDtype):
        return "wkt", _texts(shapely.to_wkt(np.asarray(series), rounding_precision=-1))
    if isinstance(dtype, pd.CategoricalDtype):
        return _encode(series.astype(dtype.categories.dtype))
    if pd.api.types.is_bool_dtype(dtype) and not series.isna().any():
        return "plain", series.to_numpy(dtype=bool)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        times = pd.DatetimeIndex(series)
        utc = times.tz_localize("UTC") if times.tz is None else times.tz_convert("UTC")
        if utc.equals(utc.floor("ms")):  # GeoPackage keeps milliseconds
            return "time", utc.as_unit("ms")
        return "text", _texts([None if pd.isna(t) else t.isoformat() for t in utc])
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        numbers = _numbers(series)
        if numbers is not None:
            return "plain", numbers
    return _encode_objects(series)


def _numbers(series: pd.Series) -> Any:
    """Return int64 or float64 numbers, None if neither holds them exactly."""
    missing = series.isna().any()
    if pd.api.types.is_integer_dtype(series.dtype) and not missing:
        exact = len(series) == 0 or int(series.max()) <= np.iinfo(np.int64).max
        return series.to_numpy(dtype=np.int64) if exact else None
    numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
    if pd.api.types.is_float_dtype(series.dtype):
        return numbers
    return numbers if (np.abs(numbers[np.isfinite(numbers)]) < _MAX_EXACT).all() else None


def _encode_objects(series: pd.Series) -> tuple[Codec, Any]:
    """Return text as it is, everything else as JSON."""
    values = [None if _is_missing(value) else value for value in series.tolist()]
    if all(value is None or (isinstance(value, str) and is_clean(value)) for value in values):
        return "text", _texts(values)
    return "json", _texts([None if value is None else to_json(value) for value in values])


def _decode(series: pd.Series, column: Column) -> pd.Series:
    """Return a column as it was before `_encode`, as far as its dtype can say."""
    if column.codec == "wkt":
        texts = [value if isinstance(value, str) else None for value in series]
        return gpd.GeoSeries(shapely.from_wkt(np.array(texts, dtype=object)), index=series.index)
    if column.codec == "json":
        series = pd.Series(
            [json.loads(v) if isinstance(v, str) else None for v in series],
            index=series.index,
            dtype=object,
        )
    if column.codec == "time" or (column.codec == "text" and "datetime64" in column.dtype):
        return _decode_times(series, column.dtype)
    try:
        return series.astype(column.dtype)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        return series


def _decode_times(series: pd.Series, dtype: str) -> pd.Series:
    """Return instants in the zone and precision of a dtype, from text or UTC instants."""
    known = pd.api.types.is_datetime64_any_dtype(series.dtype)
    times = pd.to_datetime(series, utc=True, format=None if known else "ISO8601")
    unit, _, zone = dtype.removeprefix("datetime64[").rstrip("]").partition(", ")
    index = pd.DatetimeIndex(times)
    index = index.tz_convert(zone) if zone else index.tz_localize(None)
    return pd.Series(index.as_unit(unit), index=series.index)  # type: ignore[arg-type]  # a unit


def _texts(values: Iterable[Any]) -> Any:
    """Return an object array of text and None."""
    rows = list(values)
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


def _is_missing(value: Any) -> bool:
    """Tell whether a scalar is a missing value; containers never are."""
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def is_clean(text: str) -> bool:
    """Tell whether text survives C strings and UTF-8."""
    return "\x00" not in text and not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def _jsonable(value: Any) -> Any:
    """Return a JSON form of what JSON does not know."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
