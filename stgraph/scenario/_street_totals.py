"""What a scenario does to streets: vehicles and hours lost, the most affected ones first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from stgraph.graph import FloatArray
from stgraph.scenario.periods import step_hours
from stgraph.scenario.result import STATUS, ScenarioResult

N_TOP = 20
_GONE = (STATUS.index("closed"), STATUS.index("removed"))
_NEW = STATUS.index("new")
_WINDS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
_ENDS = ("base", "scenario", "low", "high")
_LEAST_KMH = 1.0  # a slower car would lose hours without end

Array = npt.NDArray[np.float64]


def link_totals(result: ScenarioResult) -> pd.DataFrame:
    """Add up what passes every segment over the whole time, and what is lost there.

    Parameters
    ----------
    result
        A scenario that was run, with E segments.

    Returns
    -------
    DataFrame
        E rows: `vehicles_base`, `vehicles_scenario`, `vehicles_low`, `vehicles_high` (the latter
        two of the change); the same of `delay`, in vehicle hours above free flow; NaN where nothing
        is known. Nobody passes a segment while it is closed or not yet built. The ends of the
        ranges are those of all steps at once.
    """
    links, hours = result.links, step_hours(result.time)
    gone, absent = np.isin(links.status, _GONE), links.status == _NEW
    split = result.is_replaced  # its parts tell
    flow = {
        "base": np.where(absent, 0, links.flow_base),
        "scenario": np.where(gone, 0, links.flow_scn),
    }
    speed = {"base": links.speed_base, "scenario": links.speed_scn}
    for end, other in (("low", "high"), ("high", "low")):
        d_flow = _or(getattr(links, f"d_flow_{end}"), flow["scenario"] - flow["base"])
        flow[end] = np.maximum(flow["base"] + d_flow, 0)
        d_speed = getattr(links, f"d_speed_{other}")  # slow is a long delay
        speed[end] = _or(links.speed_base + d_speed, links.speed_scn)
    lost = {end: _delay(result, flow[end], speed[end]) for end in _ENDS}
    ranged = np.isfinite(links.d_flow_low)
    unsure = np.isfinite(flow["base"]) & np.isfinite(flow["scenario"]) & ~(ranged | gone)
    known_range = (ranged | gone).any(axis=0) & ~unsure.any(axis=0)
    table = {}
    for name, values in (("vehicles", flow), ("delay", lost)):
        known = np.isfinite(values["base"]) & np.isfinite(values["scenario"]) & ~split
        known_all = known.any(axis=0)
        for end in _ENDS:
            total = np.where(known, values[end], 0).sum(axis=0, dtype=np.float64) * hours
            table[f"{name}_{end}"] = np.where(known_all, total, np.nan)
        for end in ("low", "high"):
            change = table[f"{name}_{end}"] - table[f"{name}_base"]
            table[f"{name}_{end}"] = np.where(known_range, change, np.nan)
    return pd.DataFrame(table)


def _or(values: FloatArray, others: FloatArray) -> FloatArray:
    """Return values, and others where there is none."""
    return np.where(np.isfinite(values), values, others)


def _delay(result: ScenarioResult, flow: FloatArray, speed: FloatArray) -> Array:
    """Return vehicle hours lost per hour against free flow, 0 where nobody passes."""
    edges: pd.DataFrame = result.roads.edges  # type: ignore[assignment]  # checked by tables.py
    length_km = edges["length_m"].to_numpy(dtype=float) / 1000
    free = free_flow(result)
    with np.errstate(divide="ignore", invalid="ignore"):
        hours = np.maximum(length_km / np.maximum(speed, _LEAST_KMH) - length_km / free, 0)
    return np.where(flow == 0, 0.0, flow * hours)


def free_flow(result: ScenarioResult) -> Array:
    """Return the free-flow speed of every segment, the fastest of the baseline where unknown."""
    edges: pd.DataFrame = result.roads.edges  # type: ignore[assignment]  # checked by tables.py
    known = pd.to_numeric(edges["speed_kmh"], errors="coerce") if "speed_kmh" in edges else None
    speed = np.where(np.isfinite(result.links.speed_base), result.links.speed_base, -np.inf)
    fastest = speed.max(axis=0).astype(float)
    fastest[~np.isfinite(fastest)] = math.nan
    return fastest if known is None else np.where(known.notna(), known.astype(float), fastest)


def direction_words(lines: npt.NDArray[np.object_]) -> list[str]:
    """Return where lines lead, ``"eastbound"``; nothing for those that end where they begin."""
    words = []
    for first, last in zip(shapely.get_point(lines, 0), shapely.get_point(lines, -1), strict=True):
        if first is None or last is None or first.equals(last):
            words.append("")
            continue
        east = (last.x - first.x) * math.cos(math.radians(first.y if abs(first.y) <= 90 else 0))
        angle = math.degrees(math.atan2(east, last.y - first.y)) % 360
        words.append(f"{_WINDS[round(angle / 45) % 8]}bound")
    return words


def street_names(segments: pd.DataFrame, words: list[str]) -> list[str]:
    """Return what a reader calls each segment: its street and where it leads, or its class."""
    names = []
    columns = (segments[name] for name in ("name", "road_class", "segment_id"))
    for street, road_class, segment, word in zip(*columns, words, strict=True):
        if pd.isna(street) or not street:
            kind = "road" if pd.isna(road_class) else f"{road_class} road"
            street = f"unnamed {kind} (segment {segment})"
        names.append(f"{street}, {word}" if word else str(street))
    return names


def top_vehicles(links: pd.DataFrame, *, n: int = N_TOP) -> pd.DataFrame:
    """Return the streets where the number of vehicles changes most.

    Parameters
    ----------
    links
        E rows: totals, `street` (as `street_names`), `road_class`, `segment_id`, `length_m`,
        `significant`, `status`.
    n
        Rows at most.

    Returns
    -------
    DataFrame
        A row per street and direction with the numbers of the segment where they change most, and
        the count and length of all its segments whose change is significant.
    """
    change = (links["vehicles_scenario"] - links["vehicles_base"]).abs()
    found = (
        links.assign(size=change)
        .loc[change > 0]
        .sort_values("size", ascending=False, kind="stable")
    )
    rows = found.drop_duplicates("street").head(n)
    return _rows(rows, found, "vehicles")


def top_delay(links: pd.DataFrame, *, n: int = N_TOP) -> pd.DataFrame:
    """Return the streets where most vehicle hours are lost or won, summed over their segments.

    Parameters and result are as those of `top_vehicles`; a street is significant if one of its
    segments is.
    """
    columns = [f"delay_{end}" for end in _ENDS]
    sums = links.groupby("street", sort=False)[columns].sum(min_count=1)
    sums["size"] = (sums["delay_scenario"] - sums["delay_base"]).abs()
    grouped = links.groupby("street", sort=False)
    sums["significant"] = grouped["significant"].any()
    for name in ("road_class", "segment_id", "status"):
        sums[name] = grouped[name].first()
    rows = (
        sums.loc[sums["size"] > 0]
        .sort_values("size", ascending=False, kind="stable")
        .head(n)
        .reset_index()
    )
    return _rows(rows, links, "delay")


def _rows(rows: pd.DataFrame, links: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a table, with how much of each street is concerned."""
    sure = links[links["significant"]].groupby("street")["length_m"].agg(["size", "sum"])
    sure = sure.reindex(rows["street"]).fillna(0)
    table: dict[str, Any] = {
        "street": rows["street"].to_numpy(),
        "road_class": ["" if pd.isna(x) else str(x) for x in rows["road_class"]],
        "segment_id": rows["segment_id"].to_numpy(),
        "status": rows["status"].astype(str).to_numpy(),
        "significant": rows["significant"].to_numpy(dtype=bool),
        "n_segments": sure["size"].to_numpy(dtype=int),
        "length_km": sure["sum"].to_numpy(dtype=float) / 1000,
    }
    for end in _ENDS:
        table[end] = rows[f"{name}_{end}"].to_numpy(dtype=float)
    table["change"] = table["scenario"] - table["base"]
    return pd.DataFrame(table)
