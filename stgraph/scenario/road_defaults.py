"""Class, lanes, speed and capacity of every segment of a road network, guessed where unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import FloatArray
from stgraph.report import Report
from stgraph.scenario.operations import MAX_LANES, MAX_VPH_PER_LANE

Float64Array = npt.NDArray[np.float64]

# vehicles per hour and lane, signals included, as in MATSim's reader of OpenStreetMap
CAPACITY_PER_LANE_VPH = {
    "motorway": 2000.0,
    "motorway_link": 1500.0,
    "trunk": 2000.0,
    "trunk_link": 1500.0,
    "primary": 1500.0,
    "primary_link": 1500.0,
    "secondary": 1000.0,
    "secondary_link": 1000.0,
    "tertiary": 600.0,
    "tertiary_link": 600.0,
    "unclassified": 600.0,
    "residential": 600.0,
    "living_street": 300.0,
    "service": 300.0,
    "track": 150.0,
    # words of other sources
    "freeway": 2000.0,
    "expressway": 1800.0,
    "ramp": 1500.0,
    "ring": 1500.0,
    "bridge": 1500.0,
    "arterial": 1000.0,
    "collector": 800.0,
    "local": 600.0,
}
OTHER_CAPACITY_VPH = 800.0  # per lane, of classes that the table does not name
LANES = {"motorway": 2.0, "trunk": 2.0, "freeway": 2.0, "expressway": 2.0}  # of others 1
# km/h that are usual at most; faster ones are worth a warning
FASTEST_KMH = {
    "living_street": 20.0,
    "service": 30.0,
    "residential": 50.0,
    "local": 50.0,
    "collector": 70.0,
    "tertiary": 80.0,
    "unclassified": 100.0,
    "secondary": 100.0,
    "primary": 100.0,
}
OTHER_SPEED_KMH = 50.0
_FULL_LANE_VPH = 1800.0

_CLASS_COLUMNS = ("road_class", "highway", "facility_type", "link_type", "type")
_CAPACITY_COLUMNS = ("capacity_vph", "capacity")
_SPEED_COLUMNS = ("speed_kmh", "free_speed_kmh", "speed_limit_kmh", "maxspeed_kmh")
_PER_LANE = ("gmns",)  # connectors whose column `capacity` counts a single lane
_ENOUGH = 20  # segments of a class whose median stands for the others of that class
_WHERE = "roads"


@dataclass(frozen=True, eq=False)
class RoadValues:
    """What holds on every segment of a network as it is, without gaps."""

    road_class: npt.NDArray[np.object_]  # (E,) text, "" where unknown
    speed_kmh: FloatArray  # (E,) free-flow speed
    lanes: FloatArray  # (E,) of the direction
    capacity_vph: FloatArray  # (E,) of the direction


def fill_roads(
    table: pd.DataFrame, *, provenance: Mapping[str, Any] | None = None, report: Report
) -> RoadValues:
    """Return class, speed, lanes and capacity of every segment; guesses are told.

    Parameters
    ----------
    table
        Edges of a road network in the reading ``"junctions"``, one row per directed segment.
    provenance
        Of the network: which connector read it says what its column `capacity` counts.
    report
        Gets how many values were guessed, and from what.

    Returns
    -------
    RoadValues
        The class from `road_class`, `highway`, `facility_type`, `link_type` or `type`. Speed from
        `speed_kmh`, else 50. Capacity from `capacity_vph` or `capacity` (vehicles per hour; per
        lane in GMNS), else lanes times that of a lane. Lanes from `lanes`, else as the capacity
        needs, else of the class. A class of which 20 segments have a value lends its median to the
        others; else the tables of this module do.
    """
    connector = str((provenance or {}).get("connector", ""))
    names = _classes(table)
    first = _first_words(names)
    lanes = _numbers(table, ("lanes",))
    capacity = _capacities(table, lanes, connector, report)
    speed = _numbers(table, _SPEED_COLUMNS)
    guessed = {"speed": np.isnan(speed), "lanes": np.isnan(lanes), "capacity": np.isnan(capacity)}

    per_lane = _typical(capacity / lanes, first, CAPACITY_PER_LANE_VPH, OTHER_CAPACITY_VPH)
    usual = _typical(lanes, first, LANES, 1.0)
    # a class that nobody knows says nothing about what a lane of it carries
    carried = _typical(capacity / lanes, first, CAPACITY_PER_LANE_VPH, _FULL_LANE_VPH)
    needed = np.clip(np.round(capacity / carried), 1.0, MAX_LANES)
    needed = np.where(np.isnan(capacity), usual, needed)
    lanes = np.where(np.isnan(lanes), needed, lanes)
    capacity = np.where(np.isnan(capacity), lanes * per_lane, capacity)
    speed = np.where(np.isnan(speed), _typical(speed, first, {}, OTHER_SPEED_KMH), speed)
    _note_guesses(guessed, table, report)
    _note_much(capacity, report)
    return RoadValues(
        road_class=names,
        speed_kmh=speed.astype(np.float32),
        lanes=lanes.astype(np.float32),
        capacity_vph=capacity.astype(np.float32),
    )


def default_capacity(road_class: str, lanes: float) -> float:
    """Return vehicles per hour of a road of a class, by the table."""
    return CAPACITY_PER_LANE_VPH.get(road_class, OTHER_CAPACITY_VPH) * lanes


def fastest_kmh(road_class: str) -> float:
    """Return the speed that is usual at most on a road of a class, in km/h."""
    return FASTEST_KMH.get(road_class.split(";")[0], 130.0)


def _classes(table: pd.DataFrame) -> npt.NDArray[np.object_]:
    """Return the class of each segment as text, "" where unknown."""
    found = pd.Series("", index=table.index, dtype=object)
    for name in reversed(_CLASS_COLUMNS):
        if name in table:
            text = table[name].astype("string").str.strip().str.removeprefix("highway.")
            found = found.mask((text.notna() & (text != "")).to_numpy(bool), text.astype(object))
    return found.to_numpy(dtype=object)


def _first_words(names: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return the first of several classes, ``"residential"`` for ``"residential;service"``."""
    codes, known = pd.factorize(names)
    return np.array([str(name).split(";")[0].lower() for name in known], dtype=object)[codes]


