"""Events and scaled demand, hour by hour: where trips go, and that none is lost."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph.scenario.demand import Demand
from stgraph.scenario.demand_changes import HourlyDemand, apply_demand
from stgraph.scenario.operations import AddDemand, ScaleDemand
from stgraph.scenario.week import week_periods

ZONE = "Europe/Berlin"
DAY = pd.date_range("2026-11-22 23:00", periods=288, freq="5min", tz="UTC")  # Monday in Berlin


def a_demand(**columns: Any) -> Demand:
    """Three zones; an hour h of a day has h times the trips of a fixed matrix."""
    zones = gpd.GeoDataFrame(
        {"junction": ["n0", "n1", "n2"], **columns},
        index=pd.Index(["A", "B", "C"], name="zone_id"),
        geometry=gpd.points_from_xy([10.0, 10.01, 10.02], [50.0] * 3),
        crs=4326,
    )
    matrix = np.array([[0.0, 10, 20], [30, 0, 40], [0, 50, 0]])
    trips = matrix * np.arange(24)[:, None, None]
    return Demand(zones, np.arange(3), trips, week_periods("all"))


def some_roads() -> STGraph:
    """Four junctions in a row, n0 to n3."""
    nodes = gpd.GeoDataFrame(
        {"kind": "junction"},
        index=["n0", "n1", "n2", "n3"],
        geometry=gpd.points_from_xy([10.0, 10.01, 10.02, 10.03], [50.0] * 4),
        crs=4326,
    )
    return STGraph(nodes, np.array([[0, 1, 2, 3, 2, 1], [1, 2, 3, 2, 1, 0]]))


def apply(
    *operations: AddDemand | ScaleDemand,
    time: pd.DatetimeIndex = DAY,
    demand: Demand | None = None,
    roads: STGraph | None = None,
) -> tuple[HourlyDemand, Report]:
    """Apply operations and return what is found, too."""
    report = Report()
    found = apply_demand(demand or a_demand(), operations, time, ZONE, report, roads=roads)
    return found, report


def event(**given: Any) -> AddDemand:
    return AddDemand.model_validate({"at": {"zone": "B"}, "trips": 600.0, **given})


def more(found: HourlyDemand) -> np.ndarray:
    """Return the trips that a scenario has more, summed over the horizon."""
    return np.tensordot(found.hours, found.scenario - found.baseline, axes=(0, 0))


def test_without_operations_nothing_changes() -> None:
    """Protects the baseline: the demand of every local hour, exactly."""
    found, report = apply()
    assert not report.findings
    assert not found.is_changed.any()
    demand = a_demand()
    for step in (0, 11, 12, 100, 287):  # five minutes each, from midnight
        np.testing.assert_array_equal(
            found.baseline[found.period_of_step[step]], demand.at(0, step // 12)
        )
    assert found.hours.sum() == pytest.approx(24)


def test_an_event_fills_its_window() -> None:
    """Protects the spread: 600 trips in 90 minutes, 200 in the half hour and 400 in the hour."""
    found, report = apply(event(arrive="17:30-19:00"))
    assert not report.findings
    gain = (found.scenario - found.baseline)[found.period_of_step[::12]]
    np.testing.assert_allclose(gain.sum(axis=(1, 2))[[16, 17, 18, 19]], [0, 200, 400, 0])
    # from A and C as trips begin there: 30 and 50 times the hour
    np.testing.assert_allclose(gain[18, :, 1], [400 * 30 / 80, 0, 400 * 50 / 80])


def test_those_who_come_leave_again() -> None:
    """Protects the way back: as trips end now, and as many as came."""
    found, _ = apply(event(arrive="18:00-19:00", leave="22:00-23:00"))
    total = more(found)
    assert total[:, 1].sum() == pytest.approx(600)
    assert total[1].sum() == pytest.approx(600)
    np.testing.assert_allclose(total[1], [600 * 30 / 90, 0, 600 * 60 / 90])


def test_origins_by_a_column() -> None:
    """Protects events whose visitors come from where people live."""
    demand = a_demand(homes=[3.0, 99.0, 1.0])
    found, _ = apply(event(arrive="18:00-20:00", origins="homes"), demand=demand)
    np.testing.assert_allclose(more(found)[:, 1], [450, 0, 150])


def test_an_event_every_day() -> None:
    """Protects daily windows: the trips of each day; over midnight they are not cut."""
    time = pd.date_range("2026-11-22 23:00", periods=48, freq="h", tz="UTC")
    found, report = apply(event(arrive="23:00-01:00"), time=time)
    # the night before, the one between and the one after: half, whole and half
    assert more(found).sum() == pytest.approx(300 + 600 + 300)
    assert "600 of the trips are outside the horizon" in str(report)


def test_an_event_at_a_junction_that_is_no_zone() -> None:
    """Protects stadiums: trips go to their junction, not to the middle of some zone."""
    operation = event(at={"node": "n3"}, arrive="18:00-19:00")
    found, report = apply(operation, roads=some_roads())
    assert not report.findings
    assert found.junctions.tolist() == [0, 1, 2, 3]
    assert list(found.zones.index) == ["A", "B", "C", "node n3"]
    assert found.zones["junction"].tolist()[-1] == "n3"
    assert found.zones.crs == 4326
    assert more(found)[:3, 3].sum() == pytest.approx(600)
    assert not found.baseline[:, 3].any()


def test_an_event_at_a_junction_of_a_zone_and_at_a_place() -> None:
    """Protects the two other ways to name a place."""
    for at in ({"node": "n2"}, {"lon": 10.0195, "lat": 50.0001}):
        found, report = apply(event(at=at, arrive="18:00-19:00"))
        assert not report.findings
        assert more(found)[:, 2].sum() == pytest.approx(600)


def test_scaling_zones_in_a_window() -> None:
    """Protects factors: hours that are half covered have half of the change."""
    scale = ScaleDemand.model_validate(
        {"factor": 2.0, "from_zone": "A", "window": {"daily": "07:30-09:00"}}
    )
    found, report = apply(scale)
    assert not report.findings
    ratio = (found.scenario.sum(axis=2)[:, 0] / np.maximum(found.baseline.sum(axis=2)[:, 0], 1e-9))[
        found.period_of_step[::12]
    ]
    np.testing.assert_allclose(ratio[[6, 7, 8, 9]], [1, 1.5, 2, 1])
    np.testing.assert_array_equal(found.scenario[:, 1:], found.baseline[:, 1:])


def test_a_factor_of_0_and_its_way_back() -> None:
    """Protects taking trips away: none is negative, other pairs are as before."""
    scale = ScaleDemand.model_validate({"factor": 0.0, "from_zone": "any", "to_zone": ["A", "C"]})
    found, _ = apply(scale)
    assert not found.scenario[:, :, [0, 2]].any()
    np.testing.assert_array_equal(found.scenario[:, :, 1], found.baseline[:, :, 1])


def test_operations_go_one_after_the_other() -> None:
    """Protects the order: what was added is scaled, what is added later is not."""
    add, scale = event(arrive="18:00-19:00"), ScaleDemand(factor=2.0)
    plain = more(apply(scale)[0]).sum()
    assert more(apply(add, scale)[0]).sum() == pytest.approx(plain + 1200)
    assert more(apply(scale, add)[0]).sum() == pytest.approx(plain + 600)


def test_clocks_that_go_back_repeat_an_hour() -> None:
    """Protects a day of 25 hours: both have the trips of that hour, an event has all of its own."""
    time = pd.date_range("2026-10-24 22:00", periods=300, freq="5min", tz="UTC")
    found, report = apply(event(arrive={"daily": "02:00-03:00"}), time=time)
    assert more(found).sum() == pytest.approx(600)
    gain = (found.scenario - found.baseline).sum(axis=(1, 2))[found.period_of_step[::12]]
    np.testing.assert_allclose(gain[[1, 2, 3, 4]], [0, 300, 300, 0])
    assert not report.errors


@pytest.mark.parametrize("seed", range(6))
def test_no_trip_is_lost(seed: int) -> None:
    """Property: an event adds exactly its trips, whatever the window, the step and the demand."""
    rng = np.random.default_rng(seed)
    minutes = int(rng.choice([5, 10, 15, 20, 30, 60]))
    time = pd.date_range(
        "2026-11-22 23:00", periods=1440 // minutes, freq=f"{minutes}min", tz="UTC"
    )
    first, length = rng.integers(0, 1000), rng.integers(1, 400)
    start = pd.Timestamp("2026-11-23") + pd.Timedelta(minutes=int(first))
    window = {"from": start, "to": start + pd.Timedelta(minutes=int(length))}
    found, report = apply(event(trips=777.0, arrive=window), time=time)
    assert more(found)[:, 1].sum() == pytest.approx(777.0, rel=1e-9)
    assert more(found).sum() == pytest.approx(777.0, rel=1e-9)
    assert not report.errors
    assert (found.scenario >= found.baseline).all()


BAD: list[tuple[AddDemand | ScaleDemand, str]] = [
    (event(at={"zone": "Bb"}, arrive="18:00-19:00"), r"no zone 'Bb' \(did you mean 'B'"),
    (event(at={"node": "m1"}, arrive="18:00-19:00"), "no zone has the junction 'm1'"),
    (event(arrive="18:00-19:00", origins="home"), r"no column 'home' \(did you mean 'homes'"),
    (event(arrive="18:00-19:00", origins="none"), "has weights below 0, or none above"),
    (event(arrive="18:00-19:00", origins="minus"), "has weights below 0"),
    (event(arrive="18:00-19:00", origins="only_b"), "no other zone has trips or weights"),
    (
        event(arrive={"from": "2026-12-01 18:00", "to": "2026-12-01 19:00"}),
        "has no trips in the horizon; choose a time from 2026-11-23 00:00",
    ),
    (event(arrive={"daily": "18:00-19:00", "days": ["sun"]}), "has no trips in the horizon"),
    (ScaleDemand(factor=2.0, from_zone="D"), "no zone 'D'; there are 3, such as A, B, C"),
    (ScaleDemand(factor=2.0, to_zone=("A", "X")), "no zone 'X'"),
    (event(at={"lon": 50.0, "lat": 10.0}, arrive="18:00-19:00"), "km from the nearest zone, [ABC]"),
    (
        ScaleDemand.model_validate({"factor": 2, "window": {"days": ["sat"]}}),
        "is outside the horizon",
    ),
]


@pytest.mark.parametrize(("operation", "match"), BAD)
def test_operations_that_cannot_be(operation: AddDemand | ScaleDemand, match: str) -> None:
    """Each is an error with the number of the operation; trips stay as they are."""
    demand = a_demand(
        homes=[1.0, 2.0, 3.0], none=[0.0] * 3, minus=[-1.0, 1, 1], only_b=[0.0, 1.0, 0.0]
    )
    found, report = apply(operation, demand=demand)
    assert len(report.errors) == 1
    assert report.errors[0].where.startswith(f"operation 1 ({operation.op})")
    with pytest.raises(AssertionError, match=match):
        raise AssertionError(str(report.errors[0]))
    np.testing.assert_array_equal(found.scenario, found.baseline)


@pytest.mark.parametrize(
    "operation",
    [
        ScaleDemand(factor=2.0, from_zone="C", to_zone="A"),
        ScaleDemand.model_validate({"factor": 2, "window": {"daily": "00:00-01:00"}}),
    ],
)
def test_nothing_to_scale_is_a_warning(operation: ScaleDemand) -> None:
    """It does no harm, and a check of the scenario says the same."""
    found, report = apply(operation)
    assert not report.errors
    assert "operation 1 (scale_demand): there are no trips to scale" in str(report.warnings[0])
    assert not found.is_changed.any()


def test_all_errors_at_once_with_their_numbers() -> None:
    """Protects users from fixing one mistake after the other."""
    report = Report()
    operations = [
        ScaleDemand(factor=2, from_zone="X"),
        event(at={"zone": "Y"}, arrive="18:00-19:00"),
    ]
    apply_demand(a_demand(), operations, DAY, ZONE, report, numbers=[3, 7])
    assert [one.where for one in report.errors] == [
        "operation 3 (scale_demand), `from_zone`", "operation 7 (add_demand), `at.zone`",
    ]  # fmt: skip


def test_an_unknown_junction_of_the_roads() -> None:
    """Protects against a junction of another map."""
    found, report = apply(event(at={"node": "n9"}, arrive="18:00-19:00"), roads=some_roads())
    assert "no junction 'n9'" in str(report.errors[0])
    assert not found.is_changed.any()


def test_places_need_zones_with_places() -> None:
    """Protects zones of a TNTP network, which have none."""
    demand = a_demand()
    bare = demand.zones.set_geometry(gpd.GeoSeries([shapely.Point()] * 3, index=["A", "B", "C"]))
    demand = Demand(bare, demand.junctions, demand.trips, demand.period_of_hour)
    _, report = apply(event(at={"lon": 1, "lat": 2}, arrive="18:00-19:00"), demand=demand)
    assert "the zones have no places" in str(report.errors[0])
