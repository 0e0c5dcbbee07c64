"""What a report page says about a scenario in sentences."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from stgraph.scenario._numbers import Estimate, as_float, number
from stgraph.scenario.periods import step_hours
from stgraph.scenario.result import ScenarioResult
from stgraph.scenario.seen import shares_of_sources

METHODS = {
    "forecast": "the forecast itself, made with other weather",
    "assignment": "assignment: drivers choose the ways that have become the fastest ones",
    "learned": "a network that has learned from incidents what assignment does not know",
    "diversion": "diversion: the pattern of who moves where, without any demand",
    "simulate": "simulation of single vehicles, several times",
}
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
CHANGES_NO_ROADS = re.compile(r"\b(add_demand|scale_demand|set_weather)\b")  # that leave no edits
_N_NAMES = 3


def method_words(result: ScenarioResult) -> str:
    """Return how a result was come by, and where by assignment alone."""
    words = METHODS.get(result.method, result.method)
    shares = shares_of_sources(result.links)
    if result.method == "learned" and 0 < shares.get("learned", 0.0) < 1:
        return f"{words}, on {100 * shares['learned']:.0f} % of what changes; else assignment alone"
    return words


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
    if len(numbers) != 1 or CHANGES_NO_ROADS.search(result.script):
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
    step = pd.Timedelta(hours=step_hours(result.time))
    return result.time[0], result.time[-1] + step


def span_words(result: ScenarioResult) -> str:
    """Return the horizon in local time."""
    first, last = (instant.tz_convert(result.zone) for instant in _span(result))
    return f"{first:%a %d %b %Y %H:%M} to {last:%a %d %b %Y %H:%M}, {result.zone}"


def per_time(result: ScenarioResult) -> str:
    """Return for what time numbers of a whole scenario hold."""
    hours = len(result.time) * step_hours(result.time)
    if hours == 24:
        return "a day"
    if hours % 24 == 0:
        return f"in {hours / 24:.0f} days"
    return f"in {hours:g} hour{'s' if hours != 1 else ''}"
