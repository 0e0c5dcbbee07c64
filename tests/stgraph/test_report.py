"""Findings: collected, counted, raised once, written and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import DataError
from stgraph.report import Finding, Report


def _report() -> Report:
    report = Report()
    report.error("readings.csv, column `time`, row 17", "is 'noon'", "write it as ISO 8601")
    report.warning("stations.csv", "3 stations have no reading", count=3)
    report.info("readings.csv", "zeros read as missing", "as asked")
    return report


def test_levels() -> None:
    """Protects the split into what stops and what does not."""
    report = _report()
    assert [finding.level for finding in report] == ["error", "warning", "info"]
    assert [finding.what for finding in report.errors] == ["is 'noon'"]
    assert [finding.count for finding in report.warnings] == [3]
    assert len(report) == 3


def test_text() -> None:
    assert str(_report()).splitlines() == [
        "[error] readings.csv, column `time`, row 17: is 'noon'; write it as ISO 8601",
        "[warning] stations.csv: 3 stations have no reading",
        "[info] readings.csv: zeros read as missing; as asked",
    ]
    assert str(Report()) == "no findings"


def test_raise_lists_every_error() -> None:
    """Protects the user's time: all problems in one message."""
    report = _report()
    report.error("stations.csv", "is empty")
    expected = (
        "cannot read: 2 problem(s)\n"
        "- readings.csv, column `time`, row 17: is 'noon'; write it as ISO 8601\n"
        "- stations.csv: is empty"
    )
    with pytest.raises(DataError) as caught:
        report.raise_errors(DataError, title="cannot read")
    assert str(caught.value) == expected


def test_no_error_no_raise() -> None:
    """A warning is for data that can still be used."""
    report = Report()
    report.warning("stations.csv", "odd")
    report.raise_errors(DataError, title="cannot read")


def test_table() -> None:
    table = _report().to_frame()
    assert list(table.columns) == ["level", "where", "what", "todo", "count"]
    assert list(table["count"]) == [1, 3, 1]
    assert list(Report().to_frame().columns) == list(table.columns)


def test_extend() -> None:
    report = Report()
    report.extend(_report())
    assert report == _report()


@given(
    st.lists(
        st.builds(
            Finding,
            level=st.sampled_from(["error", "warning", "info"]),
            where=st.text(),
            what=st.text(),
            todo=st.text(),
            count=st.integers(0, 10**9),
        )
    )
)
def test_json_round_trip(findings: list[Finding]) -> None:
    """Protects the findings that travel in a graph's provenance."""
    assert Report.from_json(Report(findings).to_json()) == Report(findings)
