"""The files of a GMNS network: tables with the columns that they must have, and the units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj

from stgraph.errors import nearest_name
from stgraph.graph import BoolArray
from stgraph.report import Report
from stgraph_connectors._ids import shorten
from stgraph_connectors._tables import Table, read_table
from stgraph_connectors.roads._units import find_length_unit, find_speed_unit


@dataclass(frozen=True)
class Config:
    """What `config.csv` says; None where it says nothing that we know."""

    dataset: str | None = None
    crs: pyproj.CRS | None = None
    length_unit: str | None = None
    speed_unit: str | None = None


def read_file(
    folder: Path, name: str, report: Report, columns: tuple[str, ...], *, optional: bool = False
) -> Table | None:
    """Return a file of a folder as text, columns in lower case; None if it is not there."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        if not optional:
            beside = sorted(file.name for file in folder.glob("*.csv"))
            what = f"is not in {folder.name!r}{nearest_name(path.name, beside)}"
            report.error(path.name, what, f"there are {beside}" if beside else "no CSV is there")
        return None
    table = read_table(path, report, role="folder", text=None)
    if table is None:
        return None
    frame = table.frame.rename(columns=lambda label: str(label).strip().lower())
    missing = [column for column in columns if column not in frame]
    if missing:
        what = f"has no column {missing}; columns are {shorten(frame.columns, 12)}"
        todo = "name it as in the specification of GMNS"
        report.error(path.name, what, todo)
        return None
    return Table(frame.replace("", pd.NA), table.name, table.lines)


def read_config(folder: Path, report: Report) -> Config:
    """Return the units and CRS of a network, all unknown if there is no `config.csv`."""
    table = read_file(folder, "config", report, (), optional=True)
    if table is None:
        return Config()
    row = {key: None if pd.isna(value) else value for key, value in table.frame.iloc[0].items()}
    found: dict[str, str | None] = {}
    for key, find in (("long_length", find_length_unit), ("speed", find_speed_unit)):
        word = row.get(key)
        found[key] = None if word is None else find(word)
        if word is not None and found[key] is None:
            todo = "say it with length_unit= or speed_unit="
            report.warning(table.column(key), f"unknown unit {word!r}", todo)
    crs = None
    if row.get("crs") is not None:
        text = str(row["crs"]).strip().removesuffix(".0")
        try:
            crs = pyproj.CRS.from_user_input(int(text) if text.isdigit() else text)
        except pyproj.exceptions.CRSError:
            report.error(table.column("crs"), f"{text!r} is no CRS", "write it like EPSG:4326")
    name = row.get("dataset_name")
    return Config(None if name is None else str(name), crs, found["long_length"], found["speed"])


def to_floats(table: Table, column: str, report: Report) -> npt.NDArray[np.float64]:
    """Return a column as numbers, NaN where it is empty; notes what is no number."""
    text = table.frame[column].astype("string").str.strip()
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.isnan(numbers) & ~text.fillna("").str.lower().isin(["", "nan"]).to_numpy()
    if wrong.any():
        first, count = int(np.argmax(wrong)), int(wrong.sum())
        what = f"{text.iloc[first]!r} is no number ({count} such)"
        report.error(table.at(first, column), what, "repair it", count=count)
    return numbers


def read_groups(folder: Path, report: Report) -> dict[str, set[str]]:
    """Return the uses of every group of `use_group.csv`, those of groups in it included."""
    table = read_file(folder, "use_group", report, ("use_group", "uses"), optional=True)
    if table is None:
        return {}
    groups = {
        str(name).strip().lower(): _words(str(uses))
        for name, uses in zip(table.frame["use_group"], table.frame["uses"], strict=True)
    }
    for _ in range(len(groups)):
        for uses in groups.values():
            uses |= {inner for name in uses & set(groups) for inner in groups[name]}
    return groups


def is_allowed(frame: pd.DataFrame, groups: Mapping[str, set[str]], use: str | None) -> BoolArray:
    """Tell which rows are for a use, by its name or by a group that has it."""
    if use is None or "allowed_uses" not in frame:
        return np.ones(len(frame), dtype=bool)
    names = {use.lower(), "all"} | {name for name, uses in groups.items() if use.lower() in uses}
    codes, texts = pd.factorize(frame["allowed_uses"].astype("string").fillna(""))
    answers = [not _words(str(text)) or bool(_words(str(text)) & names) for text in texts]
    return np.array(answers, dtype=bool)[codes]


def _words(text: str) -> set[str]:
    """Return the words of a list that commas or semicolons part."""
    return {word.strip() for word in text.lower().replace(";", ",").split(",")} - {""}
