"""Station ids: one spelling for all of them, and the match between two sources."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import nearest_name
from stgraph.report import Report
from stgraph_connectors._tables import Table

ID_NAMES = (
    "id", "sensor_id", "station_id", "unique_id", "node_id", "stop_id", "detector_id", "site_id",
    "sensorid", "stationid", "stopid", "sensor", "station", "detector", "stop", "sid",
)  # fmt: skip


def guess_column(
    columns: Sequence[Any],
    known: Collection[str],
    *,
    table: Table,
    option: str,
    report: Report,
    required: bool = True,
) -> Any | None:
    """Return the only column with a known name, or note that there is none or several."""
    found = [column for column in columns if str(column).strip().lower() in known]
    if len(found) == 1:
        return found[0]
    names = [str(column) for column in columns]
    if found:
        what = f"several columns could be `{option}`: {[str(name) for name in found]}"
        report.error(table.name, what, f"say which with {option}=")
    elif required:
        what = f"no column has a known name for `{option}`; columns are {shorten(names)}"
        report.error(table.name, what, f"say which with {option}=")
    return None


def require_column(
    column: object, columns: Sequence[Any], *, table: Table, option: str, report: Report
) -> Any | None:
    """Return the column that an option names, or note that it does not exist."""
    for candidate in columns:
        if candidate == column or str(candidate) == str(column):
            return candidate
    names = [str(name) for name in columns]
    what = f"no column {column!r}{nearest_name(column, names)}; columns are {shorten(names)}"
    report.error(table.name, what, f"correct {option}=")
    return None


def shorten(names: Iterable[Any], most: int = 8) -> str:
    """Return the first names as a list that says how many there are."""
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:most])
    return f"[{shown}, ... {len(names)} in all]" if len(names) > most else f"[{shown}]"


def clean_ids(labels: Any) -> npt.NDArray[np.object_]:
    """Return ids as text without blanks: 773869, 773869.0 and " 773869" are one id.

    Leading zeros stay. Missing ids become the empty text.
    """
    series = pd.Series(labels).reset_index(drop=True)
    if pd.api.types.is_float_dtype(series):
        whole = series.isna() | (series % 1 == 0)
        text = series.astype("Int64").astype("string") if whole.all() else series.astype("string")
    else:
        if series.dtype == object:
            series = series.map(lambda x: x.decode(errors="replace") if type(x) is bytes else x)
        text = series.astype("string").str.strip()
    text = text.fillna("")
    # only when all of them are floats: "12.0" beside "12.5" is a name
    filled = text[text != ""]
    if len(filled) and bool(filled.str.fullmatch(r"\d+\.0").all()):
        text = text.str.removesuffix(".0")
    return np.asarray(text.to_numpy(dtype=object))


def code_ids(labels: pd.Series) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.object_]]:
    """Return a code for every label and the distinct ids; code -1 is a missing id."""
    codes, distinct = pd.factorize(labels)
    ids = clean_ids(np.asarray(distinct))
    # spellings of one id share its first code
    merged, names = pd.factorize(ids)
    merged = np.where(ids == "", -1, merged).astype(np.int64)
    row_codes = np.where(codes >= 0, merged[codes] if len(merged) else -1, -1)
    return row_codes.astype(np.int64), np.asarray(names, dtype=object)


def match_ids(
    given: npt.NDArray[np.object_], known: pd.Index[Any], *, name: str, report: Report, thing: str
) -> npt.NDArray[np.int64]:
    """Return the position in `known` of every given id, -1 for strangers.

    Ids that differ only by leading zeros or upper case are matched where nothing else can be
    meant, and reported. `thing` names the given ids in messages.
    """
    positions = np.asarray(known.get_indexer(pd.Index(given)), dtype=np.int64)
    free = np.setdiff1d(np.arange(len(known)), positions)
    strangers = np.flatnonzero((positions < 0) & (given != ""))
    if strangers.size and free.size:
        loose_known = _loose(np.asarray(known[free], dtype=object))
        loose_given = _loose(given[strangers])
        only = loose_known[~loose_known.duplicated(keep=False)]
        place = pd.Series(only.index, index=only.to_numpy())
        found = loose_given.map(place).to_numpy(dtype=np.float64, na_value=np.nan)
        fits = ~loose_given.duplicated(keep=False).to_numpy() & np.isfinite(found)
        positions[strangers[fits]] = free[found[fits].astype(np.int64)]
        if fits.any():
            pairs = [(given[i], known[positions[i]]) for i in strangers[fits][:3]]
            report.warning(
                name,
                f"{int(fits.sum())} {thing} differ from station ids by leading zeros or upper "
                f"case only, such as {pairs}",
                "they were taken as the same",
                count=int(fits.sum()),
            )
    return positions


def _loose(ids: npt.NDArray[np.object_]) -> pd.Series:
    """Return ids in lower case without leading zeros."""
    return pd.Series(ids, dtype="string").str.lower().str.lstrip("0")
