"""Write a graph as a GeoPackage that QGIS opens coloured and time-enabled, and read it back."""

from __future__ import annotations

import itertools
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyogrio

from stgraph.errors import DataError, InputError
from stgraph.graph import STGraph
from stgraph_connectors.qgis import format_sparkline, geometry_kind
from stgraph_connectors.sinks import _gpkg
from stgraph_connectors.sinks._document import (
    as_written,
    decode_nodes,
    describe_graph,
    encode_nodes,
    is_forecast,
    parse_document,
    restore_graph,
)
from stgraph_connectors.sinks._edges import decode_edges, encode_edges
from stgraph_connectors.sinks._files import existing_file, written_aside
from stgraph_connectors.sinks._gpkg_styles import (
    LayerNames,
    add_metric_styles,
    add_quiet_styles,
    add_value_styles,
    describe_layer,
)
from stgraph_connectors.sinks._tables import safe_names
from stgraph_connectors.styles import Style, class_names, feature_title, main_feature

logger = logging.getLogger(__name__)

_FORECAST = LayerNames("forecast", "target_time", "horizon")
_OBSERVATION = LayerNames("observation", "time", "step")
_ERRORS, _METRICS = "error_by_node", "node_metric"
_ROWS_AT_ONCE = 100_000
_OWN = ("fid", "ogc_fid", "geom", "node_fid", "node_id", "trend", "local_time", "issued_at")
_STEP = ("step", "horizon", "time", "target_time")


def write_geopackage(
    graph: STGraph,
    target: str | Path,
    *,
    style: Style | None = None,
    node_metrics: pd.DataFrame | None = None,
    edges: bool = True,
    overwrite: bool = True,
) -> Path:
    """Write a graph as a GeoPackage whose layers arrive in QGIS coloured and with time.

    The layer `forecast` (for readings: `observation`) has a row per node and step: a view of
    `nodes`, where each geometry is kept once, and the table `forecast_value`.

    Parameters
    ----------
    graph
        A forecast, readings, or a graph without signal.
    target
        A ``.gpkg`` file; it appears complete or not at all.
    style
        Which feature is coloured, and how. None chooses from the data.
    node_metrics
        Numbers per node (MAE, skill, ...) indexed by node id, for the layer `error_by_node`.
    edges
        Write the edges as lines, with weight and unit.
    overwrite
        Replace an existing file; programs that have it open go on reading the old one.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    InputError
        The path is no ``.gpkg`` file, or `style` or `node_metrics` do not fit the graph.
    OutputError
        The file could not be written; nothing was left behind.
    """
    names = _FORECAST if is_forecast(graph) else _OBSERVATION
    signal = graph.n_steps > 0 and graph.n_features > 0
    shown = main_feature(graph, style).name if signal else None
    metrics = None if node_metrics is None else _check_metrics(node_metrics, graph)
    document = describe_graph(graph, reserved=(*_OWN, *_STEP))
    columns, document["nodes"] = encode_nodes(graph.nodes, reserved=_reserved(document))
    document["nodes"]["multi"] = _gpkg.multi_positions(graph.nodes.geometry.to_numpy())
    kind = geometry_kind(list(graph.nodes.geometry.geom_type))
    with written_aside(target, suffixes=(".gpkg",), overwrite=overwrite) as path:
        _write_nodes(path, graph, columns, shown=shown)
        document["edges"] = _write_edges(path, graph) if edges and graph.n_edges else None
        with closing(_gpkg.open_for_bulk(path)) as db, db:
            _gpkg.create_extras(db)
            if signal:
                _write_values(db, graph, names, document)
                _write_view(db, graph, names, document, [*columns, "trend"])
                rows = document["features"]
                add_value_styles(db, graph, names, rows, geometry=kind, style=style)
            if metrics is not None:
                written = _write_metrics(db, metrics, list(columns))
                add_metric_styles(db, graph, _ERRORS, metrics, written, geometry=kind)
            add_quiet_styles(db, graph, geometry=kind, edges=document["edges"] is not None)
            _gpkg.add_document(db, document)
            db.execute("ANALYZE")
    return Path(target)


