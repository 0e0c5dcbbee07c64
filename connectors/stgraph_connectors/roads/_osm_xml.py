"""OpenStreetMap XML as a stream: `.osm`, also packed with gzip or bzip2."""

from __future__ import annotations

import bz2
import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, cast
from xml.parsers import expat

from stgraph.errors import DataError
from stgraph_connectors.roads._osm_records import FIXED, Collector, OsmData, Restriction, Tags

_CHUNK_BYTES = 1 << 18
_SHOWN = 200  # characters of a remark


def read_xml(path: Path, *, packed: str = "") -> OsmData:
    """Return the ways, nodes and restrictions of an OSM XML file.

    Parameters
    ----------
    path
        The file.
    packed
        ``"gzip"``, ``"bzip2"``, or nothing.

    Raises
    ------
    DataError
        The file is cut off, is not well-formed, declares entities, or is not of OSM.
    """
    handler = _Handler(path)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = handler.refuse_doctype
    try:
        with _open(path, packed) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                parser.Parse(chunk, False)
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise DataError(_why_not_xml(path, error, handler)) from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be unpacked ({packed or 'plain'}): {error}; "
            "the file is cut off or damaged, fetch it again"
        ) from error
    return handler.found.finish()


def _open(path: Path, packed: str) -> BinaryIO:
    if packed == "gzip":
        return cast("BinaryIO", gzip.open(path))
    if packed == "bzip2":
        return cast("BinaryIO", bz2.open(path))
    return path.open("rb")


def _why_not_xml(path: Path, error: expat.ExpatError, handler: _Handler) -> str:
    """Return what to tell about XML that cannot be parsed."""
    at = f"line {error.lineno}, column {error.offset + 1}"
    unfinished = ("NO_ELEMENTS", "UNCLOSED_TOKEN", "PARTIAL_CHAR", "UNCLOSED_CDATA_SECTION")
    codes = {expat.errors.codes[getattr(expat.errors, f"XML_ERROR_{name}")] for name in unfinished}
    if error.code in codes:
        what = "is empty" if handler.depth == 0 and not handler.rooted else "is cut off"
        return f"{path}: {what} ({at}); fetch or export the file again"
    return f"{path}: is not well-formed XML ({error}); fetch or export the file again"


class _Handler:
    """Takes the events of the parser; only what a road network needs is kept."""

    def __init__(self, path: Path) -> None:
        self.found = Collector()
        self.path = path
        self.depth = 0
        self.rooted = False
        self.open: str = ""  # node, way, relation, remark: the element we are in
        self.id = 0
        self.tags: Tags = {}
        self.refs: list[int] = []
        self.members: list[tuple[str, str, int]] = []
        self.words = ""

    def refuse_doctype(self, *_: object) -> None:
        """Stop at a DOCTYPE: OSM files have none, and its entities can fill the memory."""
        raise DataError(
            f"{self.path}: has a DOCTYPE, which OSM files never have and which can hide an "
            "entity bomb; remove it, or fetch the file from a source that you trust"
        )

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        self.depth += 1
        if not self.rooted:
            self._check_root(name)
        elif self.depth > 2:
            self._start_child(name, attributes)
        elif attributes.get("action") == "delete" or attributes.get("visible") == "false":
            self.open = ""  # editors keep what they deleted
        elif name in ("node", "way", "relation"):
            self._start_element(name, attributes)
        elif name == "remark":
            self.open, self.words = name, ""

    def _check_root(self, name: str) -> None:
        self.rooted = True
        if name != "osm":
            raise DataError(
                f"{self.path}: is XML of <{name}>, not of <osm>; give an extract of OpenStreetMap "
                "(.osm, .osm.gz, .osm.bz2, .osm.pbf)"
            )

    def _start_element(self, name: str, attributes: dict[str, str]) -> None:
        self.open = name
        self.tags, self.refs, self.members = {}, [], []
        try:
            self.id = int(attributes["id"])
            if name == "node":
                self._add_node(self.id, attributes["lon"], attributes["lat"])
        except (KeyError, ValueError, OverflowError) as error:
            raise DataError(
                f"{self.path}: a <{name}> cannot be read: {attributes} "
                f"({type(error).__name__}: {error}); fetch or export the file again"
            ) from error

    def _add_node(self, node: int, lon: str, lat: str) -> None:
        x, y = float(lon), float(lat)
        if not (-180 <= x <= 180 and -90 <= y <= 90):
            raise ValueError(f"lon {lon!r}, lat {lat!r} is nowhere on Earth")
        self.found.node_ids.append(node)
        self.found.node_xy.append(round(x * FIXED))
        self.found.node_xy.append(round(y * FIXED))

    def _start_child(self, name: str, attributes: dict[str, str]) -> None:
        if not self.open:
            return
        try:
            if name == "nd":
                ref = int(attributes["ref"])
                self.refs.append(ref)
                if "lat" in attributes:  # Overpass writes places into the way on `out geom`
                    self._add_node(ref, attributes["lon"], attributes["lat"])
            elif name == "tag":
                self.tags[attributes["k"]] = attributes["v"]
            elif name == "member":
                kind, ref = attributes["type"][:1], int(attributes["ref"])
                self.members.append((attributes.get("role", ""), kind, ref))
        except (KeyError, ValueError, OverflowError) as error:
            raise DataError(
                f"{self.path}: a <{name}> of {self.open} {self.id} cannot be read: {attributes} "
                f"({type(error).__name__}: {error}); fetch or export the file again"
            ) from error

    def text(self, words: str) -> None:
        """Keep the words of a remark."""
        if self.open == "remark":
            self.words = (self.words + words)[:_SHOWN]

    def end(self, name: str) -> None:
        """Finish an element."""
        self.depth -= 1
        if self.depth != 1 or name != self.open:
            return
        if name == "way" and "highway" in self.tags:
            self.found.add_way(self.id, self.tags.items(), self.refs)
        elif name == "node" and self.tags:
            self.found.add_node_tags(self.id, self.tags)
        elif name == "relation" and self.tags.get("type") == "restriction":
            found = Restriction(self.id, self.tags, tuple(self.members))
            self.found.restrictions.append(found)
        elif name == "remark" and self.words.strip():
            self.found.remarks.append(self.words.strip())
        self.open = ""
