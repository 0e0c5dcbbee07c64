"""A result as plain tables."""

from __future__ import annotations

import json
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scenario_results import CLOSED, NEW, SLOWED, make_result

from stgraph.errors import DataError
from stgraph.scenario.result import SOURCES, STATUS, LinkEffects, ScenarioResult
from stgraph.scenario.tables import tables


def with_links(result: ScenarioResult, **changes: np.ndarray) -> ScenarioResult:
    """Return a result with other arrays."""
    return replace(result, links=replace(result.links, **changes))


def peak(result: ScenarioResult, segment: int, period: str) -> pd.Series:
    """Return the row of a segment and period."""
    rows = tables(result)["scenario_link_peak"]
    return rows[(rows["segment_id"] == segment) & (rows["period"] == period)].iloc[0]


def test_every_table_says_whose_it_is(result: ScenarioResult) -> None:
    """Protects from results shown on the wrong scenario."""
    found = tables(result)
    assert list(found) == [
        "scenario", "scenario_segment", "scenario_link", "scenario_link_peak", "scenario_od",
        "scenario_edit", "scenario_summary", "scenario_access", "scenario_isochrone",
    ]  # fmt: skip
    for table in found.values():
        assert table.columns[0] == "run_id"
        assert (table["run_id"] == result.run_id).all()
        assert len(table)
    assert len(found["scenario"]) == 1


def test_the_numbers_of_a_step(result: ScenarioResult) -> None:
    """Differences, per cent and travel time follow from speeds, and the rows are in order."""
    rows = tables(result)["scenario_link"]
    assert len(rows) == 48 * 36
    assert rows["ts"].is_monotonic_increasing
    assert str(rows["ts"].dtype) == "datetime64[us, UTC]"
    row = rows[(rows["segment_id"] == 1) & (rows["ts"] == "2026-11-23T08:00Z")].iloc[0]
    base, after = row["speed_base"], row["speed_scn"]
    assert row["d_speed"] == pytest.approx(after - base)
    assert row["d_speed_pct"] == pytest.approx(100 * (after - base) / base)
    assert row["tt_delta_s"] == pytest.approx(0.22 * 3600 * (1 / after - 1 / base), rel=1e-4)
    assert row["d_flow"] == pytest.approx(row["flow_scn"] - row["flow_base"], abs=1e-3)
    assert (row["status"], row["source"]) == ("changed", "assignment")


def test_closed_and_new_streets_are_missing_not_zero(result: ScenarioResult) -> None:
    """Whatever the arrays hold there: a closed street has no speed, a new one had none."""
    noisy = with_links(
        result,
        speed_scn=np.nan_to_num(result.links.speed_scn),
        flow_scn=np.nan_to_num(result.links.flow_scn),
        speed_base=np.nan_to_num(result.links.speed_base),
        flow_base=np.nan_to_num(result.links.flow_base),
    )
    rows = tables(noisy)["scenario_link"]
    closed = rows[rows["status"] == "closed"]
    assert set(closed["segment_id"]) == set(CLOSED)
    assert (
        closed[["speed_scn", "flow_scn", "d_speed", "d_flow", "tt_delta_s"]].isna().all(axis=None)
    )
    assert closed["speed_base"].notna().all()
    assert not closed["significant"].any()
    new = rows[rows["status"] == "new"]
    assert set(new["segment_id"]) == set(NEW)
    assert new[["speed_base", "flow_base", "d_speed", "d_flow"]].isna().all(axis=None)
    assert (new["speed_scn"] > 0).all()


def test_a_speed_of_zero_gives_no_infinite_numbers(result: ScenarioResult) -> None:
    """Infinite per cent or seconds would be refused by readers of the file."""
    still = np.zeros_like(result.links.speed_base)
    rows = tables(with_links(result, speed_base=still))["scenario_link"]
    numbers = rows.select_dtypes("number").to_numpy(dtype=float)
    assert not np.isinf(numbers).any()
    assert rows["d_speed_pct"].isna().all()


