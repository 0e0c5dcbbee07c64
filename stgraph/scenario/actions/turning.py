"""Streets that are turned round, and turns that are forbidden."""

from __future__ import annotations

import numpy as np

from stgraph.graph import IntArray
from stgraph.neighbours._turns import all_turns
from stgraph.report import Report
from stgraph.scenario.actions.site import Piece, Site
from stgraph.scenario.streets import Streets
from stgraph.scenario.target_fields import describe, shorten


def reverse_road(site: Site, rows: IntArray, number: int, report: Report, where: str) -> None:
    """Add the other way of one-way segments; note those that have one."""
    streets = site.streets
    two_way = rows[streets.twin[rows] >= 0]
    if len(two_way):
        each = [describe(int(row), streets) for row in two_way]
        what = f"{len(two_way)} of {len(rows)} segments are of two-way streets: {shorten(each)}"
        todo = "name one-way segments only; to make a street one-way, close one direction"
        report.error(f"{where}, `target`", what, todo, count=len(two_way))
        return
    for row in rows.tolist():
        source, target = site.ends(row)
        key = f"{streets.segment_id[row]} turned round"
        values = {"turned": row}
        site.add(
            Piece(
                site.line(row)[::-1].copy(), target, source, key, -1, row, site.length_m(row),
                number=number, values=values,
            )
        )  # fmt: skip


def find_turns(
    before: IntArray, after: IntArray, streets: Streets, report: Report, where: str
) -> IntArray:
    """Return the turns from some segments into others, (2, K), or note that there is none."""
    first, second = all_turns(streets.source, streets.target, streets.roads.n_nodes)
    kept = np.isin(first, before) & np.isin(second, after) & (streets.twin[first] != second)
    turns = np.stack([first[kept], second[kept]])
    if not turns.shape[1]:
        what = "no segment of `to` begins where one of `from` ends"
        a, b = ([describe(int(row), streets) for row in rows] for rows in (before, after))
        todo = f"`from` is {shorten(a)}; `to` is {shorten(b)}; are they the other way round?"
        report.error(where, what, todo)
        return turns
    known = streets.forbidden[0] * len(streets) + streets.forbidden[1]
    again = np.isin(turns[0] * len(streets) + turns[1], known)
    if again.all():
        report.warning(where, "this turn is forbidden already", "it changes nothing")
    return turns
