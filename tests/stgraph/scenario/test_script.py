"""Scenarios as calls: what they hold, and what they refuse, all of it at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from stgraph.errors import ConfigError
from stgraph.scenario.operations import KINDS, AddDemand, Close, SetCapacity, SetSpeed
from stgraph.scenario.script import Scenario
from stgraph.scenario.target import Near, Target
from stgraph.scenario.window import Window

EMPTY = Scenario("x")


def test_calls_make_operations_in_order() -> None:
    """The example of the documentation, written out."""
    scenario = (
        Scenario("bridge works", timezone="Europe/Berlin")
        .close(name="A Avenue Bridge", daily="7:00-19:00", days=["mon-fri"], allow="bus")
        .set_speed(polygon="centre.geojson", road_class=["residential", "tertiary"], kmh=30)
    )
    assert scenario.operations == (
        Close(
            target=Target(name="A Avenue Bridge"),
            window=Window(daily="07:00-19:00", days=("mon-fri",)),
            allow=("bus",),
        ),
        SetSpeed(
            target=Target(polygon=Path("centre.geojson"), road_class=("residential", "tertiary")),
            kmh=30.0,
        ),
    )
    assert (scenario.name, scenario.method, scenario.seed) == ("bridge works", "auto", 0)


def test_a_call_changes_nothing() -> None:
    """A scenario is frozen: each call returns a new one."""
    closed = EMPTY.close(edges=3)
    assert EMPTY.operations == ()
    assert closed.operations[0] == Close(target=Target(edges=(3,)))
    with pytest.raises(ValueError, match="frozen"):
        closed.name = "y"


def test_every_operation_has_a_call() -> None:
    """The names in a file are those of the methods."""
    assert all(callable(getattr(Scenario, kind)) for kind in KINDS)


def test_keys_and_objects_are_the_same() -> None:
    """Fields of target and window may be given one by one or as objects or tables."""
    one = EMPTY.close(near=(10, 50), from_="2026-11-23", to=dt.datetime(2026, 11, 24))  # noqa: DTZ001
    window = Window.model_validate({"from": "2026-11-23T00:00", "to": "2026-11-24"})
    two = EMPTY.close(target=Target(near=Near(lon=10, lat=50)), window=window)
    three = EMPTY.close(
        target={"near": {"lon": 10, "lat": 50}},
        window={"from": "2026-11-23 00:00", "to": "2026-11-24"},
    )
    assert one == two == three


def test_values_of_other_libraries_are_taken() -> None:
    """Arrays, paths and geometries need no conversion."""
    line = shapely.LineString([(10, 50), (10.5, 50.25)])
    scenario = (
        EMPTY.set_capacity(edges=np.array([4, 5]), factor=np.float64(0.5))
        .add_road(id="new", geometry=line, kmh=50)
        .add_road(id="new 2", geometry=[(10, 50), (10.5, 50.25)], kmh=50)
        .close(name="A", within=Path("city.gpkg"))
    )
    assert scenario.operations[0] == SetCapacity(target=Target(edges=(4, 5)), factor=0.5)
    assert getattr(scenario.operations[1], "geometry") == "LINESTRING (10 50, 10.5 50.25)"  # noqa: B009
    assert getattr(scenario.operations[2], "geometry") == "LINESTRING (10 50, 10.5 50.25)"  # noqa: B009


def test_an_event() -> None:
    """Hours alone are a window, ids may be numbers."""
    scenario = EMPTY.add_demand(
        at={"node": 131}, trips=6000, arrive="17:30-19:00", leave="21:00-22:00"
    )
    (event,) = scenario.operations
    assert isinstance(event, AddDemand)
    assert (event.at.node, event.arrive) == ("131", Window(daily="17:30-19:00"))


def test_extend() -> None:
    """A scenario that goes on where another ends says on which it is based."""
    base = Scenario("base", timezone="Europe/Berlin", seed=3).close(edges=3)
    more = base.extend("more", method="diversion").close(edges=4)
    assert more.operations[:1] == base.operations
    assert (more.name, more.based_on, more.seed, more.method) == ("more", "base", 3, "diversion")
    assert base.method == "auto"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_misspelt_keywords_are_type_errors(kind: str) -> None:
    """Nothing is passed on unseen."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'kph'"):
        getattr(EMPTY, kind)(kph=30)


