"""Whole numbers for the names that a source gives its junctions and links."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from stgraph.graph import IntArray
from stgraph_connectors._ids import clean_ids
from stgraph_connectors.roads._segment_ids import number_texts

_DIGITS = r"-?(?:0|[1-9]\d{0,17})"  # what comes back from an int64 as it was


def to_numbers(names: Iterable[Any]) -> tuple[IntArray, bool]:
    """Return a whole number for each name, and whether they are the names themselves.

    If all names are whole numbers these are taken, otherwise numbers of 40 bits that depend on
    nothing but the name. -1 is no name: in `reverse_id` it says that there is none.
    """
    texts = pd.Series(clean_ids(list(names)), dtype="string")
    if len(texts) and bool(texts.str.fullmatch(_DIGITS).all()):
        numbers = np.asarray(texts.astype("int64"), dtype=np.int64)
        if not (numbers == -1).any():
            return numbers, True
    return number_texts(texts), False


def positions(names: Iterable[Any], known: pd.Index) -> IntArray:
    """Return the position of each name among known ones as `clean_ids` writes them, or -1."""
    return np.asarray(known.get_indexer(pd.Index(clean_ids(list(names)))), dtype=np.int64)
