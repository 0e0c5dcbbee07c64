"""The small JSON document that every file of ours carries: what the columns alone cannot say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from pyproj import CRS

from stgraph.errors import DataError, STGraphError
from stgraph.graph import Feature, STGraph
from stgraph_connectors.sinks._tables import decode_table, encode_table, safe_names, to_json

FORMAT = 1
STANDARD_URI = "urn:stgraph-gis:document:1"


def is_forecast(graph: STGraph) -> bool:
    """Tell whether a graph is a forecast rather than readings."""
    return graph.provenance.get("kind") == "forecast"


def describe_graph(graph: STGraph, *, reserved: tuple[str, ...]) -> dict[str, Any]:
    """Return the document of a graph; `reserved` are column names that are taken.

    Features get a column each; where the mask is not simply "wherever there is a number", a
    second column says what was observed.
    """
    columns = safe_names(graph.feature_names, reserved=reserved)
    marks = safe_names([f"{c} observed" for c in columns], reserved=(*reserved, *columns))
    step = graph.step
    return {
        "format": FORMAT,
        "crs": crs_text(graph.nodes.crs),
        "zone": graph.zone,
        "weight_unit": graph.weight_unit,
        "start_us": int(graph.time.as_unit("us").asi8[0]) if graph.n_steps else None,
        "step_us": None if step is None else step // pd.Timedelta(1, "us"),
        "n_steps": graph.n_steps,
        "features": [
            {
                "name": feature.name,
                "unit": feature.unit,
                "role": feature.role,
                "column": columns[i],
                "observed": marks[i] if _needs_mark(graph, i) else None,
            }
            for i, feature in enumerate(graph.features)
        ],
        "provenance": json.loads(to_json(dict(graph.provenance))),
    }


def crs_text(crs: Any) -> str | None:
    """Return the shortest text that gives exactly this CRS again."""
    if crs is None:
        return None
    authority = crs.to_authority()
    code = None if authority is None else ":".join(authority)
    return str(crs.to_wkt()) if code is None or CRS.from_user_input(code) != crs else code


def parse_document(text: str | None, *, source: str) -> dict[str, Any]:
    """Return a document as written, or say that the file is none of ours."""
    try:
        document = json.loads(text or "")
    except json.JSONDecodeError:
        document = None
    if not isinstance(document, dict) or "format" not in document:
        raise DataError(
            f"{source} was not written by stgraph; read its tables with read_stations() instead"
        )
    if document["format"] != FORMAT:
        raise DataError(
            f"{source} has format {document['format']!r}, this version reads {FORMAT}; "
            "upgrade stgraph-gis"
        )
    return document


@contextmanager
def as_written(source: str) -> Iterator[None]:
    """Say of a file that lacks parts, or holds others, that it was changed after writing."""
    try:
        yield
    except STGraphError:
        raise
    except (KeyError, IndexError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"[:160]
        raise DataError(
            f"{source} was changed since it was written ({what}); write it again"
        ) from error


def restore_graph(
    document: Mapping[str, Any],
    *,
    nodes: gpd.GeoDataFrame,
    values: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    edge_index: npt.NDArray[np.int64] | None = None,
    edge_weight: npt.NDArray[np.float32] | None = None,
    edges: pd.DataFrame | None = None,
) -> STGraph:
    """Return the graph of a document and the tables beside it."""
    features = tuple(Feature(f["name"], f["unit"], f["role"]) for f in document["features"])
    return STGraph(
        nodes=nodes,
        edge_index=edge_index,  # type: ignore[arg-type]  # None means no edges
        edge_weight=edge_weight,  # type: ignore[arg-type]
        weight_unit=document["weight_unit"],
        edges=edges,
        time=_restore_time(document),
        values=values,
        mask=mask,
        features=features,
        zone=document["zone"],
        provenance=document["provenance"],
    )


def encode_nodes(
    nodes: gpd.GeoDataFrame, *, reserved: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the node table as file columns (first `node_id`) and the notes to undo it."""
    ids = pd.DataFrame({"node_id": nodes.index})
    id_arrays, id_columns = encode_table(ids)
    table = pd.DataFrame(nodes.drop(columns="geometry"))
    arrays, columns = encode_table(table, reserved=("node_id", *reserved))
    notes = {
        "id": id_columns[0],
        "id_name": nodes.index.name,
        "columns": columns,
        "geometry_at": nodes.columns.get_loc("geometry"),
    }
    return {**id_arrays, **arrays}, notes


def decode_nodes(
    arrays: Mapping[str, Any], geometry: Any, document: Mapping[str, Any]
) -> gpd.GeoDataFrame:
    """Return the nodes that `encode_nodes` took apart."""
    notes, n_rows = document["nodes"], len(geometry)
    table = decode_table(arrays, notes["columns"], n_rows=n_rows)
    ids = decode_table(arrays, [notes["id"]], n_rows=n_rows)["node_id"]
    table.index = pd.Index(ids).rename(notes["id_name"])
    shapes = gpd.GeoSeries(np.asarray(geometry), index=table.index, crs=document["crs"])
    table.insert(notes["geometry_at"], "geometry", shapes)
    return gpd.GeoDataFrame(table, geometry="geometry", crs=document["crs"])


def _restore_time(document: Mapping[str, Any]) -> pd.DatetimeIndex:
    """Return the exact time axis of a document."""
    if not document["n_steps"]:
        return pd.DatetimeIndex([], tz="UTC")
    start = pd.Timestamp(document["start_us"], unit="us", tz="UTC")
    if document["step_us"] is None:
        return pd.DatetimeIndex([start])
    step = pd.Timedelta(document["step_us"], unit="us")
    return pd.date_range(start, periods=document["n_steps"], freq=step)


def _needs_mark(graph: STGraph, position: int) -> bool:
    """Tell whether a feature's mask says more than where numbers are."""
    known = np.isfinite(graph.values[:, :, position])
    return not np.array_equal(known, graph.mask[:, :, position])
