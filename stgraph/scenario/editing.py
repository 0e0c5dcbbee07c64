"""What a scenario does to a road network, as arrays."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from stgraph.errors import ConfigError
from stgraph.graph import STGraph
from stgraph.report import Finding, Report
from stgraph.scenario.actions.change import note_conflicts
from stgraph.scenario.drafting import Draft, build
from stgraph.scenario.script import Scenario
from stgraph.scenario.states import Edited, RoadState
from stgraph.scenario.streets import read_streets

__all__ = ["Edited", "RoadState", "edit", "sort_findings", "try_edit"]

_OPERATION = re.compile(r"operation (\d+) ")


def edit(
    scenario: Scenario, roads: STGraph, time: pd.DatetimeIndex, *, force: bool = False
) -> Edited:
    """Return what a scenario makes of a road network.

    Parameters
    ----------
    scenario
        Operations in their order.
    roads
        The network, in the reading ``nodes="junctions"``.
    time
        (T,) steps of the horizon, UTC.
    force
        Take targets of more than a fifth of the network without complaint.

    Returns
    -------
    Edited
        Both networks on one list of segments, with what was found in its report.

    Raises
    ------
    ConfigError
        Lists everything that is wrong, by operation.
    """
    report = Report()
    edited = try_edit(scenario, roads, time, report, force=force)
    report.raise_errors(ConfigError, title=f"scenario {scenario.name!r} cannot be used")
    assert edited is not None  # noqa: S101 - else there was an error
    return edited


def try_edit(
    scenario: Scenario,
    roads: STGraph,
    time: pd.DatetimeIndex,
    report: Report,
    *,
    force: bool = False,
) -> Edited | None:
    """Return what a scenario makes of a road network, or None with errors in the report."""
    time = _clean_time(time, report)
    streets = read_streets(roads, report)
    if report.errors or streets is None:
        return None
    numbered = list(enumerate(scenario.operations, 1))
    built = build(numbered, streets, report, force)
    draft = Draft(scenario.timezone, built, time, report, force)
    for number, operation in numbered:
        draft.take(number, operation)
    local = time.tz_convert(scenario.timezone or "UTC")
    note_conflicts(draft.changes, built.streets, local, report)
    sort_findings(report)
    return None if report.errors else draft.finish(scenario.operations)


def _clean_time(time: Any, report: Report) -> pd.DatetimeIndex:
    """Return the steps in UTC, or note why they cannot be used."""
    if not isinstance(time, pd.DatetimeIndex) or len(time) == 0:
        report.error("`time`", f"is {type(time).__name__} without steps", "give a DatetimeIndex")
        return pd.DatetimeIndex([], tz="UTC")
    return time.tz_localize("UTC") if time.tz is None else time.tz_convert("UTC")


def sort_findings(report: Report) -> None:
    """Put findings in the order of the operations, those about all of them first."""

    def number(finding: Finding) -> int:
        found = _OPERATION.match(finding.where)
        return int(found[1]) if found else 0

    report.findings.sort(key=number)
