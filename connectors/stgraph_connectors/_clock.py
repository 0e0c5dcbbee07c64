"""Times of readings: any spelling, any mix of zones, to microseconds since 1970 UTC."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import nearest_name
from stgraph.report import Report
from stgraph_connectors._tables import Table
from stgraph_connectors._texts import MISSING_TEXT

Int64Array = npt.NDArray[np.int64]
NO_TIME: int = int(np.iinfo(np.int64).min)

_DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
# tried in this order when times are not ISO 8601; two that both fit are an error
_FORMATS = tuple(
    f"{day}{clock}"
    for day in ("%Y-%m-%d", "%Y/%m/%d", *_DAYS)
    for clock in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
)
_EPOCH_DIGITS = {9: "s", 10: "s", 13: "ms", 16: "us", 19: "ns"}
_COMPACT_DIGITS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_AWARE = r"(?i)[T\s]\d{1,2}(?::?\d{2}){0,2}(?:[.,]\d+)?\s*(?:Z|UTC|[+-]\d{2}(?::?\d{2})?)$"


def read_times(
    column: Any,
    *,
    groups: Int64Array | None,
    table: Table,
    name: object,
    zone: str,
    time_format: str | None,
    report: Report,
) -> Int64Array:
    """Return microseconds since 1970 UTC, `NO_TIME` where a row has no usable time.

    Parameters
    ----------
    column
        R times in any form: instants, text, or numbers.
    groups
        (R,) station of each row, for the hour that a clock change repeats. None is one group.
    table, name
        Where the times stand, for messages.
    zone
        Zone of wall-clock times.
    time_format
        Format of text times, as in `strptime`. None finds it out.
    report
        Takes the findings.
    """
    series = pd.Series(column).reset_index(drop=True)
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return _to_us(pd.DatetimeIndex(series).tz_convert("UTC").tz_localize(None))
    if pd.api.types.is_datetime64_dtype(series):
        wall = _to_us(pd.DatetimeIndex(series))
        aware = np.zeros(len(wall), dtype=bool)
    else:
        codes, distinct = pd.factorize(series)
        text = _as_text(pd.Series(np.asarray(distinct)))
        us, is_aware = _parse(text, table, name, time_format, report)
        _note_unreadable(series, codes, text, us, table, name, report)
        wall = np.where(codes >= 0, us[codes] if len(us) else NO_TIME, NO_TIME)
        aware = (codes >= 0) & (is_aware[codes] if len(us) else False)
    naive = ~aware & (wall != NO_TIME)
    if aware.any() and naive.any():
        first = int(np.argmax(naive))
        report.warning(
            table.at(first, name),
            f"{int(naive.sum())} times have no zone while {int(aware.sum())} have one",
            f"those without were taken as wall clock of {zone}",
            count=int(naive.sum()),
        )
    if zone != "UTC" and naive.any():
        rows = np.flatnonzero(naive)
        part = None if groups is None else groups[rows]
        wall[rows] = _wall_to_utc(wall[rows], part, rows, zone, table, name, report)
    return wall.astype(np.int64)


def _as_text(distinct: pd.Series) -> pd.Series:
    """Return times as text; whole floats become whole numbers."""
    if pd.api.types.is_float_dtype(distinct) and bool((distinct % 1 == 0).all()):
        distinct = distinct.astype("int64")
    return distinct.astype("string").str.strip().fillna("")


def _to_us(index: pd.DatetimeIndex) -> Int64Array:
    """Return naive instants as microseconds, NaT as `NO_TIME`."""
    return np.asarray(index.as_unit("us").asi8, dtype=np.int64).copy()


def instant_us(time: str | pd.Timestamp, zone: str) -> int:
    """Return microseconds since 1970 UTC of an instant or wall clock."""
    stamp = pd.Timestamp(time)
    if stamp.tzinfo is None:
        stamp = stamp.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return int(stamp.tz_convert("UTC").as_unit("us").asm8.astype(np.int64))


def check_zone(zone: str, report: Report) -> bool:
    """Tell whether a time zone is known, and note it otherwise."""
    known = available_timezones()
    if zone in known:
        return True
    what = f"unknown time zone {zone!r}{nearest_name(zone, known)}"
    report.error("`zone`", what, "use an IANA name such as 'Europe/Berlin'")
    return False


def check_limit(name: str, limit: Any, report: Report) -> None:
    """Note an option that limits readings in time and cannot be read as a time."""
    try:
        is_time = limit is None or not pd.isna(pd.Timestamp(limit))
    except (ValueError, TypeError):
        is_time = False
    if not is_time:
        what = f"{limit!r} cannot be read as a time"
        report.error(f"`{name}`", what, "write 2024-01-31 or 2024-01-31 16:45")


def step_start(us: int, step_minutes: float, zone: str) -> int:
    """Return where the step begins that holds an instant; steps count from local midnight."""
    stamp = pd.Timestamp(us, unit="us", tz="UTC").tz_convert(zone)
    offset = round((stamp.utcoffset() or pd.Timedelta(0)).total_seconds() * 1e6)
    size = round(step_minutes * 60e6)
    return (us + offset) // size * size - offset


# ---------------------------------------------------------------- text to instants


def _parse(
    text: pd.Series, table: Table, name: object, time_format: str | None, report: Report
) -> tuple[Int64Array, npt.NDArray[np.bool_]]:
    """Return instants or wall clocks of distinct texts, and which of them name a zone."""
    us = np.full(len(text), NO_TIME, dtype=np.int64)
    filled = ~text.isin(MISSING_TEXT).to_numpy(dtype=bool)
    aware = text.str.contains(_AWARE, regex=True).to_numpy(dtype=bool) & filled
    if time_format is not None:
        utc = "%z" in time_format
        us[filled] = _strptime(text[filled], time_format, utc=utc)
        return us, np.full(len(text), utc)
    digits = text.str.fullmatch(r"\d+").to_numpy(dtype=bool) & filled
    if digits.any():
        us[digits], epoch = _parse_digits(text[digits], table, name, report)
        aware[digits] = epoch
    rest = filled & ~digits & ~aware
    us[aware & ~digits] = _strptime(_spell_zone(text[aware & ~digits]), "ISO8601", utc=True)
    us[rest] = _strptime(text[rest], "ISO8601", utc=False)
    left = rest & (us == NO_TIME)
    if left.any() and left.sum() > rest.sum() / 2:
        us[left] = _try_formats(text[left], table, name, report)
    return us, aware


def _spell_zone(text: pd.Series) -> pd.Series:
    """Return aware texts in the spelling that the ISO parser knows."""
    return text.str.replace(r"(?i)\s*(?:UTC|Z)$", "+00:00", regex=True)


def _strptime(text: pd.Series, fmt: str, *, utc: bool) -> Int64Array:
    """Return microseconds of the texts that fit a format, `NO_TIME` for the others."""
    if len(text) == 0:
        return np.zeros(0, dtype=np.int64)
    parsed = pd.to_datetime(text.to_numpy(dtype=object), format=fmt, errors="coerce", utc=utc)
    index = pd.DatetimeIndex(parsed)
    return _to_us(index.tz_localize(None) if index.tz is not None else index)


def _parse_digits(
    text: pd.Series, table: Table, name: object, report: Report
) -> tuple[Int64Array, bool]:
    """Return instants of bare numbers: 20120301 and its like, or a count since 1970 UTC."""
    lengths = text.str.len()
    length = int(lengths.iloc[0])
    nothing = np.full(len(text), NO_TIME, dtype=np.int64)
    if not bool((lengths == length).all()):
        return nothing, False
    if length in _COMPACT_DIGITS and bool(text.str.match(r"(?:19|20)\d{2}").all()):
        us = _strptime(text, _COMPACT_DIGITS[length], utc=False)
        if (us != NO_TIME).all():
            return us, False
    unit = _EPOCH_DIGITS.get(length)
    if unit is None:
        return nothing, False
    what = f"bare numbers such as {text.iloc[0]}"
    report.info(table.column(name), what, f"taken as {unit} since 1970-01-01 UTC")
    data = text.astype("int64").to_numpy(dtype=np.int64).astype(f"datetime64[{unit}]")
    return _to_us(pd.DatetimeIndex(data)), True


def _try_formats(text: pd.Series, table: Table, name: object, report: Report) -> Int64Array:
    """Return times by the only format that fits all; two different readings are an error."""
    fitting: dict[str, Int64Array] = {}
    for fmt in _FORMATS:
        if (_strptime(text.iloc[:20], fmt, utc=False) == NO_TIME).all():
            continue
        us = _strptime(text, fmt, utc=False)
        if not any(np.array_equal(us, other) for other in fitting.values()):
            fitting[fmt] = us
    counts = {fmt: int((us != NO_TIME).sum()) for fmt, us in fitting.items()}
    most = max(counts.values(), default=0)
    if most < 0.9 * len(text):
        return np.full(len(text), NO_TIME, dtype=np.int64)
    best = [fmt for fmt, count in counts.items() if count == most]
    if len(best) == 1:
        report.info(table.column(name), f"times such as {text.iloc[0]!r}", f"read as {best[0]}")
    else:
        what = f"{text.iloc[0]!r} can be read as day first or month first"
        report.error(table.column(name), what, f"say which with time_format=, one of {best}")
    return fitting[best[0]]


def _note_unreadable(
    series: pd.Series,
    codes: Int64Array,
    text: pd.Series,
    us: Int64Array,
    table: Table,
    name: object,
    report: Report,
) -> None:
    """Note rows whose time is a word (error) or missing (dropped)."""
    empty = np.append(text.isin(MISSING_TEXT).to_numpy(dtype=bool), True)[codes]
    bad = np.append(us == NO_TIME, True)[codes] & ~empty
    if bad.any():
        first = int(np.argmax(bad))
        report.error(
            table.at(first, name),
            f"{series.iloc[first]!r} cannot be read as a time ({int(bad.sum())} such cell(s))",
            "write 2024-01-31 16:45 or 2024-01-31T16:45:00+13:00, or give time_format=",
            count=int(bad.sum()),
        )
    if empty.any():
        first = int(np.argmax(empty))
        what = f"{int(empty.sum())} rows have no time"
        report.warning(table.at(first, name), what, "they were dropped", count=int(empty.sum()))


# ---------------------------------------------------------------- wall clock to UTC


def _wall_to_utc(
    wall: Int64Array,
    groups: Int64Array | None,
    rows: Int64Array,
    zone: str,
    table: Table,
    name: object,
    report: Report,
) -> Int64Array:
    """Return wall clocks as UTC.

    An hour that autumn repeats: where a station has a wall clock twice, the first is the earlier
    instant; a single one is the earlier instant. An hour that spring skips never was: dropped.
    """
    codes, distinct = pd.factorize(wall)
    index = pd.DatetimeIndex(np.asarray(distinct, dtype=np.int64).view("datetime64[us]"))
    earlier, later = (_localise(index, zone, is_dst=is_dst) for is_dst in (True, False))
    utc = earlier[codes]
    skipped = utc == NO_TIME
    if skipped.any():
        _note_skipped(wall, rows, skipped, zone, table, name, report)
    twice = np.flatnonzero((earlier != later)[codes])
    if twice.size:
        order = twice[::-1] if _is_descending(wall) else twice
        keys = {"wall": wall[order], "group": 0 if groups is None else groups[order]}
        seen = pd.DataFrame(keys).groupby(["wall", "group"]).cumcount().to_numpy()
        second = order[seen >= 1]
        utc[second] = later[codes[second]]
        first = int(twice[0])
        report.info(
            table.at(int(rows[first]), name),
            f"{_show(wall[first])} and {twice.size - 1} more wall clocks lie in an hour that "
            f"{zone} has twice",
            f"{second.size} second ones were taken as the later instant, the others as the "
            "earlier one",
            count=int(twice.size),
        )
    return utc


def _localise(index: pd.DatetimeIndex, zone: str, *, is_dst: bool) -> Int64Array:
    """Return wall clocks as UTC, `NO_TIME` where the clock skipped them."""
    ambiguous = np.full(len(index), is_dst)
    aware = index.tz_localize(zone, ambiguous=ambiguous, nonexistent="NaT")
    return _to_us(aware.tz_convert("UTC").tz_localize(None))


def _is_descending(wall: Int64Array) -> bool:
    """Tell whether rows run backwards in time."""
    steps = np.sign(np.diff(wall))
    return bool(steps.sum() < 0)


def _note_skipped(
    wall: Int64Array,
    rows: Int64Array,
    skipped: npt.NDArray[np.bool_],
    zone: str,
    table: Table,
    name: object,
    report: Report,
) -> None:
    """Note wall clocks that the spring clock change skipped."""
    first = int(np.argmax(skipped))
    days = pd.unique(pd.Series(wall[skipped] // 86_400_000_000))
    report.warning(
        table.at(int(rows[first]), name),
        f"{_show(wall[first])} does not exist in {zone}, its clocks skip that hour "
        f"({int(skipped.sum())} such row(s) on {len(days)} day(s))",
        f"they were dropped; if the source keeps one offset all year, pass it as "
        f"zone={_standard_zone(zone, wall[first])!r}",
        count=int(skipped.sum()),
    )


def _standard_zone(zone: str, us: Any) -> str:
    """Return the zone without clock changes, named by the offset in winter."""
    year = pd.Timestamp(int(us), unit="us").year
    middles = [pd.Timestamp(year=year, month=month, day=1, tz=zone) for month in (1, 7)]
    hours = min(int((middle.utcoffset() or pd.Timedelta(0)).total_seconds()) for middle in middles)
    return f"Etc/GMT{-hours // 3600:+d}"


def _show(us: Any) -> str:
    """Return a wall clock for a message."""
    return str(pd.Timestamp(int(us), unit="us"))
