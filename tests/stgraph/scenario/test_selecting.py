"""Which segments a target names."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_town import EAST, LAT, LON, STEP, make_town, place

from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph.scenario.selecting import select
from stgraph.scenario.streets import Streets, read_streets
from stgraph.scenario.target import Target
from stgraph.scenario.target_fields import three_nearest


def streets(roads: STGraph | None = None) -> Streets:
    report = Report()
    found = read_streets(make_town() if roads is None else roads, report)
    assert found is not None, str(report)
    return found


def chosen(of: Streets | None = None, *, direction: str = "forward", **target: Any) -> list[int]:
    of = streets() if of is None else of
    report = Report()
    rows = select(
        Target(**target),
        of,
        report,
        "operation 1 (close)",
        direction=direction,
        force=True,  # type: ignore[arg-type]
    )
    assert not report.errors, str(report)
    return of.segment_id[rows].tolist()


BOX = f"POLYGON (({LON - 1} {LAT - 1}, {LON + 1} {LAT - 1}, {LON + 1} {{}}, {LON - 1} {{}}, \
{LON - 1} {LAT - 1}))"


@pytest.mark.parametrize(
    ("target", "ids"),
    [
        ({"edges": [13, 10]}, [10, 13]),
        ({"osmid": [1005]}, [10, 11]),
        ({"name": "  SOUTH  street "}, [10, 11, 12, 13]),
        ({"name": "east road"}, [EAST]),
        ({"road_class": ["Primary", "residential"]}, [10, 11, 12, 13, 14, 15, 16, 17]),
        ({"polygon": BOX.format(LAT + STEP / 4, LAT + STEP / 4)}, [10, 11, 12, 13]),
        (
            {"polygon": BOX.format(LAT + STEP * 0.51, LAT + STEP * 0.51)},
            [10, 11, 12, 13, 18, 19, 20, 21, EAST],
        ),
        ({"near": {"lon": LON + STEP / 2, "lat": LAT - 0.0002}}, [10, 11]),
        ({"near": {"lon": LON + 2 * STEP, "lat": LAT + STEP / 2}}, [EAST]),
        (
            {"near": {"lon": LON, "lat": LAT + STEP / 2, "max_m": 500}, "name": "Mid Road"},
            [20, 21],
        ),
        ({"between": ("1", "3")}, [10, 12]),
        ({"between": ("3", "1")}, [11, 13]),
        ({"between": ("4", "3")}, [10, 12, 19]),
        ({"where": "lanes == 2 and speed_kmh >= 50"}, [10, 11, 12, 13]),
        ({"where": "oneway"}, [EAST]),
        ({"name": "South Street", "where": "segment_id in (10, 12, 14)"}, [10, 12]),
        (
            {"road_class": "secondary", "within": BOX.format(LAT + 1, LAT + 1)},
            [18, 19, 20, 21, EAST],
        ),
    ],
)
def test_targets(target: dict[str, Any], ids: list[int]) -> None:
    """Protects every kind of target, alone and with others."""
    assert chosen(**target) == ids


def test_polygons_in_degrees_on_roads_in_metres() -> None:
    """Protects long sides: a parallel of latitude is no straight line in other systems."""
    town = make_town()
    assert isinstance(town.edges, gpd.GeoDataFrame)
    metres = town.replace(nodes=town.nodes.to_crs(25832), edges=town.edges.to_crs(25832))
    assert chosen(streets(metres), polygon=BOX.format(LAT + 0.0005, LAT + 0.0005)) == [
        10, 11, 12, 13,
    ]  # fmt: skip


def test_directions() -> None:
    """Protects which way is meant."""
    assert chosen(edges=[10, EAST], direction="both") == [10, 11, EAST]
    assert chosen(edges=[10, EAST], direction="back") == [11]
    assert chosen(name="Mid Road", direction="back") == [20, 21]


def test_names_that_are_lists_of_names() -> None:
    """Protects segments that were joined of several ways."""
    town = make_town()
    assert isinstance(town.edges, gpd.GeoDataFrame)
    names = town.edges["name"].tolist()
    names[0] = "South Street;Market Place"
    of = streets(make_town(name=names, osmid=["1;2", *["3"] * 12]))
    assert chosen(of, name="market place") == [10]
    assert chosen(of, name="south street") == [10, 11, 12, 13]
    assert chosen(of, osmid=[2]) == [10]


def test_classes_that_are_lists_of_classes() -> None:
    kinds = ["primary;residential", *["primary"] * 12]
    assert chosen(streets(make_town(highway=kinds)), road_class="residential") == [10]


def test_separate_streets_of_one_name_are_candidates() -> None:
    """Protects towns with several high streets: each is told, with what it crosses."""
    names = ["High Street", "High Street", *["x"] * 9, "High Street", "y"]
    town = make_town(name=names)
    assert isinstance(town.edges, gpd.GeoDataFrame)
    moved = town.edges.geometry.to_numpy().copy()
    moved[11] = shapely.LineString([(LON + 0.1, LAT), (LON + 0.101, LAT)])
    of = streets(town.replace(edges=town.edges.set_geometry(gpd.GeoSeries(moved, crs=4326))))
    report = Report()
    rows = select(Target(name="high street"), of, report, "operation 1 (close)")
    assert not len(rows)
    text = str(report)
    assert "2 separate streets are called 'high street'" in text
    assert "2 segments (430 m) at 10.00150 50.00000 near x" in text
    inside = BOX.format(LAT + 1, LAT + 1).replace(str(LON + 1), str(LON + 0.05))
    assert chosen(of, name="high street", within=inside) == [10, 11]


def test_the_two_ways_may_be_drawn_apart() -> None:
    """Protects dual carriageways: the only way back, as long and of the same name."""
    town = make_town()
    assert isinstance(town.edges, gpd.GeoDataFrame)
    lines = town.edges.geometry.to_numpy().copy()
    lines[1] = shapely.LineString([place(2), (LON + STEP / 2, LAT + 0.0002), place(1)])
    of = streets(town.replace(edges=town.edges.set_geometry(gpd.GeoSeries(lines, crs=4326))))
    assert of.twin[:2].tolist() == [1, 0]
    names = [str(number) for number in range(13)]
    of = streets(make_town(name=names).replace(edges=of.roads.edges.assign(name=names)))  # type: ignore[union-attr]
    assert of.twin[:4].tolist() == [-1, -1, 3, 2]


def test_three_nearest_names() -> None:
    known = ["Mönchhofstraße", "Mönchhofplatz", "Hauptstraße", "Mönchhofstraße"]
    assert three_nearest("mönchhofstr", known).startswith("the nearest are 'Mönchhofstraße', ")
    assert three_nearest("xyz", ["abc"]) == ""


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(13)))
def test_order_of_segments_does_not_matter(order: list[int]) -> None:
    """Protects positions."""
    town = make_town()
    assert isinstance(town.edges, gpd.GeoDataFrame)
    mixed = town.replace(
        edges=town.edges.iloc[order].reset_index(drop=True),
        edge_index=town.edge_index[:, order],
        edge_weight=town.edge_weight[order],
    )
    of = streets(mixed)
    for target in (
        {"name": "South Street"}, {"between": ("4", "3")}, {"where": "speed_kmh < 50"},
        {"near": {"lon": LON + STEP / 2, "lat": LAT}},
    ):  # fmt: skip
        assert sorted(chosen(of, **target)) == chosen(**target)


def test_network_without_names_or_ways() -> None:
    town = make_town()
    assert isinstance(town.edges, gpd.GeoDataFrame)
    of = streets(town.replace(edges=town.edges.drop(columns=["name", "osmid", "highway"])))
    for target, words in (
        (Target(name="x"), "no names"), (Target(osmid=1), "no column `osmid`"),
        (Target(road_class="x"), "no classes"),
    ):  # fmt: skip
        report = Report()
        assert not len(select(target, of, report, "operation 1 (close)"))
        assert words in str(report)


def test_numbers_as_ways() -> None:
    """Protects `osmid` columns that are numbers, with or without missing ones."""
    ways: list[float] = [7.0, np.nan, *[8.0] * 11]
    assert chosen(streets(make_town(osmid=pd.Series(ways))), osmid=[7]) == [10]
