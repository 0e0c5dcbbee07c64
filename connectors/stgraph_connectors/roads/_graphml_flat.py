"""Read the flat middle of a GraphML document: nodes and edges with plain data, nothing else.

All is done on arrays of the positions of ``<`` and ``>``. What is not exactly ``<node ...>``,
``<data key="...">text</data>`` ..., ``</node>``, or the same with edges, is refused, so that the
caller lets expat read it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stgraph.graph import BoolArray, IntArray

Words = npt.NDArray[np.uint64]

_REFERENCE = re.compile(r"&(?:(lt|gt|amp|quot|apos)|#(\d+)|#x([0-9a-fA-F]+));")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_BEFORE_NAME = re.compile(r"(?:\s*/?\0)?\s*([\w:.-]+)\s*=\s*")
_BEFORE_KEY = len('<data key="')
_LONGEST_KEY = 16  # bytes; longer ones are left to expat
_BETWEEN = "\0"  # which no XML holds


@dataclass
class Elements:
    """All nodes or all edges of a document, in its order."""

    count: int = 0
    attributes: dict[str, list[str | None]] = field(default_factory=dict)  # of the tags
    # by key: positions of elements, and their texts as an Arrow array of large_string
    texts: dict[str, list[tuple[IntArray, Any]]] = field(default_factory=dict)

    def extend(self, attributes: dict[str, list[str | None]], count: int) -> None:
        """Add some elements with the attributes of their tags."""
        for name in attributes.keys() - self.attributes.keys():
            self.attributes[name] = [None] * self.count
        for name, column in self.attributes.items():
            column.extend(attributes.get(name) or [None] * count)
        self.count += count

    def put(self, key: str, at: IntArray, texts: Any) -> None:
        """Add the texts that the elements at some positions have for a key."""
        self.texts.setdefault(key, []).append((at, texts))


@dataclass(frozen=True, eq=False)
class _Tags:
    """The tags of a stretch of XML, by their positions in it."""

    body: bytes
    start: IntArray  # of "<"
    stop: IntArray  # of ">"
    is_data: BoolArray
    is_node: BoolArray  # opening
    is_edge: BoolArray
    key: IntArray  # of each data tag, position in keys
    keys: list[str]


class _UnusualError(ValueError):
    """Something that is left to expat."""


def scan_flat(body: bytes) -> tuple[Elements, Elements] | None:
    """Return the nodes and edges of a flat stretch of GraphML, or None if it is not flat."""
    try:
        tags = _find_tags(body.replace(b"\r\n", b"\n") if b"\r" in body else body)
        opens = tags.is_node | tags.is_edge
        is_edge = tags.is_edge[opens]
        owner = np.cumsum(opens)[tags.is_data] - 1  # which of all elements
        values = _values(tags)
        return _take(tags, values, owner, ~is_edge), _take(tags, values, owner, is_edge)
    except (_UnusualError, UnicodeDecodeError, pa.ArrowInvalid):
        return None


def _values(tags: _Tags) -> Any:
    """Return the texts of all data and, between them, what is between: an array without a copy."""
    at = np.flatnonzero(tags.is_data)
    bounds = np.stack([tags.stop[at] + 1, tags.start[at + 1]], axis=1).ravel().astype(np.int64)
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(tags.body)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), max(len(bounds) - 1, 0), buffers)


def _take(tags: _Tags, values: Any, owner: IntArray, chosen: BoolArray) -> Elements:
    """Return the chosen ones of all elements."""
    opened = np.flatnonzero(tags.is_node | tags.is_edge)[chosen]
    elements = Elements()
    elements.extend(_attributes(tags, opened), len(opened))
    position = np.cumsum(chosen) - 1
    chosen_data = chosen[owner]
    has_references = b"&" in tags.body
    for code, key in enumerate(tags.keys):
        rows = np.flatnonzero(chosen_data & (tags.key == code))
        if len(rows):
            texts = values.take(pa.array(2 * rows)).cast(pa.large_string())
            if has_references and pc.any(pc.match_substring(texts, "&")).as_py():
                texts = pa.array(_resolve(texts.to_pylist()), pa.large_string())
            elements.put(key, position[owner[rows]], texts)
    return elements


def _find_tags(body: bytes) -> _Tags:
    """Return the tags of a flat stretch."""
    raw = np.frombuffer(body, np.uint8)
    start, stop = np.flatnonzero(raw == ord("<")), np.flatnonzero(raw == ord(">"))
    in_turn = len(start) == len(stop) > 0 and (start < stop).all() and (stop[:-1] < start[1:]).all()
    if not in_turn or b"\r" in body or b"\0" in body:
        raise _UnusualError
    # the eight bytes from any position on, as one number
    padded = body + bytes(32)
    words: Words = np.ndarray((len(padded) - 7,), np.dtype("<u8"), padded, strides=(1,))
    at_start = words[start]
    is_data = (at_start == _word(b"<data ke")) & (words[start + 3] == _word(b'ta key="'))
    is_node, is_edge = (_begins(at_start, word) for word in (b"<node ", b"<edge "))
    ends = [_begins(at_start, word) for word in (b"</data>", b"</node>", b"</edge>")]
    empty = (is_node | is_edge) & (raw[stop - 1] == ord("/"))
    if not _is_flat(is_data, is_node & ~empty, is_edge & ~empty, ends, empty):
        raise _UnusualError
    if (raw[stop[is_data] - 1] != ord('"')).any():
        raise _UnusualError
    key, keys = _read_keys(body, words, start[is_data] + _BEFORE_KEY, stop[is_data] - 1)
    return _Tags(body, start, stop, is_data, is_node, is_edge, key, keys)


def _word(text: bytes) -> np.uint64:
    """Return eight bytes or less as a number, the first one lowest."""
    return np.uint64(int.from_bytes(text, "little"))


def _begins(words: Words, text: bytes) -> BoolArray:
    """Tell which words begin with less than eight bytes."""
    return np.asarray((words & np.uint64((1 << 8 * len(text)) - 1)) == _word(text))


def _is_flat(
    is_data: BoolArray, node: BoolArray, edge: BoolArray, ends: list[BoolArray], empty: BoolArray
) -> bool:
    """Tell whether tags are nodes and edges, one after the other, with nothing but data inside."""
    end_data, end_node, end_edge = ends
    known = is_data | node | edge | end_data | end_node | end_edge | empty
    if not known.all() or is_data[-1] or end_data[0]:
        return False
    pairs = np.array_equal(is_data[:-1], end_data[1:])
    outer = np.flatnonzero(node | edge | end_node | end_edge)
    opened, closed = outer[0::2], outer[1::2]
    alternate = len(opened) == len(closed) and bool(
        np.array_equal(node[opened], end_node[closed])
        and np.array_equal(edge[opened], end_edge[closed])
        and (node | edge)[opened].all()
    )
    depth: IntArray = np.cumsum(node | edge) - np.cumsum(end_node | end_edge)
    return bool(pairs and alternate and depth[is_data].all() and not depth[empty].any())


def _read_keys(
    body: bytes, words: Words, first: IntArray, last: IntArray
) -> tuple[IntArray, list[str]]:
    """Return which key each data tag has, and the keys."""
    length = last - first
    if not len(first):
        return length, []
    if length.min() < 1 or length.max() > _LONGEST_KEY:
        raise _UnusualError
    mask = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)
    codes, _ = pd.factorize(words[first] & mask[np.minimum(length, 8)])
    high = words[first + 8] & mask[np.maximum(length - 8, 0)]
    if high.any():
        more, distinct = pd.factorize(high)
        codes, _ = pd.factorize(codes * len(distinct) + more)
    _, heads = np.unique(codes, return_index=True)
    keys = [body[first[i] : last[i]] for i in heads]
    if any(re.fullmatch(rb"[\w.:-]+", key) is None for key in keys):
        raise _UnusualError  # more than one attribute, or a reference
    return codes, [key.decode() for key in keys]


def _attributes(tags: _Tags, at: IntArray) -> dict[str, list[str | None]]:
    """Return the attributes of opening tags that all have the same ones."""
    count = len(at)
    if not count:
        return {}
    # cut at the quotes: name, value, name, value ..., and what is before the end
    parts = _BETWEEN.join(_slices(tags.body, tags.start[at] + 6, tags.stop[at])).split('"')
    step, rest = divmod(len(parts) - 1, count)
    if rest or step % 2 or not step or parts[-1].strip() not in ("", "/"):
        raise _UnusualError
    columns: dict[str, list[str | None]] = {}
    for column in range(0, step, 2):
        found = [_BEFORE_NAME.fullmatch(part) for part in set(parts[column::step][:count])]
        names = {match[1] if match else "" for match in found}
        name = names.pop()
        if names or not name or name in columns:
            raise _UnusualError
        columns[name] = [*_resolve(parts[column + 1 :: step])]
    return columns


def _slices(body: bytes, start: IntArray, stop: IntArray) -> list[str]:
    """Return parts of a body as texts."""
    parts = [body[i:j] for i, j in zip(start.tolist(), stop.tolist(), strict=True)]
    return _BETWEEN.encode().join(parts).decode().split(_BETWEEN)


def _resolve(texts: list[str]) -> list[str]:
    """Return texts with their references to characters resolved."""
    return [_resolve_one(text) if "&" in text else text for text in texts]


def _resolve_one(text: str) -> str:
    if len(_REFERENCE.findall(text)) != text.count("&"):
        raise _UnusualError  # an entity that nobody declared: expat says so
    return _REFERENCE.sub(
        lambda found: (
            _NAMED.get(found[1]) or chr(int(found[2] or found[3], 10 if found[2] else 16))
        ),
        text,
    )
