"""What a scenario names is read once, and its horizon is found in the forecast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scenario_town import make_demand, make_forecast, make_time, make_town
from stgraph_connectors.sinks.graph_file import write_graph

from stgraph import registry
from stgraph.errors import ConfigError, DataError
from stgraph.report import Report
from stgraph.scenario.gravity import fit_gravity
from stgraph.scenario.opening import Opener, find_steps, open_demand, open_roads, read_zones
from stgraph.scenario.script import Scenario
from stgraph.scenario.sources import Baseline, DemandSource, Source


def horizon(start: str, stop: str, zone: str | None = "Europe/Berlin") -> Scenario:
    return Scenario("x", timezone=zone, horizon={"from": start, "to": stop})


def test_horizon_within_the_forecast() -> None:
    """06:00 to 09:00 in Berlin is three hours from 05:00 UTC; without a horizon it is all."""
    report = Report()
    steps = find_steps(horizon("2026-11-23 06:00", "2026-11-23 09:00"), make_time(), report)
    assert [f"{t:%H:%M}" for t in steps] == ["05:00", "06:00", "07:00"]
    assert find_steps(Scenario("x"), make_time(), report).equals(make_time())
    assert not len(report)


def test_horizon_without_a_forecast() -> None:
    """Then it has steps of five minutes of its own."""
    report = Report()
    steps = find_steps(horizon("2026-11-23 06:00", "2026-11-23 07:00"), None, report)
    assert len(steps) == 12
    assert steps[0] == pd.Timestamp("2026-11-23 05:00", tz="UTC")
    assert not len(report)


@pytest.mark.parametrize(
    ("scenario", "time", "message"),
    [
        (Scenario("x"), None, "`horizon`: is missing, and there is no forecast"),
        (horizon("2026-11-23", "2026-11-24", None), None, "the scenario has no time zone"),
        (
            horizon("2026-11-23 01:00", "2026-11-25"),
            make_time(),
            "is not all in the forecast; that is from 2026-11-23 01:00 to 2026-11-24 01:00 CET",
        ),
        (horizon("2026-11-22", "2026-11-23 12:00"), make_time(), "is not all in the forecast"),
        (
            horizon("2026-11-23 07:00", "2026-11-23T06:00:00Z"),
            make_time(),
            "`horizon`: ends at 2026-11-23 06:00:00+00:00, not after its beginning",
        ),
    ],
)
def test_horizons_that_cannot_be(
    scenario: Scenario, time: pd.DatetimeIndex | None, message: str
) -> None:
    report = Report()
    assert len(find_steps(scenario, time, report)) == 0
    assert message in str(report.errors[0])


def test_sources_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep of many scenarios reads its network and forecast one time."""
    write_graph(make_town(), tmp_path / "town.gpkg")
    read: list[str] = []
    load = registry.load

    def counting(group: registry.Group, name: str) -> Any:
        read.append(name)
        return load(group, name)

    monkeypatch.setattr(registry, "load", counting)
    roads = Source(connector="graph", options={"path": str(tmp_path / "town.gpkg")})
    base = Scenario("x", baseline=Baseline(roads=roads, job=Path("job.toml")), timezone="UTC")
    asked: list[Path] = []

    def forecast_job(path: Path) -> Any:
        asked.append(path)
        return make_forecast()

    opener, report = Opener(forecast_job), Report()
    first, second = (opener.open(base.extend(name), report) for name in ("a", "b"))
    assert first.roads is second.roads
    assert first.forecast is second.forecast
    assert first.time.equals(make_time())
    assert (first.history, first.demand) == (None, None)
    assert (read, asked) == (["graph"], [Path("job.toml")])


def test_checks_need_no_forecast_of_a_job(tmp_path: Path) -> None:
    """A horizon is enough to see what would change."""
    write_graph(make_town(), tmp_path / "town.gpkg")
    roads = Source(connector="graph", options={"path": str(tmp_path / "town.gpkg")})
    scenario = Scenario(
        "x",
        baseline=Baseline(roads=roads, job=Path("job.toml")),
        horizon={"from": "2026-11-23T00:00Z", "to": "2026-11-23T01:00Z"},
        demand={"gravity": {}},
    )
    inputs = Opener(lambda path: pytest.fail(f"read {path}")).open(
        scenario, Report(), only_check=True
    )
    assert (inputs.forecast, inputs.demand, len(inputs.time)) == (None, None, 12)


def test_gravity_takes_observed_times_and_ids_of_zones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects routes and the names of zones; the fit stays with the demand, for the report."""
    zones = make_demand().zones[["geometry"]]
    zones.reset_index(names="Zone_ID").to_file(tmp_path / "zones.gpkg", layer="zones")
    asked: dict[str, Any] = {}

    def noting(roads: Any, **options: Any) -> Any:
        asked.update(options)
        return fit_gravity(roads, **options)

    monkeypatch.setattr("stgraph.scenario.gravity.fit_gravity", noting)
    source = DemandSource(gravity={"deterrence": 0.1}, zones=tmp_path / "zones.gpkg")
    town = make_town()
    demand = open_demand(source, town, counted=make_forecast())
    length = town.edges["length_m"].to_numpy()  # type: ignore[index]
    np.testing.assert_allclose(asked["minutes"], length / 40 * 0.06, rtol=1e-6)
    assert list(demand.zones.index) == ["A", "B", "C"]
    assert demand.provenance["source"] == "gravity"
    assert str(demand.provenance["fitted"]).startswith("13 links")


def test_zones_of_a_file(tmp_path: Path) -> None:
    """Without ids they are numbered from 1; what is no layer is said by its name."""
    zones = make_demand().zones[["geometry"]].reset_index(drop=True)
    zones.to_file(tmp_path / "a.gpkg", layer="areas")
    assert list(read_zones(tmp_path / "a.gpkg").index) == [1, 2, 3]
    for name, text in (("b.gpkg", "no database"), ("c.csv", "zone_id,homes\n1,2\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=f"`demand.zones`: .*{name}"):
            read_zones(tmp_path / name)


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scenario 'x' names no `baseline.roads`"):
        open_roads(Scenario("x"))
    write_graph(make_town().replace(edges=None), tmp_path / "bare.gpkg")
    bare = Source(connector="graph", options={"path": str(tmp_path / "bare.gpkg")})
    with pytest.raises(DataError, match="reads a graph without `segment_id` of its edges"):
        open_roads(Scenario("x", baseline=Baseline(roads=bare)))
    with pytest.raises(DataError, match=r"`demand\.gravity` is fitted to flows, and there"):
        open_demand(DemandSource(gravity={}), make_town())
