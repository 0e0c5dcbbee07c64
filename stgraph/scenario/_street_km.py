"""How many kilometres of streets are reached, each counted once."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from stgraph.graph import IntArray
from stgraph.scenario._cover import same_lines
from stgraph.scenario._routes import Values


class StreetLength:
    """Streets of segments: both directions are one street, and parts lie on what was split.

    Each segment goes from one place of its street to another, 0 being the beginning of the street
    and 1 its end.

    Parameters
    ----------
    lines
        (E,) lines in metres.
    parent
        (E,) as of `Edited`.
    km
        (E,) lengths. That of a street is the mean of its segments.
    """

    def __init__(self, lines: Any, parent: IntArray, km: Values) -> None:
        given = np.asarray(lines)
        first, street_of = same_lines(given)
        own = np.arange(len(given))
        whole = np.where(parent >= 0, parent, own)
        self.street = street_of[whole]
        begin, end = _places(given, whole)
        is_back = ~shapely.equals_exact(given[whole], given[first[self.street]])
        self.begin = np.where(is_back, 1.0 - begin, begin)
        self.end = np.where(is_back, 1.0 - end, end)
        counted, n = whole == own, len(first)
        total = np.bincount(street_of[counted], km[counted], n)
        self.km = total / np.maximum(np.bincount(street_of[counted], minlength=n), 1)

    def reached(self, share: Values) -> float:
        """Return the kilometres that are reached, in either direction or from both ends.

        Parameters
        ----------
        share
            (E,) how much of each segment, from its beginning on, from 0 to 1.
        """
        used = np.flatnonzero(share > 0)
        street = self.street[used]
        until = self.begin[used] + share[used] * (self.end[used] - self.begin[used])
        low = 2.0 * street + np.minimum(self.begin[used], until)  # streets lie apart
        high = 2.0 * street + np.maximum(self.begin[used], until)
        order = np.argsort(low, kind="stable")
        low, high = low[order], high[order]
        before = np.concatenate([[-np.inf], np.maximum.accumulate(high)[:-1]])
        added = np.maximum(high - np.maximum(low, before), 0.0)
        return float((added * self.km[street[order]]).sum())


def _places(lines: Any, whole: IntArray) -> tuple[Values, Values]:
    """Return where each segment begins and ends on the one that it is a part of, from 0 to 1."""
    begin, end = np.zeros(len(lines)), np.ones(len(lines))
    part = np.flatnonzero(whole != np.arange(len(lines)))
    on = lines[whole[part]]
    middle = shapely.line_interpolate_point(lines[part], 0.5, normalized=True)
    at = shapely.line_locate_point(on, middle, normalized=True)  # not an end: streets may be rings
    half = 0.5 * shapely.length(lines[part]) / np.maximum(shapely.length(on), 1e-12)
    begin[part], end[part] = np.clip(at - half, 0.0, 1.0), np.clip(at + half, 0.0, 1.0)
    return begin, end
