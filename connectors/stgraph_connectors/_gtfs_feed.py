"""Tables of a GTFS feed: read from a zip file or a folder, with their calendar and their clock."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError, nearest_name
from stgraph.report import Report

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY = "%Y%m%d"
_MAX_DAYS = 3700  # ten years of a calendar; more is a mistyped year

# table -> columns that it cannot do without
NEEDED = {
    "stops": ("stop_id", "stop_lat", "stop_lon"),
    "trips": ("route_id", "service_id", "trip_id"),
    "stop_times": ("trip_id", "stop_id", "stop_sequence"),
}
_WANTED = {
    "calendar": ("service_id", *WEEKDAYS, "start_date", "end_date"),
    "calendar_dates": ("service_id", "date", "exception_type"),
    "routes": ("route_id", "route_type"),
    "frequencies": ("trip_id", "start_time", "end_time", "headway_secs"),
    "transfers": ("from_stop_id", "to_stop_id"),
    "agency": ("agency_timezone",),
    "feed_info": (),
}


# what else is read of the one table that is long; of the others everything is
_OPTIONAL = {"stop_times": ("arrival_time", "departure_time", "shape_dist_traveled")}


class Day(NamedTuple):
    """A day of the feed."""

    date: dt.date
    services: set[str]
    n_trips: int


def read_tables(path: Path, report: Report) -> dict[str, pd.DataFrame]:
    """Return the tables of a feed as text, with stripped names; what is missing is noted."""
    texts = _find_files(path)
    tables: dict[str, pd.DataFrame] = {}
    for name, columns in {**NEEDED, **_WANTED}.items():
        if name not in texts:
            if name in NEEDED:
                report.error(f"{path.name}, {name}.txt", "is missing", "every feed has one")
            continue
        where = f"{path.name}, {name}.txt"
        only = (*columns, *_OPTIONAL[name]) if name in _OPTIONAL else None
        header, tables[name] = _read_table(texts[name], only, where, report)
        for column in columns:
            if column not in header:
                hint = nearest_name(column, header)
                report.error(where, f"has no column `{column}`{hint}", "add it, as GTFS asks")
    if not {"calendar", "calendar_dates"} & set(tables):
        where = f"{path.name}, calendar.txt"
        report.error(where, "is missing, and calendar_dates.txt too", "a feed has one of them")
    for name in NEEDED:
        if name in tables and tables[name].empty:
            report.error(f"{path.name}, {name}.txt", "has no row", "take a whole feed")
    return tables


def _find_files(path: Path) -> dict[str, bytes]:
    """Return the contents of the tables by name, also from a folder inside a zip file."""
    known = {f"{name}.txt": name for name in {**NEEDED, **_WANTED}}
    if path.is_dir():
        files = {known[file.name]: file for file in path.iterdir() if file.name in known}
        return {name: file.read_bytes() for name, file in files.items()}
    if not path.is_file():
        raise DataError(f"there is no feed {str(path)!r}; give a zip file or a folder")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if Path(name).name in known]
            return {known[Path(name).name]: archive.read(name) for name in names}
    except (zipfile.BadZipFile, OSError, RuntimeError, zlib.error) as error:  # or a password
        raise DataError(
            f"{str(path)!r} is no readable zip file ({error}); download the feed again"
        ) from error


def _read_table(
    content: bytes, only: tuple[str, ...] | None, where: str, report: Report
) -> tuple[list[str], pd.DataFrame]:
    """Return the names of a CSV table, and it as text without blanks; an empty cell is missing.

    Of a long table only some columns are read, as categories.
    """
    try:
        header, table = _parse(content, only, "utf-8-sig")
    except UnicodeDecodeError:
        report.warning(where, "is not UTF-8", "read as Latin-1; check names with accents")
        header, table = _parse(content, only, "latin-1")
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        report.error(where, f"is no table ({error})", "save it as CSV with commas")
        return [], pd.DataFrame()
    columns = {str(name).strip(): _without_blanks(table[name]) for name in table.columns}
    return header, pd.DataFrame(columns, index=table.index)


def _parse(
    content: bytes, only: tuple[str, ...] | None, encoding: str
) -> tuple[list[str], pd.DataFrame]:
    """Return the names of all columns, and those that are wanted as they stand in the file."""
    header = pd.read_csv(io.BytesIO(content), nrows=0, encoding=encoding).columns
    names = [str(name).strip() for name in header]
    wanted = [i for i, name in enumerate(names) if only is None or name in only]
    table = pd.read_csv(
        io.BytesIO(content), dtype=str if only is None else "category", encoding=encoding,
        na_values=[""], keep_default_na=False,  # a stop may be called NA
        usecols=wanted, index_col=False,  # a comma at the end of each row is no column
    )  # fmt: skip
    return names, table


def _without_blanks(column: pd.Series) -> pd.Series:
    """Return text or categories without blanks around them; nothing but blanks is missing."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        stripped = column.str.strip()
        return stripped.mask(stripped == "")
    names = [str(name).strip() for name in column.cat.categories]
    codes, unique = pd.factorize(np.array([name or None for name in names], dtype=object))
    chosen = np.append(codes, -1)[column.cat.codes]
    kind = pd.CategoricalDtype(pd.Index(unique))
    return pd.Series(pd.Categorical.from_codes(chosen, dtype=kind), index=column.index)


# ---------------------------------------------------------------------------------- the calendar