def test_periods_are_local_means(result: ScenarioResult) -> None:
    """Protects the morning from being the one of Greenwich."""
    local = result.time.tz_convert("Europe/Berlin").hour
    morning = (local >= 6) & (local < 10)
    row = peak(result, SLOWED[0], "am")
    assert row["speed_base"] == pytest.approx(result.links.speed_base[morning, 0].mean(), rel=1e-5)
    assert row["d_speed"] == pytest.approx(row["speed_scn"] - row["speed_base"])
    assert row["status"] == "changed"
    assert row.geometry.equals(result.roads.edges.geometry.iloc[0])


def test_a_street_closed_for_half_of_a_period_counts_as_closed(result: ScenarioResult) -> None:
    """Closed from 7 to 19 h: half of the day, three of the four morning hours."""
    for period, share in (("am", 0.75), ("mid", 1.0), ("day", 0.5)):
        row = peak(result, CLOSED[0], period)
        assert row["status"] == "closed"
        assert row["closed_share"] == pytest.approx(share)
        assert np.isnan(row["speed_scn"])
        assert not row["significant"]
        assert row["speed_base"] > 0


def test_a_street_closed_for_less_compares_the_same_steps(result: ScenarioResult) -> None:
    """The mean before must not include the hours for which there is none after."""
    status = result.links.status.copy()
    status[:] = 0
    status[:10, 8] = STATUS.index("closed")
    base = np.full_like(result.links.speed_base, 40.0)
    base[:10] = 10.0
    quiet = with_links(result, status=status, speed_base=base, speed_scn=base.copy())
    row = peak(quiet, 9, "day")
    assert (row["speed_base"], row["d_speed"], row["status"]) == (40.0, 0.0, "normal")
    assert row["closed_share"] == pytest.approx(10 / 48)


def test_no_change_is_exactly_none_and_not_significant(result: ScenarioResult) -> None:
    links = result.links
    none = with_links(
        result,
        speed_scn=links.speed_base,
        flow_scn=links.flow_base,
        status=np.zeros_like(links.status),
        significant=np.zeros_like(links.significant),
    )
    rows = tables(none)["scenario_link_peak"]
    old = rows[rows["segment_id"] > 0]
    assert (old[["d_speed", "d_flow", "tt_delta_s"]] == 0).all(axis=None)
    assert not rows["significant"].any()


def test_unreachable_pairs_have_no_time(result: ScenarioResult) -> None:
    od = result.od.assign(tt_scn_min=999.0)
    rows = tables(replace(result, od=od))["scenario_od"]
    assert rows.loc[rows["is_unreachable"], ["tt_scn_min", "d_min"]].isna().all(axis=None)
    assert rows["d_min"].iloc[0] == pytest.approx(993.0)
    ends = ["d_min_low", "d_min_high"]
    wide = tables(replace(result, od=result.od.assign(d_min_low=-1.0, d_min_high=1.0)))
    rows = wide["scenario_od"]
    assert rows.loc[rows["is_unreachable"], ends].isna().all(axis=None)
    assert rows.loc[~rows["is_unreachable"], ends].notna().all(axis=None)


def test_times_between_zones_have_a_range(result: ScenarioResult) -> None:
    """That of their change; a result without ranges has none, and the same columns."""
    rows = tables(result)["scenario_od"]
    first = rows.iloc[0]
    assert (first["d_min_low"], first["d_min"], first["d_min_high"]) == (1.0, 1.5, 2.5)
    bare = result.od.drop(columns=["d_min_low", "d_min_high"])
    old = tables(replace(result, od=bare))["scenario_od"]
    assert list(old.columns) == list(rows.columns)
    assert old["d_min_low"].isna().all()


def test_access_is_a_row_per_measure(result: ScenarioResult) -> None:
    rows = tables(result)["scenario_access"]
    row = rows[(rows["zone"] == "Z2") & (rows["measure"] == "jobs_15")].iloc[0]
    assert (row["base"], row["scenario"], row["change"]) == (900.0, 700.0, -200.0)
    assert (row["low"], row["high"]) == (-300.0, -100.0)
    assert rows.loc[rows["measure"] == "jobs_30", ["low", "high"]].isna().all(axis=None)
    empty = tables(replace(result, access=pd.DataFrame()))["scenario_access"]
    assert list(empty.columns) == list(rows.columns)
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("run_id", "card", "created"),
    [
        ("20261123T050000Z-1a2b", {}, "2026-11-23T05:00:00Z"),
        ("2026-11-23T05:00Z", {}, "2026-11-23T05:00:00Z"),
        ("mine", {"created": "2026-11-24T01:02:03Z"}, "2026-11-24T01:02:03Z"),
        ("mine", {}, None),
        ("20269999T050000Z", {}, None),
    ],
)
def test_the_instant_of_the_run(
    result: ScenarioResult, run_id: str, card: dict[str, str], created: str | None
) -> None:
    found = tables(replace(result, run_id=run_id, card=card))["scenario"]["created"].iloc[0]
    assert pd.isna(found) if created is None else found == pd.Timestamp(created)


