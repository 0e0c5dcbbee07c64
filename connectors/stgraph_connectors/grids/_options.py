"""Checks of the options that grids and rasters have."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar
from zoneinfo import available_timezones

import pyproj

from stgraph.errors import DataError, nearest_name
from stgraph.neighbours._places import is_mercator
from stgraph.report import Report
from stgraph_connectors._clock import check_limit
from stgraph_connectors._coordinates import parse_crs

Neighbours = Literal["queen", "rook", "none"]

_T = TypeVar("_T")


def need(part: _T | None, report: Report, title: str) -> _T:
    """Return what was read, or raise what the report says about it."""
    report.raise_errors(DataError, title=title)
    if part is None:
        raise DataError(f"{title}: nothing could be read")
    return part


def check_word(name: str, given: object, known: Collection[str], report: Report) -> None:
    """Note an option that is none of its known words."""
    if given not in known:
        what = f"unknown value {given!r}{nearest_name(given, known)}"
        report.error(f"`{name}`", what, f"use one of {list(known)}")


def check_number(
    name: str,
    given: object,
    report: Report,
    *,
    least: float = 0.0,
    most: float = math.inf,
    whole: bool = False,
    above: bool = False,
    optional: bool = False,
) -> None:
    """Note an option that is no number between `least` and `most`."""
    if given is None and optional:
        return
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    fits = is_number and math.isfinite(given) and least <= given <= most  # type: ignore[arg-type,operator]  # a number
    if fits and not (above and given == least) and not (whole and given != int(given)):  # type: ignore[call-overload]  # a number
        return
    kind = "a whole number" if whole else "a number"
    limits = f"above {least:g}" if above else f"of at least {least:g}"
    limits += f" and at most {most:g}" if math.isfinite(most) else ""
    report.error(f"`{name}`", f"is {given!r}", f"give {kind} {limits}")


def check_time(zone: str, limits: Mapping[str, Any], report: Report) -> None:
    """Note a zone or an instant that cannot be."""
    if zone not in available_timezones():
        what = f"unknown time zone {zone!r}{nearest_name(zone, available_timezones())}"
        report.error("`zone`", what, "use an IANA name such as 'Europe/Berlin' or 'Etc/GMT-10'")
    for name, limit in limits.items():
        check_limit(name, limit, report)


def read_plane(name: str, crs: str | int | None, report: Report) -> pyproj.CRS | None:
    """Return the CRS that an option names if it is a plane with metres or feet."""
    system = parse_crs(crs, report, option=name)
    if system is not None and not system.is_projected:
        what = f"{system.name} is no plane, so that squares in metres cannot be drawn in it"
        report.error(f"`{name}`", what, "name a projected CRS, such as grid_crs=25832")
        return None
    if system is not None and is_mercator(system):
        what = f"metres of {system.name} are shorter on the ground the further from the equator"
        report.warning(f"`{name}`", what, "leave it out for squares in the local UTM zone")
    return system
