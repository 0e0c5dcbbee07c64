"""The simulated city whose closures are known, as a user of scenarios would have it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from _common import Row, at_least, at_most

from stgraph import registry
from stgraph.graph import Feature, STGraph
from stgraph.scenario.demand import Demand
from stgraph.scenario.demand_sources import demand_from_patterns
from stgraph.scenario.fitting import City, fit_city
from stgraph.scenario.od_times import od_times
from stgraph.scenario.result import ScenarioResult
from stgraph.scenario.running import run
from stgraph.scenario.script import Scenario

TRAIN_DAYS = 42
HOURS = slice(7, 19)  # of the closures, local
_OD_HOURS = (8, 17)
_MONDAY = "2026-03-02"  # of the horizon; any Monday
_NO_EFFECT = 0.015  # of the time of all vehicles

# hours and links without any vehicle have no speed
warnings.filterwarnings("ignore", "All-NaN slice|Mean of empty slice", RuntimeWarning)

GOALS = {"r_speed": 0.68, "skill_speed": 0.36, "r_flow": 0.88, "skill_flow": 0.55}
TITLES = {
    "r_speed": "r of speed",
    "skill_speed": "skill of speed",
    "r_flow": "r of flow",
    "skill_flow": "skill of flow",
}
OD_GOAL = 0.85


@dataclass(frozen=True, eq=False)
class Case:
    """A scenario with known effects."""

    name: str
    links: tuple[int, ...]
    factor: float  # of the capacity; 0 is closed

    @property
    def scenario(self) -> Scenario:
        """The script of it."""
        horizon = {"from": f"{_MONDAY}T00:00:00", "to": f"{_MONDAY}T23:59:59"}
        one = Scenario(self.name, timezone="UTC", horizon=horizon)
        if self.factor == 0:
            return one.close(edges=self.links, direction="forward", daily="07:00-19:00")
        return one.set_capacity(edges=self.links, factor=self.factor, daily="07:00-19:00")


class Simcity:
    """The city of a folder: network, past, demand, and closures with their replicates."""

    def __init__(self, folder: Path, *, days: int = TRAIN_DAYS) -> None:
        self.folder = folder
        self.roads: STGraph = registry.load("connectors", "road_lines")(
            str(folder / "city.gpkg"),
            layer="links",
            id_column="link_id",
            from_column="u",
            to_column="v",
            nodes="junctions",
            speed_column="speed_limit_kmh",
            speed_unit="km/h",
        )
        self.history = self._history(days)
        self.demand = self._demand()
        self.truth = np.load(folder / "scenarios_hourly.npz")

    def cases(self) -> list[Case]:
        """Return all closures that the folder has, and the street of half capacity."""
        plan = json.loads((self.folder / "scenarios.json").read_text(encoding="utf-8"))
        found = [Case(one["name"], tuple(one["links"]), 0.0) for one in plan["closures"]]
        if "halfcap" in plan:
            half = plan["halfcap"]
            found.append(Case("halfcap", tuple(half["links"]), float(half["factor"])))
        return [one for one in found if f"{one.name}_speed_kmh" in self.truth]

    def _history(self, days: int) -> STGraph:
        """Return speeds, flows and open capacity of the first days."""
        data = np.load(self.folder / "days.npz")
        raw = data["speed_ckmh"][:days]
        speed = np.where(raw == 65535, np.nan, raw / np.float32(100))
        parts = (speed, data["flow_vph"][:days], data["capacity_factor"][:days])
        n_links = speed.shape[-1]
        values = np.stack([part.astype(np.float32).reshape(-1, n_links) for part in parts], axis=-1)
        nodes = gpd.GeoDataFrame(
            {"kind": "segment"}, index=pd.RangeIndex(n_links), geometry=[None] * n_links, crs=4326
        )
        return STGraph(
            nodes=nodes,
            time=pd.date_range("2026-01-05", periods=len(values), freq="5min", tz="UTC"),
            values=values,
            features=(
                Feature("speed", "km/h"),
                Feature("flow", "veh/h"),
                Feature("capacity_factor", "%", "observed"),
            ),
        )

    def _demand(self) -> Demand:
        """Return the expected trips of a week."""
        od = np.load(self.folder / "od.npz")
        zones = gpd.read_file(self.folder / "city.gpkg", layer="nodes").set_index("node_id")
        return demand_from_patterns(
            od["patterns"],
            zones,
            self.roads,
            trips_per_day=float(od["trips_per_day"]),
            hour_share=od["hour_share"],
            mix=od["mix_weekday"],
        )

    def usual_day(self) -> STGraph:
        """Return the median of the working days of the past, every 5 minutes."""
        day = self.history.time.dayofweek.to_numpy().reshape(-1, 288)[:, 0]
        by_day = self.history.values.reshape(-1, 288, *self.history.values.shape[1:])
        values = np.nanmedian(by_day[day < 5], axis=0)[:, :, :2]
        return self.history.replace(
            time=pd.date_range(_MONDAY, periods=288, freq="5min", tz="UTC"),
            values=values.astype(np.float32),
            mask=np.isfinite(values),
            features=self.history.features[:2],
            provenance={"source": "median of working days"},
        )

    def true_effect(self, case: Case, quantity: str) -> np.ndarray[Any, Any]:
        """Return the mean change over replicates and the twelve hours, (E,)."""
        scn = self.truth[f"{case.name}_{quantity}"].astype(np.float64)
        base = self.truth[f"base_{quantity}"].astype(np.float64)[: len(scn)]
        return np.nanmean(np.nanmean((scn - base)[:, HOURS], axis=0), axis=0)

    def ceiling(self, case: Case, quantity: str) -> tuple[float, float]:
        """Return r and skill of half of the replicates that forecast the other half, mean of 40.

        Nobody who knows the city does better than its own simulator on as many days.
        """
        scn = self.truth[f"{case.name}_{quantity}"].astype(np.float64)
        base = self.truth[f"base_{quantity}"].astype(np.float64)[: len(scn)]
        change = np.nanmean((scn - base)[:, HOURS], axis=1)
        counted = self.counted(case)
        rng, found = np.random.default_rng(0), []
        for _ in range(40):
            mixed = rng.permutation(len(change))
            said, true = (np.nanmean(part, axis=0) for part in np.array_split(change[mixed], 2))
            both = counted & np.isfinite(said) & np.isfinite(true)
            found.append(score(said, true, both))
        r, skill = np.mean(found, axis=0)
        return float(r), float(skill)

    def counted(self, case: Case) -> np.ndarray[Any, Any]:
        """Tell which links are scored, (E,): all but the closed ones."""
        counted = np.ones(self.roads.n_edges, dtype=bool)
        if case.factor == 0:
            counted[list(case.links)] = False
        return counted

    def true_minutes(self, case: Case) -> float:
        """Return by how much the mean trip takes longer, at 8 and 17 h."""
        usual = self.usual_day().values[:, :, 0].reshape(24, 12, -1)
        scn = np.nanmean(self.truth[f"{case.name}_speed_kmh"].astype(np.float64), axis=0)
        base = np.nanmean(self.truth["base_speed_kmh"].astype(np.float64), axis=0)
        fill = np.nanmean(usual, axis=1)
        return self._longer(
            np.where(np.isfinite(base), base, fill), np.where(np.isfinite(scn), scn, fill), case
        )

    def modelled_minutes(self, result: ScenarioResult, case: Case) -> float:
        """Return the same of a result."""
        by_hour = [
            np.nanmean(part.astype(np.float64).reshape(24, 12, -1), axis=1)
            for part in (result.links.speed_base, result.links.speed_scn)
        ]
        return self._longer(by_hour[0], by_hour[1], case)

    def _longer(self, base: Any, scn: Any, case: Case) -> float:
        """Return the trip-weighted mean change of minutes, of hourly speeds (24, E)."""
        is_open = np.ones(base.shape[1], dtype=bool)
        left = is_open.copy()
        if case.factor == 0:
            left[list(case.links)] = False
        none = np.zeros((2, 0), dtype=np.int64)
        found = []
        for hour in _OD_HOURS:
            trips = self.demand.at(0, hour)
            slow = [np.maximum(np.nan_to_num(part[hour], nan=5.0), 1.0) for part in (base, scn)]
            before = od_times(self.roads, slow[0], is_open, self.demand.junctions, none)
            after = od_times(self.roads, slow[1], left, self.demand.junctions, none)
            found.append(float((trips * (after - before)).sum() / trips.sum()))
        return float(np.mean(found))


def score(said: Any, true: Any, counted: Any) -> tuple[float, float]:
    """Return correlation and skill (1 - MAE / MAE of no effect) over links."""
    p, t = np.nan_to_num(said[counted]), true[counted]
    r = float(np.corrcoef(p, t)[0, 1]) if p.std() > 0 else 0.0
    return r, float(1 - np.abs(p - t).mean() / np.abs(t).mean())


def closures(folder: Path, *, quick: bool, method: str = "auto") -> list[Row]:
    """Return what a method reaches on the closures of a folder."""
    days = 14 if quick else TRAIN_DAYS
    city_data = Simcity(folder, days=days)
    city = fit_city(
        city_data.roads,
        history=city_data.history,
        demand=city_data.demand,
        learn=method in ("auto", "learned") and not quick,
        say=lambda text: print(f"  {text}", flush=True),
    )
    print(city.card())
    cases = city_data.cases()[:1] if quick else city_data.cases()
    forecast = city_data.usual_day()
    rows: list[Row] = []
    totals: dict[str, list[float]] = {}
    minutes = []
    for case in cases:
        found, result = _judge(city_data, city, forecast, case, method)
        rows += [Row(f"{case.name}: {TITLES[key]}", value, "") for key, value in found.items()]
        rows += _ceilings(city_data, case)
        if case.factor > 0:
            continue
        for key, value in found.items():
            totals.setdefault(key, []).append(value)
        minutes.append((city_data.modelled_minutes(result, case), city_data.true_minutes(case)))
        rows.append(Row(f"{case.name}: OD minutes, said", minutes[-1][0], "min"))
        rows.append(Row(f"{case.name}: OD minutes, true", minutes[-1][1], "min"))
    for key, values in totals.items():
        title, value = f"mean of the closures: {TITLES[key]}", float(np.mean(values))
        rows.append(Row(title, value, "") if quick else at_least(title, value, "", GOALS[key]))
    said, true = np.sum(minutes, axis=0)
    title = "mean of the closures: OD minutes recovered"
    part = float(said / true)
    rows.append(Row(title, part, "") if quick else at_least(title, part, "", OD_GOAL))
    return [*rows, *_no_effect(city_data, city, forecast, method)]


def _ceilings(data: Simcity, case: Case) -> list[Row]:
    """Return what replicates of the truth reach on others of it."""
    rows = []
    for name, key in (("speed", "speed_kmh"), ("flow", "flow_vph")):
        for kind, value in zip(("r", "skill"), data.ceiling(case, key), strict=True):
            title = f"{case.name}: {TITLES[f'{kind}_{name}']}, half of the truth on the other half"
            rows.append(Row(title, value, ""))
    return rows


def _judge(
    data: Simcity, city: City, forecast: STGraph, case: Case, method: str
) -> tuple[dict[str, float], ScenarioResult]:
    """Return the scores of one case, and its result."""
    scenario = case.scenario.model_copy(update={"method": method})
    result = run(
        scenario, data.roads, forecast, demand=data.demand, city=city, allow_disconnect=True
    )
    links = result.links
    steps = slice(HOURS.start * 12, HOURS.stop * 12)
    counted = data.counted(case)
    found = {}
    for name, key, parts in (
        ("speed", "speed_kmh", (links.speed_base, links.speed_scn)),
        ("flow", "flow_vph", (links.flow_base, links.flow_scn)),
    ):
        said = np.nanmean((parts[1] - parts[0])[steps].astype(np.float64), axis=0)
        true = data.true_effect(case, key)
        found[f"r_{name}"], found[f"skill_{name}"] = score(said, true, counted & np.isfinite(true))
    return found, result


def _no_effect(data: Simcity, city: City, forecast: STGraph, method: str) -> list[Row]:
    """Return by how much the time of all vehicles changes where a closure has no effect."""
    quiet = int(np.argmin(np.nan_to_num(city.history.usual_flow[:24]).sum(axis=0)))  # type: ignore[union-attr]
    case = Case("the emptiest street", (quiet,), 0.0)
    _, result = _run_only(data, city, forecast, case, method)
    row = result.summary.set_index("metric").loc["VHT"]
    change = abs(float(row["change"]) / float(row["base"]))
    return [at_most("closing the emptiest street: change of VHT", change, "", _NO_EFFECT)]


def _run_only(
    data: Simcity, city: City, forecast: STGraph, case: Case, method: str
) -> tuple[Case, ScenarioResult]:
    """Return a case and its result."""
    scenario = case.scenario.model_copy(update={"method": method})
    return case, run(
        scenario, data.roads, forecast, demand=data.demand, city=city, allow_disconnect=True
    )