def _numbers(table: pd.DataFrame, columns: tuple[str, ...]) -> Float64Array:
    """Return the numbers above 0 of the first column that has one, NaN where none has."""
    found = np.full(len(table), np.nan)
    for name in columns:
        if name in table:
            column = pd.to_numeric(table[name], errors="coerce")
            given = column.to_numpy(dtype=np.float64, na_value=np.nan)
            usable = np.isnan(found) & (given > 0) & np.isfinite(given)
            found = np.where(usable, given, found)
    return found


def _capacities(
    table: pd.DataFrame, lanes: Float64Array, connector: str, report: Report
) -> Float64Array:
    """Return the capacity of each direction as the source has it, NaN where it has none."""
    capacity = _numbers(table, _CAPACITY_COLUMNS[:1])
    other = _numbers(table, _CAPACITY_COLUMNS[1:])
    if connector in _PER_LANE:
        other = other * np.where(np.isnan(lanes), 1.0, lanes)
    taken = np.isnan(capacity) & ~np.isnan(other)
    if taken.any():
        unit = "a lane" if connector in _PER_LANE else "a direction"
        what = f"`capacity` is taken as vehicles per hour of {unit}"
        report.info(_WHERE, what, "name it `capacity_vph` and count directions to be sure")
    return np.where(taken, other, capacity)


def _typical(
    values: Float64Array,
    names: npt.NDArray[np.object_],
    table: Mapping[str, float],
    other: float,
) -> Float64Array:
    """Return what is usual for the class of each segment: here, or by a table."""
    codes, known = pd.factorize(names)
    usual = np.array([table.get(str(name), other) for name in known])
    here = pd.Series(values).groupby(codes).agg(["median", "count"])
    here = here[here["count"] >= _ENOUGH]
    usual[here.index.to_numpy()] = here["median"].to_numpy()
    return usual[codes]


def _note_much(capacity: Float64Array, report: Report) -> None:
    """Note capacities that no road has in an hour."""
    much = capacity > MAX_LANES * MAX_VPH_PER_LANE
    if much.any():
        what = f"{int(much.sum())} segments have a capacity of up to {capacity.max():,.0f}"
        todo = "taken as it is; if it is of a day, the trips must be, too"
        report.warning(_WHERE, f"{what} vehicles per hour", todo, count=int(much.sum()))


def _note_guesses(guessed: Mapping[str, Any], table: pd.DataFrame, report: Report) -> None:
    """Tell how many values were guessed."""
    for what, missing in guessed.items():
        count = int(missing.sum())
        if count:
            text = f"{what} of {count} of {len(table)} segments: guessed"
            todo = "from others of their class, or a table; a column with it is better"
            level = report.info if count < len(table) / 2 else report.warning
            level(_WHERE, text, todo, count=count)
