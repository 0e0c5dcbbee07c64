"""What a report page says about one scenario, as words, numbers and pictures for its template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stgraph.graph import BoolArray
from stgraph.scenario._numbers import Estimate, as_float, number, plain, signed
from stgraph.scenario._sheet import Box, Sheet, make_sheet
from stgraph.scenario._street_totals import (
    direction_words,
    link_totals,
    step_hours,
    street_names,
    top_delay,
    top_vehicles,
)
from stgraph.scenario._svg_charts import Line, draw_chart
from stgraph.scenario._svg_map import (
    FLOW,
    SPEED,
    Quantity,
    draw_changes,
    draw_edits,
    draw_labels,
    draw_map,
)
from stgraph.scenario.periods import HOURS, LABELS
from stgraph.scenario.result import STATUS, ScenarioResult
from stgraph.scenario.tables import access_rows, link_peaks

METHODS = {
    "assignment": "assignment: drivers choose the ways that have become the fastest ones",
    "learned": "a network that has learned from incidents what assignment does not know",
    "diversion": "diversion: the pattern of who moves where, without any demand",
    "simulate": "simulation of single vehicles, several times",
}
# metrics of the summary that planners ask for first, with their unit in words
TILES = {"VHT": "vehicle hours", "delay": "vehicle hours lost", "unserved trips": "trips not made"}
_DOING = {
    "close": "Closing",
    "remove_road": "Removing",
    "set_speed": "Another speed on",
    "set_lanes": "Another number of lanes on",
    "set_capacity": "Another capacity of",
    "roadworks": "Roadworks on",
    "add_road": "Building",
    "reverse": "Turning round",
    "ban_turn": "Banning a turn at",
}
_UNSEEN = re.compile(r"\b(add_demand|scale_demand|set_weather)\b")  # that leave no edits
_N_PAIRS = 12
_N_NAMES = 3
_MAJOR = ("motorway", "trunk", "primary", "secondary", "freeway", "ring", "arterial", "bridge")


@dataclass(frozen=True, eq=False)
class Drawn:
    """The links of a scenario and where they are on paper."""

    result: ScenarioResult
    peaks: dict[str, pd.DataFrame]  # per period E rows, with `street` and `title`
    sheet: Sheet | None
    touched: dict[str, str]  # segment id as text -> status that the operations give it


def prepare(result: ScenarioResult, *, box: Box | None = None) -> Drawn:
    """Return the links of a scenario with names, and their place on a map of what changes."""
    rows = link_peaks(result)
    lines = result.roads.edges.geometry.to_numpy()  # type: ignore[union-attr]  # link_peaks checks
    words = direction_words(np.asarray(lines, dtype=object))
    peaks = {}
    for period, links in rows.groupby("period", sort=False):
        links = pd.DataFrame(links.drop(columns="geometry")).reset_index(drop=True)
        links["status"] = links["status"].astype(str)
        links["street"] = street_names(links, words)
        links["title"] = _titles(links)
        peaks[str(period)] = links
    edits = result.edits
    touched = dict(zip(edits["segment_id"].astype(str), edits["status"].astype(str), strict=True))
    sheet = make_sheet(result.roads, focus_of(peaks, touched), box=box)
    return Drawn(result, peaks, sheet, touched)


def focus_of(peaks: dict[str, pd.DataFrame], touched: dict[str, str]) -> BoolArray:
    """Tell which links a map has to show: those edited, and where something changes for sure."""
    first = next(iter(peaks.values()))
    focus = first["segment_id"].astype(str).isin(touched).to_numpy()
    for links in peaks.values():
        size = np.maximum(
            links["d_speed"].abs() / SPEED.classes[4], links["d_flow"].abs() / FLOW.classes[4]
        )
        focus = focus | (links["significant"] & (size > 1)).to_numpy(dtype=bool)
    return np.asarray(focus, dtype=np.bool_)


def _titles(links: pd.DataFrame) -> list[str]:
    """Return what a mouse is told on each link."""
    titles = []
    columns = ["street", "speed_base", "speed_scn", "d_speed", "flow_base", "flow_scn", "d_flow"]
    for street, *values in links[columns].itertuples(index=False):
        v0, v1, dv, q0, q1, dq = (float(value) for value in values)
        titles.append(
            f"{street}: {number(v0)} → {number(v1)} km/h ({signed(dv)}), "
            f"{number(q0, 10)} → {number(q1, 10)} veh/h ({signed(dq, 10)})"
        )
    return titles


# ---------------------------------------------------------------------------------- in sentences


def headline(result: ScenarioResult) -> str:
    """Return what a scenario costs in one sentence, with its range, or why nobody can tell."""
    subject, per = subject_of(result), per_time(result)
    found = result.summary.loc[result.summary["metric"] == "VHT"]
    if found.empty or not np.isfinite(as_float(found.iloc[0]["change"])):
        return f"{subject}: how many vehicle hours it costs cannot be told from this data."
    cost = Estimate.of(found.iloc[0])
    if cost.is_nothing:
        return f"{subject} changes nothing: 0 vehicle hours {per}."
    if cost.is_noise:
        return (
            f"{subject}: no effect on the time spent driving can be told from noise "
            f"({cost.range} vehicle hours {per})."
        )
    verb, sign = ("costs", 1.0) if cost.change > 0 else ("saves", -1.0)
    ends = sorted((sign * cost.low, sign * cost.high))
    how_sure = "range not known"
    if cost.has_range:
        how_sure = " to ".join(number(end, cost.step) for end in ends)
    share = f", {cost.percent}" if cost.percent else ""
    amount = number(sign * cost.change, cost.step)
    return f"{subject} {verb} {amount} vehicle hours {per} ({how_sure}){share}."


def subject_of(result: ScenarioResult) -> str:
    """Return what a scenario is about: its one operation in words, or its name."""
    edits = result.edits
    numbers = edits["operation"].unique()
    if len(numbers) != 1 or _UNSEEN.search(result.script):
        more = f" ({len(numbers)} changes of roads)" if len(numbers) > 1 else ""
        return f"“{result.name}”{more}"
    doing = _DOING.get(str(edits["op"].iloc[0]), "Changing")
    when = when_of(result, edits)
    return f"{doing} {streets_of(result, edits)}" + (f" {when}" if when else "")


def streets_of(result: ScenarioResult, edits: pd.DataFrame) -> str:
    """Return the names of the streets that edits are about."""
    edges: pd.DataFrame = result.roads.edges  # type: ignore[assignment]  # link_peaks checks
    if "name" not in edges:
        return f"{len(edits)} segments"
    of = edges.loc[edges["segment_id"].isin(edits["segment_id"]), "name"]
    names = list(dict.fromkeys(str(name) for name in of.dropna() if str(name)))
    if not names:
        return f"{len(edits)} segment{'s' if len(edits) != 1 else ''}"
    more = len(names) - _N_NAMES
    shown = names[:_N_NAMES] + ([f"{more} more"] if more > 0 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def when_of(result: ScenarioResult, edits: pd.DataFrame) -> str:
    """Return when edits hold, in local time; nothing if it is all the time."""
    first, last = _span(result)
    starts = pd.to_datetime(edits["from"], utc=True).fillna(first)
    ends = pd.to_datetime(edits["to"], utc=True).fillna(last)
    if (starts <= first).all() and (ends >= last).all():
        return ""
    local = [pd.DatetimeIndex(x).tz_convert(result.zone) for x in (starts, ends)]
    hours = sorted({(_clock(a), _clock(b)) for a, b in zip(*local, strict=True)})
    same_day = (local[1] - local[0] <= pd.Timedelta(days=1)).all()
    if same_day and len(hours) <= 2:
        return ", ".join(f"{a}–{b}" for a, b in hours)
    return f"{local[0].min():%a %d %b %H:%M} to {local[1].max():%a %d %b %H:%M}"


def _clock(instant: pd.Timestamp) -> str:
    """Return a time of day."""
    return f"{instant:%H:%M}"


def _span(result: ScenarioResult) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return beginning and end of the horizon."""
    step = pd.Timedelta(hours=step_hours(result))
    return result.time[0], result.time[-1] + step


