"""Publish readings: load what is new, change what differs, and bring the layers up to date."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError, OutputError
from stgraph.graph import STGraph
from stgraph_connectors.postgis._observed import Axes, Changes, Instants, days_of, merge_block
from stgraph_connectors.postgis.connect import (
    Connection,
    Patience,
    execute,
    qualified,
    run_transaction,
)
from stgraph_connectors.postgis.copying import instants
from stgraph_connectors.postgis.observation_layers import Seen, update_observation_layers
from stgraph_connectors.postgis.places import sync_edges, sync_features, sync_nodes
from stgraph_connectors.postgis.publishing import take_turn
from stgraph_connectors.postgis.schema import check_schema
from stgraph_connectors.sinks._document import is_forecast
from stgraph_connectors.sinks._tables import is_clean
from stgraph_connectors.styles import Style, main_feature

logger = logging.getLogger(__name__)

_VALUES_AT_ONCE = 2_000_000  # in one transaction, and in memory


@dataclass(frozen=True)
class ObservationPublication:
    """What became of some readings."""

    schema: str
    start: pd.Timestamp  # first instant of the span
    end: pd.Timestamp  # last instant of the span
    n_values: int  # observed values in the graph
    n_added: int
    n_changed: int
    n_removed: int
    seconds: float
    layers_built: tuple[str, ...] = ()  # layers that were made or made anew


@dataclass(frozen=True)
class _Block:
    """Some steps of the graph; its span ends where the next block begins."""

    time: Instants  # (T,)
    values: npt.NDArray[np.float32]  # (T, F, N), NaN where nothing was observed
    span: tuple[int, int]
    is_last: bool


@dataclass(frozen=True)
class _Numbers:
    """What the nodes and features of the graph are called in the database."""

    nodes: npt.NDArray[np.int64]  # (N,)
    features: tuple[int, ...]  # (F,)


def publish_observations(
    graph: STGraph,
    dsn: str,
    *,
    schema: str = "stgraph",
    style: Style | None = None,
    edges: bool = True,
    patience: Patience | None = None,
) -> ObservationPublication:
    """Publish readings, so that the database holds for their span exactly what was observed.

    In the span from the graph's first to its last instant, its nodes and features have
    afterwards the readings that `mask` calls observed and no others: new ones are added, other
    values changed, and what is no longer observed is removed. Rows that are right already are not
    touched, so the same readings may be published again and again.

    Parameters
    ----------
    graph
        Readings; `values` may be a memory map larger than memory.
    dsn
        libpq connection string of the schema's owner, or, once the layers are there, a writer.
    schema
        The Postgres schema, made by `init_schema`.
    style
        How QGIS draws the layers, unless somebody changed that there. None chooses everything.
    edges
        Also write the edges, if the graph has some.
    patience
        Timeouts and number of attempts. None means the defaults.

    Returns
    -------
    ObservationPublication
        How many rows were added, changed and removed.

    Raises
    ------
    DataError
        The graph is a forecast, or has no readings that can be kept.
    OutputError
        The database refused or was lost.

    Notes
    -----
    Up to two million values are one transaction, with the layers: readers see all of it or
    nothing. More are published in several, in the order of time, so that forecasts can be
    published in between: each is seen as a whole, and the layers move with the last one. After
    an error the blocks before it stay; publishing again goes on from there.
    """
    patience = patience or Patience()
    began = time.perf_counter()
    check_readings(graph)
    seen = Seen.nothing(graph, main_feature(graph, style))
    numbers: _Numbers | None = None
    changes, built = Changes(), tuple[str, ...]()
    for block in _blocks(graph):
        seen = seen.add(block.time, block.values)
        prepare = partial(_prepare, schema=schema, dsn=dsn, block=block)
        publish = partial(
            _publish,
            schema=schema,
            graph=graph,
            block=block,
            numbers=numbers,
            seen=seen,
            style=style,
            edges=edges and graph.n_edges > 0,
            patience=patience,
        )
        with _saying_what_stays(graph, block):
            run_transaction(dsn, prepare, patience=patience)
            numbers, changed, built = run_transaction(dsn, publish, patience=patience)
        changes += changed
        logger.debug("published readings up to %s: %s", block.time[-1], changed)
    seconds = time.perf_counter() - began
    logger.info("published %d readings in %.2f s: %s", seen.n_values, seconds, changes)
    return ObservationPublication(
        schema,
        graph.time[0],
        graph.time[-1],
        seen.n_values,
        changes.n_added,
        changes.n_changed,
        changes.n_removed,
        seconds,
        built,
    )


def check_readings(graph: STGraph) -> None:
    """Refuse what is not a set of readings, or has names that the database cannot keep."""
    if is_forecast(graph):
        raise DataError("the graph is a forecast, not readings; it goes to publish_forecast()")
    if not (graph.n_nodes and graph.n_steps and graph.n_features):
        raise DataError(f"{graph!r} has no readings to publish; give it time, values and features")
    for name in graph.feature_names:
        if not is_clean(name):
            raise DataError(f"feature {name!r} has a character that no database keeps; rename it")


# ---------------------------------------------------------------------------------- preparing


@contextmanager
def _saying_what_stays(graph: STGraph, block: _Block) -> Iterator[None]:
    """Add to an error that the blocks before this one are published."""
    try:
        yield
    except OutputError as error:
        start = graph.time[int(np.searchsorted(instants(graph.time), block.span[0]))]
        if start == graph.time[0]:
            raise
        raise OutputError(
            f"{error}; the readings before {start} are there, publish again to go on"
        ) from error


def _blocks(graph: STGraph) -> Iterator[_Block]:
    """Yield the signal piece by piece, in the order of time."""
    time = instants(graph.time)
    rows = max(1, _VALUES_AT_ONCE // (graph.n_nodes * graph.n_features))
    for start in range(0, graph.n_steps, rows):
        stop = min(start + rows, graph.n_steps)
        mask = graph.mask[start:stop] & np.isfinite(graph.values[start:stop])
        values = np.where(mask, graph.values[start:stop], np.float32("nan"))
        is_last = stop == graph.n_steps
        yield _Block(
            time=time[start:stop],
            values=np.ascontiguousarray(values.transpose(0, 2, 1)),
            span=(int(time[start]), int(time[-1] + 1 if is_last else time[stop])),
            is_last=is_last,
        )


# --------------------------------------------------------------------------------- publishing


def _prepare(connection: Connection, *, schema: str, dsn: str, block: _Block) -> None:
    """Make the partitions of the days on which something was observed."""
    check_schema(connection, schema, dsn=dsn)
    make = "SELECT {}('observation', %s)"
    for day in days_of(block.time[np.isfinite(block.values).any(axis=(1, 2))]):
        execute(connection, make, qualified(schema, "ensure_partition"), parameters=(day,))


def _publish(
    connection: Connection,
    *,
    schema: str,
    graph: STGraph,
    block: _Block,
    numbers: _Numbers | None,
    seen: Seen,
    style: Style | None,
    edges: bool,
    patience: Patience,
) -> tuple[_Numbers, Changes, tuple[str, ...]]:
    """Publish a block in the one transaction of the connection, the last one with the layers."""
    take_turn(connection, schema)
    if numbers is None:
        numbers = _register(connection, schema, graph, edges=edges)
    order = np.argsort(numbers.nodes)  # the key grows at its end only
    axes = Axes(block.time, numbers.features, numbers.nodes[order])
    changes = merge_block(connection, schema, axes, block.values[:, :, order], block.span)
    built: tuple[str, ...] = ()
    if block.is_last:
        built = update_observation_layers(
            connection,
            schema,
            graph,
            numbers.nodes,
            numbers.features,
            seen,
            style=style,
            patience=patience,
        )
    return numbers, changes, built


def _register(connection: Connection, schema: str, graph: STGraph, *, edges: bool) -> _Numbers:
    """Bring nodes, edges and features up to date and return their numbers."""
    nodes = sync_nodes(connection, schema, graph)
    if edges:
        sync_edges(connection, schema, graph, nodes)
    ids = sync_features(connection, schema, graph.features, {})
    return _Numbers(nodes, tuple(ids[name] for name in graph.feature_names))
