"""Which zones can still be reached while a scenario holds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from stgraph.graph import BoolArray, IntArray
from stgraph.report import Report
from stgraph.scenario._routes import find_ways
from stgraph.scenario.demand import Demand
from stgraph.scenario.periods import step_length
from stgraph.scenario.states import Edited, RoadState
from stgraph.scenario.target_fields import shorten
from stgraph.scenario.turns import expand
from stgraph.scenario.week import Floats, periods_at

_SHOWN = 5


def find_reached(edited: Edited, state: RoadState, junctions: IntArray) -> BoolArray:
    """Tell from which junctions one can get to which, by open segments and allowed turns.

    Parameters
    ----------
    edited
        The network.
    state
        What is open.
    junctions
        (Z,) positions.

    Returns
    -------
    BoolArray
        (Z, Z), from row to column.
    """
    source, target = edited.roads.edge_index
    net = expand(source, target, edited.roads.n_nodes, state.banned_turns)
    usable = (net.link_of < 0) | state.is_open[net.link_of]
    starts, ends = junctions, net.end_of[junctions]
    return find_ways(net.source[usable], net.target[usable], net.n_nodes, starts, ends)


def check_trips(
    edited: Edited, demand: Demand, zone: str, report: Report, *, allow_disconnect: bool
) -> None:
    """Note trips that can no longer be made: an error, or a warning if that is allowed.

    Parameters
    ----------
    edited
        Both networks.
    demand
        Who wants to go where.
    zone
        IANA name, of the hours of the demand.
    report
        Gets trips and zones.
    allow_disconnect
        Whether such trips are left out as not served.
    """
    before = find_reached(edited, edited.baseline, demand.junctions)
    lost = np.zeros((demand.n_zones, demand.n_zones))
    cut = np.zeros_like(lost, dtype=np.bool_)
    which = np.zeros(len(edited.periods), dtype=np.bool_)
    hours = step_length(edited.time).total_seconds() / 3600
    demand_period = periods_at(edited.time, zone, demand.period_of_hour)
    for k, state in enumerate(edited.periods):
        gone = before & ~find_reached(edited, state, demand.junctions)
        if not gone.any():
            continue
        steps = np.bincount(demand_period[edited.period_of == k], minlength=len(demand.trips))
        used = np.flatnonzero(steps)
        trips = np.tensordot(steps[used] * hours, np.asarray(demand.trips)[used], axes=1)
        lost += trips * gone
        cut |= gone
        which[k] = True
    if cut.any():
        begin = edited.time[int(np.argmax(which[edited.period_of]))].tz_convert(zone)
        since = f"first at {begin:%Y-%m-%d %H:%M %Z}"
        where = _blame(edited, np.flatnonzero(which))
        _note_lost(demand, lost, cut, where, since, report, allow_disconnect)


def _note_lost(
    demand: Demand,
    lost: Floats,
    cut: BoolArray,
    where: str,
    since: str,
    report: Report,
    allowed: bool,
) -> None:
    """Tell which trips of which zones are cut off."""
    ids = [str(name) for name in demand.zones.index]
    if not lost.any():
        what = f"cuts off {int(cut.sum())} pairs of zones without trips, {since}"
        report.warning(where, what, "nobody is concerned in this demand", count=int(cut.sum()))
        return
    zones = lost.sum(axis=0) + lost.sum(axis=1)
    worst = [ids[i] for i in np.argsort(-zones, kind="stable") if zones[i] > 0]
    order = np.argsort(-lost, axis=None, kind="stable")[:_SHOWN]
    pairs = [
        f"{ids[o]} to {ids[d]} ({lost[o, d]:.0f})"
        for o, d in zip(*np.unravel_index(order, lost.shape), strict=True)
        if lost[o, d] > 0
    ]
    n_pairs = int((lost > 0).sum())
    what = (
        f"cuts off {lost.sum():,.0f} trips between {n_pairs} pairs of zones, {since}; "
        f"zones {shorten(worst)}; most trips: {', '.join(pairs)}"
    )
    if allowed:
        report.warning(where, what, "they are left out as not served", count=n_pairs)
    else:
        todo = "leave a way open, or allow it (allow_disconnect) to leave them out as not served"
        report.error(where, what, todo, count=n_pairs)


def _blame(edited: Edited, periods: Iterable[int]) -> str:
    """Return the names of the operations that close something in some periods."""
    changes = edited.changes
    assert edited.roads.edges is not None  # noqa: S101 - segments are edges
    ids = pd.Index(edited.roads.edges["segment_id"])
    closing = changes[(changes["attribute"] == "is_open") & (changes["after"] == 0)]
    rows = ids.get_indexer(pd.Index(closing["segment_id"]))
    closed = np.logical_or.reduce([~edited.periods[k].is_open[rows] for k in periods])
    numbers = closing.loc[closed, ["operation", "op"]]
    bans = changes.loc[changes["attribute"] == "no_turn_into", ["operation", "op"]]
    named = pd.concat([numbers, bans]).drop_duplicates().sort_values("operation")
    names = [f"operation {number} ({op})" for number, op in named.itertuples(index=False)]
    return " and ".join(names) or "the operations"


def check_junctions(edited: Edited, report: Report) -> None:
    """Note parts of the network that can no longer be entered or left, where no trips are known."""
    source, target = edited.roads.edge_index
    told: set[tuple[int, ...]] = set()
    before = _largest(source, target, edited.baseline.is_open, edited.roads.n_nodes)
    for k, state in enumerate(edited.periods):
        after = _largest(source, target, state.is_open, edited.roads.n_nodes)
        left = state.is_open & before[source] & before[target]
        lonely = np.flatnonzero(left & ~(after[source] & after[target]))
        if not len(lonely) or tuple(lonely) in told:
            continue
        told.add(tuple(lonely))
        assert edited.roads.edges is not None  # noqa: S101 - segments are edges
        table = edited.roads.edges.iloc[lonely]
        km = pd.to_numeric(table["length_m"], errors="coerce").sum() / 1000
        names = table["name"].dropna().unique() if "name" in table else table["segment_id"]
        what = f"cuts off {len(lonely)} segments ({km:.1f} km) from the rest: {shorten(names)}"
        todo = "nobody can get there, or away; leave a way open if that is not meant"
        report.warning(_blame(edited, [k]), what, todo, count=len(lonely))


def _largest(source: IntArray, target: IntArray, is_open: BoolArray, n_nodes: int) -> BoolArray:
    """Tell which junctions belong to the largest part in which all can reach each other."""
    ends = (source[is_open], target[is_open])
    links = csr_array((np.ones(int(is_open.sum())), ends), shape=(n_nodes, n_nodes))
    _, part = connected_components(links, directed=True, connection="strong")
    return np.asarray(part == np.bincount(part).argmax(), dtype=np.bool_)
