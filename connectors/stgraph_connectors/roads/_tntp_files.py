"""The files of the TransportationNetworks collection, as tables that know their lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.report import Report

_META = re.compile(r"<\s*([^>]+?)\s*>\s*(.*)")
_UNIT = re.compile(r"([A-Za-z][\w ]*?)\s*\(([^)]*)\)")
_STANDARD = (
    "init_node", "term_node", "capacity", "length", "free_flow_time", "b", "power", "speed",
    "toll", "link_type",
)  # fmt: skip
_WORDS = {
    "init": "init_node", "tail": "init_node", "from": "init_node", "a_node": "init_node",
    "from_node": "init_node", "term": "term_node", "head": "term_node", "to": "term_node",
    "b_node": "term_node", "to_node": "term_node", "free_flow_travel_time": "free_flow_time",
    "fftt": "free_flow_time", "fft": "free_flow_time", "speed_limit": "speed", "type": "link_type",
    "alpha": "b", "beta": "power", "id": "node", "node_id": "node", "x_coord": "x", "y_coord": "y",
    "lon": "x", "lat": "y", "longitude": "x", "latitude": "y",
}  # fmt: skip


@dataclass(frozen=True)
class TntpTable:
    """Numbers of a file, what it says about itself, and the line of each row."""

    name: str
    meta: dict[str, str]  # keys in capitals
    units: dict[str, str]  # by column, where the file names them
    frame: pd.DataFrame  # all columns float64
    lines: npt.NDArray[np.int64]


def read_tntp_table(path: Path, report: Report, *, columns: tuple[str, ...]) -> TntpTable | None:
    """Return the rows of a file, or None and findings if they cannot be read.

    `columns` are those of a file without a line of names.
    """
    meta: dict[str, str] = {}
    units: dict[str, str] = {}
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines: list[int] = []
    for number, raw in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        line = raw.replace(";", " ").strip()
        found = _META.match(line)
        if found:
            meta[found[1].upper()] = found[2].strip()
            if found[1].upper() == "ORIGINAL HEADER":
                units = {_word(name): unit.strip() for name, unit in _UNIT.findall(found[2])}
        elif line.startswith("~"):
            header = _names(line[1:]) or header
        elif line and not rows and header is None and not _is_number(line.split()[0]):
            header = _names(line)
        elif line:
            rows.append(line.split())
            lines.append(number)
    if "TOTAL OD FLOW" in meta:
        report.error(path.name, "is a file of trips, not of a network", "give the _net.tntp")
        return None
    names = header or list(columns)
    frame = _to_numbers(rows, lines, names, path.name, report)
    if frame is None:
        return None
    return TntpTable(path.name, meta, units, frame, np.array(lines, dtype=np.int64))


def _names(line: str) -> list[str]:
    """Return the names of columns, which tabs part where names have blanks."""
    parts = line.split("\t") if "\t" in line.strip() else line.split()
    return [_word(part) for part in parts if part.strip()]


def _word(name: str) -> str:
    """Return the usual name of a column."""
    plain = re.sub(r"\(.*?\)", "", name).strip().lower().replace(" ", "_")
    return _WORDS.get(plain, plain)


def _is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _to_numbers(
    rows: list[list[str]], lines: list[int], names: list[str], name: str, report: Report
) -> pd.DataFrame | None:
    """Return the rows as numbers, or note the lines that hold others, or too few of them."""
    if not rows:
        report.error(name, "has no rows", "give a file of the TransportationNetworks collection")
        return None
    odd = [i for i, row in enumerate(rows) if len(row) != len(names)]
    if odd:
        first = odd[0]
        last = " (the last line: the file looks cut off)" if first == len(rows) - 1 else ""
        what = f"has {len(rows[first])} fields where there are {len(names)} columns{last}"
        todo = f"repair it; the columns are {names}"
        report.error(f"{name}, line {lines[first]}", what, todo, count=len(odd))
        return None
    text = pd.DataFrame(rows, columns=names, dtype="string")
    numbers: pd.DataFrame = text.apply(pd.to_numeric, errors="coerce").astype(np.float64)
    wrong = ~np.isfinite(numbers.to_numpy())
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        where = f"{name}, line {lines[row]}, column `{names[column]}`"
        what = f"{text.iloc[row, column]!r} is no number ({int(wrong.sum())} such)"
        report.error(where, what, "repair it", count=int(wrong.sum()))
        return None
    return numbers


def check_counts(table: TntpTable, report: Report) -> None:
    """Note metadata that does not fit the rows."""
    if not table.meta:
        report.warning(table.name, "has no metadata", "it may be no file of a network")
    numbers = {}
    for key in ("NUMBER OF NODES", "NUMBER OF LINKS", "NUMBER OF ZONES", "FIRST THRU NODE"):
        if key in table.meta:
            try:
                numbers[key] = int(float(table.meta[key]))
            except ValueError:
                what = f"<{key}> is {table.meta[key]!r}, no number"
                report.error(table.name, what, "repair it")
    links, n_rows = numbers.get("NUMBER OF LINKS", len(table.frame)), len(table.frame)
    if links != n_rows:
        what = f"<NUMBER OF LINKS> is {links} but there are {n_rows} rows"
        report.error(table.name, what, "download it again, or correct the number")
    if "init_node" not in table.frame or "term_node" not in table.frame:
        what = f"no columns of nodes; columns are {list(table.frame)}"
        report.error(table.name, what, "they are called init_node and term_node")
        return
    ends = table.frame[["init_node", "term_node"]].to_numpy()
    most = numbers.get("NUMBER OF NODES", np.inf)
    odd = ((ends < 1) | (ends > most) | (ends % 1 != 0)).any(axis=1)
    if odd.any():
        first = int(np.argmax(odd))
        u, v = ends[first]
        of = "" if np.isinf(most) else f", but <NUMBER OF NODES> is {most}"
        what = f"a link from node {u:g} to {v:g}{of} ({int(odd.sum())} such)"
        report.error(
            f"{table.name}, line {table.lines[first]}", what, "correct the link or the number"
        )
    if not numbers.get("FIRST THRU NODE", 1) >= 1:
        report.error(table.name, "<FIRST THRU NODE> is below 1", "repair it")


STANDARD_COLUMNS = _STANDARD