def span_words(result: ScenarioResult) -> str:
    """Return the horizon in local time."""
    first, last = (instant.tz_convert(result.zone) for instant in _span(result))
    return f"{first:%a %d %b %Y %H:%M} to {last:%a %d %b %Y %H:%M}, {result.zone}"


def per_time(result: ScenarioResult) -> str:
    """Return for what time numbers of a whole scenario hold."""
    hours = len(result.time) * step_hours(result)
    if hours == 24:
        return "a day"
    if hours % 24 == 0:
        return f"in {hours / 24:.0f} days"
    return f"in {hours:g} hour{'s' if hours != 1 else ''}"


def effect_words(links: pd.DataFrame, quantity: Quantity) -> str:
    """Return how many links change, and which one most, beyond noise."""
    value = links[quantity.column].astype(float)
    sure = value.notna() & links["significant"] & (value.abs() > quantity.classes[4])
    sure &= ~links["status"].isin(["closed", "removed", "new"])
    closed = int((links["status"] == "closed").sum())
    tail = f" {closed} segment{'s' if closed != 1 else ''} closed." if closed else ""
    if not sure.any():
        what = "speed" if quantity is SPEED else "traffic"
        return f"No effect on {what} can be told from noise.{tail}"
    less, more = int((sure & (value < 0)).sum()), int((sure & (value > 0)).sum())
    most = int(np.argmax(value.abs().where(sure, -1).to_numpy()))
    step = 1.0 if quantity is SPEED else 10.0
    amount = f"{signed(float(value.iloc[most]), step)} {quantity.unit}"
    return (
        (
            f"{less} segment{'s' if less != 1 else ''} with {quantity.less} and {more} with "
            f"{quantity.more} by over {quantity.classes[4]:g} {quantity.unit}; most on "
            f"{links['street'].iloc[most]} ({amount}).{tail}"
        )
        .replace("with slower", "slower")
        .replace("with faster", "faster")
    )


