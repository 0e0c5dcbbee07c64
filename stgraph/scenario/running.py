"""Run scenarios: from a script, a network, a forecast and demand to effects and where they rest."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from stgraph.errors import ConfigError
from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph.scenario.bases import read_base, read_weather
from stgraph.scenario.checking import check, check_promise
from stgraph.scenario.demand import Demand
from stgraph.scenario.demand_changes import HourlyDemand, apply_demand
from stgraph.scenario.estimating import (
    Estimate,
    Weather,
    estimate,
    estimate_diversion,
    estimate_weather,
)
from stgraph.scenario.fitting import City, Say, fit_city
from stgraph.scenario.od_times import full_hours
from stgraph.scenario.opening import find_steps
from stgraph.scenario.periods import step_hours
from stgraph.scenario.result import ScenarioResult
from stgraph.scenario.script import Method, Scenario
from stgraph.scenario.scriptfile import to_yaml
from stgraph.scenario.seen import knows_some, shares_of_sources, warn_beyond_past
from stgraph.scenario.simulating import estimate_simulation
from stgraph.scenario.states import Edited
from stgraph.scenario.streets import read_streets
from stgraph.scenario.summary import summarise
from stgraph.scenario.usual import usual_forecast
from stgraph.scenario.weather import check_with_weather, described, in_words, is_weather_alone
from stgraph.scenario.zone_effects import ZoneEffects, measure_zones

_CLOSING = {"close", "remove_road"}
_NARROWING = {"set_lanes", "set_capacity", "roadworks"}
_LEARNED_OPS = _CLOSING | _NARROWING
Used = Method | Literal["forecast"]  # which other weather alone needs nothing else for

# of a card, and where findings are: what the methods rest on, and a forecast does not
_OF_METHODS = {
    "curves", "drivers", "fit of usual flows", "spread of drivers' errors", "learned",
    "speed by flow",
}  # fmt: skip

_OD = [
    "o", "d", "period", "trips", "tt_base_min", "tt_scn_min", "is_unreachable", "d_min_low",
    "d_min_high",
]  # fmt: skip


def run(
    scenario: Scenario,
    roads: STGraph,
    forecast: STGraph | None = None,
    *,
    with_weather: STGraph | None = None,
    demand: Demand | None = None,
    history: STGraph | None = None,
    city: City | None = None,
    force: bool = False,
    allow_disconnect: bool = False,
    now: dt.datetime | None = None,
    n_processes: int = 1,
    say: Say = lambda _: None,
) -> ScenarioResult:
    """Return what a scenario does to the traffic.

    Parameters
    ----------
    scenario
        What changes, and how it is estimated.
    roads
        The network: junctions as nodes, segments as edges.
    forecast
        The baseline: speeds, and flows if known, of segments (nodes by `segment_id`) for the
        horizon. None: what is usual in the history.
    with_weather
        The same forecast with the weather that the scenario sets, as
        `stgraph.scenario.weather.forecast_with_weather` makes it. None: it sets none.
    demand
        Trips between zones. None: there is only a pattern (method ``diversion``).
    history
        The same as the forecast for weeks of the past, to fit to. None: usual curves.
    city
        What `fit_city` made of `roads`, `history` and `demand`, for several scenarios. None: it
        is fitted here.
    force, allow_disconnect
        As for `stgraph.scenario.checking.check`.
    now
        Time of the run; None: now.
    n_processes
        Of large networks so many hours are assigned at the same time. A script that asks for more
        than one needs ``if __name__ == "__main__":``.
    say
        Is told what is being done.

    Returns
    -------
    ScenarioResult
        Baseline, scenario, difference and how sure it is, with all that it rests on.

    Raises
    ------
    ConfigError
        Lists everything that is wrong with the scenario.
    DataError
        Roads, forecast or history cannot be used.
    """
    if city is None:
        city = fit_city(
            roads,
            history=history,
            demand=demand,
            learn=may_learn(scenario),
            seed=scenario.seed,
            say=say,
        )
    if not _is_of(city, roads):
        raise ConfigError("`city` was fitted to other roads than `roads`; fit it to these")
    report = Report()
    forecast = forecast if forecast is not None else _usual(scenario, city, roads)
    time = find_steps(scenario, forecast.time, report)
    report.raise_errors(ConfigError, title=f"scenario {scenario.name!r} cannot be run")
    if len(time) == 1 and forecast.step is not None:  # which says how long it is
        time = pd.DatetimeIndex(time, freq=to_offset(forecast.step))
    edited, found = check(
        scenario,
        roads,
        time=time,
        demand=demand,
        forecast=forecast,
        force=force,
        allow_disconnect=allow_disconnect,
    )
    if scenario.method == "learned" and city.learned is None and not is_weather_alone(scenario):
        found.error("`method`", "nothing was learned", "use auto; the report says why")
    check_promise(scenario, demand, found)
    check_with_weather(scenario, forecast, with_weather, found)
    found.raise_errors(ConfigError, title=f"scenario {scenario.name!r} cannot be run")
    assert edited is not None  # noqa: S101 - else there was an error
    return _Runner(
        scenario, city, edited, forecast, with_weather, demand, found, now, n_processes, say
    ).run()


class _Runner:
    """One scenario on its way through the stages."""

    def __init__(
        self,
        scenario: Scenario,
        city: City,
        edited: Edited,
        forecast: STGraph,
        with_weather: STGraph | None,
        demand: Demand | None,
        report: Report,
        now: dt.datetime | None,
        n_processes: int,
        say: Say,
    ) -> None:
        self.scenario, self.city, self.edited = scenario, city, edited
        self.demand, self.n_processes, self.say = demand, n_processes, say
        self.zone = scenario.timezone or forecast.zone
        self.report = Report([*city.report, *report])
        self.now = dt.datetime.now(dt.UTC) if now is None else now.astimezone(dt.UTC)
        self.forecast, self.with_weather = forecast, with_weather
        self.base = read_base(forecast, city, edited, self.report)
        self.weather = self._weather()

    def _weather(self) -> Weather | None:
        """Return the forecast with other weather on the same segments; None without."""
        if self.with_weather is None:
            return None
        known = set(self.forecast.report)
        self.report.extend([one for one in self.with_weather.report if one not in known])
        return read_weather(
            self.forecast,
            self.with_weather,
            self.base,
            self.city,
            self.edited,
            zone=self.scenario.timezone,
            report=self.report,
        )

    def run(self) -> ScenarioResult:
        """Return the result."""
        hourly = self._hourly_demand()
        method = self._method(hourly)
        self.say(f"estimating by {method}")
        found = self._estimate(method, hourly)
        if self.weather is not None and self.weather.is_unsure.any():
            found = replace(found, members=())  # a range of all but the weather would be too narrow
        sources = self._note_sources(found, hourly)
        self.say("measuring times between zones")
        trips = (None, None) if hourly is None else self._trips(hourly)
        zones = self._zones(found, hourly, *trips)
        summary = summarise(
            self.edited,
            found.effects,
            od=None if zones is None else zones.od,
            trips_base=trips[0],
            trips_scn=trips[1],
            members=found.members,
            trip_members=() if zones is None else zones.trip_members,
        )
        summary = _with_unserved(summary, found, zones is None and method != "forecast")
        script = to_yaml(self.scenario)
        mark = hashlib.sha256(f"{script}{self._source()}{method}".encode()).hexdigest()[:8]
        return ScenarioResult(
            run_id=f"{self.now:%Y%m%dT%H%M%SZ}-{mark}",
            name=self.scenario.name,
            script=script,
            method=method,
            baseline=self._source(),
            zone=self.zone,
            roads=self.edited.roads,
            time=self.edited.time,
            links=found.effects,
            od=pd.DataFrame(columns=_OD) if zones is None else zones.rows,
            edits=self.edited.edits,
            summary=summary,
            access=pd.DataFrame() if zones is None else zones.access,
            card=self._card(method, sources),
            report=self.report,
            top_n=self.scenario.outputs.top_n,
            od_pairs=self.scenario.outputs.od_pairs,
            isochrones=None if zones is None else zones.isochrones,
            parent=self.edited.parent,
        )

    def _hourly_demand(self) -> HourlyDemand | None:
        """Return the trips of the horizon; None without a demand."""
        if self.demand is None:
            return None
        numbers = [
            i
            for i, operation in enumerate(self.scenario.operations, 1)
            if operation.op in ("add_demand", "scale_demand")
        ]
        hourly = apply_demand(
            self.demand,
            self.edited.demand,
            self.edited.time,
            self.zone,
            self.report,
            roads=self.edited.roads,
            numbers=numbers,
        )
        self.report.raise_errors(ConfigError, title=f"{self.scenario.name!r} cannot be run")
        return hourly

    def _method(self, hourly: HourlyDemand | None) -> Used:
        """Return the method to use, and note why it is not the one that was asked for."""
        asked, learned = self.scenario.method, self.city.learned
        if is_weather_alone(self.scenario) and (hourly is None or self._has_flows()):
            if asked != "auto":
                what = f"{asked!r} has nothing to do where the weather alone changes"
                self.report.info("`method`", what, "the effect is that of the forecast")
            kept = [one for one in self.report if one.where not in _OF_METHODS]
            self.report = Report(kept)
            return "forecast"
        if asked in ("diversion", "simulate"):
            return asked
        if hourly is None:
            if asked != "auto":
                todo = "give `demand`, or use the methods auto or diversion"
                self.report.error("`method`", f"{asked!r} needs to know who drives where", todo)
                self.report.raise_errors(ConfigError, title=f"{self.scenario.name!r} cannot run")
            what = "nothing is known of who drives where"
            self.report.warning("`demand`", what, "the result is a pattern, not an amount")
            return "diversion"
        if asked == "assignment":
            return "assignment"
        if learned is None or not knows_some(self.edited, hourly, learned):
            self._note_unknown(hourly, "the assignment alone is used")
            return "assignment"
        if asked == "auto" and not learned.is_better:
            self.report.info("method learned", f"was no better than the assignment: {learned}")
            return "assignment"
        if not learned.is_better:
            what = f"was no better than the assignment: {learned}"
            self.report.warning("method learned", what, "used all the same, as it is asked for")
        return "learned"

    def _has_flows(self) -> bool:
        """Tell whether the flows of all segments are known, so that none have to be modelled."""
        return bool(np.isfinite(self.base.flow).any(axis=0).all())

    def _note_unknown(self, hourly: HourlyDemand, todo: str) -> None:
        """Say what the scenario does that no network can know, or that ours has not seen."""
        unknown = self._never_learned(hourly)
        if unknown:
            asked = self.scenario.method == "learned"
            tell = self.report.warning if asked else self.report.info
            tell("method learned", f"a network learns nothing about {', '.join(unknown)}", todo)

    def _never_learned(self, hourly: HourlyDemand) -> list[str]:
        """Return what the scenario does that no network can know, or that ours has not seen."""
        kinds: set[str] = {operation.op for operation in self.scenario.operations}
        unknown = sorted(kinds - _LEARNED_OPS - {"set_weather"})  # which the forecast knows
        if hourly.is_changed.any() and not unknown:
            unknown.append("other trips")
        base = self.edited.baseline
        if any((state.capacity_vph > base.capacity_vph).any() for state in self.edited.periods):
            unknown.append("more capacity")
        works = [one for one in self.scenario.operations if one.op == "roadworks"]
        if any(one.kmh is not None for one in works):
            unknown.append("the speed limit of roadworks")
        learned = self.city.learned
        closing, narrowing = sorted(kinds & _CLOSING), sorted(kinds & _NARROWING)
        if learned is not None and not learned.has_closures and closing:
            unknown.append(f"{', '.join(closing)} (nothing was ever closed)")
        if learned is not None and not learned.has_narrowings and narrowing:
            unknown.append(f"{', '.join(narrowing)} (nothing was ever narrowed)")
        return unknown

    def _note_sources(self, found: Estimate, hourly: HourlyDemand | None) -> dict[str, str]:
        """Return which part of the changes rests on what, and say it with what is far off."""
        warn_beyond_past(found.effects, self.edited, self.city.history, self.report)
        shares = shares_of_sources(found.effects)
        if "learned" not in shares or hourly is None:
            return {}
        words = {name: f"{100 * share:.0f} % of changed rows" for name, share in shares.items()}
        todo = f"the network says what happens on {words['learned']}, the assignment on the others"
        self._note_unknown(hourly, todo)
        return words

    def _estimate(self, method: Used, hourly: HourlyDemand | None) -> Estimate:
        """Return effects by a method."""
        if method == "forecast":
            assert self.weather is not None  # noqa: S101 - nothing else chooses it
            return estimate_weather(self.city, self.edited, self.base, self.weather)
        streets = read_streets(self.edited.roads, Report())
        assert streets is not None  # noqa: S101 - the network was read before
        if method == "diversion":
            return estimate_diversion(
                self.city, self.edited, streets, self.base,
                weather=self.weather, zone=self.zone, report=self.report,
            )  # fmt: skip
        if hourly is None:
            raise ConfigError(f"{self.scenario.name!r}: method {method!r} needs `demand`")
        if method == "simulate":
            return estimate_simulation(
                self.city, self.edited, self.base, hourly, weather=self.weather,
                zone=self.zone, seed=self.scenario.seed, report=self.report, say=self.say,
            )  # fmt: skip
        return estimate(
            self.city,
            self.edited,
            streets,
            self.base,
            hourly,
            method="learned" if method == "learned" else "assignment",
            weather=self.weather,
            seed=self.scenario.seed,
            n_processes=self.n_processes,
            on_done=self._tell,
        )

    def _tell(self, done: int, n: int) -> None:
        """Say how far it is, ten times at most."""
        if 10 * done // n > 10 * (done - 1) // n:
            self.say(f"assigned {done} of {n} hours")

    def _trips(self, hourly: HourlyDemand) -> tuple[Any, Any]:
        """Return the cars of every hour, (H, Z, Z), baseline and scenario; of its steps only."""
        hours, hour_of = full_hours(self.edited.time, self.zone)
        rows = hourly.period_of_step[np.searchsorted(hour_of, np.arange(len(hours)))]
        length = step_hours(self.edited.time)
        covered = (np.bincount(hour_of) * length)[:, None, None]
        return hourly.baseline[rows] * covered, hourly.scenario[rows] * covered

    def _zones(
        self, found: Estimate, hourly: HourlyDemand | None, trips_base: Any, trips_scn: Any
    ) -> ZoneEffects | None:
        """Return what happens between zones; None without any."""
        if self.demand is None or hourly is None:
            return None
        zones = replace(
            self.demand,
            zones=hourly.zones,
            junctions=hourly.junctions,
            trips=hourly.baseline,
            period_of_hour=np.zeros((7, 24), dtype=np.int64),
            intrazonal=np.zeros(hourly.baseline.shape[:2]),
        )
        return measure_zones(
            self.edited, found.effects, found.members, zones,
            trips_base=trips_base, trips_scn=trips_scn, zone=self.zone,
            asked=self.scenario.outputs.isochrones,
        )  # fmt: skip

    def _source(self) -> str:
        """Return which forecast the scenario is compared with."""
        notes = self.forecast.provenance
        issued, model = notes.get("issued_at"), notes.get("model")
        if issued and model:
            return f"{model}, issued {issued}"
        return str(notes.get("source", "a forecast"))

    def _weather_words(self) -> str:
        """Return which weather was set, with units where the forecast tells them."""
        if self.with_weather is None:
            return ""
        told = self.with_weather.provenance.get("weather")
        return in_words(told if told is not None else described(self.scenario, {}))

    def _card(self, method: Used, sources: dict[str, str]) -> dict[str, Any]:
        """Return what the result rests on."""
        card = self.city.card()
        if method == "forecast":
            card = {name: part for name, part in card.items() if name not in _OF_METHODS}
        card |= {
            "created": f"{self.now:%Y-%m-%dT%H:%M:%SZ}",
            "method": method,
            "weather set": self._weather_words(),
            "which part rests on what": sources,
            "seed": self.scenario.seed,
            "swept": dict(self.scenario.swept),
        }
        settled = self.city.drivers.kind == "equilibrium"
        if settled and method in ("assignment", "learned"):
            card["engine"] = "AequilibraE (aequilibrae.com)"
        if method == "diversion":
            card["warnings"] = ["A pattern, not an amount: nobody knows who drives where."]
        if self.city.history is None and method != "forecast":
            card.setdefault("warnings", []).append(
                "No history: how much slower streets get is a guess."
            )
        return {key: value for key, value in card.items() if value not in ("", {}, None)}


def may_learn(scenario: Scenario) -> bool:
    """Tell whether a learned network could be used, so that one is worth its time.

    It could where the scenario closes or narrows something, whatever else it does.
    """
    if is_weather_alone(scenario):
        return False
    known = {operation.op for operation in scenario.operations} & {*_LEARNED_OPS, "reverse"}
    return scenario.method == "learned" or (scenario.method == "auto" and bool(known))


def _is_of(city: City, roads: STGraph) -> bool:
    """Tell whether a city has the segments of a network."""
    ids = np.arange(roads.n_edges)
    if roads.edges is not None and "segment_id" in roads.edges:
        ids = roads.edges["segment_id"].to_numpy()
    return np.array_equal(ids, city.streets.segment_id)


def _usual(scenario: Scenario, city: City, roads: STGraph) -> STGraph:
    """Return what is usual in the hours of a horizon, as a forecast."""
    if city.history is None:
        raise ConfigError(
            f"scenario {scenario.name!r} has nothing to compare with; give a forecast or a history"
        )
    return usual_forecast(scenario, city.history, city.streets, roads)


def _with_unserved(summary: pd.DataFrame, found: Estimate, alone: bool) -> pd.DataFrame:
    """Return the summary with the trips that have no way, where it has none of them."""
    if not alone or (summary["metric"] == "unserved trips").any():
        return summary
    before, after = found.unserved
    row = ("unserved trips", "trips", before, after, after - before, np.nan, np.nan)
    return pd.concat([summary, pd.DataFrame([row], columns=summary.columns)], ignore_index=True)
