"""Findings about data: what was wrong, where, and what was done about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

import pandas as pd

from stgraph.errors import InputError

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing about some input."""

    level: Level  # error: cannot go on; warning: usable, but look; info: done as asked
    where: str  # "readings.csv, column `time`, row 17"
    what: str  # what was found, with the offending value
    todo: str = ""  # what to do about it, or what was done
    count: int = 1  # rows, stations or cells concerned

    def __str__(self) -> str:
        """Return the finding as one line."""
        return f"{self.where}: {self.what}" + (f"; {self.todo}" if self.todo else "")


@dataclass
class Report:
    """All findings of one reading or check, in the order found."""

    findings: list[Finding] = field(default_factory=list)

    def error(self, where: str, what: str, todo: str = "", *, count: int = 1) -> None:
        """Note something that makes the input unusable."""
        self.findings.append(Finding("error", where, what, todo, count))

    def warning(self, where: str, what: str, todo: str = "", *, count: int = 1) -> None:
        """Note something that the user should look at."""
        self.findings.append(Finding("warning", where, what, todo, count))

    def info(self, where: str, what: str, todo: str = "", *, count: int = 1) -> None:
        """Note something that was done as asked."""
        self.findings.append(Finding("info", where, what, todo, count))

    @property
    def errors(self) -> list[Finding]:
        """The findings that make the input unusable."""
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that the user should look at."""
        return [finding for finding in self.findings if finding.level == "warning"]

    def raise_errors(self, kind: type[InputError], *, title: str) -> None:
        """Raise one error that lists every finding of level error, if there is any."""
        if self.errors:
            lines = [f"- {finding}" for finding in self.errors]
            raise kind("\n".join([f"{title}: {len(lines)} problem(s)", *lines]))

    def to_frame(self) -> pd.DataFrame:
        """Return the findings as a table, one row each."""
        columns = ["level", "where", "what", "todo", "count"]
        return pd.DataFrame([asdict(finding) for finding in self.findings], columns=columns)

    def to_json(self) -> str:
        """Return the findings as a JSON list."""
        return json.dumps([asdict(finding) for finding in self.findings])

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Return the report that `to_json` wrote."""
        return cls([Finding(**row) for row in json.loads(text)])

    def extend(self, findings: Iterable[Finding]) -> None:
        """Add the findings of another report."""
        self.findings.extend(findings)

    def __iter__(self) -> Iterator[Finding]:
        """Iterate over the findings."""
        return iter(self.findings)

    def __len__(self) -> int:
        """Return how many findings there are."""
        return len(self.findings)

    def __str__(self) -> str:
        """Return one line per finding, or a sentence when there is none."""
        if not self.findings:
            return "no findings"
        return "\n".join(f"[{finding.level}] {finding}" for finding in self.findings)