# ------------------------------------------------------------------------------------------ maps


def period_label(period: str) -> str:
    """Return a part of the day with its hours."""
    if period not in HOURS:
        return LABELS[period]
    first, end = HOURS[period]
    return f"{LABELS[period]}, {first}–{end} h"


def maps_of(drawn: Drawn, *, key: str, network: str) -> list[dict[str, Any]]:
    """Return a map of speed and one of flow per part of the day.

    Parameters
    ----------
    drawn
        The scenario.
    key
        What ids in the page begin with.
    network
        Id of the network that lies under all maps.
    """
    found = []
    for period, links in drawn.peaks.items():
        panel: dict[str, Any] = {"period": period, "label": period_label(period)}
        weight = links["d_speed"].abs().where(links["significant"], 0).sum()
        panel["weight"] = float(weight)
        for quantity in (SPEED, FLOW):
            words = effect_words(links, quantity)
            panel[f"{quantity.name}_words"] = words
            panel[quantity.name] = ""
            if drawn.sheet is None:
                continue
            changes = draw_changes(drawn.sheet, links, quantity)
            content = f'<g id="{key}-{quantity.name}-{period}">{changes}</g>'
            content += _labels(drawn, links, quantity)
            panel[quantity.name] = draw_map(
                drawn.sheet,
                content,
                network=network,
                name=f"{key}-map-{quantity.name}-{period}",
                title=f"Change of {quantity.name}, {panel['label']}",
                desc=words,
            )
        found.append(panel)
    return found


def _labels(drawn: Drawn, links: pd.DataFrame, quantity: Quantity) -> str:
    """Return the names of the streets that are edited, and of those that change most."""
    assert drawn.sheet is not None  # noqa: S101  # its caller has looked
    is_edited = links["segment_id"].astype(str).isin(drawn.touched).to_numpy()
    size = links[quantity.column].abs().where(links["significant"]).fillna(0).to_numpy(dtype=float)
    most = [i for i in np.argsort(-size, kind="stable")[:40] if size[i] > 0]
    positions = [*np.flatnonzero(is_edited), *most]
    names = ["" if pd.isna(n) else str(n) for n in links["name"].iloc[positions]]
    return draw_labels(drawn.sheet, [int(i) for i in positions], names)


def edit_map(drawn: Drawn, *, key: str, network: str) -> str:
    """Return the map of what the operations change themselves."""
    if drawn.sheet is None:
        return ""
    links = next(iter(drawn.peaks.values()))
    ids = links["segment_id"].astype(str)
    status = ids.map(drawn.touched).fillna("normal").to_numpy(dtype=object)
    positions = np.flatnonzero(status != "normal")
    names = ["" if pd.isna(n) else str(n) for n in links["name"].iloc[positions]]
    counts = {word: int((status == word).sum()) for word in STATUS[1:]}
    words = ", ".join(f"{n} segments {word}" for word, n in counts.items() if n)
    content = draw_edits(drawn.sheet, status)
    content += draw_labels(drawn.sheet, [int(i) for i in positions], names)
    return draw_map(
        drawn.sheet,
        content,
        network=network,
        name=f"{key}-map-edits",
        title="What changes",
        desc=words or "no segment of the network changes",
    )


def is_major(result: ScenarioResult) -> BoolArray:
    """Tell which segments are drawn as main roads."""
    edges: pd.DataFrame = result.roads.edges  # type: ignore[assignment]  # link_peaks checks
    column = next((edges[n] for n in ("road_class", "highway") if n in edges), None)
    if column is None:
        return np.zeros(len(edges), dtype=np.bool_)
    return np.array([str(word).startswith(_MAJOR) for word in column], dtype=np.bool_)


# ---------------------------------------------------------------------------------------- tables


