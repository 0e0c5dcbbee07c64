"""From what a target says to segments of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pandas as pd
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph.scenario.streets import Streets, fold
from stgraph.scenario.target import Target
from stgraph.scenario.target_fields import (
    find_between,
    find_class,
    find_edges,
    find_inside,
    find_name,
    find_near,
    find_osmid,
    find_where,
    shorten,
)

MOST = 0.2  # share of the network that a target may have
_FEW = 10  # segments that are never too many
_APART_M = 250.0  # stretches of one name farther apart are streets of their own
_FINDERS: Mapping[str, Callable[..., BoolArray]] = {
    "edges": find_edges,
    "osmid": find_osmid,
    "name": find_name,
    "polygon": find_inside,
    "within": find_inside,
    "where": find_where,
    "between": find_between,
    "road_class": find_class,
}


def select(
    target: Target,
    streets: Streets,
    report: Report,
    where: str,
    *,
    field: str = "target",
    direction: Literal["forward", "back", "both"] = "forward",
    among: BoolArray | None = None,
    force: bool = False,
) -> IntArray:
    """Return the positions of the segments that a target names.

    Parameters
    ----------
    target
        Segments for which everything holds that it says.
    streets
        The network.
    report, where
        Gets everything that is wrong, under the name of the operation.
    field
        Name of the target in its operation.
    direction
        ``"back"``: the other way of the streets that are named; ``"both"``: both ways.
    among
        (E,) segments that may be meant; None: all.
    force
        Take more than a fifth of the network without complaint.

    Returns
    -------
    IntArray
        Sorted; empty if anything is wrong.
    """
    none = np.zeros(0, dtype=np.int64)
    among = np.ones(len(streets), dtype=np.bool_) if among is None else among
    before = len(report.errors)
    found: dict[str, BoolArray] = {}
    for name, find in _FINDERS.items():
        value = getattr(target, name)
        if value is not None:
            place = f"{where}, `{field}.{name}`"
            found[name] = find(value, streets, among, report, place)
    if target.near is not None and len(report.errors) == before:
        left = np.logical_and.reduce([among, *found.values()])
        place = f"{where}, `{field}.near`"
        found["near"] = find_near(target.near, streets, left, report, place)
    if len(report.errors) > before:
        return none
    if not found:
        names = ", ".join([*_FINDERS, "near"])
        report.error(f"{where}, `{field}`", "says nothing", f"give one of {names}")
        return none
    chosen = np.logical_and.reduce([among, *found.values()])
    _check_some(chosen, among, found, report, f"{where}, `{field}`")
    if "name" in found and chosen.any():
        _check_one_street(str(target.name), chosen, streets, report, f"{where}, `{field}.name`")
    if len(report.errors) > before:
        return none
    rows = _directed(chosen, direction, streets, among, report, where)
    if not force and target.edges is None:
        _check_share(rows, int(among.sum()), report, f"{where}, `{field}`")
    return none if len(report.errors) > before else rows


def _check_some(
    chosen: BoolArray, among: BoolArray, found: dict[str, BoolArray], report: Report, where: str
) -> None:
    """Note fields that each name segments, but none in common."""
    if chosen.any():
        return
    each = [f"`{name}` {int((rows & among).sum())}" for name, rows in found.items()]
    report.error(where, f"no segment fits all of it: {', '.join(each)} segments", "leave one out")


def _check_share(rows: IntArray, total: int, report: Report, where: str) -> None:
    """Note targets that are a large part of the network, which is seldom meant."""
    if len(rows) > max(_FEW, MOST * total):
        share = f"{len(rows) / total:.0%}"
        what = f"names {len(rows)} of {total} segments ({share} of the network)"
        todo = f"at most {MOST:.0%} unless force: narrow it, or force it if it is meant"
        report.error(where, what, todo, count=len(rows))


def _directed(
    chosen: BoolArray,
    direction: str,
    streets: Streets,
    among: BoolArray,
    report: Report,
    where: str,
) -> IntArray:
    """Return the segments, the other way of their streets, or both."""
    rows = np.flatnonzero(chosen)
    if direction == "forward":
        return rows
    back = streets.twin[rows]
    back = back[back >= 0]
    back = back[among[back]]
    if direction == "both":
        return np.union1d(rows, back)
    if not len(back):
        what = "is 'back', but the target is one-way"
        report.error(f"{where}, `direction`", what, "use 'forward', or reverse it")
    return np.unique(back)


def _check_one_street(
    name: str, chosen: BoolArray, streets: Streets, report: Report, where: str
) -> None:
    """Note a name that several separate streets have."""
    rows = np.flatnonzero(chosen)
    part = _stretches(rows, streets)
    if part.max() == 0:
        return
    each = []
    for number in range(part.max() + 1):
        own = rows[part == number]
        x, y = shapely.get_coordinates(shapely.centroid(shapely.union_all(streets.lines[own])))[0]
        metres = f"{streets.length_m[own].sum():.0f} m"
        crossing = _crossing(own, name, streets)
        each.append(f"{len(own)} segments ({metres}) at {x:.5f} {y:.5f}{crossing}")
    what = f"{len(each)} separate streets are called {name!r}: {'; '.join(each[:5])}"
    report.error(where, what, "choose one by within, near, polygon or edges", count=len(each))


def _stretches(rows: IntArray, streets: Streets) -> IntArray:
    """Return which stretch each segment belongs to; those near each other are one."""
    lines = streets.flat_lines[rows]
    pairs = shapely.STRtree(lines).query(lines, predicate="dwithin", distance=_APART_M)
    joined = coo_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(len(rows),) * 2)
    return np.asarray(connected_components(joined, directed=False)[1], dtype=np.int64)


def _crossing(own: IntArray, name: str, streets: Streets) -> str:
    """Return the names of some streets that meet a street, to tell it from others."""
    names = streets.table["name"].astype("string")
    ends = np.union1d(streets.source[own], streets.target[own])
    meeting = np.isin(streets.source, ends) | np.isin(streets.target, ends)
    others = [
        str(each)
        for each in pd.unique(names[meeting].dropna())
        if fold(each) != fold(name)
    ]  # fmt: skip
    return f" near {shorten(others[:2])}" if others else ""
