"""The JSON data sets of PyTorch Geometric Temporal, with edges that stay or that change."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError, nearest_name
from stgraph.graph import Feature, STGraph
from stgraph.neighbours import build_dynamic
from stgraph.report import Report
from stgraph_connectors._clock import check_zone, instant_us
from stgraph_connectors._tables import check_path

_TITLE = "cannot read the JSON graph"
_SIGNALS = ("y", "FX", "block", "X")
_WEIGHTS = ("weights", "edge_weights", "edge_weight")

Pairs = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


@dataclass
class _Content:
    """What a file holds."""

    values: npt.NDArray[np.float64]  # (T, N)
    ids: list[Any] = field(default_factory=list)  # N, or none
    sets: list[tuple[Pairs, Weights]] = field(default_factory=list)  # one, or T


def read_pgt_json(
    path: str | Path,
    *,
    start: str | pd.Timestamp,
    step_minutes: float,
    signal: str | None = None,
    feature: str = "value",
    unit: str = "",
    weight_unit: str = "1",
    zone: str = "UTC",
) -> STGraph:
    """Read a JSON data set in one of the layouts of PyTorch Geometric Temporal.

    Parameters
    ----------
    path
        ``.json`` or ``.json.gz``: ``edges`` (and ``weights``) or ``edge_mapping`` (a set of edges
        per step) with the signal in ``y``, ``FX`` or ``block``, steps of their own (``"0"``,
        ``"1"``, ...), or ``nodes`` and ``links``.
    start
        Instant of the first step, which the files do not have; without a zone it is wall clock.
    step_minutes
        Length of a step, which they do not have either: 1440 is a day.
    signal
        Name of the table of the signal. None takes the only known one.
    feature, unit
        Name and unit of the signal.
    weight_unit
        What an edge weight is, such as ``"m"`` for lengths.
    zone
        IANA zone, for calendars and `start`.

    Returns
    -------
    STGraph
        N nodes without geometry, one feature. Edges per step make a dynamic graph, with
        `valid_from` and `valid_to`.

    Raises
    ------
    DataError
        The file is none of these, or damaged; lists everything found.
    """
    report = Report()
    first = _check_options(start, step_minutes, zone, report)
    source = check_path(path, report, role="path", suffixes=(".json",))
    document = None if source is None else _load(source, report)
    content = None
    if document is not None and source is not None:
        content = _read(document, signal, source.name, report)
    report.raise_errors(DataError, title=_TITLE)
    assert content is not None  # noqa: S101 - else there was an error
    assert source is not None  # noqa: S101
    n_steps, n_nodes = content.values.shape
    step = pd.Timedelta(minutes=step_minutes)
    time = pd.date_range(pd.Timestamp(first, unit="us", tz="UTC"), periods=n_steps, freq=step)
    ids = [str(name) for name in content.ids] or [str(i) for i in range(n_nodes)]
    index = pd.Index(ids, name="id")
    nowhere = gpd.GeoSeries(np.full(n_nodes, None, dtype=object), index=index)
    graph = STGraph(
        nodes=gpd.GeoDataFrame({"kind": "station"}, index=index, geometry=nowhere),
        time=time,
        values=content.values[:, :, None].astype(np.float32),
        features=(Feature(feature, unit),),
        zone=zone,
        provenance={
            "connector": "pgt_json",
            "source": {"path": source.name},
            "step_minutes": step_minutes,
            "findings": report.to_json(),
        },
    )
    if len(content.sets) == 1:
        pairs, weights = content.sets[0]
        return graph.replace(edge_index=pairs, edge_weight=weights, weight_unit=weight_unit)
    sets = [(time[i], pairs, weights) for i, (pairs, weights) in enumerate(content.sets)]
    return build_dynamic(graph, sets, until=time[-1] + step, weight_unit=weight_unit)


def _check_options(start: Any, step_minutes: Any, zone: str, report: Report) -> int:
    """Return the first instant in microseconds, and note options that cannot be."""
    number = isinstance(step_minutes, int | float) and math.isfinite(step_minutes)
    if not number or step_minutes <= 0:
        report.error("`step_minutes`", f"is {step_minutes!r}", "give minutes above 0")
    if not check_zone(zone, report):
        return 0
    try:
        return instant_us(start, zone)
    except (ValueError, TypeError):
        report.error("`start`", f"{start!r} cannot be read as a time", "write 2024-01-31 16:45")
        return 0


def _load(path: Path, report: Report) -> Any:
    """Return the document, or note why it is none."""
    raw = path.read_bytes()
    try:
        text = gzip.decompress(raw) if path.name.lower().endswith(".gz") else raw
        document = json.loads(text)
    except (OSError, EOFError, zlib.error) as error:
        what = f"cannot be unpacked, it is damaged or cut off ({error})"
        report.error(path.name, what, "copy or download it again")
        return None
    except ValueError as error:  # no JSON, or no UTF-8
        what = f"is no JSON, or cut off ({str(error)[:80]})"
        report.error(path.name, what, "copy or download it again")
        return None
    if not isinstance(document, dict):
        report.error(path.name, f"holds a {type(document).__name__}", "an object is expected")
        return None
    return document


# ---------------------------------------------------------------- layouts


def _read(
    document: dict[str, Any], signal: str | None, name: str, report: Report
) -> _Content | None:
    """Return what a document holds, whichever of the layouts it has."""
    if {"nodes", "links"} <= set(document):
        content = _from_links(document, signal, name, report)
    else:
        values = _signal(document, signal, name, report)
        if values is None:
            return None
        content = _Content(values, _ids(document, values.shape[1], name, report))
        for where, pairs, weights in _edge_sets(document, len(values), name, report):
            content.sets.append(_edges(pairs, weights, values.shape[1], where, report))
    if content is not None and not content.sets and not report.errors:
        known = sorted(document)[:8]
        what = f"has no `edges`, `edge_mapping` or `links`; there are {known}"
        report.error(name, what, "give a data set of PyTorch Geometric Temporal")
    return None if report.errors else content


def _signal(
    document: dict[str, Any], signal: str | None, name: str, report: Report
) -> npt.NDArray[np.float64] | None:
    """Return the signal (T, N): a table, or what stands in every step."""
    found = [key for key in _SIGNALS if key in document]
    if signal is not None and signal not in document:
        what = f"no table {signal!r}{nearest_name(signal, document)}; there are {sorted(document)}"
        report.error(name, what[:300], "correct signal=")
        return None
    steps = _steps(document)
    if signal is None and not found and steps:
        rows = [document[key].get("y") for key in steps if isinstance(document[key], dict)]
        return _table(rows, f"{name}, `y` of every step", report)
    key = signal or (found[0] if len(found) == 1 else None)
    if key is None:
        what = f"several tables could be the signal: {found}" if found else (
            f"has no signal {list(_SIGNALS[:3])}; there are {sorted(document)[:8]}")  # fmt: skip
        report.error(name, what, "say which with signal=")
        return None
    return _table(document[key], f"{name}, `{key}`", report)


def _steps(document: dict[str, Any]) -> list[str]:
    """Return the keys that are numbers, in their order."""
    return sorted((key for key in document if key.isdigit()), key=int)


def _table(rows: Any, where: str, report: Report) -> npt.NDArray[np.float64] | None:
    """Return a list of steps as an array."""
    try:
        values = np.array(rows, dtype=np.float64)  # None is missing
    except (ValueError, TypeError):
        report.error(where, "is no table of numbers", "a list of nodes per step is expected")
        return None
    if values.ndim != 2 or 0 in values.shape:
        what = f"has shape {values.shape}"
        report.error(where, what, "a list of nodes per step is expected")
        return None
    if np.isinf(values).any():
        step, node = (int(i) for i in np.argwhere(np.isinf(values))[0])
        report.error(where, f"is infinite at step {step}, node {node}", "write null for missing")
        return None
    return values


def _ids(document: dict[str, Any], n_nodes: int, name: str, report: Report) -> list[Any]:
    """Return the names of nodes in their order; none where the file has none."""
    places = document.get("node_ids")
    if places is None:
        return []
    if isinstance(places, dict) and set(map(repr, places.values())) == set(
        map(repr, range(n_nodes))
    ):
        return sorted(places, key=places.__getitem__)
    what = f"does not number the {n_nodes} nodes from 0 to {n_nodes - 1}"
    report.error(f"{name}, `node_ids`", what, "one name a node")
    return []


def _edge_sets(
    document: dict[str, Any], n_steps: int, name: str, report: Report
) -> list[tuple[str, Any, Any]]:
    """Return where edges stand, the edges and their weights: once, or for every step."""
    mapping = document.get("edge_mapping")
    if isinstance(mapping, dict):
        index, weights = mapping.get("edge_index", {}), mapping.get("edge_weight", {})
        if not isinstance(index, dict) or not isinstance(weights, dict):
            what = "has `edge_index` or `edge_weight` that are no objects"
            report.error(f"{name}, `edge_mapping`", what, "a list of edges per step is expected")
            return []
        missing = [i for i in range(n_steps) if str(i) not in index]
        if missing:
            what = f"has no edges for {len(missing)} of {n_steps} steps, first step {missing[0]}"
            report.error(f"{name}, `edge_mapping`", what, "the file may be cut off")
            return []
        return [(f"{name}, step {i}", index[str(i)], weights.get(str(i)))
                for i in range(n_steps)]  # fmt: skip
    if "edges" in document:
        weights = next((document[key] for key in _WEIGHTS if key in document), None)
        return [(f"{name}, `edges`", document["edges"], weights)]
    steps = _steps(document)
    if steps and (len(steps) != n_steps or int(steps[-1]) - int(steps[0]) != n_steps - 1):
        what = f"has {len(steps)} steps, {steps[0]} to {steps[-1]}, and {n_steps} in the signal"
        report.error(name, what, "a step is missing; the file may be cut off")
        return []
    own = [document[key] for key in steps]
    if own and all(isinstance(step, dict) and "edges" in step for step in own):
        return [(f"{name}, step {i}", step["edges"], step.get("weights"))
                for i, step in enumerate(own)]  # fmt: skip
    return []


def _edges(
    pairs: Any, weights: Any, n_nodes: int, where: str, report: Report
) -> tuple[Pairs, Weights]:
    """Return edges (2, E) and weights (E,), or note what is wrong with them."""
    nothing = np.zeros((2, 0), dtype=np.int64), np.zeros(0)
    try:
        array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        weight = np.ones(len(array)) if weights is None else np.array(weights, dtype=np.float64)
    except (ValueError, TypeError):
        report.error(where, "has edges that are no pairs of numbers", "[[source, target], ...]")
        return nothing
    weight = weight.ravel()
    if len(weight) != len(array):
        report.error(where, f"has {len(weight)} weights for {len(array)} edges", "one an edge")
    elif not np.isfinite(weight).all():
        report.error(where, "has weights that are no finite numbers", "correct them")
    elif len(array) and not ((array >= 0) & (array < n_nodes) & (array % 1 == 0)).all():
        bad = array[~((array >= 0) & (array < n_nodes) & (array % 1 == 0))][0]
        report.error(where, f"points at node {bad:g}, there are {n_nodes}", "the file is damaged")
    else:
        return array.astype(np.int64).T.copy(), weight
    return nothing


def _from_links(
    document: dict[str, Any], signal: str | None, name: str, report: Report
) -> _Content | None:
    """Return the layout with a list of nodes, each with its own series, and a list of links."""
    nodes, links = document["nodes"], document["links"]
    if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
        report.error(f"{name}, `links`", "is no list of objects", "each has a source and a target")
        return None
    key = signal or "y"
    if not isinstance(nodes, list) or not all(isinstance(n, dict) and key in n for n in nodes):
        report.error(f"{name}, `nodes`", f"not every node has `{key}`", "say which with signal=")
        return None
    names = [next((n[k] for k in ("bus_stop", "id", "name") if k in n), None) for n in nodes]
    plain = all(isinstance(node, str | int) for node in names)
    if not plain or len(set(names)) < len(names):
        report.error(f"{name}, `nodes`", "have no unique `bus_stop`, `id` or `name`", "add one")
        return None
    values = _table([n[key] for n in nodes], f"{name}, `{key}` of the nodes", report)
    place = {node: i for i, node in enumerate(names)}
    ends: list[Sequence[Any]] = [
        tuple(_place_of(link.get(end), place) for end in ("source", "target")) for link in links
    ]
    weights = [link.get("weight", 1.0) for link in links]
    if values is None:
        return None
    sets = [_edges(ends, weights, len(names), f"{name}, `links`", report)]
    return _Content(values.T, names, sets)


def _place_of(node: Any, place: dict[Any, int]) -> int:
    """Return the position of a node, -1 for what is none."""
    return place.get(node, -1) if isinstance(node, str | int) else -1