def operations_of(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return a row per operation that changes roads: what, where, when, how much of it."""
    rows = []
    for operation, edits in result.edits.groupby("operation", sort=True):
        rows.append(
            {
                "number": plain(operation),
                "op": str(edits["op"].iloc[0]).replace("_", " "),
                "label": str(edits["label"].iloc[0]),
                "streets": streets_of(result, edits),
                "when": when_of(result, edits) or "all the time",
                "n": edits["segment_id"].nunique(),
            }
        )
    return rows


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
    found = {}
    for name, table, unit in (
        ("vehicles", top_vehicles(links), "veh"),
        ("delay", top_delay(links), "veh-h"),
    ):
        rows = []
        for row in table.to_dict("records"):
            estimate = Estimate.of({**row, "unit": unit})
            rows.append({**row, "estimate": estimate, "verdict": _verdict(row, estimate)})
        found[name] = rows
    return found


def _verdict(row: dict[Any, Any], estimate: Estimate) -> str:
    """Return what may be said about the change on a street."""
    if row["status"] in ("closed", "removed", "new"):
        return str(row["status"])
    if not row["significant"] or estimate.is_noise:
        return "cannot be told from noise"
    return "significant"


def od_pairs(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return the pairs of zones that lose most time together, those cut off first."""
    od = result.od
    if od.empty:
        return []
    change = (od["tt_scn_min"] - od["tt_base_min"]).astype(float)
    cut = od["is_unreachable"].astype(bool)
    lost = (change * od["trips"].astype(float)).where(~cut, od["trips"].astype(float) * 1e6)
    order = lost[lost > 0].sort_values(ascending=False, kind="stable").head(_N_PAIRS).index
    return [
        {
            "o": str(od["o"][i]),
            "d": str(od["d"][i]),
            "period": LABELS.get(str(od["period"][i]), str(od["period"][i])),
            "trips": as_float(od["trips"][i]),
            "base": as_float(od["tt_base_min"][i]),
            "scenario": as_float(od["tt_scn_min"][i]),
            "change": float(change[i]),
            "cut": bool(cut[i]),
        }
        for i in order
    ]


def od_zones(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return the zones whose trips, from there and to there, lose most on average."""
    od = result.od
    if od.empty:
        return []
    both = pd.concat([od.assign(zone=od["o"].astype(str)), od.assign(zone=od["d"].astype(str))])
    cut = both["is_unreachable"].astype(bool)
    trips = both["trips"].astype(float)
    change = (both["tt_scn_min"] - both["tt_base_min"]).astype(float)
    served = trips.where(~cut & change.notna(), 0.0)
    sums = pd.DataFrame(
        {
            "zone": both["zone"],
            "trips": trips,
            "served": served,
            "minutes": (served * change.fillna(0)),
            "cut": trips.where(cut, 0.0),
        }
    )
    sums = sums.groupby("zone").sum()
    sums["mean"] = (sums["minutes"] / sums["served"]).where(sums["served"] > 0)
    sums = sums[(sums["mean"] > 0) | (sums["cut"] > 0)]
    sums = sums.sort_values(["cut", "mean"], ascending=False, kind="stable").head(_N_PAIRS)
    return [
        {"zone": str(zone), "trips": row["trips"], "mean": row["mean"], "cut": row["cut"]}
        for zone, row in sums.iterrows()
    ]


def access_tables(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return the zones from which least can be reached any more, per measure."""
    rows = access_rows(result)
    rows = rows[rows["change"] < 0].sort_values("change", kind="stable")
    return [
        {
            "measure": measure_words(str(row["measure"])),
            "zone": str(row["zone"]),
            "period": LABELS.get(str(row["period"]), str(row["period"])),
            "estimate": Estimate(row["base"], row["scenario"], row["change"]),
        }
        for row in rows.head(_N_PAIRS).to_dict("records")
    ]


def measure_words(measure: str) -> str:
    """Return ``jobs_15`` as ``jobs within 15 min``."""
    found = re.fullmatch(r"(\w+?)_(\d+)", measure)
    return f"{found[1].replace('_', ' ')} within {found[2]} min" if found else measure


# ----------------------------------------------------------------------------------------- chart


def profile_of(result: ScenarioResult, *, key: str) -> dict[str, Any]:
    """Return the vehicle hours of every hour with and without the scenario, drawn and as rows.

    The range of the whole, as the summary has it, is spread over the hours in proportion to what
    changes there.
    """
    base, scenario = _hourly(result)
    if len(base) < 2 or not (np.isfinite(base).any() and np.isfinite(scenario).any()):
        return {}
    local = base.index
    found = result.summary.loc[result.summary["metric"] == "VHT"]
    low = high = None
    y0, y1 = base.to_numpy(dtype=float), scenario.to_numpy(dtype=float)
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
        hours = np.where(counted, flow * length_km / kmh, 0.0)
        total = pd.Series(hours.sum(axis=1) * step_hours(result), index=local)
        found.append(total.groupby(level=0).sum())
    return found[0], found[1]
