"""Read what a scenario names: roads, forecast, history, demand, and the steps of its horizon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import geopandas as gpd
import pandas as pd

from stgraph import registry
from stgraph.config import reveal
from stgraph.errors import ConfigError, DataError
from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph.scenario.demand import Demand
from stgraph.scenario.script import Scenario
from stgraph.scenario.sources import DemandSource, Source
from stgraph.scenario.traffic import find_speed
from stgraph.scenario.weather import weather_of
from stgraph.scenario.window import Window, to_utc, window_steps

_ZONE_IDS = ("zone_id", "zone", "taz_id", "taz", "id", "node_id")


class ForecastJob(Protocol):
    """Makes of the TOML file of a job what its checkpoint forecasts."""

    def __call__(self, path: Path, weather: Scenario | None = None, /) -> STGraph:
        """Return the forecast, with the weather that a scenario sets where one is given."""
        ...


@runtime_checkable
class KeepsReadings(Protocol):
    """A `ForecastJob` that keeps what it has read, for the next forecast of the same job."""

    def forget(self) -> None:
        """Let go of it; a job that is asked for again is read anew."""
        ...


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a scenario names, read."""

    roads: STGraph  # junctions as nodes, segments as edges
    time: pd.DatetimeIndex  # (T,) steps of the horizon, UTC
    forecast: STGraph | None
    history: STGraph | None
    demand: Demand | None


class Opener:
    """Reads what scenarios name, each source once however many scenarios name it."""

    def __init__(self, forecast_job: ForecastJob | None = None) -> None:
        self._forecast_job = forecast_job
        self._read: list[tuple[Any, Any]] = []  # what was asked for, and what came

    def open(self, scenario: Scenario, report: Report, *, only_check: bool = False) -> Inputs:
        """Return what a scenario names.

        Parameters
        ----------
        scenario
            Any scenario.
        report
            Gets an error where its horizon cannot be known or is not in the forecast.
        only_check
            Leave out what takes long: history, gravity models, and forecasts of jobs where the
            scenario has a horizon of its own.
        """
        baseline, source = scenario.baseline, scenario.demand
        roads = self._once(baseline.roads, lambda: open_roads(scenario))
        slow = only_check and baseline.forecast is None and scenario.horizon is not None
        slow = slow and not weather_of(scenario)  # the model says what can be set
        asked = (baseline.forecast, None if slow else baseline.job)
        job = None if slow else self._forecast_job
        forecast = self._once(asked, lambda: open_forecast(scenario, job))
        history = demand = None
        if not only_check:
            history = self._once((baseline.history,), lambda: open_history(scenario))
        if source is not None and not (only_check and source.gravity is not None):
            counted = forecast if history is None else history
            demand = self._once(
                (source, baseline), lambda: open_demand(source, roads, counted=counted)
            )
        time = find_steps(scenario, None if forecast is None else forecast.time, report)
        return Inputs(roads, time, forecast, history, demand)

    def with_weather(self, scenario: Scenario) -> STGraph | None:
        """Return what the job of a scenario forecasts with the weather that it sets; else None.

        Raises
        ------
        ConfigError
            The model cannot be told so.
        """
        weather, job = weather_of(scenario), scenario.baseline.job
        if not weather or job is None or self._forecast_job is None:
            return None
        forecast_job = self._forecast_job
        what = [(one.feature, one.value, one.window, one.override) for _, one in weather]
        found: STGraph = self._once(
            ("weather", job, what, scenario.timezone), lambda: forecast_job(job, scenario)
        )
        return found

    def forget_jobs(self) -> None:
        """Let go of the readings of jobs: all that they forecast has been asked for."""
        if isinstance(self._forecast_job, KeepsReadings):
            self._forecast_job.forget()

    def _once(self, asked: Any, read: Callable[[], Any]) -> Any:
        """Return what was read when the same was asked for, or read it."""
        for known, value in self._read:
            if known == asked:
                return value
        value = read()
        self._read.append((asked, value))
        return value


def open_source(source: Source) -> STGraph:
    """Return the graph that a connector reads."""
    read = registry.load("connectors", source.connector)
    graph: STGraph = read(**reveal(source.options))
    return graph


def open_roads(scenario: Scenario) -> STGraph:
    """Return the network of a scenario: junctions as nodes, segments as edges.

    Raises
    ------
    ConfigError
        The scenario names none.
    DataError
        What it names is no network of segments.
    """
    source = scenario.baseline.roads
    if source is None:
        raise ConfigError(f"scenario {scenario.name!r} names no `baseline.roads`; add it")
    roads = open_source(source)
    if roads.edges is None or "segment_id" not in roads.edges:
        raise DataError(
            f"`baseline.roads`: {source.connector!r} reads a graph without `segment_id` of its "
            "edges; use a connector of roads"
        )
    return roads


def open_forecast(scenario: Scenario, forecast_job: ForecastJob | None = None) -> STGraph | None:
    """Return the forecast that a scenario names, itself or by a job; None if it names none."""
    baseline = scenario.baseline
    if baseline.forecast is not None:
        return open_source(baseline.forecast)
    if baseline.job is not None and forecast_job is not None:
        return forecast_job(baseline.job)
    return None


