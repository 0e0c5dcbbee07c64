"""What a scenario does between zones: times, what can be reached, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import geopandas as gpd
import numpy as np
import pandas as pd

from stgraph.scenario._routes import Values
from stgraph.scenario.accessibility import isochrones, reachable
from stgraph.scenario.demand import Demand
from stgraph.scenario.od_times import HourlySpeeds, ODTimes, hourly_speeds, measure_od, od_table
from stgraph.scenario.result import LinkEffects
from stgraph.scenario.sources import Isochrones
from stgraph.scenario.states import Edited
from stgraph.scenario.summary import trip_numbers


@dataclass(frozen=True, eq=False)
class ZoneEffects:
    """Times between zones and what follows from them."""

    speeds: HourlySpeeds
    od: ODTimes
    rows: pd.DataFrame  # as `ScenarioResult.od`
    access: pd.DataFrame  # as `ScenarioResult.access`
    trip_members: tuple[Mapping[str, float], ...]  # `trip_numbers` of each member of the range
    isochrones: gpd.GeoDataFrame | None  # as `ScenarioResult.isochrones`


def measure_zones(
    edited: Edited,
    effects: LinkEffects,
    members: Iterable[tuple[Values, Values]],
    demand: Demand,
    *,
    trips_base: Values,
    trips_scn: Values,
    zone: str,
    asked: Isochrones | None = None,
) -> ZoneEffects:
    """Return times between zones, what can be reached, and their ranges.

    Parameters
    ----------
    edited
        Both networks.
    effects
        Speeds on both.
    members
        Speeds and flows (T, E) that would fit as well: the range.
    demand
        Zones.
    trips_base, trips_scn
        (H, Z, Z) cars of the hours of the horizon.
    zone
        IANA name of the zone whose full hours count.
    asked
        Of which zones the areas within reach are wanted, too. None: of none.

    Notes
    -----
    A range is that of the changes; what is shown lies in it. Of a member with more trips, the times
    are those on its streets, each trip counted as often as in what is shown.
    """
    speeds = hourly_speeds(edited, effects, zone=zone)
    od = measure_od(edited, speeds, demand)
    rows, access = od_table(od, zone=zone, trips=trips_scn), reachable(od, demand, zone=zone)
    numbers, times, reached = [], [rows], [access]
    for speed, _ in members:
        its_speeds = hourly_speeds(edited, replace(effects, speed_scn=speed), zone=zone)
        other = measure_od(edited, its_speeds, demand, known=od)
        numbers.append(trip_numbers(other, trips_base))
        times.append(od_table(other, zone=zone, trips=trips_scn))
        reached.append(reachable(other, demand, zone=zone))
    if numbers:
        low, high = _ends(times, "tt_base_min", "tt_scn_min")
        rows = rows.assign(d_min_low=low, d_min_high=high)
        access = _access_with_range(access, reached)
    else:
        rows = rows.assign(d_min_low=np.nan, d_min_high=np.nan)
    areas = None if asked is None else _areas(edited, speeds, demand, asked, zone)
    return ZoneEffects(speeds, od, rows, access, tuple(numbers), areas)


def _areas(
    edited: Edited, speeds: HourlySpeeds, demand: Demand, asked: Isochrones, zone: str
) -> gpd.GeoDataFrame:
    """Return the areas within reach of some zones, on the speeds of each part of the day."""
    zones = list(asked.from_)
    at = pd.Index([str(name) for name in demand.zones.index]).get_indexer(pd.Index(zones))
    origins = pd.Series(edited.roads.node_ids[demand.junctions[at]], index=zones)
    found = isochrones(edited, speeds, origins, minutes=asked.minutes, zone=zone)
    return found.rename(columns={"origin": "zone"})


def _ends(tables: Sequence[pd.DataFrame], base: str, scn: str) -> tuple[Values, Values]:
    """Return the lowest and highest change of a number in several tables with the same rows."""
    changes = np.stack([(table[scn] - table[base]).to_numpy(dtype=np.float64) for table in tables])
    return changes.min(axis=0), changes.max(axis=0)


def _access_with_range(access: pd.DataFrame, members: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return what can be reached with the range of each change beside it."""
    columns: dict[str, object] = {}
    for name in access:
        columns[str(name)] = access[name]
        if str(name).endswith("_scn"):
            measure = str(name).removesuffix("_scn")
            ends = _ends(members, f"{measure}_base", str(name))
            columns |= dict(zip((f"{measure}_low", f"{measure}_high"), ends, strict=True))
    return pd.DataFrame(columns)
