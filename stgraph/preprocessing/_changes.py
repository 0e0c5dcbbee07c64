"""A graph with a changed signal, and the findings about the change."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stgraph.errors import InputError
from stgraph.graph import BoolArray, FloatArray, STGraph
from stgraph.report import Report

_NAMED = 5  # stations named in one finding


def with_changes(
    graph: STGraph, report: Report, *, values: FloatArray, mask: BoolArray | None = None
) -> STGraph:
    """Return the graph with new values, its earlier findings and those of a report."""
    findings = graph.report
    findings.extend(report)
    return graph.replace(
        values=values,
        mask=graph.mask if mask is None else mask,
        provenance={**graph.provenance, "findings": findings.to_json()},
    )


def describe_places(graph: STGraph, places: BoolArray) -> str:
    """Return which nodes have most of some (T, N) places, how many each, and the first instants."""
    per_node = places.sum(axis=0)
    worst = np.argsort(-per_node, kind="stable")[:_NAMED]
    named = [
        f"{graph.node_ids[node]!r} {per_node[node]} from {_minute(graph, places[:, node])}"
        for node in worst
        if per_node[node]
    ]
    n_nodes = int(np.count_nonzero(per_node))
    more = f", and {n_nodes - len(named)} more" if n_nodes > len(named) else ""
    return f"{n_nodes} node(s): {'; '.join(named)}{more}"


def steps_to_fit(graph: STGraph, fit_steps: slice | None) -> slice:
    """Return which steps thresholds and medians are taken from, or raise if there are none."""
    chosen = slice(*(fit_steps or slice(None)).indices(graph.n_steps))
    if chosen.step != 1 or chosen.start >= chosen.stop:
        raise InputError(
            f"`fit_steps` {fit_steps} selects no consecutive steps of {graph.n_steps}; pass "
            "such as slice(0, 1000) or split.train_steps"
        )
    return chosen


def check_whole(name: str, number: int | None, *, least: int = 1) -> None:
    """Raise unless an option is None or a whole number of at least `least`."""
    if number is None:
        return
    if isinstance(number, bool) or int(number) != number or number < least:
        raise InputError(f"`{name}` is {number!r}; it must be a whole number of at least {least}")


def _minute(graph: STGraph, steps: BoolArray) -> str:
    """Return the first instant of some steps in local time."""
    instant: pd.Timestamp = graph.time[int(steps.argmax())]
    return instant.tz_convert(graph.zone).strftime("%Y-%m-%d %H:%M")