def test_odd_columns_of_roads(result: ScenarioResult) -> None:
    """Roads without names or classes, and a class under its other name."""
    edges = result.roads.edges.drop(columns=["name"]).rename(columns={"highway": "road_class"})
    rows = tables(replace(result, roads=result.roads.replace(edges=edges)))["scenario_segment"]
    assert rows["name"].isna().all()
    assert rows["road_class"].iloc[0] == "secondary"
    assert rows["is_two_way"].all()
    bare = result.roads.replace(edges=None)
    with pytest.raises(DataError, match="segment_id"):
        tables(replace(result, roads=bare))


def test_the_order_of_segments_does_not_matter() -> None:
    """Relabelled input gives the same rows in another order."""
    result = make_result()
    order = np.random.default_rng(5).permutation(result.roads.n_edges)
    arrays = {name: getattr(result.links, name)[:, order] for name in LinkEffects.__annotations__}
    roads = result.roads.replace(
        edge_index=result.roads.edge_index[:, order],
        edge_weight=result.roads.edge_weight[order],
        edges=result.roads.edges.iloc[order].reset_index(drop=True),
    )
    turned = tables(replace(result, roads=roads, links=LinkEffects(**arrays)))
    plain = tables(result)
    for name in ("scenario_segment", "scenario_link_peak"):
        keys = [key for key in ("segment_id", "period") if key in plain[name]]
        one, other = (t[name].sort_values(keys).reset_index(drop=True) for t in (plain, turned))
        assert isinstance(one, gpd.GeoDataFrame)
        pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(other))
    assert set(plain["scenario_link"]["source"].cat.categories) == set(SOURCES)


def test_the_card_is_json_whatever_is_in_it(result: ScenarioResult) -> None:
    """NaN is no JSON, and databases refuse it."""
    card = {"r2": np.float32("nan"), "n": np.int64(3), "parts": [{"x": float("inf")}, (1.5,)]}
    text = tables(replace(result, card=card))["scenario"]["card"].iloc[0]
    assert json.loads(text) == {"r2": None, "n": 3, "parts": [{"x": None}, [1.5]]}


def test_small_areas_lie_on_top_of_those_of_all_zones(result: ScenarioResult) -> None:
    """Rows are drawn one after the other, and each keeps its own shape and numbers."""
    one = result.isochrones
    assert one is not None
    both = pd.concat([one, one.assign(zone="Z3")], ignore_index=True)
    rows = tables(replace(result, isochrones=both))["scenario_isochrone"]
    assert rows["minutes"].tolist() == [20.0] * 8 + [10.0] * 8
    assert rows["zone"].tolist() == 2 * (["Z2"] * 4 + ["Z3"] * 4)
    names = ["zone", "period", "network", "minutes", "area_km2"]
    given, found = (table.sort_values(names, ignore_index=True) for table in (both, rows))
    assert found[names].equals(given[names])
    assert found.geometry.geom_equals(given.geometry).all()


def test_areas_are_in_the_crs_of_the_segments(result: ScenarioResult) -> None:
    """As the lines are, so that one file has one; without areas there is a table without rows."""
    rows = tables(result)["scenario_isochrone"]
    assert len(rows) == 8
    assert rows.columns[:4].tolist() == ["run_id", "zone", "period", "network"]
    nodes, edges = (part.to_crs(32632) for part in (result.roads.nodes, result.roads.edges))
    metres = replace(result.roads, nodes=nodes, edges=edges)
    assert tables(replace(result, roads=metres))["scenario_isochrone"].crs == "EPSG:32632"
    empty = tables(replace(result, isochrones=None))["scenario_isochrone"]
    assert empty.columns.tolist() == rows.columns.tolist()
    assert len(empty) == 0
    assert empty.crs == rows.crs
