"""The demo data: calendar days, mislabelled rows and clock changes come out right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stgraph_connectors.auckland import _calendar_times, read_auckland
from stgraph_connectors.stations import read_stations

from stgraph.errors import DataError
from stgraph.graph import Feature, STGraph
from stgraph.report import Report


@pytest.fixture(scope="module")
def auckland() -> STGraph:
    """All seven years."""
    return read_auckland()


def test_what_is_in_it(auckland: STGraph) -> None:
    """Sizes, names, units and attribution."""
    assert (auckland.n_nodes, auckland.n_steps, auckland.n_edges) == (21, 61_368, 0)
    assert auckland.features == (Feature("pedestrians", "pedestrians/h", "target"),)
    assert auckland.zone == "Pacific/Auckland"
    assert auckland.step == pd.Timedelta("1h")
    assert auckland.time[0] == pd.Timestamp("2019-01-01 06:00", tz=auckland.zone)
    assert auckland.time[-1] == pd.Timestamp("2026-01-01 05:00", tz=auckland.zone)
    assert "CC BY 4.0" in auckland.provenance["attribution"]
    assert "Heart of the City" in auckland.provenance["attribution"]
    assert auckland.nodes.crs == 4326
    assert auckland.nodes.geometry.notna().all()
    assert np.nanmax(auckland.values) == 5226


def test_new_year_peaks_at_midnight(auckland: STGraph) -> None:
    """Hours 0 to 5 belong to the next calendar day: fireworks are at 00:00 on 1 January."""
    local = auckland.time.tz_convert(auckland.zone)
    total = np.nansum(auckland.values[:, :, 0], axis=1)
    for year in range(2020, 2027):
        night = (local >= f"{year - 1}-12-31 20:00") & (local < f"{year}-01-01 04:00")
        peak = local[night][int(np.argmax(total[night]))]
        assert str(peak.tz_localize(None)) == f"{year}-01-01 00:00:00"


def test_new_sensors_start_in_2022(auckland: STGraph) -> None:
    """Two sensors at 188 Quay Street have nothing before September 2022."""
    new = [i for i in auckland.node_ids if i.startswith("188 Quay Street")]
    graph = auckland.select_nodes(new)
    seen = graph.mask[:, :, 0].any(axis=1)
    assert len(new) == 2
    assert graph.time[int(np.argmax(seen))].tz_convert(graph.zone).strftime("%Y-%m") == "2022-09"


def test_clock_changes_are_reported(auckland: STGraph) -> None:
    """Seven springs and seven autumns; one spring hour is absent from the source already."""
    text = str(auckland.report)
    assert "6 rows have a wrong date; they were placed by their order" in text
    assert "(6 such row(s) on 6 day(s))" in text
    assert "and 6 more wall clocks lie in an hour that Pacific/Auckland has twice" in text


def test_start_and_stop() -> None:
    """A slice in Auckland time."""
    graph = read_auckland(start="2024-01-01", stop="2024-01-08")
    assert graph.n_steps == 7 * 24
    assert str(graph.time[0].tz_convert(graph.zone)) == "2024-01-01 00:00:00+13:00"
    assert not graph.report.warnings  # those of clock changes in other years are none of it


def test_a_span_is_the_same_hours_of_the_whole(auckland: STGraph) -> None:
    """Limits with a zone, in the hour that autumn repeats, and across spring."""
    instants = [pd.Timestamp(text) for text in ("2024-04-06T14:00Z", "2024-09-29T02:00+13:00")]
    graph = read_auckland(start=instants[0], stop=instants[1])
    whole = auckland.select_steps(*(int(auckland.time.get_loc(i)) for i in instants))
    # the source has one row for both hours, which stands at the earlier one, before the span
    assert graph.time.equals(whole.time[1:])
    np.testing.assert_array_equal(graph.values, whole.values[1:])


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"start": "next week"}, "'next week' cannot be read as a time"),
        ({"start": "2031-01-01"}, "between start and stop"),
    ],
)
def test_limits_that_cannot_be(limits: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_auckland(**limits)


def test_order_decides_over_wrong_dates() -> None:
    """A row with a wrong date stands between its neighbours; a skipped hour stays skipped."""
    hours = [22, 23, 0, 1, 3, 4, 5, 6, 7]
    dates = ["2024-09-28"] * 7 + ["2024-09-28", "2024-09-29"]  # 06:00 should be of the 29th
    counts = pd.DataFrame({"date": dates, "hour": [f"{h}:00-{h}:59" for h in hours]})
    with pytest.raises(DataError, match="1 of 9 dates do not follow their order"):
        _calendar_times(counts, Report())  # 1 of 9 is more than a few wrong labels
    days = pd.date_range("2024-09-30 06:00", periods=240, freq="h")
    label = (days - pd.Timedelta("6h")).strftime("%Y-%m-%d")
    more = pd.DataFrame({"date": label, "hour": [f"{h}:00-x" for h in days.hour]})
    rest = pd.DataFrame(
        {"date": ["2024-09-29"] * 22, "hour": [f"{h % 24}:00" for h in range(8, 30)]}
    )
    report = Report()
    times = _calendar_times(pd.concat([counts, rest, more], ignore_index=True), report)
    assert times[4] == pd.Timestamp("2024-09-29 03:00")
    assert times[7] == pd.Timestamp("2024-09-29 06:00")
    assert times[-1] == days[-1]
    assert "line 9: 1 rows have a wrong date" in str(report)


@pytest.mark.data
def test_agrees_with_the_checked_copy(auckland: STGraph, data_dir: Path) -> None:
    """The same values at the same instants as the copy that was corrected by hand."""
    folder = data_dir / "auckland-pedestrians"
    copy = read_stations(folder / "sensors.csv", folder / "counts.npz", zone="Pacific/Auckland")
    ours = auckland.select_nodes(copy.node_ids).select_steps(0, copy.n_steps)
    assert ours.time.equals(copy.time)
    np.testing.assert_array_equal(ours.values, copy.values)
