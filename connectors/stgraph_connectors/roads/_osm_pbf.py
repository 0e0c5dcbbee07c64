"""OpenStreetMap in Protocol Buffers (`.osm.pbf`), through osmium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stgraph._optional import require
from stgraph.errors import DataError
from stgraph_connectors.roads._area import Box
from stgraph_connectors.roads._osm_records import FIXED, NODE_KINDS, Collector, OsmData, Restriction

_NOWHERE = 2_147_483_647  # osmium's coordinate of a node that the file lacks


def read_pbf(path: Path, *, near: Box | None = None) -> OsmData:
    """Return the ways, nodes and restrictions of a PBF file.

    Parameters
    ----------
    path
        The file.
    near
        Leave out ways without a node in this box, so that a city out of a country fits in memory.

    Raises
    ------
    DataError
        The file is cut off or damaged.
    MissingExtraError
        osmium is not installed.
    """
    osmium = require("osmium", extra="pbf")
    found = Collector()
    inside = None if near is None else [round(degrees * FIXED) for degrees in near]
    try:
        for item in _open(osmium, path):
            if item.is_way():
                _take_way(item, found, inside)
            elif item.is_node():
                found.add_node_tags(item.id, dict(item.tags))
            else:
                members = tuple((m.role, m.type, m.ref) for m in item.members)
                found.restrictions.append(Restriction(item.id, dict(item.tags), members))
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{path}: the PBF cannot be read to its end: {error}; "
            "the file is cut off or damaged, fetch it again"
        ) from error
    return found.finish()


def _open(osmium: Any, path: Path) -> Any:
    """Return the stream of what a road network needs; the filters run outside of Python."""
    kinds, choose = osmium.osm, osmium.filter
    return (
        osmium.FileProcessor(str(path), kinds.NODE | kinds.WAY | kinds.RELATION)
        .with_locations()
        .with_filter(choose.KeyFilter(*NODE_KINDS).enable_for(kinds.NODE))
        .with_filter(choose.KeyFilter("highway").enable_for(kinds.WAY))
        .with_filter(choose.TagFilter(("type", "restriction")).enable_for(kinds.RELATION))
    )


def _take_way(way: Any, found: Collector, inside: list[int] | None) -> None:
    """Take a way and the places of its nodes."""
    nodes = [(node.ref, node.x, node.y) for node in way.nodes]
    if inside is not None:
        west, south, east, north = inside
        if not any(west <= x <= east and south <= y <= north for _, x, y in nodes):
            return
    found.add_way(way.id, ((tag.k, tag.v) for tag in way.tags), [ref for ref, _, _ in nodes])
    for ref, x, y in nodes:
        if x != _NOWHERE:
            found.node_ids.append(ref)
            found.node_xy.append(x)
            found.node_xy.append(y)
