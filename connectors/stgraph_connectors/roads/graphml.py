"""GraphML files of OSMnx, networkx, igraph, Gephi and others as road graphs."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stgraph.errors import DataError
from stgraph.graph import IntArray, STGraph
from stgraph.report import Report
from stgraph_connectors._tables import check_path
from stgraph_connectors.roads._assemble import Reading, finish_roads
from stgraph_connectors.roads._graphml_columns import to_columns
from stgraph_connectors.roads._graphml_document import Document, GraphMLError, parse_document
from stgraph_connectors.roads._network import Network, to_segments

_SUFFIXES = (".graphml", ".graphml.gz", ".xml", ".xml.gz")  # packed ones are listed only
_TITLE = "cannot read GraphML"


def read_graphml(
    path: str | Path,
    *,
    crs: str | int | None = None,
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
) -> STGraph:
    """Read a road network from a GraphML file.

    It is read straight into columns, without networkx, so a city takes a fraction of a second.

    Parameters
    ----------
    path
        A ``.graphml`` or ``.graphml.gz`` of OSMnx, or of any program that writes coordinates as
        attributes of nodes: `x` and `y`, or `lon` and `lat` in a few spellings.
    crs
        CRS of the coordinates. None takes the one that the file names, else EPSG:4326 if the
        coordinates can be degrees.
    nodes
        ``"segments"``: directed road segments are nodes; ``"junctions"``: junctions are.
    u_turns
        Whether turning back onto the same street is a turn (segments only).
    speeds_kmh
        Speed by road type, in km/h, where the file has none.

    Returns
    -------
    STGraph
        In the CRS of the file, without signal. Undirected edges are segments both ways, edges
        without a line are straight. Lists are joined by semicolons.

    Raises
    ------
    DataError
        The file is damaged, or has no coordinates or no edges.
    """
    report = Report()
    checked = check_path(path, report, role="path", suffixes=_SUFFIXES)
    report.raise_errors(DataError, title=_TITLE)
    assert checked is not None  # noqa: S101 - else there was an error
    network = _read_network(checked, crs, report)
    report.raise_errors(DataError, title=_TITLE)
    assert network is not None  # noqa: S101 - else there was an error
    raw = to_segments(network, title=_TITLE, report=report)
    return finish_roads(
        raw, report=report, title=_TITLE, nodes=nodes, u_turns=u_turns, speeds_kmh=speeds_kmh
    )


def _read_network(path: Path, crs: str | int | None, report: Report) -> Network | None:
    """Return the nodes and edges of a file, or note why it cannot be read."""
    name = path.name
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        document = parse_document(data)
    except (OSError, EOFError, zlib.error) as error:
        report.error(name, f"cannot be unpacked: {error}", "write or download it again")
        return None
    except GraphMLError as error:
        report.error(name, str(error), "write it again, or check the download")
        return None
    _note_left_out(document, name, report)
    ends = _find_ends(document, name, report)
    if ends is None:
        return None
    edges = to_columns(document, document.edges, "edge", name=name, report=report)
    created = document.notes.get("created_with")
    return Network(
        name=name,
        ids=document.nodes.attributes.get("id", []),
        nodes=to_columns(document, document.nodes, "node", name=name, report=report),
        source=ends[0],
        target=ends[1],
        edges=edges,
        both_ways=_both_ways(document),
        crs=document.notes.get("crs") if crs is None else crs,
        provenance={
            "connector": "graphml",
            "source": name,
            **({"created_with": created} if created else {}),
        },
    )


def _note_left_out(document: Document, name: str, report: Report) -> None:
    """Note parts of a document that are not read."""
    if document.n_graphs > 1:
        what = f"holds {document.n_graphs} graphs"
        report.warning(name, what, "the first one is read", count=document.n_graphs - 1)
    if document.n_hyperedges:
        what = f"has {document.n_hyperedges} hyperedges, which are no roads"
        report.warning(name, what, "they are left out", count=document.n_hyperedges)


def _find_ends(document: Document, name: str, report: Report) -> tuple[IntArray, IntArray] | None:
    """Return the positions of the nodes at both ends of every edge, or note unknown ones."""
    ids: list[Any] = document.nodes.attributes.get("id", [])
    position = {node: i for i, node in enumerate(ids)}
    if None in position:
        report.error(name, "has nodes without an id", "write it again")
    if len(position) < len(ids):
        twice = next(node for i, node in enumerate(ids) if position[node] != i)
        report.error(name, f"the node id {twice!r} appears twice", "ids of nodes are unique")
    ends = []
    for side in ("source", "target"):
        column = document.edges.attributes.get(side, [None] * document.edges.count)
        found = np.array([position.get(node, -1) for node in column], dtype=np.int64)
        if (found < 0).any():
            count, first = int((found < 0).sum()), column[int(np.argmax(found < 0))]
            report.error(
                name,
                f"{count} edges have a {side} that is no node of the file, such as {first!r}",
                "write the whole graph, or remove these edges",
                count=count,
            )
        ends.append(found)
    return None if report.errors else (ends[0], ends[1])


def _both_ways(document: Document) -> Any:
    """Return which edges have no direction."""
    default = document.graph.get("edgedefault", "directed") == "undirected"
    both = np.full(document.edges.count, default)
    for i, directed in enumerate(document.edges.attributes.get("directed", [])):
        if directed is not None:
            both[i] = directed in ("false", "0")
    return both