def open_history(scenario: Scenario) -> STGraph | None:
    """Return the readings of the past that a scenario names; None if it names none."""
    source = scenario.baseline.history
    return None if source is None else open_source(source)


def open_demand(source: DemandSource, roads: STGraph, *, counted: STGraph | None = None) -> Demand:
    """Return the demand that a scenario names.

    Parameters
    ----------
    source
        What the scenario says.
    roads
        Junctions as nodes, segments as edges.
    counted
        Flows of segments, for a gravity model: the history, or else the forecast.

    Raises
    ------
    DataError
        It cannot be read, does not fit the roads, or nothing was counted.
    """
    from stgraph.scenario.counts import counts_from_readings, usual_minutes
    from stgraph.scenario.demand_sources import demand_from_od
    from stgraph.scenario.gravity import fit_gravity

    if source.od is not None:
        return demand_from_od(open_source(source.od), roads, **source.options)
    if counted is None:
        raise DataError(
            "`demand.gravity` is fitted to flows, and there are none; give `baseline.history` with "
            "flows of segments, or a matrix as `demand.od`"
        )
    zones = None if source.zones is None else read_zones(source.zones)
    counts = counts_from_readings(counted, roads)
    # observed travel times make much better routes than those of empty streets
    minutes = None if find_speed(counted) is None else usual_minutes(counted, roads)
    demand, _ = fit_gravity(
        roads, counts=counts, zones=zones, minutes=minutes, **(source.gravity or {})
    )
    return demand


def read_zones(path: Path) -> gpd.GeoDataFrame:
    """Return the zones of a file by their ids.

    Parameters
    ----------
    path
        Points or areas; of several layers the one named ``zones``, else the first.

    Returns
    -------
    geopandas.GeoDataFrame
        By the column `zone_id`, `zone`, `taz_id`, `taz`, `id` or `node_id`, whichever is there
        first, else numbered from 1.

    Raises
    ------
    DataError
        It cannot be read, or has no places.
    """
    try:
        layers = [str(name) for name in gpd.list_layers(path)["name"]]
        zones = gpd.read_file(path, layer="zones" if "zones" in layers else layers[0])
    except (RuntimeError, OSError) as error:
        raise DataError(f"`demand.zones`: cannot read {str(path)!r}: {error}") from error
    if not isinstance(zones, gpd.GeoDataFrame) or not len(zones):
        raise DataError(f"`demand.zones`: {str(path)!r} has no zones with a place; give a layer")
    names = {str(column).lower(): column for column in zones.columns}
    known = next((names[name] for name in _ZONE_IDS if name in names), None)
    if known is None:
        return zones.set_index(pd.RangeIndex(1, len(zones) + 1, name="zone_id"))
    return zones.set_index(known)


def find_steps(
    scenario: Scenario,
    time: pd.DatetimeIndex | None,
    report: Report,
    *,
    step_minutes: float = 5.0,
) -> pd.DatetimeIndex:
    """Return the steps of a scenario's horizon.

    Parameters
    ----------
    scenario
        Its `horizon` says from when to when; None is all of the forecast.
    time
        (T,) steps of the forecast, UTC. None: there is no forecast, and the horizon has steps of
        its own.
    report
        Gets an error where the horizon is not in the forecast or cannot be known.
    step_minutes
        Length of these.

    Returns
    -------
    pandas.DatetimeIndex
        Steps, UTC; none where there was an error.
    """
    none = pd.DatetimeIndex([], tz="UTC").as_unit("us")
    horizon, zone, place = scenario.horizon, scenario.timezone, "`horizon`"
    if time is not None and not len(time):
        report.error("`baseline.forecast`", "has no steps", "name one with values over time")
        return none
    if horizon is None:
        if time is None:
            todo = "give one, with `from` and `to`, or a forecast"
            report.error(place, "is missing, and there is no forecast", todo)
        return none if time is None else time
    if horizon.is_local and zone is None:
        what = "has local times, and the scenario has no time zone"
        report.error(place, what, 'give one: timezone = "Europe/Berlin"')
        return none
    start = to_utc(horizon.from_, zone, is_end=False, report=report, where=place)
    stop = to_utc(horizon.to, zone, is_end=True, report=report, where=place)
    if start >= stop:
        report.error(place, f"ends at {stop}, not after its beginning", "give a later `to`")
        return none
    if time is None:
        freq = pd.Timedelta(minutes=step_minutes)
        return pd.date_range(start, stop, freq=freq, inclusive="left").as_unit("us")
    window = Window.model_validate({"from": horizon.from_, "to": horizon.to})
    steps = window_steps(window, time, zone, Report(), place)
    end = time[-1] + (time[1] - time[0] if len(time) > 1 else pd.Timedelta(0))
    if start < time[0] or (len(time) > 1 and stop > end):
        first, last = (t.tz_convert(zone or "UTC") for t in (time[0], end))
        what = f"{window} is not all in the forecast"
        todo = f"that is from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M %Z}"
        report.error(place, what, todo)
        return none
    return time[steps]
