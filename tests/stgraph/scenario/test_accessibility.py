"""What can be reached in time."""

from __future__ import annotations

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import shapely
from scenario_towns import (
    diamond,
    grid,
    make_demand,
    make_edited,
    make_effects,
    make_roads,
)
from shapely.ops import substring

from stgraph.errors import InputError
from stgraph.scenario._cover import Cover, polygons
from stgraph.scenario._street_km import StreetLength
from stgraph.scenario.accessibility import isochrones, losers, reachable
from stgraph.scenario.od_times import hourly_speeds, measure_od


def prepared(edited, junctions):
    demand = make_demand(edited.roads, junctions)
    speeds = hourly_speeds(edited, make_effects(edited, 60.0, 100.0))
    return demand, speeds, measure_od(edited, speeds, demand)


def test_jobs_within_minutes_are_those_counted_by_hand() -> None:
    """Zones with 100, 200 and 300 jobs; from 0 the second takes 2, then 3, minutes."""
    edited = make_edited(diamond(), closed=(1,), window=(6, 10))
    demand, _, od = prepared(edited, [0, 2, 4])
    table = reachable(od, demand, minutes=(2.5, 30)).set_index(["zone", "period"])
    assert list(table.columns) == ["jobs_2.5_base", "jobs_2.5_scn", "jobs_30_base", "jobs_30_scn"]
    assert table.loc[("Z0", "am")].tolist() == [300, 100, 600, 600]
    assert table.loc[("Z0", "pm")].tolist() == [300, 300, 600, 600]
    assert table.loc[("Z2", "am")].tolist() == [400, 400, 600, 600]  # 3 minutes either way to Z1


def test_without_numbers_the_zones_are_counted() -> None:
    edited = make_edited(diamond())
    demand, _, od = prepared(edited, [0, 2, 4])
    object.__setattr__(demand, "zones", demand.zones.drop(columns="jobs"))
    table = reachable(od, demand, minutes=(15,))
    assert table["zones_15_base"].tolist() == [3] * len(table)


def test_no_edit_is_no_difference_exactly() -> None:
    edited = make_edited(grid())
    demand, _, od = prepared(edited, [0, 7, 19])
    table = reachable(od, demand, minutes=(3, 6))
    for limit in (3, 6):
        assert (table[f"jobs_{limit}_base"] == table[f"jobs_{limit}_scn"]).all()
    assert losers(table, column="jobs_3").empty


def test_zones_that_lose_most_come_first() -> None:
    """Cut off in the morning, zone 0 keeps itself only."""
    edited = make_edited(diamond(), closed=(0,), window=(6, 10))
    demand, _, od = prepared(edited, [0, 2, 4])
    found = losers(reachable(od, demand, minutes=(15,)), column="jobs_15")
    assert found.loc[0, ["zone", "period", "base", "scenario"]].tolist() == ["Z0", "am", 600, 100]
    assert found.loc[0, "change_percent"] == pytest.approx(-100 * 500 / 600)
    assert set(found["period"]) == {"am", "day"}  # what cannot be reached for hours is lost all day
    with pytest.raises(InputError, match=r"'job_15' \(did you mean 'jobs_15'\?\)"):
        losers(reachable(od, demand, minutes=(15,)), column="job_15")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"columns": ("job",)}, r"'job' \(did you mean 'jobs'\?\)"),
        ({"columns": ("names",)}, "`names` is 'a' at zone 'Z0'"),
        ({"columns": ("owed",)}, "`owed` is -1.0 at zone 'Z1'"),
        ({"minutes": (15, 0)}, r"\[0\]; give numbers above 0"),
        ({"minutes": ()}, "above 0"),
    ],
)
def test_bad_input_is_refused(change, match) -> None:
    edited = make_edited(diamond(), hours=1)
    demand, _, od = prepared(edited, [0, 2, 4])
    zones = demand.zones.assign(names=["a", "1", "2"], owed=[1.0, -1.0, 0.0])
    object.__setattr__(demand, "zones", zones)
    with pytest.raises(InputError, match=match):
        reachable(od, demand, **change)


