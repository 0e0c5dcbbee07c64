"""The tables of a report page, and its chart of the day."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from stgraph._optional import require
from stgraph.scenario._numbers import MISSING, Estimate, as_float, number, plain, signed
from stgraph.scenario._report_maps import Drawn
from stgraph.scenario._report_words import CHANGES_NO_ROADS, streets_of, when_of
from stgraph.scenario._street_totals import link_totals, top_delay, top_vehicles
from stgraph.scenario._svg_charts import Line, draw_chart
from stgraph.scenario.accessibility import losers
from stgraph.scenario.periods import LABELS, step_hours
from stgraph.scenario.result import ScenarioResult

_N_PAIRS = 12
_N_ZONES = 6  # per measure of what can be reached


def operations_of(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return a row per operation in order: what, where, when, on how many segments."""
    rows = []
    for operation, edits in result.edits.groupby("operation", sort=True):
        rows.append(
            {
                "number": int(str(operation)),
                "op": str(edits["op"].iloc[0]).replace("_", " "),
                "label": str(edits["label"].iloc[0]),
                "streets": streets_of(result, edits),
                "when": when_of(result, edits) or "all the time",
                "n": edits["segment_id"].nunique(),
            }
        )
    return sorted([*rows, *_without_edits(result)], key=lambda row: int(row["number"]))


