"""Numbers of the whole network."""

from __future__ import annotations

import dataclasses

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scenario_towns import diamond, grid, make_demand, make_edited, make_effects

from stgraph.errors import InputError
from stgraph.scenario.emissions import co2_g_per_km
from stgraph.scenario.od_times import hourly_speeds, measure_od
from stgraph.scenario.summary import (
    COLUMNS,
    delay_by_operation,
    summarise,
    weighted_quantile,
)

FLOW = np.array([300.0, 200, 300, 100, 100, 300])


def by_metric(table: pd.DataFrame) -> pd.DataFrame:
    assert list(table.columns) == COLUMNS
    return table.set_index("metric")


def test_the_numbers_are_those_written_out_by_hand() -> None:
    """Two hours; segment 1 is closed in the second one, its 200 cars go round at 30 km/h."""
    edited = make_edited(diamond(), closed=(1,), hours=2, window=(1, 2))
    speed, flow = np.full((2, 6), 60.0), np.tile(FLOW, (2, 1))
    speed[1, [3, 4]], flow[1, [3, 4]] = 30.0, 300.0
    table = by_metric(summarise(edited, make_effects(edited, 60.0, FLOW, speed, flow)))
    assert table.loc["VKT", ["base", "scenario", "change"]].tolist() == [2600, 2800, 200]
    # at first 2,600 km at 60 km/h; then 600 of 2,800 km at 30 km/h
    expected = [2600 / 60, 2200 / 60 + 600 / 30, 2200 / 60 + 600 / 30 - 2600 / 60]
    assert table.loc["VHT", ["base", "scenario", "change"]].tolist() == pytest.approx(expected)
    assert table.loc["delay", "base"] == 0
    assert table.loc["delay", "scenario"] == pytest.approx(600 / 30 - 600 / 60)
    assert table.loc["mean speed", "scenario"] == pytest.approx(2800 / expected[1])
    kg = (2200 * co2_g_per_km(60.0) + 600 * co2_g_per_km(30.0)) / 1000
    assert table.loc["CO2", "scenario"] == pytest.approx(float(kg))
    assert table.loc["covered network", "base"] == pytest.approx(100)
    assert list(table["unit"])[:5] == ["veh-km", "veh-h", "km/h", "veh-h", "kg"]


def test_no_edit_is_no_change_exactly() -> None:
    """Every change is 0, not nearly, with ranges, trips and gaps in the data."""
    rng = np.random.default_rng(1)
    edited = make_edited(grid(), hours=3, minutes=10)
    shape = (18, edited.roads.n_edges)
    speed, flow = rng.uniform(5, 70, shape), rng.uniform(0, 900, shape)
    speed[rng.random(shape) < 0.1] = np.nan
    effects = make_effects(edited, speed, flow)
    demand = make_demand(edited.roads, [0, 7, 19])
    od = measure_od(edited, hourly_speeds(edited, effects), demand)
    trips = rng.uniform(0, 50, (3, 3, 3))
    table = summarise(edited, effects, od=od, trips_base=trips)
    assert (table["change"] == 0).all()
    assert (table[["low", "high"]].fillna(0) == 0).all(axis=None)


def test_the_range_holds_the_change() -> None:
    """Slower and fuller is the upper end of the hours, faster and emptier the lower."""
    edited = make_edited(diamond(), hours=2, speed_kmh={1: 30.0})
    speed = np.full(6, 60.0)
    speed[1] = 30.0
    effects = make_effects(edited, 60.0, FLOW, speed, FLOW, spread=3.0)
    table = by_metric(summarise(edited, effects))
    for name in ("VKT", "VHT", "mean speed", "delay", "CO2"):
        low, change, high = table.loc[name, ["low", "change", "high"]]
        assert low < high, name
        assert low <= change <= high, name
    worst = 2 * ((FLOW + 30) / np.where(np.arange(6) == 1, 27, 57)).sum()
    assert table.loc["VHT", "high"] == pytest.approx(worst - table.loc["VHT", "base"])


def test_members_give_the_range_of_their_totals() -> None:
    """Two runs of other demand: the range is theirs, not that of all segments at once."""
    edited = make_edited(diamond(), hours=2)
    effects = make_effects(edited, 60.0, FLOW, 60.0, FLOW, spread=9.0)
    speed = np.full((2, 6), 60.0)
    members = [(speed, np.tile(FLOW * k, (2, 1))) for k in (0.9, 1.2)]
    table = by_metric(summarise(edited, effects, members=members))
    assert table.loc["VKT", ["low", "high"]].tolist() == pytest.approx([-260, 520])
    assert table.loc["mean speed", ["low", "high"]].tolist() == pytest.approx([0, 0])


