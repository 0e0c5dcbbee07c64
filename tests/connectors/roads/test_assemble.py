"""What every reader of roads gives: speeds, lanes, ids, and segments that can be used."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from stgraph_connectors.roads._assemble import RawRoads, finish_roads
from stgraph_connectors.roads._segment_ids import number_segments, number_texts
from stgraph_connectors.roads._speeds import fill_speeds, parse_lanes, parse_speed

from stgraph.errors import DataError
from stgraph.report import Report

with np.errstate(invalid="ignore"):
    NOWHERE = shapely.LineString([(0, 0), (np.nan, 1)])
POINTS = {1: (0.0, 0.0), 2: (100.0, 0.0), 3: (100.0, 100.0)}


def raw(pairs: list[tuple[int, int]], *, crs: Any = "EPSG:32632", **parts: Any) -> RawRoads:
    """Return straight segments between three points."""
    junctions = gpd.GeoDataFrame(
        geometry=shapely.points(list(POINTS.values())), index=list(POINTS), crs=crs
    )
    index = junctions.index.get_indexer
    return RawRoads(
        junctions=junctions,
        source=index([u for u, _ in pairs]),
        target=index([v for _, v in pairs]),
        geometry=parts.pop(
            "geometry", np.array([shapely.LineString([POINTS[u], POINTS[v]]) for u, v in pairs])
        ),
        attributes=parts.pop("attributes", pd.DataFrame(index=range(len(pairs)))),
        **parts,
    )


def finish(roads: RawRoads, **options: Any) -> Any:
    return finish_roads(roads, report=Report(), title="cannot read roads", **options)


@pytest.mark.parametrize(
    ("text", "kmh"),
    [
        ("50", 50),
        ("50 km/h", 50),
        ("30 mph", 48.28),
        ("30mph", 48.28),
        ("10 knots", 18.52),
        ("DE:urban", 50),
        ("DE:rural", 100),
        ("GB:nsl_dual", 112.65),
        ("DE:zone30", 30),
        ("DE:zone:30", 30),
        ("DE:30", 30),
        ("GB:20", 32.19),
        ("DE:zone999", None),
        ("RO:urban", 50),
        ("walk", 5),
        ("50;70", 60),
        ("100|80", 90),
        ("none;100", 100),
        ("none", None),
        ("signals", None),
        ("variable", None),
        ("0", None),
        ("999", None),
        ("-50", None),
        ("fast", None),
        ("", None),
    ],
)
def test_speed_limits_in_any_notation(text: str, kmh: float | None) -> None:
    """Protects speeds against units and words; what is no speed is unknown, never 0."""
    assert parse_speed(text) == pytest.approx(np.nan if kmh is None else kmh, abs=0.01, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "lanes"), [("2", 2), ("2;3", 2), ("1.5", 1.5), ("many", None), ("0", None)]
)
def test_lanes_in_any_notation(text: str, lanes: float | None) -> None:
    """Protects lanes: of several the bottleneck counts."""
    assert parse_lanes(text) == pytest.approx(np.nan if lanes is None else lanes, nan_ok=True)


def test_unknown_speeds_come_from_the_type() -> None:
    """Protects the order: the caller, the network's own median of 20 or more, the table, 40."""
    kind = pd.Series(["residential"] * 21 + ["primary", "motorway;trunk", "odd", None, "tertiary"])
    speed = np.array([20.0] * 20 + [np.nan] * 6)
    filled = fill_speeds(speed, kind, {"primary": 45.0})
    assert filled[20:].tolist() == [20.0, 45.0, 110.0, 40.0, 40.0, 50.0]


def test_attributes_become_numbers_and_keep_their_text() -> None:
    """Protects units, guesses that say so, lanes per direction, and lists joined by a rule."""
    attributes = pd.DataFrame(
        {
            "highway": ["primary", "residential"],
            "maxspeed": ["30 mph", None],
            "lanes": ["4", "3"],
            "oneway": [True, False],
            "osmid": [[7, 8, 7], 9],
        }
    )
    graph = finish(
        raw([(1, 2), (2, 3)], attributes=attributes, lanes_of_both=True), nodes="junctions"
    )
    edges = graph.edges
    assert edges["speed_kmh"].to_numpy() == pytest.approx([48.28, 30.0], abs=0.01)
    assert edges["speed_imputed"].tolist() == [False, True]
    assert edges["lanes"].tolist() == [4.0, 1.5]
    assert edges["osmid"].astype(str).tolist() == ["7;8", "9"]
    assert edges["maxspeed"].iloc[0] == "30 mph"
    assert edges["length_m"].to_numpy() == pytest.approx([100, 100])
    assert edges["travel_time_s"].iloc[1] == pytest.approx(12.0)
    assert edges["bearing_deg"].tolist() == [90.0, 0.0]
    assert graph.weight_unit == "m"
    assert "50% of the segments say no speed" in str(graph.report)


def test_ids_depend_on_nothing_but_the_segment() -> None:
    """Protects ids over reloading, another order and a larger extract; directions differ."""
    few = finish(raw([(1, 2), (2, 1)]))
    more = finish(raw([(2, 3), (2, 1), (3, 1), (1, 2)]))
    ids = dict(
        zip(
            more.nodes["from_junction"].astype(str) + more.nodes["to_junction"].astype(str),
            more.node_ids,
            strict=True,
        )
    )
    assert few.node_ids.tolist() == [ids["12"], ids["21"]]
    assert len(set(more.node_ids)) == 4
    assert all(0 <= number < 2**40 for number in more.node_ids)
    assert few.node_ids.tolist() == [1005494719079, 902792640991]  # a new release gives the same


