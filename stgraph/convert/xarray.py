"""STGraph <-> xarray `Dataset`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from stgraph._optional import require
from stgraph.convert._parts import no_geometry, restore_dtypes
from stgraph.errors import GraphError
from stgraph.graph import Feature, STGraph

if TYPE_CHECKING:
    import xarray as xr

_OBSERVED = "_observed"
_RESERVED = {"time", "node", "edge", "lon", "lat", "crs", "source", "target", "weight"}


def to_xarray(graph: STGraph) -> xr.Dataset:
    """Return the graph as an xarray `Dataset` in the manner of the CF conventions.

    Parameters
    ----------
    graph
        Any graph.

    Returns
    -------
    xr.Dataset
        One variable (time, node) per feature with the attributes `units` and `role`, and one
        ``<name>_observed`` with the mask. Coordinates: `time` (UTC, naive as in numpy), `node`
        (ids), `lon` and `lat` of centroids (WGS 84), `node_geometry` (WKT in the CRS), `crs` with
        its WKT, ``node_<column>`` for the columns of `nodes`. Edges: `source` and `target`
        (node positions), `weight` and ``edge_<column>``, all along `edge`. Values are views.

    Raises
    ------
    GraphError
        A feature has the name of one of these variables.
    MissingExtraError
        xarray is not installed.

    Notes
    -----
    Column types beyond those of numpy (categories, time zones) come back as plain ones.
    """
    xarray = require("xarray", extra="xarray")
    _check_names(graph)
    variables: dict[str, Any] = {}
    for position, feature in enumerate(graph.features):
        attributes = {"units": feature.unit, "role": feature.role, "grid_mapping": "crs"}
        name, dims = feature.name, ("time", "node")
        variables[name] = (dims, graph.values[:, :, position], attributes)
        variables[name + _OBSERVED] = (dims, graph.mask[:, :, position], {"flag_of": name})
    variables["source"] = ("edge", graph.edge_index[0])
    variables["target"] = ("edge", graph.edge_index[1])
    variables["weight"] = ("edge", graph.edge_weight, {"units": graph.weight_unit})
    if graph.edges is not None:
        variables |= _columns("edge", graph.edges)
    step = graph.step
    dataset: xr.Dataset = xarray.Dataset(
        variables,
        coords=_coordinates(graph),
        attrs={
            "Conventions": "CF-1.11",
            "zone": graph.zone,
            "features": json.dumps(graph.feature_names),
            "provenance": json.dumps(dict(graph.provenance), default=str),
            "step_us": -1 if step is None else int(step / pd.Timedelta(1, unit="us")),
            "has_edge_table": int(graph.edges is not None),
        },
    )
    return dataset


def from_xarray(dataset: xr.Dataset, *, time: str = "time", node: str = "node") -> STGraph:
    """Return an xarray `Dataset` as an STGraph.

    Parameters
    ----------
    dataset
        One of `to_xarray`, or any other with variables over time and node. Gridded data is for
        the grids connector.
    time, node
        Names of the two dimensions.

    Returns
    -------
    STGraph
        Every variable over exactly these two dimensions is a feature (role target unless the
        attribute `role` says otherwise), except ``<name>_observed``, the mask of another. Places
        are `node_geometry`, else points of `lon` and `lat`.

    Raises
    ------
    GraphError
        A dimension is missing or parts do not fit each other.
    MissingExtraError
        xarray is not installed.
    """
    require("xarray", extra="xarray")
    for dimension in (time, node):
        if dimension not in dataset.dims:
            raise GraphError(f"no dimension {dimension!r}; there are {list(dataset.dims)}")
    names = [str(n) for n, array in dataset.data_vars.items() if set(array.dims) == {time, node}]
    masks = [n for n in names if n.endswith(_OBSERVED) and n.removesuffix(_OBSERVED) in names]
    names = [n for n in json.loads(dataset.attrs.get("features", "[]")) if n in names] or [
        n for n in names if n not in masks
    ]
    nodes = _nodes(dataset, node)
    layers = [dataset[n].transpose(time, node).to_numpy() for n in names]
    seen = [
        dataset[n + _OBSERVED].transpose(time, node).to_numpy().astype(bool)
        if n + _OBSERVED in masks
        else np.isfinite(layer)
        for n, layer in zip(names, layers, strict=True)
    ]
    nothing = np.zeros((dataset.sizes[time], len(nodes), 0), dtype=np.float32)
    return STGraph(
        nodes=nodes,
        time=_time(dataset, time),
        features=tuple(_feature(dataset[n]) for n in names),
        zone=dataset.attrs.get("zone", "UTC"),
        provenance=json.loads(dataset.attrs.get("provenance", "{}")),
        values=np.stack(layers, axis=-1) if layers else nothing,
        mask=np.stack(seen, axis=-1) if layers else nothing.astype(bool),
        **_edges(dataset),
    )


def _check_names(graph: STGraph) -> None:
    """Refuse features that would overwrite something else."""
    taken = _RESERVED | {name + _OBSERVED for name in graph.feature_names}
    clash = sorted(
        name for name in graph.feature_names if name in taken or name.startswith(("node_", "edge_"))
    )
    if clash:
        raise GraphError(f"features have the names of other variables: {clash}; rename them")


def _coordinates(graph: STGraph) -> dict[str, Any]:
    """Return the coordinates of steps and nodes."""
    crs = graph.nodes.crs
    centroid = shapely.centroid(np.asarray(graph.nodes.geometry, dtype=object))
    degrees = np.asarray(gpd.GeoSeries(centroid, crs=crs).to_crs(4326)) if crs else centroid
    degrees = np.asarray(degrees, dtype=object)
    return {
        "time": ("time", graph.time.tz_localize(None).to_numpy(), {"standard_name": "time"}),
        "node": ("node", graph.node_ids.to_numpy(), {"pandas_dtype": str(graph.node_ids.dtype)}),
        "lon": ("node", shapely.get_x(degrees), {"units": "degrees_east"}),
        "lat": ("node", shapely.get_y(degrees), {"units": "degrees_north"}),
        "crs": ((), 0, {} if crs is None else {"crs_wkt": crs.to_wkt()}),
        **_columns("node", graph.nodes),
    }


def _columns(dimension: str, table: pd.DataFrame) -> dict[str, Any]:
    """Return the columns of a table as variables; geometry becomes text."""
    result: dict[str, Any] = {}
    for name in map(str, table.columns):
        column = table[name]
        attributes = {"pandas_dtype": str(column.dtype)}
        values = column.to_numpy()
        if isinstance(column, gpd.GeoSeries):
            # all digits, so that every coordinate comes back as it was
            text = shapely.to_wkt(np.asarray(column, dtype=object), rounding_precision=-1)
            values = np.where(shapely.is_missing(values), "", text).astype(object)
            if column.crs is not None:
                attributes["crs_wkt"] = column.crs.to_wkt()
        result[f"{dimension}_{name}"] = (dimension, values, attributes)
    return result


def _table(dataset: xr.Dataset, prefix: str, index: pd.Index) -> pd.DataFrame:
    """Return the variables with a prefix as a table, a GeoDataFrame if one holds geometry."""
    columns: dict[str, Any] = {}
    dtypes: dict[str, str] = {}
    crs: dict[str, Any] = {}
    for name, array in dataset.variables.items():
        if not str(name).startswith(prefix + "_"):
            continue
        column = str(name).removeprefix(prefix + "_")
        columns[column] = array.to_numpy()
        dtypes[column] = str(array.attrs.get("pandas_dtype", array.dtype))
        if dtypes[column] == "geometry":
            del dtypes[column]
            crs[column] = array.attrs.get("crs_wkt")
            columns[column] = shapely.from_wkt([text or None for text in columns[column]])
    table: pd.DataFrame = restore_dtypes(pd.DataFrame(columns, index=index), dtypes)
    for column in crs:
        table = gpd.GeoDataFrame(table, geometry=column, crs=crs[column])
    return table


def _nodes(dataset: xr.Dataset, node: str) -> gpd.GeoDataFrame:
    """Return the places, from `node_geometry` or from `lon` and `lat`."""
    ids = pd.Index(dataset[node].to_numpy())
    if "pandas_dtype" in dataset[node].attrs:
        ids = ids.astype(dataset[node].attrs["pandas_dtype"])
    table = _table(dataset, "node", ids)
    if isinstance(table, gpd.GeoDataFrame):
        return table
    geometry: Any = no_geometry(ids)
    if {"lon", "lat"} <= set(dataset.variables):
        geometry = gpd.points_from_xy(dataset["lon"].to_numpy(), dataset["lat"].to_numpy())
        return gpd.GeoDataFrame(table, geometry=geometry, crs=4326)
    return gpd.GeoDataFrame(table, geometry=geometry)


def _time(dataset: xr.Dataset, time: str) -> pd.DatetimeIndex:
    """Return the time axis, with its step where there is one instant only."""
    if time not in dataset.variables or dataset[time].dtype.kind != "M":
        raise GraphError(f"{time!r} holds no instants; decode it with xarray.decode_cf()")
    index = pd.DatetimeIndex(dataset[time].to_numpy(), tz="UTC")
    step_us = int(dataset.attrs.get("step_us", -1))
    if len(index) == 1 and step_us > 0:
        return pd.date_range(index[0], periods=1, freq=pd.Timedelta(step_us, unit="us"))
    return index


def _feature(array: xr.DataArray) -> Feature:
    """Return what a variable is."""
    return Feature(
        str(array.name), str(array.attrs.get("units", "")), array.attrs.get("role", "target")
    )


def _edges(dataset: xr.Dataset) -> dict[str, Any]:
    """Return the parts of a graph that its edges make."""
    if not {"source", "target"} <= set(dataset.variables):
        return {}
    edge_index = np.stack([dataset["source"].to_numpy(), dataset["target"].to_numpy()])
    parts: dict[str, Any] = {"edge_index": edge_index}
    if "weight" in dataset:
        parts["edge_weight"] = dataset["weight"].to_numpy()
        parts["weight_unit"] = dataset["weight"].attrs.get("units", "1")
    if dataset.attrs.get("has_edge_table"):
        parts["edges"] = _table(dataset, "edge", pd.RangeIndex(edge_index.shape[1]))
    return parts
