"""Roads from whatever is at hand: the reader is chosen by what the source is."""

from __future__ import annotations

import gzip
import importlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import networkx as nx

from stgraph.errors import DataError
from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph_connectors._tables import check_path
from stgraph_connectors.roads._assemble import Reading
from stgraph_connectors.roads._osm_ways import Network as OsmNetwork

_TITLE = "cannot read roads"
_HEAD = 4096  # bytes of a file looked at


@dataclass(frozen=True)
class _Reader:
    """A reader of roads."""

    connector: str  # as the docs call it
    module: str
    function: str
    options: frozenset[str] = frozenset({"crs"})  # beside those of all


_PACKAGE = "stgraph_connectors.roads"
_OSM = _Reader("osm", "osm", "read_osm", frozenset({"network"}))
_PLACE = _Reader("osmnx", "osmnx", "read_osmnx", frozenset({"network"}))
_GRAPH = _Reader("osmnx", "osmnx", "read_osmnx_graph")
_GRAPHML = _Reader("graphml", "graphml", "read_graphml")
_LINES = _Reader("road_lines", "lines", "read_road_lines")
_SUMO = _Reader("sumo", "sumo", "read_sumo")
_GMNS = _Reader("gmns", "gmns", "read_gmns")
_TNTP = _Reader("tntp", "tntp", "read_tntp")
_STORED = _Reader("graph", "_stored", "read_stored", frozenset())

# endings without .gz and .bz2, the longest first
_BY_ENDING = {
    ".net.xml": _SUMO, ".osm.xml": _OSM, ".graphml": _GRAPHML, ".osm": _OSM, ".pbf": _OSM,
    ".tntp": _TNTP, ".gpkg": _LINES, ".parquet": _LINES, ".geoparquet": _LINES,
    ".geojson": _LINES, ".json": _LINES, ".shp": _LINES, ".fgb": _LINES,
}  # fmt: skip
# first tag of XML with another ending
_BY_TAG = {"osm": _OSM, "net": _SUMO, "graphml": _GRAPHML}
_KNOWN = ".osm .osm.gz .osm.bz2 .osm.pbf .graphml .gpkg .parquet .geojson .shp .fgb .net.xml .tntp"


def read_roads(
    source: str | Path | gpd.GeoDataFrame | nx.Graph | None = None,  # type: ignore[type-arg]
    *,
    place: str | None = None,
    network: OsmNetwork | None = None,
    crs: str | int | None = None,
    nodes: Reading = "segments",
    u_turns: bool = False,
    speeds_kmh: Mapping[str, float] | None = None,
) -> STGraph:
    """Read a road network of any kind.

    The kind of source decides which connector reads it, with that one's own defaults; name the
    connector itself for its further options.

    Parameters
    ----------
    source
        OpenStreetMap (``.osm``, ``.osm.gz``, ``.osm.bz2``, ``.osm.pbf``), GraphML, a layer of
        lines (GeoPackage, GeoParquet, GeoJSON, shapefile, FlatGeobuf), SUMO (``.net.xml``), TNTP
        (``.tntp``), a folder of GMNS (``link.csv``) or TNTP, a graph file of the sink `graph`
        (``.gpkg``), a GeoDataFrame of lines, or a networkx graph.
    place
        Name of an area in place of `source`: its roads are downloaded through OSMnx.
    network
        Kind of network in OpenStreetMap, for sources that are not cut down yet. None: drive.
    crs
        CRS of the coordinates where the source names none. Not for OpenStreetMap.
    nodes
        ``"segments"``: directed road segments are nodes; ``"junctions"``: junctions are.
    u_turns
        Whether turning back onto the same street is a turn (segments only).
    speeds_kmh
        Speed by road type, in km/h, where the source has none.

    Returns
    -------
    STGraph
        As the chosen connector returns it; ``provenance["connector"]`` names it.

    Raises
    ------
    DataError
        The source is of no known kind, does not exist, or an option is not for it.
    """
    report = Report()
    reader = _choose(source, place, report)
    extra = {"network": network, "crs": crs}
    if reader is not None:
        _check_options(reader, extra, report)
    report.raise_errors(DataError, title=_TITLE)
    assert reader is not None  # noqa: S101 - else there was an error
    options: dict[str, Any] = {name: v for name, v in extra.items() if v is not None}
    options |= {"nodes": nodes, "u_turns": u_turns, "speeds_kmh": speeds_kmh}
    read = getattr(importlib.import_module(f"{_PACKAGE}.{reader.module}"), reader.function)
    graph: STGraph
    if place is not None:
        graph = read(place=place, **options)
    else:
        graph = read(_entry(source, reader), **options)
    if "connector" in graph.provenance:
        return graph
    return graph.replace(provenance={"connector": reader.connector, **graph.provenance})


