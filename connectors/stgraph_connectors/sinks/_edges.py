"""Edges as lines with attributes, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from stgraph.graph import STGraph
from stgraph_connectors.sinks._document import crs_text
from stgraph_connectors.sinks._tables import decode_table, encode_table
from stgraph_connectors.styles import printable

_OWN = ("fid", "ogc_fid", "geom", "source", "target", "source_fid", "target_fid", "weight", "unit")


def encode_edges(graph: STGraph) -> tuple[dict[str, Any], gpd.GeoSeries, dict[str, Any]]:
    """Return file columns, lines with their CRS, and the notes that `decode_edges` needs.

    `source_fid` and `target_fid` are positions from 1 on. Edges without a geometry of their own
    become straight lines between the nodes.
    """
    source, target = graph.edge_index
    columns: dict[str, Any] = {
        "source": _id_texts(graph.node_ids.take(source)),
        "target": _id_texts(graph.node_ids.take(target)),
        "source_fid": source + 1,
        "target_fid": target + 1,
        "weight": graph.edge_weight,
        "unit": np.full(graph.n_edges, printable(graph.weight_unit), dtype=object),
    }
    lines = edge_lines(graph)
    notes: dict[str, Any] = {"table": None, "geometry": None, "crs": None}
    if graph.edges is not None:
        table = pd.DataFrame(graph.edges)
        if isinstance(graph.edges, gpd.GeoDataFrame) and graph.edges.active_geometry_name:
            own = graph.edges.geometry
            table = table.drop(columns=own.name)
            notes["geometry"] = own.name
            notes["crs"] = crs_text(own.crs)
        index = table.index.to_frame(index=False)
        index.columns = pd.RangeIndex(index.shape[1])
        arrays, notes["index"] = encode_table(
            index.rename(columns="index {}".format), reserved=_OWN
        )
        attributes, notes["table"] = encode_table(table, reserved=(*_OWN, *arrays))
        notes["index_names"] = [None if n is None else str(n) for n in graph.edges.index.names]
        columns |= {**arrays, **attributes}
    return columns, lines, notes


def decode_edges(
    columns: Mapping[str, Any], geometry: Any, notes: Mapping[str, Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], pd.DataFrame | None]:
    """Return edge index, weights and attribute table."""
    ends = [np.asarray(columns[name], dtype=np.int64) - 1 for name in ("source_fid", "target_fid")]
    edge_index = np.stack(ends)
    weight = np.asarray(columns["weight"], dtype=np.float32)
    if notes["table"] is None:
        return edge_index, weight, None
    n_rows = edge_index.shape[1]
    table = decode_table(columns, notes["table"], n_rows=n_rows)
    index = decode_table(columns, notes["index"], n_rows=n_rows)
    names = notes["index_names"]
    table.index = (
        pd.Index(index.iloc[:, 0], name=names[0])
        if len(names) == 1
        else pd.MultiIndex.from_frame(index, names=names)
    )
    if notes["geometry"] is None:
        return edge_index, weight, table
    shapes = gpd.GeoSeries(np.asarray(geometry), index=table.index, crs=notes["crs"])
    table[notes["geometry"]] = shapes
    return edge_index, weight, gpd.GeoDataFrame(table, geometry=notes["geometry"], crs=notes["crs"])


def edge_lines(graph: STGraph) -> gpd.GeoSeries:
    """Return a line per edge: its own geometry, else straight from node to node.

    Missing for loops and where an end has no geometry.
    """
    table = graph.edges
    if isinstance(table, gpd.GeoDataFrame) and table.active_geometry_name is not None:
        own = table.geometry
        return gpd.GeoSeries(own, crs=own.crs or graph.nodes.crs)
    return gpd.GeoSeries(straight_lines(graph), crs=graph.nodes.crs)


def straight_lines(graph: STGraph) -> npt.NDArray[np.object_]:
    """Return a straight line per edge; None for loops and where an end has no geometry."""
    xy = middle_points(graph.nodes.geometry.to_numpy())
    ends = np.stack([xy[graph.edge_index[0]], xy[graph.edge_index[1]]], axis=1)  # (E, 2, 2)
    drawn = np.isfinite(ends).all(axis=(1, 2)) & (ends[:, 0] != ends[:, 1]).any(axis=1)
    lines = np.full(graph.n_edges, None, dtype=object)
    lines[drawn] = shapely.linestrings(ends[drawn])
    return lines


def middle_points(shapes: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """Return (N, 2) positions, NaN without geometry: half way along lines, centroids of areas."""
    kinds = shapely.get_type_id(shapes)
    points = np.where(kinds == 0, shapes, shapely.centroid(shapes))
    lines = np.flatnonzero(kinds == 1)
    points[lines] = shapely.line_interpolate_point(shapes[lines], 0.5, normalized=True)
    return np.stack([shapely.get_x(points), shapely.get_y(points)], axis=1)


def _id_texts(ids: pd.Index) -> Any:
    """Return node ids as the file shows them at the ends of an edge."""
    columns, _ = encode_table(pd.DataFrame({"id": ids}))
    return columns["id"]
