"""Several sources on one graph: each rule of space and time with its answer written out."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from stgraph.errors import DataError
from stgraph.graph import Feature, STGraph
from stgraph.joining import join_feature
from stgraph.neighbours import build_knn

NAN = float("nan")


def make_graph(n_steps: int = 6, *, step: str = "h", start: str = "2024-05-01") -> STGraph:
    """Three stations at 0, 1000 and 5000 m along a line."""
    points = gpd.points_from_xy([1_750_000, 1_751_000, 1_755_000], [5_900_000] * 3)
    return STGraph(
        nodes=gpd.GeoDataFrame({"kind": "station"}, index=list("abc"), geometry=points, crs=2193),
        time=pd.date_range(start, periods=n_steps, freq=step, tz="UTC"),
        values=np.arange(n_steps * 3, dtype=np.float32).reshape(-1, 3, 1),
        features=(Feature("flow", "veh/h"),),
        zone="Pacific/Auckland",
    )  # fmt: skip


def make_other(
    values: Any, *, step: str = "h", start: str = "2024-05-01", role: str = "target",
    x: Any = (1_750_200, 1_754_000), crs: Any = 2193, shapes: Any = None, name: str = "rain",
) -> STGraph:  # fmt: skip
    """A source with a column of values per place."""
    array = np.asarray(values, dtype=np.float32)
    array = array[:, None, None] if array.ndim == 1 else array[..., None]
    count = array.shape[1]
    geometry = gpd.points_from_xy(x[:count], [5_900_000] * count) if shapes is None else shapes
    nodes = gpd.GeoDataFrame(
        {"kind": ["station"] * count}, index=range(count), geometry=geometry, crs=2193
    )
    return STGraph(
        nodes=nodes if crs is None else nodes.to_crs(crs),
        time=pd.date_range(start, periods=len(array), freq=step, tz="UTC"),
        values=array,
        features=(Feature(name, "mm", role),),  # type: ignore[arg-type]
        provenance={"attribution": "Weather: somebody", "connector": "made_up"},
    )


def last(graph: STGraph) -> list[list[float]]:
    """Return the values of the newest feature, a row per step."""
    return np.where(graph.mask[..., -1], graph.values[..., -1], NAN).tolist()


def same(first: Any, second: Any) -> None:
    np.testing.assert_allclose(first, second, rtol=1e-6)


# -------------------------------------------------------------------------------------- space


def test_nearest_takes_the_place_that_is_closest() -> None:
    """a and b are close to the first place, c to the second; across CRSs, too."""
    for crs in (2193, 4326):
        joined = join_feature(make_graph(2), make_other([[1, 2], [3, 4]], crs=crs))
        same(last(joined), [[1, 1, 2], [3, 3, 4]])
        assert joined.features == (Feature("flow", "veh/h"), Feature("rain", "mm", "observed"))
        assert joined.select_features(["flow"]).values.tolist() == make_graph(2).values.tolist()


def test_a_limit_leaves_nodes_without_value() -> None:
    """b is 800 m from the first place, c 1000 m from the second."""
    joined = join_feature(make_graph(1), make_other([[1, 2]]), max_distance_m=900)
    same(last(joined), [[1, 1, NAN]])
    assert "1 nodes have no place: ['c']; missing there" in str(joined.report)
    assert "1 places, 500 m away on average, 800 m at most" in str(joined.report)


def test_a_place_that_is_silent_is_no_neighbour() -> None:
    """The nearest is the nearest that ever says something."""
    joined = join_feature(make_graph(1), make_other([[NAN, 2]]))
    same(last(joined), [[2, 2, 2]])


@pytest.mark.parametrize(("combine", "at_b"), [("mean", 2), ("sum", 4), ("min", 1), ("max", 3)])
def test_several_places_around_a_node(combine: Any, at_b: float) -> None:
    """b has places 800 m and 900 m away; what is missing does not count."""
    other = make_other([[1, 3, 7], [NAN, 5, 7]], x=(1_750_200, 1_751_900, 1_790_000))
    joined = join_feature(
        make_graph(2),
        other,
        space="around",
        max_distance_m=1000,
        combine=combine,
        max_age_minutes=30,
    )
    same(last(joined), [[1, at_b, NAN], [NAN, 5, NAN]])


def test_areas_that_nodes_lie_in() -> None:
    """An event area covers a and b, another b only; distances count to the edge of an area."""
    areas = [shapely.box(1_749_000, 5_899_000, 1_751_500, 5_901_000),
             shapely.box(1_750_500, 5_899_000, 1_751_500, 5_901_000)]  # fmt: skip
    other = make_other([[1, 1], [0, 1]], shapes=areas)
    joined = join_feature(make_graph(2), other, space="within", combine="sum", fill=0)
    same(last(joined), [[1, 2, 0], [0, 1, 0]])
    assert "1 nodes have no place: ['c']; 0 there" in str(joined.report)
    assert not joined.report.warnings
    near = join_feature(make_graph(2), other, space="around", max_distance_m=600, combine="max")
    same(last(near), [[1, 1, NAN], [1, 1, NAN]])
    closest = join_feature(make_graph(1), other.select_steps(0, 1), max_distance_m=3600)
    same(last(closest), [[1, 1, 1]])


def test_same_id_and_all_nodes() -> None:
    """A second sensor type at the same stations; one weather station for a city."""
    other = make_graph(2).replace(features=(Feature("speed", "km/h"),)).select_nodes(["c", "a"])
    joined = join_feature(make_graph(2), other, space="same id")
    same(last(joined), [[0, NAN, 2], [3, NAN, 5]])
    everywhere = join_feature(make_graph(2), make_other([5, 6]), space="all nodes")
    same(last(everywhere), [[5, 5, 5], [6, 6, 6]])


def test_joined_edges_stay() -> None:
    graph = build_knn(make_graph(2), k=1)
    joined = join_feature(graph, make_other([5, 6]))
    assert np.array_equal(joined.edge_index, graph.edge_index)
    assert joined.provenance["graph"] == graph.provenance["graph"]


# --------------------------------------------------------------------------------------- time


def test_a_mean_of_the_hour_that_begins_is_known_at_its_end() -> None:
    """Half-hour steps: the mean of 00:00 to 01:00 is seen at 01:00 and 01:30, never before."""
    graph, other = make_graph(5, step="30min"), make_other([10, 20])
    joined = join_feature(graph, other, delay_minutes=60)
    same([row[0] for row in last(joined)], [NAN, NAN, 10, 10, 20])
    at_once = join_feature(graph, other)
    same([row[0] for row in last(at_once)], [10, 10, 20, 20, 20])
    assert "if it covers the time after that, give delay_minutes=60" in str(at_once.report)
    assert "delay_minutes" not in str(joined.report)


def test_columns_of_words_are_told() -> None:
    """A table may hold names beside numbers; a single feature may be named alone."""
    time = pd.date_range("2024-05-01", periods=2, freq="h", tz="UTC")
    table = pd.DataFrame({"rain": [1, 2], "sky": ["grey", "blue"]}, index=time)
    joined = join_feature(make_graph(2), table, features="rain")
    assert joined.feature_names == ("flow", "rain")
    assert "columns that hold no numbers: ['sky']; left out" in str(joined.report)


def test_as_of_carries_the_last_value_up_to_an_age() -> None:
    """Values at 00:00 and 03:00; two hours old they still count, three hours not."""
    other = make_other([10, NAN, NAN, 40, NAN, NAN, NAN])
    joined = join_feature(make_graph(7), other, max_age_minutes=120)
    same([row[0] for row in last(joined)], [10, 10, 10, 40, 40, 40, NAN])
    default = join_feature(make_graph(7), other)  # an hour, the step of both
    same([row[0] for row in last(default)], [10, 10, NAN, 40, 40, NAN, NAN])


def test_a_coarser_source_repeats_until_its_next_value() -> None:
    """Hourly weather on steps of 20 minutes: as old as an hour, never from the future."""
    other = make_other([1, 2], start="2024-05-01T00:10")
    joined = join_feature(make_graph(6, step="20min"), other)
    same([row[0] for row in last(joined)], [NAN, 1, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("rule", "observed", "known"),
    [
        ("mean", [NAN, 3, 6], [2, 4.5, 8]),
        ("sum", [NAN, 9, NAN], [6, NAN, 24]),
        ("min", [NAN, 2, 5], [1, 4, 7]),
        ("max", [NAN, 4, 7], [3, 5, 9]),
    ],
)
def test_a_finer_source_is_aggregated(rule: Any, observed: Any, known: Any) -> None:
    """Twenty-minute values 1 .. 9, the sixth missing, on hours.

    What is observed covers (t - 1 h, t]: at 01:00 the values of 00:20 (2), 00:40 and 01:00 (4).
    What is known beforehand covers [t, t + 1 h): at 00:00 those of 00:00, 00:20 and 00:40. A mean
    of two of three is one, a sum is not; at 00:00 there is one of three.
    """
    other = make_other([1, 2, 3, 4, 5, NAN, 7, 8, 9], step="20min")
    seen = join_feature(make_graph(3), other, time=rule)
    same([row[0] for row in last(seen)], observed)
    ahead = join_feature(make_graph(3), other, time=rule, role="known_future")
    same([row[0] for row in last(ahead)], known)


@pytest.mark.parametrize("rule", ["as-of", "mean", "sum", "min", "max"])
def test_an_observed_feature_never_looks_ahead(rule: Any) -> None:
    """Whatever comes after a step may change: what was joined at it does not."""
    values = np.random.default_rng(0).normal(size=40)
    graph = make_graph(10)
    whole = last(join_feature(graph, make_other(values, step="15min"), time=rule))
    for step in range(1, 10):
        changed = values.copy()
        changed[4 * step + 1 :] = 99.0  # after the instant of the step
        other = make_other(changed, step="15min")
        same(last(join_feature(graph, other, time=rule))[: step + 1], whole[: step + 1])


def test_min_share_says_how_much_must_be_known() -> None:
    """One of four instants in (00:00, 01:00] is known."""
    other = make_other([1, NAN, NAN, NAN, 5], step="15min")
    generous = join_feature(make_graph(2), other, time="mean", min_share=0.25)
    same([row[0] for row in last(generous)], [1, 5])
    with pytest.raises(DataError, match="no value at any step"):
        join_feature(make_graph(2), other, time="mean")


# ---------------------------------------------------------------------------------- the future


def test_a_known_future_is_appended_as_far_as_it_goes() -> None:
    """Two steps are asked for; targets are missing there, and the next source adds no more."""
    other = make_other(range(10), role="known_future", name="forecast")
    joined = join_feature(make_graph(6), other, ahead_steps=2)
    assert joined.n_steps == 8
    assert joined.features[-1].role == "known_future"
    assert not joined.mask[6:, :, 0].any()
    same([row[0] for row in last(joined)], range(8))
    again = join_feature(joined, other, prefix="b_", ahead_steps=2)
    assert again.n_steps == 8
    short = join_feature(make_graph(6), other.select_steps(0, 6), ahead_steps=4)
    assert short.n_steps == 7  # the value of 05:00 counts for an hour
    assert join_feature(make_graph(6), other).n_steps == 6
    seen = join_feature(make_graph(6), other, role="observed", ahead_steps=2)
    assert seen.n_steps == 6


def test_fill_makes_a_calendar_of_events_complete() -> None:
    """No event is 0, also after the last one."""
    other = make_other([1, 1], start="2024-05-01T02:00", role="known_future", name="event")
    joined = join_feature(make_graph(6), other, fill=0, ahead_steps=3)
    assert joined.n_steps == 9
    same([row[0] for row in last(joined)], [0, 0, 1, 1, 1, 0, 0, 0, 0])
    exact = join_feature(make_graph(6), other, fill=0, max_age_minutes=1)
    same([row[0] for row in last(exact)], [0, 0, 1, 1, 0, 0])


def test_gaps_in_a_known_future_are_told() -> None:
    other = make_other([1, NAN, NAN, 4, 5, 6], role="known_future")
    report = str(join_feature(make_graph(6), other, max_age_minutes=1).report)
    assert "33.3 % of its values are missing, the first at 2024-05-01 01:00:00+00:00" in report


# --------------------------------------------------------------------------------------- tables


def test_a_table_is_the_same_for_all_nodes() -> None:
    """Local instants of the graph's zone, in any order, irregular; text columns are left out."""
    time = pd.to_datetime(["2024-05-01T14:30", "2024-05-01T12:00", "2024-05-01T12:40"])
    table = pd.DataFrame({"temp": [3.0, 1.0, 2.0], "note": list("xyz")}, index=time)
    joined = join_feature(make_graph(4), table, max_age_minutes=90)
    assert joined.feature_names == ("flow", "temp")
    same([row[0] for row in last(joined)], [1, 2, 2, 3])  # 12:00 there is 00:00 UTC