LINE = "LINESTRING (10 50, 10.1 50)"
BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: EMPTY.close(), r"operation 1 \(close\) `target`: names no road; give one of `edges`"),
    (lambda: EMPTY.close(edges=[]), "`edges`: cannot be .*at least one"),
    (lambda: EMPTY.close(edges=["a"]), r"`edges`: cannot be \['a'\]; give a valid integer"),  # type: ignore[list-item]
    (lambda: EMPTY.close(edges=[1.5]), r"`edges`: cannot be \[1.5\]; give a valid integer"),  # type: ignore[list-item]
    (lambda: EMPTY.close(name=" "), "`name`: cannot be ' '; give a text that is not empty"),
    (lambda: EMPTY.close(edges=1, osmid=2), "names roads by `edges` and by `osmid`"),
    (lambda: EMPTY.close(near=(10, 50), between=("a", "b")), "by `near` and by `between`"),
    (lambda: EMPTY.close(between=("a", "a")), "`between`: .*two different junctions"),
    (lambda: EMPTY.close(between=("a",)), "`between`: cannot be"),
    (lambda: EMPTY.close(near=(200, 50)), "`near.lon`: .*give a number of at most 180"),
    (lambda: EMPTY.close(near=(10, 50, 3)), "`near`: .*two numbers: longitude and latitude"),  # type: ignore[arg-type]
    (lambda: EMPTY.close(near={"lon": 10, "lat": 50, "max_m": 0}), "`near.max_m`: .*above 0"),
    (lambda: EMPTY.close(near={"lon": 10}), "`near.lat`: is missing; add `lat`"),
    (lambda: EMPTY.close(polygon="POINT (1 2)"), "WKT Polygon or MultiPolygon in degrees, not a P"),
    (lambda: EMPTY.close(polygon="POLYGON ((0 0, 1 1"), "`polygon`: .*give a WKT Polygon"),
    (lambda: EMPTY.close(polygon="POLYGON EMPTY"), "not a Polygon that is empty"),
    (
        lambda: EMPTY.close(polygon="POLYGON ((0 0, 1 1, 0 1, 1 0, 0 0))"),
        "a valid polygon .Self-intersection",
    ),
    (
        lambda: EMPTY.close(polygon="POLYGON ((400000 0, 500000 1, 500000 0, 400000 0))"),
        "longitude .-180..180. before latitude",
    ),
    (lambda: EMPTY.close(target={"naem": "x"}), "`target.naem`: is an unknown key .*'name' or"),
    (
        lambda: EMPTY.close(target=Target(name="A"), edges=[3]),
        "`target`: is given, and so is",
    ),
    (lambda: EMPTY.close(name="A", direction="fwd"), "`direction`: cannot be 'fwd'; .*'forward'"),  # type: ignore[arg-type]
    (lambda: EMPTY.set_speed(edges=1), "has no `kmh` or `factor`; give exactly one of them"),
    (lambda: EMPTY.set_speed(edges=1, kmh=30, factor=0.5), "has `kmh` and `factor`"),
    (lambda: EMPTY.set_speed(edges=1, kmh=0), "a speed above 0 km/h; to let nobody .* use close"),
    (lambda: EMPTY.set_speed(edges=1, kmh=-30), "`kmh`: cannot be -30"),
    (lambda: EMPTY.set_speed(edges=1, kmh=131), "cannot be 131; give a speed of at most 130 km/h"),
    (lambda: EMPTY.set_speed(edges=1, kmh=float("nan")), "cannot be nan; give a finite number"),
    (lambda: EMPTY.set_speed(edges=1, kmh="30 mph"), "without unit: 48.28"),  # type: ignore[arg-type]
    (lambda: EMPTY.set_speed(edges=1, kmh="fast"), "'fast'; give a number in km/h without unit$"),  # type: ignore[arg-type]
    (lambda: EMPTY.set_speed(edges=1, kmh=True), "`kmh`: cannot be True; give a valid number"),
    (lambda: EMPTY.set_speed(edges=1, factor="50 %"), "a factor without unit, such as 0.5"),  # type: ignore[arg-type]
    (lambda: EMPTY.set_speed(edges=1, factor=50), "a factor of at most 10: 0.5 is half of it"),
    (
        lambda: EMPTY.set_lanes(edges=1, lanes=0),
        "at least 1 lane; to let nobody through, use close",
    ),
    (lambda: EMPTY.set_lanes(edges=1, lanes=13), "at most 12 lanes"),
    (lambda: EMPTY.set_lanes(edges=1, lanes=1.5), "`lanes`: cannot be 1.5"),  # type: ignore[arg-type]
    (lambda: EMPTY.set_capacity(edges=1, factor=0), "a factor above 0; to let nobody .* use close"),
    (lambda: EMPTY.set_capacity(edges=1, vph=0), "a capacity above 0 .* use close"),
    (lambda: EMPTY.set_capacity(edges=1, vph=99999), "2400 vehicles per hour and lane, 28800 for"),
    (lambda: EMPTY.set_capacity(edges=1, vph="900/h"), "a number in vehicles per hour without"),  # type: ignore[arg-type]
    (lambda: EMPTY.set_capacity(edges=1), "has no `vph` or `factor`"),
    (lambda: EMPTY.roadworks(edges=1), "changes nothing; give `lanes_lost`, `factor` or `kmh`"),
    (lambda: EMPTY.roadworks(edges=1, lanes_lost=1, factor=0.5), "has `lanes_lost` and `factor`"),
    (
        lambda: EMPTY.roadworks(edges=1, factor=2),
        "`factor`: cannot be 2; give .* at most 1",
    ),
    (lambda: EMPTY.add_road(id="a", geometry="POINT (1 2)", kmh=50), "a WKT LineString in degrees"),
    (lambda: EMPTY.add_road(id="a", geometry=[(1, 2)], kmh=50), "`geometry`: .*a line as WKT or"),
    (lambda: EMPTY.add_road(id="a", geometry="a road", kmh=50), "`geometry`: cannot be 'a road'"),
    (
        lambda: EMPTY.add_road(id="a", geometry="LINESTRING (1 2, 1 2)", kmh=50),
        "two different p",
    ),
    (lambda: EMPTY.add_road(id="", geometry=LINE, kmh=50), "`id`: .*a text that is not empty"),
    (lambda: EMPTY.add_road(id="a", geometry=LINE, kmh=0), "`kmh`: cannot be 0"),
    (
        lambda: EMPTY.add_road(id="a", geometry=LINE, kmh=50, lanes=1, capacity_vph=2500),
        "has `capacity_vph` 2500 on 1 lane.s.; give at most 2400 a lane, 2400 here",
    ),
    (lambda: EMPTY.add_road(id="a", geometry=LINE, kmh=50, snap_m=0), "`snap_m`: .*above 0"),
    (lambda: EMPTY.ban_turn(from_={}, to={"name": "A"}), "`from`: names no road"),
    (lambda: EMPTY.add_demand(at={}, trips=5, arrive="7:00-8:00"), "`at`: names no place; give"),
    (
        lambda: EMPTY.add_demand(at={"zone": "a", "node": "b"}, trips=5, arrive="7:00-8:00"),
        "`at`: names more than one place",
    ),
    (
        lambda: EMPTY.add_demand(at={"lon": 10}, trips=5, arrive="7:00-8:00"),
        "`at`: has one coordinate; give `lon` and `lat`",
    ),
    (lambda: EMPTY.add_demand(at={"zone": "a"}, trips=5), "has no time; give `arrive` or `leave`"),
    (
        lambda: EMPTY.add_demand(at={"zone": "a"}, trips=0, arrive="7:00-8:00"),
        "`trips`: cannot be 0; give a number above 0",
    ),
    (lambda: EMPTY.add_demand(at={"zone": "a"}, trips=1, arrive="7"), "`arrive.daily`: .*hours su"),
    (lambda: EMPTY.scale_demand(factor=-1), "`factor`: cannot be -1; give a number of at least 0"),
    (lambda: EMPTY.scale_demand(factor=2, from_zone=[]), "`from_zone`: .*at least one zone"),
    (lambda: EMPTY.set_weather(feature="rain", value=float("inf")), "`value`: .*a finite number"),
    (lambda: EMPTY.close(name="A", daily="07:00"), "`daily`: .*hours such as"),
    (lambda: EMPTY.close(name="A", daily="07:00-25:00"), "hours from 00:00 to 24:00"),
    (lambda: EMPTY.close(name="A", daily="07:00-07:00"), "two different times; without `daily`"),
    (lambda: EMPTY.close(name="A", days=["mon-fry"]), "there is no 'fry' .did you mean 'friday' o"),
    (lambda: EMPTY.close(name="A", days=[]), "`days`: .*at least one day"),
    (lambda: EMPTY.close(name="A", from_="soon"), "`from`: .*a date and time, such as 2026"),
    (lambda: EMPTY.close(name="A", from_=5), "`from`: cannot be 5; give a date"),  # type: ignore[arg-type]
    (
        lambda: EMPTY.close(name="A", from_="2026-01-02", to="2026-01-01"),
        "`window`: ends at 2026-01-01 00:00:00, not after its beginning",
    ),
    (lambda: EMPTY.close(name="A", window={}), "`window`: says no time; give `from` and `to`"),
    (lambda: EMPTY.close(name="A", window={"form": "2026-01-01"}), "did you mean 'from'"),
    (lambda: Scenario(" "), "`name`: cannot be ' '"),
    (lambda: Scenario("x", timezone="Berlin"), "`timezone`: cannot be 'Berlin'; give the IANA"),
    (lambda: Scenario("x", method="ai"), "`method`: cannot be 'ai'; give 'auto', 'assignment'"),  # type: ignore[arg-type]
    (lambda: Scenario("x", seed=-1), "`seed`: cannot be -1; give a number of at least 0"),
    (lambda: Scenario("x", version=2), "`version`: cannot be 2; give 1"),  # type: ignore[arg-type]
    (
        lambda: Scenario("x", horizon={"from": "2026-01-02", "to": "2026-01-01"}),
        "`horizon`: ends at 2026-01-01 00:00:00, not after its beginning",
    ),
    (lambda: Scenario("x", horizon={"from": "2026-01-02"}), "`horizon.to`: is missing"),
    (lambda: Scenario("x", demand={}), "`demand`: has no demand; give `od` or `gravity`"),
    (lambda: Scenario("x", outputs={"report": "a.pdf"}), "`outputs.report`: .*ends in .html"),
    (lambda: Scenario("x", outputs={"topn": 3}), "`outputs.topn`: is an unknown key .*'top_n'"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    """Each says which operation and field, what was given, and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        call()


def test_all_errors_of_a_call_at_once() -> None:
    """Nobody has to correct one error to see the next."""
    with pytest.raises(ConfigError) as caught:
        EMPTY.set_speed(edges=["a"], kmh=0, daily="7", window=None, note=3)  # type: ignore[arg-type,list-item]
    lines = str(caught.value).splitlines()
    assert lines[0] == "scenario 'x' cannot do this: 4 problem(s)"
    fields = [line.split("`")[1] for line in lines[1:]]
    assert sorted(fields) == ["daily", "edges", "kmh", "note"]


def test_operations_are_numbered_from_one() -> None:
    with pytest.raises(ConfigError, match=r"operation 3 \(set_lanes\) `lanes`"):
        EMPTY.close(edges=1).close(edges=2).set_lanes(edges=3, lanes=0)


def test_removing_is_for_good() -> None:
    """A time belongs to a closure."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'daily'"):
        EMPTY.remove_road(edges=3, daily="07:00-19:00")  # type: ignore[call-arg]