# ---------------------------------------------------------------- areas


def test_streets_are_reached_in_part() -> None:
    """In 2.5 minutes from 0: 0-1 and 1-2 and 1-3 whole, half of 2-4 and of 3-2."""
    edited = make_edited(diamond(), hours=1)
    _, speeds, _ = prepared(edited, [0])
    found = isochrones(edited, speeds, ["j0"], minutes=(2.5,), periods=("day",))
    assert found["street_km"].tolist() == pytest.approx([4, 4])
    area = found.geometry.iloc[0]
    inside = [(2.4, 0.0), (1.25, 0.5), (1.73, 0.54)]  # kilometres
    outside = [(2.7, 0.0), (1.9, 0.2), (1.5, 0.5)]
    at = [shapely.Point(10 + x / 71.7, 50 + y / 111.2) for x, y in [*inside, *outside]]
    assert shapely.covers(area, at).tolist() == [True, True, True, False, False, False]


def test_streets_of_two_directions_count_once() -> None:
    """A street of 1 km both ways: whole from one end, and half of it, are 1 and 0.5 km."""
    roads = make_roads([(0, 1), (1, 0)], [(0, 0), (1, 0)])
    edited = make_edited(roads, hours=1)
    _, speeds, _ = prepared(edited, [0])
    found = isochrones(edited, speeds, ["j0"], minutes=(5, 0.5), periods=("day",))
    assert found["street_km"].tolist() == pytest.approx([1.0, 0.5] * 2)


def test_a_street_that_is_split_is_as_long_as_before() -> None:
    """One direction is there whole, the other as two parts: 2.5 minutes reach all of it."""
    places = [(0.0, 0.0), (1.0, 0.0), (0.4, 0.0)]
    roads = make_roads([(0, 1), (1, 0), (0, 2), (2, 1)], places)
    roads.edges["length_m"] = [1000.0, 1000.0, 400.0, 600.0]
    edited = make_edited(roads, hours=1, closed=(0,), new=(2, 3))
    edited = replace(edited, parent=np.array([0, 1, 0, 0]))
    _, speeds, _ = prepared(edited, [0])
    found = isochrones(edited, speeds, ["j0"], minutes=(2.5, 0.7), periods=("day",))
    assert found["street_km"].tolist() == pytest.approx([1.0, 0.7] * 2, abs=1e-6)


@pytest.mark.parametrize(
    ("share", "km"),
    [
        ([0.3, 0.4, 0.0, 0.0], 0.7),  # from both ends, and they do not meet
        ([0.8, 0.9, 0.0, 0.0], 1.0),
        ([0.0, 0.0, 1.0, 0.5], 0.7),
        ([0.0, 0.2, 1.0, 0.5], 0.9),  # to 0.7 from the beginning, and all from 0.8 on
        ([0.0, 0.0, 0.0, 0.0], 0.0),
    ],
)
def test_what_is_reached_from_both_ends_counts_once(share, km) -> None:
    """A ring, which begins where it ends, in both directions; one is split at 0.4 of it."""
    corners = [(0, 0), (250, 0), (250, 250), (0, 250), (0, 0)]
    ring = shapely.LineString(corners)
    lines = [ring, ring.reverse(), substring(ring, 0, 400), substring(ring, 400, 1000)]
    parent, length = np.array([0, 1, 0, 0]), np.array([1.0, 1.0, 0.4, 0.6])
    found = StreetLength(lines, parent, length).reached(np.array(share))
    assert found == pytest.approx(km)


