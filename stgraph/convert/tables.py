"""STGraph <-> pandas tables: long (one row per node and instant) and wide (one column per node)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from stgraph.convert._parts import Nodes, plain_nodes, regular_axis, template
from stgraph.errors import GraphError, InputError, nearest_name, shown
from stgraph.graph import Feature, STGraph

_OBSERVED = "_observed"  # ending of the columns that hold the mask


def to_long(graph: STGraph, *, mask: bool = False, tz: str | None = None) -> pd.DataFrame:
    """Return the signal as a long table, as neuralforecast reads it.

    Parameters
    ----------
    graph
        A graph with at least one feature.
    mask
        Whether every feature gets a column ``<name>_observed``, and fillings are kept. Without,
        what was not observed is NaN.
    tz
        Time zone of `ds`. None gives naive instants in UTC, which is what forecasting packages
        take.

    Returns
    -------
    pd.DataFrame
        T*N rows sorted by node, then time, with the columns `unique_id`, `ds`, `y` (the first
        feature of role target) and one column per further feature.

    Raises
    ------
    InputError
        The graph has no signal, or a feature has the name of one of these columns.

    Notes
    -----
    Nodes, edges, units and roles are lost: ``from_long(to_long(graph, mask=True), nodes=graph)``
    gives an equal graph.
    """
    names = _long_names(graph)
    times = graph.time.tz_localize(None) if tz is None else graph.time.tz_convert(tz)
    columns: dict[str, Any] = {
        "unique_id": graph.node_ids.repeat(graph.n_steps),
        "ds": np.tile(times, graph.n_nodes) if tz is None else times[_tiled(graph)],
    }
    observed: dict[str, Any] = {}
    for feature, name in names.items():
        seen = graph.mask[:, :, feature].T.ravel()
        values = graph.values[:, :, feature].T.ravel()
        columns[name] = values if mask else np.where(seen, values, np.float32(np.nan))
        observed[name + _OBSERVED] = seen
    return pd.DataFrame(columns | observed if mask else columns)


def from_long(
    table: pd.DataFrame,
    *,
    nodes: Nodes | None = None,
    features: Sequence[Feature] | None = None,
    id_column: str = "unique_id",
    time_column: str = "ds",
    zone: str | None = None,
) -> STGraph:
    """Return a long table as an STGraph.

    Parameters
    ----------
    table
        One row per node and instant in any order, naive instants taken as UTC; pairs that are
        not listed are not observed. Columns ``<name>_observed`` are the mask of others.
    nodes
        Places, or a graph whose places, edges, features and zone are taken. None makes nodes
        without geometry in the order of the table.
    features
        What the value columns are, in their order, `y` first. None takes those of `nodes`, else
        their names without units, all of role target.
    id_column, time_column
        Columns with node ids and instants.
    zone
        IANA time zone. None takes that of `nodes`, else UTC.

    Returns
    -------
    STGraph
        Steps from the first instant to the last; gaps in time become steps without observations.

    Raises
    ------
    GraphError
        Columns or nodes are missing, values are no numbers, a node has two rows for one instant,
        or instants have no fixed step.

    Notes
    -----
    For messy files (local clocks, repeated rows, text) use the stations connector instead.
    """
    _require_columns(table, [id_column, time_column])
    marks = [str(n) for n in table.columns if str(n).endswith(_OBSERVED)]
    names = [n for n in table.columns if n not in (id_column, time_column, *marks)]
    base = template(
        plain_nodes(np.asarray(pd.unique(table[id_column]))) if nodes is None else nodes
    )
    features = _features(features, base, names)
    axis = _instants(table[time_column])
    time = regular_axis(axis, base.time)
    row, column = _cells(axis, time, table[id_column], base.node_ids)
    shape = (len(time), base.n_nodes, len(names))
    values = np.full(shape, np.nan, dtype=np.float32)
    mask = np.zeros(shape, dtype=bool)
    for position, name in enumerate(_ordered(names, features, base)):
        given = _numbers(table[name], str(name))
        seen = np.isfinite(given)
        if str(name) + _OBSERVED in marks:
            seen = table[str(name) + _OBSERVED].to_numpy(dtype=bool)
        values[row, column, position] = given
        mask[row, column, position] = seen
    return base.replace(
        time=time, values=values, mask=mask, features=features, zone=zone or base.zone
    )


def to_wide(
    graph: STGraph,
    *,
    feature: str | None = None,
    part: Literal["observed", "values", "mask"] = "observed",
    tz: str = "UTC",
) -> pd.DataFrame:
    """Return one feature as a wide table: one row per instant, one column per node.

    Parameters
    ----------
    graph
        A graph with a signal.
    feature
        Name of the feature. None takes the only one.
    part
        ``"observed"``: values, NaN where not observed; ``"values"``: values with their fillings;
        ``"mask"``: whether they were observed.
    tz
        Time zone of the index.

    Returns
    -------
    pd.DataFrame
        (T, N) float32, or bool for the mask; a copy.

    Raises
    ------
    InputError
        There is no such feature or part, or several features and no choice.

    Notes
    -----
    Geometry, edges and the feature's unit are lost. ``from_wide(to_wide(graph, part="values"),
    mask=to_wide(graph, part="mask"), nodes=graph)`` gives an equal graph of one feature.
    """
    if feature is None and graph.n_features != 1:
        raise InputError(f"choose one `feature` of {list(graph.feature_names)}")
    if part not in ("observed", "values", "mask"):
        raise InputError(f"`part` is {part!r}; use 'observed', 'values' or 'mask'")
    chosen = graph if feature is None else graph.select_features([feature])
    array: Any = chosen.mask if part == "mask" else chosen.values
    if part == "observed":
        array = np.where(chosen.mask, array, np.float32(np.nan))
    index = graph.time.tz_convert(tz).rename("time")
    return pd.DataFrame(array[:, :, 0].copy(), index=index, columns=graph.node_ids)


def from_wide(
    table: pd.DataFrame,
    *,
    mask: pd.DataFrame | None = None,
    nodes: Nodes | None = None,
    feature: Feature | None = None,
    zone: str | None = None,
) -> STGraph:
    """Return a wide table as an STGraph of one feature.

    Parameters
    ----------
    table
        One row per instant (the index, naive instants taken as UTC), one column per node.
    mask
        True = observed, labelled like `table`. None means: wherever `table` has a number.
    nodes
        Places, or a graph whose places, edges, feature and zone are taken; a node without column
        is not observed. None makes nodes without geometry in the order of the columns.
    feature
        What the values are. None takes the only one of `nodes`, else ``Feature("value")``.
    zone
        IANA time zone. None takes that of `nodes`, else UTC.

    Returns
    -------
    STGraph
        Steps from the first instant to the last; gaps in time become steps without observations.

    Raises
    ------
    GraphError
        Columns are no nodes, values are no numbers, instants repeat or have no fixed step.
    """
    base = template(plain_nodes(table.columns) if nodes is None else nodes)
    if mask is not None and not (
        mask.index.equals(table.index) and mask.columns.equals(table.columns)
    ):
        raise GraphError("`mask` has other rows or columns than the table; label both alike")
    if feature is None:
        feature = base.features[0] if base.n_features == 1 else Feature("value")
    axis = _instants(table.index.to_series())
    time = regular_axis(axis, base.time)
    ids = pd.Series(np.tile(np.asarray(table.columns, dtype=object), len(axis)))
    row, column = _cells(axis.repeat(len(table.columns)), time, ids, base.node_ids)
    values = np.full((len(time), base.n_nodes, 1), np.nan, dtype=np.float32)
    seen = np.zeros(values.shape, dtype=bool)
    given = [_numbers(table.iloc[:, i], str(name)) for i, name in enumerate(table.columns)]
    values[row, column, 0] = np.stack(given, axis=1).ravel()
    seen[row, column, 0] = True if mask is None else mask.to_numpy(dtype=bool).ravel()
    return base.replace(
        time=time,
        values=values,
        mask=seen & np.isfinite(values) if mask is None else seen,
        features=(feature,),
        zone=zone or base.zone,
    )


# -------------------------------------------------------------------- helpers


def _tiled(graph: STGraph) -> Any:
    """Return the step of every row of a long table."""
    return np.tile(np.arange(graph.n_steps), graph.n_nodes)


def _long_names(graph: STGraph) -> dict[int, str]:
    """Return the column of each feature by its position, the one for `y` first."""
    if graph.n_features == 0:
        raise InputError("the graph has no signal; a long table needs at least one feature")
    first = (graph.feature_positions("target") or [0])[0]
    others = [i for i in range(graph.n_features) if i != first]
    names = {first: "y"} | {i: graph.features[i].name for i in others}
    taken = [*names.values(), "unique_id", "ds", *(name + _OBSERVED for name in names.values())]
    twice = sorted({name for name in taken if taken.count(name) > 1})
    if twice:
        raise InputError(
            f"features have the names of columns of a long table: {twice}; rename them"
        )
    return names


def _require_columns(table: pd.DataFrame, wanted: list[str]) -> None:
    """Refuse a table without the columns that are needed."""
    for name in wanted:
        if name not in table.columns:
            hint = nearest_name(name, map(str, table.columns))
            raise GraphError(
                f"the table has no column {name!r}{hint}; it has {list(table.columns)}"
            )


def _features(
    features: Sequence[Feature] | None, base: STGraph, names: list[Any]
) -> tuple[Feature, ...]:
    """Return what the value columns are."""
    if features is None and len(names) == base.n_features:
        features = base.features
    if features is None:
        features = [Feature(str(name)) for name in names]
    if len(features) != len(names):
        raise GraphError(f"{len(features)} features for the {len(names)} value columns {names}")
    return tuple(features)


def _ordered(names: list[Any], features: tuple[Feature, ...], base: STGraph) -> list[Any]:
    """Return the value columns in the order of the features."""
    if features != base.features or not base.n_features:
        return names
    by_feature = _long_names(base)
    wanted = [by_feature[i] for i in range(base.n_features)]
    return wanted if set(wanted) == set(names) else names


def _instants(values: pd.Series[Any]) -> pd.DatetimeIndex:
    """Return a column as instants."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        raise GraphError(
            f"column {values.name!r} holds numbers, not instants; convert it with to_datetime()"
        )
    try:
        return pd.DatetimeIndex(pd.to_datetime(values))
    except (TypeError, ValueError) as error:
        raise GraphError(f"column {values.name!r} cannot be read as instants: {error}") from error


