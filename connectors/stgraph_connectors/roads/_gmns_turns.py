"""The turns of a GMNS network that `movement.csv` leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import IntArray
from stgraph.neighbours._turns import all_turns
from stgraph.report import Report
from stgraph_connectors._ids import clean_ids
from stgraph_connectors.roads._gmns_files import is_allowed, read_file


def find_forbidden(
    folder: Path,
    links: npt.NDArray[np.object_],
    nodes: npt.NDArray[np.object_],
    segments: tuple[IntArray, IntArray, IntArray],
    all_links: npt.NDArray[np.object_],
    groups: Mapping[str, set[str]],
    use: str | None,
    report: Report,
) -> IntArray:
    """Return pairs of segments that no movement joins, of those from which there are movements.

    Parameters
    ----------
    folder
        That of the network.
    links, nodes
        Ids of the links that are read, and of all nodes.
    segments
        (E,) position of the link of each segment, and of its first and last node.
    all_links
        Ids of all links in the file, so that strange ones are noticed.
    groups, use
        As for `is_allowed`.
    report
        Takes the findings.
    """
    none = np.zeros((0, 2), dtype=np.int64)
    table = read_file(
        folder, "movement", report, ("node_id", "ib_link_id", "ob_link_id"), optional=True
    )
    if table is None:
        return none
    names = {key: clean_ids(table.frame[key]) for key in ("node_id", "ib_link_id", "ob_link_id")}
    known = np.isin(names["node_id"].astype(str), nodes.astype(str))
    for key in ("ib_link_id", "ob_link_id"):
        known &= np.isin(names[key].astype(str), all_links.astype(str))
    if not known.all():
        first, count = int(np.argmin(known)), int((~known).sum())
        what = f"{count} movements name a node or link that is not there"
        report.warning(table.at(first), what, "they are left out", count=count)
    link, first_node, last_node = segments
    # a segment is told by its link and the node that it leads to, or comes from
    leading = pd.MultiIndex.from_arrays([links[link], nodes[last_node]])
    coming = pd.MultiIndex.from_arrays([links[link], nodes[first_node]])
    inbound = leading.get_indexer(
        pd.MultiIndex.from_arrays([names["ib_link_id"], names["node_id"]])
    )
    outbound = coming.get_indexer(
        pd.MultiIndex.from_arrays([names["ob_link_id"], names["node_id"]])
    )
    usable = (inbound >= 0) & (outbound >= 0) & is_allowed(table.frame, groups, use)
    apart = known & (inbound < 0) & np.isin(names["ib_link_id"].astype(str), links.astype(str))
    if apart.any():
        place, count = table.at(int(np.argmax(apart))), int(apart.sum())
        what = f"{count} movements are at a node to which their first link does not lead"
        report.warning(place, what, "they are left out", count=count)
    n = len(link)
    before, after = all_turns(first_node, last_node, len(nodes))
    closed = np.isin(before, inbound[usable])
    closed &= ~np.isin(before * n + after, inbound[usable] * n + outbound[usable])
    return np.column_stack([before[closed], after[closed]])