def read_geopackage(source: str | Path) -> STGraph:
    """Read a GeoPackage that `write_geopackage` wrote.

    Parameters
    ----------
    source
        The ``.gpkg`` file.

    Returns
    -------
    STGraph
        The graph as it was written; without edges if they were left out.

    Raises
    ------
    DataError
        The file is missing, damaged, or was not written by `write_geopackage`.
    """
    path = existing_file(source)
    try:
        with closing(_gpkg.open_to_read(path)) as db:
            document = parse_document(_gpkg.read_document(db), source=repr(str(source)))
            with as_written(repr(str(source))):
                return _read_graph(db, path, document)
    except (sqlite3.Error, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise DataError(
            f"{str(source)!r} is no readable GeoPackage ({error}); write it again"
        ) from error


# ------------------------------------------------------------------------------- nodes and edges


def _reserved(document: dict[str, Any]) -> tuple[str, ...]:
    """Return the column names that a view beside the node attributes already has."""
    features = [f[key] for f in document["features"] for key in ("column", "observed") if f[key]]
    return (*_OWN, *_STEP, *features)


def _write_nodes(path: Path, graph: STGraph, columns: dict[str, Any], *, shown: str | None) -> None:
    """Write the nodes, each geometry once, with the course of a feature as a line of blocks."""
    missing = int(graph.nodes.geometry.isna().sum())
    note = f"{graph.n_nodes} nodes"
    if missing:
        note += f", {missing} of them without geometry"
        logger.warning("%d of %d nodes have no geometry: kept, not drawn", missing, graph.n_nodes)
    table = dict(columns)
    if shown is not None:
        course = graph.values[:, :, graph.feature_names.index(shown)]
        table["trend"] = np.array(format_sparkline(course), dtype=object)
    _write_layer(path, _gpkg.NODES, table, graph.nodes.geometry.to_numpy(), graph.nodes.crs, note)


def _write_edges(path: Path, graph: STGraph) -> dict[str, Any]:
    """Write the edges as lines and return the notes to undo it."""
    columns, lines, notes = encode_edges(graph)
    note = f"{graph.n_edges} edges, weight in {graph.weight_unit!a}"
    _write_layer(path, _gpkg.EDGES, columns, lines.to_numpy(), lines.crs, note)
    return notes | {"multi": _gpkg.multi_positions(lines.to_numpy())}


def _write_layer(
    path: Path, layer: str, columns: dict[str, Any], geometry: Any, crs: Any, description: str
) -> None:
    """Add a layer with GDAL, which knows geometries, reference systems and spatial indexes."""
    # without any geometry there may be no reference system; the document remembers that
    shapes = gpd.GeoSeries(geometry, crs=crs or "EPSG:4326")
    frame = gpd.GeoDataFrame(columns, geometry=shapes)
    pyogrio.write_dataframe(
        frame,
        path,
        layer=layer,
        driver="GPKG",
        dataset_options={"VERSION": "1.3"},  # QGIS 3.22 warns about 1.4
        layer_options={"FID": "fid", "GEOMETRY_NAME": "geom", "DESCRIPTION": description},
        geometry_type=None if shapes.notna().any() else "Unknown",
    )


# ---------------------------------------------------------------------------- values over time


def _write_values(
    db: sqlite3.Connection, graph: STGraph, names: LayerNames, document: dict[str, Any]
) -> None:
    """Write the small table of steps and the long table of values, and index it."""
    local = graph.time.tz_convert(graph.zone).strftime("%Y-%m-%d %H:%M %Z")
    issued = graph.provenance.get("issued_at")
    issued_at = None if issued is None else _instants(pd.DatetimeIndex([issued]))[0]
    steps = zip(
        range(1, graph.n_steps + 1), _instants(graph.time), local, itertools.repeat(issued_at)
    )
    _gpkg.create_table(
        db,
        names.steps,
        {names.step: "", names.time: "DATETIME", "local_time": "TEXT", "issued_at": "DATETIME"},
        steps,
        description=f"The time steps, local time in {graph.zone}",
    )
    columns = {"fid": "", "node_fid": "INTEGER NOT NULL", names.step: "INTEGER NOT NULL"}
    columns[names.time] = "DATETIME NOT NULL"
    for feature in document["features"]:
        columns[feature["column"]] = "FLOAT"
        if feature["observed"]:
            columns[feature["observed"]] = "BOOLEAN"
    description = f"{names.layer.capitalize()} values, one row per node and step"
    rows = _value_rows(graph, document)
    _gpkg.create_table(db, names.values, columns, rows, description=description)
    name = _gpkg.quoted(names.values)
    db.execute(f"CREATE INDEX {names.values}_time ON {name} ({names.time})")
    db.execute(f"CREATE UNIQUE INDEX {names.values}_node ON {name} (node_fid, {names.step})")


def _value_rows(graph: STGraph, document: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the value table, one step after the other."""
    marked = [feature["observed"] is not None for feature in document["features"]]
    node_fids = range(1, graph.n_nodes + 1)
    for t, instant in enumerate(_instants(graph.time)):
        first = t * graph.n_nodes + 1
        columns: list[Any] = []
        for i, mark in enumerate(marked):
            columns.append(_shortest(graph.values[t, :, i]).tolist())
            if mark:
                columns.append(graph.mask[t, :, i].tolist())
        keys = (
            range(first, first + graph.n_nodes),
            node_fids,
            itertools.repeat(t + 1),
            itertools.repeat(instant),
        )
        yield from zip(*keys, *columns, strict=False)  # the repeated ones have no end


def _instants(time: pd.DatetimeIndex) -> list[str]:
    """Return instants as GeoPackage 1.3 spells them: UTC with three decimals."""
    utc = time.tz_localize("UTC") if time.tz is None else time.tz_convert("UTC")
    whole = utc.strftime("%Y-%m-%dT%H:%M:%S")
    return [f"{text}.{us // 1000:03d}Z" for text, us in zip(whole, utc.microsecond, strict=True)]


def _shortest(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return float64 numbers that print short (412.4) and are the same float32."""
    exact = values.astype(np.float64)
    result = exact.copy()
    todo = np.isfinite(exact) & (exact != 0)
    magnitude = np.zeros_like(exact)
    magnitude[todo] = np.floor(np.log10(np.abs(exact[todo])))
    for digits in (6, 7, 8):
        scale = 10.0 ** (digits - magnitude[todo])
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = np.round(exact[todo] * scale) / scale
            same = rounded.astype(np.float32) == values[todo]
        where = np.flatnonzero(todo)
        result[where[same]] = rounded[same]
        todo[where[same]] = False
    return result


def _write_view(
    db: sqlite3.Connection,
    graph: STGraph,
    names: LayerNames,
    document: dict[str, Any],
    node_columns: list[str],
) -> None:
    """Create the layer: values joined to geometry, attributes and local time."""
    values = [f[key] for f in document["features"] for key in ("column", "observed") if f[key]]
    # the nodes' own fid, so that GDAL finds their spatial index
    parts = ["v.fid AS OGC_FID", "n.geom AS geom", "n.fid AS node_fid"]
    parts += [f"n.{_gpkg.quoted(c)} AS {_gpkg.quoted(c)}" for c in node_columns]
    parts += [f"v.{names.time} AS {names.time}", "s.local_time AS local_time"]
    parts += [f"v.{names.step} AS {names.step}", "s.issued_at AS issued_at"]
    parts += [f"v.{_gpkg.quoted(c)} AS {_gpkg.quoted(c)}" for c in values]
    select = (
        f"SELECT {', '.join(parts)} FROM {names.values} v "  # noqa: S608
        f"JOIN nodes n ON n.fid = v.node_fid "
        f"JOIN {names.steps} s ON s.{names.step} = v.{names.step}"
    )
    _gpkg.create_spatial_view(
        db,
        names.layer,
        select,
        description=describe_layer(graph, names),
        n_rows=graph.n_steps * graph.n_nodes,
    )
    titles, classes = zip(document["features"], graph.features, strict=True), class_names(graph)
    notes = {feature["column"]: feature_title(of, classes=classes) for feature, of in titles}
    for table in (names.layer, names.values):
        _gpkg.add_column_notes(db, table, notes)


# ------------------------------------------------------------------------------ numbers per node


def _check_metrics(metrics: pd.DataFrame, graph: STGraph) -> pd.DataFrame:
    """Return the numeric metrics in the order of the nodes, or say what does not fit."""
    unknown = metrics.index.difference(graph.node_ids)
    if len(unknown) or metrics.index.has_duplicates:
        raise InputError(
            f"`node_metrics` must have one row per node id; unknown: {list(unknown[:5])}, "
            f"ids look like {list(graph.node_ids[:3])}"
        )
    numeric = metrics.select_dtypes(include=["number", "bool"]).reindex(graph.node_ids)
    if numeric.shape[1] == 0:
        raise InputError(f"`node_metrics` has no numeric column among {list(metrics.columns)}")
    return numeric.astype(float)


def _write_metrics(
    db: sqlite3.Connection, metrics: pd.DataFrame, node_columns: list[str]
) -> list[str]:
    """Write the metrics as a table and a layer, and return their column names."""
    columns = safe_names([str(m) for m in metrics.columns], reserved=(*_OWN, *_STEP, *node_columns))
    table = metrics.to_numpy(dtype=float)
    rows = ((i + 1, *row) for i, row in enumerate(table.tolist()))
    kinds = {"fid": ""} | dict.fromkeys(columns, "REAL")
    _gpkg.create_table(db, _METRICS, kinds, rows, description="Numbers per node")
    parts = ["n.fid AS OGC_FID", "n.geom AS geom"]
    parts += [f"n.{_gpkg.quoted(c)} AS {_gpkg.quoted(c)}" for c in node_columns]
    parts += [f"m.{_gpkg.quoted(c)} AS {_gpkg.quoted(c)}" for c in columns]
    select = f"SELECT {', '.join(parts)} FROM nodes n JOIN {_METRICS} m ON m.fid = n.fid"  # noqa: S608
    description = "Error measures per node"
    _gpkg.create_spatial_view(db, _ERRORS, select, description=description, n_rows=len(table))
    return columns


# ------------------------------------------------------------------------------------- reading


def _read_graph(db: sqlite3.Connection, path: Path, document: dict[str, Any]) -> STGraph:
    """Return the graph of an open file."""
    columns = _read_columns(db, _gpkg.NODES)
    shapes = _gpkg.read_shapes(columns["geom"], multi=document["nodes"]["multi"])
    nodes = decode_nodes(columns, shapes, document)
    values, mask = _read_values(db, document, len(nodes), source=str(path))
    parts: dict[str, Any] = {"edge_index": None, "edge_weight": None, "edges": None}
    if document["edges"] is not None:
        columns = _read_columns(db, _gpkg.EDGES)
        lines = _gpkg.read_shapes(columns["geom"], multi=document["edges"]["multi"])
        edge_index, weight, table = decode_edges(columns, lines, document["edges"])
        parts = {"edge_index": edge_index, "edge_weight": weight, "edges": table}
    return restore_graph(document, nodes=nodes, values=values, mask=mask, **parts)


def _read_columns(db: sqlite3.Connection, table: str) -> dict[str, list[Any]]:
    """Return all columns of a table in the order of its rows."""
    cursor = db.execute(f"SELECT * FROM {_gpkg.quoted(table)} ORDER BY fid")  # noqa: S608
    names = [column[0] for column in cursor.description]
    rows = cursor.fetchall()
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _read_values(
    db: sqlite3.Connection, document: dict[str, Any], n_nodes: int, *, source: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return values and mask, (T, N, F) each."""
    features = document["features"]
    n_steps = document["n_steps"]
    values = np.full((n_steps * n_nodes, len(features)), np.nan, dtype=np.float32)
    if not n_steps or not features:
        shaped = values.reshape(n_steps, n_nodes, len(features))
        return shaped, np.isfinite(shaped)
    marks = [(i, f["observed"]) for i, f in enumerate(features) if f["observed"]]
    observed = np.zeros((len(values), len(marks)), dtype=bool)
    wanted = [f["column"] for f in features] + [name for _, name in marks]
    names = _FORECAST if document["provenance"].get("kind") == "forecast" else _OBSERVATION
    cursor = db.execute(
        f"SELECT {', '.join(map(_gpkg.quoted, wanted))} FROM {names.values} ORDER BY fid"  # noqa: S608
    )
    row = 0
    while block := cursor.fetchmany(_ROWS_AT_ONCE):
        table = np.array(block, dtype=np.float64)
        if row + len(table) > len(values):
            row += len(table)
            break
        values[row : row + len(table)] = table[:, : len(features)]
        observed[row : row + len(table)] = table[:, len(features) :] > 0
        row += len(table)
    if row != len(values):
        raise DataError(
            f"{source!r} has {row} value rows for {n_steps} steps of {n_nodes} nodes; "
            "rows were added or deleted, write it again"
        )
    mask = np.isfinite(values)
    for k, (i, _) in enumerate(marks):
        mask[:, i] = observed[:, k]
    shape = (n_steps, n_nodes, len(features))
    return values.reshape(shape), mask.reshape(shape)
