"""Ids of junctions and segments that are the same whenever the same roads are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from stgraph.graph import IntArray

_BITS = 40  # 13 digits: short enough to read, and any program holds them exactly
_MASK = np.uint64((1 << _BITS) - 1)
_SALT = np.uint64(0x9E3779B97F4A7C15)


def number_segments(
    junctions: pd.Index, source: IntArray, target: IntArray, lines: npt.NDArray[np.object_]
) -> IntArray:
    """Return an id of 40 bits for each segment, from its junctions and its line.

    It depends on neither the order of the segments nor the other segments: a larger extract of
    the same map gives the same ids. Only where two segments would get one id, about once in a
    million segments, the later one in order of junctions and lines takes the next free one.
    """
    ids = junctions.to_numpy()
    # of parallel segments the line decides
    centre = _weighted_centres(lines)
    shape = _mix(_cells(centre[:, 0])) ^ _mix(_mix(_cells(centre[:, 1])))
    key = _mix(_mix(_mix(_as_bits(ids[source])) ^ _as_bits(ids[target])) ^ shape)
    order = np.lexsort((centre[:, 1], centre[:, 0], ids[target], ids[source]))
    return _without_clashes(key & _MASK, order)


def number_texts(texts: Iterable[Any]) -> IntArray:
    """Return an id of 40 bits for each text; equal texts get equal ids."""
    codes, known = pd.factorize(pd.Series(list(texts), dtype="string"))
    numbers = np.array(
        [int.from_bytes(hashlib.blake2b(t.encode(), digest_size=8).digest(), "big") for t in known],
        dtype=np.uint64,
    )
    return _without_clashes(numbers & _MASK, np.argsort(known.to_numpy(), kind="stable"))[codes]


def _weighted_centres(lines: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """Return means of the points of lines, the n-th point counted n times.

    The two ways of a street that ends where it begins differ in it.
    """
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    nth = np.arange(len(owner)) - np.searchsorted(owner, owner) + 1.0
    total = np.bincount(owner, weights=nth, minlength=len(lines))
    sums = [np.bincount(owner, weights=part * nth, minlength=len(lines)) for part in xy.T]
    return np.column_stack(sums) / total[:, None]


def _cells(coordinate: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Return coordinates rounded to 1e-6 (0.1 m in degrees, less on a plane), as bits."""
    return _as_bits(np.rint(coordinate * 1e6).astype(np.int64))


def _as_bits(numbers: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return integers as unsigned ones of the same bits."""
    return numbers.astype(np.int64).view(np.uint64)


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return bits scattered over all 64 (the finaliser of SplitMix64, Steele et al. 2014)."""
    bits = bits + _SALT
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _without_clashes(keys: npt.NDArray[np.uint64], order: IntArray) -> IntArray:
    """Return the keys as ids, the later ones of a clash moved on to the next free number."""
    ids = keys.astype(np.int64)
    ranked = pd.Series(ids[order])
    clashes = order[ranked.duplicated().to_numpy()]
    taken = set(ids.tolist()) if len(clashes) else set()
    for position in clashes:
        while int(ids[position]) in taken:
            ids[position] = (ids[position] + 1) & int(_MASK)
        taken.add(int(ids[position]))
    return ids