def test_both_ways_round_a_loop_have_ids_of_their_own() -> None:
    """Protects self-loops: same junctions, same line but for its direction."""
    block = shapely.LineString([(0, 0), (50, 0), (50, 50), (0, 50), (0, 0)])
    ends = np.zeros(2, np.int64)
    lines = np.array([block, block.reverse()])
    forth, back = number_segments(pd.Index([1]), ends, ends, lines)
    other = number_segments(pd.Index([1]), ends, ends, lines[::-1])
    assert forth != back
    assert other.tolist() == [back, forth]


def test_texts_become_numbers_that_stay() -> None:
    """Protects junctions with names: equal names, equal numbers, whatever else is read."""
    assert number_texts(["b", "a", "b"]).tolist() == number_texts(["b", "a", "b", "c"])[:3].tolist()
    assert len(set(number_texts(map(str, range(10_000))))) == 10_000


def test_forbidden_turns_follow_their_segments() -> None:
    """Protects restrictions when other segments are left out."""
    lines = np.array(
        [shapely.LineString([(5, 5), (5, 5)]), *raw([(1, 2), (2, 3), (2, 1)]).geometry]
    )
    roads = raw(
        [(1, 1), (1, 2), (2, 3), (2, 1)], geometry=lines, forbidden=np.array([[1, 2], [0, 1]])
    )
    graph = finish(roads, nodes="junctions")
    ids = graph.edges["segment_id"].tolist()
    assert graph.provenance["restrictions"] == [[ids[0], ids[1]]]


@pytest.mark.parametrize(
    ("lines", "finding"),
    [
        ([None], "1 segments have no line"),
        ([shapely.LineString()], "1 segments have no line"),
        ([NOWHERE], "coordinates that are no numbers"),
        ([shapely.Point(0, 0)], "1 segments have no line"),
        ([shapely.LineString([(5, 5), (5, 5)])], "1 segments have no length"),
        ([shapely.LineString([(0, 0), (100, 0)])], "1 segments are there twice"),
    ],
)
def test_segments_that_are_no_roads_are_left_out(lines: list[Any], finding: str) -> None:
    """Protects the network against broken lines, and says which were broken."""
    shapes = np.array([*raw([(1, 2)]).geometry, *lines], dtype=object)
    graph = finish(
        raw([(1, 2), (1, 2)], geometry=shapes, attributes=pd.DataFrame({"osmid": [1, 2]}))
    )
    assert graph.n_nodes == 1
    assert finding in str(graph.report)
    assert "'osmid'" in str(graph.report)


def test_heights_are_left_out() -> None:
    """Protects lengths on the ground from 3-D lines."""
    line = np.array([shapely.LineString([(0, 0, 5), (100, 0, 900)])])
    graph = finish(raw([(1, 2)], geometry=line))
    assert not graph.nodes.has_z.any()
    assert graph.nodes["length_m"].iloc[0] == pytest.approx(100)
    assert "heights" in str(graph.report)


def test_parts_are_kept_and_told() -> None:
    """Protects islands: a disconnected network is read whole, with the size of its parts."""
    junctions = gpd.GeoDataFrame(
        geometry=shapely.points([(0, 0), (100, 0), (0, 500), (50, 500)]),
        index=[1, 2, 3, 4],
        crs="EPSG:32632",
    )
    lines = shapely.linestrings([[(0, 0), (100, 0)], [(0, 500), (50, 500)]])
    roads = RawRoads(
        junctions, np.array([0, 2]), np.array([1, 3]), lines, pd.DataFrame(index=[0, 1])
    )
    graph = finish(roads, nodes="junctions")
    assert graph.n_nodes == 4
    assert "2 parts that no road joins: 2 junctions with 0.1 km, 2 junctions" in str(graph.report)


def test_lengths_of_the_source_are_believed_where_it_has_them() -> None:
    """Protects surveyed lengths; where there is none the line is measured."""
    graph = finish(raw([(1, 2), (2, 3)], length_m=np.array([120.0, np.nan])), nodes="junctions")
    assert graph.edges["length_m"].to_numpy() == pytest.approx([120.0, 100.0])


@pytest.mark.parametrize(
    ("roads", "options", "message"),
    [
        (raw([]), {}, "no road is left"),
        (raw([(1, 2)], crs=None), {}, "have no CRS"),
        (raw([(1, 2)]), {"nodes": "segment"}, "`nodes`: is 'segment' .did you mean 'segments'"),
        (raw([(1, 2)]), {"speeds_kmh": {"primary": -1}}, "`speeds_kmh`, 'primary': is -1"),
        (raw([(1, 2)]), {"speeds_kmh": {"primary": "30"}}, "`speeds_kmh`, 'primary': is '30'"),
        (raw([(1, 2)]), {"speeds_kmh": 30}, "`speeds_kmh`: is 30; give {'residential': 30}"),
    ],
)
def test_what_cannot_be_a_road_graph_is_refused(
    roads: RawRoads, options: dict[str, Any], message: str
) -> None:
    """Protects the user from an empty or placeless graph, with words on what to do."""
    with pytest.raises(DataError, match=message):
        finish(roads, **options)


def test_a_speed_for_a_type_that_is_not_there_is_told() -> None:
    """Protects against misspelt road types."""
    attributes = pd.DataFrame({"highway": ["primary"]})
    graph = finish(raw([(1, 2)], attributes=attributes), speeds_kmh={"primry": 50.0})
    assert "no road is of type 'primry' (did you mean 'primary'?)" in str(graph.report)
