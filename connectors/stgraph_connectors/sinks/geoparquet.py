"""Write a graph as one GeoParquet table, a row per node and step, and read it back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from stgraph.errors import DataError
from stgraph.graph import STGraph
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

_KEY, _EDGES = b"stgraph", b"stgraph:edges"
_OWN = ("geometry", "node_id", "time", "target_time", "horizon", "step", "local_time", "issued_at")
_ROW_GROUP = 250_000
_DICTIONARY_BYTES = 64 * 2**20  # keep repeated geometries as numbers, also long lines


def write_geoparquet(
    graph: STGraph, target: str | Path, *, edges: bool = True, overwrite: bool = True
) -> Path:
    """Write a graph as one GeoParquet file with a row per node and step.

    Geometry and node attributes stand in every row, as GIS tools expect, but are stored as
    numbers of a dictionary. Edges travel in the file's metadata.

    Parameters
    ----------
    graph
        A forecast, readings, or a graph without signal (then a row per node).
    target
        A ``.parquet`` or ``.geoparquet`` file; it appears complete or not at all.
    edges
        Keep the edges in the file's metadata, for `read_geoparquet`.
    overwrite
        Replace an existing file.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    InputError
        The path has another ending or is a folder.
    OutputError
        The file could not be written; nothing was left behind.
    """
    with written_aside(target, suffixes=(".parquet", ".geoparquet"), overwrite=overwrite) as path:
        document = describe_graph(graph, reserved=_OWN)
        taken = [f[key] for f in document["features"] for key in ("column", "observed") if f[key]]
        columns, document["nodes"] = encode_nodes(graph.nodes, reserved=(*_OWN, *taken))
        metadata = {b"geo": _geo_metadata(graph)}
        document["edges"] = None
        if edges and graph.n_edges:
            metadata[_EDGES], document["edges"] = _pack_edges(graph)
        metadata[_KEY] = json.dumps({**document, "n_nodes": graph.n_nodes}).encode()
        _write_rows(path, graph, document, columns, metadata)
    return Path(target)


def read_geoparquet(source: str | Path) -> STGraph:
    """Read a GeoParquet file that `write_geoparquet` wrote.

    Parameters
    ----------
    source
        The ``.parquet`` or ``.geoparquet`` file.

    Returns
    -------
    STGraph
        The graph as it was written; without edges if they were left out.

    Raises
    ------
    DataError
        The file is missing, damaged, or was not written by `write_geoparquet`.
    """
    path = existing_file(source)
    try:
        with pq.ParquetFile(path) as file, as_written(repr(str(source))):
            return _read_graph(file, source=repr(str(source)))
    except pa.ArrowException as error:
        raise DataError(
            f"{str(source)!r} is no readable Parquet file ({error}); write it again"
        ) from error


def _geo_metadata(graph: STGraph) -> bytes:
    """Return the ``geo`` metadata of GeoParquet 1.0."""
    shapes = graph.nodes.geometry.to_numpy()
    known = shapes[shapely.is_geometry(shapes)]
    crs = graph.nodes.crs
    types = {f"{shape.geom_type}{' Z' if shape.has_z else ''}" for shape in known}
    column: dict[str, Any] = {
        "encoding": "WKB",
        "crs": None if crs is None else crs.to_json_dict(),
        "geometry_types": sorted(types),
    }
    if len(known):
        column["bbox"] = [float(bound) for bound in shapely.total_bounds(known)]
    geo = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return json.dumps(geo).encode()


def _write_rows(
    path: Path,
    graph: STGraph,
    document: dict[str, Any],
    columns: dict[str, Any],
    metadata: dict[bytes, bytes],
) -> None:
    """Write the rows step by step, a row group at a time."""
    nodes = pa.table({name: pa.array(array) for name, array in columns.items()})
    geometry = pa.array(shapely.to_wkb(graph.nodes.geometry.to_numpy()), type=pa.binary())
    nodes = nodes.append_column("geometry", geometry)
    at_once = max(1, _ROW_GROUP // graph.n_nodes)
    first = _rows(graph, document, nodes, slice(0, at_once))
    with pq.ParquetWriter(
        path,
        first.schema.with_metadata(metadata),
        compression="zstd",
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
    ) as writer:
        writer.write_table(first)
        for start in range(at_once, graph.n_steps, at_once):
            writer.write_table(_rows(graph, document, nodes, slice(start, start + at_once)))


def _rows(graph: STGraph, document: dict[str, Any], nodes: pa.Table, steps: slice) -> pa.Table:
    """Return the rows of some steps, all nodes of the first one first."""
    time = graph.time[steps]
    if not graph.n_steps:
        return nodes
    repeats = np.tile(np.arange(graph.n_nodes), len(time))
    table = {name: nodes[name].take(repeats) for name in nodes.column_names}
    geometry = table.pop("geometry")
    forecast = is_forecast(graph)
    number = np.arange(graph.n_steps)[steps] + 1
    local = time.tz_convert(graph.zone).strftime("%Y-%m-%d %H:%M %Z")
    moments = {
        "target_time" if forecast else "time": pa.array(time.as_unit("us")),
        "local_time": pa.array(local.to_numpy(dtype=object)),
        "horizon" if forecast else "step": pa.array(number.astype(np.int32)),
    }
    issued = graph.provenance.get("issued_at")
    if forecast and issued is not None:
        at = pd.DatetimeIndex([issued] * len(time))
        at = at.tz_localize("UTC") if at.tz is None else at.tz_convert("UTC")
        moments["issued_at"] = pa.array(at.as_unit("us"))
    each = np.repeat(np.arange(len(time)), graph.n_nodes)
    table |= {name: array.take(each) for name, array in moments.items()}
    for i, feature in enumerate(document["features"]):
        values = np.ascontiguousarray(graph.values[steps, :, i]).reshape(-1)
        table[feature["column"]] = pa.array(values, mask=np.isnan(values))
        if feature["observed"]:
            table[feature["observed"]] = pa.array(graph.mask[steps, :, i].reshape(-1))
    return pa.table({**table, "geometry": geometry})


def _pack_edges(graph: STGraph) -> tuple[bytes, dict[str, Any]]:
    """Return the edges as compressed Arrow text for the metadata, and the notes to undo it."""
    columns, lines, notes = encode_edges(graph)
    for name in ("source", "target", "unit"):  # said by the positions and the document
        del columns[name]
    table = pa.table({name: pa.array(array) for name, array in columns.items()})
    if notes["geometry"] is not None:
        wkb = pa.array(shapely.to_wkb(lines.to_numpy()), type=pa.binary())
        table = table.append_column("geom", wkb)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return base64.b64encode(sink.getvalue()), notes


def _unpack_edges(text: bytes, notes: dict[str, Any]) -> dict[str, Any]:
    """Return the edge parts of a graph."""
    with pa.ipc.open_stream(base64.b64decode(text)) as reader:
        table = reader.read_all()
    columns = {name: table[name].to_pandas() for name in table.column_names}
    lines = shapely.from_wkb(columns["geom"]) if notes["geometry"] is not None else None
    edge_index, weight, attributes = decode_edges(columns, lines, notes)
    return {"edge_index": edge_index, "edge_weight": weight, "edges": attributes}


def _read_graph(file: pq.ParquetFile, *, source: str) -> STGraph:
    """Return the graph of an open file."""
    metadata = file.schema_arrow.metadata or {}
    document = parse_document(metadata.get(_KEY, b"").decode(), source=source)
    n_nodes, n_steps = int(document["n_nodes"]), int(document["n_steps"])
    n_rows = n_nodes * max(n_steps, 1)
    if file.metadata.num_rows != n_rows:
        raise DataError(
            f"{source} has {file.metadata.num_rows} rows for {n_steps} steps of {n_nodes} nodes; "
            "rows were added or deleted, write it again"
        )
    _check_order(file, document, n_nodes, source=source)
    own = [document["nodes"]["id"]["name"], *(c["name"] for c in document["nodes"]["columns"])]
    table = _first_rows(file, [*own, "geometry"], n_nodes)
    columns = {name: table[name].to_pandas() for name in own}
    nodes = decode_nodes(columns, shapely.from_wkb(table["geometry"].to_pylist()), document)
    values, mask = _read_values(file, document, (n_steps, n_nodes))
    edges = document["edges"]
    parts = {} if edges is None else _unpack_edges(metadata[_EDGES], edges)
    return restore_graph(document, nodes=nodes, values=values, mask=mask, **parts)


def _check_order(
    file: pq.ParquetFile, document: dict[str, Any], n_nodes: int, *, source: str
) -> None:
    """Raise if the rows are no longer all nodes of the first step, then those of the second ..."""
    ids = file.read(columns=[document["nodes"]["id"]["name"]]).column(0).combine_chunks()
    n_steps = len(ids) // n_nodes
    in_order = ids.equals(pa.chunked_array([ids[:n_nodes]] * n_steps).combine_chunks())
    if document["n_steps"]:
        name = "horizon" if "horizon" in file.schema_arrow.names else "step"
        steps = file.read(columns=[name]).column(0).to_numpy()
        in_order &= np.array_equal(steps, np.repeat(np.arange(n_steps) + 1, n_nodes))
    if not in_order:
        raise DataError(
            f"{source} has its rows in another order than they were written in; "
            "sort them by step and as the nodes were, or write it again"
        )


def _first_rows(file: pq.ParquetFile, columns: list[str], n_rows: int) -> pa.Table:
    """Return the first rows without reading the others."""
    batches, seen = [], 0
    for batch in file.iter_batches(batch_size=n_rows, columns=columns):
        batches.append(batch)
        seen += len(batch)
        if seen >= n_rows:
            break
    return pa.Table.from_batches(batches).slice(0, n_rows)


def _read_values(
    file: pq.ParquetFile, document: dict[str, Any], shape: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return values and mask, (T, N, F) each."""
    features = document["features"]
    values = np.full((*shape, len(features)), np.nan, dtype=np.float32)
    mask = np.zeros(values.shape, dtype=bool)
    for i, feature in enumerate(features if shape[0] else []):
        column = file.read(columns=[feature["column"]])[feature["column"]]
        values[:, :, i] = column.to_numpy().reshape(shape)
        mask[:, :, i] = np.isfinite(values[:, :, i])
        if feature["observed"]:
            mark = file.read(columns=[feature["observed"]])[feature["observed"]]
            mask[:, :, i] = mark.to_numpy().reshape(shape)
    return values, mask
