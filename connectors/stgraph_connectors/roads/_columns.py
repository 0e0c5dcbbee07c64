"""What the columns of a layer of roads mean: direction, speed, lanes, type and name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import shown
from stgraph.graph import IntArray
from stgraph.neighbours._places import Float64Array
from stgraph.report import Report
from stgraph_connectors._ids import require_column, shorten
from stgraph_connectors._tables import Table
from stgraph_connectors.roads._speeds import FASTEST_KMH, parse_each, parse_speed
from stgraph_connectors.roads._units import KMH

BOTH, FORWARD, BACKWARD, CLOSED = 0, 1, -1, 2
WORDS = {"both": BOTH, "forward": FORWARD, "backward": BACKWARD, "closed": CLOSED}

# in order of preference
_NAMES: dict[str, tuple[str, ...]] = {
    "oneway_column": ("oneway", "one_way", "one-way", "is_oneway", "direction", "traffic_direction",
        "travel_direction", "direction_of_travel", "dir_travel", "dir_flag", "dir"),
    "speed_column": ("maxspeed", "max_speed", "maxspeed_kmh", "speed_limit", "speedlimit",
        "speed_limit_kmh", "speed_limit_mph", "speed_kmh", "speed_kph", "speed_mph", "free_speed",
        "freespeed", "free_flow_speed", "ffs", "vmax", "limit", "speed", "speed_ab"),
    "lanes_column": ("lanes", "n_lanes", "num_lanes", "nlanes", "lane_count", "lanes_ab"),
    "class_column": ("highway", "fclass", "road_class", "roadclass", "road_type", "roadtype",
        "functional_class", "func_class", "frc", "facility_type", "link_type", "class", "type"),
    "name_column": ("name", "street_name", "road_name", "street", "roadname", "streetname",
        "fullname", "st_name"),
}  # fmt: skip
_SURE = ("oneway", "one_way", "one-way", "is_oneway")  # others may mean something else
_MEANING = {
    "both": BOTH, "b": BOTH, "no": BOTH, "n": BOTH, "false": BOTH, "0": BOTH, "": BOTH,
    "ftf": BOTH, "two-way": BOTH, "bidirectional": BOTH,
    "yes": FORWARD, "y": FORWARD, "true": FORWARD, "1": FORWARD, "forward": FORWARD, "ft": FORWARD,
    "one-way": FORWARD, "with": FORWARD, "reversible": BOTH, "alternating": BOTH,
    "-1": BACKWARD, "reverse": BACKWARD, "backward": BACKWARD, "tf": BACKWARD, "against": BACKWARD,
}  # fmt: skip
_AHEAD = re.compile(r"(?<![a-z])ab(?=_|$)")  # speed_ab, ab_lanes


def find_column(given: str | None, option: str, table: Table, report: Report) -> Any | None:
    """Return the column that an option names, or the first one with a known name."""
    columns = [name for name in table.frame.columns if name != "geometry"]
    if given is not None:
        return require_column(given, columns, table=table, option=option, report=report)
    lower = {str(name).strip().lower(): name for name in reversed(columns)}
    return next((lower[name] for name in _NAMES.get(option, ()) if name in lower), None)


def find_back(column: Any | None, columns: Iterable[Any]) -> Any | None:
    """Return the column for the other direction of one that ends or begins with AB, if any."""
    back, found = _AHEAD.subn("ba", str(column).lower())
    return next((c for c in columns if found == 1 and str(c).lower() == back), None)


def read_directions(
    table: Table,
    fixed: str,
    column: str | None,
    values: Mapping[str, str] | None,
    report: Report,
) -> tuple[npt.NDArray[np.int64] | None, Any | None]:
    """Return the direction of every row as `BOTH` ... `CLOSED`, and the column it is from.

    None means that the layer does not say.
    """
    if fixed != "guess":
        return np.full(len(table.frame), WORDS[fixed], dtype=np.int64), None
    found = find_column(column, "oneway_column", table, report)
    if found is None:
        return None, None
    texts = table.frame[found].astype("string").fillna("").str.strip().str.lower()
    texts = texts.str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    distinct = set(texts)
    meaning = _meaning(distinct, values, report)
    ambiguous = distinct & {"t", "f"}
    if ambiguous and not values:
        meaning.update(_meaning_of_letters(distinct))
    unknown = sorted(distinct - set(meaning))
    if unknown:
        sure = column is not None or str(found).strip().lower() in _SURE
        what = f"the values {shorten(unknown)} say no direction"
        if sure:
            todo = "say what they mean: oneway_values={'...': 'forward'}, or oneway='both'"
            report.error(table.column(found), what, todo)
        else:
            todo = "the column was not used; oneway_column= and oneway_values= use it"
            report.info(table.column(found), what, todo)
        return None, None
    return texts.map(meaning).to_numpy(dtype=np.int64), found


def _meaning(
    distinct: set[str], values: Mapping[str, str] | None, report: Report
) -> dict[str, int]:
    """Return what the values of a one-way column mean; "t" and "f" are left open."""
    meaning = dict(_MEANING)
    if distinct & {"ft", "tf"}:
        meaning["n"] = CLOSED  # of a set of four: FT, TF, N (closed both ways), blank (open)
    for value, word in (values or {}).items():
        if word not in WORDS:
            report.error("`oneway_values`", f"{value!r} is {word!r}", f"use one of {list(WORDS)}")
        else:
            meaning[str(value).strip().lower()] = WORDS[word]
    return meaning


def _meaning_of_letters(distinct: set[str]) -> dict[str, int]:
    """Return what T and F mean: from and to beside B, true and false beside nothing else."""
    if "b" in distinct:  # Geofabrik, HERE: F along the line, T against it
        return {"f": FORWARD, "t": BACKWARD}
    return {}  # true and false, or to and from: only the user can know


def has_twins(source: IntArray, target: IntArray, lines: npt.NDArray[np.object_]) -> bool:
    """Tell whether most lines have another one the other way: each is one direction then."""
    pairs = pd.MultiIndex.from_arrays([source, target])
    back = pd.MultiIndex.from_arrays([target, source])
    return bool(len(lines)) and float(back.isin(pairs).mean()) > 0.5


def read_speeds(
    table: Table, column: str | None, unit: str | None, report: Report
) -> tuple[Float64Array, Any | None]:
    """Return the speed of every row in km/h, NaN where it says none, and the column."""
    found = find_column(column, "speed_column", table, report)
    speeds = np.full(len(table.frame), np.nan)
    if found is None or pd.api.types.is_bool_dtype(table.frame[found].dtype):
        return speeds, None
    raw = table.frame[found]
    factor = KMH[unit or _unit_of(str(found)) or "km/h"]
    numbers = pd.to_numeric(raw, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    speeds = np.where(numbers > 0, numbers * factor, np.nan)
    if not pd.api.types.is_numeric_dtype(raw.dtype):
        rest = np.isnan(numbers) & raw.notna().to_numpy()
        speeds[rest] = parse_each(raw[rest], parse_speed)
    fast = speeds > FASTEST_KMH
    if fast.any():
        first, count = int(np.argmax(fast)), int(fast.sum())
        what = f"{count} speeds are above {FASTEST_KMH:g} km/h, such as {shown(raw.iloc[first])}"
        if column is not None and count > len(speeds) / 2:
            todo = f"say their unit with speed_unit=, one of {list(KMH)}"
            report.error(table.at(first, found), what, todo, count=count)
        else:
            report.warning(table.at(first, found), what, "taken as unknown", count=count)
        speeds[fast] = np.nan
    return speeds, None if np.isnan(speeds).all() and column is None else found


def _unit_of(name: str) -> str | None:
    """Return the unit that the name of a column ends with."""
    lower = name.lower()
    endings = {"kmh": "km/h", "kph": "km/h", "mph": "mph", "mps": "m/s", "m_s": "m/s"}
    return next((unit for end, unit in endings.items() if lower.endswith(end)), None)


def keep_names(frame: pd.DataFrame, ours: Sequence[str]) -> pd.DataFrame:
    """Return the columns of a source, those with a name of ours renamed to ``..._source``."""
    names = {}
    for name in ours:
        if name in frame:
            names[name] = f"{name}_source"
            while names[name] in frame:  # read, written and read again
                names[name] += "_source"
    return frame.rename(columns=names)
