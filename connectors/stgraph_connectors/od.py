"""Origin-destination matrices to demand between zones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError, nearest_name
from stgraph.graph import Feature, STGraph
from stgraph.report import Report
from stgraph_connectors._clock import Int64Array, check_zone
from stgraph_connectors._grid import Grid, GridOptions, to_grid
from stgraph_connectors._ids import ID_NAMES, match_ids, shorten
from stgraph_connectors._od_files import read_trips
from stgraph_connectors._places import PlaceOptions, read_places
from stgraph_connectors._signal import Readings
from stgraph_connectors._tables import Table
from stgraph_connectors._trips import Floats, TripOptions, Trips

OverTime = Literal["mean", "sum"]

_TITLE = "cannot read the OD matrix"
_ZONE_NAMES = (*ID_NAMES, "zone_id", "zone", "taz", "taz_id", "node", "cell_id")
_MOST_EDGES = 50_000_000
_MOST_CELLS = 500_000_000


def read_od(
    matrix: str | Path | pd.DataFrame,
    zones: str | Path | gpd.GeoDataFrame | pd.DataFrame | None = None,
    *,
    layer: str | None = None,
    id_column: str | None = None,
    lat_column: str | None = None,
    lon_column: str | None = None,
    x_column: str | None = None,
    y_column: str | None = None,
    crs: str | int | None = None,
    keep_empty: bool = True,
    matrix_name: str | None = None,
    matrix_ids: Sequence[object] | None = None,
    origin_column: str | None = None,
    destination_column: str | None = None,
    value_column: str | None = None,
    time_column: str | None = None,
    zone: str = "UTC",
    step_minutes: float | None = None,
    over_time: OverTime = "mean",
    unit: str = "trips",
    min_trips: float = 0.0,
    include_self: bool = True,
    ignore_unknown: bool = False,
    max_dense: int = 10_000,
) -> STGraph:
    """Read an origin-destination matrix and its zones into a graph of demand.

    Parameters
    ----------
    matrix
        A long table (origin, destination, trips and perhaps time), a square CSV with ids in its
        first line and column, npz (dense (N, N), (time, N, N), or of scipy.sparse), OMX (extra
        ``od``), TNTP trips, or a frame.
    zones
        Polygons or points, one row a zone, as `read_stations` takes stations. None makes zones
        without a place.
    layer
        Layer of a GeoPackage. None takes the only one.
    id_column
        Column of the zone ids. None guesses it by name.
    lat_column, lon_column, x_column, y_column, crs
        Coordinates of zones in a table without geometry, as for `read_stations`.
    keep_empty
        Whether zones that the matrix does not name stay, without trips.
    matrix_name
        Matrix of an OMX file, or array of an npz file. None takes the only one.
    matrix_ids
        Zone ids of the rows of a matrix that does not name them. None: the order of `zones`.
    origin_column, destination_column, value_column, time_column
        Columns of a long table. None guesses them by name.
    zone
        IANA zone of times that name none, and of the calendar.
    step_minutes
        Length of a step where there are times. None takes the most frequent difference.
    over_time
        Weight of an edge where there are times: ``"mean"`` trips per step, or their ``"sum"``.
    unit
        Unit of the trips, also of the edge weights.
    min_trips
        Leave out pairs with less; pairs with 0 trips are never edges.
    include_self
        Whether trips inside a zone are an edge. They count as productions and attractions.
    ignore_unknown
        Leave out trips from or to zones that the layer lacks, instead of refusing them.
    max_dense
        Largest number of zones of a dense matrix; above, sparse ways of storing it are named.

    Returns
    -------
    STGraph
        N zones with columns `productions` and `attractions` (sums of rows and of columns, all
        trips that belong to zones), an edge per pair origin -> destination with weight = trips,
        sorted by (target, source), and columns `origin`, `destination`, `trips`. With times: the
        features `productions` and `attractions` per step, and the columns are sums over time.

    Raises
    ------
    DataError
        Lists everything that cannot be used.
    MissingExtraError
        OMX needs ``stgraph-gis[od]``.
    """
    report = Report()
    _check_options(zone, over_time, min_trips, max_dense, report)
    report.raise_errors(DataError, title=_TITLE)
    places = PlaceOptions(
        layer,
        id_column,
        lat_column,
        lon_column,
        x_column,
        y_column,
        crs,
        missing="keep",
        id_names=_ZONE_NAMES,
    )
    found = None if zones is None else read_places(zones, places, report)
    trips = read_trips(
        matrix,
        TripOptions(matrix_name, matrix_ids, origin_column, destination_column, value_column,
                    time_column, zone, max_dense),
        report,
    )  # fmt: skip
    report.raise_errors(DataError, title=_TITLE)
    assert trips is not None  # noqa: S101 - else there was an error
    nodes = _bare_zones(trips) if found is None else found[0].assign(kind="zone")
    trips = _on_zones(trips, nodes, report, ignore_unknown=ignore_unknown)
    report.raise_errors(DataError, title=_TITLE)
    nodes, trips = _treat_empty(nodes, trips, report, keep=keep_empty)
    grid = None
    features: tuple[Feature, ...] = ()
    if trips.time_us is not None:
        grid = _signal(trips, len(nodes), step_minutes, zone, report)
        features = tuple(Feature(name, unit) for name in ("productions", "attractions"))
    report.raise_errors(DataError, title=_TITLE)
    nodes = nodes.assign(
        productions=np.bincount(trips.origin, trips.trips, len(nodes)),
        attractions=np.bincount(trips.destination, trips.trips, len(nodes)),
    )
    edges = _edges(trips, nodes.index, min_trips, include_self=include_self, report=report)
    report.raise_errors(DataError, title=_TITLE)
    weight = edges.trips
    if grid is not None and over_time == "mean":
        observed = int(np.isfinite(grid.values).any(axis=(1, 2)).sum())
        weight = weight / max(observed, 1)
    return _build(nodes, edges, weight, unit, grid, features, zone, matrix, zones, report)


def _check_options(
    zone: str, over_time: str, min_trips: float, max_dense: int, report: Report
) -> None:
    """Note options that cannot be."""
    check_zone(zone, report)
    if over_time not in get_args(OverTime):
        what = f"unknown value {over_time!r}{nearest_name(over_time, get_args(OverTime))}"
        report.error("`over_time`", what, f"use one of {list(get_args(OverTime))}")
    if not (isinstance(min_trips, int | float) and 0 <= min_trips < np.inf):
        report.error("`min_trips`", f"is {min_trips!r}", "give a number of at least 0")
    if not isinstance(max_dense, int) or max_dense < 1:
        report.error("`max_dense`", f"is {max_dense!r}", "give a whole number of at least 1")


# ---------------------------------------------------------------- zones


def _bare_zones(trips: Trips) -> gpd.GeoDataFrame:
    """Return zones without a place, as the matrix names them or numbered from 1."""
    ids = trips.ids if len(trips.ids) else np.arange(1, trips.n_zones + 1).astype(str)
    index = pd.Index(np.asarray(ids, dtype=object), name="zone_id")
    nowhere = gpd.GeoSeries(np.full(len(ids), None, dtype=object), index=index)
    return gpd.GeoDataFrame({"kind": "zone"}, index=index, geometry=nowhere)


def _on_zones(
    trips: Trips, nodes: gpd.GeoDataFrame, report: Report, *, ignore_unknown: bool
) -> Trips:
    """Return trips between positions in the layer, those of unknown zones refused or left out."""
    if len(trips.ids) == 0:
        if trips.n_zones != len(nodes):
            what = f"has {trips.n_zones} rows without ids, the layer has {len(nodes)} zones"
            report.error(trips.name, what, "name the rows with matrix_ids=")
            return trips
        what = "names no zones"
        report.info(trips.name, what, "its rows are taken in the order of the zones")
        return trips
    position = match_ids(trips.ids, nodes.index, name=trips.name, report=report, thing="ids")
    unknown = trips.ids[position < 0]
    origin, destination = position[trips.origin], position[trips.destination]
    kept = (origin >= 0) & (destination >= 0)
    if len(unknown):
        lost = float(trips.trips[~kept].sum())
        share = lost / max(float(trips.trips.sum()), 1e-12)
        what = f"{len(unknown)} zones are not in the layer: {shorten(unknown, 5)}"
        what += f", with {lost:,.1f} trips ({share:.1%})"
        if ignore_unknown and len(unknown) < len(trips.ids):
            report.warning(trips.name, what, "left out, as asked", count=len(unknown))
        else:
            todo = "correct id_column=, or pass ignore_unknown=True to leave their trips out"
            report.error(trips.name, what, todo, count=len(unknown))
    time_us = None if trips.time_us is None else trips.time_us[kept]
    return replace(
        trips, origin=origin[kept], destination=destination[kept], trips=trips.trips[kept],
        time_us=time_us, ids=trips.ids[position >= 0], n_zones=len(nodes),
    )  # fmt: skip


def _treat_empty(
    nodes: gpd.GeoDataFrame, trips: Trips, report: Report, *, keep: bool
) -> tuple[gpd.GeoDataFrame, Trips]:
    """Keep or drop the zones that the matrix does not name, and say so."""
    if len(trips.ids) == 0:
        return nodes, trips
    named = match_ids(trips.ids, nodes.index, name=trips.name, report=Report(), thing="ids")
    kept = np.unique(named[named >= 0])
    if len(kept) == len(nodes):
        return nodes, trips
    silent = np.setdiff1d(np.arange(len(nodes)), kept)
    what = f"{silent.size} zones are not in the matrix: {shorten(nodes.index[silent], 5)}"
    if keep:
        todo = "they have no trips; keep_empty=False leaves them out"
        report.warning("`zones`", what, todo, count=int(silent.size))
        return nodes, trips
    report.info("`zones`", what, "left out, as asked", count=int(silent.size))
    place = np.full(len(nodes), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    moved = replace(trips, origin=place[trips.origin], destination=place[trips.destination])
    return nodes.iloc[kept], moved


# ---------------------------------------------------------------- trips


@dataclass(frozen=True)
class _Edges:
    """Pairs with trips, sorted by (destination, origin)."""

    origin: Int64Array
    destination: Int64Array
    trips: Floats
    table: pd.DataFrame


def _edges(
    trips: Trips, ids: pd.Index, min_trips: float, *, include_self: bool, report: Report
) -> _Edges:
    """Return every pair once with all its trips."""
    n = len(ids)
    keys, codes = np.unique(trips.destination * n + trips.origin, return_inverse=True)
    total: Floats = np.bincount(codes, trips.trips, len(keys)).astype(np.float64)
    repeats = len(codes) - len(keys)
    if repeats and trips.time_us is None:
        what = f"{repeats} rows repeat a pair of zones"
        report.warning(trips.name, what, "their trips were added up", count=repeats)
    elif repeats and trips.time_us is not None:
        at = pd.DataFrame({"pair": codes, "time": trips.time_us}).duplicated()
        if count := int(at.sum()):
            what = f"{count} rows repeat a pair of zones at one time"
            report.warning(trips.name, what, "their trips were added up", count=count)
    destination, origin = np.divmod(keys, n)
    kept = (total > 0) & (total >= min_trips)
    if not include_self:
        kept &= origin != destination
    if (small := int(((total > 0) & (total < min_trips)).sum())) > 0:
        lost = float(total[total < min_trips].sum())
        what = f"{small} pairs have less than {min_trips:g} trips, {lost:,.1f} in all"
        report.info(trips.name, what, "no edges, as asked", count=small)
    if not kept.any():
        report.error(trips.name, "no pair of zones has trips", "check value_column= and min_trips=")
    if kept.sum() > _MOST_EDGES:
        what = f"would have {int(kept.sum()):,} edges"
        report.error(trips.name, what, "leave out small flows with min_trips=")
    origin, destination, total = origin[kept], destination[kept], total[kept]
    table = pd.DataFrame({"origin": ids[origin], "destination": ids[destination], "trips": total})
    return _Edges(origin, destination, total, table)


def _signal(
    trips: Trips, n_zones: int, step_minutes: float | None, zone: str, report: Report
) -> Grid | None:
    """Return productions and attractions per step; where nothing is listed, none were made."""
    assert trips.time_us is not None  # noqa: S101 - asked before
    seen = trips.time_us if trips.instants is None else trips.instants
    instants = np.unique(seen)
    if len(instants) == 0:
        report.error(trips.name, "has no trips at any time", "check the file")
        return None
    if len(instants) * n_zones * 2 > _MOST_CELLS:
        what = f"has {len(instants):,} instants for {n_zones:,} zones"
        report.error(trips.name, what, "read a part of it, or fewer zones")
        return None
    at = np.searchsorted(instants, trips.time_us)
    values: npt.NDArray[Any] = np.zeros((len(instants), n_zones, 2))
    for i, ends in enumerate((trips.origin, trips.destination)):
        flat = np.bincount(at * n_zones + ends, trips.trips, len(instants) * n_zones)
        values[:, :, i] = flat.reshape(len(instants), n_zones)
    table = Table(pd.DataFrame({"time": instants}), trips.name)
    readings = Readings(
        time=instants, stations=np.arange(n_zones), values=values,
        features=("productions", "attractions"), rows=np.arange(len(instants)), tables=(table,),
        lengths=(len(instants),),
    )  # fmt: skip
    return to_grid(readings, n_zones, GridOptions(step_minutes, "sum", zone=zone), report)


def _build(
    nodes: gpd.GeoDataFrame,
    edges: _Edges,
    weight: Floats,
    unit: str,
    grid: Grid | None,
    features: tuple[Feature, ...],
    zone: str,
    matrix: object,
    zones: object,
    report: Report,
) -> STGraph:
    """Put the parts together."""
    provenance: dict[str, Any] = {
        "connector": "od",
        "source": {"matrix": _name(matrix), "zones": _name(zones)},
        "findings": report.to_json(),
    }
    parts: dict[str, Any] = {}
    if grid is not None:
        parts = {"time": grid.time, "values": grid.values, "features": features}
        provenance["step_minutes"] = grid.step_minutes
    return STGraph(
        nodes=nodes,
        edge_index=np.stack([edges.origin, edges.destination]),
        edge_weight=weight.astype(np.float32),
        weight_unit=unit,
        edges=edges.table,
        zone=zone,
        provenance=provenance,
        **parts,
    )


def _name(source: object) -> str | None:
    """Return the name of a source without its folder."""
    if source is None:
        return None
    return Path(source).name if isinstance(source, str | Path) else type(source).__name__