def find_day(
    tables: Mapping[str, pd.DataFrame],
    *,
    date: str | None,
    weekday: str | None,
    where: str,
    report: Report,
) -> Day | None:
    """Return the day asked for, else the one with the most trips; the first of several."""
    active = _active_services(tables, where, report)
    if active is None or report.errors:
        return None
    per_service = tables["trips"]["service_id"].value_counts()
    weights = per_service.reindex(active.columns, fill_value=0).to_numpy()
    trips = pd.Series(active.to_numpy() @ weights, index=active.index)
    if date is not None:
        day = _parse_day(date)
        if day is None:
            report.error("`date`", f"is {date!r}", "write it as 2024-05-14")
            return None
        if day not in trips.index or not trips[day]:
            span = f"{trips.index[0]:%Y-%m-%d} to {trips.index[-1]:%Y-%m-%d}"
            report.error("`date`", f"no trip runs on {date}", f"the feed covers {span}")
            return None
    else:
        chosen = trips
        if weekday is not None:
            if weekday not in WEEKDAYS:
                hint = nearest_name(weekday, WEEKDAYS)
                report.error("`weekday`", f"is {weekday!r}{hint}", f"one of {list(WEEKDAYS)}")
                return None
            chosen = trips[pd.DatetimeIndex(trips.index).day_of_week == WEEKDAYS.index(weekday)]
        if not len(chosen) or not chosen.max():
            what = "no trip runs on any day" if weekday is None else f"no trip runs on a {weekday}"
            report.error(where, what, "check calendar.txt and calendar_dates.txt")
            return None
        day = pd.Timestamp(chosen.idxmax())  # type: ignore[arg-type]
    services = set(active.columns[active.loc[day].to_numpy()])
    return Day(day.date(), services, int(trips[day]))


def _parse_day(text: str) -> pd.Timestamp | None:
    """Return a day from 2024-05-14 or 20240514."""
    try:
        day = pd.Timestamp(text)
    except ValueError:
        return None
    return None if pd.isna(day) else day.tz_localize(None).normalize()


def _active_services(
    tables: Mapping[str, pd.DataFrame], where: str, report: Report
) -> pd.DataFrame | None:
    """Return which service runs on which day, (days, services) truth values."""
    weekly = tables.get("calendar", pd.DataFrame(columns=list(_WANTED["calendar"]))).copy()
    single = tables.get(
        "calendar_dates", pd.DataFrame(columns=list(_WANTED["calendar_dates"]))
    ).copy()
    for table, columns in ((weekly, ("start_date", "end_date")), (single, ("date",))):
        for name in columns:
            days = pd.to_datetime(table[name], format=_DAY, errors="coerce")
            if days.isna().any():
                bad = table[name][days.isna()].iloc[0]
                report.error(f"{where}, column `{name}`", f"holds {bad!r}", "write 20240514")
            table[name] = days
    days = pd.concat([weekly["start_date"], weekly["end_date"], single["date"]])
    if report.errors or days.empty:
        if days.empty:
            report.error(f"{where}, calendar.txt", "has no row", "take a whole feed")
        return None
    if (days.max() - days.min()).days > _MAX_DAYS:
        what = f"covers {days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}"
        report.error(f"{where}, calendar.txt", what, "correct the years")
        return None
    index = pd.date_range(days.min(), days.max(), freq="D")
    names = pd.unique(pd.concat([weekly["service_id"], single["service_id"]]))
    services = pd.Index(names)
    active = np.zeros((len(index), len(services)), dtype=bool)
    for row in weekly.to_dict(orient="records"):
        runs = np.array([row[name] == "1" for name in WEEKDAYS])[index.day_of_week]
        within = (index >= row["start_date"]) & (index <= row["end_date"])
        active[:, services.get_loc(row["service_id"])] |= runs & within
    at = index.get_indexer(pd.Index(single["date"])), services.get_indexer(single["service_id"])
    active[at] = (single["exception_type"] == "1").to_numpy()
    return pd.DataFrame(active, index=index, columns=services)


# ------------------------------------------------------------------------- long columns


def to_seconds(texts: pd.Series) -> npt.NDArray[np.float64]:
    """Return seconds since the service day began, beyond 24:00:00 too; NaN for what is no time."""
    codes, unique = pd.factorize(texts)
    parts = pd.Series(unique, dtype=object).astype("string").str.extract(r"^(\d+):(\d\d):(\d\d)$")
    numbers = parts.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    seconds = numbers @ np.array([3600.0, 60.0, 1.0]) if len(numbers) else np.zeros(0)
    return np.where(codes >= 0, np.append(seconds, np.nan)[codes], np.nan)


def to_positions(column: pd.Series, index: pd.Index) -> npt.NDArray[np.int64]:
    """Return where in an index each cell is; -1 for what is missing or not there."""
    codes, unique = pd.factorize(column)
    found = index.get_indexer(pd.Index(np.asarray(unique, dtype=object)))
    return np.append(found, -1)[codes].astype(np.int64)


def to_numbers(column: pd.Series) -> npt.NDArray[np.float64]:
    """Return numbers; NaN for what is none."""
    codes, unique = pd.factorize(column)
    numbers = pd.to_numeric(pd.Series(np.asarray(unique, dtype=object)), errors="coerce")
    return np.append(numbers.to_numpy(dtype=np.float64), np.nan)[codes]
