"""Parts that several conversions share: places from plain columns, and regular time axes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import GraphError
from stgraph.graph import STGraph

Nodes = gpd.GeoDataFrame | STGraph


def plain_nodes(ids: Sequence[Any] | pd.Index | npt.NDArray[Any]) -> gpd.GeoDataFrame:
    """Return nodes without geometry."""
    index = pd.Index(ids)
    return gpd.GeoDataFrame(index=index, geometry=no_geometry(index))


def no_geometry(index: pd.Index) -> gpd.GeoSeries:
    """Return a geometry column in which every one is missing."""
    return gpd.GeoSeries(np.full(len(index), None, dtype=object), index=index)


@contextmanager
def quiet_import() -> Iterator[None]:
    """Silence what other packages say about themselves while they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def template(nodes: Nodes) -> STGraph:
    """Return a graph that holds the places and their edges."""
    return nodes if isinstance(nodes, STGraph) else STGraph(nodes=nodes)


def restore_dtypes(table: Any, dtypes: Mapping[str, Any]) -> Any:
    """Return a table whose columns have the dtypes noted for them, where they still exist."""
    return table.astype({name: dtype for name, dtype in dtypes.items() if name in table.columns})


def regular_axis(
    times: pd.DatetimeIndex, known: pd.DatetimeIndex | None = None
) -> pd.DatetimeIndex:
    """Return the axis of fixed steps that holds all instants, gaps included.

    Parameters
    ----------
    times
        Instants in any order, repeated at will; naive ones are taken as UTC.
    known
        An axis that is taken where it holds all instants.

    Returns
    -------
    pd.DatetimeIndex
        UTC, from the first instant to the last, by the smallest step between them.

    Raises
    ------
    GraphError
        Instants are missing, or do not lie on steps of one length.
    """
    times = times.tz_localize("UTC") if times.tz is None else times.tz_convert("UTC")
    times = times.as_unit("us")
    if times.hasnans:
        raise GraphError(f"{int(np.sum(times.isna()))} instants are missing; drop those rows")
    if known is not None and len(known) and times.isin(known).all():
        return known
    times = times.unique().sort_values()
    if len(times) < 2:
        return times
    steps = np.diff(times.asi8)
    step = int(steps.min())
    odd = np.flatnonzero(steps % step)
    if len(odd):
        raise GraphError(
            f"the instants have no fixed step: {times[odd[0]]} is followed by "
            f"{times[odd[0] + 1]}, which is no multiple of {pd.Timedelta(step, unit='us')}; "
            "resample them to a fixed step"
        )
    return pd.date_range(times[0], times[-1], freq=pd.Timedelta(step, unit="us"), unit="us")
