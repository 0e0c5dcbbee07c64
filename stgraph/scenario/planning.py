"""What a scenario is going to change, as a table to read before anything is computed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stgraph.scenario.operations import AddDemand, BanTurn, Operation, ScaleDemand, SetWeather
from stgraph.scenario.script import Scenario
from stgraph.scenario.states import Edited

_COLUMNS = ["operation", "op", "about", "when", "attribute", "segments", "before", "after"]


def plan_table(scenario: Scenario, edited: Edited) -> pd.DataFrame:
    """Return what every operation of a scenario changes.

    Parameters
    ----------
    scenario, edited
        The scenario, and what it makes of a network.

    Returns
    -------
    pandas.DataFrame
        A row per operation and attribute: `operation` (from 1), `op`, `about` (roads, zones or
        feature), `when` ("always" or a window), `attribute`, `segments` (how many), `before` and
        `after` (a value, or a range over the segments).
    """
    rows = []
    for number, operation in enumerate(scenario.operations, start=1):
        start = {"operation": number, "op": operation.op, "about": about(operation)}
        start["when"] = when(operation)
        changed = edited.changes[edited.changes["operation"] == number]
        for attribute, part in changed.groupby("attribute", sort=True):
            rows.append(
                start
                | {
                    "attribute": str(attribute),
                    "segments": str(part["segment_id"].nunique()),
                    "before": _span(str(attribute), part["before"]),
                    "after": _span(str(attribute), part["after"]),
                }
            )
        if changed.empty:
            rows.append(start)
    return pd.DataFrame(rows, columns=_COLUMNS, dtype=object).fillna("")


def about(operation: Operation) -> str:
    """Return in words which roads, zones or feature an operation is about."""
    if isinstance(operation, BanTurn):
        return f"from {operation.from_} to {operation.to}"
    if isinstance(operation, AddDemand):
        place = operation.at.model_dump(exclude_none=True)
        words = " ".join(f"{name} {value}" for name, value in place.items())
        return f"{operation.trips:g} cars at {words}"
    if isinstance(operation, ScaleDemand):
        return f"{_zones(operation.from_zone)} to {_zones(operation.to_zone)} x{operation.factor:g}"
    if isinstance(operation, SetWeather):
        return f"{operation.feature} {operation.value:g}"
    return str(getattr(operation, "target", None) or getattr(operation, "id", ""))


def when(operation: Operation) -> str:
    """Return in words when an operation holds."""
    if isinstance(operation, AddDemand):
        windows = {"arrive": operation.arrive, "leave": operation.leave}
        return ", ".join(f"{name} {window}" for name, window in windows.items() if window)
    return "always" if operation.window is None else str(operation.window)


def _zones(zones: str | tuple[str, ...]) -> str:
    """Return zones in words."""
    return zones if isinstance(zones, str) else ", ".join(zones)


def _span(attribute: str, values: pd.Series[float]) -> str:
    """Return the values of some segments as one number or as a range, open or closed in words."""
    known = values.dropna().to_numpy(dtype=float)
    if not len(known):
        return ""
    low, high = np.min(known), np.max(known)
    if attribute == "is_open" and low == high:
        return "open" if low else "closed"
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
