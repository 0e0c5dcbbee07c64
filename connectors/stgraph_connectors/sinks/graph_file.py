"""Write nodes and edges as layers to look at and to edit; `read_graph` reads them back."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely

from stgraph.graph import STGraph
from stgraph_connectors.sinks import _gpkg
from stgraph_connectors.sinks._document import crs_text, describe_graph, encode_nodes
from stgraph_connectors.sinks._edges import edge_lines, straight_lines
from stgraph_connectors.sinks._files import written_aside
from stgraph_connectors.sinks._graph_rows import remember_rows
from stgraph_connectors.sinks._graph_styles import add_graph_styles
from stgraph_connectors.sinks._tables import encode_table
from stgraph_connectors.styles import printable

logger = logging.getLogger(__name__)

_NODE_COLUMNS = ("fid", "ogc_fid", "geom", "node_id")
_EDGE_COLUMNS = ("fid", "ogc_fid", "geom", "source", "target", "weight")


def write_graph(graph: STGraph, target: str | Path, *, overwrite: bool = True) -> Path:
    """Write the nodes and edges of a graph as a GeoPackage to look at and to edit.

    Parameters
    ----------
    graph
        Any graph. Its signal is left out, which is noted in the file and logged: for values over
        time there is `write_geopackage`.
    target
        A ``.gpkg`` file; it appears complete or not at all. Layers `nodes` and `edges`, with all
        attributes. Edges without a geometry are straight lines between their nodes.
    overwrite
        Replace an existing file; programs that have it open go on reading the old one.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    InputError
        The path is no ``.gpkg`` file.
    OutputError
        The file could not be written; nothing was left behind.
    """
    document = _describe(graph)
    nodes, document["nodes"] = encode_nodes(graph.nodes, reserved=_NODE_COLUMNS)
    shapes = graph.nodes.geometry.to_numpy()
    document["nodes"]["multi"] = _gpkg.multi_positions(shapes)
    edges, lines, document["edges"] = _encode_edges(graph)
    document["columns"] = {_gpkg.NODES: list(nodes), _gpkg.EDGES: list(edges)}
    unit = printable(graph.weight_unit)
    with written_aside(target, suffixes=(".gpkg",), overwrite=overwrite) as path:
        note = f"{graph.n_nodes} nodes"
        _write_layer(path, _gpkg.NODES, nodes, shapes, graph.nodes.crs, note)
        note = f"{graph.n_edges} directed edges, weight in {unit}"
        _write_layer(path, _gpkg.EDGES, edges, lines, graph.nodes.crs, note)
        with closing(_gpkg.open_for_bulk(path)) as db, db:
            _gpkg.create_extras(db)
            remember_rows(db, (_gpkg.NODES, _gpkg.EDGES))
            add_graph_styles(db, graph)
            weight = "Weight" if unit == "1" else f"Weight ({unit})"
            _gpkg.add_column_notes(db, _gpkg.EDGES, {"weight": weight})
            _gpkg.add_document(db, document)
            db.execute("ANALYZE")
    return Path(target)


def _describe(graph: STGraph) -> dict[str, Any]:
    """Return the document of the file, with a note on the signal that is not in it."""
    bare = graph.replace(time=None, values=None, mask=None, features=())
    document = describe_graph(bare, reserved=())
    document["graph_file"] = 1
    document["signal"] = None
    if graph.n_steps and graph.n_features:
        document["signal"] = f"{graph.n_steps} steps of {', '.join(graph.feature_names)}"
        logger.warning("%s: not in the graph file, which holds nodes and edges", document["signal"])
    return document


def _encode_edges(graph: STGraph) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Return file columns, lines, and the notes to undo it; ends are ids, so that rows may go."""
    ids, _ = encode_table(pd.DataFrame({"id": graph.node_ids}))
    columns: dict[str, Any] = {
        "source": np.asarray(ids["id"])[graph.edge_index[0]],
        "target": np.asarray(ids["id"])[graph.edge_index[1]],
        "weight": graph.edge_weight,
    }
    lines = edge_lines(graph).to_numpy().copy()
    bare = shapely.is_missing(lines)
    lines[bare] = straight_lines(graph)[bare]
    notes: dict[str, Any] = {"table": None, "index": [], "index_names": [], "geometry": None}
    if graph.edges is not None:
        table = pd.DataFrame(graph.edges)
        if isinstance(graph.edges, gpd.GeoDataFrame) and graph.edges.active_geometry_name:
            name = graph.edges.active_geometry_name
            notes |= {"geometry": name, "geometry_at": int(table.columns.get_loc(name))}  # type: ignore[arg-type]
            notes |= {"crs": crs_text(graph.edges.crs), "multi": _gpkg.multi_positions(lines)}
            # drawn straight although they have no line of their own
            notes["straight"] = (np.flatnonzero(bare) + 1).tolist()
            table = table.drop(columns=name)
        if any(label is not None for label in table.index.names):
            index = table.index.to_frame(index=False)
            notes["index_names"] = [None if n is None else str(n) for n in table.index.names]
            index.columns = [f"index {n or i}" for i, n in enumerate(notes["index_names"])]
            arrays, notes["index"] = encode_table(index, reserved=_EDGE_COLUMNS)
            columns |= arrays
        arrays, notes["table"] = encode_table(table, reserved=(*_EDGE_COLUMNS, *columns))
        columns |= arrays
    return columns, lines, notes


def _write_layer(
    path: Path, layer: str, columns: dict[str, Any], geometry: Any, crs: Any, description: str
) -> None:
    """Add a layer with GDAL; its type stays general enough for what a user may draw."""
    shapes = gpd.GeoSeries(geometry, crs=crs or "EPSG:4326")
    pyogrio.write_dataframe(
        gpd.GeoDataFrame(columns, geometry=shapes),
        path,
        layer=layer,
        driver="GPKG",
        dataset_options={"VERSION": "1.3"},  # QGIS 3.22 warns about 1.4
        layer_options={"FID": "fid", "GEOMETRY_NAME": "geom", "DESCRIPTION": description},
        geometry_type=None if shapes.notna().any() else _EMPTY_TYPES[layer],
    )


_EMPTY_TYPES = {_gpkg.NODES: "Unknown", _gpkg.EDGES: "LineString"}
