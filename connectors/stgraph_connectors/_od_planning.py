"""Trips in the formats of transport planners: OMX matrices and TNTP."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stgraph._optional import require
from stgraph.errors import nearest_name
from stgraph.report import Report
from stgraph_connectors._ids import clean_ids
from stgraph_connectors._texts import is_number
from stgraph_connectors._trips import TripOptions, Trips, from_dense, given_ids

_ROWS = 512  # rows of an OMX matrix in memory at once


def read_omx(path: Path, options: TripOptions, report: Report) -> Trips | None:
    """Read a matrix of an OMX file, some rows at a time; its zones are those of its mapping."""
    require("openmatrix", extra="od")
    import openmatrix  # needs PyTables, which is slow to load

    try:
        file = openmatrix.open_file(str(path), "r")
    except (OSError, ValueError, RuntimeError) as error:  # PyTables has several words for it
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        report.error(path.name, f"cannot be read as OMX ({reason})", "write or download it again")
        return None
    with file:
        names = list(file.list_matrices())
        name = options.matrix_name or (names[0] if len(names) == 1 else None)
        if name is None or name not in names:
            what = f"no matrix {name!r}{nearest_name(name, names)}" if name else f"has {len(names)}"
            what = what if name else f"{what} matrices"
            report.error(path.name, what, f"name one with matrix_name=: {names}")
            return None
        matrix = file[name]
        if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
            report.error(f"{path.name}, `{name}`", f"has shape {matrix.shape}", "it must be (N, N)")
            return None
        maps = list(file.list_mappings())
        # a mapping gives the zone of every row; without one, zones are numbered from 1 in OMX
        found = np.asarray(file.map_entries(maps[0])) if maps else None
        if len(maps) > 1:
            report.info(path.name, f"has the mappings {maps}", f"zones are those of {maps[0]!r}")
        ids = given_ids(found, matrix.shape[0], options, path.name, report)
        if ids is None:
            return None
        parts = []
        for row in range(0, matrix.shape[0], _ROWS):
            block = np.asarray(matrix[row : row + _ROWS], dtype=np.float64)
            part = from_dense(block, ids, f"{path.name}, `{name}`", report, row=row)
            if part is None:
                return None
            parts.append((part.origin + row, part.destination, part.trips))
        n_zones = int(matrix.shape[0])
    origin, destination, trips = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Trips(ids, origin, destination, trips, n_zones, path.name)


def read_tntp_trips(path: Path, report: Report) -> Trips | None:
    """Read trips as TransportationNetworks has them, and check their total."""
    text = path.read_text(encoding="utf-8", errors="replace")
    head, _, body = text.partition("<END OF METADATA>")
    notes = dict(re.findall(r"<([^<>]+)>\s*([^\s<]*)", head))
    body = re.sub(r"~.*", "", body)
    blocks = re.split(r"(?i)\borigin\b", body)[1:]
    if not blocks:
        what = "has no line `Origin`" if "<END" in text else "has no <END OF METADATA>"
        report.error(path.name, what, "give a file of trips: .._trips.tntp")
        return None
    origins, destinations, trips = [], [], []
    for block in blocks:
        words = block.split(None, 1)
        pairs = re.findall(r"(\d+)\s*:\s*([^;\s]+)", words[1] if len(words) > 1 else "")
        bad = [value for _, value in pairs if not is_number(value)]
        if not words or not words[0].isdigit() or bad:
            what = f"cannot be read: {(bad or words or ['nothing'])[0]!r} is no number"
            report.error(f"{path.name}, origin {words[0] if words else '?'}", what, "correct it")
            return None
        origins += [int(words[0])] * len(pairs)
        destinations += [int(destination) for destination, _ in pairs]
        trips += [float(value) for _, value in pairs]
    if not trips:
        report.error(path.name, "has no trips", "give a file of trips: .._trips.tntp")
        return None
    n_zones = max([*origins, *destinations])
    _check_notes(notes, n_zones, float(sum(trips)), path.name, report)
    if min(trips) < 0 or not np.isfinite(trips).all():
        report.error(path.name, "has trips below 0 or infinite", "correct them")
        return None
    numbers = np.unique([*origins, *destinations])
    ids = clean_ids(numbers)
    origin, destination = (
        np.searchsorted(numbers, part).astype(np.int64) for part in (origins, destinations)
    )
    return Trips(ids, origin, destination, np.array(trips, dtype=np.float64), len(ids), path.name)


def _check_notes(
    notes: dict[str, str], n_zones: int, total: float, name: str, report: Report
) -> None:
    """Compare what a TNTP file says of itself with what is in it."""
    said = notes.get("NUMBER OF ZONES", "")
    if said.isdigit() and int(said) < n_zones:
        what = f"says {said} zones but names zone {n_zones}"
        report.error(f"{name}, <NUMBER OF ZONES>", what, "correct the file")
    flow = notes.get("TOTAL OD FLOW", "")
    if is_number(flow) and abs(float(flow) - total) > 1e-6 * max(abs(total), 1.0):
        what = f"says {float(flow):,.2f} trips but the entries add up to {total:,.2f}"
        report.warning(f"{name}, <TOTAL OD FLOW>", what, "the file may be cut off; check it")
    elif is_number(flow):
        report.info(name, f"its {total:,.2f} trips are the <TOTAL OD FLOW> that it names")
