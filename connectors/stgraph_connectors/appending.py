"""Join newer readings to an older graph of the same stations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stgraph.errors import GraphError, nearest_name
from stgraph.graph import STGraph
from stgraph.report import Report

_MOST_SHIFT = 0.1  # of a step; more than this is told as a warning


def append_readings(older: STGraph, newer: STGraph) -> STGraph:
    """Extend a graph in time by newer readings; nothing that was known is lost.

    Where both have a reading of a station at a step, the newer one counts; where only one has,
    that one. Steps between the two that neither covers are missing.

    Parameters
    ----------
    older
        Nodes, edges and features of the result are its own.
    newer
        The same step and features; its nodes may come in another order. Nodes it lacks have no
        newer readings. No steps at all are nothing new.

    Returns
    -------
    STGraph
        From the first step of either to the last of either.

    Raises
    ------
    GraphError
        The steps differ, or the newer graph has nodes or features that the older one lacks.

    Notes
    -----
    Steps of the newer graph that lie between those of the older one are moved to the nearest; the
    report says by how much.
    """
    report = Report.from_json(older.provenance.get("findings", "[]"))
    n_before = len(report.errors)
    nodes, features = _match(older, newer, report)
    if older.n_steps and older.step is None:
        report.error("`older`", "has one instant and no step", "give it a `time` with a freq")
    if newer.n_steps and older.n_steps and newer.step not in (None, older.step):
        what = f"has steps of {newer.step}, `older` of {older.step}"
        report.error("`newer`", what, "read it with the same step_minutes=")
    if len(report.errors) > n_before:
        Report(report.errors[n_before:]).raise_errors(GraphError, title="cannot append readings")
    if newer.n_steps == 0:
        return older
    if older.n_steps == 0:
        return _on(older, newer.time, older, newer, nodes, features, (0, 0), report)
    step = pd.Timedelta(older.step)  # type: ignore[arg-type]  # an error if it is None
    ahead = newer.time[0] - older.time[0]
    offset = round(ahead / step)
    shift = abs(ahead - offset * step)
    if shift:
        level = report.warning if shift > _MOST_SHIFT * step else report.info
        level("`newer`", f"its steps are off those of `older` by {shift}", "moved to the nearest")
    first = min(0, offset)
    n_steps = max(older.n_steps, offset + newer.n_steps) - first
    time = pd.date_range(older.time[0] + first * step, periods=n_steps, freq=step, unit="us")
    return _on(older, time, older, newer, nodes, features, (-first, offset - first), report)


def _match(older: STGraph, newer: STGraph, report: Report) -> tuple[list[int], list[int]]:
    """Return where the nodes and features of the newer graph are in the older one."""
    nodes = older.node_ids.get_indexer(newer.node_ids)
    if (nodes < 0).any():
        strangers = list(newer.node_ids[nodes < 0][:5])
        what = f"{int((nodes < 0).sum())} nodes are not in `older`: {strangers}"
        report.error("`newer`", what, "read both with the same stations")
    known = {feature.name: i for i, feature in enumerate(older.features)}
    for feature in newer.features:
        if feature.name not in known:
            what = f"no feature {feature.name!r}{nearest_name(feature.name, known)} in `older`"
            report.error("`newer`", what, f"it has {list(known)}")
        elif feature.unit != older.features[known[feature.name]].unit:
            unit = older.features[known[feature.name]].unit
            what = f"{feature.name!r} is in {feature.unit!r}, in `older` in {unit!r}"
            report.error("`newer`", what, "bring both to one unit")
    return [int(n) for n in nodes], [known.get(feature.name, -1) for feature in newer.features]


def _on(
    graph: STGraph,
    time: pd.DatetimeIndex,
    older: STGraph,
    newer: STGraph,
    nodes: list[int],
    features: list[int],
    offsets: tuple[int, int],
    report: Report,
) -> STGraph:
    """Return a graph with the readings of both on one time axis."""
    shape = (len(time), older.n_nodes, older.n_features)
    values = np.full(shape, np.nan, dtype=np.float32)
    mask = np.zeros(shape, dtype=bool)
    before = slice(offsets[0], offsets[0] + older.n_steps)
    values[before], mask[before] = older.values, older.mask
    after = np.ix_(range(offsets[1], offsets[1] + newer.n_steps), nodes, features)
    known = newer.mask
    values[after] = np.where(known, newer.values, values[after])
    mask[after] |= known
    provenance = {**graph.provenance, "findings": report.to_json()}
    return graph.replace(time=time, values=values, mask=mask, provenance=provenance)