def test_segments_without_data_are_left_out_of_both_and_named() -> None:
    """What is known of one network only must not look like a change."""
    edited = make_edited(diamond(), hours=2)
    speed, flow = np.tile(60.0, (2, 6)), np.tile(FLOW, (2, 1))
    speed[:, 2] = np.nan
    scn = flow.copy()
    scn[:, 0] = np.nan
    table = by_metric(summarise(edited, make_effects(edited, speed, flow, speed, scn)))
    assert table.loc["VKT", "base"] == pytest.approx(2 * (200 + 100 + 100 + 300))
    assert table.loc["VKT", "change"] == 0
    assert table.loc["covered network", "scenario"] == pytest.approx(100 * 4 / 6)


def test_an_empty_street_needs_no_speed() -> None:
    """No cars, no speed: known, and nothing to add."""
    edited = make_edited(diamond(), hours=2)
    flow = np.where(np.arange(6) == 3, 0.0, FLOW)
    speed = np.where(np.arange(6) == 3, np.nan, 60.0)
    table = by_metric(summarise(edited, make_effects(edited, speed, flow)))
    assert table.loc["covered network", "base"] == pytest.approx(100)
    assert table.loc["VKT", "base"] == pytest.approx(2 * 1200)


def test_a_new_street_counts_in_the_scenario_only() -> None:
    edited = make_edited(diamond(), new=(1,), hours=2)
    table = by_metric(summarise(edited, make_effects(edited, 60.0, FLOW)))
    assert table.loc["VKT", "change"] == pytest.approx(2 * 200)
    assert table.loc["covered network", "base"] == pytest.approx(100)


def test_parts_of_a_split_street_count_with_it() -> None:
    """Where the street has no flow in the baseline, its parts must not look like new traffic."""
    edited = make_edited(diamond(), closed=(1,), new=(3, 4), hours=2)
    edited = dataclasses.replace(edited, parent=np.array([0, 1, 2, 1, 1, 5]))
    flow = np.array([300.0, 200, 300, 200, 200, 300])
    both = np.tile(flow, (2, 1))
    both[0, 1] = np.nan
    table = by_metric(summarise(edited, make_effects(edited, 60.0, both, 60.0, flow)))
    assert table.loc["VKT", "base"] == pytest.approx(2 * 900 + 200)
    assert table.loc["VKT", "scenario"] == pytest.approx(2 * 900 + 400)


def test_without_flows_the_mean_speed_of_streets_is_left() -> None:
    """Speeds alone say nothing on vehicles, and nothing is made up."""
    edited = make_edited(diamond(), hours=2)
    speed = np.where(np.arange(6) == 1, 30.0, 60.0)
    table = by_metric(summarise(edited, make_effects(edited, 60.0, np.nan, speed, np.nan)))
    assert table.loc["mean speed, by length", "base"] == pytest.approx(60)
    assert table.loc["mean speed, by length", "scenario"] == pytest.approx(6 / (5 / 60 + 1 / 30))
    assert table.loc["covered network", "base"] == 0
    assert "VKT" not in table.index
    nothing = summarise(edited, make_effects(edited, np.nan, np.nan))
    assert nothing.loc[0, ["base", "scenario"]].isna().all()


def test_trips_that_take_longer_and_trips_that_are_not_made() -> None:
    """A street of a kilometre at 6 km/h takes 9 minutes longer; behind a closure nobody gets."""
    edited = make_edited(diamond(), closed=(5,), hours=2)
    scn = np.where(np.isin(np.arange(6), [2]), 6.0, 60.0)
    effects = make_effects(edited, 60.0, FLOW, scn, FLOW)
    demand = make_demand(edited.roads, [0, 2, 4])
    od = measure_od(edited, hourly_speeds(edited, effects), demand)
    trips = np.zeros((2, 3, 3))
    trips[:, 0, 1], trips[:, 1, 2], trips[:, 2, 0] = 30, 10, 7
    table = by_metric(summarise(edited, effects, od=od, trips_base=trips))
    assert table.loc["unserved trips", ["base", "scenario", "change"]].tolist() == [0, 14, 14]
    mean = table.loc["OD time, mean"]
    assert [mean["base"], mean["scenario"]] == pytest.approx([70 / 40, 160 / 40])
    assert table.loc["OD time, p90", "scenario"] == pytest.approx(10)
    assert table.loc["trips over 5 min longer", "change"] == pytest.approx(25)
    bare = by_metric(summarise(edited, effects, od=od))
    assert bare.loc["unserved trips", "unit"] == "pairs and hours"


