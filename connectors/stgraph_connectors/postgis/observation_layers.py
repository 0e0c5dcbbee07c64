"""The layers about readings: `observation_latest` and `support`, one row per node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import pandas as pd
from psycopg import sql

from stgraph.graph import Feature, STGraph
from stgraph_connectors.postgis._observed import (
    EPOCH,
    Axes,
    Instants,
    moment,
    read_last_instants,
    read_values,
)
from stgraph_connectors.postgis.connect import Connection, Patience, execute, qualified
from stgraph_connectors.postgis.copying import Kind, copy_arrays, copy_records, instants
from stgraph_connectors.postgis.layer_styles import write_metric_styles, write_styles
from stgraph_connectors.postgis.layers import (
    OBSERVATION,
    SUPPORT,
    Column,
    Layer,
    layer_parts,
    update_layer,
)
from stgraph_connectors.postgis.publishing import (
    create_stage,
    dataset_geometry,
    draw_course,
    short_names,
)
from stgraph_connectors.styles import Style, feature_title

_OWN = ("fid", "node_id", "time", "local_time", "trend", "geom")
_N_DRAWN = 12  # instants in the line of blocks
_VALUES_LOOKED_AT = 2_000_000  # the last ones, when classes are chosen
_NEVER = np.iinfo(np.int64).min  # what COPY takes for -infinity


@dataclass(frozen=True)
class Seen:
    """What the steps so far say about each node."""

    drawn: int  # position of the feature that shares are about
    last: Instants  # (N,) newest instant with a reading of any feature
    n_observed: npt.NDArray[np.int64]  # (N,) steps with a reading of the drawn feature
    n_steps: int
    n_values: int

    @classmethod
    def nothing(cls, graph: STGraph, drawn: Feature) -> Seen:
        """Return what is known before the first step."""
        n = graph.n_nodes
        none = np.full(n, _NEVER, dtype=np.int64)
        drawn_at = graph.feature_names.index(drawn.name)
        return cls(drawn_at, none, np.zeros(n, dtype=np.int64), 0, 0)

    def add(self, time: Instants, values: npt.NDArray[np.float32]) -> Seen:
        """Return what is known after some more steps of readings, (T, F, N)."""
        observed = np.isfinite(values)
        newest = np.where(observed.any(axis=1), time[:, None], _NEVER).max(axis=0)
        return replace(
            self,
            last=np.maximum(self.last, newest),
            n_observed=self.n_observed + observed[:, self.drawn].sum(axis=0),
            n_steps=self.n_steps + len(time),
            n_values=self.n_values + int(observed.sum()),
        )


@dataclass(frozen=True)
class _Latest:
    """The newest reading of every node that the layers have."""

    numbers: npt.NDArray[np.int64]  # (N,) ascending
    time: Instants  # (N,) _NEVER where there is none
    values: npt.NDArray[np.float32]  # (F, N), NaN where there is none
    trend: npt.NDArray[np.bytes_]  # (N,)


def update_observation_layers(
    connection: Connection,
    schema: str,
    graph: STGraph,
    numbers: npt.NDArray[np.int64],
    features: tuple[int, ...],
    seen: Seen,
    *,
    style: Style | None,
    patience: Patience,
) -> tuple[str, ...]:
    """Bring both layers up to date after readings were written.

    Parameters
    ----------
    connection
        Inside the transaction that wrote the readings.
    schema
        Name of the Postgres schema.
    graph
        The readings.
    numbers, features
        (N,) numbers of its nodes, (F,) numbers of its features.
    seen
        What the readings say about each node.
    style
        How QGIS draws the layers, unless somebody changed that there. None chooses everything.
    patience
        How long to wait for readers when a layer must be built anew.

    Returns
    -------
    tuple[str, ...]
        Names of the layers that were built anew.
    """
    columns = _feature_columns(connection, schema, features)
    before = _times_shown(connection, schema)
    candidates = dict(before)
    for number, last in zip(numbers.tolist(), seen.last.tolist(), strict=True):
        candidates[number] = max(last, candidates.get(number, _NEVER))
    latest = _find_latest(connection, schema, candidates, tuple(columns), features[seen.drawn])
    place = dataset_geometry(connection, schema)
    built = []
    if _show_latest(connection, schema, latest, columns, place, graph.zone, patience):
        built.append(OBSERVATION)
    rows = _support_rows(connection, schema, graph, numbers, seen, latest)
    if _show_support(connection, schema, latest, rows, place, graph.zone, patience):
        built.append(SUPPORT)
    names = [columns[number].name for number in features]
    is_all = len(names) == len(columns)
    _style(connection, schema, graph, names, is_all=is_all, style=style)
    return tuple(built)


def _style(
    connection: Connection,
    schema: str,
    graph: STGraph,
    columns: Sequence[str],
    *,
    is_all: bool,
    style: Style | None,
) -> None:
    """Let QGIS open the layers with our styles."""
    # one of several feeds does not decide about the columns of the others
    n_steps = max(1, _VALUES_LOOKED_AT // (graph.n_nodes * graph.n_features))
    recent = graph.select_steps(max(0, graph.n_steps - n_steps))
    if is_all and recent.mask.any():
        write_styles(connection, schema, recent, layer=OBSERVATION, columns=columns, style=style)
    share = {"observed_share": Feature("observed_share", "%")}
    said = "support" if "support" in graph.nodes else None
    write_metric_styles(connection, schema, share, layer=SUPPORT, style=style, support_column=said)


# ------------------------------------------------------------------------------------- latest


def _feature_columns(
    connection: Connection, schema: str, features: tuple[int, ...]
) -> dict[int, Column]:
    """Return the columns of `observation_latest` by number of feature: ours and earlier ones.

    All features have their names in the order of their numbers, so that a name never changes.
    """
    query = "SELECT feature_id, name, unit FROM {} ORDER BY feature_id"
    rows = execute(connection, query, qualified(schema, "feature")).fetchall()
    names = short_names([name for _, name, _ in rows], reserved=_OWN)
    there = _columns_shown(connection, schema)
    return {
        number: Column(column, "real", feature_title(Feature(name, unit)))
        for (number, name, unit), column in zip(rows, names, strict=True)
        if number in features or column in there
    }


def _times_shown(connection: Connection, schema: str) -> dict[int, int]:
    """Return the instants that `observation_latest` has now, by number of node."""
    if OBSERVATION not in layer_parts(connection, schema):
        return {}
    query = "SELECT fid, time FROM {}"
    rows = execute(connection, query, qualified(schema, OBSERVATION)).fetchall()
    return {fid: _NEVER if time is None else _instant(time) for fid, time in rows}


def _find_latest(
    connection: Connection,
    schema: str,
    candidates: Mapping[int, int],
    features: tuple[int, ...],
    drawn: int,
) -> _Latest:
    """Return the newest readings as the table has them now, whatever the order of publishing.

    `candidates` has, per node, an instant that no reading of it is later than.
    """
    numbers = np.array(sorted(candidates), dtype=np.int64)
    time = read_last_instants(connection, schema, _N_DRAWN)
    window = read_values(connection, schema, Axes(time, features, numbers))  # (T, F, N)
    observed = np.asarray(np.isfinite(window).any(axis=1))  # (T, N)
    alive = observed.any(axis=0)
    newest = np.full(len(numbers), _NEVER, dtype=np.int64)
    values = np.full((len(features), len(numbers)), np.nan, dtype=np.float32)
    if len(time):
        at = len(time) - 1 - observed[::-1].argmax(axis=0)
        newest[alive] = time[at[alive]]
        values[:, alive] = window[at[alive], :, np.flatnonzero(alive)].T
    # the others fell silent before: they are looked up one by one
    limits = np.array([candidates[number] for number in numbers.tolist()], dtype=np.int64)
    silent = np.flatnonzero(~alive & (limits > _NEVER))
    found = _look_back(connection, schema, numbers[silent], limits[silent], features)
    for n in silent:
        if int(numbers[n]) in found:
            newest[n], values[:, n] = found[int(numbers[n])]
    course = window[:, features.index(drawn)].T
    if not len(time):
        course = np.full((len(numbers), 1), np.nan, dtype=np.float32)
    return _Latest(numbers, newest, values, draw_course(course))


def _look_back(
    connection: Connection,
    schema: str,
    numbers: npt.NDArray[np.int64],
    limits: Instants,
    features: tuple[int, ...],
) -> dict[int, tuple[int, list[float]]]:
    """Return the newest readings of some nodes that are not after a limit each."""
    if not len(numbers):
        return {}
    rows = execute(
        connection,
        "SELECT s.node_id, l.time, l.features, l.readings "
        "FROM unnest(%s::integer[], %s::timestamptz[]) AS s (node_id, upto) "
        "CROSS JOIN LATERAL (SELECT t.time, o.features, o.readings FROM {} t "
        "CROSS JOIN LATERAL (SELECT array_agg(v.feature_id) AS features, "
        "array_agg(v.value) AS readings FROM {} v WHERE v.time = t.time "
        "AND v.feature_id = ANY(%s) AND v.node_id = s.node_id) o "
        "WHERE t.time <= s.upto AND o.features IS NOT NULL ORDER BY t.time DESC LIMIT 1) l",
        qualified(schema, "observation_time"),
        qualified(schema, "observation"),
        parameters=(numbers.tolist(), [moment(limit) for limit in limits], list(features)),
    ).fetchall()
    found = {}
    for number, time, present, readings in rows:
        by_feature = dict(zip(present, readings, strict=True))
        found[number] = (_instant(time), [by_feature.get(f, np.nan) for f in features])
    return found


def _show_latest(
    connection: Connection,
    schema: str,
    latest: _Latest,
    columns: Mapping[int, Column],
    place: tuple[int, Any],
    zone: str,
    patience: Patience,
) -> bool:
    """Write `observation_latest`; True if it had to be built."""
    kinds: dict[str, Kind] = {
        "node_id": "integer",
        "time": "timestamptz",
        "local_time": "text",
        "trend": "text",
    }
    kinds |= {f"v{i}": "real" for i in range(len(columns))}
    local = _local_times(latest.time, zone)
    arrays = (latest.numbers, latest.time, local, latest.trend, *latest.values)
    stage = create_stage(connection, "staged_latest", kinds)
    typed = zip(kinds.items(), arrays, strict=True)
    copy_arrays(connection, stage, {name: (kind, array) for (name, kind), array in typed})
    expressions: dict[str, sql.Composable] = {
        "time": sql.SQL("nullif(s.time, '-infinity')"),
        "local_time": sql.SQL("nullif(rtrim(s.local_time), '')"),
        "trend": sql.SQL("s.trend"),
    }
    for i, column in enumerate(columns.values()):
        name = sql.Identifier("s", f"v{i}")
        expressions[column.name] = sql.SQL("nullif({}, 'NaN')").format(name)
    layer = Layer(
        name=OBSERVATION,
        comment="The newest reading of every node",
        columns=(
            Column("time", "timestamptz", "The instant of the node's newest reading"),
            Column("local_time", "text", f"time in {zone}"),
            *columns.values(),
            Column("trend", "text", f"The last {_N_DRAWN} instants as a line of blocks"),
        ),
        srid=place[0],
        geometry_type=place[1],
    )
    source = sql.SQL("{} AS s").format(stage)
    return update_layer(
        connection, schema, layer, expressions, source, latest.numbers, patience=patience
    )


# ------------------------------------------------------------------------------------- support


def _support_rows(
    connection: Connection,
    schema: str,
    graph: STGraph,
    numbers: npt.NDArray[np.int64],
    seen: Seen,
    latest: _Latest,
) -> dict[int, tuple[str, float | None]]:
    """Return the support of every node and its share of observed steps, by number.

    What was published about a later span stays, if this one is older.
    """
    rows = _support_shown(connection, schema)
    newer = (latest.time > instants(graph.time[-1])).any()
    shares = (100 * seen.n_observed / seen.n_steps).tolist()
    texts = _support_texts(graph, seen)
    for number, text, share in zip(numbers.tolist(), texts, shares, strict=True):
        if not newer or number not in rows:
            rows[number] = (text, share)
    return rows


def _support_texts(graph: STGraph, seen: Seen) -> list[str]:
    """Return what each value of a node rests on: as the user says, else on readings of its own."""
    own = ["own sensor" if last > _NEVER else "none" for last in seen.last.tolist()]
    if "support" not in graph.nodes:
        return own
    given = graph.nodes["support"].tolist()
    return [text if pd.isna(said) else str(said) for said, text in zip(given, own, strict=True)]


def _support_shown(connection: Connection, schema: str) -> dict[int, tuple[str, float | None]]:
    """Return what the layer `support` has now."""
    if SUPPORT not in layer_parts(connection, schema):
        return {}
    query = "SELECT fid, support, observed_share FROM {}"
    rows = execute(connection, query, qualified(schema, SUPPORT)).fetchall()
    return {fid: (text, share) for fid, text, share in rows}


def _show_support(
    connection: Connection,
    schema: str,
    latest: _Latest,
    rows: Mapping[int, tuple[str, float | None]],
    place: tuple[int, Any],
    zone: str,
    patience: Patience,
) -> bool:
    """Write the layer `support`; True if it had to be built."""
    kinds: dict[str, LiteralString] = {
        "node_id": "int4",
        "support": "text",
        "observed_share": "float4",
        "last_observed": "timestamptz",
        "local_time": "text",
    }
    stage = create_stage(connection, "staged_support", kinds)
    moments = {t: None if t == _NEVER else moment(t) for t in np.unique(latest.time).tolist()}
    times = [moments[t] for t in latest.time.tolist()]
    nodes = latest.numbers.tolist()
    nothing = ("none", None)
    local = [text.decode().rstrip() or None for text in _local_times(latest.time, zone)]
    told = zip(nodes, times, local, strict=True)
    staged = ((n, *rows.get(n, nothing), time, text) for n, time, text in told)
    copy_records(connection, stage, kinds, staged)
    columns = (
        Column("kind", "text", "What the node is: station, segment, cell or junction"),
        Column(
            "support", "text", "What its values rest on: own sensor, near, far, none, or as you say"
        ),
        Column(
            "observed_share",
            "real",
            "Steps of the newest published span in which the main quantity was observed (%)",
        ),
        Column("last_observed", "timestamptz", "The instant of the node's newest reading"),
        Column("local_time", "text", f"last_observed in {zone}"),
    )
    layer = Layer(
        name=SUPPORT,
        comment="What the values of every node rest on",
        columns=columns,
        srid=place[0],
        geometry_type=place[1],
    )
    expressions = {column.name: sql.Identifier("s", column.name) for column in columns}
    source = sql.SQL("(SELECT g.*, k.kind FROM {} g JOIN {} k USING (node_id)) AS s").format(
        stage, qualified(schema, "node")
    )
    return update_layer(
        connection, schema, layer, expressions, source, latest.numbers, patience=patience
    )


def _local_times(time: Instants, zone: str) -> npt.NDArray[np.bytes_]:
    """Return instants as the forecast's layers write them, all of one length; none is blank."""
    known = [t for t in np.unique(time).tolist() if t != _NEVER]
    local = pd.DatetimeIndex([moment(t) for t in known], tz="UTC").tz_convert(zone)
    texts = dict(zip(known, local.strftime("%Y-%m-%d %H:%M %Z").tolist(), strict=True))
    length = max(map(len, texts.values()), default=1)  # of some zones, summer's is longer
    return np.array([texts.get(t, "").ljust(length).encode() for t in time.tolist()], np.bytes_)


def _columns_shown(connection: Connection, schema: str) -> set[str]:
    """Return the columns that `observation_latest` has now."""
    name = qualified(schema, OBSERVATION).as_string(connection)
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 "
        "AND NOT attisdropped",
        (name,),
    ).fetchall()
    return {column for (column,) in rows}


def _instant(time: datetime) -> int:
    """Return an instant as microseconds since 2000."""
    return (time - EPOCH) // timedelta(microseconds=1)
