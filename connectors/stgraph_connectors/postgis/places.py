"""Nodes, edges and quantities of a dataset: written once, changed only where they differ."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, LiteralString

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from psycopg import sql
from psycopg.types.json import Jsonb

from stgraph.errors import DataError
from stgraph.graph import Feature, STGraph
from stgraph_connectors.postgis.connect import Connection, execute, qualified, spatial
from stgraph_connectors.postgis.copying import copy_records
from stgraph_connectors.postgis.layers import forget_places
from stgraph_connectors.postgis.roles import acting_as_owner
from stgraph_connectors.sinks._document import crs_text, encode_nodes
from stgraph_connectors.sinks._edges import encode_edges
from stgraph_connectors.sinks._gpkg import multi_positions
from stgraph_connectors.sinks._tables import is_clean, to_json
from stgraph_connectors.styles import quantile_of, stem_of

logger = logging.getLogger(__name__)

_OWN_EDGE_COLUMNS = ("source", "target", "source_fid", "target_fid", "weight", "unit")
_KINDS: tuple[LiteralString, ...] = ("Point", "LineString", "Polygon")
_SINGLE = {"MultiPoint": "Point", "MultiLineString": "LineString", "MultiPolygon": "Polygon"}


def sync_nodes(connection: Connection, schema: str, graph: STGraph) -> npt.NDArray[np.int64]:
    """Bring the table `node` up to date and return the number of each node of the graph, (N,).

    Nodes that are not in the graph stay: older issues are about them.

    Raises
    ------
    DataError
        Ids that are no database text, mixed or foreign kinds of geometry, no EPSG code.
    """
    digest = _digest(graph.zone, graph.weight_unit, *_fingerprint(graph.nodes))
    known = execute(
        connection,
        "SELECT nodes_digest, node_numbers, srid, geometry_type FROM {}",
        qualified(schema, "dataset"),
    ).fetchone()
    if known is not None and known[0] == digest:
        return np.array(known[1], dtype=np.int64)
    ids = node_texts(graph)
    srid, kind = geometry_type(graph)
    kind = _type_geometry(connection, schema, (known or (None,) * 4)[2:], (srid, kind))
    columns, notes = encode_nodes(graph.nodes, reserved=("id", "geom"))
    geometry = graph.nodes.geometry.to_numpy()
    shapes, heights = _ewkb(geometry, srid, multi=kind.startswith("Multi"))
    notes |= {"multi": multi_positions(geometry), "crs": crs_text(graph.nodes.crs)}
    kinds = ["" if value is None else str(value) for value in columns["kind"]]
    attributes = to_json_rows(columns, without=("node_id", *told_by_kind(notes)))
    rows = zip(ids, kinds, shapes, heights, attributes, strict=True)
    if _write_nodes(connection, schema, rows):
        forget_places(connection, schema)
    query = "SELECT id, node_id FROM {}"
    by_id: dict[str, int] = dict(execute(connection, query, qualified(schema, "node")).fetchall())
    numbers = [by_id[text] for text in ids]
    execute(
        connection,
        "UPDATE {} SET nodes_digest = %s, node_numbers = %s, srid = %s, geometry_type = %s, "
        "zone = %s, weight_unit = %s, nodes = %s",
        qualified(schema, "dataset"),
        parameters=(
            digest,
            numbers,
            srid,
            kind,
            graph.zone,
            graph.weight_unit,
            json.dumps(notes),
        ),
    )
    return np.array(numbers, dtype=np.int64)


def sync_edges(
    connection: Connection, schema: str, graph: STGraph, numbers: npt.NDArray[np.int64]
) -> None:
    """Replace the table `edge` if the graph has others."""
    source, target = numbers[graph.edge_index]
    table = () if graph.edges is None else _fingerprint(graph.edges)
    dataset, edge = qualified(schema, "dataset"), qualified(schema, "edge")
    query = "SELECT edges_digest, nodes_digest FROM {}"
    known = execute(connection, query, dataset).fetchone() or (None, None)
    # straight lines follow the nodes
    digest = _digest(
        source.tobytes(), target.tobytes(), graph.edge_weight.tobytes(), *table, known[1]
    )
    if known[0] == digest:
        return
    columns, lines, notes = encode_edges(graph)
    srid, _ = geometry_type(graph)
    own = lines if lines.crs is None or graph.nodes.crs is None else lines.to_crs(graph.nodes.crs)
    shapes, heights = _ewkb(own.to_numpy(), srid, multi=False)
    attributes = to_json_rows(columns, without=_OWN_EDGE_COLUMNS)
    execute(connection, "DELETE FROM {}", edge)
    copy_records(
        connection,
        edge,
        {
            "edge_id": "int4",
            "source": "int4",
            "target": "int4",
            "weight": "float4",
            "geom": "bytea",
            "heights": "float8[]",
            "attributes": "jsonb",
        },
        zip(
            range(1, graph.n_edges + 1),
            source.tolist(),
            target.tolist(),
            graph.edge_weight.tolist(),
            shapes,
            heights,
            map(_as_jsonb, attributes),
            strict=True,
        ),
    )
    execute(
        connection,
        "UPDATE {} SET edges_digest = %s, edges = %s",
        dataset,
        parameters=(digest, json.dumps(notes)),
    )


def sync_features(
    connection: Connection,
    schema: str,
    features: Sequence[Feature],
    levels: Mapping[str, list[float]],
) -> dict[str, int]:
    """Bring the table `feature` up to date and return the number of each name."""
    table = qualified(schema, "feature")
    known: dict[str, tuple[Any, ...]] = {
        row[0]: row[1:]
        for row in execute(connection, "SELECT name, feature_id, unit, role, levels FROM {}", table)
    }
    # an upsert would draw a new number every time, and a smallint has only 32,767 of them
    add = "INSERT INTO {} (unit, role, levels, name) VALUES (%s, %s, %s, %s) RETURNING feature_id"
    change = "UPDATE {} SET unit = %s, role = %s, levels = %s WHERE name = %s RETURNING feature_id"
    numbers: dict[str, int] = {}
    for feature in features:
        old = known.get(feature.name, (None, None, None, []))
        new = (feature.unit, feature.role, levels.get(feature.name) or old[3])
        numbers[feature.name] = old[0]
        if new != old[1:]:
            query = add if old[0] is None else change
            row = execute(connection, query, table, parameters=(*new, feature.name)).fetchone()
            numbers[feature.name] = int(row[0])  # type: ignore[index]  # RETURNING gives a row
    return numbers


def group_quantiles(features: Sequence[Feature]) -> dict[str, list[int]]:
    """Return, per quantity, the positions of its quantiles in ascending level.

    A quantile without its quantity (``speed_q90`` but no ``speed``) is a quantity of its own.
    """
    names = {feature.name for feature in features}
    groups: dict[str, list[int]] = {}
    for position, feature in enumerate(features):
        stem = stem_of(feature.name)
        if stem == feature.name or stem not in names:
            groups.setdefault(feature.name, [])
        else:
            groups.setdefault(stem, []).append(position)
    for positions in groups.values():
        positions.sort(key=lambda i: quantile_of(features[i].name) or 0.0)
    return groups


def node_texts(graph: STGraph) -> list[str]:
    """Return the ids of all nodes as text.

    Raises
    ------
    DataError
        An id holds what a database text cannot.
    """
    ids = [str(node) for node in graph.node_ids]
    odd = [text for text in ids if not is_clean(text)]
    if odd:
        raise DataError(f"node id {odd[0]!r} holds what no database text can; rename the node")
    return ids


def geometry_type(graph: STGraph) -> tuple[int, LiteralString]:
    """Return the SRID and the one type of geometry that all nodes fit, such as ``LineString``.

    Raises
    ------
    DataError
        Points are mixed with lines or areas, or the CRS has no EPSG code.
    """
    types = {str(name) for name in graph.nodes.geometry.geom_type.dropna()}
    single = {_SINGLE.get(name, name) for name in types}
    if len(single) > 1 or single - set(_SINGLE.values()):
        raise DataError(
            f"nodes are {sorted(types)}; one layer has one kind of geometry: use points, lines or "
            "polygons"
        )
    kind = next((known for known in _KINDS if known in single), "Point")
    if types != single and types:
        kind = f"Multi{kind}"
    crs = graph.nodes.crs
    code = 4326 if crs is None else crs.to_epsg(min_confidence=100)
    if crs is not None and code is None:
        raise DataError(
            f"the CRS of the nodes ({crs.name}) has no EPSG code; convert them: "
            "nodes.to_crs('EPSG:4326')"
        )
    return int(code or 4326), kind


def to_json_rows(columns: Mapping[str, Any], *, without: Sequence[str]) -> list[str]:
    """Return one JSON object per row of some columns."""
    kept = {name: _plain(values) for name, values in columns.items() if name not in without}
    n_rows = len(next(iter(columns.values())))
    if not kept:
        return ["{}"] * n_rows
    return [to_json(dict(zip(kept, row, strict=True))) for row in zip(*kept.values(), strict=True)]


def told_by_kind(notes: Mapping[str, Any]) -> list[str]:
    """Return the attribute that the column `kind` holds already, where it is text."""
    return [c["name"] for c in notes["columns"] if c["label"] == "kind" and c["codec"] == "text"]


def _as_jsonb(text: str) -> Jsonb:
    """Return text that is JSON already as the driver takes it."""
    return Jsonb(text, dumps=str)


def _plain(values: Any) -> list[Any]:
    """Return values as JSON knows them: no number is missing, an infinite one is text."""
    if isinstance(values, pd.DatetimeIndex):
        return [None if pd.isna(value) else value.isoformat() for value in values]
    listed = np.asarray(values).tolist()
    return [x if not isinstance(x, float) or math.isfinite(x) else _NO_JSON[str(x)] for x in listed]


_NO_JSON = {"nan": None, "inf": "Infinity", "-inf": "-Infinity"}  # as Postgres writes them


def _ewkb(
    shapes: Any, srid: int, *, multi: bool
) -> tuple[list[bytes | None], list[list[float] | None]]:
    """Return flat geometries as PostGIS takes them, and the heights that they had.

    All are of several parts if `multi`. The layers are flat: 3.22 of QGIS and tiles want it so.
    """
    shapes = np.asarray(shapes, dtype=object)
    heights: list[list[float] | None] = [None] * len(shapes)
    for i in np.flatnonzero(shapely.has_z(shapes)):
        heights[i] = shapely.get_coordinates(shapes[i], include_z=True)[:, 2].tolist()
    if multi:
        shapes = np.array([_as_multi(shape) for shape in shapes], dtype=object)
    flat = shapely.set_srid(shapely.force_2d(shapes), srid)
    texts = shapely.to_wkb(flat, include_srid=True)
    return [None if text is None else bytes(text) for text in texts], heights


def _as_multi(shape: Any) -> Any:
    """Return a geometry as one with parts."""
    if shape is None or shape.geom_type.startswith("Multi"):
        return shape
    build: Any = {
        "Point": shapely.multipoints,
        "LineString": shapely.multilinestrings,
        "Polygon": shapely.multipolygons,
    }[shape.geom_type]
    return build([shape])


def _type_geometry(
    connection: Connection, schema: str, found: tuple[Any, Any], wanted: tuple[int, LiteralString]
) -> LiteralString:
    """Give the geometry column its type, if it has another, and return the type it has then."""
    if found == wanted:
        return wanted[1]
    if found[0] is not None and (found[0] != wanted[0] or _part(found[1]) != _part(wanted[1])):
        raise DataError(
            f"schema {schema!r} holds {found[1]} in EPSG:{found[0]}, and this graph has "
            f"{wanted[1]} in EPSG:{wanted[0]}; use another `schema`, or convert the nodes"
        )
    srid, kind = wanted
    if str(found[1]).startswith("Multi"):
        return f"Multi{kind.removeprefix('Multi')}"  # what has one part is written as one of many
    change = "ALTER TABLE {} ALTER COLUMN geom TYPE {}({}, {}) USING {}"
    value: sql.Composable = sql.SQL("geom")
    if kind.startswith("Multi"):
        value = sql.SQL("{}(geom)").format(spatial(connection, "st_multi"))
    with acting_as_owner(connection, schema):
        connection.execute(
            sql.SQL(change).format(
                qualified(schema, "node"),
                spatial(connection, "geometry"),
                sql.SQL(kind),
                sql.Literal(srid),
                value,
            )
        )
    return kind


def _part(kind: str) -> str:
    """Return the type of one part."""
    return _SINGLE.get(kind, kind)


def _write_nodes(connection: Connection, schema: str, rows: Iterable[tuple[Any, ...]]) -> bool:
    """Add new nodes and change those that differ; True if one that was there has moved."""
    execute(
        connection,
        "CREATE TEMP TABLE staged_node (place integer, id text, kind text, geom {}, "
        "heights float8[], attributes jsonb) ON COMMIT DROP",
        spatial(connection, "geometry"),
    )
    copy_records(
        connection,
        sql.Identifier("pg_temp", "staged_node"),
        {
            "place": "int4",
            "id": "text",
            "kind": "text",
            "geom": "bytea",
            "heights": "float8[]",
            "attributes": "jsonb",
        },
        ((i, *row[:4], _as_jsonb(row[4])) for i, row in enumerate(rows)),
    )
    node, same = qualified(schema, "node"), spatial(connection, "st_orderingequals")
    moved = execute(
        connection,
        "SELECT EXISTS (SELECT FROM {} n JOIN pg_temp.staged_node s USING (id) "
        "WHERE NOT coalesce({}(n.geom, s.geom), n.geom IS NULL AND s.geom IS NULL))",
        node,
        same,
    ).fetchone()
    execute(
        connection,
        "INSERT INTO {} AS n (id, kind, geom, heights, attributes) "
        "SELECT id, kind, geom, heights, attributes "
        "FROM pg_temp.staged_node ORDER BY place ON CONFLICT (id) DO UPDATE SET kind = "
        "excluded.kind, geom = excluded.geom, heights = excluded.heights, "
        "attributes = excluded.attributes WHERE (n.kind, n.heights, n.attributes) "
        "IS DISTINCT FROM (excluded.kind, excluded.heights, excluded.attributes) OR NOT "
        "coalesce({}(n.geom, excluded.geom), n.geom IS NULL AND excluded.geom IS NULL)",
        node,
        same,
    )
    connection.execute("DROP TABLE pg_temp.staged_node")
    return moved is not None and bool(moved[0])


def _fingerprint(table: pd.DataFrame) -> Iterator[object]:
    """Yield what tells a table of nodes or edges from another, quickly for many rows."""
    yield getattr(table, "crs", None)
    yield list(table.columns), [str(dtype) for dtype in table.dtypes]
    for i in range(table.shape[1]):
        column = table.iloc[:, i]
        if isinstance(column.dtype, gpd.array.GeometryDtype):
            shapes = shapely.to_wkb(np.asarray(column), include_srid=False)
            yield b"".join(shape or b"-" for shape in shapes)
            continue
        try:
            hashed = pd.util.hash_pandas_object(column, index=False)
        except TypeError:  # lists and other values without a hash
            hashed = pd.util.hash_pandas_object(column.map(to_json), index=False)
        yield hashed.to_numpy().tobytes()
    yield pd.util.hash_pandas_object(table.index).to_numpy().tobytes()


def _digest(*parts: object) -> str:
    """Return a fingerprint of values and texts."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