def test_areas_are_valid_nested_and_in_degrees() -> None:
    """Property: what is reached in 2 minutes is reached in 4, on any speeds."""
    rng = np.random.default_rng(0)
    edited = make_edited(grid(), closed=(3, 8), hours=8)
    effects = make_effects(edited, rng.uniform(15, 60, edited.roads.n_edges), 10.0)
    speeds = hourly_speeds(edited, effects)
    found = isochrones(edited, speeds, ["j7", "j0"], minutes=(2, 4, 6))
    assert found.crs == "EPSG:4326"
    assert found.is_valid.all()
    assert not found.is_empty.any()
    assert set(found.geom_type) <= {"Polygon", "MultiPolygon"}
    assert set(found["period"]) == {"am", "day"}
    for _, part in found.groupby(["origin", "period", "network"]):
        assert part["minutes"].tolist() == [6, 4, 2]
        large, _, small = part.geometry
        assert small.difference(large.buffer(1e-4)).is_empty
        assert part["area_km2"].is_monotonic_decreasing
    totals = found.pivot_table(index=["origin", "minutes"], columns="network", values="street_km")
    assert (totals["scenario"] <= totals["baseline"] + 1e-9).all()
    assert (totals["scenario"] < totals["baseline"]).any()


def test_places_start_at_the_nearest_junction() -> None:
    """A point is as good as the junction beside it, and keeps its name."""
    edited = make_edited(diamond(), hours=1)
    _, speeds, _ = prepared(edited, [0])
    places = gpd.GeoSeries([shapely.Point(10.0139, 50.0004)], index=["hospital"], crs=4326)
    near = isochrones(edited, speeds, places, minutes=(1,), periods=("day",))
    named = isochrones(edited, speeds, ["j1"], minutes=(1,), periods=("day",))
    assert near["origin"].tolist() == ["hospital"] * 2
    assert near["street_km"].tolist() == named["street_km"].tolist()


def test_streets_that_cannot_be_reached_are_left_out() -> None:
    """Closed, and beyond a closed one: neither is a way, nor a number."""
    edited = make_edited(diamond(), closed=(0,), hours=1)
    _, speeds, _ = prepared(edited, [0])
    found = isochrones(edited, speeds, ["j0"], minutes=(2,), periods=("day",))
    assert found.set_index("network").loc["scenario", "street_km"] == 0
    assert found.geometry.iloc[1].contains(shapely.Point(10.0, 50.0))


def test_areas_of_unknown_places_are_refused() -> None:
    edited = make_edited(diamond(), hours=1)
    _, speeds, _ = prepared(edited, [0])
    with pytest.raises(InputError, match=r"'j9' \(did you mean"):
        isochrones(edited, speeds, ["j9"])
    with pytest.raises(InputError, match=r"\['pm'\]; the horizon has"):
        isochrones(edited, speeds, ["j0"], periods=("pm",))
    with pytest.raises(InputError, match="CRS"):
        isochrones(edited, speeds, gpd.GeoSeries([shapely.Point(0, 0)]))
    with pytest.raises(InputError, match="above 0"):
        isochrones(edited, speeds, ["j0"], buffer_m=-1)


def test_joined_parts_cover_what_single_streets_do() -> None:
    """Property: any shares on any lines, asked for one after the other, give their union."""
    rng = np.random.default_rng(1)
    at = rng.uniform(0, 3000, (90, 2))
    lines = [shapely.LineString([place, place + rng.uniform(-300, 300, 2)]) for place in at]
    lines += [shapely.reverse(line) for line in lines[:30]]
    cover = Cover(lines, 60.0)
    n = len(lines)
    for reached in (0.3, 0.9, 1.0):
        share = np.where(rng.random(n) < reached, 1.0, rng.choice([0.0, 0.4], n))
        used = np.flatnonzero(share)
        parts = [substring(lines[i], 0, share[i], normalized=True) for i in used]
        parts = shapely.buffer([shapely.Point(0, 0), *parts], 60.0, quad_segs=4)
        true = shapely.union_all(parts)
        found, km2 = cover.area(share, shapely.Point(0, 0))
        (shape,) = polygons([found])
        assert km2 == pytest.approx(true.area / 1e6, rel=1e-3)
        assert shape.is_valid
        assert shapely.area(shapely.symmetric_difference(shape, true)) < 0.04 * true.area