def test_names_roles_and_notes() -> None:
    """Some features under a new name; who is to be named and the rules are kept."""
    graph = make_graph(2).replace(provenance={"attribution": "Counts: us"})
    other = make_other([1, 2]).replace(
        values=np.ones((2, 1, 2), np.float32), mask=None,
        features=(Feature("flow"), Feature("static one", "", "static")),
    )  # fmt: skip
    joined = join_feature(graph, other, features=["flow"], prefix="other_")
    assert joined.feature_names == ("flow", "other_flow")
    assert joined.provenance["attribution"] == "Counts: us; Weather: somebody"
    (note,) = joined.provenance["joined"]
    assert note["features"] == ["other_flow"]
    assert (note["space"], note["time"], note["max_age_minutes"]) == ("nearest", "as-of", 60.0)
    assert note["connector"] == "made_up"


# ------------------------------------------------------------------------------------ bad input

OTHER = make_other([1.0, 2.0, 3.0])
BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no readings": (OTHER.replace(time=None, values=None, mask=None, features=()), {},
                    "has no values over time"),
    "no source": ([1, 2], {}, "the source: is a list; pass an STGraph or a table"),
    "no instants": (pd.DataFrame({"a": [1]}), {}, "has a RangeIndex as index; index the table by"),
    "no numbers": (pd.DataFrame({"a": ["x"]}, index=pd.to_datetime(["2024-05-01"])), {},
                   "has no row or no numeric column"),
    "a row twice": (pd.DataFrame({"a": [1, 2]}, index=pd.to_datetime(["2024-05-01"] * 2)), {},
                    "has several rows at 2024-04-30 12:00:00"),
    "all missing": (OTHER.replace(values=OTHER.values * NAN, mask=None), {},
                    "has no value at all"),
    "another year": (make_other([1, 2], start="2019-01-01"), {}, "no value at any step: 2019-"),
    "another town": (make_other([1], x=(1_900_000,)), {"max_distance_m": 5e3},
                     "no place is 'nearest' up to 5000 m of any node; check both CRSs"),
    "no geometry": (OTHER.replace(nodes=OTHER.nodes.set_geometry([None], crs=2193)), {},
                    "has no geometry"),
    "points as areas": (OTHER, {"space": "within"}, "has no areas to lie within"),
    "other ids": (OTHER, {"space": "same id"}, r"no id is that of a node: \[0\] there, \['a'"),
    "an unknown rule": (OTHER, {"space": "nearst"}, r"`space`: is 'nearst' \(did you mean 'near"),
    "an unknown aggregate": (OTHER, {"time": "median"}, "`time`: is 'median'"),
    "no limit": (OTHER, {"space": "around"}, 'is missing; space = "around" needs it'),
    "a useless limit": (OTHER, {"space": "all nodes", "max_distance_m": 1}, "no use with 'all n"),
    "a negative limit": (OTHER, {"max_distance_m": -1}, "`max_distance_m`: is -1; give a"),
    "a negative delay": (OTHER, {"delay_minutes": -5}, "`delay_minutes`: is -5; give minutes"),
    "a delay of what is known": (OTHER, {"delay_minutes": 5, "role": "known_future"},
                                 "has no use for what is known beforehand"),
    "no age": (OTHER, {"max_age_minutes": NAN}, "`max_age_minutes`: is nan"),
    "a useless age": (OTHER, {"time": "sum", "max_age_minutes": 5}, "has no use with 'sum'"),
    "a share beyond 1": (OTHER, {"time": "sum", "min_share": 2}, "`min_share`: is 2; give a share"),
    "sums of a coarser source": (make_other([1, 2], step="D"), {"time": "sum"},
                                 "'sum' of one value per 1 days 00:00:00, less than a step; use"),
    "an unknown feature": (OTHER, {"features": ["rein"]}, r"called 'rein' \(did you mean 'rain'"),
    "no feature": (OTHER, {"features": []}, "names nothing"),
    "a role of others": (OTHER, {"role": "target"}, "`role`: is 'target'"),
    "a name that is taken": (make_other([1, 2], name="flow"), {}, r"the graph has \['flow'\] alre"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    other, options, message = BAD[name]
    with pytest.raises(DataError, match=message):
        join_feature(make_graph(), other, **options)


def test_a_graph_without_readings_cannot_be_joined_to() -> None:
    bare = make_graph().replace(time=None, values=None, mask=None, features=())
    with pytest.raises(DataError, match="the graph: has no time step to join to"):
        join_feature(bare, OTHER)


def test_all_problems_come_in_one_error() -> None:
    with pytest.raises(DataError, match=r"2 problem\(s\)"):
        join_feature(make_graph(), OTHER, space="x", max_distance_m=0)  # type: ignore[arg-type]


def test_clocks_that_change_are_told() -> None:
    """New Zealand turned its clocks back on 2024-04-07 at 03:00: 02:30 was there twice."""
    time = pd.to_datetime(["2024-04-07T01:30", "2024-04-07T02:30", "2024-04-07T04:00"])
    table = pd.DataFrame({"temp": [1.0, 2.0, 3.0]}, index=time)
    joined = join_feature(make_graph(6, start="2024-04-06T12:00"), table)
    assert "1 instants exist twice or never in Pacific/Auckland; left out" in str(joined.report)