def _choose(source: Any, place: str | None, report: Report) -> _Reader | None:
    """Return the reader for a source, or note why there is none."""
    if (source is None) == (place is None):
        what = "are both missing" if source is None else "are both given"
        report.error("`source` and `place`", what, "give one of them")
        return None
    if place is not None:
        return _PLACE
    if isinstance(source, nx.Graph):
        return _GRAPH
    if isinstance(source, gpd.GeoDataFrame):
        return _LINES
    if not isinstance(source, str | Path):
        todo = "give a path, a GeoDataFrame of lines, or a networkx graph"
        report.error("`source`", f"is a {type(source).__name__}", todo)
        return None
    path = Path(source)
    if path.is_dir():
        return _choose_folder(path, report)
    if not path.exists() and not path.suffix:
        what = f"there is no file or folder {path.name!r}"
        report.error("`source`", what, f"check the path, or say place={path.name!r} if it is one")
        return None
    checked = check_path(path, report, role="source", suffixes=None)
    return None if checked is None else _choose_file(checked, report)


def _choose_folder(folder: Path, report: Report) -> _Reader | None:
    """Return the reader for a folder."""
    names = {file.name.lower() for file in folder.iterdir()}
    if "link.csv" in names:
        return _GMNS
    nets = sorted(name for name in names if name.endswith("_net.tntp"))
    if len(nets) == 1:
        return _TNTP
    what = f"holds {len(nets)} networks: {nets}" if nets else "holds no network that is known"
    report.error(
        folder.name, what, "name a file, or a folder with link.csv (GMNS) or one *_net.tntp"
    )
    return None


def _choose_file(path: Path, report: Report) -> _Reader | None:
    """Return the reader for a file, by its ending or, for XML, by its first tag."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".bz2")
    for ending, reader in _BY_ENDING.items():
        if name.endswith(ending):
            return _STORED if ending == ".gpkg" and _is_stored(path) else reader
    found = _first_tag(path)
    if found in _BY_TAG:
        return _BY_TAG[found]
    if name.endswith(".csv"):
        report.error(path.name, "is one table", "give the folder with link.csv and node.csv (GMNS)")
        return None
    kind = f"XML of <{found}>" if found else f"unknown kind {path.suffix or '(no ending)'!r}"
    report.error(path.name, f"is no road network that is known: {kind}", f"known: {_KNOWN}")
    return None


def _is_stored(path: Path) -> bool:
    """Tell whether a GeoPackage is a graph file of ours."""
    from stgraph_connectors.roads._stored import is_stored  # only for a GeoPackage

    return is_stored(path)


def _first_tag(path: Path) -> str:
    """Return the first tag of an XML file, packed or not; empty for anything else."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return ""
    text = re.sub(r"<!--.*?-->", "", head.decode("utf-8", errors="replace"), flags=re.DOTALL)
    if not text.lstrip("\ufeff \r\n\t").startswith("<"):
        return ""
    found = re.search(r"<(?:\w+:)?([A-Za-z]\w*)", text)
    return found[1] if found else ""


def _check_options(reader: _Reader, extra: Mapping[str, Any], report: Report) -> None:
    """Note options that the chosen reader has no use for."""
    meaning = {
        "network": "only OpenStreetMap has kinds of networks",
        "crs": "its coordinates are degrees of EPSG:4326",
    }
    if reader is _STORED:
        meaning = dict.fromkeys(meaning, "the file has its own; give it when the file is built")
    for name, value in extra.items():
        if value is not None and name not in reader.options:
            report.error(
                f"`{name}`",
                f"is {value!r}, but `source` is read by the connector `{reader.connector}`",
                f"leave it out: {meaning[name]}",
            )


def _entry(source: Any, reader: _Reader) -> Any:
    """Return what the reader takes: for a folder of TNTP the network in it."""
    if reader is _TNTP and isinstance(source, str | Path) and Path(source).is_dir():
        return next(f for f in Path(source).iterdir() if f.name.lower().endswith("_net.tntp"))
    return source