def _numbers(values: pd.Series[Any], name: str) -> Any:
    """Return a column as float32, or say which row is none."""
    numbers = pd.to_numeric(values, errors="coerce")
    bad = np.flatnonzero(numbers.isna() & values.notna())
    if len(bad):
        raise GraphError(
            f"column {name!r}, row {shown(values.index[bad[0]])} holds "
            f"{shown(values.iloc[bad[0]])}, as one of {len(bad)} values that are no "
            "numbers; correct them or set them to NaN"
        )
    return numbers.to_numpy(dtype=np.float32, na_value=np.nan)


def _cells(
    instants: pd.DatetimeIndex, time: pd.DatetimeIndex, ids: pd.Series[Any], node_ids: pd.Index
) -> tuple[Any, Any]:
    """Return step and node of every row, each cell at most once."""
    instants = instants.tz_localize("UTC") if instants.tz is None else instants.tz_convert("UTC")
    row = time.get_indexer(cast("pd.Index", instants.as_unit("us")))
    column = node_ids.get_indexer(pd.Index(ids))
    if (column < 0).any():
        unknown = pd.unique(ids[column < 0])
        raise GraphError(
            f"{len(unknown)} ids of the table are no node: {unknown[:5].tolist()}; node ids look "
            f"like {list(node_ids[:3])}"
        )
    cell = pd.Series(row.astype(np.int64) * len(node_ids) + column)
    again = np.flatnonzero(cell.duplicated())
    if len(again):
        first = again[0]
        raise GraphError(
            f"{len(again)} cells are given twice, first node {shown(ids.iloc[first])} at "
            f"{instants[first]}; keep one row of each"
        )
    return row, column
