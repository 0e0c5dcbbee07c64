"""The simulated city of the examples: its files, its scenarios, and the script that made it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from stgraph_connectors.od import read_od
from stgraph_connectors.roads.lines import read_road_lines
from stgraph_connectors.stations import read_stations

from stgraph.graph import STGraph
from stgraph.neighbours.snapping import snap_stations
from stgraph.scenario.checking import check
from stgraph.scenario.demand import Demand
from stgraph.scenario.demand_sources import demand_from_od
from stgraph.scenario.scriptfile import read_scenarios

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "scenarios"
CITY = FOLDER / "city"
SCENARIOS = ["bridge-closure", "new-bridge", "stadium", "sweep", "zone-30"]


@pytest.fixture(scope="module")
def roads() -> STGraph:
    return read_road_lines(CITY / "roads.gpkg", id_column="id", nodes="junctions")


@pytest.fixture(scope="module")
def history() -> STGraph:
    return read_stations(
        CITY / "city.gpkg",
        CITY / "history.parquet",
        layer="segments",
        units={"speed": "km/h", "flow": "veh/h"},
        zone="Europe/Berlin",
    )


@pytest.fixture(scope="module")
def demand(roads: STGraph) -> Demand:
    zone = "Europe/Berlin"
    places = {"layer": "zones", "zone": zone, "unit": "trips/h"}
    return demand_from_od(read_od(CITY / "od.npz", CITY / "city.gpkg", **places), roads)


@pytest.fixture(scope="module")
def make_city() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_city", FOLDER / "make_city.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_city"] = module
    spec.loader.exec_module(module)
    return module


def test_it_is_small_and_said_to_be_simulated() -> None:
    files = [path for path in CITY.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    for name, layers in (("roads", ["roads"]), ("city", ["segments", "zones", "river"])):
        for layer in layers:
            rows = gpd.read_file(CITY / f"{name}.gpkg", layer=layer)
            assert rows["source"].str.contains("simulated").all()
    assert "Nothing here is real" in (FOLDER / "README.md").read_text()


def test_the_roads_are_a_city(roads: STGraph) -> None:
    assert 60 <= roads.n_nodes <= 120
    assert roads.report.errors == roads.report.warnings == []
    assert roads.edges is not None
    bridges = roads.edges[roads.edges["bridge"]]
    assert set(bridges["name"]) == {f"{name} Bridge" for name in ("East", "Market", "Old", "West")}
    assert (roads.edges["capacity_vph"] > 400).all()


def test_every_segment_has_its_history(roads: STGraph, history: STGraph) -> None:
    assert roads.edges is not None
    ids = roads.edges["segment_id"].astype(str)
    assert set(history.node_ids) == set(ids)
    assert history.n_steps == 14 * 96
    assert history.time[0] == pd.Timestamp("2026-11-02", tz="Europe/Berlin")
    speed, flow = history.values[..., 0], history.values[..., 1]
    assert np.isfinite(flow).all()
    limit = roads.edges.set_index(ids)["speed_kmh"].loc[list(history.node_ids)].to_numpy()
    assert (np.nan_to_num(speed) <= limit + 0.2).all()
    # a peak that can be felt, and no city that stands still
    local = history.time.tz_convert("Europe/Berlin")
    mean = [
        np.nansum(flow[hours]) / np.nansum((flow / speed)[hours])
        for hours in (local.hour == 8, local.hour == 12)
    ]
    assert 0.7 < mean[0] / mean[1] < 0.95


def test_stations_stand_on_their_own_segment(roads: STGraph, history: STGraph) -> None:
    snapped = snap_stations(history, roads, side="right").stations
    assert (snapped["segment_id"].astype(str) == snapped.index.astype(str)).all()


def test_the_demand_is_that_of_a_week(demand: Demand) -> None:
    days = demand.trips[demand.period_of_hour].sum(axis=(1, 2, 3))
    np.testing.assert_allclose(days[:5], 145_000, rtol=0.01)
    assert days[6] < days[5] < days[0]
    assert demand.report.warnings == []


def test_incidents_are_seen_in_the_history(history: STGraph) -> None:
    incidents = pd.read_csv(CITY / "incidents.csv", parse_dates=["from", "to"])
    closed = incidents[incidents["capacity_factor"] == 0]
    assert len(closed) >= 30
    flow = pd.DataFrame(history.values[..., 1], history.time, list(history.node_ids))
    during = [
        flow.loc[row["from"] : row["to"], str(row["id"])].iloc[2:-1].max()
        for _, row in closed.iterrows()
    ]
    assert np.max(during) == 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_can_be_run(name: str, roads: STGraph, demand: Demand) -> None:
    scenarios = read_scenarios(FOLDER / f"{name}.toml", needs=("roads", "forecast", "demand"))
    time = pd.date_range("2026-11-16", periods=96, freq="15min", tz="Europe/Berlin")
    for scenario in scenarios:
        edited, report = check(scenario, roads, time=time.tz_convert("UTC"), demand=demand)
        assert report.errors == report.warnings == []
        assert edited is not None
        assert len(edited.changes) or edited.demand
    assert len(scenarios) == (4 if name == "sweep" else 1)


def test_the_script_makes_these_files(make_city: ModuleType, history: STGraph) -> None:
    pytest.importorskip("uxsim")
    places = make_city.make_places()
    roads = gpd.read_file(CITY / "roads.gpkg")
    same = ["id", "name", "highway", "lanes", "maxspeed", "capacity_vph"]
    pd.testing.assert_frame_equal(
        pd.DataFrame(places.roads[same]), pd.DataFrame(roads[same]), check_dtype=False
    )
    demand = make_city.make_demand(places)
    speed, flow = make_city.simulate_day(places, demand, 5)
    # the same to the bit on one machine; traffic that jams makes much of a last digit elsewhere
    there = history.values[5 * 96 : 6 * 96]
    assert np.corrcoef(flow.ravel(), there[..., 1].ravel())[0, 1] > 0.97
    known = np.isfinite(speed) & np.isfinite(there[..., 0])
    assert np.abs(speed - there[..., 0])[known].mean() < 2