def _without_edits(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return a row per operation on demand or weather, which the script alone tells of."""
    if not CHANGES_NO_ROADS.search(result.script):
        return []
    yaml = require("yaml", extra="scenario")
    try:
        script = yaml.safe_load(result.script)
    except yaml.YAMLError:
        return []
    listed = script.get("operations") if isinstance(script, dict) else None
    rows = []
    for i, entry in enumerate(listed if isinstance(listed, list) else [], start=1):
        op, given = next(iter(entry.items())) if isinstance(entry, dict) and entry else ("", None)
        if CHANGES_NO_ROADS.fullmatch(str(op)) and isinstance(given, dict):
            window = given.pop("window", None)
            row = {"number": i, "op": str(op).replace("_", " "), "label": in_words(given)}
            when = in_words(window) if window else "all the time"
            rows.append(row | {"streets": MISSING, "when": when, "n": 0})
    return rows


def in_words(value: Any) -> str:
    """Return values of a script as ``trips 6000, at node 131``."""
    if isinstance(value, dict):
        parts = (f"{str(key).replace('_', ' ')} {in_words(part)}" for key, part in value.items())
        return ", ".join(parts)
    return str(value) if isinstance(value, int) else plain(value)


def summary_rows(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return the numbers of the whole network."""
    return [
        {"metric": str(row["metric"]), "estimate": Estimate.of(row)}
        for _, row in result.summary.iterrows()
    ]


def street_tables(drawn: Drawn) -> dict[str, list[dict[str, Any]]]:
    """Return the streets with the largest changes of vehicles and of time lost."""
    day = drawn.peaks["day"]
    links = pd.concat([day, link_totals(drawn.result)], axis=1)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, table, unit in (
        ("vehicles", top_vehicles(links, n=drawn.result.top_n), "veh"),
        ("delay", top_delay(links, n=drawn.result.top_n), "veh-h"),
    ):
        found[name] = []
        for record in table.to_dict("records"):
            row = {str(column): entry for column, entry in record.items()}
            estimate = Estimate.of({**row, "unit": unit})
            found[name].append(row | {"estimate": estimate, "verdict": _verdict(row, estimate)})
    return found


def _verdict(row: dict[Any, Any], estimate: Estimate) -> str:
    """Return what may be said about the change on a street."""
    if row["status"] in ("closed", "removed", "new"):
        return str(row["status"])
    if not row["significant"] or estimate.is_noise:
        return "cannot be told from noise"
    return "significant"


def _parts_of_day(od: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of parts of the day, with `cut` off trips, `weight`, and minutes `lost` each.

    The whole time repeats its parts and is left out where there are any.
    """
    parts = od[od["period"] != "day"]
    rows = (parts if len(parts) else od).reset_index(drop=True)
    change = (rows["tt_scn_min"] - rows["tt_base_min"]).astype(float)
    cut = rows["is_unreachable"].astype(bool) & rows["tt_base_min"].notna()  # it was possible
    trips = rows["trips"].astype(float)
    return rows.assign(lost=change, cut=cut, weight=trips.fillna(1.0), trips=trips)


def od_pairs(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return the pairs of zones that were asked for, and those that lose most time together.

    Pairs that are cut off come before others. Each is there once, with the part of the day that is
    worst for it.
    """
    rows = _parts_of_day(result.od)
    rows["size"] = rows["lost"] * rows["weight"]
    asked = set(result.od_pairs)
    pairs = zip(rows["o"].astype(str), rows["d"].astype(str), strict=True)
    rows["asked"] = [pair in asked for pair in pairs]
    rows = rows[rows["asked"] | rows["cut"] | (rows["size"] > 0)]
    rows["size"] = rows["size"].where(~rows["cut"], rows["weight"])
    rows = rows.sort_values(["asked", "cut", "size"], ascending=False, kind="stable")
    return [
        {
            "o": str(row["o"]),
            "d": str(row["d"]),
            "period": LABELS.get(str(row["period"]), str(row["period"])),
            "trips": row["trips"],
            "base": as_float(row["tt_base_min"]),
            "scenario": as_float(row["tt_scn_min"]),
            "change": row["lost"],
            "range": _range_of(row),
            "cut": row["cut"],
        }
        for row in rows.drop_duplicates(["o", "d"]).head(_N_PAIRS + len(asked)).to_dict("records")
    ]


def _range_of(row: Mapping[Any, Any]) -> str:
    """Return the range of the change of a time, in tenths of a minute as the time is."""
    low, high = (as_float(row.get(name)) for name in ("d_min_low", "d_min_high"))
    if not (np.isfinite(low) and np.isfinite(high)):
        return "not known"
    return f"{signed(low, 0.1)} to {signed(high, 0.1)}"


def od_zones(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return the zones whose trips, from there and to there, lose most on average."""
    rows = _parts_of_day(result.od)
    both = pd.concat([rows.assign(zone=rows["o"]), rows.assign(zone=rows["d"])])
    served = both["weight"].where(~both["cut"] & both["lost"].notna(), 0.0)
    sums = pd.DataFrame(
        {
            "zone": both["zone"].astype(str),
            "trips": both["trips"],
            "served": served,
            "minutes": served * both["lost"].fillna(0.0),
            "cut": both["trips"].fillna(0.0).where(both["cut"], 0.0),
        }
    )
    sums = sums.groupby("zone").sum(min_count=1)
    sums["mean"] = (sums["minutes"] / sums["served"]).where(sums["served"] > 0)
    sums = sums[(sums["mean"] > 0) | (sums["cut"] > 0)]
    sums = sums.sort_values(["cut", "mean"], ascending=False, kind="stable").head(_N_PAIRS)
    return [
        {"zone": str(zone), "trips": row["trips"], "mean": row["mean"], "cut": row["cut"]}
        for zone, row in sums.iterrows()
    ]


def access_tables(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return the zones that lose most of what they reach, measure by measure, worst first."""
    columns = [str(name) for name in result.access if str(name).endswith("_base")]
    rows = []
    for measure in (name.removesuffix("_base") for name in columns):
        worst = losers(result.access, column=measure, top_n=len(result.access))
        worst = worst.drop_duplicates("zone").head(_N_ZONES)  # in the worst part of the day
        rows += [
            {
                "measure": measure_words(measure),
                "zone": str(row["zone"]),
                "period": LABELS.get(str(row["period"]), str(row["period"])),
                "estimate": Estimate.of({**row, "unit": ""}),
            }
            for row in worst.to_dict("records")
        ]
    return rows


def area_table(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return the areas within reach, by zone and limit, in the part of the day that differs most.

    The whole time repeats its parts and is left out where there are any.
    """
    areas = result.isochrones
    if areas is None:
        return []
    parts = areas[areas["period"] != "day"]
    shown = pd.DataFrame(parts if len(parts) else areas)
    keys, networks = ["zone", "minutes", "period"], ["baseline", "scenario"]
    sizes = shown.set_index([*keys, "network"])["area_km2"]
    rows = pd.concat([sizes.xs(one, level="network").rename(one) for one in networks], axis=1)
    rows = rows.reset_index().assign(base=rows["baseline"].to_numpy(), low=np.nan, high=np.nan)
    rows["change"] = rows["scenario"] - rows["base"]
    rows["size"] = -rows["change"].abs()
    order = {zone: i for i, zone in enumerate(areas["zone"].unique())}
    rows = rows.assign(place=rows["zone"].map(order)).sort_values(
        ["place", "minutes", "size"], kind="stable"
    )
    return [
        {
            "zone": str(row["zone"]),
            "minutes": f"{row['minutes']:g}",
            "period": LABELS.get(str(row["period"]), str(row["period"])),
            "estimate": Estimate.of({**row, "unit": "km²"}),
        }
        for row in rows.drop_duplicates(["zone", "minutes"]).to_dict("records")
    ]


def measure_words(measure: str) -> str:
    """Return ``jobs_15`` as ``jobs within 15 min``."""
    found = re.fullmatch(r"(\w+?)_(\d+)", measure)
    return f"{found[1].replace('_', ' ')} within {found[2]} min" if found else measure


def profile_of(result: ScenarioResult, *, key: str) -> dict[str, Any]:
    """Return the vehicle hours of every hour with and without the scenario, drawn and as rows.

    The range of the whole, as the summary has it, is spread over the hours in proportion to what
    changes there.
    """
    base, scenario = _hourly(result)
    if len(base) < 2 or not np.isfinite(scenario - base).any():
        return {}
    local = base.index
    found = result.summary.loc[result.summary["metric"] == "VHT"]
    low = high = None
    y0, y1 = (np.array(part, dtype=np.float64) for part in (base, scenario))
    if len(found) and Estimate.of(found.iloc[0]).has_range:
        cost = Estimate.of(found.iloc[0])
        share = np.abs(y1 - y0) / max(np.nansum(np.abs(y1 - y0)), 1e-12)
        low, high = y1 + (cost.low - cost.change) * share, y1 + (cost.high - cost.change) * share
    x = np.arange(len(base), dtype=float)
    every = max(1, round(len(base) / 8 / 3) * 3) if len(base) > 10 else 1
    day = "%H:%M" if len(base) <= 24 else "%a %H:%M"
    ticks = [(float(i), f"{local[i]:{day}}") for i in range(0, len(base), every)]
    worst = int(np.nanargmax(np.abs(y1 - y0)))
    words = (
        f"Vehicle hours per hour, baseline and scenario. They differ most at "
        f"{local[worst]:%H:%M}: {number(y0[worst], 1)} against {number(y1[worst], 1)}."
    )
    lines = [Line("baseline", "base", y0), Line("scenario", "scn", y1, low, high)]
    svg = draw_chart(
        x, lines, ticks=ticks, unit="vehicle hours per hour", name=f"{key}-profile",
        title="Vehicle hours by the hour", desc=words,
    )  # fmt: skip
    rows = [
        {"hour": f"{t:%a %H:%M}", "base": a, "scenario": b}
        for t, a, b in zip(local, y0, y1, strict=True)
    ]
    return {"svg": svg, "words": words, "rows": rows, "has_band": low is not None}


def _hourly(result: ScenarioResult) -> tuple[pd.Series[float], pd.Series[float]]:
    """Return the vehicle hours of every local hour, baseline and scenario."""
    edges: pd.DataFrame = result.roads.edges  # type: ignore[assignment]  # link_peaks checks
    length_km = edges["length_m"].to_numpy(dtype=float) / 1000
    local = result.time.tz_convert(result.zone).floor("h", ambiguous="NaT", nonexistent="NaT")
    links = result.links
    known = ~np.isnan(links.speed_base) & ~np.isnan(links.flow_base)
    there = ~np.isnan(links.speed_scn) & ~np.isnan(links.flow_scn)
    found = []
    for flow, speed, counted in (
        (links.flow_base, links.speed_base, known),
        (links.flow_scn, links.speed_scn, there),
    ):
        kmh = np.maximum(np.where(counted, speed, 1.0), 1.0)
        # of a street that is split its parts tell
        hours = np.where(counted & ~result.is_replaced, flow * length_km / kmh, 0.0)
        total = pd.Series(hours.sum(axis=1) * step_hours(result.time), index=local)
        found.append(total.groupby(level=0).sum())
    return found[0], found[1]
