"""Speeds and lanes of roads, from what maps say about them, in one unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import nearest_name
from stgraph.report import Report

Float64Array = npt.NDArray[np.float64]

# km/h where a map says nothing and the network has too few segments that say it
DEFAULT_SPEEDS_KMH = {
    "motorway": 110.0,
    "motorway_link": 60.0,
    "trunk": 90.0,
    "trunk_link": 50.0,
    "primary": 60.0,
    "primary_link": 50.0,
    "secondary": 50.0,
    "secondary_link": 50.0,
    "tertiary": 50.0,
    "tertiary_link": 40.0,
    "unclassified": 50.0,
    "residential": 30.0,
    "living_street": 10.0,
    "service": 15.0,
    "busway": 40.0,
    "track": 15.0,
    "cycleway": 15.0,
    "footway": 5.0,
    "path": 5.0,
    "pedestrian": 5.0,
    "steps": 3.0,
}
OTHER_SPEED_KMH = 40.0  # of types that the table does not name
_ENOUGH = 20  # segments of a type whose median speeds stand for the others of that type
FASTEST_KMH = 200.0  # no road has a higher limit

_KMH_PER_UNIT = {"": 1.0, "km/h": 1.0, "kmh": 1.0, "kph": 1.0, "mph": 1.609344, "knots": 1.852}
_SPEED = re.compile(r"^(\d+(?:\.\d+)?)\s*(km/h|kmh|kph|mph|knots)?$")
_NUMBERED_ZONE = re.compile(r"(?:([a-z]{2}):)?(?:zone:?)?(\d+)")  # DE:zone30, DE:zone:30, DE:30
_COUNTRIES_OF_MILES = ("gb", "uk", "us")
# what a zone means, where the map names it in place of a number: https://wiki.openstreetmap.org/wiki/Default_speed_limits
_ZONE_KMH = {
    "urban": 50.0,
    "rural": 90.0,
    "trunk": 110.0,
    "motorway": 120.0,
    "living_street": 10.0,
    "bicycle_road": 30.0,
    "walk": 5.0,
}
_ZONES_OF_COUNTRY_KMH = {
    "de:rural": 100.0,
    "at:rural": 100.0,
    "at:motorway": 130.0,
    "fr:rural": 80.0,
    "fr:motorway": 130.0,
    "it:motorway": 130.0,
    "nl:rural": 80.0,
    "nl:motorway": 100.0,
    "gb:nsl_single": 96.56064,
    "gb:nsl_dual": 112.65408,
    "gb:nsl_restricted": 48.28032,
    "gb:motorway": 112.65408,
    "ru:urban": 60.0,
    "ua:urban": 50.0,
}


def parse_speed(text: str) -> float:
    """Return a speed limit in km/h, or NaN where it says no number.

    Knows ``50``, ``50 km/h``, ``30 mph``, ``10 knots``, zones such as ``DE:urban``, ``DE:zone30``
    and ``GB:20`` (there in mph), ``walk``, and several values (``50;70``, ``50|30``), of which it
    takes the mean. ``none``, ``signals`` and ``variable`` are no number.
    """
    parts = [part for part in re.split(r"[;|,]", text.strip().lower()) if part.strip()]
    speeds = [_parse_one_speed(part.strip()) for part in parts]
    known = [speed for speed in speeds if not np.isnan(speed)]
    return float(np.mean(known)) if known else float("nan")


def _parse_one_speed(text: str) -> float:
    """Return one speed in km/h, or NaN."""
    match = _SPEED.match(text)
    if match:
        return _in_range(float(match[1]) * _KMH_PER_UNIT[match[2] or ""])
    zone = text.rsplit(":", 1)[-1]
    if numbered := _NUMBERED_ZONE.fullmatch(text):
        unit = "mph" if numbered[1] in _COUNTRIES_OF_MILES else ""
        return _in_range(float(numbered[2]) * _KMH_PER_UNIT[unit])
    return _ZONES_OF_COUNTRY_KMH.get(text, _ZONE_KMH.get(zone, float("nan")))


def _in_range(speed_kmh: float) -> float:
    """Return a speed, or NaN where no road has such a limit."""
    return speed_kmh if 0 < speed_kmh <= FASTEST_KMH else float("nan")


def parse_lanes(text: str) -> float:
    """Return a number of lanes; of several the smallest, NaN where it says none."""
    numbers = [float(part) for part in re.findall(r"\d+(?:\.\d+)?", text)]
    return min((number for number in numbers if number > 0), default=float("nan"))


def parse_each(column: pd.Series, parse: Callable[[str], float]) -> Float64Array:
    """Return the numbers of a column of texts, each distinct text read once."""
    codes, texts = pd.factorize(column.astype("string"), use_na_sentinel=True)
    numbers = np.array([*(parse(str(text)) for text in texts), np.nan])
    return numbers[codes]  # -1, a missing text, takes the NaN at the end


def fill_speeds(
    speed_kmh: Float64Array, kind: pd.Series, given_kmh: Mapping[str, float]
) -> Float64Array:
    """Return speeds with the unknown ones taken from roads of the same type.

    In this order: what the caller gives for the type, the median of the type in this network if
    at least 20 segments of it have a speed, `DEFAULT_SPEEDS_KMH`, and 40 km/h.
    """
    codes, kinds = pd.factorize(kind.astype("string"), use_na_sentinel=True)
    # each distinct text is looked at once; the last one is for missing texts, whose code is -1
    firsts, names = pd.factorize(np.array([*(str(k).split(";")[0] for k in kinds), ""], object))
    code = firsts[codes]
    known = pd.Series(speed_kmh).groupby(code).agg(["median", "count"])
    enough = known[known["count"] >= _ENOUGH]
    local = dict(zip(map(str, names[enough.index]), enough["median"].astype(float), strict=True))
    table = DEFAULT_SPEEDS_KMH | local | dict(given_kmh)
    typical = np.array([table.get(str(name), OTHER_SPEED_KMH) for name in names])
    return np.where(np.isnan(speed_kmh), typical[code], speed_kmh)


def check_speeds(given_kmh: Mapping[str, float], kinds: set[str], report: Report) -> None:
    """Note speeds by road type that are no speeds, or are for a type that is not there."""
    if not isinstance(given_kmh, Mapping):
        report.error("`speeds_kmh`", f"is {given_kmh!r}", "give {'residential': 30}, by road type")
        return
    for kind, speed in given_kmh.items():
        is_number = isinstance(speed, int | float | np.number)
        if not (is_number and 0 < speed <= FASTEST_KMH):
            report.error(
                f"`speeds_kmh`, {kind!r}", f"is {speed!r}", f"use km/h up to {FASTEST_KMH:g}"
            )
        elif kind not in kinds | set(DEFAULT_SPEEDS_KMH):
            known = sorted(kinds)
            report.warning(
                "`speeds_kmh`",
                f"no road is of type {kind!r}{nearest_name(kind, known)}",
                f"there are {known[:10]}",
            )
