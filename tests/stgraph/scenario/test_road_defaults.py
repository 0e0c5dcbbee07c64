"""Class, lanes, speed and capacity of roads that do not say them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stgraph.report import Report
from stgraph.scenario.road_defaults import default_capacity, fastest_kmh, fill_roads


def test_what_is_given_stays() -> None:
    table = pd.DataFrame(
        {"highway": ["primary"], "lanes": [3], "speed_kmh": [60], "capacity_vph": [2500]}
    )
    report = Report()
    values = fill_roads(table, report=report)
    assert (values.lanes[0], values.speed_kmh[0], values.capacity_vph[0]) == (3, 60, 2500)
    assert not len(report)


def test_gaps_are_filled_by_class_and_told() -> None:
    """Protects the tables, and that guesses are said to be guesses."""
    table = pd.DataFrame(
        {
            "highway": ["motorway", "residential;service", "nobody_knows", None],
            "lanes": [np.nan, 2.0, np.nan, 0.0],
            "speed_kmh": [np.nan, 30.0, np.nan, 40.0],
        }
    )
    report = Report()
    values = fill_roads(table, report=report)
    assert values.lanes.tolist() == [2, 2, 1, 1]
    assert values.capacity_vph.tolist() == [4000, 1200, 800, 800]
    assert values.speed_kmh.tolist() == [50, 30, 50, 40]
    text = str(report)
    assert "lanes of 3 of 4 segments: guessed" in text
    assert "capacity of 4 of 4 segments: guessed" in text


def test_a_class_lends_its_median() -> None:
    """Protects local knowledge over tables: 20 segments of a class are enough."""
    table = pd.DataFrame(
        {
            "road_class": ["local"] * 21 + ["ring"],
            "lanes": [1.0] * 22,
            "capacity_vph": [450.0] * 20 + [np.nan, np.nan],
        }
    )
    values = fill_roads(table, report=Report())
    assert values.capacity_vph[-2:].tolist() == [450, 1500]


def test_lanes_fit_the_capacity() -> None:
    table = pd.DataFrame({"highway": ["primary"] * 3, "capacity_vph": [1000.0, 2900.0, 4600.0]})
    assert fill_roads(table, report=Report()).lanes.tolist() == [1, 2, 3]


def test_capacities_of_a_day_are_told() -> None:
    """Protects networks such as Sioux Falls, whose numbers are not of an hour."""
    table = pd.DataFrame({"link_type": [1, 1], "capacity_vph": [40_000.0, 9000.0]})
    report = Report()
    assert fill_roads(table, report=report).lanes.tolist() == [12, 5]
    assert "1 segments have a capacity of up to 40,000 vehicles per hour" in str(report)


def test_capacity_per_lane_in_gmns_and_per_direction_elsewhere() -> None:
    """Protects units of other specifications."""
    table = pd.DataFrame({"lanes": [2.0], "capacity": [900.0]})
    report = Report()
    gmns = fill_roads(table, provenance={"connector": "gmns"}, report=report)
    tntp = fill_roads(table, provenance={"connector": "tntp"}, report=report)
    assert (gmns.capacity_vph[0], tntp.capacity_vph[0]) == (1800, 900)
    assert "vehicles per hour of a lane" in str(report)
    assert "vehicles per hour of a direction" in str(report)


def test_tables() -> None:
    assert default_capacity("secondary", 2) == 2000
    assert default_capacity("?", 1) == 800
    assert fastest_kmh("residential;tertiary") == 50
    assert fastest_kmh("motorway") == 130
