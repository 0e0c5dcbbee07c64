"""Read a GraphML document into its nodes, edges and their texts, without building a graph.

The parser is expat. The flat middle that networkx, OSMnx, igraph and Gephi write is cut out and
read by `_graphml_flat`, which is many times faster; if it is not flat, expat reads all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np
import pyarrow as pa

from stgraph_connectors.roads._graphml_flat import Elements, scan_flat

_MIDDLE = re.compile(rb"<(?:node|edge) ")
_OTHER_ENCODING = re.compile(rb"encoding\s*=\s*[\"'](?!utf-8|us-ascii)", re.IGNORECASE)


class GraphMLError(ValueError):
    """A document is no GraphML, or is damaged; the message says how."""


@dataclass(frozen=True)
class Key:
    """The declaration of an attribute."""

    name: str
    scope: str  # node, edge, graph or all
    kind: str  # string, int, long, float, double, boolean; empty where not said
    default: str | None = None


@dataclass
class Document:
    """What a GraphML document holds."""

    keys: dict[str, Key] = field(default_factory=dict)
    graph: dict[str, str] = field(default_factory=dict)  # attributes of the tag
    notes: dict[str, str] = field(default_factory=dict)  # data of the graph, by name
    nodes: Elements = field(default_factory=Elements)
    edges: Elements = field(default_factory=Elements)
    n_graphs: int = 0  # on the first level; those after the first are left out
    n_hyperedges: int = 0  # left out


def parse_document(data: bytes) -> Document:
    """Return what a GraphML document holds.

    Raises
    ------
    GraphMLError
        No well-formed XML, no GraphML, or it declares entities, which no graph needs.
    """
    cut = _cut(data)
    flat = None if cut is None else scan_flat(data[cut])
    reader = _Reader()
    try:
        if cut is None or flat is None:
            reader.feed(data, last=True)
        else:
            reader.feed(data[: cut.start])
            reader.take(*flat)
            reader.feed(data[cut.stop :], last=True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        line = data.count(b"\n") + 1 if reader.flat else error.lineno
        raise GraphMLError(f"is damaged or cut off: {reason}, line {line}") from error
    document = reader.finish()
    if not document.n_graphs:
        raise GraphMLError("holds no <graph>")
    return document


def _cut(data: bytes) -> slice | None:
    """Return where the nodes and edges are, if nothing before them can hide what they are."""
    graph = re.search(rb"<graph[\s>]", data)
    first = _MIDDLE.search(data, graph.end()) if graph else None
    if first is None:
        return None
    head = data[: first.start()]
    hidden = any(head.count(a) != head.count(b) for a, b in ((b"<!--", b"-->"), (b"<?", b"?>")))
    if _OTHER_ENCODING.search(head) or hidden or not head.isascii() or b"<![" in head:
        return None
    stop = max(data.rfind(b"</node>"), data.rfind(b"</edge>")) + len(b"</edge>")
    return slice(first.start(), stop) if stop > first.start() else None


class _Reader:
    """Handlers of expat events, and what they have gathered."""

    def __init__(self) -> None:
        self.document = Document()
        self.flat = False  # whether the middle was read without expat
        self._path: list[str] = []  # open tags without prefix
        self._owners: list[tuple[str, int]] = []  # open nodes, edges, and other holders of data
        self._key: str | None = None  # of the open data
        self._declared: dict[str, str] = {}  # of the open key
        self._texts: list[str] = []
        self._rows: dict[str, list[dict[str, str]]] = {"node": [], "edge": []}
        self._data: dict[tuple[str, str], tuple[list[int], list[str]]] = {}
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.EntityDeclHandler = self._refuse_entity

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """Read a piece of the document."""
        self._parser.Parse(data, last)

    def take(self, nodes: Elements, edges: Elements) -> None:
        """Take nodes and edges that were read by others, in place of a piece."""
        self.flat = True
        self.document.nodes, self.document.edges = nodes, edges

    def finish(self) -> Document:
        """Return the document, what expat has found after what was taken."""
        document = self.document
        for scope, elements in (("node", document.nodes), ("edge", document.edges)):
            before, rows = elements.count, self._rows[scope]
            names = dict.fromkeys(name for row in rows for name in row)
            elements.extend({name: [row.get(name) for row in rows] for name in names}, len(rows))
            for (owner, key), (at, texts) in self._data.items():
                if owner == scope:
                    texts = pa.array(texts, pa.large_string())
                    elements.put(key, np.array(at, dtype=np.int64) + before, texts)
        return document

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        self._path.append(name)
        if self._key is not None:
            self._key = ""  # markup inside of data is drawing, such as yEd's
        elif name == "data":
            self._key = attributes.get("key", "")
            self._parser.CharacterDataHandler = self._texts.append
        elif name in self._rows:
            if self.document.n_graphs == 1:
                self._owners.append((name, len(self._rows[name])))
                self._rows[name].append(attributes)
        else:
            self._start_other(name, attributes)

    def _start_other(self, name: str, attributes: dict[str, str]) -> None:
        if name == "key":
            self._declared = attributes
        elif name == "default":
            self._parser.CharacterDataHandler = self._texts.append
        elif name == "hyperedge":
            self.document.n_hyperedges += 1
        if name == "graph" and "graph" not in self._path[:-1]:
            self.document.n_graphs += 1
            if self.document.n_graphs == 1:
                self.document.graph = attributes
        if name in ("graph", "graphml", "port", "hyperedge"):
            self._owners.append((name, len(self._path)))

    def _end(self, _: str) -> None:
        name = self._path.pop()
        if name == "data" and self._key is not None:
            self._end_data()
        elif self._key is not None:
            return
        elif name in self._rows or name in ("graph", "graphml", "port", "hyperedge"):
            if self._owners and self._owners[-1][0] == name:
                self._owners.pop()
        elif name == "default":
            self._declared = {**self._declared, "default": self._text()}
        elif name == "key":
            self._end_key()

    def _end_data(self) -> None:
        text, key, self._key = self._text(), self._key, None
        if not key or not self._owners or self.document.n_graphs != 1:
            return
        scope, position = self._owners[-1]
        if scope in self._rows:
            at, texts = self._data.setdefault((scope, key), ([], []))
            at.append(position)
            texts.append(text)
        elif scope == "graph":
            declared = self.document.keys.get(key)
            self.document.notes.setdefault(declared.name if declared else key, text)

    def _end_key(self) -> None:
        declared = self._declared
        identity = declared.get("id", "")
        name = declared.get("attr.name", "" if "yfiles.type" in declared else identity)
        if name:
            self.document.keys[identity] = Key(
                name, declared.get("for", "all"), declared.get("attr.type", ""),
                declared.get("default"),
            )  # fmt: skip

    def _text(self) -> str:
        self._parser.CharacterDataHandler = None
        text = "".join(self._texts)
        self._texts.clear()
        return text

    def _refuse_entity(self, name: str, *_: object) -> None:
        raise GraphMLError(
            f"declares the entity {name!r}, which no graph needs and may be an attack"
        )
