"""What the command line shows: tables on stdout, messages and progress on stderr."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # not needed for `stgraph --help`
    import pandas as pd

    from stgraph.report import Report

_COLOURS = {"error": "bold red", "warning": "yellow", "info": "dim"}
_OURS = ("stgraph", "stgraph_connectors")
_WIDTH = 120  # of tables that go to a file or a pipe
_MAX_FINDINGS = 40  # shown; report.json has all of them


@contextmanager
def logging_to_stderr(*, level: int) -> Iterator[None]:
    """Show the messages of the library, and errors of others, on stderr while a command runs."""
    debug = level <= logging.DEBUG
    handler = RichHandler(
        console=Console(stderr=True), show_path=debug, show_level=debug, log_time_format="[%X]"
    )
    handler.addFilter(lambda record: debug or _is_ours(record))
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in _OURS]
    before = [logger.level for logger in ours]
    root.addHandler(handler)  # a root with a handler also keeps Lightning from adding its own
    for logger in ours:
        logger.setLevel(level)
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.removeHandler(handler)
        for logger, old in zip(ours, before, strict=True):
            logger.setLevel(old)


def _is_ours(record: logging.LogRecord) -> bool:
    """Tell whether a user should see a message: all of ours, and errors of others."""
    return record.name.split(".")[0] in _OURS or record.levelno >= logging.ERROR


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str, allow_nan=False) + "\n")


def print_line(text: str) -> None:
    """Print one line on stdout, as it is."""
    _stdout().print(Text(text), soft_wrap=True)


def print_error(text: str) -> None:
    """Print what went wrong on stderr, as it is."""
    message = Text.assemble(("stgraph: ", "bold red"), text)
    Console(stderr=True).print(message, soft_wrap=True)


def print_pairs(pairs: Mapping[str, Any], *, title: str = "") -> None:
    """Print names with their values on stdout."""
    table = Table(title=title or None, title_justify="left", title_style="bold", show_header=False)
    table.add_column(justify="right", style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        if isinstance(value, Mapping):
            value = "\n".join(f"{part} {number}" for part, number in value.items())
        elif isinstance(value, (list, tuple)):
            value = ", ".join(str(part) for part in value)
        table.add_row(Text(name), Text(str(value)))
    _stdout().print(table)


def print_tried(model: str, tried: Sequence[Mapping[str, Any]]) -> None:
    """Print which models a blend was made of, those that count in bold; nothing of other models."""
    from stgraph.results import tried_table  # needs pandas

    if tried:
        table = tried_table(tried)
        print_table(table, title=f"What {model} is made of", bold=table["weight"] > 0)


def print_table(frame: pd.DataFrame, *, title: str, bold: pd.Series[bool] | None = None) -> None:
    """Print a table on stdout, numbers to the right, some rows in bold.

    Rows that share the value of the first column stand together.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in frame.columns:
        is_number = frame[name].dtype.kind in "iuf"
        table.add_column(str(name), justify="right" if is_number else "left", overflow="fold")
    last = None
    for row, (first, *rest) in enumerate(frame.itertuples(index=False)):
        if row and first != last:
            table.add_section()
        style = "bold" if bold is not None and bold.iloc[row] else None
        cells = ["" if first == last else first, *rest]
        table.add_row(*(_format(value) for value in cells), style=style)
        last = first
    _stdout().print(table)


def print_findings(report: Report, *, title: str) -> None:
    """Print the findings of a report as a table, the most serious first."""
    if not len(report):
        print_line(f"{title}: no findings")
        return
    order = {"error": 0, "warning": 1, "info": 2}
    findings = sorted(report, key=lambda finding: order[finding.level])
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=False)
    for name in ("", "where", "what", "what to do, or what was done"):
        table.add_column(name, overflow="fold")
    for finding in findings[:_MAX_FINDINGS]:
        style = _COLOURS[finding.level]
        cells = (finding.level, finding.where, finding.what, finding.todo)
        table.add_row(*(Text(cell) for cell in cells), style=style)
    _stdout().print(table)
    if len(findings) > _MAX_FINDINGS:
        print_line(f"... and {len(findings) - _MAX_FINDINGS} more findings")


def _format(value: Any) -> Text:
    """Return a table cell; numbers get as many digits as tell them apart."""
    if isinstance(value, float):
        return Text("" if math.isnan(value) else f"{value:,.2f}")
    return Text(str(value))


def _stdout() -> Console:
    """Return stdout; wide enough for tables where it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDTH)
