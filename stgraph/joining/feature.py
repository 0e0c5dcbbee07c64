"""Join another source to a graph as further features: which place, which instant, which role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, NoReturn, get_args

import geopandas as gpd
import numpy as np
import pandas as pd

from stgraph.errors import DataError, nearest_name
from stgraph.graph import BoolArray, Feature, FloatArray, STGraph
from stgraph.joining._space import Links, Space, link_places
from stgraph.joining._time import TimeRule, reduce_runs, values_as_of, values_per_step
from stgraph.report import Report

Combine = Literal["mean", "sum", "min", "max"]
JoinedRole = Literal["observed", "known_future"]

_STEPS_AT_ONCE = 2_000  # rows that are gathered at once, when several places count for a node


class _Other(NamedTuple):
    """A source as the join sees it."""

    time: pd.DatetimeIndex  # (S,) ascending, UTC
    values: FloatArray  # (S, P, F)
    mask: BoolArray  # (S, P, F)
    features: tuple[Feature, ...]
    places: gpd.GeoDataFrame | None  # None: the same everywhere
    step: pd.Timedelta | None  # None: irregular


class _Rules(NamedTuple):
    """How places and instants of the source become those of the graph."""

    space: Space
    max_distance_m: float | None
    combine: Combine
    time: TimeRule
    max_age_minutes: float | None
    delay_minutes: float
    min_share: float | None
    fill: float | None

    @property
    def max_age(self) -> pd.Timedelta:
        """Return how old a value may be."""
        return pd.Timedelta(minutes=self.max_age_minutes or 0)


def join_feature(
    graph: STGraph,
    other: STGraph | pd.DataFrame,
    *,
    space: Space = "nearest",
    max_distance_m: float | None = None,
    combine: Combine = "mean",
    time: TimeRule = "as-of",
    max_age_minutes: float | None = None,
    delay_minutes: float = 0.0,
    min_share: float | None = None,
    fill: float | None = None,
    role: JoinedRole | None = None,
    features: Sequence[str] | None = None,
    prefix: str = "",
    ahead_steps: int = 0,
) -> STGraph:
    """Return a graph with the features of another source as further features of its nodes.

    Parameters
    ----------
    graph
        Has a signal with a time step; nodes, edges, steps and features stay.
    other
        A graph of other places (weather stations, cells, events) with a signal; or a table
        indexed by instants whose columns are the same for all nodes. Its instants may be
        irregular; without a zone they are those of the graph's zone.
    space
        Which places count for a node: ``"nearest"`` one that has any value, ``"within"`` areas
        that it lies in, ``"around"`` all up to `max_distance_m` away, the one with the
        ``"same id"``, or ``"all nodes"``: every place for every node. Lines and areas count with
        their centroid as nodes, and with their whole shape as places.
    max_distance_m
        Places further away do not count, in metres. None: no limit; needed for ``"around"``.
    combine
        What is made of the values of several places.
    time
        Which instants count for a step: ``"as-of"`` takes the last value at or before it,
        whatever the steps of both are. The others aggregate a finer source: for observed features
        over ``(t - step, t]``, so that nothing after a step is seen in it, for known_future ones
        over ``[t, t + step)``.
    max_age_minutes
        Oldest value that ``"as-of"`` takes. None: the longer of both steps.
    delay_minutes
        How long after its instant a value is known. A mean of the hour that begins at its instant
        is known after 60; without that it would be seen before it was measured.
    min_share
        Smallest share of the source's instants in a step that must be known when they are
        aggregated. None: 1 for sums, else 0.5.
    fill
        Value where the source has none, such as 0 for a calendar of events. None: missing.
    role
        Role of the new features. None: ``known_future`` where they are that in `other`, else
        ``observed``.
    features
        Names to take. None takes all of `other`.
    prefix
        Put before the names, such as ``"weather_"``.
    ahead_steps
        Steps after the last observed target for which the known future is appended, as far as
        `other` reaches; targets are missing there.

    Returns
    -------
    STGraph
        With the new features behind the others; `report` says from where they come, and how much
        of them is missing.

    Raises
    ------
    DataError
        The sources do not meet in space or time, names are taken, or options make no sense: the
        message lists every problem.
    """
    rules = _Rules(
        space, max_distance_m, combine, time, max_age_minutes, delay_minutes, min_share, fill
    )  # fmt: skip
    report = Report()
    _check_rules(rules, report)
    source, step = _as_other(graph, other, report), graph.step
    if source is None or step is None or report.errors:
        _refuse(report)
    source = _choose(source, graph, features, prefix, role, report)
    source = _delay(source, step, rules, report)
    if report.errors:
        _refuse(report)
    if time == "as-of" and max_age_minutes is None:
        oldest = max(step, source.step or step)
        rules = rules._replace(max_age_minutes=oldest / pd.Timedelta(minutes=1))
    reach = None if fill is not None else source.time[-1] + rules.max_age
    graph = _with_rows_ahead(graph, source, ahead_steps, reach)
    columns = []
    for position, feature in enumerate(source.features):
        column = _column(graph, step, source, position, rules, report)
        if column is not None:
            column = column if fill is None else np.where(np.isfinite(column), column, fill)
            _tell(feature, column, graph, report)
            columns.append(column.astype(np.float32))
    if report.errors:
        _refuse(report)
    notes = rules._asdict()
    return _with_columns(graph, np.stack(columns, axis=-1), source, other, notes, report)


def _refuse(report: Report) -> NoReturn:
    """Raise what a report has against joining."""
    report.raise_errors(DataError, title="cannot join the source")
    raise AssertionError("called without an error")


# ------------------------------------------------------------------------------- what is given


def _check_rules(rules: _Rules, report: Report) -> None:
    """Note options that make no sense."""
    for name, known in (
        ("space", get_args(Space)),
        ("combine", get_args(Combine)),
        ("time", get_args(TimeRule)),
    ):
        value = getattr(rules, name)
        if value not in known:
            report.error(f"`{name}`", f"is {value!r}{nearest_name(value, known)}", f"{list(known)}")
    for name in ("max_distance_m", "max_age_minutes"):
        number = getattr(rules, name)
        if number is not None and not number > 0:  # NaN is not above 0
            report.error(f"`{name}`", f"is {number!r}", "give a number above 0, or leave it out")
    if not 0 <= rules.delay_minutes < np.inf:
        report.error("`delay_minutes`", f"is {rules.delay_minutes!r}", "give minutes, at least 0")
    if rules.min_share is not None and not 0 <= rules.min_share <= 1:
        report.error("`min_share`", f"is {rules.min_share!r}", "give a share from 0 to 1")
    if rules.space == "around" and rules.max_distance_m is None:
        report.error("`max_distance_m`", "is missing", 'space = "around" needs it')
    if rules.space in ("within", "same id", "all nodes") and rules.max_distance_m is not None:
        report.error("`max_distance_m`", f"has no use with {rules.space!r}", "leave it out")
    if rules.time != "as-of" and rules.max_age_minutes is not None:
        report.error("`max_age_minutes`", f"has no use with {rules.time!r}", "leave it out")


def _as_other(graph: STGraph, other: Any, report: Report) -> _Other | None:
    """Return the source as the join sees it, or note why it cannot be joined."""
    if graph.step is None or not graph.n_features:
        report.error("the graph", "has no time step to join to", "give it readings first")
    if isinstance(other, STGraph):
        if not other.n_steps or not other.n_features:
            report.error("the source", "has no values over time", "join a source with readings")
            return None
        return _Other(other.time, other.values, other.mask, other.features, other.nodes, other.step)
    if not isinstance(other, pd.DataFrame):
        report.error("the source", f"is a {type(other).__name__}", "pass an STGraph or a table")
        return None
    return _from_table(other, graph.zone, report)


def _from_table(table: pd.DataFrame, zone: str, report: Report) -> _Other | None:
    """Return a table that is indexed by instants as a source without places."""
    numbers = table.select_dtypes(include=["number", "bool"])
    if not isinstance(table.index, pd.DatetimeIndex):
        kind = type(table.index).__name__
        report.error("the source", f"has a {kind} as index", "index the table by instants")
        return None
    if numbers.empty:
        report.error("the source", "has no row or no numeric column", "give numbers over time")
        return None
    words = [str(name) for name in table.columns if name not in numbers.columns]
    if words:
        report.info("the source", f"columns that hold no numbers: {words[:5]}", "left out")
    time = table.index
    if time.tz is None:
        time = time.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    time = time.tz_convert("UTC").as_unit("us")
    if time.isna().any():
        count = int(np.sum(time.isna()))
        what = f"{count} instants exist twice or never in {zone}"
        report.warning("the source", what, "left out; give offsets from UTC", count=count)
    if time.dropna().has_duplicates:
        first = time[time.duplicated()][0]
        report.error("the source", f"has several rows at {first}", "give one row per instant")
        return None
    order = np.argsort(time.asi8)[int(np.sum(time.isna())) :]
    time = time[order]
    values = numbers.to_numpy(dtype=np.float32)[order][:, None, :]
    step = None
    if len(time) > 1:
        gaps = np.diff(time.asi8)
        step = pd.Timedelta(int(gaps[0]), "us") if (gaps == gaps[0]).all() else None
    features = tuple(Feature(str(name), "", "observed") for name in numbers.columns)
    return _Other(time, values, np.isfinite(values), features, None, step)


def _choose(
    source: _Other,
    graph: STGraph,
    names: Sequence[str] | None,
    prefix: str,
    role: str | None,
    report: Report,
) -> _Other:
    """Return the wanted features with their new names and roles."""
    there = [feature.name for feature in source.features]
    wanted = [names] if isinstance(names, str) else there if names is None else list(names)
    for name in wanted:
        if name not in there:
            hint = nearest_name(name, there)
            report.error("`features`", f"no feature is called {name!r}{hint}", f"there are {there}")
    if role is not None and role not in get_args(JoinedRole):
        hint = nearest_name(role, get_args(JoinedRole))
        report.error("`role`", f"is {role!r}{hint}", f"use one of {list(get_args(JoinedRole))}")
    taken = [prefix + name for name in wanted if prefix + name in graph.feature_names]
    if taken:
        report.error("`prefix`", f"the graph has {taken} already", 'give one, as in "weather_"')
    positions = [there.index(name) for name in wanted if name in there]
    features = []
    for i in positions:
        old = source.features[i]
        new = role or ("known_future" if old.role == "known_future" else "observed")
        features.append(Feature(prefix + old.name, old.unit, new))  # type: ignore[arg-type]
    if not positions and not report.errors:
        report.error("`features`", "names nothing", f"there are {there}")
    return source._replace(
        values=source.values[..., positions],
        mask=source.mask[..., positions],
        features=tuple(features),
    )


def _delay(source: _Other, step: pd.Timedelta, rules: _Rules, report: Report) -> _Other:
    """Return the source with its values at the instants from which on they are known."""
    ahead = any(feature.role == "known_future" for feature in source.features)
    if rules.delay_minutes and ahead:
        what = "has no use for what is known beforehand"
        report.error("`delay_minutes`", what, "leave it out, or join the features one by one")
    elif not rules.delay_minutes and not ahead and source.step is not None and source.step > step:
        minutes = source.step / pd.Timedelta(minutes=1)
        what = f"has a value per {minutes:g} minutes, which counts as known at its instant"
        todo = f"if it covers the time after that, give delay_minutes={minutes:g}"
        report.info("the source", what, todo)
    return source._replace(time=source.time + pd.Timedelta(minutes=rules.delay_minutes))


# ------------------------------------------------------------------------------- what is made


def _with_rows_ahead(
    graph: STGraph, source: _Other, ahead_steps: int, reach: pd.Timestamp | None
) -> STGraph:
    """Return the graph with steps after the last observed target that are known beforehand.

    They end with `ahead_steps`, or with the last instant that the source reaches.
    """
    step = graph.step
    if ahead_steps < 1 or step is None:
        return graph
    if not any(feature.role == "known_future" for feature in source.features):
        return graph
    targets = graph.feature_positions("target")
    seen = np.flatnonzero(graph.mask[..., targets].any(axis=(1, 2)))
    last = int(seen[-1]) if len(seen) else graph.n_steps - 1
    stop = last + 1 + ahead_steps
    if reach is not None:
        stop = min(stop, int((reach - graph.time[0]) // step) + 1)
    extra = stop - graph.n_steps
    if extra < 1:
        return graph
    shape = (extra, graph.n_nodes, graph.n_features)
    values = np.full(shape, np.nan, dtype=np.float32)
    mask = np.zeros(shape, dtype=bool)
    static = graph.feature_positions("static")
    values[..., static], mask[..., static] = (
        graph.values[-1:, :, static],
        graph.mask[-1:, :, static],
    )
    return graph.replace(
        time=pd.date_range(graph.time[0], periods=stop, freq=step),
        values=np.concatenate([graph.values, values]),
        mask=np.concatenate([graph.mask, mask]),
    )


def _column(
    graph: STGraph,
    step: pd.Timedelta,
    source: _Other,
    position: int,
    rules: _Rules,
    report: Report,
) -> FloatArray | None:
    """Return one feature at the nodes and steps of the graph, (T, N)."""
    feature = source.features[position]
    where = f"the source of {feature.name!r}"
    values, known = source.values[..., position], source.mask[..., position]
    alive = np.flatnonzero(known.any(axis=0))
    if not len(alive):
        report.error(where, "has no value at all", "leave the feature out")
        return None
    links = link_places(
        graph,
        None if source.places is None else source.places.iloc[alive],
        space=rules.space,
        max_distance_m=rules.max_distance_m,
        where=where,
        report=report,
    )
    if not report.errors:
        _check_links(graph, links, where, rules, report)
    if report.errors:
        return None
    used, place = np.unique(links.place, return_inverse=True)
    values, known = values[:, alive[used]], known[:, alive[used]]
    table = _on_steps(values, known, source, graph, step, feature.role, rules, report)
    if table is None:
        return None
    if not np.isfinite(table).any():
        span = f"{source.time[0]} .. {source.time[-1]} there, {graph.time[0]} .. {graph.time[-1]}"
        report.error(where, f"has no value at any step: {span} here", "give the same time")
        return None
    return _to_nodes(table, links.node, place, graph.n_nodes, rules.combine)


def _on_steps(
    values: FloatArray,
    known: BoolArray,
    source: _Other,
    graph: STGraph,
    step: pd.Timedelta,
    role: str,
    rules: _Rules,
    report: Report,
) -> FloatArray | None:
    """Return the values of places at the steps of the graph, (T, P)."""
    time = rules.time
    if time == "as-of":
        return values_as_of(values, known, source.time, graph.time, max_age=rules.max_age)
    per_step = 1.0 if source.step is None else step / source.step
    if per_step < 1:
        todo = 'use time = "as-of", which repeats a value until the next'
        report.error("`time`", f"{time!r} of one value per {source.step}, less than a step", todo)
        return None
    share = rules.min_share
    if share is None:
        share = 1.0 if time == "sum" else 0.5
    return values_per_step(
        values, known, source.time, graph.time,
        step=step, rule=time, ahead=role == "known_future",
        min_known=float(np.ceil(share * per_step - 1e-9)),
    )  # fmt: skip


def _check_links(graph: STGraph, links: Links, where: str, rules: _Rules, report: Report) -> None:
    """Note nodes that no place counts for, and how far the places are."""
    bare = np.setdiff1d(np.arange(graph.n_nodes), links.node)
    if len(bare) == graph.n_nodes:
        far = "" if rules.max_distance_m is None else f" up to {rules.max_distance_m:g} m"
        todo = "check both CRSs and the limit"
        report.error(where, f"no place is {rules.space!r}{far} of any node", todo)
    elif len(bare):
        ids = [str(node) for node in graph.node_ids[bare[:5]]]
        tell, todo = report.warning, "missing there"
        if rules.fill is not None:
            tell, todo = report.info, f"{rules.fill:g} there"
        tell(where, f"{len(bare)} nodes have no place: {ids}", todo, count=len(bare))
    lengths = links.length_m[np.isfinite(links.length_m)]
    if len(lengths):
        what = f"{len(np.unique(links.place))} places, {lengths.mean():,.0f} m away on average"
        report.info(where, f"{what}, {lengths.max():,.0f} m at most", f"joined by {rules.space!r}")


def _to_nodes(
    table: FloatArray, node: Any, place: Any, n_nodes: int, combine: Combine
) -> FloatArray:
    """Return (T, N) from (T, P): the value of the one place, or what several make together."""
    result = np.full((len(table), n_nodes), np.nan, dtype=np.float32)
    nodes, firsts, counts = np.unique(node, return_index=True, return_counts=True)
    if (counts == 1).all():
        result[:, nodes] = table[:, place]
        return result
    for start in range(0, len(table), _STEPS_AT_ONCE):
        part = table[start : start + _STEPS_AT_ONCE, place]  # (S, L)
        known = np.isfinite(part)
        one, count = reduce_runs(part, known, firsts, combine, axis=1)
        result[start : start + _STEPS_AT_ONCE, nodes] = np.where(count > 0, one, np.nan)
    return result


def _tell(feature: Feature, column: FloatArray, graph: STGraph, report: Report) -> None:
    """Note how much of a joined feature is missing; a known future must not have gaps."""
    known = np.isfinite(column)
    if known.all():
        return
    where = f"feature {feature.name!r}"
    what = f"{100 * (1 - float(known.mean())):.1f} % of its values are missing"
    if feature.role == "known_future":
        first = graph.time[int(np.argmin(known.all(axis=1)))]
        todo = "a known future must not have gaps: allow a higher age, or give `fill`"
        report.warning(where, f"{what}, the first at {first}", todo)
    else:
        report.info(where, what, "they stay missing")


def _with_columns(
    graph: STGraph,
    columns: FloatArray,
    source: _Other,
    other: STGraph | pd.DataFrame,
    rules: dict[str, Any],
    report: Report,
) -> STGraph:
    """Return the graph with further features, and with notes on where they came from."""
    notes = dict(other.provenance) if isinstance(other, STGraph) else {}
    entry = {key: value for key, value in rules.items() if value is not None}
    entry |= {"features": [feature.name for feature in source.features]}
    entry |= {key: notes[key] for key in ("connector", "source", "attribution") if key in notes}
    provenance = {
        **graph.provenance,
        "joined": [*graph.provenance.get("joined", []), entry],
        "findings": Report([*graph.report, *report]).to_json(),
    }
    whom = [graph.provenance.get("attribution"), notes.get("attribution")]
    named = list(dict.fromkeys(str(name) for name in whom if name))
    if named:
        provenance["attribution"] = "; ".join(named)
    return graph.replace(
        values=np.concatenate([graph.values, columns.astype(np.float32)], axis=-1),
        mask=np.concatenate([graph.mask, np.isfinite(columns)], axis=-1),
        features=(*graph.features, *source.features),
        provenance=provenance,
    )
