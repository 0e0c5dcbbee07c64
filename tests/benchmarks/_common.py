"""What every benchmark shares: arguments, a table on stdout, rows as JSON.

A benchmark is a file that runs alone: ``python tests/benchmarks/NAME.py [--quick] [--json PATH]``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

# benchmarks start their server with tests/throwaway_postgres.py
sys.path.append(str(Path(__file__).resolve().parents[1]))


@dataclass(frozen=True)
class Row:
    """One measured number."""

    name: str
    value: float
    unit: str
    goal: float | None = None  # None: no goal
    holds: bool | None = None  # None: no goal


def data_dir() -> Path:
    """Return the folder of real data sets: STGRAPH_DATA, or the one beside the repository."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("STGRAPH_DATA", beside))


def at_most(name: str, value: float, unit: str, goal: float) -> Row:
    """Return a number that must not be above its goal."""
    return Row(name, value, unit, goal, bool(value <= goal))


def at_least(name: str, value: float, unit: str, goal: float) -> Row:
    """Return a number that must not be below its goal."""
    return Row(name, value, unit, goal, bool(value >= goal))


def main(description: str, measure: Callable[[bool], list[Row]]) -> None:
    """Run a benchmark: `measure` takes whether the smoke version is wanted."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="the smoke version")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there, too")
    arguments = parser.parse_args()
    finish(measure(arguments.quick), arguments.json)


def finish(rows: list[Row], path: Path | None) -> None:
    """Print the rows, and write them into a file if one is named."""
    print(table(rows))
    if path is not None:
        values = [{**asdict(row), "value": float(row.value)} for row in rows]
        path.write_text(json.dumps(values, indent=1) + "\n")


def table(rows: list[Row]) -> str:
    """Return the rows as text, one line each."""
    words = {True: "holds", False: "MISSED", None: ""}
    cells = [("", "value", "unit", "goal", "")] + [
        (r.name, f"{r.value:.4g}", r.unit, "" if r.goal is None else f"{r.goal:g}", words[r.holds])
        for r in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = []
    for name, value, unit, goal, holds in cells:
        numbers = f"{value:>{widths[1]}} {unit:<{widths[2]}}  {goal:>{widths[3]}} {holds}"
        lines.append(f"{name:<{widths[0]}}  {numbers}".rstrip())
    return "\n".join(lines)
