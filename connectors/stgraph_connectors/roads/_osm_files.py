"""Which kind of OpenStreetMap file a path is, by name and by content, and how to read it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from stgraph.errors import DataError
from stgraph_connectors.roads._area import Box
from stgraph_connectors.roads._osm_pbf import read_pbf
from stgraph_connectors.roads._osm_records import OsmData
from stgraph_connectors.roads._osm_xml import read_xml

Kind = Literal["xml", "gzip", "bzip2", "pbf"]

_SUFFIXES: dict[str, Kind] = {".pbf": "pbf", ".gz": "gzip", ".bz2": "bzip2", ".osm": "xml"}
_HEAD_BYTES = 512
_OTHERS = {  # how files begin that people take for an extract
    b"PK\x03\x04": "a zip archive; unpack it",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz; unpack it",
    b"\x28\xb5\x2f\xfd": "zstd; unpack it",
    b"SQLite format 3": "a GeoPackage or SQLite file; read it with `road_lines`",
    b"{": "JSON; ask Overpass for [out:xml], or read GeoJSON with `road_lines`",
    b"PAR1": "Parquet; read it with `road_lines`",
}


def read_osm_file(path: Path, *, near: Box | None) -> OsmData:
    """Return the ways, nodes and restrictions of a file of any of the four kinds.

    `near` keeps ways far from a box out of memory where the reader can tell them.
    """
    kind = _kind_of(path)
    if kind == "pbf":
        return read_pbf(path, near=near)
    return read_xml(path, packed="" if kind == "xml" else kind)


def _kind_of(path: Path) -> Kind:
    """Return what the name and the first bytes agree on."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; check the path") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error}); give an OSM file") from error
    if not head:
        raise DataError(f"{path}: is empty; fetch or export the file again")
    told, found = _SUFFIXES.get(path.suffix.lower()), _sniff(head)
    if told and found != told:
        raise DataError(
            f"{path}: is {found or _describe(head)}, but its name says {told}; "
            "rename it after what it is, or fetch it again"
        )
    if found is None:
        raise DataError(
            f"{path}: is {_describe(head)}; give OpenStreetMap data: {list(get_args(Kind))} "
            "(.osm, .osm.gz, .osm.bz2, .osm.pbf)"
        )
    return found


def _sniff(head: bytes) -> Kind | None:
    """Return the kind that the first bytes show, or None."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"BZh"):
        return "bzip2"
    if b"OSMHeader" in head[4:20]:
        return "pbf"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return "xml" if text.startswith(b"<") else None


def _describe(head: bytes) -> str:
    """Return what a file seems to be that is no OSM file."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    known = next((name for magic, name in _OTHERS.items() if text.startswith(magic)), None)
    if known is not None:
        return known
    try:
        line = text.decode("utf-8", errors="strict" if len(head) < _HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return "no known kind"
    line = line.splitlines()[0].strip() if line.strip() else ""
    if not line.isprintable() or not line:
        return "no known kind"
    table = "a table" if re.search(r"[,;\t]", line) else "text"
    return f"{table} that begins with {line[:40]!r}"
