"""Runs of scenarios in a GeoPackage, as the commands of `stgraph scenario` look at them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from stgraph.errors import ConfigError, InputError

if TYPE_CHECKING:
    import pandas as pd

_MOST_HOURS = 876_600  # 100 years
_MOST_DIGITS = len(str(_MOST_HOURS))


def read_runs(file: Path) -> pd.DataFrame:
    """Return the runs in a GeoPackage, a row each.

    Raises
    ------
    InputError
        There is no such file, or it holds no runs; so does all else that reads them.
    """
    table = _query(file, "SELECT * FROM scenario ORDER BY created, name")
    return table[["name", "run_id", "method", "created", "valid_from", "valid_to"]]


def side_by_side(file: Path, only: list[str] | None) -> pd.DataFrame:
    """Return the summaries of the runs in a GeoPackage, a column per run."""
    from stgraph.errors import nearest_name

    table = _query(
        file,
        "SELECT r.name, r.run_id, s.metric, s.unit, s.base, s.change FROM scenario_summary s "
        "JOIN scenario r ON r.run_id = s.run_id ORDER BY r.created, r.name",
    )
    names = list(dict.fromkeys(table["name"]))
    for name in only or ():
        if name not in names:
            raise ConfigError(f"{file} has no run of {name!r}{nearest_name(name, names, n=3)}")
    if only:
        table = table[table["name"].isin(only)]
    runs = table.groupby("name")["run_id"].nunique()
    several = table["name"].map(runs) > 1
    table["column"] = table["name"].where(~several, table["name"] + " " + table["run_id"])
    metrics = table.drop_duplicates("metric").set_index("metric")[["unit", "base"]]
    changes = table.pivot_table(index="metric", columns="column", values="change", sort=False)
    return metrics.join(changes).reset_index()


def _query(file: Path, statement: str) -> pd.DataFrame:
    """Return the rows of a query on a GeoPackage of runs."""
    import pandas as pd

    if not file.is_file():
        raise InputError(f"{file}: there is no such file; write one with: stgraph scenario run")
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as db:
            cursor = db.execute(statement)
            names = [column[0] for column in cursor.description]
            return pd.DataFrame(cursor.fetchall(), columns=names)
    except sqlite3.Error as error:
        raise InputError(
            f"{file}: holds no runs of scenarios ({error}); give one that `stgraph scenario run` "
            "wrote"
        ) from None


def keep_length(text: str) -> pd.Timedelta:
    """Return how long runs are kept, of a text such as 12h, 30d or 8w.

    Raises
    ------
    InputError
        It is no such text, or more than a hundred years.
    """
    import pandas as pd

    found = re.fullmatch(r"([0-9]+)\s*([hdw])", text.strip())
    if found is None:
        raise InputError(f"--keep {text!r} is no length of time; give one such as 12h, 30d or 8w")
    digits, hours = found[1].lstrip("0") or "0", {"h": 1, "d": 24, "w": 168}[found[2]]
    if len(digits) > _MOST_DIGITS or int(digits) * hours > _MOST_HOURS:
        raise InputError(f"--keep {text[:30]!r} is more than 100 years; give a shorter time")
    return int(digits) * pd.Timedelta(hours=hours)


def check_runs(file: Path, runs: Sequence[str]) -> None:
    """Refuse runs that a GeoPackage does not have, before anything is removed."""
    from stgraph.errors import nearest_name

    known = read_runs(file)["run_id"].tolist()
    for name in runs:
        if name not in known:
            raise InputError(f"{file} has no run {name!r}{nearest_name(name, known, n=3)}")
