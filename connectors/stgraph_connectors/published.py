"""The data sets that forecasts of traffic are published on, from the files they are given as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError, nearest_name
from stgraph.graph import Feature, STGraph
from stgraph.neighbours.tables import build_from_distances, match_ids
from stgraph.report import Report
from stgraph_connectors._adjacency import Links, read_links
from stgraph_connectors._arrays import pick, read_npz
from stgraph_connectors._hdf import read_hdf
from stgraph_connectors._places import PlaceOptions, read_places
from stgraph_connectors._tables import check_path, plain_suffix, read_table

Name = Literal["metr-la", "pems-bay", "pems03", "pems04", "pems07", "pems08"]

_STEP = pd.Timedelta(minutes=5)
_PACIFIC = "America/Los_Angeles"
_STANDARD = "Etc/GMT+8"  # its standard time all year
_HDF = (".h5", ".hdf", ".hdf5")
_NO_DISTANCE = (".npz", ".pkl", ".pickle")  # a matrix


@dataclass(frozen=True)
class _Facts:
    """What is known of a data set: its size, and what its file may not say."""

    n_steps: int
    n_nodes: int
    feature: str
    unit: str
    start: str  # wall clock of the first step, by the literature; files of HDF say it themselves
    has_distances: bool  # its table of costs is of road distances between many pairs
    in_folder: tuple[str, ...] = ()  # names of its graph in a folder, the best first
    places: tuple[str, ...] = ()  # and of its table of places


_DCRNN = ("adj_mx.pkl", "adj_METR-LA.pkl", "adj_mx.npz", "distances_la_2012.csv")
_DCRNN_BAY = (
    "adj_mx_bay.pkl", "adj_PEMS-BAY.pkl", "adj_mx.pkl", "adj_mx.npz", "distances_bay_2017.csv",
    "distances.csv.gz",
)  # fmt: skip
_FACTS: dict[str, _Facts] = {
    "metr-la": _Facts(
        34_272, 207, "speed", "mph", "2012-03-01", True, _DCRNN,
        ("graph_sensor_locations.csv", "sensors.csv"),
    ),
    "pems-bay": _Facts(
        52_116, 325, "speed", "mph", "2017-01-01", True, _DCRNN_BAY,
        ("graph_sensor_locations_bay.csv", "sensors.csv"),
    ),
    "pems03": _Facts(26_208, 358, "flow", "veh/5 min", "2018-09-01", False, ("PEMS03.csv",)),
    "pems04": _Facts(16_992, 307, "flow", "veh/5 min", "2018-01-01", False, ("PEMS04.csv",)),
    "pems07": _Facts(28_224, 883, "flow", "veh/5 min", "2017-05-01", False, ("PEMS07.csv",)),
    "pems08": _Facts(17_856, 170, "flow", "veh/5 min", "2016-07-01", False, ("PEMS08.csv",)),
}  # fmt: skip


def read_published(
    path: str | Path,
    *,
    dataset: Name,
    graph: str | Path | None = None,
    places: str | Path | None = None,
    ids: str | Path | None = None,
) -> STGraph:
    """Read METR-LA, PEMS-BAY or PEMS03/04/07/08 from the files they are published as.

    Parameters
    ----------
    path
        ``metr-la.h5`` or ``pems-bay.h5``, frames in pandas' fixed HDF layout, which are read
        without unpickling; or an npz with `data` (T, N, F), of which the first feature is read.
    dataset
        Which it is.
    graph
        ``adj_mx.pkl``, an npz or CSV matrix, the table of distances (``from, to, cost``), or the
        folder that holds one of them. None makes no edges.
    places
        Table of the sensors' coordinates. None looks for it beside `graph`; without it the nodes
        have no place.
    ids
        Text file with the id of a sensor a line, in the order of the columns, as PEMS03 needs to
        understand its links. None: the file's own names, or numbers from 0.

    Returns
    -------
    STGraph
        N sensors, T steps of 5 minutes, one target; an exact 0 is a missing reading. The edges
        are those of a matrix as it is; those of METR-LA's and PEMS-BAY's distances have DCRNN's
        Gaussian weights; the links of the others weigh 1.

    Raises
    ------
    DataError
        Lists everything that cannot be used: file, what, and what to do.

    Notes
    -----
    One row of the file is one step, as in the published protocol. PEMS-BAY keeps the wall clock of
    Los Angeles and skips an hour in March; METR-LA has 288 rows each day, and so have the others:
    these keep one offset all year. An npz has no clock; it starts when the literature says:
    2018-09-01 (PEMS03), 2018-01-01 (PEMS04), 2017-05-01 (PEMS07), 2016-07-01 (PEMS08).
    """
    report = Report()
    if dataset not in get_args(Name):
        what = f"unknown data set {dataset!r}{nearest_name(dataset, get_args(Name))}"
        report.error("`dataset`", what, f"use one of {list(get_args(Name))}")
    title = f"cannot read {dataset}"
    report.raise_errors(DataError, title=title)
    facts = _FACTS[dataset]
    signal = _read_signal(path, facts, ids, report)
    links_path, places_path = _find_graph(graph, places, facts, report)
    if signal is not None:
        _check_size(signal, dataset, Path(path).name, report)
    report.raise_errors(DataError, title=title)
    if signal is None:
        raise DataError(f"{title}: {Path(path).name} holds no readings")
    nodes = _read_nodes(places_path, signal.ids, report)
    bare = STGraph(
        nodes=nodes,
        time=signal.time,
        values=signal.values,
        features=(Feature(facts.feature, facts.unit),),
        zone=signal.zone,
    )
    built = bare if links_path is None else _connect(bare, links_path, facts, report)
    report.raise_errors(DataError, title=title)
    provenance = {
        "connector": "published",
        "source": {"readings": [Path(path).name], "dataset": dataset},
        "complete": signal.values.shape[:2] == (facts.n_steps, facts.n_nodes),
        "findings": report.to_json(),
    }
    return built.replace(provenance={**built.provenance, **provenance})


# ---------------------------------------------------------------- readings


@dataclass(frozen=True)
class _Signal:
    """Readings of all sensors, a row a step."""

    time: pd.DatetimeIndex
    zone: str
    values: npt.NDArray[np.float32]  # (T, N, 1), NaN where missing
    ids: list[str]


def _read_signal(
    path: str | Path, facts: _Facts, ids: str | Path | None, report: Report
) -> _Signal | None:
    """Return the readings of a file, or None when it cannot be used, as `report` says."""
    found = check_path(path, report, role="path", suffixes=(*_HDF, ".npz"))
    names = None if ids is None else _read_ids(ids, report)
    if found is None:
        return None
    if plain_suffix(found) == ".npz":
        values = _read_cube(found, report)
        wall = None if values is None else _regular(facts.start, len(values))
        own = None if values is None else [str(i) for i in range(values.shape[1])]
    else:
        frame = read_hdf(found, report, key=None)
        values = None if frame is None else frame.to_numpy(dtype=np.float32)
        wall = None if frame is None else pd.DatetimeIndex(frame.index)
        own = None if frame is None else [str(name) for name in frame.columns]
    if values is None or wall is None or own is None:
        return None
    if names is not None and len(names) != len(own):
        what = f"names {len(names)} sensors, {found.name} has {len(own)}"
        report.error(Path(str(ids)).name, what, "give the ids that belong to the readings")
        return None
    time, zone = _as_steps(wall, found.name, report)
    if not np.isfinite(values).any() or not values.any():
        report.error(found.name, "holds no reading other than 0", "download it again")
        return None
    zeros = values == 0
    count = int(zeros.sum())
    what = f"{count:,} readings ({zeros.mean():.2%}) are exactly 0"
    report.info(found.name, what, "taken as missing, as all publications do", count=count)
    signal = np.where(zeros | ~np.isfinite(values), np.float32(np.nan), values)
    return _Signal(time, zone, signal[..., None], own if names is None else names)


def _read_cube(path: Path, report: Report) -> npt.NDArray[np.float32] | None:
    """Return the first feature (T, N) of an npz with `data`."""
    arrays = read_npz(path, report)
    data = None if arrays is None else pick(arrays, ("data",), name=path.name, report=report)
    if data is None:
        return None
    if data.ndim not in (2, 3) or not data.size or data.dtype.kind not in "fiu":
        what = f"has shape {data.shape} and dtype {data.dtype}"
        report.error(f"{path.name}, `data`", what, "it must be numbers (steps, sensors, features)")
        return None
    values: npt.NDArray[np.float32] = (data if data.ndim == 2 else data[..., 0]).astype(np.float32)
    return values


def _read_ids(ids: str | Path, report: Report) -> list[str] | None:
    """Return the ids of a text file, one a line or separated by commas."""
    path = check_path(ids, report, role="ids", suffixes=(".txt", ".csv"))
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        report.error(path.name, f"cannot be read ({error})", "write one id a line, in UTF-8")
        return None
    return text.replace(",", "\n").split()


def _regular(start: str, n_steps: int) -> pd.DatetimeIndex:
    """Return a wall clock without changes."""
    return pd.date_range(start, periods=n_steps, freq=_STEP, unit="us")


def _as_steps(wall: pd.DatetimeIndex, name: str, report: Report) -> tuple[pd.DatetimeIndex, str]:
    """Return a step of 5 minutes for every row, and the zone in which their times are local."""
    if wall.tz is not None:
        wall = wall.tz_convert(_PACIFIC).tz_localize(None)
    aware = wall.tz_localize(_PACIFIC, ambiguous="NaT", nonexistent="NaT").tz_convert("UTC")
    for zone, instants in ((_STANDARD, wall.tz_localize(_STANDARD)), (_PACIFIC, aware)):
        if (instants[1:] - instants[:-1] == _STEP).all():
            steps = pd.date_range(instants[0], periods=len(wall), freq=_STEP, unit="us")
            return steps.tz_convert("UTC"), zone
    odd = np.flatnonzero(wall[1:] - wall[:-1] != _STEP)
    what = (
        f"{len(odd)} rows are not 5 minutes after the one before, the first at {wall[odd[0] + 1]}"
    )
    todo = "every row was taken as one step, as published protocols do; later times are off"
    report.warning(name, what, todo, count=len(odd))
    steps = _regular(str(wall[0]), len(wall)).tz_localize(_STANDARD)
    return steps.tz_convert("UTC"), _STANDARD


def _check_size(signal: _Signal, dataset: str, name: str, report: Report) -> None:
    """Refuse a file of another data set; say what cannot be compared of a part of this one."""
    facts, (n_steps, n_nodes, _) = _FACTS[dataset], signal.values.shape
    same = [other for other, its in _FACTS.items() if its.n_nodes == n_nodes]
    what = f"has {n_steps:,} steps of {n_nodes} sensors, {dataset} has {facts.n_steps:,} of "
    what += f"{facts.n_nodes}"
    if same and dataset not in same:
        report.error(name, what, f"this looks like {same[0]}: say so, or give the other file")
    elif (n_steps, n_nodes) != (facts.n_steps, facts.n_nodes):
        report.warning(name, what, "errors on it compare with nothing that is published")


# ---------------------------------------------------------------- graph


def _find_graph(
    graph: str | Path | None, places: str | Path | None, facts: _Facts, report: Report
) -> tuple[Path | None, Path | None]:
    """Return the file of the links and that of the places, where there are any."""
    places_path = None if places is None else check_path(
        places, report, role="places", suffixes=None
    )  # fmt: skip
    if graph is None:
        report.warning("`graph`", "is not given", "there are no edges; give adj_mx.pkl or links")
        return None, places_path
    path = Path(graph)
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        found = [path / name for name in facts.in_folder if (path / name).is_file()]
        if not found:
            what = f"the folder has none of {list(facts.in_folder)}"
            report.error(path.name, what, "name the file of the graph")
            return None, places_path
        path = found[0]
    if places_path is None and places is None:
        beside = [folder / name for name in facts.places if (folder / name).is_file()]
        places_path = beside[0] if beside else None
    return path, places_path


def _read_nodes(path: Path | None, ids: Sequence[str], report: Report) -> gpd.GeoDataFrame:
    """Return the sensors in their order, at their places where these are known."""
    index = pd.Index(list(ids), name="sensor_id", dtype=object)
    known = None if path is None else read_places(path, PlaceOptions(missing="keep"), report)
    points = np.full(len(index), None, dtype=object)
    crs: Any = 4326
    if known is not None and path is not None:
        crs = known[0].crs
        points = np.asarray(known[0].geometry.reindex(index), dtype=object)
        lost = index[[point is None for point in points]]
        if len(lost):
            what = f"{len(lost)} of {len(index)} sensors have no place there, such as {lost[0]!r}"
            report.warning(path.name, what, "they were kept without a place", count=len(lost))
    return gpd.GeoDataFrame({"kind": "station"}, index=index, geometry=points, crs=crs)


def _connect(graph: STGraph, path: Path, facts: _Facts, report: Report) -> STGraph:
    """Return the graph with the edges of a file."""
    if facts.has_distances and plain_suffix(path) not in _NO_DISTANCE:
        table = _read_distances(path, report)
        if table is not None and _knows_sensors(table, graph.node_ids, path.name, report):
            source, target, length = (str(name) for name in table.columns)
            return build_from_distances(
                graph, table, source_column=source, target_column=target, length_column=length,
                ignore_unknown=True,
            )  # fmt: skip
        if report.errors:
            return graph
    links: Links | None = read_links(path, graph.node_ids, None, report)
    if links is None:
        return graph
    weight = links.weight if facts.has_distances else np.ones_like(links.weight)
    return graph.replace(edge_index=links.index, edge_weight=weight, weight_unit="1")


def _knows_sensors(table: pd.DataFrame, ids: pd.Index[Any], name: str, report: Report) -> bool:
    """Say how many links name sensors without readings; tables of a larger area do."""
    ends = table.iloc[:, :2]
    known = np.stack([match_ids(ends[column], ids) >= 0 for column in ends.columns], axis=1)
    lost = int((~known.all(axis=1)).sum())
    strange = pd.unique(ends.to_numpy()[~known])
    if lost == len(ends):
        what = f"none of its {lost:,} links joins two sensors of the readings; it names "
        what += f"{list(strange[:3])}, they are {list(ids[:3])}"
        report.error(name, what, "give the distances of these sensors, or `ids` of the readings")
    elif lost:
        what = f"{lost:,} of {len(ends):,} links name {len(strange):,} sensors without readings, "
        what += f"such as {strange[0]!r}"
        report.warning(name, what, "these links were left out", count=lost)
    return lost < len(ends)


def _read_distances(path: Path, report: Report) -> pd.DataFrame | None:
    """Return the table of road distances, None if the file is a matrix."""
    table = read_table(path, report, role="graph", text=("from", "to"))
    if table is None or table.headless or len(table.frame.columns) != 3:
        return None
    frame: Any = table.frame.copy()
    for name in frame.columns[:2]:
        frame[name] = frame[name].astype(str)
    frame[frame.columns[2]] = pd.to_numeric(frame[frame.columns[2]], errors="coerce")
    bad = int(frame[frame.columns[2]].isna().sum())
    if bad:
        report.error(table.column(frame.columns[2]), f"{bad} cells are no numbers", "correct them")
        return None
    return pd.DataFrame(frame)
