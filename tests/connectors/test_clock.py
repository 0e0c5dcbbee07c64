"""Times in any spelling and zone, and the hours that clock changes repeat or skip."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stgraph_connectors._clock import NO_TIME, read_times
from stgraph_connectors._tables import Table

from stgraph.report import Report


def read(column, *, groups=None, zone="UTC", time_format=None) -> tuple[list[str], Report]:
    """Return the instants as text, "-" where there is none, and the report."""
    report = Report()
    table = Table(pd.DataFrame({"time": column}), "readings.csv", np.arange(len(column)) + 2)
    us = read_times(
        column, groups=None if groups is None else np.array(groups), table=table, name="time",
        zone=zone, time_format=time_format, report=report,
    )  # fmt: skip
    return ["-" if t == NO_TIME else str(np.datetime64(int(t), "us"))[:16] for t in us], report


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2024-01-31 16:45", "2024-01-31T16:45"),
        ("2024-01-31T16:45:00Z", "2024-01-31T16:45"),
        ("2024-01-31 16:45:00 UTC", "2024-01-31T16:45"),
        ("2024-01-31T16:45:00+13:00", "2024-01-31T03:45"),
        ("2024-01-31 16:45:00.000-0800", "2024-02-01T00:45"),
        (" 2024-01-31 ", "2024-01-31T00:00"),
        ("31.01.2024 16:45", "2024-01-31T16:45"),
        ("31/01/2024 16:45:00", "2024-01-31T16:45"),
        ("01/31/2024 04:45 PM", "2024-01-31T16:45"),
        ("2024/01/31 6:45", "2024-01-31T06:45"),
        ("20240131", "2024-01-31T00:00"),
        ("202401311645", "2024-01-31T16:45"),
        ("1706719500", "2024-01-31T16:45"),
        ("1706719500000", "2024-01-31T16:45"),
        (1706719500, "2024-01-31T16:45"),
        (1706719500.0, "2024-01-31T16:45"),
        (pd.Timestamp("2024-01-31 16:45"), "2024-01-31T16:45"),
        (pd.Timestamp("2024-01-31 16:45", tz="Pacific/Auckland"), "2024-01-31T03:45"),
    ],
)
def test_spellings(written: object, expected: str) -> None:
    """One instant in the spellings of the field."""
    times, report = read([written, written])
    assert times == [expected, expected]
    assert not report.errors


def test_mixed_offsets_in_one_column() -> None:
    """Rows with different offsets and rows without any live side by side, and it is said."""
    column = ["2024-01-01T00:00+01:00", "2024-01-01T00:00-05:00", "2024-01-01T00:00"]
    times, report = read(column, zone="Pacific/Auckland")
    assert times == ["2023-12-31T23:00", "2024-01-01T05:00", "2023-12-31T11:00"]
    assert "1 times have no zone while 2 have one" in str(report.warnings[0])
    assert "readings.csv, column `time`, line 4" in str(report.warnings[0])


def test_objects_with_mixed_zones() -> None:
    """A column of Python objects of several zones."""
    column = pd.Series(
        [pd.Timestamp("2024-01-01", tz="Europe/Berlin"), pd.Timestamp("2024-01-01", tz="UTC")],
        dtype=object,
    )
    assert read(column)[0] == ["2023-12-31T23:00", "2024-01-01T00:00"]


def test_repeated_hour_in_the_order_of_rows() -> None:
    """Berlin, 27 October 2024: 02:00 and 02:30 come twice, first in summer, then in winter time."""
    wall = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    times, report = read([f"2024-10-27 {clock}" for clock in wall], zone="Europe/Berlin")
    days = ["26T23:30", "27T00:00", "27T00:30", "27T01:00", "27T01:30", "27T02:00"]
    assert times == [f"2024-10-{day}" for day in days]
    assert "2 second ones were taken as the later instant" in str(report)


def test_repeated_hour_in_a_file_that_runs_backwards() -> None:
    """Newest first: the first of the two rows is the later instant."""
    wall = ["03:00", "02:00", "02:00", "01:00"]
    times, _ = read([f"2024-10-27 {clock}" for clock in wall], zone="Europe/Berlin")
    assert times == ["2024-10-27T02:00", "2024-10-27T01:00", "2024-10-27T00:00", "2024-10-26T23:00"]


def test_repeated_hour_per_station() -> None:
    """One station has the hour once (the earlier instant), the other twice."""
    times, report = read(["2024-10-27 02:00"] * 3, groups=[0, 1, 1], zone="Europe/Berlin")
    assert times == ["2024-10-27T00:00", "2024-10-27T00:00", "2024-10-27T01:00"]
    assert "1 second ones" in str(report)


def test_skipped_hour_is_dropped_and_reported() -> None:
    """Berlin, 31 March 2024: there is no 02:30; 03:00 is not merged with anything."""
    wall = ["01:30", "02:30", "03:00"]
    times, report = read([f"2024-03-31 {clock}" for clock in wall], zone="Europe/Berlin")
    assert times == ["2024-03-31T00:30", "-", "2024-03-31T01:00"]
    finding = str(report.warnings[0])
    assert "line 3: 2024-03-31 02:30:00 does not exist in Europe/Berlin" in finding
    assert "zone='Etc/GMT-1'" in finding


def test_rows_without_time_are_dropped_and_words_are_errors() -> None:
    """Nothing written is a gap, something else written is a mistake."""
    times, report = read(["2024-01-01", "", None, "noon"])
    assert times == ["2024-01-01T00:00", "-", "-", "-"]
    assert "line 3: 2 rows have no time" in str(report.warnings[0])
    assert "line 5: 'noon' cannot be read as a time" in str(report.errors[0])


def test_day_or_month_first_is_not_guessed() -> None:
    """01/02/2024 is an error unless another row decides."""
    _, report = read(["01/02/2024 00:00", "02/02/2024 00:00"])
    assert "day first or month first" in str(report.errors[0])
    assert read(["01/02/2024 00:00", "13/02/2024 00:00"])[0] == [
        "2024-02-01T00:00",
        "2024-02-13T00:00",
    ]
    assert read(["01/02/2024"], time_format="%m/%d/%Y")[0] == ["2024-01-02T00:00"]


@given(
    day=st.integers(0, 364),
    n_hours=st.integers(1, 2000),
    zone=st.sampled_from(["Europe/Berlin", "America/Los_Angeles", "Asia/Kolkata"]),
)
def test_wall_clocks_in_order_come_back(day: int, n_hours: int, zone: str) -> None:
    """UTC hours written as the wall clock of a zone, complete and in order, are read back."""
    start = pd.Timestamp("2024-01-01 12:00", tz="UTC") + pd.Timedelta(day, unit="D")
    instants = pd.date_range(start, periods=n_hours, freq="h")
    wall = instants.tz_convert(zone).tz_localize(None)
    times, _ = read(pd.Series(wall.strftime("%Y-%m-%d %H:%M")), zone=zone)
    assert times == list(instants.strftime("%Y-%m-%dT%H:%M"))