def test_delay_is_told_of_operations_that_are_alone() -> None:
    """Two operations, in the second hour together: three rows; alone or with demand: none."""
    edited = make_edited(diamond(), hours=3, speed_kmh={1: 30.0, 3: 30.0})
    time = edited.time
    spans = {
        "operation": [1, 2],
        "op": ["set_speed", "roadworks"],
        "from": [time[0], time[1]],
        "to": [time[2], time[2] + pd.Timedelta(hours=1)],
    }
    edits = gpd.GeoDataFrame(pd.DataFrame(spans), geometry=edited.edits.geometry, crs=4326)
    object.__setattr__(edited, "edits", edits)
    speed = np.tile(60.0, (3, 6))
    scn = speed * np.array([1.0, 0.5, 0.25])[:, None]
    effects = make_effects(edited, speed, FLOW, scn, FLOW)
    rows = by_metric(delay_by_operation(edited, effects))
    assert list(rows.index) == [
        "delay, operation 1 (set_speed)",
        "delay, operation 2 (roadworks)",
        "delay, several operations",
    ]
    assert rows["change"].iloc[0] == pytest.approx(0)
    assert rows["change"].sum() == pytest.approx(
        by_metric(summarise(edited, effects)).loc["delay", "change"]
    )
    object.__setattr__(edited, "demand", ("something",))
    assert delay_by_operation(edited, effects).empty
    assert delay_by_operation(make_edited(diamond(), closed=(1,)), effects).empty


def test_co2_is_lowest_at_a_middle_speed() -> None:
    """Crawling and racing cost most; 30 miles per hour gives the figure of the paper's curve."""
    speed = np.arange(10, 131, 10.0)
    grams = co2_g_per_km(speed)
    assert 50 <= speed[grams.argmin()] <= 80
    assert grams[0] > 2 * grams.min()
    # exp(7.6135 - 4.1570 + 3.5236 - 1.3352 + 0.1933) = 343 g per mile
    assert co2_g_per_km(np.array(30 * 1.609344)) == pytest.approx(343.1 / 1.609344, rel=1e-3)
    assert co2_g_per_km(np.array(1.0)) == co2_g_per_km(np.array(8.0))
    assert np.isnan(co2_g_per_km(np.array(np.nan)))


def test_quantiles_are_weighted() -> None:
    values = np.array([3.0, 1.0, 2.0])
    assert weighted_quantile(values, np.array([1.0, 8, 1]), 0.8) == 1
    assert weighted_quantile(values, np.array([1.0, 8, 1]), 0.9) == 2
    assert weighted_quantile(values, np.array([1.0, 8, 1]), 1) == 3
    assert np.isnan(weighted_quantile(values[:0], values[:0], 0.9))


def test_relabelling_segments_changes_nothing() -> None:
    """Property: sums do not depend on the order of the segments."""
    rng = np.random.default_rng(5)
    roads = grid()
    order = rng.permutation(roads.n_edges)
    mixed = roads.replace(
        edge_index=roads.edge_index[:, order],
        edges=roads.edges.iloc[order].reset_index(drop=True),
        edge_weight=None,
    )
    closed = 3
    a = make_edited(roads, closed=(closed,), hours=2)
    b = make_edited(mixed, closed=(int(np.flatnonzero(order == closed)[0]),), hours=2)
    parts = [rng.uniform(20, 60, (2, len(order))) for _ in range(2)]
    parts += [rng.uniform(0, 900, (2, len(order))) for _ in range(2)]
    speed, scn, flow, after = parts
    first = summarise(a, make_effects(a, speed, flow, scn, after))
    mixed_parts = [part[:, order] for part in (speed, flow, scn, after)]
    second = summarise(b, make_effects(b, *mixed_parts))
    numbers = ["base", "scenario", "change", "low", "high"]
    np.testing.assert_allclose(first[numbers], second[numbers], rtol=1e-9, atol=1e-6)


def test_shapes_that_do_not_fit_are_all_named() -> None:
    edited = make_edited(diamond(), hours=2)
    effects = make_effects(make_edited(diamond(), hours=3), 60.0, FLOW)
    with pytest.raises(InputError, match=r"`speed_base` \(3, 6\), not \(2, 6\); `speed_scn`"):
        summarise(edited, effects)
    good = make_effects(edited, 60.0, FLOW)
    with pytest.raises(InputError, match="trips without `od`"):
        summarise(edited, good, trips_base=np.ones((2, 2, 2)))
    od = measure_od(edited, hourly_speeds(edited, good), make_demand(edited.roads, [0, 2]))
    with pytest.raises(InputError, match=r"`trips_scn` \(2, 3, 3\), not \(2, 2, 2\)"):
        summarise(edited, good, od=od, trips_scn=np.ones((2, 3, 3)))


def test_one_step_is_as_long_as_its_freq_says() -> None:
    """10 minutes are a sixth of an hour; where nothing says it, a step is an hour."""
    edited = make_edited(diamond(), hours=1)
    effects = make_effects(edited, 60.0, FLOW)
    sums = []
    for freq in ("10min", None):
        time = pd.DatetimeIndex([edited.time[0]], freq=freq)
        object.__setattr__(edited, "time", time)
        sums.append(summarise(edited, effects).set_index("metric").loc["VKT", "base"])
    assert sums[0] == pytest.approx(sums[1] / 6)
